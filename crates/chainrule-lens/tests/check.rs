//! Right gradients are called right, wrong ones wrong with their element and line, and kinks are kinks.

use chainrule::differentiate::grad;
use chainrule::prelude::*;
use chainrule_lens::check::Status;
use chainrule_lens::{CheckOptions, check_gradients, check_gradients_with};
use chainrule_nn::prelude::*;

type Loss = fn(&Tensor) -> Tensor;

#[test]
fn the_verdict_of_each_function() {
    let x = || Tensor::from([0.3f32, -1.2, 0.8, 2.5]);
    #[rustfmt::skip]
    let rows: Vec<(&str, Tensor, Loss, Status)> = vec![
        ("smooth", x(), |x| (x.sin() * x.exp()).sum(..), Status::Right),
        ("softmax", x(), |x| x.log_softmax(0).square().sum(..), Status::Right),
        ("relu off its kink", x(), |x| x.relu().square().sum(..), Status::Right),
        ("relu near its kink", Tensor::from([1e-4f32, -1e-4, 1.0]), |x| x.relu().sum(..), Status::Right),
        ("relu on its kink", Tensor::from([0.0f32, 1.0]), |x| x.relu().sum(..), Status::Kink),
        ("abs on its kink", Tensor::from([0.0f32, 1.0]), |x| x.abs().sum(..), Status::Kink),
        ("max at a tie", Tensor::from([2.0f32, 2.0, 1.0]), |x| x.max(..), Status::Kink),
        ("elu is smooth at 0", Tensor::from([0.0f32, 1.0]), |x| x.elu(1.0).sum(..), Status::Right),
        ("a flat function", x(), |x| (x * 0.0).sum(..), Status::Right),
        ("steep", Tensor::from([1e-3f32]), |x| x.log().sum(..), Status::Right),
        ("large", Tensor::from([1e6f32]), |x| x.square().sum(..), Status::Right),
        ("a gradient inside", x(), |x| grad(|x: &Tensor| x.tanh().square().sum(..), x).square().sum(..), Status::Right),
        ("scan", x(), |x| scan(|c: &Tensor, x: &Tensor| ((c * x).sin() + x, ()), &Tensor::from(0.5f32), x).0, Status::Right),
        ("random", x(), |x| (Key::new(3).normal([4], DType::F32) * x.square()).sum(..), Status::Right),
        ("a cut", x(), |x| (x * x.stop_gradient()).sum(..), Status::Wrong),
        ("straight through", x(), |x| custom_derivative(|x: &Tensor| x.tanh(), |_, _, t: &Tensor| t.clone(), x).sum(..), Status::Wrong),
        ("a right custom derivative", x(), |x| custom_derivative(|x: &Tensor| x.tanh(), |_, y: &Tensor, t: &Tensor| t * (1.0 - y * y), x).sum(..), Status::Right),
    ];
    let mut faults = Vec::new();
    for (name, x, loss, status) in rows {
        let check = check_gradients(loss, &x);
        if check.status != status {
            faults.push(format!("{name}: {check}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_wrong_element_and_the_wrong_line_are_named() {
    let x = (Tensor::from([[1.0, 2.0], [3.0, 4.0]]), Tensor::from([0.5, 0.5]));
    let weight = Tensor::from([[1.0, 1.0], [1.5, 1.0]]);
    let line = std::cell::Cell::new(0);
    // Every element is right but that of row 1, column 0.
    let twisted = |w: &Tensor| {
        let weight = weight.clone();
        line.set(line!() + 1);
        custom_derivative(|w: &Tensor| w.square(), move |w: &Tensor, _, t: &Tensor| t * w * 2.0 * &weight, w)
    };
    let check = check_gradients(|(w, b): &(Tensor, Tensor)| (twisted(w) * b).sum(..), &x);
    let leaf = &check.leaves[0];
    let worst = leaf.worst.as_ref().unwrap();
    assert_eq!((leaf.path.as_str(), leaf.status, worst.index.as_slice()), ("0", Status::Wrong, &[1usize, 0][..]));
    assert!((worst.derivative.0 - 4.5).abs() < 1e-9 && (worst.differences.0 - 3.0).abs() < 1e-7, "{worst:?}");
    assert_eq!(check.leaves[1].status, Status::Right);
    assert_eq!((check.custom.len(), check.custom[0].status, check.custom[0].line.line), (1, Status::Wrong, line.get()));
}

#[test]
fn kinks_are_counted_with_their_line() {
    let line = line!() + 1;
    let check = check_gradients(|x: &Tensor| (x.relu() * 3.0).sum(..), &Tensor::from([0.0f32, 0.0, -1.0, 2.0]));
    assert_eq!(check.status, Status::Kink);
    assert_eq!((check.kinks.len(), check.kinks[0].elements, check.kinks[0].line.line), (1, 2, line));
    let worst = check.leaves[0].worst.as_ref().unwrap();
    assert!((worst.left.unwrap().0).abs() < 1e-9 && (worst.right.unwrap().0 - 3.0).abs() < 1e-9, "{worst:?}");
}

#[test]
fn what_cuts_a_gradient_is_listed() {
    let line = line!() + 1;
    let check = check_gradients(|x: &Tensor| (x * x.stop_gradient()).sum(..), &Tensor::from([1.0, 2.0]));
    assert_eq!((check.cut[0].0.as_str(), check.cut[0].1.line), ("stop_gradient", line));
}

#[test]
fn a_network_in_single_precision_is_checked_in_double() {
    let model = Mlp::new(&Key::new(1), &[5, 16, 3]);
    let (x, y) = (Key::new(2).normal([8, 5], DType::F32), Tensor::from([0i64, 1, 2, 0, 1, 2, 0, 1]));
    let check = check_gradients(|m: &Mlp| m.forward(&x).cross_entropy(&y), &model);
    assert_eq!(check.status, Status::Right, "{check}");
    for leaf in &check.leaves {
        assert!(leaf.relative_error.0 < 1e-7 && leaf.forward_reverse.0 < 1e-11, "{leaf:?}");
    }
    let lost = |dtype: &str| check.precision.iter().filter(|p| p.dtype == dtype).map(|p| p.lost).fold(0.0, f64::max);
    assert_eq!(check.precision.len(), 8);
    assert!(lost("f32") < 1.5 && lost("bf16") < 2.0, "{check}");
}

/// 1 − cos x near 0 loses every digit in f32; 2·sin²(x/2) loses none.
#[test]
fn lost_digits_are_measured() {
    let x = Tensor::from([1e-4f32, 2e-4]);
    let precisions = CheckOptions { precisions: vec![DType::F32], ..CheckOptions::default() };
    let naive = check_gradients_with(&precisions, |x: &Tensor| (1.0 - x.cos()).log().sum(..), &x);
    let good = check_gradients_with(&precisions, |x: &Tensor| ((x * 0.5).sin().square() * 2.0).log().sum(..), &x);
    assert!(naive.precision[0].lost > 5.0, "{naive}");
    assert!(good.precision[0].lost < 1.0, "{good}");
    assert_eq!(serde_json::to_value(&good).unwrap()["status"], "right");
}
