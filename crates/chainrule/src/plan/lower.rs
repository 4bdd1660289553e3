//! From instructions to steps over buffers: which kernel does each, and in what layout it reads.
//!
//! Buffers are still numbers here; `memory.rs` gives them bytes.

use super::tape;
use super::{Kernel, Plan, PlanOptions, layout};
use crate::program::{Instruction, Kind, Known, Program, Space, Value};
use crate::tensor::{ConvDims, DType, DotDims, Op, Origin, Storage, Type};
use chainrule_kernels::ConvSpec;
use chainrule_kernels::buffer::Buffer;
use chainrule_kernels::tape::{Instruction as TapeInstruction, Tape};
use chainrule_kernels::view::{Dims, Layout};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Where a buffer's bytes will come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origination {
    Temporary,
    Argument(usize),
    Result(usize),
    Data(usize),
}

/// Memory that holds one value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub origination: Origination,
    pub bytes: usize,
}

/// A value as a view of a buffer.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub buffer: usize,
    pub dtype: DType,
    pub layout: Layout,
}

/// A step before its buffers have bytes.
#[derive(Debug)]
pub(super) struct Draft {
    pub kernel: Kernel,
    pub inputs: SmallVec<[Stored; 3]>,
    pub outputs: SmallVec<[(usize, Type); 1]>,
    pub origin: Origin,
    /// The instruction it comes from; none for the copy of a result.
    pub instruction: Option<usize>,
}

/// A lowered program.
pub(super) struct Lowered {
    pub drafts: Vec<Draft>,
    pub buffers: Vec<Held>,
    pub data: Vec<Storage>,
    pub arguments: Vec<Type>,
    pub results: Vec<Type>,
    /// Buffer of each argument.
    pub argument_buffers: Vec<usize>,
}

pub(super) fn lower(program: &Program) -> Lowered {
    let mut lowering = Lowering {
        program,
        stored: vec![None; program.types.len()],
        lowered: Lowered {
            drafts: Vec::with_capacity(program.instructions.len()),
            buffers: Vec::new(),
            data: Vec::new(),
            arguments: Vec::new(),
            results: Vec::new(),
            argument_buffers: Vec::new(),
        },
        data: FxHashMap::default(),
        position: 0,
    };
    for (i, (_, value)) in program.inputs.iter().enumerate() {
        let ty = program.ty(*value).clone();
        let buffer = lowering.buffer(Origination::Argument(i), ty.bytes());
        lowering.stored[*value as usize].get_or_insert(contiguous(buffer, &ty));
        lowering.lowered.argument_buffers.push(buffer);
        lowering.lowered.arguments.push(ty);
    }
    for (position, instruction) in program.instructions.iter().enumerate() {
        lowering.position = position;
        lowering.instruction(instruction);
    }
    lowering.results();
    lowering.lowered
}

fn contiguous(buffer: usize, ty: &Type) -> Stored {
    Stored { buffer, dtype: ty.dtype, layout: Layout::contiguous(&ty.shape) }
}

struct Lowering<'a> {
    program: &'a Program,
    stored: Vec<Option<Stored>>,
    lowered: Lowered,
    data: FxHashMap<Storage, usize>,
    /// The instruction at hand.
    position: usize,
}

impl Lowering<'_> {
    fn buffer(&mut self, origination: Origination, bytes: usize) -> usize {
        self.lowered.buffers.push(Held { origination, bytes });
        self.lowered.buffers.len() - 1
    }

    fn get(&self, value: Value) -> Stored {
        self.stored[value as usize].clone().expect("verified: made before use")
    }

    /// Records a step whose outputs are new temporaries, and returns them.
    fn draft(&mut self, kernel: Kernel, inputs: SmallVec<[Stored; 3]>, types: &[Type], origin: Origin) -> Vec<Stored> {
        let outputs: SmallVec<[(usize, Type); 1]> =
            types.iter().map(|ty| (self.buffer(Origination::Temporary, ty.bytes()), ty.clone())).collect();
        let stored = outputs.iter().map(|(buffer, ty)| contiguous(*buffer, ty)).collect();
        self.lowered.drafts.push(Draft { kernel, inputs, outputs, origin, instruction: Some(self.position) });
        stored
    }

    /// The value copied into row-major order, if it is not already.
    fn compact(&mut self, value: Stored, origin: Origin) -> Stored {
        if value.layout.is_contiguous() && value.layout.offset() == 0 && self.fills(&value) {
            return value;
        }
        let ty = Type::new(value.dtype, value.layout.shape().iter().copied());
        self.draft(Kernel::Copy, smallvec::smallvec![value], &[ty], origin).remove(0)
    }

    fn fills(&self, value: &Stored) -> bool {
        value.layout.numel() * value.dtype.size() == self.lowered.buffers[value.buffer].bytes
    }

    /// The value under another shape, copied if strides cannot say it.
    fn reshape(&mut self, value: Stored, shape: &[usize], origin: Origin) -> Stored {
        match layout::reshaped(&value.layout, shape) {
            Some(layout) => Stored { layout, ..value },
            None => {
                let compact = self.compact(value, origin);
                Stored { layout: Layout::contiguous(shape), ..compact }
            }
        }
    }

    /// An operand of a fused body with one axis where its rows have several.
    fn by_rows(&mut self, value: Stored, space: &Space, origin: Origin) -> Stored {
        match space.lead() {
            _ if space.across == 1 => value,
            Some(lead) if value.layout.shape() != &space.shape[..] => self.reshape(value, lead, origin),
            _ => self.reshape(value, &space.by_rows(), origin),
        }
    }

    fn data(&mut self, storage: Storage, layout: Layout) -> Stored {
        let dtype = storage.ty().dtype;
        let bytes = storage.ty().bytes();
        let buffer = match self.data.get(&storage) {
            Some(&buffer) => buffer,
            None => {
                let buffer = self.buffer(Origination::Data(self.lowered.data.len()), bytes);
                self.lowered.data.push(storage.clone());
                self.data.insert(storage, buffer);
                buffer
            }
        };
        Stored { buffer, dtype, layout }
    }

    /// A short vector of numbers as data: constants and iotas are views of one.
    fn numbers(&mut self, count: usize, dtype: DType, number: impl Fn(usize) -> crate::tensor::Scalar) -> Storage {
        let mut buffer = Buffer::zeroed(count * dtype.size());
        let size = dtype.size();
        for (i, bytes) in buffer.bytes_mut().chunks_exact_mut(size).enumerate() {
            bytes.copy_from_slice(&tape::scalar(number(i).cast(dtype), dtype).bits().to_le_bytes()[..size]);
        }
        Storage::new(buffer, Type::new(dtype, [count]))
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let origin = instruction.origin;
        let inputs: SmallVec<[Stored; 3]> = instruction.inputs.iter().map(|&value| self.get(value)).collect();
        let types: Vec<Type> = instruction.outputs.iter().map(|&value| self.program.ty(value).clone()).collect();
        let outputs = match &instruction.kind {
            Kind::Op(op) => self.op(op, inputs, &types, origin),
            Kind::Fused(body) => {
                let space = Space::of(body);
                let inputs = inputs.into_iter().map(|input| self.by_rows(input, &space, origin)).collect();
                let (tape, space) = (Box::new(tape::compile(body)), space.by_rows());
                let kernel = Kernel::Tape { tape, space, in_place: SmallVec::new() };
                self.draft(kernel, inputs, &types, origin)
            }
            Kind::Known(Known::MaxPoolGradient(windows), _) => {
                let inputs = inputs.into_iter().map(|input| self.compact(input, origin)).collect();
                self.draft(Kernel::MaxPoolGradient(windows.clone()), inputs, &types, origin)
            }
            Kind::Scan(dims, body) => {
                let inputs = inputs.into_iter().map(|input| self.compact(input, origin)).collect();
                let body = Plan::new(body, PlanOptions::default());
                self.draft(Kernel::Scan(*dims, Box::new(body)), inputs, &types, origin)
            }
            Kind::Cond(yes, no) => {
                let inputs = inputs.into_iter().map(|input| self.compact(input, origin)).collect();
                let (yes, no) = (Plan::new(yes, PlanOptions::default()), Plan::new(no, PlanOptions::default()));
                self.draft(Kernel::Cond(Box::new(yes), Box::new(no)), inputs, &types, origin)
            }
        };
        for (&value, stored) in instruction.outputs.iter().zip(outputs) {
            self.stored[value as usize] = Some(stored);
        }
    }

    fn op(&mut self, op: &Op, mut x: SmallVec<[Stored; 3]>, types: &[Type], origin: Origin) -> Vec<Stored> {
        let kernel = match op {
            Op::Data(storage) => {
                let layout = Layout::contiguous(&storage.ty().shape);
                return vec![self.data(storage.clone(), layout)];
            }
            Op::Constant(value, ty) => {
                let one = self.numbers(1, ty.dtype, |_| *value);
                let strides = smallvec::smallvec![0; ty.shape.len()];
                return vec![self.data(one, Layout::new(0, ty.shape[..].into(), strides))];
            }
            Op::Iota(axis, ty) => {
                let count = self.numbers(ty.shape[*axis], ty.dtype, |i| crate::tensor::Scalar::Int(i as i64));
                let strides = (0..ty.shape.len()).map(|i| (i == *axis) as isize).collect();
                return vec![self.data(count, Layout::new(0, ty.shape[..].into(), strides))];
            }
            _ if op.is_move() => {
                let value = x.remove(0);
                let moved = match layout::moved(op, &value.layout) {
                    Some(layout) => Stored { layout, ..value },
                    None => {
                        let compact = self.compact(value, origin);
                        let layout = layout::moved(op, &compact.layout).expect("a contiguous value can be moved");
                        Stored { layout, ..compact }
                    }
                };
                return vec![moved];
            }
            _ if op.is_elementwise() => Kernel::Tape {
                tape: Box::new(single(op, &x)),
                space: types[0].shape.clone(),
                in_place: SmallVec::new(),
            },
            Op::Dot(dims) => return self.dot(dims, x, types, origin),
            Op::Random(distribution, sample) => {
                x = x.into_iter().map(|key| self.compact(key, origin)).collect();
                Kernel::Random(*distribution, sample.numel())
            }
            Op::Reduce(reduction, axes) => Kernel::Reduce(*reduction, axes.clone()),
            Op::ArgReduce(largest, axis) => Kernel::ArgReduce { largest: *largest, axis: *axis },
            Op::Cumsum { axis, reverse } => Kernel::Cumsum { axis: *axis, reverse: *reverse },
            Op::Sort { axis, descending } => Kernel::Sort { axis: *axis, descending: *descending },
            Op::Gather { axis, batch } => Kernel::Gather { axis: *axis, batch: *batch },
            Op::ScatterAdd { axis, batch, .. } => Kernel::ScatterAdd { axis: *axis, batch: *batch },
            Op::Conv(dims) => Kernel::Conv(Box::new(convolution(dims))),
            Op::Fold(windows) => Kernel::Fold(windows.clone()),
            Op::Pad(amounts, value) => Kernel::Pad(amounts.clone(), tape::scalar(*value, types[0].dtype)),
            Op::Concat(axis) => Kernel::Concat(*axis),
            Op::Cholesky => Kernel::Cholesky,
            Op::TriangularSolve { lower, transpose } => {
                Kernel::TriangularSolve { lower: *lower, transpose: *transpose }
            }
            other => unreachable!("{} has no place in a program", other.name()),
        };
        self.draft(kernel, x, types, origin)
    }

    /// Any dot product is a batched matrix product [B.., M, K] × [B.., K, N] of views.
    fn dot(&mut self, dims: &DotDims, mut x: SmallVec<[Stored; 3]>, types: &[Type], origin: Origin) -> Vec<Stored> {
        let rhs = x.pop().expect("two operands");
        let lhs = x.pop().expect("two operands");
        let matrix = |this: &mut Self, value: Stored, batch: &[usize], contract: &[usize], inner_last: bool| {
            let free = DotDims::free(value.layout.rank(), batch, contract);
            let (first, second) = if inner_last { (&free[..], contract) } else { (contract, &free[..]) };
            let order = [batch, first, second].concat();
            let size = |axes: &[usize]| axes.iter().map(|&axis| value.layout.shape()[axis]).product::<usize>();
            let shape: Dims =
                batch.iter().map(|&axis| value.layout.shape()[axis]).chain([size(first), size(second)]).collect();
            let permuted = Stored { layout: value.layout.permuted(&order), ..value };
            this.reshape(permuted, &shape, origin)
        };
        let lhs = matrix(self, lhs, &dims.lhs_batch, &dims.lhs_contract, true);
        let rhs = matrix(self, rhs, &dims.rhs_batch, &dims.rhs_contract, false);
        self.draft(Kernel::Matmul, smallvec::smallvec![lhs, rhs], types, origin)
    }

    /// Every result gets memory of its own: the step that makes it writes there, or it is copied.
    fn results(&mut self) {
        for (i, &value) in self.program.outputs.iter().enumerate() {
            let ty = self.program.ty(value).clone();
            let stored = self.get(value);
            let whole = stored.layout.is_contiguous() && stored.layout.offset() == 0 && self.fills(&stored);
            let held = &mut self.lowered.buffers[stored.buffer];
            if whole && held.origination == Origination::Temporary {
                held.origination = Origination::Result(i);
            } else {
                let origin = self.lowered.drafts.last().map_or_else(Origin::here, |draft| draft.origin);
                let buffer = self.buffer(Origination::Result(i), ty.bytes());
                let outputs = smallvec::smallvec![(buffer, ty.clone())];
                self.lowered.drafts.push(Draft {
                    kernel: Kernel::Copy,
                    inputs: smallvec::smallvec![stored],
                    outputs,
                    origin,
                    instruction: None,
                });
            }
            self.lowered.results.push(ty);
        }
    }
}

/// A convolution as the kernels take it.
fn convolution(dims: &ConvDims) -> ConvSpec {
    ConvSpec {
        stride: dims.stride.to_vec(),
        pad_low: dims.padding.iter().map(|p| p.0).collect(),
        pad_high: dims.padding.iter().map(|p| p.1).collect(),
        lhs_dilation: dims.lhs_dilation.to_vec(),
        rhs_dilation: dims.rhs_dilation.to_vec(),
        groups: dims.groups,
    }
}

/// The tape of one operation.
fn single(op: &Op, x: &[Stored]) -> Tape {
    let dtypes: Vec<DType> = x.iter().map(|x| x.dtype).collect();
    let mut instructions: Vec<TapeInstruction> = (0..x.len()).map(|input| TapeInstruction::Load { input }).collect();
    let registers: Vec<usize> = (0..x.len()).collect();
    instructions.push(tape::instruction(op, &registers));
    match Tape::new(&dtypes, instructions, &[x.len()]) {
        Ok(tape) => tape,
        Err(error) => unreachable!("a verified operation compiles: {error}"),
    }
}
