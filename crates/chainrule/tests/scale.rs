//! Growth: every stage takes time in proportion to the expression, and none uses the stack for its length.
use chainrule::optimize::optimize;
use chainrule::plan::{Plan, PlanOptions};
use chainrule::prelude::*;
use chainrule::program::{Program, capture};
use std::time::Instant;

/// x ← sin(x)·1.01 + 0.1, three operations a turn.
fn chain(x: &Tensor, operations: usize) -> Tensor {
    (0..operations / 3).fold(x.clone(), |x, _| x.sin() * 1.01 + 0.1)
}

/// The same in plain numbers: value and derivative.
fn expected(operations: usize) -> (f64, f64) {
    (0..operations / 3).fold((0.5, 1.0), |(x, slope): (f64, f64), _| (x.sin() * 1.01 + 0.1, slope * x.cos() * 1.01))
}

const STAGES: [&str; 5] = ["record", "differentiate", "compile", "run", "drop"];

/// Seconds of each stage for a chain of n operations with its derivative.
fn stages(n: usize) -> [f64; 5] {
    let x = Tensor::from(0.5);
    let mut recorded = 0.0;
    let start = Instant::now();
    let (value, slope) = value_and_grad(
        |x: &Tensor| {
            let start = Instant::now();
            let y = chain(x, n);
            recorded = start.elapsed().as_secs_f64();
            y
        },
        &x,
    );
    let differentiated = start.elapsed().as_secs_f64() - recorded;
    let start = Instant::now();
    let program = optimize(capture("chain", &[("x".into(), x.clone())], &[value.clone(), slope.clone()]).unwrap());
    let plan = Plan::new(&program, PlanOptions::default());
    let compiled = start.elapsed().as_secs_f64();
    assert!(plan.live_bytes() <= 64, "{n}: {} bytes", plan.live_bytes());
    let mut step = compile(move |x: &Tensor| value_and_grad(|x: &Tensor| chain(x, n), x));
    let (y, g) = step.run(x.clone()).unwrap();
    let start = Instant::now();
    let (again, _) = step.run(x).unwrap();
    let ran = start.elapsed().as_secs_f64();
    let (want, want_slope) = expected(n);
    assert!((y.item::<f64>() - want).abs() < 1e-9, "{n}: {} against {want}", y.item::<f64>());
    assert!((g.item::<f64>() - want_slope).abs() <= 1e-9 * want_slope.abs(), "{n}");
    assert_eq!(y.item::<f64>(), again.item::<f64>());
    let start = Instant::now();
    drop((value, slope, program, plan));
    [recorded, differentiated, compiled, ran, start.elapsed().as_secs_f64()]
}

fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(512 * 1024).spawn(work).unwrap().join().unwrap()
}

#[test]
fn a_million_operations_take_time_in_proportion() {
    let rows: Vec<(usize, [f64; 5])> =
        on_a_small_stack(|| [1_000, 10_000, 100_000, 1_000_000].map(|n| (n, stages(n))).to_vec());
    for (n, times) in &rows {
        let cells: Vec<String> =
            STAGES.iter().zip(times).map(|(stage, s)| format!("{stage} {:.0} ns", s * 1e9 / *n as f64)).collect();
        println!("{n:>8} operations, each: {}", cells.join(", "));
    }
    for (stage, name) in STAGES.iter().enumerate() {
        let each = |row: usize| rows[row].1[stage] / rows[row].0 as f64;
        // Caches, page faults and busy machines are allowed for; a square would be a factor of a hundred.
        let bound = 6.0 * each(1).max(2e-7);
        assert!(each(3) <= bound, "{name}: {:.0} ns at 1e4, {:.0} ns at 1e6", each(1) * 1e9, each(3) * 1e9);
    }
}

#[test]
fn a_long_expression_is_evaluated_and_dropped_on_a_small_stack() {
    on_a_small_stack(|| {
        let y = chain(&Tensor::from(0.5), 300_000);
        assert!((y.item::<f64>() - expected(300_000).0).abs() < 1e-9);
        // One behind another in containers that each hold the last: bodies of loops in bodies of loops.
        let mut x = Tensor::from(0.5);
        for _ in 0..2_000 {
            x = checkpoint(|x: &Tensor| x * 0.5, &x);
        }
        assert_eq!(x.item::<f64>(), 0.0f64.max(0.5 * 0.5f64.powi(2_000)));
    });
}

fn captured(result: &[Tensor]) -> Program {
    capture("f", &[], result).unwrap()
}

#[test]
fn a_hessian_of_many_variables_is_one_batched_program() {
    let count = |n: usize| {
        let x = Tensor::linspace(0.1, 1.0, n, DType::F64).eval();
        let f = |x: &Tensor| {
            let (a, b) = (x.narrow(0, 1, n - 1), x.narrow(0, 0, n - 1));
            ((&a - b.square()).square() * 100.0 + (1.0 - &b).square()).sum(..)
        };
        let h = hessian(f, &x);
        if n == 100 {
            let (h, x) = (h.to_vec::<f64>(), x.to_vec::<f64>());
            for i in 0..n {
                for j in 0..n {
                    let first = i < n - 1;
                    let want = match i.abs_diff(j) {
                        0 => {
                            (if first { 1200.0 * x[i] * x[i] - 400.0 * x[i + 1] + 2.0 } else { 0.0 })
                                + if i > 0 { 200.0 } else { 0.0 }
                        }
                        1 => -400.0 * x[i.min(j)],
                        _ => 0.0,
                    };
                    assert!((h[i * n + j] - want).abs() < 1e-9, "{i} {j}: {} {want}", h[i * n + j]);
                }
            }
        }
        let before = captured(&[h]);
        (before.len(), optimize(before).len())
    };
    let (few, many) = (count(5), count(100));
    assert_eq!(few, many);
    assert!(many.0 < 120 && many.1 < 120, "{many:?}");
}

#[test]
fn nested_gradients_do_not_grow_exponentially() {
    fn nth(n: usize, x: &Tensor) -> Tensor {
        if n == 0 { x.sin() } else { grad(|x: &Tensor| nth(n - 1, x), x) }
    }
    let x = Tensor::from(0.7);
    let counts: Vec<(usize, usize)> = (0..=12)
        .map(|n| {
            let y = nth(n, &x);
            let before = capture("nth", &[("x".into(), x.clone())], &[y]).unwrap();
            (before.len(), optimize(before).len())
        })
        .collect();
    for (n, &(before, after)) in counts.iter().enumerate() {
        assert!(before <= 8 + 8 * n, "{n}: {counts:?}");
        assert!(after <= 8 + 2 * n, "{n}: {counts:?}");
    }
}

#[test]
fn an_expression_used_a_thousand_times_is_computed_once() {
    let f = |x: &Tensor| (0..1_000).fold(x.clone(), |x, _| &x * 0.5 + &x * 0.5);
    let x = Tensor::from(0.75);
    let (y, g) = value_and_grad(f, &x);
    let before = capture("shared", &[("x".into(), x.clone())], &[y.clone(), g.clone()]).unwrap();
    assert!(before.len() < 6_010, "{}", before.len());
    let after = optimize(before);
    assert!(after.len() < 6_010, "{}", after.len());
    assert_eq!(y.item::<f64>(), 0.75);
    assert_eq!(g.item::<f64>(), 1.0);
    let second = grad(|x: &Tensor| grad(|x: &Tensor| f(x).square(), x), &x);
    assert!(captured(std::slice::from_ref(&second)).len() < 30_000);
    assert!((second.item::<f64>() - 2.0).abs() < 1e-9);
}
