//! NumPy arrays: `.npy` files and `.npz` archives of them (format 1 to 3 of `numpy.lib.format`).
//!
//! Booleans, integers and floats of either byte order are read, in C or Fortran order; objects, complex numbers and
//! structures are refused, and so is a shape that the bytes there are do not fill.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use half::f16;

use super::{Arrays, DataError, Numbers, Targets};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The most bytes of a file, packed or unpacked: 4 GiB.
const MAX_BYTES: u64 = 1 << 32;

/// Numbers of an array, as a model takes them.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Bytes.
    U8(Vec<u8>),
    /// Booleans and all other integers.
    I64(Vec<i64>),
    /// Floats.
    F32(Vec<f32>),
}

impl Elements {
    fn len(&self) -> usize {
        match self {
            Elements::U8(values) => values.len(),
            Elements::I64(values) => values.len(),
            Elements::F32(values) => values.len(),
        }
    }
}

/// An array in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Npy {
    /// The size of each axis; none for a single number.
    pub shape: Vec<usize>,
    /// As many as the shape has.
    pub elements: Elements,
}

/// Reads the bytes of a `.npy` file.
///
/// # Errors
/// If they are not one, or of a type that is not read.
pub fn read(bytes: &[u8]) -> Result<Npy, DataError> {
    let damaged = |problem: String| DataError::Damaged { what: "NumPy array".into(), problem };
    let short = || damaged("the file ends in the header".into());
    if !bytes.starts_with(MAGIC) {
        return Err(damaged("it does not begin with 93 NUMPY; save it with numpy.save".into()));
    }
    let (length, start): (usize, usize) = match bytes.get(6).ok_or_else(short)? {
        1 => (u16::from_le_bytes(*bytes[6..].get(2..).and_then(<[u8]>::first_chunk).ok_or_else(short)?) as usize, 10),
        2 | 3 => {
            (u32::from_le_bytes(*bytes[6..].get(2..).and_then(<[u8]>::first_chunk).ok_or_else(short)?) as usize, 12)
        }
        version => return Err(damaged(format!("format {version}; formats 1 to 3 are read"))),
    };
    let end = start.checked_add(length).filter(|&end| end <= bytes.len()).ok_or_else(short)?;
    let header = std::str::from_utf8(&bytes[start..end]).map_err(|error| damaged(format!("header: {error}")))?;
    let kind = text_of(header, "descr").ok_or_else(|| damaged("the header has no 'descr' of one type".into()))?;
    let shape = shape_of(header).ok_or_else(|| damaged("the header has no 'shape' of whole numbers".into()))?;
    let (order, code) = kind.split_at(kind.len().min(1));
    let size: usize = match code {
        "b1" | "i1" | "u1" => 1,
        "i2" | "u2" | "f2" => 2,
        "i4" | "u4" | "f4" => 4,
        "i8" | "u8" | "f8" => 8,
        _ => {
            return Err(damaged(format!("elements {kind:?}; booleans, integers and floats of up to 8 bytes are read")));
        }
    };
    let big = match order {
        ">" => true,
        "<" | "|" | "=" => false,
        _ => return Err(damaged(format!("byte order {order:?}; '<', '>' and '|' are known"))),
    };
    let data = &bytes[end..];
    let needed = shape.iter().try_fold(size, |bytes, &size| bytes.checked_mul(size));
    if needed != Some(data.len()) {
        return Err(DataError::Unexpected {
            what: "NumPy array".into(),
            expected: format!("{kind}{shape:?}"),
            found: format!("{} bytes after the header", data.len()),
        });
    }
    let elements = elements(code, data, big);
    let fortran = word_of(header, "fortran_order") == Some("True");
    Ok(Npy { elements: if fortran { transposed(elements, &shape) } else { elements }, shape })
}

/// What follows `'name':` in a header.
fn after<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let rest = [format!("'{name}'"), format!("\"{name}\"")].iter().find_map(|name| header.split_once(name.as_str()))?.1;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn text_of<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let rest = after(header, name)?;
    let quote = rest.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
    rest[1..].split_once(quote).map(|(text, _)| text).filter(|text| text.is_ascii())
}

fn word_of<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    after(header, name)?.split([',', '}', ' ']).next()
}

fn shape_of(header: &str) -> Option<Vec<usize>> {
    let (sizes, _) = after(header, "shape")?.strip_prefix('(')?.split_once(')')?;
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    sizes.map(|size| size.trim_end_matches('L').parse().ok()).collect()
}

fn elements(code: &str, data: &[u8], big: bool) -> Elements {
    macro_rules! numbers {
        ($ty:ty, $to:ty, $convert:expr) => {{
            let (chunks, _) = data.as_chunks::<{ size_of::<$ty>() }>();
            let number = |&bytes: &[u8; size_of::<$ty>()]| match big {
                true => <$ty>::from_be_bytes(bytes),
                false => <$ty>::from_le_bytes(bytes),
            };
            chunks.iter().map(number).map($convert).collect::<Vec<$to>>()
        }};
    }
    match code {
        "u1" => Elements::U8(data.to_vec()),
        "b1" => Elements::I64(data.iter().map(|&byte| (byte != 0) as i64).collect()),
        "i1" => Elements::I64(numbers!(i8, i64, i64::from)),
        "i2" => Elements::I64(numbers!(i16, i64, i64::from)),
        "u2" => Elements::I64(numbers!(u16, i64, i64::from)),
        "i4" => Elements::I64(numbers!(i32, i64, i64::from)),
        "u4" => Elements::I64(numbers!(u32, i64, i64::from)),
        "i8" => Elements::I64(numbers!(i64, i64, |v| v)),
        "u8" => Elements::I64(numbers!(u64, i64, |v| i64::try_from(v).unwrap_or(i64::MAX))),
        "f2" => Elements::F32(numbers!(f16, f32, f16::to_f32)),
        "f4" => Elements::F32(numbers!(f32, f32, |v| v)),
        _ => Elements::F32(numbers!(f64, f32, |v| v as f32)),
    }
}

/// Column-major elements in row-major order.
fn transposed(elements: Elements, shape: &[usize]) -> Elements {
    fn turn<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
        let mut steps = vec![1; shape.len()];
        (1..shape.len()).for_each(|axis| steps[axis] = steps[axis - 1] * shape[axis - 1]);
        let place = |mut at: usize| {
            let mut from = 0;
            for axis in (0..shape.len()).rev() {
                from += at % shape[axis] * steps[axis];
                at /= shape[axis];
            }
            from
        };
        (0..values.len()).map(|at| values[place(at)]).collect()
    }
    match elements {
        Elements::U8(values) => Elements::U8(turn(&values, shape)),
        Elements::I64(values) => Elements::I64(turn(&values, shape)),
        Elements::F32(values) => Elements::F32(turn(&values, shape)),
    }
}

/// Reads the bytes of a `.npz` archive: its arrays by name.
///
/// # Errors
/// If it is no zip archive, or an array in it cannot be read; the message names it.
pub fn read_archive(bytes: &[u8]) -> Result<BTreeMap<String, Npy>, DataError> {
    let damaged =
        |error: &dyn std::fmt::Display| DataError::Damaged { what: "NumPy archive".into(), problem: error.to_string() };
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    let mut arrays = BTreeMap::new();
    let mut left = MAX_BYTES;
    for at in 0..archive.len() {
        let file = archive.by_index(at).map_err(|error| damaged(&error))?;
        let name = file.name().map_err(|error| damaged(&error))?.trim_end_matches(".npy").to_owned();
        let in_array = |source| DataError::in_file(Path::new(&name), source);
        let mut unpacked = Vec::new();
        file.take(left + 1).read_to_end(&mut unpacked).map_err(|error| in_array(damaged(&error)))?;
        left =
            left.checked_sub(unpacked.len() as u64).ok_or_else(|| damaged(&format!("more than {MAX_BYTES} bytes")))?;
        let array = read(&unpacked).map_err(in_array)?;
        arrays.insert(name, array);
    }
    Ok(arrays)
}

/// Reads a `.npy` file, as the one array `x`, or a `.npz` file.
///
/// # Errors
/// If it cannot be read; every error names the path.
pub fn read_file(path: &Path) -> Result<BTreeMap<String, Npy>, DataError> {
    let size = std::fs::metadata(path).map_err(|error| DataError::io(path, error))?.len();
    if size > MAX_BYTES {
        let (what, expected) = ("file size".into(), format!("at most {MAX_BYTES} bytes"));
        return Err(DataError::in_file(path, DataError::Unexpected { what, expected, found: format!("{size}") }));
    }
    let bytes = std::fs::read(path).map_err(|error| DataError::io(path, error))?;
    let arrays = match bytes.starts_with(MAGIC) {
        true => read(&bytes).map(|array| BTreeMap::from([("x".to_owned(), array)])),
        false => read_archive(&bytes),
    };
    arrays.map_err(|source| DataError::in_file(path, source))
}

/// Inputs, and targets where there are some, as a set: bytes become `byte/255`; targets of whole numbers are classes.
///
/// # Errors
/// If inputs are not along a first axis, or the numbers of examples differ.
pub fn arrays(x: Npy, y: Option<Npy>) -> Result<Arrays, DataError> {
    let wrong = |what: &str, expected: &str, found: &[usize]| {
        Err(DataError::Unexpected { what: what.into(), expected: expected.into(), found: format!("shape {found:?}") })
    };
    let Some((&count, shape)) = x.shape.split_first() else {
        return wrong("x", "examples along a first axis", &x.shape);
    };
    let targets = match y {
        None => Targets::None,
        Some(y) if y.shape.first() != Some(&count) => {
            return wrong("y", &format!("{count} examples, as x has"), &y.shape);
        }
        Some(Npy { elements: Elements::F32(values), shape }) => {
            let one = if shape.len() == 1 { vec![1] } else { shape[1..].to_vec() };
            Targets::Values { values, shape: one }
        }
        Some(y) if y.elements.len() != count => return wrong("y", "one class each", &y.shape),
        Some(Npy { elements, .. }) => {
            let labels: Vec<i64> = match elements {
                Elements::U8(values) => values.into_iter().map(i64::from).collect(),
                Elements::I64(values) => values,
                Elements::F32(_) => Vec::new(),
            };
            let classes =
                labels.iter().max().map_or(0, |&most| usize::try_from(most).map_or(0, |most| most.saturating_add(1)));
            Targets::classes(labels, classes)?
        }
    };
    let inputs = match x.elements {
        Elements::U8(bytes) => Numbers::U8 { bytes, white: u8::MAX },
        Elements::F32(values) => Numbers::F32(values),
        Elements::I64(values) => Numbers::F32(values.into_iter().map(|value| value as f32).collect()),
    };
    let shape = if shape.is_empty() { &[1] } else { shape };
    Arrays::new(inputs, shape, targets)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::data::Dataset;
    use proptest::prelude::*;

    fn npy(kind: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn types_orders_and_shapes() {
        type Row = (&'static str, &'static str, &'static str, Vec<u8>, Vec<usize>, Elements);
        let rows: [Row; 8] = [
            ("|u1", "False", "(3,)", vec![1, 2, 255], vec![3], Elements::U8(vec![1, 2, 255])),
            ("|b1", "False", "(2, 1)", vec![0, 1], vec![2, 1], Elements::I64(vec![0, 1])),
            ("<i2", "False", "(1,)", vec![0xfe, 0xff], vec![1], Elements::I64(vec![-2])),
            (">i4", "False", "()", vec![0, 0, 1, 0], vec![], Elements::I64(vec![256])),
            ("<f8", "False", "(1,)", 1.5f64.to_le_bytes().to_vec(), vec![1], Elements::F32(vec![1.5])),
            (">f4", "False", "(1,)", 2.5f32.to_be_bytes().to_vec(), vec![1], Elements::F32(vec![2.5])),
            ("<f2", "False", "(1,)", vec![0, 0x3c], vec![1], Elements::F32(vec![1.0])),
            ("|u1", "True", "(2, 3)", vec![0, 3, 1, 4, 2, 5], vec![2, 3], Elements::U8(vec![0, 1, 2, 3, 4, 5])),
        ];
        for (kind, fortran, shape, data, sizes, elements) in rows {
            let read = read(&npy(kind, fortran, shape, &data)).unwrap();
            assert_eq!(read, Npy { shape: sizes, elements }, "{kind} {shape}");
        }
    }

    #[test]
    fn an_archive_becomes_a_set() {
        let mut bytes = Vec::new();
        let mut writer = zip::ZipWriter::new(Cursor::new(&mut bytes));
        let options = zip::write::SimpleFileOptions::default();
        for (name, method, array) in [
            ("x.npy", zip::CompressionMethod::Stored, npy("|u1", "False", "(2, 2)", &[0, 51, 102, 255])),
            ("y.npy", zip::CompressionMethod::Deflated, npy("<i4", "False", "(2,)", &[2, 0, 0, 0, 1, 0, 0, 0])),
        ] {
            writer.start_file(name, options.compression_method(method)).unwrap();
            writer.write_all(&array).unwrap();
        }
        writer.finish().unwrap();
        let mut all = read_archive(&bytes).unwrap();
        let set = arrays(all.remove("x").unwrap(), all.remove("y")).unwrap();
        let batch = set.batch(&[0, 1], None).unwrap();
        assert_eq!(batch.input().to_vec::<f32>(), [0.0, 0.2, 0.4, 1.0]);
        assert_eq!((batch.target().to_vec::<i64>(), set.example().classes), (vec![2, 1], Some(3)));
        for cut in 0..bytes.len() {
            assert!(read_archive(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rows: [(Vec<u8>, &str); 7] = [
            (b"PK".to_vec(), "it does not begin with 93 NUMPY"),
            (MAGIC.to_vec(), "the file ends in the header"),
            ([MAGIC, &[9, 0, 0, 0]].concat(), "format 9"),
            (npy("|O", "False", "(1,)", &[]), "elements \"|O\"; booleans, integers and floats"),
            (npy("<f4", "False", "(2,)", &[0; 4]), "expected <f4[2], found 4 bytes"),
            (npy("<f8", "False", "(4611686018427387904, 16)", &[0; 4]), "found 4 bytes"),
            (npy("<f4", "False", "(-1,)", &[]), "no 'shape' of whole numbers"),
        ];
        for (bytes, says) in rows {
            let message = read(&bytes).unwrap_err().to_string();
            assert!(message.contains(says), "{message}\n  lacks: {says}");
        }
        let array = |shape: Vec<usize>, values: Vec<i64>| Npy { shape, elements: Elements::I64(values) };
        let wrong = |x, y| arrays(x, y).unwrap_err().to_string();
        assert!(wrong(array(vec![], vec![1]), None).contains("examples along a first axis"));
        assert!(wrong(array(vec![2], vec![1, 2]), Some(array(vec![1], vec![0]))).contains("2 examples, as x has"));
        assert!(wrong(array(vec![1], vec![1]), Some(array(vec![1], vec![-1]))).contains("found -1"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), shape in "[(]?[0-9, L)]{0,30}", kind in "[<>|=]?[a-z][0-9]") {
            let _ = read(&bytes);
            let _ = read(&npy(&kind, "True", &shape, &bytes));
            let _ = read_archive(&[b"PK\x03\x04", &bytes[..]].concat());
        }
    }
}
