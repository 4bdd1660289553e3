//! The gradient noise scale: how large a batch is worth its cost (McCandlish et al. 2018).

use crate::place::numbers;
use chainrule::differentiate::{Unreached, gradient};
use chainrule::execute::compile;
use chainrule::tensor::{DType, Tensor};
use chainrule::tree::{self, Role, Tree};
use serde::Serialize;

/// How much the gradients of examples differ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NoiseScale {
    /// ‖G‖², of the true gradient, without the bias of a finite batch.
    pub signal: f64,
    /// tr Σ, the variance of one example's gradient.
    pub noise: f64,
    /// tr Σ / ‖G‖²: batches much smaller are noise, much larger ones are waste. None if no signal is left.
    pub scale: Option<f64>,
}

impl NoiseScale {
    /// From gradients of k batches of n examples each: the mean of ‖g‖² and the square of the gradients' mean, which is
    /// that of one batch of k·n. tr Σ = (mean ‖g‖² − ‖mean g‖²)·n·k/(k − 1), ‖G‖² = ‖mean g‖² − tr Σ/(k·n); equations
    /// A.2 and A.3 of McCandlish et al.
    ///
    /// # Panics
    /// If there is one batch only.
    ///
    /// ```
    /// use chainrule_lens::flow::NoiseScale;
    /// // Two batches of one example, with gradients 1 and 3.
    /// let found = NoiseScale::of_batches(2, 1, 5.0, 4.0);
    /// assert_eq!((found.noise, found.signal), (2.0, 3.0));
    /// ```
    #[track_caller]
    pub fn of_batches(batches: usize, examples: usize, mean_of_squares: f64, square_of_mean: f64) -> NoiseScale {
        assert!(batches > 1, "NoiseScale::of_batches: {batches} batches; it takes at least two");
        let (k, n) = (batches as f64, examples as f64);
        let noise = ((mean_of_squares - square_of_mean) * n * k / (k - 1.0)).max(0.0);
        let signal = square_of_mean - noise / (k * n);
        NoiseScale { signal, noise, scale: (signal > 0.0).then(|| noise / signal) }
    }
}

/// The noise scale from a function that gives one loss for each example.
///
/// # Panics
/// If there are fewer than two examples, or a parameter has no derivative.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::flow::gradient_noise_scale;
/// // Gradients 1, 3, 1, 3: mean 2, variance 4/3.
/// let c = Tensor::from([1.0, 3.0, 1.0, 3.0]);
/// let found = gradient_noise_scale(|w: &Tensor| w * &c, &Tensor::from(1.0));
/// assert!((found.noise - 4.0 / 3.0).abs() < 1e-12 && (found.signal - (4.0 - 1.0 / 3.0)).abs() < 1e-12);
/// ```
#[track_caller]
pub fn gradient_noise_scale<T: Tree + Clone>(losses: impl Fn(&T) -> Tensor, model: &T) -> NoiseScale {
    let n = losses(model).numel();
    assert!(n > 1, "gradient_noise_scale: {n} examples; it takes at least two");
    let mut run = compile(|(model, example): &(T, Tensor)| {
        let one = |m: &T| losses(m).flatten().gather(example, 0);
        match gradient(|m| (one(m), ()), model, Unreached::Zeros) {
            Ok((_, (), slope)) => slope,
            Err(error) => panic!("gradient_noise_scale: {error}"),
        }
    });
    let mut mean: Vec<f64> = Vec::new();
    let mut squares = 0.0;
    for example in 0..n {
        let slope = match run.run((model.clone(), Tensor::from(example as i64))) {
            Ok(slope) => slope,
            Err(error) => panic!("gradient_noise_scale: {error}"),
        };
        let leaves = tree::named_leaves(&slope).into_iter().filter(|leaf| leaf.1 == Role::Parameter);
        let flat: Vec<f64> = leaves.flat_map(|leaf| numbers(&leaf.2.cast(DType::F64))).collect();
        squares += flat.iter().map(|g| g * g).sum::<f64>() / n as f64;
        mean.resize(flat.len(), 0.0);
        mean.iter_mut().zip(&flat).for_each(|(m, g)| *m += g / n as f64);
    }
    let of_mean: f64 = mean.iter().map(|m| m * m).sum();
    let noise = (squares - of_mean) * n as f64 / (n - 1) as f64;
    let signal = of_mean - noise / n as f64;
    NoiseScale { signal, noise, scale: (signal > 0.0).then(|| noise / signal) }
}
