//! Plans: a program laid out for a machine: which kernel runs when, over which bytes.
//!
//! Moves that only change where elements lie (transpose, slice, broadcast, windows) become layouts over the same
//! bytes and cost nothing. Everything else becomes a step: one kernel, operands as views, results as contiguous
//! ranges of one arena, of an argument or of a result. Lifetimes decide what shares bytes. No number is computed
//! here and no calculus known.

mod budget;
mod layout;
mod lower;
mod memory;
mod tape;
mod timeline;

pub use budget::{Budgeted, MemoryBudgetError, within_budget};
pub use timeline::{LiveValue, Part, Timeline, TimelineStep};

use crate::program::Program;
use crate::tensor::{Distribution, Origin, Reduction, ScanDims, Shape, Storage, Type, Windows};
use chainrule_kernels::element::Scalar;
use chainrule_kernels::tape::Tape;
use chainrule_kernels::view::Layout;
use chainrule_kernels::{ConvSpec, Panels};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// A program ready to run.
#[derive(Debug)]
pub struct Plan {
    /// What runs, in order.
    pub(crate) steps: Vec<Step>,
    /// Bytes that intermediate values need together.
    pub(crate) arena: usize,
    /// Numbers that are part of the program.
    pub(crate) data: Vec<Storage>,
    /// Types of the arguments.
    pub(crate) arguments: Vec<Type>,
    /// Types of the results.
    pub(crate) results: Vec<Type>,
    /// Arguments whose memory becomes that of a result: (argument, result).
    pub(crate) donated: Vec<(usize, usize)>,
    /// Largest sum of bytes of intermediate values that are alive at once.
    pub(crate) live: usize,
}

/// One kernel over its operands.
#[derive(Debug)]
pub(crate) struct Step {
    pub kernel: Kernel,
    pub inputs: SmallVec<[Operand; 3]>,
    pub outputs: SmallVec<[Target; 1]>,
    pub origin: Origin,
    /// The instruction of the program it comes from; none for the copy of a result.
    pub instruction: Option<usize>,
}

/// Bytes that hold a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Arena(Range<usize>),
    Argument(usize),
    Result(usize),
    Data(usize),
}

/// What a kernel reads.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub place: Place,
    pub dtype: crate::tensor::DType,
    pub layout: Layout,
}

/// What a kernel writes: a contiguous value.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub place: Place,
    pub ty: Type,
}

/// What a step does. Dimensions are those of the operands' layouts.
#[derive(Debug)]
pub(crate) enum Kernel {
    /// Fused operations over a shape and its rows; a source in place reads an output's old contents.
    Tape {
        tape: Box<Tape>,
        space: Shape,
        in_place: SmallVec<[Option<usize>; 4]>,
    },
    Copy,
    Reduce(Reduction, SmallVec<[usize; 4]>),
    ArgReduce {
        largest: bool,
        axis: usize,
    },
    Cumsum {
        axis: usize,
        reverse: bool,
    },
    Sort {
        axis: usize,
        descending: bool,
    },
    Gather {
        axis: usize,
        batch: usize,
    },
    ScatterAdd {
        axis: usize,
        batch: usize,
    },
    Matmul,
    Conv(Box<ConvSpec>),
    Fold(Arc<Windows>),
    MaxPoolGradient(Arc<Windows>),
    Pad(Arc<[(usize, usize, usize)]>, Scalar),
    Concat(usize),
    Random(Distribution, usize),
    Cholesky,
    TriangularSolve {
        lower: bool,
        transpose: bool,
    },
    Scan(ScanDims, Box<Plan>),
    Cond(Box<Plan>, Box<Plan>),
}

impl Kernel {
    /// The plans inside.
    pub(crate) fn bodies(&self) -> SmallVec<[&Plan; 2]> {
        match self {
            Kernel::Scan(_, body) => smallvec::smallvec![&**body],
            Kernel::Cond(yes, no) => smallvec::smallvec![&**yes, &**no],
            _ => SmallVec::new(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kernel::Tape { tape, .. } if tape.is_by_rows() => "rows",
            Kernel::Tape { .. } => "elementwise",
            Kernel::Copy => "copy",
            Kernel::Reduce(..) => "reduce",
            Kernel::ArgReduce { .. } => "argreduce",
            Kernel::Cumsum { .. } => "cumsum",
            Kernel::Sort { .. } => "sort",
            Kernel::Gather { .. } => "gather",
            Kernel::ScatterAdd { .. } => "scatter_add",
            Kernel::Matmul => "dot",
            Kernel::Conv(_) => "conv",
            Kernel::Fold(_) => "fold",
            Kernel::MaxPoolGradient(_) => "max_pool_gradient",
            Kernel::Pad(..) => "pad",
            Kernel::Concat(_) => "concat",
            Kernel::Random(..) => "random",
            Kernel::Cholesky => "cholesky",
            Kernel::TriangularSolve { .. } => "triangular_solve",
            Kernel::Scan(..) => "scan",
            Kernel::Cond(..) => "cond",
        }
    }
}

/// How values may share memory. The switches are those of `CHAINRULE_PASSES`, beside the passes of `optimize/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// State in place (`state`): results may take the memory of arguments of their type, which are then overwritten.
    pub donate: bool,
    /// Updates in place (`in_place`): an elementwise step may overwrite an operand that is not needed any more.
    pub in_place: bool,
    /// Lifetimes (`reuse`): values that are not alive together share bytes.
    pub reuse: bool,
}

impl Default for PlanOptions {
    /// Everything that is not switched off, state excepted, which is the caller's to allow.
    fn default() -> PlanOptions {
        let on = |name| !crate::optimize::switched_off(name);
        PlanOptions { donate: false, in_place: on("in_place"), reuse: on("reuse") }
    }
}

impl PlanOptions {
    /// [`PlanOptions::default`] for a function whose arguments may be overwritten.
    pub fn with_state() -> PlanOptions {
        PlanOptions { donate: !crate::optimize::switched_off("state"), ..PlanOptions::default() }
    }
}

/// The most a thread keeps for parts of images, panels and sums of a convolution. Measured.
const CONVOLUTION: usize = 3 << 20;

impl Plan {
    /// Lays out a program.
    pub fn new(program: &Program, options: PlanOptions) -> Plan {
        memory::place(lower::lower(program), options)
    }

    /// Bytes of the arena: what a run needs beside arguments and results, inner loops included.
    pub fn arena_bytes(&self) -> usize {
        let inner = |step: &Step| match &step.kernel {
            Kernel::Scan(dims, body) => {
                let carried: usize = body.arguments[..dims.carries].iter().map(Type::bytes).sum();
                body.arena_bytes() + 2 * carried
            }
            Kernel::Cond(yes, no) => yes.arena_bytes() + no.arena_bytes(),
            _ => 0,
        };
        self.arena + self.steps.iter().map(inner).sum::<usize>()
    }

    /// The weights of a loop with this body: each step that multiplies with a constant matrix, the argument that holds it.
    /// They are laid out for the product once, before the loop.
    pub(crate) fn weights(&self, dims: &ScanDims) -> impl Iterator<Item = (usize, usize)> {
        let constants = dims.carries + dims.sequences;
        let repeated = dims.length > 1;
        self.steps.iter().enumerate().filter_map(move |(number, step)| match (&step.kernel, &step.inputs[..]) {
            (Kernel::Matmul, [lhs, Operand { place: Place::Argument(i), layout, dtype }])
                if repeated && *i >= constants =>
            {
                Panels::worthwhile(lhs.layout.shape()[0], layout.shape(), *dtype).then_some((number, *i))
            }
            _ => None,
        })
    }

    /// Bytes that weights of loops take in the order of products.
    fn weight_bytes(&self) -> usize {
        let of = |step: &Step| match &step.kernel {
            Kernel::Scan(dims, body) => {
                let rhs = |number: usize| &body.steps[number].inputs[1];
                let laid =
                    body.weights(dims).map(|(number, _)| Panels::bytes(rhs(number).layout.shape(), rhs(number).dtype));
                laid.sum::<usize>() + body.weight_bytes()
            }
            kernel => kernel.bodies().iter().map(|body| body.weight_bytes()).sum(),
        };
        self.steps.iter().map(of).sum()
    }

    /// Bytes beside the arena: of weights of loops, laid out for their products, and the most that a thread keeps for a
    /// kernel which rewrites an operand before it works on it.
    pub fn working_bytes(&self) -> usize {
        self.weight_bytes() + self.rewritten_bytes()
    }

    fn rewritten_bytes(&self) -> usize {
        let wide = |operand: &Operand| operand.layout.numel() * operand.dtype.size().max(4);
        let half = |operand: &Operand| operand.dtype.is_float() && operand.dtype.size() == 2;
        let of = |step: &Step| match &step.kernel {
            Kernel::Matmul if half(&step.inputs[0]) => {
                let result = step.outputs[0].ty.numel() * 4;
                step.inputs.iter().map(wide).sum::<usize>() + result
            }
            Kernel::Conv(_) => CONVOLUTION.min(step.inputs.iter().map(wide).sum()),
            Kernel::Scan(_, body) => body.rewritten_bytes(),
            Kernel::Cond(yes, no) => yes.rewritten_bytes().max(no.rewritten_bytes()),
            _ => 0,
        };
        self.steps.iter().map(of).max().unwrap_or(0)
    }

    /// About how many multiply-adds, or elements of elementwise instructions, a run takes.
    pub(crate) fn work(&self) -> u64 {
        let of = |step: &Step| {
            let out: u64 = step.outputs.iter().map(|output| output.ty.numel() as u64).sum();
            let read = step.inputs.iter().map(|input| input.layout.numel() as u64).max().unwrap_or(0);
            match &step.kernel {
                Kernel::Tape { tape, .. } => out.max(read) * tape.steps() as u64,
                Kernel::Matmul => out * step.inputs[0].layout.shape().last().map_or(0, |&k| k as u64),
                Kernel::Conv(_) => out * step.inputs[1].layout.shape()[1..].iter().product::<usize>() as u64,
                Kernel::Scan(dims, body) => dims.length as u64 * body.work(),
                Kernel::Cond(yes, no) => yes.work().max(no.work()),
                Kernel::Cholesky | Kernel::TriangularSolve { .. } => {
                    read * step.inputs[0].layout.shape().last().map_or(0, |&n| n as u64)
                }
                _ => out.max(read),
            }
        };
        self.steps.iter().map(of).sum()
    }

    /// Bytes of the results that do not take an argument's memory.
    pub fn result_bytes(&self) -> usize {
        let in_place = |result: usize| self.donated.iter().any(|&(_, donated)| donated == result);
        let fresh = self.results.iter().enumerate().filter(|(result, _)| !in_place(*result));
        fresh.map(|(_, ty)| ty.bytes()).sum()
    }

    /// Bytes of the arguments as a run is given them.
    pub fn argument_bytes(&self) -> usize {
        self.arguments.iter().map(Type::bytes).sum()
    }

    /// Bytes of the numbers that are part of the program.
    pub fn constant_bytes(&self) -> usize {
        self.data.iter().map(|data| data.ty().bytes()).sum()
    }

    /// Bytes of all that a run needs: arguments, results that do not take an argument's memory, numbers of the program,
    /// and the arena. A memory budget bounds this.
    pub fn peak_bytes(&self) -> usize {
        self.argument_bytes() + self.result_bytes() + self.constant_bytes() + self.arena_bytes()
    }

    /// Largest sum of bytes of intermediate values alive at once; the arena cannot be smaller.
    pub fn live_bytes(&self) -> usize {
        self.live
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "plan: {} steps, arena {} bytes, {} live", self.steps.len(), self.arena, self.live)?;
        for step in &self.steps {
            let inputs: Vec<String> =
                step.inputs.iter().map(|x| format!("{:?}{:?}", x.place, x.layout.shape())).collect();
            let outputs: Vec<String> = step.outputs.iter().map(|y| format!("{:?} {}", y.place, y.ty)).collect();
            writeln!(f, "  {} <- {} {}   {}", outputs.join(", "), step.kernel.name(), inputs.join(" "), step.origin)?;
        }
        Ok(())
    }
}
