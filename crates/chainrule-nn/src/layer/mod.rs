//! Layers: structs of tensors with a `forward`. Their fields are public, and their names are those in checkpoints.
//!
//! Weights lie as PyTorch keeps them, so that a checkpoint made there is one here: `[out, in]` of a linear layer. What
//! stands in a layer besides tensors (strides, rates) is plain configuration, set by methods after `new`.
//!
//! Three forms of `forward`: with `&self` alone; with a [`Context`](crate::context::Context), where training draws
//! random numbers; with `&mut self` and a context, where training also gathers statistics.

mod activation;
mod attention;
mod convolution;
mod dropout;
mod embedding;
mod linear;
mod normalization;
mod pooling;
mod position;
mod recurrent;
mod residual;
mod transformer;

pub use activation::Activation;
pub use attention::{Attention, KeyValueCache, length_mask};
pub use convolution::{Conv, ConvTranspose};
pub use dropout::{ChannelDropout, Dropout, PathDropout};
pub use embedding::Embedding;
pub use linear::{Bilinear, Linear, Mlp};
pub use normalization::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
pub use pooling::{Pool, adaptive_average_pool, adaptive_max_pool, global_average_pool, global_max_pool};
pub use position::{LearnedPositions, Rotary, sinusoidal_positions};
pub use recurrent::{Cell, Gru, GruCell, Lstm, LstmCell, Recurrent, RecurrentLayer, RecurrentWeights, Rnn, RnnCell};
pub use residual::{PatchEmbedding, PreActivationBlock, ResidualBlock, Shortcut, SqueezeExcite};
pub use transformer::{DecoderBlock, EncoderBlock, FeedForward};

/// A number for every axis, or one number for each: `3`, `[3, 2]`, a slice, a vector.
pub trait IntoSizes {
    /// The numbers.
    fn into_sizes(self) -> Vec<usize>;
}
impl IntoSizes for usize {
    fn into_sizes(self) -> Vec<usize> {
        vec![self]
    }
}
impl<const N: usize> IntoSizes for [usize; N] {
    fn into_sizes(self) -> Vec<usize> {
        self.into()
    }
}
impl IntoSizes for &[usize] {
    fn into_sizes(self) -> Vec<usize> {
        self.into()
    }
}
impl IntoSizes for Vec<usize> {
    fn into_sizes(self) -> Vec<usize> {
        self
    }
}
