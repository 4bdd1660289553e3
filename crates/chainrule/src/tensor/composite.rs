//! What the composites are, in primitives. Their derivatives stand on the derivative page; a test holds each
//! against the derivative of what is written here.

use super::{Composite, Tensor};

/// The composition a composite stands for.
pub(crate) fn define(composite: &Composite, x: &Tensor) -> Tensor {
    match composite {
        Composite::Softplus => x.maximum(0.0) + (-x.abs()).exp().log1p(),
        Composite::Softmax(axis) => {
            let e = shifted(x, *axis).exp();
            &e / e.sum_keepdims(*axis as isize)
        }
        Composite::LogSoftmax(axis) => {
            let z = shifted(x, *axis);
            &z - z.exp().sum_keepdims(*axis as isize).log()
        }
        Composite::LogSumExp(axis) => {
            let m = finite_max(x, *axis);
            (x - &m).exp().sum_keepdims(*axis as isize).log() + m
        }
        Composite::Normalize(axes, epsilon) => {
            let centered = x - x.mean_keepdims(&axes[..]);
            let variance = centered.square().mean_keepdims(&axes[..]);
            centered / (variance + epsilon.as_f64()).sqrt()
        }
        Composite::Norm(axes) => x.square().sum(&axes[..]).sqrt(),
    }
}

fn shifted(x: &Tensor, axis: usize) -> Tensor {
    x - finite_max(x, axis)
}

/// The largest along an axis, 0 where all are −∞ (or one is +∞), so that subtracting it makes no NaN of its own.
fn finite_max(x: &Tensor, axis: usize) -> Tensor {
    let m = x.max_keepdims(axis as isize).stop_gradient();
    m.is_finite().select(&m, 0.0)
}
