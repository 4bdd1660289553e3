//! Winograd's minimal filtering F(2×2, 3×3): four results of a 3×3 kernel from sixteen products, where the sum itself takes
//! thirty-six (Lavin and Gray 2015, <https://arxiv.org/abs/1509.09308>).
//!
//! Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A for each 4×4 tile d of the input and its 2×2 tile Y of the result; over channels the
//! products are sixteen products of matrices. Tiles of a few rows stay in the second-level cache from their input to their
//! result. f32 only. The transforms add and subtract numbers of one size, so the error stays within a few times that of
//! the direct sum; larger tiles multiply by up to 8 and lose digits, and are not here.

use super::Job;
use super::room::Room;
use crate::gemm::tile::{Looped, Loops, SLACK};
use crate::pool::{Pool, Shared, in_tiles};
use crate::scratch;
use crate::simd::{Arch, Loop, dispatch};
use smallvec::SmallVec;
use std::ops::Range;

/// Products of a tile.
const TILE: usize = 16;
/// Tiles that are transformed side by side.
const SIDE: usize = 8;
/// Elements of transformed tiles that stay in the second-level cache.
const HELD: usize = 1 << 17;
/// Most columns of a panel.
const COLUMNS: usize = 32;

/// How the tiles are cut.
struct Cut {
    /// Tiles down and across an image.
    down: usize,
    across: usize,
    /// Outputs of a panel of weights, and elements of the panel.
    height: usize,
    panel: usize,
}

/// Tiles side by side in a panel: the first, elements of a row of their results, where these go, and whether there is a
/// second row.
struct Run {
    tile: usize,
    len: usize,
    to: usize,
    second: bool,
}

impl Job<'_, f32> {
    pub(super) fn winograd(&self, pool: &Pool, out: Shared<f32>) {
        let loops = f32::loops();
        let (down, across) = (self.space.result[1].div_ceil(2), self.space.result[2].div_ceil(2));
        let panels = self.outputs.div_ceil(loops.rows);
        let height = self.outputs.div_ceil(panels);
        let panels = self.outputs.div_ceil(height);
        let total = self.batch * down;
        let most = (HELD / (TILE * self.inputs * across)).clamp(1, total.div_ceil(8).max(1));
        // Of nearly as many rows those that leave the fewest columns of panels empty.
        let full = |rows: &usize| rows * across * 1024 / (rows * across).next_multiple_of(loops.columns());
        let rows = (most.div_ceil(2)..=most).max_by_key(full).unwrap_or(most);
        let cut = &Cut { down, across, height, panel: TILE * self.inputs * height };
        scratch::with::<f32, _>(self.groups * panels * cut.panel + SLACK, |weights| {
            let shared = Shared::new(weights);
            in_tiles(pool, self.groups * panels, 1, |index, _| {
                let (group, first) = (index / panels, index % panels * height);
                // SAFETY: panels are disjoint.
                let to = unsafe { shared.slice(index * cut.panel, cut.panel) };
                self.transform(group * self.outputs + first, height.min(self.outputs - first), to);
            });
            let weights = &*weights;
            let tasks = total.div_ceil(rows);
            in_tiles(pool, self.groups * tasks, 1, |task, _| {
                let (group, first) = (task / tasks, task % tasks * rows);
                let weights = &weights[group * panels * cut.panel..];
                self.tiles(loops, cut, group, first..(first + rows).min(total), weights, out);
            });
        });
    }

    /// A panel of transformed weights: `to[(product·inputs + channel)·height + row]`.
    fn transform(&self, first: usize, height: usize, to: &mut [f32]) {
        let [output, input, _, down, across] = self.kernel_strides;
        // G x for three numbers; weights are few, so f64 costs nothing.
        let four = |[a, b, c]: [f64; 3]| [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c];
        for channel in 0..self.inputs {
            for row in 0..height {
                let from = self.kernel_origin + (first + row) as isize * output + channel as isize * input;
                let at = |y: isize, x: isize| self.kernel[(from + y * down + x * across) as usize] as f64;
                let columns = [0, 1, 2].map(|x| four([0, 1, 2].map(|y| at(y, x))));
                for y in 0..4 {
                    for (x, value) in four(columns.map(|column| column[y])).into_iter().enumerate() {
                        to[((4 * y + x) * self.inputs + channel) * height + row] = value as f32;
                    }
                }
            }
        }
    }

    /// All channels of a group for some rows of tiles.
    fn tiles(
        &self,
        loops: &Loops<f32>,
        cut: &Cut,
        group: usize,
        rows: Range<usize>,
        weights: &[f32],
        out: Shared<f32>,
    ) {
        let (tiles, columns) = (rows.len() * cut.across, loops.columns());
        let panels = tiles.div_ceil(columns);
        let right_len = panels * TILE * self.inputs * columns;
        let (lines_len, sums_len) = (TILE * (tiles + SIDE), TILE * cut.height * columns);
        let room_len = 4 * (rows.len() + 1) * (cut.across + 1) + 2 * SIDE;
        scratch::with::<f32, _>(right_len + lines_len + room_len + sums_len, |memory| {
            let (right, memory) = memory.split_at_mut(right_len);
            let (lines, memory) = memory.split_at_mut(lines_len);
            let (room, sums) = memory.split_at_mut(room_len);
            for channel in 0..self.inputs {
                self.lines(cut, group * self.inputs + channel, rows.clone(), room, lines);
                for panel in 0..panels {
                    let width = columns.min(tiles - panel * columns);
                    let at = (panel * TILE * self.inputs + channel) * columns;
                    let step = self.inputs * columns;
                    // SAFETY: every line holds all tiles; what is written behind a row lies in the row's panel.
                    unsafe {
                        let (from, to) = (lines[panel * columns..].as_ptr(), right[at..].as_mut_ptr());
                        (loops.copy_rows)(from, (tiles + SIDE) as isize, width, TILE, to, step);
                    }
                    if width < columns {
                        (0..TILE).for_each(|product| right[at + product * step..][width..columns].fill(0.0));
                    }
                }
            }
            for panel in 0..panels {
                let some = panel * columns..((panel + 1) * columns).min(tiles);
                let runs = self.tile_runs(cut, group, rows.start, some);
                for (index, first) in (0..self.outputs).step_by(cut.height).enumerate() {
                    let height = cut.height.min(self.outputs - first);
                    let tile = loops.tile(height, columns);
                    for product in 0..TILE {
                        let left = &weights[index * cut.panel + product * self.inputs * height..];
                        let right = &right[(panel * TILE + product) * self.inputs * columns..];
                        let to = &mut sums[product * cut.height * columns..];
                        // SAFETY: panels hold a row for every channel, and the sums a whole tile.
                        unsafe { tile(self.inputs, left.as_ptr(), right.as_ptr(), to.as_mut_ptr(), columns, false) };
                    }
                    let first = first * self.out_channel;
                    let size = [height, cut.height, columns, first, self.out_channel, self.out_steps[1] as usize];
                    dispatch(Results { sums, runs: &runs, size, out });
                }
            }
        });
    }

    /// One channel of some rows of tiles, transformed: a line for each product.
    fn lines(&self, cut: &Cut, channel: usize, rows: Range<usize>, room: &mut [f32], lines: &mut [f32]) {
        let pitch = rows.len() * cut.across + SIDE;
        let mut row = rows.start;
        while row < rows.end {
            let (image, y) = (row / cut.down, row % cut.down);
            let count = (cut.down - y).min(rows.end - row);
            let box_of = Room::new([1, 2 * count, 2 * cut.across], [1; 3], [1, 3, 3], [1; 3]);
            let base = self.origin + image as isize * self.image_stride + channel as isize * self.channel_stride;
            box_of.fill(&self.space, self.source, base, [0, 2 * y, 0], &mut room[..box_of.len]);
            let to = &mut lines[(row - rows.start) * cut.across..];
            dispatch(Tiles { room, count, across: cut.across, lines: to, pitch });
            row += count;
        }
    }

    /// The runs of some tiles of a task that begins with row `first`.
    fn tile_runs(&self, cut: &Cut, group: usize, first: usize, tiles: Range<usize>) -> SmallVec<[Run; COLUMNS]> {
        let [_, height, width] = self.space.result;
        let mut runs = SmallVec::new();
        let mut at = tiles.start;
        while at < tiles.end {
            let (row, x) = (first + at / cut.across, at % cut.across);
            let (image, y) = (row / cut.down, row % cut.down);
            let count = (cut.across - x).min(tiles.end - at);
            runs.push(Run {
                tile: at - tiles.start,
                len: (2 * count).min(width - 2 * x),
                to: self.place(image, group * self.outputs, &[0, 2 * y, 2 * x]),
                second: 2 * y + 1 < height,
            });
            at += count;
        }
        runs
    }
}

type Side = [f32; SIDE];

#[inline(always)]
fn plus(a: Side, b: Side) -> Side {
    std::array::from_fn(|i| a[i] + b[i])
}

#[inline(always)]
fn minus(a: Side, b: Side) -> Side {
    std::array::from_fn(|i| a[i] - b[i])
}

#[inline(always)]
fn side(from: &[f32], at: usize) -> Side {
    let mut all = [0.0; SIDE];
    all.copy_from_slice(&from[at..at + SIDE]);
    all
}

/// The even and the odd ones of some elements.
#[inline(always)]
fn pairs(from: &[f32], at: usize) -> [Side; 2] {
    let from = &from[at..at + 2 * SIDE];
    [std::array::from_fn(|i| from[2 * i]), std::array::from_fn(|i| from[2 * i + 1])]
}

/// Rows of input tiles, transformed: Bᵀ d B. Up to [`SIDE`] elements behind each row of tiles are overwritten.
struct Tiles<'a> {
    room: &'a [f32],
    count: usize,
    across: usize,
    lines: &'a mut [f32],
    pitch: usize,
}

impl Loop for Tiles<'_> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Tiles { room, count, across, lines, pitch } = self;
        // Bᵀ d for one column.
        let four = |d: [Side; 4]| [minus(d[0], d[2]), plus(d[1], d[2]), minus(d[2], d[1]), minus(d[1], d[3])];
        for row in 0..count {
            // Plain counted loops, which unroll.
            #[allow(clippy::needless_range_loop)]
            for x in (0..across).step_by(SIDE) {
                let mut columns = [[[0.0; SIDE]; 4]; 4];
                let mut d = [[[0.0; SIDE]; 4]; 4];
                for i in 0..4 {
                    let at = (2 * row + i) * (2 * across + 2) + 2 * x;
                    let (here, next) = (pairs(room, at), pairs(room, at + 2));
                    [d[0][i], d[1][i], d[2][i], d[3][i]] = [here[0], here[1], next[0], next[1]];
                }
                for j in 0..4 {
                    columns[j] = four(d[j]);
                }
                for i in 0..4 {
                    let values = four([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                    for (j, value) in values.iter().enumerate() {
                        lines[(4 * i + j) * pitch + row * across + x..][..SIDE].copy_from_slice(value);
                    }
                }
            }
        }
    }
}

/// Tiles of results from the sums of a panel: Aᵀ m A.
struct Results<'a> {
    sums: &'a [f32],
    runs: &'a [Run],
    /// Outputs, outputs that the sums have room for, columns; the first output's place, and the steps between outputs and
    /// rows.
    size: [usize; 6],
    out: Shared<f32>,
}

impl Loop for Results<'_> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Results { sums, runs, size: [height, room, columns, first, channel, row], out } = self;
        let two = |m: [Side; 4]| [plus(plus(m[0], m[1]), m[2]), minus(minus(m[1], m[2]), m[3])];
        for output in 0..height {
            let mut lines = [[0.0; 2 * COLUMNS]; 2];
            for x in (0..columns).step_by(SIDE) {
                let mut halves = [[[0.0; SIDE]; 2]; 4];
                for (j, half) in halves.iter_mut().enumerate() {
                    let at = |i: usize| side(sums, ((4 * i + j) * room + output) * columns + x);
                    *half = two([at(0), at(1), at(2), at(3)]);
                }
                for (i, line) in lines.iter_mut().enumerate() {
                    let [even, odd] = two([halves[0][i], halves[1][i], halves[2][i], halves[3][i]]);
                    let line = &mut line[2 * x..][..2 * SIDE];
                    for k in 0..SIDE {
                        line[2 * k] = even[k];
                        line[2 * k + 1] = odd[k];
                    }
                }
            }
            for run in runs {
                let to = run.to + first + output * channel;
                // SAFETY: the results are this task's own, and lie in the result.
                unsafe {
                    move_line(&lines[0][2 * run.tile..][..run.len], out.pointer().add(to));
                    if run.second {
                        move_line(&lines[1][2 * run.tile..][..run.len], out.pointer().add(to + row));
                    }
                }
            }
        }
    }
}

/// Copies a short line.
///
/// # Safety
/// As many elements may be written.
#[inline(always)]
unsafe fn move_line(from: &[f32], to: *mut f32) {
    let len = from.len();
    let mut at = 0;
    while at < len {
        // SAFETY: the caller's promise; the last vector reaches back over the one before.
        unsafe {
            if len >= SIDE {
                let at = at.min(len - SIDE);
                to.add(at).cast::<Side>().write_unaligned(side(from, at));
            } else {
                from.iter().enumerate().for_each(|(i, &x)| *to.add(i) = x);
            }
        }
        at += SIDE;
    }
}
