//! Elementwise functions of one operand, and conversions.

use super::{DType, Op, Tensor, Unary};

macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident = $op:ident,)*) => {
        impl Tensor {
            $(
                $(#[$doc])*
                #[track_caller]
                pub fn $method(&self) -> Tensor {
                    Tensor::apply(Op::Unary(Unary::$op), std::slice::from_ref(self))
                }
            )*
        }
    };
}

unary! {
    /// eˣ.
    exp = Exp,
    /// eˣ − 1, exact near 0.
    expm1 = Expm1,
    /// Natural logarithm.
    log = Log,
    /// ln(1 + x), exact near 0.
    log1p = Log1p,
    /// Sine of radians.
    sin = Sin,
    /// Cosine of radians.
    cos = Cos,
    /// Arc tangent in radians.
    atan = Atan,
    /// Hyperbolic tangent.
    tanh = Tanh,
    /// 1 / (1 + e⁻ˣ), without overflow.
    sigmoid = Sigmoid,
    /// Error function 2/√π ∫₀ˣ e^(−t²) dt.
    erf = Erf,
    /// √x; NaN below 0, derivative ∞ at 0.
    sqrt = Sqrt,
    /// |x|; the derivative at 0 is 0.
    abs = Abs,
    /// −1, 0 or 1; no derivative.
    sign = Sign,
    /// Largest integer not above x; no derivative.
    floor = Floor,
    /// Not of a bool.
    logical_not = Not,
}

impl Tensor {
    /// The value in another dtype. Float to integer truncates toward zero and saturates.
    ///
    /// The derivative passes between floats; through an integer or bool there is none.
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Tensor {
        if dtype == self.dtype() {
            return self.clone();
        }
        Tensor::apply(Op::Cast(dtype), std::slice::from_ref(self))
    }
    /// The identity, whose derivative is zero by decree.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let g = grad(|x: &Tensor| x * x.stop_gradient(), &Tensor::from(3.0));
    /// assert_eq!(g.item::<f64>(), 3.0);
    /// ```
    #[track_caller]
    pub fn stop_gradient(&self) -> Tensor {
        Tensor::apply(Op::StopGradient, std::slice::from_ref(self))
    }
    /// x².
    #[track_caller]
    pub fn square(&self) -> Tensor {
        self * self
    }
    /// 1 / x.
    #[track_caller]
    pub fn reciprocal(&self) -> Tensor {
        1.0 / self
    }
    /// 1 / √x.
    #[track_caller]
    pub fn rsqrt(&self) -> Tensor {
        1.0 / self.sqrt()
    }
    /// Smallest integer not below x; no derivative.
    #[track_caller]
    pub fn ceil(&self) -> Tensor {
        -(-self).floor()
    }
    /// Nearest integer, halves to the even one; no derivative.
    #[track_caller]
    pub fn round(&self) -> Tensor {
        let below = self.floor();
        let rest = self - &below;
        let half_below = &below * 0.5;
        let odd = half_below.floor().not_equal(&half_below);
        let up = rest.greater(0.5).or(rest.equal(0.5).and(odd));
        up.select(&(&below + 1.0), &below)
    }
    /// Tangent of radians.
    #[track_caller]
    pub fn tan(&self) -> Tensor {
        self.sin() / self.cos()
    }
    /// Arc sine in radians: atan(x / √((1 − x)(1 + x))), exact also near ±1.
    #[track_caller]
    pub fn asin(&self) -> Tensor {
        (self / ((1.0 - self) * (1.0 + self)).sqrt()).atan()
    }
    /// Arc cosine in radians: π/2 − asin x.
    #[track_caller]
    pub fn acos(&self) -> Tensor {
        std::f64::consts::FRAC_PI_2 - self.asin()
    }
    /// Hyperbolic sine, exact near 0.
    #[track_caller]
    pub fn sinh(&self) -> Tensor {
        (self.expm1() - (-self).expm1()) * 0.5
    }
    /// Hyperbolic cosine.
    #[track_caller]
    pub fn cosh(&self) -> Tensor {
        (self.exp() + (-self).exp()) * 0.5
    }
    /// Whether x is NaN.
    #[track_caller]
    pub fn is_nan(&self) -> Tensor {
        self.not_equal(self)
    }
    /// Whether x is neither infinite nor NaN.
    #[track_caller]
    pub fn is_finite(&self) -> Tensor {
        self.abs().less(f64::INFINITY)
    }
}
