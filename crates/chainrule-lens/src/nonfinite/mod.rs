//! Where a NaN or an infinity comes from.
//!
//! A computation is a pure function, so it is replayed from its inputs, operation by operation, and one asks backwards:
//! this element is not finite; which elements made it; which of those are not finite? The walk ends at an operation
//! that made the first such number out of finite ones. It follows elements, not tensors, so an infinity that a `select`
//! drops is not blamed, and the one that comes back through its derivative is. An infinity that was written on purpose,
//! such as the −∞ of a mask, is not a fault; what turns it into NaN is.
//!
//! Nothing is recorded while training: a step that ended badly is run again from the arguments it had.

mod advice;
mod cause;
mod report;
mod sources;
mod walk;

pub use cause::Cause;
pub use report::{NonFinite, Operand, Passage};

use chainrule::differentiate::{Unreached, gradient};
use chainrule::execute::{ExecuteError, eval_all};
use chainrule::program::{Program, capture};
use chainrule::tensor::Tensor;
use chainrule::tree::{self, Role, Tree};

/// Where the loss or its gradient first stops being finite; nothing if all of it is finite.
///
/// # Panics
/// If the function does not give one float, a parameter has no derivative, or an index is out of range.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::trace_nonfinite;
/// // The untaken branch of a select: its value is dropped, its derivative 0/0 is not.
/// let x = Tensor::from([1.0, 0.0]);
/// let loss = |x: &Tensor| x.greater(0.0).select(&x.log(), 0.0).sum(..);
/// let found = trace_nonfinite(loss, &x).unwrap();
/// assert_eq!(found.cause.to_string(), "0/0");
/// assert_eq!(found.at.index, [1]);
/// assert!(found.advice.contains("before"), "{}", found.advice);
/// ```
#[track_caller]
pub fn trace_nonfinite<T: Tree>(f: impl FnOnce(&T) -> Tensor, x: &T) -> Option<NonFinite> {
    let x = evaluated(x);
    let (loss, (), slopes) = match gradient(|x| (f(x), ()), &x, Unreached::Zeros) {
        Ok(result) => result,
        Err(error) => panic!("trace_nonfinite: {error}"),
    };
    let parameters = tree::named_leaves(&slopes).into_iter().filter(|leaf| leaf.1 == Role::Parameter);
    let mut results = vec![("the value".to_owned(), loss)];
    results.extend(parameters.map(|(path, _, slope)| (format!("the gradient of {}", named(&path)), slope)));
    trace(&x, results)
}

/// Where a function's results first stop being finite, without deriving it: for functions that take gradients inside,
/// as training steps do.
///
/// # Panics
/// If an index is out of range.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::trace_values;
/// let found = trace_values(|x: &Tensor| x.sqrt() * 2.0, &Tensor::from([4.0, -4.0])).unwrap();
/// assert_eq!(found.operation, "sqrt");
/// assert_eq!(found.operands[0].elements[0].value.0, -4.0);
/// ```
#[track_caller]
pub fn trace_values<T: Tree, Y: Tree>(f: impl FnOnce(&T) -> Y, x: &T) -> Option<NonFinite> {
    let x = evaluated(x);
    let results = tree::named_leaves(&f(&x)).into_iter();
    trace(&x, results.map(|(path, _, leaf)| (if path.is_empty() { "the value".into() } else { path }, leaf)).collect())
}

/// Where a program's results first stop being finite: for a compiled step, `trace_program(step.program(&arguments),
/// &leaves(&arguments))`. Fused operations, loops and branches are looked into.
///
/// # Errors
/// If the arguments are not those the program takes, or an index is outside its axis.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::trace_program;
/// let mut step = compile(|(w, x): &(Tensor, Tensor)| (w * x).exp().sum(..));
/// let arguments = (Tensor::from([1.0f32, 30.0]), Tensor::from([1.0f32, 3.0]));
/// let found = trace_program(step.program(&arguments), &leaves(&arguments)).unwrap().unwrap();
/// assert_eq!((found.operation.as_str(), found.cause.to_string().as_str()), ("exp", "overflow"));
/// assert_eq!(found.operands[0].elements[0].value.0, 90.0);
/// ```
pub fn trace_program(program: &Program, arguments: &[Tensor]) -> Result<Option<NonFinite>, ExecuteError> {
    let names: Vec<String> = (0..program.outputs.len()).map(|i| format!("result {i}")).collect();
    trace_named(program, arguments, &names)
}

/// [`trace_program`] with names for the program's results.
///
/// # Errors
/// As [`trace_program`].
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::program::capture;
/// use chainrule_lens::trace_named;
/// let x = Tensor::from([1.0f32, 0.0]);
/// let program = capture("f", &[("x".into(), x.clone())], &[x.sum(..), x.log().mean(..)]).unwrap();
/// let found = trace_named(&program, &[x], &["the sum".into(), "the loss".into()]).unwrap().unwrap();
/// assert_eq!((found.result.as_str(), found.cause.to_string().as_str()), ("the loss", "log 0"));
/// ```
pub fn trace_named(
    program: &Program,
    arguments: &[Tensor],
    results: &[String],
) -> Result<Option<NonFinite>, ExecuteError> {
    walk::first(program, arguments, results)
}

#[track_caller]
fn trace<T: Tree>(x: &T, results: Vec<(String, Tensor)>) -> Option<NonFinite> {
    let leaves = tree::named_leaves(x).into_iter();
    let inputs: Vec<(String, Tensor)> = leaves.map(|(path, _, leaf)| (named(&path), leaf)).collect();
    let (names, outputs): (Vec<String>, Vec<Tensor>) = results.into_iter().unzip();
    let program = match capture("traced", &inputs, &outputs) {
        Ok(program) => program,
        Err(error) => panic!("{error}"),
    };
    let arguments: Vec<Tensor> = inputs.into_iter().map(|(_, leaf)| leaf).collect();
    match walk::first(&program, &arguments, &names) {
        Ok(found) => found,
        Err(error) => panic!("{error}"),
    }
}

fn evaluated<T: Tree>(x: &T) -> T {
    tree::rebuild(x, &eval_all(&tree::leaves(x)))
}

fn named(path: &str) -> String {
    if path.is_empty() { "the argument".to_owned() } else { path.to_owned() }
}
