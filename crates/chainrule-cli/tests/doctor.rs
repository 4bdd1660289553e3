//! `chainrule doctor` on experiments of the literature, on recipes, and on files that it cures.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_chainrule")).args(arguments).output().expect("the command starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

fn json(arguments: &[&str]) -> Value {
    let (code, out, err) = run(&[&["doctor", "--json"], arguments].concat());
    assert_eq!(code, 0, "{arguments:?}: {err}");
    serde_json::from_str(&out).expect("JSON")
}

fn experiment(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/experiments").join(format!("{name}.toml"))
}

/// The first diagnosis, if there is one.
fn first(report: &Value) -> Option<&str> {
    report["verdict"][0]["diagnosis"].as_str()
}

/// The files of docs/experiments, the first diagnosis of each, and which layer it names.
#[test]
fn experiments_of_the_literature_are_diagnosed() {
    let rows = [
        ("sigmoid-30", Some("vanishing")),
        ("relu-30", Some("exploding")),
        ("plain-56", Some("exploding")),
        ("resnet-56", None),
        ("rnn", Some("exploding")),
        ("rnn-clipped", None),
        ("deep", Some("vanishing")),
    ];
    let faults: Vec<String> = rows
        .into_iter()
        .filter_map(|(name, expected)| {
            let file = experiment(name);
            let report = json(&[file.to_str().expect("a path"), "--batches", "2", "--steps", "0"]);
            (first(&report) != expected).then(|| format!("{name}: {:?} for {expected:?}", report["verdict"]))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn recipes_over_data_inside_get_a_clean_bill() {
    let mut faults = Vec::new();
    for recipe in ["adding-lstm", "digits-cnn", "digits-mlp", "translate-toy"] {
        let report = json(&[recipe, "--batches", "2"]);
        if report["verdict"].as_array().is_none_or(|list| !list.is_empty()) {
            faults.push(format!("{recipe}: {}", report["verdict"]));
        }
        assert!(report["flow"]["noise"]["noise"].as_f64() > Some(0.0) && report["trials"].is_null(), "{recipe}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Diagnosed, changed, and trained again: what docs/cure.md tells.
#[test]
fn a_network_that_does_not_train_is_cured() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, cured) = (experiment("deep"), folder.path().join("cured.toml"));
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    let (code, out, err) = run(&["doctor", &path(&file), "--write", &path(&cured)]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("vanishing gradient in") && out.contains("cured: nothing is wrong"), "{out}");
    assert!(err.contains("cured.toml is the file with"), "{err}");
    let report = json(&[&path(&cured), "--steps", "0"]);
    assert_eq!(first(&report), None, "{}", report["verdict"]);
    let accuracy = |file: &str| {
        let runs = path(&folder.path().join("runs"));
        let (code, out, err) = run(&["train", file, "--json", "--runs", &runs]);
        assert_eq!(code, 0, "{err}");
        let report: Value = serde_json::from_str(&out).expect("JSON");
        report["test"]["numbers"]["accuracy"].as_f64().unwrap_or_else(|| panic!("{report}"))
    };
    assert!(accuracy(&path(&file)) < 0.2);
    assert!(accuracy(&path(&cured)) > 0.85);
    // Nothing is written where nothing is wrong.
    let (code, _, err) = run(&["doctor", &path(&cured), "--write", &path(&folder.path().join("again.toml"))]);
    assert!(code == 1 && err.contains("nothing is wrong, so"), "{code} {err}");
}

#[test]
fn a_pair_of_networks_is_looked_at_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pair.toml");
    let text = "[example]\ninput = [6]\nno_target = true\n[model]\nkind = \"gan\"\nnoise = 4\n\
                [model.generator]\nlayers = [{ linear = 16 }, \"relu\", { linear = 6 }]\n\
                [model.discriminator]\nlayers = [{ linear = 16 }, { linear = 16 }, { leaky_relu = 0.2 }, { linear = 1 }]\n";
    std::fs::write(&file, text).expect("written");
    let report = json(&[file.to_str().expect("a path")]);
    assert_eq!(first(&report["generator"]), None, "{report}");
    assert_eq!(first(&report["discriminator"]), Some("missing_activation"), "{report}");
    assert_eq!(report["discriminator"]["best"], "\"relu\" between linear layers");
}
