//! Which vector instructions this processor has, chosen once at start-up.
//!
//! Loops are written once, generic over [`Arch`], and compiled three times. `CHAINRULE_SIMD=avx512|avx2|plain` lowers
//! the choice (never raises it). AVX-512 and AVX2 give the same bits; `plain` has no fused multiply-add, and its
//! approximations of transcendental functions may differ in the last place.

use std::sync::OnceLock;

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Plain,
    Avx2,
    Avx512,
}

/// What a generic loop may know of the instructions it is compiled for.
pub(crate) trait Arch: 'static {
    /// Whether a fused multiply-add is one instruction.
    const FMA: bool;
}
pub(crate) struct Plain;
/// For values that must have the same bits on every processor: nothing is fused.
pub(crate) struct Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512;
impl Arch for Plain {
    const FMA: bool = cfg!(target_arch = "aarch64");
}
impl Arch for Portable {
    const FMA: bool = false;
}
#[cfg(target_arch = "x86_64")]
impl Arch for Avx2 {
    const FMA: bool = true;
}
#[cfg(target_arch = "x86_64")]
impl Arch for Avx512 {
    const FMA: bool = true;
}

/// The level in use.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let wanted = match std::env::var("CHAINRULE_SIMD").as_deref() {
            Ok("plain") => Level::Plain,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        wanted.min(detected())
    })
}

/// The best level this processor has.
#[cfg(target_arch = "x86_64")]
pub(crate) fn detected() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Plain,
    }
}

/// The best level this processor has.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn detected() -> Level {
    Level::Plain
}

/// A loop to be compiled for each instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Loop {
    type Output;
    fn run<A: Arch>(self) -> Self::Output;
}

/// Runs a loop with the instructions in use.
#[inline]
pub(crate) fn dispatch<L: Loop>(work: L) -> L::Output {
    at_level(level(), work)
}

/// Runs a loop with the instructions of a level that this processor has.
#[inline]
pub(crate) fn at_level<L: Loop>(level: Level, work: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt")]
        unsafe fn avx512<L: Loop>(work: L) -> L::Output {
            work.run::<Avx512>()
        }
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt")]
        unsafe fn avx2<L: Loop>(work: L) -> L::Output {
            work.run::<Avx2>()
        }
        // SAFETY: a level above Plain was detected.
        match level {
            Level::Avx512 => return unsafe { avx512(work) },
            Level::Avx2 => return unsafe { avx2(work) },
            Level::Plain => {}
        }
    }
    let _ = level;
    work.run::<Plain>()
}

/// A loop over raw operands, as the tape calls it: out, three operands, number of elements.
pub(crate) type RawLoop = unsafe fn(*mut u8, *const u8, *const u8, *const u8, usize);

/// A raw loop to be compiled for each instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// # Safety
    /// Pointers that the loop uses are valid for `n` elements, and `out` overlaps no operand.
    unsafe fn run<A: Arch>(out: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize);
}

/// The kernel compiled for a level.
pub(crate) fn raw<K: Kernel>(level: Level) -> RawLoop {
    unsafe fn plain<K: Kernel>(out: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
        unsafe { K::run::<Plain>(out, a, b, c, n) }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt")]
        unsafe fn avx512<K: Kernel>(out: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
            unsafe { K::run::<Avx512>(out, a, b, c, n) }
        }
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt")]
        unsafe fn avx2<K: Kernel>(out: *mut u8, a: *const u8, b: *const u8, c: *const u8, n: usize) {
            unsafe { K::run::<Avx2>(out, a, b, c, n) }
        }
        match level {
            Level::Avx512 => return avx512::<K>,
            Level::Avx2 => return avx2::<K>,
            Level::Plain => {}
        }
    }
    let _ = level;
    plain::<K>
}
