//! The report, and its text for a terminal.

use super::Cause;
use crate::place::{Element, Part, Place};
use serde::Serialize;

/// The operation that made the first number that is not finite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NonFinite {
    /// Which result is not finite.
    pub result: String,
    /// One element of it that is not.
    pub seen: Element,
    /// The operation that made it so, as programs print it.
    pub operation: String,
    /// Whether that is the user's operation or a derivative of one.
    pub part: Part,
    /// The user's line.
    pub line: Place,
    /// What it made.
    pub at: Element,
    /// What it made it from.
    pub operands: Vec<Operand>,
    /// Which rule of arithmetic that breaks.
    pub cause: Cause,
    /// The derivative's formula, where it is a derivative.
    pub formula: Option<String>,
    /// The loops, branches and fused groups it is in, outermost first.
    pub inside: Vec<String>,
    /// The argument that the operation is nearest to, by its path.
    pub near: Option<String>,
    /// What to write instead.
    pub advice: String,
    /// What carried it from there to the result, first to last.
    pub passed: Vec<Passage>,
}

/// What an operation was given.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operand {
    /// Its path, if it is an argument.
    pub name: Option<String>,
    /// Shape and dtype.
    pub ty: String,
    /// The elements that went into the result: those that are not finite first, then the largest; at most four.
    pub elements: Vec<Element>,
    /// How many elements went into the result.
    pub count: usize,
}

/// An operation that handed on what was not finite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Passage {
    /// The operation.
    pub operation: String,
    /// Forward or a derivative.
    pub part: Part,
    /// The user's line.
    pub line: Place,
    /// What it made.
    pub made: Element,
}

impl std::fmt::Display for NonFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} is not finite: {}", self.result, self.seen)?;
        let near = self.near.as_ref().map(|path| format!(", near {path}")).unwrap_or_default();
        writeln!(f, "  made by  {} ({}) at {}{near}", self.operation, self.part, self.line)?;
        for inside in &self.inside {
            writeln!(f, "  inside   {inside}")?;
        }
        let formula = self.formula.as_ref().map(|formula| format!(" in {formula}")).unwrap_or_default();
        writeln!(f, "  because  {}{formula}: it made {}", self.cause, self.at)?;
        for operand in &self.operands {
            let name = operand.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            let elements: Vec<String> = operand.elements.iter().map(ToString::to_string).collect();
            let more = match operand.count - operand.elements.len() {
                0 => String::new(),
                rest => format!(", and {rest} more"),
            };
            writeln!(f, "  from     {name}{} with {}{more}", operand.ty, elements.join(", "))?;
        }
        let mut last = None;
        for passage in &self.passed {
            let line = format!("{} at {}", passage.part, passage.line);
            if last.as_ref() != Some(&line) {
                writeln!(f, "  then     {} ({}) at {}", passage.operation, passage.part, passage.line)?;
            }
            last = Some(line);
        }
        write!(f, "  instead  {}", self.advice)
    }
}
