//! Newton's method with an exact Hessian: x ← x − H⁻¹·g. Near the minimum the number of right digits doubles.
//!
//! f(x) = Σ exp(A·x) + ½|x|² is convex, so its Hessian is positive definite and Cholesky solves for the step.

use chainrule::prelude::*;

fn main() {
    let a = Tensor::from([[1.0, 2.0, -1.0], [0.5, -1.0, 1.5], [-2.0, 0.3, 1.0], [1.0, 1.0, 1.0]]);
    let f = |x: &Tensor| a.matmul(x).exp().sum(..) + x.square().sum(..) * 0.5;

    let mut step = compile(|x: &Tensor| {
        let (value, gradient) = value_and_grad(f, x);
        let newton = hessian(f, x).solve_spd(&gradient.unsqueeze(-1)).squeeze(-1);
        (x - newton, value, gradient.norm(..))
    });

    let (mut x, mut norms) = (Tensor::from([1.0, 1.0, 1.0]), Vec::new());
    println!("step  f(x)                |g|        |g| / |g before|²");
    for i in 0..12 {
        let (next, value, norm) = step.run(x).expect("no index to be out of range");
        x = next;
        let norm = norm.item::<f64>();
        let ratio = norms.last().map_or(f64::NAN, |before: &f64| norm / (before * before));
        println!("{i:4}  {:<18.15}  {norm:.1e}    {ratio:.3}", value.item::<f64>());
        norms.push(norm);
        if norm < 1e-13 {
            break;
        }
    }
    // Quadratic: once near, each norm is at most some constant times the square of the one before.
    assert!(norms.last().is_some_and(|&norm| norm < 1e-13));
    assert!(norms.windows(2).filter(|pair| pair[0] < 0.5 && pair[1] > 1e-14).all(|pair| pair[1] < pair[0] * pair[0]));
}
