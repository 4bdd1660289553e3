//! The MNIST family: a folder with four IDX files under their standard names, gzip-compressed or not.
//!
//! Y. LeCun, C. Cortes and C. Burges, *The MNIST database of handwritten digits*, 1998; H. Xiao, K. Rasul and
//! R. Vollgraf, *Fashion-MNIST*, 2017; whoever keeps to their file names is read as well. A file of images is
//! `u8[n, height, width]`, a file of labels `u8[n]`.

use std::path::{Path, PathBuf};

use super::idx::{self, Elements};
use super::{Arrays, DataError, Numbers, Targets};

/// The stems of the two files of a part; the ends are `-images-idx3-ubyte` and `-labels-idx1-ubyte`.
pub const TRAIN: &str = "train";
/// As [`TRAIN`], of the test part.
pub const TEST: &str = "t10k";

/// Both files of a part in a folder, if both are there.
pub fn files(folder: &Path, stem: &str) -> Option<(PathBuf, PathBuf)> {
    // As published, and with the dot that some unpackers leave before "idx".
    let names = |kind: &str, rank: u8| {
        ["-", "."]
            .map(|dash| format!("{stem}-{kind}{dash}idx{rank}-ubyte"))
            .into_iter()
            .flat_map(|name| [format!("{name}.gz"), name])
    };
    let find = |kind: &str, rank: u8| names(kind, rank).map(|name| folder.join(name)).find(|path| path.is_file());
    Some((find("images", 3)?, find("labels", 1)?))
}

/// A file of images and a file of labels: inputs `[1, height, width]` from 0 to 1.
///
/// # Errors
/// If a file cannot be read, is no array of bytes of that rank, or has another number of examples than the other.
pub fn read(images: &Path, labels: &Path, classes: usize) -> Result<Arrays, DataError> {
    let (shape, pixels) = bytes(images, 3)?;
    let (_, classes_of) = bytes(labels, 1)?;
    let in_labels = |source| DataError::in_file(labels, source);
    if classes_of.len() != shape[0] {
        return Err(in_labels(DataError::Unexpected {
            what: "labels".into(),
            expected: format!("{}, as there are images in {}", shape[0], images.display()),
            found: classes_of.len().to_string(),
        }));
    }
    let targets = Targets::classes(classes_of.into_iter().map(i64::from).collect(), classes).map_err(in_labels)?;
    let pixels = Numbers::U8 { bytes: pixels, white: u8::MAX };
    Arrays::new(pixels, &[1, shape[1], shape[2]], targets).map_err(|source| DataError::in_file(images, source))
}

fn bytes(path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let array = idx::read_file(path)?;
    match array.elements {
        Elements::U8(bytes) if array.shape.len() == rank => Ok((array.shape, bytes)),
        elements => Err(DataError::in_file(
            path,
            DataError::Unexpected {
                what: "array".into(),
                expected: format!("bytes (u8) of rank {rank}"),
                found: format!("{}{:?}", elements.type_name(), array.shape),
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    fn idx_file(shape: &[u32], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_folder_is_read_by_the_standard_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(files(folder.path(), TRAIN), None);
        std::fs::write(at("t10k-images.idx3-ubyte"), idx_file(&[2, 1, 2], &[0, 255, 51, 0])).unwrap();
        std::fs::write(at("t10k-labels-idx1-ubyte"), idx_file(&[2], &[3, 9])).unwrap();
        let (images, labels) = files(folder.path(), TEST).unwrap();
        let set = read(&images, &labels, 10).unwrap();
        let batch = set.batch(&[0, 1], None).unwrap();
        assert_eq!(batch.input().shape(), [2, 1, 1, 2]);
        assert_eq!(batch.input().to_vec::<f32>(), [0.0, 1.0, 0.2, 0.0]);
        assert_eq!(batch.target().to_vec::<i64>(), [3, 9]);

        let wrong = |result: Result<Arrays, DataError>| result.unwrap_err().to_string();
        assert!(wrong(read(&images, &labels, 5)).contains("label of example 1: expected a class from 0 to 4, found 9"));
        assert!(wrong(read(&labels, &labels, 10)).contains("bytes (u8) of rank 3, found u8[2]"));
        std::fs::write(at("t10k-labels-idx1-ubyte"), idx_file(&[1], &[3])).unwrap();
        assert!(wrong(read(&images, &labels, 10)).contains("labels: expected 2, as there are images in"));
    }
}
