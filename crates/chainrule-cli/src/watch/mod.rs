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
use chainrule_train::data::Batch;
use chainrule_train::experiment::{Experiment, Onlooker, Options, Outline, Seen};
use chainrule_train::model::Network;
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
        _ => Err("it must be a number of steps such as 100, or auto: as often as costs about 1 % of the time".into()),
    }
}

/// A schedule that has come down to so small a part of its rate takes small steps on purpose.
const RESTING: f64 = 0.05;

/// Looks at steps of one training.
pub struct Watching<'a> {
    run: &'a RunFolder,
    /// One for each network that is trained; none after one of them failed.
    watchers: Vec<Watcher<'a>>,
    every: Every,
    pace: Pace,
    begin: Instant,
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

/// Looks at one network.
struct Watcher<'a> {
    /// As one of a pair.
    name: &'static str,
    /// Of a batch and the number of its step, beside the other of a pair.
    flow: FlowWatcher<'a, Network, (Batch, Tensor, Option<Network>)>,
    warnings: Warnings,
    /// The part of a batch that is looked at, and of the step's random numbers in a pair.
    part: usize,
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
        let (seed, parts) = (spec.train().seed, spec.batches_a_step());
        let watchers = spec.losses().into_iter().map(|(name, loss)| {
            // A discriminator is seen in its first round against the old generator, and the generator after the last.
            let part = if name == "generator" { parts - 1 } else { 0 };
            let loss = move |network: &Network, (batch, step, other): &(Batch, Tensor, Option<Network>)| {
                let key = Key::new(seed).fold(step);
                let key = if other.is_some() { key.fold(&Tensor::from(part as i64)) } else { key };
                loss(network, other.as_ref(), batch, &key)
            };
            Watcher { name, flow: FlowWatcher::new(settings.clone(), loss), warnings: Warnings::default(), part }
        });
        Watching {
            run,
            watchers: watchers.collect(),
            every,
            pace: Pace::new(every, 0),
            begin: Instant::now(),
            snapshots: None,
            parts,
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
        match self.looks {
            0 => "watched  no step: it was too short for looks that cost little; --watch-every 10 looks anyway".into(),
            looks => {
                let share = 100.0 * self.pace.spent() / seconds.max(1e-9);
                format!("watched  {} ({looks} steps looked at, in {share:.1} % of the time)", path.display())
            }
        }
    }

    /// The flow of a step in each network, and what in it is new and wrong.
    fn flow(&mut self, seen: &Seen<'_>) -> Result<Vec<FlowRecord>, String> {
        let rate = seen.record.numbers.get("rate");
        let resting = rate.is_some_and(|rate| rate < RESTING * self.rate);
        let step = chainrule_train::trainer::step_number(seen.record.step);
        let mut records = Vec::new();
        for (watcher, network) in self.watchers.iter_mut().zip(&seen.networks) {
            let data = (part(seen.batch, watcher.part, self.parts), step.clone(), network.other.cloned());
            let looked = watcher.flow.observe(network.before, network.after, &data, rate);
            let flow: GradientFlow = looked.map_err(|error| error.to_string())?;
            let findings = flow.verdict().into_iter();
            let findings = findings.filter(|found| !(resting && found.diagnosis == Diagnosis::StepTooSmall)).collect();
            let record = FlowRecord::of(seen.record.step, &flow, &watcher.warnings.new_of(findings));
            records.push(if watcher.name.is_empty() { record } else { record.named(watcher.name) });
        }
        Ok(records)
    }

    /// Keeps weights for `chainrule sharpness`, of one network with one loss.
    fn keep(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let [network] = &seen.networks[..] else { return Ok(()) };
        let step = seen.record.step - 1;
        if self.snapshots.is_none() {
            let bytes = tree::leaves(network.before).iter().map(|leaf| leaf.ty().bytes()).sum();
            let opened = Snapshots::open(self.run, step, self.pace.steps(), bytes);
            self.snapshots = Some(opened.map_err(|error| error.to_string())?);
        }
        match &mut self.snapshots {
            Some(snapshots) if snapshots.is_due(step) => {
                snapshots.keep(step, network.before).map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }
}

/// One of so many equal parts of a batch.
fn part(batch: &Batch, number: usize, parts: usize) -> Batch {
    let count = batch.len() / parts.max(1);
    if parts <= 1 || count == 0 {
        return batch.clone();
    }
    let of = |leaves: &[Tensor]| leaves.iter().map(|leaf| leaf.narrow(0, number * count, count).eval()).collect();
    Batch { inputs: of(&batch.inputs), targets: of(&batch.targets) }
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
        !self.watchers.is_empty() && self.pace.wants(step, self.begin.elapsed().as_secs_f64())
    }

    fn look(&mut self, seen: &Seen<'_>) -> Look {
        let begin = Instant::now();
        let step = seen.record.step;
        let looked = self.flow(seen).and_then(|records| self.keep(seen).map(|()| records));
        let look = match looked {
            Ok(records) => {
                self.looks += 1;
                self.update(|board| records.iter().for_each(|record| board.look(record)));
                let told = records.iter().flat_map(|record| &record.warnings).flat_map(|warning| {
                    [format!("  step {step}: {warning}"), format!("    change   {}", warning.change)]
                });
                let lines = records.iter().filter_map(|record| serde_json::to_value(record).ok());
                Look { told: told.collect(), lines: lines.collect() }
            }
            Err(problem) => {
                self.watchers.clear();
                Look { lines: Vec::new(), told: vec![format!("  step {step}: it is not watched any more: {problem}")] }
            }
        };
        if self.screen.is_some() {
            self.told.extend(look.told.iter().cloned());
        }
        self.pace.took(begin.elapsed().as_secs_f64());
        look
    }
}
