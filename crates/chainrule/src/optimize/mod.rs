//! Passes: programs to better programs with the same results. Each has a name, a switch and a log line.
//!
//! `CHAINRULE_PASSES=-fuse,-cse` turns passes off (the planner's `in_place`, `reuse` and `state` too); `CHAINRULE_PRINT=fuse` prints the program after one, `all` after each.
//! Debug builds verify the program after every pass. One pass runs only for a memory budget, after all others:
//! `rematerialize`, from `plan/budget.rs`.

mod clean;
mod fuse;
mod hoist;
mod join;
mod known;
mod recompute;
pub(crate) mod rematerialize;
mod simplify;

use crate::program::Program;

/// A named pass.
pub struct Pass {
    /// The name it is switched by.
    pub name: &'static str,
    /// What it does.
    pub run: fn(Program) -> Program,
}

/// The passes in their order.
pub const PASSES: &[Pass] = &[
    Pass { name: "simplify", run: simplify::simplify },
    Pass { name: "hoist", run: hoist::hoist },
    Pass { name: "join", run: join::join_parts },
    Pass { name: "cse", run: clean::merge_equal },
    Pass { name: "dce", run: clean::remove_unused },
    Pass { name: "known", run: known::recognise },
    Pass { name: "fuse", run: fuse::fuse },
    Pass { name: "recompute", run: recompute::recompute },
];

/// Runs all passes that are not switched off.
pub fn optimize(program: Program) -> Program {
    let off: Vec<&str> = PASSES.iter().map(|pass| pass.name).filter(|name| switched_off(name)).collect();
    optimize_without(program, &off)
}

/// Whether the environment's `CHAINRULE_PASSES` turns off the pass of this name.
pub(crate) fn switched_off(pass: &str) -> bool {
    let switches = std::env::var("CHAINRULE_PASSES").unwrap_or_default();
    switches.split(',').any(|name| name.trim().strip_prefix('-') == Some(pass))
}

/// Runs all passes but those named.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::{optimize::optimize_without, program::capture};
/// let x = Tensor::from([1.0f32, 2.0]);
/// let program = capture("f", &[("x".into(), x.clone())], &[(x * 1.0).exp() + 0.0]).unwrap();
/// assert_eq!(optimize_without(program, &["fuse"]).instructions.len(), 1);
/// ```
pub fn optimize_without(mut program: Program, off: &[&str]) -> Program {
    let print = std::env::var("CHAINRULE_PRINT").unwrap_or_default();
    for pass in PASSES.iter().filter(|pass| !off.contains(&pass.name)) {
        let before = program.len();
        program = (pass.run)(program);
        if print == "all" || print.split(',').any(|name| name == pass.name) {
            eprintln!("after {}: {} operations, {before} before\n{program}", pass.name, program.len());
        }
        if cfg!(debug_assertions)
            && let Err(error) = program.verify()
        {
            panic!("pass {}: {error}\n{program}", pass.name);
        }
    }
    program
}

/// Applies a pass to the bodies inside a program's instructions.
fn inside(program: &mut Program, pass: fn(Program) -> Program) {
    for instruction in &mut program.instructions {
        for body in instruction.kind.bodies_mut() {
            *body = pass(std::mem::take(body));
        }
    }
}
