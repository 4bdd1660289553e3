//! Registers: what the inner loop of a product of matrices needs of the processor's vectors, and no more.
//!
//! AVX-512 and AVX2 vectors are intrinsics; any other number, and any other processor, uses short arrays.

use crate::element::Number;
use std::ops::Range;

/// A register of numbers. Functions are inlined into loops compiled for the instructions they need.
pub(crate) trait Vector: Copy {
    /// What it holds.
    type Number: Number;
    /// How many.
    const LANES: usize;
    /// Rows of a tile of the product: with two vectors a row, the sums fill the register file.
    const ROWS: usize;

    fn zero() -> Self;
    fn splat(x: Self::Number) -> Self;
    /// # Safety
    /// `LANES` elements lie there.
    unsafe fn load(from: *const Self::Number) -> Self;
    /// The elements of some lanes, and zeros in the others, which are not read.
    ///
    /// # Safety
    /// These elements lie there.
    #[inline(always)]
    unsafe fn load_lanes(from: *const Self::Number, lanes: Range<usize>) -> Self {
        let mut all = Self::zero();
        for i in lanes {
            // SAFETY: the caller's promise; a register holds `LANES` numbers.
            unsafe { *(&raw mut all).cast::<Self::Number>().add(i) = *from.wrapping_add(i) };
        }
        all
    }
    /// # Safety
    /// `LANES` elements may be written there.
    unsafe fn store(self, to: *mut Self::Number);
    /// self·x + sum, rounded once where the processor can.
    fn multiply_add(self, x: Self, sum: Self) -> Self;
    fn add(self, other: Self) -> Self;

    /// `to[p·pitch + i] = from[p·step + i]` for `p < count`, `i < width`.
    ///
    /// # Safety
    /// The elements lie in valid memory. Up to `LANES` elements after each written row may be overwritten: rows are
    /// written in order, and `LANES` elements after the last one belong to the caller.
    #[inline(always)]
    unsafe fn copy_rows(
        from: *const Self::Number,
        step: isize,
        width: usize,
        count: usize,
        to: *mut Self::Number,
        pitch: usize,
    ) {
        for p in 0..count {
            for i in 0..width {
                // SAFETY: the caller's promise.
                unsafe { *to.add(p * pitch + i) = *from.offset(p as isize * step).add(i) };
            }
        }
    }

    /// `to[p·pitch + i] = from[i][p]` for `p < count` and every line i, of which there are at most `LANES`.
    ///
    /// # Safety
    /// As for `copy_rows`.
    #[inline(always)]
    unsafe fn turn(from: &[*const Self::Number], count: usize, to: *mut Self::Number, pitch: usize) {
        for p in 0..count {
            for (i, line) in from.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *to.add(p * pitch + i) = *line.add(p) };
            }
        }
    }
}

/// An array as a register.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<T, const N: usize>([T; N]);

impl<T: Number, const N: usize> Vector for Lanes<T, N> {
    type Number = T;
    const LANES: usize = N;
    const ROWS: usize = 4;

    #[inline(always)]
    fn zero() -> Self {
        Lanes([T::ZERO; N])
    }
    #[inline(always)]
    fn splat(x: T) -> Self {
        Lanes([x; N])
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's promise.
        Lanes(unsafe { from.cast::<[T; N]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[T; N]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn multiply_add(self, x: Self, sum: Self) -> Self {
        Lanes(std::array::from_fn(|i| sum.0[i].add(self.0[i].mul(x.0[i]))))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Lanes(std::array::from_fn(|i| self.0[i].add(other.0[i])))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;
    use std::ops::Range;

    macro_rules! vector {
        ($v:ty, $t:ty, $lanes:literal, $rows:literal, $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident,
         $add:ident, { $($more:item)* }) => {
            impl Vector for $v {
                type Number = $t;
                const LANES: usize = $lanes;
                const ROWS: usize = $rows;
                #[inline(always)]
                fn zero() -> Self {
                    // SAFETY: loops over this vector run only where its instructions are.
                    unsafe { $zero() }
                }
                #[inline(always)]
                fn splat(x: $t) -> Self {
                    // SAFETY: as above.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(from: *const $t) -> Self {
                    // SAFETY: the caller's promise.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $t) {
                    // SAFETY: the caller's promise.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                fn multiply_add(self, x: Self, sum: Self) -> Self {
                    // SAFETY: as in `zero`.
                    unsafe { $fma(self, x, sum) }
                }
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: as in `zero`.
                    unsafe { $add(self, other) }
                }
                $($more)*
            }
        };
    }
    vector!(
        __m256,
        f32,
        8,
        6,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        {}
    );
    vector!(
        __m256d,
        f64,
        4,
        6,
        _mm256_setzero_pd,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_fmadd_pd,
        _mm256_add_pd,
        {}
    );
    vector!(
        __m512d,
        f64,
        8,
        12,
        _mm512_setzero_pd,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_fmadd_pd,
        _mm512_add_pd,
        {}
    );
    vector!(
        __m512,
        f32,
        16,
        12,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        {
            #[inline(always)]
            unsafe fn load_lanes(from: *const f32, lanes: Range<usize>) -> Self {
                // SAFETY: masked elements are not read.
                unsafe { _mm512_maskz_loadu_ps(first_lanes(lanes.end) & !first_lanes(lanes.start), from) }
            }

            #[inline(always)]
            unsafe fn copy_rows(from: *const f32, step: isize, width: usize, count: usize, to: *mut f32, pitch: usize) {
                // SAFETY: masked elements are not read; the caller allows the vector after each row to be written.
                unsafe {
                    // The whole row at once, so that each of the pages on which rows lie is met once.
                    if width == 32 {
                        for p in 0..count {
                            let (from, to) = (from.offset(p as isize * step), to.add(p * pitch));
                            let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
                            _mm512_storeu_ps(to, low);
                            _mm512_storeu_ps(to.add(16), high);
                        }
                        return;
                    }
                    let mut at = 0;
                    while at < width {
                        let mask = first_lanes(width - at);
                        for p in 0..count {
                            let row = _mm512_maskz_loadu_ps(mask, from.offset(p as isize * step).add(at));
                            if width - at >= 16 || at > 0 {
                                _mm512_mask_storeu_ps(to.add(p * pitch + at), mask, row);
                            } else {
                                _mm512_storeu_ps(to.add(p * pitch), row);
                            }
                        }
                        at += 16;
                    }
                }
            }

            #[inline(always)]
            unsafe fn turn(from: &[*const f32], count: usize, to: *mut f32, pitch: usize) {
                // SAFETY: masked elements are not read; the caller allows the vector after each row to be written.
                unsafe {
                    let mut at = 0;
                    while at < count {
                        let mask = first_lanes(count - at);
                        let mut block = [_mm512_setzero_ps(); 16];
                        for i in 0..16 {
                            if i < from.len() {
                                block[i] = _mm512_maskz_loadu_ps(mask, from[i].add(at));
                            }
                        }
                        let block = turned(block);
                        for (p, row) in block.iter().enumerate().take(count - at) {
                            _mm512_storeu_ps(to.add((at + p) * pitch), *row);
                        }
                        at += 16;
                    }
                }
            }
        }
    );

    #[inline(always)]
    fn first_lanes(count: usize) -> u16 {
        if count >= 16 { u16::MAX } else { (1 << count) - 1 }
    }

    /// The transpose of sixteen rows.
    #[inline(always)]
    unsafe fn turned(r: [__m512; 16]) -> [__m512; 16] {
        // SAFETY: as the caller's.
        unsafe {
            let mut t = r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut u = t;
            let wide = |x: __m512| _mm512_castps_pd(x);
            let single = |x: __m512d| _mm512_castpd_ps(x);
            for i in 0..4 {
                u[4 * i] = single(_mm512_unpacklo_pd(wide(t[4 * i]), wide(t[4 * i + 2])));
                u[4 * i + 1] = single(_mm512_unpackhi_pd(wide(t[4 * i]), wide(t[4 * i + 2])));
                u[4 * i + 2] = single(_mm512_unpacklo_pd(wide(t[4 * i + 1]), wide(t[4 * i + 3])));
                u[4 * i + 3] = single(_mm512_unpackhi_pd(wide(t[4 * i + 1]), wide(t[4 * i + 3])));
            }
            // u[4i + c] holds in its 128-bit part q column 4q + c of rows 4i .. 4i + 4.
            let mut out = r;
            for c in 0..4 {
                let low = _mm512_shuffle_f32x4::<0x88>(u[c], u[4 + c]);
                let high = _mm512_shuffle_f32x4::<0xdd>(u[c], u[4 + c]);
                let low2 = _mm512_shuffle_f32x4::<0x88>(u[8 + c], u[12 + c]);
                let high2 = _mm512_shuffle_f32x4::<0xdd>(u[8 + c], u[12 + c]);
                out[c] = _mm512_shuffle_f32x4::<0x88>(low, low2);
                out[4 + c] = _mm512_shuffle_f32x4::<0x88>(high, high2);
                out[8 + c] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
                out[12 + c] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
            }
            out
        }
    }
}

/// The registers of a number at each level of instructions.
pub(crate) trait Registers: Number {
    type Plain: Vector<Number = Self>;
    type Avx2: Vector<Number = Self>;
    type Avx512: Vector<Number = Self>;
}

macro_rules! registers {
    ($($t:ty: $plain:ty, $avx2:ty, $avx512:ty;)*) => { $(
        impl Registers for $t {
            type Plain = $plain;
            type Avx2 = $avx2;
            type Avx512 = $avx512;
        }
    )* };
}
#[cfg(target_arch = "x86_64")]
registers! {
    f32: Lanes<f32, 4>, std::arch::x86_64::__m256, std::arch::x86_64::__m512;
    f64: Lanes<f64, 2>, std::arch::x86_64::__m256d, std::arch::x86_64::__m512d;
}
#[cfg(not(target_arch = "x86_64"))]
registers! {
    f32: Lanes<f32, 4>, Lanes<f32, 4>, Lanes<f32, 4>;
    f64: Lanes<f64, 2>, Lanes<f64, 2>, Lanes<f64, 2>;
}
registers! {
    i32: Lanes<i32, 4>, Lanes<i32, 4>, Lanes<i32, 4>;
    i64: Lanes<i64, 2>, Lanes<i64, 2>, Lanes<i64, 2>;
    u8: Lanes<u8, 16>, Lanes<u8, 16>, Lanes<u8, 16>;
}
