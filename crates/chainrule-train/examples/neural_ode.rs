//! A differential equation learned from what it does: y' = A·y³ with A = [[−0.1, 2], [−2, −0.1]] is known by the points of
//! one trajectory, and a network in the place of the right-hand side is trained through the solver.
//!
//! R. Chen, Y. Rubanova, J. Bettencourt and D. Duvenaud, "Neural ordinary differential equations", 2018, whose example
//! this is. It learns from short pieces of the trajectory, by Adam and then by L-BFGS, and is measured on the whole, from
//! its start. Run:
//! `cargo run --release -p chainrule-train --example neural_ode`

mod common;

use std::time::Instant;

use chainrule::prelude::*;
use chainrule::tree::map;
use chainrule_nn::minimize::Lbfgs;
use chainrule_nn::ode::RungeKutta;
use chainrule_nn::optimizer::{Adam, Optimizer};
use chainrule_nn::prelude::Mlp;
use chainrule_nn::schedule::Schedule;
use clap::Parser;
use serde_json::json;

const POINTS: usize = 1000;
const END: f64 = 25.0;
const BATCH: usize = 64;
const PIECE: usize = 20;
const RATE: f64 = 1e-2;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
}

/// The network on y³, as in the paper's example: two layers with tanh between them.
fn slope(net: &Mlp, y: &Tensor) -> Tensor {
    net.layers[1].forward(&net.layers[0].forward(&(y * y * y)).tanh())
}

fn main() {
    let Arguments { common } = Arguments::parse();
    let begin = Instant::now();
    let times = Tensor::linspace(0.0, END, POINTS, DType::F64).eval();
    let a = Tensor::from([[-0.1, 2.0], [-2.0, -0.1]]);
    let right = |_: &Tensor, y: &Tensor| (y * y * y).matmul(&a);
    let truth = RungeKutta::CLASSIC.solve(right, &Tensor::from([[2.0, 0.0]]), &times, 10).squeeze(1).eval();

    let piece = times.narrow(0, 0, PIECE).eval();
    let [weights, starts] = Key::new(common.seed).split();
    let mut net = map(&Mlp::new(&weights, &[2, 50, 2]), |w| w.cast(DType::F64).eval());
    let mut whole = compile(|net: &Mlp| {
        let guess = RungeKutta::CLASSIC.solve(|_, y: &Tensor| slope(net, y), &truth.narrow(0, 0, 1), &times, 1);
        (guess.squeeze(1) - &truth).norm(..) / truth.norm(..)
    });
    let mut error = |net: &Mlp| whole.run(net.clone()).expect("no index").item::<f64>();
    let loss = |net: &Mlp, seen: &Tensor| {
        let guess = RungeKutta::CLASSIC.solve(|_, y: &Tensor| slope(net, y), &seen.at(0), &piece, 1);
        (guess - seen).square().mean(..)
    };
    // Pieces from places `[n, 1]`, as [time, n, 2].
    let pieces = |places: Tensor| truth.gather(&(places + Tensor::arange(PIECE, DType::I64)), 0).swap_axes(0, 1);
    let count = common.steps(2000, 4);
    let mut adam = Adam::new(&net, Schedule::cosine(RATE, 0.0, count as u64));
    let mut step = compile(|((net, adam), number): &((Mlp, Adam<Mlp>), Tensor)| {
        let places = starts.fold(number).uniform([BATCH, 1], DType::F32) * (POINTS - PIECE + 1) as f64;
        let seen = pieces(places.cast(DType::I64));
        let (loss, gradient) = value_and_grad(|net: &Mlp| loss(net, &seen), net);
        (adam.update(net, &gradient), loss)
    });
    for number in 1..=count {
        let state = ((net, adam), Tensor::from(number as i64));
        let ((next, state), loss) = step.run(state).expect("places are on the way");
        (net, adam) = (next, state);
        if number % (count / 4) == 0 {
            let whole = 100.0 * error(&net);
            common.say(format!("Adam {number:5}: loss {:.2e}, error of the whole {whole:.2} %", loss.item::<f64>()));
        }
    }
    let after_adam = error(&net);
    let seen = pieces((Tensor::arange((POINTS - PIECE) / 5, DType::I64) * 5.0).unsqueeze(1)).eval();
    let lbfgs = Lbfgs { steps: common.steps(1000, 4), history: 50, gradient_tolerance: 1e-12, ..Lbfgs::default() };
    let end = lbfgs.minimize(|net: &Mlp| loss(net, &seen), &net).expect("no index");
    let last = error(&end.at);
    common.say(format!(
        "L-BFGS {:4}: loss {:.2e}, error of the whole {:.3} %",
        end.values.len(),
        end.value,
        100.0 * last
    ));
    common.finish(
        begin,
        json!({ "relative_error": last, "after_adam": after_adam, "loss": end.value, "evaluations": end.evaluations }),
    );
}
