//! What the lens commands look at: a network, a batch and a loss, of a model file with first values or of a run with what
//! it has learned so far.

use std::path::{Path, PathBuf};

use chainrule::prelude::{DType, Key, Tensor, eval_all, load};
use chainrule::program::capture;
use chainrule::tensor::Type;
use chainrule::tree;
use chainrule_train::data::{Batch, DataSettings, Dataset, ExampleType, Loader};
use chainrule_train::experiment::Experiment;
use chainrule_train::model::{Form, Network, Spec};
use chainrule_train::run::RunFolder;
use chainrule_train::trainer::Record;
use std::sync::Arc;

use crate::experiment::{Found, failure};
use crate::outcome::{self, Failure, Outcome};
use crate::report::Page;

/// Examples that are looked at where nobody says how many.
pub const USUAL: u32 = 32;

/// Bytes that the values of a loss may have before fewer examples are looked at.
const ROOM: usize = 4 << 30;

/// What all of them look at.
#[derive(clap::Args)]
pub struct Looked {
    /// A model file, the name of a recipe, or the folder of a run such as runs/digits-cnn-1
    pub model: String,
    /// Examples that are looked at [default: 32, of check 4, and fewer of a model whose values would not have room]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1 << 16))]
    pub batch: Option<u32>,
    /// The seed of first weights, batch and dropout
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Weights of a training, instead of first values or of those that a run has now
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// One of a pair of networks [default: the generator; doctor looks at both]
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<Which>,
    /// Also write the report as one HTML file with its pictures
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl Looked {
    /// The run, if it is the folder of one.
    pub fn run(&self) -> Result<Option<RunFolder>, Failure> {
        let path = Path::new(&self.model);
        path.is_dir().then(|| RunFolder::open(path).map_err(Failure::input)).transpose()
    }
}

/// One of a pair of networks.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Which {
    /// The one that makes examples, by the loss that it is trained by.
    Generator,
    /// The one that judges them.
    Discriminator,
}

impl Which {
    pub fn name(self) -> &'static str {
        match self {
            Which::Generator => "generator",
            Which::Discriminator => "discriminator",
        }
    }
}

/// The loss of a network over a batch.
pub type Loss = Box<dyn Fn(&Network, &Batch) -> Tensor>;

/// One network with its loss.
pub struct Patient {
    pub name: &'static str,
    pub network: Network,
    pub loss: Loss,
}

/// The networks of a file, each with the loss that it is trained by. Dropout and noise are the same each time.
pub fn patients(spec: &Spec, network: Network, seed: u64) -> Vec<Patient> {
    let networks: Vec<Network> = match network.form() {
        Form::Gan => network.parts().into_iter().map(|part| part.1).collect(),
        _ => vec![network],
    };
    let pairs = spec.losses().into_iter().enumerate();
    let patients = pairs.map(|(at, (name, loss))| {
        let other = networks.iter().enumerate().find(|other| other.0 != at).map(|other| other.1.clone());
        let key = Key::new(seed ^ 0xd0c);
        let loss: Loss = Box::new(move |network, batch| loss(network, other.as_ref(), batch, &key));
        Patient { name, network: networks[at].clone(), loss }
    });
    patients.collect()
}

/// A network with a batch and a loss.
pub struct Subject {
    pub spec: Spec,
    pub network: Network,
    batch: Batch,
    loss: Loss,
    pub seed: u64,
    /// Whether there are data.
    real: bool,
}

/// A network, or a pair of them, with several batches of its data.
pub struct Opened {
    pub spec: Spec,
    pub network: Network,
    pub batches: Vec<Batch>,
    pub example: ExampleType,
    /// Whether there are data.
    pub real: bool,
    /// Whether the weights are those of a training.
    pub learned: bool,
    /// The learning rate of the run's last step, or that of the file.
    pub rate: f64,
}

/// A file or run that has been read.
struct Source {
    spec: Spec,
    /// The examples to train on, if there are any.
    set: Option<Arc<dyn Dataset>>,
    example: ExampleType,
    /// What a run has learned.
    learned: Option<Network>,
    rate: Option<f64>,
}

impl Source {
    /// Of a model file or a recipe.
    fn file(looked: &Looked) -> Result<Source, Failure> {
        let spec = Found::find(&looked.model)?.spec()?;
        let settings: Option<DataSettings> = spec.section("data").map_err(Failure::input)?;
        let set =
            settings.map(|settings| settings.open().map_err(Failure::input)).transpose()?.map(|found| found.train);
        let example = set.as_ref().map(|set| set.example()).or_else(|| spec.example().cloned());
        let example = example.ok_or_else(|| {
            let missing = "the file names no data and does not say what one example looks like";
            Failure::input(format!("{}: {missing}\n  add [data] or [example]", looked.model))
        })?;
        Ok(Source { spec, set, example, learned: None, rate: None })
    }

    /// Of a run: its own model file, data and weights.
    fn run(looked: &Looked, run: &RunFolder) -> Result<Source, Failure> {
        let mut experiment = Experiment::open(run).map_err(failure)?;
        let learned = match looked.weights {
            Some(_) => None,
            None => Some(experiment.trained(run, false).map_err(failure)?),
        };
        let set = experiment.splits().map_err(failure)?.train.clone();
        let spec = Spec::parse(&looked.model, experiment.spec().text()).map_err(Failure::input)?;
        let rate = last_rate(run)?;
        Ok(Source { spec, set: Some(set), example: experiment.example(), learned, rate })
    }
}

/// The learning rate of a run's last step, if its metrics have one.
fn last_rate(run: &RunFolder) -> Result<Option<f64>, Failure> {
    let records: Vec<Record> = run.read_metrics().map_err(Failure::input)?;
    Ok(records.iter().rev().find_map(|record| match record {
        Record::Step(step) => step.numbers.get("rate"),
        Record::Evaluation(_) => None,
    }))
}

impl Opened {
    /// Opens a file or run with so many batches, or as many as an epoch of its data has, of the usual number of examples or
    /// as few as have room.
    pub fn open(looked: &Looked, count: usize, usual: u32) -> Result<Opened, Failure> {
        let examples = looked.batch.unwrap_or(usual) as usize;
        let opened = Opened::with(looked, count, examples)?;
        if looked.batch.is_some() {
            return Ok(opened);
        }
        match examples * ROOM / opened.bytes().max(1) {
            room if room < examples => Opened::with(looked, count, room.max(2)),
            _ => Ok(opened),
        }
    }

    /// Bytes of all values of a loss, which is recorded and not computed.
    fn bytes(&self) -> usize {
        let losses = patients(&self.spec, self.network.clone(), 0).into_iter().map(|patient| {
            let loss = (patient.loss)(&patient.network, &self.batches[0]);
            capture("loss", &[], &[loss]).map_or(0, |program| program.types.iter().map(|ty| ty.bytes()).sum())
        });
        losses.max().unwrap_or(0)
    }

    fn with(looked: &Looked, count: usize, examples: usize) -> Result<Opened, Failure> {
        let source = match looked.run()? {
            Some(run) => Source::run(looked, &run)?,
            None => Source::file(looked)?,
        };
        let Source { mut spec, set, example, learned, rate } = source;
        spec.set_batch(examples);
        let batches: Vec<Batch> = match &set {
            Some(set) => {
                let loader = Loader::new(set.clone(), examples, looked.seed);
                // A smaller last batch is left out where there are others.
                let whole = loader.clone().drop_last(loader.steps_per_epoch() > 1);
                whole.epoch(0, 0).take(count).collect::<Result<_, _>>().map_err(Failure::input)?
            }
            None => (0..count as u64)
                .map(|number| drawn(&example, examples, looked.seed.wrapping_add(number << 32)))
                .collect(),
        };
        let Some(first) = batches.first() else {
            return Err(Failure::input(format!("{}: the data is empty", looked.model)));
        };
        let network = spec.build(&example, &Key::new(looked.seed)).map_err(Failure::input)?;
        if looked.network.is_some() && network.form() != Form::Gan {
            let one = format!("{}: this is one network; --network names one of a pair", looked.model);
            return Err(Failure::input(one));
        }
        let (network, learned) = match (learned, &looked.weights) {
            (Some(learned), _) => (learned, true),
            (None, Some(file)) => (load(&network, file).map_err(Failure::input)?, true),
            (None, None) => (started(&network, first), false),
        };
        let rate = rate.unwrap_or(spec.optimizer_settings().rate);
        Ok(Opened { spec, network, batches, example, real: set.is_some(), learned, rate })
    }
}

/// A network with its first values, of which some look at a batch.
pub fn started(network: &Network, batch: &Batch) -> Network {
    let network = if network.form() == Form::Gan { network.clone() } else { network.settled(&batch.inputs) };
    tree::rebuild(&network, &eval_all(&tree::leaves(&network)))
}

/// A page for a report over a model or a run.
pub fn page(looked: &Looked, what: &str, examples: usize, real: bool) -> Page {
    let data = if real { "of its data" } else { "of random numbers, since the file names no data" };
    let weights = match (&looked.weights, Path::new(&looked.model).is_dir()) {
        (Some(file), _) => format!("weights of {}", file.display()),
        (None, true) => "weights as they are now".to_owned(),
        (None, false) => "first weights".to_owned(),
    };
    let under = format!("{examples} examples {data} · {weights} · seed {}", looked.seed);
    Page::new(&format!("{what} of {}", looked.model), &under)
}

/// What is said before a report over no data.
pub fn noted(real: bool, report: &str) -> String {
    format!("{}{report}", if real { "" } else { "over random numbers, since the file names no data\n" })
}

impl Subject {
    pub fn open(looked: &Looked, usual: u32) -> Result<Subject, Failure> {
        let Opened { spec, network, batches, real, .. } = Opened::open(looked, 1, usual)?;
        let batch = batches.into_iter().next().ok_or_else(|| Failure::input("the data is empty"))?;
        let which = looked.network.unwrap_or(Which::Generator).name();
        let mut found = patients(&spec, network, looked.seed).into_iter();
        let patient = found.find(|patient| patient.name.is_empty() || patient.name == which).expect("one of them");
        let Patient { network, loss, .. } = patient;
        Ok(Subject { spec, network, batch, loss, seed: looked.seed, real })
    }

    /// The loss in training; dropout and noise are the same each time.
    pub fn loss(&self, network: &Network) -> Tensor {
        (self.loss)(network, &self.batch)
    }

    /// A page for a report over it.
    pub fn page(&self, looked: &Looked, what: &str) -> Page {
        page(looked, what, self.batch.len(), self.real)
    }

    pub fn print(&self, report: String) -> Outcome {
        outcome::print(&noted(self.real, &report))
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
