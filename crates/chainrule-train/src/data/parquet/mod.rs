//! Parquet files as tables: columns of numbers, words and truth values, in one row after another.
//!
//! Format: parquet-format of Apache Parquet. What is read is what tables for learning are: flat columns of booleans,
//! integers, floats, decimals that are integers, and UTF-8. Lists and structs, times, and rare encodings are refused by
//! name, nulls by their row. Nothing in a file is trusted: every length is checked before it is used.
//!
//! The crates that read all of Parquet are as large as this whole project's own build; this is the part that is needed.

mod compact;
mod page;

use super::DataError;
use super::table::{Cells, Table};
use compact::{Bytes, Value};

/// The first and last bytes of a file.
pub(super) const MAGIC: &[u8] = b"PAR1";
/// The most bytes of a page, unpacked: 1 GiB.
const MOST_BYTES: usize = 1 << 30;
/// The most values of a file.
const MOST_CELLS: usize = 1 << 27;

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Flag,
    /// Whole numbers of 4 or 8 bytes, divided by `scale`.
    Integer {
        bytes: u8,
        signed: bool,
        scale: f64,
    },
    Half,
    Float,
    Double,
    Text,
}

/// One column as the file describes it.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: Kind,
    /// Whether there may be nulls.
    optional: bool,
}

/// Reads the bytes of a Parquet file; columns named `categorical` are categories though they are numbers.
///
/// # Errors
/// If it is damaged, has what is not read here, or a value is missing; the message says where.
pub fn parse_parquet(bytes: &[u8], categorical: &[String]) -> Result<Table, DataError> {
    let footer = footer(bytes)?;
    let about = Bytes(footer).structure()?;
    let columns = columns(&about)?;
    let mut cells: Vec<Cells> = columns.iter().map(Column::cells).collect();
    let mut row = 0;
    for group in about.list(4) {
        let rows = group.count(3).ok_or_else(|| damaged("a group of rows without their number"))?;
        if rows.saturating_add(row).saturating_mul(columns.len()) > MOST_CELLS {
            let (what, expected) = ("Parquet".into(), format!("at most {MOST_CELLS} values"));
            let found = format!("{} columns of {} rows and more", columns.len(), row + rows);
            return Err(DataError::Unexpected { what, expected, found });
        }
        let chunks = group.list(1);
        if chunks.len() != columns.len() {
            return Err(damaged("a group of rows has not the columns of the file"));
        }
        for ((chunk, column), cells) in chunks.iter().zip(&columns).zip(&mut cells) {
            let (codec, chunk) = bytes_of(chunk, bytes)?;
            page::read_chunk(column, codec, chunk, rows, row, cells)?;
        }
        row += rows;
    }
    Table::of(columns.into_iter().map(|column| column.name).zip(cells).collect(), categorical)
}

/// The description at the end: `… description, its length, PAR1`.
fn footer(bytes: &[u8]) -> Result<&[u8], DataError> {
    let inside = bytes.strip_prefix(MAGIC).and_then(|rest| rest.strip_suffix(MAGIC));
    let inside = inside.ok_or_else(|| damaged("it does not begin and end with PAR1; it may be cut off"))?;
    let at = inside.len().checked_sub(4).ok_or_else(|| damaged("it has no description"))?;
    let length = Bytes(&inside[at..]).length()?;
    let start = at.checked_sub(length).ok_or_else(|| damaged("its description is longer than the file"))?;
    Ok(&inside[start..at])
}

/// The columns, if they are flat and of kinds that are read.
fn columns(about: &Value) -> Result<Vec<Column>, DataError> {
    let Some((root, leaves)) = about.list(2).split_first() else {
        return Err(damaged("it has no schema"));
    };
    if root.count(5).unwrap_or(0) != leaves.len() {
        let nested = leaves.iter().find(|leaf| leaf.count(5).is_some_and(|children| children > 0));
        let name = nested.and_then(|leaf| leaf.text(4)).unwrap_or("?");
        return Err(unfit(name, "lists or structs"));
    }
    leaves.iter().map(column).collect()
}

fn column(leaf: &Value) -> Result<Column, DataError> {
    let name = leaf.text(4).ok_or_else(|| damaged("a column without a name"))?;
    let (converted, logical) = (leaf.integer(6), leaf.field(10));
    let is = |id: i16| logical.is_some_and(|logical| logical.field(id).is_some());
    if is(6) || is(7) || is(8) || matches!(converted, Some(6..=10)) || leaf.integer(1) == Some(3) {
        return Err(unfit(name, "times, which may be numbers or words"));
    }
    let unsigned = logical.and_then(|logical| logical.field(10)).and_then(|integer| integer.flag(2)) == Some(false);
    let signed = !unsigned && !matches!(converted, Some(11..=14));
    let decimal = is(5) || converted == Some(5);
    let scale = logical.and_then(|logical| logical.field(5)?.count(1)).or(leaf.count(7)).filter(|_| decimal);
    let scale = 10f64.powi(scale.unwrap_or(0).min(38) as i32);
    let kind = match leaf.integer(1) {
        Some(0) => Kind::Flag,
        Some(1) => Kind::Integer { bytes: 4, signed, scale },
        Some(2) => Kind::Integer { bytes: 8, signed, scale },
        Some(4) => Kind::Float,
        Some(5) => Kind::Double,
        Some(6) if !decimal => Kind::Text,
        Some(7) if is(15) && leaf.integer(2) == Some(2) => Kind::Half,
        _ if decimal => return Err(unfit(name, "decimals of more than 18 digits")),
        _ => return Err(unfit(name, "bytes of one length")),
    };
    match leaf.integer(3) {
        Some(2) => Err(unfit(name, "lists or structs")),
        repetition => Ok(Column { name: name.to_owned(), kind, optional: repetition == Some(1) }),
    }
}

impl Column {
    fn cells(&self) -> Cells {
        match self.kind {
            Kind::Flag | Kind::Text => Cells::Words(Vec::new()),
            _ => Cells::Numbers(Vec::new()),
        }
    }
}

/// The codec of a chunk and its pages.
fn bytes_of<'a>(chunk: &Value, bytes: &'a [u8]) -> Result<(i64, &'a [u8]), DataError> {
    let about = chunk.field(3).ok_or_else(|| damaged("a column is in another file"))?;
    let first = about.count(9).ok_or_else(|| damaged("a column without pages"))?;
    // A dictionary stands before the pages; some writers say 0 where there is none.
    let first = about.count(11).filter(|&at| at > 0).map_or(first, |at| at.min(first));
    let length = about.count(7).ok_or_else(|| damaged("a column without a length"))?;
    let end = first.saturating_add(length);
    let chunk = bytes.get(first..end).ok_or_else(|| damaged("a column reaches beyond the file"))?;
    Ok((about.integer(4).unwrap_or(0), chunk))
}

fn damaged(problem: &str) -> DataError {
    DataError::Damaged { what: "Parquet".into(), problem: problem.into() }
}

/// What a column has that is not read.
fn unread(column: &Column, found: &str) -> DataError {
    DataError::Unexpected {
        what: format!("column {:?}", column.name),
        expected: "what most writers write, such as pandas with its defaults".into(),
        found: found.into(),
    }
}

fn unfit(name: &str, found: &str) -> DataError {
    DataError::Unexpected {
        what: format!("column {name:?}"),
        expected: "numbers, words or truth values".into(),
        found: found.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{self, Column};
    use super::*;
    use proptest::prelude::*;

    /// The files that `tests/tables/make.py` writes, and the table in all of them.
    macro_rules! files {
        ($($name:literal),*) => { [$(($name, include_bytes!(concat!("../../../tests/tables/", $name, ".parquet")) as &[u8])),*] };
    }

    fn parse(bytes: &[u8]) -> Result<Table, DataError> {
        parse_parquet(bytes, &["grade".to_owned()])
    }

    #[test]
    fn every_way_to_write_a_table_reads_as_its_csv() {
        let text = include_bytes!("../../../tests/tables/table.csv");
        let wanted = table::parse_csv(text, &["grade".to_owned()]).unwrap();
        assert!(wanted.rows == 40 && wanted.columns.len() == 8);
        let mut failures = Vec::new();
        for (name, bytes) in files!["plain", "dictionary", "gzip", "zstd", "pages_v2", "groups"] {
            match parse(bytes) {
                Ok(table) if table == wanted => {}
                Ok(table) => {
                    let differ = table.columns.iter().zip(&wanted.columns).find(|(a, b)| a != b);
                    failures.push(format!("{name}: {} rows, {differ:?}", table.rows));
                }
                Err(error) => failures.push(format!("{name}: {error}")),
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(matches!(&wanted.columns[1].1, Column::Categories { names, .. } if names[..] == ["1", "2", "3"]));
    }

    #[test]
    fn what_is_not_read_is_named() {
        let mut failures = Vec::new();
        for ((name, bytes), says) in files!["nulls", "nan", "nested", "times", "delta", "lz4"].into_iter().zip([
            "row 34, column \"width\": expected a value, found \"null\", which is missing",
            "row 3, column \"width\": expected a value, found \"NaN\", which is missing",
            "column \"list\": expected numbers, words or truth values, found lists or structs",
            "column \"day\": expected numbers, words or truth values, found times",
            "column \"width\": expected what most writers write, such as pandas with its defaults, found the encoding DELTA",
            "found LZ4; write it anew, as with compression = \"snappy\"",
        ]) {
            let found = parse_parquet(bytes, &[]).map_or_else(|error| error.to_string(), |_| "a table".into());
            if !found.contains(says) {
                failures.push(format!("{name}: {found}\n  lacks {says}"));
            }
        }
        let no_column = parse_parquet(files!["plain"][0].1, &["size".into()]).unwrap_err().to_string();
        if !no_column.contains("expected one of width, grade") {
            failures.push(no_column);
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        for (name, bytes) in files!["plain", "pages_v2"] {
            for end in 0..bytes.len() {
                assert!(parse(&bytes[..end]).is_err(), "{name} cut at {end}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_changed_bytes_panic(which in 0usize..5, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = files!["plain", "dictionary", "gzip", "zstd", "pages_v2"][which].1.to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = parse(&bytes);
        }
    }
}
