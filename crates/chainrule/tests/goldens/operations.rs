//! The operations of the goldens by name.

use super::Case;
use chainrule::prelude::*;
use chainrule::tensor::{ConvDims, DotDims, Index};

pub fn apply(case: &Case, x: &[Tensor]) -> Tensor {
    let name = case.op();
    if let Some(f) = unary(name) {
        return f(&x[0]);
    }
    if let Some(f) = binary(name) {
        return f(&x[0], &x[1]);
    }
    match name {
        "where" => x[0].select(&x[1], &x[2]),
        "clip" => {
            let low = case.attr("min").as_f64();
            let high = case.attr("max").as_f64();
            let y = low.map_or(x[0].clone(), |low| x[0].maximum(low));
            high.map_or(y.clone(), |high| y.minimum(high))
        }
        "leaky_relu" => x[0].leaky_relu(case.number("slope")),
        "elu" => x[0].elu(case.number("alpha")),
        "celu" => x[0].celu(case.number("alpha")),
        "prelu" => {
            let mut shape = vec![1; x[0].rank()];
            shape[1] = x[1].numel();
            x[0].prelu(&x[1].reshape(shape))
        }
        "glu" => x[0].glu(case.axis()),
        "softmax" => x[0].softmax(case.axis()),
        "log_softmax" => x[0].log_softmax(case.axis()),
        "logsumexp" if case.flag("keepdims") => x[0].logsumexp_keepdims(case.axis()),
        "logsumexp" => x[0].logsumexp(case.axis()),
        "sum" | "mean" | "reduce_max" | "reduce_min" | "prod" | "norm" | "var" | "std" | "any" | "all" => {
            reduction(case, &x[0])
        }
        "argmax" => x[0].argmax(case.axis()),
        "argmin" => x[0].argmin(case.axis()),
        "cumsum" if case.flag("reverse") => x[0].cumsum_reverse(case.axis()),
        "cumsum" => x[0].cumsum(case.axis()),
        "reshape" => x[0].reshape(case.sizes("shape")),
        "broadcast_to" => x[0].broadcast_to(case.sizes("shape")),
        "permute" => permute(&x[0], &case.signed("axes")),
        "reverse" => x[0].flip(&case.signed("axes")[..]),
        "slice" => slice(case, &x[0]),
        "pad" => pad(case, &x[0]),
        "concat" => concat(x, case.axis()),
        "stack" => stack(x, case.axis()),
        "tril" => x[0].tril(case.number("k") as isize),
        "triu" => x[0].triu(case.number("k") as isize),
        "gather" => x[0].gather(&x[1], case.axis()),
        "take_along_axis" => x[0].take_along_axis(&x[1], case.axis()),
        "scatter_add" => x[1].scatter_add(&x[0], case.axis(), case.number("size") as usize),
        "sort" => x[0].sort(case.axis(), case.flag("descending")),
        "argsort" => x[0].argsort(case.axis(), case.flag("descending")),
        "top_k" => x[0].top_k(case.number("k") as usize).0,
        "einsum" => einsum(case.attr("spec").as_str().expect("spec"), &x.iter().collect::<Vec<_>>()),
        "dot_general" => {
            let axes = |name| case.sizes(name).into_iter().collect();
            let dims = DotDims {
                lhs_batch: axes("lhs_batch"),
                rhs_batch: axes("rhs_batch"),
                lhs_contract: axes("lhs_contract"),
                rhs_contract: axes("rhs_contract"),
            };
            x[0].dot_general(&x[1], dims)
        }
        "conv" => {
            let pads = case.attr("pad").as_array().expect("pairs").iter();
            let pair =
                |p: &serde_json::Value| (p[0].as_i64().expect("low") as isize, p[1].as_i64().expect("high") as isize);
            let dims = ConvDims {
                stride: case.sizes("stride").into_iter().collect(),
                padding: pads.map(pair).collect(),
                lhs_dilation: case.sizes("lhs_dilation").into_iter().collect(),
                rhs_dilation: case.sizes("rhs_dilation").into_iter().collect(),
                groups: case.number("groups") as usize,
            };
            x[0].try_conv_general(&x[1], dims).unwrap_or_else(|error| panic!("{error}"))
        }
        "conv_transpose" => conv_transpose(case, &x[0], &x[1]),
        "max_pool" => pooled(case, &x[0], |x, p| x.max_pool(p)),
        "avg_pool" => pooled(case, &x[0], |x, p| x.avg_pool(p)),
        "cholesky" => symmetric(&x[0]).cholesky(),
        "logdet_spd" => symmetric(&x[0]).logdet_spd(),
        "inverse_spd" => symmetric(&x[0]).inverse_spd(),
        "solve_spd" => symmetric(&x[0]).solve_spd(&x[1]),
        "triangular_solve" => {
            let (lower, n) = (case.flag("lower"), x[0].size(-1));
            let strict = if lower { x[0].tril(-1) } else { x[0].triu(1) };
            let a = if case.flag("unit") { strict + Tensor::eye(n, DType::F64) } else { x[0].clone() };
            a.triangular_solve(&x[1], lower, case.flag("transpose"))
        }
        "layer_norm" => x[0].normalize(-1, case.number("eps")) * &x[1] + &x[2],
        "rms_norm" => &x[0] / (x[0].square().mean_keepdims(-1) + case.number("eps")).sqrt() * &x[1],
        "cross_entropy" => x[0].cross_entropy(&x[1]),
        "bce_with_logits" => (x[0].softplus() - &x[1] * &x[0]).mean(..),
        "huber" => {
            let (e, delta) = (&x[0] - &x[1], case.number("delta"));
            e.abs().less_equal(delta).select(&(e.square() * 0.5), (e.abs() - delta / 2.0) * delta).mean(..)
        }
        "normalize" => {
            let norm = x[0].norm(case.axis()).unsqueeze(case.axis());
            &x[0] / norm.maximum(case.number("eps"))
        }
        "standardize" => x[0].normalize(case.axis(), case.number("eps")),
        other => panic!("no such operation here: {other}"),
    }
}

fn unary(name: &str) -> Option<fn(&Tensor) -> Tensor> {
    Some(match name {
        "neg" => |x| -x,
        "exp" => Tensor::exp,
        "expm1" => Tensor::expm1,
        "log" => Tensor::log,
        "log1p" => Tensor::log1p,
        "sin" => Tensor::sin,
        "cos" => Tensor::cos,
        "tan" => Tensor::tan,
        "asin" => Tensor::asin,
        "acos" => Tensor::acos,
        "atan" => Tensor::atan,
        "sinh" => Tensor::sinh,
        "cosh" => Tensor::cosh,
        "tanh" => Tensor::tanh,
        "sigmoid" => Tensor::sigmoid,
        "erf" => Tensor::erf,
        "sqrt" => Tensor::sqrt,
        "rsqrt" => Tensor::rsqrt,
        "square" => Tensor::square,
        "reciprocal" => Tensor::reciprocal,
        "abs" => Tensor::abs,
        "sign" => Tensor::sign,
        "floor" => Tensor::floor,
        "ceil" => Tensor::ceil,
        "round" => Tensor::round,
        "relu" => Tensor::relu,
        "selu" => Tensor::selu,
        "gelu" => Tensor::gelu,
        "gelu_tanh" => Tensor::gelu_tanh,
        "silu" => Tensor::silu,
        "mish" => Tensor::mish,
        "softplus" => Tensor::softplus,
        "softsign" => Tensor::softsign,
        "hard_tanh" => Tensor::hard_tanh,
        "hard_sigmoid" => Tensor::hard_sigmoid,
        _ => return None,
    })
}

fn binary(name: &str) -> Option<fn(&Tensor, &Tensor) -> Tensor> {
    Some(match name {
        "add" => |a, b| a + b,
        "sub" => |a, b| a - b,
        "mul" => |a, b| a * b,
        "div" => |a, b| a / b,
        "maximum" => |a, b| a.maximum(b),
        "minimum" => |a, b| a.minimum(b),
        "pow" => |a, b| a.pow(b),
        "less" => |a, b| a.less(b),
        "less_equal" => |a, b| a.less_equal(b),
        "equal" => |a, b| a.equal(b),
        "not_equal" => |a, b| a.not_equal(b),
        "greater" => |a, b| a.greater(b),
        "greater_equal" => |a, b| a.greater_equal(b),
        "matmul" => Tensor::matmul,
        "mse" => Tensor::mean_squared_error,
        _ => return None,
    })
}

fn symmetric(a: &Tensor) -> Tensor {
    (a + a.t()) * 0.5
}

fn permute(x: &Tensor, axes: &[isize]) -> Tensor {
    match *axes {
        [] => x.clone(),
        [a] => x.permute([a]),
        [a, b] => x.permute([a, b]),
        [a, b, c] => x.permute([a, b, c]),
        [a, b, c, d] => x.permute([a, b, c, d]),
        _ => panic!("{axes:?}"),
    }
}

fn reduction(case: &Case, x: &Tensor) -> Tensor {
    let axes = &case.axes(x.rank())[..];
    let y = match case.op() {
        "sum" => x.sum(axes),
        "mean" => x.mean(axes),
        "reduce_max" => x.max(axes),
        "reduce_min" => x.min(axes),
        "prod" => x.prod(axes),
        "norm" => x.norm(axes),
        "var" => x.variance(axes, case.number("correction") as usize),
        "std" => x.std(axes, case.number("correction") as usize),
        "any" => x.any(axes),
        _ => x.all(axes),
    };
    if !case.flag("keepdims") {
        return y;
    }
    let rank = x.rank() as isize;
    let gone: Vec<isize> = axes.iter().map(|a| (a + rank) % rank).collect();
    let kept: Vec<usize> = (0..rank).map(|i| if gone.contains(&i) { 1 } else { x.shape()[i as usize] }).collect();
    y.reshape(kept)
}

fn slice(case: &Case, x: &Tensor) -> Tensor {
    let list = |name| case.attr(name).as_array().expect("list").iter().map(|v| v.as_i64()).collect::<Vec<_>>();
    let (start, stop, step) = (list("start"), list("stop"), list("step"));
    let ranges: Vec<Index> = (0..start.len()).map(|i| Index::Range(start[i], stop[i], step[i].unwrap_or(1))).collect();
    x.at(ranges)
}

/// Negative amounts crop what the interior padding gives.
fn pad(case: &Case, x: &Tensor) -> Tensor {
    let (low, high, interior) = (case.signed("low"), case.signed("high"), case.sizes("interior"));
    let amounts: Vec<(usize, usize, usize)> =
        (0..low.len()).map(|i| (low[i].max(0) as usize, high[i].max(0) as usize, interior[i])).collect();
    let mut y = x.pad_interior(&amounts, case.number("value"));
    for axis in 0..low.len() {
        let (from, to) = ((-low[axis]).max(0) as usize, (-high[axis]).max(0) as usize);
        y = y.narrow(axis as isize, from, y.shape()[axis] - from - to);
    }
    y
}

fn conv_transpose(case: &Case, x: &Tensor, kernel: &Tensor) -> Tensor {
    let each: Vec<(isize, isize)> = case.signed("padding").iter().map(|&p| (p, p)).collect();
    let options = Convolution {
        stride: case.sizes("stride"),
        padding: Padding::Each(each),
        dilation: case.sizes("dilation"),
        groups: case.number("groups") as usize,
    };
    let output_padding = case.sizes("output_padding");
    x.conv_transpose(kernel, &options, &output_padding)
}

/// The windows slide over the last axes, whatever stands before them.
fn pooled(case: &Case, x: &Tensor, pool: impl Fn(&Tensor, &Pooling) -> Tensor) -> Tensor {
    let dilation = if case.attr("dilation").is_null() { vec![1] } else { case.sizes("dilation") };
    let pooling = Pooling {
        window: case.sizes("window"),
        stride: case.sizes("stride"),
        padding: case.sizes("padding"),
        dilation,
    };
    let space = x.rank() - case.sizes("window").len();
    let (lead, tail) = x.shape().split_at(space);
    let y = pool(&x.reshape([&[1, lead.iter().product()], tail].concat()), &pooling);
    y.reshape([lead, &y.shape()[2..]].concat())
}
