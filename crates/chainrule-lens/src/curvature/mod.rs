//! How curved the loss is: eigenvalues, trace and spectrum of its Hessian, the largest step that is stable, slices.
//!
//! The Hessian is never built. [`Curvature`] compiles its product with a vector once, in double precision whatever the
//! function's dtype, and every method asks for a few such products.

mod course;
mod lanczos;
mod products;
mod slice;

pub use course::{SharpnessPoint, sharpness_course};
pub use products::{Likelihood, empirical_fisher_product, fisher_product, gauss_newton_product};
pub use slice::{Slice, filter_direction, slice_line, slice_plane};

use crate::lift::{converted, lift};
use crate::place::numbers;
use chainrule::differentiate::{Unreached, gradient, hvp};
use chainrule::execute::{compile, eval_all};
use chainrule::program::{Program, capture};
use chainrule::tensor::{DType, Key, Op, Tensor};
use chainrule::tree::{self, Role, Tree};
use lanczos::Tridiagonal;
use serde::Serialize;

type Run = Box<dyn FnMut(Vec<Tensor>) -> Vec<Tensor>>;

/// The Hessian of a loss at a point, as something to multiply with.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::Curvature;
/// // ½ Σ aᵢxᵢ² has the eigenvalues a.
/// let a = Tensor::from([1.0f32, 10.0, -3.0]);
/// let mut curvature = Curvature::new(|x: &Tensor| (x.square() * &a).sum(..) * 0.5, &Tensor::from([1.0f32, 1.0, 1.0]));
/// let found = curvature.eigenvalues(2);
/// assert!((found.largest[0].value - 10.0).abs() < 1e-6 && (found.smallest[0].value + 3.0).abs() < 1e-6);
/// assert!((curvature.trace(4).mean - 8.0).abs() < 1e-6);
/// ```
pub struct Curvature {
    run: Run,
    /// Value and gradient.
    first_order: Program,
    arguments: Vec<Tensor>,
    shapes: Vec<Vec<usize>>,
    paths: Vec<String>,
    value: f64,
    slope: Vec<f64>,
    seed: u64,
}

/// An eigenvalue and how far it is from one: ‖H·v − λ·v‖.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Eigenvalue {
    /// λ.
    pub value: f64,
    /// ‖H·v − λ·v‖ for its unit vector v.
    pub residual: f64,
}

/// The ends of the spectrum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Eigenvalues {
    /// The largest, from the top down.
    pub largest: Vec<Eigenvalue>,
    /// The smallest, from the bottom up.
    pub smallest: Vec<Eigenvalue>,
    /// Products with the Hessian that it took.
    pub products: usize,
}

/// A mean of random probes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error; 0 for a single probe.
    pub standard_error: f64,
}

/// The distribution of eigenvalues as points with weights that sum to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spectrum {
    /// (eigenvalue, weight), the smallest first.
    pub points: Vec<(f64, f64)>,
    /// How many eigenvalues there are.
    pub dimension: usize,
}

/// How sharp the minimum is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sharpness {
    /// The loss.
    pub value: f64,
    /// Length of the gradient.
    pub gradient_norm: f64,
    /// The largest eigenvalue of the Hessian.
    pub largest: Eigenvalue,
    /// The smallest.
    pub smallest: Eigenvalue,
    /// The sum of all.
    pub trace: Estimate,
    /// Curvature along the gradient, gᵀHg / gᵀg.
    pub along_gradient: f64,
    /// Gradient descent is stable below this learning rate, 2/λ; none if nothing curves upwards.
    pub largest_stable_step: Option<f64>,
    /// The parameters that the sharpest direction lies in, by the share of its square; the largest first.
    pub sharpest: Vec<(String, f64)>,
}

impl Curvature {
    /// Compiles the Hessian's product of a function with one float as its result.
    ///
    /// # Panics
    /// Where [`grad`](chainrule::grad) does, other than for parameters that the result does not depend on.
    #[track_caller]
    pub fn new<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T) -> Curvature {
        let x = tree::rebuild(x, &eval_all(&tree::leaves(x)));
        let named = tree::named_leaves(&x);
        let parameters: Vec<usize> = (0..named.len()).filter(|&i| named[i].1 == Role::Parameter).collect();
        let directions: Vec<Tensor> =
            parameters.iter().map(|&i| Tensor::apply(Op::Input(named[i].2.ty().clone()), &[])).collect();
        let mut rest = directions.iter();
        let direction = tree::map_named(&x, |_, role, leaf| match role {
            Role::Parameter => rest.next().expect("one a parameter").clone(),
            Role::State => leaf.clone(),
        });
        let (value, (), slope) = match gradient(|x| (f(x), ()), &x, Unreached::Zeros) {
            Ok(result) => result,
            Err(error) => panic!("Curvature::new: {error}"),
        };
        let product = tree::leaves(&hvp(&f, &x, &direction));
        let inputs: Vec<(String, Tensor)> = named.iter().map(|leaf| (leaf.0.clone(), leaf.2.clone())).collect();
        let along = directions.iter().enumerate().map(|(i, d)| (format!("direction.{i}"), d.clone()));
        let with_directions: Vec<(String, Tensor)> = inputs.iter().cloned().chain(along).collect();
        let chosen = |leaves: &[Tensor]| parameters.iter().map(|&i| leaves[i].clone()).collect::<Vec<_>>();
        let program = captured("hvp", &with_directions, &chosen(&product));
        let slopes = [vec![value], chosen(&tree::leaves(&slope))].concat();
        let first_order = captured("gradient", &inputs, &slopes);
        let arguments: Vec<Tensor> = named.iter().map(|leaf| converted(&leaf.2, Some(DType::F64)).eval()).collect();
        let mut compiled = compile(move |leaves: &Vec<Tensor>| lifted(&program, leaves));
        let mut curvature = Curvature {
            run: Box::new(move |leaves| compiled.run(leaves).unwrap_or_else(|error| panic!("Curvature: {error}"))),
            arguments,
            shapes: parameters.iter().map(|&i| named[i].2.shape().to_vec()).collect(),
            paths: parameters.iter().map(|&i| named[i].0.clone()).collect(),
            value: 0.0,
            slope: Vec::new(),
            seed: 0,
            first_order,
        };
        curvature.settle();
        curvature
    }

    /// The same function at another point. Nothing is compiled again.
    ///
    /// # Panics
    /// If the point's leaves have other shapes.
    #[track_caller]
    pub fn move_to<T: Tree>(&mut self, x: &T) {
        let leaves = eval_all(&tree::leaves(x));
        let arguments: Vec<Tensor> = leaves.iter().map(|leaf| converted(leaf, Some(DType::F64)).eval()).collect();
        let same = arguments.len() == self.arguments.len()
            && arguments.iter().zip(&self.arguments).all(|(new, old)| new.ty() == old.ty());
        assert!(same, "Curvature::move_to: the point has leaves of other shapes than the first one");
        self.arguments = arguments;
        self.settle();
    }

    /// Value and gradient at the point.
    #[track_caller]
    fn settle(&mut self) {
        let slopes = eval_all(&lifted(&self.first_order, &self.arguments));
        self.value = numbers(&slopes[0])[0];
        self.slope = slopes[1..].iter().flat_map(numbers).collect();
    }

    /// Other random vectors than those of seed 0.
    pub fn with_seed(self, seed: u64) -> Curvature {
        Curvature { seed, ..self }
    }

    /// The number of parameters.
    pub fn dimension(&self) -> usize {
        self.shapes.iter().map(|shape| shape.iter().product::<usize>()).sum()
    }

    /// H·v over all parameters laid end to end.
    ///
    /// # Panics
    /// If the vector has not one number for each parameter.
    #[track_caller]
    pub fn product(&mut self, vector: &[f64]) -> Vec<f64> {
        assert!(vector.len() == self.dimension(), "product: {} numbers for {}", vector.len(), self.dimension());
        let mut arguments = self.arguments.clone();
        let mut rest = vector;
        for shape in &self.shapes {
            let (own, after) = rest.split_at(shape.iter().product());
            arguments.push(Tensor::from_vec(own, &shape[..]));
            rest = after;
        }
        (self.run)(arguments).iter().flat_map(numbers).collect()
    }

    fn random(&self, number: usize) -> Vec<f64> {
        let key = Key::new(self.seed).fold(&Tensor::from(number as i64));
        key.normal([self.dimension()], DType::F64).to_vec::<f64>()
    }

    fn lanczos(&mut self, first: Vec<f64>, steps: usize, done: impl FnMut(&Tridiagonal) -> bool) -> Tridiagonal {
        let (n, seed) = (self.dimension(), self.seed);
        let fresh = move |step: usize| {
            Key::new(seed ^ 0x5eed).fold(&Tensor::from(step as i64)).normal([n], DType::F64).to_vec::<f64>()
        };
        Tridiagonal::run(first, steps, |v| self.product(v), fresh, done)
    }

    /// The k largest and smallest eigenvalues by Lanczos' method, until each is within a millionth of the largest.
    pub fn eigenvalues(&mut self, k: usize) -> Eigenvalues {
        let small = self.extremes(k);
        let pairs = small.eigen();
        let one = |pair: &lanczos::Ritz| Eigenvalue { value: pair.value, residual: small.residual(pair) };
        Eigenvalues {
            largest: pairs.iter().rev().take(k).map(one).collect(),
            smallest: pairs.iter().take(k).map(one).collect(),
            products: small.diagonal.len(),
        }
    }

    fn extremes(&mut self, k: usize) -> Tridiagonal {
        const MOST: usize = 150;
        let first = self.random(0);
        self.lanczos(first, MOST, |small| {
            let steps = small.diagonal.len();
            if steps < 2 * k || steps % 5 != 0 {
                return false;
            }
            let pairs = small.eigen();
            let size = pairs.iter().map(|pair| pair.value.abs()).fold(0.0, f64::max);
            let ends = pairs.iter().take(k).chain(pairs.iter().rev().take(k));
            ends.into_iter().all(|pair| small.residual(pair) <= 1e-6 * size)
        })
    }

    /// The trace by Hutchinson's estimator: the mean of zᵀHz over vectors z of random signs.
    pub fn trace(&mut self, probes: usize) -> Estimate {
        let samples: Vec<f64> = (0..probes.max(1))
            .map(|probe| {
                let signs: Vec<f64> = self.random(1000 + probe).iter().map(|x| x.signum()).collect();
                self.product(&signs).iter().zip(&signs).map(|(h, z)| h * z).sum()
            })
            .collect();
        let n = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / n;
        let spread = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        Estimate { mean, standard_error: if n > 1.0 { (spread / (n - 1.0) / n).sqrt() } else { 0.0 } }
    }

    /// The distribution of eigenvalues by stochastic Lanczos quadrature (Ubaru et al. 2017): `steps` points from each of
    /// `probes` random vectors.
    pub fn spectrum(&mut self, probes: usize, steps: usize) -> Spectrum {
        let mut points = Vec::new();
        for probe in 0..probes.max(1) {
            let first = self.random(2000 + probe);
            let pairs = self.lanczos(first, steps, |_| false).eigen();
            points.extend(pairs.iter().map(|pair| (pair.value, pair.vector[0].powi(2) / probes.max(1) as f64)));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Spectrum { points, dimension: self.dimension() }
    }

    /// The ends of the spectrum, its trace, and what step they allow.
    pub fn sharpness(&mut self) -> Sharpness {
        let small = self.extremes(1);
        let pairs = small.eigen();
        let one = |pair: &lanczos::Ritz| Eigenvalue { value: pair.value, residual: small.residual(pair) };
        let (Some(bottom), Some(top)) = (pairs.first(), pairs.last()) else {
            panic!("sharpness: the function has no parameters")
        };
        let squares = |vector: &[f64]| vector.iter().map(|x| x * x).sum::<f64>();
        let direction = small.vector(top);
        let mut rest = &direction[..];
        let mut sharpest = Vec::new();
        for (path, shape) in self.paths.iter().zip(&self.shapes) {
            let (own, after) = rest.split_at(shape.iter().product());
            sharpest.push((path.clone(), squares(own) / squares(&direction)));
            rest = after;
        }
        sharpest.sort_by(|a, b| b.1.total_cmp(&a.1));
        let slope = self.slope.clone();
        let size = squares(&slope);
        let along: f64 = self.product(&slope).iter().zip(&slope).map(|(h, g)| h * g).sum();
        Sharpness {
            value: self.value,
            gradient_norm: size.sqrt(),
            largest: one(top),
            smallest: one(bottom),
            trace: self.trace(8),
            along_gradient: if size > 0.0 { along / size } else { 0.0 },
            largest_stable_step: (top.value > 0.0).then(|| 2.0 / top.value),
            sharpest,
        }
    }
}

/// [`Curvature::sharpness`] at once.
///
/// # Panics
/// As [`Curvature::new`].
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::sharpness;
/// let found = sharpness(|x: &Tensor| (x * 3.0).square().sum(..), &Tensor::from([1.0f32, -2.0]));
/// assert!((found.largest.value - 18.0).abs() < 1e-9);
/// assert!((found.largest_stable_step.unwrap() - 1.0 / 9.0).abs() < 1e-9);
/// ```
#[track_caller]
pub fn sharpness<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T) -> Sharpness {
    Curvature::new(f, x).sharpness()
}

impl Spectrum {
    /// The density at `points` positions over the whole range, each point spread over `width` of the range.
    pub fn density(&self, points: usize, width: f64) -> Vec<(f64, f64)> {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return vec![] };
        let range = (last.0 - first.0).max(f64::MIN_POSITIVE);
        let sigma = width * range;
        let (start, step) = (first.0 - 3.0 * sigma, (range + 6.0 * sigma) / (points.max(2) - 1) as f64);
        let normal = |x: f64| (-0.5 * x * x).exp() / (sigma * (2.0 * std::f64::consts::PI).sqrt());
        let at = |x: f64| self.points.iter().map(|(value, weight)| weight * normal((x - value) / sigma)).sum();
        (0..points).map(|i| start + i as f64 * step).map(|x| (x, at(x))).collect()
    }
}

impl std::fmt::Display for Spectrum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let density = self.density(24, 0.02);
        let highest = density.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
        for (x, y) in &density {
            // Few eigenvalues lie outside the bulk and they are the ones that matter: bars are logarithmic, to 1e-4.
            let length = (1.0 + (y / highest).max(1e-4).log10() / 4.0) * 50.0;
            writeln!(f, "{x:>12.4e} {}", "█".repeat(length.round() as usize))?;
        }
        write!(f, "  {} eigenvalues; bars are logarithmic", self.dimension)
    }
}

impl std::fmt::Display for Sharpness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "loss {:.6}, gradient {:.4e}", self.value, self.gradient_norm)?;
        writeln!(f, "  largest eigenvalue   {:>12.4e} ± {:.1e}", self.largest.value, self.largest.residual)?;
        writeln!(f, "  smallest eigenvalue  {:>12.4e} ± {:.1e}", self.smallest.value, self.smallest.residual)?;
        writeln!(f, "  trace                {:>12.4e} ± {:.1e}", self.trace.mean, self.trace.standard_error)?;
        writeln!(f, "  along the gradient   {:>12.4e}", self.along_gradient)?;
        match self.largest_stable_step {
            Some(step) => writeln!(f, "  gradient descent is stable below a learning rate of {step:.4e}")?,
            None => writeln!(f, "  nothing curves upwards")?,
        }
        let parts: Vec<String> =
            self.sharpest.iter().take(3).map(|(path, share)| format!("{path} ({:.0} %)", share * 100.0)).collect();
        write!(f, "  the sharpest direction lies in {}", parts.join(", "))
    }
}

#[track_caller]
fn captured(name: &str, inputs: &[(String, Tensor)], outputs: &[Tensor]) -> Program {
    match capture(name, inputs, outputs) {
        Ok(program) => program,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn lifted(program: &Program, leaves: &[Tensor]) -> Vec<Tensor> {
    match lift(program, leaves, Some(DType::F64)) {
        Ok(results) => results,
        Err(error) => panic!("Curvature: in f64: {error}"),
    }
}
