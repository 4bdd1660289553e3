//! What a variational model needs of normal distributions: their divergence from the standard one, and samples of them.

use chainrule::tensor::{Key, Tensor};

/// Independent normal distributions, one a number, each by its mean and the logarithm of its variance: what an encoder
/// says of a code.
///
/// D. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::Normals;
/// let code = Normals { mean: Tensor::from([[1.0, 0.0]]), log_variance: Tensor::from([[0.0, 0.0]]) };
/// assert_eq!(code.divergence().to_vec::<f64>(), [0.5]);
/// // A sample is m + σ·ε, so that a slope at the sample reaches mean and variance.
/// let key = Key::new(1);
/// let slope = grad(|m: &Tensor| Normals { mean: m.clone(), ..code.clone() }.sample(&key).sum(..), &code.mean);
/// assert_eq!(slope.to_vec::<f64>(), [1.0, 1.0]);
/// ```
#[derive(Clone, Debug)]
pub struct Normals {
    /// m.
    pub mean: Tensor,
    /// ln σ².
    pub log_variance: Tensor,
}

impl Normals {
    /// From what an encoder gives, `[…, 2·n]`: means, then logarithms of variances.
    ///
    /// # Panics
    /// If the last axis cannot be halved.
    #[track_caller]
    pub fn halves(x: &Tensor) -> Normals {
        let [mean, log_variance] = x.chunk(-1);
        Normals { mean, log_variance }
    }

    /// The divergence of Kullback and Leibler from the standard normal distribution, ½·Σ (m² + σ² − 1 − ln σ²) over the
    /// last axis.
    #[track_caller]
    pub fn divergence(&self) -> Tensor {
        let each = self.mean.square() + self.log_variance.expm1() - &self.log_variance;
        each.sum(-1) * 0.5
    }

    /// m + σ·ε with ε standard normal.
    #[track_caller]
    pub fn sample(&self, key: &Key) -> Tensor {
        let noise = key.normal(self.mean.shape().to_vec(), self.mean.dtype());
        &self.mean + (&self.log_variance * 0.5).exp() * noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chainrule::prelude::*;

    #[test]
    fn the_divergence_is_that_of_the_integral() {
        let mut wrong = Vec::new();
        for (mean, variance) in [(0.0, 1.0), (0.5, 1.0), (0.0, 0.2), (-1.3, 2.5)] {
            // ∫ q·ln(q/p) by a sum over a fine grid.
            let step = 1e-3;
            let density =
                |x: f64, m: f64, v: f64| (-(x - m) * (x - m) / (2.0 * v)).exp() / (std::f64::consts::TAU * v).sqrt();
            let integral: f64 = (-15_000..=15_000)
                .map(|i| f64::from(i) * step)
                .map(|x| (density(x, mean, variance), density(x, 0.0, 1.0)))
                .map(|(q, p)| if q > 1e-300 { q * (q / p).ln() * step } else { 0.0 })
                .sum();
            let normals = Normals { mean: Tensor::from([mean]), log_variance: Tensor::from([f64::ln(variance)]) };
            let found = normals.divergence().item::<f64>();
            if (found - integral).abs() > 1e-9 {
                wrong.push(format!("N({mean}, {variance}): {found} and {integral}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn samples_have_the_moments_and_carry_slopes() {
        let halves = Tensor::from([2.0, f64::ln(9.0)]).broadcast_to([40_000, 2]);
        let code = Normals::halves(&halves);
        let sample = code.sample(&Key::new(4));
        assert_eq!(sample.shape(), [40_000, 1]);
        assert!((sample.mean(..).item::<f64>() - 2.0).abs() < 0.05);
        assert!((sample.variance(.., 1).item::<f64>() - 9.0).abs() < 0.2);
        // ∂(m + σ·ε)/∂ ln σ² = ½·σ·ε
        let slope = grad(
            |log: &Tensor| Normals { mean: code.mean.clone(), log_variance: log.clone() }.sample(&Key::new(4)).sum(..),
            &code.log_variance,
        );
        let expected = (&sample - 2.0) * 0.5;
        assert!((slope - expected).abs().max(..).item::<f64>() < 1e-12);
    }
}
