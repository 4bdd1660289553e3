//! A digits network trained in bf16 and in f16 against the same one in f32: weights are kept in f32 in all three.

use chainrule::prelude::*;
use chainrule_nn::precision::only_if;
use chainrule_nn::prelude::*;
use chainrule_train::digits::{Digits, Examples, PIXELS};

const BATCH: usize = 64;
const EPOCHS: usize = 30;

type State = (Mlp, Adam<Mlp>, LossScale);

fn tensors(examples: &Examples) -> (Tensor, Tensor) {
    let images = Tensor::from_vec(examples.images.clone(), [examples.len(), PIXELS]);
    (images, Tensor::from_vec(examples.labels.clone(), [examples.len()]))
}

fn logits(precision: Precision, model: &Mlp, images: &Tensor) -> Tensor {
    Precision::widen(&precision.cast(model).forward(&precision.cast(images)))
}

/// One compiled step: a scaled loss, and nothing changes where a gradient is not finite.
fn step(precision: Precision, (model, adam, scale): &State, (images, labels): &(Tensor, Tensor)) -> State {
    let loss = |model: &Mlp| scale.scale(&cross_entropy(&logits(precision, model, images), labels));
    let (finite, gradient) = scale.unscale(&grad(loss, model));
    let after = adam.update(model, &gradient);
    let (model, adam) = only_if(&finite, &after, &(model.clone(), adam.clone()));
    (model, adam, scale.update(&finite))
}

/// Right answers on the test part, and what the scale became.
fn train(precision: Precision, seed: u64) -> (usize, f32) {
    let digits = Digits::load().unwrap();
    let (train, test) = (digits.train(), tensors(&digits.test()));
    let [weights, order] = Key::new(seed).split();
    let model = Mlp::new(&weights, &[PIXELS, 64, 10]);
    let adam = Adam::new(&model, Schedule::cosine(5e-3, 0.0, (EPOCHS * (train.len() / BATCH)) as u64));
    let mut state = (model, adam, LossScale::new(2f32.powi(20), 200));
    let mut run = compile(move |(state, batch): &(State, (Tensor, Tensor))| step(precision, state, batch));
    for epoch in 0..EPOCHS {
        let shuffled = order.fold(&Tensor::from(epoch as i64)).permutation(train.len()).to_vec::<i64>();
        for rows in shuffled.chunks_exact(BATCH) {
            let rows: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
            state = run.run((state, tensors(&train.select(&rows)))).unwrap();
        }
    }
    let steps = EPOCHS * (train.len() / BATCH);
    let taken = state.1.step.item::<i64>() as usize;
    // f16 begins with a scale that is too large for it: those steps were skipped.
    assert_eq!(precision == Precision::F16, taken < steps, "{precision:?} took {taken} of {steps} steps");
    let right = logits(precision, &state.0, &test.0).argmax(-1).equal(&test.1).cast(DType::I64).sum(..);
    (right.item::<i64>() as usize, state.2.scale.item::<f32>())
}

#[test]
fn half_precision_reaches_the_same_accuracy() {
    let test = Digits::load().unwrap().test().len();
    let percent = |precision| {
        let runs = [1, 2, 3].map(|seed| train(precision, seed));
        100.0 * runs.iter().map(|run| run.0).sum::<usize>() as f64 / (3 * test) as f64
    };
    let whole = percent(Precision::F32);
    assert!(whole > 96.0, "f32 reaches {whole} %");
    for precision in [Precision::Bf16, Precision::F16] {
        let half = percent(precision);
        assert!((half - whole).abs() <= 0.3, "{precision:?} reaches {half} %, f32 {whole} %");
    }
}
