//! What reports are made of: lines of the user's program, numbers that may not be finite, elements of a tensor.

use chainrule::tensor::DType;
use chainrule::tensor::{Derivation, Origin, Tensor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A line of the user's program: of Rust, or of the model file that it is built from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The source file as the compiler names it, or the model file.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// What stands there, in a model file: the kind of layer, `loss`, `optimizer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// For a line of a model file: the line of Rust within that layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Box<Place>>,
}

impl Place {
    /// A line of Rust.
    pub fn new(file: impl Into<String>, line: u32) -> Place {
        Place { file: file.into(), line, layer: None, code: None }
    }
}

impl From<Origin> for Place {
    fn from(origin: Origin) -> Place {
        let code = Place::new(origin.location.file(), origin.location.line());
        match origin.written {
            Some(written) => Place {
                file: written.file.to_string(),
                line: written.line,
                layer: Some(written.what.to_string()),
                code: Some(Box::new(code)),
            },
            None => code,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.file.rsplit(['/', '\\']).next().unwrap_or(&self.file);
        write!(f, "{name}:{}", self.line)?;
        self.layer.as_ref().map_or(Ok(()), |layer| write!(f, " {layer}"))
    }
}

/// Which part of the chain rule an operation belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "part", content = "of")]
pub enum Part {
    /// The user's own computation.
    Forward,
    /// A factor in the derivative of this operation.
    Derivative(String),
    /// The way back through this operation.
    Transpose(String),
    /// This operation over a batch.
    Batch(String),
}

impl From<Origin> for Part {
    fn from(origin: Origin) -> Part {
        match origin.derivation {
            None => Part::Forward,
            Some((Derivation::Derivative, op)) => Part::Derivative(op.to_owned()),
            Some((Derivation::Transpose, op)) => Part::Transpose(op.to_owned()),
            Some((Derivation::Batch, op)) => Part::Batch(op.to_owned()),
        }
    }
}

impl Part {
    /// The operation that this derives, if it is a derivative.
    pub fn derives(&self) -> Option<&str> {
        match self {
            Part::Derivative(op) | Part::Transpose(op) => Some(op),
            Part::Forward | Part::Batch(_) => None,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Forward => f.write_str("forward"),
            Part::Derivative(op) | Part::Transpose(op) => write!(f, "derivative of {op}"),
            Part::Batch(op) => write!(f, "{op} over a batch"),
        }
    }
}

/// A number that may be infinite or NaN, and then serialises as the string `"inf"`, `"-inf"` or `"NaN"`: JSON has none.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.is_finite() {
            true => serializer.serialize_f64(self.0),
            false => serializer.serialize_str(&self.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "it must be a number, or one of \"inf\", \"-inf\" and \"NaN\"")]
        enum Form {
            Finite(f64),
            Other(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Finite(value) => Ok(Number(value)),
            Form::Other(text) => text.parse().map(Number).map_err(serde::de::Error::custom),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.0 == other.0 || (self.0.is_nan() && other.0.is_nan())
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.0.abs();
        match size == 0.0 || !size.is_finite() || (1e-4..1e6).contains(&size) {
            true => write!(f, "{}", (self.0 * 1e6).round() / 1e6),
            false => write!(f, "{:.4e}", self.0),
        }
    }
}

/// One element of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Element {
    /// Its index, one number an axis.
    pub index: Vec<usize>,
    /// What stands there.
    pub value: Number,
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.index.is_empty() {
            true => write!(f, "{}", self.value),
            false => write!(f, "{} at {:?}", self.value, self.index),
        }
    }
}

/// The index of the element at a row-major position.
pub(crate) fn index_of(shape: &[usize], mut position: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &size) in index.iter_mut().zip(shape).rev() {
        (*i, position) = (position % size.max(1), position / size.max(1));
    }
    index
}

/// The numbers of a tensor in double precision, whatever its dtype.
#[track_caller]
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.storage() {
        Some(storage) if tensor.dtype() == DType::F64 => storage.as_slice::<f64>().to_vec(),
        _ => tensor.cast(DType::F64).to_vec::<f64>(),
    }
}
