//! Reads a GPT-2 or BERT that Hugging Face's library wrote, says what it is, generates a little, and writes it again.
//!
//! `cargo run --example hugging_face -- FOLDER [NEW_FOLDER]`

use chainrule::prelude::*;
use chainrule_nn::models::{Bert, Gpt2, Sampling};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, out) = match &arguments[..] {
        [folder] => (folder, None),
        [folder, out] => (folder, Some(out)),
        _ => return Err("two arguments: a folder with config.json and model.safetensors, and where to write".into()),
    };
    let config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(std::path::Path::new(folder).join("config.json"))?)?;
    if config["model_type"] == "bert" {
        let model = Bert::load(folder)?;
        println!("BERT with {} parameters; options nobody knows: {:?}", parameter_count(&model), model.config.unknown);
        out.map(|out| model.save(out)).transpose()?;
        return Ok(());
    }
    let model = Gpt2::load(folder)?;
    println!("GPT-2 with {} parameters; options nobody knows: {:?}", parameter_count(&model), model.config.unknown);
    let sampling = Sampling { temperature: 0.8, top_k: Some(40), top_p: None };
    let count = 16.min(model.config.positions - 1);
    println!("after token 0: {:?}", model.generate(&[0], count, sampling, &Key::new(1))?);
    out.map(|out| model.save(out)).transpose()?;
    Ok(())
}
