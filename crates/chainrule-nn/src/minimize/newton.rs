//! Newton's method whose linear systems are solved by conjugate gradients on Hessian-vector products.

use super::wolfe::{Point, Search};
use super::{Ended, Form, Minimum, Tolerance, Walk, dot, largest, moved, negated, objective};
use chainrule::differentiate::hvp;
use chainrule::execute::{ExecuteError, compile};
use chainrule::tensor::Tensor;
use chainrule::tree::Tree;

/// Truncated Newton: H·d = −g is solved as far as ‖H·d + g‖ ≤ min(0.1, √‖g‖)·‖g‖, or to the first direction of
/// negative curvature, which is taken with its sign turned, and a line search goes along d. The Hessian itself is never there.
///
/// J. Nocedal and S. Wright, *Numerical Optimization*, 2006, algorithm 7.1, but for the turned sign.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::minimize::{Ended, NewtonCg};
/// let f = |(x, y): &(Tensor, Tensor)| (1.0 - x).square() + (y - x.square()).square() * 100.0;
/// let end = NewtonCg::default().minimize(f, &(Tensor::from(-1.2), Tensor::from(1.0))).unwrap();
/// assert_eq!(end.ended, Ended::Flat, "{end:?}");
/// let steps = end.values.len();
/// assert!((end.at.1.item::<f64>() - 1.0).abs() < 1e-6 && steps < 30, "{steps} {end:?}");
/// ```
#[derive(Clone, Debug)]
pub struct NewtonCg {
    /// Steps at most.
    pub steps: usize,
    /// Products with the Hessian in one step at most; as many as there are parameters, if it is left out.
    pub products: Option<usize>,
    /// The end is where no element of the gradient is larger.
    pub gradient_tolerance: f64,
    /// The end is also where a step changes value or point by less.
    pub change_tolerance: f64,
    /// Evaluations in one search along a line at most.
    pub line_evaluations: usize,
}

impl Default for NewtonCg {
    fn default() -> NewtonCg {
        NewtonCg { steps: 100, products: None, gradient_tolerance: 1e-7, change_tolerance: 1e-20, line_evaluations: 25 }
    }
}

impl NewtonCg {
    /// Goes down from a point: a function of a tree whose value is one float. State leaves stay as they are.
    ///
    /// # Errors
    /// If the function's program fails.
    ///
    /// # Panics
    /// As [`hvp`].
    #[track_caller]
    pub fn minimize<T: Tree>(&self, f: impl Fn(&T) -> Tensor, start: &T) -> Result<Minimum<T>, ExecuteError> {
        let tolerance = Tolerance { gradient: self.gradient_tolerance, change: self.change_tolerance };
        let search = Search { evaluations: self.line_evaluations, narrow: self.change_tolerance };
        let mut curvature = compile(|(x, v): &(T, T)| hvp(&f, x, v));
        let (mut objective, x) = (objective(&f, start), Form::flat(start));
        let most = self.products.unwrap_or(x.len());
        let mut walk = Walk::begin(&mut objective, x)?;
        let mut ended = walk.beginning(tolerance);
        for _ in 0..self.steps {
            if ended.is_some() {
                break;
            }
            let product = |v: &[f64]| {
                let pair = (objective.form.tree(&walk.x), objective.form.tree(v));
                curvature.run(pair).map(|product| Form::flat(&product))
            };
            let direction = solve(&walk.gradient, most, product)?;
            let slope = dot(&walk.gradient, &direction);
            if slope >= 0.0 || slope.is_nan() {
                ended = Some(Ended::NoProgress);
                break;
            }
            let here = Point { t: 0.0, value: walk.value, slope, gradient: walk.gradient.clone() };
            let size = largest(&direction);
            let to = search.run(&here, 1.0, size, |t| objective.along(&walk.x, &direction, t))?;
            ended = walk.go(&direction, to, tolerance);
        }
        Ok(walk.end(objective, ended.unwrap_or(Ended::Steps)))
    }
}

/// d with H·d ≈ −g, a direction of descent.
fn solve<E>(
    gradient: &[f64],
    most: usize,
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>, E>,
) -> Result<Vec<f64>, E> {
    let norm = dot(gradient, gradient).sqrt();
    let enough = norm.sqrt().min(0.1) * norm;
    let mut solution = vec![0.0; gradient.len()];
    let mut residual = negated(gradient);
    let mut direction = residual.clone();
    let mut square = dot(&residual, &residual);
    for step in 0..most {
        let curved = product(&direction)?;
        let curvature = dot(&direction, &curved);
        if curvature == 0.0 || !curvature.is_finite() {
            return Ok(if step == 0 { residual } else { solution });
        }
        // Negative curvature is a way down, as far as if it were positive, and the last.
        let length = square / curvature.abs();
        solution = moved(&solution, length, &direction);
        if curvature < 0.0 {
            break;
        }
        residual = moved(&residual, -length, &curved);
        let next = dot(&residual, &residual);
        if next.sqrt() <= enough {
            break;
        }
        direction = moved(&residual, next / square, &direction);
        square = next;
    }
    Ok(solution)
}
