//! Training and everything around it that is not the model: data, the loop, the folder of a run, metrics and plots.
//!
//! - [`task`] says what is trained and measured; [`trainer`] is the loop; [`backprop`] shows what back-propagation did
//!   in one of its steps.
//! - [`training`] runs a training in its folder: [`log`] and [`tensorboard`] write it down, [`checkpoint`] keeps what it
//!   goes on from, [`progress`] shows it, [`interrupt`] ends it on Ctrl-C.
//! - [`data`] is all about data sets: what one is, those carried inside, readers, transforms, the loader.
//! - [`picture`] reads a drawn digit.
//! - [`run`] is the folder of one run: configuration, metrics line by line, artefacts written whole or not at all.
//! - [`snapshots`] keeps weights of some steps.
//! - [`metrics`] counts: accuracy, confusion matrix, running mean.
//! - [`model`] reads models from files; [`experiment`] trains them and asks them again.
//! - [`curves`] draws training curves as PNG and SVG.
//!
//! Whatever comes from outside gives a typed error that says what was wrong, where, and what would be right.
#![forbid(unsafe_code)]

pub mod backprop;
pub mod checkpoint;
pub mod curves;
pub mod data;
pub mod experiment;
pub mod interrupt;
pub mod log;
pub mod metrics;
pub mod model;
pub mod picture;
pub mod progress;
pub mod run;
pub mod snapshots;
pub mod task;
pub mod tensorboard;
pub mod trainer;
pub mod training;

pub use data::{digits, idx};
