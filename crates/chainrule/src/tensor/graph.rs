//! Walking expressions without recursion: what lies between results and leaves, in order, and replaying it.

use super::{Node, Tensor};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// A map from values: a short list while it is short, for reverse mode walks a tiny expression at every node.
pub(crate) struct KeyMap<T> {
    few: SmallVec<[((u64, u32), T); 8]>,
    many: FxHashMap<(u64, u32), T>,
    spilled: bool,
}

impl<T> Default for KeyMap<T> {
    fn default() -> KeyMap<T> {
        KeyMap { few: SmallVec::new(), many: FxHashMap::default(), spilled: false }
    }
}

impl<T> KeyMap<T> {
    pub(crate) fn get(&self, key: (u64, u32)) -> Option<&T> {
        match self.spilled {
            true => self.many.get(&key),
            false => self.few.iter().find(|entry| entry.0 == key).map(|entry| &entry.1),
        }
    }
    pub(crate) fn contains(&self, key: (u64, u32)) -> bool {
        self.get(key).is_some()
    }
    /// Keeps what is there already; whether there was nothing.
    pub(crate) fn insert_new(&mut self, key: (u64, u32), value: T) -> bool {
        if !self.spilled {
            if self.few.iter().any(|entry| entry.0 == key) {
                return false;
            }
            if self.few.len() < self.few.inline_size() {
                self.few.push((key, value));
                return true;
            }
            self.spilled = true;
            self.many.extend(self.few.drain(..));
        }
        match self.many.entry(key) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(value);
                true
            }
        }
    }
    pub(crate) fn remove(&mut self, key: (u64, u32)) -> Option<T> {
        match self.spilled {
            true => self.many.remove(&key),
            false => {
                let place = self.few.iter().position(|entry| entry.0 == key)?;
                Some(self.few.swap_remove(place).1)
            }
        }
    }
}

impl FromIterator<(u64, u32)> for KeyMap<()> {
    fn from_iter<I: IntoIterator<Item = (u64, u32)>>(keys: I) -> KeyMap<()> {
        let mut set = KeyMap::default();
        keys.into_iter().for_each(|key| {
            set.insert_new(key, ());
        });
        set
    }
}

/// The nodes that `results` are made of, inputs first, stopping at `leaves` (which are left out) and at nodes
/// older than `oldest`, which cannot depend on anything made since.
pub(crate) fn collect(results: &[Tensor], leaves: &[Tensor], oldest: u64) -> Vec<Arc<Node>> {
    let stop: KeyMap<()> = leaves.iter().map(Tensor::key).collect();
    let mut seen: KeyMap<()> = KeyMap::default();
    let mut order: Vec<Arc<Node>> = Vec::new();
    let mut pending: Vec<&Tensor> = results.iter().collect();
    while let Some(tensor) = pending.pop() {
        if tensor.node.id < oldest || stop.contains(tensor.key()) || !seen.insert_new((tensor.node.id, 0), ()) {
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
    let mut known: KeyMap<T> = KeyMap::default();
    for (leaf, value) in leaves.iter().zip(values) {
        if let Some(value) = value {
            known.remove(leaf.key());
            known.insert_new(leaf.key(), value);
        }
    }
    for node in order {
        let inputs: Vec<Option<T>> = node.inputs.iter().map(|input| known.get(input.key()).cloned()).collect();
        if inputs.iter().all(Option::is_none) {
            continue;
        }
        for (output, value) in rule(&node, &inputs).into_iter().enumerate() {
            if let Some(value) = value {
                known.insert_new((node.id, output as u32), value);
            }
        }
    }
    results.iter().map(|result| known.get(result.key()).cloned()).collect()
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
