//! Reading values: expressions become programs of no inputs, run once.

use super::machine::{self, ExecuteError, Scratch};
use crate::optimize;
use crate::plan::{Plan, PlanOptions};
use crate::program::{CaptureError, capture};
use crate::tensor::{Element, Storage, Tensor};
use chainrule_kernels::buffer::Buffer;

/// Computes several expressions together, sharing what they share.
///
/// # Panics
/// If one of them depends on a value that is not known, inside a traced function, or an index is out of range.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::execute::eval_all;
/// let x = Tensor::from(2.0);
/// let values = eval_all(&[x.exp(), x.exp() + 1.0]);
/// assert_eq!(values[1].item::<f64>() - values[0].item::<f64>(), 1.0);
/// ```
#[track_caller]
pub fn eval_all(tensors: &[Tensor]) -> Vec<Tensor> {
    match try_eval_all(tensors) {
        Ok(values) => values,
        Err(EvalError::Capture(error)) => panic!("{error}"),
        Err(EvalError::Execute(error)) => panic!("{error}"),
    }
}

pub(crate) enum EvalError {
    Capture(CaptureError),
    Execute(ExecuteError),
}

#[track_caller]
pub(crate) fn try_eval_all(tensors: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
    let pending: Vec<Tensor> = tensors.iter().filter(|tensor| tensor.storage().is_none()).cloned().collect();
    let program = capture("eval", &[], &pending).map_err(EvalError::Capture)?;
    let plan = Plan::new(&optimize::optimize(program), PlanOptions::default());
    let mut buffers: Vec<Buffer> = plan.results.iter().map(|ty| Buffer::zeroed(ty.bytes())).collect();
    let mut slices: Vec<&mut [u8]> = buffers.iter_mut().map(Buffer::bytes_mut).collect();
    machine::run_on(&super::pool(None), &plan, &[], &mut slices, &mut Scratch::new(&plan))
        .map_err(EvalError::Execute)?;
    let mut computed = buffers.into_iter().zip(&plan.results).map(|(buffer, ty)| Storage::new(buffer, ty.clone()));
    let value = |tensor: &Tensor| match tensor.storage() {
        Some(_) => tensor.clone(),
        None => Tensor::from_storage(computed.next().expect("one a pending tensor")),
    };
    Ok(tensors.iter().map(value).collect())
}

impl Tensor {
    /// Computes the value: a leaf with numbers and no history.
    ///
    /// # Panics
    /// If it depends on a value that is not known, inside a traced function, or an index is out of range.
    #[track_caller]
    pub fn eval(&self) -> Tensor {
        if self.storage().is_some() {
            return self.clone();
        }
        eval_all(std::slice::from_ref(self)).remove(0)
    }

    /// [`Tensor::eval`] as a result: an index out of range is an error.
    ///
    /// # Panics
    /// If it depends on a value that is not known, inside a traced function.
    #[track_caller]
    pub fn try_eval(&self) -> Result<Tensor, ExecuteError> {
        match try_eval_all(std::slice::from_ref(self)) {
            Ok(mut values) => Ok(values.remove(0)),
            Err(EvalError::Execute(error)) => Err(error),
            Err(EvalError::Capture(error)) => panic!("{error}"),
        }
    }

    /// The elements in row-major order, computed if they are not yet.
    ///
    /// # Panics
    /// As [`Tensor::eval`], and if the element type is not the dtype.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        let value = self.eval();
        value.storage().expect("evaluated").as_slice::<T>().to_vec()
    }

    /// The only element.
    ///
    /// # Panics
    /// If there is not exactly one, and as [`Tensor::to_vec`].
    #[track_caller]
    pub fn item<T: Element>(&self) -> T {
        assert!(self.numel() == 1, "item: {} has {} elements", self.ty(), self.numel());
        self.eval().storage().expect("evaluated").as_slice::<T>()[0]
    }

    /// The only element in double precision, whatever the dtype.
    ///
    /// # Panics
    /// If there is not exactly one, and as [`Tensor::eval`].
    #[track_caller]
    pub fn to_f64(&self) -> f64 {
        self.cast(crate::tensor::DType::F64).item::<f64>()
    }
}
