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
/// assert_eq!(Fan::transposed(&[32, 3, 5, 5], 1), Fan { input: 800, output: 75 });
/// assert_eq!(Fan::recurrent(&[4 * 20, 10], 4), Fan { input: 10, output: 20 });
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

    /// Of a transposed convolution's kernel `[input, output/groups, …]`.
    ///
    /// PyTorch's own first values take this kernel as a convolution's, that is with the two numbers exchanged (and with
    /// one group); `ConvTranspose::new` does as PyTorch.
    ///
    /// # Panics
    /// If the shape has fewer than two axes, or the groups do not divide the input.
    #[track_caller]
    pub fn transposed(shape: &[usize], groups: usize) -> Fan {
        let Fan { input: output, output: input } = Fan::kernel(shape);
        assert!(groups > 0 && shape[0].is_multiple_of(groups), "Fan: {groups} groups of {} inputs", shape[0]);
        Fan { input: input / groups, output }
    }

    /// Of one gate of a recurrent layer's weight `[gates·hidden, input]`.
    ///
    /// # Panics
    /// If the shape is no matrix whose rows the gates divide.
    #[track_caller]
    pub fn recurrent(shape: &[usize], gates: usize) -> Fan {
        match shape {
            [rows, input] if gates > 0 && rows.is_multiple_of(gates) => Fan { input: *input, output: rows / gates },
            _ => panic!("a recurrent weight is [gates·hidden, input], not {shape:?} with {gates} gates"),
        }
    }

    /// Of a bilinear layer's weight `[output, first, second]`.
    ///
    /// # Panics
    /// If the shape has not three axes.
    #[track_caller]
    pub fn bilinear(shape: &[usize]) -> Fan {
        let [output, first, second] = shape else { panic!("a bilinear weight is [out, in1, in2], not {shape:?}") };
        Fan { input: first * second, output: *output }
    }

    /// Of an embedding `[count, size]`: one row is read at a time.
    ///
    /// # Panics
    /// If the shape is no matrix.
    #[track_caller]
    pub fn embedding(shape: &[usize]) -> Fan {
        let [_, size] = shape else { panic!("an embedding is [count, size], not {shape:?}") };
        Fan { input: 1, output: *size }
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

/// N(0, std²) without what lies outside [low, high], as PyTorch's `trunc_normal_` (whose limits are ±2).
///
/// By inversion: Φ⁻¹ of a uniform number between Φ(low/std) and Φ(high/std).
///
/// # Panics
/// If low is not below high.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::init;
/// let w = init::truncated_normal(&Key::new(1), [1000], 1.0, [-2.0, 2.0], DType::F32);
/// assert!(w.abs().max(..).item::<f32>() <= 2.0);
/// ```
#[track_caller]
pub fn truncated_normal(key: &Key, shape: impl IntoShape, std: f64, limits: [f64; 2], dtype: DType) -> Tensor {
    let [low, high] = limits;
    assert!(low < high && std > 0.0, "truncated_normal: std {std} between {low} and {high}");
    let root = std * std::f64::consts::SQRT_2;
    let ends = Tensor::from([low / root, high / root]).erf();
    let (least, most) = (ends.at(0), ends.at(1));
    let place = key.uniform(shape, DType::F64) * (most - &least) + least;
    (inverse_erf(&place) * root).maximum(low).minimum(high).cast(dtype)
}

/// x with erf x = y for y between −1 and 1, to the digits of f64: S. Winitzki's approximation (2008), good to 0.002,
/// then three steps of Halley's method, each of which triples the digits.
#[track_caller]
fn inverse_erf(y: &Tensor) -> Tensor {
    let a = 0.147;
    let log = ((1.0 - y) * (1.0 + y)).maximum(f64::MIN_POSITIVE).log();
    let half = &log * 0.5 + 2.0 / (std::f64::consts::PI * a);
    let start = y.sign() * ((half.square() - log / a).sqrt() - half).maximum(0.0).sqrt();
    (0..3).fold(start, |x, _| {
        let newton = (x.erf() - y) / ((-x.square()).exp() * std::f64::consts::FRAC_2_SQRT_PI);
        let step = &newton / (1.0 + &x * &newton);
        // Where the slope has vanished, the start is all there is.
        step.is_finite().select(&(&x - &step), &x)
    })
}

/// gain times a matrix with orthonormal rows or columns, whichever are fewer, evenly over all such; axes after the
/// first count as one (A. Saxe et al., "Exact solutions to the nonlinear dynamics of learning", 2013).
///
/// The Q of a normal matrix, whose R = Lᵀ has a positive diagonal, by Cholesky's L of AᵀA, twice for the digits.
///
/// # Panics
/// If the shape has fewer than two axes.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::init::{self, Gain};
/// let w = init::orthogonal(&Key::new(1), [3, 8], Gain::Linear, DType::F64);
/// assert!((w.matmul(&w.t()) - Tensor::eye(3, DType::F64)).abs().max(..).item::<f64>() < 1e-14);
/// ```
#[track_caller]
pub fn orthogonal(key: &Key, shape: impl IntoShape, gain: Gain, dtype: DType) -> Tensor {
    let shape = shape.into_shape();
    assert!(shape.len() >= 2, "orthogonal: {:?} has no rows and columns", shape.as_slice());
    let (rows, columns) = (shape[0], shape[1..].iter().product::<usize>());
    let (most, least) = (rows.max(columns), rows.min(columns));
    let a = key.normal([most, least], DType::F64);
    let transposed = |a: &Tensor| a.t().matmul(a).cholesky().triangular_solve(&a.t(), true, false);
    let q = transposed(&transposed(&a).t());
    let q = if rows > columns { q.t() } else { q };
    (q * gain.factor()).reshape(shape).cast(dtype)
}

/// Layer-sequential unit variance (D. Mishkin and J. Matas, "All you need is a good init", 2015): makes the weights of
/// one layer after the other orthogonal, then divides each by the spread of its outputs on a batch until that is 1
/// within a hundredth. Gives the model and the variance each layer was left with.
///
/// `weight` names the weight of layer i of so many; `output` computes that layer's outputs, from the data on. A layer
/// whose outputs have no finite variance above 0 is left as it is, and the number says so.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let x = Key::new(1).uniform([64, 20], DType::F32).eval();
/// let model = Mlp::new(&Key::new(2), &[20, 50, 50, 5]);
/// let first = |m: &Mlp, i: usize| Mlp { layers: m.layers[..=i].to_vec() }.forward(&x);
/// let (model, variances) = init::lsuv(&Key::new(3), model, 3, |m, i| &mut m.layers[i].weight, first);
/// assert!(variances.iter().all(|v| (v - 1.0).abs() < 0.01));
/// assert!((model.forward(&x).variance(.., 0).item::<f32>() - 1.0).abs() < 0.01);
/// ```
#[track_caller]
pub fn lsuv<M>(
    key: &Key,
    mut model: M,
    layers: usize,
    weight: impl Fn(&mut M, usize) -> &mut Tensor,
    output: impl Fn(&M, usize) -> Tensor,
) -> (M, Vec<f64>) {
    let mut variances = Vec::with_capacity(layers);
    for i in 0..layers {
        let w = weight(&mut model, i);
        *w = orthogonal(&key.fold(&Tensor::from(i as i64)), w.shape(), Gain::Linear, w.dtype()).eval();
        let spread = |model: &M| output(model, i).cast(DType::F64).variance(.., 0).item::<f64>();
        let mut variance = spread(&model);
        for _ in 0..10 {
            if (variance - 1.0).abs() < 0.01 || !variance.is_finite() || variance <= 0.0 {
                break;
            }
            let w = weight(&mut model, i);
            *w = (&*w / variance.sqrt()).eval();
            variance = spread(&model);
        }
        variances.push(variance);
    }
    (model, variances)
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
    fn a_truncated_normal_has_the_moments_of_its_formula() {
        let y = Tensor::linspace(-0.9999, 0.9999, 1001, DType::F64);
        let off = (inverse_erf(&y).erf() - &y).abs().max(..).item::<f64>();
        assert!(off < 1e-15, "{off}");
        // Mean φ(a) − φ(b) over Φ(b) − Φ(a) of N(0, 1) within [0.5, 3], from tables.
        let w = truncated_normal(&Key::new(1), [100_000], 2.0, [1.0, 6.0], DType::F64);
        assert!(w.min(..).item::<f64>() >= 1.0 && w.max(..).item::<f64>() <= 6.0);
        let mean = w.mean(..).item::<f64>();
        assert!((mean - 2.0 * (0.352_065 - 0.004_432) / (0.998_650 - 0.691_462)).abs() < 0.01, "{mean}");
        let std = truncated_normal(&Key::new(2), [100_000], 1.0, [-2.0, 2.0], DType::F32).std(.., 0).item::<f32>();
        assert!((std - 0.879_6).abs() < 0.01, "{std}");
    }

    #[test]
    fn orthogonal_rows_or_columns_have_the_gains_length() {
        for (shape, least) in [(vec![6usize, 6], 6usize), (vec![9, 4], 4), (vec![3, 2, 3, 3], 3), (vec![200, 200], 200)]
        {
            let w = orthogonal(&Key::new(3), &shape[..], Gain::Relu, DType::F64);
            let matrix = w.reshape([shape[0], w.numel() / shape[0]]);
            let tall = shape[0] > matrix.size(1);
            let square = if tall { matrix.t().matmul(&matrix) } else { matrix.matmul(&matrix.t()) };
            let off = (square - Tensor::eye(least, DType::F64) * 2.0).abs().max(..).item::<f64>();
            assert!(off < 1e-12, "{shape:?}: {off}");
        }
    }

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
