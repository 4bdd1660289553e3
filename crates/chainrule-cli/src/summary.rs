//! `chainrule summary`: the layers of a model file and what a training of it takes, before anything is computed.

use std::fmt::Write;

use chainrule_train::model::{Line, Summary};

use crate::experiment::Found;
use crate::outcome::{self, Failure, Outcome};

/// Show a model's layers, output shapes, parameters, operations and memory
#[derive(clap::Args)]
#[command(after_help = "\
Nothing is computed: neither weights nor data are made. The memory is that of a training step with its optimizer, and is
stated before the first one.

Examples:
  chainrule summary digits-cnn
  chainrule summary model.toml --batch 64
  chainrule summary gpt2-small --json")]
pub struct SummaryArgs {
    /// A model file, or the name of a recipe
    model: String,
    /// Examples a step, instead of the file's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: Option<u32>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: SummaryArgs) -> Outcome {
    let mut spec = Found::find(&arguments.model)?.spec()?;
    if let Some(batch) = arguments.batch {
        spec.set_batch(batch as usize);
    }
    let Some(example) = spec.example().cloned() else {
        return Err(Failure::input(format!(
            "{}: the file does not say what one example looks like\n  add [example] with input = [sizes], and classes or target",
            arguments.model
        )));
    };
    let summary = spec.summary(&example).map_err(Failure::input)?;
    match arguments.json {
        true => outcome::print_json(&summary),
        false => outcome::print(&table(&summary)),
    }
}

/// The table and the totals under it.
fn table(summary: &Summary) -> String {
    let header = ["layer", "kind", "output", "parameters", "FLOPs", "activations"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(summary.layers.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[column] - cell.chars().count());
            let _ = match column {
                0..3 => write!(text, "{cell}{space}  "),
                _ => write!(text, "{space}{cell}  "),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    totals(&mut text, summary);
    text
}

fn row(line: &Line) -> [String; 6] {
    let of_all = |value: String| if line.container { format!("({value})") } else { value };
    [
        line.path.clone(),
        line.kind.to_owned(),
        format!("{:?}", line.output),
        if line.parameters == 0 { "–".into() } else { of_all(grouped(line.parameters as u64)) },
        if line.flops == 0 { "–".into() } else { of_all(count(line.flops)) },
        of_all(bytes(line.activation_bytes)),
    ]
}

fn totals(text: &mut String, summary: &Summary) {
    text.push('\n');
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<28}{value}");
    };
    line("parameters", grouped(summary.parameters as u64));
    if summary.state > 0 {
        line("running statistics", grouped(summary.state as u64));
    }
    line("FLOPs of a forward pass", format!("{} for a batch of {}", count(summary.flops), summary.batch));
    line("FLOPs of a step", count(summary.step_flops));
    line("activations", bytes(summary.activation_bytes));
    let memory = &summary.memory;
    line("memory of a training", bytes(memory.total));
    line("  network", bytes(memory.network));
    line("  optimizer", bytes(memory.optimizer));
    line("  a step", format!("{} (gradients alone {})", bytes(memory.step), bytes(memory.gradients)));
    line("  an evaluation", bytes(memory.evaluation));
    line("  a batch", bytes(memory.batch));
    line("  the process and kernels", bytes(memory.process));
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let comma = |(place, digit): (usize, char)| {
        let comma = place > 0 && (digits.len() - place).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(comma).collect()
}

/// A number with three digits and a unit of thousands.
fn count(number: u64) -> String {
    scaled(number as f64, 1000.0, &["", " k", " M", " G", " T", " P"])
}

fn bytes(number: usize) -> String {
    scaled(number as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"])
}

fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while number >= 999.5 && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let decimals = if unit == 0 || number >= 99.95 {
        0
    } else if number >= 9.995 {
        1
    } else {
        2
    };
    format!("{number:.decimals$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_where_it_matters() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(count(124_439_808), "124 M");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(usize::MAX), "16384 PiB");
    }
}
