//! `chainrule sample`: what a trained generator makes of noise, as a PNG grid.

use std::path::PathBuf;

use chainrule_train::experiment::{SAMPLES, sheet};
use clap::Args;
use serde::Serialize;

use crate::experiment::{Asked, failure};
use crate::outcome::{self, Failure, Outcome};

/// Let a trained generator make images
#[derive(Args)]
#[command(after_help = "\
Examples:
  chainrule sample
  chainrule sample runs/dcgan-1 --count 100 --out digits.png
  chainrule sample runs/dcgan-1 --seed 7

While it trains, images of the same noise are written to RUN/samples/step-N.png.")]
pub struct SampleArgs {
    #[command(flatten)]
    asked: Asked,
    /// Images to make
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Decides what is made
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The file to write [default: samples/seed-N.png in the run]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made {
    run: PathBuf,
    images: u32,
    file: PathBuf,
}

pub fn run(arguments: SampleArgs) -> Outcome {
    let (run, experiment) = arguments.asked.experiment()?;
    let network = experiment.trained(&run, false).map_err(failure)?;
    let images = experiment
        .sample(&network, arguments.count as usize, arguments.seed)
        .map_err(|error| Failure::input(format!("{}: {error}", run.path().display())))?;
    let png = sheet(&images).map_err(failure)?.png().map_err(Failure::work)?;
    let file = match arguments.out {
        Some(path) => {
            std::fs::write(&path, png).map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
            path
        }
        None => {
            let name = format!("{SAMPLES}/seed-{}.png", arguments.seed);
            run.write_artefact(&name, &png).map_err(Failure::work)?
        }
    };
    let made = Made { run: run.path().to_path_buf(), images: arguments.count, file };
    match arguments.json {
        true => outcome::print_json(&made),
        false => {
            outcome::print(&format!("{} images of {}: {}\n", made.images, made.run.display(), made.file.display()))
        }
    }
}
