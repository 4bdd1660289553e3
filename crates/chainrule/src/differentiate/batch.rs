//! The batching page: for every operation, the same operation on operands with a new leading axis.
//!
//! A batched operand has the batch at axis 0. Where only some operands are batched, the others are used as they are
//! if the operation allows it and repeated if not.

use super::control;
use crate::tensor::{Composite, DotDims, Node, Op, Tensor};
use std::sync::Arc;

type Batched = Option<Tensor>;
type Dims = smallvec::SmallVec<[usize; 4]>;

/// A value repeated along a new leading axis.
pub(super) fn widen(x: &Tensor, size: usize) -> Tensor {
    x.broadcast_to([&[size], x.shape()].concat())
}

/// The outputs of a node on a batch; at least one operand is batched.
pub(super) fn batch(node: &Arc<Node>, b: &[Batched], size: usize) -> Vec<Batched> {
    let x = node.inputs();
    let origin = node.origin().derived(crate::tensor::Derivation::Batch, node.op().name());
    origin.scope(|| match node.op() {
        Op::Scan(dims, body) => control::scan_batch(dims, body, x, b, size),
        Op::Cond(yes, no) => control::cond_batch(yes, no, x, b, size),
        op @ Op::Call(..) => control::call_batch(op, x, b, size),
        op => single(op, x, b, size).outputs().into_iter().map(Some).collect(),
    })
}

fn single(op: &Op, x: &[Tensor], b: &[Batched], size: usize) -> Tensor {
    let all = || -> Vec<Tensor> { x.iter().zip(b).map(|(x, b)| b.clone().unwrap_or_else(|| widen(x, size))).collect() };
    let shifted = |axes: &[usize]| -> Dims { axes.iter().map(|axis| axis + 1).collect() };
    let lead = |axes: &[usize]| -> Dims { std::iter::once(0).chain(axes.iter().map(|axis| axis + 1)).collect() };
    let sized = |shape: &[usize]| -> Dims { std::iter::once(size).chain(shape.iter().copied()).collect() };
    match op {
        Op::Input(_) | Op::Data(_) | Op::Constant(..) | Op::Iota(..) => unreachable!("no operand to batch"),
        // Elementwise, and whatever works on the last axes only.
        Op::Variable | Op::StopGradient | Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) => {
            Tensor::apply(op.clone(), &all())
        }
        Op::Random(..) | Op::Unfold(_) | Op::Fold(_) | Op::Cholesky | Op::TriangularSolve { .. } => {
            Tensor::apply(op.clone(), &all())
        }
        // Axes move up by one.
        Op::Reshape(shape) => Tensor::apply(Op::Reshape(sized(shape)), &all()),
        Op::Permute(axes) => Tensor::apply(Op::Permute(lead(axes)), &all()),
        Op::Broadcast(shape, axes) => Tensor::apply(Op::Broadcast(sized(shape), lead(axes)), &all()),
        Op::Slice(ranges) => {
            let ranges: Vec<_> = std::iter::once((0, 1, size)).chain(ranges.iter().copied()).collect();
            Tensor::apply(Op::Slice(ranges.into()), &all())
        }
        Op::Pad(amounts, value) => {
            let amounts: Vec<_> = std::iter::once((0, 0, 0)).chain(amounts.iter().copied()).collect();
            Tensor::apply(Op::Pad(amounts.into(), *value), &all())
        }
        Op::Concat(axis) => Tensor::apply(Op::Concat(axis + 1), &all()),
        Op::Reverse(axes) => Tensor::apply(Op::Reverse(shifted(axes)), &all()),
        Op::Reduce(reduction, axes) => Tensor::apply(Op::Reduce(*reduction, shifted(axes)), &all()),
        Op::ArgReduce(largest, axis) => Tensor::apply(Op::ArgReduce(*largest, axis + 1), &all()),
        Op::Cumsum { axis, reverse } => Tensor::apply(Op::Cumsum { axis: axis + 1, reverse: *reverse }, &all()),
        Op::Sort { axis, descending } => Tensor::apply(Op::Sort { axis: axis + 1, descending: *descending }, &all()),
        Op::Composite(composite) => Tensor::apply(
            Op::Composite(match composite {
                Composite::Softplus => Composite::Softplus,
                Composite::Softmax(axis) => Composite::Softmax(axis + 1),
                Composite::LogSoftmax(axis) => Composite::LogSoftmax(axis + 1),
                Composite::LogSumExp(axis) => Composite::LogSumExp(axis + 1),
                Composite::Normalize(axes, epsilon) => Composite::Normalize(shifted(axes), *epsilon),
                Composite::Norm(axes) => Composite::Norm(shifted(axes)),
            }),
            &all(),
        ),
        Op::Gather { axis, batch } => gather(*axis, *batch, x, b),
        Op::ScatterAdd { axis, batch, size: places } => match (&b[0], &b[1]) {
            (None, Some(updates)) => {
                // The batch becomes an axis before the scattered one.
                let op = Op::ScatterAdd { axis: axis + 1, batch: *batch, size: *places };
                let updates = updates.move_axis(0, *batch as isize);
                Tensor::apply(op, &[x[0].clone(), updates]).move_axis(*batch as isize, 0)
            }
            _ => Tensor::apply(Op::ScatterAdd { axis: axis + 1, batch: batch + 1, size: *places }, &all()),
        },
        Op::Dot(dims) => dot(dims, x, b),
        Op::Conv(_) => conv(op, x, b, size),
        Op::Scan(..) | Op::Cond(..) | Op::Call(..) => unreachable!("handled above"),
    }
}

fn gather(axis: usize, batch: usize, x: &[Tensor], b: &[Batched]) -> Tensor {
    match (&b[0], &b[1]) {
        (Some(x), Some(index)) => {
            Tensor::apply(Op::Gather { axis: axis + 1, batch: batch + 1 }, &[x.clone(), index.clone()])
        }
        (Some(rows), None) => {
            let rows = rows.move_axis(0, batch as isize);
            Tensor::apply(Op::Gather { axis: axis + 1, batch }, &[rows, x[1].clone()]).move_axis(batch as isize, 0)
        }
        (None, Some(index)) => {
            let index = index.move_axis(0, batch as isize);
            Tensor::apply(Op::Gather { axis, batch }, &[x[0].clone(), index]).move_axis(axis as isize, 0)
        }
        (None, None) => unreachable!("one operand is batched"),
    }
}

fn dot(dims: &DotDims, x: &[Tensor], b: &[Batched]) -> Tensor {
    let up = |axes: &Dims| -> Dims { axes.iter().map(|axis| axis + 1).collect() };
    let lead = |axes: &Dims| -> Dims { std::iter::once(0).chain(axes.iter().map(|axis| axis + 1)).collect() };
    let batch = dims.lhs_batch.len();
    match (&b[0], &b[1]) {
        (Some(l), Some(r)) => l.dot_general(
            r,
            DotDims {
                lhs_batch: lead(&dims.lhs_batch),
                rhs_batch: lead(&dims.rhs_batch),
                lhs_contract: up(&dims.lhs_contract),
                rhs_contract: up(&dims.rhs_contract),
            },
        ),
        (Some(l), None) => {
            let dims = DotDims { lhs_batch: up(&dims.lhs_batch), lhs_contract: up(&dims.lhs_contract), ..dims.clone() };
            l.dot_general(&x[1], dims).move_axis(batch as isize, 0)
        }
        (None, Some(r)) => {
            let free = DotDims::free(x[0].rank(), &dims.lhs_batch, &dims.lhs_contract).len();
            let dims = DotDims { rhs_batch: up(&dims.rhs_batch), rhs_contract: up(&dims.rhs_contract), ..dims.clone() };
            x[0].dot_general(r, dims).move_axis((batch + free) as isize, 0)
        }
        (None, None) => unreachable!("one operand is batched"),
    }
}

/// The batch joins the images, the kernel's outputs, or (both batched) the channel groups.
fn conv(op: &Op, x: &[Tensor], b: &[Batched], size: usize) -> Tensor {
    let Op::Conv(dims) = op else { unreachable!("a convolution") };
    let groups = dims.groups;
    let space = |tensor: &Tensor, from: usize| tensor.shape()[from..].to_vec();
    match (&b[0], &b[1]) {
        (Some(images), None) => {
            let n = x[0].shape()[0];
            let joined = images.reshape([&[size * n], &images.shape()[2..]].concat());
            let y = Tensor::apply(op.clone(), &[joined, x[1].clone()]);
            y.reshape([&[size, n], &y.shape()[1..]].concat())
        }
        (None, Some(kernel)) => {
            let (outs, ins) = (x[1].shape()[0] / groups, x[1].shape()[1]);
            let grouped = kernel.reshape([&[size, groups, outs, ins], &space(kernel, 3)[..]].concat()).swap_axes(0, 1);
            let joined = grouped.reshape([&[groups * size * outs, ins], &space(kernel, 3)[..]].concat());
            let y = Tensor::apply(op.clone(), &[x[0].clone(), joined]);
            let n = y.shape()[0];
            let parts = y.reshape([&[n, groups, size, outs], &space(&y, 2)[..]].concat()).move_axis(2, 0);
            parts.reshape([&[size, n, groups * outs], &space(&y, 2)[..]].concat())
        }
        (Some(images), Some(kernel)) => {
            let (n, channels) = (x[0].shape()[0], x[0].shape()[1]);
            let joined = images.swap_axes(0, 1).reshape([&[n, size * channels], &space(images, 3)[..]].concat());
            let (outs, ins) = (x[1].shape()[0], x[1].shape()[1]);
            let kernels = kernel.reshape([&[size * outs, ins], &space(kernel, 3)[..]].concat());
            let wide = crate::tensor::ConvDims { groups: groups * size, ..(**dims).clone() };
            let y = Tensor::apply(Op::Conv(Arc::new(wide)), &[joined, kernels]);
            y.reshape([&[n, size, outs], &space(&y, 2)[..]].concat()).swap_axes(0, 1)
        }
        (None, None) => unreachable!("one operand is batched"),
    }
}
