//! What a smaller dtype loses of a gradient.

use super::Checker;
use super::report::Precision;
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

/// What a gradient in a smaller dtype differs by.
#[derive(Clone, Copy, Default)]
struct Difference {
    /// Σ (g − g₆₄)² and Σ g₆₄².
    error: f64,
    size: f64,
    /// Elements, and those that became 0.
    count: usize,
    gone: usize,
}

impl Difference {
    fn between(low: &[f64], high: &[f64]) -> Difference {
        Difference {
            error: low.iter().zip(high).map(|(a, b)| (a - b).powi(2)).sum(),
            size: high.iter().map(|x| x * x).sum(),
            count: high.len(),
            gone: low.iter().zip(high).filter(|(low, high)| **low == 0.0 && **high != 0.0).count(),
        }
    }

    fn with(self, other: Difference) -> Difference {
        Difference {
            error: self.error + other.error,
            size: self.size + other.size,
            count: self.count + other.count,
            gone: self.gone + other.gone,
        }
    }

    fn loss(self, path: &str, dtype: DType) -> Precision {
        let relative = if self.error == 0.0 { 0.0 } else { (self.error / self.size).sqrt() };
        let full = digits_of(dtype);
        let kept = if relative == 0.0 { full } else { (-relative.log10()).clamp(0.0, full) };
        Precision {
            path: path.to_owned(),
            dtype: dtype.name().to_owned(),
            relative_error: Number(relative),
            digits: full,
            lost: if relative.is_nan() { full } else { full - kept },
            underflowed: self.gone as f64 / self.count.max(1) as f64,
        }
    }
}

/// The layer of a parameter: its path without the last name.
fn layer_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(layer, _)| layer)
}

/// The gradient of each parameter, and of those of each layer together, computed in each of these dtypes, against double
/// precision. Arguments are rounded to the dtype for both, so what is measured is arithmetic alone. A dtype that an operation
/// does not take is left out.
pub(super) fn losses(checker: &Checker, dtypes: &[DType]) -> (Vec<Precision>, Vec<Precision>) {
    let (mut parameters, mut layers) = (Vec::new(), Vec::new());
    for &dtype in dtypes {
        let rounded: Vec<Tensor> = checker.arguments.iter().map(|x| converted(x, Some(dtype))).collect();
        let exact: Vec<Tensor> = rounded.iter().map(|x| converted(x, Some(DType::F64))).collect();
        let (Ok(low), Ok(high)) =
            (lift(&checker.program, &rounded, Some(dtype)), lift(&checker.program, &exact, Some(DType::F64)))
        else {
            continue;
        };
        let (low, high) = (eval_all(&low[1..]), eval_all(&high[1..]));
        let mut together: Vec<(&str, Difference)> = Vec::new();
        for (((path, _), low), high) in checker.parameters.iter().zip(&low).zip(&high) {
            let difference = Difference::between(&numbers(low), &numbers(high));
            parameters.push(difference.loss(path, dtype));
            match together.iter_mut().find(|(layer, _)| *layer == layer_of(path)) {
                Some((_, all)) => *all = all.with(difference),
                None => together.push((layer_of(path), difference)),
            }
        }
        layers.extend(together.into_iter().map(|(layer, all)| all.loss(layer, dtype)));
    }
    (parameters, layers)
}
