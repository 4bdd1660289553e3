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

/// The largest error found: in units in the last place, where, what came out, on which instructions.
type Worst = (f64, f32, f32, Level);

type Errors = dyn Fn(&[f32]) -> Worst + Sync;

/// A function under test: what it is called, how wrong it may be, its errors on some arguments.
struct Row {
    name: &'static str,
    limit: f64,
    worst: Box<Errors>,
}

fn row<F>(name: &'static str, limit: f64, f: F, exact: fn(f64) -> f64, fix: Option<fn(f64) -> f64>) -> Row
where
    F: Copy + Sync + 'static,
    for<'a> Over<'a, F>: Loop<Output = ()>,
{
    let worst = move |xs: &[f32]| {
        let exact: Vec<f64> = xs.iter().map(|&x| exact(x as f64)).collect();
        let mut worst = (0.0, 0.0f32, 0.0f32, Level::Plain);
        // AVX2 and AVX-512 give the same bits.
        let mut levels = vec![Level::Plain, detected()];
        levels.dedup();
        for level in levels {
            let mut ys = vec![0.0; xs.len()];
            at_level(level, Over(xs, &mut ys, f));
            if let Some(fix) = fix {
                fix_far(xs, &mut ys, fix);
            }
            for ((&x, &y), &exact) in xs.iter().zip(&ys).zip(&exact) {
                let error = ulps(y, exact);
                if error > worst.0 {
                    worst = (error, x, y, level);
                }
            }
        }
        worst
    };
    Row { name, limit, worst: Box::new(worst) }
}

/// The functions, each with the error its documentation states.
fn rows() -> Vec<Row> {
    vec![
        row("exp", 1.02, Exp, f64::exp, None),
        row("expm1", 1.57, Expm1, f64::exp_m1, None),
        row("log", 0.83, Log, f64::ln, None),
        row("log1p", 1.40, Log1p, f64::ln_1p, None),
        row("tanh", 2.42, Tanh, f64::tanh, None),
        row("sigmoid", 2.41, Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), None),
        row("erf", 1.52, Erf, libm::erf, None),
        row("atan", 1.91, Atan, f64::atan, None),
        row("sin", 0.51, Sin, f64::sin, Some(f64::sin)),
        row("cos", 0.51, Cos, f64::cos, Some(f64::cos)),
    ]
}

/// The rows whose error exceeds what is stated; prints all.
fn too_wrong(worst: impl Fn(&Row) -> Worst) -> Vec<String> {
    let mut failed = vec![];
    for row in rows() {
        let (error, x, y, level) = worst(&row);
        println!("{}: {error:.3} ulp at {x:e} -> {y:e} ({level:?})", row.name);
        if error > row.limit {
            failed.push(format!("{}: {error} ulp at {x:e} -> {y:e} ({level:?})", row.name));
        }
    }
    failed
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
    let xs = sample();
    let failed = too_wrong(|row| (row.worst)(&xs));
    assert!(failed.is_empty(), "{failed:#?}");
}

/// All 2³² arguments of every function; ten minutes on two cores.
#[test]
#[ignore = "slow: .ci/slow runs it"]
fn errors_are_as_documented_for_every_f32() {
    const PART: u64 = 1 << 16;
    let failed = too_wrong(|row| {
        let next = std::sync::atomic::AtomicU64::new(0);
        let work = || {
            let mut worst = (0.0, 0.0, 0.0, Level::Plain);
            loop {
                let start = next.fetch_add(PART, std::sync::atomic::Ordering::Relaxed);
                if start > u32::MAX as u64 {
                    return worst;
                }
                let xs: Vec<f32> = (start..start + PART).map(|bits| f32::from_bits(bits as u32)).collect();
                let found = (row.worst)(&xs);
                if found.0 > worst.0 {
                    worst = found;
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let found = running.into_iter().map(|thread| thread.join().expect("no panic"));
            found.max_by(|a, b| a.0.total_cmp(&b.0)).expect("a thread")
        })
    });
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
