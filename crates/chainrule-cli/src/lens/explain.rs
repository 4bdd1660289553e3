//! `chainrule explain`: the gradient as a product of Jacobians.

use chainrule::tree::{self, Role};
use chainrule_lens::{ExplainOptions, explain_with};

use super::subject::{Looked, Subject, USUAL};
use crate::outcome::{self, Failure, Outcome};
use crate::report::shape;

/// Write a model's gradient as the product of Jacobians, path by path
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chainrule explain digits-mlp --parameter hidden.weight
  chainrule explain model.toml --as latex
  chainrule explain digits-mlp --as html > gradient.html
  chainrule explain runs/digits-mlp-1 --json")]
pub struct ExplainArgs {
    #[command(flatten)]
    looked: Looked,
    /// Only this parameter; may be given several times
    #[arg(long, value_name = "PATH")]
    parameter: Vec<String>,
    /// All parameters, however many there are
    #[arg(long, conflicts_with = "parameter")]
    all: bool,
    /// Paths that are followed to a parameter, those with the longest cotangents first [default: 24 with --parameter, else 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    paths: Option<u32>,
    /// How to write it
    #[arg(long = "as", value_name = "FORM", default_value = "text", conflicts_with = "json")]
    form: Written,
}

/// With more parameters than this, those at the ends stand for all unless one asks.
const MANY: usize = 16;
/// Parameters at either end.
const ENDS: usize = 2;

/// Forms of a derivation.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Written {
    /// For a terminal.
    Text,
    /// One align* for each parameter.
    Latex,
    /// One section with MathML.
    Html,
}

/// Runs `explain`.
pub fn run(arguments: ExplainArgs) -> Outcome {
    let subject = Subject::open(&arguments.looked, USUAL)?;
    let named = tree::named_leaves(&subject.network).into_iter().filter(|leaf| leaf.1 == Role::Parameter);
    let known: Vec<String> = named.map(|leaf| leaf.0).collect();
    if let Some(path) = arguments.parameter.iter().find(|path| !known.contains(path)) {
        return Err(Failure::input(format!("there is no parameter {path}\n  there are: {}", known.join(", "))));
    }
    let usual = if arguments.parameter.is_empty() { 3 } else { 24 };
    let paths = arguments.paths.map_or(usual, |paths| paths as usize);
    let chosen = arguments.parameter.is_empty() && !arguments.all && known.len() > MANY;
    let parameters = if chosen { ends(&known) } else { arguments.parameter };
    let options = ExplainOptions { parameters, paths };
    let note = format!(
        "paths to {} of {} parameters, the first and the last; --parameter PATH for another, --all for all",
        2 * ENDS,
        known.len(),
    );
    let derivation = explain_with(&options, |network| subject.loss(network), &subject.network);
    if let Some(path) = &arguments.looked.html {
        let mut page = subject.page(&arguments.looked, "Gradient");
        page.figures(&[("loss", derivation.value.to_string())]);
        page.words("δ₁ is the gradient by z₁, δ with a name below it that by the value of this name. Gains are how each factor changes the gradient's length; those of a path multiply to its contribution.");
        let row = |symbol: &chainrule_lens::derivation::Symbol| {
            vec![symbol.symbol.clone(), symbol.path.clone(), shape(&symbol.shape)]
        };
        page.table(&["symbol", "parameter", "shape"], &derivation.symbols.iter().map(row).collect::<Vec<_>>());
        if chosen {
            page.words(&note);
        }
        page.raw(&derivation.html());
        page.raw("<details><summary>LaTeX</summary>");
        page.lines(&derivation.latex());
        page.raw("</details>");
        page.write(path)?;
    }
    match (arguments.looked.json, arguments.form) {
        (true, _) => outcome::print_json(&derivation),
        (false, Written::Text) => subject.print(derivation.to_string()),
        (false, Written::Latex) => outcome::print(&derivation.latex()),
        (false, Written::Html) => outcome::print(&derivation.html()),
    }?;
    if chosen {
        outcome::tell(&note);
    }
    Ok(())
}

/// The parameters at either end of a deep network: to the last the paths are short, to the first they are whole.
fn ends(known: &[String]) -> Vec<String> {
    [&known[..ENDS], &known[known.len() - ENDS..]].concat()
}
