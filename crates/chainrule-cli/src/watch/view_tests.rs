use super::*;

use chainrule_lens::FlowRecord;
use chainrule_lens::place::Number;
use chainrule_lens::watch::{Warning, WatchedLayer};
use chainrule_train::experiment::Outline;
use chainrule_train::task::Numbers;
use chainrule_train::trainer::{EvaluationRecord, StepRecord};
use ratatui_core::backend::TestBackend;
use ratatui_core::terminal::Terminal;

/// A training of so many layers after so many steps of 1000, its gradients smaller by a tenth from layer to layer.
fn board(layers: usize, steps: u64) -> Board {
    let mut board = Board { title: "runs/deep-1".into(), ..Board::default() };
    board.begins(&Outline { parameters: 12_345, train: 100, validation: Some(20), steps: 1000, batch: 10 });
    let names = |value: &dyn Fn(usize) -> f64| -> Numbers {
        Numbers((0..layers).map(|layer| (format!("blocks.{layer}.linear"), value(layer))).collect())
    };
    for step in 1..=steps {
        let loss = 2.0 * (-(step as f64) / 300.0).exp();
        let numbers = [("loss", loss), ("accuracy", 1.0 - loss / 3.0), ("gradient_norm", 1.0), ("rate", 0.001)];
        board.step(&StepRecord {
            step,
            epoch: 1 + step / 10,
            numbers: Numbers(numbers.map(|(name, value)| (name.to_owned(), value)).to_vec()),
            layers: names(&|layer| 0.1f64.powi(layer as i32) * (1.0 + step as f64 / 100.0)),
        });
        if step % 100 == 0 {
            let validation = Numbers(vec![("loss".into(), loss * 1.1), ("accuracy".into(), 0.5)]);
            board.evaluation(&EvaluationRecord { step, epoch: 1, train: Numbers::default(), validation, best: true });
        }
    }
    board
}

fn look(step: u64, dead: f64, warnings: Vec<Warning>) -> FlowRecord {
    let [one, small] = [Number(1.0), Number(0.002)];
    let layer = WatchedLayer {
        path: "blocks.1.linear".into(),
        output: one,
        spread: one,
        gradient: one,
        flat: Some(0.25),
        dead: Some(dead),
        weight: one,
        weight_gradient: one,
        update: small,
    };
    FlowRecord { step, network: None, loss: one, gradient_norm: one, rate: None, layers: vec![layer], warnings }
}

fn warning(diagnosis: &str) -> Warning {
    Warning {
        diagnosis: diagnosis.into(),
        paths: vec!["blocks.1.linear".into()],
        evidence: "73 % of the units have slope 0".into(),
        change: "lower the learning rate".into(),
    }
}

fn page(board: &Board, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let time = Duration::from_secs(65);
    terminal.draw(|frame| View { colours: true }.draw(board, time, frame.area(), frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(width as usize);
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n").collect()
}

#[test]
fn pages_show_what_there_is() {
    let watched = |mut board: Board, warnings: &[&str]| {
        board.look(&look(300, 0.73, warnings.iter().map(|name| warning(name)).collect()));
        board
    };
    let broken = {
        let mut board = board(2, 20);
        let layers = Numbers(vec![("blocks.0.linear".into(), f64::NAN), ("blocks.1.linear".into(), 1.0)]);
        board.step(&StepRecord { step: 21, epoch: 3, numbers: Numbers(vec![("loss".into(), f64::NAN)]), layers });
        board
    };
    // What is shown, on a page of this size, and what must and must not stand on it.
    type Case = (&'static str, Board, [u16; 2], &'static [&'static str], &'static [&'static str]);
    let cases: [Case; 9] = [
        ("before the first step", board(0, 0), [80, 24], &["runs/deep-1  step 0 of 1000", "0 %"], &["left"]),
        (
            "a training",
            board(4, 400),
            [80, 24],
            &[
                "runs/deep-1  step 400 of 1000  epoch 41  rate 0.00100  12345 parameters",
                " 40 %  1:05, 1:38 left, 6.15 steps/s",
                "loss  0.527, validation 0.580",
                "accuracy  82.4 %, validation 50.0 %",
                "gradient norms, 4 layers, 0.00106 ▁ to █ 4.95",
                "blocks.3.linear ▁",
                "▇",
                "no step was looked at yet",
                "q or Ctrl-C ends the training and keeps it",
            ],
            &["flat"],
        ),
        ("wide", board(4, 400), [160, 50], &["gradient   update  dead   output  flat"], &["nothing finite"]),
        ("a healthy look", watched(board(4, 400), &[]), [120, 40], &["nothing is wrong as of step 300", "73 %"], &[]),
        (
            "warnings, the newest first",
            watched(watched(board(4, 400), &["dead units"]), &["vanishing gradient"]),
            [100, 30],
            &[
                "2 warnings, the last look at step 300",
                "step 300: vanishing gradient in blocks.1.linear: 73 % of the units",
                "  change lower the learning rate",
                "step 300: dead units",
            ],
            &[],
        ),
        ("too many layers", board(40, 50), [80, 24], &[" of 40 layers", "blocks.0.linear", "blocks.39.linear"], &[]),
        ("what is not finite", broken, [80, 24], &["!", "NaN"], &[]),
        ("a small page", board(4, 400), [30, 8], &["step 400", "ends the training"], &[]),
        ("no room", board(4, 400), [10, 3], &[], &["step"]),
    ];
    let mut problems = Vec::new();
    for (name, board, [width, height], with, without) in cases {
        let page = page(&board, width, height);
        let missing: Vec<&str> = with.iter().filter(|part| !page.contains(**part)).copied().collect();
        let surplus: Vec<&str> = without.iter().filter(|part| page.contains(**part)).copied().collect();
        if !missing.is_empty() || !surplus.is_empty() {
            problems.push(format!("{name}: without {missing:?}, with {surplus:?}\n{page}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_size_of_page_is_drawn() {
    let mut all = board(7, 300);
    all.look(&look(200, 0.9, vec![warning("dead units")]));
    for width in [1, 19, 20, 21, 37, 60, 75, 76, 77, 100, 250] {
        for height in [1, 3, 4, 5, 7, 8, 9, 12, 20, 70] {
            page(&all, width, height);
            page(&Board::default(), width, height);
        }
    }
}

#[test]
fn levels_cover_the_scale() {
    let cases = [(1e-3, 0), (1.0001e-3, 0), (0.03, 3), (0.999, 7), (1.0, 7), (0.0, 0)];
    for (norm, expected) in cases {
        assert_eq!(level(norm, 1e-3, 1.0), expected, "{norm}");
    }
    assert_eq!(level(2.0, 2.0, 2.0), 3);
    assert_eq!(ending("blocks.3.attention.query", 10), "…ion.query");
    assert_eq!((clock(5.4), clock(3723.0)), ("0:05".into(), "1:02:03".into()));
    assert_eq!(spread(10, 3), [0, 4, 9]);
}
