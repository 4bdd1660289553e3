//! Algebraic simplification: rewrites that keep every value, NaN and infinity included.
//!
//! x·0 is not 0 (it may be NaN), so it stays. A rule sees an operation and the operations that make its operands.

use super::inside;
use crate::program::{Kind, Program, Value};
use crate::tensor::{Binary, Dims, DotDims, Op, Scalar, Type, Unary};
use smallvec::SmallVec;
use std::sync::Arc;

type Operands = SmallVec<[Value; 3]>;

enum Rewrite {
    /// The value is another one that exists.
    Same(Value),
    /// The value is made by another operation.
    By(Op, Operands),
}

pub(super) fn simplify(mut program: Program) -> Program {
    inside(&mut program, simplify);
    let mut uses = vec![0; program.types.len()];
    let reads = program.instructions.iter().flat_map(|instruction| &instruction.inputs).chain(&program.outputs);
    reads.for_each(|&value| uses[value as usize] += 1);
    let mut known = Definitions { made: vec![None; program.types.len()], types: &program.types, uses };
    let mut same: Vec<Value> = (0..program.types.len() as Value).collect();
    let mut kept = Vec::with_capacity(program.instructions.len());
    for mut instruction in std::mem::take(&mut program.instructions) {
        instruction.inputs.iter_mut().for_each(|value| *value = same[*value as usize]);
        let output = instruction.outputs[0];
        let mut gone = false;
        while let Kind::Op(op) = &instruction.kind {
            match known.rewrite(op, &instruction.inputs, output) {
                Some(Rewrite::Same(value)) => {
                    same[output as usize] = value;
                    known.uses[value as usize] += known.uses[output as usize];
                    gone = true;
                    break;
                }
                Some(Rewrite::By(op, inputs)) => {
                    instruction.kind = Kind::Op(op);
                    instruction.inputs = inputs;
                }
                None => break,
            }
        }
        if gone {
            continue;
        }
        if let Kind::Op(op) = &instruction.kind
            && instruction.outputs.len() == 1
        {
            known.made[output as usize] = Some((op.clone(), instruction.inputs.clone()));
        }
        kept.push(instruction);
    }
    program.outputs.iter_mut().for_each(|value| *value = same[*value as usize]);
    program.instructions = kept;
    program
}

/// The axes of a dot product that reads one operand before its permutation, if the result keeps its order.
fn turned_dot(dims: &DotDims, operand: usize, axes: &Dims) -> Option<DotDims> {
    let mut turned = dims.clone();
    let (batch, contract) = match operand {
        0 => (&mut turned.lhs_batch, &mut turned.lhs_contract),
        _ => (&mut turned.rhs_batch, &mut turned.rhs_contract),
    };
    let free = DotDims::free(axes.len(), batch, contract);
    batch.iter_mut().chain(contract.iter_mut()).for_each(|axis| *axis = axes[*axis]);
    free.windows(2).all(|pair| axes[pair[0]] < axes[pair[1]]).then_some(turned)
}

struct Definitions<'a> {
    made: Vec<Option<(Op, Operands)>>,
    types: &'a [Type],
    /// How often each value is read.
    uses: Vec<usize>,
}

impl Definitions<'_> {
    fn by(&self, value: Value) -> Option<(&Op, &[Value])> {
        self.made[value as usize].as_ref().map(|(op, inputs)| (op, &inputs[..]))
    }

    fn number(&self, value: Value) -> Option<Scalar> {
        match self.by(value) {
            Some((Op::Constant(number, _), _)) => Some(*number),
            _ => None,
        }
    }

    fn is(&self, value: Value, number: f64) -> bool {
        self.number(value).is_some_and(|scalar| !matches!(scalar, Scalar::Bool(_)) && scalar.as_f64() == number)
    }

    fn rewrite(&self, op: &Op, x: &[Value], output: Value) -> Option<Rewrite> {
        let ty = &self.types[output as usize];
        let same = |value: Value| Some(Rewrite::Same(value));
        let by = |op: Op, inputs: &[Value]| Some(Rewrite::By(op, inputs.into()));
        let inner = |i: usize| x.get(i).and_then(|&value| self.by(value));
        if let Some(number) = self.folded(op, x, ty) {
            return by(Op::Constant(number, ty.clone()), &[]);
        }
        match op {
            Op::Binary(Binary::Add) if self.is(x[1], 0.0) => same(x[0]),
            Op::Binary(Binary::Add) if self.is(x[0], 0.0) => same(x[1]),
            Op::Binary(Binary::Sub) if self.is(x[1], 0.0) => same(x[0]),
            Op::Binary(Binary::Sub) if self.is(x[0], 0.0) => by(Op::Unary(Unary::Neg), &x[1..]),
            Op::Binary(Binary::Mul | Binary::Div) if self.is(x[1], 1.0) => same(x[0]),
            Op::Binary(Binary::Mul) if self.is(x[0], 1.0) => same(x[1]),
            Op::Binary(Binary::Pow) if self.is(x[1], 1.0) => same(x[0]),
            Op::Binary(Binary::Pow) if self.is(x[1], 2.0) => by(Op::Binary(Binary::Mul), &[x[0], x[0]]),
            Op::Binary(Binary::Add) => match (inner(0), inner(1)) {
                (_, Some((Op::Unary(Unary::Neg), y))) => by(Op::Binary(Binary::Sub), &[x[0], y[0]]),
                (Some((Op::Unary(Unary::Neg), y)), _) => by(Op::Binary(Binary::Sub), &[x[1], y[0]]),
                _ => None,
            },
            Op::Binary(Binary::Sub) => match inner(1) {
                Some((Op::Unary(Unary::Neg), y)) => by(Op::Binary(Binary::Add), &[x[0], y[0]]),
                _ => None,
            },
            Op::Unary(unary) => match (unary, inner(0)) {
                (Unary::Neg, Some((Op::Unary(Unary::Neg), y))) | (Unary::Not, Some((Op::Unary(Unary::Not), y))) => {
                    same(y[0])
                }
                (Unary::Neg, Some((Op::Binary(Binary::Sub), y))) => by(Op::Binary(Binary::Sub), &[y[1], y[0]]),
                _ => None,
            },
            Op::Select if x[1] == x[2] => same(x[1]),
            Op::Select => match self.number(x[0]) {
                Some(Scalar::Bool(condition)) => same(if condition { x[1] } else { x[2] }),
                _ => None,
            },
            Op::Cast(dtype) if self.types[x[0] as usize].dtype == *dtype => same(x[0]),
            Op::Reduce(_, axes) if axes.iter().all(|&axis| self.types[x[0] as usize].shape[axis] == 1) => {
                by(Op::Reshape(ty.shape.clone()), x)
            }
            Op::Permute(axes) if axes.windows(2).all(|pair| pair[0] < pair[1]) => same(x[0]),
            Op::Permute(axes) => match inner(0) {
                Some((Op::Permute(first), y)) => by(Op::Permute(axes.iter().map(|&axis| first[axis]).collect()), y),
                // (a·b)ᵀ = bᵀ·aᵀ: the gradient of a weight is born in the weight's own order.
                Some((Op::Dot(dims), y)) if self.uses[x[0] as usize] == 1 => {
                    let batch = dims.lhs_batch.len();
                    let left = self.types[y[0] as usize].shape.len() - batch - dims.lhs_contract.len();
                    let rank = axes.len();
                    let swapped = (0..batch).chain(batch + left..rank).chain(batch..batch + left);
                    match swapped.eq(axes.iter().copied()) {
                        true => by(Op::Dot(Arc::new(dims.flipped())), &[y[1], y[0]]),
                        false => None,
                    }
                }
                _ => None,
            },
            Op::Dot(dims) => {
                let turned = |i: usize| match self.by(x[i]) {
                    Some((Op::Permute(axes), y)) => Some((axes, y[0])),
                    _ => None,
                };
                let side =
                    (0..2).find_map(|i| turned(i).and_then(|(axes, y)| Some((i, y, turned_dot(dims, i, axes)?))));
                match side? {
                    (0, y, dims) => by(Op::Dot(Arc::new(dims)), &[y, x[1]]),
                    (_, y, dims) => by(Op::Dot(Arc::new(dims)), &[x[0], y]),
                }
            }
            Op::Reshape(shape) if self.types[x[0] as usize].shape == *shape => same(x[0]),
            Op::Reshape(_) => match inner(0) {
                Some((Op::Reshape(_), y)) => by(op.clone(), y),
                _ => None,
            },
            Op::Broadcast(shape, _) if self.types[x[0] as usize].shape == *shape => same(x[0]),
            Op::Broadcast(shape, axes) => match inner(0) {
                Some((Op::Broadcast(_, first), y)) => {
                    by(Op::Broadcast(shape.clone(), first.iter().map(|&axis| axes[axis]).collect()), y)
                }
                _ => None,
            },
            Op::Reverse(axes) => match inner(0) {
                Some((Op::Reverse(first), y)) if first == axes => same(y[0]),
                _ => None,
            },
            _ => None,
        }
    }

    /// The number an operation on numbers gives, where arithmetic in double precision and one rounding is exact.
    fn folded(&self, op: &Op, x: &[Value], ty: &Type) -> Option<Scalar> {
        let a = self.number(*x.first()?)?;
        match op {
            Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Slice(_) | Op::Reverse(_) | Op::Unfold(_) => {
                Some(a)
            }
            Op::Cast(dtype) => Some(a.cast(*dtype)),
            Op::Unary(Unary::Neg) if ty.dtype.is_float() => Some(Scalar::Float(-a.as_f64())),
            Op::Binary(binary) if ty.dtype.is_float() => {
                let (a, b) = (a.as_f64(), self.number(x[1])?.as_f64());
                let value = match binary {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::Div => a / b,
                    _ => return None,
                };
                Some(Scalar::Float(value).cast(ty.dtype))
            }
            _ => None,
        }
    }
}
