//! Rematerialisation: fewer values kept, some computed again, within a limit of bytes at the least extra cost.
//!
//! A pass over a fused program. It picks values whose life spans a gap (saved activations, mostly) and repeats the
//! operations that make them just before their late use, from what is alive there: the same operations over the same
//! operands, random keys among them, so no bit of a result changes. Two searches run and the cheaper result stays: dynamic
//! programming over the segments of a program that goes forth and back (`chain.rs`), and forgetting at the fullest moment,
//! over any program (`greedy.rs`). Both judge by running the program in thought (`graph.rs`): bytes alive, and work
//! counted in floating-point operations and moved bytes. Afterwards elementwise operations are fused anew, so
//! what is repeated melts into what reads it. The pass stands last: nothing merges equal operations after it.
//!
//! It refuses to reorder what is not repeated, to look into loops (a loop is one operation, repeated whole), and to know
//! where bytes lie: the planner says what a program really takes, and asks again with a lower limit (`plan/budget.rs`).

mod chain;
#[cfg(test)]
mod exact;
mod graph;
mod greedy;

use super::fuse;
use crate::program::{Instruction, Kind, Program, Value};
use crate::tensor::{Derivation, Op};
use chain::Chain;
use graph::{Choice, Graph, Held, Node, Policy, Schedule};
use rustc_hash::{FxHashMap, FxHashSet};

/// Work that one moved byte counts as: what a core multiplies and adds while memory gives a byte.
const BYTE: u64 = 8;

/// What could be computed again in a program.
pub(crate) struct Recomputation<'a> {
    program: &'a Program,
    graph: Graph,
    base: Schedule,
    chains: Vec<usize>,
}

/// A choice of what to compute again.
pub(crate) struct Chosen {
    schedule: Schedule,
    /// Whether it keeps the limit, in thought.
    pub fits: bool,
}

impl<'a> Recomputation<'a> {
    /// Looks at an optimised program.
    pub(crate) fn of(program: &'a Program) -> Recomputation<'a> {
        let graph = graph_of(program);
        let base = graph.schedule(&Policy::new());
        // The way back begins where most is alive, or where the first cotangent is made.
        let fullest = base.emits.get(base.peak_at()).map_or(0, |emit| emit.at as usize);
        let transposed =
            |instruction: &Instruction| matches!(instruction.origin.derivation, Some((Derivation::Transpose, _)));
        let first = program.instructions.iter().position(transposed).unwrap_or(fullest);
        let mut chains = vec![fullest, first];
        chains.dedup();
        Recomputation { program, graph, base, chains }
    }

    /// The most that is alive at once if nothing is computed again.
    pub(crate) fn peak(&self) -> usize {
        self.base.peak()
    }

    /// The cheapest choice found that keeps a limit of bytes, or the one that comes nearest.
    pub(crate) fn within(&self, limit: usize) -> Chosen {
        let (mut best, mut lowest) = (None, (Policy::new(), self.base.clone()));
        let mut take = |found: Option<Choice>| {
            let Some((policy, schedule)) = found else { return };
            if schedule.peak() <= limit {
                let (policy, schedule) = greedy::improve(&self.graph, (policy, schedule), limit);
                if best.as_ref().is_none_or(|(_, best): &Choice| schedule.cost < best.cost) {
                    best = Some((policy, schedule));
                }
            } else if schedule.peak() < lowest.1.peak() {
                lowest = (policy, schedule);
            }
        };
        for &turn in &self.chains {
            if let Some(chain) = Chain::new(&self.graph, turn) {
                let (best, near) = chain.tables(limit.max(1)).search(limit);
                // What is too much yet may become less by forgetting what the segments know nothing of.
                let start = near.filter(|_| best.is_none());
                take(best);
                let more = start.map(|(policy, _)| greedy::search(&self.graph, policy, limit));
                more.into_iter().for_each(|found| {
                    take(found.best);
                    take(Some(found.lowest));
                });
            }
        }
        let found = greedy::search(&self.graph, Policy::new(), limit);
        take(found.best);
        take(Some(found.lowest));
        match best {
            Some((_, schedule)) => Chosen { schedule, fits: true },
            None => Chosen { schedule: lowest.1, fits: false },
        }
    }

    /// Choices that keep little: one of them takes the least.
    pub(crate) fn least(&self) -> Vec<Chosen> {
        let mut found = vec![self.within(0).schedule];
        for &turn in &self.chains {
            if let Some(chain) = Chain::new(&self.graph, turn) {
                let tables = chain.tables(self.peak().max(1));
                let feasible: Vec<usize> = (0..=tables.units).filter(|&units| tables.is_possible(units)).collect();
                let looked = feasible.iter().step_by(feasible.len().div_ceil(24).max(1));
                let schedule = |&units: &usize| Some(self.graph.schedule(&tables.policy(units)?));
                found.extend(looked.filter_map(schedule).min_by_key(Schedule::peak));
            }
        }
        found.into_iter().map(|schedule| Chosen { schedule, fits: false }).collect()
    }

    /// The program of a choice.
    pub(crate) fn apply(&self, chosen: &Chosen) -> Program {
        let mut program = Program { instructions: Vec::new(), ..self.program.clone() };
        let mut names: FxHashMap<u32, Value> = FxHashMap::default();
        let mut done: FxHashSet<u32> = FxHashSet::default();
        let value_of = |names: &FxHashMap<u32, Value>, name: u32| names.get(&name).copied().unwrap_or(name);
        for (count, emit) in chosen.schedule.emits.iter().enumerate() {
            let mut instruction = self.program.instructions[emit.node as usize].clone();
            instruction.inputs = emit.inputs.iter().map(|&name| value_of(&names, name)).collect();
            if !done.insert(emit.node) {
                instruction.region = Instruction::RECOMPUTED | count as u32;
                for value in &mut instruction.outputs {
                    let ty = program.ty(*value).clone();
                    *value = program.add_value(ty);
                }
            }
            for (k, &value) in instruction.outputs.iter().enumerate() {
                names.insert(emit.first + k as u32, value);
            }
            program.instructions.push(instruction);
        }
        program.outputs = chosen.schedule.outputs.iter().map(|&name| value_of(&names, name)).collect();
        let program = fuse::fuse_again(program);
        if cfg!(debug_assertions)
            && let Err(error) = program.verify()
        {
            panic!("pass rematerialize: {error}\n{program}");
        }
        program
    }
}

fn graph_of(program: &Program) -> Graph {
    let mut values: Vec<Held> = (0..program.types.len() as Value)
        .map(|value| Held { bytes: program.ty(value).bytes(), maker: None, root: value })
        .collect();
    program.inputs.iter().for_each(|(_, value)| values[*value as usize].bytes = 0);
    let mut nodes = Vec::with_capacity(program.instructions.len());
    for (at, instruction) in program.instructions.iter().enumerate() {
        let moved = |value: &Value| program.ty(*value).bytes() as u64;
        let touched: u64 = instruction.inputs.iter().chain(&instruction.outputs).map(moved).sum();
        let mut cost = program.instruction_flops(instruction) + BYTE * touched;
        let root = instruction.inputs.first().map(|&value| values[value as usize].root);
        for &value in &instruction.outputs {
            values[value as usize].maker = Some(at as u32);
        }
        match &instruction.kind {
            Kind::Op(op) if op.is_move() => {
                cost = 0;
                let value = &mut values[instruction.outputs[0] as usize];
                (value.bytes, value.root) = (0, root.unwrap_or(value.root));
            }
            Kind::Op(Op::Constant(..) | Op::Iota(..) | Op::Data(_)) => {
                cost = 0;
                values[instruction.outputs[0] as usize].bytes = 0;
            }
            _ => {}
        }
        let elementwise = match &instruction.kind {
            Kind::Op(op) => op.is_elementwise(),
            kind => matches!(kind, Kind::Fused(_)),
        };
        let (inputs, outputs) = (instruction.inputs.clone(), instruction.outputs.clone());
        nodes.push(Node { inputs, outputs, cost, overwrites: elementwise });
    }
    program.outputs.iter().for_each(|&value| values[value as usize].bytes = 0);
    Graph::new(nodes, values, program.outputs.clone())
}
