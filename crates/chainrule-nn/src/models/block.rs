//! What GPT-2 and BERT have in common: blocks of self-attention and a network at each place, with the normalisation
//! before or after each, and the keys and values of earlier places for generation.

use crate::context::Context;
use crate::init;
use crate::layer::{Activation, Dropout, LayerNorm, Linear};
use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::Tree;

/// A linear layer as these models start: N(0, std²), and zeros.
#[track_caller]
pub(super) fn linear(key: &Key, inputs: usize, outputs: usize, std: f64) -> Linear {
    let weight = init::normal(key, [outputs, inputs], std, DType::F32);
    Linear { weight, bias: Some(Tensor::zeros([outputs], DType::F32)) }
}

/// What a block is made of.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    pub width: usize,
    pub inner: usize,
    pub heads: usize,
    pub epsilon: f64,
    /// Spread of the first weights, and of those that end a residual branch.
    pub std: (f64, f64),
    /// The factor of queries times keys.
    pub scale: f64,
    pub activation: Activation,
    pub attention_dropout: f64,
    pub dropout: f64,
    /// Normalise before attention and network (GPT-2) or after their sums (BERT).
    pub norm_first: bool,
}

/// Self-attention of several heads: softmax(scale·q·kᵀ)·v of each, joined and mapped (A. Vaswani et al. 2017).
#[derive(Tree, Clone, Debug)]
pub struct SelfAttention {
    /// Maps places to queries.
    pub query: Linear,
    /// Maps places to keys.
    pub key: Linear,
    /// Maps places to values.
    pub value: Linear,
    /// Maps the joined heads.
    pub output: Linear,
    /// Number of heads.
    #[tree(skip)]
    pub heads: usize,
    /// The factor of queries times keys.
    #[tree(skip)]
    pub scale: f64,
    /// Leaves out some of what is attended to, in training.
    #[tree(skip)]
    pub dropout: Dropout,
}

/// One block: x + attention(x), then x + network(x), each normalised before or after.
#[derive(Tree, Clone, Debug)]
pub struct Block {
    /// Self-attention.
    pub self_attn: SelfAttention,
    /// The network's first layer.
    pub linear1: Linear,
    /// The network's last layer.
    pub linear2: Linear,
    /// Of the attention.
    pub norm1: LayerNorm,
    /// Of the network.
    pub norm2: LayerNorm,
    /// Between the network's layers.
    #[tree(skip)]
    pub activation: Activation,
    /// Of what attention and network give, in training.
    #[tree(skip)]
    pub dropout: Dropout,
    /// Whether normalisation comes before attention and network.
    #[tree(skip)]
    pub norm_first: bool,
}

/// The keys and values of the places so far, of one block, each `[N, heads, capacity, width/heads]`.
#[derive(Tree, Clone, Debug)]
pub struct KeyValues {
    /// Keys.
    #[tree(state)]
    pub keys: Tensor,
    /// Values.
    #[tree(state)]
    pub values: Tensor,
}

/// Scores where a mask is true, and so low where it is false that no softmax sees it.
#[track_caller]
fn masked(scores: Tensor, mask: &Tensor) -> Tensor {
    let low = if scores.dtype() == DType::F16 { -6e4 } else { -1e30 };
    mask.select(&scores, low)
}

impl SelfAttention {
    #[track_caller]
    fn new(key: &Key, sizes: &Sizes) -> SelfAttention {
        let [q, k, v, o] = key.split();
        let map = |key: &Key, std| linear(key, sizes.width, sizes.width, std);
        let (std, last) = sizes.std;
        SelfAttention {
            query: map(&q, std),
            key: map(&k, std),
            value: map(&v, std),
            output: map(&o, last),
            heads: sizes.heads,
            scale: sizes.scale,
            dropout: Dropout::new(sizes.attention_dropout),
        }
    }

    /// `[N, T, width]` as `[N, heads, T, width/heads]`.
    #[track_caller]
    fn heads(&self, x: &Tensor) -> Tensor {
        let [n, t, width] = x.shape() else { panic!("SelfAttention: an input is [N, T, width], not {}", x.ty()) };
        x.reshape([*n, *t, self.heads, width / self.heads]).swap_axes(1, 2)
    }

    /// The attended values `[N, T, width]`, where `mask` (bool, broadcasting to `[N, heads, T, T]`) is true. With a
    /// cache, keys and values are put into it from `start` on and all of it is attended to.
    #[track_caller]
    pub fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        cache: Option<(&mut KeyValues, &Tensor)>,
        context: &mut Context,
    ) -> Tensor {
        let query = self.heads(&(self.query.forward(x) * self.scale));
        let mut keys = self.heads(&self.key.forward(x));
        let mut values = self.heads(&self.value.forward(x));
        if let Some((cache, start)) = cache {
            cache.keys = put(&cache.keys, &keys, start);
            cache.values = put(&cache.values, &values, start);
            (keys, values) = (cache.keys.clone(), cache.values.clone());
        }
        let scores = query.matmul(&keys.t());
        let scores = mask.map_or(scores.clone(), |mask| masked(scores, mask));
        let weights = self.dropout.forward(&scores.softmax(-1), context);
        self.output.forward(&weights.matmul(&values).swap_axes(1, 2).reshape(x.shape()))
    }
}

/// `[N, heads, capacity, d]` with new places from `start` on.
#[track_caller]
fn put(all: &Tensor, new: &Tensor, start: &Tensor) -> Tensor {
    let (capacity, count) = (all.size(2), new.size(2));
    let place = Tensor::arange(capacity, DType::I64) - start;
    let inside = place.greater_equal(0i64).and(place.less(count as i64)).unsqueeze(-1);
    inside.select(&new.gather(&place.clip(0i64, count as i64 - 1), 2), all)
}

impl Block {
    #[track_caller]
    pub(super) fn new(key: &Key, sizes: &Sizes) -> Block {
        let [attention, first, last] = key.split();
        let norm = || LayerNorm::new(sizes.width).epsilon(sizes.epsilon);
        Block {
            self_attn: SelfAttention::new(&attention, sizes),
            linear1: linear(&first, sizes.width, sizes.inner, sizes.std.0),
            linear2: linear(&last, sizes.inner, sizes.width, sizes.std.1),
            norm1: norm(),
            norm2: norm(),
            activation: sizes.activation,
            dropout: Dropout::new(sizes.dropout),
            norm_first: sizes.norm_first,
        }
    }

    /// The block's values; see [`SelfAttention::forward`].
    #[track_caller]
    pub fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        cache: Option<(&mut KeyValues, &Tensor)>,
        context: &mut Context,
    ) -> Tensor {
        let branch = |x: &Tensor, norm: &LayerNorm| if self.norm_first { norm.forward(x) } else { x.clone() };
        let sum =
            |x: &Tensor, y: Tensor, norm: &LayerNorm| if self.norm_first { x + y } else { norm.forward(&(x + y)) };
        let attended = self.self_attn.forward(&branch(x, &self.norm1), mask, cache, context);
        let x = sum(x, self.dropout.forward(&attended, context), &self.norm1);
        let inner = self.activation.apply(&self.linear1.forward(&branch(&x, &self.norm2)));
        let mapped = self.linear2.forward(&inner);
        sum(&x, self.dropout.forward(&mapped, context), &self.norm2)
    }
}

/// Asserts that tokens are `[N, T]` and not too long.
#[track_caller]
pub(super) fn check_tokens(model: &str, tokens: &Tensor, positions: usize) {
    let fits = matches!(tokens.shape(), [_, t] if *t <= positions);
    assert!(fits, "{model}: tokens {}; they are [N, T] with T at most {positions}", tokens.ty());
}
