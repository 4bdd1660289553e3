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
    places: scratch::List,
    /// Columns of a panel of outputs.
    columns: usize,
    /// Elements between rows of the sums.
    pitch: usize,
    /// Whether the rows of a tile are one result of many images, not many results of an image.
    woven: bool,
    /// (Channel, stretch) pairs that are summed in registers.
    run: usize,
}

/// The least images that are worth weaving.
const WOVEN: usize = 6;
/// Taps that are summed in registers, where a channel has fewer.
const LONG: usize = 256;

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
        let taps = count(space.kernel);
        let run = if stretches > 1 { 1 } else { (LONG / taps).min(ROOM / (images * room.len)).clamp(1, part) };
        let mut places = scratch::list();
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
            woven: images >= WOVEN,
            run,
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
            let mut places = scratch::list();
            crate::window::each_index(&self.space.result, |at| places.push(self.place(0, 0, at)));
            let grain = (GRAIN >> 6) / (self.outputs * results);
            in_tiles(pool, self.batch * self.groups, grain, |first, count| {
                for index in first..first + count {
                    self.join(&cut, &places, sums, index / self.groups, index % self.groups, out);
                }
            });
        });
    }

    /// Adds the parts of the sums of an image, and turns them from results × outputs into outputs × results.
    fn join(&self, cut: &Cut, places: &[usize], sums: &[T::Number], image: usize, group: usize, out: Shared<T>) {
        let results = places.len();
        let (len, total) = (results * cut.pitch, self.batch * results * cut.pitch);
        scratch::with::<T::Number, _>(len, |room| {
            for part in 0..cut.parts {
                let from = &sums[(group * cut.parts + part) * total + image * len..][..len];
                match part {
                    0 => room.copy_from_slice(from),
                    _ => room.iter_mut().zip(from).for_each(|(sum, &x)| *sum = sum.add(x)),
                }
            }
            for output in 0..self.outputs {
                let channel = image * self.out_image + (group * self.outputs + output) * self.out_channel;
                for (row, place) in room.chunks_exact(cut.pitch).zip(places) {
                    // SAFETY: every result is written once.
                    unsafe { *out.pointer().add(channel + place) = T::store(row[output]) };
                }
            }
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
        let rows = if cut.woven { images.len() } else { images.len() * results };
        let height = rows.div_ceil(rows.div_ceil(loops.rows));
        let mut most = space.kernel;
        most[cut.axis] = cut.size;
        let most = count(most) * cut.run;
        let rooms_len = images.len() * cut.room.len;
        let right_len = cut.pitch * most + SLACK;
        let plain_len = if cut.woven { height * cut.room.len } else { 0 } + SLACK;
        let lens = cut.run * rooms_len + SLACK + right_len + plain_len + height * most + SLACK;
        scratch::with::<T::Number, _>(lens, |memory| {
            let (rooms, memory) = memory.split_at_mut(cut.run * rooms_len + SLACK);
            let (right, memory) = memory.split_at_mut(right_len);
            let (plain, left) = memory.split_at_mut(plain_len);
            for (index, item) in items.clone().step_by(cut.run).enumerate() {
                let run = cut.run.min(items.end - item);
                let (channel, stretch) = (item / cut.stretches, item % cut.stretches);
                let start = stretch * cut.size;
                let mut counts = space.kernel;
                counts[cut.axis] = cut.size.min(space.kernel[cut.axis] - start);
                let mut first = [0; 3];
                first[cut.axis] = start * space.kernel_step[cut.axis];
                for i in 0..run {
                    let rooms = &mut rooms[i * rooms_len..];
                    self.rooms(
                        loops,
                        cut,
                        group * self.inputs + channel + i,
                        images.clone(),
                        first,
                        height,
                        rooms,
                        plain,
                    );
                    self.taps(
                        loops,
                        cut,
                        group,
                        channel + i,
                        start,
                        counts,
                        run,
                        &mut right[i * count(counts) * cut.columns..],
                    );
                }
                let depth = count(counts) * run;
                let blocks = if cut.woven { rows.div_ceil(height) * results } else { rows.div_ceil(height) };
                for block in 0..blocks {
                    // The first row of the block among the sums, how many, and the elements between them.
                    let (row, height, step) = if cut.woven {
                        let (image, result) = (block / results * height, block % results);
                        (image * results + result, height.min(rows - image), results * cut.pitch)
                    } else {
                        (block * height, height.min(rows - block * height), cut.pitch)
                    };
                    self.left(loops, cut, row, height, rooms, rooms_len, counts, run, left);
                    for column in (0..self.outputs).step_by(cut.columns) {
                        let tile = loops.tile(height, cut.columns);
                        // SAFETY: panels hold `depth` rows, and the sums are whole panels wide.
                        unsafe {
                            let to = sums.as_mut_ptr().add(row * cut.pitch + column);
                            tile(depth, left.as_ptr(), right.as_ptr().add(column * depth), to, step, index > 0);
                        }
                    }
                }
            }
        });
    }

    /// Lays out one channel of some images: their rooms one after another, or woven, element beside element, by `height`.
    #[allow(clippy::too_many_arguments)]
    fn rooms(
        &self,
        loops: &Loops<T::Number>,
        cut: &Cut,
        channel: usize,
        images: Range<usize>,
        first: [usize; 3],
        height: usize,
        rooms: &mut [T::Number],
        plain: &mut [T::Number],
    ) {
        let len = cut.room.len;
        let base =
            |image: usize| self.origin + image as isize * self.image_stride + channel as isize * self.channel_stride;
        if !cut.woven {
            for (i, image) in images.enumerate() {
                cut.room.fill(&self.space, self.source, base(image), first, &mut rooms[i * len..][..len]);
            }
            return;
        }
        for start in (0..images.len()).step_by(height) {
            let height = height.min(images.len() - start);
            for i in 0..height {
                let room = &mut plain[i * len..][..len];
                cut.room.fill(&self.space, self.source, base(images.start + start + i), first, room);
            }
            let mut lines = [plain.as_ptr(); MOST_ROWS];
            lines.iter_mut().enumerate().take(height).for_each(|(i, line)| *line = plain[i * len..].as_ptr());
            // SAFETY: the rooms hold all images, in this order, and slack lies behind.
            unsafe { loops.turn(&lines[..height], len, rooms[start * len..].as_mut_ptr(), height) };
        }
    }

    /// A panel of rows, from row `row` of the sums on: `left[tap·height + i]`.
    #[allow(clippy::too_many_arguments)]
    fn left(
        &self,
        loops: &Loops<T::Number>,
        cut: &Cut,
        row: usize,
        height: usize,
        rooms: &[T::Number],
        rooms_len: usize,
        counts: [usize; 3],
        run: usize,
        left: &mut [T::Number],
    ) {
        let (results, step) = (cut.places.len(), self.space.kernel_step);
        let mut lines = [rooms.as_ptr(); MOST_ROWS];
        if !cut.woven {
            for (i, line) in lines.iter_mut().enumerate().take(height) {
                let (image, result) = ((row + i) / results, (row + i) % results);
                *line = rooms[image * cut.room.len + cut.places[result]..].as_ptr();
            }
        }
        let mut done = 0;
        for channel in 0..run {
            for z in 0..counts[0] {
                for y in 0..counts[1] {
                    let shift = cut.room.place([z * step[0], y * step[1], 0]);
                    if cut.woven {
                        let place = channel * rooms_len + row / results * cut.room.len;
                        let from = &rooms[place + (shift + cut.places[row % results]) * height..];
                        let len = counts[2] * height;
                        left[done * height..][..len].copy_from_slice(&from[..len]);
                    } else {
                        let mut there = lines;
                        // SAFETY: every tap from every place lies in its room; slack lies behind the panel.
                        unsafe {
                            there
                                .iter_mut()
                                .take(height)
                                .for_each(|line| *line = line.add(channel * rooms_len + shift));
                            loops.turn(&there[..height], counts[2], left.as_mut_ptr().add(done * height), height);
                        }
                    }
                    done += counts[2];
                }
            }
        }
    }

    /// The taps of a stretch of a channel as panels of output channels, each `run` channels long.
    #[allow(clippy::too_many_arguments)]
    fn taps(
        &self,
        loops: &Loops<T::Number>,
        cut: &Cut,
        group: usize,
        channel: usize,
        start: usize,
        mut counts: [usize; 3],
        run: usize,
        right: &mut [T::Number],
    ) {
        let [output, input, strides @ ..] = self.kernel_strides;
        let columns = cut.columns;
        let depth = count(counts) * run;
        let mut origin = self.kernel_origin + channel as isize * input + start as isize * strides[cut.axis];
        origin += (group * self.outputs) as isize * output;
        // Lines one behind the other are one line.
        if strides[1] == strides[2] * counts[2] as isize {
            counts = [counts[0], 1, counts[1] * counts[2]];
        }
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
