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

/// The expression with its values, and what depends on the leaves.
pub(super) struct Graph {
    pub nodes: Vec<Tensor>,
    /// Where the ways down begin, each with its cotangent: the loss with 1, or what one step of a loop gives.
    pub roots: Vec<(Tensor, Tensor)>,
    /// Nodes that some leaf has a path to.
    pub active: HashSet<u64>,
    leaves: HashSet<Key>,
    values: HashMap<Key, Tensor>,
    /// Products that a bias is added to, and nothing else uses.
    pub joined: HashMap<u64, Key>,
    head: Option<Head>,
}

impl Graph {
    /// Of a loss and its parameters.
    pub fn of_loss(value: &Tensor, parameters: &[Tensor]) -> Graph {
        let roots = vec![(value.clone(), value.ones_like().eval())];
        let mut graph = Graph::of(roots, parameters, &HashMap::new());
        graph.head = graph.find_head();
        graph
    }

    /// Down to leaves, some of which may be given their numbers.
    pub fn of(roots: Vec<(Tensor, Tensor)>, leaves: &[Tensor], given: &HashMap<Key, Tensor>) -> Graph {
        let ends: HashSet<Key> = leaves.iter().map(key).collect();
        let nodes = ordered(&roots.iter().map(|root| root.0.clone()).collect::<Vec<_>>(), &ends);
        let values = values(&nodes, &roots, given);
        let mut graph =
            Graph { nodes, roots, active: HashSet::new(), leaves: ends, values, joined: HashMap::new(), head: None };
        let floats: Vec<Tensor> = leaves.iter().filter(|leaf| leaf.dtype().is_float()).cloned().collect();
        graph.active = graph.above(&floats);
        graph.joined = graph.find_joined();
        graph
    }

    /// The nodes that one of these leaves has a path to.
    pub fn above(&self, leaves: &[Tensor]) -> HashSet<u64> {
        let mut active: HashSet<u64> = leaves.iter().map(|leaf| leaf.node().id()).collect();
        for tensor in self.nodes.iter().filter(|tensor| !self.is_leaf(tensor)) {
            if !matches!(tensor.node().op(), Op::StopGradient)
                && tensor.node().inputs().iter().any(|input| active.contains(&input.node().id()))
            {
                active.insert(tensor.node().id());
            }
        }
        active
    }

    /// Whether it is one of the leaves, under which nothing is looked at.
    pub fn is_leaf(&self, x: &Tensor) -> bool {
        self.leaves.contains(&key(x))
    }

    /// The operand, if this only moves its numbers.
    pub fn moves(&self, x: &Tensor) -> Option<Tensor> {
        let moves = is_move(x.node().op()) && !self.is_leaf(x);
        x.node().inputs().first().filter(|_| moves).cloned()
    }

    /// The loops that some leaf has a path to.
    pub fn loops(&self) -> impl Iterator<Item = &Tensor> {
        self.nodes.iter().filter(|at| matches!(at.node().op(), Op::Scan(..)) && self.active.contains(&at.node().id()))
    }

    /// The loss.
    fn value(&self) -> &Tensor {
        &self.roots[0].0
    }

    /// A value's numbers.
    pub fn number(&self, x: &Tensor) -> &Tensor {
        &self.values[&key(x)]
    }

    /// Whether it is a value that something uses.
    pub fn has(&self, x: &Tensor) -> bool {
        self.values.contains_key(&key(x))
    }

    /// Whether a node is within a loss that is one formula.
    pub fn is_in_head(&self, node: &Node) -> bool {
        self.head.as_ref().is_some_and(|head| head.region.iter().any(|other| other.node().id() == node.id()))
    }

    /// Whether a way down begins at it.
    pub fn is_root(&self, node: &Node) -> bool {
        self.roots.iter().any(|root| root.0.node().id() == node.id())
    }

    /// Cross-entropy in one formula, if the loss is one.
    pub fn head_formula(&self) -> Option<(&str, &Tensor)> {
        self.head.as_ref().map(|head| (head.formula.as_str(), &head.logits))
    }

    /// The factors of a value, one for each operand that some parameter has a path to.
    pub fn edges(&self, at: &Tensor) -> Vec<Edge> {
        if self.is_leaf(at) {
            return Vec::new();
        }
        if let Some(head) = self.head.as_ref().filter(|_| key(at) == key(self.value())) {
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
        while let Some(next) = self.moves(&at) {
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
        pull(&[loss], &[Some(self.roots[0].1.clone())], std::slice::from_ref(&logits)).pop().flatten()
    }

    /// The value of a region over another leaf, all else numbers.
    fn rebuilt(&self, region: &[Tensor], from: &Tensor, leaf: &Tensor) -> Tensor {
        let inside: HashSet<u64> = region.iter().map(|at| at.node().id()).collect();
        let beside = region.iter().flat_map(|at| at.node().inputs()).filter(|x| !inside.contains(&x.node().id()));
        let mut given: HashMap<Key, Tensor> = beside.map(|x| (key(x), self.number(x).clone())).collect();
        given.insert(key(from), leaf.clone());
        substituted(region, given)(self.value())
    }

    /// Whether all ways from the loss go through one log-softmax, and the slope is its softmax less the targets.
    fn find_head(&self) -> Option<Head> {
        let (mut region, mut pending, mut end) = (Vec::new(), vec![self.value().clone()], None::<Tensor>);
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
        let slope = pull(&[loss], &[Some(self.roots[0].1.clone())], std::slice::from_ref(&leaf));
        let Op::Composite(Composite::LogSoftmax(axis)) = end.node().op() else { return None };
        let last = end.rank().checked_sub(1).filter(|last| last == axis)?;
        let classes = end.shape()[last];
        let shares: Vec<f64> = numbers(self.number(&end)).iter().map(|x| x.exp()).collect();
        let targets = is_softmax_less_targets(&shares, &numbers(&slope.into_iter().next()??.eval()), classes)?;
        let rows = shares.len() / classes;
        Some(Head { formula: format!("(softmax(§) − {targets})/{rows}"), ..head })
    }

    /// Products and convolutions whose one use is that a bias is added; with the sum.
    fn find_joined(&self) -> HashMap<u64, Key> {
        let mut uses: HashMap<u64, usize> = HashMap::new();
        for input in self.nodes.iter().flat_map(|node| node.node().inputs()) {
            *uses.entry(input.node().id()).or_default() += 1;
        }
        let once = |x: &Tensor| uses.get(&x.node().id()) == Some(&1);
        let origin = |x: &Tensor| {
            let (mut at, mut alone) = (x.clone(), true);
            while let Some(next) = self.moves(&at) {
                alone &= once(&at);
                at = next;
            }
            (alone && once(&at), at)
        };
        let mut joined = HashMap::new();
        for at in self.nodes.iter().filter(|at| matches!(at.node().op(), Op::Binary(Binary::Add))) {
            let sides = [0, 1].map(|i| origin(&at.node().inputs()[i]));
            for (product, other) in [(0, 1), (1, 0)] {
                let (once, from) = &sides[product];
                let is_product = matches!(from.node().op(), Op::Dot(_) | Op::Conv(_)) && !self.is_leaf(from);
                if self.is_leaf(&sides[other].1) && *once && is_product && self.active.contains(&from.node().id()) {
                    joined.insert(from.node().id(), key(at));
                }
            }
        }
        joined
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

/// The nodes under some values in order of creation, down to where it ends.
pub(super) fn ordered(values: &[Tensor], ends: &HashSet<Key>) -> Vec<Tensor> {
    let (mut seen, mut pending, mut nodes) = (HashSet::new(), values.to_vec(), Vec::new());
    while let Some(tensor) = pending.pop() {
        if seen.insert(tensor.node().id()) {
            if !ends.contains(&key(&tensor)) {
                pending.extend(tensor.node().inputs().iter().cloned());
            }
            nodes.push(tensor);
        }
    }
    nodes.sort_by_key(|tensor| tensor.node().id());
    nodes
}

/// An expression's nodes again over other tensors in place of some of its own; gives what a value has become.
pub(super) fn substituted(nodes: &[Tensor], given: HashMap<Key, Tensor>) -> impl Fn(&Tensor) -> Tensor + use<> {
    let mut now = given;
    for at in nodes {
        let node = at.node();
        if now.contains_key(&key(at)) || !node.inputs().iter().any(|x| now.contains_key(&key(x))) {
            continue;
        }
        let operands: Vec<Tensor> = node.inputs().iter().map(|x| now.get(&key(x)).unwrap_or(x).clone()).collect();
        let made = Tensor::apply(node.op().clone(), &operands);
        for output in 0..node.types().len() {
            now.entry((node.id(), output)).or_insert_with(|| made.output(output));
        }
    }
    move |x| now.get(&key(x)).unwrap_or(x).clone()
}

/// Every value of the expression as numbers.
fn values(nodes: &[Tensor], roots: &[(Tensor, Tensor)], given: &HashMap<Key, Tensor>) -> HashMap<Key, Tensor> {
    let inputs = nodes.iter().flat_map(|node| node.node().inputs());
    let all: HashMap<Key, Tensor> =
        roots.iter().map(|root| &root.0).chain(nodes).chain(inputs).map(|x| (key(x), x.clone())).collect();
    let now = substituted(nodes, given.clone());
    let (keys, tensors): (Vec<Key>, Vec<Tensor>) = all.into_iter().map(|(key, x)| (key, now(&x))).unzip();
    keys.into_iter().zip(eval_all(&tensors)).collect()
}

/// A leaf of its own over the same numbers, so that two operands that are one value stay two.
fn fresh(x: &Tensor) -> Tensor {
    match x.dtype() {
        DType::F64 => Tensor::from_vec(x.to_vec::<f64>(), x.shape()),
        DType::F32 => Tensor::from_vec(x.to_vec::<f32>(), x.shape()),
        _ => x.clone(),
    }
}
