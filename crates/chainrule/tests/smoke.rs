//! First things first: values, gradients, nesting, loops, batches.
use chainrule::prelude::*;

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * (1.0 + b.abs()), "{a} against {b}");
}

#[test]
fn nested_gradients_of_sine() {
    fn nth(n: usize, x: &Tensor) -> Tensor {
        if n == 0 { x.sin() } else { grad(|x: &Tensor| nth(n - 1, x), x) }
    }
    for n in 0..=10 {
        let want = (0.7 + n as f64 * std::f64::consts::FRAC_PI_2).sin();
        close(nth(n, &Tensor::from(0.7)).item(), want);
    }
}

#[test]
fn a_network_learns_xor() {
    let x = Tensor::from([[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]);
    let y = Tensor::from([[0.0f32], [1.0], [1.0], [0.0]]);
    let [k1, k2] = Key::new(1).split();
    let model = (k1.normal([2, 8], DType::F32), Tensor::zeros([8], DType::F32), k2.normal([8, 1], DType::F32));
    let mut step = compile(move |(w1, b, w2): &(Tensor, Tensor, Tensor)| {
        let (loss, g) = value_and_grad(
            |(w1, b, w2): &(Tensor, Tensor, Tensor)| ((x.matmul(w1) + b).tanh().matmul(w2) - &y).square().mean(..),
            &(w1.clone(), b.clone(), w2.clone()),
        );
        (zip_map(&(w1.clone(), b.clone(), w2.clone()), &g, |w, g| w - g * 0.1), loss)
    });
    let mut model = model;
    let mut loss = 1.0;
    for _ in 0..1000 {
        let (next, l) = step.run(model).unwrap();
        model = next;
        loss = l.item::<f32>();
    }
    assert!(loss < 1e-2, "{loss}");
}

#[test]
fn back_propagation_through_time() {
    let (w, xs) = (Tensor::from(0.9), Tensor::from([0.1, 0.2, 0.3, 0.4]));
    let f = |w: &Tensor| {
        let (last, ys) = scan(
            |h: &Tensor, x: &Tensor| {
                let h = (h * w + x).tanh();
                (h.clone(), h.square())
            },
            &Tensor::from(0.5),
            &xs,
        );
        last + ys.sum(..)
    };
    let unrolled = |w: &Tensor| {
        let (mut h, mut total) = (Tensor::from(0.5), Tensor::from(0.0));
        for i in 0..4 {
            h = (h * w + xs.at(i)).tanh();
            total = total + h.square();
        }
        h + total
    };
    close(f(&w).item(), unrolled(&w).item());
    close(grad(f, &w).item(), grad(unrolled, &w).item());
    let second = |f: &dyn Fn(&Tensor) -> Tensor| grad(|w: &Tensor| grad(f, w), &w).item::<f64>();
    close(second(&f), second(&unrolled));
    let third = |f: &dyn Fn(&Tensor) -> Tensor| grad(|w: &Tensor| grad(|w: &Tensor| grad(f, w), w), &w).item::<f64>();
    close(third(&f), third(&unrolled));
    let (_, t) = jvp(f, &w, &Tensor::from(1.0));
    close(t.item(), grad(unrolled, &w).item());
    let batch = vmap(|w: &Tensor| grad(f, w), &Tensor::from([0.9, 0.5]));
    close(batch.to_vec::<f64>()[0], grad(unrolled, &w).item());
    close(batch.to_vec::<f64>()[1], grad(unrolled, &Tensor::from(0.5)).item());
    let ck = |w: &Tensor| {
        let (last, ys) = scan(
            |h: &Tensor, x: &Tensor| {
                let h = checkpoint(|(h, x): &(Tensor, Tensor)| (h * w + x).tanh(), &(h.clone(), x.clone()));
                (h.clone(), h.square())
            },
            &Tensor::from(0.5),
            &xs,
        );
        last + ys.sum(..)
    };
    close(grad(ck, &w).item(), grad(unrolled, &w).item());
}

#[test]
fn hessian_and_per_example_gradients() {
    let h = hessian(|x: &Tensor| (x * x * x).sum(..) + x.prod(..), &Tensor::from([1.0, 2.0, 3.0]));
    assert_eq!(h.to_vec::<f64>(), [6.0, 3.0, 2.0, 3.0, 12.0, 1.0, 2.0, 1.0, 18.0]);
    let (w, xs) = (Tensor::from([1.0, -1.0]), Tensor::from([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]));
    let g = vmap(|x: &Tensor| grad(|w: &Tensor| (w * x).sum(..).square(), &w), &xs);
    assert_eq!(g.to_vec::<f64>(), [-2.0, -4.0, -6.0, -8.0, -10.0, -12.0]);
}

#[test]
fn a_branch_and_a_custom_derivative() {
    let f = |x: &Tensor| cond(&x.greater(0.0), |x: &Tensor| x.square() * 3.0, |x: &Tensor| x.exp(), x);
    close(grad(f, &Tensor::from(2.0)).item(), 12.0);
    close(grad(f, &Tensor::from(-1.0)).item(), (-1.0f64).exp());
    close(grad(|x: &Tensor| grad(f, x), &Tensor::from(2.0)).item(), 6.0);
    let v = vmap(|x: &Tensor| grad(f, x), &Tensor::from([2.0, -1.0]));
    close(v.to_vec::<f64>()[1], (-1.0f64).exp());
}
