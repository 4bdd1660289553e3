//! The derivation: a gradient as the product of Jacobians along each path from the loss to a parameter.
//!
//! The recorded expression is walked from the loss down. Each edge of it is one factor of the chain rule: the Jacobian of
//! one operation by one of its operands, all others held. Where several paths meet (a residual connection, a shared
//! weight, an unrolled step), each is followed alone; their contributions sum to the gradient. A loop is one factor of its
//! paths and besides taken apart into its steps, each with its term of the gradient (`time.rs`). Movements of numbers
//! (reshape, transpose, broadcast) are carried out and not counted as factors; a bias belongs to its product, and
//! cross-entropy is one factor, softmax less targets, once that is seen to be so.
//!
//! The same derivative in matrix form, δ₁ = (δ₂ · W₂) ⊙ σ', is read off the way back: one equation for each value that
//! has one, however many paths go through it.
//!
//! The scalar case with symbols all the way down is `chainrule derive`.

mod backward;
mod formula;
mod graph;
mod markup;
mod names;
mod text;
mod time;
mod walk;

use crate::place::{Number, Place, numbers};
use chainrule::differentiate::{Unreached, gradient};
use chainrule::execute::eval_all;
use chainrule::tensor::Tensor;
use chainrule::tree::{self, Role, Tree};
use graph::Graph;
use names::Names;
use serde::Serialize;
use walk::Walk;

/// The gradient of a value by each of its parameters, path by path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Derivation {
    /// The value that is derived, L.
    pub value: Number,
    /// The symbol of each parameter.
    pub symbols: Vec<Symbol>,
    /// What each name in the formulas stands for, in the order in which it is computed.
    pub definitions: Vec<Definition>,
    /// The derivative program in matrix form, from the value down.
    pub backward: Vec<Equation>,
    /// Each loop that a parameter has a path to, step by step.
    pub loops: Vec<Loop>,
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

/// A parameter's symbol in the formulas.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Symbol {
    /// W₁, b₁, …: parameters of one layer share its number.
    pub symbol: String,
    /// The parameter's path.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// One line of the derivative program: δ₁ = (δ₂ · W₂) ⊙ (h₁(1 − h₁)), ∂L/∂W₁ = δ₁ᵀ · x.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Equation {
    /// `δ₁` of `z₁`, `δ[h₁]` of `h₁`, or `∂L/∂W₁`.
    pub symbol: String,
    /// The value or the parameter's path that it is the gradient by.
    pub of: String,
    /// What makes it.
    pub formula: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its length.
    pub norm: Number,
    /// The user's line.
    pub line: Place,
}

/// The gradient by one parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The parameter's path.
    pub path: String,
    /// Its symbol.
    pub symbol: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The gradient's length.
    pub norm: Number,
    /// The paths from the value to it.
    pub paths: Vec<PathTerm>,
    /// How many paths there are.
    pub all_paths: Number,
    /// The length of what the paths shown do not account for: rounding, or paths that were not followed.
    pub remainder: Number,
    /// Whether there are more paths.
    pub more: bool,
    /// The gradient by the steps of loops, if one leads to the parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_time: Option<InTime>,
}

/// A gradient as the sum of what each step of each loop adds to it: ∂L/∂W = Σₜ ε⁽ᵗ⁾ · ∂h⁽ᵗ⁾/∂W.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InTime {
    /// The loops that lead to the parameter with no other loop after them.
    pub loops: Vec<Through>,
    /// What comes on ways without a loop.
    pub beside: TermOfStep,
    /// The length of what all these terms do not account for: rounding.
    pub remainder: Number,
}

/// What each step of a loop adds to a gradient.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Through {
    /// The loop's name.
    pub of: String,
    /// From the last step to the first; then step 0, the state before the first, if that leads to the parameter.
    pub terms: Vec<TermOfStep>,
}

/// A step's term of a gradient.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TermOfStep {
    /// The step, from 1; 0 for what is in none.
    pub step: usize,
    /// The term's length.
    pub norm: Number,
    /// The term's part along the gradient; those of all terms sum to 1.
    pub share: Number,
}

/// A loop of the computation, and how the gradient goes back through its steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Loop {
    /// Its name, which its first state has.
    pub name: String,
    /// How many steps it has.
    pub steps: usize,
    /// The user's line.
    pub line: Place,
    /// What a step computes, ⁽ᵗ⁾, from what the one before left, ⁽ᵗ⁻¹⁾.
    pub definitions: Vec<Definition>,
    /// The step whose lengths and values are given, from 1: that which sends the longest cotangents.
    pub shown: usize,
    /// The way back through a step, from ε⁽ᵗ⁾, which arrives from later steps and from the loop's use, to ε⁽ᵗ⁻¹⁾.
    pub backward: Vec<Equation>,
    /// The step's operands, each with the paths within the step that lead to it.
    pub operands: Vec<Explained>,
    /// From the last step to the first.
    pub passages: Vec<Passage>,
}

/// A gradient on its way back through one step of a loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Passage {
    /// The step, from 1.
    pub step: usize,
    /// The length of what arrives at the step's state, ‖ε⁽ᵗ⁾‖.
    pub arrives: Number,
    /// The gain of ∂h⁽ᵗ⁾/∂h⁽ᵗ⁻¹⁾ for a random direction that came back from the last step.
    pub gain: Number,
    /// That of ∂h⁽ᵀ⁾/∂h⁽ᵗ⁾, the product of the gains after this step.
    pub product: Number,
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

/// Which parameters, and how many ways to each.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainOptions {
    /// Only the parameters of these paths; none for all.
    pub parameters: Vec<String>,
    /// At most so many paths to a parameter; what is left is stated as a remainder.
    pub paths: usize,
}

impl Default for ExplainOptions {
    fn default() -> ExplainOptions {
        ExplainOptions { parameters: Vec::new(), paths: 24 }
    }
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
/// assert_eq!(chain.join(" · "), "∂L/∂h₁ · ∂h₁/∂z₁ · ∂z₁/∂W₂");
/// assert_eq!(path.factors[1].formula, "h₁(1 − h₁)");
/// assert_eq!(found.backward[1].to_string(), "∂L/∂W₂ = W₁ᵀ · δ₁");
/// assert!((path.share.0 - 1.0).abs() < 1e-12);
/// ```
#[track_caller]
pub fn explain<T: Tree>(f: impl FnOnce(&T) -> Tensor, x: &T) -> Derivation {
    explain_with(&ExplainOptions::default(), f, x)
}

/// [`explain`] with options.
///
/// # Panics
/// As [`explain`].
#[track_caller]
pub fn explain_with<T: Tree>(options: &ExplainOptions, f: impl FnOnce(&T) -> Tensor, x: &T) -> Derivation {
    let x = tree::rebuild(x, &eval_all(&tree::leaves(x)));
    let (value, (), slopes) = match gradient(|x| (f(x), ()), &x, Unreached::Zeros) {
        Ok(result) => result,
        Err(error) => panic!("explain: {error}"),
    };
    let is_parameter = |leaf: &(String, Role, Tensor)| leaf.1 == Role::Parameter;
    let parameters: Vec<(String, Tensor)> =
        tree::named_leaves(&x).into_iter().filter(is_parameter).map(|leaf| (leaf.0, leaf.2)).collect();
    let leaves: Vec<Tensor> = parameters.iter().map(|parameter| parameter.1.clone()).collect();
    let slopes: Vec<Tensor> = tree::named_leaves(&slopes).into_iter().filter(is_parameter).map(|leaf| leaf.2).collect();
    let symbols = names::symbols(&parameters);
    let graph = Graph::of_loss(&value, &leaves);
    let names = Names::of(&graph, &symbols, &leaves);
    let by = |symbol: &Symbol| Symbol { symbol: format!("∂L/∂{}", symbol.symbol), ..symbol.clone() };
    let ends: Vec<(Tensor, Symbol)> = leaves.iter().cloned().zip(symbols.iter().map(by)).collect();
    let backward = backward::equations(&graph, &names, &["1".to_owned()], &ends);
    let slopes = eval_all(&slopes);
    let wanted = |symbol: &Symbol| options.parameters.is_empty() || options.parameters.contains(&symbol.path);
    let explained: Vec<(&Symbol, &Tensor, &Tensor)> = symbols
        .iter()
        .zip(leaves.iter().zip(&slopes))
        .filter(|(symbol, _)| wanted(symbol))
        .map(|(symbol, (leaf, slope))| (symbol, leaf, slope))
        .collect();
    let (loops, in_time) = time::loops((&graph, &names), &explained, options.paths);
    let parameters = explained.into_iter().zip(in_time).map(|((symbol, leaf, slope), in_time)| Explained {
        in_time,
        ..Walk::explain((&graph, &names), (symbol, leaf), slope, options.paths)
    });
    let parameters = parameters.collect();
    let value = Number(numbers(graph.number(&value))[0]);
    Derivation { value, symbols, definitions: names.definitions, backward, loops, parameters }
}

impl std::fmt::Display for Equation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}", self.symbol, self.formula)
    }
}
