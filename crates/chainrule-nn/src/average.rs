//! Averages of a model over its training, for evaluation: exponential (EMA) and stochastic (SWA); and the running
//! statistics that belong to averaged weights.

use crate::context::{Context, with_state_of};
use chainrule::execute::{ExecuteError, compile};
use chainrule::tensor::{Key, Tensor};
use chainrule::tree::{self, Role, Tree};

/// A running average of a model, as a tree whose leaves are state.
///
/// All float leaves are averaged, also running statistics, so the average of a network with batch norm is ready for
/// evaluation; counters are those of the newest model. The first model that counts is copied.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let w = Tensor::from(1.0);
/// let average = Average::exponential(&w, 0.9).update(&w).update(&Tensor::from(2.0));
/// assert!((average.model.item::<f64>() - 1.1).abs() < 1e-12);
/// let average = Average::stochastic(&w, 1, 1).update(&Tensor::from(9.0)).update(&w).update(&Tensor::from(2.0));
/// assert_eq!(average.model.item::<f64>(), 1.5);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Average<M> {
    #[tree(skip)]
    kind: Kind,
    /// Models seen.
    #[tree(state)]
    pub seen: Tensor,
    /// The average.
    #[tree(state)]
    pub model: M,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Exponential { decay: f64, warm: bool },
    Stochastic { start: u64, every: u64 },
}

impl<M: Tree> Average<M> {
    /// a ← d·a + (1 − d)·w in each step. B. Polyak and A. Juditsky, "Acceleration of stochastic approximation by
    /// averaging", 1992.
    #[doc(alias = "EMA")]
    pub fn exponential(model: &M, decay: f64) -> Average<M> {
        Average::new(model, Kind::Exponential { decay, warm: false })
    }

    /// [`Average::exponential`] whose decay grows with the steps t = 0, 1, … seen: min(d, (1 + t)/(10 + t)), so that the
    /// first values are soon forgotten.
    pub fn exponential_warm(model: &M, decay: f64) -> Average<M> {
        Average::new(model, Kind::Exponential { decay, warm: true })
    }

    /// The mean of the models of the steps `start`, `start + every`, … counted from 0. P. Izmailov et al., "Averaging
    /// weights leads to wider optima and better generalization", 2018. Before the first, it is the newest model.
    ///
    /// Running statistics that belong to the averaged weights exactly take a pass over the data: [`refresh_statistics`].
    #[doc(alias = "SWA")]
    pub fn stochastic(model: &M, start: u64, every: u64) -> Average<M> {
        Average::new(model, Kind::Stochastic { start, every: every.max(1) })
    }

    fn new(model: &M, kind: Kind) -> Average<M> {
        Average { kind, seen: Tensor::from(0i64), model: tree::map(model, Tensor::clone) }
    }

    /// The average with the newest model in it.
    ///
    /// # Panics
    /// If the models differ in form.
    #[track_caller]
    pub fn update(&self, model: &M) -> Average<M> {
        let t = self.seen.cast(chainrule::tensor::DType::F64);
        // How far the average goes towards the new model: 1 copies it, 0 leaves it.
        let part = match self.kind {
            Kind::Exponential { decay, warm } => {
                let grown = if warm { ((&t + 1.0) / (&t + 10.0)).minimum(decay) } else { t.full_like(decay) };
                t.equal(0.0).select(&t.ones_like(), 1.0 - grown)
            }
            Kind::Stochastic { start, every } => {
                let after = &t - start as f64;
                let rounds = (&after / every as f64).floor();
                let taken = after.equal(&rounds * every as f64);
                let mean = 1.0 / (rounds.maximum(0.0) + 1.0);
                after.less(0.0).select(&t.ones_like(), taken.select(&mean, 0.0))
            }
        };
        let new = tree::leaves(model);
        let old = tree::leaves(&self.model);
        assert!(new.len() == old.len(), "update: the average has {} leaves and the model {}", old.len(), new.len());
        let leaves: Vec<Tensor> = old.iter().zip(&new).map(|(old, new)| moved(old, new, &part)).collect();
        Average { kind: self.kind, seen: &self.seen + 1i64, model: tree::rebuild(&self.model, &leaves) }
    }
}

#[track_caller]
fn moved(old: &Tensor, new: &Tensor, part: &Tensor) -> Tensor {
    if !old.dtype().is_float() {
        return new.clone();
    }
    let part = part.cast(old.dtype());
    old * (1.0 - &part) + new * part
}

/// A model whose running statistics are the plain means over these batches, all seen with the weights as they are: what an
/// average of weights needs where there are batch norms. As PyTorch's `update_bn`; `forward` is a pass as in training.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let norm = BatchNorm::new(1);
/// let batches = [Tensor::from([[1.0f32], [3.0]]), Tensor::from([[7.0f32], [9.0]])];
/// let pass = |norm: &mut BatchNorm, x: &Tensor, context: &mut Context| norm.forward(x, context);
/// let norm = refresh_statistics(&norm, batches, &Key::new(1), pass).unwrap();
/// assert_eq!((norm.running_mean.item::<f32>(), norm.num_batches_tracked.item::<i64>()), (5.0, 2));
/// ```
///
/// # Errors
/// If a value of a batch does not fit: an index outside its axis.
///
/// # Panics
/// Where the pass does.
#[doc(alias = "update_bn")]
#[track_caller]
pub fn refresh_statistics<M: Tree + Clone, B: Tree>(
    model: &M,
    batches: impl IntoIterator<Item = B>,
    key: &Key,
    forward: impl Fn(&mut M, &B, &mut Context) -> Tensor,
) -> Result<M, ExecuteError> {
    let mut model = tree::map_named(model, |path, role, leaf| match (role, path.rsplit('.').next()) {
        (Role::State, Some("running_mean" | "num_batches_tracked")) => leaf.zeros_like(),
        (Role::State, Some("running_var")) => leaf.ones_like(),
        _ => leaf.clone(),
    });
    let mut pass = compile(|(model, batch, step): &(M, B, Tensor)| {
        let mut after = model.clone();
        forward(&mut after, batch, &mut Context::gathering(key.fold(step)));
        with_state_of(model, &after)
    });
    for (step, batch) in batches.into_iter().enumerate() {
        model = pass.run((model, batch, Tensor::from(step as i64)))?;
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::BatchNorm;
    use chainrule::prelude::*;

    fn run(average: Average<Tensor>, values: &[f64]) -> Vec<f64> {
        let mut step = compile(|(average, w): &(Average<Tensor>, Tensor)| average.update(w));
        let mut state = average;
        let mut seen = Vec::new();
        for &value in values {
            state = step.run((state, Tensor::from(value))).unwrap();
            seen.push((state.model.item::<f64>() * 1e6).round() / 1e6);
        }
        seen
    }

    #[test]
    fn averages_are_their_formulas() {
        let w = Tensor::from(0.0);
        assert_eq!(run(Average::exponential(&w, 0.5), &[4.0, 2.0, 1.0]), [4.0, 3.0, 2.0]);
        assert_eq!(run(Average::exponential_warm(&w, 0.5), &[1.0, 12.0, 12.0]), [1.0, 10.0, 11.5]);
        assert_eq!(run(Average::stochastic(&w, 1, 2), &[9.0, 1.0, 7.0, 3.0, 7.0, 8.0]), [9.0, 1.0, 1.0, 2.0, 2.0, 4.0]);
    }

    #[test]
    fn statistics_are_averaged_and_counters_are_the_newest() {
        let mut norm = BatchNorm::new(1);
        let average = Average::exponential(&norm, 0.5).update(&norm);
        norm.running_mean = Tensor::from([8.0f32]);
        norm.num_batches_tracked = Tensor::from(5i64);
        let average = average.update(&norm);
        assert_eq!((average.model.running_mean.item::<f32>(), parameter_count(&average)), (4.0, 0));
        assert_eq!(average.model.num_batches_tracked.item::<i64>(), 5);
    }
}
