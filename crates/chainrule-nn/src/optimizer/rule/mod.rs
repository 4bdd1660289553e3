//! Rules: what one optimizer does with one parameter. A new one is a struct of settings and one implementation of
//! [`Rule`]; everything else an optimizer does is in [`Descent`](super::Descent).

mod adam;
mod adaptive;
mod lamb;
mod lion;
mod muon;
mod sgd;

pub use adam::{Adam, AdamW, NAdam, RAdam};
pub use adaptive::{Adadelta, Adagrad, RmsProp};
pub use lamb::Lamb;
pub use lion::Lion;
pub use muon::{Muon, RateAdjustment};
pub use sgd::Sgd;

use chainrule::tensor::{DType, Tensor};

/// How weight decay λ enters a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Added to the gradient: g + λ·w.
    Coupled,
    /// Taken off the weight: w·(1 − η·λ). I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019.
    Decoupled,
    /// As the rule itself says.
    Own,
}

/// A parameter in a step.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// Its place in the model.
    pub path: &'a str,
    /// Its value w.
    pub weight: &'a Tensor,
    /// Its gradient g, with weight decay in it if that is coupled.
    pub gradient: &'a Tensor,
    /// Its weight decay λ, for rules that have their [own](Decay::Own).
    pub weight_decay: f64,
    /// What [`Rule::numbers`] gave for this step.
    pub numbers: &'a [Tensor],
    /// μ, or β₁, where a schedule says it in place of the rule; f64 of shape [].
    pub momentum: Option<&'a Tensor>,
}

impl Parameter<'_> {
    /// A number of this step in the parameter's dtype.
    #[track_caller]
    pub fn number(&self, index: usize) -> Tensor {
        self.numbers[index].cast(self.weight.dtype())
    }

    /// μ·x with the schedule's μ of this step, or with the rule's.
    #[track_caller]
    fn by_momentum(&self, x: &Tensor, usual: f64) -> Tensor {
        match self.momentum {
            Some(momentum) => x * momentum.cast(x.dtype()),
            None => x * usual,
        }
    }

    /// β₁·mean + (1 − β₁)·gradient with the schedule's β₁ of this step, or with the rule's.
    #[track_caller]
    fn running_gradient(&self, mean: &Tensor, usual: f64) -> Tensor {
        match self.momentum {
            Some(beta) => mean * beta.cast(mean.dtype()) + self.gradient * (1.0 - beta).cast(mean.dtype()),
            None => running(mean, usual, self.gradient),
        }
    }
}

/// The numbers of a step (f64 of shape []), and the one that is carried to the next.
pub type Numbers = (Vec<Tensor>, Option<Tensor>);

/// What an optimizer does with one parameter.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::optimizer::{Descent, Optimizer, Parameter, Rule};
/// /// Descent along the gradient's sign.
/// #[derive(Clone, Debug, Default)]
/// struct Signs;
/// impl Rule for Signs {
///     fn name(&self) -> &'static str { "signs" }
///     fn moments(&self) -> Vec<&'static str> { vec![] }
///     fn direction(&self, p: &Parameter<'_>, _: &mut [Tensor]) -> Tensor { p.gradient.sign() }
/// }
/// let w = Tensor::from([1.0, 1.0]);
/// let (w, _) = Descent::<_, Signs>::new(&w, 0.25).update(&w, &Tensor::from([9.0, -0.1]));
/// assert_eq!(w.to_vec::<f64>(), [0.75, 1.25]);
/// ```
pub trait Rule {
    /// The name in settings and messages.
    fn name(&self) -> &'static str;
    /// The names of the tensors it keeps for each parameter.
    fn moments(&self) -> Vec<&'static str>;
    /// The first value of one of them, for a parameter of which the path and zeros are given.
    fn start(&self, _moment: usize, _path: &str, zeros: &Tensor) -> Tensor {
        zeros.clone()
    }
    /// How weight decay enters.
    fn decay(&self) -> Decay {
        Decay::Coupled
    }
    /// The weight decay where nothing else is said.
    fn weight_decay(&self) -> f64 {
        0.0
    }
    /// The first value of a number that is carried from step to step, if the rule has one.
    fn carried(&self) -> Option<f64> {
        None
    }
    /// Whether it has a momentum, μ or β₁, that a schedule can change: then it looks at [`Parameter::momentum`].
    fn has_momentum(&self) -> bool {
        false
    }
    /// The numbers of step t = 1, 2, … that are the same for all parameters, such as corrections of a bias. They are
    /// computed in f64, once a step; the momentum is a schedule's, if there is one.
    fn numbers(&self, _t: &Tensor, _carried: Option<&Tensor>, _momentum: Option<&Tensor>) -> Numbers {
        (Vec::new(), None)
    }
    /// The direction u of w ← w − η·u; the moments are given as they were and left as they will be.
    fn direction(&self, parameter: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor;
    /// Refuses settings that make no sense, naming the one and what it should be.
    ///
    /// # Errors
    /// The setting's name, and a sentence that goes on from it.
    fn check(&self) -> Result<(), (&'static str, String)> {
        Ok(())
    }
}

/// Refuses a setting outside [0, 1).
fn fraction(name: &'static str, value: f64) -> Result<(), (&'static str, String)> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err((name, format!("is {value}; it must be at least 0 and less than 1"))),
    }
}

/// Refuses a setting below 0.
fn not_negative(name: &'static str, value: f64) -> Result<(), (&'static str, String)> {
    match value >= 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err((name, format!("is {value}; it must be a number that is not negative"))),
    }
}

/// Refuses a pair of factors and an ε.
fn adam_like(betas: (f64, f64), epsilon: f64) -> Result<(), (&'static str, String)> {
    fraction("betas", betas.0).and(fraction("betas", betas.1)).and(not_negative("epsilon", epsilon))
}

/// 1 − βᵗ in f64: what a running mean that began with 0 has seen after t steps.
#[track_caller]
fn seen(beta: f64, t: &Tensor) -> Tensor {
    1.0 - power(beta, t)
}

/// [`seen`] with the schedule's β of this step, or with the rule's.
#[track_caller]
fn seen_by(momentum: Option<&Tensor>, usual: f64, t: &Tensor) -> Tensor {
    momentum.map_or_else(|| seen(usual, t), |beta| 1.0 - beta.pow(t))
}

/// βᵗ.
#[track_caller]
fn power(beta: f64, t: &Tensor) -> Tensor {
    Tensor::full([], beta, DType::F64).pow(t)
}

/// β·mean + (1 − β)·value.
#[track_caller]
fn running(mean: &Tensor, beta: f64, value: &Tensor) -> Tensor {
    mean * beta + value * (1.0 - beta)
}
