//! `chainrule check`: are the gradients right, and what do f32 and bf16 lose of them.

use chainrule_lens::check::Status;
use chainrule_lens::{CheckOptions, check_gradients_with};

use super::subject::{Looked, Subject};
use crate::outcome::{self, Failure, Outcome};

/// Check a model's gradients against differences, and what f32 and bf16 lose of them
#[derive(clap::Args)]
#[command(after_help = "\
Every parameter is checked along random directions in double precision, forward and reverse mode against each other and
both against Richardson-extrapolated differences. Data are those of the file, or random numbers if it names none.

Examples:
  chainrule check digits-mlp
  chainrule check runs/digits-cnn-1 --batch 8
  chainrule check text-gpt --batch 2 --json

It ends with exit code 1 if a gradient is wrong.")]
pub struct CheckArgs {
    #[command(flatten)]
    looked: Looked,
}

/// Runs `check`.
pub fn run(arguments: CheckArgs) -> Outcome {
    let subject = Subject::open(&arguments.looked)?;
    let options = CheckOptions { seed: arguments.looked.seed, coordinates: 16, ..CheckOptions::default() };
    let report = check_gradients_with(&options, |network| subject.loss(network), &subject.network);
    match arguments.looked.json {
        true => outcome::print_json(&report)?,
        false => subject.print(report.to_string())?,
    }
    match report.status {
        Status::Right | Status::Kink => Ok(()),
        Status::Wrong | Status::ModesDiffer => Err(Failure::work("a gradient is not the derivative of its loss")),
    }
}
