//! Options of a model as Hugging Face's `config.json` has them, read by name and type. An option that is wrong or asks
//! for something that is not built is an error that names it; options nobody here reads are named too.

use crate::layer::Activation;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such file, or no right to read it.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: std::io::Error,
    },
    /// Not an object of JSON.
    #[error("{}: not a configuration: {why}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: String,
    },
    /// An option has a value that it cannot have, or one that is not supported.
    #[error("{}: {option} is {value}; {wanted}", .path.display())]
    Option {
        /// The file.
        path: PathBuf,
        /// The option's name there.
        option: String,
        /// Its value.
        value: String,
        /// What would be right.
        wanted: String,
    },
}

/// Options that say nothing about the numbers: where the file comes from, how texts end, what classes are called.
const HARMLESS: &[&str] = &[
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "label2id",
    "model_type",
    "n_ctx",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pad_token_id",
    "problem_type",
    "reorder_and_upcast_attn",
    "return_dict",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// The largest size that is believed: sixteen million.
const LARGEST: usize = 1 << 24;

/// The options of a file that nobody has read yet.
pub(super) struct Options {
    path: PathBuf,
    rest: Map<String, Value>,
}

impl Options {
    /// The options of a file, which must be of this type of model.
    pub(super) fn read(path: &Path, model_type: &str) -> Result<Options, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Io { path: path.into(), error })?;
        let format = |error: serde_json::Error| ConfigError::Format { path: path.into(), why: error.to_string() };
        let rest: Map<String, Value> = serde_json::from_str(&text).map_err(format)?;
        let mut options = Options { path: path.into(), rest };
        options.only("model_type", &[Value::from(model_type)])?;
        Ok(options)
    }

    fn wrong(&self, option: &str, value: impl ToString, wanted: impl ToString) -> ConfigError {
        let (option, value, wanted) = (option.into(), value.to_string(), wanted.to_string());
        ConfigError::Option { path: self.path.clone(), option, value, wanted }
    }

    /// An option, or what it is if the file does not say or says null.
    pub(super) fn take<T: DeserializeOwned>(&mut self, option: &str, default: T) -> Result<T, ConfigError> {
        match self.rest.remove(option) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                let shown = value.to_string();
                serde_json::from_value(value).map_err(|error| self.wrong(option, shown, error))
            }
        }
    }

    /// A size: at least one, and not absurd.
    pub(super) fn size(&mut self, option: &str, default: usize) -> Result<usize, ConfigError> {
        match self.take(option, default)? {
            size @ 1..=LARGEST => Ok(size),
            size => Err(self.wrong(option, size, format!("it is from 1 to {LARGEST}"))),
        }
    }

    /// A probability of leaving out.
    pub(super) fn probability(&mut self, option: &str, default: f64) -> Result<f64, ConfigError> {
        Ok(self.optional_probability(option)?.unwrap_or(default))
    }

    /// A probability of leaving out, if the file has one.
    pub(super) fn optional_probability(&mut self, option: &str) -> Result<Option<f64>, ConfigError> {
        match self.take(option, None)? {
            Some(p) if !(0.0..=1.0).contains(&p) => Err(self.wrong(option, p, "a probability is from 0 to 1")),
            p => Ok(p),
        }
    }

    /// A place in a list of so many, or none.
    pub(super) fn index(
        &mut self,
        option: &str,
        default: Option<usize>,
        count: usize,
    ) -> Result<Option<usize>, ConfigError> {
        let missing = !self.rest.contains_key(option);
        match self.take::<Option<usize>>(option, None)? {
            None if missing => Ok(default.filter(|&index| index < count)),
            Some(index) if index >= count => Err(self.wrong(option, index, format!("there are {count}"))),
            index => Ok(index),
        }
    }

    /// A number above zero.
    pub(super) fn positive(&mut self, option: &str, default: f64) -> Result<f64, ConfigError> {
        match self.take(option, default)? {
            x if x > 0.0 => Ok(x),
            x => Err(self.wrong(option, x, "it is above 0")),
        }
    }

    /// An activation by its name there.
    pub(super) fn activation(&mut self, option: &str, default: &str) -> Result<Activation, ConfigError> {
        let name: String = self.take(option, default.to_string())?;
        match ACTIVATIONS.iter().find(|row| row.0 == name) {
            Some(row) => Ok(row.1),
            None => Err(self.wrong(option, Value::from(name), known_activations())),
        }
    }

    /// An option for which only these values are built; leaving it out is the first.
    pub(super) fn only(&mut self, option: &str, built: &[Value]) -> Result<(), ConfigError> {
        match self.rest.remove(option) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if built.contains(&value) => Ok(()),
            Some(value) => {
                let built: Vec<String> = built.iter().map(Value::to_string).collect();
                Err(self.wrong(option, value, format!("only {} is supported", built.join(" or "))))
            }
        }
    }

    /// Asserts that heads divide a width.
    pub(super) fn divides(&self, option: &str, heads: usize, width: usize) -> Result<(), ConfigError> {
        if width.is_multiple_of(heads) {
            return Ok(());
        }
        Err(self.wrong(option, heads, format!("it must divide the width {width}")))
    }

    /// The names of the options that were not read and may matter.
    pub(super) fn unread(self) -> Vec<String> {
        self.rest.into_iter().map(|(name, _)| name).filter(|name| !HARMLESS.contains(&name.as_str())).collect()
    }
}

const ACTIVATIONS: &[(&str, Activation)] = &[
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("linear", Activation::Identity),
    ("mish", Activation::Mish),
    ("relu", Activation::Relu),
    ("sigmoid", Activation::Sigmoid),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
];

fn known_activations() -> String {
    let known: Vec<&str> = ACTIVATIONS.iter().map(|row| row.0).collect();
    format!("known are {}", known.join(", "))
}

/// The name of an activation for an option of a file.
pub(super) fn activation_name(path: &Path, option: &str, activation: Activation) -> Result<&'static str, ConfigError> {
    let row = ACTIVATIONS.iter().find(|row| row.1 == activation);
    row.map(|row| row.0).ok_or_else(|| {
        let (path, option, value) = (path.into(), option.into(), format!("{activation:?}"));
        ConfigError::Option { path, option, value, wanted: known_activations() }
    })
}

/// Writes options as a file, which appears whole or not at all.
pub(super) fn write(options: &Value, path: &Path) -> Result<(), ConfigError> {
    let io = |error| ConfigError::Io { path: path.into(), error };
    let text = serde_json::to_string_pretty(options).expect("numbers and names");
    let beside = path.with_extension("json.part");
    std::fs::write(&beside, text + "\n").map_err(io)?;
    std::fs::rename(&beside, path).map_err(io)
}
