//! What a trained classifier says of made examples: whether each is like one of the classes, all classes occur, and how
//! far the whole is from the data.

use chainrule::execute::compile;
use chainrule::tensor::{Tensor, concat};
use serde::Serialize;

use super::{Experiment, ExperimentError};
use crate::data::{Loader, Transform};
use crate::metrics::{Moments, classifier_score};
use crate::model::Network;

/// Examples that are looked at at once.
const PIECE: usize = 500;

/// How good made examples are, in the eyes of one classifier.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// How many there were.
    pub examples: usize,
    /// [`classifier_score`] of them.
    pub classifier_score: f64,
    /// [`Moments::frechet_distance`] from the data, in what comes into the classifier's last layer.
    pub frechet_distance: f64,
    /// [`classifier_score`] of the data themselves.
    pub data_score: f64,
    /// How often each class was read.
    pub classes: Vec<usize>,
}

impl Experiment {
    /// What this classifier, trained, says of examples `[n, …]` as the set has them before any transform; they are held
    /// against the test part, or that of validation where there is none.
    ///
    /// # Errors
    /// If it is no classifier of one sequence of layers, the examples are not of its form or fewer than two, or the data
    /// are gone.
    pub fn score(&mut self, classifier: &Network, made: &Tensor) -> Result<Score, ExperimentError> {
        let example = self.example();
        let (Some(classes), [input]) = (example.classes, &example.inputs[..]) else {
            return setting("examples are scored by a classifier of one input");
        };
        if made.shape().get(1..).map(|each| each.iter().product()) != Some(input.numel()) || made.size(0) < 2 {
            let found = made.ty();
            return setting(format!("the classifier takes {input} of each example, and those to score are {found}"));
        }
        let (_, data) = self.part(None)?;
        let made = self.transformed(&made.reshape([&[made.size(0)], &input.shape[..]].concat()))?;
        let mut look = compile(|(network, x): &(Network, Tensor)| {
            network.features(std::slice::from_ref(x)).map(|(features, said)| {
                let size = features.numel() / features.size(0).max(1);
                (features.reshape([features.size(0), size]), said)
            })
        });
        let mut seen = |x: Tensor| match look.run((classifier.clone(), x)).map_err(crate::trainer::TrainError::from)? {
            Some(pair) => Ok(pair),
            None => setting("examples are scored by a network that is one sequence of layers"),
        };
        let pieces = (0..made.size(0)).step_by(PIECE);
        let pieces = pieces.map(|at| made.narrow(0, at, PIECE.min(made.size(0) - at)).eval());
        let (of_made, logits) = gather(pieces.map(Ok), &mut seen)?;
        let batches = Loader::new(data, PIECE, 0).shuffle(false).epoch(0, 0);
        let (of_data, true_logits) = gather(batches.map(|batch| Ok(batch?.input().clone())), &mut seen)?;
        if logits.rank() != 2 || logits.size(1) != classes {
            return setting(format!("the network says {}, not one number for each of {classes} classes", logits.ty()));
        }
        let mut counts = vec![0; classes];
        logits.argmax(-1).to_vec::<i64>().into_iter().for_each(|class| counts[class as usize] += 1);
        Ok(Score {
            examples: made.size(0),
            classifier_score: classifier_score(&logits),
            frechet_distance: of_made.frechet_distance(&of_data),
            data_score: classifier_score(&true_logits),
            classes: counts,
        })
    }

    /// Examples that a generator made, as the set has them before this experiment's transforms.
    ///
    /// # Errors
    /// If a transform has no way back: one whose numbers were taken from the data.
    pub fn untransformed(&self, made: &Tensor) -> Result<Tensor, ExperimentError> {
        let transforms = self.data().map_or(&[][..], |data| &data.transforms);
        transforms.iter().rev().try_fold(made.clone(), |x, transform| match transform {
            Transform::Normalise { mean: Some(mean), std: Some(std) } if x.rank() > 1 => {
                let along = |numbers: &[f32]| {
                    let axes = [&[1, numbers.len()], &vec![1; x.rank() - 2][..]].concat();
                    Tensor::from_vec(numbers, axes)
                };
                Ok(&x * along(std) + along(mean))
            }
            Transform::Normalise { .. } => setting(
                "made examples are normalised by means of the data; state mean and std in [data] to have a way back",
            ),
            // These change which examples there are, not what one is; a row of numbers is reshaped by who reads it.
            _ => Ok(x),
        })
    }
}

fn setting<T>(problem: impl Into<String>) -> Result<T, ExperimentError> {
    Err(ExperimentError::Setting(problem.into()))
}

/// Features and logits of all pieces.
fn gather(
    pieces: impl Iterator<Item = Result<Tensor, ExperimentError>>,
    seen: &mut impl FnMut(Tensor) -> Result<(Tensor, Tensor), ExperimentError>,
) -> Result<(Moments, Tensor), ExperimentError> {
    let (mut moments, mut logits) = (None, Vec::new());
    for piece in pieces {
        let (features, said) = seen(piece?)?;
        moments.get_or_insert_with(|| Moments::new(features.size(1))).add(&features);
        logits.push(said);
    }
    match moments {
        Some(moments) if moments.count() > 1 => Ok((moments, concat(&logits, 0).eval())),
        _ => setting("a distance needs at least two examples"),
    }
}
