//! `chainrule check`, `doctor`, `explain` and `sharpness`: looks at the gradients of a model file or a run over a
//! real batch.
//!
//! What is seen is made by `chainrule-lens`; `subject.rs` makes a network, a batch and a loss of a file or a run's folder, and each command
//! prints its report.

pub mod check;
mod cure;
pub mod doctor;
pub mod explain;
mod flow_page;
pub mod sharpness;
mod subject;
