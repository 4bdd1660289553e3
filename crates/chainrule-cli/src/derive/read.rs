//! Between the three languages: expressions, the engine's scalar programs, and the algebra that writes them short.
//!
//! No derivative is taken here: a program comes in as the engine made it, and every operation is read as what it is.

use chainrule::program::{Kind, Program};
use chainrule::tensor::{Binary, Compare, Op, Unary};

use super::algebra::{Algebra, Form, Id};
use super::ratio::Ratio;
use crate::expression::{Comparison, Constant, Expression, Function, Node};

/// The values of an expression's nodes.
pub fn expression(algebra: &mut Algebra, nodes: &[Node]) -> Vec<Id> {
    let mut ids: Vec<Id> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let id = match node {
            Node::Number(number) => algebra.of(Ratio::of(*number)),
            Node::Constant(constant) => algebra.constant(*constant),
            Node::Variable(name) => algebra.symbol(name),
            Node::Neg(a) => algebra.scale(Ratio::MINUS_ONE, ids[*a]),
            Node::Add(a, b) => algebra.add(ids[*a], ids[*b]),
            Node::Sub(a, b) => algebra.sub(ids[*a], ids[*b]),
            Node::Mul(a, b) => algebra.mul(ids[*a], ids[*b]),
            Node::Div(a, b) => algebra.div(ids[*a], ids[*b]),
            Node::Pow(a, b) => algebra.pow(ids[*a], ids[*b]),
            Node::Call(function, arguments) => {
                algebra.call(*function, arguments.iter().map(|&argument| ids[argument]).collect())
            }
            Node::Compare(Comparison::Less, a, b) => algebra.less(ids[*a], ids[*b], false),
            Node::Compare(Comparison::LessEqual, a, b) => algebra.less(ids[*a], ids[*b], true),
            Node::Compare(Comparison::Greater, a, b) => algebra.less(ids[*b], ids[*a], false),
            Node::Compare(Comparison::GreaterEqual, a, b) => algebra.less(ids[*b], ids[*a], true),
        };
        ids.push(id);
    }
    ids
}

/// The results of a program over single numbers, given what its inputs are; `None` if it does anything else.
pub fn program(algebra: &mut Algebra, program: &Program, inputs: &[Id]) -> Option<Vec<Id>> {
    let mut ids = vec![Algebra::ZERO; program.types.len()];
    for ((_, value), id) in program.inputs.iter().zip(inputs) {
        ids[*value as usize] = *id;
    }
    for instruction in &program.instructions {
        let x: Vec<Id> = instruction.inputs.iter().map(|&value| ids[value as usize]).collect();
        let Kind::Op(op) = &instruction.kind else { return None };
        ids[instruction.outputs[0] as usize] = operation(algebra, op, &x)?;
    }
    Some(program.outputs.iter().map(|&value| ids[value as usize]).collect())
}

fn operation(algebra: &mut Algebra, op: &Op, x: &[Id]) -> Option<Id> {
    Some(match op {
        Op::Constant(value, _) => named(algebra, value.as_f64()),
        Op::Variable | Op::StopGradient | Op::Cast(_) | Op::Reshape(_) | Op::Broadcast(..) => x[0],
        Op::Unary(unary) => {
            let function = match unary {
                Unary::Neg => return Some(algebra.scale(Ratio::MINUS_ONE, x[0])),
                Unary::Not => return Some(algebra.not(x[0])),
                Unary::Floor => return None,
                Unary::Exp => Function::Exp,
                Unary::Expm1 => Function::Expm1,
                Unary::Log => Function::Log,
                Unary::Log1p => Function::Log1p,
                Unary::Sin => Function::Sin,
                Unary::Cos => Function::Cos,
                Unary::Atan => Function::Atan,
                Unary::Tanh => Function::Tanh,
                Unary::Sigmoid => Function::Sigmoid,
                Unary::Erf => Function::Erf,
                Unary::Sqrt => Function::Sqrt,
                Unary::Abs => Function::Abs,
                Unary::Sign => Function::Sign,
            };
            algebra.call(function, vec![x[0]])
        }
        Op::Binary(binary) => match binary {
            Binary::Add => algebra.add(x[0], x[1]),
            Binary::Sub => algebra.sub(x[0], x[1]),
            Binary::Mul | Binary::And => algebra.mul(x[0], x[1]),
            Binary::Div => algebra.div(x[0], x[1]),
            Binary::Pow => algebra.pow(x[0], x[1]),
            Binary::Max => algebra.call(Function::Max, x.to_vec()),
            Binary::Min => algebra.call(Function::Min, x.to_vec()),
            Binary::Or => {
                let (a, b) = (algebra.not(x[0]), algebra.not(x[1]));
                let neither = algebra.mul(a, b);
                algebra.not(neither)
            }
        },
        Op::Compare(compare) => match compare {
            Compare::Less => algebra.less(x[0], x[1], false),
            Compare::LessEqual => algebra.less(x[0], x[1], true),
            // In general position different values are not equal.
            Compare::Equal => (x[0] == x[1]) as Id,
        },
        Op::Select => algebra.select(x[0], x[1], x[2]),
        _ => return None,
    })
}

/// A value as an expression, in the order people write.
pub fn written(algebra: &Algebra, id: Id) -> Expression {
    terms_written(algebra, algebra.terms(id))
}

fn terms_written(algebra: &Algebra, mut terms: Vec<(Ratio, Id)>) -> Expression {
    order(algebra, &mut terms);
    let mut sum: Option<Expression> = None;
    for (c, term) in terms {
        let part = |c| product(algebra, c, &algebra.factors(term));
        sum = Some(match sum {
            None => part(c),
            Some(sum) if c.value() < 0.0 => sum - part(-c),
            Some(sum) => sum + part(c),
        });
    }
    sum.unwrap_or_else(|| Expression::number(0.0))
}

/// Higher powers first, unless that begins with a minus and another order does not.
fn order(algebra: &Algebra, terms: &mut Vec<(Ratio, Id)>) {
    terms.sort_by_key(|(_, term)| std::cmp::Reverse(degree(algebra, *term)));
    let positive = |term: &(Ratio, Id)| term.0.value() > 0.0;
    match (terms.first().is_some_and(positive), terms.last().is_some_and(positive)) {
        (false, true) => terms.reverse(),
        (false, false) => {
            if let Some(first) = terms.iter().position(positive) {
                let first = terms.remove(first);
                terms.insert(0, first);
            }
        }
        (true, _) => {}
    }
}

/// The powers in a term together, in twelfths.
fn degree(algebra: &Algebra, term: Id) -> i64 {
    let powers = algebra.factors(term).into_iter().map(|(base, exponent)| match algebra.form(base) {
        Form::Constant(_) | Form::Number(_) => 0.0,
        _ => algebra.number(exponent).map_or(0.0, |power| power.value() * 12.0),
    });
    powers.sum::<f64>() as i64
}

/// Numbers, then names, then sums, then functions, then exponentials, then conditions.
fn rank(algebra: &Algebra, base: Id, exponent: Id) -> (u8, &str) {
    match algebra.form(base) {
        Form::Constant(_) if base == Algebra::E && exponent != Algebra::ONE => (7, ""),
        _ if algebra.number(exponent).is_none() => (3, ""),
        Form::Number(_) => (0, ""),
        Form::Constant(_) => (1, ""),
        Form::Symbol(name) => (2, name),
        Form::Sum(_) | Form::Product(_) => (4, ""),
        Form::Call(Function::Sign, _) => (6, ""),
        Form::Call(..) => (5, ""),
        Form::Less(..) => (8, ""),
    }
}

/// A coefficient times powers, as a fraction where exponents are negative.
fn product(algebra: &Algebra, coefficient: Ratio, factors: &[(Id, Id)]) -> Expression {
    let mut factors: Vec<(Id, Id)> = factors.to_vec();
    factors.sort_by_key(|&(base, exponent)| rank(algebra, base, exponent));
    let mut negative = coefficient.value() < 0.0;
    let (n, d) = coefficient.parts();
    let (mut above, mut below): (Vec<Expression>, Vec<Expression>) = (Vec::new(), Vec::new());
    if n.abs() != 1.0 {
        above.push(Expression::number(n.abs()));
    }
    if d != 1.0 {
        below.push(Expression::number(d));
    }
    let tangents: Vec<(Id, f64)> = (0..factors.len()).filter_map(|index| tangent(algebra, &factors, index)).collect();
    for index in 0..factors.len() {
        let (base, exponent) = factors[index];
        let Some(power) = algebra.number(exponent) else {
            above.push(power_of(algebra, base, exponent));
            continue;
        };
        let mut power = power.value();
        for (other, n) in &tangents {
            if *other == base {
                power += n;
            }
        }
        if let Some((_, n)) = tangent(algebra, &factors, index) {
            power -= n;
            if let Form::Call(_, arguments) = algebra.form(base) {
                above.push(to_power(call(Function::Tan, vec![written(algebra, arguments[0])]), Ratio::of(n)));
            }
        }
        if base == Algebra::E && power != 1.0 {
            above.push(call(Function::Exp, vec![Expression::number(power)]));
            continue;
        }
        if power == 0.0 {
            continue;
        }
        // −(x − 1) is 1 − x.
        let flips = negative && power == 1.0 && matches!(algebra.form(base), Form::Sum(_)) && {
            algebra.terms(base).iter().any(|(c, _)| c.value() < 0.0)
        };
        let written = match flips {
            true => {
                negative = false;
                flipped(algebra, base)
            }
            false => base_written(algebra, base),
        };
        match power < 0.0 {
            true => below.push(to_power(written, Ratio::of(-power))),
            false => above.push(to_power(written, Ratio::of(power))),
        }
    }
    let join = |parts: Vec<Expression>| parts.into_iter().reduce(|a, b| a * b);
    if above.is_empty() {
        above.push(Expression::number(1.0));
    }
    if negative {
        let first = above.remove(0);
        above.insert(0, -first);
    }
    let above = join(above).unwrap_or_else(|| Expression::number(1.0));
    match join(below) {
        Some(below) => above / below,
        None => above,
    }
}

/// For sin(u)ⁿ beside cos(u)⁻ᵐ: the cosine, and how many of them make tangents.
fn tangent(algebra: &Algebra, factors: &[(Id, Id)], index: usize) -> Option<(Id, f64)> {
    let (base, exponent) = factors[index];
    let Form::Call(Function::Sin, argument) = algebra.form(base) else { return None };
    let n = algebra.number(exponent)?.whole().filter(|n| *n > 0.0)?;
    factors.iter().find_map(|(other, exponent)| match algebra.form(*other) {
        Form::Call(Function::Cos, same) if same == argument => {
            let m = algebra.number(*exponent)?.whole().filter(|m| *m < 0.0)?;
            Some((*other, n.min(-m)))
        }
        _ => None,
    })
}

/// −1 times a sum.
fn flipped(algebra: &Algebra, sum: Id) -> Expression {
    terms_written(algebra, algebra.terms(sum).into_iter().map(|(c, term)| (-c, term)).collect())
}

fn base_written(algebra: &Algebra, base: Id) -> Expression {
    match algebra.form(base) {
        Form::Symbol(name) => Expression::variable(name).unwrap_or_else(|| Expression::number(f64::NAN)),
        Form::Constant(constant) => Expression::constant(*constant),
        Form::Call(function, arguments) => {
            call(*function, arguments.iter().map(|&argument| written(algebra, argument)).collect())
        }
        Form::Less(a, b, or_equal) => match (algebra.number(*a), or_equal) {
            // A number stands on the right.
            (Some(_), false) => written(algebra, *b).compare(Comparison::Greater, written(algebra, *a)),
            (Some(_), true) => written(algebra, *b).compare(Comparison::GreaterEqual, written(algebra, *a)),
            (None, false) => written(algebra, *a).compare(Comparison::Less, written(algebra, *b)),
            (None, true) => written(algebra, *a).compare(Comparison::LessEqual, written(algebra, *b)),
        },
        Form::Number(number) => {
            let (n, d) = number.parts();
            if d == 1.0 { Expression::number(n) } else { Expression::number(n) / Expression::number(d) }
        }
        Form::Sum(_) | Form::Product(_) => written(algebra, base),
    }
}

fn power_of(algebra: &Algebra, base: Id, exponent: Id) -> Expression {
    match base {
        Algebra::E => call(Function::Exp, vec![written(algebra, exponent)]),
        _ => base_written(algebra, base).pow(written(algebra, exponent)),
    }
}

fn to_power(base: Expression, power: Ratio) -> Expression {
    match power.parts() {
        (1.0, 1.0) => base,
        (1.0, 2.0) => call(Function::Sqrt, vec![base]),
        (n, 1.0) => base.pow(Expression::number(n)),
        (n, d) => base.pow(Expression::number(n) / Expression::number(d)),
    }
}

fn call(function: Function, arguments: Vec<Expression>) -> Expression {
    Expression::call(function, arguments).expect("as many arguments as it was read with")
}

/// A value without names, such as pi/2.
pub fn constant_value(nodes: &[Node]) -> Option<f64> {
    let mut values: Vec<f64> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let value = match node {
            Node::Number(number) => *number,
            Node::Constant(constant) => constant.value(),
            Node::Neg(a) => -values[*a],
            Node::Add(a, b) => values[*a] + values[*b],
            Node::Sub(a, b) => values[*a] - values[*b],
            Node::Mul(a, b) => values[*a] * values[*b],
            Node::Div(a, b) => values[*a] / values[*b],
            Node::Pow(a, b) => values[*a].powf(values[*b]),
            Node::Call(Function::Sqrt, a) => values[a[0]].sqrt(),
            Node::Call(Function::Exp, a) => values[a[0]].exp(),
            Node::Call(Function::Log, a) => values[a[0]].ln(),
            Node::Variable(_) | Node::Call(..) | Node::Compare(..) => return None,
        };
        values.push(value);
    }
    values.pop()
}

/// A number of the engine's; √½, 2/√π and π/2, which its rules contain, stand for what they are.
fn named(algebra: &mut Algebra, value: f64) -> Id {
    use std::f64::consts as c;
    let half = Ratio::HALF;
    let pi = algebra.constant(Constant::Pi);
    let (base, power, coefficient) = match value.abs() {
        v if v == c::FRAC_1_SQRT_2 => (algebra.of(Ratio::new(2.0, 1.0)), -half, Ratio::ONE),
        v if v == c::FRAC_2_SQRT_PI => (pi, -half, Ratio::new(2.0, 1.0)),
        v if v == c::FRAC_PI_2 => (pi, Ratio::ONE, half),
        _ => return algebra.of(Ratio::of(value)),
    };
    let power = algebra.of(power);
    let root = algebra.pow(base, power);
    algebra.scale(if value < 0.0 { -coefficient } else { coefficient }, root)
}
