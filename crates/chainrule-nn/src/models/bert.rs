//! BERT (J. Devlin et al. 2019): an encoder of texts, from and for Hugging Face's files, with the heads that a file
//! has: a pooler, words behind masks, classes. No decoder, no relative positions.

use super::block::{BlockSettings, check_tokens, linear};
use super::config::{self, ConfigError, Options};
use super::{ModelError, folder_of};
use crate::context::Context;
use crate::init;
use crate::interchange::{Rule, Rules, from_pytorch, load_checkpoint, save_pytorch};
use crate::layer::{Activation, Dropout, Embedding, EncoderBlock, LayerNorm, Linear};
use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::Tree;
use serde_json::{Value, json};
use std::path::Path;

/// The form of a BERT; in brackets its option in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
    /// Number of tokens (`vocab_size`).
    pub vocabulary: usize,
    /// Longest text (`max_position_embeddings`).
    pub positions: usize,
    /// Kinds of tokens (`type_vocab_size`).
    pub types: usize,
    /// Size of a place's vector (`hidden_size`).
    pub width: usize,
    /// Number of blocks (`num_hidden_layers`).
    pub layers: usize,
    /// Heads of each attention (`num_attention_heads`).
    pub heads: usize,
    /// Width inside a block's network (`intermediate_size`).
    pub inner: usize,
    /// In a block's network and the head for words (`hidden_act`).
    pub activation: Activation,
    /// Of the normalisations (`layer_norm_eps`).
    pub epsilon: f64,
    /// Dropout of embedding and branches (`hidden_dropout_prob`).
    pub dropout: f64,
    /// Dropout of what is attended to (`attention_probs_dropout_prob`).
    pub attention_dropout: f64,
    /// Dropout before the classes (`classifier_dropout`; as the branches' without it).
    pub classifier_dropout: Option<f64>,
    /// Spread of the first weights (`initializer_range`).
    pub std: f64,
    /// The token that only fills: its vector learns nothing (`pad_token_id`).
    pub padding: Option<usize>,
    /// Whether the embedding is the head for words too (`tie_word_embeddings`).
    pub tied: bool,
    /// Options of the file that nobody here knows.
    pub unknown: Vec<String>,
}

impl BertConfig {
    /// BERT base, uncased: 110 million parameters.
    pub fn base() -> BertConfig {
        BertConfig {
            vocabulary: 30522,
            positions: 512,
            types: 2,
            width: 768,
            layers: 12,
            heads: 12,
            inner: 3072,
            activation: Activation::Gelu,
            epsilon: 1e-12,
            dropout: 0.1,
            attention_dropout: 0.1,
            classifier_dropout: None,
            std: 0.02,
            padding: Some(0),
            tied: true,
            unknown: Vec::new(),
        }
    }

    /// Reads a `config.json`. What it leaves out is BERT base's.
    ///
    /// # Errors
    /// If the file cannot be read, or an option is wrong or not supported.
    pub fn read(path: impl AsRef<Path>) -> Result<BertConfig, ConfigError> {
        let mut options = Options::read(path.as_ref(), "bert")?;
        let base = BertConfig::base();
        options.only("is_decoder", &[false.into()])?;
        options.only("add_cross_attention", &[false.into()])?;
        options.only("is_encoder_decoder", &[false.into()])?;
        options.only("position_embedding_type", &["absolute".into()])?;
        let width = options.size("hidden_size", base.width)?;
        let heads = options.size("num_attention_heads", base.heads)?;
        options.divides("num_attention_heads", heads, width)?;
        let activation = options.activation("hidden_act", "gelu")?;
        let vocabulary = options.size("vocab_size", base.vocabulary)?;
        Ok(BertConfig {
            vocabulary,
            positions: options.size("max_position_embeddings", base.positions)?,
            types: options.size("type_vocab_size", base.types)?,
            width,
            layers: options.size("num_hidden_layers", base.layers)?,
            heads,
            inner: options.size("intermediate_size", base.inner)?,
            activation,
            epsilon: options.positive("layer_norm_eps", base.epsilon)?,
            dropout: options.probability("hidden_dropout_prob", base.dropout)?,
            attention_dropout: options.probability("attention_probs_dropout_prob", base.attention_dropout)?,
            classifier_dropout: options.optional_probability("classifier_dropout")?,
            std: options.positive("initializer_range", base.std)?,
            padding: options.index("pad_token_id", base.padding, vocabulary)?,
            tied: options.take("tie_word_embeddings", true)?,
            unknown: options.unread(),
        })
    }

    /// The options as Hugging Face writes them.
    fn options(&self, activation: &str, architecture: &str, classes: Option<usize>) -> Value {
        let mut options = json!({
            "architectures": [architecture], "model_type": "bert",
            "vocab_size": self.vocabulary, "max_position_embeddings": self.positions, "type_vocab_size": self.types,
            "hidden_size": self.width, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "intermediate_size": self.inner, "hidden_act": activation, "layer_norm_eps": self.epsilon,
            "hidden_dropout_prob": self.dropout, "attention_probs_dropout_prob": self.attention_dropout,
            "classifier_dropout": self.classifier_dropout, "initializer_range": self.std,
            "pad_token_id": self.padding, "tie_word_embeddings": self.tied,
        });
        if let Some(classes) = classes {
            let names = (0..classes).map(|i| (i.to_string(), Value::from(format!("LABEL_{i}"))));
            options["id2label"] = Value::Object(names.collect());
        }
        options
    }

    fn block(&self) -> BlockSettings {
        BlockSettings {
            width: self.width,
            inner: self.inner,
            heads: self.heads,
            epsilon: self.epsilon,
            std: (self.std, self.std),
            scale: None,
            activation: self.activation,
            attention_dropout: self.attention_dropout,
            dropout: self.dropout,
        }
    }
}

/// The head that tells the words behind masks.
#[derive(Tree, Clone, Debug)]
pub struct MaskedWords {
    /// Before the words.
    pub dense: Linear,
    /// After it.
    pub norm: LayerNorm,
    /// `[vocabulary, width]`, if it is not the embedding.
    pub decoder: Option<Tensor>,
    /// `[vocabulary]`.
    pub bias: Tensor,
}

/// BERT with the heads it has.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::models::{Bert, BertConfig};
/// use chainrule_nn::prelude::*;
/// let config = BertConfig { vocabulary: 11, positions: 8, width: 8, layers: 2, heads: 2, inner: 16, ..BertConfig::base() };
/// let model = Bert::new(&Key::new(1), config).with_classes(&Key::new(2), 3);
/// let tokens = Tensor::from([[1i64, 2, 3, 0]]);
/// let mask = tokens.not_equal(0i64);
/// assert_eq!(model.forward(&tokens, None, Some(&mask), &mut Context::evaluation()).shape(), [1, 4, 8]);
/// assert_eq!(model.classes(&tokens, None, Some(&mask), &mut Context::evaluation()).shape(), [1, 3]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Bert {
    /// `[vocabulary, width]`.
    pub tokens: Embedding,
    /// `[positions, width]`.
    pub positions: Embedding,
    /// `[types, width]`.
    pub types: Embedding,
    /// After the sum of the three.
    pub norm: LayerNorm,
    /// The blocks, first to last.
    pub blocks: Vec<EncoderBlock>,
    /// Maps the first place, for the whole text.
    pub pooler: Option<Linear>,
    /// The words behind masks.
    pub words: Option<MaskedWords>,
    /// Classes of the whole text.
    pub classifier: Option<Linear>,
    /// The form.
    #[tree(skip)]
    pub config: BertConfig,
}

impl Bert {
    /// With BERT's first weights, N(0, 0.02²), and no heads. In f32.
    ///
    /// # Panics
    /// If the heads do not divide the width.
    #[track_caller]
    pub fn new(key: &Key, config: BertConfig) -> Bert {
        let (width, heads) = (config.width, config.heads);
        assert!(heads > 0 && width.is_multiple_of(heads), "Bert: {heads} heads do not divide the width {width}");
        let [tokens, positions, types, blocks] = key.split();
        let table = |key: &Key, rows| {
            let weight = init::normal(key, [rows, width], config.std, DType::F32);
            Embedding { weight, padding: None }
        };
        let mut words = table(&tokens, config.vocabulary);
        if let Some(padding) = config.padding {
            words = words.padding(padding);
        }
        Bert {
            tokens: words,
            positions: table(&positions, config.positions),
            types: table(&types, config.types),
            norm: LayerNorm::new(width).epsilon(config.epsilon),
            blocks: (0..config.layers).map(|i| config.block().build(&blocks.fold(&Tensor::from(i as i64)))).collect(),
            pooler: None,
            words: None,
            classifier: None,
            config,
        }
    }

    /// With a pooler.
    #[track_caller]
    pub fn with_pooler(self, key: &Key) -> Bert {
        let (width, std) = (self.config.width, self.config.std);
        Bert { pooler: Some(linear(key, width, width, std)), ..self }
    }

    /// With a pooler, and so many classes after it.
    #[track_caller]
    pub fn with_classes(self, key: &Key, classes: usize) -> Bert {
        let [pooler, head] = key.split();
        let classifier = Some(linear(&head, self.config.width, classes, self.config.std));
        Bert { classifier, ..self.with_pooler(&pooler) }
    }

    /// With the head for words behind masks.
    #[track_caller]
    pub fn with_words(self, key: &Key) -> Bert {
        let BertConfig { width, vocabulary, std, epsilon, tied, .. } = self.config;
        let [dense, decoder] = key.split();
        let words = MaskedWords {
            dense: linear(&dense, width, width, std),
            norm: LayerNorm::new(width).epsilon(epsilon),
            decoder: (!tied).then(|| init::normal(&decoder, [vocabulary, width], std, DType::F32)),
            bias: Tensor::zeros([vocabulary], DType::F32),
        };
        Bert { words: Some(words), ..self }
    }

    /// The vectors `[N, T, width]` of tokens `[N, T]`, of these types (0 without), seeing only places where `mask`
    /// (bool, `[N, T]`) is true.
    ///
    /// # Panics
    /// If the tokens are not `[N, T]` with T at most the positions.
    #[track_caller]
    pub fn forward(
        &self,
        tokens: &Tensor,
        types: Option<&Tensor>,
        mask: Option<&Tensor>,
        context: &mut Context,
    ) -> Tensor {
        check_tokens("Bert", tokens, self.config.positions);
        let kinds = match types {
            Some(types) => self.types.forward(types),
            None => self.types.weight.narrow(0, 0, 1),
        };
        let sum = self.tokens.forward(tokens) + kinds + self.positions.weight.narrow(0, 0, tokens.size(1));
        let seen = mask.map(|mask| mask.unsqueeze(1).unsqueeze(1));
        let mut x = Dropout::new(self.config.dropout).forward(&self.norm.forward(&sum), context);
        for block in &self.blocks {
            x = block.forward(&x, seen.as_ref(), context);
        }
        x
    }

    /// A vector `[N, width]` of each whole text from its places' vectors: tanh of a map of the first.
    ///
    /// # Panics
    /// Without a pooler.
    #[track_caller]
    pub fn pooled(&self, hidden: &Tensor) -> Tensor {
        let pooler = self.pooler.as_ref().expect("Bert: this model has no pooler");
        pooler.forward(&hidden.narrow(1, 0, 1).squeeze(1)).tanh()
    }

    /// Logits `[N, classes]` of each text; see [`Bert::forward`].
    ///
    /// # Panics
    /// Without a classifier.
    #[track_caller]
    pub fn classes(
        &self,
        tokens: &Tensor,
        types: Option<&Tensor>,
        mask: Option<&Tensor>,
        context: &mut Context,
    ) -> Tensor {
        let classifier = self.classifier.as_ref().expect("Bert: this model has no classifier");
        let pooled = self.pooled(&self.forward(tokens, types, mask, context));
        let dropout = Dropout::new(self.config.classifier_dropout.unwrap_or(self.config.dropout));
        classifier.forward(&dropout.forward(&pooled, context))
    }

    /// Logits `[N, T, vocabulary]` of the word at each place from the places' vectors.
    ///
    /// # Panics
    /// Without the head for words.
    #[track_caller]
    pub fn words(&self, hidden: &Tensor) -> Tensor {
        let head = self.words.as_ref().expect("Bert: this model has no head for words");
        let x = head.norm.forward(&self.config.activation.apply(&head.dense.forward(hidden)));
        x.matmul(&head.decoder.as_ref().unwrap_or(&self.tokens.weight).t()) + &head.bias
    }

    /// The rules of Hugging Face's names for a model with heads (`bert.` before all others) or without.
    pub fn rules(with_heads: bool) -> Rules {
        let prefix = if with_heads { "bert." } else { "" };
        let block = [
            ("attention.query", "attention.self.query"),
            ("attention.key", "attention.self.key"),
            ("attention.value", "attention.self.value"),
            ("attention.output", "attention.output.dense"),
            ("attention_norm", "attention.output.LayerNorm"),
            ("feed_forward.up", "intermediate.dense"),
            ("feed_forward.down", "output.dense"),
            ("feed_forward_norm", "output.LayerNorm"),
        ];
        let block = block.into_iter().map(|(ours, theirs)| {
            Rule::same(&format!("blocks.*.{ours}.*"), &format!("{prefix}encoder.layer.*.{theirs}.*"))
        });
        let body = [
            ("tokens.weight", "embeddings.word_embeddings.weight"),
            ("positions.weight", "embeddings.position_embeddings.weight"),
            ("types.weight", "embeddings.token_type_embeddings.weight"),
            ("norm.*", "embeddings.LayerNorm.*"),
            ("pooler.*", "pooler.dense.*"),
        ];
        let body = body.into_iter().map(|(ours, theirs)| Rule::same(ours, &format!("{prefix}{theirs}")));
        let heads = [
            ("words.dense.*", "cls.predictions.transform.dense.*"),
            ("words.norm.*", "cls.predictions.transform.LayerNorm.*"),
            ("words.decoder", "cls.predictions.decoder.weight"),
            ("words.bias", "cls.predictions.bias"),
        ];
        let heads = heads.into_iter().map(|(ours, theirs)| Rule::same(ours, theirs));
        // Older files: the normalisation's names, and the numbers of places as a buffer.
        Rules::new(block.chain(body).chain(heads))
            .spelled("**.LayerNorm.gamma", "**.LayerNorm.weight")
            .spelled("**.LayerNorm.beta", "**.LayerNorm.bias")
            .ignoring("**.position_ids")
            .ignoring("cls.predictions.decoder.bias")
    }

    /// A model of a folder with `config.json` and safetensors, whole or in pieces, with the heads that are there.
    /// The head for the next sentence is left out. Weights become f32.
    ///
    /// # Errors
    /// If a file is missing, damaged or does not fit; see [`ConfigError`] and [`crate::interchange::InterchangeError`].
    pub fn load(folder: impl AsRef<Path>) -> Result<Bert, ModelError> {
        let folder = folder.as_ref();
        let config = BertConfig::read(folder.join("config.json"))?;
        let tensors = load_checkpoint(folder)?;
        let has = |part: &str| tensors.keys().any(|name| name.starts_with(part) || name.contains(&format!(".{part}")));
        let classes = tensors.get("classifier.weight").map(|weight| weight.shape().first().copied().unwrap_or(0));
        let (key, tied) = (Key::new(0), config.tied);
        let mut model = Bert::new(&key, config);
        if has("pooler.") {
            model = model.with_pooler(&key);
        }
        if has("cls.predictions.") {
            model = model.with_words(&key);
        }
        if let Some(classes) = classes {
            model = model.with_classes(&key, classes);
        }
        let mut rules =
            Bert::rules(tensors.keys().any(|name| name.starts_with("bert."))).ignoring("cls.seq_relationship.*");
        if tied {
            rules = rules.ignoring("cls.predictions.decoder.weight");
        }
        Ok(from_pytorch(&model, tensors, &rules)?)
    }

    /// Writes `config.json` and `model.safetensors` into a folder, which is made.
    ///
    /// # Errors
    /// If they cannot be written, or the activation has no name there.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), ModelError> {
        let folder = folder_of(folder.as_ref())?;
        let file = folder.join("config.json");
        let activation = config::activation_name(&file, "hidden_act", self.config.activation)?;
        let classes = self.classifier.as_ref().map(|classifier| classifier.weight.size(0));
        let architecture = match (&self.words, &self.classifier) {
            (Some(_), _) => "BertForMaskedLM",
            (None, Some(_)) => "BertForSequenceClassification",
            (None, None) => "BertModel",
        };
        let rules = Bert::rules(self.words.is_some() || self.classifier.is_some());
        save_pytorch(self, folder.join("model.safetensors"), &rules)?;
        Ok(config::write(&self.config.options(activation, architecture, classes), &file)?)
    }
}
