//! Schedules by name, for files.

use super::Schedule;
use crate::optimizer::{SettingsError, not_negative};
use serde::{Deserialize, Serialize};

/// The form of a schedule. Where `steps` is left out, it is the rest of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// [`Schedule::constant`].
    Constant,
    /// [`Schedule::step`].
    Step {
        /// Steps between two reductions.
        every: u64,
        /// The factor of each.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// [`Schedule::multi_step`].
    MultiStep {
        /// The steps at which the rate is reduced.
        milestones: Vec<u64>,
        /// The factor of each reduction.
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// [`Schedule::exponential`].
    Exponential {
        /// The factor of each step.
        gamma: f64,
    },
    /// [`Schedule::linear`], from the rate down.
    Linear {
        /// The last rate.
        #[serde(default)]
        floor: f64,
        /// Steps on the way.
        steps: Option<u64>,
    },
    /// [`Schedule::polynomial`].
    Polynomial {
        /// The exponent.
        power: f64,
        /// The last rate.
        #[serde(default)]
        floor: f64,
        /// Steps on the way.
        steps: Option<u64>,
    },
    /// [`Schedule::cosine`].
    Cosine {
        /// The last rate.
        #[serde(default)]
        floor: f64,
        /// Steps on the way.
        steps: Option<u64>,
    },
    /// [`Schedule::warm_restarts`].
    WarmRestarts {
        /// Steps before the first restart.
        first: u64,
        /// How many times as many steps come before the next.
        #[serde(default = "one")]
        multiply: u64,
        /// The rate before a restart.
        #[serde(default)]
        floor: f64,
    },
    /// [`Schedule::one_cycle`].
    OneCycle {
        /// The part of the steps in which the rate grows.
        #[serde(default = "three_tenths")]
        rise: f64,
        /// The rate over the first one.
        #[serde(default = "twenty_five")]
        divide: f64,
        /// The first one over the last.
        #[serde(default = "ten_thousand")]
        last_divide: f64,
        /// The lowest momentum (μ or β₁) and the highest, where it cycles against the rate: [0.85, 0.95] as in PyTorch.
        /// Without, the optimizer's stays as it is.
        momentum: Option<(f64, f64)>,
        /// Steps of the cycle.
        steps: Option<u64>,
    },
}

fn tenth() -> f64 {
    0.1
}
fn one() -> u64 {
    1
}
fn three_tenths() -> f64 {
    0.3
}
fn twenty_five() -> f64 {
    25.0
}
fn ten_thousand() -> f64 {
    1e4
}

/// A schedule's settings as they stand in a file: a form, and steps of warm-up before it.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let settings: ScheduleSettings = serde_json::from_str(r#"{ "name": "cosine", "floor": 0.1, "warm_up": 10 }"#).unwrap();
/// let schedule = settings.build(1.0, 110).unwrap();
/// let at = |step: i64| schedule.rate(&Tensor::from(step)).item::<f64>();
/// assert_eq!(at(4), 0.5);
/// assert!((at(60) - 0.55).abs() < 1e-12 && (at(110) - 0.1).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSettings {
    /// The form.
    #[serde(flatten)]
    pub shape: Shape,
    /// Steps in which the first rate is reached in equal parts.
    #[serde(default)]
    pub warm_up: u64,
}

impl ScheduleSettings {
    /// The schedule with this rate, in a run of so many steps.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub fn build(&self, rate: f64, run: u64) -> Result<Schedule, SettingsError> {
        let rest = |steps: &Option<u64>| steps.unwrap_or(run.saturating_sub(self.warm_up));
        let schedule = match &self.shape {
            Shape::Constant => Schedule::constant(rate),
            Shape::Step { every, gamma } => {
                at_least_one("every", *every)?;
                Schedule::step(rate, *every, positive("gamma", *gamma)?)
            }
            Shape::MultiStep { milestones, gamma } => {
                Schedule::multi_step(rate, milestones, positive("gamma", *gamma)?)
            }
            Shape::Exponential { gamma } => Schedule::exponential(rate, positive("gamma", *gamma)?),
            Shape::Linear { floor, steps } => Schedule::linear(rate, not_negative("floor", *floor)?, rest(steps)),
            Shape::Polynomial { power, floor, steps } => {
                Schedule::polynomial(rate, not_negative("floor", *floor)?, rest(steps), positive("power", *power)?)
            }
            Shape::Cosine { floor, steps } => Schedule::cosine(rate, not_negative("floor", *floor)?, rest(steps)),
            Shape::WarmRestarts { first, multiply, floor } => {
                at_least_one("first", *first)?;
                at_least_one("multiply", *multiply)?;
                Schedule::warm_restarts(rate, not_negative("floor", *floor)?, *first, *multiply)
            }
            Shape::OneCycle { rise, divide, last_divide, steps, .. } => {
                let rise = positive("rise", *rise)?;
                if rise >= 1.0 {
                    return Err(SettingsError::new("rise", format!("is {rise}; it must be less than 1")));
                }
                let (divide, last) = (positive("divide", *divide)?, positive("last_divide", *last_divide)?);
                Schedule::one_cycle(rate, rest(steps), rise, divide, last)
            }
        };
        Ok(if self.warm_up > 0 { schedule.warm_up(self.warm_up) } else { schedule })
    }

    /// The schedule of the momentum in such a run, if it has one.
    ///
    /// # Errors
    /// If the momenta make no sense.
    pub fn momentum(&self, run: u64) -> Result<Option<Schedule>, SettingsError> {
        let Shape::OneCycle { rise, steps, momentum: Some((low, high)), .. } = &self.shape else { return Ok(None) };
        if !(0.0 <= *low && low <= high && *high < 1.0) {
            let problem =
                format!("of the schedule is [{low}, {high}]; it must be two numbers of [0, 1), the lower first");
            return Err(SettingsError::new("momentum", problem));
        }
        let steps = steps.unwrap_or(run.saturating_sub(self.warm_up));
        let cycle = Schedule::one_cycle_momentum(*low, *high, steps, *rise);
        Ok(Some(if self.warm_up > 0 { Schedule::constant(*high).then(self.warm_up, cycle) } else { cycle }))
    }
}

fn positive(name: &str, value: f64) -> Result<f64, SettingsError> {
    match value > 0.0 && value.is_finite() {
        true => Ok(value),
        false => Err(SettingsError::new(name, format!("is {value}; it must be a number above 0"))),
    }
}

fn at_least_one(name: &str, value: u64) -> Result<(), SettingsError> {
    match value {
        0 => Err(SettingsError::new(name, "is 0; it must be at least 1")),
        _ => Ok(()),
    }
}
