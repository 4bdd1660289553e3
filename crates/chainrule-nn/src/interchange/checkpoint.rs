//! Files of tensors as others lay them out: one safetensors file, or an index that says which file holds what.

use super::{InterchangeError, Rules, from_pytorch, to_pytorch};
use chainrule::tensor::Tensor;
use chainrule::tree::{Tree, load_tensors, save_tensors};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The part of an index that matters: the file of every tensor.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// All tensors of a checkpoint: of a safetensors file, of the files that an index (`….index.json`) names, or of a
/// folder with `model.safetensors` or `model.safetensors.index.json` as Hugging Face writes them.
///
/// # Errors
/// If a file cannot be read or is damaged, or the index names other files or tensors than there are.
pub fn load_checkpoint(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>, InterchangeError> {
    let path = path.as_ref();
    if path.is_dir() {
        let single = path.join(SINGLE);
        return load_checkpoint(if single.exists() { single } else { path.join(INDEX) });
    }
    match path.extension() {
        Some(extension) if extension == "json" => load_sharded(path),
        _ => Ok(load_tensors(path)?),
    }
}

fn load_sharded(path: &Path) -> Result<BTreeMap<String, Tensor>, InterchangeError> {
    let wrong = |why: String| InterchangeError::Index { path: PathBuf::from(path), why };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let index: Index = serde_json::from_str(&text).map_err(|error| wrong(format!("not an index: {error}")))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut tensors = BTreeMap::new();
    for file in index.weight_map.values().collect::<BTreeSet<_>>() {
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(wrong(format!("{file:?} is not the name of a file beside the index")));
        }
        for (name, tensor) in load_tensors(folder.join(file))? {
            match index.weight_map.get(&name) {
                Some(listed) if listed == file => tensors.insert(name, tensor),
                Some(listed) => return Err(wrong(format!("{name} is listed in {listed}, and is in {file}"))),
                None => return Err(wrong(format!("{name} is in {file}, and is not listed"))),
            };
        }
    }
    match index.weight_map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        Some((name, file)) => Err(wrong(format!("{name} is listed in {file}, and is not there"))),
        None => Ok(tensors),
    }
}

/// [`from_pytorch`] from a checkpoint.
///
/// # Errors
/// As [`load_checkpoint`] and [`from_pytorch`].
pub fn load_pytorch<M: Tree>(template: &M, path: impl AsRef<Path>, rules: &Rules) -> Result<M, InterchangeError> {
    from_pytorch(template, load_checkpoint(path)?, rules)
}

/// [`to_pytorch`] into one safetensors file, which appears whole or not at all.
///
/// # Errors
/// If it cannot be written, or two leaves get one name.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::interchange::{Rules, load_pytorch, save_pytorch};
/// use chainrule_nn::prelude::*;
/// let folder = tempfile::tempdir().unwrap();
/// let file = folder.path().join("model.safetensors");
/// save_pytorch(&Linear::new(&Key::new(1), 3, 2), &file, &Rules::pytorch()).unwrap();
/// load_pytorch(&Linear::new(&Key::new(2), 3, 2), folder.path(), &Rules::pytorch()).unwrap();
/// ```
pub fn save_pytorch<M: Tree>(model: &M, path: impl AsRef<Path>, rules: &Rules) -> Result<(), InterchangeError> {
    Ok(save_tensors(&to_pytorch(model, rules)?, path)?)
}
