//! Layers, losses, initialisers and optimizers: plain structs and functions over [`chainrule`].
//!
//! A layer is a struct that derives `Tree` and has a `forward`; there is no trait to implement and nothing to register.
//! An optimizer is a tree too: its moments and its step count are state that a compiled step carries and updates in
//! place. Nothing here computes: all of it only writes expressions, inside `compile` or outside.
//!
//! ```
//! use chainrule::prelude::*;
//! use chainrule_nn::prelude::*;
//!
//! let mut model = Mlp::new(&Key::new(1), &[2, 16, 2]);
//! let mut adam = Adam::new(&model, 0.05);
//! let x = Tensor::from([[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]);
//! let y = Tensor::from([0i64, 1, 1, 0]);
//! let mut step = compile(|((model, adam), x, y): &((Mlp, Adam<Mlp>), Tensor, Tensor)| {
//!     let (loss, grads) = value_and_grad(|m: &Mlp| m.forward(x).cross_entropy(y), model);
//!     let (grads, _) = clip_norm(&grads, 1.0);
//!     (adam.update(model, &grads), loss)
//! });
//! let mut loss = Tensor::from(0.0f32);
//! for _ in 0..200 {
//!     ((model, adam), loss) = step.run(((model, adam), x.clone(), y.clone())).unwrap();
//! }
//! assert!(loss.item::<f32>() < 0.05);
//! ```
#![forbid(unsafe_code)]

pub mod accumulate;
pub mod average;
pub mod clip;
pub mod context;
pub mod init;
pub mod interchange;
pub mod layer;
pub mod loss;
pub mod minimize;
pub mod models;
pub mod ode;
pub mod optimizer;
pub mod precision;
pub mod schedule;

/// What most programs need: `use chainrule_nn::prelude::*`.
pub mod prelude {
    pub use crate::accumulate::accumulate;
    pub use crate::average::{Average, refresh_statistics};
    pub use crate::clip::{clip_adaptive, clip_norm, clip_norm_each, clip_value, global_norm};
    pub use crate::context::{Context, value_and_grad_with_state};
    pub use crate::init;
    pub use crate::layer::{
        Activation, Attention, BatchNorm, Bilinear, ChannelDropout, Conv, ConvTranspose, DecoderBlock, Dropout,
        Embedding, EncoderBlock, FeedForward, GroupNorm, Gru, InstanceNorm, KeyValueCache, LayerNorm, LearnedPositions,
        Linear, Lstm, Mlp, PatchEmbedding, PathDropout, Pool, PreActivationBlock, ResidualBlock, RmsNorm, Rnn, Rotary,
        SqueezeExcite, adaptive_average_pool, adaptive_max_pool, global_average_pool, global_max_pool, length_mask,
        sinusoidal_positions,
    };
    pub use crate::loss::{
        BinaryCrossEntropy, CrossEntropy, Reduction, binary_cross_entropy, cross_entropy, mean_absolute_error,
        mean_squared_error,
    };
    pub use crate::optimizer::{
        Adadelta, Adagrad, Adam, AdamW, AnyOptimizer, Group, Lamb, Lion, Muon, NAdam, Optimizer, OptimizerSettings,
        RAdam, RmsProp, Sgd,
    };
    pub use crate::precision::{LossScale, Precision};
    pub use crate::schedule::{Plateau, PlateauSettings, Schedule, ScheduleSettings};
}

/// The code blocks of the documentation, run as tests.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../../docs/interchange.md")]
    mod interchange {}
}
