//! The cheap gradient principle: value and gradient together cost at most five times the value (Baur and Strassen
//! 1983; Griewank and Walther 2008 give 5 for the dearest elementary operations, 4 in theirs).
//!
//! Counted in flops of the optimised programs, where moving and selecting cost nothing; every value is weighed
//! and summed, so that pure moves have flops too.

mod matrix;

use chainrule::optimize::optimize_without;
use chainrule::prelude::*;
use chainrule::program::capture;
use matrix::{Case, every, table};

fn flops(inputs: &[Tensor], outputs: &[Tensor]) -> u64 {
    let inputs: Vec<(String, Tensor)> = inputs.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
    let program = capture("cost", &inputs, outputs).unwrap_or_else(|error| panic!("{error}"));
    optimize_without(program, &[]).flops()
}

fn check(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor, bound: f64) -> Result<(), String> {
    let value = flops(inputs, &[f(inputs)]);
    let both: Vec<Tensor> = std::iter::once(f(inputs)).chain(Case::gradient(inputs, &f)).collect();
    let both = flops(inputs, &both);
    // A handful for what is done once whatever the size: the factor of a mean.
    if both as f64 <= bound * value as f64 + 4.0 {
        return Ok(());
    }
    Err(format!("value and gradient take {both} flops, {:.1} times the value's {value}", both as f64 / value as f64))
}

#[test]
fn of_every_row() {
    // Where there is no result there is no value to compare with.
    let cases = table().into_iter().filter(|case| case.apply(&case.point(0)).numel() > 0);
    every(cases, |case| check(&case.point(0), |x| case.scalar(x), case.bound));
}

fn random(shapes: &[&[usize]]) -> Vec<Tensor> {
    let draw = |(i, shape): (usize, &&[usize])| Key::new(i as u64).normal(*shape, DType::F64).eval();
    shapes.iter().enumerate().map(draw).collect()
}

fn assert_cheap(name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) {
    if let Err(why) = check(inputs, f, 5.0) {
        panic!("{name}: {why}");
    }
}

#[test]
fn of_a_multilayer_perceptron() {
    let x = random(&[&[8, 20], &[20, 32], &[32], &[32, 32], &[32], &[32, 5], &[5]]);
    assert_cheap("perceptron", &x, |x| {
        let h = (x[0].matmul(&x[1]) + &x[2]).gelu();
        let h = (h.matmul(&x[3]) + &x[4]).tanh().normalize(-1, 1e-5);
        (h.matmul(&x[5]) + &x[6]).cross_entropy(&(Tensor::arange(8, DType::I64).minimum(4i64)))
    });
}

#[test]
fn of_a_convolutional_network() {
    let x = random(&[&[2, 3, 12, 12], &[8, 3, 3, 3], &[8, 1, 1], &[8, 8, 3, 3], &[8, 1, 1], &[72, 4]]);
    assert_cheap("convolutional network", &x, |x| {
        let same = Convolution { padding: Padding::Both(1), ..Default::default() };
        let h = (x[0].conv(&x[1], &same) + &x[2]).relu().max_pool(&Pooling::new(2));
        let strided = Convolution { stride: vec![2], padding: Padding::Both(1), ..Default::default() };
        let h = (h.conv(&x[3], &strided) + &x[4]).silu();
        let n = h.numel() / 2;
        h.reshape([2, n]).matmul(&x[5]).logsumexp(-1).sum(..)
    });
}

#[test]
fn of_a_recurrent_network() {
    let x = random(&[&[6, 4, 5], &[5, 32], &[8, 32], &[32], &[4, 8], &[4, 8]]);
    assert_cheap("LSTM", &x, |x| {
        let body = |(h, c): &(Tensor, Tensor), v: &Tensor| {
            let gates = v.matmul(&x[1]) + h.matmul(&x[2]) + &x[3];
            let [i, f, g, o] = gates.chunk(-1);
            let c = f.sigmoid() * c + i.sigmoid() * g.tanh();
            let h = o.sigmoid() * c.tanh();
            ((h.clone(), c), h)
        };
        scan(body, &(x[4].clone(), x[5].clone()), &x[0]).1.square().mean(..)
    });
}

#[test]
fn of_an_attention_block() {
    let x = random(&[&[2, 6, 16], &[16, 48], &[16, 16], &[16, 64], &[64, 16], &[16], &[16]]);
    assert_cheap("attention", &x, |x| {
        let heads = |v: &Tensor| v.reshape([2, 6, 4, 4]).permute([0, 2, 1, 3]);
        let [q, k, v] = (x[0].normalize(-1, 1e-5) * &x[5] + &x[6]).matmul(&x[1]).chunk(-1);
        let scores = heads(&q).matmul(&heads(&k).t()) * 0.5;
        let mask = Tensor::ones([6, 6], DType::F64).tril(0).equal(0.0);
        let mixed =
            scores.masked_fill(&mask.broadcast_to([2, 4, 6, 6]), f64::NEG_INFINITY).softmax(-1).matmul(&heads(&v));
        let h = &x[0] + mixed.permute([0, 2, 1, 3]).reshape([2, 6, 16]).matmul(&x[2]);
        (&h + h.normalize(-1, 1e-5).matmul(&x[3]).gelu().matmul(&x[4])).square().mean(..)
    });
}
