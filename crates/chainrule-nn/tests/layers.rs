//! Every layer against PyTorch in f64 (`goldens/layers.json`, made by the script beside it), and against itself: finite
//! differences, forward against reverse mode, compiled against evaluated, f32 against f64.

#[path = "layers/table.rs"]
mod table;

use chainrule::differentiate::Unreached;
use chainrule::execute::eval_all;
use chainrule::prelude::*;
use chainrule::tree::{self, Role};
use chainrule_nn::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One case of the file.
pub(crate) struct Case {
    json: Value,
}

type Check = Result<(), String>;

impl Case {
    fn attr(&self, name: &str) -> Option<&Value> {
        self.json["attrs"].get(name)
    }
    pub(crate) fn text(&self, name: &str) -> &str {
        self.attr(name).and_then(Value::as_str).unwrap_or_default()
    }
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.attr(name).and_then(Value::as_bool).unwrap_or(false)
    }
    /// Whether the attribute says no.
    pub(crate) fn without(&self, name: &str) -> bool {
        self.attr(name).and_then(Value::as_bool) == Some(false)
    }
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.attr(name).and_then(Value::as_f64)
    }
    pub(crate) fn size(&self, name: &str) -> usize {
        self.attr(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("{name} is missing")) as usize
    }
    /// A number or a list of them, if the attribute is there.
    pub(crate) fn sizes(&self, name: &str) -> Option<Vec<usize>> {
        let size = |v: &Value| v.as_u64().map(|n| n as usize);
        match self.attr(name)? {
            Value::Array(list) => list.iter().map(size).collect(),
            one => size(one).map(|n| vec![n]),
        }
    }
    fn tensors(&self, name: &str) -> Vec<Tensor> {
        self.json[name].as_array().expect("a list").iter().map(tensor).collect()
    }
    fn named(&self, name: &str) -> BTreeMap<String, Tensor> {
        self.json[name].as_object().expect("a map").iter().map(|(k, v)| (k.clone(), tensor(v))).collect()
    }
    fn context(&self) -> Context {
        let training = self.json["training"].as_bool() == Some(true);
        if training { Context::training(Key::new(0)) } else { Context::evaluation() }
    }
}

fn tensor(json: &Value) -> Tensor {
    let shape: Vec<usize> =
        json["shape"].as_array().expect("shape").iter().map(|v| v.as_u64().expect("size") as usize).collect();
    let data: Vec<f64> = json["data"].as_array().expect("data").iter().map(|v| v.as_f64().expect("a number")).collect();
    let dtype = match json["dtype"].as_str() {
        None => DType::F64,
        Some("i64") => DType::I64,
        Some("bool") => return Tensor::from_vec(data.iter().map(|&v| v != 0.0).collect::<Vec<bool>>(), shape),
        Some(other) => panic!("dtype {other}"),
    };
    Tensor::from_vec(data, shape).cast(dtype).eval()
}

fn in_float(x: &Tensor, dtype: DType) -> Tensor {
    if x.dtype().is_float() { x.cast(dtype) } else { x.clone() }
}

/// Numbers without a pattern in the shape of another tensor.
fn direction(like: &Tensor, seed: usize) -> Tensor {
    (Key::new(seed as u64 + 7).uniform(like.shape(), DType::F64) * 2.0 - 1.0).eval()
}

fn agree(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) -> Check {
    if got.shape() != want.shape() {
        return Err(format!("{what} has shape {:?}, not {:?}", got.shape(), want.shape()));
    }
    let (got, want) = (got.cast(DType::F64).to_vec::<f64>(), want.cast(DType::F64).to_vec::<f64>());
    match got.iter().zip(&want).position(|(a, b)| (a - b).abs() > tolerance * b.abs().max(1.0) || a.is_nan()) {
        Some(i) => Err(format!("{what}[{i}] is {}, not {}", got[i], want[i])),
        None => Ok(()),
    }
}

fn all_agree(what: &str, got: &[Tensor], want: &[Tensor], tolerance: f64) -> Check {
    if got.len() != want.len() {
        return Err(format!("{what}: {} instead of {}", got.len(), want.len()));
    }
    let mut pairs = got.iter().zip(want).enumerate();
    pairs.try_for_each(|(i, (a, b))| agree(&format!("{what} {i}"), a, b, tolerance))
}

/// The model with the file's numbers, in f64; every leaf must be in the file, and every name of the file a leaf.
fn filled<M: Tree>(case: &Case, model: &M) -> Result<M, String> {
    let mut values = case.named("parameters");
    values.extend(case.named("state"));
    let mut missing = Vec::new();
    let model = tree::map_named(model, |path, _, leaf| match values.remove(path) {
        Some(value) if value.shape() == leaf.shape() => value,
        Some(value) => {
            missing.push(format!("{path} is {} here and {} there", leaf.ty(), value.ty()));
            leaf.clone()
        }
        None => {
            missing.push(format!("{path} is not there"));
            leaf.clone()
        }
    });
    missing.extend(values.keys().map(|name| format!("{name} is not here")));
    if missing.is_empty() { Ok(model) } else { Err(missing.join("; ")) }
}

/// All checks of one case, for the layer it is about.
pub(crate) fn check<M: Tree + Clone>(
    case: &Case,
    model: M,
    forward: impl Fn(&mut M, &[Tensor], &mut Context) -> Vec<Tensor>,
) -> Check {
    let model = filled(case, &model)?;
    let inputs = case.tensors("inputs");
    let weights = case.tensors("weights");
    let floats: Vec<Tensor> = inputs.iter().filter(|x| x.dtype().is_float()).cloned().collect();
    let run = |model: &M, floats: &Vec<Tensor>| {
        let (mut model, mut rest) = (model.clone(), floats.iter());
        let place = |x: &Tensor| if x.dtype().is_float() { rest.next().expect("a float").clone() } else { x.clone() };
        let inputs: Vec<Tensor> = inputs.iter().map(place).collect();
        let outputs = forward(&mut model, &inputs, &mut case.context());
        (outputs, model)
    };
    let loss = |(model, floats): &(M, Vec<Tensor>)| {
        let outputs = run(model, floats).0;
        let terms = outputs.iter().zip(&weights).map(|(y, w)| (y * w.cast(y.dtype())).sum(..));
        terms.reduce(|a, b| a + b).expect("an output")
    };
    let (outputs, after) = run(&model, &floats);
    let outputs = eval_all(&outputs);
    all_agree("output", &outputs, &case.tensors("outputs"), 1e-9)?;
    let states = named(&after, Role::State);
    let want: Vec<Tensor> = states.iter().map(|(path, _)| case.named("state_after")[path].clone()).collect();
    all_agree("state", &states.iter().map(|(_, x)| x.clone()).collect::<Vec<_>>(), &want, 1e-9)?;

    let at = (model.clone(), floats.clone());
    let (_, (), gradient) = gradient(|x| (loss(x), ()), &at, Unreached::Zeros).map_err(|e| e.to_string())?;
    let want = case.named("parameter_gradients");
    for (path, got) in named(&gradient.0, Role::Parameter) {
        agree(&format!("gradient of {path}"), &got, &want[&path], 1e-9)?;
    }
    let want = case.json["input_gradients"].as_array().expect("a list").iter().filter(|g| !g.is_null());
    all_agree("gradient of input", &gradient.1, &want.map(tensor).collect::<Vec<_>>(), 1e-9)?;
    along_a_direction(&at, &gradient, loss, case.flag("cut"))?;

    let mut compiled = compile(|(model, floats): &(M, Vec<Tensor>)| run(model, floats));
    let (again, after_again) = compiled.run(at.clone()).map_err(|e| e.to_string())?;
    all_agree("compiled output", &again, &outputs, 1e-12)?;
    all_agree("compiled state", &leaves(&after_again), &leaves(&after), 1e-12)?;

    let single = tree::map(&at, |x| in_float(x, DType::F32));
    let (rough, _) = run(&single.0, &single.1);
    if let Some(y) = rough.iter().find(|y| y.dtype() == DType::F64) {
        return Err(format!("f32 inputs give {}", y.ty()));
    }
    all_agree("output in f32", &rough, &outputs, 2e-3)
}

fn named<T: Tree>(tree: &T, role: Role) -> Vec<(String, Tensor)> {
    tree::named_leaves(tree).into_iter().filter(|leaf| leaf.1 == role).map(|leaf| (leaf.0, leaf.2)).collect()
}

/// ⟨gradient, d⟩ by reverse mode, by forward mode, and (unless a gradient is cut on purpose) by finite differences.
fn along_a_direction<T: Tree + Clone>(at: &T, gradient: &T, loss: impl Fn(&T) -> Tensor, cut: bool) -> Check {
    let mut count = 0;
    let along = tree::map_named(at, |_, role, leaf| {
        count += 1;
        if role == Role::Parameter { direction(leaf, count) } else { leaf.zeros_like() }
    });
    let parameters = |tree: &T| named(tree, Role::Parameter).into_iter().map(|leaf| leaf.1).collect::<Vec<_>>();
    let products =
        parameters(gradient).iter().zip(&parameters(&along)).map(|(g, d)| (g * d).sum(..)).collect::<Vec<_>>();
    let reverse: f64 = eval_all(&products).iter().map(|p| p.item::<f64>()).sum();
    let forward = jvp(&loss, at, &along).1.item::<f64>();
    let scale = reverse.abs().max(1.0);
    if (forward - reverse).abs() > 1e-10 * scale {
        return Err(format!("forward mode gives {forward}, reverse mode {reverse}"));
    }
    let step = 1e-6;
    let at_step = |h: f64| loss(&zip_map(at, &along, |x, d| x + d * h));
    let slope = ((at_step(step) - at_step(-step)) / (2.0 * step)).item::<f64>();
    if !cut && (slope - reverse).abs() > 1e-6 * scale {
        return Err(format!("finite differences give {slope}, reverse mode {reverse}"));
    }
    Ok(())
}

#[test]
fn every_layer_is_pytorchs_and_its_gradients_are_right() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("goldens/layers.json")).expect("the file is JSON");
    let total = cases.len();
    assert!(total >= 60);
    let mut failures = Vec::new();
    for json in cases {
        let case = Case { json };
        let name = case.json["name"].as_str().expect("a name");
        let outcome = catch_unwind(AssertUnwindSafe(|| table::check_layer(&case))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
            Err(format!("panicked: {}", text.unwrap_or_default()))
        });
        if let Err(why) = outcome {
            failures.push(format!("{name}: {why}"));
        }
    }
    assert!(failures.is_empty(), "{} of {total} cases fail:\n{}", failures.len(), failures.join("\n"));
}
