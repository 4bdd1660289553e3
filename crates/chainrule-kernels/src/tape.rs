//! The vector machine: one fused chain of elementwise operations as a short list of instructions over tiles.
//!
//! A [`Tape`] is checked and compiled once: registers get their dtypes and, by liveness, a few physical tiles; each
//! instruction becomes a pointer to one SIMD loop over a tile. Running it walks over the flattened iteration space, a
//! tile at a time, so intermediate values never leave the L1 cache. bf16 and f16 are computed as f32 and rounded
//! when stored or cast. It knows no shapes at compile time, no reductions and no calculus.

mod compile;
mod loops;
mod run;
#[cfg(test)]
mod tests;

use crate::alphabet::{Binary, Compare, DType, Unary};
use crate::element::Scalar;
use crate::simd::RawLoop;
use crate::view::View;

/// One instruction; its result is the register with the instruction's own number, and operands name earlier ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instruction {
    /// The elements of an input.
    Load {
        /// Number of the input.
        input: usize,
    },
    /// The same value everywhere.
    Constant {
        /// The value; its dtype is the register's.
        value: Scalar,
    },
    /// An operation of one register.
    Unary(Unary, usize),
    /// An operation of two registers of one dtype.
    Binary(Binary, usize, usize),
    /// A comparison of two registers of one dtype, giving bool.
    Compare(Compare, usize, usize),
    /// The second register where the first (bool) is true, else the third.
    Select(usize, usize, usize),
    /// The register in another dtype. Floats to integers truncate and saturate, NaN gives 0.
    Cast(DType, usize),
}

/// Where an input's elements come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A view of the tape's shape (broadcast by stride 0 where needed).
    View(View<'a>),
    /// The old contents of output `k`, at the same positions; same dtype as the output.
    InPlace(usize),
}

/// A compiled chain. Running it allocates nothing once a thread has run one as large.
#[derive(Clone)]
pub struct Tape {
    /// Dtype of each input.
    inputs: Vec<DType>,
    /// Bits of each distinct constant, as stored in a register.
    constants: Vec<Constant>,
    /// Bytes of an element of each physical register, wide ones first.
    registers: Vec<u8>,
    outputs: Vec<Output>,
    steps: Vec<Step>,
    /// Step after which an input is no longer read.
    last_read: Vec<u32>,
    instructions: usize,
}

#[derive(Clone, Copy)]
struct Constant {
    bits: u64,
    size: u8,
    fill: RawLoop,
}

#[derive(Clone, Copy)]
struct Output {
    dtype: DType,
    /// The first step that writes it.
    written: u32,
}

/// One loop; operands are slots: inputs, then constants, then registers, then outputs.
#[derive(Clone, Copy)]
struct Step {
    run: RawLoop,
    out: u32,
    a: u32,
    b: u32,
    c: u32,
}

impl Tape {
    /// Number of steps that run on each tile.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Number of physical registers: the most values alive at once.
    pub fn registers(&self) -> usize {
        self.registers.len()
    }

    /// Dtypes of the inputs.
    pub fn input_dtypes(&self) -> &[DType] {
        &self.inputs
    }

    /// Dtypes of the outputs.
    pub fn output_dtypes(&self) -> impl Iterator<Item = DType> + '_ {
        self.outputs.iter().map(|output| output.dtype)
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tape({} instructions, {} steps, {} registers)", self.instructions, self.steps(), self.registers())
    }
}
