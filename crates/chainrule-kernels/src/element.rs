//! Elements: which Rust types stand for which dtype, and how they meet arithmetic.
//!
//! `Element` is the public face (typed slices in and out); the private traits below let kernels be written once for
//! all dtypes. Bool is handled as bytes inside kernels, so no kernel can make an invalid `bool`.

use crate::alphabet::DType;
use half::{bf16, f16};

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that stands for a dtype. Closed: these eight types and no others.
pub trait Element: Copy + Send + Sync + PartialEq + std::fmt::Debug + sealed::Sealed + 'static {
    /// The dtype of this type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty = $d:ident),*) => { $(
        impl sealed::Sealed for $t {}
        impl Element for $t { const DTYPE: DType = DType::$d; }
    )* };
}
elements!(f32 = F32, f64 = F64, bf16 = BF16, f16 = F16, i32 = I32, i64 = I64, u8 = U8, bool = Bool);

/// One value with its dtype.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// An f32.
    F32(f32),
    /// An f64.
    F64(f64),
    /// A bf16.
    BF16(bf16),
    /// An f16.
    F16(f16),
    /// An i32.
    I32(i32),
    /// An i64.
    I64(i64),
    /// A u8.
    U8(u8),
    /// A bool.
    Bool(bool),
}

impl Scalar {
    /// The dtype of the value.
    pub fn dtype(self) -> DType {
        match self {
            Scalar::F32(_) => DType::F32,
            Scalar::F64(_) => DType::F64,
            Scalar::BF16(_) => DType::BF16,
            Scalar::F16(_) => DType::F16,
            Scalar::I32(_) => DType::I32,
            Scalar::I64(_) => DType::I64,
            Scalar::U8(_) => DType::U8,
            Scalar::Bool(_) => DType::Bool,
        }
    }

    /// `value` in `dtype`: rounded for floats, truncated and saturated for integers, `value != 0` for bool.
    pub fn from_f64(dtype: DType, value: f64) -> Scalar {
        match dtype {
            DType::F32 => Scalar::F32(value as f32),
            DType::F64 => Scalar::F64(value),
            DType::BF16 => Scalar::BF16(bf16::from_f64(value)),
            DType::F16 => Scalar::F16(f16::from_f64(value)),
            DType::I32 => Scalar::I32(value as i32),
            DType::I64 => Scalar::I64(value as i64),
            DType::U8 => Scalar::U8(value as u8),
            DType::Bool => Scalar::Bool(value != 0.0),
        }
    }

    /// `value` in `dtype`: rounded for floats, wrapped for integers, `value != 0` for bool.
    pub fn from_i64(dtype: DType, value: i64) -> Scalar {
        match dtype {
            DType::I32 => Scalar::I32(value as i32),
            DType::I64 => Scalar::I64(value),
            DType::U8 => Scalar::U8(value as u8),
            DType::Bool => Scalar::Bool(value != 0),
            _ => Scalar::from_f64(dtype, value as f64),
        }
    }

    /// The value as f64 (an i64 may round).
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::F32(x) => x as f64,
            Scalar::F64(x) => x,
            Scalar::BF16(x) => x.to_f64(),
            Scalar::F16(x) => x.to_f64(),
            Scalar::I32(x) => x as f64,
            Scalar::I64(x) => x as f64,
            Scalar::U8(x) => x as f64,
            Scalar::Bool(x) => x as u8 as f64,
        }
    }

    /// The value's bytes in memory order, in the low bytes of a word.
    pub fn bits(self) -> u64 {
        match self {
            Scalar::F32(x) => x.to_bits() as u64,
            Scalar::F64(x) => x.to_bits(),
            Scalar::BF16(x) => x.to_bits() as u64,
            Scalar::F16(x) => x.to_bits() as u64,
            Scalar::I32(x) => x as u32 as u64,
            Scalar::I64(x) => x as u64,
            Scalar::U8(x) => x as u64,
            Scalar::Bool(x) => x as u64,
        }
    }
}

/// Types of which every bit pattern is a value, so that bytes may be viewed as them.
///
/// # Safety
/// Implementors have no padding and no invalid bit pattern.
pub(crate) unsafe trait Plain: Copy + Send + Sync + Default + 'static {}
macro_rules! plain { ($($t:ty),*) => { $(unsafe impl Plain for $t {})* }; }
plain!(u8, u16, u32, u64, usize, i32, i64, f32, f64, bf16, f16);

/// Bytes as elements. Panics on a ragged length or a misaligned address.
pub(crate) fn typed<T: Plain>(bytes: &[u8]) -> &[T] {
    let size = size_of::<T>();
    assert!(bytes.len().is_multiple_of(size), "{} bytes are no whole number of {size}-byte elements", bytes.len());
    if bytes.is_empty() {
        return &[];
    }
    assert!(bytes.as_ptr().addr().is_multiple_of(align_of::<T>()), "a slice of elements is misaligned");
    // SAFETY: length and alignment are checked, and any bits are a T.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size) }
}

/// Bytes as elements to write. Panics on a ragged length or a misaligned address.
pub(crate) fn typed_mut<T: Plain>(bytes: &mut [u8]) -> &mut [T] {
    let size = size_of::<T>();
    assert!(bytes.len().is_multiple_of(size), "{} bytes are no whole number of {size}-byte elements", bytes.len());
    if bytes.is_empty() {
        return &mut [];
    }
    assert!(bytes.as_ptr().addr().is_multiple_of(align_of::<T>()), "a slice of elements is misaligned");
    // SAFETY: length and alignment are checked, any bits are a T and any T is bytes.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size) }
}

/// A type that sums and products are made in.
pub(crate) trait Number: Plain + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    /// Identity of max.
    const LEAST: Self;
    /// Identity of min.
    const MOST: Self;
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn is_nan(self) -> bool;
    /// The larger; NaN if either is.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // Two choices, not one of two reasons: that is a maximum instruction and a blend.
        let larger = if self > other { self } else { other };
        if self.is_nan() { self } else { larger }
    }
    /// The smaller; NaN if either is.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        let smaller = if self < other { self } else { other };
        if self.is_nan() { self } else { smaller }
    }
}

macro_rules! float_number {
    ($($t:ty),*) => { $(impl Number for $t {
        const ZERO: Self = 0.0;
        const ONE: Self = 1.0;
        const LEAST: Self = <$t>::NEG_INFINITY;
        const MOST: Self = <$t>::INFINITY;
        #[inline(always)]
        fn add(self, other: Self) -> Self { self + other }
        #[inline(always)]
        fn mul(self, other: Self) -> Self { self * other }
        #[inline(always)]
        fn is_nan(self) -> bool { self != self }
    })* };
}
macro_rules! int_number {
    ($($t:ty),*) => { $(impl Number for $t {
        const ZERO: Self = 0;
        const ONE: Self = 1;
        const LEAST: Self = <$t>::MIN;
        const MOST: Self = <$t>::MAX;
        #[inline(always)]
        fn add(self, other: Self) -> Self { self.wrapping_add(other) }
        #[inline(always)]
        fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
        #[inline(always)]
        fn is_nan(self) -> bool { false }
    })* };
}
float_number!(f32, f64);
int_number!(i32, i64, u8);

/// How an element lies in memory, and the number it is computed as: bf16 and f16 through f32, others as themselves.
pub(crate) trait Stored: Plain {
    type Number: Number;
    fn load(self) -> Self::Number;
    fn store(x: Self::Number) -> Self;
}
macro_rules! stored {
    ($($t:ty),*) => { $(impl Stored for $t {
        type Number = $t;
        #[inline(always)]
        fn load(self) -> $t { self }
        #[inline(always)]
        fn store(x: $t) -> $t { x }
    })* };
}
stored!(f32, f64, i32, i64, u8);
impl Stored for bf16 {
    type Number = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn store(x: f32) -> bf16 {
        bf16::from_f32(x)
    }
}
impl Stored for f16 {
    type Number = f32;
    #[inline(always)]
    fn load(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn store(x: f32) -> f16 {
        f16::from_f32(x)
    }
}

/// Runs an expression with `T` bound to the type in which a dtype is stored (bool as u8).
macro_rules! by_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::alphabet::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::alphabet::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::alphabet::DType::BF16 => {
                type $t = half::bf16;
                $body
            }
            $crate::alphabet::DType::F16 => {
                type $t = half::f16;
                $body
            }
            $crate::alphabet::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::alphabet::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::alphabet::DType::U8 | $crate::alphabet::DType::Bool => {
                type $t = u8;
                $body
            }
        }
    };
}
pub(crate) use by_dtype;

/// Runs an expression with `T` bound to the unsigned integer as wide as a dtype: for kernels that only move.
macro_rules! by_size {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $t = u8;
                $body
            }
            2 => {
                type $t = u16;
                $body
            }
            4 => {
                type $t = u32;
                $body
            }
            _ => {
                type $t = u64;
                $body
            }
        }
    };
}
pub(crate) use by_size;
