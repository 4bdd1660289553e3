//! What may be wrong with data from outside: each error says what, where, and what would be right.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::idx::MAX_RANK;

/// What is wrong with a data file, where, and what would be right.
#[derive(Debug, Error)]
pub enum DataError {
    /// The file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An error in the contents of a named file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong inside it.
        source: Box<DataError>,
    },
    /// The gzip stream is damaged or cut off.
    #[error("the gzip stream is damaged after {after} unpacked bytes ({source}); fetch the file again")]
    Gzip {
        /// Unpacked bytes that were still readable.
        after: u64,
        /// What the decoder said.
        source: std::io::Error,
    },
    /// The first bytes are not those of an IDX file.
    #[error(
        "not an IDX file: it begins with {}, an IDX file with 00 00, a type byte and the number of dimensions{}",
        hex(found),
        looks_like(found)
    )]
    Magic {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },
    /// The third byte names no element type.
    #[error(
        "byte 2 is 0x{found:02x}, which is no IDX element type; known are 08 (u8), 09 (i8), 0b (i16), 0c (i32), 0d (f32) and 0e (f64)"
    )]
    ElementType {
        /// The type byte.
        found: u8,
    },
    /// The number of dimensions is zero or absurd.
    #[error("byte 3 says {found} dimensions; 1 to {MAX_RANK} are read")]
    Rank {
        /// The number of dimensions.
        found: u8,
    },
    /// The shape needs more bytes than are allowed, or than the compressed file could hold.
    #[error(
        "the header claims shape {shape:?}, which needs more than the {limit} bytes this file may hold; the header is damaged"
    )]
    TooLarge {
        /// The shape in the header.
        shape: Vec<usize>,
        /// The most bytes that were possible.
        limit: u64,
    },
    /// The data end too early.
    #[error("the file ends after {found} bytes, in the {part}; {expected} bytes were expected")]
    Truncated {
        /// `header` or `elements`.
        part: &'static str,
        /// Unpacked bytes up to the end of that part.
        expected: u64,
        /// Unpacked bytes there are.
        found: u64,
    },
    /// There is something behind the last element.
    #[error(
        "shape {shape:?} ends at byte {expected}, but more bytes follow; the shape in the header is not that of the data"
    )]
    TooLong {
        /// The shape in the header.
        shape: Vec<usize>,
        /// Unpacked bytes that header and elements take.
        expected: u64,
    },
    /// The array is a valid one, but not what its reader needs.
    #[error("{what}: expected {expected}, found {found}")]
    Unexpected {
        /// Which array, or which part of it.
        what: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The contents cannot be decoded.
    #[error("{what}: {problem}")]
    Damaged {
        /// What it was taken for, and which part of it.
        what: String,
        /// What the decoder found.
        problem: String,
    },
    /// A set that is not on this machine.
    #[error("the set \"{name}\" is not here: {place}; to get it: {how}")]
    Absent {
        /// The set.
        name: String,
        /// Where it was looked for.
        place: String,
        /// What to run.
        how: String,
    },
    /// A setting with which there is nothing to read.
    #[error("{0}")]
    Setting(String),
}

impl DataError {
    /// The error, with the file it is in.
    pub fn in_file(path: &Path, source: DataError) -> DataError {
        DataError::File { path: path.into(), source: Box::new(source) }
    }

    /// What the system said of a file.
    pub fn io(path: &Path, source: std::io::Error) -> DataError {
        DataError::Io { path: path.into(), source }
    }
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing (the file is empty)".into();
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

/// What the first bytes say the file is instead.
fn looks_like(found: &[u8]) -> &'static str {
    match found {
        [0x89, b'P', b'N', b'G'] => " (this is a PNG image)",
        [b'P', b'K', ..] => " (this is a zip archive: unpack it first)",
        [b'<', ..] => " (this looks like a web page: was the download an error page?)",
        [0x93, b'N', b'U', b'M'] => " (this is a NumPy array)",
        _ => "",
    }
}
