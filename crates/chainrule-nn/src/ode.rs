//! Ordinary differential equations y' = f(t, y), solved with steps of a fixed size.
//!
//! A solution is an expression like any other: a loop of explicit Runge–Kutta steps. Its derivatives, of any order, in
//! both modes, are those of the computed solution, not of the equation. Steps are given, not chosen: what adapts its
//! step would depend on values, and a program does not. Stiff equations need methods that are not here.

use chainrule::tensor::{DType, Tensor, concat, scan};
use chainrule::tree::{self, Tree};

/// An explicit Runge–Kutta method by its table: kᵢ = f(t + cᵢ·h, y + h·Σⱼ aᵢⱼ·kⱼ), then y + h·Σᵢ bᵢ·kᵢ.
///
/// E. Hairer, S. Nørsett and G. Wanner, *Solving Ordinary Differential Equations I*, 1993, chapter II.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::ode::RungeKutta;
/// // y' = a·y from 1: y(1) = eᵃ, and its derivative by a is eᵃ too.
/// let end = |a: &Tensor| {
///     let times = Tensor::linspace(0.0, 1.0, 21, DType::F64);
///     RungeKutta::CLASSIC.solve(|_, y: &Tensor| y * a, &Tensor::from(1.0), &times, 1).at(-1)
/// };
/// let (y, slope) = value_and_grad(end, &Tensor::from(1.0));
/// assert!((y.item::<f64>() - 1f64.exp()).abs() < 1e-6);
/// assert!((slope.item::<f64>() - 1f64.exp()).abs() < 1e-5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RungeKutta {
    /// cᵢ, the part of a step at which each slope is taken; the first is 0.
    pub nodes: &'static [f64],
    /// aᵢⱼ, a row for each slope after the first.
    pub rows: &'static [&'static [f64]],
    /// bᵢ, what each slope counts.
    pub weights: &'static [f64],
}

impl RungeKutta {
    /// Euler's method, of order 1.
    pub const EULER: RungeKutta = RungeKutta { nodes: &[0.0], rows: &[], weights: &[1.0] };
    /// The midpoint method, of order 2.
    pub const MIDPOINT: RungeKutta = RungeKutta { nodes: &[0.0, 0.5], rows: &[&[0.5]], weights: &[0.0, 1.0] };
    /// The classical method of Runge and Kutta, of order 4.
    pub const CLASSIC: RungeKutta = RungeKutta {
        nodes: &[0.0, 0.5, 0.5, 1.0],
        rows: &[&[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
        weights: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
    };

    /// The state after one step of size h from time t, both `[]`.
    ///
    /// # Panics
    /// If f changes the shape of the state.
    #[track_caller]
    pub fn step<T: Tree>(&self, f: impl Fn(&Tensor, &T) -> T, t: &Tensor, state: &T, h: &Tensor) -> T {
        let mut slopes = vec![f(t, state)];
        for (node, row) in self.nodes[1..].iter().zip(self.rows) {
            let at = moved(state, row, &slopes, h);
            slopes.push(f(&(t + h * *node), &at));
        }
        moved(state, self.weights, &slopes, h)
    }

    /// The states at all times `[n]`, stacked along a new first axis: the first is the start, and between each two
    /// times lie so many steps of equal size. What f captures is differentiated too.
    ///
    /// The backward pass keeps all slopes of all steps; with f inside a
    /// [`checkpoint`](chainrule::differentiate::checkpoint) it keeps the states and computes f again.
    ///
    /// # Panics
    /// If there are no times or no steps between them, or f changes the shape of the state.
    #[track_caller]
    pub fn solve<T: Tree>(&self, f: impl Fn(&Tensor, &T) -> T, start: &T, times: &Tensor, steps: usize) -> T {
        assert!(
            times.rank() == 1 && times.numel() > 0,
            "ode: times are {}; they must be [n], at least one",
            times.ty()
        );
        assert!(steps > 0, "ode: no steps between two times");
        let intervals = times.numel() - 1;
        let first = tree::map(start, |y| y.unsqueeze(0));
        if intervals == 0 {
            return first;
        }
        let begins = times.narrow(0, 0, intervals);
        let sizes = (times.narrow(0, 1, intervals) - &begins) / steps as f64;
        let advance = |state: &T, (t, h): &(Tensor, Tensor)| {
            let step = |state: T, n: usize| self.step(&f, &(t + h * n as f64), &state, h);
            let next = (0..steps).fold(tree::map(state, Tensor::clone), step);
            (tree::map(&next, Tensor::clone), next)
        };
        let (_, rest) = scan(advance, start, &(begins, sizes));
        tree::zip_map(&first, &rest, |first, rest| concat(&[first, rest], 0))
    }
}

/// y + h·Σ wᵢ·kᵢ.
#[track_caller]
fn moved<T: Tree>(state: &T, weights: &[f64], slopes: &[T], h: &Tensor) -> T {
    let used = weights.iter().zip(slopes).filter(|(weight, _)| **weight != 0.0);
    let each = used.map(|(weight, slope)| tree::map(slope, |k| k * *weight));
    match each.reduce(|a, b| tree::zip_map(&a, &b, |a, b| a + b)) {
        Some(sum) => tree::zip_map(state, &sum, |y, k| y + k * as_type(h, k.dtype())),
        None => tree::map(state, Tensor::clone),
    }
}

fn as_type(h: &Tensor, dtype: DType) -> Tensor {
    if h.dtype() == dtype { h.clone() } else { h.cast(dtype) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chainrule::prelude::*;

    /// The error at time 2 of an oscillator whose force changes with time: u'' = −u + 2·cos t from (0, 0) is t·sin t.
    fn error(method: RungeKutta, intervals: usize, steps: usize) -> f64 {
        let times = Tensor::linspace(0.0, 2.0, intervals + 1, DType::F64);
        let f = |t: &Tensor, (u, v): &(Tensor, Tensor)| (v.clone(), t.cos() * 2.0 - u);
        let (u, _) = method.solve(f, &(Tensor::from(0.0), Tensor::from(0.0)), &times, steps);
        assert_eq!(u.shape(), [intervals + 1]);
        (u.at(-1).item::<f64>() - 2.0 * 2f64.sin()).abs()
    }

    #[test]
    fn halving_the_step_divides_the_error_as_the_order_says() {
        let mut wrong = Vec::new();
        let methods = [("euler", RungeKutta::EULER, 1), ("midpoint", RungeKutta::MIDPOINT, 2)];
        for (name, method, order) in methods.into_iter().chain([("classic", RungeKutta::CLASSIC, 4)]) {
            let ratio = error(method, 20, 2) / error(method, 20, 4);
            if (ratio.log2() - f64::from(order)).abs() > 0.25 {
                wrong.push(format!("{name}: {ratio}, and its order is {order}"));
            }
            // Steps between times are steps.
            let (inner, outer) = (error(method, 10, 4), error(method, 40, 1));
            if (inner - outer).abs() > 1e-12 {
                wrong.push(format!("{name}: {inner} and {outer}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn derivatives_by_start_and_by_what_is_captured_are_those_of_finite_differences() {
        let times = Tensor::from([0.0, 0.3, 1.0]);
        // u' = −a·u³ + t, in a checkpoint: nothing but states is kept.
        let end = |(a, start): &(Tensor, Tensor)| {
            let f = |t: &Tensor, u: &Tensor| {
                checkpoint(|(a, t, u): &(Tensor, Tensor, Tensor)| t - a * u * u * u, &(a.clone(), t.clone(), u.clone()))
            };
            RungeKutta::CLASSIC.solve(f, start, &times, 3).square().sum(..)
        };
        let at = |a: f64, start: f64| (Tensor::from(a), Tensor::from(start));
        let value = |a: f64, start: f64| end(&at(a, start)).item::<f64>();
        let slope = grad(end, &at(0.7, 1.2));
        let h = 1e-5;
        let by_a = (value(0.7 + h, 1.2) - value(0.7 - h, 1.2)) / (2.0 * h);
        let by_start = (value(0.7, 1.2 + h) - value(0.7, 1.2 - h)) / (2.0 * h);
        assert!((slope.0.item::<f64>() - by_a).abs() < 1e-8, "{} and {by_a}", slope.0.item::<f64>());
        assert!((slope.1.item::<f64>() - by_start).abs() < 1e-8, "{} and {by_start}", slope.1.item::<f64>());
    }

    #[test]
    fn one_time_is_the_start_and_none_is_an_error() {
        let zero = |_: &Tensor, y: &Tensor| y.zeros_like();
        let alone = RungeKutta::EULER.solve(zero, &Tensor::from([1.0, 2.0]), &Tensor::from([5.0]), 1);
        assert_eq!((alone.shape(), alone.to_vec::<f64>()), (&[1, 2][..], vec![1.0, 2.0]));
        let none = || RungeKutta::EULER.solve(zero, &Tensor::from(1.0), &Tensor::zeros([0], DType::F64), 1);
        assert!(std::panic::catch_unwind(none).is_err());
    }
}
