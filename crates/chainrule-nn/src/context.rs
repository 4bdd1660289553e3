//! What a forward pass is for: training, with random numbers, or evaluation; and gradients of models that carry state.
//!
//! A layer that draws random numbers (dropout) or gathers statistics (batch norm) takes a [`Context`]; all others do
//! not. Statistics are fields: in a forward pass with `&mut self` a layer rebinds them to new expressions, and
//! [`value_and_grad_with_state`] brings them out beside the gradient. Nothing is mutated behind anybody's back.

use chainrule::differentiate::value_and_grad_aux;
use chainrule::tensor::{Key, Tensor};
use chainrule::tree::{self, Role, Tree};

/// Training or evaluation, and in training the random numbers of this pass.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let mut context = Context::training(Key::new(1));
/// assert!(context.is_training() && !Context::evaluation().is_training());
/// let (a, b) = (context.key(), context.key());
/// assert_ne!(a.bits([]).item::<i64>(), b.bits([]).item::<i64>());
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    key: Option<Key>,
    drawn: i64,
    gathers: bool,
}

impl Context {
    /// A pass that trains. The key must be new in every step: `Key::new(seed).fold(&step)`.
    pub fn training(key: Key) -> Context {
        Context { key: Some(key), drawn: 0, gathers: false }
    }

    /// A pass as in training in which running statistics become plain means over all passes since they were reset,
    /// whatever the momentum of their layers: [`refresh_statistics`](crate::average::refresh_statistics).
    pub fn gathering(key: Key) -> Context {
        Context { gathers: true, ..Context::training(key) }
    }

    /// Whether running statistics are plain means.
    pub fn is_gathering(&self) -> bool {
        self.gathers
    }

    /// A pass that only looks: no random numbers, running statistics instead of the batch's.
    pub fn evaluation() -> Context {
        Context { key: None, drawn: 0, gathers: false }
    }

    /// Whether the pass trains.
    pub fn is_training(&self) -> bool {
        self.key.is_some()
    }

    /// The next key of this pass; each call gives another one, in the order of the calls.
    ///
    /// # Panics
    /// In evaluation, which draws nothing.
    #[track_caller]
    pub fn key(&mut self) -> Key {
        let key = self.key.as_ref().expect("Context::key: an evaluation draws no random numbers");
        self.drawn += 1;
        key.fold(&Tensor::from(self.drawn))
    }
}

/// Value, by-product and gradient of a function that may rebind the state leaves of its model; and the model with that
/// new state and its old parameters, ready for an optimizer.
///
/// # Panics
/// As [`value_and_grad_aux`].
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// #[derive(Tree, Clone)]
/// struct Counted { w: Tensor, #[tree(state)] seen: Tensor }
/// let model = Counted { w: Tensor::from(3.0), seen: Tensor::from(0i64) };
/// let loss = |m: &mut Counted| {
///     m.seen = &m.seen + 1i64;
///     (m.w.square(), ())
/// };
/// let (value, (), model, grads) = value_and_grad_with_state(loss, &model);
/// assert_eq!((value.item::<f64>(), grads.w.item::<f64>()), (9.0, 6.0));
/// assert_eq!((model.w.item::<f64>(), model.seen.item::<i64>()), (3.0, 1));
/// ```
#[track_caller]
pub fn value_and_grad_with_state<M: Tree + Clone, A>(
    f: impl FnOnce(&mut M) -> (Tensor, A),
    model: &M,
) -> (Tensor, A, M, M) {
    let with_state = |model: &M| {
        let mut model = model.clone();
        let (value, aux) = f(&mut model);
        (value, (model, aux))
    };
    let (value, (after, aux), gradient) = value_and_grad_aux(with_state, model);
    (value, aux, with_state_of(model, &after), gradient)
}

/// The parameters of the first model with the state of the second.
///
/// # Panics
/// If the trees differ in form.
#[track_caller]
pub fn with_state_of<M: Tree>(model: &M, state: &M) -> M {
    let mut leaves = tree::leaves(state).into_iter();
    let merged = tree::map_named(model, |path, role, leaf| {
        let other = leaves.next().unwrap_or_else(|| panic!("with_state_of: the second model has no {path}"));
        match role {
            Role::Parameter => leaf.clone(),
            Role::State => other,
        }
    });
    assert!(leaves.next().is_none(), "with_state_of: the second model has more leaves than the first");
    merged
}
