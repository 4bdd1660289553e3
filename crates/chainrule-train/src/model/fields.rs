//! Options as data: the name, form, default and help of each stand in one table, which reads, checks and documents.
//!
//! A value that does not have its option's form is a [`Problem`] at its place before anybody uses it, so that the getters
//! of [`Options`] cannot fail on a file; they panic only if a name is asked for that the table does not have.

use super::bytes::parse_bytes;
use super::example::ty;
use super::source::{Entry, Item, Problem, Span, Value, parse_value};

/// One option.
#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub form: Form,
    /// As TOML; empty if it must be given, `-` if it may be left out.
    pub default: &'static str,
    pub help: &'static str,
}

/// What an option's value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// A whole number from 1.
    Count,
    /// A whole number from 0.
    Whole,
    /// A whole number of either sign, such as an axis.
    Axis,
    /// One count for all axes of space, or one for each.
    Counts,
    /// One whole number for all axes of space, or one for each.
    Wholes,
    /// As [`Form::Wholes`], or `"same"`.
    Padding,
    /// Units or channels: a count, or `"same"`, `"2x"`, `"0.5x"` of what comes in, `"classes"`.
    Size,
    /// Sizes of axes, of which one may be −1.
    Shape,
    /// A number.
    Number,
    /// A number above 0.
    Positive,
    /// From 0 to below 1.
    Share,
    /// true or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A name that stands elsewhere in the file.
    Name,
    /// A table with layers.
    Part,
    /// A table of names, each with a type.
    Types,
    /// A size of memory.
    Bytes,
    /// A list of words.
    Words,
    /// A list of layers.
    Layers,
    /// A list of lists of layers.
    Branches,
    /// A word with a number, or a word: how weights start.
    Start,
}

/// The most that a count may be: more is a slip of the finger, and products of a few stay within 64 bits.
const MOST: i64 = 1 << 24;

/// The most of what counts along axes of space.
const MOST_PLACES: i64 = 1 << 16;

impl Form {
    /// For messages and documentation: "must be …".
    pub fn describe(self) -> String {
        match self {
            Form::Count => "a whole number from 1".into(),
            Form::Whole => "a whole number from 0".into(),
            Form::Axis => "a whole number".into(),
            Form::Counts => "a whole number from 1, or a list of them, one an axis".into(),
            Form::Wholes => "a whole number from 0, or a list of them, one an axis".into(),
            Form::Padding => "a whole number from 0, a list of them, one an axis, or \"same\"".into(),
            Form::Size => "a whole number from 1, or \"same\", \"2x\" of what comes in, or \"classes\"".into(),
            Form::Shape => "a list of sizes, of which one may be -1".into(),
            Form::Number => "a number".into(),
            Form::Positive => "a number above 0".into(),
            Form::Share => "a number from 0 to below 1".into(),
            Form::Flag => "true or false".into(),
            Form::Word(words) => format!("one of {}", words.join(", ")),
            Form::Name => "a name".into(),
            Form::Part => "a table with `layers`".into(),
            Form::Bytes => "a size such as \"500MB\", \"2GB\", \"1.5GiB\" or a number of bytes".into(),
            Form::Types => "a table of names and types, each \"f32[…]\" or \"i64[…]\" with sizes".into(),
            Form::Words => "a list of words".into(),
            Form::Layers => "a list of layers".into(),
            Form::Branches => "a list of lists of layers".into(),
            Form::Start => "a word such as \"kaiming_normal\", or a table such as { normal = 0.02 }".into(),
        }
    }

    /// Whether a value has this form.
    fn fits(self, value: &Value) -> bool {
        let whole = |value: &Value, least: i64| matches!(value, Value::Integer(n) if (least..=MOST).contains(n));
        let place = |value: &Value, least: i64| matches!(value, Value::Integer(n) if (least..=MOST_PLACES).contains(n));
        let each = |value: &Value, least: i64| match value {
            Value::List(items) => (1..=3).contains(&items.len()) && items.iter().all(|item| place(&item.value, least)),
            other => place(other, least),
        };
        let number = || match value {
            Value::Integer(n) => Some(*n as f64),
            Value::Number(x) => Some(*x).filter(|x| x.is_finite()),
            _ => None,
        };
        match self {
            Form::Count => whole(value, 1),
            Form::Whole => whole(value, 0),
            Form::Axis => whole(value, -MOST),
            Form::Counts => each(value, 1),
            Form::Wholes => each(value, 0),
            Form::Padding => each(value, 0) || matches!(value, Value::Text(text) if text == "same"),
            Form::Size => {
                whole(value, 1) || matches!(value, Value::Text(text) if text == "classes" || factor(text).is_some())
            }
            Form::Shape => match value {
                Value::List(items) => {
                    let fits = |n: &Item| whole(&n.value, 1) || matches!(n.value, Value::Integer(-1));
                    let free = items.iter().filter(|n| matches!(n.value, Value::Integer(-1))).count();
                    (1..=8).contains(&items.len()) && items.iter().all(fits) && free <= 1
                }
                _ => false,
            },
            Form::Number => number().is_some(),
            Form::Positive => number().is_some_and(|x| x > 0.0),
            Form::Share => number().is_some_and(|x| (0.0..1.0).contains(&x)),
            Form::Flag => matches!(value, Value::Flag(_)),
            Form::Word(words) => matches!(value, Value::Text(text) if words.contains(&text.as_str())),
            Form::Name => matches!(value, Value::Text(text) if !text.is_empty()),
            Form::Part => matches!(value, Value::Table(_)),
            Form::Types => match value {
                Value::Table(entries) => entries.iter().all(|entry| ty(&entry.item.value).is_some()),
                _ => false,
            },
            Form::Bytes => bytes(value).is_some(),
            Form::Words => match value {
                Value::List(items) => items.iter().all(|item| matches!(item.value, Value::Text(_))),
                _ => false,
            },
            Form::Layers | Form::Branches => matches!(value, Value::List(_)),
            Form::Start => matches!(value, Value::Text(_) | Value::Table(_)),
        }
    }

    fn check(self, name: &str, item: &Item) -> Result<(), Problem> {
        if self.fits(&item.value) {
            return Ok(());
        }
        let problem = Problem::new(&item.span, format!("`{name}` is {}, not {}", self.describe(), item.describe()));
        Err(match (self, &item.value) {
            (Form::Word(words), Value::Text(text)) => {
                let problem = Problem::new(&item.span, format!("`{name}` cannot be \"{text}\""));
                problem.nearest(text, words.iter().copied())
            }
            _ => problem,
        })
    }
}

/// `"500MB"`, or a number of bytes.
fn bytes(value: &Value) -> Option<usize> {
    match value {
        Value::Text(text) => parse_bytes(text).ok(),
        Value::Integer(number) => usize::try_from(*number).ok().filter(|number| *number > 0),
        _ => None,
    }
}

/// `"same"` is 1, `"2x"` is 2, `"0.5x"` is ½.
fn factor(text: &str) -> Option<f64> {
    let factor = if text == "same" { Some(1.0) } else { text.strip_suffix('x').and_then(|text| text.parse().ok()) };
    factor.filter(|factor: &f64| factor.is_finite() && *factor > 0.0 && *factor <= 1024.0)
}

/// Values of a table's fields: given ones, and defaults where nothing was given.
#[derive(Debug)]
pub(crate) struct Options {
    /// Of the whole, where a default is complained about.
    pub span: Span,
    values: Vec<(&'static str, Item)>,
}

impl Options {
    /// Reads entries, each for the option of a name, by a table of fields. `what` is whose they are, for messages.
    pub fn read(
        what: &str,
        span: &Span,
        entries: &[(&str, &Entry)],
        fields: &'static [Field],
    ) -> Result<Options, Problem> {
        let mut values: Vec<(&'static str, Item)> = Vec::with_capacity(fields.len());
        for (name, entry) in entries {
            let Some(field) = fields.iter().find(|field| field.name == *name) else {
                let problem = Problem::new(&entry.at, format!("{what} has no option `{name}`"));
                return Err(match fields.is_empty() {
                    true => problem.hint(format!("{what} has no options")),
                    false => problem.nearest(name, fields.iter().map(|field| field.name)),
                });
            };
            if values.iter().any(|(other, _)| *other == field.name) {
                return Err(Problem::new(&entry.at, format!("{what} is given `{}` twice", field.name)));
            }
            field.form.check(&entry.key, &entry.item)?;
            values.push((field.name, entry.item.clone()));
        }
        for field in fields.iter().filter(|field| !entries.iter().any(|(name, _)| *name == field.name)) {
            match field.default {
                "-" => {}
                "" => {
                    let form = field.form.describe();
                    let problem = Problem::new(span, format!("{what} needs `{}`", field.name));
                    return Err(problem.hint(format!("`{}` is {form}: {}", field.name, field.help)));
                }
                default => values.push((field.name, parse_value(default, span))),
            }
        }
        Ok(Options { span: span.clone(), values })
    }

    /// The value of a field, if it was given or has a default.
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.values.iter().find(|(key, _)| *key == name).map(|(_, item)| item)
    }

    #[track_caller]
    fn value(&self, name: &str) -> &Value {
        match self.item(name) {
            Some(item) => &item.value,
            None => panic!("the option {name} is not in its table"),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.item(name).is_some()
    }

    #[track_caller]
    pub fn integer(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Integer(number) => *number,
            other => panic!("the option {name} is {other:?}"),
        }
    }

    #[track_caller]
    pub fn count(&self, name: &str) -> usize {
        self.integer(name).max(0) as usize
    }

    /// A count that may be left out.
    pub fn maybe_count(&self, name: &str) -> Option<usize> {
        self.has(name).then(|| self.count(name))
    }

    /// A number that may be left out.
    pub fn maybe_number(&self, name: &str) -> Option<f64> {
        self.has(name).then(|| self.number(name))
    }

    /// A size of memory that may be left out.
    pub fn maybe_bytes(&self, name: &str) -> Option<usize> {
        bytes(&self.item(name)?.value)
    }

    #[track_caller]
    pub fn counts(&self, name: &str) -> Vec<usize> {
        match self.value(name) {
            Value::Integer(number) => vec![(*number).max(0) as usize],
            Value::List(items) => items
                .iter()
                .map(|item| match item.value {
                    Value::Integer(number) => number.max(0) as usize,
                    _ => panic!("the option {name} is {item:?}"),
                })
                .collect(),
            other => panic!("the option {name} is {other:?}"),
        }
    }

    #[track_caller]
    pub fn integers(&self, name: &str) -> Vec<i64> {
        match self.value(name) {
            Value::List(items) => items
                .iter()
                .filter_map(|item| if let Value::Integer(n) = item.value { Some(n) } else { None })
                .collect(),
            other => panic!("the option {name} is {other:?}"),
        }
    }

    /// A size for so many units coming in.
    #[track_caller]
    pub fn size(&self, name: &str, incoming: usize) -> Result<usize, Problem> {
        match self.value(name) {
            Value::Integer(number) => Ok((*number).max(0) as usize),
            Value::Text(text) => {
                let size = factor(text).unwrap_or(1.0) * incoming as f64;
                if size.fract() == 0.0 && size >= 1.0 && size <= MOST as f64 {
                    return Ok(size as usize);
                }
                let span = self.item(name).map_or(&self.span, |item| &item.span);
                Err(Problem::new(span, format!("\"{text}\" of {incoming} is {size}, which is no size")))
            }
            other => panic!("the option {name} is {other:?}"),
        }
    }

    #[track_caller]
    pub fn number(&self, name: &str) -> f64 {
        match self.value(name) {
            Value::Integer(number) => *number as f64,
            Value::Number(number) => *number,
            other => panic!("the option {name} is {other:?}"),
        }
    }

    #[track_caller]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Value::Flag(true))
    }

    #[track_caller]
    pub fn word(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(text) => text,
            other => panic!("the option {name} is {other:?}"),
        }
    }

    /// A problem with the value of a field, or with the whole if it was not given.
    pub fn problem(&self, name: &str, message: impl Into<String>) -> Problem {
        Problem::new(self.item(name).map_or(&self.span, |item| &item.span), message)
    }
}
