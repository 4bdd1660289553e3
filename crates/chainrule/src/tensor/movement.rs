//! Moving elements about: the same numbers under another shape, order or selection.

use super::op::Dims;
use super::shape::{self, Axes, IntoShape, Shape};
use super::{Op, Scalar, ShapeError, Tensor};

impl Tensor {
    #[track_caller]
    fn moved(&self, op: Op) -> Tensor {
        Tensor::apply(op, std::slice::from_ref(self))
    }

    /// The same elements in row-major order under another shape.
    ///
    /// # Panics
    /// If the number of elements differs.
    #[track_caller]
    pub fn reshape(&self, shape: impl IntoShape) -> Tensor {
        let shape = shape.into_shape();
        if self.shape() == &shape[..] {
            return self.clone();
        }
        self.moved(Op::Reshape(shape))
    }

    /// [`Tensor::reshape`] as a result.
    #[track_caller]
    pub fn try_reshape(&self, shape: impl IntoShape) -> Result<Tensor, ShapeError> {
        Tensor::try_apply(Op::Reshape(shape.into_shape()), std::slice::from_ref(self))
    }

    /// One axis holding all elements.
    #[track_caller]
    pub fn flatten(&self) -> Tensor {
        self.reshape([self.numel()])
    }

    /// The axes in another order: axis i of the result is axis `axes[i]`; negative ones count from the end.
    #[track_caller]
    pub fn permute<const N: usize>(&self, axes: [isize; N]) -> Tensor {
        let axes: Result<Dims, _> = axes.iter().map(|&a| shape::axis("permute", a, self.rank())).collect();
        match axes {
            Ok(axes) => self.permuted(&axes),
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    pub(crate) fn permuted(&self, axes: &[usize]) -> Tensor {
        if axes.iter().enumerate().all(|(i, &axis)| i == axis) && axes.len() == self.rank() {
            return self.clone();
        }
        self.moved(Op::Permute(axes.into()))
    }

    /// Matrix transpose: the last two axes change places.
    #[track_caller]
    pub fn t(&self) -> Tensor {
        self.swap_axes(-1, -2)
    }

    /// Two axes change places.
    #[track_caller]
    pub fn swap_axes(&self, a: isize, b: isize) -> Tensor {
        let (a, b) = (self.axis("swap_axes", a), self.axis("swap_axes", b));
        let mut axes: Dims = (0..self.rank()).collect();
        axes.swap(a, b);
        self.permuted(&axes)
    }

    /// One axis moves to another place, the others keep their order.
    #[track_caller]
    pub fn move_axis(&self, from: isize, to: isize) -> Tensor {
        let (from, to) = (self.axis("move_axis", from), self.axis("move_axis", to));
        let mut axes: Dims = (0..self.rank()).filter(|&axis| axis != from).collect();
        axes.insert(to, from);
        self.permuted(&axes)
    }

    #[track_caller]
    pub(crate) fn axis(&self, operation: &'static str, axis: isize) -> usize {
        match shape::axis(operation, axis, self.rank()) {
            Ok(axis) => axis,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    pub(crate) fn axes(&self, operation: &'static str, axes: impl Into<Axes>) -> Dims {
        match axes.into().resolve(operation, self.rank()) {
            Ok(axes) => axes,
            Err(error) => panic!("{error}"),
        }
    }

    /// A new axis of size 1 at a place of the result.
    #[track_caller]
    pub fn unsqueeze(&self, axis: isize) -> Tensor {
        let at = match shape::axis("unsqueeze", axis, self.rank() + 1) {
            Ok(at) => at,
            Err(error) => panic!("{error}"),
        };
        let mut shape: Shape = self.shape().into();
        shape.insert(at, 1);
        self.reshape(shape)
    }

    /// Removes axes of size 1.
    ///
    /// # Panics
    /// If one has another size.
    #[track_caller]
    pub fn squeeze(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = self.axes("squeeze", axes);
        if let Some(&axis) = axes.iter().find(|&&axis| self.shape()[axis] != 1) {
            panic!("squeeze: axis {axis} of {:?} has size {}", self.shape(), self.shape()[axis]);
        }
        self.reshape(shape::without(self.shape(), &axes))
    }

    /// Elements start, start + step, … (as many as the third number) of each axis.
    #[track_caller]
    pub(crate) fn sliced(&self, ranges: Vec<(usize, usize, usize)>) -> Tensor {
        if ranges
            .iter()
            .zip(self.shape())
            .all(|(&(start, step, count), &size)| start == 0 && step == 1 && count == size)
        {
            return self.clone();
        }
        self.moved(Op::Slice(ranges.into()))
    }

    /// `length` elements of one axis from `start`.
    #[track_caller]
    pub fn narrow(&self, axis: isize, start: usize, length: usize) -> Tensor {
        let axis = self.axis("narrow", axis);
        let mut ranges: Vec<_> = self.shape().iter().map(|&size| (0, 1, size)).collect();
        ranges[axis] = (start, 1, length);
        self.sliced(ranges)
    }

    /// Cuts an axis into parts of these sizes.
    ///
    /// # Panics
    /// If the sizes do not sum to the axis.
    #[track_caller]
    pub fn split<const N: usize>(&self, axis: isize, sizes: [usize; N]) -> [Tensor; N] {
        let total: usize = sizes.iter().sum();
        assert!(total == self.size(axis), "split: parts {sizes:?} of an axis of {}", self.size(axis));
        let mut start = 0;
        // A closure has a line of its own; what it builds gets the caller's.
        super::Origin::here().scope(|| {
            sizes.map(|size| {
                start += size;
                self.narrow(axis, start - size, size)
            })
        })
    }

    /// Cuts an axis into n equal parts.
    ///
    /// # Panics
    /// If n does not divide the axis.
    #[track_caller]
    pub fn chunk<const N: usize>(&self, axis: isize) -> [Tensor; N] {
        assert!(N > 0 && self.size(axis).is_multiple_of(N), "chunk: {N} parts of an axis of {}", self.size(axis));
        self.split(axis, [self.size(axis) / N; N])
    }

    /// Fills before and after each axis: one (low, high) pair an axis.
    #[track_caller]
    pub fn pad(&self, amounts: &[(usize, usize)], value: f64) -> Tensor {
        let amounts = amounts.iter().map(|&(low, high)| (low, high, 0)).collect();
        self.padded(amounts, Scalar::Float(value))
    }

    /// [`Tensor::pad`] with (low, high, interior) amounts: interior fills go between elements.
    #[track_caller]
    pub fn pad_interior(&self, amounts: &[(usize, usize, usize)], value: f64) -> Tensor {
        self.padded(amounts.to_vec(), Scalar::Float(value))
    }

    #[track_caller]
    pub(crate) fn padded(&self, amounts: Vec<(usize, usize, usize)>, value: Scalar) -> Tensor {
        if amounts.iter().all(|&amount| amount == (0, 0, 0)) && amounts.len() == self.rank() {
            return self.clone();
        }
        self.moved(Op::Pad(amounts.into(), value.cast(self.dtype())))
    }

    /// Reverses the order along axes.
    #[track_caller]
    pub fn flip(&self, axes: impl Into<Axes>) -> Tensor {
        let axes = self.axes("flip", axes);
        if axes.is_empty() { self.clone() } else { self.moved(Op::Reverse(axes)) }
    }

    /// The lower triangle of matrices (last two axes), zeros above diagonal k.
    #[track_caller]
    pub fn tril(&self, k: isize) -> Tensor {
        let keep = self.diagonal_offset("tril").less_equal(k as i64);
        keep.select(self, 0.0)
    }

    /// The upper triangle of matrices (last two axes), zeros below diagonal k.
    #[track_caller]
    pub fn triu(&self, k: isize) -> Tensor {
        let keep = self.diagonal_offset("triu").greater_equal(k as i64);
        keep.select(self, 0.0)
    }

    /// The main diagonal of matrices (last two axes).
    #[track_caller]
    pub fn diagonal(&self) -> Tensor {
        let on = self.diagonal_offset("diagonal").equal(0i64);
        let n = self.size(-1).min(self.size(-2));
        on.select(self, 0.0).sum(-1).narrow(-1, 0, n)
    }

    /// Column minus row of each element of the last two axes.
    #[track_caller]
    fn diagonal_offset(&self, operation: &'static str) -> Tensor {
        assert!(self.rank() >= 2, "{operation}: {} has no rows and columns", self.ty());
        let shape = [self.size(-2), self.size(-1)];
        Tensor::iota(shape, 1, super::DType::I64) - Tensor::iota(shape, 0, super::DType::I64)
    }
}

/// Joins tensors along an axis they may differ in.
///
/// # Panics
/// If other axes or dtypes differ, or there is none.
///
/// ```
/// use chainrule::prelude::*;
/// let x = Tensor::from([1.0, 2.0]);
/// assert_eq!(concat(&[&x, &x], 0).shape(), [4]);
/// ```
#[track_caller]
pub fn concat<T: std::borrow::Borrow<Tensor>>(tensors: &[T], axis: isize) -> Tensor {
    let tensors: Vec<Tensor> = tensors.iter().map(|tensor| tensor.borrow().clone()).collect();
    assert!(!tensors.is_empty(), "concat: of nothing");
    let axis = tensors[0].axis("concat", axis);
    if tensors.len() == 1 {
        return tensors[0].clone();
    }
    Tensor::apply(Op::Concat(axis), &tensors)
}

/// Joins tensors of one shape along a new axis.
#[track_caller]
pub fn stack<T: std::borrow::Borrow<Tensor>>(tensors: &[T], axis: isize) -> Tensor {
    let mut parts: Vec<Tensor> = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        parts.push(tensor.borrow().unsqueeze(axis));
    }
    concat(&parts, axis)
}
