//! Sets that are made, not read: the adding problem, and sequences to sort.
//!
//! In training each epoch has examples of its own; for a test they are always the same. The parts have nothing in
//! common: numbers come from streams of their own, and a sequence to sort belongs to a part by its content.

use chainrule::tensor::{DType, Tensor, Type};

use super::random::Random;
use super::{Batch, DataError, Dataset, Draw, ExampleType};

/// Sequences that there must be at least, so that each part has some.
const LEAST_SEQUENCES: f64 = 1000.0;
/// One in so many sequences to sort is not for training; half of those are for validation and half for testing.
const KEPT_BACK: u64 = 10;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The adding problem (Hochreiter and Schmidhuber, "Long short-term memory", 1997; with values from 0 to 1 and one
    /// mark in each half as in Le, Jaitly and Hinton, 2015): inputs f32 `[length, 2]` of values and marks, target f32
    /// `[1]`, the sum of the two marked values. Always saying 1 has a mean squared error of 1/6.
    Adding {
        /// Steps of a sequence.
        length: usize,
    },
    /// Sequences for an encoder and a decoder: inputs i64 `[length]`, tokens from 1, and `[length]`, what was said so
    /// far: 0 and the sorted tokens without the last; target i64 `[length]`, the sorted tokens.
    Sorting {
        /// Tokens of a sequence.
        length: usize,
        /// Different tokens, with the 0 that begins what is said.
        vocabulary: usize,
    },
}

/// Which part of what could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    Train,
    Validation,
    Test,
}

/// Examples that are made when they are asked for.
///
/// ```
/// use chainrule_train::data::{Dataset, Generated, Made, Part};
/// let set = Generated::new(Made::Sorting { length: 4, vocabulary: 10 }, Part::Test, 100, 0)?;
/// let batch = set.batch(&[0], None)?;
/// let mut sorted = batch.inputs[0].to_vec::<i64>();
/// sorted.sort();
/// assert_eq!(batch.target().to_vec::<i64>(), sorted);
/// assert_eq!(batch.inputs[1].to_vec::<i64>(), [&[0], &sorted[..3]].concat());
/// # Ok::<(), chainrule_train::data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Generated {
    made: Made,
    part: Part,
    count: usize,
    seed: u64,
}

impl Generated {
    /// A part of so many examples an epoch.
    ///
    /// # Errors
    /// If the sequences are too short or the vocabulary too small for parts that have nothing in common.
    pub fn new(made: Made, part: Part, count: usize, seed: u64) -> Result<Generated, DataError> {
        let wrong = |problem: String| Err(DataError::Setting(problem));
        match made {
            Made::Adding { length } if length < 2 => {
                wrong(format!("length = {length}: two values are added; at least 2"))
            }
            Made::Sorting { length, vocabulary }
                if (vocabulary.saturating_sub(1) as f64).powf(length as f64) < LEAST_SEQUENCES =>
            {
                wrong(format!(
                    "length = {length}, vocabulary = {vocabulary}: that makes fewer than {LEAST_SEQUENCES} sequences; take larger ones"
                ))
            }
            _ if count == 0 => wrong("examples = 0: at least 1".into()),
            _ => Ok(Generated { made, part, count, seed }),
        }
    }

    /// The numbers of one example.
    fn random(&self, example: usize, draw: Option<Draw>) -> Random {
        let (seed, epoch) = draw.map_or((0, 0), |draw| (draw.seed, draw.epoch + 1));
        Random::of(&[self.seed, self.part as u64, seed, epoch, example as u64])
    }
}

/// The part that a sequence belongs to.
fn part_of(sequence: &[i64]) -> Part {
    let numbers: Vec<u64> = sequence.iter().map(|&token| token as u64).collect();
    match Random::of(&numbers).below(2 * KEPT_BACK) {
        0 => Part::Validation,
        1 => Part::Test,
        _ => Part::Train,
    }
}

impl Dataset for Generated {
    fn len(&self) -> usize {
        self.count
    }

    fn example(&self) -> ExampleType {
        match self.made {
            Made::Adding { length } => ExampleType {
                inputs: vec![Type::new(DType::F32, [length, 2])],
                targets: vec![Type::new(DType::F32, [1])],
                classes: None,
            },
            Made::Sorting { length, vocabulary } => {
                let tokens = || Type::new(DType::I64, [length]);
                ExampleType { inputs: vec![tokens(), tokens()], targets: vec![tokens()], classes: Some(vocabulary) }
            }
        }
    }

    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<Batch, DataError> {
        let n = examples.len();
        let randoms = examples.iter().map(|&example| self.random(example, draw));
        match self.made {
            Made::Adding { length } => {
                let (mut inputs, mut targets) = (Vec::with_capacity(n * length * 2), Vec::with_capacity(n));
                for mut random in randoms {
                    let values: Vec<f32> = (0..length).map(|_| random.uniform() as f32).collect();
                    let half = length / 2;
                    let marked = [random.index(half), half + random.index(length - half)];
                    targets.push(values[marked[0]] + values[marked[1]]);
                    let mark = |at: usize| if marked.contains(&at) { 1.0 } else { 0.0 };
                    inputs.extend(values.iter().enumerate().flat_map(|(at, &value)| [value, mark(at)]));
                }
                Ok(Batch::new(Tensor::from_vec(inputs, [n, length, 2]), Tensor::from_vec(targets, [n, 1])))
            }
            Made::Sorting { length, vocabulary } => {
                let [mut source, mut said, mut sorted] = [const { Vec::<i64>::new() }; 3];
                for mut random in randoms {
                    let mut tokens: Vec<i64> = loop {
                        let tokens: Vec<i64> = (0..length).map(|_| 1 + random.index(vocabulary - 1) as i64).collect();
                        if part_of(&tokens) == self.part {
                            break tokens;
                        }
                    };
                    source.extend(&tokens);
                    tokens.sort_unstable();
                    said.push(0);
                    said.extend(&tokens[..length - 1]);
                    sorted.extend(&tokens);
                }
                let tensor = |tokens: Vec<i64>| Tensor::from_vec(tokens, [n, length]);
                Ok(Batch { inputs: vec![tensor(source), tensor(said)], targets: vec![tensor(sorted)] })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sums_are_those_of_the_marked_values() {
        for length in [2, 3, 100] {
            let set = Generated::new(Made::Adding { length }, Part::Train, 500, 1).unwrap();
            let batch = set.batch(&(0..500).collect::<Vec<_>>(), Some(Draw { seed: 2, epoch: 3 })).unwrap();
            let (inputs, targets) = (batch.input().to_vec::<f32>(), batch.target().to_vec::<f32>());
            let mut error = 0.0;
            for (example, target) in inputs.chunks(2 * length).zip(&targets) {
                let pairs: Vec<(f32, f32)> =
                    example.as_chunks::<2>().0.iter().map(|&[value, mark]| (value, mark)).collect();
                let marks: Vec<usize> = (0..length).filter(|&at| pairs[at].1 == 1.0).collect();
                assert!(marks.len() == 2 && marks[0] < length / 2 && marks[1] >= length / 2, "{marks:?}");
                assert_eq!(pairs[marks[0]].0 + pairs[marks[1]].0, *target);
                error += (target - 1.0).powi(2) / 500.0;
            }
            assert!((error - 1.0 / 6.0).abs() < 0.03, "{error}");
        }
    }

    #[test]
    fn parts_have_nothing_in_common_and_only_training_changes() {
        let part = |part| Generated::new(Made::Sorting { length: 3, vocabulary: 12 }, part, 400, 7).unwrap();
        let all: Vec<usize> = (0..400).collect();
        let sequences = |set: &Generated, draw| -> HashSet<Vec<i64>> {
            set.batch(&all, draw).unwrap().input().to_vec::<i64>().chunks(3).map(<[i64]>::to_vec).collect()
        };
        let draw = |epoch| Some(Draw { seed: 1, epoch });
        let (train, test) = (part(Part::Train), part(Part::Test));
        let (first, second) = (sequences(&train, draw(0)), sequences(&train, draw(1)));
        assert_ne!(first, second);
        let tested = sequences(&test, None);
        assert!(tested.len() > 40, "{}", tested.len());
        for other in [first, second, sequences(&part(Part::Validation), None)] {
            assert!(other.is_disjoint(&tested));
        }
        let alone = test.batch(&[17], None).unwrap().input().to_vec::<i64>();
        assert_eq!(test.batch(&all, None).unwrap().input().to_vec::<i64>()[51..54], alone);
    }

    #[test]
    fn too_small_ones_are_refused() {
        let wrong = |made| Generated::new(made, Part::Train, 10, 0).unwrap_err().to_string();
        assert!(wrong(Made::Adding { length: 1 }).contains("at least 2"));
        for (length, vocabulary) in [(0, 0), (0, 50), (3, 10), (5, 1), (10, 2)] {
            assert!(wrong(Made::Sorting { length, vocabulary }).contains("fewer than 1000 sequences"));
        }
        assert!(Generated::new(Made::Adding { length: 2 }, Part::Train, 0, 0).is_err());
    }
}
