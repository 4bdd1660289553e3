//! `chainrule train MODEL`: a model file or a recipe, trained in a run folder.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use chainrule_lens::watch::Every;
use chainrule_train::experiment::{Evaluation, Experiment, ExperimentError, Options, Outline, Report};
use chainrule_train::interrupt::on_interrupt;
use chainrule_train::log::BEST;
use chainrule_train::model::Form;
use chainrule_train::progress::list;
use chainrule_train::run::RunFolder;
use chainrule_train::trainer::TrainError;

use crate::experiment::{Found, failure, is_experiment};
use crate::outcome::{self, Failure, Outcome};
use crate::watch::{Watching, nonfinite, screen};

/// What the command line says about a training of a model file.
pub struct Wanted {
    /// The model file or recipe; nothing goes on with a run.
    pub model: Option<String>,
    /// Which run to go on with: the latest of the model if none is named.
    pub resume: Option<Option<PathBuf>>,
    /// Settings that replace those of the file.
    pub settings: Vec<(String, String)>,
    /// Folder of data sets.
    pub data: Option<PathBuf>,
    /// Folder of runs.
    pub runs: PathBuf,
    pub options: Options,
    /// Whether to look at steps; the file may ask for it too.
    pub watch: bool,
    /// How often; as the file says if nothing is given.
    pub watch_every: Option<Every>,
    /// Whether to find where a number that is not finite comes from.
    pub trace: bool,
    pub json: bool,
    pub quiet: bool,
}

/// Trains.
pub fn run(wanted: Wanted) -> Outcome {
    let (run, experiment) = match &wanted.resume {
        Some(path) => begun(path.as_deref(), &wanted)?,
        None => {
            let model = wanted.model.as_deref().ok_or_else(|| Failure::input("no model is named"))?;
            let found = Found::find(model)?.with(&wanted.settings)?;
            let spec = found.spec()?;
            let experiment = Experiment::new(&found.name, spec, absolute(wanted.data.as_deref())).map_err(failure)?;
            (experiment.create_run(&wanted.runs).map_err(failure)?, experiment)
        }
    };
    let stop = on_interrupt(screen::restore).map_err(Failure::work)?;
    let options = Options { resume: wanted.resume.is_some(), quiet: wanted.quiet || wanted.json, ..wanted.options };
    if !options.quiet {
        let outline = experiment.outline().map_err(failure)?;
        outcome::tell(&heading(&run, &experiment, &outline));
    }
    let asked = experiment.spec().watch();
    let every = wanted.watch_every.or(asked.every.map(|steps| Every::Steps(steps as u64))).unwrap_or_default();
    let watch = (wanted.watch || asked.on).then_some(every);
    // A screen shows what lines would say.
    let shown = (watch.is_some() && !options.quiet && screen::is_possible()).then(|| stop.clone());
    let options = Options { quiet: options.quiet || shown.is_some(), ..options };
    let mut watching = watch.map(|every| Watching::new(&run, &experiment, &options, (every, shown)));
    let trained = match &mut watching {
        Some(watching) => experiment.train_watched(&run, &options, &stop, watching),
        None => experiment.train(&run, &options, &stop, |_| ()),
    };
    watching.iter_mut().for_each(Watching::close);
    let report = match trained {
        Err(ExperimentError::Train(error @ TrainError::NotFinite { step, .. })) if wanted.trace => {
            return Err(nonfinite::failed(&run, &experiment, &options, (step, &error)));
        }
        trained => trained.map_err(failure)?,
    };
    let watched = watching.map(|watching| watching.ending(report.seconds));
    match (wanted.json, wanted.quiet) {
        (true, _) => outcome::print_json(&report),
        (false, quiet) => outcome::print(&page(&report, &experiment, watched.as_deref(), quiet)),
    }
}

/// The run to go on with, its file changed as is asked.
fn begun(path: Option<&Path>, wanted: &Wanted) -> Result<(RunFolder, Experiment), Failure> {
    let run = match path {
        Some(path) => RunFolder::open(path),
        None => {
            let name = wanted.model.as_deref().map(|model| Found::find(model).map(|found| found.name)).transpose()?;
            RunFolder::latest(&wanted.runs, name.as_deref())
        }
    };
    let run = run.map_err(Failure::input)?;
    if !is_experiment(&run) {
        // Says so.
        return Err(Experiment::open(&run).map(drop).map_err(failure).err().unwrap_or(Failure::input("no model file")));
    }
    let run = run.claimed().map_err(Failure::input)?;
    let experiment = Experiment::open(&run).map_err(failure)?;
    let (name, file) = (run.about().name.clone(), run.path().display().to_string());
    let found = Found { name, file, text: experiment.spec().text().to_owned() }.with(&wanted.settings)?;
    let experiment = Experiment::resume(&run, &found.text).map_err(failure)?;
    Ok((run, experiment))
}

/// A folder's path that holds in other folders too.
fn absolute(path: Option<&Path>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()))
}

fn heading(run: &RunFolder, experiment: &Experiment, outline: &Outline) -> String {
    let mut text =
        format!("{}: {} parameters, {} examples to train on", run.path().display(), outline.parameters, outline.train);
    if let Some(validation) = outline.validation {
        let _ = write!(text, " and {validation} to watch it by");
    }
    let _ = write!(text, ", {} steps of {}", outline.steps, outline.batch);
    let precision = &experiment.spec().train().precision;
    if precision != "f32" {
        let _ = write!(text, " in {precision}");
    }
    text
}

/// Everything, for a terminal; a quiet one is the last lines.
fn page(report: &Report, experiment: &Experiment, watched: Option<&str>, quiet: bool) -> String {
    let mut text = String::new();
    if let (Some(Evaluation { confusion: Some(matrix), .. }), false) = (&report.test, quiet) {
        let _ = writeln!(text, "On the test data: {matrix}");
    }
    let Report { steps, steps_now, seconds, .. } = report;
    let stopped = match (report.stopped, report.early) {
        (true, _) => "stopped by Ctrl-C: ",
        (_, true) => "ended early, as it got no better: ",
        _ => "",
    };
    let before = if steps_now < steps { format!(" after {} before", steps - steps_now) } else { String::new() };
    let _ = match *steps_now {
        0 => write!(text, "{stopped}no steps were left to take"),
        now => write!(text, "{stopped}{now} steps{before} in {seconds:.2} s ({:.0} a second)", now as f64 / seconds),
    };
    match (&report.test, report.validation.is_empty()) {
        (Some(test), _) => drop(writeln!(text, "\ntest     {} ({} examples)", list(&test.numbers), test.examples)),
        (None, false) => drop(writeln!(text, "\nvalidation {}", list(&report.validation))),
        (None, true) => text.push('\n'),
    }
    let saved = if report.stopped { "   (saved as it was after that step)" } else { "" };
    let _ = writeln!(text, "model    {}{saved}", report.model.display());
    if let Some(best) = report.best.as_ref().filter(|best| best.step < *steps && !report.stopped) {
        let (name, step) = (best.figure.replace('_', " "), best.step);
        let path = report.run.join(BEST);
        let _ = writeln!(text, "best     {} ({name} {:.4} after step {step})", path.display(), best.value);
    }
    let _ = writeln!(text, "curves   {}", report.curves.display());
    text.extend(watched.map(|line| format!("{line}\n")));
    let run = outcome::shell(&report.run);
    let _ = match report.stopped {
        true => writeln!(text, "resume   chainrule train --resume {run}"),
        false => writeln!(text, "next     chainrule {} {run}", next(experiment)),
    };
    text
}

/// What one does with such a network.
fn next(experiment: &Experiment) -> &'static str {
    match experiment.network().form() {
        Form::Gan => "sample",
        _ if experiment.tokenizer().is_some() => "generate",
        _ => "predict",
    }
}
