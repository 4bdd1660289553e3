//! Limiting gradients, over any tree: by the norm of all of them together, by value, parameter by parameter, or by the
//! size of the weights they change. State is untouched by all of it.

use chainrule::tensor::{DType, Tensor};
use chainrule::tree::{self, Role, Tree};

/// √Σ‖g‖² over all parameters of a tree: the length of the gradient as one vector. f64 if a leaf is, else f32.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// assert_eq!(global_norm(&(Tensor::from([3.0]), Tensor::from(4.0))).item::<f64>(), 5.0);
/// ```
#[track_caller]
pub fn global_norm<T: Tree>(tree: &T) -> Tensor {
    let parameters: Vec<Tensor> =
        tree::named_leaves(tree).into_iter().filter(|leaf| leaf.1 == Role::Parameter).map(|leaf| leaf.2).collect();
    let wide = parameters.iter().any(|leaf| leaf.dtype() == DType::F64);
    let dtype = if wide { DType::F64 } else { DType::F32 };
    let squares = parameters.iter().map(|leaf| leaf.cast(dtype).square().sum(..));
    squares.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros([], dtype)).sqrt()
}

/// Scales all gradients by min(1, max / (‖g‖ + 10⁻⁶)), as PyTorch does; gives them and the norm before.
///
/// State is untouched. A norm that is not finite makes the gradients so too: look at it, it is returned.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let (g, norm) = clip_norm(&Tensor::from([3.0, 4.0]), 1.0);
/// assert_eq!(norm.item::<f64>(), 5.0);
/// assert!((g.to_vec::<f64>()[0] - 0.6).abs() < 1e-6);
/// ```
#[track_caller]
pub fn clip_norm<T: Tree>(gradients: &T, max: f64) -> (T, Tensor) {
    let norm = global_norm(gradients);
    let scale = (max / (&norm + 1e-6)).minimum(1.0);
    let clipped = each(gradients, |leaf| leaf * scale.cast(leaf.dtype()));
    (clipped, norm)
}

/// Applies a function to every parameter.
#[track_caller]
fn each<T: Tree>(gradients: &T, mut function: impl FnMut(&Tensor) -> Tensor) -> T {
    tree::map_named(gradients, |_, role, leaf| match role {
        Role::Parameter => function(leaf),
        Role::State => leaf.clone(),
    })
}

/// Limits every element to [−max, max].
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// assert_eq!(clip_value(&Tensor::from([3.0, -0.5]), 1.0).to_vec::<f64>(), [1.0, -0.5]);
/// ```
#[track_caller]
pub fn clip_value<T: Tree>(gradients: &T, max: f64) -> T {
    each(gradients, |leaf| leaf.clip(-max, max))
}

/// [`clip_norm`] of each parameter by itself.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let (a, b) = clip_norm_each(&(Tensor::from([3.0, 4.0]), Tensor::from(0.5)), 1.0);
/// assert!((a.to_vec::<f64>()[0] - 0.6).abs() < 1e-6 && b.item::<f64>() == 0.5);
/// ```
#[track_caller]
pub fn clip_norm_each<T: Tree>(gradients: &T, max: f64) -> T {
    each(gradients, |leaf| clip_norm(leaf, max).0)
}

/// Adaptive clipping: the gradient of each unit i limited to λ·max(‖wᵢ‖, 10⁻³). A unit is what one output is computed
/// from, a row along axis 0; parameters with fewer than two axes are one unit.
///
/// A. Brock et al., "High-performance large-scale image recognition without normalization", 2021, who take λ = 0.01 and
/// leave out the last layer.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let (w, g) = (Tensor::from([[3.0, 4.0], [3.0, 4.0]]), Tensor::from([[0.0, 1.0], [0.0, 0.01]]));
/// let clipped = clip_adaptive(&w, &g, 0.01).to_vec::<f64>();
/// assert!((clipped[1] - 0.05).abs() < 1e-12 && clipped[3] == 0.01);
/// ```
///
/// # Panics
/// If the trees differ in form.
#[track_caller]
pub fn clip_adaptive<T: Tree>(model: &T, gradients: &T, factor: f64) -> T {
    tree::zip_map(gradients, model, |g, w| {
        let axes: Vec<isize> = (if g.rank() < 2 { 0 } else { 1 }..g.rank() as isize).collect();
        let size = |x: &Tensor| x.square().sum_keepdims(&axes[..]).sqrt();
        let (most, norm) = (size(w).maximum(1e-3) * factor, size(g));
        let scale = norm.greater(&most).select(&(&most / norm.maximum(1e-6)), 1.0);
        g * scale
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Tree, Clone)]
    struct WithState {
        w: Tensor,
        half: Tensor,
        #[tree(state)]
        seen: Tensor,
    }

    #[test]
    fn a_small_gradient_stays_and_state_always_does() {
        let tree = WithState {
            w: Tensor::from([3.0f32]),
            half: Tensor::from([4.0f32]).cast(DType::BF16),
            seen: Tensor::from([100i64]),
        };
        let (same, norm) = clip_norm(&tree, 10.0);
        assert_eq!((norm.item::<f32>(), same.w.item::<f32>()), (5.0, 3.0));
        let (cut, _) = clip_norm(&tree, 1.0);
        assert!((cut.w.item::<f32>() - 0.6).abs() < 1e-6);
        assert_eq!((cut.half.dtype(), cut.seen.item::<i64>()), (DType::BF16, 100));
        let (nothing, norm) = clip_norm(&(), 1.0);
        assert_eq!((nothing, norm.item::<f32>()), ((), 0.0));
    }
}
