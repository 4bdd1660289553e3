//! `check`, `doctor`, `explain` and `sharpness` on recipes and files.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_chainrule")).args(arguments).output().expect("the command starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn a_recipe_is_checked_examined_and_measured() {
    let (code, out, err) = run(&["check", "digits-mlp", "--batch", "4", "--json"]);
    assert_eq!(code, 0, "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["status"], "right");
    assert_eq!(report["leaves"][0]["path"], "hidden.weight");
    let (code, out, err) = run(&["doctor", "digits-mlp", "--curvature"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("nothing is wrong") && out.contains("largest eigenvalue"), "{out}");
    let (code, out, err) = run(&["sharpness", "digits-mlp", "--batch", "8"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("gradient descent is stable below"), "{out}");
    let (code, out, err) = run(&["explain", "digits-mlp", "--batch", "4", "--parameter", "hidden.weight"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("∂L/∂hidden.weight") && !out.contains("∂L/∂out.weight"), "{out}");
    let (code, _, err) = run(&["explain", "digits-mlp", "--parameter", "hiden.weight"]);
    assert!(code == 2 && err.contains("there are: hidden.weight"), "{code} {err}");
}

#[test]
fn a_file_without_data_is_looked_at_over_random_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("deep.toml");
    let layer = "{ linear = 16 }, \"sigmoid\", ".repeat(20);
    let text = format!("[example]\ninput = [8]\nclasses = 3\n[model]\nlayers = [{layer} {{ linear = 3 }}]\n");
    std::fs::write(&file, text).expect("written");
    let (code, out, err) = run(&["doctor", file.to_str().expect("a path")]);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("over random numbers") && out.contains("vanishing gradient"), "{out}");
    std::fs::write(&file, "[model]\nlayers = [{ linear = 3 }]\n").expect("written");
    let (code, _, err) = run(&["check", file.to_str().expect("a path")]);
    assert!(code == 2 && err.contains("add [data] or [example]"), "{code} {err}");
    let (code, _, err) = run(&["sharpness", "digits-mlp", "--weights", "nothing.safetensors"]);
    assert!(code == 2 && err.contains("nothing.safetensors"), "{code} {err}");
}
