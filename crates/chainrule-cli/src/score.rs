//! `chainrule score`: how good made images are, by a trained classifier.

use std::path::{Path, PathBuf};

use chainrule::tensor::Tensor;
use chainrule_train::data::npy::{self, Elements};
use chainrule_train::experiment::{Experiment, Score};
use chainrule_train::run::RunFolder;
use clap::Args;
use serde::Serialize;

use crate::experiment::failure;
use crate::outcome::{self, Failure, Outcome};

/// Measure made images by a trained classifier
#[derive(Args)]
#[command(after_help = "\
Examples:
  chainrule score runs/dcgan-1 --by runs/mnist-cnn-1
  chainrule score images.npy --by runs/mnist-cnn-1 --json

The classifier score is exp of the mean divergence of what it says of one image from what it says of all; the Fréchet
distance is that of the made images from the test part, in what comes into the classifier's last layer.")]
pub struct ScoreArgs {
    /// A run whose generator makes images, or a file .npy of images from 0 to 1 (or bytes)
    made: PathBuf,
    /// The run of the classifier
    #[arg(long, value_name = "RUN")]
    by: PathBuf,
    /// Images that a generator makes
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    count: u32,
    /// Decides what is made
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Scored {
    made: PathBuf,
    by: PathBuf,
    #[serde(flatten)]
    score: Score,
}

pub fn run(arguments: ScoreArgs) -> Outcome {
    let images = match arguments.made.is_dir() {
        true => generated(&arguments.made, arguments.count as usize, arguments.seed)?,
        false => read(&arguments.made)?,
    };
    let (classifier, mut experiment) = open(&arguments.by)?;
    let network = experiment.trained(&classifier, false).map_err(failure)?;
    let score = experiment.score(&network, &images).map_err(failure)?;
    let scored = Scored { made: arguments.made, by: arguments.by, score };
    if arguments.json {
        return outcome::print_json(&scored);
    }
    let Score { examples, classifier_score, frechet_distance, data_score, classes } = &scored.score;
    let counts: Vec<String> = classes.iter().map(usize::to_string).collect();
    outcome::print(&format!(
        "{examples} images of {} by {}\nclassifier score   {classifier_score:.3} (the data {data_score:.3})\n\
         Fréchet distance   {frechet_distance:.3}\nread as each class {}\n",
        scored.made.display(),
        scored.by.display(),
        counts.join(" ")
    ))
}

fn open(path: &Path) -> Result<(RunFolder, Experiment), Failure> {
    let run = RunFolder::open(path).map_err(Failure::input)?;
    let experiment = Experiment::open(&run).map_err(failure)?;
    Ok((run, experiment))
}

fn generated(path: &Path, count: usize, seed: u64) -> Result<Tensor, Failure> {
    let (run, experiment) = open(path)?;
    let network = experiment.trained(&run, false).map_err(failure)?;
    let made = experiment.sample(&network, count, seed);
    let made = made.map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    experiment.untransformed(&made).map_err(failure)
}

fn read(path: &Path) -> Result<Tensor, Failure> {
    let wrong = |problem: &str| Err(Failure::input(format!("{}: {problem}", path.display())));
    let mut arrays = npy::read_file(path).map_err(Failure::input)?;
    let Some(array) = arrays.remove("x") else { return wrong("it has no array x; save images with numpy.save") };
    let numbers = match array.elements {
        Elements::F32(numbers) => numbers,
        Elements::U8(bytes) => bytes.into_iter().map(|byte| f32::from(byte) / 255.0).collect(),
        Elements::I64(_) => return wrong("it holds whole numbers; images are bytes, or numbers from 0 to 1"),
    };
    if array.shape.len() < 2 || numbers.iter().any(|number| !number.is_finite()) {
        return wrong("images lie along a first axis, and all numbers are finite");
    }
    Ok(Tensor::from_vec(numbers, array.shape))
}
