//! The algebra of layouts: what each move does to offset and strides, or that it needs a copy.

use crate::tensor::Op;
use chainrule_kernels::view::{Dims, Layout, Strides};

/// The layout after a move, `None` if the elements must be copied first, and the op is not a move at all if it is
/// not one of the listed.
pub(super) fn moved(op: &Op, layout: &Layout) -> Option<Layout> {
    match op {
        Op::Reshape(shape) => reshaped(layout, shape),
        Op::Permute(axes) => Some(layout.permuted(axes)),
        Op::Broadcast(shape, axes) => {
            let mut strides: Strides = smallvec::smallvec![0; shape.len()];
            for (from, &to) in axes.iter().enumerate() {
                if layout.shape()[from] == shape[to] {
                    strides[to] = layout.strides()[from];
                }
            }
            Some(Layout::new(layout.offset(), shape[..].into(), strides))
        }
        Op::Slice(ranges) => {
            let mut offset = layout.offset() as isize;
            let (mut shape, mut strides) = (Dims::new(), Strides::new());
            for (&(start, step, count), &stride) in ranges.iter().zip(layout.strides()) {
                if count > 0 {
                    offset += start as isize * stride;
                }
                shape.push(count);
                strides.push(stride * step as isize);
            }
            Some(Layout::new(offset as usize, shape, strides))
        }
        Op::Reverse(axes) => {
            let (mut offset, mut strides) = (layout.offset() as isize, Strides::from_slice(layout.strides()));
            for &axis in axes {
                let last = layout.shape()[axis].saturating_sub(1) as isize;
                offset += last * layout.strides()[axis];
                strides[axis] = -layout.strides()[axis];
            }
            Some(Layout::new(offset as usize, layout.shape().into(), strides))
        }
        Op::Unfold(windows) => {
            let lead = layout.shape().len() - windows.size.len();
            let count = windows.count();
            let shape: Dims = layout.shape()[..lead].iter().chain(&count).chain(&windows.window).copied().collect();
            let slide =
                windows.stride.iter().zip(&layout.strides()[lead..]).map(|(&step, &stride)| step as isize * stride);
            let inside =
                windows.dilation.iter().zip(&layout.strides()[lead..]).map(|(&gap, &stride)| gap as isize * stride);
            let strides = layout.strides()[..lead].iter().copied().chain(slide).chain(inside).collect();
            Some(Layout::new(layout.offset(), shape, strides))
        }
        _ => None,
    }
}

/// The same elements under another shape, if strides can say it: every group of axes whose sizes multiply to those
/// of a group of new axes must be evenly strided.
pub(super) fn reshaped(layout: &Layout, shape: &[usize]) -> Option<Layout> {
    if layout.numel() == 0 {
        return Some(Layout::contiguous(shape));
    }
    let old: Vec<(usize, isize)> =
        layout.shape().iter().copied().zip(layout.strides().iter().copied()).filter(|(size, _)| *size != 1).collect();
    let mut strides: Strides = smallvec::smallvec![0; shape.len()];
    let (mut i, mut j) = (0, 0);
    while i < old.len() {
        // Grow both sides until their products meet.
        let (start, first) = (i, j);
        let (mut left, mut right) = (old[i].0, 1);
        while j < shape.len() && right < left {
            right *= shape[j];
            j += 1;
        }
        i += 1;
        while left != right {
            if left < right {
                left *= old[i].0;
                i += 1;
            } else {
                right *= shape[j];
                j += 1;
            }
        }
        let even = (start + 1..i).all(|k| old[k - 1].1 == old[k].1 * old[k].0 as isize);
        if !even {
            return None;
        }
        let mut stride = old[i - 1].1;
        for axis in (first..j).rev() {
            strides[axis] = stride;
            stride *= shape[axis] as isize;
        }
    }
    Some(Layout::new(layout.offset(), shape.into(), strides))
}
