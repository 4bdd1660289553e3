//! What a training says that ended because its loss or gradient stopped being finite: which operation did it, from which
//! numbers, and what to write instead. The step is taken once more, from the very inputs it had.

use std::fmt::Write;

use chainrule_lens::nonfinite::{Cause, NonFinite};
use chainrule_lens::trace_named;
use chainrule_train::experiment::{Experiment, ExperimentError, Options, StepProgram};
use chainrule_train::log::CHECKPOINT;
use chainrule_train::run::RunFolder;
use chainrule_train::trainer::TrainError;

use crate::outcome::{self, Failure};

/// The report in a run folder, for reading.
const TEXT: &str = "nonfinite.txt";
/// The same as data.
const JSON: &str = "nonfinite.json";

/// The error of a training that ended so in a step. The report is kept in the run folder.
pub fn failed(
    run: &RunFolder,
    experiment: &Experiment,
    options: &Options,
    (step, error): (u64, &TrainError),
) -> Failure {
    let mut text = format!("{error}\n");
    match trace(run, experiment, options, step) {
        Ok(Some((at, found))) => {
            let _ = writeln!(text, "in step {at} {found}");
            if let Err(problem) = keep(run, &text, at, &found) {
                let _ = writeln!(text, "the report could not be kept: {problem}");
            } else {
                let _ = writeln!(text, "report     {}", run.path().join(TEXT).display());
            }
        }
        Ok(None) => {
            text.push_str("taken again one operation at a time the step is finite: it is at the edge of its dtype\n")
        }
        Err(problem) => drop(writeln!(text, "it could not be traced: {problem}")),
    }
    let path = run.path();
    if path.join(CHECKPOINT).exists() {
        let _ = write!(
            text,
            "before it  {} holds the training as it was; chainrule doctor {} looks at it",
            path.join(CHECKPOINT).display(),
            outcome::shell(path)
        );
    }
    Failure::work(text.trim_end())
}

/// The first operation to make something that is not finite, in the step or the one before it, whose update may have.
fn trace(
    run: &RunFolder,
    experiment: &Experiment,
    options: &Options,
    step: u64,
) -> Result<Option<(u64, NonFinite)>, ExperimentError> {
    let mut last = None;
    for StepProgram { step, program, arguments, results } in experiment.steps_before(run, options, step)? {
        let found = trace_named(&program, &arguments, &results).map_err(TrainError::from)?;
        if let Some(found) = found {
            let given = found.cause == Cause::Given;
            last = Some((step, found));
            if !given {
                break;
            }
        }
    }
    Ok(last)
}

fn keep(run: &RunFolder, text: &str, step: u64, found: &NonFinite) -> Result<(), String> {
    #[derive(serde::Serialize)]
    struct Report<'a> {
        step: u64,
        found: &'a NonFinite,
    }
    let json = serde_json::to_vec_pretty(&Report { step, found }).map_err(|error| error.to_string())?;
    let kept = run.write_artefact(TEXT, text.as_bytes()).and_then(|_| run.write_artefact(JSON, &json));
    kept.map(drop).map_err(|error| error.to_string())
}
