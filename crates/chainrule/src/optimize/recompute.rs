//! Computing again what would be kept: a pass over memory costs more than a few operations on what is read anyway.
//!
//! The backward pass reads values that the forward pass wrote for it alone. Where such a value is an elementwise function
//! of what its reader has, or of something no larger, the reader computes it in its own pass and nobody writes it: GELU's
//! forward pass writes its result and nothing else.

use super::{clean, inside};
use crate::program::{Instruction, Kind, Program, Space, Value};
use crate::tensor::{Binary, Op, Shape, Unary};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// Values of fewer elements stay in the cache, where reading them again is free.
const LEAST: usize = 1 << 13;
/// What a byte that is neither written nor read again is worth, in [`cost`]s of an element.
const BYTE: usize = 4;

/// The work of an operation on an element, where an addition is 1.
fn cost(op: &Op) -> usize {
    match op {
        Op::Constant(..) => 0,
        Op::Unary(Unary::Neg | Unary::Abs | Unary::Sign | Unary::Floor | Unary::Not) => 1,
        Op::Unary(Unary::Sqrt) | Op::Binary(Binary::Div) => 3,
        Op::Unary(_) => 10,
        Op::Binary(Binary::Pow) => 40,
        _ => 1,
    }
}

pub(super) fn recompute(mut program: Program) -> Program {
    inside(&mut program, recompute);
    let mut values = Values::of(&program);
    for position in 0..program.instructions.len() {
        let Kind::Fused(body) = &program.instructions[position].kind else { continue };
        let space = Space::of(body).shape;
        if space.iter().product::<usize>() < LEAST {
            continue;
        }
        let mut producers: SmallVec<[usize; 4]> =
            program.instructions[position].inputs.iter().filter_map(|&value| values.maker[value as usize]).collect();
        producers.sort_unstable();
        producers.dedup();
        for from in producers {
            if let Some(again) = Again::plan(&program, &values, from, position, &space) {
                again.carry_out(&mut program, &mut values);
            }
        }
    }
    clean::remove_unused(program)
}

/// Who makes and who reads each value.
struct Values {
    maker: Vec<Option<usize>>,
    readers: Vec<u32>,
    /// The last position that reads it; results are read after all.
    last: Vec<usize>,
}

impl Values {
    fn of(program: &Program) -> Values {
        let count = program.types.len();
        let mut values = Values { maker: vec![None; count], readers: vec![0; count], last: vec![0; count] };
        for (position, instruction) in program.instructions.iter().enumerate() {
            for &value in &instruction.inputs {
                values.readers[value as usize] += 1;
                values.last[value as usize] = position;
            }
            instruction.outputs.iter().for_each(|&value| values.maker[value as usize] = Some(position));
        }
        for &value in &program.outputs {
            values.readers[value as usize] += 1;
            values.last[value as usize] = usize::MAX;
        }
        // Inputs are there as long as the program runs.
        program.inputs.iter().for_each(|(_, value)| values.last[*value as usize] = usize::MAX);
        values
    }
}

/// Values that one fused instruction makes for another, to be computed by the latter.
struct Again {
    from: usize,
    position: usize,
    /// The values, as the program numbers them.
    spared: SmallVec<[Value; 4]>,
    /// Members of the maker's body that are done again, in order.
    members: Vec<usize>,
    /// Where those find what they do not make: the maker's number and the program's.
    leaves: Vec<(Value, Value)>,
}

impl Again {
    fn plan(program: &Program, values: &Values, from: usize, position: usize, space: &Shape) -> Option<Again> {
        let (maker, reader) = (&program.instructions[from], &program.instructions[position]);
        let Kind::Fused(body) = &maker.kind else { return None };
        let spared: SmallVec<[Value; 4]> = maker
            .outputs
            .iter()
            .copied()
            .filter(|&value| values.readers[value as usize] == 1 && reader.inputs.contains(&value))
            .filter(|&value| program.ty(value).shape == *space)
            .collect();
        if spared.is_empty() {
            return None;
        }
        let outside: FxHashMap<Value, Value> =
            body.inputs.iter().map(|(_, inner)| *inner).zip(maker.inputs.iter().copied()).collect();
        let inner: FxHashMap<Value, Value> = body.outputs.iter().copied().zip(maker.outputs.iter().copied()).collect();
        let mut made: FxHashMap<Value, usize> = FxHashMap::default();
        body.instructions.iter().enumerate().for_each(|(i, member)| {
            made.insert(member.outputs[0], i);
        });
        let mut again = Again { from, position, spared, members: Vec::new(), leaves: Vec::new() };
        let mut pending: Vec<Value> =
            body.outputs.iter().copied().filter(|value| again.spared.contains(&inner[value])).collect();
        let mut work = 0;
        while let Some(value) = pending.pop() {
            let there =
                inner.get(&value).filter(|there| !again.spared.contains(there) && reader.inputs.contains(there));
            if let Some(&leaf) = there.or(outside.get(&value)) {
                if !again.leaves.iter().any(|&(known, _)| known == value) {
                    again.leaves.push((value, leaf));
                }
            } else if !again.members.contains(&made[&value]) {
                let member = &body.instructions[made[&value]];
                let Kind::Op(op) = &member.kind else { return None };
                if !op.is_elementwise() {
                    return None;
                }
                work += cost(op);
                again.members.push(made[&value]);
                pending.extend(&member.inputs);
            }
        }
        again.members.sort_unstable();
        again.pays(program, values, work).then_some(again)
    }

    /// Whether less memory is touched and kept, and the work is worth it.
    fn pays(&self, program: &Program, values: &Values, work: usize) -> bool {
        let reader = &program.instructions[self.position];
        let bytes = |value: Value| program.ty(value).bytes();
        let spared: usize = self.spared.iter().map(|&value| bytes(value)).sum();
        let fresh = || self.leaves.iter().map(|&(_, leaf)| leaf).filter(|leaf| !reader.inputs.contains(leaf));
        let read: usize = fresh().map(bytes).sum();
        let kept: usize = fresh().filter(|&leaf| values.last[leaf as usize] < self.position).map(bytes).sum();
        let elements = program.ty(self.spared[0]).numel();
        // What is not written and read again, and one more reading if a leaf is read instead.
        let gain = (2 * spared).saturating_sub(read);
        kept <= spared && read <= spared && work * elements <= gain * BYTE
    }

    fn carry_out(self, program: &mut Program, values: &mut Values) {
        let Kind::Fused(maker) = program.instructions[self.from].kind.clone() else { unreachable!("planned") };
        let made: FxHashMap<Value, Value> =
            program.instructions[self.from].outputs.iter().copied().zip(maker.outputs.iter().copied()).collect();
        let reader = program.instructions[self.position].clone();
        let Kind::Fused(old) = reader.kind else { unreachable!("planned") };
        let kept = reader.inputs.iter().copied().filter(|value| !self.spared.contains(value));
        let mut inputs: SmallVec<[Value; 3]> = kept.collect();
        for &(_, leaf) in &self.leaves {
            if !inputs.contains(&leaf) {
                inputs.push(leaf);
                values.readers[leaf as usize] += 1;
                values.last[leaf as usize] = values.last[leaf as usize].max(self.position);
            }
        }
        let mut body = Program { name: "fused".into(), ..Default::default() };
        let mut local: FxHashMap<Value, Value> = FxHashMap::default();
        for (i, &value) in inputs.iter().enumerate() {
            let inner = body.add_value(program.ty(value).clone());
            body.inputs.push((format!("in.{i}"), inner));
            local.insert(value, inner);
        }
        let leaves = self.leaves.iter().map(|&(inner, leaf)| (inner, local[&leaf])).collect();
        let again = append(&mut body, &maker, self.members.iter().map(|&i| &maker.instructions[i]), leaves);
        let known = reader.inputs.iter().map(|value| match local.get(value) {
            Some(&inner) => inner,
            None => again[&made[value]],
        });
        let known = old.inputs.iter().map(|(_, inner)| *inner).zip(known).collect();
        let rest = append(&mut body, &old, old.instructions.iter(), known);
        body.outputs = old.outputs.iter().map(|value| rest[value]).collect();
        let body = clean::merge_equal(body);
        self.spared.iter().for_each(|&value| values.readers[value as usize] = 0);
        program.instructions[self.position].kind = Kind::Fused(Box::new(body));
        program.instructions[self.position].inputs = inputs;
    }
}

/// Adds instructions of one body to another, and says where their values are.
fn append<'a>(
    body: &mut Program,
    from: &Program,
    members: impl Iterator<Item = &'a Instruction>,
    mut known: FxHashMap<Value, Value>,
) -> FxHashMap<Value, Value> {
    for member in members {
        let output = body.add_value(from.ty(member.outputs[0]).clone());
        body.instructions.push(Instruction {
            inputs: member.inputs.iter().map(|value| known[value]).collect(),
            outputs: smallvec::smallvec![output],
            ..member.clone()
        });
        known.insert(member.outputs[0], output);
    }
    known
}
