//! Fitting an ordinary differential equation: derivatives through a Runge–Kutta loop.
//!
//! Predators v and prey u: u' = α·u − β·u·v, v' = δ·u·v − γ·v (Lotka and Volterra). Data are made with known
//! parameters; Gauss–Newton finds them again from a wrong guess. The Jacobian of the whole trajectory is forward
//! mode through a `scan`; the gradient of the squared error is reverse mode through the same one.

use chainrule::prelude::*;

const STEPS: usize = 200;
const DT: f64 = 0.05;

/// The right-hand side for state [u, v] and parameters [α, β, δ, γ].
fn slope(state: &Tensor, p: &Tensor) -> Tensor {
    let (u, v) = (state.at(0), state.at(1));
    let meetings = &u * &v;
    stack(&[p.at(0) * u - p.at(1) * &meetings, p.at(2) * meetings - p.at(3) * v], 0)
}

/// States after each step, [STEPS, 2], by the classical method of order four.
fn trajectory(p: &Tensor) -> Tensor {
    let step = |s: &Tensor, _: &Tensor| {
        let k1 = slope(s, p);
        let k2 = slope(&(s + &k1 * (DT / 2.0)), p);
        let k3 = slope(&(s + &k2 * (DT / 2.0)), p);
        let k4 = slope(&(s + &k3 * DT), p);
        let next = s + (k1 + k2 * 2.0 + k3 * 2.0 + k4) * (DT / 6.0);
        (next.clone(), next)
    };
    scan(step, &Tensor::from([1.5, 1.0]), &Tensor::zeros([STEPS], DType::F64)).1
}

fn main() {
    let truth = [1.1, 0.4, 0.1, 0.4];
    let data = trajectory(&Tensor::from(truth)).eval();
    let residual = |p: &Tensor| (trajectory(p) - &data).flatten();
    let loss = |p: &Tensor| residual(p).square().sum(..) * 0.5;

    // Solve (JᵀJ + damping)·step = −Jᵀr; damp more after a failure, less after a success (Levenberg and Marquardt).
    let mut propose = compile(|(p, damping): &(Tensor, Tensor)| {
        let (r, j) = (residual(p), jacobian(residual, p));
        let step = (j.t().matmul(&j) + Tensor::eye(4, DType::F64) * damping)
            .solve_spd(&j.t().matmul(&r).unsqueeze(-1))
            .squeeze(-1);
        let next = p - step;
        let after = loss(&next);
        (next, r.square().sum(..) * 0.5, after)
    });

    let (mut p, mut damping) = (Tensor::from([0.8, 0.6, 0.2, 0.6]), 1.0);
    let (_, j) = (residual(&p), jacobian(residual, &p));
    let difference = (grad(loss, &p) - j.t().matmul(&residual(&p))).abs().max(..).item::<f64>();
    println!("reverse mode and Jᵀr differ by {difference:.1e}");
    for i in 0..40 {
        let (next, before, after) = propose.run((p.clone(), Tensor::from(damping))).expect("no index");
        let better = after.item::<f64>() < before.item::<f64>();
        println!("{i:2}: loss {:.3e}, [α, β, δ, γ] = {:.6?}", before.item::<f64>(), p.to_vec::<f64>());
        damping *= if better { 0.1 } else { 10.0 };
        if better {
            p = next;
        }
        if before.item::<f64>() < 1e-20 {
            break;
        }
    }
    assert!(difference < 1e-9);
    assert!(p.to_vec::<f64>().iter().zip(truth).all(|(found, truth)| (found - truth).abs() < 1e-9));
}
