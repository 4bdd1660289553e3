//! A training that is stopped and gone on with is the training that never stopped, to the last byte of what it writes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chainrule::prelude::*;
use chainrule::tree::load_tensors;
use chainrule_nn::layer::{BatchNorm, Dropout};
use chainrule_nn::optimizer::AdamW;
use chainrule_nn::prelude::*;
use chainrule_train::data::{Arrays, Batch, Loader, Targets};
use chainrule_train::log::{BEST, CHECKPOINT, FLOW, MODEL};
use chainrule_train::run::RunFolder;
use chainrule_train::task::{Averaging, Clip, Fit, Measures, Metric, Objective, Supervised, Task};
use chainrule_train::trainer::{EarlyStop, End, Event, Length, Monitor, TrainError, Trainer};
use chainrule_train::training::{
    Finished, Look, RunSettings, SaveEvery, Training, Watcher, WholeStep, run_training, run_watched,
};
use serde_json::json;

const WIDTH: usize = 6;

/// Noisy classes.
fn rows(seed: u64, count: usize, batch: usize) -> Loader {
    let [a, b] = Key::new(seed).split();
    let x = a.normal([count, WIDTH], DType::F32);
    let y = (x.narrow(1, 0, 3) + b.normal([count, 3], DType::F32) * 0.5).argmax(-1);
    let set = Arrays::new(x.to_vec::<f32>(), &[WIDTH], Targets::classes(y.to_vec(), 3).unwrap()).unwrap();
    Loader::new(Arc::new(set), batch, 5)
}

#[derive(Tree, Clone)]
struct Net {
    hidden: Linear,
    norm: BatchNorm,
    out: Linear,
    dropout: Dropout,
}

impl Net {
    fn new() -> Net {
        let [a, b] = Key::new(3).split();
        let net = Net {
            hidden: Linear::new(&a, WIDTH, 8),
            norm: BatchNorm::new(8),
            out: Linear::new(&b, 8, 3),
            dropout: Dropout::new(0.3),
        };
        chainrule::tree::map(&net, Tensor::eval)
    }
    fn forward(&mut self, batch: &Batch, context: &mut Context) -> Tensor {
        let x = self.hidden.forward(batch.input());
        let x = self.norm.forward(&x, context).relu();
        self.out.forward(&self.dropout.forward(&x, context))
    }
}

type Everything = Supervised<Net, AdamW<Net>>;
type State = Fit<Net, AdamW<Net>>;

fn task() -> Everything {
    let metrics = [Metric::Accuracy, Metric::F1Macro, Metric::Perplexity, Metric::Confusion];
    let loss = |logits: &Tensor, batch: &Batch| logits.cross_entropy(batch.target());
    Supervised::new(Objective::new(Net::forward, loss).metrics(metrics))
        .clip_norm(1.0)
        .clip(Clip::Value(0.5))
        .average(Averaging::ExponentialWarm(0.9))
}

fn trainer(length: Length) -> Trainer {
    Trainer { threads: Some(1), ..Trainer::new(length, 11) }
}

/// Trains in a folder of this name, from the beginning or from its checkpoint, and stops after `stop` steps.
fn train(
    root: &Path,
    name: &str,
    trainer: Trainer,
    resume: bool,
    stop: Option<u64>,
    save_every: SaveEvery,
) -> Result<Finished<State>, TrainError> {
    let run = match resume {
        true => RunFolder::open(root.join(format!("{name}-1")))?,
        false => RunFolder::create(root, name)?,
    };
    let (task, net) = (task(), Net::new());
    let adam = AdamW::new(&net, Schedule::cosine(0.05, 0.0, 40).warm_up(5));
    let settings =
        RunSettings { resume, save_every, quiet: true, ..RunSettings::new(trainer, "t", json!({"seed": 11})) };
    let (rows, others) = (rows(1, 50, 8), rows(2, 30, 16).shuffle(false));
    let training = Training {
        run: &run,
        start: task.start(net, adam),
        task: &task,
        train: &rows,
        validation: Some(&others),
        settings,
    };
    let flag = AtomicBool::new(false);
    run_watched(training, &flag, &mut Watching { flag: &flag, stop })
}

/// Looks at every third step, and stops after one.
struct Watching<'a> {
    flag: &'a AtomicBool,
    stop: Option<u64>,
}

impl Watcher<State> for Watching<'_> {
    fn event(&mut self, event: &Event<'_, State>) {
        if let Event::Whole { course, .. } = event {
            self.flag.store(self.stop == Some(course.step), Ordering::Relaxed);
        }
    }

    fn wants(&mut self, step: u64) -> bool {
        step.is_multiple_of(3)
    }

    fn look(&mut self, step: &WholeStep<'_, State>) -> Look {
        let sum = |state: &State| state.model.hidden.weight.sum(..).to_f64();
        let (before, after) = (sum(step.before), sum(step.after));
        assert_ne!(before, after);
        let line = json!({"step": step.record.step, "before": before, "after": after, "rows": step.batch.len()});
        Look { lines: vec![line], told: vec![] }
    }
}

const FILES: [&str; 6] = ["metrics.jsonl", FLOW, MODEL, BEST, CHECKPOINT, "curves.svg"];

fn files(root: &Path, name: &str) -> Vec<Vec<u8>> {
    FILES.map(|file| fs::read(root.join(format!("{name}-1")).join(file)).unwrap()).into()
}

fn same(root: &Path, name: &str, whole: &[Vec<u8>]) {
    for ((file, expected), found) in FILES.iter().zip(whole).zip(files(root, name)) {
        assert!(*expected == found, "{name}: {file} is not what it would have been without the stop");
    }
}

#[test]
fn a_stop_after_any_step_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let go = |name: &str, resume, stop| {
        train(root, name, trainer(Length::Epochs(2)), resume, stop, SaveEvery::Auto).unwrap()
    };
    let steps = 14;
    let whole = go("whole", false, None);
    assert_eq!((whole.end, whole.course.step, whole.course.epoch), (End::Whole, steps, 2));
    let expected = files(root, "whole");
    for stop in [1, 4, 6, 7, 8, 13] {
        let name = format!("at{stop}");
        let first = go(&name, false, Some(stop));
        assert_eq!((first.end, first.steps), (End::Stopped, stop));
        let second = go(&name, true, None);
        assert_eq!((second.end, second.steps), (End::Whole, steps - stop));
        same(root, &name, &expected);
    }
    // Stopped again and again.
    go("each", false, Some(1));
    for stop in [2, 3, 7, 9, 14] {
        go("each", true, Some(stop));
    }
    same(root, "each", &expected);
    // And once more at the end, where there is nothing to do.
    assert_eq!(go("each", true, None).steps, 0);
    same(root, "each", &expected);
}

#[test]
fn steps_that_no_checkpoint_knows_are_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let every = trainer(Length::Steps(19));
    let every = Trainer { evaluate_every: Some(4), ..every };
    train(root, "whole", every.clone(), false, None, SaveEvery::Steps(5)).unwrap();
    // As a kill leaves it: the checkpoint of step 5 beside files of step 9, the last line half written.
    train(root, "killed", every.clone(), false, Some(5), SaveEvery::Steps(5)).unwrap();
    let run = root.join("killed-1");
    let old = fs::read(run.join(CHECKPOINT)).unwrap();
    train(root, "killed", every.clone(), true, Some(9), SaveEvery::Steps(500)).unwrap();
    fs::write(run.join(CHECKPOINT), old).unwrap();
    let mut metrics = fs::read(run.join("metrics.jsonl")).unwrap();
    metrics.extend(b"{\"kind\":\"st");
    fs::write(run.join("metrics.jsonl"), metrics).unwrap();
    let second = train(root, "killed", every, true, None, SaveEvery::Steps(5)).unwrap();
    assert_eq!((second.steps, second.course.step, second.course.in_epoch), (14, 19, 5));
    same(root, "killed", &files(root, "whole"));
}

#[test]
fn patience_and_what_was_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let patient = Trainer {
        evaluate_every: Some(2),
        early_stop: Some(EarlyStop { patience: 3, min_delta: 0.02 }),
        monitor: Monitor::new("accuracy"),
        ..trainer(Length::Epochs(50))
    };
    let whole = train(root, "whole", patient.clone(), false, None, SaveEvery::Auto).unwrap();
    assert_eq!(whole.end, End::Early);
    let best = whole.course.best.unwrap();
    assert_eq!(whole.course.step, best.step + 6);
    let expected = files(root, "whole");
    for back in [1, 4] {
        let (name, stop) = (format!("back{back}"), whole.course.step - back);
        train(root, &name, patient.clone(), false, Some(stop), SaveEvery::Auto).unwrap();
        let second = train(root, &name, patient.clone(), true, None, SaveEvery::Auto).unwrap();
        assert_eq!((second.end, second.course.best), (End::Early, Some(best)));
        same(root, &name, &expected);
    }
    // What has ended for want of progress does not go on by being resumed.
    assert_eq!(train(root, "whole", patient, true, None, SaveEvery::Auto).unwrap().steps, 0);
}

#[test]
fn what_cannot_be_gone_on_from_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let short = trainer(Length::Steps(3));
    let go = |trainer: Trainer, resume| train(root, "a", trainer, resume, None, SaveEvery::Auto);
    let told = |error: Result<Finished<State>, TrainError>| error.map(drop).unwrap_err().to_string();
    go(short.clone(), false).unwrap();
    let run = root.join("a-1");
    let metrics = fs::read(run.join("metrics.jsonl")).unwrap();
    fs::write(run.join("metrics.jsonl"), &metrics[..10]).unwrap();
    let error = told(go(trainer(Length::Steps(5)), true));
    assert!(error.contains("metrics.jsonl") && error.contains("it has 10 bytes"), "{error}");
    fs::write(run.join("metrics.jsonl"), &metrics).unwrap();
    fs::write(run.join(CHECKPOINT), "no").unwrap();
    assert!(told(go(short.clone(), true)).contains("not a usable safetensors file"));
    fs::remove_file(run.join(CHECKPOINT)).unwrap();
    assert!(told(go(short.clone(), true)).contains("before its first checkpoint"));
    let odd = Trainer { monitor: Monitor::new("auc"), ..short };
    let error = told(train(root, "b", odd, false, None, SaveEvery::Auto));
    assert!(error.contains("no figure \"auc\"") && error.contains("loss, accuracy, f1, perplexity"), "{error}");
}

/// A task that becomes NaN in its third step.
struct Doomed;

impl Task for Doomed {
    type State = Tensor;
    fn step(&self, state: &Tensor, _: &Batch, _: &Key) -> (Tensor, Measures) {
        let next = state - 1.0;
        (next.clone(), Measures::new().mean("loss", &next.sqrt(), 1))
    }
    fn evaluate(&self, state: &Tensor, _: &Batch) -> Measures {
        Measures::new().mean("loss", state, 1)
    }
}

#[test]
fn a_loss_that_is_not_finite_ends_the_training_before_it_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(folder.path(), "nan").unwrap();
    let rows = rows(1, 50, 8);
    let settings = RunSettings::new(trainer(Length::Epochs(1)), "t", json!({}));
    let settings = RunSettings { quiet: true, save_every: SaveEvery::Steps(1), ..settings };
    let start = Tensor::from(2.0f32);
    let training = Training { run: &run, task: &Doomed, start, train: &rows, validation: None, settings };
    let error = run_training(training, &AtomicBool::new(false), |_| {}).map(drop).unwrap_err().to_string();
    assert!(error.contains("the loss became NaN in step 3 (epoch 1)"), "{error}");
    let saved = load_tensors(run.path().join(MODEL)).unwrap();
    assert_eq!(saved[""].item::<f32>(), 0.0);
}
