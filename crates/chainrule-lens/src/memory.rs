//! Where the memory of a step goes: arguments, saved activations, gradients and workspace, by layer, operation and line, and
//! what a budget of bytes changes.
//!
//! Everything is read off a laid-out program before it runs (`chainrule::plan::Timeline`); nothing is computed here.

use chainrule::optimize::optimize;
use chainrule::plan::{LiveValue, MemoryBudgetError, Part, Plan, PlanOptions, Timeline, within_budget};
use chainrule::program::{Program, capture};
use chainrule::tree::{self, Role, Tree};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Bytes of a group of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// A layer, an operation or a line.
    pub name: String,
    /// Bytes that are alive at the fullest step.
    pub bytes: usize,
    /// Of these, what is saved for the way back.
    pub saved: usize,
}

/// The memory of one way to run a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepMemory {
    /// All that a run takes: arguments, results, numbers of the program and the arena.
    pub peak: usize,
    /// Floating-point operations.
    pub flops: u64,
    /// At the fullest step, by what it is for.
    pub parts: BTreeMap<Part, usize>,
    /// At the fullest step, by layer.
    pub layers: Vec<Share>,
    /// At the fullest step, by operation.
    pub operations: Vec<Share>,
    /// At the fullest step, by line.
    pub lines: Vec<Share>,
    /// How often which operation of which line is computed again.
    pub recomputed: Vec<(String, usize)>,
    /// Every value and step.
    pub timeline: Timeline,
}

/// The memory of a step, and with a budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryReport {
    /// Bytes of arguments by what they are, in the order they were named in.
    pub arguments: Vec<(String, usize)>,
    /// As it is.
    pub whole: StepMemory,
    /// Within the budget, if there is one.
    pub budgeted: Option<StepMemory>,
}

/// The memory of a function of a tree, run as one compiled step; parameters are the tree's, layers those that have them.
///
/// # Errors
/// If the budget cannot be met.
///
/// ```
/// use chainrule::prelude::*;
/// let x = Tensor::ones([128, 64], DType::F32);
/// let weights = vec![Tensor::ones([64, 64], DType::F32); 8];
/// let step = |w: &Vec<Tensor>| {
///     let loss = |w: &Vec<Tensor>| w.iter().fold(x.clone(), |x, w| x.matmul(w).tanh()).square().mean(..);
///     value_and_grad(loss, w)
/// };
/// let memory = chainrule_lens::memory(step, &weights, None).unwrap();
/// let budget = memory.whole.peak * 4 / 5;
/// let less = chainrule_lens::memory(step, &weights, Some(budget)).unwrap().budgeted.unwrap();
/// assert!(less.peak <= budget && !less.recomputed.is_empty());
/// ```
#[track_caller]
pub fn memory<A: Tree, B: Tree>(
    step: impl Fn(&A) -> B,
    arguments: &A,
    budget: Option<usize>,
) -> Result<MemoryReport, MemoryBudgetError> {
    let named = tree::named_leaves(arguments);
    let inputs: Vec<_> = named.iter().map(|(path, _, leaf)| (path.clone(), leaf.clone())).collect();
    let program = match capture("step", &inputs, &tree::leaves(&step(arguments))) {
        Ok(program) => optimize(program),
        Err(error) => panic!("memory: {error}"),
    };
    let parameters: Vec<&str> =
        named.iter().filter(|leaf| leaf.1 == Role::Parameter).map(|leaf| leaf.0.as_str()).collect();
    let group = |name: &str| if parameters.contains(&name) { "parameters".into() } else { "state".into() };
    let layer = |name: &str| parameters.contains(&name).then(|| above(name).to_owned());
    memory_of(program, budget, &group, &layer)
}

/// What a parameter belongs to: its path without the last name.
pub fn above(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(layer, _)| layer)
}

/// [`memory`] of an optimised program. `group` says what an argument is by its name, `layer` what it is a parameter of.
///
/// # Errors
/// If the budget cannot be met.
pub fn memory_of(
    program: Program,
    budget: Option<usize>,
    group: &dyn Fn(&str) -> String,
    layer: &dyn Fn(&str) -> Option<String>,
) -> Result<MemoryReport, MemoryBudgetError> {
    let plan = Plan::new(&program, PlanOptions::with_state());
    let whole = StepMemory::of(&program, &plan, layer);
    let mut arguments: Vec<(String, usize)> = Vec::new();
    for (name, bytes) in &whole.timeline.arguments {
        let group = group(name);
        match arguments.iter_mut().find(|known| known.0 == group) {
            Some(known) => known.1 += bytes,
            None => arguments.push((group, *bytes)),
        }
    }
    let budgeted = match budget {
        Some(budget) => {
            let found = within_budget(program, PlanOptions::with_state(), budget)?;
            Some(StepMemory::of(&found.program, &found.plan, layer))
        }
        None => None,
    };
    Ok(MemoryReport { arguments, whole, budgeted })
}

impl StepMemory {
    fn of(program: &Program, plan: &Plan, layer: &dyn Fn(&str) -> Option<String>) -> StepMemory {
        let timeline = Timeline::of(program, plan, layer);
        let shares = |name: &dyn Fn(&LiveValue) -> String| {
            let mut shares: Vec<Share> = Vec::new();
            for value in timeline.alive(timeline.peak_step) {
                let (name, saved) = (name(value), if value.part == Part::Saved { value.bytes } else { 0 });
                match shares.iter_mut().find(|share| share.name == name) {
                    Some(share) => (share.bytes, share.saved) = (share.bytes + value.bytes, share.saved + saved),
                    None => shares.push(Share { name, bytes: value.bytes, saved }),
                }
            }
            shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
            shares
        };
        let mut again: BTreeMap<String, usize> = BTreeMap::new();
        for step in timeline.steps.iter().filter(|step| step.recomputed) {
            *again.entry(format!("{} {}", step.operation, step.line)).or_default() += 1;
        }
        let mut recomputed: Vec<(String, usize)> = again.into_iter().collect();
        recomputed.sort_by_key(|entry| std::cmp::Reverse(entry.1));
        StepMemory {
            peak: timeline.peak,
            flops: program.flops(),
            parts: timeline.parts(timeline.peak_step),
            layers: shares(&|value| value.layer.clone().unwrap_or_else(|| "–".into())),
            operations: shares(&|value| value.operation.clone()),
            lines: shares(&|value| value.line.clone()),
            recomputed,
            timeline,
        }
    }

    fn write(&self, f: &mut std::fmt::Formatter<'_>, title: &str) -> std::fmt::Result {
        let full = self.timeline.steps.get(self.timeline.peak_step);
        let place = full.map_or(String::new(), |step| format!("{} {}", step.operation, step.line));
        let steps = self.timeline.steps.len();
        writeln!(f, "{title}: peak {}, {} FLOPs", sized(self.peak), self.flops)?;
        writeln!(
            f,
            "  arena {}, fullest at step {} of {steps}: {place}",
            sized(self.timeline.arena),
            self.timeline.peak_step
        )?;
        for (part, bytes) in &self.parts {
            writeln!(f, "    {:<12}{:>12}", format!("{part:?}").to_lowercase(), sized(*bytes))?;
        }
        for (what, shares) in [("layer", &self.layers), ("operation", &self.operations), ("line", &self.lines)] {
            writeln!(f, "  by {what:<34}{:>12}{:>12}", "bytes", "saved")?;
            for share in shares.iter().take(MOST) {
                writeln!(f, "    {:<33}{:>12}{:>12}", share.name, sized(share.bytes), sized(share.saved))?;
            }
            if shares.len() > MOST {
                let rest: usize = shares[MOST..].iter().map(|share| share.bytes).sum();
                writeln!(f, "    {:<33}{:>12}", format!("{} more", shares.len() - MOST), sized(rest))?;
            }
        }
        for (n, (what, times)) in self.recomputed.iter().take(MOST).enumerate() {
            let head = if n == 0 { "computed again" } else { "" };
            writeln!(f, "  {head:<16}{times:>4} × {what}")?;
        }
        Ok(())
    }
}

/// Rows that are printed of each table.
const MOST: usize = 12;

/// A number of bytes as people read it.
pub fn sized(bytes: usize) -> String {
    let mut text = String::new();
    let _ = match bytes {
        0..10_000 => write!(text, "{bytes} B"),
        10_000..10_000_000 => write!(text, "{:.1} kB", bytes as f64 / 1e3),
        _ => write!(text, "{:.1} MB", bytes as f64 / 1e6),
    };
    text
}

impl std::fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, bytes) in &self.arguments {
            writeln!(f, "{name:<16}{:>12}", sized(*bytes))?;
        }
        self.whole.write(f, "the step")?;
        if let Some(less) = &self.budgeted {
            less.write(f, "within the budget")?;
            let more = less.flops as f64 / self.whole.flops.max(1) as f64 - 1.0;
            writeln!(
                f,
                "{} less memory for {:.1} % more FLOPs",
                sized(self.whole.peak.saturating_sub(less.peak)),
                more * 100.0
            )?;
        }
        Ok(())
    }
}
