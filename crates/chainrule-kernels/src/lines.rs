//! Kernels along one axis: index of an extreme, running sum, sort.
//!
//! Each line is read whole, worked on, and written back; lines are independent, so tiles are groups of lines.

use crate::alphabet::DType;
use crate::element::{Number, Stored, by_dtype};
use crate::pool::{Pool, Shared, in_tiles};
use crate::scratch;
use crate::view::{Layout, View, ViewMut};
use crate::walk::Walk;
use smallvec::SmallVec;

/// Elements that one tile takes at least.
const GRAIN: usize = 1 << 14;

/// A view as lines along an axis: where each begins in the source and in a contiguous result.
struct Lines {
    /// All dimensions but the axis.
    starts: Walk,
    length: usize,
    step: isize,
    /// Elements behind the axis: the step along a line of a contiguous result.
    inner: usize,
}

impl Lines {
    fn new(layout: &Layout, axis: usize) -> Lines {
        assert!(axis < layout.rank(), "axis {axis} of a value with {} dimensions", layout.rank());
        let others: SmallVec<[usize; 6]> = (0..layout.rank()).filter(|&a| a != axis).collect();
        Lines {
            starts: Walk::new(&layout.permuted(&others)),
            length: layout.shape[axis],
            step: layout.strides[axis],
            inner: layout.shape[axis + 1..].iter().product(),
        }
    }

    /// Where line `line` begins in a contiguous result of the same shape.
    fn out_start(&self, line: usize) -> usize {
        line / self.inner * self.inner * self.length + line % self.inner
    }

    /// Calls `f(line, elements)` for every line.
    fn each<T: Stored>(&self, pool: &Pool, source: &[T], f: impl Fn(usize, &[T]) + Sync) {
        let tile = (GRAIN / self.length.max(1)).max(1);
        in_tiles(pool, self.starts.numel, tile, |first, count| {
            scratch::with::<T, _>(self.length, |room| {
                for line in first..first + count {
                    let start = self.starts.position(line);
                    if self.step == 1 && self.length > 0 {
                        f(line, &source[start as usize..start as usize + self.length]);
                        continue;
                    }
                    for (i, x) in room.iter_mut().enumerate() {
                        *x = source[(start + i as isize * self.step) as usize];
                    }
                    f(line, room);
                }
            });
        });
    }
}

/// Index (i64) of the largest or smallest element along `axis`; the first on ties, and the first NaN wins. The axis
/// vanishes from the shape; it must not be empty unless the result is.
pub fn arg_reduce(pool: &Pool, largest: bool, view: View, axis: usize, out: ViewMut) {
    by_dtype!(view.dtype, T => {
        let source: &[T] = view.elements();
        let lines = Lines::new(view.layout, axis);
        let out: &mut [i64] = out.elements(DType::I64, lines.starts.numel);
        assert!(lines.length > 0 || out.is_empty(), "arg_reduce: axis {axis} is empty");
        let shared = Shared::new(out);
        lines.each(pool, source, |line, values| {
            let index = if largest { extreme(values, |a, b| a > b) } else { extreme(values, |a, b| a < b) };
            // SAFETY: one element for each line.
            unsafe { shared.slice(line, 1)[0] = index as i64 };
        });
    })
}

fn extreme<T: Stored>(values: &[T], better: impl Fn(T::Number, T::Number) -> bool) -> usize {
    let (mut best, mut at) = (values[0].load(), 0);
    for (i, x) in values.iter().enumerate() {
        if best.is_nan() {
            break;
        }
        let x = x.load();
        if better(x, best) || x.is_nan() {
            (best, at) = (x, i);
        }
    }
    at
}

/// Running sum along `axis`, from the end if `reverse`. bf16 and f16 run in f32 and are rounded at each element.
pub fn cumsum(pool: &Pool, view: View, axis: usize, reverse: bool, out: ViewMut) {
    assert!(view.dtype != DType::Bool, "cumsum: of bools");
    by_dtype!(view.dtype, T => {
        let source: &[T] = view.elements();
        let lines = Lines::new(view.layout, axis);
        let out: &mut [T] = out.elements(view.dtype, view.layout.numel());
        let shared = Shared::new(out);
        lines.each(pool, source, |line, values| {
            let start = lines.out_start(line);
            let mut sum = <T as Stored>::Number::ZERO;
            for i in 0..values.len() {
                let i = if reverse { values.len() - 1 - i } else { i };
                sum = sum.add(values[i].load());
                // SAFETY: lines own disjoint elements of the result.
                unsafe { shared.slice(start + i * lines.inner, 1)[0] = T::store(sum) };
            }
        });
    })
}

/// Sorts along `axis`, with the source index (i64) of each element. Stable; NaN come last in both directions.
pub fn sort(pool: &Pool, view: View, axis: usize, descending: bool, values_out: ViewMut, indices_out: ViewMut) {
    by_dtype!(view.dtype, T => {
        let source: &[T] = view.elements();
        let lines = Lines::new(view.layout, axis);
        let total = view.layout.numel();
        let values_out = Shared::new(values_out.elements::<T>(view.dtype, total));
        let indices_out = Shared::new(indices_out.elements::<i64>(DType::I64, total));
        lines.each(pool, source, |line, values| {
            let start = lines.out_start(line);
            scratch::with::<u64, _>(2 * values.len(), |pairs| {
                let (pairs, _) = pairs.as_chunks_mut::<2>();
                for (i, (pair, x)) in pairs.iter_mut().zip(values).enumerate() {
                    let x = x.load();
                    let key = x.order();
                    *pair = [if descending && !x.is_nan() { !key } else { key }, i as u64];
                }
                pairs.sort_unstable(); // the index in each pair makes it stable
                for (i, pair) in pairs.iter().enumerate() {
                    let at = start + i * lines.inner;
                    // SAFETY: lines own disjoint elements of the results.
                    unsafe {
                        values_out.slice(at, 1)[0] = values[pair[1] as usize];
                        indices_out.slice(at, 1)[0] = pair[1] as i64;
                    }
                }
            });
        });
    })
}

/// A number as an unsigned key of the same order; −0 equals +0, and a float NaN is `u64::MAX`, which no other float
/// is, even with its bits flipped.
trait Order {
    fn order(self) -> u64;
}
macro_rules! order_float {
    ($($t:ty, $bits:ty);*) => { $(impl Order for $t {
        #[inline(always)]
        fn order(self) -> u64 {
            if self != self {
                return u64::MAX;
            }
            let bits = (self + 0.0).to_bits();
            let sign = 1 << (<$bits>::BITS - 1);
            (if bits & sign == 0 { bits | sign } else { !bits }) as u64
        }
    })* };
}
order_float!(f32, u32; f64, u64);
macro_rules! order_int {
    ($($t:ty),*) => { $(impl Order for $t {
        #[inline(always)]
        fn order(self) -> u64 { (self as i64 as u64) ^ (1 << 63) }
    })* };
}
order_int!(i32, i64, u8);
#[cfg(test)]
mod tests;
