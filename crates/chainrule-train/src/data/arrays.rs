//! Sets that lie in memory: inputs of one shape and a class, numbers or nothing for each; and parts of any set.

use std::sync::Arc;

use chainrule::tensor::{DType, Tensor, Type};

use super::random::Random;
use super::{Batch, DataError, Dataset, Draw, ExampleType};

/// What the numbers that choose a validation part are drawn for.
const SPLIT: u64 = 0x7370_6c69;
/// What a random part is drawn for.
const SAMPLE: u64 = 0x7361_6d70;

/// Numbers in memory, as a model gets them or as bytes that are a part of some largest one.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// As they are.
    F32(Vec<f32>),
    /// A quarter of the memory: a model gets `byte / white`.
    U8 {
        /// The bytes.
        bytes: Vec<u8>,
        /// The byte that becomes 1.
        white: u8,
    },
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Numbers::F32(values) => values.len(),
            Numbers::U8 { bytes, .. } => bytes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs of `each` numbers, one for each of `places`.
    fn gather(&self, places: &[usize], each: usize) -> Vec<f32> {
        let range = |&at: &usize| at * each..(at + 1) * each;
        match self {
            Numbers::F32(values) => places.iter().flat_map(|at| &values[range(at)]).copied().collect(),
            Numbers::U8 { bytes, white } => {
                let white = *white as f32;
                places.iter().flat_map(|at| &bytes[range(at)]).map(|&byte| byte as f32 / white).collect()
            }
        }
    }
}

impl From<Vec<f32>> for Numbers {
    fn from(values: Vec<f32>) -> Numbers {
        Numbers::F32(values)
    }
}

/// What belongs to the inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// A class each.
    Classes {
        /// From 0.
        labels: Vec<i64>,
        /// How many classes there are.
        classes: usize,
    },
    /// Numbers each, in one shape.
    Values {
        /// One after the other.
        values: Vec<f32>,
        /// Of one example.
        shape: Vec<usize>,
    },
    /// Nothing, as for a generative model.
    None,
}

impl Targets {
    /// A class each.
    ///
    /// # Errors
    /// If a label is not from 0 to `classes` − 1; it says which.
    pub fn classes(labels: Vec<i64>, classes: usize) -> Result<Targets, DataError> {
        match labels.iter().position(|&label| label < 0 || label as usize >= classes) {
            None => Ok(Targets::Classes { labels, classes }),
            Some(at) => Err(DataError::Unexpected {
                what: format!("label of example {at}"),
                expected: format!("a class from 0 to {}", classes.saturating_sub(1)),
                found: labels[at].to_string(),
            }),
        }
    }
}

/// Inputs of one shape in memory, and what belongs to each: f32 `[n, …shape]` and i64 `[n]` or f32 `[n, …]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrays {
    inputs: Numbers,
    shape: Vec<usize>,
    targets: Targets,
    count: usize,
}

impl Arrays {
    /// Inputs one after the other, the shape of one, and the targets.
    ///
    /// # Errors
    /// If the numbers do not go up into whole examples, as many inputs as targets.
    pub fn new(inputs: impl Into<Numbers>, shape: &[usize], targets: Targets) -> Result<Arrays, DataError> {
        let inputs = inputs.into();
        let each = shape.iter().product::<usize>();
        let whole = |numbers: usize, each: usize| match each {
            0 => None,
            _ => numbers.is_multiple_of(each).then(|| numbers / each),
        };
        let count = match &targets {
            Targets::Classes { labels, .. } => Some(labels.len()),
            Targets::Values { values, shape } => whole(values.len(), shape.iter().product()),
            Targets::None => whole(inputs.len(), each),
        };
        match count.filter(|count| count.checked_mul(each) == Some(inputs.len()) && each > 0) {
            Some(count) => Ok(Arrays { inputs, shape: shape.to_vec(), targets, count }),
            None => Err(DataError::Unexpected {
                what: format!("inputs of shape {shape:?}"),
                expected: match &targets {
                    Targets::None => "whole examples".into(),
                    Targets::Classes { labels, .. } => format!("{} of them, as there are labels", labels.len()),
                    Targets::Values { values, shape } => {
                        format!("as many as {} target numbers are examples of shape {shape:?}", values.len())
                    }
                },
                found: format!("{} numbers", inputs.len()),
            }),
        }
    }

    /// The same inputs in another shape of as many numbers, as an image becomes a vector.
    ///
    /// # Panics
    /// If the shape has another number of elements.
    #[track_caller]
    pub fn with_shape(mut self, shape: &[usize]) -> Arrays {
        let same = shape.iter().product::<usize>() == self.shape.iter().product::<usize>();
        assert!(same, "with_shape: {:?} to {shape:?}: the numbers of elements differ", self.shape);
        self.shape = shape.to_vec();
        self
    }

    /// The targets.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }
}

impl Dataset for Arrays {
    fn len(&self) -> usize {
        self.count
    }

    fn example(&self) -> ExampleType {
        let (targets, classes) = match &self.targets {
            Targets::Classes { classes, .. } => (vec![Type::new(DType::I64, [])], Some(*classes)),
            Targets::Values { shape, .. } => (vec![Type::new(DType::F32, shape.clone())], None),
            Targets::None => (vec![], None),
        };
        ExampleType { inputs: vec![Type::new(DType::F32, self.shape.clone())], targets, classes }
    }

    fn batch(&self, examples: &[usize], _: Option<Draw>) -> Result<Batch, DataError> {
        let n = examples.len();
        let with_n = |shape: &[usize]| [&[n], shape].concat();
        let inputs = self.inputs.gather(examples, self.shape.iter().product());
        let targets = match &self.targets {
            Targets::Classes { labels, .. } => {
                let labels: Vec<i64> = examples.iter().map(|&at| labels[at]).collect();
                vec![Tensor::from_vec(labels, [n])]
            }
            Targets::Values { values, shape } => {
                let each = shape.iter().product::<usize>();
                let values: Vec<f32> =
                    examples.iter().flat_map(|&at| &values[at * each..(at + 1) * each]).copied().collect();
                vec![Tensor::from_vec(values, with_n(shape))]
            }
            Targets::None => vec![],
        };
        Ok(Batch { inputs: vec![Tensor::from_vec(inputs, with_n(&self.shape))], targets })
    }
}

/// Some of the examples of a set, under numbers of their own.
#[derive(Clone, Debug)]
pub struct Subset {
    of: Arc<dyn Dataset>,
    numbers: Vec<usize>,
}

impl Subset {
    /// These examples, in this order.
    ///
    /// # Panics
    /// If a number is not one of the set.
    #[track_caller]
    pub fn new(of: Arc<dyn Dataset>, numbers: Vec<usize>) -> Subset {
        let count = of.len();
        assert!(numbers.iter().all(|&number| number < count), "an example beyond the {count} of the set");
        Subset { of, numbers }
    }

    /// So many of them at random, in the order of the set, the same ones for the same seed.
    ///
    /// # Errors
    /// If there are not as many, or none are asked for.
    pub fn sample(of: Arc<dyn Dataset>, count: usize, seed: u64) -> Result<Subset, DataError> {
        if !(1..=of.len()).contains(&count) {
            return Err(DataError::Setting(format!(
                "examples = {count}: it is 1 to {}, as many as there are",
                of.len()
            )));
        }
        let mut numbers = Random::of(&[seed, SAMPLE]).permutation(of.len());
        numbers.truncate(count);
        numbers.sort_unstable();
        Ok(Subset { of, numbers })
    }

    /// Two parts: the rest and a random `fraction` (rounded, at least one example), the same for the same seed.
    ///
    /// # Errors
    /// If the fraction is not between 0 and 1, or leaves one of the parts empty.
    pub fn split(of: Arc<dyn Dataset>, fraction: f64, seed: u64) -> Result<(Subset, Subset), DataError> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(DataError::Setting(format!(
                "a validation part of {fraction}: it is a fraction between 0 and 1, as in 0.1"
            )));
        }
        let count = of.len();
        let part = ((count as f64 * fraction).round() as usize).max(1);
        if part >= count {
            return Err(DataError::Setting(format!("a validation part of {fraction} leaves none of {count} examples")));
        }
        let mut order = Random::of(&[seed, SPLIT]).permutation(count);
        let mut chosen = order.split_off(count - part);
        order.sort_unstable();
        chosen.sort_unstable();
        Ok((Subset { of: of.clone(), numbers: order }, Subset { of, numbers: chosen }))
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn example(&self) -> ExampleType {
        self.of.example()
    }

    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<Batch, DataError> {
        let numbers: Vec<usize> = examples.iter().map(|&example| self.numbers[example]).collect();
        self.of.batch(&numbers, draw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ten() -> Arrays {
        let bytes = Numbers::U8 { bytes: (0..20).collect(), white: 10 };
        Arrays::new(bytes, &[2], Targets::classes((0..10).map(|n| n % 3).collect(), 3).unwrap()).unwrap()
    }

    #[test]
    fn examples_come_in_the_order_asked_for() {
        let batch = ten().batch(&[4, 0], None).unwrap();
        assert_eq!(batch.input().to_vec::<f32>(), [0.8, 0.9, 0.0, 0.1]);
        assert_eq!((batch.input().shape(), batch.target().to_vec::<i64>()), (&[2, 2][..], vec![1, 0]));
        let values = Targets::Values { values: vec![1.0, 2.0, 3.0, 4.0], shape: vec![2] };
        let pairs = Arrays::new(vec![5.0, 6.0], &[1], values).unwrap();
        assert_eq!(pairs.batch(&[1], None).unwrap().target().to_vec::<f32>(), [3.0, 4.0]);
        assert_eq!(pairs.example().targets[0], Type::new(DType::F32, [2]));
        let bare = Arrays::new(vec![1.0; 6], &[3], Targets::None).unwrap();
        assert_eq!((bare.len(), bare.batch(&[1], None).unwrap().targets.len()), (2, 0));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let labels = |count| Targets::classes(vec![0; count], 1).unwrap();
        let rows = [
            (Arrays::new(vec![0.0; 7], &[2], labels(3)).map(drop), "3 of them, as there are labels, found 7 numbers"),
            (Arrays::new(vec![0.0; 7], &[2], Targets::None).map(drop), "whole examples, found 7"),
            (Arrays::new(vec![], &[0], labels(3)).map(drop), "found 0 numbers"),
            (Targets::classes(vec![0, 3], 3).map(drop), "label of example 1: expected a class from 0 to 2, found 3"),
            (Targets::classes(vec![-1], 0).map(drop), "from 0 to 0, found -1"),
            (Subset::split(Arc::new(ten()), 1.0, 0).map(drop), "a fraction between 0 and 1"),
            (Subset::split(Arc::new(ten()), f64::NAN, 0).map(drop), "a fraction between 0 and 1"),
            (Subset::split(Arc::new(ten()), 0.99, 0).map(drop), "leaves none of 10 examples"),
        ];
        for (row, (result, expected)) in rows.into_iter().enumerate() {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(expected), "row {row}: {message}\n  lacks: {expected}");
        }
    }

    #[test]
    fn a_split_has_every_example_once_and_stays() {
        let (train, validation) = Subset::split(Arc::new(ten()), 0.3, 5).unwrap();
        assert_eq!((train.len(), validation.len()), (7, 3));
        let mut both = [&train.numbers[..], &validation.numbers].concat();
        both.sort_unstable();
        assert_eq!(both, (0..10).collect::<Vec<_>>());
        assert_eq!(Subset::split(Arc::new(ten()), 0.3, 5).unwrap().1.numbers, validation.numbers);
        let batch = validation.batch(&[1], None).unwrap();
        assert_eq!(batch.input().to_vec::<f32>()[0], 2.0 * validation.numbers[1] as f32 / 10.0);
    }

    #[test]
    fn a_sample_is_of_different_examples_and_stays() {
        let sample = |count, seed| Subset::sample(Arc::new(ten()), count, seed);
        let numbers = sample(4, 1).unwrap().numbers;
        assert!(numbers.len() == 4 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(sample(4, 1).unwrap().numbers, numbers);
        assert!((2..20).any(|seed| sample(4, seed).unwrap().numbers != numbers));
        assert_eq!(sample(10, 0).unwrap().numbers, (0..10).collect::<Vec<_>>());
        for count in [0, 11] {
            assert!(sample(count, 0).unwrap_err().to_string().contains("it is 1 to 10"));
        }
    }
}
