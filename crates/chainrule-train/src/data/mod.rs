//! Data: numbered examples that become batches of tensors, the same for the same numbers wherever they are made.
//!
//! A [`Dataset`] holds examples and makes a [`Batch`] of any of them; a loader decides which. All randomness of an
//! example (its crop, its flip) is a function of seed, epoch and number, so that a training goes on bit for bit from
//! any step, and a prefetching thread changes nothing. This room knows no model, no loss and no file of a run.
//!
//! - [`Loader`] batches, shuffles and prefetches.
//! - [`Arrays`] lie in memory, so do the [`Several`] of a set with more inputs;
//!   [`Subset`] is a part of any set; [`digits`] are carried inside the crate.
//! - [`Text`] is windows of what a [`Tokenizer`] made of a text.
//! - [`Generated`] examples are made, not read.
//! - [`Transformed`] sets do a [`Transform`] to the examples of another.
//! - Readers: [`idx`] and with it [`mnist`], [`cifar`], [`folder`]s of images, [`table`]s, [`npy`].
//!
//! [`DataSettings`] name any of them ([`Set`]) with its options and open its parts.
//! [`inspect`] and [`Sheet`] show what is in a set.
//! Whatever comes from outside gives a [`DataError`].

mod arrays;
mod catalogue;
pub mod cifar;
pub mod digits;
mod error;
pub mod folder;
mod generated;
pub mod idx;
mod inspect;
mod loader;
pub mod mnist;
pub mod npy;
mod parquet;
mod random;
mod settings;
mod several;
pub mod table;
mod text;
mod tokenizer;
mod transform;

use std::fmt;

use chainrule::tensor::{Tensor, Type};
use chainrule::tree::Tree;

pub use arrays::{Arrays, Numbers, Subset, Targets};
pub use catalogue::Set;
pub use error::DataError;
pub use generated::{Generated, Made, Part};
pub use inspect::{Inspection, Range, Sheet, inspect};
pub use loader::{Batches, Loader};
pub use settings::{DataSettings, FOLDER, FOLDER_VARIABLE, Splits};
pub use several::Several;
pub use text::{Text, shakespeare};
pub use tokenizer::{Tokenizer, Tokens};
pub use transform::{Transform, Transformed};

/// Examples of one step: what a model is given and what it should say, each a tensor with the examples along axis 0.
///
/// Most sets have one input and one target. A sequence with lengths has two inputs, a set of images without labels no
/// target, a pair of sequences the source and what was said so far as inputs.
#[derive(Tree, Clone, Debug)]
pub struct Batch {
    /// What a model is given.
    pub inputs: Vec<Tensor>,
    /// What it should say.
    pub targets: Vec<Tensor>,
}

impl Batch {
    /// One input and one target.
    pub fn new(input: Tensor, target: Tensor) -> Batch {
        Batch { inputs: vec![input], targets: vec![target] }
    }

    /// The first input.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn input(&self) -> &Tensor {
        self.inputs.first().expect("a batch without inputs")
    }

    /// The first target.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn target(&self) -> &Tensor {
        self.targets.first().expect("a batch without targets")
    }

    /// How many examples there are: the size of axis 0.
    pub fn len(&self) -> usize {
        self.inputs.first().map_or(0, |input| input.shape()[0])
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Types of one example's tensors, without the axis of examples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleType {
    /// Of the inputs.
    pub inputs: Vec<Type>,
    /// Of the targets.
    pub targets: Vec<Type>,
    /// How many classes the first target has, if it is one of classes or tokens.
    pub classes: Option<usize>,
}

/// What the random part of making a batch depends on, beside the number of each example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Of the training.
    pub seed: u64,
    /// From 0.
    pub epoch: u64,
}

/// Numbered examples.
pub trait Dataset: Send + Sync + fmt::Debug {
    /// How many examples there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The form of one example.
    fn example(&self) -> ExampleType;

    /// These examples, in this order. Without a `draw` they are made as for a test: nothing random.
    ///
    /// # Errors
    /// If an example cannot be read.
    ///
    /// # Panics
    /// If a number is not below `len`.
    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<Batch, DataError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_may_cross_threads() {
        fn crosses<T: Send + Sync>() {}
        crosses::<Batch>();
    }
}
