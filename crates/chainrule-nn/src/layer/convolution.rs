//! Convolutions and their adjoints over one, two or three spatial axes; the kernel's shape says which.

use super::IntoSizes;
use crate::init::{self, Fan};
use chainrule::tensor::{Convolution, DType, Key, Padding, Tensor};
use chainrule::tree::Tree;

/// Cross-correlation of `[N, in, S…]` with a kernel, plus a bias for each output channel; `[N, out, …]`.
///
/// The size of each axis becomes ⌊(S + 2·padding − dilation·(k − 1) − 1) / stride⌋ + 1.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let x = Tensor::zeros([1, 3, 32, 32], DType::F32);
/// let half = Conv::new(&Key::new(1), 3, 16, [3, 3]).stride(2).padding(1);
/// assert_eq!(half.forward(&x).shape(), [1, 16, 16, 16]);
/// let wide = Conv::new(&Key::new(1), 3, 6, [5, 5]).dilation(2).groups(3).same();
/// assert_eq!(wide.weight.shape(), [6, 1, 5, 5]);
/// assert_eq!(wide.forward(&x).shape(), [1, 6, 32, 32]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Conv {
    /// `[out, in/groups, k…]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// Stride, padding, dilation and groups.
    #[tree(skip)]
    pub options: Convolution,
    /// Padding is what keeps the size, whatever `options` says.
    #[tree(skip)]
    pub same: bool,
}

/// The adjoint of a convolution, also called deconvolution: `[N, in, S…]` grows to `[N, out, …]`.
///
/// The size of each axis becomes (S − 1)·stride − 2·padding + dilation·(k − 1) + output_padding + 1.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let grow = ConvTranspose::new(&Key::new(1), 8, 4, [3, 3]).stride(2).padding(1).output_padding(1);
/// assert_eq!(grow.forward(&Tensor::zeros([1, 8, 7, 7], DType::F32)).shape(), [1, 4, 14, 14]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct ConvTranspose {
    /// `[in, out/groups, k…]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
    /// Stride, padding, dilation and groups.
    #[tree(skip)]
    pub options: Convolution,
    /// Added to the size at the high end; one number counts for all axes.
    #[tree(skip)]
    pub output_padding: Vec<usize>,
}

/// Weight and bias of a kernel of so many spatial axes, uniform on ±1/√fan_in as in PyTorch.
#[track_caller]
fn first_values(key: &Key, channels: [usize; 2], outputs: usize, kernel: Vec<usize>) -> (Tensor, Option<Tensor>) {
    let [weight, bias] = key.split();
    let shape = [&channels[..], &kernel].concat();
    let bound = 1.0 / (Fan::kernel(&shape).input.max(1) as f64).sqrt();
    let weight = init::uniform(&weight, shape, bound, DType::F32);
    (weight, Some(init::uniform(&bias, [outputs], bound, DType::F32)))
}

/// Adds a value for each channel of `[N, C, …]`.
#[track_caller]
fn add_bias(y: Tensor, bias: &Option<Tensor>) -> Tensor {
    match bias {
        Some(bias) => &y + super::normalization::along_channels(bias, y.rank()),
        None => y,
    }
}

/// The options both kinds have.
macro_rules! options {
    ($layer:ident) => {
        impl $layer {
            /// The same layer without its bias.
            pub fn without_bias(self) -> $layer {
                $layer { bias: None, ..self }
            }

            /// With steps of the kernel, one number for all axes or one for each.
            pub fn stride(mut self, stride: impl IntoSizes) -> $layer {
                self.options.stride = stride.into_sizes();
                self
            }

            /// With so many zeros at both ends of the axes, one number for all or one for each.
            pub fn padding(mut self, padding: impl IntoSizes) -> $layer {
                let each = |&n: &usize| (n as isize, n as isize);
                self.options.padding = match &padding.into_sizes()[..] {
                    [all] => Padding::Both(*all),
                    sizes => Padding::Each(sizes.iter().map(each).collect()),
                };
                self
            }

            /// With 1 + the gap between a kernel's elements, one number for all axes or one for each.
            pub fn dilation(mut self, dilation: impl IntoSizes) -> $layer {
                self.options.dilation = dilation.into_sizes();
                self
            }

            /// With channel groups that do not see each other: as many as there were times this number. The kernel keeps
            /// that part of its second axis, and the first values the spread that PyTorch gives such a layer.
            ///
            /// # Panics
            /// If the number does not divide the channels.
            #[track_caller]
            pub fn groups(mut self, groups: usize) -> $layer {
                let [first, second] = [self.weight.size(0), self.weight.size(1)];
                assert!(
                    groups > 0 && first.is_multiple_of(groups) && second.is_multiple_of(groups),
                    concat!(stringify!($layer), ": {} groups of a kernel {}"),
                    groups,
                    self.weight.ty()
                );
                let spread = (groups as f64).sqrt();
                self.weight = self.weight.narrow(1, 0, second / groups) * spread;
                self.bias = self.bias.map(|bias| bias * spread);
                self.options.groups *= groups;
                self
            }
        }
    };
}
options!(Conv);
options!(ConvTranspose);

impl Conv {
    /// A kernel of these sizes, one an axis (a lone number is one axis), without stride, padding or groups. First
    /// values as PyTorch's: uniform on ±1/√(in·k…). In f32.
    #[track_caller]
    pub fn new(key: &Key, inputs: usize, outputs: usize, kernel: impl IntoSizes) -> Conv {
        let (weight, bias) = first_values(key, [outputs, inputs], outputs, kernel.into_sizes());
        Conv { weight, bias, options: Convolution::default(), same: false }
    }

    /// With the padding that keeps every axis' size, the larger half at the high end; the stride must be 1.
    pub fn same(self) -> Conv {
        Conv { same: true, ..self }
    }

    /// The layer's values.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let mut options = self.options.clone();
        if self.same {
            assert!(options.stride.iter().all(|&s| s == 1), "Conv: padding `same` with stride {:?}", options.stride);
            let each = |(i, &size): (usize, &usize)| {
                let dilation = options.dilation[if options.dilation.len() == 1 { 0 } else { i }];
                let total = (dilation * (size.max(1) - 1)) as isize;
                (total / 2, total - total / 2)
            };
            options.padding = Padding::Each(self.weight.shape()[2..].iter().enumerate().map(each).collect());
        }
        add_bias(x.conv(&self.weight, &options), &self.bias)
    }
}

impl ConvTranspose {
    /// A kernel of these sizes, one an axis (a lone number is one axis), without stride, padding or groups. First
    /// values as PyTorch's: uniform on ±1/√(out·k…). In f32.
    #[track_caller]
    pub fn new(key: &Key, inputs: usize, outputs: usize, kernel: impl IntoSizes) -> ConvTranspose {
        let (weight, bias) = first_values(key, [inputs, outputs], outputs, kernel.into_sizes());
        ConvTranspose { weight, bias, options: Convolution::default(), output_padding: vec![0] }
    }

    /// With so much added to the sizes at the high end, one number for all axes or one for each.
    pub fn output_padding(self, output_padding: impl IntoSizes) -> ConvTranspose {
        ConvTranspose { output_padding: output_padding.into_sizes(), ..self }
    }

    /// The layer's values.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        add_bias(x.conv_transpose(&self.weight, &self.options, &self.output_padding), &self.bias)
    }
}
