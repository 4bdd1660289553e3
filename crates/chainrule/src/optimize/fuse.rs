//! Fusing elementwise operations over one shape into one pass over memory, with what joins and spreads its rows.
//!
//! Walking down the program, an operation joins the groups that its operands belong to, as long as nothing outside
//! has read those groups: then the whole group can run where its last member stands. Numbers go into every group
//! that uses them. A reduction along the last axes is a member too, and so is what is done with its results and their
//! broadcast back over the rows (`program/rows.rs` has the rule): softmax and the norms are one pass each. A reduction over
//! examples and planes is taken apart into that of planes, which joins what makes them, and that of the few sums.

use super::inside;
use crate::program::{Instruction, Kind, Program, Space, Value};
use crate::tensor::{DType, Op, Type};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// More members than this make a group of many elements spill out of the first-level cache.
const MEMBERS: usize = 256;
/// Elements of the rows that are worth joining in a group: longer ones leave the cache, and short ones are better joined
/// many at a time, unless there are few in all.
const ROW: std::ops::RangeInclusive<usize> = 16..=2048;
const FEW: usize = 4096;
/// Elements of what may wait for its reader: sums of planes, and what is made of them.
const SMALL: usize = 1 << 14;

pub(super) fn fuse(mut program: Program) -> Program {
    inside(&mut program, fuse);
    let program = take_apart(program);
    let groups = Groups::of(&program, |_, _| false);
    rebuild(program, groups)
}

/// Reductions over the last axes and others, each as one of rows and one of what the rows gave. Sums of 16-bit floats stay
/// whole: what is between the two would be rounded. The second and what is small and follows from it wait until they are
/// needed: sums of one pass are all taken before one of them is read.
fn take_apart(mut program: Program) -> Program {
    let mut waiting = Waiting::default();
    for instruction in std::mem::take(&mut program.instructions) {
        if let Some([rows, rest]) = parts(&program, &instruction) {
            let input = program.ty(instruction.inputs[0]);
            let lead = input.shape.len() - along(&rows);
            let between = program.add_value(Type { dtype: input.dtype, shape: input.shape[..lead].into() });
            waiting.release(&instruction.inputs, &mut program.instructions);
            program.instructions.push(Instruction { outputs: smallvec::smallvec![between], ..rows });
            waiting.hold(Instruction { inputs: smallvec::smallvec![between], ..rest });
            continue;
        }
        let small = |value: &Value| program.ty(*value).numel() <= SMALL;
        let waits = is_move(&instruction) || instruction.inputs.iter().chain(&instruction.outputs).all(small);
        if matches!(instruction.kind, Kind::Op(_)) && waits && waiting.has_any(&instruction.inputs) {
            waiting.hold(instruction);
        } else {
            waiting.release(&instruction.inputs, &mut program.instructions);
            program.instructions.push(instruction);
        }
    }
    program.instructions.extend(waiting.all.into_iter().flatten());
    program
}

/// A reduction as one of rows and one of what the rows give, if it is worth it.
fn parts(program: &Program, instruction: &Instruction) -> Option<[Instruction; 2]> {
    let Kind::Op(Op::Reduce(reduction, axes)) = &instruction.kind else { return None };
    let ty = program.ty(instruction.inputs[0]);
    let last = (0..ty.shape.len()).rev();
    let across = axes.iter().rev().zip(last).take_while(|(axis, last)| **axis == *last).count();
    let apart = across > 0 && across < axes.len() && matches!(ty.dtype, DType::F32 | DType::F64);
    let (rest, rows) = axes.split_at(axes.len() - across);
    let part =
        |axes: &[usize]| Instruction { kind: Kind::Op(Op::Reduce(*reduction, axes.into())), ..instruction.clone() };
    (apart && has_rows(&Space { shape: ty.shape.clone(), across })).then(|| [part(rows), part(rest)])
}

/// Instructions that are put off until one of their values is read.
#[derive(Default)]
struct Waiting {
    all: Vec<Option<Instruction>>,
    /// Which of them makes a value.
    maker: FxHashMap<Value, usize>,
}

impl Waiting {
    fn hold(&mut self, instruction: Instruction) {
        instruction.outputs.iter().for_each(|&value| {
            self.maker.insert(value, self.all.len());
        });
        self.all.push(Some(instruction));
    }

    fn has_any(&self, values: &[Value]) -> bool {
        values.iter().any(|value| self.maker.contains_key(value))
    }

    /// Moves those that these values need, in their order.
    fn release(&mut self, values: &[Value], to: &mut Vec<Instruction>) {
        let mut needed: SmallVec<[usize; 8]> = SmallVec::new();
        let mut pending: SmallVec<[Value; 8]> = values.into();
        while let Some(value) = pending.pop() {
            let Some(place) = self.maker.remove(&value) else { continue };
            if let Some(instruction) = &self.all[place] {
                pending.extend(instruction.inputs.iter().copied());
                needed.push(place);
            }
        }
        needed.sort_unstable();
        needed.dedup();
        to.extend(needed.into_iter().filter_map(|place| self.all[place].take()));
    }
}

/// Fuses a fused program whose instructions have changed; bodies are as they were. Groups with 16-bit floats or with rows
/// that are joined stay as they are: what is rounded and in which order is added depends on where a group ends.
pub(super) fn fuse_again(program: Program) -> Program {
    let program = dissolve(program);
    let groups = Groups::of(&program, |program, instruction| !is_free(program, instruction));
    rebuild(program, groups)
}

/// Whether an instruction gives the same bits in any group.
fn is_free(program: &Program, instruction: &Instruction) -> bool {
    let elementwise = matches!(&instruction.kind, Kind::Op(op) if op.is_elementwise());
    elementwise && !instruction.inputs.iter().chain(&instruction.outputs).any(|&value| half(program.ty(value)))
}

fn half(ty: &Type) -> bool {
    ty.dtype.is_float() && ty.dtype.size() == 2
}

/// The operations of a fused program, one by one again, where their groups stood.
fn dissolve(program: Program) -> Program {
    let Program { name, inputs, instructions, outputs, mut types } = program;
    let mut single = Vec::with_capacity(instructions.len());
    for instruction in instructions {
        let body = match &instruction.kind {
            Kind::Fused(body) if body.instructions.iter().all(|member| is_free(body, member)) => body,
            _ => {
                single.push(instruction);
                continue;
            }
        };
        let mut outer: FxHashMap<Value, Value> =
            body.inputs.iter().map(|(_, value)| *value).zip(instruction.inputs.iter().copied()).collect();
        outer.extend(body.outputs.iter().copied().zip(instruction.outputs.iter().copied()));
        for member in &body.instructions {
            let mut name = |value: &Value| {
                *outer.entry(*value).or_insert_with(|| {
                    types.push(body.ty(*value).clone());
                    (types.len() - 1) as Value
                })
            };
            let (inputs, outputs) =
                (member.inputs.iter().map(&mut name).collect(), member.outputs.iter().map(&mut name).collect());
            single.push(Instruction { inputs, outputs, region: instruction.region, ..member.clone() });
        }
    }
    Program { name, inputs, instructions: single, outputs, types }
}

/// Which group each instruction is in.
struct Groups {
    /// For each instruction, the group it was put into, to be followed to its root.
    of: Vec<Option<usize>>,
    parent: Vec<usize>,
    /// What each group works over; its rows have no axes yet where nothing is done with rows.
    space: Vec<Space>,
    /// Whether something outside has read the group.
    sealed: Vec<bool>,
    members: Vec<usize>,
}

impl Groups {
    /// The groups of a program, of instructions that are not to be left alone.
    fn of(program: &Program, left: fn(&Program, &Instruction) -> bool) -> Groups {
        let mut maker: Vec<Option<usize>> = vec![None; program.types.len()];
        let mut groups = Groups {
            of: vec![None; program.instructions.len()],
            parent: vec![],
            space: vec![],
            sealed: vec![],
            members: vec![],
        };
        for (position, instruction) in program.instructions.iter().enumerate() {
            let free = !left(program, instruction);
            let mut joined: SmallVec<[usize; 3]> = SmallVec::new();
            for &value in &instruction.inputs {
                let Some(group) = maker[value as usize].and_then(|from| groups.of[from]).map(|g| groups.root(g)) else {
                    continue;
                };
                let room = groups.members[group] < MEMBERS || program.ty(value).numel() <= 16;
                if free && room && !groups.sealed[group] && joins(program, instruction, &groups.space[group]) {
                    joined.push(group);
                } else {
                    groups.sealed[group] = true;
                }
            }
            // All over one space: a group over rows alone is an outside operand of the one that has the rows.
            let size = |space: &Space| (space.shape.len(), space.across);
            if let Some(&widest) = joined.iter().max_by_key(|&&group| size(&groups.space[group])) {
                let space = groups.space[widest].clone();
                joined.iter().for_each(|&group| groups.sealed[group] |= !agree(&groups.space[group], &space));
            }
            // Sealing one operand's group may seal another that had been joined: then it is an outside operand.
            joined.retain(|group| !groups.sealed[*group]);
            let space = match joined.iter().map(|&group| &groups.space[group]).max_by_key(|space| space.across) {
                Some(space) => Some(Space { across: space.across.max(along(instruction)), ..space.clone() }),
                None => starts(program, instruction).filter(|_| free),
            };
            if let Some(space) = space {
                let group = groups.join(&joined, space);
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

    fn join(&mut self, groups: &[usize], space: Space) -> usize {
        let Some(&first) = groups.first() else {
            self.parent.push(self.parent.len());
            self.space.push(space);
            self.sealed.push(false);
            self.members.push(0);
            return self.parent.len() - 1;
        };
        let first = self.root(first);
        self.space[first] = space;
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

/// The axes that a reduction is along; 0 for what is none.
fn along(instruction: &Instruction) -> usize {
    match &instruction.kind {
        Kind::Op(Op::Reduce(_, axes)) => axes.len(),
        _ => 0,
    }
}

/// Whether two groups can be one.
fn agree(one: &Space, other: &Space) -> bool {
    one.shape == other.shape && (one.across == other.across || one.across == 0 || other.across == 0)
}

/// Whether an instruction may be a member of a group over this space.
fn joins(program: &Program, instruction: &Instruction, space: &Space) -> bool {
    let across = if space.across == 0 { along(instruction).max(1) } else { space.across };
    let space = &Space { across, ..space.clone() };
    let Kind::Op(op) = &instruction.kind else { return false };
    let inputs: SmallVec<[&Type; 3]> = instruction.inputs.iter().map(|&value| program.ty(value)).collect();
    let output = program.ty(instruction.outputs[0]);
    let by_rows = !(op.is_elementwise() && output.shape == space.shape);
    let reducible = !matches!(op, Op::Reduce(..)) || inputs[0].dtype.is_float();
    space.takes(op, &inputs, output) && (!by_rows || has_rows(space)) && reducible
}

/// Whether the rows of a space are worth a pass of their own.
fn has_rows(space: &Space) -> bool {
    let row = space.row();
    row > 1 && (ROW.contains(&row) || space.shape.iter().product::<usize>() <= FEW)
}

/// The space of the group that an instruction founds, if it can.
fn starts(program: &Program, instruction: &Instruction) -> Option<Space> {
    let shape = match &instruction.kind {
        Kind::Op(Op::Constant(..)) => return None,
        Kind::Op(Op::Reduce(..)) => &program.ty(instruction.inputs[0]).shape,
        Kind::Op(op) if op.is_elementwise() => &program.ty(instruction.outputs[0]).shape,
        _ => return None,
    };
    let space = Space { shape: shape.clone(), across: along(instruction) };
    joins(program, instruction, &space).then_some(space)
}

/// Moves of rows cost nothing outside a group.
fn is_move(instruction: &Instruction) -> bool {
    matches!(instruction.kind, Kind::Op(Op::Reshape(_) | Op::Broadcast(..)))
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
    // A member's value leaves its group if anything outside reads it, a move that is repeated outside included.
    let mut leaves = vec![false; types.len()];
    outputs.iter().for_each(|&value| leaves[value as usize] = true);
    for (position, instruction) in instructions.iter().enumerate().rev() {
        let repeated = roots[position].is_some() && is_move(instruction) && leaves[instruction.outputs[0] as usize];
        for &value in &instruction.inputs {
            let from = maker[value as usize].and_then(|from| roots[from]);
            if from != roots[position] || repeated {
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
                let moves = group.iter().filter(|&&member| is_move(&instructions[member]));
                let alone = group.len() - moves.clone().count() == 1 && !context.takes_numbers(&instructions[group[0]]);
                if alone {
                    fused.push(instructions[group[0]].clone());
                } else {
                    fused.push(context.fused(group, &groups.space[root]));
                }
                let outside = |member: &&usize| alone || leaves[instructions[**member].outputs[0] as usize];
                fused.extend(moves.filter(outside).map(|&member| instructions[member].clone()));
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
    fn fused(&self, group: &[usize], space: &Space) -> Instruction {
        let mut body = Program { name: "fused".into(), ..Default::default() };
        let mut inner: FxHashMap<Value, Value> = FxHashMap::default();
        let mut inputs: SmallVec<[Value; 3]> = SmallVec::new();
        let mut outputs: SmallVec<[Value; 1]> = SmallVec::new();
        let last = &self.instructions[group[group.len() - 1]];
        for &member in group {
            let instruction = &self.instructions[member];
            for &value in &instruction.inputs {
                if inner.contains_key(&value) {
                    continue;
                }
                let ty = self.types[value as usize].clone();
                debug_assert!(ty.shape == space.shape || space.has_row(&ty.shape), "members work over one space");
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
            if self.leaves[value as usize] && !is_move(instruction) {
                body.outputs.push(local);
                outputs.push(value);
            }
        }
        let body = super::clean::remove_unused(body);
        Instruction { kind: Kind::Fused(Box::new(body)), inputs, outputs, origin: last.origin, region: last.region }
    }
}
