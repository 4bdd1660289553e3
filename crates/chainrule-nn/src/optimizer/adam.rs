//! Adam, and AdamW by its switch, as in PyTorch.

use super::{Optimizer, moments, walk};
use crate::schedule::Schedule;
use chainrule::tensor::{DType, Tensor};
use chainrule::tree::Tree;

/// w ← w − η·m̂ / (√v̂ + ε) with
///
/// - m ← β₁·m + (1 − β₁)·g,   m̂ = m / (1 − β₁ᵗ)
/// - v ← β₂·v + (1 − β₂)·g²,  v̂ = v / (1 − β₂ᵗ)
///
/// D. Kingma and J. Ba, "Adam", 2015. Weight decay λ is added to the gradient, g + λ·w; or, [decoupled](Adam::decoupled),
/// taken off the weight itself, w·(1 − η·λ): I. Loshchilov and F. Hutter, "Decoupled weight decay regularization"
/// (AdamW), 2019.
///
/// The powers of β are computed in f64 from the step count, which is part of the state: a compiled step is traced once.
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
#[doc(alias = "AdamW")]
#[derive(Tree, Clone, Debug)]
pub struct Adam<M> {
    #[tree(skip)]
    rate: Schedule,
    #[tree(skip)]
    betas: (f64, f64),
    #[tree(skip)]
    epsilon: f64,
    #[tree(skip)]
    weight_decay: f64,
    #[tree(skip)]
    decoupled: bool,
    /// Steps taken.
    #[tree(state)]
    pub step: Tensor,
    /// The running mean of gradients.
    #[tree(state)]
    pub m: M,
    /// The running mean of their squares.
    #[tree(state)]
    pub v: M,
}

impl<M: Tree> Adam<M> {
    /// With β = (0.9, 0.999), ε = 10⁻⁸ and no weight decay, for a model like this.
    #[track_caller]
    pub fn new(model: &M, rate: impl Into<Schedule>) -> Adam<M> {
        Adam {
            rate: rate.into(),
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            step: Tensor::from(0i64),
            m: moments(model),
            v: moments(model),
        }
    }

    /// AdamW: [`Adam::new`] with decoupled weight decay, 0.01 as in PyTorch.
    #[track_caller]
    pub fn decoupled(model: &M, rate: impl Into<Schedule>) -> Adam<M> {
        Adam { decoupled: true, weight_decay: 0.01, ..Adam::new(model, rate) }
    }

    /// With other β.
    pub fn betas(self, first: f64, second: f64) -> Adam<M> {
        Adam { betas: (first, second), ..self }
    }

    /// With another ε.
    pub fn epsilon(self, epsilon: f64) -> Adam<M> {
        Adam { epsilon, ..self }
    }

    /// With weight decay λ, in the gradient or decoupled as this optimizer was made.
    pub fn weight_decay(self, weight_decay: f64) -> Adam<M> {
        Adam { weight_decay, ..self }
    }
}

impl<M: Tree> Optimizer<M> for Adam<M> {
    fn update(&self, model: &M, gradients: &M) -> (M, Adam<M>) {
        let (first, second) = self.betas;
        let step = &self.step + 1i64;
        let rate = self.rate.rate(&self.step);
        let correction = |beta: f64| 1.0 - Tensor::full([], beta, DType::F64).pow(step.cast(DType::F64));
        // η·m̂ / (√v̂ + ε) = size·m / (√v·spread + ε): both corrections are numbers, not tensors.
        let size = &rate / correction(first);
        let spread = 1.0 / correction(second).sqrt();
        let keep = 1.0 - &rate * self.weight_decay;
        let [model, m, v] = walk([model, &self.m, &self.v, gradients], |[w, m, v, g]| {
            let (w, g) = match (self.weight_decay != 0.0, self.decoupled) {
                (false, _) => (w.clone(), g.clone()),
                (true, false) => (w.clone(), g + w * self.weight_decay),
                (true, true) => (w * keep.cast(w.dtype()), g.clone()),
            };
            let m = m * first + &g * (1.0 - first);
            let v = v * second + g.square() * (1.0 - second);
            let change = &m * size.cast(w.dtype()) / (v.sqrt() * spread.cast(w.dtype()) + self.epsilon);
            [w - change, m, v]
        });
        (model, Adam { step, m, v, rate: self.rate.clone(), ..*self })
    }
}
