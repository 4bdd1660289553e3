//! How long to train, how often to look, and when to give up.

use serde::{Deserialize, Serialize};

use super::TrainError;

/// How long a training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// Each example is seen so many times.
    Epochs(u64),
    /// So many steps, wherever in an epoch they end.
    Steps(u64),
}

impl Length {
    /// In steps.
    pub fn steps(self, per_epoch: usize) -> u64 {
        match self {
            Length::Epochs(epochs) => epochs.saturating_mul(per_epoch as u64),
            Length::Steps(steps) => steps,
        }
    }
}

/// The figure that says which evaluation is the best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// A name of the evaluation's numbers; without validation data, of the training's.
    pub name: String,
    /// Whether more is better.
    pub more_is_better: bool,
}

impl Monitor {
    /// By its name: metrics know what is better in them; of anything else less is.
    pub fn new(name: &str) -> Monitor {
        let more_is_better = name.parse::<crate::task::Metric>().is_ok_and(|metric| metric.more_is_better());
        Monitor { name: name.into(), more_is_better }
    }
}

/// Ending a training that does not get better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EarlyStop {
    /// So many evaluations in a row may be no better than the best.
    pub patience: u64,
    /// What is better by no more than this is not better.
    #[serde(default)]
    pub min_delta: f64,
}

/// How to train.
#[derive(Debug, Clone, PartialEq)]
pub struct Trainer {
    /// How long.
    pub length: Length,
    /// Decides the key of each step.
    pub seed: u64,
    /// Steps between two evaluations; without a number, one after each epoch. There is always one at the end.
    pub evaluate_every: Option<u64>,
    /// What is watched.
    pub monitor: Monitor,
    /// When to end early.
    pub early_stop: Option<EarlyStop>,
    /// Threads that run kernels; without a number, all. The results do not depend on it.
    pub threads: Option<usize>,
    /// The most bytes that a step may take: activations are computed again to keep it. The results do not depend on it.
    pub memory_budget: Option<usize>,
    /// Whether [`Event::Step`](super::Event::Step) shows the state before the first step of this
    /// call, before each that is followed by an evaluation, and before the last one after a stop. It costs a copy of the state each time.
    pub show_before: bool,
}

impl Trainer {
    /// So long, with an evaluation after each epoch, watching the loss.
    pub fn new(length: Length, seed: u64) -> Trainer {
        Trainer {
            length,
            seed,
            evaluate_every: None,
            monitor: Monitor::new("loss"),
            early_stop: None,
            threads: None,
            memory_budget: None,
            show_before: false,
        }
    }

    pub(super) fn check(&self, per_epoch: usize) -> Result<(), TrainError> {
        let wrong = |what: &str| Err(TrainError::Setting(what.into()));
        match (self.length, self.evaluate_every) {
            _ if per_epoch == 0 => wrong("there are no examples to train on"),
            (Length::Epochs(0), _) => wrong("0 epochs are no training; use at least 1"),
            (Length::Steps(0), _) => wrong("0 steps are no training; use at least 1"),
            (_, Some(0)) => wrong("an evaluation every 0 steps is none; use at least 1"),
            _ => Ok(()),
        }
    }

    /// Whether an evaluation follows this step.
    pub(super) fn evaluates(&self, step: u64, per_epoch: usize) -> bool {
        let every = self.evaluate_every.unwrap_or(per_epoch as u64);
        step.is_multiple_of(every) || step == self.length.steps(per_epoch)
    }
}
