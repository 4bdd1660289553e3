//! Layers that are products of matrices: linear, bilinear, and the plain network of linear layers.

use crate::init::{self, Fan, Gain};
use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::Tree;

/// y = x·Wᵀ + b for x `[.., in]`.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let layer = Linear::new(&Key::new(1), 3, 2);
/// assert_eq!(layer.forward(&Tensor::zeros([5, 3], DType::F32)).shape(), [5, 2]);
/// assert_eq!(paths(&layer), ["weight", "bias"]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// PyTorch's first values: weight and bias uniform on ±1/√in, which is Kaiming's with the slope √5. In f32.
    #[track_caller]
    pub fn new(key: &Key, inputs: usize, outputs: usize) -> Linear {
        let [weight, bias] = key.split();
        let fan = Fan::dense(inputs, outputs);
        let slope = Gain::LeakyRelu(5f64.sqrt());
        Linear {
            weight: init::kaiming_uniform(&weight, [outputs, inputs], fan, slope, DType::F32),
            bias: Some(init::uniform(&bias, [outputs], 1.0 / (inputs.max(1) as f64).sqrt(), DType::F32)),
        }
    }

    /// The same layer without its bias.
    pub fn without_bias(self) -> Linear {
        Linear { bias: None, ..self }
    }

    /// The layer's values.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let product = x.matmul(&self.weight.t());
        match &self.bias {
            Some(bias) => product + bias,
            None => product,
        }
    }
}

/// yₒ = x₁ᵀ·Wₒ·x₂ + bₒ for two inputs `[.., in1]` and `[.., in2]` with the same leading axes.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let layer = Bilinear::new(&Key::new(1), 3, 4, 2);
/// let y = layer.forward(&Tensor::zeros([5, 3], DType::F32), &Tensor::zeros([5, 4], DType::F32));
/// assert_eq!((y.shape(), layer.weight.shape()), (&[5, 2][..], &[2, 3, 4][..]));
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Bilinear {
    /// `[out, in1, in2]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Option<Tensor>,
}

impl Bilinear {
    /// PyTorch's first values: weight and bias uniform on ±1/√in1. In f32.
    #[track_caller]
    pub fn new(key: &Key, first: usize, second: usize, outputs: usize) -> Bilinear {
        let [weight, bias] = key.split();
        let bound = 1.0 / (first.max(1) as f64).sqrt();
        Bilinear {
            weight: init::uniform(&weight, [outputs, first, second], bound, DType::F32),
            bias: Some(init::uniform(&bias, [outputs], bound, DType::F32)),
        }
    }

    /// The same layer without its bias.
    pub fn without_bias(self) -> Bilinear {
        Bilinear { bias: None, ..self }
    }

    /// The layer's values, `[.., out]`.
    #[track_caller]
    pub fn forward(&self, first: &Tensor, second: &Tensor) -> Tensor {
        let [outputs, inner, other] = self.weight.shape() else {
            panic!("Bilinear: a weight is [out, in1, in2], not {}", self.weight.ty())
        };
        // One product of matrices for W·x₂ of all outputs would need x₂ first; x₁ᵀ·W is the same work.
        let weight = self.weight.permute([1, 0, 2]).reshape([*inner, outputs * other]);
        let leading = &first.shape()[..first.rank().max(1) - 1];
        let rows = first.matmul(&weight).reshape([leading, &[*outputs, *other]].concat());
        let product = (rows * second.unsqueeze(-2)).sum(-1);
        match &self.bias {
            Some(bias) => product + bias,
            None => product,
        }
    }
}

/// Linear layers with a rectifier between each two: zₗ = aₗ₋₁·Wₗᵀ + bₗ, aₗ = max(zₗ, 0), and the last z is the result.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let model = Mlp::new(&Key::new(1), &[64, 128, 10]);
/// assert_eq!(parameter_count(&model), 64 * 128 + 128 + 128 * 10 + 10);
/// assert_eq!(model.forward(&Tensor::zeros([5, 64], DType::F32)).shape(), [5, 10]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Mlp {
    /// The linear layers, first to last.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// A layer between each two sizes, with [`Linear::new`]'s first values.
    ///
    /// # Panics
    /// If there are fewer than two sizes.
    #[track_caller]
    pub fn new(key: &Key, sizes: &[usize]) -> Mlp {
        assert!(sizes.len() >= 2, "an Mlp needs the sizes of its input and its output, not {sizes:?}");
        let layer = |(i, pair): (usize, &[usize])| Linear::new(&key.fold(&Tensor::from(i as i64)), pair[0], pair[1]);
        Mlp { layers: sizes.windows(2).enumerate().map(layer).collect() }
    }

    /// The last layer's values: logits, if classes are meant.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let activate = |a: Tensor, (i, layer): (usize, &Linear)| layer.forward(&if i == 0 { a } else { a.relu() });
        self.layers.iter().enumerate().fold(x.clone(), activate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_is_the_formula_and_starts_as_pytorchs() {
        let layer =
            Linear { weight: Tensor::from([[1.0f32, 3.0], [2.0, 4.0]]), bias: Some(Tensor::from([0.5f32, -0.5])) };
        let x = Tensor::from([[1.0f32, -1.0]]);
        assert_eq!(layer.forward(&x).to_vec::<f32>(), [-1.5, -2.5]);
        assert_eq!(layer.clone().without_bias().forward(&x).to_vec::<f32>(), [-2.0, -2.0]);
        let new = Linear::new(&Key::new(5), 100, 400);
        let largest = |t: &Tensor| t.abs().max(..).item::<f32>();
        assert!(largest(&new.weight) <= 0.1 && largest(&new.weight) > 0.0999);
        assert!(largest(new.bias.as_ref().unwrap()) <= 0.1);
        let other = Linear::new(&Key::new(6), 100, 400);
        assert_ne!(new.weight.to_vec::<f32>(), other.weight.to_vec::<f32>());
    }

    #[test]
    fn a_deep_network_starts_every_layer_differently() {
        let model = Mlp::new(&Key::new(0), &[4, 4, 4]);
        assert_ne!(model.layers[0].weight.to_vec::<f32>(), model.layers[1].weight.to_vec::<f32>());
    }
}
