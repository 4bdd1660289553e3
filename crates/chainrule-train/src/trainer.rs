//! The training loop of a classifier: shuffled batches, one compiled step, a test after each epoch.
//!
//! It knows no file, no terminal and no signal: what happens goes to one function as [`Event`]s, and whoever sets the
//! flag it is given ends it after the step. The same key and data give the same numbers, bit for bit, on any number of
//! threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use chainrule::differentiate::value_and_grad_aux;
use chainrule::execute::{ExecuteError, compile};
use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::{self, Role, Tree};
use chainrule_nn::clip::{clip_norm, global_norm};
use chainrule_nn::optimizer::Optimizer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digits::{Examples, PIXELS};
use crate::metrics::{RunningMean, nan_as_null};
use crate::run::RunError;

/// Rows that are tested at once.
const TEST_ROWS: usize = 512;

/// Why a training ended before its end.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A setting with which there is nothing to do.
    #[error("{0}")]
    Setting(String),
    /// The loss or the gradient is not a finite number any more.
    #[error("{what} became {value} in step {step} (epoch {epoch}): the weights are lost; try a lower learning rate")]
    NotFinite {
        /// `the loss` or `the gradient's norm`.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: usize,
    },
    /// A step could not be carried out: a label outside the classes.
    #[error("{0}")]
    Execute(#[from] ExecuteError),
    /// What happened could not be written down.
    #[error("{0}")]
    Run(#[from] RunError),
    /// A file of tensors could not be written or read.
    #[error("{0}")]
    Tensors(#[from] tree::TensorFileError),
    /// The picture of the curves could not be drawn.
    #[error("{0}")]
    Curves(#[from] crate::curves::CurvesError),
}

/// Inputs of one shape and their classes.
#[derive(Debug, Clone)]
pub struct Labelled {
    inputs: Vec<f32>,
    shape: Vec<usize>,
    labels: Vec<i64>,
}

impl Labelled {
    /// Inputs one after the other, the shape of one, and a class for each.
    ///
    /// # Errors
    /// If the numbers do not go up into whole inputs, one a label.
    pub fn new(inputs: Vec<f32>, shape: &[usize], labels: Vec<i64>) -> Result<Labelled, TrainError> {
        let each: usize = shape.iter().product();
        if each.checked_mul(labels.len()) != Some(inputs.len()) {
            let (n, count) = (inputs.len(), labels.len());
            return Err(TrainError::Setting(format!("{n} numbers are not {count} inputs of shape {shape:?}")));
        }
        Ok(Labelled { inputs, shape: shape.to_vec(), labels })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The classes.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// Some of them as tensors: f32 `[n, …shape]` and i64 `[n]`. Panics past the end, as a slice does.
    pub fn batch(&self, places: &[usize]) -> (Tensor, Tensor) {
        let each: usize = self.shape.iter().product();
        let inputs: Vec<f32> =
            places.iter().flat_map(|&at| &self.inputs[at * each..(at + 1) * each]).copied().collect();
        let labels: Vec<i64> = places.iter().map(|&at| self.labels[at]).collect();
        let shape = [&[places.len()], &self.shape[..]].concat();
        (Tensor::from_vec(inputs, shape), Tensor::from_vec(labels, [places.len()]))
    }
}

impl From<Examples> for Labelled {
    fn from(examples: Examples) -> Labelled {
        Labelled { inputs: examples.images, shape: vec![PIXELS], labels: examples.labels }
    }
}

/// How to train.
#[derive(Debug, Clone)]
pub struct Trainer {
    /// Times each example is seen.
    pub epochs: usize,
    /// Examples a step; the last of an epoch may have fewer.
    pub batch: usize,
    /// Decides the order of examples.
    pub shuffle: Key,
    /// The largest norm of the gradient, if it is limited.
    pub clip: Option<f64>,
    /// Threads that run kernels; without a number, all. The results do not depend on it.
    pub threads: Option<usize>,
}

/// A line of the metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// After each step.
    Step(StepRecord),
    /// After each epoch.
    Epoch(EpochRecord),
}

/// What one step showed, before its update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Steps so far, from 1.
    pub step: u64,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Mean loss of the batch.
    #[serde(with = "nan_as_null")]
    pub loss: f64,
    /// Share of the batch that was right.
    #[serde(with = "nan_as_null")]
    pub accuracy: f64,
    /// Norm of the whole gradient, before it was limited.
    #[serde(with = "nan_as_null")]
    pub gradient_norm: f64,
    /// Norm of the gradient of each layer, by its path. One that is not finite is null.
    pub layers: BTreeMap<String, Option<f64>>,
}

/// What one epoch showed: its steps, and the test part after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps so far.
    pub step: u64,
    /// Mean loss over the epoch's steps, while the weights changed.
    #[serde(with = "nan_as_null")]
    pub train_loss: f64,
    /// Share that was right over the epoch's steps.
    #[serde(with = "nan_as_null")]
    pub train_accuracy: f64,
    /// Mean loss of the test part after the epoch.
    #[serde(with = "nan_as_null")]
    pub test_loss: f64,
    /// Share of the test part that is right after the epoch.
    #[serde(with = "nan_as_null")]
    pub test_accuracy: f64,
}

/// What a training tells while it runs.
#[derive(Debug)]
pub enum Event<'a, M> {
    /// A step was taken.
    Step(&'a StepRecord),
    /// An epoch ended, with the model as it is now.
    Epoch(&'a EpochRecord, &'a M),
}

/// One step, with all that is needed to look at it again.
#[derive(Debug, Clone)]
pub struct Moment<M> {
    /// Which step, from 1.
    pub step: u64,
    /// The model before it.
    pub before: M,
    /// The model after it.
    pub after: M,
    /// The batch.
    pub inputs: Tensor,
    /// Its classes.
    pub labels: Tensor,
}

/// The end of a training.
#[derive(Debug, Clone)]
pub struct Fitted<M, O> {
    /// The model.
    pub model: M,
    /// The optimizer's state.
    pub optimizer: O,
    /// The first step.
    pub first: Moment<M>,
    /// The last step.
    pub last: Moment<M>,
    /// The last epoch, whole or not.
    pub epoch: EpochRecord,
    /// Whether it was stopped before the last epoch was whole.
    pub stopped: bool,
}

/// How a model does on data.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f64,
    /// Share that is right.
    pub accuracy: f64,
    /// The class it gives each.
    pub predictions: Vec<i64>,
}

impl Trainer {
    /// How many steps a training on so many examples takes.
    pub fn steps(&self, examples: usize) -> u64 {
        self.epochs as u64 * examples.div_ceil(self.batch.max(1)) as u64
    }

    /// Trains: `forward` gives the logits `[n, classes]` of inputs `[n, …]`; the loss is their cross-entropy.
    ///
    /// When `stop` becomes true, one more step is taken and the training ends as if it were the last.
    ///
    /// # Errors
    /// If there is nothing to do, the loss stops being finite, or `observe` fails.
    pub fn fit<M, O>(
        &self,
        start: (M, O),
        forward: impl Fn(&M, &Tensor) -> Tensor,
        (train, test): (&Labelled, &Labelled),
        stop: &AtomicBool,
        mut observe: impl FnMut(Event<'_, M>) -> Result<(), TrainError>,
    ) -> Result<Fitted<M, O>, TrainError>
    where
        M: Tree + Clone,
        O: Optimizer<M> + Clone,
    {
        self.check(train)?;
        let layers = layer_of_each(&start.0);
        let total = self.steps(train.len());
        let mut step = compile(|(state, batch): &((M, O), (Tensor, Tensor))| self.step(&forward, state, batch));
        let mut tested = compile(|(model, batch): &(M, (Tensor, Tensor))| test_batch(&forward, model, batch));
        if let Some(threads) = self.threads {
            (step, tested) = (step.threads(threads), tested.threads(threads));
        }
        let mut test = |model: &M| evaluate_with(test, |batch| Ok(tested.run((model.clone(), batch))?));
        let (mut state, mut number, mut first) = (start, 0, None);
        for epoch in 1..=self.epochs {
            let order = self.shuffle.fold(&Tensor::from(epoch as i64)).permutation(train.len()).to_vec::<i64>();
            let order: Vec<usize> = order.into_iter().map(|place| place as usize).collect();
            let (mut loss, mut accuracy) = (RunningMean::default(), RunningMean::default());
            for places in order.chunks(self.batch) {
                number += 1;
                let stopped = stop.load(Ordering::Relaxed);
                let last = stopped || number == total;
                let batch = train.batch(places);
                let before = (number == 1 || last).then(|| state.0.clone());
                let (next, seen) = step.run((state, batch.clone()))?;
                state = next;
                let record = seen.record(number, epoch, &layers);
                loss.add(record.loss, places.len() as f64);
                accuracy.add(record.accuracy, places.len() as f64);
                observe(Event::Step(&record))?;
                record.check()?;
                let moment = before.map(|before| {
                    let (inputs, labels) = batch;
                    Moment { step: number, before, after: state.0.clone(), inputs, labels }
                });
                if number == 1 {
                    first = moment.clone();
                }
                if let (true, Some(last), Some(first)) = (last, moment, first.clone()) {
                    let epoch = epoch_record((epoch, number), (loss, accuracy), test(&state.0)?);
                    observe(Event::Epoch(&epoch, &state.0))?;
                    let stopped = stopped && number < total;
                    return Ok(Fitted { model: state.0, optimizer: state.1, first, last, epoch, stopped });
                }
            }
            let record = epoch_record((epoch, number), (loss, accuracy), test(&state.0)?);
            observe(Event::Epoch(&record, &state.0))?;
        }
        unreachable!("the last step of the last epoch ends the training")
    }

    fn check(&self, train: &Labelled) -> Result<(), TrainError> {
        let wrong = |what: &str| Err(TrainError::Setting(what.into()));
        match () {
            () if train.is_empty() => wrong("there are no examples to train on"),
            () if self.epochs == 0 => wrong("0 epochs are no training; use at least 1"),
            () if self.batch == 0 => wrong("a batch of 0 examples is no step; use at least 1"),
            () => Ok(()),
        }
    }

    /// The whole step as one expression: forward, loss, backward, limit, update.
    fn step<M: Tree, O: Optimizer<M>>(
        &self,
        forward: impl Fn(&M, &Tensor) -> Tensor,
        (model, optimizer): &(M, O),
        (inputs, labels): &(Tensor, Tensor),
    ) -> ((M, O), Seen) {
        let loss = |model: &M| {
            let logits = forward(model, inputs);
            (logits.cross_entropy(labels), logits)
        };
        let (loss, logits, gradients) = value_and_grad_aux(loss, model);
        let parameters = tree::named_leaves(&gradients).into_iter().filter(|leaf| leaf.1 == Role::Parameter);
        let norms = parameters.map(|leaf| leaf.2.cast(DType::F32).square().sum(..)).collect();
        let (gradients, norm) = match self.clip {
            Some(max) => clip_norm(&gradients, max),
            None => {
                let norm = global_norm(&gradients);
                (gradients, norm)
            }
        };
        let seen = Seen { loss, accuracy: right(&logits, labels), norm, squares: norms };
        (optimizer.update(model, &gradients), seen)
    }
}

/// What a step gives beside the new state, as tensors.
#[derive(Tree, Clone)]
struct Seen {
    loss: Tensor,
    accuracy: Tensor,
    norm: Tensor,
    squares: Vec<Tensor>,
}

impl Seen {
    fn record(&self, step: u64, epoch: usize, layers: &[String]) -> StepRecord {
        let number = |tensor: &Tensor| match tensor.dtype() {
            DType::F32 => tensor.item::<f32>() as f64,
            _ => tensor.to_f64(),
        };
        let mut squares: BTreeMap<String, f64> = BTreeMap::new();
        for (layer, square) in layers.iter().zip(&self.squares) {
            *squares.entry(layer.clone()).or_default() += number(square);
        }
        let norm = |square: f64| Some(square.sqrt()).filter(|norm| norm.is_finite());
        StepRecord {
            step,
            epoch,
            loss: number(&self.loss),
            accuracy: number(&self.accuracy),
            gradient_norm: number(&self.norm),
            layers: squares.into_iter().map(|(layer, square)| (layer, norm(square))).collect(),
        }
    }
}

impl StepRecord {
    fn check(&self) -> Result<(), TrainError> {
        let StepRecord { step, epoch, .. } = *self;
        match [("the loss", self.loss), ("the gradient's norm", self.gradient_norm)].iter().find(|v| !v.1.is_finite()) {
            Some(&(what, value)) => Err(TrainError::NotFinite { what, value, step, epoch }),
            None => Ok(()),
        }
    }
}

/// The layer that each parameter belongs to: its path without the last name.
fn layer_of_each<M: Tree>(model: &M) -> Vec<String> {
    let parameters = tree::named_leaves(model).into_iter().filter(|leaf| leaf.1 == Role::Parameter);
    parameters.map(|(path, ..)| path.rsplit_once('.').map_or(path.clone(), |(layer, _)| layer.into())).collect()
}

fn right(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(-1).equal(labels).cast(DType::F32).mean(..)
}

fn test_batch<M>(
    forward: impl Fn(&M, &Tensor) -> Tensor,
    model: &M,
    (inputs, labels): &(Tensor, Tensor),
) -> (Tensor, Tensor) {
    let logits = forward(model, inputs);
    (logits.cross_entropy(labels), logits.argmax(-1))
}

fn epoch_record((epoch, step): (usize, u64), train: (RunningMean, RunningMean), test: Evaluation) -> EpochRecord {
    let mean = |mean: RunningMean| mean.mean().unwrap_or(f64::NAN);
    EpochRecord {
        epoch,
        step,
        train_loss: mean(train.0),
        train_accuracy: mean(train.1),
        test_loss: test.loss,
        test_accuracy: test.accuracy,
    }
}

/// How a model does on data, without training it.
///
/// # Errors
/// If a label is outside the classes.
pub fn evaluate<M: Tree>(
    model: &M,
    forward: impl Fn(&M, &Tensor) -> Tensor,
    data: &Labelled,
) -> Result<Evaluation, TrainError> {
    evaluate_with(data, |batch| {
        let (loss, classes) = test_batch(&forward, model, &batch);
        Ok((loss.try_eval()?, classes.try_eval()?))
    })
}

fn evaluate_with(
    data: &Labelled,
    mut run: impl FnMut((Tensor, Tensor)) -> Result<(Tensor, Tensor), TrainError>,
) -> Result<Evaluation, TrainError> {
    let (mut loss, mut predictions) = (RunningMean::default(), Vec::with_capacity(data.len()));
    let places: Vec<usize> = (0..data.len()).collect();
    for places in places.chunks(TEST_ROWS) {
        let (batch_loss, classes) = run(data.batch(places))?;
        loss.add(batch_loss.to_f64(), places.len() as f64);
        predictions.extend(classes.to_vec::<i64>());
    }
    let accuracy = crate::metrics::accuracy(&data.labels, &predictions).unwrap_or(f64::NAN);
    Ok(Evaluation { loss: loss.mean().unwrap_or(f64::NAN), accuracy, predictions })
}
