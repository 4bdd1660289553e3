//! Transcendental functions of f32, written without branches so that loops over them become vector code.
//!
//! Each function names its source and its largest error in units in the last place, as the tests below measure it
//! over a dense sample, and a slow one over every f32. f64 functions are not here: the standard library's are taken, element by element.

use crate::simd::Arch;

/// a·b + c, in one rounding where the processor has it.
#[inline(always)]
fn fma<A: Arch>(a: f32, b: f32, c: f32) -> f32 {
    if A::FMA { a.mul_add(b, c) } else { a * b + c }
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// Nearest integer, as float and as int, for |x| < 2²².
#[inline(always)]
fn round(x: f32) -> (f32, i32) {
    const MAGIC: f32 = 12582912.0; // 1.5 · 2²³
    let shifted = x + MAGIC;
    (shifted - MAGIC, (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32))
}

const LOG2_E: f32 = std::f32::consts::LOG2_E;
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// (eʳ − 1, n) with x = n·ln 2 + r, |r| ≤ ln 2 / 2. Polynomial of Cephes `expf` (Moshier).
#[inline(always)]
fn exp_parts<A: Arch>(x: f32) -> (f32, i32) {
    let (nf, n) = round(x * LOG2_E);
    let r = fma::<A>(nf, -LN2_HIGH, x);
    let r = fma::<A>(nf, -LN2_LOW, r);
    let mut p = 1.987_569_1e-4;
    p = fma::<A>(p, r, 1.398_2e-3);
    p = fma::<A>(p, r, 8.333_452e-3);
    p = fma::<A>(p, r, 4.166_579_6e-2);
    p = fma::<A>(p, r, 1.666_666_5e-1);
    p = fma::<A>(p, r, 0.5);
    (fma::<A>(p, r * r, r), n)
}

/// eˣ. At most 1.01 ulp.
#[inline(always)]
pub(crate) fn exp<A: Arch>(x: f32) -> f32 {
    // Beyond the clamps the result is 0 or infinite; NaN passes both comparisons.
    let c = if x > 89.0 { 89.0 } else { x };
    let c = if c < -104.0 { -104.0 } else { c };
    let (p, n) = exp_parts::<A>(c);
    // In two steps, so that subnormal results round once and 2¹²⁸ is never formed.
    let half = n >> 1;
    (1.0 + p) * power_of_two(half) * power_of_two(n - half)
}

/// eˣ − 1. At most 1.57 ulp.
#[inline(always)]
pub(crate) fn expm1<A: Arch>(x: f32) -> f32 {
    let c = if x > 89.0 { 89.0 } else { x };
    let c = if c < -18.0 { -18.0 } else { c };
    let (p, n) = exp_parts::<A>(c);
    let s = power_of_two(n - 1);
    let y = fma::<A>(s, p, s - 0.5);
    let y = y + y;
    // n = 0 keeps the last bits of p and the sign of zero.
    if n == 0 { if x == 0.0 { x } else { p } } else { y }
}

/// ln(2ᵉ·(1 + f)) for 1 + f in [√½, √2). Polynomial of Cephes `logf` (Moshier).
#[inline(always)]
fn log_parts<A: Arch>(f: f32, e: f32) -> f32 {
    let z = f * f;
    let mut p = 7.037_683_6e-2;
    p = fma::<A>(p, f, -1.151_461e-1);
    p = fma::<A>(p, f, 1.167_699_84e-1);
    p = fma::<A>(p, f, -1.242_014_1e-1);
    p = fma::<A>(p, f, 1.424_932_3e-1);
    p = fma::<A>(p, f, -1.666_805_7e-1);
    p = fma::<A>(p, f, 2.000_071_4e-1);
    p = fma::<A>(p, f, -2.499_999_4e-1);
    p = fma::<A>(p, f, 3.333_333e-1);
    let y = p * f * z;
    let y = fma::<A>(e, LN2_LOW, y);
    let y = fma::<A>(-0.5, z, y);
    fma::<A>(e, LN2_HIGH, f + y)
}

/// (f, e) with x = 2ᵉ·(1 + f), 1 + f in [√½, √2), for positive finite normal x.
#[inline(always)]
fn split(x: f32) -> (f32, i32) {
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3); // √½
    let e = (bits as i32) >> 23;
    (f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3) - 1.0, e)
}

/// ln x. At most 0.83 ulp.
#[inline(always)]
pub(crate) fn log<A: Arch>(x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let (f, e) = split(scaled);
    let e = e as f32 - if tiny { 23.0 } else { 0.0 };
    let y = log_parts::<A>(f, e);
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x < 0.0 { f32::NAN } else { y };
    if x < f32::INFINITY { y } else { x }
}

/// ln(1 + x): as `log`, with the rounding error of 1 + x given back to f.
/// At most 1.40 ulp.
#[inline(always)]
pub(crate) fn log1p<A: Arch>(x: f32) -> f32 {
    let u = 1.0 + x;
    let lost = if x > 1.0 { 1.0 - (u - x) } else { x - (u - 1.0) };
    let (f, e) = split(u);
    let near = x > -0.29 && x < 0.41;
    // 2⁻ᵉ would be subnormal beyond e = 126, where nothing is lost that matters.
    let back = lost * power_of_two(if e > 100 { -100 } else { -e.max(-30) });
    let f = if near { x } else { f + back };
    let e = if near { 0.0 } else { e as f32 };
    let y = log_parts::<A>(f, e);
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    let y = if x < -1.0 { f32::NAN } else { y };
    let y = if x < f32::INFINITY { y } else { x };
    if x == 0.0 { x } else { y }
}

/// tanh x = (e²ˣ − 1) / (e²ˣ + 1), from e²ˣ − 1, which loses nothing near 0.
/// At most 2.42 ulp.
#[inline(always)]
pub(crate) fn tanh<A: Arch>(x: f32) -> f32 {
    let a = x.abs();
    let capped = if a > 10.0 { 10.0 } else { a }; // beyond it is 1; NaN passes
    let (p, n) = exp_parts::<A>(capped + capped);
    let s = power_of_two(n);
    let t = fma::<A>(s, p, s - 1.0);
    (t / (t + 2.0)).copysign(x)
}

/// 1 / (1 + e⁻ˣ), from e^(−|x|) so that nothing overflows.
/// At most 2.41 ulp.
#[inline(always)]
pub(crate) fn sigmoid<A: Arch>(x: f32) -> f32 {
    let z = exp::<A>(-x.abs());
    let numerator = if x < 0.0 { z } else { 1.0 };
    numerator / (1.0 + z)
}

/// erf x: two polynomials after N. Juffa, "Fast and accurate erff" (below and above 0.9277).
/// At most 1.52 ulp.
#[inline(always)]
pub(crate) fn erf<A: Arch>(x: f32) -> f32 {
    let t = x.abs();
    let t = if t > 4.0 { 4.0 } else { t }; // beyond it is 1; NaN passes
    let s = t * t;
    let mut r = fma::<A>(-1.728_534_7e-5, t, 3.831_972e-4);
    let u = fma::<A>(-3.883_964_4e-3, t, 2.425_462_2e-2);
    r = fma::<A>(r, s, u);
    r = fma::<A>(r, t, -1.067_778_8e-1);
    r = fma::<A>(r, t, -6.348_468_7e-1);
    r = fma::<A>(r, t, -1.287_175_1e-1);
    r = fma::<A>(r, t, -t);
    // −17 < r ≤ 0, so that 2ⁿ is a normal number.
    let (e, n) = exp_parts::<A>(r);
    let scale = power_of_two(n);
    let large = fma::<A>(-scale, e, 1.0 - scale).copysign(x);
    let mut p = -5.967_617e-4;
    p = fma::<A>(p, s, 4.991_194_2e-3);
    p = fma::<A>(p, s, -2.676_813_5e-2);
    p = fma::<A>(p, s, 1.128_199_25e-1);
    p = fma::<A>(p, s, -3.761_253_4e-1);
    p = fma::<A>(p, s, 1.283_791_7e-1);
    let small = fma::<A>(p, x, x);
    if t > 0.927_734_4 { large } else { small }
}

/// arctan x: polynomial after N. Juffa, of 1/x where |x| > 1.
/// At most 1.90 ulp.
#[inline(always)]
pub(crate) fn atan<A: Arch>(x: f32) -> f32 {
    let a = x.abs();
    let z = if a > 1.0 { 1.0 / a } else { a };
    let s = z * z;
    let mut p = 2.785_698_3e-3;
    p = fma::<A>(p, s, -1.586_602_3e-2);
    p = fma::<A>(p, s, 4.247_222_3e-2);
    p = fma::<A>(p, s, -7.497_530_4e-2);
    p = fma::<A>(p, s, 1.064_488e-1);
    p = fma::<A>(p, s, -1.420_703_1e-1);
    p = fma::<A>(p, s, 1.999_345_4e-1);
    p = fma::<A>(p, s, -3.333_314_7e-1);
    let y = fma::<A>(p * s, z, z);
    let y = if a > 1.0 { fma::<A>(0.933_189_45, 1.683_255_6, -y) } else { y };
    y.copysign(x)
}

/// Beyond this the two-part π/2 of `sine` runs out of bits.
const FAR: f32 = 500_000.0;

/// a + z·(b + z·(c + z·d)): by Horner's rule, or, where products and sums fuse, by halves (Estrin), which waits for two
/// operations instead of three.
#[inline(always)]
fn cubic<A: Arch>(z: f64, [a, b, c, d]: [f64; 4]) -> f64 {
    if A::FMA { d.mul_add(z, c).mul_add(z * z, b.mul_add(z, a)) } else { a + z * (b + z * (c + z * d)) }
}

/// sin(x + quarter·π/2), in f64: Cody and Waite's reduction with fdlibm's two-part π/2, and the double polynomials
/// that FreeBSD's `sinf` and `cosf` use. Far arguments and the infinite ones go to the standard library.
#[inline(always)]
fn sine<A: Arch>(x: f32, quarter: i64) -> f32 {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 · 2⁵²
    let fma = |a: f64, b: f64, c: f64| if A::FMA { a.mul_add(b, c) } else { a * b + c };
    let d = x as f64;
    let shifted = fma(d, std::f64::consts::FRAC_2_PI, MAGIC);
    let n = shifted - MAGIC;
    let quadrant = (shifted.to_bits() as i64).wrapping_add(quarter);
    let r = fma(n, -1.570_796_310_901_641_8, d);
    let r = fma(n, -1.589_325_477_352_819_6e-8, r);
    let z = r * r;
    let sin =
        [-0.166_666_666_416_265_24, 8.333_329_385_889_463e-3, -1.983_933_483_609_663_2e-4, 2.718_311_493_989_822e-6];
    let sin = fma(r * z, cubic::<A>(z, sin), r);
    let cos = [-0.499_999_997_251_031, 4.166_662_332_373_906e-2, -1.388_676_377_460_993e-3, 2.439_044_879_627_741e-5];
    let cos = fma(z, cubic::<A>(z, cos), 1.0);
    let y = if quadrant & 1 == 0 { sin } else { cos };
    let y = if quadrant & 2 == 0 { y } else { -y };
    y as f32
}

/// sin x for |x| up to `FAR`; `fix_far` mends the rest of a slice.
/// At most 0.51 ulp.
#[inline(always)]
pub(crate) fn sin<A: Arch>(x: f32) -> f32 {
    let y = sine::<A>(x, 0);
    if x == 0.0 { x } else { y }
}

/// cos x for |x| up to `FAR`; `fix_far` mends the rest of a slice.
/// At most 0.51 ulp.
#[inline(always)]
pub(crate) fn cos<A: Arch>(x: f32) -> f32 {
    sine::<A>(x, 1)
}

/// Beyond the reach of `sine`, or NaN.
#[inline(always)]
fn is_far(x: f32) -> bool {
    x.is_nan() | (x.abs() > FAR)
}

/// Recomputes in f64 what `sin` or `cos` cannot reach.
#[inline(always)]
pub(crate) fn fix_far(x: &[f32], y: &mut [f32], f: fn(f64) -> f64) {
    if x.iter().fold(false, |any, x| any | is_far(*x)) {
        for (x, y) in x.iter().zip(y) {
            if is_far(*x) {
                *y = f(*x as f64) as f32;
            }
        }
    }
}

/// xʸ as IEEE 754 `pow`: 2^(y·log₂|x|) in f64 (series of 2·artanh and of eʳ), then the special cases.
/// At most 0.51 ulp.
#[inline(always)]
pub(crate) fn pow(x: f32, y: f32) -> f32 {
    let a = x.abs();
    // log₂ a
    let bits = (a as f64).to_bits().wrapping_sub(0x3fe6_a09e_667f_3bcd); // √½
    let e = (bits as i64) >> 52;
    let m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff).wrapping_add(0x3fe6_a09e_667f_3bcd));
    let ef = f64::from_bits((e as u64).wrapping_add(0x4338_0000_0000_0000)) - 6_755_399_441_055_744.0;
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let p = 1.0 / 13.0;
    let p = p * z + 1.0 / 11.0;
    let p = p * z + 1.0 / 9.0;
    let p = p * z + 1.0 / 7.0;
    let p = p * z + 1.0 / 5.0;
    let p = p * z + 1.0 / 3.0;
    let log2 = ef + (s + s * z * p) * (2.0 * std::f64::consts::LOG2_E);
    // 2ᵗ
    let t = y as f64 * log2;
    let t = if t > 200.0 { 200.0 } else { t };
    let t = if t < -200.0 { -200.0 } else { t };
    let shifted = t + 6_755_399_441_055_744.0;
    let n = shifted - 6_755_399_441_055_744.0;
    let r = (t - n) * std::f64::consts::LN_2;
    let q = 1.0 / 362_880.0;
    let q = q * r + 1.0 / 40_320.0;
    let q = q * r + 1.0 / 5_040.0;
    let q = q * r + 1.0 / 720.0;
    let q = q * r + 1.0 / 120.0;
    let q = q * r + 1.0 / 24.0;
    let q = q * r + 1.0 / 6.0;
    let q = q * r + 0.5;
    let q = q * r + 1.0;
    let q = q * r + 1.0;
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let magnitude = (q * scale) as f32;
    // Special magnitudes: a = 0 or ∞, y = ±∞.
    let grows = (a > 1.0) == (y > 0.0);
    let extreme = if grows { f32::INFINITY } else { 0.0 };
    let edge = a == 0.0 || a == f32::INFINITY || (y.abs() == f32::INFINITY && a != 1.0);
    let magnitude = if edge { extreme } else { magnitude };
    let magnitude = if a == 1.0 { 1.0 } else { magnitude };
    // Signs of negative bases.
    let whole = y.floor() == y;
    let odd = whole && y.abs() < 16_777_216.0 && (y * 0.5).floor() != y * 0.5;
    let negative = x.is_sign_negative();
    let signed = if negative && odd { -magnitude } else { magnitude };
    let signed = if x < 0.0 && a != f32::INFINITY && !whole { f32::NAN } else { signed };
    let result = if x.is_nan() || y.is_nan() { f32::NAN } else { signed };
    if y == 0.0 || x == 1.0 { 1.0 } else { result }
}

#[cfg(test)]
mod tests;
