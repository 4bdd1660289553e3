//! A derivative stated by the user: Kepler's equation E − e·sin E = M, solved for E by a loop.
//!
//! The loop need not be differentiated: by the implicit function theorem Ė·(1 − e·cos E) = Ṁ + ė·sin E. That one
//! line, linear in the tangents, serves forward mode, reverse mode and higher orders.

use chainrule::prelude::*;
use chainrule::program::capture;

/// Newton's method, twenty steps.
fn solve((m, e): &(Tensor, Tensor)) -> Tensor {
    let step = |x: &Tensor, _: &Tensor| (x - (x - e * x.sin() - m) / (1.0 - e * x.cos()), ());
    let (anomaly, ()) = scan(step, m, &Tensor::zeros([20], DType::F64));
    anomaly
}

/// The same value, with the derivative of the equation instead of that of the loop.
fn kepler(x: &(Tensor, Tensor)) -> Tensor {
    let rule = |(_, e): &(Tensor, Tensor), anomaly: &Tensor, (dm, de): &(Tensor, Tensor)| {
        (dm + de * anomaly.sin()) / (1.0 - e * anomaly.cos())
    };
    custom_derivative(solve, rule, x)
}

fn main() {
    let x = (Tensor::from(0.8), Tensor::from(0.6));
    println!("E(M = 0.8, e = 0.6) = {:.15}", kepler(&x).item::<f64>());

    // Through the loop and through the rule: the same gradient, a smaller program.
    let size = |g: (Tensor, Tensor)| capture("gradient", &[], &[g.0, g.1]).expect("numbers only").len();
    let (loop_grad, rule_grad) = (grad(solve, &x), grad(kepler, &x));
    for (name, a, b) in [("∂E/∂M", &loop_grad.0, &rule_grad.0), ("∂E/∂e", &loop_grad.1, &rule_grad.1)] {
        let (a, b) = (a.item::<f64>(), b.item::<f64>());
        println!("{name}: loop {a:.15}, rule {b:.15}");
        assert!((a - b).abs() < 1e-13);
    }
    let (long, short) = (size(loop_grad), size(rule_grad.clone()));
    println!("operations of the gradient: {long} through the loop, {short} by the rule");

    // Forward mode and second derivatives come from the same line.
    let (_, forward) = jvp(kepler, &x, &(Tensor::from(1.0), Tensor::from(0.0)));
    let (by_loop, by_rule) = (hessian(solve, &x).to_vec::<f64>(), hessian(kepler, &x).to_vec::<f64>());
    println!("forward ∂E/∂M {:.15}", forward.item::<f64>());
    println!("Hessian: loop {by_loop:.9?}\n         rule {by_rule:.9?}");
    assert!((forward.item::<f64>() - rule_grad.0.item::<f64>()).abs() < 1e-15);
    assert!(by_loop.iter().zip(by_rule).all(|(a, b)| (a - b).abs() < 1e-9));
    assert!(short < long);
}
