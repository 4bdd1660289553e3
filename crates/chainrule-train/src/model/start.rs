//! How weights start, where a file says it: `init = "kaiming_normal"`, `init = { normal = 0.02 }`.
//!
//! It counts for every weight of two axes and more; biases start at 0 then, and what norms multiply by stays 1. Layers
//! that are told nothing start as PyTorch's do.

use chainrule::tensor::{Key, Tensor};
use chainrule::tree::{self, Role, Tree};
use chainrule_nn::init::{self, Fan, Gain};

use super::source::{Item, Problem, Value, nearest};

/// A rule for first values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    rule: &'static Rule,
    number: f64,
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
    Rule { name: "zeros", number: "", usual: 0.0, help: "0", draw: |_, w, _| w.zeros_like() },
];

impl Start {
    /// `"word"` or `{ word = number }`.
    pub fn read(item: &Item) -> Result<Start, Problem> {
        let names = || RULES.iter().map(|rule| rule.name);
        let (word, span, number) = match &item.value {
            Value::Text(word) => (word.as_str(), &item.span, None),
            Value::Table(entries) if entries.len() == 1 => {
                let number = match entries[0].item.value {
                    Value::Integer(number) => number as f64,
                    Value::Number(number) => number,
                    _ => {
                        return Err(Problem::new(
                            &entries[0].item.span,
                            "the number of a rule for first values is a number",
                        ));
                    }
                };
                if !number.is_finite() || number < 0.0 {
                    return Err(Problem::new(&entries[0].item.span, format!("first values cannot have {number}")));
                }
                (entries[0].key.as_str(), &entries[0].at, Some(number))
            }
            _ => {
                let problem = Problem::new(&item.span, "`init` is a word, or a table with one word and its number");
                return Err(problem.hint("such as \"kaiming_normal\" or { normal = 0.02 }"));
            }
        };
        let Some(rule) = RULES.iter().find(|rule| rule.name == word) else {
            return Err(
                Problem::new(span, format!("there is no `init` of the name `{word}`")).hint(nearest(word, names()))
            );
        };
        Ok(Start { rule, number: number.unwrap_or(rule.usual) })
    }

    /// The same layer with first values by this rule.
    pub fn apply<T: Tree>(&self, layer: &T, key: &Key) -> T {
        let mut drawn = 0i64;
        tree::map_named(layer, |path, role, leaf| {
            drawn += 1;
            match role {
                Role::Parameter if leaf.rank() >= 2 => {
                    (self.rule.draw)(&key.fold(&Tensor::from(drawn)), leaf, self.number)
                }
                Role::Parameter if path.contains("bias") => leaf.zeros_like(),
                _ => leaf.clone(),
            }
        })
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
