//! Where a function has no derivative, or gives one up.

use super::report::Kink;
use crate::place::{Place, numbers};
use crate::replay::Replay;
use chainrule::program::{Kind, Program};
use chainrule::tensor::{Binary, Op, Reduction, Tensor, Unary};
use std::collections::HashSet;

/// The user's operations that stand exactly on a kink for these arguments, with the number of elements that do.
pub(super) fn at(program: &Program, arguments: &[Tensor]) -> Vec<Kink> {
    let Ok(replay) = Replay::run(program, arguments) else { return vec![] };
    let mut kinks = Vec::new();
    for instruction in program.instructions.iter().filter(|i| i.origin.derivation.is_none()) {
        let Kind::Op(op) = &instruction.kind else { continue };
        let operand = |i: usize| numbers(replay.value(instruction.inputs[i]));
        let equal = || operand(0).iter().zip(operand(1)).filter(|(a, b)| *a == b).count();
        let elements = match op {
            Op::Compare(_) if replay.value(instruction.inputs[0]).dtype().is_float() => equal(),
            Op::Binary(Binary::Max | Binary::Min) => equal(),
            Op::Unary(Unary::Abs) => operand(0).iter().filter(|&&x| x == 0.0).count(),
            Op::Reduce(Reduction::Max | Reduction::Min, axes) => {
                let x = replay.value(instruction.inputs[0]);
                let y = replay.value(instruction.outputs[0]);
                let kept: Vec<usize> =
                    x.shape().iter().enumerate().map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect();
                let ties = numbers(&x.equal(y.reshape(kept)).cast(y.dtype()).sum(&axes[..]));
                ties.iter().filter(|&&ties| ties > 1.0).count()
            }
            _ => 0,
        };
        if elements > 0 {
            let line: Place = instruction.origin.into();
            kinks.push(Kink { operation: op.name().to_owned(), line, elements });
        }
    }
    kinks
}

/// The operations of an expression whose derivative is zero by decree, with their lines.
pub(super) fn cuts(value: &Tensor) -> Vec<(String, Place)> {
    let mut cuts = Vec::new();
    each_node(value, &mut |tensor| {
        let node = tensor.node();
        let flat = matches!(node.op(), Op::StopGradient | Op::Unary(Unary::Floor | Unary::Sign));
        let to_int = matches!(node.op(), Op::Cast(dtype) if !dtype.is_float()) && node.inputs()[0].dtype().is_float();
        if flat || to_int {
            let cut = (node.op().name().to_owned(), Place::from(node.origin()));
            if !cuts.contains(&cut) {
                cuts.push(cut);
            }
        }
    });
    cuts
}

/// Shows every node under a value once, those of bodies left out.
pub(super) fn each_node(value: &Tensor, show: &mut dyn FnMut(&Tensor)) {
    let mut seen = HashSet::new();
    let mut pending = vec![value.clone()];
    while let Some(tensor) = pending.pop() {
        if seen.insert(tensor.node().id()) {
            pending.extend(tensor.node().inputs().iter().cloned());
            show(&tensor);
        }
    }
}
