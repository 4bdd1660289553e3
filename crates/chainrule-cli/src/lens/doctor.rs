//! `chainrule doctor`: how gradients flow through the layers, what is wrong, and what helps: each change is tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chainrule::prelude::Key;
use chainrule_lens::flow::{Diagnosis, Finding, Measurement, Remedy, Training, Trials, try_remedies};
use chainrule_lens::{FlowOptions, GradientFlow, trace_nonfinite};
use chainrule_nn::context::Context;
use chainrule_nn::optimizer::SettingsError;
use chainrule_train::data::Batch;
use chainrule_train::model::{Change, Form, Spec};
use serde::Serialize;

use super::cure::changes;
use super::subject::{Looked, Opened, Patient, USUAL, noted, page, patients, started};
use crate::outcome::{self, Failure, Outcome};

/// Say how gradients flow through a model's layers, what is wrong with it, and what helps
#[derive(clap::Args)]
#[command(after_help = "\
Several batches are looked at together. If something is wrong, changes of the model file that may help are tried: each is
measured as the file was, and trained for a few steps on these batches. Data are those of the file, or random numbers if it
names none. The learning rate is that of the file's optimizer, or of a run's last step; of a run, and of given weights, only
settings of the training are tried. Of a pair of networks both are looked at.

Examples:
  chainrule doctor digits-cnn
  chainrule doctor model.toml --write cured.toml
  chainrule doctor model.toml --curvature --batches 8
  chainrule doctor runs/digits-cnn-1
  chainrule doctor model.toml --weights runs/mine-1/best.safetensors --json")]
pub struct DoctorArgs {
    #[command(flatten)]
    looked: Looked,
    /// Batches that are looked at
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batches: u32,
    /// Steps that each change is trained for; 0 to try none
    #[arg(long, value_name = "N", default_value_t = 60)]
    steps: u64,
    /// Write the model file with the change that helped most
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Also find the largest eigenvalue of the Hessian, for the largest stable rate; plain descent always does
    #[arg(long)]
    curvature: bool,
}

/// What is found of one network.
#[derive(Serialize)]
struct Report {
    flow: GradientFlow,
    verdict: Vec<Finding>,
    /// Changes that were tried.
    trials: Option<Trials>,
    /// The change that helps most.
    best: Option<String>,
    /// Where the first number that is not finite comes from.
    nonfinite: Option<chainrule_lens::NonFinite>,
}

/// How a file is trained. Groups of parameters are left out of a pair, whose names they may not be.
fn training(spec: &Spec, rate: f64, steps: u64, pair: bool) -> Training {
    let mut training = Training::new(spec.optimizer_settings().clone());
    (training.optimizer.rate, training.steps, training.clip_norm) = (rate, steps, spec.train().clip_norm);
    training.loss_scale = if spec.train().precision == "f16" { 65536.0 } else { 1.0 };
    if pair {
        training.optimizer.groups.clear();
    }
    training
}

/// Examines one network of a file or run.
struct Examination<'a> {
    arguments: &'a DoctorArgs,
    opened: &'a Opened,
}

impl Examination<'_> {
    fn training(&self, spec: &Spec, rate: f64) -> Training {
        training(spec, rate, self.arguments.steps, self.opened.network.form() == Form::Gan)
    }

    fn observe(&self, patient: &Patient, training: &Training) -> GradientFlow {
        let options = training.options();
        let options = FlowOptions {
            // Descent that is not rescaled is stable up to 2/λ, so it takes a λ to judge it.
            curvature: self.arguments.curvature || !options.adaptive,
            warm_up: options.warm_up || self.opened.learned,
            seed: self.arguments.looked.seed,
            ..options
        };
        GradientFlow::observe_batches(&options, &patient.loss, &patient.network, &self.opened.batches)
    }

    /// The loss of weights that have learned, with their running statistics.
    fn evaluated(&self, flow: GradientFlow, patient: &Patient) -> GradientFlow {
        if !self.opened.learned || self.opened.network.form() == Form::Gan {
            return flow;
        }
        let objective = self.opened.spec.objective();
        let mut network = patient.network.clone();
        let mut look = |batch| objective.loss(&mut network, batch, &mut Context::evaluation()).0.to_f64();
        let evaluated = self.opened.batches.iter().map(&mut look).sum::<f64>() / self.opened.batches.len() as f64;
        flow.with_evaluation(evaluated)
    }

    /// What is found, and the text of the file with the change that helps most.
    fn report(&self, patient: &Patient) -> Result<(Report, Option<String>), Failure> {
        let (opened, steps) = (self.opened, self.arguments.steps);
        let training = self.training(&opened.spec, opened.rate);
        let flow = self.evaluated(self.observe(patient, &training), patient);
        let verdict = flow.verdict();
        let nonfinite = match verdict.first().map(|finding| finding.diagnosis) {
            Some(Diagnosis::NotFinite) => opened
                .batches
                .iter()
                .find_map(|batch| trace_nonfinite(|network| (patient.loss)(network, batch), &patient.network)),
            _ => None,
        };
        let (mut trials, mut text) = (None, None);
        if let Some(first) = verdict.first().filter(|_| steps > 0) {
            let tried = match opened.learned {
                true => self.settings_tried(&flow, patient, &training).map(|trials| (trials, Vec::new())),
                false => self.changes_tried(first.diagnosis, &flow, patient, &training),
            };
            let (found, texts) = tried.map_err(Failure::input)?;
            let best = found.best().map(|best| best.change.clone());
            text = texts.into_iter().find(|(name, _)| Some(name) == best.as_ref()).map(|(_, text)| text);
            trials = Some(found).filter(|found| !found.tried.is_empty());
        }
        let best = trials.as_ref().and_then(Trials::best).map(|best| best.change.clone());
        Ok((Report { flow, verdict, trials, best, nonfinite }, text))
    }

    /// Changes of the training that go on from weights as they are.
    fn settings_tried(
        &self,
        flow: &GradientFlow,
        patient: &Patient,
        training: &Training,
    ) -> Result<Trials, SettingsError> {
        let mut remedies = flow.remedies(training);
        remedies.retain(|remedy| !matches!(remedy, Remedy::Initialisation { .. } | Remedy::WarmUp(_)));
        try_remedies(flow, &remedies, training, &patient.loss, &patient.network, &self.opened.batches)
    }

    /// Changes of the file, each from first values, and the texts they make.
    fn changes_tried(
        &self,
        diagnosis: Diagnosis,
        flow: &GradientFlow,
        patient: &Patient,
        training: &Training,
    ) -> Result<(Trials, Vec<(String, String)>), SettingsError> {
        let opened = self.opened;
        let before = Measurement::of(flow, training, &patient.loss, &patient.network, &opened.batches)?;
        let (mut trials, mut texts) = (Trials::new(before), Vec::new());
        for list in changes(diagnosis, flow, &opened.spec, training) {
            let Some(spec) = opened.spec.changed(&opened.example, &list) else { continue };
            let Ok(network) = spec.build(&opened.example, &Key::new(self.arguments.looked.seed)) else { continue };
            let network = started(&network, &opened.batches[0]);
            let changed = patients(&spec, network, self.arguments.looked.seed);
            let Some(changed) = changed.into_iter().find(|other| other.name == patient.name) else { continue };
            let training = self.training(&spec, spec.optimizer_settings().rate);
            let flow = self.observe(&changed, &training);
            // Names of parameters change with layers, and groups of the optimizer may have none any more.
            let after = Measurement::of(&flow, &training, &changed.loss, &changed.network, &opened.batches);
            let Ok(after) = after else { continue };
            let name = list.iter().map(Change::to_string).collect::<Vec<_>>().join(", ");
            trials.push(name.clone(), after);
            texts.push((name, spec.text().to_owned()));
        }
        Ok((trials, texts))
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = self.flow.to_string();
        if self.verdict.is_empty() {
            text.push_str("nothing is wrong\n");
        }
        text.extend(self.nonfinite.as_ref().map(|found| format!("{found}\n")));
        text.extend(self.trials.as_ref().map(|trials| format!("\n{trials}")));
        text
    }
}

/// Runs `doctor`.
pub fn run(arguments: DoctorArgs) -> Outcome {
    let opened = Opened::open(&arguments.looked, arguments.batches as usize, USUAL)?;
    let examination = Examination { arguments: &arguments, opened: &opened };
    let (mut reports, mut cured) = (Vec::new(), None);
    let asked = |patient: &Patient| arguments.looked.network.is_none_or(|which| which.name() == patient.name);
    for patient in patients(&opened.spec, opened.network.clone(), arguments.looked.seed).into_iter().filter(asked) {
        let (report, text) = examination.report(&patient)?;
        cured = cured.or(text);
        reports.push((patient.name, report));
    }
    let written = arguments.write.as_ref().map(|path| written(path, cured.as_deref(), &reports));
    if let Some(path) = &arguments.looked.html {
        let examples = opened.batches.iter().map(Batch::len).sum();
        let mut page = page(&arguments.looked, "Gradient flow", examples, opened.real);
        for (name, report) in &reports {
            if !name.is_empty() {
                page.heading(&format!("The {name}"));
            }
            super::flow_page::fill(&mut page, &report.flow, &report.verdict, report.nonfinite.as_ref());
            if let Some(trials) = &report.trials {
                page.heading("Changes that were tried");
                page.lines(&trials.to_string());
            }
        }
        page.write(path)?;
    }
    match (arguments.looked.json, &reports[..]) {
        (true, [(_, report)]) => outcome::print_json(report)?,
        (true, pair) => outcome::print_json(&pair.iter().map(|(n, r)| (*n, r)).collect::<BTreeMap<_, _>>())?,
        (false, reports) => {
            let title = |name: &str| if name.is_empty() { String::new() } else { format!("the {name}\n") };
            let parts: Vec<String> = reports.iter().map(|(name, report)| title(name) + &report.text()).collect();
            outcome::print(&noted(opened.real, &parts.join("\n")))?;
        }
    }
    if let Some(written) = written {
        outcome::tell(&written?);
    }
    Ok(())
}

/// Writes the cured file.
fn written(path: &Path, text: Option<&str>, reports: &[(&str, Report)]) -> Result<String, Failure> {
    let Some(text) = text else {
        let well = reports.iter().all(|(_, report)| report.verdict.is_empty());
        let why = if well { "nothing is wrong" } else { "none of the changes that were tried cured it" };
        return Err(Failure::work(format!("{why}, so {} is not written", path.display())));
    };
    std::fs::write(path, text).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    let best = reports.iter().find_map(|(_, report)| report.best.clone()).unwrap_or_default();
    Ok(format!("{} is the file with {best}", path.display()))
}
