//! A model file at work: its data opened, its network built, trained in a run folder, and asked again from there.
//!
//! The run keeps the text of the file and what was known of the data, so that evaluating, predicting and generating need
//! nothing but the run (and, where they ask for test data, the data). Each form of network has its task in
//! [`Experiment::train`]; all go through the one [`run_watched`]. This room parses no arguments and prints nothing.

mod generate;
mod kept;
mod report;
mod sample;
mod score;
mod table;
mod watched;

pub use generate::{Continuation, decode};
pub use report::{Evaluation, Report};
pub use sample::{SAMPLES, sheet};
pub use score::Score;
pub use watched::{Onlooker, Seen, SeenNetwork, StepProgram};

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use chainrule::execute::ExecuteError;
use chainrule::tensor::{Key, Tensor, Type};
use chainrule::tree::{self, TensorFileError};
use serde_json::Value;
use thiserror::Error;

use crate::checkpoint::{CheckpointError, other_settings};
use crate::data::{
    Arrays, DataError, DataSettings, Dataset, Loader, Splits, Targets, Tokenizer, Transform, Transformed,
};
use crate::log::{BEST, MODEL};
use crate::model::{Form, GanState, Length as FileLength, ModelError, Network, Spec};
use crate::run::{RunError, RunFolder};
use crate::task::{FREE_RUNNING, Metric, Objective, Task};
use crate::trainer::{EarlyStop, Length, Monitor, TrainError, Trainer, evaluate};
use crate::training::{RunSettings, SaveEvery, Training, run_watched};
use kept::Kept;
use watched::Through;

/// The model file in a run folder.
pub const MODEL_FILE: &str = "model.toml";
/// The tokenizer in a run folder, of a text.
pub const TOKENIZER: &str = "tokenizer.json";
/// The result in a run folder.
pub const REPORT: &str = "report.json";

/// Why a model file does not train, or a run does not answer.
#[derive(Debug, Error)]
pub enum ExperimentError {
    /// The file is wrong somewhere.
    #[error("{0}")]
    Model(#[from] ModelError),
    /// The data are not there or not as they should be.
    #[error("{0}")]
    Data(#[from] DataError),
    /// The run folder cannot be read or written.
    #[error("{0}")]
    Run(#[from] RunError),
    /// The training failed.
    #[error("{0}")]
    Train(#[from] TrainError),
    /// The file of the model is missing, damaged or of another network.
    #[error("{0}")]
    Tensors(#[from] TensorFileError),
    /// What is asked for does not go with the file or the run.
    #[error("{0}")]
    Setting(String),
}

impl ExperimentError {
    /// Whether what came from outside is at fault, and not the work itself.
    pub fn is_input(&self) -> bool {
        use ExperimentError::*;
        match self {
            Train(error) => matches!(
                error,
                TrainError::Checkpoint(_)
                    | TrainError::Data(_)
                    | TrainError::Setting(_)
                    | TrainError::Execute(ExecuteError::MemoryBudget(_))
            ),
            Run(error) => !matches!(error, RunError::Io { source, .. } if source.kind() != ErrorKind::NotFound),
            _ => true,
        }
    }
}

/// What does not decide the numbers of a training.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether to go on from the run's checkpoint.
    pub resume: bool,
    /// Threads to run on; all if none are given.
    pub threads: Option<usize>,
    /// The most bytes that a step may take; activations are computed again to keep it.
    pub memory_budget: Option<usize>,
    /// When to write checkpoints; as the file says if nothing is given.
    pub save_every: Option<SaveEvery>,
    /// Whether to show nothing.
    pub quiet: bool,
}

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What was trained on.
    Train,
    /// What the training was watched by.
    Validation,
    /// What nothing was decided by.
    Test,
}

impl Part {
    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "training",
            Part::Validation => "validation",
            Part::Test => "test",
        }
    }
}

/// A model file and what is known of its data.
#[derive(Debug)]
pub struct Experiment {
    spec: Spec,
    data: Option<DataSettings>,
    kept: Kept,
    tokenizer: Option<Arc<Tokenizer>>,
    network: Network,
    splits: Option<Splits>,
}

impl Experiment {
    /// A file that is to be trained, under a name for its runs, with the folder of data sets if it is not the usual one.
    /// The network is checked before any data is read where the file says what an example is.
    ///
    /// # Errors
    /// If a layer does not fit, or the data are not there or not what the file says.
    pub fn new(name: &str, spec: Spec, folder: Option<PathBuf>) -> Result<Experiment, ExperimentError> {
        let key = first_key(&spec);
        let Some(data) = spec.section::<DataSettings>("data")? else {
            let problem = format!("{name} has no [data]: there is nothing to train on; add [data] with set = \"…\"");
            return Err(ExperimentError::Setting(problem));
        };
        let said = spec.section::<Value>("example")?.is_some();
        let expected = match spec.example().filter(|_| said) {
            Some(example) => example.clone(),
            None => data.example_in(folder.as_deref())?,
        };
        spec.build(&expected, &key)?;
        let splits = data.open_in(folder.as_deref())?;
        let example = splits.train.example();
        if expected.inputs != example.inputs {
            let shown = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
            return Err(ExperimentError::Setting(format!(
                "{name}: an example is said to be {}, and those of the set {} are {}; correct [example]",
                shown(&expected.inputs),
                data.set,
                shown(&example.inputs)
            )));
        }
        let network = spec.build(&example, &key)?;
        if example.targets.is_empty() && network.form() != Form::Gan && spec.usual_loss() {
            let problem =
                format!("{name}: the set {} has no target, and there is no [loss] of outputs alone", data.set);
            return Err(ExperimentError::Setting(problem));
        }
        let (names, encoding) = (splits.names.clone(), splits.encoding.clone());
        let kept = Kept::new(name, folder, &example, (names, encoding));
        let tokenizer = splits.tokenizer.clone();
        Ok(Experiment { spec, data: Some(data), kept, tokenizer, network, splits: Some(splits) })
    }

    /// The one that a run was made by. No data is opened.
    ///
    /// # Errors
    /// If the folder is not of a model file, or a file in it is damaged.
    pub fn open(run: &RunFolder) -> Result<Experiment, ExperimentError> {
        let path = run.path().join(MODEL_FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => ExperimentError::Setting(format!(
                "{} was not trained from a model file: it has no {MODEL_FILE}",
                run.path().display()
            )),
            _ => RunError::Io { action: "read", path: path.clone(), source: error }.into(),
        })?;
        let spec = Spec::parse(&path.display().to_string(), &text)?;
        let kept: Kept = run.read_config()?;
        let example = kept
            .example()
            .map_err(|problem| ExperimentError::Setting(format!("{}/config.json: {problem}", run.path().display())))?;
        let network = spec.build(&example, &first_key(&spec))?;
        let tokenizer = match run.path().join(TOKENIZER) {
            path if path.exists() => Some(Arc::new(Tokenizer::read(&path)?)),
            _ => None,
        };
        let data = spec.section("data")?;
        Ok(Experiment { spec, data, kept, tokenizer, network, splits: None })
    }

    /// What a training may be gone on with: this run, with its length changed if the text is of another one.
    ///
    /// # Errors
    /// If more than the length changed, or the data are gone.
    pub fn resume(run: &RunFolder, text: &str) -> Result<Experiment, ExperimentError> {
        let was = Experiment::open(run)?;
        let at = run.path().join(MODEL_FILE).display().to_string();
        let spec = Spec::parse(&at, text)?;
        if let Some(problem) = other_settings(&decides(&was.spec), &decides(&spec)) {
            return Err(ExperimentError::Setting(format!("{}: {problem}", run.path().display())));
        }
        let experiment = Experiment::new(&was.kept.name, spec, was.kept.folder.clone())?;
        run.write_artefact(MODEL_FILE, text.as_bytes())?;
        Ok(experiment)
    }

    /// A folder for a run, with all that is needed to ask it later; it is claimed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create_run(&self, runs: &Path) -> Result<RunFolder, ExperimentError> {
        let run = RunFolder::create(runs, &self.kept.name)?.claimed()?;
        run.write_artefact(MODEL_FILE, self.spec.text().as_bytes())?;
        if let Some(tokenizer) = &self.tokenizer {
            run.write_artefact(TOKENIZER, tokenizer.to_json().as_bytes())?;
        }
        run.write_config(&self.kept)?;
        Ok(run)
    }

    /// The model file.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The settings of the data.
    pub fn data(&self) -> Option<&DataSettings> {
        self.data.as_ref()
    }

    /// The network with its first values.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The form of an example.
    pub fn example(&self) -> crate::data::ExampleType {
        self.kept.example().unwrap_or_else(|problem| panic!("an experiment with {problem}"))
    }

    /// Names of the classes.
    pub fn names(&self) -> Option<&[String]> {
        self.kept.names.as_deref()
    }

    /// What makes text of tokens.
    pub fn tokenizer(&self) -> Option<&Arc<Tokenizer>> {
        self.tokenizer.as_ref()
    }

    /// Opens the data, if they are not open.
    ///
    /// # Errors
    /// If they are not there any more.
    pub fn splits(&mut self) -> Result<&Splits, ExperimentError> {
        if self.splits.is_none() {
            let data = self.data.as_ref();
            let data =
                data.ok_or_else(|| ExperimentError::Setting("the model file of this run has no [data]".into()))?;
            self.splits = Some(data.open_in(self.kept.folder.as_deref())?);
        }
        Ok(self.splits.as_ref().unwrap_or_else(|| unreachable!("it was opened above")))
    }

    /// A part of the data; without one asked for the test data, or those of validation where there are none.
    ///
    /// # Errors
    /// If the data are gone, or have no such part.
    pub fn part(&mut self, part: Option<Part>) -> Result<(Part, Arc<dyn Dataset>), ExperimentError> {
        let splits = self.splits()?;
        let of = |part| match part {
            Part::Train => Some(splits.train.clone()),
            Part::Validation => splits.validation.clone(),
            Part::Test => splits.test.clone(),
        };
        let wanted = part.map_or(vec![Part::Test, Part::Validation], |part| vec![part]);
        let found = wanted.iter().find_map(|&part| Some((part, of(part)?)));
        found.ok_or_else(|| {
            let name = wanted[0].name();
            ExperimentError::Setting(format!("the data has no {name} part"))
        })
    }

    /// Inputs as the set has them, `[n, …]`, with what the settings do to all examples done to it.
    ///
    /// # Errors
    /// If a transform was fitted to data that are gone, or does not go with the input.
    pub fn transformed(&self, input: &Tensor) -> Result<Tensor, ExperimentError> {
        let Some(data) = self.data.as_ref().filter(|data| !data.transforms.is_empty()) else {
            return Ok(input.clone());
        };
        let fitted = |transform: &Transform| !matches!(transform, Transform::Normalise { mean, std } if mean.is_none() || std.is_none());
        let plain = DataSettings { transforms: Vec::new(), ..data.clone() };
        let count = input.size(0);
        let alone = Arrays::new(input.to_vec::<f32>(), &input.shape()[1..], Targets::classes(vec![0; count], 1)?)?;
        let mut set: Arc<dyn Dataset> = Arc::new(alone);
        let mut train = match data.transforms.iter().all(fitted) {
            true => set.clone(),
            false => plain.open_in(self.kept.folder.as_deref())?.train,
        };
        for (place, transform) in data.transforms.iter().enumerate().filter(|each| !each.1.only_training()) {
            let transform = transform.clone().fitted(train.as_ref())?;
            train = Arc::new(Transformed::new(train, transform.clone(), place)?);
            set = Arc::new(Transformed::new(set, transform, place)?);
        }
        Ok(set.batch(&(0..count).collect::<Vec<_>>(), None)?.input().clone())
    }

    /// The trained network of a run: the last, or the best by validation. Nothing in the file is trusted.
    ///
    /// # Errors
    /// If it is not there, is damaged, or belongs to another network.
    pub fn trained(&self, run: &RunFolder, best: bool) -> Result<Network, ExperimentError> {
        let name = if best { BEST } else { MODEL };
        let path = run.path().join(name);
        let network = match tree::load(&self.network, &path) {
            Err(TensorFileError::Io(_, error)) if error.kind() == ErrorKind::NotFound => {
                let at = run.path().display();
                let problem = format!("{at} has no {name}: its training ended before the first save; train again");
                return Err(ExperimentError::Setting(problem));
            }
            loaded => loaded?,
        };
        let broken = tree::named_leaves(&network)
            .into_iter()
            .find(|(_, _, leaf)| leaf.dtype().is_float() && !leaf.is_finite().all(..).item::<bool>());
        match broken {
            Some((name, ..)) => {
                Err(ExperimentError::Setting(format!("{}: {name} holds numbers that are not finite", path.display())))
            }
            None => Ok(network),
        }
    }

    /// What the network does on a part of the data.
    ///
    /// # Errors
    /// If a batch cannot be made.
    pub fn evaluate(
        &self,
        network: &Network,
        set: Arc<dyn Dataset>,
        threads: Option<usize>,
    ) -> Result<Evaluation, ExperimentError> {
        let loader = self.looking(set);
        let free = self.free_running(network, &loader)?;
        let totals = if network.form() == Form::Gan {
            let (task, state) = (self.spec.gan(), self.spec.gan_start(network, 1)?);
            evaluate(|state, batch| task.evaluate(state, batch), &state, &loader, threads)?
        } else {
            let objective: Objective<Network> = self.spec.objective();
            evaluate(|network, batch| objective.evaluate(network, batch), network, &loader, threads)?
        };
        Ok(Evaluation::of(&totals, loader.set().len(), self.names()).with(free))
    }

    /// Where the share of sequences that are exactly right is reported, the same of answers that a decoder says freely,
    /// each token after those it said itself and not after the right ones.
    fn free_running(&self, network: &Network, loader: &Loader) -> Result<Option<(&'static str, f64)>, ExperimentError> {
        let sequences = self.example().targets.first().is_some_and(|target| target.shape.len() == 1);
        let asked = self.spec.report().metrics.contains(&Metric::Exact);
        let answers = network.form() == Form::EncoderDecoder && self.example().inputs.len() == 2;
        if !(answers && sequences && asked) {
            return Ok(None);
        }
        let share = generate::exact_answers(network, loader, self.spec.ignored())?;
        Ok(Some((FREE_RUNNING, share)))
    }

    /// Trains in a run folder and writes the report. `watch` hears how many parameters, examples and steps there will be.
    ///
    /// # Errors
    /// Whatever keeps the training from its end; what was written before stays.
    pub fn train(
        &self,
        run: &RunFolder,
        options: &Options,
        stop: &AtomicBool,
        watch: impl FnOnce(Outline),
    ) -> Result<Report, ExperimentError> {
        self.train_watched(run, options, stop, &mut watched::First(Some(watch)))
    }

    /// [`Experiment::train`] with somebody who looks on.
    ///
    /// # Errors
    /// As [`Experiment::train`].
    pub fn train_watched(
        &self,
        run: &RunFolder,
        options: &Options,
        stop: &AtomicBool,
        onlooker: &mut dyn Onlooker,
    ) -> Result<Report, ExperimentError> {
        let (splits, outline) = (self.open_splits()?, self.outline()?);
        let (training, steps) = (self.loader(splits), outline.steps);
        onlooker.begins(&outline);
        match self.network.form() {
            Form::Sequential | Form::Siamese | Form::EncoderDecoder => {
                let (task, start) = self.supervised(splits, steps)?;
                let through = Through::new(onlooker, watched::alone, |_, _| Ok(()));
                self.train_task(run, (&task, start), (&training, splits), options, stop, through)
            }
            Form::Gan => {
                let (task, start) = self.adversarial(steps)?;
                let show = |state: &GanState, step| self.watch_generator(run, &task, state.maker(), step);
                let through = Through::new(onlooker, watched::both, show);
                self.train_task(run, (&task, start), (&training, splits), options, stop, through)
            }
        }
    }

    /// What the training will be.
    ///
    /// # Errors
    /// If this is a run that is only asked.
    pub fn outline(&self) -> Result<Outline, ExperimentError> {
        let splits = self.open_splits()?;
        let training = self.loader(splits);
        Ok(Outline {
            parameters: tree::parameter_count(&self.network),
            train: splits.train.len(),
            validation: splits.validation.as_ref().map(|set| set.len()),
            steps: self.length().steps(training.steps_per_epoch()),
            batch: training.batch_size(),
        })
    }

    fn open_splits(&self) -> Result<&Splits, ExperimentError> {
        let closed = || ExperimentError::Setting("the data of a run that is only asked are not open".into());
        self.splits.as_ref().ok_or_else(closed)
    }

    /// Trains any task on the data of this file.
    fn train_task<T: Task>(
        &self,
        run: &RunFolder,
        (task, start): (&T, T::State),
        (training, splits): (&Loader, &Splits),
        options: &Options,
        stop: &AtomicBool,
        through: Through<'_, T::State, impl FnMut(&T::State, u64) -> Result<(), ExperimentError>>,
    ) -> Result<Report, ExperimentError> {
        let validation = splits.validation.clone().map(|set| self.looking(set));
        let about = run.about();
        let title = format!("{}-{}", about.name, about.number);
        let settings = RunSettings {
            save_every: options.save_every.unwrap_or(match self.spec.train().checkpoint_every {
                Some(steps) => SaveEvery::Steps(steps as u64),
                None => SaveEvery::Auto,
            }),
            resume: options.resume,
            quiet: options.quiet,
            ..RunSettings::new(self.trainer(options), title, decides(&self.spec))
        };
        let validation_set = validation.as_ref();
        let parts = Training { run, task, start, train: training, validation: validation_set, settings };
        let mut watching = through.watching();
        let finished = run_watched(parts, stop, &mut watching);
        let finished = match finished {
            // A budget that the file states is shown at its line.
            Err(TrainError::Execute(ExecuteError::MemoryBudget(error))) if options.memory_budget.is_none() => {
                return Err(self.spec.budget_refused(&error).into());
            }
            other => other?,
        };
        let last = watching.end()?;
        let tested = match &splits.test {
            Some(set) if finished.end != crate::trainer::End::Stopped => {
                let loader = self.looking(set.clone());
                let totals =
                    evaluate(|state, batch| task.evaluate(state, batch), &finished.state, &loader, options.threads)?;
                let free = self.free_running(&self.trained(run, false)?, &loader)?;
                Some(Evaluation::of(&totals, set.len(), self.names()).with(free))
            }
            _ => None,
        };
        let parameters = tree::parameter_count(&self.network);
        let report = Report::of(run, &finished, parameters, self.monitor().name, last.unwrap_or_default(), tested);
        run.write_artefact(REPORT, &report.json())?;
        Ok(report)
    }

    fn trainer(&self, options: &Options) -> Trainer {
        let train = self.spec.train();
        Trainer {
            evaluate_every: train.validate_every.map(|steps| steps as u64),
            monitor: self.monitor(),
            early_stop: train.early_stopping.map(|patience| EarlyStop { patience: patience as u64, min_delta: 0.0 }),
            threads: options.threads,
            memory_budget: options.memory_budget.or(train.memory_budget),
            ..Trainer::new(self.length(), train.seed)
        }
    }

    fn monitor(&self) -> Monitor {
        let usual = if self.network.form() == Form::Gan { "generator_loss" } else { "loss" };
        Monitor::new(&self.spec.report().watch.map_or(usual.into(), |metric| metric.to_string()))
    }

    fn length(&self) -> Length {
        match self.spec.train().length {
            FileLength::Epochs(epochs) => Length::Epochs(epochs as u64),
            FileLength::Steps(steps) => Length::Steps(steps as u64),
        }
    }

    /// Batches to train on: of one size, so that one program does for all.
    fn loader(&self, splits: &Splits) -> Loader {
        let train = self.spec.train();
        let parts = self.spec.batches_a_step();
        let each = train.batch.min(splits.train.len() / parts).max(1);
        let batch = each.saturating_mul(parts);
        Loader::new(splits.train.clone(), batch, train.seed).drop_last(true)
    }

    /// Batches to look at, in order.
    fn looking(&self, set: Arc<dyn Dataset>) -> Loader {
        Loader::new(set, self.spec.train().batch, 0).shuffle(false)
    }
}

/// What a training will be, before its first step.
#[derive(Debug, Clone, Copy)]
pub struct Outline {
    /// Of the network.
    pub parameters: usize,
    /// Examples to train on.
    pub train: usize,
    /// Examples to watch the training by.
    pub validation: Option<usize>,
    /// Steps in all.
    pub steps: u64,
    /// Examples a step.
    pub batch: usize,
}

/// The key that first weights come from.
fn first_key(spec: &Spec) -> Key {
    let [weights, _] = Key::new(spec.train().seed).split();
    weights
}

/// All that decides the numbers: the file without its length, where no schedule goes by it.
fn decides(spec: &Spec) -> Value {
    let table: Option<Value> = toml::from_str(spec.text()).ok();
    let mut value = table.unwrap_or_default();
    if let Some(sections) = value.as_object_mut() {
        sections.remove("description");
        sections.remove("report");
        sections.remove("watch");
        // It changes where numbers are kept, and none of them.
        if let Some(train) = sections.get_mut("train").and_then(Value::as_object_mut) {
            train.remove("memory_budget");
        }
        if spec.optimizer_settings().schedule.is_none()
            && let Some(train) = sections.get_mut("train").and_then(Value::as_object_mut)
        {
            for name in ["epochs", "steps", "checkpoint_every"] {
                train.remove(name);
            }
        }
    }
    value
}

impl From<CheckpointError> for ExperimentError {
    fn from(error: CheckpointError) -> ExperimentError {
        TrainError::from(error).into()
    }
}
