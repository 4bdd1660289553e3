//! Gather and its adjoint scatter-add, by indices that are data.
//!
//! Indices come from outside, so a wrong one is an error that names it, not a panic.

use crate::alphabet::DType;
use crate::element::{Number, Plain, Stored, by_dtype, by_size};
use crate::pool::{Pool, Shared, fill_tiles, in_tiles};
use crate::scratch;
use crate::view::{View, ViewMut, numel};
use crate::walk::Walk;

/// Elements that one tile takes.
const GRAIN: usize = 1 << 14;

/// Reads indices, counts negative ones from the end, and checks them against `size`.
fn positions(index: View, size: usize, out: &mut [usize]) -> Result<(), String> {
    fn read<T: Plain>(index: View, size: usize, out: &mut [usize], wide: impl Fn(T) -> i64) -> Result<(), String> {
        let source: &[T] = index.elements();
        let mut done = 0;
        let mut wrong = None;
        Walk::new(index.layout).runs(0, out.len(), |position, step, count| {
            for i in 0..count as isize {
                let value = wide(source[(position + i * step) as usize]);
                let from_start = if value < 0 { value.wrapping_add(size as i64) } else { value };
                if from_start < 0 || from_start >= size as i64 {
                    wrong.get_or_insert((done, value));
                }
                out[done] = from_start as usize;
                done += 1;
            }
        });
        match wrong {
            None => Ok(()),
            Some((at, value)) => {
                Err(format!("index {value} (element {at} of the indices) is out of range for an axis of size {size}"))
            }
        }
    }
    match index.dtype {
        DType::I64 => read::<i64>(index, size, out, |x| x),
        DType::I32 => read::<i32>(index, size, out, |x| x as i64),
        DType::U8 => read::<u8>(index, size, out, |x| x as i64),
        other => panic!("indices are i64, i32 or u8, not {other}"),
    }
}

/// Picks by index: `out[b.., pre.., i.., post..] = x[b.., pre.., index[b.., i..], post..]`. The first `batch`
/// dimensions of `x` and `index` are shared; `axis` (of `x`, at least `batch`) is the one indexed. Negative indices
/// count from the end. An index out of range is an error, and the output is then unspecified.
pub fn gather(pool: &Pool, x: View, index: View, axis: usize, batch: usize, out: ViewMut) -> Result<(), String> {
    let (shape, picked) = (x.shape(), index.shape());
    assert!(batch <= axis && axis < shape.len(), "gather: axis {axis} with {batch} batch dimensions of {shape:?}");
    assert!(picked.len() >= batch && picked[..batch] == shape[..batch], "gather: batch of {picked:?} and {shape:?}");
    let strides = &x.layout.strides;
    let outer = Walk::of(x.layout.offset as isize, &shape[..axis], &strides[..axis]);
    let inner = Walk::of(0, &shape[axis + 1..], &strides[axis + 1..]);
    let (pre, each) = (numel(&shape[batch..axis]), numel(&picked[batch..]));
    let (step, width) = (strides[axis], inner.numel);
    scratch::with::<usize, _>(numel(picked), |at| {
        by_size!(x.dtype, T => {
            let source: &[T] = x.elements();
            let out: &mut [T] = out.elements(x.dtype, outer.numel * each * width);
            positions(index, shape[axis], at)?;
            if out.is_empty() {
                return Ok(());
            }
            let at = &*at;
            fill_tiles(pool, out, width, (GRAIN / width).max(1), |first, out| {
                let mut walk = inner.clone();
                for (line, out) in out.chunks_exact_mut(width).enumerate() {
                    let (before, i) = ((first + line) / each, (first + line) % each);
                    let row = at[before / pre * each + i];
                    walk.offset = outer.position(before) + row as isize * step;
                    // SAFETY: the layout of `x` was checked, and the index against its axis.
                    unsafe { walk.gather(source, 0, out) };
                }
            });
            Ok(())
        })
    })
}

/// The adjoint of [`gather`]: `out` is zeroed, then `out[b.., pre.., index[b.., i..], post..] += updates[b.., pre.., i..,
/// post..]`, in the order of `i`. The size of the indexed axis follows from `out`. bf16 and f16 are summed in f32.
pub fn scatter_add(
    pool: &Pool,
    index: View,
    updates: View,
    axis: usize,
    batch: usize,
    out: ViewMut,
) -> Result<(), String> {
    let (shape, picked) = (updates.shape(), index.shape());
    let ranks = picked.len().wrapping_sub(batch);
    assert!(updates.dtype != DType::Bool, "scatter_add: of bools");
    assert!(
        batch <= axis
            && batch <= picked.len()
            && axis + ranks <= shape.len()
            && picked[..batch] == shape[..batch]
            && picked[batch..] == shape[axis..axis + ranks],
        "scatter_add: indices {picked:?} at axis {axis} of updates {shape:?}"
    );
    let strides = &updates.layout.strides;
    let outer = Walk::of(updates.layout.offset as isize, &shape[..axis], &strides[..axis]);
    let middle = Walk::of(0, &shape[axis..axis + ranks], &strides[axis..axis + ranks]);
    let inner = Walk::of(0, &shape[axis + ranks..], &strides[axis + ranks..]);
    let (pre, each, width) = (numel(&shape[batch..axis]), middle.numel, inner.numel);
    by_dtype!(updates.dtype, T => {
        assert_eq!(out.dtype, updates.dtype, "scatter_add: the output has another dtype");
        let source: &[T] = updates.elements();
        let out: &mut [T] = crate::element::typed_mut(out.data);
        let lines = outer.numel * width;
        if lines == 0 {
            assert!(out.is_empty(), "scatter_add: the output has the wrong size");
            return Ok(());
        }
        assert_eq!(out.len() % lines, 0, "scatter_add: the output has the wrong size");
        let size = out.len() / lines;
        // Each task owns a band of rows of one (batch, pre) block and passes over all its indices in order.
        let bands = (each * width / GRAIN).clamp(1, size.clamp(1, 16));
        let rows = size.div_ceil(bands);
        scratch::with::<usize, _>(numel(picked), |at| {
            positions(index, size, at)?;
            let at = &*at;
            let shared = Shared::new(out);
            let grain = (GRAIN * bands / (each * width + size * width).max(1)).max(1);
            in_tiles(pool, outer.numel * bands, grain, |first, count| {
                for task in first..first + count {
                    let (block, band) = (task / bands, task % bands);
                    let (low, high) = ((band * rows).min(size), ((band + 1) * rows).min(size));
                    // SAFETY: bands of blocks are disjoint.
                    let out = unsafe { shared.slice((block * size + low) * width, (high - low) * width) };
                    let at = &at[block / pre * each..][..each];
                    add_rows::<T>(source, outer.position(block), &middle, &inner, at, low, out);
                }
            });
            Ok(())
        })
    })
}

/// Adds the updates whose index falls into `low..` into a band of rows.
fn add_rows<T: Stored>(
    source: &[T],
    base: isize,
    middle: &Walk,
    inner: &Walk,
    at: &[usize],
    low: usize,
    out: &mut [T],
) {
    let width = inner.numel;
    let rows = out.len() / width;
    scratch::with::<T::Number, _>(out.len(), |sums| {
        scratch::with::<T, _>(width, |room| {
            sums.fill(T::Number::ZERO);
            let mut walk = inner.clone();
            let mut i = 0;
            middle.runs(0, at.len(), |position, step, count| {
                for n in 0..count as isize {
                    let row = at[i].wrapping_sub(low);
                    i += 1;
                    if row >= rows {
                        continue;
                    }
                    walk.offset = base + position + n * step;
                    let sums = &mut sums[row * width..][..width];
                    // SAFETY: the layout of the updates was checked.
                    unsafe {
                        crate::walk::with_range(&walk, source, 0, width, room, |updates| {
                            sums.iter_mut().zip(updates).for_each(|(s, u)| *s = s.add(u.load()));
                        })
                    }
                }
            });
            out.iter_mut().zip(&*sums).for_each(|(o, &s)| *o = T::store(s));
        })
    })
}

#[cfg(test)]
mod tests;
