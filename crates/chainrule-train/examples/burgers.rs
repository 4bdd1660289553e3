//! Burgers' equation solved by a network: u_t = ν·u_xx − u·u_x for x within ±1 and t from 0 to 1, u(0, x) = −sin πx, and
//! u = 0 at both ends. What the network misses of the equation is the loss, so that it has second derivatives in it.
//!
//! M. Raissi, P. Perdikaris and G. Karniadakis, "Physics-informed neural networks", 2019; ν = 0.02/π, twice theirs. Adam comes near,
//! L-BFGS to the end. The error is that against the solution of Cole and Hopf. Run:
//! `cargo run --release -p chainrule-train --example burgers`

mod common;

use std::f64::consts::PI;
use std::time::Instant;

use chainrule::prelude::*;
use chainrule_nn::layer::Linear;
use chainrule_nn::minimize::Lbfgs;
use chainrule_nn::optimizer::{Adam, Optimizer};
use chainrule_nn::prelude::init;
use chainrule_nn::schedule::Schedule;
use clap::Parser;
use serde_json::json;

const VISCOSITY: f64 = 0.02 / PI;
const SIZES: [usize; 6] = [2, 32, 32, 32, 32, 1];
const POINTS: usize = 2500;
const RATE: f64 = 3e-3;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
}

/// Glorot's first values, biases 0, all in f64: L-BFGS goes on where f32 ends.
fn network(key: &Key) -> Vec<Linear> {
    let layer = |(n, pair): (usize, &[usize])| {
        let key = key.fold(&Tensor::from(n as i64));
        let fan = init::Fan::dense(pair[0], pair[1]);
        let weight = init::glorot_normal(&key, [pair[1], pair[0]], fan, init::Gain::Linear, DType::F64).eval();
        Linear { weight, bias: Some(Tensor::zeros([pair[1]], DType::F64)) }
    };
    SIZES.windows(2).enumerate().map(layer).collect()
}

/// u at points x and t, both `[n, 1]`: −sin πx + t·(1 − x²)·N(x, t), which is right at the start and at both ends.
fn value(net: &[Linear], x: &Tensor, t: &Tensor) -> Tensor {
    let (last, hidden) = net.split_last().expect("a network has layers");
    let free = last.forward(&hidden.iter().fold(concat(&[x, t], 1), |a, layer| layer.forward(&a).tanh()));
    t * (1.0 - x * x) * free - (x * PI).sin()
}

/// u_t + u·u_x − ν·u_xx: derivatives along x and t, forward through the network.
fn residual(net: &[Linear], x: &Tensor, t: &Tensor) -> Tensor {
    let ones = x.ones_like();
    let along_x = |x: &Tensor| jvp(|x: &Tensor| value(net, x, t), x, &ones);
    let ((u, u_x), (_, u_xx)) = jvp(along_x, x, &ones);
    let (_, u_t) = jvp(|t: &Tensor| value(net, x, t), t, &ones);
    u_t + u * u_x - u_xx * VISCOSITY
}

/// The solution by J. Cole and E. Hopf, as a quotient of integrals with the weight exp(−z²), by the trapezoidal rule.
fn exact(x: f64, t: f64) -> f64 {
    if t == 0.0 {
        return -(PI * x).sin();
    }
    let (step, reach) = (0.02, 400);
    let sums = (-reach..=reach).map(|n| f64::from(n) * step).fold((0.0, 0.0), |(top, below), z| {
        let from = x - (4.0 * VISCOSITY * t).sqrt() * z;
        // The largest exponent there can be is taken out of both.
        let weight = (-(PI * from).cos() / (2.0 * PI * VISCOSITY) - 0.5 / (PI * VISCOSITY) - z * z).exp();
        (top + (PI * from).sin() * weight, below + weight)
    });
    -sums.0 / sums.1
}

fn main() {
    let Arguments { common } = Arguments::parse();
    let begin = Instant::now();
    let [weights, a, b] = Key::new(common.seed).split();
    let x = (a.uniform([POINTS, 1], DType::F64) * 2.0 - 1.0).eval();
    let t = b.uniform([POINTS, 1], DType::F64).eval();
    let loss = |net: &Vec<Linear>| residual(net, &x, &t).square().mean(..);

    let grid: Vec<(f64, f64)> =
        (0..100 * 256).map(|n| (-1.0 + 2.0 * (n % 256) as f64 / 255.0, (n / 256) as f64 / 99.0)).collect();
    let truth = Tensor::from_vec(grid.iter().map(|&(x, t)| exact(x, t)).collect::<Vec<_>>(), [grid.len(), 1]);
    let points =
        |of: fn(&(f64, f64)) -> f64| Tensor::from_vec(grid.iter().map(of).collect::<Vec<_>>(), [grid.len(), 1]);
    let (grid_x, grid_t) = (points(|point| point.0), points(|point| point.1));
    let mut error = compile(|net: &Vec<Linear>| (value(net, &grid_x, &grid_t) - &truth).norm(..) / truth.norm(..));
    let mut error = |net: &Vec<Linear>| error.run(net.clone()).expect("no index").item::<f64>();

    let mut net = network(&weights);
    let count = common.steps(1000, 5);
    let mut adam = Adam::new(&net, Schedule::cosine(RATE, RATE / 10.0, count as u64));
    let mut step = compile(|(net, adam): &(Vec<Linear>, Adam<Vec<Linear>>)| {
        let (loss, slope) = value_and_grad(loss, net);
        (adam.update(net, &slope), loss)
    });
    for number in 1..=count {
        let ((next, state), loss) = step.run((net, adam)).expect("no index");
        (net, adam) = (next, state);
        if number % 500 == 0 || number == count {
            common.say(format!("Adam {number:5}: loss {:.3e}, error {:.2} %", loss.item::<f64>(), 100.0 * error(&net)));
        }
    }
    let after_adam = error(&net);
    let lbfgs = Lbfgs {
        steps: common.steps(2000, 5),
        history: 50,
        gradient_tolerance: 1e-9,
        change_tolerance: 1e-14,
        ..Lbfgs::default()
    };
    let end = lbfgs.minimize(loss, &net).expect("no index");
    let last = error(&end.at);
    common.say(format!("L-BFGS {} steps: loss {:.3e}, error {:.3} %", end.values.len(), end.value, 100.0 * last));
    let result =
        json!({ "relative_error": last, "after_adam": after_adam, "loss": end.value, "evaluations": end.evaluations });
    common.finish(begin, result);
}
