//! Finds the layers of a computation.
//!
//! Nobody has to name them: the tree of parameters does already. A layer is what has its parameters under one path
//! (`blocks.3.attention.query`); its output is the first value that was made from data and all of its parameters, and its
//! input is the data that met them. Both are values of the recorded expression, so any function over any tree can be
//! observed as it is, without marks in the forward pass, hooks, or a registry. Layers inside a `checkpoint` are not seen.

use crate::place::Place;
use chainrule::tensor::{Binary, Composite, Op, Reduction, Tensor, Unary};
use chainrule::tree::{self, Role, Tree};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A layer and the values around it.
pub(super) struct Layer {
    pub path: String,
    /// Paths of its parameters with their places among the tree's leaves.
    pub parameters: Vec<(String, usize)>,
    pub output: Tensor,
    pub input: Tensor,
    /// The layer whose output this one's input was made from last.
    pub previous: Option<usize>,
    pub between: Between,
    /// Its output is linear in its input.
    pub linear: bool,
    /// The loop along sequences in it.
    pub walk: Option<Walk>,
    /// The axis of its units.
    pub axis: usize,
    pub operation: &'static str,
    pub line: Place,
}

/// A loop along sequences.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub steps: usize,
    /// Its cell has gates, which are sigmoids.
    pub gated: bool,
}

/// What lies between the previous layer's output and this layer's input.
#[derive(Default, Clone)]
pub(super) struct Between {
    /// Something that is not linear.
    pub nonlinear: bool,
    /// Each element of the input depends on one element of the output.
    pub elementwise: bool,
    /// Another branch is added.
    pub residual: bool,
    /// Names of the operations that are not linear.
    pub names: Vec<&'static str>,
}

/// What a value is made of.
#[derive(Clone)]
enum Made {
    /// Numbers that the program states.
    Neutral,
    /// Only of parameters, those of these layers.
    Parameters(Vec<usize>),
    /// Of data.
    Data,
}

/// The nodes under a value in order of creation.
pub(crate) fn ordered(value: &Tensor) -> Vec<Tensor> {
    let mut seen = HashSet::new();
    let mut pending = vec![value.clone()];
    let mut nodes = Vec::new();
    while let Some(tensor) = pending.pop() {
        if seen.insert(tensor.node().id()) {
            pending.extend(tensor.node().inputs().iter().cloned());
            nodes.push(tensor);
        }
    }
    nodes.sort_by_key(|tensor| tensor.node().id());
    nodes
}

fn group(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(layer, _)| layer)
}

/// The layers in the order in which they are computed.
pub(super) fn layers<T: Tree>(model: &T, value: &Tensor) -> Vec<Layer> {
    let named = tree::named_leaves(model);
    let mut groups: Vec<(String, Vec<(String, usize)>)> = Vec::new();
    for (place, (path, role, _)) in named.iter().enumerate() {
        if *role == Role::Parameter {
            match groups.iter_mut().find(|(name, _)| name == group(path)) {
                Some((_, members)) => members.push((path.clone(), place)),
                None => groups.push((group(path).to_owned(), vec![(path.clone(), place)])),
            }
        }
    }
    let owner: HashMap<u64, (usize, usize)> = groups
        .iter()
        .enumerate()
        .flat_map(|(g, (_, members))| members.iter().map(move |(_, place)| (*place, g)))
        .map(|(place, g)| (named[place].2.node().id(), (g, place)))
        .collect();
    let nodes = ordered(value);
    let meetings = meetings(&nodes, &owner);
    let mut found: Vec<Layer> = groups
        .into_iter()
        .enumerate()
        .filter_map(|(g, (path, parameters))| {
            let own = meetings.get(&g)?;
            let (first, last) =
                (own.values().min_by_key(|m| m.0.node().id())?, own.values().max_by_key(|m| m.0.node().id())?);
            let origin = first.0.node().origin();
            let rank = last.0.rank();
            let axis = if matches!(first.0.node().op(), Op::Conv(_)) { 1 } else { rank.saturating_sub(1) };
            Some(Layer {
                path,
                parameters,
                output: last.0.clone(),
                input: first.1.clone(),
                previous: None,
                between: Between::default(),
                linear: !between(&first.1, &last.0).nonlinear,
                walk: walk(&nodes, first.0.node().id()..=last.0.node().id()),
                axis,
                operation: first.0.node().op().name(),
                line: origin.into(),
            })
        })
        .collect();
    found.sort_by_key(|layer| layer.output.node().id());
    for i in 0..found.len() {
        let under: HashSet<u64> = ordered(&found[i].input).iter().map(|tensor| tensor.node().id()).collect();
        found[i].previous = (0..i).rev().find(|&j| under.contains(&found[j].output.node().id()));
        if let Some(previous) = found[i].previous {
            found[i].between = between(&found[previous].output, &found[i].input);
        }
    }
    found
}

type Meetings = HashMap<usize, BTreeMap<usize, (Tensor, Tensor)>>;

/// For each layer and each of its parameters, the value where it first met data, and the data.
fn meetings(nodes: &[Tensor], owner: &HashMap<u64, (usize, usize)>) -> Meetings {
    let mut made: HashMap<u64, Made> = HashMap::new();
    let mut meetings = Meetings::new();
    let used: HashSet<(u64, usize)> = nodes
        .iter()
        .flat_map(|tensor| tensor.node().inputs())
        .chain(nodes.last())
        .map(|tensor| (tensor.node().id(), tensor.output_index()))
        .collect();
    for tensor in nodes {
        let node = tensor.node();
        let state = match node.op() {
            Op::Constant(..) | Op::Iota(..) => Made::Neutral,
            Op::Data(storage) if !owner.contains_key(&node.id()) && storage.ty().numel() <= 1 => Made::Neutral,
            Op::Variable => match owner.get(&node.inputs()[0].node().id()) {
                Some((_, place)) => Made::Parameters(vec![*place]),
                None => made[&node.inputs()[0].node().id()].clone(),
            },
            _ if node.inputs().is_empty() => Made::Data,
            _ => {
                let inputs: Vec<&Made> = node.inputs().iter().map(|input| &made[&input.node().id()]).collect();
                let mut own: Vec<usize> = inputs
                    .iter()
                    .flat_map(|made| if let Made::Parameters(places) = made { &places[..] } else { &[] })
                    .copied()
                    .collect();
                own.sort_unstable();
                own.dedup();
                match inputs.iter().position(|made| matches!(made, Made::Data)) {
                    Some(data) => {
                        for place in own {
                            let layer = owner.values().find(|(_, p)| *p == place).expect("an owner").0;
                            let met = (widest(tensor, &used), node.inputs()[data].clone());
                            meetings.entry(layer).or_default().entry(place).or_insert(met);
                        }
                        Made::Data
                    }
                    None if own.is_empty() => Made::Neutral,
                    None => Made::Parameters(own),
                }
            }
        };
        made.insert(node.id(), state);
    }
    meetings
}

/// The largest float output of a node that anybody uses: of a loop the sequence, or its last state if only that is used.
fn widest(tensor: &Tensor, used: &HashSet<(u64, usize)>) -> Tensor {
    let outputs = (0..tensor.node().types().len()).map(|i| tensor.output(i)).filter(|y| y.dtype().is_float());
    let is_used = |y: &Tensor| used.contains(&(y.node().id(), y.output_index()));
    outputs.max_by_key(|y| (is_used(y), y.numel())).unwrap_or_else(|| tensor.clone())
}

/// The first loop among nodes of these numbers.
fn walk(nodes: &[Tensor], ids: std::ops::RangeInclusive<u64>) -> Option<Walk> {
    let gate = |x: &Tensor| matches!(x.node().op(), Op::Unary(Unary::Sigmoid));
    nodes.iter().filter(|tensor| ids.contains(&tensor.node().id())).find_map(|tensor| match tensor.node().op() {
        Op::Scan(dims, body) => {
            Some(Walk { steps: dims.length, gated: body.results.iter().any(|result| ordered(result).iter().any(gate)) })
        }
        _ => None,
    })
}

/// Looks at the operations from one value to another.
fn between(from: &Tensor, to: &Tensor) -> Between {
    let oldest = from.node().id();
    let mut result = Between { elementwise: true, ..Between::default() };
    let nodes = ordered(to);
    let mut depends: HashSet<u64> = HashSet::from([oldest]);
    for tensor in nodes.iter().filter(|tensor| tensor.node().id() > oldest) {
        let node = tensor.node();
        let from_layer: Vec<bool> = node.inputs().iter().map(|input| depends.contains(&input.node().id())).collect();
        if !from_layer.contains(&true) {
            continue;
        }
        depends.insert(node.id());
        let both = from_layer.iter().filter(|&&d| d).count() > 1;
        let (linear, elementwise) = nature(node.op(), both);
        if !linear {
            result.nonlinear = true;
            if !result.names.contains(&node.op().name()) {
                result.names.push(node.op().name());
            }
        }
        result.elementwise &= elementwise;
        let older = |input: &Tensor| is_data(input) && input.numel() == from.numel();
        let other = node.inputs().iter().zip(&from_layer).any(|(input, from_layer)| !from_layer && older(input));
        result.residual |= matches!(node.op(), Op::Binary(Binary::Add)) && other;
    }
    result
}

fn is_data(x: &Tensor) -> bool {
    !matches!(x.node().op(), Op::Constant(..) | Op::Broadcast(..) | Op::Variable)
}

/// Whether an operation is linear, and whether it keeps elements apart.
fn nature(op: &Op, both: bool) -> (bool, bool) {
    match op {
        Op::Unary(Unary::Neg) | Op::Cast(_) | Op::Variable | Op::StopGradient => (true, true),
        Op::Unary(_) | Op::Compare(_) | Op::Select | Op::Composite(Composite::Softplus) => (false, true),
        Op::Binary(Binary::Add | Binary::Sub) => (true, true),
        Op::Binary(Binary::Mul | Binary::Div) => (!both, true),
        Op::Binary(_) => (false, true),
        Op::Reshape(_) | Op::Permute(_) | Op::Slice(_) | Op::Pad(..) | Op::Reverse(_) => (true, true),
        Op::Broadcast(..) | Op::Concat(_) | Op::Unfold(_) | Op::Fold(_) | Op::Cumsum { .. } => (true, false),
        Op::Gather { .. } | Op::ScatterAdd { .. } | Op::Reduce(Reduction::Sum, _) => (true, false),
        Op::Dot(_) | Op::Conv(_) => (!both, false),
        _ => (false, false),
    }
}
