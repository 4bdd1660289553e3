//! The report of a gradient check, and its text for a terminal.

use crate::place::{Number, Place};
use serde::Serialize;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Derivative and differences agree.
    Right,
    /// The function has no derivative here; the one given lies between the slopes of the two sides.
    Kink,
    /// They disagree.
    Wrong,
    /// Forward and reverse mode disagree: a custom derivative is not linear in its tangent.
    ModesDiffer,
}

/// A gradient held against differences.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradientCheck {
    /// The function's value in double precision.
    pub value: Number,
    /// The worst of all parameters.
    pub status: Status,
    /// Each parameter.
    pub leaves: Vec<LeafCheck>,
    /// Operations that stand exactly on a kink, if a parameter does.
    pub kinks: Vec<Kink>,
    /// Each custom derivative that can be checked alone.
    pub custom: Vec<CustomCheck>,
    /// Operations without a derivative, with their lines, if a parameter is wrong.
    pub cut: Vec<(String, Place)>,
    /// What smaller dtypes lose, parameter by parameter.
    pub precision: Vec<Precision>,
    /// The same for the parameters of each layer together.
    pub layers: Vec<Precision>,
}

/// One parameter along random directions; the numbers are those of the worst.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeafCheck {
    /// Its path, empty for a lone tensor.
    pub path: String,
    /// Shape and dtype.
    pub ty: String,
    /// The line that reads it first, if one does.
    pub line: Option<Place>,
    /// What was found.
    pub status: Status,
    /// The derivative along the direction.
    pub derivative: Number,
    /// What differences give.
    pub differences: Number,
    /// Their difference over the larger.
    pub relative_error: Number,
    /// Forward against reverse mode, relative.
    pub forward_reverse: Number,
    /// The element that is most wrong, if the parameter is not right.
    pub worst: Option<Coordinate>,
}

/// One element of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coordinate {
    /// Its index.
    pub index: Vec<usize>,
    /// The parameter there.
    pub at: Number,
    /// The derivative given.
    pub derivative: Number,
    /// What differences from both sides give.
    pub differences: Number,
    /// From below, where the sides were looked at.
    pub left: Option<Number>,
    /// From above.
    pub right: Option<Number>,
}

/// An operation at a point where it has no derivative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kink {
    /// The operation.
    pub operation: String,
    /// The user's line.
    pub line: Place,
    /// How many of its elements are there.
    pub elements: usize,
}

/// A custom derivative held against differences of its own function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CustomCheck {
    /// The line of the call.
    pub line: Place,
    /// The largest relative error over its operands.
    pub relative_error: f64,
    /// What was found.
    pub status: Status,
}

/// The gradient of a parameter or a layer in one dtype against double precision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Precision {
    /// The path of the parameter or layer.
    pub path: String,
    /// The dtype.
    pub dtype: String,
    /// ‖g − g₆₄‖ / ‖g₆₄‖.
    pub relative_error: Number,
    /// Decimal digits the dtype holds.
    pub digits: f64,
    /// How many of them the gradient does not have.
    pub lost: f64,
    /// The share of elements that became 0.
    pub underflowed: f64,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Right => "right",
            Status::Kink => "kink",
            Status::Wrong => "WRONG",
            Status::ModesDiffer => "MODES DIFFER",
        })
    }
}

impl std::fmt::Display for GradientCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "gradient check: {} (value {})", self.status, self.value)?;
        let width = self.leaves.iter().map(|leaf| leaf.path.len()).max().unwrap_or(0).max(9);
        writeln!(f, "  {:<width$}  {:<6} {:>13} {:>13} {:>9}", "parameter", "", "derivative", "differences", "error")?;
        for leaf in &self.leaves {
            let path = if leaf.path.is_empty() { "argument" } else { &leaf.path };
            let (derived, numeric) = (leaf.derivative.to_string(), leaf.differences.to_string());
            let error = leaf.relative_error.0;
            writeln!(f, "  {path:<width$}  {:<6} {derived:>13} {numeric:>13} {error:>9.1e}", leaf.status)?;
            if let Some(worst) = &leaf.worst {
                let sides = match (worst.left, worst.right) {
                    (Some(left), Some(right)) => format!(" (from below {left}, from above {right})"),
                    _ => String::new(),
                };
                let (at, slope, numeric) = (worst.at, worst.derivative, worst.differences);
                let line = leaf.line.as_ref().map_or(String::new(), |line| format!(", used at {line}"));
                writeln!(f, "    worst at {:?} = {at}: {slope} for {numeric}{sides}{line}", worst.index)?;
            }
        }
        for kink in &self.kinks {
            writeln!(f, "  {} elements are on the kink of {} at {}", kink.elements, kink.operation, kink.line)?;
        }
        for custom in self.custom.iter().filter(|custom| custom.status == Status::Wrong) {
            let (line, error) = (&custom.line, custom.relative_error);
            writeln!(f, "  the custom derivative at {line} is not that of its function: relative error {error:.2e}")?;
        }
        for (operation, line) in &self.cut {
            writeln!(f, "  {operation} at {line} has derivative 0 by decree")?;
        }
        for loss in self.layers.iter().filter(|loss| loss.lost >= 0.05 || loss.underflowed >= 0.01) {
            let path = if loss.path.is_empty() { "the arguments" } else { &loss.path };
            let under = match loss.underflowed >= 0.01 {
                true => format!(", {:.0} % of it became 0", loss.underflowed * 100.0),
                false => String::new(),
            };
            writeln!(f, "  {} loses {:.1} of {:.1} digits of {path}{under}", loss.dtype, loss.lost, loss.digits)?;
        }
        Ok(())
    }
}
