//! Minimising a function of a tree to the end: methods that evaluate it several times in a step and are sure of each.
//!
//! [`Lbfgs`] needs gradients, [`NewtonCg`] also products with the Hessian; both go along a direction as far as the strong
//! Wolfe conditions ask. The function and its derivatives are compiled once; what is between them is done here in f64,
//! over the parameters as one vector. For functions that are the same at each call: no batches, no dropout.

mod lbfgs;
mod newton;
mod wolfe;

pub use lbfgs::Lbfgs;
pub use newton::NewtonCg;

use chainrule::differentiate::value_and_grad;
use chainrule::execute::{Compiled, ExecuteError, compile, eval_all};
use chainrule::tensor::{DType, Tensor};
use chainrule::tree::{self, Role, Tree};
use wolfe::Point;

/// Where a minimisation ended.
#[derive(Clone, Debug)]
pub struct Minimum<T> {
    /// The best point.
    pub at: T,
    /// The function there.
    pub value: f64,
    /// The largest element of the gradient there.
    pub slope: f64,
    /// The function before each step.
    pub values: Vec<f64>,
    /// How often the function and its gradient were computed.
    pub evaluations: usize,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a minimisation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// No element of the gradient is larger than the tolerance.
    Flat,
    /// A step changed the value, or the point, by less than the tolerance.
    NoProgress,
    /// All steps were taken.
    Steps,
    /// The function is not finite where it began.
    NotFinite,
}

/// The parameters of a tree as one vector, and back.
struct Form<T>(T);

impl<T: Tree> Form<T> {
    fn flat(tree: &T) -> Vec<f64> {
        let parameters = tree::named_leaves(tree).into_iter().filter(|leaf| leaf.1 == Role::Parameter);
        let wide: Vec<Tensor> = parameters.map(|leaf| leaf.2.cast(DType::F64)).collect();
        eval_all(&wide).iter().flat_map(|leaf| leaf.to_vec::<f64>()).collect()
    }

    fn tree(&self, x: &[f64]) -> T {
        let mut rest = x;
        tree::map_named(&self.0, |_, role, leaf| match role {
            Role::Parameter => {
                let (here, after) = rest.split_at(leaf.numel());
                rest = after;
                Tensor::from_vec(here, leaf.shape()).cast(leaf.dtype()).eval()
            }
            Role::State => leaf.clone(),
        })
    }
}

/// A function with its gradient, on vectors.
struct Objective<T: Tree, F: Fn(&T) -> (Tensor, T)> {
    form: Form<T>,
    program: Compiled<T, (Tensor, T), F>,
    evaluations: usize,
}

/// The objective of a function, in the form of a tree.
fn objective<T: Tree>(f: &impl Fn(&T) -> Tensor, start: &T) -> Objective<T, impl Fn(&T) -> (Tensor, T)> {
    let form = Form(tree::map(start, Tensor::eval));
    Objective { form, program: compile(move |x: &T| value_and_grad(f, x)), evaluations: 0 }
}

impl<T: Tree, F: Fn(&T) -> (Tensor, T)> Objective<T, F> {
    fn at(&mut self, x: &[f64]) -> Result<(f64, Vec<f64>), ExecuteError> {
        self.evaluations += 1;
        let (value, gradient) = self.program.run(self.form.tree(x))?;
        Ok((value.cast(DType::F64).item::<f64>(), Form::flat(&gradient)))
    }

    /// The point x + t·d.
    fn along(&mut self, x: &[f64], direction: &[f64], t: f64) -> Result<Point, ExecuteError> {
        let (value, gradient) = self.at(&moved(x, t, direction))?;
        Ok(Point { t, value, slope: dot(&gradient, direction), gradient })
    }
}

/// What both methods have: where they are, and when they end.
struct Walk {
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
    values: Vec<f64>,
}

/// When a walk ends.
#[derive(Clone, Copy)]
struct Tolerance {
    gradient: f64,
    change: f64,
}

impl Walk {
    fn begin<T: Tree, F: Fn(&T) -> (Tensor, T)>(
        objective: &mut Objective<T, F>,
        x: Vec<f64>,
    ) -> Result<Walk, ExecuteError> {
        let (value, gradient) = objective.at(&x)?;
        Ok(Walk { x, value, gradient, values: Vec::new() })
    }

    fn beginning(&self, tolerance: Tolerance) -> Option<Ended> {
        match self.value.is_finite() && self.gradient.iter().all(|g| g.is_finite()) {
            false => Some(Ended::NotFinite),
            true => (largest(&self.gradient) <= tolerance.gradient).then_some(Ended::Flat),
        }
    }

    /// Goes to a point along a direction.
    fn go(&mut self, direction: &[f64], to: Point, tolerance: Tolerance) -> Option<Ended> {
        self.values.push(self.value);
        let change = (to.value - self.value).abs();
        self.x = moved(&self.x, to.t, direction);
        (self.value, self.gradient) = (to.value, to.gradient);
        let still = largest(direction) * to.t.abs() <= tolerance.change || change < tolerance.change;
        match largest(&self.gradient) <= tolerance.gradient {
            true => Some(Ended::Flat),
            false => still.then_some(Ended::NoProgress),
        }
    }

    fn end<T: Tree, F: Fn(&T) -> (Tensor, T)>(self, objective: Objective<T, F>, ended: Ended) -> Minimum<T> {
        Minimum {
            at: objective.form.tree(&self.x),
            value: self.value,
            slope: largest(&self.gradient),
            values: self.values,
            evaluations: objective.evaluations,
            ended,
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// x + t·d.
fn moved(x: &[f64], t: f64, d: &[f64]) -> Vec<f64> {
    x.iter().zip(d).map(|(x, d)| x + t * d).collect()
}

fn negated(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| -x).collect()
}

/// The largest |xᵢ|; NaN if there is one.
fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |most, x| if x.abs() > most || x.is_nan() { x.abs() } else { most })
}
