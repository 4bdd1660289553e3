//! A ring of eight Gaussians, learned by two small networks against each other: Wasserstein's loss with gradient
//! penalty, the critic one step ahead. Prints how many of the eight are reached, and how many points lie in them.
//!
//! Run: `cargo run --release -p chainrule-train --example gan`

use std::f64::consts::TAU;

use chainrule::prelude::*;
use chainrule_nn::prelude::*;
use chainrule_train::data::Batch;
use chainrule_train::task::{Adversarial, Gan, Players, Task};

const MODES: usize = 8;
const SPREAD: f64 = 0.05;
const BATCH: usize = 128;
const CRITIC_STEPS: usize = 4;
const STEPS: i64 = 1500;

type State = Players<Mlp, Mlp, Adam<Mlp>, Adam<Mlp>>;

/// The centres, on the unit circle.
fn centres() -> Tensor {
    let angle = Tensor::arange(MODES, DType::F32) * (TAU / MODES as f64);
    stack(&[angle.cos(), angle.sin()], 1)
}

/// Points around centres drawn at random.
fn ring(count: usize, key: &Key) -> Tensor {
    let [which, around] = key.split();
    let which = (which.uniform([count], DType::F32) * MODES as f64).floor().cast(DType::I64);
    centres().gather(&which, 0) + around.normal([count, 2], DType::F32) * SPREAD
}

/// The share of points within four deviations of a centre, and how many centres have a fair part of them.
fn coverage(points: &Tensor) -> (f64, usize) {
    let distance = (points.unsqueeze(1) - centres().unsqueeze(0)).norm(-1);
    let near = distance.less(4.0 * SPREAD).cast(DType::F32);
    let counts = near.sum(0).to_vec::<f32>();
    let fair = points.size(0) as f32 / MODES as f32 / 4.0;
    let share = counts.iter().sum::<f32>() / points.size(0) as f32;
    (share.into(), counts.iter().filter(|&&count| count > fair).count())
}

fn main() {
    let task = Gan::new(4, |g: &mut Mlp, z, _| g.forward(z), |d: &mut Mlp, x, _| d.forward(x))
        .loss(Adversarial::Wasserstein)
        .gradient_penalty(1.0)
        .critic_steps(CRITIC_STEPS)
        .average(0.99);
    let [a, b, data, steps] = Key::new(1).split();
    let (generator, critic) = (Mlp::new(&a, &[4, 64, 64, 2]), Mlp::new(&b, &[2, 64, 64, 1]));
    let adams = [&generator, &critic].map(|net| Adam::new(net, 1e-3).with(|adam| adam.betas = (0.5, 0.9)));
    let [of_generator, of_critic] = adams;
    let mut state: State = task.start(generator, critic, of_generator, of_critic);
    let mut step = compile(|(state, number): &(State, Tensor)| {
        let real = ring(BATCH * CRITIC_STEPS, &data.fold(number));
        task.step(state, &Batch { inputs: vec![real], targets: vec![] }, &steps.fold(number))
    });
    println!(" step   distance   in a mode   modes of {MODES}");
    let mut covered = (0.0, 0);
    for number in 1..=STEPS {
        let (next, measures) = step.run((state, Tensor::from(number))).expect("a step of the ring");
        state = next;
        if number % (STEPS / 6) == 0 {
            covered = coverage(&task.sample(state.maker(), 2000, &Key::new(9)).eval());
            let loss = measures.totals().numbers().get("discriminator_loss").unwrap_or(f64::NAN);
            println!("{number:>5} {:>10.4} {:>9.1} % {:>10}", -loss, 100.0 * covered.0, covered.1);
        }
    }
    assert!(covered.1 == MODES && covered.0 > 0.7, "the ring was not learned: {covered:?}");
}
