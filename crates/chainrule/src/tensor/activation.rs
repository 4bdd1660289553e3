//! The usual activations, written with primitives.
//!
//! At a kink the derivative is the left one, so relu'(0) = 0.

use super::{Composite, Op, Tensor};

impl Tensor {
    #[track_caller]
    fn composite(&self, composite: Composite) -> Tensor {
        Tensor::apply(Op::Composite(composite), std::slice::from_ref(self))
    }

    /// max(x, 0), with derivative 0 at 0.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let g = grad(|x: &Tensor| x.relu().sum(..), &Tensor::from([-1.0, 0.0, 2.0]));
    /// assert_eq!(g.to_vec::<f64>(), [0.0, 0.0, 1.0]);
    /// ```
    #[track_caller]
    pub fn relu(&self) -> Tensor {
        self.less_equal(0.0).select(&self.zeros_like(), self)
    }
    /// x above 0, slope·x below.
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Tensor {
        self.less_equal(0.0).select(&(self * slope), self)
    }
    /// x above 0, slope·x below, with a slope that is learned (it broadcasts).
    #[track_caller]
    pub fn prelu(&self, slope: &Tensor) -> Tensor {
        self.less_equal(0.0).select(&(self * slope), self)
    }
    /// x above 0, α(eˣ − 1) below.
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Tensor {
        let below = self.less_equal(0.0);
        let safe = below.select(self, 0.0);
        below.select(&(safe.expm1() * alpha), self)
    }
    /// λ·elu(x) with the constants of Klambauer et al. 2017 that keep mean 0 and variance 1.
    #[track_caller]
    pub fn selu(&self) -> Tensor {
        self.elu(1.673_263_242_354_377_2) * 1.050_700_987_355_480_5
    }
    /// x above 0, α(e^(x/α) − 1) below.
    #[track_caller]
    pub fn celu(&self, alpha: f64) -> Tensor {
        let below = self.less_equal(0.0);
        let safe = below.select(&(self / alpha), 0.0);
        below.select(&(safe.expm1() * alpha), self)
    }
    /// x·Φ(x) with the normal distribution's Φ, by the error function.
    #[track_caller]
    pub fn gelu(&self) -> Tensor {
        self * ((self * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
    }
    /// The tanh approximation of [`Tensor::gelu`]: x/2·(1 + tanh(√(2/π)(x + 0.044715x³))).
    #[track_caller]
    pub fn gelu_tanh(&self) -> Tensor {
        let inner = (self + self * self * self * 0.044715) * 0.797_884_560_802_865_4;
        self * (inner.tanh() + 1.0) * 0.5
    }
    /// x·σ(x), also called swish.
    #[track_caller]
    pub fn silu(&self) -> Tensor {
        self * self.sigmoid()
    }
    /// x·tanh(softplus x).
    #[track_caller]
    pub fn mish(&self) -> Tensor {
        self * self.softplus().tanh()
    }
    /// ln(1 + eˣ), without overflow.
    #[track_caller]
    pub fn softplus(&self) -> Tensor {
        self.composite(Composite::Softplus)
    }
    /// ln σ(x), without overflow.
    #[track_caller]
    pub fn log_sigmoid(&self) -> Tensor {
        -(-self).softplus()
    }
    /// x / (1 + |x|).
    #[track_caller]
    pub fn softsign(&self) -> Tensor {
        self / (self.abs() + 1.0)
    }
    /// x limited to [−1, 1].
    #[track_caller]
    pub fn hard_tanh(&self) -> Tensor {
        self.less_equal(-1.0).select(&self.full_like(-1.0), self.less(1.0).select(self, 1.0))
    }
    /// (x + 3)/6 limited to [0, 1].
    #[track_caller]
    pub fn hard_sigmoid(&self) -> Tensor {
        let line = (self + 3.0) / 6.0;
        self.less_equal(-3.0).select(&self.zeros_like(), self.less(3.0).select(&line, 1.0))
    }
    /// a·σ(b) for the two halves a, b of an axis.
    #[track_caller]
    pub fn glu(&self, axis: isize) -> Tensor {
        let [a, b] = self.chunk(axis);
        a * b.sigmoid()
    }
    /// eˣ / Σ eˣ along an axis.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let p = Tensor::from([1000.0, 1000.0]).softmax(-1);
    /// assert_eq!(p.to_vec::<f64>(), [0.5, 0.5]);
    /// ```
    #[track_caller]
    pub fn softmax(&self, axis: isize) -> Tensor {
        let axis = self.axis("softmax", axis);
        self.composite(Composite::Softmax(axis))
    }
    /// x − ln Σ eˣ along an axis.
    #[track_caller]
    pub fn log_softmax(&self, axis: isize) -> Tensor {
        let axis = self.axis("log_softmax", axis);
        self.composite(Composite::LogSoftmax(axis))
    }
    /// Mean of `−log softmax(x)[target]` over all rows: logits `[.., classes]`, targets `[..]` as integers.
    ///
    /// # Panics
    /// If the targets' shape is not that of the logits without the last axis.
    #[track_caller]
    pub fn cross_entropy(&self, targets: &Tensor) -> Tensor {
        let rows = &self.shape()[..self.rank().max(1) - 1];
        assert!(
            rows == targets.shape(),
            "cross_entropy: logits {} and targets {}; these must have the logits' shape without the last axis",
            self.ty(),
            targets.ty()
        );
        -self.log_softmax(-1).pick(targets).mean(..)
    }
    /// Mean of (x − y)².
    #[track_caller]
    pub fn mean_squared_error(&self, target: &Tensor) -> Tensor {
        (self - target).square().mean(..)
    }
}
