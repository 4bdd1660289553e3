//! Walking expressions without recursion: what lies between results and leaves, in order, and replaying it.

use super::{Node, Tensor};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// The nodes that `results` are made of, inputs first, stopping at `leaves` (which are left out) and at nodes
/// older than `oldest`, which cannot depend on anything made since.
pub(crate) fn collect(results: &[Tensor], leaves: &[Tensor], oldest: u64) -> Vec<Arc<Node>> {
    let stop: FxHashSet<(u64, u32)> = leaves.iter().map(Tensor::key).collect();
    let mut seen: FxHashSet<u64> = FxHashSet::default();
    let mut order: Vec<Arc<Node>> = Vec::new();
    let mut pending: Vec<&Tensor> = results.iter().collect();
    while let Some(tensor) = pending.pop() {
        if tensor.node.id < oldest || stop.contains(&tensor.key()) || !seen.insert(tensor.node.id) {
            continue;
        }
        order.push(tensor.node.clone());
        pending.extend(tensor.node.inputs.iter());
    }
    order.sort_unstable_by_key(|node| node.id);
    order
}

/// Replays an expression from its leaves to its results under another interpretation.
///
/// `leaves` have the given values; every node one of whose inputs has a value is given to `rule` with the values
/// of its inputs, and gets what it returns. A result without a value does not depend on the leaves.
pub(crate) fn forward<T: Clone>(
    results: &[Tensor],
    leaves: &[Tensor],
    values: Vec<Option<T>>,
    mut rule: impl FnMut(&Arc<Node>, &[Option<T>]) -> Vec<Option<T>>,
) -> Vec<Option<T>> {
    let oldest = leaves.iter().map(|leaf| leaf.node.id).min().unwrap_or(u64::MAX);
    let order = collect(results, leaves, oldest);
    let mut known: FxHashMap<(u64, u32), T> = FxHashMap::default();
    for (leaf, value) in leaves.iter().zip(values) {
        if let Some(value) = value {
            known.insert(leaf.key(), value);
        }
    }
    for node in order {
        let inputs: Vec<Option<T>> = node.inputs.iter().map(|input| known.get(&input.key()).cloned()).collect();
        if inputs.iter().all(Option::is_none) {
            continue;
        }
        for (output, value) in rule(&node, &inputs).into_iter().enumerate() {
            if let Some(value) = value {
                known.entry((node.id, output as u32)).or_insert(value);
            }
        }
    }
    results.iter().map(|result| known.get(&result.key()).cloned()).collect()
}

/// Handles on all outputs of a node.
pub(crate) fn outputs(node: &Arc<Node>) -> Vec<Tensor> {
    (0..node.types.len()).map(|output| Tensor { node: node.clone(), output: output as u32 }).collect()
}

/// A lambda's results with its params replaced.
pub(crate) fn instantiate(lambda: &super::Lambda, arguments: &[Tensor]) -> Vec<Tensor> {
    let values = arguments.iter().cloned().map(Some).collect();
    let results = forward(&lambda.results, &lambda.params, values, |node, inputs| {
        let inputs: Vec<Tensor> =
            inputs.iter().zip(&node.inputs).map(|(new, old)| new.clone().unwrap_or_else(|| old.clone())).collect();
        let tensor = node.origin.scope(|| Tensor::apply(node.op.clone(), &inputs));
        outputs(&tensor.node).into_iter().map(Some).collect()
    });
    results.into_iter().zip(&lambda.results).map(|(new, old)| new.unwrap_or_else(|| old.clone())).collect()
}
