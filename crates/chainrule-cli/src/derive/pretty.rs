//! Expressions and numbers for a terminal: x², u₁, 2·x·cos(x²), √x.

use crate::expression::{Constant, Expression, Function, Id, Node};

const SUM: u8 = 1;
const PRODUCT: u8 = 2;
const SIGN: u8 = 3;
const POWER: u8 = 4;
const ATOM: u8 = 5;

/// The expression in Unicode, with the fewest parentheses.
pub fn expression(expression: &Expression) -> String {
    let mut written: Vec<(String, u8)> = Vec::with_capacity(expression.nodes().len());
    for node in expression.nodes() {
        let part = write(node, &mut written, expression.nodes());
        written.push(part);
    }
    written.pop().unwrap_or_default().0
}

/// A node from its operands, each of which is used once and so taken.
fn write(node: &Node, written: &mut [(String, u8)], nodes: &[Node]) -> (String, u8) {
    let mut within = |id: Id, least: u8| {
        let (text, tightness) = std::mem::take(&mut written[id]);
        if tightness < least { format!("({text})") } else { text }
    };
    match node {
        Node::Number(value) => (value_text(*value), ATOM),
        Node::Constant(Constant::Pi) => ("π".into(), ATOM),
        Node::Constant(Constant::Tau) => ("τ".into(), ATOM),
        Node::Constant(Constant::E) => ("e".into(), ATOM),
        Node::Variable(variable) => (name(variable), ATOM),
        Node::Neg(a) => (append("-", &within(*a, SIGN)), SIGN),
        Node::Add(a, b) => (joined(within(*a, SUM), " + ", &within(*b, PRODUCT)), SUM),
        Node::Sub(a, b) => (joined(within(*a, SUM), " - ", &within(*b, PRODUCT)), SUM),
        Node::Mul(a, b) => (joined(within(*a, PRODUCT), "·", &within(*b, POWER)), PRODUCT),
        Node::Div(a, b) => (joined(within(*a, PRODUCT), "/", &within(*b, POWER)), PRODUCT),
        Node::Pow(a, b) => {
            let raised = match (&nodes[*b], minus(nodes, *b)) {
                (Node::Number(power), _) => Some(*power),
                (_, Some(power)) => Some(-power),
                _ => None,
            };
            let base = within(*a, ATOM);
            match raised.filter(|power| power.fract() == 0.0 && power.abs() < 1000.0) {
                Some(power) => (base + &superscript(power as i64), POWER),
                None => (joined(base, "^", &within(*b, ATOM)), POWER),
            }
        }
        Node::Call(Function::Sqrt, a) => (append("√", &within(a[0], ATOM)), POWER),
        Node::Call(Function::Abs, a) => (format!("|{}|", within(a[0], 0)), ATOM),
        Node::Call(function, arguments) => {
            let arguments: Vec<String> = arguments.iter().map(|&argument| within(argument, 0)).collect();
            (format!("{}({})", function.name(), arguments.join(", ")), ATOM)
        }
        Node::Compare(comparison, a, b) => {
            (format!("[{} {} {}]", within(*a, 0), comparison.sign(), within(*b, 0)), ATOM)
        }
    }
}

fn minus(nodes: &[Node], id: Id) -> Option<f64> {
    match nodes[id] {
        Node::Neg(a) => match nodes[a] {
            Node::Number(value) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

fn append(first: &str, second: &str) -> String {
    [first, second].concat()
}

/// Grows the left text, so that a long sum costs no more than its length.
fn joined(mut left: String, sign: &str, right: &str) -> String {
    left.push_str(sign);
    left.push_str(right);
    left
}

/// A name with the digits at its end lowered: u₁.
pub fn name(name: &str) -> String {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = name[stem.len()..].chars().map(|c| char::from_u32('₀' as u32 + (c as u32 - '0' as u32)).unwrap_or(c));
    stem.chars().chain(digits).collect()
}

/// A whole number raised: ⁻¹².
pub fn superscript(number: i64) -> String {
    let raised = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        _ => char::from_u32('⁰' as u32 + (c as u32 - '0' as u32)).unwrap_or(c),
    };
    number.to_string().chars().map(raised).collect()
}

/// A number in full: what reads back as the same `f64`.
pub fn value_text(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        _ if value.is_infinite() => if value > 0.0 { "∞" } else { "-∞" }.into(),
        _ if value != 0.0 && !(1e-5..1e16).contains(&value.abs()) => format!("{value:e}"),
        _ => format!("{}", value + 0.0),
    }
}

/// A number to ten digits.
pub fn short(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return value_text(value);
    }
    let rounded: f64 = format!("{value:.9e}").parse().unwrap_or(value);
    value_text(rounded)
}

/// The width of text in columns.
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text with spaces behind it up to a width.
pub fn pad(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}
