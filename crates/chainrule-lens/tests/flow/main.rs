//! Networks that are broken on purpose must each be diagnosed by the right cause first; healthy ones by none.

mod networks;

use chainrule::prelude::*;
use chainrule_lens::{FlowOptions, GradientFlow};
use chainrule_nn::prelude::*;
use networks::{batch, broken, classify, deep, healthy, through};

#[test]
fn every_broken_network_is_diagnosed_by_its_cause_first() {
    let faults: Vec<String> = broken()
        .into_iter()
        .filter_map(|(name, observe, diagnosis)| {
            let flow = observe();
            let first = flow.verdict().first().map(|finding| finding.diagnosis);
            (first != Some(diagnosis)).then(|| format!("{name}: {first:?} for {diagnosis:?}\n{flow}"))
        })
        .collect();
    assert!(broken().len() >= 20);
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// The tables of the documentation are those of the tests.
#[test]
fn the_documentation_lists_these_networks() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/diagnoses.md");
    let text = std::fs::read_to_string(path).expect("the page");
    let (front, rest) = text.split_once("<!-- networks -->\n").expect("the mark of the tables");
    let mut tables =
        format!("\n{} networks broken on purpose:\n\n| what is broken | diagnosis |\n| --- | --- |\n", broken().len());
    broken().iter().for_each(|(name, _, diagnosis)| tables.push_str(&format!("| {name} | {diagnosis} |\n")));
    tables.push_str(&format!("\n{} healthy ones, with nothing to say of them:\n\n", healthy().len()));
    healthy().iter().for_each(|(name, _)| tables.push_str(&format!("- {name}\n")));
    if rest != tables {
        let update = std::env::var_os("UPDATE_DOCS").is_some();
        if update {
            std::fs::write(path, format!("{front}<!-- networks -->\n{tables}")).expect("written");
        }
        assert!(
            update,
            "docs/diagnoses.md is not up to date: run this test with UPDATE_DOCS=1, and look at the change"
        );
    }
}

#[test]
fn healthy_networks_get_a_clean_bill() {
    let faults: Vec<String> = healthy()
        .into_iter()
        .map(|(name, observe)| (name, observe()))
        .filter(|(_, flow)| !flow.verdict().is_empty())
        .map(|(name, flow)| format!("{name}\n{flow}"))
        .collect();
    assert!(healthy().len() >= 10);
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// Gains of a linear chain are those of its matrices.
#[test]
fn gains_are_those_of_the_jacobian() {
    let model = deep(3, 16, 1.0);
    let (x, y) = batch(16);
    let options = FlowOptions { iterations: 60, ..FlowOptions::default() };
    let flow = GradientFlow::observe_with(&options, |m: &Mlp| through(m, &x, |x| x * 0.5).cross_entropy(&y), &model);
    let gain = flow.layers[1].gain.as_ref().unwrap();
    let w = model.layers[1].weight.cast(DType::F64) * 0.5;
    let frobenius = w.square().sum(..).sqrt().item::<f64>() / 4.0;
    assert!((gain.rms.0 / frobenius - 1.0).abs() < 0.1, "{} for {frobenius}", gain.rms);
    assert!((gain.before.0 - 0.5).abs() < 1e-6);
    // The largest singular value, by a power iteration of its own.
    let mut v = Tensor::ones([16], DType::F64);
    for _ in 0..200 {
        let next = w.t().matmul(&w.matmul(&v));
        v = (&next / next.norm(..)).eval();
    }
    let largest = w.matmul(&v).norm(..).item::<f64>();
    assert!((gain.largest.0 / largest - 1.0).abs() < 1e-3, "{} for {largest}", gain.largest);
    // The product of the real Jacobians is what the gradient does.
    let fall = flow.layers[0].gradient_norm.0 / flow.layers[2].gradient_norm.0;
    assert!((fall / flow.layers[0].product.0).ln().abs() < 1.0, "{fall} and {}", flow.layers[0].product);
}

#[test]
fn layers_are_found_by_their_paths() {
    let flow = classify(&deep(3, 16, 1.4), Tensor::relu);
    let paths: Vec<&str> = flow.layers.iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["layers.0", "layers.1", "layers.2"]);
    assert_eq!(flow.layers[2].previous.as_deref(), Some("layers.1"));
    assert!(flow.layers[1].nonlinear_before && !flow.layers[1].residual_before);
    let slope = flow.layers[0].slope.as_ref().unwrap();
    assert!((slope.off - 0.5).abs() < 0.15 && slope.dead == 0.0);
    let json = serde_json::to_value(&flow).unwrap();
    assert_eq!(json["layers"][1]["path"], "layers.1");
}
