//! Every metric against figures worked out by hand, whole and in batches, with ignored targets, and by name.

use chainrule::prelude::*;
use chainrule_train::task::{Measures, Metric, Numbers, Totals};

/// Logits of six examples of three classes, whose largest are 0 0 1 2 2 1.
fn logits() -> Tensor {
    Tensor::from([[2.0, 1.0, 0.0], [3.0, 0.0, 1.0], [0.0, 4.0, 1.0], [0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [0.0, 2.0, 1.0]])
}

fn labels() -> Tensor {
    Tensor::from([0i64, 1, 1, 2, 0, 2])
}

fn numbers(metric: Metric, output: &Tensor, target: &Tensor, ignore: Option<i64>) -> Totals {
    Measures::new().with(metric.measure(output, target, ignore)).totals()
}

/// −ln softmax of the labels above.
fn nats() -> Vec<f64> {
    let (z, y) = (logits().to_vec::<f64>(), labels().to_vec::<i64>());
    let row = |i: usize| &z[3 * i..3 * i + 3];
    (0..6).map(|i| row(i).iter().map(|z| z.exp()).sum::<f64>().ln() - row(i)[y[i] as usize]).collect()
}

#[test]
fn each_is_what_its_formula_says() {
    let mean_nats = nats().iter().sum::<f64>() / 6.0;
    let kept_nats = (nats()[0] + nats()[3] + nats()[4] + nats()[5]) / 4.0;
    let (prediction, value) = (Tensor::from([1.0, 2.0, 3.0, 5.0]), Tensor::from([1.0, 1.0, 4.0, 6.0]));
    let columns = |a: &Tensor, b: &Tensor| stack(&[a, b], -1);
    let yes = Tensor::from([1.5, -0.5, 0.5, -2.0]);
    let was = Tensor::from([1.0f32, 0.0, 0.0, 0.0]);
    let shares = labels().one_hot(3, DType::F64);
    // Two sequences of three.
    let (rows, marks) = (logits().reshape([2, 3, 3]), labels().reshape([2, 3]));
    let right = Tensor::from([[0i64, 0, 1], [2, 0, 1]]);
    let padded = Tensor::from([[0i64, 0, -100], [2, -100, 1]]);
    #[rustfmt::skip]
    let cases: Vec<(&str, Tensor, Tensor, Option<i64>, f64)> = vec![
        ("accuracy", logits(), labels(), None, 0.5),
        ("accuracy", logits(), labels(), Some(1), 0.5),
        ("accuracy", logits(), labels(), Some(0), 0.5),
        ("accuracy", logits(), labels(), Some(2), 0.5),
        ("accuracy", logits(), shares, None, 0.5),
        ("accuracy", yes.clone(), was.clone(), None, 0.75),
        ("top1", logits(), labels(), None, 0.5),
        ("top2", logits(), labels(), None, 5.0 / 6.0),
        ("top3", logits(), labels(), None, 1.0),
        // TP 1 1 1 of labels 2 2 2 and predictions 2 2 2: F1 is 1/2 each.
        ("f1", logits(), labels(), None, 0.5),
        ("f1-micro", logits(), labels(), None, 0.5),
        // Without class 1's labels: TP 1 0 1, labels 2 0 2, predictions 1 1 2.
        ("f1", logits(), labels(), Some(1), (2.0 / 3.0 + 0.0 + 2.0 / 4.0) / 3.0),
        ("f1-micro", logits(), labels(), Some(1), 4.0 / 8.0),
        // Yes or no: of no TP 2, labels 3, predictions 2; of yes TP 1, labels 1, predictions 2.
        ("f1", yes.clone(), was, None, (4.0 / 5.0 + 2.0 / 3.0) / 2.0),
        ("perplexity", logits(), labels(), None, mean_nats.exp()),
        ("perplexity", logits(), labels(), Some(1), kept_nats.exp()),
        ("bits-per-character", logits(), labels(), None, mean_nats / 2f64.ln()),
        // Errors 0 1 1 1; Σ(y − 3)² = 4 + 4 + 1 + 9.
        ("r2", prediction.clone(), value.clone(), None, 1.0 - 3.0 / 18.0),
        ("r2", columns(&prediction, &value), columns(&value, &value), None, 1.0 - 1.5 / 18.0),
        ("mae", prediction.clone(), value.clone(), None, 0.75),
        ("mae", prediction.reshape([4, 1]), value.clone(), None, 0.75),
        ("mse", prediction.clone(), value.clone() - 2.0, None, (4.0 + 9.0 + 1.0 + 1.0) / 4.0),
        ("rmse", prediction.clone(), value, None, 0.75f64.sqrt()),
        ("exact", rows.clone(), marks, None, 0.0),
        ("exact", rows.clone(), right, None, 0.5),
        ("exact", rows.clone(), Tensor::from([[0i64, 0, 1], [2, 2, 0]]), None, 0.5),
        ("exact", rows.clone(), padded, Some(-100), 1.0),
    ];
    let mut wrong = Vec::new();
    for (name, output, target, ignore, expected) in cases {
        let metric: Metric = name.parse().unwrap();
        assert_eq!(metric.to_string(), name);
        let whole = numbers(metric, &output, &target, ignore).numbers().get(name).unwrap();
        // In two batches of different size; exact matches count whole sequences, of which there are two.
        let cut = output.shape()[0].div_ceil(2) as i64;
        let mut sum = Totals::default();
        for part in [0..cut, cut..output.shape()[0] as i64] {
            let (output, target) = (output.at(part.clone()), target.at(part));
            sum.add(numbers(metric, &output, &target, ignore));
        }
        let parts = sum.numbers().get(name).unwrap();
        if (whole - expected).abs() > 1e-6 || (parts - expected).abs() > 1e-6 {
            wrong.push(format!("{name} ({ignore:?}): whole {whole}, in parts {parts}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_matrix_comes_out_and_is_no_number() {
    let totals = numbers(Metric::Confusion, &logits(), &labels(), None);
    let matrix = totals.confusion().unwrap();
    let counts = [0, 1, 2].map(|label| [0, 1, 2].map(|prediction| matrix.count(label, prediction)));
    assert_eq!(counts, [[1, 0, 1], [1, 1, 0], [0, 1, 1]]);
    assert!(totals.numbers().is_empty());
    assert_eq!(numbers(Metric::Accuracy, &logits(), &labels(), None).confusion(), None);
}

#[test]
fn equal_logits_count_in_the_order_of_classes() {
    let flat = Tensor::zeros([3, 3], DType::F32);
    let all = Tensor::from([0i64, 1, 2]);
    let share = |name: &str| numbers(name.parse().unwrap(), &flat, &all, None).numbers().get(name).unwrap();
    assert_eq!((share("accuracy"), share("top1")), (1.0 / 3.0, 1.0 / 3.0));
    assert!((share("top2") - 2.0 / 3.0).abs() < 1e-9);
}

#[test]
fn wrong_forms_and_names_are_told() {
    let error = "acuracy".parse::<Metric>().unwrap_err().to_string();
    assert!(error.contains("\"acuracy\"") && error.contains("top5") && error.contains("perplexity"), "{error}");
    assert!("top0".parse::<Metric>().is_err() && "top".parse::<Metric>().is_err());
    assert_eq!(serde_json::from_str::<Metric>("\"top7\"").unwrap(), Metric::Top(7));
    assert!(serde_json::from_str::<Metric>("\"auc\"").unwrap_err().to_string().contains("there are accuracy"));
    let message = |f: &dyn Fn()| {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
        caught.downcast_ref::<String>().unwrap().clone()
    };
    let told = message(&|| drop(Metric::Accuracy.measure(&logits(), &Tensor::from([1i64, 2]), None)));
    assert!(told.contains("accuracy: output f64[6,3] and target i64[2]"), "{told}");
    let told = message(&|| drop(Metric::RSquared.measure(&logits(), &labels(), None)));
    assert!(told.contains("r2: output"), "{told}");
}

#[test]
fn what_is_not_finite_is_named_and_null_in_json() {
    let mut totals = Measures::new().mean("loss", &Tensor::from(f64::NAN), 3).totals();
    assert_eq!(totals.not_finite().unwrap().0, "loss");
    let json = serde_json::to_string(&totals.numbers()).unwrap();
    assert_eq!(json, r#"{"loss":null}"#);
    assert!(serde_json::from_str::<Numbers>(&json).unwrap().get("loss").unwrap().is_nan());
    // A rate is the last one; a mean is weighed.
    let batch = |loss: f64, rate: f64, count| {
        Measures::new().mean("loss", &Tensor::from(loss), count).last("rate", &Tensor::from(rate))
    };
    totals = batch(1.0, 0.1, 3).totals();
    totals.add(batch(5.0, 0.2, 1).totals());
    assert_eq!(totals.numbers().0, [("loss".to_string(), 2.0), ("rate".to_string(), 0.2)]);
}
