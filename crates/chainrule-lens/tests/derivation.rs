//! Products of Jacobians are the gradient, path by path.

use chainrule::prelude::*;
use chainrule_lens::{ExplainOptions, explain, explain_with};
use chainrule_nn::prelude::*;

fn chain(path: &chainrule_lens::derivation::PathTerm) -> String {
    path.factors.iter().map(|f| format!("∂{}/∂{}", f.of, f.by)).collect::<Vec<_>>().join(" · ")
}

#[test]
fn one_hidden_layer_reads_as_in_a_textbook() {
    let model = (Tensor::from([[0.1, -0.4, 0.3], [0.2, 0.5, -0.1]]), Tensor::from([[0.7], [-0.3], [0.2]]));
    let (x, y) = (Tensor::from([[1.0, 2.0]]), Tensor::from([[0.5]]));
    let loss = |(w, v): &(Tensor, Tensor)| (x.matmul(w).sigmoid().matmul(v) - &y).square().sum(..) * 0.5;
    let found = explain(loss, &model);
    let first = &found.parameters[0];
    assert_eq!(first.paths.len(), 1, "a square is one factor: {found}");
    assert_eq!(chain(&first.paths[0]), "∂L/∂v₂ · ∂v₂/∂v₁ · ∂v₁/∂z₃ · ∂z₃/∂z₂ · ∂z₂/∂h₁ · ∂h₁/∂z₁ · ∂z₁/∂W₁");
    let factors = &first.paths[0].factors;
    assert_eq!((factors[2].formula.as_str(), factors[5].formula.as_str()), ("2z₃", "h₁(1 − h₁)"));
    assert_eq!((factors[4].rows.as_slice(), factors[4].columns.as_slice()), (&[1usize, 1][..], &[1usize, 3][..]));
    // The factors' Jacobians as numbers: σ' of three units on a diagonal.
    let slopes: Vec<f64> = factors[5].values.as_ref().unwrap().iter().map(|x| x.0).collect();
    let h = x.matmul(&model.0).sigmoid();
    let expected = (&h * (1.0 - &h)).to_vec::<f64>();
    assert_eq!([slopes[0], slopes[4], slopes[8]], [expected[0], expected[1], expected[2]]);
    assert_eq!(slopes[1], 0.0);
    for parameter in &found.parameters {
        assert!(parameter.remainder.0 < 1e-12 * (1.0 + parameter.norm.0));
        assert!((parameter.paths.iter().map(|p| p.share.0).sum::<f64>() - 1.0).abs() < 1e-12);
    }
    // The gains of a path multiply to its contribution, from a cotangent of length 1.
    let product: f64 = factors.iter().map(|f| f.gain.0).product();
    assert!((product - first.paths[0].norm.0).abs() < 1e-12);
    // The same in matrix form.
    let backward: Vec<String> = found.backward.iter().map(ToString::to_string).collect();
    let expected =
        ["δ₃ = 0.5 ⊙ 2z₃", "δ₂ = δ₃", "∂L/∂W₂ = h₁ᵀ · δ₂", "δ₁ = (δ₂ · W₂ᵀ) ⊙ (h₁(1 − h₁))", "∂L/∂W₁ = x₁ᵀ · δ₁"];
    for line in expected {
        assert!(backward.iter().any(|known| known == line), "{line} is not in {backward:#?}");
    }
}

/// A layer of a bias after a product, cross-entropy, and layers as PyTorch has them: rows are outputs.
#[test]
fn a_bias_joins_its_product_and_cross_entropy_is_one_factor() {
    let model = Mlp::new(&Key::new(1), &[4, 5, 3]);
    let (x, y) = (Key::new(2).normal([6, 4], DType::F32).eval(), Tensor::from([0i64, 1, 2, 0, 1, 2]));
    let found = explain(|m: &Mlp| m.forward(&x).cross_entropy(&y), &model);
    assert_eq!(chain(&found.parameters[0].paths[0]), "∂L/∂z₂ · ∂z₂/∂h₁ · ∂h₁/∂z₁ · ∂z₁/∂W₁");
    let definitions: Vec<String> = found.definitions.iter().map(|d| format!("{} = {}", d.name, d.formula)).collect();
    let forward = ["z₁ = (x · W₁ᵀ) + b₁", "h₁ = max(0, z₁)", "z₂ = (h₁ · W₂ᵀ) + b₂", "L = cross-entropy(z₂, y)"];
    assert_eq!(
        definitions.iter().map(|text| text.replace(['(', ')'], "")).collect::<Vec<_>>(),
        forward.map(|text| text.replace(['(', ')'], ""))
    );
    let backward: Vec<String> = found.backward.iter().map(ToString::to_string).collect();
    for line in [
        "δ₂ = (softmax(z₂) − y)/6",
        "∂L/∂W₂ = δ₂ᵀ · h₁",
        "∂L/∂b₂ = Σ δ₂",
        "δ₁ = (δ₂ · W₂) ⊙ [z₁ > 0]",
        "∂L/∂W₁ = δ₁ᵀ · x",
    ] {
        assert!(backward.iter().any(|known| known == line), "{line} is not in {backward:#?}");
    }
    // Each equation has the length that the gradient has.
    for parameter in &found.parameters {
        let of = found.backward.iter().find(|equation| equation.of == parameter.path).unwrap();
        assert!((of.norm.0 - parameter.norm.0).abs() < 1e-6 * parameter.norm.0, "{found}");
        // The gains of a path, biases included, multiply to its contribution.
        let product: f64 = parameter.paths[0].factors.iter().map(|f| f.gain.0).product();
        assert!((product - parameter.paths[0].norm.0).abs() < 1e-6 * product, "{found}");
    }
}

#[test]
fn residuals_shared_weights_and_unrolled_steps_have_a_path_each() {
    let w = Tensor::from([[0.3, -0.2], [0.1, 0.4]]);
    let x = Tensor::from([[1.0, -1.0]]);
    type Row = (&'static str, fn(&Tensor, &Tensor) -> Tensor, usize);
    let rows: [Row; 3] = [
        ("shared", |w, x| x.matmul(w).tanh().matmul(w).sum(..), 2),
        (
            "residual",
            |w, x| {
                let h = x.matmul(w);
                (&h + h.tanh()).sum(..)
            },
            2,
        ),
        // h₃ = tanh(tanh(tanh(x·w)·w)·w): one path for each step at which w is used.
        ("unrolled", |w, x| (0..3).fold(x.clone(), |h, _| h.matmul(w).tanh()).sum(..), 3),
    ];
    for (name, f, paths) in rows {
        let found = explain(|w: &Tensor| f(w, &x), &w);
        let parameter = &found.parameters[0];
        assert_eq!(parameter.paths.len(), paths, "{name}: {found}");
        assert!(parameter.remainder.0 < 1e-12, "{name}: {found}");
    }
}

#[test]
fn many_paths_leave_a_remainder() {
    // Each of ten residual blocks doubles the number of paths.
    let f = |x: &Tensor| (0..10).fold(x.clone(), |x, _| &x + (&x * 0.5).tanh()).sum(..);
    let found = explain(f, &Tensor::from([1.0, 0.9]));
    let parameter = &found.parameters[0];
    assert!(parameter.more && parameter.paths.len() == 24 && parameter.all_paths.0 == 1024.0);
    let shown: f64 = parameter.paths.iter().map(|path| path.share.0).sum();
    assert!((shown + parameter.remainder.0 / parameter.norm.0 - 1.0).abs() < 0.01, "{found}");
    let some = ExplainOptions { paths: 2, ..ExplainOptions::default() };
    assert_eq!(explain_with(&some, f, &Tensor::from([1.0, 0.9])).parameters[0].paths.len(), 2);
}

#[test]
fn a_network_explains_itself_in_every_format() {
    let model = Mlp::new(&Key::new(1), &[4, 5, 3]);
    let (x, y) = (Key::new(2).normal([6, 4], DType::F32).eval(), Tensor::from([0i64, 1, 2, 0, 1, 2]));
    let found = explain(|m: &Mlp| m.forward(&x).cross_entropy(&y), &model);
    assert_eq!(found.parameters.len(), 4);
    for parameter in &found.parameters {
        assert!(parameter.remainder.0 < 1e-5 * parameter.norm.0, "{found}");
    }
    let (text, latex, html) = (found.to_string(), found.latex(), found.html());
    assert!(text.contains("∂L/∂W₁") && text.contains("W₁ = layers.0.weight"), "{text}");
    assert!(latex.contains("\\frac{\\partial L}{\\partial W_{1}}"), "{latex}");
    assert!(html.contains("<mfrac><mrow><mo>∂</mo><mi>L</mi></mrow>") && html.ends_with("</section>\n"));
    assert_eq!(serde_json::to_value(&found).unwrap()["parameters"][0]["path"], "layers.0.weight");
}
