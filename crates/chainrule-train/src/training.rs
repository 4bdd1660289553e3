//! A training of any task in its run folder: the loop, and around it the log, checkpoints, the bar and the curves.
//!
//! Everything that trains goes through [`run_training`]: a perceptron on digits, a language model, two networks against
//! each other. It knows nothing of what is trained, and decides nothing about it.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use chainrule::tensor::Tensor;
use chainrule::tree::save_tensors;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::curves::TrainingCurves;
use crate::data::{Batch, Loader};
use crate::log::{BEST, CHECKPOINT, MODEL, RunLog};
use crate::progress::Progress;
use crate::run::RunFolder;
use crate::task::{Numbers, Task};
use crate::trainer::{Course, End, Event, Fitted, StepRecord, TrainError, Trainer};

/// When a checkpoint is written, beside those at a stop and at the end.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum SaveEvery {
    /// As often as costs no more than a twentieth of the time, and at most once a second.
    #[default]
    Auto,
    /// After so many steps.
    Steps(u64),
    /// After so many seconds.
    Seconds(f64),
}

impl FromStr for SaveEvery {
    type Err = String;
    /// `500` for steps, `30s` for seconds.
    fn from_str(text: &str) -> Result<SaveEvery, String> {
        let text = text.trim();
        let seconds = || text.strip_suffix('s')?.trim().parse().ok().filter(|s: &f64| s.is_finite() && *s > 0.0);
        match text.parse() {
            Ok(steps) if steps > 0 => Ok(SaveEvery::Steps(steps)),
            _ => seconds()
                .map(SaveEvery::Seconds)
                .ok_or_else(|| "it must be a number of steps such as 500, or of seconds such as 30s".into()),
        }
    }
}

/// How a training is kept and shown.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// How to train.
    pub trainer: Trainer,
    /// When to write checkpoints.
    pub save_every: SaveEvery,
    /// Stands above the curves.
    pub title: String,
    /// What the data that are not trained on are called: `validation`, or `test`.
    pub held_out: String,
    /// Every setting that decides the numbers, as an object of JSON: a checkpoint goes on only with the same ones.
    pub decides: Value,
    /// Whether to go on from the run's checkpoint.
    pub resume: bool,
    /// Whether to write TensorBoard's event file.
    pub tensorboard: bool,
    /// Whether to show nothing.
    pub quiet: bool,
}

impl RunSettings {
    /// With everything kept and shown, and from the beginning.
    pub fn new(trainer: Trainer, title: impl Into<String>, decides: Value) -> RunSettings {
        RunSettings {
            trainer,
            save_every: SaveEvery::Auto,
            title: title.into(),
            held_out: "validation".into(),
            decides,
            resume: false,
            tensorboard: true,
            quiet: false,
        }
    }
}

/// What is trained, on what, and where it is kept.
pub struct Training<'a, T: Task> {
    /// Its folder.
    pub run: &'a RunFolder,
    /// What is trained.
    pub task: &'a T,
    /// The first state; when a checkpoint is gone on from, only its form counts.
    pub start: T::State,
    /// The batches to train on.
    pub train: &'a Loader,
    /// The batches to look at.
    pub validation: Option<&'a Loader>,
    /// All else.
    pub settings: RunSettings,
}

/// The end of a training.
#[derive(Debug, Clone)]
pub struct Finished<S> {
    /// The state.
    pub state: S,
    /// Where it is.
    pub course: Course,
    /// Why it ended.
    pub end: End,
    /// How long this part of it took.
    pub seconds: f64,
    /// Steps of this part.
    pub steps: u64,
    /// Examples of this part.
    pub examples: usize,
    /// What the last steps showed: since the last evaluation, or those before it.
    pub train: Numbers,
}

/// Who looks on while a training runs. Nothing it does changes the training: its numbers are the same, bit for bit.
pub trait Watcher<S> {
    /// Every event, after it was written down.
    fn event(&mut self, event: &Event<'_, S>);

    /// Whether it wants to look at the step that comes. The state before it is kept for that, and copied in the step.
    fn wants(&mut self, _step: u64) -> bool {
        false
    }

    /// Looks at a step that it wanted.
    fn look(&mut self, _step: &WholeStep<'_, S>) -> Look {
        Look::default()
    }
}

/// A step from its inputs to its results.
#[derive(Debug)]
pub struct WholeStep<'a, S> {
    /// What it showed.
    pub record: &'a StepRecord,
    /// Its examples.
    pub batch: &'a Batch,
    /// The state before it.
    pub before: &'a S,
    /// The state after it.
    pub after: &'a S,
}

/// What a look at a step gives.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Lines for the run's `flow.jsonl`.
    pub lines: Vec<Value>,
    /// Lines to show.
    pub told: Vec<String>,
}

/// A function that sees every event and looks at no step.
struct Events<F>(F);

impl<S, F: FnMut(&Event<'_, S>)> Watcher<S> for Events<F> {
    fn event(&mut self, event: &Event<'_, S>) {
        (self.0)(event);
    }
}

/// Trains and keeps everything in the run folder: metrics line by line, checkpoints, the model at each of them, the best
/// model, and the curves at the end. `watch` sees every event after it was written down.
///
/// # Errors
/// Whatever keeps the training from its end; that somebody else trains the run ([`RunFolder::claimed`]). What was written
/// before stays, and can be gone on from.
pub fn run_training<T: Task>(
    training: Training<'_, T>,
    stop: &AtomicBool,
    watch: impl FnMut(&Event<'_, T::State>),
) -> Result<Finished<T::State>, TrainError> {
    run_watched(training, stop, &mut Events(watch))
}

/// [`run_training`] with somebody who looks at whole steps too; what they see goes into the run's `flow.jsonl`.
///
/// # Errors
/// As [`run_training`].
pub fn run_watched<T: Task>(
    training: Training<'_, T>,
    stop: &AtomicBool,
    watcher: &mut impl Watcher<T::State>,
) -> Result<Finished<T::State>, TrainError> {
    let Training { run, task, start, train, validation, settings } = training;
    let run = &run.clone().claimed()?;
    let checkpoint = match settings.resume {
        true => Some(Checkpoint::load(run.path().join(CHECKPOINT), &start, &settings.decides)?),
        false => None,
    };
    let lengths = checkpoint.as_ref().map(|checkpoint| checkpoint.lengths.clone());
    let curves = TrainingCurves {
        title: settings.title.clone(),
        held_out: settings.held_out.clone(),
        ..TrainingCurves::default()
    };
    let log = RunLog::new(run, curves, settings.tensorboard, lengths.as_ref())?;
    let (state, course) = checkpoint.map_or((start, Course::default()), |at| (at.state, at.course));
    let first = course.step;
    let mut progress = bar(&settings, train.steps_per_epoch(), first);
    let mut keeper = Keeper::new(run.path(), task, &settings, log, first);
    let (begin, mut examples, mut last) = (Instant::now(), 0, Numbers::default());
    let mut looked_at = None;
    let fitted = settings.trainer.fit(task, (state, course), (train, validation), stop, |event| {
        keeper.log.take(&event)?;
        match &event {
            Event::Next { step, state, .. } => looked_at = watcher.wants(*step).then(|| (*state).clone()),
            Event::Step { batch, .. } => examples += batch.len(),
            Event::Evaluation { record, state, .. } => {
                last = record.train.clone();
                keeper.evaluated(record.best, state);
            }
            Event::Whole { state, course } => keeper.whole(state, course)?,
        }
        progress.take(&event);
        watcher.event(&event);
        if let Event::Step { record, batch, state, .. } = &event
            && let Some(before) = looked_at.take()
        {
            let Look { lines, told } = watcher.look(&WholeStep { record, batch, before: &before, after: state });
            lines.iter().try_for_each(|line| keeper.log.flow(line))?;
            told.iter().for_each(|line| progress.line(line));
        }
        Ok(())
    });
    progress.finish();
    let seconds = begin.elapsed().as_secs_f64();
    let Fitted { state, course, end } = fitted?;
    keeper.save(&state, &course)?;
    keeper.log.write_curves()?;
    let train = if course.since.is_empty() { last } else { course.since.figures() };
    let steps = course.step - first;
    Ok(Finished { state, course, end, seconds, steps, examples, train })
}

fn bar(settings: &RunSettings, per_epoch: usize, first: u64) -> Progress {
    let Trainer { length, evaluate_every, .. } = settings.trainer;
    let every = evaluate_every.unwrap_or(per_epoch as u64).max(1);
    let steps = length.steps(per_epoch);
    let mut progress = Progress::new(length, steps, steps.div_ceil(every), &settings.held_out, settings.quiet);
    if settings.resume {
        progress.begin_at(first, first / every);
        progress.line(&format!("  going on after step {first} of {steps}"));
    }
    progress
}

/// Writes checkpoints and models when it is time.
struct Keeper<'a, T: Task> {
    folder: &'a Path,
    task: &'a T,
    settings: &'a RunSettings,
    log: RunLog<'a>,
    /// The best model, until it is written.
    best: Option<BTreeMap<String, Tensor>>,
    saved: Instant,
    saved_step: u64,
    /// How long the last save took.
    cost: Duration,
}

impl<'a, T: Task> Keeper<'a, T> {
    fn new(
        folder: &'a Path,
        task: &'a T,
        settings: &'a RunSettings,
        log: RunLog<'a>,
        saved_step: u64,
    ) -> Keeper<'a, T> {
        let (saved, cost) = (Instant::now(), Duration::ZERO);
        Keeper { folder, task, settings, log, best: None, saved, saved_step, cost }
    }

    fn evaluated(&mut self, best: bool, state: &T::State) {
        if best {
            self.best = Some(self.task.model(state));
        }
    }

    fn whole(&mut self, state: &T::State, course: &Course) -> Result<(), TrainError> {
        let since = self.saved.elapsed();
        let due = match self.settings.save_every {
            SaveEvery::Auto => since > (self.cost * 20).max(Duration::from_secs(1)),
            SaveEvery::Steps(steps) => course.step.is_multiple_of(steps),
            SaveEvery::Seconds(seconds) => since.as_secs_f64() > seconds,
        };
        if due { self.save(state, course) } else { Ok(()) }
    }

    fn save(&mut self, state: &T::State, course: &Course) -> Result<(), TrainError> {
        if self.saved_step == course.step {
            return Ok(());
        }
        let begin = Instant::now();
        // The best model first: no checkpoint may know of one that is not there.
        if let Some(best) = self.best.take() {
            save_tensors(&best, self.folder.join(BEST))?;
        }
        let lengths = self.log.lengths()?;
        let decides = self.settings.decides.clone();
        let checkpoint = Checkpoint { state: state.clone(), course: course.clone(), lengths, settings: decides };
        checkpoint.save(self.folder.join(CHECKPOINT))?;
        save_tensors(&self.task.model(state), self.folder.join(MODEL))?;
        (self.saved, self.saved_step, self.cost) = (Instant::now(), course.step, begin.elapsed());
        Ok(())
    }
}
