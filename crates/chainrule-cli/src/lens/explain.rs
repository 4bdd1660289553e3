//! `chainrule explain`: the gradient as a product of Jacobians.

use chainrule_lens::explain as explained;

use super::subject::{Looked, Subject};
use crate::outcome::{self, Failure, Outcome};

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
    let subject = Subject::open(&arguments.looked)?;
    let mut derivation = explained(|network| subject.loss(network), &subject.network);
    if let Some(path) = &arguments.parameter {
        let paths: Vec<String> = derivation.parameters.iter().map(|parameter| parameter.path.clone()).collect();
        derivation.parameters.retain(|parameter| parameter.path == *path);
        if derivation.parameters.is_empty() {
            return Err(Failure::input(format!("there is no parameter {path}\n  there are: {}", paths.join(", "))));
        }
    }
    match (arguments.looked.json, arguments.form) {
        (true, _) => outcome::print_json(&derivation),
        (false, Written::Text) => subject.print(derivation.to_string()),
        (false, Written::Latex) => outcome::print(&derivation.latex()),
        (false, Written::Html) => outcome::print(&derivation.html()),
    }
}
