//! Rates that adapt to the size of past gradients: RMSprop, Adagrad, Adadelta, as in PyTorch.

use super::{Numbers, Parameter, Rule, fraction, not_negative, running};
use chainrule::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// u = g / (√s + ε) with s ← α·s + (1 − α)·g²; centred, s − a² in place of s with a ← α·a + (1 − α)·g; with momentum
/// μ, u = b with b ← μ·b + g / (√s + ε).
///
/// T. Tieleman and G. Hinton, "Lecture 6.5: RMSprop", 2012; centred: A. Graves, "Generating sequences with recurrent
/// neural networks", 2013.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsProp {
    /// α.
    pub alpha: f64,
    /// ε.
    pub epsilon: f64,
    /// μ.
    pub momentum: f64,
    /// Whether the mean is taken off: a variance in place of a mean square.
    pub centered: bool,
}

impl Default for RmsProp {
    fn default() -> RmsProp {
        RmsProp { alpha: 0.99, epsilon: 1e-8, momentum: 0.0, centered: false }
    }
}

impl Rule for RmsProp {
    fn name(&self) -> &'static str {
        "rmsprop"
    }
    fn moments(&self) -> Vec<&'static str> {
        let mut names = vec!["square"];
        names.extend(self.centered.then_some("mean"));
        names.extend((self.momentum != 0.0).then_some("buffer"));
        names
    }
    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [square, rest @ ..] = moments else { unreachable!("RMSprop keeps a mean square") };
        *square = running(square, self.alpha, &p.gradient.square());
        let spread = match (self.centered, &mut *rest) {
            (true, [mean, ..]) => {
                *mean = running(mean, self.alpha, p.gradient);
                // A variance that rounding made negative is none.
                (&*square - mean.square()).maximum(0.0)
            }
            _ => square.clone(),
        };
        let scaled = p.gradient / (spread.sqrt() + self.epsilon);
        match rest.last_mut() {
            Some(buffer) if self.momentum != 0.0 => {
                *buffer = p.by_momentum(buffer, self.momentum) + scaled;
                buffer.clone()
            }
            _ => scaled,
        }
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        fraction("alpha", self.alpha)
            .and(fraction("momentum", self.momentum))
            .and(not_negative("epsilon", self.epsilon))
    }
}

/// u = g / (√s + ε) / (1 + (t − 1)·d) with s ← s + g².
///
/// J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning", 2011.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adagrad {
    /// ε.
    pub epsilon: f64,
    /// d.
    pub rate_decay: f64,
    /// The first value of s.
    pub initial: f64,
}

impl Default for Adagrad {
    fn default() -> Adagrad {
        Adagrad { epsilon: 1e-10, rate_decay: 0.0, initial: 0.0 }
    }
}

impl Rule for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }
    fn moments(&self) -> Vec<&'static str> {
        vec!["sum"]
    }
    fn start(&self, _: usize, _: &str, zeros: &Tensor) -> Tensor {
        zeros.full_like(self.initial)
    }
    fn numbers(&self, t: &Tensor, _: Option<&Tensor>, _: Option<&Tensor>) -> Numbers {
        (vec![1.0 / ((t - 1.0) * self.rate_decay + 1.0)], None)
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [sum] = moments else { unreachable!("Adagrad keeps a sum") };
        *sum = &*sum + p.gradient.square();
        p.gradient * p.number(0) / (sum.sqrt() + self.epsilon)
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        not_negative("epsilon", self.epsilon)
            .and(not_negative("rate_decay", self.rate_decay))
            .and(not_negative("initial", self.initial))
    }
}

/// u = g·√(d + ε) / √(s + ε) with s ← ρ·s + (1 − ρ)·g² and then d ← ρ·d + (1 − ρ)·u². Its rate is usually 1.
///
/// M. Zeiler, "Adadelta: an adaptive learning rate method", 2012.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adadelta {
    /// ρ.
    pub rho: f64,
    /// ε.
    pub epsilon: f64,
}

impl Default for Adadelta {
    fn default() -> Adadelta {
        Adadelta { rho: 0.9, epsilon: 1e-6 }
    }
}

impl Rule for Adadelta {
    fn name(&self) -> &'static str {
        "adadelta"
    }
    fn moments(&self) -> Vec<&'static str> {
        vec!["square", "change"]
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [square, change] = moments else { unreachable!("Adadelta keeps two mean squares") };
        *square = running(square, self.rho, &p.gradient.square());
        let step = p.gradient * ((&*change + self.epsilon).sqrt() / (&*square + self.epsilon).sqrt());
        *change = running(change, self.rho, &step.square());
        step
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        fraction("rho", self.rho).and(not_negative("epsilon", self.epsilon))
    }
}
