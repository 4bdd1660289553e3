//! Optimizers: how a gradient changes a model. Each is a tree of moments beside its configuration.
//!
//! What one optimizer does with one parameter is a [`Rule`], some ten lines in `rule/`. What all do alike is written
//! once in [`Descent`]: walking the model, the schedule, weight decay, parameter groups, frozen parameters, and the
//! reduction of the rate on a plateau. All that an optimizer carries is state to a gradient, and a checkpoint does not
//! hold a model's running statistics twice. Nothing here computes; methods that evaluate the model several times in a
//! step are in [`minimize`](crate::minimize).

mod descent;
mod group;
pub mod rule;
mod settings;

pub(crate) use settings::not_negative;

pub use descent::Descent;
pub use group::Group;
pub use rule::{Decay, Parameter, Rule};
pub use settings::{AnyRule, OptimizerSettings, SettingsError};

use chainrule::tensor::Tensor;
use chainrule::tree::{self, Tree};

/// What a training loop needs of an optimizer.
pub trait Optimizer<M: Tree>: Tree {
    /// The model after one step against its gradient, and the optimizer after it. The model's state is untouched.
    #[track_caller]
    fn update(&self, model: &M, gradients: &M) -> (M, Self);

    /// The rate of the next step, f64 of shape [], for those that have one.
    fn learning_rate(&self) -> Option<Tensor> {
        None
    }

    /// The optimizer after a look at a figure of the validation, for those that reduce their rate on a plateau.
    fn observe(&self, _figure: &Tensor) -> Self {
        tree::map(self, Tensor::clone)
    }
}

/// Gradient descent with momentum: [`rule::Sgd`].
pub type Sgd<M> = Descent<M, rule::Sgd>;
/// [`rule::Adam`].
pub type Adam<M> = Descent<M, rule::Adam>;
/// Adam with decoupled weight decay: [`rule::AdamW`].
pub type AdamW<M> = Descent<M, rule::AdamW>;
/// Adam with Nesterov's momentum: [`rule::NAdam`].
pub type NAdam<M> = Descent<M, rule::NAdam>;
/// Rectified Adam: [`rule::RAdam`].
pub type RAdam<M> = Descent<M, rule::RAdam>;
/// [`rule::RmsProp`].
pub type RmsProp<M> = Descent<M, rule::RmsProp>;
/// [`rule::Adagrad`].
pub type Adagrad<M> = Descent<M, rule::Adagrad>;
/// [`rule::Adadelta`].
pub type Adadelta<M> = Descent<M, rule::Adadelta>;
/// The sign of a momentum: [`rule::Lion`].
pub type Lion<M> = Descent<M, rule::Lion>;
/// Adam with a trust ratio for each parameter: [`rule::Lamb`].
pub type Lamb<M> = Descent<M, rule::Lamb>;
/// Orthogonalised momentum: [`rule::Muon`].
pub type Muon<M> = Descent<M, rule::Muon>;
/// Any of them, chosen by name when the program runs: [`OptimizerSettings`] makes it.
pub type AnyOptimizer<M> = Descent<M, AnyRule>;
