//! A loop's gradient is the sum of what its steps add to it, in every rendering.

use chainrule::prelude::*;
use chainrule_lens::derivation::{Derivation, Explained};
use chainrule_lens::explain;
use chainrule_nn::layer::{Cell, Recurrent};
use chainrule_nn::prelude::*;

/// The steps' shares sum to 1, and what they leave is rounding.
fn assert_sums(found: &Derivation, parameter: &Explained, within: f64) {
    let in_time = parameter.in_time.as_ref().unwrap_or_else(|| panic!("{} is in no loop: {found}", parameter.path));
    let terms = in_time.loops.iter().flat_map(|through| &through.terms).chain([&in_time.beside]);
    let shares: f64 = terms.map(|term| term.share.0).sum();
    assert!((shares - 1.0).abs() < within, "{}: {shares} {found}", parameter.path);
    assert!(in_time.remainder.0 < within * parameter.norm.0, "{}: {found}", parameter.path);
}

/// h = tanh(h·w + x) over three inputs, and each h is used.
fn walk(w: &Tensor, xs: &Tensor) -> Tensor {
    let step = |h: &Tensor, x: &Tensor| {
        let h = (h.matmul(w) + x).tanh();
        (h.clone(), h)
    };
    let (last, all) = scan(step, &Tensor::from([[0.5, -0.3]]), xs);
    last.square().sum(..) + (all.sin() * 0.5).sum(..)
}

fn numbers() -> (Tensor, Tensor) {
    (Tensor::from([[0.3, -0.2], [0.1, 0.4]]), Tensor::from([[[1.0, -1.0]], [[0.2, 0.7]], [[-0.4, 0.1]]]))
}

#[test]
fn each_step_has_the_term_of_its_own_copy_of_the_weights() {
    let (w, xs) = numbers();
    let found = explain(|w: &Tensor| walk(w, &xs), &w);
    let parameter = &found.parameters[0];
    assert_sums(&found, parameter, 1e-12);
    // The same loop with a matrix for each step: the gradient by each is the step's term.
    let own = |ws: &Tensor| {
        let step = |h: &Tensor, (x, w): &(Tensor, Tensor)| {
            let h = (h.matmul(w) + x).tanh();
            (h.clone(), h)
        };
        let (last, all) = scan(step, &Tensor::from([[0.5, -0.3]]), &(xs.clone(), ws.clone()));
        last.square().sum(..) + (all.sin() * 0.5).sum(..)
    };
    let slopes = grad(own, &w.broadcast_to([3, 2, 2]).eval());
    for term in &parameter.in_time.as_ref().unwrap().loops[0].terms {
        let expected =
            if term.step == 0 { 0.0 } else { slopes.at(term.step - 1).square().sum(..).sqrt().item::<f64>() };
        assert!((term.norm.0 - expected).abs() < 1e-12, "step {}: {expected} {found}", term.step);
    }
    // Within the step, factors are the body's own operations.
    let inside = &found.loops[0];
    let forward: Vec<String> = inside.definitions.iter().map(|d| format!("{} = {}", d.name, d.formula)).collect();
    assert!(forward.iter().any(|line| line.starts_with("h₁⁽ᵗ⁾ = tanh(z")), "{forward:?}");
    let by = inside.operands.iter().find(|operand| operand.symbol == "w").unwrap_or_else(|| panic!("{found}"));
    let formulas: Vec<&str> = by.paths[0].factors.iter().map(|factor| factor.formula.as_str()).collect();
    assert_eq!(formulas, ["1 − h₁⁽ᵗ⁾²", "h₁⁽ᵗ⁻¹⁾"], "{found}");
    assert!(by.paths[0].factors.iter().all(|factor| factor.line.file.ends_with("loops.rs")), "{found}");
    assert!((by.paths.iter().map(|path| path.share.0).sum::<f64>() - 1.0).abs() < 1e-12, "{found}");
}

#[test]
fn a_loop_that_only_gives_its_last_state_has_the_paths_of_its_unrolled_steps() {
    let (w, xs) = numbers();
    let start = Tensor::from([[0.5, -0.3]]);
    let step = |h: &Tensor, w: &Tensor, x: &Tensor| (h.matmul(w) + x).tanh();
    let unrolled = explain(|w: &Tensor| (0..3).fold(start.clone(), |h, t| step(&h, w, &xs.at(t))).sum(..), &w);
    let looped = |w: &Tensor| scan(|h: &Tensor, x: &Tensor| (step(h, w, x), ()), &start, &xs).0.sum(..);
    let found = explain(looped, &w);
    let mut paths: Vec<f64> = unrolled.parameters[0].paths.iter().map(|path| path.norm.0).collect();
    let terms = &found.parameters[0].in_time.as_ref().unwrap().loops[0].terms;
    let mut steps: Vec<f64> = terms.iter().filter(|term| term.step > 0).map(|term| term.norm.0).collect();
    paths.sort_by(f64::total_cmp);
    steps.sort_by(f64::total_cmp);
    assert_eq!((paths.len(), steps.len()), (3, 3));
    assert!(paths.iter().zip(&steps).all(|(a, b)| (a - b).abs() < 1e-12), "{paths:?} {steps:?}");
}

#[test]
fn gains_multiply_through_time() {
    // h⁽ᵗ⁾ = a h⁽ᵗ⁻¹⁾ + x⁽ᵗ⁾, so ∂h⁽ᵀ⁾/∂h⁽ᵗ⁾ is a to the power of T − t; backwards in the sequence as well.
    let xs = Tensor::from([1.0, -2.0, 0.5, 3.0]);
    for reverse in [false, true] {
        let options = ScanOptions { reverse, ..ScanOptions::default() };
        let f = |(a, h): &(Tensor, Tensor)| scan_with(options, |h: &Tensor, x: &Tensor| (h * a + x, ()), h, &xs).0;
        let found = explain(f, &(Tensor::from(0.5), Tensor::from(2.0)));
        let passages = &found.loops[0].passages;
        assert_eq!(passages.iter().map(|passage| passage.step).collect::<Vec<_>>(), [4, 3, 2, 1]);
        for (passage, expected) in passages.iter().zip([1.0, 0.5, 0.25, 0.125]) {
            assert!((passage.product.0 - expected).abs() < 1e-12 && (passage.gain.0 - 0.5).abs() < 1e-12, "{found}");
            assert!((passage.arrives.0 - expected).abs() < 1e-12, "{found}");
        }
        // The first state is all in step 0.
        let first = found.parameters[1].in_time.as_ref().unwrap();
        let last = first.loops[0].terms.last().unwrap();
        assert!(
            last.step == 0 && (last.norm.0 - 0.0625).abs() < 1e-12 && (last.share.0 - 1.0).abs() < 1e-12,
            "{found}"
        );
    }
}

#[test]
fn recurrent_layers_sum_over_their_steps() {
    let key = Key::new(3);
    let x = key.normal([2, 12, 3], DType::F32).eval();
    let lengths = Tensor::from([12i64, 7]);
    fn loss<C: Cell>(net: &Recurrent<C>, x: &Tensor, lengths: Option<&Tensor>) -> Tensor {
        net.forward(x, None, lengths, &mut Context::evaluation()).0.square().mean(..)
    }
    let rnn = Rnn::new(&key, 3, 4).stacked(&Key::new(4), 2);
    let lstm = Lstm::new(&key, 3, 4).bidirectional(&Key::new(5));
    let gru = Gru::new(&key, 3, 4).truncated(5);
    let rows = [
        explain(|net: &Rnn| loss(net, &x, None), &rnn),
        explain(|net: &Lstm| loss(net, &x, Some(&lengths)), &lstm),
        explain(|net: &Gru| loss(net, &x, None), &gru),
    ];
    for (found, loops) in rows.iter().zip([2, 2, 3]) {
        assert_eq!(found.loops.len(), loops, "{found}");
        for parameter in &found.parameters {
            assert_sums(found, parameter, 1e-4);
        }
        for inside in &found.loops {
            for operand in inside.operands.iter().filter(|operand| !operand.more) {
                assert!(operand.remainder.0 <= 1e-4 * operand.norm.0, "{}: {found}", operand.symbol);
            }
        }
    }
}

#[test]
fn a_weight_used_beside_a_loop_has_both() {
    let (w, xs) = numbers();
    let found = explain(|w: &Tensor| walk(w, &xs) + (w * w).sum(..), &w);
    assert!(found.parameters[0].in_time.as_ref().unwrap().beside.norm.0 > 0.1, "{found}");
    assert_sums(&found, &found.parameters[0], 1e-12);
}

#[test]
fn every_rendering_shows_the_steps_and_folds_many() {
    let (w, xs) = (numbers().0, Key::new(1).normal([40, 1, 2], DType::F64).eval());
    let found = explain(|w: &Tensor| walk(w, &xs), &w);
    let (text, latex, html) = (found.to_string(), found.latex(), found.html());
    for part in
        ["loop h₁ of 40 steps", "∂h₁⁽ᵀ⁾/∂h₁⁽ᵗ⁾", "by the steps of h₁", "    step 40", "    step 1 ", "ε[h₁⁽ᵗ⁻¹⁾] = "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("    step 20") && text.lines().count() < 80, "{text}");
    assert!(latex.contains("\\sum_{t=1}^{40} \\varepsilon_{h_{1}^{(t)}}"), "{latex}");
    assert!(latex.contains("h_{1}^{(t-1)}"), "{latex}");
    assert!(html.contains("a loop of 40 steps") && html.contains("<mtext>(t−1)</mtext>"), "{html}");
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["parameters"][0]["in_time"]["loops"][0]["terms"].as_array().unwrap().len(), 40);
    assert_eq!(json["loops"][0]["passages"].as_array().unwrap().len(), 40);
}
