//! Attention, positions and transformer blocks over `[time, width]`.

use chainrule::tensor::{DType, Tensor, Type};
use chainrule_nn::layer::{
    Activation, Attention, DecoderBlock, EncoderBlock, FeedForward, KeyValueCache, LayerNorm, LearnedPositions, Rotary,
    sinusoidal_positions,
};

use super::super::build::{Scope, shown};
use super::super::fields::{Field, Form, Options};
use super::super::module::{Module, Pass};
use super::super::source::Problem;
use super::{Kind, MASK, Mask, axes, beside_time, float, holds, places_of};

const HEADS: Field = Field { name: "heads", form: Form::Count, default: "", help: "which divide the width" };
const KEY_HEADS: Field = Field {
    name: "key_heads",
    form: Form::Count,
    default: "-",
    help: "fewer heads of keys and values (grouped queries)",
};
const ROTARY: Field = Field { name: "rotary", form: Form::Flag, default: "false", help: "rotary positions" };
const DROPOUT: Field = Field { name: "dropout", form: Form::Share, default: "0.0", help: "in training" };
const BIAS: Field = Field { name: "bias", form: Form::Flag, default: "true", help: "whether biases are there" };
const CAUSAL: Field =
    Field { name: "causal", form: Form::Flag, default: "false", help: "places look only at those before" };
const HIDDEN: Field =
    Field { name: "hidden", form: Form::Size, default: "\"4x\"", help: "units of the network at each place" };
const NORM: Field = Field {
    name: "norm",
    form: Form::Word(&["pre", "post"]),
    default: "\"pre\"",
    help: "before each branch, or after each sum",
};
const MEMORY_MASK: Field = Field { name: "memory_mask", help: "the same of what the encoder said", ..MASK };
const EPSILON: Field = Field { name: "epsilon", form: Form::Positive, default: "1e-5", help: "of the norms" };
const ACTIVATION: Field = Field {
    name: "activation",
    form: Form::Word(&["relu", "gelu", "gelu_tanh", "silu", "mish", "tanh"]),
    default: "\"gelu\"",
    help: "of the network at each place",
};

fn activation(options: &Options) -> Activation {
    match options.word("activation") {
        "gelu" => Activation::Gelu,
        "gelu_tanh" => Activation::GeluTanh,
        "silu" => Activation::Silu,
        "mish" => Activation::Mish,
        "tanh" => Activation::Tanh,
        _ => Activation::Relu,
    }
}

/// Refuses what is not `[time, width]`; the width.
fn sequence(what: &str, options: &Options, x: &Type) -> Result<usize, Problem> {
    float(what, options, x)?;
    axes(what, options, x, (2, 2), "[time, width]")?;
    holds(what, options, &[x.shape[2], x.shape[2], 3])?;
    Ok(x.shape[2])
}

/// Refuses heads that do not divide the width; the heads.
fn heads(options: &Options, x: &Type, width: usize, over: usize) -> Result<usize, Problem> {
    let heads = options.count("heads");
    if !width.is_multiple_of(heads) {
        let divisors: Vec<String> =
            (1..=width.min(64)).filter(|n| width.is_multiple_of(*n)).map(|n| n.to_string()).collect();
        let problem = options.problem("heads", format!("{heads} heads do not divide a width of {width}"));
        return Err(problem.hint(format!("it is one of: {}", divisors.join(", "))));
    }
    holds("attention", options, &[x.shape[0], heads, x.shape[1], over])?;
    if let Some(keys) = options.maybe_count("key_heads").filter(|keys| !heads.is_multiple_of(*keys)) {
        return Err(options.problem("key_heads", format!("{keys} heads of keys do not divide {heads} heads")));
    }
    if options.flag("rotary") && (width / heads) % 2 == 1 {
        return Err(
            options.problem("rotary", format!("a head of {} is odd, and rotary positions take pairs", width / heads))
        );
    }
    Ok(heads)
}

/// An attention with the options that all blocks have.
fn changed(attention: Attention, options: &Options) -> Attention {
    let attention = if options.flag("bias") { attention } else { attention.without_bias() };
    let attention = match options.maybe_count("key_heads") {
        Some(keys) => attention.key_heads(keys),
        None => attention,
    };
    if options.flag("rotary") { attention.rotary(Rotary::new()) } else { attention }
}

fn unbiased(norm: &mut LayerNorm, options: &Options) {
    if !options.flag("bias") {
        norm.bias = None;
    }
}

fn network(layer: FeedForward, options: &Options) -> FeedForward {
    match options.flag("bias") {
        true => layer,
        false => FeedForward { up: layer.up.without_bias(), down: layer.down.without_bias(), ..layer },
    }
}

/// What the encoder said; `[time, width]` of it.
fn memory<'a>(what: &str, options: &Options, scope: &'a Scope) -> Result<&'a Type, Problem> {
    let Some(memory) = &scope.memory else {
        let problem = Problem::new(&options.span, format!("`{what}` looks at what an encoder said, and there is none"));
        return Err(problem.hint("it stands in [model.decoder] of kind = \"encoder-decoder\""));
    };
    match memory.shape.len() == 3 && memory.dtype.is_float() {
        true => Ok(memory),
        false => {
            let message = format!("`{what}` takes a memory [time, width], and the encoder gives {}", shown(memory));
            Err(Problem::new(&options.span, message))
        }
    }
}

/// Where a query may look: the places that count, for all heads and queries, `[N, 1, 1, places]`.
fn mask(name: &'static str, places: usize, options: &Options, scope: &Scope) -> Result<Option<Mask>, Problem> {
    if !options.has(name) {
        return Ok(None);
    }
    let inside = places_of(name, places, options, scope)?;
    Ok(Some(Box::new(move |pass| inside(pass).unsqueeze(1).unsqueeze(1))))
}

/// The mask of a pass, if there is one.
fn in_pass(mask: &Option<Mask>, pass: &Pass) -> Option<Tensor> {
    mask.as_ref().map(|mask| mask(pass))
}

fn said(pass: &Pass) -> Tensor {
    pass.memory.clone().expect("an encoder came before")
}

/// Room for the keys and values of so many steps of sequences like x.
fn cache(layer: &Attention, x: &Tensor, room: usize) -> KeyValueCache {
    layer.cache(x.size(0), room)
}

fn attention(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    let width = sequence("attention", options, x)?;
    let cross = options.word("over") == "memory";
    let over = if cross { memory("attention", options, scope)?.clone() } else { x.clone() };
    let heads = heads(options, x, width, over.shape[1])?;
    let mask = mask("mask", over.shape[1], options, scope)?;
    let key = scope.key();
    let layer = match cross {
        true => Attention::over(&key, width, over.shape[2], heads),
        false => Attention::new(&key, width, heads),
    };
    let layer = changed(layer, options).dropout(options.number("dropout"));
    let layer = if options.flag("causal") { layer.causal() } else { layer };
    // Over a memory a causal attention goes by places of x, which a step does not know; nor are masks made for one.
    let by_step = cross != layer.causal && !options.has("mask");
    let forward = move |layer: &mut Attention, x: &Tensor, pass: &mut Pass| {
        let mask = in_pass(&mask, pass);
        match (cross, &mut pass.walk) {
            (true, _) => layer.forward(x, &said(pass), mask.as_ref(), pass.context),
            (false, None) => layer.forward(x, x, mask.as_ref(), pass.context),
            (false, Some(walk)) => {
                let start = cache(layer, x, walk.room());
                walk.carry(start, |cache| layer.forward_cached(x, cache))
            }
        }
    };
    Ok(Module::new(layer, forward).by_step(by_step))
}

fn encoder(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    let width = sequence("encoder", options, x)?;
    let heads = heads(options, x, width, x.shape[1])?;
    let hidden = scope.size(options, "hidden", width)?;
    holds("encoder", options, &[x.shape[0], x.shape[1], hidden])?;
    holds("encoder", options, &[width, hidden])?;
    let block = EncoderBlock::new(&scope.key(), width, heads, hidden).attention(|layer| changed(layer, options));
    let block = block.dropout(options.number("dropout")).activation(activation(options));
    let block = block.epsilon(options.number("epsilon"));
    let block = if options.word("norm") == "pre" { block.pre_norm() } else { block };
    let mut block = if options.flag("causal") { block.causal() } else { block };
    [&mut block.attention_norm, &mut block.feed_forward_norm].into_iter().for_each(|norm| unbiased(norm, options));
    block.feed_forward = network(block.feed_forward, options);
    let by_step = block.attention.causal && !options.has("mask");
    let mask = mask("mask", x.shape[1], options, scope)?;
    let forward = move |block: &mut EncoderBlock, x: &Tensor, pass: &mut Pass| {
        let mask = in_pass(&mask, pass);
        match &mut pass.walk {
            None => block.forward(x, mask.as_ref(), pass.context),
            Some(walk) => {
                let start = cache(&block.attention, x, walk.room());
                walk.carry(start, |cache| block.forward_cached(x, cache))
            }
        }
    };
    Ok(Module::new(block, forward).by_step(by_step))
}

fn decoder(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    let width = sequence("decoder", options, x)?;
    let over = memory("decoder", options, scope)?.clone();
    if over.shape[2] != width {
        let message = format!("`decoder` has a width of {width}, and the encoder gives {}", shown(&over));
        return Err(Problem::new(&options.span, message).hint("both must have one width"));
    }
    let heads = heads(options, x, width, x.shape[1].max(over.shape[1]))?;
    let hidden = scope.size(options, "hidden", width)?;
    holds("decoder", options, &[x.shape[0], x.shape[1], hidden])?;
    holds("decoder", options, &[width, hidden])?;
    let block = DecoderBlock::new(&scope.key(), width, heads, hidden).attention(|layer| changed(layer, options));
    let block = block.dropout(options.number("dropout")).activation(activation(options));
    let block = block.epsilon(options.number("epsilon"));
    let mut block = if options.word("norm") == "pre" { block.pre_norm() } else { block };
    let norms = [&mut block.attention_norm, &mut block.cross_attention_norm, &mut block.feed_forward_norm];
    norms.into_iter().for_each(|norm| unbiased(norm, options));
    if !options.flag("bias") {
        block.cross_attention = block.cross_attention.without_bias();
    }
    block.feed_forward = network(block.feed_forward, options);
    let by_step = !options.has("mask") && !options.has("memory_mask");
    let masks = [mask("mask", x.shape[1], options, scope)?, mask("memory_mask", over.shape[1], options, scope)?];
    let forward = move |block: &mut DecoderBlock, x: &Tensor, pass: &mut Pass| {
        let memory = said(pass);
        let [mask, memory_mask] = masks.each_ref().map(|mask| in_pass(mask, pass));
        match &mut pass.walk {
            None => block.forward(x, &memory, mask.as_ref(), memory_mask.as_ref(), pass.context),
            Some(walk) => {
                let start = cache(&block.attention, x, walk.room());
                walk.carry(start, |cache| block.forward_cached(x, &memory, None, cache))
            }
        }
    };
    Ok(Module::new(block, forward).by_step(by_step))
}

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "attention",
        help: "each place gathers from all places, by several heads",
        shapes: "[time, width] → the same",
        owns: true,
        fields: &[
            HEADS,
            KEY_HEADS,
            CAUSAL,
            ROTARY,
            DROPOUT,
            BIAS,
            Field {
                name: "over",
                form: Form::Word(&["itself", "memory"]),
                default: "\"itself\"",
                help: "where it looks: at itself, or at what the encoder said",
            },
            MASK,
        ],
        make: attention,
    },
    Kind {
        name: "encoder",
        help: "a transformer's block: self-attention, then a network at each place, both residual; GPT's if causal",
        shapes: "[time, width] → the same",
        owns: true,
        fields: &[HEADS, HIDDEN, NORM, CAUSAL, ACTIVATION, DROPOUT, BIAS, EPSILON, KEY_HEADS, ROTARY, MASK],
        make: encoder,
    },
    Kind {
        name: "decoder",
        help: "a transformer's block: causal self-attention, attention over what the encoder said, a network",
        shapes: "[time, width] → the same",
        owns: true,
        fields: &[HEADS, HIDDEN, NORM, ACTIVATION, DROPOUT, BIAS, EPSILON, KEY_HEADS, ROTARY, MASK, MEMORY_MASK],
        make: decoder,
    },
    Kind {
        name: "feed_forward",
        help: "a network of two layers at each place",
        shapes: "[…, width] → the same",
        owns: true,
        fields: &[HIDDEN, ACTIVATION, DROPOUT, BIAS],
        make: |options, x, scope| {
            float("feed_forward", options, x)?;
            axes("feed_forward", options, x, (1, 7), "features")?;
            let width = x.shape[x.shape.len() - 1];
            let hidden = scope.size(options, "hidden", width)?;
            holds("feed_forward", options, &[width, hidden])?;
            holds("feed_forward", options, &[&x.shape[..x.shape.len() - 1], &[hidden]].concat())?;
            let layer = network(FeedForward::new(&scope.key(), width, hidden), options);
            let layer = FeedForward { activation: activation(options), dropout: options.number("dropout"), ..layer };
            let by_step = beside_time(x);
            Ok(Module::new(layer, |layer, x, pass| layer.forward(x, pass.context)).by_step(by_step))
        },
    },
    Kind {
        name: "learned_positions",
        help: "x + a trained vector for each place",
        shapes: "[time, width] → the same",
        owns: true,
        fields: &[Field {
            name: "count",
            form: Form::Count,
            default: "-",
            help: "places there are vectors for; as many as come in without",
        }],
        make: |options, x, scope| {
            let width = sequence("learned_positions", options, x)?;
            let count = options.maybe_count("count").unwrap_or(x.shape[1]);
            if count < x.shape[1] {
                let message = format!("there are vectors for {count} places, and {} comes in", shown(x));
                return Err(options.problem("count", message).hint(format!("at least {}", x.shape[1])));
            }
            holds("learned_positions", options, &[count, width])?;
            let layer = LearnedPositions::new(&scope.key(), count, width);
            let forward = |layer: &mut LearnedPositions, x: &Tensor, pass: &mut Pass| match &mut pass.walk {
                None => layer.forward(x),
                Some(walk) => x + layer.at(&walk.places(x.size(1))),
            };
            Ok(Module::new(layer, forward).by_step(true))
        },
    },
    Kind {
        name: "sinusoidal_positions",
        help: "x + sines and cosines of each place",
        shapes: "[time, width] → the same",
        owns: false,
        fields: &[],
        make: |options, x, _| {
            let width = sequence("sinusoidal_positions", options, x)?;
            if width % 2 == 1 {
                let message = format!("`sinusoidal_positions` takes an even width, and {} comes in", shown(x));
                return Err(Problem::new(&options.span, message));
            }
            let forward = |(): &mut (), x: &Tensor, pass: &mut Pass| {
                let waves = |count| sinusoidal_positions(count, x.size(2), DType::F32).cast(x.dtype());
                match &mut pass.walk {
                    None => x + waves(x.size(1)),
                    Some(walk) => x + waves(walk.room()).gather(&walk.places(x.size(1)), 0),
                }
            };
            Ok(Module::new((), forward).by_step(true))
        },
    },
];
