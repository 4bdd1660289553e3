//! Dropout: training leaves parts out at random and scales the rest, so that the expectation stays. Evaluation does
//! nothing. The three kinds differ in what is kept or left out as one.
//!
//! N. Srivastava et al., "Dropout", 2014; J. Tompson et al. 2015 (channels); G. Huang et al., "Deep networks with
//! stochastic depth", 2016 (paths).

use crate::context::Context;
use chainrule::tensor::Tensor;
use chainrule::tree::Tree;

/// x·m / (1 − p) with m = 0 with probability p, else 1; one m for each place of `mask`, which broadcasts to x.
#[track_caller]
fn drop(x: &Tensor, probability: f64, mask: &[usize], context: &mut Context) -> Tensor {
    if !context.is_training() || probability == 0.0 {
        return x.clone();
    }
    let keep = 1.0 - probability;
    if keep == 0.0 {
        return x.zeros_like();
    }
    context.key().bernoulli(keep, mask).select(&(x * (1.0 / keep)), 0.0)
}

/// The shape of x with 1 for every axis after the first few.
fn leading(x: &Tensor, axes: usize) -> Vec<usize> {
    x.shape().iter().enumerate().map(|(i, &size)| if i < axes { size } else { 1 }).collect()
}

macro_rules! dropout {
    ($(#[$doc:meta])* $layer:ident, |$x:ident| $mask:expr) => {
        $(#[$doc])*
        #[derive(Tree, Clone, Debug)]
        pub struct $layer {
            /// How likely it is to be left out.
            #[tree(skip)]
            pub probability: f64,
        }

        impl $layer {
            /// With a probability.
            ///
            /// # Panics
            /// If that is not from 0 to 1.
            #[track_caller]
            pub fn new(probability: f64) -> $layer {
                let layer = stringify!($layer);
                assert!((0.0..=1.0).contains(&probability), "{layer}: a probability is from 0 to 1, not {probability}");
                $layer { probability }
            }

            /// In training x with parts left out, in evaluation x.
            #[track_caller]
            pub fn forward(&self, $x: &Tensor, context: &mut Context) -> Tensor {
                drop($x, self.probability, &$mask, context)
            }
        }
    };
}

dropout! {
    /// Leaves out single elements.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_nn::prelude::*;
    /// let (layer, x) = (Dropout::new(0.5), Tensor::ones([1000], DType::F32));
    /// let y = layer.forward(&x, &mut Context::training(Key::new(1)));
    /// let kept = y.greater(0.0).cast(DType::F32).mean(..).item::<f32>();
    /// assert!((kept - 0.5).abs() < 0.05 && y.max(..).item::<f32>() == 2.0);
    /// assert_eq!(layer.forward(&x, &mut Context::evaluation()).to_vec::<f32>(), [1.0; 1000]);
    /// ```
    Dropout, |x| x.shape()
}

dropout! {
    /// Leaves out whole channels of `[N, C, …]`, as PyTorch's Dropout1d to Dropout3d.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_nn::prelude::*;
    /// let y = ChannelDropout::new(0.5).forward(&Tensor::ones([2, 8, 3], DType::F32), &mut Context::training(Key::new(1)));
    /// assert_eq!(y.max(-1).to_vec::<f32>(), y.min(-1).to_vec::<f32>());
    /// ```
    ChannelDropout, |x| leading(x, 2)
}

dropout! {
    /// Leaves out whole examples of `[N, …]`: in a residual branch, the branch of those examples (stochastic depth).
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_nn::prelude::*;
    /// let y = PathDropout::new(0.2).forward(&Tensor::ones([4, 8], DType::F32), &mut Context::training(Key::new(1)));
    /// assert_eq!(y.max(-1).to_vec::<f32>(), y.min(-1).to_vec::<f32>());
    /// ```
    PathDropout, |x| leading(x, 1)
}
