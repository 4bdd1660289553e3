//! Fold: sums sliding windows back to where they came from, the adjoint of the sliding-window view.
//!
//! Each result gathers its windows in a fixed order; nothing is scattered.

use crate::alphabet::DType;
use crate::element::{Number, Stored, by_dtype};
use crate::pool::{Pool, fill_tiles};
use crate::view::{Dims, View, ViewMut, contiguous_strides, numel};
use crate::walk::Walk;

/// Sums windows `y[.., O1..Ok, K1..Kk]` into `out[.., S1..Sk]`: the element at window `o` and place `k` within it is
/// added at `o·stride + k·dilation`. `sizes`, `strides` and `dilations` have k entries. Windows are added in
/// row-major order of `k`.
pub fn fold(pool: &Pool, view: View, sizes: &[usize], strides: &[usize], dilations: &[usize], out: ViewMut) {
    let k = sizes.len();
    let shape = view.shape();
    assert!(view.dtype != DType::Bool, "fold: of bools");
    assert!(strides.len() == k && dilations.len() == k && shape.len() >= 2 * k, "fold: {k} sizes for {shape:?}");
    let lead = shape.len() - 2 * k;
    let (counts, kernel) = (&shape[lead..lead + k], &shape[lead + k..]);
    for i in 0..k {
        let reach = if counts[i] == 0 || kernel[i] == 0 {
            0
        } else {
            (counts[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
        };
        assert!(reach <= sizes[i], "fold: windows of {shape:?} reach beyond {sizes:?}");
    }
    let window = numel(sizes);
    let outer = Walk::of(0, &shape[..lead], &view.layout.strides[..lead]);
    let total = outer.numel * window;
    let step = contiguous_strides(sizes);
    let at = |axis: usize| view.layout.strides[axis];
    by_dtype!(view.dtype, T => {
        let source: &[T] = view.elements();
        let out: &mut [T] = out.elements(view.dtype, total);
        if out.is_empty() {
            return;
        }
        fill_tiles(pool, out, window, ((1 << 14) / window.max(1)).max(1), |first, out| {
            crate::scratch::with::<<T as Stored>::Number, _>(window, |sums| {
                for (line, out) in out.chunks_exact_mut(window).enumerate() {
                    sums.fill(<T as Stored>::Number::ZERO);
                    let base = view.layout.offset as isize + outer.position(first + line);
                    if view.layout.numel() > 0 {
                        each_index(kernel, |place| {
                            // Every window's element at this place, along the last axis in one go.
                            let rows: &[usize] = &counts[..k.saturating_sub(1)];
                            let mut from = base;
                            let mut to = 0isize;
                            for i in 0..k {
                                from += place[i] as isize * at(lead + k + i);
                                to += (place[i] * dilations[i]) as isize * step[i];
                            }
                            each_index(rows, |row| {
                                let (mut from, mut to) = (from, to);
                                for (i, &r) in row.iter().enumerate() {
                                    from += r as isize * at(lead + i);
                                    to += (r * strides[i]) as isize * step[i];
                                }
                                let (count, by, stride) = match k {
                                    0 => (1, 0, 1),
                                    _ => (counts[k - 1], at(lead + k - 1), strides[k - 1]),
                                };
                                for o in 0..count {
                                    let sum = &mut sums[to as usize + o * stride];
                                    *sum = sum.add(source[(from + o as isize * by) as usize].load());
                                }
                            });
                        });
                    }
                    out.iter_mut().zip(&*sums).for_each(|(o, &s)| *o = T::store(s));
                }
            });
        });
    })
}

/// Calls `f` with every index below `shape`, in row-major order.
pub(crate) fn each_index(shape: &[usize], mut f: impl FnMut(&[usize])) {
    let mut index: Dims = smallvec::SmallVec::from_elem(0, shape.len());
    for _ in 0..numel(shape) {
        f(&index);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests;
