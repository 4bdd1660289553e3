//! Losses of places in a space: near what belongs together, far from the rest. Vectors lie along the last axis.

use super::{Reduction, positive_part};
use chainrule::tensor::Tensor;

/// max(0, d(a, p) − d(a, n) + margin) for an anchor, a positive and a negative example `[.., size]`, with the Euclidean
/// distance d(x, y) = ‖x − y + 10⁻⁶‖. With swap, the negative's distance is the smaller of those to anchor and positive.
///
/// F. Schroff et al., "FaceNet", 2015; V. Balntas et al., "Learning shallow convolutional feature descriptors with
/// triplet losses", 2016.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::Triplet;
/// let (a, p, n) = (Tensor::from([[0.0, 0.0]]), Tensor::from([[0.0, 1.0]]), Tensor::from([[0.5, 0.0]]));
/// let loss = Triplet::default().forward(&a, &p, &n);
/// assert!((loss.item::<f64>() - 1.5).abs() < 1e-5);
/// ```
#[derive(Clone, Debug)]
pub struct Triplet {
    /// 1 by default.
    pub margin: f64,
    /// Whether the positive's distance to the negative counts too.
    pub swap: bool,
    /// What becomes of the rows.
    pub reduction: Reduction,
}

impl Default for Triplet {
    fn default() -> Triplet {
        Triplet { margin: 1.0, swap: false, reduction: Reduction::Mean }
    }
}

impl Triplet {
    /// With another margin.
    pub fn margin(self, margin: f64) -> Triplet {
        Triplet { margin, ..self }
    }

    /// With swap.
    pub fn swap(self) -> Triplet {
        Triplet { swap: true, ..self }
    }

    /// The loss of three vectors.
    #[track_caller]
    pub fn forward(&self, anchor: &Tensor, positive: &Tensor, negative: &Tensor) -> Tensor {
        let distance = |x: &Tensor, y: &Tensor| (x - y + 1e-6).norm(-1);
        let mut far = distance(anchor, negative);
        if self.swap {
            far = far.minimum(distance(positive, negative));
        }
        self.reduction.apply(&positive_part(&(distance(anchor, positive) - far + self.margin)))
    }
}

/// 1 − cos(a, b) where y = 1, max(0, cos(a, b) − margin) where y = −1, for vectors `[.., size]` and y `[..]`.
///
/// cos(a, b) = a·b / √((a·a + 10⁻¹²)(b·b + 10⁻¹²)).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::CosineEmbedding;
/// let (a, b) = (Tensor::from([[1.0, 0.0]]), Tensor::from([[0.0, 2.0]]));
/// let loss = CosineEmbedding::default().forward(&a, &b, &Tensor::from([1i64]));
/// assert!((loss.item::<f64>() - 1.0).abs() < 1e-9);
/// ```
#[derive(Clone, Debug, Default)]
pub struct CosineEmbedding {
    /// 0 by default.
    pub margin: f64,
    /// What becomes of the rows.
    pub reduction: Reduction,
}

impl CosineEmbedding {
    /// With another margin.
    pub fn margin(self, margin: f64) -> CosineEmbedding {
        CosineEmbedding { margin, ..self }
    }

    /// The loss of two vectors.
    #[track_caller]
    pub fn forward(&self, a: &Tensor, b: &Tensor, signs: &Tensor) -> Tensor {
        let size = |x: &Tensor| (x.square().sum(-1) + 1e-12).sqrt();
        let cosine = (a * b).sum(-1) / (size(a) * size(b));
        let apart = positive_part(&(&cosine - self.margin));
        let together = signs.cast(a.dtype()).greater(0.0);
        self.reduction.apply(&together.select(&(1.0 - cosine), apart))
    }
}
