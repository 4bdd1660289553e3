//! Derivatives of a function of one number by differences, and how far they can be trusted.

/// A derivative and the error it may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    pub slope: f64,
    pub error: f64,
}

const LEVELS: usize = 12;
const SHRINK: f64 = 2.0;
/// A relative error that is small enough to stop at.
const ENOUGH: f64 = 1e-10;

/// Roundings of a value whose difference is taken, in units of its last place.
const ROUNDINGS: f64 = 4.0;

/// Richardson extrapolation (Ridders 1982): differences at ever smaller steps, of which those of the last one are
/// combined so that errors of ever higher order in the step cancel; the entry that changed least is taken. What rounding
/// of values of this size leaves of a difference counts as a change: over steps too short to be felt, all are 0.
fn extrapolate(difference: impl Fn(f64) -> f64, size: f64, first: f64, order: f64) -> Estimate {
    let mut best = Estimate { slope: difference(first), error: f64::INFINITY };
    let mut last = vec![best.slope];
    let mut step = first;
    for _ in 1..LEVELS {
        if best.error <= ENOUGH * best.slope.abs() {
            break;
        }
        step /= SHRINK;
        let mut row = vec![difference(step)];
        let mut factor = SHRINK.powf(order);
        for (j, &above) in last.iter().enumerate() {
            let next = (row[j] * factor - above) / (factor - 1.0);
            let rounding = ROUNDINGS * f64::EPSILON * size / step.abs();
            let error = (next - row[j]).abs().max((next - above).abs()).max(rounding);
            if error <= best.error {
                best = Estimate { slope: next, error };
            }
            factor *= SHRINK.powf(order);
            row.push(next);
        }
        last = row;
    }
    best
}

/// The derivative at 0 from both sides: (φ(h) − φ(−h)) / 2h, whose error has even powers of h only.
pub(super) fn central(phi: impl Fn(f64) -> f64, at_zero: f64, step: f64) -> Estimate {
    extrapolate(|h| (phi(h) - phi(-h)) / (2.0 * h), at_zero.abs(), step, 2.0)
}

/// The derivative at 0 from one side, the sign of `step`.
pub(super) fn one_sided(phi: impl Fn(f64) -> f64, at_zero: f64, step: f64) -> Estimate {
    extrapolate(|h| (phi(h) - at_zero) / h, at_zero.abs(), step, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smooth_functions_are_derived_to_many_digits() {
        type Row = (&'static str, fn(f64) -> f64, f64);
        let rows: [Row; 4] = [
            ("exp", |t| (1.0 + t).exp(), 1f64.exp()),
            ("sin", |t| (2.0 + t).sin(), 2f64.cos()),
            ("cube", |t| (3.0 + t).powi(3), 27.0),
            ("steep", |t| 1.0 / (0.05 + t), -400.0),
        ];
        for (name, f, slope) in rows {
            let found = central(f, f(0.0), 0.02);
            assert!((found.slope / slope - 1.0).abs() < 1e-9, "{name}: {found:?} for {slope}");
            let found = one_sided(f, f(0.0), 0.02);
            assert!((found.slope / slope - 1.0).abs() < 1e-6, "{name}: {found:?} for {slope}");
        }
    }

    #[test]
    fn steps_too_short_to_be_felt_are_not_taken_for_no_slope() {
        let flat = |t: f64| 2.7 + 3e-6 * t;
        let found = central(flat, flat(0.0), 3e-9);
        assert!((found.slope - 3e-6).abs() <= found.error && found.error > 1e-8, "{found:?}");
    }

    #[test]
    fn the_two_sides_of_a_kink_differ() {
        let kink = |t: f64| if t > 0.0 { 3.0 * t } else { t.sin() };
        assert!((one_sided(kink, 0.0, 0.1).slope - 3.0).abs() < 1e-9);
        assert!((one_sided(kink, 0.0, -0.1).slope - 1.0).abs() < 1e-9);
    }
}
