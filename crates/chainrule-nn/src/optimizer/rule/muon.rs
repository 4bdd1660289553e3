//! Muon: momentum made orthogonal for matrices, AdamW for everything else.

use super::{Decay, Numbers, Parameter, Rule, adam_like, fraction, running, seen};
use crate::optimizer::group::matches;
use chainrule::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// What makes up for a matrix's shape [a, b] in the size of its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateAdjustment {
    /// √max(1, a/b), of K. Jordan.
    #[default]
    Original,
    /// 0.2·√max(a, b): steps as large as AdamW's, whose rate and decay then fit. J. Liu et al., "Muon is scalable for
    /// LLM training", 2025.
    MatchRmsAdamw,
}

/// For a matrix, u = NS(g')·s: the Newton–Schulz iteration takes the nearest orthogonal matrix to the momentum
///
/// - b ← μ·b + (1 − μ)·g,  g' = (1 − μ)·g + μ·b (Nesterov) or b
/// - X₀ = g' / ‖g'‖,  Xₖ₊₁ = 3.4445·Xₖ − 4.7750·XₖXₖᵀXₖ + 2.0315·(XₖXₖᵀ)²Xₖ,  five times
///
/// and s is the [adjustment](RateAdjustment). A kernel of a convolution is the matrix `[out, in·places]`. Parameters
/// with fewer than two axes, and those that [`Muon::adamw`] names (embeddings and the last layer, as the paper has it),
/// go by [`AdamW`](super::AdamW), with another rate if a [group](crate::optimizer::Group) gives it. Weight decay is decoupled, 0.1 by default as in PyTorch.
///
/// K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. The iteration runs in the
/// parameter's dtype, not in bf16.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// // A gradient of rank one is one direction in the step too: all columns move alike.
/// let w = Tensor::zeros([2, 2], DType::F64);
/// let (w, _) = Muon::new(&w, 0.1).update(&w, &Tensor::from([[3.0, 3.0], [0.0, 0.0]]));
/// let w = w.to_vec::<f64>();
/// assert!((w[0] - w[1]).abs() < 1e-12 && w[0] < -0.04 && w[2].abs() < 1e-12);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// μ.
    pub momentum: f64,
    /// Nesterov's form.
    pub nesterov: bool,
    /// s.
    pub adjust: RateAdjustment,
    /// Patterns of the paths of matrices that go by AdamW.
    pub adamw: Vec<String>,
    /// β₁ and β₂ of AdamW.
    pub betas: (f64, f64),
    /// ε of AdamW.
    pub epsilon: f64,
}

impl Default for Muon {
    fn default() -> Muon {
        Muon {
            momentum: 0.95,
            nesterov: true,
            adjust: RateAdjustment::Original,
            adamw: Vec::new(),
            betas: (0.9, 0.999),
            epsilon: 1e-8,
        }
    }
}

impl Muon {
    fn is_orthogonal(&self, path: &str, rank: usize) -> bool {
        rank >= 2 && !self.adamw.iter().any(|pattern| matches(pattern, path))
    }
}

impl Rule for Muon {
    fn name(&self) -> &'static str {
        "muon"
    }
    fn moments(&self) -> Vec<&'static str> {
        vec!["m", "v"]
    }
    fn start(&self, moment: usize, path: &str, zeros: &Tensor) -> Tensor {
        let unused = moment == 1 && self.is_orthogonal(path, zeros.rank());
        if unused { Tensor::zeros([0], zeros.dtype()) } else { zeros.clone() }
    }
    fn decay(&self) -> Decay {
        Decay::Decoupled
    }
    fn weight_decay(&self) -> f64 {
        0.1
    }
    fn numbers(&self, t: &Tensor, _: Option<&Tensor>, _: Option<&Tensor>) -> Numbers {
        (vec![1.0 / seen(self.betas.0, t), 1.0 / seen(self.betas.1, t).sqrt()], None)
    }
    fn direction(&self, p: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        let [m, v] = moments else { unreachable!("Muon keeps m and v") };
        if !self.is_orthogonal(p.path, p.weight.rank()) {
            *m = running(m, self.betas.0, p.gradient);
            *v = running(v, self.betas.1, &p.gradient.square());
            return &*m * p.number(0) / (v.sqrt() * p.number(1) + self.epsilon);
        }
        *m = running(m, self.momentum, p.gradient);
        let step = if self.nesterov { running(p.gradient, 1.0 - self.momentum, m) } else { m.clone() };
        let shape = p.weight.shape();
        let (rows, columns) = (shape[0], shape[1..].iter().product::<usize>());
        let size = match self.adjust {
            RateAdjustment::Original => (rows as f64 / columns.max(1) as f64).max(1.0).sqrt(),
            RateAdjustment::MatchRmsAdamw => 0.2 * (rows.max(columns) as f64).sqrt(),
        };
        orthogonal(&step.reshape([rows, columns])).reshape(shape) * size
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        fraction("momentum", self.momentum).and(adam_like(self.betas, self.epsilon))
    }
}

/// The Newton–Schulz iteration of Muon.
#[track_caller]
fn orthogonal(matrix: &Tensor) -> Tensor {
    let tall = matrix.shape()[0] > matrix.shape()[1];
    let mut x = if tall { matrix.t() } else { matrix.clone() };
    x = &x / x.norm(..).maximum(1e-7);
    for _ in 0..5 {
        let gram = x.matmul(&x.t());
        let polynomial = &gram * -4.7750 + gram.matmul(&gram) * 2.0315;
        x = &x * 3.4445 + polynomial.matmul(&x);
    }
    if tall { x.t() } else { x }
}
