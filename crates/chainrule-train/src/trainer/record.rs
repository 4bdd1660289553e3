//! What a training says of itself: lines of metrics, and where it is.

use chainrule::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::{EarlyStop, Monitor, TrainError};
use crate::task::{Numbers, Total, Totals};

/// A line of the metrics. It holds no times, so that the same training writes the same lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// After each step.
    Step(StepRecord),
    /// After each evaluation: of an epoch, or of so many steps.
    Evaluation(EvaluationRecord),
}

/// What one step showed, before its update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps so far, from 1.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Loss, metrics, norm of the gradient and whatever else the task measures.
    #[serde(flatten)]
    pub numbers: Numbers,
    /// Norm of the gradient of each layer, by its path.
    #[serde(default, skip_serializing_if = "Numbers::is_empty")]
    pub layers: Numbers,
}

/// What an evaluation showed, and the steps before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Steps so far.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: u64,
    /// Means over the steps since the last evaluation, while the weights changed.
    pub train: Numbers,
    /// The part that is not trained on, after the last of these steps.
    #[serde(default, skip_serializing_if = "Numbers::is_empty")]
    pub validation: Numbers,
    /// Whether it is the best so far.
    pub best: bool,
}

/// The best evaluation so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Of the monitored figure.
    pub value: f64,
    /// Steps before it.
    pub step: u64,
}

/// Where a training is: all that it goes on from, beside the state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Course {
    /// Steps taken.
    pub step: u64,
    /// The epoch under way, from 0.
    pub epoch: u64,
    /// Steps taken of it.
    pub in_epoch: usize,
    /// What was measured since the last evaluation.
    pub since: Totals,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Evaluations since then.
    pub waited: u64,
}

impl Course {
    /// Takes in an evaluation: whether it is the best, and its figure.
    pub(super) fn judge(
        &mut self,
        monitor: &Monitor,
        early: Option<EarlyStop>,
        numbers: &Numbers,
    ) -> Result<(bool, f64), TrainError> {
        let Some(value) = numbers.get(&monitor.name) else {
            let known: Vec<&str> = numbers.iter().map(|number| number.0).collect();
            let problem = format!("there is no figure {:?} to watch; there are {}", monitor.name, known.join(", "));
            return Err(TrainError::Setting(problem));
        };
        let least = early.map_or(0.0, |early| early.min_delta);
        let better = |best: Best| match monitor.more_is_better {
            true => value > best.value + least,
            false => value < best.value - least,
        };
        let best = value.is_finite() && self.best.is_none_or(better);
        if best {
            (self.best, self.waited) = (Some(Best { value, step: self.step }), 0);
        } else {
            self.waited += 1;
        }
        Ok((best, value))
    }

    /// What was measured since the last evaluation, as numbers for a checkpoint: for each its weight and its sums.
    pub(crate) fn sums(&self) -> Vec<Tensor> {
        let row = |total: &Total| [&[total.weight], &total.sum[..]].concat();
        self.since.0.iter().map(row).map(|row| Tensor::from_vec(&row, [row.len()])).collect()
    }

    /// Puts them back; false if they are no such numbers.
    pub(crate) fn put_sums(total: &mut Total, row: &Tensor) -> bool {
        let numbers = if row.dtype() == DType::F64 && row.rank() == 1 { row.to_vec::<f64>() } else { Vec::new() };
        match numbers.split_first() {
            Some((&weight, sum)) => {
                (total.weight, total.sum) = (weight, sum.to_vec());
                true
            }
            None => false,
        }
    }
}
