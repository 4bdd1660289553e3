//! Tokens to an expression: a Pratt parser, each operator with how tightly it binds to either side.

use std::ops::Range;

use super::error::{ParseError, ParseErrorKind};
use super::function::{self, Constant, Function, POW};
use super::lexer::{self, Kind, Token};
use super::{Expression, Id, MAX_DEPTH, MAX_LENGTH, Node};

/// How tightly a sign binds to what follows: less than a power, more than a product.
const SIGN: u8 = 5;
/// Binds whatever comes: the beginning of an expression.
const LOOSEST: u8 = 0;

const VALUE: &str = "a number, a name or '('";

/// The expression, and the bytes of the text that each of its nodes stands for.
pub fn parse(text: &str) -> Result<(Expression, Vec<Range<usize>>), ParseError> {
    if text.len() > MAX_LENGTH {
        let end = (0..=MAX_LENGTH).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        return Err(ParseError::new(ParseErrorKind::TooLong { length: text.len() }, text, end..end));
    }
    let mut parser =
        Parser { text, tokens: lexer::tokens(text)?, next: 0, depth: 0, nodes: Vec::new(), places: Vec::new() };
    if parser.tokens.len() == 1 {
        return Err(ParseError::new(ParseErrorKind::Empty, text, 0..0));
    }
    parser.expression(LOOSEST).map_err(|fault| *fault)?;
    match parser.peek() {
        Kind::End => Ok((Expression { nodes: parser.nodes }, parser.places)),
        Kind::Close => Err(*parser.expected("an operator or the end; no '(' is open")),
        _ => Err(*parser.expected("an operator or the end")),
    }
}

/// Boxed, as every level of nesting keeps room for one on the stack.
type Fault = Box<ParseError>;

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
    depth: usize,
    /// Operands come before what uses them, as they are finished in that order.
    nodes: Vec<Node>,
    /// The bytes of each node, operands included.
    places: Vec<Range<usize>>,
}

/// A binary operator: how to write it, and how tightly it binds to its left and to its right.
type Operator = (fn(Id, Id) -> Node, u8, u8);
const ADD: Operator = (Node::Add, 1, 2);
const SUB: Operator = (Node::Sub, 1, 2);
const MUL: Operator = (Node::Mul, 3, 4);
const DIV: Operator = (Node::Div, 3, 4);
const POWER: Operator = (Node::Pow, 8, 7);
const RAISED: u8 = 9;

impl<'a> Parser<'a> {
    /// An expression whose operators bind at least this tightly.
    fn expression(&mut self, tightness: u8) -> Result<Id, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(ParseErrorKind::TooDeep));
        }
        self.depth += 1;
        let start = self.tokens[self.next].at.start;
        let mut left = self.value()?;
        loop {
            let (operator, written) = match self.peek() {
                Kind::Plus => (ADD, true),
                Kind::Minus => (SUB, true),
                Kind::Times => (MUL, true),
                Kind::Divide => (DIV, true),
                Kind::Power => (POWER, true),
                Kind::Name(_) | Kind::Open => (MUL, false),
                Kind::Raised(exponent) if tightness <= RAISED => {
                    left = self.raised(left, exponent, start)?;
                    continue;
                }
                Kind::Number(_) => return Err(self.error(ParseErrorKind::MissingOperator { found: self.found() })),
                Kind::Raised(_) | Kind::Close | Kind::Comma | Kind::End => break,
            };
            let (node, to_left, to_right) = operator;
            if to_left < tightness {
                break;
            }
            self.next += written as usize;
            let right = self.expression(to_right)?;
            left = self.push(node(left, right), start);
        }
        self.depth -= 1;
        Ok(left)
    }

    /// What stands where an operand must: a number, name, call, parenthesis, or a sign before one.
    fn value(&mut self) -> Result<Id, Fault> {
        let at = self.tokens[self.next].at.clone();
        match self.peek() {
            Kind::Number(number) => {
                self.next += 1;
                Ok(self.push(Node::Number(number), at.start))
            }
            Kind::Name(name) => {
                self.next += 1;
                self.name(name, at)
            }
            Kind::Open => {
                self.next += 1;
                let inside = self.expression(LOOSEST)?;
                self.close(at)?;
                Ok(inside)
            }
            Kind::Minus => {
                self.next += 1;
                let operand = self.expression(SIGN)?;
                Ok(self.push(Node::Neg(operand), at.start))
            }
            Kind::Plus => {
                self.next += 1;
                self.expression(SIGN)
            }
            _ => Err(self.expected(VALUE)),
        }
    }

    /// A constant, a variable, or a call, whose name is already behind us.
    fn name(&mut self, name: &str, at: Range<usize>) -> Result<Id, Fault> {
        if let Some(constant) = Constant::from_name(name) {
            return Ok(self.push(Node::Constant(constant), at.start));
        }
        let function = Function::from_name(name);
        let known = function.is_some() || name == POW;
        let called = self.peek() == Kind::Open;
        let fault = match (known, called) {
            (true, true) => return self.call(name, function, at),
            (false, false) => return Ok(self.push(Node::Variable(name.into()), at.start)),
            (true, false) => ParseErrorKind::NoArguments { name: name.into() },
            (false, true) => ParseErrorKind::UnknownFunction { name: name.into(), nearest: function::nearest(name) },
        };
        Err(Box::new(ParseError::new(fault, self.text, at)))
    }

    /// A call; no function stands for `pow`.
    fn call(&mut self, name: &str, function: Option<Function>, at: Range<usize>) -> Result<Id, Fault> {
        let open = self.tokens[self.next].at.clone();
        self.next += 1;
        let mut arguments = Vec::new();
        if self.peek() != Kind::Close {
            arguments.push(self.expression(LOOSEST)?);
            while self.peek() == Kind::Comma {
                self.next += 1;
                arguments.push(self.expression(LOOSEST)?);
            }
        }
        self.close(open)?;
        let expected = function.map_or(2, Function::arity);
        match (function, &arguments[..]) {
            (None, &[base, exponent]) => Ok(self.push(Node::Pow(base, exponent), at.start)),
            (Some(function), _) if arguments.len() == expected => {
                Ok(self.push(Node::Call(function, arguments), at.start))
            }
            _ => {
                let kind = ParseErrorKind::Arity { name: name.into(), expected, found: arguments.len() };
                Err(Box::new(ParseError::new(kind, self.text, at)))
            }
        }
    }

    /// A raised exponent behind a finished base.
    fn raised(&mut self, base: Id, exponent: f64, start: usize) -> Result<Id, Fault> {
        let at = self.tokens[self.next].at.start;
        self.next += 1;
        if matches!(self.peek(), Kind::Power | Kind::Raised(_)) {
            return Err(self.error(ParseErrorKind::PowerOfPower));
        }
        let mut power = self.push(Node::Number(exponent.abs()), at);
        if exponent.is_sign_negative() {
            power = self.push(Node::Neg(power), at);
        }
        Ok(self.push(Node::Pow(base, power), start))
    }

    fn close(&mut self, open: Range<usize>) -> Result<(), Fault> {
        match self.peek() {
            Kind::Close => {
                self.next += 1;
                Ok(())
            }
            Kind::End => Err(Box::new(ParseError::new(ParseErrorKind::Unclosed, self.text, open))),
            _ => Err(self.expected("an operator or ')'")),
        }
    }

    /// A node that begins at this byte and ends with what was read last.
    fn push(&mut self, node: Node, start: usize) -> Id {
        self.nodes.push(node);
        self.places.push(start..self.tokens[self.next - 1].at.end);
        self.nodes.len() - 1
    }

    fn peek(&self) -> Kind<'a> {
        self.tokens[self.next].kind
    }

    /// The next token as it is written.
    fn found(&self) -> String {
        let at = self.tokens[self.next].at.clone();
        if at.is_empty() {
            return "the end".into();
        }
        let written: String = self.text[at.clone()].chars().take(24).collect();
        if written.len() < at.len() { format!("'{written}…'") } else { format!("'{written}'") }
    }

    fn expected(&self, expected: &'static str) -> Fault {
        self.error(ParseErrorKind::Expected { expected, found: self.found() })
    }

    fn error(&self, kind: ParseErrorKind) -> Fault {
        Box::new(ParseError::new(kind, self.text, self.tokens[self.next].at.clone()))
    }
}
