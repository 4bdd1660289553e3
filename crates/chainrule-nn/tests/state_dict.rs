//! A state dict of PyTorch with every kind of layer: read, run, and written back as it was. Made by
//! `goldens/make_state_dict.py`.

use chainrule::prelude::*;
use chainrule::tree::{load_tensors, map};
use chainrule_nn::interchange::{Rule, Rules, load_pytorch, save_pytorch, to_pytorch};
use chainrule_nn::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Tree, Clone)]
struct Net {
    linear: Linear,
    plain: Linear,
    bilinear: Bilinear,
    embedding: Embedding,
    conv1: Conv,
    conv2: Conv,
    conv3: Conv,
    transposed: ConvTranspose,
    batch: BatchNorm,
    layer: LayerNorm,
    rms: RmsNorm,
    group: GroupNorm,
    instance: InstanceNorm,
    rnn: Rnn,
    lstm: Lstm,
    gru: Gru,
    attention: Attention,
    cross: Attention,
    encoder: EncoderBlock,
    first: EncoderBlock,
    decoder: DecoderBlock,
    mlp: Mlp,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn net() -> Net {
    let key = &Key::new(1);
    let encoder = || EncoderBlock::new(key, 4, 2, 8);
    let net = Net {
        linear: Linear::new(key, 4, 3),
        plain: Linear::new(key, 4, 3).without_bias(),
        bilinear: Bilinear::new(key, 4, 4, 3),
        embedding: Embedding::new(key, 7, 4).padding(0),
        conv1: Conv::new(key, 4, 6, 3).padding(1),
        conv2: Conv::new(key, 4, 6, [3, 2]).stride(2).groups(2),
        conv3: Conv::new(key, 2, 3, [2, 2, 2]),
        transposed: ConvTranspose::new(key, 4, 6, [3, 3]).stride(2).groups(2),
        batch: BatchNorm::new(4),
        layer: LayerNorm::new([5, 4]),
        rms: RmsNorm::new(4).epsilon(1e-5),
        group: GroupNorm::new(2, 4),
        instance: InstanceNorm::new(4).affine(),
        rnn: Rnn::new(key, 4, 3).stacked(key, 2),
        lstm: Lstm::new(key, 4, 3).stacked(key, 2).bidirectional(key),
        gru: Gru::new(key, 4, 3).without_bias(),
        attention: Attention::new(key, 4, 2),
        cross: Attention::over(key, 4, 6, 2),
        encoder: encoder(),
        first: encoder().pre_norm().activation(Activation::Gelu),
        decoder: DecoderBlock::new(key, 4, 2, 8),
        mlp: Mlp::new(key, &[4, 8, 3]),
    };
    map(&net, |leaf| if leaf.dtype().is_float() { leaf.cast(DType::F64) } else { leaf.clone() })
}

/// An activation without weights stands between the linear layers of the `nn.Sequential`.
fn rules() -> Rules {
    Rules::pytorch().rename("mlp.layers.0.*", "sequential.0.*").rename("mlp.layers.1.*", "sequential.2.*")
}

fn outputs(net: &Net, given: &BTreeMap<String, Tensor>) -> BTreeMap<&'static str, Tensor> {
    let context = &mut Context::evaluation();
    let [x, memory, image, volume, tokens] = ["x", "memory", "image", "volume", "tokens"].map(|name| &given[name]);
    let (channels, back) = (x.swap_axes(1, 2), x.flip(1));
    let mut batch = net.batch.clone();
    [
        ("linear", net.linear.forward(x)),
        ("plain", net.plain.forward(x)),
        ("bilinear", net.bilinear.forward(x, &back)),
        ("embedding", net.embedding.forward(tokens)),
        ("conv1", net.conv1.forward(&channels)),
        ("conv2", net.conv2.forward(image)),
        ("conv3", net.conv3.forward(volume)),
        ("transposed", net.transposed.forward(image)),
        ("batch", batch.forward(&channels, context)),
        ("layer", net.layer.forward(x)),
        ("rms", net.rms.forward(x)),
        ("group", net.group.forward(&channels)),
        ("instance", net.instance.clone().forward(&channels, context)),
        ("rnn", net.rnn.forward(x, None, None, context).0),
        ("lstm", net.lstm.forward(x, None, None, context).0),
        ("gru", net.gru.forward(x, None, None, context).0),
        ("attention", net.attention.forward(x, x, None, context)),
        ("cross", net.cross.forward(x, memory, None, context)),
        ("encoder", net.encoder.forward(x, None, context)),
        ("first", net.first.forward(x, None, context)),
        ("decoder", net.decoder.forward(x, &back, None, None, context)),
        ("sequential", net.mlp.forward(x)),
    ]
    .into()
}

#[test]
fn every_layer_takes_pytorchs_weights_and_gives_them_back() {
    let net = load_pytorch(&net(), file("state_dict.safetensors"), &rules()).expect("state dict");
    let given = load_tensors(file("state_dict_values.safetensors")).expect("values");
    let outputs = outputs(&net, &given);
    assert_eq!(outputs.len(), given.keys().filter(|name| name.starts_with("out.")).count());
    let wrong: Vec<String> = outputs
        .iter()
        .filter_map(|(name, got)| {
            let want = &given[&format!("out.{name}")];
            let far = (got - want).abs().max(..).to_f64();
            (far.is_nan() || far > 1e-9).then(|| format!("{name} is {far} off"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("; "));

    let place = tempfile::tempdir().expect("folder");
    let back = place.path().join("back.safetensors");
    save_pytorch(&net, &back, &rules()).expect("saved");
    let (before, after) = (load_tensors(file("state_dict.safetensors")).unwrap(), load_tensors(back).unwrap());
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, tensor) in &before {
        let bytes = |t: &Tensor| (t.ty().clone(), t.storage().expect("leaf").bytes().to_vec());
        assert!(bytes(tensor) == bytes(&after[name]), "{name} came back otherwise");
    }
}

#[test]
fn attention_is_named_only_where_it_is_attention() {
    #[derive(Tree, Clone)]
    struct Odd {
        output: Linear,
        attention: Linear,
        query: Linear,
    }
    let layer = || Linear::new(&Key::new(1), 2, 2).without_bias();
    let odd = Odd { output: layer(), attention: layer(), query: layer() };
    let names = to_pytorch(&odd, &Rules::pytorch()).expect("names");
    // `output` beside `query` alone is renamed only if keys are there too.
    assert_eq!(names.keys().collect::<Vec<_>>(), ["attention.weight", "output.weight", "query.weight"]);

    let clash = Rules::new([Rule::same("output.*", "one.*"), Rule::same("query.*", "one.*")]);
    let error = to_pytorch(&odd, &clash).unwrap_err().to_string();
    assert_eq!(error, "one.weight stands for two things: output.weight and query.weight");
}
