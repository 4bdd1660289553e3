//! Runs a program one operation at a time and keeps every value, so that one can look at what happened inside.
//!
//! The kernels are the executor's; nothing is fused or shared, and each operation is planned by itself. That is slow
//! beside a plan and exact beside it: for looking, not for training.

use chainrule::execute::ExecuteError;
use chainrule::program::{Instruction, Kind, Program, Value};
use chainrule::tensor::{ScanDims, Tensor, stack};

/// Every value of a program after it ran.
pub struct Replay<'a> {
    /// What was run.
    pub program: &'a Program,
    values: Vec<Option<Tensor>>,
    producers: Vec<Option<usize>>,
}

/// What a loop's body is given at one step.
pub(crate) struct Iterations {
    /// The arguments of the body, step after step in the order in which they ran.
    pub arguments: Vec<Vec<Tensor>>,
    results: Vec<Tensor>,
}

impl<'a> Replay<'a> {
    /// Runs every operation in order.
    ///
    /// # Errors
    /// If the arguments are not those the program takes, or an index is outside its axis.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule::program::capture;
    /// use chainrule_lens::replay::Replay;
    /// let x = Tensor::from([1.0, 2.0]);
    /// let program = capture("f", &[("x".into(), x.clone())], &[x.exp().log()]).unwrap();
    /// let replay = Replay::run(&program, &[x]).unwrap();
    /// let inside = program.instructions[0].outputs[0];
    /// assert_eq!(replay.value(inside).to_vec::<f64>()[0], 1f64.exp());
    /// ```
    pub fn run(program: &'a Program, arguments: &[Tensor]) -> Result<Replay<'a>, ExecuteError> {
        if arguments.len() != program.inputs.len() {
            let (takes, got) = (program.inputs.len(), arguments.len());
            return Err(ExecuteError::Arguments(format!("{} takes {takes} arguments, got {got}", program.name)));
        }
        let mut values: Vec<Option<Tensor>> = vec![None; program.types.len()];
        for ((name, value), argument) in program.inputs.iter().zip(arguments) {
            if argument.ty() != program.ty(*value) {
                let (takes, got) = (program.ty(*value), argument.ty());
                return Err(ExecuteError::Arguments(format!("{}: {name} is {takes}, got {got}", program.name)));
            }
            values[*value as usize] = Some(argument.try_eval()?);
        }
        let mut producers = vec![None; program.types.len()];
        for (place, instruction) in program.instructions.iter().enumerate() {
            let inputs: Vec<Tensor> = instruction.inputs.iter().map(|&v| held(&values, v)).collect();
            for (&output, result) in instruction.outputs.iter().zip(perform(instruction, &inputs)?) {
                values[output as usize] = Some(result);
                producers[output as usize] = Some(place);
            }
        }
        Ok(Replay { program, values, producers })
    }

    /// What a value was.
    ///
    /// # Panics
    /// If the program has no such value.
    #[track_caller]
    pub fn value(&self, value: Value) -> &Tensor {
        self.values[value as usize].as_ref().expect("every value of a program is made")
    }

    /// The place of the instruction that makes a value; none for an input.
    pub fn producer(&self, value: Value) -> Option<usize> {
        self.producers[value as usize]
    }

    /// The instruction that makes a value; none for an input.
    pub fn made_by(&self, value: Value) -> Option<&'a Instruction> {
        self.producer(value).map(|place| &self.program.instructions[place])
    }

    /// What an instruction was given.
    pub fn operands(&self, instruction: &Instruction) -> Vec<Tensor> {
        instruction.inputs.iter().map(|&value| self.value(value).clone()).collect()
    }
}

fn held(values: &[Option<Tensor>], value: Value) -> Tensor {
    values[value as usize].clone().expect("a program uses what it has made")
}

/// The results of one instruction.
fn perform(instruction: &Instruction, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError> {
    match &instruction.kind {
        Kind::Op(op) => {
            let first = Tensor::apply(op.clone(), inputs);
            (0..instruction.outputs.len()).map(|output| first.output(output).try_eval()).collect()
        }
        Kind::Fused(body) | Kind::Known(_, body) => results(body, inputs),
        Kind::Cond(yes, no) => results(branch(yes, no, inputs), &inputs[1..]),
        Kind::Scan(dims, body) => Ok(iterate(dims, body, inputs)?.results),
    }
}

fn results(body: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, ExecuteError> {
    let replay = Replay::run(body, inputs)?;
    Ok(body.outputs.iter().map(|&value| replay.value(value).clone()).collect())
}

/// The branch that a condition takes.
pub(crate) fn branch<'a>(yes: &'a Program, no: &'a Program, inputs: &[Tensor]) -> &'a Program {
    if inputs[0].item::<bool>() { yes } else { no }
}

/// Which slice the step of this number reads and writes.
pub(crate) fn slice_of(dims: &ScanDims, step: usize) -> usize {
    if dims.reverse { dims.length - 1 - step } else { step }
}

/// Runs a loop and keeps what its body was given at each step.
pub(crate) fn iterate(dims: &ScanDims, body: &Program, inputs: &[Tensor]) -> Result<Iterations, ExecuteError> {
    let (first, rest) = inputs.split_at(dims.carries);
    let (sequences, constants) = rest.split_at(dims.sequences);
    let mut carries = first.to_vec();
    let mut arguments = Vec::with_capacity(dims.length);
    let mut outputs: Vec<Vec<Tensor>> = vec![Vec::new(); dims.length];
    for step in 0..dims.length {
        let place = slice_of(dims, step);
        let slice = |x: &Tensor| x.narrow(0, place, 1).reshape(&x.shape()[1..]).try_eval();
        let mut given = carries;
        for sequence in sequences {
            given.push(slice(sequence)?);
        }
        given.extend(constants.iter().cloned());
        carries = results(body, &given)?;
        arguments.push(given);
        outputs[place] = carries.split_off(dims.carries);
    }
    let mut results = carries;
    for output in 0..body.outputs.len() - dims.carries {
        let ty = body.ty(body.outputs[dims.carries + output]);
        results.push(match dims.length {
            0 => Tensor::zeros([&[0], &ty.shape[..]].concat(), ty.dtype).try_eval()?,
            _ => stack(&outputs.iter().map(|row| row[output].clone()).collect::<Vec<_>>(), 0).try_eval()?,
        });
    }
    Ok(Iterations { arguments, results })
}
