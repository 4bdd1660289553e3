//! Functions as operands: loops that carry state, branches, functions called as one.
//!
//! A body is traced once on placeholders. Whatever it uses from outside becomes a further operand, so that a
//! gradient reaches it like any other.

use super::op::{CallKind, CustomRule, Lambda, ScanDims, Shared};
use super::{Op, Tensor, Type};
use crate::tree::{self, Tree};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

/// Runs a function on placeholders and closes it: `params` of the lambda are the placeholders, then the captured
/// outer tensors, which are also returned as the operands to pass for them.
#[track_caller]
pub(crate) fn trace(types: &[Type], body: impl FnOnce(&[Tensor]) -> Vec<Tensor>) -> (Lambda, Vec<Tensor>) {
    let params = placeholders(types);
    let results = body(&params);
    close(params, results)
}

/// One placeholder a type, at the caller's line.
#[track_caller]
pub(crate) fn placeholders<'a>(types: impl IntoIterator<Item = &'a Type>) -> Vec<Tensor> {
    let here = super::Origin::here();
    here.scope(|| types.into_iter().map(|ty| Tensor::input(ty.clone())).collect())
}

/// Closes results over params and what else they use: everything that does not depend on a param is captured,
/// numbers excepted.
pub(crate) fn close(params: Vec<Tensor>, results: Vec<Tensor>) -> (Lambda, Vec<Tensor>) {
    let captured = free_values(&params, &results);
    let params = params.into_iter().chain(captured.iter().cloned()).collect();
    (Lambda { params, results }, captured)
}

/// The maximal subexpressions of results that do not depend on params, other than plain numbers.
pub(crate) fn free_values(params: &[Tensor], results: &[Tensor]) -> Vec<Tensor> {
    let oldest = params.iter().map(|p| p.node().id()).min().unwrap_or(u64::MAX);
    let bound: FxHashSet<(u64, u32)> = params.iter().map(Tensor::key).collect();
    let mut inside: FxHashSet<u64> = FxHashSet::default();
    let nodes = super::collect(results, params, oldest);
    for node in &nodes {
        if node.inputs().iter().any(|input| bound.contains(&input.key()) || inside.contains(&input.node().id())) {
            inside.insert(node.id());
        }
    }
    let number = |tensor: &Tensor| matches!(tensor.node().op(), Op::Constant(..) | Op::Iota(..));
    let mut seen: FxHashSet<(u64, u32)> = FxHashSet::default();
    let used = nodes.iter().filter(|node| inside.contains(&node.id())).flat_map(|node| node.inputs());
    used.chain(results)
        .filter(|tensor| !bound.contains(&tensor.key()) && !inside.contains(&tensor.node().id()) && !number(tensor))
        .filter(|tensor| seen.insert(tensor.key()))
        .cloned()
        .collect()
}

/// How a [`scan_with`] walks.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScanOptions {
    /// Number of steps, where no sequence tells it.
    pub length: Option<usize>,
    /// From the last slice to the first.
    pub reverse: bool,
}

/// Runs a body over the slices of sequences along axis 0, carrying state: the loop of recurrent networks.
///
/// `(carry, y) = body(carry, x)` for each slice x; the result is the last carry and the stacked y. All three may be
/// any trees of tensors. The derivative is back-propagation through time.
///
/// # Panics
/// If sequences differ in length, or the body changes the carry's shape or dtype.
///
/// ```
/// use chainrule::prelude::*;
/// let xs = Tensor::from([1.0, 2.0, 3.0]);
/// let (last, sums) = scan(|c: &Tensor, x: &Tensor| (c + x, c + x), &Tensor::from(0.0), &xs);
/// assert_eq!(last.item::<f64>(), 6.0);
/// assert_eq!(sums.to_vec::<f64>(), [1.0, 3.0, 6.0]);
/// ```
#[track_caller]
pub fn scan<C: Tree, X: Tree, Y: Tree>(body: impl FnOnce(&C, &X) -> (C, Y), init: &C, xs: &X) -> (C, Y) {
    scan_with(ScanOptions::default(), body, init, xs)
}

/// [`scan`] with options.
///
/// # Panics
/// As [`scan`], and if neither a sequence nor the options tell the number of steps.
#[track_caller]
pub fn scan_with<C: Tree, X: Tree, Y: Tree>(
    options: ScanOptions,
    body: impl FnOnce(&C, &X) -> (C, Y),
    init: &C,
    xs: &X,
) -> (C, Y) {
    let (carries, sequences) = (tree::leaves(init), tree::leaves(xs));
    let length = options.length.or_else(|| sequences.iter().find_map(|x| x.shape().first().copied()));
    let Some(length) = length else { panic!("scan: no sequence and no length tell the number of steps") };
    if let Some(x) = sequences.iter().find(|x| options.length.is_some() && x.shape().first() != Some(&length)) {
        panic!("scan: {length} steps are asked for and a sequence is {}", x.ty());
    }
    if let Some(x) = sequences.iter().find(|x| x.shape().first() != Some(&length)) {
        panic!("scan: a sequence is {} and another has {length} slices along axis 0", x.ty());
    }
    let slices = sequences.iter().map(|x| x.ty().with_shape(x.shape()[1..].iter().copied()));
    let types: Vec<Type> = carries.iter().map(|c| c.ty().clone()).chain(slices).collect();
    let mut template: Option<(C, Y)> = None;
    let (lambda, captured) = trace(&types, |params| {
        let (c, x) = params.split_at(carries.len());
        let (c, y) = body(&tree::rebuild(init, c), &tree::rebuild(xs, x));
        let results = tree::leaves(&c).into_iter().chain(tree::leaves(&y)).collect();
        template = Some((c, y));
        results
    });
    let (c, y) = template.expect("the body has run");
    let dims = ScanDims { length, carries: carries.len(), sequences: sequences.len(), reverse: options.reverse };
    if tree::leaves(&c).len() != carries.len() {
        panic!("scan: {} tensors are carried and the body returns {}", carries.len(), tree::leaves(&c).len());
    }
    let inputs: Vec<Tensor> = carries.into_iter().chain(sequences).chain(captured).collect();
    let results = scan_call(dims, lambda, &inputs).outputs();
    let (last, stacked) = results.split_at(dims.carries);
    (tree::rebuild(&c, last), tree::rebuild(&y, stacked))
}

#[track_caller]
pub(crate) fn scan_call(dims: ScanDims, lambda: Lambda, inputs: &[Tensor]) -> Tensor {
    if dims.carries == 0 && lambda.results.is_empty() {
        panic!("scan: the body returns nothing");
    }
    Tensor::apply(Op::Scan(std::sync::Arc::new(dims), Shared::new(lambda)), inputs)
}

/// [`scan`] whose gradient is cut every `window` steps: truncated back-propagation through time. The values are
/// those of [`scan`].
#[track_caller]
pub fn scan_truncated<C: Tree, X: Tree, Y: Tree>(
    window: usize,
    body: impl Fn(&C, &X) -> (C, Y),
    init: &C,
    xs: &X,
) -> (C, Y) {
    assert!(window > 0, "scan_truncated: a window of 0 steps");
    let length = tree::leaves(xs).first().map_or(0, |x| x.shape()[0]);
    let mut carry = tree::map(init, |c| c.clone());
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    let mut template: Option<Y> = None;
    let mut start = 0;
    while start < length || template.is_none() {
        let count = window.min(length - start);
        let (part, cut) = super::Origin::here().scope(|| {
            let cut = tree::map(&carry, |c| if start == 0 { c.clone() } else { c.stop_gradient() });
            (tree::map(xs, |x| x.narrow(0, start, count)), cut)
        });
        let (last, y) = scan_with(ScanOptions { length: Some(count), reverse: false }, &body, &cut, &part);
        carry = last;
        parts.push(tree::leaves(&y));
        template.get_or_insert(y);
        start += count.max(1);
    }
    let template = template.expect("at least one window");
    let column = |i: usize| parts.iter().map(|part| part[i].clone()).collect::<Vec<_>>();
    let joined: Vec<Tensor> =
        super::Origin::here().scope(|| (0..parts[0].len()).map(|i| super::concat(&column(i), 0)).collect());
    (carry, tree::rebuild(&template, &joined))
}

/// One of two functions of the operands, by a scalar bool; only that one is computed.
///
/// # Panics
/// If the branches return different shapes or dtypes.
///
/// ```
/// use chainrule::prelude::*;
/// let x = Tensor::from(-2.0);
/// let y = cond(&x.greater(0.0), |x: &Tensor| x.sqrt(), |x: &Tensor| -x, &x);
/// assert_eq!(y.item::<f64>(), 2.0);
/// ```
#[track_caller]
pub fn cond<X: Tree, Y: Tree>(
    condition: &Tensor,
    yes: impl FnOnce(&X) -> Y,
    no: impl FnOnce(&X) -> Y,
    operands: &X,
) -> Y {
    let leaves = tree::leaves(operands);
    let params = placeholders(leaves.iter().map(Tensor::ty));
    let inner = tree::rebuild(operands, &params);
    let (yes, no) = (yes(&inner), no(&inner));
    let (results_yes, results_no) = (tree::leaves(&yes), tree::leaves(&no));
    let all: Vec<Tensor> = results_yes.iter().chain(&results_no).cloned().collect();
    let (closed, captured) = close(params, all);
    let both = |results| Lambda { params: closed.params.clone(), results };
    let inputs: Vec<Tensor> = std::iter::once(condition.clone()).chain(leaves).chain(captured).collect();
    let node = cond_call(both(results_yes), both(results_no), &inputs);
    tree::rebuild(&yes, &node.outputs())
}

#[track_caller]
pub(crate) fn cond_call(yes: Lambda, no: Lambda, inputs: &[Tensor]) -> Tensor {
    Tensor::apply(Op::Cond(Shared::new(yes), Shared::new(no)), inputs)
}

/// A function called as one whose insides are computed again in the backward pass.
#[track_caller]
pub(crate) fn checkpoint_call(body: impl FnOnce(&[Tensor]) -> Vec<Tensor>, inputs: &[Tensor]) -> Vec<Tensor> {
    call(CallKind::Checkpoint, body, inputs)
}

/// A function called as one, with a derivative of the user's.
#[track_caller]
pub(crate) fn custom_call(
    rule: Box<CustomRule>,
    body: impl FnOnce(&[Tensor]) -> Vec<Tensor>,
    inputs: &[Tensor],
) -> Vec<Tensor> {
    call(CallKind::Custom(Shared::new(rule), inputs.len()), body, inputs)
}

#[track_caller]
fn call(kind: CallKind, body: impl FnOnce(&[Tensor]) -> Vec<Tensor>, inputs: &[Tensor]) -> Vec<Tensor> {
    let types: SmallVec<[Type; 4]> = inputs.iter().map(|x| x.ty().clone()).collect();
    let (lambda, captured) = trace(&types, body);
    let inputs: Vec<Tensor> = inputs.iter().cloned().chain(captured).collect();
    Tensor::apply(Op::Call(kind, Shared::new(lambda)), &inputs).outputs()
}
