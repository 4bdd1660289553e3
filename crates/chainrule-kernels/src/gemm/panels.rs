//! A right operand that is laid out once and multiplied many times: the weights of a loop.

use super::{GRAIN, Matrix, Multiply, Right, blocks, depth_of, multiply, thin, tile};
use crate::alphabet::DType;
use crate::buffer::Buffer;
use crate::element::{typed, typed_mut};
use crate::pool::{Pool, Shared, in_tiles};
use crate::view::{View, ViewMut};
use std::ops::Range;

/// Elements of panels that are worth handing to another thread.
const PANELS: usize = 1 << 15;

/// A matrix in the panels that products read.
#[derive(Debug)]
pub struct Panels {
    data: Buffer,
    dtype: DType,
    k: usize,
    n: usize,
}

impl Panels {
    /// Whether a product of `m` rows with a matrix like this is done sooner with panels that are laid out before.
    pub fn worthwhile(m: usize, shape: &[usize], dtype: DType) -> bool {
        let large = shape.len() == 2 && shape[0] * shape[1] >= 1 << 10;
        large && !thin::few(m) && matches!(dtype, DType::F32 | DType::F64)
    }

    /// Bytes that the panels of a matrix take.
    pub fn bytes(shape: &[usize], dtype: DType) -> usize {
        // The widest panel of any processor: two vectors of 64 bytes.
        let columns = (shape[1] * dtype.size()).next_multiple_of(128);
        shape[0] * columns + tile::SLACK * dtype.size()
    }

    /// Room for the panels of a matrix [K, N] of f32 or f64.
    pub fn new(shape: &[usize], dtype: DType) -> Panels {
        Panels { data: Buffer::zeroed(Panels::bytes(shape, dtype)), dtype, k: shape[0], n: shape[1] }
    }

    /// Lays out a matrix.
    pub fn fill(&mut self, pool: &Pool, rhs: View) {
        assert!(rhs.shape() == [self.k, self.n] && rhs.dtype == self.dtype, "panels: {:?}", rhs.shape());
        match self.dtype {
            DType::F32 => self.lay::<f32>(pool, rhs),
            _ => self.lay::<f64>(pool, rhs),
        }
    }

    fn lay<T: Multiply>(&mut self, pool: &Pool, rhs: View) {
        let from = Matrix {
            data: rhs.elements::<T>().as_ptr().wrapping_add(rhs.layout.offset),
            row: rhs.layout.strides[0],
            column: rhs.layout.strides[1],
        };
        lay(pool, from, self.k, self.n, typed_mut::<T>(self.data.bytes_mut()));
    }

    /// `out` [M, N] = `lhs` [M, K] · the matrix, of any strides on the left.
    pub fn multiply(&self, pool: &Pool, lhs: View, out: ViewMut) {
        assert!(lhs.layout.rank() == 2 && lhs.shape()[1] == self.k && lhs.dtype == self.dtype, "{:?}", lhs.shape());
        match self.dtype {
            DType::F32 => self.product::<f32>(pool, lhs, out),
            _ => self.product::<f64>(pool, lhs, out),
        }
    }

    fn product<T: Multiply>(&self, pool: &Pool, lhs: View, out: ViewMut) {
        let (m, n, k) = (lhs.shape()[0], self.n, self.k);
        let left = Matrix {
            data: lhs.elements::<T>().as_ptr().wrapping_add(lhs.layout.offset),
            row: lhs.layout.strides[0],
            column: lhs.layout.strides[1],
        };
        let shared = Shared::new(out.elements::<T>(lhs.dtype, m * n));
        let (rows, columns) = blocks(m, n, k);
        let across = n.div_ceil(columns);
        let each = (GRAIN / (rows * columns * k).max(1)).max(1);
        in_tiles(pool, m.div_ceil(rows) * across, each, |first, count| {
            for block in first..first + count {
                let (i, j) = (block / across * rows, block % across * columns);
                let size = [rows.min(m - i), columns.min(n - j), k];
                let right = From { panels: typed(self.data.bytes()), k, n, column: j };
                // SAFETY: layouts were checked, and blocks are disjoint parts of `out`.
                unsafe { multiply(size, shared.pointer().add(i * n + j), n, false, &left.at(i, 0), &right) }
            }
        });
    }
}

/// Lays out the panels of a right operand (k × n), depth by depth.
pub(super) fn lay<T: Multiply>(pool: &Pool, from: Matrix<T>, k: usize, n: usize, to: &mut [T]) {
    let (columns, depth) = (T::loops().columns(), depth_of(k));
    let (panels, shared) = (n.div_ceil(columns), Shared::new(to));
    in_tiles(pool, k.div_ceil(depth) * panels, (PANELS / (columns * depth)).max(1), |first, count| {
        for panel in first..first + count {
            let (start, column) = (panel / panels * depth, panel % panels * columns);
            let (some, width) = (start..(start + depth).min(k), columns.min(n - column));
            let place = place::<T>(k, n, start, column, some.len());
            // SAFETY: the matrix's elements are valid; panels are disjoint, and one of whole vectors overwrites nothing behind it.
            unsafe { from.panel(some, column, width, shared.pointer().add(place), T::loops().pitch(width)) }
        }
    });
}

/// Where the panel of a column begins in the depth that begins at `start`.
fn place<T: Multiply>(k: usize, n: usize, start: usize, column: usize, depth: usize) -> usize {
    let wide = n.next_multiple_of(T::loops().columns());
    debug_assert!(start + depth <= k);
    start * wide + column * depth
}

/// The panels from a column on.
pub(super) struct From<'a, T> {
    pub(super) panels: &'a [T],
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) column: usize,
}

impl<T: Multiply> Right<T> for From<'_, T> {
    unsafe fn panel(&self, _: Range<usize>, _: usize, _: usize, _: *mut T, _: usize) {}

    fn ready(&self, depth: Range<usize>, column: usize) -> Option<*const T> {
        Some(self.panels[place::<T>(self.k, self.n, depth.start, self.column + column, depth.len())..].as_ptr())
    }
}
