//! What becomes of signals and of gradients in a network of five hidden layers: the variance of each layer's activations
//! and of the loss's slope at its inputs, at the start and while it learns, from two kinds of first weights.
//!
//! X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010: uniform
//! within ±1/√n (the standard one), or within ±√(6/(n + m)) (the normalised one). Run:
//! `cargo run --release -p chainrule-train --example deep_sigmoid`

mod common;

use std::sync::Arc;
use std::time::Instant;

use chainrule::prelude::*;
use chainrule_nn::layer::Linear;
use chainrule_nn::optimizer::{Optimizer, Sgd};
use chainrule_nn::prelude::init;
use chainrule_train::data::digits::{CLASSES, Digits, PIXELS};
use chainrule_train::data::{Batch, Dataset, Loader};
use clap::Parser;
use serde_json::{Map, Value, json};

const WIDTH: usize = 200;
const HIDDEN: usize = 5;
const BATCH: usize = 32;
const EPOCHS: usize = 40;
const RATE: f64 = 0.05;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
}

#[derive(Clone, Copy)]
struct Kind {
    sigmoid: bool,
    normalised: bool,
}

impl Kind {
    fn name(self) -> String {
        let activation = if self.sigmoid { "sigmoid" } else { "tanh" };
        format!("{activation}, {}", if self.normalised { "normalised" } else { "standard" })
    }

    fn start(self, key: &Key) -> Vec<Linear> {
        let sizes = [&[PIXELS][..], &[WIDTH; HIDDEN], &[CLASSES]].concat();
        let layer = |(n, pair): (usize, &[usize])| {
            let (key, shape) = (key.fold(&Tensor::from(n as i64)), [pair[1], pair[0]]);
            let weight = match self.normalised {
                true => init::glorot_uniform(
                    &key,
                    shape,
                    init::Fan::dense(pair[0], pair[1]),
                    init::Gain::Linear,
                    DType::F32,
                ),
                false => init::uniform(&key, shape, 1.0 / (pair[0] as f64).sqrt(), DType::F32),
            };
            Linear { weight: weight.eval(), bias: Some(Tensor::zeros([pair[1]], DType::F32)) }
        };
        sizes.windows(2).enumerate().map(layer).collect()
    }

    /// Logits and activations; each probe is added to what goes into an activation, so that the slope by it is there.
    fn forward(self, net: &[Linear], x: &Tensor, probes: &[Tensor]) -> (Tensor, Vec<Tensor>) {
        let (last, hidden) = net.split_last().expect("a network has layers");
        let mut seen = vec![x.clone()];
        for (layer, probe) in hidden.iter().zip(probes) {
            let z = layer.forward(seen.last().expect("the input")) + probe;
            seen.push(if self.sigmoid { z.sigmoid() } else { z.tanh() });
        }
        (last.forward(seen.last().expect("the input")), seen.split_off(1))
    }

    /// Variances of activations and of slopes, layer by layer.
    fn variances(self, net: &[Linear], batch: &Batch) -> (Tensor, Tensor) {
        let probes = vec![Tensor::zeros([batch.len(), WIDTH], DType::F32); HIDDEN];
        let loss = |probes: &Vec<Tensor>| {
            let (logits, seen) = self.forward(net, batch.input(), probes);
            // The slope at one example, not at the mean of all.
            (logits.cross_entropy(batch.target()) * batch.len() as f64, seen)
        };
        let (_, seen, slopes) = value_and_grad_aux(loss, &probes);
        let of = |tensors: &[Tensor]| stack(&tensors.iter().map(|t| t.variance(.., 0)).collect::<Vec<_>>(), 0);
        (of(&seen), of(&slopes))
    }
}

/// All examples of a set, flat.
fn whole(set: &dyn Dataset) -> Batch {
    let batch = set.batch(&(0..set.len()).collect::<Vec<_>>(), None).expect("the digits are inside");
    Batch::new(batch.input().reshape([set.len(), PIXELS]).eval(), batch.target().clone())
}

fn train(kind: Kind, common: &common::Common, digits: &Digits) -> Value {
    let (train, test) = (digits.train_set().expect("digits"), digits.test_set().expect("digits"));
    let (shown, test) = (whole(&test), whole(&test));
    let loader = Loader::new(Arc::new(train), BATCH, common.seed).drop_last(true);
    let none = vec![Tensor::from(0f32); HIDDEN];
    let mut net = kind.start(&Key::new(common.seed));
    let mut sgd = Sgd::new(&net, RATE);
    let mut look = compile(|net: &Vec<Linear>| kind.variances(net, &shown));
    let mut step = compile(|((net, sgd), batch): &((Vec<Linear>, Sgd<Vec<Linear>>), Batch)| {
        let x = batch.input().reshape([BATCH, PIXELS]);
        let loss = |net: &Vec<Linear>| kind.forward(net, &x, &none).0.cross_entropy(batch.target());
        sgd.update(net, &grad(loss, net))
    });
    let (mut activations, mut gradients) = (Vec::new(), Vec::new());
    let mut watch = |net: &Vec<Linear>| {
        let (a, g) = look.run(net.clone()).expect("labels are classes");
        activations.push(a.to_vec::<f32>());
        gradients.push(g.to_vec::<f32>());
    };
    watch(&net);
    for epoch in 0..common.steps(EPOCHS, 1) {
        for batch in loader.epoch(epoch as u64, 0) {
            let batch = batch.expect("the digits are inside");
            (net, sgd) = step.run(((net, sgd), batch)).expect("labels are classes");
        }
        watch(&net);
    }
    let said = kind.forward(&net, test.input(), &none).0.argmax(-1);
    let right = said.equal(test.target()).cast(DType::F64).mean(..).item::<f64>();
    let ratio = |of: &[f32]| f64::from(of[0]) / f64::from(of[HIDDEN - 1]);
    let start = ratio(&gradients[0]);
    common.say(format!(
        "{:<21} variance of slopes, first over last layer: {start:.2e} at the start; test {:.1} %",
        kind.name(),
        100.0 * right
    ));
    json!({ "accuracy": right, "gradient_ratio": start, "activation_variances": activations, "gradient_variances": gradients })
}

fn main() {
    let Arguments { common } = Arguments::parse();
    let begin = Instant::now();
    let digits = Digits::load().expect("the digits are inside");
    let mut result = Map::new();
    for (sigmoid, normalised) in [(false, false), (false, true), (true, false), (true, true)] {
        let kind = Kind { sigmoid, normalised };
        result.insert(kind.name(), train(kind, &common, &digits));
    }
    common.finish(begin, result);
}
