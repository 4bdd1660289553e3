//! How the gradient flows: what each layer does to activations on the way up and to the gradient on the way down.
//!
//! The chain rule multiplies Jacobians. Each layer's is measured with random probes (its root-mean-square gain) and by
//! power iteration (its largest singular value), and taken apart: the slope of the activation before it and the gain of
//! its own weights. Their product from the loss down says whether a gradient vanishes or explodes, and which factor it is
//! lost in. `verdict.rs` turns the numbers into words.
//!
//! Layers are found, not declared: see `layers.rs`.

mod batches;
mod layers;
mod noise;
mod report;
mod structure;
mod trial;
mod verdict;

pub use noise::{NoiseScale, gradient_noise_scale};
pub use report::{Companions, Gain, GradientFlow, LayerFlow, ParameterFlow, Slope, Softmax, Spread, Term};
pub use trial::{Measurement, Remedy, Training, Trial, Trials, measure, try_remedies};
pub use verdict::{Diagnosis, Finding};

use crate::curvature::Curvature;
use crate::place::{Number, Place, numbers};
use chainrule::differentiate::{Unreached, gradient, pull, pull_through, push};
use chainrule::execute::eval_all;
use chainrule::tensor::{DType, Key, Op, Tensor};
use chainrule::tree::{self, Role, Tree};
pub(crate) use layers::ordered;
use layers::{Layer, layers};

/// What else is known of a training.
#[derive(Clone, Debug)]
pub struct FlowOptions {
    /// The learning rate, if steps are to be judged.
    pub learning_rate: Option<f64>,
    /// Steps are about as long as the learning rate in each element, as with Adam, and not proportional to gradients.
    pub adaptive: bool,
    /// Momentum of plain descent, which is stable up to 2·(1 + momentum)/λ.
    pub momentum: f64,
    /// The most that the norm of the whole gradient may be, if it is clipped.
    pub clip_norm: Option<f64>,
    /// The learning rate is reached from below.
    pub warm_up: bool,
    /// What the training multiplies its loss by, so that gradients keep within the range of f16.
    pub loss_scale: f64,
    /// Also find the largest eigenvalue of the Hessian, for 2/λ.
    pub curvature: bool,
    /// Steps of the power iteration. With none, which costs a fraction, gains are those of the gradient itself on its way
    /// down and not of random probes, and stand in the place of the largest singular values, which they never exceed
    /// where there is one path.
    pub iterations: usize,
    /// Seed of the probes.
    pub seed: u64,
}

impl Default for FlowOptions {
    fn default() -> FlowOptions {
        FlowOptions {
            learning_rate: None,
            adaptive: false,
            momentum: 0.0,
            clip_norm: None,
            warm_up: false,
            loss_scale: 1.0,
            curvature: false,
            iterations: 8,
            seed: 0,
        }
    }
}

impl GradientFlow {
    /// Observes one loss of a model.
    ///
    /// # Panics
    /// Where [`grad`](chainrule::grad) does, other than for parameters that the loss does not depend on: they are
    /// reported.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_lens::GradientFlow;
    /// use chainrule_nn::prelude::*;
    /// let model = Mlp::new(&Key::new(1), &[8, 16, 16, 3]);
    /// let (x, y) = (Key::new(2).normal([32, 8], DType::F32).eval(), Tensor::zeros([32], DType::I64));
    /// let flow = GradientFlow::observe(|m: &Mlp| m.forward(&x).cross_entropy(&y), &model);
    /// assert_eq!(flow.layers.len(), 3);
    /// assert_eq!(flow.layers[1].path, "layers.1");
    /// assert!(flow.layers[1].gain.as_ref().unwrap().largest.0 < 2.0);
    /// assert!(flow.verdict().is_empty(), "{flow}");
    /// ```
    #[track_caller]
    pub fn observe<T: Tree>(loss: impl Fn(&T) -> Tensor, model: &T) -> GradientFlow {
        GradientFlow::observe_with(&FlowOptions::default(), loss, model)
    }

    /// [`GradientFlow::observe`] with options.
    ///
    /// # Panics
    /// As [`GradientFlow::observe`].
    #[track_caller]
    pub fn observe_with<T: Tree>(options: &FlowOptions, loss: impl Fn(&T) -> Tensor, model: &T) -> GradientFlow {
        let model = tree::rebuild(model, &eval_all(&tree::leaves(model)));
        let (observation, asked) = Observation::of(options, &loss, &model);
        let mut flow = observation.read(options, &eval_all(&asked).iter().map(numbers).collect::<Vec<_>>());
        if options.curvature && flow.loss.0.is_finite() {
            flow.largest_eigenvalue = Curvature::new(loss, &model).eigenvalues(1).largest.first().map(|e| e.value);
        }
        flow
    }

    /// The product of gains from the last layer down along each layer's chain.
    fn fill_products(&mut self, layers: &[Layer]) {
        let mut product = vec![1.0; layers.len()];
        for i in (0..layers.len()).rev() {
            self.layers[i].product = Number(product[i]);
            if let (Some(previous), Some(gain)) = (layers[i].previous, &self.layers[i].gain) {
                product[previous] = product[i] * gain.rms.0;
            }
        }
    }
}

/// The leaves of a tree that are parameters.
fn parameters_of<T: Tree>(tree: &T) -> impl Iterator<Item = Tensor> {
    tree::named_leaves(tree).into_iter().filter(|leaf| leaf.1 == Role::Parameter).map(|leaf| leaf.2)
}

fn softmax(p: &Tensor, mean_of_largest: f64) -> Softmax {
    Softmax { line: p.node().origin().into(), width: p.size(-1), largest: Number(mean_of_largest) }
}

/// What is seen in a loss by its form alone, and where each of its numbers will be among those that it asks for. It is made
/// when the loss is traced and read when numbers have been computed, once or many times.
pub(crate) struct Observation {
    loss: usize,
    layers: Vec<Layer>,
    observed: Vec<LayerPlaces>,
    parameters: Vec<ParameterPlaces>,
    softmaxes: Vec<(usize, Tensor)>,
    terms: Vec<(usize, Place)>,
    double_softmax: Vec<Place>,
    log_likelihood: bool,
}

impl Observation {
    /// Looks at the loss of a model whose leaves are values or placeholders, and gives what is to be computed: one number
    /// each, in f64.
    #[track_caller]
    pub(crate) fn of<T: Tree>(
        options: &FlowOptions,
        loss: impl FnOnce(&T) -> Tensor,
        model: &T,
    ) -> (Observation, Vec<Tensor>) {
        let (observation, asked, _) = Observation::traced(options, loss, model);
        (observation, asked)
    }

    /// [`Observation::of`], and the gradient of each parameter.
    #[track_caller]
    fn traced<T: Tree>(
        options: &FlowOptions,
        loss: impl FnOnce(&T) -> Tensor,
        model: &T,
    ) -> (Observation, Vec<Tensor>, Vec<Tensor>) {
        let (value, (), slopes) = match gradient(|m| (loss(m), ()), model, Unreached::Zeros) {
            Ok(result) => result,
            Err(error) => panic!("GradientFlow: {error}"),
        };
        let layers = layers(model, &value);
        let arriving = arriving(&layers, &value);
        let mut asked = Asked::default();
        let observation = Observation {
            loss: asked.add(&value),
            observed: (0..layers.len()).map(|i| ask_layer(&mut asked, options, &layers, i, &arriving[i])).collect(),
            parameters: ask_parameters(&mut asked, options, model, &slopes, &value),
            softmaxes: structure::softmaxes(&value)
                .into_iter()
                .map(|p| (asked.add(&p.max(-1).cast(DType::F64).mean(..)), p))
                .collect(),
            terms: structure::terms(&value).into_iter().map(|(x, line)| (asked.add(&x), line)).collect(),
            double_softmax: structure::double_softmax(&value),
            log_likelihood: structure::has_log_likelihood(&value),
            layers,
        };
        (observation, asked.tensors, parameters_of(&slopes).collect())
    }

    /// The answers of which several batches count by the least.
    fn least(&self) -> Vec<usize> {
        self.observed.iter().filter_map(|layer| layer.slope.map(|slope| slope[3])).collect()
    }

    /// The answers that are of the first batch alone.
    fn of_one_batch(&self) -> Vec<usize> {
        self.observed.iter().filter_map(|layer| layer.gain.map(|gain| gain[2])).collect()
    }

    /// The flow, from the numbers that were asked for.
    pub(crate) fn read(&self, options: &FlowOptions, got: &[Vec<f64>]) -> GradientFlow {
        let total = self.parameters.iter().map(|p| got[p.gradient][0]).sum::<f64>().sqrt();
        let parameters: Vec<ParameterFlow> = self.parameters.iter().map(|p| p.read(got, options, total)).collect();
        let layers = self.layers.iter().zip(&self.observed);
        let mut flow = GradientFlow {
            loss: Number(got[self.loss][0]),
            gradient_norm: Number(total),
            layers: layers.map(|(layer, o)| o.read(layer, &self.layers, got, &parameters)).collect(),
            parameters,
            softmaxes: self.softmaxes.iter().map(|(at, p)| softmax(p, got[*at][0])).collect(),
            terms: self
                .terms
                .iter()
                .map(|(at, line)| Term { value: Number(got[*at][0]), line: line.clone() })
                .collect(),
            double_softmax: self.double_softmax.clone(),
            log_likelihood: self.log_likelihood,
            learning_rate: options.learning_rate,
            adaptive: options.adaptive,
            momentum: options.momentum,
            clip_norm: options.clip_norm,
            warm_up: options.warm_up,
            loss_scale: options.loss_scale,
            largest_eigenvalue: None,
            batches: 1,
            noise: None,
            companions: None,
            evaluated: None,
        };
        for (i, places) in self.observed.iter().enumerate() {
            if let (Some(below), Some(previous)) = (places.below, self.layers[i].previous) {
                let at = |layer: usize| flow.layers[layer].gradient_norm.0;
                flow.layers[i].gain =
                    (at(i) > 0.0).then(|| Gain::of_gradient(at(i), got[below][0].sqrt(), at(previous)));
            }
        }
        flow.fill_products(&self.layers);
        flow
    }
}

/// Everything that is to be computed, so that it is computed together.
#[derive(Default)]
struct Asked {
    tensors: Vec<Tensor>,
}

impl Asked {
    fn add(&mut self, x: &Tensor) -> usize {
        self.tensors.push(x.cast(DType::F64));
        self.tensors.len() - 1
    }
}

/// Where the numbers of a layer are among the answers.
struct LayerPlaces {
    mean: usize,
    rms: usize,
    spread: usize,
    input: [usize; 2],
    gradient: Option<usize>,
    /// Where no probes are sent: the gradient at the layer's input.
    below: Option<usize>,
    /// Mean square of slopes, share of zeros, share of small ones, share of units with zeros only.
    slope: Option<[usize; 4]>,
    gain: Option<[usize; 3]>,
    /// Mean squares of the gradient at the first and the last step of a sequence.
    time: Option<[usize; 2]>,
}

fn mean_square(x: &Tensor) -> Tensor {
    x.cast(DType::F64).square().mean(..)
}

/// The gradient where a layer begins and where it ends, if there is one.
struct Arriving {
    input: Option<Tensor>,
    output: Option<Tensor>,
}

/// What arrives at each layer, in one walk down from the loss.
fn arriving(layers: &[Layer], value: &Tensor) -> Vec<Arriving> {
    let float = |x: &Tensor| x.dtype().is_float();
    let ends = layers.iter().flat_map(|layer| [&layer.input, &layer.output]);
    let at: Vec<Tensor> = ends.filter(|x| float(x)).cloned().collect();
    let mut found = pull_through(std::slice::from_ref(value), &[Some(value.ones_like())], &at).into_iter();
    let mut next = |x: &Tensor| if float(x) { found.next().flatten() } else { None };
    layers.iter().map(|layer| Arriving { input: next(&layer.input), output: next(&layer.output) }).collect()
}

fn ask_layer(asked: &mut Asked, options: &FlowOptions, layers: &[Layer], i: usize, arriving: &Arriving) -> LayerPlaces {
    let layer = &layers[i];
    let z = layer.output.cast(DType::F64);
    let square = |x: &Tensor| x.cast(DType::F64).square().sum(..);
    let at_input = arriving.input.as_ref().filter(|_| layer.previous.is_some() && options.iterations == 0);
    // What differs between examples: the spread of each unit over the first axis.
    let spread =
        if z.rank() > 1 { (&z - z.mean_keepdims(0)).square().mean(..) } else { mean_square(&(&z - z.mean(..))) };
    let next = layers.iter().find(|next| next.previous == Some(i) && next.between.elementwise);
    LayerPlaces {
        mean: asked.add(&z.mean(..)),
        rms: asked.add(&mean_square(&z)),
        spread: asked.add(&spread),
        input: [asked.add(&layer.input.cast(DType::F64).mean(..)), asked.add(&mean_square(&layer.input))],
        gradient: arriving.output.as_ref().map(|g| asked.add(&square(g))),
        below: at_input.map(|g| asked.add(&square(g))),
        slope: next.and_then(|next| ask_slope(asked, layer, &next.input)),
        gain: layer
            .previous
            .filter(|_| options.iterations > 0)
            .and_then(|p| ask_gain(asked, options, &layers[p].output, layer, i)),
        time: layer.walk.and_then(|walk| ask_time(asked, arriving.input.as_ref()?, walk.steps)),
    }
}

/// What the gradient of sequences, `[N, T, …]` or `[T, N, …]`, is at the first step, and what at the last.
fn ask_time(asked: &mut Asked, slope: &Tensor, steps: usize) -> Option<[usize; 2]> {
    let axis = slope.shape().iter().take(2).position(|&size| size == steps)?;
    let told = slope.rank() >= 3 && steps >= 2;
    told.then(|| [0, steps - 1].map(|step| asked.add(&mean_square(&slope.narrow(axis as isize, step, 1)))))
}

/// The slope of what follows a layer elementwise, from its output to the next layer's input.
fn ask_slope(asked: &mut Asked, layer: &Layer, next: &Tensor) -> Option<[usize; 4]> {
    if next.numel() != layer.output.numel() {
        return None;
    }
    let ones = layer.output.ones_like();
    let slopes = push(std::slice::from_ref(next), std::slice::from_ref(&layer.output), vec![Some(ones)]).remove(0)?;
    let slopes = slopes.reshape(layer.output.shape()).cast(DType::F64);
    let zero = slopes.equal(0.0).cast(DType::F64);
    let small = slopes.abs().less(0.05).cast(DType::F64);
    let others: Vec<isize> = (0..slopes.rank() as isize).filter(|&axis| axis as usize != layer.axis).collect();
    let dead = if others.is_empty() { zero.clone() } else { zero.min(&others[..]) };
    Some([
        asked.add(&mean_square(&slopes)),
        asked.add(&zero.mean(..)),
        asked.add(&small.mean(..)),
        asked.add(&dead.mean(..)),
    ])
}

/// The Jacobian from the previous layer's output to this layer's: its mean-square gain for a gradient, that of this
/// layer's own part, and its largest singular value.
fn ask_gain(
    asked: &mut Asked,
    options: &FlowOptions,
    from: &Tensor,
    layer: &Layer,
    number: usize,
) -> Option<[usize; 3]> {
    let to = &layer.output;
    let key = |draw: i64| Key::new(options.seed).fold(&Tensor::from(draw + 1000 * number as i64));
    let back = |u: &Tensor, at: &Tensor| {
        pull(std::slice::from_ref(to), &[Some(u.clone())], std::slice::from_ref(at)).remove(0)
    };
    let u = key(0).normal(to.shape(), DType::F32).cast(to.dtype());
    let ratio = |pulled: &Tensor| pulled.cast(DType::F64).square().sum(..) / u.cast(DType::F64).square().sum(..);
    let whole = ratio(&back(&u, from)?);
    let own = ratio(&back(&u, &layer.input)?);
    let unit = |x: &Tensor| x / x.norm(..).maximum(1e-30);
    let mut v = unit(&key(1).normal(from.shape(), DType::F32).cast(from.dtype()));
    let mut stretched = v.clone();
    for _ in 0..options.iterations {
        stretched = push(std::slice::from_ref(to), std::slice::from_ref(from), vec![Some(v)]).remove(0)?;
        v = unit(&back(&unit(&stretched), from)?);
    }
    Some([asked.add(&whole), asked.add(&own), asked.add(&stretched.norm(..))])
}

impl LayerPlaces {
    fn read(&self, layer: &Layer, layers: &[Layer], got: &[Vec<f64>], parameters: &[ParameterFlow]) -> LayerFlow {
        let number = |at: usize| got[at][0];
        let root = |at: usize| Number(got[at][0].max(0.0).sqrt());
        let slope = self.slope.map(|[square, zero, small, dead]| Slope {
            rms: root(square),
            off: number(zero),
            saturated: number(small),
            dead: number(dead),
        });
        let gain = self.gain.map(|[whole, own, largest]| Gain {
            rms: root(whole),
            own: root(own),
            before: Number((number(whole) / number(own).max(f64::MIN_POSITIVE)).sqrt()),
            largest: Number(number(largest)),
        });
        LayerFlow {
            path: layer.path.clone(),
            operation: layer.operation.to_owned(),
            line: layer.line.clone(),
            shape: layer.output.shape().to_vec(),
            dtype: layer.output.dtype().name().to_owned(),
            output: Spread {
                mean: Number(number(self.mean)),
                rms: root(self.rms),
                between_examples: root(self.spread),
            },
            input_mean: Number(number(self.input[0])),
            input_rms: root(self.input[1]),
            gradient_norm: Number(self.gradient.map_or(0.0, |at| number(at).sqrt())),
            through_time: self
                .time
                .filter(|[_, last]| number(*last) > 0.0)
                .map(|[first, last]| Number((number(first) / number(last)).sqrt())),
            gated: layer.walk.is_some_and(|walk| walk.gated),
            update_ratio: update_ratio(
                layer.parameters.iter().filter_map(|(path, _)| parameters.iter().find(|p| p.path == *path)),
            ),
            slope,
            gain,
            product: Number(1.0),
            previous: layer.previous.map(|p| layers[p].path.clone()),
            activation: layers
                .iter()
                .find(|l| l.previous.is_some_and(|p| layers[p].path == layer.path))
                .map_or(vec![], |next| next.between.names.iter().map(|name| name.to_string()).collect()),
            linear: layer.linear,
            nonlinear_before: layer.between.nonlinear,
            residual_before: layer.between.residual,
            parameters: layer
                .parameters
                .iter()
                .filter_map(|(path, _)| parameters.iter().position(|p| p.path == *path))
                .collect(),
        }
    }
}

/// The length of a step of all these parameters together over theirs.
fn update_ratio<'a>(parameters: impl Iterator<Item = &'a ParameterFlow>) -> Option<f64> {
    let (mut steps, mut sizes) = (0.0, 0.0);
    for parameter in parameters {
        steps += parameter.step?.powi(2);
        sizes += parameter.norm.0.powi(2);
    }
    (sizes > 0.0).then(|| (steps / sizes).sqrt())
}

/// Where the numbers of a parameter are.
struct ParameterPlaces {
    path: String,
    shape: Vec<usize>,
    weight: usize,
    gradient: usize,
    /// Mean square difference of rows from their mean, of the weight and of the gradient.
    rows: Option<[usize; 2]>,
    reached: bool,
    zeros: usize,
    /// The share of steps that round to nothing.
    lost: Option<usize>,
}

/// The share of weights of a small float that a step of this length leaves as they are.
fn ask_lost(asked: &mut Asked, options: &FlowOptions, weight: &Tensor, slope: &Tensor) -> Option<usize> {
    let rate = options.learning_rate.filter(|_| matches!(weight.dtype(), DType::BF16 | DType::F16))?;
    let wide = slope.cast(DType::F32);
    let step = if options.adaptive { wide.sign() * rate } else { wide * rate };
    let after = (weight.cast(DType::F32) - &step).cast(weight.dtype());
    let moved = step.not_equal(0.0);
    let same = after.equal(weight).and(&moved).cast(DType::F64).mean(..);
    Some(asked.add(&(same / moved.cast(DType::F64).mean(..).maximum(1e-30))))
}

fn ask_parameters<T: Tree>(
    asked: &mut Asked,
    options: &FlowOptions,
    model: &T,
    slopes: &T,
    value: &Tensor,
) -> Vec<ParameterPlaces> {
    let under: std::collections::HashSet<u64> = ordered(value)
        .iter()
        .filter(|x| matches!(x.node().op(), Op::Variable))
        .map(|x| x.node().inputs()[0].node().id())
        .collect();
    let square = |x: &Tensor| x.cast(DType::F64).square().sum(..);
    tree::named_leaves(model)
        .into_iter()
        .zip(tree::leaves(slopes))
        .filter(|(leaf, _)| leaf.1 == Role::Parameter)
        .map(|((path, _, weight), slope)| {
            let apart = |x: &Tensor| mean_square(&(x - x.mean_keepdims(0)));
            let rows = (weight.rank() >= 2 && weight.size(0) > 1)
                .then(|| [asked.add(&apart(&weight)), asked.add(&apart(&slope))]);
            // A gradient without a path is a constant of zeros.
            let cut = matches!(slope.node().op(), Op::Constant(..));
            ParameterPlaces {
                reached: under.contains(&weight.node().id()) && !cut,
                shape: weight.shape().to_vec(),
                weight: asked.add(&square(&weight)),
                gradient: asked.add(&square(&slope)),
                zeros: asked.add(&slope.equal(0.0).cast(DType::F64).mean(..)),
                lost: ask_lost(asked, options, &weight, &slope),
                rows,
                path,
            }
        })
        .collect()
}

impl ParameterPlaces {
    fn read(&self, got: &[Vec<f64>], options: &FlowOptions, total: f64) -> ParameterFlow {
        let root = |at: usize| got[at][0].max(0.0).sqrt();
        let (norm, gradient) = (root(self.weight), root(self.gradient));
        let count = self.shape.iter().product::<usize>() as f64;
        let clipped = options.clip_norm.map_or(1.0, |most| (most / total.max(f64::MIN_POSITIVE)).min(1.0));
        let length = if options.adaptive { count.sqrt() } else { gradient * clipped };
        let step = options.learning_rate.map(|rate| rate * length);
        let flat = |at: usize, norm: f64| root(at) <= 1e-6 * norm / count.sqrt();
        ParameterFlow {
            norm: Number(norm),
            gradient_norm: Number(gradient),
            step,
            update_ratio: step.filter(|_| norm > 0.0).map(|step| step / norm),
            reached: self.reached,
            zero_share: got[self.zeros][0],
            lost: self.lost.map(|at| got[at][0]),
            error: None,
            alike: norm > 0.0
                && self.rows.is_some_and(|[weight, slope]| {
                    flat(weight, norm) && (gradient <= 1e-6 * total || flat(slope, gradient))
                }),
            path: self.path.clone(),
            shape: self.shape.clone(),
        }
    }
}
