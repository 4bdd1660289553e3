//! Losses: how wrong predictions are, as one number. All that speak of classes begin at logits and stay finite at any.
//!
//! The usual cases are functions. A loss with options is a small struct: `CrossEntropy::default().label_smoothing(0.1)`
//! and then `forward(&prediction, &target)`. Classes lie along the last axis. The formulas, defaults and reductions are
//! PyTorch's; where it gives 0/0, a mean over nothing, the result here is 0.

mod classes;
mod ctc;
mod embedding;
mod latent;
mod margin;
mod regression;

pub use classes::{BinaryCrossEntropy, CrossEntropy, KlDivergence, NegativeLogLikelihood};
pub use ctc::Ctc;
pub use embedding::{CosineEmbedding, Triplet};
pub use latent::Normals;
pub use margin::{Hinge, MultiMargin};
pub use regression::{Huber, MeanAbsolute, MeanSquared, SmoothL1};

use chainrule::tensor::Tensor;

/// What becomes of the losses of single elements or rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Their mean; weighted, if there are weights.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their sum over the size of axis 0.
    BatchMean,
    /// They stay as they are.
    None,
}

impl Reduction {
    #[track_caller]
    fn apply(self, losses: &Tensor) -> Tensor {
        match self {
            Reduction::Mean => losses.sum(..) / losses.numel().max(1) as f64,
            Reduction::Sum => losses.sum(..),
            Reduction::BatchMean => losses.sum(..) / losses.shape().first().copied().unwrap_or(1).max(1) as f64,
            Reduction::None => losses.clone(),
        }
    }

    /// With each loss counted as its weight says; the weights are in the losses already.
    #[track_caller]
    fn apply_weighted(self, losses: &Tensor, weights: &Tensor) -> Tensor {
        match self {
            Reduction::Mean => {
                let total = weights.sum(..);
                losses.sum(..) / total.equal(0.0).select(&total.ones_like(), &total)
            }
            other => other.apply(losses),
        }
    }
}

/// The option that every loss has.
macro_rules! reduction {
    ($($name:ident),*) => {$(
        impl $name {
            /// With another reduction.
            pub fn reduction(mut self, reduction: Reduction) -> $name {
                self.reduction = reduction;
                self
            }
        }
    )*};
}
reduction!(BinaryCrossEntropy, CosineEmbedding, CrossEntropy, Ctc, Hinge, Huber, KlDivergence, MeanAbsolute);
reduction!(MeanSquared, MultiMargin, NegativeLogLikelihood, SmoothL1, Triplet);

/// max(x, 0) for a margin: the derivative at 0 is 0.
#[track_caller]
fn positive_part(x: &Tensor) -> Tensor {
    x.relu()
}

/// Mean of `−ln softmax(z)[y]` over all rows: logits z `[.., classes]`, classes y `[..]` as integers.
///
/// Its gradient by the logits is (softmax(z) − one_hot(y)) / rows. [`CrossEntropy`] has options.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let loss = cross_entropy(&Tensor::from([[0.0, 0.0]]), &Tensor::from([1i64]));
/// assert!((loss.item::<f64>() - 2f64.ln()).abs() < 1e-15);
/// ```
#[track_caller]
pub fn cross_entropy(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.cross_entropy(classes)
}

/// Mean of −t·ln σ(z) − (1 − t)·ln σ(−z) over all elements: logits z, targets t of their shape from 0 to 1.
///
/// [`BinaryCrossEntropy`] has options.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let loss = binary_cross_entropy(&Tensor::from([0.0, 1e4]), &Tensor::from([0.0, 1.0]));
/// assert!((loss.item::<f64>() - 0.5 * 2f64.ln()).abs() < 1e-15);
/// ```
#[track_caller]
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    BinaryCrossEntropy::default().forward(logits, targets)
}

/// Mean of (x − y)² over all elements.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let loss = mean_squared_error(&Tensor::from([1.0, 2.0]), &Tensor::from([1.0, 4.0]));
/// assert_eq!(loss.item::<f64>(), 2.0);
/// ```
#[track_caller]
pub fn mean_squared_error(prediction: &Tensor, target: &Tensor) -> Tensor {
    prediction.mean_squared_error(target)
}

/// Mean of |x − y| over all elements.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let loss = mean_absolute_error(&Tensor::from([1.0, 2.0]), &Tensor::from([1.0, 4.0]));
/// assert_eq!(loss.item::<f64>(), 1.0);
/// ```
#[track_caller]
pub fn mean_absolute_error(prediction: &Tensor, target: &Tensor) -> Tensor {
    (prediction - target).abs().mean(..)
}
