//! How each case of the file is built here: a layer by its attributes, and its forward pass.

use super::{Case, check};
use chainrule::prelude::*;
use chainrule_nn::layer::{Cell, Recurrent};
use chainrule_nn::prelude::*;

/// Applies an option of a layer if the case has it.
fn with<L, T>(layer: L, option: Option<T>, apply: impl FnOnce(L, T) -> L) -> L {
    match option {
        Some(value) => apply(layer, value),
        None => layer,
    }
}

/// Applies an option that has no value if it is asked for.
fn when<L>(layer: L, asked: bool, apply: impl FnOnce(L) -> L) -> L {
    if asked { apply(layer) } else { layer }
}

pub(crate) fn check_layer(case: &Case) -> Result<(), String> {
    match case.json["layer"].as_str().expect("a layer") {
        "linear" => {
            let layer = Linear::new(&key(), case.size("inputs"), case.size("outputs"));
            let layer = when(layer, case.without("bias"), Linear::without_bias);
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
        }
        "bilinear" => {
            let sizes = case.sizes("sizes").expect("sizes");
            let layer = Bilinear::new(&key(), sizes[0], sizes[1], sizes[2]);
            let layer = when(layer, case.without("bias"), Bilinear::without_bias);
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0], &x[1])])
        }
        "embedding" => {
            let sizes = case.sizes("sizes").expect("sizes");
            let layer = Embedding::new(&key(), sizes[0], sizes[1]);
            let layer = with(layer, case.sizes("padding"), |layer, padding| layer.padding(padding[0]));
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
        }
        "conv" => convolution(case),
        "conv_transpose" => transposed_convolution(case),
        "pool" | "adaptive" | "global" => pooling(case),
        "batch_norm" => {
            let layer = with(BatchNorm::new(case.size("channels")), case.number("momentum"), BatchNorm::momentum);
            let layer = with(layer, case.number("epsilon"), BatchNorm::epsilon);
            let layer = when(layer, case.flag("cumulative"), BatchNorm::cumulative);
            let layer = when(layer, case.without("affine"), BatchNorm::without_affine);
            check(case, layer, |layer, x, context| vec![layer.forward(&x[0], context)])
        }
        "layer_norm" => {
            let layer = LayerNorm::new(case.sizes("shape").expect("shape"));
            let layer = with(layer, case.number("epsilon"), LayerNorm::epsilon);
            let layer = when(layer, case.without("bias"), LayerNorm::without_bias);
            let layer = when(layer, case.without("affine"), LayerNorm::without_affine);
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
        }
        "rms_norm" => {
            let layer = RmsNorm::new(case.sizes("shape").expect("shape"));
            let layer = with(layer, case.number("epsilon"), RmsNorm::epsilon);
            let layer = when(layer, case.without("affine"), RmsNorm::without_affine);
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
        }
        "group_norm" => {
            let layer = GroupNorm::new(case.size("groups"), case.size("channels"));
            let layer = with(layer, case.number("epsilon"), GroupNorm::epsilon);
            let layer = when(layer, case.without("affine"), GroupNorm::without_affine);
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
        }
        "instance_norm" => {
            let layer = with(InstanceNorm::new(case.size("channels")), case.number("epsilon"), InstanceNorm::epsilon);
            let layer = when(layer, case.flag("affine"), InstanceNorm::affine);
            check(case, layer, |layer, x, context| vec![layer.forward(&x[0], context)])
        }
        "rnn" => {
            let layer = when(Rnn::new(&key(), case.size("inputs"), case.size("hidden")), case.flag("relu"), Rnn::relu);
            recurrent(case, layer, |state| state[0].clone(), |h| vec![h])
        }
        "lstm" => {
            let layer = Lstm::new(&key(), case.size("inputs"), case.size("hidden"));
            recurrent(case, layer, |state| (state[0].clone(), state[1].clone()), |(h, c)| vec![h, c])
        }
        "gru" => {
            let layer = Gru::new(&key(), case.size("inputs"), case.size("hidden"));
            recurrent(case, layer, |state| state[0].clone(), |h| vec![h])
        }
        "attention" => attention(case),
        "encoder" => {
            let layer = EncoderBlock::new(&key(), case.size("size"), case.size("heads"), case.size("hidden"));
            let layer = when(layer, case.flag("pre_norm"), EncoderBlock::pre_norm);
            let layer = when(layer, case.flag("gelu"), |layer| layer.activation(Activation::Gelu));
            let layer = when(layer, case.flag("causal"), EncoderBlock::causal);
            let layer = with(layer, case.number("epsilon"), EncoderBlock::epsilon);
            check(case, layer, |layer, x, context| vec![layer.forward(&x[0], None, context)])
        }
        "decoder" => {
            let layer = DecoderBlock::new(&key(), case.size("size"), case.size("heads"), case.size("hidden"));
            let layer = when(layer, case.flag("pre_norm"), DecoderBlock::pre_norm);
            check(case, layer, |layer, x, context| vec![layer.forward(&x[0], &x[1], None, None, context)])
        }
        "learned_positions" => {
            let sizes = case.sizes("sizes").expect("sizes");
            let layer = LearnedPositions::new(&key(), sizes[0], sizes[1]);
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
        }
        "sinusoidal" => {
            check(case, (), |_, x, _| vec![&x[0] + sinusoidal_positions(x[0].size(1), x[0].size(2), x[0].dtype())])
        }
        "residual" => {
            let sizes = case.sizes("sizes").expect("sizes");
            let layer = ResidualBlock::new(&key(), sizes[0], sizes[1], sizes[2]);
            check(case, layer, |layer, x, context| vec![layer.forward(&x[0], context)])
        }
        "pre_activation" => {
            let sizes = case.sizes("sizes").expect("sizes");
            let layer = PreActivationBlock::new(&key(), sizes[0], sizes[1], sizes[2]);
            check(case, layer, |layer, x, context| vec![layer.forward(&x[0], context)])
        }
        "squeeze_excite" => {
            let sizes = case.sizes("sizes").expect("sizes");
            let layer = SqueezeExcite::new(&key(), sizes[0], sizes[1]);
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
        }
        "patches" => check(case, PatchEmbedding::new(&key(), 2, 3, [2, 2]), |layer, x, _| vec![layer.forward(&x[0])]),
        other => Err(format!("no layer {other} in the table")),
    }
}

fn key() -> Key {
    Key::new(1)
}

/// The options that both kinds of convolution have, by the case's attributes.
macro_rules! convolution_options {
    ($case:ident, $layer:expr) => {{
        let layer = with($layer, $case.sizes("stride"), |layer, v| layer.stride(v));
        let layer = with(layer, $case.sizes("padding"), |layer, v| layer.padding(v));
        let layer = with(layer, $case.sizes("dilation"), |layer, v| layer.dilation(v));
        let layer = with(layer, $case.sizes("groups"), |layer, v| layer.groups(v[0]));
        when(layer, $case.without("bias"), |layer| layer.without_bias())
    }};
}

fn convolution(case: &Case) -> Result<(), String> {
    let (channels, kernel) = (case.sizes("channels").expect("channels"), case.sizes("kernel").expect("kernel"));
    let layer = convolution_options!(case, Conv::new(&key(), channels[0], channels[1], kernel));
    let layer = when(layer, case.text("padding") == "same", Conv::same);
    check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
}

fn transposed_convolution(case: &Case) -> Result<(), String> {
    let (channels, kernel) = (case.sizes("channels").expect("channels"), case.sizes("kernel").expect("kernel"));
    let layer = convolution_options!(case, ConvTranspose::new(&key(), channels[0], channels[1], kernel));
    let layer = with(layer, case.sizes("output_padding"), |layer, v| layer.output_padding(v));
    check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
}

fn pooling(case: &Case) -> Result<(), String> {
    let max = case.text("kind") == "max";
    match case.json["layer"].as_str() {
        Some("pool") => {
            let window = case.sizes("window").expect("window");
            let layer = if max { Pool::max(window) } else { Pool::average(window) };
            let layer = with(layer, case.sizes("stride"), |layer, v| layer.stride(v));
            let layer = with(layer, case.sizes("padding"), |layer, v| layer.padding(v));
            let layer = with(layer, case.sizes("dilation"), |layer, v| layer.dilation(v));
            let layer = when(layer, case.flag("ceil"), Pool::ceil);
            let layer = when(layer, case.flag("without_padding"), Pool::without_padding);
            check(case, layer, |layer, x, _| vec![layer.forward(&x[0])])
        }
        Some("adaptive") => {
            let sizes = case.sizes("sizes").expect("sizes");
            check(case, (), |_, x, _| match max {
                true => vec![adaptive_max_pool(&x[0], sizes.clone())],
                false => vec![adaptive_average_pool(&x[0], sizes.clone())],
            })
        }
        _ => {
            let pool = if max { global_max_pool } else { global_average_pool };
            check(case, (), |_, x, _| vec![pool(&x[0])])
        }
    }
}

/// A recurrent layer whose inputs are the sequences, then the state if there is one, then the lengths if there are.
fn recurrent<C: Cell>(
    case: &Case,
    layer: Recurrent<C>,
    state: impl Fn(&[Tensor]) -> C::State,
    tensors: impl Fn(C::State) -> Vec<Tensor>,
) -> Result<(), String> {
    let layer = layer.stacked(&key(), case.size("layers"));
    let layer = when(layer, case.flag("bidirectional"), |layer| layer.bidirectional(&key()));
    let layer = when(layer, case.without("bias"), Recurrent::without_bias);
    check(case, layer, |layer, x, context| {
        let initial = case.flag("initial").then(|| state(&x[1..]));
        let lengths = case.flag("lengths").then(|| &x[x.len() - 1]);
        let (y, last) = layer.forward(&x[0], initial.as_ref(), lengths, context);
        [vec![y], tensors(last)].concat()
    })
}

/// Attention whose inputs are the queries, then the memory if there is another, then the mask if there is one.
fn attention(case: &Case) -> Result<(), String> {
    let (size, heads) = (case.size("size"), case.size("heads"));
    let layer = match case.sizes("memory") {
        Some(memory) => Attention::over(&key(), size, memory[0], heads),
        None => Attention::new(&key(), size, heads),
    };
    let layer = with(layer, case.sizes("key_heads"), |layer, n| layer.key_heads(n[0]));
    let layer = when(layer, case.flag("causal"), Attention::causal);
    let layer = when(layer, case.without("bias"), Attention::without_bias);
    let rotary = case.number("base").map(|base| Rotary::new().base(base));
    let rotary = rotary.map(|rotary| when(rotary, case.flag("interleaved"), Rotary::interleaved));
    let layer = with(layer, rotary, Attention::rotary);
    check(case, layer, |layer, x, context| {
        let memory = if case.sizes("memory").is_some() { &x[1] } else { &x[0] };
        let mask = case.flag("mask").then(|| &x[x.len() - 1]);
        vec![layer.forward(&x[0], memory, mask, context)]
    })
}
