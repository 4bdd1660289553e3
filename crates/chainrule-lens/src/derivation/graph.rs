//! The recorded expression as a graph of factors: movements of numbers are carried out on the way and are no factors, a
//! value that enters an operation twice enters it once, a bias joins its product, and cross-entropy is one factor.

use super::names::is_move;
use crate::place::numbers;
use chainrule::differentiate::pull;
use chainrule::execute::eval_all;
use chainrule::tensor::{Binary, Composite, DType, Node, Op, Reduction, Tensor, Unary};
use std::collections::{HashMap, HashSet};

pub(super) type Key = (u64, usize);

pub(super) fn key(x: &Tensor) -> Key {
    (x.node().id(), x.output_index())
}

/// Operations between a loss and its logits that are still one formula.
const HEAD: usize = 48;

/// One step down: an operation, and the movements between its operand and the value that it came from.
#[derive(Clone)]
pub(super) struct Edge {
    /// Values whose operations are gone through, from above, each with the places of the operand that is followed.
    pub hops: Vec<(Tensor, Vec<usize>)>,
    /// Which hop is the factor; the others move numbers.
    pub factor: usize,
    /// What is reached: a value of its own, or a parameter.
    pub target: Tensor,
    /// The whole way at once, of a loss that is one formula.
    pub head: bool,
}

/// Where cross-entropy begins: the logits, and what is between them and the loss.
struct Head {
    logits: Tensor,
    formula: String,
    region: Vec<Tensor>,
}

/// The expression with its values, and what depends on the parameters.
pub(super) struct Graph {
    pub nodes: Vec<Tensor>,
    pub value: Tensor,
    /// Nodes that some parameter has a path to.
    pub active: HashSet<u64>,
    values: HashMap<Key, Tensor>,
    /// Products that a bias is added to, and nothing else uses.
    pub joined: HashMap<u64, Key>,
    head: Option<Head>,
}

impl Graph {
    pub fn of(nodes: Vec<Tensor>, value: &Tensor, parameters: &[Tensor]) -> Graph {
        let active = active(&nodes, parameters);
        let values = values(&nodes, value);
        let joined = joined(&nodes, &active, parameters);
        let mut graph = Graph { nodes, value: value.clone(), active, values, joined, head: None };
        graph.head = graph.find_head();
        graph
    }

    /// A value's numbers.
    pub fn number(&self, x: &Tensor) -> &Tensor {
        &self.values[&key(x)]
    }

    /// Whether a node is within a loss that is one formula.
    pub fn is_in_head(&self, node: &Node) -> bool {
        self.head.as_ref().is_some_and(|head| head.region.iter().any(|other| other.node().id() == node.id()))
    }

    /// Cross-entropy in one formula, if the loss is one.
    pub fn head_formula(&self) -> Option<(&str, &Tensor)> {
        self.head.as_ref().map(|head| (head.formula.as_str(), &head.logits))
    }

    /// The factors of a value, one for each operand that some parameter has a path to.
    pub fn edges(&self, at: &Tensor) -> Vec<Edge> {
        if let Some(head) = self.head.as_ref().filter(|_| key(at) == key(&self.value)) {
            let (hops, target) = self.moved(Vec::new(), &head.logits);
            return vec![Edge { hops, factor: 0, target, head: true }];
        }
        let mut edges = Vec::new();
        let mut seen: Vec<Key> = Vec::new();
        for input in at.node().inputs() {
            if !self.active.contains(&input.node().id()) || !input.dtype().is_float() || seen.contains(&key(input)) {
                continue;
            }
            seen.push(key(input));
            let same = |x: &Tensor| key(x) == key(input);
            let places = (0..at.node().inputs().len()).filter(|&i| same(&at.node().inputs()[i])).collect();
            let (hops, target) = self.moved(vec![(at.clone(), places)], input);
            if self.joined.contains_key(&target.node().id()) && matches!(at.node().op(), Op::Binary(Binary::Add)) {
                for edge in self.edges(&target) {
                    let factor = hops.len() + edge.factor;
                    edges.push(Edge { hops: [&hops[..], &edge.hops].concat(), factor, ..edge });
                }
            } else {
                edges.push(Edge { hops, factor: 0, target, head: false });
            }
        }
        edges
    }

    /// Goes on through movements of numbers.
    fn moved(&self, mut hops: Vec<(Tensor, Vec<usize>)>, from: &Tensor) -> (Vec<(Tensor, Vec<usize>)>, Tensor) {
        let mut at = from.clone();
        while is_move(at.node().op()) {
            let Some(next) = at.node().inputs().first().cloned() else { break };
            hops.push((at, vec![0]));
            at = next;
        }
        (hops, at)
    }

    /// The cotangent of an edge's target out of that of its value; none where there is no path.
    pub fn back(&self, edge: &Edge, cotangent: &Tensor) -> Option<Tensor> {
        let mut cotangent = cotangent.clone();
        if edge.head {
            cotangent = self.head_back()? * cotangent;
        }
        for (at, places) in &edge.hops {
            cotangent = self.back_one(at, places, &cotangent)?;
        }
        Some(cotangent)
    }

    /// Through one operation alone: its operands are numbers, so nothing behind them is seen.
    pub fn back_one(&self, at: &Tensor, places: &[usize], cotangent: &Tensor) -> Option<Tensor> {
        let node = at.node();
        let mut operands: Vec<Tensor> = node.inputs().iter().map(|x| fresh(self.number(x))).collect();
        let operand = operands[*places.first()?].clone();
        places.iter().for_each(|&place| operands[place] = operand.clone());
        let result = Tensor::apply(node.op().clone(), &operands).output(at.output_index());
        pull(&[result], &[Some(cotangent.clone())], std::slice::from_ref(&operand)).pop().flatten()
    }

    /// The loss by its logits.
    fn head_back(&self) -> Option<Tensor> {
        let head = self.head.as_ref()?;
        let logits = fresh(self.number(&head.logits));
        let loss = self.rebuilt(&head.region, &head.logits, &logits);
        pull(&[loss], &[Some(self.number(&self.value).ones_like())], std::slice::from_ref(&logits)).pop().flatten()
    }

    /// The value of a region over another leaf, all else numbers.
    fn rebuilt(&self, region: &[Tensor], from: &Tensor, leaf: &Tensor) -> Tensor {
        let mut made: HashMap<u64, Tensor> = HashMap::new();
        for at in region {
            let operand = |x: &Tensor| match made.get(&x.node().id()) {
                Some(made) => made.output(x.output_index()),
                None if key(x) == key(from) => leaf.clone(),
                None => self.number(x).clone(),
            };
            let operands: Vec<Tensor> = at.node().inputs().iter().map(operand).collect();
            made.insert(at.node().id(), Tensor::apply(at.node().op().clone(), &operands));
        }
        made[&self.value.node().id()].clone()
    }

    /// Whether all ways from the loss go through one log-softmax, and the slope is its softmax less the targets.
    fn find_head(&self) -> Option<Head> {
        let (mut region, mut pending, mut end) = (Vec::new(), vec![self.value.clone()], None::<Tensor>);
        let mut seen = HashSet::new();
        while let Some(at) = pending.pop() {
            let node = at.node();
            if !seen.insert(node.id()) {
                continue;
            }
            if region.len() > HEAD {
                return None;
            }
            region.push(at.clone());
            let alive = |x: &&Tensor| self.active.contains(&x.node().id()) && x.dtype().is_float();
            let followed: Vec<&Tensor> = node.inputs().iter().filter(alive).collect();
            match node.op() {
                Op::Composite(Composite::LogSoftmax(_)) => {
                    if end.replace(at.clone()).is_some() {
                        return None;
                    }
                }
                Op::Binary(Binary::Add | Binary::Sub) => pending.extend(followed.into_iter().cloned()),
                op if linear(op) && followed.len() == 1 => pending.push(followed[0].clone()),
                _ => return None,
            }
        }
        let end = end?;
        region.sort_by_key(|at| at.node().id());
        let logits = end.node().inputs()[0].clone();
        let head = Head { logits, formula: String::new(), region };
        let leaf = fresh(self.number(&head.logits));
        let loss = self.rebuilt(&head.region, &head.logits, &leaf);
        let slope = pull(&[loss], &[Some(self.number(&self.value).ones_like())], std::slice::from_ref(&leaf));
        let Op::Composite(Composite::LogSoftmax(axis)) = end.node().op() else { return None };
        let last = end.rank().checked_sub(1).filter(|last| last == axis)?;
        let classes = end.shape()[last];
        let shares: Vec<f64> = numbers(self.number(&end)).iter().map(|x| x.exp()).collect();
        let targets = is_softmax_less_targets(&shares, &numbers(&slope.into_iter().next()??.eval()), classes)?;
        let rows = shares.len() / classes;
        Some(Head { formula: format!("(softmax(§) − {targets})/{rows}"), ..head })
    }
}

/// Whether rows·slope = softmax − targets, for targets that are one-hot or two-valued; what to call them.
fn is_softmax_less_targets(shares: &[f64], slope: &[f64], classes: usize) -> Option<&'static str> {
    let rows = (shares.len() / classes.max(1)) as f64;
    let near = |a: f64, b: f64| (a - b).abs() < 1e-4;
    let mut hot = true;
    for (share, slope) in shares.chunks(classes).zip(slope.chunks(classes)) {
        let targets: Vec<f64> = share.iter().zip(slope).map(|(p, d)| p - rows * d).collect();
        let (low, high) = targets.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &t| (l.min(t), h.max(t)));
        if low < -1e-4 || !targets.iter().all(|&t| near(t, low) || near(t, high)) {
            return None;
        }
        hot &= near(low, 0.0) && near(high, 1.0);
    }
    Some(if hot { "y" } else { "y smoothed" })
}

/// Linear in the one operand that is followed.
fn linear(op: &Op) -> bool {
    let plain = matches!(op, Op::Unary(Unary::Neg) | Op::Reduce(Reduction::Sum, _) | Op::Gather { .. } | Op::Select);
    plain || is_move(op) || matches!(op, Op::Binary(Binary::Mul | Binary::Div))
}

/// The nodes that one of these has a path to.
pub(super) fn active(nodes: &[Tensor], leaves: &[Tensor]) -> HashSet<u64> {
    let mut active: HashSet<u64> = leaves.iter().map(|leaf| leaf.node().id()).collect();
    for tensor in nodes {
        if !matches!(tensor.node().op(), Op::StopGradient)
            && tensor.node().inputs().iter().any(|input| active.contains(&input.node().id()))
        {
            active.insert(tensor.node().id());
        }
    }
    active
}

/// Every value of the expression as numbers.
fn values(nodes: &[Tensor], value: &Tensor) -> HashMap<Key, Tensor> {
    let mut all: HashMap<Key, Tensor> = HashMap::from([(key(value), value.clone())]);
    for input in nodes.iter().flat_map(|node| node.node().inputs()) {
        all.entry(key(input)).or_insert_with(|| input.clone());
    }
    let (keys, tensors): (Vec<Key>, Vec<Tensor>) = all.into_iter().unzip();
    keys.into_iter().zip(eval_all(&tensors)).collect()
}

/// Products and convolutions whose one use is that a bias is added; with the sum.
fn joined(nodes: &[Tensor], active: &HashSet<u64>, parameters: &[Tensor]) -> HashMap<u64, Key> {
    let mut uses: HashMap<u64, usize> = HashMap::new();
    for input in nodes.iter().flat_map(|node| node.node().inputs()) {
        *uses.entry(input.node().id()).or_default() += 1;
    }
    let origin = |x: &Tensor| {
        let mut at = x.clone();
        let mut alone = true;
        while is_move(at.node().op()) {
            alone &= uses.get(&at.node().id()) == Some(&1);
            let Some(next) = at.node().inputs().first().cloned() else { break };
            at = next;
        }
        (alone, at)
    };
    let mut joined = HashMap::new();
    for at in nodes.iter().filter(|at| matches!(at.node().op(), Op::Binary(Binary::Add))) {
        let sides = [0, 1].map(|i| origin(&at.node().inputs()[i]));
        for (product, other) in [(0, 1), (1, 0)] {
            let (alone, from) = &sides[product];
            let is_bias = parameters.iter().any(|leaf| leaf.node().id() == sides[other].1.node().id());
            let once = *alone && uses.get(&from.node().id()) == Some(&1);
            let is_product = matches!(from.node().op(), Op::Dot(_) | Op::Conv(_)) && active.contains(&from.node().id());
            if is_bias && once && is_product {
                joined.insert(from.node().id(), key(at));
            }
        }
    }
    joined
}

/// A leaf of its own over the same numbers, so that two operands that are one value stay two.
fn fresh(x: &Tensor) -> Tensor {
    match x.dtype() {
        DType::F64 => Tensor::from_vec(x.to_vec::<f64>(), x.shape()),
        DType::F32 => Tensor::from_vec(x.to_vec::<f32>(), x.shape()),
        _ => x.clone(),
    }
}
