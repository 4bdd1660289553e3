//! `chainrule train`: a network on the digits inside the command, and what back-propagation did to it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use chainrule::prelude::*;
use chainrule::tree;
use chainrule_nn::layer::Mlp;
use chainrule_nn::optimizer::Adam;
use chainrule_train::backprop::FourSteps;
use chainrule_train::digits::{CLASSES, Digits};
use chainrule_train::interrupt::on_interrupt;
use chainrule_train::log::{CURVES, MODEL, RunLog};
use chainrule_train::metrics::ConfusionMatrix;
use chainrule_train::progress::Progress;
use chainrule_train::run::RunFolder;
use chainrule_train::trainer::{Fitted, Labelled, TrainError, Trainer, evaluate};
use clap::Args;
use serde::Serialize;

use crate::outcome::{self, Failure, Outcome};
use crate::settings::{Given, Trained};

/// The name of runs.
const NAME: &str = "digits";

/// Train a network on handwritten digits, and see the four steps of back-propagation in it
#[derive(Args)]
#[command(after_help = "\
Examples:
  chainrule train
  chainrule train --hidden 64,32 --epochs 50 --lr 0.003
  chainrule train --config settings.toml --json

The data are inside the command: 1438 images of 8×8 to train on, 359 to test.
Ctrl-C ends the training after its step and saves the model.")]
pub struct TrainArgs {
    #[command(flatten)]
    given: Given,
    /// Settings by these names, from TOML or JSON; what the command line says counts more
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Show no progress, and of the result only the last lines
    #[arg(long, short)]
    quiet: bool,
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
    steps: u64,
    seconds: f64,
    train_loss: f64,
    train_accuracy: f64,
    test_loss: f64,
    test_accuracy: f64,
    confusion: ConfusionMatrix,
    first_step: FourSteps,
    last_step: FourSteps,
}

pub fn run(arguments: TrainArgs) -> Outcome {
    let TrainArgs { given, config, json, quiet } = arguments;
    let given = match &config {
        Some(path) => given.or(Given::read(path)?),
        None => given,
    };
    let stop = on_interrupt().map_err(Failure::work)?;
    let report = train(&given, quiet || json, &stop).map_err(Failure::work)?;
    match (json, quiet) {
        (true, _) => outcome::print_json(&report),
        (false, true) => outcome::print(&report.ending()),
        (false, false) => outcome::print(&report.page()),
    }
}

fn train(given: &Given, quiet: bool, stop: &AtomicBool) -> Result<Report, TrainError> {
    let settings = given.trained();
    let digits = Digits::load().map_err(|error| TrainError::Setting(error.to_string()))?;
    let (train, test) = (Labelled::from(digits.train()), Labelled::from(digits.test()));
    let runs = given.runs.clone().unwrap_or_else(|| "runs".into());
    let run = RunFolder::create(&runs, NAME)?;
    run.write_config(&settings)?;
    let mut log = RunLog::new(&run, format!("{NAME}-{}: {}", run.about().number, sizes(&settings)))?;

    let [weights, shuffle] = Key::new(settings.seed).split();
    let (batch, epochs) = (settings.batch.min(train.len()), settings.epochs);
    let trainer = Trainer { epochs, batch, shuffle, clip: None, threads: given.threads };
    let model = tree::map(&Mlp::new(&weights, &settings.sizes), Tensor::eval);
    let adam = Adam::new(&model, settings.lr);
    let steps = trainer.steps(train.len());
    let progress = Progress::new(steps, epochs, quiet);
    progress.line(&format!(
        "{}: {} → {} parameters, {} images to train on and {} to test, {steps} steps of {batch}",
        run.path().display(),
        sizes(&settings),
        settings.parameters(),
        train.len(),
        test.len(),
    ));
    let begin = Instant::now();
    let fitted = trainer.fit((model, adam), Mlp::forward, (&train, &test), stop, |event| {
        log.take(&event)?;
        progress.take(&event);
        Ok(())
    });
    progress.finish();
    let seconds = begin.elapsed().as_secs_f64();
    let fitted = fitted?;
    log.save(&fitted.model)?;
    log.write_curves()?;
    report(run, settings, seconds, &test, fitted)
}

fn report(
    run: RunFolder,
    settings: Trained,
    seconds: f64,
    test: &Labelled,
    fitted: Fitted<Mlp, Adam<Mlp>>,
) -> Result<Report, TrainError> {
    let tested = evaluate(&fitted.model, Mlp::forward, test)?;
    let mut confusion = ConfusionMatrix::new(CLASSES);
    let recorded = confusion.record(test.labels(), &tested.predictions);
    recorded.map_err(|error| TrainError::Setting(error.to_string()))?;
    let (first_step, last_step) = (FourSteps::of(&fitted.first), FourSteps::of(&fitted.last));
    let report = Report {
        model: run.path().join(MODEL),
        curves: run.path().join(CURVES),
        run: run.path().to_path_buf(),
        stopped: fitted.stopped,
        parameters: settings.parameters(),
        settings,
        steps: fitted.last.step,
        seconds,
        train_loss: fitted.epoch.train_loss,
        train_accuracy: fitted.epoch.train_accuracy,
        test_loss: tested.loss,
        test_accuracy: tested.accuracy,
        confusion,
        first_step,
        last_step,
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
        let FourSteps { step, examples, .. } = self.last_step;
        let which = if self.steps > 1 { format!("{step}, the last one") } else { "1".into() };
        format!(
            "\nThe four steps of back-propagation in step {which} (a batch of {examples})\n\n{}\n\
             On the test images: {}\n{}",
            self.last_step,
            self.confusion,
            self.ending()
        )
    }

    /// The result and where it lies.
    fn ending(&self) -> String {
        let Report { steps, seconds, .. } = self;
        let stopped = if self.stopped { "stopped by Ctrl-C: " } else { "" };
        let accuracy = 100.0 * self.test_accuracy;
        let per_second = *steps as f64 / seconds;
        format!(
            "{stopped}{steps} steps in {seconds:.2} s ({per_second:.0} a second), test accuracy {accuracy:.2} %\n\
             model    {}{}\ncurves   {}\nnext     chainrule predict {}\n",
            self.model.display(),
            if self.stopped { "   (saved as it was after that step)" } else { "" },
            self.curves.display(),
            self.run.display()
        )
    }
}
