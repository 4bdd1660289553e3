//! A training in one file, from which it goes on bit for bit: the state, the place in its course, and how long the
//! files were that only grow.
//!
//! The file is safetensors: the leaves of the state under `state.`, the sums since the last evaluation under `since.`,
//! and the rest as JSON in the header. It appears whole or not at all, and is not trusted: a checksum goes over all of
//! it, and the state, the settings and the data must be those of the training that wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chainrule::tensor::Tensor;
use chainrule::tree::{self, Metadata, TensorFileError, Tree};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::task::{Rule, Total, Totals};
use crate::trainer::{Best, Course};

/// The place of our JSON in the header.
const KEY: &str = "chainrule.checkpoint";
/// Of the JSON; another is not read.
const FORMAT: u32 = 1;
const STATE: &str = "state.";
const SINCE: &str = "since.";

/// Why a checkpoint cannot be gone on from.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// There is none.
    #[error("{} is not there: the training ended before its first checkpoint; train anew", path.display())]
    None {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be written or read, or is damaged as a file of tensors.
    #[error("{0}")]
    Tensors(#[from] TensorFileError),
    /// It is a file of tensors, but no checkpoint of ours, or not as it was written.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It is a checkpoint of another training.
    #[error("{}: {problem}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
}

/// A training at rest.
#[derive(Debug, Clone)]
pub struct Checkpoint<S> {
    /// All that a step changes.
    pub state: S,
    /// Where the training is.
    pub course: Course,
    /// Bytes of each file that only grows; what came after them is not of this checkpoint.
    pub lengths: BTreeMap<String, u64>,
    /// The settings that decide the numbers.
    pub settings: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    step: u64,
    epoch: u64,
    in_epoch: usize,
    /// Step and the bits of the value, which decimals would not keep.
    best: Option<(u64, u64)>,
    waited: u64,
    measures: Vec<(String, Rule)>,
    lengths: BTreeMap<String, u64>,
    settings: Value,
    /// CRC-32C over this header with 0 here, and over every tensor's name, type and bytes.
    checksum: u32,
}

impl<S: Tree> Checkpoint<S> {
    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let path = path.as_ref();
        let state = tree::named_leaves(&self.state).into_iter();
        let state = state.map(|(name, _, leaf)| (format!("{STATE}{name}"), leaf.eval()));
        let since = self.course.sums().into_iter().enumerate().map(|(i, row)| (format!("{SINCE}{i}"), row));
        let tensors: BTreeMap<String, Tensor> = state.chain(since).collect();
        let Course { step, epoch, in_epoch, since, best, waited } = &self.course;
        let mut header = Header {
            format: FORMAT,
            step: *step,
            epoch: *epoch,
            in_epoch: *in_epoch,
            best: best.map(|best| (best.step, best.value.to_bits())),
            waited: *waited,
            measures: since.0.iter().map(|total| (total.name.clone(), total.rule)).collect(),
            lengths: self.lengths.clone(),
            settings: self.settings.clone(),
            checksum: 0,
        };
        header.checksum = checksum(&header, &tensors);
        tree::save_tensors_with(&tensors, &Metadata::from([(KEY.into(), json(&header))]), path)?;
        Ok(())
    }

    /// Reads it: `template` gives the form of the state, and `settings` must be those it was trained with.
    ///
    /// # Errors
    /// If there is none, it is damaged, or it belongs to another training; the message says how to tell.
    pub fn load(path: impl AsRef<Path>, template: &S, settings: &Value) -> Result<Checkpoint<S>, CheckpointError> {
        let path = path.as_ref();
        let (mut tensors, metadata) = tree::load_tensors_with(path).map_err(|error| match error {
            TensorFileError::Io(path, error) if error.kind() == ErrorKind::NotFound => CheckpointError::None { path },
            other => other.into(),
        })?;
        let damaged = |problem: String| CheckpointError::Damaged { path: path.into(), problem };
        let other = |problem: String| CheckpointError::Other { path: path.into(), problem };
        let Some(text) = metadata.get(KEY) else {
            return Err(damaged("these are tensors, but no checkpoint of a training; was it a model?".into()));
        };
        let header = read_header(text, &tensors).map_err(damaged)?;
        if let Some(problem) = other_settings(&header.settings, settings) {
            return Err(other(problem));
        }
        let since = header.measures.iter().enumerate().map(|(i, (name, rule))| {
            let mut total = Total { name: name.clone(), rule: *rule, sum: Vec::new(), weight: 0.0 };
            let row = tensors.remove(&format!("{SINCE}{i}"));
            row.is_some_and(|row| Course::put_sums(&mut total, &row)).then_some(total)
        });
        let since = since.collect::<Option<Vec<Total>>>();
        let since = since.ok_or_else(|| damaged("sums of its epoch are missing".into()))?;
        let leaves = tensors.into_iter().map(|(name, leaf)| match name.strip_prefix(STATE) {
            Some(name) => (name.to_owned(), leaf),
            None => (name, leaf),
        });
        let state = tree::take_leaves(template, leaves.collect())
            .map_err(|problem| other(format!("the state is of another form: {problem}")))?;
        let Header { step, epoch, in_epoch, best, waited, lengths, .. } = header;
        let best = best.map(|(step, bits)| Best { step, value: f64::from_bits(bits) });
        let course = Course { step, epoch, in_epoch, since: Totals(since), best, waited };
        Ok(Checkpoint { state, course, lengths, settings: header.settings })
    }
}

fn read_header(text: &str, tensors: &BTreeMap<String, Tensor>) -> Result<Header, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("its header cannot be read: {error}"))?;
    match value.get("format").and_then(Value::as_u64) {
        Some(format) if format == FORMAT as u64 => {}
        Some(format) => return Err(format!("it is of format {format}; this version reads format {FORMAT}")),
        None => return Err("its header has no format".into()),
    }
    let mut header: Header =
        serde_json::from_value(value).map_err(|error| format!("its header cannot be read: {error}"))?;
    let written = std::mem::take(&mut header.checksum);
    let found = checksum(&header, tensors);
    header.checksum = written;
    if found != written {
        return Err(format!("it is damaged: its checksum is {found:08x} and should be {written:08x}"));
    }
    Ok(header)
}

fn json(header: &Header) -> String {
    serde_json::to_string(header).expect("a header is JSON: its keys are texts and its numbers whole")
}

fn checksum(header: &Header, tensors: &BTreeMap<String, Tensor>) -> u32 {
    tensors.iter().fold(crc32c::crc32c(json(header).as_bytes()), |sum, (name, tensor)| {
        let sum = crc32c::crc32c_append(sum, format!("{name} {}", tensor.ty()).as_bytes());
        let storage = tensor.storage().expect("what is written or was read is a leaf");
        crc32c::crc32c_append(sum, storage.bytes())
    })
}

/// Why a training that began with these settings cannot go on with those; nothing if it can.
pub fn other_settings(was: &Value, is: &Value) -> Option<String> {
    let differences = differences(was, is);
    let them = differences.join(", ");
    (!differences.is_empty())
        .then(|| format!("this training began with other settings ({them}); go on with the same ones"))
}

/// Keys in which the settings differ, as `lr is 0.1 and was 0.001`.
fn differences(was: &Value, is: &Value) -> Vec<String> {
    // Once through text, so that both have been read alike.
    let is: Value = serde_json::from_str(&is.to_string()).unwrap_or_default();
    match (was.as_object(), is.as_object()) {
        (Some(was), Some(is)) => {
            let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            let show = |value: Option<&Value>| value.map_or("not given".into(), Value::to_string);
            let differ = keys.into_iter().filter(|key| was.get(*key) != is.get(*key));
            differ.map(|key| format!("{key} is {} and was {}", show(is.get(key)), show(was.get(key)))).collect()
        }
        _ if *was == is => Vec::new(),
        _ => vec![format!("they are {is} and were {was}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> Checkpoint<Vec<Tensor>> {
        let total =
            |name: &str, sum: &[f64]| Total { name: name.into(), rule: Rule::Mean, sum: sum.into(), weight: 7.0 };
        let since = Totals(vec![total("loss", &[1.0 / 3.0]), total("f1", &[1e300, f64::MIN_POSITIVE, -0.0])]);
        let best = Some(Best { value: 0.1 + 0.2, step: 40 });
        Checkpoint {
            state: vec![Tensor::from([1.0f32, f32::NAN]), Tensor::from(3i64)],
            course: Course { step: 47, epoch: 1, in_epoch: 2, since, best, waited: 3 },
            lengths: [("metrics.jsonl".to_string(), 1234)].into(),
            settings: json!({ "lr": 0.1, "sizes": [64, 10] }),
        }
    }

    #[test]
    fn everything_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        let (before, template) = (example(), vec![Tensor::from([0.0f32, 0.0]), Tensor::from(0i64)]);
        before.save(&path).unwrap();
        let after = Checkpoint::load(&path, &template, &before.settings).unwrap();
        assert_eq!((&after.course, &after.lengths), (&before.course, &before.lengths));
        assert!(after.state[0].to_vec::<f32>()[1].is_nan() && after.state[1].item::<i64>() == 3);
        let bytes = std::fs::read(&path).unwrap();
        after.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn no_damage_is_taken_for_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        let (before, template) = (example(), vec![Tensor::from([0.0f32, 0.0]), Tensor::from(0i64)]);
        before.save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(Checkpoint::load(&path, &template, &before.settings).is_err(), "byte {at} of {}", good.len());
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(Checkpoint::load(&path, &template, &before.settings).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn another_training_is_told_from_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.safetensors");
        let (before, template) = (example(), vec![Tensor::from([0.0f32, 0.0]), Tensor::from(0i64)]);
        let told = |template: &Vec<Tensor>, settings: &Value| {
            Checkpoint::load(&path, template, settings).map(drop).unwrap_err().to_string()
        };
        assert!(told(&template, &before.settings).contains("ended before its first checkpoint"));
        before.save(&path).unwrap();
        let error = told(&template, &json!({ "lr": 0.2, "sizes": [64, 10] }));
        assert!(error.contains("lr is 0.2 and was 0.1") && !error.contains("sizes"), "{error}");
        assert!(told(&template, &json!({ "lr": 0.1 })).contains("sizes is not given and was [64,10]"));
        let error = told(&vec![Tensor::from([0.0f32; 3]), Tensor::from(0i64)], &before.settings);
        assert!(error.contains("0 is f32[2] in the file and f32[3] in the model"), "{error}");
        tree::save(&before.state, &path).unwrap();
        assert!(told(&template, &before.settings).contains("no checkpoint of a training"));
    }
}
