//! What is kept of a look at a step: a line of a log, small enough to write hundreds of.

use serde::{Deserialize, Serialize};

use crate::flow::{Finding, GradientFlow, LayerFlow, ParameterFlow};
use crate::place::Number;

/// The gradient flow of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowRecord {
    /// The step, from 1.
    pub step: u64,
    /// Which of a pair of networks it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Its loss.
    pub loss: Number,
    /// Length of its gradient.
    pub gradient_norm: Number,
    /// Its learning rate, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Layers in the order in which they are computed.
    pub layers: Vec<WatchedLayer>,
    /// What became wrong since the look before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// One layer in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchedLayer {
    /// The path that its parameters are under.
    pub path: String,
    /// Root mean square of its output.
    pub output: Number,
    /// Root mean square of what differs between examples in its output.
    pub spread: Number,
    /// ‖∂L/∂z‖ at its output z.
    pub gradient: Number,
    /// Share of the following activation's slopes below 0.05, the zeros of a rectifier among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<f64>,
    /// Share of units whose slope is 0 for every example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<f64>,
    /// Length of its parameters.
    pub weight: Number,
    /// Length of the gradient of its parameters.
    pub weight_gradient: Number,
    /// Length of their update over their own.
    pub update: Number,
}

/// Something that became wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// What, as in `vanishing gradient`.
    pub diagnosis: String,
    /// The layers or parameters, by path.
    pub paths: Vec<String>,
    /// The numbers that say so.
    pub evidence: String,
    /// What to change.
    pub change: String,
}

impl FlowRecord {
    /// Of the flow in a step, and what in it is new.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_lens::{FlowRecord, GradientFlow};
    /// use chainrule_nn::prelude::*;
    /// let model = Mlp::new(&Key::new(1), &[8, 16, 3]);
    /// let (x, y) = (Key::new(2).normal([32, 8], DType::F32).eval(), Tensor::zeros([32], DType::I64));
    /// let flow = GradientFlow::observe(|m: &Mlp| m.forward(&x).cross_entropy(&y), &model);
    /// let record = FlowRecord::of(1, &flow, &flow.verdict());
    /// let line = serde_json::to_string(&record).unwrap();
    /// let back: FlowRecord = serde_json::from_str(&line).unwrap();
    /// assert_eq!((back.step, &back.layers[1].path), (1, &record.layers[1].path));
    /// assert!((back.loss.0 - record.loss.0).abs() < 1e-12);
    /// ```
    pub fn of(step: u64, flow: &GradientFlow, findings: &[Finding]) -> FlowRecord {
        FlowRecord {
            step,
            network: None,
            loss: flow.loss,
            gradient_norm: flow.gradient_norm,
            rate: flow.learning_rate,
            layers: flow.layers.iter().map(|layer| WatchedLayer::of(layer, &flow.parameters)).collect(),
            warnings: findings.iter().map(Warning::from).collect(),
        }
    }

    /// The same as that of one of a pair of networks: every path begins with its name.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_lens::{FlowRecord, GradientFlow};
    /// use chainrule_nn::prelude::*;
    /// let model = Mlp::new(&Key::new(1), &[8, 16, 3]);
    /// let (x, y) = (Key::new(2).normal([32, 8], DType::F32).eval(), Tensor::zeros([32], DType::I64));
    /// let flow = GradientFlow::observe(|m: &Mlp| m.forward(&x).cross_entropy(&y), &model);
    /// let record = FlowRecord::of(1, &flow, &[]).named("generator");
    /// assert_eq!((record.network.as_deref(), &*record.layers[0].path), (Some("generator"), "generator.layers.0"));
    /// ```
    pub fn named(mut self, network: &str) -> FlowRecord {
        let layers = self.layers.iter_mut().map(|layer| &mut layer.path);
        let warned = self.warnings.iter_mut().flat_map(|warning| &mut warning.paths);
        layers.chain(warned).for_each(|path| *path = format!("{network}.{path}"));
        FlowRecord { network: Some(network.to_owned()), ..self }
    }
}

impl WatchedLayer {
    fn of(layer: &LayerFlow, parameters: &[ParameterFlow]) -> WatchedLayer {
        let root = |of: fn(&ParameterFlow) -> f64| -> f64 {
            layer.parameters.iter().map(|&place| of(&parameters[place]).powi(2)).sum::<f64>().sqrt()
        };
        let weight = root(|parameter| parameter.norm.0);
        let moved = root(|parameter| parameter.update_ratio.unwrap_or(0.0) * parameter.norm.0);
        WatchedLayer {
            path: layer.path.clone(),
            output: layer.output.rms,
            spread: layer.output.between_examples,
            gradient: layer.gradient_norm,
            flat: layer.slope.as_ref().map(|slope| slope.saturated),
            dead: layer.slope.as_ref().map(|slope| slope.dead),
            weight: Number(weight),
            weight_gradient: Number(root(|parameter| parameter.gradient_norm.0)),
            update: Number(if weight > 0.0 { moved / weight } else { 0.0 }),
        }
    }
}

impl From<&Finding> for Warning {
    fn from(finding: &Finding) -> Warning {
        Warning {
            diagnosis: finding.diagnosis.to_string(),
            paths: finding.paths.clone(),
            evidence: finding.evidence.clone(),
            change: finding.change.clone(),
        }
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.diagnosis)?;
        match &self.paths[..] {
            [] => {}
            [path] => write!(f, " in {path}")?,
            [path, rest @ ..] => write!(f, " in {path} and {} more", rest.len())?,
        }
        write!(f, ": {}", self.evidence)
    }
}
