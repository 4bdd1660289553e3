//! Curvature against dense Hessians, known spectra and what gradient descent does.

use chainrule::prelude::*;
use chainrule_lens::curvature::{
    Likelihood, empirical_fisher_product, filter_direction, fisher_product, gauss_newton_product, slice_line,
    slice_plane,
};
use chainrule_lens::{Curvature, sharpness};
use chainrule_nn::prelude::*;

fn network() -> (Mlp, Tensor, Tensor) {
    let model = Mlp::new(&Key::new(1), &[4, 6, 3]);
    let x = Key::new(2).normal([12, 4], DType::F32);
    (model, x, Tensor::from_vec((0..12).map(|i| i % 3).collect::<Vec<i64>>(), [12]))
}

/// A tree in double precision.
fn double<T: Tree>(x: &T) -> T {
    chainrule::tree::map(x, |leaf| if leaf.dtype().is_float() { leaf.cast(DType::F64).eval() } else { leaf.clone() })
}

#[test]
fn a_network_has_the_eigenvalues_of_its_dense_hessian() {
    let (model, x, y) = network();
    let loss = |m: &Mlp| m.forward(&x).cross_entropy(&y);
    let mut curvature = Curvature::new(loss, &model);
    let n = curvature.dimension();
    assert_eq!(n, 4 * 6 + 6 + 6 * 3 + 3);
    let wide = x.cast(DType::F64);
    let dense = hessian(|m: &Mlp| m.forward(&wide).cross_entropy(&y), &double(&model)).to_vec::<f64>();
    let column: Vec<f64> = (0..n).map(|i| dense[i * n + 3]).collect();
    let unit: Vec<f64> = (0..n).map(|i| if i == 3 { 1.0 } else { 0.0 }).collect();
    let product = curvature.product(&unit);
    assert!(product.iter().zip(&column).all(|(a, b)| (a - b).abs() < 1e-12));
    // A full run finds all eigenvalues: their sum is the trace and the sum of their squares that of the elements.
    let all = curvature.eigenvalues(n);
    let values: Vec<f64> = all.largest.iter().map(|e| e.value).collect();
    let trace: f64 = (0..n).map(|i| dense[i * n + i]).sum();
    let squares: f64 = dense.iter().map(|x| x * x).sum();
    assert_eq!(values.len(), n);
    assert!((values.iter().sum::<f64>() - trace).abs() < 1e-9);
    assert!((values.iter().map(|x| x * x).sum::<f64>() - squares).abs() < 1e-9);
    // The estimates agree within four standard errors, and the spectrum's moments are the matrix's.
    let estimate = curvature.trace(64);
    assert!((estimate.mean - trace).abs() < 4.0 * estimate.standard_error, "{estimate:?} for {trace}");
    let spectrum = curvature.spectrum(32, n);
    let moment = |power: i32| spectrum.points.iter().map(|(x, w)| w * x.powi(power)).sum::<f64>();
    assert!((moment(0) - 1.0).abs() < 1e-9);
    assert!((moment(1) * n as f64 - trace).abs() < 0.25 * trace, "{} for {trace}", moment(1) * n as f64);
    let area: f64 = spectrum.density(400, 0.02).windows(2).map(|w| (w[1].0 - w[0].0) * w[0].1).sum();
    assert!((area - 1.0).abs() < 0.01, "{area}");
    // Few products find the ends.
    let ends = curvature.eigenvalues(1);
    assert!((ends.largest[0].value - values[0]).abs() < 1e-5 * values[0]);
    assert!(ends.products < n, "{}", ends.products);
}

/// Gradient descent on a quadratic with curvatures 1 … 20 converges just below 2/λ and diverges just above.
#[test]
fn the_largest_stable_step_is_where_descent_turns() {
    let a = Tensor::linspace(1.0, 20.0, 10, DType::F64);
    let loss = |x: &Tensor| (x.square() * &a).sum(..) * 0.5;
    let start = Tensor::ones([10], DType::F64);
    let found = sharpness(loss, &start);
    let step = found.largest_stable_step.unwrap();
    assert!((step - 0.1).abs() < 1e-6);
    assert_eq!(found.sharpest[0].1, 1.0);
    let after = |rate: f64| {
        let mut x = start.clone();
        for _ in 0..200 {
            x = (&x - grad(loss, &x) * rate).eval();
        }
        loss(&x).item::<f64>()
    };
    assert!(after(step * 0.97) < 1e-4 && after(step * 1.03) > 1e4);
}

#[test]
fn gauss_newton_and_fisher_products_are_their_matrices() {
    let (model, x, y) = network();
    let (model, x) = (double(&model), x.cast(DType::F64));
    let outputs = |m: &Mlp| m.forward(&x);
    let direction = chainrule::tree::map(&model, |leaf| Key::new(leaf.numel() as u64).normal(leaf.shape(), DType::F64));
    let flat = |m: &Mlp| leaves(m).iter().flat_map(|leaf| leaf.to_vec::<f64>()).collect::<Vec<_>>();
    let v = flat(&direction);
    // J by reverse mode, all outputs as rows.
    let rows = leaves(&jacobian(|m: &Mlp| outputs(m).flatten(), &model));
    let j = concat(&rows.iter().map(|r| r.reshape([36, r.numel() / 36])).collect::<Vec<_>>(), 1);
    let curved = hessian(|z: &Tensor| z.reshape([12, 3]).cross_entropy(&y), &outputs(&model).flatten());
    let v = Tensor::from_vec(v, [j.shape()[1]]);
    let dense = j.t().matmul(&curved.matmul(&j.matmul(&v))).to_vec::<f64>();
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12 * (1.0 + b.abs()));
    let product = gauss_newton_product(outputs, |z: &Tensor| z.cross_entropy(&y), &model, &direction);
    assert!(close(&flat(&product), &dense));
    // Classes under cross-entropy: the Fisher matrix is the Gauss–Newton matrix.
    assert!(close(&flat(&fisher_product(Likelihood::Categorical, outputs, &model, &direction)), &dense));
    let gaussian = (j.t().matmul(&j.matmul(&v)) / 12.0).to_vec::<f64>();
    assert!(close(&flat(&fisher_product(Likelihood::Gaussian, outputs, &model, &direction)), &gaussian));
    let losses = |m: &Mlp| -outputs(m).log_softmax(-1).pick(&y);
    let rows = leaves(&jacobian(losses, &model));
    let g = concat(&rows.iter().map(|r| r.reshape([12, r.numel() / 12])).collect::<Vec<_>>(), 1);
    let moments = (g.t().matmul(&g.matmul(&v)) / 12.0).to_vec::<f64>();
    assert!(close(&flat(&empirical_fisher_product(losses, &model, &direction)), &moments));
}

#[test]
fn slices_are_values_of_the_loss() {
    let (model, x, y) = network();
    let loss = |m: &Mlp| m.forward(&x).cross_entropy(&y);
    let (first, second) = (filter_direction(&model, &Key::new(5)), filter_direction(&model, &Key::new(6)));
    let slice = slice_plane(loss, &model, [&first, &second], 1.0, 5);
    let moved = zip_map(&zip_map(&model, &first, |x, d| x + d * 1.0), &second, |x, d| x - d * 0.5);
    assert!((slice.values[1][4].0 - loss(&moved).to_f64()).abs() < 1e-5);
    assert!((slice.values[2][2].0 - loss(&model).to_f64()).abs() < 1e-6);
    let line = slice_line(loss, &model, &first, 1.0, 21);
    assert_eq!((line.values.len(), line.values[0].len(), line.u[0], line.u[20]), (1, 21, -1.0, 1.0));
    assert_eq!(line.to_string().lines().next().unwrap().trim().chars().count(), 21);
    let json = serde_json::to_value(&slice).unwrap();
    assert_eq!(json["values"][0].as_array().unwrap().len(), 5);
}
