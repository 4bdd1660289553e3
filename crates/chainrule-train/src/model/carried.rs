//! What a network carries from one step of a sequence to the next: keys and values of attention, states of recurrent
//! layers, the number of steps. With it a token costs one step and not a pass over all tokens before it.
//!
//! A layer takes part by one call, [`Walk::carry`]; layers that look at one step alone need none. This room knows no
//! layer, and does not say which network can go step by step: [`Network::carried`](super::Network::carried) does.

use chainrule::tensor::{DType, Tensor};
use chainrule::tree::{self, Tree};

/// What all layers carry, in the order they are called in.
#[derive(Tree, Clone, Debug)]
pub struct Carried {
    #[tree(state)]
    steps: Tensor,
    #[tree(state)]
    states: Vec<Tensor>,
    #[tree(skip)]
    room: usize,
    #[tree(skip)]
    bounded: bool,
}

impl Carried {
    /// Steps there is room for; none if there is always room, as in recurrent networks.
    pub fn room(&self) -> Option<usize> {
        self.bounded.then_some(self.room)
    }
}

/// A pass over some steps: takes each layer's state and keeps what the layer leaves.
#[derive(Debug)]
pub struct Walk {
    /// Steps before these.
    steps: Tensor,
    /// Of layers to come; none where all begin.
    before: Option<std::vec::IntoIter<Tensor>>,
    /// Of layers passed.
    after: Vec<Tensor>,
    room: usize,
    bounded: bool,
}

impl Walk {
    /// One that only asks the layers what they begin with.
    pub(super) fn start(room: usize) -> Walk {
        Walk { steps: Tensor::from(0i64), before: None, after: Vec::new(), room, bounded: false }
    }

    /// One that goes on.
    pub(super) fn on(carried: &Carried) -> Walk {
        let Carried { steps, states, room, bounded } = carried.clone();
        Walk { steps, before: Some(states.into_iter()), after: Vec::new(), room, bounded }
    }

    /// What the layers begin with.
    pub(super) fn started(self) -> Carried {
        let states = self.after.iter().map(Tensor::eval).collect();
        Carried { steps: self.steps, states, room: self.room, bounded: self.bounded }
    }

    /// What is left after so many steps.
    pub(super) fn left(self, before: &Carried, steps: usize) -> Carried {
        Carried { steps: &self.steps + steps, states: self.after, ..before.clone() }
    }

    /// Steps there is room for, for a layer that keeps each of them.
    pub fn room(&mut self) -> usize {
        self.bounded = true;
        self.room
    }

    /// The places of so many steps, i64 `[count]`. Whoever asks can tell places beyond the room from those within.
    #[track_caller]
    pub fn places(&mut self, count: usize) -> Tensor {
        self.bounded = true;
        Tensor::arange(count, DType::I64) + &self.steps
    }

    /// A layer's result: `step` gets what the layer left after the last step, at the first one `start`, and changes it.
    pub fn carry<S: Tree, Y>(&mut self, start: S, step: impl FnOnce(&mut S) -> Y) -> Y {
        let mut state = start;
        match &mut self.before {
            None => self.after.extend(tree::leaves(&state)),
            Some(before) => {
                let leaves: Vec<Tensor> = before.take(tree::leaves(&state).len()).collect();
                state = tree::rebuild(&state, &leaves);
            }
        }
        let y = step(&mut state);
        if self.before.is_some() {
            self.after.extend(tree::leaves(&state));
        }
        y
    }
}
