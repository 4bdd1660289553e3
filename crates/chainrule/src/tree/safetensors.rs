//! Trees in safetensors files: names are the leaves' paths. A file appears whole or not at all.

use super::{Tree, map_named, named_leaves};
use crate::tensor::{DType, Storage, Tensor, Type};
use chainrule_kernels::buffer::Buffer;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Why a file of tensors could not be read or written.
#[derive(Debug)]
pub enum TensorFileError {
    /// The system refused: no such file, no room, no right.
    Io(PathBuf, std::io::Error),
    /// The bytes are not a safetensors file, or hold a dtype that is not supported.
    Format(PathBuf, String),
    /// The file does not have what the tree needs.
    Mismatch(PathBuf, String),
}

impl std::fmt::Display for TensorFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TensorFileError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            TensorFileError::Format(path, why) => write!(f, "{}: not a usable safetensors file: {why}", path.display()),
            TensorFileError::Mismatch(path, why) => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for TensorFileError {}

/// Writes the leaves of a tree, computing those that are not yet numbers. The file is written beside its place,
/// synced and renamed.
///
/// # Errors
/// If the file cannot be written, or two leaves have one path; nothing is left behind then.
///
/// ```
/// use chainrule::prelude::*;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("model.safetensors");
/// let model = vec![Tensor::from([1.0f32, 2.0])];
/// save(&model, &path).unwrap();
/// let back = load(&vec![Tensor::zeros([2], DType::F32)], &path).unwrap();
/// assert_eq!(back[0].to_vec::<f32>(), [1.0, 2.0]);
/// ```
pub fn save<T: Tree>(tree: &T, path: impl AsRef<Path>) -> Result<(), TensorFileError> {
    let path = path.as_ref();
    let mut leaves = BTreeMap::new();
    for (name, _, leaf) in named_leaves(tree) {
        if leaves.insert(name.clone(), leaf).is_some() {
            return Err(TensorFileError::Mismatch(path.into(), format!("two leaves are called {name}")));
        }
    }
    save_tensors(&leaves, path)
}

/// Writes named tensors; see [`save`].
///
/// # Errors
/// As [`save`].
pub fn save_tensors(tensors: &BTreeMap<String, Tensor>, path: impl AsRef<Path>) -> Result<(), TensorFileError> {
    let path = path.as_ref();
    let evaluated: Vec<(&String, Tensor)> = tensors.iter().map(|(name, tensor)| (name, tensor.eval())).collect();
    let views = evaluated.iter().map(|(name, tensor)| {
        let storage = tensor.storage().expect("an evaluated tensor is a leaf");
        let view = TensorView::new(file_dtype(tensor.dtype()), tensor.shape().to_vec(), storage.bytes());
        (name.as_str(), view.expect("shape and bytes agree"))
    });
    let bytes = safetensors::serialize(views.collect::<Vec<_>>(), None::<HashMap<String, String>>)
        .map_err(|error| TensorFileError::Format(path.into(), error.to_string()))?;
    write_whole(path, &bytes).map_err(|error| TensorFileError::Io(path.into(), error))
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Reads all tensors of a file by name.
///
/// # Errors
/// If the file cannot be read or is damaged; nothing is trusted before it is checked.
pub fn load_tensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>, TensorFileError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| TensorFileError::Io(path.into(), error))?;
    let format = |why: String| TensorFileError::Format(path.into(), why);
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format(explain(error, bytes.len())))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let dtype = own_dtype(view.dtype()).ok_or_else(|| format(format!("{name} has dtype {:?}", view.dtype())))?;
        let ty = Type::new(dtype, view.shape().iter().copied());
        if dtype == DType::Bool && view.data().iter().any(|&byte| byte > 1) {
            return Err(format(format!("{name} is bool and holds bytes other than 0 and 1")));
        }
        let mut buffer = Buffer::zeroed(view.data().len());
        buffer.bytes_mut().copy_from_slice(view.data());
        tensors.insert(name, Tensor::from_storage(Storage::new(buffer, ty)));
    }
    Ok(tensors)
}

/// Reads a tree: the template gives the form, and every leaf must be in the file under its path with its shape and
/// dtype.
///
/// # Errors
/// If the file is damaged, lacks a leaf, or holds other shapes, dtypes or names.
pub fn load<T: Tree>(template: &T, path: impl AsRef<Path>) -> Result<T, TensorFileError> {
    let path = path.as_ref();
    let mut tensors = load_tensors(path)?;
    let mut problems: Vec<String> = Vec::new();
    let tree = map_named(template, |name, _, leaf| match tensors.remove(name) {
        Some(tensor) if tensor.ty() == leaf.ty() => tensor,
        Some(tensor) => {
            problems.push(format!("{name} is {} in the file and {} in the model", tensor.ty(), leaf.ty()));
            leaf.clone()
        }
        None => {
            problems.push(format!("{name} ({}) is not in the file", leaf.ty()));
            leaf.clone()
        }
    });
    problems.extend(tensors.keys().map(|name| format!("{name} is in the file and not in the model")));
    match problems.len() {
        0 => Ok(tree),
        1..=5 => Err(TensorFileError::Mismatch(path.into(), problems.join("; "))),
        n => Err(TensorFileError::Mismatch(path.into(), format!("{}; and {} more", problems[..5].join("; "), n - 5))),
    }
}

fn explain(error: SafeTensorError, length: usize) -> String {
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            format!("{length} bytes are too few for its header; was it cut off?")
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("it is cut off: {length} bytes are fewer than the header says")
        }
        other => other.to_string(),
    }
}

fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

fn own_dtype(dtype: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|&own| file_dtype(own) == dtype)
}
