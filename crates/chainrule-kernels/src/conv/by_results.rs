//! Convolution along the results: weights times panels of the input under each tap, for a few images or a part of one.

use super::room::Room;
use super::{GRAIN, Job, ROOM, count};
use crate::element::Stored;
use crate::gemm::Multiply;
use crate::gemm::tile::{Looped, Loops, SLACK};
use crate::pool::{Pool, Shared, in_tiles};
use crate::scratch;
use smallvec::SmallVec;
use std::any::TypeId;

/// Results side by side: where their input begins in the rooms, how many, where they go.
#[derive(Clone, Copy)]
struct Run {
    from: usize,
    len: usize,
    to: usize,
}

/// How the results are cut.
struct Cut {
    /// The axis along which an image is cut, and results of a part along it.
    axis: usize,
    size: usize,
    parts: usize,
    /// Images that are worked on together.
    images: usize,
    room: Room,
    /// Place in a room of every tap of every channel.
    taps: scratch::List,
}

impl<T> Job<'_, T>
where
    T: Stored,
    T::Number: Multiply,
{
    fn cut(&self) -> Cut {
        let space = &self.space;
        let axis = (0..3).find(|&axis| space.result[axis] > 1).unwrap_or(2);
        let room = |size: usize| {
            let mut counts = space.result;
            counts[axis] = size;
            Room::new(counts, space.result_step, space.kernel, space.kernel_step)
        };
        let mut size = space.result[axis];
        let taps = count(space.kernel);
        let each = |size: usize| count(space.result) / space.result[axis] * size * self.inputs * taps * self.outputs;
        while size > 1
            && (self.inputs * room(size).len > ROOM
                || (self.batch * self.groups * space.result[axis].div_ceil(size) < 8 && each(size) > GRAIN))
        {
            size = size.div_ceil(2);
        }
        let parts = space.result[axis].div_ceil(size);
        let room = room(size);
        // Small images go together, so that few columns of panels are empty; at least eight tasks where there is work.
        let narrow = count(space.result) < 8 * 32;
        let wanted = (GRAIN / each(size).max(1)).max(if narrow { self.batch / 8 } else { 1 }).max(1);
        let fitting = (ROOM / (self.inputs * room.len)).max(1).min(wanted);
        let images = if parts > 1 { 1 } else { fitting.min(self.batch) };
        let mut taps = scratch::list();
        for channel in 0..self.inputs {
            crate::window::each_index(&space.kernel, |at| {
                taps.push(channel * room.len + room.place([0, 1, 2].map(|axis| at[axis] * space.kernel_step[axis])));
            });
        }
        Cut { axis, size, parts, images, room, taps }
    }

    pub(super) fn by_results(&self, pool: &Pool, out: Shared<T>) {
        let loops = T::Number::loops();
        let cut = self.cut();
        let depth = cut.taps.len();
        let rows = self.outputs.div_ceil(self.outputs.div_ceil(loops.rows));
        let panel = rows * depth;
        let panels = self.outputs.div_ceil(rows);
        scratch::with::<T::Number, _>(self.groups * panels * panel + SLACK, |weights| {
            let shared = Shared::new(weights);
            in_tiles(pool, self.groups * panels, ((1 << 14) / panel).max(1), |first, count| {
                for index in first..first + count {
                    let (group, first) = (index / panels, index % panels * rows);
                    let height = rows.min(self.outputs - first);
                    // SAFETY: each panel is written once.
                    let to = unsafe { shared.pointer().add(index * panel) };
                    self.weights(group * self.outputs + first, height, to);
                }
            });
            let weights = &*weights;
            let batches = self.batch.div_ceil(cut.images);
            in_tiles(pool, self.groups * batches * cut.parts, 1, |task, _| {
                let (part, rest) = (task % cut.parts, task / cut.parts);
                let (group, batch) = (rest % self.groups, rest / self.groups);
                let images = batch * cut.images..((batch + 1) * cut.images).min(self.batch);
                let weights = &weights[group * panels * panel..];
                self.task(loops, &cut, group, images, part, rows, weights, out);
            });
        });
    }

    /// A panel of weights: `to[tap·height + row]`.
    fn weights(&self, first: usize, height: usize, to: *mut T::Number) {
        let [output, input, strides @ ..] = self.kernel_strides;
        let mut tap = 0;
        for channel in 0..self.inputs {
            let base = self.kernel_origin + first as isize * output + channel as isize * input;
            crate::window::each_index(&self.space.kernel, |at| {
                let from = base + (0..3).map(|axis| at[axis] as isize * strides[axis]).sum::<isize>();
                for row in 0..height {
                    let weight = self.kernel[(from + row as isize * output) as usize].load();
                    // SAFETY: the panel holds `height` rows of every tap.
                    unsafe { *to.add(tap * height + row) = weight };
                }
                tap += 1;
            });
        }
    }

    /// All channels of a group for some images or a part of one.
    #[allow(clippy::too_many_arguments)]
    fn task(
        &self,
        loops: &Loops<T::Number>,
        cut: &Cut,
        group: usize,
        images: std::ops::Range<usize>,
        part: usize,
        rows: usize,
        weights: &[T::Number],
        out: Shared<T>,
    ) {
        let space = &self.space;
        let start = part * cut.size;
        let mut counts = space.result;
        counts[cut.axis] = cut.size.min(space.result[cut.axis] - start);
        let mut first = [0; 3];
        first[cut.axis] = start * space.result_step[cut.axis];
        let depth = cut.taps.len();
        let image_len = self.inputs * cut.room.len;
        let columns = loops.columns();
        let rooms_len = images.len() * image_len + SLACK;
        scratch::with::<T::Number, _>(rooms_len + columns * (depth + rows) + 2 * SLACK, |memory| {
            let (rooms, memory) = memory.split_at_mut(rooms_len);
            let (panel, corner) = memory.split_at_mut(columns * depth + SLACK);
            for (i, image) in images.clone().enumerate() {
                for channel in 0..self.inputs {
                    let base = self.origin
                        + image as isize * self.image_stride
                        + (group * self.inputs + channel) as isize * self.channel_stride;
                    let room = &mut rooms[i * image_len + channel * cut.room.len..][..cut.room.len];
                    cut.room.fill(space, self.source, base, first, room);
                }
            }
            let total = images.len() * count(counts);
            let mut runs: SmallVec<[Run; 32]> = SmallVec::new();
            for column in (0..total).step_by(columns) {
                let width = columns.min(total - column);
                self.runs(cut, group, images.start, counts, start, column..column + width, &mut runs);
                let pitch = loops.pitch(width);
                let pairs: SmallVec<[(usize, usize); 32]> = runs.iter().map(|run| (run.from, run.len)).collect();
                // SAFETY: every tap of every run lies in the rooms; slack lies behind rooms and panel.
                unsafe { (loops.gather)(rooms.as_ptr(), &pairs, &cut.taps, panel.as_mut_ptr(), pitch) };
                let together = runs.windows(2).all(|pair| pair[0].to + pair[0].len == pair[1].to);
                let direct = together && width == pitch && self.out_steps[2] == 1 && same::<T, T::Number>();
                for (index, row) in (0..self.outputs).step_by(rows).enumerate() {
                    let height = rows.min(self.outputs - row);
                    let left = weights[index * rows * depth..].as_ptr();
                    let tile = loops.tile(height, pitch);
                    let channel = row * self.out_channel;
                    // SAFETY: the panel holds `depth` rows, and the results are this task's own.
                    unsafe {
                        if direct {
                            let to = out.pointer().add(runs[0].to + channel).cast();
                            tile(depth, left, panel.as_ptr(), to, self.out_channel, false);
                            continue;
                        }
                        tile(depth, left, panel.as_ptr(), corner.as_mut_ptr(), pitch, false);
                        for r in 0..height {
                            let mut from = corner.as_ptr().add(r * pitch);
                            for run in &runs {
                                let to = out.pointer().add(run.to + channel + r * self.out_channel);
                                for i in 0..run.len {
                                    *to.offset(i as isize * self.out_steps[2]) = T::store(*from.add(i));
                                }
                                from = from.add(run.len);
                            }
                        }
                    }
                }
            }
        });
    }

    /// The runs of some columns of a task.
    #[allow(clippy::too_many_arguments)]
    fn runs(
        &self,
        cut: &Cut,
        group: usize,
        first_image: usize,
        counts: [usize; 3],
        start: usize,
        columns: std::ops::Range<usize>,
        runs: &mut SmallVec<[Run; 32]>,
    ) {
        let space = &self.space;
        runs.clear();
        let mut at = columns.start;
        while at < columns.end {
            let (row, x) = (at / counts[2], at % counts[2]);
            let (rest, y) = (row / counts[1], row % counts[1]);
            let (image, z) = (rest / counts[0], rest % counts[0]);
            let len = (counts[2] - x).min(columns.end - at);
            let inside = [0, 1, 2].map(|axis| [z, y, x][axis] * space.result_step[axis]);
            let mut place = [z, y, x];
            place[cut.axis] += start;
            runs.push(Run {
                from: image * self.inputs * cut.room.len + cut.room.place(inside),
                len,
                to: self.place(first_image + image, group * self.outputs, &place),
            });
            at += len;
        }
    }
}

fn same<T: 'static, U: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<U>()
}
