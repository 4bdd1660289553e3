//! From instructions to steps: infers and checks dtypes, then gives each value a slot by liveness. Linear time.

use super::loops;
use super::{Constant, Form, Instruction, Output, Step, Tape};
use crate::alphabet::{Binary, DType, Unary};
use crate::simd::{Level, level};
use std::collections::HashMap;

/// Where a value is found while the tape runs.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Input(u32),
    Constant(u32),
    /// Width class (0: 8 bytes, 1: 4, 2: 1) and index within it.
    Register(u8, u32),
    Output(u32),
    /// Nowhere: it is made inside the step of its only reader.
    Inside,
}

/// How far behind a product its sum may stand to be made in one step: the product's factors are kept so long.
const NEAR: usize = 16;

const WIDTHS: [u8; 3] = [8, 4, 1];

/// The dtype that a register of a logical dtype is stored as.
pub(super) fn stored(dtype: DType) -> DType {
    match dtype {
        DType::BF16 | DType::F16 => DType::F32,
        other => other,
    }
}

fn class(dtype: DType) -> u8 {
    match stored(dtype).size() {
        8 => 0,
        4 => 1,
        _ => 2,
    }
}

impl Tape {
    /// Checks and compiles a list of instructions. `outputs` names a register for each output; the output's dtype is
    /// the register's. An error names the instruction and what is wrong with it.
    pub fn new(inputs: &[DType], instructions: Vec<Instruction>, outputs: &[usize]) -> Result<Tape, String> {
        Tape::at_level(level(), inputs, &instructions, outputs)
    }

    /// As `new`, for a chosen instruction set.
    pub(super) fn at_level(
        level: Level,
        inputs: &[DType],
        instructions: &[Instruction],
        outputs: &[usize],
    ) -> Result<Tape, String> {
        let dtypes = infer(inputs, instructions)?;
        let extents = extents(inputs.len(), instructions)?;
        if let Some(&wrong) = outputs.iter().find(|&&register| register >= instructions.len()) {
            return Err(format!("output register {wrong} does not exist: there are {}", instructions.len()));
        }
        let order = early(instructions, outputs);
        let mut number = vec![0; instructions.len()];
        order.iter().enumerate().for_each(|(new, &old)| number[old] = new);
        let instructions: Vec<Instruction> = order.iter().map(|&i| renumbered(instructions[i], &number)).collect();
        let outputs: Vec<usize> = outputs.iter().map(|&old| number[old]).collect();
        let dtypes = order.iter().map(|&i| dtypes[i]).collect();
        let extents = order.iter().map(|&i| extents[i]).collect();
        Ok(Compiler::new(level, inputs, &instructions, &outputs, dtypes, extents).run(&outputs))
    }
}

/// How long an instruction takes on an element, in plain arithmetic.
fn weight(instruction: &Instruction) -> usize {
    match instruction {
        Instruction::Load { .. } | Instruction::LoadRow { .. } | Instruction::Constant { .. } => 0,
        Instruction::Unary(Unary::Neg | Unary::Abs | Unary::Sign | Unary::Not | Unary::Floor, _) => 1,
        Instruction::Unary(..) | Instruction::Binary(Binary::Pow, ..) => 8,
        _ => 1,
    }
}

/// Operands of an instruction.
fn operands(instruction: &Instruction) -> [Option<usize>; 3] {
    match *instruction {
        Instruction::Load { .. } | Instruction::LoadRow { .. } | Instruction::Constant { .. } => [None; 3],
        Instruction::Unary(_, a) | Instruction::Cast(_, a) | Instruction::Reduce(_, a) | Instruction::Spread(a) => {
            [Some(a), None, None]
        }
        Instruction::Binary(_, a, b) | Instruction::Compare(_, a, b) => [Some(a), Some(b), None],
        Instruction::Select(a, b, c) => [Some(a), Some(b), Some(c)],
    }
}

/// For each sum, difference or product, the product among its operands that is made in the same step: one that nothing
/// else reads.
fn joined(instructions: &[Instruction], dtypes: &[DType], outputs: &[usize]) -> Vec<Option<usize>> {
    let mut readers = vec![0; instructions.len()];
    instructions.iter().flat_map(operands).flatten().chain(outputs.iter().copied()).for_each(|r| readers[r] += 1);
    let mut joined: Vec<Option<usize>> = vec![None; instructions.len()];
    for (i, instruction) in instructions.iter().enumerate() {
        let Instruction::Binary(Binary::Add | Binary::Sub | Binary::Mul, a, b) = *instruction else { continue };
        joined[i] = [a, b].into_iter().find(|&at| {
            let product = matches!(instructions[at], Instruction::Binary(Binary::Mul, ..)) && dtypes[at].is_float();
            product && readers[at] == 1 && joined[at].is_none() && i - at <= NEAR
        });
    }
    joined
}

/// The instructions in an order that shortens waiting: what reads one register, as the last to do so, stands right after
/// the reader before it. A register is needed for the one or the other, so no more are; but a function and its slope are
/// worked out side by side, instead of the slope when all is over.
fn early(instructions: &[Instruction], outputs: &[usize]) -> Vec<usize> {
    if instructions.len() <= NEAR {
        return (0..instructions.len()).collect();
    }
    let constant = |r: usize| matches!(instructions[r], Instruction::Constant { .. });
    // Of each register, where it is written or read for the last time, and before that.
    let mut reads: Vec<[usize; 2]> = (0..instructions.len()).map(|i| [i, i]).collect();
    for (i, instruction) in instructions.iter().enumerate() {
        for r in operands(instruction).into_iter().flatten() {
            if reads[r][1] != i {
                reads[r] = [reads[r][1], i];
            }
        }
    }
    outputs.iter().for_each(|&r| reads[r][1] = usize::MAX);
    // What follows each instruction at once, and what does not stand in its own place.
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); instructions.len()];
    let mut moved = vec![false; instructions.len()];
    for (i, instruction) in instructions.iter().enumerate() {
        if !matches!(instruction, Instruction::Unary(..) | Instruction::Binary(..)) {
            continue;
        }
        let mut from = operands(instruction).into_iter().flatten().filter(|&r| !constant(r));
        let Some(first) = from.next() else { continue };
        let [before, last] = reads[first];
        if from.all(|r| r == first) && last == i && before + NEAR < i {
            next[before].push(i);
            moved[i] = true;
        }
    }
    let mut order: Vec<usize> = (0..instructions.len()).filter(|&i| constant(i)).collect();
    let mut stack = Vec::new();
    for i in (0..instructions.len()).filter(|&i| !moved[i] && !constant(i)) {
        stack.push(i);
        while let Some(i) = stack.pop() {
            order.push(i);
            stack.extend(next[i].iter().rev());
        }
    }
    order
}

/// An instruction over registers of other numbers.
fn renumbered(instruction: Instruction, number: &[usize]) -> Instruction {
    match instruction {
        Instruction::Unary(op, a) => Instruction::Unary(op, number[a]),
        Instruction::Binary(op, a, b) => Instruction::Binary(op, number[a], number[b]),
        Instruction::Compare(op, a, b) => Instruction::Compare(op, number[a], number[b]),
        Instruction::Select(a, b, c) => Instruction::Select(number[a], number[b], number[c]),
        Instruction::Cast(to, a) => Instruction::Cast(to, number[a]),
        Instruction::Reduce(op, a) => Instruction::Reduce(op, number[a]),
        Instruction::Spread(a) => Instruction::Spread(number[a]),
        fixed @ (Instruction::Load { .. } | Instruction::LoadRow { .. } | Instruction::Constant { .. }) => fixed,
    }
}

/// The dtype of each register.
fn infer(inputs: &[DType], instructions: &[Instruction]) -> Result<Vec<DType>, String> {
    let mut dtypes: Vec<DType> = Vec::with_capacity(instructions.len());
    for (i, instruction) in instructions.iter().enumerate() {
        for operand in operands(instruction).into_iter().flatten() {
            if operand >= i {
                return Err(format!("instruction {i} reads register {operand}, which is not yet written"));
            }
        }
        let same = |a: usize, b: usize| match dtypes[a] == dtypes[b] {
            true => Ok(dtypes[a]),
            false => Err(format!("instruction {i} mixes {} and {}", dtypes[a], dtypes[b])),
        };
        let dtype = match *instruction {
            Instruction::Load { input } | Instruction::LoadRow { input } => {
                *inputs.get(input).ok_or_else(|| format!("instruction {i} loads input {input} of {}", inputs.len()))?
            }
            Instruction::Constant { value } => value.dtype(),
            Instruction::Unary(op, a) => {
                let dtype = dtypes[a];
                let fits = match op {
                    Unary::Not => dtype == DType::Bool,
                    Unary::Neg | Unary::Abs | Unary::Sign => dtype != DType::Bool,
                    _ => dtype.is_float(),
                };
                if !fits {
                    return Err(format!("instruction {i}: {} does not take {dtype}", op.name()));
                }
                dtype
            }
            Instruction::Binary(op, a, b) => {
                let dtype = same(a, b)?;
                let fits = match op {
                    Binary::And | Binary::Or => dtype == DType::Bool,
                    Binary::Max | Binary::Min => true,
                    Binary::Pow => dtype.is_float(),
                    _ => dtype != DType::Bool,
                };
                if !fits {
                    return Err(format!("instruction {i}: {} does not take {dtype}", op.name()));
                }
                dtype
            }
            Instruction::Compare(_, a, b) => same(a, b).map(|_| DType::Bool)?,
            Instruction::Select(condition, a, b) => {
                if dtypes[condition] != DType::Bool {
                    return Err(format!("instruction {i} selects by {}, not bool", dtypes[condition]));
                }
                same(a, b)?
            }
            Instruction::Cast(to, _) => to,
            Instruction::Reduce(op, a) if dtypes[a] == DType::Bool => {
                return Err(format!("instruction {i}: {} of bools along a row", op.name()));
            }
            Instruction::Reduce(_, a) | Instruction::Spread(a) => dtypes[a],
        };
        dtypes.push(dtype);
    }
    Ok(dtypes)
}

/// How many elements a register has.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    /// The same one everywhere: as many as are wanted.
    Any,
    Tile,
    Row,
}

/// The extent of each register, which operations on several must share.
fn extents(inputs: usize, instructions: &[Instruction]) -> Result<Vec<Extent>, String> {
    let mut of_input = vec![Extent::Any; inputs];
    let mut extents: Vec<Extent> = Vec::with_capacity(instructions.len());
    for (i, instruction) in instructions.iter().enumerate() {
        let joined = |a: Extent, b: Extent| match (a, b) {
            (Extent::Any, other) | (other, Extent::Any) => Ok(other),
            (a, b) if a == b => Ok(a),
            _ => Err(format!("instruction {i} mixes elements and rows")),
        };
        let mut load = |input: usize, extent: Extent| {
            of_input[input] = joined(of_input[input], extent)?;
            Ok::<Extent, String>(extent)
        };
        let extent = match *instruction {
            Instruction::Load { input } => load(input, Extent::Tile)?,
            Instruction::LoadRow { input } => load(input, Extent::Row)?,
            Instruction::Reduce(_, a) if extents[a] == Extent::Row => {
                return Err(format!("instruction {i} reduces rows that are already one element"));
            }
            Instruction::Reduce(..) => Extent::Row,
            Instruction::Spread(a) if extents[a] == Extent::Tile => {
                return Err(format!("instruction {i} spreads what has more than one element a row"));
            }
            Instruction::Spread(_) => Extent::Tile,
            _ => operands(instruction).into_iter().flatten().try_fold(Extent::Any, |all, a| joined(all, extents[a]))?,
        };
        extents.push(extent);
    }
    Ok(extents)
}

/// The registers that instruction `i`'s step reads: its operands, a product's factors in place of one it takes in.
fn reads(instructions: &[Instruction], joined: &[Option<usize>], i: usize) -> [Option<usize>; 3] {
    match (joined[i], &instructions[i]) {
        (Some(product), &Instruction::Binary(_, a, b)) => {
            let [x, y, _] = operands(&instructions[product]);
            [x, y, Some(if a == product { b } else { a })]
        }
        (_, instruction) => operands(instruction),
    }
}

struct Compiler<'a> {
    level: Level,
    inputs: &'a [DType],
    instructions: &'a [Instruction],
    dtypes: Vec<DType>,
    extents: Vec<Extent>,
    /// For each instruction, the product it takes in.
    joined: Vec<Option<usize>>,
    /// Whether an instruction is a product that is taken in.
    inside: Vec<bool>,
    /// Instruction that reads a register last; `usize::MAX` keeps it to the end.
    last_use: Vec<usize>,
    /// Output that a register may be written to directly.
    direct: HashMap<usize, u32>,
    places: Vec<Place>,
    constants: Vec<Constant>,
    known: HashMap<(u64, u8), u32>,
    free: [Vec<u32>; 3],
    used: [u32; 3],
    steps: Vec<(crate::simd::RawLoop, Form, Place, [Place; 3])>,
    last_read: Vec<u32>,
    /// First step that writes each output; `u32::MAX` until there is one.
    written: Vec<u32>,
}

impl<'a> Compiler<'a> {
    fn new(
        level: Level,
        inputs: &'a [DType],
        instructions: &'a [Instruction],
        outputs: &[usize],
        dtypes: Vec<DType>,
        extents: Vec<Extent>,
    ) -> Compiler<'a> {
        let joined = joined(instructions, &dtypes, outputs);
        let mut inside = vec![false; instructions.len()];
        joined.iter().flatten().for_each(|&product| inside[product] = true);
        let mut last_use = vec![0; instructions.len()];
        for i in 0..instructions.len() {
            last_use[i] = i;
            for operand in reads(instructions, &joined, i).into_iter().flatten() {
                last_use[operand] = i;
            }
        }
        let mut direct = HashMap::new();
        for (k, &register) in outputs.iter().enumerate() {
            last_use[register] = usize::MAX;
            let moved = matches!(
                instructions[register],
                Instruction::Load { .. } | Instruction::LoadRow { .. } | Instruction::Constant { .. }
            );
            if !moved && stored(dtypes[register]) == dtypes[register] {
                direct.entry(register).or_insert(k as u32);
            }
        }
        Compiler {
            level,
            inputs,
            instructions,
            joined,
            inside,
            last_use,
            direct,
            places: Vec::with_capacity(instructions.len()),
            constants: vec![],
            known: HashMap::new(),
            free: Default::default(),
            used: [0; 3],
            steps: Vec::with_capacity(instructions.len()),
            last_read: vec![0; inputs.len()],
            written: vec![u32::MAX; outputs.len()],
            dtypes,
            extents,
        }
    }

    fn run(mut self, outputs: &[usize]) -> Tape {
        for i in 0..self.instructions.len() {
            let place = self.place(i);
            self.places.push(place);
        }
        for (k, &register) in outputs.iter().enumerate() {
            if self.places[register] != Place::Output(k as u32) {
                let run = loops::store(self.level, self.dtypes[register]);
                self.push(run, self.form(register), Place::Output(k as u32), &[self.places[register]]);
            }
        }
        let (inputs, constants) = (self.inputs.len() as u32, self.constants.len() as u32);
        let [wide, middle, narrow] = self.used;
        let slot = |place: Place| match place {
            Place::Input(i) => i,
            Place::Constant(i) => inputs + i,
            Place::Register(class, i) => inputs + constants + [0, wide, wide + middle][class as usize] + i,
            Place::Output(k) => inputs + constants + wide + middle + narrow + k,
            Place::Inside => unreachable!("it has no reader but the step it is made in"),
        };
        let steps = self.steps.iter().map(|&(run, form, out, [a, b, c])| Step {
            run,
            form,
            out: slot(out),
            a: slot(a),
            b: slot(b),
            c: slot(c),
        });
        let widths = WIDTHS.iter().zip(self.used).flat_map(|(&w, n)| std::iter::repeat_n(w, n as usize));
        let row = |register: usize| self.extents[register] == Extent::Row;
        let mut row_inputs = vec![false; self.inputs.len()];
        for instruction in self.instructions {
            if let Instruction::LoadRow { input } = *instruction {
                row_inputs[input] = true;
            }
        }
        Tape {
            inputs: self.inputs.to_vec(),
            row_inputs,
            by_rows: self.extents.contains(&Extent::Row),
            steps: steps.collect(),
            weight: self.instructions.iter().map(weight).sum(),
            registers: widths.collect(),
            outputs: outputs
                .iter()
                .zip(&self.written)
                .map(|(&r, &w)| Output { dtype: self.dtypes[r], written: w, row: row(r) })
                .collect(),
            last_read: self.last_read,
            instructions: self.instructions.len(),
            constants: self.constants,
        }
    }

    /// Finds a place for the result of instruction `i`, and appends its step.
    fn place(&mut self, i: usize) -> Place {
        let (level, dtype) = (self.level, self.dtypes[i]);
        let of = |register: usize| self.dtypes[register];
        let mut form = self.form(i);
        if self.inside[i] {
            return Place::Inside;
        }
        let run = match self.instructions[i] {
            Instruction::Load { input } | Instruction::LoadRow { input } if stored(dtype) == dtype => {
                return Place::Input(input as u32);
            }
            Instruction::Load { input } | Instruction::LoadRow { input } => {
                let out = self.target(i);
                self.push(loops::load(level, dtype), form, out, &[Place::Input(input as u32)]);
                return self.settle(i, out);
            }
            Instruction::Constant { value } => {
                let (bits, size) = loops::constant(value);
                let constants = &mut self.constants;
                let index = *self.known.entry((bits, size)).or_insert_with(|| {
                    constants.push(Constant { bits, size, fill: loops::fill(level, size) });
                    constants.len() as u32 - 1
                });
                return Place::Constant(index);
            }
            Instruction::Unary(op, _) => loops::unary(level, op, dtype),
            Instruction::Binary(op, a, _) => match self.joined[i] {
                Some(product) => loops::product_and(level, op, a == product, dtype),
                None => loops::binary(level, op, dtype),
            },
            Instruction::Compare(op, a, _) => loops::compare(level, op, of(a)),
            Instruction::Select(..) => loops::select(level, dtype),
            Instruction::Cast(to, a) => loops::cast(level, of(a), to),
            Instruction::Reduce(op, _) => {
                form = Form::Reduce(stored(dtype).size() as u8);
                loops::reduce(level, op, dtype)
            }
            Instruction::Spread(_) => {
                form = Form::Spread(stored(dtype).size() as u8);
                loops::fill(level, stored(dtype).size() as u8)
            }
        };
        let out = self.target(i);
        let mut sources = [out; 3];
        let mut count = 0;
        let reads = reads(self.instructions, &self.joined, i);
        for operand in reads.into_iter().flatten() {
            sources[count] = self.places[operand];
            count += 1;
        }
        self.push(run, form, out, &sources[..count]);
        for operand in reads.into_iter().flatten() {
            if self.last_use[operand] == i {
                self.release(self.places[operand]);
                self.last_use[operand] = usize::MAX; // released once, even if read twice here
            }
        }
        self.settle(i, out)
    }

    /// The slot a result is written to. It is taken before operands are released, so a loop never overwrites what it
    /// reads.
    fn target(&mut self, i: usize) -> Place {
        if let Some(&k) = self.direct.get(&i) {
            return Place::Output(k);
        }
        let class = class(self.dtypes[i]);
        let free = &mut self.free[class as usize];
        let index = free.pop().unwrap_or_else(|| {
            self.used[class as usize] += 1;
            self.used[class as usize] - 1
        });
        Place::Register(class, index)
    }

    /// A result that nobody reads gives its slot back at once.
    fn settle(&mut self, i: usize, out: Place) -> Place {
        if self.last_use[i] == i {
            self.release(out);
        }
        out
    }

    fn release(&mut self, place: Place) {
        if let Place::Register(class, index) = place {
            self.free[class as usize].push(index);
        }
    }

    /// How an elementwise step that makes register `i` runs.
    fn form(&self, i: usize) -> Form {
        if self.extents[i] == Extent::Row { Form::Row } else { Form::Each }
    }

    fn push(&mut self, run: crate::simd::RawLoop, form: Form, out: Place, sources: &[Place]) {
        for source in sources {
            if let Place::Input(input) = source {
                self.last_read[*input as usize] = self.steps.len() as u32;
            }
        }
        if let Place::Output(k) = out {
            self.written[k as usize] = self.written[k as usize].min(self.steps.len() as u32);
        }
        let first = sources[0];
        let at = |n: usize| sources.get(n).copied().unwrap_or(first);
        self.steps.push((run, form, out, [first, at(1), at(2)]));
    }
}
