//! A program as expressions again, in another float dtype if one is asked for.
//!
//! A function is written in one dtype; to check it one needs it in double precision, its derivative included. The
//! captured program of either is replayed as expressions with every float changed. Random numbers are drawn as they were
//! and then converted, so both dtypes see the same ones; casts between floats go, whatever precision they meant.

use chainrule::program::{Instruction, Kind, Program};
use chainrule::tensor::{DType, Lambda, Op, ShapeError, Shared, Tensor, Type};
use std::sync::Arc;

/// The results of a program as expressions of its inputs, which must have the dtypes that the change gives them.
///
/// # Errors
/// If an operation is not there for the dtype.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::program::capture;
/// use chainrule_lens::lift::lift;
/// let x = Tensor::from(1.0f32);
/// let program = capture("f", &[("x".into(), x.clone())], &[x.exp()]).unwrap();
/// let y = lift(&program, &[Tensor::from(1.0)], Some(DType::F64)).unwrap();
/// assert_eq!(y[0].item::<f64>(), 1f64.exp());
/// ```
pub fn lift(program: &Program, inputs: &[Tensor], to: Option<DType>) -> Result<Vec<Tensor>, ShapeError> {
    let mut values: Vec<Option<Tensor>> = vec![None; program.types.len()];
    for ((_, value), input) in program.inputs.iter().zip(inputs) {
        values[*value as usize] = Some(input.clone());
    }
    let held = |values: &[Option<Tensor>], value: u32| values[value as usize].clone().expect("made before its use");
    for instruction in &program.instructions {
        let inputs: Vec<Tensor> = instruction.inputs.iter().map(|&value| held(&values, value)).collect();
        for (&output, result) in instruction.outputs.iter().zip(one(instruction, &inputs, to)?) {
            values[output as usize] = Some(result);
        }
    }
    Ok(program.outputs.iter().map(|&value| held(&values, value)).collect())
}

/// A type with its float dtype changed.
pub(crate) fn changed(ty: &Type, to: Option<DType>) -> Type {
    match to {
        Some(dtype) if ty.dtype.is_float() => Type { dtype, shape: ty.shape.clone() },
        _ => ty.clone(),
    }
}

/// A tensor with its float dtype changed.
pub(crate) fn converted(x: &Tensor, to: Option<DType>) -> Tensor {
    x.cast(changed(x.ty(), to).dtype)
}

fn one(instruction: &Instruction, inputs: &[Tensor], to: Option<DType>) -> Result<Vec<Tensor>, ShapeError> {
    let lambda = |body: &Program| -> Result<Shared<Lambda>, ShapeError> {
        let ty = |value: u32| changed(body.ty(value), to);
        let params: Vec<Tensor> = body.inputs.iter().map(|(_, v)| Tensor::apply(Op::Input(ty(*v)), &[])).collect();
        let results = lift(body, &params, to)?;
        Ok(Shared::new(Lambda { params, results }))
    };
    let op = match &instruction.kind {
        Kind::Fused(body) | Kind::Known(_, body) => return lift(body, inputs, to),
        Kind::Cond(yes, no) => Op::Cond(lambda(yes)?, lambda(no)?),
        Kind::Scan(dims, body) => Op::Scan(Arc::new(*dims), lambda(body)?),
        Kind::Op(op) => match op {
            Op::Data(_) | Op::Random(..) => return Ok(vec![converted(&Tensor::try_apply(op.clone(), inputs)?, to)]),
            Op::Constant(value, ty) => Op::Constant(*value, changed(ty, to)),
            Op::Iota(axis, ty) => Op::Iota(*axis, changed(ty, to)),
            Op::Cast(dtype) if dtype.is_float() => return Ok(vec![inputs[0].cast(to.unwrap_or(*dtype))]),
            other => other.clone(),
        },
    };
    let first = Tensor::try_apply(op, inputs)?;
    Ok((0..instruction.outputs.len()).map(|output| first.output(output)).collect())
}
