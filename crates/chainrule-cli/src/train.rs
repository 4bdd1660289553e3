//! `chainrule train`: a network on the digits inside the command, and what back-propagation did to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use chainrule::prelude::*;
use chainrule::tree;
use chainrule_lens::watch::Every;
use chainrule_nn::layer::Mlp;
use chainrule_nn::optimizer::Adam;
use chainrule_train::backprop::{FourSteps, Moment};
use chainrule_train::checkpoint::other_settings;
use chainrule_train::data::{Batch, Dataset, Loader};
use chainrule_train::digits::{Digits, PIXELS};
use chainrule_train::experiment;
use chainrule_train::interrupt::on_interrupt;
use chainrule_train::log::{CURVES, MODEL};
use chainrule_train::metrics::ConfusionMatrix;
use chainrule_train::run::RunFolder;
use chainrule_train::task::{Fit, Metric, Numbers, Objective, Supervised};
use chainrule_train::trainer::{End, Event, Length, TrainError, Trainer, evaluate};
use chainrule_train::training::{Finished, RunSettings, SaveEvery, Training, run_training};
use clap::Args;
use serde::Serialize;

use crate::experiment::{is_experiment, setting};
use crate::outcome::{self, Failure, Outcome};
use crate::settings::{Given, Trained};
use crate::train_model;
use crate::watch::every;

/// The name of runs.
const NAME: &str = "digits";
/// Images that are tested at once.
const TEST_ROWS: usize = 512;

/// Train a model file or a recipe; without one, see the four steps of back-propagation in a network on digits
#[derive(Args)]
#[command(after_help = "\
Examples:
  chainrule train
  chainrule train --hidden 64,32 --epochs 50 --lr 0.003
  chainrule train --config settings.toml --json
  chainrule train --resume runs/digits-3 --epochs 60
  chainrule train digits-cnn
  chainrule train model.toml --epochs 3 --set train.precision=bf16
  chainrule train text-gpt --steps 500 --set data.context=32
  chainrule train digits-cnn --resume
  chainrule train mnist-cnn --watch

Without a model the data are inside the command: 1438 images of 8×8 to train on, 359 to test.
Ctrl-C ends the training after its step, saves it, and says how to go on.")]
pub struct TrainArgs {
    /// A model file, or the name of a recipe: digits-mlp, digits-cnn, text-gpt, … (`chainrule summary x` lists them)
    model: Option<String>,
    #[command(flatten)]
    given: Given,
    /// Steps to take, instead of epochs; of a model
    #[arg(long, value_name = "N", conflicts_with = "epochs", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Another value of one of the model file's settings, such as train.batch=64
    #[arg(long, value_name = "SETTING=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Folder of data sets [default: $CHAINRULE_DATA, or data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Settings by these names, from TOML or JSON; what the command line says counts more
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on with a run from its checkpoint, with its settings [default: the latest in --runs]
    #[arg(long, value_name = "RUN", num_args = 0..=1, conflicts_with = "config")]
    resume: Option<Option<PathBuf>>,
    /// Write a checkpoint every so many steps, or seconds as in 30s [default: as often as costs little]
    #[arg(long, value_name = "N", value_parser = |text: &str| text.parse::<SaveEvery>())]
    save_every: Option<SaveEvery>,
    /// The most memory that a step of a model may take, as 500MB or 2GB: activations are computed again to keep it
    #[arg(long, value_name = "BYTES", value_parser = chainrule_train::model::parse_bytes)]
    memory_budget: Option<usize>,
    /// Look at the gradient flow of steps while a model trains, into flow.jsonl, and show it on the terminal
    #[arg(long)]
    watch: bool,
    /// Look at every so many steps [default: auto, as often as costs about 1 % of the time]
    #[arg(long, value_name = "N", value_parser = every)]
    watch_every: Option<Every>,
    /// When a loss or gradient stops being finite, find the operation that did it, from the step's own inputs
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = true, default_value = "on",
        default_missing_value = "on", hide_default_value = true)]
    trace_nonfinite: Trace,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Show no progress, and of the result only the last lines
    #[arg(long, short)]
    quiet: bool,
}

/// Whether a step that is not finite is traced.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Trace {
    /// As it is usual: it costs nothing until then.
    On,
    /// The training only ends.
    Off,
}

/// What a training comes to.
#[derive(Serialize)]
struct Report {
    run: PathBuf,
    model: PathBuf,
    curves: PathBuf,
    stopped: bool,
    settings: Trained,
    parameters: usize,
    /// Of the whole training; the seconds are of this part of it.
    steps: u64,
    steps_now: u64,
    seconds: f64,
    train_loss: f64,
    train_accuracy: f64,
    test_loss: f64,
    test_accuracy: f64,
    confusion: ConfusionMatrix,
    /// Of this part of the training, unless there was nothing left to do.
    first_step: Option<FourSteps>,
    last_step: Option<FourSteps>,
}

pub fn run(arguments: TrainArgs) -> Outcome {
    if let Some(wanted) = of_model(&arguments)? {
        return train_model::run(wanted);
    }
    let TrainArgs { given, config, resume, save_every, json, quiet, .. } = arguments;
    let given = match &config {
        Some(path) => given.or(Given::read(path)?),
        None => given,
    };
    let resuming = resume.is_some();
    let (run, settings) = match resume {
        Some(path) => begun(path, &given)?,
        None => {
            let (runs, settings) = (given.runs.clone().unwrap_or_else(|| "runs".into()), given.trained());
            let run = RunFolder::create(&runs, NAME).and_then(RunFolder::claimed).map_err(Failure::work)?;
            run.write_config(&settings).map_err(Failure::work)?;
            (run, settings)
        }
    };
    let stop = on_interrupt(|| ()).map_err(Failure::work)?;
    let save_every = save_every.unwrap_or_default();
    let options = Options { resume: resuming, threads: given.threads, save_every, quiet: quiet || json };
    let report = train(run, settings, &options, &stop).map_err(failure)?;
    match (json, quiet) {
        (true, _) => outcome::print_json(&report),
        (false, true) => outcome::print(&report.ending()),
        (false, false) => outcome::print(&report.page()),
    }
}

/// The training of a model file, if this is one.
fn of_model(arguments: &TrainArgs) -> Result<Option<train_model::Wanted>, Failure> {
    let TrainArgs { model, given, steps, set, data, config, resume, save_every, memory_budget, json, quiet, .. } =
        arguments;
    let watch = arguments.watch || arguments.watch_every.is_some();
    let begun = match resume {
        Some(Some(path)) => RunFolder::open(path).is_ok_and(|run| is_experiment(&run)),
        _ => false,
    };
    let alone = |what: &str| Err(Failure::input(format!("{what} needs a model: chainrule train MODEL {what} …")));
    match (model, begun) {
        (None, false) if steps.is_some() => return alone("--steps"),
        (None, false) if !set.is_empty() => return alone("--set"),
        (None, false) if data.is_some() => return alone("--data"),
        (None, false) if memory_budget.is_some() => return alone("--memory-budget"),
        (None, false) if watch => return alone("--watch"),
        (None, false) => return Ok(None),
        _ if given.hidden.is_some() => {
            return Err(Failure::input("--hidden is of `chainrule train` without a model; a model file has [model]"));
        }
        _ if config.is_some() => {
            return Err(Failure::input("--config is of `chainrule train` without a model; use --set"));
        }
        _ => {}
    }
    let mut settings = Vec::new();
    let mut add = |path: &str, value: Option<String>| settings.extend(value.map(|value| (path.to_owned(), value)));
    add("train.epochs", given.epochs.map(|epochs| epochs.to_string()));
    add("train.steps", steps.map(|steps| steps.to_string()));
    add("train.batch", given.batch.map(|batch| batch.to_string()));
    add("train.seed", given.seed.map(|seed| seed.to_string()));
    add("optimizer.rate", given.lr.map(|rate| format!("{rate:?}")));
    settings.extend(set.iter().cloned());
    let options = experiment::Options {
        threads: given.threads,
        memory_budget: *memory_budget,
        save_every: *save_every,
        ..Default::default()
    };
    Ok(Some(train_model::Wanted {
        model: model.clone(),
        resume: resume.clone(),
        settings,
        data: data.clone(),
        runs: given.runs.clone().unwrap_or_else(|| "runs".into()),
        options,
        watch,
        watch_every: arguments.watch_every,
        trace: arguments.trace_nonfinite == Trace::On,
        json: *json,
        quiet: *quiet,
    }))
}

/// What does not decide the numbers.
struct Options {
    resume: bool,
    threads: Option<usize>,
    save_every: SaveEvery,
    quiet: bool,
}

/// A run that was begun, and its settings with those changed that are given now.
fn begun(path: Option<PathBuf>, given: &Given) -> Result<(RunFolder, Trained), Failure> {
    let run = match path {
        Some(path) => RunFolder::open(path),
        None => RunFolder::latest(given.runs.clone().unwrap_or_else(|| "runs".into()), Some(NAME)),
    };
    let run = run.and_then(RunFolder::claimed).map_err(Failure::input)?;
    let was: Trained = run.read_config().map_err(Failure::input)?;
    was.check().map_err(|problem| Failure::input(format!("{}/config.json: {problem}", run.path().display())))?;
    let settings = was.clone().changed(given);
    let decide = |settings: &Trained| settings.decides().map_err(Failure::work);
    if let Some(problem) = other_settings(&decide(&was)?, &decide(&settings)?) {
        return Err(Failure::input(format!("{}: {problem}", run.path().display())));
    }
    run.write_config(&settings).map_err(Failure::work)?;
    Ok((run, settings))
}

/// What lies in files is input; all else is work.
pub fn failure(error: TrainError) -> Failure {
    match error {
        TrainError::Checkpoint(_) | TrainError::Data(_) | TrainError::Setting(_) => Failure::input(error),
        _ => Failure::work(error),
    }
}

/// What the network should do.
pub fn objective() -> Objective<Mlp> {
    Objective::classify(Mlp::forward).metrics([Metric::Accuracy, Metric::Confusion])
}

/// The test images.
pub fn test_images(digits: &Digits) -> Result<Loader, TrainError> {
    let images = digits.test_set()?.with_shape(&[PIXELS]);
    Ok(Loader::new(Arc::new(images), TEST_ROWS, 0).shuffle(false))
}

type State = Fit<Mlp, Adam<Mlp>>;

fn train(run: RunFolder, settings: Trained, options: &Options, stop: &AtomicBool) -> Result<Report, TrainError> {
    let digits = Digits::load()?;
    let images = digits.train_set()?.with_shape(&[PIXELS]);
    let batch = settings.batch.min(images.len());
    let (train, test) = (Loader::new(Arc::new(images), batch, settings.seed), test_images(&digits)?);
    let [weights, _] = Key::new(settings.seed).split();
    let model = tree::map(&Mlp::new(&weights, &settings.sizes), Tensor::eval);
    let adam = Adam::new(&model, settings.lr);
    let task = Supervised::new(objective());
    let length = Length::Epochs(settings.epochs as u64);
    let trainer = Trainer { threads: options.threads, show_before: true, ..Trainer::new(length, settings.seed) };
    let decides = settings.decides().map_err(|error| TrainError::Setting(error.to_string()))?;
    let title = format!("{NAME}-{}: {}", run.about().number, sizes(&settings));
    let kept = RunSettings {
        save_every: options.save_every,
        held_out: "test".into(),
        resume: options.resume,
        quiet: options.quiet,
        ..RunSettings::new(trainer, title, decides)
    };
    if !options.quiet {
        outcome::tell(&format!(
            "{}: {} → {} parameters, {} images to train on and {} to test, {} steps of {batch}",
            run.path().display(),
            sizes(&settings),
            settings.parameters(),
            train.set().len(),
            test.set().len(),
            length.steps(train.steps_per_epoch()),
        ));
    }
    let (mut first, mut last) = (None, None);
    let start = task.start(model, adam);
    let training = Training { run: &run, task: &task, start, train: &train, validation: Some(&test), settings: kept };
    let finished = run_training(training, stop, |event| {
        if let Event::Step { record, batch, before: Some(before), state } = event {
            last = Some(moment(record.step, batch, before, state));
            first = first.take().or_else(|| last.clone());
        }
    })?;
    report(run, settings, options.threads, &test, (finished, first, last))
}

fn moment(step: u64, batch: &Batch, before: &State, after: &State) -> Moment<Mlp> {
    let (inputs, labels) = (batch.input().clone(), batch.target().clone());
    Moment { step, before: before.model.clone(), after: after.model.clone(), inputs, labels }
}

fn report(
    run: RunFolder,
    settings: Trained,
    threads: Option<usize>,
    test: &Loader,
    (finished, first, last): (Finished<State>, Option<Moment<Mlp>>, Option<Moment<Mlp>>),
) -> Result<Report, TrainError> {
    let objective = objective();
    let tested = evaluate(|model, batch| objective.evaluate(model, batch), &finished.state.model, test, threads)?;
    let numbers = tested.numbers();
    let of = |numbers: &Numbers, name: &str| numbers.get(name).unwrap_or(f64::NAN);
    let report = Report {
        model: run.path().join(MODEL),
        curves: run.path().join(CURVES),
        run: run.path().to_path_buf(),
        stopped: finished.end == End::Stopped,
        parameters: settings.parameters(),
        settings,
        steps: finished.course.step,
        steps_now: finished.steps,
        seconds: finished.seconds,
        train_loss: of(&finished.train, "loss"),
        train_accuracy: of(&finished.train, "accuracy"),
        test_loss: of(&numbers, "loss"),
        test_accuracy: of(&numbers, "accuracy"),
        confusion: tested.confusion().unwrap_or_else(|| ConfusionMatrix::new(0)),
        first_step: first.as_ref().map(FourSteps::of),
        last_step: last.as_ref().map(FourSteps::of),
    };
    let json = serde_json::to_vec_pretty(&report).map_err(|error| TrainError::Setting(error.to_string()))?;
    run.write_artefact("report.json", &json)?;
    Ok(report)
}

fn sizes(settings: &Trained) -> String {
    settings.sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("–")
}

impl Report {
    /// Everything, for a terminal.
    fn page(&self) -> String {
        let steps = self.last_step.as_ref().map_or(String::new(), |last| {
            let which = if last.step > 1 { format!("{}, the last one", last.step) } else { "1".into() };
            let examples = last.examples;
            format!("\nThe four steps of back-propagation in step {which} (a batch of {examples})\n\n{last}\n")
        });
        format!("{steps}On the test images: {}\n{}", self.confusion, self.ending())
    }

    /// The result and where it lies.
    fn ending(&self) -> String {
        let Report { steps, steps_now, seconds, .. } = self;
        let stopped = if self.stopped { "stopped by Ctrl-C: " } else { "" };
        let accuracy = 100.0 * self.test_accuracy;
        let before = if steps_now < steps { format!(" after {} before", steps - steps_now) } else { String::new() };
        let pace = match *steps_now {
            0 => "no steps were left to take".into(),
            now => format!("{now} steps{before} in {seconds:.2} s ({:.0} a second)", now as f64 / seconds),
        };
        let run = outcome::shell(&self.run);
        let next = match self.stopped {
            true => format!("resume   chainrule train --resume {run}"),
            false => format!("next     chainrule predict {run}"),
        };
        format!(
            "{stopped}{pace}, test accuracy {accuracy:.2} %\nmodel    {}{}\ncurves   {}\n{next}\n",
            self.model.display(),
            if self.stopped { "   (saved as it was after that step)" } else { "" },
            self.curves.display(),
        )
    }
}
