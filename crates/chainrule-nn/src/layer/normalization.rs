//! Normalisation layers: (x − mean) / √(variance + ε), then a learned scale and shift. They differ in which elements
//! share a mean. Half precision is computed in f32.

use super::IntoSizes;
use crate::context::Context;
use chainrule::tensor::{DType, Tensor};
use chainrule::tree::Tree;

/// A value for each channel, as it broadcasts over `[N, C, …]` of a rank.
#[track_caller]
pub(super) fn along_channels(values: &Tensor, rank: usize) -> Tensor {
    let mut shape = vec![1; rank.max(2) - 1];
    shape[0] = values.numel();
    values.reshape(shape)
}

/// A half as f32, anything else as it is.
#[track_caller]
fn wide(x: &Tensor) -> Tensor {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.cast(DType::F32),
        _ => x.clone(),
    }
}

/// y·weight + bias, each brought to a shape that broadcasts.
#[track_caller]
fn affine(y: Tensor, weight: &Option<Tensor>, bias: &Option<Tensor>, place: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let scaled = match weight {
        Some(weight) => y * place(&wide(weight)),
        None => y,
    };
    match bias {
        Some(bias) => scaled + place(&wide(bias)),
        None => scaled,
    }
}

/// A scale of ones and a shift of zeros: where all these layers start.
#[track_caller]
fn ones_and_zeros(shape: &[usize]) -> (Option<Tensor>, Option<Tensor>) {
    (Some(Tensor::ones(shape, DType::F32)), Some(Tensor::zeros(shape, DType::F32)))
}

/// (x − mean) / √(variance + ε) with a mean and a variance for each channel.
#[track_caller]
fn standardized(x: &Tensor, mean: &Tensor, variance: &Tensor, epsilon: f64) -> Tensor {
    let place = |values: &Tensor| along_channels(values, x.rank());
    (x - place(mean)) / place(&(variance + epsilon).sqrt())
}

/// The part of running statistics that a new batch has: the momentum, or as much as each batch so far.
#[track_caller]
fn new_part(momentum: Option<f64>, batches: &Tensor, dtype: DType) -> Tensor {
    match momentum {
        Some(momentum) => Tensor::full([], momentum, dtype),
        None => 1.0 / batches.cast(dtype),
    }
}

/// A running statistic moved by a part towards a new one.
#[track_caller]
fn moved(running: &Tensor, new: &Tensor, part: &Tensor) -> Tensor {
    running * (1.0 - part) + new * part
}

/// All axes of a rank but the first few.
fn after(first: usize, rank: usize) -> Vec<isize> {
    (first as isize..rank as isize).collect()
}

/// Asserts that x is `[N, C, …]` with so many channels.
#[track_caller]
fn check_channels(layer: &str, x: &Tensor, channels: usize) {
    assert!(
        x.rank() >= 2 && x.size(1) == channels,
        "{layer}: {} given to {channels} channels; the input is [N, {channels}, …]",
        x.ty()
    );
}

/// Normalises each channel of `[N, C, …]` over the batch and all places (S. Ioffe and C. Szegedy 2015).
///
/// Training normalises by the batch's mean and variance, and moves the running ones by the momentum towards them
/// (the variance with the unbiased estimate); evaluation normalises by the running ones.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let mut norm = BatchNorm::new(2);
/// let x = Tensor::from([[1.0f32, 10.0], [3.0, 30.0]]);
/// let y = norm.forward(&x, &mut Context::training(Key::new(1)));
/// assert!((y.at((1, 0)).item::<f32>() - 1.0).abs() < 1e-4);
/// assert!((norm.running_mean.at(0).item::<f32>() - 0.2).abs() < 1e-6);
/// assert_eq!(norm.num_batches_tracked.item::<i64>(), 1);
/// assert_eq!(norm.forward(&x, &mut Context::evaluation()).shape(), [2, 2]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct BatchNorm {
    /// Scale, `[C]`; starts at 1.
    pub weight: Option<Tensor>,
    /// Shift, `[C]`; starts at 0.
    pub bias: Option<Tensor>,
    /// `[C]`; starts at 0.
    #[tree(state)]
    pub running_mean: Tensor,
    /// `[C]`; starts at 1.
    #[tree(state)]
    pub running_var: Tensor,
    /// Training passes so far, i64.
    #[tree(state)]
    pub num_batches_tracked: Tensor,
    /// The new batch's part of the running statistics; without it, all batches count alike.
    #[tree(skip)]
    pub momentum: Option<f64>,
    /// Added to the variance.
    #[tree(skip)]
    pub epsilon: f64,
}

impl BatchNorm {
    /// For so many channels, with PyTorch's momentum 0.1 and ε = 10⁻⁵. In f32.
    #[track_caller]
    pub fn new(channels: usize) -> BatchNorm {
        let (weight, bias) = ones_and_zeros(&[channels]);
        BatchNorm {
            weight,
            bias,
            running_mean: Tensor::zeros([channels], DType::F32),
            running_var: Tensor::ones([channels], DType::F32),
            num_batches_tracked: Tensor::from(0i64),
            momentum: Some(0.1),
            epsilon: 1e-5,
        }
    }

    /// With another momentum.
    pub fn momentum(self, momentum: f64) -> BatchNorm {
        BatchNorm { momentum: Some(momentum), ..self }
    }

    /// With running statistics that are plain means over all batches so far.
    pub fn cumulative(self) -> BatchNorm {
        BatchNorm { momentum: None, ..self }
    }

    /// With another ε.
    pub fn epsilon(self, epsilon: f64) -> BatchNorm {
        BatchNorm { epsilon, ..self }
    }

    /// The same layer without scale and shift.
    pub fn without_affine(self) -> BatchNorm {
        BatchNorm { weight: None, bias: None, ..self }
    }

    /// x normalised. In training the running statistics become new expressions.
    ///
    /// # Panics
    /// If the channels differ, or in training a channel has fewer than two values.
    #[track_caller]
    pub fn forward(&mut self, x: &Tensor, context: &mut Context) -> Tensor {
        check_channels("BatchNorm", x, self.running_mean.numel());
        let place = |values: &Tensor| along_channels(values, x.rank());
        let wide_x = wide(x);
        let y = if context.is_training() {
            let axes: Vec<isize> = std::iter::once(0).chain(after(2, x.rank())).collect();
            self.track(&wide_x, &axes, context);
            wide_x.normalize(&axes[..], self.epsilon)
        } else {
            standardized(&wide_x, &self.running_mean, &self.running_var, self.epsilon)
        };
        affine(y, &self.weight, &self.bias, place).cast(x.dtype())
    }

    #[track_caller]
    fn track(&mut self, x: &Tensor, axes: &[isize], context: &Context) {
        let count = x.numel() / x.size(1).max(1);
        assert!(count > 1, "BatchNorm: {} has {count} values a channel; training takes two or more", x.ty());
        let x = x.stop_gradient();
        let (mean, variance) = (x.mean(axes), x.variance(axes, 1));
        self.num_batches_tracked = &self.num_batches_tracked + 1i64;
        let momentum = self.momentum.filter(|_| !context.is_gathering());
        let part = new_part(momentum, &self.num_batches_tracked, x.dtype());
        self.running_mean = moved(&self.running_mean, &mean, &part);
        self.running_var = moved(&self.running_var, &variance, &part);
    }
}

/// Normalises each place over its last axes, those of the given shape (J. L. Ba et al. 2016).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let y = LayerNorm::new(2).forward(&Tensor::from([[1.0f32, 3.0], [10.0, 30.0]]));
/// assert!((y.at((1, 1)).item::<f32>() - 1.0).abs() < 1e-3);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct LayerNorm {
    /// Scale, in the given shape; starts at 1.
    pub weight: Option<Tensor>,
    /// Shift, in the given shape; starts at 0.
    pub bias: Option<Tensor>,
    /// The sizes of the axes that are normalised, the last ones.
    #[tree(skip)]
    pub shape: Vec<usize>,
    /// Added to the variance.
    #[tree(skip)]
    pub epsilon: f64,
}

impl LayerNorm {
    /// Over the last axes of these sizes, with PyTorch's ε = 10⁻⁵. In f32.
    #[track_caller]
    pub fn new(shape: impl IntoSizes) -> LayerNorm {
        let shape = shape.into_sizes();
        let (weight, bias) = ones_and_zeros(&shape);
        LayerNorm { weight, bias, shape, epsilon: 1e-5 }
    }

    /// With another ε.
    pub fn epsilon(self, epsilon: f64) -> LayerNorm {
        LayerNorm { epsilon, ..self }
    }

    /// The same layer without its shift.
    pub fn without_bias(self) -> LayerNorm {
        LayerNorm { bias: None, ..self }
    }

    /// The same layer without scale and shift.
    pub fn without_affine(self) -> LayerNorm {
        LayerNorm { weight: None, bias: None, ..self }
    }

    /// x normalised.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let axes = last_axes("LayerNorm", x, &self.shape);
        affine(wide(x).normalize(&axes[..], self.epsilon), &self.weight, &self.bias, Tensor::clone).cast(x.dtype())
    }
}

/// The last axes of x, which have these sizes.
#[track_caller]
fn last_axes(layer: &str, x: &Tensor, shape: &[usize]) -> Vec<isize> {
    let first = x.rank().wrapping_sub(shape.len());
    assert!(x.shape().get(first..) == Some(shape), "{layer}: {} does not end with the axes {shape:?}", x.ty());
    after(first, x.rank())
}

/// x / √(mean x² + ε) over the last axes, times a scale (B. Zhang and R. Sennrich 2019).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let y = RmsNorm::new(2).forward(&Tensor::from([[3.0f32, 3.0]]));
/// assert!((y.at((0, 1)).item::<f32>() - 1.0).abs() < 1e-6);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct RmsNorm {
    /// Scale, in the given shape; starts at 1.
    pub weight: Option<Tensor>,
    /// The sizes of the axes that are normalised, the last ones.
    #[tree(skip)]
    pub shape: Vec<usize>,
    /// Added to the mean square; without it, the smallest step above 1 of the input's dtype, as in PyTorch.
    #[tree(skip)]
    pub epsilon: Option<f64>,
}

impl RmsNorm {
    /// Over the last axes of these sizes. In f32.
    #[track_caller]
    pub fn new(shape: impl IntoSizes) -> RmsNorm {
        let shape = shape.into_sizes();
        RmsNorm { weight: Some(Tensor::ones(&shape[..], DType::F32)), shape, epsilon: None }
    }

    /// With an ε.
    pub fn epsilon(self, epsilon: f64) -> RmsNorm {
        RmsNorm { epsilon: Some(epsilon), ..self }
    }

    /// The same layer without scale.
    pub fn without_affine(self) -> RmsNorm {
        RmsNorm { weight: None, ..self }
    }

    /// x normalised.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let axes = last_axes("RmsNorm", x, &self.shape);
        let epsilon = self.epsilon.unwrap_or(match x.dtype() {
            DType::F64 => f64::EPSILON,
            DType::BF16 => 2f64.powi(-7),
            DType::F16 => 2f64.powi(-10),
            _ => f32::EPSILON as f64,
        });
        let wide_x = wide(x);
        let size = (wide_x.square().mean_keepdims(&axes[..]) + epsilon).sqrt();
        affine(wide_x / size, &self.weight, &None, Tensor::clone).cast(x.dtype())
    }
}

/// Normalises groups of channels of `[N, C, …]` in each example (Y. Wu and K. He 2018).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let y = GroupNorm::new(2, 6).forward(&Tensor::iota([1, 6, 4, 4], 1, DType::F32));
/// assert!(y.narrow(1, 0, 3).mean(..).item::<f32>().abs() < 1e-6);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct GroupNorm {
    /// Scale, `[C]`; starts at 1.
    pub weight: Option<Tensor>,
    /// Shift, `[C]`; starts at 0.
    pub bias: Option<Tensor>,
    /// Number of groups.
    #[tree(skip)]
    pub groups: usize,
    /// Number of channels.
    #[tree(skip)]
    pub channels: usize,
    /// Added to the variance.
    #[tree(skip)]
    pub epsilon: f64,
}

impl GroupNorm {
    /// So many groups of so many channels together, with PyTorch's ε = 10⁻⁵. In f32.
    ///
    /// # Panics
    /// If the groups do not divide the channels.
    #[track_caller]
    pub fn new(groups: usize, channels: usize) -> GroupNorm {
        assert!(groups > 0 && channels.is_multiple_of(groups), "GroupNorm: {groups} groups of {channels} channels");
        let (weight, bias) = ones_and_zeros(&[channels]);
        GroupNorm { weight, bias, groups, channels, epsilon: 1e-5 }
    }

    /// With another ε.
    pub fn epsilon(self, epsilon: f64) -> GroupNorm {
        GroupNorm { epsilon, ..self }
    }

    /// The same layer without scale and shift.
    pub fn without_affine(self) -> GroupNorm {
        GroupNorm { weight: None, bias: None, ..self }
    }

    /// x normalised.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        check_channels("GroupNorm", x, self.channels);
        let grouped = [&[x.size(0), self.groups, self.channels / self.groups], &x.shape()[2..]].concat();
        let axes = after(2, grouped.len());
        let y = wide(x).reshape(grouped).normalize(&axes[..], self.epsilon).reshape(x.shape());
        affine(y, &self.weight, &self.bias, |values| along_channels(values, x.rank())).cast(x.dtype())
    }
}

/// Normalises each channel of each example of `[N, C, …]` over its places (D. Ulyanov et al. 2016). As in PyTorch it
/// has no scale and shift unless asked for, and does the same in training and evaluation unless it tracks statistics:
/// then evaluation goes by the running means of what examples had in training.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let (x, context) = (Tensor::iota([2, 3, 4], 2, DType::F32), &mut Context::training(Key::new(1)));
/// let y = InstanceNorm::new(3).forward(&x, context);
/// assert!(y.mean(-1).abs().max(..).item::<f32>() < 1e-6);
/// let mut tracked = InstanceNorm::new(3).tracked();
/// tracked.forward(&x, context);
/// assert!((tracked.running_mean.unwrap().at(0).item::<f32>() - 0.15).abs() < 1e-6);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct InstanceNorm {
    /// Scale, `[C]`.
    pub weight: Option<Tensor>,
    /// Shift, `[C]`.
    pub bias: Option<Tensor>,
    /// `[C]`, if it is tracked; starts at 0.
    #[tree(state)]
    pub running_mean: Option<Tensor>,
    /// `[C]`, if it is tracked; starts at 1.
    #[tree(state)]
    pub running_var: Option<Tensor>,
    /// Passes that only [gathered](Context::gathering) statistics, i64; others are not counted, as in PyTorch.
    #[tree(state)]
    pub num_batches_tracked: Option<Tensor>,
    /// Number of channels.
    #[tree(skip)]
    pub channels: usize,
    /// Added to the variance.
    #[tree(skip)]
    pub epsilon: f64,
    /// The new batch's part of running statistics.
    #[tree(skip)]
    pub momentum: f64,
}

impl InstanceNorm {
    /// For so many channels, with PyTorch's ε = 10⁻⁵.
    pub fn new(channels: usize) -> InstanceNorm {
        InstanceNorm {
            weight: None,
            bias: None,
            running_mean: None,
            running_var: None,
            num_batches_tracked: None,
            channels,
            epsilon: 1e-5,
            momentum: 0.1,
        }
    }

    /// With a scale of ones and a shift of zeros. In f32.
    #[track_caller]
    pub fn affine(self) -> InstanceNorm {
        let (weight, bias) = ones_and_zeros(&[self.channels]);
        InstanceNorm { weight, bias, ..self }
    }

    /// With running statistics that evaluation goes by (PyTorch's `track_running_stats`). In f32.
    #[track_caller]
    pub fn tracked(self) -> InstanceNorm {
        let (running_var, running_mean) = ones_and_zeros(&[self.channels]);
        InstanceNorm { running_mean, running_var, num_batches_tracked: Some(Tensor::from(0i64)), ..self }
    }

    /// With another ε.
    pub fn epsilon(self, epsilon: f64) -> InstanceNorm {
        InstanceNorm { epsilon, ..self }
    }

    /// With another momentum.
    pub fn momentum(self, momentum: f64) -> InstanceNorm {
        InstanceNorm { momentum, ..self }
    }

    /// x normalised. In training tracked statistics become new expressions.
    ///
    /// # Panics
    /// If the channels differ, or x has no axis of places; if they are tracked and a channel has fewer than two places.
    #[track_caller]
    pub fn forward(&mut self, x: &Tensor, context: &mut Context) -> Tensor {
        check_channels("InstanceNorm", x, self.channels);
        assert!(x.rank() > 2, "InstanceNorm: {} has no axis after its channels", x.ty());
        let (wide_x, axes) = (wide(x), after(2, x.rank()));
        let y = match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(variance)) if !context.is_training() => {
                standardized(&wide_x, mean, variance, self.epsilon)
            }
            _ => wide_x.normalize(&axes[..], self.epsilon),
        };
        if context.is_training() {
            self.track(&wide_x, &axes, context);
        }
        affine(y, &self.weight, &self.bias, |values| along_channels(values, x.rank())).cast(x.dtype())
    }

    #[track_caller]
    fn track(&mut self, x: &Tensor, axes: &[isize], context: &Context) {
        let (Some(mean), Some(variance)) = (&self.running_mean, &self.running_var) else { return };
        let places = x.shape()[2..].iter().product::<usize>();
        assert!(places > 1, "InstanceNorm: {} has {places} places a channel; statistics take two or more", x.ty());
        let mut momentum = Some(self.momentum);
        if context.is_gathering() {
            momentum = None;
            self.num_batches_tracked = self.num_batches_tracked.as_ref().map(|batches| batches + 1i64);
        }
        let one = Tensor::from(1i64);
        let part = new_part(momentum, self.num_batches_tracked.as_ref().unwrap_or(&one), x.dtype());
        let x = x.stop_gradient();
        let (new_mean, new_variance) = (x.mean(axes).mean(0), x.variance(axes, 1).mean(0));
        self.running_mean = Some(moved(mean, &new_mean, &part));
        self.running_var = Some(moved(variance, &new_variance, &part));
    }
}
