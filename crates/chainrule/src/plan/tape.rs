//! From a fused body to a tape of the vector machine.

use crate::program::{Kind, Program, Space, Value};
use crate::tensor::{DType, Op, Scalar as Number};
use chainrule_kernels::element::Scalar;
use chainrule_kernels::tape::{Instruction, Tape};
use rustc_hash::FxHashMap;

/// A number as the kernels hold it.
pub(super) fn scalar(value: Number, dtype: DType) -> Scalar {
    match dtype.is_float() {
        true => Scalar::from_f64(dtype, value.as_f64()),
        false => Scalar::from_i64(dtype, value.as_i64()),
    }
}

/// The instruction of an elementwise operation over registers.
pub(super) fn instruction(op: &Op, registers: &[usize]) -> Instruction {
    match op {
        Op::Unary(unary) => Instruction::Unary(*unary, registers[0]),
        Op::Binary(binary) => Instruction::Binary(*binary, registers[0], registers[1]),
        Op::Compare(compare) => Instruction::Compare(*compare, registers[0], registers[1]),
        Op::Select => Instruction::Select(registers[0], registers[1], registers[2]),
        Op::Cast(dtype) => Instruction::Cast(*dtype, registers[0]),
        Op::Constant(value, ty) => Instruction::Constant { value: scalar(*value, ty.dtype) },
        other => unreachable!("{} is not elementwise", other.name()),
    }
}

/// The tape of a fused body.
pub(super) fn compile(body: &Program) -> Tape {
    let mut registers: FxHashMap<Value, usize> = FxHashMap::default();
    let mut instructions = Vec::with_capacity(body.inputs.len() + body.instructions.len());
    let shape = Space::of(body).shape;
    for (input, (_, value)) in body.inputs.iter().enumerate() {
        registers.insert(*value, instructions.len());
        instructions.push(match body.ty(*value).shape == shape {
            true => Instruction::Load { input },
            false => Instruction::LoadRow { input },
        });
    }
    for step in &body.instructions {
        let Kind::Op(op) = &step.kind else { unreachable!("a fused body is flat") };
        let operands: smallvec::SmallVec<[usize; 3]> = step.inputs.iter().map(|value| registers[value]).collect();
        if let Op::Reshape(_) = op {
            // With or without the axis of one element, a row's value is the same register.
            registers.insert(step.outputs[0], operands[0]);
            continue;
        }
        registers.insert(step.outputs[0], instructions.len());
        instructions.push(match op {
            Op::Reduce(reduction, _) => Instruction::Reduce(*reduction, operands[0]),
            Op::Broadcast(..) => Instruction::Spread(operands[0]),
            _ => instruction(op, &operands),
        });
    }
    let dtypes: Vec<DType> = body.inputs.iter().map(|(_, value)| body.ty(*value).dtype).collect();
    let outputs: Vec<usize> = body.outputs.iter().map(|value| registers[value]).collect();
    match Tape::new(&dtypes, instructions, &outputs) {
        Ok(tape) => tape,
        Err(error) => unreachable!("a verified body compiles: {error}"),
    }
}
