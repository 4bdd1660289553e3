//! Matrix products, one or a batch of them.
//!
//! The result is cut into blocks; for each, the operands are laid out in panels (`tile.rs`) in the thread's own cache and
//! multiplied tile by tile. bf16 and f16 are widened to f32 and rounded once; integers wrap. Blocks follow from shapes
//! and sums run in order, so the bits depend neither on the threads nor on the width of the vectors.

mod once;
mod panels;
mod thin;
pub(crate) mod tile;

pub use panels::Panels;

use crate::alphabet::DType;
use crate::element::{Number, Stored};
use crate::pool::{Pool, Shared, fill_tiles, in_tiles};
use crate::scratch;
use crate::simd::{Arch, Loop, dispatch};
use crate::view::{Layout, View, ViewMut, numel};
use crate::walk::Walk;
use half::{bf16, f16};
use std::ops::Range;
use tile::Looped;

/// Multiply-adds that one block takes where there is a choice.
const GRAIN: usize = 1 << 20;
/// Rows or columns that a block has where the matrix has them: thinner ones spend their time laying out operands.
const THIN: usize = 96;
/// The least of them, where two threads would otherwise have one block.
const THINNEST: usize = 32;
/// Below this many multiply-adds a plain loop beats packing.
const SMALL: usize = 1 << 9;

/// A matrix in memory: a pointer and the steps between rows and columns.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<T> {
    pub(crate) data: *const T,
    pub(crate) row: isize,
    pub(crate) column: isize,
}
// SAFETY: matrices are read only.
unsafe impl<T: Sync> Sync for Matrix<T> {}
unsafe impl<T: Sync> Send for Matrix<T> {}

impl<T> Matrix<T> {
    fn at(self, row: usize, column: usize) -> Matrix<T> {
        let data = self.data.wrapping_offset(row as isize * self.row + column as isize * self.column);
        Matrix { data, ..self }
    }

    fn transposed(self) -> Matrix<T> {
        Matrix { data: self.data, row: self.column, column: self.row }
    }
}

/// A number that matrices are multiplied in.
pub(crate) trait Multiply: Looped + Stored<Number = Self> {}
impl<T: Looped + Stored<Number = T>> Multiply for T {}

/// A left operand that can lay out its panels.
pub(crate) trait Left<T>: Sync {
    /// Where a panel of `height` rows from `row` on lies, of `depth` columns from `start` on: in `to`, if not laid out before.
    ///
    /// # Safety
    /// [`tile::SLACK`] elements after the panel may be overwritten.
    unsafe fn panel(&self, row: usize, height: usize, start: usize, depth: usize, to: *mut T) -> *const T;
}

impl<T: Multiply> Left<T> for Matrix<T> {
    unsafe fn panel(&self, row: usize, height: usize, start: usize, depth: usize, to: *mut T) -> *const T {
        let from = self.at(row, start).data;
        // SAFETY: whoever made the matrix promised its elements.
        unsafe { T::loops().pack(from, self.row, self.column, height, depth, to, height) };
        to
    }
}

/// A right operand that can lay out its panels.
pub(crate) trait Right<T>: Sync {
    /// Lays out rows `depth` of the panel of `width` columns from `column` on, with `pitch` elements a row.
    ///
    /// # Safety
    /// [`tile::SLACK`] elements after the panel may be overwritten.
    unsafe fn panel(&self, depth: Range<usize>, column: usize, width: usize, to: *mut T, pitch: usize);

    /// Where that panel lies already, if it does.
    fn ready(&self, _depth: Range<usize>, _column: usize) -> Option<*const T> {
        None
    }
}

impl<T: Multiply> Right<T> for Matrix<T> {
    unsafe fn panel(&self, depth: Range<usize>, column: usize, width: usize, to: *mut T, pitch: usize) {
        let from = self.at(depth.start, column).data;
        // SAFETY: whoever made the matrix promised its elements.
        unsafe { T::loops().pack(from, self.column, self.row, width, depth.len(), to, pitch) }
    }
}

/// Longest depth of a panel: a panel of rows stays in the first-level cache.
const DEPTH: usize = 384;

/// The depth of the panels of a product: nearly equal parts.
pub(crate) fn depth_of(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH).max(1)).max(1)
}

/// Rows of a panel of a product: nearly equal parts.
fn rows_of<T: Multiply>(m: usize) -> usize {
    m.div_ceil(m.div_ceil(T::loops().rows).max(1)).max(1)
}

/// out (m × n, rows `row` apart) = or += lhs (m × k) · rhs (k × n), in this thread.
///
/// # Safety
/// All elements of the operands lie in valid memory, and `out` overlaps neither.
pub(crate) unsafe fn multiply<T: Multiply>(
    [m, n, k]: [usize; 3],
    out: *mut T,
    row: usize,
    accumulate: bool,
    lhs: &impl Left<T>,
    rhs: &impl Right<T>,
) {
    let loops = T::loops();
    let panels = n.div_ceil(loops.columns());
    let depth = depth_of(k);
    let rows = rows_of::<T>(m);
    let columns = loops.columns();
    let right_len = panels * columns * depth;
    scratch::with::<T, _>(right_len + rows * depth + columns * rows + 2 * tile::SLACK, |room| {
        let (right, room) = room.split_at_mut(right_len + tile::SLACK);
        let (left, corner) = room.split_at_mut(rows * depth + tile::SLACK);
        let (right, left, corner) = (right.as_mut_ptr(), left.as_mut_ptr(), corner.as_mut_ptr());
        for start in (0..k.max(1)).step_by(depth) {
            let some = start..(start + depth).min(k);
            let accumulate = accumulate || start > 0;
            // SAFETY: panels lie in the room, tiles in `out`, or in the corner where they would reach beyond it.
            unsafe {
                for panel in 0..panels {
                    let column = panel * columns;
                    let width = columns.min(n - column);
                    if rhs.ready(some.clone(), column).is_none() {
                        rhs.panel(some.clone(), column, width, right.add(column * depth), loops.pitch(width));
                    }
                }
                for i in (0..m).step_by(rows) {
                    let height = rows.min(m - i);
                    let left = lhs.panel(i, height, start, some.len(), left);
                    for panel in 0..panels {
                        let column = panel * columns;
                        let width = columns.min(n - column);
                        let pitch = loops.pitch(width);
                        let tile = loops.tile(height, pitch);
                        let right = rhs.ready(some.clone(), column).unwrap_or(right.add(column * depth));
                        let out = out.add(i * row + column);
                        if width == pitch {
                            tile(some.len(), left, right, out, row, accumulate);
                            continue;
                        }
                        tile(some.len(), left, right, corner, pitch, false);
                        for r in 0..height {
                            for c in 0..width {
                                let (sum, place) = (*corner.add(r * pitch + c), out.add(r * row + c));
                                *place = if accumulate { (*place).add(sum) } else { sum };
                            }
                        }
                    }
                }
            }
        }
    });
}

/// A product by plain loops, each row of the result built from rows of `rhs`.
struct Plainly<T> {
    size: [usize; 3],
    out: *mut T,
    row: usize,
    lhs: Matrix<T>,
    rhs: Matrix<T>,
}

impl<T: Number> Loop for Plainly<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Plainly { size: [m, n, k], out, row, lhs, rhs } = self;
        for i in 0..m {
            // SAFETY: whoever made this promised valid matrices.
            unsafe {
                let out = std::slice::from_raw_parts_mut(out.add(i * row), n);
                out.fill(T::ZERO);
                for p in 0..k {
                    let x = *lhs.at(i, p).data;
                    let from = rhs.at(p, 0).data;
                    if rhs.column == 1 {
                        let from = std::slice::from_raw_parts(from, n);
                        out.iter_mut().zip(from).for_each(|(o, &y)| *o = o.add(x.mul(y)));
                    } else {
                        for (j, o) in out.iter_mut().enumerate() {
                            *o = o.add(x.mul(*from.offset(j as isize * rhs.column)));
                        }
                    }
                }
            }
        }
    }
}

/// Matrix product of `lhs` [B.., M, K] and `rhs` [B.., K, N] with the same leading dimensions, any strides.
pub fn matmul(pool: &Pool, lhs: View, rhs: View, out: ViewMut) {
    let (a, b) = (lhs.shape(), rhs.shape());
    let rank = a.len();
    assert!(
        rank >= 2 && b.len() == rank && a[..rank - 2] == b[..rank - 2] && a[rank - 1] == b[rank - 2],
        "matmul: {a:?} × {b:?} do not fit"
    );
    assert!(lhs.dtype == rhs.dtype && lhs.dtype != DType::Bool, "matmul: {} × {}", lhs.dtype, rhs.dtype);
    match lhs.dtype {
        DType::F32 => plain::<f32>(pool, lhs, rhs, out),
        DType::F64 => plain::<f64>(pool, lhs, rhs, out),
        DType::I32 => plain::<i32>(pool, lhs, rhs, out),
        DType::I64 => plain::<i64>(pool, lhs, rhs, out),
        DType::BF16 => widened::<bf16>(pool, lhs, rhs, out),
        DType::F16 => widened::<f16>(pool, lhs, rhs, out),
        DType::U8 | DType::Bool => plain::<u8>(pool, lhs, rhs, out),
    }
}

fn plain<T: Multiply>(pool: &Pool, lhs: View, rhs: View, out: ViewMut) {
    let rank = lhs.layout.rank();
    let total = numel(&lhs.shape()[..rank - 1]) * rhs.shape()[rank - 1];
    let out: &mut [T] = out.elements(lhs.dtype, total);
    product(pool, lhs.elements(), lhs.layout, rhs.elements(), rhs.layout, out);
}

fn widened<T: Stored<Number = f32>>(pool: &Pool, lhs: View, rhs: View, out: ViewMut) {
    let rank = lhs.layout.rank();
    let total = numel(&lhs.shape()[..rank - 1]) * rhs.shape()[rank - 1];
    let out: &mut [T] = out.elements(lhs.dtype, total);
    scratch::with::<f32, _>(lhs.layout.numel(), |left| {
        scratch::with::<f32, _>(rhs.layout.numel(), |right| {
            scratch::with::<f32, _>(total, |wide| {
                widen(pool, lhs.elements::<T>(), lhs.layout, left);
                widen(pool, rhs.elements::<T>(), rhs.layout, right);
                let (la, lb) = (Layout::contiguous(lhs.shape()), Layout::contiguous(rhs.shape()));
                product(pool, left, &la, right, &lb, wide);
                let wide = &*wide;
                fill_tiles(pool, out, 1, 1 << 14, |start, out| {
                    out.iter_mut().zip(&wide[start..]).for_each(|(o, &x)| *o = T::store(x));
                });
            })
        })
    })
}

/// Copies a view into row-major order, as the numbers it is computed in.
pub(crate) fn widen<T: Stored>(pool: &Pool, source: &[T], layout: &Layout, out: &mut [T::Number]) {
    let walk = Walk::new(layout);
    // SAFETY: the caller checked the layout against its source.
    fill_tiles(pool, out, 1, 1 << 14, |start, out| unsafe { walk.gather_map(source, start, out, T::load) });
}

/// The batched product over checked layouts.
fn product<T: Multiply>(pool: &Pool, a: &[T], la: &Layout, b: &[T], lb: &Layout, out: &mut [T]) {
    let rank = la.rank();
    let (m, k, n) = (la.shape[rank - 2], la.shape[rank - 1], lb.shape[rank - 1]);
    if m * n == 0 || out.is_empty() {
        return;
    }
    let lead =
        |layout: &Layout| Walk::of(layout.offset as isize, &layout.shape[..rank - 2], &layout.strides[..rank - 2]);
    let (lead_a, lead_b) = (lead(la), lead(lb));
    let first = |data: &[T], layout: &Layout, lead: &Walk, item: usize| Matrix {
        data: data.as_ptr().wrapping_offset(lead.position(item)),
        row: layout.strides[rank - 2],
        column: layout.strides[rank - 1],
    };
    let batch = lead_a.numel;
    // A column on the right is a row on the left of the transposed product.
    let turned = n == 1 && m > 1;
    let operands = |item: usize| {
        let (lhs, rhs) = (first(a, la, &lead_a, item), first(b, lb, &lead_b, item));
        if turned { (rhs.transposed(), lhs.transposed()) } else { (lhs, rhs) }
    };
    let (m, n) = if turned { (1, m) } else { (m, n) };
    let (lhs, rhs) = operands(0);
    if batch == 1 && once::fits([m, n, k]) {
        // SAFETY: layouts were checked, and `out` holds m · n elements.
        return unsafe { once::product(pool, [m, n, k], Shared::new(out), lhs, rhs) };
    }
    let thin = thin::fits([m, n, k], lhs, rhs);
    let (rows, columns) = if thin { (m, (thin::GRAIN / k).max(64)) } else { blocks(m, n, k) };
    let (down, across) = (m.div_ceil(rows), n.div_ceil(columns));
    let each = (GRAIN / (rows * columns * k).max(1)).max(1);
    let shared = Shared::new(out);
    in_tiles(pool, batch * down * across, each, |first, count| {
        for task in first..first + count {
            let (item, block) = (task / (down * across), task % (down * across));
            let (i, j) = (block / across * rows, block % across * columns);
            let (lhs, rhs) = operands(item);
            let size = [rows.min(m - i), columns.min(n - j), k];
            // SAFETY: layouts were checked, `out` holds batch · m · n elements, and blocks are disjoint.
            unsafe {
                let out = shared.pointer().add(item * m * n + i * n + j);
                let (lhs, rhs) = (lhs.at(i, 0), rhs.at(0, j));
                match m * n * k <= SMALL {
                    true => dispatch(Plainly { size, out, row: n, lhs, rhs }),
                    false if thin => thin::multiply(size, out, n, lhs, rhs),
                    false => multiply(size, out, n, false, &lhs, &rhs),
                }
            }
        }
    });
}

/// Rows and columns of a block of the result: about eight blocks where the product is large, and none so thin that
/// laying out its operands would show.
fn blocks(m: usize, n: usize, k: usize) -> (usize, usize) {
    let wanted = (m * n * k / GRAIN).clamp(1, 8);
    let (mut down, mut across) = (1, 1);
    while down * across < wanted {
        let (high, wide) = (m / down, n / across);
        let least = if down * across < 2 { THINNEST } else { THIN };
        match (high >= 2 * least, wide >= 2 * least) {
            (true, true) if wide >= high => across *= 2,
            (true, _) => down *= 2,
            (_, true) => across *= 2,
            _ => break,
        }
    }
    // What stays in the second-level cache beside its operand.
    while n.div_ceil(across) > 512 {
        across *= 2;
    }
    (m.div_ceil(down).next_multiple_of(12), n.div_ceil(across).next_multiple_of(32))
}

#[cfg(test)]
mod tests;
