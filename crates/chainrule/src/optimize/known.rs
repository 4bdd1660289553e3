//! Recognising a few operations that one kernel does in one pass. What is recognised keeps its operations as a body, so
//! that a program still says what it means.
//!
//! Max-pooling's gradient: each window's share goes to those of its elements that equal its maximum.

use super::inside;
use crate::program::{Instruction, Kind, Known, Program, Value};
use crate::tensor::{Binary, Compare, DType, Op, Reduction, Windows};
use rustc_hash::FxHashMap;
use std::sync::Arc;

pub(super) fn recognise(mut program: Program) -> Program {
    inside(&mut program, recognise);
    let mut makers = Makers { program: &program, of: vec![None; program.types.len()] };
    let mut found = Vec::new();
    for (position, instruction) in program.instructions.iter().enumerate() {
        if let Some((known, inputs)) = makers.max_pool_gradient(instruction) {
            let body = makers.body(instruction.outputs[0], position, &inputs);
            found.push((position, known, body, inputs));
        }
        instruction.outputs.iter().for_each(|&value| makers.of[value as usize] = Some(position));
    }
    for (position, known, body, inputs) in found {
        let instruction = &mut program.instructions[position];
        instruction.kind = Kind::Known(known, Box::new(body));
        instruction.inputs = inputs.into_iter().collect();
    }
    super::clean::remove_unused(program)
}

/// Which instruction makes each value so far.
struct Makers<'a> {
    program: &'a Program,
    of: Vec<Option<usize>>,
}

impl Makers<'_> {
    fn by(&self, value: Value) -> Option<(&Op, &[Value])> {
        let instruction = &self.program.instructions[self.of[value as usize]?];
        match &instruction.kind {
            Kind::Op(op) => Some((op, &instruction.inputs)),
            _ => None,
        }
    }

    /// The value that is repeated over each window to make this one.
    fn repeated(&self, value: Value, windows: &Windows) -> Option<Value> {
        let (Op::Broadcast(..), [small]) = self.by(value)? else { return None };
        let (Op::Reshape(_), [inner]) = self.by(*small)? else { return None };
        let (small, shape) = (&self.program.ty(*small).shape, &self.program.ty(*inner).shape);
        let rank = shape.len();
        let space = windows.size.len();
        let same = small.len() == rank + space && small[..rank] == shape[..] && small[rank..].iter().all(|&n| n == 1);
        (same && self.program.ty(value).shape[..rank] == shape[..]).then_some(*inner)
    }

    /// The operands x, maxima, gradient of a fold that shares the gradient among the maxima of windows.
    fn max_pool_gradient(&self, fold: &Instruction) -> Option<(Known, Vec<Value>)> {
        let Kind::Op(Op::Fold(windows)) = &fold.kind else { return None };
        let float = matches!(self.program.ty(fold.outputs[0]).dtype, DType::F32 | DType::F64);
        if !float || windows.size.is_empty() {
            return None;
        }
        let (Op::Select, [equal, share, zero]) = self.by(fold.inputs[0])? else { return None };
        let Op::Constant(number, _) = self.by(*zero)?.0 else { return None };
        let share = self.repeated(*share, windows)?;
        let (Op::Binary(Binary::Div), [gradient, count]) = self.by(share)? else { return None };
        let (Op::Reduce(Reduction::Sum, axes), [ones]) = self.by(*count)? else { return None };
        let (Op::Cast(_), [counted]) = self.by(*ones)? else { return None };
        let (Op::Compare(Compare::Equal), [a, b]) = self.by(*equal)? else { return None };
        let windows_of = |value: Value| match self.by(value)? {
            (Op::Unfold(same), [x]) if same == windows => Some(*x),
            _ => None,
        };
        let (x, maxima) = match (windows_of(*a), windows_of(*b)) {
            (Some(x), _) => (x, self.repeated(*b, windows)?),
            (None, Some(x)) => (x, self.repeated(*a, windows)?),
            (None, None) => return None,
        };
        let rank = self.program.ty(*equal).shape.len();
        let over = (rank - windows.size.len()..rank).eq(axes.iter().copied());
        let fits = number.as_f64() == 0.0 && counted == equal && over;
        fits.then(|| (Known::MaxPoolGradient(Arc::clone(windows)), vec![x, maxima, *gradient]))
    }

    /// The instructions from `inputs` to a value made at `position`, as a program.
    fn body(&self, output: Value, position: usize, inputs: &[Value]) -> Program {
        let program = self.program;
        let mut body = Program { name: "known".into(), ..Default::default() };
        let mut inner: FxHashMap<Value, Value> = FxHashMap::default();
        for (i, &value) in inputs.iter().enumerate() {
            let local = body.add_value(program.ty(value).clone());
            inner.insert(value, local);
            body.inputs.push((format!("in.{i}"), local));
        }
        let mut needed = vec![position];
        let mut pending = vec![position];
        while let Some(at) = pending.pop() {
            for value in program.instructions[at].inputs.iter().filter(|value| !inner.contains_key(value)) {
                let maker = self.of[*value as usize].expect("a recognised value is made here or an operand");
                if !needed.contains(&maker) {
                    needed.push(maker);
                    pending.push(maker);
                }
            }
        }
        needed.sort_unstable();
        for at in needed {
            let mut instruction = program.instructions[at].clone();
            instruction.inputs.iter_mut().for_each(|value| *value = inner[value]);
            for value in &mut instruction.outputs {
                let local = body.add_value(program.ty(*value).clone());
                inner.insert(*value, local);
                *value = local;
            }
            instruction.region = 0;
            body.instructions.push(instruction);
        }
        body.outputs.push(inner[&output]);
        body
    }
}
