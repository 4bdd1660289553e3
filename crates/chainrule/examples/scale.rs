//! How the engine grows: a chain of n scalar operations with its derivative, from a thousand to a million.
//!
//! `cargo run --release --example scale -p chainrule` prints milliseconds for each stage, and nanoseconds an
//! operation of the chain. Every column should keep its value from row to row. With `quick` it ends at ten thousand.

use chainrule::optimize::optimize;
use chainrule::plan::{Plan, PlanOptions};
use chainrule::prelude::*;
use chainrule::program::capture;
use std::time::Instant;

/// x ← sin(x)·1.01 + 0.1, three operations a turn.
fn chain(x: &Tensor, operations: usize) -> Tensor {
    (0..operations / 3).fold(x.clone(), |x, _| x.sin() * 1.01 + 0.1)
}

fn main() {
    println!("milliseconds (nanoseconds an operation)");
    println!(
        "{:>9} {:>16} {:>16} {:>16} {:>16} {:>16} {:>16}",
        "n", "record", "differentiate", "compile", "of it plan", "run", "drop"
    );
    let quick = std::env::args().any(|argument| argument == "quick");
    let lengths = [1_000, 10_000, 100_000, 1_000_000];
    for n in lengths.into_iter().take(if quick { 2 } else { 4 }) {
        let x = Tensor::from(0.5);
        let mut recorded = 0.0;
        let start = Instant::now();
        let (value, slope) = value_and_grad(
            |x: &Tensor| {
                let start = Instant::now();
                let y = chain(x, n);
                recorded = start.elapsed().as_secs_f64();
                y
            },
            &x,
        );
        let differentiated = start.elapsed().as_secs_f64() - recorded;
        let start = Instant::now();
        let program = optimize(capture("chain", &[("x".into(), x.clone())], &[value.clone(), slope.clone()]).unwrap());
        let optimized = start.elapsed().as_secs_f64();
        let plan = Plan::new(&program, PlanOptions::default());
        let compiled = start.elapsed().as_secs_f64();
        let mut step = {
            let (value, slope) = (value.clone(), slope.clone());
            let again = chainrule::prelude::compile(move |x: &Tensor| value_and_grad(|x: &Tensor| chain(x, n), x));
            drop((value, slope));
            again
        };
        step.run(x.clone()).unwrap();
        let start = Instant::now();
        step.run(x).unwrap();
        let ran = start.elapsed().as_secs_f64();
        let start = Instant::now();
        drop((value, slope, program, plan));
        let dropped = start.elapsed().as_secs_f64();
        let cell = |seconds: f64| format!("{:.2} ({:.0})", seconds * 1e3, seconds * 1e9 / n as f64);
        println!(
            "{n:>9} {:>16} {:>16} {:>16} {:>16} {:>16} {:>16}",
            cell(recorded),
            cell(differentiated),
            cell(compiled),
            cell(compiled - optimized),
            cell(ran),
            cell(dropped)
        );
    }
}
