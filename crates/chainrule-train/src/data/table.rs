//! Tables: CSV with a line of names, numeric and categorical columns, and one column that is the target.
//!
//! A column is numeric if every value of it is a number, and categorical otherwise. Numeric inputs are standardised by
//! the training part, categorical ones become one number a category, 1 for the one that it is. A missing value is an
//! error that names its place: what to put there is for who knows the data to say.

use std::collections::BTreeMap;
use std::path::Path;

use super::random::Random;
use super::{Arrays, DataError, Targets};

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
    /// What each input number is.
    pub inputs: Vec<String>,
}

/// Reads a CSV file with a line of names.
///
/// # Errors
/// If it cannot be read, rows differ in length, or a value is missing; the message says where.
pub fn read_csv(path: &Path, categorical: &[String]) -> Result<Table, DataError> {
    let size = std::fs::metadata(path).map_err(|error| DataError::io(path, error))?.len();
    let in_file = |source| DataError::in_file(path, source);
    if size > MAX_BYTES {
        let (what, expected) = ("file size".into(), format!("at most {MAX_BYTES} bytes"));
        return Err(in_file(DataError::Unexpected { what, expected, found: format!("{size}") }));
    }
    let bytes = std::fs::read(path).map_err(|error| DataError::io(path, error))?;
    parse_csv(&bytes, categorical).map_err(in_file)
}

/// Reads the bytes of a CSV file; see [`read_csv`].
///
/// # Errors
/// As there.
pub fn parse_csv(bytes: &[u8], categorical: &[String]) -> Result<Table, DataError> {
    let damaged = |error: csv::Error| DataError::Damaged { what: "CSV".into(), problem: error.to_string() };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let names: Vec<String> = reader.headers().map_err(damaged)?.iter().map(str::to_owned).collect();
    let mut values: Vec<Vec<String>> = vec![Vec::new(); names.len()];
    for (row, record) in reader.records().enumerate() {
        for ((value, name), column) in record.map_err(damaged)?.iter().zip(&names).zip(&mut values) {
            if MISSING.contains(&value) {
                return Err(DataError::Unexpected {
                    what: format!("row {}, column {name:?}", row + 1),
                    expected: "a value".into(),
                    found: format!("{value:?}, which is missing: fill it in or leave the row out"),
                });
            }
            column.push(value.to_owned());
        }
    }
    if let Some(unknown) = categorical.iter().find(|name| !names.contains(name)) {
        return Err(no_column(unknown, &names));
    }
    let rows = values.first().map_or(0, Vec::len);
    let columns = names.into_iter().zip(values).map(|(name, values)| {
        let numbers: Option<Vec<f64>> = match categorical.contains(&name) {
            true => None,
            false => values.iter().map(|value| value.parse().ok().filter(|number: &f64| number.is_finite())).collect(),
        };
        let column = numbers.map_or_else(|| categories(&name, values), |numbers| Ok(Column::Numbers(numbers)))?;
        Ok((name, column))
    });
    Ok(Table { columns: columns.collect::<Result<_, DataError>>()?, rows })
}

fn categories(name: &str, values: Vec<String>) -> Result<Column, DataError> {
    let mut codes: BTreeMap<&str, usize> = values.iter().map(|value| (value.as_str(), 0)).collect();
    if codes.len() > MAX_CATEGORIES {
        return Err(DataError::Unexpected {
            what: format!("column {name:?}"),
            expected: format!("at most {MAX_CATEGORIES} categories"),
            found: codes.len().to_string(),
        });
    }
    codes.values_mut().enumerate().for_each(|(at, code)| *code = at);
    let names = codes.keys().map(|&name| name.to_owned()).collect();
    Ok(Column::Categories { names, codes: values.iter().map(|value| codes[value.as_str()]).collect() })
}

fn no_column(name: &str, names: &[String]) -> DataError {
    DataError::Unexpected {
        what: "column".into(),
        expected: format!("one of {}", names.join(", ")),
        found: format!("{name:?}"),
    }
}

impl Table {
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

        let mut columns = self.columns;
        let (_, target) = columns.remove(at);
        let (mut inputs, mut numbers) = (Vec::new(), Vec::new());
        for (name, column) in columns {
            match column {
                Column::Numbers(values) => {
                    numbers.push(standardised(&values, &order));
                    inputs.push(name);
                }
                Column::Categories { names, codes } => {
                    for (category, of) in names.iter().enumerate() {
                        numbers.push(codes.iter().map(|&code| (code == category) as u8 as f32).collect());
                        inputs.push(format!("{name} = {of}"));
                    }
                }
            }
        }
        if inputs.is_empty() {
            return Err(DataError::Setting(format!("there is no column beside the target {:?}", roles.target)));
        }
        let classes = match &target {
            Column::Categories { names, .. } => Some(names.clone()),
            Column::Numbers(_) => None,
        };
        let part = |rows: &[usize]| {
            let values: Vec<f32> =
                rows.iter().flat_map(|&row| numbers.iter().map(move |column: &Vec<f32>| column[row])).collect();
            let targets = match &target {
                Column::Categories { names, codes } => {
                    Targets::classes(rows.iter().map(|&row| codes[row] as i64).collect(), names.len())?
                }
                Column::Numbers(values) => {
                    Targets::Values { values: rows.iter().map(|&row| values[row] as f32).collect(), shape: vec![1] }
                }
            };
            Arrays::new(values, &[inputs.len()], targets)
        };
        let (train, test) = (part(&order)?, if test.is_empty() { None } else { Some(part(&test)?) });
        Ok(Tabled { train, test, classes, inputs })
    }
}

/// `(x − mean)/std` with the statistics of these rows; a column that is the same in all of them becomes 0 there.
fn standardised(values: &[f64], rows: &[usize]) -> Vec<f32> {
    let count = rows.len().max(1) as f64;
    let mean = rows.iter().map(|&row| values[row]).sum::<f64>() / count;
    let variance = rows.iter().map(|&row| (values[row] - mean).powi(2)).sum::<f64>() / count;
    let std = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    values.iter().map(|value| ((value - mean) / std) as f32).collect()
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
        assert_eq!(tabled.inputs, ["width", "colour = blue", "colour = red", "petals"]);
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
