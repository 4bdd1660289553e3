//! `chainrule train --watch` and what a training says whose numbers stop being finite, without a terminal.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn chainrule(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainrule"));
    command.current_dir(folder).args(arguments).env("NO_COLOR", "1").env_remove("CHAINRULE_DATA").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn trained(folder: &Path, arguments: &[&str]) -> (String, String) {
    let output = chainrule(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A small network with everything that could be disturbed: dropout, batch norm, clipping, parts of a batch.
fn small(layers: &str, optimizer: &str, train: &str) -> String {
    format!(
        "[data]\nset = \"digits\"\nvalidation = 0.2\n[model]\nlayers = [\"flatten\", {layers}{{ linear = \"classes\", \
         name = \"out\" }}]\n[optimizer]\n{optimizer}\n[train]\nsteps = 60\nbatch = 32\n{train}\n"
    )
}

const HIDDEN: &str =
    "{ linear = 16, name = \"hidden\" }, { batch_norm = true, name = \"norm\" }, \"relu\", { dropout = 0.1 }, ";

#[test]
fn watching_changes_nothing() {
    let cases = [
        ("plain", small(HIDDEN, "name = \"adamw\"\nrate = 5e-3", "clip_norm = 1.0")),
        ("parts", small(HIDDEN, "name = \"sgd\"\nrate = 0.1\nmomentum = 0.9", "accumulate = 2")),
        ("half", small(HIDDEN, "name = \"adam\"\nrate = 1e-3", "precision = \"bf16\"\naverage = \"ema\"")),
    ];
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut problems = Vec::new();
    for (name, file) in cases {
        fs::write(at.join(format!("{name}.toml")), file).unwrap();
        let file = format!("{name}.toml");
        trained(at, &["train", &file, "--quiet"]);
        let (_, said) = trained(at, &["train", &file, "--watch-every", "20"]);
        let of = |number: u64, file: &str| fs::read(at.join(format!("runs/{name}-{number}/{file}"))).unwrap();
        for file in ["metrics.jsonl", "model.safetensors", "checkpoint.safetensors"] {
            // A checkpoint says how long the log of looks was.
            if file != "checkpoint.safetensors" && of(1, file) != of(2, file) {
                problems.push(format!("{name}: {file} differs"));
            }
        }
        let run = at.join(format!("runs/{name}-2"));
        let (looks, metrics) = (lines(&run.join("flow.jsonl")), lines(&run.join("metrics.jsonl")));
        let steps: Vec<u64> = looks.iter().map(|look| look["step"].as_u64().unwrap()).collect();
        if steps != [1, 20, 40, 60] {
            problems.push(format!("{name}: looks at {steps:?}"));
        }
        for look in &looks {
            let step = metrics.iter().find(|line| line["kind"] == "step" && line["step"] == look["step"]).unwrap();
            let (seen, was) = (look["loss"].as_f64().unwrap(), step["loss"].as_f64().unwrap());
            let near = name == "parts" || (seen - was).abs() < 1e-5 * was.abs();
            if !near {
                problems.push(format!("{name}, step {}: the loss is {was} and was seen as {seen}", look["step"]));
            }
            let hidden = look["layers"].as_array().unwrap().iter().find(|layer| layer["path"] == "hidden").unwrap();
            let (seen, was) = (hidden["weight_gradient"].as_f64().unwrap(), step["layers"]["hidden"].as_f64().unwrap());
            if name == "plain" && (seen - was).abs() > 1e-4 * was {
                problems.push(format!("{name}, step {}: the gradient is {was} and was seen as {seen}", look["step"]));
            }
            let update = hidden["update"].as_f64().unwrap();
            if !(1e-6..1.0).contains(&update) {
                problems.push(format!("{name}, step {}: an update of {update}", look["step"]));
            }
        }
        if !at.join(format!("runs/{name}-2/weights/00000000.safetensors")).exists() {
            problems.push(format!("{name}: no first weights in {said}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn warnings_are_said_as_they_arise() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let deep = "{ linear = 16 }, \"sigmoid\", ".repeat(20);
    fs::write(at.join("deep.toml"), small(&deep, "name = \"sgd\"\nrate = 0.1", "")).unwrap();
    let (page, said) = trained(at, &["train", "deep.toml", "--watch-every", "25"]);
    let warning = said.lines().find(|line| line.contains("vanishing gradient")).unwrap_or_default();
    assert!(warning.starts_with("  step 1: vanishing gradient in "), "{said}");
    assert!(said.contains("    change   use relu"), "{said}");
    assert_eq!(said.matches("vanishing gradient in").count(), 1, "{said}");
    assert!(page.contains("watched  runs/deep-1/flow.jsonl (3 steps looked at"), "{page}");
    let looks = lines(&at.join("runs/deep-1/flow.jsonl"));
    assert_eq!(looks[0]["warnings"][0]["diagnosis"], "vanishing gradient");
    // The network inside the command is no model file.
    let output = chainrule(at, &["train", "--watch"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--watch needs a model"), "{}", text(&output.stderr));
}

#[test]
fn a_training_that_stops_being_finite_says_where_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let layers = "{ linear = 16, name = \"hidden\" }, \"relu\", ";
    fs::write(at.join("far.toml"), small(layers, "name = \"sgd\"\nrate = 1e18", "")).unwrap();
    let output = chainrule(at, &["train", "far.toml", "--save-every", "1", "--trace-nonfinite"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["became", "is not finite", "made by  ", "because  ", "from     ", "instead  ", "nonfinite.txt"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let run = at.join("runs/far-1");
    assert!(run.join("checkpoint.safetensors").exists() && said.contains("holds the training as it was"), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(run.join("nonfinite.json")).unwrap()).unwrap();
    assert!(report["step"].as_u64().unwrap() >= 2 && report["found"]["operation"].is_string(), "{report}");
    assert!(fs::read_to_string(run.join("nonfinite.txt")).unwrap().contains("because  "));
    let output = chainrule(at, &["train", "far.toml", "--trace-nonfinite=off"]);
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && !said.contains("made by") && said.contains("lower learning rate"),
        "{said}"
    );
    assert!(!at.join("runs/far-2/nonfinite.json").exists());
}

#[test]
fn a_watched_run_shows_how_sharp_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let layers = "{ linear = 8, name = \"hidden\" }, \"tanh\", ";
    fs::write(at.join("edge.toml"), small(layers, "name = \"sgd\"\nrate = 0.5", "")).unwrap();
    trained(at, &["train", "edge.toml", "--quiet"]);
    trained(at, &["train", "edge.toml", "--quiet", "--watch-every", "15"]);
    let course = |run: &str| -> Value {
        serde_json::from_str(&trained(at, &["sharpness", run, "--batch", "64", "--json"]).0).unwrap()
    };
    assert!(course("runs/edge-1")["course"].is_null());
    let course = course("runs/edge-2");
    let points = course["course"].as_array().unwrap();
    let steps: Vec<u64> = points.iter().map(|point| point["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 14, 29, 44, 59, 60]);
    let of = |point: &Value| point["largest"]["value"].as_f64().unwrap();
    assert!(points.iter().all(|point| point["limit"] == 4.0 && of(point) > 0.0), "{course}");
    // The last point is what the command says of the run as it is now.
    let now = course["sharpness"]["largest"]["value"].as_f64().unwrap();
    assert!((of(&points[5]) - now).abs() < 1e-6 * now, "{course}");
    let (page, _) = trained(at, &["sharpness", "runs/edge-2", "--batch", "64", "--picture", "sharp.svg"]);
    assert!(page.contains("along the training") && page.contains("picture  sharp.svg"), "{page}");
    let picture = fs::read_to_string(at.join("sharp.svg")).unwrap();
    assert!(picture.contains("largest eigenvalue of the Hessian") && picture.contains("2 / rate"));
    // Of a run that was not watched the picture is of the weights as they are.
    trained(at, &["sharpness", "runs/edge-1", "--batch", "64", "--picture", "now.svg"]);
    let picture = fs::read_to_string(at.join("now.svg")).unwrap();
    assert!(picture.contains("spectrum of the Hessian") && !picture.contains("2 / rate"));
    let output = chainrule(at, &["sharpness", "runs/edge-2", "--picture", "a.gif"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("must end in .svg or .png"), "{said}");
}

/// Two small networks against each other.
fn pair(model: &str) -> String {
    format!(
        "[data]\nset = \"digits\"\n[model]\nkind = \"gan\"\nnoise = 4\n{model}\n[model.generator]\nlayers = [{{ linear = 16, name = \"grow\" }}, \"relu\", {{ linear = 64, name = \"draw\" }}, {{ reshape = [1, 8, 8] }}]\n[model.discriminator]\nlayers = [\"flatten\", {{ linear = 16, name = \"see\" }}, {{ leaky_relu = 0.2 }}, {{ linear = 1, name = \"judge\" }}]\n[optimizer]\nname = \"adam\"\nrate = 1e-3\n[train]\nsteps = 6\nbatch = 16\n"
    )
}

#[test]
fn both_networks_of_a_pair_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let mut problems = Vec::new();
    for (name, model) in [("plain", ""), ("penalty", "loss = \"wasserstein\"\ncritic_steps = 2")] {
        let file = format!("{name}.toml");
        fs::write(at.join(&file), pair(model)).unwrap();
        trained(at, &["train", &file, "--quiet"]);
        let (page, _) = trained(at, &["train", &file, "--quiet", "--watch-every", "3"]);
        assert!(page.contains(&format!("watched  runs/{name}-2/flow.jsonl (3 steps looked at")), "{page}");
        let of = |number: u64, file: &str| fs::read(at.join(format!("runs/{name}-{number}/{file}"))).unwrap();
        if of(1, "metrics.jsonl") != of(2, "metrics.jsonl") || of(1, "model.safetensors") != of(2, "model.safetensors")
        {
            problems.push(format!("{name}: watching changed the training"));
        }
        let run = at.join(format!("runs/{name}-2"));
        let (looks, metrics) = (lines(&run.join("flow.jsonl")), lines(&run.join("metrics.jsonl")));
        let seen: Vec<_> = looks.iter().map(|look| (look["step"].as_u64(), look["network"].as_str())).collect();
        let wanted = [1, 3, 6].map(|step| ["generator", "discriminator"].map(|name| (Some(step), Some(name))));
        assert_eq!(seen, wanted.concat(), "{name}");
        for look in &looks {
            let step = metrics.iter().find(|line| line["kind"] == "step" && line["step"] == look["step"]).unwrap();
            let network = look["network"].as_str().unwrap();
            let (seen, was) = (look["loss"].as_f64().unwrap(), step[format!("{network}_loss")].as_f64().unwrap());
            // The discriminator's is the mean of its rounds, of which the first is seen.
            let same = network == "generator" || name == "plain";
            if same && (seen - was).abs() > 1e-4 * was.abs() {
                problems.push(format!("{name}, {network}: the loss is {was} and was seen as {seen} in {step}"));
            }
            for layer in look["layers"].as_array().unwrap() {
                let path = layer["path"].as_str().unwrap();
                let was = step["layers"][path].as_f64();
                let seen = layer["weight_gradient"].as_f64().unwrap();
                // Of the last round, too.
                if !path.starts_with(network) || same && was.is_none_or(|was| (seen - was).abs() > 1e-3 * was) {
                    problems.push(format!("{name}, {path}: the gradient is {was:?} and was seen as {seen}"));
                }
                if !(1e-6..10.0).contains(&layer["update"].as_f64().unwrap()) {
                    problems.push(format!("{name}, {path}: an update of {}", layer["update"]));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_model_file_can_ask_to_be_watched() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let file = small("", "name = \"sgd\"\nrate = 0.1", "[watch]\nevery = 30");
    fs::write(at.join("asks.toml"), file).unwrap();
    let steps = |run: &str| -> Vec<u64> {
        lines(&at.join(run).join("flow.jsonl")).iter().map(|look| look["step"].as_u64().unwrap()).collect()
    };
    trained(at, &["train", "asks.toml", "--quiet"]);
    assert_eq!(steps("runs/asks-1"), [1, 30, 60]);
    // What the command line says counts more.
    trained(at, &["train", "asks.toml", "--quiet", "--watch-every", "40"]);
    assert_eq!(steps("runs/asks-2"), [1, 40]);
    trained(at, &["train", "asks.toml", "--quiet", "--set", "watch.on=false"]);
    assert!(!at.join("runs/asks-3/flow.jsonl").exists());
    trained(at, &["train", "asks.toml", "--quiet", "--set", "watch.on=false", "--watch"]);
    let (page, _) = trained(at, &["train", "--resume", "runs/asks-1", "--set", "watch.every=7", "--quiet"]);
    assert_eq!(steps("runs/asks-4"), [1, 30, 60]);
    assert!(page.contains("no steps were left"), "{page}");
}
