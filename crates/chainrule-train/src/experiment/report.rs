//! What a training or an evaluation comes to, for people and for programs.

use std::path::PathBuf;

use serde::Serialize;

use crate::log::{CURVES, MODEL};
use crate::metrics::ConfusionMatrix;
use crate::run::RunFolder;
use crate::task::{Numbers, Totals};
use crate::trainer::End;
use crate::training::Finished;

/// How a network does on a part of the data.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// How many examples there were.
    pub examples: usize,
    /// Loss and metrics.
    pub numbers: Numbers,
    /// How often each class was read as each, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<ConfusionMatrix>,
}

impl Evaluation {
    pub(super) fn of(totals: &Totals, examples: usize, names: Option<&[String]>) -> Evaluation {
        let confusion = totals.confusion().map(|matrix| match names {
            Some(names) if names.len() == matrix.classes() => matrix.named(names),
            _ => matrix,
        });
        Evaluation { examples, numbers: totals.figures(), confusion }
    }

    /// With one number more, if there is one.
    pub(super) fn with(mut self, number: Option<(&str, f64)>) -> Evaluation {
        self.numbers.extend(number);
        self
    }
}

/// The best evaluation of a training.
#[derive(Debug, Clone, Serialize)]
pub struct BestEvaluation {
    /// The figure that was watched.
    pub figure: String,
    /// What it was.
    pub value: f64,
    /// The steps before it.
    pub step: u64,
}

/// What a training comes to: its `report.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Its folder.
    pub run: PathBuf,
    /// The trained network.
    pub model: PathBuf,
    /// The picture of the curves.
    pub curves: PathBuf,
    /// Whether Ctrl-C ended it.
    pub stopped: bool,
    /// Whether it ended because it got no better.
    pub early: bool,
    /// Of the network.
    pub parameters: usize,
    /// Of the whole training.
    pub steps: u64,
    /// Of this part of it.
    pub steps_now: u64,
    /// Of this part of it.
    pub seconds: f64,
    /// Means over the last steps.
    pub train: Numbers,
    /// The last evaluation.
    pub validation: Numbers,
    /// The best one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<BestEvaluation>,
    /// The trained network on the test data, unless there are none or it was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Evaluation>,
}

impl Report {
    pub(super) fn of<S>(
        run: &RunFolder,
        finished: &Finished<S>,
        parameters: usize,
        figure: String,
        validation: Numbers,
        test: Option<Evaluation>,
    ) -> Report {
        let best = finished.course.best.map(|best| BestEvaluation { figure, value: best.value, step: best.step });
        Report {
            run: run.path().to_path_buf(),
            model: run.path().join(MODEL),
            curves: run.path().join(CURVES),
            stopped: finished.end == End::Stopped,
            early: finished.end == End::Early,
            parameters,
            steps: finished.course.step,
            steps_now: finished.steps,
            seconds: finished.seconds,
            train: finished.train.clone(),
            validation,
            best,
            test,
        }
    }

    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a report is JSON: its keys are texts")
    }
}
