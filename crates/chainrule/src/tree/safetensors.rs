//! Trees in safetensors files: names are the leaves' paths. A file appears whole or not at all.

use super::{Tree, map_named, named_leaves};
use crate::tensor::{DType, Storage, Tensor, Type};
use chainrule_kernels::buffer::Buffer;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
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

/// Texts by name that stand in the header of a file of tensors, beside the tensors' names.
pub type Metadata = BTreeMap<String, String>;

/// Writes named tensors; see [`save`].
///
/// # Errors
/// As [`save`].
pub fn save_tensors(tensors: &BTreeMap<String, Tensor>, path: impl AsRef<Path>) -> Result<(), TensorFileError> {
    save_tensors_with(tensors, &Metadata::new(), path)
}

/// Writes named tensors and texts about them; see [`save`].
///
/// # Errors
/// As [`save`].
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::tree::{Metadata, load_tensors_with, save_tensors_with};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("some.safetensors");
/// let about = Metadata::from([("made by".into(), "hand".into())]);
/// save_tensors_with(&[("x".into(), Tensor::from(1.0))].into(), &about, &path).unwrap();
/// let (tensors, back) = load_tensors_with(&path).unwrap();
/// assert_eq!((tensors["x"].item::<f64>(), back), (1.0, about));
/// ```
pub fn save_tensors_with(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
    path: impl AsRef<Path>,
) -> Result<(), TensorFileError> {
    let path = path.as_ref();
    let evaluated: Vec<(&String, Tensor)> = tensors.iter().map(|(name, tensor)| (name, tensor.eval())).collect();
    let views = evaluated.iter().map(|(name, tensor)| {
        let storage = tensor.storage().expect("an evaluated tensor is a leaf");
        let view = TensorView::new(file_dtype(tensor.dtype()), tensor.shape().to_vec(), storage.bytes());
        (name.as_str(), view.expect("shape and bytes agree"))
    });
    let metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    let metadata = (!metadata.is_empty()).then_some(metadata);
    write_whole(path, |partial| safetensors::serialize_to_file(views.collect::<Vec<_>>(), metadata, partial))
}

/// Lets a file be written beside its place, from tensors where they are, then syncs and renames it.
fn write_whole(path: &Path, write: impl FnOnce(&Path) -> Result<(), SafeTensorError>) -> Result<(), TensorFileError> {
    let io = |error| TensorFileError::Io(path.into(), error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    write(partial.path()).map_err(|error| match error {
        SafeTensorError::IoError(error) => io(error),
        other => TensorFileError::Format(path.into(), other.to_string()),
    })?;
    partial.as_file().sync_all().map_err(io)?;
    partial.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

/// Reads all tensors of a file by name.
///
/// # Errors
/// If the file cannot be read or is damaged; nothing is trusted before it is checked.
pub fn load_tensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>, TensorFileError> {
    load_tensors_with(path).map(|loaded| loaded.0)
}

/// Reads all tensors of a file by name, and the texts about them.
///
/// # Errors
/// As [`load_tensors`].
pub fn load_tensors_with(path: impl AsRef<Path>) -> Result<(BTreeMap<String, Tensor>, Metadata), TensorFileError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| TensorFileError::Io(path.into(), error))?;
    let format = |why: String| TensorFileError::Format(path.into(), why);
    let cut_off = |error| format(explain(error, bytes.len()));
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(cut_off)?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let file = SafeTensors::deserialize(&bytes).map_err(cut_off)?;
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
    Ok((tensors, metadata))
}

/// Reads a tree: the template gives the form, and every leaf must be in the file under its path with its shape and
/// dtype.
///
/// # Errors
/// If the file is damaged, lacks a leaf, or holds other shapes, dtypes or names.
pub fn load<T: Tree>(template: &T, path: impl AsRef<Path>) -> Result<T, TensorFileError> {
    let path = path.as_ref();
    let tensors = load_tensors(path)?;
    take_leaves(template, tensors).map_err(|problem| TensorFileError::Mismatch(path.into(), problem))
}

/// A tree of this form from named tensors, which must be its leaves and no others.
///
/// # Errors
/// If one is missing, too many, or of another shape or dtype; the text names the first five of them.
pub fn take_leaves<T: Tree>(template: &T, mut tensors: BTreeMap<String, Tensor>) -> Result<T, String> {
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
        1..=5 => Err(problems.join("; ")),
        n => Err(format!("{}; and {} more", problems[..5].join("; "), n - 5)),
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
