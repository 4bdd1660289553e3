//! From numbers to words: what is wrong, the evidence, and what to change.
//!
//! Rules stand in the order of causes: what the form of the loss already shows, then what stops a gradient altogether,
//! then layers that flatten it, then products that shrink or grow it, then steps. A finding that explains another comes
//! before it.

use super::report::{GradientFlow, LayerFlow};
use crate::place::Place;
use serde::Serialize;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Diagnosis {
    /// The loss or its gradient is not finite.
    NotFinite,
    /// A parameter has no path to the loss that a derivative could take.
    Unreachable,
    /// A softmax of what is a probability already.
    DoubleSoftmax,
    /// The loss is a likelihood that is made smaller, not larger.
    WrongSign,
    /// One term of the loss is far larger than the others.
    DominatedTerm,
    /// Inputs are far from mean 0 and spread 1.
    InputScale,
    /// All units of a layer are alike and stay so.
    Symmetric,
    /// A layer whose weights are all zero stops the gradient.
    ZeroWeights,
    /// Units whose activation has slope 0 for every example.
    DeadUnits,
    /// An activation works where it is flat.
    Saturated,
    /// The gradient shrinks from layer to layer.
    Vanishing,
    /// The gradient or the activations grow from layer to layer.
    Exploding,
    /// Attention that looks at one place only.
    SaturatedAttention,
    /// Two linear layers with nothing between them are one.
    MissingActivation,
    /// The output is the same for all examples.
    Collapsed,
    /// Gradients round to zero in the dtype.
    Underflow,
    /// Gradients or steps are lost in the rounding of f16 or bf16.
    LossOfPrecision,
    /// The loss of an example is low only beside the others of its batch: labels leak through statistics of the batch.
    BatchLeak,
    /// The loss is far higher with running statistics than with those of the batch.
    EvaluationDiffers,
    /// The learning rate is beyond what the curvature allows at the start, and is not reached from below.
    NoWarmUp,
    /// The learning rate is beyond what the curvature allows.
    StepTooLarge,
    /// Steps are too small to matter.
    StepTooSmall,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What.
    pub diagnosis: Diagnosis,
    /// The layers or parameters, by path.
    pub paths: Vec<String>,
    /// The line, where there is one.
    pub line: Option<Place>,
    /// The numbers that say so.
    pub evidence: String,
    /// What to change.
    pub change: String,
}

/// A gradient that falls or grows by this factor through the network is lost.
const FACTOR: f64 = 1e3;
/// A rate that is beyond 2/λ at first by less than this can be warmed up to.
const WARM: f64 = 32.0;
/// The share of a layer's elements at which it is called flat.
const MOST: f64 = 0.5;

impl std::fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Diagnosis::NotFinite => "not finite",
            Diagnosis::Unreachable => "unreachable parameters",
            Diagnosis::DoubleSoftmax => "softmax of probabilities",
            Diagnosis::WrongSign => "wrong sign",
            Diagnosis::DominatedTerm => "one term dominates",
            Diagnosis::InputScale => "inputs out of scale",
            Diagnosis::Symmetric => "units are alike",
            Diagnosis::ZeroWeights => "zero weights",
            Diagnosis::DeadUnits => "dead units",
            Diagnosis::Saturated => "saturated activation",
            Diagnosis::Vanishing => "vanishing gradient",
            Diagnosis::Exploding => "exploding gradient",
            Diagnosis::SaturatedAttention => "saturated attention",
            Diagnosis::MissingActivation => "missing activation",
            Diagnosis::Collapsed => "constant output",
            Diagnosis::Underflow => "underflow",
            Diagnosis::LossOfPrecision => "loss of precision",
            Diagnosis::BatchLeak => "labels leak through the batch",
            Diagnosis::EvaluationDiffers => "evaluation differs from training",
            Diagnosis::NoWarmUp => "no warm-up",
            Diagnosis::StepTooLarge => "learning rate too large",
            Diagnosis::StepTooSmall => "learning rate too small",
        })
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<&str> = self.paths.iter().take(4).map(String::as_str).collect();
        let more = if self.paths.len() > 4 { format!(" and {} more", self.paths.len() - 4) } else { String::new() };
        let place = if shown.is_empty() { String::new() } else { format!(" in {}{more}", shown.join(", ")) };
        let line = self.line.as_ref().map(|line| format!(" at {line}")).unwrap_or_default();
        writeln!(f, "{}{place}{line}", self.diagnosis)?;
        writeln!(f, "  because  {}", self.evidence)?;
        write!(f, "  change   {}", self.change)
    }
}

fn finding(diagnosis: Diagnosis, paths: Vec<String>, evidence: String, change: &str) -> Finding {
    Finding { diagnosis, paths, line: None, evidence, change: change.to_owned() }
}

/// Whether a squashing function follows.
fn squashes(layer: &LayerFlow) -> bool {
    layer.activation.iter().any(|name| matches!(name.as_str(), "tanh" | "sigmoid"))
}

impl GradientFlow {
    /// What is wrong, the first cause first; empty if nothing is.
    pub fn verdict(&self) -> Vec<Finding> {
        if !self.loss.0.is_finite() || !self.gradient_norm.0.is_finite() {
            let evidence = format!("the loss is {} and its gradient {}", self.loss, self.gradient_norm);
            let change = "trace_nonfinite says which operation made it and what to write instead";
            return vec![finding(Diagnosis::NotFinite, vec![], evidence, change)];
        }
        let rules: [fn(&GradientFlow) -> Option<Finding>; 22] = [
            GradientFlow::double_softmax,
            GradientFlow::wrong_sign,
            GradientFlow::unreachable,
            GradientFlow::batch_leak,
            GradientFlow::evaluation_differs,
            GradientFlow::dominated_term,
            GradientFlow::input_scale,
            GradientFlow::zero_weights,
            GradientFlow::symmetric,
            GradientFlow::exploding_forward,
            GradientFlow::dead_units,
            GradientFlow::saturated,
            GradientFlow::saturated_attention,
            GradientFlow::through_time,
            GradientFlow::products,
            GradientFlow::missing_activation,
            GradientFlow::collapsed,
            GradientFlow::underflow,
            GradientFlow::loss_of_precision,
            GradientFlow::no_warm_up,
            GradientFlow::step_too_large,
            GradientFlow::step_too_small,
        ];
        rules.iter().filter_map(|rule| rule(self)).collect()
    }

    fn double_softmax(&self) -> Option<Finding> {
        let line = self.double_softmax.first()?.clone();
        let evidence =
            "a log-softmax is taken of numbers between 0 and 1, so the classes can differ by a factor e at most";
        let change = "give the loss logits: leave out the softmax or sigmoid before it";
        Some(Finding { line: Some(line), ..finding(Diagnosis::DoubleSoftmax, vec![], evidence.into(), change) })
    }

    fn wrong_sign(&self) -> Option<Finding> {
        (self.log_likelihood && self.loss.0 < -1e-3).then(|| {
            let evidence =
                format!("the loss is {}: the mean logarithm of probabilities, which descent makes smaller", self.loss);
            finding(Diagnosis::WrongSign, vec![], evidence, "negate it: the loss is −log p")
        })
    }

    fn unreachable(&self) -> Option<Finding> {
        let paths: Vec<String> = self.parameters.iter().filter(|p| !p.reached).map(|p| p.path.clone()).collect();
        (!paths.is_empty()).then(|| {
            let evidence = format!("{} parameters have no path to the loss with a derivative", paths.len());
            let change = "use what they make, or take away the stop_gradient, rounding or comparison on the way; if they are \
                          meant to be frozen, mark them #[tree(state)]";
            finding(Diagnosis::Unreachable, paths, evidence, change)
        })
    }

    fn dominated_term(&self) -> Option<Finding> {
        let size = |i: &usize| self.terms[*i].value.0.abs();
        let mut order: Vec<usize> = (0..self.terms.len()).filter(|i| size(i) > 0.0).collect();
        order.sort_by(|a, b| size(b).total_cmp(&size(a)));
        let (first, second) = (*order.first()?, *order.get(1)?);
        (size(&first) > 300.0 * size(&second)).then(|| {
            let (value, line) = (self.terms[first].value, self.terms[first].line.clone());
            let evidence = format!("one term is {value}, the next {}", self.terms[second].value);
            let change = "weigh the terms so that their gradients are of one size";
            Finding { line: Some(line), ..finding(Diagnosis::DominatedTerm, vec![], evidence, change) }
        })
    }

    fn input_scale(&self) -> Option<Finding> {
        let first = self.layers.iter().find(|layer| layer.previous.is_none() && layer.operation != "gather")?;
        let (mean, rms) = (first.input_mean.0, first.input_rms.0);
        let off = rms > 20.0 || (rms > 0.0 && rms < 1e-3);
        (off && matches!(first.operation.as_str(), "dot" | "conv" | "scan")).then(|| {
            let evidence = format!("the input of {} has mean {mean:.3} and root mean square {rms:.3}", first.path);
            let change = "bring inputs to mean 0 and spread 1 with the training set's statistics";
            finding(Diagnosis::InputScale, vec![first.path.clone()], evidence, change)
        })
    }

    fn zero_weights(&self) -> Option<Finding> {
        let zero = |layer: &LayerFlow| {
            let mut weights = layer.parameters.iter().map(|&p| &self.parameters[p]).filter(|p| p.shape.len() > 1);
            weights.next().is_some_and(|p| p.norm.0 == 0.0 && p.path.ends_with("weight"))
        };
        // A last layer of zeros starts at a uniform guess and gets a gradient; one in between stops all below it.
        let last = self.layers.last().map(|layer| &layer.path);
        let stopped =
            |layer: &LayerFlow| Some(&layer.path) != last && layer.gain.as_ref().is_some_and(|gain| gain.rms.0 == 0.0);
        let cut = self.gradient_below_is_zero();
        let paths: Vec<String> =
            self.layers.iter().filter(|layer| zero(layer) && stopped(layer)).map(|layer| layer.path.clone()).collect();
        (!paths.is_empty() && cut).then(|| {
            let evidence = "their weights are all 0, so nothing comes through and no gradient goes below".to_owned();
            let change =
                "start weights at random, uniform on ±1/√inputs or as Kaiming's rule says; zeros are for biases";
            finding(Diagnosis::ZeroWeights, paths, evidence, change)
        })
    }

    fn gradient_below_is_zero(&self) -> bool {
        self.layers.first().is_some_and(|layer| layer.gradient_norm.0 == 0.0)
    }

    fn symmetric(&self) -> Option<Finding> {
        let alike =
            |p: &&super::ParameterFlow| p.alike && p.shape[0] > 1 && p.shape.iter().product::<usize>() > p.shape[0];
        let paths: Vec<String> = self.parameters.iter().filter(alike).map(|p| p.path.clone()).collect();
        (!paths.is_empty()).then(|| {
            let evidence =
                "all rows are equal and get equal gradients: the units compute one thing and always will".to_owned();
            finding(
                Diagnosis::Symmetric,
                paths,
                evidence,
                "start weights at random; equal values are for biases and scales",
            )
        })
    }

    fn exploding_forward(&self) -> Option<Finding> {
        let chain: Vec<&LayerFlow> = self.layers.iter().filter(|layer| layer.output.rms.0 > 0.0).collect();
        let (first, last) = (chain.first()?, chain.iter().max_by(|a, b| a.output.rms.0.total_cmp(&b.output.rms.0))?);
        let (low, high) = (first.output.rms.0.max(first.input_rms.0), last.output.rms.0);
        (high > FACTOR * low && high > 100.0).then(|| {
            let evidence = format!("activations grow from {low:.3} to {high:.3e} at {}", last.path);
            self.growth(evidence, last.path.clone())
        })
    }

    fn growth(&self, evidence: String, path: String) -> Finding {
        let change = if self.layers.iter().any(|layer| layer.residual_before) {
            "scale the residual branches by 1/√depth or normalise inside them; smaller first weights"
        } else {
            "start weights with variance 2/inputs for relu and 1/inputs for tanh, put a normalisation after each layer, or clip"
        };
        finding(Diagnosis::Exploding, vec![path], evidence, change)
    }

    fn dead_units(&self) -> Option<Finding> {
        // Where a whole chain shrinks, units of its narrow end stop one by one; that is its doing, not theirs.
        let most = if self.fall().is_some_and(|ratio| ratio < 1.0 / FACTOR) { 0.9 } else { MOST };
        let dead = |layer: &&LayerFlow| !squashes(layer) && layer.slope.as_ref().is_some_and(|slope| slope.dead > most);
        let found: Vec<&LayerFlow> = self.layers.iter().filter(dead).collect();
        let worst = found.iter().map(|l| l.slope.as_ref().map_or(0.0, |s| s.dead)).fold(0.0, f64::max);
        (!found.is_empty()).then(|| {
            let names = found[0].activation.join(", ");
            let evidence =
                format!("up to {:.0} % of the units have slope 0 for every example ({names})", worst * 100.0);
            let change =
                "lower the learning rate or the bias, start with Kaiming's variance, or use leaky_relu, elu or gelu";
            finding(Diagnosis::DeadUnits, found.iter().map(|layer| layer.path.clone()).collect(), evidence, change)
        })
    }

    fn saturated(&self) -> Option<Finding> {
        let flat = |layer: &&LayerFlow| {
            // A rectifier is off where it is flat; that is its purpose. A squashing function's slope rounds to 0 far out.
            let off = |slope: &super::Slope| if squashes(layer) { 0.0 } else { slope.off };
            layer.slope.as_ref().is_some_and(|slope| slope.saturated - off(slope) > MOST && off(slope) < MOST)
        };
        let found: Vec<&LayerFlow> = self.layers.iter().filter(flat).collect();
        let first = found.first()?;
        let slope = first.slope.as_ref()?;
        let evidence = format!(
            "{:.0} % of {}'s slopes after {} are below 0.05; its output is {:.2} in size",
            slope.saturated * 100.0,
            first.activation.join(", "),
            first.path,
            first.output.rms.0
        );
        let change =
            "smaller first weights (variance 1/inputs), inputs of mean 0 and spread 1, or a normalisation before it";
        Some(finding(Diagnosis::Saturated, found.iter().map(|layer| layer.path.clone()).collect(), evidence, change))
    }

    fn saturated_attention(&self) -> Option<Finding> {
        let softmax = self.softmaxes.iter().find(|softmax| softmax.width > 2 && softmax.largest.0 > 0.9)?;
        let evidence = format!(
            "the largest of {} weights is {:.3} on the mean, so the softmax is flat around it",
            softmax.width, softmax.largest.0
        );
        let change = "divide the scores by √d of the heads, or normalise queries and keys";
        Some(Finding {
            line: Some(softmax.line.clone()),
            ..finding(Diagnosis::SaturatedAttention, vec![], evidence, change)
        })
    }

    /// Vanishing and exploding, by what actually reaches the first layer against the last.
    fn products(&self) -> Option<Finding> {
        let (first, last) = (self.layers.first()?, self.layers.last()?);
        let ratio = self.fall()?;
        if ratio > FACTOR {
            let worst = self
                .layers
                .iter()
                .filter_map(|l| Some((l, l.gain.as_ref()?)))
                .max_by(|a, b| a.1.rms.0.total_cmp(&b.1.rms.0));
            let (layer, gain) = worst?;
            let evidence = format!(
                "the gradient grows by {ratio:.2e} from {} down to {}; the gain of {} is {:.2}",
                last.path, first.path, layer.path, gain.rms.0
            );
            return Some(self.growth(evidence, layer.path.clone()));
        }
        (ratio < 1.0 / FACTOR).then(|| self.vanishing(first, last, ratio))
    }

    fn vanishing(&self, first: &LayerFlow, last: &LayerFlow, ratio: f64) -> Finding {
        let logs = |get: fn(&super::Gain) -> f64| -> f64 {
            self.layers.iter().filter_map(|l| l.gain.as_ref()).map(|gain| get(gain).max(1e-30).log10()).sum()
        };
        let (own, before) = (logs(|gain| gain.own.0), logs(|gain| gain.before.0));
        let names: Vec<&str> =
            self.layers.iter().flat_map(|layer| layer.activation.iter().map(String::as_str)).collect();
        let name = if names.contains(&"sigmoid") { "σ' is 1/4 at most" } else { "the activations' slopes are small" };
        let (why, change) = if before < own {
            (
                format!("{name}: activations account for 10^{before:.1} of it and weights for 10^{own:.1}"),
                "use relu or gelu with Kaiming's variance, a residual path around each block, or a normalisation after each layer",
            )
        } else {
            (
                format!("weights are small: they account for 10^{own:.1} of it and activations for 10^{before:.1}"),
                "start weights with variance 2/inputs for relu and 1/inputs for tanh, or add a residual path or normalisation",
            )
        };
        let evidence = format!("the gradient falls by {ratio:.1e} from {} down to {}; {why}", last.path, first.path);
        let lowest = |l: &&LayerFlow| l.gain.is_some();
        let worst = self.layers.iter().filter(lowest).min_by(|a, b| {
            let rms = |l: &LayerFlow| l.gain.as_ref().map_or(f64::MAX, |gain| gain.rms.0);
            rms(a).total_cmp(&rms(b))
        });
        finding(Diagnosis::Vanishing, worst.map(|layer| layer.path.clone()).into_iter().collect(), evidence, change)
    }

    fn missing_activation(&self) -> Option<Finding> {
        let product = |layer: &LayerFlow| layer.linear && matches!(layer.operation.as_str(), "dot" | "conv");
        let linear = |layer: &&LayerFlow| {
            let previous = layer.previous.as_ref().and_then(|path| self.layer(path));
            let whole = layer.gain.as_ref().is_some_and(|gain| (gain.before.0 - 1.0).abs() < 1e-3);
            product(layer)
                && whole
                && !layer.nonlinear_before
                && !layer.residual_before
                && previous.is_some_and(product)
        };
        let found: Vec<&LayerFlow> = self.layers.iter().filter(linear).collect();
        let first = found.first()?;
        let evidence = format!(
            "{} takes the output of {} as it is, and two linear layers are one",
            first.path,
            first.previous.as_ref()?
        );
        let change = "put an activation between them, or leave one out";
        Some(finding(
            Diagnosis::MissingActivation,
            found.iter().map(|layer| layer.path.clone()).collect(),
            evidence,
            change,
        ))
    }

    fn collapsed(&self) -> Option<Finding> {
        let last = self.layers.last()?;
        let rows = *last.shape.first()? > 1 && last.shape.len() > 1;
        let (spread, rms) = (last.output.between_examples.0, last.output.rms.0);
        let moves = self.layers.iter().any(|layer| layer.output.between_examples.0 > 1e-3 * layer.output.rms.0);
        (rows && moves && rms > 0.0 && spread < 1e-4 * rms).then(|| {
            let evidence = format!("the output of {} is {rms:.3} in size and differs by {spread:.1e} between examples", last.path);
            let change = "look at the layers above where the spread is lost: a normalisation over the wrong axis, or weights too small";
            finding(Diagnosis::Collapsed, vec![last.path.clone()], evidence, change)
        })
    }

    fn underflow(&self) -> Option<Finding> {
        let low = |layer: &LayerFlow| layer.dtype == "f16";
        let mean =
            |layer: &LayerFlow| layer.gradient_norm.0 / (layer.shape.iter().product::<usize>().max(1) as f64).sqrt();
        let lost = |layer: &&LayerFlow| low(layer) && mean(layer) * self.loss_scale < 6.2e-5;
        let found: Vec<&LayerFlow> = self.layers.iter().filter(lost).collect();
        let first = found.first()?;
        let evidence = format!(
            "gradients at {} are {:.1e} in size; f16 is exact down to 6.1e-5 and 0 below 6e-8",
            first.path,
            mean(first)
        );
        let change = "scale the loss, or use bf16, which has f32's range";
        Some(finding(Diagnosis::Underflow, found.iter().map(|layer| layer.path.clone()).collect(), evidence, change))
    }

    fn batch_leak(&self) -> Option<Finding> {
        let companions = self.companions.as_ref()?;
        let mixed = companions.mixed.0;
        let together = companions.together.0.max(companions.halves.0);
        // Half of the loss, beyond what chance does: it is the company that makes examples easy.
        (mixed > 2.0 * together.max(0.0) && mixed - together > 3.0 * companions.error.0).then(|| {
            let evidence = format!(
                "the loss is {} in these batches and {} for the same examples beside others: a statistic of the batch \
                 tells the labels",
                companions.together, companions.mixed
            );
            let change = "mix the classes in each batch, or use a norm that sees one example: group_norm or layer_norm";
            finding(Diagnosis::BatchLeak, vec![], evidence, change)
        })
    }

    fn evaluation_differs(&self) -> Option<Finding> {
        let evaluated = self.evaluated?.0;
        (evaluated > 2.0 * self.loss.0 + 0.1 * self.loss.0.abs().max(0.1) || evaluated.is_nan()).then(|| {
            let evidence = format!("the loss is {} in training and {evaluated:.4} in evaluation of the same examples", self.loss);
            let change = "let running statistics see what training sees: the same inputs, more batches, a momentum that forgets \
                          slower; refresh_statistics counts them anew";
            finding(Diagnosis::EvaluationDiffers, vec![], evidence, change)
        })
    }

    /// What a loop along sequences does to the gradient on its way back.
    fn through_time(&self) -> Option<Finding> {
        let walks = self.layers.iter().filter_map(|layer| Some((layer, layer.through_time?.0)));
        let (layer, ratio) = walks.max_by(|a, b| a.1.ln().abs().total_cmp(&b.1.ln().abs()))?;
        let say =
            |what: &str| format!("the gradient {what} {ratio:.1e} from the last step of {} to the first", layer.path);
        if ratio > FACTOR && self.clip_norm.is_none() {
            let change = "clip the norm of the gradient, start the recurrent weights orthogonal, or use an LSTM or GRU";
            return Some(finding(Diagnosis::Exploding, vec![layer.path.clone()], say("grows by"), change));
        }
        // Gates learn to let the gradient through; a plain cell has nothing to learn it with.
        (ratio < 1.0 / FACTOR && !layer.gated).then(|| {
            let change = "use an LSTM or GRU, or start the recurrent weights orthogonal or as the identity";
            finding(Diagnosis::Vanishing, vec![layer.path.clone()], say("falls by"), change)
        })
    }

    fn loss_of_precision(&self) -> Option<Finding> {
        let total = self.gradient_norm.0;
        let wrong =
            |p: &&super::ParameterFlow| p.gradient_norm.0 > 1e-3 * total && p.error.is_some_and(|error| error.0 > 0.5);
        let lost = |p: &&super::ParameterFlow| p.shape.len() > 1 && p.lost.is_some_and(|lost| lost > 0.5);
        let (wrong, lost): (Vec<_>, Vec<_>) =
            (self.parameters.iter().filter(wrong).collect(), self.parameters.iter().filter(lost).collect());
        let paths = |found: &[&super::ParameterFlow]| found.iter().map(|p| p.path.clone()).collect();
        if let Some(first) = wrong.first() {
            let error = first.error.map_or(0.0, |error| error.0);
            let evidence =
                format!("the gradient of {} is {:.0} % off that in double precision", first.path, error * 100.0);
            let change = "compute what subtracts near numbers in f32: means, norms, the loss";
            return Some(finding(Diagnosis::LossOfPrecision, paths(&wrong), evidence, change));
        }
        let first = lost.first()?;
        let evidence =
            format!("{:.0} % of the steps of {} round to nothing", first.lost.unwrap_or(0.0) * 100.0, first.path);
        let change = "keep the weights in f32 and cast them for the forward pass, or raise the rate";
        Some(finding(Diagnosis::LossOfPrecision, paths(&lost), evidence, change))
    }

    /// The rate and the largest stable one at these weights, if it is beyond that. Sharpness falls as a rate rises
    /// (Gilmer et al. 2021), so a rate some times beyond can be warmed up to.
    fn beyond(&self) -> Option<(f64, f64)> {
        // A gradient that is clipped makes steps of one length, however steep the loss is.
        let clipped = self.clip_norm.is_some_and(|most| most < self.gradient_norm.0);
        let (rate, eigenvalue) = (self.learning_rate.filter(|_| !self.adaptive && !clipped)?, self.largest_eigenvalue?);
        let limit = 2.0 * (1.0 + self.momentum) / eigenvalue;
        (eigenvalue > 0.0 && rate > limit).then_some((rate, limit))
    }

    fn no_warm_up(&self) -> Option<Finding> {
        let (rate, limit) = self.beyond()?;
        (!self.warm_up && rate < WARM * limit).then(|| {
            let evidence =
                format!("the first steps are of rate {rate}, and stable at these weights below 2/λ = {limit:.3e}");
            let change = "warm up to the rate over the first hundred steps or so, or stay below that";
            finding(Diagnosis::NoWarmUp, vec![], evidence, change)
        })
    }

    fn step_too_large(&self) -> Option<Finding> {
        if let Some((rate, limit)) = self.beyond().filter(|(rate, limit)| *rate >= WARM * limit) {
            let evidence =
                format!("the rate is {rate}, and descent at these weights is stable below 2/λ = {limit:.3e}");
            let change = format!("lower it below {limit:.2e}");
            return Some(finding(Diagnosis::StepTooLarge, vec![], evidence, &change));
        }
        let most = if self.warm_up { 3.0 } else { 0.3 };
        let large =
            self.parameters.iter().filter(|p| p.shape.len() > 1 && p.update_ratio.is_some_and(|ratio| ratio > most));
        let paths: Vec<String> = large.map(|p| p.path.clone()).collect();
        (!paths.is_empty()).then(|| {
            let worst = self.parameters.iter().filter_map(|p| p.update_ratio).fold(0.0, f64::max);
            let evidence = format!("a step is up to {worst:.2} of the length of the weights; a thousandth is usual");
            finding(
                Diagnosis::StepTooLarge,
                paths,
                evidence,
                "lower the learning rate, warm it up, or clip the gradient",
            )
        })
    }

    fn step_too_small(&self) -> Option<Finding> {
        let ratios: Vec<f64> =
            self.parameters.iter().filter(|p| p.shape.len() > 1).filter_map(|p| p.update_ratio).collect();
        let largest = ratios.iter().copied().fold(0.0, f64::max);
        (!ratios.is_empty() && largest < 1e-6).then(|| {
            let evidence = format!("no step is longer than {largest:.1e} of its weights; a thousandth is usual");
            finding(Diagnosis::StepTooSmall, vec![], evidence, "raise the learning rate")
        })
    }
}
