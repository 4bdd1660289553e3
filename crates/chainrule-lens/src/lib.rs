//! The lens: see, check and explain every gradient.
//!
//! A derivative here is an ordinary program with the user's line on every operation, so looking at it is a function.
//! Results are plain structs that serialise; each prints itself for a terminal, and other pictures of it are made
//! elsewhere. Nothing here trains, and nothing costs anything until it is called.
//!
//! | function | answers |
//! | --- | --- |
//! | [`trace_nonfinite`] | which operation made the first NaN or infinity, from which numbers, and what to write instead |
//! | [`check_gradients`] | whether a gradient is right, at which element it is not, and what f32 and bf16 lose of it |
//! | [`Curvature`], [`sharpness`] | eigenvalues, trace and spectrum of the Hessian; the largest stable step; slices of the loss |
//! | [`GradientFlow`] | what each layer does to activations and gradients, and what is wrong with it |
//! | [`try_remedies`], [`measure`] | what helps: the same measurement with a change made |
//! | [`memory()`] | what the memory of a step goes to, and what a budget would have computed again |
//! | [`FlowWatcher`] | the same of step after step of a training, by one compiled program, cheap enough to watch by |
//! | [`explain`] | a gradient as the product of Jacobians, path by path, with formulas |
#![forbid(unsafe_code)]

pub mod check;
pub mod curvature;
pub mod derivation;
pub mod flow;
pub mod lift;
pub mod memory;
pub mod nonfinite;
pub mod place;
pub mod replay;
pub mod watch;

pub use check::{CheckOptions, GradientCheck, check_gradients, check_gradients_with};
pub use curvature::{Curvature, Sharpness, sharpness};
pub use derivation::{Derivation, ExplainOptions, explain, explain_with};
pub use flow::{FlowOptions, GradientFlow, measure, try_remedies};
pub use memory::{MemoryReport, memory};
pub use nonfinite::{NonFinite, trace_named, trace_nonfinite, trace_program, trace_values};
pub use watch::{FlowRecord, FlowWatcher, WatchOptions};

/// The code blocks of the documentation, run as tests.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../../docs/lens.md")]
    mod lens {}
    #[doc = include_str!("../../../docs/cure.md")]
    mod cure {}
}
