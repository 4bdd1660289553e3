//! Random numbers as pure functions of a key: the same on every machine, for any number of threads, in any order.

use super::shape::{IntoShape, Shape};
use super::{DType, Distribution, Op, Tensor, Type};

/// A key of the counter-based generator (Philox 4×32-10, Salmon et al. 2011); i64, any shape.
///
/// A key is used once; [`Key::split`] and [`Key::fold`] make others. Every sample is a pure function of its key,
/// so a backward pass recomputes it instead of storing it.
///
/// ```
/// use chainrule::prelude::*;
/// let [a, b] = Key::new(42).split();
/// let x = a.normal([1000], DType::F64);
/// assert!(x.mean(..).item::<f64>().abs() < 0.1);
/// assert_ne!(a.uniform([1], DType::F32).item::<f32>(), b.uniform([1], DType::F32).item::<f32>());
/// ```
#[derive(Clone, Debug)]
pub struct Key(pub Tensor);

impl Key {
    /// The key of a seed.
    #[track_caller]
    pub fn new(seed: u64) -> Key {
        Key(Tensor::from(seed as i64))
    }

    #[track_caller]
    fn draw(&self, distribution: Distribution, shape: Shape, dtype: DType) -> Tensor {
        Tensor::apply(Op::Random(distribution, Type { dtype, shape }), std::slice::from_ref(&self.0))
    }

    /// N independent keys.
    #[track_caller]
    pub fn split<const N: usize>(&self) -> [Key; N] {
        let bits = self.bits([N]);
        super::Origin::here().scope(|| std::array::from_fn(|i| Key(bits.narrow(-1, i, 1).squeeze(-1))))
    }

    /// The key of this key and a number (an i64 tensor of the key's shape): a step's or a layer's own key.
    #[track_caller]
    pub fn fold(&self, number: &Tensor) -> Key {
        Key(Key(&self.0 + number).bits(Shape::new()))
    }

    /// 64 random bits an element, as i64.
    #[track_caller]
    pub fn bits(&self, shape: impl IntoShape) -> Tensor {
        self.draw(Distribution::Bits, shape.into_shape(), DType::I64)
    }

    /// Uniform on [0, 1).
    #[track_caller]
    pub fn uniform(&self, shape: impl IntoShape, dtype: DType) -> Tensor {
        self.draw(Distribution::Uniform, shape.into_shape(), dtype)
    }

    /// Normal with mean 0 and variance 1.
    #[track_caller]
    pub fn normal(&self, shape: impl IntoShape, dtype: DType) -> Tensor {
        self.draw(Distribution::Normal, shape.into_shape(), dtype)
    }

    /// True with a probability, as bool.
    #[track_caller]
    pub fn bernoulli(&self, probability: f64, shape: impl IntoShape) -> Tensor {
        self.uniform(shape, DType::F32).less(probability)
    }

    /// A random order of 0, 1, …, n − 1 as i64.
    #[track_caller]
    pub fn permutation(&self, n: usize) -> Tensor {
        self.bits([n]).argsort(-1, false)
    }
}
