//! What a smaller dtype loses of a gradient.

use super::Checker;
use super::report::LeafPrecision;
use crate::lift::{converted, lift};
use crate::place::{Number, numbers};
use chainrule::execute::eval_all;
use chainrule::tensor::{DType, Tensor};

/// Decimal digits that a dtype holds.
fn digits_of(dtype: DType) -> f64 {
    let bits = match dtype {
        DType::F64 => 53,
        DType::F32 => 24,
        DType::F16 => 11,
        _ => 8,
    };
    bits as f64 * 2f64.log10()
}

/// The gradient of each parameter computed in each of these dtypes, against double precision. Arguments are rounded to
/// the dtype for both, so what is measured is arithmetic alone. A dtype that an operation does not take is left out.
pub(super) fn losses(checker: &Checker, dtypes: &[DType]) -> Vec<LeafPrecision> {
    let mut losses = Vec::new();
    for &dtype in dtypes {
        let rounded: Vec<Tensor> = checker.arguments.iter().map(|x| converted(x, Some(dtype))).collect();
        let exact: Vec<Tensor> = rounded.iter().map(|x| converted(x, Some(DType::F64))).collect();
        let (Ok(low), Ok(high)) =
            (lift(&checker.program, &rounded, Some(dtype)), lift(&checker.program, &exact, Some(DType::F64)))
        else {
            continue;
        };
        let (low, high) = (eval_all(&low[1..]), eval_all(&high[1..]));
        for (((path, _), low), high) in checker.parameters.iter().zip(&low).zip(&high) {
            losses.push(loss(path, dtype, &numbers(low), &numbers(high)));
        }
    }
    losses
}

fn loss(path: &str, dtype: DType, low: &[f64], high: &[f64]) -> LeafPrecision {
    let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(&mut high.iter().copied());
    let error = norm(&mut low.iter().zip(high).map(|(a, b)| a - b));
    let relative = if error == 0.0 { 0.0 } else { error / size };
    let full = digits_of(dtype);
    let kept = if relative == 0.0 { full } else { (-relative.log10()).clamp(0.0, full) };
    let gone = low.iter().zip(high).filter(|(low, high)| **low == 0.0 && **high != 0.0).count();
    LeafPrecision {
        path: path.to_owned(),
        dtype: dtype.name().to_owned(),
        relative_error: Number(relative),
        digits: full,
        lost: if relative.is_nan() { full } else { full - kept },
        underflowed: gone as f64 / high.len().max(1) as f64,
    }
}
