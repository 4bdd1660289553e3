//! Logistic regression of the digits to the last bit: Newton's method with the exact Hessian, truncated Newton and
//! L-BFGS, in f64. Near the minimum each gradient of Newton's method is the square of the one before, times a constant.
//!
//! Minimised is the mean cross-entropy with ½·λ·‖w‖². Run:
//! `cargo run --release -p chainrule-train --example newton_logistic`

mod common;

use std::time::Instant;

use chainrule::prelude::*;
use chainrule_nn::minimize::{Lbfgs, NewtonCg};
use chainrule_train::data::digits::{CLASSES, Digits, Examples, PIXELS};
use clap::Parser;
use serde_json::json;

/// λ.
const PENALTY: f64 = 1e-3;
const ENOUGH: f64 = 1e-11;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    common: common::Common,
}

/// Weights `[classes, pixels]` and biases `[classes]`.
type Weights = (Tensor, Tensor);

fn tensors(examples: &Examples) -> (Tensor, Tensor) {
    let images = Tensor::from_vec(&examples.images, [examples.len(), PIXELS]).cast(DType::F64).eval();
    (images, Tensor::from_vec(&examples.labels, [examples.len()]))
}

fn main() {
    let Arguments { common } = Arguments::parse();
    let begin = Instant::now();
    let digits = Digits::load().expect("the digits are inside");
    let (x, y) = tensors(&digits.train());
    let logits = |(w, b): &Weights, x: &Tensor| x.matmul(&w.t()) + b;
    let loss = |at: &Weights| {
        logits(at, &x).cross_entropy(&y) + (at.0.square().sum(..) + at.1.square().sum(..)) * (PENALTY / 2.0)
    };
    let start = (Tensor::zeros([CLASSES, PIXELS], DType::F64), Tensor::zeros([CLASSES], DType::F64));
    let size = parameter_count(&start);

    // One step: the value, the gradient's norm, and −H⁻¹·g as weights again.
    let mut newton = compile(|at: &Weights| {
        let (value, (dw, db)) = value_and_grad(loss, at);
        let gradient = concat(&[dw.flatten(), db], 0);
        let way = hessian(loss, at).reshape([size, size]).solve_spd(&gradient.unsqueeze(-1)).squeeze(-1);
        let way =
            (way.narrow(0, 0, CLASSES * PIXELS).reshape([CLASSES, PIXELS]), way.narrow(0, CLASSES * PIXELS, CLASSES));
        (value, gradient.norm(..), way)
    });
    let mut value = compile(loss);
    let moved = |at: &Weights, way: &Weights, t: f64| {
        let (w, b) = zip_map(at, way, |at, way| at - way * t);
        (w.eval(), b.eval())
    };
    let (mut at, mut norms, mut values) = (start.clone(), Vec::new(), Vec::new());
    common.say("Newton   step  loss                 ‖gradient‖   over the square of the one before");
    for step in 0..common.steps(30, 3) {
        let (now, norm, way) = newton.run(at.clone()).expect("labels are classes");
        let (now, norm) = (now.item::<f64>(), norm.item::<f64>());
        let ratio = norms.last().map_or(f64::NAN, |before: &f64| norm / (before * before));
        common.say(format!("         {step:4}  {now:<19.16}  {norm:<11.3e}  {ratio:.3}"));
        norms.push(norm);
        values.push(now);
        if norm < ENOUGH {
            break;
        }
        // Far from the minimum a whole step may be too long.
        let mut down = |t: f64| value.run(moved(&at, &way, t)).expect("labels are classes").item::<f64>() <= now;
        let t = (0..30).map(|half| 0.5f64.powi(half)).find(|&t| norm < 1e-6 || down(t)).unwrap_or(0.0);
        at = moved(&at, &way, t);
    }
    let test = tensors(&digits.test());
    let right = logits(&at, &test.0).argmax(-1).equal(&test.1).cast(DType::F64).mean(..).item::<f64>();
    let iterative = NewtonCg { gradient_tolerance: ENOUGH, steps: common.steps(100, 3), ..NewtonCg::default() };
    let iterative = iterative.minimize(loss, &start).expect("labels are classes");
    let lbfgs =
        Lbfgs { gradient_tolerance: ENOUGH, change_tolerance: 0.0, steps: common.steps(2000, 3), ..Lbfgs::default() };
    let lbfgs = lbfgs.minimize(loss, &start).expect("labels are classes");
    let norm_at =
        |at: &Weights| leaves(&grad(loss, at)).iter().map(|g| g.square().sum(..).item::<f64>()).sum::<f64>().sqrt();
    let of = |end: &chainrule_nn::minimize::Minimum<Weights>| json!({ "steps": end.values.len(), "evaluations": end.evaluations, "gradient_norm": norm_at(&end.at), "loss": end.value });
    let newton = json!({ "steps": norms.len() - 1, "gradient_norm": norms.last(), "loss": values.last(), "gradient_norms": norms });
    let result = json!({ "newton": newton, "newton_cg": of(&iterative), "lbfgs": of(&lbfgs), "test_accuracy": right });
    common.finish(begin, result);
}
