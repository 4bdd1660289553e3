//! What a supervised step does beside the plain one: parts, precision, averages, limits, plateaus.

use chainrule::prelude::*;
use chainrule::tree;
use chainrule_nn::layer::BatchNorm;
use chainrule_nn::precision::Precision;
use chainrule_nn::prelude::*;
use chainrule_train::data::Batch;
use chainrule_train::task::{Averaging, Clip, Fit, Metric, Numbers, Objective, Supervised, Task};

#[derive(Tree, Clone)]
struct Net {
    hidden: Linear,
    norm: BatchNorm,
    out: Linear,
}

type Plain = Supervised<Net, Adam<Net>>;
type State = Fit<Net, Adam<Net>>;

fn net() -> Net {
    let [a, b] = Key::new(3).split();
    let net = Net { hidden: Linear::new(&a, 6, 32), norm: BatchNorm::new(32), out: Linear::new(&b, 32, 3) };
    tree::map(&net, Tensor::eval)
}

fn objective(norm: bool) -> Objective<Net> {
    let forward = move |net: &mut Net, batch: &Batch, context: &mut Context| {
        let (x, mut evaluation) = (net.hidden.forward(batch.input()), Context::evaluation());
        let x = net.norm.forward(&x, if norm { context } else { &mut evaluation });
        net.out.forward(&x.relu())
    };
    Objective::new(forward, |logits, batch| logits.cross_entropy(batch.target())).metrics([Metric::Accuracy])
}

fn batch(rows: usize) -> Batch {
    let x = Key::new(1).normal([rows, 6], DType::F32);
    Batch::new(x.eval(), x.narrow(1, 0, 3).argmax(-1).eval())
}

/// So many compiled steps on one batch, and the numbers of the last.
fn steps(task: &Plain, batch: &Batch, count: i64) -> (State, Numbers) {
    let net = net();
    let mut state = task.start(net.clone(), Adam::new(&net, 0.02));
    let mut step = compile(|(state, batch, n): &(State, Batch, Tensor)| task.step(state, batch, &Key::new(0).fold(n)));
    let mut numbers = Numbers::default();
    for n in 0..count {
        let (next, measures) = step.run((state, batch.clone(), Tensor::from(n))).unwrap();
        (state, numbers) = (next, measures.totals().numbers());
    }
    (state, numbers)
}

fn distance(a: &impl Tree, b: &impl Tree) -> f64 {
    let far = |(a, b): (Tensor, Tensor)| (a.cast(DType::F64) - b.cast(DType::F64)).abs().max(..).item::<f64>();
    tree::leaves(a).into_iter().zip(tree::leaves(b)).map(far).fold(0.0, f64::max)
}

#[test]
fn a_batch_in_parts_is_the_whole_batch() {
    let whole = steps(&Supervised::new(objective(false)), &batch(24), 3);
    // 24 rows in 3 parts; asked for 7, they are cut into 6.
    for parts in [3, 7] {
        let cut = steps(&Supervised::new(objective(false)).accumulate(parts), &batch(24), 3);
        assert!(distance(&whole.0.model, &cut.0.model) < 1e-4, "{parts}");
        assert_eq!(whole.1.get("accuracy"), cut.1.get("accuracy"));
        assert!((whole.1.get("loss").unwrap() - cut.1.get("loss").unwrap()).abs() < 1e-5);
    }
    // Running statistics go through all parts.
    let cut = steps(&Supervised::new(objective(true)).accumulate(4), &batch(24), 2);
    assert_eq!(cut.0.model.norm.num_batches_tracked.item::<i64>(), 8);
}

#[test]
fn half_precision_learns_and_keeps_its_weights_and_statistics_whole() {
    let (_, full) = steps(&Supervised::new(objective(true)), &batch(64), 60);
    for precision in [Precision::Bf16, Precision::F16] {
        let task = Supervised::new(objective(true).precision(precision));
        let (state, numbers) = steps(&task, &batch(64), 60);
        let types: Vec<DType> = tree::leaves(&state.model).iter().map(|leaf| leaf.dtype()).collect();
        assert!(types.iter().all(|dtype| [DType::F32, DType::I64].contains(dtype)), "{types:?}");
        assert!((numbers.get("accuracy").unwrap() - full.get("accuracy").unwrap()).abs() < 0.05, "{numbers:?}");
        assert!((numbers.get("loss").unwrap() - full.get("loss").unwrap()).abs() < 0.02, "{numbers:?} {full:?}");
        assert_eq!(state.scale.is_some(), precision == Precision::F16);
        let evaluated = task.evaluate(&state, &batch(64)).totals().numbers();
        assert!(evaluated.get("accuracy").unwrap() > 0.9, "{evaluated:?}");
    }
}

#[test]
fn a_step_that_overflows_is_skipped_and_is_no_error() {
    let task: Plain = Supervised::new(objective(false).precision(Precision::F16));
    let net = net();
    let mut start = task.start(net.clone(), Adam::new(&net, 0.02));
    // With such a scale no gradient fits f16.
    start.scale.as_mut().unwrap().scale = Tensor::from(1e30f32);
    let (state, measures) = task.step(&start, &batch(16), &Key::new(0));
    let totals = measures.totals();
    assert_eq!((totals.not_finite(), totals.numbers().get("gradient_norm")), (None, Some(0.0)));
    assert_eq!((distance(&state.model, &net), state.optimizer.step.item::<i64>()), (0.0, 0));
    assert_eq!(state.scale.unwrap().scale.item::<f32>(), 5e29);
}

#[test]
fn the_average_is_what_is_evaluated_and_kept() {
    let task = Supervised::new(objective(true)).average(Averaging::Exponential(0.5));
    let (state, _) = steps(&task, &batch(16), 4);
    assert!(distance(&state.model, state.best_model()) > 1e-3);
    let kept = task.model(&state);
    assert_eq!(kept["out.weight"].to_vec::<f32>(), state.best_model().out.weight.to_vec::<f32>());
    let objective = objective(true);
    let expected = objective.evaluate(state.best_model(), &batch(8)).totals();
    assert_eq!(task.evaluate(&state, &batch(8)).totals(), expected);
    assert_ne!(objective.evaluate(&state.model, &batch(8)).totals(), expected);
}

#[test]
fn every_limit_limits() {
    let gradient = (Tensor::from([30.0f32, 40.0]), Tensor::from([0.5f32]));
    let model = (Tensor::from([3.0f32, 4.0]), Tensor::from([1.0f32]));
    let cases = [
        (Clip::Value(1.0), [1.0, 1.0, 0.5]),
        (Clip::Norm(5.0), [2.99985, 3.9998, 0.049997]),
        (Clip::NormEach(5.0), [3.0, 4.0, 0.5]),
    ];
    for (clip, expected) in cases {
        let limited = clip.apply(&model, &gradient);
        let found = [limited.0.to_vec::<f32>(), limited.1.to_vec::<f32>()].concat();
        let near = found.iter().zip(expected).all(|(a, b)| (*a as f64 - b).abs() < 1e-3);
        assert!(near, "{clip:?}: {found:?}");
    }
    assert!(Clip::Adaptive(0.01).apply(&model, &gradient).0.to_vec::<f32>()[0] < 1.0);
}
