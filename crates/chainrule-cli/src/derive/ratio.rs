//! Coefficients: fractions of whole numbers where they are, decimals where they are not.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// Beyond this a whole number is not exact in an `f64`.
const EXACT: f64 = 9007199254740992.0;

/// A number n/d. The denominator is 1 unless both are whole; the sign is the numerator's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    n: f64,
    d: f64,
}

impl Ratio {
    /// 0
    pub const ZERO: Ratio = Ratio { n: 0.0, d: 1.0 };
    /// 1
    pub const ONE: Ratio = Ratio { n: 1.0, d: 1.0 };
    /// −1
    pub const MINUS_ONE: Ratio = Ratio { n: -1.0, d: 1.0 };
    /// 1/2
    pub const HALF: Ratio = Ratio { n: 1.0, d: 2.0 };

    /// n/d in lowest terms.
    pub fn new(n: f64, d: f64) -> Ratio {
        let whole = |v: f64| v.fract() == 0.0 && v.abs() < EXACT;
        if !whole(n) || !whole(d) || d == 0.0 {
            return Ratio { n: n / d + 0.0, d: 1.0 };
        }
        let (mut a, mut b) = (n.abs(), d.abs());
        while b > 0.0 {
            (a, b) = (b, a % b);
        }
        let shared = a.max(1.0).copysign(d);
        Ratio { n: n / shared + 0.0, d: d / shared }
    }

    /// The fraction a reader would write for this number: 1/3 for 0.333…, 1/2 for 0.5, but 0.1 for 0.1.
    pub fn of(value: f64) -> Ratio {
        let short = format!("{value}").split('.').nth(1).is_some_and(|decimals| decimals.len() <= 4);
        for d in 1..=12 {
            let n = (value * d as f64).round();
            let near = (n / d as f64 - value).abs() <= 2.0 * f64::EPSILON * value.abs();
            if near && n.abs() < 1000.0 && (!short || d <= 4) || near && d == 1 && n == value {
                return Ratio::new(n, d as f64);
            }
        }
        Ratio { n: value + 0.0, d: 1.0 }
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.n / self.d
    }

    /// Its numerator and denominator.
    pub fn parts(self) -> (f64, f64) {
        (self.n, self.d)
    }

    /// Whether it is 0.
    pub fn is_zero(self) -> bool {
        self.n == 0.0
    }

    /// The whole number it is, if it is one.
    pub fn whole(self) -> Option<f64> {
        (self.d == 1.0 && self.n.fract() == 0.0).then_some(self.n)
    }

    /// Its power with a whole exponent.
    pub fn powi(self, exponent: f64) -> Ratio {
        match exponent < 0.0 {
            true => Ratio::new(self.d.powf(-exponent), self.n.powf(-exponent)),
            false => Ratio::new(self.n.powf(exponent), self.d.powf(exponent)),
        }
    }
}

impl std::ops::Add for Ratio {
    type Output = Ratio;
    fn add(self, other: Ratio) -> Ratio {
        Ratio::new(self.n * other.d + other.n * self.d, self.d * other.d)
    }
}

impl std::ops::Mul for Ratio {
    type Output = Ratio;
    fn mul(self, other: Ratio) -> Ratio {
        Ratio::new(self.n * other.n, self.d * other.d)
    }
}

impl std::ops::Div for Ratio {
    type Output = Ratio;
    fn div(self, other: Ratio) -> Ratio {
        Ratio::new(self.n * other.d, self.d * other.n)
    }
}

impl std::ops::Neg for Ratio {
    type Output = Ratio;
    fn neg(self) -> Ratio {
        Ratio { n: 0.0 - self.n, d: self.d }
    }
}

/// A coefficient is never NaN but where a program divides 0 by 0, and then it equals nothing.
impl Eq for Ratio {}
impl Hash for Ratio {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.n.to_bits(), self.d.to_bits()).hash(state);
    }
}
impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Ratio) -> Option<Ordering> {
        self.value().partial_cmp(&other.value())
    }
}
