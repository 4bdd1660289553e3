//! Matrix products, one or a batch of them.
//!
//! f32 and f64 go to the `gemm` crate's single-threaded kernel, tile by tile; bf16 and f16 are widened to f32 and
//! rounded once; integers wrap, in plain loops. Tiles follow from shapes, so the bits do not depend on the threads.

use crate::alphabet::DType;
use crate::element::{Number, Plain, Stored};
use crate::pool::{Pool, Shared, fill_tiles, in_tiles};
use crate::scratch;
use crate::simd::{Arch, Loop, dispatch};
use crate::view::{Layout, View, ViewMut, numel};
use crate::walk::Walk;
use half::{bf16, f16};

/// Multiply-adds that one tile takes where there is a choice.
const GRAIN: usize = 1 << 21;
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
}

/// A number that matrices are multiplied in.
pub(crate) trait Multiply: Number + Stored<Number = Self> {
    /// out (m × n, rows `row` apart) = or += lhs (m × k) · rhs (k × n).
    ///
    /// # Safety
    /// All elements of the three matrices lie in valid memory, and `out` overlaps neither operand.
    unsafe fn multiply(
        size: [usize; 3],
        out: *mut Self,
        row: usize,
        accumulate: bool,
        lhs: Matrix<Self>,
        rhs: Matrix<Self>,
    );
}

macro_rules! by_crate {
    ($t:ty, $gemm:path) => {
        impl Multiply for $t {
            unsafe fn multiply(
                [m, n, k]: [usize; 3],
                out: *mut $t,
                row: usize,
                accumulate: bool,
                lhs: Matrix<$t>,
                rhs: Matrix<$t>,
            ) {
                if m * n * k <= SMALL {
                    return dispatch(Plainly { size: [m, n, k], out, row, accumulate, lhs, rhs });
                }
                let alpha = if accumulate { 1.0 } else { 0.0 };
                // The crate prefers results whose columns are contiguous, so it is given the transposed product.
                // SAFETY: the caller's promise.
                unsafe {
                    $gemm()(
                        n,
                        m,
                        k,
                        out,
                        row as isize,
                        1,
                        accumulate,
                        rhs.data,
                        rhs.row,
                        rhs.column,
                        lhs.data,
                        lhs.row,
                        lhs.column,
                        alpha,
                        1.0,
                        false,
                        false,
                        false,
                        gemm_common::Parallelism::None,
                    )
                }
            }
        }
    };
}
by_crate!(f32, gemm_f32::gemm::f32::get_gemm_fn);
by_crate!(f64, gemm_f64::gemm::f64::get_gemm_fn);

macro_rules! by_loops {
    ($($t:ty),*) => { $(impl Multiply for $t {
        unsafe fn multiply(
            size: [usize; 3],
            out: *mut $t,
            row: usize,
            accumulate: bool,
            lhs: Matrix<$t>,
            rhs: Matrix<$t>,
        ) {
            dispatch(Plainly { size, out, row, accumulate, lhs, rhs })
        }
    })* };
}
by_loops!(i32, i64, u8);

/// A product by plain loops, each row of the result built from rows of `rhs`.
struct Plainly<T> {
    size: [usize; 3],
    out: *mut T,
    row: usize,
    accumulate: bool,
    lhs: Matrix<T>,
    rhs: Matrix<T>,
}

impl<T: Number> Loop for Plainly<T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Plainly { size: [m, n, k], out, row, accumulate, lhs, rhs } = self;
        for i in 0..m {
            // SAFETY: whoever made this promised valid matrices.
            unsafe {
                let out = std::slice::from_raw_parts_mut(out.add(i * row), n);
                if !accumulate {
                    out.fill(T::ZERO);
                }
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

/// Whether the `gemm` crate should read a matrix as it lies.
fn friendly(layout: &Layout) -> bool {
    let rank = layout.rank();
    let ok = |axis: usize| layout.strides[axis] == 1 || layout.shape[axis] == 1;
    layout.strides[rank - 2..].iter().all(|&stride| stride >= 0) && (ok(rank - 1) || ok(rank - 2))
}

fn plain<T: Multiply>(pool: &Pool, lhs: View, rhs: View, out: ViewMut) {
    let count = |view: &View| if friendly(view.layout) { 0 } else { view.layout.numel() };
    let rank = lhs.layout.rank();
    let total = numel(&lhs.shape()[..rank - 1]) * rhs.shape()[rank - 1];
    let out: &mut [T] = out.elements(lhs.dtype, total);
    scratch::with::<T, _>(count(&lhs), |left| {
        scratch::with::<T, _>(count(&rhs), |right| {
            let (a, b): (&[T], &[T]) = (lhs.elements(), rhs.elements());
            let (lhs_copy, rhs_copy) = (Layout::contiguous(lhs.shape()), Layout::contiguous(rhs.shape()));
            let (a, la) = tidy(pool, a, lhs.layout, left, &lhs_copy);
            let (b, lb) = tidy(pool, b, rhs.layout, right, &rhs_copy);
            product(pool, a, la, b, lb, out);
        })
    })
}

/// A matrix as it lies, or copied into `room`.
fn tidy<'a, T: Plain>(
    pool: &Pool,
    source: &'a [T],
    layout: &'a Layout,
    room: &'a mut [T],
    copied: &'a Layout,
) -> (&'a [T], &'a Layout) {
    if friendly(layout) {
        return (source, layout);
    }
    crate::movement::copy_walk(pool, &Walk::new(layout), source, room);
    (room, copied)
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
    let batch = lead_a.numel;
    let (rows, columns) = blocks(m, n, k);
    let (down, across) = (m.div_ceil(rows), n.div_ceil(columns));
    let each = (GRAIN / (rows * columns * k).max(1)).max(1);
    let shared = Shared::new(out);
    in_tiles(pool, batch * down * across, each, |first, count| {
        for task in first..first + count {
            let (item, block) = (task / (down * across), task % (down * across));
            let (i, j) = (block / across * rows, block % across * columns);
            let lhs = Matrix {
                data: a.as_ptr().wrapping_offset(lead_a.position(item)),
                row: la.strides[rank - 2],
                column: la.strides[rank - 1],
            };
            let rhs = Matrix {
                data: b.as_ptr().wrapping_offset(lead_b.position(item)),
                row: lb.strides[rank - 2],
                column: lb.strides[rank - 1],
            };
            let size = [rows.min(m - i), columns.min(n - j), k];
            // SAFETY: layouts were checked, `out` holds batch · m · n elements, and blocks are disjoint.
            unsafe {
                let out = shared.pointer().add(item * m * n + i * n + j);
                T::multiply(size, out, n, false, lhs.at(i, 0), rhs.at(0, j));
            }
        }
    });
}

/// Rows and columns of a block of the result: about eight blocks where the product is large.
fn blocks(m: usize, n: usize, k: usize) -> (usize, usize) {
    let wanted = (m * n * k / GRAIN).clamp(1, 8);
    if wanted == 1 {
        return (m, n);
    }
    let (mut down, mut across) = (1, 1);
    while down * across < wanted {
        if m / down >= n / across { down *= 2 } else { across *= 2 }
    }
    (m.div_ceil(down).next_multiple_of(16), n.div_ceil(across).next_multiple_of(64))
}

#[cfg(test)]
mod tests;
