//! What is known of a training that is watched: curves, norms by layer, the last look, warnings. As much of it as a screen
//! can show, however long the training is.

use chainrule_lens::FlowRecord;
use chainrule_lens::watch::{Warning, WatchedLayer};
use chainrule_train::experiment::Outline;
use chainrule_train::task::Numbers;
use chainrule_train::trainer::{EvaluationRecord, StepRecord};

/// Points that a curve is kept in.
const POINTS: usize = 512;
/// Warnings that are kept.
const WARNINGS: usize = 50;

/// A curve over the steps in at most [`POINTS`] points: each is the mean of as many steps as it takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    first: u64,
    /// Steps that a point stands for.
    width: u64,
    /// Sum and number of the finite values, and whether there was one that is not.
    points: Vec<(f64, u64, bool)>,
}

impl Curve {
    /// Adds a step's value. Steps come in order.
    pub fn push(&mut self, step: u64, value: f64) {
        if self.points.is_empty() {
            (self.first, self.width) = (step, 1);
        }
        while (step - self.first) / self.width >= POINTS as u64 {
            let merged = |pair: &[(f64, u64, bool)]| {
                pair.iter().fold((0.0, 0, false), |a, b| (a.0 + b.0, a.1 + b.1, a.2 || b.2))
            };
            (self.points, self.width) = (self.points.chunks(2).map(merged).collect(), self.width * 2);
        }
        let place = ((step - self.first) / self.width) as usize;
        self.points.resize(self.points.len().max(place + 1), (0.0, 0, false));
        match value.is_finite() {
            true => {
                (self.points[place].0, self.points[place].1) = (self.points[place].0 + value, self.points[place].1 + 1)
            }
            false => self.points[place].2 = true,
        }
    }

    /// Step and mean of each point; NaN where a value was not finite.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let middle = (self.width.max(1) - 1) as f64 / 2.0;
        let shown = self.points.iter().enumerate().filter(|(_, point)| point.1 > 0 || point.2);
        shown.map(move |(place, &(sum, count, bad))| {
            let step = (self.first + place as u64 * self.width) as f64 + middle;
            (step, if bad { f64::NAN } else { sum / count as f64 })
        })
    }
}

/// A figure of the training, such as the loss.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    pub name: String,
    pub train: Curve,
    pub held_out: Curve,
    /// The last values.
    pub now: [Option<f64>; 2],
}

/// A layer, as steps and looks show it.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    pub path: String,
    /// Norm of its parameters' gradient.
    pub norms: Curve,
    pub now: f64,
    /// As in the last look.
    pub seen: Option<WatchedLayer>,
}

/// Everything that is shown.
#[derive(Debug, Clone, Default)]
pub struct Board {
    pub title: String,
    pub parameters: usize,
    pub steps: u64,
    /// The step that this part of the training went on after.
    pub from: u64,
    pub step: u64,
    pub epoch: u64,
    pub rate: Option<f64>,
    pub figures: Vec<Figure>,
    pub layers: Vec<Layer>,
    pub warnings: Vec<(u64, Warning)>,
    /// The last look.
    pub looked: Option<u64>,
    /// Somebody asked for the end.
    pub ending: bool,
}

impl Board {
    pub fn begins(&mut self, outline: &Outline) {
        (self.parameters, self.steps) = (outline.parameters, outline.steps);
    }

    pub fn step(&mut self, record: &StepRecord) {
        if self.step == 0 {
            self.from = record.step - 1;
        }
        (self.step, self.epoch, self.rate) = (record.step, record.epoch, record.numbers.get("rate"));
        for (name, value) in record.numbers.iter().filter(|number| !["rate", "gradient_norm"].contains(&number.0)) {
            let figure = self.figure(name);
            figure.train.push(record.step, value);
            figure.now[0] = Some(value);
        }
        if self.layers.len() != record.layers.0.len() {
            let named = |(path, _): (&str, f64)| Layer { path: path.into(), ..Layer::default() };
            self.layers = record.layers.iter().map(named).collect();
        }
        for (layer, (_, norm)) in self.layers.iter_mut().zip(record.layers.iter()) {
            layer.norms.push(record.step, norm);
            layer.now = norm;
        }
    }

    pub fn evaluation(&mut self, record: &EvaluationRecord) {
        let Numbers(numbers) = &record.validation;
        for (name, value) in numbers {
            let figure = self.figure(name);
            figure.held_out.push(record.step, *value);
            figure.now[1] = Some(*value);
        }
    }

    pub fn look(&mut self, record: &FlowRecord) {
        self.looked = Some(record.step);
        for layer in &record.layers {
            if let Some(own) = self.layers.iter_mut().find(|own| own.path == layer.path) {
                own.seen = Some(layer.clone());
            }
        }
        self.warnings.extend(record.warnings.iter().map(|warning| (record.step, warning.clone())));
        let more = self.warnings.len().saturating_sub(WARNINGS);
        self.warnings.drain(..more);
    }

    fn figure(&mut self, name: &str) -> &mut Figure {
        let place = self.figures.iter().position(|figure| figure.name == name).unwrap_or_else(|| {
            self.figures.push(Figure { name: name.into(), ..Figure::default() });
            self.figures.len() - 1
        });
        &mut self.figures[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_keeps_its_means_however_long_it_is() {
        let mut curve = Curve::default();
        for step in 11..=20_010 {
            curve.push(step, step as f64);
        }
        let points: Vec<(f64, f64)> = curve.points().collect();
        assert!(points.len() <= POINTS && points.len() > POINTS / 4, "{}", points.len());
        // The mean of a line over a stretch is its value in the middle.
        for (step, value) in &points[..points.len() - 1] {
            assert!((step - value).abs() < 1e-9, "{step} {value}");
        }
        curve.push(20_011, f64::INFINITY);
        assert!(curve.points().last().unwrap().1.is_nan());
        assert_eq!(Curve::default().points().count(), 0);
    }
}
