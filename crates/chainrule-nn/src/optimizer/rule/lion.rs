//! Lion: the sign of a momentum.

use super::{Decay, Parameter, Rule, adam_like, running};
use chainrule::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// u = sign(β₁·m + (1 − β₁)·g), and then m ← β₂·m + (1 − β₂)·g. Weight decay is decoupled.
///
/// X. Chen et al., "Symbolic discovery of optimization algorithms", 2023. Its rate is 3 to 10 times smaller than
/// AdamW's, its weight decay as much larger.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let w = Tensor::from([1.0, 1.0]);
/// let (w, _) = Lion::new(&w, 0.25).update(&w, &Tensor::from([9.0, -0.1]));
/// assert_eq!(w.to_vec::<f64>(), [0.75, 1.25]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lion {
    /// β₁ and β₂.
    pub betas: (f64, f64),
}

impl Default for Lion {
    fn default() -> Lion {
        Lion { betas: (0.9, 0.99) }
    }
}

impl Rule for Lion {
    fn name(&self) -> &'static str {
        "lion"
    }
    fn moments(&self) -> Vec<&'static str> {
        vec!["m"]
    }
    fn decay(&self) -> Decay {
        Decay::Decoupled
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [m] = moments else { unreachable!("Lion keeps m") };
        let (first, second) = self.betas;
        if second == 0.0 {
            return running(&std::mem::replace(m, p.gradient.clone()), first, p.gradient).sign();
        }
        // The same from the new m, so that the old one can be updated in place: β₁·m + (1 − β₁)·g is r·m' + (1 − r)·g.
        *m = running(m, second, p.gradient);
        running(m, first / second, p.gradient).sign()
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        adam_like(self.betas, 0.0)
    }
}
