//! Sums of padded parts that lie beside each other: one concatenation.
//!
//! The gradient of a value that was cut in parts is such a sum.

use super::inside;
use crate::program::{Instruction, Kind, Program, Value};
use crate::tensor::{Binary, Op};

/// More parts than this are no value that was cut, but a long sum; looking at each of its ends would be quadratic.
const MOST: usize = 64;

/// A part, and where it lies along the axis.
struct Part {
    value: Value,
    axis: usize,
    low: usize,
    size: usize,
}

pub(super) fn join_parts(mut program: Program) -> Program {
    inside(&mut program, join_parts);
    let mut maker: Vec<Option<usize>> = vec![None; program.types.len()];
    let mut uses = vec![0usize; program.types.len()];
    program.outputs.iter().for_each(|&value| uses[value as usize] += 1);
    for (position, instruction) in program.instructions.iter().enumerate() {
        instruction.inputs.iter().for_each(|&value| uses[value as usize] += 1);
        instruction.outputs.iter().for_each(|&value| maker[value as usize] = Some(position));
    }
    let joined: Vec<(usize, Instruction)> = (0..program.instructions.len())
        .filter_map(|position| Some((position, joined(&program, &maker, &uses, position)?)))
        .collect();
    for (position, instruction) in joined {
        program.instructions[position] = instruction;
    }
    program
}

/// The concatenation that equals the sum at a position, if one does.
fn joined(program: &Program, maker: &[Option<usize>], uses: &[usize], position: usize) -> Option<Instruction> {
    let sum = &program.instructions[position];
    let is_sum = |instruction: &Instruction| matches!(instruction.kind, Kind::Op(Op::Binary(Binary::Add)));
    if !is_sum(sum) {
        return None;
    }
    let mut parts = Vec::new();
    let mut pending: Vec<Value> = sum.inputs.to_vec();
    while let Some(value) = pending.pop() {
        let instruction = &program.instructions[maker[value as usize]?];
        if is_sum(instruction) && uses[value as usize] == 1 {
            pending.extend(&instruction.inputs);
        } else {
            parts.push(part(program, instruction)?);
        }
        if parts.len() + pending.len() > MOST {
            return None;
        }
    }
    parts.sort_by_key(|part| part.low);
    let axis = parts[0].axis;
    let mut end = 0;
    for part in &parts {
        if part.axis != axis || part.low != end {
            return None;
        }
        end += part.size;
    }
    (end == program.ty(sum.outputs[0]).shape[axis]).then(|| Instruction {
        kind: Kind::Op(Op::Concat(axis)),
        inputs: parts.iter().map(|part| part.value).collect(),
        ..sum.clone()
    })
}

/// What a padding with zeros along one axis puts where.
fn part(program: &Program, instruction: &Instruction) -> Option<Part> {
    let Kind::Op(Op::Pad(amounts, fill)) = &instruction.kind else { return None };
    if fill.as_f64() != 0.0 {
        return None;
    }
    let mut padded = amounts.iter().enumerate().filter(|(_, amount)| **amount != (0, 0, 0));
    let ((axis, &(low, _, interior)), None) = (padded.next()?, padded.next()) else { return None };
    let value = instruction.inputs[0];
    (interior == 0).then(|| Part { value, axis, low, size: program.ty(value).shape[axis] })
}
