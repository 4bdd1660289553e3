//! What every program must satisfy; debug builds check it after every pass.

use super::{Instruction, Kind, Program};
use crate::tensor::{Op, Type, infer};

impl Program {
    /// Checks that values are made once and before their use, and that types are what the operations give.
    ///
    /// # Errors
    /// The first rule that is broken, with the instruction.
    pub fn verify(&self) -> Result<(), String> {
        let mut known = vec![false; self.types.len()];
        for (name, value) in &self.inputs {
            match known.get_mut(*value as usize) {
                Some(known) => *known = true,
                None => return Err(format!("input {name} is value {value} of {}", self.types.len())),
            }
        }
        for (position, instruction) in self.instructions.iter().enumerate() {
            let at = |why: String| format!("instruction {position} ({}): {why}", instruction.kind.name());
            for &value in &instruction.inputs {
                if !known.get(value as usize).is_some_and(|known| *known) {
                    return Err(at(format!("uses %{value} before it is made")));
                }
            }
            if let Some(value) = instruction.outputs.iter().find(|&&value| value as usize >= self.types.len()) {
                return Err(at(format!("makes %{value} of {}", self.types.len())));
            }
            let inputs: Vec<&Type> = instruction.inputs.iter().map(|&value| self.ty(value)).collect();
            let types = instruction.kind.types(&inputs).map_err(at)?;
            let outputs: Vec<&Type> = instruction.outputs.iter().map(|&value| self.ty(value)).collect();
            if types.iter().collect::<Vec<_>>() != outputs {
                let list = |types: &[&Type]| types.iter().map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ");
                return Err(at(format!(
                    "gives {} and is listed as {}",
                    list(&types.iter().collect::<Vec<_>>()),
                    list(&outputs)
                )));
            }
            for &value in &instruction.outputs {
                if std::mem::replace(&mut known[value as usize], true) {
                    return Err(at(format!("makes %{value} again")));
                }
            }
            for body in instruction.kind.bodies() {
                body.verify().map_err(at)?;
            }
        }
        match self.outputs.iter().find(|&&value| !known.get(value as usize).is_some_and(|known| *known)) {
            Some(value) => Err(format!("returns %{value}, which is never made")),
            None => Ok(()),
        }
    }
}

impl Kind {
    /// The types an instruction gives for operands of these types.
    fn types(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let body_takes = |body: &Program, want: &[Type]| {
            let takes: Vec<&Type> = body.inputs.iter().map(|(_, value)| body.ty(*value)).collect();
            if takes.len() == want.len() && takes.iter().zip(want).all(|(a, b)| *a == b) {
                Ok(())
            } else {
                Err("the body takes other types".to_owned())
            }
        };
        let gives = |body: &Program| body.outputs.iter().map(|&value| body.ty(value).clone()).collect::<Vec<Type>>();
        let owned = |types: &[&Type]| types.iter().map(|&ty| ty.clone()).collect::<Vec<Type>>();
        match self {
            Kind::Op(Op::Scan(..) | Op::Cond(..) | Op::Call(..) | Op::Composite(_) | Op::Input(_)) => {
                Err("has no place in a program".into())
            }
            Kind::Op(op) => infer(op, inputs).map(|types| types.to_vec()).map_err(|error| error.to_string()),
            Kind::Scan(dims, body) => {
                let slices = dims.carries..dims.carries + dims.sequences;
                let want: Vec<Type> = owned(inputs)
                    .into_iter()
                    .enumerate()
                    .map(|(i, ty)| if slices.contains(&i) { ty.with_shape(ty.shape[1..].iter().copied()) } else { ty })
                    .collect();
                body_takes(body, &want)?;
                let stack = |(i, ty): (usize, Type)| match i < dims.carries {
                    true => ty,
                    false => ty.with_shape([dims.length].into_iter().chain(ty.shape.iter().copied())),
                };
                Ok(gives(body).into_iter().enumerate().map(stack).collect())
            }
            Kind::Cond(yes, no) => {
                body_takes(yes, &owned(&inputs[1..]))?;
                body_takes(no, &owned(&inputs[1..]))?;
                if gives(yes) != gives(no) {
                    return Err("the branches give other types".into());
                }
                Ok(gives(yes))
            }
            Kind::Known(_, body) => body_takes(body, &owned(inputs)).map(|()| gives(body)),
            Kind::Fused(body) => {
                body_takes(body, &owned(inputs))?;
                let space = super::Space::of(body);
                let member = |instruction: &Instruction| match &instruction.kind {
                    Kind::Op(op) => {
                        let inputs: Vec<&Type> = instruction.inputs.iter().map(|&value| body.ty(value)).collect();
                        space.takes(op, &inputs, body.ty(instruction.outputs[0]))
                    }
                    _ => false,
                };
                match body.instructions.iter().all(member) {
                    true => Ok(gives(body)),
                    false => Err("holds what is not elementwise over one shape or its rows".into()),
                }
            }
        }
    }
}
