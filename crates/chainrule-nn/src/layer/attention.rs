//! Multi-head attention (A. Vaswani et al., "Attention is all you need", 2017), with masks, grouped queries, rotary
//! places and a cache for generation.

use super::{Dropout, Linear, Rotary};
use crate::context::Context;
use crate::init::{self, Fan, Gain};
use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::Tree;

/// softmax(q·kᵀ/√d)·v in each of several heads, where q comes from the input and k and v from a memory.
///
/// With as many memory as input it is self-attention, with another memory cross-attention. With fewer key heads than
/// heads, each key head serves a group of neighbouring heads (J. Ainslie et al. 2023).
///
/// A mask broadcasts to `[N, heads, T, S]`: bools are true where a query may look, floats are added to the products. A
/// query that may look at nothing looks at all alike.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let layer = Attention::new(&Key::new(1), 8, 4).key_heads(2).causal().rotary(Rotary::new());
/// let x = Tensor::ones([2, 5, 8], DType::F32);
/// assert_eq!(layer.forward(&x, &x, None, &mut Context::evaluation()).shape(), [2, 5, 8]);
/// assert_eq!(layer.key.weight.shape(), [4, 8]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Attention {
    /// `[heads·d, in]`.
    pub query: Linear,
    /// `[key_heads·d, memory]`.
    pub key: Linear,
    /// `[key_heads·d, memory]`.
    pub value: Linear,
    /// `[in, heads·d]`.
    pub output: Linear,
    /// Number of heads.
    #[tree(skip)]
    pub heads: usize,
    /// Number of heads of keys and values.
    #[tree(skip)]
    pub key_heads: usize,
    /// A query looks only at its own place and those before.
    #[tree(skip)]
    pub causal: bool,
    /// Rotates queries and keys by their places.
    #[tree(skip)]
    pub rotary: Option<Rotary>,
    /// The factor of the products, if not 1/√d.
    #[tree(skip)]
    pub scale: Option<f64>,
    /// Dropout of the probabilities, in training.
    #[tree(skip)]
    pub dropout: f64,
}

impl Attention {
    /// So many heads over inputs of a size, all of them together as wide as the input. First values as PyTorch's
    /// `MultiheadAttention`: Glorot's for the three projections as one, biases 0. In f32.
    ///
    /// # Panics
    /// If the heads do not divide the size.
    #[track_caller]
    pub fn new(key: &Key, size: usize, heads: usize) -> Attention {
        Attention::with_fans(key, size, size, heads, [Fan::dense(size, 3 * size); 2])
    }

    /// [`Attention::new`] over a memory of another size.
    #[track_caller]
    pub fn over(key: &Key, size: usize, memory: usize, heads: usize) -> Attention {
        Attention::with_fans(key, size, memory, heads, [Fan::dense(size, size), Fan::dense(memory, size)])
    }

    #[track_caller]
    fn with_fans(key: &Key, size: usize, memory: usize, heads: usize, fans: [Fan; 2]) -> Attention {
        assert!(heads > 0 && size.is_multiple_of(heads), "Attention: {heads} heads of a size of {size}");
        let [q, k, v, o] = key.split();
        let projection = |key: &Key, inputs: usize, fan: Fan| Linear {
            weight: init::glorot_uniform(key, [size, inputs], fan, Gain::Linear, DType::F32),
            bias: Some(Tensor::zeros([size], DType::F32)),
        };
        Attention {
            query: projection(&q, size, fans[0]),
            key: projection(&k, memory, fans[1]),
            value: projection(&v, memory, fans[1]),
            output: Linear { bias: Some(Tensor::zeros([size], DType::F32)), ..Linear::new(&o, size, size) },
            heads,
            key_heads: heads,
            causal: false,
            rotary: None,
            scale: None,
            dropout: 0.0,
        }
    }

    /// With fewer heads of keys and values; their weights keep so many rows.
    ///
    /// # Panics
    /// If the number does not divide that of the heads there are.
    #[track_caller]
    pub fn key_heads(mut self, key_heads: usize) -> Attention {
        let before = self.key_heads;
        assert!(
            key_heads > 0 && before.is_multiple_of(key_heads),
            "Attention: {key_heads} key heads for {before} heads"
        );
        let rows = self.key.weight.size(0) / before * key_heads;
        for layer in [&mut self.key, &mut self.value] {
            layer.weight = layer.weight.narrow(0, 0, rows);
            layer.bias = layer.bias.as_ref().map(|bias| bias.narrow(0, 0, rows));
        }
        Attention { key_heads, ..self }
    }

    /// With queries that look only at their own place and those before.
    pub fn causal(self) -> Attention {
        Attention { causal: true, ..self }
    }

    /// With queries and keys rotated by their places.
    pub fn rotary(self, rotary: Rotary) -> Attention {
        Attention { rotary: Some(rotary), ..self }
    }

    /// With products multiplied by another factor than 1/√d.
    pub fn scale(self, factor: f64) -> Attention {
        Attention { scale: Some(factor), ..self }
    }

    /// With dropout of the probabilities, in training.
    #[track_caller]
    pub fn dropout(self, probability: f64) -> Attention {
        Attention { dropout: Dropout::new(probability).probability, ..self }
    }

    /// The same layer without biases.
    pub fn without_bias(mut self) -> Attention {
        for layer in [&mut self.query, &mut self.key, &mut self.value, &mut self.output] {
            layer.bias = None;
        }
        self
    }

    /// What x `[N, T, in]` finds in a memory `[N, S, memory]` (for self-attention x itself), `[N, T, in]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, memory: &Tensor, mask: Option<&Tensor>, context: &mut Context) -> Tensor {
        assert!(
            x.rank() == 3 && memory.rank() == 3 && x.size(0) == memory.size(0),
            "Attention: queries from {} and memory {}; both are [N, T, size]",
            x.ty(),
            memory.ty()
        );
        let places = |x: &Tensor| Tensor::arange(x.size(1), DType::I64);
        let query = self.rotated(self.split(&self.query, x, self.heads), &places(x));
        let (key, value) = self.keys_and_values(memory, &places(memory));
        let before = self.causal.then(|| places(memory).less_equal(places(x).unsqueeze(-1)));
        self.attend(&query, &key, &value, [before.as_ref(), mask], context)
    }

    /// Room for the keys and values of so many places.
    #[track_caller]
    pub fn cache(&self, batch: usize, capacity: usize) -> KeyValueCache {
        let size = self.key.weight.size(0) / self.key_heads;
        let room = Tensor::zeros([batch, self.key_heads, capacity, size], self.key.weight.dtype());
        KeyValueCache { keys: room.clone(), values: room, length: Tensor::from(0i64) }
    }

    /// Causal self-attention of the next T places x `[N, T, in]` over all places before, which the cache holds; x joins
    /// them. An evaluation. Shapes do not change from step to step, so that one compiled step serves a whole text.
    ///
    /// More places than the cache has room for are an error when it runs.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_nn::prelude::*;
    /// let layer = Attention::new(&Key::new(1), 8, 2).causal();
    /// let x = Key::new(2).normal([1, 3, 8], DType::F32);
    /// let all = layer.forward(&x, &x, None, &mut Context::evaluation());
    /// let mut cache = layer.cache(1, 16);
    /// let start = layer.forward_cached(&x.narrow(1, 0, 2), &mut cache);
    /// let next = layer.forward_cached(&x.narrow(1, 2, 1), &mut cache);
    /// assert_eq!(cache.length.item::<i64>(), 3);
    /// assert!((next - all.narrow(1, 2, 1)).abs().max(..).item::<f32>() < 1e-6);
    /// # assert!((start - all.narrow(1, 0, 2)).abs().max(..).item::<f32>() < 1e-6);
    /// ```
    #[track_caller]
    pub fn forward_cached(&self, x: &Tensor, cache: &mut KeyValueCache) -> Tensor {
        assert!(x.rank() == 3, "Attention: queries from {}; they are [N, T, size]", x.ty());
        let places = cache.next_places(x.size(1));
        let query = self.rotated(self.split(&self.query, x, self.heads), &places);
        let (key, value) = self.keys_and_values(x, &places);
        cache.append(&key, &value);
        let before = Tensor::arange(cache.keys.size(2), DType::I64).less_equal(places.unsqueeze(-1));
        self.attend(&query, &cache.keys, &cache.values, [Some(&before), None], &mut Context::evaluation())
    }

    /// A projection of `[N, T, size]` cut into heads, `[N, heads, T, d]`.
    #[track_caller]
    fn split(&self, layer: &Linear, x: &Tensor, heads: usize) -> Tensor {
        let y = layer.forward(x);
        y.reshape([x.size(0), x.size(1), heads, y.size(-1) / heads]).swap_axes(1, 2)
    }

    #[track_caller]
    fn rotated(&self, x: Tensor, places: &Tensor) -> Tensor {
        self.rotary.map_or(x.clone(), |rotary| rotary.forward(&x, places))
    }

    #[track_caller]
    fn keys_and_values(&self, memory: &Tensor, places: &Tensor) -> (Tensor, Tensor) {
        let key = self.rotated(self.split(&self.key, memory, self.key_heads), places);
        (key, self.split(&self.value, memory, self.key_heads))
    }

    #[track_caller]
    fn attend(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        masks: [Option<&Tensor>; 2],
        context: &mut Context,
    ) -> Tensor {
        let &[batch, heads, steps, size] = query.shape() else { panic!("Attention: queries {}", query.ty()) };
        let memory = key.size(2);
        // The heads of a group are more rows of one product.
        let rows = |last: usize| [batch, self.key_heads, heads / self.key_heads * steps, last];
        let scaled = query * self.scale.unwrap_or(1.0 / (size as f64).sqrt());
        let mut scores = scaled.reshape(rows(size)).matmul(&key.t()).reshape([batch, heads, steps, memory]);
        for mask in masks.into_iter().flatten() {
            scores = masked(&scores, mask);
        }
        let mut weights = scores.softmax(-1);
        if self.dropout > 0.0 {
            weights = Dropout::new(self.dropout).forward(&weights, context);
        }
        let found = weights.reshape(rows(memory)).matmul(value).reshape([batch, heads, steps, size]);
        self.output.forward(&found.swap_axes(1, 2).reshape([batch, steps, heads * size]))
    }
}

/// Scores with a mask: bools hide where they are false, floats are added.
#[track_caller]
fn masked(scores: &Tensor, mask: &Tensor) -> Tensor {
    if mask.dtype() != DType::Bool {
        return scores + mask;
    }
    // So low that its exponential is exactly 0 beside any score, and yet finite, so that a row of them has no NaN.
    let hidden = if scores.dtype() == DType::F16 { -6e4 } else { -1e30 };
    mask.select(scores, hidden)
}

/// Which places of sequences of these lengths, i64 `[N]`, are theirs: a mask `[N, 1, 1, S]` for attention.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let mask = length_mask(&Tensor::from([1i64, 3]), 3);
/// assert_eq!(mask.to_vec::<bool>(), [true, false, false, true, true, true]);
/// ```
#[track_caller]
pub fn length_mask(lengths: &Tensor, steps: usize) -> Tensor {
    let inside = Tensor::arange(steps, lengths.dtype()).less(lengths.unsqueeze(-1));
    inside.reshape([lengths.numel(), 1, 1, steps])
}

/// Keys and values of the places a generation has seen, in room for a fixed number of them.
#[derive(Tree, Clone, Debug)]
pub struct KeyValueCache {
    /// `[N, key_heads, capacity, d]`.
    #[tree(state)]
    pub keys: Tensor,
    /// `[N, key_heads, capacity, d]`.
    #[tree(state)]
    pub values: Tensor,
    /// Places seen, i64.
    #[tree(state)]
    pub length: Tensor,
}

impl KeyValueCache {
    /// The next places, i64 `[T]`. Taken from a list of all there are, so that one beyond the end is an error.
    #[track_caller]
    fn next_places(&self, count: usize) -> Tensor {
        let capacity = self.keys.size(2);
        assert!(count <= capacity, "KeyValueCache: {count} places in room for {capacity}");
        Tensor::arange(capacity, DType::I64).gather(&(Tensor::arange(count, DType::I64) + &self.length), 0)
    }

    /// Writes keys and values `[N, key_heads, T, d]` behind those there are.
    #[track_caller]
    fn append(&mut self, keys: &Tensor, values: &Tensor) {
        let (count, capacity) = (keys.size(2), self.keys.size(2));
        let behind = Tensor::arange(capacity, DType::I64) - &self.length;
        let new = behind.greater_equal(0i64).and(behind.less(count)).unsqueeze(-1);
        let place = behind.maximum(0i64).minimum(count - 1);
        let written = |old: &Tensor, fresh: &Tensor| {
            let spread = if count == 1 { fresh.clone() } else { fresh.gather(&place, 2) };
            new.select(&spread.cast(old.dtype()), old)
        };
        self.keys = written(&self.keys, keys);
        self.values = written(&self.values, values);
        self.length = &self.length + count;
    }
}
