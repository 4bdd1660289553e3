//! Merging equal operations and removing unused ones.

use super::inside;
use crate::program::{Kind, Program, Value};
use crate::tensor::Op;
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
            let key = (op.clone(), instruction.inputs.clone(), instruction.region);
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

/// Operations none of whose values is used vanish.
pub(super) fn remove_unused(mut program: Program) -> Program {
    inside(&mut program, remove_unused);
    let mut used = vec![false; program.types.len()];
    program.outputs.iter().for_each(|&value| used[value as usize] = true);
    for instruction in program.instructions.iter().rev() {
        if instruction.outputs.iter().any(|&value| used[value as usize]) {
            instruction.inputs.iter().for_each(|&value| used[value as usize] = true);
        }
    }
    program.instructions.retain(|instruction| instruction.outputs.iter().any(|&value| used[value as usize]));
    program
}
