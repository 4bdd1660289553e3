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
    /// Only this parameter
    #[arg(long, value_name = "PATH")]
    parameter: Option<String>,
    /// Paths that are followed to a parameter, those with the longest cotangents first [default: 24 with --parameter, else 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    paths: Option<u32>,
    /// How to write it
    #[arg(long = "as", value_name = "FORM", default_value = "text", conflicts_with = "json")]
    form: Written,
}

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
    if let Some(path) = arguments.parameter.as_ref().filter(|path| !known.contains(path)) {
        return Err(Failure::input(format!("there is no parameter {path}\n  there are: {}", known.join(", "))));
    }
    let usual = if arguments.parameter.is_some() { 24 } else { 3 };
    let paths = arguments.paths.map_or(usual, |paths| paths as usize);
    let options = ExplainOptions { parameter: arguments.parameter, paths };
    let derivation = explain_with(&options, |network| subject.loss(network), &subject.network);
    if let Some(path) = &arguments.looked.html {
        let mut page = subject.page(&arguments.looked, "Gradient");
        page.figures(&[("loss", derivation.value.to_string())]);
        page.words("δ₁ is the gradient by z₁, δ with a name below it that by the value of this name. Gains are how each factor changes the gradient's length; those of a path multiply to its contribution.");
        let row = |symbol: &chainrule_lens::derivation::Symbol| {
            vec![symbol.symbol.clone(), symbol.path.clone(), shape(&symbol.shape)]
        };
        page.table(&["symbol", "parameter", "shape"], &derivation.symbols.iter().map(row).collect::<Vec<_>>());
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
    }
}
