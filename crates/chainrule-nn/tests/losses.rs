//! Losses against PyTorch (`goldens/losses.json`, made by the script beside it), against finite differences and forward
//! mode, and at logits of ±10⁴.

use chainrule::prelude::*;
use chainrule_nn::loss::*;
use serde_json::Value;

fn numbers(json: &Value) -> Vec<f64> {
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| v.as_str().and_then(|v| v.parse().ok()).expect("number"));
    json["data"].as_array().expect("data").iter().map(number).collect()
}

fn tensor(json: &Value) -> Tensor {
    let shape: Vec<usize> =
        json["shape"].as_array().expect("shape").iter().map(|v| v.as_u64().expect("size") as usize).collect();
    match json["dtype"].as_str() {
        Some("f64") => Tensor::from_vec(numbers(json), shape),
        _ => Tensor::from_vec(numbers(json).iter().map(|&v| v as i64).collect::<Vec<i64>>(), shape),
    }
}

/// The loss of a row, as a function of its inputs.
fn loss(row: &Value, x: &[Tensor]) -> Tensor {
    let options = &row["options"];
    let number = |name: &str, or: f64| options[name].as_f64().unwrap_or(or);
    let flag = |name: &str| options[name].as_bool().unwrap_or(false);
    let reduction: Reduction = serde_json::from_value(options["reduction"].clone()).unwrap_or_default();
    let weights = flag("weights").then(|| x[2].clone());
    match row["loss"].as_str().expect("loss") {
        "mean_squared" => MeanSquared { reduction }.forward(&x[0], &x[1]),
        "mean_absolute" => MeanAbsolute { reduction }.forward(&x[0], &x[1]),
        "huber" => Huber::new(number("delta", 1.0)).reduction(reduction).forward(&x[0], &x[1]),
        "smooth_l1" => SmoothL1::new(number("beta", 1.0)).reduction(reduction).forward(&x[0], &x[1]),
        "cross_entropy" => CrossEntropy {
            label_smoothing: number("label_smoothing", 0.0),
            ignore_index: options["ignore_index"].as_i64(),
            weights,
            reduction,
        }
        .forward(&x[0], &x[1]),
        "negative_log_likelihood" => {
            NegativeLogLikelihood { ignore_index: options["ignore_index"].as_i64(), weights, reduction }
                .forward(&x[0], &x[1])
        }
        "binary_cross_entropy" => {
            let positive_weight = flag("positive_weight").then(|| x[2].clone());
            BinaryCrossEntropy { positive_weight, weights, reduction }.forward(&x[0], &x[1])
        }
        "kl" => KlDivergence { log_target: flag("log_target"), reduction }.forward(&x[0], &x[1]),
        "hinge" => Hinge::default().margin(number("margin", 1.0)).reduction(reduction).forward(&x[0], &x[1]),
        "multi_margin" => MultiMargin { margin: number("margin", 1.0), squared: flag("squared"), weights, reduction }
            .forward(&x[0], &x[1]),
        "triplet" => {
            Triplet { margin: number("margin", 1.0), swap: flag("swap"), reduction }.forward(&x[0], &x[1], &x[2])
        }
        "cosine" => CosineEmbedding { margin: number("margin", 0.0), reduction }.forward(&x[0], &x[1], &x[2]),
        "ctc" => Ctc { blank: number("blank", 0.0) as i64, zero_infinity: flag("zero_infinity"), reduction }
            .forward(&x[0], &x[1], &x[2], &x[3]),
        other => panic!("{other}"),
    }
}

/// The number whose gradient the script gives.
fn scalar(row: &Value, x: &[Tensor]) -> Tensor {
    let value = loss(row, x);
    (value.reshape([value.numel()]) * Tensor::arange(value.numel(), DType::F64).cos()).sum(..)
}

fn rows() -> Vec<Value> {
    serde_json::from_str(include_str!("goldens/losses.json")).expect("json")
}

/// The inputs of a row: those to differentiate, and the others.
fn inputs(row: &Value) -> (Vec<Tensor>, Vec<Tensor>) {
    let mut all: Vec<Tensor> = row["inputs"].as_array().expect("inputs").iter().map(tensor).collect();
    let rest = all.split_off(row["gradients"].as_array().expect("gradients").len());
    (all, rest)
}

fn joined(a: &[Tensor], b: &[Tensor]) -> Vec<Tensor> {
    a.iter().chain(b).cloned().collect()
}

fn far(what: &str, got: &Tensor, want: &[f64], tolerance: f64) -> Option<String> {
    let got = got.to_vec::<f64>();
    let wrong = |(a, b): (&f64, &f64)| a != b && (a.is_nan() || (a - b).abs() > tolerance * b.abs().max(1.0));
    let place = got.iter().zip(want).position(wrong);
    place.map(|place| format!("{what}[{place}] is {}, not {}", got[place], want[place]))
}

#[test]
fn values_and_gradients_are_pytorchs() {
    let mut failures = Vec::new();
    for row in rows() {
        let (active, rest) = inputs(&row);
        let value = loss(&row, &joined(&active, &rest));
        let gradient = grad(|active: &Vec<Tensor>| scalar(&row, &joined(active, &rest)), &active);
        assert_eq!(value.shape(), tensor(&row["value"]).shape(), "{} {}", row["loss"], row["options"]);
        let wrong = gradient
            .iter()
            .enumerate()
            .find_map(|(i, g)| far(&format!("gradient {i}"), g, &numbers(&row["gradients"][i]), 1e-9));
        let wrong = far("value", &value, &numbers(&row["value"]), 1e-9).or(wrong);
        failures.extend(wrong.map(|why| format!("{} {}: {why}", row["loss"], row["options"])));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn gradients_are_finite_differences_and_forward_mode_agrees() {
    let mut failures = Vec::new();
    for row in rows() {
        let (active, rest) = inputs(&row);
        let f = |active: &Vec<Tensor>| scalar(&row, &joined(active, &rest));
        let key = Key::new(9);
        let direction: Vec<Tensor> = active.iter().map(|x| key.normal(x.shape(), DType::F64)).collect();
        let gradient = grad(f, &active);
        let slope = gradient.iter().zip(&direction).map(|(g, d)| (g * d).sum(..)).reduce(|a, b| a + b).expect("one");
        let (_, forward) = jvp(f, &active, &direction);
        let h = 1e-6;
        let at = |h: f64| f(&active.iter().zip(&direction).map(|(x, d)| x + d * h).collect()).item::<f64>();
        let difference = (at(h) - at(-h)) / (2.0 * h);
        let wrong =
            far("slope", &slope, &[difference], 1e-6).or(far("tangent", &forward, &[slope.item::<f64>()], 1e-12));
        failures.extend(wrong.map(|why| format!("{} {}: {why}", row["loss"], row["options"])));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn all_is_finite_at_logits_of_ten_thousand() {
    let mut failures = Vec::new();
    for dtype in [DType::F64, DType::F32] {
        for row in rows() {
            let (mut active, rest) = inputs(&row);
            let alternate = |x: &Tensor| {
                let n = x.numel();
                let signs = (Tensor::arange(n, DType::F64) * 2.4).sin().sign();
                (signs * 1e4).reshape(x.shape())
            };
            // Log-probabilities are those of such logits.
            let logarithms = matches!(row["loss"].as_str(), Some("kl" | "negative_log_likelihood"));
            active[0] = alternate(&active[0]);
            active[0] = if logarithms { active[0].log_softmax(-1) } else { active[0].clone() };
            let float = |x: &Tensor| if x.dtype().is_float() { x.cast(dtype) } else { x.clone() };
            let (active, rest): (Vec<_>, Vec<_>) =
                (active.iter().map(float).collect(), rest.iter().map(float).collect());
            let f = |active: &Vec<Tensor>| loss(&row, &joined(active, &rest)).sum(..);
            let (value, gradient) = value_and_grad(f, &active);
            let finite = |x: &Tensor| x.is_finite().all(..).item::<bool>();
            if !finite(&value) || !gradient.iter().all(finite) {
                failures.push(format!("{} {} in {dtype}: {value:?}", row["loss"], row["options"]));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_class_that_cannot_be_costs_nothing_unless_it_is_meant() {
    let minus = f64::NEG_INFINITY;
    let z = Tensor::from([[1.0, minus, 0.0], [minus, 2.0, minus]]);
    let check = |loss: &dyn Fn(&Tensor) -> Tensor| {
        let (value, gradient) = value_and_grad(|z: &Tensor| loss(z), &z);
        assert!(value.is_finite().all(..).item::<bool>() && gradient.is_finite().all(..).item::<bool>());
        assert_eq!(gradient.to_vec::<f64>()[1], 0.0);
    };
    let probabilities = Tensor::from([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]);
    check(&|z| cross_entropy(z, &Tensor::from([0i64, 1])));
    check(&|z| CrossEntropy::default().forward(z, &probabilities));
    check(&|z| KlDivergence::default().forward(&z.log_softmax(-1), &probabilities));
    check(&|z| {
        let lengths = (Tensor::from([2i64]), Tensor::from([1i64]));
        Ctc::default().forward(&z.unsqueeze(1), &Tensor::from([[1i64]]), &lengths.0, &lengths.1)
    });
}

#[test]
fn an_impossible_alignment_is_infinite_and_has_no_gradient() {
    // "1 1" needs three steps.
    let (targets, lengths) = (Tensor::from([[1i64, 1]]), (Tensor::from([2i64]), Tensor::from([2i64])));
    let z = Tensor::from([[[0.0, 1.0]], [[1.0, 0.0]]]);
    let f = |z: &Tensor| Ctc::default().forward(z, &targets, &lengths.0, &lengths.1);
    let (value, gradient) = value_and_grad(f, &z);
    assert_eq!((value.item::<f64>(), gradient.to_vec::<f64>()), (f64::INFINITY, vec![0.0; 4]));
}

#[test]
fn a_mean_over_nothing_is_zero() {
    let z = Tensor::from([[0.0, 1.0]]);
    let loss = CrossEntropy::default().ignore_index(-1);
    let (value, gradient) = value_and_grad(|z: &Tensor| loss.forward(z, &Tensor::from([-1i64])), &z);
    assert_eq!((value.item::<f64>(), gradient.to_vec::<f64>()), (0.0, vec![0.0; 2]));
}
