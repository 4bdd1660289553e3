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
