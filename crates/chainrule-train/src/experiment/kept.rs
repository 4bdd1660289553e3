//! What a run of a model file keeps in its `config.json`: its name and the form of its examples. Read back, it is not
//! trusted.

use std::path::PathBuf;

use chainrule::tensor::{DType, Type};
use serde::{Deserialize, Serialize};

use crate::data::ExampleType;
use crate::data::table::Encoding;

/// More elements of an example than any data set has.
const MOST_ELEMENTS: usize = 1 << 32;

/// `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// The recipe, or the file's name without its end.
    pub name: String,
    /// The folder of data sets, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    inputs: Vec<Form>,
    targets: Vec<Form>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classes: Option<usize>,
    /// Names of the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// What made numbers of the columns of a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

/// A type, as `{"dtype": "f32", "shape": [1, 8, 8]}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    dtype: String,
    shape: Vec<usize>,
}

impl Kept {
    /// Of a name and what is known of the data: names of classes, and how columns became numbers.
    pub fn new(
        name: &str,
        folder: Option<PathBuf>,
        example: &ExampleType,
        (names, encoding): (Option<Vec<String>>, Option<Encoding>),
    ) -> Kept {
        let forms = |types: &[Type]| -> Vec<Form> {
            types.iter().map(|ty| Form { dtype: ty.dtype.name().into(), shape: ty.shape.to_vec() }).collect()
        };
        let (inputs, targets) = (forms(&example.inputs), forms(&example.targets));
        Kept { name: name.into(), folder, inputs, targets, classes: example.classes, names, encoding }
    }

    /// The form of an example.
    ///
    /// # Errors
    /// If it could not have been written.
    pub fn example(&self) -> Result<ExampleType, String> {
        let types = |forms: &[Form]| forms.iter().map(Form::ty).collect::<Result<Vec<_>, _>>();
        if self.inputs.is_empty() {
            return Err("\"inputs\" has none".into());
        }
        Ok(ExampleType { inputs: types(&self.inputs)?, targets: types(&self.targets)?, classes: self.classes })
    }
}

impl Form {
    fn ty(&self) -> Result<Type, String> {
        let dtype = DType::ALL.into_iter().find(|dtype| dtype.name() == self.dtype);
        let dtype = dtype.ok_or_else(|| format!("there is no dtype {:?}", self.dtype))?;
        let count = self.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        match count {
            Some(1..=MOST_ELEMENTS) => Ok(Type::new(dtype, self.shape.iter().copied())),
            _ => Err(format!("the shape {:?} is empty, or larger than any example", self.shape)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_example_comes_back_and_nonsense_does_not() {
        let example = ExampleType {
            inputs: vec![Type::new(DType::F32, [1, 8, 8])],
            targets: vec![Type::new(DType::I64, [])],
            classes: Some(10),
        };
        let kept = Kept::new("a", None, &example, (None, None));
        let text = serde_json::to_string(&kept).unwrap();
        let back: Kept = serde_json::from_str(&text).unwrap();
        assert_eq!(back.example().unwrap(), example);
        for (old, new) in [("f32", "f31"), ("[1,8,8]", "[0]"), ("[1,8,8]", "[99999999,99999999,99999999]")] {
            let wrong: Kept = serde_json::from_str(&text.replace(old, new)).unwrap();
            assert!(wrong.example().is_err(), "{new}");
        }
    }
}
