//! Everything around a training run that is not the model: data, the folder of a run, metrics and plots.
//!
//! - [`idx`] reads IDX files; [`digits`] is a small data set carried inside the crate.
//! - [`run`] is the folder of one run: configuration, metrics line by line, artefacts written whole or not at all.
//! - [`metrics`] counts: accuracy, confusion matrix, running mean.
//! - [`curves`] draws training curves as PNG and SVG.
//!
//! Whatever comes from outside gives a typed error that says what was wrong, where, and what would be right.
#![forbid(unsafe_code)]

pub mod curves;
pub mod digits;
pub mod idx;
pub mod metrics;
pub mod run;
