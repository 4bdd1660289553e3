//! Blocks of networks for images: residual ones, squeeze-and-excitation, patches.

use chainrule::tensor::Type;
use chainrule_nn::layer::{PatchEmbedding, PreActivationBlock, ResidualBlock, SqueezeExcite};

use super::super::build::{Scope, shown};
use super::super::fields::{Field, Form, Options};
use super::super::module::Module;
use super::super::source::Problem;
use super::{Kind, axes, float, holds};

const OUT: Field = Field { name: "out", form: Form::Size, default: "\"same\"", help: "channels that go out" };
const STRIDE: Field = Field { name: "stride", form: Form::Count, default: "1", help: "of its first convolution" };
const PATH: Field = Field {
    name: "path_dropout",
    form: Form::Share,
    default: "0.0",
    help: "training leaves the branch of whole examples out",
};
const ZERO: Field = Field { name: "zero_last", form: Form::Flag, default: "false", help: "it starts as its shortcut" };

/// Channels that come in and go out of a block, and its stride.
fn sizes(what: &str, options: &Options, x: &Type, scope: &Scope) -> Result<[usize; 3], Problem> {
    float(what, options, x)?;
    axes(what, options, x, (3, 3), "[channels, height, width]")?;
    let (inputs, outputs, stride) = (x.shape[1], scope.size(options, "out", x.shape[1])?, options.count("stride"));
    holds(what, options, &[inputs.max(outputs), outputs, 9])?;
    holds(what, options, &[x.shape[0], inputs.max(outputs), x.shape[2] + 2, x.shape[3] + 2])?;
    let values = |size: usize| (size - 1) / stride + 1;
    if x.shape[0] * values(x.shape[2]) * values(x.shape[3]) < 2 {
        let problem =
            Problem::new(&options.span, format!("`{what}` norms one number a channel, which has no variance"));
        return Err(problem.hint("let batch in [train] be 2 or more"));
    }
    Ok([inputs, outputs, stride])
}

macro_rules! residual {
    ($name:literal, $layer:ident, $help:literal) => {
        Kind {
            name: $name,
            help: $help,
            shapes: "[in, height, width] → [out, ⌈height/stride⌉, ⌈width/stride⌉]",
            owns: true,
            fields: &[OUT, STRIDE, PATH, ZERO],
            make: |options, x, scope| {
                let [inputs, outputs, stride] = sizes($name, options, x, scope)?;
                let block = $layer::new(&scope.key(), inputs, outputs, stride);
                let block = block.path_dropout(options.number("path_dropout"));
                let block = if options.flag("zero_last") { block.zero_branch() } else { block };
                Ok(Module::new(block, |block, x, pass| block.forward(x, pass.context)))
            },
        }
    };
}

pub(super) const KINDS: &[Kind] = &[
    residual!(
        "residual_block",
        ResidualBlock,
        "ResNet's basic block: relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))"
    ),
    residual!(
        "pre_activation_block",
        PreActivationBlock,
        "the residual block with norms and rectifiers before its convolutions"
    ),
    Kind {
        name: "squeeze_excite",
        help: "each channel times a weight from the mean of all channels",
        shapes: "[channels, …] → the same",
        owns: true,
        fields: &[Field { name: "reduced", form: Form::Size, default: "\"0.25x\"", help: "units between" }],
        make: |options, x, scope| {
            float("squeeze_excite", options, x)?;
            axes("squeeze_excite", options, x, (2, 4), "[channels, …]")?;
            let reduced = scope.size(options, "reduced", x.shape[1])?;
            holds("squeeze_excite", options, &[x.shape[0], reduced, x.shape[1]])?;
            let layer = SqueezeExcite::new(&scope.key(), x.shape[1], reduced);
            Ok(Module::new(layer, |layer, x, _| layer.forward(x)))
        },
    },
    Kind {
        name: "patch_embedding",
        help: "an image cut into patches, each made a vector",
        shapes: "[channels, …] → [patches, width]",
        owns: true,
        fields: &[
            Field { name: "width", form: Form::Count, default: "", help: "numbers of a vector" },
            Field { name: "patch", form: Form::Count, default: "4", help: "places of a patch along each axis" },
        ],
        make: |options, x, scope| {
            float("patch_embedding", options, x)?;
            axes("patch_embedding", options, x, (2, 4), "[channels, …]")?;
            let (width, patch) = (options.count("width"), options.count("patch"));
            if let Some(size) = x.shape[2..].iter().find(|&&size| size < patch) {
                let message = format!("a patch of {patch} is larger than {size}, a size of {}", shown(x));
                return Err(options.problem("patch", message));
            }
            let patches = vec![patch; x.shape.len() - 2];
            holds("patch_embedding", options, &[&[width, x.shape[1]], &patches[..]].concat())?;
            holds("patch_embedding", options, &[&[width, x.shape[0]], &x.shape[2..]].concat())?;
            let layer = PatchEmbedding::new(&scope.key(), x.shape[1], width, patches);
            Ok(Module::new(layer, |layer, x, _| layer.forward(x)))
        },
    },
];
