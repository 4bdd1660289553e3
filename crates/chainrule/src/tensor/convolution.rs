//! Convolutions and pooling windows in one, two and three dimensions.

use super::op::{ConvDims, Dims, Windows};
use super::{Op, Reduction, ShapeError, Tensor};
use smallvec::SmallVec;
use std::sync::Arc;

/// Zeros around an operand of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The same number at both ends of every spatial axis.
    Both(usize),
    /// (low, high) of every spatial axis; negative ones crop.
    Each(Vec<(isize, isize)>),
}

/// How a convolution moves; every field counts for all spatial axes or is given for each.
///
/// ```
/// use chainrule::prelude::*;
/// let (x, kernel) = (Tensor::ones([1, 1, 5, 5], DType::F32), Tensor::ones([1, 1, 3, 3], DType::F32));
/// let y = x.conv(&kernel, &Convolution { padding: Padding::Both(1), ..Default::default() });
/// assert_eq!(y.shape(), [1, 1, 5, 5]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Steps of the kernel; one number counts for all axes.
    pub stride: Vec<usize>,
    /// Zeros around the operand.
    pub padding: Padding,
    /// 1 + gap between the kernel's elements; one number counts for all axes.
    pub dilation: Vec<usize>,
    /// Channel groups that do not see each other.
    pub groups: usize,
}

impl Default for Convolution {
    fn default() -> Convolution {
        Convolution { stride: vec![1], padding: Padding::Both(0), dilation: vec![1], groups: 1 }
    }
}

/// Windows of a pooling; every field counts for all spatial axes or is given for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// Sizes of the window.
    pub window: Vec<usize>,
    /// Steps of the window.
    pub stride: Vec<usize>,
    /// Elements added at both ends: −∞ for the largest, zeros that count for the average.
    pub padding: Vec<usize>,
    /// 1 + gap between the window's elements.
    pub dilation: Vec<usize>,
}

impl Pooling {
    /// Windows of this size that do not overlap.
    pub fn new(window: usize) -> Pooling {
        Pooling { window: vec![window], stride: vec![window], padding: vec![0], dilation: vec![1] }
    }
}

/// One entry an axis.
fn each(name: &str, list: &[usize], space: usize) -> Result<Dims, ShapeError> {
    match list.len() {
        1 => Ok(std::iter::repeat_n(list[0], space).collect()),
        n if n == space => Ok(list.into()),
        n => Err(ShapeError::new("conv", format!("{n} entries of {name} for {space} spatial axes"))),
    }
}

impl Tensor {
    /// Cross-correlation of [N, C, S…] with a kernel [O, C/groups, K…]: what deep learning calls convolution.
    ///
    /// y[n, o, s] = Σ x[n, c, s·stride + k·dilation − padding] · kernel[o, c, k]; the result is [N, O, …].
    ///
    /// # Panics
    /// If channels, ranks or options do not fit.
    #[track_caller]
    pub fn conv(&self, kernel: &Tensor, options: &Convolution) -> Tensor {
        match self.try_conv(kernel, options) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`Tensor::conv`] as a result.
    #[track_caller]
    pub fn try_conv(&self, kernel: &Tensor, options: &Convolution) -> Result<Tensor, ShapeError> {
        let space = self.rank().saturating_sub(2);
        let padding = match &options.padding {
            Padding::Both(n) => std::iter::repeat_n((*n as isize, *n as isize), space).collect(),
            Padding::Each(list) => list.iter().copied().collect::<SmallVec<[_; 3]>>(),
        };
        let dims = ConvDims {
            stride: each("stride", &options.stride, space)?,
            padding,
            lhs_dilation: std::iter::repeat_n(1, space).collect(),
            rhs_dilation: each("dilation", &options.dilation, space)?,
            groups: options.groups,
        };
        self.try_conv_general(kernel, dims)
    }

    /// The convolution with every option, dilation of the operand included.
    #[track_caller]
    pub fn try_conv_general(&self, kernel: &Tensor, dims: ConvDims) -> Result<Tensor, ShapeError> {
        Tensor::try_apply(Op::Conv(Arc::new(dims)), &[self.clone(), kernel.clone()])
    }

    /// The adjoint of a convolution with this kernel [C, O/groups, K…], also called deconvolution: [N, C, S…] grows
    /// to [N, O, (S − 1)·stride + dilation·(K − 1) + 1 − 2·padding + output_padding]. The output padding is one number for
    /// all axes or one for each.
    ///
    /// # Panics
    /// If channels, ranks or options do not fit.
    #[track_caller]
    pub fn conv_transpose(&self, kernel: &Tensor, options: &Convolution, output_padding: &[usize]) -> Tensor {
        match self.try_conv_transpose(kernel, options, output_padding) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`Tensor::conv_transpose`] as a result.
    #[track_caller]
    pub fn try_conv_transpose(
        &self,
        kernel: &Tensor,
        options: &Convolution,
        output_padding: &[usize],
    ) -> Result<Tensor, ShapeError> {
        let space = self.rank().saturating_sub(2);
        if space == 0
            || kernel.rank() != self.rank()
            || options.groups == 0
            || !kernel.shape()[0].is_multiple_of(options.groups)
        {
            let message = format!("{} by kernel {} in {} groups", self.ty(), kernel.ty(), options.groups);
            return Err(ShapeError::new("conv_transpose", message));
        }
        let dilation = each("dilation", &options.dilation, space)?;
        let extra = each("output_padding", output_padding, space)?;
        let padding = (0..space).map(|i| {
            let reach = (dilation[i] * (kernel.shape()[i + 2] - 1)) as isize;
            let (low, high) = match &options.padding {
                Padding::Both(n) => (*n as isize, *n as isize),
                Padding::Each(list) => list[i],
            };
            (reach - low, reach - high + extra[i] as isize)
        });
        let dims = ConvDims {
            stride: std::iter::repeat_n(1, space).collect(),
            padding: padding.collect(),
            lhs_dilation: each("stride", &options.stride, space)?,
            rhs_dilation: dilation,
            groups: options.groups,
        };
        self.try_conv_general(&kernel.mirrored(options.groups), dims)
    }

    /// A kernel [G·A, B, K…] as its adjoint sees it: [G·B, A, K…] with space reversed.
    #[track_caller]
    pub(crate) fn mirrored(&self, groups: usize) -> Tensor {
        let (a, b) = (self.shape()[0] / groups, self.shape()[1]);
        let space = &self.shape()[2..];
        let grouped = self.reshape([&[groups, a, b], space].concat()).swap_axes(1, 2);
        let spatial: Vec<isize> = (2..self.rank() as isize).collect();
        grouped.reshape([&[groups * b, a], space].concat()).flip(&spatial[..])
    }

    /// Sliding windows over the last axes: [.., S…] to [.., O…, K…] with
    /// y[.., o, k] = x[.., o·stride + k·dilation].
    ///
    /// # Panics
    /// If there are more windows than axes, or options do not fit.
    #[track_caller]
    pub fn windows(&self, window: &[usize], stride: &[usize], dilation: &[usize]) -> Tensor {
        let space = window.len();
        let positive = [window, stride, dilation].iter().all(|list| list.iter().all(|&v| v > 0));
        if space > self.rank() || !positive {
            panic!("windows: {window:?} by stride {stride:?} and dilation {dilation:?} over {}", self.ty());
        }
        let windows = each("stride", stride, space).and_then(|stride| {
            Ok(Windows {
                size: self.shape()[self.rank() - space..].into(),
                window: window.into(),
                stride,
                dilation: each("dilation", dilation, space)?,
            })
        });
        match windows {
            Ok(windows) => Tensor::apply(Op::Unfold(Arc::new(windows)), std::slice::from_ref(self)),
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn pooled(&self, space: usize, pooling: &Pooling, fill: f64, reduction: Reduction) -> (Tensor, usize) {
        let get = |name, list: &[usize]| match each(name, list, space) {
            Ok(list) => list,
            Err(error) => panic!("{error}"),
        };
        let window = get("window", &pooling.window);
        let mut amounts = vec![(0, 0); self.rank().saturating_sub(space)];
        amounts.extend(get("padding", &pooling.padding).iter().map(|&p| (p, p)));
        let windows = self.pad(&amounts, fill).windows(&window, &pooling.stride, &pooling.dilation);
        let axes: Dims = (windows.rank() - space..windows.rank()).collect();
        (Tensor::apply(Op::Reduce(reduction, axes), &[windows]), window.iter().product())
    }

    /// Largest of each window over all axes after the first two of [N, C, S…].
    #[track_caller]
    pub fn max_pool(&self, pooling: &Pooling) -> Tensor {
        self.pooled(self.rank().saturating_sub(2), pooling, f64::NEG_INFINITY, Reduction::Max).0
    }

    /// Mean of each window over all axes after the first two of [N, C, S…]; padding counts as zeros.
    #[track_caller]
    pub fn avg_pool(&self, pooling: &Pooling) -> Tensor {
        let (sum, count) = self.pooled(self.rank().saturating_sub(2), pooling, 0.0, Reduction::Sum);
        sum / count as f64
    }
}
