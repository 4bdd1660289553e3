//! What a fused instruction may hold: elementwise operations over one shape, and over the rows of that.
//!
//! A row is the last axis, or the last few of more: the plane of a channel. A value has an element for each element of the space,
//! or one for each row (with or without axes of one element where the row was); a reduction along the row leads from the
//! first kind to the second, a broadcast back.

use super::{Kind, Program};
use crate::tensor::{Op, Shape, Type};

/// What a fused body works over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub shape: Shape,
    /// How many axes at the end make a row.
    pub across: usize,
}

impl Space {
    /// Of a fused body.
    pub fn of(body: &Program) -> Space {
        let reduced = body.instructions.iter().find_map(|instruction| match &instruction.kind {
            Kind::Op(Op::Reduce(_, axes)) => Some((instruction.inputs[0], axes.len())),
            _ => None,
        });
        let (value, across) = reduced.unwrap_or((body.outputs[0], 1));
        Space { shape: body.ty(value).shape.clone(), across }
    }

    /// The axes that stay when a row becomes one element; none if it has not as many axes.
    pub fn lead(&self) -> Option<&[usize]> {
        Some(&self.shape[..self.shape.len().checked_sub(self.across)?])
    }

    /// Elements of a row.
    pub fn row(&self) -> usize {
        self.shape[self.shape.len().saturating_sub(self.across)..].iter().product()
    }

    /// The shape with one axis for the row.
    pub fn by_rows(&self) -> Shape {
        match self.lead() {
            Some(lead) if self.across > 1 => lead.iter().copied().chain([self.row()]).collect(),
            _ => self.shape.clone(),
        }
    }

    /// Whether a shape has one element for each row.
    pub fn has_row(&self, shape: &[usize]) -> bool {
        let ends = |rest: &[usize]| rest.is_empty() || rest.len() == self.across && rest.iter().all(|&size| size == 1);
        self.lead().is_some_and(|lead| shape.strip_prefix(lead).is_some_and(ends))
    }

    /// Whether an operation may stand in a fused body over this space.
    pub fn takes(&self, op: &Op, inputs: &[&Type], output: &Type) -> bool {
        let whole = |shape: &Shape| *shape == self.shape;
        match op {
            Op::Reduce(_, axes) => {
                let rows = self.across == 1 || self.across < self.shape.len();
                rows && whole(&inputs[0].shape) && axes.len() == self.across && self.ends_with(axes)
            }
            Op::Reshape(_) => self.has_row(&inputs[0].shape) && self.has_row(&output.shape),
            Op::Broadcast(_, axes) => {
                self.has_row(&inputs[0].shape) && whole(&output.shape) && axes.iter().copied().eq(0..axes.len())
            }
            _ => op.is_elementwise() && (whole(&output.shape) || self.has_row(&output.shape)),
        }
    }

    /// Whether these axes are the last ones.
    fn ends_with(&self, axes: &[usize]) -> bool {
        let rank = self.shape.len();
        axes.len() <= rank && axes.iter().copied().eq(rank - axes.len()..rank)
    }
}
