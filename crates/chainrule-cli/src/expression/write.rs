//! Expressions to text: plain, which the parser reads back as the same expression, and LaTeX.
//!
//! Both walk with a list of what is still to write instead of recursion, so that a long sum needs no deep stack.

use std::borrow::Cow;
use std::fmt;

use super::{Expression, Function, Id, Node};

/// How tightly a node holds together; what is looser than its place allows gets parentheses.
const SUM: u8 = 1;
const PRODUCT: u8 = 2;
const SIGN: u8 = 3;
const POWER: u8 = 4;
const ATOM: u8 = 5;

/// Something still to write.
enum Todo {
    Text(Cow<'static, str>),
    Node(Id),
    /// A node, in parentheses if it is looser than this.
    Within(Id, u8),
}
use Todo::{Node as Whole, Within};

fn text(text: &'static str) -> Todo {
    Todo::Text(Cow::Borrowed(text))
}

/// Numbers outside this range are written with an exponent.
fn long(number: f64) -> bool {
    number != 0.0 && !(1e-5..1e16).contains(&number)
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut todo = vec![Whole(self.root())];
        while let Some(next) = todo.pop() {
            match next {
                Todo::Text(text) => f.write_str(&text)?,
                Within(id, least) if self.plain_tightness(id) < least => {
                    todo.extend([text(")"), Whole(id), text("(")]);
                }
                Whole(id) | Within(id, _) => match &self.nodes[id] {
                    Node::Number(number) if long(*number) => write!(f, "{number:e}")?,
                    Node::Number(number) => write!(f, "{number}")?,
                    Node::Constant(constant) => f.write_str(constant.name())?,
                    Node::Variable(name) => f.write_str(name)?,
                    Node::Neg(a) => todo.extend([Within(*a, SIGN), text("-")]),
                    Node::Add(a, b) => todo.extend([Within(*b, PRODUCT), text(" + "), Within(*a, SUM)]),
                    Node::Sub(a, b) => todo.extend([Within(*b, PRODUCT), text(" - "), Within(*a, SUM)]),
                    Node::Mul(a, b) => todo.extend([Within(*b, SIGN), text("*"), Within(*a, PRODUCT)]),
                    Node::Div(a, b) => todo.extend([Within(*b, SIGN), text("/"), Within(*a, PRODUCT)]),
                    Node::Pow(a, b) => todo.extend([Within(*b, SIGN), text("^"), Within(*a, ATOM)]),
                    Node::Call(function, arguments) => {
                        todo.push(text(")"));
                        push_list(&mut todo, arguments);
                        todo.extend([text("("), text(function.name())]);
                    }
                    Node::Compare(comparison, a, b) => {
                        todo.extend([text("]"), Whole(*b), text(" "), text(comparison.sign()), text(" "), Whole(*a)]);
                        todo.push(text("["));
                    }
                },
            }
        }
        Ok(())
    }
}

/// Arguments with commas between, to be written from the first.
fn push_list(todo: &mut Vec<Todo>, arguments: &[Id]) {
    for (at, &argument) in arguments.iter().enumerate().rev() {
        todo.push(Whole(argument));
        if at > 0 {
            todo.push(text(", "));
        }
    }
}

impl Expression {
    fn plain_tightness(&self, id: Id) -> u8 {
        match self.nodes[id] {
            Node::Add(..) | Node::Sub(..) => SUM,
            Node::Mul(..) | Node::Div(..) => PRODUCT,
            Node::Neg(_) => SIGN,
            Node::Pow(..) => POWER,
            Node::Number(_) | Node::Constant(_) | Node::Variable(_) | Node::Call(..) | Node::Compare(..) => ATOM,
        }
    }

    /// As in plain text, but a fraction holds itself together, and eˣ and 2·10⁸ are what they look like.
    fn latex_tightness(&self, id: Id) -> u8 {
        match self.nodes[id] {
            Node::Div(..) | Node::Call(Function::Exp, _) => POWER,
            Node::Number(number) if long(number) => PRODUCT,
            _ => self.plain_tightness(id),
        }
    }

    /// The first node that is written of this one in LaTeX.
    fn leftmost(&self, mut id: Id) -> &Node {
        while let Node::Add(a, _) | Node::Sub(a, _) | Node::Mul(a, _) | Node::Pow(a, _) = self.nodes[id] {
            id = a;
        }
        &self.nodes[id]
    }

    /// An operand that is not the first: also in parentheses if it begins with a sign.
    fn latex_behind(&self, id: Id, least: u8) -> Todo {
        let signed = matches!(self.leftmost(id), Node::Neg(_)) && self.latex_tightness(id) < POWER;
        Within(id, if signed { ATOM + 1 } else { least })
    }

    fn latex_power(&self, base: Id, exponent: Id) -> Vec<Todo> {
        if let (Node::Call(function, arguments), Node::Number(power)) = (&self.nodes[base], &self.nodes[exponent])
            && function.power_before_argument()
            && power.fract() == 0.0
            && *power >= 2.0
        {
            let argument = arguments.iter().map(|&argument| Whole(argument));
            let mut todo = vec![text("\\right)")];
            todo.extend(argument);
            todo.extend([text("}\\left("), Whole(exponent), text("^{"), text(function.latex())]);
            return todo;
        }
        vec![text("}"), Whole(exponent), text("^{"), Within(base, ATOM)]
    }
}

/// The expression as LaTeX.
pub fn latex(expression: &Expression) -> String {
    let mut out = String::new();
    let mut todo = vec![Whole(expression.root())];
    while let Some(next) = todo.pop() {
        match next {
            Todo::Text(text) => out.push_str(&text),
            Within(id, least) if expression.latex_tightness(id) < least => {
                todo.extend([text("\\right)"), Whole(id), text("\\left(")]);
            }
            Whole(id) | Within(id, _) => match &expression.nodes[id] {
                Node::Number(number) => out.push_str(&latex_number(*number)),
                Node::Constant(constant) => out.push_str(constant.latex()),
                Node::Variable(name) => out.push_str(&latex_name(name)),
                Node::Neg(a) => todo.extend([expression.latex_behind(*a, PRODUCT), text("-")]),
                Node::Add(a, b) => {
                    todo.extend([expression.latex_behind(*b, PRODUCT), text(" + "), Within(*a, SUM)]);
                }
                Node::Sub(a, b) => {
                    todo.extend([expression.latex_behind(*b, PRODUCT), text(" - "), Within(*a, SUM)]);
                }
                Node::Mul(a, b) => {
                    let digit = matches!(expression.leftmost(*b), Node::Number(_));
                    let sign = text(if digit { " \\cdot " } else { " \\, " });
                    todo.extend([expression.latex_behind(*b, SIGN), sign, Within(*a, PRODUCT)]);
                }
                Node::Div(a, b) => todo.extend([text("}"), Whole(*b), text("}{"), Whole(*a), text("\\frac{")]),
                Node::Pow(a, b) => todo.extend(expression.latex_power(*a, *b)),
                Node::Compare(comparison, a, b) => {
                    todo.extend([text("\\right]"), Whole(*b), text(comparison.latex()), Whole(*a), text("\\left[")]);
                }
                Node::Call(function, arguments) => {
                    let (open, close) = match function {
                        Function::Exp => ("e^{", "}"),
                        Function::Sqrt => ("\\sqrt{", "}"),
                        Function::Abs => ("\\left|", "\\right|"),
                        _ => {
                            out.push_str(function.latex());
                            ("\\left(", "\\right)")
                        }
                    };
                    out.push_str(open);
                    todo.push(text(close));
                    push_list(&mut todo, arguments);
                }
            },
        }
    }
    out
}

fn latex_number(number: f64) -> String {
    if !long(number) {
        return number.to_string();
    }
    let written = format!("{number:e}");
    match written.split_once('e') {
        Some(("1", exponent)) => format!("10^{{{exponent}}}"),
        Some((mantissa, exponent)) => format!("{mantissa} \\cdot 10^{{{exponent}}}"),
        None => written,
    }
}

/// `x`, `\alpha`, `\mathrm{rate}`; digits at the end, and what follows a `_`, become an index: `x_{1}`.
fn latex_name(name: &str) -> String {
    let (stem, index) = match name.split_once('_') {
        Some((stem, index)) => (stem, index.trim_matches('_')),
        None => name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len()),
    };
    let index = index.replace('_', "\\_");
    let stem = latex_word(stem);
    match index.as_str() {
        "" => stem,
        _ if index.chars().all(|c| c.is_ascii_digit()) => format!("{stem}_{{{index}}}"),
        _ => format!("{stem}_{{{}}}", latex_word(&index)),
    }
}

fn latex_word(word: &str) -> String {
    const GREEK: &str = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma phi chi psi \
                         omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega";
    match word {
        _ if GREEK.split_whitespace().any(|letter| letter == word) => format!("\\{word}"),
        _ if word.chars().count() == 1 => word.into(),
        _ => format!("\\mathrm{{{word}}}"),
    }
}
