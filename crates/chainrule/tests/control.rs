//! Loops, branches, recomputation, derivatives of the user's own, and what compiling keeps and reuses.
use chainrule::execute::eval_all;
use chainrule::prelude::*;
use chainrule::tensor::{ScanOptions, scan_with};
use std::cell::Cell;
use std::rc::Rc;

fn close(a: &Tensor, b: &Tensor) {
    let values = eval_all(&[a.cast(DType::F64), b.cast(DType::F64)]);
    assert_eq!(values[0].shape(), values[1].shape());
    for (x, y) in values[0].to_vec::<f64>().iter().zip(values[1].to_vec::<f64>()) {
        assert!((x - y).abs() <= 1e-10 * (1.0 + y.abs()), "{x} against {y}");
    }
}

fn xs() -> Tensor {
    Tensor::from([0.1, -0.4, 0.9, 0.3, -0.7])
}

/// All derivatives of a function of one tensor that a loop must share with its unrolled form.
fn same_to_second_order(f: impl Fn(&Tensor) -> Tensor, g: impl Fn(&Tensor) -> Tensor, x: &Tensor) {
    close(&f(x), &g(x));
    close(&grad(&f, x), &grad(&g, x));
    let v = x * 0.3 + 1.0;
    close(&jvp(&f, x, &v).1, &jvp(&g, x, &v).1);
    close(&hvp(&f, x, &v), &hvp(&g, x, &v));
    close(&hessian(&f, x), &hessian(&g, x));
    // Reverse over reverse and reverse over forward.
    let twice = |f: &dyn Fn(&Tensor) -> Tensor| grad(|x: &Tensor| (grad(f, x) * &v).sum(..), x);
    close(&twice(&f), &twice(&g));
    let mixed = |f: &dyn Fn(&Tensor) -> Tensor| grad(|x: &Tensor| jvp(f, x, &v).1, x);
    close(&mixed(&f), &mixed(&g));
    let batch = stack(&[x, &(x * 0.5)], 0);
    close(&vmap(|x: &Tensor| grad(&f, x), &batch), &vmap(|x: &Tensor| grad(&g, x), &batch));
    let rows = stack(&[grad(&g, &batch.at(0)), grad(&g, &batch.at(1))], 0);
    close(&vmap(|x: &Tensor| grad(&f, x), &batch), &rows);
}

#[test]
fn a_loop_backwards_without_sequences_and_with_trees() {
    // Reverse: outputs are stacked where their slices were.
    let options = ScanOptions { reverse: true, ..Default::default() };
    let (last, sums) =
        scan_with(options, |c: &Tensor, x: &Tensor| (c + x, c + x), &Tensor::from(0.0), &Tensor::from([1.0, 2.0, 4.0]));
    assert_eq!((last.item::<f64>(), sums.to_vec::<f64>()), (7.0, vec![7.0, 6.0, 4.0]));
    let f = |w: &Tensor| {
        let (c, y) = scan_with(options, |c: &Tensor, x: &Tensor| ((c * w + x).sin(), c * x), &w.sum(..), &xs());
        c.sum(..) + y.square().sum(..)
    };
    let g = |w: &Tensor| {
        let (mut c, mut total) = (w.sum(..), Tensor::from(0.0));
        for i in (0..5).rev() {
            let x = xs().at(i);
            total = total + (&c * &x).square().sum(..);
            c = (&c * w + x).sin();
        }
        c.sum(..) + total
    };
    same_to_second_order(f, g, &Tensor::from(0.8));
    // No sequence: a number of steps.
    let options = ScanOptions { length: Some(7), reverse: false };
    let f = |x: &Tensor| scan_with(options, |c: &Tensor, _: &()| (c.sin() * 1.2, ()), x, &()).0;
    let g = |x: &Tensor| (0..7).fold(x.clone(), |c, _| c.sin() * 1.2);
    same_to_second_order(f, g, &Tensor::from(0.8));
    // Trees of carries, sequences and outputs; a carry of integers.
    type Carry = (Tensor, Vec<Tensor>);
    let f = |x: &Tensor| {
        let init: Carry = (Tensor::from(0i64), vec![x.clone(), x * 2.0]);
        let seq = [xs(), xs() * 0.5];
        let ((count, c), (a, b)) = scan(
            |(n, c): &Carry, x: &[Tensor; 2]| {
                let next = vec![&c[0] * &x[0] + &c[1], (&c[1] + &x[1]).tanh()];
                ((n + 1i64, next), (c[0].clone(), (n.clone(), c[1].square())))
            },
            &init,
            &seq,
        );
        assert_eq!(b.0.dtype(), DType::I64);
        &c[0] * &c[1] + (a * b.1 * b.0.cast(DType::F64)).sum(..) + count.cast(DType::F64)
    };
    let g = |x: &Tensor| {
        let (mut c0, mut c1, mut total) = (x.clone(), x * 2.0, Tensor::from(0.0));
        for i in 0..5 {
            total = total + &c0 * c1.square() * i as f64;
            (c0, c1) = (&c0 * xs().at(i) + &c1, (&c1 + xs().at(i) * 0.5).tanh());
        }
        &c0 * &c1 + total + 5.0
    };
    same_to_second_order(f, g, &Tensor::from(0.6));
}

#[test]
fn loops_of_no_steps() {
    let f = |x: &Tensor| {
        let (c, y) = scan(|c: &Tensor, x: &Tensor| (c * x, c + x), x, &Tensor::zeros([0], DType::F64));
        c.square() + y.sum(..)
    };
    assert_eq!(f(&Tensor::from(3.0)).item::<f64>(), 9.0);
    assert_eq!(grad(f, &Tensor::from(3.0)).item::<f64>(), 6.0);
    let (c, y) =
        scan_truncated(4, |c: &Tensor, x: &Tensor| (c * x, c + x), &Tensor::from(2.0), &Tensor::zeros([0], DType::F64));
    assert_eq!((c.item::<f64>(), y.shape()), (2.0, &[0usize][..]));
}

#[test]
fn truncation_is_a_cut_by_hand() {
    let body = |w: &Tensor, c: &Tensor, x: &Tensor| (c * w + x).tanh();
    for window in 1..=6 {
        let f = |w: &Tensor| {
            let (c, y) =
                scan_truncated(window, |c: &Tensor, x: &Tensor| (body(w, c, x), c.square()), &(w * 0.5), &xs());
            c + y.sum(..)
        };
        let by_hand = |w: &Tensor| {
            let (mut c, mut total) = (w * 0.5, Tensor::from(0.0));
            for i in 0..5 {
                if i > 0 && i % window == 0 {
                    c = c.stop_gradient();
                }
                total = total + c.square();
                c = body(w, &c, &xs().at(i));
            }
            c + total
        };
        same_to_second_order(f, by_hand, &Tensor::from(0.9));
    }
}

#[test]
fn loops_in_loops_reach_what_they_capture() {
    let (outer, inner) = (Tensor::from([[0.2, 0.5], [0.1, -0.3], [0.7, 0.4]]), Tensor::from([0.5, -0.6]));
    let f = |w: &Tensor| {
        let scale = w.exp();
        let (c, y) = scan(
            |c: &Tensor, row: &Tensor| {
                let (d, z) = scan(|d: &Tensor, x: &Tensor| ((d * &scale + x * w).sin(), d * c), c, row);
                (d + &inner * w, z.sum(..))
            },
            &inner,
            &outer,
        );
        (c * y.sum(..)).sum(..)
    };
    let g = |w: &Tensor| {
        let scale = w.exp();
        let (mut c, mut total) = (inner.clone(), Tensor::from(0.0));
        for i in 0..3 {
            let mut d = c.clone();
            let mut z = Tensor::from(0.0);
            for j in 0..2 {
                z = z + (&d * &c).sum(..);
                d = (&d * &scale + outer.at((i, j)) * w).sin();
            }
            c = d + &inner * w;
            total = total + z;
        }
        (c * total).sum(..)
    };
    same_to_second_order(f, g, &Tensor::from(0.4));
}

#[test]
fn a_loop_is_one_loop_forward_and_one_back() {
    let w = Tensor::from(0.9);
    let g = grad(|w: &Tensor| scan(|c: &Tensor, x: &Tensor| ((c * w + x).tanh(), c.square()), w, &xs()).1.sum(..), &w);
    let program = chainrule::program::capture("g", &[("w".into(), w)], &[g]).unwrap();
    let loops = program.instructions.iter().filter(|i| i.kind.name() == "scan").count();
    assert_eq!(loops, 2, "{program}");
}

/// σ(1 − σ) and 1 − tanh² follow from σ and tanh, so the loop forward does not hand them over beside these.
#[test]
fn a_loop_keeps_no_factor_that_follows_from_others() {
    let cell = |c: &Tensor, x: &Tensor| {
        let (gate, new) = ((x * 0.7 + c).sigmoid(), (x * 1.3).tanh());
        (c * &gate + &new * (1.0 - &gate), Tensor::from(0.0))
    };
    let looped = |x: &Tensor| scan(cell, &Tensor::from(0.3), x).0.square();
    let unrolled = |x: &Tensor| (0..5).fold(Tensor::from(0.3), |c, i| cell(&c, &x.at(i)).0).square();
    same_to_second_order(looped, unrolled, &xs());

    let g = grad(looped, &xs());
    let program = chainrule::program::capture("g", &[("x".into(), xs())], &[g]).unwrap();
    let forward = program.instructions.iter().find(|i| i.kind.name() == "scan").unwrap();
    let emitted = forward.outputs.len() - 2;
    assert!(emitted <= 4, "{emitted} values are kept of each step\n{program}");
}

#[test]
fn branches() {
    let f = |x: &Tensor| {
        let scale = x.exp();
        cond(&x.sum(..).less(1.0), |x: &Tensor| (x * &scale).sin().sum(..), |x: &Tensor| (x / &scale).sum(..), x)
    };
    for start in [0.1, 2.0] {
        let g = |x: &Tensor| if start < 1.0 { (x * x.exp()).sin().sum(..) } else { (x / x.exp()).sum(..) };
        let x = Tensor::from([start, 0.2]);
        close(&f(&x), &g(&x));
        close(&grad(f, &x), &grad(g, &x));
        close(&hessian(f, &x), &hessian(g, &x));
    }
    let rows = Tensor::from([[0.1, 0.2], [2.0, 0.2]]);
    let batched = vmap(|x: &Tensor| grad(f, x), &rows);
    close(&batched, &stack(&[grad(f, &rows.at(0)), grad(f, &rows.at(1))], 0));
    // The branch not taken makes no NaN, and is not run: its index is outside.
    let x = Tensor::from([-1.0, 4.0]);
    let safe = |x: &Tensor| cond(&x.at(0).greater(0.0), |x: &Tensor| x.at(0).sqrt(), |x: &Tensor| x.at(1).sqrt(), x);
    assert_eq!(grad(safe, &x).to_vec::<f64>(), [0.0, 0.25]);
    let i = Tensor::from([9i64]);
    let lazy = cond(&Tensor::from(false), |x: &Tensor| x.at(&i).sum(..), |x: &Tensor| x.sum(..), &x);
    assert_eq!(lazy.item::<f64>(), 3.0);
    // A branch inside a loop, and a loop inside a branch.
    let f = |x: &Tensor| {
        scan(
            |c: &Tensor, y: &Tensor| (cond(&y.greater(0.0), |c: &Tensor| (c * y).sin(), |c: &Tensor| c - y, c), ()),
            x,
            &xs(),
        )
        .0
    };
    let g = |x: &Tensor| {
        let values = xs().to_vec::<f64>();
        values.iter().fold(x.clone(), |c, &y| if y > 0.0 { (c * y).sin() } else { c - y })
    };
    same_to_second_order(f, g, &Tensor::from(0.6));
    let f = |x: &Tensor| {
        cond(
            &x.greater(0.0),
            |x: &Tensor| scan(|c: &Tensor, y: &Tensor| ((c * y).cos(), ()), x, &xs()).0,
            |x: &Tensor| x * 2.0,
            x,
        )
    };
    let g = |x: &Tensor| xs().to_vec::<f64>().iter().fold(x.clone(), |c, &y| (c * y).cos());
    same_to_second_order(f, g, &Tensor::from(0.6));
}

#[test]
fn recomputation_changes_memory_and_time_but_no_bit() {
    let (n, blocks) = (128, 8);
    let keys: [Key; 9] = Key::new(5).split();
    let x = keys[8].normal([64, n], DType::F32).eval();
    let weights: Vec<(Tensor, Tensor)> = keys[..blocks]
        .iter()
        .map(|key| {
            let [a, b] = key.split();
            ((a.normal([n, n], DType::F32) * 0.1).eval(), (b.normal([n, n], DType::F32) * 0.1).eval())
        })
        .collect();
    let block = |(x, (a, b)): &(Tensor, (Tensor, Tensor))| x + x.matmul(a).gelu().matmul(b).tanh().sin();
    let step = |kept: bool| {
        let x = x.clone();
        compile(move |weights: &Vec<(Tensor, Tensor)>| {
            let f = |w: &Vec<(Tensor, Tensor)>| {
                let mut x = x.clone();
                for pair in w {
                    let operands = (x, pair.clone());
                    x = if kept { block(&operands) } else { checkpoint(block, &operands) };
                }
                x.square().mean(..)
            };
            value_and_grad(f, weights)
        })
    };
    let (mut kept, mut recomputed) = (step(true), step(false));
    let (a, b) = (kept.run(weights.clone()).unwrap(), recomputed.run(weights.clone()).unwrap());
    assert_eq!(a.0.item::<f32>().to_bits(), b.0.item::<f32>().to_bits());
    for (a, b) in a.1.iter().zip(&b.1) {
        assert_eq!(a.0.to_vec::<f32>(), b.0.to_vec::<f32>());
        assert_eq!(a.1.to_vec::<f32>(), b.1.to_vec::<f32>());
    }
    let (more, less) = (recomputed.program(&weights).flops(), kept.program(&weights).flops());
    assert!(more as f64 > 1.2 * less as f64 && (more as f64) < 1.6 * less as f64, "{more} {less}");
    let (large, small) = (kept.plan(&weights).live_bytes(), recomputed.plan(&weights).live_bytes());
    assert!((small as f64) < 0.6 * large as f64, "{small} of {large} bytes");
    // Nested, and differentiated twice.
    let deep = |x: &Tensor| checkpoint(|x: &Tensor| checkpoint(|x: &Tensor| x.sin().exp(), x).square(), x);
    same_to_second_order(|x| deep(x), |x| x.sin().exp().square(), &Tensor::from(0.3));
    // What is captured is reached.
    let w = Tensor::from(0.7);
    let g = grad(|w: &Tensor| checkpoint(|x: &Tensor| (x * w).sin(), &Tensor::from(2.0)), &w);
    close(&g, &Tensor::from(2.0 * 1.4f64.cos()));
}

#[test]
fn derivatives_of_the_users_own() {
    // A stable softplus whose derivative is stated, in all modes and to second order.
    let f = |x: &Tensor| {
        custom_derivative(|x: &Tensor| x.exp().log1p(), |x: &Tensor, _: &Tensor, t: &Tensor| t * x.sigmoid(), x).sum(..)
    };
    let x = Tensor::from([0.3, -0.8]);
    same_to_second_order(f, |x| x.softplus().sum(..), &x);
    // Trees, a parameter that is not used, and numbers from outside.
    let scale = Tensor::from(3.0);
    let f = |p: &(Tensor, Tensor)| {
        let scale = scale.clone();
        custom_derivative(
            move |p: &(Tensor, Tensor)| (&p.0 * &p.1 * &scale, p.1.clone()),
            |p: &(Tensor, Tensor), _: &(Tensor, Tensor), t: &(Tensor, Tensor)| (&t.0 * &p.1 * 10.0, &t.1 * 5.0),
            p,
        )
    };
    let p = (Tensor::from(2.0), Tensor::from(4.0));
    let (value, g) = value_and_grad(
        |p: &(Tensor, Tensor)| {
            let (a, b) = f(p);
            a + b
        },
        &p,
    );
    assert_eq!((value.item::<f64>(), g.0.item::<f64>(), g.1.item::<f64>()), (28.0, 40.0, 5.0));
    // Inside a loop.
    let f = |x: &Tensor| {
        let double =
            |c: &Tensor| custom_derivative(|c: &Tensor| c * 2.0, |_: &Tensor, _: &Tensor, t: &Tensor| t * 3.0, c);
        scan(|c: &Tensor, x: &Tensor| (double(c) + x, ()), x, &xs()).0
    };
    assert_eq!(grad(f, &Tensor::from(1.0)).item::<f64>(), 243.0);
    let stopped = grad(|x: &Tensor| (x * x.stop_gradient()).sin() + x.stop_gradient().exp(), &Tensor::from(2.0));
    close(&stopped, &Tensor::from(2.0 * 4f64.cos()));
}

#[test]
fn a_function_is_traced_once_a_form() {
    let traced = Rc::new(Cell::new(0));
    let counter = traced.clone();
    let mut f = compile(move |x: &Vec<Tensor>| {
        counter.set(counter.get() + 1);
        x.iter().map(|x| x * 2.0).collect::<Vec<_>>()
    });
    let vector = |n: usize| vec![Tensor::ones([n], DType::F32)];
    for n in [2, 3, 2, 3, 2] {
        assert_eq!(f.run(vector(n)).unwrap()[0].to_vec::<f32>(), vec![2.0; n]);
    }
    assert_eq!(traced.get(), 2);
    f.run(vec![Tensor::ones([2], DType::F64)]).unwrap();
    f.run(vec![Tensor::ones([2], DType::F32), Tensor::ones([2], DType::F32)]).unwrap();
    f.run(vec![]).unwrap();
    assert_eq!(traced.get(), 5);
    f.program(&vector(2));
    f.plan(&vector(3));
    assert_eq!(traced.get(), 5);
    // Arguments may be expressions; they are computed first.
    assert_eq!(f.run(vec![Tensor::ones([2], DType::F32) + 1.0]).unwrap()[0].to_vec::<f32>(), [4.0, 4.0]);
    // The same tensor in two places, and an argument that is a result.
    let mut g = compile(|(a, b): &(Tensor, Tensor)| (b.clone(), a + b, a.clone(), a.clone()));
    let x = Tensor::from([1.0, 2.0]);
    let (p, q, r, s) = g.run((x.clone(), x.clone())).unwrap();
    assert_eq!(
        [p, q, r, s].map(|t| t.to_vec::<f64>()),
        [vec![1.0, 2.0], vec![2.0, 4.0], vec![1.0, 2.0], vec![1.0, 2.0]]
    );
    let (p, q, r, s) = g.run((Tensor::from([1.0, 2.0]), Tensor::from([5.0, 6.0]))).unwrap();
    assert_eq!(
        [p, q, r, s].map(|t| t.to_vec::<f64>()),
        [vec![5.0, 6.0], vec![6.0, 8.0], vec![1.0, 2.0], vec![1.0, 2.0]]
    );
}

fn address(x: &Tensor) -> *const u8 {
    x.storage().unwrap().bytes().as_ptr()
}

#[test]
fn state_that_nobody_else_holds_is_updated_in_place() {
    let mut step = compile(|(w, m, x): &(Tensor, Tensor, Tensor)| {
        let g = grad(|w: &Tensor| (w * x - 1.0).square().sum(..), w);
        let m = m * 0.9 + &g;
        (w - &m * 0.01, m)
    });
    let new = |v: f64| Tensor::full([1000], v, DType::F32).eval();
    let x = new(2.0);
    let (w, m) = (new(1.0), new(0.0));
    let places = [address(&w), address(&m)];
    let (w, m) = step.run((w, m, x.clone())).unwrap();
    assert_eq!([address(&w), address(&m)], places);
    let first = (w.to_vec::<f32>(), m.to_vec::<f32>());
    assert_eq!((first.0[0], first.1[0]), (0.96, 4.0));
    // The caller keeps the state: it must stay as it was, and the numbers are the same as in place.
    let (kept_w, kept_m) = (w.clone(), m.clone());
    let (w2, m2) = step.run((w.clone(), m.clone(), x.clone())).unwrap();
    assert_ne!(address(&w2), address(&w));
    assert_eq!((kept_w.to_vec::<f32>(), kept_m.to_vec::<f32>()), first);
    drop((kept_w, kept_m));
    let (w3, m3) = step.run((w, m, x.clone())).unwrap();
    assert_eq!((w2.to_vec::<f32>(), m2.to_vec::<f32>()), (w3.to_vec::<f32>(), m3.to_vec::<f32>()));
    assert_eq!(x.to_vec::<f32>(), vec![2.0; 1000]);
}

#[test]
fn results_that_cross_over_are_right() {
    // Each result is made of the other's argument: nothing may be overwritten before it is read.
    let mut swap = compile(|(a, b): &(Tensor, Tensor)| (b * 2.0, a * 3.0));
    let (a, b) = swap.run((Tensor::from([1.0, 2.0]), Tensor::from([10.0, 20.0]))).unwrap();
    assert_eq!((a.to_vec::<f64>(), b.to_vec::<f64>()), (vec![20.0, 40.0], vec![3.0, 6.0]));
    let mut mixed = compile(|(a, b): &(Tensor, Tensor)| (a.matmul(b), b.t().matmul(a), a + b.t(), a.flip(0)));
    let (a, b) = (Tensor::from([[1.0, 2.0], [3.0, 4.0]]), Tensor::from([[5.0, 6.0], [7.0, 8.0]]));
    let (p, q, r, s) = mixed.run((&a * 1.0, &b * 1.0)).unwrap();
    close(&p, &a.matmul(&b));
    close(&q, &b.t().matmul(&a));
    close(&r, &(&a + b.t()));
    close(&s, &a.flip(0));
    let mut cumulative = compile(|(a, b): &(Tensor, Tensor)| (a.cumsum(0), a.cumsum_reverse(1) + b, a * b));
    let (p, q, r) = cumulative.run((&a * 1.0, &b * 1.0)).unwrap();
    close(&p, &a.cumsum(0));
    close(&q, &(a.cumsum_reverse(1) + &b));
    close(&r, &(&a * &b));
}

#[test]
fn a_failed_run_leaves_the_function_usable() {
    let mut f = compile(|(x, i): &(Tensor, Tensor)| {
        let (c, y) = scan(|c: &Tensor, i: &Tensor| (c + x.gather(i, 0), c.clone()), &x.at(0), i);
        x + c + y.sum(..)
    });
    let x = || Tensor::from([1.0, 2.0]);
    let good = f.run((x(), Tensor::from([0i64, 1]))).unwrap().to_vec::<f64>();
    assert!(f.run((x(), Tensor::from([0i64, 2]))).is_err());
    assert_eq!(f.run((x(), Tensor::from([0i64, 1]))).unwrap().to_vec::<f64>(), good);
}

#[test]
fn threads_do_not_change_a_bit() {
    let model = |seed: u64| {
        let [a, b, c] = Key::new(seed).split();
        (a.normal([64, 128], DType::F32), b.normal([128, 300], DType::F32) * 0.1, c.normal([300, 10], DType::F32) * 0.1)
    };
    let f = |(x, a, b): &(Tensor, Tensor, Tensor)| {
        value_and_grad(
            |p: &(Tensor, Tensor)| x.matmul(&p.0).gelu().matmul(&p.1).log_softmax(-1).square().mean(..),
            &(a.clone(), b.clone()),
        )
    };
    let results: Vec<Vec<f32>> = [1, 2, 3, 5]
        .map(|n| {
            let (value, (a, b)) = compile(f).threads(n).run(model(1)).unwrap();
            [value.to_vec::<f32>(), a.to_vec(), b.to_vec()].concat()
        })
        .to_vec();
    assert!(results.iter().all(|r| r.iter().zip(&results[0]).all(|(a, b)| a.to_bits() == b.to_bits())));
}
