//! Recurrent layers over `[time, features]`, of sequences of their own lengths and from states that the data give.

use chainrule::tensor::{Tensor, Type, concat};
use chainrule::tree::{self, Tree};
use chainrule_nn::layer::{Cell, Gru, Lstm, Recurrent, Rnn};

use super::super::build::{Scope, shown};
use super::super::fields::{Field, Form, Options};
use super::super::module::{Module, Pass};
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

const LENGTHS: Field = Field {
    name: "lengths",
    form: Form::Name,
    default: "-",
    help: "the input that says how many steps of each sequence count; outputs past them are 0, the state is that at the end",
};
const INITIAL: Field = Field {
    name: "initial",
    form: Form::Name,
    default: "-",
    help: "the value [hidden], or [layers·directions, hidden], that the state starts from; zeros without",
};
const CELL: Field =
    Field { name: "cell", form: Form::Name, default: "-", help: "as `initial`, what the cell starts from" };

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

/// The name of the value that a state starts from, if it has the form `[hidden]` or `[states, hidden]`.
fn initial(
    name: &'static str,
    states: usize,
    hidden: usize,
    options: &Options,
    scope: &Scope,
) -> Result<String, Problem> {
    let (word, ty) = scope.value(options, name)?;
    let fits = ty.shape[1..] == [states, hidden] || (states == 1 && ty.shape[1..] == [hidden]);
    match fits && ty.dtype.is_float() {
        true => Ok(word),
        false => {
            let message =
                format!("`{name}` is {} of {}, and the state is {:?}", shown(&ty), ty.dtype, [states, hidden]);
            Err(options.problem(name, message))
        }
    }
}

/// A layer over sequences with the options that all kinds have.
fn recurrent<C: Cell>(
    what: &str,
    options: &Options,
    x: &Type,
    scope: &mut Scope,
    change: impl Fn(Recurrent<C>) -> Recurrent<C>,
) -> Result<Module, Problem>
where
    Recurrent<C>: Tree + Clone + Send + Sync + 'static,
{
    let hidden = hidden(what, C::GATES, options, x, scope)?;
    let directions = 1 + usize::from(options.flag("bidirectional"));
    let states = options.count("layers") * directions;
    let lengths = match options.has("lengths") {
        true => Some(super::lengths(options, "lengths", scope)?),
        false => None,
    };
    let given = ["initial", "cell"].into_iter().filter(|name| options.has(name));
    let start = given.map(|name| initial(name, states, hidden, options, scope)).collect::<Result<Vec<_>, _>>()?;
    if !start.is_empty() && start.len() != C::CARRIED {
        let name = if options.has("initial") { "initial" } else { "cell" };
        return Err(options.problem(name, "the state and the cell start together").hint("give `initial` and `cell`"));
    }
    let mut layer = change(Recurrent::new(&scope.key(), x.shape[2], hidden));
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
    // Backwards, to the end, and from or to places that the data say, a sequence cannot go step by step.
    let by_step = whole && directions == 1 && start.is_empty() && lengths.is_none();
    let forward = move |layer: &mut Recurrent<C>, x: &Tensor, pass: &mut Pass| {
        let Pass { context, walk, .. } = pass;
        if let Some(walk) = walk {
            return walk.carry(layer.initial(x.size(0), x.dtype()), |state| {
                let y;
                (y, *state) = layer.forward(x, Some(state), None, context);
                y
            });
        }
        let carried = |name: &String| {
            let value = pass.value(name).cast(x.dtype());
            value.reshape([x.size(0), states, hidden]).swap_axes(0, 1)
        };
        let start = (!start.is_empty()).then(|| C::state(start.iter().map(carried).collect()));
        let lengths = lengths.as_ref().map(|name| pass.value(name).clone());
        let (y, state) = layer.forward(x, start.as_ref(), lengths.as_ref(), pass.context);
        if whole { y } else { end(&tree::leaves(&state)[0], directions) }
    };
    Ok(Module::new(layer, forward).by_step(by_step))
}

const RECTIFIER: Field = Field {
    name: "activation",
    form: Form::Word(&["tanh", "relu"]),
    default: "\"tanh\"",
    help: "what the new state goes through",
};
const SHAPES: &str =
    "[time, features] → [time, hidden], or [hidden] with output = \"state\"; twice as wide if bidirectional";

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "rnn",
        help: "Elman's recurrent network",
        shapes: SHAPES,
        owns: true,
        fields: &[HIDDEN, LAYERS, BIDIRECTIONAL, BIAS, DROPOUT, TRUNCATE, OUTPUT, LENGTHS, INITIAL, RECTIFIER],
        make: |options, x, scope| {
            let relu = options.word("activation") == "relu";
            recurrent("rnn", options, x, scope, |layer: Rnn| if relu { layer.relu() } else { layer })
        },
    },
    Kind {
        name: "lstm",
        help: "long short-term memory",
        shapes: SHAPES,
        owns: true,
        fields: &[HIDDEN, LAYERS, BIDIRECTIONAL, BIAS, DROPOUT, TRUNCATE, OUTPUT, LENGTHS, INITIAL, CELL],
        make: |options, x, scope| recurrent("lstm", options, x, scope, |layer: Lstm| layer),
    },
    Kind {
        name: "gru",
        help: "gated recurrent units",
        shapes: SHAPES,
        owns: true,
        fields: &[HIDDEN, LAYERS, BIDIRECTIONAL, BIAS, DROPOUT, TRUNCATE, OUTPUT, LENGTHS, INITIAL],
        make: |options, x, scope| recurrent("gru", options, x, scope, |layer: Gru| layer),
    },
];
