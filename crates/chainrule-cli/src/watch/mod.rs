//! `chainrule train MODEL --watch`: looks at steps while a training runs, says what becomes wrong, and shows it all on a
//! terminal where there is one.
//!
//! What is seen is made by `chainrule-lens` and written down by `chainrule-train`; here the two are brought together, and
//! drawn. Nothing here changes the training.

mod board;
mod chart;
pub mod nonfinite;
pub mod screen;
mod view;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use chainrule::prelude::{Key, Tensor};
use chainrule::tree;
use chainrule_lens::flow::Diagnosis;
use chainrule_lens::watch::{Every, Pace, Warnings};
use chainrule_lens::{FlowRecord, FlowWatcher, GradientFlow, WatchOptions};
use chainrule_nn::context::Context;
use chainrule_train::data::Batch;
use chainrule_train::experiment::{Experiment, Onlooker, Options, Outline, Seen};
use chainrule_train::model::{Form, Network};
use chainrule_train::run::RunFolder;
use chainrule_train::snapshots::Snapshots;
use chainrule_train::trainer::{EvaluationRecord, StepRecord};

use crate::outcome;
use board::Board;
use chainrule_train::training::Look;
use screen::Screen;

/// `auto` or a number of steps.
pub fn every(text: &str) -> Result<Every, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(Every::Auto),
        (_, Ok(steps)) if steps > 0 => Ok(Every::Steps(steps)),
        _ => Err("it must be a number of steps such as 100, or auto: as often as costs about 2 % of the time".into()),
    }
}

/// A schedule that has come down to so small a part of its rate takes small steps on purpose.
const RESTING: f64 = 0.05;

/// Looks at steps of one training.
pub struct Watching<'a> {
    run: &'a RunFolder,
    watcher: Option<FlowWatcher<'a, Network, (Batch, Tensor)>>,
    every: Every,
    pace: Pace,
    begin: Instant,
    warnings: Warnings,
    snapshots: Option<Snapshots>,
    /// Parts that a batch is taken in: a look takes one.
    parts: usize,
    /// The rate of the file, which a schedule comes down from.
    rate: f64,
    looks: usize,
    /// The flag that ends the training, where there is a terminal to show it on.
    shown: Option<Arc<AtomicBool>>,
    screen: Option<Screen>,
    /// What was shown on the screen and stays when it is gone.
    told: Vec<String>,
}

impl<'a> Watching<'a> {
    /// Of an experiment's training in a run; on a screen whose keys set the flag, if one is given.
    pub fn new(
        run: &'a RunFolder,
        experiment: &Experiment,
        options: &Options,
        (every, shown): (Every, Option<Arc<AtomicBool>>),
    ) -> Watching<'a> {
        let spec = experiment.spec();
        let optimizer = spec.optimizer_settings();
        let settings = WatchOptions {
            adaptive: optimizer.name != "sgd",
            threads: options.threads,
            memory_budget: options.memory_budget.or(spec.train().memory_budget),
        };
        let (objective, seed) = (spec.objective(), spec.train().seed);
        let watcher = FlowWatcher::new(settings, move |network: &Network, (batch, step): &(Batch, Tensor)| {
            let mut context = Context::training(Key::new(seed).fold(step));
            objective.loss(&mut network.clone(), batch, &mut context).0
        });
        Watching {
            run,
            // A pair of networks has no one loss.
            watcher: (experiment.network().form() != Form::Gan).then_some(watcher),
            every,
            pace: Pace::new(every, 0),
            begin: Instant::now(),
            warnings: Warnings::default(),
            snapshots: None,
            parts: spec.batches_a_step(),
            rate: optimizer.rate,
            looks: 0,
            shown,
            screen: None,
            told: Vec::new(),
        }
    }

    /// Gives the terminal back, and says again what arose while it was taken.
    pub fn close(&mut self) {
        if self.screen.take().is_some() {
            self.told.iter().for_each(|line| outcome::tell(line));
        }
    }

    fn update(&self, change: impl FnOnce(&mut Board)) {
        if let Some(screen) = &self.screen {
            screen.update(change);
        }
    }

    /// What a training that ended says of having been watched.
    pub fn ending(&self, seconds: f64) -> String {
        let path = self.run.path().join(chainrule_train::log::FLOW);
        match (self.looks, &self.watcher) {
            (_, None) => "watched  events only: a look needs one network with one loss".into(),
            (0, _) => {
                "watched  no step: it was too short for looks that cost little; --watch-every 10 looks anyway".into()
            }
            (looks, _) => {
                let share = 100.0 * self.pace.spent() / seconds.max(1e-9);
                format!("watched  {} ({looks} steps looked at, in {share:.1} % of the time)", path.display())
            }
        }
    }

    /// The flow of a step, and what in it is new and wrong.
    fn flow(&mut self, seen: &Seen<'_>) -> Result<FlowRecord, String> {
        let Some(watcher) = &mut self.watcher else { return Err("there is no one loss".into()) };
        let rate = seen.record.numbers.get("rate");
        let data = (part(seen.batch, self.parts), chainrule_train::trainer::step_number(seen.record.step));
        let flow: GradientFlow =
            watcher.observe(seen.before, seen.after, &data, rate).map_err(|error| error.to_string())?;
        let resting = rate.is_some_and(|rate| rate < RESTING * self.rate);
        let findings = flow.verdict().into_iter();
        let findings = findings.filter(|found| !(resting && found.diagnosis == Diagnosis::StepTooSmall)).collect();
        let new = self.warnings.new_of(findings);
        Ok(FlowRecord::of(seen.record.step, &flow, &new))
    }

    fn keep(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let step = seen.record.step - 1;
        if self.snapshots.is_none() {
            let bytes = tree::leaves(seen.before).iter().map(|leaf| leaf.ty().bytes()).sum();
            let opened = Snapshots::open(self.run, step, self.pace.steps(), bytes);
            self.snapshots = Some(opened.map_err(|error| error.to_string())?);
        }
        match &mut self.snapshots {
            Some(snapshots) if snapshots.is_due(step) => {
                snapshots.keep(step, seen.before).map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }
}

/// The first of so many equal parts of a batch.
fn part(batch: &Batch, parts: usize) -> Batch {
    let count = batch.len() / parts.max(1);
    if parts <= 1 || count == 0 {
        return batch.clone();
    }
    let first = |leaves: &[Tensor]| leaves.iter().map(|leaf| leaf.narrow(0, 0, count).eval()).collect();
    Batch { inputs: first(&batch.inputs), targets: first(&batch.targets) }
}

impl Onlooker for Watching<'_> {
    fn begins(&mut self, outline: &Outline) {
        (self.pace, self.begin) = (Pace::new(self.every, outline.steps), Instant::now());
        if let Some(stop) = self.shown.take() {
            let mut board = Board { title: self.run.path().display().to_string(), ..Board::default() };
            board.begins(outline);
            // A terminal that cannot be taken is none: what is told stays.
            self.screen = Screen::open(board, stop).ok();
        }
    }

    fn step(&mut self, record: &StepRecord) {
        self.update(|board| board.step(record));
    }

    fn evaluation(&mut self, record: &EvaluationRecord) {
        self.update(|board| board.evaluation(record));
    }

    fn wants(&mut self, step: u64) -> bool {
        self.watcher.is_some() && self.pace.wants(step, self.begin.elapsed().as_secs_f64())
    }

    fn look(&mut self, seen: &Seen<'_>) -> Look {
        let begin = Instant::now();
        let step = seen.record.step;
        let looked = self.flow(seen).and_then(|record| self.keep(seen).map(|()| record));
        let look = match looked {
            Ok(record) => {
                self.looks += 1;
                self.update(|board| board.look(&record));
                let told = record.warnings.iter().flat_map(|warning| {
                    [format!("  step {step}: {warning}"), format!("    change   {}", warning.change)]
                });
                Look { told: told.collect(), line: serde_json::to_value(&record).ok() }
            }
            Err(problem) => {
                self.watcher = None;
                Look { line: None, told: vec![format!("  step {step}: it is not watched any more: {problem}")] }
            }
        };
        if self.screen.is_some() {
            self.told.extend(look.told.iter().cloned());
        }
        self.pace.took(begin.elapsed().as_secs_f64());
        look
    }
}
