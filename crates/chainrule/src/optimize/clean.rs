//! Merging equal operations and removing unused ones.

use super::inside;
use crate::program::{Kind, Program, Value};
use crate::tensor::{Binary, Compare, Op};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Operations with the same operands become one; those of different recomputed regions stay apart.
pub(super) fn merge_equal(mut program: Program) -> Program {
    inside(&mut program, merge_equal);
    let mut same: Vec<Value> = (0..program.types.len() as Value).collect();
    let mut seen: FxHashMap<(Op, SmallVec<[Value; 3]>, u32), Value> = FxHashMap::default();
    let instructions = std::mem::take(&mut program.instructions);
    for mut instruction in instructions {
        instruction.inputs.iter_mut().for_each(|value| *value = same[*value as usize]);
        if let Kind::Op(op) = &instruction.kind {
            let mut operands = instruction.inputs.clone();
            if commutes(op) {
                operands.sort_unstable();
            }
            let key = (op.clone(), operands, instruction.region);
            let first = *seen.entry(key).or_insert(instruction.outputs[0]);
            if first != instruction.outputs[0] {
                for (i, &value) in instruction.outputs.iter().enumerate() {
                    same[value as usize] = first + i as Value;
                }
                continue;
            }
        }
        program.instructions.push(instruction);
    }
    program.outputs.iter_mut().for_each(|value| *value = same[*value as usize]);
    program
}

/// Whether the order of the operands is without meaning, in floating point too.
fn commutes(op: &Op) -> bool {
    let binary = matches!(op, Op::Binary(binary) if !matches!(binary, Binary::Sub | Binary::Div | Binary::Pow));
    binary || matches!(op, Op::Compare(Compare::Equal))
}

/// Operations none of whose values is used vanish, and the outputs of loops and fused operations that nobody reads.
pub(super) fn remove_unused(mut program: Program) -> Program {
    let mut used = vec![false; program.types.len()];
    program.outputs.iter().for_each(|&value| used[value as usize] = true);
    for instruction in program.instructions.iter_mut().rev() {
        if !instruction.outputs.iter().any(|&value| used[value as usize]) {
            continue;
        }
        instruction.inputs.iter().for_each(|&value| used[value as usize] = true);
        let needed = match &instruction.kind {
            Kind::Scan(dims, _) => dims.carries,
            _ => 0,
        };
        if let Kind::Scan(_, body) | Kind::Fused(body) = &mut instruction.kind {
            let kept = |i: usize| i < needed || used[instruction.outputs[i] as usize];
            body.outputs = (0..body.outputs.len()).filter(|&i| kept(i)).map(|i| body.outputs[i]).collect();
            instruction.outputs =
                (0..instruction.outputs.len()).filter(|&i| kept(i)).map(|i| instruction.outputs[i]).collect();
        }
    }
    program.instructions.retain(|instruction| instruction.outputs.iter().any(|&value| used[value as usize]));
    inside(&mut program, remove_unused);
    program
}
