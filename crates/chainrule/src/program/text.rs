//! The stable text form: one line an operation, with shape, dtype and the user's line.

use super::{Instruction, Kind, Program, Value};
use crate::tensor::{Op, Scalar};
use std::fmt::{Display, Formatter, Result};

impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let names = Names::of(self);
        let inputs: Vec<String> =
            self.inputs.iter().map(|(_, v)| format!("{}: {}", names.get(*v), self.ty(*v))).collect();
        writeln!(f, "program {}({})", self.name, inputs.join(", "))?;
        self.write_body(f, "  ", true)
    }
}

impl Program {
    /// The text without the users' lines, as tests compare it.
    pub fn listing(&self) -> String {
        struct Plain<'a>(&'a Program);
        impl Display for Plain<'_> {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                self.0.write_body(f, "", false)
            }
        }
        Plain(self).to_string()
    }

    fn write_body(&self, f: &mut Formatter<'_>, indent: &str, lines: bool) -> Result {
        let names = Names::of(self);
        for instruction in &self.instructions {
            let outputs: Vec<String> = instruction.outputs.iter().map(|&v| names.get(v)).collect();
            let types: Vec<String> = instruction.outputs.iter().map(|&v| self.ty(v).to_string()).collect();
            let text = format!("{} : {} = {}", outputs.join(", "), types.join(", "), describe(instruction, &names));
            let region =
                if instruction.region > 0 { format!(" recompute {}", instruction.region) } else { String::new() };
            match lines {
                true => writeln!(f, "{indent}{text:<60} {}{region}", instruction.origin)?,
                false => writeln!(f, "{indent}{text}{region}")?,
            }
            for body in instruction.kind.bodies() {
                let names = Names::of(body);
                let inputs: Vec<String> =
                    body.inputs.iter().map(|(_, v)| format!("{}: {}", names.get(*v), body.ty(*v))).collect();
                writeln!(f, "{indent}  ({})", inputs.join(", "))?;
                body.write_body(f, &format!("{indent}    "), lines)?;
            }
        }
        let outputs: Vec<String> = self.outputs.iter().map(|&v| names.get(v)).collect();
        writeln!(f, "{indent}return {}", outputs.join(", "))
    }
}

struct Names(Vec<Option<String>>);

impl Names {
    fn of(program: &Program) -> Names {
        let mut names = vec![None; program.types.len()];
        for (name, value) in &program.inputs {
            names[*value as usize] = Some(name.clone()).filter(|name| name.contains(char::is_alphabetic));
        }
        Names(names)
    }
    fn get(&self, value: Value) -> String {
        self.0[value as usize].clone().unwrap_or_else(|| format!("%{value}"))
    }
}

fn describe(instruction: &Instruction, names: &Names) -> String {
    let operands: Vec<String> = instruction.inputs.iter().map(|&v| names.get(v)).collect();
    let mut text = instruction.kind.name().to_owned();
    for operand in &operands {
        text.push(' ');
        text.push_str(operand);
    }
    let extra = match &instruction.kind {
        Kind::Op(op) => attributes(op),
        Kind::Scan(dims, _) => format!("length={}{}", dims.length, if dims.reverse { " reverse" } else { "" }),
        Kind::Cond(..) | Kind::Fused(_) | Kind::Known(..) => String::new(),
    };
    if !extra.is_empty() {
        text.push(' ');
        text.push_str(&extra);
    }
    text
}

fn attributes(op: &Op) -> String {
    match op {
        Op::Constant(value, _) => match value {
            Scalar::Float(v) => format!("{v:?}"),
            Scalar::Int(v) => v.to_string(),
            Scalar::Bool(v) => v.to_string(),
        },
        Op::Iota(axis, _) => format!("axis={axis}"),
        Op::Random(distribution, _) => distribution.name().to_owned(),
        Op::Cast(dtype) => dtype.to_string(),
        Op::Permute(axes) | Op::Reverse(axes) | Op::Reduce(_, axes) => format!("axes={:?}", axes.as_slice()),
        Op::Broadcast(_, axes) => format!("axes={:?}", axes.as_slice()),
        Op::Slice(ranges) => format!("start,step,count={ranges:?}"),
        Op::Pad(amounts, value) => format!("low,high,interior={amounts:?} value={}", value.as_f64()),
        Op::Concat(axis) | Op::ArgReduce(_, axis) => format!("axis={axis}"),
        Op::Cumsum { axis, reverse } => format!("axis={axis}{}", if *reverse { " reverse" } else { "" }),
        Op::Sort { axis, descending } => format!("axis={axis}{}", if *descending { " descending" } else { "" }),
        Op::Gather { axis, batch } => format!("axis={axis} batch={batch}"),
        Op::ScatterAdd { axis, batch, size } => format!("axis={axis} batch={batch} size={size}"),
        Op::Dot(dims) => {
            let batch = if dims.lhs_batch.is_empty() {
                String::new()
            } else {
                format!("batch={:?}×{:?} ", dims.lhs_batch.as_slice(), dims.rhs_batch.as_slice())
            };
            format!("{batch}{:?}×{:?}", dims.lhs_contract.as_slice(), dims.rhs_contract.as_slice())
        }
        Op::Conv(dims) => format!(
            "stride={:?} padding={:?} dilation={:?}×{:?} groups={}",
            dims.stride.as_slice(),
            dims.padding.as_slice(),
            dims.lhs_dilation.as_slice(),
            dims.rhs_dilation.as_slice(),
            dims.groups
        ),
        Op::Unfold(windows) | Op::Fold(windows) => format!(
            "window={:?} stride={:?} dilation={:?}",
            windows.window.as_slice(),
            windows.stride.as_slice(),
            windows.dilation.as_slice()
        ),
        Op::TriangularSolve { lower, transpose } => {
            format!("{}{}", if *lower { "lower" } else { "upper" }, if *transpose { " transpose" } else { "" })
        }
        _ => String::new(),
    }
}
