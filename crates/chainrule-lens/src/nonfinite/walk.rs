//! The walk from a result back to what first was not finite.

use super::advice::{advise, formula};
use super::cause::{Cause, cause};
use super::report::{NonFinite, Operand, Passage};
use super::sources::sources;
use crate::place::{Element, Number, Part, index_of, numbers};
use crate::replay::{Replay, branch, iterate, slice_of};
use chainrule::execute::ExecuteError;
use chainrule::program::{Instruction, Kind, Program, Value};
use chainrule::tensor::{Op, ScanDims, Tensor};
use std::collections::VecDeque;

/// At most this many results are followed; a model whose whole gradient is NaN has one first cause.
const FOLLOWED: usize = 32;
/// Elements listed for each operand.
const LISTED: usize = 4;

/// Where a walk ended.
enum End {
    /// At an element of an input that was not finite when it came in.
    Input(usize, usize),
    /// At an operation.
    Made(Box<Finding>),
}

/// An operation that made a number that is not finite, and when that was.
struct Finding {
    order: usize,
    report: NonFinite,
}

/// What is gathered on the way.
#[derive(Default)]
struct Trail {
    passed: Vec<Passage>,
    /// The last operation that turned infinities into NaN: to blame if the infinities were written on purpose.
    turned: Option<Box<Finding>>,
}

/// Where the walk is: the surrounding loops and groups, and the instruction of the whole program that it is under.
#[derive(Clone, Default)]
struct Depth {
    inside: Vec<String>,
    order: Option<usize>,
}

/// The first operation of a program to make something that is not finite and reaches a result.
pub(super) fn first(
    program: &Program,
    arguments: &[Tensor],
    names: &[String],
) -> Result<Option<NonFinite>, ExecuteError> {
    let replay = Replay::run(program, arguments)?;
    let mut best: Option<Finding> = None;
    let mut followed = 0;
    for (&output, name) in program.outputs.iter().zip(names) {
        let result = replay.value(output);
        let Some(element) = bad(result) else { continue };
        followed += 1;
        if followed > FOLLOWED {
            break;
        }
        let mut found = follow(&replay, output, element)?;
        found.report.result = name.clone();
        found.report.seen = element_of(result, element);
        let rank = |found: &Finding| (found.report.cause == Cause::Given, found.order);
        if best.as_ref().is_none_or(|best| rank(&found) < rank(best)) {
            best = Some(found);
        }
    }
    Ok(best.map(|found| found.report))
}

/// The first element that is not finite; NaN before infinities.
fn bad(x: &Tensor) -> Option<usize> {
    if !x.dtype().is_float() {
        return None;
    }
    let numbers = numbers(x);
    let nan = numbers.iter().position(|x| x.is_nan());
    nan.or_else(|| numbers.iter().position(|x| x.is_infinite()))
}

fn follow(replay: &Replay, output: Value, element: usize) -> Result<Finding, ExecuteError> {
    let mut trail = Trail::default();
    let end = walk(replay, output, element, &Depth::default(), &mut trail)?;
    let given = |finding: &Finding| finding.report.cause == Cause::Given;
    let mut found = match (end, trail.turned) {
        (End::Made(made), Some(turned)) if given(&made) => turned,
        (End::Made(mut made), turned) => {
            // What a select dropped comes back through its slope: the cure is where the slope is taken.
            let back = turned.filter(|turned| made.report.part == Part::Forward && turned.report.part != Part::Forward);
            if let Some(back) = back {
                (made.report.formula, made.report.advice) = (back.report.formula, back.report.advice);
            }
            made
        }
        (End::Input(input, at), Some(turned))
            if !numbers(replay.value(replay.program.inputs[input].1))[at].is_nan() =>
        {
            turned
        }
        (End::Input(input, at), _) => Box::new(from_outside(replay, input, at, trail.passed.last())),
    };
    // The trail runs from the result back; what lies behind the operation that is blamed is not part of it.
    let after = trail.passed.iter().take_while(|passage| {
        (&passage.operation, &passage.line, &passage.part, &passage.made)
            != (&found.report.operation, &found.report.line, &found.report.part, &found.report.at)
    });
    found.report.passed = after.cloned().collect();
    found.report.passed.reverse();
    Ok(*found)
}

fn walk(replay: &Replay, value: Value, element: usize, depth: &Depth, trail: &mut Trail) -> Result<End, ExecuteError> {
    let (mut value, mut element) = (value, element);
    loop {
        let Some(place) = replay.producer(value) else {
            let input = replay.program.inputs.iter().position(|(_, v)| *v == value).expect("an input");
            return Ok(End::Input(input, element));
        };
        let instruction = &replay.program.instructions[place];
        let output = instruction.outputs.iter().position(|&v| v == value).expect("its producer");
        let operands = replay.operands(instruction);
        let depth = Depth { order: depth.order.or(Some(place)), ..depth.clone() };
        let (operand, at) = match &instruction.kind {
            Kind::Op(op) => {
                let from = sources(op, &operands, output, element);
                let made = numbers(replay.value(value))[element];
                let found =
                    || finding(replay, instruction, op, &from, element_of(replay.value(value), element), &depth);
                match worst(&operands, &from) {
                    None => return Ok(End::Made(Box::new(found()))),
                    Some((operand, at, number)) => {
                        if made.is_nan() && !number.is_nan() {
                            trail.turned = Some(Box::new(found()));
                        }
                        (operand, at)
                    }
                }
            }
            Kind::Fused(body) | Kind::Known(_, body) => {
                match enter(body, &operands, output, element, "a fused group", &depth, trail)? {
                    End::Input(input, at) => (input, at),
                    made => return Ok(made),
                }
            }
            Kind::Cond(yes, no) => {
                let body = branch(yes, no, &operands);
                let label = format!("the branch taken at {}", instruction.origin);
                match enter(body, &operands[1..], output, element, &label, &depth, trail)? {
                    End::Input(input, at) => (input + 1, at),
                    made => return Ok(made),
                }
            }
            Kind::Scan(dims, body) => {
                match unroll(instruction, dims, body, &operands, (output, element), &depth, trail)? {
                    End::Input(input, at) => (input, at),
                    made => return Ok(made),
                }
            }
        };
        trail.passed.push(Passage {
            operation: instruction.kind.name().to_owned(),
            part: Part::from(instruction.origin),
            line: instruction.origin.into(),
            made: element_of(replay.value(value), element),
        });
        (value, element) = (instruction.inputs[operand], at);
    }
}

/// Walks on inside a body.
fn enter(
    body: &Program,
    operands: &[Tensor],
    output: usize,
    element: usize,
    label: &str,
    depth: &Depth,
    trail: &mut Trail,
) -> Result<End, ExecuteError> {
    let replay = Replay::run(body, operands)?;
    let inside = depth.inside.iter().cloned().chain([label.to_owned()]).filter(|label| label != "a fused group");
    let depth = Depth { inside: inside.collect(), ..depth.clone() };
    walk(&replay, body.outputs[output], element, &depth, trail)
}

/// Walks through a loop from its last step back: from a step's carry to what the step before made.
fn unroll(
    instruction: &Instruction,
    dims: &ScanDims,
    body: &Program,
    operands: &[Tensor],
    (mut output, mut element): (usize, usize),
    depth: &Depth,
    trail: &mut Trail,
) -> Result<End, ExecuteError> {
    let steps = iterate(dims, body, operands)?.arguments;
    let mut step = dims.length;
    if output >= dims.carries {
        let size = body.ty(body.outputs[output]).numel().max(1);
        step = (0..dims.length).find(|&step| slice_of(dims, step) == element / size).expect("a step") + 1;
        element %= size;
    }
    while step > 0 {
        step -= 1;
        let label = format!("step {} of the loop at {}", slice_of(dims, step), instruction.origin);
        let (input, at) = match enter(body, &steps[step], output, element, &label, depth, trail)? {
            End::Input(input, at) => (input, at),
            made => return Ok(made),
        };
        if input >= dims.carries + dims.sequences {
            return Ok(End::Input(input, at));
        }
        if input >= dims.carries {
            let size = steps[step][input].numel();
            return Ok(End::Input(input, slice_of(dims, step) * size + at));
        }
        (output, element) = (input, at);
    }
    Ok(End::Input(output, element))
}

/// The source to follow: one that is NaN, else one that is infinite.
fn worst(operands: &[Tensor], from: &[Vec<usize>]) -> Option<(usize, usize, f64)> {
    let mut infinite = None;
    for (operand, places) in from.iter().enumerate() {
        if places.is_empty() || !operands[operand].dtype().is_float() {
            continue;
        }
        let numbers = numbers(&operands[operand]);
        if let Some(&at) = places.iter().find(|&&at| numbers[at].is_nan()) {
            return Some((operand, at, f64::NAN));
        }
        if infinite.is_none() {
            infinite = places.iter().find(|&&at| numbers[at].is_infinite()).map(|&at| (operand, at, numbers[at]));
        }
    }
    infinite
}

fn element_of(x: &Tensor, at: usize) -> Element {
    Element { index: index_of(x.shape(), at), value: Number(numbers(x)[at]) }
}

fn finding(
    replay: &Replay,
    instruction: &Instruction,
    op: &Op,
    from: &[Vec<usize>],
    at: Element,
    depth: &Depth,
) -> Finding {
    let tensors = replay.operands(instruction);
    let values: Vec<Vec<f64>> = tensors
        .iter()
        .zip(from)
        .filter(|(x, _)| x.dtype().is_float())
        .map(|(x, places)| {
            let numbers = numbers(x);
            places.iter().map(|&i| numbers[i]).collect()
        })
        .collect();
    let cause = cause(op, &values);
    let operands = instruction.inputs.iter().zip(&tensors).zip(from);
    let operands = operands.filter(|((_, x), _)| x.dtype().is_float());
    let report = NonFinite {
        result: String::new(),
        seen: at.clone(),
        operation: instruction.kind.name().to_owned(),
        part: Part::from(instruction.origin),
        line: instruction.origin.into(),
        at,
        operands: operands.map(|((&value, x), places)| operand(replay, value, x, places)).collect(),
        cause,
        formula: Part::from(instruction.origin).derives().and_then(formula).map(str::to_owned),
        inside: depth.inside.clone(),
        near: nearest(replay, instruction),
        advice: advise(replay, instruction, op, cause, &values),
        passed: Vec::new(),
    };
    Finding { order: depth.order.unwrap_or(0), report }
}

fn operand(replay: &Replay, value: Value, x: &Tensor, places: &[usize]) -> Operand {
    let numbers = numbers(x);
    let mut order: Vec<usize> = places.to_vec();
    let size = |&at: &usize| if numbers[at].is_finite() { numbers[at].abs() } else { f64::INFINITY };
    order.sort_by(|a, b| size(b).total_cmp(&size(a)));
    order.truncate(LISTED);
    let element = |at: usize| Element { index: index_of(x.shape(), at), value: Number(numbers[at]) };
    Operand {
        name: name_of(replay, value),
        ty: x.ty().to_string(),
        elements: order.into_iter().map(element).collect(),
        count: places.len(),
    }
}

fn name_of(replay: &Replay, value: Value) -> Option<String> {
    replay.program.inputs.iter().find(|(_, v)| *v == value).map(|(name, _)| name.clone())
}

/// The argument with the fewest operations between it and this one.
fn nearest(replay: &Replay, instruction: &Instruction) -> Option<String> {
    let mut pending: VecDeque<Value> = instruction.inputs.iter().copied().collect();
    let mut seen = vec![false; replay.program.types.len()];
    while let Some(value) = pending.pop_front() {
        if std::mem::replace(&mut seen[value as usize], true) {
            continue;
        }
        match replay.made_by(value) {
            Some(instruction) => pending.extend(&instruction.inputs),
            None => return name_of(replay, value),
        }
    }
    None
}

fn from_outside(replay: &Replay, input: usize, at: usize, next: Option<&Passage>) -> Finding {
    let (name, value) = &replay.program.inputs[input];
    let x = replay.value(*value);
    let element = element_of(x, at);
    let line = next.map(|passage| passage.line.clone());
    let report = NonFinite {
        result: String::new(),
        seen: element.clone(),
        operation: "input".to_owned(),
        part: Part::Forward,
        line: line.unwrap_or(crate::place::Place::new(name.clone(), 0)),
        at: element.clone(),
        operands: vec![],
        cause: Cause::Given,
        formula: None,
        inside: vec![],
        near: Some(name.clone()),
        advice: format!("{name} is not finite when it comes in ({element}): look at what made it"),
        passed: vec![],
    };
    Finding { order: 0, report }
}
