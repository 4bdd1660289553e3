//! Losses of numbers: squares, absolute values, and what lies between.

use super::Reduction;
use chainrule::tensor::Tensor;

/// (x − y)².
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::{MeanSquared, Reduction};
/// let loss = MeanSquared::default().reduction(Reduction::Sum);
/// assert_eq!(loss.forward(&Tensor::from([1.0, 2.0]), &Tensor::from([0.0, 0.0])).item::<f64>(), 5.0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct MeanSquared {
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl MeanSquared {
    /// The loss of a prediction, of the target's shape.
    #[track_caller]
    pub fn forward(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        self.reduction.apply(&(prediction - target).square())
    }
}

/// |x − y|; the derivative at 0 is 0.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::MeanAbsolute;
/// let loss = MeanAbsolute::default().forward(&Tensor::from([1.0, -2.0]), &Tensor::from([0.0, 0.0]));
/// assert_eq!(loss.item::<f64>(), 1.5);
/// ```
#[derive(Clone, Debug, Default)]
pub struct MeanAbsolute {
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl MeanAbsolute {
    /// The loss of a prediction, of the target's shape.
    #[track_caller]
    pub fn forward(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        self.reduction.apply(&(prediction - target).abs())
    }
}

/// r²/2 where |r| = |x − y| ≤ δ, δ·(|r| − δ/2) elsewhere. P. Huber, "Robust estimation of a location parameter", 1964.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::Huber;
/// let loss = Huber::new(1.0).forward(&Tensor::from([0.5, 3.0]), &Tensor::from([0.0, 0.0]));
/// assert_eq!(loss.item::<f64>(), (0.125 + 2.5) / 2.0);
/// ```
#[derive(Clone, Debug)]
pub struct Huber {
    /// δ.
    pub delta: f64,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl Default for Huber {
    fn default() -> Huber {
        Huber::new(1.0)
    }
}

impl Huber {
    /// With this δ.
    pub fn new(delta: f64) -> Huber {
        Huber { delta, reduction: Reduction::Mean }
    }

    /// The loss of a prediction, of the target's shape.
    #[track_caller]
    pub fn forward(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        self.reduction.apply(&huber(prediction, target, self.delta))
    }
}

/// [`Huber`] over δ, here called β: r²/(2β) where |r| < β, |r| − β/2 elsewhere; |r| if β is 0.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::SmoothL1;
/// let loss = SmoothL1::new(0.5).forward(&Tensor::from([0.25, 2.0]), &Tensor::from([0.0, 0.0]));
/// assert_eq!(loss.item::<f64>(), (0.0625 + 1.75) / 2.0);
/// ```
#[derive(Clone, Debug)]
pub struct SmoothL1 {
    /// β.
    pub beta: f64,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl Default for SmoothL1 {
    fn default() -> SmoothL1 {
        SmoothL1::new(1.0)
    }
}

impl SmoothL1 {
    /// With this β.
    pub fn new(beta: f64) -> SmoothL1 {
        SmoothL1 { beta, reduction: Reduction::Mean }
    }

    /// The loss of a prediction, of the target's shape.
    #[track_caller]
    pub fn forward(&self, prediction: &Tensor, target: &Tensor) -> Tensor {
        self.reduction.apply(&match self.beta {
            0.0 => (prediction - target).abs(),
            beta => huber(prediction, target, beta) / beta,
        })
    }
}

#[track_caller]
fn huber(prediction: &Tensor, target: &Tensor, delta: f64) -> Tensor {
    let rest = prediction - target;
    let size = rest.abs();
    // q·(|r| − q/2) with q = min(|r|, δ) has no square that could overflow.
    let inner = size.less_equal(delta).select(&size, delta);
    &inner * (size - &inner * 0.5)
}
