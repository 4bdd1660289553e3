//! Optimizers: how a gradient changes a model. Each is a tree of moments beside its configuration.
//!
//! All that an optimizer carries is `#[tree(state)]`, so a gradient of a whole step does not go to it by mistake. It
//! keeps trees of the model's own type, in which the places of the model's state leaves are empty tensors: a checkpoint
//! does not hold a model's running statistics twice.

mod adam;
mod sgd;

pub use adam::Adam;
pub use sgd::Sgd;

use chainrule::tensor::Tensor;
use chainrule::tree::{self, Role, Tree};

/// What a training loop needs of an optimizer.
pub trait Optimizer<M: Tree>: Tree {
    /// The model after one step against its gradient, and the optimizer after it. The model's state is untouched.
    #[track_caller]
    fn update(&self, model: &M, gradients: &M) -> (M, Self);
}

/// Zeros for each parameter, and nothing for state.
pub fn moments<M: Tree>(model: &M) -> M {
    tree::map_named(model, |_, role, leaf| match role {
        Role::Parameter => leaf.zeros_like(),
        Role::State => Tensor::zeros([0], leaf.dtype()),
    })
}

/// Walks several trees of one form: `rule` gets the leaves of one parameter in each, and gives new leaves for the first
/// K trees. State stays what it was in each. This is how optimizers are written.
///
/// # Panics
/// If the trees differ in form.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::optimizer::walk;
/// let (w, m, g) = (Tensor::from(1.0), Tensor::from(0.5), Tensor::from(2.0));
/// let [w, m] = walk([&w, &m, &g], |[w, m, g]| {
///     let m = m * 0.9 + g;
///     [w - &m * 0.1, m]
/// });
/// assert!((w.item::<f64>() - 0.755).abs() < 1e-12 && (m.item::<f64>() - 2.45).abs() < 1e-12);
/// ```
#[track_caller]
pub fn walk<M: Tree, const N: usize, const K: usize>(
    trees: [&M; N],
    mut rule: impl FnMut([&Tensor; N]) -> [Tensor; K],
) -> [M; K] {
    const { assert!(K <= N, "more trees come out than go in") };
    let leaves = trees.map(tree::leaves);
    let roles: Vec<Role> = tree::named_leaves(trees[0]).iter().map(|leaf| leaf.1).collect();
    assert!(
        leaves.iter().all(|leaves| leaves.len() == roles.len()),
        "walk: trees of {:?} leaves are not of one form",
        leaves.each_ref().map(Vec::len)
    );
    let mut results: [Vec<Tensor>; K] = std::array::from_fn(|_| Vec::with_capacity(roles.len()));
    for (place, role) in roles.iter().enumerate() {
        let here = std::array::from_fn(|tree| &leaves[tree][place]);
        match role {
            Role::Parameter => {
                rule(here).into_iter().zip(&mut results).for_each(|(leaf, result)| result.push(leaf));
            }
            Role::State => results.iter_mut().zip(here).for_each(|(result, leaf)| result.push(leaf.clone())),
        }
    }
    std::array::from_fn(|tree| tree::rebuild(trees[tree], &results[tree]))
}
