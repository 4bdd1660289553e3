//! chainrule
