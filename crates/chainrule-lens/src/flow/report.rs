//! What was observed, and its text for a terminal.

use super::noise::NoiseScale;
use crate::place::{Number, Place};
use serde::Serialize;

/// What one loss does to activations and gradients, layer by layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GradientFlow {
    /// The loss.
    pub loss: Number,
    /// Length of the whole gradient.
    pub gradient_norm: Number,
    /// Layers in the order in which they are computed.
    pub layers: Vec<LayerFlow>,
    /// Every parameter, in the tree's order.
    pub parameters: Vec<ParameterFlow>,
    /// Softmaxes that weigh something: attention.
    pub softmaxes: Vec<Softmax>,
    /// The terms that the loss is the sum of.
    pub terms: Vec<Term>,
    /// Lines where a softmax is taken of probabilities.
    pub double_softmax: Vec<Place>,
    /// Whether the loss has the logarithm of a likelihood in it.
    pub log_likelihood: bool,
    /// The learning rate, if it was given.
    pub learning_rate: Option<f64>,
    /// Whether steps are about the learning rate in each element.
    pub adaptive: bool,
    /// Momentum of plain descent.
    pub momentum: f64,
    /// The most that the gradient's norm may be, if it is clipped.
    pub clip_norm: Option<f64>,
    /// Whether the learning rate is reached from below.
    pub warm_up: bool,
    /// What the training multiplies its loss by.
    pub loss_scale: f64,
    /// The largest eigenvalue of the Hessian, if it was asked for.
    pub largest_eigenvalue: Option<f64>,
    /// How many batches were observed; all numbers are of them together.
    pub batches: usize,
    /// How much the gradients of examples differ, from several batches.
    pub noise: Option<NoiseScale>,
    /// Whether examples know their companions, from several batches.
    pub companions: Option<Companions>,
    /// The loss in evaluation of the same examples, if somebody found it.
    pub evaluated: Option<Number>,
}

/// What the other examples of a batch do to the loss of one. Where each example stands alone the two are equal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Companions {
    /// The mean loss of the batches.
    pub together: Number,
    /// The mean loss of the same examples, each beside half of its own batch twice: what chance in so few does.
    pub halves: Number,
    /// The mean loss of the same examples, each beside those of other batches.
    pub mixed: Number,
    /// The standard error of that mean.
    pub error: Number,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerFlow {
    /// The path that its parameters are under.
    pub path: String,
    /// The operation in which data and parameters first meet.
    pub operation: String,
    /// Its line.
    pub line: Place,
    /// Shape of its output.
    pub shape: Vec<usize>,
    /// Dtype of its output.
    pub dtype: String,
    /// Its output.
    pub output: Spread,
    /// Mean of its input.
    pub input_mean: Number,
    /// Root mean square of its input.
    pub input_rms: Number,
    /// ‖∂L/∂z‖ at its output z.
    pub gradient_norm: Number,
    /// The gradient at the first step of its input over that at the last, if it walks along sequences.
    pub through_time: Option<Number>,
    /// Whether the cell of that walk has gates.
    pub gated: bool,
    /// The length of a step of its parameters over theirs, if a learning rate is known.
    pub update_ratio: Option<f64>,
    /// Slope of the activation that follows, where one follows that works on elements.
    pub slope: Option<Slope>,
    /// The Jacobian from the previous layer's output to this layer's.
    pub gain: Option<Gain>,
    /// The product of gains from the last layer down to this one's output.
    pub product: Number,
    /// The layer before.
    pub previous: Option<String>,
    /// The operations that follow and are not linear.
    pub activation: Vec<String>,
    /// Whether its output is linear in its input.
    pub linear: bool,
    /// Whether something that is not linear stands between the previous layer and this one.
    pub nonlinear_before: bool,
    /// Whether a residual is added between the previous layer and this one.
    pub residual_before: bool,
    /// Its parameters, as places in [`GradientFlow::parameters`].
    pub parameters: Vec<usize>,
}

/// Moments of a layer's output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean of all elements.
    pub mean: Number,
    /// Root mean square of all elements.
    pub rms: Number,
    /// Root mean square of each unit's difference from its mean over examples.
    pub between_examples: Number,
}

/// Slopes of an activation over a batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slope {
    /// Root mean square.
    pub rms: Number,
    /// The share that is exactly 0.
    pub off: f64,
    /// The share below 0.05 in size, the zeros among them.
    pub saturated: f64,
    /// The share of units whose slope is 0 for every example.
    pub dead: f64,
}

/// A layer's Jacobian J, as a gradient meets it on its way down.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gain {
    /// ‖Jᵀu‖/‖u‖ for random u.
    pub rms: Number,
    /// The part of the layer itself, from its input to its output.
    pub own: Number,
    /// The rest: the activation before it, and what else stands there.
    pub before: Number,
    /// The largest singular value, by power iteration.
    pub largest: Number,
}

impl Gain {
    /// From the lengths of a gradient at a layer's output, at its input, and at the output of the layer before.
    pub(super) fn of_gradient(output: f64, input: f64, previous: f64) -> Gain {
        let rms = Number(previous / output);
        let before = Number(previous / input.max(f64::MIN_POSITIVE));
        Gain { rms, own: Number(input / output), before, largest: rms }
    }
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParameterFlow {
    /// Its path.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its length.
    pub norm: Number,
    /// The length of its gradient.
    pub gradient_norm: Number,
    /// The length of a step, if a learning rate is known.
    pub step: Option<f64>,
    /// The length of a step over that of the parameter, if a learning rate is known.
    pub update_ratio: Option<f64>,
    /// Whether the loss depends on it through a path that has a derivative.
    pub reached: bool,
    /// The share of its gradient that is exactly 0.
    pub zero_share: f64,
    /// The share of steps that round to nothing, if it is kept in f16 or bf16 and a learning rate is known.
    pub lost: Option<f64>,
    /// ‖g − g₆₄‖/‖g₆₄‖ against the gradient in double precision, where f16 or bf16 is computed in.
    pub error: Option<Number>,
    /// Whether all rows are equal and get equal gradients, so that they stay equal.
    pub alike: bool,
}

/// A softmax over scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Softmax {
    /// Its line.
    pub line: Place,
    /// Over how many scores.
    pub width: usize,
    /// The mean of the largest weight of each row; 1 is saturated.
    pub largest: Number,
}

/// One term of the loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// Its value.
    pub value: Number,
    /// Its line.
    pub line: Place,
}

impl GradientFlow {
    /// The layer of a path.
    pub fn layer(&self, path: &str) -> Option<&LayerFlow> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// The length of the gradient at the first layer over that at the last; none where it says nothing.
    pub fn fall(&self) -> Option<f64> {
        let (first, last) = (self.layers.first()?, self.layers.last()?);
        let size = |layer: &LayerFlow| layer.gradient_norm.0;
        // A last layer of zeros lets nothing down in the first step and does in the second.
        let started = last.gain.as_ref().is_none_or(|gain| gain.own.0 > 0.0);
        (self.layers.len() > 1 && started && size(last) > 0.0).then(|| size(first) / size(last))
    }

    /// With the loss of the same examples in evaluation, where running statistics stand for those of the batch.
    pub fn with_evaluation(self, loss: f64) -> GradientFlow {
        GradientFlow { evaluated: Some(Number(loss)), ..self }
    }
}

fn percent(x: Option<f64>) -> String {
    x.map_or(String::new(), |x| format!("{:.0} %", x * 100.0))
}

impl GradientFlow {
    fn write_layer(&self, f: &mut std::fmt::Formatter<'_>, layer: &LayerFlow, width: usize) -> std::fmt::Result {
        let gain = |get: fn(&Gain) -> Number| layer.gain.as_ref().map_or(String::new(), |g| format!("{:.3}", get(g).0));
        let update = layer.update_ratio.map_or(String::new(), |ratio| format!(" {ratio:>9.1e}"));
        writeln!(
            f,
            "  {:<width$} {:>10.3e} {:>10.3e} {:>6} {:>6} {:>8} {:>8} {:>10.2e} {:>10.2e}{update}",
            layer.path,
            layer.output.rms.0,
            layer.output.between_examples.0,
            percent(layer.slope.as_ref().map(|slope| slope.saturated)),
            percent(layer.slope.as_ref().map(|slope| slope.dead)),
            gain(|g| g.rms),
            gain(|g| g.largest),
            layer.product.0,
            layer.gradient_norm.0,
        )
    }

    fn write_below(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for layer in &self.layers {
            if let Some(ratio) = layer.through_time {
                writeln!(f, "  {}: the gradient at the first step is {:.1e} of that at the last", layer.path, ratio.0)?;
            }
        }
        if let Some(eigenvalue) = self.largest_eigenvalue {
            let stable = 2.0 * (1.0 + self.momentum) / eigenvalue;
            writeln!(f, "  largest eigenvalue {eigenvalue:.4e}, so descent is stable below {stable:.4e}")?;
        }
        match self.noise.as_ref().map(|noise| noise.scale) {
            Some(Some(scale)) => {
                writeln!(f, "  gradient noise scale {scale:.3}: batches far below are noise, far above waste")
            }
            Some(None) => writeln!(f, "  gradient noise scale: more than these batches can tell"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for GradientFlow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let batches = if self.batches > 1 { format!(", over {} batches", self.batches) } else { String::new() };
        writeln!(f, "loss {}, gradient {}{batches}", self.loss, self.gradient_norm)?;
        let width = self.layers.iter().map(|layer| layer.path.len()).max().unwrap_or(0).max(5);
        let update = if self.layers.iter().any(|layer| layer.update_ratio.is_some()) { "    update" } else { "" };
        writeln!(
            f,
            "  {:<width$} {:>10} {:>10} {:>6} {:>6} {:>8} {:>8} {:>10} {:>10}{update}",
            "layer", "output", "spread", "flat", "dead", "gain", "largest", "product", "gradient"
        )?;
        self.layers.iter().try_for_each(|layer| self.write_layer(f, layer, width))?;
        self.write_below(f)?;
        self.verdict().iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
