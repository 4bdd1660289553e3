//! Training steps of GPT-2 small's shape, 124 million parameters from random weights: memory foreseen and measured.
//!
//! `cargo run --release --example gpt2_small -- [STEPS] [CONTEXT] [clip]`

use chainrule::prelude::*;
use chainrule_nn::models::{Gpt2, Gpt2Config};
use chainrule_nn::prelude::*;
use std::time::Instant;

type State = (Gpt2, AdamW<Gpt2>);

/// The most memory this process had, in MB, where the system tells.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1e3)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| arguments.get(i).map_or(Ok(default), |text| text.parse());
    let (steps, length, clip) = (number(0, 5)?, number(1, 256)?, arguments.iter().any(|word| word == "clip"));

    let model = Gpt2::new(&Key::new(1), Gpt2Config::small());
    let adam = AdamW::new(&model, 3e-4);
    println!("{:.1} million parameters, context {length}", parameter_count(&model) as f64 / 1e6);

    let mut step = compile(move |(state, tokens, key): &(State, Tensor, Key)| {
        let (model, adam) = state;
        let mut context = Context::training(key.clone());
        let (loss, grads) = value_and_grad(|m: &Gpt2| m.loss(tokens, None, &mut context), model);
        let grads = if clip { clip_norm(&grads, 1.0).0 } else { grads };
        (adam.update(model, &grads), loss)
    });
    let mut state: State = (model, adam);
    let tokens = Tensor::from_vec((0..length as i64).map(|i| i * i % 50257).collect::<Vec<_>>(), [1, length]);
    let carried: usize = leaves(&state).iter().map(|leaf| leaf.ty().bytes()).sum();
    let start = Instant::now();
    let arena = step.plan(&(state.clone(), tokens.clone(), Key::new(0))).arena_bytes();
    println!("traced and planned in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let mb = |bytes: usize| bytes as f64 / 1e6;
    println!("foreseen: {:.0} MB = {:.0} carried + {:.0} for a step", mb(carried + arena), mb(carried), mb(arena));

    for i in 0..steps {
        let start = Instant::now();
        let loss;
        (state, loss) = step.run((state, tokens.clone(), Key::new(i as u64)))?;
        println!("step {i}: loss {:.4}, {:.0} ms", loss.item::<f32>(), start.elapsed().as_secs_f64() * 1e3);
        if let Some(peak) = peak() {
            println!("        at most {peak:.0} MB so far");
        }
    }
    Ok(())
}
