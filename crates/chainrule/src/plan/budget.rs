//! A plan within a budget of bytes: rematerialisation, checked against where bytes really lie.
//!
//! `optimize/rematerialize` chooses in thought, over sums of bytes that are alive; here its program is laid out, and the
//! limit it is given lowered by what the layout takes more, until the budget is kept. What is stated is what was laid out.

use super::{Plan, PlanOptions};
use crate::optimize::rematerialize::{Chosen, Recomputation};
use crate::optimize::switched_off;
use crate::program::Program;

/// Layouts that are tried before a budget is given up.
const TRIES: usize = 6;

/// A program and its plan within a budget.
#[derive(Debug)]
pub struct Budgeted {
    /// What runs: [`Instruction::is_recomputed`](crate::program::Instruction::is_recomputed) tells what is computed again.
    pub program: Program,
    /// How it is laid out: [`Plan::peak_bytes`] is at most the budget.
    pub plan: Plan,
}

/// A budget that cannot be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryBudgetError {
    /// Bytes that were allowed.
    pub budget: usize,
    /// The fewest bytes that a plan was found for.
    pub least: usize,
    /// Bytes without recomputation.
    pub whole: usize,
}

impl std::fmt::Display for MemoryBudgetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let MemoryBudgetError { budget, least, whole } = self;
        write!(
            f,
            "the memory budget of {budget} bytes cannot be met: the step takes {whole} bytes, and {least} at least with \
             everything recomputed that can be; allow {least} bytes, or make the batch smaller"
        )
    }
}

impl std::error::Error for MemoryBudgetError {}

/// Lays out an optimised program so that [`Plan::peak_bytes`] is at most `budget`, computing again what is cheapest to. The
/// results are those of the program as it is, bit for bit.
///
/// # Errors
/// If no way was found; with the least that can be had.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::{optimize::optimize, plan::{Plan, PlanOptions, within_budget}, program::capture};
/// let x = Tensor::ones([64, 64], DType::F32);
/// let f = |x: &Tensor| (0..20).fold(x.clone(), |x, _| x.matmul(&x).tanh()).sum(..);
/// let program = optimize(capture("f", &[("x".into(), x.clone())], &[grad(f, &x)]).unwrap());
/// let whole = Plan::new(&program, PlanOptions::default()).peak_bytes();
/// let half = within_budget(program.clone(), PlanOptions::default(), whole / 2).unwrap();
/// assert!(half.plan.peak_bytes() <= whole / 2 && half.program.flops() > program.flops());
/// let error = within_budget(program, PlanOptions::default(), 1000).unwrap_err();
/// assert!(error.least > 1000 && error.to_string().contains("cannot be met"));
/// ```
pub fn within_budget(program: Program, options: PlanOptions, budget: usize) -> Result<Budgeted, MemoryBudgetError> {
    let plan = Plan::new(&program, options);
    let whole = plan.peak_bytes();
    if whole <= budget {
        return Ok(Budgeted { program, plan });
    }
    if switched_off("rematerialize") {
        return Err(MemoryBudgetError { budget, least: whole, whole });
    }
    let recomputation = Recomputation::of(&program);
    let laid_out = |chosen: &Chosen| {
        let program = recomputation.apply(chosen);
        let plan = Plan::new(&program, options);
        Budgeted { program, plan }
    };
    // What the layout takes beside values that are alive: arguments, results, loops, gaps.
    let beside = whole as isize - recomputation.peak() as isize;
    let mut limit = budget as isize - beside;
    for _ in 0..TRIES {
        let Ok(bytes) = usize::try_from(limit) else { break };
        let chosen = recomputation.within(bytes);
        if !chosen.fits {
            break;
        }
        let found = laid_out(&chosen);
        match found.plan.peak_bytes().checked_sub(budget) {
            None | Some(0) => return Ok(printed(found)),
            Some(over) => limit -= over as isize,
        }
    }
    let least = recomputation.least().iter().map(laid_out).min_by_key(|found| found.plan.peak_bytes());
    match least {
        Some(found) if found.plan.peak_bytes() <= budget => Ok(printed(found)),
        found => {
            let least = found.map_or(whole, |found| found.plan.peak_bytes().min(whole));
            Err(MemoryBudgetError { budget, least, whole })
        }
    }
}

/// Prints the program where `CHAINRULE_PRINT` asks for it.
fn printed(found: Budgeted) -> Budgeted {
    let print = std::env::var("CHAINRULE_PRINT").unwrap_or_default();
    if print.split(',').any(|name| name == "rematerialize" || name == "all") {
        eprintln!("after rematerialize: {} operations\n{}", found.program.len(), found.program);
    }
    found
}
