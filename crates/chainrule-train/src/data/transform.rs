//! Transforms: what is done to examples on their way to a model, one after the other, each a set around a set.
//!
//! What is random happens in training only, and is a function of seed, epoch, example and the transform's place.

use std::sync::Arc;

use chainrule::tensor::{DType, Tensor, Type};
use serde::{Deserialize, Serialize};

use super::random::Random;
use super::{Batch, DataError, Dataset, Draw, ExampleType};

/// What the numbers of a transform are drawn for, with its place added.
const TRANSFORM: u64 = 0x7472_616e_0000;
/// Rectangles that are tried before an image stays as it is.
const TRIES: usize = 10;
/// Examples whose statistics are taken at once.
const PIECE: usize = 256;

/// One step on the way of the first input; images are `[channels, height, width]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Transform {
    /// All numbers in one row, as a fully connected network takes them.
    Flatten,
    /// `(x − mean)/std` for each channel (the first axis); one number is for all, none are computed from the training
    /// part.
    Normalise {
        /// Means.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mean: Option<Vec<f32>>,
        /// Standard deviations.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        std: Option<Vec<f32>>,
    },
    /// Zeros around the image, then a random cut of its old size: a shift by up to `padding`.
    PadCrop {
        /// Pixels on each side.
        padding: usize,
    },
    /// Left and right change places in half of the images.
    Flip,
    /// A random rectangle becomes 0 (Zhong, Zheng, Kang, Li and Yang, "Random erasing data augmentation", 2017), of
    /// 0.02 to 0.4 of the area and with sides in a proportion of 0.3 to 1/0.3.
    Erase {
        /// The fraction of images.
        probability: f64,
    },
    /// Each example mixed with another, `λ·a + (1 − λ)·b` with λ from Beta(alpha, alpha) (Zhang, Cisse, Dauphin and
    /// Lopez-Paz, "mixup", 2018). Classes become probabilities, f32 `[classes]`; parts for validation and testing keep
    /// their classes.
    Mixup {
        /// Of the distribution; 0.2 is usual.
        alpha: f64,
    },
}

/// A set, transformed.
///
/// ```
/// use chainrule_train::data::{Arrays, Dataset, Draw, Targets, Transform, Transformed};
/// use std::sync::Arc;
///
/// let images = Arrays::new(vec![1.0, 2.0, 3.0, 4.0], &[1, 1, 2], Targets::classes(vec![0, 1], 2)?)?;
/// let set = Transformed::new(Arc::new(images), Transform::Normalise { mean: Some(vec![1.0]), std: Some(vec![2.0]) }, 0)?;
/// assert_eq!(set.batch(&[1], None)?.input().to_vec::<f32>(), [1.0, 1.5]);
/// # Ok::<(), chainrule_train::data::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Transformed {
    of: Arc<dyn Dataset>,
    transform: Transform,
    place: u64,
}

/// The sizes of an image.
type Sizes = [usize; 3];

impl Transform {
    /// Whether it acts in training only and changes what a target is.
    pub(crate) fn only_training(&self) -> bool {
        matches!(self, Transform::Mixup { .. })
    }

    /// Itself, with what it needs of the training part filled in.
    ///
    /// # Errors
    /// If an example cannot be read.
    pub fn fitted(self, train: &dyn Dataset) -> Result<Transform, DataError> {
        match self {
            Transform::Normalise { mean, std } if mean.is_none() || std.is_none() => {
                let (m, s) = statistics(train)?;
                Ok(Transform::Normalise { mean: mean.or(Some(m)), std: std.or(Some(s)) })
            }
            other => Ok(other),
        }
    }

    /// The type of an example once it is transformed.
    ///
    /// # Errors
    /// If it cannot be applied to such examples.
    pub fn example(&self, mut of: ExampleType) -> Result<ExampleType, DataError> {
        let name = self.name();
        let wrong = |problem: String| Err(DataError::Setting(format!("transform {name}: {problem}")));
        let Some(input) = of.inputs.first_mut() else { return wrong("the examples have no input".into()) };
        if input.dtype != DType::F32 {
            return wrong(format!("it takes numbers (f32), and the examples are {input}"));
        }
        match self {
            Transform::Flatten => *input = Type::new(DType::F32, [input.numel()]),
            Transform::Normalise { mean, std } => {
                let channels = input.shape.first().copied().unwrap_or(1);
                for (what, values) in [("mean", mean), ("std", std)] {
                    let Some(values) = values else { continue };
                    if values.len() != 1 && values.len() != channels {
                        return wrong(format!(
                            "{} numbers of {what} for {channels} channels; one each, or one for all",
                            values.len()
                        ));
                    }
                    if values.iter().any(|v| !v.is_finite() || (what == "std" && *v <= 0.0)) {
                        return wrong(format!("{what} = {values:?}: finite numbers, std above 0"));
                    }
                }
            }
            Transform::PadCrop { .. } | Transform::Flip | Transform::Erase { .. } if input.shape.len() != 3 => {
                return wrong(format!("it takes images [channels, height, width], and the examples are {input}"));
            }
            Transform::Erase { probability } if !(0.0..=1.0).contains(probability) => {
                return wrong(format!("probability = {probability}: from 0 to 1"));
            }
            Transform::Mixup { .. } if of.inputs.len() > 1 => {
                return wrong(format!("it mixes examples of one input, and these have {}", of.inputs.len()));
            }
            Transform::Mixup { alpha } => {
                if !(*alpha > 0.0 && alpha.is_finite()) {
                    return wrong(format!("alpha = {alpha}: a number above 0, as in 0.2"));
                }
                if let (Some(classes), Some(target)) = (of.classes, of.targets.first_mut())
                    && target.dtype == DType::I64
                {
                    let shape = target.shape.iter().copied().chain([classes]).collect::<Vec<_>>();
                    *target = Type::new(DType::F32, shape);
                }
            }
            _ => {}
        }
        Ok(of)
    }

    fn name(&self) -> &'static str {
        match self {
            Transform::Flatten => "flatten",
            Transform::Normalise { .. } => "normalise",
            Transform::PadCrop { .. } => "pad_crop",
            Transform::Flip => "flip",
            Transform::Erase { .. } => "erase",
            Transform::Mixup { .. } => "mixup",
        }
    }

    /// Does what is random to one image.
    fn draw(&self, image: &mut [f32], sizes: Sizes, random: &mut Random) {
        match *self {
            Transform::PadCrop { padding } => {
                let shift = |random: &mut Random| random.index(2 * padding + 1) as isize - padding as isize;
                let (down, right) = (shift(random), shift(random));
                shifted(image, sizes, down, right);
            }
            Transform::Flip if random.uniform() < 0.5 => {
                image.chunks_exact_mut(sizes[2].max(1)).for_each(<[f32]>::reverse)
            }
            Transform::Erase { probability } if random.uniform() < probability => erase(image, sizes, random),
            _ => {}
        }
    }
}

/// Moves an image up by `down` and left by `right`, with zeros where nothing was.
fn shifted(image: &mut [f32], [_, height, width]: Sizes, down: isize, right: isize) {
    let old = image.to_vec();
    for (at, pixel) in image.iter_mut().enumerate() {
        let (channel, row, column) = (at / (height * width), at / width % height, at % width);
        let from = row.checked_add_signed(down).zip(column.checked_add_signed(right));
        *pixel = match from {
            Some((row, column)) if row < height && column < width => old[(channel * height + row) * width + column],
            _ => 0.0,
        };
    }
}

fn erase(image: &mut [f32], [channels, height, width]: Sizes, random: &mut Random) {
    for _ in 0..TRIES {
        let area = (0.02 + 0.38 * random.uniform()) * (height * width) as f64;
        let ratio = 0.3 + (1.0 / 0.3 - 0.3) * random.uniform();
        let (tall, wide) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
        if tall == 0 || wide == 0 || tall >= height || wide >= width {
            continue;
        }
        let (top, left) = (random.index(height - tall + 1), random.index(width - wide + 1));
        for row in (0..channels).flat_map(|channel| (top..top + tall).map(move |row| channel * height + row)) {
            image[row * width + left..][..wide].fill(0.0);
        }
        return;
    }
}

/// Mean and standard deviation of each channel (the first axis) over all examples; a channel that is the same
/// everywhere has a standard deviation of 1, so that it becomes 0.
fn statistics(set: &dyn Dataset) -> Result<(Vec<f32>, Vec<f32>), DataError> {
    let example = set.example();
    let input = example.inputs.first().filter(|input| input.dtype == DType::F32 && input.numel() > 0);
    let Some(input) = input else {
        return Err(DataError::Setting("transform normalise: the examples are no numbers (f32)".into()));
    };
    let channels = input.shape.first().copied().unwrap_or(1);
    let (each, run) = (input.numel(), input.numel() / channels);
    let mut sums = vec![(0.0f64, 0.0f64); channels];
    let all: Vec<usize> = (0..set.len()).collect();
    for piece in all.chunks(PIECE) {
        let values = set.batch(piece, None)?.input().to_vec::<f32>();
        for (at, run) in values.chunks_exact(run).enumerate() {
            let (sum, squares) = &mut sums[at % channels];
            for &value in run {
                *sum += value as f64;
                *squares += value as f64 * value as f64;
            }
        }
    }
    let count = (set.len() * each / channels) as f64;
    let of = |&(sum, squares): &(f64, f64)| {
        let mean = sum / count;
        let std = (squares / count - mean * mean).max(0.0).sqrt();
        (mean as f32, if std > 1e-6 { std as f32 } else { 1.0 })
    };
    Ok(sums.iter().map(of).unzip())
}

impl Transformed {
    /// A set with one more transform; `place` is how many came before.
    ///
    /// # Errors
    /// If the transform cannot be applied to such examples.
    pub fn new(of: Arc<dyn Dataset>, transform: Transform, place: usize) -> Result<Transformed, DataError> {
        let transform = transform.fitted(of.as_ref())?;
        transform.example(of.example())?;
        Ok(Transformed { of, transform, place: place as u64 })
    }

    /// Each with another that is drawn for it.
    fn mixed(&self, batch: Batch, alpha: f64, examples: &[usize], draw: Option<Draw>) -> Result<Batch, DataError> {
        let mut parts = Vec::with_capacity(examples.len());
        let mut others = Vec::with_capacity(examples.len());
        for &example in examples {
            let mut random = draw.map(|draw| self.random(draw, example));
            others.push(random.as_mut().map_or(example, |random| random.index(self.of.len())));
            parts.push(random.map_or(1.0, |mut random| random.beta(alpha, alpha)) as f32);
        }
        let other = if draw.is_some() { self.of.batch(&others, draw)? } else { batch.clone() };
        let mix = |a: &Tensor, b: &Tensor| {
            let each = a.numel() / parts.len().max(1);
            let (mut a_values, b_values) = (a.to_vec::<f32>(), b.to_vec::<f32>());
            for (at, value) in a_values.iter_mut().enumerate() {
                let part = parts[at / each];
                *value = part * *value + (1.0 - part) * b_values[at];
            }
            Tensor::from_vec(a_values, a.shape().to_vec())
        };
        let inputs = [vec![mix(batch.input(), other.input())], batch.inputs[1..].to_vec()].concat();
        let classes = self.of.example().classes;
        let probabilities = |target: &Tensor| match (target.dtype(), classes) {
            (DType::I64, Some(classes)) => {
                let labels = target.to_vec::<i64>();
                let hot = labels
                    .iter()
                    .flat_map(|&label| (0..classes as i64).map(move |class| (class == label) as u8 as f32));
                Tensor::from_vec(hot.collect::<Vec<_>>(), [target.shape(), &[classes]].concat())
            }
            _ => target.clone(),
        };
        let mut targets = batch.targets.clone();
        if let (Some(target), Some(other)) = (targets.first_mut(), other.targets.first()) {
            let (a, b) = (probabilities(target), probabilities(other));
            *target = if a.dtype() == DType::F32 { mix(&a, &b) } else { a };
        }
        Ok(Batch { inputs, targets })
    }

    fn random(&self, draw: Draw, example: usize) -> Random {
        Random::of(&[draw.seed, draw.epoch, example as u64, TRANSFORM + self.place])
    }
}

impl Dataset for Transformed {
    fn len(&self) -> usize {
        self.of.len()
    }

    fn example(&self) -> ExampleType {
        self.transform.example(self.of.example()).expect("it was checked when the set was made")
    }

    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<Batch, DataError> {
        let mut batch = self.of.batch(examples, draw)?;
        let shape = batch.input().shape().to_vec();
        let input = match &self.transform {
            Transform::Mixup { alpha } => return self.mixed(batch, *alpha, examples, draw),
            Transform::Flatten => {
                let each = shape[1..].iter().product();
                Tensor::from_vec(batch.input().to_vec::<f32>(), [examples.len(), each])
            }
            Transform::Normalise { mean, std } => {
                let channels = shape.get(1).copied().unwrap_or(1);
                let run = shape[1..].iter().product::<usize>() / channels.max(1);
                let of = |values: &Option<Vec<f32>>, channel: usize| {
                    values
                        .as_ref()
                        .map(|values| values[channel % values.len()])
                        .expect("it was fitted when the set was made")
                };
                let mut values = batch.input().to_vec::<f32>();
                for (at, run) in values.chunks_exact_mut(run.max(1)).enumerate() {
                    let (mean, std) = (of(mean, at % channels), of(std, at % channels));
                    run.iter_mut().for_each(|value| *value = (*value - mean) / std);
                }
                Tensor::from_vec(values, shape)
            }
            random => {
                let Some(draw) = draw else { return Ok(batch) };
                let mut values = batch.input().to_vec::<f32>();
                let sizes = [shape[1], shape[2], shape[3]];
                for (image, &example) in values.chunks_exact_mut(sizes.iter().product::<usize>().max(1)).zip(examples) {
                    random.draw(image, sizes, &mut self.random(draw, example));
                }
                Tensor::from_vec(values, shape)
            }
        };
        batch.inputs[0] = input;
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Arrays, Targets};

    const DRAW: Option<Draw> = Some(Draw { seed: 5, epoch: 2 });

    /// `n` images of two channels, 6×5, of different numbers; class n % 3.
    fn images(n: usize) -> Arc<dyn Dataset> {
        let values = (0..n * 60).map(|at| 1.0 + (at % 97) as f32).collect::<Vec<_>>();
        let labels = Targets::classes((0..n as i64).map(|at| at % 3).collect(), 3).unwrap();
        Arc::new(Arrays::new(values, &[2, 6, 5], labels).unwrap())
    }

    fn inputs(set: &dyn Dataset, examples: &[usize], draw: Option<Draw>) -> Vec<f32> {
        set.batch(examples, draw).unwrap().input().to_vec()
    }

    #[test]
    fn random_ones_depend_on_example_and_epoch_only_and_stay_away_from_tests() {
        let all: Vec<usize> = (0..40).collect();
        let rows = [
            Transform::PadCrop { padding: 2 },
            Transform::Flip,
            Transform::Erase { probability: 0.7 },
            Transform::Mixup { alpha: 0.4 },
        ];
        for transform in rows {
            let set = Transformed::new(images(40), transform.clone(), 1).unwrap();
            let whole = inputs(&set, &all, DRAW);
            assert_eq!(inputs(&set, &[31, 7], DRAW), [&whole[31 * 60..32 * 60], &whole[7 * 60..8 * 60]].concat());
            assert_ne!(inputs(&set, &all, Some(Draw { seed: 5, epoch: 3 })), whole, "{transform:?}");
            assert_ne!(inputs(&Transformed::new(images(40), transform.clone(), 2).unwrap(), &all, DRAW), whole);
            assert_eq!(inputs(&set, &all, None), inputs(images(40).as_ref(), &all, None), "{transform:?}");
            let (example, batch) = (set.example(), set.batch(&all, DRAW).unwrap());
            assert_eq!(
                (example.targets[0].dtype, &example.targets[0].shape[..]),
                (batch.target().dtype(), &batch.target().shape()[1..])
            );
        }
    }

    #[test]
    fn crops_are_shifts_and_flips_are_mirrors() {
        let old = inputs(images(300).as_ref(), &(0..300).collect::<Vec<_>>(), None);
        let pixel = |image: usize, channel: usize, row: isize, column: isize| match (0..6).contains(&row)
            && (0..5).contains(&column)
        {
            true => old[((image * 2 + channel) * 6 + row as usize) * 5 + column as usize],
            false => 0.0,
        };
        let made = |image: usize, at: &dyn Fn(isize, isize) -> (isize, isize)| -> Vec<f32> {
            let places = (0..2).flat_map(|channel| (0..30).map(move |p| (channel, p / 5, p % 5)));
            places
                .map(|(channel, row, column)| {
                    let (r, c) = at(row, column);
                    pixel(image, channel, r, c)
                })
                .collect()
        };
        let crop = Transformed::new(images(300), Transform::PadCrop { padding: 1 }, 0).unwrap();
        let flip = Transformed::new(images(300), Transform::Flip, 0).unwrap();
        let mut shifts = [0; 9];
        let mut flipped = 0;
        for image in 0..300 {
            let cut = inputs(&crop, &[image], DRAW);
            let shift = (0..9).find(|shift| made(image, &|r, c| (r + shift / 3 - 1, c + shift % 3 - 1)) == cut);
            shifts[shift.expect("a shift") as usize] += 1;
            let mirrored = inputs(&flip, &[image], DRAW);
            if mirrored == made(image, &|r, c| (r, 4 - c)) {
                flipped += 1;
            } else {
                assert_eq!(mirrored, made(image, &|r, c| (r, c)));
            }
        }
        assert!(shifts.iter().all(|&count| count > 15) && (110..190).contains(&flipped), "{shifts:?} {flipped}");
    }

    #[test]
    fn erased_is_one_rectangle_in_all_channels() {
        let erase = Transformed::new(images(400), Transform::Erase { probability: 0.5 }, 0).unwrap();
        let mut erased = 0;
        for image in 0..400 {
            let values = inputs(&erase, &[image], DRAW);
            let zeros: Vec<usize> = (0..30).filter(|&at| values[at] == 0.0).collect();
            assert!((0..30).all(|at| (values[at] == 0.0) == (values[30 + at] == 0.0)));
            let (Some(first), Some(last)) = (zeros.first(), zeros.last()) else { continue };
            let (tall, wide) = (last / 5 - first / 5 + 1, last % 5 - first % 5 + 1);
            assert_eq!(zeros.len(), tall * wide, "{zeros:?}");
            assert!(zeros.len() <= 16, "{zeros:?}");
            erased += 1;
        }
        assert!((150..250).contains(&erased), "{erased}");
    }

    #[test]
    fn mixup_mixes_inputs_and_classes_alike() {
        let labels = Targets::classes((0..50).map(|n| n % 5).collect(), 5).unwrap();
        let hot = (0..50).flat_map(|n| (0..5).map(move |c| (c == n % 5) as u8 as f32)).collect::<Vec<_>>();
        let set =
            Transformed::new(Arc::new(Arrays::new(hot, &[5], labels).unwrap()), Transform::Mixup { alpha: 1.0 }, 0)
                .unwrap();
        let all: Vec<usize> = (0..50).collect();
        let batch = set.batch(&all, DRAW).unwrap();
        assert_eq!(batch.input().to_vec::<f32>(), batch.target().to_vec::<f32>());
        let mixed = batch.target().to_vec::<f32>().chunks(5).filter(|row| row.iter().all(|p| *p < 1.0)).count();
        assert!(mixed > 25, "{mixed}");
        assert_eq!(set.batch(&[7], None).unwrap().target().to_vec::<f32>(), [0.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn normalised_training_data_have_mean_0_and_std_1() {
        let set = Transformed::new(images(30), Transform::Normalise { mean: None, std: None }, 0).unwrap();
        let (mean, std) = statistics(&set).unwrap();
        assert!(mean.iter().all(|m| m.abs() < 1e-5) && std.iter().all(|s| (s - 1.0).abs() < 1e-5), "{mean:?} {std:?}");
        let flat = Transformed::new(Arc::new(set), Transform::Flatten, 1).unwrap();
        assert_eq!(flat.example().inputs[0], Type::new(DType::F32, [60]));
    }

    #[test]
    fn what_cannot_be_applied_is_said() {
        let flat: Arc<dyn Dataset> = Arc::new(Arrays::new(vec![1.0; 4], &[2], Targets::None).unwrap());
        let normalise = |mean: Vec<f32>, std: Vec<f32>| Transform::Normalise { mean: Some(mean), std: Some(std) };
        let rows = [
            (
                &flat,
                Transform::Flip,
                "transform flip: it takes images [channels, height, width], and the examples are f32[2]",
            ),
            (&images(3), Transform::Erase { probability: 1.5 }, "from 0 to 1"),
            (&images(3), Transform::Mixup { alpha: 0.0 }, "a number above 0"),
            (&images(3), normalise(vec![0.0; 3], vec![1.0]), "3 numbers of mean for 2 channels"),
            (&images(3), normalise(vec![0.0], vec![0.0]), "std above 0"),
        ];
        for (set, transform, expected) in rows {
            let message = Transformed::new(set.clone(), transform, 0).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}\n  lacks: {expected}");
        }
        let read: Result<Transform, _> = serde_json::from_str("{\"pad_crop\": {\"pading\": 2}}");
        assert!(read.unwrap_err().to_string().contains("pading"));
    }
}
