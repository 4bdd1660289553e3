//! A derivation as text for a terminal.

use super::{Derivation, Explained, Factor, PathTerm};
use std::fmt::Write;

/// Columns that a product may take before it goes on in the next line.
const WIDE: usize = 110;
/// Jacobians of at most this many elements are written out.
const SMALL: usize = 16;

impl std::fmt::Display for Derivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "L = {}", self.value)?;
        for symbol in &self.symbols {
            writeln!(f, "  {:<4} {:?} {}", symbol.symbol, symbol.shape, symbol.path)?;
        }
        writeln!(f, "\nforward")?;
        for definition in &self.definitions {
            let equation = format!("{} = {}", definition.name, definition.formula);
            writeln!(f, "  {equation:<48} {:<18} {}", shape(&definition.shape), definition.line)?;
        }
        writeln!(f, "\nbackward, δ₁ being the gradient by z₁ and δ[h₁] that by h₁")?;
        for equation in &self.backward {
            let (shape, line) = (shape(&equation.shape), &equation.line);
            let (text, norm) = (equation.to_string(), equation.norm.to_string());
            match equation.symbol.starts_with('∂') {
                true => writeln!(f, "  {text:<48} {shape:<18} length {norm:<10} {}", equation.of)?,
                false => writeln!(f, "  {text:<48} {shape:<18} length {norm:<10} {line}")?,
            }
        }
        self.parameters.iter().try_for_each(|parameter| write_parameter(f, parameter))
    }
}

fn write_parameter(f: &mut std::fmt::Formatter<'_>, parameter: &Explained) -> std::fmt::Result {
    let Explained { path, symbol, norm, .. } = parameter;
    let path = if path.is_empty() { String::new() } else { format!(", {symbol} = {path}") };
    writeln!(f, "\n∂L/∂{symbol}  {}, length {norm}{path}", shape(&parameter.shape))?;
    if parameter.paths.is_empty() {
        return writeln!(f, "  = 0: no path leads to it");
    }
    for (number, term) in parameter.paths.iter().enumerate() {
        let sign = if number == 0 { "=" } else { "+" };
        let share = format!("({:.1} % of it, length {})", term.share.0 * 100.0, term.norm);
        writeln!(f, "  {sign} {}  {share}", chain(term))?;
        if number == 0 {
            term.factors.iter().try_for_each(|factor| writeln!(f, "      {}", line(factor)))?;
        }
    }
    if parameter.more {
        let rest = parameter.all_paths.0 - parameter.paths.len() as f64;
        writeln!(f, "  + {} further paths, together of length {}", many(rest), parameter.remainder)?;
    } else if parameter.paths.len() > 1 {
        writeln!(f, "  the {} paths sum to it within {}", parameter.paths.len(), parameter.remainder)?;
    }
    Ok(())
}

/// The product, in as many lines as it needs.
fn chain(term: &PathTerm) -> String {
    let mut text = String::new();
    let mut column = 0;
    for (number, factor) in term.factors.iter().enumerate() {
        let part = format!("∂{}/∂{}", factor.of, factor.by);
        let width = part.chars().count() + 3;
        if number > 0 {
            column += width;
            text.push_str(if column > WIDE { "\n      · " } else { " · " });
            column = if column > WIDE { width } else { column };
        }
        text.push_str(&part);
    }
    if text.is_empty() { "1".to_owned() } else { text }
}

fn line(factor: &Factor) -> String {
    let shapes = format!("{} by {}", shape(&factor.rows), shape(&factor.columns));
    let head = format!("∂{}/∂{} = {}", factor.of, factor.by, factor.formula);
    let mut text = format!("{head:<44} {shapes:<30} ×{:<10} {}", factor.gain.to_string(), factor.line);
    let values =
        factor.values.as_ref().filter(|values| factor.formula != "1" && !values.is_empty() && values.len() <= SMALL);
    if let Some(values) = values {
        let columns = factor.columns.iter().product::<usize>().max(1);
        let row =
            |row: &[crate::place::Number]| row.iter().map(|x| format!("{:.4}", x.0)).collect::<Vec<_>>().join(" ");
        let rows: Vec<String> = values.chunks(columns).map(row).collect();
        let _ = write!(text, "\n        [{}]", rows.join("; "));
    }
    text
}

fn shape(shape: &[usize]) -> String {
    if shape.is_empty() { "number".to_owned() } else { format!("{shape:?}") }
}

/// A count in words that a table has room for.
pub(super) fn many(count: f64) -> String {
    if count < 1e6 { format!("{count:.0}") } else { format!("{count:.1e}") }
}
