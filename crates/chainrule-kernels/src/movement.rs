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
    // SAFETY: the caller has checked the walk against its source.
    fill_tiles(pool, out, 1, GRAIN, |start, out| unsafe { walk.gather(source, start, out) });
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
