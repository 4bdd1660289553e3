//! `chainrule memory`: what memory a training step of a model file takes and what for, before anything runs, and what a
//! budget changes.

use std::path::PathBuf;

use chainrule::plan::{LiveValue, Part};
use chainrule_lens::memory::{MemoryReport, Share, StepMemory, above, memory_of, sized};
use chainrule_train::curves::{Chart, Panel, Scale, Series, Weight};
use chainrule_train::model::parse_bytes;
use chainrule_train::run::write_atomic;

use crate::experiment::Found;
use crate::outcome::{self, Failure, Outcome};
use crate::report::Page;

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
    /// The most that a step may take, as 500MB, 2GB or 1GiB [default: `memory_budget` of the file's table `train`]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    budget: Option<usize>,
    /// Draw bytes along the step, as .svg or .png
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Also write the report as one HTML file with its pictures
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
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
        write_atomic(path, &bytes).map_err(Failure::input)?;
    }
    if let Some(path) = &arguments.html {
        page(&arguments.model, &report).write(path)?;
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

/// Bytes along the step, parts upon parts: once by what they are for, once by layer.
fn chart(model: &str, report: &MemoryReport) -> Chart {
    let both = [("the step", Some(&report.whole)), ("within the budget", report.budgeted.as_ref())];
    let panels = both.into_iter().filter_map(|(title, memory)| Some((title, memory?))).flat_map(|(title, memory)| {
        let by_part = |value: &LiveValue| match value.part {
            Part::Saved => "saved".to_owned(),
            Part::Recomputed => "computed again".to_owned(),
            Part::Gradient => "gradients".to_owned(),
            Part::Workspace => "workspace".to_owned(),
        };
        let by_layer = |value: &LiveValue| value.layer.clone().unwrap_or_else(|| "no layer".to_owned());
        let panel = |title: String, of: &dyn Fn(&LiveValue) -> String| Panel {
            title,
            scale: Scale::Linear,
            series: stacked(&report.arguments, memory, of),
            ..Panel::default()
        };
        [panel(format!("{title}, by use (MB)"), &by_part), panel(format!("{title}, by layer (MB)"), &by_layer)]
    });
    Chart { title: format!("memory of {model}"), x_label: "operation".into(), panels: panels.collect() }
}

/// Layers that get an area of their own.
const LAYERS: usize = 6;

/// What is there all the time at the bottom, then an area for each name, those with the most bytes over time first.
fn stacked(arguments: &[(String, usize)], memory: &StepMemory, of: &dyn Fn(&LiveValue) -> String) -> Vec<Series> {
    let timeline = &memory.timeline;
    let steps = timeline.steps.len();
    let mut sums = vec![0.0; steps];
    let mut series = Vec::new();
    let mut area = |name: &str, sums: &[f64]| {
        let points: Vec<(f64, f64)> = sums.iter().enumerate().map(|(step, &sum)| (step as f64, sum / 1e6)).collect();
        series.push(Series { weight: Weight::Area, ..Series::new(name, points) });
    };
    let held: usize = arguments.iter().map(|argument| argument.1).sum();
    let rest = memory.peak.saturating_sub(timeline.arena).saturating_sub(held);
    let others = [("results and the like".to_owned(), rest)];
    for (name, bytes) in arguments.iter().chain(others.iter().filter(|other| other.1 > 0)) {
        sums.iter_mut().for_each(|sum| *sum += *bytes as f64);
        area(name, &sums);
    }
    let mut groups: Vec<(String, Vec<f64>)> = Vec::new();
    for value in &timeline.values {
        let name = of(value);
        let at = groups.iter().position(|group| group.0 == name).unwrap_or_else(|| {
            groups.push((name, vec![0.0; steps]));
            groups.len() - 1
        });
        let alive = value.born.min(steps)..value.until.min(steps).max(value.born.min(steps));
        groups[at].1[alive].iter_mut().for_each(|sum| *sum += value.bytes as f64);
    }
    groups.sort_by(|a, b| b.1.iter().sum::<f64>().total_cmp(&a.1.iter().sum::<f64>()));
    if groups.len() > LAYERS {
        let mut rest = vec![0.0; steps];
        for group in groups.drain(LAYERS - 1..) {
            rest.iter_mut().zip(&group.1).for_each(|(rest, more)| *rest += more);
        }
        groups.push(("other layers".to_owned(), rest));
    }
    for (name, bytes) in &groups {
        sums.iter_mut().zip(bytes).for_each(|(sum, more)| *sum += more);
        area(name, &sums);
    }
    series
}

/// The report as a page.
fn page(model: &str, report: &MemoryReport) -> Page {
    let mut page = Page::new(&format!("Memory of {model}"), "one training step, laid out and not run");
    let named = report.arguments.iter().map(|(name, bytes)| (name.as_str(), sized(*bytes)));
    let whole = [("peak of the step", sized(report.whole.peak))];
    let less = report.budgeted.iter().flat_map(|less| {
        let more = less.flops as f64 / report.whole.flops.max(1) as f64 - 1.0;
        [("within the budget", sized(less.peak)), ("more operations for it", format!("{:.1} %", more * 100.0))]
    });
    page.figures(&whole.into_iter().chain(less).chain(named).collect::<Vec<_>>());
    page.picture(&chart(model, report));
    for (title, memory) in [("The step", Some(&report.whole)), ("Within the budget", report.budgeted.as_ref())] {
        let Some(memory) = memory else { continue };
        page.heading(&format!("{title}: {} at its fullest operation", sized(memory.timeline.arena)));
        for (what, shares) in [("layer", &memory.layers), ("operation", &memory.operations), ("line", &memory.lines)] {
            let row = |share: &Share| vec![share.name.clone(), sized(share.bytes), sized(share.saved)];
            page.table(&[what, "#bytes", "#of it saved"], &shares.iter().take(40).map(row).collect::<Vec<_>>());
        }
        if !memory.recomputed.is_empty() {
            let row = |(what, times): &(String, usize)| vec![what.clone(), times.to_string()];
            page.table(&["computed again", "#times"], &memory.recomputed.iter().map(row).collect::<Vec<_>>());
        }
    }
    page
}
