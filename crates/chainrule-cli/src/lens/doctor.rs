//! `chainrule doctor`: how gradients flow through the layers, and what is wrong.

use chainrule_lens::flow::Diagnosis;
use chainrule_lens::{FlowOptions, GradientFlow, trace_nonfinite};
use serde::Serialize;

use super::subject::{Looked, Subject};
use crate::outcome::{self, Outcome};

/// Say how gradients flow through a model's layers, and what is wrong with it
#[derive(clap::Args)]
#[command(after_help = "\
The learning rate is that of the file's optimizer, or of a run's last step. Data are those of the file, or random numbers
if it names none.

Examples:
  chainrule doctor digits-cnn
  chainrule doctor model.toml --curvature
  chainrule doctor runs/digits-cnn-1
  chainrule doctor model.toml --weights runs/mine-1/best.safetensors --json")]
pub struct DoctorArgs {
    #[command(flatten)]
    looked: Looked,
    /// Also find the largest eigenvalue of the Hessian, for the largest stable rate
    #[arg(long)]
    curvature: bool,
}

/// Runs `doctor`.
pub fn run(arguments: DoctorArgs) -> Outcome {
    let subject = Subject::open(&arguments.looked)?;
    let optimizer = subject.spec.optimizer_settings();
    let options = FlowOptions {
        learning_rate: Some(subject.rate),
        adaptive: optimizer.name != "sgd",
        curvature: arguments.curvature,
        seed: arguments.looked.seed,
        ..FlowOptions::default()
    };
    let flow = GradientFlow::observe_with(&options, |network| subject.loss(network), &subject.network);
    if arguments.looked.json {
        #[derive(Serialize)]
        struct Report {
            flow: GradientFlow,
            verdict: Vec<chainrule_lens::flow::Finding>,
        }
        let verdict = flow.verdict();
        return outcome::print_json(&Report { flow, verdict });
    }
    let mut text = flow.to_string();
    match flow.verdict().first().map(|finding| finding.diagnosis) {
        None => text.push_str("nothing is wrong\n"),
        Some(Diagnosis::NotFinite) => {
            let found = trace_nonfinite(|network| subject.loss(network), &subject.network);
            text.extend(found.map(|found| found.to_string()));
        }
        Some(_) => {}
    }
    subject.print(text)
}
