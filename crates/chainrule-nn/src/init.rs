//! First values of weights: how far from zero, so that signals keep their size from layer to layer.
//!
//! X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010; K. He
//! et al., "Delving deep into rectifiers", 2015. All are expressions of a key: the same key gives the same weights.

use chainrule::tensor::{DType, IntoShape, Key, Tensor};
use chainrule::tree::{self, Role, Tree};

/// How many values one unit takes in, and how many units one value goes out to.
///
/// ```
/// use chainrule_nn::init::Fan;
/// assert_eq!(Fan::dense(784, 512), Fan { input: 784, output: 512 });
/// assert_eq!(Fan::kernel(&[32, 3, 5, 5]), Fan { input: 75, output: 800 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fan {
    /// Values that a unit adds up.
    pub input: usize,
    /// Units that a value goes to.
    pub output: usize,
}

impl Fan {
    /// Of a dense layer with so many inputs and outputs.
    pub fn dense(input: usize, output: usize) -> Fan {
        Fan { input, output }
    }

    /// Of a convolution's kernel `[output, input/groups, …]`: each channel counts once for every place of the kernel.
    ///
    /// # Panics
    /// If the shape has fewer than two axes.
    #[track_caller]
    pub fn kernel(shape: &[usize]) -> Fan {
        let [output, input, places @ ..] = shape else { panic!("a kernel is [output, input, …], not {shape:?}") };
        let places: usize = places.iter().product();
        Fan { input: input * places, output: output * places }
    }
}

/// The factor that makes up for what an activation takes from a signal's spread, as PyTorch's `calculate_gain`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gain {
    /// None, or a sigmoid: 1.
    Linear,
    /// tanh: 5/3.
    Tanh,
    /// relu: √2.
    Relu,
    /// Leaky relu with slope a: √(2/(1 + a²)).
    LeakyRelu(f64),
    /// Any other.
    Factor(f64),
}

impl Gain {
    /// The factor.
    pub fn factor(self) -> f64 {
        match self {
            Gain::Linear => 1.0,
            Gain::Tanh => 5.0 / 3.0,
            Gain::Relu => 2f64.sqrt(),
            Gain::LeakyRelu(slope) => (2.0 / (1.0 + slope * slope)).sqrt(),
            Gain::Factor(factor) => factor,
        }
    }
}

/// U(−bound, bound).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::init;
/// let w = init::uniform(&Key::new(1), [100], 0.5, DType::F64);
/// assert!(w.abs().max(..).item::<f64>() <= 0.5 && w.min(..).item::<f64>() < 0.0);
/// ```
#[track_caller]
pub fn uniform(key: &Key, shape: impl IntoShape, bound: f64, dtype: DType) -> Tensor {
    (key.uniform(shape, dtype) * 2.0 - 1.0) * bound
}

/// N(0, std²).
#[track_caller]
pub fn normal(key: &Key, shape: impl IntoShape, std: f64, dtype: DType) -> Tensor {
    key.normal(shape, dtype) * std
}

/// U(−b, b) with b = gain·√(6 / (fan_in + fan_out)): keeps the spread of values and of gradients alike.
#[track_caller]
pub fn glorot_uniform(key: &Key, shape: impl IntoShape, fan: Fan, gain: Gain, dtype: DType) -> Tensor {
    uniform(key, shape, gain.factor() * (6.0 / (fan.input + fan.output).max(1) as f64).sqrt(), dtype)
}

/// N(0, s²) with s = gain·√(2 / (fan_in + fan_out)).
#[track_caller]
pub fn glorot_normal(key: &Key, shape: impl IntoShape, fan: Fan, gain: Gain, dtype: DType) -> Tensor {
    normal(key, shape, gain.factor() * (2.0 / (fan.input + fan.output).max(1) as f64).sqrt(), dtype)
}

/// U(−b, b) with b = gain·√(3 / fan_in): keeps the spread of values through a rectifier.
#[track_caller]
pub fn kaiming_uniform(key: &Key, shape: impl IntoShape, fan: Fan, gain: Gain, dtype: DType) -> Tensor {
    uniform(key, shape, gain.factor() * (3.0 / fan.input.max(1) as f64).sqrt(), dtype)
}

/// N(0, s²) with s = gain / √fan_in.
#[track_caller]
pub fn kaiming_normal(key: &Key, shape: impl IntoShape, fan: Fan, gain: Gain, dtype: DType) -> Tensor {
    normal(key, shape, gain.factor() / (fan.input.max(1) as f64).sqrt(), dtype)
}

/// A layer (or any tree) with zeros for parameters: for the last layer of a residual branch, which then starts as the
/// identity.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let last = init::zeroed(&Linear::new(&Key::new(1), 3, 3));
/// assert_eq!(last.weight.to_vec::<f32>(), [0.0; 9]);
/// ```
#[track_caller]
pub fn zeroed<T: Tree>(layer: &T) -> T {
    tree::map_named(layer, |_, role, leaf| if role == Role::Parameter { leaf.zeros_like() } else { leaf.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_the_spread_of_its_formula() {
        let (key, fan, n) = (Key::new(3), Fan::dense(300, 100), [300usize, 100]);
        let std = |w: Tensor| w.std(.., 0).item::<f64>();
        let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 0.02, "{a} against {b}");
        close(std(glorot_uniform(&key, n, fan, Gain::Tanh, DType::F64)), 5.0 / 3.0 * (2.0f64 / 400.0).sqrt());
        close(std(glorot_normal(&key, n, fan, Gain::Linear, DType::F64)), (2.0f64 / 400.0).sqrt());
        close(std(kaiming_uniform(&key, n, fan, Gain::Relu, DType::F64)), (2.0f64 / 300.0).sqrt());
        close(std(kaiming_normal(&key, n, fan, Gain::Relu, DType::F64)), (2.0f64 / 300.0).sqrt());
        // PyTorch's default for Linear: a = √5 makes the bound 1/√fan_in.
        let w = kaiming_uniform(&key, n, fan, Gain::LeakyRelu(5f64.sqrt()), DType::F64);
        close(w.abs().max(..).item::<f64>(), 1.0 / 300f64.sqrt());
    }
}
