//! The blocks of GPT-2 and BERT: this crate's [`EncoderBlock`] with their first weights and their dropouts.

use crate::init;
use crate::layer::{Activation, EncoderBlock, Linear};
use chainrule::tensor::{DType, Key, Tensor};

/// A linear layer as these models start: N(0, std²), and zeros.
#[track_caller]
pub(super) fn linear(key: &Key, inputs: usize, outputs: usize, std: f64) -> Linear {
    let weight = init::normal(key, [outputs, inputs], std, DType::F32);
    Linear { weight, bias: Some(Tensor::zeros([outputs], DType::F32)) }
}

/// What a block is made of.
#[derive(Clone, Debug)]
pub(super) struct BlockSettings {
    pub width: usize,
    pub inner: usize,
    pub heads: usize,
    pub epsilon: f64,
    /// Spread of the first weights, and of those that end a residual branch.
    pub std: (f64, f64),
    /// The factor of queries times keys, if it is not attention's own.
    pub scale: Option<f64>,
    pub activation: Activation,
    pub attention_dropout: f64,
    pub dropout: f64,
}

impl BlockSettings {
    /// The block, with norms after the sums and every place seen.
    #[track_caller]
    pub(super) fn build(&self, key: &Key) -> EncoderBlock {
        let [form, q, k, v, o, up, down] = key.split();
        let (std, last) = self.std;
        let map = |key: &Key, std| linear(key, self.width, self.width, std);
        let mut block = EncoderBlock::new(&form, self.width, self.heads, self.inner)
            .epsilon(self.epsilon)
            .activation(self.activation)
            .dropout(self.dropout);
        let attention = &mut block.attention;
        (attention.query, attention.key, attention.value) = (map(&q, std), map(&k, std), map(&v, std));
        attention.output = map(&o, last);
        (attention.scale, attention.dropout) = (self.scale, self.attention_dropout);
        block.feed_forward.up = linear(&up, self.width, self.inner, std);
        block.feed_forward.down = linear(&down, self.inner, self.width, last);
        block.feed_forward.dropout = 0.0;
        block
    }
}

/// Asserts that tokens are `[N, T]` and not too long.
#[track_caller]
pub(super) fn check_tokens(model: &str, tokens: &Tensor, positions: usize) {
    let fits = matches!(tokens.shape(), [_, t] if *t <= positions);
    assert!(fits, "{model}: tokens {}; they are [N, T] with T at most {positions}", tokens.ty());
}
