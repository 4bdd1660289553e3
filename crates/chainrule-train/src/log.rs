//! Writes down what a training tells: a line of metrics each, scalars for TensorBoard, the curves.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::curves::TrainingCurves;
use crate::run::{MetricsWriter, RunFolder};
use crate::task::Numbers;
use crate::tensorboard::EventWriter;
use crate::trainer::{Event, Record, TrainError};

/// The file of the model in a run folder.
pub const MODEL: &str = "model.safetensors";
/// The file of the model at its best evaluation.
pub const BEST: &str = "best.safetensors";
/// The file that a training goes on from.
pub const CHECKPOINT: &str = "checkpoint.safetensors";
/// The file of the curves in a run folder.
pub const CURVES: &str = "curves.png";
/// The same as a drawing.
pub const CURVES_SVG: &str = "curves.svg";
/// The file of TensorBoard's events.
pub const EVENTS: &str = "events.out.tfevents.0.chainrule";
/// The file of what a watcher saw in whole steps, a line each.
pub const FLOW: &str = "flow.jsonl";
/// The file of metrics.
const METRICS: &str = "metrics.jsonl";

/// Keeps a training in its run folder.
#[derive(Debug)]
pub struct RunLog<'a> {
    run: &'a RunFolder,
    metrics: MetricsWriter,
    /// Opened with its first line, or if it is there.
    flow: Option<MetricsWriter>,
    events: Option<EventWriter>,
    curves: TrainingCurves,
    /// Examples since then, without the time of evaluations.
    examples: usize,
    since: Instant,
}

impl<'a> RunLog<'a> {
    /// Opens the files of a run: a new one's, or those that had these lengths at a checkpoint, so much of which stays.
    ///
    /// # Errors
    /// If they cannot be written, or are shorter than that.
    pub fn new(
        run: &'a RunFolder,
        curves: TrainingCurves,
        tensorboard: bool,
        lengths: Option<&BTreeMap<String, u64>>,
    ) -> Result<RunLog<'a>, TrainError> {
        let length = |name: &str| lengths.and_then(|lengths| lengths.get(name)).copied().unwrap_or(0);
        let metrics = run.metrics_until(length(METRICS))?;
        let events = tensorboard.then(|| EventWriter::open(run.path().join(EVENTS), length(EVENTS))).transpose()?;
        let flow = run.path().join(FLOW).exists().then(|| run.lines_until(FLOW, length(FLOW))).transpose()?;
        let mut log = RunLog { run, metrics, flow, events, curves, examples: 0, since: Instant::now() };
        if lengths.is_some() {
            run.read_metrics::<Record>()?.iter().for_each(|record| log.curves.take(record));
        }
        Ok(log)
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// If it cannot be written; nothing half-written stays.
    pub fn take<S>(&mut self, event: &Event<'_, S>) -> Result<(), TrainError> {
        let record = match event {
            Event::Step { record, batch, .. } => {
                self.examples += batch.len();
                Record::Step((*record).clone())
            }
            Event::Evaluation { record, .. } => Record::Evaluation((*record).clone()),
            Event::Next { .. } | Event::Whole { .. } => return Ok(()),
        };
        self.metrics.append(&record)?;
        self.scalars(&record)?;
        self.curves.take(&record);
        Ok(())
    }

    /// Takes in what was seen in a step.
    ///
    /// # Errors
    /// If it cannot be written; nothing half-written stays.
    pub fn flow(&mut self, line: &serde_json::Value) -> Result<(), TrainError> {
        let file = match self.flow.take() {
            Some(file) => file,
            None => self.run.lines_until(FLOW, 0)?,
        };
        Ok(self.flow.insert(file).append(line)?)
    }

    fn scalars(&mut self, record: &Record) -> Result<(), TrainError> {
        let Some(events) = &mut self.events else { return Ok(()) };
        match record {
            Record::Step(step) => {
                events.scalars(step.step, "train/", &step.numbers)?;
                events.scalars(step.step, "gradient_norm/", &step.layers)?;
            }
            Record::Evaluation(evaluation) => {
                let pace = self.examples as f64 / self.since.elapsed().as_secs_f64();
                let pace = Numbers(vec![("examples_per_second".into(), pace)]);
                (self.examples, self.since) = (0, Instant::now());
                events.scalars(evaluation.step, "", &pace)?;
                events.scalars(evaluation.step, "validation/", &evaluation.validation)?;
                events.flush()?;
            }
        }
        Ok(())
    }

    /// Makes the files durable, and says how long they are.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn lengths(&mut self) -> Result<BTreeMap<String, u64>, TrainError> {
        let mut lengths = BTreeMap::from([(METRICS.to_owned(), self.metrics.sync()?)]);
        if let Some(flow) = &self.flow {
            lengths.insert(FLOW.into(), flow.sync()?);
        }
        if let Some(events) = &mut self.events {
            lengths.insert(EVENTS.into(), events.sync()?);
        }
        Ok(lengths)
    }

    /// Draws the curves and saves them.
    ///
    /// # Errors
    /// If they cannot be drawn or written.
    pub fn write_curves(&self) -> Result<(), TrainError> {
        let chart = self.curves.chart();
        self.run.write_artefact(CURVES, &chart.png()?)?;
        self.run.write_artefact(CURVES_SVG, chart.svg().as_bytes())?;
        Ok(())
    }
}
