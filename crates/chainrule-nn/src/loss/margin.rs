//! Losses of margins: what is right by enough costs nothing.

use super::{Reduction, positive_part};
use chainrule::tensor::Tensor;

/// max(0, margin − y·z) for a score z and y = ±1 of its shape. C. Cortes and V. Vapnik, "Support-vector networks", 1995.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::Hinge;
/// let loss = Hinge::default().forward(&Tensor::from([3.0, 0.5]), &Tensor::from([1.0, -1.0]));
/// assert_eq!(loss.item::<f64>(), 0.75);
/// ```
#[derive(Clone, Debug)]
pub struct Hinge {
    /// 1 by default.
    pub margin: f64,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl Default for Hinge {
    fn default() -> Hinge {
        Hinge { margin: 1.0, reduction: Reduction::Mean }
    }
}

impl Hinge {
    /// With another margin.
    pub fn margin(self, margin: f64) -> Hinge {
        Hinge { margin, ..self }
    }

    /// The loss of scores.
    #[track_caller]
    pub fn forward(&self, scores: &Tensor, signs: &Tensor) -> Tensor {
        self.reduction.apply(&positive_part(&(self.margin - scores * signs.cast(scores.dtype()))))
    }
}

/// Σ_{j≠y} w\[y\]·max(0, margin − z\[y\] + z\[j\])ᵖ / classes for scores z `[.., classes]` and classes y `[..]`, p = 1 or 2.
///
/// K. Crammer and Y. Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", 2001.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::MultiMargin;
/// let loss = MultiMargin::default().forward(&Tensor::from([[2.0, 1.5]]), &Tensor::from([0i64]));
/// assert_eq!(loss.item::<f64>(), 0.25);
/// ```
#[derive(Clone, Debug)]
pub struct MultiMargin {
    /// 1 by default.
    pub margin: f64,
    /// Whether the parts are squared: p = 2.
    pub squared: bool,
    /// w `[classes]`.
    pub weights: Option<Tensor>,
    /// What becomes of the rows.
    pub reduction: Reduction,
}

impl Default for MultiMargin {
    fn default() -> MultiMargin {
        MultiMargin { margin: 1.0, squared: false, weights: None, reduction: Reduction::Mean }
    }
}

impl MultiMargin {
    /// With another margin.
    pub fn margin(self, margin: f64) -> MultiMargin {
        MultiMargin { margin, ..self }
    }

    /// With squared parts.
    pub fn squared(self) -> MultiMargin {
        MultiMargin { squared: true, ..self }
    }

    /// With a weight for each class.
    pub fn weights(self, weights: Tensor) -> MultiMargin {
        MultiMargin { weights: Some(weights), ..self }
    }

    /// The loss of scores.
    #[track_caller]
    pub fn forward(&self, scores: &Tensor, classes: &Tensor) -> Tensor {
        let right = scores.pick(classes).unsqueeze(-1);
        let others = classes.one_hot(scores.size(-1), scores.dtype()).equal(0.0);
        let parts = positive_part(&(scores - right + self.margin));
        let parts = if self.squared { parts.square() } else { parts };
        let losses = others.select(&parts, 0.0).sum(-1) / scores.size(-1).max(1) as f64;
        self.reduction.apply(&match &self.weights {
            Some(weights) => losses * weights.cast(scores.dtype()).gather(classes, 0),
            None => losses,
        })
    }
}
