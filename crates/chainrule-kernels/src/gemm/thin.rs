//! Products with few rows on the left: a network at batch 1, a token at a time.
//!
//! Such a product reads its right operand once and is done, so it is as fast as memory, if it reads in the order in which
//! memory lies and copies nothing. Rows of the right operand are added up, weighted; columns of it are multiplied by the
//! left row in sixteen partial sums (eight of f64) that are joined by halves: the same bits at every level of instructions.

use super::Matrix;
use super::tile::Looped;
use crate::element::Number;
use crate::vector::Vector;

/// Rows on the left up to which this is the way.
const MOST: usize = 4;
/// Elements of the right operand below which packing costs nothing.
const LEAST: usize = 1 << 12;
/// Elements of the right operand that one tile takes.
pub(crate) const GRAIN: usize = 1 << 18;

/// out (n numbers) = lhs (k numbers, a step apart) · rhs (k × n): k, n, out, lhs, step, rhs.
pub(crate) type Rows<T> = unsafe fn(usize, usize, *mut T, *const T, isize, Matrix<T>);
/// The same of contiguous numbers: k, n, out, lhs, rhs.
pub(crate) type Columns<T> = unsafe fn(usize, usize, *mut T, *const T, Matrix<T>);

/// Whether a product has few rows on the left.
pub(crate) fn few(m: usize) -> bool {
    m <= MOST
}

/// Whether a product is thin, and its operands lie as the loops want them.
pub(crate) fn fits<T>([m, n, k]: [usize; 3], lhs: Matrix<T>, rhs: Matrix<T>) -> bool {
    few(m) && n * k >= LEAST && (rhs.column == 1 || rhs.row == 1 && lhs.column == 1)
}

/// out (m × n, rows `row` apart) = lhs (m × k) · rhs (k × n), for operands that [`fits`].
///
/// # Safety
/// As for [`super::multiply`].
pub(crate) unsafe fn multiply<T: Looped>(
    [m, n, k]: [usize; 3],
    out: *mut T,
    row: usize,
    lhs: Matrix<T>,
    rhs: Matrix<T>,
) {
    let loops = T::loops();
    for i in 0..m {
        let (left, out) = (lhs.at(i, 0).data, out.wrapping_add(i * row));
        // SAFETY: the caller's promise.
        unsafe {
            match rhs.column == 1 {
                true => (loops.rows_of)(k, n, out, left, lhs.column, rhs),
                false => (loops.columns_of)(k, n, out, left, rhs),
            }
        }
    }
}

/// A product with a matrix whose rows are contiguous.
///
/// # Safety
/// All operands lie in valid memory, and `out` overlaps none.
#[inline(always)]
pub(crate) unsafe fn rows<V: Vector>(
    k: usize,
    n: usize,
    out: *mut V::Number,
    lhs: *const V::Number,
    step: isize,
    rhs: Matrix<V::Number>,
) {
    // SAFETY: the caller's promise; what is narrower than a vector goes through a room of its own.
    unsafe {
        let weight = |p: usize| V::splat(*lhs.offset(p as isize * step));
        let row = |p: usize| rhs.data.offset(p as isize * rhs.row);
        let whole = n / V::LANES * V::LANES;
        for j in (0..whole).step_by(V::LANES) {
            V::zero().store(out.add(j));
        }
        let mut p = 0;
        while p + 4 <= k {
            let weights = [weight(p), weight(p + 1), weight(p + 2), weight(p + 3)];
            let from = [row(p), row(p + 1), row(p + 2), row(p + 3)];
            for j in (0..whole).step_by(V::LANES) {
                let mut sum = V::load(out.add(j));
                for q in 0..4 {
                    sum = weights[q].multiply_add(V::load(from[q].add(j)), sum);
                }
                sum.store(out.add(j));
            }
            p += 4;
        }
        for p in p..k {
            for j in (0..whole).step_by(V::LANES) {
                weight(p).multiply_add(V::load(row(p).add(j)), V::load(out.add(j))).store(out.add(j));
            }
        }
        if whole < n {
            let mut room = V::zero();
            let room = (&raw mut room).cast::<V::Number>();
            let mut sum = V::zero();
            for p in 0..k {
                std::ptr::copy_nonoverlapping(row(p).add(whole), room, n - whole);
                sum = weight(p).multiply_add(V::load(room), sum);
            }
            sum.store(room);
            std::ptr::copy_nonoverlapping(room, out.add(whole), n - whole);
        }
    }
}

/// A product with a matrix whose columns are contiguous, `R` of them at a time, in groups of `W` vectors; `lhs` too is
/// contiguous.
///
/// # Safety
/// As for [`rows`].
#[inline(always)]
pub(crate) unsafe fn columns<V: Vector, const W: usize, const R: usize>(
    k: usize,
    n: usize,
    out: *mut V::Number,
    lhs: *const V::Number,
    rhs: Matrix<V::Number>,
) {
    let whole = n / R * R;
    // SAFETY: the caller's promise.
    unsafe {
        for j in (0..whole).step_by(R) {
            some_columns::<V, W, R>(k, out.add(j), lhs, rhs.at(0, j));
        }
        for j in whole..n {
            some_columns::<V, W, 1>(k, out.add(j), lhs, rhs.at(0, j));
        }
    }
}

// Plain counted loops: these must unroll into registers, and iterators do not always.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn some_columns<V: Vector, const W: usize, const R: usize>(
    k: usize,
    out: *mut V::Number,
    lhs: *const V::Number,
    rhs: Matrix<V::Number>,
) {
    let group = W * V::LANES;
    // SAFETY: the caller's promise; the last, shorter group goes through a room of zeros.
    unsafe {
        let mut sums = [[V::zero(); W]; R];
        let whole = k / group * group;
        let mut p = 0;
        while p < whole {
            for w in 0..W {
                let x = V::load(lhs.add(p + w * V::LANES));
                for r in 0..R {
                    let y = V::load(rhs.data.offset(r as isize * rhs.column).add(p + w * V::LANES));
                    sums[r][w] = x.multiply_add(y, sums[r][w]);
                }
            }
            p += group;
        }
        if whole < k {
            let mut left = [V::zero(); W];
            std::ptr::copy_nonoverlapping(lhs.add(whole), left.as_mut_ptr().cast(), k - whole);
            for r in 0..R {
                let mut right = [V::zero(); W];
                let from = rhs.data.offset(r as isize * rhs.column).add(whole);
                std::ptr::copy_nonoverlapping(from, right.as_mut_ptr().cast(), k - whole);
                for w in 0..W {
                    sums[r][w] = left[w].multiply_add(right[w], sums[r][w]);
                }
            }
        }
        for r in 0..R {
            let lanes = sums[r].as_mut_ptr().cast::<V::Number>();
            let mut half = group / 2;
            while half > 0 {
                for i in 0..half {
                    *lanes.add(i) = Number::add(*lanes.add(i), *lanes.add(i + half));
                }
                half /= 2;
            }
            *out.add(r) = *lanes;
        }
    }
}
