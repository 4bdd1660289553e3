//! One small gradient on its way through the engine; `docs/tour.md` quotes what this prints.
//!
//! The mean square of tanh(x·W + b), differentiated by W and b: as it is captured, after the passes, as a plan, run,
//! and interpreted by the reference.

use chainrule::execute::eval_all;
use chainrule::optimize::{PASSES, optimize_without};
use chainrule::plan::{Plan, PlanOptions};
use chainrule::prelude::*;
use chainrule::program::{Interpreted, Numbers, capture, interpret};

#[derive(Tree, Clone)]
struct Layer {
    weight: Tensor,
    bias: Tensor,
}

fn main() {
    let x = Tensor::from([[1.0f32, 2.0, 3.0], [0.5, -1.0, 0.0], [-2.0, 0.1, 1.0], [0.0, 1.0, -1.0]]);
    let layer = Layer { weight: Key::new(1).normal([3, 2], DType::F32).eval(), bias: Tensor::from([0.1f32, -0.1]) };

    // tensor/ and differentiate/: expressions.
    let loss = |l: &Layer| (x.matmul(&l.weight) + &l.bias).tanh().square().mean(..);
    let (value, slope) = value_and_grad(loss, &layer);
    println!("value {value:?}, gradient of weight {:?}\n", slope.weight);

    // program/: the expressions as a list.
    let arguments = (layer.clone(), x.clone());
    let inputs: Vec<(String, Tensor)> = paths(&arguments).into_iter().zip(leaves(&arguments)).collect();
    let results = [value, slope.weight, slope.bias];
    let captured = capture("slope", &inputs, &results).expect("all values are known");
    println!("captured: {} operations, {} flops\n{captured}", captured.len(), captured.flops());

    // optimize/: the passes, one after another.
    let mut program = captured.clone();
    for pass in PASSES {
        program = (pass.run)(program);
        println!("after {}: {} operations", pass.name, program.len());
    }
    println!("\nwithout fuse:\n{}", optimize_without(captured.clone(), &["fuse"]));
    println!("with it:\n{program}");

    // plan/: kernels and bytes.
    println!("{}", Plan::new(&program, PlanOptions::default()));

    // execute/ runs it; the reference says what it must give.
    let run: Vec<Vec<f32>> = eval_all(&results).iter().map(Tensor::to_vec::<f32>).collect();
    let leaves: Vec<Interpreted> = inputs.iter().map(|(_, leaf)| Interpreted::from_tensor(leaf)).collect();
    let references = interpret(&captured, &leaves).expect("the program verifies");
    for (run, reference) in run.iter().zip(references) {
        let Numbers::Float(reference) = reference.numbers else { panic!("floats") };
        println!("executed  {run:.6?}\nreference {reference:.6?}");
        assert!(run.iter().zip(reference).all(|(a, b)| (*a as f64 - b).abs() < 1e-6));
    }
}
