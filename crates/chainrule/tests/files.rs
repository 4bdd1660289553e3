//! Files of tensors from outside: whatever the bytes are, loading gives tensors or a sentence, and a failed write
//! leaves nothing behind.
use chainrule::prelude::*;
use chainrule::tree::{TensorFileError, load_tensors, save_tensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn small() -> BTreeMap<String, Tensor> {
    BTreeMap::from([
        ("bias".into(), Tensor::from([1.5f32, -2.0])),
        ("on".into(), Tensor::from([true, false])),
        ("weight".into(), Tensor::from([[1i64, 2], [3, 4]])),
    ])
}

fn written(folder: &Path) -> (PathBuf, Vec<u8>) {
    let path = folder.join("small.safetensors");
    save(&small(), &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

/// Either an error whose text names the file, or tensors that can be read.
fn attempt(path: &Path) -> bool {
    match load_tensors(path) {
        Ok(tensors) => {
            for tensor in tensors.values() {
                assert_eq!(tensor.storage().unwrap().bytes().len(), tensor.ty().bytes());
                let sum = if tensor.dtype() == DType::Bool { tensor.any(..) } else { tensor.sum(..) };
                sum.eval();
            }
            true
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("small.safetensors"), "{text}");
            assert!(text.len() < 600, "{text}");
            false
        }
    }
}

#[test]
fn a_file_cut_at_any_length_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = written(folder.path());
    for length in 0..bytes.len() {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(!attempt(&path), "{length} of {} bytes were accepted", bytes.len());
    }
    std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    assert!(!attempt(&path), "a byte too many was accepted");
    std::fs::write(&path, &bytes).unwrap();
    assert!(attempt(&path));
}

#[test]
fn a_file_with_any_flipped_bits_is_an_error_or_other_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = written(folder.path());
    for place in 0..bytes.len() {
        for change in [1u8, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut damaged = bytes.clone();
            damaged[place] ^= change;
            std::fs::write(&path, &damaged).unwrap();
            attempt(&path);
            let _ = load(&small(), &path);
        }
    }
}

#[test]
fn headers_that_lie_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    let huge = "18446744073709551615";
    let headers = [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#.to_owned(),
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#
            .to_owned(),
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"COMPLEX","shape":[1],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"F8_E5M2","shape":[4],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"U16","shape":[2],"data_offsets":[0,4]}}"#.to_owned(),
        r#"{"a":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}"#.to_owned(),
        format!(r#"{{"a":{{"dtype":"F32","shape":[{huge},{huge}],"data_offsets":[0,4]}}}}"#),
        format!(r#"{{"a":{{"dtype":"F32","shape":[0,{huge},{huge}],"data_offsets":[0,0]}}}}"#),
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#.to_string(),
        "{".repeat(2000),
        "[".repeat(100_000),
        "null".to_owned(),
        String::new(),
    ];
    for header in headers {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([7u8, 1, 1, 1]);
        std::fs::write(&path, &bytes).unwrap();
        assert!(!attempt(&path), "{}", &header[..header.len().min(120)]);
    }
    for length in [u64::MAX, u64::MAX - 7, 1 << 40, 100_000_001] {
        std::fs::write(&path, length.to_le_bytes()).unwrap();
        assert!(!attempt(&path));
    }
}

#[test]
fn what_does_not_fit_the_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = written(folder.path());
    let template = BTreeMap::from([
        ("bias".to_owned(), Tensor::zeros([3], DType::F32)),
        ("gain".to_owned(), Tensor::zeros([1], DType::F32)),
        ("on".to_owned(), Tensor::zeros([2], DType::U8)),
    ]);
    let error = load(&template, &path).unwrap_err();
    assert!(matches!(error, TensorFileError::Mismatch(..)));
    assert_eq!(
        error.to_string().split_once(": ").unwrap().1,
        "bias is f32[2] in the file and f32[3] in the model; gain (f32[1]) is not in the file; \
         on is bool[2] in the file and u8[2] in the model; weight is in the file and not in the model"
    );
    let many: Vec<Tensor> = (0..9).map(|_| Tensor::from(0.0)).collect();
    let text = load(&many, &path).unwrap_err().to_string();
    assert!(text.ends_with("; and 7 more"), "{text}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_and_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no").join("such.safetensors");
    let error = save(&small(), &missing).unwrap_err();
    assert!(matches!(&error, TensorFileError::Io(path, _) if *path == missing), "{error}");
    std::fs::write(folder.path().join("file"), "text").unwrap();
    assert!(save(&small(), folder.path().join("file").join("a.safetensors")).is_err());
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    assert!(save(&small(), folder.path().join("taken")).is_err());
    assert!(save(&small(), folder.path().join("nul\0byte")).is_err());
    assert!(save(&small(), "").is_err());
    assert_eq!(names(folder.path()), ["file", "taken"]);
    assert!(load_tensors(folder.path()).is_err());
    assert!(load_tensors(&missing).is_err());
}

/// The other half of the test below: writes more than the limit that the shell has set allows.
#[test]
#[ignore = "run by the test of a full disk"]
fn child_that_runs_out_of_room() {
    let Ok(path) = std::env::var("CHAINRULE_TEST_FULL") else { return };
    let big = BTreeMap::from([("big".to_owned(), Tensor::zeros([1 << 20], DType::F32))]);
    let error = save_tensors(&big, &path).unwrap_err();
    assert!(matches!(error, TensorFileError::Io(..)), "{error}");
    println!("refused: {error}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bytes) = written(folder.path());
    // A limit on file sizes, with its signal ignored, is a disk that is full after 64 KiB or so.
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -f 64; trap '' XFSZ; exec \"$0\" --ignored --exact --nocapture child_that_runs_out_of_room",
        ])
        .arg(std::env::current_exe().unwrap())
        .env("CHAINRULE_TEST_FULL", &path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("refused: "), "{text}");
    assert_eq!(names(folder.path()), ["small.safetensors"]);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn writers_of_one_file_never_show_a_torn_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.safetensors");
    let of = |v: f32| BTreeMap::from([("x".to_owned(), Tensor::full([500], v as f64, DType::F32).eval())]);
    save_tensors(&of(0.0), &path).unwrap();
    std::thread::scope(|scope| {
        for writer in 1..4 {
            let (path, of) = (&path, &of);
            scope.spawn(move || (0..10).for_each(|_| save_tensors(&of(writer as f32), path).unwrap()));
        }
        for _ in 0..60 {
            let x = load_tensors(&path).unwrap()["x"].to_vec::<f32>();
            assert!(x.iter().all(|&v| v == x[0]));
        }
    });
    assert_eq!(names(folder.path()), ["shared.safetensors"]);
}
