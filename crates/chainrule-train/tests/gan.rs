//! Two networks against each other: a step against its formulas, the penalty against differences, resuming bit for bit.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chainrule::prelude::*;
use chainrule::tree::{map, named_leaves};
use chainrule_nn::prelude::*;
use chainrule_train::data::{Arrays, Batch, Loader, Targets};
use chainrule_train::log::{CHECKPOINT, MODEL};
use chainrule_train::run::RunFolder;
use chainrule_train::task::{Adversarial, Gan, Players, Task, gradient_penalty};
use chainrule_train::trainer::{Event, Length, Monitor, Trainer};
use chainrule_train::training::{RunSettings, SaveEvery, Training, run_training};
use serde_json::json;

const NOISE: usize = 3;
const RATE: f64 = 0.05;

/// A layer, a norm with running statistics, a layer.
#[derive(Tree, Clone)]
struct Net {
    first: Linear,
    norm: BatchNorm,
    last: Linear,
}

impl Net {
    fn new(seed: u64, [input, hidden, output]: [usize; 3], dtype: DType) -> Net {
        let [a, b] = Key::new(seed).split();
        let net = Net {
            first: Linear::new(&a, input, hidden),
            norm: BatchNorm::new(hidden),
            last: Linear::new(&b, hidden, output),
        };
        map(&net, |leaf| if leaf.dtype().is_float() { leaf.cast(dtype).eval() } else { leaf.eval() })
    }
    fn forward(&mut self, x: &Tensor, context: &mut Context) -> Tensor {
        let x = self.norm.forward(&self.first.forward(x), context).tanh();
        self.last.forward(&x)
    }
}

type Pair<O> = Gan<Net, Net, O, O>;
type State<O> = Players<Net, Net, O, O>;

fn task<O: Optimizer<Net> + Clone>() -> Pair<O> {
    Gan::new(NOISE, Net::forward, Net::forward)
}

fn nets(dtype: DType) -> (Net, Net) {
    (Net::new(1, [NOISE, 5, 2], dtype), Net::new(2, [2, 6, 1], dtype))
}

fn sgd(task: &Pair<Sgd<Net>>) -> State<Sgd<Net>> {
    let (generator, discriminator) = nets(DType::F64);
    let rates = (Sgd::new(&generator, RATE), Sgd::new(&discriminator, RATE));
    task.start(generator, discriminator, rates.0, rates.1)
}

fn points(count: usize) -> Batch {
    Batch { inputs: vec![Key::new(5).normal([count, 2], DType::F64) * 0.5 + 1.0], targets: vec![] }
}

/// −ln σ(x), as it is written.
fn surprise(x: &Tensor) -> Tensor {
    -(1.0 / (1.0 + (-x).exp())).log()
}

/// One step as one would write it with two networks at hand: everything anew for each update.
fn by_hand(start: &State<Sgd<Net>>, real: &Tensor, loss: Adversarial, key: &Key) -> (Net, Net, [f64; 2]) {
    let any = || Context::training(Key::new(0));
    let [noise, _, judging] = key.fold(&Tensor::from(0i64)).split();
    let noise = noise.normal([real.size(0), NOISE], DType::F64);
    let mut generator = start.generator.clone();
    let fake = generator.forward(&noise, &mut any()).eval();
    let of_discriminator = |d: &mut Net| {
        let (s, t) = (d.forward(real, &mut any()), d.forward(&fake, &mut any()));
        let value = match loss {
            Adversarial::Logistic => (surprise(&s) + surprise(&-&t)).mean(..),
            Adversarial::Hinge => ((1.0 - s).maximum(0.0) + (1.0 + t).maximum(0.0)).mean(..),
            Adversarial::Wasserstein => {
                let [_, mix] = judging.split();
                let u = mix.uniform([real.size(0), 1], DType::F64);
                let between = real * &u + &fake * (1.0 - u);
                let slope = grad(|x: &Tensor| d.forward(x, &mut any()).sum(..), &between);
                let length = (slope.narrow(1, 0, 1).square() + slope.narrow(1, 1, 1).square()).sqrt();
                (t - s).mean(..) + (length - 1.0).square().mean(..) * 10.0
            }
        };
        (value, ())
    };
    let (of_d, _, discriminator, slope) = value_and_grad_with_state(of_discriminator, &start.discriminator);
    let mut discriminator = start.discriminator_optimizer.update(&discriminator, &slope).0;
    let of_generator = |g: &mut Net| {
        let scores = discriminator.forward(&g.forward(&noise, &mut any()), &mut any());
        let loss = if loss == Adversarial::Logistic { surprise(&scores) } else { -scores };
        (loss.mean(..), ())
    };
    let (of_g, _, generator, slope) = value_and_grad_with_state(of_generator, &start.generator);
    let generator = start.generator_optimizer.update(&generator, &slope).0;
    (generator, discriminator, [of_g.item(), of_d.item()])
}

#[test]
fn a_step_is_what_its_formulas_say() {
    let (key, real) = (Key::new(9), points(8));
    let mut wrong = Vec::new();
    for loss in [Adversarial::Logistic, Adversarial::Hinge, Adversarial::Wasserstein] {
        let task = task().loss(loss);
        let start = sgd(&task);
        let (generator, discriminator, losses) = by_hand(&start, real.input(), loss, &key);
        let mut step = compile(|(state, batch, key): &(State<Sgd<Net>>, Batch, Key)| task.step(state, batch, key));
        let (after, measures) = step.run((start.clone(), real.clone(), key.clone())).unwrap();
        let numbers = measures.totals().numbers();
        for (name, expected) in ["generator_loss", "discriminator_loss"].iter().zip(losses) {
            let found = numbers.get(name).unwrap();
            if (found - expected).abs() > 1e-12 {
                wrong.push(format!("{loss:?}: {name} is {found}, by hand {expected}"));
            }
        }
        let pairs = [(&after.generator, &generator, 1), (&after.discriminator, &discriminator, 3)];
        for (found, expected, passes) in pairs {
            let expected = named_leaves(expected).into_iter().map(|leaf| leaf.2);
            for ((path, _, found), expected) in named_leaves(found).into_iter().zip(expected) {
                let far = (found.cast(DType::F64) - expected.cast(DType::F64)).abs().max(..).item::<f64>();
                // The penalty's pass through the discriminator is one more.
                let passes = if passes == 3 && loss == Adversarial::Wasserstein { 4 } else { passes };
                let counted = path != "norm.num_batches_tracked" || found.item::<i64>() == passes;
                if far.is_nan() || far > 1e-12 || !counted {
                    wrong.push(format!("{loss:?}: {path} {passes} is off by {far:e}"));
                }
            }
        }
        let moved = (&after.generator.first.weight - &start.generator.first.weight).abs().max(..).item::<f64>();
        assert!(moved > 1e-6, "{loss:?}: the generator did not move");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_gradient_of_the_penalty_is_its_difference_quotient() {
    let net = Net::new(3, [2, 4, 1], DType::F64);
    let x = points(6).inputs[0].eval();
    let penalty = |net: &Net| {
        let score = |x: &Tensor| net.last.forward(&net.first.forward(x).tanh()).tanh();
        gradient_penalty(score, &x)
    };
    // The norm is not used.
    let slope = gradient(|net: &Net| (penalty(net), ()), &net, Unreached::Zeros).unwrap().2;
    let slope = named_leaves(&slope);
    let mut value = compile(penalty);
    let (step, mut wrong, mut largest) = (1e-5, Vec::new(), 0f64);
    for (index, (path, _, slope)) in slope.iter().enumerate().filter(|leaf| leaf.1.0.starts_with(['f', 'l'])) {
        for (at, &found) in slope.to_vec::<f64>().iter().enumerate() {
            let mut at_shifted = |shift: f64| {
                let mut leaf = 0;
                let shifted = map(&net, |values| {
                    let mut numbers = values.clone();
                    if leaf == index {
                        let mut list = values.to_vec::<f64>();
                        list[at] += shift;
                        numbers = Tensor::from_vec(list, values.shape());
                    }
                    leaf += 1;
                    numbers
                });
                value.run(shifted).unwrap().item::<f64>()
            };
            let quotient = (at_shifted(step) - at_shifted(-step)) / (2.0 * step);
            largest = largest.max(quotient.abs());
            if (found - quotient).abs() > 1e-8 * (1.0 + quotient.abs()) {
                wrong.push(format!("{path}[{at}]: {found}, and the quotient is {quotient}"));
            }
        }
    }
    assert!(wrong.is_empty() && largest > 0.1, "largest {largest}\n{}", wrong.join("\n"));
}

#[test]
fn the_critic_takes_its_steps_on_its_parts_of_the_batch() {
    let task = task().loss(Adversarial::Wasserstein).critic_steps(3).clip_norm(0.5).average(0.9);
    let start = sgd(&task);
    let (after, measures) = task.step(&start, &points(12), &Key::new(1));
    let steps = [&after.generator_optimizer, &after.discriminator_optimizer].map(|sgd| sgd.step.item::<i64>());
    assert_eq!(steps, [1, 3]);
    // Three passes in three updates, each showing true, made and mixed examples, and one for the generator.
    let seen = [&after.generator, &after.discriminator].map(|net| net.norm.num_batches_tracked.item::<i64>());
    assert_eq!(seen, [3, 10]);
    let numbers = measures.totals().numbers();
    let moved = global_norm(&map(&Diff::of(&after.generator, &start.generator), Tensor::clone)).item::<f64>();
    let slope = numbers.get("generator_gradient").unwrap();
    assert!((moved - RATE * slope.min(0.5)).abs() < 1e-6, "moved by {moved}, the slope is {slope}");
    assert!(numbers.get("accuracy_real").is_none() && numbers.get("discriminator_gradient").is_some());
    let uneven = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.step(&start, &points(7), &Key::new(1))));
    let message = *uneven.map(drop).unwrap_err().downcast::<String>().unwrap();
    assert_eq!(message, "Gan: a batch of 7 for 3 steps of the discriminator, which is no whole number for each");
}

/// The difference of two networks' parameters.
#[derive(Tree)]
struct Diff(Vec<Tensor>);

impl Diff {
    fn of(a: &Net, b: &Net) -> Diff {
        let parameters = |net: &Net| {
            let leaves = named_leaves(net).into_iter().filter(|leaf| leaf.1 == chainrule::tree::Role::Parameter);
            leaves.map(|leaf| leaf.2).collect::<Vec<_>>()
        };
        Diff(parameters(a).iter().zip(parameters(b)).map(|(a, b)| a - b).collect())
    }
}

#[test]
fn the_model_is_the_average_and_the_discriminator() {
    let task = task().average(0.5);
    let mut state = sgd(&task);
    for n in 0..3 {
        state = task.step(&state, &points(4), &Key::new(n)).0;
    }
    let model = task.model(&state);
    let average = state.average.as_ref().unwrap();
    assert_eq!(model["generator.last.weight"].to_vec::<f64>(), average.model.last.weight.to_vec::<f64>());
    assert_ne!(model["generator.last.weight"].to_vec::<f64>(), state.generator.last.weight.to_vec::<f64>());
    assert!(model.contains_key("discriminator.norm.running_mean") && model.len() == 18, "{:?}", model.keys());
    // Evaluation changes nothing and draws the same noise each time.
    let looks = [0, 1].map(|_| task.evaluate(&state, &points(4)).totals());
    assert_eq!(looks[0], looks[1]);
    assert_eq!(looks[0].numbers().iter().count(), 4);
}

/// Trains in a folder of this name until `stop`.
fn train(root: &Path, name: &str, resume: bool, stop: Option<u64>) {
    let run = match resume {
        true => RunFolder::open(root.join(format!("{name}-1"))).unwrap(),
        false => RunFolder::create(root, name).unwrap(),
    };
    let task: Pair<Adam<Net>> = task().loss(Adversarial::Hinge).average(0.99);
    let (generator, discriminator) = nets(DType::F32);
    let adams = (Adam::new(&generator, 1e-2), Adam::new(&discriminator, 1e-2));
    let x = points(40).inputs[0].cast(DType::F32).to_vec::<f32>();
    let rows = Loader::new(Arc::new(Arrays::new(x, &[2], Targets::None).unwrap()), 8, 3);
    let trainer = Trainer { monitor: Monitor::new("generator_loss"), ..Trainer::new(Length::Steps(12), 4) };
    let settings = RunSettings::new(trainer, "t", json!({}));
    let settings = RunSettings { resume, quiet: true, save_every: SaveEvery::Steps(100), ..settings };
    let start = task.start(generator, discriminator, adams.0, adams.1);
    let training = Training { run: &run, task: &task, start, train: &rows, validation: Some(&rows), settings };
    let flag = AtomicBool::new(false);
    let observe = |event: &Event<'_, _>| {
        if let Event::Whole { course, .. } = event {
            flag.store(stop == Some(course.step), Ordering::Relaxed);
        }
    };
    run_training(training, &flag, observe).unwrap();
}

#[test]
fn a_training_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "whole", false, None);
    let files = |name: &str| {
        ["metrics.jsonl", MODEL, CHECKPOINT]
            .map(|file| fs::read(folder.path().join(format!("{name}-1")).join(file)).unwrap())
    };
    for stop in [1, 5, 11] {
        let name = format!("at{stop}");
        train(folder.path(), &name, false, Some(stop));
        assert!(files(&name) != files("whole"), "{name} was not stopped");
        train(folder.path(), &name, true, None);
        assert!(files(&name) == files("whole"), "{name} is not what it would have been without the stop");
    }
}
