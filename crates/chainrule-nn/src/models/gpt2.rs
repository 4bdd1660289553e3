//! GPT-2 (A. Radford et al. 2019): a causal language model, from and for Hugging Face's files. No cross-attention.

use super::block::{BlockSettings, check_tokens};
use super::config::{self, ConfigError, Options};
use super::generation::{GenerateError, Sampling};
use super::{ModelError, folder_of};
use crate::context::Context;
use crate::init;
use crate::interchange::{Rule, Rules, from_pytorch, load_checkpoint, save_pytorch};
use crate::layer::{Activation, Dropout, Embedding, EncoderBlock, KeyValueCache, LayerNorm, Linear};
use chainrule::execute::compile;
use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::Tree;
use serde_json::{Value, json};
use std::path::Path;

/// The form of a GPT-2; in brackets its option in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2Config {
    /// Number of tokens (`vocab_size`).
    pub vocabulary: usize,
    /// How far it can look back (`n_positions`).
    pub positions: usize,
    /// Size of a place's vector (`n_embd`).
    pub width: usize,
    /// Number of blocks (`n_layer`).
    pub layers: usize,
    /// Heads of each attention (`n_head`).
    pub heads: usize,
    /// Width inside a block's network (`n_inner`; four times the width without it).
    pub inner: usize,
    /// In a block's network (`activation_function`).
    pub activation: Activation,
    /// Of the normalisations (`layer_norm_epsilon`).
    pub epsilon: f64,
    /// Dropout of the embedding (`embd_pdrop`).
    pub embedding_dropout: f64,
    /// Dropout of what is attended to (`attn_pdrop`).
    pub attention_dropout: f64,
    /// Dropout of the residual branches (`resid_pdrop`).
    pub dropout: f64,
    /// Spread of the first weights (`initializer_range`).
    pub std: f64,
    /// Whether scores are divided by √(width/heads) (`scale_attn_weights`).
    pub scaled: bool,
    /// Whether scores are divided by the block's number, from 1 (`scale_attn_by_inverse_layer_idx`).
    pub scaled_by_layer: bool,
    /// Whether the embedding is the head too (`tie_word_embeddings`).
    pub tied: bool,
    /// Options of the file that nobody here knows.
    pub unknown: Vec<String>,
}

impl Gpt2Config {
    /// GPT-2 small: 124 million parameters.
    pub fn small() -> Gpt2Config {
        Gpt2Config {
            vocabulary: 50257,
            positions: 1024,
            width: 768,
            layers: 12,
            heads: 12,
            inner: 3072,
            activation: Activation::GeluTanh,
            epsilon: 1e-5,
            embedding_dropout: 0.1,
            attention_dropout: 0.1,
            dropout: 0.1,
            std: 0.02,
            scaled: true,
            scaled_by_layer: false,
            tied: true,
            unknown: Vec::new(),
        }
    }

    /// The same form without dropout.
    pub fn without_dropout(self) -> Gpt2Config {
        Gpt2Config { embedding_dropout: 0.0, attention_dropout: 0.0, dropout: 0.0, ..self }
    }

    /// Reads a `config.json`. What it leaves out is GPT-2 small's.
    ///
    /// # Errors
    /// If the file cannot be read, or an option is wrong or not supported.
    pub fn read(path: impl AsRef<Path>) -> Result<Gpt2Config, ConfigError> {
        let mut options = Options::read(path.as_ref(), "gpt2")?;
        let small = Gpt2Config::small();
        options.only("add_cross_attention", &[false.into()])?;
        options.only("is_encoder_decoder", &[false.into()])?;
        let width = options.size("n_embd", small.width)?;
        let heads = options.size("n_head", small.heads)?;
        options.divides("n_head", heads, width)?;
        let activation = options.activation("activation_function", "gelu_new")?;
        Ok(Gpt2Config {
            vocabulary: options.size("vocab_size", small.vocabulary)?,
            positions: options.size("n_positions", small.positions)?,
            width,
            layers: options.size("n_layer", small.layers)?,
            heads,
            inner: options.size("n_inner", 4 * width)?,
            activation,
            epsilon: options.positive("layer_norm_epsilon", small.epsilon)?,
            embedding_dropout: options.probability("embd_pdrop", small.embedding_dropout)?,
            attention_dropout: options.probability("attn_pdrop", small.attention_dropout)?,
            dropout: options.probability("resid_pdrop", small.dropout)?,
            std: options.positive("initializer_range", small.std)?,
            scaled: options.take("scale_attn_weights", true)?,
            scaled_by_layer: options.take("scale_attn_by_inverse_layer_idx", false)?,
            tied: options.take("tie_word_embeddings", true)?,
            unknown: options.unread(),
        })
    }

    /// The options as Hugging Face writes them, with the activation's name there.
    fn options(&self, activation: &str) -> Value {
        json!({
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2",
            "vocab_size": self.vocabulary, "n_positions": self.positions, "n_embd": self.width,
            "n_layer": self.layers, "n_head": self.heads, "n_inner": self.inner,
            "activation_function": activation, "layer_norm_epsilon": self.epsilon,
            "embd_pdrop": self.embedding_dropout, "attn_pdrop": self.attention_dropout, "resid_pdrop": self.dropout,
            "initializer_range": self.std, "scale_attn_weights": self.scaled,
            "scale_attn_by_inverse_layer_idx": self.scaled_by_layer, "tie_word_embeddings": self.tied,
        })
    }

    fn block(&self, key: &Key, layer: usize) -> EncoderBlock {
        let scale = if self.scaled { ((self.width / self.heads) as f64).powf(-0.5) } else { 1.0 };
        let settings = BlockSettings {
            width: self.width,
            inner: self.inner,
            heads: self.heads,
            epsilon: self.epsilon,
            std: (self.std, self.std / (2.0 * self.layers as f64).sqrt()),
            scale: Some(if self.scaled_by_layer { scale / (layer + 1) as f64 } else { scale }),
            activation: self.activation,
            attention_dropout: self.attention_dropout,
            dropout: self.dropout,
        };
        settings.build(key).pre_norm().causal()
    }
}

/// GPT-2 with its head for language.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::models::{Gpt2, Gpt2Config, Sampling};
/// use chainrule_nn::prelude::*;
/// let config = Gpt2Config { vocabulary: 11, positions: 8, width: 8, layers: 2, heads: 2, inner: 16, ..Gpt2Config::small() };
/// let model = Gpt2::new(&Key::new(1), config);
/// let tokens = Tensor::from([[1i64, 2, 3]]);
/// assert_eq!(model.forward(&tokens, None, &mut Context::evaluation()).shape(), [1, 3, 11]);
/// assert_eq!(model.generate(&[1, 2, 3], 5, Sampling::greedy(), &Key::new(1)).unwrap().len(), 5);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Gpt2 {
    /// `[vocabulary, width]`.
    pub tokens: Embedding,
    /// `[positions, width]`.
    pub positions: Embedding,
    /// The blocks, first to last.
    pub blocks: Vec<EncoderBlock>,
    /// After the last block.
    pub norm: LayerNorm,
    /// `[vocabulary, width]`, if it is not the embedding.
    pub head: Option<Linear>,
    /// The form.
    #[tree(skip)]
    pub config: Gpt2Config,
}

impl Gpt2 {
    /// With GPT-2's first weights: N(0, 0.02²), those that end a residual branch smaller by √(2·layers). In f32.
    ///
    /// # Panics
    /// If the heads do not divide the width.
    #[track_caller]
    pub fn new(key: &Key, config: Gpt2Config) -> Gpt2 {
        let (width, heads) = (config.width, config.heads);
        assert!(heads > 0 && width.is_multiple_of(heads), "Gpt2: {heads} heads do not divide the width {width}");
        let [tokens, positions, head, blocks] = key.split();
        let table = |key: &Key, rows| init::normal(key, [rows, width], config.std, DType::F32);
        let embedding = |key: &Key, rows| Embedding { weight: table(key, rows), padding: None };
        let block = |i: usize| config.block(&blocks.fold(&Tensor::from(i as i64)), i);
        Gpt2 {
            tokens: embedding(&tokens, config.vocabulary),
            positions: embedding(&positions, config.positions),
            blocks: (0..config.layers).map(block).collect(),
            norm: LayerNorm::new(width).epsilon(config.epsilon),
            head: (!config.tied).then(|| Linear { weight: table(&head, config.vocabulary), bias: None }),
            config,
        }
    }

    /// Logits `[N, T, vocabulary]` of the token after each of tokens `[N, T]`. `mask` `[N, T]` (bool) is false at
    /// places that are only filling.
    ///
    /// # Panics
    /// If the tokens are not `[N, T]` with T at most the positions.
    #[track_caller]
    pub fn forward(&self, tokens: &Tensor, mask: Option<&Tensor>, context: &mut Context) -> Tensor {
        check_tokens("Gpt2", tokens, self.config.positions);
        let t = tokens.size(1);
        let seen = mask.map(|mask| mask.unsqueeze(1).unsqueeze(1));
        let places = self.positions.weight.narrow(0, 0, t);
        let mut x = self.embed(tokens, &places, context);
        for block in &self.blocks {
            x = block.forward(&x, seen.as_ref(), context);
        }
        self.logits(&x)
    }

    #[track_caller]
    fn embed(&self, tokens: &Tensor, places: &Tensor, context: &mut Context) -> Tensor {
        Dropout::new(self.config.embedding_dropout).forward(&(self.tokens.forward(tokens) + places), context)
    }

    #[track_caller]
    fn logits(&self, x: &Tensor) -> Tensor {
        let head = self.head.as_ref().map_or(&self.tokens.weight, |head| &head.weight);
        self.norm.forward(x).matmul(&head.t())
    }

    /// Mean of −ln p of each token after the first, given those before it; only of the tokens where `mask` is true.
    #[track_caller]
    pub fn loss(&self, tokens: &Tensor, mask: Option<&Tensor>, context: &mut Context) -> Tensor {
        let t = tokens.size(1);
        let logits = self.forward(tokens, mask, context).narrow(1, 0, t - 1);
        let next = tokens.narrow(1, 1, t - 1);
        match mask {
            None => logits.cross_entropy(&next),
            Some(mask) => {
                let counts = mask.narrow(1, 1, t - 1).cast(logits.dtype());
                -(logits.log_softmax(-1).pick(&next) * &counts).sum(..) / counts.sum(..)
            }
        }
    }

    /// An empty memory for so many sequences and places: the keys and values of each block.
    #[track_caller]
    pub fn cache(&self, sequences: usize, capacity: usize) -> Vec<KeyValueCache> {
        self.blocks.iter().map(|block| block.attention.cache(sequences, capacity)).collect()
    }

    /// [`Gpt2::forward`] of tokens `[N, T]` that come after those in a memory, in evaluation; they join it.
    ///
    /// More tokens than the memory or the model has room for are an error when it runs.
    #[track_caller]
    pub fn extend(&self, tokens: &Tensor, cache: &mut [KeyValueCache]) -> Tensor {
        let place = Tensor::arange(tokens.size(1), DType::I64) + &cache[0].length;
        let mut x = self.embed(tokens, &self.positions.forward(&place), &mut Context::evaluation());
        for (block, memory) in self.blocks.iter().zip(cache) {
            x = block.forward_cached(&x, memory);
        }
        self.logits(&x)
    }

    /// So many tokens after a prompt; each is a function of the key and its place.
    ///
    /// # Errors
    /// If the prompt is empty, holds unknown tokens, or there is not so much room; if the sampling is wrong.
    pub fn generate(
        &self,
        prompt: &[i64],
        count: usize,
        sampling: Sampling,
        key: &Key,
    ) -> Result<Vec<i64>, GenerateError> {
        self.check_prompt(prompt, count)?;
        sampling.check().map_err(GenerateError::Sampling)?;
        let mut step = compile(|(model, tokens, cache, key): &(Gpt2, Tensor, Vec<KeyValueCache>, Key)| {
            let mut cache = cache.clone();
            let last = model.extend(tokens, &mut cache).narrow(1, tokens.size(1) - 1, 1).squeeze(1);
            (sampling.draw(&last, &key.fold(&cache[0].length)), cache)
        });
        let mut cache = self.cache(1, prompt.len() + count);
        let mut tokens = Tensor::from_vec(prompt, [1, prompt.len()]);
        let mut generated = Vec::with_capacity(count);
        while generated.len() < count {
            let arguments = (self.clone(), tokens, cache, key.clone());
            let next;
            (next, cache) = step.run(arguments).map_err(|error| GenerateError::Run(error.to_string()))?;
            generated.push(next.to_vec::<i64>()[0]);
            tokens = next.reshape([1, 1]);
        }
        Ok(generated)
    }

    fn check_prompt(&self, prompt: &[i64], count: usize) -> Result<(), GenerateError> {
        let Gpt2Config { vocabulary, positions, .. } = self.config;
        if prompt.is_empty() {
            return Err(GenerateError::Empty);
        }
        if let Some(&token) = prompt.iter().find(|&&token| token < 0 || token as usize >= vocabulary) {
            return Err(GenerateError::Token { token, vocabulary });
        }
        if prompt.len().saturating_add(count) > positions {
            return Err(GenerateError::TooLong { prompt: prompt.len(), wanted: count, positions });
        }
        Ok(())
    }

    /// The rules of Hugging Face's names: Conv1D weights are transposed there, and queries, keys and values are one.
    pub fn rules() -> Rules {
        let part = |name: &str| format!("blocks.*.attention.{name}");
        let joined = |kind: &str| {
            let [q, k, v] = ["query", "key", "value"].map(|name| part(&format!("{name}.{kind}")));
            Rule::joined([&q, &k, &v], 0, &format!("transformer.h.*.attn.c_attn.{kind}"))
        };
        let mut rules = Rules::new([joined("weight").transposed(), joined("bias")]);
        let linear = [
            (part("output"), "attn.c_proj"),
            ("blocks.*.feed_forward.up".into(), "mlp.c_fc"),
            ("blocks.*.feed_forward.down".into(), "mlp.c_proj"),
        ];
        for (ours, theirs) in linear {
            let row = |kind| Rule::same(&format!("{ours}.{kind}"), &format!("transformer.h.*.{theirs}.{kind}"));
            rules = rules.with(row("weight").transposed()).with(row("bias"));
        }
        let others = [
            ("tokens.weight", "transformer.wte.weight"),
            ("positions.weight", "transformer.wpe.weight"),
            ("blocks.*.attention_norm.*", "transformer.h.*.ln_1.*"),
            ("blocks.*.feed_forward_norm.*", "transformer.h.*.ln_2.*"),
            ("norm.*", "transformer.ln_f.*"),
            ("head.weight", "lm_head.weight"),
        ];
        let rules = others.into_iter().fold(rules, |rules, (ours, theirs)| rules.with(Rule::same(ours, theirs)));
        // Causal masks that older files keep, and files of the bare model.
        let masks = rules.ignoring("transformer.h.*.attn.bias").ignoring("transformer.h.*.attn.masked_bias");
        ["wte.**", "wpe.**", "h.**", "ln_f.**"]
            .into_iter()
            .fold(masks, |rules, name| rules.spelled(name, &format!("transformer.{name}")))
    }

    /// A model of a folder with `config.json` and safetensors, whole or in pieces. Its weights become f32.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not fit; see [`ConfigError`] and [`crate::interchange::InterchangeError`].
    pub fn load(folder: impl AsRef<Path>) -> Result<Gpt2, ModelError> {
        let folder = folder.as_ref();
        let config = Gpt2Config::read(folder.join("config.json"))?;
        let tensors = load_checkpoint(folder)?;
        // A tied head is the embedding; older files have it twice.
        let rules = if config.tied { Gpt2::rules().ignoring("lm_head.weight") } else { Gpt2::rules() };
        Ok(from_pytorch(&Gpt2::new(&Key::new(0), config), tensors, &rules)?)
    }

    /// Writes `config.json` and `model.safetensors` into a folder, which is made.
    ///
    /// # Errors
    /// If they cannot be written, or the activation has no name there.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        let folder = folder_of(folder.as_ref())?;
        let file = folder.join("config.json");
        let activation = config::activation_name(&file, "activation_function", self.config.activation)?;
        save_pytorch(self, folder.join("model.safetensors"), &Gpt2::rules())?;
        Ok(config::write(&self.config.options(activation), &file)?)
    }
}
