//! What a fused instruction may hold: elementwise operations over one shape, its space, and over the rows of that.
//!
//! A row is the last axis. A value has an element for each element of the space, or one for each row (with or without
//! an axis of one element where the row was); a reduction along the row leads from the first kind to the second, a
//! broadcast back.

use super::{Kind, Program};
use crate::tensor::{Op, Shape, Type};

/// The shape that a fused body works over.
pub(crate) fn space(body: &Program) -> Shape {
    let reduced = body.instructions.iter().find(|instruction| matches!(instruction.kind, Kind::Op(Op::Reduce(..))));
    let value = reduced.map_or(body.outputs[0], |instruction| instruction.inputs[0]);
    body.ty(value).shape.clone()
}

/// Whether a shape has one element for each row of a space.
pub(crate) fn is_row(shape: &[usize], space: &[usize]) -> bool {
    match space.split_last() {
        Some((_, lead)) => shape == lead || matches!(shape.split_last(), Some((1, rest)) if rest == lead),
        None => false,
    }
}

/// Whether an operation may stand in a fused body over a space.
pub(crate) fn is_member(op: &Op, inputs: &[&Type], output: &Type, space: &[usize]) -> bool {
    match op {
        Op::Reduce(_, axes) => inputs[0].shape[..] == *space && axes.len() == 1 && axes[0] + 1 == space.len(),
        Op::Reshape(_) => is_row(&inputs[0].shape, space) && is_row(&output.shape, space),
        Op::Broadcast(_, axes) => {
            is_row(&inputs[0].shape, space) && output.shape[..] == *space && axes.iter().copied().eq(0..axes.len())
        }
        _ => op.is_elementwise() && (output.shape[..] == *space || is_row(&output.shape, space)),
    }
}
