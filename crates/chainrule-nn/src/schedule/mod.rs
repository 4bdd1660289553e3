//! The learning rate as a function of the step, computed inside the program: no retracing when it changes.
//!
//! What depends on more than the step, a figure of the validation, is a [`Plateau`], whose state checkpoints carry.

mod plateau;
mod settings;

pub use plateau::{Plateau, PlateauSettings};
pub use settings::{ScheduleSettings, Shape};

use chainrule::tensor::{DType, Tensor};
use std::f64::consts::PI;
use std::sync::Arc;

/// A learning rate for each step: a function from the number of steps taken before (f64) to the rate (f64).
///
/// A number is the constant one. Any other rule is `Schedule::new(|step| …)`.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let rate = Schedule::cosine(1.0, 0.0, 100).warm_up(10);
/// let at = |step: i64| rate.rate(&Tensor::from(step)).item::<f64>();
/// assert_eq!((at(4), at(9)), (0.5, 1.0));
/// assert!((at(60) - 0.5).abs() < 1e-12 && at(110) < 1e-12 && at(1000) < 1e-12);
/// ```
#[derive(Clone)]
pub struct Schedule(Arc<dyn Fn(&Tensor) -> Tensor + Send + Sync>);

impl Schedule {
    /// Any function of the number of steps taken before, both f64 of shape [].
    pub fn new(rate: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Schedule {
        Schedule(Arc::new(rate))
    }

    /// Always the same.
    pub fn constant(rate: f64) -> Schedule {
        Schedule::new(move |step| step.full_like(rate))
    }

    /// rate·γ^⌊t/every⌋.
    pub fn step(rate: f64, every: u64, gamma: f64) -> Schedule {
        Schedule::new(move |step| power(gamma, &(step / every.max(1) as f64).floor()) * rate)
    }

    /// rate times γ for each milestone that is reached.
    pub fn multi_step(rate: f64, milestones: &[u64], gamma: f64) -> Schedule {
        let milestones = milestones.to_vec();
        Schedule::new(move |step| {
            let reached = |&milestone: &u64| step.greater_equal(milestone as f64).cast(DType::F64);
            let passed = milestones.iter().map(reached).reduce(|a, b| a + b);
            power(gamma, &passed.unwrap_or_else(|| step.zeros_like())) * rate
        })
    }

    /// rate·γᵗ.
    pub fn exponential(rate: f64, gamma: f64) -> Schedule {
        Schedule::new(move |step| power(gamma, step) * rate)
    }

    /// From one rate in a straight line to another in `steps` steps, and that after them.
    pub fn linear(from: f64, to: f64, steps: u64) -> Schedule {
        Schedule::new(move |step| part(step, steps) * (to - from) + from)
    }

    /// floor + (rate − floor)·(1 − min(t/steps, 1))^power.
    pub fn polynomial(rate: f64, floor: f64, steps: u64, power: f64) -> Schedule {
        Schedule::new(move |step| (1.0 - part(step, steps)).pow(power) * (rate - floor) + floor)
    }

    /// From `peak` down to `floor` along half a cosine in `steps` steps, and `floor` after them:
    /// floor + (peak − floor)·(1 + cos(π·min(t/steps, 1)))/2. I. Loshchilov and F. Hutter, "SGDR", 2017.
    pub fn cosine(peak: f64, floor: f64, steps: u64) -> Schedule {
        Schedule::new(move |step| half_cosine(&part(step, steps), peak, floor))
    }

    /// Half a cosine from `peak` to `floor` in `first` steps, and again from the peak in `multiply` times as many, and
    /// so on. I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    pub fn warm_restarts(peak: f64, floor: f64, first: u64, multiply: u64) -> Schedule {
        let (first, multiply) = (first.max(1) as f64, multiply.max(1) as f64);
        Schedule::new(move |step| {
            // Restarts are at whole steps: half a step later, no rounding can tell them wrong.
            let later = (step + 0.5) / first;
            let (begin, length) = if multiply == 1.0 {
                (later.floor() * first, step.full_like(first))
            } else {
                let scale = power(multiply, &((later * (multiply - 1.0) + 1.0).log() / multiply.ln()).floor()).round();
                ((&scale - 1.0) * (first / (multiply - 1.0)), scale * first)
            };
            half_cosine(&((step - begin) / length), peak, floor)
        })
    }

    /// Half a cosine up from peak/`divide` to `peak` over the first `rise` of `steps` steps, and half a cosine down to
    /// peak/(`divide`·`last_divide`) over the rest. L. Smith and N. Topin, "Super-convergence", 2018. As PyTorch's
    /// `OneCycleLR` with its defaults (0.3, 25, 10⁴); its momentum goes by [`Schedule::one_cycle_momentum`].
    pub fn one_cycle(peak: f64, steps: u64, rise: f64, divide: f64, last_divide: f64) -> Schedule {
        let first = peak / divide;
        Schedule::cycle([first, peak, first / last_divide], steps, rise)
    }

    /// A momentum (not a rate) against [`Schedule::one_cycle`]: from `high` down to `low` while the rate grows, and up again.
    /// PyTorch has 0.85 and 0.95.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_nn::prelude::*;
    /// let adam = Adam::new(&Tensor::from(1.0), Schedule::one_cycle(1e-2, 100, 0.3, 25.0, 1e4))
    ///     .momentum_schedule(Schedule::one_cycle_momentum(0.85, 0.95, 100, 0.3));
    /// # adam.update(&Tensor::from(1.0), &Tensor::from(0.5)).0.item::<f64>();
    /// let at = |step: i64| Schedule::one_cycle_momentum(0.85, 0.95, 100, 0.3).rate(&Tensor::from(step)).item::<f64>();
    /// assert!((at(0) - 0.95).abs() < 1e-12 && (at(29) - 0.85).abs() < 1e-12 && (at(99) - 0.95).abs() < 1e-12);
    /// ```
    pub fn one_cycle_momentum(low: f64, high: f64, steps: u64, rise: f64) -> Schedule {
        Schedule::cycle([high, low, high], steps, rise)
    }

    /// Half a cosine from the first value to the second, over the first `rise` of the steps, and another to the third.
    fn cycle([first, middle, last]: [f64; 3], steps: u64, rise: f64) -> Schedule {
        let (top, end) = (rise * steps as f64 - 1.0, steps as f64 - 1.0);
        Schedule::new(move |step| {
            let there = half_cosine(&(step / top.max(1e-12)).minimum(1.0), first, middle);
            let back = ((step - top) / (end - top).max(1e-12)).minimum(1.0);
            step.less_equal(top).select(&there, half_cosine(&back, middle, last))
        })
    }

    /// This schedule after `steps` steps in which its first rate is reached in equal parts: rate·(t + 1)/steps.
    pub fn warm_up(self, steps: u64) -> Schedule {
        let steps = steps as f64;
        Schedule::new(move |step| {
            let rest = (self.0)(&(step - steps).maximum(0.0));
            let part = ((step + 1.0) / steps.max(1.0)).minimum(1.0);
            rest * part
        })
    }

    /// This schedule for `steps` steps, and then another one from its beginning.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_nn::prelude::*;
    /// let rate = Schedule::constant(1.0).then(100, Schedule::linear(1.0, 0.0, 10));
    /// assert_eq!(rate.rate(&Tensor::from(105i64)).item::<f64>(), 0.5);
    /// ```
    pub fn then(self, steps: u64, next: Schedule) -> Schedule {
        let steps = steps as f64;
        Schedule::new(move |step| step.less(steps).select(&(self.0)(step), (next.0)(&(step - steps).maximum(0.0))))
    }

    /// The rate of a step, f64 of shape []; the step may be of any number dtype.
    #[track_caller]
    pub fn rate(&self, step: &Tensor) -> Tensor {
        (self.0)(&step.cast(DType::F64))
    }
}

impl From<f64> for Schedule {
    fn from(rate: f64) -> Schedule {
        Schedule::constant(rate)
    }
}

impl std::fmt::Debug for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schedule")
    }
}

/// min(t/steps, 1).
fn part(step: &Tensor, steps: u64) -> Tensor {
    (step / steps.max(1) as f64).minimum(1.0)
}

/// From one rate to another along half a cosine.
fn half_cosine(way: &Tensor, from: f64, to: f64) -> Tensor {
    ((way * PI).cos() + 1.0) * (0.5 * (from - to)) + to
}

/// baseᵗ.
fn power(base: f64, exponent: &Tensor) -> Tensor {
    exponent.full_like(base).pow(exponent)
}
