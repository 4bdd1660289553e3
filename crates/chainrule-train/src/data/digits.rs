//! Handwritten digits: 1,797 images of 8×8 pixels, carried inside the crate, so that a first training needs no download.
//!
//! E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998,
//! <https://doi.org/10.24432/C50P49>, CC BY 4.0; the test part, as scikit-learn ships it. See `data/README.md`.
//!
//! The split is ours and fixed for ever: see `Digits::split` in the source.

use super::idx::{self, Elements};
use super::random::Random;
use super::{Arrays, DataError, Targets};

static IMAGES: &[u8] = include_bytes!("../../data/digits-images.idx.gz");
static LABELS: &[u8] = include_bytes!("../../data/digits-labels.idx.gz");

/// Images in the set.
pub const COUNT: usize = 1797;
/// Height and width of an image.
pub const SIDE: usize = 8;
/// Pixels of an image.
pub const PIXELS: usize = SIDE * SIDE;
/// Classes: the digits 0 to 9.
pub const CLASSES: usize = 10;

/// The largest pixel value in the files; pixels are divided by it, which is exact.
const WHITE: u8 = 16;
const SPLIT_SEED: u64 = 1797;

/// Images and their labels, in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// Pixels from 0 (paper) to 1 (ink), [`PIXELS`] an image, row by row.
    pub images: Vec<f32>,
    /// The digit of each image, 0 to 9.
    pub labels: Vec<i64>,
}

impl Examples {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of one image. Panics past the end, as a slice does.
    pub fn image(&self, index: usize) -> &[f32] {
        &self.images[index * PIXELS..(index + 1) * PIXELS]
    }

    /// The examples at these indices, in that order. Panics past the end, as a slice does.
    pub fn select(&self, indices: &[usize]) -> Examples {
        Examples {
            images: indices.iter().flat_map(|&index| self.image(index)).copied().collect(),
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
        }
    }
}

/// The whole set and its fixed split.
#[derive(Debug, Clone, PartialEq)]
pub struct Digits {
    /// All [`COUNT`] examples, in the order of the source.
    pub all: Examples,
    /// Which of them are for training, ascending.
    pub train_indices: Vec<usize>,
    /// Which of them are for testing, ascending.
    pub test_indices: Vec<usize>,
}

impl Digits {
    /// Unpacks the set. An error means that the crate itself was built from damaged files.
    pub fn load() -> Result<Digits, DataError> {
        let pixels = bytes("digits images", IMAGES, &[COUNT, SIDE, SIDE], WHITE)?;
        let labels = bytes("digits labels", LABELS, &[COUNT], CLASSES as u8 - 1)?;
        let all = Examples {
            images: pixels.iter().map(|&pixel| pixel as f32 / WHITE as f32).collect(),
            labels: labels.iter().map(|&label| label as i64).collect(),
        };
        let (train_indices, test_indices) = Digits::split(&all.labels);
        Ok(Digits { all, train_indices, test_indices })
    }

    /// The 1,438 training examples, in the order of the source: shuffle them before training.
    pub fn train(&self) -> Examples {
        self.all.select(&self.train_indices)
    }

    /// The 359 test examples.
    pub fn test(&self) -> Examples {
        self.all.select(&self.test_indices)
    }

    /// The training part as a set of images `[1, 8, 8]`.
    pub fn train_set(&self) -> Result<Arrays, DataError> {
        Digits::set(self.train())
    }

    /// The test part as a set of images `[1, 8, 8]`.
    pub fn test_set(&self) -> Result<Arrays, DataError> {
        Digits::set(self.test())
    }

    fn set(examples: Examples) -> Result<Arrays, DataError> {
        Arrays::new(examples.images, &[1, SIDE, SIDE], Targets::classes(examples.labels, CLASSES)?)
    }

    /// Indices for training and for testing. A fifth of each class, rounded, goes to the test part: the first of the
    /// class's indices after a Fisher–Yates shuffle whose numbers come from SplitMix64, one generator through the
    /// classes 0 to 9. No version of this crate may change it; a test holds it to a checksum.
    ///
    /// The files do not say who wrote which digit, so both parts share their writers.
    fn split(labels: &[i64]) -> (Vec<usize>, Vec<usize>) {
        let mut random = Random::from_state(SPLIT_SEED);
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for class in 0..CLASSES as i64 {
            let mut members: Vec<usize> = (0..labels.len()).filter(|&index| labels[index] == class).collect();
            for last in (1..members.len()).rev() {
                members.swap(last, random.below(last as u64 + 1) as usize);
            }
            let for_test = (members.len() * 2 + 5) / 10;
            test.extend(&members[..for_test]);
            train.extend(&members[for_test..]);
        }
        train.sort_unstable();
        test.sort_unstable();
        (train, test)
    }
}

/// The bytes of one of the two files, with shape and range checked.
fn bytes(what: &str, file: &[u8], shape: &[usize], largest: u8) -> Result<Vec<u8>, DataError> {
    let unexpected =
        |expected: String, found: String| Err(DataError::Unexpected { what: what.into(), expected, found });
    let array = idx::read(file)?;
    match array.elements {
        Elements::U8(values) if array.shape == shape => match values.iter().position(|&value| value > largest) {
            None => Ok(values),
            Some(at) => unexpected(format!("values up to {largest}"), format!("{} at element {at}", values[at])),
        },
        elements => unexpected(format!("u8{shape:?}"), format!("{}{:?}", elements.type_name(), array.shape)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fnv1a(indices: &[usize]) -> u64 {
        let bytes = indices.iter().flat_map(|&index| (index as u32).to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3))
    }

    #[test]
    fn the_set_is_the_published_one() {
        let digits = Digits::load().unwrap();
        let counts: Vec<_> =
            (0..10).map(|class| digits.all.labels.iter().filter(|&&label| label == class).count()).collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(digits.all.labels[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
        // The first image, a zero, as load_digits() gives it; and the sum of all pixels there.
        assert_eq!(
            digits.all.image(0)[..16].iter().map(|p| (p * 16.0) as u8).collect::<Vec<_>>(),
            [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]
        );
        assert_eq!(digits.all.images.iter().map(|&pixel| pixel as f64 * 16.0).sum::<f64>(), PIXEL_SUM);
    }

    #[test]
    fn the_split_never_changes() {
        let digits = Digits::load().unwrap();
        assert_eq!((digits.train_indices.len(), digits.test_indices.len()), (1438, 359));
        let mut both = [&digits.train_indices[..], &digits.test_indices[..]].concat();
        both.sort_unstable();
        assert_eq!(both, (0..COUNT).collect::<Vec<_>>());
        let test = digits.test();
        for class in 0..10 {
            assert!((34..=37).contains(&test.labels.iter().filter(|&&label| label == class).count()));
        }
        assert_eq!(test.image(3), digits.all.image(digits.test_indices[3]));
        assert_eq!((fnv1a(&digits.train_indices), fnv1a(&digits.test_indices)), SPLIT_CHECKSUMS);
    }

    const PIXEL_SUM: f64 = 561718.0;
    const SPLIT_CHECKSUMS: (u64, u64) = (0xbfe6_1488_6eb5_cc1a, 0x26d3_4e61_6bd0_5c7f);
}
