//! Rows of a table as inputs of a trained network: of the table that the network was trained on, or of one like it.
//!
//! A run on a table kept how its columns became numbers, and reads columns by their names. Any other run takes the
//! numbers as they stand, one input a row; the first line of a CSV may be names then.

use std::path::Path;

use chainrule::tensor::Tensor;

use super::{Experiment, ExperimentError};
use crate::data::DataError;
use crate::data::table::{Column, read_table};

impl Experiment {
    /// The rows of a CSV or Parquet file as inputs `[rows, …]`.
    ///
    /// # Errors
    /// If it cannot be read or is damaged, or a row is not what the network takes; the message says where.
    pub fn rows_of(&self, path: &Path) -> Result<Tensor, ExperimentError> {
        let form = self.example().inputs.swap_remove(0);
        let in_file = |source| DataError::in_file(path, source);
        let (rows, values) = match &self.kept.encoding {
            Some(encoding) => {
                let table = encoding.read(path)?;
                (table.rows, encoding.encode(&table).map_err(in_file)?)
            }
            None => plain(path, form.numel())?,
        };
        if rows == 0 {
            let empty = DataError::Setting("there is no row of numbers in it".into());
            return Err(in_file(empty).into());
        }
        let inputs = match &self.kept.encoding {
            Some(_) => self.transformed(&Tensor::from_vec(&values, [rows, values.len() / rows]))?,
            None => Tensor::from_vec(&values, [&[rows], &form.shape[..]].concat()),
        };
        match inputs.shape()[1..] == form.shape[..] {
            true => Ok(inputs.cast(form.dtype)),
            false => Err(wrong_count(path, "a row", inputs.numel() / rows, form.numel())),
        }
    }
}

fn wrong_count(path: &Path, place: &str, found: usize, wanted: usize) -> ExperimentError {
    let problem = format!("{place}: {found} numbers, and the network takes {wanted}");
    DataError::in_file(path, DataError::Setting(problem)).into()
}

/// Numbers as they stand, `wanted` a row.
fn plain(path: &Path, wanted: usize) -> Result<(usize, Vec<f32>), ExperimentError> {
    let in_file = |problem: String| DataError::in_file(path, DataError::Setting(problem));
    let bytes = std::fs::read(path).map_err(|error| DataError::io(path, error))?;
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return numbers(path, wanted);
    };
    let (mut rows, mut values) = (0, Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("line {}", number + 1);
        let cells: Result<Vec<f32>, _> = line.split(',').map(|cell| cell.trim().parse::<f32>()).collect();
        match cells {
            // The names of the columns.
            Err(_) if number == 0 => {}
            Ok(cells) if cells.len() != wanted => return Err(wrong_count(path, &place, cells.len(), wanted)),
            Ok(cells) if cells.iter().all(|cell| cell.is_finite()) => {
                values.extend(cells);
                rows += 1;
            }
            _ => return Err(in_file(format!("{place}: not all of it are numbers")).into()),
        }
    }
    Ok((rows, values))
}

/// The columns of a Parquet file, which must all be numbers.
fn numbers(path: &Path, wanted: usize) -> Result<(usize, Vec<f32>), ExperimentError> {
    let table = read_table(path, &[])?;
    if table.columns.len() != wanted {
        return Err(wrong_count(path, "its rows", table.columns.len(), wanted));
    }
    let column = |(name, column): &(String, Column)| match column {
        Column::Numbers(values) => Ok(values.clone()),
        Column::Categories { .. } => {
            let problem = DataError::Setting(format!("column {name:?}: not all of it are numbers"));
            Err(DataError::in_file(path, problem))
        }
    };
    let columns = table.columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let row = |row: usize| columns.iter().map(move |column| column[row] as f32);
    Ok((table.rows, (0..table.rows).flat_map(row).collect()))
}
