//! Large products with one small side: for each depth of the sums the smaller operand is laid out once, by all threads, and
//! the other one once in all, strip by strip. Blocks would lay out each part of either again for every block beside it.

use super::panels::{From, lay};
use super::tile::SLACK;
use super::{GRAIN, Left, Matrix, Multiply, THIN, depth_of, multiply, rows_of};
use crate::pool::{Pool, Shared, in_tiles};
use crate::scratch;

/// Most elements that are laid out at once.
const MOST: usize = 1 << 18;
/// Strips of the larger side.
const STRIPS: usize = 8;
/// Columns of a strip: what stays in the second-level cache.
const WIDE: usize = 512;

/// The left operand of one depth in panels, each with its slack.
struct Laid<T> {
    panels: *const T,
    /// Rows of a panel, and elements between panels.
    rows: usize,
    each: usize,
}
// SAFETY: panels are read only.
unsafe impl<T: Sync> Sync for Laid<T> {}

impl<T: Multiply> Left<T> for Laid<T> {
    unsafe fn panel(&self, row: usize, _: usize, _: usize, _: usize, _: *mut T) -> *const T {
        self.panels.wrapping_add(row / self.rows * self.each)
    }
}

/// Whether a product is one for this way.
pub(super) fn fits([m, n, k]: [usize; 3]) -> bool {
    let (small, large) = (m.min(n), m.max(n));
    large >= STRIPS * THIN && small >= THIN && small * depth_of(k) <= MOST && m * n * k >= STRIPS * GRAIN
}

/// out (m × n) = lhs · rhs.
///
/// # Safety
/// As for [`super::multiply`].
pub(super) unsafe fn product<T: Multiply>(
    pool: &Pool,
    [m, n, k]: [usize; 3],
    out: Shared<T>,
    lhs: Matrix<T>,
    rhs: Matrix<T>,
) {
    let depth = depth_of(k);
    for start in (0..k).step_by(depth) {
        let size = [m, n, depth.min(k - start)];
        let (lhs, rhs) = (lhs.at(0, start), rhs.at(start, 0));
        // SAFETY: the caller's promise.
        unsafe {
            match n <= m {
                true => right_once(pool, size, out, start > 0, lhs, rhs),
                false => left_once(pool, size, out, start > 0, lhs, rhs),
            }
        }
    }
}

unsafe fn right_once<T: Multiply>(
    pool: &Pool,
    [m, n, k]: [usize; 3],
    out: Shared<T>,
    accumulate: bool,
    lhs: Matrix<T>,
    rhs: Matrix<T>,
) {
    let loops = T::loops();
    let (rows, across) = (m.div_ceil(STRIPS).next_multiple_of(loops.rows), n.div_ceil(WIDE));
    let columns = n.div_ceil(across).next_multiple_of(loops.columns());
    scratch::with::<T, _>(k * n.next_multiple_of(loops.columns()) + SLACK, |room| {
        lay(pool, rhs, k, n, room);
        let room = &*room;
        in_tiles(pool, m.div_ceil(rows) * across, 1, |block, _| {
            let (i, j) = (block / across * rows, block % across * columns);
            let size = [rows.min(m - i), columns.min(n - j), k];
            let right = From { panels: room, k, n, column: j };
            // SAFETY: the caller's promise; blocks are disjoint.
            unsafe { multiply(size, out.pointer().add(i * n + j), n, accumulate, &lhs.at(i, 0), &right) };
        });
    });
}

unsafe fn left_once<T: Multiply>(
    pool: &Pool,
    [m, n, k]: [usize; 3],
    out: Shared<T>,
    accumulate: bool,
    lhs: Matrix<T>,
    rhs: Matrix<T>,
) {
    let (rows, columns) = (rows_of::<T>(m), n.div_ceil(STRIPS).next_multiple_of(T::loops().columns()));
    let (each, count) = (rows * k + SLACK, m.div_ceil(rows));
    scratch::with::<T, _>(count * each, |room| {
        let shared = Shared::new(room);
        in_tiles(pool, count, 4, |first, some| {
            for panel in first..first + some {
                let row = panel * rows;
                // SAFETY: the caller's promise; panels and their slack are disjoint.
                unsafe { lhs.panel(row, rows.min(m - row), 0, k, shared.pointer().add(panel * each)) };
            }
        });
        let left = &Laid { panels: room.as_ptr(), rows, each };
        in_tiles(pool, n.div_ceil(columns), 1, |strip, _| {
            let j = strip * columns;
            let size = [m, columns.min(n - j), k];
            // SAFETY: the caller's promise; strips are disjoint.
            unsafe { multiply(size, out.pointer().add(j), n, accumulate, left, &rhs.at(0, j)) };
        });
    });
}
