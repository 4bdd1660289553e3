//! What is wrong with a written expression, where, and what would be right.

use std::ops::Range;

use thiserror::Error;

use super::{MAX_DEPTH, MAX_LENGTH};

/// Characters shown on either side of a fault in a long text.
const CONTEXT: usize = 36;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseErrorKind {
    /// There is nothing.
    #[error("the expression is empty; write one such as sin(x^2)*exp(-x)")]
    Empty,
    /// The text is longer than [`MAX_LENGTH`].
    #[error("the expression has {length} bytes; at most {MAX_LENGTH} are read")]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// The nesting is deeper than [`MAX_DEPTH`].
    #[error("nested more than {MAX_DEPTH} deep; split the expression")]
    TooDeep,
    /// A character that means nothing here.
    #[error("{} means nothing here{hint}", shown(*character))]
    Character {
        /// The character.
        character: char,
        /// What may have been meant; empty, or beginning with a separator.
        hint: &'static str,
    },
    /// Something else should stand here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What would be right.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// A parenthesis is never closed; the position is that of the open one.
    #[error("this '(' is never closed; add a ')'")]
    Unclosed,
    /// A number directly behind a value.
    #[error("an operator is missing before {found}; write * for a product")]
    MissingOperator {
        /// The number.
        found: String,
    },
    /// A raised exponent is followed by another power.
    #[error("a power of a power is read differently by different people; put one of them in parentheses")]
    PowerOfPower,
    /// A number that no `f64` comes near.
    #[error("the number {text} does not fit a 64-bit float; use one between 1e-307 and 1e308")]
    NumberRange {
        /// The number as written.
        text: String,
    },
    /// A name with parentheses that is no function.
    #[error("there is no function {name}{}; for a product write {name}*(…)",
        nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default())]
    UnknownFunction {
        /// The name.
        name: String,
        /// A known one that is spelled nearly so.
        nearest: Option<&'static str>,
    },
    /// The name of a function without parentheses.
    #[error("{name} is a function; write {name}(…)")]
    NoArguments {
        /// The function.
        name: String,
    },
    /// A function with too few or too many arguments.
    #[error("{name} takes {expected} argument{}, found {found}", if *expected == 1 { "" } else { "s" })]
    Arity {
        /// The function.
        name: String,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

/// An expression that cannot be read. `Display` gives one line; [`ParseError::render`] points at the place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("column {}: {kind}", .excerpt.column)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Where, in bytes of the text.
    pub at: Range<usize>,
    /// The part of the text around it.
    pub excerpt: Excerpt,
}

impl ParseError {
    /// An error at these bytes of the text, which begin and end at characters.
    pub(super) fn new(kind: ParseErrorKind, text: &str, at: Range<usize>) -> ParseError {
        ParseError { kind, excerpt: Excerpt::new(text, at.clone()), at }
    }

    /// Three lines: the text, a caret under the fault, and what is wrong. No line break at the end.
    pub fn render(&self) -> String {
        self.excerpt.render(&self.kind)
    }
}

/// A part of a text, and a place in it to point at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Where the place begins in the text, in characters from 1.
    pub column: usize,
    shown: String,
    caret: Range<usize>,
}

impl Excerpt {
    /// The text around these bytes, which begin and end at characters.
    pub fn new(text: &str, at: Range<usize>) -> Excerpt {
        let before = text[..at.start].chars().count();
        let inside = text[at.clone()].chars().count();
        let skipped = before.saturating_sub(CONTEXT);
        let mut excerpt: String = text.chars().skip(skipped).take(before - skipped + inside.min(CONTEXT)).collect();
        let mut rest = text[at.start..].chars().skip(inside.min(CONTEXT));
        excerpt.extend(rest.by_ref().take(CONTEXT));
        let excerpt: String = excerpt.chars().map(visible).collect();
        let (head, tail) = (if skipped > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
        let start = before - skipped + head.chars().count();
        Excerpt {
            column: before + 1,
            shown: format!("{head}{excerpt}{tail}"),
            caret: start..start + inside.clamp(1, CONTEXT),
        }
    }

    /// Three lines: the text, a caret under the place, and a message. No line break at the end.
    pub fn render(&self, message: impl std::fmt::Display) -> String {
        let (space, carets) = (" ".repeat(self.caret.start), "^".repeat(self.caret.len()));
        format!("  {}\n  {space}{carets}\ncolumn {}: {message}", self.shown, self.column)
    }
}

fn shown(character: char) -> String {
    match visible(character) {
        '\u{fffd}' | ' ' => format!("the character U+{:04X}", character as u32),
        character => format!("'{character}'"),
    }
}

/// The character, unless it would move the cursor, hide, or turn the direction of writing.
fn visible(character: char) -> char {
    match character {
        _ if character.is_whitespace() => ' ',
        _ if character.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '\u{fffd}',
        _ => character,
    }
}
