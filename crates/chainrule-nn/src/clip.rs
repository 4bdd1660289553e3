//! Limiting gradients by the norm of all of them together, over any tree.

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
    let clipped = tree::map_named(gradients, |_, role, leaf| match role {
        Role::Parameter => leaf * scale.cast(leaf.dtype()),
        Role::State => leaf.clone(),
    });
    (clipped, norm)
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
