//! `chainrule derive`: an expression, its chain of operations, and its derivatives as the engine takes them.
//!
//! The symbols are read off the engine's own derivative programs (`engine.rs` makes them, `read.rs` reads them,
//! `algebra.rs` writes them short). This file has the arguments; `analysis.rs` gathers what is shown, `show.rs` shows it.

mod algebra;
mod analysis;
mod differences;
mod engine;
mod pretty;
mod ratio;
mod read;
mod show;

use clap::Args;

use crate::expression::{Excerpt, Expression};
use crate::outcome::{self, Failure, Outcome};

/// The highest order that is taken.
const MAX_ORDER: u32 = 10;

/// Show the chain rule at work on an expression, step by step
///
/// Names every intermediate of the expression, gives each local derivative in symbols and numbers, multiplies them
/// along every path to the variable, and shows the simplified derivative with its value, which is checked against
/// finite differences. All derivatives are the engine's own, the ones that train networks.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chainrule derive \"sin(x^2)*exp(-x)\" --at x=1.5
  chainrule derive \"log(x)/x\"                              symbols only
  chainrule derive \"exp(-x^2)\" --order 4 --at x=0.5        up to the 4th derivative
  chainrule derive \"(1-x)^2 + 100(y-x^2)^2\" --at x=1.2,y=1  gradient and Hessian
  chainrule derive \"x^y\" --wrt y --at x=2 --at y=pi/2
  chainrule derive \"sigmoid(w*x + b)\" --latex
  chainrule derive \"tanh(x)\" --at x=0.3 --json | jq '.derivatives[0].value'

Expressions: + - * / ^, 2x, 3 sin(x), (x+1)(x-1), x², pi, e, tau, and the functions
  sin cos tan asin acos atan sinh cosh tanh exp expm1 log (ln) log1p log2 log10
  sqrt abs sign erf sigmoid softplus relu gelu min(a,b) max(a,b) pow(a,b).
Any other name is a variable. [a > b] in a derivative is 1 where it holds, otherwise 0.")]
pub struct DeriveArgs {
    /// The expression, such as "sin(x^2)*exp(-x)"
    #[arg(allow_hyphen_values = true)]
    expression: String,
    /// Values of variables: x=1.5, several as x=1,y=pi/2 or by repeating --at
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',', num_args = 1..)]
    at: Vec<String>,
    /// Derive with respect to these variables only; the others are held fixed
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    wrt: Vec<String>,
    /// Derivatives up to this order
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_ORDER as i64))]
    order: u32,
    /// Print LaTeX, an align* environment
    #[arg(long, conflicts_with = "json")]
    latex: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: DeriveArgs) -> Outcome {
    let text = &arguments.expression;
    let (expression, places) = Expression::parse_with_places(text)
        .map_err(|error| Failure::input(format!("the expression cannot be read\n{}", error.render())))?;
    let graph = engine::Graph::new(&expression);
    let point = point(&arguments.at, text, &expression, &places)?;
    let wrt = wrt(&arguments.wrt, &graph.variables)?;
    if let Some(point) = &point {
        inside_domain(&graph, point, text, &expression, &places)?;
    }
    let analysis = analysis::analyse(&expression, &graph, point.as_deref(), &wrt, arguments.order)?;
    match (arguments.json, arguments.latex) {
        (true, _) => outcome::print_json(&analysis),
        (false, true) => outcome::print(&show::latex(&analysis)),
        (false, false) => outcome::print(&show::text(&analysis)),
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "the expression has no variables".into(),
        [one] => format!("the only variable is {one}"),
        _ if names.len() > 12 => format!("the variables are {} and {} more", names[..12].join(", "), names.len() - 12),
        _ => format!("the variables are {}", names.join(", ")),
    }
}

/// The places of the variables to derive by; all if none is named.
fn wrt(names: &[String], variables: &[String]) -> Result<Vec<usize>, Failure> {
    let mut places = Vec::new();
    for name in names {
        match variables.iter().position(|variable| variable == name) {
            Some(place) if !places.contains(&place) => places.push(place),
            Some(_) => return Err(Failure::input(format!("--wrt names {name} twice"))),
            None => return Err(Failure::input(format!("--wrt {name}: {}", list(variables)))),
        }
    }
    Ok(if names.is_empty() { (0..variables.len()).collect() } else { places })
}

/// The values of the variables in their order; none if no value is given.
fn point(
    at: &[String],
    text: &str,
    expression: &Expression,
    places: &[std::ops::Range<usize>],
) -> Result<Option<Vec<f64>>, Failure> {
    let variables: Vec<String> = expression.variables().into_iter().map(str::to_owned).collect();
    let mut values: Vec<Option<f64>> = vec![None; variables.len()];
    for entry in at {
        let wrong = |range, message: String| {
            Failure::input(format!("--at cannot be read\n{}", Excerpt::new(entry, range).render(message)))
        };
        let Some((name, value)) = entry.split_once('=') else {
            return Err(wrong(0..entry.len(), "expected a name, = and a value, such as x=1.5".into()));
        };
        let begin = name.len() + 1;
        let Some(place) = variables.iter().position(|variable| variable == name.trim()) else {
            let message = format!("there is no variable {}; {}", name.trim(), list(&variables));
            return Err(wrong(0..name.len(), message));
        };
        let number = match Expression::parse(value) {
            Ok(parsed) => read::constant_value(parsed.nodes()),
            Err(error) => {
                return Err(wrong(begin + error.at.start..begin + error.at.end, error.kind.to_string()));
            }
        };
        let Some(number) = number.filter(|number| number.is_finite()) else {
            let (value, name) = (value.trim(), name.trim());
            let message = format!("{value} is no finite number; write one such as {name}=1.5 or {name}=pi/2");
            return Err(wrong(begin..entry.len(), message));
        };
        if values[place].replace(number).is_some() {
            return Err(wrong(0..name.len(), format!("{} has a value already", name.trim())));
        }
    }
    if at.is_empty() && !variables.is_empty() {
        return Ok(None);
    }
    if let Some(missing) = values.iter().position(Option::is_none) {
        let name = &variables[missing];
        let node = expression.nodes().iter().position(|node| *node == crate::expression::Node::Variable(name.clone()));
        let excerpt = Excerpt::new(text, node.map_or(0..0, |node| places[node].clone()));
        let message = format!("{name} has no value; add --at {name}=1 or leave --at away for symbols only");
        return Err(Failure::input(format!("a value is missing\n{}", excerpt.render(message))));
    }
    Ok(Some(values.into_iter().flatten().collect()))
}

/// An error that points at the first operation that gives no number.
fn inside_domain(
    graph: &engine::Graph,
    point: &[f64],
    text: &str,
    expression: &Expression,
    places: &[std::ops::Range<usize>],
) -> Outcome {
    if !graph.value(point).is_nan() {
        return Ok(());
    }
    let values = graph.values(point);
    let Some(id) = values.iter().position(|value| value.is_nan()) else { return Ok(()) };
    let operands: Vec<f64> = engine::operands_of(&graph.nodes[id]).iter().map(|&operand| values[operand]).collect();
    let why = analysis::outside(&graph.nodes[id], &operands);
    let node = (0..expression.nodes().len()).find(|&node| graph.of[node] == id).unwrap_or(expression.root());
    let excerpt = Excerpt::new(text, places[node].clone());
    let at: Vec<String> = graph
        .variables
        .iter()
        .zip(point)
        .take(6)
        .map(|(name, value)| format!("{name} = {}", pretty::value_text(*value)))
        .collect();
    let more = if point.len() > 6 { ", …" } else { "" };
    Err(Failure::input(format!("the value is NaN at {}{more}\n{}", at.join(", "), excerpt.render(why))))
}

#[cfg(test)]
mod tests;
