//! The derivative page: for every operation y = f(x…) the tangent ẏ as a function of x, y and the tangents ẋ.
//!
//! This is the only place where calculus is stated. Forward mode applies these rules; reverse mode transposes what
//! they return; higher orders apply them again to their own results. An absent tangent is a structural zero: no
//! path, not the number 0.

use super::control;
use crate::tensor::{Binary, CallKind, Composite, Node, Op, Reduction, Tensor, Unary, define};

type Tangent = Option<Tensor>;

/// The tangents of a node's outputs from those of its inputs.
pub(super) fn jvp(node: &Node, t: &[Tangent], outputs: &[Tensor]) -> Vec<Tangent> {
    match node.op() {
        Op::Sort { axis, .. } => vec![t[0].as_ref().map(|t| t.take_along_axis(&outputs[1], *axis as isize)), None],
        Op::Scan(dims, body) => control::scan_jvp(dims, body, node.inputs(), t),
        Op::Cond(yes, no) => control::cond_jvp(yes, no, node.inputs(), t),
        Op::Call(CallKind::Checkpoint, body) => control::checkpoint_jvp(body, node.inputs(), t),
        Op::Call(CallKind::Custom(rule, operands), _) => {
            control::custom_jvp(node.origin(), &***rule, *operands, node.inputs(), outputs, t)
        }
        op => vec![single(op, node.inputs(), &outputs[0], t)],
    }
}

fn single(op: &Op, x: &[Tensor], y: &Tensor, t: &[Tangent]) -> Tangent {
    match op {
        // Constants, and functions that are flat wherever they have a derivative.
        Op::Input(_) | Op::Data(_) | Op::Constant(..) | Op::Iota(..) | Op::Random(..) => None,
        Op::StopGradient | Op::Compare(_) | Op::ArgReduce(..) => None,
        Op::Unary(Unary::Sign | Unary::Floor | Unary::Not) | Op::Binary(Binary::And | Binary::Or) => None,

        Op::Unary(unary) => elementary(*unary, &x[0], y, t[0].as_ref()?),
        Op::Binary(binary) => binary_rule(*binary, &x[0], &x[1], y, t[0].as_ref(), t[1].as_ref()),
        Op::Select => {
            let (a, b) = (t[1].as_ref(), t[2].as_ref());
            let zeros = a.or(b)?.zeros_like();
            Some(x[0].select(a.unwrap_or(&zeros), b.unwrap_or(&zeros)))
        }

        // Linear operations: the tangent of L(x) is L(ẋ).
        Op::Cast(dtype) => dtype.is_float().then(|| Some(t[0].as_ref()?.cast(*dtype))).flatten(),
        Op::Variable | Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Slice(_) | Op::Reverse(_) => {
            linear(op, t)
        }
        Op::Reduce(Reduction::Sum, _) | Op::Cumsum { .. } | Op::Unfold(_) | Op::Fold(_) => linear(op, t),
        Op::Pad(amounts, _) => Some(t[0].as_ref()?.padded(amounts.to_vec(), crate::tensor::Scalar::Float(0.0))),
        Op::Concat(_) => {
            let parts: Vec<Tensor> =
                x.iter().zip(t).map(|(x, t)| t.clone().unwrap_or_else(|| x.zeros_like())).collect();
            Some(Tensor::apply(op.clone(), &parts))
        }
        Op::Gather { .. } => Some(Tensor::apply(op.clone(), &[t[0].clone()?, x[1].clone()])),
        Op::ScatterAdd { .. } => Some(Tensor::apply(op.clone(), &[x[0].clone(), t[1].clone()?])),

        // Bilinear operations: (x·y)˙ = ẋ·y + x·ẏ.
        Op::Dot(_) | Op::Conv(_) => sum(
            t[0].as_ref().map(|t| Tensor::apply(op.clone(), &[t.clone(), x[1].clone()])),
            t[1].as_ref().map(|t| Tensor::apply(op.clone(), &[x[0].clone(), t.clone()])),
        ),

        Op::Reduce(Reduction::Max | Reduction::Min, axes) => {
            let at = x[0].equal(y.restore(&x[0], axes));
            let ties = at.cast(y.dtype()).sum(&axes[..]);
            Some(at.select(t[0].as_ref()?, 0.0).sum(&axes[..]) / ties)
        }
        Op::Reduce(Reduction::Prod, axes) => Some(product_rule(&x[0], t[0].as_ref()?, axes)),
        Op::Cholesky => {
            // L̇ = L·Φ(L⁻¹ Ȧ L⁻ᵀ), Φ the lower triangle with half the diagonal (Murray 2016); A's lower triangle counts.
            let t = t[0].as_ref()?;
            let symmetric = t.tril(0) + t.tril(-1).t();
            let half = y.triangular_solve(&symmetric, true, false);
            let inner = y.triangular_solve(&half.t(), true, false);
            let phi = inner.tril(-1) + inner.tril(0).triu(0) * 0.5;
            Some(y.matmul(&phi))
        }
        Op::TriangularSolve { lower, transpose } => {
            // A·X = B, so A·Ẋ = Ḃ − Ȧ·X.
            let change = t[0].as_ref().map(|t| {
                let triangle = if *lower { t.tril(0) } else { t.triu(0) };
                -(if *transpose { triangle.t() } else { triangle }).matmul(y)
            });
            Some(x[0].triangular_solve(&sum(t[1].clone(), change)?, *lower, *transpose))
        }
        Op::Composite(composite) => Some(composite_rule(composite, &x[0], y, t[0].as_ref()?)),
        Op::Sort { .. } | Op::Scan(..) | Op::Cond(..) | Op::Call(..) => unreachable!("several outputs"),
    }
}

fn elementary(unary: Unary, x: &Tensor, y: &Tensor, t: &Tensor) -> Tangent {
    Some(match unary {
        Unary::Neg => -t,
        Unary::Exp => t * y,
        Unary::Expm1 => t * (y + 1.0),
        Unary::Log => t / x,
        Unary::Log1p => t / (x + 1.0),
        Unary::Sin => t * x.cos(),
        Unary::Cos => t * -x.sin(),
        Unary::Atan => t / (x * x + 1.0),
        Unary::Tanh => t * (1.0 - y * y),
        Unary::Sigmoid => t * (y * (1.0 - y)),
        Unary::Erf => t * ((-(x * x)).exp() * std::f64::consts::FRAC_2_SQRT_PI),
        Unary::Sqrt => t * 0.5 / y,
        Unary::Abs => t * x.sign(),
        Unary::Sign | Unary::Floor | Unary::Not => return None,
    })
}

fn binary_rule(
    binary: Binary,
    a: &Tensor,
    b: &Tensor,
    y: &Tensor,
    ta: Option<&Tensor>,
    tb: Option<&Tensor>,
) -> Tangent {
    match binary {
        Binary::Add => sum(ta.cloned(), tb.cloned()),
        Binary::Sub => sum(ta.cloned(), tb.map(|t| -t)),
        Binary::Mul => sum(ta.map(|t| t * b), tb.map(|t| a * t)),
        Binary::Div => sum(ta.map(|t| t / b), tb.map(|t| -t * (y / b))),
        Binary::Max => extreme(a.greater(b), a.less(b), ta, tb),
        Binary::Min => extreme(a.less(b), a.greater(b), ta, tb),
        Binary::Pow => sum(ta.map(|t| t * power_slope(a, b)), tb.map(|t| t * power_growth(a, y))),
        Binary::And | Binary::Or => None,
    }
}

/// ∂(x^p)/∂x = p·x^(p−1), and 0 for p = 0 also where x = 0.
fn power_slope(x: &Tensor, p: &Tensor) -> Tensor {
    if let Op::Constant(value, _) = p.node().op()
        && value.as_f64() != 0.0
    {
        return x.pow(value.as_f64() - 1.0) * value.as_f64();
    }
    let flat = p.equal(0.0).and(x.equal(0.0));
    p * x.pow(flat.select(&p.ones_like(), p - 1.0))
}

/// ∂(x^p)/∂p = x^p·ln x, and 0 at x = 0 (for p > 0 its limit).
fn power_growth(x: &Tensor, y: &Tensor) -> Tensor {
    y * x.equal(0.0).select(&x.ones_like(), x).log()
}

/// The tangent of whichever operand is taken; half of each at a tie.
fn extreme(first: Tensor, second: Tensor, ta: Option<&Tensor>, tb: Option<&Tensor>) -> Tangent {
    let tie = sum(ta.cloned(), tb.cloned())? * 0.5;
    let zeros = tie.zeros_like();
    Some(first.select(ta.unwrap_or(&zeros), second.select(tb.unwrap_or(&zeros), tie)))
}

fn composite_rule(composite: &Composite, x: &Tensor, y: &Tensor, t: &Tensor) -> Tensor {
    match composite {
        Composite::Softplus => t * x.sigmoid(),
        Composite::Softmax(axis) => y * (t - (y * t).sum_keepdims(*axis as isize)),
        Composite::LogSoftmax(axis) => t - (y.exp() * t).sum_keepdims(*axis as isize),
        Composite::LogSumExp(axis) => ((x - y).exp() * t).sum_keepdims(*axis as isize),
        Composite::Normalize(axes, epsilon) => {
            let mean = |v: &Tensor| v.mean_keepdims(&axes[..]);
            let variance = mean(&(x - mean(x)).square());
            (t - mean(t) - y * mean(&(y * t))) / (variance + epsilon.as_f64()).sqrt()
        }
        Composite::Norm(axes) => {
            let safe = y.equal(0.0).select(&y.ones_like(), y);
            (x / safe.restore(x, axes) * t).sum(&axes[..])
        }
    }
}

fn linear(op: &Op, t: &[Tangent]) -> Tangent {
    Some(Tensor::apply(op.clone(), &[t[0].clone()?]))
}

/// The sum of two tangents either of which may be absent.
pub(super) fn sum(a: Tangent, b: Tangent) -> Tangent {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// (Π x)˙ over axes: factors are multiplied in pairs, and the tangent of each by its partner, (a·b)˙ = ȧ·b + a·ḃ, until
/// one is left. Nothing is divided, so it is exact at zeros.
fn product_rule(x: &Tensor, t: &Tensor, axes: &[usize]) -> Tensor {
    let kept: Vec<usize> = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
    let order = [&kept[..], axes].concat();
    let shape: Vec<usize> = kept.iter().map(|&axis| x.shape()[axis]).collect();
    let count = axes.iter().map(|&axis| x.shape()[axis]).product();
    let flat = |v: &Tensor| v.permuted(&order).reshape([&shape[..], &[count]].concat());
    let (mut x, mut t) = (flat(x), flat(t));
    while x.size(-1) > 1 {
        if x.size(-1) % 2 == 1 {
            let one_more = [vec![(0, 0); kept.len()], vec![(0, 1)]].concat();
            (x, t) = (x.pad(&one_more, 1.0), t.pad(&one_more, 0.0));
        }
        let [a, b] = x.chunk(-1);
        let partners = crate::tensor::concat(&[&b, &a], -1);
        t = (t * partners).reshape([&shape[..], &[2, a.size(-1)]].concat()).sum(-2);
        x = a * b;
    }
    t.sum(-1)
}

/// The derivative of a composite as its definition has it: what the rule above must equal.
#[doc(hidden)]
pub fn composite_by_definition(composite: &Composite, x: &Tensor, t: &Tensor) -> Option<Tensor> {
    super::push_through(|x| define(composite, x), x, t)
}
