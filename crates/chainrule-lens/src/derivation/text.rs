//! A derivation as text for a terminal.

use super::{Definition, Derivation, Equation, Explained, Factor, InTime, Loop, PathTerm, TermOfStep};
use std::fmt::Write;
use std::ops::Range;

/// Columns that a product may take before it goes on in the next line.
const WIDE: usize = 110;
/// Jacobians of at most this many elements are written out.
const SMALL: usize = 16;
/// Steps of a loop that are shown at either end.
const ENDS: usize = 3;

impl std::fmt::Display for Derivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "L = {}", self.value)?;
        for symbol in &self.symbols {
            writeln!(f, "  {:<4} {:?} {}", symbol.symbol, symbol.shape, symbol.path)?;
        }
        writeln!(f, "\nforward")?;
        self.definitions.iter().try_for_each(|definition| write_definition(f, definition))?;
        writeln!(f, "\nbackward, δ₁ being the gradient by z₁ and δ[h₁] that by h₁")?;
        self.backward.iter().try_for_each(|equation| write_equation(f, equation))?;
        self.loops.iter().try_for_each(|found| write_loop(f, found))?;
        self.parameters.iter().try_for_each(|parameter| write_parameter(f, parameter))
    }
}

fn write_definition(f: &mut std::fmt::Formatter<'_>, definition: &Definition) -> std::fmt::Result {
    let equation = format!("{} = {}", definition.name, definition.formula);
    writeln!(f, "  {equation:<48} {:<18} {}", shape(&definition.shape), definition.line)
}

fn write_equation(f: &mut std::fmt::Formatter<'_>, equation: &Equation) -> std::fmt::Result {
    let (text, norm, shape) = (equation.to_string(), equation.norm.to_string(), shape(&equation.shape));
    write!(f, "  {text:<48} {shape:<18} length {norm:<10} ")?;
    match equation.symbol.starts_with('∂') {
        true => writeln!(f, "{}", equation.of),
        false => writeln!(f, "{}", equation.line),
    }
}

fn write_loop(f: &mut std::fmt::Formatter<'_>, found: &Loop) -> std::fmt::Result {
    let Loop { name, steps, line, shown, .. } = found;
    writeln!(f, "\nloop {name} of {steps} steps, {line}: step t")?;
    found.definitions.iter().try_for_each(|definition| write_definition(f, definition))?;
    writeln!(f, "  back, ε[{name}⁽ᵗ⁾] being what later steps and the use of {name} send; lengths of step {shown}")?;
    found.backward.iter().try_for_each(|equation| write_equation(f, equation))?;
    for operand in &found.operands {
        writeln!(f, "  by {}, length {}", operand.symbol, operand.norm)?;
        write_paths(f, operand)?;
    }
    writeln!(
        f,
        "  {:<8} {:<14} {:<18} ∂{name}⁽ᵀ⁾/∂{name}⁽ᵗ⁾",
        "step",
        "length of ε",
        format!("×∂{name}⁽ᵗ⁾/∂{name}⁽ᵗ⁻¹⁾")
    )?;
    let passages = &found.passages;
    let row = |place: usize| {
        let [arrives, gain, product] = [passages[place].arrives, passages[place].gain, passages[place].product];
        format!("  {:<8} {:<14} ×{:<17} ×{product}", passages[place].step, arrives.to_string(), gain.to_string())
    };
    write_folded(f, passages.len(), row, |hidden| format!("  …        {} further steps", hidden.len()))
}

fn write_parameter(f: &mut std::fmt::Formatter<'_>, parameter: &Explained) -> std::fmt::Result {
    let Explained { path, symbol, norm, .. } = parameter;
    let path = if path.is_empty() { String::new() } else { format!(", {symbol} = {path}") };
    writeln!(f, "\n∂L/∂{symbol}  {}, length {norm}{path}", shape(&parameter.shape))?;
    write_paths(f, parameter)?;
    parameter.in_time.as_ref().map_or(Ok(()), |in_time| write_in_time(f, in_time))
}

fn write_paths(f: &mut std::fmt::Formatter<'_>, parameter: &Explained) -> std::fmt::Result {
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

fn write_in_time(f: &mut std::fmt::Formatter<'_>, in_time: &InTime) -> std::fmt::Result {
    for through in &in_time.loops {
        writeln!(f, "  by the steps of {}", through.of)?;
        let row = |place: usize| format!("    {}", term(&through.terms[place]));
        let folded = |hidden: Range<usize>| format!("    … {}", together(&through.terms[hidden]));
        write_folded(f, through.terms.len(), row, folded)?;
    }
    if in_time.beside.norm.0 > 0.0 {
        writeln!(f, "  beside them {:.1} % of it, length {}", in_time.beside.share.0 * 100.0, in_time.beside.norm)?;
    }
    writeln!(f, "  the steps sum to it within {}", in_time.remainder)
}

/// One step's term in words.
pub(super) fn term(term: &TermOfStep) -> String {
    let name = if term.step == 0 { "first state".to_owned() } else { format!("step {}", term.step) };
    format!("{name:<12} {:>6.1} % of it, length {}", term.share.0 * 100.0, term.norm)
}

/// Those of several steps.
pub(super) fn together(terms: &[TermOfStep]) -> String {
    let share: f64 = terms.iter().map(|term| term.share.0).sum();
    let longest = terms.iter().max_by(|a, b| a.norm.0.total_cmp(&b.norm.0));
    let longest = longest.map_or(String::new(), |term| format!(", the longest {} of step {}", term.norm, term.step));
    format!("{} steps with {:.1} % of it{longest}", terms.len(), share * 100.0)
}

/// Which of so many rows are not shown: of many, all but the first and the last few.
pub(super) fn folded(rows: usize) -> Range<usize> {
    if rows > 2 * ENDS + 2 { ENDS..rows - ENDS } else { rows..rows }
}

fn write_folded(
    f: &mut std::fmt::Formatter<'_>,
    rows: usize,
    row: impl Fn(usize) -> String,
    summary: impl Fn(Range<usize>) -> String,
) -> std::fmt::Result {
    let hidden = folded(rows);
    for place in (0..rows).filter(|place| !hidden.contains(place) || *place == hidden.start) {
        let text = if hidden.contains(&place) { summary(hidden.clone()) } else { row(place) };
        writeln!(f, "{text}")?;
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
