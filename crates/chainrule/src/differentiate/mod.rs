//! The chain rule: every transform of functions, as plain functions from tensors to tensors.
//!
//! All signatures stand in this file. The mathematics is in `rules.rs` (one derivative an operation),
//! `transpose.rs` (the adjoint of each linear one), `batch.rs` and `control.rs`; walking is in `reverse.rs`.
//! Nothing here computes a number or knows a kernel: a derivative is an expression like any other, so all of these
//! nest in any order.

mod batch;
mod control;
mod reverse;
mod rules;
mod transpose;

#[doc(hidden)]
pub use rules::composite_by_definition;

use crate::tensor::{DType, Derivation, Origin, Tensor, checkpoint_call, custom_call, forward, outputs};
use crate::tree::{self, Role, Tree};

/// Why a gradient cannot be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GradientError {
    /// The function's result is not one float.
    NotScalar {
        /// What it is.
        result: String,
    },
    /// A parameter is of an integer or bool dtype.
    NotDifferentiable {
        /// Path of the parameter, empty for a lone tensor.
        path: String,
        /// Its dtype.
        dtype: DType,
    },
    /// The result does not depend on these parameters.
    Unreached {
        /// Paths of the parameters.
        paths: Vec<String>,
    },
}

impl std::fmt::Display for GradientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = |path: &str| if path.is_empty() { "the argument".to_owned() } else { format!("parameter {path}") };
        match self {
            GradientError::NotScalar { result } => {
                write!(f, "grad: the result is {result}; it must be one float: reduce it, or ask for the jacobian")
            }
            GradientError::NotDifferentiable { path, dtype } => write!(
                f,
                "grad: {} is {dtype}, which has no derivative; mark it #[tree(state)] or cast it to a float",
                named(path)
            ),
            GradientError::Unreached { paths } => {
                let list: Vec<String> = paths.iter().take(8).map(|path| named(path)).collect();
                let more = if paths.len() > 8 { format!(" and {} more", paths.len() - 8) } else { String::new() };
                write!(
                    f,
                    "grad: the result does not depend on {}{more} through any differentiable path; \
                     use gradient(.., Unreached::Zeros) if zeros are meant",
                    list.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for GradientError {}

/// What to do about a parameter that the result does not depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// Say so: it is most often a mistake.
    Error,
    /// Give zeros.
    Zeros,
}

/// The gradient ∂f/∂x of a function with one number as its result; it has the type of x.
///
/// State leaves get zeros. The result is an expression: differentiate it again, or evaluate it.
///
/// # Panics
/// Where [`gradient`] returns an error.
///
/// ```
/// use chainrule::prelude::*;
/// let second = grad(|x: &Tensor| grad(|x: &Tensor| x.sin(), x), &Tensor::from(0.5));
/// assert!((second.item::<f64>() + 0.5f64.sin()).abs() < 1e-15);
/// ```
#[track_caller]
pub fn grad<T: Tree>(f: impl FnOnce(&T) -> Tensor, x: &T) -> T {
    value_and_grad(f, x).1
}

/// The value f(x) and its gradient, which share their computation.
///
/// # Panics
/// Where [`gradient`] returns an error.
#[track_caller]
pub fn value_and_grad<T: Tree>(f: impl FnOnce(&T) -> Tensor, x: &T) -> (Tensor, T) {
    let (value, (), gradient) = value_and_grad_aux(|x| (f(x), ()), x);
    (value, gradient)
}

/// [`value_and_grad`] of a function that returns something beside the value: predictions, new state.
///
/// # Panics
/// Where [`gradient`] returns an error.
#[track_caller]
pub fn value_and_grad_aux<T: Tree, A>(f: impl FnOnce(&T) -> (Tensor, A), x: &T) -> (Tensor, A, T) {
    match gradient(f, x, Unreached::Error) {
        Ok(result) => result,
        Err(error) => panic!("{error}"),
    }
}

/// Value, by-product and gradient as a result, with the choice of what an unreached parameter means.
///
/// # Errors
/// If the result is not one float, a parameter has no derivative, or one is unreached and that is an error.
///
/// ```
/// use chainrule::prelude::*;
/// let x = (Tensor::from(1.0), Tensor::from(2.0));
/// let f = |x: &(Tensor, Tensor)| (&x.0 * 3.0, ());
/// let error = gradient(f, &x, Unreached::Error).unwrap_err();
/// assert!(error.to_string().contains("parameter 1"));
/// let (_, (), g) = gradient(f, &x, Unreached::Zeros).unwrap();
/// assert_eq!((g.0.item::<f64>(), g.1.item::<f64>()), (3.0, 0.0));
/// ```
#[track_caller]
pub fn gradient<T: Tree, A>(
    f: impl FnOnce(&T) -> (Tensor, A),
    x: &T,
    unreached: Unreached,
) -> Result<(Tensor, A, T), GradientError> {
    gradient_at(Origin::here(), f, x, unreached)
}

/// [`gradient`] whose own nodes carry a given line, as do those of the `_at` functions below: what a transform builds
/// inside a closure would else carry the closure's.
fn gradient_at<T: Tree, A>(
    here: Origin,
    f: impl FnOnce(&T) -> (Tensor, A),
    x: &T,
    unreached: Unreached,
) -> Result<(Tensor, A, T), GradientError> {
    let variables = here.scope(|| Variables::of(x))?;
    let (value, aux) = f(&variables.tree);
    if value.rank() != 0 || !value.dtype().is_float() {
        return Err(GradientError::NotScalar { result: value.ty().to_string() });
    }
    let one = here.scope(|| value.ones_like());
    let pulled = reverse::pull(std::slice::from_ref(&value), vec![Some(one)], &variables.leaves);
    let gradient = here.scope(|| variables.collect(x, pulled, unreached))?;
    Ok((value, aux, gradient))
}

/// A function's value and its pullback: the map from a cotangent of the result to one of x, x̄ = Jᵀ·ȳ.
///
/// # Panics
/// The pullback panics if a parameter is unreached; a leaf that is not a float panics at once.
///
/// ```
/// use chainrule::prelude::*;
/// let (y, pull) = vjp(|x: &Tensor| x * x, &Tensor::from([1.0, 2.0]));
/// assert_eq!(y.to_vec::<f64>(), [1.0, 4.0]);
/// assert_eq!(pull(&Tensor::from([1.0, 10.0])).to_vec::<f64>(), [2.0, 40.0]);
/// ```
#[track_caller]
pub fn vjp<T: Tree, Y: Tree, F: FnOnce(&T) -> Y>(f: F, x: &T) -> (Y, impl Fn(&Y) -> T + use<T, Y, F>) {
    let here = Origin::here();
    let variables = match here.scope(|| Variables::of(x)) {
        Ok(variables) => variables,
        Err(error) => panic!("{error}"),
    };
    let y = f(&variables.tree);
    let template = tree::map(x, Tensor::clone);
    let results = tree::leaves(&y);
    let pull = move |ct: &Y| {
        let cotangents = checked("vjp", &results, tree::leaves(ct));
        let pulled = reverse::pull(&results, cotangents.into_iter().map(Some).collect(), &variables.leaves);
        match here.scope(|| variables.collect(&template, pulled, Unreached::Error)) {
            Ok(cotangent) => cotangent,
            Err(error) => panic!("{error}"),
        }
    };
    (y, pull)
}

/// A function's value and its derivative along a direction, ẏ = J·ẋ: forward mode.
///
/// State leaves have no tangent. A result that does not depend on x has tangent zero.
///
/// # Panics
/// If the direction's shapes or dtypes are not those of x.
///
/// ```
/// use chainrule::prelude::*;
/// let (y, slope) = jvp(|x: &Tensor| x.exp(), &Tensor::from(0.0), &Tensor::from(2.0));
/// assert_eq!((y.item::<f64>(), slope.item::<f64>()), (1.0, 2.0));
/// ```
#[track_caller]
pub fn jvp<T: Tree, Y: Tree>(f: impl FnOnce(&T) -> Y, x: &T, direction: &T) -> (Y, Y) {
    jvp_at(Origin::here(), f, x, direction)
}

#[track_caller]
fn jvp_at<T: Tree, Y: Tree>(here: Origin, f: impl FnOnce(&T) -> Y, x: &T, direction: &T) -> (Y, Y) {
    let variables = match here.scope(|| Variables::of(x)) {
        Ok(variables) => variables,
        Err(error) => panic!("{error}"),
    };
    let tangents = checked("jvp", &tree::leaves(x), tree::leaves(direction));
    let roles = tree::named_leaves(x).into_iter().map(|leaf| leaf.1);
    let tangents = tangents.into_iter().zip(roles).filter(|(_, role)| *role == Role::Parameter);
    let y = f(&variables.tree);
    let results = tree::leaves(&y);
    let pushed = push(&results, &variables.leaves, tangents.map(|(t, _)| Some(t)).collect());
    let zeros = |y: &Tensor| here.scope(|| y.zeros_like());
    let pushed: Vec<Tensor> = pushed.into_iter().zip(&results).map(|(t, y)| t.unwrap_or_else(|| zeros(y))).collect();
    let tangent = tree::rebuild(&y, &pushed);
    (y, tangent)
}

/// The Hessian times a direction, H·v, without the Hessian: the derivative of the gradient along v.
///
/// ```
/// use chainrule::prelude::*;
/// let x = Tensor::from([1.0, 2.0]);
/// let hv = hvp(|x: &Tensor| (x * x * x).sum(..), &x, &Tensor::from([1.0, 1.0]));
/// assert_eq!(hv.to_vec::<f64>(), [6.0, 12.0]);
/// ```
#[track_caller]
pub fn hvp<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T, direction: &T) -> T {
    let here = Origin::here();
    jvp_at(here, |x: &T| zero_grad(here, &f, x), x, direction).1
}

/// The Jacobian ∂yᵢ/∂xⱼ: each leaf has the shape of y, then that of the leaf of x.
///
/// Row by row in reverse mode or column by column in forward mode, whichever are fewer.
///
/// ```
/// use chainrule::prelude::*;
/// let j = jacobian(|x: &Tensor| x * x, &Tensor::from([1.0, 2.0]));
/// assert_eq!(j.to_vec::<f64>(), [2.0, 0.0, 0.0, 4.0]);
/// ```
#[track_caller]
pub fn jacobian<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T) -> T {
    let outputs = f(x).numel();
    let inputs = tree::parameter_count(x);
    if outputs < inputs { jacobian_reverse(f, x) } else { jacobian_forward(f, x) }
}

/// [`jacobian`] by forward mode: one pass an element of x, in a batch.
#[track_caller]
pub fn jacobian_forward<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T) -> T {
    let here = Origin::here();
    let leaves = tree::named_leaves(x);
    let columns: Vec<Tensor> = (0..leaves.len())
        .map(|place| {
            let (_, role, leaf) = &leaves[place];
            if *role == Role::State {
                return leaf.clone();
            }
            let basis = here.scope(|| unit_directions(leaf));
            let push = |t: &Tensor| {
                let zeros = |i: usize| here.scope(|| leaves[i].2.zeros_like());
                let direction: Vec<Tensor> =
                    (0..leaves.len()).map(|i| if i == place { t.clone() } else { zeros(i) }).collect();
                jvp_at(here, &f, x, &tree::rebuild(x, &direction)).1
            };
            let columns = vmap_at(here, push, &basis, &[Some(0)]);
            let y = columns.shape()[1..].to_vec();
            here.scope(|| columns.move_axis(0, -1).reshape([&y[..], leaf.shape()].concat()))
        })
        .collect();
    tree::rebuild(x, &columns)
}

/// Every direction along one element of x, as a batch.
fn unit_directions(x: &Tensor) -> Tensor {
    Tensor::eye(x.numel(), x.dtype()).reshape([&[x.numel()], x.shape()].concat())
}

/// [`jacobian`] by reverse mode: one pass an element of y, in a batch.
#[track_caller]
pub fn jacobian_reverse<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T) -> T {
    let here = Origin::here();
    let y = f(x);
    let basis = here.scope(|| unit_directions(&y));
    let pull = |ct: &Tensor| {
        let value = |x: &T| {
            let y = f(x);
            here.scope(|| (y * ct).sum(..))
        };
        zero_grad(here, &value, x)
    };
    let rows = vmap_at(here, pull, &basis, &[Some(0)]);
    let leaves: Vec<Tensor> = tree::named_leaves(x)
        .into_iter()
        .zip(tree::leaves(&rows))
        .map(|((_, role, leaf), rows)| match role {
            Role::Parameter => here.scope(|| rows.reshape([y.shape(), leaf.shape()].concat())),
            Role::State => leaf,
        })
        .collect();
    tree::rebuild(x, &leaves)
}

/// The Hessian ∂²f/∂x² over all parameters laid end to end in the tree's order: [n, n].
///
/// ```
/// use chainrule::prelude::*;
/// let h = hessian(|x: &Tensor| x.prod(..), &Tensor::from([2.0, 3.0]));
/// assert_eq!(h.to_vec::<f64>(), [0.0, 1.0, 1.0, 0.0]);
/// ```
#[track_caller]
pub fn hessian<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T) -> Tensor {
    let here = Origin::here();
    let gradient = |x: &T| {
        let gradient = zero_grad(here, &f, x);
        here.scope(|| {
            let flat = parameters(&gradient).iter().map(Tensor::flatten).collect::<Vec<_>>();
            crate::tensor::concat(&flat, 0)
        })
    };
    let n = tree::parameter_count(x);
    let jacobian = parameters(&jacobian_forward(gradient, x));
    let blocks: Vec<Tensor> =
        here.scope(|| jacobian.iter().map(|block| block.reshape([n, block.numel() / n.max(1)])).collect());
    crate::tensor::concat(&blocks, 1)
}

fn parameters<T: Tree>(x: &T) -> Vec<Tensor> {
    tree::named_leaves(x).into_iter().filter(|leaf| leaf.1 == Role::Parameter).map(|leaf| leaf.2).collect()
}

/// The gradient with zeros where nothing is reached: what second derivatives differentiate.
#[track_caller]
fn zero_grad<T: Tree>(here: Origin, f: &impl Fn(&T) -> Tensor, x: &T) -> T {
    match gradient_at(here, |x| (f(x), ()), x, Unreached::Zeros) {
        Ok((_, (), gradient)) => gradient,
        Err(error) => panic!("{error}"),
    }
}

/// Maps a function over the leading axis of every leaf, as one batched computation instead of a loop.
///
/// `vmap(|x| grad(loss, x))` gives the gradient of each example.
///
/// # Panics
/// If leaves differ in the size of their leading axis or have none.
///
/// ```
/// use chainrule::prelude::*;
/// let xs = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
/// assert_eq!(vmap(|x: &Tensor| x.sum(..), &xs).to_vec::<f64>(), [3.0, 7.0]);
/// ```
#[track_caller]
pub fn vmap<X: Tree, Y: Tree>(f: impl FnOnce(&X) -> Y, xs: &X) -> Y {
    let axes = vec![Some(0); tree::leaves(xs).len()];
    vmap_axes(f, xs, &axes)
}

/// [`vmap`] over another axis of each leaf in order, or none: `None` gives the function the whole leaf every time.
///
/// The results have the batch at axis 0.
///
/// # Panics
/// If mapped axes differ in size, there is none, or there are not as many entries as leaves.
#[track_caller]
pub fn vmap_axes<X: Tree, Y: Tree>(f: impl FnOnce(&X) -> Y, xs: &X, axes: &[Option<isize>]) -> Y {
    vmap_at(Origin::here(), f, xs, axes)
}

#[track_caller]
fn vmap_at<X: Tree, Y: Tree>(here: Origin, f: impl FnOnce(&X) -> Y, xs: &X, axes: &[Option<isize>]) -> Y {
    let leaves = tree::leaves(xs);
    assert!(leaves.len() == axes.len(), "vmap: {} axes for {} tensors", axes.len(), leaves.len());
    let mut size = None;
    let mut rows = Vec::with_capacity(leaves.len());
    let (mut placeholders, mut values) = (Vec::new(), Vec::new());
    for (leaf, axis) in leaves.iter().zip(axes) {
        let Some(axis) = *axis else {
            rows.push(leaf.clone());
            continue;
        };
        let axis = leaf.axis("vmap", axis) as isize;
        let batched = here.scope(|| leaf.move_axis(axis, 0));
        let n = batched.shape()[0];
        if *size.get_or_insert(n) != n {
            panic!("vmap: axes of {} and {n} elements are mapped together", size.unwrap_or(n));
        }
        let row = here.scope(|| Tensor::input(batched.ty().with_shape(batched.shape()[1..].iter().copied())));
        rows.push(row.clone());
        placeholders.push(row);
        values.push(Some(batched));
    }
    let Some(size) = size else { panic!("vmap: no axis is mapped") };
    let y = f(&tree::rebuild(xs, &rows));
    let results = tree::leaves(&y);
    let batched = forward(&results, &placeholders, values, |node, inputs| batch::batch(node, inputs, size));
    let widen = |y: &Tensor| here.scope(|| batch::widen(y, size));
    let batched: Vec<Tensor> =
        batched.into_iter().zip(&results).map(|(new, old)| new.unwrap_or_else(|| widen(old))).collect();
    tree::rebuild(&y, &batched)
}

/// Calls a function so that nothing computed inside it is kept for the backward pass: it is computed again there.
///
/// Values and gradients are those of `f(x)`; memory for activations is exchanged for time.
///
/// ```
/// use chainrule::prelude::*;
/// let g = grad(|x: &Tensor| checkpoint(|x: &Tensor| x.sin().exp(), x), &Tensor::from(0.0));
/// assert_eq!(g.item::<f64>(), 1.0);
/// ```
#[track_caller]
pub fn checkpoint<X: Tree, Y: Tree>(f: impl FnOnce(&X) -> Y, x: &X) -> Y {
    let mut template = None;
    let results = checkpoint_call(
        |params| {
            let y = f(&tree::rebuild(x, params));
            let leaves = tree::leaves(&y);
            template = Some(y);
            leaves
        },
        &tree::leaves(x),
    );
    tree::rebuild(&template.expect("the function has run"), &results)
}

/// Calls a function whose derivative the user states: `rule(x, y, ẋ)` gives ẏ, which must be linear in ẋ.
///
/// One rule serves forward, reverse and higher orders. Whatever the function uses that is to be differentiated must
/// come through x.
///
/// ```
/// use chainrule::prelude::*;
/// // Rounding with the derivative of the identity: the straight-through estimator.
/// let round = |x: &Tensor| custom_derivative(|x: &Tensor| x.round(), |_, _, t| t.clone(), x);
/// assert_eq!(grad(|x: &Tensor| round(x) * 3.0, &Tensor::from(1.2)).item::<f64>(), 3.0);
/// ```
#[track_caller]
pub fn custom_derivative<X, Y>(
    f: impl FnOnce(&X) -> Y,
    rule: impl Fn(&X, &Y, &X) -> Y + Send + Sync + 'static,
    x: &X,
) -> Y
where
    X: Tree + Send + Sync + 'static,
    Y: Tree + Send + Sync + 'static,
{
    // The rule outlives this call, so the forms of x and y travel with it; their leaves are emptied first.
    let empty = |leaf: &Tensor| Tensor::input(leaf.ty().clone());
    let form = tree::map(x, empty);
    let inner: Vec<Tensor> = tree::leaves(x);
    let mut result_form = None;
    let template: std::sync::Arc<std::sync::OnceLock<Y>> = Default::default();
    let shared = template.clone();
    let boxed = move |x: &[Tensor], y: &[Tensor], t: &[Tensor]| {
        let y_form = shared.get().expect("the function has run");
        let tangent = rule(&tree::rebuild(&form, x), &tree::rebuild(y_form, y), &tree::rebuild(&form, t));
        tree::leaves(&tangent)
    };
    let results = custom_call(
        Box::new(boxed),
        |params| {
            let y = f(&tree::rebuild(x, params));
            let leaves = tree::leaves(&y);
            let _ = template.set(tree::map(&y, empty));
            result_form = Some(y);
            leaves
        },
        &inner,
    );
    tree::rebuild(&result_form.expect("the function has run"), &results)
}

/// What a transform differentiates with respect to: the parameters of a tree as nodes of their own.
struct Variables<T> {
    tree: T,
    leaves: Vec<Tensor>,
}

impl<T: Tree> Variables<T> {
    #[track_caller]
    fn of(x: &T) -> Result<Variables<T>, GradientError> {
        let named = tree::named_leaves(x);
        if let Some((path, _, leaf)) = named.iter().find(|leaf| leaf.1 == Role::Parameter && !leaf.2.dtype().is_float())
        {
            return Err(GradientError::NotDifferentiable { path: path.clone(), dtype: leaf.dtype() });
        }
        let all: Vec<Tensor> = named
            .iter()
            .map(|(_, role, leaf)| if *role == Role::Parameter { leaf.variable() } else { leaf.clone() })
            .collect();
        let leaves =
            all.iter().zip(&named).filter(|(_, named)| named.1 == Role::Parameter).map(|(v, _)| v.clone()).collect();
        Ok(Variables { tree: tree::rebuild(x, &all), leaves })
    }

    /// Lays pulled cotangents out as the tree; state gets zeros.
    #[track_caller]
    fn collect(&self, x: &T, pulled: Vec<Option<Tensor>>, unreached: Unreached) -> Result<T, GradientError> {
        let mut pulled = pulled.into_iter();
        let mut missing = Vec::new();
        let gradient = tree::map_named(x, |path, role, leaf| {
            if role == Role::State {
                return leaf.zeros_like();
            }
            pulled.next().flatten().unwrap_or_else(|| {
                missing.push(path.to_owned());
                leaf.zeros_like()
            })
        });
        if unreached == Unreached::Error && !missing.is_empty() {
            return Err(GradientError::Unreached { paths: missing });
        }
        Ok(gradient)
    }
}

/// Directions must look like what they are directions of.
#[track_caller]
fn checked(name: &str, like: &[Tensor], given: Vec<Tensor>) -> Vec<Tensor> {
    let types = |list: &[Tensor]| list.iter().map(|x| x.ty().to_string()).collect::<Vec<_>>().join(", ");
    if like.len() != given.len() || like.iter().zip(&given).any(|(a, b)| a.ty() != b.ty()) {
        panic!("{name}: the direction is ({}) for ({})", types(&given), types(like));
    }
    given
}

/// Reverse mode over an expression that is already there: the cotangents at any of its values, from those of its
/// results. Each value in `at` is held for a leaf, so what lies behind one is not seen through it; `None` is no path.
///
/// This is [`vjp`] for those who look at a computation's inside.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::differentiate::pull;
/// let x = Tensor::from([1.0, 2.0]);
/// let h = x.square();
/// let y = (&h * 3.0).sum(..);
/// let at_h = pull(std::slice::from_ref(&y), &[Some(Tensor::from(1.0))], std::slice::from_ref(&h));
/// assert_eq!(at_h[0].as_ref().unwrap().to_vec::<f64>(), [3.0, 3.0]);
/// ```
///
/// # Panics
/// If there are not as many cotangents as results.
#[track_caller]
pub fn pull(results: &[Tensor], cotangents: &[Option<Tensor>], at: &[Tensor]) -> Vec<Option<Tensor>> {
    assert!(results.len() == cotangents.len(), "pull: {} cotangents for {} results", cotangents.len(), results.len());
    reverse::pull(results, cotangents.to_vec(), at)
}

/// [`pull`] at many values of one computation together: what lies behind a value is seen through it, so that each has the
/// cotangent it would have alone. One walk finds them all.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::differentiate::pull_through;
/// let x = Tensor::from([1.0, 2.0]);
/// let h = x.square();
/// let y = (&h * 3.0).sum(..);
/// let found = pull_through(std::slice::from_ref(&y), &[Some(Tensor::from(1.0))], &[x, h]);
/// assert_eq!(found[0].as_ref().unwrap().to_vec::<f64>(), [6.0, 12.0]);
/// assert_eq!(found[1].as_ref().unwrap().to_vec::<f64>(), [3.0, 3.0]);
/// ```
///
/// # Panics
/// If there are not as many cotangents as results.
#[track_caller]
pub fn pull_through(results: &[Tensor], cotangents: &[Option<Tensor>], at: &[Tensor]) -> Vec<Option<Tensor>> {
    let (given, wanted) = (cotangents.len(), results.len());
    assert!(wanted == given, "pull_through: {given} cotangents for {wanted} results");
    reverse::pull_through(results, cotangents.to_vec(), at)
}

/// Forward mode over an expression that is already there: the tangents of its results, from those of any of its values.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::differentiate::push;
/// let x = Tensor::from([1.0, 2.0]);
/// let h = x.square();
/// let y = (&h * 3.0).sum(..);
/// let t = push(std::slice::from_ref(&y), std::slice::from_ref(&h), vec![Some(h.ones_like())]);
/// assert_eq!(t[0].as_ref().unwrap().item::<f64>(), 6.0);
/// ```
pub fn push(results: &[Tensor], leaves: &[Tensor], tangents: Vec<Option<Tensor>>) -> Vec<Option<Tensor>> {
    forward(results, leaves, tangents, |node, tangents| {
        let origin = node.origin().derived(Derivation::Derivative, node.op().name());
        origin.scope(|| rules::jvp(node, tangents, &outputs(node)))
    })
}

/// The tangent of a composition at x along t.
fn push_through(f: impl FnOnce(&Tensor) -> Tensor, x: &Tensor, t: &Tensor) -> Option<Tensor> {
    let variable = x.variable();
    let y = f(&variable);
    push(&[y], &[variable], vec![Some(t.clone())]).pop().flatten()
}
