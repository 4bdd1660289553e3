//! What is in a set: counts, ranges, how many of each class; and a sheet of its first images as PNG.

use chainrule::tensor::{DType, Tensor};
use serde::Serialize;

use super::{DataError, Dataset};

/// Examples that are looked at together.
const PIECE: usize = 256;
/// Small images are drawn larger, by a whole number, until their longer side is about this.
const SIDE: usize = 64;
/// Pixels between images.
const GAP: usize = 2;
/// The grey between images.
const BETWEEN: u8 = 96;

/// Numbers of one input or target over all examples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Type of one example, as in `f32[1,8,8]`.
    pub form: String,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub std: f64,
    /// How many are not finite; the others are not counted with them.
    pub not_finite: usize,
}

/// What is in a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// How many examples.
    pub examples: usize,
    /// Each input.
    pub inputs: Vec<Range>,
    /// Each target.
    pub targets: Vec<Range>,
    /// How often each class is the first target (each token, for text), if it is one of classes.
    pub balance: Option<Vec<usize>>,
}

/// Looks at every example, as for a test.
///
/// # Errors
/// If one cannot be read.
///
/// ```
/// use chainrule_train::data::{Arrays, Targets, inspect};
/// let set = Arrays::new(vec![1.0, 2.0, 6.0], &[1], Targets::classes(vec![0, 1, 1], 2)?)?;
/// let found = inspect(&set)?;
/// assert_eq!((found.inputs[0].min, found.inputs[0].max, found.inputs[0].mean), (1.0, 6.0, 3.0));
/// assert_eq!(found.balance, Some(vec![1, 2]));
/// # Ok::<(), chainrule_train::data::DataError>(())
/// ```
pub fn inspect(set: &dyn Dataset) -> Result<Inspection, DataError> {
    let example = set.example();
    let mut inputs = vec![Sums::default(); example.inputs.len()];
    let mut targets = vec![Sums::default(); example.targets.len()];
    let labelled = example.targets.first().is_some_and(|target| target.dtype == DType::I64);
    let mut balance = example.classes.filter(|_| labelled).map(|classes| vec![0; classes]);
    let all: Vec<usize> = (0..set.len()).collect();
    for piece in all.chunks(PIECE) {
        let batch = set.batch(piece, None)?;
        for (sums, tensor) in inputs.iter_mut().chain(&mut targets).zip(batch.inputs.iter().chain(&batch.targets)) {
            numbers(tensor).into_iter().for_each(|number| sums.add(number));
        }
        if let Some(balance) = &mut balance {
            for label in batch.target().to_vec::<i64>() {
                if let Some(count) = usize::try_from(label).ok().and_then(|label| balance.get_mut(label)) {
                    *count += 1;
                }
            }
        }
    }
    let ranges = |sums: &[Sums], types: &[chainrule::tensor::Type]| {
        sums.iter().zip(types).map(|(sums, ty)| sums.range(ty.to_string())).collect()
    };
    Ok(Inspection {
        examples: set.len(),
        inputs: ranges(&inputs, &example.inputs),
        targets: ranges(&targets, &example.targets),
        balance,
    })
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.cast(DType::F64).to_vec()
}

#[derive(Clone, Debug)]
struct Sums {
    count: usize,
    not_finite: usize,
    min: f64,
    max: f64,
    sum: f64,
    squares: f64,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums { count: 0, not_finite: 0, min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0, squares: 0.0 }
    }
}

impl Sums {
    fn add(&mut self, number: f64) {
        if !number.is_finite() {
            self.not_finite += 1;
            return;
        }
        self.count += 1;
        (self.min, self.max) = (self.min.min(number), self.max.max(number));
        self.sum += number;
        self.squares += number * number;
    }

    fn range(&self, form: String) -> Range {
        let count = self.count.max(1) as f64;
        let mean = self.sum / count;
        let std = (self.squares / count - mean * mean).max(0.0).sqrt();
        Range { form, min: self.min, max: self.max, mean, std, not_finite: self.not_finite }
    }
}

/// A picture of 8-bit red, green and blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Three bytes a pixel.
    pub rgb: Vec<u8>,
}

impl Sheet {
    /// Images f32 `[n, channels, height, width]` in a grid, from black at `low` to white at `high`; one channel or two
    /// are grey by the first, more are red, green and blue.
    ///
    /// # Errors
    /// If that is not what they are.
    pub fn grid(images: &Tensor, columns: usize, (low, high): (f32, f32)) -> Result<Sheet, DataError> {
        let &[count, channels, height, width] = images.shape() else { return Err(no_images(&images.ty().to_string())) };
        if images.dtype() != DType::F32 || images.numel() == 0 || columns == 0 {
            return Err(no_images(&images.ty().to_string()));
        }
        let values = images.to_vec::<f32>();
        let scale = (SIDE / height.max(width)).max(1);
        let (tall, wide) = (height * scale + GAP, width * scale + GAP);
        let columns = columns.min(count);
        let (all_wide, all_tall) = (columns * wide + GAP, count.div_ceil(columns) * tall + GAP);
        let mut rgb = vec![BETWEEN; 3 * all_wide * all_tall];
        let byte =
            |value: f32| (255.0 * (value - low) / (high - low).max(f32::MIN_POSITIVE)).round().clamp(0.0, 255.0) as u8;
        for (image, pixels) in values.chunks_exact(channels * height * width).enumerate() {
            let (top, left) = (GAP + image / columns * tall, GAP + image % columns * wide);
            for (y, x) in (0..height * scale).flat_map(|y| (0..width * scale).map(move |x| (y, x))) {
                let at = 3 * ((top + y) * all_wide + left + x);
                for colour in 0..3 {
                    let channel = if channels >= 3 { colour } else { 0 };
                    rgb[at + colour] = byte(pixels[(channel * height + y / scale) * width + x / scale]);
                }
            }
        }
        Ok(Sheet { width: all_wide, height: all_tall, rgb })
    }

    /// The first images of each class, a class a row; the first of all, where there are no classes.
    ///
    /// # Errors
    /// If the examples are no images `[channels, height, width]` or one cannot be read.
    pub fn of(set: &dyn Dataset, each: usize) -> Result<Sheet, DataError> {
        let example = set.example();
        let input = example.inputs.first().filter(|input| input.dtype == DType::F32 && input.shape.len() == 3);
        let Some(input) = input else {
            let found = example.inputs.iter().map(|input| input.to_string()).collect::<Vec<_>>().join(", ");
            return Err(no_images(&found));
        };
        let labelled =
            example.targets.first().is_some_and(|target| target.dtype == DType::I64 && target.shape.is_empty());
        let rows = example.classes.filter(|_| labelled).unwrap_or(each);
        let each = each.max(1);
        let mut found = vec![Vec::new(); rows.max(1)];
        let all: Vec<usize> = (0..set.len()).collect();
        for piece in all.chunks(PIECE) {
            if found.iter().all(|row| row.len() == each) {
                break;
            }
            let batch = set.batch(piece, None)?;
            let labels = if labelled { batch.target().to_vec::<i64>() } else { Vec::new() };
            let images = batch.input().to_vec::<f32>();
            for (at, image) in images.chunks_exact(input.numel().max(1)).enumerate() {
                let row = if labelled { labels[at] as usize } else { piece[at] / each };
                if let Some(row) = found.get_mut(row).filter(|row| row.len() < each) {
                    row.push(image.to_vec());
                }
            }
        }
        // A class with few images is filled up with nothing, so that rows stay rows.
        let blank = vec![0.0; input.numel()];
        let cells: Vec<f32> =
            found.iter().flat_map(|row| (0..each).flat_map(|at| row.get(at).unwrap_or(&blank)).copied()).collect();
        let (low, high) = cells.iter().fold((0f32, 1f32), |(low, high), &value| (low.min(value), high.max(value)));
        let shape = [&[found.len() * each], &input.shape[..]].concat();
        Sheet::grid(&Tensor::from_vec(cells, shape), each, (low, high))
    }

    /// As a PNG file.
    ///
    /// # Errors
    /// If it is too large for one.
    pub fn png(&self) -> Result<Vec<u8>, DataError> {
        let damaged = |problem: String| DataError::Damaged { what: "sheet of images".into(), problem };
        let side = |size: usize| u32::try_from(size).map_err(|_| damaged(format!("{size} pixels are too many")));
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&self.rgb));
        written.map_err(|error| damaged(error.to_string()))?;
        Ok(bytes)
    }
}

fn no_images(found: &str) -> DataError {
    DataError::Unexpected {
        what: "a sheet of images".into(),
        expected: "examples f32 [channels, height, width]".into(),
        found: found.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Arrays, Targets};

    #[test]
    fn a_class_is_a_row_of_the_sheet() {
        let values = vec![0.0, 0.25, 0.5, 1.0];
        let set = Arrays::new(values, &[1, 1, 1], Targets::classes(vec![1, 0, 1, 1], 2).unwrap()).unwrap();
        let sheet = Sheet::of(&set, 2).unwrap();
        let step = SIDE + GAP;
        assert_eq!((sheet.width, sheet.height), (2 * step + GAP, 2 * step + GAP));
        let at = |row: usize, column: usize| sheet.rgb[3 * ((GAP + row * step) * sheet.width + GAP + column * step)];
        // Class 0 has one image, class 1 the first two of three.
        assert_eq!([at(0, 0), at(0, 1), at(1, 0), at(1, 1)], [64, 0, 0, 128]);
        assert_eq!(sheet.rgb[0], BETWEEN);
        let png = png::Decoder::new(std::io::Cursor::new(sheet.png().unwrap())).read_info().unwrap();
        assert_eq!(png.info().width as usize, sheet.width);
    }

    #[test]
    fn colours_are_the_three_channels() {
        let image = Tensor::from_vec(vec![-1.0f32, 0.0, 1.0], [1, 3, 1, 1]);
        let sheet = Sheet::grid(&image, 8, (-1.0, 1.0)).unwrap();
        let at = 3 * (GAP * sheet.width + GAP);
        assert_eq!(sheet.rgb[at..at + 3], [0, 128, 255]);
        let error = Sheet::grid(&Tensor::from_vec(vec![0.0f32; 4], [2, 2]), 2, (0.0, 1.0)).unwrap_err().to_string();
        assert!(error.contains("expected examples f32 [channels, height, width], found f32[2,2]"), "{error}");
    }

    #[test]
    fn what_is_not_finite_is_counted_apart() {
        let set = Arrays::new(vec![1.0, f32::NAN, 3.0, f32::INFINITY], &[2], Targets::None).unwrap();
        let found = inspect(&set).unwrap();
        assert_eq!((found.inputs[0].not_finite, found.inputs[0].mean, found.balance), (2, 2.0, None));
    }
}
