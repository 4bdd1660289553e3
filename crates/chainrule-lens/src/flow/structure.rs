//! What the expression of a loss says by its form alone: a softmax of a softmax, the terms of a sum, a sign.

use super::layers::ordered;
use crate::place::Place;
use chainrule::tensor::{Binary, Composite, Op, Tensor, Unary};

/// The operand behind movements.
fn behind(x: &Tensor) -> Tensor {
    let mut x = x.clone();
    while let Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Slice(_) | Op::Cast(_) | Op::Variable =
        x.node().op()
    {
        x = x.node().inputs()[0].clone();
    }
    x
}

fn is_probability(x: &Tensor) -> bool {
    matches!(
        behind(x).node().op(),
        Op::Composite(Composite::Softmax(_) | Composite::LogSoftmax(_)) | Op::Unary(Unary::Sigmoid)
    )
}

/// The lines where a log-softmax is applied to what is a probability already. A log-softmax of a log-softmax is itself,
/// so only the first kind counts.
pub(super) fn double_softmax(value: &Tensor) -> Vec<Place> {
    let twice = |x: &Tensor| {
        let softmax = matches!(x.node().op(), Op::Composite(Composite::LogSoftmax(_) | Composite::LogSumExp(_)));
        let probability =
            |x: &Tensor| is_probability(x) && !matches!(behind(x).node().op(), Op::Composite(Composite::LogSoftmax(_)));
        softmax && probability(&x.node().inputs()[0])
    };
    ordered(value).iter().filter(|x| twice(x)).map(|x| x.node().origin().into()).collect()
}

/// The softmaxes whose result is used as weights, and the width of each: attention.
pub(super) fn softmaxes(value: &Tensor) -> Vec<Tensor> {
    let is = |x: &&Tensor| matches!(x.node().op(), Op::Composite(Composite::Softmax(_)));
    let nodes = ordered(value);
    let used = |x: &Tensor| {
        let id = x.node().id();
        let by_dot = |y: &&Tensor| matches!(y.node().op(), Op::Dot(_));
        nodes.iter().filter(by_dot).any(|y| y.node().inputs().iter().any(|input| behind(input).node().id() == id))
    };
    nodes.iter().filter(is).filter(|x| used(x)).cloned().collect()
}

/// Whether the value contains the logarithm of a likelihood.
pub(super) fn has_log_likelihood(value: &Tensor) -> bool {
    ordered(value)
        .iter()
        .any(|x| matches!(x.node().op(), Op::Composite(Composite::LogSoftmax(_) | Composite::Softplus)))
}

/// The terms that the value is the sum of, with their lines; one if it is no sum.
pub(super) fn terms(value: &Tensor) -> Vec<(Tensor, Place)> {
    let mut pending = vec![value.clone()];
    let mut terms = Vec::new();
    while let Some(x) = pending.pop() {
        match x.node().op() {
            Op::Binary(Binary::Add) if x.numel() == 1 && terms.len() + pending.len() < 16 => {
                pending.extend(x.node().inputs().iter().cloned());
            }
            _ => terms.push((x.clone(), x.node().origin().into())),
        }
    }
    terms
}
