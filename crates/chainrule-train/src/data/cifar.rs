//! CIFAR-10 and CIFAR-100 in their binary version (A. Krizhevsky, *Learning multiple layers of features from tiny
//! images*, 2009): records of one label (two for CIFAR-100, of which the fine one counts) and 3×32×32 bytes.

use std::path::{Path, PathBuf};

use super::{Arrays, DataError, Numbers, Targets};

/// Bytes of an image.
const PIXELS: usize = 3 * 32 * 32;
/// The most bytes a file may hold: ten times the largest there is.
const MAX_BYTES: u64 = 10 * 50_000 * (PIXELS as u64 + 2);

/// Names of CIFAR-10's classes.
pub const NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Files for training and for testing in a folder, or in the folder that the archive unpacks to, if all are there.
pub fn files(folder: &Path, classes: usize) -> Option<(Vec<PathBuf>, PathBuf)> {
    let (inner, train, test): (_, Vec<String>, _) = match classes {
        10 => ("cifar-10-batches-bin", (1..=5).map(|n| format!("data_batch_{n}.bin")).collect(), "test_batch.bin"),
        _ => ("cifar-100-binary", vec!["train.bin".into()], "test.bin"),
    };
    [folder.to_path_buf(), folder.join(inner)].into_iter().find_map(|folder| {
        let train: Vec<PathBuf> = train.iter().map(|name| folder.join(name)).collect();
        let test = folder.join(test);
        let all = train.iter().chain([&test]).all(|path| path.is_file());
        all.then_some((train, test))
    })
}

/// Files one after the other: inputs `[3, 32, 32]` from 0 to 1.
///
/// # Errors
/// If a file cannot be read, is not of whole records, or has a label beyond the classes.
pub fn read(paths: &[PathBuf], classes: usize) -> Result<Arrays, DataError> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths {
        let size = std::fs::metadata(path).map_err(|error| DataError::io(path, error))?.len();
        if size > MAX_BYTES {
            let found = format!("{size} bytes");
            let expected = format!("at most {MAX_BYTES} bytes");
            return Err(DataError::in_file(path, DataError::Unexpected { what: "file size".into(), expected, found }));
        }
        let bytes = std::fs::read(path).map_err(|error| DataError::io(path, error))?;
        let read = append(&bytes, classes, &mut pixels, &mut labels);
        read.map_err(|source| DataError::in_file(path, source))?;
    }
    let targets = Targets::classes(labels, classes)?;
    Arrays::new(Numbers::U8 { bytes: pixels, white: u8::MAX }, &[3, 32, 32], targets)
}

fn append(bytes: &[u8], classes: usize, pixels: &mut Vec<u8>, labels: &mut Vec<i64>) -> Result<(), DataError> {
    let before = if classes == 10 { 1 } else { 2 };
    let record = before + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(DataError::Unexpected {
            what: "CIFAR file".into(),
            expected: format!("whole records of {record} bytes"),
            found: format!("{} bytes", bytes.len()),
        });
    }
    let start = labels.len();
    labels.extend(bytes.chunks_exact(record).map(|record| record[before - 1] as i64));
    Targets::classes(labels[start..].to_vec(), classes)?;
    pixels.extend(bytes.chunks_exact(record).flat_map(|record| &record[before..]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    #[test]
    fn records_become_images_and_damage_is_said() {
        let folder = tempfile::tempdir().unwrap();
        for classes in [10, 100] {
            assert_eq!(files(folder.path(), classes), None);
            let inner = folder.path().join(if classes == 10 { "cifar-10-batches-bin" } else { "cifar-100-binary" });
            std::fs::create_dir(&inner).unwrap();
            let names: &[&str] = match classes {
                10 => &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                    "test_batch.bin",
                ],
                _ => &["train.bin", "test.bin"],
            };
            for (at, name) in names.iter().enumerate() {
                let label: &[u8] = if classes == 10 { &[at as u8] } else { &[19, 99] };
                std::fs::write(inner.join(name), [label, &[51 * at as u8; PIXELS]].concat()).unwrap();
            }
            let (train, test) = files(folder.path(), classes).unwrap();
            let set = read(&train, classes).unwrap();
            let last = set.batch(&[set.len() - 1], None).unwrap();
            let right = if classes == 10 { (5, 0.8, 4) } else { (1, 0.0, 99) };
            assert_eq!((set.len(), last.input().to_vec::<f32>()[7], last.target().to_vec::<i64>()[0]), right);
            assert_eq!((read(&[test], classes).unwrap().len(), last.input().shape()), (1, &[1, 3, 32, 32][..]));
        }
        let wrong = |bytes: &[u8], classes| append(bytes, classes, &mut vec![], &mut vec![]).unwrap_err().to_string();
        assert!(wrong(&[], 10).contains("whole records of 3073 bytes, found 0 bytes"));
        assert!(wrong(&[0; 3073], 100).contains("whole records of 3074 bytes, found 3073"));
        assert!(wrong(&[10; 3073], 10).contains("label of example 0: expected a class from 0 to 9, found 10"));
    }
}
