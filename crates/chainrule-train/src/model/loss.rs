//! Losses by name: their options, what they take, and what is measured, one entry each.

use std::sync::Arc;

use chainrule::tensor::{Tensor, Type};

use super::build::shown;
use super::fields::{Field, Options};
use super::source::{Entry, Item, Problem, Span, Value};

/// A loss of output and target, the mean over the batch.
pub(crate) type Function = Arc<dyn Fn(&Tensor, &Tensor) -> Tensor + Send + Sync>;

/// One loss.
#[derive(Debug)]
pub(crate) struct Kind {
    pub name: &'static str,
    pub help: &'static str,
    /// What output and target it takes, without the axis of examples.
    pub shapes: &'static str,
    pub fields: &'static [Field],
    check: fn(&Type, &Type, Option<usize>) -> Result<(), (String, String)>,
    make: fn(&Options) -> Function,
}

/// Every loss.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "cross_entropy",
        help: "−ln softmax(logits)[class], for classes and tokens",
        shapes: "[…, classes], classes […]",
        fields: &[],
        check: classes,
        make: |_| Arc::new(|logits, target| logits.cross_entropy(target)),
    },
    Kind {
        name: "mean_squared_error",
        help: "(y − ŷ)²",
        shapes: "any, the same",
        fields: &[],
        check: alike,
        make: |_| Arc::new(|output, target| output.mean_squared_error(target)),
    },
];

/// A loss as a file states it.
#[derive(Debug)]
pub(crate) struct Loss {
    kind: &'static Kind,
    options: Options,
}

impl Loss {
    /// `loss = "name"` or `[loss]` with `name` and options.
    pub fn read(item: &Item) -> Result<Loss, Problem> {
        let names = || KINDS.iter().map(|kind| kind.name);
        let (word, at, entries): (&str, &Span, Vec<(&str, &Entry)>) = match &item.value {
            Value::Text(word) => (word, &item.span, Vec::new()),
            Value::Table(entries) => match item.get("name") {
                Some(Entry { item: Item { value: Value::Text(word), span }, .. }) => {
                    let rest = entries.iter().filter(|entry| entry.key != "name");
                    (word, span, rest.map(|entry| (entry.key.as_str(), entry)).collect())
                }
                _ => {
                    let problem = Problem::new(&item.span, "[loss] needs `name`, the loss's name in quotes");
                    return Err(problem.hint(format!("it is one of: {}", names().collect::<Vec<_>>().join(", "))));
                }
            },
            _ => return Err(Problem::new(&item.span, format!("a loss is a name in quotes, not {}", item.describe()))),
        };
        let Some(kind) = KINDS.iter().find(|kind| kind.name == word) else {
            return Err(Problem::new(at, format!("there is no loss `{word}`")).nearest(word, names()));
        };
        let options = Options::read(&format!("the loss `{word}`"), &item.span, &entries, kind.fields)?;
        Ok(Loss { kind, options })
    }

    /// The usual one: cross-entropy of classes, squares of anything else.
    pub fn usual(classes: bool, span: &Span) -> Loss {
        let kind = &KINDS[if classes { 0 } else { 1 }];
        let options = Options::read(kind.name, span, &[], kind.fields).unwrap_or_else(|_| panic!("all have defaults"));
        Loss { kind, options }
    }

    /// Whether a network that ends in `output` goes with a target. `end` is the last layer's place.
    pub fn check(&self, output: &Type, target: &Type, classes: Option<usize>, end: &Span) -> Result<(), Problem> {
        (self.kind.check)(output, target, classes).map_err(|(message, hint)| Problem::new(end, message).hint(hint))
    }

    pub fn function(&self) -> Function {
        (self.kind.make)(&self.options)
    }

    pub fn name(&self) -> &'static str {
        self.kind.name
    }
}

fn classes(output: &Type, target: &Type, classes: Option<usize>) -> Result<(), (String, String)> {
    let (axes, last) = (output.shape.len(), output.shape.last().copied().unwrap_or(0));
    if target.dtype.is_float() {
        let hint = "use \"mean_squared_error\", or data with classes".to_owned();
        return Err((format!("`cross_entropy` takes classes, and the data's target is {}", target.dtype), hint));
    }
    let wanted = classes.map_or("classes".into(), |classes| classes.to_string());
    if axes < 2 || output.shape[..axes - 1] != target.shape[..] {
        let right = target.shape[1..].iter().map(|n| format!("{n}, ")).collect::<String>();
        let message = format!("the network ends in {}, and the target is {}", shown(output), shown(target));
        return Err((message, format!("`cross_entropy` takes [{right}{wanted}]")));
    }
    match classes {
        Some(classes) if classes != last => {
            let message = format!("the network ends in {}, and the data has {classes} classes", shown(output));
            Err((message, format!("end it with {{ linear = {classes} }}")))
        }
        _ => Ok(()),
    }
}

fn alike(output: &Type, target: &Type, _: Option<usize>) -> Result<(), (String, String)> {
    if output.shape == target.shape && target.dtype.is_float() {
        return Ok(());
    }
    let message =
        format!("the network ends in {}, and the target is {} of {}", shown(output), shown(target), target.dtype);
    Err((message, format!("they must be alike: end the network in {} of {}", shown(target), output.dtype)))
}
