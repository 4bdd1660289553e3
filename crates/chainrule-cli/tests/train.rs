//! `chainrule train` and `chainrule predict` as their users meet them: results, interruption, damage.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainrule"));
    command.current_dir(folder).args(arguments).env("NO_COLOR", "1");
    command
}

fn chainrule(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// It fails with this code and one message of one line that says this.
fn fails(folder: &Path, arguments: &[&str], code: i32, says: &[&str]) {
    let output = chainrule(folder, arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
    assert!(says.iter().all(|part| message.contains(part)), "{arguments:?} should say {says:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    assert_eq!(message.matches("error: ").count(), 1, "{message}");
}

const SHORT: [&str; 4] = ["train", "--epochs", "6", "--json"];

#[test]
fn a_short_training_learns_and_is_the_same_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let report = json(&chainrule(at, &[&SHORT[..], &["--lr", "0.005", "--threads", "1"]].concat()));
    assert!(report["test_accuracy"].as_f64().unwrap() > 0.9, "{report}");
    assert!(report["last_step"]["loss"].as_f64() < report["first_step"]["loss"].as_f64());
    let gains = report["first_step"]["backward"].as_array().unwrap().iter().map(|link| link["gain"].as_f64().unwrap());
    let reached = report["first_step"]["backward"][2]["norm"].as_f64().unwrap();
    assert!((gains.product::<f64>() / reached - 1.0).abs() < 1e-9);

    json(&chainrule(at, &[&SHORT[..], &["--lr", "0.005", "--threads", "2"]].concat()));
    json(&chainrule(at, &[&SHORT[..], &["--lr", "0.005", "--seed", "1"]].concat()));
    let file = |run: &str, name: &str| fs::read(at.join("runs").join(run).join(name)).unwrap();
    for name in ["metrics.jsonl", "model.safetensors"] {
        assert_eq!(file("digits-1", name), file("digits-2", name), "{name}");
        assert_ne!(file("digits-1", name), file("digits-3", name), "{name}");
    }
    let mut names: Vec<_> = fs::read_dir(at.join("runs/digits-1"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = ["config.json", "curves.png", "metrics.jsonl", "model.safetensors", "report.json", "run.json"];
    assert_eq!(names, expected);

    // The saved model is the trained one.
    let tested = json(&chainrule(at, &["predict", "runs/digits-1", "--json"]));
    assert_eq!(tested["accuracy"], report["test_accuracy"]);
    assert_eq!(json(&chainrule(at, &["predict", "--json"]))["run"], "runs/digits-3");
    let page = text(&chainrule(at, &["predict", "--index", "5"]).stdout);
    assert!(page.contains("and that is right") || page.contains("and is a"), "{page}");
    fails(at, &["predict", "--index", "359"], 2, &["--index 359", "0 to 358"]);
}

#[test]
fn the_page_shows_the_four_steps() {
    let folder = tempfile::tempdir().unwrap();
    let output = chainrule(folder.path(), &["train", "--epochs", "1", "--hidden", "32,16"]);
    let (page, progress) = (text(&output.stdout), text(&output.stderr));
    for part in ["1 forward", "2 loss", "3 backward", "4 update", "relu′(z₂)", "the chain:", "accuracy", "curves.png"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(progress.contains("epoch 1 of 1"), "{progress}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_after_the_step_and_saves_and_a_kill_loses_only_the_last_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let begin = |arguments: &[&str]| {
        let mut child = command(at, arguments);
        child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let wait_for = |path: &Path| {
        for _ in 0..600 {
            if fs::metadata(path).is_ok_and(|file| file.len() > 0) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("{} did not appear", path.display());
    };
    let signal = |name: &str, id: u32| {
        assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
    };

    let child = begin(&["train", "--epochs", "100000"]);
    wait_for(&at.join("runs/digits-1/metrics.jsonl"));
    signal("-INT", child.id());
    let output = child.wait_with_output().unwrap();
    let page = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(page.contains("stopped by Ctrl-C") && page.contains("saved as it was"), "{page}");
    let tested = json(&chainrule(at, &["predict", "--json"]));
    assert_eq!(tested["examples"], 359);

    let mut child = begin(&["train", "--epochs", "100000"]);
    wait_for(&at.join("runs/digits-2/model.safetensors"));
    signal("-KILL", child.id());
    assert!(!child.wait().unwrap().success());
    assert!(json(&chainrule(at, &["predict", "--json"]))["accuracy"].as_f64().unwrap() > 0.5);
}

#[test]
fn bad_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fails(at, &["train", "--epochs", "0"], 2, &["--epochs", "from 1 to"]);
    fails(at, &["train", "--lr", "-1"], 2, &["--lr", "above 0"]);
    fails(at, &["train", "--lr", "fast"], 2, &["--lr", "a number such as"]);
    fails(at, &["train", "--batch", "x"], 2, &["--batch", "whole number"]);
    fails(at, &["train", "--hidden", "12,,4"], 2, &["--hidden", "such as 128"]);
    fails(at, &["train", "--hidden", "65536,65536"], 2, &["--hidden", "parameters"]);
    fails(at, &["train", "--seed", "-4"], 2, &["--seed", "not negative"]);
    fails(at, &["train", "--threads", "0"], 2, &["--threads", "from 1 to"]);
    fs::write(at.join("a.toml"), "epochs = 3\nepoch = 4\n").unwrap();
    fails(at, &["train", "--config", "a.toml"], 2, &["a.toml, line 2", "\"epoch\"", "did you mean \"epochs\"?"]);
    fails(at, &["train", "--config", "none.toml"], 2, &["none.toml"]);
    // A learning rate with which nothing is learned but NaN: the work fails, and says where.
    fails(at, &["train", "--lr", "1e30", "--epochs", "3", "--quiet"], 1, &["step", "lower learning rate"]);
    fs::write(at.join("file"), "").unwrap();
    fails(at, &["train", "--runs", "file"], 1, &["file"]);
    fails(at, &["train", "--runs", "file/runs"], 1, &["file/runs"]);
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fails(at, &["predict"], 2, &["no run in runs"]);
    json(&chainrule(at, &["train", "--epochs", "1", "--hidden", "8", "--json"]));
    let run = at.join("runs/digits-1");
    let (model, config) = (run.join("model.safetensors"), run.join("config.json"));
    let (good, settings) = (fs::read(&model).unwrap(), fs::read_to_string(&config).unwrap());
    for cut in [0, 5, 100, good.len() - 1] {
        fs::write(&model, &good[..cut]).unwrap();
        fails(at, &["predict"], 2, &["model.safetensors", "not a usable safetensors file"]);
    }
    let mut nan = good.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&model, nan).unwrap();
    fails(at, &["predict"], 2, &["not finite"]);
    fs::write(&model, &good).unwrap();
    fs::write(&config, settings.replace("    8,", "    9,")).unwrap();
    fails(at, &["predict"], 2, &["in the file and", "in the model"]);
    fs::write(&config, settings.replace("    8,", "    99999999999,")).unwrap();
    fails(at, &["predict"], 2, &["config.json", "sizes"]);
    fs::write(&config, &settings[..20]).unwrap();
    fails(at, &["predict"], 2, &["config.json", "line"]);
    fs::write(&config, &settings).unwrap();
    fs::remove_file(&model).unwrap();
    fails(at, &["predict"], 2, &["has no model.safetensors"]);
    fs::write(&model, &good).unwrap();
    fs::write(at.join("a.png"), "no picture").unwrap();
    fails(at, &["predict", "--image", "a.png"], 2, &["a.png", "not a PNG file"]);
    fails(at, &["predict", "--image", "b.png"], 2, &["b.png"]);
}
