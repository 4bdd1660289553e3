//! The other half of reverse mode: for every linear operation L, the cotangent Lᵀ·ȳ of each linear operand.
//!
//! Only what the derivative page produces needs a transpose. An operation that is not linear in the operands it is
//! asked for cannot occur, unless a user's custom derivative is not linear in its tangent; that is an error at
//! the user's line.

use super::control;
use crate::tensor::{Binary, CallKind, ConvDims, DotDims, Node, Op, Reduction, Scalar, Tensor, Unary};
use smallvec::SmallVec;
use std::sync::Arc;

type Cotangent = Option<Tensor>;

/// The cotangents of the operands marked linear, from those of the outputs.
pub(super) fn transpose(node: &Node, linear: &[bool], ct: &[Cotangent]) -> Vec<Cotangent> {
    let x = node.inputs();
    match node.op() {
        Op::Scan(dims, body) => control::scan_transpose(dims, body, x, linear, ct),
        Op::Cond(yes, no) => control::cond_transpose(yes, no, x, linear, ct),
        Op::Call(CallKind::Checkpoint, body) => control::checkpoint_transpose(body, x, linear, ct),
        op => match &ct[0] {
            Some(ct) => single(op, node, linear, ct),
            None => vec![None; x.len()],
        },
    }
}

fn single(op: &Op, node: &Node, linear: &[bool], ct: &Tensor) -> Vec<Cotangent> {
    let x = node.inputs();
    let one = |ct: Tensor| vec![Some(ct)];
    let each = |list: [&dyn Fn() -> Tensor; 2]| (0..2).map(|i| linear[i].then(|| list[i]())).collect();
    match op {
        Op::Variable => one(ct.clone()),
        Op::Unary(Unary::Neg) => one(-ct),
        Op::Cast(_) => one(ct.cast(x[0].dtype())),
        Op::Binary(Binary::Add) => each([&|| ct.clone(), &|| ct.clone()]),
        Op::Binary(Binary::Sub) => each([&|| ct.clone(), &|| -ct]),
        Op::Binary(Binary::Mul) if linear != [true, true] => each([&|| ct * &x[1], &|| &x[0] * ct]),
        Op::Binary(Binary::Div) if !linear[1] => vec![Some(ct / &x[1]), None],
        Op::Select if !linear[0] => {
            vec![None, linear[1].then(|| x[0].select(ct, 0.0)), linear[2].then(|| x[0].select(&ct.zeros_like(), ct))]
        }

        Op::Reshape(_) => one(ct.reshape(x[0].shape())),
        Op::Permute(axes) => {
            let mut inverse = axes.clone();
            axes.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
            one(ct.permuted(&inverse))
        }
        Op::Broadcast(shape, axes) => {
            let size = |axis: usize| axes.iter().position(|&a| a == axis).map(|i| x[0].shape()[i]);
            let repeated: Vec<usize> =
                (0..shape.len()).filter(|&axis| size(axis).is_none_or(|n| n != shape[axis])).collect();
            one(ct.sum(&repeated[..]).reshape(x[0].shape()))
        }
        Op::Slice(ranges) => one(ct.unsliced(ranges, x[0].shape())),
        Op::Pad(amounts, _) => {
            let ranges = amounts.iter().zip(x[0].shape()).map(|(&(low, _, interior), &size)| (low, interior + 1, size));
            one(ct.sliced(ranges.map(|(low, step, n)| if n == 0 { (0, 1, 0) } else { (low, step, n) }).collect()))
        }
        Op::Concat(axis) => {
            let mut start = 0;
            let parts = x.iter().zip(linear).map(|(x, &linear)| {
                let size = x.shape()[*axis];
                start += size;
                linear.then(|| ct.narrow(*axis as isize, start - size, size))
            });
            parts.collect()
        }
        Op::Reverse(axes) => one(ct.flip(&axes[..])),

        Op::Reduce(Reduction::Sum, axes) => one(ct.restore(&x[0], axes).broadcast_to(x[0].shape())),
        Op::Cumsum { axis, reverse } => {
            one(Tensor::apply(Op::Cumsum { axis: *axis, reverse: !reverse }, std::slice::from_ref(ct)))
        }
        Op::Gather { axis, batch } if !linear[1] => {
            let op = Op::ScatterAdd { axis: *axis, batch: *batch, size: x[0].shape()[*axis] };
            vec![Some(Tensor::apply(op, &[x[1].clone(), ct.clone()])), None]
        }
        Op::ScatterAdd { axis, batch, .. } if !linear[0] => {
            vec![None, Some(Tensor::apply(Op::Gather { axis: *axis, batch: *batch }, &[ct.clone(), x[0].clone()]))]
        }
        Op::Unfold(windows) => one(Tensor::apply(Op::Fold(windows.clone()), std::slice::from_ref(ct))),
        Op::Fold(windows) => one(Tensor::apply(Op::Unfold(windows.clone()), std::slice::from_ref(ct))),

        Op::Dot(dims) if linear != [true, true] => each([
            &|| dot_left(ct, &x[0], &x[1], dims),
            // a·b has axes (batch, a, b) and b·a (batch, b, a): the right operand is the left one of the mirrored product.
            &|| dot_left(&mirrored(ct, &x[0], &x[1], dims), &x[1], &x[0], &dims.flipped()),
        ]),
        Op::Conv(dims) if linear != [true, true] => {
            each([&|| conv_operand(ct, &x[0], &x[1], dims), &|| conv_kernel(ct, &x[0], &x[1], dims)])
        }
        Op::TriangularSolve { lower, transpose } if !linear[0] => {
            vec![None, Some(x[0].triangular_solve(ct, *lower, !transpose))]
        }
        other => panic!("{}: {} is not linear in a tangent; a custom derivative must be", node.origin(), other.name()),
    }
}

/// ā of a·b: contracts the cotangent with b over b's free axes.
fn dot_left(ct: &Tensor, a: &Tensor, b: &Tensor, dims: &DotDims) -> Tensor {
    let batch = dims.lhs_batch.len();
    let free_a = DotDims::free(a.rank(), &dims.lhs_batch, &dims.lhs_contract);
    let free_b = DotDims::free(b.rank(), &dims.rhs_batch, &dims.rhs_contract);
    let product = ct.dot_general(
        b,
        DotDims {
            lhs_batch: (0..batch).collect(),
            rhs_batch: dims.rhs_batch.clone(),
            lhs_contract: (batch + free_a.len()..ct.rank()).collect(),
            rhs_contract: free_b,
        },
    );
    // The product has a's batch axes, a's free axes, and its contracted ones in the order they have in b.
    let mut contracted: Vec<(usize, usize)> =
        dims.rhs_contract.iter().copied().zip(dims.lhs_contract.iter().copied()).collect();
    contracted.sort_unstable();
    let axes = dims.lhs_batch.iter().copied().chain(free_a).chain(contracted.into_iter().map(|pair| pair.1));
    let mut order = vec![0; a.rank()];
    axes.enumerate().for_each(|(i, axis)| order[axis] = i);
    product.permuted(&order)
}

fn mirrored(ct: &Tensor, a: &Tensor, b: &Tensor, dims: &DotDims) -> Tensor {
    let batch = dims.lhs_batch.len();
    let middle = ct.rank() - DotDims::free(b.rank(), &dims.rhs_batch, &dims.rhs_contract).len();
    debug_assert_eq!(middle - batch, DotDims::free(a.rank(), &dims.lhs_batch, &dims.lhs_contract).len());
    let order: Vec<usize> = (0..batch).chain(middle..ct.rank()).chain(batch..middle).collect();
    ct.permuted(&order)
}

/// Size of an axis once gaps are spread between its elements.
fn spread(size: usize, dilation: usize) -> isize {
    if size == 0 { 0 } else { ((size - 1) * dilation + 1) as isize }
}

/// x̄ of x ∗ w: the cotangent, dilated by the stride, correlated with the mirrored kernel.
fn conv_operand(ct: &Tensor, x: &Tensor, kernel: &Tensor, dims: &ConvDims) -> Tensor {
    if ct.numel() == 0 {
        return x.zeros_like();
    }
    let padding: SmallVec<[(isize, isize); 3]> = (0..dims.stride.len())
        .map(|i| {
            let size = spread(x.shape()[i + 2], dims.lhs_dilation[i]);
            let reach = spread(kernel.shape()[i + 2], dims.rhs_dilation[i]);
            let low = reach - dims.padding[i].0 - 1;
            (low, size + reach - 1 - spread(ct.shape()[i + 2], dims.stride[i]) - low)
        })
        .collect();
    let dims = ConvDims {
        stride: dims.lhs_dilation.clone(),
        padding,
        lhs_dilation: dims.stride.clone(),
        rhs_dilation: dims.rhs_dilation.clone(),
        groups: dims.groups,
    };
    let mirrored = kernel.mirrored(dims.groups);
    Tensor::apply(Op::Conv(Arc::new(dims)), &[ct.clone(), mirrored])
}

/// w̄ of x ∗ w: x correlated with the cotangent as the kernel; batch and channels change places.
fn conv_kernel(ct: &Tensor, x: &Tensor, kernel: &Tensor, dims: &ConvDims) -> Tensor {
    if ct.numel() == 0 {
        return kernel.zeros_like();
    }
    let groups = dims.groups;
    let padding: SmallVec<[(isize, isize); 3]> = (0..dims.stride.len())
        .map(|i| {
            let size = spread(x.shape()[i + 2], dims.lhs_dilation[i]);
            let reach = spread(kernel.shape()[i + 2], dims.rhs_dilation[i]);
            let low = dims.padding[i].0;
            (low, spread(ct.shape()[i + 2], dims.stride[i]) - size + reach - low - 1)
        })
        .collect();
    let dims = ConvDims {
        stride: dims.rhs_dilation.clone(),
        padding,
        lhs_dilation: dims.lhs_dilation.clone(),
        rhs_dilation: dims.stride.clone(),
        groups,
    };
    let (n, channels) = (x.shape()[0], x.shape()[1] / groups);
    let space = &x.shape()[2..];
    // [N, G·C, S] → [C, G·N, S]: every channel of a group is an image whose channels are the batch.
    let mut order: Vec<usize> = (0..space.len() + 3).collect();
    order[..3].copy_from_slice(&[2, 1, 0]);
    let images = x.reshape([&[n, groups, channels], space].concat()).permuted(&order);
    let images = images.reshape([&[channels, groups * n], space].concat());
    Tensor::apply(Op::Conv(Arc::new(dims)), &[images, ct.swap_axes(0, 1)]).swap_axes(0, 1)
}

/// Zeros of a type, where a body must return a number for a structural zero.
pub(super) fn zeros_of(x: &Tensor) -> Tensor {
    Tensor::constant(Scalar::Float(0.0), x.ty().clone())
}
