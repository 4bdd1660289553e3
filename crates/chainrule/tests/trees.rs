//! Trees: what the derive makes of structs and enums, the names of leaves, roles, and files of every dtype.
use chainrule::prelude::*;
use chainrule::tree::{Role, map, map_named, named_leaves, rebuild};
use std::collections::{BTreeMap, HashMap};

fn t(v: f64) -> Tensor {
    Tensor::from(v)
}

#[derive(Tree, Clone, Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

#[derive(Tree, Clone)]
struct Norm {
    scale: Tensor,
    #[tree(state)]
    mean: Tensor,
    #[tree(state)]
    history: Vec<(Tensor, Tensor)>,
    #[tree(skip)]
    epsilon: f64,
    #[tree(skip)]
    name: &'static str,
}

#[derive(Tree, Clone)]
struct Pair(Tensor, #[tree(skip)] usize, #[tree(state)] Tensor);

#[derive(Tree, Clone)]
struct Unit;

#[derive(Tree, Clone)]
enum Layer {
    Dense(Linear),
    Both(Tensor, Tensor),
    Named { gain: Tensor, r#type: Tensor },
    Nothing,
}

#[derive(Tree, Clone)]
struct Residual<L, const N: usize> {
    inner: L,
    rest: [L; N],
}

#[derive(Tree, Clone)]
struct Bounded<T: Clone>
where
    T: std::fmt::Debug,
{
    value: T,
}

#[derive(Tree, Clone)]
struct Model {
    layers: Vec<Layer>,
    norm: Norm,
    boxed: Box<Pair>,
    tables: BTreeMap<String, Vec<Tensor>>,
    hashed: HashMap<u8, Tensor>,
    tail: (Residual<Linear, 2>, Unit, Option<Tensor>),
    key: Key,
}

fn linear(v: f64, bias: bool) -> Linear {
    Linear { weight: t(v), bias: bias.then(|| t(v + 0.5)) }
}

fn model() -> Model {
    Model {
        layers: vec![
            Layer::Dense(linear(1.0, true)),
            Layer::Nothing,
            Layer::Both(t(2.0), t(3.0)),
            Layer::Named { gain: t(4.0), r#type: t(5.0) },
        ],
        norm: Norm { scale: t(6.0), mean: t(7.0), history: vec![(t(8.0), t(9.0))], epsilon: 1e-5, name: "n" },
        boxed: Box::new(Pair(t(10.0), 3, t(11.0))),
        tables: BTreeMap::from([("b".to_owned(), vec![t(13.0)]), ("a".to_owned(), vec![t(12.0)])]),
        hashed: (0..6).map(|i| (5 - i, t(20.0 - i as f64))).collect(),
        tail: (Residual { inner: linear(21.0, false), rest: [linear(22.0, true), linear(23.0, false)] }, Unit, None),
        key: Key::new(3),
    }
}

const PATHS: [&str; 26] = [
    "layers.0.0.weight",
    "layers.0.0.bias",
    "layers.2.0",
    "layers.2.1",
    "layers.3.gain",
    "layers.3.type",
    "norm.scale",
    "norm.mean",
    "norm.history.0.0",
    "norm.history.0.1",
    "boxed.0",
    "boxed.2",
    "tables.a.0",
    "tables.b.0",
    "hashed.0",
    "hashed.1",
    "hashed.2",
    "hashed.3",
    "hashed.4",
    "hashed.5",
    "tail.0.inner.weight",
    "tail.0.rest.0.weight",
    "tail.0.rest.0.bias",
    "tail.0.rest.1.weight",
    "key",
    "",
];

#[test]
fn paths_are_field_names_and_places() {
    assert_eq!(paths(&model()), PATHS[..25]);
    let state: Vec<String> =
        named_leaves(&model()).into_iter().filter(|leaf| leaf.1 == Role::State).map(|leaf| leaf.0).collect();
    assert_eq!(state, ["norm.mean", "norm.history.0.0", "norm.history.0.1", "boxed.2"]);
    assert_eq!(paths(&t(1.0)), [""]);
    assert!(paths(&()).is_empty());
    assert_eq!(paths(&Bounded { value: linear(1.0, false) }), ["value.weight"]);
}

#[test]
fn visits_and_maps_agree_in_order() {
    let model = model();
    let values: Vec<f64> = leaves(&model)[..24].iter().map(Tensor::item::<f64>).collect();
    let mut seen = Vec::new();
    let changed = map_named(&model, |path, _, leaf| {
        seen.push(path.to_owned());
        leaf.zeros_like()
    });
    assert_eq!(seen, PATHS[..25]);
    assert_eq!(changed.norm.name, "n");
    assert_eq!(changed.norm.epsilon, 1e-5);
    assert_eq!(changed.boxed.1, 3);
    let back = rebuild(&changed, &leaves(&model));
    assert_eq!(leaves(&back)[..24].iter().map(Tensor::item::<f64>).collect::<Vec<_>>(), values);
    let doubled = map(&back.tail.0, |leaf| leaf * 2.0);
    assert_eq!(doubled.rest[0].weight.item::<f64>(), 44.0);
}

#[test]
fn parameters_are_differentiated_and_state_is_carried() {
    let pair = Pair(t(2.0), 1, t(5.0));
    let g = grad(|p: &Pair| p.0.square() * &p.2, &pair);
    assert_eq!((g.0.item::<f64>(), g.1, g.2.item::<f64>()), (20.0, 1, 0.0));
    let next = zip_map(&pair, &g, |w, g| w - g * 0.1);
    assert_eq!((next.0.item::<f64>(), next.2.item::<f64>()), (0.0, 5.0));
    assert_eq!(parameter_count(&pair), 1);
    // State may be of any dtype; parameters may not.
    let counted = Pair(t(2.0), 1, Tensor::from(3i64));
    assert_eq!(grad(|p: &Pair| &p.0 * 3.0, &counted).0.item::<f64>(), 3.0);
    let wrong = Pair(Tensor::from(2i64), 1, t(1.0));
    let error = gradient(|p: &Pair| (p.2.clone(), ()), &wrong, Unreached::Zeros).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "grad: parameter 0 is i64, which has no derivative; mark it #[tree(state)] or cast it to a float"
    );
}

#[test]
fn all_transforms_take_trees() {
    let m = linear(2.0, true);
    let f = |m: &Linear| &m.weight * &m.weight * m.bias.as_ref().unwrap();
    let (y, pull) = vjp(f, &m);
    assert_eq!(y.item::<f64>(), 10.0);
    let g = pull(&t(2.0));
    assert_eq!((g.weight.item::<f64>(), g.bias.unwrap().item::<f64>()), (20.0, 8.0));
    let (_, slope) = jvp(f, &m, &linear(1.0, true));
    assert_eq!(slope.item::<f64>(), 10.0 + 4.0 * 1.5);
    let hv = hvp(f, &m, &linear(1.0, true));
    assert_eq!((hv.weight.item::<f64>(), hv.bias.unwrap().item::<f64>()), (5.0 + 4.0 * 1.5, 4.0));
    assert_eq!(hessian(f, &m).to_vec::<f64>(), [5.0, 4.0, 4.0, 0.0]);
    let j = jacobian(|m: &Linear| stack(&[&m.weight * 2.0, m.bias.clone().unwrap()], 0), &m);
    assert_eq!(j.weight.to_vec::<f64>(), [2.0, 0.0]);
    assert_eq!(j.bias.unwrap().to_vec::<f64>(), [0.0, 1.0]);
    let batch = Linear { weight: Tensor::from([1.0, 2.0]), bias: Some(Tensor::from([3.0, 4.0])) };
    let rows = vmap(|m: &Linear| (f(m), grad(f, m)), &batch);
    assert_eq!(rows.0.to_vec::<f64>(), [3.0, 16.0]);
    assert_eq!(rows.1.weight.to_vec::<f64>(), [6.0, 16.0]);
}

#[test]
fn every_dtype_comes_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let tree: BTreeMap<String, Tensor> = BTreeMap::from([
        ("f32".into(), Tensor::from([f32::NAN, -0.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY])),
        ("f64".into(), Tensor::from([[f64::NAN, -0.0], [5e-324, f64::NEG_INFINITY]])),
        ("bf16".into(), Tensor::from([half::bf16::from_f32(1.5), half::bf16::NAN])),
        ("f16".into(), Tensor::from([half::f16::from_f32(-2.5), half::f16::MAX])),
        ("i32".into(), Tensor::from([i32::MIN, i32::MAX])),
        ("i64".into(), Tensor::from([i64::MIN, i64::MAX])),
        ("u8".into(), Tensor::from([0u8, 255])),
        ("bool".into(), Tensor::from([true, false, true])),
        ("scalar".into(), Tensor::from(4.0f32)),
        ("empty".into(), Tensor::zeros([0, 3], DType::F32)),
        ("dotted.name.0".into(), Tensor::from(1.0)),
        ("ünïcode \" \\ \n".into(), Tensor::from(2.0)),
    ]);
    save(&tree, &path).unwrap();
    let template: BTreeMap<String, Tensor> =
        tree.iter().map(|(k, v)| (k.clone(), Tensor::zeros(v.shape(), v.dtype()))).collect();
    let back = load(&template, &path).unwrap();
    for (name, tensor) in &tree {
        assert_eq!(back[name].ty(), tensor.ty(), "{name}");
        let want = tensor.eval();
        assert_eq!(back[name].storage().unwrap().bytes(), want.storage().unwrap().bytes(), "{name}");
    }
    // Expressions are computed before they are written, and the model comes back as it was.
    let path = folder.path().join("model.safetensors");
    save(&model(), &path).unwrap();
    let back = load(&map(&model(), |leaf| leaf.zeros_like()), &path).unwrap();
    assert_eq!(back.hashed[&3].item::<f64>(), 18.0);
    assert_eq!(back.norm.name, "n");
    // Written twice, the bytes are the same.
    let first = std::fs::read(&path).unwrap();
    save(&back, &path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
}

#[test]
fn a_name_used_twice_is_an_error_not_a_loss() {
    // A map key with a dot can spell the path of another leaf.
    let tree = BTreeMap::from([
        ("a".to_owned(), BTreeMap::from([("b.c".to_owned(), t(1.0))])),
        ("a.b".to_owned(), BTreeMap::from([("c".to_owned(), t(2.0))])),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let error = save(&tree, folder.path().join("twice.safetensors")).unwrap_err().to_string();
    assert!(error.contains("a.b.c"), "{error}");
}
