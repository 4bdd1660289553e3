//! chainrule-kernels
pub mod alphabet;
