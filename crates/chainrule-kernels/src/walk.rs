//! Walking over a strided layout in flattened row-major order, a run of equal steps at a time.
//!
//! Dimensions that lie one after another are joined first, so a contiguous view is one run.

use crate::element::Plain;
use crate::view::Layout;
use smallvec::SmallVec;

/// A layout with its dimensions joined where the strides allow: outermost first, at least one dimension.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) offset: isize,
    /// Size and stride of each joined dimension.
    pub(crate) dims: SmallVec<[(usize, isize); 6]>,
    pub(crate) numel: usize,
}

impl Walk {
    pub(crate) fn new(layout: &Layout) -> Walk {
        Walk::of(layout.offset as isize, &layout.shape, &layout.strides)
    }

    pub(crate) fn of(offset: isize, shape: &[usize], strides: &[isize]) -> Walk {
        let mut dims: SmallVec<[(usize, isize); 6]> = SmallVec::new();
        let mut numel = 1;
        for (&size, &stride) in shape.iter().zip(strides) {
            numel *= size;
            if size == 1 {
                continue;
            }
            match dims.last_mut() {
                Some((outer, step)) if *step == stride * size as isize => (*outer, *step) = (*outer * size, stride),
                _ => dims.push((size, stride)),
            }
        }
        if dims.is_empty() {
            dims.push((1, 1));
        }
        Walk { offset, dims, numel }
    }

    /// Position in memory of the element with flat index `index`.
    #[inline]
    pub(crate) fn position(&self, mut index: usize) -> isize {
        let mut position = self.offset;
        for &(size, stride) in self.dims.iter().rev() {
            position += (index % size) as isize * stride;
            index /= size;
        }
        position
    }

    /// Calls `f(position, stride, count)` for each run of the flat range `start..start + len`, in order.
    #[inline]
    pub(crate) fn runs(&self, start: usize, len: usize, mut f: impl FnMut(isize, isize, usize)) {
        if len == 0 {
            return;
        }
        let last = self.dims.len() - 1;
        let (inner, step) = self.dims[last];
        if last == 0 {
            f(self.offset + start as isize * step, step, len);
            return;
        }
        let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, last);
        let (mut rest, mut column) = (start / inner, start % inner);
        let mut position = self.offset;
        for axis in (0..last).rev() {
            let (size, stride) = self.dims[axis];
            index[axis] = rest % size;
            rest /= size;
            position += index[axis] as isize * stride;
        }
        let mut left = len;
        loop {
            let count = (inner - column).min(left);
            f(position + column as isize * step, step, count);
            left -= count;
            if left == 0 {
                return;
            }
            column = 0;
            for axis in (0..last).rev() {
                let (size, stride) = self.dims[axis];
                index[axis] += 1;
                position += stride;
                if index[axis] < size {
                    break;
                }
                position -= size as isize * stride;
                index[axis] = 0;
            }
        }
    }

    /// Copies the flat range that begins at `start` and is as long as `out`.
    ///
    /// # Safety
    /// The layout was checked against `source`, and the range lies within it.
    #[inline]
    pub(crate) unsafe fn gather<T: Plain>(&self, source: &[T], start: usize, out: &mut [T]) {
        // SAFETY: the caller's promise.
        unsafe { self.gather_map(source, start, out, |x| x) }
    }

    /// Like `gather`, each element through `f`.
    ///
    /// # Safety
    /// As for `gather`.
    #[inline(always)]
    pub(crate) unsafe fn gather_map<T: Plain, U: Copy>(
        &self,
        source: &[T],
        start: usize,
        out: &mut [U],
        f: impl Fn(T) -> U,
    ) {
        let base = source.as_ptr();
        let mut done = 0;
        self.runs(start, out.len(), |position, step, count| {
            let part = &mut out[done..done + count];
            done += count;
            // SAFETY: positions of a checked layout lie in `source`.
            unsafe {
                let from = base.offset(position);
                match step {
                    1 => {
                        let from = std::slice::from_raw_parts(from, count);
                        part.iter_mut().zip(from).for_each(|(o, &x)| *o = f(x));
                    }
                    0 => part.fill(f(*from)),
                    _ => {
                        for (i, o) in part.iter_mut().enumerate() {
                            *o = f(*from.offset(i as isize * step));
                        }
                    }
                }
            }
        });
    }
}

/// Runs `f` on the flat range as a slice: in place where it is contiguous, else gathered into `room`.
///
/// # Safety
/// The layout was checked against `source`, the range lies within it, and `room` is at least `len` long.
#[inline(always)]
pub(crate) unsafe fn with_range<T: Plain, R>(
    walk: &Walk,
    source: &[T],
    start: usize,
    len: usize,
    room: &mut [T],
    f: impl FnOnce(&[T]) -> R,
) -> R {
    let (inner, step) = walk.dims[walk.dims.len() - 1];
    if step == 1 && (start % inner) + len <= inner {
        let position = walk.position(start) as usize;
        f(&source[position..position + len])
    } else {
        // SAFETY: the caller's promise.
        unsafe { walk.gather(source, start, &mut room[..len]) };
        f(&room[..len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn ranges_of_any_layout() {
        let source: Vec<u32> = (0..64).collect();
        let layouts = [
            Layout::contiguous(&[4, 4, 4]),
            Layout::contiguous(&[4, 4, 4]).permuted(&[2, 0, 1]),
            Layout::new(63, smallvec![4, 4, 4], smallvec![-16, -4, -1]),
            Layout::new(5, smallvec![3, 1, 4], smallvec![0, 9, 2]),
            Layout::new(7, smallvec![6], smallvec![0]),
            Layout::new(7, smallvec![], smallvec![]),
        ];
        for layout in layouts {
            let walk = Walk::new(&layout);
            let n = layout.numel();
            let mut expected = vec![];
            for flat in 0..n {
                let (mut rest, mut position) = (flat, layout.offset as isize);
                for (&size, &stride) in layout.shape.iter().zip(&layout.strides).rev() {
                    position += (rest % size) as isize * stride;
                    rest /= size;
                }
                expected.push(source[position as usize]);
                assert_eq!(walk.position(flat), position);
            }
            for start in 0..n {
                for len in 0..=n - start {
                    let mut out = vec![0; len];
                    unsafe { walk.gather(&source, start, &mut out) };
                    assert_eq!(out, expected[start..start + len], "{layout:?} {start} {len}");
                }
            }
        }
    }
}
