//! Views: where the elements of a value lie in a slice of bytes.
//!
//! A layout is an offset, a shape and strides, all counted in elements; stride 0 broadcasts and a negative stride
//! reverses. Kernels check a layout against its slice once a call, and may then trust it.

use crate::alphabet::DType;
use crate::element::{Plain, typed, typed_mut};
use smallvec::SmallVec;

/// Sizes of dimensions; six fit without a heap allocation.
pub type Dims = SmallVec<[usize; 6]>;
/// Steps between neighbours along each dimension, in elements.
pub type Strides = SmallVec<[isize; 6]>;

/// Where the elements of a value lie in a slice: offset and strides in elements. Never changed once made, so what kernels
/// ask at every call is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(crate) offset: usize,
    pub(crate) shape: Dims,
    pub(crate) strides: Strides,
    /// Least and greatest position of an element; none if there is no element.
    reach: Option<(i64, i64)>,
    order: Order,
}

/// How the elements of a layout follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Row-major, without gaps.
    Contiguous,
    /// One element for all.
    Splat,
    Other,
}

impl Layout {
    /// The element with all coordinates 0 lies at `offset`; a stride of 0 broadcasts, a negative one reverses.
    ///
    /// # Panics
    /// Unless there is one stride for each dimension; or if a position lies beyond 2⁶³.
    pub fn new(offset: usize, shape: Dims, strides: Strides) -> Layout {
        assert_eq!(shape.len(), strides.len(), "a layout needs one stride for each dimension");
        let (mut low, mut high) = (offset as i128, offset as i128);
        let (mut expected, mut contiguous, mut splat) = (1isize, true, true);
        for (&size, &stride) in shape.iter().zip(&strides).rev() {
            let reach = (size as i128 - 1) * stride as i128;
            if reach < 0 {
                low += reach
            } else {
                high += reach
            }
            contiguous &= size == 1 || stride == expected;
            splat &= size == 1 || stride == 0;
            expected = expected.wrapping_mul(size as isize);
        }
        let empty = shape.contains(&0);
        let narrow = |position: i128| i64::try_from(position).expect("a position beyond 2⁶³");
        let order = match (empty || contiguous, splat) {
            (true, _) => Order::Contiguous,
            (_, true) => Order::Splat,
            _ => Order::Other,
        };
        Layout { offset, shape, strides, reach: (!empty).then(|| (narrow(low), narrow(high))), order }
    }

    /// Row-major, without gaps, from the start of the slice.
    pub fn contiguous(shape: &[usize]) -> Layout {
        Layout::new(0, Dims::from_slice(shape), contiguous_strides(shape))
    }

    /// Index of the element with all coordinates 0.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Steps between neighbours along each dimension; 0 broadcasts, negative reverses.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        numel(&self.shape)
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Whether the elements lie in row-major order without gaps (at any offset).
    pub fn is_contiguous(&self) -> bool {
        self.order == Order::Contiguous
    }

    /// Whether every element is the same one (and there are several).
    pub(crate) fn is_splat(&self) -> bool {
        self.order == Order::Splat
    }

    /// The same elements with dimensions in another order: dimension `i` of the result is dimension `order[i]`.
    pub fn permuted(&self, order: &[usize]) -> Layout {
        let shape = order.iter().map(|&axis| self.shape[axis]).collect();
        Layout::new(self.offset, shape, order.iter().map(|&axis| self.strides[axis]).collect())
    }

    /// The least number of elements of a slice in which every element lies.
    ///
    /// # Panics
    /// If an element lies before the slice.
    pub fn reach(&self) -> usize {
        let Some((low, high)) = self.reach else { return 0 };
        assert!(low >= 0, "a view reaches element {low} of a slice");
        high as usize + 1
    }

    /// Panics unless every element lies in a slice of `length` elements.
    pub fn check(&self, length: usize) {
        if let Some((low, high)) = self.reach {
            assert!(
                low >= 0 && (high as u64) < length as u64,
                "a view reaches elements {low} to {high} of a slice of {length}"
            );
        }
    }
}

/// A value to read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its memory.
    pub data: &'a [u8],
    /// Its dtype.
    pub dtype: DType,
    /// Where in the memory its elements lie.
    pub layout: &'a Layout,
}

impl<'a> View<'a> {
    /// A view of `data`.
    pub fn new(data: &'a [u8], dtype: DType, layout: &'a Layout) -> View<'a> {
        View { data, dtype, layout }
    }

    /// The shape.
    pub fn shape(&self) -> &'a [usize] {
        &self.layout.shape
    }

    /// The elements of the whole memory, the layout checked against them.
    pub(crate) fn elements<T: Plain>(&self) -> &'a [T] {
        debug_assert_eq!(size_of::<T>(), self.dtype.size());
        let elements = typed(self.data);
        self.layout.check(elements.len());
        elements
    }
}

/// A value to write: always contiguous and row-major; the kernel knows its shape.
#[derive(Debug)]
pub struct ViewMut<'a> {
    /// Its memory, exactly as long as the result.
    pub data: &'a mut [u8],
    /// Its dtype.
    pub dtype: DType,
}

impl<'a> ViewMut<'a> {
    /// A view of `data`, to write.
    pub fn new(data: &'a mut [u8], dtype: DType) -> ViewMut<'a> {
        ViewMut { data, dtype }
    }

    /// The elements; panics unless there are `count` of `dtype`.
    pub(crate) fn elements<T: Plain>(self, dtype: DType, count: usize) -> &'a mut [T] {
        debug_assert_eq!(size_of::<T>(), dtype.size());
        assert_eq!(self.dtype, dtype, "the output has the wrong dtype");
        let elements = typed_mut(self.data);
        assert_eq!(elements.len(), count, "the output has the wrong number of elements");
        elements
    }
}

/// Product of sizes.
pub(crate) fn numel(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Row-major strides without gaps.
pub(crate) fn contiguous_strides(shape: &[usize]) -> Strides {
    let mut strides: Strides = SmallVec::from_elem(0, shape.len());
    let mut step = 1isize;
    for (stride, &size) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step *= size as isize;
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn contiguity() {
        let layout = Layout::contiguous(&[2, 3, 4]);
        assert_eq!(layout.strides.as_slice(), [12, 4, 1]);
        assert!(layout.is_contiguous());
        assert!(!layout.permuted(&[1, 0, 2]).is_contiguous());
        assert!(Layout::new(3, smallvec![1, 2], smallvec![-7, 1]).is_contiguous());
        assert!(Layout::contiguous(&[]).is_contiguous());
        assert_eq!(Layout::contiguous(&[]).numel(), 1);
    }

    #[test]
    fn bounds() {
        Layout::new(3, smallvec![2, 2], smallvec![-2, -1]).check(4);
        let outside = Layout::new(2, smallvec![2, 2], smallvec![-2, -1]);
        assert!(std::panic::catch_unwind(|| outside.check(4)).is_err());
        assert!(std::panic::catch_unwind(|| Layout::contiguous(&[5]).check(4)).is_err());
        Layout::contiguous(&[5, 0]).check(0);
    }
}
