//! Mixed precision: layers compute in bf16 or f16 from weights that are kept and updated in f32.
//!
//! P. Micikevicius et al., "Mixed precision training", 2018. Inside the loss the parameters are cast; the cast is part of
//! the program, so gradients come back in f32. f16 has few exponents and needs a [`LossScale`]; bf16 has f32's.

use chainrule::tensor::{DType, Tensor};
use chainrule::tree::{self, Role, Tree};
use serde::{Deserialize, Serialize};

/// The dtype that layers compute in.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let model = Linear::new(&Key::new(1), 3, 2);
/// let (x, y) = (Tensor::ones([4, 3], DType::F32), Tensor::from([0i64, 1, 0, 1]));
/// let loss = |m: &Linear| {
///     let logits = Precision::Bf16.cast(m).forward(&Precision::Bf16.cast(&x));
///     assert_eq!(logits.dtype(), DType::BF16);
///     Precision::widen(&logits).cross_entropy(&y)
/// };
/// assert_eq!(grad(loss, &model).weight.dtype(), DType::F32);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32: nothing is cast.
    #[default]
    F32,
    /// bf16: 8 bits of fraction, the range of f32.
    Bf16,
    /// f16: 11 bits of fraction, from 6·10⁻⁸ to 65504.
    F16,
}

impl Precision {
    /// The dtype.
    pub fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::F16 => DType::F16,
        }
    }

    /// A model or a batch as layers take it: parameters in f32 are cast. State stays as it is, so running statistics lose
    /// nothing, and so do integers and f64.
    #[track_caller]
    pub fn cast<T: Tree>(self, tree: &T) -> T {
        tree::map_named(tree, |_, role, leaf| match (role, leaf.dtype()) {
            (Role::Parameter, DType::F32) if self != Precision::F32 => leaf.cast(self.dtype()),
            _ => leaf.clone(),
        })
    }

    /// What layers gave, as losses should take it: bf16 and f16 in f32.
    #[track_caller]
    pub fn widen<T: Tree>(tree: &T) -> T {
        tree::map(tree, |leaf| match leaf.dtype() {
            DType::BF16 | DType::F16 => leaf.cast(DType::F32),
            _ => leaf.clone(),
        })
    }
}

/// Dynamic loss scaling: the loss is multiplied by a scale so that small gradients do not vanish in f16; a step whose
/// gradients are not finite is skipped and halves the scale, and `interval` good steps double it. As PyTorch's
/// `GradScaler`, and all inside one program.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::precision::{LossScale, only_if};
/// use chainrule_nn::prelude::*;
/// let step = |(w, sgd, scale): &(Tensor, Sgd<Tensor>, LossScale), x: &Tensor| {
///     let loss = |w: &Tensor| scale.scale(&Precision::widen(&(Precision::F16.cast(w) * Precision::F16.cast(x))));
///     let (finite, gradient) = scale.unscale(&grad(loss, w));
///     let after = sgd.update(w, &gradient);
///     let (w, sgd) = only_if(&finite, &after, &(w.clone(), sgd.clone()));
///     (w, sgd, scale.update(&finite))
/// };
/// let w = Tensor::from(1.0f32);
/// let start = (w.clone(), Sgd::new(&w, 0.5), LossScale::new(1024.0, 2000));
/// let (w, _, scale) = step(&start, &Tensor::from(1.0f32));
/// assert_eq!((w.item::<f32>(), scale.scale.item::<f32>()), (0.5, 1024.0));
/// let (w, sgd, scale) = step(&start, &Tensor::from(1e5f32)); // infinite in f16
/// assert_eq!((w.item::<f32>(), sgd.step.item::<i64>(), scale.scale.item::<f32>()), (1.0, 0, 512.0));
/// ```
#[derive(Tree, Clone, Debug)]
pub struct LossScale {
    #[tree(skip)]
    interval: u64,
    /// The scale, f32.
    #[tree(state)]
    pub scale: Tensor,
    /// Good steps since it last changed, i64.
    #[tree(state)]
    pub good: Tensor,
}

impl Default for LossScale {
    /// 2¹⁶, doubled after 2000 good steps.
    fn default() -> LossScale {
        LossScale::new(65536.0, 2000)
    }
}

impl LossScale {
    /// With a first scale, doubled after so many good steps.
    pub fn new(scale: f32, interval: u64) -> LossScale {
        LossScale { interval, scale: Tensor::from(scale), good: Tensor::from(0i64) }
    }

    /// The loss to differentiate.
    #[track_caller]
    pub fn scale(&self, loss: &Tensor) -> Tensor {
        loss * self.scale.cast(loss.dtype())
    }

    /// Whether all gradients of the scaled loss are finite, and the gradients of the loss itself.
    #[track_caller]
    pub fn unscale<M: Tree>(&self, gradients: &M) -> (Tensor, M) {
        let inverse = 1.0 / &self.scale;
        let mut finite = Tensor::from(true);
        let unscaled = tree::map_named(gradients, |_, role, leaf| match role {
            Role::Parameter => {
                finite = finite.and(leaf.is_finite().all(..));
                leaf * inverse.cast(leaf.dtype())
            }
            Role::State => leaf.clone(),
        });
        (finite, unscaled)
    }

    /// The scale after a step.
    #[track_caller]
    pub fn update(&self, finite: &Tensor) -> LossScale {
        let good = &self.good + 1i64;
        let grows = good.greater_equal(self.interval as i64);
        let scale = finite.select(&grows.select(&(&self.scale * 2.0), &self.scale), &self.scale * 0.5);
        let none = good.zeros_like();
        LossScale { interval: self.interval, scale, good: finite.select(&grows.select(&none, &good), &none) }
    }
}

/// The first tree where the condition, a bool of shape [], holds, and the second elsewhere.
///
/// # Panics
/// If the trees differ in form.
#[track_caller]
pub fn only_if<T: Tree>(condition: &Tensor, yes: &T, no: &T) -> T {
    let others = tree::leaves(no);
    let leaves = tree::leaves(yes);
    assert!(leaves.len() == others.len(), "only_if: trees of {} and {} leaves", leaves.len(), others.len());
    let chosen: Vec<Tensor> = leaves.iter().zip(&others).map(|(yes, no)| condition.select(yes, no)).collect();
    tree::rebuild(yes, &chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chainrule::prelude::*;

    #[test]
    fn the_scale_halves_and_doubles() {
        let mut step = compile(|(scale, finite): &(LossScale, Tensor)| scale.update(finite));
        let mut scale = LossScale::new(8.0, 2);
        let mut seen = Vec::new();
        for finite in [true, false, true, true, true, false, true, true] {
            scale = step.run((scale, Tensor::from(finite))).unwrap();
            seen.push(scale.scale.item::<f32>());
        }
        assert_eq!(seen, [8.0, 4.0, 4.0, 8.0, 8.0, 4.0, 4.0, 8.0]);
    }

    #[test]
    fn one_bad_element_spoils_a_step() {
        let scale = LossScale::new(4.0, 2);
        for (value, want) in [(1.0f32, true), (f32::INFINITY, false), (f32::NAN, false)] {
            let (finite, gradient) = scale.unscale(&(Tensor::from([2.0f32, value]), Tensor::from(1.0f32)));
            assert_eq!((finite.item::<bool>(), gradient.0.to_vec::<f32>()[0]), (want, 0.5));
        }
    }
}
