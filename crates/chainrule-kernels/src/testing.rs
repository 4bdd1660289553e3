//! What the tests of all kernels share: random strided values, naive reading, and pools of several sizes.

use crate::alphabet::DType;
use crate::buffer::Buffer;
use crate::element::{Scalar, Stored, by_dtype, typed, typed_mut};
use crate::pool::Pool;
use crate::view::{Layout, View, ViewMut, numel};
use smallvec::SmallVec;

/// A small deterministic generator.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub(crate) fn shape(&mut self, rank: usize, most: usize) -> Vec<usize> {
        (0..rank).map(|_| if self.below(12) == 0 { 0 } else { 1 + self.below(most) }).collect()
    }
}

/// A value in memory of its own.
pub(crate) struct Value {
    pub(crate) buffer: Buffer,
    pub(crate) dtype: DType,
    pub(crate) layout: Layout,
}

impl Value {
    /// Random elements under a random layout: permuted, reversed, with gaps, broadcast, or plain.
    pub(crate) fn random(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Value {
        let rank = shape.len();
        let plain = rng.below(3) == 0;
        let mut order: Vec<usize> = (0..rank).collect();
        if !plain {
            for i in (1..rank).rev() {
                order.swap(i, rng.below(i + 1));
            }
        }
        let mut strides = SmallVec::from_elem(0isize, rank);
        let (mut offset, mut span) = (if plain { 0 } else { rng.below(3) }, 1usize);
        for &axis in order.iter().rev() {
            if !plain && rng.below(6) == 0 {
                continue; // broadcast
            }
            strides[axis] = span as isize;
            if !plain && rng.below(5) == 0 && shape[axis] > 0 {
                strides[axis] = -(span as isize);
                offset += (shape[axis] - 1) * span;
            }
            span *= shape[axis].max(1);
            if !plain && rng.below(6) == 0 {
                span += 1 + rng.below(2);
            }
        }
        let count = if numel(shape) == 0 { 0 } else { span + offset + 4 };
        let values: Vec<f64> = (0..count).map(|_| rng.unit() * 8.0 - 4.0).collect();
        Value { buffer: buffer(dtype, &values), dtype, layout: Layout::new(offset, shape.into(), strides) }
    }

    /// Given elements in row-major order.
    pub(crate) fn of(dtype: DType, shape: &[usize], values: &[f64]) -> Value {
        Value { buffer: buffer(dtype, values), dtype, layout: Layout::contiguous(shape) }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(self.buffer.bytes(), self.dtype, &self.layout)
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    pub(crate) fn at(&self, index: &[usize]) -> f64 {
        let mut position = self.layout.offset as isize;
        for (&i, &s) in index.iter().zip(&self.layout.strides) {
            position += i as isize * s;
        }
        element(self.dtype, self.buffer.bytes(), position as usize)
    }

    /// The elements in row-major order.
    pub(crate) fn values(&self) -> Vec<f64> {
        indices(self.shape()).iter().map(|index| self.at(index)).collect()
    }
}

fn buffer(dtype: DType, values: &[f64]) -> Buffer {
    let mut buffer = Buffer::zeroed(values.len() * dtype.size());
    for (i, bytes) in buffer.bytes_mut().chunks_exact_mut(dtype.size()).enumerate() {
        let value = if dtype == DType::U8 { values[i].abs() } else { values[i] };
        let value = if dtype == DType::Bool { (value > 0.0) as u8 as f64 } else { value };
        bytes.copy_from_slice(&Scalar::from_f64(dtype, value).bits().to_le_bytes()[..dtype.size()]);
    }
    buffer
}

fn element(dtype: DType, bytes: &[u8], at: usize) -> f64 {
    by_dtype!(dtype, T => typed::<T>(bytes)[at].load().wide())
}

/// A number as f64.
trait Wide {
    fn wide(self) -> f64;
}
macro_rules! wide {
    ($($t:ty),*) => { $(impl Wide for $t { fn wide(self) -> f64 { self as f64 } })* };
}
wide!(f32, i32, i64, u8);
impl Wide for f64 {
    fn wide(self) -> f64 {
        self
    }
}

/// Contiguous memory as f64.
pub(crate) fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    (0..bytes.len() / dtype.size()).map(|i| element(dtype, bytes, i)).collect()
}

/// All indices below a shape, row-major.
pub(crate) fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![];
    crate::window::each_index(shape, |index| all.push(index.to_vec()));
    all
}

/// Runs a kernel on 1, 2, 3 and 8 threads into fresh outputs full of rubbish, asserts that the bits agree, and returns
/// them.
pub(crate) fn on_pools(dtype: DType, count: usize, f: impl Fn(&Pool, ViewMut)) -> Vec<f64> {
    static POOLS: std::sync::OnceLock<[Pool; 4]> = std::sync::OnceLock::new();
    let pools = POOLS.get_or_init(|| [1, 2, 3, 8].map(Pool::new));
    let mut first: Option<Buffer> = None;
    for pool in pools {
        let mut out = Buffer::zeroed(count * dtype.size());
        typed_mut::<u8>(out.bytes_mut()).fill(1);
        f(pool, ViewMut::new(out.bytes_mut(), dtype));
        match &first {
            None => first = Some(out),
            Some(first) => assert!(first.bytes() == out.bytes(), "bits depend on the number of threads"),
        }
    }
    numbers(dtype, first.unwrap().bytes())
}

/// How far a result of a dtype may be from the exact one, relative to `scale`.
pub(crate) fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 2e-6,
        DType::F64 => 1e-14,
        DType::BF16 => 1e-2,
        DType::F16 => 1.5e-3,
        _ => 0.0,
    }
}

/// Asserts that two lists agree, NaN with NaN.
#[track_caller]
pub(crate) fn assert_close(got: &[f64], expected: &[f64], dtype: DType, scale: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let same = g == e || (g.is_nan() && e.is_nan()) || (g - e).abs() <= tolerance(dtype) * (e.abs() + scale);
        assert!(same, "{what} {dtype}: element {i} is {g}, not {e}");
    }
}
