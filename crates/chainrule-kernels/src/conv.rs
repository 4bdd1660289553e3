//! Convolution in one to three dimensions, as a product of matrices whose operands are laid out as they are needed.
//!
//! An image is copied with its padding into a room (`room.rs`) that stays in cache; panels for the inner loop of the
//! product come straight from there, and no matrix of patches is made. The same code serves the forward pass, the
//! input gradient (flipped weights, dilated input: along its elements or phase by phase, without its zeros) and the weight
//! gradient (a huge kernel and a small result): the longer of kernel and result is what the inner loops run along.

pub(crate) mod by_inputs;
mod by_results;
mod by_taps;
mod room;
#[cfg(test)]
mod tests;
mod winograd;

use crate::alphabet::DType;
use crate::element::Stored;
use crate::gemm::Multiply;
use crate::pool::{Pool, Shared};
use crate::view::{Dims, View, ViewMut, numel};
use crate::window;
use room::Space;
use std::any::TypeId;
use std::sync::OnceLock;

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
///
/// 3×3 kernels of many channels in f32 go by Winograd's minimal filtering, whose rounding error is up to about three times
/// that of the plain sum; `CHAINRULE_CONV=direct` in the environment turns it off.
pub fn conv(pool: &Pool, spec: &ConvSpec, lhs: View, rhs: View, out: ViewMut) {
    static WANTED: OnceLock<Option<Strategy>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| match std::env::var("CHAINRULE_CONV").as_deref() {
        Ok("direct") => Some(Strategy::Direct),
        Ok("results") => Some(Strategy::Results),
        Ok("taps") => Some(Strategy::Taps),
        Ok("inputs") => Some(Strategy::Inputs),
        Ok("winograd") => Some(Strategy::Winograd),
        _ => None,
    });
    conv_by(*wanted, pool, spec, lhs, rhs, out)
}

/// Ways of a convolution. Where one cannot do what is asked, the direct one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// Along results or taps, whichever are more.
    Direct,
    Results,
    Taps,
    /// Along the elements of a dilated input.
    Inputs,
    Winograd,
}

/// Channels on either side from which Winograd's transforms pay, as measured.
const MANY: usize = 32;
/// Results of an image that fill its tiles.
const WIDE: usize = 16;

fn conv_by(wanted: Option<Strategy>, pool: &Pool, spec: &ConvSpec, lhs: View, rhs: View, out: ViewMut) {
    assert!(lhs.dtype == rhs.dtype && lhs.dtype != DType::Bool, "conv: {} with {}", lhs.dtype, rhs.dtype);
    match lhs.dtype {
        DType::F32 => run::<f32>(wanted, pool, spec, lhs, rhs, out),
        DType::F64 => run::<f64>(wanted, pool, spec, lhs, rhs, out),
        DType::BF16 => run::<half::bf16>(wanted, pool, spec, lhs, rhs, out),
        DType::F16 => run::<half::f16>(wanted, pool, spec, lhs, rhs, out),
        DType::I32 => run::<i32>(wanted, pool, spec, lhs, rhs, out),
        DType::I64 => run::<i64>(wanted, pool, spec, lhs, rhs, out),
        DType::U8 | DType::Bool => run::<u8>(wanted, pool, spec, lhs, rhs, out),
    }
}

/// Multiply-adds that are worth handing to another thread.
const GRAIN: usize = 1 << 20;
/// Elements of a room that stay in the second-level cache.
const ROOM: usize = 1 << 17;

fn three<T: Copy>(values: &[T], one: T) -> [T; 3] {
    let mut all = [one; 3];
    all[3 - values.len()..].copy_from_slice(values);
    all
}

/// The number of coordinates below three sizes.
fn count(sizes: [usize; 3]) -> usize {
    sizes.iter().product()
}

/// One convolution of a part of the taps into a part of the results.
struct Job<'a, T> {
    wanted: Option<Strategy>,
    groups: usize,
    batch: usize,
    /// Input channels and results of a group.
    inputs: usize,
    outputs: usize,
    space: Space,
    source: &'a [T],
    /// First element of the input, and the steps between images and channels.
    origin: isize,
    image_stride: isize,
    channel_stride: isize,
    kernel: &'a [T],
    kernel_origin: isize,
    /// Steps between outputs, inputs, and along space.
    kernel_strides: [isize; 5],
    /// First element of the result, and the steps along space.
    out_origin: usize,
    out_steps: [isize; 3],
    /// Steps between images and channels of the result.
    out_image: usize,
    out_channel: usize,
}

fn run<T>(wanted: Option<Strategy>, pool: &Pool, spec: &ConvSpec, lhs: View, rhs: View, out: ViewMut)
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
    let out: &mut [T] = out.elements(lhs.dtype, x[0] * w[0] * numel(&sizes));
    if out.is_empty() {
        return;
    }
    if w.contains(&0) || x.contains(&0) {
        return out.fill(T::default());
    }
    let (ls, rs) = (&lhs.layout.strides, &rhs.layout.strides);
    let spatial = three(&rs[2..], 0);
    let out_steps = three(&crate::view::contiguous_strides(&sizes), 0);
    let job = Job {
        wanted,
        groups,
        batch: x[0],
        inputs: w[1],
        outputs: w[0] / groups,
        space: Space {
            sizes: three(&x[2..], 1),
            strides: three(&ls[2..], 0),
            pad: three(&spec.pad_low, 0),
            dilation: three(&spec.lhs_dilation, 1),
            kernel: three(&w[2..], 1),
            kernel_step: three(&spec.rhs_dilation, 1),
            result: three(&sizes, 1),
            result_step: three(&spec.stride, 1),
        },
        source: lhs.elements(),
        origin: lhs.layout.offset as isize,
        image_stride: ls[0],
        channel_stride: ls[1],
        kernel: rhs.elements(),
        kernel_origin: rhs.layout.offset as isize,
        kernel_strides: [rs[0], rs[1], spatial[0], spatial[1], spatial[2]],
        out_origin: 0,
        out_steps,
        out_image: w[0] * numel(&sizes),
        out_channel: numel(&sizes),
    };
    let plain = job.space.kernel_step == [1; 3] && job.space.result_step == [1; 3];
    let dilated = job.space.dilation != [1; 3];
    let long = count(job.space.kernel) > count(job.space.result);
    if plain && groups == 1 && long && (dilated || job.outputs < job.batch.min(8)) {
        job.swapped().run(pool, out);
    } else if plain && dilated && (wanted == Some(Strategy::Inputs) || wanted.is_none() && job.suits_inputs()) {
        job.by_inputs(pool, Shared::new(out));
    } else if plain && dilated {
        // Results of one phase of the dilation meet taps of one phase only, and no zeros between elements.
        let phases = job.space.dilation;
        window::each_index(&phases, |phase| job.phase([phase[0], phase[1], phase[2]]).run(pool, out));
    } else {
        job.run(pool, out);
    }
}

impl<T> Job<'_, T>
where
    T: Stored,
    T::Number: Multiply,
{
    /// The same sums with input and kernel in each other's place, for one group and steps of one.
    ///
    /// Result r meets tap k and element y where k + r = dilation·y + pad. Counted from the other end, as s = last − r,
    /// that is k + (last − pad) = dilation·y + s: the former kernel under a dilated one. Its elements stand still while
    /// the dilated side, without its zeros, is what the sum runs along.
    fn swapped(&self) -> Self {
        let space = &self.space;
        let [output, input, strides @ ..] = self.kernel_strides;
        let last = space.result.map(|n| n as isize - 1);
        let ends: isize = (0..3).map(|axis| last[axis] * self.out_steps[axis]).sum();
        Job {
            wanted: self.wanted,
            groups: 1,
            batch: self.outputs,
            inputs: self.inputs,
            outputs: self.batch,
            space: Space {
                sizes: space.kernel,
                strides,
                pad: [0, 1, 2].map(|axis| last[axis] - space.pad[axis]),
                dilation: [1; 3],
                kernel: space.sizes,
                kernel_step: space.dilation,
                result: space.result,
                result_step: [1; 3],
            },
            source: self.kernel,
            origin: self.kernel_origin,
            image_stride: output,
            channel_stride: input,
            kernel: self.source,
            kernel_origin: self.origin,
            kernel_strides: [
                self.image_stride,
                self.channel_stride,
                space.strides[0],
                space.strides[1],
                space.strides[2],
            ],
            out_origin: (self.out_origin as isize + ends) as usize,
            out_steps: self.out_steps.map(|step| -step),
            out_image: self.out_channel,
            out_channel: self.out_image,
        }
    }

    /// The results `phase, phase + dilation, …` of a convolution over a dilated input.
    fn phase(&self, phase: [usize; 3]) -> Self {
        let mut job = Job { space: self.space.clone(), ..*self };
        for (axis, &phase) in phase.iter().enumerate() {
            let (dilation, pad) = (self.space.dilation[axis], self.space.pad[axis]);
            let shift = phase as isize - pad;
            // Tap k meets an element where k + shift is a multiple of the dilation.
            let first = (-shift).rem_euclid(dilation as isize) as usize;
            let space = &mut job.space;
            space.kernel[axis] = self.space.kernel[axis].saturating_sub(first).div_ceil(dilation);
            space.result[axis] = self.space.result[axis].saturating_sub(phase).div_ceil(dilation);
            space.pad[axis] = -((first as isize + shift) / dilation as isize);
            space.dilation[axis] = 1;
            job.kernel_origin += first as isize * self.kernel_strides[2 + axis];
            job.kernel_strides[2 + axis] *= dilation as isize;
            job.out_origin += phase * self.out_steps[axis] as usize;
            job.out_steps[axis] *= dilation as isize;
        }
        job
    }

    fn run(&self, pool: &Pool, out: &mut [T]) {
        let (taps, results) = (count(self.space.kernel), count(self.space.result));
        if results == 0 {
            return;
        }
        let out = Shared::new(out);
        if taps == 0 {
            return self.zeros(out);
        }
        match self.strategy() {
            Strategy::Winograd => {
                // SAFETY: the strategy is taken for f32 only, which `T` then is.
                let (job, out) = unsafe { (&*std::ptr::from_ref(self).cast::<Job<f32>>(), out.cast::<f32>()) };
                job.winograd(pool, out)
            }
            Strategy::Taps => self.by_taps(pool, out),
            _ => self.by_results(pool, out),
        }
    }

    /// The way that suits the shape.
    fn strategy(&self) -> Strategy {
        let Space { kernel, kernel_step, result, result_step, dilation, .. } = self.space;
        let direct = if count(kernel) > count(result) { Strategy::Taps } else { Strategy::Results };
        let tiled = TypeId::of::<T>() == TypeId::of::<f32>()
            && (kernel, result[0]) == ([1, 3, 3], 1)
            && [kernel_step, result_step, dilation] == [[1; 3]; 3]
            && self.out_steps[2] == 1
            && self.out_steps[1] >= 0;
        let many = self.inputs.min(self.outputs) >= MANY && count(result) >= WIDE;
        match self.wanted {
            Some(Strategy::Winograd) if tiled => Strategy::Winograd,
            None if tiled && many => Strategy::Winograd,
            Some(wanted @ (Strategy::Taps | Strategy::Results)) => wanted,
            _ => direct,
        }
    }

    /// Results that no tap reaches.
    fn zeros(&self, out: Shared<T>) {
        let channels = self.groups * self.outputs;
        for index in 0..self.batch * channels {
            let (image, channel) = (index / channels, index % channels);
            window::each_index(&self.space.result, |at| {
                // SAFETY: a result of this job.
                unsafe { *out.pointer().add(self.place(image, channel, at)) = T::default() };
            });
        }
    }

    /// Where a result goes.
    fn place(&self, image: usize, channel: usize, at: &[usize]) -> usize {
        let inside: isize = (0..3).map(|axis| at[axis] as isize * self.out_steps[axis]).sum();
        (self.out_origin + image * self.out_image + channel * self.out_channel).wrapping_add_signed(inside)
    }
}
