//! Random numbers as a pure function of a key and a position: Philox4x32-10 (Salmon and others, SC 2011).
//!
//! There is no state, so a sample may be recomputed anywhere, in parts, on any number of threads.

use crate::alphabet::{DType, Distribution};
use crate::element::Plain;
use crate::math;
use crate::pool::{Pool, fill_tiles};
use crate::simd::{Arch, Loop, Portable, dispatch};
use crate::view::ViewMut;
use half::{bf16, f16};

/// Elements that one tile takes.
const GRAIN: usize = 1 << 13;

/// The Philox4x32-10 block cipher: four random words for a counter and a key.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = counter[0] as u64 * 0xD251_1F53;
        let b = counter[2] as u64 * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// Draws `sample_numel` elements for each key in turn. Element `i` of a sample depends on nothing but its key and
/// `i`. Bits are i64; the other distributions are f32, f64, bf16 or f16, by the dtype of `out`.
pub fn random(pool: &Pool, distribution: Distribution, keys: &[i64], sample_numel: usize, out: ViewMut) {
    let dtype = out.dtype;
    let fits = if distribution == Distribution::Bits { dtype == DType::I64 } else { dtype.is_float() };
    assert!(fits, "random: {} as {dtype}", distribution.name());
    let draw = Draw { pool, keys, each: sample_numel };
    match (distribution, dtype) {
        (Distribution::Bits, _) => draw.fill(out, |w| two(w).map(|x| x as i64)),
        (Distribution::Uniform, DType::F64) => draw.fill(out, |w| two(w).map(unit64)),
        (Distribution::Uniform, DType::BF16) => draw.fill(out, |w| w.map(|x| bf16_below(unit32(x)))),
        (Distribution::Uniform, DType::F16) => draw.fill(out, |w| w.map(|x| f16_below(unit32(x)))),
        (Distribution::Uniform, _) => draw.fill(out, |w| w.map(unit32)),
        (Distribution::Normal, DType::F64) => draw.fill(out, |w| normal64(two(w).map(unit64))),
        (Distribution::Normal, DType::BF16) => draw.fill(out, |w| normal32(w).map(bf16::from_f32)),
        (Distribution::Normal, DType::F16) => draw.fill(out, |w| normal32(w).map(f16::from_f32)),
        (Distribution::Normal, _) => draw.fill(out, normal32),
    }
}

struct Draw<'a> {
    pool: &'a Pool,
    keys: &'a [i64],
    each: usize,
}

impl Draw<'_> {
    /// Fills `out` with what `f` makes of each block, `N` elements a block.
    fn fill<T: Plain, const N: usize>(&self, out: ViewMut, f: impl Fn([u32; 4]) -> [T; N] + Sync) {
        let dtype = out.dtype;
        let out: &mut [T] = out.elements(dtype, self.keys.len() * self.each);
        fill_tiles(self.pool, out, 1, GRAIN, |start, out| {
            let mut done = 0;
            while done < out.len() {
                let (sample, i) = ((start + done) / self.each, (start + done) % self.each);
                let key = self.keys[sample] as u64;
                let count = (self.each - i).min(out.len() - done);
                let part = &mut out[done..done + count];
                done += count;
                let block = |index: usize| {
                    let counter = [index as u32, (index as u64 >> 32) as u32, 0, 0];
                    f(philox(counter, [key as u32, (key >> 32) as u32]))
                };
                let skip = (N - i % N) % N;
                let (head, body) = part.split_at_mut(skip.min(count));
                for (n, x) in head.iter_mut().enumerate() {
                    *x = block(i / N)[i % N + n];
                }
                let first = (i + skip) / N;
                let key = [key as u32, (key >> 32) as u32];
                dispatch(Blocks { key, first, out: body, f: &f });
            }
        });
    }
}

/// Blocks computed side by side: as many as the widest vector has words.
const LANES: usize = 16;

/// Consecutive blocks of one key.
struct Blocks<'a, T, F> {
    key: [u32; 2],
    first: usize,
    out: &'a mut [T],
    f: &'a F,
}

impl<T: Plain, const N: usize, F: Fn([u32; 4]) -> [T; N]> Loop for Blocks<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let mut chunks = self.out.chunks_exact_mut(LANES * N);
        let mut index = self.first as u64;
        for chunk in &mut chunks {
            let words = lanes(index, self.key);
            for (lane, out) in chunk.chunks_exact_mut(N).enumerate() {
                out.copy_from_slice(&(self.f)(words.map(|word| word[lane])));
            }
            index += LANES as u64;
        }
        for out in chunks.into_remainder().chunks_mut(N) {
            let values = (self.f)(philox([index as u32, (index >> 32) as u32, 0, 0], self.key));
            out.copy_from_slice(&values[..out.len()]);
            index += 1;
        }
    }
}

/// `philox` of consecutive counters, a lane each.
#[inline(always)]
fn lanes(first: u64, mut key: [u32; 2]) -> [[u32; LANES]; 4] {
    let mut c = [[0u32; LANES]; 4];
    for lane in 0..LANES {
        let index = first + lane as u64;
        (c[0][lane], c[1][lane]) = (index as u32, (index >> 32) as u32);
    }
    for _ in 0..10 {
        for lane in 0..LANES {
            let a = c[0][lane] as u64 * 0xD251_1F53;
            let b = c[2][lane] as u64 * 0xCD9E_8D57;
            c[0][lane] = (b >> 32) as u32 ^ c[1][lane] ^ key[0];
            c[1][lane] = b as u32;
            c[2][lane] = (a >> 32) as u32 ^ c[3][lane] ^ key[1];
            c[3][lane] = a as u32;
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[inline(always)]
fn two(w: [u32; 4]) -> [u64; 2] {
    [w[0] as u64 | (w[1] as u64) << 32, w[2] as u64 | (w[3] as u64) << 32]
}

/// The upper 24 bits, on [0, 1).
#[inline(always)]
fn unit32(x: u32) -> f32 {
    (x >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The upper 53 bits, on [0, 1).
#[inline(always)]
fn unit64(x: u64) -> f64 {
    (x >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// Rounded down, so that it stays below 1.
#[inline(always)]
fn bf16_below(x: f32) -> bf16 {
    bf16::from_bits((x.to_bits() >> 16) as u16)
}

/// Rounded down, so that it stays below 1.
#[inline(always)]
fn f16_below(x: f32) -> f16 {
    let near = f16::from_f32(x);
    if near.to_f32() > x { f16::from_bits(near.to_bits() - 1) } else { near }
}

/// Box and Muller: 1 − u is on (0, 1], so the logarithm is finite.
#[inline(always)]
fn normal64([u, v]: [f64; 2]) -> [f64; 2] {
    let radius = (-2.0 * (-u).ln_1p()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
    [radius * cos, radius * sin]
}

/// In f32, without fused operations, so that the bits are the same on every processor. 32 bits give the radius, so
/// the tails reach 6.7.
#[inline(always)]
fn normal32(w: [u32; 4]) -> [f32; 4] {
    let pair = |a: u32, b: u32| {
        let u = (a as f32 + 0.5) * (1.0 / 4_294_967_296.0);
        let radius = (-2.0 * math::log::<Portable>(u)).sqrt();
        let angle = unit32(b) * std::f32::consts::TAU;
        [radius * math::cos(angle), radius * math::sin(angle)]
    };
    let ([a, b], [c, d]) = (pair(w[0], w[1]), pair(w[2], w[3]));
    [a, b, c, d]
}

#[cfg(test)]
mod tests;
