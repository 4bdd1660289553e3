//! The task of most trainings: a forward pass, a loss against known targets, an optimizer.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::{self, Tree};
use chainrule_nn::clip::clip_norm;
use chainrule_nn::context::{Context, value_and_grad_with_state};
use chainrule_nn::optimizer::Optimizer;

use super::{Measures, Metric, Task};
use crate::data::Batch;

type Forward<M> = Box<dyn Fn(&mut M, &Batch, &mut Context) -> Tensor + Send + Sync>;
type Loss = Box<dyn Fn(&Tensor, &Batch) -> Tensor + Send + Sync>;

/// What a model should do: its forward pass, the loss of its output, and what to report beside it.
pub struct Objective<M> {
    forward: Forward<M>,
    loss: Loss,
    metrics: Vec<Metric>,
    ignore: Option<i64>,
}

impl<M: Tree + Clone> Objective<M> {
    /// From a forward pass and a loss that is a mean over the batch.
    pub fn new(
        forward: impl Fn(&mut M, &Batch, &mut Context) -> Tensor + Send + Sync + 'static,
        loss: impl Fn(&Tensor, &Batch) -> Tensor + Send + Sync + 'static,
    ) -> Objective<M> {
        Objective { forward: Box::new(forward), loss: Box::new(loss), metrics: Vec::new(), ignore: None }
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

    /// The loss and what was measured, in training or evaluation as the context says.
    #[track_caller]
    pub fn loss(&self, model: &mut M, batch: &Batch, context: &mut Context) -> (Tensor, Measures) {
        let output = (self.forward)(model, batch, context);
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
        f.debug_struct("Objective").field("metrics", &self.metrics).field("ignore", &self.ignore).finish()
    }
}

/// A model in training and all that goes with it.
#[derive(Tree, Clone, Debug)]
pub struct Fit<M, O> {
    /// The model.
    pub model: M,
    /// The optimizer.
    pub optimizer: O,
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
    clip: Option<f64>,
    optimizer: PhantomData<fn(O)>,
}

impl<M: Tree + Clone, O: Optimizer<M> + Clone> Supervised<M, O> {
    /// With nothing but the objective.
    pub fn new(objective: Objective<M>) -> Supervised<M, O> {
        Supervised { objective, clip: None, optimizer: PhantomData }
    }

    /// Limiting the norm of the whole gradient.
    pub fn clip_norm(self, max: f64) -> Supervised<M, O> {
        Supervised { clip: Some(max), ..self }
    }

    /// The state that a training starts from.
    pub fn start(&self, model: M, optimizer: O) -> Fit<M, O> {
        Fit { model, optimizer }
    }
}

impl<M: Tree + Clone, O: Optimizer<M> + Clone> Task for Supervised<M, O> {
    type State = Fit<M, O>;

    fn step(&self, state: &Fit<M, O>, batch: &Batch, key: &Key) -> (Fit<M, O>, Measures) {
        let loss = |model: &mut M| self.objective.loss(model, batch, &mut Context::training(key.clone()));
        let (_, measures, model, gradients) = value_and_grad_with_state(loss, &state.model);
        let measures = measures.gradient(&gradients);
        let measures = match state.optimizer.learning_rate() {
            Some(rate) => measures.last("rate", &rate),
            None => measures,
        };
        let gradients = match self.clip {
            Some(max) => clip_norm(&gradients, max).0,
            None => gradients,
        };
        let (model, optimizer) = state.optimizer.update(&model, &gradients);
        (Fit { model, optimizer }, measures)
    }

    fn evaluate(&self, state: &Fit<M, O>, batch: &Batch) -> Measures {
        self.objective.evaluate(&state.model, batch)
    }

    fn observe(&self, state: Fit<M, O>, figure: f64) -> Fit<M, O> {
        let optimizer = state.optimizer.observe(&Tensor::from(figure));
        Fit { optimizer: tree::map(&optimizer, Tensor::eval), ..state }
    }

    fn model(&self, state: &Fit<M, O>) -> BTreeMap<String, Tensor> {
        tree::named_leaves(&state.model).into_iter().map(|(path, _, leaf)| (path, leaf)).collect()
    }
}

impl<M, O> std::fmt::Debug for Supervised<M, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervised").field("objective", &self.objective).field("clip", &self.clip).finish()
    }
}
