//! What can be reported beside the loss: each by its name, counted from a model's output and the batch's target.

use std::fmt;
use std::str::FromStr;

use chainrule::tensor::{DType, Tensor, stack};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::measures::{Measure, Rule};

/// A figure of merit, written as its name: `accuracy`, `top5`, `f1`, `perplexity`, …
///
/// Classes are the last axis of the output (logits `[.., classes]`), and the target is `[..]` as integers, or shaped as
/// the output with a share for each class. An output shaped as a target without such an axis is one logit for yes or no.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_train::task::{Measures, Metric};
/// let logits = Tensor::from([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]);
/// let right = Tensor::from([0i64, 1]);
/// let top2: Metric = "top2".parse().unwrap();
/// let both = [Metric::Accuracy, top2].map(|metric| metric.measure(&logits, &right, None));
/// let numbers = Measures { list: both.to_vec(), ..Measures::new() }.totals().numbers();
/// assert_eq!((numbers.get("accuracy"), numbers.get("top2")), (Some(0.5), Some(1.0)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// The share of targets that are the class with the largest logit.
    Accuracy,
    /// The share of targets among so many classes with the largest logits.
    Top(usize),
    /// F1 of each class, 2·TP / (2·TP + FP + FN), and the mean of them.
    F1Macro,
    /// F1 of all classes' counts together.
    F1Micro,
    /// How often each class was read as each.
    Confusion,
    /// e to the mean negative log-likelihood of the target.
    Perplexity,
    /// The mean negative log-likelihood of the target in bits.
    BitsPerCharacter,
    /// The share of variance explained, 1 − Σ(y − ŷ)² / Σ(y − ȳ)², the mean over columns.
    RSquared,
    /// Mean of |y − ŷ|.
    MeanAbsoluteError,
    /// Mean of (y − ŷ)².
    MeanSquaredError,
    /// √ of that.
    RootMeanSquaredError,
    /// The share of sequences `[n, length]` in which every target is right.
    Exact,
}

/// The names as they are listed; `top5` stands for all of its kind.
const NAMES: [(&str, Metric); 12] = [
    ("accuracy", Metric::Accuracy),
    ("top5", Metric::Top(5)),
    ("f1", Metric::F1Macro),
    ("f1-micro", Metric::F1Micro),
    ("confusion", Metric::Confusion),
    ("perplexity", Metric::Perplexity),
    ("bits-per-character", Metric::BitsPerCharacter),
    ("r2", Metric::RSquared),
    ("mae", Metric::MeanAbsoluteError),
    ("mse", Metric::MeanSquaredError),
    ("rmse", Metric::RootMeanSquaredError),
    ("exact", Metric::Exact),
];

/// The name of [`Metric::Exact`] where a decoder said its answers freely, each token after its own.
pub const FREE_RUNNING: &str = "exact-free-running";

/// There is no metric of this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no metric {name:?}; there are {}", NAMES.map(|known| known.0).join(", "))]
pub struct MetricError {
    /// The name given.
    pub name: String,
}

impl FromStr for Metric {
    type Err = MetricError;
    fn from_str(name: &str) -> Result<Metric, MetricError> {
        let known = NAMES.iter().find(|known| known.0 == name).map(|known| known.1);
        let top = || name.strip_prefix("top")?.parse().ok().filter(|&k| k > 0).map(Metric::Top);
        known.or_else(top).ok_or_else(|| MetricError { name: name.into() })
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self, NAMES.iter().find(|known| known.1 == *self)) {
            (Metric::Top(k), _) => write!(f, "top{k}"),
            (_, Some(known)) => f.write_str(known.0),
            (_, None) => unreachable!("every other metric has its own name"),
        }
    }
}

impl TryFrom<String> for Metric {
    type Error = MetricError;
    fn try_from(name: String) -> Result<Metric, MetricError> {
        name.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> String {
        metric.to_string()
    }
}

impl Metric {
    /// Whether more is better. It is not of errors, perplexity and bits.
    pub fn more_is_better(self) -> bool {
        use Metric::*;
        !matches!(self, Perplexity | BitsPerCharacter | MeanAbsoluteError | MeanSquaredError | RootMeanSquaredError)
    }

    /// Whether it is a share, from 0 to 1, that people read in percent.
    pub fn is_share(self) -> bool {
        matches!(self, Metric::Accuracy | Metric::Top(_) | Metric::Exact)
    }

    /// Counts it. Targets of the class `ignore` do not count.
    ///
    /// # Panics
    /// If output and target do not go together for this metric.
    #[track_caller]
    pub fn measure(self, output: &Tensor, target: &Tensor, ignore: Option<i64>) -> Measure {
        let measure = |rule, (sum, weight): (Tensor, Tensor)| Measure { name: self.to_string(), rule, sum, weight };
        match self {
            Metric::Accuracy => {
                let classes = Classes::of(self, output, target, ignore);
                measure(Rule::Mean, classes.counted(&classes.right()))
            }
            Metric::Top(k) => {
                let classes = Classes::of(self, output, target, ignore);
                let hit = classes.rank(output).less(k as f64);
                measure(Rule::Mean, classes.counted(&hit))
            }
            Metric::F1Macro => measure(Rule::F1Macro, Classes::of(self, output, target, ignore).confusion()),
            Metric::F1Micro => measure(Rule::F1Micro, Classes::of(self, output, target, ignore).confusion()),
            Metric::Confusion => measure(Rule::Confusion, Classes::of(self, output, target, ignore).confusion()),
            Metric::Perplexity => measure(Rule::Exponential, nats(self, output, target, ignore)),
            Metric::BitsPerCharacter => measure(Rule::Bits, nats(self, output, target, ignore)),
            Metric::Exact => measure(Rule::Mean, Classes::of(self, output, target, ignore).exact()),
            Metric::RSquared => measure(Rule::RSquared, r_squared(&residual(self, output, target), target)),
            Metric::MeanAbsoluteError => measure(Rule::Mean, summed(&residual(self, output, target).abs())),
            Metric::MeanSquaredError => measure(Rule::Mean, summed(&residual(self, output, target).square())),
            Metric::RootMeanSquaredError => measure(Rule::RootMean, summed(&residual(self, output, target).square())),
        }
    }
}

/// Output and target as classes.
struct Classes {
    /// i64 `[..]`.
    predicted: Tensor,
    /// i64 `[..]`; what is ignored is class 0.
    truth: Tensor,
    /// 1 for each that counts.
    counts: Tensor,
    classes: usize,
}

impl Classes {
    #[track_caller]
    fn of(metric: Metric, output: &Tensor, target: &Tensor, ignore: Option<i64>) -> Classes {
        let float = target.dtype().is_float();
        let shares =
            float && output.shape() == target.shape() && output.rank() > 1 && output.shape()[output.rank() - 1] > 1;
        let (predicted, truth, classes) = if !float && output.rank() == target.rank() + 1 {
            assert!(
                &output.shape()[..target.rank()] == target.shape(),
                "{metric}: output {} and target {}; the target must have the output's shape without the last axis",
                output.ty(),
                target.ty()
            );
            (output.argmax(-1), target.cast(DType::I64), output.shape()[target.rank()])
        } else if shares {
            (output.argmax(-1), target.argmax(-1), output.shape()[output.rank() - 1])
        } else {
            assert!(
                output.shape() == target.shape(),
                "{metric}: output {} and target {}; the output needs one more axis, of classes, or the same shape",
                output.ty(),
                target.ty()
            );
            let yes = target.cast(DType::F32).greater(0.5);
            (output.greater(0.0).cast(DType::I64), yes.cast(DType::I64), 2)
        };
        let (truth, counts) = match ignore {
            Some(ignored) if !float => {
                let counts = truth.not_equal(ignored);
                (truth.masked_fill(&truth.equal(ignored), 0.0), counts.cast(DType::F32))
            }
            _ => (truth.clone(), Tensor::ones(truth.shape(), DType::F32)),
        };
        Classes { predicted, truth, counts, classes }
    }

    fn right(&self) -> Tensor {
        self.predicted.equal(&self.truth)
    }

    /// How many of these hold where it counts, and how many count.
    fn counted(&self, hit: &Tensor) -> (Tensor, Tensor) {
        ((hit.cast(DType::F32) * &self.counts).sum(..), self.counts.sum(..))
    }

    /// How many classes come before the target: those with a larger logit, and of equals those before it.
    fn rank(&self, output: &Tensor) -> Tensor {
        if output.rank() == self.truth.rank() {
            return self.right().select(&Tensor::zeros(self.truth.shape(), DType::F32), 1.0);
        }
        let own = output.pick(&self.truth).unsqueeze(-1);
        let before = Tensor::arange(self.classes, DType::I64).less(self.truth.unsqueeze(-1));
        output.greater(&own).or(output.equal(&own).and(before)).cast(DType::F32).sum(-1)
    }

    fn confusion(&self) -> (Tensor, Tensor) {
        let rows = self.truth.numel();
        let one_hot = |classes: &Tensor| classes.reshape([rows]).one_hot(self.classes, DType::F32);
        let truth = one_hot(&self.truth) * self.counts.reshape([rows, 1]);
        (truth.t().matmul(&one_hot(&self.predicted)), self.counts.sum(..))
    }

    fn exact(&self) -> (Tensor, Tensor) {
        let sequences = self.truth.shape().first().copied().unwrap_or(1);
        let wrong = self.counts.clone() * self.right().select(&self.counts.zeros_like(), 1.0);
        let wrong = wrong.reshape([sequences, self.truth.numel() / sequences.max(1)]).sum(-1);
        (wrong.equal(0.0).cast(DType::F32).sum(..), Tensor::full([], sequences as f64, DType::F64))
    }
}

/// Negative log-likelihoods of the targets, and how many there are.
#[track_caller]
fn nats(metric: Metric, output: &Tensor, target: &Tensor, ignore: Option<i64>) -> (Tensor, Tensor) {
    let classes = Classes::of(metric, output, target, ignore);
    assert!(output.rank() == classes.truth.rank() + 1, "{metric}: output {} has no axis of classes", output.ty());
    let nats = -output.cast(DType::F32).log_softmax(-1).pick(&classes.truth);
    // Where nothing counts, an infinity must not become 0·∞.
    let counted = classes.counts.greater(0.0).select(&nats, 0.0);
    (counted.sum(..), classes.counts.sum(..))
}

#[track_caller]
fn residual(metric: Metric, output: &Tensor, target: &Tensor) -> Tensor {
    let same = output.numel() == target.numel() && output.shape().first() == target.shape().first();
    assert!(same, "{metric}: output {} and target {}; they must have one shape", output.ty(), target.ty());
    output.reshape(target.shape()).cast(DType::F64) - target.cast(DType::F64)
}

fn summed(values: &Tensor) -> (Tensor, Tensor) {
    (values.sum(..), Tensor::full([], values.numel() as f64, DType::F64))
}

fn r_squared(residual: &Tensor, target: &Tensor) -> (Tensor, Tensor) {
    let rows = target.shape().first().copied().unwrap_or(1);
    let columns = |values: &Tensor| values.reshape([rows, values.numel() / rows.max(1)]).sum(0);
    let target = target.cast(DType::F64);
    let sums = stack(&[columns(&residual.square()), columns(&target), columns(&target.square())], 0);
    (sums, Tensor::full([], rows as f64, DType::F64))
}
