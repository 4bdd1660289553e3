//! `chainrule check`: are the gradients right, and what do f32 and bf16 lose of them.

use chainrule_lens::check::{LeafCheck, Precision, Status};
use chainrule_lens::{CheckOptions, GradientCheck, check_gradients_with};
use chainrule_train::curves::{Chart, Panel, Scale, Series};

use super::subject::{Looked, Subject};
use crate::outcome::{self, Failure, Outcome};
use crate::report::{Page, Tone, maybe, percent};

/// Check a model's gradients against differences, and what f32 and bf16 lose of them
#[derive(clap::Args)]
#[command(after_help = "\
Every parameter is checked along random directions in double precision, forward and reverse mode against each other and
both against Richardson-extrapolated differences. Data are those of the file, or random numbers if it names none.

Examples:
  chainrule check digits-mlp
  chainrule check runs/digits-cnn-1 --batch 8
  chainrule check text-gpt --batch 2 --json

It ends with exit code 1 if a gradient is wrong.")]
pub struct CheckArgs {
    #[command(flatten)]
    looked: Looked,
}

/// Examples that are looked at where nobody says how many: the loss is computed hundreds of times for each parameter.
const FEW: u32 = 4;

/// Runs `check`.
pub fn run(arguments: CheckArgs) -> Outcome {
    let subject = Subject::open(&arguments.looked, FEW)?;
    let options = CheckOptions { seed: arguments.looked.seed, coordinates: 16, ..CheckOptions::default() };
    let report = check_gradients_with(&options, |network| subject.loss(network), &subject.network);
    if let Some(path) = &arguments.looked.html {
        page(&subject, &arguments.looked, &report).write(path)?;
    }
    match arguments.looked.json {
        true => outcome::print_json(&report)?,
        false => subject.print(report.to_string())?,
    }
    match report.status {
        Status::Right | Status::Kink => Ok(()),
        Status::Wrong | Status::ModesDiffer => Err(Failure::work("a gradient is not the derivative of its loss")),
    }
}

/// The report as a page.
fn page(subject: &Subject, looked: &Looked, report: &GradientCheck) -> Page {
    let mut page = subject.page(looked, "Gradient check");
    let tone = match report.status {
        Status::Right => Tone::Good,
        Status::Kink => Tone::Odd,
        Status::Wrong | Status::ModesDiffer => Tone::Bad,
    };
    let head = match report.status {
        Status::Right => "every gradient is the derivative of the loss",
        Status::Kink => {
            "every gradient is right; some stand on a kink, where it lies between the slopes of the two sides"
        }
        Status::Wrong => "a gradient is not the derivative of the loss",
        Status::ModesDiffer => "forward and reverse mode disagree",
    };
    page.verdict(tone, head, &[("loss", report.value.to_string())]);
    for kink in &report.kinks {
        page.words(&format!("{} elements are on the kink of {} at {}", kink.elements, kink.operation, kink.line));
    }
    for (operation, line) in &report.cut {
        page.words(&format!("{operation} at {line} has derivative 0 by decree"));
    }
    page.heading("Derivatives against differences");
    let row = |leaf: &LeafCheck| {
        let worst = leaf
            .worst
            .as_ref()
            .map(|worst| format!("{} for {} at {:?}", worst.derivative, worst.differences, worst.index));
        let line = leaf.line.as_ref().map(|line| line.to_string());
        let numbers = [leaf.derivative, leaf.differences].map(|x| x.to_string());
        let errors = [leaf.relative_error, leaf.forward_reverse].map(|x| format!("{:.1e}", x.0));
        [
            &[leaf.path.clone(), leaf.status.to_string(), leaf.ty.clone()],
            &numbers[..],
            &errors[..],
            &[maybe(line), maybe(worst)],
        ]
        .concat()
    };
    let columns =
        ["parameter", "", "type", "#derivative", "#differences", "#error", "#forward − reverse", "line", "worst"];
    page.table(&columns, &report.leaves.iter().map(row).collect::<Vec<_>>());
    page.heading("Digits lost in smaller dtypes");
    page.words("Decimal digits of the gradient of each layer's parameters that a dtype holds, and how many of them its arithmetic loses, against double precision.");
    let series = |dtype: &str| {
        let of = report.layers.iter().filter(|loss| loss.dtype == dtype);
        Series::new(dtype, of.enumerate().map(|(at, loss)| (at as f64, loss.lost)).collect::<Vec<_>>())
    };
    let mut dtypes: Vec<&str> = report.layers.iter().map(|loss| loss.dtype.as_str()).collect();
    dtypes.dedup();
    let panel = Panel {
        title: "digits lost".into(),
        scale: Scale::Linear,
        series: dtypes.into_iter().map(series).collect(),
        ..Panel::default()
    };
    page.picture(&Chart {
        title: String::new(),
        x_label: "layer, in the order of the table".into(),
        panels: vec![panel],
    });
    let row = |loss: &Precision| {
        let numbers = [loss.digits, loss.lost].map(|x| format!("{x:.1}"));
        [&[loss.path.clone(), loss.dtype.clone()], &numbers[..], &[percent(loss.underflowed)]].concat()
    };
    let rows: Vec<Vec<String>> = report.layers.iter().map(row).collect();
    page.table(&["layer", "dtype", "#digits", "#lost", "#became 0"], &rows);
    page
}
