//! Convolution in one to three dimensions, as patches times weights.
//!
//! Patches (im2col) are made a bounded block at a time and multiplied at once, while they are in cache. The same
//! code serves the forward pass, the input gradient (flipped weights, dilated input) and the weight gradient (a huge
//! kernel and a small result): blocks cut the result's columns, and the summed dimension where it is long.

mod patches;
#[cfg(test)]
mod tests;

use crate::alphabet::DType;
use crate::element::Stored;
use crate::gemm::{Matrix, Multiply, widen};
use crate::pool::{Pool, Shared, fill_tiles, in_tiles};
use crate::scratch;
use crate::view::{Dims, View, ViewMut, numel};
use patches::{Patches, Side};

/// How a kernel passes over its input; every list has one entry for each spatial dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConvSpec {
    /// Steps between windows.
    pub stride: Vec<usize>,
    /// Zeros before each spatial dimension; negative crops.
    pub pad_low: Vec<isize>,
    /// Zeros after each spatial dimension; negative crops.
    pub pad_high: Vec<isize>,
    /// Steps at which the input's elements lie (zeros between them); 1 is an ordinary input.
    pub lhs_dilation: Vec<usize>,
    /// Steps at which the kernel's elements lie; 1 is an ordinary kernel.
    pub rhs_dilation: Vec<usize>,
    /// Channel groups that do not see each other.
    pub groups: usize,
}

impl ConvSpec {
    /// Stride 1, no padding, no dilation, one group, in `d` spatial dimensions.
    pub fn plain(d: usize) -> ConvSpec {
        ConvSpec {
            stride: vec![1; d],
            pad_low: vec![0; d],
            pad_high: vec![0; d],
            lhs_dilation: vec![1; d],
            rhs_dilation: vec![1; d],
            groups: 1,
        }
    }

    /// Spatial sizes of the result for those of an input and a kernel; 0 where the kernel does not fit.
    pub fn output_sizes(&self, input: &[usize], kernel: &[usize]) -> Dims {
        let dilated = |n: usize, by: usize| if n == 0 { 0 } else { (n - 1) * by + 1 } as isize;
        (0..input.len())
            .map(|i| {
                let room = dilated(input[i], self.lhs_dilation[i]) + self.pad_low[i] + self.pad_high[i];
                let reach = dilated(kernel[i], self.rhs_dilation[i]);
                if room < reach { 0 } else { (room - reach) as usize / self.stride[i] + 1 }
            })
            .collect()
    }

    fn check(&self, d: usize) {
        let lengths = [self.stride.len(), self.lhs_dilation.len(), self.rhs_dilation.len()];
        assert!(
            (1..=3).contains(&d) && lengths == [d; 3] && self.pad_low.len() == d && self.pad_high.len() == d,
            "conv: a specification for {d} dimensions, of which 1, 2 and 3 are known: {self:?}"
        );
        let positive = [&self.stride, &self.lhs_dilation, &self.rhs_dilation].iter().all(|l| !l.contains(&0));
        assert!(positive && self.groups > 0, "conv: strides, dilations and groups are at least 1: {self:?}");
    }
}

/// Cross-correlation of `lhs` [N, G·Ci, S..] with `rhs` [G·Co, Ci, K..] into `out` [N, G·Co, O..]; the kernel is not
/// flipped. bf16 and f16 are computed in f32 and rounded once.
pub fn conv(pool: &Pool, spec: &ConvSpec, lhs: View, rhs: View, out: ViewMut) {
    assert!(lhs.dtype == rhs.dtype && lhs.dtype != DType::Bool, "conv: {} with {}", lhs.dtype, rhs.dtype);
    match lhs.dtype {
        DType::F32 => run::<f32>(pool, spec, lhs, rhs, out),
        DType::F64 => run::<f64>(pool, spec, lhs, rhs, out),
        DType::BF16 => run::<half::bf16>(pool, spec, lhs, rhs, out),
        DType::F16 => run::<half::f16>(pool, spec, lhs, rhs, out),
        DType::I32 => run::<i32>(pool, spec, lhs, rhs, out),
        DType::I64 => run::<i64>(pool, spec, lhs, rhs, out),
        DType::U8 | DType::Bool => run::<u8>(pool, spec, lhs, rhs, out),
    }
}

/// Elements of a block of patches.
const BLOCK: usize = 1 << 17;
/// Longest stretch of the summed dimension in one block.
const DEPTH: usize = 1024;
/// Multiply-adds below which results are not cut further for threads' sake.
const GRAIN: usize = 1 << 20;

/// The sizes of one convolution, and how it is cut.
struct Plan {
    groups: usize,
    batch: usize,
    /// Output channels of a group.
    channels: usize,
    /// Summed dimension: input channels of a group times kernel elements.
    depth: usize,
    /// Spatial elements of a result.
    spatial: usize,
    /// Result elements of a channel over the batch.
    columns: usize,
    tile: usize,
    /// Stretches into which the summed dimension is cut, summed in order at the end.
    parts: usize,
    part: usize,
}

impl Plan {
    fn new(groups: usize, batch: usize, channels: usize, depth: usize, spatial: usize) -> Plan {
        let columns = batch * spatial;
        let fitting = (BLOCK / depth.min(DEPTH)).clamp(64, 4096) & !15;
        // Whole images where they are small, parts of one image where they are large.
        let tile =
            if fitting >= spatial { fitting / spatial * spatial } else { spatial.div_ceil(spatial.div_ceil(fitting)) };
        let tile = tile.min(columns);
        let tiles = groups * columns.div_ceil(tile);
        let parts = if tiles >= 8 {
            1
        } else {
            (8usize.div_ceil(tiles)).min(channels * depth * tile / GRAIN).min(depth / 256).max(1)
        };
        let part = depth.div_ceil(parts).next_multiple_of(16);
        Plan { groups, batch, channels, depth, spatial, columns, tile, parts: depth.div_ceil(part), part }
    }
}

fn run<T>(pool: &Pool, spec: &ConvSpec, lhs: View, rhs: View, out: ViewMut)
where
    T: Stored,
    T::Number: Multiply,
{
    let (x, w) = (lhs.shape(), rhs.shape());
    let d = x.len().wrapping_sub(2);
    spec.check(d);
    let groups = spec.groups;
    assert!(
        w.len() == d + 2 && x[1] == w[1] * groups && w[0] % groups == 0,
        "conv: input {x:?} and kernel {w:?} in {groups} groups do not fit"
    );
    let sizes = spec.output_sizes(&x[2..], &w[2..]);
    let (channels, depth, spatial) = (w[0] / groups, numel(&w[1..]), numel(&sizes));
    let out: &mut [T] = out.elements(lhs.dtype, x[0] * w[0] * spatial);
    if out.is_empty() {
        return;
    }
    if depth == 0 || x[1..].contains(&0) {
        return out.fill(T::default());
    }
    let plan = Plan::new(groups, x[0], channels, depth, spatial);
    let strides = &lhs.layout.strides;
    let kernel = Side::new(strides[1], &w[2..], &spec.rhs_dilation);
    let result = Side::new(strides[0], &sizes, &spec.stride);
    let source: &[T] = lhs.elements();
    let patches = Patches::new(source, &x[2..], &strides[2..], &spec.pad_low, &spec.lhs_dilation, kernel, result);
    scratch::with::<T::Number, _>(rhs.layout.numel(), |weights| {
        widen(pool, rhs.elements::<T>(), rhs.layout, weights);
        let origin = |group: usize| lhs.layout.offset as isize + (group * w[1]) as isize * strides[1];
        multiply::<T>(pool, &plan, &patches, &origin, weights, out);
    });
}

/// Runs the plan: blocks of patches times weights, then the sum over parts.
fn multiply<T>(
    pool: &Pool,
    plan: &Plan,
    patches: &Patches<T>,
    origin: &(dyn Fn(usize) -> isize + Sync),
    weights: &[T::Number],
    out: &mut [T],
) where
    T: Stored,
    T::Number: Multiply,
{
    let tiles = plan.columns.div_ceil(plan.tile);
    let total = plan.groups * plan.channels * plan.columns;
    let shared = Shared::new(out);
    let partial_len = if plan.parts > 1 { plan.parts * total } else { 0 };
    scratch::with::<T::Number, _>(partial_len, |partial| {
        let partial = Shared::new(partial);
        in_tiles(pool, plan.groups * tiles * plan.parts, 1, |task, _| {
            let (part, rest) = (task % plan.parts, task / plan.parts);
            let (group, tile) = (rest / tiles, rest % tiles);
            let columns = tile * plan.tile..((tile + 1) * plan.tile).min(plan.columns);
            let rows = part * plan.part..((part + 1) * plan.part).min(plan.depth);
            // GEMM reads whole vectors of columns as they lie; others it would pack again.
            let pitch = columns.len().next_multiple_of(patches::TURNED);
            scratch::with::<T::Number, _>(plan.channels * pitch, |sums| {
                let weights = &weights[group * plan.channels * plan.depth..][..plan.channels * plan.depth];
                block(plan, patches, origin(group), weights, rows, columns.clone(), sums);
                // A tile's columns, image by image, go to their places in the result or in the part's own sums.
                let mut column = columns.start;
                while column < columns.end {
                    let (image, at) = (column / plan.spatial, column % plan.spatial);
                    let count = (plan.spatial - at).min(columns.end - column);
                    for channel in 0..plan.channels {
                        let from = &sums[channel * pitch + column - columns.start..][..count];
                        let place = ((image * plan.groups + group) * plan.channels + channel) * plan.spatial + at;
                        // SAFETY: tasks own disjoint columns of disjoint groups and parts.
                        unsafe {
                            if plan.parts > 1 {
                                partial.slice(part * total + place, count).copy_from_slice(from);
                            } else {
                                let to = shared.slice(place, count);
                                to.iter_mut().zip(from).for_each(|(o, &x)| *o = T::store(x));
                            }
                        }
                    }
                    column += count;
                }
            });
        });
        if plan.parts > 1 {
            // SAFETY: all tasks are done; from here the sums are only read.
            let (partial, out) = unsafe { (&*partial.slice(0, partial_len), shared.slice(0, total)) };
            fill_tiles(pool, out, 1, 1 << 13, |start, out| {
                for (i, o) in out.iter_mut().enumerate() {
                    let mut sum = partial[start + i];
                    for part in 1..plan.parts {
                        sum = crate::element::Number::add(sum, partial[part * total + start + i]);
                    }
                    *o = T::store(sum);
                }
            });
        }
    });
    debug_assert_eq!(plan.batch * plan.spatial, plan.columns);
}

/// sums [channels, columns] = weights[.., rows] · patches[rows, columns], a bounded depth at a time, with columns padded
/// to whole vectors.
fn block<T>(
    plan: &Plan,
    patches: &Patches<T>,
    origin: isize,
    weights: &[T::Number],
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    sums: &mut [T::Number],
) where
    T: Stored,
    T::Number: Multiply,
{
    let pitch = columns.len().next_multiple_of(patches::TURNED);
    let deepest = (BLOCK / pitch).clamp(64, DEPTH).min(rows.len());
    // A long row is a multiple of a page often enough: its column would fall into one set of the cache.
    let packed = if plan.depth > 2 * DEPTH { deepest * plan.channels } else { 0 };
    scratch::with::<T::Number, _>(deepest * pitch + packed, |room| {
        let (room, packed) = room.split_at_mut(deepest * pitch);
        let mut start = rows.start;
        while start < rows.end {
            let depth = deepest.min(rows.end - start);
            let room = &mut room[..depth * pitch];
            patches.fill(origin, start..start + depth, columns.clone(), pitch, room);
            let mut lhs = Matrix { data: weights[start..].as_ptr(), row: plan.depth as isize, column: 1 };
            if !packed.is_empty() {
                for (row, packed) in packed.chunks_exact_mut(depth).take(plan.channels).enumerate() {
                    packed.copy_from_slice(&weights[row * plan.depth + start..][..depth]);
                }
                lhs = Matrix { data: packed.as_ptr(), row: depth as isize, column: 1 };
            }
            let rhs = Matrix { data: room.as_ptr(), row: pitch as isize, column: 1 };
            let size = [plan.channels, pitch, depth];
            // SAFETY: the weights hold channels · depth elements, the room depth · pitch, the sums channels · pitch.
            unsafe { T::Number::multiply(size, sums.as_mut_ptr(), pitch, start > rows.start, lhs, rhs) };
            start += depth;
        }
    });
}
