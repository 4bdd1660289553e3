//! Kernels that only move: copy, pad, concatenate. They look at the size of an element, never at its value.

use crate::element::{Plain, Scalar, by_size};
use crate::pool::{Pool, Shared, fill_tiles, in_tiles};
use crate::view::{Dims, Strides, View, ViewMut, contiguous_strides, numel};
use crate::walk::Walk;

/// Elements that one tile takes.
const GRAIN: usize = 1 << 15;

/// Copies a view into row-major order.
pub fn copy(pool: &Pool, view: View, out: ViewMut) {
    by_size!(view.dtype, T => {
        let source: &[T] = view.elements();
        let walk = Walk::new(view.layout);
        let out: &mut [T] = out.elements(view.dtype, walk.numel);
        copy_walk(pool, &walk, source, out);
    })
}

/// Copies a checked walk into row-major order.
pub(crate) fn copy_walk<T: Plain>(pool: &Pool, walk: &Walk, source: &[T], out: &mut [T]) {
    if let Some(turn) = Turn::of(walk) {
        return turn.copy(pool, source, out);
    }
    // SAFETY: the caller has checked the walk against its source.
    fill_tiles(pool, out, 1, GRAIN, |start, out| unsafe { walk.gather(source, start, out) });
}

/// A walk whose last dimension strides while another one lies side by side in memory: a transposition, which is
/// copied in square blocks.
struct Turn<'a> {
    walk: &'a Walk,
    /// The dimension of stride 1.
    axis: usize,
}

impl<'a> Turn<'a> {
    /// Rows and columns of a block.
    const BLOCK: usize = 16;

    fn of(walk: &'a Walk) -> Option<Turn<'a>> {
        let (columns, step) = walk.dims[walk.dims.len() - 1];
        if step.unsigned_abs() < 2 || columns < 8 {
            return None;
        }
        let axis = walk.dims.iter().position(|&(size, stride)| stride == 1 && size >= 8)?;
        Some(Turn { walk, axis })
    }

    fn copy<T: Plain>(&self, pool: &Pool, source: &[T], out: &mut [T]) {
        let dims = &self.walk.dims;
        let last = dims.len() - 1;
        let (rows, (columns, step)) = (dims[self.axis].0, dims[last]);
        let sizes: Dims = dims.iter().map(|d| d.0).collect();
        let out_strides = contiguous_strides(&sizes);
        let row_stride = out_strides[self.axis] as usize;
        // The other dimensions, in the source and in the result.
        let others = || (0..last).filter(|&axis| axis != self.axis);
        let shape: Dims = others().map(|axis| sizes[axis]).collect();
        let from: Strides = others().map(|axis| dims[axis].1).collect();
        let to: Strides = others().map(|axis| out_strides[axis]).collect();
        let (from, to) = (Walk::of(self.walk.offset, &shape, &from), Walk::of(0, &shape, &to));
        let bands = rows.div_ceil(Self::BLOCK);
        let target = Shared::new(out);
        let grain = (GRAIN / (Self::BLOCK * columns)).max(1);
        in_tiles(pool, from.numel * bands, grain, |first, count| {
            for task in first..first + count {
                let (other, row) = (task / bands, task % bands * Self::BLOCK);
                let height = Self::BLOCK.min(rows - row);
                for column in (0..columns).step_by(Self::BLOCK) {
                    let width = Self::BLOCK.min(columns - column);
                    // SAFETY: the walk was checked; blocks of the result are disjoint.
                    unsafe {
                        let from = source.as_ptr().offset(from.position(other) + row as isize + column as isize * step);
                        let to = target.pointer().offset(to.position(other)).add(row * row_stride + column);
                        for c in 0..width {
                            for r in 0..height {
                                *to.add(r * row_stride + c) = *from.offset(c as isize * step + r as isize);
                            }
                        }
                    }
                }
            }
        });
    }
}

/// Copies each run of `source`'s walk to the same place of `target`'s walk.
///
/// # Safety
/// Both walks are checked against their memory, have as many elements, and `target`'s elements are distinct.
unsafe fn scatter<T: Plain>(pool: &Pool, from: &Walk, source: &[T], to: &Walk, target: Shared<T>) {
    in_tiles(pool, from.numel, GRAIN, |start, len| {
        let mut done = 0;
        to.runs(start, len, |position, step, count| {
            // SAFETY: the caller's promise; tiles write disjoint elements.
            unsafe {
                if step == 1 {
                    from.gather(source, start + done, target.slice(position as usize, count));
                } else {
                    let mut position = position;
                    from.runs(start + done, count, |at, by, count| {
                        for i in 0..count as isize {
                            *target.pointer().offset(position) = *source.as_ptr().offset(at + i * by);
                            position += step;
                        }
                    });
                }
            }
            done += count;
        });
    });
}

/// Surrounds a value with `low` and `high` elements of `fill`, and puts `interior` of them between neighbours.
pub fn pad(pool: &Pool, view: View, low: &[usize], high: &[usize], interior: &[usize], fill: Scalar, out: ViewMut) {
    let shape = view.shape();
    assert_eq!(fill.dtype(), view.dtype, "pad: the fill has another dtype");
    assert!(
        low.len() == shape.len() && high.len() == shape.len() && interior.len() == shape.len(),
        "pad: one low, high and interior padding for each dimension"
    );
    let padded: Dims =
        (0..shape.len()).map(|i| low[i] + high[i] + shape[i] + shape[i].saturating_sub(1) * interior[i]).collect();
    let steps = contiguous_strides(&padded);
    let offset = low.iter().zip(&steps).map(|(&l, &s)| l as isize * s).sum();
    let strides: Strides = steps.iter().zip(interior).map(|(&s, &i)| s * (i as isize + 1)).collect();
    by_size!(view.dtype, T => {
        let source: &[T] = view.elements();
        let out: &mut [T] = out.elements(view.dtype, numel(&padded));
        let value = fill.bits() as T;
        fill_tiles(pool, out, 1, GRAIN, |_, out| out.fill(value));
        if view.layout.numel() > 0 {
            let to = Walk::of(offset, shape, &strides);
            // SAFETY: the padded shape was made to hold the elements at these strides.
            unsafe { scatter(pool, &Walk::new(view.layout), source, &to, Shared::new(out)) };
        }
    })
}

/// Joins values along `axis`; they have one dtype, and agree in the other dimensions.
pub fn concat(pool: &Pool, views: &[View], axis: usize, out: ViewMut) {
    let Some(first) = views.first() else { panic!("concat: of nothing") };
    let mut shape = Dims::from_slice(first.shape());
    assert!(axis < shape.len(), "concat: axis {axis} of a value with {} dimensions", shape.len());
    shape[axis] = views.iter().map(|view| view.shape()[axis]).sum();
    let strides = contiguous_strides(&shape);
    by_size!(first.dtype, T => {
        let target = Shared::new(out.elements::<T>(first.dtype, numel(&shape)));
        let mut at = 0;
        for view in views {
            let part = view.shape();
            let fits = part.len() == shape.len() && (0..part.len()).all(|i| i == axis || part[i] == shape[i]);
            assert!(fits && view.dtype == first.dtype, "concat: {:?} does not fit {:?}", part, first.shape());
            let source: &[T] = view.elements();
            if view.layout.numel() > 0 {
                let to = Walk::of(at as isize * strides[axis], part, &strides);
                // SAFETY: the part lies in the joined shape.
                unsafe { scatter(pool, &Walk::new(view.layout), source, &to, target) };
            }
            at += part[axis];
        }
    })
}

#[cfg(test)]
mod tests;
