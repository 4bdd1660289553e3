//! The walk from the loss down to one parameter: each way there is a product of factors.

use super::formula::{Formula, formula};
use super::graph::{Edge, Graph, Key, key};
use super::names::Names;
use super::{Explained, Factor, PathTerm, Symbol};
use crate::place::{Number, numbers};
use chainrule::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// Jacobians of at most this many elements are given as numbers.
const SMALL: usize = 64;

/// A factor whose numbers are still tensors.
struct Step {
    factor: Factor,
    before: Tensor,
    after: Tensor,
    jacobian: Option<Tensor>,
}

pub(super) struct Walk<'a> {
    graph: &'a Graph,
    names: &'a Names,
    leaf: &'a Tensor,
    /// Nodes that the parameter has a path to.
    active: HashSet<u64>,
    limit: usize,
    ends: Vec<PathTerm>,
    /// What each path contributes to the gradient.
    contributions: Vec<Vec<f64>>,
}

impl<'a> Walk<'a> {
    /// All ways to a parameter, of which at most `limit` are followed, those with the longest cotangents first.
    pub fn explain(
        (graph, names): (&'a Graph, &'a Names),
        (symbol, leaf): (&Symbol, &'a Tensor),
        slope: &Tensor,
        limit: usize,
    ) -> Explained {
        let active = graph.above(std::slice::from_ref(leaf));
        let mut walk = Walk { graph, names, leaf, active, limit, ends: vec![], contributions: vec![] };
        for (root, cotangent) in &graph.roots {
            walk.down(root, cotangent, &mut vec![]);
        }
        walk.finish(symbol, slope)
    }

    fn down(&mut self, at: &Tensor, cotangent: &Tensor, steps: &mut Vec<Step>) {
        if key(at) == key(self.leaf) {
            return self.end(cotangent, steps);
        }
        let mut ways: Vec<(f64, Edge, Tensor)> = Vec::new();
        for edge in self.graph.edges(at).into_iter().filter(|edge| self.active.contains(&edge.target.node().id())) {
            let Some(next) = self.graph.back(&edge, cotangent).map(|next| next.eval()) else { continue };
            ways.push((length(&next), edge, next));
        }
        ways.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, edge, next) in ways {
            if self.ends.len() >= self.limit {
                return;
            }
            let target = edge.target.clone();
            steps.push(self.step(at, &edge, cotangent, &next));
            self.down(&target, &next, steps);
            steps.pop();
        }
    }

    fn step(&self, at: &Tensor, edge: &Edge, before: &Tensor, after: &Tensor) -> Step {
        let result = self.graph.number(at);
        let small = result.numel() * edge.target.numel() <= SMALL;
        let (operation, slope) = match (self.graph.head_formula(), edge.hops.get(edge.factor)) {
            (Some((formula, logits)), _) if edge.head => {
                ("cross_entropy".to_owned(), formula.replace('§', &self.names.get(logits)))
            }
            (_, Some((main, places))) => {
                let Formula { slope, .. } = formula(main.node(), places, &self.names.get(at), self.names);
                (main.node().op().name().to_owned(), slope)
            }
            (_, None) => ("identity".to_owned(), "1".to_owned()),
        };
        let main = edge.hops.get(edge.factor).map_or(at, |hop| &hop.0);
        let factor = Factor {
            of: self.names.get(at),
            by: self.names.get(&edge.target),
            operation,
            formula: slope,
            rows: result.shape().to_vec(),
            columns: edge.target.shape().to_vec(),
            gain: Number(0.0),
            values: None,
            line: if edge.head { at.node().origin().into() } else { main.node().origin().into() },
        };
        let jacobian = small.then(|| self.rows(result, edge)).flatten();
        Step { factor, before: before.clone(), after: after.clone(), jacobian }
    }

    /// The Jacobian by its rows, from the way back.
    fn rows(&self, result: &Tensor, edge: &Edge) -> Option<Tensor> {
        let n = result.numel();
        let row = |i: usize| {
            let one = Tensor::arange(n, chainrule::tensor::DType::I64).equal(i as i64);
            let one = one.cast(result.dtype()).reshape(result.shape());
            self.graph.back(edge, &one).map(|row| row.flatten())
        };
        let rows: Vec<Tensor> = (0..n).map(row).collect::<Option<_>>()?;
        (!rows.is_empty()).then(|| chainrule::tensor::stack(&rows, 0).eval())
    }

    fn end(&mut self, contribution: &Tensor, steps: &[Step]) {
        let factors = steps.iter().map(|step| {
            let before = length(&step.before);
            Factor {
                gain: Number(if before > 0.0 { length(&step.after) / before } else { 0.0 }),
                values: step.jacobian.as_ref().map(|j| numbers(j).into_iter().map(Number).collect()),
                ..step.factor.clone()
            }
        });
        let factors = factors.collect();
        self.ends.push(PathTerm { factors, norm: Number(length(contribution)), share: Number(0.0) });
        self.contributions.push(numbers(contribution));
    }

    /// How many ways there are, in all.
    fn count(&self) -> f64 {
        let mut ways: HashMap<Key, f64> = HashMap::from([(key(self.leaf), 1.0)]);
        let mut pending: Vec<(Tensor, bool)> = self.graph.roots.iter().map(|root| (root.0.clone(), false)).collect();
        while let Some((at, ready)) = pending.pop() {
            if !ready && ways.contains_key(&key(&at)) {
                continue;
            }
            let edges = self.graph.edges(&at);
            let targets = || edges.iter().map(|e| &e.target).filter(|t| self.active.contains(&t.node().id()));
            if ready {
                let sum = targets().map(|target| ways.get(&key(target)).copied().unwrap_or(0.0)).sum();
                ways.insert(key(&at), sum);
            } else {
                pending.push((at.clone(), true));
                pending.extend(targets().filter(|t| !ways.contains_key(&key(t))).map(|t| (t.clone(), false)));
            }
        }
        self.graph.roots.iter().filter_map(|root| ways.get(&key(&root.0))).sum()
    }

    fn finish(mut self, symbol: &Symbol, slope: &Tensor) -> Explained {
        let slope_numbers = numbers(slope);
        let square: f64 = slope_numbers.iter().map(|x| x * x).sum();
        let mut rest = slope_numbers.clone();
        for (term, contribution) in self.ends.iter_mut().zip(&self.contributions) {
            let along: f64 = contribution.iter().zip(&slope_numbers).map(|(c, g)| c * g).sum();
            term.share = Number(if square > 0.0 { along / square } else { 0.0 });
            rest.iter_mut().zip(contribution).for_each(|(rest, c)| *rest -= c);
        }
        let all_paths = self.count();
        Explained {
            path: symbol.path.clone(),
            symbol: symbol.symbol.clone(),
            shape: slope.shape().to_vec(),
            norm: Number(square.sqrt()),
            more: all_paths > self.ends.len() as f64,
            all_paths: Number(all_paths),
            paths: self.ends,
            remainder: Number(rest.iter().map(|x| x * x).sum::<f64>().sqrt()),
            in_time: None,
        }
    }
}

pub(super) fn length(x: &Tensor) -> f64 {
    numbers(x).iter().map(|x| x * x).sum::<f64>().sqrt()
}
