//! Activations by name, for layers that leave the choice to whoever builds them.

use chainrule::tensor::Tensor;

/// A function applied to every element; the methods of the same names on [`Tensor`] say the formulas.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// assert_eq!(Activation::Relu.apply(&Tensor::from([-1.0, 2.0])).to_vec::<f64>(), [0.0, 2.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0).
    Relu,
    /// x above 0, slope·x below.
    LeakyRelu(f64),
    /// x above 0, α(eˣ − 1) below.
    Elu(f64),
    /// Self-normalising elu.
    Selu,
    /// x·Φ(x).
    Gelu,
    /// x·Φ(x) by its tanh approximation, as in GPT-2.
    GeluTanh,
    /// x·σ(x), also called swish.
    Silu,
    /// x·tanh(softplus x).
    Mish,
    /// ln(1 + eˣ).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// Hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// x limited to [−1, 1].
    HardTanh,
    /// (x + 3)/6 limited to [0, 1].
    HardSigmoid,
}

impl Activation {
    /// The function of every element.
    #[track_caller]
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Activation::Identity => x.clone(),
            Activation::Relu => x.relu(),
            Activation::LeakyRelu(slope) => x.leaky_relu(slope),
            Activation::Elu(alpha) => x.elu(alpha),
            Activation::Selu => x.selu(),
            Activation::Gelu => x.gelu(),
            Activation::GeluTanh => x.gelu_tanh(),
            Activation::Silu => x.silu(),
            Activation::Mish => x.mish(),
            Activation::Softplus => x.softplus(),
            Activation::Softsign => x.softsign(),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
            Activation::HardTanh => x.hard_tanh(),
            Activation::HardSigmoid => x.hard_sigmoid(),
        }
    }
}
