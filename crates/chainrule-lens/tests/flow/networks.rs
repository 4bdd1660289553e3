//! Networks that are broken on purpose, with what each must be diagnosed by, and healthy ones.

use chainrule::prelude::*;
use chainrule_lens::flow::Diagnosis;
use chainrule_lens::{FlowOptions, GradientFlow};
use chainrule_nn::prelude::*;

pub const CLASSES: usize = 4;

pub fn batch(features: usize) -> (Tensor, Tensor) {
    let x = Key::new(100).normal([24, features], DType::F32).eval();
    (x, Tensor::from_vec((0..24).map(|i| (i % CLASSES) as i64).collect::<Vec<_>>(), [24]))
}

/// Linear layers of one width with weights of the standard deviation gain/√inputs, and no biases' spread.
pub fn deep(depth: usize, width: usize, gain: f64) -> Mlp {
    let mut model = Mlp::new(&Key::new(1), &[vec![width; depth], vec![CLASSES]].concat());
    for (i, layer) in model.layers.iter_mut().enumerate() {
        let shape = layer.weight.shape().to_vec();
        let noise = Key::new(2).fold(&Tensor::from(i as i64)).normal(&shape[..], DType::F32);
        layer.weight = (noise * (gain / (shape[1] as f64).sqrt())).eval();
        layer.bias = Some(Tensor::zeros([shape[0]], DType::F32));
    }
    model
}

/// The network with an activation between each two layers.
pub fn through(model: &Mlp, x: &Tensor, activation: fn(&Tensor) -> Tensor) -> Tensor {
    let mut x = x.clone();
    for (i, layer) in model.layers.iter().enumerate() {
        x = layer.forward(&if i == 0 { x } else { activation(&x) });
    }
    x
}

pub fn classify(model: &Mlp, activation: fn(&Tensor) -> Tensor) -> GradientFlow {
    let (x, y) = batch(model.layers[0].weight.size(1));
    GradientFlow::observe(|m: &Mlp| through(m, &x, activation).cross_entropy(&y), model)
}

fn with(model: &Mlp, loss: impl Fn(&Mlp, &Tensor, &Tensor) -> Tensor) -> GradientFlow {
    let (x, y) = batch(model.layers[0].weight.size(1));
    GradientFlow::observe(|m: &Mlp| loss(m, &x, &y), model)
}

/// A rate some times beyond 2/λ.
fn beyond(times: f64, options: FlowOptions) -> GradientFlow {
    let model = deep(3, 16, 1.4);
    let look = FlowOptions { curvature: true, ..FlowOptions::default() };
    let eigenvalue = stepping(look.clone(), &model).largest_eigenvalue.expect("a curvature");
    stepping(FlowOptions { learning_rate: Some(times * 2.0 / eigenvalue), curvature: true, ..options }, &model)
}

/// A model after some steps of Adam on batches in turn.
fn trained<T: Tree + Clone, B: Tree + Clone>(model: &T, loss: impl Fn(&T, &B) -> Tensor, batches: &[B]) -> T {
    let mut step = compile(|(model, adam, batch): &(T, Adam<T>, B)| {
        let slopes = grad(|model: &T| loss(model, batch), model);
        adam.update(model, &slopes)
    });
    let (mut model, mut adam) = (model.clone(), Adam::new(model, 0.01));
    for number in 0..200 {
        (model, adam) = step.run((model, adam, batches[number % batches.len()].clone())).expect("a step");
    }
    model
}

/// Batches of faint patterns in noise, each of one class only or of all.
fn patterns(sorted: bool) -> Vec<(Tensor, Tensor)> {
    let patterns = Key::new(50).normal([CLASSES, 16], DType::F32) * 0.25;
    let one = |number: usize| {
        let class = |i: usize| ((if sorted { number } else { i }) % CLASSES) as i64;
        let y = Tensor::from_vec((0..24).map(class).collect::<Vec<_>>(), [24]);
        let noise = Key::new(60 + number as u64).normal([24, 16], DType::F32);
        ((patterns.gather(&y, 0) + noise).eval(), y)
    };
    (0..40).map(one).collect()
}

/// A network that adds the mean of the batch to each example, trained on batches of one class each.
fn leaking(sorted: bool) -> GradientFlow {
    let loss = |m: &Mlp, (x, y): &(Tensor, Tensor)| {
        let h = m.layers[0].forward(x);
        m.layers[1].forward(&(&h + h.mean_keepdims(0) * 3.0).relu()).cross_entropy(y)
    };
    let batches = patterns(sorted);
    let model = trained(&Mlp::new(&Key::new(3), &[16, 16, CLASSES]), loss, &batches);
    GradientFlow::observe_batches(&FlowOptions::default(), loss, &model, &batches[..4])
}

type Normed = (Linear, BatchNorm, Linear);

/// Batch norm, trained, with running statistics as they started or counted.
fn normed(counted: bool) -> GradientFlow {
    let pass = |m: &mut Normed, (x, y): &(Tensor, Tensor), context: &mut Context| {
        let h = m.0.forward(&(x * 0.3 + 2.0));
        let h = m.1.forward(&h, context).relu();
        m.2.forward(&h).cross_entropy(y)
    };
    let loss = |m: &Normed, batch: &(Tensor, Tensor)| pass(&mut m.clone(), batch, &mut Context::training(Key::new(1)));
    let batches = patterns(false);
    let start = (Linear::new(&Key::new(3), 16, 32), BatchNorm::new(32), Linear::new(&Key::new(4), 32, CLASSES));
    let mut model = trained(&start, loss, &batches);
    if counted {
        for batch in batches.iter().cycle().take(60) {
            pass(&mut model, batch, &mut Context::training(Key::new(1)));
            model = chainrule::tree::map(&model, Tensor::eval);
        }
    }
    let look = |batch| pass(&mut model.clone(), batch, &mut Context::evaluation()).to_f64();
    let evaluated = batches[..4].iter().map(look).sum::<f64>() / 4.0;
    GradientFlow::observe_batches(&FlowOptions::default(), loss, &model, &batches[..4]).with_evaluation(evaluated)
}

/// A walk over 60 steps whose last state is classified.
fn walk(gain: Option<f64>, options: FlowOptions) -> GradientFlow {
    let mut rnn = Rnn::new(&Key::new(5), 4, 24);
    if let Some(gain) = gain {
        let weight = &mut rnn.layers[0].forward.weight_hh;
        *weight = init::orthogonal(&Key::new(6), weight.shape(), init::Gain::Factor(gain), DType::F32).eval();
    }
    let model = (rnn, Linear::new(&Key::new(7), 24, CLASSES));
    let (x, y) = (Key::new(8).normal([24, 60, 4], DType::F32).eval() * 0.1, batch(1).1);
    let loss = |m: &(Rnn, Linear)| {
        let all = m.0.forward(&x, None, None, &mut Context::evaluation()).0;
        m.1.forward(&all.at((.., -1, ..))).cross_entropy(&y)
    };
    GradientFlow::observe_with(&options, loss, &model)
}

/// The same in another float.
fn narrow(dtype: DType, options: FlowOptions, kept: bool, between: fn(&Tensor) -> Tensor) -> GradientFlow {
    let cast = move |m: &Mlp| chainrule::tree::map(m, |w| w.cast(dtype));
    let (x, y) = batch(16);
    let loss = move |m: &Mlp, (x, y): &(Tensor, Tensor)| {
        let m = cast(m);
        let h = between(&m.layers[0].forward(&x.cast(dtype)));
        m.layers[2].forward(&m.layers[1].forward(&h.relu()).relu()).cast(DType::F32).cross_entropy(y)
    };
    let model = deep(3, 16, 1.4);
    let model = if kept { chainrule::tree::map(&model, |w| w.cast(dtype).eval()) } else { model };
    GradientFlow::observe_batches(&options, loss, &model, &[(x, y)])
}

fn stepping(options: FlowOptions, model: &Mlp) -> GradientFlow {
    let (x, y) = batch(model.layers[0].weight.size(1));
    GradientFlow::observe_with(&options, |m: &Mlp| through(m, &x, Tensor::relu).cross_entropy(&y), model)
}

/// Scores of one head over 24 places, divided by a number.
fn attention(scale: f64, size: f64) -> GradientFlow {
    let model: Vec<Linear> = (0..4).map(|i| Linear::new(&Key::new(20 + i), 16, 16)).collect();
    let model: Vec<Linear> = model.iter().map(|l| Linear { weight: (&l.weight * size).eval(), ..l.clone() }).collect();
    let (x, y) = batch(16);
    let loss = |m: &Vec<Linear>| {
        let [q, k, v] = [0, 1, 2].map(|i| m[i].forward(&x));
        let weights = (q.matmul(&k.t()) / scale).softmax(-1);
        m[3].forward(&weights.matmul(&v)).cross_entropy(&y)
    };
    GradientFlow::observe(loss, &model)
}

fn scaled(model: &Mlp, layer: usize, factor: f64, bias: f64) -> Mlp {
    let mut model = model.clone();
    let own = &mut model.layers[layer];
    own.weight = (&own.weight * factor).eval();
    own.bias = own.bias.as_ref().map(|b| (b + bias).eval());
    model
}

fn residual(model: &Mlp, x: &Tensor) -> Tensor {
    let last = model.layers.len() - 1;
    let blocks = model.layers[..last].iter().fold(x.clone(), |x, layer| &x + layer.forward(&x.relu()) * 0.2);
    model.layers[last].forward(&blocks)
}

/// A recurrent network without a squashing function, unrolled.
fn unrolled(gain: f64, steps: usize) -> GradientFlow {
    let model = deep(2, 12, gain);
    let (x, y) = batch(12);
    let loss = |m: &Mlp| {
        let mut h = x.clone();
        for _ in 0..steps {
            h = m.layers[0].forward(&h) + &x * 0.1;
        }
        m.layers[1].forward(&h).cross_entropy(&y)
    };
    GradientFlow::observe(loss, &model)
}

pub type Observe = fn() -> GradientFlow;
pub type Case = (&'static str, Observe, Diagnosis);

#[rustfmt::skip]
pub fn broken() -> Vec<Case> {
    use Diagnosis::*;
    vec![
        ("sigmoid, 30 deep", || classify(&deep(30, 16, 1.0), Tensor::sigmoid), Vanishing),
        ("relu with weights of half the right size, 30 deep", || classify(&deep(30, 16, 0.7), Tensor::relu), Vanishing),
        ("linear layers' default start, plain relu, 56 deep", || {
            classify(&Mlp::new(&Key::new(3), &[vec![16; 56], vec![CLASSES]].concat()), Tensor::relu)
        }, Vanishing),
        ("relu with weights of twice the right size, 30 deep", || classify(&deep(30, 16, 3.0), Tensor::relu), Exploding),
        ("a recurrent network with large weights", || unrolled(3.0, 40), Exploding),
        ("tanh with large weights", || classify(&deep(4, 16, 30.0), Tensor::tanh), Saturated),
        ("sigmoid with a large bias", || classify(&scaled(&deep(3, 16, 1.0), 0, 1.0, 12.0), Tensor::sigmoid), Saturated),
        ("relu with a large negative bias", || classify(&scaled(&deep(4, 16, 1.4), 1, 1.0, -20.0), Tensor::relu), DeadUnits),
        ("softmax before cross-entropy", || with(&deep(3, 16, 1.4), |m, x, y| through(m, x, Tensor::relu).softmax(-1).cross_entropy(y)), DoubleSoftmax),
        ("sigmoid before cross-entropy", || with(&deep(3, 16, 1.4), |m, x, y| through(m, x, Tensor::relu).sigmoid().cross_entropy(y)), DoubleSoftmax),
        ("log-likelihood instead of its negative", || with(&deep(3, 16, 1.4), |m, x, y| -through(m, x, Tensor::relu).cross_entropy(y)), WrongSign),
        ("a detached branch", || with(&deep(3, 16, 1.4), |m, x, y| {
            let h = m.layers[0].forward(x).relu().stop_gradient();
            m.layers[2].forward(&m.layers[1].forward(&h).relu()).cross_entropy(y)
        }), Unreachable),
        ("rounded activations", || with(&deep(3, 16, 1.4), |m, x, y| {
            let h = m.layers[0].forward(x).relu().round();
            m.layers[2].forward(&m.layers[1].forward(&h).relu()).cross_entropy(y)
        }), Unreachable),
        ("a layer that is not used", || with(&deep(3, 16, 1.4), |m, x, y| m.layers[2].forward(&m.layers[0].forward(x).relu()).cross_entropy(y)), Unreachable),
        ("a forgotten activation", || with(&deep(3, 16, 1.4), |m, x, y| {
            m.layers[2].forward(&m.layers[1].forward(&m.layers[0].forward(x)).relu()).cross_entropy(y)
        }), MissingActivation),
        ("all weights equal", || {
            let model = deep(3, 16, 1.4);
            classify(&chainrule::tree::map(&model, |w| w.full_like(0.05)), Tensor::tanh)
        }, Symmetric),
        ("a hidden layer of zeros", || classify(&scaled(&deep(4, 16, 1.4), 2, 0.0, 0.0), Tensor::relu), ZeroWeights),
        ("attention without its scale", || attention(1.0, 8.0), SaturatedAttention),
        ("pixels from 0 to 255", || with(&deep(3, 16, 1.4), |m, x, y| through(m, &((x.abs() * 80.0).clip(0.0, 255.0)), Tensor::relu).cross_entropy(y)), InputScale),
        ("a penalty that dwarfs the loss", || with(&deep(3, 16, 1.4), |m, x, y| {
            let penalty = leaves(m).iter().map(|w| w.square().sum(..)).reduce(|a, b| a + b).unwrap();
            through(m, x, Tensor::relu).cross_entropy(y) + penalty * 100.0
        }), DominatedTerm),
        ("a loss that is not finite", || with(&deep(3, 16, 1.4), |m, x, _| (through(m, x, Tensor::relu) * 0.0).log().sum(..)), NotFinite),
        ("a residual network whose branches are as large as the stream, 40 deep", || with(&deep(40, 16, 1.4), |m, x, y| {
            let last = m.layers.len() - 1;
            let h = m.layers[..last].iter().fold(x.clone(), |x, layer| &x + layer.forward(&x.relu()) * 1.5);
            m.layers[last].forward(&h).cross_entropy(y)
        }), Exploding),
        ("a tanh network over 60 steps, large recurrent weights, no clipping", || walk(Some(3.0), FlowOptions::default()), Exploding),
        ("a tanh network over 60 steps, as it starts", || walk(None, FlowOptions::default()), Vanishing),
        ("weights frozen by mistake", || with(&deep(3, 16, 1.4), |m, x, y| {
            let frozen = Linear { weight: m.layers[1].weight.stop_gradient(), ..m.layers[1].clone() };
            m.layers[2].forward(&frozen.forward(&m.layers[0].forward(x).relu()).relu()).cross_entropy(y)
        }), Unreachable),
        ("labels that leak: batches of one class each, and their mean in each example", || leaking(true), BatchLeak),
        ("batch norm whose running statistics were not kept", || normed(false), EvaluationDiffers),
        ("weights kept in bf16, with steps below its rounding", || {
            narrow(DType::BF16, FlowOptions { learning_rate: Some(1e-3), ..FlowOptions::default() }, true, Tensor::clone)
        }, LossOfPrecision),
        ("a variance as the difference of large squares, in bf16", || {
            narrow(DType::BF16, FlowOptions::default(), false, |h| {
                let far = h + 60.0;
                let mean = far.mean_keepdims(0);
                let variance = far.square().mean_keepdims(0) - mean.square();
                (far - mean) / (variance.abs() + 1e-3).sqrt()
            })
        }, LossOfPrecision),
        ("no warm-up: a rate of twice 2/λ", || beyond(2.0, FlowOptions::default()), NoWarmUp),
        ("a rate far beyond 2/λ", || stepping(FlowOptions { learning_rate: Some(30.0), curvature: true, ..FlowOptions::default() }, &deep(3, 16, 1.4)), StepTooLarge),
        ("Adam at a rate of 1", || stepping(FlowOptions { learning_rate: Some(1.0), adaptive: true, ..FlowOptions::default() }, &deep(3, 16, 1.4)), StepTooLarge),
        ("a rate of a billionth", || stepping(FlowOptions { learning_rate: Some(1e-9), ..FlowOptions::default() }, &deep(3, 16, 1.4)), StepTooSmall),
        ("gradients below f16's range", || with(&deep(3, 16, 1.4), |m, x, y| {
            let half = chainrule::tree::map(m, |w| w.cast(DType::F16));
            through(&half, &x.cast(DType::F16), Tensor::relu).cast(DType::F32).cross_entropy(y) * 1e-3
        }), Underflow),
        ("a normalisation over the examples' own axis", || with(&deep(3, 16, 1.4), |m, x, y| {
            let h = m.layers[0].forward(x).relu();
            let same = h.mean_keepdims(0).broadcast_to(h.shape()) + &h * 1e-6;
            m.layers[2].forward(&m.layers[1].forward(&same).relu()).cross_entropy(y)
        }), Collapsed),
    ]
}

#[rustfmt::skip]
pub fn healthy() -> Vec<(&'static str, Observe)> {
    vec![
        ("three layers as they start", || classify(&Mlp::new(&Key::new(3), &[16, 32, 32, CLASSES]), Tensor::relu)),
        ("relu with Kaiming's variance, 20 deep", || classify(&deep(20, 64, 2f64.sqrt()), Tensor::relu)),
        ("tanh with Glorot's variance, 10 deep", || classify(&deep(10, 32, 1.0), Tensor::tanh)),
        ("a residual network, 56 deep", || with(&deep(56, 16, 1.0), |m, x, y| residual(m, x).cross_entropy(y))),
        ("layer norm, default start, 30 deep", || with(&Mlp::new(&Key::new(3), &[vec![32; 30], vec![CLASSES]].concat()), |m, x, y| {
            let last = m.layers.len() - 1;
            let h = m.layers[..last].iter().fold(x.clone(), |x, layer| layer.forward(&x).normalize(-1, 1e-5).relu());
            m.layers[last].forward(&h).cross_entropy(y)
        })),
        ("attention with its scale", || attention(4.0, 1.0)),
        ("a last layer of zeros", || classify(&scaled(&deep(4, 16, 1.4), 3, 0.0, 0.0), Tensor::relu)),
        ("gelu", || classify(&deep(6, 32, 1.5), Tensor::gelu)),
        ("plain descent at a tenth", || stepping(FlowOptions { learning_rate: Some(0.1), curvature: true, ..FlowOptions::default() }, &deep(3, 16, 1.4))),
        ("Adam at a thousandth", || stepping(FlowOptions { learning_rate: Some(1e-3), adaptive: true, ..FlowOptions::default() }, &deep(3, 16, 1.4))),
        ("weight decay as a small term", || with(&deep(3, 16, 1.4), |m, x, y| {
            let penalty = leaves(m).iter().map(|w| w.square().sum(..)).reduce(|a, b| a + b).unwrap();
            through(m, x, Tensor::relu).cross_entropy(y) + penalty * 5e-3
        })),
        ("convolutions with batch norm", || {
            let model = (Conv::new(&Key::new(5), 3, 8, [3, 3]), BatchNorm::new(8), Conv::new(&Key::new(6), 8, 8, [3, 3]), Linear::new(&Key::new(7), 8 * 4 * 4, CLASSES));
            let (_, y) = batch(1);
            let x = Key::new(8).normal([24, 3, 8, 8], DType::F32).eval();
            GradientFlow::observe(|m: &(Conv, BatchNorm, Conv, Linear)| {
                let mut norm = m.1.clone();
                let h = norm.forward(&m.0.forward(&x), &mut Context::training(Key::new(9))).relu();
                let h = m.2.forward(&h).relu();
                m.3.forward(&h.reshape([24, 8 * 4 * 4])).cross_entropy(&y)
            }, &model)
        }),
        ("a rate of twice 2/λ, warmed up to", || beyond(2.0, FlowOptions { warm_up: true, ..FlowOptions::default() })),
        ("bf16, with weights in f32", || {
            narrow(DType::BF16, FlowOptions { learning_rate: Some(1e-3), ..FlowOptions::default() }, false, Tensor::clone)
        }),
        ("batch norm with its running statistics, trained", || normed(true)),
        ("a mean of the batch in each example, over mixed batches, trained", || leaking(false)),
        ("a tanh network over 60 steps, large recurrent weights, clipped", || walk(Some(3.0), FlowOptions { clip_norm: Some(1.0), ..FlowOptions::default() })),
        ("a tanh network over 60 steps, orthogonal recurrent weights", || walk(Some(1.0), FlowOptions::default())),
        ("an LSTM over 60 steps, read at its last state", || {
            let model = (Lstm::new(&Key::new(5), 4, 24), Linear::new(&Key::new(6), 24, CLASSES));
            let (x, y) = (Key::new(8).normal([24, 60, 4], DType::F32).eval(), batch(1).1);
            GradientFlow::observe(|m: &(Lstm, Linear)| {
                let state = m.0.forward(&x, None, None, &mut Context::evaluation()).1.0;
                m.1.forward(&state.at(0)).cross_entropy(&y)
            }, &model)
        }),
        ("a recurrent network over a sequence", || {
            let model = (Gru::new(&Key::new(5), 6, 12), Linear::new(&Key::new(6), 12, CLASSES));
            let (_, y) = batch(1);
            let x = Key::new(8).normal([24, 10, 6], DType::F32).eval();
            GradientFlow::observe(|m: &(Gru, Linear)| {
                let all = m.0.forward(&x, None, None, &mut Context::evaluation()).0;
                m.1.forward(&all.at((.., -1, ..))).cross_entropy(&y)
            }, &model)
        }),
    ]
}
