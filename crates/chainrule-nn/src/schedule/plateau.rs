//! Reducing the rate when a figure stops getting better. What was seen is state: a checkpoint carries it.

use crate::optimizer::{SettingsError, not_negative};
use chainrule::tensor::Tensor;
use chainrule::tree::Tree;
use serde::{Deserialize, Serialize};

/// When and how far a [`Plateau`] reduces the rate; the defaults are those of PyTorch's `ReduceLROnPlateau`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlateauSettings {
    /// What the rate is multiplied by.
    pub factor: f64,
    /// How many looks without an improvement are borne.
    pub patience: u64,
    /// An improvement is one by more than this part of the best figure.
    pub threshold: f64,
    /// Looks after a reduction that do not count.
    pub cooldown: u64,
    /// The rate is not reduced below this one.
    pub floor: f64,
    /// Whether larger is better: an accuracy, not a loss.
    pub larger_is_better: bool,
}

impl Default for PlateauSettings {
    fn default() -> PlateauSettings {
        PlateauSettings { factor: 0.1, patience: 10, threshold: 1e-4, cooldown: 0, floor: 0.0, larger_is_better: false }
    }
}

impl PlateauSettings {
    /// Refuses settings from outside that make no sense.
    ///
    /// # Errors
    /// If the factor is not between 0 and 1, or a number is negative.
    pub fn check(&self) -> Result<(), SettingsError> {
        not_negative("plateau.threshold", self.threshold)?;
        not_negative("plateau.floor", self.floor)?;
        match self.factor > 0.0 && self.factor < 1.0 {
            true => Ok(()),
            false => {
                let message = format!("is {}; it must be more than 0 and less than 1", self.factor);
                Err(SettingsError::new("plateau.factor", message))
            }
        }
    }
}

/// A factor of the rate that shrinks when a figure has not got better for some looks.
///
/// Give it to any optimizer by `on_plateau` and show it a figure by `observe`, inside the program or outside.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let w = Tensor::from(1.0);
/// let settings = PlateauSettings { patience: 1, ..Default::default() };
/// let mut sgd = Sgd::new(&w, 0.5).on_plateau(Plateau::new(settings));
/// for loss in [3.0, 2.0, 2.0] {
///     sgd = Optimizer::<Tensor>::observe(&sgd, &Tensor::from(loss));
/// }
/// assert_eq!(sgd.rate().item::<f64>(), 0.5);
/// sgd = Optimizer::<Tensor>::observe(&sgd, &Tensor::from(2.0));
/// assert_eq!(sgd.rate().item::<f64>(), 0.05);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Plateau {
    #[tree(skip)]
    settings: PlateauSettings,
    /// The best figure so far, f64.
    #[tree(state)]
    pub best: Tensor,
    /// Looks since then, i64.
    #[tree(state)]
    pub bad: Tensor,
    /// Looks yet that do not count, i64.
    #[tree(state)]
    pub wait: Tensor,
    /// The factor, f64.
    #[tree(state)]
    pub scale: Tensor,
}

impl Plateau {
    /// One that has seen nothing.
    pub fn new(settings: PlateauSettings) -> Plateau {
        let worst = if settings.larger_is_better { f64::NEG_INFINITY } else { f64::INFINITY };
        let (best, scale) = (Tensor::from(worst), Tensor::from(1.0));
        Plateau { settings, best, bad: Tensor::from(0i64), wait: Tensor::from(0i64), scale }
    }

    /// After a look at the figure, a float of shape []. One that is not a number is no improvement.
    #[track_caller]
    pub fn observe(&self, figure: &Tensor) -> Plateau {
        let PlateauSettings { factor, patience, threshold, cooldown, larger_is_better, .. } = self.settings;
        let figure = figure.cast(self.best.dtype());
        let better = match larger_is_better {
            true => figure.greater(&self.best * (1.0 + threshold)),
            false => figure.less(&self.best * (1.0 - threshold)),
        };
        let waits = self.wait.greater(0i64);
        let bad = better.or(&waits).select(&self.bad.zeros_like(), &self.bad + 1i64);
        let reduce = bad.greater(patience as i64);
        let less = (&self.wait - 1i64).maximum(0i64);
        Plateau {
            settings: self.settings,
            best: better.select(&figure, &self.best),
            wait: reduce.select(&self.wait.full_like(cooldown as f64), less),
            bad: reduce.select(&bad.zeros_like(), &bad),
            scale: reduce.select(&(&self.scale * factor), &self.scale),
        }
    }

    /// A schedule's rate reduced.
    #[track_caller]
    pub fn apply(&self, rate: &Tensor) -> Tensor {
        (rate * &self.scale).maximum(rate.minimum(self.settings.floor))
    }
}
