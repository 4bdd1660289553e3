//! The commands over model files as their users meet them: training, asking a run, going on after a kill, mistakes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainrule"));
    command.current_dir(folder).args(arguments).env("NO_COLOR", "1").env_remove("CHAINRULE_DATA");
    command
}

fn chainrule(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn page(folder: &Path, arguments: &[&str]) -> String {
    let output = chainrule(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&page(folder, &[arguments, &["--json"]].concat())).unwrap()
}

/// What does not fail with this code and say this in its one error.
fn wrong(folder: &Path, rows: &[(&[&str], i32, &[&str])]) -> Vec<String> {
    let mut problems = Vec::new();
    for (arguments, code, says) in rows {
        let output = chainrule(folder, arguments);
        let message = text(&output.stderr);
        let right = output.status.code() == Some(*code)
            && says.iter().all(|part| message.contains(part))
            && message.matches("error: ").count() == 1
            && !message.contains("panicked");
        if !right {
            problems.push(format!("{arguments:?} gave {:?}, should say {says:?}:\n{message}", output.status.code()));
        }
    }
    problems
}

/// Two dense layers on the digits inside, small.
const SMALL: &str = r#"
[data]
set = "digits"
validation = 0.2

[model]
layers = ["flatten", { linear = 16, name = "hidden" }, "relu", { dropout = 0.1 }, { linear = "classes", name = "out" }]

[optimizer]
name = "adamw"
rate = 5e-3

[train]
epochs = 3
batch = 32

[report]
metrics = ["accuracy", "confusion"]
watch = "accuracy"
"#;

/// A language model, smaller still.
const WRITER: &str = r#"
[data]
set = "text"
path = "book.txt"
context = 16
[model]
layers = [{ embedding = 8 }, { gru = 16 }, { linear = "classes" }]
[train]
steps = 30
batch = 8
[report]
metrics = ["perplexity"]
"#;

#[test]
fn a_file_trains_is_measured_and_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("small.toml"), SMALL).unwrap();
    let report = json(at, &["train", "small.toml", "--threads", "1"]);
    let test = &report["test"];
    assert!(test["numbers"]["accuracy"].as_f64().unwrap() > 0.8, "{report}");
    assert_eq!((&test["examples"], &report["parameters"]), (&359.into(), &1210.into()));
    for name in ["model.toml", "config.json", "metrics.jsonl", "checkpoint.safetensors", "curves.png", "report.json"] {
        assert!(at.join("runs/small-1").join(name).is_file(), "{name}");
    }
    // The run alone is asked; the file may be gone.
    fs::remove_file(at.join("small.toml")).unwrap();
    let measured = json(at, &["evaluate", "runs/small-1"]);
    assert_eq!((&measured["numbers"], &measured["part"]), (&test["numbers"], &"test".into()));
    let best = json(at, &["evaluate", "--best", "--part", "validation"]);
    assert_eq!(best["numbers"]["accuracy"], report["best"]["value"]);
    let table = page(at, &["evaluate"]);
    assert!(table.contains("class  examples   recall  precision") && table.contains("359 test examples"), "{table}");

    let told = json(at, &["predict", "--index", "3"]);
    let shares = told["class"]["probabilities"].as_array().unwrap();
    assert!((shares.iter().map(|share| share.as_f64().unwrap()).sum::<f64>() - 1.0).abs() < 1e-5);
    let page_of = page(at, &["predict", "--index", "3"]);
    assert!(page_of.contains("as the network sees it, 8×8") && page_of.contains("it is read as"), "{page_of}");
    let zeros = vec!["0"; 64].join(",");
    fs::write(at.join("table.csv"), format!("{zeros}\n{zeros}\n")).unwrap();
    let lines = page(at, &["predict", "--csv", "table.csv"]);
    assert!(lines.lines().count() == 2 && lines.lines().all(|line| line.contains(',')), "{lines}");
}

/// A tree's fruit by a table, whose kind is told from the other columns.
const FRUIT: &str = r#"
[data]
set = "table"
path = "table.csv"
target = "kind"
categorical = ["grade"]
test = 0.2
[model]
layers = [{ linear = 16 }, "relu", { linear = "classes" }]
[train]
steps = 30
batch = 8
"#;

#[test]
fn a_table_of_either_kind_is_asked_by_its_columns() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let tables = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../chainrule-train/tests/tables"));
    for name in ["table.csv", "dictionary.parquet", "nulls.parquet"] {
        fs::copy(tables.join(name), at.join(name)).unwrap();
    }
    fs::write(at.join("csv.toml"), FRUIT).unwrap();
    fs::write(at.join("parquet.toml"), FRUIT.replace("table.csv", "dictionary.parquet")).unwrap();
    let of_csv = json(at, &["train", "csv.toml"]);
    let of_parquet = json(at, &["train", "parquet.toml"]);
    assert_eq!(of_csv["test"]["numbers"], of_parquet["test"]["numbers"]);

    let asked = page(at, &["predict", "runs/csv-1", "--table", "table.csv"]);
    assert_eq!(asked.lines().count(), 40);
    assert!(asked.lines().all(|line| line.starts_with("iris,") || line.starts_with("rose,")), "{asked}");
    assert_eq!(asked, page(at, &["predict", "runs/csv-1", "--table", "dictionary.parquet"]));
    // The columns may stand in another order, with others beside them and without the target; so may categories.
    let some = "ripe,large,single,id,small,colour,grade,width\ntrue,2147483648,0.0,a7,-2,red,1,-1.0\n";
    fs::write(at.join("some.csv"), some).unwrap();
    let first = page(at, &["predict", "runs/csv-1", "--csv", "some.csv"]);
    assert_eq!(first.lines().next(), asked.lines().next());

    // A network of several inputs is not asked by one.
    let sorter = "[data]\nset = \"sorting\"\nexamples = 100\n[model]\nlayers = [{ embedding = 4 }, { linear = \"classes\" }]\n\
                  [train]\nsteps = 2";
    fs::write(at.join("sorter.toml"), sorter).unwrap();
    page(at, &["train", "sorter.toml"]);
    fs::write(at.join("tokens.csv"), "1,2,3,4,5,6,7,8,9,10\n").unwrap();
    let says = "the network takes 2 inputs; ask it about an example of its data: --index";
    let one = wrong(at, &[(&["predict", "runs/sorter-1", "--table", "tokens.csv"], 2, &[says])]);
    assert!(one.is_empty(), "{}", one.join("\n"));
    assert!(page(at, &["predict", "runs/sorter-1", "--index", "0"]).contains("said"));

    fs::write(at.join("colour.csv"), some.replace("red", "pink")).unwrap();
    fs::write(at.join("word.csv"), some.replace("2147483648", "many")).unwrap();
    fs::write(at.join("less.csv"), "ripe,large\ntrue,1\n").unwrap();
    let rows: [(&[&str], i32, &[&str]); 6] = [
        (
            &["predict", "runs/csv-1", "--table", "colour.csv"],
            2,
            &["row 1, column \"colour\": expected one of green, red, found \"pink\""],
        ),
        (
            &["predict", "runs/csv-1", "--table", "word.csv"],
            2,
            &["row 1, column \"large\": expected a number, found \"many\""],
        ),
        (&["predict", "runs/csv-1", "--table", "less.csv"], 2, &["expected one of ripe, large, found \"grade\""]),
        (
            &["predict", "runs/csv-1", "--table", "nulls.parquet"],
            2,
            &["row 34, column \"width\": expected a value, found \"null\""],
        ),
        (&["predict", "runs/csv-1", "--table", "none.csv"], 2, &["none.csv"]),
        (&["data", "inspect", "dictionary.parquet"], 2, &["a table needs a target: one of its columns width, grade"]),
    ];
    let problems = wrong(at, &rows);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let shown = page(at, &["data", "inspect", "dictionary.parquet", "--target", "kind"]);
    assert!(shown.contains("40 examples: iris ×22, rose ×18"), "{shown}");
}

#[test]
fn settings_of_the_command_line_count_more_and_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("small.toml"), SMALL).unwrap();
    let settings = ["--steps", "7", "--batch", "16", "--rate", "0.01", "--seed", "4", "--set", "train.average=ema"];
    let rest = ["--set", "train.precision=bf16", "--set", "train.accumulate=2", "--set", "train.clip_value=1.0"];
    let report = json(at, &[&["train", "small.toml"], &settings[..], &rest[..]].concat());
    assert_eq!(report["steps"], 7);
    let kept = fs::read_to_string(at.join("runs/small-1/model.toml")).unwrap();
    for line in ["steps = 7", "batch = 16", "rate = 0.01", "seed = 4", "average = \"ema\"", "precision = \"bf16\""] {
        assert!(kept.contains(line), "{line}: {kept}");
    }
    assert_eq!(json(at, &["evaluate"])["numbers"], report["test"]["numbers"]);
}

/// What memory a step takes is stated, a budget is kept at the price of time, and no number depends on it.
#[test]
fn a_budget_of_memory_changes_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let told = json(at, &["memory", "digits-cnn", "--budget", "4MB", "--picture", "memory.svg"]);
    let (whole, budgeted) = (told["whole"]["peak"].as_u64().unwrap(), told["budgeted"]["peak"].as_u64().unwrap());
    assert!(budgeted <= 4_000_000 && budgeted < whole, "{budgeted} of {whole}");
    assert!(told["budgeted"]["flops"].as_u64() > told["whole"]["flops"].as_u64());
    assert!(fs::read_to_string(at.join("memory.svg")).unwrap().contains("saved"));

    let train = ["train", "digits-cnn", "--steps", "4", "--quiet"];
    let free = json(at, &train);
    let kept = json(at, &[&train[..], &["--memory-budget", "4MB"]].concat());
    assert_eq!(free["test"]["numbers"], kept["test"]["numbers"]);
    let problems = wrong(
        at,
        &[
            (&["train", "digits-cnn", "--memory-budget", "100kB"], 2, &["100"]),
            (&["train", "digits-cnn", "--memory-budget", "much"], 2, &["much", "500MB"]),
            (&["train", "--memory-budget", "1GB"], 2, &["--memory-budget needs a model"]),
            (&["memory", "digits-cnn", "--budget", "100kB"], 2, &["100"]),
        ],
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_text_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("book.txt"), "the cat sat on the mat. ".repeat(60)).unwrap();
    fs::write(at.join("writer.toml"), WRITER).unwrap();
    let report = json(at, &["train", "writer.toml"]);
    assert!(report["validation"]["perplexity"].as_f64().unwrap() < 14.0, "{report}");
    fs::remove_file(at.join("book.txt")).unwrap();
    let ask = ["generate", "runs/writer-1", "--prompt", "the ", "--tokens", "40"];
    let said = page(at, &ask);
    assert!(said.starts_with("the ") && said.chars().count() == 45, "{said:?}");
    assert_eq!(said, page(at, &ask));
    assert_ne!(said, page(at, &[&ask[..], &["--seed", "1"]].concat()));
    let greedy = |seed| page(at, &[&ask[..], &["--temperature", "0", "--seed", seed]].concat());
    assert_eq!(greedy("1"), greedy("2"));
    let whole = json(at, &[&ask[..], &["--top-k", "3", "--top-p", "0.9"]].concat());
    assert_eq!((whole["tokens"].as_array().unwrap().len(), &whole["prompt"]), (40, &"the ".into()));
    let problems = wrong(
        at,
        &[
            (&["generate", "--prompt", "ZEBRA"], 2, &["--prompt", "'Z'"]),
            (&["generate", "--prompt", ""], 2, &["--prompt", "at least one character"]),
            (&["generate", "--temperature", "-1"], 2, &["--temperature", "0 or more"]),
            (&["generate", "--top-k", "0"], 2, &["--top-k"]),
            (&["generate", "--top-p", "1.5"], 2, &["--top-p"]),
        ],
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn an_encoder_with_a_decoder_answers() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let small = ["--steps", "3", "--set", "data.length=4"];
    let report = json(at, &[&["train", "translate-toy", "--batch", "8"], &small[..]].concat());
    let numbers = &report["test"]["numbers"];
    assert!(numbers["exact"].is_number() && numbers["exact-free-running"].is_number(), "{report}");
    assert_eq!(json(at, &["evaluate"])["numbers"], *numbers);
    let told = json(at, &["predict", "--index", "0"]);
    assert_eq!((told["tokens"]["tokens"].as_array().unwrap().len(), told["truth"].as_array().unwrap().len()), (4, 4));
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("bad.toml"), SMALL.replace("linear = 16", "linaer = 16")).unwrap();
    fs::write(at.join("odd.toml"), SMALL.replace("linear = \"classes\"", "linear = 7")).unwrap();
    fs::write(at.join("torn.toml"), "[model\n").unwrap();
    fs::write(at.join("bare.toml"), "[example]\ninput = [3]\n[model]\nlayers = [{ linear = 1 }]\n").unwrap();
    json(at, &["train", "--epochs", "1", "--hidden", "8"]);
    fs::write(at.join("small.toml"), SMALL).unwrap();
    json(at, &["train", "small.toml", "--steps", "2"]);
    let problems = wrong(
        at,
        &[
            (&["train", "digits-mpl"], 2, &["no recipe `digits-mpl`", "did you mean `digits-mlp`?"]),
            (&["train", "none.toml"], 2, &["none.toml"]),
            (&["train", "bad.toml"], 2, &["bad.toml:7", "did you mean `linear`?"]),
            (&["train", "odd.toml"], 2, &["odd.toml:7", "the data has 10 classes"]),
            (&["train", "torn.toml"], 2, &["torn.toml:1"]),
            (&["train", "bare.toml"], 2, &["[data]", "nothing to train on"]),
            (&["train", "mnist-mlp"], 2, &["mnist", "run scripts/fetch-mnist.sh"]),
            (&["train", "mnist-cnn", "--data", "nowhere"], 2, &["nowhere", "scripts/fetch-mnist.sh"]),
            (&["train", "small.toml", "--set", "train.bacth=3"], 2, &["bacth", "did you mean `batch`?"]),
            (&["train", "small.toml", "--set", "train"], 2, &["--set", "train.batch=64"]),
            (&["train", "small.toml", "--set", "data.set.x=1"], 2, &["--set", "no table"]),
            (&["train", "small.toml", "--hidden", "3"], 2, &["--hidden", "[model]"]),
            (&["train", "--steps", "3"], 2, &["--steps needs a model"]),
            (&["train", "small.toml", "--rate", "1e30", "--quiet"], 1, &["lower learning rate"]),
            (&["train", "--resume", "runs/small-1", "--rate", "0.5"], 2, &["small-1", "other settings", "optimizer"]),
            (&["train", "digits-cnn", "--resume"], 2, &["no \"digits-cnn\" run"]),
            (&["evaluate", "runs/digits-1"], 2, &["digits-1", "not trained from a model file"]),
            (&["evaluate", "nowhere"], 2, &["nowhere"]),
            (&["evaluate", "runs"], 2, &["runs"]),
            (&["generate", "runs/small-1"], 2, &["no language model"]),
            (&["predict", "runs/small-1", "--index", "359"], 2, &["--index 359", "0 to 358"]),
            (&["predict", "runs/small-1", "--image", "no.png"], 2, &["--image", "no.png"]),
            (&["predict", "runs/small-1", "--csv", "small.toml"], 2, &["small.toml: line"]),
        ],
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn damaged_runs_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("small.toml"), SMALL).unwrap();
    json(at, &["train", "small.toml", "--steps", "2"]);
    let rows: [(&str, &str, &[u8], &[&str]); 5] = [
        ("model.safetensors", "cut", b"{}", &["model.safetensors", "not a usable safetensors file"]),
        ("config.json", "foreign", b"{\"epochs\": 3}", &["config.json"]),
        (
            "config.json",
            "huge",
            b"{\"name\":\"a\",\"inputs\":[{\"dtype\":\"f32\",\"shape\":[999999999999]}],\"targets\":[]}",
            &["config.json", "larger"],
        ),
        ("model.toml", "other", b"[model]\nlayers = [\"flatten\", { linear = 10 }]\n", &["in the model"]),
        ("model.toml", "torn", b"[model", &["model.toml:1"]),
    ];
    let mut problems = Vec::new();
    for (name, _, bytes, says) in rows {
        let path = at.join("runs/small-1").join(name);
        let good = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        problems.extend(wrong(at, &[(&["evaluate", "runs/small-1"], 2, says)]));
        fs::write(&path, good).unwrap();
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[cfg(unix)]
#[test]
fn a_killed_training_of_a_file_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("small.toml"), SMALL).unwrap();
    let settings = ["train", "small.toml", "--epochs", "30", "--save-every", "7", "--set", "train.average=ema"];
    json(at, &settings);
    let (whole, run) = (at.join("runs/small-1"), at.join("runs/small-2"));
    let size = fs::metadata(whole.join("metrics.jsonl")).unwrap().len();
    let mut child = command(at, &settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let written = || fs::metadata(run.join("metrics.jsonl")).map_or(0, |file| file.len());
    for _ in 0..3000 {
        if written() > size / 4 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(written() < size, "it was over before it was killed");
    let report = json(at, &["train", "small.toml", "--resume", "--threads", "1"]);
    assert_eq!((&report["steps"], &report["stopped"]), (&(30 * 35).into(), &false.into()));
    for name in ["metrics.jsonl", "model.safetensors", "best.safetensors", "checkpoint.safetensors"] {
        assert!(fs::read(whole.join(name)).unwrap() == fs::read(run.join(name)).unwrap(), "{name} differs");
    }
    // No schedule goes by its length, so it can be longer.
    let longer = json(at, &["train", "--resume", "runs/small-2", "--epochs", "31"]);
    assert_eq!((&longer["steps"], &longer["steps_now"]), (&(31 * 35).into(), &35.into()));
}
