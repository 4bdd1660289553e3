//! The task of most trainings: a forward pass, a loss against known targets, an optimizer.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use chainrule::tensor::{DType, Key, Tensor, Written};
use chainrule::tree::{self, Role, Tree};
use chainrule_nn::accumulate::accumulate;
use chainrule_nn::average::Average;
use chainrule_nn::clip::{clip_adaptive, clip_norm, clip_norm_each, clip_value};
use chainrule_nn::context::{Context, value_and_grad_with_state};
use chainrule_nn::optimizer::Optimizer;
use chainrule_nn::precision::{LossScale, Precision, only_if};
use serde::{Deserialize, Serialize};

use super::{Measures, Metric, Task, within};
use crate::data::Batch;

type Forward<M> = Box<dyn Fn(&mut M, &Batch, &mut Context) -> Tensor + Send + Sync>;
type Loss = Box<dyn Fn(&Tensor, &Batch) -> Tensor + Send + Sync>;

/// What a model should do: its forward pass, the loss of its output, and what to report beside it.
pub struct Objective<M> {
    forward: Forward<M>,
    loss: Loss,
    metrics: Vec<Metric>,
    ignore: Option<i64>,
    precision: Precision,
}

impl<M: Tree + Clone> Objective<M> {
    /// From a forward pass and a loss that is a mean over the batch.
    pub fn new(
        forward: impl Fn(&mut M, &Batch, &mut Context) -> Tensor + Send + Sync + 'static,
        loss: impl Fn(&Tensor, &Batch) -> Tensor + Send + Sync + 'static,
    ) -> Objective<M> {
        let (forward, loss) = (Box::new(forward), Box::new(loss));
        Objective { forward, loss, metrics: Vec::new(), ignore: None, precision: Precision::F32 }
    }

    /// Logits of a model that needs no [`Context`], and their cross-entropy: classification.
    pub fn classify(forward: impl Fn(&M, &Tensor) -> Tensor + Send + Sync + 'static) -> Objective<M> {
        Objective::new(
            move |model: &mut M, batch, _| forward(model, batch.input()),
            |logits, batch| logits.cross_entropy(batch.target()),
        )
    }

    /// Reporting these too.
    pub fn metrics(self, metrics: impl IntoIterator<Item = Metric>) -> Objective<M> {
        Objective { metrics: metrics.into_iter().collect(), ..self }
    }

    /// Not counting targets of this class. The loss must leave them out too; its mean is over the others.
    pub fn ignore(self, class: i64) -> Objective<M> {
        Objective { ignore: Some(class), ..self }
    }

    /// With the forward pass in this precision, of parameters that stay in f32; the loss is in f32.
    pub fn precision(self, precision: Precision) -> Objective<M> {
        Objective { precision, ..self }
    }

    /// What the model gives, in f32 at least.
    #[track_caller]
    pub fn output(&self, model: &mut M, batch: &Batch, context: &mut Context) -> Tensor {
        if self.precision == Precision::F32 {
            return (self.forward)(model, batch, context);
        }
        let mut narrow = self.precision.cast(model);
        let batch = Batch { inputs: self.precision.cast(&batch.inputs), targets: batch.targets.clone() };
        let output = (self.forward)(&mut narrow, &batch, context);
        // State is carried as it was: running statistics in f32.
        let mut after = tree::leaves(&narrow).into_iter();
        *model = tree::map_named(model, |_, role, leaf| match (role, after.next()) {
            (Role::State, Some(after)) => after.cast(leaf.dtype()),
            _ => leaf.clone(),
        });
        Precision::widen(&output)
    }

    /// The loss and what was measured, in training or evaluation as the context says.
    #[track_caller]
    pub fn loss(&self, model: &mut M, batch: &Batch, context: &mut Context) -> (Tensor, Measures) {
        let output = self.output(model, batch, context);
        let loss = (self.loss)(&output, batch);
        let weight = match (self.ignore, batch.targets.first()) {
            (Some(class), Some(target)) => target.not_equal(class).cast(DType::F64).sum(..),
            _ => Tensor::full([], batch.len() as f64, DType::F64),
        };
        let mut measures = Measures::new().weighted("loss", &loss, &weight);
        for metric in &self.metrics {
            measures = measures.with(metric.measure(&output, batch.target(), self.ignore));
        }
        (loss, measures)
    }

    /// How a model does on a batch.
    #[track_caller]
    pub fn evaluate(&self, model: &M, batch: &Batch) -> Measures {
        self.loss(&mut model.clone(), batch, &mut Context::evaluation()).1
    }
}

impl<M> std::fmt::Debug for Objective<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Objective");
        debug.field("metrics", &self.metrics).field("ignore", &self.ignore).field("precision", &self.precision);
        debug.finish_non_exhaustive()
    }
}

/// How gradients are limited before the optimizer sees them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clip {
    /// Each number to ±max.
    Value(f64),
    /// The norm of the whole gradient.
    Norm(f64),
    /// The norm of each parameter's gradient.
    NormEach(f64),
    /// The norm of each unit's gradient to this share of the unit's own (AGC).
    Adaptive(f64),
}

impl Clip {
    /// The limited gradient.
    #[track_caller]
    pub fn apply<M: Tree>(self, model: &M, gradients: &M) -> M {
        match self {
            Clip::Value(max) => clip_value(gradients, max),
            Clip::Norm(max) => clip_norm(gradients, max).0,
            Clip::NormEach(max) => clip_norm_each(gradients, max),
            Clip::Adaptive(factor) => clip_adaptive(model, gradients, factor),
        }
    }
}

/// Which average of the weights is evaluated and kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Averaging {
    /// a ← d·a + (1 − d)·w with this d (EMA).
    Exponential(f64),
    /// The same, with a smaller d in the first steps.
    ExponentialWarm(f64),
    /// The mean of the models from a step on, every so many steps (SWA).
    Stochastic {
        /// The first step that counts, from 0.
        start: u64,
        /// Steps between two that count.
        every: u64,
    },
}

impl Averaging {
    fn of<M: Tree>(self, model: &M) -> Average<M> {
        match self {
            Averaging::Exponential(decay) => Average::exponential(model, decay),
            Averaging::ExponentialWarm(decay) => Average::exponential_warm(model, decay),
            Averaging::Stochastic { start, every } => Average::stochastic(model, start, every),
        }
    }
}

/// A model in training and all that goes with it.
#[derive(Tree, Clone, Debug)]
pub struct Fit<M, O> {
    /// The model.
    pub model: M,
    /// The optimizer.
    pub optimizer: O,
    /// The average of the model over the training, if there is one.
    pub average: Option<Average<M>>,
    /// The scale of the loss, in f16.
    pub scale: Option<LossScale>,
}

impl<M, O> Fit<M, O> {
    /// The model to evaluate and to keep: the average, if there is one.
    pub fn best_model(&self) -> &M {
        self.average.as_ref().map_or(&self.model, |average| &average.model)
    }
}

/// The [`Task`] of an [`Objective`] and an optimizer.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// use chainrule_train::data::Batch;
/// use chainrule_train::task::{Metric, Objective, Supervised, Task};
///
/// let objective = Objective::classify(Mlp::forward).metrics([Metric::Accuracy]);
/// let task = Supervised::new(objective).clip_norm(1.0);
/// let model = Mlp::new(&Key::new(1), &[2, 8, 3]);
/// let adam = Adam::new(&model, 0.01);
/// let batch = Batch::new(Tensor::zeros([4, 2], DType::F32), Tensor::from([0i64, 1, 2, 0]));
/// let (state, measures) = task.step(&task.start(model, adam), &batch, &Key::new(7));
/// let numbers = measures.totals().numbers();
/// assert!(numbers.get("loss") > Some(0.5) && numbers.get("gradient_norm") > Some(0.0));
/// assert_eq!(state.optimizer.step.item::<i64>(), 1);
/// ```
pub struct Supervised<M, O> {
    objective: Objective<M>,
    clip: Vec<Clip>,
    parts: usize,
    average: Option<Averaging>,
    written: Option<&'static Written>,
    optimizer: PhantomData<fn(O)>,
}

impl<M: Tree + Clone, O: Optimizer<M> + Clone> Supervised<M, O> {
    /// With nothing but the objective.
    pub fn new(objective: Objective<M>) -> Supervised<M, O> {
        Supervised { objective, clip: Vec::new(), parts: 1, average: None, written: None, optimizer: PhantomData }
    }

    /// Limiting the norm of the whole gradient.
    pub fn clip_norm(self, max: f64) -> Supervised<M, O> {
        self.clip(Clip::Norm(max))
    }

    /// Limiting the gradient, after the limits given before.
    pub fn clip(mut self, clip: Clip) -> Supervised<M, O> {
        self.clip.push(clip);
        self
    }

    /// Taking each batch in so many equal parts, one after the other, in the memory of one. A batch that cannot be cut
    /// so is cut into as many equal parts below that as it can. Where targets are ignored, parts with fewer of them
    /// count as much as the others.
    pub fn accumulate(self, parts: usize) -> Supervised<M, O> {
        Supervised { parts: parts.max(1), ..self }
    }

    /// Evaluating and keeping an average of the weights.
    pub fn average(self, average: Averaging) -> Supervised<M, O> {
        Supervised { average: Some(average), ..self }
    }

    /// With what limits gradients and changes weights at this line of a file.
    pub fn written(self, at: &'static Written) -> Supervised<M, O> {
        Supervised { written: Some(at), ..self }
    }

    /// The state that a training starts from.
    pub fn start(&self, model: M, optimizer: O) -> Fit<M, O> {
        let average = self.average.map(|average| average.of(&model));
        let scale = (self.objective.precision == Precision::F16).then(LossScale::default);
        Fit { model, optimizer, average, scale }
    }

    /// The loss's measures, the model with its new state, and the gradient of the loss, scaled if it is.
    fn differentiate(&self, state: &Fit<M, O>, batch: &Batch, key: &Key) -> (Measures, M, M) {
        let scaled = |loss: Tensor| state.scale.as_ref().map_or(loss.clone(), |scale| scale.scale(&loss));
        let parts = (1..=self.parts).rev().find(|parts| batch.len().is_multiple_of(*parts)).unwrap_or(1);
        let (_, measures, model, gradients) = if parts == 1 {
            let loss = |model: &mut M| {
                let (loss, measures) = self.objective.loss(model, batch, &mut Context::training(key.clone()));
                (scaled(loss), measures)
            };
            value_and_grad_with_state(loss, &state.model)
        } else {
            let loss = |model: &mut M, part: &Batch, number: &Tensor| {
                let (loss, measures) = self.objective.loss(model, part, &mut Context::training(key.fold(number)));
                (scaled(loss), measures)
            };
            accumulate(parts, loss, &state.model, batch)
        };
        (measures, model, gradients)
    }
}

impl<M: Tree + Clone, O: Optimizer<M> + Clone> Task for Supervised<M, O> {
    type State = Fit<M, O>;

    fn step(&self, state: &Fit<M, O>, batch: &Batch, key: &Key) -> (Fit<M, O>, Measures) {
        let (mut measures, model, gradients) = self.differentiate(state, batch, key);
        let (finite, gradients) = match &state.scale {
            Some(scale) => {
                let (finite, gradients) = scale.unscale(&gradients);
                // A step that overflows is skipped; its gradient counts as none.
                let none = tree::map(&gradients, Tensor::zeros_like);
                (Some(finite.clone()), only_if(&finite, &gradients, &none))
            }
            None => (None, gradients),
        };
        measures = measures.gradient(&gradients);
        if let Some(rate) = state.optimizer.learning_rate() {
            measures = measures.last("rate", &rate);
        }
        if let Some(scale) = &state.scale {
            measures = measures.last("loss_scale", &scale.scale);
        }
        let mut next = within(self.written, || {
            let gradients = self.clip.iter().fold(gradients, |gradients, clip| clip.apply(&model, &gradients));
            state.optimizer.update(&model, &gradients)
        });
        if let Some(finite) = &finite {
            next = only_if(finite, &next, &(state.model.clone(), state.optimizer.clone()));
        }
        let average = within(self.written, || state.average.as_ref().map(|average| average.update(&next.0)));
        let scale = state.scale.as_ref().zip(finite).map(|(scale, finite)| scale.update(&finite));
        (Fit { model: next.0, optimizer: next.1, average, scale }, measures)
    }

    fn evaluate(&self, state: &Fit<M, O>, batch: &Batch) -> Measures {
        self.objective.evaluate(state.best_model(), batch)
    }

    fn observe(&self, state: Fit<M, O>, figure: f64) -> Fit<M, O> {
        let optimizer = state.optimizer.observe(&Tensor::from(figure));
        Fit { optimizer: tree::map(&optimizer, Tensor::eval), ..state }
    }

    fn model(&self, state: &Fit<M, O>) -> BTreeMap<String, Tensor> {
        let leaves = tree::named_leaves(state.best_model()).into_iter();
        leaves.map(|(path, _, leaf)| (path, leaf)).collect()
    }
}

impl<M, O> std::fmt::Debug for Supervised<M, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Supervised");
        debug.field("objective", &self.objective).field("clip", &self.clip);
        debug.field("parts", &self.parts).field("average", &self.average).finish()
    }
}
