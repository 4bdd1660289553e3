//! The line search: a step that meets the strong Wolfe conditions, by bracketing and cubic interpolation.
//!
//! J. Nocedal and S. Wright, *Numerical Optimization*, 2006, algorithms 3.5 and 3.6; the safeguards are those of PyTorch's
//! L-BFGS, so that the same steps are taken.

/// A point on the line.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// How far along the direction.
    pub t: f64,
    /// The function.
    pub value: f64,
    /// Its derivative along the direction.
    pub slope: f64,
    /// Its gradient.
    pub gradient: Vec<f64>,
}

const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// The part of a value that may be an error of rounding.
const ROUNDING: f64 = 1e-14;

/// How far to search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    /// Evaluations at most.
    pub evaluations: usize,
    /// The interval in x that is not searched further.
    pub narrow: f64,
}

impl Search {
    /// The step from a point t = 0 where the slope is negative; `first` is tried first, and `size` is the largest
    /// element of the direction. Without a step that meets the conditions, the best one seen.
    pub fn run<E>(
        self,
        start: &Point,
        first: f64,
        size: f64,
        mut at: impl FnMut(f64) -> Result<Point, E>,
    ) -> Result<Point, E> {
        let (mut before, mut now) = (start.clone(), at(first)?);
        let mut used = 0;
        let (low, high) = loop {
            if used == self.evaluations {
                break ordered(start.clone(), now);
            }
            if good_by_slope(start, &now) {
                return Ok(now);
            }
            if above(start, &now) || (used > 1 && !below(&now, &before)) {
                break ordered(before, now);
            }
            if flat(start, &now) {
                return Ok(now);
            }
            if now.slope >= 0.0 {
                break ordered(before, now);
            }
            let next = cubic(&before, &now, (now.t + 0.01 * (now.t - before.t), now.t * 10.0));
            before = std::mem::replace(&mut now, at(next)?);
            used += 1;
        };
        self.zoom(start, (low, high), size, used, at)
    }

    /// Narrows a bracket whose first end is the lower one.
    fn zoom<E>(
        self,
        start: &Point,
        (mut low, mut high): (Point, Point),
        size: f64,
        mut used: usize,
        mut at: impl FnMut(f64) -> Result<Point, E>,
    ) -> Result<Point, E> {
        let mut near_the_end = false;
        while used < self.evaluations && (high.t - low.t).abs() * size >= self.narrow {
            let (left, right) = (low.t.min(high.t), low.t.max(high.t));
            let (a, b) = if low.t <= high.t { (&low, &high) } else { (&high, &low) };
            let mut t = cubic(a, b, (left, right));
            // Twice near an end of the bracket, or at it: a tenth of the bracket away from it.
            let margin = 0.1 * (right - left);
            let near = (right - t).min(t - left) < margin;
            if near && (near_the_end || t >= right || t <= left) {
                t = if (t - right).abs() < (t - left).abs() { right - margin } else { left + margin };
                near_the_end = false;
            } else {
                near_the_end = near;
            }
            let now = at(t)?;
            used += 1;
            if good_by_slope(start, &now) {
                return Ok(now);
            }
            if above(start, &now) || !below(&now, &low) {
                (low, high) = ordered(low, now);
            } else if flat(start, &now) {
                return Ok(now);
            } else {
                if now.slope * (high.t - low.t) >= 0.0 {
                    high = low;
                }
                low = now;
            }
        }
        Ok(low)
    }
}

/// Whether the function has not come down enough, or is not a number.
fn above(start: &Point, now: &Point) -> bool {
    !now.value.is_finite() || now.value > start.value + DECREASE * now.t * start.slope
}

/// Whether the values are equal but for rounding, so that they say nothing, and the slope says that the step is good
/// (W. Hager and H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search", 2005):
/// so the last digits of a gradient can be had.
fn good_by_slope(start: &Point, now: &Point) -> bool {
    let equal = (now.value - start.value).abs() <= ROUNDING * start.value.abs();
    equal && now.slope <= (2.0 * DECREASE - 1.0) * start.slope && flat(start, now)
}

fn below(now: &Point, other: &Point) -> bool {
    now.value < other.value
}

/// Whether the slope is small beside the first one.
fn flat(start: &Point, now: &Point) -> bool {
    now.slope.abs() <= -CURVATURE * start.slope
}

/// The lower one first.
fn ordered(a: Point, b: Point) -> (Point, Point) {
    if a.value <= b.value || !b.value.is_finite() { (a, b) } else { (b, a) }
}

/// The minimum of the cubic through two points, within bounds; their middle if it has none.
fn cubic(a: &Point, b: &Point, bounds: (f64, f64)) -> f64 {
    let first = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.t - b.t);
    let square = first * first - a.slope * b.slope;
    if square.is_nan() || square < 0.0 || square.is_infinite() {
        return (bounds.0 + bounds.1) / 2.0;
    }
    let root = square.sqrt();
    let (a, b) = if a.t <= b.t { (a, b) } else { (b, a) };
    let place = b.t - (b.t - a.t) * ((b.slope + root - first) / (b.slope - a.slope + 2.0 * root));
    if place.is_nan() { (bounds.0 + bounds.1) / 2.0 } else { place.max(bounds.0).min(bounds.1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn the_slope_decides_where_values_are_equal_but_for_rounding() {
        // A parabola on a high shelf: no value shows that 1e-9 is better than 0.
        let point = |t: f64| -> Result<Point, Infallible> {
            let t_off = t - 1e-9;
            Ok(Point { t, value: 1e3 + t_off * t_off, slope: 2.0 * t_off, gradient: vec![] })
        };
        let start = point(0.0).unwrap();
        let Ok(end) = Search { evaluations: 25, narrow: 0.0 }.run(&start, 1.5e-9, 1.0, point);
        assert!(end.t == 1.5e-9 && flat(&start, &end), "{end:?}");
    }

    #[test]
    fn steps_meet_the_conditions() {
        type Line = fn(f64) -> (f64, f64);
        let lines: [(&str, Line, f64); 4] = [
            ("parabola", |t| ((t - 3.0).powi(2), 2.0 * (t - 3.0)), 1.0),
            ("far away", |t| ((t - 3e3).powi(2), 2.0 * (t - 3e3)), 1e-2),
            ("quartic", |t| ((t - 1.0).powi(4) + t, 4.0 * (t - 1.0).powi(3) + 1.0), 10.0),
            ("a wall", |t| (t * t - 2.0 * t - 0.1 * (1.0 - t).ln(), 2.0 * t - 2.0 + 0.1 / (1.0 - t)), 5.0),
        ];
        for (name, line, first) in lines {
            let point = |t: f64| -> Result<Point, Infallible> {
                let (value, slope) = line(t);
                Ok(Point { t, value, slope, gradient: vec![] })
            };
            let start = point(0.0).unwrap();
            let search = Search { evaluations: 25, narrow: 1e-12 };
            let Ok(end) = search.run(&start, first, 1.0, point);
            assert!(!above(&start, &end), "{name}: {end:?}");
            assert!(flat(&start, &end), "{name}: {end:?}");
        }
    }
}
