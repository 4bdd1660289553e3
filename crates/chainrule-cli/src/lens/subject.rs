//! What the lens looks at: the network of a model file with a batch of its data, and the loss in training.

use std::path::PathBuf;

use chainrule::prelude::{DType, Key, Tensor, eval_all, load};
use chainrule::tensor::Type;
use chainrule::tree;
use chainrule_nn::context::Context;
use chainrule_train::data::{Batch, DataSettings, ExampleType, Loader};
use chainrule_train::model::{Form, Network, Spec};
use chainrule_train::task::Objective;

use crate::outcome::{self, Failure, Outcome};

/// What all of them look at.
#[derive(clap::Args)]
pub struct Looked {
    /// A model file, or the name of a recipe
    pub model: String,
    /// Examples that are looked at
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=1 << 16))]
    pub batch: u32,
    /// The seed of first weights, batch and dropout
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Weights of a training, instead of first values
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// A network with a batch and a loss.
pub struct Subject {
    pub spec: Spec,
    pub network: Network,
    pub batch: Batch,
    pub objective: Objective<Network>,
    pub seed: u64,
    /// Whether the file names data.
    pub real: bool,
}

impl Subject {
    pub fn open(looked: &Looked) -> Result<Subject, Failure> {
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
    pub fn loss(&self, network: &Network) -> Tensor {
        let mut context = Context::training(Key::new(self.seed ^ 0xd0c));
        self.objective.loss(&mut network.clone(), &self.batch, &mut context).0
    }

    pub fn print(&self, report: String) -> Outcome {
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
