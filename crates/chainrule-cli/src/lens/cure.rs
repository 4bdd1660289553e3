//! Which changes of a model file are worth trying against what is wrong: a table, diagnosis by diagnosis.

use chainrule_lens::GradientFlow;
use chainrule_lens::flow::{Diagnosis, Training};
use chainrule_train::model::{Change, Spec};

/// The share of its weights that a usual step is long.
const USUAL_STEP: f64 = 1e-2;

/// Lists of changes, each to be made together.
pub fn changes(diagnosis: Diagnosis, flow: &GradientFlow, spec: &Spec, training: &Training) -> Vec<Vec<Change>> {
    let kinds = spec.kinds();
    let has = |names: &[&str]| names.iter().any(|name| kinds.contains(name));
    let squashes = has(&["tanh", "sigmoid", "softsign", "hard_tanh", "hard_sigmoid"]);
    // Recurrent weights keep lengths if they are orthogonal; others by the activation that follows.
    let word = match (has(&["rnn"]), squashes) {
        (true, _) => "orthogonal",
        (_, true) => "xavier_normal",
        _ => "kaiming_normal",
    };
    let start = || Change::Start(format!("\"{word}\""));
    let relu = || Change::Activation("\"relu\"".into());
    let kaiming = || Change::Start("\"kaiming_normal\"".into());
    let rate = training.optimizer.rate;
    let largest = flow.layers.iter().filter_map(|layer| layer.update_ratio).fold(0.0, f64::max);
    let usual = Change::Rate(if largest > 0.0 { short(rate * USUAL_STEP / largest) } else { rate / 10.0 });
    let stable = flow.largest_eigenvalue.filter(|&eigenvalue| eigenvalue > 0.0 && !flow.adaptive);
    let slower = match stable.map(|eigenvalue| (1.0 + flow.momentum) / eigenvalue) {
        Some(stable) if stable < rate => Change::Rate(short(stable)),
        _ => Change::Rate(rate / 10.0),
    };
    let clip = Change::ClipNorm(1.0);
    let warm = Change::WarmUp((training.steps / 2).max(1));
    let f32 = || Change::Precision("f32".into());
    match diagnosis {
        Diagnosis::Vanishing => vec![
            vec![start()],
            vec![relu()],
            vec![relu(), kaiming()],
            vec![Change::Norm],
            vec![Change::Residual],
            vec![relu(), Change::Norm],
            vec![relu(), Change::Residual],
            vec![Change::Norm, Change::Residual],
            vec![Change::Gates],
        ],
        Diagnosis::Exploding => vec![
            vec![start()],
            vec![clip],
            vec![Change::Norm],
            vec![Change::Residual],
            vec![Change::Norm, Change::Residual],
            vec![slower],
            vec![Change::Gates],
        ],
        Diagnosis::Saturated => {
            vec![vec![start()], vec![relu(), kaiming()], vec![Change::Norm], vec![Change::NormFirst]]
        }
        Diagnosis::DeadUnits => {
            vec![
                vec![start()],
                vec![Change::Activation("{ leaky_relu = 0.1 }".into())],
                vec![Change::Norm],
                vec![slower],
            ]
        }
        Diagnosis::SaturatedAttention | Diagnosis::Symmetric | Diagnosis::ZeroWeights => vec![vec![start()]],
        Diagnosis::MissingActivation => vec![vec![Change::Between]],
        Diagnosis::DoubleSoftmax => vec![vec![Change::Logits]],
        Diagnosis::InputScale => vec![vec![Change::NormFirst], vec![clip], vec![slower]],
        Diagnosis::Collapsed => vec![vec![Change::Norm], vec![start()]],
        Diagnosis::Underflow => vec![vec![Change::Precision("bf16".into())], vec![f32()]],
        Diagnosis::LossOfPrecision => vec![vec![f32()]],
        Diagnosis::NoWarmUp => vec![vec![warm], vec![slower]],
        Diagnosis::StepTooLarge if flow.adaptive => vec![vec![usual], vec![warm], vec![clip]],
        Diagnosis::StepTooLarge => vec![vec![slower], vec![warm], vec![clip]],
        Diagnosis::StepTooSmall => vec![vec![usual]],
        Diagnosis::NotFinite => vec![vec![start()], vec![Change::NormFirst], vec![slower], vec![f32()]],
        // What the file says it means: no change of it helps.
        Diagnosis::Unreachable
        | Diagnosis::WrongSign
        | Diagnosis::DominatedTerm
        | Diagnosis::BatchLeak
        | Diagnosis::EvaluationDiffers => Vec::new(),
    }
}

/// A number of one digit, as people write rates.
fn short(x: f64) -> f64 {
    format!("{x:.0e}").parse().unwrap_or(x)
}
