//! What about the numbers made the result not finite.

use chainrule::tensor::{Binary, Op, Unary};
use serde::Serialize;

/// Which rule of arithmetic the numbers broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// log 0 = −∞.
    LogOfZero,
    /// The logarithm of a negative number.
    LogOfNegative,
    /// The root of a negative number.
    RootOfNegative,
    /// A number over zero.
    DivisionByZero,
    /// 0/0.
    ZeroOverZero,
    /// ∞/∞.
    InfinityOverInfinity,
    /// 0·∞.
    ZeroTimesInfinity,
    /// ∞ − ∞.
    InfinityMinusInfinity,
    /// Zero to a negative power.
    ZeroToNegative,
    /// A negative number to a power that is not an integer.
    NegativeToFraction,
    /// The angle of a sine or cosine is infinite.
    InfiniteAngle,
    /// The result is larger than the dtype holds.
    Overflow,
    /// A matrix is not symmetric positive definite.
    NotPositiveDefinite,
    /// A triangular matrix has a zero on its diagonal.
    Singular,
    /// The number came in from outside, or was written so.
    Given,
    /// An operand was NaN already.
    Carried,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cause::LogOfZero => "log 0",
            Cause::LogOfNegative => "log of a negative number",
            Cause::RootOfNegative => "root of a negative number",
            Cause::DivisionByZero => "division by 0",
            Cause::ZeroOverZero => "0/0",
            Cause::InfinityOverInfinity => "∞/∞",
            Cause::ZeroTimesInfinity => "0·∞",
            Cause::InfinityMinusInfinity => "∞ − ∞",
            Cause::ZeroToNegative => "0 to a negative power",
            Cause::NegativeToFraction => "a negative number to a fractional power",
            Cause::InfiniteAngle => "an infinite angle",
            Cause::Overflow => "overflow",
            Cause::NotPositiveDefinite => "a matrix that is not positive definite",
            Cause::Singular => "a singular matrix",
            Cause::Given => "given from outside",
            Cause::Carried => "NaN in an operand",
        })
    }
}

/// The cause from the operation and the elements of each operand that made the result.
pub(super) fn cause(op: &Op, operands: &[Vec<f64>]) -> Cause {
    let first = |i: usize| operands.get(i).and_then(|numbers| numbers.first()).copied().unwrap_or(0.0);
    let (a, b) = (first(0), first(1));
    if operands.is_empty() {
        return Cause::Given;
    }
    if operands.iter().flatten().any(|x| x.is_nan()) {
        return Cause::Carried;
    }
    match op {
        Op::Unary(Unary::Log) => {
            if a == 0.0 {
                Cause::LogOfZero
            } else {
                Cause::LogOfNegative
            }
        }
        Op::Unary(Unary::Log1p) => {
            if a == -1.0 {
                Cause::LogOfZero
            } else {
                Cause::LogOfNegative
            }
        }
        Op::Unary(Unary::Sqrt) => Cause::RootOfNegative,
        Op::Unary(Unary::Sin | Unary::Cos) => Cause::InfiniteAngle,
        Op::Binary(Binary::Div) => match (a, b) {
            (0.0, 0.0) => Cause::ZeroOverZero,
            (_, 0.0) => Cause::DivisionByZero,
            (a, b) if a.is_infinite() && b.is_infinite() => Cause::InfinityOverInfinity,
            _ => Cause::Overflow,
        },
        Op::Binary(Binary::Mul) if (a == 0.0 && b.is_infinite()) || (a.is_infinite() && b == 0.0) => {
            Cause::ZeroTimesInfinity
        }
        Op::Binary(Binary::Add | Binary::Sub) if a.is_infinite() && b.is_infinite() => Cause::InfinityMinusInfinity,
        Op::Binary(Binary::Pow) if a == 0.0 => Cause::ZeroToNegative,
        Op::Binary(Binary::Pow) if a < 0.0 && b.fract() != 0.0 => Cause::NegativeToFraction,
        Op::Cholesky => Cause::NotPositiveDefinite,
        Op::TriangularSolve { .. } => Cause::Singular,
        Op::Dot(_) | Op::Conv(_) => products(operands),
        _ => {
            let any = |wanted: f64| operands.iter().flatten().any(|&x| x == wanted);
            match any(f64::INFINITY) && any(f64::NEG_INFINITY) {
                true => Cause::InfinityMinusInfinity,
                false => Cause::Overflow,
            }
        }
    }
}

/// A sum of products: an infinite factor that met a zero, infinities of two signs, or too large a sum.
fn products(operands: &[Vec<f64>]) -> Cause {
    let infinite = operands.iter().flatten().any(|x| x.is_infinite());
    let zero = operands.iter().flatten().any(|&x| x == 0.0);
    match (infinite, zero) {
        (true, true) => Cause::ZeroTimesInfinity,
        (true, false) => Cause::InfinityMinusInfinity,
        (false, _) => Cause::Overflow,
    }
}
