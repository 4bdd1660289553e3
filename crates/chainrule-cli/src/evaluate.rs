//! `chainrule evaluate`: how a trained network does on data that it was not trained on.

use std::path::PathBuf;

use chainrule_train::experiment::{Evaluation, Part};
use chainrule_train::progress::list;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::experiment::{Asked, failure};
use crate::outcome::{self, Outcome};

/// Measure a trained network on the test data
#[derive(Args)]
#[command(after_help = "\
Examples:
  chainrule evaluate
  chainrule evaluate runs/digits-cnn-1 --best
  chainrule evaluate runs/text-gpt-1 --part validation --json")]
pub struct EvaluateArgs {
    #[command(flatten)]
    asked: Asked,
    /// The part of the data [default: test, or validation where there is no test part]
    #[arg(long, value_enum)]
    part: Option<PartName>,
    /// Take the network that was best by validation, instead of the last
    #[arg(long)]
    best: bool,
    /// Threads to run on; the numbers do not depend on it [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// A part of the data, as it is typed.
#[derive(Clone, Copy, ValueEnum)]
enum PartName {
    Train,
    Validation,
    Test,
}

#[derive(Serialize)]
struct Measured {
    run: PathBuf,
    part: &'static str,
    #[serde(flatten)]
    evaluation: Evaluation,
}

pub fn run(arguments: EvaluateArgs) -> Outcome {
    let (run, mut experiment) = arguments.asked.experiment()?;
    let network = experiment.trained(&run, arguments.best).map_err(failure)?;
    let wanted = arguments.part.map(|part| match part {
        PartName::Train => Part::Train,
        PartName::Validation => Part::Validation,
        PartName::Test => Part::Test,
    });
    let (part, set) = experiment.part(wanted).map_err(failure)?;
    let evaluation = experiment.evaluate(&network, set, arguments.threads.map(usize::from)).map_err(failure)?;
    let (run, part) = (run.path().to_path_buf(), part.name());
    if arguments.json {
        return outcome::print_json(&Measured { run, part, evaluation });
    }
    let mut text =
        format!("{} on {} {part} examples: {}\n", run.display(), evaluation.examples, list(&evaluation.numbers));
    if let Some(matrix) = &evaluation.confusion {
        text += &format!("\n{matrix}");
    }
    outcome::print(&text)
}
