//! `chainrule sharpness`: how curved the loss is.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use chainrule::prelude::{Key, Tensor, load};
use chainrule_lens::curvature::SharpnessPoint;
use chainrule_lens::{Curvature, curvature};
use chainrule_train::curves::{Chart, Panel, Scale, Series};
use chainrule_train::model::Network;
use chainrule_train::run::{RunFolder, write_atomic};
use chainrule_train::snapshots::Snapshots;
use chainrule_train::trainer::Record;
use serde::Serialize;

use super::subject::{Looked, Subject};
use crate::outcome::{self, Failure, Outcome};

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
    /// Draw the largest eigenvalue and 2/rate along the training of a run, as SVG or PNG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// Runs `sharpness`.
pub fn run(arguments: SharpnessArgs) -> Outcome {
    #[derive(Serialize)]
    struct Report {
        sharpness: chainrule_lens::Sharpness,
        spectrum: Option<curvature::Spectrum>,
        slice: Option<curvature::Slice>,
        course: Option<Vec<SharpnessPoint>>,
    }
    let subject = Subject::open(&arguments.looked)?;
    let loss = |network: &Network| subject.loss(network);
    if !loss(&subject.network).to_f64().is_finite() {
        return Err(Failure::work("the loss is not finite; chainrule doctor says where from"));
    }
    let along = arguments.looked.run()?.map(|run| course(&run, &subject)).transpose()?.flatten();
    if let Some(path) = &arguments.picture {
        let course = along.as_ref().ok_or_else(|| {
            Failure::input(format!(
                "--picture: {} has no weights along its training; give the folder of a run that was trained with --watch",
                arguments.looked.model
            ))
        })?;
        draw(&arguments.looked.model, course, path)?;
    }
    let mut curved = Curvature::new(loss, &subject.network).with_seed(arguments.looked.seed);
    let directions = || {
        let key = Key::new(arguments.looked.seed);
        [1i64, 2].map(|i| curvature::filter_direction(&subject.network, &key.fold(&Tensor::from(i))))
    };
    let report = Report {
        sharpness: curved.sharpness(),
        spectrum: arguments.spectrum.then(|| curved.spectrum(4, 40)),
        slice: arguments.slice.then(|| {
            let [first, second] = directions();
            curvature::slice_plane(loss, &subject.network, [&first, &second], 1.0, 25)
        }),
        course: along,
    };
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

fn draw(model: &str, course: &[SharpnessPoint], path: &Path) -> Result<(), Failure> {
    let points = |of: fn(&SharpnessPoint) -> Option<f64>| -> Vec<(f64, f64)> {
        course.iter().filter_map(|point| Some((point.step as f64, of(point)?))).collect()
    };
    let largest = points(|point| point.largest.map(|largest| largest.value));
    let series = vec![Series::new("largest", largest), Series::new("2 / rate", points(|point| point.limit))];
    let loss = vec![Series::new("loss", points(|point| Some(point.loss.0)))];
    let chart = Chart {
        title: format!("{model}: sharpness along the training"),
        x_label: "step".into(),
        panels: vec![
            Panel { title: "largest eigenvalue of the Hessian".into(), scale: Scale::Auto, series },
            Panel { title: "loss of the examples looked at".into(), scale: Scale::Auto, series: loss },
        ],
    };
    let bytes = match path.extension().and_then(|end| end.to_str()) {
        Some("svg") => chart.svg().into_bytes(),
        Some("png") => chart.png().map_err(Failure::work)?,
        _ => return Err(Failure::input(format!("--picture {}: its name must end in .svg or .png", path.display()))),
    };
    write_atomic(path, &bytes).map_err(Failure::input)
}
