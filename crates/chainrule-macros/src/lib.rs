//! chainrule-macros
