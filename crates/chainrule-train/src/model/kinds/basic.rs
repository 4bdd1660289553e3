//! Dense layers, activations, and layers that only move or reduce.

use chainrule::tensor::{DType, Tensor, Type};
use chainrule_nn::layer::{Bilinear, Embedding, Linear};

use super::super::build::Scope;
use super::super::fields::{Field, Form, Options};
use super::super::module::Module;
use super::super::source::Problem;
use super::{Kind, MASK, axes, axis, beside_time, float, holds, places_of, shown};

pub(super) const DENSE: &[Kind] = &[
    Kind {
        name: "linear",
        help: "y = x·Wᵀ + b over the last axis",
        shapes: "[…, in] → […, out]",
        owns: true,
        fields: &[
            Field { name: "out", form: Form::Size, default: "", help: "units, such as 128" },
            Field { name: "bias", form: Form::Flag, default: "true", help: "whether b is there" },
        ],
        make: |options, x, scope| {
            float("linear", options, x)?;
            axes("linear", options, x, (1, 7), "features")?;
            let inputs = x.shape[x.shape.len() - 1];
            let out = scope.size(options, "out", inputs)?;
            holds("linear", options, &[out, inputs])?;
            let layer = Linear::new(&scope.key(), inputs, out);
            let layer = if options.flag("bias") { layer } else { layer.without_bias() };
            Ok(Module::new(layer, |layer, x, _| layer.forward(x)).by_step(beside_time(x)))
        },
    },
    Kind {
        name: "bilinear",
        help: "yₖ = x₁ᵀ·Wₖ·x₂ + bₖ over the last axes of what comes in and of another value",
        shapes: "[…, in₁] and […, in₂] → […, out]",
        owns: true,
        fields: &[
            Field { name: "out", form: Form::Size, default: "", help: "units, such as 8" },
            Field { name: "with", form: Form::Name, default: "", help: "x₂: an input of the data, or what was kept" },
            Field { name: "bias", form: Form::Flag, default: "true", help: "whether b is there" },
        ],
        make: bilinear,
    },
    Kind {
        name: "embedding",
        help: "a vector for each class or token",
        shapes: "[…] of integers → […, width]",
        owns: true,
        fields: &[
            Field { name: "width", form: Form::Count, default: "", help: "numbers of a vector" },
            Field {
                name: "count",
                form: Form::Count,
                default: "-",
                help: "how many tokens there are; what the data has without",
            },
            Field {
                name: "padding",
                form: Form::Whole,
                default: "-",
                help: "a token that stands for nothing: its vector stays 0",
            },
        ],
        make: |options, x, scope| {
            if x.dtype.is_float() {
                let message = format!("`embedding` takes integers, and {} of {} come in", x.dtype, super::shown(x));
                return Err(Problem::new(&options.span, message).hint("leave it out: these are numbers already"));
            }
            let Some(count) = options.maybe_count("count").or(scope.classes) else {
                let problem = Problem::new(&options.span, "the data does not say how many tokens there are");
                return Err(problem.hint("add count = N"));
            };
            let width = options.count("width");
            holds("embedding", options, &[count, width])?;
            let layer = Embedding::new(&scope.key(), count, width);
            let layer = match options.maybe_count("padding") {
                Some(padding) if padding >= count => {
                    return Err(
                        options.problem("padding", format!("`padding` is {padding}, and there are {count} tokens"))
                    );
                }
                Some(padding) => layer.padding(padding),
                None => layer,
            };
            Ok(Module::new(layer, |layer, x, _| layer.forward(x)).by_step(true))
        },
    },
];

fn bilinear(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    float("bilinear", options, x)?;
    axes("bilinear", options, x, (1, 6), "features")?;
    let (word, other) = scope.value(options, "with")?;
    let (leading, alike) = (x.shape.len() - 1, other.shape.len() == x.shape.len() && other.dtype.is_float());
    if !alike || other.shape[..leading] != x.shape[..leading] {
        let message = format!(
            "`bilinear` takes two values alike but for the last axis, and gets {} and {}",
            shown(x),
            shown(&other)
        );
        return Err(options.problem("with", message));
    }
    let (first, second) = (x.shape[leading], other.shape[leading]);
    let out = scope.size(options, "out", first)?;
    holds("bilinear", options, &[out, first, second])?;
    holds("bilinear", options, &[&x.shape[..leading], &[out, second]].concat())?;
    let layer = Bilinear::new(&scope.key(), first, second, out);
    let layer = if options.flag("bias") { layer } else { layer.without_bias() };
    Ok(Module::new(layer, move |layer, x, pass| layer.forward(x, &pass.value(&word).cast(x.dtype()))))
}

/// An activation of one number.
macro_rules! activation {
    ($name:ident, $help:literal) => {
        Kind {
            name: stringify!($name),
            help: $help,
            shapes: "any → the same",
            owns: false,
            fields: &[],
            make: |options, x, _| {
                float(stringify!($name), options, x)?;
                Ok(Module::function(|x| x.$name()).by_step(true))
            },
        }
    };
    ($name:ident, $help:literal, $field:literal = $default:literal, $meaning:literal) => {
        Kind {
            name: stringify!($name),
            help: $help,
            shapes: "any → the same",
            owns: true,
            fields: &[Field { name: $field, form: Form::Positive, default: $default, help: $meaning }],
            make: |options, x, _| {
                float(stringify!($name), options, x)?;
                let number = options.number($field);
                Ok(Module::function(move |x| x.$name(number)).by_step(true))
            },
        }
    };
}

/// A function along an axis.
macro_rules! along {
    ($name:ident, $help:literal) => {
        Kind {
            name: stringify!($name),
            help: $help,
            shapes: "any → the same",
            owns: true,
            fields: &[Field { name: "axis", form: Form::Axis, default: "-1", help: "along which" }],
            make: |options, x, _| {
                float(stringify!($name), options, x)?;
                let axis = axis(options, "axis", x)? as isize;
                Ok(Module::function(move |x| x.$name(axis)).by_step(axis > 1))
            },
        }
    };
}

pub(super) const ACTIVATIONS: &[Kind] = &[
    activation!(relu, "max(x, 0)"),
    activation!(leaky_relu, "x above 0, slope·x below", "slope" = "0.01", "of what is below 0"),
    activation!(elu, "x above 0, α·(eˣ − 1) below", "alpha" = "1.0", "how far down it goes"),
    activation!(celu, "x above 0, α·(e^(x/α) − 1) below", "alpha" = "1.0", "how far down it goes"),
    activation!(selu, "the elu that keeps mean 0 and variance 1"),
    activation!(gelu, "x·Φ(x)"),
    activation!(gelu_tanh, "x·Φ(x) with the approximation by tanh that GPT-2 has"),
    activation!(silu, "x·σ(x), also called swish"),
    activation!(mish, "x·tanh(softplus(x))"),
    activation!(softplus, "ln(1 + eˣ)"),
    activation!(softsign, "x / (1 + |x|)"),
    activation!(tanh, "tanh x"),
    activation!(sigmoid, "1 / (1 + e⁻ˣ)"),
    activation!(log_sigmoid, "ln σ(x)"),
    activation!(hard_tanh, "x kept within ±1"),
    activation!(hard_sigmoid, "x/6 + ½ kept within 0 and 1"),
    along!(softmax, "eˣ / Σ eˣ along an axis"),
    along!(log_softmax, "x − ln Σ eˣ along an axis"),
    Kind {
        name: "glu",
        help: "a·σ(b) of the two halves a and b of an axis",
        shapes: "[…, 2n] → […, n]",
        owns: true,
        fields: &[Field { name: "axis", form: Form::Axis, default: "-1", help: "which is halved" }],
        make: |options, x, _| {
            float("glu", options, x)?;
            let axis = axis(options, "axis", x)?;
            if x.shape[axis] % 2 == 1 {
                let message = format!("`glu` halves axis {axis}, which has {}", x.shape[axis]);
                return Err(Problem::new(&options.span, message).hint("the size must be even"));
            }
            Ok(Module::function(move |x| x.glu(axis as isize)).by_step(axis > 1))
        },
    },
];

/// A reduction of an axis.
macro_rules! reduction {
    ($name:ident, $help:literal, $masked:expr) => {
        Kind {
            name: stringify!($name),
            help: $help,
            shapes: "[…, n, …] → […, …]",
            owns: true,
            fields: &[
                Field { name: "axis", form: Form::Axis, default: "", help: "which is taken together" },
                Field { help: "of axis 1: the input that says which places count, as of `attention`", ..MASK },
            ],
            make: |options, x, scope| {
                float(stringify!($name), options, x)?;
                let axis = axis(options, "axis", x)? as isize;
                if options.has("mask") {
                    let masked: fn(&Tensor, &Tensor) -> Tensor = $masked;
                    return over_places(options, axis, x, scope, masked);
                }
                Ok(Module::function(move |x| x.$name(axis)))
            },
        }
    };
}

/// Of `[N, time, …]`, what a function of it and of the places that count (bools `[N, time, 1, …]`) gives.
fn over_places(
    options: &Options,
    axis: isize,
    x: &Type,
    scope: &Scope,
    masked: fn(&Tensor, &Tensor) -> Tensor,
) -> Result<Module, Problem> {
    if axis != 1 {
        return Err(options.problem("mask", format!("a mask is of axis 1, and axis {axis} is taken together")));
    }
    let inside = places_of("mask", x.shape[1], options, scope)?;
    let more = x.shape.len() - 2;
    Ok(Module::new((), move |(), x, pass| {
        let inside = (0..more).fold(inside(pass), |inside, _| inside.unsqueeze(-1));
        masked(x, &inside)
    }))
}

/// One place of the first axis after that of examples.
macro_rules! pick {
    ($name:literal, $place:expr) => {
        Kind {
            name: $name,
            help: concat!("the ", $name, " step of a sequence"),
            shapes: "[time, …] → […]",
            owns: false,
            fields: &[],
            make: |options, x, _| {
                axes($name, options, x, (2, 7), "[time, features]")?;
                let place: fn(usize) -> usize = $place;
                Ok(Module::function(move |x| x.narrow(1, place(x.shape()[1]), 1).squeeze(1)))
            },
        }
    };
}

pub(super) const SHAPES: &[Kind] = &[
    Kind {
        name: "flatten",
        help: "all axes but that of examples become one",
        shapes: "[a, b, …] → [a·b·…]",
        owns: false,
        fields: &[],
        make: |_, _, _| Ok(Module::function(|x| x.reshape(vec![x.shape()[0], x.shape()[1..].iter().product()]))),
    },
    Kind {
        name: "reshape",
        help: "the same numbers with other axes; -1 is what is left",
        shapes: "[…] → [sizes…]",
        owns: true,
        fields: &[Field { name: "sizes", form: Form::Shape, default: "", help: "such as [1, 28, 28]" }],
        make: |options, x, _| {
            let sizes = options.integers("sizes");
            let numel: usize = x.shape[1..].iter().product();
            let known =
                sizes.iter().filter(|&&n| n > 0).try_fold(1usize, |product, &n| product.checked_mul(n as usize));
            let free = sizes.contains(&-1);
            let fits = known.is_some_and(|known| if free { numel.is_multiple_of(known) } else { numel == known });
            if !fits {
                let shape = super::shown(x);
                let message = format!("{sizes:?} cannot hold the {numel} numbers of {shape}");
                return Err(options.problem("sizes", message));
            }
            let left = numel / known.unwrap_or(1);
            let sizes: Vec<usize> = sizes.iter().map(|&n| if n < 0 { left } else { n as usize }).collect();
            Ok(Module::function(move |x| x.reshape([&[x.shape()[0]][..], &sizes].concat())))
        },
    },
    Kind {
        name: "transpose",
        help: "two axes change places",
        shapes: "[a, b] → [b, a]",
        owns: false,
        fields: &[
            Field { name: "first", form: Form::Axis, default: "1", help: "one axis" },
            Field { name: "second", form: Form::Axis, default: "2", help: "the other" },
        ],
        make: |options, x, _| {
            let (a, b) = (axis(options, "first", x)? as isize, axis(options, "second", x)? as isize);
            Ok(Module::function(move |x| x.swap_axes(a, b)))
        },
    },
    reduction!(mean, "the mean along an axis", |x, inside| {
        let count = inside.cast(x.dtype()).sum(1).maximum(1.0);
        inside.select(x, 0.0).sum(1) / count
    }),
    reduction!(sum, "the sum along an axis", |x, inside| inside.select(x, 0.0).sum(1)),
    reduction!(max, "the largest along an axis", |x, inside| {
        // Below any number that counts, and finite in every type.
        let least = if x.dtype() == DType::F16 { -6e4 } else { -1e30 };
        inside.select(x, least).max(1)
    }),
    pick!("first", |_| 0),
    pick!("last", |length| length - 1),
    Kind {
        name: "scale",
        help: "x·factor",
        shapes: "any → the same",
        owns: true,
        fields: &[Field { name: "factor", form: Form::Number, default: "", help: "such as 0.1" }],
        make: |options, x, _| {
            float("scale", options, x)?;
            let factor = options.number("factor");
            Ok(Module::function(move |x| x * factor).by_step(true))
        },
    },
];
