//! L-BFGS against PyTorch's (`goldens/optimizers.json`), and both methods on functions whose minimum is known.

use chainrule::prelude::*;
use chainrule_nn::minimize::{Ended, Lbfgs, NewtonCg};
use chainrule_nn::prelude::*;
use serde_json::Value;

fn numbers(json: &Value) -> Vec<f64> {
    json.as_array().expect("list").iter().map(|v| v.as_f64().expect("number")).collect()
}

#[test]
fn steps_of_lbfgs_are_pytorchs() {
    let golden: Value = serde_json::from_str(include_str!("goldens/optimizers.json")).expect("json");
    let x = Tensor::from_vec(numbers(&golden["inputs"]), [6, 4]);
    let y = Tensor::from_vec(numbers(&golden["targets"]), [6, 2]);
    let leaf = |i: usize, shape: &[usize]| Tensor::from_vec(numbers(&golden["start"][i]), shape);
    let start = [leaf(0, &[3, 4]), leaf(1, &[3]), leaf(2, &[2, 3])];
    let loss = |w: &[Tensor; 3]| mean_squared_error(&(x.matmul(&w[0].t()) + &w[1]).tanh().matmul(&w[2].t()), &y);
    for row in golden["lbfgs"].as_array().expect("rows") {
        let history = row["history"].as_u64().expect("number") as usize;
        let settings =
            Lbfgs { steps: 30, history, gradient_tolerance: 0.0, change_tolerance: 0.0, line_evaluations: 25 };
        let end = settings.minimize(loss, &start).unwrap();
        let want = numbers(&row["losses"]);
        assert_eq!((end.values.len(), end.ended), (30, Ended::Steps));
        for (step, (got, want)) in end.values.iter().zip(&want).enumerate() {
            assert!((got - want).abs() < 1e-6 * want.abs(), "history {history}, step {step}: {got}, not {want}");
        }
        let weights = end.at.iter().flat_map(|w| w.to_vec::<f64>());
        for (got, want) in weights.zip((0..3).flat_map(|i| numbers(&row["weights"][i]))) {
            assert!((got - want).abs() < 1e-5 * want.abs().max(1.0), "history {history}: weight {got}, not {want}");
        }
    }
}

#[test]
fn a_regression_ends_at_its_normal_equations() {
    // In f32, with state beside the parameters.
    #[derive(Tree, Clone)]
    struct Model {
        line: Linear,
        #[tree(state)]
        seen: Tensor,
    }
    let x = Key::new(1).normal([20, 3], DType::F32);
    let truth = Tensor::from([[1.0f32], [-2.0], [0.5]]);
    let y = x.matmul(&truth) + 3.0f32;
    let loss = |m: &Model| mean_squared_error(&m.line.forward(&x), &y);
    let start = Model { line: Linear::new(&Key::new(2), 3, 1), seen: Tensor::from(5i64) };
    for (name, end) in [
        ("L-BFGS", Lbfgs { gradient_tolerance: 1e-4, ..Lbfgs::default() }.minimize(loss, &start).unwrap()),
        ("Newton-CG", NewtonCg { gradient_tolerance: 1e-4, ..NewtonCg::default() }.minimize(loss, &start).unwrap()),
    ] {
        assert_eq!((end.ended, end.at.seen.item::<i64>()), (Ended::Flat, 5), "{name}");
        let bias = end.at.line.bias.as_ref().expect("bias").item::<f32>();
        let weight = end.at.line.weight.to_vec::<f32>();
        assert!((bias - 3.0).abs() < 1e-3 && (weight[1] + 2.0).abs() < 1e-3, "{name}: {weight:?} {bias}");
    }
}

#[test]
fn ends_are_named() {
    let parabola = |x: &Tensor| x.square();
    let flat = Lbfgs::default().minimize(parabola, &Tensor::from(0.0)).unwrap();
    assert_eq!((flat.ended, flat.evaluations), (Ended::Flat, 1));
    let wild = |x: &Tensor| x.log();
    assert_eq!(NewtonCg::default().minimize(wild, &Tensor::from(-1.0)).unwrap().ended, Ended::NotFinite);
    let few = Lbfgs { steps: 1, ..Lbfgs::default() }.minimize(|x: &Tensor| x.square().square(), &Tensor::from(3.0));
    assert_eq!(few.unwrap().ended, Ended::Steps);
    // A wall behind which the function is not a number: the search comes back from it.
    let wall = |x: &Tensor| x - x.log();
    for start in [5.0, 0.01] {
        let end = Lbfgs::default().minimize(wall, &Tensor::from(start)).unwrap();
        assert!((end.at.item::<f64>() - 1.0).abs() < 1e-5, "from {start}: {end:?}");
        let end = NewtonCg::default().minimize(wall, &Tensor::from(start)).unwrap();
        assert!((end.at.item::<f64>() - 1.0).abs() < 1e-5, "from {start}: {end:?}");
    }
    // A saddle: negative curvature is a way down.
    let saddle = |(x, y): &(Tensor, Tensor)| x.square() - y.square() + y.square().square();
    let end = NewtonCg::default().minimize(saddle, &(Tensor::from(1.0), Tensor::from(0.1))).unwrap();
    assert!((end.value + 0.25).abs() < 1e-9, "{end:?}");
}
