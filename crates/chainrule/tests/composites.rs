//! Each composite states its own derivative; here it is held against the derivative of its definition, to second
//! order, at generic points and where one of the two is easily wrong.

use chainrule::differentiate::composite_by_definition;
use chainrule::prelude::*;
use chainrule::tensor::{Composite, Op, Scalar};

fn close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) -> Result<(), String> {
    let (a, b) = (got.to_vec::<f64>(), want.to_vec::<f64>());
    let scale = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    match a.iter().zip(&b).position(|(a, b)| a.is_nan() || (a - b).abs() > tolerance * scale) {
        Some(i) => Err(format!("{what}: element {i} is {:e} against {:e}", a[i], b[i])),
        None => Ok(()),
    }
}

/// Numbers without a pattern, between −1 and 1.
fn generic(shape: &[usize], seed: i64) -> Tensor {
    Key(Tensor::from(seed)).uniform(shape, DType::F64) * 2.0 - 1.0
}

fn composites() -> Vec<Composite> {
    let axes = |axes: &[usize]| axes.into();
    // A new composite does not compile until it is listed below.
    let listed = |composite: &Composite| match composite {
        Composite::Softplus | Composite::Softmax(_) | Composite::LogSoftmax(_) => (),
        Composite::LogSumExp(_) | Composite::Normalize(..) | Composite::Norm(_) => (),
    };
    let mut all = vec![Composite::Softplus];
    for axis in 0..3 {
        all.extend([Composite::Softmax(axis), Composite::LogSoftmax(axis), Composite::LogSumExp(axis)]);
    }
    for list in [&[0usize][..], &[1], &[2], &[0, 2], &[1, 2], &[0, 1, 2]] {
        all.push(Composite::Norm(axes(list)));
        all.push(Composite::Normalize(axes(list), Scalar::Float(1e-5)));
        all.push(Composite::Normalize(axes(list), Scalar::Float(0.5)));
    }
    all.iter().for_each(listed);
    all
}

#[test]
fn stated_derivatives_are_those_of_the_definitions() {
    let mut failures = Vec::new();
    for composite in composites() {
        for (shape, spread) in [([2, 3, 4], 1.0), ([3, 2, 5], 3.0), ([2, 2, 2], 0.1)] {
            let (x, t, u) = (generic(&shape, 1) * spread + 0.1, generic(&shape, 2), generic(&shape, 3));
            let apply = |x: &Tensor| Tensor::apply(Op::Composite(composite.clone()), std::slice::from_ref(x));
            let stated = |x: &Tensor| jvp(apply, x, &t).1;
            let defined = |x: &Tensor| composite_by_definition(&composite, x, &t).expect("it depends on x");
            let second = |f: &dyn Fn(&Tensor) -> Tensor| jvp(f, &x, &u).1;
            let third = |f: &dyn Fn(&Tensor) -> Tensor| jvp(|x: &Tensor| jvp(f, x, &u).1, &x, &t).1;
            let outcome = close("first", &stated(&x), &defined(&x), 1e-12)
                .and_then(|()| close("second", &second(&stated), &second(&defined), 1e-11))
                .and_then(|()| close("third", &third(&stated), &third(&defined), 1e-9));
            if let Err(why) = outcome {
                failures.push(format!("{composite:?} over {shape:?}: {why}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn derivatives_stay_finite_at_the_ends() {
    let ends = Tensor::from([-1e3, -40.0, 0.0, 40.0, 1e3]);
    let slope = grad(|x: &Tensor| x.softplus().sum(..), &ends).to_vec::<f64>();
    assert_eq!((slope[0], slope[2], slope[4]), (0.0, 0.5, 1.0));
    for f in [Tensor::softmax, Tensor::log_softmax, Tensor::logsumexp] {
        let slope = grad(|x: &Tensor| (f(x, 0) * 2.0).sum(..), &ends).to_vec::<f64>();
        assert!(slope.iter().all(|v| v.is_finite()), "{slope:?}");
    }
    // A masked place has no probability and gets no gradient.
    let masked = Tensor::from([0.3, f64::NEG_INFINITY, -0.4]);
    let slope = grad(|x: &Tensor| x.softmax(0).at(0), &masked).to_vec::<f64>();
    assert!(slope[1] == 0.0 && slope[0] > 0.1, "{slope:?}");
    let slope = grad(|x: &Tensor| x.logsumexp(0), &masked).to_vec::<f64>();
    assert!(slope[1] == 0.0 && (slope[0] + slope[2] - 1.0).abs() < 1e-15, "{slope:?}");
    let zero = Tensor::from([0.0, 0.0]);
    assert_eq!(grad(|x: &Tensor| x.norm(..), &zero).to_vec::<f64>(), [0.0, 0.0]);
    let slope = grad(|x: &Tensor| (x.normalize(0, 1e-5) * Tensor::from([1.0, 0.0])).sum(..), &zero).to_vec::<f64>();
    assert!(slope.iter().all(|v| v.is_finite()), "{slope:?}");
}
