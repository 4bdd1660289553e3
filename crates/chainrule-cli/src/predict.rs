//! `chainrule predict`: what a trained network says of the test images, of one of them, or of a picture. Here the network
//! of `chainrule train` without a model; those of model files are in `predict_model.rs`.

use std::io::ErrorKind;
use std::path::PathBuf;

use chainrule::prelude::*;
use chainrule::tree;
use chainrule_nn::layer::Mlp;
use chainrule_train::digits::{CLASSES, Digits, PIXELS, SIDE};
use chainrule_train::log::MODEL;
use chainrule_train::metrics::ConfusionMatrix;
use chainrule_train::picture::{read_digit, shades};
use chainrule_train::run::RunFolder;
use chainrule_train::trainer::evaluate;
use clap::Args;
use serde::Serialize;

use crate::experiment::{Asked, is_experiment};
use crate::outcome::{self, Failure, Outcome};
use crate::predict_model::{self, Question};
use crate::settings::Trained;
use crate::train::{failure, objective, test_images};

/// Ask a trained network: about the test data, one of them, a picture, or the rows of a table
#[derive(Args)]
#[command(after_help = "\
Examples:
  chainrule predict
  chainrule predict runs/digits-3 --index 17
  chainrule predict --image seven.png --json
  chainrule predict runs/house-prices-1 --table new.csv")]
pub struct PredictArgs {
    #[command(flatten)]
    asked: Asked,
    /// A PNG picture: of a digit, dark on light or light on dark, or whatever the network looks at
    #[arg(long, value_name = "FILE", conflicts_with_all = ["index", "table"])]
    image: Option<PathBuf>,
    /// One of the test examples, from 0
    #[arg(long, value_name = "N", conflicts_with = "table")]
    index: Option<usize>,
    /// A CSV or Parquet file whose rows are examples: with the columns of the table that was trained on, or else with
    /// the numbers of the input in their order
    #[arg(long, value_name = "FILE", visible_alias = "csv")]
    table: Option<PathBuf>,
    /// Take the network that was best by validation, instead of the last
    #[arg(long)]
    best: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What is said of all test images.
#[derive(Serialize)]
struct Tested {
    run: PathBuf,
    examples: usize,
    loss: f64,
    accuracy: f64,
    confusion: ConfusionMatrix,
}

/// What is said of one image.
#[derive(Serialize)]
struct Told {
    run: PathBuf,
    digit: usize,
    probabilities: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<i64>,
    pixels: Vec<f32>,
}

pub fn run(arguments: PredictArgs) -> Outcome {
    let run = arguments.asked.open()?;
    if is_experiment(&run) {
        let PredictArgs { image, index, table, best, json, .. } = arguments;
        return predict_model::run(&run, Question { image, index, table, best, json });
    }
    if arguments.table.is_some() || arguments.best {
        return Err(Failure::input("--table and --best are of runs of model files; this one is of `chainrule train`"));
    }
    let model = model_of(&run)?;
    let digits = Digits::load().map_err(Failure::work)?;
    match (&arguments.image, arguments.index) {
        (Some(path), _) => {
            let pixels = read_digit(path).map_err(|error| Failure::input(format!("--image {error}")))?;
            tell(&run, &model, pixels.to_vec(), None, arguments.json)
        }
        (None, Some(index)) => {
            let test = digits.test();
            if index >= test.len() {
                let last = test.len() - 1;
                return Err(Failure::input(format!("--index {index}: the test images are 0 to {last}")));
            }
            tell(&run, &model, test.image(index).to_vec(), Some(test.labels[index]), arguments.json)
        }
        (None, None) => test(&run, &model, &digits, arguments.json),
    }
}

/// The network of a run, nothing of which is trusted before it is checked.
fn model_of(run: &RunFolder) -> Result<Mlp, Failure> {
    let at = run.path().display();
    let config: Trained = run.read_config().map_err(Failure::input)?;
    config.check().map_err(|problem| Failure::input(format!("{at}/config.json: {problem}")))?;
    let path = run.path().join(MODEL);
    let model = match tree::load(&Mlp::new(&Key::new(0), &config.sizes), &path) {
        Err(tree::TensorFileError::Io(_, error)) if error.kind() == ErrorKind::NotFound => {
            let problem = format!("{at} has no {MODEL}: its training ended before the first save; train again");
            return Err(Failure::input(problem));
        }
        loaded => loaded.map_err(Failure::input)?,
    };
    let wrong =
        tree::named_leaves(&model).into_iter().find(|leaf| !leaf.2.to_vec::<f32>().iter().all(|v| v.is_finite()));
    match wrong {
        Some((name, ..)) => {
            Err(Failure::input(format!("{}: {name} holds numbers that are not finite", path.display())))
        }
        None => Ok(model),
    }
}

fn test(run: &RunFolder, model: &Mlp, digits: &Digits, json: bool) -> Outcome {
    let (images, objective) = (test_images(digits).map_err(failure)?, objective());
    let tested = evaluate(|model, batch| objective.evaluate(model, batch), model, &images, None).map_err(failure)?;
    let number = |name: &str| tested.numbers().get(name).unwrap_or(f64::NAN);
    let (loss, accuracy) = (number("loss"), number("accuracy"));
    let confusion = tested.confusion().unwrap_or_else(|| ConfusionMatrix::new(0));
    let run = run.path().to_path_buf();
    if json {
        return outcome::print_json(&Tested { run, examples: images.set().len(), loss, accuracy, confusion });
    }
    outcome::print(&format!("{} on the test images: {confusion}", run.display()))
}

fn tell(run: &RunFolder, model: &Mlp, pixels: Vec<f32>, label: Option<i64>, json: bool) -> Outcome {
    let logits = model.forward(&Tensor::from_vec(&pixels, [1, PIXELS]));
    let probabilities = logits.softmax(-1).to_vec::<f32>();
    let by_size = |a: &usize, b: &usize| probabilities[*a].total_cmp(&probabilities[*b]).then(b.cmp(a));
    let digit = (0..CLASSES).max_by(by_size).expect("there are classes");
    if json {
        let run = run.path().to_path_buf();
        return outcome::print_json(&Told { run, digit, probabilities, label, pixels });
    }
    let mut text = String::from("as the network sees it, 8×8:\n\n");
    for row in shades(&pixels, SIDE).lines() {
        text += &format!("    │{row}│\n");
    }
    text += "\n";
    for (class, &probability) in probabilities.iter().enumerate() {
        let bar = "█".repeat((probability * 30.0).round() as usize);
        let mark = if class == digit { "→" } else { " " };
        text += format!("  {mark} {class}  {:>5.1} %  {bar}", 100.0 * probability).trim_end();
        text += "\n";
    }
    text += &match label {
        Some(label) if label == digit as i64 => format!("\nit is read as {digit}, and that is right\n"),
        Some(label) => format!("\nit is read as {digit}, and is a {label}\n"),
        None => format!("\nit is read as {digit}\n"),
    };
    outcome::print(&text)
}
