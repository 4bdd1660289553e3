//! The lens: see, check and explain every gradient.
//!
//! A derivative here is an ordinary program with the user's line on every operation, so looking at it is a function.
//! Results are plain structs that serialise; each prints itself for a terminal, and other pictures of it are made
//! elsewhere. Nothing here trains, and nothing costs anything until it is called.
//!
//! | function | answers |
//! | --- | --- |
//! | [`trace_nonfinite`] | which operation made the first NaN or infinity, from which numbers, and what to write instead |
#![forbid(unsafe_code)]

pub mod nonfinite;
pub mod place;
pub mod replay;

pub use nonfinite::{NonFinite, trace_nonfinite, trace_program, trace_values};
