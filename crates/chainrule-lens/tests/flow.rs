//! Networks that are broken on purpose must each be diagnosed by the right cause first; healthy ones by none.

use chainrule::prelude::*;
use chainrule_lens::flow::Diagnosis;
use chainrule_lens::{FlowOptions, GradientFlow};
use chainrule_nn::prelude::*;

const CLASSES: usize = 4;

fn batch(features: usize) -> (Tensor, Tensor) {
    let x = Key::new(100).normal([24, features], DType::F32).eval();
    (x, Tensor::from_vec((0..24).map(|i| (i % CLASSES) as i64).collect::<Vec<_>>(), [24]))
}

/// Linear layers of one width with weights of the standard deviation gain/√inputs, and no biases' spread.
fn deep(depth: usize, width: usize, gain: f64) -> Mlp {
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
fn through(model: &Mlp, x: &Tensor, activation: fn(&Tensor) -> Tensor) -> Tensor {
    let mut x = x.clone();
    for (i, layer) in model.layers.iter().enumerate() {
        x = layer.forward(&if i == 0 { x } else { activation(&x) });
    }
    x
}

fn classify(model: &Mlp, activation: fn(&Tensor) -> Tensor) -> GradientFlow {
    let (x, y) = batch(model.layers[0].weight.size(1));
    GradientFlow::observe(|m: &Mlp| through(m, &x, activation).cross_entropy(&y), model)
}

fn with(model: &Mlp, loss: impl Fn(&Mlp, &Tensor, &Tensor) -> Tensor) -> GradientFlow {
    let (x, y) = batch(model.layers[0].weight.size(1));
    GradientFlow::observe(|m: &Mlp| loss(m, &x, &y), model)
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

type Observe = fn() -> GradientFlow;
type Case = (&'static str, Observe, Diagnosis);

#[rustfmt::skip]
fn broken() -> Vec<Case> {
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
        ("no warm-up: a rate beyond 2/λ", || stepping(FlowOptions { learning_rate: Some(30.0), curvature: true, ..FlowOptions::default() }, &deep(3, 16, 1.4)), StepTooLarge),
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
fn healthy() -> Vec<(&'static str, Observe)> {
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

#[test]
fn every_broken_network_is_diagnosed_by_its_cause_first() {
    let faults: Vec<String> = broken()
        .into_iter()
        .filter_map(|(name, observe, diagnosis)| {
            let flow = observe();
            let first = flow.verdict().first().map(|finding| finding.diagnosis);
            (first != Some(diagnosis)).then(|| format!("{name}: {first:?} for {diagnosis:?}\n{flow}"))
        })
        .collect();
    assert!(broken().len() >= 20);
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn healthy_networks_get_a_clean_bill() {
    let faults: Vec<String> = healthy()
        .into_iter()
        .map(|(name, observe)| (name, observe()))
        .filter(|(_, flow)| !flow.verdict().is_empty())
        .map(|(name, flow)| format!("{name}\n{flow}"))
        .collect();
    assert!(healthy().len() >= 10);
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// Gains of a linear chain are those of its matrices.
#[test]
fn gains_are_those_of_the_jacobian() {
    let model = deep(3, 16, 1.0);
    let (x, y) = batch(16);
    let options = FlowOptions { iterations: 60, ..FlowOptions::default() };
    let flow = GradientFlow::observe_with(&options, |m: &Mlp| through(m, &x, |x| x * 0.5).cross_entropy(&y), &model);
    let gain = flow.layers[1].gain.as_ref().unwrap();
    let w = model.layers[1].weight.cast(DType::F64) * 0.5;
    let frobenius = w.square().sum(..).sqrt().item::<f64>() / 4.0;
    assert!((gain.rms.0 / frobenius - 1.0).abs() < 0.1, "{} for {frobenius}", gain.rms);
    assert!((gain.before.0 - 0.5).abs() < 1e-6);
    // The largest singular value, by a power iteration of its own.
    let mut v = Tensor::ones([16], DType::F64);
    for _ in 0..200 {
        let next = w.t().matmul(&w.matmul(&v));
        v = (&next / next.norm(..)).eval();
    }
    let largest = w.matmul(&v).norm(..).item::<f64>();
    assert!((gain.largest.0 / largest - 1.0).abs() < 1e-3, "{} for {largest}", gain.largest);
    // The product of the real Jacobians is what the gradient does.
    let fall = flow.layers[0].gradient_norm.0 / flow.layers[2].gradient_norm.0;
    assert!((fall / flow.layers[0].product.0).ln().abs() < 1.0, "{fall} and {}", flow.layers[0].product);
}

#[test]
fn layers_are_found_by_their_paths() {
    let flow = classify(&deep(3, 16, 1.4), Tensor::relu);
    let paths: Vec<&str> = flow.layers.iter().map(|layer| layer.path.as_str()).collect();
    assert_eq!(paths, ["layers.0", "layers.1", "layers.2"]);
    assert_eq!(flow.layers[2].previous.as_deref(), Some("layers.1"));
    assert!(flow.layers[1].nonlinear_before && !flow.layers[1].residual_before);
    let slope = flow.layers[0].slope.as_ref().unwrap();
    assert!((slope.off - 0.5).abs() < 0.15 && slope.dead == 0.0);
    let json = serde_json::to_value(&flow).unwrap();
    assert_eq!(json["layers"][1]["path"], "layers.1");
}
