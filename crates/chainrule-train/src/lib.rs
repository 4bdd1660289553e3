//! chainrule-train
