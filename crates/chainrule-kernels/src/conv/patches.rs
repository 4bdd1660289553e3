//! Patches: the input elements under each kernel element for each result, as a matrix, a block at a time.
//!
//! Kernel and result are alike here: the input coordinate is `kernel·dilation + result·stride − padding`, so a block
//! is written along whichever of the two has the longer rows.

use crate::element::{Number, Stored};
use crate::scratch;
use crate::simd::{Arch, Loop, dispatch};
use crate::view::numel;
use std::ops::Range;

/// One of the two index spaces: a leading dimension (channel or image) and up to three spatial ones.
pub(super) struct Side {
    lead_stride: isize,
    /// Spatial sizes, filled up with leading ones.
    sizes: [usize; 3],
    /// How far one step goes in the dilated, padded input.
    steps: [usize; 3],
    each: usize,
}

impl Side {
    pub(super) fn new(lead_stride: isize, sizes: &[usize], steps: &[usize]) -> Side {
        Side { lead_stride, sizes: three(sizes, 1), steps: three(steps, 1), each: numel(sizes) }
    }

    /// Offset of the leading coordinate, and the spatial coordinates times their steps.
    #[inline(always)]
    fn decode(&self, index: usize) -> (isize, [isize; 3]) {
        let (lead, mut rest) = (index / self.each, index % self.each);
        let mut at = [0; 3];
        for axis in (0..3).rev() {
            at[axis] = (rest % self.sizes[axis] * self.steps[axis]) as isize;
            rest /= self.sizes[axis];
        }
        (lead as isize * self.lead_stride, at)
    }
}

fn three<T: Copy>(values: &[T], one: T) -> [T; 3] {
    let mut all = [one; 3];
    all[3 - values.len()..].copy_from_slice(values);
    all
}

/// The patches of an input.
pub(super) struct Patches<'a, T> {
    source: &'a [T],
    sizes: [usize; 3],
    strides: [isize; 3],
    pad: [isize; 3],
    dilation: [usize; 3],
    kernel: Side,
    result: Side,
}

impl<'a, T: Stored> Patches<'a, T> {
    pub(super) fn new(
        source: &'a [T],
        sizes: &[usize],
        strides: &[isize],
        pad: &[isize],
        dilation: &[usize],
        kernel: Side,
        result: Side,
    ) -> Self {
        Patches {
            source,
            sizes: three(sizes, 1),
            strides: three(strides, 0),
            pad: three(pad, 0),
            dilation: three(dilation, 1),
            kernel,
            result,
        }
    }

    /// Writes the block of kernel elements `rows` and results `columns` into `room`, row-major with `pitch` elements a
    /// row; what is beyond the columns is unspecified but finite.
    pub(super) fn fill(
        &self,
        origin: isize,
        rows: Range<usize>,
        columns: Range<usize>,
        pitch: usize,
        room: &mut [T::Number],
    ) {
        let width = columns.len();
        if self.kernel.sizes[2] <= self.result.sizes[2] {
            for row in room.chunks_exact_mut(pitch) {
                row[width..].fill(T::Number::ZERO);
            }
            return self.write(origin, &self.kernel, rows, &self.result, columns, pitch, room);
        }
        // The kernel has the longer rows: write a few results along it, then turn them.
        let depth = rows.len();
        scratch::with::<T::Number, _>(TURNED * depth, |lines| {
            for start in (0..width).step_by(TURNED) {
                let count = TURNED.min(width - start);
                if count < TURNED {
                    lines.fill(T::Number::ZERO);
                }
                let some = columns.start + start..columns.start + start + count;
                self.write(origin, &self.result, some, &self.kernel, rows.clone(), depth, &mut lines[..count * depth]);
                dispatch(Turn { lines, depth, pitch, room: &mut room[start..] });
            }
        });
    }

    /// Writes a line of `inner` indices for each `outer` index, lines `pitch` apart.
    #[allow(clippy::too_many_arguments)]
    fn write(
        &self,
        origin: isize,
        outer: &Side,
        lines: Range<usize>,
        inner: &Side,
        range: Range<usize>,
        pitch: usize,
        room: &mut [T::Number],
    ) {
        let row = inner.sizes[2];
        // The runs of the inner range, decoded once: start in the line, length, offset, coordinates.
        let most = range.len() / row + 2;
        scratch::with::<i64, _>(most * 6, |runs| {
            let (runs, _) = runs.as_chunks_mut::<6>();
            let mut count = 0;
            let mut at = range.start;
            while at < range.end {
                let len = (row - at % row).min(range.end - at);
                let (offset, [z, y, x]) = inner.decode(at);
                runs[count] = [(at - range.start) as i64, len as i64, offset as i64, z as i64, y as i64, x as i64];
                count += 1;
                at += len;
            }
            let runs = &runs[..count];
            dispatch(Lines { patches: self, origin, outer, lines, runs, step: inner.steps[2], pitch, room });
        });
    }

    /// Offset in memory of a coordinate of the dilated, padded input, if an element lies there.
    #[inline(always)]
    fn place(&self, axis: usize, coordinate: isize) -> Option<isize> {
        let at = coordinate - self.pad[axis];
        let dilation = self.dilation[axis] as isize;
        if dilation == 1 {
            return (at >= 0 && at < self.sizes[axis] as isize).then(|| at * self.strides[axis]);
        }
        (at >= 0 && at % dilation == 0 && at / dilation < self.sizes[axis] as isize)
            .then(|| at / dilation * self.strides[axis])
    }

    /// One run along the last axis, from `coordinate` in steps of `step`.
    #[inline(always)]
    fn run(&self, base: isize, coordinate: isize, step: isize, out: &mut [T::Number]) {
        let first = coordinate - self.pad[2];
        let dilation = self.dilation[2] as isize;
        let size = self.sizes[2] as isize;
        let count = out.len() as isize;
        if dilation > 1 {
            for (i, o) in out.iter_mut().enumerate() {
                let at = first + i as isize * step;
                *o = match at >= 0 && at % dilation == 0 && at / dilation < size {
                    true => self.source[(base + at / dilation * self.strides[2]) as usize].load(),
                    false => T::Number::ZERO,
                };
            }
            return;
        }
        // Those with 0 ≤ first + i·step < size; a division costs as much as copying a short run.
        let (low, high) = if step == 1 {
            let low = (-first).clamp(0, count);
            (low, (size - first).clamp(low, count))
        } else {
            let low = if first >= 0 { 0 } else { ((-first + step - 1) / step).min(count) };
            (low, if first >= size { low } else { ((size - 1 - first) / step + 1).clamp(low, count) })
        };
        let (low, high) = (low as usize, high as usize);
        if low > 0 {
            out[..low].fill(T::Number::ZERO);
        }
        if high < out.len() {
            out[high..].fill(T::Number::ZERO);
        }
        if low == high {
            return;
        }
        let by = step * self.strides[2];
        let from = base + (first + low as isize * step) * self.strides[2];
        let out = &mut out[low..high];
        if by == 1 {
            let from = &self.source[from as usize..][..out.len()];
            match out.len() {
                16.. => in_pieces::<T, 16>(from, out),
                4.. => in_pieces::<T, 4>(from, out),
                _ => out.iter_mut().zip(from).for_each(|(o, x)| *o = x.load()),
            }
        } else {
            for (i, o) in out.iter_mut().enumerate() {
                *o = self.source[(from + i as isize * by) as usize].load();
            }
        }
    }
}

/// Results that are turned together: as many as share a cache line.
pub(super) const TURNED: usize = 16;

/// Writes `TURNED` lines as columns.
struct Turn<'a, N> {
    lines: &'a [N],
    depth: usize,
    pitch: usize,
    room: &'a mut [N],
}

impl<N: Number> Loop for Turn<'_, N> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Turn { lines, depth, pitch, room } = self;
        let lines: [&[N]; TURNED] = std::array::from_fn(|j| &lines[j * depth..][..depth]);
        for k in 0..depth {
            let row = &mut room[k * pitch..][..TURNED];
            for j in 0..TURNED {
                row[j] = lines[j][k];
            }
        }
    }
}

/// Copies at least `N` elements in pieces of `N`, the last overlapping the one before: no scalar remainder.
#[inline(always)]
fn in_pieces<T: Stored, const N: usize>(from: &[T], out: &mut [T::Number]) {
    let last = out.len() - N;
    let mut at = 0;
    loop {
        let (from, out) = (&from[at..][..N], &mut out[at..][..N]);
        for i in 0..N {
            out[i] = from[i].load();
        }
        if at == last {
            return;
        }
        at = (at + N).min(last);
    }
}

/// Lines of patches, all with the same runs.
struct Lines<'a, T: Stored> {
    patches: &'a Patches<'a, T>,
    origin: isize,
    outer: &'a Side,
    lines: Range<usize>,
    /// Start in the line, length, offset, coordinates.
    runs: &'a [[i64; 6]],
    step: usize,
    pitch: usize,
    room: &'a mut [T::Number],
}

impl<T: Stored> Loop for Lines<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        for (line, out) in self.lines.zip(self.room.chunks_exact_mut(self.pitch)) {
            let (offset, [z, y, x]) = self.outer.decode(line);
            let base = self.origin + offset;
            for &[start, len, offset, rz, ry, rx] in self.runs {
                let out = &mut out[start as usize..][..len as usize];
                let at_z = self.patches.place(0, z + rz as isize);
                let at_y = self.patches.place(1, y + ry as isize);
                match (at_z, at_y) {
                    (Some(z), Some(y)) => {
                        self.patches.run(base + offset as isize + z + y, x + rx as isize, self.step as isize, out)
                    }
                    _ => out.fill(T::Number::ZERO),
                }
            }
        }
    }
}
