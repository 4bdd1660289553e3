//! The derivation: a gradient as the product of Jacobians along each path from the loss to a parameter.
//!
//! The recorded expression is walked from the loss down. Each edge of it is one factor of the chain rule: the Jacobian of
//! one operation by one of its operands, all others held. Where several paths meet (a residual connection, a shared
//! weight, an unrolled step), each is followed alone; their contributions sum to the gradient. Movements of numbers
//! (reshape, transpose, broadcast) are carried out and not counted as factors.
//!
//! The scalar case with symbols all the way down is `chainrule derive`.

mod formula;
mod text;

use crate::flow::ordered;
use crate::place::{Number, Place, numbers};
use chainrule::differentiate::{Unreached, gradient, pull};
use chainrule::execute::eval_all;
use chainrule::tensor::{DType, Op, Tensor};
use chainrule::tree::{self, Role, Tree};
use formula::{Formula, Names, formula, is_move};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// At most this many paths are followed to one parameter; what is left is stated as a remainder.
const PATHS: usize = 24;
/// Jacobians of at most this many elements are given as numbers.
const SMALL: usize = 64;

/// The gradient of a value by each of its parameters, path by path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Derivation {
    /// The value that is derived, L.
    pub value: Number,
    /// What each name in the formulas stands for, in the order in which it is computed.
    pub definitions: Vec<Definition>,
    /// Each parameter.
    pub parameters: Vec<Explained>,
}

/// A name for a value inside the computation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Definition {
    /// The name.
    pub name: String,
    /// What makes it, in terms of other names.
    pub formula: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The user's line.
    pub line: Place,
}

/// The gradient by one parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The parameter's path.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The gradient's length.
    pub norm: Number,
    /// The paths from the value to it.
    pub paths: Vec<PathTerm>,
    /// The length of what the paths shown do not account for: rounding, or paths beyond the first 24.
    pub remainder: Number,
    /// Whether there were more paths.
    pub more: bool,
}

/// One path from the value to a parameter: a product of factors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathTerm {
    /// From the value down.
    pub factors: Vec<Factor>,
    /// The length of its contribution to the gradient.
    pub norm: Number,
    /// The contribution's part along the gradient; those of all paths sum to 1.
    pub share: Number,
}

/// The Jacobian of one operation by one operand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Factor {
    /// The name of the result.
    pub of: String,
    /// The name of the operand.
    pub by: String,
    /// The operation.
    pub operation: String,
    /// Its derivative.
    pub formula: String,
    /// How the cotangent δ passes: the same in matrix form.
    pub delta: String,
    /// Shape of the result.
    pub rows: Vec<usize>,
    /// Shape of the operand.
    pub columns: Vec<usize>,
    /// How the cotangent's length changes: ‖δ·J‖ / ‖δ‖.
    pub gain: Number,
    /// The Jacobian itself, row by row, if it is small.
    pub values: Option<Vec<Number>>,
    /// The user's line.
    pub line: Place,
}

/// Explains the gradient of a function with one float as its result, at a point.
///
/// # Panics
/// Where [`grad`](chainrule::grad) does, other than for parameters that the result does not depend on.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::explain;
/// let x = (Tensor::from([[0.5, -0.2]]), Tensor::from([[1.0], [2.0]]));
/// let found = explain(|(a, w): &(Tensor, Tensor)| a.matmul(w).sigmoid().sum(..), &x);
/// let path = &found.parameters[1].paths[0];
/// let chain: Vec<String> = path.factors.iter().map(|f| format!("∂{}/∂{}", f.of, f.by)).collect();
/// assert_eq!(chain.join(" · "), "∂L/∂h₁ · ∂h₁/∂z₁ · ∂z₁/∂1");
/// assert_eq!(path.factors[1].formula, "h₁(1 − h₁)");
/// assert!((path.share.0 - 1.0).abs() < 1e-12);
/// ```
#[track_caller]
pub fn explain<T: Tree>(f: impl FnOnce(&T) -> Tensor, x: &T) -> Derivation {
    let x = tree::rebuild(x, &eval_all(&tree::leaves(x)));
    let (value, (), slopes) = match gradient(|x| (f(x), ()), &x, Unreached::Zeros) {
        Ok(result) => result,
        Err(error) => panic!("explain: {error}"),
    };
    let nodes = ordered(&value);
    let parameters: Vec<(String, Tensor)> = tree::named_leaves(&x)
        .into_iter()
        .filter(|leaf| leaf.1 == Role::Parameter)
        .map(|leaf| (if leaf.0.is_empty() { "x".to_owned() } else { leaf.0 }, leaf.2))
        .collect();
    let names = Names::of(&nodes, &value, &parameters);
    let values = Values::of(&nodes, &value);
    let slopes: Vec<Tensor> =
        tree::named_leaves(&slopes).into_iter().filter(|leaf| leaf.1 == Role::Parameter).map(|leaf| leaf.2).collect();
    let explained = parameters.iter().zip(eval_all(&slopes)).map(|((path, leaf), slope)| {
        let mut walk = Walk {
            values: &values,
            names: &names,
            leaf,
            active: active(&nodes, leaf),
            ends: vec![],
            contributions: vec![],
            more: false,
        };
        walk.down(&value, values.get(&value).ones_like(), &mut vec![]);
        walk.finish(path, &slope)
    });
    let explained = explained.collect();
    Derivation { value: Number(numbers(values.get(&value))[0]), definitions: names.definitions, parameters: explained }
}

type Key = (u64, usize);

fn key(x: &Tensor) -> Key {
    (x.node().id(), x.output_index())
}

/// Every value of the expression as numbers.
struct Values(HashMap<Key, Tensor>);

impl Values {
    fn of(nodes: &[Tensor], value: &Tensor) -> Values {
        let mut all: HashMap<Key, Tensor> = HashMap::from([(key(value), value.clone())]);
        for input in nodes.iter().flat_map(|node| node.node().inputs()) {
            all.entry(key(input)).or_insert_with(|| input.clone());
        }
        let (keys, tensors): (Vec<Key>, Vec<Tensor>) = all.into_iter().unzip();
        Values(keys.into_iter().zip(eval_all(&tensors)).collect())
    }
    fn get(&self, x: &Tensor) -> &Tensor {
        &self.0[&key(x)]
    }
}

/// The nodes that a parameter has a path to.
fn active(nodes: &[Tensor], leaf: &Tensor) -> HashSet<u64> {
    let mut active = HashSet::from([leaf.node().id()]);
    for tensor in nodes {
        if tensor.node().inputs().iter().any(|input| active.contains(&input.node().id())) {
            active.insert(tensor.node().id());
        }
    }
    active
}

/// A factor whose numbers are still expressions.
struct Step {
    factor: Factor,
    before: Tensor,
    after: Tensor,
    jacobian: Option<Tensor>,
}

/// The walk from the value down to one parameter.
struct Walk<'a> {
    values: &'a Values,
    names: &'a Names,
    leaf: &'a Tensor,
    active: HashSet<u64>,
    ends: Vec<PathTerm>,
    /// What each path contributes to the gradient.
    contributions: Vec<Vec<f64>>,
    more: bool,
}

impl Walk<'_> {
    /// Goes on from a value with its cotangent.
    fn down(&mut self, at: &Tensor, cotangent: Tensor, steps: &mut Vec<Step>) {
        let node = at.node();
        if let Op::Variable = node.op()
            && node.inputs()[0].node().id() == self.leaf.node().id()
        {
            return self.end(cotangent, steps);
        }
        for (place, input) in node.inputs().iter().enumerate() {
            if !self.active.contains(&input.node().id()) || !input.dtype().is_float() {
                continue;
            }
            if self.ends.len() >= PATHS {
                self.more = true;
                return;
            }
            // The operation alone: its operands are numbers, so nothing behind them is seen.
            let operands: Vec<Tensor> = node.inputs().iter().map(|x| fresh(self.values.get(x))).collect();
            let result = Tensor::apply(node.op().clone(), &operands).output(at.output_index());
            let back = |ct: &Tensor| {
                let at = std::slice::from_ref(&operands[place]);
                pull(std::slice::from_ref(&result), &[Some(ct.clone())], at).pop().flatten()
            };
            let Some(next) = back(&cotangent) else { continue };
            let next = next.eval();
            if is_move(node.op()) {
                self.down(input, next, steps);
                continue;
            }
            let Formula { slope, delta } = formula(node, place, self.names);
            let small = result.numel() * operands[place].numel() <= SMALL;
            let factor = Factor {
                of: self.names.get(at),
                by: self.names.get(input),
                operation: node.op().name().to_owned(),
                formula: slope,
                delta,
                rows: result.shape().to_vec(),
                columns: input.shape().to_vec(),
                gain: Number(0.0),
                values: None,
                line: node.origin().into(),
            };
            let jacobian = small.then(|| rows(&result, &back)).flatten();
            steps.push(Step { factor, before: cotangent.clone(), after: next.clone(), jacobian });
            self.down(input, next, steps);
            steps.pop();
        }
    }

    fn finish(mut self, path: &str, slope: &Tensor) -> Explained {
        let slope_numbers = numbers(slope);
        let square: f64 = slope_numbers.iter().map(|x| x * x).sum();
        let mut rest = slope_numbers.clone();
        for (term, contribution) in self.ends.iter_mut().zip(&self.contributions) {
            let along: f64 = contribution.iter().zip(&slope_numbers).map(|(c, g)| c * g).sum();
            term.share = Number(if square > 0.0 { along / square } else { 0.0 });
            rest.iter_mut().zip(contribution).for_each(|(rest, c)| *rest -= c);
        }
        Explained {
            path: path.to_owned(),
            shape: slope.shape().to_vec(),
            norm: Number(square.sqrt()),
            paths: self.ends,
            remainder: Number(rest.iter().map(|x| x * x).sum::<f64>().sqrt()),
            more: self.more,
        }
    }

    fn end(&mut self, contribution: Tensor, steps: &[Step]) {
        let length = |x: &Tensor| numbers(x).iter().map(|x| x * x).sum::<f64>().sqrt();
        let factors = steps.iter().map(|step| {
            let before = length(&step.before);
            Factor {
                gain: Number(if before > 0.0 { length(&step.after) / before } else { 0.0 }),
                values: step.jacobian.as_ref().map(|j| numbers(j).into_iter().map(Number).collect()),
                ..step.factor.clone()
            }
        });
        let factors = factors.collect();
        let numbers = numbers(&contribution);
        let norm = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        self.ends.push(PathTerm { factors, norm: Number(norm), share: Number(0.0) });
        self.contributions.push(numbers);
    }
}

/// A leaf of its own over the same numbers, so that two operands that are one value stay two.
fn fresh(x: &Tensor) -> Tensor {
    match x.dtype() {
        DType::F64 => Tensor::from_vec(x.to_vec::<f64>(), x.shape()),
        DType::F32 => Tensor::from_vec(x.to_vec::<f32>(), x.shape()),
        _ => x.clone(),
    }
}

/// The Jacobian by its rows, from the way back.
fn rows(result: &Tensor, back: &dyn Fn(&Tensor) -> Option<Tensor>) -> Option<Tensor> {
    let n = result.numel();
    let row = |i: usize| {
        let one = Tensor::arange(n, DType::I64).equal(i as i64).cast(result.dtype()).reshape(result.shape());
        back(&one).map(|row| row.flatten())
    };
    let rows: Vec<Tensor> = (0..n).map(row).collect::<Option<_>>()?;
    Some(chainrule::tensor::stack(&rows, 0).eval())
}
