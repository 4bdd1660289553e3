//! An analysis as aligned text for a terminal, and as LaTeX.

use anstyle::{AnsiColor, Style};

use super::analysis::{Analysis, Derivative, Local, Path, Paths, Step};
use super::pretty;
use super::pretty::{pad, short, superscript, value_text, width};
use crate::outcome::paint;

const TITLE: Style = Style::new().bold();
const NUMBER: Style = AnsiColor::Cyan.on_default();
const QUIET: Style = Style::new().dimmed();

/// Columns beyond which symbols are not padded, so that one long line does not move the others.
const WIDEST: usize = 44;
/// Factors of a path that are written out.
const MOST_FACTORS: usize = 9;

/// Rows of columns, each column as wide as its widest cell (up to [`WIDEST`]).
#[derive(Default)]
struct Table {
    rows: Vec<Vec<(String, Option<Style>)>>,
}

impl Table {
    fn row(&mut self, cells: impl IntoIterator<Item = (String, Option<Style>)>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn lines(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|i| {
                let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|(cell, _)| width(cell));
                cells.filter(|width| *width <= WIDEST).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|(cell, _)| !cell.is_empty()).unwrap_or(0);
            out.push_str("  ");
            for (i, (cell, style)) in row.iter().enumerate().take(last + 1) {
                let cell = if i == last { cell.clone() } else { pad(cell, widths[i]) };
                out.push_str(&style.map_or(cell.clone(), |style| paint(style, &cell)));
            }
            out.push('\n');
        }
        out
    }
}

fn plain(text: impl Into<String>) -> (String, Option<Style>) {
    (text.into(), None)
}

fn number(value: Option<f64>) -> (String, Option<Style>) {
    match value {
        Some(value) => (format!("  = {}", aligned(&short(value))), Some(NUMBER)),
        None => (String::new(), None),
    }
}

/// A space where others have their sign.
fn aligned(number: &str) -> String {
    if number.starts_with('-') { number.into() } else { format!(" {number}") }
}

fn title(text: &str, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { paint(QUIET, format!("  {note}")) };
    format!("\n{}{note}\n", paint(TITLE, text))
}

/// ∂²f/∂x∂y, or d²f/dx² if there is one variable.
fn quotient(name: &str, by: &[String], one: bool) -> String {
    let d = if one { "d" } else { "∂" };
    let raised = |n: usize| if n > 1 { superscript(n as i64) } else { String::new() };
    let mut below = String::new();
    for group in by.chunk_by(|a, b| a == b) {
        below += &format!("{d}{}{}", pretty::name(&group[0]), raised(group.len()));
    }
    format!("{d}{}{name}/{below}", raised(by.len()))
}

fn local_name(step: &Step, by: &str) -> String {
    let d = if step.derivatives.len() == 1 { "d" } else { "∂" };
    format!("{d}{}/{d}{}", pretty::name(&step.name), pretty::name(by))
}

/// The whole as text.
pub fn text(analysis: &Analysis) -> String {
    let one = analysis.variables.len() == 1;
    let mut out = heading(analysis);
    if !analysis.chain.is_empty() {
        out += &title("Chain", "");
        let mut table = Table::default();
        for step in &analysis.chain {
            let name = plain(pretty::name(&step.name));
            table.row([name, plain(format!(" = {}", step.operation.pretty)), number(step.value)]);
        }
        out += &table.lines();
        out += &title("Local derivatives", "");
        let mut table = Table::default();
        for (step, local) in analysis.chain.iter().flat_map(|step| step.derivatives.iter().map(move |l| (step, l))) {
            let symbol = plain(format!(" = {}", local.symbol.pretty));
            table.row([plain(local_name(step, &local.by)), symbol, number(local.value)]);
        }
        out += &table.lines();
        for paths in analysis.paths.iter().filter(|_| analysis.chain.len() > 1) {
            out += &chain_rule(analysis, paths, one);
        }
    }
    let firsts = analysis.derivatives.len();
    if firsts > 0 {
        out += &title(if firsts == 1 { "Derivative" } else { "Derivatives" }, "");
        let mut table = Table::default();
        for derivative in &analysis.derivatives {
            let symbol = derivative.symbol.as_ref().map_or("(too long to show)", |symbol| &symbol.pretty);
            let name = quotient(&analysis.name, &derivative.by, one);
            table.row([plain(name), plain(format!(" = {symbol}"))]);
        }
        out += &table.lines();
    }
    if analysis.derivatives.iter().any(|derivative| derivative.value.is_some()) {
        out += &values(analysis, one);
    }
    if let Some(hessian) = &analysis.hessian {
        out += &matrix(analysis, hessian);
    }
    if !analysis.notes.is_empty() {
        out.push('\n');
    }
    for note in &analysis.notes {
        out += &format!("{}\n", paint(QUIET, format!("Note: {note}.")));
    }
    out
}

fn heading(analysis: &Analysis) -> String {
    let names: Vec<String> = analysis.variables.iter().map(|variable| pretty::name(&variable.name)).collect();
    let names = if names.len() > 8 { format!("{}, …", names[..8].join(", ")) } else { names.join(", ") };
    let function = if names.is_empty() { analysis.name.clone() } else { format!("{}({names})", analysis.name) };
    let body = match &analysis.expression {
        Some(symbol) => symbol.pretty.clone(),
        None => format!("… ({} operations)", analysis.operations),
    };
    let at: Vec<String> = analysis
        .variables
        .iter()
        .filter_map(|variable| Some(format!("{} = {}", pretty::name(&variable.name), value_text(variable.value?))))
        .collect();
    let more = if at.len() > 8 { ", …" } else { "" };
    let at = at.into_iter().take(8).collect::<Vec<_>>().join(", ");
    let mut out = paint(TITLE, format!("{function} = {body}"));
    if !at.is_empty() {
        out += &paint(QUIET, format!("   at {at}{more}"));
    }
    out.push('\n');
    // Without a chain the value stands nowhere else.
    if analysis.chain.is_empty()
        && let Some(value) = analysis.value
        && value_text(value) != body
    {
        out += &format!("{} = {}\n", " ".repeat(width(&function)), paint(NUMBER, value_text(value)));
    }
    out
}

fn chain_rule(analysis: &Analysis, paths: &Paths, one: bool) -> String {
    let by = [paths.variable.clone()];
    let name = quotient(&analysis.name, &by, one);
    let note = match paths.count {
        0 => "no path: the derivative is 0".into(),
        1 => "one path".into(),
        count if count > paths.paths.len() as u64 => format!("{count} paths, summed; the first {}", paths.paths.len()),
        count => format!("{count} paths, summed"),
    };
    let mut out = title(&format!("Chain rule for {name}"), &note);
    let mut symbols = Table::default();
    for (place, path) in paths.paths.iter().enumerate() {
        let lead = if place == 0 { format!("{name} = ") } else { format!("{}+ ", " ".repeat(width(&name) + 1)) };
        let names: Vec<String> =
            links(analysis, path).into_iter().map(|(step, local)| local_name(step, &local.by)).collect();
        symbols.row([plain(lead), plain(names.join(" · "))]);
    }
    out += &symbols.lines();
    if paths.paths.is_empty() {
        return out;
    }
    out.push('\n');
    let mut table = Table::default();
    for path in &paths.paths {
        let symbols = links(analysis, path).into_iter().map(|(_, local)| local.symbol.pretty.clone());
        let factors = path.factors.iter().flatten().map(|&value| short(value));
        let factors = shortened(factors.collect());
        let equals = if factors.is_empty() { String::new() } else { format!("  = {factors}") };
        table.row([plain(shortened(symbols.collect())), plain(equals), number(path.product)]);
    }
    if paths.count > 1 && paths.sum.is_some() {
        let more = paths.count - paths.paths.len() as u64;
        let label = if more > 0 { format!("sum, with {more} more paths") } else { "sum".into() };
        table.row([(label, Some(QUIET)), plain(""), number(paths.sum)]);
    }
    out + &table.lines()
}

/// Factors with dots between, in parentheses where they need them, and only the first and last of very many.
fn shortened(factors: Vec<String>) -> String {
    let factors: Vec<String> = match &factors[..] {
        [_] => factors,
        _ => factors.iter().map(|factor| bracketed(factor)).collect(),
    };
    match factors.len() {
        0..=MOST_FACTORS => factors.join(" · "),
        n => format!("{} · … · {}", factors[..3].join(" · "), factors[n - 2..].join(" · ")),
    }
}

/// A sum or a negative factor in parentheses.
fn bracketed(factor: &str) -> String {
    let loose = factor.starts_with('-') || factor.contains(" + ") || factor.contains(" - ");
    let closed = factor.ends_with(')') && !factor.starts_with('-') && !factor.contains(") ");
    if loose && !closed { format!("({factor})") } else { factor.into() }
}

/// The steps and local derivatives along a path.
fn links<'a>(analysis: &'a Analysis, path: &Path) -> Vec<(&'a Step, &'a Local)> {
    path.names
        .windows(2)
        .filter_map(|pair| {
            let step = analysis.chain.iter().find(|step| step.name == pair[0])?;
            Some((step, step.derivatives.iter().find(|local| local.by == pair[1])?))
        })
        .collect()
}

fn values(analysis: &Analysis, one: bool) -> String {
    let mut out = title("Values", "");
    let mut table = Table::default();
    let quiet = |text: &str| (text.to_owned(), Some(QUIET));
    table.row([plain(""), quiet("   engine"), quiet("   finite differences"), quiet("   difference")]);
    let cell = |value: Option<f64>| value.map_or(String::new(), |value| format!("  {}", aligned(&value_text(value))));
    for Derivative { by, value, finite_difference, difference, .. } in &analysis.derivatives {
        let small = difference.map_or(String::new(), |d| if d == 0.0 { "   0".into() } else { format!("   {d:.1e}") });
        let name = plain(quotient(&analysis.name, by, one));
        table.row([name, (cell(*value), Some(NUMBER)), plain(cell(*finite_difference)), quiet(&small)]);
    }
    out += &table.lines();
    out
}

fn matrix(analysis: &Analysis, hessian: &[Vec<f64>]) -> String {
    let mut names: Vec<&String> = analysis.derivatives.iter().filter(|d| d.by.len() == 1).map(|d| &d.by[0]).collect();
    names.dedup();
    let mut out = title("Hessian", "");
    let mut table = Table::default();
    let head = names.iter().map(|name| (format!("  {}", aligned(&pretty::name(name))), Some(QUIET)));
    table.row(std::iter::once(plain("")).chain(head));
    for (name, row) in names.iter().zip(hessian) {
        let cells = row.iter().map(|&value| (format!("  {}", aligned(&short(value))), Some(NUMBER)));
        table.row(std::iter::once((pretty::name(name), Some(QUIET))).chain(cells));
    }
    out += &table.lines();
    out
}

/// The whole as LaTeX: an `align*` environment.
pub fn latex(analysis: &Analysis) -> String {
    let one = analysis.variables.len() == 1;
    let name = |name: &str| match crate::expression::Expression::variable(name) {
        Some(variable) => variable.to_latex(),
        None => name.to_owned(),
    };
    let value = |value: Option<f64>| match value {
        Some(value) if value.is_finite() => {
            format!(" = {}", crate::expression::Expression::number(short(value).parse().unwrap_or(value)).to_latex())
        }
        _ => String::new(),
    };
    let mut lines = Vec::new();
    let names: Vec<String> = analysis.variables.iter().map(|variable| name(&variable.name)).collect();
    let function =
        if names.is_empty() { analysis.name.clone() } else { format!("{}({})", analysis.name, names.join(", ")) };
    if let Some(expression) = &analysis.expression {
        lines.push(format!("{function} &= {}", expression.latex));
    }
    for step in &analysis.chain {
        lines.push(format!("{} &= {}{}", name(&step.name), step.operation.latex, value(step.value)));
    }
    let fraction = |above: &str, by: &[String], d: &str| {
        let raised = |n: usize| if n > 1 { format!("^{{{n}}}") } else { String::new() };
        let below: Vec<String> =
            by.chunk_by(|a, b| a == b).map(|group| format!("{d} {}{}", name(&group[0]), raised(group.len()))).collect();
        format!("\\frac{{{d}{} {}}}{{{}}}", raised(by.len()), name(above), below.join(" \\, "))
    };
    for step in &analysis.chain {
        let d = if step.derivatives.len() == 1 { "\\mathrm{d}" } else { "\\partial" };
        for local in &step.derivatives {
            let left = fraction(&step.name, std::slice::from_ref(&local.by), d);
            lines.push(equation(&left, &local.symbol.latex, value(local.value)));
        }
    }
    let d = if one { "\\mathrm{d}" } else { "\\partial" };
    for paths in analysis.paths.iter().filter(|paths| analysis.chain.len() > 1 && !paths.paths.is_empty()) {
        let products: Vec<String> = paths
            .paths
            .iter()
            .map(|path| {
                let factors = links(analysis, path).into_iter().map(|(step, local)| {
                    let d = if step.derivatives.len() == 1 { "\\mathrm{d}" } else { "\\partial" };
                    fraction(&step.name, std::slice::from_ref(&local.by), d)
                });
                factors.collect::<Vec<_>>().join(" ")
            })
            .collect();
        let more = if paths.count > paths.paths.len() as u64 { " + \\cdots" } else { "" };
        let left = fraction(&analysis.name, std::slice::from_ref(&paths.variable), d);
        lines.push(format!("{left} &= {}{more}", products.join(" + ")));
    }
    for derivative in &analysis.derivatives {
        let left = fraction(&analysis.name, &derivative.by, d);
        match &derivative.symbol {
            Some(symbol) => lines.push(equation(&left, &symbol.latex, value(derivative.value))),
            None => lines.push(format!("{left} &{}", value(derivative.value).trim_start())),
        }
    }
    format!("\\begin{{align*}}\n{}\n\\end{{align*}}\n", lines.join(" \\\\\n"))
}

/// A line of symbols and their value, which is left out where it says the same.
fn equation(left: &str, symbols: &str, value: String) -> String {
    let value = if value == format!(" = {symbols}") { String::new() } else { value };
    format!("{left} &= {symbols}{value}")
}
