//! Curvature products that are not the Hessian's: Gauss–Newton and Fisher.
//!
//! For a loss ℓ(z) of outputs z = f(θ) the Hessian is Jᵀ·ℓ″·J plus terms with f″. The Gauss–Newton matrix keeps the first
//! part; it has no negative eigenvalues where ℓ is convex (Schraudolph 2002). The Fisher matrix is the same with the
//! curvature of the likelihood that the outputs parametrise (Martens 2020).

use chainrule::differentiate::{Unreached, gradient, hvp, jvp};
use chainrule::tensor::Tensor;
use chainrule::tree::Tree;

/// The Gauss–Newton matrix of ℓ(f(θ)) times a direction: Jᵀ·(ℓ″·(J·v)).
///
/// # Panics
/// Where [`jvp`] and [`hvp`] do.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::curvature::gauss_newton_product;
/// // For squares of a linear function it is the Hessian.
/// let (x, v) = (Tensor::from([1.0, 2.0]), Tensor::from([1.0, -1.0]));
/// let outputs = |x: &Tensor| x * 3.0;
/// let gv = gauss_newton_product(outputs, |z: &Tensor| z.square().sum(..), &x, &v);
/// assert_eq!(gv.to_vec::<f64>(), [18.0, -18.0]);
/// ```
#[track_caller]
pub fn gauss_newton_product<T: Tree>(
    outputs: impl Fn(&T) -> Tensor,
    loss: impl Fn(&Tensor) -> Tensor,
    x: &T,
    direction: &T,
) -> T {
    let (z, moved) = jvp(&outputs, x, direction);
    pulled(&outputs, x, &hvp(loss, &z, &moved))
}

/// What the outputs of a model parametrise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likelihood {
    /// Logits of classes along the last axis.
    Categorical,
    /// A logit of one yes or no each.
    Bernoulli,
    /// The mean of a normal distribution with variance 1 each.
    Gaussian,
}

/// The Fisher matrix times a direction, the mean over the examples along the first axis of the outputs: Jᵀ·F·J·v with
/// F = diag(p) − p·pᵀ for classes, p(1 − p) for yes or no, and 1 for a normal distribution.
///
/// # Panics
/// Where [`jvp`] does.
#[track_caller]
pub fn fisher_product<T: Tree>(likelihood: Likelihood, outputs: impl Fn(&T) -> Tensor, x: &T, direction: &T) -> T {
    let (z, moved) = jvp(&outputs, x, direction);
    let examples = z.shape().first().copied().unwrap_or(1).max(1) as f64;
    let curved = match likelihood {
        Likelihood::Categorical => {
            let p = z.softmax(-1);
            &p * (&moved - (&p * &moved).sum_keepdims(-1))
        }
        Likelihood::Bernoulli => z.sigmoid() * (1.0 - z.sigmoid()) * &moved,
        Likelihood::Gaussian => moved,
    };
    pulled(&outputs, x, &(curved / examples))
}

/// The second moment of the gradients of single examples times a direction, 1/n Σ gᵢ·(gᵢ·v): the empirical Fisher matrix,
/// which is the Fisher matrix only where the model is right (Kunstner et al. 2019). `losses` has one loss an example.
///
/// # Panics
/// Where [`jvp`] does.
#[track_caller]
pub fn empirical_fisher_product<T: Tree>(losses: impl Fn(&T) -> Tensor, x: &T, direction: &T) -> T {
    let (z, moved) = jvp(&losses, x, direction);
    pulled(&losses, x, &(moved / z.numel().max(1) as f64))
}

/// Jᵀ times a cotangent, zeros where there is no path.
#[track_caller]
fn pulled<T: Tree>(outputs: &impl Fn(&T) -> Tensor, x: &T, cotangent: &Tensor) -> T {
    match gradient(|x| ((outputs(x) * cotangent).sum(..), ()), x, Unreached::Zeros) {
        Ok((_, (), pulled)) => pulled,
        Err(error) => panic!("{error}"),
    }
}
