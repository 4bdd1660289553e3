//! What is held and for how long: handles share, results do not hold their history, loops of steps do not grow.
use chainrule::prelude::*;

fn address(x: &Tensor) -> *const u8 {
    x.storage().unwrap().bytes().as_ptr()
}

#[test]
fn clones_and_leaves_share_memory() {
    let x = Tensor::from([1.0, 2.0]);
    assert_eq!(address(&x), address(&x.clone()));
    assert_eq!(address(&x), address(&x.eval()));
    // The numbers of a leaf do not move into a compiled function and out again.
    let constant = x.clone();
    let mut f = compile(move |y: &Tensor| y + &constant);
    assert_eq!(f.run(Tensor::from([1.0, 1.0])).unwrap().to_vec::<f64>(), [2.0, 3.0]);
    assert_eq!(x.to_vec::<f64>(), [1.0, 2.0]);
    // A number everywhere takes no memory: a petabyte of ones has a first row.
    let ones = Tensor::ones([1 << 25, 1 << 25], DType::F32);
    assert_eq!(ones.at((7, ..3)).to_vec::<f32>(), [1.0; 3]);
    let indexes = Tensor::iota([1 << 10, 1 << 40], 0, DType::I64);
    assert_eq!(indexes.at((9, 5)).item::<i64>(), 9);
}

#[test]
fn what_cannot_be_is_refused_and_not_allocated() {
    assert!(Tensor::from([1.0]).try_reshape([usize::MAX, 2]).is_err());
    assert!(Tensor::from([1.0]).try_reshape([1 << 40, 1 << 40]).is_err());
    let wide = || Tensor::ones([1 << 40, 1 << 40], DType::F32);
    assert!(std::panic::catch_unwind(wide).is_err());
}

#[test]
fn a_thousand_steps_hold_no_history() {
    // Each result is a leaf: the expression behind it, a thousand steps deep, is gone.
    let mut w = Tensor::from([0.5, -0.5]);
    for _ in 0..1_000 {
        w = (&w - grad(|w: &Tensor| w.square().sum(..), &w) * 0.01).eval();
        assert!(w.storage().is_some() && w.node().inputs().is_empty());
    }
    assert!(w.to_vec::<f64>()[0].abs() < 1e-8);
    let mut step = compile(|w: &Tensor| w - grad(|w: &Tensor| w.square().sum(..), w) * 0.01);
    let mut w = Tensor::from([0.5, -0.5]);
    let place = address(&w);
    for _ in 0..1_000 {
        w = step.run(w).unwrap();
    }
    assert_eq!(address(&w), place);
}

#[test]
fn expressions_cross_threads() {
    let x = Tensor::from([1.0, 2.0]);
    let y = (&x * 2.0).sin();
    let sums: Vec<f64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (grad(|x: &Tensor| x.square().sum(..), &x) + &y).sum(..).item::<f64>()))
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert!(sums.iter().all(|&sum| sum == sums[0]));
}
