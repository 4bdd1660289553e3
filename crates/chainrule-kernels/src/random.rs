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
use std::marker::PhantomData;

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
        (Distribution::Bits, _) => draw.fill::<i64, 2, _>(out, Bits),
        (Distribution::Uniform, DType::F64) => draw.fill::<f64, 2, _>(out, Uniform),
        (Distribution::Uniform, DType::BF16) => draw.fill::<bf16, 4, _>(out, Uniform),
        (Distribution::Uniform, DType::F16) => draw.fill::<f16, 4, _>(out, Uniform),
        (Distribution::Uniform, _) => draw.fill::<f32, 4, _>(out, Uniform),
        (Distribution::Normal, DType::F64) => draw.fill::<f64, 2, _>(out, Normal),
        (Distribution::Normal, DType::BF16) => draw.fill::<bf16, 4, _>(out, Normal),
        (Distribution::Normal, DType::F16) => draw.fill::<f16, 4, _>(out, Normal),
        (Distribution::Normal, _) => draw.fill::<f32, 4, _>(out, Normal),
    }
}

/// Words of `LANES` consecutive blocks.
type Words = [[u32; LANES]; 4];

/// What a distribution makes of blocks: `N` elements a block, written lane by lane so that they become vector code.
trait Shape<T, const N: usize>: Sync {
    fn of(words: &Words) -> [[T; LANES]; N];
}
struct Bits;
struct Uniform;
struct Normal;

macro_rules! shape {
    ($($name:ident: $t:ty, $n:literal, |$w:ident, $l:ident| $body:expr;)*) => { $(
        impl Shape<$t, $n> for $name {
            #[inline(always)]
            fn of($w: &Words) -> [[$t; LANES]; $n] {
                let mut out = [[<$t>::default(); LANES]; $n];
                for $l in 0..LANES {
                    let values: [$t; $n] = $body;
                    for n in 0..$n {
                        out[n][$l] = values[n];
                    }
                }
                out
            }
        }
    )* };
}
shape! {
    Bits: i64, 2, |w, l| two(w, l).map(|x| x as i64);
    Uniform: f64, 2, |w, l| two(w, l).map(unit64);
    Uniform: f32, 4, |w, l| [unit32(w[0][l]), unit32(w[1][l]), unit32(w[2][l]), unit32(w[3][l])];
    Uniform: bf16, 4, |w, l| [0, 1, 2, 3].map(|i| bf16_below(unit32(w[i][l])));
    Uniform: f16, 4, |w, l| [0, 1, 2, 3].map(|i| f16_below(unit32(w[i][l])));
    Normal: f64, 2, |w, l| normal64(two(w, l).map(unit64));
}
impl Shape<f32, 4> for Normal {
    /// In f32, without fused operations, so that the bits are the same on every processor. 32 bits give the radius, so
    /// the tails reach 6.7.
    #[inline(always)]
    fn of(w: &Words) -> [[f32; LANES]; 4] {
        let mut out = [[0.0; LANES]; 4];
        for pair in [0, 2] {
            let (mut radius, mut angle) = ([0.0f32; LANES], [0.0f32; LANES]);
            for l in 0..LANES {
                let u = (w[pair][l] as f32 + 0.5) * (1.0 / 4_294_967_296.0);
                radius[l] = (-2.0 * math::log::<Portable>(u)).sqrt();
                angle[l] = unit32(w[pair + 1][l]) * std::f32::consts::TAU;
            }
            for l in 0..LANES {
                out[pair][l] = radius[l] * math::cos::<Portable>(angle[l]);
            }
            for l in 0..LANES {
                out[pair + 1][l] = radius[l] * math::sin::<Portable>(angle[l]);
            }
        }
        out
    }
}
macro_rules! normal_half {
    ($($t:ty),*) => { $(impl Shape<$t, 4> for Normal {
        #[inline(always)]
        fn of(w: &Words) -> [[$t; LANES]; 4] {
            <Normal as Shape<f32, 4>>::of(w).map(|lanes| lanes.map(<$t>::from_f32))
        }
    })* };
}
normal_half!(bf16, f16);

struct Draw<'a> {
    pool: &'a Pool,
    keys: &'a [i64],
    each: usize,
}

impl Draw<'_> {
    /// Fills `out` with what `f` makes of each block, `N` elements a block.
    fn fill<T: Plain, const N: usize, S: Shape<T, N>>(&self, out: ViewMut, _: S) {
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
                let key = [key as u32, (key >> 32) as u32];
                dispatch((Blocks { key, first: i / N, skip: i % N, out: part, shape: PhantomData::<S> }, [(); N]));
            }
        });
    }
}

/// Blocks computed side by side: as many as the widest vector has words.
const LANES: usize = 16;

/// The elements of consecutive blocks of one key, without the first `skip`.
struct Blocks<'a, T, S> {
    key: [u32; 2],
    first: usize,
    skip: usize,
    out: &'a mut [T],
    shape: PhantomData<S>,
}

impl<T: Plain, const N: usize, S: Shape<T, N>> Loop for (Blocks<'_, T, S>, [(); N]) {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let Blocks { key, first, mut skip, mut out, .. } = self.0;
        let mut index = first as u64;
        while !out.is_empty() {
            let values = S::of(&lanes(index, key));
            index += LANES as u64;
            let count = (LANES * N - skip).min(out.len());
            let (part, rest) = out.split_at_mut(count);
            if count == LANES * N {
                for (lane, part) in part.chunks_exact_mut(N).enumerate() {
                    for n in 0..N {
                        part[n] = values[n][lane];
                    }
                }
            } else {
                for (i, x) in part.iter_mut().enumerate() {
                    *x = values[(skip + i) % N][(skip + i) / N];
                }
            }
            (out, skip) = (rest, 0);
        }
    }
}

/// `philox` of consecutive counters, a lane each.
#[allow(clippy::needless_range_loop)] // all words of a lane, side by side
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
fn two(w: &Words, l: usize) -> [u64; 2] {
    [w[0][l] as u64 | (w[1][l] as u64) << 32, w[2][l] as u64 | (w[3][l] as u64) << 32]
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

#[cfg(test)]
mod tests;
