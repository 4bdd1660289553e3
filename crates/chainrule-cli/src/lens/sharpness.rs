//! `chainrule sharpness`: how curved the loss is.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use chainrule::prelude::{Key, Tensor, load};
use chainrule_lens::curvature::SharpnessPoint;
use chainrule_lens::place::Number;
use chainrule_lens::{Curvature, Sharpness, curvature};
use chainrule_train::curves::{Chart, Heat, Panel, Scale, Series};
use chainrule_train::model::Network;
use chainrule_train::run::{RunFolder, write_atomic};
use chainrule_train::snapshots::Snapshots;
use chainrule_train::trainer::Record;
use serde::Serialize;

use super::subject::{Looked, Subject, USUAL};
use crate::outcome::{self, Failure, Outcome};
use crate::report::{Page, maybe, number, percent};

/// Say how sharp the loss is: eigenvalues, trace, spectrum and a slice
#[derive(clap::Args)]
#[command(after_help = "\
Of a run that was trained with --watch it also shows the largest eigenvalue along the training.

Examples:
  chainrule sharpness digits-mlp
  chainrule sharpness runs/digits-mlp-1 --spectrum
  chainrule sharpness runs/digits-mlp-1 --picture sharpness.svg
  chainrule sharpness digits-mlp --slice --json")]
pub struct SharpnessArgs {
    #[command(flatten)]
    looked: Looked,
    /// Also show the distribution of eigenvalues
    #[arg(long)]
    spectrum: bool,
    /// Also show the loss over a plane of two random directions
    #[arg(long)]
    slice: bool,
    /// Draw the spectrum, the loss over a plane, and along the training of a run the largest eigenvalue, as SVG or PNG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    sharpness: Sharpness,
    spectrum: Option<curvature::Spectrum>,
    slice: Option<curvature::Slice>,
    course: Option<Vec<SharpnessPoint>>,
}

/// Runs `sharpness`.
pub fn run(arguments: SharpnessArgs) -> Outcome {
    if let Some(path) = arguments.picture.as_ref().filter(|path| ending(path).is_none()) {
        return Err(Failure::input(format!("--picture {}: its name must end in .svg or .png", path.display())));
    }
    let subject = Subject::open(&arguments.looked, USUAL)?;
    let loss = |network: &Network| subject.loss(network);
    if !loss(&subject.network).to_f64().is_finite() {
        return Err(Failure::work("the loss is not finite; chainrule doctor says where from"));
    }
    let along = arguments.looked.run()?.map(|run| course(&run, &subject)).transpose()?.flatten();
    let mut curved = Curvature::new(loss, &subject.network).with_seed(arguments.looked.seed);
    let directions = || {
        let key = Key::new(arguments.looked.seed);
        [1i64, 2].map(|i| curvature::filter_direction(&subject.network, &key.fold(&Tensor::from(i))))
    };
    let drawn = arguments.picture.is_some() || arguments.looked.html.is_some();
    let report = Report {
        sharpness: curved.sharpness(),
        spectrum: (arguments.spectrum || drawn).then(|| curved.spectrum(4, 40)),
        slice: (arguments.slice || drawn).then(|| {
            let [first, second] = directions();
            curvature::slice_plane(loss, &subject.network, [&first, &second], 1.0, 25)
        }),
        course: along,
    };
    if drawn {
        let chart = chart(&arguments.looked.model, &report);
        if let Some(path) = &arguments.picture {
            let bytes = match ending(path) {
                Some("png") => chart.png().map_err(Failure::work)?,
                _ => chart.svg().into_bytes(),
            };
            write_atomic(path, &bytes).map_err(Failure::input)?;
        }
        if let Some(path) = &arguments.looked.html {
            page(subject.page(&arguments.looked, "Sharpness"), &report, &chart).write(path)?;
        }
    }
    if arguments.looked.json {
        return outcome::print_json(&report);
    }
    let mut text = report.sharpness.to_string();
    let more = [report.spectrum.map(|s| s.to_string()), report.slice.map(|s| s.to_string())];
    more.into_iter().flatten().for_each(|part| text.push_str(&format!("\n\n{part}")));
    text.extend(report.course.map(|course| format!("\n\n{}", table(&course, &subject))));
    text.extend(arguments.picture.map(|path| format!("\npicture  {}", path.display())));
    subject.print(text)
}

/// The largest eigenvalue at the weights that a run kept along its training, and at those it has now; nothing if it kept
/// none.
fn course(run: &RunFolder, subject: &Subject) -> Result<Option<Vec<SharpnessPoint>>, Failure> {
    let kept = Snapshots::list(run).map_err(Failure::input)?;
    if kept.is_empty() {
        return Ok(None);
    }
    let records: Vec<Record> = run.read_metrics().map_err(Failure::input)?;
    let steps = records.iter().filter_map(|record| match record {
        Record::Step(step) => Some(step),
        Record::Evaluation(_) => None,
    });
    let rates: Vec<(u64, f64)> = steps.filter_map(|step| Some((step.step, step.numbers.get("rate")?))).collect();
    let of_step = |step: u64| {
        let at = rates.binary_search_by_key(&step, |rate| rate.0).ok()?;
        Some(rates[at].1)
    };
    let mut points = Vec::new();
    for (step, path) in kept {
        points.push((step, load(&subject.network, &path).map_err(Failure::input)?, of_step(step + 1)));
    }
    let last = rates.last().map_or(0, |rate| rate.0);
    if points.last().is_none_or(|point| point.0 < last) {
        points.push((last, subject.network.clone(), of_step(last)));
    }
    Ok(Some(curvature::sharpness_course(|network| subject.loss(network), points, subject.seed)))
}

/// The course for a terminal.
fn table(course: &[SharpnessPoint], subject: &Subject) -> String {
    let mut text = String::from("along the training\n      step        loss   largest λ      2/rate");
    for point in course {
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4e}"));
        let beyond = point.largest.zip(point.limit).is_some_and(|(largest, limit)| largest.value > limit);
        let note = if beyond { "   above 2/rate" } else { "" };
        let largest = number(point.largest.map(|largest| largest.value));
        let loss = number(Some(point.loss.0));
        let _ = write!(text, "\n  {:>8} {loss:>11} {largest:>11} {:>11}{note}", point.step, number(point.limit));
    }
    let name = &subject.spec.optimizer_settings().name;
    if name != "sgd" {
        let _ = write!(text, "\n  2/rate is the limit of plain descent; {name} divides the curvature by its own scale");
    }
    text
}

/// `svg` or `png`.
fn ending(path: &Path) -> Option<&str> {
    path.extension().and_then(|end| end.to_str()).filter(|end| ["svg", "png"].contains(end))
}

/// All pictures of a report, each with the axis it needs.
fn chart(model: &str, report: &Report) -> Chart {
    let mut panels = Vec::new();
    if let Some(course) = &report.course {
        let points = |of: fn(&SharpnessPoint) -> Option<f64>| -> Vec<(f64, f64)> {
            course.iter().filter_map(|point| Some((point.step as f64, of(point)?))).collect()
        };
        let largest = points(|point| point.largest.map(|largest| largest.value));
        let series = vec![Series::new("largest", largest), Series::new("2 / rate", points(|point| point.limit))];
        let loss = vec![Series::new("loss", points(|point| Some(point.loss.0)))];
        panels.push(panel("largest eigenvalue of the Hessian along the training", "step", series));
        panels.push(panel("loss of the examples looked at", "step", loss));
    }
    if let Some(spectrum) = &report.spectrum {
        let series = vec![Series::new("density", density(&spectrum.points))];
        let title = "spectrum of the Hessian: density of eigenvalues";
        panels.push(Panel { scale: Scale::Log, ..panel(title, "eigenvalue", series) });
    }
    if let Some(slice) = &report.slice {
        let number = |row: &Vec<Number>| row.iter().map(|x| x.0).collect::<Vec<f64>>();
        let heat = Heat { x: slice.u.clone(), y: slice.v.clone(), values: slice.values.iter().map(number).collect() };
        let middle = slice.v.len() / 2;
        let first = slice.values.get(middle).map(number).unwrap_or_default();
        let second = slice.values.iter().filter_map(|row| Some(row.get(middle)?.0)).collect::<Vec<f64>>();
        let along = |name: &str, at: &[f64], values: Vec<f64>| {
            Series::new(name, at.iter().copied().zip(values).collect::<Vec<_>>())
        };
        let lines = vec![along("first direction", &slice.u, first), along("second direction", &slice.v, second)];
        let title = "loss over two random directions, filter by filter as long as the weights";
        panels.push(Panel { heat: Some(heat), ..panel(title, "along the first direction", Vec::new()) });
        panels.push(panel("loss along each of them", "distance from the weights", lines));
    }
    Chart { title: format!("{model}: curvature of the loss"), x_label: String::new(), panels }
}

fn panel(title: &str, x_label: &str, series: Vec<Series>) -> Panel {
    Panel { title: title.into(), scale: Scale::Auto, series, x_label: Some(x_label.into()), heat: None }
}

/// Eigenvalues with their weights as a curve: each a bell a hundredth of the span wide.
fn density(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const PLACES: usize = 400;
    let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.0), h.max(p.0)));
    let span = (high - low).max(f64::MIN_POSITIVE);
    let width = span / 100.0;
    let bell = |x: f64| (-0.5 * x * x).exp() / (width * std::f64::consts::TAU.sqrt());
    let at = |place: usize| low - 0.04 * span + 1.08 * span * place as f64 / (PLACES - 1) as f64;
    let value = |x: f64| points.iter().map(|(at, weight)| weight * bell((x - at) / width)).sum::<f64>();
    // Below a millionth of what one eigenvalue in all would give there is only the tail of a bell.
    let floor = 1e-6 / span;
    (0..PLACES).map(|place| (at(place), value(at(place)).max(floor))).collect()
}

/// A number and its error, where that is to be seen in the digits shown.
fn uncertain(value: f64, error: f64) -> String {
    match error > 1e-4 * value.abs() {
        true => format!("{} ± {}", number(value), Number(format!("{error:.0e}").parse().unwrap_or(error))),
        false => number(value),
    }
}

/// The report as a page.
fn page(mut page: Page, report: &Report, chart: &Chart) -> Page {
    let Sharpness { value, gradient_norm, largest, smallest, trace, along_gradient, .. } = &report.sharpness;
    let figures = [
        ("loss", number(*value)),
        ("length of the gradient", number(*gradient_norm)),
        ("largest eigenvalue", uncertain(largest.value, largest.residual)),
        ("smallest eigenvalue", uncertain(smallest.value, smallest.residual)),
        ("trace", uncertain(trace.mean, trace.standard_error)),
        ("along the gradient", number(*along_gradient)),
        ("descent is stable below a rate of", maybe(report.sharpness.largest_stable_step.map(number))),
    ];
    page.figures(&figures);
    page.picture(chart);
    page.heading("Where the sharpest direction lies");
    let row = |(path, share): &(String, f64)| vec![path.clone(), percent(*share)];
    page.table(&["parameter", "#share"], &report.sharpness.sharpest.iter().map(row).collect::<Vec<_>>());
    page
}
