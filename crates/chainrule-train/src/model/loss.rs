//! Losses by name: their options, what they take, and what is measured, one entry each.
//!
//! A loss sees the network's output and the batch: most compare the output with the target, some look at the outputs of a
//! siamese network side by side, or at an input that says how long sequences are.

use std::sync::Arc;

use chainrule::tensor::{DType, Tensor, Type};

use chainrule_nn::loss::{
    BinaryCrossEntropy, CosineEmbedding, CrossEntropy, Ctc, Hinge, Huber, KlDivergence, MeanAbsolute, MeanSquared,
    MultiMargin, NegativeLogLikelihood, Reduction, SmoothL1, Triplet,
};

use super::build::shown;
use super::fields::{Field, Form, Options};
use super::source::{Entry, Item, Problem, Span, Value};
use crate::data::Batch;

/// A loss of an output and a batch, the mean over the batch.
pub(crate) type Function = Arc<dyn Fn(&Tensor, &Batch) -> Tensor + Send + Sync>;

/// What a loss will see.
pub(crate) struct Seen<'a> {
    /// What the network ends in.
    pub output: &'a Type,
    pub target: Option<&'a Type>,
    pub classes: Option<usize>,
    /// The inputs by their names.
    pub inputs: &'a [(String, Type)],
}

/// Whether a loss can be had of it; else what is wrong, and what would be right.
type Check = fn(&Seen, &Options) -> Result<(), (String, String)>;

/// One loss.
#[derive(Debug)]
pub(crate) struct Kind {
    pub name: &'static str,
    pub help: &'static str,
    /// What output and target it takes, without the axis of examples.
    pub shapes: &'static str,
    pub fields: &'static [Field],
    check: Check,
    /// Whether output and target are compared, so that metrics can compare them too.
    pub compares: bool,
    /// Of the options, and the names of the inputs.
    make: fn(&Options, &[String]) -> Function,
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
            compares: true,
            make: |$options, _| {
                let loss = $loss;
                Arc::new(move |output, batch: &Batch| loss.forward(output, batch.target()))
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
            compares: true,
            make: |$options, _| {
                let loss = $loss;
                Arc::new(move |output, batch: &Batch| loss.forward(output, batch.target()))
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
    Kind {
        name: "triplet",
        help: "max(0, d(a, p) − d(a, n) + margin) of an anchor, one like it and one unlike it; d is Euclid's distance",
        shapes: "output [3, size] of a siamese model, no target",
        fields: &[
            positive("margin", "1.0", "how much further the unlike one is to be"),
            Field { name: "swap", form: Form::Flag, default: "false", help: "whether d(p, n) counts where it is less" },
        ],
        check: |seen, _| beside(seen, 3, "an anchor, one like it and one unlike it"),
        compares: false,
        make: |options, _| {
            let loss = Triplet::default().margin(options.number("margin"));
            let loss = if options.flag("swap") { loss.swap() } else { loss };
            Arc::new(move |output, _| {
                let [anchor, like, unlike] = [0, 1, 2].map(|at| output.narrow(1, at, 1).squeeze(1));
                loss.forward(&anchor, &like, &unlike)
            })
        },
    },
    Kind {
        name: "cosine_embedding",
        help: "1 − cos(a, b) where the target is 1, max(0, cos(a, b) − margin) where it is −1",
        shapes: "output [2, size] of a siamese model, target [] or [1]",
        fields: &[Field { name: "margin", form: Form::Share, default: "0.0", help: "how like unlike ones may be" }],
        check: |seen, _| {
            beside(seen, 2, "two that are alike or not")?;
            let target = target(seen)?;
            match target.shape[1..] {
                [] | [1] => Ok(()),
                _ => Err((format!("the target is {}", shown(target)), "it is 1 or −1 for each pair".into())),
            }
        },
        compares: false,
        make: |options, _| {
            let loss = CosineEmbedding::default().margin(options.number("margin"));
            Arc::new(move |output, batch| {
                let [a, b] = [0, 1].map(|at| output.narrow(1, at, 1).squeeze(1));
                loss.forward(&a, &b, &batch.target().reshape([output.size(0)]))
            })
        },
    },
    Kind {
        name: "ctc",
        help: "−ln of the probability of all alignments of the target with the output (connectionist temporal classification)",
        shapes: "output [time, classes], target [labels] of integers",
        fields: &[
            Field { name: "blank", form: Form::Whole, default: "0", help: "the class that is no label" },
            Field { name: "padding", form: Form::Axis, default: "-1", help: "what fills up shorter targets" },
            Field {
                name: "lengths",
                form: Form::Name,
                default: "-",
                help: "the input that says how many steps of each output count; all without",
            },
            Field {
                name: "zero_infinity",
                form: Form::Flag,
                default: "false",
                help: "a target too long for its output counts 0 in place of ∞",
            },
        ],
        check: labels,
        compares: false,
        make: |options, names| {
            let loss = Ctc::default().blank(options.integer("blank"));
            let loss = if options.flag("zero_infinity") { loss.zero_infinity() } else { loss };
            let padding = options.integer("padding");
            let lengths = options.has("lengths").then(|| options.word("lengths"));
            let lengths = lengths.and_then(|word| names.iter().position(|name| name == word));
            Arc::new(move |output, batch| {
                let (count, steps) = (output.size(0), output.size(1));
                let all = || Tensor::full([count], steps as f64, DType::I64);
                let lengths = lengths.map_or_else(all, |at| batch.inputs[at].clone());
                let targets = batch.target();
                let labels = targets.not_equal(padding).cast(DType::I64).sum(-1);
                loss.forward(&output.swap_axes(0, 1), targets, &lengths, &labels)
            })
        },
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

    /// Whether a network's end goes with a target. `end` is the last layer's place.
    pub fn check(&self, seen: &Seen, end: &Span) -> Result<(), Problem> {
        (self.kind.check)(seen, &self.options).map_err(|(message, hint)| {
            let place = if message.starts_with("`lengths`") { self.options.item("lengths") } else { None };
            Problem::new(place.map_or(end, |item| &item.span), message).hint(hint)
        })
    }

    /// Its name, and whether it compares output and target.
    pub fn compares(&self) -> (&'static str, bool) {
        (self.kind.name, self.kind.compares)
    }

    /// The class that does not count.
    pub fn ignored(&self) -> Option<i64> {
        self.options.has("ignore_index").then(|| self.options.integer("ignore_index"))
    }

    /// As a function of output and batch, whose inputs have these names.
    pub fn function(&self, names: &[String]) -> Function {
        (self.kind.make)(&self.options, names)
    }
}

fn target<'a>(seen: &Seen<'a>) -> Result<&'a Type, (String, String)> {
    let hint = "give it one, or a loss of outputs alone: \"triplet\"";
    seen.target.ok_or_else(|| ("the data has no target for this loss".into(), hint.into()))
}

/// So many vectors side by side.
fn beside(seen: &Seen, count: usize, meant: &str) -> Result<(), (String, String)> {
    match seen.output.shape[1..] {
        [found, _] if found == count => Ok(()),
        _ => {
            let message =
                format!("the network ends in {}, and this loss takes [{count}, size]: {meant}", shown(seen.output));
            Err((message, format!("a model of kind = \"siamese\" gives that for {count} inputs")))
        }
    }
}

fn labels(seen: &Seen, options: &Options) -> Result<(), (String, String)> {
    let (output, target) = (seen.output, target(seen)?);
    let ([_, classes], [_]) = (&output.shape[1..], &target.shape[1..]) else {
        let message = format!("the network ends in {}, and the target is {}", shown(output), shown(target));
        return Err((message, "this loss takes [time, classes] and [labels]".into()));
    };
    if target.dtype.is_float() {
        return Err((format!("this loss takes labels, and the data's target is {}", target.dtype), "integers".into()));
    }
    let wanted = seen.classes.unwrap_or(0).max(options.count("blank") + 1);
    if *classes < wanted {
        let message = format!("the network ends in {}, and labels and blank are {wanted} classes", shown(output));
        return Err((message, format!("end it with {{ linear = {wanted} }}")));
    }
    if !options.has("lengths") {
        return Ok(());
    }
    let word = options.word("lengths");
    match seen.inputs.iter().find(|(name, _)| name == word).map(|(_, ty)| ty) {
        Some(ty) if ty.shape.len() == 1 && !ty.dtype.is_float() => Ok(()),
        Some(ty) => {
            let message = format!("`lengths` is a whole number each, and `{word}` is {} of {}", ty.dtype, shown(ty));
            Err((message, "name the input with the steps of each sequence".into()))
        }
        None => {
            let names: Vec<&str> = seen.inputs.iter().map(|(name, _)| name.as_str()).collect();
            Err((
                format!("`lengths` is an input, and there is no `{word}`"),
                format!("it is one of: {}", names.join(", ")),
            ))
        }
    }
}

fn classes(seen: &Seen, _: &Options) -> Result<(), (String, String)> {
    let (output, target, classes) = (seen.output, target(seen)?, seen.classes);
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

fn alike(seen: &Seen, _: &Options) -> Result<(), (String, String)> {
    let (output, target) = (seen.output, target(seen)?);
    if output.shape == target.shape && target.dtype.is_float() {
        return Ok(());
    }
    let message =
        format!("the network ends in {}, and the target is {} of {}", shown(output), shown(target), target.dtype);
    Err((message, format!("they must be alike: end the network in {} of {}", shown(target), output.dtype)))
}
