//! Layers over space: convolutions, their adjoints, pooling. The number of axes that come in says how many dimensions.

use chainrule::tensor::Type;
use chainrule_nn::layer::{
    Conv, ConvTranspose, Pool, adaptive_average_pool, adaptive_max_pool, global_average_pool, global_max_pool,
};

use super::super::build::{Scope, shown};
use super::super::fields::{Field, Form, Options};
use super::super::module::Module;
use super::super::source::{Problem, Value};
use super::{Kind, axes, float, holds};

/// Options of an axis of space.
struct Axis {
    size: usize,
    window: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Axis {
    /// Places that the window reaches over.
    fn reach(&self) -> usize {
        self.dilation * (self.window - 1) + 1
    }
}

const STRIDE: Field = Field { name: "stride", form: Form::Counts, default: "1", help: "steps of the kernel" };
const PADDING: Field =
    Field { name: "padding", form: Form::Padding, default: "0", help: "zeros at both ends; \"same\" keeps the size" };
const ZEROS: Field = Field { name: "padding", form: Form::Wholes, default: "0", help: "places added at both ends" };
const DILATION: Field =
    Field { name: "dilation", form: Form::Counts, default: "1", help: "1 + the gap between the kernel's elements" };
const GROUPS: Field =
    Field { name: "groups", form: Form::Count, default: "1", help: "channel groups that do not see each other" };
const BIAS: Field = Field { name: "bias", form: Form::Flag, default: "true", help: "whether a bias is added" };

/// Refuses what is not channels with one to three axes of space.
fn spatial(what: &str, options: &Options, x: &Type) -> Result<(), Problem> {
    float(what, options, x)?;
    // An image of one channel says the most about what is meant.
    axes(what, options, x, (2, 4), "[channels, …] with one to three axes of space").map_err(|problem| {
        let numel: usize = x.shape[1..].iter().product();
        let side = (numel as f64).sqrt() as usize;
        match x.shape.len() {
            2 if side * side == numel => {
                problem.hint(format!("put {{ reshape = [1, {side}, {side}] }} before it if these are images"))
            }
            _ => problem,
        }
    })
}

/// An option for each axis of space.
fn each(options: &Options, name: &'static str, space: usize) -> Result<Vec<usize>, Problem> {
    if matches!(options.item(name).map(|item| &item.value), Some(Value::Text(_))) {
        return Ok(vec![0; space]);
    }
    let list = options.counts(name);
    match list.len() {
        1 => Ok(vec![list[0]; space]),
        n if n == space => Ok(list),
        n => Err(options.problem(name, format!("`{name}` has {n} entries, and there are {space} axes of space"))),
    }
}

/// The axes of space with their options; `window` is the option that says how large the kernel is.
fn space(options: &Options, window: &'static str, x: &Type) -> Result<Vec<Axis>, Problem> {
    let sizes = &x.shape[2..];
    let window = each(options, window, sizes.len())?;
    let stride = if options.has("stride") { each(options, "stride", sizes.len())? } else { window.clone() };
    let padding = each(options, "padding", sizes.len())?;
    let dilation = each(options, "dilation", sizes.len())?;
    let axis = |i: usize| Axis {
        size: sizes[i],
        window: window[i],
        stride: stride[i],
        padding: padding[i],
        dilation: dilation[i],
    };
    Ok((0..sizes.len()).map(axis).collect())
}

fn column(axes: &[Axis], get: fn(&Axis) -> usize) -> Vec<usize> {
    axes.iter().map(get).collect()
}

/// Refuses windows that are larger than what they go over.
fn fits(what: &str, options: &Options, window: &str, space: &[Axis], x: &Type) -> Result<(), Problem> {
    match space.iter().find(|axis| axis.reach() > axis.size + 2 * axis.padding) {
        None => Ok(()),
        Some(axis) => {
            let message = format!("`{what}` reaches over {} places, and {} comes in", axis.reach(), shown(x));
            let padding = (axis.reach() - axis.size).div_ceil(2);
            let problem = options.problem(window, message);
            Err(problem.hint(format!("at most {} fit, or padding = {padding}", axis.size + 2 * axis.padding)))
        }
    }
}

/// Refuses groups that do not divide channels.
fn divides(options: &Options, name: &'static str, channels: &[(&str, usize)]) -> Result<(), Problem> {
    let groups = options.count(name);
    match channels.iter().find(|(_, channels)| channels % groups != 0) {
        None => Ok(()),
        Some((which, channels)) => {
            let message = format!("{groups} groups do not divide {channels} channels {which}");
            let divisors: Vec<String> =
                (1..=(*channels).min(512)).filter(|n| channels % n == 0).map(|n| n.to_string()).collect();
            Err(options.problem(name, message).hint(format!("it is one of: {}", divisors.join(", "))))
        }
    }
}

fn conv(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    spatial("conv", options, x)?;
    let (space, inputs) = (space(options, "kernel", x)?, x.shape[1]);
    let outputs = scope.size(options, "out", inputs)?;
    let same = matches!(options.item("padding").map(|item| &item.value), Some(Value::Text(_)));
    if same && space.iter().any(|axis| axis.stride != 1) {
        let problem = options.problem("padding", "padding \"same\" goes with a stride of 1 only");
        return Err(problem.hint(format!("padding = {} halves the size with stride = 2", (space[0].reach() - 1) / 2)));
    }
    if !same {
        fits("conv", options, "kernel", &space, x)?;
    }
    divides(options, "groups", &[("that come in", inputs), ("that go out", outputs)])?;
    let kernel = column(&space, |axis| axis.window);
    holds("conv", options, &[&[outputs, inputs], &kernel[..]].concat())?;
    let places: Vec<usize> = space.iter().map(|axis| axis.size + 2 * axis.padding).collect();
    holds("conv", options, &[&[x.shape[0], outputs.max(inputs)], &places[..]].concat())?;
    let layer = Conv::new(&scope.key(), inputs, outputs, kernel).stride(column(&space, |axis| axis.stride));
    let layer = layer.padding(column(&space, |axis| axis.padding)).dilation(column(&space, |axis| axis.dilation));
    let layer = layer.groups(options.count("groups"));
    let layer = if same { layer.same() } else { layer };
    let layer = if options.flag("bias") { layer } else { layer.without_bias() };
    Ok(Module::new(layer, |layer, x, _| layer.forward(x)))
}

fn conv_transpose(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    spatial("conv_transpose", options, x)?;
    let (space, inputs) = (space(options, "kernel", x)?, x.shape[1]);
    let outputs = scope.size(options, "out", inputs)?;
    let added = each(options, "output_padding", space.len())?;
    for (axis, &added) in space.iter().zip(&added) {
        let full = (axis.size - 1) * axis.stride + axis.reach() + added;
        if added >= axis.stride.max(axis.dilation) {
            let message = format!("`output_padding` is {added}, and must be less than the stride, {}", axis.stride);
            return Err(options.problem("output_padding", message));
        }
        if full <= 2 * axis.padding {
            let message = format!("nothing is left of {full} places when {} are taken off at both ends", axis.padding);
            return Err(options.problem("padding", message));
        }
    }
    divides(options, "groups", &[("that come in", inputs), ("that go out", outputs)])?;
    let kernel = column(&space, |axis| axis.window);
    holds("conv_transpose", options, &[&[inputs, outputs], &kernel[..]].concat())?;
    let places: Vec<usize> = space.iter().map(|axis| axis.size * axis.stride + axis.reach() + axis.stride).collect();
    holds("conv_transpose", options, &[&[x.shape[0], outputs.max(inputs)], &places[..]].concat())?;
    let layer = ConvTranspose::new(&scope.key(), inputs, outputs, kernel).stride(column(&space, |axis| axis.stride));
    let layer = layer.padding(column(&space, |axis| axis.padding)).dilation(column(&space, |axis| axis.dilation));
    let layer = layer.groups(options.count("groups")).output_padding(added);
    let layer = if options.flag("bias") { layer } else { layer.without_bias() };
    Ok(Module::new(layer, |layer, x, _| layer.forward(x)))
}

fn pool(what: &str, new: fn(Vec<usize>) -> Pool, options: &Options, x: &Type) -> Result<Module, Problem> {
    spatial(what, options, x)?;
    let space = space(options, "window", x)?;
    if let Some(axis) = space.iter().find(|axis| 2 * axis.padding > axis.reach()) {
        let message = format!("`padding` is {}, more than half of a window of {}", axis.padding, axis.reach());
        return Err(options.problem("padding", message));
    }
    fits(what, options, "window", &space, x)?;
    let windows: Vec<usize> = space.iter().map(|axis| (axis.size + 2 * axis.padding) * axis.window).collect();
    holds(what, options, &[&x.shape[..2], &windows[..]].concat())?;
    let layer = new(column(&space, |axis| axis.window)).stride(column(&space, |axis| axis.stride));
    let layer = layer.padding(column(&space, |axis| axis.padding)).dilation(column(&space, |axis| axis.dilation));
    let layer = if options.flag("ceil") { layer.ceil() } else { layer };
    let layer =
        if options.has("count_padding") && !options.flag("count_padding") { layer.without_padding() } else { layer };
    Ok(Module::new(layer, |layer, x, _| layer.forward(x)))
}

macro_rules! adaptive {
    ($name:literal, $what:literal, $function:ident) => {
        Kind {
            name: $name,
            help: concat!($what, " of so many equal parts of each axis of space"),
            shapes: "[channels, …] → [channels, sizes…]",
            owns: true,
            fields: &[Field { name: "sizes", form: Form::Counts, default: "1", help: "parts of each axis" }],
            make: |options, x, _| {
                spatial($name, options, x)?;
                let sizes = each(options, "sizes", x.shape.len() - 2)?;
                holds($name, options, &[&x.shape[..2], &sizes[..]].concat())?;
                if let Some((size, parts)) = x.shape[2..].iter().zip(&sizes).find(|(size, parts)| parts > size) {
                    return Err(options.problem("sizes", format!("{size} places do not make {parts} parts")));
                }
                Ok(Module::function(move |x| $function(x, sizes.clone())))
            },
        }
    };
}

macro_rules! global {
    ($name:literal, $what:literal, $function:ident) => {
        Kind {
            name: $name,
            help: concat!($what, " of each channel"),
            shapes: "[channels, …] → [channels]",
            owns: false,
            fields: &[],
            make: |options, x, _| {
                spatial($name, options, x)?;
                Ok(Module::function($function))
            },
        }
    };
}

const WINDOW: Field = Field { name: "window", form: Form::Counts, default: "2", help: "places of a window" };
const STEP: Field =
    Field { name: "stride", form: Form::Counts, default: "-", help: "steps of the window; as large as it without" };
const CEIL: Field =
    Field { name: "ceil", form: Form::Flag, default: "false", help: "the number of windows is rounded up" };

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "conv",
        help: "convolution over one, two or three axes of space",
        shapes: "[in, …] → [out, …], each axis ⌊(s + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1",
        owns: true,
        fields: &[
            Field { name: "out", form: Form::Size, default: "", help: "channels, such as 32" },
            Field { name: "kernel", form: Form::Counts, default: "3", help: "size of the kernel" },
            STRIDE,
            PADDING,
            DILATION,
            GROUPS,
            BIAS,
        ],
        make: conv,
    },
    Kind {
        name: "conv_transpose",
        help: "the adjoint of a convolution, which makes space larger",
        shapes: "[in, …] → [out, …], each axis (s − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1",
        owns: true,
        fields: &[
            Field { name: "out", form: Form::Size, default: "", help: "channels, such as 32" },
            Field { name: "kernel", form: Form::Counts, default: "3", help: "size of the kernel" },
            STRIDE,
            ZEROS,
            Field { name: "output_padding", form: Form::Wholes, default: "0", help: "places added at the high end" },
            DILATION,
            GROUPS,
            BIAS,
        ],
        make: conv_transpose,
    },
    Kind {
        name: "max_pool",
        help: "the largest of windows",
        shapes: "[channels, …] → [channels, …]",
        owns: true,
        fields: &[WINDOW, STEP, ZEROS, DILATION, CEIL],
        make: |options, x, _| pool("max_pool", Pool::max, options, x),
    },
    Kind {
        name: "avg_pool",
        help: "the mean of windows",
        shapes: "[channels, …] → [channels, …]",
        owns: true,
        fields: &[
            WINDOW,
            STEP,
            ZEROS,
            DILATION,
            CEIL,
            Field {
                name: "count_padding",
                form: Form::Flag,
                default: "true",
                help: "whether the padding counts in a mean",
            },
        ],
        make: |options, x, _| pool("avg_pool", Pool::average, options, x),
    },
    adaptive!("adaptive_max_pool", "the largest", adaptive_max_pool),
    adaptive!("adaptive_avg_pool", "the mean", adaptive_average_pool),
    global!("global_max_pool", "the largest", global_max_pool),
    global!("global_avg_pool", "the mean", global_average_pool),
];
