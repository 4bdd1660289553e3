//! Where a token stands in its sequence: learned and sinusoidal vectors to add, and rotations of queries and keys.

use crate::init;
use chainrule::tensor::{DType, Key, Tensor, concat, stack};
use chainrule::tree::Tree;

/// A learned vector for each place of a sequence, added to what stands there.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let places = LearnedPositions::new(&Key::new(1), 16, 4);
/// assert_eq!(places.forward(&Tensor::zeros([2, 5, 4], DType::F32)).shape(), [2, 5, 4]);
/// assert_eq!(places.at(&Tensor::from([3i64])).shape(), [1, 4]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct LearnedPositions {
    /// `[places, d]`.
    pub weight: Tensor,
}

impl LearnedPositions {
    /// N(0, 0.02²) for so many places, as GPT-2 starts. In f32.
    #[track_caller]
    pub fn new(key: &Key, count: usize, size: usize) -> LearnedPositions {
        LearnedPositions { weight: init::normal(key, [count, size], 0.02, DType::F32) }
    }

    /// The vectors of places given as integers `[..]`, `[.., d]`. One outside is an error when it runs.
    #[track_caller]
    pub fn at(&self, places: &Tensor) -> Tensor {
        self.weight.gather(places, 0)
    }

    /// x `[.., T, d]` plus the vectors of the first T places.
    ///
    /// # Panics
    /// If there are fewer places than T.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (steps, count) = (x.size(-2), self.weight.size(0));
        assert!(steps <= count, "LearnedPositions: {} has {steps} places, and there are vectors for {count}", x.ty());
        x + self.weight.narrow(0, 0, steps)
    }
}

/// `[count, d]`: sin(p·10000^(−2i/d)) at 2i and cos of the same at 2i + 1 (A. Vaswani et al. 2017).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let places = sinusoidal_positions(3, 4, DType::F64);
/// assert_eq!(places.at((0, ..)).to_vec::<f64>(), [0.0, 1.0, 0.0, 1.0]);
/// assert!((places.at((2, 3)).item::<f64>() - 0.02f64.cos()).abs() < 1e-12);
/// ```
///
/// # Panics
/// If d is odd.
#[track_caller]
pub fn sinusoidal_positions(count: usize, size: usize, dtype: DType) -> Tensor {
    assert!(size.is_multiple_of(2), "sinusoidal_positions: a size of {size} is not even");
    let angles = angles(&Tensor::arange(count, DType::I64), size, 10_000.0);
    stack(&[angles.sin(), angles.cos()], -1).reshape([count, size]).cast(dtype)
}

/// p·base^(−2i/d) for places `[T]` and i < d/2: `[T, d/2]`, in f64, since far places times steps need its digits.
#[track_caller]
fn angles(places: &Tensor, size: usize, base: f64) -> Tensor {
    let steps: Vec<f64> = (0..size / 2).map(|i| base.powf(-2.0 * i as f64 / size as f64)).collect();
    places.cast(DType::F64).unsqueeze(-1) * Tensor::from_vec(steps, [size / 2])
}

/// Rotates pairs of a query's or key's elements by its place, so that their product depends on the distance alone
/// (J. Su et al., "RoFormer", 2021): (a, b) becomes (a·cos − b·sin, b·cos + a·sin) at angle p·base^(−2i/d).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let x = Tensor::from([[1.0, 0.0], [1.0, 0.0]]);
/// let y = Rotary::new().forward(&x, &Tensor::from([0i64, 1]));
/// assert!((y.at((1, 1)).item::<f64>() - 1f64.sin()).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// Of the angles' powers.
    pub base: f64,
    /// A pair is two neighbours (RoFormer, GPT-J) rather than elements i and i + d/2 (GPT-NeoX, Llama).
    pub interleaved: bool,
}

impl Default for Rotary {
    fn default() -> Rotary {
        Rotary { base: 10_000.0, interleaved: false }
    }
}

impl Rotary {
    /// With base 10,000 and pairs of elements i and i + d/2.
    pub fn new() -> Rotary {
        Rotary::default()
    }

    /// With another base.
    pub fn base(self, base: f64) -> Rotary {
        Rotary { base, ..self }
    }

    /// With pairs of neighbours.
    pub fn interleaved(self) -> Rotary {
        Rotary { interleaved: true, ..self }
    }

    /// x `[.., T, d]` rotated by integers `[T]`.
    ///
    /// # Panics
    /// If d is odd.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, places: &Tensor) -> Tensor {
        let size = x.size(-1);
        assert!(size.is_multiple_of(2), "Rotary: {} has an odd last axis", x.ty());
        let angles = angles(places, size, self.base);
        let (cos, sin) = (angles.cos().cast(x.dtype()), angles.sin().cast(x.dtype()));
        let turn = |a: &Tensor, b: &Tensor| [a * &cos - b * &sin, b * &cos + a * &sin];
        if self.interleaved {
            let pairs = x.reshape([&x.shape()[..x.rank() - 1], &[size / 2, 2]].concat());
            let [a, b] = pairs.chunk(-1);
            stack(&turn(&a.squeeze(-1), &b.squeeze(-1)), -1).reshape(x.shape())
        } else {
            let [a, b] = x.chunk(-1);
            concat(&turn(&a, &b), -1)
        }
    }
}
