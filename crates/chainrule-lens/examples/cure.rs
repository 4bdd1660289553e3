//! A network that does not train, from its diagnosis to its cure. docs/lens.md quotes what this prints.
//!
//! Twelve layers of sigmoids are to tell two interleaved circles apart. The loss stays at log 2.

use chainrule::prelude::*;
use chainrule_lens::{FlowOptions, GradientFlow, sharpness, trace_nonfinite};
use chainrule_nn::prelude::*;

type Activation = fn(&Tensor) -> Tensor;

/// Points on two circles, with their classes.
fn circles() -> (Tensor, Tensor) {
    let angle = Key::new(1).uniform([128, 1], DType::F32) * std::f64::consts::TAU;
    let class = Tensor::arange(128, DType::I64).less(64i64);
    let radius = class.cast(DType::F32).unsqueeze(-1) + 0.5;
    let x = concat(&[angle.cos() * &radius, angle.sin() * &radius], 1);
    (x.eval(), class.cast(DType::I64).eval())
}

fn forward(model: &Mlp, x: &Tensor, activation: Activation) -> Tensor {
    let step = |x: Tensor, (i, layer): (usize, &Linear)| layer.forward(&if i == 0 { x } else { activation(&x) });
    model.layers.iter().enumerate().fold(x.clone(), step)
}

fn trained(model: &Mlp, activation: Activation, rate: f64) -> f32 {
    let (x, y) = circles();
    let mut step = compile(|model: &Mlp| {
        let (loss, slope) = value_and_grad(|m: &Mlp| forward(m, &x, activation).cross_entropy(&y), model);
        (zip_map(model, &slope, |w, g| w - g * rate), loss)
    });
    let (mut model, mut loss) = (model.clone(), 0.0);
    for _ in 0..300 {
        let (next, now) = step.run(model).expect("a step");
        (model, loss) = (next, now.item::<f32>());
    }
    loss
}

fn main() {
    let (x, y) = circles();
    let model = Mlp::new(&Key::new(2), &[[2].as_slice(), &[16; 11], &[2]].concat());
    let options = FlowOptions { learning_rate: Some(0.1), curvature: true, ..FlowOptions::default() };

    println!("sigmoids, as linear layers start; loss after 300 steps: {:.4}", trained(&model, Tensor::sigmoid, 0.1));
    let loss = |m: &Mlp| forward(m, &x, Tensor::sigmoid).cross_entropy(&y);
    println!("{}", GradientFlow::observe_with(&options, loss, &model));

    // The change: relu, and weights with the variance 2/inputs.
    let mut cured = model.clone();
    for layer in &mut cured.layers {
        let deviation = layer.weight.square().mean(..).sqrt();
        layer.weight = (&layer.weight / deviation * (2.0 / layer.weight.size(1) as f64).sqrt()).eval();
        layer.bias = layer.bias.as_ref().map(Tensor::zeros_like);
    }
    println!("relu, variance 2/inputs; loss after 300 steps: {:.4}", trained(&cured, Tensor::relu, 0.1));
    let loss = |m: &Mlp| forward(m, &x, Tensor::relu).cross_entropy(&y);
    println!("{}", GradientFlow::observe_with(&options, loss, &cured));
    println!("{}\n", sharpness(loss, &cured));

    // And what a loss spelled by hand does to it.
    let by_hand = |m: &Mlp| -(forward(m, &x, Tensor::relu) * 60.0).softmax(-1).log().pick(&y).mean(..);
    match trace_nonfinite(by_hand, &cured) {
        Some(found) => println!("{found}"),
        None => println!("finite"),
    }
}
