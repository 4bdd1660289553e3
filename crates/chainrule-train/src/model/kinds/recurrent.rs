//! Recurrent layers over `[time, features]`.

use chainrule::tensor::{Tensor, Type, concat};
use chainrule_nn::layer::{Gru, Lstm, Rnn};

use super::super::build::Scope;
use super::super::fields::{Field, Form, Options};
use super::super::module::Module;
use super::super::source::Problem;
use super::{Kind, axes, float, holds};

const HIDDEN: Field =
    Field { name: "hidden", form: Form::Size, default: "", help: "units of each layer and direction" };
const LAYERS: Field = Field { name: "layers", form: Form::Count, default: "1", help: "layers, one over the other" };
const BIDIRECTIONAL: Field = Field {
    name: "bidirectional",
    form: Form::Flag,
    default: "false",
    help: "a second direction, from the end to the start",
};
const BIAS: Field = Field { name: "bias", form: Form::Flag, default: "true", help: "whether biases are there" };
const DROPOUT: Field = Field { name: "dropout", form: Form::Share, default: "0.0", help: "between layers" };
const TRUNCATE: Field =
    Field { name: "truncate", form: Form::Count, default: "-", help: "steps after which gradients are cut" };
const OUTPUT: Field = Field {
    name: "output",
    form: Form::Word(&["sequence", "state"]),
    default: "\"sequence\"",
    help: "every step, or the last layer's state after the last one",
};

/// Refuses what is not a sequence, and sizes no memory holds; the units of a layer.
fn hidden(what: &str, gates: usize, options: &Options, x: &Type, scope: &Scope) -> Result<usize, Problem> {
    float(what, options, x)?;
    axes(what, options, x, (2, 2), "[time, features]")?;
    if options.count("layers") > 1000 {
        return Err(options.problem("layers", "more than 1000 recurrent layers"));
    }
    let hidden = scope.size(options, "hidden", x.shape[2])?;
    holds(what, options, &[gates * hidden, hidden.max(x.shape[2]), 2 * options.count("layers")])?;
    holds(what, options, &[x.shape[0], x.shape[1], gates * hidden, 2])?;
    Ok(hidden)
}

/// What the last layer carries after the last step, its directions side by side: `[N, directions·hidden]`.
fn end(h: &Tensor, directions: usize) -> Tensor {
    let states = h.size(0);
    let last: Vec<Tensor> = (states - directions..states).map(|i| h.narrow(0, i, 1).squeeze(0)).collect();
    concat(&last, -1)
}

/// A recurrent layer of a kind; `$h` says where its state has what it says.
macro_rules! recurrent {
    ($name:literal, $layer:ident, $gates:literal, $help:literal, [$($field:expr),*], $change:expr, $h:expr) => {
        Kind {
            name: $name,
            help: $help,
            shapes: "[time, features] → [time, hidden], or [hidden] with output = \"state\"; twice as wide if bidirectional",
            owns: true,
            fields: &[HIDDEN, LAYERS, BIDIRECTIONAL, BIAS, DROPOUT, TRUNCATE, OUTPUT $(, $field)*],
            make: |options, x, scope| {
                let hidden = hidden($name, $gates, options, x, scope)?;
                let layer = $layer::new(&scope.key(), x.shape[2], hidden);
                let change: fn($layer, &Options) -> $layer = $change;
                let mut layer = change(layer, options);
                let directions = 1 + usize::from(options.flag("bidirectional"));
                if directions == 2 {
                    layer = layer.bidirectional(&scope.key());
                }
                layer = layer.stacked(&scope.key(), options.count("layers")).dropout(options.number("dropout"));
                if !options.flag("bias") {
                    layer = layer.without_bias();
                }
                if let Some(steps) = options.maybe_count("truncate") {
                    layer = layer.truncated(steps);
                }
                let whole = options.word("output") == "sequence";
                Ok(Module::new(layer, move |layer, x, pass| {
                    let (y, state) = layer.forward(x, None, None, pass.context);
                    let h = $h;
                    if whole { y } else { end(&h(state), directions) }
                }))
            },
        }
    };
}

const RECTIFIER: Field = Field {
    name: "activation",
    form: Form::Word(&["tanh", "relu"]),
    default: "\"tanh\"",
    help: "what the new state goes through",
};

pub(super) const KINDS: &[Kind] = &[
    recurrent!(
        "rnn",
        Rnn,
        1,
        "Elman's recurrent network",
        [RECTIFIER],
        |layer, options| if options.word("activation") == "relu" { layer.relu() } else { layer },
        |state: Tensor| state
    ),
    recurrent!("lstm", Lstm, 4, "long short-term memory", [], |layer, _| layer, |state: (Tensor, Tensor)| state.0),
    recurrent!("gru", Gru, 3, "gated recurrent units", [], |layer, _| layer, |state: Tensor| state),
];
