//! The text of a model file as values that know their place, and what is wrong with it, shown there.
//!
//! [`parse`] gives [`Item`]s: TOML values with the bytes they stand at and tables in the order they were written. A
//! [`Problem`] is a sentence, a place and what would be right; with the file's name and text it is a [`ModelError`],
//! which prints the line with a mark under it. This room knows no layer and no setting.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Bytes of the text.
pub(crate) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub span: Span,
    pub value: Value,
}

/// What TOML can say, dates excepted.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Flag(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Item>),
    Table(Vec<Entry>),
}

/// One key of a table with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub at: Span,
    pub item: Item,
}

impl Item {
    /// What kind of value it is, for messages.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Flag(flag) => flag.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Number(number) => format!("{number:?}"),
            Value::Text(text) => format!("\"{text}\""),
            Value::List(_) => "a list".into(),
            Value::Table(_) => "a table".into(),
        }
    }

    /// The entry of a key, if this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries of a table; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }
}

/// What is wrong, where, and what would be right.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(span: &Span, message: impl Into<String>) -> Problem {
        Problem { span: span.clone(), message: message.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    /// The hint that names the nearest of some names, or all of them if none is near.
    pub fn nearest<'a>(self, word: &str, names: impl IntoIterator<Item = &'a str>) -> Problem {
        let hint = nearest(word, names);
        self.hint(hint)
    }

    pub fn in_file(self, file: &str, text: &Arc<str>) -> ModelError {
        ModelError { file: file.to_owned(), text: text.clone(), problem: self }
    }
}

/// `did you mean …?`, or what there is.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    // One slip of the finger is near whatever the length; longer words may differ in more.
    let score = |name: &str| match strsim::damerau_levenshtein(&plain(word), &plain(name)) {
        0 | 1 if word.len() > 2 => 1.0,
        _ => strsim::jaro_winkler(&plain(word), &plain(name)),
    };
    let best = names.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    match best {
        Some(best) if score(best) > 0.8 => format!("did you mean `{best}`?"),
        Some(_) => format!("it is one of: {}", names.join(", ")),
        None => "nothing is known here".into(),
    }
}

/// A model file cannot be used: what is wrong, at its line, and what would be right.
///
/// ```
/// use chainrule_train::model::Spec;
/// let error = Spec::parse("small.toml", "[model]\nlayers = [{ linaer = 10 }]\n").unwrap_err();
/// assert_eq!((error.line(), error.hint()), (2, Some("did you mean `linear`?")));
/// assert!(error.to_string().contains("2 | layers = [{ linaer = 10 }]"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ModelError {
    file: String,
    text: Arc<str>,
    problem: Problem,
}

impl ModelError {
    /// The line, from 1.
    pub fn line(&self) -> usize {
        line_of(&self.text, &self.problem.span)
    }

    /// What is wrong, in one sentence.
    pub fn message(&self) -> &str {
        &self.problem.message
    }

    /// What would be right.
    pub fn hint(&self) -> Option<&str> {
        self.problem.hint.as_deref()
    }

    /// The piece of the text that is meant.
    pub fn piece(&self) -> &str {
        self.text.get(self.problem.span.clone()).unwrap_or("")
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.text.len();
        let span = self.problem.span.start.min(end)..self.problem.span.end.clamp(self.problem.span.start.min(end), end);
        let snippet =
            Snippet::source(&*self.text).path(self.file.as_str()).annotation(AnnotationKind::Primary.span(span));
        let title = Level::ERROR.no_name().primary_title(self.problem.message.as_str()).element(snippet);
        let report = match &self.problem.hint {
            Some(hint) => title.element(Level::HELP.message(hint.as_str())),
            None => title,
        };
        let text = Renderer::plain().render(&[report]);
        // The level's sign stands before the message; who prints says what it is.
        f.write_str(text.trim_start_matches(": ").trim_end())
    }
}

impl std::error::Error for ModelError {}

/// The whole text as one table.
pub(crate) fn parse(text: &str) -> Result<Item, Problem> {
    let table = DeTable::parse(text).map_err(|error| grammar(&error))?;
    let span = table.span();
    Ok(Item { span, value: read_table(table.into_inner())? })
}

/// The line of a place, from 1.
pub(crate) fn line_of(text: &str, span: &Span) -> usize {
    text.get(..span.start).unwrap_or(text).matches('\n').count() + 1
}

/// One value, as the defaults of options are written.
pub(crate) fn parse_value(text: &str, span: &Span) -> Item {
    let value = DeValue::parse(text).ok().and_then(|value| read(value).ok());
    let value = value.unwrap_or_else(|| panic!("the default {text} is no TOML value")).value;
    Item { span: span.clone(), value }
}

/// A section of the text as a type that serde reads. Its places are those of the text.
pub(crate) fn section<T: for<'de> Deserialize<'de>>(text: &str, name: &str) -> Result<Option<T>, Problem> {
    let mut table = DeTable::parse(text).map_err(|error| grammar(&error))?.into_inner();
    let key = table.keys().find(|key| key.as_ref() == name).cloned();
    let Some(value) = key.and_then(|key| table.remove(&key)) else { return Ok(None) };
    let whole = value.span();
    let problem = |error: toml::de::Error| {
        let span = error.span().unwrap_or(whole);
        let message = error.message().trim_end().to_owned();
        let (known, hint) = (expected(&message), Problem::new(&span, format!("[{name}]: {message}")));
        match known {
            Some((word, names)) => {
                let first = message.split(',').next().unwrap_or(&message);
                Problem::new(&span, format!("[{name}]: {first}")).nearest(&word, names.iter().map(String::as_str))
            }
            None => hint,
        }
    };
    T::deserialize(ValueDeserializer::from(value)).map(Some).map_err(problem)
}

/// The unknown word and the known ones of serde's `unknown field `x`, expected one of `a`, `b``.
fn expected(message: &str) -> Option<(String, Vec<String>)> {
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let mut quoted = message.split('`').skip(1).step_by(2).map(str::to_owned);
    let word = quoted.next().filter(|_| unknown)?;
    Some((word, quoted.collect()))
}

fn grammar(error: &toml::de::Error) -> Problem {
    Problem::new(&error.span().unwrap_or(0..0), format!("this is no TOML: {}", error.message().replace('\n', ", ")))
}

fn read(value: Spanned<DeValue<'_>>) -> Result<Item, Problem> {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(digits) => {
            let number = i64::from_str_radix(digits.as_str(), digits.radix());
            Value::Integer(number.map_err(|_| Problem::new(&span, "the number is too large for 64 bits"))?)
        }
        DeValue::Float(digits) => {
            let number: Result<f64, _> = digits.as_str().parse();
            Value::Number(number.map_err(|_| Problem::new(&span, "this is no number"))?)
        }
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(_) => return Err(Problem::new(&span, "a date has no meaning in a model file")),
        DeValue::Array(items) => Value::List(items.into_iter().map(read).collect::<Result<_, _>>()?),
        DeValue::Table(table) => read_table(table)?,
    };
    Ok(Item { span, value })
}

fn read_table(table: DeTable<'_>) -> Result<Value, Problem> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let at = key.span();
        entries.push(Entry { key: key.into_inner().into_owned(), at, item: read(value)? });
    }
    // As they were written: the first key of a layer says what it is.
    entries.sort_by_key(|entry| entry.at.start);
    Ok(Value::Table(entries))
}
