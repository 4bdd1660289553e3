//! Writes down what a training tells: a line of metrics each, the model after epochs, the curves at the end.

use std::time::{Duration, Instant};

use chainrule::tree::{self, Tree};

use crate::curves::TrainingCurves;
use crate::run::{MetricsWriter, RunFolder};
use crate::trainer::{Event, Record, TrainError};

/// The file of the model in a run folder.
pub const MODEL: &str = "model.safetensors";
/// The file of the curves in a run folder.
pub const CURVES: &str = "curves.png";

/// Between two saves of the model after epochs: a kill loses at most this and an epoch.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Keeps a training in its run folder.
#[derive(Debug)]
pub struct RunLog<'a> {
    run: &'a RunFolder,
    metrics: MetricsWriter,
    curves: TrainingCurves,
    saved: Instant,
}

impl<'a> RunLog<'a> {
    /// Opens the metrics of a run.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn new(run: &'a RunFolder, title: impl Into<String>) -> Result<RunLog<'a>, TrainError> {
        let curves = TrainingCurves { title: title.into(), ..TrainingCurves::default() };
        Ok(RunLog { run, metrics: run.metrics()?, curves, saved: Instant::now() })
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// If it cannot be written; nothing half-written stays.
    pub fn take<M: Tree>(&mut self, event: &Event<'_, M>) -> Result<(), TrainError> {
        match event {
            Event::Step(step) => {
                let at = step.step as f64;
                self.metrics.append(&Record::Step((*step).clone()))?;
                self.curves.train_loss.push((at, step.loss));
                self.curves.train_accuracy.push((at, step.accuracy));
                for (place, (layer, norm)) in step.layers.iter().enumerate() {
                    if self.curves.gradient_norms.len() == place {
                        self.curves.gradient_norms.push((layer.clone(), Vec::new()));
                    }
                    self.curves.gradient_norms[place].1.push((at, norm.unwrap_or(f64::NAN)));
                }
            }
            Event::Epoch(epoch, model) => {
                let at = epoch.step as f64;
                self.metrics.append(&Record::Epoch((*epoch).clone()))?;
                self.curves.test_loss.push((at, epoch.test_loss));
                self.curves.test_accuracy.push((at, epoch.test_accuracy));
                if self.saved.elapsed() > SAVE_EVERY {
                    self.save(*model)?;
                }
            }
        }
        Ok(())
    }

    /// Saves the model as it is now, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save<M: Tree>(&mut self, model: &M) -> Result<(), TrainError> {
        tree::save(model, self.run.path().join(MODEL))?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Draws the curves and saves them.
    ///
    /// # Errors
    /// If they cannot be drawn or written.
    pub fn write_curves(&self) -> Result<(), TrainError> {
        self.run.write_artefact(CURVES, &self.curves.chart().png()?)?;
        Ok(())
    }
}
