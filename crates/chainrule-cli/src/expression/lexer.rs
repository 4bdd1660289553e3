//! Text to tokens. Every token keeps its bytes, so that an error can point at it.

use std::ops::Range;

use super::error::{ParseError, ParseErrorKind};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind<'a> {
    /// A number, not negative.
    Number(f64),
    /// A name, or `pi` and `tau` for their Greek letters.
    Name(&'a str),
    /// A raised whole number, as in x².
    Raised(f64),
    Plus,
    Minus,
    Times,
    Divide,
    Power,
    Open,
    Close,
    Comma,
    /// Behind the last character.
    End,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// Its bytes.
    pub at: Range<usize>,
}

/// All tokens of a text; the last is [`Kind::End`].
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let rest = &text[start..];
        let token = |kind, length| Ok(Some(Token { kind, at: start..start + length }));
        let token = match first {
            _ if first.is_whitespace() => Ok(None),
            '0'..='9' | '.' => number(text, start).map(Some),
            _ if raised(first).is_some() => raised_number(text, start).map(Some),
            'π' => token(Kind::Name("pi"), first.len_utf8()),
            'τ' => token(Kind::Name("tau"), first.len_utf8()),
            '*' if rest.starts_with("**") => token(Kind::Power, 2),
            '+' => token(Kind::Plus, 1),
            '-' | '−' | '–' => token(Kind::Minus, first.len_utf8()),
            '*' | '×' | '·' | '⋅' | '∗' => token(Kind::Times, first.len_utf8()),
            '/' | '÷' => token(Kind::Divide, first.len_utf8()),
            '^' => token(Kind::Power, 1),
            '(' => token(Kind::Open, 1),
            ')' => token(Kind::Close, 1),
            ',' => token(Kind::Comma, 1),
            _ if begins_name(first) => {
                let length = rest.find(|c| !continues_name(c)).unwrap_or(rest.len());
                token(Kind::Name(&rest[..length]), length)
            }
            character => {
                let kind = ParseErrorKind::Character { character, hint: hint(character) };
                Err(ParseError::new(kind, text, start..start + character.len_utf8()))
            }
        }?;
        start = token.as_ref().map_or(start + first.len_utf8(), |token| token.at.end);
        tokens.extend(token);
    }
    tokens.push(Token { kind: Kind::End, at: text.len()..text.len() });
    Ok(tokens)
}

fn begins_name(c: char) -> bool {
    c.is_alphabetic() && !matches!(c, 'π' | 'τ') && raised(c).is_none()
}

fn continues_name(c: char) -> bool {
    begins_name(c) || c.is_ascii_digit() || c == '_'
}

fn hint(character: char) -> &'static str {
    match character {
        '[' | ']' | '{' | '}' => "; use ( and )",
        '=' => "; one expression is read, not an equation",
        '|' => "; write abs(x)",
        '√' => "; write sqrt(x)",
        '_' => "; a name begins with a letter, and numbers have no _",
        ';' => "; arguments are separated by ','",
        '<' | '>' | '≤' | '≥' => "; write min(a, b), max(a, b) or relu(x)",
        _ => "",
    }
}

/// Digits with a point and an exponent, as far as they go: in `2e` the `e` is a name.
fn number(text: &str, start: usize) -> Result<Token<'_>, ParseError> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(start);
    let mut end = start + whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        end += 1 + fraction;
        if whole + fraction == 0 {
            let kind = ParseErrorKind::Expected { expected: "digits beside the '.'", found: "none".into() };
            return Err(ParseError::new(kind, text, start..end));
        }
    }
    let mantissa = start..end;
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = matches!(bytes.get(end + 1), Some(b'+' | b'-')) as usize;
        let exponent = bytes.get(end + 1 + sign..).map_or(0, |_| digits(end + 1 + sign));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    let value = text[start..end].parse().unwrap_or(f64::INFINITY);
    let zero = text[mantissa].bytes().all(|b| matches!(b, b'0' | b'.'));
    checked(value, zero, text, start..end).map(|value| Token { kind: Kind::Number(value), at: start..end })
}

fn raised(c: char) -> Option<char> {
    let plain = match c {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴'..='⁹' => char::from(b'4' + (c as u32 - '⁴' as u32) as u8),
        '⁺' => '+',
        '⁻' => '-',
        _ => return None,
    };
    Some(plain)
}

fn raised_number(text: &str, start: usize) -> Result<Token<'_>, ParseError> {
    let length = text[start..].find(|c| raised(c).is_none()).unwrap_or(text.len() - start);
    let at = start..start + length;
    let plain: String = text[at.clone()].chars().filter_map(raised).collect();
    match plain.parse() {
        Ok(value) => checked(value, true, text, at.clone()).map(|value| Token { kind: Kind::Raised(value), at }),
        Err(_) => {
            let kind = ParseErrorKind::Expected { expected: "a whole number as exponent", found: plain };
            Err(ParseError::new(kind, text, at))
        }
    }
}

/// Refuses what became infinite or, without being `zero`, zero.
fn checked(value: f64, zero: bool, text: &str, at: Range<usize>) -> Result<f64, ParseError> {
    if value.is_finite() && (zero || value != 0.0) {
        return Ok(value);
    }
    let shown: String = text[at.clone()].chars().take(24).collect();
    let shown = if shown.len() < at.len() { format!("{shown}…") } else { shown };
    Err(ParseError::new(ParseErrorKind::NumberRange { text: shown }, text, at))
}
