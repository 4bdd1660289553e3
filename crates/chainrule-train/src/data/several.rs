//! Sets of several arrays in memory: inputs and targets by their names, each with the examples along a first axis.
//!
//! A sequence with its length, a pair or three of pictures, labels that are themselves sequences: what [`Arrays`] with
//! its one input cannot hold. Bytes become `byte/255`; whole numbers stay whole, since they may be tokens or lengths.
//!
//! [`Arrays`]: super::Arrays

use std::collections::BTreeMap;

use chainrule::tensor::{DType, Tensor, Type};

use super::npy::{Elements, Npy};
use super::{Batch, DataError, Dataset, Draw, ExampleType};

/// Inputs and targets of as many examples.
#[derive(Clone, Debug)]
pub struct Several {
    inputs: Vec<Npy>,
    targets: Vec<Npy>,
    count: usize,
}

impl Several {
    /// The arrays of these names, with an ending such as `_train` behind each.
    ///
    /// # Errors
    /// If one is missing, or they are not of as many examples, one at least.
    pub fn named(
        all: &BTreeMap<String, Npy>,
        inputs: &[String],
        targets: &[String],
        ending: &str,
    ) -> Result<Several, DataError> {
        let array = |name: &String| {
            let name = format!("{name}{ending}");
            all.get(&name).cloned().ok_or_else(|| DataError::Unexpected {
                what: "NumPy archive".into(),
                expected: format!("an array {name}"),
                found: all.keys().cloned().collect::<Vec<_>>().join(", "),
            })
        };
        let inputs = inputs.iter().map(array).collect::<Result<Vec<_>, _>>()?;
        let targets = targets.iter().map(array).collect::<Result<Vec<_>, _>>()?;
        let sizes = || inputs.iter().chain(&targets).map(|array| &array.shape[..]);
        let count = sizes().next().and_then(|shape| shape.first().copied()).unwrap_or(0);
        match sizes().find(|shape| shape.first() != Some(&count) || shape.contains(&0)) {
            None => Ok(Several { inputs, targets, count }),
            Some(shape) => Err(DataError::Unexpected {
                what: "NumPy archive".into(),
                expected: format!("{count} examples in every array, none of them empty"),
                found: format!("an array of shape {shape:?}"),
            }),
        }
    }
}

/// The type of one example.
fn ty(array: &Npy) -> Type {
    let dtype = if matches!(array.elements, Elements::I64(_)) { DType::I64 } else { DType::F32 };
    Type::new(dtype, array.shape[1..].iter().copied())
}

fn gather(array: &Npy, examples: &[usize]) -> Tensor {
    let each = array.shape[1..].iter().product::<usize>();
    let shape = [&[examples.len()], &array.shape[1..]].concat();
    fn rows<T: Copy>(values: &[T], examples: &[usize], each: usize) -> Vec<T> {
        examples.iter().flat_map(|&at| &values[at * each..(at + 1) * each]).copied().collect()
    }
    match &array.elements {
        Elements::F32(values) => Tensor::from_vec(rows(values, examples, each), shape),
        Elements::I64(values) => Tensor::from_vec(rows(values, examples, each), shape),
        Elements::U8(values) => {
            let values = rows(values, examples, each).into_iter().map(|byte| f32::from(byte) / 255.0);
            Tensor::from_vec(values.collect::<Vec<f32>>(), shape)
        }
    }
}

impl Dataset for Several {
    fn len(&self) -> usize {
        self.count
    }

    /// The classes are those up to the largest of a target that is whole and never below 0.
    fn example(&self) -> ExampleType {
        let classes = self.targets.first().and_then(|target| match &target.elements {
            Elements::I64(labels) if labels.iter().all(|&label| label >= 0) => labels.iter().max(),
            _ => None,
        });
        ExampleType {
            inputs: self.inputs.iter().map(ty).collect(),
            targets: self.targets.iter().map(ty).collect(),
            classes: classes.map(|&most| (most as usize).saturating_add(1)),
        }
    }

    fn batch(&self, examples: &[usize], _: Option<Draw>) -> Result<Batch, DataError> {
        let gathered = |arrays: &[Npy]| arrays.iter().map(|array| gather(array, examples)).collect();
        Ok(Batch { inputs: gathered(&self.inputs), targets: gathered(&self.targets) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_found_by_name_and_what_is_wrong_is_said() {
        let array = |elements, shape: &[usize]| Npy { elements, shape: shape.to_vec() };
        let all = BTreeMap::from([
            ("x".to_owned(), array(Elements::U8(vec![0, 51, 102, 255]), &[2, 2])),
            ("steps".to_owned(), array(Elements::I64(vec![2, 1]), &[2])),
            ("y".to_owned(), array(Elements::I64(vec![-1, 1]), &[2])),
            ("short".to_owned(), array(Elements::F32(vec![1.0]), &[1])),
        ]);
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let set = Several::named(&all, &names(&["x", "steps"]), &names(&["y"]), "").unwrap();
        let batch = set.batch(&[1], None).unwrap();
        assert_eq!((batch.inputs[0].to_vec::<f32>(), batch.inputs[1].to_vec::<i64>()), (vec![0.4, 1.0], vec![1]));
        assert_eq!((set.example().inputs[1].clone(), set.example().classes), (Type::new(DType::I64, []), None));
        for (inputs, ending, says) in [
            (names(&["z"]), "", "expected an array z, found short, steps, x, y"),
            (names(&["x"]), "_train", "expected an array x_train"),
            (
                names(&["x", "short"]),
                "",
                "expected 2 examples in every array, none of them empty, found an array of shape [1]",
            ),
        ] {
            let message = Several::named(&all, &inputs, &[], ending).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
}
