//! Gradient descent, with momentum as in PyTorch's `SGD`.

use super::{Numbers, Parameter, Rule, fraction, not_negative};
use chainrule::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// u = b, or g + μ·b (Nesterov), or g (no momentum), with b ← μ·b + (1 − τ)·g, and b = g in the first step.
///
/// I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let w = Tensor::from([1.0, 2.0]);
/// let sgd = Sgd::new(&w, 0.1).with(|sgd| sgd.momentum = 0.9);
/// let (w, sgd) = sgd.update(&w, &Tensor::from([1.0, 1.0]));
/// let (w, _) = sgd.update(&w, &Tensor::from([1.0, 1.0]));
/// assert!((w.to_vec::<f64>()[0] - 0.71).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// μ.
    pub momentum: f64,
    /// τ.
    pub dampening: f64,
    /// Nesterov's form; it needs momentum and no dampening.
    pub nesterov: bool,
}

impl Rule for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }
    fn moments(&self) -> Vec<&'static str> {
        if self.momentum == 0.0 { vec![] } else { vec!["buffer"] }
    }
    fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }
    fn numbers(&self, t: &Tensor, _: Option<&Tensor>, _: Option<&Tensor>) -> Numbers {
        match self.dampening {
            0.0 => (vec![], None),
            dampening => (vec![t.less_equal(1.0).select(&t.ones_like(), 1.0 - dampening)], None),
        }
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [buffer] = moments else { return p.gradient.clone() };
        let new = if self.dampening == 0.0 { p.gradient.clone() } else { p.gradient * p.number(0) };
        *buffer = p.by_momentum(buffer, self.momentum) + new;
        if self.nesterov { p.gradient + p.by_momentum(buffer, self.momentum) } else { buffer.clone() }
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return Err(("nesterov", "needs momentum and no dampening".into()));
        }
        fraction("momentum", self.momentum).and(not_negative("dampening", self.dampening))
    }
}
