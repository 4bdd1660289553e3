//! L-BFGS: the inverse of the Hessian guessed from the last steps.

use super::wolfe::{Point, Search};
use super::{Ended, Form, Minimum, Tolerance, Walk, dot, largest, moved, negated, objective};
use chainrule::execute::ExecuteError;
use chainrule::tensor::Tensor;
use chainrule::tree::Tree;
use std::collections::VecDeque;

/// Limited-memory BFGS with a line search: D. Liu and J. Nocedal, "On the limited memory BFGS method for large scale
/// optimization", 1989. It takes the steps of PyTorch's `LBFGS` with `strong_wolfe`.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::minimize::{Ended, Lbfgs};
/// // Rosenbrock's valley.
/// let f = |(x, y): &(Tensor, Tensor)| (1.0 - x).square() + (y - x.square()).square() * 100.0;
/// let end = Lbfgs::default().minimize(f, &(Tensor::from(-1.2), Tensor::from(1.0))).unwrap();
/// assert_eq!(end.ended, Ended::Flat);
/// assert!((end.at.0.item::<f64>() - 1.0).abs() < 1e-6 && end.evaluations < 60);
/// ```
#[derive(Clone, Debug)]
pub struct Lbfgs {
    /// Steps at most.
    pub steps: usize,
    /// Steps remembered.
    pub history: usize,
    /// The end is where no element of the gradient is larger.
    pub gradient_tolerance: f64,
    /// The end is also where a step changes value or point by less.
    pub change_tolerance: f64,
    /// Evaluations in one search along a line at most.
    pub line_evaluations: usize,
}

impl Default for Lbfgs {
    fn default() -> Lbfgs {
        Lbfgs { steps: 200, history: 10, gradient_tolerance: 1e-7, change_tolerance: 1e-20, line_evaluations: 25 }
    }
}

/// The last changes s of the point and y of the gradient, with 1/(y·s).
#[derive(Default)]
struct Memory {
    pairs: VecDeque<(Vec<f64>, Vec<f64>, f64)>,
    scale: Option<f64>,
}

impl Memory {
    fn remember(&mut self, s: Vec<f64>, y: Vec<f64>, most: usize) {
        let curvature = dot(&y, &s);
        // Without curvature a step says nothing about the Hessian. Short steps near the end have little of it and still
        // do, as long as it is not rounding.
        let least = f64::min(1e-10, 1e-8 * (dot(&y, &y) * dot(&s, &s)).sqrt());
        if curvature <= least || most == 0 {
            return;
        }
        if self.pairs.len() == most {
            self.pairs.pop_front();
        }
        self.scale = Some(curvature / dot(&y, &y));
        self.pairs.push_back((s, y, 1.0 / curvature));
    }

    /// −H·g by the two loops.
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q = negated(gradient);
        let mut parts = Vec::with_capacity(self.pairs.len());
        for (s, y, inverse) in self.pairs.iter().rev() {
            let part = dot(s, &q) * inverse;
            q = moved(&q, -part, y);
            parts.push(part);
        }
        q.iter_mut().for_each(|q| *q *= self.scale.unwrap_or(1.0));
        for ((s, y, inverse), part) in self.pairs.iter().zip(parts.iter().rev()) {
            let back = dot(y, &q) * inverse;
            q = moved(&q, part - back, s);
        }
        q
    }
}

impl Lbfgs {
    /// Goes down from a point: a function of a tree whose value is one float. State leaves stay as they are.
    ///
    /// # Errors
    /// If the function's program fails.
    ///
    /// # Panics
    /// As [`value_and_grad`](chainrule::differentiate::value_and_grad).
    #[track_caller]
    pub fn minimize<T: Tree>(&self, f: impl Fn(&T) -> Tensor, start: &T) -> Result<Minimum<T>, ExecuteError> {
        let tolerance = Tolerance { gradient: self.gradient_tolerance, change: self.change_tolerance };
        let search = Search { evaluations: self.line_evaluations, narrow: self.change_tolerance };
        let (mut objective, x) = (objective(&f, start), Form::flat(start));
        let mut walk = Walk::begin(&mut objective, x)?;
        let mut ended = walk.beginning(tolerance);
        let mut memory = Memory::default();
        for step in 0..self.steps {
            if ended.is_some() {
                break;
            }
            let direction = memory.direction(&walk.gradient);
            let slope = dot(&walk.gradient, &direction);
            if slope > -tolerance.change || slope.is_nan() {
                ended = Some(Ended::NoProgress);
                break;
            }
            let total: f64 = walk.gradient.iter().map(|g| g.abs()).sum();
            let first = if step == 0 { (1.0 / total).min(1.0) } else { 1.0 };
            let here = Point { t: 0.0, value: walk.value, slope, gradient: walk.gradient.clone() };
            let size = largest(&direction);
            let to = search.run(&here, first, size, |t| objective.along(&walk.x, &direction, t))?;
            let change = direction.iter().map(|d| d * to.t).collect();
            ended = walk.go(&direction, to, tolerance);
            memory.remember(change, moved(&walk.gradient, -1.0, &here.gradient), self.history);
        }
        Ok(walk.end(objective, ended.unwrap_or(Ended::Steps)))
    }
}
