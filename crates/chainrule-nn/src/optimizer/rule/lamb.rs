//! LAMB: Adam with a trust ratio for each parameter, for large batches.

use super::{Decay, Numbers, Parameter, Rule, adam_like, running, seen};
use chainrule::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// u = r·‖w‖/‖r‖ with r = m̂ / (√v̂ + ε) + λ·w, and m̂, v̂ as in [`Adam`](super::Adam); u = r where a norm is 0.
///
/// Y. You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", 2020.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// // A step is as long as the rate's part of the weight.
/// let w = Tensor::from([3.0, 4.0]);
/// let (next, _) = Lamb::new(&w, 0.1).update(&w, &Tensor::from([1.0, -7.0]));
/// assert!(((next - w).norm(..).item::<f64>() - 0.5).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lamb {
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε.
    pub epsilon: f64,
}

impl Default for Lamb {
    fn default() -> Lamb {
        Lamb { betas: (0.9, 0.999), epsilon: 1e-6 }
    }
}

impl Rule for Lamb {
    fn name(&self) -> &'static str {
        "lamb"
    }
    fn moments(&self) -> Vec<&'static str> {
        vec!["m", "v"]
    }
    fn decay(&self) -> Decay {
        Decay::Own
    }
    fn numbers(&self, t: &Tensor, _: Option<&Tensor>, _: Option<&Tensor>) -> Numbers {
        (vec![1.0 / seen(self.betas.0, t), 1.0 / seen(self.betas.1, t).sqrt()], None)
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [m, v] = moments else { unreachable!("LAMB keeps m and v") };
        *m = running(m, self.betas.0, p.gradient);
        *v = running(v, self.betas.1, &p.gradient.square());
        let step = &*m * p.number(0) / (v.sqrt() * p.number(1) + self.epsilon);
        let step = if p.weight_decay == 0.0 { step } else { step + p.weight * p.weight_decay };
        let (weight, size) = (p.weight.norm(..), step.norm(..));
        let usual = weight.greater(0.0).and(size.greater(0.0));
        let trust = usual.select(&(weight / usual.select(&size, 1.0)), 1.0);
        step * trust
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        adam_like(self.betas, self.epsilon)
    }
}
