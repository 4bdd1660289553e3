//! Normalisation and dropout.

use chainrule::tensor::Type;
use chainrule_nn::layer::{
    BatchNorm, ChannelDropout, Dropout, GroupNorm, InstanceNorm, LayerNorm, PathDropout, RmsNorm,
};

use super::super::fields::{Field, Form, Options};
use super::super::module::Module;
use super::super::source::Problem;
use super::{Kind, axes, float};

const EPSILON: Field = Field { name: "epsilon", form: Form::Positive, default: "1e-5", help: "added to the variance" };
const AFFINE: Field =
    Field { name: "affine", form: Form::Flag, default: "true", help: "whether it has a scale and a shift" };
const AXES: Field = Field { name: "axes", form: Form::Count, default: "1", help: "over how many of the last axes" };

/// The sizes of the last axes that a norm goes over.
fn last(what: &str, options: &Options, x: &Type) -> Result<Vec<usize>, Problem> {
    float(what, options, x)?;
    let (count, rank) = (options.count("axes"), x.shape.len());
    if count >= rank {
        let message = format!("`{what}` over {count} axes, and {} comes in", super::shown(x));
        return Err(options.problem("axes", message).hint(format!("at most {}", rank - 1)));
    }
    Ok(x.shape[rank - count..].to_vec())
}

/// A dropout of a kind.
macro_rules! dropout {
    ($name:literal, $layer:ident, $help:literal, $least:literal) => {
        Kind {
            name: $name,
            help: $help,
            shapes: "any → the same",
            owns: true,
            fields: &[Field {
                name: "probability",
                form: Form::Share,
                default: "0.5",
                help: "how likely it is to be left out",
            }],
            make: |options, x, _| {
                float($name, options, x)?;
                axes($name, options, x, ($least, 7), "[channels, …]")?;
                let layer = $layer::new(options.number("probability"));
                Ok(Module::new(layer, |layer, x, pass| layer.forward(x, pass.context)).by_step(true))
            },
        }
    };
}

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "batch_norm",
        help: "each channel to mean 0 and variance 1 over the batch; in evaluation by running statistics",
        shapes: "[channels, …] → the same",
        owns: false,
        fields: &[
            Field { name: "momentum", form: Form::Share, default: "0.1", help: "of the running statistics" },
            EPSILON,
            AFFINE,
        ],
        make: |options, x, _| {
            float("batch_norm", options, x)?;
            axes("batch_norm", options, x, (1, 4), "[channels] or [channels, …]")?;
            if x.numel() / x.shape[1] < 2 {
                let problem =
                    Problem::new(&options.span, "`batch_norm` gets one number a channel, which has no variance");
                return Err(problem.hint("let batch in [train] be 2 or more"));
            }
            let layer = BatchNorm::new(x.shape[1]).momentum(options.number("momentum"));
            let layer = layer.epsilon(options.number("epsilon"));
            let layer = if options.flag("affine") { layer } else { layer.without_affine() };
            Ok(Module::new(layer, |layer, x, pass| layer.forward(x, pass.context)))
        },
    },
    Kind {
        name: "layer_norm",
        help: "the last axes of each example to mean 0 and variance 1",
        shapes: "any → the same",
        owns: false,
        fields: &[
            AXES,
            EPSILON,
            AFFINE,
            Field { name: "bias", form: Form::Flag, default: "true", help: "whether it has a shift" },
        ],
        make: |options, x, _| {
            let layer = LayerNorm::new(last("layer_norm", options, x)?).epsilon(options.number("epsilon"));
            let layer = if options.flag("bias") { layer } else { layer.without_bias() };
            let layer = if options.flag("affine") { layer } else { layer.without_affine() };
            Ok(Module::new(layer, |layer, x, _| layer.forward(x)).by_step(options.count("axes") + 2 <= x.shape.len()))
        },
    },
    Kind {
        name: "rms_norm",
        help: "the last axes of each example over the root of their mean square",
        shapes: "any → the same",
        owns: false,
        fields: &[
            AXES,
            Field { name: "epsilon", form: Form::Positive, default: "-", help: "added to the mean square" },
            AFFINE,
        ],
        make: |options, x, _| {
            let layer = RmsNorm::new(last("rms_norm", options, x)?);
            let layer = match options.maybe_number("epsilon") {
                Some(epsilon) => layer.epsilon(epsilon),
                None => layer,
            };
            let layer = if options.flag("affine") { layer } else { layer.without_affine() };
            Ok(Module::new(layer, |layer, x, _| layer.forward(x)).by_step(options.count("axes") + 2 <= x.shape.len()))
        },
    },
    Kind {
        name: "group_norm",
        help: "groups of channels of each example to mean 0 and variance 1",
        shapes: "[channels, …] → the same",
        owns: true,
        fields: &[
            Field { name: "groups", form: Form::Count, default: "", help: "which divide the channels" },
            EPSILON,
            AFFINE,
        ],
        make: |options, x, _| {
            float("group_norm", options, x)?;
            axes("group_norm", options, x, (2, 4), "[channels, …]")?;
            let (groups, channels) = (options.count("groups"), x.shape[1]);
            if channels % groups != 0 {
                return Err(options.problem("groups", format!("{groups} groups do not divide {channels} channels")));
            }
            let layer = GroupNorm::new(groups, channels).epsilon(options.number("epsilon"));
            let layer = if options.flag("affine") { layer } else { layer.without_affine() };
            Ok(Module::new(layer, |layer, x, _| layer.forward(x)))
        },
    },
    Kind {
        name: "instance_norm",
        help: "each channel of each example to mean 0 and variance 1",
        shapes: "[channels, …] → the same",
        owns: false,
        fields: &[
            EPSILON,
            Field { name: "affine", form: Form::Flag, default: "false", help: "whether it has a scale and a shift" },
            Field {
                name: "track",
                form: Form::Flag,
                default: "false",
                help: "whether evaluation goes by running statistics",
            },
            Field { name: "momentum", form: Form::Share, default: "0.1", help: "of the running statistics" },
        ],
        make: |options, x, _| {
            float("instance_norm", options, x)?;
            axes("instance_norm", options, x, (2, 4), "[channels, …]")?;
            let layer = InstanceNorm::new(x.shape[1]).epsilon(options.number("epsilon"));
            let layer = if options.flag("affine") { layer.affine() } else { layer };
            let layer = layer.momentum(options.number("momentum"));
            let layer = if options.flag("track") { layer.tracked() } else { layer };
            Ok(Module::new(layer, |layer, x, pass| layer.forward(x, pass.context)))
        },
    },
    dropout!("dropout", Dropout, "training leaves numbers out at random", 1),
    dropout!("channel_dropout", ChannelDropout, "training leaves whole channels out at random", 1),
    dropout!(
        "path_dropout",
        PathDropout,
        "training leaves whole examples out at random: for the end of a residual branch",
        1
    ),
];
