//! The memory a summary states before the first step, against the most that a process really had after steps and an
//! evaluation. Each model runs in a process of its own: what one has had cannot be given back.
#![cfg(target_os = "linux")]

use chainrule::prelude::*;
use chainrule::tensor::Type;
use chainrule::tree;
use chainrule_nn::prelude::*;
use chainrule_train::data::Batch;
use chainrule_train::model::{Form, Network, Spec};
use chainrule_train::task::{Fit, Task};

const ROW: &str = "CHAINRULE_MEMORY_ROW";

const FILES: &[(&str, &str)] = &[
    (
        "pair",
        "[example]\ninput = [1, 28, 28]\n[model]\nkind = \"gan\"\nnoise = 64\ncritic_steps = 2\n[model.generator]\nlayers = \
         [{ linear = 3136 }, { batch_norm = true }, \"relu\", { reshape = [64, 7, 7] }, { conv_transpose = 32, kernel = 4, \
         stride = 2, padding = 1 }, \"relu\", { conv_transpose = 1, kernel = 4, stride = 2, padding = 1 }, \"tanh\"]\n\
         [model.discriminator]\nlayers = [{ conv = 32, kernel = 4, stride = 2, padding = 1 }, { leaky_relu = 0.2 }, \
         { conv = 64, kernel = 4, stride = 2, padding = 1 }, { leaky_relu = 0.2 }, \"flatten\", { linear = 1 }]\n\
         [optimizer]\nname = \"adam\"\nrate = 2e-4\n[train]\nbatch = 64\naverage = \"ema\"",
    ),
    ("convolutions", include_str!("../../../recipes/mnist-cnn.toml")),
    (
        "dense",
        "[example]\ninput = [1000]\nclasses = 10\n[model]\nlayers = [{ linear = 4000 }, \"relu\", { linear = 2000 }, \"relu\", \
         { linear = 10 }]\n[train]\nbatch = 16",
    ),
    (
        "language",
        "[example]\ninput = [128]\ntokens = 4000\n[model]\nkind = \"gpt\"\nlayers = 4\nheads = 4\nwidth = 256\n\
         [optimizer]\nname = \"adamw\"\nrate = 1e-3\n[train]\nbatch = 8\nclip_norm = 1.0",
    ),
];

/// Bytes of this process: the most it has had.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

fn stand_in(ty: &Type, batch: usize) -> Tensor {
    let shape = [&[batch], &ty.shape[..]].concat();
    let numbers = Key::new(5).uniform(shape, DType::F32);
    if ty.dtype.is_float() { numbers.eval() } else { (numbers * 10.0).floor().cast(ty.dtype).eval() }
}

/// Trains a few steps, evaluates, and prints what was stated and what was taken.
fn train(text: &str) {
    let spec = Spec::parse("memory.toml", text).unwrap();
    let example = spec.example().unwrap().clone();
    let stated = spec.summary(&example).unwrap().memory.total;
    let network = spec.build(&example, &Key::new(1)).unwrap();
    let of = |examples: usize| {
        let all = |types: &[Type]| types.iter().map(|ty| stand_in(ty, examples)).collect();
        Batch { inputs: all(&example.inputs), targets: all(&example.targets) }
    };
    let batches = [of(spec.train().batch * spec.batches_a_step()), of(spec.train().batch)];
    match network.form() {
        Form::Gan => steps(&spec.gan(), spec.gan_start(&network, 10).unwrap(), batches),
        _ => {
            let (task, optimizer) = (spec.task(10), spec.optimizer(&network, 10).unwrap());
            let start: Fit<Network, AnyOptimizer<Network>> = task.start(network, optimizer);
            steps(&task, start, batches);
        }
    }
    println!("stated {stated} taken {}", peak());
}

fn steps<T: Task>(task: &T, start: T::State, [batch, looked_at]: [Batch; 2]) {
    // First values are computed before the steps, so that the room for drawing them is given back.
    let mut state = tree::rebuild(&start, &eval_all(&leaves(&start)));
    drop(start);
    let mut step = compile(|(state, batch, key): &(T::State, Batch, Key)| task.step(state, batch, key));
    let mut look = compile(|(state, batch): &(T::State, Batch)| task.evaluate(state, batch));
    for n in 0..2 {
        state = step.run((state, batch.clone(), Key::new(n))).unwrap().0;
    }
    look.run((state, looked_at)).unwrap();
}

#[test]
fn what_is_stated_is_taken() {
    if let Ok(row) = std::env::var(ROW) {
        return train(FILES.iter().find(|file| file.0 == row).unwrap().1);
    }
    let mut failures = Vec::new();
    for (name, _) in FILES {
        let this = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--nocapture", "--exact", "what_is_stated_is_taken"])
            .env(ROW, name)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&this.stdout);
        let words: Vec<&str> = text.split_whitespace().collect();
        let after =
            |word: &str| words.iter().position(|w| *w == word).and_then(|i| words.get(i + 1)?.parse::<f64>().ok());
        match (after("stated"), after("taken")) {
            (Some(stated), Some(taken)) => {
                println!("{name}: stated {:.1} MB, taken {:.1} MB", stated / 1e6, taken / 1e6);
                if (stated / taken - 1.0).abs() > 0.1 {
                    failures.push(format!("{name}: stated {stated}, taken {taken}"));
                }
            }
            _ => failures.push(format!("{name}: {text} {}", String::from_utf8_lossy(&this.stderr))),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
