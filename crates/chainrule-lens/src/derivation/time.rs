//! A loop's part of a gradient, step by step: back-propagation through time.
//!
//! A scan is one operation of the expression and one factor of its paths. Here its body is run again step by step, from
//! the first to the last with its values, and back with its cotangents. What arrives at the results of step t from later
//! steps and from the loop's use is ε⁽ᵗ⁾; what the step sends to weights and slices of sequences, carried on to a
//! parameter, is this step's term of the parameter's gradient:
//!
//! ∂L/∂W = Σₜ ε⁽ᵗ⁾ · ∂h⁽ᵗ⁾/∂W,   ε⁽ᵗ⁻¹⁾ = ε⁽ᵗ⁾ · ∂h⁽ᵗ⁾/∂h⁽ᵗ⁻¹⁾ (+ the direct use of h⁽ᵗ⁻¹⁾).
//!
//! A term belongs to the last loop on its way: below one layer of several the next is not gone through, so the terms of all
//! loops and the ways that avoid them sum to the gradient. Step 0 is the state before the first step. A random direction
//! taken back through the states alone tells the gain of ∂h⁽ᵀ⁾/∂h⁽ᵗ⁾.
//!
//! The inside of one step, that with the longest cotangents, is explained as a computation of its own. A loop within a
//! loop, and one within a checkpoint or a branch, is one factor of it and not taken apart.

use super::backward::delta;
use super::graph::{Graph, key, ordered, substituted};
use super::names::{AT, BEFORE, Names, result_name, state_name, wrapped};
use super::walk::{Walk, length};
use super::{InTime, Loop, Passage, Symbol, TermOfStep, Through, backward};
use crate::place::{Number, numbers};
use crate::replay::slice_of;
use chainrule::differentiate::pull;
use chainrule::execute::{compile, eval_all};
use chainrule::tensor::{Key as Seed, Lambda, Op, ScanDims, Tensor};
use std::collections::HashMap;

/// The random direction's seed.
const DIRECTION: u64 = 1;

/// The loops of an expression, and what they do for each of these parameters.
pub(super) fn loops(
    (graph, names): (&Graph, &Names),
    parameters: &[(&Symbol, &Tensor, &Tensor)],
    limit: usize,
) -> (Vec<Loop>, Vec<Option<InTime>>) {
    let found: Vec<Tensor> = graph.loops().cloned().collect();
    if found.is_empty() {
        return (Vec::new(), vec![None; parameters.len()]);
    }
    let outputs = found.iter().flat_map(outputs).filter(|x| graph.has(x));
    let cut = substituted(&graph.nodes, outputs.map(|x| (key(&x), graph.number(&x).clone())).collect());
    let leaves: Vec<Tensor> = parameters.iter().map(|parameter| parameter.1.clone()).collect();
    let roots: Vec<Tensor> = graph.roots.iter().map(|root| cut(&root.0)).collect();
    let cotangents: Vec<Tensor> = graph.roots.iter().map(|root| root.1.clone()).collect();
    let mut sums: Vec<Sum> = eval_all(&reached(&roots, &cotangents, &leaves))
        .iter()
        .zip(parameters)
        .map(|(beside, parameter)| Sum::new(parameter.2, beside))
        .collect();
    let mut loops = Vec::new();
    for at in &found {
        let time = Time::of(graph, names, at);
        let inputs: Vec<Tensor> = at.node().inputs().iter().map(&cut).collect();
        let mut outside = compile(|cotangents: &Vec<Tensor>| reached(&inputs, cotangents, &leaves));
        sums.iter_mut().for_each(|sum| sum.enter(&time.name));
        loops.push(time.run((graph, names), limit, |step, cotangents| {
            let terms = outside.run(cotangents).expect("numbers of the way forth go the way back");
            sums.iter_mut().zip(&terms).for_each(|(sum, term)| sum.add(step, term));
        }));
    }
    (loops, sums.into_iter().map(Sum::finish).collect())
}

/// What arrives at leaves, zeros where nothing does.
fn reached(from: &[Tensor], cotangents: &[Tensor], leaves: &[Tensor]) -> Vec<Tensor> {
    let floats = from.iter().zip(cotangents).filter(|(x, _)| x.dtype().is_float());
    let (from, cotangents): (Vec<Tensor>, Vec<Option<Tensor>>) =
        floats.map(|(x, c)| (x.clone(), Some(c.clone()))).unzip();
    let pulled = pull(&from, &cotangents, leaves);
    pulled.into_iter().zip(leaves).map(|(pulled, leaf)| pulled.unwrap_or_else(|| leaf.zeros_like())).collect()
}

fn outputs(node: &Tensor) -> Vec<Tensor> {
    (0..node.node().types().len()).map(|output| node.output(output)).collect()
}

/// A parameter's gradient as it adds up.
struct Sum {
    slope: Vec<f64>,
    square: f64,
    beside: TermOfStep,
    rest: Vec<f64>,
    loops: Vec<Through>,
}

impl Sum {
    fn new(slope: &Tensor, beside: &Tensor) -> Sum {
        let slope = numbers(slope);
        let square = slope.iter().map(|x| x * x).sum();
        let nothing = TermOfStep { step: 0, norm: Number(0.0), share: Number(0.0) };
        let mut sum = Sum { rest: slope.clone(), slope, square, beside: nothing, loops: Vec::new() };
        sum.beside = sum.term(0, beside);
        sum
    }

    fn enter(&mut self, name: &str) {
        self.loops.push(Through { of: name.to_owned(), terms: Vec::new() });
    }

    fn add(&mut self, step: usize, term: &Tensor) {
        let term = self.term(step, term);
        if step == 0 && term.norm.0 == 0.0 {
            return;
        }
        self.loops.last_mut().expect("within a loop").terms.push(term);
    }

    fn term(&mut self, step: usize, term: &Tensor) -> TermOfStep {
        let term = numbers(term);
        self.rest.iter_mut().zip(&term).for_each(|(rest, x)| *rest -= x);
        let along: f64 = term.iter().zip(&self.slope).map(|(x, g)| x * g).sum();
        let share = if self.square > 0.0 { along / self.square } else { 0.0 };
        let norm = term.iter().map(|x| x * x).sum::<f64>().sqrt();
        TermOfStep { step, norm: Number(norm), share: Number(share) }
    }

    /// Nothing, if no loop leads to it.
    fn finish(mut self) -> Option<InTime> {
        self.loops.retain(|through| through.terms.iter().any(|term| term.norm.0 != 0.0));
        let remainder = Number(self.rest.iter().map(|x| x * x).sum::<f64>().sqrt());
        let Sum { beside, loops, .. } = self;
        (!loops.is_empty()).then_some(InTime { loops, beside, remainder })
    }
}

/// One loop with its numbers.
struct Time<'a> {
    at: &'a Tensor,
    /// Of the loop, and of its first state.
    name: String,
    dims: ScanDims,
    body: &'a Lambda,
    nodes: Vec<Tensor>,
    inputs: Vec<Tensor>,
    /// Of the last states, then of what is stacked.
    cotangents: Vec<Tensor>,
}

impl<'a> Time<'a> {
    fn of(graph: &Graph, names: &Names, at: &'a Tensor) -> Time<'a> {
        let Op::Scan(dims, body) = at.node().op() else { unreachable!("a loop is a scan") };
        let roots: Vec<Tensor> = graph.roots.iter().map(|root| root.0.clone()).collect();
        let given: Vec<Tensor> = graph.roots.iter().map(|root| root.1.clone()).collect();
        let cotangents = eval_all(&reached(&roots, &given, &outputs(at)));
        let inputs = at.node().inputs().iter().map(|x| graph.number(x).clone()).collect();
        let nodes = ordered(&body.results, &body.params.iter().map(key).collect());
        let name = format!("h{}", names.get(&at.output(0)).trim_start_matches(['h', 'O']));
        Time { at, name, dims: **dims, body, nodes, inputs, cotangents }
    }

    /// The body's results over other arguments.
    fn results(&self, arguments: &[Tensor]) -> Vec<Tensor> {
        let given = self.body.params.iter().map(key).zip(arguments.iter().cloned()).collect();
        self.body.results.iter().map(substituted(&self.nodes, given)).collect()
    }

    /// What the body is given at each step, the first first.
    fn arguments(&self) -> Vec<Vec<Tensor>> {
        let (carries, rest) = self.inputs.split_at(self.dims.carries);
        let (sequences, constants) = rest.split_at(self.dims.sequences);
        let mut forth = compile(|arguments: &Vec<Tensor>| self.results(arguments)[..self.dims.carries].to_vec());
        let mut carries = carries.to_vec();
        let mut all = Vec::new();
        for step in 0..self.dims.length {
            let slices = slices(sequences, slice_of(&self.dims, step));
            let arguments = [&carries[..], &slices, constants].concat();
            carries = forth.run(arguments.clone()).expect("it ran within the loop");
            all.push(arguments);
        }
        all
    }

    /// Goes back through the steps; `send` is given each step's number and the cotangents of the loop's operands.
    fn run(&self, outer: (&Graph, &Names), limit: usize, mut send: impl FnMut(usize, Vec<Tensor>)) -> Loop {
        let ScanDims { length, carries, .. } = self.dims;
        let arguments = self.arguments();
        let mut back = compile(|(arguments, cotangents): &(Vec<Tensor>, Vec<Tensor>)| {
            reached(&self.results(arguments), cotangents, arguments)
        });
        let mut back = |step: usize, cotangents: &[Tensor]| {
            let given = (arguments[step].clone(), cotangents.to_vec());
            back.run(given).expect("numbers of the way forth go the way back")
        };
        let (states, stacked) = self.cotangents.split_at(carries);
        let mut arriving = states.to_vec();
        let mut direction = direction(states);
        let unused = zeros(&self.body.results[carries..]);
        let start = all_length(&direction);
        let mut passages = Vec::new();
        let mut shown = Shown { size: f64::NEG_INFINITY, step: 0, cotangents: vec![], sent: vec![] };
        for step in (0..length).rev() {
            let place = slice_of(&self.dims, step);
            let cotangents = [&arriving[..], &slices(stacked, place)].concat();
            let sent = back(step, &cotangents);
            let before = all_length(&direction);
            direction = back(step, &[&direction[..], &unused].concat())[..carries].to_vec();
            let states = self.merged(&cotangents).into_iter().filter(|(state, _)| *state < carries);
            passages.push(Passage {
                step: step + 1,
                arrives: Number(all_length(&states.map(|state| state.1).collect::<Vec<_>>())),
                gain: ratio(all_length(&direction), before),
                product: ratio(before, start),
            });
            send(step + 1, self.sent_by(place, &sent));
            arriving = sent[..carries].to_vec();
            let size = all_length(&sent[carries..]);
            if size > shown.size {
                shown = Shown { size, step, cotangents, sent };
            }
        }
        send(0, [arriving, zeros(&self.inputs[carries..])].concat());
        self.report(outer, passages, &shown, arguments.get(shown.step), limit)
    }

    /// The cotangents of the loop's operands that one step alone sends: none to the states, one slice of each sequence.
    fn sent_by(&self, place: usize, sent: &[Tensor]) -> Vec<Tensor> {
        let ScanDims { length, carries, sequences, .. } = self.dims;
        let whole = sent[carries..carries + sequences].iter().map(|slice| {
            let around = [(place, length - place - 1)].into_iter().chain(slice.shape().iter().map(|_| (0, 0)));
            slice.unsqueeze(0).pad(&around.collect::<Vec<_>>(), 0.0)
        });
        let whole = eval_all(&whole.collect::<Vec<_>>());
        [&zeros(&self.inputs[..carries]), &whole[..], &sent[carries + sequences..]].concat()
    }

    /// The cotangents of the body's results, those of one value together, by the first place that it has.
    fn merged(&self, cotangents: &[Tensor]) -> Vec<(usize, Tensor)> {
        let mut merged: Vec<(usize, Tensor)> = Vec::new();
        for (place, (result, cotangent)) in self.body.results.iter().zip(cotangents).enumerate() {
            match merged.iter_mut().find(|other| key(&self.body.results[other.0]) == key(result)) {
                Some(other) => other.1 = (&other.1 + cotangent).eval(),
                None if result.dtype().is_float() => merged.push((place, cotangent.clone())),
                None => (),
            }
        }
        merged
    }

    /// The loop, with the inside of one step.
    fn report(
        &self,
        (graph, names): (&Graph, &Names),
        passages: Vec<Passage>,
        shown: &Shown,
        arguments: Option<&Vec<Tensor>>,
        limit: usize,
    ) -> Loop {
        let line = self.at.node().origin().into();
        let mut report = Loop { name: self.name.clone(), steps: self.dims.length, line, passages, ..Loop::default() };
        let Some(arguments) = arguments else { return report };
        report.shown = shown.step + 1;
        let ScanDims { carries, sequences, .. } = self.dims;
        let params = &self.body.params;
        let name = |place: usize| match place.checked_sub(carries) {
            None => format!("{}{BEFORE}", state_name(&self.name, place)),
            Some(at) if at < sequences => format!("{}{AT}", wrapped(&names.get(&self.at.node().inputs()[place]))),
            Some(_) => names.get(&self.at.node().inputs()[place]),
        };
        let results = self.merged(&shown.cotangents);
        let result = |place: usize| format!("{}{AT}", result_name(&self.name, &self.dims, self.body, place));
        let given: HashMap<_, _> = results
            .iter()
            .map(|(place, _)| (key(&self.body.results[*place]), result(*place)))
            .chain(params.iter().enumerate().map(|(place, param)| (key(param), name(place))))
            .collect();
        let roots = results.iter().map(|(place, cotangent)| (self.body.results[*place].clone(), cotangent.clone()));
        let values = params.iter().map(key).zip(arguments.iter().cloned()).collect();
        let inside = Graph::of(roots.collect(), params, &values);
        let inside_names = names.in_step(&inside, given);
        let arrives: Vec<String> =
            inside.roots.iter().map(|root| format!("ε[{}]", inside_names.get(&root.0))).collect();
        let symbol = |place: usize| match place.checked_sub(carries) {
            None => format!("ε[{}]", name(place)),
            Some(at) if at < sequences => delta(&name(place)),
            Some(_) => format!("{}{AT}", delta(&name(place))),
        };
        let of = |place: usize, symbol: String| {
            let (path, shape) = (name(place), params[place].shape().to_vec());
            (params[place].clone(), Symbol { symbol, path, shape })
        };
        let leaves: Vec<_> = (0..params.len()).map(|place| of(place, symbol(place))).collect();
        report.backward = backward::equations(&inside, &inside_names, &arrives, &leaves);
        let explained = (0..params.len()).filter(|&place| {
            let leads = place < carries || graph.active.contains(&self.at.node().inputs()[place].node().id());
            leads && params[place].dtype().is_float()
        });
        report.operands = explained
            .map(|place| (of(place, name(place)), &shown.sent[place]))
            .map(|((leaf, symbol), slope)| Walk::explain((&inside, &inside_names), (&symbol, &leaf), slope, limit))
            .filter(|explained| !explained.paths.is_empty())
            .collect();
        report.definitions = inside_names.definitions;
        report
    }
}

/// The step whose inside is looked at.
struct Shown {
    size: f64,
    step: usize,
    cotangents: Vec<Tensor>,
    sent: Vec<Tensor>,
}

fn ratio(a: f64, b: f64) -> Number {
    Number(if b > 0.0 { a / b } else { 0.0 })
}

fn all_length(all: &[Tensor]) -> f64 {
    all.iter().map(|x| length(x).powi(2)).sum::<f64>().sqrt()
}

fn zeros(like: &[Tensor]) -> Vec<Tensor> {
    eval_all(&like.iter().map(|x| Tensor::zeros(x.shape(), x.dtype())).collect::<Vec<_>>())
}

/// A random direction of the states.
fn direction(states: &[Tensor]) -> Vec<Tensor> {
    let drawn = states.iter().zip(DIRECTION..).map(|(x, seed)| match x.dtype().is_float() {
        true => Seed::new(seed).normal(x.shape(), x.dtype()),
        false => x.zeros_like(),
    });
    eval_all(&drawn.collect::<Vec<_>>())
}

/// The slice of each sequence at a place.
fn slices(sequences: &[Tensor], place: usize) -> Vec<Tensor> {
    let slice = |x: &Tensor| x.narrow(0, place, 1).reshape(&x.shape()[1..]);
    eval_all(&sequences.iter().map(slice).collect::<Vec<_>>())
}
