//! Is this gradient right?
//!
//! The function's own derivative program is taken to double precision and held against Richardson-extrapolated
//! differences of the function's program, along random directions of every parameter, and against forward mode. Where
//! they differ there are three answers. The function has a kink there (relu, max, |x|): both one-sided slopes are
//! given, and the derivative's choice is right if it lies between them. A custom derivative states something else than
//! its function does: each is checked alone, with its line. Or the function cuts gradients on purpose
//! (`stop_gradient`) or is flat by decree (`floor`, `sign`): those lines are listed.
//!
//! Beside it stands what f32 and bf16 lose of the same gradient.

mod differences;
mod kinks;
mod precision;
mod report;

pub use report::{Coordinate, CustomCheck, GradientCheck, Kink, LeafCheck, Precision, Status};

use crate::lift::{converted, lift};
use crate::place::{Number, Place, index_of, numbers};
use chainrule::differentiate::{Unreached, gradient, push};
use chainrule::execute::{compile, eval_all};
use chainrule::program::{Program, capture};
use chainrule::tensor::{CallKind, DType, Op, Tensor};
use chainrule::tree::{self, Role, Tree};
use differences::{Estimate, central, one_sided};
use std::cell::{Cell, RefCell};

/// How thoroughly to look.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Random directions for each parameter.
    pub directions: usize,
    /// The relative error that is still right.
    pub tolerance: f64,
    /// Elements of a wrong parameter that are looked at one by one; of one on a kink, a quarter of them.
    pub coordinates: usize,
    /// Dtypes whose gradients are held against f64.
    pub precisions: Vec<DType>,
    /// The seed of the directions.
    pub seed: u64,
}

impl Default for CheckOptions {
    fn default() -> CheckOptions {
        let precisions = vec![DType::F32, DType::BF16];
        CheckOptions { directions: 2, tolerance: 1e-6, coordinates: 64, precisions, seed: 0 }
    }
}

/// Checks the gradient of a function with one float as its result, at this point.
///
/// # Panics
/// Where [`grad`](chainrule::grad) does, other than for parameters that the result does not depend on.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::{check_gradients, check::Status};
/// let x = Tensor::from([0.5f32, -1.5]);
/// let check = check_gradients(|x: &Tensor| (x.sin() * x).sum(..), &x);
/// assert_eq!(check.status, Status::Right);
///
/// // A derivative that forgets the inner factor 2.
/// let wrong = |x: &Tensor| {
///     custom_derivative(|x: &Tensor| (x * 2.0).exp(), |_, y: &Tensor, t| y * t, x).sum(..)
/// };
/// let check = check_gradients(wrong, &x);
/// assert_eq!(check.status, Status::Wrong);
/// assert!(check.custom[0].relative_error > 0.4);
/// ```
#[track_caller]
pub fn check_gradients<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T) -> GradientCheck {
    check_gradients_with(&CheckOptions::default(), f, x)
}

/// [`check_gradients`] with options.
///
/// # Panics
/// As [`check_gradients`].
#[track_caller]
pub fn check_gradients_with<T: Tree>(options: &CheckOptions, f: impl Fn(&T) -> Tensor, x: &T) -> GradientCheck {
    let x = tree::rebuild(x, &eval_all(&tree::leaves(x)));
    let (value, (), slopes) = match gradient(|x| (f(x), ()), &x, Unreached::Zeros) {
        Ok(result) => result,
        Err(error) => panic!("check_gradients: {error}"),
    };
    let checker = Checker::new(options, &x, &value, &slopes);
    let leaves = checker.leaves();
    let kinked = leaves.iter().any(|leaf| leaf.status == Status::Kink);
    let wrong = leaves.iter().any(|leaf| leaf.status == Status::Wrong);
    let forward_reverse = leaves.iter().map(|leaf| leaf.forward_reverse.0).fold(0.0, f64::max);
    let status = match (wrong, kinked) {
        _ if forward_reverse > options.tolerance => Status::ModesDiffer,
        (true, _) => Status::Wrong,
        (false, true) => Status::Kink,
        (false, false) => Status::Right,
    };
    let (precision, layers) = precision::losses(&checker, &options.precisions);
    GradientCheck {
        value: Number(checker.value),
        status,
        kinks: if kinked { checker.kinks.clone() } else { vec![] },
        custom: custom(options, &value),
        cut: if wrong { kinks::cuts(&value) } else { vec![] },
        precision,
        layers,
        leaves,
    }
}

/// A function's value, gradient and tangent as programs.
struct Checker<'a> {
    options: &'a CheckOptions,
    /// Arguments to (value, gradient of each parameter).
    program: Program,
    /// Arguments to the value.
    forward: Program,
    /// Where the value stands on a kink.
    kinks: Vec<Kink>,
    /// Arguments and directions to the tangent, if the value depends on the parameters.
    tangent: Option<Program>,
    arguments: Vec<Tensor>,
    /// Path and place among the arguments.
    parameters: Vec<(String, usize)>,
    value: f64,
    /// The gradient of each parameter in double precision.
    slopes: Vec<Vec<f64>>,
    /// Which of [`WAYS`] was short enough last.
    way: Cell<usize>,
}

/// Parts of the usual length of a difference: among many ReLUs a way of usual length crosses the kinks of some, and no
/// difference over it is a derivative.
const WAYS: [f64; 3] = [1.0, 1e-2, 1e-4];

impl<'a> Checker<'a> {
    #[track_caller]
    fn new<T: Tree>(options: &'a CheckOptions, x: &T, value: &Tensor, slopes: &T) -> Checker<'a> {
        let named = tree::named_leaves(x);
        let arguments: Vec<Tensor> = named.iter().map(|leaf| leaf.2.clone()).collect();
        let inputs: Vec<(String, Tensor)> = named.iter().map(|leaf| (leaf.0.clone(), leaf.2.clone())).collect();
        let is_parameter = |&place: &usize| named[place].1 == Role::Parameter;
        let parameters: Vec<(String, usize)> =
            (0..named.len()).filter(is_parameter).map(|place| (named[place].0.clone(), place)).collect();
        let slopes = tree::leaves(slopes);
        let outputs = std::iter::once(value.clone()).chain(parameters.iter().map(|&(_, i)| slopes[i].clone()));
        let program = known(capture("checked", &inputs, &outputs.collect::<Vec<_>>()));
        let forward = known(capture("checked", &inputs, std::slice::from_ref(value)));
        let kinks = kinks::at(&forward, &arguments);
        let tangent = tangent_of(&inputs, &parameters, value);
        let doubles: Vec<Tensor> = arguments.iter().map(|x| converted(x, Some(DType::F64))).collect();
        let results = eval_all(&fits(lift(&program, &doubles, Some(DType::F64))));
        let slopes = results[1..].iter().map(numbers).collect();
        let value = numbers(&results[0])[0];
        Checker { options, program, forward, kinks, tangent, arguments, parameters, value, slopes, way: Cell::new(0) }
    }

    fn leaves(&self) -> Vec<LeafCheck> {
        let run = compile(|leaves: &Vec<Tensor>| fits(lift(&self.forward, leaves, Some(DType::F64))));
        let run = RefCell::new(run);
        let base: Vec<Tensor> = self.arguments.iter().map(|x| converted(x, Some(DType::F64)).eval()).collect();
        let base = &base;
        let along = |place: usize, direction: &[f64], t: f64| -> f64 {
            let mut arguments = base.clone();
            if t != 0.0 {
                let moved: Vec<f64> = numbers(&base[place]).iter().zip(direction).map(|(x, d)| x + t * d).collect();
                arguments[place] = Tensor::from_vec(moved, base[place].shape());
            }
            match run.borrow_mut().run(arguments) {
                Ok(results) => results[0].item::<f64>(),
                Err(error) => panic!("check_gradients: {error}"),
            }
        };
        let at_zero = self.parameters.first().map_or(self.value, |&(_, place)| along(place, &[], 0.0));
        let pushed = self
            .tangent
            .as_ref()
            .map(|tangent| RefCell::new(compile(|leaves: &Vec<Tensor>| fits(lift(tangent, leaves, Some(DType::F64))))));
        let forward = |place: usize, direction: &[f64]| -> Option<f64> {
            let mut arguments = base.clone();
            arguments.extend(self.parameters.iter().map(|&(_, other)| match other == place {
                true => Tensor::from_vec(direction, base[other].shape()),
                false => base[other].zeros_like(),
            }));
            match pushed.as_ref()?.borrow_mut().run(arguments) {
                Ok(tangent) => Some(tangent[0].item::<f64>()),
                Err(error) => panic!("check_gradients: {error}"),
            }
        };
        let along = Along { value: &along, at_zero };
        (0..self.parameters.len()).map(|parameter| self.leaf(parameter, base, &along, &forward)).collect()
    }

    /// One parameter, by the value along directions from here, and by forward mode's derivative along them.
    fn leaf(
        &self,
        parameter: usize,
        base: &[Tensor],
        along: &Along<'_>,
        forward: &dyn Fn(usize, &[f64]) -> Option<f64>,
    ) -> LeafCheck {
        let (path, place) = &self.parameters[parameter];
        let slopes = &self.slopes[parameter];
        let mut worst: Option<Comparison> = None;
        let mut modes = 0f64;
        for draw in 0..self.options.directions.max(1) {
            let direction = random(base[*place].shape(), self.options.seed, parameter * 1000 + draw);
            let slope: f64 = direction.iter().zip(slopes).map(|(d, g)| d * g).sum();
            modes = modes.max(forward(*place, &direction).map_or(0.0, |tangent| self.mode_difference(tangent, slope)));
            let compared =
                self.compare(slope, scale(&base[*place]), along.at_zero, |t| (along.value)(*place, &direction, t));
            if worst.as_ref().is_none_or(|worst| compared.badness() > worst.badness()) {
                worst = Some(compared);
            }
        }
        let worst = worst.expect("at least one direction");
        let coordinate = match worst.status {
            Status::Right => None,
            Status::Kink => self.worst_coordinate(parameter, base, along, self.options.coordinates.div_ceil(4)),
            _ => self.worst_coordinate(parameter, base, along, self.options.coordinates),
        };
        LeafCheck {
            path: path.clone(),
            ty: self.arguments[*place].ty().to_string(),
            line: self.line(*place),
            status: worst.status,
            derivative: Number(worst.derived),
            differences: Number(worst.numeric.slope),
            relative_error: Number(worst.relative()),
            forward_reverse: Number(modes),
            worst: coordinate,
        }
    }

    /// The user's line that reads an argument first.
    fn line(&self, place: usize) -> Option<Place> {
        let value = self.forward.inputs[place].1;
        let mut readers = self.forward.instructions.iter().filter(|instruction| instruction.inputs.contains(&value));
        readers.next().map(|reader| reader.origin.into())
    }

    /// Forward mode along a direction against the gradient's product with it, relative to the larger.
    fn mode_difference(&self, forward: f64, slope: f64) -> f64 {
        let size = forward.abs().max(slope.abs()).max(1e-10 * (1.0 + self.value.abs()));
        (forward - slope).abs() / size
    }

    /// One derivative against differences, over other ways where it seems wrong.
    fn compare(&self, derived: f64, step: f64, at_zero: f64, phi: impl Fn(f64) -> f64) -> Comparison {
        let first = self.way.get();
        let mut found = self.compare_over(derived, step * WAYS[first], at_zero, &phi);
        for way in (0..WAYS.len()).filter(|&way| way != first) {
            if found.status == Status::Wrong {
                found = self.compare_over(derived, step * WAYS[way], at_zero, &phi);
                if found.status != Status::Wrong {
                    self.way.set(way);
                }
            }
        }
        found
    }

    fn compare_over(&self, derived: f64, step: f64, at_zero: f64, phi: impl Fn(f64) -> f64) -> Comparison {
        let floor = 1e-9 * (1.0 + self.value.abs());
        let right = |numeric: Estimate, derived: f64| {
            let allowed =
                self.options.tolerance * derived.abs().max(numeric.slope.abs()) + 10.0 * numeric.error + floor;
            (numeric.slope - derived).abs() <= allowed
        };
        let numeric = central(&phi, at_zero, step);
        let both = Comparison { derived, numeric, sides: None, status: Status::Right };
        // A difference over both sides has the mean slope of a kink, which may be the derivative given.
        if self.kinks.is_empty() && right(numeric, derived) && numeric.error <= 1e-3 * (derived.abs() + floor) {
            return both;
        }
        let (left, right_side) = (one_sided(&phi, at_zero, -step), one_sided(&phi, at_zero, step));
        let apart = (left.slope - right_side.slope).abs();
        let sides = Some((left.slope, right_side.slope));
        let noise = 10.0 * (left.error + right_side.error) + floor;
        if apart > noise.max(1e-4 * left.slope.abs().max(right_side.slope.abs())) {
            let (low, high) = (left.slope.min(right_side.slope), left.slope.max(right_side.slope));
            let between = derived >= low - noise && derived <= high + noise;
            return Comparison { sides, status: if between { Status::Kink } else { Status::Wrong }, ..both };
        }
        let status = if right(numeric, derived) { Status::Right } else { Status::Wrong };
        Comparison { sides, status, ..both }
    }

    /// The element whose derivative is most wrong, among those with the largest gradients and others drawn at random.
    fn worst_coordinate(
        &self,
        parameter: usize,
        base: &[Tensor],
        along: &Along<'_>,
        count: usize,
    ) -> Option<Coordinate> {
        let (_, place) = self.parameters[parameter];
        let slopes = &self.slopes[parameter];
        let mut order: Vec<usize> = (0..slopes.len()).collect();
        order.sort_by(|&a, &b| slopes[b].abs().total_cmp(&slopes[a].abs()));
        let half = count.div_ceil(2);
        if order.len() > count {
            let rest = order.split_off(half);
            let stride = (rest.len() / half.max(1)).max(1);
            order.extend(rest.into_iter().step_by(stride).take(half));
        }
        let x = &base[place];
        let compared = order.into_iter().map(|at| {
            let mut direction = vec![0.0; slopes.len()];
            direction[at] = 1.0;
            (at, self.compare(slopes[at], scale(x), along.at_zero, |t| (along.value)(place, &direction, t)))
        });
        let (at, worst) = compared.max_by(|a, b| a.1.badness().total_cmp(&b.1.badness()))?;
        Some(Coordinate {
            index: index_of(x.shape(), at),
            at: Number(numbers(x)[at]),
            derivative: Number(worst.derived),
            differences: Number(worst.numeric.slope),
            left: worst.sides.map(|sides| Number(sides.0)),
            right: worst.sides.map(|sides| Number(sides.1)),
        })
    }
}

/// The value from here along directions of a parameter.
struct Along<'a> {
    value: &'a dyn Fn(usize, &[f64], f64) -> f64,
    at_zero: f64,
}

/// A derivative beside differences.
struct Comparison {
    derived: f64,
    numeric: Estimate,
    sides: Option<(f64, f64)>,
    status: Status,
}

impl Comparison {
    fn relative(&self) -> f64 {
        let size = self.derived.abs().max(self.numeric.slope.abs());
        if size == 0.0 { 0.0 } else { (self.derived - self.numeric.slope).abs() / size }
    }
    /// Wrong before kinked before right, then by the error.
    fn badness(&self) -> f64 {
        let error = (self.derived - self.numeric.slope).abs();
        match self.status {
            Status::Right => error.min(1.0) * 1e-3,
            Status::Kink => 1.0 + error.min(1e10),
            Status::Wrong | Status::ModesDiffer => 1e11 + error.min(1e30),
        }
    }
}

/// The first step of the differences: a few hundredths of the size of the numbers.
fn scale(x: &Tensor) -> f64 {
    let numbers = numbers(x);
    let mean = numbers.iter().map(|x| x * x).sum::<f64>() / numbers.len().max(1) as f64;
    0.03 * mean.sqrt().clamp(1e-3, 1e3)
}

fn random(shape: &[usize], seed: u64, number: usize) -> Vec<f64> {
    let key = chainrule::tensor::Key::new(seed).fold(&Tensor::from(number as i64));
    key.normal(shape, DType::F64).to_vec::<f64>()
}

fn tangent_of(inputs: &[(String, Tensor)], parameters: &[(String, usize)], value: &Tensor) -> Option<Program> {
    // The value was traced on variables over the arguments: those are what a tangent is given to.
    let variables = variables_over(value, inputs, parameters)?;
    let directions: Vec<Tensor> =
        parameters.iter().map(|&(_, i)| Tensor::apply(Op::Input(inputs[i].1.ty().clone()), &[])).collect();
    let (at, tangents): (Vec<Tensor>, Vec<Option<Tensor>>) = variables
        .into_iter()
        .zip(&directions)
        .filter_map(|(variable, direction)| Some((variable?, Some(direction.clone()))))
        .unzip();
    let tangent = push(std::slice::from_ref(value), &at, tangents).pop().flatten()?;
    let named = directions.iter().enumerate().map(|(i, direction)| (format!("direction.{i}"), direction.clone()));
    let inputs: Vec<(String, Tensor)> = inputs.iter().cloned().chain(named).collect();
    Some(known(capture("tangent", &inputs, &[tangent])))
}

/// For each parameter the variable node that stands over it, if the value was made from it.
fn variables_over(
    value: &Tensor,
    inputs: &[(String, Tensor)],
    parameters: &[(String, usize)],
) -> Option<Vec<Option<Tensor>>> {
    let mut found: Vec<Option<Tensor>> = vec![None; parameters.len()];
    kinks::each_node(value, &mut |tensor| {
        if let Op::Variable = tensor.node().op() {
            let under = tensor.node().inputs()[0].node().id();
            if let Some(i) = parameters.iter().position(|&(_, i)| inputs[i].1.node().id() == under) {
                found[i] = Some(tensor.clone());
            }
        }
    });
    found.iter().any(Option::is_some).then_some(found)
}

/// Each custom derivative of the expression whose operands are all floats, checked alone at the operands it has there.
fn custom(options: &CheckOptions, value: &Tensor) -> Vec<CustomCheck> {
    let mut calls = Vec::new();
    kinks::each_node(value, &mut |tensor| {
        if let Op::Call(CallKind::Custom(_, operands), _) = tensor.node().op() {
            calls.push((tensor.clone(), *operands));
        }
    });
    calls
        .into_iter()
        .filter_map(|(call, operands)| {
            let all = eval_all(call.node().inputs());
            let (own, captured) = all.split_at(operands);
            let apply = |x: &Vec<Tensor>| {
                let first = Tensor::apply(call.node().op().clone(), &[&x[..], captured].concat());
                let weighted = (0..call.node().types().len()).map(|i| first.output(i)).filter(|y| y.dtype().is_float());
                let sums = weighted.enumerate().map(|(i, y)| {
                    let weights = random(y.shape(), options.seed, 7_000_000 + i);
                    (&y * Tensor::from_vec(weights, y.shape()).cast(y.dtype())).sum(..)
                });
                sums.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::from(0.0f32))
            };
            if own.iter().any(|x| !x.dtype().is_float()) {
                return None;
            }
            let own = own.to_vec();
            let line = call.node().origin().into();
            let (value, (), slopes) = gradient(|x| (apply(x), ()), &own, Unreached::Zeros).ok()?;
            let leaves = Checker::new(options, &own, &value, &slopes).leaves();
            let worst = leaves.iter().map(|leaf| leaf.relative_error.0).fold(0.0, f64::max);
            let status =
                [Status::Wrong, Status::Kink].into_iter().find(|s| leaves.iter().any(|leaf| leaf.status == *s));
            Some(CustomCheck { line, relative_error: worst, status: status.unwrap_or(Status::Right) })
        })
        .collect()
}

#[track_caller]
fn known(program: Result<Program, chainrule::program::CaptureError>) -> Program {
    match program {
        Ok(program) => program,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn fits(results: Result<Vec<Tensor>, chainrule::tensor::ShapeError>) -> Vec<Tensor> {
    match results {
        Ok(results) => results,
        Err(error) => panic!("check_gradients: in f64: {error}"),
    }
}
