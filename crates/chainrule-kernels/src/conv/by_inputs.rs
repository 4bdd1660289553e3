//! Convolution along the elements of a dilated input, as the transpose of a strided layer has it.
//!
//! What every element gives to its neighbourhood is one product of matrices, (outputs and taps) × channels times
//! channels × elements, in which no zero of the dilation takes part; in each result the products of a few taps meet, and
//! are added in the order of the taps.

use super::room::{Room, Space};
use super::{Job, count};
use crate::element::Stored;
use crate::gemm::tile::{Looped, Loops, SLACK};
use crate::gemm::{Multiply, depth_of};
use crate::pool::{Pool, Shared, in_tiles};
use crate::scratch;
use crate::vector::Vector;
use std::ops::Range;

/// Channels from which the product outweighs the adding, as measured.
const CHANNELS: usize = 16;
/// Elements of products that wait to be added: they stay in the second-level cache.
const PRODUCTS: usize = 1 << 16;
/// Parts of the batch, where it has as many images.
const TASKS: usize = 8;

/// Results of one phase of the dilation side by side, at most a vector: each adds up the same parts of the products.
pub(crate) struct Line {
    /// Place of the first, from the first result of its channel.
    to: isize,
    len: usize,
    parts: Range<usize>,
}

/// Products of one tap: those of `lanes`, counted from a place.
pub(crate) struct Part {
    from: isize,
    lanes: Range<usize>,
}

/// How the work is cut, and what is added to what.
struct Cut {
    /// Images that are worked on together.
    images: usize,
    /// Outputs whose products wait together.
    outputs: usize,
    /// Elements between rows of the products.
    pitch: usize,
    lines: scratch::List<Line>,
    parts: scratch::List<Part>,
}
scratch::listed!(Line);
scratch::listed!(Part);

/// The sums of lines, each a vector behind the last one.
///
/// # Safety
/// The lanes of all parts lie in valid memory, counted from `from`, and a vector for each line at `to`.
#[inline(always)]
pub(crate) unsafe fn fold<V: Vector>(lines: &[Line], parts: &[Part], from: *const V::Number, to: *mut V::Number) {
    for (i, line) in lines.iter().enumerate() {
        let mut sum = V::zero();
        for part in &parts[line.parts.clone()] {
            // SAFETY: the caller's promise.
            sum = sum.add(unsafe { V::load_lanes(from.wrapping_offset(part.from), part.lanes.clone()) });
        }
        // SAFETY: the caller's promise.
        unsafe { sum.store(to.add(i * V::LANES)) };
    }
}

impl<T> Job<'_, T>
where
    T: Stored,
    T::Number: Multiply,
{
    /// Whether this way is better than phase by phase.
    pub(super) fn suits_inputs(&self) -> bool {
        self.inputs >= CHANNELS && count(self.space.sizes) * count(self.space.kernel) <= PRODUCTS
    }

    fn cut_inputs(&self, loops: &Loops<T::Number>) -> Cut {
        let (cells, taps) = (count(self.space.sizes), count(self.space.kernel));
        let images = (PRODUCTS / (cells * taps)).clamp(1, self.batch.div_ceil(TASKS));
        let pitch = (images * cells).next_multiple_of(loops.lanes);
        // Outputs whose rows are whole panels, if so many wait.
        let most = (PRODUCTS / (taps * pitch)).clamp(1, self.outputs);
        let whole = (1..=most).rev().find(|outputs| (outputs * taps).is_multiple_of(loops.rows));
        let (lines, parts) = self.meetings(loops.lanes, pitch);
        Cut { images, outputs: whole.unwrap_or(most), pitch, lines, parts }
    }

    /// The lines of a channel of an image, for rows of products `pitch` apart.
    fn meetings(&self, lanes: usize, pitch: usize) -> (scratch::List<Line>, scratch::List<Part>) {
        let Space { sizes, pad, dilation, kernel, result, .. } = self.space;
        // Tap k meets in result r the element (k + r − pad) / dilation.
        let meeting = |axis: usize, result: usize| {
            let by = dilation[axis] as isize;
            (0..kernel[axis]).filter_map(move |tap| {
                let at = (tap + result) as isize - pad[axis];
                (at.rem_euclid(by) == 0).then(|| (tap, at.div_euclid(by)))
            })
        };
        let inside = |axis: usize, at: isize| (0..sizes[axis] as isize).contains(&at);
        let (mut lines, mut parts) = (scratch::list::<Line>(), scratch::list::<Part>());
        crate::window::each_index(&[result[0], result[1], dilation[2].min(result[2])], |at| {
            let [z, y, phase] = [at[0], at[1], at[2]];
            let cells = (result[2] - phase).div_ceil(dilation[2]);
            for start in (0..cells).step_by(lanes) {
                let (len, first) = (lanes.min(cells - start), parts.len());
                for (tap_z, sz) in meeting(0, z).filter(|&(_, at)| inside(0, at)) {
                    for (tap_y, sy) in meeting(1, y).filter(|&(_, at)| inside(1, at)) {
                        for (tap_x, sx) in meeting(2, phase) {
                            let shift = sx + start as isize;
                            let low = (-shift).clamp(0, len as isize) as usize;
                            let high = (sizes[2] as isize - shift).clamp(low as isize, len as isize) as usize;
                            let row = ((tap_z * kernel[1] + tap_y) * kernel[2] + tap_x) * pitch;
                            let from = (sz * sizes[1] as isize + sy) * sizes[2] as isize + shift;
                            parts.push(Part { from: row as isize + from, lanes: low..high });
                        }
                    }
                }
                let to: isize = [z, y, phase + start * dilation[2]]
                    .into_iter()
                    .zip(self.out_steps)
                    .map(|(at, step)| at as isize * step)
                    .sum();
                lines.push(Line { to, len, parts: first..parts.len() });
            }
        });
        (lines, parts)
    }

    pub(super) fn by_inputs(&self, pool: &Pool, out: Shared<T>) {
        let loops = T::Number::loops();
        let cut = self.cut_inputs(loops);
        let taps = count(self.space.kernel);
        let group_len = self.outputs * taps * self.inputs;
        scratch::with::<T::Number, _>(self.groups * group_len, |weights| {
            let shared = Shared::new(weights);
            let folds = self.outputs.div_ceil(cut.outputs);
            in_tiles(pool, self.groups * folds, 1, |task, _| {
                let (group, first) = (task / folds, task % folds * cut.outputs);
                let outputs = cut.outputs.min(self.outputs - first);
                let place = group * group_len + first * taps * self.inputs;
                // SAFETY: each output's weights are written once.
                let to = unsafe { shared.slice(place, outputs * taps * self.inputs) };
                self.rows_of_weights(loops, group * self.outputs + first, outputs, to);
            });
            let weights = &*weights;
            let batches = self.batch.div_ceil(cut.images);
            in_tiles(pool, self.groups * batches, 1, |task, _| {
                let (group, batch) = (task % self.groups, task / self.groups);
                let images = batch * cut.images..((batch + 1) * cut.images).min(self.batch);
                self.products(loops, &cut, group, images, &weights[group * group_len..][..group_len], out);
            });
        });
    }

    /// Rows of a panel of the weights of so many outputs.
    fn height(&self, loops: &Loops<T::Number>, outputs: usize) -> usize {
        let rows = outputs * count(self.space.kernel);
        rows.div_ceil(rows.div_ceil(loops.rows))
    }

    /// Panels of the weights of some outputs, a row for each tap: `to[channel·height + row]` one after another.
    fn rows_of_weights(&self, loops: &Loops<T::Number>, first: usize, outputs: usize, to: &mut [T::Number]) {
        let [output, input, strides @ ..] = self.kernel_strides;
        let (rows, height) = (outputs * count(self.space.kernel), self.height(loops, outputs));
        let mut row = 0;
        for index in first..first + outputs {
            let base = self.kernel_origin + index as isize * output;
            crate::window::each_index(&self.space.kernel, |at| {
                let tap = base + (0..3).map(|axis| at[axis] as isize * strides[axis]).sum::<isize>();
                let (panel, within) = (row - row % height, row % height);
                let to = to[panel * self.inputs + within..].iter_mut().step_by(height.min(rows - panel));
                for (channel, to) in to.take(self.inputs).enumerate() {
                    *to = self.kernel[(tap + channel as isize * input) as usize].load();
                }
                row += 1;
            });
        }
    }

    /// All outputs of a group for some images.
    fn products(
        &self,
        loops: &Loops<T::Number>,
        cut: &Cut,
        group: usize,
        images: Range<usize>,
        weights: &[T::Number],
        out: Shared<T>,
    ) {
        let (cells, taps) = (count(self.space.sizes), count(self.space.kernel));
        let (total, columns, depth) = (images.len() * cells, loops.columns(), depth_of(self.inputs));
        let right_len = total.next_multiple_of(loops.lanes) * self.inputs + SLACK;
        let products_len = cut.outputs * taps * cut.pitch;
        let sums_len = cut.lines.len() * loops.lanes;
        scratch::with::<T::Number, _>(right_len + products_len + sums_len, |memory| {
            let (right, memory) = memory.split_at_mut(right_len);
            let (products, sums) = memory.split_at_mut(products_len);
            self.elements(loops, group, images.clone(), right);
            for first in (0..self.outputs).step_by(cut.outputs) {
                let outputs = cut.outputs.min(self.outputs - first);
                let (rows, height) = (outputs * taps, self.height(loops, outputs));
                for row in (0..rows).step_by(height) {
                    let height = height.min(rows - row);
                    let left = &weights[(first * taps + row) * self.inputs..];
                    for start in (0..self.inputs).step_by(depth) {
                        let left = left[start * height..].as_ptr();
                        for column in (0..total).step_by(columns) {
                            let pitch = loops.pitch(total - column);
                            let from = right[column * self.inputs + start * pitch..].as_ptr();
                            let to = products[row * cut.pitch + column..].as_mut_ptr();
                            // SAFETY: panels hold all channels, and rows of the products whole vectors.
                            unsafe {
                                let len = depth.min(self.inputs - start);
                                loops.tile(height, pitch)(len, left, from, to, cut.pitch, start > 0);
                            }
                        }
                    }
                }
                for (index, image) in (0..outputs).flat_map(|index| images.clone().map(move |image| (index, image))) {
                    let from = &products[index * taps * cut.pitch + (image - images.start) * cells..];
                    // SAFETY: parts lie among the products of an output, and the sums hold a vector for each line.
                    unsafe { (loops.fold)(&cut.lines, &cut.parts, from.as_ptr(), sums.as_mut_ptr()) };
                    self.store(cut, image, group * self.outputs + first + index, sums, loops.lanes, out);
                }
            }
        });
    }

    /// Panels of the elements of some images, a row for each channel of a group.
    fn elements(&self, loops: &Loops<T::Number>, group: usize, images: Range<usize>, right: &mut [T::Number]) {
        let dense = Space { pad: [0; 3], dilation: [1; 3], ..self.space.clone() };
        let room = Room::new(dense.sizes, [1; 3], [1; 3], [1; 3]);
        let total = images.len() * room.len;
        scratch::with::<T::Number, _>(self.inputs * total, |rooms| {
            for (index, image) in images.enumerate() {
                let base = self.origin + image as isize * self.image_stride;
                for channel in 0..self.inputs {
                    let base = base + (group * self.inputs + channel) as isize * self.channel_stride;
                    let to = &mut rooms[channel * total + index * room.len..][..room.len];
                    room.fill(&dense, self.source, base, [0; 3], to);
                }
            }
            let step = total as isize;
            for column in (0..total).step_by(loops.columns()) {
                let (width, pitch) = (loops.columns().min(total - column), loops.pitch(total - column));
                let to = right[column * self.inputs..].as_mut_ptr();
                // SAFETY: the rooms hold every row; panels are filled in order, and slack lies behind the last.
                unsafe { loops.pack(rooms.as_ptr().add(column), 1, step, width, self.inputs, to, pitch) };
            }
        });
    }

    /// Puts the sums of all lines of a channel where they belong.
    fn store(&self, cut: &Cut, image: usize, channel: usize, sums: &[T::Number], lanes: usize, out: Shared<T>) {
        let place = self.place(image, channel, &[0; 3]) as isize;
        let step = self.space.dilation[2] as isize * self.out_steps[2];
        for (line, sums) in cut.lines.iter().zip(sums.chunks_exact(lanes)) {
            for (i, &sum) in sums[..line.len].iter().enumerate() {
                // SAFETY: a result of this job, in an image of this task.
                unsafe { *out.pointer().offset(place + line.to + i as isize * step) = T::store(sum) };
            }
        }
    }
}
