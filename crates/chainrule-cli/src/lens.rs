//! `chainrule check`, `doctor`, `explain` and `sharpness`: looks at the gradients of a model file over a real batch.
//!
//! What is seen is made by `chainrule-lens`; here a file becomes a network, a batch and a loss, and a report is printed.

use std::path::PathBuf;

use chainrule::prelude::{DType, Key, Tensor, eval_all, load};
use chainrule::tensor::Type;
use chainrule::tree;
use chainrule_lens::check::Status;
use chainrule_lens::flow::Diagnosis;
use chainrule_lens::{
    CheckOptions, Curvature, FlowOptions, GradientFlow, check_gradients_with, curvature, explain as explained,
    trace_nonfinite,
};
use chainrule_nn::context::Context;
use chainrule_train::data::{Batch, DataSettings, ExampleType, Loader};
use chainrule_train::model::{Form, Network, Spec};
use chainrule_train::task::Objective;
use serde::Serialize;

use crate::outcome::{self, Failure, Outcome};

/// What all three look at.
#[derive(clap::Args)]
struct Looked {
    /// A model file, or the name of a recipe
    model: String,
    /// Examples that are looked at
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=1 << 16))]
    batch: u32,
    /// The seed of first weights, batch and dropout
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Weights of a training, instead of first values
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Check a model's gradients against differences, and what f32 and bf16 lose of them
#[derive(clap::Args)]
#[command(after_help = "\
Every parameter is checked along random directions in double precision, forward and reverse mode against each other and
both against Richardson-extrapolated differences. Data are those of the file, or random numbers if it names none.

Examples:
  chainrule check digits-mlp
  chainrule check model.toml --batch 8 --weights runs/1/model.safetensors
  chainrule check text-gpt --batch 2 --json

It ends with exit code 1 if a gradient is wrong.")]
pub struct CheckArgs {
    #[command(flatten)]
    looked: Looked,
}

/// Say how gradients flow through a model's layers, and what is wrong with it
#[derive(clap::Args)]
#[command(after_help = "\
The learning rate is that of the file's optimizer. Data are those of the file, or random numbers if it names none.

Examples:
  chainrule doctor digits-cnn
  chainrule doctor model.toml --curvature
  chainrule doctor model.toml --weights runs/1/model.safetensors --json")]
pub struct DoctorArgs {
    #[command(flatten)]
    looked: Looked,
    /// Also find the largest eigenvalue of the Hessian, for the largest stable rate
    #[arg(long)]
    curvature: bool,
}

/// Write a model's gradient as the product of Jacobians, path by path
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chainrule explain digits-mlp --parameter hidden.weight
  chainrule explain model.toml --as latex
  chainrule explain digits-mlp --as html > gradient.html
  chainrule explain digits-mlp --json")]
pub struct ExplainArgs {
    #[command(flatten)]
    looked: Looked,
    /// Only this parameter
    #[arg(long, value_name = "PATH")]
    parameter: Option<String>,
    /// How to write it
    #[arg(long = "as", value_name = "FORM", default_value = "text", conflicts_with = "json")]
    form: Written,
}

/// Forms of a derivation.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Written {
    /// For a terminal.
    Text,
    /// One align* for each parameter.
    Latex,
    /// One section with MathML.
    Html,
}

/// Say how sharp the loss is: eigenvalues, trace, spectrum and a slice
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chainrule sharpness digits-mlp
  chainrule sharpness model.toml --weights runs/1/model.safetensors --spectrum
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
}

/// A network with a batch and a loss.
struct Subject {
    spec: Spec,
    network: Network,
    batch: Batch,
    objective: Objective<Network>,
    seed: u64,
    /// Whether the file names data.
    real: bool,
}

impl Subject {
    fn open(looked: &Looked) -> Result<Subject, Failure> {
        let mut spec = crate::experiment::Found::find(&looked.model)?.spec()?;
        spec.set_batch(looked.batch as usize);
        let settings: Option<DataSettings> = spec.section("data").map_err(Failure::input)?;
        let splits = settings.map(|settings| settings.open().map_err(Failure::input)).transpose()?;
        let (example, batch, real) = match (&splits, spec.example()) {
            (Some(splits), _) => {
                let loader = Loader::new(splits.train.clone(), looked.batch as usize, looked.seed);
                let first = loader.epoch(0, 0).next();
                let batch = first.ok_or_else(|| Failure::input(format!("{}: the data is empty", looked.model)))?;
                (splits.train.example(), batch.map_err(Failure::input)?, true)
            }
            (None, Some(example)) => (example.clone(), drawn(example, looked.batch as usize, looked.seed), false),
            (None, None) => {
                let missing = "the file names no data and does not say what one example looks like";
                return Err(Failure::input(format!("{}: {missing}\n  add [data] or [example]", looked.model)));
            }
        };
        let network = spec.build(&example, &Key::new(looked.seed)).map_err(Failure::input)?;
        if network.form() == Form::Gan {
            return Err(Failure::input(format!("{}: a pair of networks has no one loss to look at", looked.model)));
        }
        let network = match &looked.weights {
            Some(file) => load(&network, file).map_err(Failure::input)?,
            None => tree::rebuild(&network, &eval_all(&tree::leaves(&network))),
        };
        Ok(Subject { objective: spec.objective(), spec, network, batch, seed: looked.seed, real })
    }

    /// The loss in training; dropout drops the same each time.
    fn loss(&self, network: &Network) -> Tensor {
        let mut context = Context::training(Key::new(self.seed ^ 0xd0c));
        self.objective.loss(&mut network.clone(), &self.batch, &mut context).0
    }

    fn print(&self, report: String) -> Outcome {
        let note = if self.real { "" } else { "over random numbers, since the file names no data\n" };
        outcome::print(&format!("{note}{report}"))
    }
}

/// A batch of random examples.
fn drawn(example: &ExampleType, batch: usize, seed: u64) -> Batch {
    let classes = example.classes.unwrap_or(2) as f64;
    let one = |(number, ty): (usize, &Type)| {
        let key = Key::new(seed).fold(&Tensor::from(number as i64));
        let shape = [&[batch], &ty.shape[..]].concat();
        match ty.dtype.is_float() {
            true => key.normal(shape, ty.dtype).eval(),
            false => (key.uniform(shape, DType::F32) * classes).floor().cast(ty.dtype).eval(),
        }
    };
    let inputs: Vec<Tensor> = example.inputs.iter().enumerate().map(one).collect();
    let targets = example.targets.iter().enumerate().map(|(i, ty)| one((i + 100, ty))).collect();
    Batch { inputs, targets }
}

/// Runs `check`.
pub fn check(arguments: CheckArgs) -> Outcome {
    let subject = Subject::open(&arguments.looked)?;
    let options = CheckOptions { seed: arguments.looked.seed, coordinates: 16, ..CheckOptions::default() };
    let report = check_gradients_with(&options, |network| subject.loss(network), &subject.network);
    match arguments.looked.json {
        true => outcome::print_json(&report)?,
        false => subject.print(report.to_string())?,
    }
    match report.status {
        Status::Right | Status::Kink => Ok(()),
        Status::Wrong | Status::ModesDiffer => Err(Failure::work("a gradient is not the derivative of its loss")),
    }
}

/// Runs `doctor`.
pub fn doctor(arguments: DoctorArgs) -> Outcome {
    let subject = Subject::open(&arguments.looked)?;
    let optimizer = subject.spec.optimizer_settings();
    let options = FlowOptions {
        learning_rate: Some(optimizer.rate),
        adaptive: optimizer.name != "sgd",
        curvature: arguments.curvature,
        seed: arguments.looked.seed,
        ..FlowOptions::default()
    };
    let flow = GradientFlow::observe_with(&options, |network| subject.loss(network), &subject.network);
    if arguments.looked.json {
        #[derive(Serialize)]
        struct Report {
            flow: GradientFlow,
            verdict: Vec<chainrule_lens::flow::Finding>,
        }
        let verdict = flow.verdict();
        return outcome::print_json(&Report { flow, verdict });
    }
    let mut text = flow.to_string();
    match flow.verdict().first().map(|finding| finding.diagnosis) {
        None => text.push_str("nothing is wrong\n"),
        Some(Diagnosis::NotFinite) => {
            let found = trace_nonfinite(|network| subject.loss(network), &subject.network);
            text.extend(found.map(|found| found.to_string()));
        }
        Some(_) => {}
    }
    subject.print(text)
}

/// Runs `explain`.
pub fn explain(arguments: ExplainArgs) -> Outcome {
    let subject = Subject::open(&arguments.looked)?;
    let mut derivation = explained(|network| subject.loss(network), &subject.network);
    if let Some(path) = &arguments.parameter {
        let paths: Vec<String> = derivation.parameters.iter().map(|parameter| parameter.path.clone()).collect();
        derivation.parameters.retain(|parameter| parameter.path == *path);
        if derivation.parameters.is_empty() {
            return Err(Failure::input(format!("there is no parameter {path}\n  there are: {}", paths.join(", "))));
        }
    }
    match (arguments.looked.json, arguments.form) {
        (true, _) => outcome::print_json(&derivation),
        (false, Written::Text) => subject.print(derivation.to_string()),
        (false, Written::Latex) => outcome::print(&derivation.latex()),
        (false, Written::Html) => outcome::print(&derivation.html()),
    }
}

/// Runs `sharpness`.
pub fn sharpness(arguments: SharpnessArgs) -> Outcome {
    #[derive(Serialize)]
    struct Report {
        sharpness: chainrule_lens::Sharpness,
        spectrum: Option<curvature::Spectrum>,
        slice: Option<curvature::Slice>,
    }
    let subject = Subject::open(&arguments.looked)?;
    let loss = |network: &Network| subject.loss(network);
    if !loss(&subject.network).to_f64().is_finite() {
        return Err(Failure::work("the loss is not finite; chainrule doctor says where from"));
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
    };
    if arguments.looked.json {
        return outcome::print_json(&report);
    }
    let mut text = report.sharpness.to_string();
    let more = [report.spectrum.map(|s| s.to_string()), report.slice.map(|s| s.to_string())];
    more.into_iter().flatten().for_each(|part| text.push_str(&format!("\n\n{part}")));
    subject.print(text)
}
