//! Fusion: what is done in one pass over memory, and that it says the same as the reference.

use chainrule::optimize::optimize_without;
use chainrule::prelude::*;
use chainrule::program::{Interpreted, Kind, Numbers, Program, capture, interpret};

fn float(value: &Interpreted) -> Vec<f64> {
    match &value.numbers {
        Numbers::Float(list) => list.clone(),
        Numbers::Int(list) => list.iter().map(|&v| v as f64).collect(),
    }
}

/// A function of some tensors, as a program over them.
fn program(f: &dyn Fn(&[Tensor]) -> Vec<Tensor>, x: &[Tensor]) -> Program {
    let inputs: Vec<(String, Tensor)> = x.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
    capture("f", &inputs, &f(x)).unwrap()
}

/// The names of the instructions, with the number of values they make.
fn kinds(program: &Program) -> Vec<(&'static str, usize)> {
    program.instructions.iter().map(|i| (i.kind.name(), i.outputs.len())).collect()
}

/// The largest difference of the compiled function from the unoptimised program's reference, on 1 and 3 threads.
fn error(f: &dyn Fn(&[Tensor]) -> Vec<Tensor>, x: &[Tensor]) -> f64 {
    let arguments: Vec<Interpreted> = x.iter().map(Interpreted::from_tensor).collect();
    let want: Vec<f64> = interpret(&program(f, x), &arguments).unwrap().iter().flat_map(float).collect();
    let run = |threads: usize| {
        let results = compile(|x: &Vec<Tensor>| f(x)).threads(threads).run(x.to_vec()).unwrap();
        results.iter().flat_map(|y| float(&Interpreted::from_tensor(y))).collect::<Vec<f64>>()
    };
    let (one, three) = (run(1), run(3));
    let bits = |list: &[f64]| list.iter().map(|v| v.to_bits()).collect::<Vec<u64>>();
    assert_eq!(bits(&one), bits(&three), "other bits on three threads");
    let difference =
        |(a, b): (&f64, &f64)| if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() / (1.0 + b.abs()) };
    one.iter().zip(&want).map(difference).fold(0.0, f64::max)
}

#[test]
fn cheap_values_are_computed_again_and_not_kept() {
    type Case = (&'static str, fn(&Tensor) -> Tensor, usize);
    // The values that the pass over the input of the activation gives.
    let cases: [Case; 4] = [
        ("gelu", Tensor::gelu_tanh, 1),
        ("gelu by erf", Tensor::gelu, 1),
        ("silu", Tensor::silu, 1),
        ("relu keeps its mask, a byte, rather than its input", Tensor::relu, 2),
    ];
    let n = |seed: u64, shape: &[usize]| (Key::new(seed).normal(shape, DType::F32) * 0.3).eval();
    let x = [n(1, &[64, 16]), n(2, &[16, 160]), n(3, &[160, 16])];
    let mut wrong = Vec::new();
    for (name, activation, values) in cases {
        let step = |x: &[Tensor]| {
            let loss = |x: &Vec<Tensor>| activation(&x[0].matmul(&x[1])).matmul(&x[2]).square().sum(..);
            value_and_grad(loss, &x.to_vec()).1
        };
        let program = optimize_without(program(&step, &x), &[]);
        let fused = program.instructions.iter().find(|i| matches!(i.kind, Kind::Fused(_)));
        let given = fused.map_or(0, |i| i.outputs.len());
        if given != values {
            wrong.push(format!("{name}: the first pass gives {given} values\n{program}"));
        }
        let error = error(&step, &x);
        if error > 1e-4 {
            wrong.push(format!("{name}: off by {error}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn small_values_are_kept() {
    let x = [Tensor::full([8, 8], 0.5, DType::F32).eval()];
    let step = |x: &[Tensor]| vec![grad(|x: &Tensor| x.matmul(x).gelu_tanh().matmul(x).sum(..), &x[0])];
    let whole = program(&step, &x);
    let (on, off) = (optimize_without(whole.clone(), &[]), optimize_without(whole, &["recompute"]));
    assert_eq!(kinds(&on), kinds(&off));
}

#[test]
fn rows_are_joined_and_spread_in_one_pass() {
    type Case = (&'static str, fn(&Tensor) -> Vec<Tensor>, &'static [(&'static str, usize)]);
    let cases: [Case; 8] = [
        ("softmax", |x| vec![x.softmax(-1)], &[("fused", 1)]),
        ("log_softmax", |x| vec![(x * 2.0).log_softmax(-1)], &[("fused", 1)]),
        ("normalize, then a product", |x| vec![x.normalize([-1], 1e-5) * x], &[("fused", 1)]),
        ("root mean square norm", |x| vec![x / (x.square().mean_keepdims(-1) + 1e-5).sqrt()], &[("fused", 1)]),
        // The mean goes out as one number a row; its broadcast is a move outside.
        (
            "a mean that others read",
            |x| vec![x.mean_keepdims(-1), x - x.mean_keepdims(-1)],
            &[("fused", 2), ("reshape", 1)],
        ),
        ("a sum alone stays one", |x| vec![x.sum(-1)], &[("sum", 1)]),
        ("rows of one number of each row", |x| vec![x * x.sum_keepdims(-1).exp().tanh()], &[("fused", 1)]),
        ("the largest of the rows, shared", |x| vec![x.equal(x.max_keepdims(-1)).select(x, 0.0)], &[("fused", 1)]),
    ];
    let mut wrong = Vec::new();
    for (name, f, want) in cases {
        for shape in [&[3, 5, 64][..], &[40, 130], &[1, 17], &[2, 3]] {
            let x = [(Key::new(7).normal(shape, DType::F32)).eval()];
            let f = |x: &[Tensor]| f(&x[0]);
            let got = kinds(&optimize_without(program(&f, &x), &[]));
            if shape.len() == 3 && got != want {
                wrong.push(format!("{name}: {got:?}"));
            }
            let error = error(&f, &x);
            if error > 1e-5 {
                wrong.push(format!("{name} of {shape:?}: off by {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn gradients_of_rows_equal_the_reference() {
    type Case = (&'static str, fn(&Tensor, &Tensor) -> Tensor);
    let cases: [Case; 5] = [
        ("softmax", |x, w| (x.matmul(w).softmax(-1) * x.matmul(w)).square().sum(..)),
        ("cross-entropy", |x, w| x.matmul(w).cross_entropy(&Tensor::full([x.shape()[0]], 1.0, DType::I64))),
        ("norm", |x, w| (x.matmul(w).normalize([-1], 1e-5) * x.matmul(w).sin()).sum(..)),
        ("logsumexp", |x, w| x.matmul(w).logsumexp_keepdims(-1).square().mean(..)),
        ("attention", |x, w| x.matmul(w).matmul(&x.t()).softmax(-1).matmul(x).tanh().sum(..)),
    ];
    let mut wrong = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        for (rows, n) in [(5, 3), (40, 70), (24, 24)] {
            for (name, f) in cases {
                let draw = |seed: u64, shape: &[usize]| (Key::new(seed).normal(shape, dtype) * 0.3).eval();
                let x = [draw(1, &[rows, n]), draw(2, &[n, n])];
                let step = |x: &[Tensor]| {
                    let (value, (a, b)) =
                        value_and_grad(|(x, w): &(Tensor, Tensor)| f(x, w), &(x[0].clone(), x[1].clone()));
                    vec![value, a, b]
                };
                let (error, most) = (error(&step, &x), if dtype == DType::F64 { 1e-10 } else { 2e-4 });
                if error > most {
                    wrong.push(format!("{name} {dtype} {rows}×{n}: off by {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Instructions that read or write a value of so many elements, moves aside.
fn passes(program: &Program, elements: usize) -> usize {
    let large = |value: &u32| program.ty(*value).numel() >= elements;
    let moves = ["reshape", "broadcast", "permute", "slice"];
    let works = program.instructions.iter().filter(|i| !moves.contains(&i.kind.name()));
    works.filter(|i| i.inputs.iter().chain(&i.outputs).any(large)).count()
}

#[test]
fn norms_over_planes_take_few_passes() {
    // Axes of the norm, passes over the images forth and back at most.
    let cases: [(&str, &[isize], usize); 3] =
        [("batch norm", &[0, 2, 3], 4), ("instance norm", &[2, 3], 2), ("layer norm", &[1, 2, 3], 4)];
    let mut wrong = Vec::new();
    for (name, axes, most) in cases {
        let step = |x: &[Tensor]| {
            let loss = |x: &Vec<Tensor>| {
                let [scale, shift] = [&x[1], &x[2]].map(|w| w.reshape([3, 1, 1]));
                ((x[0].normalize(axes, 1e-5) * scale + shift).relu() * &x[3]).sum(..)
            };
            value_and_grad(loss, &x.to_vec()).1
        };
        let draw = |seed: u64, shape: &[usize]| (Key::new(seed).normal(shape, DType::F32) + 0.3).eval();
        for shape in [[6, 3, 5, 6], [2, 3, 16, 18], [40, 3, 7, 7]] {
            let x = [draw(1, &shape), draw(2, &[3]), draw(3, &[3]), draw(4, &shape)];
            let whole = program(&step, &x);
            let elements = shape.iter().product();
            let count = |off: &[&str]| passes(&optimize_without(whole.clone(), off), elements);
            let (got, without) = (count(&[]), count(&["fuse"]));
            if got > most || without < 3 * most {
                let program = optimize_without(whole, &[]);
                wrong.push(format!("{name} of {shape:?}: {got} passes, {without} without\n{program}"));
            }
            let error = error(&step, &x);
            if error > 1e-4 {
                wrong.push(format!("{name} of {shape:?}: off by {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn rows_of_several_axes_are_read_in_any_layout() {
    // Planes that lie the other way round, and a part of a larger operand.
    let f = |x: &[Tensor]| {
        let y = x[0].swap_axes(2, 3).exp();
        vec![&y / y.sum_keepdims([2, 3]) * x[1].narrow(3, 1, 14)]
    };
    let draw = |seed: u64, shape: &[usize]| Key::new(seed).normal(shape, DType::F32).eval();
    let x = [draw(5, &[3, 2, 14, 15]), draw(6, &[3, 2, 15, 16])];
    let whole = optimize_without(program(&f, &x), &[]);
    assert_eq!(passes(&whole, 3 * 2 * 14 * 15), 1, "{whole}");
    assert!(error(&f, &x) < 1e-5);
}
