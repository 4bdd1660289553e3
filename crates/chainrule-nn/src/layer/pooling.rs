//! Pooling: the largest or the mean of windows, of equal parts of an axis (adaptive), or of all places (global).

use super::IntoSizes;
use chainrule::tensor::{DType, Pooling, Tensor, concat};
use chainrule::tree::Tree;

/// What is taken of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Max,
    Average,
}

impl Kind {
    #[track_caller]
    fn over(self, x: &Tensor, axes: &[isize]) -> Tensor {
        match self {
            Kind::Max => x.max_keepdims(axes),
            Kind::Average => x.mean_keepdims(axes),
        }
    }
}

/// The largest or the mean of windows over all axes after the first two of `[N, C, S…]`.
///
/// The size of each axis becomes ⌊(S + 2·padding − dilation·(window − 1) − 1) / stride⌋ + 1; `ceil` rounds up instead,
/// but no window starts in the padding at the high end. All as in PyTorch, but that the gradient at ties of the largest
/// is shared equally.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let x = Tensor::from([[[1.0, 2.0, 3.0, 4.0, 5.0]]]);
/// assert_eq!(Pool::max(2).forward(&x).to_vec::<f64>(), [2.0, 4.0]);
/// assert_eq!(Pool::max(2).ceil().forward(&x).to_vec::<f64>(), [2.0, 4.0, 5.0]);
/// assert_eq!(Pool::average(3).stride(2).padding(1).forward(&x).to_vec::<f64>(), [1.0, 3.0, 3.0]);
/// assert_eq!(Pool::average(3).stride(2).padding(1).without_padding().forward(&x).to_vec::<f64>(), [1.5, 3.0, 4.5]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Pool {
    #[tree(skip)]
    kind: Kind,
    /// Window, stride, padding and dilation.
    #[tree(skip)]
    pub pooling: Pooling,
    /// The number of windows is rounded up.
    #[tree(skip)]
    pub ceil: bool,
    /// The zeros of the padding count in a mean.
    #[tree(skip)]
    pub count_padding: bool,
}

impl Pool {
    fn new(kind: Kind, window: impl IntoSizes) -> Pool {
        let window = window.into_sizes();
        let pooling = Pooling { stride: window.clone(), window, padding: vec![0], dilation: vec![1] };
        Pool { kind, pooling, ceil: false, count_padding: true }
    }

    /// The largest of windows that do not overlap; one size for all axes or one for each.
    pub fn max(window: impl IntoSizes) -> Pool {
        Pool::new(Kind::Max, window)
    }

    /// The mean of windows that do not overlap; one size for all axes or one for each.
    pub fn average(window: impl IntoSizes) -> Pool {
        Pool::new(Kind::Average, window)
    }

    /// With steps of the window.
    pub fn stride(mut self, stride: impl IntoSizes) -> Pool {
        self.pooling.stride = stride.into_sizes();
        self
    }

    /// With so many places added at both ends: −∞ for the largest, zeros for the mean.
    pub fn padding(mut self, padding: impl IntoSizes) -> Pool {
        self.pooling.padding = padding.into_sizes();
        self
    }

    /// With 1 + the gap between a window's places.
    pub fn dilation(mut self, dilation: impl IntoSizes) -> Pool {
        self.pooling.dilation = dilation.into_sizes();
        self
    }

    /// With the number of windows rounded up.
    pub fn ceil(self) -> Pool {
        Pool { ceil: true, ..self }
    }

    /// With means over the places that are not padding.
    pub fn without_padding(self) -> Pool {
        Pool { count_padding: false, ..self }
    }

    /// The value of each window.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let axes = self.axes(x);
        let fill = if self.kind == Kind::Max { f64::NEG_INFINITY } else { 0.0 };
        let amounts = axes.iter().map(|axis| (axis.padding, axis.high));
        let amounts: Vec<(usize, usize)> = [(0, 0), (0, 0)].into_iter().chain(amounts).collect();
        let column = |get: fn(&Axis) -> usize| axes.iter().map(get).collect::<Vec<usize>>();
        let (window, stride, dilation) = (column(|a| a.window), column(|a| a.stride), column(|a| a.dilation));
        let windows = x.pad(&amounts, fill).windows(&window, &stride, &dilation);
        let last: Vec<isize> = (x.rank() as isize..windows.rank() as isize).collect();
        match self.kind {
            Kind::Max => windows.max(&last[..]),
            Kind::Average => windows.sum(&last[..]) / self.counts(&axes, x.dtype()),
        }
    }

    /// The options of each spatial axis.
    #[track_caller]
    fn axes(&self, x: &Tensor) -> Vec<Axis> {
        assert!(x.rank() > 2, "Pool: {} has no axis after its channels", x.ty());
        let space = x.rank() - 2;
        let get = |name: &str, list: &[usize], axis: usize| match list {
            [all] => *all,
            each if each.len() == space => each[axis],
            _ => panic!("Pool: {} entries of {name} for {space} spatial axes", list.len()),
        };
        let axis = |i: usize| {
            let p = &self.pooling;
            let window = get("window", &p.window, i);
            let (stride, padding) = (get("stride", &p.stride, i), get("padding", &p.padding, i));
            let dilation = get("dilation", &p.dilation, i);
            let size = x.shape()[i + 2];
            let reach = dilation * (window.max(1) - 1) + 1;
            assert!(window > 0 && stride > 0 && dilation > 0, "Pool: {p:?} has a zero");
            assert!(2 * padding <= reach, "Pool: padding {padding} is more than half of a window of {reach}");
            assert!(reach <= size + 2 * padding, "Pool: a window of {reach} over {}", x.ty());
            let room = size + 2 * padding - reach;
            let mut count = if self.ceil { room.div_ceil(stride) } else { room / stride } + 1;
            if self.ceil && (count - 1) * stride >= size + padding {
                count -= 1;
            }
            // Fewer places at the high end than the padding are left out by the windows themselves.
            let high = padding.max(((count - 1) * stride + reach).saturating_sub(size + padding));
            Axis { size, window, stride, padding, dilation, high, count }
        };
        (0..space).map(axis).collect()
    }

    /// How many places each window's mean is over, `[O…]`, or one number if all are alike.
    #[track_caller]
    fn counts(&self, axes: &[Axis], dtype: DType) -> Tensor {
        let mut counts = vec![1.0];
        for axis in axes {
            let along = axis.counts(self.count_padding);
            counts = counts.iter().flat_map(|&c| along.iter().map(move |&n| c * n as f64)).collect::<Vec<f64>>();
        }
        match counts.iter().all(|&count| count == counts[0]) {
            true => Tensor::full([], counts.first().copied().unwrap_or(1.0), dtype),
            false => {
                let shape: Vec<usize> = axes.iter().map(|axis| axis.count).collect();
                Tensor::from_vec(counts, shape).cast(dtype)
            }
        }
    }
}

/// One spatial axis of a pooling; `high` places are added at its end, `count` windows fit.
struct Axis {
    size: usize,
    window: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    high: usize,
    count: usize,
}

impl Axis {
    /// How many places of each window are within the axis, or within it and its padding.
    fn counts(&self, with_padding: bool) -> Vec<usize> {
        let (low, high) =
            if with_padding { (0, self.size + 2 * self.padding) } else { (self.padding, self.padding + self.size) };
        let (window, dilation) = (self.window, self.dilation);
        let inside = |start: usize| (0..window).filter(move |k| (low..high).contains(&(start + k * dilation)));
        (0..self.count).map(|i| inside(i * self.stride).count()).collect()
    }
}

/// Each axis of places in n parts, from ⌊i·S/n⌋ to ⌈(i + 1)·S/n⌉ for i = 0, …, n − 1, as in PyTorch.
#[track_caller]
fn adaptive(kind: Kind, x: &Tensor, sizes: Vec<usize>) -> Tensor {
    let space = x.rank().saturating_sub(2);
    assert!(
        space > 0 && (sizes.len() == 1 || sizes.len() == space),
        "adaptive pooling: {} sizes for {space} spatial axes of {}",
        sizes.len(),
        x.ty()
    );
    (0..space).fold(x.clone(), |x, i| {
        let (axis, parts) = (i as isize + 2, sizes[if sizes.len() == 1 { 0 } else { i }]);
        let size = x.size(axis);
        assert!(parts > 0 && size > 0, "adaptive pooling: {parts} parts of an axis of {size}");
        if size.is_multiple_of(parts) {
            let mut shape = x.shape().to_vec();
            shape.splice(i + 2..i + 3, [parts, size / parts]);
            return kind.over(&x.reshape(shape), &[axis + 1]).squeeze(axis + 1);
        }
        let part = |p: usize| {
            let (start, end) = (p * size / parts, ((p + 1) * size).div_ceil(parts));
            kind.over(&x.narrow(axis, start, end - start), &[axis])
        };
        concat(&(0..parts).map(part).collect::<Vec<Tensor>>(), axis)
    })
}

/// Means over so many parts of each axis of places of `[N, C, S…]`, whatever its size.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let x = Tensor::from([[[1.0, 2.0, 3.0, 4.0, 5.0]]]);
/// assert_eq!(adaptive_average_pool(&x, 2).to_vec::<f64>(), [2.0, 4.0]);
/// ```
#[track_caller]
pub fn adaptive_average_pool(x: &Tensor, sizes: impl IntoSizes) -> Tensor {
    adaptive(Kind::Average, x, sizes.into_sizes())
}

/// The largest of so many parts of each axis of places of `[N, C, S…]`, whatever its size.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let x = Tensor::from([[[1.0, 2.0, 3.0, 4.0, 5.0]]]);
/// assert_eq!(adaptive_max_pool(&x, 2).to_vec::<f64>(), [3.0, 5.0]);
/// ```
#[track_caller]
pub fn adaptive_max_pool(x: &Tensor, sizes: impl IntoSizes) -> Tensor {
    adaptive(Kind::Max, x, sizes.into_sizes())
}

/// All axes after the first two.
fn places(x: &Tensor) -> Vec<isize> {
    (2..x.rank() as isize).collect()
}

/// The mean of each channel: `[N, C, S…]` to `[N, C]`.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// assert_eq!(global_average_pool(&Tensor::ones([2, 3, 4, 4], DType::F32)).shape(), [2, 3]);
/// ```
#[track_caller]
pub fn global_average_pool(x: &Tensor) -> Tensor {
    x.mean(&places(x)[..])
}

/// The largest of each channel: `[N, C, S…]` to `[N, C]`.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// assert_eq!(global_max_pool(&Tensor::from([[[1.0, 5.0, 2.0]]])).to_vec::<f64>(), [5.0]);
/// ```
#[track_caller]
pub fn global_max_pool(x: &Tensor) -> Tensor {
    x.max(&places(x)[..])
}
