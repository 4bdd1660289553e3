//! Fold: sums sliding windows back to where they came from, the adjoint of the sliding-window view.
//!
//! Each result gathers its windows in a fixed order; nothing is scattered.

use crate::alphabet::DType;
use crate::element::{Number, Stored, by_dtype};
use crate::pool::{Pool, fill_tiles};
use crate::simd::{Arch, Loop, dispatch};
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

/// The gradient of windows' maxima: each element of x [.., S1..Sk] gets, from every window whose maximum it equals, that
/// window's gradient over the number of such elements. `maxima` and `gradient` are [.., O1..Ok]; all are contiguous f32 or
/// f64. Windows are added in row-major order of the place within them.
pub fn max_pool_gradient(
    pool: &Pool,
    operands: [View; 3],
    window: &[usize],
    strides: &[usize],
    dilations: &[usize],
    out: ViewMut,
) {
    match operands[0].dtype {
        DType::F32 => pool_gradient::<f32>(pool, operands, window, strides, dilations, out),
        DType::F64 => pool_gradient::<f64>(pool, operands, window, strides, dilations, out),
        other => panic!("max_pool_gradient: of {other}"),
    }
}

fn pool_gradient<T: Number + std::ops::Div<Output = T>>(
    pool: &Pool,
    [x, maxima, gradient]: [View; 3],
    window: &[usize],
    strides: &[usize],
    dilations: &[usize],
    out: ViewMut,
) {
    let k = window.len();
    let lead = x.shape().len().wrapping_sub(k);
    assert!(
        strides.len() == k && dilations.len() == k && maxima.shape() == gradient.shape(),
        "max_pool_gradient: {k} sizes for {:?}, {:?} and {:?}",
        x.shape(),
        maxima.shape(),
        gradient.shape()
    );
    assert!(
        [x, maxima, gradient].iter().all(|view| view.layout.is_contiguous() && view.layout.offset == 0),
        "max_pool_gradient: operands are contiguous"
    );
    let (sizes, counts) = (&x.shape()[lead..], &maxima.shape()[lead..]);
    for i in 0..k {
        let reach = (counts[i].max(1) - 1) * strides[i] + (window[i] - 1) * dilations[i] + 1;
        assert!(reach <= sizes[i] || counts[i] == 0, "max_pool_gradient: windows reach beyond {sizes:?}");
    }
    let (plane, many) = (numel(sizes), numel(counts));
    let out: &mut [T] = out.elements(x.dtype, x.layout.numel());
    let (x, maxima, gradient): (&[T], &[T], &[T]) = (x.elements(), maxima.elements(), gradient.elements());
    let shape = Shape { window, strides, dilations, counts, step: contiguous_strides(sizes) };
    fill_tiles(pool, out, plane, ((1 << 14) / plane.max(1)).max(1), |first, out| {
        crate::scratch::with::<T, _>(many, |shares| {
            for (line, out) in out.chunks_exact_mut(plane).enumerate() {
                let here = |values: &[T], size: usize| -> std::ops::Range<usize> {
                    debug_assert!(values.len() >= (first + line + 1) * size);
                    (first + line) * size..(first + line + 1) * size
                };
                let (x, maxima) = (&x[here(x, plane)], &maxima[here(maxima, many)]);
                let gradient = &gradient[here(gradient, many)];
                let work = PoolGradient { shape: &shape, x, maxima, gradient, shares, out };
                match (window.last(), shape.block()) {
                    (Some(2), 8) => dispatch(Apart::<T, 2, 8, 16>(work)),
                    (Some(2), 4) => dispatch(Apart::<T, 2, 4, 8>(work)),
                    (Some(2), 2) => dispatch(Apart::<T, 2, 2, 4>(work)),
                    (Some(3), 8) => dispatch(Apart::<T, 3, 8, 24>(work)),
                    (Some(3), 4) => dispatch(Apart::<T, 3, 4, 12>(work)),
                    (Some(3), 2) => dispatch(Apart::<T, 3, 2, 6>(work)),
                    _ => dispatch(work),
                }
            }
        });
    });
}

/// The geometry of windows over one plane.
struct Shape<'a> {
    window: &'a [usize],
    strides: &'a [usize],
    dilations: &'a [usize],
    counts: &'a [usize],
    step: crate::view::Strides,
}

impl Shape<'_> {
    /// How many windows of a row are worked on side by side, if windows neither overlap nor have holes; else 0.
    fn block(&self) -> usize {
        let apart = self.window == self.strides && self.dilations.iter().all(|&by| by == 1);
        let count = self.counts.last().copied().filter(|_| apart).unwrap_or(0);
        [8, 4, 2].into_iter().find(|&block| count >= block).unwrap_or(0)
    }

    /// Calls `f(first window, first element, number, step between elements)` for every place within a window and row of windows.
    #[inline(always)]
    fn rows(&self, mut f: impl FnMut(usize, usize, usize, usize)) {
        let last = self.counts.len() - 1;
        if self.counts[last] == 0 {
            return;
        }
        each_index(self.window, |place| {
            let start: usize = (0..=last).map(|i| place[i] * self.dilations[i] * self.step[i] as usize).sum();
            let mut at = 0;
            each_index(&self.counts[..last], |row| {
                let from: usize = (0..last).map(|i| row[i] * self.strides[i] * self.step[i] as usize).sum();
                f(at, start + from, self.counts[last], self.strides[last]);
                at += self.counts[last];
            });
        });
    }
}

struct PoolGradient<'a, T> {
    shape: &'a Shape<'a>,
    x: &'a [T],
    maxima: &'a [T],
    gradient: &'a [T],
    shares: &'a mut [T],
    out: &'a mut [T],
}

impl<T: Number + std::ops::Div<Output = T>> Loop for PoolGradient<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let PoolGradient { shape, x, maxima, gradient, shares, out } = self;
        shares.fill(T::ZERO);
        // Elements are gathered first, so that comparing runs in vectors and nothing branches on them.
        let mut room = [T::ZERO; SIDE];
        shape.rows(|window, from, count, step| {
            for first in (0..count).step_by(SIDE) {
                let (n, at) = (SIDE.min(count - first), from + first * step);
                let windows = window + first..window + first + n;
                let (shares, maxima, room) = (&mut shares[windows.clone()], &maxima[windows], &mut room[..n]);
                gather(&x[at..at + (n - 1) * step + 1], step, room);
                for i in 0..n {
                    shares[i] = shares[i].add(if room[i] == maxima[i] { T::ONE } else { T::ZERO });
                }
            }
        });
        shares.iter_mut().zip(gradient).for_each(|(share, &g)| *share = g / *share);
        out.fill(T::ZERO);
        shape.rows(|window, from, count, step| {
            for first in (0..count).step_by(SIDE) {
                let (n, at) = (SIDE.min(count - first), from + first * step);
                let windows = window + first..window + first + n;
                let (shares, maxima, room) = (&shares[windows.clone()], &maxima[windows], &mut room[..n]);
                gather(&x[at..at + (n - 1) * step + 1], step, room);
                for i in 0..n {
                    room[i] = if room[i] == maxima[i] { shares[i] } else { T::ZERO };
                }
                let out = &mut out[at..at + (n - 1) * step + 1];
                out.iter_mut().step_by(step).zip(&*room).for_each(|(o, &share)| *o = o.add(share));
            }
        });
    }
}

/// The same for windows that do not overlap, of which the last axis is `S` wide: no element waits for another window,
/// so a block of `B` windows, `W` elements wide, is compared and shared out in registers. The last block of a row reaches
/// back over its neighbour and writes the same values again.
struct Apart<'a, T, const S: usize, const B: usize, const W: usize>(PoolGradient<'a, T>);

impl<T: Number + std::ops::Div<Output = T>, const S: usize, const B: usize, const W: usize> Loop
    for Apart<'_, T, S, B, W>
{
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let PoolGradient { shape, x, maxima, gradient, out, .. } = self.0;
        let last = shape.counts.len() - 1;
        let count = shape.counts[last];
        let covered: usize = (0..=last).map(|i| shape.counts[i] * shape.strides[i]).product();
        if covered < out.len() {
            out.fill(T::ZERO);
        }
        let mut at = 0;
        // Where the rows of a window begin.
        let mut places: smallvec::SmallVec<[usize; 8]> = smallvec::SmallVec::new();
        each_index(&shape.window[..last], |place| {
            places.push((0..last).map(|i| place[i] * shape.step[i] as usize).sum());
        });
        for row in 0..shape.counts[..last].iter().product() {
            let (mut rest, mut from) = (row, 0);
            for i in (0..last).rev() {
                from += rest % shape.counts[i] * shape.strides[i] * shape.step[i] as usize;
                rest /= shape.counts[i];
            }
            let mut first = 0;
            while first < count {
                let begin = first.min(count - B);
                // Every window's values once for each element of its row: comparing then needs no shuffles.
                let m: [T; W] = std::array::from_fn(|i| maxima[at + begin..][..B][i / S]);
                let g: [T; W] = std::array::from_fn(|i| gradient[at + begin..][..B][i / S]);
                let mut equal = [T::ZERO; W];
                for &place in &places {
                    let x = &x[place + from + begin * S..][..W];
                    for i in 0..W {
                        equal[i] = equal[i].add(if x[i] == m[i] { T::ONE } else { T::ZERO });
                    }
                }
                let ties: [T; W] =
                    std::array::from_fn(|i| (1..S).fold(equal[i / S * S], |sum, j| sum.add(equal[i / S * S + j])));
                let shares: [T; W] = std::array::from_fn(|i| g[i] / ties[i]);
                for &place in &places {
                    let x = &x[place + from + begin * S..][..W];
                    let out = &mut out[place + from + begin * S..][..W];
                    for i in 0..W {
                        // As a sum from zero has it: no negative zeros.
                        out[i] = T::ZERO.add(if x[i] == m[i] { shares[i] } else { T::ZERO });
                    }
                }
                first += B;
            }
            at += count;
        }
    }
}

/// Windows that are worked on side by side.
const SIDE: usize = 64;

/// Every `step`th element.
#[inline(always)]
fn gather<T: Copy>(from: &[T], step: usize, room: &mut [T]) {
    room.iter_mut().zip(from.iter().step_by(step)).for_each(|(o, &x)| *o = x);
}

/// Calls `f` with every index below `shape`, in row-major order.
#[inline(always)]
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
