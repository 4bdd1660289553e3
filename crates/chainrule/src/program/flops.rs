//! Counting what a program computes.

use super::{Instruction, Kind, Program};
use crate::tensor::{Binary, Op, Reduction, Unary};

impl Program {
    /// Floating-point operations of one run: one for an addition, multiplication or comparison, two for each term
    /// of a dot product or convolution (terms on padding or dilation zeros excepted), four for a division or square
    /// root, ten for a transcendental function; moving and selecting count nothing. A branch counts as its dearer
    /// side.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule::program::capture;
    /// let (a, b) = (Tensor::ones([2, 3], DType::F32), Tensor::ones([3, 4], DType::F32));
    /// let program = capture("f", &[("a".into(), a.clone()), ("b".into(), b.clone())], &[a.matmul(&b)]).unwrap();
    /// assert_eq!(program.flops(), 2 * 2 * 3 * 4);
    /// ```
    pub fn flops(&self) -> u64 {
        self.instructions.iter().map(|instruction| self.instruction_flops(instruction)).sum()
    }

    /// [`Program::flops`] of one instruction.
    pub(crate) fn instruction_flops(&self, instruction: &Instruction) -> u64 {
        let numel = |value: u32| self.ty(value).numel() as u64;
        let operand = |i: usize| self.ty(instruction.inputs[i]);
        let out = numel(instruction.outputs[0]);
        match &instruction.kind {
            Kind::Op(op) => match op {
                Op::Unary(unary) => out * unary_cost(*unary),
                Op::Binary(Binary::Pow) => out * 10,
                Op::Binary(Binary::Div) => out * 4,
                Op::Binary(_) | Op::Compare(_) => out,
                Op::Reduce(Reduction::Sum | Reduction::Max | Reduction::Min | Reduction::Prod, _) => {
                    operand(0).numel() as u64
                }
                Op::ArgReduce(..) | Op::Cumsum { .. } | Op::Fold(_) => operand(0).numel() as u64,
                Op::ScatterAdd { .. } => operand(1).numel() as u64,
                Op::Sort { axis, .. } => out * (operand(0).shape[*axis].max(2) as f64).log2().ceil() as u64,
                Op::Dot(dims) => {
                    let inner: u64 = dims.lhs_contract.iter().map(|&axis| operand(0).shape[axis] as u64).product();
                    2 * out * inner
                }
                Op::Conv(dims) => {
                    conv_flops(dims, &operand(0).shape, &operand(1).shape, &self.ty(instruction.outputs[0]).shape)
                }
                Op::Cholesky => out * operand(0).shape.last().map_or(0, |&n| n as u64) / 3,
                Op::TriangularSolve { .. } => out * operand(0).shape.last().map_or(0, |&n| n as u64),
                Op::Random(..) => out * 10,
                _ => 0,
            },
            Kind::Scan(dims, body) => dims.length as u64 * body.flops(),
            Kind::Cond(yes, no) => yes.flops().max(no.flops()),
            Kind::Fused(body) | Kind::Known(_, body) => body.flops(),
        }
    }
}

fn unary_cost(unary: Unary) -> u64 {
    match unary {
        Unary::Neg | Unary::Abs | Unary::Sign | Unary::Floor => 1,
        Unary::Not => 0,
        Unary::Sqrt => 4,
        _ => 10,
    }
}

/// Two for each product of an element of the operand with one of the kernel.
fn conv_flops(dims: &crate::tensor::ConvDims, x: &[usize], kernel: &[usize], out: &[usize]) -> u64 {
    let mut pairs: u64 = (out[0] * out[1] * kernel[1]) as u64;
    for i in 0..dims.stride.len() {
        let (size, dilation) = (x[i + 2] as isize, dims.lhs_dilation[i] as isize);
        let hits = |o: usize| {
            let start = (o * dims.stride[i]) as isize - dims.padding[i].0;
            let places = (0..kernel[i + 2]).map(move |k| start + (k * dims.rhs_dilation[i]) as isize);
            places.filter(|&p| p >= 0 && p % dilation == 0 && p / dilation < size).count() as u64
        };
        pairs *= (0..out[i + 2]).map(hits).sum::<u64>();
    }
    2 * pairs
}
