//! Losses: how wrong predictions are, as one number.

use chainrule::tensor::Tensor;

/// Mean of `−ln softmax(z)[y]` over all rows: logits z `[.., classes]`, classes y `[..]` as integers.
///
/// Its gradient by the logits is (softmax(z) − one_hot(y)) / rows.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let loss = cross_entropy(&Tensor::from([[0.0, 0.0]]), &Tensor::from([1i64]));
/// assert!((loss.item::<f64>() - 2f64.ln()).abs() < 1e-15);
/// ```
#[track_caller]
pub fn cross_entropy(logits: &Tensor, classes: &Tensor) -> Tensor {
    logits.cross_entropy(classes)
}

/// Mean of (x − y)² over all elements.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let loss = mean_squared_error(&Tensor::from([1.0, 2.0]), &Tensor::from([1.0, 4.0]));
/// assert_eq!(loss.item::<f64>(), 2.0);
/// ```
#[track_caller]
pub fn mean_squared_error(prediction: &Tensor, target: &Tensor) -> Tensor {
    prediction.mean_squared_error(target)
}
