//! Losses by name: their options, what they take, and what is measured, one entry each.

use std::sync::Arc;

use chainrule::tensor::{Tensor, Type};

use chainrule_nn::loss::{
    BinaryCrossEntropy, CrossEntropy, Hinge, Huber, KlDivergence, MeanAbsolute, MeanSquared, MultiMargin,
    NegativeLogLikelihood, Reduction, SmoothL1,
};

use super::build::shown;
use super::fields::{Field, Form, Options};
use super::source::{Entry, Item, Problem, Span, Value};

/// A loss of output and target, the mean over the batch.
pub(crate) type Function = Arc<dyn Fn(&Tensor, &Tensor) -> Tensor + Send + Sync>;

/// Whether output and target go together, given the number of classes; else what is wrong, and what would be right.
type Check = fn(&Type, &Type, Option<usize>) -> Result<(), (String, String)>;

/// One loss.
#[derive(Debug)]
pub(crate) struct Kind {
    pub name: &'static str,
    pub help: &'static str,
    /// What output and target it takes, without the axis of examples.
    pub shapes: &'static str,
    pub fields: &'static [Field],
    check: Check,
    make: fn(&Options) -> Function,
}

/// One loss of an output and a target of its shape.
macro_rules! alike {
    ($name:literal, $help:literal, [$($field:expr),*], |$options:ident| $loss:expr) => {
        Kind {
            name: $name,
            help: $help,
            shapes: "output and target alike",
            fields: &[$($field),*],
            check: alike,
            make: |$options| {
                let loss = $loss;
                Arc::new(move |output, target| loss.forward(output, target))
            },
        }
    };
}

/// One loss of scores of classes.
macro_rules! classes {
    ($name:literal, $help:literal, [$($field:expr),*], |$options:ident| $loss:expr) => {
        Kind {
            name: $name,
            help: $help,
            shapes: "output […, classes], target […] of integers",
            fields: &[$($field),*],
            check: classes,
            make: |$options| {
                let loss = $loss;
                Arc::new(move |output, target| loss.forward(output, target))
            },
        }
    };
}

const IGNORE: Field =
    Field { name: "ignore_index", form: Form::Axis, default: "-", help: "a class that does not count" };

const fn positive(name: &'static str, default: &'static str, help: &'static str) -> Field {
    Field { name, form: Form::Positive, default, help }
}

/// Every loss; the first is the usual one of classes, the second that of numbers.
pub(crate) const KINDS: &[Kind] = &[
    classes!(
        "cross_entropy",
        "−ln softmax(output)[class]",
        [
            Field { name: "label_smoothing", form: Form::Share, default: "0.0", help: "share spread over all classes" },
            IGNORE
        ],
        |options| {
            let loss = CrossEntropy::default().label_smoothing(options.number("label_smoothing"));
            if options.has("ignore_index") { loss.ignore_index(options.integer("ignore_index")) } else { loss }
        }
    ),
    alike!("mean_squared_error", "(y − ŷ)²", [], |_options| MeanSquared::default()),
    alike!("mean_absolute_error", "|y − ŷ|", [], |_options| MeanAbsolute::default()),
    alike!(
        "huber",
        "½(y − ŷ)² within δ, δ·(|y − ŷ| − δ/2) outside",
        [positive("delta", "1.0", "where it turns")],
        |options| Huber::new(options.number("delta"))
    ),
    alike!(
        "smooth_l1",
        "½(y − ŷ)²/β within β, |y − ŷ| − β/2 outside",
        [positive("beta", "1.0", "where it turns")],
        |options| SmoothL1::new(options.number("beta"))
    ),
    alike!(
        "binary_cross_entropy",
        "−t·ln σ(z) − (1 − t)·ln σ(−z) of logits z and targets from 0 to 1",
        [],
        |_options| BinaryCrossEntropy::default()
    ),
    classes!("negative_log_likelihood", "−output[class], the output being logarithms", [IGNORE], |options| {
        let loss = NegativeLogLikelihood::default();
        if options.has("ignore_index") { loss.ignore_index(options.integer("ignore_index")) } else { loss }
    }),
    alike!("kl_divergence", "t·(ln t − output), the output being logarithms", [], |_options| KlDivergence::default(
    )
    .reduction(Reduction::BatchMean)),
    alike!(
        "hinge",
        "max(0, margin − y·s) of targets y of ±1",
        [positive("margin", "1.0", "how far right is right")],
        |options| Hinge::default().margin(options.number("margin"))
    ),
    classes!(
        "multi_margin",
        "the mean of max(0, margin − s[class] + s[other]) over the other classes",
        [positive("margin", "1.0", "how far right is right")],
        |options| MultiMargin::default().margin(options.number("margin"))
    ),
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

    /// The class that does not count.
    pub fn ignored(&self) -> Option<i64> {
        self.options.has("ignore_index").then(|| self.options.integer("ignore_index"))
    }

    pub fn function(&self) -> Function {
        (self.kind.make)(&self.options)
    }
}

fn classes(output: &Type, target: &Type, classes: Option<usize>) -> Result<(), (String, String)> {
    let (axes, last) = (output.shape.len(), output.shape.last().copied().unwrap_or(0));
    if target.dtype.is_float() {
        let hint = "use \"mean_squared_error\", or data with classes".to_owned();
        return Err((format!("this loss takes classes, and the data's target is {}", target.dtype), hint));
    }
    let wanted = classes.map_or("classes".into(), |classes| classes.to_string());
    if axes < 2 || output.shape[..axes - 1] != target.shape[..] {
        let right = target.shape[1..].iter().map(|n| format!("{n}, ")).collect::<String>();
        let message = format!("the network ends in {}, and the target is {}", shown(output), shown(target));
        return Err((message, format!("the loss takes [{right}{wanted}]")));
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
