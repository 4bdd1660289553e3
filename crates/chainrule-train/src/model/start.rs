//! How weights start, where a file says it: `init = "kaiming_normal"`, `init = { normal = 0.02 }`.
//!
//! It counts for every weight of two axes and more; biases start at 0 then, and what norms multiply by stays 1. Layers
//! that are told nothing start as PyTorch's do. `residual` is another number for the last weights of a transformer's
//! branches, which GPT-2 starts smaller by √(2·layers).

use chainrule::tensor::{Key, Tensor};
use chainrule::tree::{self, Role, Tree};
use chainrule_nn::init::{self, Fan, Gain};

use super::source::{Item, Problem, Value};

/// A rule for first values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    rule: &'static Rule,
    number: f64,
    /// For the last weight of a transformer's branches.
    residual: f64,
}

/// One word of the file.
#[derive(Debug)]
pub(crate) struct Rule {
    pub name: &'static str,
    /// What the number in a table means, and what it is without one.
    pub number: &'static str,
    usual: f64,
    pub help: &'static str,
    draw: fn(&Key, &Tensor, f64) -> Tensor,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.name == other.name
    }
}

fn fan(weight: &Tensor) -> Fan {
    match weight.shape() {
        [output, input] => Fan::dense(*input, *output),
        shape => Fan::kernel(shape),
    }
}

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "normal",
        number: "standard deviation",
        usual: 0.02,
        help: "N(0, s²)",
        draw: |key, w, std| init::normal(key, w.shape(), std, w.dtype()),
    },
    Rule {
        name: "truncated_normal",
        number: "standard deviation",
        usual: 0.02,
        help: "N(0, s²) within ±2s",
        draw: |key, w, std| match std > 0.0 {
            true => init::truncated_normal(key, w.shape(), std, [-2.0 * std, 2.0 * std], w.dtype()),
            false => w.zeros_like(),
        },
    },
    Rule {
        name: "orthogonal",
        number: "gain",
        usual: 1.0,
        help: "rows or columns at right angles, of length gain",
        draw: |key, w, gain| init::orthogonal(key, w.shape(), Gain::Factor(gain), w.dtype()),
    },
    Rule {
        name: "uniform",
        number: "bound",
        usual: 0.05,
        help: "U(−b, b)",
        draw: |key, w, bound| init::uniform(key, w.shape(), bound, w.dtype()),
    },
    Rule {
        name: "xavier_uniform",
        number: "gain",
        usual: 1.0,
        help: "U(−b, b), b = gain·√(6 / (fan_in + fan_out))",
        draw: |key, w, gain| init::glorot_uniform(key, w.shape(), fan(w), Gain::Factor(gain), w.dtype()),
    },
    Rule {
        name: "xavier_normal",
        number: "gain",
        usual: 1.0,
        help: "N(0, s²), s = gain·√(2 / (fan_in + fan_out))",
        draw: |key, w, gain| init::glorot_normal(key, w.shape(), fan(w), Gain::Factor(gain), w.dtype()),
    },
    Rule {
        name: "kaiming_uniform",
        number: "gain",
        usual: std::f64::consts::SQRT_2,
        help: "U(−b, b), b = gain·√(3 / fan_in)",
        draw: |key, w, gain| init::kaiming_uniform(key, w.shape(), fan(w), Gain::Factor(gain), w.dtype()),
    },
    Rule {
        name: "kaiming_normal",
        number: "gain",
        usual: std::f64::consts::SQRT_2,
        help: "N(0, s²), s = gain / √fan_in",
        draw: |key, w, gain| init::kaiming_normal(key, w.shape(), fan(w), Gain::Factor(gain), w.dtype()),
    },
    Rule {
        name: "lsuv",
        number: "",
        usual: 1.0,
        help: "orthogonal, then scaled until the layer's outputs on the first examples have variance 1 (Mishkin and Matas)",
        draw: |key, w, gain| init::orthogonal(key, w.shape(), Gain::Factor(gain), w.dtype()),
    },
    Rule { name: "zeros", number: "", usual: 0.0, help: "0", draw: |_, w, _| w.zeros_like() },
];

impl Start {
    /// `"word"`, `{ word = number }`, or `{ word = number, residual = number }`.
    pub fn read(item: &Item) -> Result<Start, Problem> {
        let (word, span, numbers) = match &item.value {
            Value::Text(word) => (word.as_str(), &item.span, None),
            Value::Table(entries) => match &entries[..] {
                [rule] => (rule.key.as_str(), &rule.at, Some((number(&rule.item)?, None))),
                [rule, last] if last.key == "residual" => {
                    (rule.key.as_str(), &rule.at, Some((number(&rule.item)?, Some(number(&last.item)?))))
                }
                _ => return Err(unreadable(item)),
            },
            _ => return Err(unreadable(item)),
        };
        let Some(rule) = RULES.iter().find(|rule| rule.name == word) else {
            let problem = Problem::new(span, format!("there is no `init` of the name `{word}`"));
            return Err(problem.nearest(word, RULES.iter().map(|rule| rule.name)));
        };
        let (number, residual) = numbers.unwrap_or((rule.usual, None));
        Ok(Start { rule, number, residual: residual.unwrap_or(number) })
    }

    /// Whether the layer is scaled by what it gives, when there are data.
    pub fn settles(&self) -> bool {
        self.rule.name == "lsuv"
    }

    /// The same layer with first values by this rule.
    pub fn apply<T: Tree>(&self, layer: &T, key: &Key) -> T {
        let mut drawn = 0i64;
        tree::map_named(layer, |path, role, leaf| {
            drawn += 1;
            match role {
                Role::Parameter if leaf.rank() >= 2 => {
                    let last = ["output.weight", "down.weight"].iter().any(|end| path.ends_with(end));
                    let number = if last { self.residual } else { self.number };
                    (self.rule.draw)(&key.fold(&Tensor::from(drawn)), leaf, number)
                }
                Role::Parameter if path.contains("bias") => leaf.zeros_like(),
                _ => leaf.clone(),
            }
        })
    }
}

/// Whether outputs of this variance are to be scaled: not if it is near 1 or no number to scale by.
pub(crate) fn is_to_scale(variance: f64) -> bool {
    variance.is_finite() && variance > 0.0 && (variance - 1.0).abs() >= 0.01
}

/// The same layer with its weights, not its biases, times a factor. Computed.
pub(crate) fn scaled<T: Tree>(layer: &T, factor: f64) -> T {
    tree::map_named(layer, |_, role, leaf| match role {
        Role::Parameter if leaf.rank() >= 2 => (leaf * factor).eval(),
        _ => leaf.clone(),
    })
}

fn unreadable(item: &Item) -> Problem {
    let problem = Problem::new(&item.span, "`init` is a word, or a table with one word and its number");
    problem.hint("such as \"kaiming_normal\" or { normal = 0.02 }")
}

/// A number from 0.
fn number(item: &Item) -> Result<f64, Problem> {
    let number = match item.value {
        Value::Integer(number) => number as f64,
        Value::Number(number) => number,
        _ => f64::NAN,
    };
    match number.is_finite() && number >= 0.0 {
        true => Ok(number),
        false => Err(Problem::new(&item.span, format!("first values take a number from 0, not {}", item.describe()))),
    }
}

/// The same layers with zeros in the last one that has parameters: a branch that starts as nothing.
pub(crate) fn zero_last<T: Tree>(layers: &T) -> T {
    let named = tree::named_leaves(layers);
    let last = named.iter().rfind(|leaf| leaf.1 == Role::Parameter).map(|leaf| leaf.0.clone()).unwrap_or_default();
    let under = last.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
    tree::map_named(layers, |path, role, leaf| match role {
        Role::Parameter if path.starts_with(&under) => leaf.zeros_like(),
        _ => leaf.clone(),
    })
}
