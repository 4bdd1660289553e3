//! The learning rate as a function of the step, computed inside the program: no retracing when it changes.

use chainrule::tensor::Tensor;
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

    /// From `peak` down to `floor` along half a cosine in `steps` steps, and `floor` after them:
    /// floor + (peak − floor)·(1 + cos(π·min(t/steps, 1)))/2. I. Loshchilov and F. Hutter, "SGDR", 2017.
    pub fn cosine(peak: f64, floor: f64, steps: u64) -> Schedule {
        Schedule::new(move |step| {
            let way = (step / steps.max(1) as f64).minimum(1.0);
            ((way * std::f64::consts::PI).cos() + 1.0) * (0.5 * (peak - floor)) + floor
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

    /// The rate of a step, f64 of shape []; the step may be of any number dtype.
    #[track_caller]
    pub fn rate(&self, step: &Tensor) -> Tensor {
        (self.0)(&step.cast(chainrule::tensor::DType::F64))
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
