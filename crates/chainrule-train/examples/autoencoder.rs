//! Digits through a code of few numbers and back: an autoencoder, or with `--variational` one whose code is a
//! distribution, trained by the evidence lower bound (ELBO).
//!
//! D. Kingma and M. Welling, "Auto-encoding variational Bayes", 2014. Run:
//! `cargo run --release -p chainrule-train --example autoencoder -- --variational --picture samples.png`

mod common;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use chainrule::prelude::*;
use chainrule_nn::loss::{BinaryCrossEntropy, Normals, Reduction};
use chainrule_nn::optimizer::{Adam, Optimizer};
use chainrule_nn::prelude::Mlp;
use chainrule_train::data::{Batch, Dataset, Loader, Set, Transform, Transformed};
use chainrule_train::experiment::sheet;
use chainrule_train::task::{Measures, Task};
use chainrule_train::trainer::{Course, Event, Length, Trainer, evaluate};
use clap::Parser;
use serde_json::json;

const HIDDEN: usize = 512;
const BATCH: usize = 128;
const RATE: f64 = 1e-3;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
    /// The code is a distribution
    #[arg(long)]
    variational: bool,
    /// mnist, or digits, which are inside
    #[arg(long, default_value = "mnist")]
    set: String,
    /// Folder of data sets
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Times each image is seen
    #[arg(long, default_value_t = 15)]
    epochs: usize,
    /// Numbers of the code
    #[arg(long, default_value_t = 20)]
    code: usize,
    /// Write images here: of codes drawn at random, or of test images that came back
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(Tree, Clone)]
struct Coder {
    encoder: Mlp,
    decoder: Mlp,
}

struct Coding {
    variational: bool,
}

type State = (Coder, Adam<Coder>);

impl Coding {
    /// The loss of an image, a mean over the batch, and its part that is about the code alone.
    fn loss(&self, coder: &Coder, x: &Tensor, key: &Key) -> (Tensor, Tensor) {
        let said = coder.encoder.forward(x);
        if !self.variational {
            let back = coder.decoder.forward(&said).sigmoid();
            return ((back - x).square().sum(-1).mean(..), Tensor::from(0f32));
        }
        let code = Normals::halves(&said);
        let logits = coder.decoder.forward(&code.sample(key));
        let divergence = code.divergence().mean(..);
        let unlike = BinaryCrossEntropy::default().reduction(Reduction::BatchMean).forward(&logits, x);
        (unlike + &divergence, divergence)
    }

    fn measures(&self, (loss, divergence): (Tensor, Tensor), count: usize) -> Measures {
        Measures::new().mean("loss", &loss, count).mean("divergence", &divergence, count)
    }
}

impl Task for Coding {
    type State = State;

    fn step(&self, (coder, adam): &State, batch: &Batch, key: &Key) -> (State, Measures) {
        let loss = |coder: &Coder| self.loss(coder, batch.input(), key);
        let (loss, divergence, gradient) = value_and_grad_aux(loss, coder);
        (adam.update(coder, &gradient), self.measures((loss, divergence), batch.len()))
    }

    fn evaluate(&self, (coder, _): &State, batch: &Batch) -> Measures {
        self.measures(self.loss(coder, batch.input(), &Key::new(1)), batch.len())
    }
}

fn main() -> ExitCode {
    common::ending(run())
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { common, variational, set, data, epochs, code, picture } = Arguments::parse();
    let begin = Instant::now();
    let splits = Set::find(&set)?.open_in(data.as_deref())?;
    let flat = |set: Arc<dyn Dataset>| {
        Ok::<_, Box<dyn std::error::Error>>(Arc::new(Transformed::new(set, Transform::Flatten, 0)?))
    };
    let (train, test) = (flat(splits.train)?, flat(splits.test.ok_or("the set has no test part")?)?);
    let pixels = train.example().inputs[0].numel();
    let train = Loader::new(train, BATCH, common.seed).drop_last(true);
    let test = Loader::new(test, BATCH, 0).shuffle(false);

    let [a, b] = Key::new(common.seed).split();
    let said = if variational { 2 * code } else { code };
    let coder =
        Coder { encoder: Mlp::new(&a, &[pixels, HIDDEN, said]), decoder: Mlp::new(&b, &[code, HIDDEN, pixels]) };
    let adam = Adam::new(&coder, RATE);
    let task = Coding { variational };
    let length = Length::Steps(common.steps(epochs * train.steps_per_epoch(), 5) as u64);
    let end = Trainer::new(length, common.seed).fit(
        &task,
        ((coder, adam), Course::default()),
        (&train, Some(&test)),
        &AtomicBool::new(false),
        |event| {
            if let Event::Evaluation { record, .. } = event {
                let loss = |numbers: &chainrule_train::task::Numbers| numbers.get("loss").unwrap_or(f64::NAN);
                common.say(format!(
                    "epoch {:2}: loss {:.2}, of the test {:.2}",
                    record.epoch,
                    loss(&record.train),
                    loss(&record.validation)
                ));
            }
            Ok(())
        },
    )?;
    let totals = evaluate(|state: &State, batch| task.evaluate(state, batch), &end.state, &test, None)?.numbers();
    if let Some(path) = picture {
        let coder = &end.state.0;
        let side = (pixels as f64).sqrt() as usize;
        let batch = test.epoch(0, 0).next().ok_or("no test images")??;
        let codes = if variational {
            Key::new(7).normal([64, code], DType::F32)
        } else {
            coder.encoder.forward(&batch.input().narrow(0, 0, 64))
        };
        let images = coder.decoder.forward(&codes).sigmoid().reshape([64, 1, side, side]).eval();
        std::fs::write(path, sheet(&images)?.png()?)?;
    }
    let loss = totals.get("loss");
    let name = if variational { "negative_elbo" } else { "squared_error" };
    common.finish(begin, json!({ name: loss, "divergence": totals.get("divergence"), "steps": end.course.step }));
    Ok(())
}
