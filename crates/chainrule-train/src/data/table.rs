//! Tables: CSV with a line of names, or Parquet; numeric and categorical columns, one of which is the target.
//!
//! A column is numeric if every value of it is a number, and categorical otherwise. Numeric inputs are standardised by
//! the training part, categorical ones become one number a category, 1 for the one that it is; this [`Encoding`] is kept
//! with a run, so that other tables are read as the first one was. A missing value is an error that names its place:
//! what to put there is for who knows the data to say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::random::Random;
use super::{Arrays, DataError, Targets, parquet};

pub use super::parquet::parse_parquet;

/// The most bytes of a file: 1 GiB.
const MAX_BYTES: u64 = 1 << 30;
/// The most categories of a column.
const MAX_CATEGORIES: usize = 10_000;
/// Words for a value that is missing.
const MISSING: [&str; 7] = ["", "NA", "N/A", "NaN", "nan", "null", "?"];
/// What the numbers that choose the test part are drawn for.
const TEST: u64 = 0x7465_7374;

/// One column.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Numbers.
    Numbers(Vec<f64>),
    /// Places in the sorted names.
    Categories {
        /// All that occur, sorted.
        names: Vec<String>,
        /// One a row.
        codes: Vec<usize>,
    },
}

/// Columns of one length, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Names and columns, in the order of the file.
    pub columns: Vec<(String, Column)>,
    /// How many rows there are.
    pub rows: usize,
}

/// How a table becomes a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Roles<'a> {
    /// The column to be predicted.
    pub target: &'a str,
    /// The fraction of rows for testing; 0 for none.
    pub test: f64,
    /// What chooses them.
    pub seed: u64,
}

/// What a table becomes.
#[derive(Clone, Debug)]
pub struct Tabled {
    /// To train on.
    pub train: Arrays,
    /// To test on, if a part was asked for.
    pub test: Option<Arrays>,
    /// Names of the classes, if the target is one of classes.
    pub classes: Option<Vec<String>>,
    /// How its rows became numbers.
    pub encoding: Encoding,
}

/// How the columns of a table become the numbers of an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// The columns that are looked at, in their order.
    pub columns: Vec<(String, Coding)>,
}

/// How a column becomes numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Coding {
    /// `(x − mean)/std`.
    Standardised {
        /// Of the training part.
        mean: f64,
        /// Of the training part; 1 where all its values are the same.
        std: f64,
    },
    /// A number for each of these, 1 for the one that it is.
    OneOf(Vec<String>),
}

/// What a reader finds in a column, before it is decided what it is.
#[derive(Clone, Debug)]
pub(super) enum Cells {
    /// Numbers by their type.
    Numbers(Vec<f64>),
    /// Text.
    Words(Vec<Arc<str>>),
}

/// Reads a table of either kind; which one, its first bytes say. Columns named `categorical` are categories though they
/// look like numbers.
///
/// # Errors
/// If it cannot be read or is damaged, or a value is missing; the message says where.
pub fn read_table(path: &Path, categorical: &[String]) -> Result<Table, DataError> {
    let size = std::fs::metadata(path).map_err(|error| DataError::io(path, error))?.len();
    let in_file = |source| DataError::in_file(path, source);
    if size > MAX_BYTES {
        let (what, expected) = ("file size".into(), format!("at most {MAX_BYTES} bytes"));
        return Err(in_file(DataError::Unexpected { what, expected, found: format!("{size}") }));
    }
    let bytes = std::fs::read(path).map_err(|error| DataError::io(path, error))?;
    let parse = if bytes.starts_with(parquet::MAGIC) { parse_parquet } else { parse_csv };
    parse(&bytes, categorical).map_err(in_file)
}

/// Reads the bytes of a CSV file with a line of names.
///
/// # Errors
/// If rows differ in length, or a value is missing; the message says where.
pub fn parse_csv(bytes: &[u8], categorical: &[String]) -> Result<Table, DataError> {
    let damaged = |error: csv::Error| DataError::Damaged { what: "CSV".into(), problem: error.to_string() };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let names: Vec<String> = reader.headers().map_err(damaged)?.iter().map(str::to_owned).collect();
    let mut words: Vec<Vec<Arc<str>>> = vec![Vec::new(); names.len()];
    for record in reader.records() {
        record.map_err(damaged)?.iter().zip(&mut words).for_each(|(value, column)| column.push(value.into()));
    }
    let number = |word: &Arc<str>| word.parse().ok().filter(|number: &f64| number.is_finite());
    let columns = names.into_iter().zip(words).map(|(name, words)| {
        let kept = categorical.contains(&name);
        let numbers = if kept { None } else { words.iter().map(number).collect() };
        (name, numbers.map_or(Cells::Words(words), Cells::Numbers))
    });
    Table::of(columns.collect(), categorical)
}

/// A place without a value; rows are counted from 0.
pub(super) fn missing(row: usize, column: &str, found: &str) -> DataError {
    DataError::Unexpected {
        what: place(row, column),
        expected: "a value".into(),
        found: format!("{found:?}, which is missing: fill it in or leave the row out"),
    }
}

fn place(row: usize, column: &str) -> String {
    format!("row {}, column {column:?}", row + 1)
}

fn categories(name: &str, values: &[Arc<str>]) -> Result<Column, DataError> {
    let mut codes: BTreeMap<&str, usize> = values.iter().map(|value| (&**value, 0)).collect();
    if codes.len() > MAX_CATEGORIES {
        return Err(DataError::Unexpected {
            what: format!("column {name:?}"),
            expected: format!("at most {MAX_CATEGORIES} categories"),
            found: codes.len().to_string(),
        });
    }
    codes.values_mut().enumerate().for_each(|(at, code)| *code = at);
    let names = codes.keys().map(|&name| name.to_owned()).collect();
    Ok(Column::Categories { names, codes: values.iter().map(|value| codes[&**value]).collect() })
}

fn no_column(name: &str, names: &[String]) -> DataError {
    DataError::Unexpected {
        what: "column".into(),
        expected: format!("one of {}", names.join(", ")),
        found: format!("{name:?}"),
    }
}

impl Table {
    /// Columns of one length, each numbers or categories.
    pub(super) fn of(columns: Vec<(String, Cells)>, categorical: &[String]) -> Result<Table, DataError> {
        let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        if let Some(unknown) = categorical.iter().find(|name| !names.contains(name)) {
            return Err(no_column(unknown, &names));
        }
        let rows = columns.first().map_or(0, |(_, cells)| match cells {
            Cells::Numbers(numbers) => numbers.len(),
            Cells::Words(words) => words.len(),
        });
        // The first row with a hole, whatever its column.
        let hole = |(name, cells): &(String, Cells)| match cells {
            Cells::Numbers(numbers) => {
                let row = numbers.iter().position(|number| number.is_nan())?;
                Some((row, name.clone(), "NaN".to_owned()))
            }
            Cells::Words(words) => {
                let row = words.iter().position(|word| MISSING.contains(&&**word))?;
                Some((row, name.clone(), words[row].to_string()))
            }
        };
        if let Some((row, name, found)) = columns.iter().filter_map(hole).min_by_key(|hole| hole.0) {
            return Err(missing(row, &name, &found));
        }
        let column = |(name, cells): (String, Cells)| {
            let column = match cells {
                Cells::Numbers(numbers) if categorical.contains(&name) => {
                    let words: Vec<Arc<str>> = numbers.iter().map(|number| number.to_string().into()).collect();
                    categories(&name, &words)?
                }
                Cells::Numbers(numbers) => match numbers.iter().position(|number| !number.is_finite()) {
                    None => Column::Numbers(numbers),
                    Some(row) => {
                        let (what, found) = (place(row, &name), numbers[row].to_string());
                        return Err(DataError::Unexpected { what, expected: "a finite number".into(), found });
                    }
                },
                Cells::Words(words) => categories(&name, &words)?,
            };
            Ok((name, column))
        };
        Ok(Table { columns: columns.into_iter().map(column).collect::<Result<_, DataError>>()?, rows })
    }

    /// Inputs and targets for training and testing.
    ///
    /// # Errors
    /// If there is no such column, no other one, or no row for a part.
    pub fn into_set(self, roles: &Roles) -> Result<Tabled, DataError> {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let Some(at) = names.iter().position(|name| name == roles.target) else {
            return Err(no_column(roles.target, &names));
        };
        let mut order = Random::of(&[roles.seed, TEST]).permutation(self.rows);
        let kept = (self.rows as f64 * roles.test).round() as usize;
        if !(0.0..1.0).contains(&roles.test) || kept >= self.rows || (roles.test > 0.0 && kept == 0) {
            return Err(DataError::Setting(format!(
                "a test part of {} of {} rows leaves one of the parts empty",
                roles.test, self.rows
            )));
        }
        let mut test = order.split_off(self.rows - kept);
        order.sort_unstable();
        test.sort_unstable();

        let target = &self.columns[at].1;
        let inputs = self.columns.iter().filter(|(name, _)| name != roles.target);
        let encoding =
            Encoding { columns: inputs.map(|(name, column)| (name.clone(), Coding::of(column, &order))).collect() };
        if encoding.columns.is_empty() {
            return Err(DataError::Setting(format!("there is no column beside the target {:?}", roles.target)));
        }
        let numbers = encoding.encode(&self)?;
        let width = encoding.inputs().len();
        let classes = match target {
            Column::Categories { names, .. } => Some(names.clone()),
            Column::Numbers(_) => None,
        };
        let part = |rows: &[usize]| {
            let values: Vec<f32> = rows.iter().flat_map(|&row| &numbers[row * width..][..width]).copied().collect();
            let targets = match target {
                Column::Categories { names, codes } => {
                    Targets::classes(rows.iter().map(|&row| codes[row] as i64).collect(), names.len())?
                }
                Column::Numbers(values) => {
                    Targets::Values { values: rows.iter().map(|&row| values[row] as f32).collect(), shape: vec![1] }
                }
            };
            Arrays::new(values, &[width], targets)
        };
        let (train, test) = (part(&order)?, if test.is_empty() { None } else { Some(part(&test)?) });
        Ok(Tabled { train, test, classes, encoding })
    }
}

impl Coding {
    /// Of a column, with the statistics of these rows.
    fn of(column: &Column, rows: &[usize]) -> Coding {
        match column {
            Column::Categories { names, .. } => Coding::OneOf(names.clone()),
            Column::Numbers(values) => {
                let count = rows.len().max(1) as f64;
                let mean = rows.iter().map(|&row| values[row]).sum::<f64>() / count;
                let variance = rows.iter().map(|&row| (values[row] - mean).powi(2)).sum::<f64>() / count;
                Coding::Standardised { mean, std: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
            }
        }
    }

    /// The numbers of a column, as many for each row.
    fn encode(&self, name: &str, column: &Column) -> Result<Vec<f32>, DataError> {
        match (self, column) {
            (Coding::Standardised { mean, std }, Column::Numbers(values)) => {
                Ok(values.iter().map(|value| ((value - mean) / std) as f32).collect())
            }
            (Coding::OneOf(known), Column::Categories { names, codes }) => {
                // Where each name of this table stands among those known.
                let places: Vec<Option<usize>> =
                    names.iter().map(|name| known.iter().position(|other| other == name)).collect();
                let mut numbers = vec![0.0; codes.len() * known.len()];
                for (row, &code) in codes.iter().enumerate() {
                    let Some(at) = places[code] else {
                        return Err(DataError::Unexpected {
                            what: place(row, name),
                            expected: format!("one of {}", known.join(", ")),
                            found: format!("{:?}", names[code]),
                        });
                    };
                    numbers[row * known.len() + at] = 1.0;
                }
                Ok(numbers)
            }
            (Coding::Standardised { .. }, Column::Categories { names, codes }) => {
                let row = codes.iter().position(|&code| !names[code].parse().is_ok_and(f64::is_finite)).unwrap_or(0);
                let found = codes.get(row).map_or(String::new(), |&code| format!("{:?}", names[code]));
                Err(DataError::Unexpected { what: place(row, name), expected: "a number".into(), found })
            }
            (Coding::OneOf(known), Column::Numbers(_)) => Err(DataError::Unexpected {
                what: format!("column {name:?}"),
                expected: format!("one of {}", known.join(", ")),
                found: "numbers".into(),
            }),
        }
    }

    fn width(&self) -> usize {
        match self {
            Coding::Standardised { .. } => 1,
            Coding::OneOf(names) => names.len(),
        }
    }
}

impl Encoding {
    /// What each number of an example is.
    pub fn inputs(&self) -> Vec<String> {
        let of = |(name, coding): &(String, Coding)| match coding {
            Coding::Standardised { .. } => vec![name.clone()],
            Coding::OneOf(names) => names.iter().map(|category| format!("{name} = {category}")).collect(),
        };
        self.columns.iter().flat_map(of).collect()
    }

    /// Reads a table whose rows are to be given to what was trained on another one.
    ///
    /// # Errors
    /// As [`read_table`].
    pub fn read(&self, path: &Path) -> Result<Table, DataError> {
        let one_of = self.columns.iter().filter(|(_, coding)| matches!(coding, Coding::OneOf(_)));
        read_table(path, &one_of.map(|(name, _)| name.clone()).collect::<Vec<_>>())
    }

    /// The examples of a table, one row after the other. Its other columns are not looked at.
    ///
    /// # Errors
    /// If it lacks a column, or has words where there were numbers or a category that there was not; it says where.
    pub fn encode(&self, table: &Table) -> Result<Vec<f32>, DataError> {
        let mut parts = Vec::with_capacity(self.columns.len());
        for (name, coding) in &self.columns {
            let Some((_, column)) = table.columns.iter().find(|(other, _)| other == name) else {
                let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
                return Err(DataError::Unexpected {
                    what: "table".into(),
                    expected: format!("a column {name:?}"),
                    found: names.join(", "),
                });
            };
            parts.push((coding.encode(name, column)?, coding.width()));
        }
        let row = |row: usize| parts.iter().flat_map(move |(part, width)| &part[row * width..][..*width]);
        Ok((0..table.rows).flat_map(row).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, inspect};
    use proptest::prelude::*;

    const FLOWERS: &str =
        "width,colour,petals,kind\n1.0, red ,5,rose\n2.0,blue,4,iris\n3.0,\"red\",5,rose\n6.0,red,6,iris\n";

    fn roles(target: &str, test: f64) -> Roles<'_> {
        Roles { target, test, seed: 1 }
    }

    #[test]
    fn columns_become_inputs_and_classes() {
        let tabled = parse_csv(FLOWERS.as_bytes(), &[]).unwrap().into_set(&roles("kind", 0.0)).unwrap();
        assert_eq!(tabled.encoding.inputs(), ["width", "colour = blue", "colour = red", "petals"]);
        assert_eq!(tabled.classes.unwrap(), ["iris", "rose"]);
        let batch = tabled.train.batch(&[1], None).unwrap();
        assert_eq!(batch.target().to_vec::<i64>(), [0]);
        let row = batch.input().to_vec::<f32>();
        let std = 3.5f32.sqrt();
        assert!((row[0] + 1.0 / std).abs() < 1e-6 && row[1..3] == [1.0, 0.0], "{row:?}");
        let found = inspect(&parse_csv(FLOWERS.as_bytes(), &[]).unwrap().into_set(&roles("width", 0.0)).unwrap().train)
            .unwrap();
        assert_eq!((found.targets[0].min, found.targets[0].max, found.balance), (1.0, 6.0, None));
    }

    #[test]
    fn only_training_rows_are_measured() {
        let text: String = "a,b\n".to_owned() + &(0..100).map(|n| format!("{},{}\n", n * n, n % 2)).collect::<String>();
        let table = parse_csv(text.as_bytes(), &["b".into()]).unwrap();
        let tabled = table.into_set(&roles("b", 0.25)).unwrap();
        let test = tabled.test.unwrap();
        assert_eq!((tabled.train.len(), test.len(), tabled.classes.unwrap().len()), (75, 25, 2));
        let found = inspect(&tabled.train).unwrap();
        assert!(found.inputs[0].mean.abs() < 1e-6 && (found.inputs[0].std - 1.0).abs() < 1e-6);
        assert!(inspect(&test).unwrap().inputs[0].mean.abs() > 1e-4);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let parse = |text: &str| parse_csv(text.as_bytes(), &[]).unwrap_err().to_string();
        assert!(parse("a,b\n1,2\n3,NA\n").contains("row 2, column \"b\": expected a value, found \"NA\""));
        assert!(parse("a,b\n1,2\n3\n").contains("CSV: "));
        let set = |target, test| {
            parse_csv(FLOWERS.as_bytes(), &[]).unwrap().into_set(&roles(target, test)).unwrap_err().to_string()
        };
        assert!(set("size", 0.0).contains("expected one of width, colour, petals, kind, found \"size\""));
        assert!(set("kind", 0.99).contains("leaves one of the parts empty"));
        assert!(set("kind", f64::NAN).contains("leaves one of the parts empty"));
        assert!(parse_csv(FLOWERS.as_bytes(), &["size".into()]).is_err());
        assert!(
            parse_csv(b"a\n1\n", &[])
                .unwrap()
                .into_set(&roles("a", 0.0))
                .unwrap_err()
                .to_string()
                .contains("no column beside")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[ab1,.\"\n]{0,80}", test in any::<f64>()) {
            for bytes in [&bytes[..], text.as_bytes()] {
                if let Ok(table) = parse_csv(bytes, &[]) && let Some((name, _)) = table.columns.last().cloned() {
                    let _ = table.into_set(&roles(&name, test));
                }
            }
        }
    }
}
