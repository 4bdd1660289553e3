//! Errors measured over a dense sample of all f32, on each instruction set of this processor.

use super::*;
use crate::simd::{Level, Loop, at_level, detected};

const SAMPLE: usize = 200_000;

struct Over<'a, F>(&'a [f32], &'a mut [f32], F);

macro_rules! function {
    ($name:ident, $x:ident, $body:expr) => {
        struct $name;
        impl Loop for Over<'_, $name> {
            type Output = ();
            #[inline(always)]
            fn run<A: Arch>(self) {
                for (&$x, y) in self.0.iter().zip(self.1) {
                    *y = $body;
                }
            }
        }
    };
}
function!(Exp, x, exp::<A>(x));
function!(Expm1, x, expm1::<A>(x));
function!(Log, x, log::<A>(x));
function!(Log1p, x, log1p::<A>(x));
function!(Tanh, x, tanh::<A>(x));
function!(Sigmoid, x, sigmoid::<A>(x));
function!(Erf, x, erf::<A>(x));
function!(Atan, x, atan::<A>(x));
function!(Sin, x, sin::<A>(x));
function!(Cos, x, cos::<A>(x));

/// Distance of y from the exact value, in units in the last place of f32.
fn ulps(y: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if y.to_bits() == rounded.to_bits() || (y.is_nan() && exact.is_nan()) {
        return 0.0;
    }
    if !y.is_finite() || !rounded.is_finite() || (y == 0.0 && rounded == 0.0) {
        return f64::INFINITY;
    }
    let exponent = (rounded.abs().to_bits() >> 23).max(1) as i32;
    (y as f64 - exact).abs() / 2f64.powi(exponent - 150)
}

fn sample() -> Vec<f32> {
    let step = u32::MAX as usize / SAMPLE;
    let mut xs: Vec<f32> = (0..SAMPLE).map(|i| f32::from_bits((i * step) as u32)).collect();
    xs.extend((0..SAMPLE).map(|i| (i as f32 / SAMPLE as f32 - 0.5) * 2.0));
    xs.extend((0..SAMPLE).map(|i| (i as f32 / SAMPLE as f32 - 0.5) * 220.0));
    xs.extend([0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE, 1e-45, -1e-45]);
    xs.extend([f32::MAX, f32::MIN, 88.72283, 88.72284, -87.33655, -103.97, -103.98, 18.0, -18.0]);
    xs
}

fn check<F>(name: &str, limit: f64, f: F, exact: fn(f64) -> f64, fix: Option<fn(f64) -> f64>) -> Option<String>
where
    F: Copy,
    for<'a> Over<'a, F>: Loop<Output = ()>,
{
    let xs = sample();
    let mut worst = (0.0, 0.0f32, 0.0f32, Level::Plain);
    for level in [Level::Plain, Level::Avx2, Level::Avx512] {
        if level > detected() {
            continue;
        }
        let mut ys = vec![0.0; xs.len()];
        at_level(level, Over(&xs, &mut ys, f));
        if let Some(fix) = fix {
            fix_far(&xs, &mut ys, fix);
        }
        for (&x, &y) in xs.iter().zip(&ys) {
            let error = ulps(y, exact(x as f64));
            if error > worst.0 {
                worst = (error, x, y, level);
            }
        }
    }
    println!("{name}: {:.2} ulp at {:e} ({:?})", worst.0, worst.1, worst.3);
    (worst.0 > limit).then(|| format!("{name}: {} ulp at {:e} -> {:e} ({:?})", worst.0, worst.1, worst.2, worst.3))
}

impl Clone for Exp {
    fn clone(&self) -> Self {
        *self
    }
}
impl Copy for Exp {}
macro_rules! copy { ($($t:ident)*) => { $(impl Clone for $t { fn clone(&self) -> Self { *self } } impl Copy for $t {})* }; }
copy!(Expm1 Log Log1p Tanh Sigmoid Erf Atan Sin Cos);

#[test]
fn errors_are_as_documented() {
    let failed: Vec<String> = [
        check("exp", 1.5, Exp, f64::exp, None),
        check("expm1", 2.5, Expm1, f64::exp_m1, None),
        check("log", 1.5, Log, f64::ln, None),
        check("log1p", 2.0, Log1p, f64::ln_1p, None),
        check("tanh", 2.5, Tanh, f64::tanh, None),
        check("sigmoid", 2.5, Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), None),
        check("erf", 2.0, Erf, libm::erf, None),
        check("atan", 2.5, Atan, f64::atan, None),
        check("sin", 1.0, Sin, f64::sin, Some(f64::sin)),
        check("cos", 1.0, Cos, f64::cos, Some(f64::cos)),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn pow_is_within_one_ulp_and_knows_its_special_cases() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        1e30,
        -1e30,
        1e-45,
        33554432.0,
        16777215.0,
        0.99999994,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1.0000001,
        -1.0000001,
        127.0,
        -149.0,
        2.5,
        f32::MAX,
    ];
    let mut pairs: Vec<(f32, f32)> = special.iter().flat_map(|&x| special.map(|y| (x, y))).collect();
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    for _ in 0..100_000 {
        let x = (random() * 20.0 - 10.0).exp2();
        pairs.push((x, random() * 40.0 - 20.0));
        pairs.push((f32::from_bits((random() * 2139095040.0) as u32), random() * 4.0 - 2.0));
    }
    let mut worst = (0.0, (0.0, 0.0), 0.0);
    for (x, y) in pairs {
        let z = pow(x, y);
        let error = ulps(z, (x as f64).powf(y as f64));
        if error > worst.0 {
            worst = (error, (x, y), z);
        }
    }
    println!("pow: {worst:?}");
    assert!(worst.0 <= 1.0, "{worst:?}");
}
