//! Gradient descent, with momentum and weight decay as in PyTorch's `SGD`.

use super::{Optimizer, moments, walk};
use crate::schedule::Schedule;
use chainrule::tensor::Tensor;
use chainrule::tree::Tree;

/// w ← w − η·u with
///
/// - g' = g + λ·w  (weight decay λ)
/// - b ← μ·b + g'  (momentum μ; b starts at 0)
/// - u = b, or g' + μ·b (Nesterov), or g' (no momentum)
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let w = Tensor::from([1.0, 2.0]);
/// let sgd = Sgd::new(0.1).momentum(0.9, &w);
/// let (w, sgd) = sgd.update(&w, &Tensor::from([1.0, 1.0]));
/// let (w, _) = sgd.update(&w, &Tensor::from([1.0, 1.0]));
/// assert!((w.to_vec::<f64>()[0] - 0.71).abs() < 1e-12);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Sgd<M> {
    #[tree(skip)]
    rate: Schedule,
    #[tree(skip)]
    momentum: f64,
    #[tree(skip)]
    nesterov: bool,
    #[tree(skip)]
    weight_decay: f64,
    /// Steps taken.
    #[tree(state)]
    pub step: Tensor,
    /// The running sum of gradients, if there is momentum.
    #[tree(state)]
    pub buffer: Option<M>,
}

impl<M: Tree> Sgd<M> {
    /// Plain descent.
    #[track_caller]
    pub fn new(rate: impl Into<Schedule>) -> Sgd<M> {
        Sgd {
            rate: rate.into(),
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            step: Tensor::from(0i64),
            buffer: None,
        }
    }

    /// With momentum μ, for a model like this.
    #[track_caller]
    pub fn momentum(self, momentum: f64, model: &M) -> Sgd<M> {
        Sgd { momentum, buffer: Some(moments(model)), ..self }
    }

    /// Nesterov's form of momentum; nothing without momentum.
    pub fn nesterov(self) -> Sgd<M> {
        Sgd { nesterov: true, ..self }
    }

    /// With weight decay λ, added to the gradient.
    pub fn weight_decay(self, weight_decay: f64) -> Sgd<M> {
        Sgd { weight_decay, ..self }
    }
}

impl<M: Tree> Optimizer<M> for Sgd<M> {
    fn update(&self, model: &M, gradients: &M) -> (M, Sgd<M>) {
        let rate = self.rate.rate(&self.step);
        let decayed =
            |w: &Tensor, g: &Tensor| if self.weight_decay == 0.0 { g.clone() } else { g + w * self.weight_decay };
        let moved = |w: &Tensor, u: &Tensor| w - u * rate.cast(w.dtype());
        let (model, buffer) = match &self.buffer {
            None => {
                let [model] = walk([model, gradients], |[w, g]| [moved(w, &decayed(w, g))]);
                (model, None)
            }
            Some(buffer) => {
                let [model, buffer] = walk([model, buffer, gradients], |[w, b, g]| {
                    let g = decayed(w, g);
                    let b = b * self.momentum + &g;
                    let u = if self.nesterov { g + &b * self.momentum } else { b.clone() };
                    [moved(w, &u), b]
                });
                (model, Some(buffer))
            }
        };
        let step = &self.step + 1i64;
        (model, Sgd { step, buffer, rate: self.rate.clone(), ..*self })
    }
}
