//! What a file says about training, reporting and looking on: `[train]`, `[report]` and `[watch]`.

use super::fields::{Field, Form, Options};
use super::source::{Entry, Item, Problem, Value};
use crate::task::Metric;

/// The options of `[train]`.
pub(crate) const TRAIN: &[Field] = &[
    Field { name: "epochs", form: Form::Count, default: "-", help: "times each example is seen; this or `steps`" },
    Field { name: "steps", form: Form::Count, default: "-", help: "steps of the optimizer; this or `epochs`" },
    Field { name: "batch", form: Form::Count, default: "32", help: "examples a step" },
    Field { name: "seed", form: Form::Whole, default: "0", help: "decides first weights, order and dropout" },
    Field {
        name: "precision",
        form: Form::Word(&["f32", "bf16", "f16"]),
        default: "\"f32\"",
        help: "what is computed in; weights are kept in f32",
    },
    Field { name: "accumulate", form: Form::Count, default: "1", help: "batches whose gradients make one step" },
    Field { name: "clip_norm", form: Form::Positive, default: "-", help: "most that the whole gradient's norm may be" },
    Field {
        name: "clip_value",
        form: Form::Positive,
        default: "-",
        help: "most that one number of the gradient may be",
    },
    Field {
        name: "average",
        form: Form::Word(&["none", "ema", "swa"]),
        default: "\"none\"",
        help: "of the weights, for validation and for the end: exponential (ema), or plain over the last quarter (swa)",
    },
    Field { name: "average_decay", form: Form::Share, default: "0.999", help: "of `average = \"ema\"`" },
    Field {
        name: "early_stopping",
        form: Form::Count,
        default: "-",
        help: "validations without a better one before it ends",
    },
    Field {
        name: "validate_every",
        form: Form::Count,
        default: "-",
        help: "steps between validations; once an epoch without",
    },
    Field {
        name: "checkpoint_every",
        form: Form::Count,
        default: "-",
        help: "steps between checkpoints; at each validation without",
    },
    Field {
        name: "memory_budget",
        form: Form::Bytes,
        default: "-",
        help: "most that a step may take; what does not fit is computed again, and results stay the same to the last bit",
    },
];

/// The options of `[report]`.
pub(crate) const REPORT: &[Field] = &[
    Field { name: "metrics", form: Form::Words, default: "[]", help: "what is measured beside the loss" },
    Field {
        name: "watch",
        form: Form::Name,
        default: "-",
        help: "what decides which checkpoint is best; the loss without",
    },
];

/// The options of `[watch]`.
pub(crate) const WATCH: &[Field] = &[
    Field { name: "on", form: Form::Flag, default: "true", help: "whether a training is watched, as by `--watch`" },
    Field {
        name: "every",
        form: Form::Count,
        default: "-",
        help: "steps between looks; as often as costs little without",
    },
];

/// How long a training goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Passes over the data.
    Epochs(usize),
    /// Steps of the optimizer.
    Steps(usize),
}

/// What weights are averaged for validation and for the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Average {
    /// None.
    None,
    /// w̄ ← d·w̄ + (1 − d)·w with this d, less in the first steps.
    Ema(f64),
    /// The mean over the last quarter of the steps.
    Swa,
}

/// The section `[train]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Train {
    /// `epochs` or `steps`; 10 epochs if neither is given.
    pub length: Length,
    /// Examples a step.
    pub batch: usize,
    /// Decides everything random.
    pub seed: u64,
    /// `f32`, `bf16` or `f16`.
    pub precision: String,
    /// Batches whose gradients make one step.
    pub accumulate: usize,
    /// Most that the norm of the whole gradient may be.
    pub clip_norm: Option<f64>,
    /// Most that one number of the gradient may be.
    pub clip_value: Option<f64>,
    /// Of the weights.
    pub average: Average,
    /// Validations without a better one before it ends.
    pub early_stopping: Option<usize>,
    /// Steps between validations.
    pub validate_every: Option<usize>,
    /// Steps between checkpoints.
    pub checkpoint_every: Option<usize>,
    /// The most bytes that a step may take.
    pub memory_budget: Option<usize>,
}

impl Train {
    pub(crate) fn read(section: &Item) -> Result<Train, Problem> {
        let options = read("[train]", section, TRAIN)?;
        let length = match (options.maybe_count("epochs"), options.maybe_count("steps")) {
            (Some(_), Some(_)) => {
                let problem = options.problem("steps", "[train] has both `epochs` and `steps`");
                return Err(problem.hint("a training ends after one of them: leave the other out"));
            }
            (None, Some(steps)) => Length::Steps(steps),
            (epochs, None) => Length::Epochs(epochs.unwrap_or(10)),
        };
        Ok(Train {
            length,
            batch: options.count("batch"),
            seed: options.count("seed") as u64,
            precision: options.word("precision").to_owned(),
            accumulate: options.count("accumulate"),
            clip_norm: options.maybe_number("clip_norm"),
            clip_value: options.maybe_number("clip_value"),
            average: match options.word("average") {
                "ema" => Average::Ema(options.number("average_decay")),
                "swa" => Average::Swa,
                _ => Average::None,
            },
            early_stopping: options.maybe_count("early_stopping"),
            validate_every: options.maybe_count("validate_every"),
            checkpoint_every: options.maybe_count("checkpoint_every"),
            memory_budget: options.maybe_bytes("memory_budget"),
        })
    }
}

/// The section `[report]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What is measured beside the loss.
    pub metrics: Vec<Metric>,
    /// What decides which checkpoint is best: a metric of the list, or the loss.
    pub watch: Option<Metric>,
}

impl Report {
    pub(crate) fn read(section: &Item) -> Result<Report, Problem> {
        let options = read("[report]", section, REPORT)?;
        let metric = |item: &Item| match &item.value {
            Value::Text(name) => name.parse::<Metric>().map_err(|error| Problem::new(&item.span, error.to_string())),
            _ => Err(Problem::new(&item.span, "a metric is a name in quotes")),
        };
        let metrics = match options.item("metrics").map(|item| &item.value) {
            Some(Value::List(items)) => items.iter().map(metric).collect::<Result<Vec<_>, _>>()?,
            _ => Vec::new(),
        };
        let watch = match options.item("watch") {
            Some(item) if matches!(&item.value, Value::Text(name) if name == "loss") => None,
            Some(item) => {
                let watch = metric(item)?;
                if !metrics.contains(&watch) {
                    let problem = Problem::new(&item.span, format!("`watch` is {watch}, which is not in `metrics`"));
                    return Err(problem.hint("it is \"loss\" or one of `metrics`"));
                }
                Some(watch)
            }
            None => None,
        };
        Ok(Report { metrics, watch })
    }
}

/// The section `[watch]`. It changes no number of the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Watch {
    /// Whether steps are looked at; not without the section.
    pub on: bool,
    /// Steps between looks; as often as costs little without.
    pub every: Option<usize>,
}

impl Watch {
    pub(crate) fn read(section: Option<&Item>) -> Result<Watch, Problem> {
        let Some(section) = section else { return Ok(Watch::default()) };
        let options = read("[watch]", section, WATCH)?;
        Ok(Watch { on: options.flag("on"), every: options.maybe_count("every") })
    }
}

/// A section by its table of fields.
pub(crate) fn read(what: &str, section: &Item, fields: &'static [Field]) -> Result<Options, Problem> {
    let Value::Table(entries) = &section.value else {
        return Err(Problem::new(&section.span, format!("{what} is a table, not {}", section.describe())));
    };
    let entries: Vec<(&str, &Entry)> = entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    Options::read(what, &section.span, &entries, fields)
}
