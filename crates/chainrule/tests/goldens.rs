//! Values, gradients and Hessian-vector products against JAX in f64: `goldens/goldens.json`, made by the script beside it.

#[path = "goldens/operations.rs"]
mod operations;
#[path = "goldens/programs.rs"]
mod programs;

use chainrule::prelude::*;
use serde_json::Value;

/// One line of the file.
struct Case {
    json: Value,
    /// All inputs as leaves.
    inputs: Vec<Tensor>,
}

impl Case {
    fn op(&self) -> &str {
        self.json["op"].as_str().expect("op")
    }
    fn attr(&self, name: &str) -> &Value {
        &self.json["attrs"][name]
    }
    fn number(&self, name: &str) -> f64 {
        self.attr(name).as_f64().unwrap_or_else(|| panic!("{name}"))
    }
    fn axis(&self) -> isize {
        self.number("axis") as isize
    }
    fn flag(&self, name: &str) -> bool {
        self.attr(name).as_bool().unwrap_or(false)
    }
    fn sizes(&self, name: &str) -> Vec<usize> {
        self.attr(name).as_array().expect("list").iter().map(|v| v.as_u64().expect("size") as usize).collect()
    }
    fn signed(&self, name: &str) -> Vec<isize> {
        self.attr(name).as_array().expect("list").iter().map(|v| v.as_i64().expect("number") as isize).collect()
    }
    /// The axes of a reduction, all if null.
    fn axes(&self, rank: usize) -> Vec<isize> {
        if self.attr("axes").is_null() { (0..rank as isize).collect() } else { self.signed("axes") }
    }
}

fn numbers(json: &Value) -> Vec<f64> {
    let number = |v: &Value| match v {
        Value::String(text) => text.parse().expect("nan or inf"),
        Value::Bool(b) => *b as u8 as f64,
        v => v.as_f64().expect("number"),
    };
    json["data"].as_array().expect("data").iter().map(number).collect()
}

fn tensor(json: &Value) -> Tensor {
    let shape: Vec<usize> =
        json["shape"].as_array().expect("shape").iter().map(|v| v.as_u64().expect("size") as usize).collect();
    let data = numbers(json);
    match json["dtype"].as_str().expect("dtype") {
        "f64" => Tensor::from_vec(data, shape),
        "i64" => Tensor::from_vec(data.iter().map(|&v| v as i64).collect::<Vec<i64>>(), shape),
        "bool" => Tensor::from_vec(data.iter().map(|&v| v != 0.0).collect::<Vec<bool>>(), shape),
        other => panic!("dtype {other}"),
    }
}

fn agree(what: &str, got: &Tensor, want: &Value, tolerance: f64, relative: bool) -> Result<(), String> {
    let shape: Vec<usize> =
        want["shape"].as_array().expect("shape").iter().map(|v| v.as_u64().expect("size") as usize).collect();
    if got.shape() != shape {
        return Err(format!("{what} has shape {:?}, not {shape:?}", got.shape()));
    }
    let got = got.cast(DType::F64).to_vec::<f64>();
    for (i, (a, b)) in got.iter().zip(numbers(want)).enumerate() {
        let scale = if relative { b.abs() } else { b.abs().max(1.0) };
        let same = *a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * scale;
        if !same {
            return Err(format!("{what}[{i}] is {a}, not {b}"));
        }
    }
    Ok(())
}

fn check(json: Value) -> Result<(), String> {
    let inputs: Vec<Tensor> = json["inputs"].as_array().expect("inputs").iter().map(tensor).collect();
    let case = Case { inputs, json };
    let json = &case.json;
    let apply = |inputs: &[Tensor]| {
        if case.op().starts_with("program:") {
            programs::apply(&case, inputs)
        } else {
            operations::apply(&case, inputs)
        }
    };
    let tolerance = json["tolerance"].as_f64().unwrap_or(1e-10);
    agree("output", &apply(&case.inputs), &json["output"], tolerance, json["relative"].as_bool() == Some(true))?;
    let wrt: Vec<usize> =
        json["wrt"].as_array().expect("wrt").iter().map(|v| v.as_u64().expect("place") as usize).collect();
    if wrt.is_empty() || json["gradients"].is_null() {
        return Ok(());
    }
    let weight = tensor(&json["weight"]);
    let loss = |x: &Vec<Tensor>| {
        let mut inputs = case.inputs.clone();
        wrt.iter().zip(x).for_each(|(&i, x)| inputs[i] = x.clone());
        (apply(&inputs) * &weight).sum(..)
    };
    let zeros_allowed = |x: &Vec<Tensor>| match gradient(|x| (loss(x), ()), x, Unreached::Zeros) {
        Ok((_, (), g)) => g,
        Err(error) => panic!("{error}"),
    };
    let x: Vec<Tensor> = wrt.iter().map(|&i| case.inputs[i].clone()).collect();
    let gradients = zeros_allowed(&x);
    for (i, (got, want)) in gradients.iter().zip(json["gradients"].as_array().expect("list")).enumerate() {
        agree(&format!("gradient {i}"), got, want, tolerance, false)?;
    }
    if json["hvp"].is_null() {
        return Ok(());
    }
    let direction: Vec<Tensor> = json["direction"].as_array().expect("list").iter().map(tensor).collect();
    // Forward over reverse, and reverse over reverse: both must give the same product.
    let forward = jvp(|x: &Vec<Tensor>| zeros_allowed(x), &x, &direction).1;
    let along = |x: &Vec<Tensor>| {
        let products = zeros_allowed(x).iter().zip(&direction).map(|(g, d)| (g * d).sum(..)).reduce(|a, b| a + b);
        (products.expect("an input"), ())
    };
    let (_, (), reverse) = gradient(along, &x, Unreached::Zeros).expect("floats");
    for (i, want) in json["hvp"].as_array().expect("list").iter().enumerate() {
        agree(&format!("hvp {i} (forward over reverse)"), &forward[i], want, tolerance.max(1e-9), false)?;
        agree(&format!("hvp {i} (reverse over reverse)"), &reverse[i], want, tolerance.max(1e-9), false)?;
    }
    Ok(())
}

#[test]
fn every_case_agrees() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("goldens/goldens.json")).expect("the file is JSON");
    assert!(cases.len() >= 300);
    let total = cases.len();
    let mut failures = Vec::new();
    for case in cases {
        let id = case["id"].as_str().expect("id").to_owned();
        let outcome = std::panic::catch_unwind(|| check(case));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(why)) => failures.push(format!("{id}: {why}")),
            Err(panic) => {
                let text =
                    panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
                failures.push(format!("{id}: panicked: {}", text.unwrap_or_default()));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {total} cases fail:\n{}", failures.len(), failures.join("\n"));
}
