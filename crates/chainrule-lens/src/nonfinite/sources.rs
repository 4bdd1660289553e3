//! Which elements of its operands an element of a result is made of.
//!
//! Movements are asked by letting them move positions instead of numbers. Sums are asked by their own transposes: what
//! a cotangent at one element of the result reaches is what went into it.

use chainrule::prelude::vjp;
use chainrule::tensor::{DType, Op, Reduction, Scalar, Tensor};

/// For each operand, the row-major positions of the elements that make this element of the result.
pub(super) fn sources(op: &Op, inputs: &[Tensor], output: usize, element: usize) -> Vec<Vec<usize>> {
    match op {
        Op::Input(_) | Op::Data(_) | Op::Constant(..) | Op::Iota(..) => vec![],
        Op::Variable | Op::StopGradient | Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Cast(_) => {
            vec![vec![element]; inputs.len()]
        }
        Op::Select => {
            let yes = inputs[0].to_vec::<bool>()[element];
            let taken = |side: bool| if yes == side { vec![element] } else { vec![] };
            vec![vec![element], taken(true), taken(false)]
        }
        Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Slice(_) | Op::Pad(..) | Op::Concat(_) => {
            moved(op, inputs, inputs.len(), element)
        }
        Op::Reverse(_) | Op::Unfold(_) | Op::Gather { .. } => moved(op, inputs, 1, element),
        Op::Sort { axis, .. } => {
            let from = Tensor::apply(op.clone(), inputs).output(1);
            let at = positions(&inputs[0], 0).take_along_axis(&from, *axis as isize).to_vec::<i64>();
            vec![vec![at[element] as usize]]
        }
        Op::Reduce(_, axes) => summed(&Op::Reduce(Reduction::Sum, axes.clone()), inputs, output, element),
        Op::Cumsum { .. } | Op::Dot(_) | Op::Conv(_) | Op::Fold(_) => summed(op, inputs, output, element),
        Op::ScatterAdd { .. } => summed(op, inputs, output, element),
        // An element of a factor or solution depends on all of its matrix.
        Op::Cholesky | Op::TriangularSolve { .. } => {
            let matrix = |x: &Tensor| x.shape()[x.rank() - 2..].iter().product::<usize>().max(1);
            let result = matrix(inputs.last().expect("an operand"));
            inputs
                .iter()
                .map(|x| (element / result * matrix(x)..(element / result + 1) * matrix(x)).collect())
                .collect()
        }
        Op::ArgReduce(..) | Op::Random(..) => vec![vec![]; inputs.len()],
        Op::Scan(..) | Op::Cond(..) | Op::Call(..) | Op::Composite(_) => {
            unreachable!("{} is dissolved in a program", op.name())
        }
    }
}

/// Each element's own position, counted from a first one.
fn positions(x: &Tensor, first: usize) -> Tensor {
    (Tensor::arange(x.numel(), DType::I64) + first as i64).reshape(x.shape())
}

/// A movement of the first `data` operands.
fn moved(op: &Op, inputs: &[Tensor], data: usize, element: usize) -> Vec<Vec<usize>> {
    let mut first = 0;
    let mut starts = Vec::new();
    let numbered: Vec<Tensor> = inputs
        .iter()
        .enumerate()
        .map(|(i, x)| {
            starts.push(first);
            first += x.numel();
            if i < data { positions(x, starts[i]) } else { x.clone() }
        })
        .collect();
    let op = match op {
        Op::Pad(amounts, _) => Op::Pad(amounts.clone(), Scalar::Int(-1)),
        other => other.clone(),
    };
    let from = Tensor::apply(op, &numbered).to_vec::<i64>()[element];
    let within = |i: usize| usize::try_from(from).ok()?.checked_sub(starts[i]).filter(|&at| at < inputs[i].numel());
    (0..inputs.len()).map(|i| if i < data { within(i).into_iter().collect() } else { vec![] }).collect()
}

/// An operation that sums products: what its transpose reaches from the element with ones for all other operands.
fn summed(op: &Op, inputs: &[Tensor], output: usize, element: usize) -> Vec<Vec<usize>> {
    let ones = |x: &Tensor| if x.dtype().is_float() { Tensor::ones(x.shape(), DType::F64) } else { x.clone() };
    let all: Vec<Tensor> = inputs.iter().map(ones).collect();
    let reached = |operand: usize| {
        let apply = |x: &Tensor| {
            let mut operands = all.clone();
            operands[operand] = x.clone();
            Tensor::apply(op.clone(), &operands).output(output)
        };
        let (y, pull) = vjp(apply, &all[operand]);
        let here = Tensor::arange(y.numel(), DType::I64).equal(element as i64).cast(DType::F64).reshape(y.shape());
        let weights = pull(&here).to_vec::<f64>();
        (0..weights.len()).filter(|&i| weights[i] != 0.0).collect()
    };
    (0..inputs.len()).map(|i| if inputs[i].dtype().is_float() { reached(i) } else { vec![] }).collect()
}
