//! Derivatives of loops, branches and calls: each differentiates into its own kind.
//!
//! A scan's tangent is a scan that is linear in its carried tangents. Whatever of the forward loop it needs is
//! emitted by the forward loop itself, as further outputs over the same body; capture merges the two loops.
//! Its transpose is a scan in the other direction that carries cotangents: back-propagation through time.

use super::rules::sum;
use super::{push, reverse, transpose::zeros_of};
use crate::tensor::{
    CustomRule, Lambda, Op, Origin, ScanDims, Shared, Tensor, Type, checkpoint_call, collect, cond_call, forward,
    scan_call,
};
use chainrule_kernels::alphabet::{Binary, Unary};
use rustc_hash::FxHashSet;

type Tangent = Option<Tensor>;

fn placeholders(like: &[Tensor], wanted: &[bool]) -> Vec<Tangent> {
    like.iter().zip(wanted).map(|(x, &wanted)| wanted.then(|| Tensor::input(x.ty().clone()))).collect()
}

/// Tangents of a lambda's results, for placeholders as tangents of the wanted params.
fn tangent_results(body: &Lambda, tangents: &[Tangent]) -> Vec<Tangent> {
    push(&body.results, &body.params, tangents.to_vec())
}

/// The linear half of a body: the nodes between tangent leaves and results, and what they take from outside.
fn taken(results: &[Tensor], leaves: &[Tensor]) -> Vec<Tensor> {
    crate::tensor::free_values(leaves, results)
}

/// Which of a body's params an expression depends on.
fn reached(value: &Tensor, params: &[Tensor]) -> FxHashSet<(u64, u32)> {
    let bound: FxHashSet<(u64, u32)> = params.iter().map(Tensor::key).collect();
    let nodes = collect(std::slice::from_ref(value), params, 0);
    let inputs = nodes.iter().flat_map(|node| node.inputs().iter().map(Tensor::key));
    inputs.chain([value.key()]).filter(|key| bound.contains(key)).collect()
}

/// What of these values a loop has to keep: the rest follow from it by a sum or product or two, and are computed again
/// where they are needed, which is cheaper than memory. σ(1 − σ) follows from σ.
fn kept(mut values: Vec<Tensor>) -> Vec<Tensor> {
    let mut keys: FxHashSet<(u64, u32)> = values.iter().map(Tensor::key).collect();
    let mut newest_first: Vec<Tensor> = values.clone();
    newest_first.sort_by_key(|value| std::cmp::Reverse(value.node().id()));
    for value in newest_first {
        keys.remove(&value.key());
        if !follows(&value, &keys, 3) {
            keys.insert(value.key());
        }
    }
    values.retain(|value| keys.contains(&value.key()));
    values
}

/// Whether a value is at most `depth` sums, differences and products away from these.
fn follows(value: &Tensor, from: &FxHashSet<(u64, u32)>, depth: usize) -> bool {
    let near = |input: &Tensor| from.contains(&input.key()) || follows(input, from, depth - 1);
    match value.node().op() {
        Op::Constant(..) => true,
        Op::Unary(Unary::Neg) | Op::Binary(Binary::Add | Binary::Sub | Binary::Mul) if depth > 0 => {
            value.node().inputs().iter().all(near)
        }
        _ => false,
    }
}

pub(super) fn scan_jvp(dims: &ScanDims, body: &Shared<Lambda>, x: &[Tensor], t: &[Tangent]) -> Vec<Tangent> {
    let (nc, nx) = (dims.carries, dims.sequences);
    // A carry has a tangent if it starts with one or the body gives it one; iterate until that settles.
    let mut active: Vec<bool> = x.iter().zip(t).map(|(x, t)| t.is_some() && x.dtype().is_float()).collect();
    let (tangents, results) = loop {
        let tangents = placeholders(&body.params, &active);
        let results = tangent_results(body, &tangents);
        let more: Vec<usize> = (0..nc).filter(|&i| results[i].is_some() && !active[i]).collect();
        if more.is_empty() {
            break (tangents, results);
        }
        more.into_iter().for_each(|i| active[i] = true);
    };
    let wanted: Vec<usize> = (0..results.len()).filter(|&i| results[i].is_some() || (i < nc && active[i])).collect();
    let linear_results: Vec<Tensor> =
        wanted.iter().map(|&i| results[i].clone().unwrap_or_else(|| zeros_of(&body.results[i]))).collect();
    let leaves: Vec<Tensor> = tangents.iter().flatten().cloned().collect();

    // What the linear loop takes from the forward one: params directly, what depends on constants alone computed
    // outside, all else emitted by the forward loop step by step.
    let (mut sequence_params, mut sequence_values, mut constant_params, mut constant_values) =
        (vec![], vec![], vec![], vec![]);
    let mut residuals: Vec<Tensor> = Vec::new();
    for value in kept(taken(&linear_results, &leaves)) {
        let place = body.params.iter().position(|p| p.key() == value.key());
        let needs = reached(&value, &body.params);
        let varying = body.params[..nc + nx].iter().any(|p| needs.contains(&p.key()));
        match place {
            Some(i) if (nc..nc + nx).contains(&i) => {
                sequence_params.push(value);
                sequence_values.push(x[i].clone());
            }
            _ if !varying => {
                let outside = Lambda { params: body.params[nc + nx..].to_vec(), results: vec![value.clone()] };
                constant_values.extend(crate::tensor::instantiate(&outside, &x[nc + nx..]));
                constant_params.push(value);
            }
            _ => residuals.push(value),
        }
    }
    if !residuals.is_empty() {
        let results = body.results.iter().chain(&residuals).cloned().collect();
        let forward = scan_call(*dims, Lambda { params: body.params.clone(), results }, x);
        sequence_values.extend(forward.outputs().split_off(body.results.len()));
        sequence_params.extend(residuals);
    }

    let part = |range: std::ops::Range<usize>| {
        let wanted = range.filter(|&i| tangents[i].is_some());
        let pairs =
            wanted.map(|i| (tangents[i].clone().expect("kept"), t[i].clone().unwrap_or_else(|| zeros_of(&x[i]))));
        pairs.unzip::<Tensor, Tensor, Vec<_>, Vec<_>>()
    };
    let ((pc, vc), (px, vx), (pk, vk)) = (part(0..nc), part(nc..nc + nx), part(nc + nx..x.len()));
    let linear_dims = ScanDims { carries: pc.len(), sequences: px.len() + sequence_params.len(), ..*dims };
    let params = [pc, px, sequence_params, pk, constant_params].concat();
    let values = [vc, vx, sequence_values, vk, constant_values].concat();
    if linear_results.is_empty() {
        return vec![None; body.results.len()];
    }
    let linear = scan_call(linear_dims, Lambda { params, results: linear_results }, &values);
    let mut outputs: Vec<Tangent> = vec![None; body.results.len()];
    linear.outputs().into_iter().zip(wanted).for_each(|(output, i)| outputs[i] = Some(output));
    outputs
}

pub(super) fn scan_transpose(
    dims: &ScanDims,
    body: &Lambda,
    x: &[Tensor],
    linear: &[bool],
    ct: &[Option<Tensor>],
) -> Vec<Option<Tensor>> {
    let (nc, nx) = (dims.carries, dims.sequences);
    let is_linear = |i: usize| i < nc || linear[i];
    let select =
        |range: std::ops::Range<usize>, want: bool| -> Vec<usize> { range.filter(|&i| is_linear(i) == want).collect() };
    let (linear_x, other_x) = (select(nc..nc + nx, true), select(nc..nc + nx, false));
    let (linear_k, other_k) = (select(nc + nx..x.len(), true), select(nc + nx..x.len(), false));
    let p = |places: &[usize]| places.iter().map(|&i| body.params[i].clone()).collect::<Vec<_>>();
    let v = |places: &[usize]| places.iter().map(|&i| x[i].clone()).collect::<Vec<_>>();

    // Carried backwards: the cotangents of the carries, and sums for the constants.
    let new_inputs = |like: &[Tensor]| like.iter().map(|x| Tensor::input(x.ty().clone())).collect::<Vec<_>>();
    let ct_carry = new_inputs(&body.results[..nc]);
    let totals = new_inputs(&p(&linear_k));
    let given: Vec<usize> = (nc..body.results.len()).filter(|&i| ct[i].is_some()).collect();
    let ct_outputs = new_inputs(&given.iter().map(|&i| body.results[i].clone()).collect::<Vec<_>>());

    let mut cts: Vec<Option<Tensor>> = vec![None; body.results.len()];
    ct_carry.iter().enumerate().for_each(|(i, ct)| cts[i] = Some(ct.clone()));
    given.iter().zip(&ct_outputs).for_each(|(&i, ct)| cts[i] = Some(ct.clone()));
    let leaves = [body.params[..nc].to_vec(), p(&linear_x), p(&linear_k)].concat();
    let pulled = reverse::pull_linear(&body.results, cts, &leaves);
    let or_zeros = |i: usize| pulled[i].clone().unwrap_or_else(|| zeros_of(&leaves[i]));
    let after = nc + linear_x.len();
    let new_totals =
        (0..linear_k.len()).map(|i| sum(Some(totals[i].clone()), pulled[after + i].clone()).expect("a total"));
    let results: Vec<Tensor> = (0..nc).map(or_zeros).chain(new_totals).chain((nc..after).map(or_zeros)).collect();

    let back = ScanDims {
        length: dims.length,
        carries: nc + linear_k.len(),
        sequences: given.len() + other_x.len(),
        reverse: !dims.reverse,
    };
    let params = [ct_carry, totals, ct_outputs, p(&other_x), p(&other_k)].concat();
    let start: Vec<Tensor> = (0..nc).map(|i| ct[i].clone().unwrap_or_else(|| zeros_of(&x[i]))).collect();
    let zeros: Vec<Tensor> = v(&linear_k).iter().map(zeros_of).collect();
    let stacked: Vec<Tensor> = given.iter().map(|&i| ct[i].clone().expect("given")).collect();
    let values = [start, zeros, stacked, v(&other_x), v(&other_k)].concat();
    let node = scan_call(back, Lambda { params, results }, &values);
    let outputs = node.outputs();
    let mut cotangents: Vec<Option<Tensor>> = vec![None; x.len()];
    let places = (0..nc).chain(linear_k.iter().copied()).chain(linear_x.iter().copied());
    places.zip(outputs).for_each(|(i, output)| cotangents[i] = Some(output));
    cotangents
}

/// Runs `push` under a lambda: (params, tangents) to tangents, zeros where a result has none.
fn tangent_lambda(body: &Lambda, t: &[Tangent]) -> Option<(Lambda, Vec<usize>)> {
    let wanted: Vec<bool> = t.iter().map(Option::is_some).collect();
    let tangents = placeholders(&body.params, &wanted);
    let results = tangent_results(body, &tangents);
    let kept: Vec<usize> = (0..results.len()).filter(|&i| body.results[i].dtype().is_float()).collect();
    if results.iter().all(Option::is_none) {
        return None;
    }
    let results = kept.iter().map(|&i| results[i].clone().unwrap_or_else(|| zeros_of(&body.results[i]))).collect();
    let params = body.params.iter().cloned().chain(tangents.into_iter().flatten()).collect();
    Some((Lambda { params, results }, kept))
}

/// A lambda without results for the tangents that a branch does not have.
fn zero_lambda(body: &Lambda, t: &[Tangent]) -> (Lambda, Vec<usize>) {
    let wanted: Vec<bool> = t.iter().map(Option::is_some).collect();
    let tangents = placeholders(&body.params, &wanted);
    let kept: Vec<usize> = (0..body.results.len()).filter(|&i| body.results[i].dtype().is_float()).collect();
    let results = kept.iter().map(|&i| zeros_of(&body.results[i])).collect();
    (Lambda { params: body.params.iter().cloned().chain(tangents.into_iter().flatten()).collect(), results }, kept)
}

fn spread(values: Vec<Tensor>, places: &[usize], count: usize) -> Vec<Tangent> {
    let mut all = vec![None; count];
    values.into_iter().zip(places).for_each(|(value, &i)| all[i] = Some(value));
    all
}

pub(super) fn cond_jvp(yes: &Lambda, no: &Lambda, x: &[Tensor], t: &[Tangent]) -> Vec<Tangent> {
    let count = yes.results.len();
    let (a, b) = (tangent_lambda(yes, &t[1..]), tangent_lambda(no, &t[1..]));
    if a.is_none() && b.is_none() {
        return vec![None; count];
    }
    let (a, kept) = a.unwrap_or_else(|| zero_lambda(yes, &t[1..]));
    let (b, _) = b.unwrap_or_else(|| zero_lambda(no, &t[1..]));
    let inputs: Vec<Tensor> = x.iter().cloned().chain(t.iter().flatten().cloned()).collect();
    spread(cond_call(a, b, &inputs).outputs(), &kept, count)
}

/// The transpose of a lambda: (params that are not linear, cotangents) to cotangents of the linear ones.
fn transposed_lambda(body: &Lambda, linear: &[bool], ct: &[Option<Tensor>]) -> Lambda {
    let given: Vec<Option<Tensor>> = ct.iter().map(|ct| ct.as_ref().map(|ct| Tensor::input(ct.ty().clone()))).collect();
    let leaves: Vec<Tensor> = pick(&body.params, linear, true);
    let pulled = reverse::pull_linear(&body.results, given.clone(), &leaves);
    let results = pulled.into_iter().zip(&leaves).map(|(ct, leaf)| ct.unwrap_or_else(|| zeros_of(leaf))).collect();
    let params = pick(&body.params, linear, false).into_iter().chain(given.into_iter().flatten()).collect();
    Lambda { params, results }
}

fn pick(list: &[Tensor], linear: &[bool], want: bool) -> Vec<Tensor> {
    list.iter().zip(linear).filter(|(_, linear)| **linear == want).map(|(x, _)| x.clone()).collect()
}

fn linear_places(linear: &[bool]) -> Vec<usize> {
    (0..linear.len()).filter(|&i| linear[i]).collect()
}

pub(super) fn cond_transpose(
    yes: &Lambda,
    no: &Lambda,
    x: &[Tensor],
    linear: &[bool],
    ct: &[Option<Tensor>],
) -> Vec<Option<Tensor>> {
    let (a, b) = (transposed_lambda(yes, &linear[1..], ct), transposed_lambda(no, &linear[1..], ct));
    let inputs: Vec<Tensor> = pick(x, linear, false).into_iter().chain(ct.iter().flatten().cloned()).collect();
    spread(cond_call(a, b, &inputs).outputs(), &linear_places(linear), x.len())
}

/// A checkpoint whose body is this lambda: recomputed wherever it is used.
fn recomputed(body: &Lambda, inputs: &[Tensor]) -> Vec<Tensor> {
    checkpoint_call(|params| crate::tensor::instantiate(body, params), inputs)
}

pub(super) fn checkpoint_jvp(body: &Lambda, x: &[Tensor], t: &[Tangent]) -> Vec<Tangent> {
    let Some((lambda, kept)) = tangent_lambda(body, t) else {
        return vec![None; body.results.len()];
    };
    let inputs: Vec<Tensor> = x.iter().cloned().chain(t.iter().flatten().cloned()).collect();
    spread(recomputed(&lambda, &inputs), &kept, body.results.len())
}

pub(super) fn checkpoint_transpose(
    body: &Lambda,
    x: &[Tensor],
    linear: &[bool],
    ct: &[Option<Tensor>],
) -> Vec<Option<Tensor>> {
    let lambda = transposed_lambda(body, linear, ct);
    let inputs: Vec<Tensor> = pick(x, linear, false).into_iter().chain(ct.iter().flatten().cloned()).collect();
    spread(recomputed(&lambda, &inputs), &linear_places(linear), x.len())
}

pub(super) fn custom_jvp(
    origin: Origin,
    rule: &CustomRule,
    operands: usize,
    x: &[Tensor],
    y: &[Tensor],
    t: &[Tangent],
) -> Vec<Tangent> {
    if let Some(i) = (operands..x.len()).find(|&i| t[i].is_some()) {
        panic!(
            "{origin}: custom_derivative: the function uses a tensor from outside ({}, from {}) that is being differentiated; \
             pass it as an operand",
            x[i].ty(),
            x[i].node().origin()
        );
    }
    let tangents: Vec<Tensor> =
        x[..operands].iter().zip(t).map(|(x, t)| t.clone().unwrap_or_else(|| zeros_of(x))).collect();
    let results = rule(&x[..operands], y, &tangents);
    let types = |list: &[Tensor]| list.iter().map(|y| y.ty().clone()).collect::<Vec<Type>>();
    if types(&results) != types(y) {
        panic!(
            "{origin}: custom_derivative: the tangents are {results:?} for results {y:?}; they must have the same shapes"
        );
    }
    results.into_iter().map(Some).collect()
}

/// Batches a lambda: results for params with a new leading axis where marked, and which results got one.
fn batched_lambda(body: &Lambda, marked: &[bool], size: usize) -> (Lambda, Vec<bool>) {
    // All params become placeholders of the lambda's own at once: one may be an expression of others.
    let own: Vec<Tensor> = body.params.iter().map(|p| Tensor::input(p.ty().clone())).collect();
    let renamed = crate::tensor::instantiate(body, &own);
    let wide = |p: &Tensor| Tensor::input(p.ty().with_shape([size].into_iter().chain(p.shape().iter().copied())));
    let params: Vec<Tensor> = own.iter().zip(marked).map(|(p, &m)| if m { wide(p) } else { p.clone() }).collect();
    let leaves = pick(&own, marked, true);
    let values = pick(&params, marked, true).into_iter().map(Some).collect();
    let results = forward(&renamed, &leaves, values, |node, inputs| super::batch::batch(node, inputs, size));
    let got: Vec<bool> = results.iter().map(Option::is_some).collect();
    let results = results.into_iter().zip(renamed).map(|(new, old)| new.unwrap_or(old)).collect();
    (Lambda { params, results }, got)
}

/// Gives results that have no batch axis one.
fn force(lambda: Lambda, got: &[bool], want: &[bool], size: usize) -> Lambda {
    let results = lambda
        .results
        .into_iter()
        .zip(got.iter().zip(want))
        .map(|(y, (got, want))| if *want && !got { super::batch::widen(&y, size) } else { y });
    Lambda { params: lambda.params, results: results.collect() }
}

pub(super) fn scan_batch(
    dims: &ScanDims,
    body: &Lambda,
    x: &[Tensor],
    b: &[Option<Tensor>],
    size: usize,
) -> Vec<Option<Tensor>> {
    let (nc, nx) = (dims.carries, dims.sequences);
    let mut marked: Vec<bool> = b.iter().map(Option::is_some).collect();
    let (lambda, got) = loop {
        let (lambda, got) = batched_lambda(body, &marked, size);
        let more: Vec<usize> = (0..nc).filter(|&i| got[i] && !marked[i]).collect();
        if more.is_empty() {
            break (lambda, got);
        }
        more.into_iter().for_each(|i| marked[i] = true);
    };
    let want: Vec<bool> = (0..got.len()).map(|i| if i < nc { marked[i] } else { got[i] }).collect();
    let lambda = force(lambda, &got, &want, size);
    let values: Vec<Tensor> = (0..x.len())
        .map(|i| match &b[i] {
            Some(b) if (nc..nc + nx).contains(&i) => b.swap_axes(0, 1),
            Some(b) => b.clone(),
            None if marked[i] => super::batch::widen(&x[i], size),
            None => x[i].clone(),
        })
        .collect();
    let outputs = scan_call(*dims, lambda, &values).outputs();
    let placed = outputs.into_iter().zip(want).enumerate().map(|(i, (y, batched))| match (i < nc, batched) {
        (true, true) => y,
        (false, true) => y.swap_axes(0, 1),
        (_, false) => super::batch::widen(&y, size),
    });
    placed.map(Some).collect()
}

pub(super) fn cond_batch(
    yes: &Lambda,
    no: &Lambda,
    x: &[Tensor],
    b: &[Option<Tensor>],
    size: usize,
) -> Vec<Option<Tensor>> {
    let values: Vec<Tensor> = x.iter().zip(b).map(|(x, b)| b.clone().unwrap_or_else(|| x.clone())).collect();
    let marked: Vec<bool> = b[1..].iter().map(Option::is_some).collect();
    let all = vec![true; yes.results.len()];
    let branch = |body: &Lambda| {
        let (lambda, got) = batched_lambda(body, &marked, size);
        force(lambda, &got, &all, size)
    };
    let (a, c) = (branch(yes), branch(no));
    if b[0].is_none() {
        return cond_call(a, c, &values).outputs().into_iter().map(Some).collect();
    }
    // A condition for each of the batch: both branches are computed, and selected between.
    let (a, c) = (crate::tensor::instantiate(&a, &values[1..]), crate::tensor::instantiate(&c, &values[1..]));
    let choose = |(yes, no): (Tensor, Tensor)| {
        let condition = values[0].reshape([&[size], &vec![1; yes.rank() - 1][..]].concat());
        Some(condition.select(&yes, no))
    };
    a.into_iter().zip(c).map(choose).collect()
}

pub(super) fn call_batch(op: &Op, x: &[Tensor], b: &[Option<Tensor>], size: usize) -> Vec<Option<Tensor>> {
    let Op::Call(kind, body) = op else { unreachable!("a call") };
    let values: Vec<Tensor> = x.iter().zip(b).map(|(x, b)| b.clone().unwrap_or_else(|| x.clone())).collect();
    let marked: Vec<bool> = b.iter().map(Option::is_some).collect();
    let (lambda, got) = batched_lambda(body, &marked, size);
    let lambda = force(lambda, &got, &vec![true; got.len()], size);
    let call = match kind {
        crate::tensor::CallKind::Checkpoint => Tensor::apply(Op::Call(kind.clone(), Shared::new(lambda)), &values),
        crate::tensor::CallKind::Custom(rule, operands) => {
            let rule = batched_rule(rule.clone(), marked[..*operands].to_vec(), size);
            let kind = crate::tensor::CallKind::Custom(Shared::new(rule), *operands);
            Tensor::apply(Op::Call(kind, Shared::new(lambda)), &values)
        }
    };
    call.outputs().into_iter().map(Some).collect()
}

/// A user's rule on a batch: the rule, itself batched.
fn batched_rule(rule: Shared<Box<CustomRule>>, marked: Vec<bool>, size: usize) -> Box<CustomRule> {
    Box::new(move |x: &[Tensor], y: &[Tensor], t: &[Tensor]| {
        let row = |v: &Tensor, batched: bool| {
            let shape = if batched { &v.shape()[1..] } else { v.shape() };
            Tensor::input(v.ty().with_shape(shape.iter().copied()))
        };
        let xs: Vec<Tensor> = x.iter().zip(&marked).map(|(x, &batched)| row(x, batched)).collect();
        let ys: Vec<Tensor> = y.iter().map(|y| row(y, true)).collect();
        let ts: Vec<Tensor> = t.iter().zip(&marked).map(|(t, &batched)| row(t, batched)).collect();
        let results = rule(&xs, &ys, &ts);
        let leaves = [xs, ys, ts].concat();
        let values = [x, y, t].concat();
        let flags = [&marked[..], &vec![true; y.len()], &marked].concat();
        let whole = Lambda { params: leaves, results };
        let (lambda, got) = batched_lambda(&whole, &flags, size);
        let lambda = force(lambda, &got, &vec![true; got.len()], size);
        crate::tensor::instantiate(&lambda, &values)
    })
}
