//! What memory holds along the steps of a plan: every value with its bytes, its operation, its line, and when it is alive.
//!
//! It is read off the layout itself, so sums are what a run takes. It decides nothing.

use super::{Kernel, Place, Plan, Step};
use crate::program::{Instruction, Kind, Program};
use crate::tensor::{Derivation, Op, Origin};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Made on the way forward and read on the way back.
    Saved,
    /// Made again for the way back, because of a memory budget.
    Recomputed,
    /// A cotangent, or a parameter's gradient.
    Gradient,
    /// Everything else.
    Workspace,
}

/// A value in the arena.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LiveValue {
    /// Shape and dtype.
    pub ty: String,
    /// Its bytes.
    pub bytes: usize,
    /// What it is for.
    pub part: Part,
    /// The operations that made it.
    pub operation: String,
    /// The user's line.
    pub line: String,
    /// The layer, if the operation works with a parameter or on what came out of one.
    pub layer: Option<String>,
    /// The step that makes it.
    pub born: usize,
    /// The step from which its bytes are free again, or another's.
    pub until: usize,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimelineStep {
    /// What runs.
    pub operation: String,
    /// The user's line.
    pub line: String,
    /// Whether it runs again because of a memory budget.
    pub recomputed: bool,
    /// Bytes alive in the arena while it runs.
    pub live: usize,
}

/// The memory of one run of a program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    /// Name and bytes of each argument. Those whose memory a result takes are counted here and not among the results.
    pub arguments: Vec<(String, usize)>,
    /// Bytes of results with memory of their own.
    pub results: usize,
    /// Bytes of the numbers that are part of the program.
    pub constants: usize,
    /// Bytes of the arena, without those of loops.
    pub arena: usize,
    /// Bytes that the bodies of loops and branches need.
    pub loops: usize,
    /// All of these together: what a run takes.
    pub peak: usize,
    /// The first step at which most of the arena is alive.
    pub peak_step: usize,
    /// The steps in order.
    pub steps: Vec<TimelineStep>,
    /// The values in the order in which they are made.
    pub values: Vec<LiveValue>,
}

impl Timeline {
    /// The memory of a program as it is laid out. `layer_of` says of an argument's name which layer it is a parameter of.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule::{plan::{Plan, PlanOptions, Timeline}, program::capture};
    /// let x = Tensor::ones([100], DType::F32);
    /// let y = x.exp().sum(..);
    /// let program = capture("f", &[("x".into(), x.clone())], &[y]).unwrap();
    /// let plan = Plan::new(&program, PlanOptions::default());
    /// let memory = Timeline::of(&program, &plan, &|_| None);
    /// assert_eq!((memory.values.len(), memory.values[0].bytes, memory.peak), (1, 400, plan.peak_bytes()));
    /// assert_eq!(memory.values[0].operation, "exp");
    /// ```
    pub fn of(program: &Program, plan: &Plan, layer_of: &dyn Fn(&str) -> Option<String>) -> Timeline {
        let layers = layers(program, layer_of);
        let mut values: Vec<LiveValue> = Vec::new();
        let mut at: BTreeMap<usize, usize> = BTreeMap::new();
        let mut read_back: Vec<bool> = Vec::new();
        let steps: Vec<TimelineStep> = plan.steps.iter().map(|step| described(program, step)).collect();
        for (number, step) in plan.steps.iter().enumerate() {
            for (i, input) in step.inputs.iter().enumerate() {
                let Place::Arena(range) = &input.place else { continue };
                let Some(&value) = at.get(&range.start) else { continue };
                let overwritten = matches!(&step.kernel, Kernel::Tape { in_place, .. } if in_place.get(i).is_some_and(Option::is_some));
                values[value].until = number + !overwritten as usize;
                read_back[value] |= goes_back(step.origin) && !steps[number].recomputed;
            }
            for (k, output) in step.outputs.iter().enumerate() {
                let Place::Arena(range) = &output.place else { continue };
                if range.is_empty() {
                    continue;
                }
                at.insert(range.start, values.len());
                read_back.push(false);
                let made = step.instruction.map(|i| &program.instructions[i]);
                let value = made.and_then(|made| made.outputs.get(k));
                values.push(LiveValue {
                    ty: output.ty.to_string(),
                    bytes: range.len(),
                    part: match steps[number].recomputed {
                        true => Part::Recomputed,
                        false if goes_back(step.origin) => Part::Gradient,
                        false => Part::Workspace,
                    },
                    operation: steps[number].operation.clone(),
                    line: steps[number].line.clone(),
                    layer: value.and_then(|&value| layers[value as usize].clone()),
                    born: number,
                    until: number + 1,
                });
            }
        }
        for (value, read_back) in values.iter_mut().zip(read_back) {
            if value.part == Part::Workspace && read_back {
                value.part = Part::Saved;
            }
        }
        Timeline::gathered(program, plan, steps, values)
    }

    fn gathered(program: &Program, plan: &Plan, mut steps: Vec<TimelineStep>, values: Vec<LiveValue>) -> Timeline {
        let mut change = vec![0isize; steps.len() + 1];
        for value in &values {
            change[value.born] += value.bytes as isize;
            change[value.until] -= value.bytes as isize;
        }
        let mut alive = 0;
        for (step, change) in steps.iter_mut().zip(change) {
            alive += change;
            step.live = alive as usize;
        }
        let most = steps.iter().map(|step| step.live).max().unwrap_or(0);
        Timeline {
            arguments: program.inputs.iter().map(|(name, value)| (name.clone(), program.ty(*value).bytes())).collect(),
            results: plan.result_bytes(),
            constants: plan.constant_bytes(),
            arena: plan.arena,
            loops: plan.arena_bytes() - plan.arena,
            peak: plan.peak_bytes(),
            peak_step: steps.iter().position(|step| step.live == most).unwrap_or(0),
            steps,
            values,
        }
    }

    /// The values that are alive while a step runs.
    pub fn alive(&self, step: usize) -> impl Iterator<Item = &LiveValue> {
        self.values.iter().filter(move |value| (value.born..value.until).contains(&step))
    }

    /// Bytes alive at a step by what they are for.
    pub fn parts(&self, step: usize) -> BTreeMap<Part, usize> {
        let mut parts = BTreeMap::new();
        self.alive(step).for_each(|value| *parts.entry(value.part).or_insert(0) += value.bytes);
        parts
    }
}

fn goes_back(origin: Origin) -> bool {
    matches!(origin.derivation, Some((Derivation::Transpose, _)))
}

fn described(program: &Program, step: &Step) -> TimelineStep {
    let made = step.instruction.map(|i| &program.instructions[i]);
    // A move that needs a copy is a copy.
    let operation = match (made, &step.kernel) {
        (Some(made), kernel) if !matches!(kernel, Kernel::Copy) => operations(made),
        _ => step.kernel.name().to_owned(),
    };
    let recomputed = made.is_some_and(Instruction::is_recomputed);
    TimelineStep { operation, line: step.origin.to_string(), recomputed, live: 0 }
}

/// The operations of an instruction; of many, the first and the last.
fn operations(instruction: &Instruction) -> String {
    let Kind::Fused(body) = &instruction.kind else { return instruction.kind.name().to_owned() };
    let number = |inner: &&Instruction| !matches!(inner.kind, Kind::Op(Op::Constant(..)));
    let names: Vec<&str> = body.instructions.iter().filter(number).map(|inner| inner.kind.name()).collect();
    match names[..] {
        [] => "fused".into(),
        [first, _, _, .., last] => format!("{first} … {last}"),
        _ => names.join(" "),
    }
}

/// The layer of each value: that of the parameter its operation reads, or of the operand made last.
fn layers(program: &Program, layer_of: &dyn Fn(&str) -> Option<String>) -> Vec<Option<String>> {
    let mut layers: Vec<Option<String>> = vec![None; program.types.len()];
    // Parameters, also where they are turned or cast.
    let mut parameters: FxHashMap<u32, String> = FxHashMap::default();
    for (name, value) in &program.inputs {
        if let Some(layer) = layer_of(name) {
            layers[*value as usize] = Some(layer.clone());
            parameters.insert(*value, layer);
        }
    }
    let mut made = vec![0; program.types.len()];
    for (at, instruction) in program.instructions.iter().enumerate() {
        let own = instruction.inputs.iter().find_map(|value| parameters.get(value)).cloned();
        let moves = matches!(&instruction.kind, Kind::Op(op) if op.is_move() || matches!(op, Op::Cast(_)));
        let latest = instruction.inputs.iter().filter(|&&value| layers[value as usize].is_some());
        let layer = own.clone().or_else(|| {
            latest.max_by_key(|&&value| made[value as usize]).and_then(|&value| layers[value as usize].clone())
        });
        // What is combined with a parameter of its own shape is the parameter's gradient.
        if let (Some(layer), Kind::Op(_) | Kind::Fused(_)) = (&own, &instruction.kind) {
            for &value in &instruction.inputs {
                let same = program.ty(value).shape == program.ty(instruction.outputs[0]).shape;
                let elementwise = matches!(&instruction.kind, Kind::Fused(_))
                    || matches!(&instruction.kind, Kind::Op(op) if op.is_elementwise());
                if same && elementwise && program.ty(value).numel() > 1 {
                    layers[value as usize] = Some(layer.clone());
                }
            }
        }
        for &value in &instruction.outputs {
            made[value as usize] = at + 1;
            layers[value as usize] = layer.clone();
            if let (true, Some(own)) = (moves, &own) {
                parameters.insert(value, own.clone());
            }
        }
    }
    layers
}
