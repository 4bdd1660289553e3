//! GPT-2 and BERT from Hugging Face's files against PyTorch: outputs, losses, gradients, generation; files back and
//! forth. The models and numbers are made by `goldens/make_hugging_face.py`.

use chainrule::prelude::*;
use chainrule::tree::{load_tensors, map};
use chainrule_nn::interchange::{Rules, from_pytorch, load_checkpoint, to_pytorch};
use chainrule_nn::models::{Bert, BertConfig, Gpt2, Gpt2Config, ModelError, Sampling};
use chainrule_nn::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/hugging_face").join(name)
}

fn goldens() -> Value {
    serde_json::from_str(include_str!("goldens/hugging_face/goldens.json")).expect("json")
}

fn floats(json: &Value) -> Vec<f64> {
    json.as_array().expect("list").iter().map(|v| v.as_f64().expect("number")).collect()
}

/// Integers in one list or two.
fn integers(json: &Value) -> Tensor {
    let rows = json.as_array().expect("list");
    let number = |v: &Value| v.as_i64().expect("number");
    match rows[0].as_array() {
        None => Tensor::from_vec(rows.iter().map(number).collect::<Vec<i64>>(), [rows.len()]),
        Some(first) => {
            let flat = rows.iter().flat_map(|row| row.as_array().expect("row")).map(number);
            Tensor::from_vec(flat.collect::<Vec<i64>>(), [rows.len(), first.len()])
        }
    }
}

fn farthest(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, |a, b| if b > a { b } else { a })
}

/// Outputs, loss and the fingerprint of every gradient, in f32 and in f64.
fn check<M: Tree + Clone>(name: &str, model: &M, rules: &Rules, run: impl Fn(&M, &Value) -> (Tensor, Tensor)) {
    let golden = &goldens()[name];
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::F64, 1e-9)] {
        let model = map(model, |leaf| leaf.cast(dtype).eval());
        let mut step = compile(|model: &M| {
            let loss = |m: &M| {
                let (logits, loss) = run(m, golden);
                (loss, logits)
            };
            value_and_grad_aux(loss, model)
        });
        let (loss, logits, gradient) = step.run(model).expect("run");
        let got = logits.cast(DType::F64).to_vec::<f64>();
        assert!(farthest(&got, &floats(&golden["logits"])) < tolerance, "{name} {dtype:?}: logits");
        let difference = (loss.to_f64() - golden["loss"].as_f64().expect("loss")).abs();
        assert!(difference < tolerance, "{name} {dtype:?}: the loss is {difference} off");
        let gradient = to_pytorch(&gradient, rules).expect("names");
        let wanted = golden["gradients"].as_object().expect("gradients");
        assert_eq!(gradient.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        let wrong: Vec<String> = gradient
            .iter()
            .map(|(key, g)| (key, farthest(&fingerprint(g), &floats(&wanted[key]))))
            .filter(|(_, far)| far.is_nan() || *far >= tolerance)
            .map(|(key, far)| format!("{key} is {far} off"))
            .collect();
        assert!(wrong.is_empty(), "{name} {dtype:?}: {}", wrong.join("; "));
    }
}

fn fingerprint(gradient: &Tensor) -> Vec<f64> {
    let flat = gradient.cast(DType::F64).to_vec::<f64>();
    let product = flat.iter().enumerate().map(|(i, g)| g * (1.0 + i as f64).cos()).sum();
    vec![product, flat.iter().map(|g| g * g).sum()]
}

/// The mean over labels that are not −100.
fn labelled(logits: &Tensor, labels: &Tensor) -> Tensor {
    let counts = labels.not_equal(-100i64);
    let picked = logits.log_softmax(-1).pick(&counts.select(labels, 0i64));
    let counts = counts.cast(logits.dtype());
    -(picked * &counts).sum(..) / counts.sum(..)
}

#[test]
fn gpt2_is_pytorchs() {
    let model = Gpt2::load(folder("gpt2")).expect("model");
    assert!(model.config.unknown.is_empty(), "{:?}", model.config.unknown);
    check("gpt2", &model, &Gpt2::rules(), |model, golden| {
        let tokens = integers(&golden["inputs"]["input_ids"]);
        let mask = integers(&golden["inputs"]["attention_mask"]).cast(DType::Bool);
        let mut context = Context::evaluation();
        (model.forward(&tokens, Some(&mask), &mut context), model.loss(&tokens, Some(&mask), &mut context))
    });
}

fn bert_inputs(golden: &Value) -> (Tensor, Tensor, Tensor, Tensor) {
    let input = |name: &str| integers(&golden["inputs"][name]);
    let mask = input("attention_mask").cast(DType::Bool);
    (input("input_ids"), input("token_type_ids"), mask, integers(&golden["labels"]))
}

#[test]
fn bert_with_its_head_for_words_is_pytorchs() {
    let model = Bert::load(folder("bert-words")).expect("model");
    check("bert-words", &model, &Bert::rules(true), |model, golden| {
        let (tokens, types, mask, labels) = bert_inputs(golden);
        let hidden = model.forward(&tokens, Some(&types), Some(&mask), &mut Context::evaluation());
        let logits = model.words(&hidden);
        (logits.clone(), labelled(&logits, &labels))
    });
}

#[test]
fn bert_with_classes_is_pytorchs() {
    let model = Bert::load(folder("bert-classes")).expect("model");
    check("bert-classes", &model, &Bert::rules(true), |model, golden| {
        let (tokens, types, mask, labels) = bert_inputs(golden);
        let logits = model.classes(&tokens, Some(&types), Some(&mask), &mut Context::evaluation());
        (logits.clone(), logits.cross_entropy(&labels))
    });
}

#[test]
fn generation_with_memory_is_pytorchs_and_that_without() {
    let golden = &goldens()["gpt2"];
    let model = Gpt2::load(folder("gpt2")).expect("model");
    let first = integers(&golden["inputs"]["input_ids"]).narrow(0, 0, 1).narrow(1, 0, 5).to_vec::<i64>();
    let greedy = model.generate(&first, 15, Sampling::greedy(), &Key::new(1)).expect("tokens");
    assert_eq!(greedy, integers(&golden["greedy"]).to_vec::<i64>());
    let mut all = first.clone();
    for _ in 0..15 {
        let tokens = Tensor::from_vec(all.clone(), [1, all.len()]);
        let logits = model.forward(&tokens, None, &mut Context::evaluation());
        all.push(logits.narrow(1, all.len() - 1, 1).argmax(-1).to_vec::<i64>()[0]);
    }
    assert_eq!(all[5..], greedy);

    let drawn = |seed| {
        let sampling = Sampling { temperature: 0.9, top_k: Some(20), top_p: Some(0.9) };
        model.generate(&first, 15, sampling, &Key::new(seed)).expect("tokens")
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let error = |prompt: &[i64], count| model.generate(prompt, count, Sampling::greedy(), &Key::new(1)).unwrap_err();
    assert_eq!(error(&[], 1).to_string(), "a prompt has at least one token");
    assert_eq!(error(&[61], 1).to_string(), "token 61 is outside the vocabulary of 61");
    assert_eq!(error(&[1, 2], 23).to_string(), "2 tokens and 23 more are beyond the model's 24 positions");
}

#[test]
fn sampling_keeps_the_tokens_that_pytorch_keeps() {
    let golden = &goldens()["sampling"];
    let scores = Tensor::from_vec(floats(&golden["scores"]), [3, 40]);
    let sampling = Sampling { temperature: 0.7, top_k: Some(12), top_p: Some(0.8) };
    let got = sampling.filter(&scores).to_vec::<f64>();
    let want = golden["warped"].as_array().expect("list").iter().map(|v| v.as_str().expect("text").parse::<f64>());
    for (i, (got, want)) in got.into_iter().zip(want.map(|v| v.expect("number"))).enumerate() {
        assert!(got == want || (got - want).abs() < 1e-12, "score {i} is {got}, not {want}");
    }
    // Draws are as likely as they should be.
    let logits = Tensor::from([0.1f64.ln(), 0.6f64.ln(), 0.3f64.ln()]).broadcast_to([4000, 3]);
    let drawn = Sampling::plain().draw(&logits, &Key::new(3)).to_vec::<i64>();
    for (token, chance) in [0.1, 0.6, 0.3].into_iter().enumerate() {
        let share = drawn.iter().filter(|&&t| t == token as i64).count() as f64 / 4000.0;
        assert!((share - chance).abs() < 0.03, "token {token} has {share}, not {chance}");
    }
}

#[test]
fn files_come_back_with_the_same_bytes() {
    let place = tempfile::tempdir().expect("folder");
    for name in ["gpt2", "bert-words", "bert-classes"] {
        let out = place.path().join(name);
        match name {
            "gpt2" => Gpt2::load(folder(name)).expect("model").save(&out).expect("saved"),
            _ => Bert::load(folder(name)).expect("model").save(&out).expect("saved"),
        }
        let before = load_tensors(folder(name).join("model.safetensors")).expect("tensors");
        let after = load_tensors(out.join("model.safetensors")).expect("tensors");
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (key, tensor) in &before {
            let bytes = |t: &Tensor| t.storage().expect("leaf").bytes().to_vec();
            assert_eq!((tensor.ty(), bytes(tensor)), (after[key].ty(), bytes(&after[key])), "{name}: {key}");
        }
    }
    let (gpt2, bert) = (folder("gpt2").join("config.json"), folder("bert-words").join("config.json"));
    let config = |name: &str| place.path().join(name).join("config.json");
    assert_eq!(Gpt2Config::read(gpt2).expect("config"), Gpt2Config::read(config("gpt2")).expect("config"));
    assert_eq!(BertConfig::read(bert).expect("config"), BertConfig::read(config("bert-words")).expect("config"));
}

#[test]
fn half_precision_pieces_and_older_names_are_read() {
    let place = tempfile::tempdir().expect("folder");
    let whole = load_checkpoint(folder("gpt2")).expect("tensors");
    let (mut first, mut second, mut map) = (whole.clone(), whole.clone(), serde_json::Map::new());
    first.retain(|key, _| key.contains(".0."));
    second.retain(|key, _| !key.contains(".0."));
    for (file, part) in [("model-00001-of-00002.safetensors", &first), ("model-00002-of-00002.safetensors", &second)] {
        let half = part.iter().map(|(key, t)| (key.replace("transformer.", ""), t.cast(DType::BF16).eval())).collect();
        chainrule::tree::save_tensors(&half, place.path().join(file)).expect("saved");
        map.extend(half.keys().map(|key| (key.clone(), Value::from(file))));
    }
    let write = |name: &str, text: String| std::fs::write(place.path().join(name), text).expect("written");
    let index =
        |map: &serde_json::Map<String, Value>| serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    write("model.safetensors.index.json", index(&map));
    write("config.json", std::fs::read_to_string(folder("gpt2").join("config.json")).expect("config"));
    let model = Gpt2::load(place.path()).expect("model");
    let want = whole["transformer.h.1.mlp.c_fc.weight"].t().cast(DType::BF16).cast(DType::F32);
    assert_eq!(model.blocks[1].feed_forward.up.weight.to_vec::<f32>(), want.to_vec::<f32>());

    let error = || Gpt2::load(place.path()).unwrap_err().to_string();
    map.insert("wte.weight".into(), "../../secret.safetensors".into());
    write("model.safetensors.index.json", index(&map));
    assert!(
        error().ends_with("\"../../secret.safetensors\" is not the name of a file beside the index"),
        "{}",
        error()
    );
    map.insert("wte.weight".into(), "model-00001-of-00002.safetensors".into());
    write("model.safetensors.index.json", index(&map));
    assert!(error().contains("wte.weight is listed in model-00001-of-00002.safetensors, and is in"), "{}", error());
}

#[test]
fn what_does_not_fit_is_named() {
    let place = tempfile::tempdir().expect("folder");
    let file = place.path().join("config.json");
    let rows = [
        (r#"{"model_type": "llama"}"#, r#"model_type is "llama"; only "gpt2" is supported"#),
        (r#"{"n_head": 5}"#, "n_head is 5; it must divide the width 768"),
        (r#"{"n_embd": "wide"}"#, r#"n_embd is "wide"; invalid type: string "wide", expected usize"#),
        (r#"{"n_layer": 0}"#, "n_layer is 0; it is from 1 to 16777216"),
        (r#"{"attn_pdrop": 1.5}"#, "attn_pdrop is 1.5; a probability is from 0 to 1"),
        (r#"{"add_cross_attention": true}"#, "add_cross_attention is true; only false is supported"),
        (r#"{"activation_function": "cube"}"#, r#"activation_function is "cube"; known are gelu, gelu_new"#),
        ("[1]", "not a configuration: invalid type"),
    ];
    for (text, want) in rows {
        std::fs::write(&file, text).expect("written");
        let error = Gpt2Config::read(&file).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
    std::fs::write(&file, r#"{"n_embd": 72, "rotary": true}"#).expect("written");
    assert_eq!(Gpt2Config::read(&file).expect("config").unknown, ["rotary"]);

    let model = Gpt2::load(folder("gpt2")).expect("model");
    let rules = Gpt2::rules();
    let with = |change: &dyn Fn(&mut std::collections::BTreeMap<String, Tensor>)| {
        let mut tensors = to_pytorch(&model, &rules).expect("tensors");
        change(&mut tensors);
        from_pytorch(&model, tensors, &rules).unwrap_err().to_string()
    };
    let key = "transformer.h.0.attn.c_attn.weight";
    let ours = "blocks.0.attention.query.weight + blocks.0.attention.key.weight + blocks.0.attention.value.weight";
    assert_eq!(with(&|t| drop(t.remove(key))), format!("{ours} needs {key}, which is not in the file"));
    let turned = with(&|t| drop(t.insert(key.into(), t[key].t())));
    assert_eq!(turned, format!("{ours} needs {key} as [32, 96], and the file has it as [96, 32]"));
    let counts = with(&|t| drop(t.insert(key.into(), t[key].cast(DType::I64))));
    assert_eq!(counts, format!("{ours} is F32, and {key} in the file is I64"));
    let more = with(&|t| drop(t.insert("extra".into(), Tensor::from(1.0))));
    assert_eq!(more, "extra of the file has no place in the model");
    let missing = Bert::load(place.path().join("nowhere")).unwrap_err();
    assert!(matches!(missing, ModelError::Config(_)));
}
