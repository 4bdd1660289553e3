//! A network learns XOR: the model is a plain struct, its gradient is the same struct, a step is one program.

use chainrule::prelude::*;

#[derive(Tree, Clone)]
struct Mlp {
    hidden: (Tensor, Tensor),
    out: (Tensor, Tensor),
}

impl Mlp {
    fn forward(&self, x: &Tensor) -> Tensor {
        let h = (x.matmul(&self.hidden.0) + &self.hidden.1).tanh();
        h.matmul(&self.out.0) + &self.out.1
    }
}

fn main() {
    let x = Tensor::from([[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]);
    let y = Tensor::from([[0.0f32], [1.0], [1.0], [0.0]]);
    let [a, b] = Key::new(1).split();
    let mut model = Mlp {
        hidden: (a.normal([2, 8], DType::F32), Tensor::zeros([8], DType::F32)),
        out: (b.normal([8, 1], DType::F32), Tensor::zeros([1], DType::F32)),
    };
    println!("{} parameters: {}", parameter_count(&model), paths(&model).join(", "));

    let inputs = x.clone();
    let mut step = compile(move |model: &Mlp| {
        let (loss, slope) = value_and_grad(|m: &Mlp| m.forward(&inputs).mean_squared_error(&y), model);
        (zip_map(model, &slope, |w, g| w - g * 0.3), loss)
    });
    for i in 0..=500 {
        let (next, loss) = step.run(model).expect("XOR has no index to be out of range");
        model = next;
        if i % 100 == 0 {
            println!("step {i:3}: loss {:.1e}", loss.item::<f32>());
        }
    }

    let answers = model.forward(&x).to_vec::<f32>();
    println!("0⊕0, 0⊕1, 1⊕0, 1⊕1 = {answers:.3?}");
    assert!(answers.iter().zip([0.0, 1.0, 1.0, 0.0]).all(|(answer, want)| (answer - want).abs() < 0.1));
}
