//! Gradient accumulation: a large batch in parts, one after the other, in the memory of one.

use crate::context::value_and_grad_with_state;
use chainrule::tensor::{DType, Tensor, scan};
use chainrule::tree::{self, Role, Tree};

/// [`value_and_grad_with_state`] of a batch in `parts` equal parts along axis 0, as a scan: the mean of values and of
/// gradients, the sum of by-products, and the state that went through all parts.
///
/// The function is given a part and its number, i64 of shape [], to fold into its keys. Where its value is a mean over
/// equal rows, the result is that of the whole batch.
///
/// # Panics
/// If a leaf of the batch cannot be cut into so many parts.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let (w, x) = (Tensor::from(2.0), Tensor::from([1.0, 2.0, 3.0, 4.0]));
/// let loss = |w: &mut Tensor, x: &Tensor, _: &Tensor| ((&*w * x).square().mean(..), x.sum(..));
/// let (value, sum, _, gradient) = accumulate(2, loss, &w, &x);
/// assert_eq!((value.item::<f64>(), sum.item::<f64>(), gradient.item::<f64>()), (30.0, 10.0, 30.0));
/// ```
#[track_caller]
pub fn accumulate<M: Tree + Clone, B: Tree, A: Tree>(
    parts: usize,
    f: impl FnOnce(&mut M, &B, &Tensor) -> (Tensor, A),
    model: &M,
    batch: &B,
) -> (Tensor, A, M, M) {
    let cut = tree::map_named(batch, |path, _, leaf| {
        let rows = leaf.shape().first().copied().unwrap_or(0);
        assert!(parts > 0 && rows % parts == 0, "accumulate: {path} {} cannot be cut into {parts} parts", leaf.ty());
        let shape: Vec<usize> = [parts, rows / parts].iter().chain(&leaf.shape()[1..]).copied().collect();
        leaf.reshape(shape)
    });
    // Of the model only the state is carried; the parameters are the same in all parts.
    let zeros = of_role(model, Role::Parameter).iter().map(Tensor::zeros_like).collect();
    let begin = (of_role(model, Role::State), zeros);
    let body = |(state, sums): &(Vec<Tensor>, Vec<Tensor>), (part, number): &(B, Tensor)| {
        let now = with_role(model, Role::State, state);
        let (value, aux, after, gradient) = value_and_grad_with_state(|m: &mut M| f(m, part, number), &now);
        let gradient = of_role(&gradient, Role::Parameter);
        let sums = sums.iter().zip(&gradient).map(|(sum, g)| sum + g).collect();
        ((of_role(&after, Role::State), sums), (value, aux))
    };
    let ((state, sums), (values, aux)) = scan(body, &begin, &(cut, Tensor::arange(parts, DType::I64)));
    let means: Vec<Tensor> = sums.iter().map(|sum| sum / parts as f64).collect();
    let zeros = tree::map(model, Tensor::zeros_like);
    let gradient = with_role(&zeros, Role::Parameter, &means);
    (values.mean(..), tree::map(&aux, |leaf| leaf.sum(0)), with_role(model, Role::State, &state), gradient)
}

/// The leaves with a role, in order.
fn of_role<M: Tree>(tree: &M, role: Role) -> Vec<Tensor> {
    tree::named_leaves(tree).into_iter().filter(|leaf| leaf.1 == role).map(|leaf| leaf.2).collect()
}

/// The tree with other leaves in the places that have a role.
fn with_role<M: Tree>(tree: &M, role: Role, leaves: &[Tensor]) -> M {
    let mut rest = leaves.iter();
    tree::map_named(tree, |_, here, leaf| match here == role {
        true => rest.next().expect("as many as there are").clone(),
        false => leaf.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::BatchNorm;
    use crate::prelude::*;
    use chainrule::prelude::*;

    #[derive(Tree, Clone)]
    struct Net {
        line: Linear,
        norm: BatchNorm,
    }

    #[test]
    fn parts_are_taken_one_after_the_other_and_state_goes_through_them() {
        let model = Net { line: Linear::new(&Key::new(1), 3, 2), norm: BatchNorm::new(2) };
        let x = Key::new(2).normal([6, 3], DType::F32);
        let loss = |m: &mut Net, x: &Tensor| {
            let y = m.line.forward(x);
            let y = m.norm.forward(&y, &mut Context::training(Key::new(0)));
            ((y.sin() * x.narrow(1, 0, 2)).sum(..), ())
        };
        let mut by_hand = (model.clone(), Vec::<Net>::new(), 0.0);
        for part in 0..3 {
            let part = x.narrow(0, part * 2, 2);
            let (value, (), after, gradient) = value_and_grad_with_state(|m: &mut Net| loss(m, &part), &by_hand.0);
            by_hand = (after, [by_hand.1, vec![gradient]].concat(), by_hand.2 + value.item::<f32>() / 3.0);
        }
        let mut compiled =
            compile(|(model, x): &(Net, Tensor)| accumulate(3, |m: &mut Net, x: &Tensor, _| loss(m, x), model, x));
        let (value, (), after, gradient) = compiled.run((model, x)).unwrap();
        assert!((value.item::<f32>() - by_hand.2).abs() < 1e-5);
        let close = |a: &Tensor, b: &Tensor| assert!((a - b).abs().max(..).item::<f32>() < 1e-5);
        close(&after.norm.running_var, &by_hand.0.norm.running_var);
        assert_eq!(after.norm.num_batches_tracked.item::<i64>(), 3);
        let weight = by_hand.1.iter().map(|g| g.line.weight.clone()).reduce(|a, b| a + b).unwrap();
        close(&gradient.line.weight, &(weight / 3.0));
    }
}
