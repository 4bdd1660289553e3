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
    assert!(out.contains("W₁ = hidden.weight") && !out.contains("W₂ = out.weight"), "{out}");
    let (code, _, err) = run(&["explain", "digits-mlp", "--parameter", "hiden.weight"]);
    assert!(code == 2 && err.contains("there are: hidden.weight"), "{code} {err}");
}

/// What the steps of a parameter's loops add to its gradient, of `explain --json`.
fn shares(parameter: &serde_json::Value) -> f64 {
    let share = |term: &serde_json::Value| term["share"].as_f64().expect("a number");
    let loops = parameter["in_time"]["loops"].as_array().expect("loops");
    let terms = loops.iter().flat_map(|through| through["terms"].as_array().expect("terms"));
    terms.map(share).sum::<f64>() + share(&parameter["in_time"]["beside"])
}

#[test]
fn a_recurrent_recipe_is_explained_step_by_step() {
    let weight = "memory.layers.0.forward.weight_hh";
    for recipe in ["adding-rnn", "adding-lstm"] {
        let (code, out, err) = run(&["explain", recipe, "--batch", "4", "--parameter", weight, "--json"]);
        assert_eq!(code, 0, "{err}");
        let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert!((shares(&report["parameters"][0]) - 1.0).abs() < 1e-4, "{recipe}: {out}");
        let inside = &report["loops"][0];
        let steps = inside["steps"].as_u64().expect("a number") as usize;
        assert_eq!(inside["passages"].as_array().expect("a list").len(), steps, "{recipe}");
        assert!(inside["definitions"][0]["line"]["layer"].is_string(), "{recipe}: {inside}");
    }
}

/// Every recipe whose data are here or random, but GPT-2, whose check nobody waits for.
#[test]
#[ignore = "minutes; .ci/slow runs it"]
fn every_recipe_is_explained_and_checked() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");
    let files = std::fs::read_dir(folder).expect("recipes").map(|file| file.expect("a file").path());
    let recipes: Vec<String> = files.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect();
    assert!(recipes.len() > 15, "{recipes:?}");
    let mut failed = Vec::new();
    for recipe in recipes.iter().filter(|recipe| *recipe != "gpt2-small") {
        for command in [&["memory"][..], &["explain"], &["check"], &["doctor", "--steps", "0"]] {
            let start = std::time::Instant::now();
            let (code, out, err) = run(&[command, &[recipe, "--batch", "4"]].concat());
            let command = command[0];
            println!("{command} {recipe}: {:.1} s, {} lines", start.elapsed().as_secs_f64(), out.lines().count());
            let without_data = code == 2 && err.contains("is not here");
            if code != 0 && !without_data || code == 0 && (out.contains("NaN") || out.contains("inf ")) {
                failed.push(format!("{command} {recipe}: {code} {err}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
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

/// A residual network, and what makes a NaN in it.
const ROOT: &str = "\
[example]
input = [4]
classes = 3

[model]
layers = [
  { linear = 4, name = \"stem\" },
  { residual = [
      { linear = 4, name = \"inner\" },
      \"tanh\",
  ], name = \"block\" },
  { linear = 3, name = \"head\" },
]

[optimizer]
name = \"adam\"
rate = 0.01

[train]
memory_budget = \"1kB\"
";

#[test]
fn lines_are_those_of_the_model_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("root.toml");
    std::fs::write(&file, ROOT).expect("written");
    let file = file.to_str().expect("a path");
    let (code, out, err) = run(&["explain", file, "--batch", "2", "--json"]);
    assert_eq!(code, 0, "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let lines: Vec<(u64, &str)> = report["definitions"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|definition| Some((definition["line"]["line"].as_u64()?, definition["line"]["layer"].as_str()?)))
        .collect();
    for expected in [(7, "linear"), (9, "linear"), (10, "tanh"), (8, "residual"), (12, "linear"), (5, "usual loss")] {
        assert!(lines.contains(&expected), "{expected:?} is not in {lines:?}");
    }
    assert!(report["definitions"][0]["line"]["code"]["file"].as_str().expect("Rust").ends_with(".rs"));
    // The budget of the file is refused at its line, and another one given in its place.
    let (code, _, err) = run(&["memory", file]);
    assert!(code == 2 && err.contains("root.toml:20") && err.contains("allow"), "{code} {err}");
    let (code, out, err) = run(&["memory", file, "--budget", "1MB"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("root.toml:15 optimizer") || out.contains("root.toml:7 linear"), "{out}");
}

#[test]
fn a_pair_of_networks_has_both_in_its_memory() {
    let (code, out, err) = run(&["memory", "dcgan"]);
    assert_eq!(code, 0, "{err}");
    for part in ["generator ", "discriminator ", "generator's optimizer", "discriminator's optimizer", "generator.grow"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn either_of_a_pair_is_explained_checked_and_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pair.toml");
    let text = "[example]\ninput = [6]\nno_target = true\n[model]\nkind = \"gan\"\nnoise = 4\n\
                [model.generator]\nlayers = [{ linear = 16, name = \"grow\" }, \"tanh\", { linear = 6 }]\n\
                [model.discriminator]\nlayers = [{ linear = 16, name = \"look\" }, \"tanh\", { linear = 1 }]\n";
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("a path");
    for (network, layer) in [("generator", "grow"), ("discriminator", "look")] {
        for command in ["explain", "check"] {
            let (code, out, err) = run(&[command, file, "--batch", "4", "--network", network]);
            assert!(code == 0 && out.contains(&format!("{layer}.weight")), "{command} {network}: {out}{err}");
        }
        let (code, out, err) = run(&["sharpness", file, "--batch", "4", "--network", network]);
        assert!(code == 0 && out.contains("largest eigenvalue"), "{network}: {out}{err}");
    }
    let (code, out, err) = run(&["explain", file, "--batch", "4"]);
    assert!(code == 0 && out.contains("grow.weight") && !out.contains("look.weight"), "{out}{err}");
    let (code, _, err) = run(&["check", "digits-mlp", "--network", "generator"]);
    assert!(code == 2 && err.contains("one network"), "{code} {err}");
}

#[test]
fn a_run_is_looked_at_with_its_own_weights_data_and_rate() {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = folder.path().join("runs");
    let (code, _, err) =
        run(&["train", "digits-mlp", "--steps", "60", "--quiet", "--runs", runs.to_str().expect("a path")]);
    assert_eq!(code, 0, "{err}");
    let trained = runs.join("digits-mlp-1");
    let at = trained.to_str().expect("a path");
    let json = |arguments: &[&str]| -> serde_json::Value {
        let (code, out, err) = run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).expect("JSON")
    };
    let (first, now) = (json(&["doctor", "digits-mlp", "--json"]), json(&["doctor", at, "--json"]));
    let loss = |report: &serde_json::Value| report["flow"]["loss"].as_f64().expect("a loss");
    assert!(loss(&now) < loss(&first) - 0.2, "{} {}", loss(&now), loss(&first));
    let last = std::fs::read_to_string(trained.join("metrics.jsonl")).expect("metrics");
    let steps = last.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let rate = steps.rev().find_map(|line| line["rate"].as_f64());
    assert!(rate.is_some() && now["flow"]["learning_rate"].as_f64() == rate, "{rate:?} {}", now["flow"]);
    assert_eq!(json(&["check", at, "--batch", "4", "--json"])["status"], "right");
    let explained = json(&["explain", at, "--batch", "4", "--parameter", "hidden.weight", "--json"]);
    assert_eq!(explained["parameters"][0]["path"], "hidden.weight");
    let sharp = json(&["sharpness", at, "--batch", "8", "--json"]);
    assert!(sharp["sharpness"]["largest"]["value"].as_f64().expect("λ") > 0.0);

    std::fs::create_dir(folder.path().join("empty")).expect("a folder");
    let wrong = [
        (folder.path().join("empty"), "is not a run folder: it has no run.json"),
        (runs.join("digits-mlp-2"), "No such file"),
    ];
    for (path, says) in wrong {
        let (code, _, err) = run(&["doctor", path.to_str().expect("a path")]);
        assert!(code == 2 && err.contains(says), "{code} {err}");
    }
    std::fs::remove_file(trained.join("model.safetensors")).expect("removed");
    let (code, _, err) = run(&["sharpness", at]);
    assert!(code == 2 && err.contains("its training ended before the first save"), "{code} {err}");
}

/// Every report as a page: whole, without anything from elsewhere, with its picture.
#[test]
fn reports_are_written_as_pages_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let rows: [(&[&str], &[&str]); 5] = [
        (
            &["check", "digits-mlp", "--batch", "2"],
            &["every gradient is the derivative", "digits lost", "hidden.weight"],
        ),
        (&["doctor", "digits-mlp"], &["gains of Jacobians", "digits-mlp.toml:8 linear"]),
        (
            &["explain", "digits-mlp", "--batch", "2"],
            &["<mfrac><mrow><mo>∂</mo><mi>L</mi></mrow>", "softmax", "\\frac"],
        ),
        (&["sharpness", "digits-mlp", "--batch", "2"], &["spectrum of the Hessian", "two random directions"]),
        (&["memory", "digits-mlp"], &["by layer (MB)", "optimizer"]),
    ];
    let mut problems = Vec::new();
    for (arguments, says) in rows {
        let file = at(&format!("{}.html", arguments[0]));
        let (code, _, err) = run(&[arguments, &["--html", &file]].concat());
        let html = std::fs::read_to_string(&file).unwrap_or_default();
        let missing: Vec<&&str> = says.iter().filter(|part| !html.contains(**part)).collect();
        let whole = html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n");
        let foreign = ["<script", "https://", "src=", "href="].iter().any(|part| html.contains(part));
        let picture = arguments[0] == "explain" || html.contains("<svg");
        if code != 0 || !missing.is_empty() || !whole || foreign || !picture {
            problems.push(format!("{arguments:?}: {code} {err} {missing:?} whole {whole} foreign {foreign} {picture}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let (code, _, err) = run(&["check", "digits-mlp", "--batch", "2", "--html", &at("nowhere/at/all.html")]);
    assert!(code == 2 && err.contains("nowhere"), "{code} {err}");
    let (code, _, err) = run(&["sharpness", "digits-mlp", "--picture", "loss.gif"]);
    assert!(code == 2 && err.contains(".svg or .png"), "{code} {err}");
}
