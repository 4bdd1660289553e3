//! Looking on while a model file trains, and going back to the step that a training failed in.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use chainrule::program::{Program, capture};
use chainrule::tensor::{Key, Tensor};
use chainrule::tree::{self, Tree};
use chainrule_nn::optimizer::AnyOptimizer;

use super::{Experiment, ExperimentError, Options, Outline, decides};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::data::{Batch, Loader, Splits};
use crate::log::CHECKPOINT;
use crate::model::{Form, GanState, GanTask, Network};
use crate::run::RunFolder;
use crate::task::{Fit, Numbers, Supervised, Task};
use crate::trainer::{Course, EvaluationRecord, Event, StepRecord, TrainError, Trainer, step_number};
use crate::training::{Look, Watcher, WholeStep};

/// Who looks on while a model file trains. Nothing it does changes the training.
pub trait Onlooker {
    /// What the training will be, before its first step.
    fn begins(&mut self, _outline: &Outline) {}

    /// A step was taken.
    fn step(&mut self, _record: &StepRecord) {}

    /// An evaluation was made.
    fn evaluation(&mut self, _record: &EvaluationRecord) {}

    /// Whether it wants to look at the step that comes.
    fn wants(&mut self, _step: u64) -> bool {
        false
    }

    /// Looks at a step that it wanted.
    fn look(&mut self, _seen: &Seen<'_>) -> Look {
        Look::default()
    }
}

/// A step from its inputs to its results.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What it showed.
    pub record: &'a StepRecord,
    /// Its examples.
    pub batch: &'a Batch,
    /// What was trained: one network, or a pair in the order of [`Spec::losses`](crate::model::Spec::losses).
    pub networks: Vec<SeenNetwork<'a>>,
}

/// A network in a step.
#[derive(Debug, Clone, Copy)]
pub struct SeenNetwork<'a> {
    /// Before the step.
    pub before: &'a Network,
    /// After it.
    pub after: &'a Network,
    /// The other of a pair as it is when this one is updated: a discriminator sees the old generator, and that the new
    /// discriminator.
    pub other: Option<&'a Network>,
}

/// The one network of a step.
pub(super) fn alone<'s>(before: &'s Single, after: &'s Single) -> Vec<SeenNetwork<'s>> {
    vec![SeenNetwork { before: &before.model, after: &after.model, other: None }]
}

/// Both networks of a step.
pub(super) fn both<'s>(before: &'s GanState, after: &'s GanState) -> Vec<SeenNetwork<'s>> {
    let generator = (&before.generator, &after.generator, &after.discriminator);
    let discriminator = (&before.discriminator, &after.discriminator, &before.generator);
    let seen =
        [generator, discriminator].map(|(before, after, other)| SeenNetwork { before, after, other: Some(other) });
    seen.into()
}

/// Hears only what the training will be.
pub(super) struct First<F>(pub Option<F>);

impl<F: FnOnce(Outline)> Onlooker for First<F> {
    fn begins(&mut self, outline: &Outline) {
        if let Some(hear) = self.0.take() {
            hear(*outline);
        }
    }
}

/// How an onlooker sees the states of a task.
pub(super) struct Through<'o, S, F> {
    onlooker: &'o mut dyn Onlooker,
    networks: Networks<S>,
    show: F,
}

/// The networks in a state before a step and the state after it.
type Networks<S> = for<'s> fn(&'s S, &'s S) -> Vec<SeenNetwork<'s>>;

/// An onlooker at work.
pub(super) struct Watching<'o, S, F> {
    through: Through<'o, S, F>,
    last: Option<Numbers>,
    shown: Result<(), ExperimentError>,
}

impl<'o, S, F: FnMut(&S, u64) -> Result<(), ExperimentError>> Through<'o, S, F> {
    /// Where the networks are in a state, and what else is done with the state after an evaluation.
    pub fn new(onlooker: &'o mut dyn Onlooker, networks: Networks<S>, show: F) -> Through<'o, S, F> {
        Through { onlooker, networks, show }
    }

    pub fn watching(self) -> Watching<'o, S, F> {
        Watching { through: self, last: None, shown: Ok(()) }
    }
}

impl<S, F> Watching<'_, S, F> {
    /// What the last evaluation showed.
    pub fn end(self) -> Result<Option<Numbers>, ExperimentError> {
        self.shown.map(|()| self.last)
    }
}

impl<S, F: FnMut(&S, u64) -> Result<(), ExperimentError>> Watcher<S> for Watching<'_, S, F> {
    fn event(&mut self, event: &Event<'_, S>) {
        match event {
            Event::Step { record, .. } => self.through.onlooker.step(record),
            Event::Evaluation { record, state, .. } => {
                self.last = Some(record.validation.clone());
                if self.shown.is_ok() {
                    self.shown = (self.through.show)(state, record.step);
                }
                self.through.onlooker.evaluation(record);
            }
            Event::Next { .. } | Event::Whole { .. } => {}
        }
    }

    fn wants(&mut self, step: u64) -> bool {
        self.through.onlooker.wants(step)
    }

    fn look(&mut self, step: &WholeStep<'_, S>) -> Look {
        let networks = (self.through.networks)(step.before, step.after);
        self.through.onlooker.look(&Seen { record: step.record, batch: step.batch, networks })
    }
}

/// A step as a program that has not been optimised, with the arguments it had: to be run again and looked into.
#[derive(Debug)]
pub struct StepProgram {
    /// The step's number.
    pub step: u64,
    /// From state, batch and number of the step to its measures and the state after it.
    pub program: Program,
    /// What it was given.
    pub arguments: Vec<Tensor>,
    /// What its results are: `the loss`, `hidden.weight after the step`.
    pub results: Vec<String>,
}

/// The state of a training of one network.
pub(super) type Single = Fit<Network, AnyOptimizer<Network>>;

/// The state before a step, and its batch.
type Before<S> = (u64, S, Batch);

impl Experiment {
    /// The task of a network with one loss, and its first state.
    pub(super) fn supervised(
        &self,
        splits: &Splits,
        steps: u64,
    ) -> Result<(Supervised<Network, AnyOptimizer<Network>>, Single), ExperimentError> {
        let task = self.spec.task(steps);
        let network = tree::map(&self.network, Tensor::eval);
        let first: Vec<usize> = (0..self.spec.train().batch.min(splits.train.len())).collect();
        let network = network.settled(&splits.train.batch(&first, None)?.inputs);
        let optimizer = self.spec.optimizer(&network, steps)?;
        let start = task.start(network, optimizer);
        Ok((task, start))
    }

    /// The task of a pair of networks, and its first state.
    pub(super) fn adversarial(&self, steps: u64) -> Result<(GanTask, GanState), ExperimentError> {
        let start = self.spec.gan_start(&tree::map(&self.network, Tensor::eval), steps)?;
        Ok((self.spec.gan(), start))
    }

    /// The step of a training that ended because something stopped being finite in it, and the one before it where that
    /// can be had, the earlier first: each with the very inputs it had. Nothing is kept for this while training; the
    /// steps since the last checkpoint are taken once more, and give the same numbers bit for bit.
    ///
    /// # Errors
    /// If the checkpoint or the data cannot be read.
    pub fn steps_before(
        &self,
        run: &RunFolder,
        options: &Options,
        step: u64,
    ) -> Result<Vec<StepProgram>, ExperimentError> {
        let splits = self.open_splits()?;
        let training = self.loader(splits);
        let validation = splits.validation.clone().map(|set| self.looking(set));
        let steps = self.length().steps(training.steps_per_epoch());
        let (trainer, loaders) = (self.trainer(options), (&training, validation.as_ref()));
        let path = run.path().join(CHECKPOINT);
        match self.network.form() {
            Form::Sequential | Form::Siamese | Form::EncoderDecoder => {
                let (task, start) = self.supervised(splits, steps)?;
                let from = self.last_checkpoint(&path, start)?;
                programs(&task, &trainer, taken_again(&task, &trainer, from, loaders, step))
            }
            Form::Gan => {
                let (task, start) = self.adversarial(steps)?;
                let from = self.last_checkpoint(&path, start)?;
                programs(&task, &trainer, taken_again(&task, &trainer, from, loaders, step))
            }
        }
    }

    /// Where a training can be taken up again: its last checkpoint, or its start.
    fn last_checkpoint<S: Tree>(&self, path: &Path, start: S) -> Result<(S, Course), ExperimentError> {
        match Checkpoint::load(path, &start, &decides(&self.spec)) {
            Ok(checkpoint) => Ok((checkpoint.state, checkpoint.course)),
            Err(CheckpointError::None { .. }) => Ok((start, Course::default())),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes the steps up to one again, and gives what the last two of them were taken from.
fn taken_again<T: Task>(
    task: &T,
    trainer: &Trainer,
    from: (T::State, Course),
    loaders: (&Loader, Option<&Loader>),
    last: u64,
) -> Result<Vec<Before<T::State>>, TrainError> {
    let mut before = Vec::new();
    let goes_on = AtomicBool::new(false);
    let fitted = trainer.fit(task, from, loaders, &goes_on, |event| {
        if let Event::Next { step, state, batch } = event
            && step + 1 >= last
        {
            before.push((step, state.clone(), batch.clone()));
        }
        Ok(())
    });
    match fitted {
        // It ends as it ended before.
        Ok(_) | Err(TrainError::NotFinite { .. }) => Ok(before),
        Err(error) => Err(error),
    }
}

fn programs<T: Task>(
    task: &T,
    trainer: &Trainer,
    before: Result<Vec<Before<T::State>>, TrainError>,
) -> Result<Vec<StepProgram>, ExperimentError> {
    before?.iter().map(|before| program(task, trainer.seed, before)).collect()
}

fn program<T: Task>(
    task: &T,
    seed: u64,
    (step, state, batch): &Before<T::State>,
) -> Result<StepProgram, ExperimentError> {
    let named: Vec<(String, Tensor)> = tree::named_leaves(state)
        .into_iter()
        .chain(tree::named_leaves(batch))
        .map(|(path, _, leaf)| (path.strip_prefix("model.").map(str::to_owned).unwrap_or(path), leaf))
        .chain([("step".to_owned(), step_number(*step))])
        .collect();
    let number = named.last().map_or_else(|| step_number(*step), |last| last.1.clone());
    let (next, measures) = task.step(state, batch, &Key::new(seed).fold(&number));
    let layers = measures.layers.iter().zip(&measures.squares);
    let measured =
        measures.list.iter().map(|measure| (format!("the {}", measure.name.replace('_', " ")), measure.sum.clone()));
    let gradients = layers.map(|(layer, square)| (format!("the squared gradient of {layer}"), square.clone()));
    let after = tree::named_leaves(&next)
        .into_iter()
        .map(|(path, _, leaf)| (format!("{} after the step", path.strip_prefix("model.").unwrap_or(&path)), leaf));
    let (results, outputs): (Vec<String>, Vec<Tensor>) = measured.chain(gradients).chain(after).unzip();
    let program = capture("step", &named, &outputs).map_err(|error| ExperimentError::Setting(error.to_string()))?;
    let arguments = named.into_iter().map(|(_, leaf)| leaf).collect();
    Ok(StepProgram { step: *step, program, arguments, results })
}
