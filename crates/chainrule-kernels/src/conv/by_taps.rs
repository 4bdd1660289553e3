//! Convolution along the taps: where the kernel is larger than the result, as a weight gradient's is.
//!
//! Rows of the product are the results of all images, columns the output channels; the sum runs over input channels and
//! taps. It is cut into parts at fixed places, and these are summed in order.

use super::room::Room;
use super::{GRAIN, Job, ROOM, count};
use crate::element::{Number, Stored};
use crate::gemm::Multiply;
use crate::gemm::tile::{Looped, Loops, MOST_ROWS, SLACK};
use crate::pool::{Pool, Shared, in_tiles};
use crate::scratch;
use std::ops::Range;

/// Most elements of all parts' sums together.
const SUMS: usize = 1 << 21;

/// How the sum and the rows are cut.
struct Cut {
    /// The axis along which the taps of a channel are cut, and taps of a stretch along it.
    axis: usize,
    size: usize,
    stretches: usize,
    /// Parts of the sum, and (channel, stretch) pairs of each.
    parts: usize,
    part: usize,
    /// Images whose results are rows of one task.
    images: usize,
    blocks: usize,
    room: Room,
    /// Place in a room of every result.
    places: Vec<usize>,
    /// Columns of a panel of outputs.
    columns: usize,
    /// Elements between rows of the sums.
    pitch: usize,
}

impl<T> Job<'_, T>
where
    T: Stored,
    T::Number: Multiply,
{
    fn cut_taps(&self, loops: &Loops<T::Number>) -> Cut {
        let space = &self.space;
        let axis = (0..3).find(|&axis| space.kernel[axis] > 1).unwrap_or(2);
        let room = |size: usize| {
            let mut counts = space.kernel;
            counts[axis] = size;
            Room::new(counts, space.kernel_step, space.result, space.result_step)
        };
        let mut size = space.kernel[axis];
        while size > 1 && room(size).len * self.batch.min(8) > ROOM {
            size = size.div_ceil(2);
        }
        let (stretches, room) = (space.kernel[axis].div_ceil(size), room(size));
        let results = count(space.result);
        let columns = loops.pitch(self.outputs);
        let pitch = self.outputs.next_multiple_of(columns);
        let sums = self.batch * results * pitch;
        let items = self.inputs * stretches;
        let work = self.batch * results * self.outputs * self.inputs * count(space.kernel);
        let parts = (work / GRAIN).clamp(1, 8).min(items).min((SUMS / sums).max(1));
        let part = items.div_ceil(parts);
        let blocks = 8usize.div_ceil(parts * self.groups).min((work / parts / GRAIN).max(1)).min(self.batch);
        let images = self.batch.div_ceil(blocks).min((ROOM / room.len).max(1));
        let mut places = Vec::with_capacity(results);
        crate::window::each_index(&space.result, |at| {
            places.push(room.place([0, 1, 2].map(|axis| at[axis] * space.result_step[axis])));
        });
        Cut {
            axis,
            size,
            stretches,
            parts: items.div_ceil(part),
            part,
            images,
            blocks: self.batch.div_ceil(images),
            room,
            places,
            columns,
            pitch,
        }
    }

    pub(super) fn by_taps(&self, pool: &Pool, out: Shared<T>) {
        let loops = T::Number::loops();
        let cut = self.cut_taps(loops);
        let results = cut.places.len();
        let rows = self.batch * results;
        let total = rows * cut.pitch;
        scratch::with::<T::Number, _>(self.groups * cut.parts * total, |sums| {
            let shared = Shared::new(sums);
            in_tiles(pool, self.groups * cut.parts * cut.blocks, 1, |task, _| {
                let (block, rest) = (task % cut.blocks, task / cut.blocks);
                let (part, group) = (rest % cut.parts, rest / cut.parts);
                let images = block * cut.images..((block + 1) * cut.images).min(self.batch);
                let items = part * cut.part..((part + 1) * cut.part).min(self.inputs * cut.stretches);
                let place = (group * cut.parts + part) * total + images.start * results * cut.pitch;
                // SAFETY: tasks own disjoint rows of disjoint parts.
                let sums = unsafe { shared.slice(place, images.len() * results * cut.pitch) };
                self.sum(loops, &cut, group, images, items, sums);
            });
            let sums = &*sums;
            // The results of one image: outputs of all groups, then space.
            let image_len = self.groups * self.outputs;
            in_tiles(pool, self.batch * image_len, 64, |first, count| {
                for index in first..first + count {
                    let (image, channel) = (index / image_len, index % image_len);
                    let (group, output) = (channel / self.outputs, channel % self.outputs);
                    let mut result = 0;
                    crate::window::each_index(&self.space.result, |at| {
                        let from = (image * results + result) * cut.pitch + output;
                        let part = |part: usize| sums[(group * cut.parts + part) * total + from];
                        let sum = (1..cut.parts).fold(part(0), |sum, i| sum.add(part(i)));
                        let place: usize = (0..3).map(|axis| at[axis] * self.out_steps[axis]).sum();
                        // SAFETY: every result is written once.
                        let to = unsafe { out.slice(self.out_origin + index * self.out_channel + place, 1) };
                        to[0] = T::store(sum);
                        result += 1;
                    });
                }
            });
        });
    }

    /// The sums of some images over some (channel, stretch) pairs.
    fn sum(
        &self,
        loops: &Loops<T::Number>,
        cut: &Cut,
        group: usize,
        images: Range<usize>,
        items: Range<usize>,
        sums: &mut [T::Number],
    ) {
        let space = &self.space;
        let results = cut.places.len();
        let rows = images.len() * results;
        let height = rows.div_ceil(rows.div_ceil(loops.rows));
        let mut most = space.kernel;
        most[cut.axis] = cut.size;
        let most = count(most);
        let rooms_len = images.len() * cut.room.len + SLACK;
        let right_len = cut.pitch * most + SLACK;
        scratch::with::<T::Number, _>(rooms_len + right_len + height * most + SLACK, |memory| {
            let (rooms, memory) = memory.split_at_mut(rooms_len);
            let (right, left) = memory.split_at_mut(right_len);
            let mut accumulate = false;
            for item in items {
                let (channel, stretch) = (item / cut.stretches, item % cut.stretches);
                let start = stretch * cut.size;
                let mut counts = space.kernel;
                counts[cut.axis] = cut.size.min(space.kernel[cut.axis] - start);
                let mut first = [0; 3];
                first[cut.axis] = start * space.kernel_step[cut.axis];
                let input = (group * self.inputs + channel) as isize * self.channel_stride;
                for (i, image) in images.clone().enumerate() {
                    let base = self.origin + image as isize * self.image_stride + input;
                    cut.room.fill(space, self.source, base, first, &mut rooms[i * cut.room.len..][..cut.room.len]);
                }
                self.taps(loops, cut, group, channel, start, counts, right);
                let depth = count(counts);
                for row in (0..rows).step_by(height) {
                    let height = height.min(rows - row);
                    let mut lines = [rooms.as_ptr(); MOST_ROWS];
                    for (i, line) in lines.iter_mut().enumerate().take(height) {
                        let (image, result) = ((row + i) / results, (row + i) % results);
                        *line = rooms[image * cut.room.len + cut.places[result]..].as_ptr();
                    }
                    // SAFETY: every tap from every place lies in its room; panels hold `depth` rows.
                    unsafe {
                        let mut done = 0;
                        for z in 0..counts[0] {
                            for y in 0..counts[1] {
                                let shift = cut.room.place([z * space.kernel_step[0], y * space.kernel_step[1], 0]);
                                let mut there = lines;
                                there.iter_mut().take(height).for_each(|line| *line = line.add(shift));
                                let to = left.as_mut_ptr().add(done * height);
                                loops.turn(&there[..height], counts[2], to, height);
                                done += counts[2];
                            }
                        }
                        for column in (0..self.outputs).step_by(cut.columns) {
                            let tile = loops.tile(height, cut.columns);
                            let to = sums.as_mut_ptr().add(row * cut.pitch + column);
                            let right = right.as_ptr().add(column * depth);
                            tile(depth, left.as_ptr(), right, to, cut.pitch, accumulate);
                        }
                    }
                }
                accumulate = true;
            }
        });
    }

    /// The taps of a stretch of a channel as panels of output channels.
    #[allow(clippy::too_many_arguments)]
    fn taps(
        &self,
        loops: &Loops<T::Number>,
        cut: &Cut,
        group: usize,
        channel: usize,
        start: usize,
        counts: [usize; 3],
        right: &mut [T::Number],
    ) {
        let [output, input, strides @ ..] = self.kernel_strides;
        let columns = cut.columns;
        let depth = count(counts);
        let mut origin = self.kernel_origin + channel as isize * input + start as isize * strides[cut.axis];
        origin += (group * self.outputs) as isize * output;
        for column in (0..self.outputs).step_by(columns) {
            let width = columns.min(self.outputs - column);
            let mut done = column * depth;
            for z in 0..counts[0] {
                for y in 0..counts[1] {
                    let from = origin + column as isize * output + z as isize * strides[0] + y as isize * strides[1];
                    let to = &mut right[done..];
                    self.line(loops, from, [width, counts[2]], to, columns);
                    done += counts[2] * columns;
                }
            }
        }
    }

    /// `to[x·columns + i]` is the tap x of output i.
    fn line(
        &self,
        loops: &Loops<T::Number>,
        from: isize,
        [width, count]: [usize; 2],
        to: &mut [T::Number],
        columns: usize,
    ) {
        let [output, _, _, _, step] = self.kernel_strides;
        if std::any::TypeId::of::<T>() == std::any::TypeId::of::<T::Number>() {
            let from = self.kernel[from as usize..].as_ptr().cast::<T::Number>();
            // SAFETY: the view was checked; slack lies behind the panels, which are filled in order.
            unsafe { loops.pack(from, output, step, width, count, to.as_mut_ptr(), columns) };
            return;
        }
        for x in 0..count {
            for i in 0..width {
                to[x * columns + i] = self.kernel[(from + i as isize * output + x as isize * step) as usize].load();
            }
        }
    }
}
