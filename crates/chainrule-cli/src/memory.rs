//! `chainrule memory`: what memory a training step of a model file takes and what for, before anything runs, and what a
//! budget changes.

use std::path::PathBuf;

use chainrule::plan::Part;
use chainrule_lens::memory::{MemoryReport, StepMemory, above, memory_of};
use chainrule_train::curves::{Chart, Panel, Scale, Series};
use chainrule_train::model::parse_bytes;

use crate::experiment::Found;
use crate::outcome::{self, Failure, Outcome};

/// Say what the memory of a training step goes to, and what a budget would change
#[derive(clap::Args)]
#[command(after_help = "\
Nothing is computed. Sizes are of one step: parameters, optimizer, batch, and the arena of intermediate values.

Examples:
  chainrule memory digits-cnn
  chainrule memory model.toml --batch 512 --budget 500MB
  chainrule memory gpt2-small --budget 4GB --picture memory.svg")]
pub struct MemoryArgs {
    /// A model file, or the name of a recipe
    model: String,
    /// Examples a step, instead of the file's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: Option<u32>,
    /// The most that a step may take, as 500MB, 2GB or 1GiB [default: `memory_budget` of the file's [train]]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    budget: Option<usize>,
    /// Draw bytes along the step, as .svg or .png
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: MemoryArgs) -> Outcome {
    let mut spec = Found::find(&arguments.model)?.spec()?;
    if let Some(batch) = arguments.batch {
        spec.set_batch(batch as usize);
    }
    let Some(example) = spec.example().cloned() else {
        let missing = "the file does not say what one example looks like";
        return Err(Failure::input(format!("{}: {missing}\n  add [example]", arguments.model)));
    };
    let program = spec.step_program(&example).map_err(Failure::input)?;
    let report = match (arguments.budget, spec.train().memory_budget) {
        (None, Some(budget)) => memory_of(program, Some(budget), &group, &layer)
            .map_err(|error| Failure::input(spec.budget_refused(&error)))?,
        (budget, _) => memory_of(program, budget, &group, &layer).map_err(Failure::input)?,
    };
    if let Some(path) = &arguments.picture {
        let chart = chart(&arguments.model, &report);
        let bytes = match path.extension().and_then(|end| end.to_str()) {
            Some("svg") => chart.svg().into_bytes(),
            Some("png") => chart.png().map_err(Failure::work)?,
            _ => return Err(Failure::input(format!("{} does not end in .svg or .png", path.display()))),
        };
        std::fs::write(path, bytes)
            .map_err(|error| Failure::input(format!("{} cannot be written: {error}", path.display())))?;
    }
    match arguments.json {
        true => outcome::print_json(&report),
        false => outcome::print(&report.to_string()),
    }
}

/// What an argument of the step is, by its name: `0.…` is trained and kept, `1.…` the batch.
fn group(name: &str) -> String {
    let Some((part, _)) = name.strip_prefix("0.").and_then(|name| name.split_once('.')) else { return "batch".into() };
    match part {
        "model" => "network".into(),
        "generator_optimizer" => "generator's optimizer".into(),
        "discriminator_optimizer" => "discriminator's optimizer".into(),
        other => other.replace('_', " "),
    }
}

/// The layer that an argument is a parameter of; of a pair of networks with the name of the one.
fn layer(name: &str) -> Option<String> {
    let name = name.strip_prefix("0.")?;
    let pair = ["generator.", "discriminator."].iter().any(|part| name.starts_with(part));
    let path = if pair { name } else { name.strip_prefix("model.")? };
    Some(above(path).to_owned())
}

/// Bytes along the step, parts upon parts.
fn chart(model: &str, report: &MemoryReport) -> Chart {
    let panels = [("the step (MB)", Some(&report.whole)), ("within the budget (MB)", report.budgeted.as_ref())];
    let panel = |(title, memory): (&str, Option<&StepMemory>)| {
        Some(Panel { title: title.into(), scale: Scale::Linear, series: stacked(memory?) })
    };
    Chart {
        title: format!("memory of {model}"),
        x_label: "operation".into(),
        panels: panels.into_iter().filter_map(panel).collect(),
    }
}

/// A line for each part over the sum of those below it, arguments at the bottom.
fn stacked(memory: &StepMemory) -> Vec<Series> {
    let timeline = &memory.timeline;
    let below = memory.peak - timeline.arena;
    let mut sums = vec![below as f64 / 1e6; timeline.steps.len()];
    let line = |name: &str, sums: &[f64]| {
        Series::new(name, sums.iter().enumerate().map(|(step, &sum)| (step as f64, sum)).collect::<Vec<_>>())
    };
    let mut series = vec![line("parameters, optimizer, batch", &sums)];
    let parts = [
        ("saved", Part::Saved),
        ("recomputed", Part::Recomputed),
        ("gradients", Part::Gradient),
        ("workspace", Part::Workspace),
    ];
    for (name, part) in parts {
        let mut used = false;
        for value in timeline.values.iter().filter(|value| value.part == part) {
            used = true;
            sums[value.born..value.until].iter_mut().for_each(|sum| *sum += value.bytes as f64 / 1e6);
        }
        if used {
            series.push(line(&format!("+ {name}"), &sums));
        }
    }
    series
}
