//! The training loop: batches, one compiled step, an evaluation now and then.
//!
//! It knows no model, no file, no terminal and no signal: what is trained is a [`Task`], what happens goes to one function
//! as [`Event`]s, and whoever sets the flag it is given ends it after the step. Seed and data decide every number, bit for
//! bit, on any number of threads; and a training that goes on from a [`Course`] and its state takes the steps that it
//! would have taken.

mod record;
mod settings;

pub use record::{Best, Course, EvaluationRecord, Record, StepRecord};
pub use settings::{EarlyStop, Length, Monitor, Trainer};

use std::sync::atomic::{AtomicBool, Ordering};

use chainrule::execute::{ExecuteError, compile};
use chainrule::tensor::{Key, Tensor};
use chainrule::tree::{self, Tree};
use thiserror::Error;

use crate::data::{Batch, DataError, Loader};
use crate::run::RunError;
use crate::task::{Measures, Task, Totals};

/// Why a training ended before its end.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A setting with which there is nothing to do.
    #[error("{0}")]
    Setting(String),
    /// The loss or the gradient is not a finite number any more.
    #[error("{what} became {value} in step {step} (epoch {epoch}): its update was not kept; try a lower learning rate")]
    NotFinite {
        /// As in `the loss`.
        what: String,
        /// NaN or an infinity.
        value: f64,
        /// The step, from 1.
        step: u64,
        /// The epoch, from 1.
        epoch: u64,
    },
    /// A step could not be carried out: a label outside the classes.
    #[error("{0}")]
    Execute(#[from] ExecuteError),
    /// A batch could not be made.
    #[error("{0}")]
    Data(#[from] DataError),
    /// What happened could not be written down.
    #[error("{0}")]
    Run(#[from] RunError),
    /// A file of tensors could not be written or read.
    #[error("{0}")]
    Tensors(#[from] tree::TensorFileError),
    /// The checkpoint cannot be gone on from.
    #[error("{0}")]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// The picture of the curves could not be drawn.
    #[error("{0}")]
    Curves(#[from] crate::curves::CurvesError),
}

/// What a training tells while it runs.
#[derive(Debug)]
pub enum Event<'a, S> {
    /// A step is about to be taken. Whoever keeps a copy of the state makes the step copy it too, instead of changing it
    /// in place; its numbers stay the same.
    Next {
        /// The step, from 1.
        step: u64,
        /// Its examples.
        batch: &'a Batch,
        /// The state before it.
        state: &'a S,
    },
    /// A step was taken.
    Step {
        /// What it showed.
        record: &'a StepRecord,
        /// Its examples.
        batch: &'a Batch,
        /// The state before it, where [`Trainer::show_before`] says so.
        before: Option<&'a S>,
        /// The state after it.
        state: &'a S,
    },
    /// An evaluation was made.
    Evaluation {
        /// What it showed.
        record: &'a EvaluationRecord,
        /// What it counted.
        validation: &'a Totals,
        /// The state.
        state: &'a S,
    },
    /// All is told of a step, and its evaluation if there was one: from here a training can go on.
    Whole {
        /// The state.
        state: &'a S,
        /// Where it is.
        course: &'a Course,
    },
}

/// The end of a training.
#[derive(Debug, Clone)]
pub struct Fitted<S> {
    /// The state.
    pub state: S,
    /// Where it is.
    pub course: Course,
    /// Why it ended.
    pub end: End,
}

/// Why a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All steps are taken.
    Whole,
    /// It did not get better any more.
    Early,
    /// It was stopped.
    Stopped,
}

impl Trainer {
    /// Trains, from a state and the place where it is in its course.
    ///
    /// When `stop` becomes true, the training ends after the step, or after one more where
    /// [`show_before`](Trainer::show_before) is set.
    ///
    /// # Errors
    /// If there is nothing to do, a measure stops being finite, a batch cannot be made, or `observe` fails.
    pub fn fit<T: Task>(
        &self,
        task: &T,
        (mut state, mut course): (T::State, Course),
        (train, validation): (&Loader, Option<&Loader>),
        stop: &AtomicBool,
        mut observe: impl FnMut(Event<'_, T::State>) -> Result<(), TrainError>,
    ) -> Result<Fitted<T::State>, TrainError> {
        let per_epoch = train.steps_per_epoch();
        self.check(per_epoch)?;
        course.check(per_epoch)?;
        let total = self.length.steps(per_epoch);
        let mut step = compile(|(state, batch, number): &(T::State, Batch, Tensor)| {
            task.step(state, batch, &Key::new(self.seed).fold(number))
        });
        let mut look = compile(|(state, batch): &(T::State, Batch)| task.evaluate(state, batch));
        if let Some(threads) = self.threads {
            (step, look) = (step.threads(threads), look.threads(threads));
        }
        if let Some(bytes) = self.memory_budget {
            step = step.memory_budget(bytes);
        }
        let first = course.step;
        while course.step < total && !self.is_early(&course) {
            let mut batches = train.epoch(course.epoch, course.in_epoch);
            while course.in_epoch < per_epoch && course.step < total && !self.is_early(&course) {
                let Some(batch) = batches.next().transpose()? else {
                    let problem =
                        format!("epoch {} ended after {} of {per_epoch} batches", course.epoch + 1, course.in_epoch);
                    return Err(TrainError::Setting(problem));
                };
                let stopping = stop.load(Ordering::Relaxed);
                let evaluates = self.evaluates(course.step + 1, per_epoch);
                let shown = self.show_before && (course.step == first || evaluates || stopping);
                let before = shown.then(|| state.clone());
                observe(Event::Next { step: course.step + 1, batch: &batch, state: &state })?;
                let number = step_number(course.step + 1);
                let (next, measures) = step.run((state, batch.clone(), number))?;
                state = next;
                let totals = measures.totals();
                let record = course.take(&measures, totals.clone());
                observe(Event::Step { record: &record, batch: &batch, before: before.as_ref(), state: &state })?;
                course.check_finite(&totals)?;
                if evaluates {
                    let evaluated = match validation {
                        Some(data) => evaluate_with(data, |batch| Ok(look.run((state.clone(), batch))?))?,
                        None => Totals::default(),
                    };
                    let (record, figure) = self.judge(&mut course, &evaluated)?;
                    state = task.observe(state, figure);
                    observe(Event::Evaluation { record: &record, validation: &evaluated, state: &state })?;
                }
                course.turn(per_epoch);
                observe(Event::Whole { state: &state, course: &course })?;
                let stopped = stopping || !self.show_before && stop.load(Ordering::Relaxed);
                if stopped && course.step < total {
                    return Ok(Fitted { state, course, end: End::Stopped });
                }
                if course.in_epoch == 0 {
                    break;
                }
            }
        }
        let end = if course.step < total { End::Early } else { End::Whole };
        Ok(Fitted { state, course, end })
    }

    fn is_early(&self, course: &Course) -> bool {
        self.early_stop.is_some_and(|early| course.waited >= early.patience.max(1))
    }

    /// Closes the stretch of steps before an evaluation, and says how good it was.
    fn judge(&self, course: &mut Course, evaluated: &Totals) -> Result<(EvaluationRecord, f64), TrainError> {
        let train = std::mem::take(&mut course.since).figures();
        let validation = evaluated.figures();
        let numbers = if evaluated.is_empty() { &train } else { &validation };
        let (best, figure) = course.judge(&self.monitor, self.early_stop, numbers)?;
        Ok((EvaluationRecord { step: course.step, epoch: course.epoch + 1, train, validation, best }, figure))
    }
}

/// The number of a step, from 1, as its program is given it: folded into the seed's key it is the step's own key.
pub fn step_number(step: u64) -> Tensor {
    Tensor::from(step as i64)
}

impl Course {
    /// Counts a step.
    fn take(&mut self, measures: &Measures, totals: Totals) -> StepRecord {
        self.step += 1;
        self.in_epoch += 1;
        let (numbers, layers) = (totals.numbers(), measures.layer_norms());
        self.since.add(totals);
        StepRecord { step: self.step, epoch: self.epoch + 1, numbers, layers }
    }

    /// After the last step of an epoch comes the first of the next.
    fn turn(&mut self, per_epoch: usize) {
        if self.in_epoch == per_epoch {
            (self.epoch, self.in_epoch) = (self.epoch + 1, 0);
        }
    }

    fn check(&self, per_epoch: usize) -> Result<(), TrainError> {
        let expected =
            self.epoch.checked_mul(per_epoch as u64).and_then(|steps| steps.checked_add(self.in_epoch as u64));
        if self.in_epoch < per_epoch && expected == Some(self.step) {
            return Ok(());
        }
        let (step, epoch, at) = (self.step, self.epoch + 1, self.in_epoch);
        Err(TrainError::Setting(format!(
            "after {step} steps the training was {at} steps into epoch {epoch}, and with these data an epoch has \
             {per_epoch}; are they the same data and batch size?"
        )))
    }

    fn check_finite(&self, totals: &Totals) -> Result<(), TrainError> {
        match totals.not_finite() {
            Some((name, value)) => {
                let what = format!("the {}", name.replace('_', " "));
                Err(TrainError::NotFinite { what, value, step: self.step, epoch: self.epoch + 1 })
            }
            None => Ok(()),
        }
    }
}

/// How a state does on all batches of an epoch: what `measure` gives of each, added up.
///
/// # Errors
/// If a batch cannot be made, or holds a class that there is not.
pub fn evaluate<S: Tree + Clone>(
    measure: impl Fn(&S, &Batch) -> Measures,
    state: &S,
    data: &Loader,
    threads: Option<usize>,
) -> Result<Totals, TrainError> {
    let mut look = compile(|(state, batch): &(S, Batch)| measure(state, batch));
    if let Some(threads) = threads {
        look = look.threads(threads);
    }
    evaluate_with(data, |batch| Ok(look.run((state.clone(), batch))?))
}

fn evaluate_with(
    data: &Loader,
    mut measure: impl FnMut(Batch) -> Result<Measures, TrainError>,
) -> Result<Totals, TrainError> {
    let mut totals = Totals::default();
    for batch in data.epoch(0, 0) {
        totals.add(measure(batch?)?.totals());
    }
    Ok(totals)
}
