//! Fusing elementwise operations over one shape into one pass over memory.
//!
//! Walking down the program, an operation joins the groups that its operands belong to, as long as nothing outside
//! has read those groups: then the whole group can run where its last member stands. Numbers go into every group
//! that uses them.

use super::inside;
use crate::program::{Instruction, Kind, Program, Value};
use crate::tensor::{Op, Shape, Type};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// More members than this make a group of many elements spill out of the first-level cache.
const MEMBERS: usize = 256;

pub(super) fn fuse(mut program: Program) -> Program {
    inside(&mut program, fuse);
    let groups = Groups::of(&program);
    rebuild(program, groups)
}

/// Which group each instruction is in.
struct Groups {
    /// For each instruction, the group it was put into, to be followed to its root.
    of: Vec<Option<usize>>,
    parent: Vec<usize>,
    /// Whether something outside has read the group.
    sealed: Vec<bool>,
    members: Vec<usize>,
}

impl Groups {
    fn of(program: &Program) -> Groups {
        let mut maker: Vec<Option<usize>> = vec![None; program.types.len()];
        let mut groups =
            Groups { of: vec![None; program.instructions.len()], parent: vec![], sealed: vec![], members: vec![] };
        for (position, instruction) in program.instructions.iter().enumerate() {
            let number = matches!(instruction.kind, Kind::Op(Op::Constant(..)));
            let elementwise = matches!(&instruction.kind, Kind::Op(op) if op.is_elementwise()) && !number;
            let mut joined: SmallVec<[usize; 3]> = SmallVec::new();
            for &value in &instruction.inputs {
                let Some(group) = maker[value as usize].and_then(|from| groups.of[from]).map(|g| groups.root(g)) else {
                    continue;
                };
                let shape = |value: Value| &program.ty(value).shape;
                let fits = elementwise
                    && !groups.sealed[group]
                    && shape(value) == shape(instruction.outputs[0])
                    && (groups.members[group] < MEMBERS || program.ty(value).numel() <= 16);
                if fits {
                    joined.push(group);
                } else {
                    groups.sealed[group] = true;
                }
            }
            // Sealing one operand's group may seal another that had been joined: then it is an outside operand.
            joined.retain(|group| !groups.sealed[*group]);
            if elementwise {
                let group = groups.join(&joined);
                groups.of[position] = Some(group);
                groups.members[group] += 1;
            }
            instruction.outputs.iter().for_each(|&value| maker[value as usize] = Some(position));
        }
        groups
    }

    fn root(&mut self, mut group: usize) -> usize {
        while self.parent[group] != group {
            self.parent[group] = self.parent[self.parent[group]];
            group = self.parent[group];
        }
        group
    }

    fn join(&mut self, groups: &[usize]) -> usize {
        let Some(&first) = groups.first() else {
            self.parent.push(self.parent.len());
            self.sealed.push(false);
            self.members.push(0);
            return self.parent.len() - 1;
        };
        let first = self.root(first);
        for &other in &groups[1..] {
            let other = self.root(other);
            if other != first {
                self.parent[other] = first;
                self.members[first] += self.members[other];
            }
        }
        first
    }
}

fn rebuild(program: Program, mut groups: Groups) -> Program {
    let Program { name, inputs, instructions, outputs, types } = program;
    let roots: Vec<Option<usize>> = (0..instructions.len()).map(|i| groups.of[i].map(|g| groups.root(g))).collect();
    let mut members: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
    for (position, root) in roots.iter().enumerate() {
        if let Some(root) = root {
            members.entry(*root).or_default().push(position);
        }
    }
    let mut maker: Vec<Option<usize>> = vec![None; types.len()];
    for (position, instruction) in instructions.iter().enumerate() {
        instruction.outputs.iter().for_each(|&value| maker[value as usize] = Some(position));
    }
    // A member's value leaves its group if anything outside reads it.
    let mut leaves = vec![false; types.len()];
    outputs.iter().for_each(|&value| leaves[value as usize] = true);
    for (position, instruction) in instructions.iter().enumerate() {
        for &value in &instruction.inputs {
            let from = maker[value as usize].and_then(|from| roots[from]);
            if from != roots[position] {
                leaves[value as usize] = true;
            }
        }
    }
    let context = Context { instructions: &instructions, types: &types, maker: &maker, leaves: &leaves };
    let mut fused = Vec::with_capacity(instructions.len());
    for (position, instruction) in instructions.iter().enumerate() {
        match roots[position] {
            None => fused.push(instruction.clone()),
            Some(root) if members[&root].last() == Some(&position) => {
                let group = &members[&root];
                fused.push(if group.len() == 1 && !context.takes_numbers(instruction) {
                    instruction.clone()
                } else {
                    context.fused(group)
                });
            }
            Some(_) => {}
        }
    }
    let program = Program { name, inputs, instructions: fused, outputs, types };
    super::clean::remove_unused(program)
}

struct Context<'a> {
    instructions: &'a [Instruction],
    types: &'a [Type],
    maker: &'a [Option<usize>],
    leaves: &'a [bool],
}

impl Context<'_> {
    fn number(&self, value: Value) -> Option<&Op> {
        match &self.instructions[self.maker[value as usize]?].kind {
            Kind::Op(op @ Op::Constant(..)) => Some(op),
            _ => None,
        }
    }

    fn takes_numbers(&self, instruction: &Instruction) -> bool {
        instruction.inputs.iter().any(|&value| self.number(value).is_some())
    }

    /// One instruction for a group of members.
    fn fused(&self, group: &[usize]) -> Instruction {
        let mut body = Program { name: "fused".into(), ..Default::default() };
        let mut inner: FxHashMap<Value, Value> = FxHashMap::default();
        let mut inputs: SmallVec<[Value; 3]> = SmallVec::new();
        let mut outputs: SmallVec<[Value; 1]> = SmallVec::new();
        let last = &self.instructions[group[group.len() - 1]];
        let shape: &Shape = &self.types[last.outputs[0] as usize].shape;
        for &member in group {
            let instruction = &self.instructions[member];
            for &value in &instruction.inputs {
                if inner.contains_key(&value) {
                    continue;
                }
                let ty = self.types[value as usize].clone();
                debug_assert_eq!(ty.shape, *shape, "members work over one shape");
                let local = body.add_value(ty);
                inner.insert(value, local);
                match self.number(value) {
                    Some(op) => body.instructions.push(Instruction {
                        kind: Kind::Op(op.clone()),
                        inputs: SmallVec::new(),
                        outputs: smallvec::smallvec![local],
                        origin: instruction.origin,
                        region: 0,
                    }),
                    None => {
                        body.inputs.push((format!("in.{}", inputs.len()), local));
                        inputs.push(value);
                    }
                }
            }
            let value = instruction.outputs[0];
            let local = body.add_value(self.types[value as usize].clone());
            inner.insert(value, local);
            body.instructions.push(Instruction {
                kind: instruction.kind.clone(),
                inputs: instruction.inputs.iter().map(|value| inner[value]).collect(),
                outputs: smallvec::smallvec![local],
                origin: instruction.origin,
                region: 0,
            });
            if self.leaves[value as usize] {
                body.outputs.push(local);
                outputs.push(value);
            }
        }
        Instruction { kind: Kind::Fused(Box::new(body)), inputs, outputs, origin: last.origin, region: last.region }
    }
}
