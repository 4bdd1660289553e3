//! Five steps of each optimizer against numbers from `make_optimizer_goldens.py`, and how they treat state.

use chainrule::prelude::*;
use chainrule::tree::leaves;
use chainrule_nn::prelude::*;

fn loss(w: &Tensor) -> Tensor {
    (Tensor::from([1.0, 0.1, 10.0]) * w.square()).sum(..) * 0.5 + w.sin().sum(..)
}

/// Five steps, each by hand and as one compiled program.
fn check<O: Optimizer<Tensor> + Clone>(name: &str, start: impl Fn(&Tensor) -> O, clip: Option<f64>, want: [f64; 3]) {
    let step = move |(w, optimizer): &(Tensor, O)| {
        let gradient = grad(loss, w);
        let gradient = clip.map_or(gradient.clone(), |max| clip_norm(&gradient, max).0);
        optimizer.update(w, &gradient)
    };
    let w = Tensor::from([1.0, -2.0, 0.5]);
    let first = (w.clone(), start(&w));
    let by_hand = (0..5).fold(first.clone(), |state, _| step(&state));
    let mut compiled = compile(step);
    let at_once = (0..5).fold(first, |state, _| compiled.run(state).unwrap());
    for (how, w) in [("by hand", by_hand.0), ("compiled", at_once.0)] {
        for (got, want) in w.to_vec::<f64>().into_iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{name}, {how}: {got} against {want}");
        }
    }
}

#[test]
fn five_steps_are_pytorchs() {
    let sgd = || Sgd::new(0.05);
    check("sgd", |_| sgd(), None, [0.6236073463083404, -1.8609810570199103, -0.08061602706029009]);
    let want = [0.02269799329410971, -1.6425267457481687, -0.3974548098672367];
    check("momentum", |w| sgd().momentum(0.9, w), None, want);
    let want = [-0.24983385081577514, -1.4596298509726422, -0.10009669675438293];
    check("nesterov", |w| sgd().momentum(0.9, w).nesterov().weight_decay(0.1), None, want);
    let want = [0.5008164060829108, -1.5205276110638324, 0.01888617115462722];
    check("adam", |w| Adam::new(w, 0.1), None, want);
    let want = [0.5021033466608565, -1.5220280502535415, 0.02805779444364899];
    check("adam decay", |w| Adam::new(w, 0.1).betas(0.8, 0.99).epsilon(1e-6).weight_decay(0.1), None, want);
    let want = [0.46181935713471156, -1.4411030290859377, 0.005612546717007491];
    check("adamw", |w| Adam::decoupled(w, 0.1).weight_decay(0.1), None, want);
    let want = [0.7245136677969644, -1.7252768052868666, 0.22517381826597196];
    check("schedule and clipping", |w| Adam::new(w, Schedule::cosine(0.1, 0.01, 4)), Some(1.0), want);
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
    assert_eq!((adam.m.seen.shape(), adam.v.seen.numel()), (&[0usize][..], 0));
    let sgd = keeps_state(Sgd::new(0.1).momentum(0.9, &model));
    assert_eq!(paths(&sgd), ["step", "buffer.line.weight", "buffer.line.bias", "buffer.seen"]);
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
fn a_gradient_goes_through_steps_of_descent() {
    // One step of descent on w²/2 with rate η: w(1 − η); the derivative by the start is 1 − η, by nothing else.
    let through = |w: &Tensor| {
        let sgd = Sgd::new(0.25);
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
