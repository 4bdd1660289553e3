//! Scalar expressions as people write them: `sin(x^2)*exp(-x)`.
//!
//! [`Expression::parse`] reads one, `Display` writes it with the fewest parentheses, [`Expression::to_latex`] as LaTeX.
//! It knows no tensor and takes no derivative.
//!
//! What may be written, from loosest to tightest:
//!
//! | written | means |
//! | --- | --- |
//! | `a + b`, `a - b` | from the left |
//! | `a * b`, `a / b`, `2x`, `3 sin(x)`, `(x+1)(x-1)` | from the left, all alike: `1/2x` is `(1/2)*x` |
//! | `-x`, `+x` | `-x^2` is `-(x^2)` |
//! | `x^y`, `x**y`, `pow(x, y)`, `x²`, `x⁻¹` | from the right: `x^y^z` is `x^(y^z)` |
//! | `sin(x)`, `max(a, b)`, `pi`, `π`, `e`, `tau`, `τ`, `0.5`, `1e-3` | `log` and `ln` are the natural logarithm |
//!
//! Any other name is a variable; `xy` is one variable, `x y` a product. `×`, `·`, `÷` and `−` are read as well.

mod error;
mod function;
mod lexer;
mod parser;
mod write;

pub use error::{Excerpt, ParseError};
pub use function::{Constant, Function};

use std::ops::Range;

/// The longest text that is read, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// How deeply parentheses, signs and powers may be nested together.
pub const MAX_DEPTH: usize = 256;

/// The place of a node in [`Expression::nodes`].
pub type Id = usize;

/// One operation or leaf; operands are named by their places, which are always lower.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A number; finite and not negative, as a sign is a node of its own.
    Number(f64),
    /// `pi`, `e` or `tau`.
    Constant(Constant),
    /// Any other name.
    Variable(String),
    /// `-a`
    Neg(Id),
    /// `a + b`
    Add(Id, Id),
    /// `a - b`
    Sub(Id, Id),
    /// `a * b`
    Mul(Id, Id),
    /// `a / b`
    Div(Id, Id),
    /// `a ^ b`
    Pow(Id, Id),
    /// A function and as many arguments as its [`Function::arity`].
    Call(Function, Vec<Id>),
    /// `[a > b]`: 1 where it holds, otherwise 0. Only derivatives contain it; the parser does not read it.
    Compare(Comparison, Id, Id),
}

/// How two numbers stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `<`
    Less,
    /// `≤`
    LessEqual,
    /// `>`
    Greater,
    /// `≥`
    GreaterEqual,
}

impl Comparison {
    /// The sign.
    pub fn sign(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessEqual => "≤",
            Comparison::Greater => ">",
            Comparison::GreaterEqual => "≥",
        }
    }

    fn latex(self) -> &'static str {
        match self {
            Comparison::Less => " < ",
            Comparison::LessEqual => " \\le ",
            Comparison::Greater => " > ",
            Comparison::GreaterEqual => " \\ge ",
        }
    }
}

/// A scalar expression.
///
/// The tree lies flat: operands before what uses them, left before right, the root last, each used once. So a loop over
/// [`nodes`](Expression::nodes) evaluates it, and neither that nor dropping it needs a deep stack, however long the sum:
///
/// ```text
/// let mut values = Vec::new();
/// for node in expression.nodes() {
///     values.push(match node { Node::Add(a, b) => values[*a] + values[*b], … });
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    nodes: Vec<Node>,
}

impl Expression {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Expression, ParseError> {
        Ok(parser::parse(text)?.0)
    }

    /// Reads an expression, and gives the bytes of the text that each node stands for, operands included.
    pub fn parse_with_places(text: &str) -> Result<(Expression, Vec<Range<usize>>), ParseError> {
        parser::parse(text)
    }

    /// The nodes, operands before what uses them; never empty, and the last is the root.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The names of the variables, each once, in the order of their first use.
    pub fn variables(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        let mut known = std::collections::HashSet::new();
        for node in &self.nodes {
            if let Node::Variable(name) = node
                && known.insert(name)
            {
                names.push(name);
            }
        }
        names
    }

    /// The expression as LaTeX, for mathematics mode.
    pub fn to_latex(&self) -> String {
        write::latex(self)
    }

    /// A number. A negative one becomes a negation; what is not finite, the quotient that gives it (`1/0`, `0/0`).
    pub fn number(value: f64) -> Expression {
        let leaf = |value| Expression { nodes: vec![Node::Number(value)] };
        match value {
            _ if value.is_nan() => leaf(0.0) / leaf(0.0),
            _ if value.is_sign_negative() => -Expression::number(-value),
            _ if value.is_infinite() => leaf(1.0) / leaf(0.0),
            _ => leaf(value),
        }
    }

    /// A constant.
    pub fn constant(constant: Constant) -> Expression {
        Expression { nodes: vec![Node::Constant(constant)] }
    }

    /// A variable; `None` if the name would not be read as one.
    pub fn variable(name: &str) -> Option<Expression> {
        Expression::parse(name).ok().filter(|parsed| parsed.nodes == [Node::Variable(name.into())])
    }

    /// `self` to the power of `exponent`.
    pub fn pow(self, exponent: Expression) -> Expression {
        self.with(exponent, Node::Pow)
    }

    /// A function of its arguments; `None` if they are not as many as it takes.
    pub fn call(function: Function, arguments: Vec<Expression>) -> Option<Expression> {
        if arguments.len() != function.arity() {
            return None;
        }
        let mut arguments = arguments.into_iter();
        let mut joined = arguments.next()?;
        let mut roots = vec![joined.root()];
        for argument in arguments {
            roots.push(joined.append(argument));
        }
        joined.nodes.push(Node::Call(function, roots));
        Some(joined)
    }

    /// `[self > other]`, or another comparison: 1 or 0.
    pub fn compare(mut self, comparison: Comparison, other: Expression) -> Expression {
        let left = self.root();
        let right = self.append(other);
        self.nodes.push(Node::Compare(comparison, left, right));
        self
    }

    /// The place of the last node, which is the whole expression.
    pub fn root(&self) -> Id {
        self.nodes.len() - 1
    }

    /// Places another tree behind this one and gives the place of its root.
    fn append(&mut self, other: Expression) -> Id {
        let shift = self.nodes.len();
        self.nodes.extend(other.nodes.into_iter().map(|mut node| {
            match &mut node {
                Node::Number(_) | Node::Constant(_) | Node::Variable(_) => {}
                Node::Neg(a) => *a += shift,
                Node::Add(a, b)
                | Node::Sub(a, b)
                | Node::Mul(a, b)
                | Node::Div(a, b)
                | Node::Pow(a, b)
                | Node::Compare(_, a, b) => {
                    *a += shift;
                    *b += shift;
                }
                Node::Call(_, arguments) => arguments.iter_mut().for_each(|argument| *argument += shift),
            }
            node
        }));
        self.root()
    }

    fn with(mut self, other: Expression, node: fn(Id, Id) -> Node) -> Expression {
        let left = self.root();
        let right = self.append(other);
        self.nodes.push(node(left, right));
        self
    }
}

impl std::ops::Neg for Expression {
    type Output = Expression;
    fn neg(mut self) -> Expression {
        self.nodes.push(Node::Neg(self.root()));
        self
    }
}

impl std::ops::Add for Expression {
    type Output = Expression;
    fn add(self, other: Expression) -> Expression {
        self.with(other, Node::Add)
    }
}

impl std::ops::Sub for Expression {
    type Output = Expression;
    fn sub(self, other: Expression) -> Expression {
        self.with(other, Node::Sub)
    }
}

impl std::ops::Mul for Expression {
    type Output = Expression;
    fn mul(self, other: Expression) -> Expression {
        self.with(other, Node::Mul)
    }
}

impl std::ops::Div for Expression {
    type Output = Expression;
    fn div(self, other: Expression) -> Expression {
        self.with(other, Node::Div)
    }
}

#[cfg(test)]
mod tests;
