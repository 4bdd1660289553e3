//! What is trained, as the loop sees it: a state, a step that changes it, and what can be measured.
//!
//! A [`Task`] knows models, losses and optimizers; the loop ([`trainer`](crate::trainer)), checkpoints and logs know only
//! the task. [`Supervised`] is the task of most trainings: a forward pass, a loss, an optimizer. [`Gan`] is that of a
//! pair of networks that train each other.

mod gan;
mod measures;
mod metric;
mod supervised;

pub use gan::{Adversarial, Gan, Players, gradient_penalty};
pub(crate) use measures::GRADIENT_NORM;
pub use measures::{Measure, Measures, Numbers, Rule, Total, Totals};
pub use metric::{FREE_RUNNING, Metric, MetricError};
pub use supervised::{Averaging, Clip, Fit, Objective, Supervised};

use std::collections::BTreeMap;

use chainrule::tensor::{Key, Tensor, Written};
use chainrule::tree::{self, Role, Tree};

use crate::data::Batch;

/// Something that can be trained step by step.
///
/// Both functions only write expressions: they are traced once for each form of a batch and run as programs. All that a
/// step changes is in the state, so a checkpoint of the state and the number of steps is all that a resumed training
/// needs.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_train::data::Batch;
/// use chainrule_train::task::{Measures, Task};
///
/// /// y = w·x by plain descent.
/// struct Slope;
///
/// impl Slope {
///     fn loss(w: &Tensor, batch: &Batch) -> Tensor {
///         (w * batch.input() - batch.target()).square().mean(..)
///     }
/// }
///
/// impl Task for Slope {
///     type State = Tensor;
///     fn step(&self, w: &Tensor, batch: &Batch, _: &Key) -> (Tensor, Measures) {
///         let (loss, slope) = value_and_grad(|w: &Tensor| Slope::loss(w, batch), w);
///         (w - slope * 0.1, Measures::new().mean("loss", &loss, batch.len()))
///     }
///     fn evaluate(&self, w: &Tensor, batch: &Batch) -> Measures {
///         Measures::new().mean("loss", &Slope::loss(w, batch), batch.len())
///     }
/// }
///
/// let batch = Batch::new(Tensor::from([1.0, 2.0]), Tensor::from([3.0, 6.0]));
/// let (w, measures) = Slope.step(&Tensor::from(0.0), &batch, &Key::new(0));
/// assert_eq!((w.item::<f64>(), measures.totals().numbers().get("loss")), (1.5, Some(22.5)));
/// ```
pub trait Task {
    /// All that a step changes: models, optimizers, averages, a loss scale.
    type State: Tree + Clone;

    /// The state after one step on a batch, and what the step showed before it changed anything. The key is this step's.
    fn step(&self, state: &Self::State, batch: &Batch, key: &Key) -> (Self::State, Measures);

    /// How the state does on a batch, without training.
    fn evaluate(&self, state: &Self::State, batch: &Batch) -> Measures;

    /// The state after a look at the figure that is watched: for a learning rate that falls on a plateau.
    fn observe(&self, state: Self::State, _figure: f64) -> Self::State {
        state
    }

    /// What is kept of the state when it has been trained, by name: the model. All parameters, unless a task says
    /// otherwise.
    fn model(&self, state: &Self::State) -> BTreeMap<String, Tensor> {
        named(state).filter(|leaf| leaf.1 == Role::Parameter).map(|leaf| (leaf.0, leaf.2)).collect()
    }
}

/// Builds expressions at a line of a file, if there is one.
fn within<T>(at: Option<&'static Written>, build: impl FnOnce() -> T) -> T {
    match at {
        Some(at) => at.scope(build),
        None => build(),
    }
}

fn named<T: Tree>(tree: &T) -> impl Iterator<Item = (String, Role, Tensor)> {
    tree::named_leaves(tree).into_iter()
}
