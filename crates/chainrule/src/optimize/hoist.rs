//! Taking work out of loops.
//!
//! A product that a loop only adds up, as the gradient of a recurrent weight is, becomes one product over all steps after
//! the loop: Σₜ aₜ·bₜ is a contraction over t too. And a constant that is only turned before it enters is turned inside,
//! where a move costs nothing.

use super::{inside, simplify};
use crate::program::{Instruction, Kind, Program, Value};
use crate::tensor::{Binary, Dims, DotDims, Op, Origin, ScanDims, Type};
use rustc_hash::FxHashMap;
use std::sync::Arc;

pub(super) fn hoist(mut program: Program) -> Program {
    inside(&mut program, hoist);
    let mut turned: FxHashMap<Value, (Dims, Value)> = FxHashMap::default();
    let mut changed = false;
    for mut instruction in std::mem::take(&mut program.instructions) {
        if let Kind::Op(Op::Permute(axes)) = &instruction.kind {
            turned.insert(instruction.outputs[0], (axes.clone(), instruction.inputs[0]));
        }
        let mut after = Vec::new();
        if let Kind::Scan(dims, _) = instruction.kind {
            changed |= turn_inside(&program.types, &turned, dims, &mut instruction);
            after = products(&mut program.types, &mut instruction);
            changed |= !after.is_empty();
        }
        program.instructions.push(instruction);
        program.instructions.append(&mut after);
    }
    if changed { simplify::simplify(program) } else { program }
}

/// Moves the permutations of a loop's constants into its body.
fn turn_inside(
    types: &[Type],
    turned: &FxHashMap<Value, (Dims, Value)>,
    dims: ScanDims,
    instruction: &mut Instruction,
) -> bool {
    let Instruction { kind: Kind::Scan(_, body), inputs, origin, .. } = instruction else { return false };
    let mut changed = false;
    for i in dims.carries + dims.sequences..inputs.len() {
        let Some((axes, source)) = turned.get(&inputs[i]) else { continue };
        let inner = body.inputs[i].1;
        if body.inputs.iter().filter(|(_, value)| *value == inner).count() > 1 {
            continue;
        }
        let straight = body.add_value(types[*source as usize].clone());
        body.inputs[i].1 = straight;
        inputs[i] = *source;
        body.instructions.insert(0, operation(Op::Permute(axes.clone()), &[straight], inner, *origin));
        changed = true;
    }
    changed
}

fn operation(op: Op, inputs: &[Value], output: Value, origin: Origin) -> Instruction {
    Instruction { kind: Kind::Op(op), inputs: inputs.into(), outputs: smallvec::smallvec![output], origin, region: 0 }
}

/// Takes the products that a loop only adds up out of it; gives what stands after the loop instead.
fn products(types: &mut Vec<Type>, instruction: &mut Instruction) -> Vec<Instruction> {
    let mut after = Vec::new();
    let Kind::Scan(dims, _) = instruction.kind else { return after };
    for carry in (0..dims.carries).rev() {
        let Some(sum) = Sum::find(instruction, carry) else { continue };
        let Instruction { kind: Kind::Scan(dims, body), inputs, outputs, origin, region } = instruction else { break };
        let mut stack = |operand: Value| -> Value {
            let place = body.inputs.iter().position(|(_, value)| *value == operand);
            if let Some(place) = place.filter(|place| (dims.carries..dims.carries + dims.sequences).contains(place)) {
                return inputs[place];
            }
            let stacked = (dims.carries..body.outputs.len()).find(|&i| body.outputs[i] == operand);
            if let Some(stacked) = stacked {
                return outputs[stacked];
            }
            let ty = body.ty(operand);
            types.push(ty.with_shape([dims.length].into_iter().chain(ty.shape.iter().copied())));
            let value = (types.len() - 1) as Value;
            body.outputs.push(operand);
            outputs.push(value);
            value
        };
        let operands = [stack(sum.operands[0]), stack(sum.operands[1])];
        body.instructions.retain(|inner| !inner.outputs.iter().any(|value| sum.made.contains(value)));
        body.inputs.remove(carry);
        body.outputs.remove(carry);
        dims.carries -= 1;
        let (start, result) = (inputs.remove(carry), outputs.remove(carry));
        types.push(types[result as usize].clone());
        let product = (types.len() - 1) as Value;
        let mut steps = [
            operation(Op::Dot(Arc::new(sum.dims)), &operands, product, *origin),
            operation(Op::Binary(Binary::Add), &[start, product], result, *origin),
        ];
        steps.iter_mut().for_each(|step| step.region = *region);
        after.extend(steps);
    }
    after
}

/// A carry that a product is added to in every step, and nothing else.
struct Sum {
    operands: [Value; 2],
    /// Axes of the product over all steps.
    dims: DotDims,
    /// What the body need not make any more.
    made: [Value; 2],
}

impl Sum {
    fn find(instruction: &Instruction, carry: usize) -> Option<Sum> {
        let Kind::Scan(dims, body) = &instruction.kind else { return None };
        let uses = |value: Value| {
            let reads = body.instructions.iter().flat_map(|inner| &inner.inputs).chain(&body.outputs);
            reads.filter(|&&read| read == value).count()
        };
        let maker = |value: Value| body.instructions.iter().find(|inner| inner.outputs.contains(&value));
        let (before, total) = (body.inputs[carry].1, body.outputs[carry]);
        let entered = body.inputs.iter().filter(|(_, value)| *value == before).count();
        if entered != 1 || uses(before) != 1 || uses(total) != 1 || !body.ty(total).dtype.is_float() {
            return None;
        }
        let add = maker(total).filter(|inner| matches!(inner.kind, Kind::Op(Op::Binary(Binary::Add))))?;
        let term = match add.inputs[..] {
            [a, b] if a == before => b,
            [a, b] if b == before => a,
            _ => return None,
        };
        let product = maker(term).filter(|_| uses(term) == 1)?;
        let Kind::Op(Op::Dot(inner)) = &product.kind else { return None };
        let operands = [product.inputs[0], product.inputs[1]];
        // A constant of the loop would have to be repeated for every step.
        let constants = dims.carries + dims.sequences..body.inputs.len();
        let constant = |value: &Value| body.inputs[constants.clone()].iter().any(|(_, input)| input == value);
        if operands.iter().any(constant) {
            return None;
        }
        let later = |axes: &Dims| -> Dims { axes.iter().map(|axis| axis + 1).collect() };
        let over_steps = |axes: &Dims| -> Dims { std::iter::once(0).chain(later(axes)).collect() };
        let dims = DotDims {
            lhs_batch: later(&inner.lhs_batch),
            rhs_batch: later(&inner.rhs_batch),
            lhs_contract: over_steps(&inner.lhs_contract),
            rhs_contract: over_steps(&inner.rhs_contract),
        };
        Some(Sum { operands, dims, made: [total, term] })
    }
}
