//! Optimizers and schedules against PyTorch (`goldens/optimizers.json`, made by the script beside it), and how
//! optimizers treat state.

use chainrule::prelude::*;
use chainrule::tree::leaves;
use chainrule_nn::prelude::*;
use serde_json::Value;

type Model = [Tensor; 3];

fn golden() -> Value {
    serde_json::from_str(include_str!("goldens/optimizers.json")).expect("json")
}

fn numbers(json: &Value) -> Vec<f64> {
    json.as_array().expect("list").iter().map(|v| v.as_f64().expect("number")).collect()
}

fn weights(json: &Value) -> Model {
    let shapes: [&[usize]; 3] = [&[3, 4], &[3], &[2, 3]];
    std::array::from_fn(|i| Tensor::from_vec(numbers(&json[i]), shapes[i]))
}

/// The model of the script: tanh(x·Wᵀ + b)·Vᵀ, and its squared error.
fn problem(golden: &Value) -> (Model, impl Fn(&Model) -> Tensor + Clone + use<>) {
    let x = Tensor::from_vec(numbers(&golden["inputs"]), [6, 4]);
    let y = Tensor::from_vec(numbers(&golden["targets"]), [6, 2]);
    let loss = move |w: &Model| mean_squared_error(&(x.matmul(&w[0].t()) + &w[1]).tanh().matmul(&w[2].t()), &y);
    (weights(&golden["start"]), loss)
}

fn far(got: &[f64], want: &[f64], tolerance: f64) -> Option<String> {
    let wrong = |(got, want): (&f64, &f64)| got.is_nan() || (got - want).abs() > tolerance * want.abs().max(1e-3);
    let place = got.iter().zip(want).position(wrong)?;
    Some(format!("number {place} is {}, not {}", got[place], want[place]))
}

#[test]
fn fifty_steps_are_pytorchs() {
    let golden = golden();
    let (start, loss) = problem(&golden);
    let mut failures = Vec::new();
    for row in golden["optimizers"].as_array().expect("rows") {
        let settings: OptimizerSettings = serde_json::from_value(row["settings"].clone()).expect("settings");
        let (loss, clip) = (loss.clone(), row["clip"].as_f64());
        let mut step = compile(move |(w, optimizer): &(Model, AnyOptimizer<Model>)| {
            let (value, gradient) = value_and_grad(&loss, w);
            let gradient = clip.map_or(gradient.clone(), |max| clip_norm(&gradient, max).0);
            (optimizer.update(w, &gradient), value)
        });
        let mut state = (start.clone(), settings.build(&start, 50).expect("settings"));
        let mut losses = Vec::new();
        for _ in 0..50 {
            let value;
            (state, value) = step.run(state).unwrap();
            losses.push(value.item::<f64>());
        }
        let ends: Vec<f64> = state.0.iter().flat_map(|w| w.to_vec::<f64>()).collect();
        let want: Vec<f64> = (0..3).flat_map(|i| numbers(&row["weights"][i])).collect();
        let wrong = far(&losses, &numbers(&row["losses"]), 1e-6).map(|why| format!("loss {why}"));
        failures.extend(wrong.or(far(&ends, &want, 1e-6)).map(|why| format!("{}: {why}", row["settings"])));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn fifty_rates_are_pytorchs() {
    let golden = golden();
    let mut failures = Vec::new();
    for row in golden["schedules"].as_array().expect("rows") {
        let settings: ScheduleSettings = serde_json::from_value(row["settings"].clone()).expect("settings");
        let total = if row["settings"]["name"] == "one_cycle" { 51 } else { 50 };
        let schedule = settings.build(row["rate"].as_f64().expect("rate"), total).expect("settings");
        let rates: Vec<Tensor> = (0..50i64).map(|step| schedule.rate(&Tensor::from(step))).collect();
        let rates: Vec<f64> = eval_all(&rates).iter().map(Tensor::item::<f64>).collect();
        failures.extend(far(&rates, &numbers(&row["rates"]), 1e-9).map(|why| format!("{}: {why}", row["settings"])));
    }
    for row in golden["plateaus"].as_array().expect("rows") {
        let settings: PlateauSettings = serde_json::from_value(row["settings"].clone()).expect("settings");
        let mut plateau = Plateau::new(settings);
        let mut look = compile(|(plateau, figure): &(Plateau, Tensor)| {
            let plateau = plateau.observe(figure);
            let rate = plateau.apply(&Tensor::from(0.3));
            (plateau, rate)
        });
        let mut rates = Vec::new();
        for figure in numbers(&row["figures"]) {
            let rate;
            (plateau, rate) = look.run((plateau, Tensor::from(figure))).unwrap();
            rates.push(rate.item::<f64>());
        }
        failures.extend(far(&rates, &numbers(&row["rates"]), 1e-9).map(|why| format!("{}: {why}", row["settings"])));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn clipping_is_pytorchs() {
    let clips = &golden()["clips"];
    let tensor = |name: &str| Tensor::from_vec(numbers(&clips[name]), [4, 3, 2]);
    let (w, g) = (tensor("weights"), tensor("gradients"));
    for (name, got) in [
        ("value", clip_value(&g, 0.5)),
        ("norm", clip_norm_each(&g, 0.5)),
        ("norm", clip_norm(&g, 0.5).0),
        ("adaptive", clip_adaptive(&w, &g, 0.01)),
    ] {
        assert_eq!(far(&got.to_vec::<f64>(), &numbers(&clips[name]), 1e-9), None, "{name}");
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let model = [Tensor::from([[1.0]]), Tensor::from([1.0])];
    for (json, setting, part) in [
        (r#"{"name":"adan","rate":1}"#, "name", "unknown variant `adan`, expected one of `sgd`, `adam`"),
        (r#"{"name":"adam","rate":1,"momentum":1}"#, "momentum", "expected one of `betas`, `epsilon`, `amsgrad`"),
        (r#"{"name":"adam","rate":0}"#, "rate", "above 0"),
        (r#"{"name":"adam","rate":1,"betas":[0.9,1.0]}"#, "betas", "less than 1"),
        (r#"{"name":"sgd","rate":1,"nesterov":true}"#, "nesterov", "needs momentum"),
        (r#"{"name":"sgd","rate":1,"weight_decay":-1}"#, "weight_decay", "not negative"),
        (r#"{"name":"sgd","rate":1,"groups":{"*bias":{"rate":2}}}"#, "groups", "matches \"*bias\"; there are 0, 1"),
        (r#"{"name":"sgd","rate":1,"groups":{"1":{"rate":-2}}}"#, "groups.1.rate", "not negative"),
        (r#"{"name":"sgd","rate":1,"plateau":{"factor":2}}"#, "plateau.factor", "less than 1"),
        (r#"{"name":"sgd","rate":1,"schedule":{"name":"cosine","floor":-1}}"#, "floor", "not negative"),
        (r#"{"name":"sgd","rate":1,"schedule":{"name":"one_cycle","rise":1.5}}"#, "rise", "less than 1"),
        (r#"{"name":"sgd","rate":1,"schedule":{"name":"step","every":0}}"#, "every", "at least 1"),
        (r#"{"name":"sgd","rate":1,"schedule":{"name":"one_cycle","momentum":[0.8,0.9]}}"#, "momentum", "sgd has none"),
        (r#"{"name":"adam","rate":1,"schedule":{"name":"one_cycle","momentum":[0.9,0.8]}}"#, "momentum", "lower first"),
    ] {
        let settings: OptimizerSettings = serde_json::from_str(json).expect("form");
        let error = settings.build(&model, 10).expect_err(json);
        assert!(error.setting == setting && error.message.contains(part), "{json}: {error}");
    }
    for json in [
        r#"{"name":"sgd","rate":1,"schedule":{"name":"cosine","gamma":0.1}}"#,
        r#"{"name":"sgd","rate":1,"groups":{"*":{"speed":2}}}"#,
        r#"{"name":"sgd","rate":1,"plateau":{"speed":2}}"#,
        r#"{"name":"sgd"}"#,
    ] {
        assert!(serde_json::from_str::<OptimizerSettings>(json).is_err(), "{json}");
    }
}

#[derive(Tree, Clone)]
struct Counted {
    line: Linear,
    #[tree(state)]
    seen: Tensor,
}

fn counted() -> Counted {
    Counted { line: Linear::new(&Key::new(1), 2, 3), seen: Tensor::from([7i64, 8]) }
}

fn keeps_state<O: Optimizer<Counted>>(optimizer: O) -> O {
    let model = counted();
    let loss = |m: &Counted| m.line.forward(&Tensor::ones([4, 2], DType::F32)).square().sum(..);
    let (_, grads) = value_and_grad(loss, &model);
    let (next, optimizer) = optimizer.update(&model, &grads);
    assert_eq!(next.seen.to_vec::<i64>(), [7, 8]);
    assert_ne!(next.line.weight.to_vec::<f32>(), model.line.weight.to_vec::<f32>());
    optimizer
}

#[test]
fn state_is_untouched_and_not_kept_twice() {
    let model = counted();
    let adam = keeps_state(Adam::new(&model, 0.1));
    assert_eq!(
        paths(&adam),
        ["step", "m.line.weight", "m.line.bias", "m.seen", "v.line.weight", "v.line.bias", "v.seen"]
    );
    let moment = |name| adam.moment(name).expect(name);
    assert_eq!((moment("m").seen.shape(), moment("v").seen.numel()), (&[0usize][..], 0));
    let sgd = keeps_state(Sgd::new(&model, 0.1).with(|sgd| sgd.momentum = 0.9));
    assert_eq!(paths(&sgd), ["step", "buffer.line.weight", "buffer.line.bias", "buffer.seen"]);
    let nadam = keeps_state(NAdam::new(&model, 0.1).on_plateau(Plateau::new(PlateauSettings::default())));
    assert_eq!(
        paths(&nadam)[..6],
        ["step", "plateau.best", "plateau.bad", "plateau.wait", "plateau.scale", "carried"].map(String::from)
    );
    for name in ["sgd", "adamw", "radam", "rmsprop", "adagrad", "adadelta", "lion", "lamb", "muon"] {
        keeps_state(OptimizerSettings::new(name, 0.1).build(&model, 1).expect(name));
    }
    // All of it is state to a gradient, and a checkpoint takes it as it is.
    assert_eq!(parameter_count(&adam), 0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adam.safetensors");
    save(&adam, &path).unwrap();
    let back = load(&Adam::new(&model, 0.5), &path).unwrap();
    assert_eq!(back.step.item::<i64>(), 1);
    assert_eq!(leaves(&back).len(), 7);
}

#[test]
fn what_is_frozen_has_no_moments() {
    let model = counted();
    let adam = Adam::new(&model, 0.1).group("*bias", chainrule_nn::optimizer::Group::frozen());
    let moment = adam.moment("v").expect("v");
    assert_eq!((moment.line.weight.numel(), moment.line.bias.as_ref().map(Tensor::numel)), (6, Some(0)));
    let (next, _) = adam.update(&model, &model);
    let bias = |model: &Counted| model.line.bias.as_ref().expect("bias").to_vec::<f32>();
    assert_eq!(bias(&next), bias(&model));
}

#[test]
fn a_gradient_goes_through_steps_of_descent() {
    // One step of descent on w²/2 with rate η: w(1 − η); the derivative by the start is 1 − η, by nothing else.
    let through = |w: &Tensor| {
        let sgd = Sgd::new(w, 0.25);
        let g = grad(|w: &Tensor| w.square() * 0.5, w);
        sgd.update(w, &g).0
    };
    assert_eq!(grad(through, &Tensor::from(3.0)).item::<f64>(), 0.75);
}

#[test]
fn a_compiled_step_is_traced_once() {
    let traced = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = traced.clone();
    let model = Mlp::new(&Key::new(1), &[3, 4, 2]);
    let adam = Adam::new(&model, Schedule::cosine(0.1, 0.0, 10).warm_up(3));
    let mut step = compile(move |(model, adam): &(Mlp, Adam<Mlp>)| {
        count.set(count.get() + 1);
        let x = Tensor::ones([2, 3], DType::F32);
        let grads = grad(|m: &Mlp| m.forward(&x).square().mean(..), model);
        adam.update(model, &grads)
    });
    let (_, adam) = (0..6).fold((model, adam), |state, _| step.run(state).unwrap());
    assert_eq!((traced.get(), adam.step.item::<i64>()), (1, 6));
}

#[test]
fn an_update_is_one_pass_over_each_parameter() {
    // Whatever the rule, all work on elements of a parameter is in one fused operation; numbers and norms are beside it.
    let w = vec![Tensor::ones([100, 50], DType::F32), Tensor::ones([300], DType::F32)];
    for name in ["sgd", "adam", "adamw", "nadam", "radam", "rmsprop", "adagrad", "adadelta", "lion"] {
        let optimizer: AnyOptimizer<Vec<Tensor>> =
            OptimizerSettings { weight_decay: Some(0.1), ..OptimizerSettings::new(name, 0.1) }
                .build(&w, 1)
                .expect(name);
        let mut step =
            compile(|(w, g, optimizer): &(Vec<Tensor>, Vec<Tensor>, AnyOptimizer<Vec<Tensor>>)| optimizer.update(w, g));
        let plan = step.plan(&(w.clone(), w.clone(), optimizer)).to_string();
        let passes = plan.lines().filter(|line| line.contains("[100,50] <-") || line.contains("[300] <-")).count();
        assert_eq!(passes, 2, "{name}:\n{plan}");
    }
}
