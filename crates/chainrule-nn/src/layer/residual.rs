//! Blocks of networks for images: residual ones, squeeze-and-excitation, and patches as tokens.

use super::{BatchNorm, Conv, IntoSizes, Linear, PathDropout, global_average_pool};
use crate::context::Context;
use crate::init;
use chainrule::tensor::{Key, Tensor};
use chainrule::tree::Tree;

/// A k × k convolution without bias that keeps the size but for its stride.
#[track_caller]
fn conv(key: &Key, inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Conv {
    Conv::new(key, inputs, outputs, [kernel, kernel]).stride(stride).padding(kernel / 2).without_bias()
}

/// A 1 × 1 convolution and its norm, where a shortcut must change channels or size.
#[derive(Tree, Clone, Debug)]
pub struct Shortcut {
    /// `[out, in, 1, 1]`.
    pub conv: Conv,
    /// Of the output.
    pub norm: BatchNorm,
}

/// relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)) over `[N, C, H, W]`: the basic block of ResNet (K. He et al.,
/// "Deep residual learning for image recognition", 2015).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let mut block = ResidualBlock::new(&Key::new(1), 3, 8, 2);
/// let x = Key::new(2).normal([2, 3, 8, 8], DType::F32);
/// assert_eq!(block.forward(&x, &mut Context::training(Key::new(3))).shape(), [2, 8, 4, 4]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct ResidualBlock {
    /// 3 × 3, with the stride.
    pub conv1: Conv,
    /// Of the first convolution.
    pub norm1: BatchNorm,
    /// 3 × 3.
    pub conv2: Conv,
    /// Of the second convolution.
    pub norm2: BatchNorm,
    /// Where channels or size change; else x itself is added.
    pub shortcut: Option<Shortcut>,
    /// Leaves out the branch of whole examples, in training.
    pub path: PathDropout,
}

impl ResidualBlock {
    /// Between so many channels, with a stride of the first convolution and the shortcut.
    #[track_caller]
    pub fn new(key: &Key, inputs: usize, outputs: usize, stride: usize) -> ResidualBlock {
        let [first, second, third] = key.split();
        let shortcut = || Shortcut { conv: conv(&third, inputs, outputs, 1, stride), norm: BatchNorm::new(outputs) };
        ResidualBlock {
            conv1: conv(&first, inputs, outputs, 3, stride),
            norm1: BatchNorm::new(outputs),
            conv2: conv(&second, outputs, outputs, 3, 1),
            norm2: BatchNorm::new(outputs),
            shortcut: (inputs != outputs || stride != 1).then(shortcut),
            path: PathDropout::new(0.0),
        }
    }

    /// With the branches of whole examples left out at random, in training.
    #[track_caller]
    pub fn path_dropout(self, probability: f64) -> ResidualBlock {
        ResidualBlock { path: PathDropout::new(probability), ..self }
    }

    /// With zeros for the scale of the branch's last norm, so that the block starts as its shortcut.
    #[track_caller]
    pub fn zero_branch(mut self) -> ResidualBlock {
        self.norm2.weight = init::zeroed(&self.norm2.weight);
        self
    }

    /// The block's values.
    #[track_caller]
    pub fn forward(&mut self, x: &Tensor, context: &mut Context) -> Tensor {
        let y = self.norm1.forward(&self.conv1.forward(x), context).relu();
        let y = self.norm2.forward(&self.conv2.forward(&y), context);
        let straight = match &mut self.shortcut {
            Some(shortcut) => shortcut.norm.forward(&shortcut.conv.forward(x), context),
            None => x.clone(),
        };
        (self.path.forward(&y, context) + straight).relu()
    }
}

/// conv(relu(norm(conv(a)))) + shortcut with a = relu(norm(x)), over `[N, C, H, W]`: norms and rectifiers before the
/// convolutions, nothing after the sum (K. He et al., "Identity mappings in deep residual networks", 2016).
///
/// The shortcut is x, or where channels or size change a 1 × 1 convolution of a.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let mut block = PreActivationBlock::new(&Key::new(1), 3, 8, 2);
/// let x = Key::new(2).normal([2, 3, 8, 8], DType::F32);
/// assert_eq!(block.forward(&x, &mut Context::training(Key::new(3))).shape(), [2, 8, 4, 4]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct PreActivationBlock {
    /// Of the input.
    pub norm1: BatchNorm,
    /// 3 × 3, with the stride.
    pub conv1: Conv,
    /// Of the first convolution.
    pub norm2: BatchNorm,
    /// 3 × 3.
    pub conv2: Conv,
    /// Where channels or size change.
    pub shortcut: Option<Conv>,
    /// Leaves out the branch of whole examples, in training.
    pub path: PathDropout,
}

impl PreActivationBlock {
    /// Between so many channels, with a stride of the first convolution and the shortcut.
    #[track_caller]
    pub fn new(key: &Key, inputs: usize, outputs: usize, stride: usize) -> PreActivationBlock {
        let [first, second, third] = key.split();
        PreActivationBlock {
            norm1: BatchNorm::new(inputs),
            conv1: conv(&first, inputs, outputs, 3, stride),
            norm2: BatchNorm::new(outputs),
            conv2: conv(&second, outputs, outputs, 3, 1),
            shortcut: (inputs != outputs || stride != 1).then(|| conv(&third, inputs, outputs, 1, stride)),
            path: PathDropout::new(0.0),
        }
    }

    /// With the branches of whole examples left out at random, in training.
    #[track_caller]
    pub fn path_dropout(self, probability: f64) -> PreActivationBlock {
        PreActivationBlock { path: PathDropout::new(probability), ..self }
    }

    /// With zeros for the branch's last kernel, so that the block starts as its shortcut.
    #[track_caller]
    pub fn zero_branch(mut self) -> PreActivationBlock {
        self.conv2 = init::zeroed(&self.conv2);
        self
    }

    /// The block's values.
    #[track_caller]
    pub fn forward(&mut self, x: &Tensor, context: &mut Context) -> Tensor {
        let a = self.norm1.forward(x, context).relu();
        let y = self.norm2.forward(&self.conv1.forward(&a), context).relu();
        let branch = self.path.forward(&self.conv2.forward(&y), context);
        match &self.shortcut {
            Some(shortcut) => branch + shortcut.forward(&a),
            None => branch + x,
        }
    }
}

/// Weighs each channel of `[N, C, …]` by what all channels are on average: x·σ(excite(relu(squeeze(mean x))))
/// (J. Hu et al. 2018).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let layer = SqueezeExcite::new(&Key::new(1), 8, 2);
/// assert_eq!(layer.forward(&Tensor::zeros([2, 8, 4, 4], DType::F32)).shape(), [2, 8, 4, 4]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct SqueezeExcite {
    /// `[reduced, C]`.
    pub squeeze: Linear,
    /// `[C, reduced]`.
    pub excite: Linear,
}

impl SqueezeExcite {
    /// Over so many channels, with so many units between.
    #[track_caller]
    pub fn new(key: &Key, channels: usize, reduced: usize) -> SqueezeExcite {
        let [squeeze, excite] = key.split();
        SqueezeExcite {
            squeeze: Linear::new(&squeeze, channels, reduced),
            excite: Linear::new(&excite, reduced, channels),
        }
    }

    /// x with its channels weighed.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.squeeze.forward(&global_average_pool(x)).relu();
        let weight = self.excite.forward(&hidden).sigmoid();
        let shape: Vec<usize> = x.shape().iter().enumerate().map(|(i, &n)| if i < 2 { n } else { 1 }).collect();
        x * weight.reshape(shape)
    }
}

/// Cuts `[N, C, S…]` into patches and projects each to a vector: `[N, patches, d]`, row by row (A. Dosovitskiy et al.
/// 2020). What does not fill a patch at the high end is left out.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let layer = PatchEmbedding::new(&Key::new(1), 3, 32, [8, 8]);
/// assert_eq!(layer.forward(&Tensor::zeros([2, 3, 32, 24], DType::F32)).shape(), [2, 12, 32]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct PatchEmbedding {
    /// `[d, C, patch…]`, with the patch for stride.
    pub projection: Conv,
}

impl PatchEmbedding {
    /// Patches of these sizes, one an axis.
    #[track_caller]
    pub fn new(key: &Key, channels: usize, size: usize, patch: impl IntoSizes) -> PatchEmbedding {
        let patch = patch.into_sizes();
        PatchEmbedding { projection: Conv::new(key, channels, size, &patch[..]).stride(patch) }
    }

    /// The patches' vectors.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.projection.forward(x);
        let places = y.shape()[2..].iter().product();
        y.reshape([y.size(0), y.size(1), places]).swap_axes(1, 2)
    }
}
