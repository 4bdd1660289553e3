//! Blocks of a transformer: attention and a small network at each place, each with a residual branch and a layer norm.

use super::{Activation, Attention, Dropout, KeyValueCache, LayerNorm, Linear};
use crate::context::Context;
use crate::init;
use chainrule::tensor::{Key, Tensor};
use chainrule::tree::Tree;

/// The network at each place: down(dropout(f(up(x)))).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let layer = FeedForward::new(&Key::new(1), 4, 16);
/// assert_eq!(layer.forward(&Tensor::zeros([2, 3, 4], DType::F32), &mut Context::evaluation()).shape(), [2, 3, 4]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct FeedForward {
    /// `[hidden, size]`.
    pub up: Linear,
    /// `[size, hidden]`.
    pub down: Linear,
    /// Between the two.
    #[tree(skip)]
    pub activation: Activation,
    /// Dropout of what the activation gives.
    #[tree(skip)]
    pub dropout: f64,
}

impl FeedForward {
    /// With a rectifier and so many hidden units.
    #[track_caller]
    pub fn new(key: &Key, size: usize, hidden: usize) -> FeedForward {
        let [up, down] = key.split();
        FeedForward {
            up: Linear::new(&up, size, hidden),
            down: Linear::new(&down, hidden, size),
            activation: Activation::Relu,
            dropout: 0.0,
        }
    }

    /// The layer's values.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, context: &mut Context) -> Tensor {
        let hidden = self.activation.apply(&self.up.forward(x));
        self.down.forward(&Dropout::new(self.dropout).forward(&hidden, context))
    }
}

/// Where the norms of a block stand, and its dropout: what both kinds of block do around their parts.
#[derive(Clone, Copy, Debug)]
struct Wrapping {
    before: bool,
    dropout: f64,
}

impl Wrapping {
    /// norm(x + dropout(f(x))), or x + dropout(f(norm(x))).
    #[track_caller]
    fn around(
        self,
        x: &Tensor,
        norm: &LayerNorm,
        context: &mut Context,
        part: impl FnOnce(&Tensor, &mut Context) -> Tensor,
    ) -> Tensor {
        let y = if self.before { part(&norm.forward(x), context) } else { part(x, context) };
        let sum = x + Dropout::new(self.dropout).forward(&y, context);
        if self.before { sum } else { norm.forward(&sum) }
    }
}

/// The options both kinds of block have.
macro_rules! block_options {
    ($block:ident, $($attention:ident),*) => {
        impl $block {
            /// With norms before attention and network rather than after the sums (R. Xiong et al. 2020).
            pub fn pre_norm(mut self) -> $block {
                self.wrapping.before = true;
                self
            }

            /// With dropout of probabilities, of hidden units and of each branch, in training.
            #[track_caller]
            pub fn dropout(mut self, probability: f64) -> $block {
                self.wrapping.dropout = Dropout::new(probability).probability;
                self.feed_forward.dropout = probability;
                $(self.$attention.dropout = probability;)*
                self
            }

            /// With another activation than the rectifier.
            pub fn activation(mut self, activation: Activation) -> $block {
                self.feed_forward.activation = activation;
                self
            }

            /// With another ε of all norms.
            pub fn epsilon(mut self, epsilon: f64) -> $block {
                self.norms_mut().into_iter().for_each(|norm| norm.epsilon = epsilon);
                self
            }

            /// With the self-attention changed: `.attention(|a| a.rotary(Rotary::new()))`.
            pub fn attention(mut self, change: impl FnOnce(Attention) -> Attention) -> $block {
                self.attention = change(self.attention);
                self
            }

            /// With zeros in the last layer of each branch, so that the block starts as the identity (up to its norms).
            #[track_caller]
            pub fn zero_branches(mut self) -> $block {
                $(self.$attention.output = init::zeroed(&self.$attention.output);)*
                self.feed_forward.down = init::zeroed(&self.feed_forward.down);
                self
            }
        }
    };
}
block_options!(EncoderBlock, attention);
block_options!(DecoderBlock, attention, cross_attention);

/// Self-attention, then a network at each place: a block of BERT, or with `causal` of GPT.
///
/// As PyTorch's `TransformerEncoderLayer`: norms after the sums and a rectifier unless told otherwise; no dropout
/// unless asked for.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let gpt = EncoderBlock::new(&Key::new(1), 8, 2, 32).pre_norm().causal().activation(Activation::GeluTanh);
/// let x = Tensor::zeros([2, 5, 8], DType::F32);
/// assert_eq!(gpt.forward(&x, None, &mut Context::evaluation()).shape(), [2, 5, 8]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct EncoderBlock {
    /// Of each place over all.
    pub attention: Attention,
    /// Of the first branch.
    pub attention_norm: LayerNorm,
    /// At each place.
    pub feed_forward: FeedForward,
    /// Of the second branch.
    pub feed_forward_norm: LayerNorm,
    #[tree(skip)]
    wrapping: Wrapping,
}

impl EncoderBlock {
    /// Over places of a size, with so many heads and hidden units.
    #[track_caller]
    pub fn new(key: &Key, size: usize, heads: usize, hidden: usize) -> EncoderBlock {
        let [attention, feed_forward] = key.split();
        EncoderBlock {
            attention: Attention::new(&attention, size, heads),
            attention_norm: LayerNorm::new(size),
            feed_forward: FeedForward::new(&feed_forward, size, hidden),
            feed_forward_norm: LayerNorm::new(size),
            wrapping: Wrapping { before: false, dropout: 0.0 },
        }
    }

    /// With places that look only at themselves and those before.
    pub fn causal(self) -> EncoderBlock {
        self.attention(Attention::causal)
    }

    fn norms_mut(&mut self) -> [&mut LayerNorm; 2] {
        [&mut self.attention_norm, &mut self.feed_forward_norm]
    }

    /// The block's values, `[N, T, size]`; the mask is [`Attention`]'s.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>, context: &mut Context) -> Tensor {
        let attend = |x: &Tensor, context: &mut Context| self.attention.forward(x, x, mask, context);
        self.through(x, context, attend)
    }

    /// The next places' values where those before are in a cache ([`Attention::cache`] of this block's attention).
    #[track_caller]
    pub fn forward_cached(&self, x: &Tensor, cache: &mut KeyValueCache) -> Tensor {
        self.through(x, &mut Context::evaluation(), |x, _| self.attention.forward_cached(x, cache))
    }

    #[track_caller]
    fn through(
        &self,
        x: &Tensor,
        context: &mut Context,
        attend: impl FnOnce(&Tensor, &mut Context) -> Tensor,
    ) -> Tensor {
        let x = self.wrapping.around(x, &self.attention_norm, context, attend);
        self.wrapping.around(&x, &self.feed_forward_norm, context, |x, context| self.feed_forward.forward(x, context))
    }
}

/// Causal self-attention, attention over a memory, then a network at each place: a block of a translator's decoder.
///
/// As PyTorch's `TransformerDecoderLayer` with a causal mask.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let block = DecoderBlock::new(&Key::new(1), 8, 2, 32);
/// let (x, memory) = (Tensor::zeros([2, 5, 8], DType::F32), Tensor::zeros([2, 7, 8], DType::F32));
/// assert_eq!(block.forward(&x, &memory, None, None, &mut Context::evaluation()).shape(), [2, 5, 8]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct DecoderBlock {
    /// Of each place over itself and those before.
    pub attention: Attention,
    /// Of the first branch.
    pub attention_norm: LayerNorm,
    /// Over the memory.
    pub cross_attention: Attention,
    /// Of the second branch.
    pub cross_attention_norm: LayerNorm,
    /// At each place.
    pub feed_forward: FeedForward,
    /// Of the third branch.
    pub feed_forward_norm: LayerNorm,
    #[tree(skip)]
    wrapping: Wrapping,
}

impl DecoderBlock {
    /// Over places and a memory of a size, with so many heads and hidden units.
    #[track_caller]
    pub fn new(key: &Key, size: usize, heads: usize, hidden: usize) -> DecoderBlock {
        let [attention, cross_attention, feed_forward] = key.split();
        DecoderBlock {
            attention: Attention::new(&attention, size, heads).causal(),
            attention_norm: LayerNorm::new(size),
            cross_attention: Attention::new(&cross_attention, size, heads),
            cross_attention_norm: LayerNorm::new(size),
            feed_forward: FeedForward::new(&feed_forward, size, hidden),
            feed_forward_norm: LayerNorm::new(size),
            wrapping: Wrapping { before: false, dropout: 0.0 },
        }
    }

    fn norms_mut(&mut self) -> [&mut LayerNorm; 3] {
        [&mut self.attention_norm, &mut self.cross_attention_norm, &mut self.feed_forward_norm]
    }

    /// The block's values, `[N, T, size]`, over a memory `[N, S, size]`; the masks are [`Attention`]'s, of the
    /// self-attention and of that over the memory.
    #[track_caller]
    pub fn forward(
        &self,
        x: &Tensor,
        memory: &Tensor,
        mask: Option<&Tensor>,
        memory_mask: Option<&Tensor>,
        context: &mut Context,
    ) -> Tensor {
        let attend = |x: &Tensor, context: &mut Context| self.attention.forward(x, x, mask, context);
        self.through(x, memory, memory_mask, context, attend)
    }

    /// The next places' values where those before are in a cache ([`Attention::cache`] of this block's
    /// self-attention).
    #[track_caller]
    pub fn forward_cached(
        &self,
        x: &Tensor,
        memory: &Tensor,
        memory_mask: Option<&Tensor>,
        cache: &mut KeyValueCache,
    ) -> Tensor {
        let attend = |x: &Tensor, _: &mut Context| self.attention.forward_cached(x, cache);
        self.through(x, memory, memory_mask, &mut Context::evaluation(), attend)
    }

    #[track_caller]
    fn through(
        &self,
        x: &Tensor,
        memory: &Tensor,
        memory_mask: Option<&Tensor>,
        context: &mut Context,
        attend: impl FnOnce(&Tensor, &mut Context) -> Tensor,
    ) -> Tensor {
        let x = self.wrapping.around(x, &self.attention_norm, context, attend);
        let x = self.wrapping.around(&x, &self.cross_attention_norm, context, |x, context| {
            self.cross_attention.forward(x, memory, memory_mask, context)
        });
        self.wrapping.around(&x, &self.feed_forward_norm, context, |x, context| self.feed_forward.forward(x, context))
    }
}
