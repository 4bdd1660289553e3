//! Rooms: a part of an input copied with its padding, so that the loops over it need no bounds.
//!
//! The elements that one side steps over lie side by side: where it steps by two, even and odd coordinates are apart.

use crate::element::{Number, Stored};

/// The three spatial axes of a convolution; fewer are filled up with leading ones.
///
/// The coordinate in the dilated, padded input is `kernel·kernel_step + result·result_step`.
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// The input in memory.
    pub sizes: [usize; 3],
    pub strides: [isize; 3],
    /// Zeros before it; negative crops.
    pub pad: [isize; 3],
    /// Steps at which its elements lie.
    pub dilation: [usize; 3],
    pub kernel: [usize; 3],
    pub kernel_step: [usize; 3],
    pub result: [usize; 3],
    pub result_step: [usize; 3],
}

/// Where the coordinates of a box of the padded input lie in a room.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// Steps of the side that streams over the room.
    steps: [usize; 3],
    /// Coordinates of one phase of the steps.
    cells: [usize; 3],
    pub len: usize,
}

impl Room {
    /// Room for `counts` places of the side that streams with `steps`, and all of the other side.
    pub(super) fn new(counts: [usize; 3], steps: [usize; 3], others: [usize; 3], other_steps: [usize; 3]) -> Room {
        let cells: [usize; 3] = std::array::from_fn(|axis| {
            let reach = (counts[axis] - 1) * steps[axis] + (others[axis] - 1) * other_steps[axis] + 1;
            reach.div_ceil(steps[axis])
        });
        let len = cells.iter().product::<usize>() * steps.iter().product::<usize>();
        Room { steps, cells, len }
    }

    /// The place of a coordinate.
    #[inline]
    pub(super) fn place(&self, at: [usize; 3]) -> usize {
        let (mut phase, mut cell) = (0, 0);
        for ((at, step), cells) in at.into_iter().zip(self.steps).zip(self.cells) {
            phase = phase * step + at % step;
            cell = cell * cells + at / step;
        }
        phase * self.cells.iter().product::<usize>() + cell
    }

    /// Copies the box that begins at `first` of the padded input at `base`, zeros where it has no elements.
    pub(super) fn fill<T: Stored>(
        &self,
        space: &Space,
        source: &[T],
        base: isize,
        first: [usize; 3],
        to: &mut [T::Number],
    ) {
        to[..self.len].fill(T::Number::ZERO);
        // The input's elements that lie in the box, along each axis.
        let inside = |axis: usize| {
            let dilation = space.dilation[axis] as isize;
            let shift = space.pad[axis] - first[axis] as isize;
            let end = (self.cells[axis] * self.steps[axis]) as isize;
            let low = (-shift).max(0).div_ceil_by(dilation);
            let high = (end - shift).max(0).div_ceil_by(dilation).min(space.sizes[axis] as isize);
            (low..high.max(low), dilation, shift)
        };
        let [(zs, dz, sz), (ys, dy, sy), (xs, dx, sx)] = [inside(0), inside(1), inside(2)];
        if xs.is_empty() {
            return;
        }
        let step = self.steps[2] as isize;
        let phase = self.cells.iter().product::<usize>();
        for z in zs {
            for y in ys.clone() {
                let row = self.place([(z * dz + sz) as usize, (y * dy + sy) as usize, 0]);
                let from = base + z * space.strides[0] + y * space.strides[1];
                if step == 1 && dx == 1 {
                    let start = row + (xs.start + sx) as usize;
                    let to = &mut to[start..start + xs.clone().count()];
                    let from = from + xs.start * space.strides[2];
                    if space.strides[2] == 1 {
                        let from = &source[from as usize..][..to.len()];
                        to.iter_mut().zip(from).for_each(|(o, x)| *o = x.load());
                    } else {
                        for (i, o) in to.iter_mut().enumerate() {
                            *o = source[(from + i as isize * space.strides[2]) as usize].load();
                        }
                    }
                    continue;
                }
                if dx == 1 && space.strides[2] == 1 {
                    // Elements of one phase after another.
                    let from = &source[(from + xs.start) as usize..][..xs.clone().count()];
                    for (skip, at) in (xs.start + sx..).take(self.steps[2].min(from.len())).enumerate() {
                        let to = &mut to[row + (at % step) as usize * phase + (at / step) as usize..];
                        let from = from[skip..].iter().step_by(self.steps[2]);
                        to.iter_mut().zip(from).for_each(|(o, x)| *o = x.load());
                    }
                    continue;
                }
                let at = xs.start * dx + sx;
                let (mut odd, mut cell) = (at % step, (at / step) as usize);
                for x in xs.clone() {
                    to[row + odd as usize * phase + cell] = source[(from + x * space.strides[2]) as usize].load();
                    odd += dx;
                    while odd >= step {
                        (odd, cell) = (odd - step, cell + 1);
                    }
                }
            }
        }
    }
}

trait DivCeil {
    fn div_ceil_by(self, by: isize) -> isize;
}
impl DivCeil for isize {
    /// ⌈self / by⌉ of numbers that are not negative.
    fn div_ceil_by(self, by: isize) -> isize {
        (self + by - 1) / by
    }
}
