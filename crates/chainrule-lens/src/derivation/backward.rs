//! The derivative program in matrix form: δ of each value out of the δ of those made from it, from the loss down.

use super::formula::{Form, Way, formula};
use super::graph::{Edge, Graph, Key, key};
use super::names::{Names, wrapped};
use super::walk::length;
use super::{Equation, Symbol};
use crate::place::Number;
use chainrule::tensor::{Op, Origin, Tensor};
use std::collections::HashMap;

/// Formulas longer than this get a name.
const LONG: usize = 64;

/// All equations, parameters among them where they come up. `starts` are the symbols of what the roots are given.
pub(super) fn equations(graph: &Graph, names: &Names, starts: &[String], leaves: &[(Tensor, Symbol)]) -> Vec<Equation> {
    let mut equations = Vec::new();
    let mut arrived: HashMap<Key, Vec<(Form, Tensor, Origin)>> = HashMap::new();
    for ((root, cotangent), start) in graph.roots.iter().zip(starts) {
        let start = (Form::Plain(start.clone()), cotangent.clone(), root.node().origin());
        arrived.entry(key(root)).or_default().push(start);
    }
    for node in graph.nodes.iter().rev() {
        for output in 0..node.node().types().len() {
            let at = node.output(output);
            let Some(terms) = arrived.remove(&key(&at)) else { continue };
            let formula = terms.iter().map(|term| term.0.text()).collect::<Vec<_>>().join(" + ");
            let total = terms.iter().map(|term| term.1.clone()).reduce(|a, b| a + b);
            let Some(total) = total.map(|total| total.eval()) else { continue };
            // A parameter's line is that of its use.
            let leaf = leaves.iter().find(|leaf| key(&leaf.0) == key(&at));
            let origin = terms.last().map(|term| term.2).filter(|_| leaf.is_some()).unwrap_or(at.node().origin());
            let mut equation = |symbol: String, of: String| {
                let (shape, norm, line) = (at.shape().to_vec(), Number(length(&total)), origin.into());
                equations.push(Equation { symbol, of, formula: formula.clone(), shape, norm, line });
            };
            if let Some((_, symbol)) = leaf {
                equation(symbol.symbol.clone(), symbol.path.clone());
                continue;
            }
            let edges = graph.edges(&at);
            let name = names.get(&at);
            let alone = terms.len() == 1 && edges.len() == 1;
            let short = alone && formula.chars().count() < LONG && !name.starts_with('z');
            let form = match terms.into_iter().next() {
                Some((form, ..)) if short || name == "L" => form,
                _ => {
                    let symbol = delta(&name);
                    equation(symbol.clone(), name.clone());
                    Form::Plain(symbol)
                }
            };
            for edge in &edges {
                let Some(next) = graph.back(edge, &total) else { continue };
                let form = passed(graph, names, (&at, edge), &form);
                arrived.entry(key(&edge.target)).or_default().push((
                    form,
                    next,
                    edge.hops.get(edge.factor).map_or(&at, |hop| &hop.0).node().origin(),
                ));
            }
        }
    }
    beside(equations)
}

/// Parameters' equations where what they are made of has just come up.
fn beside(equations: Vec<Equation>) -> Vec<Equation> {
    let (parameters, values): (Vec<Equation>, Vec<Equation>) =
        equations.into_iter().partition(|equation| equation.symbol.starts_with('∂'));
    let last_use = |parameter: &Equation| {
        let uses = |value: &Equation| is_within(&value.symbol, &parameter.formula);
        values.iter().rposition(uses).map_or(0, |place| place + 1)
    };
    let mut placed: Vec<(usize, bool, Equation)> = parameters.into_iter().map(|p| (last_use(&p), true, p)).collect();
    placed.extend(values.iter().enumerate().map(|(place, value)| (place + 1, false, value.clone())));
    placed.sort_by_key(|(place, parameter, _)| (*place, *parameter));
    placed.into_iter().map(|placed| placed.2).collect()
}

/// Whether a symbol stands in a formula, and not as the beginning of another one: δ₁ is not in δ₁₂.
fn is_within(symbol: &str, formula: &str) -> bool {
    formula
        .match_indices(symbol)
        .any(|(place, _)| !formula[place + symbol.len()..].starts_with(|c| ('₀'..='₉').contains(&c)))
}

/// δ₂ for z₂, δ[h₁] for h₁.
pub(super) fn delta(name: &str) -> String {
    match name.strip_prefix('z') {
        Some(number) => format!("δ{number}"),
        None => format!("δ[{name}]"),
    }
}

/// A cotangent's formula at an edge's end.
fn passed(graph: &Graph, names: &Names, (at, edge): (&Tensor, &Edge), form: &Form) -> Form {
    let mut form = form.clone();
    if let Some((slope, logits)) = graph.head_formula().filter(|_| edge.head) {
        form = form.passes(&Way::Times(slope.replace('§', &wrapped(&names.get(logits)))));
    }
    for (number, (hop, places)) in edge.hops.iter().enumerate() {
        form = match hop.node().op() {
            // The bias's sum that a product is joined with.
            Op::Binary(_) if number < edge.factor => form,
            op if super::names::is_move(op) => form.moved(hop.node()),
            _ => form.passes(&formula(hop.node(), places, &names.get(at), names).way),
        };
    }
    form
}
