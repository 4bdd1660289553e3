//! The loops of the vector machine: one per operation, dtype and instruction set, and the tables that choose them.

use crate::alphabet::{Binary, Compare, DType, Reduction, Unary};
use crate::element::{Number, Scalar, Stored};
use crate::math;
use crate::reduce::{self, Join, leaf_of};
use crate::simd::{Arch, Kernel, Level, RawLoop, raw};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::marker::PhantomData;

/// Views raw operands as slices.
///
/// # Safety
/// As for `Kernel::run`.
#[inline(always)]
unsafe fn read<'a, T>(pointer: *const u8, n: usize) -> &'a [T] {
    unsafe { std::slice::from_raw_parts(pointer.cast(), n) }
}
#[inline(always)]
unsafe fn write<'a, T>(pointer: *mut u8, n: usize) -> &'a mut [T] {
    unsafe { std::slice::from_raw_parts_mut(pointer.cast(), n) }
}

/// A function of one element.
trait Op1 {
    type From: Copy;
    type To: Copy;
    fn apply<A: Arch>(x: Self::From) -> Self::To;
}
/// A function of two elements of one type.
trait Op2 {
    type From: Copy;
    type To: Copy;
    fn apply<A: Arch>(x: Self::From, y: Self::From) -> Self::To;
}

/// A function of three elements of one type, to the same.
trait Op3 {
    type Of: Copy;
    fn apply(x: Self::Of, y: Self::Of, z: Self::Of) -> Self::Of;
}

struct Map1<F>(PhantomData<F>);
impl<F: Op1> Kernel for Map1<F> {
    #[inline(always)]
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, _: *const u8, _: *const u8, n: usize) {
        let (out, a) = unsafe { (write::<F::To>(out, n), read::<F::From>(a, n)) };
        // A program of scalars is all latency: no loop's set-up in its way.
        if n == 1 {
            out[0] = F::apply::<A>(a[0]);
            return;
        }
        for i in 0..n {
            out[i] = F::apply::<A>(a[i]);
        }
    }
}

struct Map2<F>(PhantomData<F>);
impl<F: Op2> Kernel for Map2<F> {
    #[inline(always)]
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, b: *const u8, _: *const u8, n: usize) {
        let (out, a, b) = unsafe { (write::<F::To>(out, n), read::<F::From>(a, n), read::<F::From>(b, n)) };
        if n == 1 {
            out[0] = F::apply::<A>(a[0], b[0]);
            return;
        }
        for i in 0..n {
            out[i] = F::apply::<A>(a[i], b[i]);
        }
    }
}

/// Two operations in one pass, each rounded as it would be alone.
struct Map3<F>(PhantomData<F>);
impl<F: Op3> Kernel for Map3<F> {
    #[inline(always)]
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
        let (out, a) = unsafe { (write::<F::Of>(out, n), read::<F::Of>(a, n)) };
        let (b, c) = unsafe { (read::<F::Of>(b, n), read::<F::Of>(c, n)) };
        if n == 1 {
            out[0] = F::apply(a[0], b[0], c[0]);
            return;
        }
        for i in 0..n {
            out[i] = F::apply(a[i], b[i], c[i]);
        }
    }
}

struct Choose<T>(PhantomData<T>);
impl<T: Copy> Kernel for Choose<T> {
    #[inline(always)]
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
        let (out, a) = unsafe { (write::<T>(out, n), read::<u8>(a, n)) };
        let (b, c) = unsafe { (read::<T>(b, n), read::<T>(c, n)) };
        for i in 0..n {
            out[i] = if a[i] != 0 { b[i] } else { c[i] };
        }
    }
}

struct Copy1<T>(PhantomData<T>);
impl<T: Copy> Kernel for Copy1<T> {
    #[inline(always)]
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, _: *const u8, _: *const u8, n: usize) {
        unsafe { write::<T>(out, n).copy_from_slice(read(a, n)) }
    }
}

struct Fill<T>(PhantomData<T>);
impl<T: Copy> Kernel for Fill<T> {
    #[inline(always)]
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, _: *const u8, _: *const u8, n: usize) {
        unsafe { write::<T>(out, n).fill(*a.cast()) }
    }
}

/// All elements to one.
struct Joined<T, J>(PhantomData<(T, J)>);
impl<T: Stored, J: Join> Kernel for Joined<T, J> {
    #[inline(always)]
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, _: *const u8, _: *const u8, n: usize) {
        unsafe { *out.cast::<T::Number>() = leaf_of::<T, J>(read(a, n)) }
    }
}

/// Loops that work on whole slices.
macro_rules! slice_loop {
    ($name:ident, $from:ty => $to:ty, |$a:ident, $out:ident| $body:expr) => {
        struct $name;
        impl Kernel for $name {
            #[inline(always)]
            unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, _: *const u8, _: *const u8, n: usize) {
                let ($out, $a) = unsafe { (write::<$to>(out, n), read::<$from>(a, n)) };
                $body
            }
        }
    };
}
slice_loop!(FromF16, f16 => f32, |a, out| a.convert_to_f32_slice(out));
slice_loop!(ToF16, f32 => f16, |a, out| out.convert_from_f32_slice(a));
/// Sine or cosine of f32: near arguments in vectors, then the far ones, if there are any, one by one.
struct Wave<F>(PhantomData<F>);
impl<F: Op1<From = f32, To = f32> + Far> Kernel for Wave<F> {
    #[inline(always)]
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
        unsafe {
            Map1::<F>::run::<A>(out, a, b, c, n);
            math::fix_far(read(a, n), write(out, n), F::far)
        }
    }
}
/// A function of f32 whose far arguments are left to f64.
trait Far {
    fn far(x: f64) -> f64;
}
impl Far for SinF32 {
    fn far(x: f64) -> f64 {
        x.sin()
    }
}
impl Far for CosF32 {
    fn far(x: f64) -> f64 {
        x.cos()
    }
}

macro_rules! op1 {
    ($($name:ident: $from:ty => $to:ty, $a:ident |$x:ident| $body:expr;)*) => { $(
        struct $name;
        impl Op1 for $name {
            type From = $from;
            type To = $to;
            #[inline(always)]
            fn apply<$a: Arch>($x: $from) -> $to { $body }
        }
    )* };
}
op1! {
    ExpF32: f32 => f32, A |x| math::exp::<A>(x);
    Expm1F32: f32 => f32, A |x| math::expm1::<A>(x);
    LogF32: f32 => f32, A |x| math::log::<A>(x);
    Log1pF32: f32 => f32, A |x| math::log1p::<A>(x);
    SinF32: f32 => f32, A |x| math::sin::<A>(x);
    CosF32: f32 => f32, A |x| math::cos::<A>(x);
    AtanF32: f32 => f32, A |x| math::atan::<A>(x);
    TanhF32: f32 => f32, A |x| math::tanh::<A>(x);
    SigmoidF32: f32 => f32, A |x| math::sigmoid::<A>(x);
    ErfF32: f32 => f32, A |x| math::erf::<A>(x);
    SqrtF32: f32 => f32, A |x| x.sqrt();
    FloorF32: f32 => f32, A |x| x.floor();
    ExpF64: f64 => f64, A |x| x.exp();
    Expm1F64: f64 => f64, A |x| x.exp_m1();
    LogF64: f64 => f64, A |x| x.ln();
    Log1pF64: f64 => f64, A |x| x.ln_1p();
    SinF64: f64 => f64, A |x| x.sin();
    CosF64: f64 => f64, A |x| x.cos();
    AtanF64: f64 => f64, A |x| x.atan();
    TanhF64: f64 => f64, A |x| x.tanh();
    SigmoidF64: f64 => f64, A |x| { let z = (-x.abs()).exp(); (if x < 0.0 { z } else { 1.0 }) / (1.0 + z) };
    ErfF64: f64 => f64, A |x| libm::erf(x);
    SqrtF64: f64 => f64, A |x| x.sqrt();
    FloorF64: f64 => f64, A |x| x.floor();
    Not: u8 => u8, A |x| (x == 0) as u8;
    FromBf16: bf16 => f32, A |x| x.load();
    ToBf16: f32 => bf16, A |x| bf16::from_bits((round_bf16(x) >> 16) as u16);
    RoundBf16: f32 => f32, A |x| f32::from_bits(round_bf16(x));
    RoundF16: f32 => f32, A |x| f16::from_f32(x).to_f32();
}

/// The bits of x rounded to nearest-even bf16, in the upper half.
#[inline(always)]
fn round_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    if x.is_nan() { (bits | 0x0040_0000) & 0xffff_0000 } else { rounded }
}

/// Operations on any number, written once.
trait Signed: Number {
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn sign(self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
}
macro_rules! signed_float {
    ($($t:ty),*) => { $(impl Signed for $t {
        #[inline(always)]
        fn neg(self) -> Self { -self }
        #[inline(always)]
        fn abs(self) -> Self { <$t>::abs(self) }
        #[inline(always)]
        fn sign(self) -> Self { if self > 0.0 { 1.0 } else if self < 0.0 { -1.0 } else { self } }
        #[inline(always)]
        fn sub(self, other: Self) -> Self { self - other }
        #[inline(always)]
        fn div(self, other: Self) -> Self { self / other }
    })* };
}
macro_rules! signed_int {
    ($($t:ty, $abs:expr);*) => { $(impl Signed for $t {
        #[inline(always)]
        fn neg(self) -> Self { self.wrapping_neg() }
        #[inline(always)]
        fn abs(self) -> Self { $abs(self) }
        #[inline(always)]
        fn sign(self) -> Self { if self == 0 { 0 } else if self > 0 { 1 } else { (0 as $t).wrapping_sub(1) } }
        #[inline(always)]
        fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
        #[inline(always)]
        fn div(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_div(other) } }
    })* };
}
signed_float!(f32, f64);
signed_int!(i32, i32::wrapping_abs; i64, i64::wrapping_abs; u8, std::convert::identity);

macro_rules! generic1 {
    ($($name:ident |$x:ident| $body:expr;)*) => { $(
        struct $name<T>(PhantomData<T>);
        impl<T: Signed> Op1 for $name<T> {
            type From = T;
            type To = T;
            #[inline(always)]
            fn apply<A: Arch>($x: T) -> T { $body }
        }
    )* };
}
generic1! {
    Neg |x| x.neg();
    Abs |x| x.abs();
    Sign |x| x.sign();
}

macro_rules! generic2 {
    ($($name:ident |$x:ident, $y:ident| $to:ty { $body:expr })*) => { $(
        struct $name<T>(PhantomData<T>);
        impl<T: Signed> Op2 for $name<T> {
            type From = T;
            type To = $to;
            #[inline(always)]
            fn apply<A: Arch>($x: T, $y: T) -> $to { $body }
        }
    )* };
}
generic2! {
    Add |x, y| T { x.add(y) }
    Sub |x, y| T { x.sub(y) }
    Mul |x, y| T { x.mul(y) }
    Div |x, y| T { x.div(y) }
    Max |x, y| T { x.larger(y) }
    Min |x, y| T { x.smaller(y) }
    Less |x, y| u8 { (x < y) as u8 }
    LessEqual |x, y| u8 { (x <= y) as u8 }
    Equal |x, y| u8 { (x == y) as u8 }
}

/// A product and what is done with it: x·y + z, x·y − z, z − x·y, x·y·z.
struct MulAdd<T>(PhantomData<T>);
struct MulSub<T>(PhantomData<T>);
struct SubMul<T>(PhantomData<T>);
struct MulMul<T>(PhantomData<T>);
macro_rules! op3 {
    ($($name:ident |$x:ident, $y:ident, $z:ident| $body:expr;)*) => { $(
        impl<T: Signed> Op3 for $name<T> {
            type Of = T;
            #[inline(always)]
            fn apply($x: T, $y: T, $z: T) -> T { $body }
        }
    )* };
}
op3! {
    MulAdd |x, y, z| x.mul(y).add(z);
    MulSub |x, y, z| x.mul(y).sub(z);
    SubMul |x, y, z| z.sub(x.mul(y));
    MulMul |x, y, z| x.mul(y).mul(z);
}

macro_rules! op2 {
    ($($name:ident: $t:ty, |$x:ident, $y:ident| $body:expr;)*) => { $(
        struct $name;
        impl Op2 for $name {
            type From = $t;
            type To = $t;
            #[inline(always)]
            fn apply<A: Arch>($x: $t, $y: $t) -> $t { $body }
        }
    )* };
}
op2! {
    PowF32: f32, |x, y| math::pow(x, y);
    PowF64: f64, |x, y| x.powf(y);
    And: u8, |x, y| (x != 0) as u8 & (y != 0) as u8;
    Or: u8, |x, y| ((x | y) != 0) as u8;
}

/// `as`, and through f32 for none: from a register type to a register type.
struct Convert<T, U>(PhantomData<(T, U)>);
macro_rules! convert {
    ($($from:ty => $($to:ty),*;)*) => { $($(
        impl Op1 for Convert<$from, $to> {
            type From = $from;
            type To = $to;
            #[inline(always)]
            fn apply<A: Arch>(x: $from) -> $to { x as $to }
        }
    )*)* };
}
convert! {
    f32 => f64, i32, i64, u8;
    f64 => f32, i32, i64, u8;
    i32 => f32, f64, i64, u8;
    i64 => f32, f64, i32, u8;
    u8 => f32, f64, i32, i64;
}
struct Truth<T>(PhantomData<T>);
impl<T: Number> Op1 for Truth<T> {
    type From = T;
    type To = u8;
    #[inline(always)]
    fn apply<A: Arch>(x: T) -> u8 {
        (x != T::ZERO) as u8
    }
}
/// To f32 and from there rounded to a half type, kept as f32.
struct Then<F, G>(PhantomData<(F, G)>);
impl<F: Op1, G: Op1<From = F::To>> Op1 for Then<F, G> {
    type From = F::From;
    type To = G::To;
    #[inline(always)]
    fn apply<A: Arch>(x: F::From) -> G::To {
        G::apply::<A>(F::apply::<A>(x))
    }
}

/// Runs an expression with `T` bound to the type a register of this dtype is stored as.
macro_rules! by_register {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::F32 | DType::BF16 | DType::F16 => {
                type $t = f32;
                $body
            }
            DType::F64 => {
                type $t = f64;
                $body
            }
            DType::I32 => {
                type $t = i32;
                $body
            }
            DType::I64 => {
                type $t = i64;
                $body
            }
            DType::U8 | DType::Bool => {
                type $t = u8;
                $body
            }
        }
    };
}

/// A loop for one float operation, f64 or f32.
macro_rules! float {
    ($level:expr, $dtype:expr, $f32:ty, $f64:ty) => {
        if $dtype == DType::F64 { raw::<Map1<$f64>>($level) } else { raw::<Map1<$f32>>($level) }
    };
}

pub(super) fn unary(level: Level, op: Unary, dtype: DType) -> RawLoop {
    match op {
        Unary::Neg => by_register!(dtype, T => raw::<Map1<Neg<T>>>(level)),
        Unary::Abs => by_register!(dtype, T => raw::<Map1<Abs<T>>>(level)),
        Unary::Sign => by_register!(dtype, T => raw::<Map1<Sign<T>>>(level)),
        Unary::Not => raw::<Map1<Not>>(level),
        Unary::Exp => float!(level, dtype, ExpF32, ExpF64),
        Unary::Expm1 => float!(level, dtype, Expm1F32, Expm1F64),
        Unary::Log => float!(level, dtype, LogF32, LogF64),
        Unary::Log1p => float!(level, dtype, Log1pF32, Log1pF64),
        Unary::Sin if dtype == DType::F64 => raw::<Map1<SinF64>>(level),
        Unary::Sin => raw::<Wave<SinF32>>(level),
        Unary::Cos if dtype == DType::F64 => raw::<Map1<CosF64>>(level),
        Unary::Cos => raw::<Wave<CosF32>>(level),
        Unary::Atan => float!(level, dtype, AtanF32, AtanF64),
        Unary::Tanh => float!(level, dtype, TanhF32, TanhF64),
        Unary::Sigmoid => float!(level, dtype, SigmoidF32, SigmoidF64),
        Unary::Erf => float!(level, dtype, ErfF32, ErfF64),
        Unary::Sqrt => float!(level, dtype, SqrtF32, SqrtF64),
        Unary::Floor => float!(level, dtype, FloorF32, FloorF64),
    }
}

pub(super) fn binary(level: Level, op: Binary, dtype: DType) -> RawLoop {
    match op {
        Binary::Add => by_register!(dtype, T => raw::<Map2<Add<T>>>(level)),
        Binary::Sub => by_register!(dtype, T => raw::<Map2<Sub<T>>>(level)),
        Binary::Mul => by_register!(dtype, T => raw::<Map2<Mul<T>>>(level)),
        Binary::Div => by_register!(dtype, T => raw::<Map2<Div<T>>>(level)),
        Binary::Max => by_register!(dtype, T => raw::<Map2<Max<T>>>(level)),
        Binary::Min => by_register!(dtype, T => raw::<Map2<Min<T>>>(level)),
        Binary::Pow if dtype == DType::F64 => raw::<Map2<PowF64>>(level),
        Binary::Pow => raw::<Map2<PowF32>>(level),
        Binary::And => raw::<Map2<And>>(level),
        Binary::Or => raw::<Map2<Or>>(level),
    }
}

/// A sum, product or difference one part of which is a product of floats, which it makes too.
pub(super) fn product_and(level: Level, op: Binary, product_first: bool, dtype: DType) -> RawLoop {
    macro_rules! of {
        ($t:ty) => {
            match (op, product_first) {
                (Binary::Mul, _) => raw::<Map3<MulMul<$t>>>(level),
                (Binary::Sub, true) => raw::<Map3<MulSub<$t>>>(level),
                (Binary::Sub, false) => raw::<Map3<SubMul<$t>>>(level),
                _ => raw::<Map3<MulAdd<$t>>>(level),
            }
        };
    }
    if dtype == DType::F64 { of!(f64) } else { of!(f32) }
}

pub(super) fn compare(level: Level, op: Compare, dtype: DType) -> RawLoop {
    match op {
        Compare::Less => by_register!(dtype, T => raw::<Map2<Less<T>>>(level)),
        Compare::LessEqual => by_register!(dtype, T => raw::<Map2<LessEqual<T>>>(level)),
        Compare::Equal => by_register!(dtype, T => raw::<Map2<Equal<T>>>(level)),
    }
}

pub(super) fn select(level: Level, dtype: DType) -> RawLoop {
    by_register!(dtype, T => raw::<Choose<T>>(level))
}

pub(super) fn cast(level: Level, from: DType, to: DType) -> RawLoop {
    macro_rules! to {
        ($from:ty, $same:ty: $($other:ident $kind:ty),*) => {
            match to {
                DType::Bool => raw::<Map1<Truth<$from>>>(level),
                $(DType::$other => raw::<Map1<Convert<$from, $kind>>>(level),)*
                DType::BF16 => raw::<Map1<Then<Convert<$from, f32>, RoundBf16>>>(level),
                DType::F16 => raw::<Map1<Then<Convert<$from, f32>, RoundF16>>>(level),
                _ => raw::<Copy1<$from>>(level),
            }
        };
    }
    match (from, to) {
        (DType::F32 | DType::BF16 | DType::F16, DType::BF16) => raw::<Map1<RoundBf16>>(level),
        (DType::F32 | DType::BF16 | DType::F16, DType::F16) => raw::<Map1<RoundF16>>(level),
        (DType::Bool, DType::Bool) => raw::<Copy1<u8>>(level),
        (DType::F32 | DType::BF16 | DType::F16, DType::F64) => raw::<Map1<Convert<f32, f64>>>(level),
        (DType::F32 | DType::BF16 | DType::F16, DType::I32) => raw::<Map1<Convert<f32, i32>>>(level),
        (DType::F32 | DType::BF16 | DType::F16, DType::I64) => raw::<Map1<Convert<f32, i64>>>(level),
        (DType::F32 | DType::BF16 | DType::F16, DType::U8) => raw::<Map1<Convert<f32, u8>>>(level),
        (DType::F32 | DType::BF16 | DType::F16, DType::Bool) => raw::<Map1<Truth<f32>>>(level),
        (DType::F32 | DType::BF16 | DType::F16, DType::F32) => raw::<Copy1<f32>>(level),
        (DType::F64, _) => to!(f64, f64: F32 f32, I32 i32, I64 i64, U8 u8),
        (DType::I32, _) => to!(i32, i32: F32 f32, F64 f64, I64 i64, U8 u8),
        (DType::I64, _) => to!(i64, i64: F32 f32, F64 f64, I32 i32, U8 u8),
        (DType::U8 | DType::Bool, _) => to!(u8, u8: F32 f32, F64 f64, I32 i32, I64 i64),
    }
}

/// From an input's memory to a register, for dtypes that are computed in another.
pub(super) fn load(level: Level, dtype: DType) -> RawLoop {
    match dtype {
        DType::BF16 => raw::<Map1<FromBf16>>(level),
        _ => raw::<FromF16>(level),
    }
}

/// From a register to an output's memory.
pub(super) fn store(level: Level, dtype: DType) -> RawLoop {
    match dtype {
        DType::BF16 => raw::<Map1<ToBf16>>(level),
        DType::F16 => raw::<ToF16>(level),
        _ => by_register!(dtype, T => raw::<Copy1<T>>(level)),
    }
}

/// The elements of a row joined to one.
pub(super) fn reduce(level: Level, op: Reduction, dtype: DType) -> RawLoop {
    by_register!(dtype, T => match op {
        Reduction::Sum => raw::<Joined<T, reduce::Sum>>(level),
        Reduction::Prod => raw::<Joined<T, reduce::Prod>>(level),
        Reduction::Max => raw::<Joined<T, reduce::Max>>(level),
        Reduction::Min => raw::<Joined<T, reduce::Min>>(level),
    })
}

/// The bits and size of a constant as a register holds it.
pub(super) fn constant(value: Scalar) -> (u64, u8) {
    match value {
        Scalar::BF16(_) | Scalar::F16(_) => ((value.to_f64() as f32).to_bits() as u64, 4),
        _ => (value.bits(), value.dtype().size() as u8),
    }
}

/// Fills a tile with the element at the first operand.
pub(super) fn fill(level: Level, size: u8) -> RawLoop {
    match size {
        1 => raw::<Fill<u8>>(level),
        2 => raw::<Fill<u16>>(level),
        4 => raw::<Fill<u32>>(level),
        _ => raw::<Fill<u64>>(level),
    }
}
