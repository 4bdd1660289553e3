//! Programs: an expression as a flat list of operations in single-assignment form.
//!
//! Capturing numbers values, so common subexpressions vanish and unused ones never enter. A program prints as text,
//! can be verified, counted and interpreted slowly (`reference.rs` is the specification of what it means). It knows
//! no derivative and no memory; passes over it are in `optimize/`.

mod capture;
mod flops;
mod reference;
mod rows;
mod text;
mod verify;

pub use capture::{CaptureError, capture};
pub use reference::{Interpreted, Numbers, interpret};
pub(crate) use rows::Space;

use crate::tensor::{Op, Origin, ScanDims, Type, Windows};
use smallvec::SmallVec;
use std::sync::Arc;

/// Number of a value within a program.
pub type Value = u32;

/// A list of operations from named inputs to outputs.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// What the program is called where it prints.
    pub name: String,
    /// Inputs with their names.
    pub inputs: Vec<(String, Value)>,
    /// Operations, each after what it uses.
    pub instructions: Vec<Instruction>,
    /// Results in order.
    pub outputs: Vec<Value>,
    /// Shape and dtype of every value, by its number.
    pub types: Vec<Type>,
}

/// One operation of a program.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// What is done.
    pub kind: Kind,
    /// Values that are read.
    pub inputs: SmallVec<[Value; 3]>,
    /// Values that are made.
    pub outputs: SmallVec<[Value; 1]>,
    /// The user's line.
    pub origin: Origin,
    /// Which recomputed part this belongs to; 0 is none. Equal operations of different regions stay apart.
    pub region: u32,
}

impl Instruction {
    /// Set in the region of what a memory budget had computed again.
    pub(crate) const RECOMPUTED: u32 = 1 << 31;

    /// Whether a memory budget had this computed again.
    pub fn is_recomputed(&self) -> bool {
        self.region & Instruction::RECOMPUTED != 0
    }
}

/// What an instruction does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A single operation; never one with a body of its own.
    Op(Op),
    /// A loop over a body (carries, slices, constants) to (carries, outputs).
    Scan(ScanDims, Box<Program>),
    /// One of two programs of the inputs after the condition.
    Cond(Box<Program>, Box<Program>),
    /// Elementwise operations over one shape, and what joins and spreads its rows, done in one pass over memory.
    Fused(Box<Program>),
    /// A few operations that one kernel does; the body says what they mean.
    Known(Known, Box<Program>),
}

/// What a kernel is known for that does several operations at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Of windows x, their maxima and a gradient for each: the gradient of x, shared by the elements that equal the maximum.
    MaxPoolGradient(Arc<Windows>),
}

impl Kind {
    /// The name as programs print it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Op(op) => op.name(),
            Kind::Scan(..) => "scan",
            Kind::Cond(..) => "cond",
            Kind::Fused(_) => "fused",
            Kind::Known(Known::MaxPoolGradient(_), _) => "max_pool_gradient",
        }
    }
    /// The programs inside.
    pub fn bodies(&self) -> SmallVec<[&Program; 2]> {
        match self {
            Kind::Op(_) => SmallVec::new(),
            Kind::Scan(_, body) | Kind::Fused(body) | Kind::Known(_, body) => smallvec::smallvec![&**body],
            Kind::Cond(yes, no) => smallvec::smallvec![&**yes, &**no],
        }
    }
    /// The programs inside, to be changed.
    pub fn bodies_mut(&mut self) -> SmallVec<[&mut Program; 2]> {
        match self {
            Kind::Op(_) => SmallVec::new(),
            Kind::Scan(_, body) | Kind::Fused(body) | Kind::Known(_, body) => smallvec::smallvec![&mut **body],
            Kind::Cond(yes, no) => smallvec::smallvec![&mut **yes, &mut **no],
        }
    }
}

impl Program {
    /// Shape and dtype of a value.
    pub fn ty(&self, value: Value) -> &Type {
        &self.types[value as usize]
    }

    /// A new value of a type.
    pub(crate) fn add_value(&mut self, ty: Type) -> Value {
        self.types.push(ty);
        (self.types.len() - 1) as Value
    }

    /// The number of instructions, those of bodies included.
    pub fn len(&self) -> usize {
        let inner = |instruction: &Instruction| instruction.kind.bodies().iter().map(|body| body.len()).sum::<usize>();
        self.instructions.iter().map(|instruction| 1 + inner(instruction)).sum()
    }

    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }
}
