//! The passes that replace many operations by few: what they find, what they leave, and that nothing changes but the time.
use chainrule::optimize::{optimize, optimize_without};
use chainrule::prelude::*;
use chainrule::program::{Interpreted, Kind, Numbers, Program, capture, interpret};
use chainrule::tensor::Op;

/// How often an operation of this name stands in a program, bodies included.
fn count(program: &Program, name: &str) -> usize {
    let inside = |kind: &Kind| kind.bodies().iter().map(|body| count(body, name)).sum::<usize>();
    program.instructions.iter().map(|i| (i.kind.name() == name) as usize + inside(&i.kind)).sum()
}

fn floats(values: &[Interpreted]) -> Vec<f64> {
    let list = |value: &Interpreted| match &value.numbers {
        Numbers::Float(numbers) => numbers.clone(),
        other => panic!("{other:?} are not floats"),
    };
    values.iter().flat_map(list).collect()
}

/// Captures f and its gradient by every argument; checks that optimised, without the pass, run and interpreted agree, and
/// gives the program with the pass and without.
fn with_and_without(pass: &str, x: &[Tensor], f: impl Fn(&Vec<Tensor>) -> Tensor) -> [Program; 2] {
    let x: Vec<Tensor> = x.iter().map(Tensor::eval).collect();
    let (value, slopes) = value_and_grad(&f, &x);
    let results: Vec<Tensor> = std::iter::once(value).chain(slopes).collect();
    let inputs: Vec<(String, Tensor)> = x.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
    let program = capture("f", &inputs, &results).unwrap();
    let arguments: Vec<Interpreted> = x.iter().map(Interpreted::from_tensor).collect();
    let want = floats(&interpret(&program, &arguments).unwrap());
    let both = [optimize(program.clone()), optimize_without(program, &[pass])];
    let run = eval_all(&results).iter().flat_map(|t| t.cast(DType::F64).to_vec::<f64>()).collect();
    let interpreted = both.each_ref().map(|program| floats(&interpret(program, &arguments).unwrap()));
    for got in [run, interpreted[0].clone(), interpreted[1].clone()] {
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert!((got - want).abs() <= 1e-4 * (1.0 + want.abs()), "element {i}: {got} for {want}");
        }
    }
    both
}

fn normal(seed: u64, shape: &[usize]) -> Tensor {
    Key::new(seed).normal(shape, DType::F32)
}

/// A plain recurrent network: h ← tanh(x + h·wᵀ).
fn recurrent(x: &[Tensor]) -> Tensor {
    let [w, xs, start] = [&x[0], &x[1], &x[2]];
    let step = |h: &Tensor, x: &Tensor| {
        let h = (x + h.matmul(&w.t())).tanh();
        (h.clone(), h)
    };
    scan(step, start, xs).1.square().sum(..)
}

#[test]
fn a_weight_gradient_is_one_product_after_its_loop() {
    let x = [normal(1, &[4, 4]) * 0.3, normal(2, &[6, 3, 4]), normal(3, &[3, 4])];
    let [with, without] = with_and_without("hoist", &x, |x| recurrent(x));
    let carries = |program: &Program| -> Vec<usize> {
        let dims = program.instructions.iter().filter_map(|i| match &i.kind {
            Kind::Scan(dims, _) => Some(dims.carries),
            _ => None,
        });
        dims.collect()
    };
    assert_eq!((carries(&with), carries(&without)), (vec![1, 1], vec![1, 2]));
    let outside = with.instructions.iter().filter(|i| matches!(i.kind, Kind::Op(Op::Dot(_)))).count();
    assert_eq!(outside, 1, "{with}");
    // The weight enters both loops as it lies.
    let permuted = |program: &Program| program.instructions.iter().filter(|i| i.kind.name() == "permute").count();
    assert!(permuted(&with) < permuted(&without), "{with}");
}

#[test]
fn a_sum_that_the_loop_reads_stays_in_it() {
    // The running sum of products is itself an input of the next step: it must not leave.
    let f = |x: &Vec<Tensor>| {
        let step = |s: &Tensor, x: &Tensor| (s + x.matmul(&s.tanh()), x.sum(..));
        scan(step, &x[0], &x[1]).0.square().sum(..)
    };
    let [with, _] = with_and_without("hoist", &[normal(4, &[3, 3]) * 0.1, normal(5, &[4, 3, 3]) * 0.1], f);
    let first = with.instructions.iter().find_map(|i| match &i.kind {
        Kind::Scan(dims, _) => Some(dims.carries),
        _ => None,
    });
    assert_eq!(first, Some(1), "{with}");
}

#[test]
fn the_gradient_of_parts_is_joined() {
    let f = |x: &Vec<Tensor>| {
        let [a, b, c] = x[0].chunk::<3>(-1);
        (a.sin() * b.cos() + c.exp()).sum(..)
    };
    let [with, without] = with_and_without("join", &[normal(6, &[5, 12])], f);
    assert_eq!((count(&with, "pad"), count(&with, "concat")), (0, 1), "{with}");
    assert_eq!((count(&without, "pad"), count(&without, "concat")), (3, 0), "{without}");
    // Parts that overlap, or leave a gap, are a sum.
    for (name, lows) in [("overlap", [0, 3]), ("gap", [0, 5])] {
        let f = |x: &Vec<Tensor>| {
            let part = |low: usize| x[0].narrow(-1, low, 4);
            (part(lows[0]).sin() * part(lows[1]).exp()).sum(..)
        };
        let [with, _] = with_and_without("join", &[normal(7, &[2, 9])], f);
        assert_eq!((count(&with, "pad"), count(&with, "concat")), (2, 0), "{name}: {with}");
    }
}

#[test]
fn the_gradient_of_a_maximum_over_windows_is_one_kernel() {
    let pooling = |window: usize, stride: usize, padding: usize, dilation: usize| Pooling {
        window: vec![window],
        stride: vec![stride],
        padding: vec![padding],
        dilation: vec![dilation],
    };
    // Rounded numbers have ties.
    let rounded = |seed: u64, shape: &[usize]| (normal(seed, shape) * 2.0).round();
    let rows = [
        ("plain", pooling(2, 2, 0, 1), rounded(8, &[2, 3, 6, 8])),
        ("overlapping", pooling(3, 2, 1, 1), rounded(9, &[2, 2, 7, 7])),
        ("dilated", pooling(2, 1, 0, 2), rounded(10, &[1, 2, 5, 6])),
        ("one axis", pooling(3, 3, 0, 1), rounded(11, &[2, 2, 9])),
        ("three axes", pooling(2, 2, 0, 1), rounded(12, &[1, 2, 4, 4, 4])),
        ("in f64", pooling(2, 2, 0, 1), rounded(13, &[1, 1, 4, 4]).cast(DType::F64)),
    ];
    for (name, pooling, x) in rows {
        let f = |x: &Vec<Tensor>| {
            let y = x[0].max_pool(&pooling);
            (&y * Tensor::iota(y.shape(), y.rank() - 1, y.dtype()) + y.square()).sum(..)
        };
        let [with, without] = with_and_without("known", &[x], f);
        assert_eq!(count(&without, "max_pool_gradient"), 0, "{name}");
        assert_eq!(count(&with, "max_pool_gradient"), 1, "{name}: {with}");
        let threads = |n: usize| {
            let x = normal(14, &[3, 2, 6, 6]);
            let slope = |x: &Tensor| grad(|x: &Tensor| x.max_pool(&Pooling::new(2)).square().sum(..), x);
            compile(slope).threads(n).run(x).unwrap().to_vec::<f32>()
        };
        assert!((2..4).all(|n| threads(n) == threads(1)), "{name}");
    }
}
