//! Derivatives from values alone: central differences, extrapolated to step 0 (Richardson; the table is Ridders').

/// Steps that are tried, each smaller than the one before by this factor.
const STEPS: usize = 40;
const FACTOR: f64 = 1.6;
/// How often the values are extrapolated; beyond this their rounding is all that is left.
const COLUMNS: usize = 8;

/// The points to evaluate for the derivative at x.
pub fn points(x: f64) -> Vec<f64> {
    steps(x).into_iter().flat_map(|h| [x - h, x + h]).collect()
}

fn steps(x: f64) -> Vec<f64> {
    let first = 0.05 * x.abs().clamp(0.2, f64::MAX);
    (0..STEPS).map(|i| first / FACTOR.powi(i as i32)).collect()
}

/// The derivative from the values at [`points`]: the entry of the table whose neighbours agree best.
pub fn slope(x: f64, values: &[f64]) -> f64 {
    let (mut best, mut error) = (f64::NAN, f64::INFINITY);
    let mut before: Vec<f64> = Vec::new();
    for (h, pair) in steps(x).into_iter().zip(values.chunks_exact(2)) {
        let step = (x + h) - (x - h);
        let mut row = vec![(pair[1] - pair[0]) / step];
        if !row[0].is_finite() {
            continue;
        }
        let mut factor = 1.0;
        for (place, &above) in before.iter().take(COLUMNS).enumerate() {
            factor *= FACTOR * FACTOR;
            let next = (row[place] * factor - above) / (factor - 1.0);
            let doubt = (next - row[place]).abs().max((next - above).abs());
            row.push(next);
            if doubt < error {
                (best, error) = (next, doubt);
            }
        }
        if best.is_nan() {
            best = row[0];
        }
        before = row;
    }
    best
}
