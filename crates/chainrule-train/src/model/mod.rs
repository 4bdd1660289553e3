//! Models in a file: TOML in which a user without Rust states data, layers, loss, optimizer and training.
//!
//! - [`Spec::parse`] reads the text. Every value knows its place (`source`), so that a mistake is shown at its line.
//! - Layers are read by tables of options (`fields`), one entry a kind (`kinds`): its options, what it takes, how it
//!   is built, its help. Reading, checking, building, the summary and the documentation all follow from the entry.
//! - [`Spec::build`] makes a [`Network`] for the form of the data (`build`, `form`) before the data is read: layers
//!   are built without computing anything, and what comes out of each is found by calling it.
//!
//! This room does not train; it gives a network, a loss and settings to those who do.

mod build;
mod bytes;
mod carried;
mod change;
mod edit;
mod example;
mod fields;
mod form;
mod gan;
mod kinds;
mod loss;
mod module;
mod recipes;
mod reference;
mod settings;
mod source;
mod spec;
mod start;
mod summary;

pub use build::Row;
pub use bytes::parse_bytes;
pub use carried::{Carried, Walk};
pub use change::Change;
pub use edit::with_setting;
pub use gan::{GanState, GanTask, NetworkLoss};
pub use module::{Form, Module, Network, Pass, Residual, Sequence};
pub use recipes::{Recipe, find_recipe, recipes};
pub use reference::reference;
pub use settings::{Average, Length, Report, Train, Watch};
pub use source::ModelError;
pub use spec::Spec;
pub use summary::{Line, Memory, Summary};
