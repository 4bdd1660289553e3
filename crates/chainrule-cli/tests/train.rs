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
    for name in ["metrics.jsonl", "model.safetensors", "checkpoint.safetensors"] {
        assert_eq!(file("digits-1", name), file("digits-2", name), "{name}");
        assert_ne!(file("digits-1", name), file("digits-3", name), "{name}");
    }
    let mut names: Vec<_> = fs::read_dir(at.join("runs/digits-1"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "best.safetensors",
        "checkpoint.safetensors",
        "config.json",
        "curves.png",
        "curves.svg",
        "events.out.tfevents.0.chainrule",
        "metrics.jsonl",
        "model.safetensors",
        "report.json",
        "run.json",
        "train.lock",
    ];
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

/// A training in the background.
#[cfg(unix)]
fn begin(folder: &Path, arguments: &[&str]) -> std::process::Child {
    let mut child = command(folder, arguments);
    child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until a file has so many bytes.
#[cfg(unix)]
fn wait_for(path: &Path, bytes: u64) {
    for _ in 0..3000 {
        if fs::metadata(path).is_ok_and(|file| file.len() >= bytes) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} did not come to {bytes} bytes", path.display());
}

#[cfg(unix)]
fn signal(name: &str, id: u32) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_after_the_step_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let child = begin(at, &["train", "--epochs", "100000"]);
    // More than the one epoch that it is gone on with.
    wait_for(&at.join("runs/digits-1/metrics.jsonl"), 30_000);
    signal("-INT", child.id());
    let output = child.wait_with_output().unwrap();
    let page = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(page.contains("stopped by Ctrl-C") && page.contains("saved as it was"), "{page}");
    let tested = json(&chainrule(at, &["predict", "--json"]));
    assert_eq!(tested["examples"], 359);
    // The line that it prints, as it is typed.
    let line = page.lines().find_map(|line| line.strip_prefix("resume   chainrule ")).unwrap();
    let short: Vec<&str> = line.split(' ').chain(["--epochs", "1", "--json"]).collect();
    let stopped = json(&chainrule(at, &short));
    assert_eq!((&stopped["steps_now"], &stopped["last_step"]), (&0.into(), &serde_json::Value::Null));
}

/// Two trainings of three epochs: one whole, one killed in the middle of an epoch and gone on with.
#[cfg(unix)]
#[test]
fn a_killed_training_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let settings = ["train", "--epochs", "40", "--hidden", "32", "--save-every", "7"];
    json(&chainrule(at, &[&settings[..], &["--json"]].concat()));
    let whole = at.join("runs/digits-1");
    let size = fs::metadata(whole.join("metrics.jsonl")).unwrap().len();
    let run = at.join("runs/digits-2");
    // Killed twice, at places that only chance knows, the second time while it goes on.
    let mut child = begin(at, &settings);
    wait_for(&run.join("metrics.jsonl"), size / 5);
    signal("-KILL", child.id());
    assert!(!child.wait().unwrap().success());
    let checkpoint = fs::read(run.join("checkpoint.safetensors")).unwrap();
    let mut child = begin(at, &["train", "--resume", "runs/digits-2", "--save-every", "7"]);
    wait_for(&run.join("metrics.jsonl"), size / 2);
    signal("-KILL", child.id());
    assert!(!child.wait().unwrap().success());
    assert_ne!(checkpoint, fs::read(run.join("checkpoint.safetensors")).unwrap());
    let report = json(&chainrule(at, &["train", "--resume", "--json", "--threads", "1"]));
    assert_eq!((&report["steps"], &report["stopped"]), (&1800.into(), &false.into()));
    assert!(report["steps_now"].as_u64().unwrap() < 1800);
    for name in ["metrics.jsonl", "model.safetensors", "best.safetensors", "checkpoint.safetensors", "curves.svg"] {
        let same = fs::read(whole.join(name)).unwrap() == fs::read(run.join(name)).unwrap();
        // The title of the curves has the number of the run.
        assert!(same || name == "curves.svg", "{name} is not what it would have been");
    }
    // More epochs than it was begun with.
    let longer = json(&chainrule(at, &["train", "--resume", "runs/digits-2", "--epochs", "41", "--json"]));
    assert_eq!((&longer["steps"], &longer["steps_now"]), (&1845.into(), &45.into()));
}

/// One run, two who would train it.
#[cfg(unix)]
#[test]
fn a_run_is_trained_by_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("small.toml"), "[data]\nset = \"digits\"\n[model]\nlayers = [\"flatten\", { linear = 10 }]\n")
        .unwrap();
    for (model, run) in [(&[][..], "runs/digits-1"), (&["small.toml"], "runs/small-1")] {
        let mut first = begin(at, &[&["train"], model, &["--epochs", "100000", "--save-every", "5"]].concat());
        for name in ["model.safetensors", "checkpoint.safetensors"] {
            wait_for(&at.join(run).join(name), 1);
        }
        let settings = fs::read(at.join(run).join("config.json")).unwrap();
        let resume = ["train", "--resume", run, "--epochs", "1"];
        fails(at, &resume, 2, &[run, &format!("is being trained by process {}", first.id())]);
        // Nothing of the refused one is left, and asking needs no leave.
        assert_eq!(fs::read(at.join(run).join("config.json")).unwrap(), settings);
        json(&chainrule(at, &["predict", run, "--json"]));
        signal("-KILL", first.id());
        first.wait().unwrap();
        assert!(at.join(run).join("train.lock").is_file());
        json(&chainrule(at, &[&resume[..], &["--json"]].concat()));
    }
}

#[test]
fn what_cannot_be_resumed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fails(at, &["train", "--resume"], 2, &["no \"digits\" run in runs"]);
    fails(at, &["train", "--resume", "nowhere"], 2, &["nowhere"]);
    json(&chainrule(at, &["train", "--epochs", "1", "--hidden", "8", "--json"]));
    let run = at.join("runs/digits-1");
    let resume = ["train", "--resume", "runs/digits-1", "--epochs", "2"];
    fails(at, &[&resume[..], &["--lr", "0.1"]].concat(), 2, &["digits-1", "lr is 0.1 and was 0.001"]);
    fails(at, &[&resume[..], &["--save-every", "0"]].concat(), 2, &["--save-every", "30s"]);
    let checkpoint = run.join("checkpoint.safetensors");
    let good = fs::read(&checkpoint).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&checkpoint, bad).unwrap();
    fails(at, &resume, 2, &["checkpoint.safetensors", "it is damaged"]);
    fs::write(&checkpoint, &good[..200]).unwrap();
    fails(at, &resume, 2, &["checkpoint.safetensors", "not a usable safetensors file"]);
    fs::copy(run.join("model.safetensors"), &checkpoint).unwrap();
    fails(at, &resume, 2, &["checkpoint.safetensors", "was it a model?"]);
    fs::remove_file(&checkpoint).unwrap();
    fails(at, &resume, 2, &["checkpoint.safetensors", "train anew"]);
    fs::write(&checkpoint, &good).unwrap();
    fs::write(run.join("metrics.jsonl"), "").unwrap();
    fails(at, &resume, 1, &["metrics.jsonl", "it has 0 bytes"]);
    fs::write(run.join("config.json"), fs::read_to_string(run.join("config.json")).unwrap().replace("32", "0"))
        .unwrap();
    fails(at, &resume, 2, &["config.json", "\"batch\""]);
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
