//! Adam and its relatives: a running mean of gradients over the root of a running mean of their squares.

use super::{Decay, Numbers, Parameter, Rule, adam_like, not_negative, power, running, seen, seen_by};
use chainrule::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// u = m̂ / (√v̂ + ε) with
///
/// - m ← β₁·m + (1 − β₁)·g,   m̂ = m / (1 − β₁ᵗ)
/// - v ← β₂·v + (1 − β₂)·g²,  v̂ = v / (1 − β₂ᵗ), or the largest v so far (AMSGrad)
///
/// D. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015; S. Reddi et al., "On the convergence of
/// Adam and beyond", 2018.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let w = Tensor::from([1.0, -1.0]);
/// let (w, adam) = Adam::new(&w, 0.1).update(&w, &Tensor::from([100.0, 0.001]));
/// // The first step has the size of the rate, whatever the gradient's.
/// assert!((w.to_vec::<f64>()[0] - 0.9).abs() < 1e-6 && (w.to_vec::<f64>()[1] + 1.1).abs() < 1e-5);
/// assert_eq!(adam.step.item::<i64>(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε.
    pub epsilon: f64,
    /// Whether v̂ never shrinks.
    pub amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Adam {
        Adam { betas: (0.9, 0.999), epsilon: 1e-8, amsgrad: false }
    }
}

impl Rule for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }
    fn moments(&self) -> Vec<&'static str> {
        if self.amsgrad { vec!["m", "v", "largest"] } else { vec!["m", "v"] }
    }
    fn has_momentum(&self) -> bool {
        true
    }
    fn numbers(&self, t: &Tensor, _: Option<&Tensor>, momentum: Option<&Tensor>) -> Numbers {
        // m̂ / (√v̂ + ε) = size·m / (√v·spread + ε): both corrections are numbers, not tensors.
        (vec![1.0 / seen_by(momentum, self.betas.0, t), 1.0 / seen(self.betas.1, t).sqrt()], None)
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [m, v, largest @ ..] = moments else { unreachable!("Adam keeps m and v") };
        *m = p.running_gradient(m, self.betas.0);
        *v = running(v, self.betas.1, &p.gradient.square());
        let v = match largest {
            [largest] => {
                *largest = largest.maximum(&*v);
                largest
            }
            _ => v,
        };
        &*m * p.number(0) / (v.sqrt() * p.number(1) + self.epsilon)
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        adam_like(self.betas, self.epsilon)
    }
}

/// [`Adam`] with decoupled weight decay, 0.01 by default as in PyTorch.
///
/// I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AdamW(Adam);

impl std::ops::Deref for AdamW {
    type Target = Adam;
    fn deref(&self) -> &Adam {
        &self.0
    }
}

impl std::ops::DerefMut for AdamW {
    fn deref_mut(&mut self) -> &mut Adam {
        &mut self.0
    }
}

impl Rule for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn moments(&self) -> Vec<&'static str> {
        self.0.moments()
    }
    fn decay(&self) -> Decay {
        Decay::Decoupled
    }
    fn weight_decay(&self) -> f64 {
        0.01
    }
    fn has_momentum(&self) -> bool {
        true
    }
    fn numbers(&self, t: &Tensor, carried: Option<&Tensor>, momentum: Option<&Tensor>) -> Numbers {
        self.0.numbers(t, carried, momentum)
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        self.0.direction(p, moments)
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        self.0.check()
    }
}

/// u = (μₜ₊₁·m / (1 − ∏ᵢ≤ₜ₊₁ μᵢ) + (1 − μₜ)·g / (1 − ∏ᵢ≤ₜ μᵢ)) / (√v̂ + ε) with μₜ = β₁·(1 − 0.96^(t·ψ)/2), and m, v̂
/// as in [`Adam`].
///
/// T. Dozat, "Incorporating Nesterov momentum into Adam", 2016. The product of the μ is carried in the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NAdam {
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε.
    pub epsilon: f64,
    /// ψ.
    pub momentum_decay: f64,
    /// Weight decay off the weight itself.
    pub decoupled: bool,
}

impl Default for NAdam {
    fn default() -> NAdam {
        NAdam { betas: (0.9, 0.999), epsilon: 1e-8, momentum_decay: 4e-3, decoupled: false }
    }
}

impl Rule for NAdam {
    fn name(&self) -> &'static str {
        "nadam"
    }
    fn moments(&self) -> Vec<&'static str> {
        vec!["m", "v"]
    }
    fn decay(&self) -> Decay {
        if self.decoupled { Decay::Decoupled } else { Decay::Coupled }
    }
    fn carried(&self) -> Option<f64> {
        Some(1.0)
    }
    fn has_momentum(&self) -> bool {
        true
    }
    fn numbers(&self, t: &Tensor, carried: Option<&Tensor>, beta: Option<&Tensor>) -> Numbers {
        let grown = |t: &Tensor| 1.0 - power(0.96, &(t * self.momentum_decay)) * 0.5;
        let momentum = |t: &Tensor| beta.map_or_else(|| grown(t) * self.betas.0, |beta| grown(t) * beta);
        let (now, next) = (momentum(t), momentum(&(t + 1.0)));
        let product = carried.map_or(now.clone(), |before| before * &now);
        let gradient = (1.0 - &now) / (1.0 - &product);
        let mean = &next / (1.0 - &product * &next);
        (vec![mean, gradient, 1.0 / seen(self.betas.1, t).sqrt()], Some(product))
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [m, v] = moments else { unreachable!("NAdam keeps m and v") };
        *m = p.running_gradient(m, self.betas.0);
        *v = running(v, self.betas.1, &p.gradient.square());
        (&*m * p.number(0) + p.gradient * p.number(1)) / (v.sqrt() * p.number(2) + self.epsilon)
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        adam_like(self.betas, self.epsilon).and(not_negative("momentum_decay", self.momentum_decay))
    }
}

/// u = m̂·r·√(1 − β₂ᵗ) / (√v + ε) where the variance of the adaptive rate is known, m̂ in the first steps where it is
/// not:
///
/// r = √((ρ − 4)(ρ − 2)·ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)·ρ)) if ρ = ρ∞ − 2t·β₂ᵗ/(1 − β₂ᵗ) > 5, with ρ∞ = 2/(1 − β₂) − 1.
///
/// L. Liu et al., "On the variance of the adaptive learning rate and beyond", 2020.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RAdam {
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε.
    pub epsilon: f64,
    /// Weight decay off the weight itself.
    pub decoupled: bool,
}

impl Default for RAdam {
    fn default() -> RAdam {
        RAdam { betas: (0.9, 0.999), epsilon: 1e-8, decoupled: false }
    }
}

impl Rule for RAdam {
    fn name(&self) -> &'static str {
        "radam"
    }
    fn moments(&self) -> Vec<&'static str> {
        vec!["m", "v"]
    }
    fn decay(&self) -> Decay {
        if self.decoupled { Decay::Decoupled } else { Decay::Coupled }
    }
    fn has_momentum(&self) -> bool {
        true
    }
    fn numbers(&self, t: &Tensor, _: Option<&Tensor>, momentum: Option<&Tensor>) -> Numbers {
        let (mean, square) = (1.0 / seen_by(momentum, self.betas.0, t), seen(self.betas.1, t));
        let limit = 2.0 / (1.0 - self.betas.1) - 1.0;
        let length = limit - t * 2.0 * power(self.betas.1, t) / &square;
        let known = length.greater(5.0);
        let safe = length.maximum(5.0);
        let part = (&safe - 4.0) * (&safe - 2.0) / &safe * (limit / ((limit - 4.0) * (limit - 2.0)));
        let zero = mean.zeros_like();
        (vec![known.select(&(&mean * (part * square).sqrt()), &zero), known.select(&zero, &mean)], None)
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [m, v] = moments else { unreachable!("RAdam keeps m and v") };
        *m = p.running_gradient(m, self.betas.0);
        *v = running(v, self.betas.1, &p.gradient.square());
        &*m * (p.number(0) / (v.sqrt() + self.epsilon) + p.number(1))
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        adam_like(self.betas, self.epsilon)
    }
}
