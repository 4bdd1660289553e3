//! The settings of a training: from the command line, from a file (TOML or JSON with the same names), or ours.
//!
//! A value is checked where it enters, so that the message can name the option or the line. What a run was trained with
//! is kept in its `config.json` as a [`Trained`], and checked again when it is read.

use std::fmt;
use std::path::{Path, PathBuf};

use chainrule_train::digits::{CLASSES, PIXELS};
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::outcome::Failure;

const MOST_HIDDEN: usize = 16;
const MOST_UNITS: usize = 65_536;
/// Parameters of the largest model: half a gigabyte with its gradient and moments.
const MOST_PARAMETERS: usize = 32_000_000;
const MOST_EPOCHS: usize = 1_000_000;
const MOST_BATCH: usize = 100_000;
const MOST_THREADS: usize = 1024;

/// What the command line or a file says; nothing is what they leave open.
#[derive(clap::Args, Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// Times each example is seen [default: 30]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = |text: &str| parsed(text, WHOLE).and_then(epochs))]
    pub epochs: Option<usize>,
    /// Examples a step [default: 32]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = |text: &str| parsed(text, WHOLE).and_then(batch))]
    pub batch: Option<usize>,
    /// Learning rate of Adam [default: 0.001]
    #[arg(long, visible_alias = "rate", value_name = "RATE", allow_negative_numbers = true, value_parser = |text: &str| parsed(text, "a number such as 0.001").and_then(lr))]
    pub lr: Option<f64>,
    /// Units of the hidden layers, from first to last [default: 128]
    #[arg(long, value_name = "N[,N…]", value_parser = |text: &str| units(text).and_then(hidden))]
    pub hidden: Option<Units>,
    /// Decides the first weights and the order of examples [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = |text: &str| parsed(text, WHOLE).and_then(seed))]
    pub seed: Option<u64>,
    /// Folder that the run's own folder is made in [default: runs]
    #[arg(long, value_name = "DIR")]
    pub runs: Option<PathBuf>,
    /// Threads to run on; the numbers do not depend on it [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = |text: &str| parsed(text, WHOLE).and_then(threads))]
    pub threads: Option<usize>,
}

/// Sizes of the hidden layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Units(pub Vec<usize>);

const WHOLE: &str = "a whole number that is not negative";
const NAMES: [&str; 7] = ["epochs", "batch", "lr", "hidden", "seed", "runs", "threads"];

fn parsed<T: std::str::FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("it must be {expected}"))
}

fn units(text: &str) -> Result<Vec<usize>, String> {
    text.split(',').map(|part| parsed(part, "whole numbers with commas between, such as 128 or 64,32")).collect()
}

fn within(value: usize, most: usize) -> Result<usize, String> {
    if (1..=most).contains(&value) { Ok(value) } else { Err(format!("it must be from 1 to {most}")) }
}

fn epochs(value: usize) -> Result<usize, String> {
    within(value, MOST_EPOCHS)
}

fn batch(value: usize) -> Result<usize, String> {
    within(value, MOST_BATCH)
}

fn threads(value: usize) -> Result<usize, String> {
    within(value, MOST_THREADS)
}

fn seed(value: u64) -> Result<u64, String> {
    Ok(value)
}

fn lr(value: f64) -> Result<f64, String> {
    let fits = value.is_finite() && value > 0.0;
    if fits { Ok(value) } else { Err("it must be above 0 and finite; 0.001 is usual".into()) }
}

fn hidden(units: Vec<usize>) -> Result<Units, String> {
    if units.is_empty() || units.len() > MOST_HIDDEN {
        return Err(format!("there must be 1 to {MOST_HIDDEN} hidden layers"));
    }
    if units.iter().any(|&size| size == 0 || size > MOST_UNITS) {
        return Err(format!("each layer must have from 1 to {MOST_UNITS} units"));
    }
    let parameters = parameters(&sizes(&units));
    if parameters > MOST_PARAMETERS {
        return Err(format!("that makes {parameters} parameters; at most {MOST_PARAMETERS} are trained"));
    }
    Ok(Units(units))
}

/// All sizes of the network with these hidden layers.
fn sizes(hidden: &[usize]) -> Vec<usize> {
    [&[PIXELS], hidden, &[CLASSES]].concat()
}

fn parameters(sizes: &[usize]) -> usize {
    sizes.windows(2).map(|pair| pair[0].saturating_mul(pair[1]).saturating_add(pair[1])).fold(0, usize::saturating_add)
}

impl Given {
    /// These where they say something, those of `file` where they do not.
    pub fn or(self, file: Given) -> Given {
        Given {
            epochs: self.epochs.or(file.epochs),
            batch: self.batch.or(file.batch),
            lr: self.lr.or(file.lr),
            hidden: self.hidden.or(file.hidden),
            seed: self.seed.or(file.seed),
            runs: self.runs.or(file.runs),
            threads: self.threads.or(file.threads),
        }
    }

    /// What a file says: JSON if its name ends so, else TOML.
    pub fn read(path: &Path) -> Result<Given, Failure> {
        let at = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| Failure::input(format!("--config {at}: {error}")))?;
        let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let (line, problem) = match json {
            true => match serde_json::from_str(&text) {
                Ok(given) => return Ok(given),
                Err(error) => {
                    let problem = error.to_string();
                    let place = format!(" at line {} column {}", error.line(), error.column());
                    (error.line(), problem.trim_end_matches(&place).to_owned())
                }
            },
            false => match toml::from_str(&text) {
                Ok(given) => return Ok(given),
                Err(error) => {
                    let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or(""));
                    (before.matches('\n').count() + 1, error.message().to_owned())
                }
            },
        };
        Err(Failure::input(format!("--config {at}, line {line}: {problem}")))
    }

    /// What the run will be trained with.
    pub fn trained(&self) -> Trained {
        let (model, sizes) = (MODEL_NAME.into(), sizes(&[128]));
        Trained { model, sizes, epochs: 30, batch: 32, lr: 0.001, seed: 0 }.changed(self)
    }
}

/// The name of the only model that is trained here.
const MODEL_NAME: &str = "mlp";

/// What a run was trained with: its `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// `mlp`.
    pub model: String,
    /// Units of each layer, from the pixels to the classes.
    pub sizes: Vec<usize>,
    /// Epochs asked for.
    pub epochs: usize,
    /// Examples a step.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// The seed.
    pub seed: u64,
}

impl Trained {
    /// Parameters of the model.
    pub fn parameters(&self) -> usize {
        parameters(&self.sizes)
    }

    /// Whether a configuration that was read is one that could have been written.
    pub fn check(&self) -> Result<(), String> {
        if self.model != MODEL_NAME {
            return Err(format!("\"model\" is {:?}; it must be {MODEL_NAME:?}", self.model));
        }
        match &self.sizes[..] {
            [PIXELS, inner @ .., CLASSES] => {
                hidden(inner.to_vec()).map(drop).map_err(|problem| format!("\"sizes\" is {:?}: {problem}", self.sizes))
            }
            _ => Err(format!("\"sizes\" is {:?}; it must begin with {PIXELS} and end with {CLASSES}", self.sizes)),
        }?;
        let named = |name: &str, problem: String| format!("{name:?}: {problem}");
        epochs(self.epochs).map_err(|problem| named("epochs", problem))?;
        batch(self.batch).map_err(|problem| named("batch", problem))?;
        lr(self.lr).map(drop).map_err(|problem| named("lr", problem))
    }

    /// These settings where `given` does not say otherwise.
    pub fn changed(self, given: &Given) -> Trained {
        let hidden = given.hidden.as_ref().map(|units| sizes(&units.0));
        Trained {
            sizes: hidden.unwrap_or(self.sizes),
            epochs: given.epochs.unwrap_or(self.epochs),
            batch: given.batch.unwrap_or(self.batch),
            lr: given.lr.unwrap_or(self.lr),
            seed: given.seed.unwrap_or(self.seed),
            ..self
        }
    }

    /// Those that decide the numbers; how long they go on is not one of them.
    pub fn decides(&self) -> Result<serde_json::Value, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        value.as_object_mut().map(|settings| settings.remove("epochs"));
        Ok(value)
    }
}

/// A file's keys, one by one: an unknown one is an error at its own line.
impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
        struct Settings;
        impl<'de> Visitor<'de> for Settings {
            type Value = Given;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "settings by name: {}", NAMES.join(", "))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let mut given = Given::default();
                while let Some(Name(name)) = map.next_key()? {
                    match name {
                        "epochs" => given.epochs = Some(map.next_value_seed(Checked(name, epochs))?),
                        "batch" => given.batch = Some(map.next_value_seed(Checked(name, batch))?),
                        "lr" => given.lr = Some(map.next_value_seed(Checked(name, lr))?),
                        "hidden" => {
                            let check: fn(OneOrMore) -> _ = |list| hidden(list.0);
                            given.hidden = Some(map.next_value_seed(Checked(name, check))?);
                        }
                        "seed" => given.seed = Some(map.next_value_seed(Checked(name, seed))?),
                        "runs" => given.runs = Some(map.next_value()?),
                        _ => given.threads = Some(map.next_value_seed(Checked(name, threads))?),
                    }
                }
                Ok(given)
            }
        }
        deserializer.deserialize_map(Settings)
    }
}

/// A key that is one of ours.
struct Name(&'static str);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let key = String::deserialize(deserializer)?;
        if let Some(name) = NAMES.iter().find(|name| **name == key) {
            return Ok(Name(name));
        }
        let nearest = NAMES.iter().min_by_key(|name| distance(&key.to_lowercase(), name)).expect("there are names");
        let all = NAMES.join(", ");
        Err(serde::de::Error::custom(format!("unknown key {key:?}; did you mean {nearest:?}? There are {all}")))
    }
}

/// A value that is checked as it is read, so that the error stands at its line.
struct Checked<T, U>(&'static str, fn(T) -> Result<U, String>);

impl<'de, T: Deserialize<'de>, U> DeserializeSeed<'de> for Checked<T, U> {
    type Value = U;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<U, D::Error> {
        let named = |problem: String| serde::de::Error::custom(format!("{}: {problem}", self.0));
        let value = T::deserialize(deserializer).map_err(|error| named(one_line(&error.to_string())))?;
        self.1(value).map_err(named)
    }
}

/// The first line, without the place that the reader adds itself.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("").trim();
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

/// `128` or `[64, 32]`.
struct OneOrMore(Vec<usize>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMore, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "it must be a whole number or a list of them, such as 128 or [64, 32]")]
        enum Form {
            One(usize),
            More(Vec<usize>),
        }
        Ok(OneOrMore(match Form::deserialize(deserializer)? {
            Form::One(size) => vec![size],
            Form::More(sizes) => sizes,
        }))
    }
}

/// How many letters must change to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Given, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Given::read(&path).map_err(|failure| failure.to_string().replace(&path.display().to_string(), name))
    }

    #[test]
    fn both_forms_say_the_same() {
        let toml = read("a.toml", "epochs = 5\nlr = 0.01\nhidden = [64, 32]\nruns = \"x\"\n").unwrap();
        let json = read("a.json", r#"{"epochs": 5, "lr": 0.01, "hidden": [64, 32], "runs": "x"}"#).unwrap();
        assert_eq!(toml, json);
        assert_eq!(toml.trained().sizes, [64, 64, 32, 10]);
        assert_eq!(read("a.toml", "hidden = 16").unwrap().trained().sizes, [64, 16, 10]);
        assert_eq!(read("a.toml", "").unwrap(), Given::default());
        let both = Given { epochs: Some(7), ..Given::default() }.or(toml);
        assert_eq!((both.epochs, both.lr), (Some(7), Some(0.01)));
    }

    #[test]
    fn errors_name_key_and_line() {
        let cases = [
            ("a.toml", "epochs = 5\n\nepoch = 3\n", "line 3: unknown key \"epoch\"; did you mean \"epochs\"?"),
            ("a.json", "{\"lr\": 0.1,\n \"batchs\": 3}", "line 2: unknown key \"batchs\"; did you mean \"batch\"?"),
            ("a.toml", "epochs = 5\nlr = -1\n", "line 2: lr: "),
            ("a.json", "{\n\"epochs\": 0}", "line 2: epochs: it must be from 1 to 1000000"),
            ("a.toml", "batch = \"many\"", "line 1: batch: "),
            ("a.toml", "hidden = [4, 0]", "line 1: hidden: each layer must have from 1"),
            ("a.toml", "hidden = true", "line 1: hidden: it must be a whole number or a list"),
            ("a.toml", "\n\nepochs = = 2", "line 3: "),
            ("a.json", "[1]", "line 1: "),
            ("a.json", "{\"lr\": 0.1", "line 1: "),
        ];
        for (name, text, expected) in cases {
            let error = read(name, text).expect_err(text);
            assert!(error.contains(expected), "{text:?}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        assert!(Given::read(Path::new("/no/such/file.toml")).unwrap_err().to_string().contains("--config /no/such"));
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(hidden(vec![65_536, 65_536]).unwrap_err().contains("parameters"));
        assert!(hidden(vec![usize::MAX]).is_err() && hidden(vec![]).is_err() && hidden(vec![1; 17]).is_err());
        let mut trained = Given::default().trained();
        assert!(trained.check().is_ok());
        trained.sizes = vec![64, 10];
        assert!(trained.check().is_err());
        trained.sizes = vec![];
        assert!(trained.check().is_err());
    }
}
