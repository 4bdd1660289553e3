//! Remedies tried at once: a change made, the same measured again, and a short training beside that of what it was.
//!
//! Without knowing the architecture one can draw weights anew, clip, warm up and change the rate: a [`Remedy`]. Whoever can
//! change more (a model file's layers) measures both networks with [`measure`] and puts them side by side in [`Trials`].

use super::{Diagnosis, FlowOptions, GradientFlow, LayerFlow};
use crate::place::Number;
use chainrule::differentiate::{Unreached, gradient};
use chainrule::execute::compile;
use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::{self, Role, Tree};
use chainrule_nn::clip::clip_norm;
use chainrule_nn::optimizer::{AnyOptimizer, Optimizer, OptimizerSettings, SettingsError};
use chainrule_nn::schedule::{ScheduleSettings, Shape};
use serde::Serialize;

/// How a model is trained, for a few steps of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// The optimizer. Of its schedule only the warm-up counts, and of that what fits into half of the steps.
    pub optimizer: OptimizerSettings,
    /// The most that the norm of the whole gradient may be.
    pub clip_norm: Option<f64>,
    /// What the loss is multiplied by in f16; 1 otherwise.
    pub loss_scale: f64,
    /// Steps of a trial, over the batches in turn.
    pub steps: u64,
}

impl Training {
    /// Sixty steps of an optimizer.
    pub fn new(optimizer: OptimizerSettings) -> Training {
        Training { optimizer, clip_norm: None, loss_scale: 1.0, steps: 60 }
    }

    /// What a [`GradientFlow`] is to know of it.
    ///
    /// ```
    /// use chainrule_lens::flow::Training;
    /// use chainrule_nn::prelude::*;
    /// let options = Training::new(OptimizerSettings::new("adam", 1e-3)).options();
    /// assert!(options.learning_rate == Some(1e-3) && options.adaptive && !options.warm_up);
    /// ```
    pub fn options(&self) -> FlowOptions {
        let name = self.optimizer.name.as_str();
        let momentum = self.optimizer.options.get("momentum").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        // Of those the length of a step is another matter.
        let known = !matches!(name, "lamb" | "muon" | "adadelta");
        FlowOptions {
            learning_rate: known.then_some(self.optimizer.rate),
            adaptive: name != "sgd",
            momentum,
            clip_norm: self.clip_norm,
            warm_up: self.warm_up() > 0,
            loss_scale: self.loss_scale,
            ..FlowOptions::default()
        }
    }

    fn warm_up(&self) -> u64 {
        match &self.optimizer.schedule {
            Some(ScheduleSettings { shape: Shape::OneCycle { .. }, warm_up }) => (*warm_up).max(self.steps / 2),
            Some(schedule) => schedule.warm_up,
            None => 0,
        }
    }

    fn short(&self) -> OptimizerSettings {
        let warm_up = self.warm_up().min(self.steps / 2);
        let schedule = Some(ScheduleSettings { shape: Shape::Constant, warm_up });
        OptimizerSettings { schedule, plateau: None, ..self.optimizer.clone() }
    }
}

/// A change that can be made to any program without knowing how it is built.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Weights of products and convolutions from N(0, gain²/inputs), biases 0 (He et al. 2015; Glorot and Bengio 2010).
    Initialisation {
        /// √2 before a rectifier, 1 before tanh.
        gain: f64,
    },
    /// Another learning rate.
    LearningRate(f64),
    /// The norm of the whole gradient limited (Pascanu et al. 2013).
    ClipNorm(f64),
    /// The rate reached over so many steps (Gotmare et al. 2019).
    WarmUp(u64),
}

impl std::fmt::Display for Remedy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Remedy::Initialisation { gain } => write!(f, "weights from N(0, {:.1}/inputs)", gain * gain),
            Remedy::LearningRate(rate) => write!(f, "a learning rate of {rate:.3}"),
            Remedy::ClipNorm(most) => write!(f, "the gradient clipped to {most}"),
            Remedy::WarmUp(steps) => write!(f, "a warm-up over {steps} steps"),
        }
    }
}

impl Remedy {
    /// The model and the training with the change made. Weights are drawn by the layers that were observed.
    #[track_caller]
    pub fn apply<T: Tree + Clone>(&self, flow: &GradientFlow, model: &T, training: &Training) -> (T, Training) {
        let mut training = training.clone();
        match self {
            Remedy::Initialisation { gain } => return (drawn(flow, model, *gain), training),
            Remedy::LearningRate(rate) => training.optimizer.rate = *rate,
            Remedy::ClipNorm(most) => training.clip_norm = Some(*most),
            Remedy::WarmUp(steps) => {
                training.optimizer.schedule = Some(ScheduleSettings { shape: Shape::Constant, warm_up: *steps });
            }
        }
        (model.clone(), training)
    }
}

/// The model with the weights of its products drawn anew.
fn drawn<T: Tree>(flow: &GradientFlow, model: &T, gain: f64) -> T {
    let mut number = 0i64;
    tree::map_named(model, |path, role, leaf| {
        number += 1;
        let owner = flow.layers.iter().find(|l| l.parameters.iter().any(|&p| flow.parameters[p].path == path));
        match owner {
            Some(layer) if role == Role::Parameter && matches!(layer.operation.as_str(), "dot" | "conv") => {
                let noise =
                    || Key::new(7).fold(&Tensor::from(number)).normal(leaf.shape(), DType::F32).cast(leaf.dtype());
                match leaf.rank() {
                    0 | 1 if path.ends_with("bias") => leaf.zeros_like().eval(),
                    0 | 1 => leaf.clone(),
                    _ => (noise() * (gain / (inputs(layer, leaf.shape()) as f64).sqrt())).eval(),
                }
            }
            _ => leaf.clone(),
        }
    })
}

/// What is summed over for one output: all axes but the first, or the first where weights stand the other way round.
fn inputs(layer: &LayerFlow, shape: &[usize]) -> usize {
    match (shape, layer.shape.last()) {
        ([inputs, outputs], Some(last)) if outputs == last && inputs != last => *inputs,
        _ => shape[1..].iter().product::<usize>().max(1),
    }
}

/// What is compared before and after a change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// The mean loss of the batches.
    pub loss: Number,
    /// Length of the whole gradient.
    pub gradient_norm: Number,
    /// The length of the gradient at the first layer over that at the last; none where it says nothing.
    pub fall: Option<Number>,
    /// The product of gains from the last layer down to the first.
    pub product: Number,
    /// The largest length of a step over that of its layer.
    pub update_ratio: Option<f64>,
    /// What is wrong, the first cause first.
    pub diagnoses: Vec<Diagnosis>,
    /// Steps of the trial.
    pub steps: u64,
    /// The mean loss of the batches after them.
    pub loss_after: Number,
}

/// Measures a model: its gradient flow over the batches, and its loss after the steps of the training on them.
///
/// # Errors
/// If a setting of the optimizer makes no sense, or a group of it names no parameter.
///
/// # Panics
/// As [`GradientFlow::observe_batches`].
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::flow::{Training, measure};
/// use chainrule_nn::prelude::*;
/// let model = Mlp::new(&Key::new(1), &[4, 16, 2]);
/// let x = Key::new(2).normal([32, 4], DType::F32).eval();
/// let y = x.at((.., 0)).greater(0.0).cast(DType::I64).eval();
/// let loss = |m: &Mlp, (x, y): &(Tensor, Tensor)| m.forward(x).cross_entropy(y);
/// let found = measure(&Training::new(OptimizerSettings::new("sgd", 0.1)), loss, &model, &[(x, y)])?;
/// assert!(found.diagnoses.is_empty() && found.loss_after.0 < found.loss.0);
/// # Ok::<(), chainrule_nn::optimizer::SettingsError>(())
/// ```
#[track_caller]
pub fn measure<T: Tree + Clone, B: Tree + Clone>(
    training: &Training,
    loss: impl Fn(&T, &B) -> Tensor,
    model: &T,
    batches: &[B],
) -> Result<Measurement, SettingsError> {
    let flow = GradientFlow::observe_batches(&training.options(), &loss, model, batches);
    Measurement::of(&flow, training, loss, model, batches)
}

impl Measurement {
    /// [`measure`] of a model whose flow has been observed.
    ///
    /// # Errors
    /// As [`measure`].
    #[track_caller]
    pub fn of<T: Tree + Clone, B: Tree + Clone>(
        flow: &GradientFlow,
        training: &Training,
        loss: impl Fn(&T, &B) -> Tensor,
        model: &T,
        batches: &[B],
    ) -> Result<Measurement, SettingsError> {
        Ok(Measurement {
            loss: flow.loss,
            gradient_norm: flow.gradient_norm,
            fall: flow.fall().map(Number),
            product: flow.layers.first().map_or(Number(1.0), |layer| layer.product),
            update_ratio: flow.layers.iter().filter_map(|layer| layer.update_ratio).reduce(f64::max),
            diagnoses: flow.verdict().into_iter().map(|finding| finding.diagnosis).collect(),
            steps: training.steps,
            loss_after: Number(loss_after(training, loss, model, batches)?),
        })
    }
}

/// The mean loss after a short training; not finite as soon as it is not.
#[track_caller]
fn loss_after<T: Tree + Clone, B: Tree + Clone>(
    training: &Training,
    loss: impl Fn(&T, &B) -> Tensor,
    model: &T,
    batches: &[B],
) -> Result<f64, SettingsError> {
    let mut optimizer = training.short().build(model, training.steps)?;
    let mut model = model.clone();
    let mut step = compile(|(model, optimizer, batch): &(T, AnyOptimizer<T>, B)| {
        let scaled = |m: &T| {
            let loss = loss(m, batch);
            (if training.loss_scale == 1.0 { loss.clone() } else { &loss * training.loss_scale }, loss)
        };
        let (_, value, slopes) = match gradient(scaled, model, Unreached::Zeros) {
            Ok(result) => result,
            Err(error) => panic!("measure: {error}"),
        };
        let unscaled = |slope: &Tensor| match training.loss_scale {
            1.0 => slope.clone(),
            scale if slope.dtype().is_float() => slope / scale,
            _ => slope.clone(),
        };
        let slopes = tree::map(&slopes, unscaled);
        let slopes =
            training.clip_norm.map_or_else(|| tree::map(&slopes, Tensor::clone), |most| clip_norm(&slopes, most).0);
        (optimizer.update(model, &slopes), value)
    });
    for number in 0..training.steps as usize {
        let value;
        let batch = batches[number % batches.len()].clone();
        ((model, optimizer), value) = match step.run((model, optimizer, batch)) {
            Ok(result) => result,
            Err(error) => panic!("measure: {error}"),
        };
        if !value.to_f64().is_finite() {
            return Ok(value.to_f64());
        }
    }
    Ok(batches.iter().map(|batch| loss(&model, batch).to_f64()).sum::<f64>() / batches.len() as f64)
}

/// One change and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// What was changed, in words.
    pub change: String,
    /// The same measurement with the change made.
    pub after: Measurement,
    /// Whether what was wrong first is gone, and the loss after the steps is no higher than without the change.
    pub helps: bool,
    /// Whether nothing else is wrong then.
    pub cured: bool,
}

/// Changes side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trials {
    /// Without a change.
    pub before: Measurement,
    /// Each change.
    pub tried: Vec<Trial>,
}

impl Trials {
    /// With nothing tried so far.
    pub fn new(before: Measurement) -> Trials {
        Trials { before, tried: Vec::new() }
    }

    /// Adds what came of a change.
    pub fn push(&mut self, change: impl Into<String>, after: Measurement) {
        let gone = self.before.diagnoses.first().is_none_or(|first| !after.diagnoses.contains(first));
        let (was, is) = (self.before.loss_after.0, after.loss_after.0);
        let helps = gone && is.is_finite() && (!was.is_finite() || is <= was);
        let cured = helps && after.diagnoses.is_empty();
        self.tried.push(Trial { change: change.into(), after, helps, cured });
    }

    /// The change that cures with the lowest loss after the steps; if none does, of those that help.
    pub fn best(&self) -> Option<&Trial> {
        let helps = self.tried.iter().filter(|trial| trial.helps);
        helps.min_by(|a, b| b.cured.cmp(&a.cured).then(a.after.loss_after.0.total_cmp(&b.after.loss_after.0)))
    }
}

/// Tries each of these remedies on a model whose flow has been observed.
///
/// # Errors
/// As [`measure`].
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::GradientFlow;
/// use chainrule_lens::flow::{Diagnosis, Training, try_remedies};
/// use chainrule_nn::prelude::*;
/// // Relu with weights of a tenth of the right size.
/// let model = Mlp::new(&Key::new(1), &[4, 16, 16, 16, 16, 16, 16, 2]);
/// let model = chainrule::tree::map_named(&model, |path, _, w| if path.ends_with("weight") { (w * 0.3).eval() } else { w.clone() });
/// let x = Key::new(2).normal([32, 4], DType::F32).eval();
/// let y = x.at((.., 0)).greater(0.0).cast(DType::I64).eval();
/// let (loss, batches) = (|m: &Mlp, (x, y): &(Tensor, Tensor)| m.forward(x).cross_entropy(y), [(x, y)]);
/// let training = Training::new(OptimizerSettings::new("sgd", 0.1));
/// let flow = GradientFlow::observe_batches(&training.options(), loss, &model, &batches);
/// assert_eq!(flow.verdict()[0].diagnosis, Diagnosis::Vanishing);
/// let trials = try_remedies(&flow, &flow.remedies(&training), &training, loss, &model, &batches)?;
/// let best = trials.best().unwrap();
/// assert_eq!(best.change, "weights from N(0, 2.0/inputs)");
/// assert!(best.after.loss_after.0 < 0.5 * trials.before.loss_after.0, "{trials}");
/// # Ok::<(), chainrule_nn::optimizer::SettingsError>(())
/// ```
#[track_caller]
pub fn try_remedies<T: Tree + Clone, B: Tree + Clone>(
    flow: &GradientFlow,
    remedies: &[Remedy],
    training: &Training,
    loss: impl Fn(&T, &B) -> Tensor,
    model: &T,
    batches: &[B],
) -> Result<Trials, SettingsError> {
    let mut trials = Trials::new(Measurement::of(flow, training, &loss, model, batches)?);
    for remedy in remedies {
        let (model, training) = remedy.apply(flow, model, training);
        let curvature = flow.largest_eigenvalue.is_some();
        let options = FlowOptions { curvature, ..training.options() };
        let after = GradientFlow::observe_batches(&options, &loss, &model, batches);
        trials.push(remedy.to_string(), Measurement::of(&after, &training, &loss, &model, batches)?);
    }
    Ok(trials)
}

impl GradientFlow {
    /// What is worth trying against what is wrong first.
    pub fn remedies(&self, training: &Training) -> Vec<Remedy> {
        let Some(first) = self.verdict().first().map(|finding| finding.diagnosis) else { return Vec::new() };
        let squashes =
            self.layers.iter().flat_map(|l| &l.activation).any(|name| matches!(name.as_str(), "tanh" | "sigmoid"));
        let start = Remedy::Initialisation { gain: if squashes { 1.0 } else { std::f64::consts::SQRT_2 } };
        let rate = training.optimizer.rate;
        let stable = self.largest_eigenvalue.filter(|&l| l > 0.0).map(|l| (1.0 + self.momentum) / l);
        let slower =
            Remedy::LearningRate(stable.filter(|&stable| stable < rate && !self.adaptive).unwrap_or(rate / 10.0));
        let largest = self.layers.iter().filter_map(|l| l.update_ratio).fold(0.0, f64::max);
        match first {
            Diagnosis::Vanishing
            | Diagnosis::Saturated
            | Diagnosis::SaturatedAttention
            | Diagnosis::Symmetric
            | Diagnosis::ZeroWeights => vec![start],
            Diagnosis::DeadUnits => vec![start, slower],
            Diagnosis::Exploding => vec![start, Remedy::ClipNorm(1.0), slower],
            Diagnosis::DominatedTerm | Diagnosis::InputScale => vec![Remedy::ClipNorm(1.0), slower],
            Diagnosis::NoWarmUp => vec![Remedy::WarmUp(training.steps / 2), slower],
            Diagnosis::StepTooLarge => {
                let usual = if largest > 0.0 { rate * 1e-2 / largest } else { rate / 10.0 };
                vec![if self.adaptive { Remedy::LearningRate(usual) } else { slower }, Remedy::ClipNorm(1.0)]
            }
            Diagnosis::StepTooSmall | Diagnosis::LossOfPrecision if largest > 0.0 => {
                vec![Remedy::LearningRate(rate * 1e-2 / largest)]
            }
            _ => Vec::new(),
        }
    }
}

impl std::fmt::Display for Trials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.tried.iter().map(|trial| trial.change.chars().count());
        let width = names.max().unwrap_or(0).max(8);
        let after = format!("after {}", self.before.steps);
        writeln!(
            f,
            "  {:<width$} {:>9} {after:>9} {:>9} {:>10} {:>9}",
            "tried", "loss", "gradient", "first/last", "product"
        )?;
        let row = |f: &mut std::fmt::Formatter<'_>, name: &str, m: &Measurement, said: &str| {
            let number = |x: f64| {
                if x == 0.0 || (1e-3..1e5).contains(&x.abs()) { format!("{x:.4}") } else { format!("{x:.1e}") }
            };
            let fall = m.fall.map_or(String::new(), |fall| format!("{:.1e}", fall.0));
            writeln!(
                f,
                "  {name:<width$} {:>9} {:>9} {:>9} {fall:>10} {:>9}  {said}",
                number(m.loss.0),
                number(m.loss_after.0),
                format!("{:.1e}", m.gradient_norm.0),
                format!("{:.1e}", m.product.0),
            )
        };
        let first = |m: &Measurement| m.diagnoses.first().map_or("nothing is wrong".to_owned(), Diagnosis::to_string);
        row(f, "as it is", &self.before, &first(&self.before))?;
        self.tried.iter().try_for_each(|trial| {
            let said = match (trial.cured, trial.helps) {
                (true, _) => "cured: nothing is wrong".to_owned(),
                (_, true) => format!("better: {}", first(&trial.after)),
                _ => first(&trial.after),
            };
            row(f, &trial.change, &trial.after, &said)
        })
    }
}
