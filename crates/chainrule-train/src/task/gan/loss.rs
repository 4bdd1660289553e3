//! Losses of two networks against each other, from the discriminator's scores of true and of made examples.

use chainrule::differentiate::grad;
use chainrule::tensor::Tensor;

/// What generator and discriminator minimise, for scores s of true examples and t of made ones.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_train::task::Adversarial;
/// let (truth, made) = (Tensor::from([0.0, 2.0]), Tensor::from([-3.0]));
/// assert_eq!(Adversarial::Hinge.discriminator(&truth, &made).item::<f64>(), 0.5);
/// assert_eq!(Adversarial::Wasserstein.generator(&made).item::<f64>(), 3.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Adversarial {
    /// Binary cross-entropy of logits: the discriminator's −ln σ(s) − ln σ(−t); the generator's −ln σ(t), which does not
    /// saturate. I. Goodfellow et al., "Generative adversarial nets", 2014.
    #[default]
    Logistic,
    /// The discriminator's max(0, 1 − s) + max(0, 1 + t); the generator's −t. J. H. Lim and J. C. Ye, "Geometric GAN",
    /// 2017.
    Hinge,
    /// The discriminator's t − s, whose negative estimates the distance of the distributions as long as its slope is
    /// about 1 (see [`gradient_penalty`]); the generator's −t. M. Arjovsky, S. Chintala and L. Bottou, "Wasserstein
    /// GAN", 2017.
    Wasserstein,
}

impl Adversarial {
    /// The discriminator's loss, means over the examples.
    #[track_caller]
    pub fn discriminator(self, truth: &Tensor, made: &Tensor) -> Tensor {
        match self {
            Adversarial::Logistic => (-truth).softplus().mean(..) + made.softplus().mean(..),
            Adversarial::Hinge => (1.0 - truth).relu().mean(..) + (made + 1.0).relu().mean(..),
            Adversarial::Wasserstein => made.mean(..) - truth.mean(..),
        }
    }

    /// The generator's loss, the mean over the examples.
    #[track_caller]
    pub fn generator(self, made: &Tensor) -> Tensor {
        match self {
            Adversarial::Logistic => (-made).softplus().mean(..),
            Adversarial::Hinge | Adversarial::Wasserstein => -made.mean(..),
        }
    }
}

/// The mean of (‖∂score/∂x‖ − 1)² at points x, one an example along axis 0.
///
/// I. Gulrajani et al., "Improved training of Wasserstein GANs", 2017. Its gradient with respect to what `score` is made
/// of is a second derivative; at slope 0 the norm's is 0.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_train::task::gradient_penalty;
/// // The slope of w·x is ‖w‖ = 5 everywhere.
/// let w = Tensor::from([3.0, 4.0]);
/// let penalty = |w: &Tensor| gradient_penalty(|x| x.matmul(&w.unsqueeze(1)), &Tensor::zeros([7, 2], DType::F64));
/// assert_eq!(penalty(&w).item::<f64>(), 16.0);
/// // d/dw (‖w‖ − 1)² = 2·(‖w‖ − 1)·w/‖w‖
/// assert_eq!(grad(penalty, &w).to_vec::<f64>(), [4.8, 6.4]);
/// ```
#[track_caller]
pub fn gradient_penalty(score: impl FnOnce(&Tensor) -> Tensor, x: &Tensor) -> Tensor {
    let slope = grad(|x: &Tensor| score(x).sum(..), x);
    let examples = x.size(0);
    let slope = slope.reshape([examples, x.numel() / examples.max(1)]);
    (slope.norm(-1) - 1.0).square().mean(..)
}
