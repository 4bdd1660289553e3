//! Counting how well a model does: accuracy, confusion matrix, running mean; and how good made examples are.
//!
//! Nothing here divides by zero in silence: a ratio of nothing is `None`.

mod samples;

pub use samples::{Moments, classifier_score};

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The share of predictions that equal their label; `None` when there are none. Panics when the lengths differ.
pub fn accuracy(labels: &[i64], predictions: &[i64]) -> Option<f64> {
    assert_eq!(labels.len(), predictions.len(), "accuracy: labels and predictions differ in number");
    let right = labels.iter().zip(predictions).filter(|(label, prediction)| label == prediction).count();
    ratio(right as u64, labels.len() as u64)
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A weighted mean that is fed piece by piece, as the losses of batches are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RunningMean {
    mean: f64,
    weight: f64,
}

impl RunningMean {
    /// Takes in the mean `value` of `weight` examples. A weight of zero changes nothing, whatever the value.
    pub fn add(&mut self, value: f64, weight: f64) {
        if weight > 0.0 {
            self.weight += weight;
            self.mean += (value - self.mean) * (weight / self.weight);
        }
    }

    /// The mean so far; `None` before the first value. Once a value was not finite, neither is the mean.
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then_some(self.mean)
    }

    /// The sum of the weights so far.
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

/// A class that the matrix does not have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{role} {found} of example {example} is outside the {classes} classes 0 to {}", classes.saturating_sub(1))]
pub struct ClassError {
    /// `label` or `prediction`.
    pub role: &'static str,
    /// The class given.
    pub found: i64,
    /// Which example of this call.
    pub example: usize,
    /// The classes there are.
    pub classes: usize,
}

/// How often each class was read as each: a row is a label, a column a prediction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ConfusionMatrix {
    names: Vec<String>,
    counts: Vec<u64>,
}

/// What a file holds: one list a row, so that it can be read by eye.
#[derive(Serialize, Deserialize)]
struct Stored {
    names: Vec<String>,
    counts: Vec<Vec<u64>>,
}

impl From<ConfusionMatrix> for Stored {
    fn from(matrix: ConfusionMatrix) -> Stored {
        let counts = matrix.counts.chunks(matrix.classes().max(1)).map(<[u64]>::to_vec).collect();
        Stored { names: matrix.names, counts }
    }
}

impl TryFrom<Stored> for ConfusionMatrix {
    type Error = String;
    fn try_from(stored: Stored) -> Result<ConfusionMatrix, String> {
        let classes = stored.names.len();
        if stored.counts.len() != classes || stored.counts.iter().any(|row| row.len() != classes) {
            return Err(format!("a confusion matrix of {classes} names needs {classes} rows of {classes} counts"));
        }
        let counts = stored.counts.concat();
        if counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count)).is_none() {
            return Err("the counts of a confusion matrix add up to more than a u64".into());
        }
        Ok(ConfusionMatrix { names: stored.names, counts })
    }
}

/// One kind of mistake and how often it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The right class.
    pub label: usize,
    /// The class it was read as.
    pub prediction: usize,
    /// How often.
    pub count: u64,
}

impl ConfusionMatrix {
    /// An empty matrix whose classes are named by their numbers.
    pub fn new(classes: usize) -> ConfusionMatrix {
        ConfusionMatrix::with_names((0..classes).map(|class| class.to_string()))
    }

    /// An empty matrix with one class for each name.
    pub fn with_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> ConfusionMatrix {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        ConfusionMatrix { counts: vec![0; names.len() * names.len()], names }
    }

    /// A matrix of counts row by row, if they are as many as the square of a number of classes.
    pub fn from_counts(counts: Vec<u64>) -> Option<ConfusionMatrix> {
        let classes = counts.len().isqrt();
        let square = classes * classes == counts.len();
        square.then(|| ConfusionMatrix { counts, ..ConfusionMatrix::new(classes) })
    }

    /// The same counts with other names of the classes.
    ///
    /// # Panics
    /// If there are more or fewer of them.
    #[track_caller]
    pub fn named(self, names: &[String]) -> ConfusionMatrix {
        assert_eq!(names.len(), self.classes(), "confusion matrix: names and classes differ in number");
        ConfusionMatrix { names: names.to_vec(), ..self }
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.names.len()
    }

    /// Counts each pair. On an error nothing is counted. Panics when the lengths differ.
    pub fn record(&mut self, labels: &[i64], predictions: &[i64]) -> Result<(), ClassError> {
        assert_eq!(labels.len(), predictions.len(), "confusion matrix: labels and predictions differ in number");
        let classes = self.classes();
        for (role, values) in [("label", labels), ("prediction", predictions)] {
            if let Some(example) = values.iter().position(|&class| class < 0 || class as u64 >= classes as u64) {
                return Err(ClassError { role, found: values[example], example, classes });
            }
        }
        for (&label, &prediction) in labels.iter().zip(predictions) {
            self.counts[label as usize * classes + prediction as usize] += 1;
        }
        Ok(())
    }

    /// How often `label` was read as `prediction`. Panics when either is no class.
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        assert!(prediction < self.classes(), "class {prediction} of {}", self.classes());
        self.counts[label * self.classes() + prediction]
    }

    /// Examples counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share of examples that were read right.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.right(), self.total())
    }

    /// Of the examples of this class, the share that was read as such.
    pub fn recall(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.examples(class))
    }

    /// Of the examples read as this class, the share that were such.
    pub fn precision(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), (0..self.classes()).map(|label| self.count(label, class)).sum())
    }

    /// The mistakes, most frequent first, at most `limit` of them; equals in the order of their classes.
    pub fn confusions(&self, limit: usize) -> Vec<Confusion> {
        let classes = self.classes();
        let all = self.counts.iter().enumerate();
        let mut mistakes: Vec<Confusion> = all
            .map(|(at, &count)| Confusion { label: at / classes, prediction: at % classes, count })
            .filter(|mistake| mistake.label != mistake.prediction && mistake.count > 0)
            .collect();
        mistakes.sort_by_key(|mistake| std::cmp::Reverse(mistake.count));
        mistakes.truncate(limit);
        mistakes
    }

    fn right(&self) -> u64 {
        (0..self.classes()).map(|class| self.count(class, class)).sum()
    }

    fn examples(&self, class: usize) -> u64 {
        (0..self.classes()).map(|prediction| self.count(class, prediction)).sum()
    }
}

/// Classes that the printed form lists at most; of more, those with the lowest recall.
const SHOWN_CLASSES: usize = 20;
const SHOWN_CONFUSIONS: usize = 5;

/// A few lines for a terminal: the accuracy, each class (of many, the worst), and the most frequent mistakes.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Some(accuracy) = self.accuracy() else { return write!(f, "no examples") };
        let wrong = self.total() - self.right();
        writeln!(f, "accuracy {} of {} examples ({wrong} wrong)", percent(Some(accuracy)), self.total())?;

        let mut shown: Vec<usize> = (0..self.classes()).collect();
        if shown.len() > SHOWN_CLASSES {
            let worth = |&class: &usize| self.recall(class).unwrap_or(f64::INFINITY);
            shown.sort_by(|a, b| worth(a).total_cmp(&worth(b)));
            shown.truncate(SHOWN_CLASSES);
            writeln!(f, "the {SHOWN_CLASSES} of {} classes with the lowest recall:", self.classes())?;
        }
        let width = shown.iter().map(|&class| self.names[class].chars().count()).max().unwrap_or(0).max(5);
        writeln!(f, "{:>width$}  examples   recall  precision", "class")?;
        for class in shown {
            let (name, examples) = (&self.names[class], self.examples(class));
            let (recall, precision) = (percent(self.recall(class)), percent(self.precision(class)));
            writeln!(f, "{name:>width$}  {examples:>8}  {recall:>7}    {precision:>7}")?;
        }

        let confusions = self.confusions(SHOWN_CONFUSIONS);
        for (place, mistake) in confusions.iter().enumerate() {
            let heading = if place == 0 { "most often" } else { "" };
            let (label, prediction) = (&self.names[mistake.label], &self.names[mistake.prediction]);
            write!(
                f,
                "{heading:<10}  {label} read as {prediction}: {} of {}",
                mistake.count,
                self.examples(mistake.label)
            )?;
            writeln!(f)?;
        }
        Ok(())
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share))
}

/// For `#[serde(with = "chainrule_train::metrics::nan_as_null")]`: JSON has no NaN and no infinity, so both are written
/// as `null`, and `null` is read as NaN. Without it a diverged run writes lines that cannot be read back.
pub mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes a number, or null for one that is not finite.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    /// Reads a number, or NaN for null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::with_names(["cat", "dog", "axolotl"]);
        matrix.record(&[0, 0, 0, 0, 1, 1, 1], &[0, 0, 1, 1, 1, 1, 0]).unwrap();
        matrix
    }

    #[test]
    fn ratios() {
        assert_eq!(accuracy(&[1, 2, 3, 4], &[1, 2, 0, 4]), Some(0.75));
        assert_eq!(accuracy(&[], &[]), None);
        let matrix = example();
        assert_eq!(matrix.accuracy(), Some(4.0 / 7.0));
        assert_eq!((matrix.recall(0), matrix.precision(0)), (Some(0.5), Some(2.0 / 3.0)));
        assert_eq!((matrix.recall(2), matrix.precision(2)), (None, None));
        assert_eq!(matrix.confusions(1), [Confusion { label: 0, prediction: 1, count: 2 }]);
    }

    #[test]
    fn the_printed_form() {
        let expected = "\
accuracy 57.1 % of 7 examples (3 wrong)
  class  examples   recall  precision
    cat         4   50.0 %     66.7 %
    dog         3   66.7 %     50.0 %
axolotl         0        -          -
most often  cat read as dog: 2 of 4
            dog read as cat: 1 of 3
";
        assert_eq!(example().to_string(), expected);
        assert_eq!(ConfusionMatrix::new(0).to_string(), "no examples");
        let mut many = ConfusionMatrix::new(100);
        many.record(&(0..100).collect::<Vec<_>>(), &[7; 100]).unwrap();
        assert_eq!(many.to_string().lines().count(), 3 + SHOWN_CLASSES + SHOWN_CONFUSIONS);
    }

    #[test]
    fn a_class_outside_is_named_and_nothing_is_counted() {
        let mut matrix = example();
        let before = matrix.clone();
        let error = matrix.record(&[0, 1], &[0, 3]).unwrap_err();
        assert_eq!(error.to_string(), "prediction 3 of example 1 is outside the 3 classes 0 to 2");
        assert!(matrix.record(&[i64::MIN], &[0]).is_err());
        assert_eq!(matrix, before);
    }

    #[test]
    fn json_keeps_the_matrix_and_refuses_a_ragged_one() {
        let json = serde_json::to_string(&example()).unwrap();
        assert_eq!(json, r#"{"names":["cat","dog","axolotl"],"counts":[[2,2,0],[1,2,0],[0,0,0]]}"#);
        assert_eq!(serde_json::from_str::<ConfusionMatrix>(&json).unwrap(), example());
        assert!(serde_json::from_str::<ConfusionMatrix>(r#"{"names":["a","b"],"counts":[[1,2],[3]]}"#).is_err());
    }

    #[test]
    fn running_mean_weighs() {
        let mut mean = RunningMean::default();
        assert_eq!(mean.mean(), None);
        mean.add(f64::NAN, 0.0);
        mean.add(1.0, 3.0);
        mean.add(5.0, 1.0);
        assert_eq!((mean.mean(), mean.weight()), (Some(2.0), 4.0));
        mean.add(f64::NAN, 1.0);
        assert!(mean.mean().unwrap().is_nan());
    }
}
