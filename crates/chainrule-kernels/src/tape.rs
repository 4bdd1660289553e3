//! The vector machine: one fused chain of operations as a short list of instructions over tiles.
//!
//! A [`Tape`] is checked and compiled once: registers get their dtypes and, by liveness, a few physical tiles; each
//! instruction becomes a pointer to one SIMD loop over a tile. Running it walks over the flattened iteration space, a
//! tile at a time, so intermediate values never leave the L1 cache. bf16 and f16 are computed as f32 and rounded
//! when stored or cast.
//!
//! Besides elementwise operations a tape may join the elements of each row (the last axis) to one, work on those, and
//! spread them over their rows again: then tiles are whole rows, and softmax or a normalisation is one pass over memory.
//! It knows no shapes at compile time, no reductions over other axes and no calculus.

mod compile;
mod loops;
mod run;
#[cfg(test)]
mod tests;

use crate::alphabet::{Binary, Compare, DType, Reduction, Unary};
use crate::element::Scalar;
use crate::simd::RawLoop;
use crate::view::{Layout, View};
pub use run::Laid;

/// One instruction; its result is the register with the instruction's own number, and operands name earlier ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instruction {
    /// The elements of an input.
    Load {
        /// Number of the input.
        input: usize,
    },
    /// The elements of an input that has one for each row.
    LoadRow {
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
    /// The elements of each row joined to one; half types are joined in f32.
    Reduce(Reduction, usize),
    /// A register with one element for each row, repeated along the rows.
    Spread(usize),
}

/// Where an input's elements come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A view of the tape's shape (broadcast by stride 0 where needed), or of one element for each row.
    View(View<'a>),
    /// The old contents of output `k`, at the same positions; same dtype as the output.
    InPlace(usize),
}

/// Where an input's elements will come from, before they have memory.
#[derive(Clone, Debug)]
pub enum Place {
    /// A view of the tape's shape, as [`Source::View`].
    Layout(DType, Layout),
    /// As [`Source::InPlace`].
    Output(usize),
}

/// A compiled chain. Running it allocates nothing once a thread has run one as large.
#[derive(Clone)]
pub struct Tape {
    /// Dtype of each input.
    inputs: Vec<DType>,
    /// Whether each input has one element for each row.
    row_inputs: Vec<bool>,
    /// Whether tiles must be whole rows.
    by_rows: bool,
    /// Bits of each distinct constant, as stored in a register.
    constants: Vec<Constant>,
    /// Bytes of an element of each physical register, wide ones first.
    registers: Vec<u8>,
    outputs: Vec<Output>,
    steps: Vec<Step>,
    /// How long all steps take on an element, in steps of plain arithmetic.
    weight: usize,
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
    /// Whether it has one element for each row.
    row: bool,
}

/// One loop; operands are slots: inputs, then constants, then registers, then outputs.
#[derive(Clone, Copy)]
struct Step {
    run: RawLoop,
    form: Form,
    out: u32,
    a: u32,
    b: u32,
    c: u32,
}

/// How often a step's loop is called on a tile, and over how many elements.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Once, over the tile.
    Each,
    /// Once, over one element for each row.
    Row,
    /// For each row, over its elements, to one; bytes of an element.
    Reduce(u8),
    /// For each row, from one to its elements; bytes of an element.
    Spread(u8),
}

impl Tape {
    /// Number of steps that run on each tile.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Whether it joins or spreads rows.
    pub fn is_by_rows(&self) -> bool {
        self.by_rows
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
