//! Made examples in the eyes of a classifier.

use chainrule::prelude::*;
use chainrule_train::experiment::Experiment;
use chainrule_train::model::Spec;

const CLASSIFIER: &str = r#"
[data]
set = "digits"
transforms = [{ normalise = { mean = [0.3], std = [0.4] } }]
[model]
layers = ["flatten", { linear = 16 }, "relu", { linear = "classes" }]
"#;

fn experiment(text: &str) -> Experiment {
    Experiment::new("score", Spec::parse("score.toml", text).unwrap(), None).unwrap()
}

/// The test images as the set has them, [359, 1, 8, 8].
fn images() -> Tensor {
    let mut plain = experiment(&CLASSIFIER.replace("transforms", "# transforms"));
    let (_, set) = plain.part(None).unwrap();
    set.batch(&(0..set.len()).collect::<Vec<_>>(), None).unwrap().input().clone()
}

#[test]
fn the_data_themselves_are_at_no_distance_and_noise_is_far() {
    let mut classifier = experiment(CLASSIFIER);
    let network = classifier.network().clone();
    let (images, noise) = (images(), Key::new(2).uniform([400, 64], DType::F32).eval());
    let same = classifier.score(&network, &images).unwrap();
    assert_eq!((same.examples, same.classes.iter().sum::<usize>()), (359, 359));
    assert!(same.frechet_distance < 1e-6, "{same:?}");
    assert!((same.classifier_score - same.data_score).abs() < 1e-9 && same.data_score > 1.0, "{same:?}");
    let other = classifier.score(&network, &noise).unwrap();
    assert!(other.frechet_distance > 0.01 && other.frechet_distance > 1e3 * same.frechet_distance, "{other:?}");
}

#[test]
fn features_are_what_comes_into_the_last_layer() {
    let classifier = experiment(CLASSIFIER);
    let network = classifier.network();
    let x = images().narrow(0, 0, 5).eval();
    let (features, said) = network.features(std::slice::from_ref(&x)).unwrap();
    assert_eq!(features.shape(), [5, 16]);
    assert_eq!(said.to_vec::<f32>(), network.evaluate(&[x]).to_vec::<f32>());
    let weight = leaves(network).into_iter().find(|leaf| leaf.shape() == [10, 16]).unwrap();
    assert!((features.matmul(&weight.t()) - said).std(0, 0).max(..).item::<f32>() < 1e-6);
}

#[test]
fn what_cannot_be_scored_is_said() {
    let mut classifier = experiment(CLASSIFIER);
    let network = classifier.network().clone();
    let mut wrong = |made: Tensor| classifier.score(&network, &made).unwrap_err().to_string();
    let message = wrong(Tensor::zeros([10, 1, 7, 7], DType::F32));
    assert!(message.contains("f32[1,8,8]") && message.contains("f32[10,1,7,7]"), "{message}");
    assert!(wrong(Tensor::zeros([1, 1, 8, 8], DType::F32)).contains("takes"));
    let fitted = experiment(&CLASSIFIER.replace("{ mean = [0.3], std = [0.4] }", "{}"));
    let message = fitted.untransformed(&images()).unwrap_err().to_string();
    assert!(message.contains("state mean and std"), "{message}");
}

#[test]
fn transforms_are_undone() {
    let classifier = experiment(CLASSIFIER);
    let images = images();
    let there = classifier.transformed(&images).unwrap();
    let back = classifier.untransformed(&there).unwrap();
    assert!((back - &images).abs().max(..).item::<f32>() < 1e-6);
    assert!((there - images).abs().max(..).item::<f32>() > 0.5);
}

#[test]
fn a_set_may_be_cut_to_so_many_examples() {
    let text = CLASSIFIER.replace("set = \"digits\"", "set = \"digits\"\nexamples = 100\nvalidation = 0.2");
    let mut small = experiment(&text);
    let splits = small.splits().unwrap();
    let sizes = [splits.train.len(), splits.validation.as_ref().unwrap().len(), splits.test.as_ref().unwrap().len()];
    assert_eq!(sizes, [80, 20, 359]);
}
