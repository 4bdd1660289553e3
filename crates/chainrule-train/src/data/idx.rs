//! Reads IDX, the file format of MNIST and its relatives: a type, a shape, and the elements, big-endian.
//!
//! Any bytes give a value or a [`DataError`]; none panics, and a shape above [`MAX_BYTES`] is refused, not allocated.
//! Gzip-compressed files are recognised by their first two bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::DataError;

/// The most bytes a file may hold, packed or unpacked: 1 GiB, twice the largest well-known IDX file.
pub const MAX_BYTES: u64 = 1 << 30;
/// The most dimensions an array may have; the format itself would allow 255.
pub const MAX_RANK: usize = 8;

/// Deflate never expands by more than this, so a shape that needs more is refused before anything is unpacked.
const DEFLATE_MAX_RATIO: u64 = 1032;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Unpacked bytes are taken in pieces of this size, so that memory follows what is there, not what is claimed.
const PIECE: usize = 1 << 20;

/// The elements of an IDX array, in row-major order.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Elements {
    U8(Vec<u8>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Elements {
    /// The name of the element type, as in `u8`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Elements::U8(_) => "u8",
            Elements::I8(_) => "i8",
            Elements::I16(_) => "i16",
            Elements::I32(_) => "i32",
            Elements::F32(_) => "f32",
            Elements::F64(_) => "f64",
        }
    }
}

/// An array read from an IDX file. The number of elements is the product of the shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Idx {
    /// The size of each dimension, slowest first; 1 to [`MAX_RANK`] of them.
    pub shape: Vec<usize>,
    /// The elements.
    pub elements: Elements,
}

/// Reads an IDX array from the bytes of a whole file, gzip-compressed or not.
pub fn read(bytes: &[u8]) -> Result<Idx, DataError> {
    if bytes.starts_with(&GZIP_MAGIC) {
        let limit = (bytes.len() as u64).saturating_mul(DEFLATE_MAX_RATIO).min(MAX_BYTES);
        Source { reader: MultiGzDecoder::new(bytes), taken: 0, limit }.array()
    } else {
        Source { reader: bytes, taken: 0, limit: MAX_BYTES }.array()
    }
}

/// Reads an IDX array from a file; every error names the path.
pub fn read_file(path: impl AsRef<Path>) -> Result<Idx, DataError> {
    let path = path.as_ref();
    let io = |source| DataError::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    let in_file = |source| DataError::File { path: path.into(), source: Box::new(source) };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(in_file(DataError::Unexpected {
            what: "file size".into(),
            expected: format!("at most {MAX_BYTES} bytes"),
            found: "more".into(),
        }));
    }
    read(&bytes).map_err(in_file)
}

/// Unpacked bytes, counted, with the most there may be.
struct Source<R> {
    reader: R,
    taken: u64,
    limit: u64,
}

impl<R: Read> Source<R> {
    fn array(mut self) -> Result<Idx, DataError> {
        let magic = self.take(4)?;
        let [0, 0, element_type, rank] = magic[..] else { return Err(DataError::Magic { found: magic }) };
        let element_size = match element_type {
            0x08 | 0x09 => 1,
            0x0b => 2,
            0x0c | 0x0d => 4,
            0x0e => 8,
            found => return Err(DataError::ElementType { found }),
        };
        if rank == 0 || rank as usize > MAX_RANK {
            return Err(DataError::Rank { found: rank });
        }
        let header = 4 + 4 * rank as u64;
        let sizes = self.take(4 * rank as usize)?;
        if self.taken < header {
            return Err(DataError::Truncated { part: "header", expected: header, found: self.taken });
        }
        let shape: Vec<usize> = sizes.chunks_exact(4).map(|b| u32::from_be_bytes(four(b)) as usize).collect();
        let payload = shape.iter().try_fold(element_size, |bytes: u64, &size| bytes.checked_mul(size as u64));
        let Some(payload) = payload.filter(|&bytes| bytes <= self.limit - header.min(self.limit)) else {
            return Err(DataError::TooLarge { shape, limit: self.limit });
        };
        let bytes = self.take(payload as usize)?;
        let expected = header + payload;
        if self.taken < expected {
            return Err(DataError::Truncated { part: "elements", expected, found: self.taken });
        }
        // Reading one byte more also makes the gzip decoder compare its checksum.
        if !self.take(1)?.is_empty() {
            return Err(DataError::TooLong { shape, expected });
        }
        Ok(Idx { shape, elements: elements(element_type, bytes) })
    }

    /// The next `count` bytes, or fewer at the end of the data.
    fn take(&mut self, count: usize) -> Result<Vec<u8>, DataError> {
        let mut out = Vec::new();
        while out.len() < count {
            let start = out.len();
            let piece = (count - start).min(PIECE);
            let got = self.reader.by_ref().take(piece as u64).read_to_end(&mut out);
            self.taken += (out.len() - start) as u64;
            got.map_err(|source| DataError::Gzip { after: self.taken, source })?;
            if out.len() - start < piece {
                break;
            }
        }
        Ok(out)
    }
}

fn elements(element_type: u8, bytes: Vec<u8>) -> Elements {
    match element_type {
        0x08 => Elements::U8(bytes),
        0x09 => Elements::I8(bytes.into_iter().map(|b| b as i8).collect()),
        0x0b => Elements::I16(bytes.chunks_exact(2).map(|b| i16::from_be_bytes([b[0], b[1]])).collect()),
        0x0c => Elements::I32(bytes.chunks_exact(4).map(|b| i32::from_be_bytes(four(b))).collect()),
        0x0d => Elements::F32(bytes.chunks_exact(4).map(|b| f32::from_be_bytes(four(b))).collect()),
        _ => Elements::F64(bytes.as_chunks::<8>().0.iter().map(|&b| f64::from_be_bytes(b)).collect()),
    }
}

fn four(b: &[u8]) -> [u8; 4] {
    [b[0], b[1], b[2], b[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn file(element_type: u8, shape: &[u32], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, element_type, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn every_element_type_packed_and_plain() {
        let cases = [
            (0x08, vec![1, 255], Elements::U8(vec![1, 255])),
            (0x09, vec![1, 255], Elements::I8(vec![1, -1])),
            (0x0b, vec![1, 0, 255, 254], Elements::I16(vec![256, -2])),
            (0x0c, [256i32, -2].map(i32::to_be_bytes).concat(), Elements::I32(vec![256, -2])),
            (0x0d, [1.5f32, -2.0].map(f32::to_be_bytes).concat(), Elements::F32(vec![1.5, -2.0])),
            (0x0e, [1.5f64, -2.0].map(f64::to_be_bytes).concat(), Elements::F64(vec![1.5, -2.0])),
        ];
        for (element_type, payload, elements) in cases {
            let bytes = file(element_type, &[2, 1], &payload);
            let expected = Idx { shape: vec![2, 1], elements };
            assert_eq!(read(&bytes).unwrap(), expected);
            assert_eq!(read(&gzip(&bytes)).unwrap(), expected);
        }
        assert_eq!(read(&file(0x08, &[0, 7], &[])).unwrap().elements, Elements::U8(vec![]));
    }

    #[test]
    fn errors_say_what_where_and_what_would_be_right() {
        let whole = file(0x08, &[2, 2], &[1, 2, 3, 4]);
        let cases: [(&[u8], &str); 9] = [
            (b"", "not an IDX file: it begins with nothing (the file is empty)"),
            (b"\x89PNG\r\n", "(this is a PNG image)"),
            (b"<html>", "was the download an error page?"),
            (&[0, 0, 0x0a, 1], "byte 2 is 0x0a, which is no IDX element type"),
            (&[0, 0, 8, 0], "byte 3 says 0 dimensions; 1 to 8 are read"),
            (&whole[..9], "the file ends after 9 bytes, in the header; 12 bytes were expected"),
            (&whole[..14], "the file ends after 14 bytes, in the elements; 16 bytes were expected"),
            (&file(0x08, &[1, 2], &[1, 2, 3]), "shape [1, 2] ends at byte 14, but more bytes follow"),
            (&file(0x0e, &[u32::MAX; 8], &[]), "which needs more than the 1073741824 bytes"),
        ];
        for (bytes, expected) in cases {
            let message = read(bytes).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}\n  lacks: {expected}");
        }
    }

    #[test]
    fn a_compressed_header_cannot_claim_what_the_file_could_not_hold() {
        let bomb = gzip(&file(0x08, &[1 << 29], &[0; 64]));
        assert!(matches!(read(&bomb).unwrap_err(), DataError::TooLarge { .. }));
    }

    #[test]
    fn a_damaged_gzip_stream_is_an_error_at_every_byte() {
        let whole = gzip(&file(0x08, &[64], &(0..64).collect::<Vec<u8>>()));
        for length in 2..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut to {length} bytes");
        }
        // Bytes 3 to 9 (flags, time, system) are not covered by the checksum.
        for at in 10..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            assert!(read(&damaged).is_err(), "byte {at} changed");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        assert!(read_file("no/such.idx").unwrap_err().to_string().starts_with("no/such.idx: "));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), headed in 0..3, rank in 0..10u8) {
            if headed > 0 && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&[0, 0, 8 + rank % 7, rank]);
            }
            let bytes = if headed == 2 { gzip(&bytes) } else { bytes };
            if let Ok(idx) = read(&bytes) {
                let Elements::U8(_) = idx.elements else { return Ok(()) };
                prop_assert!(idx.shape.iter().product::<usize>() <= 200);
            }
        }
    }
}
