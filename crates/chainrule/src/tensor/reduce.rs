//! Reductions over axes, running sums, and sorting.

use super::shape::{Axes, Shape};
use super::{Composite, DType, Op, Reduction, Scalar, Tensor};

macro_rules! reductions {
    ($($(#[$doc:meta])* $method:ident $keepdims:ident = $op:ident,)*) => {
        impl Tensor {
            $(
                $(#[$doc])*
                #[track_caller]
                pub fn $method(&self, axes: impl Into<Axes>) -> Tensor {
                    self.reduce(Reduction::$op, stringify!($method), axes)
                }
                $(#[$doc])*
                ///
                /// The reduced axes stay with size 1.
                #[track_caller]
                pub fn $keepdims(&self, axes: impl Into<Axes>) -> Tensor {
                    let axes = self.axes(stringify!($method), axes);
                    self.reduce(Reduction::$op, stringify!($method), &axes[..]).restore(self, &axes)
                }
            )*
        }
    };
}

reductions! {
    /// Σ x over axes.
    sum sum_keepdims = Sum,
    /// The largest over axes; the derivative is shared equally among ties. On bools: any.
    max max_keepdims = Max,
    /// The smallest over axes; the derivative is shared equally among ties. On bools: all.
    min min_keepdims = Min,
    /// Π x over axes; the derivative is exact also where factors are zero.
    prod prod_keepdims = Prod,
}

impl Tensor {
    #[track_caller]
    fn reduce(&self, reduction: Reduction, name: &'static str, axes: impl Into<Axes>) -> Tensor {
        let axes = self.axes(name, axes);
        if axes.is_empty() {
            return self.clone();
        }
        Tensor::apply(Op::Reduce(reduction, axes), std::slice::from_ref(self))
    }

    /// Puts back axes that a reduction of `before` took away, with size 1.
    #[track_caller]
    pub(crate) fn restore(&self, before: &Tensor, axes: &[usize]) -> Tensor {
        let shape: Shape =
            before.shape().iter().enumerate().map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect();
        self.reshape(shape)
    }

    fn count(&self, axes: &[usize]) -> f64 {
        axes.iter().map(|&axis| self.shape()[axis]).product::<usize>() as f64
    }

    /// Arithmetic mean over axes.
    #[track_caller]
    pub fn mean(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = self.axes("mean", axes);
        self.sum(&axes[..]) / self.count(&axes)
    }
    /// [`Tensor::mean`], the axes staying with size 1.
    #[track_caller]
    pub fn mean_keepdims(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = self.axes("mean", axes);
        self.mean(&axes[..]).restore(self, &axes)
    }
    /// Σ (x − mean)² / (n − correction) over axes; correction 1 is the unbiased estimate.
    #[track_caller]
    pub fn variance(&self, axes: impl Into<Axes>, correction: usize) -> Tensor {
        let axes = self.axes("variance", axes);
        let centered = self - self.mean_keepdims(&axes[..]);
        centered.square().sum(&axes[..]) / (self.count(&axes) - correction as f64)
    }
    /// Square root of [`Tensor::variance`].
    #[track_caller]
    pub fn std(&self, axes: impl Into<Axes>, correction: usize) -> Tensor {
        self.variance(axes, correction).sqrt()
    }
    /// Euclidean norm √Σx² over axes; the subgradient at 0 is 0.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let g = grad(|x: &Tensor| x.norm(..), &Tensor::from([0.0, 0.0]));
    /// assert_eq!(g.to_vec::<f64>(), [0.0, 0.0]);
    /// ```
    #[track_caller]
    pub fn norm(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = self.axes("norm", axes);
        Tensor::apply(Op::Composite(Composite::Norm(axes)), std::slice::from_ref(self))
    }
    /// ln Σ eˣ along an axis, without overflow.
    #[track_caller]
    pub fn logsumexp(&self, axis: isize) -> Tensor {
        self.logsumexp_keepdims(axis).squeeze(axis)
    }
    /// [`Tensor::logsumexp`], the axis staying with size 1.
    #[track_caller]
    pub fn logsumexp_keepdims(&self, axis: isize) -> Tensor {
        let axis = self.axis("logsumexp", axis);
        Tensor::apply(Op::Composite(Composite::LogSumExp(axis)), std::slice::from_ref(self))
    }
    /// (x − mean) / √(variance + ε) over axes: the core of the normalisation layers.
    #[track_caller]
    pub fn normalize(&self, axes: impl Into<Axes>, epsilon: f64) -> Tensor {
        let axes = self.axes("normalize", axes);
        Tensor::apply(Op::Composite(Composite::Normalize(axes, Scalar::Float(epsilon))), std::slice::from_ref(self))
    }
    /// Whether any bool is true.
    #[track_caller]
    pub fn any(&self, axes: impl Into<Axes>) -> Tensor {
        assert!(self.dtype() == DType::Bool, "any: of {}; it takes bools", self.ty());
        self.max(axes)
    }
    /// Whether all bools are true.
    #[track_caller]
    pub fn all(&self, axes: impl Into<Axes>) -> Tensor {
        assert!(self.dtype() == DType::Bool, "all: of {}; it takes bools", self.ty());
        self.min(axes)
    }
    /// Index (i64) of the largest along an axis, the first of ties.
    #[track_caller]
    pub fn argmax(&self, axis: isize) -> Tensor {
        let axis = self.axis("argmax", axis);
        Tensor::apply(Op::ArgReduce(true, axis), std::slice::from_ref(self))
    }
    /// Index (i64) of the smallest along an axis, the first of ties.
    #[track_caller]
    pub fn argmin(&self, axis: isize) -> Tensor {
        let axis = self.axis("argmin", axis);
        Tensor::apply(Op::ArgReduce(false, axis), std::slice::from_ref(self))
    }
    /// Running sum along an axis.
    #[track_caller]
    pub fn cumsum(&self, axis: isize) -> Tensor {
        self.cumulative(axis, false)
    }
    /// Running sum along an axis from its end.
    #[track_caller]
    pub fn cumsum_reverse(&self, axis: isize) -> Tensor {
        self.cumulative(axis, true)
    }
    #[track_caller]
    fn cumulative(&self, axis: isize, reverse: bool) -> Tensor {
        let axis = self.axis("cumsum", axis);
        Tensor::apply(Op::Cumsum { axis, reverse }, std::slice::from_ref(self))
    }
    /// Stable sort along an axis; NaN comes last.
    #[track_caller]
    pub fn sort(&self, axis: isize, descending: bool) -> Tensor {
        let axis = self.axis("sort", axis);
        Tensor::apply(Op::Sort { axis, descending }, std::slice::from_ref(self))
    }
    /// Where the elements of [`Tensor::sort`] were, as i64.
    #[track_caller]
    pub fn argsort(&self, axis: isize, descending: bool) -> Tensor {
        self.sort(axis, descending).output(1)
    }
    /// The k largest along the last axis with their indices (i64), largest first.
    #[track_caller]
    pub fn top_k(&self, k: usize) -> (Tensor, Tensor) {
        let sorted = self.sort(-1, true);
        (sorted.narrow(-1, 0, k), sorted.output(1).narrow(-1, 0, k))
    }
}
