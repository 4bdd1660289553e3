//! Pages of a column: unpacked, their levels and values decoded.
//!
//! Values are `PLAIN`, of a dictionary, or run lengths; pages are of version 1 or 2, plain or packed with Snappy, gzip or
//! Zstandard. Anything else is named together with how to write the file so that it is read here.

use std::io::Read;
use std::sync::Arc;

use super::compact::{Bytes, Value};
use super::{Cells, Column, Kind, MOST_BYTES, damaged, unread};
use crate::data::DataError;

/// Values of one page or dictionary, nulls left out.
#[derive(Debug, Clone)]
enum Values {
    Numbers(Vec<f64>),
    Words(Vec<Arc<str>>),
}

/// Reads a chunk's pages and adds its values to the cells of the column. `row` is how many rows came before.
pub(super) fn read_chunk(
    column: &Column,
    codec: i64,
    chunk: &[u8],
    rows: usize,
    row: usize,
    cells: &mut Cells,
) -> Result<(), DataError> {
    let mut bytes = Bytes(chunk);
    let (mut dictionary, mut read) = (None, 0);
    while read < rows {
        let header = bytes.structure()?;
        let size = header.count(3).ok_or_else(|| damaged("a page without a size"))?;
        let unpacked = header.count(2).filter(|&size| size <= MOST_BYTES).ok_or_else(|| damaged("a page too large"))?;
        let page = bytes.take(size)?;
        match header.integer(1) {
            Some(2) => {
                let about = header.field(7).ok_or_else(|| damaged("a dictionary without a header"))?;
                let count = about.count(1).unwrap_or(0);
                dictionary = Some(plain(column, &unpack(codec, page, unpacked)?, count)?);
            }
            Some(kind @ (0 | 3)) => {
                let about = header.field(if kind == 0 { 5 } else { 8 }).unwrap_or(&Value::Other);
                let count = about.count(1).filter(|&count| count <= rows - read);
                let count = count.ok_or_else(|| damaged("a page with more values than rows"))?;
                let body = match kind {
                    0 => first(column, about, &unpack(codec, page, unpacked)?, count, row + read)?,
                    _ => second(column, about, (codec, page, unpacked), count, row + read)?,
                };
                let encoding = about.integer(if kind == 0 { 2 } else { 4 }).unwrap_or(-1);
                cells.extend(decode(column, encoding, &body, count, dictionary.as_ref())?);
                read += count;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The values of a page of version 1, behind its levels.
fn first(column: &Column, about: &Value, page: &[u8], count: usize, row: usize) -> Result<Vec<u8>, DataError> {
    let mut bytes = Bytes(page);
    if column.optional {
        if about.integer(3) != Some(3) {
            return Err(unread(column, "levels that are no run lengths"));
        }
        let length = bytes.length()?;
        refuse_nulls(column, bytes.take(length)?, count, row)?;
    }
    Ok(bytes.0.to_vec())
}

/// The values of a page of version 2, whose levels are never packed.
fn second(
    column: &Column,
    about: &Value,
    (codec, page, unpacked): (i64, &[u8], usize),
    count: usize,
    row: usize,
) -> Result<Vec<u8>, DataError> {
    let (levels, repeats) = (about.count(5).unwrap_or(0), about.count(6).unwrap_or(0));
    let mut bytes = Bytes(page);
    bytes.take(repeats)?;
    let levels = bytes.take(levels)?;
    if column.optional {
        refuse_nulls(column, levels, count, row)?;
    }
    let front = page.len() - bytes.0.len();
    match about.flag(7).unwrap_or(true) {
        true => unpack(codec, bytes.0, unpacked.saturating_sub(front)),
        false => Ok(bytes.0.to_vec()),
    }
}

/// Levels of a column that may have nulls: 1 where there is a value.
fn refuse_nulls(column: &Column, levels: &[u8], count: usize, row: usize) -> Result<(), DataError> {
    match runs(levels, 1, count)?.iter().position(|&level| level != 1) {
        None => Ok(()),
        Some(at) => Err(super::super::table::missing(row + at, &column.name, "null")),
    }
}

/// Unpacks a page to the size it says it has.
fn unpack(codec: i64, page: &[u8], size: usize) -> Result<Vec<u8>, DataError> {
    let mut unpacked = Vec::new();
    match codec {
        0 => unpacked.extend_from_slice(page),
        1 => {
            let says = snap::raw::decompress_len(page).map_err(|error| damaged(&error.to_string()))?;
            if says != size {
                return Err(damaged("a page is not of the size it says"));
            }
            unpacked = snap::raw::Decoder::new().decompress_vec(page).map_err(|error| damaged(&error.to_string()))?;
        }
        2 => {
            let most = size as u64 + 1;
            let read = flate2::read::MultiGzDecoder::new(page).take(most).read_to_end(&mut unpacked);
            read.map_err(|error| damaged(&error.to_string()))?;
        }
        6 => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(page);
            let decoder = decoder.map_err(|error| damaged(&error.to_string()))?;
            decoder.take(size as u64 + 1).read_to_end(&mut unpacked).map_err(|error| damaged(&error.to_string()))?;
        }
        other => {
            let name = ["", "", "", "LZO", "Brotli", "LZ4", "", "LZ4"].get(other as usize).copied().unwrap_or("?");
            return Err(DataError::Unexpected {
                what: "Parquet".into(),
                expected: "pages that are plain, or packed with Snappy, gzip or Zstandard".into(),
                found: format!("{name}; write it anew, as with compression = \"snappy\""),
            });
        }
    }
    match unpacked.len() == size {
        true => Ok(unpacked),
        false => Err(damaged("a page is not of the size it says")),
    }
}

fn decode(
    column: &Column,
    encoding: i64,
    body: &[u8],
    count: usize,
    dictionary: Option<&Values>,
) -> Result<Values, DataError> {
    match (encoding, &column.kind) {
        (0, _) => plain(column, body, count),
        (2 | 8, _) => {
            let dictionary = dictionary.ok_or_else(|| damaged("a page before its dictionary"))?;
            let mut bytes = Bytes(body);
            let width = if count == 0 { 0 } else { bytes.byte()? };
            let places = runs(bytes.0, width, count)?;
            Ok(match dictionary {
                Values::Numbers(all) => Values::Numbers(picked(all, &places)?),
                Values::Words(all) => Values::Words(picked(all, &places)?),
            })
        }
        (3, Kind::Flag) => {
            let mut bytes = Bytes(body);
            let length = bytes.length()?;
            Ok(flags(runs(bytes.take(length)?, 1, count)?.into_iter().map(|bit| bit == 1)))
        }
        (other, _) => {
            let names = ["", "", "", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY"];
            let more = ["DELTA_BYTE_ARRAY", "", "BYTE_STREAM_SPLIT"];
            let name = names.iter().chain(&more).nth(usize::try_from(other).unwrap_or(usize::MAX));
            Err(unread(column, &format!("the encoding {}", name.unwrap_or(&"?"))))
        }
    }
}

fn picked<T: Clone>(all: &[T], places: &[u32]) -> Result<Vec<T>, DataError> {
    let picked = places.iter().map(|&at| all.get(at as usize).cloned());
    picked.collect::<Option<_>>().ok_or_else(|| damaged("a value beyond its dictionary"))
}

fn flags(flags: impl Iterator<Item = bool>) -> Values {
    let [no, yes]: [Arc<str>; 2] = ["false".into(), "true".into()];
    Values::Words(flags.map(|flag| if flag { yes.clone() } else { no.clone() }).collect())
}

/// Values one after the other.
fn plain(column: &Column, body: &[u8], count: usize) -> Result<Values, DataError> {
    let mut bytes = Bytes(body);
    /// Fixed numbers of bytes, each read by a function.
    fn fixed<const N: usize>(
        bytes: &mut Bytes,
        count: usize,
        read: impl Fn([u8; N]) -> f64,
    ) -> Result<Values, DataError> {
        let body = bytes.take(count.checked_mul(N).ok_or_else(|| damaged("a page too large"))?)?;
        let (values, _) = body.as_chunks::<N>();
        Ok(Values::Numbers(values.iter().map(|&value| read(value)).collect()))
    }
    match column.kind {
        Kind::Flag => {
            let bits = bytes.take(count.div_ceil(8))?;
            Ok(flags((0..count).map(|at| bits[at / 8] >> (at % 8) & 1 == 1)))
        }
        Kind::Integer { bytes: 4, signed: true, scale } => {
            fixed(&mut bytes, count, |b| f64::from(i32::from_le_bytes(b)) / scale)
        }
        Kind::Integer { bytes: 4, scale, .. } => fixed(&mut bytes, count, |b| f64::from(u32::from_le_bytes(b)) / scale),
        Kind::Integer { signed: true, scale, .. } => fixed(&mut bytes, count, |b| i64::from_le_bytes(b) as f64 / scale),
        Kind::Integer { scale, .. } => fixed(&mut bytes, count, |b| u64::from_le_bytes(b) as f64 / scale),
        Kind::Half => fixed(&mut bytes, count, |b| half::f16::from_le_bytes(b).to_f64()),
        Kind::Float => fixed(&mut bytes, count, |b| f64::from(f32::from_le_bytes(b))),
        Kind::Double => fixed(&mut bytes, count, f64::from_le_bytes),
        Kind::Text => {
            let words = (0..count).map(|_| {
                let length = bytes.length()?;
                let word = std::str::from_utf8(bytes.take(length)?);
                Ok(word.map_err(|_| unread(column, "bytes that are no UTF-8"))?.trim().into())
            });
            Ok(Values::Words(words.collect::<Result<_, DataError>>()?))
        }
    }
}

/// So many numbers of `width` bits, as runs of one number and packed eights in turn.
fn runs(bytes: &[u8], width: u8, count: usize) -> Result<Vec<u32>, DataError> {
    if width > 32 {
        return Err(damaged("numbers wider than 32 bits"));
    }
    let (mut bytes, mut numbers) = (Bytes(bytes), Vec::with_capacity(count));
    while numbers.len() < count {
        let (head, left) = (bytes.varint()?, count - numbers.len());
        let length = usize::try_from(head >> 1).unwrap_or(usize::MAX);
        if head & 1 == 0 {
            let number = bytes.take(usize::from(width).div_ceil(8))?;
            let number = number.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
            if length == 0 {
                return Err(damaged("a run of no length"));
            }
            numbers.extend(std::iter::repeat_n(number, length.min(left)));
            continue;
        }
        // A writer may leave out what is behind the last value.
        let packed = length.saturating_mul(usize::from(width)).min(bytes.0.len());
        let packed = bytes.take(packed)?;
        let here = length.saturating_mul(8).min(left);
        if here == 0 || (here * usize::from(width)).div_ceil(8) > packed.len() {
            return Err(damaged("packed numbers end too early"));
        }
        numbers.extend((0..here).map(|at| {
            let first = at * usize::from(width);
            (0..usize::from(width)).fold(0u32, |number, bit| {
                let place = first + bit;
                number | u32::from(packed[place / 8] >> (place % 8) & 1) << bit
            })
        }));
    }
    Ok(numbers)
}

impl Cells {
    fn extend(&mut self, values: Values) {
        match (self, values) {
            (Cells::Numbers(all), Values::Numbers(more)) => all.extend(more),
            (Cells::Words(all), Values::Words(more)) => all.extend(more),
            _ => unreachable!("both follow from the column's kind"),
        }
    }
}
