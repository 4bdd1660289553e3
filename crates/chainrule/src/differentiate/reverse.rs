//! Walking backwards: cotangents flow from results to leaves through one rule a node.
//!
//! Reverse mode is this walk over the expression with the rule "linearise the node, then transpose that"; and
//! transposing is this same walk over the linear expression with the transpose page as the rule.

use super::rules::sum;
use super::{rules, transpose};
use crate::tensor::{Derivation, KeyMap, Node, Tensor, collect, outputs};
use std::sync::Arc;

type Cotangent = Option<Tensor>;

/// From a node, which of its operands matter, and the cotangents of its outputs, to those of its operands.
type Rule<'a> = dyn Fn(&Arc<Node>, &[bool], &[Cotangent]) -> Vec<Cotangent> + 'a;

/// The cotangents of leaves, from those of results. What lies behind a leaf is seen `through` it, or not.
fn backward(
    results: &[Tensor],
    cotangents: Vec<Cotangent>,
    leaves: &[Tensor],
    through: bool,
    rule: &Rule<'_>,
) -> Vec<Cotangent> {
    let oldest = leaves.iter().map(|leaf| leaf.node().id()).min().unwrap_or(u64::MAX);
    let order = collect(results, if through { &[] } else { leaves }, oldest);
    let mut active: KeyMap<()> = leaves.iter().map(Tensor::key).collect();
    for node in &order {
        if node.inputs().iter().any(|input| active.contains(input.key())) {
            let floats = node.types().iter().enumerate().filter(|(_, ty)| ty.dtype.is_float());
            floats.for_each(|(output, _)| {
                active.insert_new((node.id(), output as u32), ());
            });
        }
    }
    let mut known: KeyMap<Tensor> = KeyMap::default();
    let add = |key: (u64, u32), cotangent: Cotangent, known: &mut KeyMap<Tensor>| {
        if let Some(total) = sum(known.remove(key), cotangent) {
            known.insert_new(key, total);
        }
    };
    for (result, cotangent) in results.iter().zip(cotangents) {
        add(result.key(), cotangent, &mut known);
    }
    let wanted: KeyMap<()> = leaves.iter().map(Tensor::key).collect();
    for node in order.iter().rev() {
        let linear: Vec<bool> = node.inputs().iter().map(|input| active.contains(input.key())).collect();
        let own = |output: usize| (node.id(), output as u32);
        let cts: Vec<Cotangent> = (0..node.types().len())
            .map(|output| match (wanted.contains(own(output)), through) {
                (false, _) => known.remove(own(output)),
                (true, true) => known.get(own(output)).cloned(),
                (true, false) => None,
            })
            .collect();
        if !linear.contains(&true) || cts.iter().all(Option::is_none) {
            continue;
        }
        node.origin().derived(Derivation::Derivative, node.op().name()).scope(|| {
            let contributions = rule(node, &linear, &cts);
            for ((input, contribution), linear) in node.inputs().iter().zip(contributions).zip(linear) {
                if linear {
                    add(input.key(), contribution, &mut known);
                }
            }
        });
    }
    leaves.iter().map(|leaf| known.get(leaf.key()).cloned()).collect()
}

/// The cotangents of leaves through any expression.
pub(super) fn pull(results: &[Tensor], cotangents: Vec<Cotangent>, leaves: &[Tensor]) -> Vec<Cotangent> {
    backward(results, cotangents, leaves, false, &linearise_and_transpose)
}

/// The cotangents of any values, each with all that flows through the others.
pub(super) fn pull_through(results: &[Tensor], cotangents: Vec<Cotangent>, at: &[Tensor]) -> Vec<Cotangent> {
    backward(results, cotangents, at, true, &linearise_and_transpose)
}

/// The cotangents of leaves through an expression that is linear in them.
pub(super) fn pull_linear(results: &[Tensor], cotangents: Vec<Cotangent>, leaves: &[Tensor]) -> Vec<Cotangent> {
    let rule = |node: &Arc<Node>, linear: &[bool], cts: &[Cotangent]| transpose::transpose(node, linear, cts);
    backward(results, cotangents, leaves, false, &rule)
}

fn linearise_and_transpose(node: &Arc<Node>, linear: &[bool], cotangents: &[Cotangent]) -> Vec<Cotangent> {
    let name = node.op().name();
    let outputs = outputs(node);
    let tangents: Vec<Option<Tensor>> = node
        .inputs()
        .iter()
        .zip(linear)
        .map(|(input, &linear)| linear.then(|| Tensor::input(input.ty().clone())))
        .collect();
    let leaves: Vec<Tensor> = tangents.iter().flatten().cloned().collect();
    let results = rules::jvp(node, &tangents, &outputs);
    let (results, cotangents): (Vec<Tensor>, Vec<Cotangent>) = results
        .into_iter()
        .zip(cotangents)
        .filter_map(|(result, cotangent)| Some((result?, cotangent.clone())))
        .unzip();
    let rule = |local: &Arc<Node>, linear: &[bool], cts: &[Cotangent]| {
        let origin =
            if local.op().name() == name { node.origin().derived(Derivation::Transpose, name) } else { local.origin() };
        origin.scope(|| transpose::transpose(local, linear, cts))
    };
    let mut pulled = backward(&results, cotangents, &leaves, false, &rule).into_iter();
    linear.iter().map(|&linear| if linear { pulled.next().expect("one a leaf") } else { None }).collect()
}
