//! The reference: what every operation means, as slow and plain as can be written.
//!
//! Here a result is a function from an index to a number. Floats are computed in double precision and rounded to
//! the dtype once an operation; sums go from left to right; integers wrap. The executor is tested against this, so
//! nothing here shares code with the kernels (random bits excepted, where the generator is the definition), and
//! nothing here is ever made faster at the cost of a reader.

mod scalar;

use super::{Instruction, Kind, Program};
use crate::tensor::{ConvDims, DType, DotDims, Op, ScanDims, Shape, Storage, Tensor, Type, Windows};
use chainrule_kernels::{Buffer, Pool, ViewMut, random};
use half::{bf16, f16};
use scalar::{Number, binary, compare, join, unary};

/// A value as the reference holds it: numbers in double precision rounded to the dtype after every operation, or
/// integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Interpreted {
    /// Shape and dtype.
    pub ty: Type,
    /// The elements in row-major order.
    pub numbers: Numbers,
}

/// Elements of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Floats of any dtype, rounded to it.
    Float(Vec<f64>),
    /// Integers of any dtype; bool is 0 or 1.
    Int(Vec<i64>),
}

/// The coordinates of an element.
type Index = Shape;

impl Interpreted {
    /// The numbers of a leaf.
    ///
    /// # Panics
    /// If the tensor is an expression; evaluate it first.
    pub fn from_tensor(leaf: &Tensor) -> Interpreted {
        let storage = leaf.storage().unwrap_or_else(|| panic!("the reference reads leaves, not {leaf:?}"));
        Interpreted::from_storage(storage)
    }

    /// The numbers in memory.
    pub fn from_storage(storage: &Storage) -> Interpreted {
        let numbers = match storage.ty().dtype {
            DType::F32 => Numbers::Float(storage.as_slice::<f32>().iter().map(|&x| x as f64).collect()),
            DType::F64 => Numbers::Float(storage.as_slice::<f64>().to_vec()),
            DType::BF16 => Numbers::Float(storage.as_slice::<bf16>().iter().map(|x| x.to_f64()).collect()),
            DType::F16 => Numbers::Float(storage.as_slice::<f16>().iter().map(|x| x.to_f64()).collect()),
            DType::I32 => Numbers::Int(storage.as_slice::<i32>().iter().map(|&x| x as i64).collect()),
            DType::I64 => Numbers::Int(storage.as_slice::<i64>().to_vec()),
            DType::U8 => Numbers::Int(storage.as_slice::<u8>().iter().map(|&x| x as i64).collect()),
            DType::Bool => Numbers::Int(storage.as_slice::<bool>().iter().map(|&x| x as i64).collect()),
        };
        Interpreted { ty: storage.ty().clone(), numbers }
    }

    /// The same numbers as a leaf.
    pub fn into_tensor(self) -> Tensor {
        let shape = self.ty.shape;
        match (self.ty.dtype, self.numbers) {
            (DType::F32, Numbers::Float(v)) => Tensor::from_vec(v.iter().map(|&x| x as f32).collect::<Vec<_>>(), shape),
            (DType::F64, Numbers::Float(v)) => Tensor::from_vec(v, shape),
            (DType::BF16, Numbers::Float(v)) => {
                Tensor::from_vec(v.iter().map(|&x| bf16::from_f32(x as f32)).collect::<Vec<_>>(), shape)
            }
            (DType::F16, Numbers::Float(v)) => {
                Tensor::from_vec(v.iter().map(|&x| f16::from_f32(x as f32)).collect::<Vec<_>>(), shape)
            }
            (DType::I32, Numbers::Int(v)) => Tensor::from_vec(v.iter().map(|&x| x as i32).collect::<Vec<_>>(), shape),
            (DType::I64, Numbers::Int(v)) => Tensor::from_vec(v, shape),
            (DType::U8, Numbers::Int(v)) => Tensor::from_vec(v.iter().map(|&x| x as u8).collect::<Vec<_>>(), shape),
            (DType::Bool, Numbers::Int(v)) => Tensor::from_vec(v.iter().map(|&x| x != 0).collect::<Vec<_>>(), shape),
            (dtype, numbers) => panic!("{numbers:?} are no {dtype}"),
        }
    }

    /// The numbers in double precision, whatever the dtype.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.numbers {
            Numbers::Float(numbers) => numbers.clone(),
            Numbers::Int(numbers) => numbers.iter().map(|&x| x as f64).collect(),
        }
    }

    /// A value from its elements in row-major order, each converted to the dtype.
    fn collect(ty: &Type, elements: impl Iterator<Item = Number>) -> Interpreted {
        let elements = elements.map(|element| element.cast(ty.dtype));
        let numbers = if ty.dtype.is_float() {
            Numbers::Float(elements.map(Number::float).collect())
        } else {
            Numbers::Int(elements.map(Number::int).collect())
        };
        Interpreted { ty: ty.clone(), numbers }
    }

    /// A value from what stands at each index, converted to the dtype.
    fn make(ty: &Type, mut element: impl FnMut(&[usize]) -> Number) -> Interpreted {
        Interpreted::collect(ty, indexes(&ty.shape).map(|at| element(&at)))
    }

    /// An element by its row-major position.
    fn get(&self, position: usize) -> Number {
        match &self.numbers {
            Numbers::Float(numbers) => Number::Float(numbers[position]),
            Numbers::Int(numbers) => Number::Int(numbers[position]),
        }
    }

    /// An element by its index.
    fn at(&self, index: &[usize]) -> Number {
        self.get(position(&self.ty.shape, index))
    }
}

/// Every index of a shape in row-major order.
fn indexes(shape: &[usize]) -> impl Iterator<Item = Index> + use<> {
    let shape = Index::from(shape);
    (0..shape.iter().product()).map(move |mut position: usize| {
        let mut index = shape.clone();
        for (i, &size) in index.iter_mut().zip(&shape).rev() {
            *i = position % size;
            position /= size;
        }
        index
    })
}

/// The row-major position of an index.
fn position(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |position, (&size, &i)| position * size + i)
}

fn zero(dtype: DType) -> Number {
    Number::Int(0).cast(dtype)
}

/// The index with `values[i]` on axis `axes[i]` for each of the pairs, which together name all axes.
fn on_axes<const N: usize>(pairs: [(&[usize], &[usize]); N]) -> Index {
    let mut index: Index = pairs.iter().flat_map(|(axes, _)| *axes).map(|_| 0).collect();
    for (&axis, &i) in pairs.iter().flat_map(|(axes, values)| axes.iter().zip(*values)) {
        index[axis] = i;
    }
    index
}

/// Sizes of some axes.
fn sizes(shape: &[usize], axes: &[usize]) -> Index {
    axes.iter().map(|&axis| shape[axis]).collect()
}

/// The index with the coordinate of one axis replaced.
fn with(index: &[usize], axis: usize, i: usize) -> Index {
    let mut index: Index = index.into();
    index[axis] = i;
    index
}

/// Runs a program that verifies, the inputs in its order.
///
/// # Errors
/// If the inputs are not what the program takes, an operation does not belong in a program, or an index of a gather
/// or scatter is outside its axis.
pub fn interpret(program: &Program, inputs: &[Interpreted]) -> Result<Vec<Interpreted>, String> {
    if inputs.len() != program.inputs.len() {
        return Err(format!("{} takes {} inputs, got {}", program.name, program.inputs.len(), inputs.len()));
    }
    let mut values: Vec<Option<Interpreted>> = vec![None; program.types.len()];
    for ((name, value), input) in program.inputs.iter().zip(inputs) {
        if input.ty != *program.ty(*value) {
            return Err(format!("{}: input {name} is {} and was given {}", program.name, program.ty(*value), input.ty));
        }
        values[*value as usize] = Some(input.clone());
    }
    let known = |values: &[Option<Interpreted>], value: u32| {
        values[value as usize].clone().ok_or_else(|| format!("%{value} is used before it is made"))
    };
    for instruction in &program.instructions {
        let inputs: Vec<Interpreted> =
            instruction.inputs.iter().map(|&value| known(&values, value)).collect::<Result<_, _>>()?;
        let types: Vec<&Type> = instruction.outputs.iter().map(|&value| program.ty(value)).collect();
        let results = run(instruction, &inputs, &types)?;
        for (&output, result) in instruction.outputs.iter().zip(results) {
            values[output as usize] = Some(result);
        }
    }
    program.outputs.iter().map(|&value| known(&values, value)).collect()
}

/// The results of one instruction, of these types.
fn run(instruction: &Instruction, inputs: &[Interpreted], types: &[&Type]) -> Result<Vec<Interpreted>, String> {
    match &instruction.kind {
        Kind::Op(op) => evaluate(op, inputs, types),
        Kind::Scan(dims, body) => scan(dims, body, inputs, types),
        Kind::Cond(yes, no) => {
            let branch = if inputs[0].get(0) == Number::Int(1) { yes } else { no };
            interpret(branch, &inputs[1..])
        }
        Kind::Fused(body) | Kind::Known(_, body) => interpret(body, inputs),
    }
}

/// One operation: for each, what stands at an index of the result.
fn evaluate(op: &Op, inputs: &[Interpreted], types: &[&Type]) -> Result<Vec<Interpreted>, String> {
    let ty = types[0];
    let zero = zero(ty.dtype);
    let x = |at: &[usize]| inputs[0].at(at);
    let y = |at: &[usize]| inputs[1].at(at);
    let shape = inputs.first().map_or(&[][..], |x| &x.ty.shape);
    let result = match op {
        Op::Input(_)
        | Op::Variable
        | Op::StopGradient
        | Op::Scan(..)
        | Op::Cond(..)
        | Op::Call(..)
        | Op::Composite(_) => return Err(format!("{} has no place in a program", op.name())),

        Op::Data(storage) => Interpreted::from_storage(storage),
        Op::Constant(scalar, _) => Interpreted::make(ty, |_| (*scalar).into()),
        Op::Iota(axis, _) => Interpreted::make(ty, |at| Number::Int(at[*axis] as i64)),
        Op::Random(distribution, sample) => {
            let keys: Vec<i64> = (0..inputs[0].ty.numel()).map(|i| inputs[0].get(i).int()).collect();
            let mut buffer = Buffer::zeroed(ty.bytes());
            let out = ViewMut::new(buffer.bytes_mut(), ty.dtype);
            random(&Pool::new(1), *distribution, &keys, sample.numel(), out);
            Interpreted::from_storage(&Storage::new(buffer, ty.clone()))
        }

        Op::Unary(f) => Interpreted::make(ty, |at| unary(*f, x(at))),
        Op::Binary(f) => Interpreted::make(ty, |at| binary(*f, x(at), y(at))),
        Op::Compare(f) => Interpreted::make(ty, |at| compare(*f, x(at), y(at))),
        Op::Select => Interpreted::make(ty, |at| if x(at) == Number::Int(1) { y(at) } else { inputs[2].at(at) }),
        Op::Cast(_) => Interpreted::make(ty, x),

        Op::Reshape(_) => Interpreted::collect(ty, (0..ty.numel()).map(|i| inputs[0].get(i))),
        Op::Permute(axes) => Interpreted::make(ty, |at| x(&on_axes([(axes, at)]))),
        Op::Broadcast(_, axes) => Interpreted::make(ty, |at| {
            let from: Index =
                axes.iter().zip(shape).map(|(&axis, &size)| if size == 1 { 0 } else { at[axis] }).collect();
            x(&from)
        }),
        Op::Slice(ranges) => Interpreted::make(ty, |at| {
            let from: Index = ranges.iter().zip(at).map(|(&(start, step, _), i)| start + step * i).collect();
            x(&from)
        }),
        Op::Pad(amounts, fill) => Interpreted::make(ty, |at| {
            let from = |i: usize| element(at[i] as isize - amounts[i].0 as isize, amounts[i].2 + 1, shape[i]);
            let from: Option<Index> = (0..at.len()).map(from).collect();
            from.map_or((*fill).into(), |from| x(&from))
        }),
        Op::Concat(axis) => Interpreted::make(ty, |at| concat(inputs, *axis, at)),
        Op::Reverse(axes) => Interpreted::make(ty, |at| {
            let mut from = Index::from(at);
            axes.iter().for_each(|&axis| from[axis] = shape[axis] - 1 - at[axis]);
            x(&from)
        }),

        Op::Reduce(reduction, axes) => {
            let kept = DotDims::free(shape.len(), axes, &[]);
            let first = Number::identity(*reduction, ty.dtype);
            Interpreted::make(ty, |at| {
                let elements = indexes(&sizes(shape, axes)).map(|over| x(&on_axes([(&kept, at), (axes, &over)])));
                elements.fold(first, |so_far, x| binary(join(*reduction), so_far, x))
            })
        }
        Op::ArgReduce(largest, axis) => Interpreted::make(ty, |at| {
            let line: Vec<Number> =
                (0..shape[*axis]).map(|i| x(&[&at[..*axis], &[i], &at[*axis..]].concat())).collect();
            let better = |a: Number, b: Number| if *largest { a > b } else { a < b };
            let beats = |a: Number, b: Number| !b.is_nan() && (a.is_nan() || better(a, b));
            Number::Int((1..line.len()).fold(0, |best, i| if beats(line[i], line[best]) { i } else { best }) as i64)
        }),
        Op::Cumsum { axis, reverse } => Interpreted::make(ty, |at| {
            let so_far = if *reverse { at[*axis]..shape[*axis] } else { 0..at[*axis] + 1 };
            let sum = |sum: Number, i: usize| sum + x(&with(at, *axis, i));
            if *reverse { so_far.rev().fold(zero, sum) } else { so_far.fold(zero, sum) }
        }),
        Op::Sort { axis, descending } => return Ok(sort(&inputs[0], *axis, *descending, types)),

        Op::Gather { axis, batch } => {
            let rows = Rows::read(&inputs[1], *axis, *batch, shape[*axis])?;
            Interpreted::make(ty, |at| x(&rows.index(at)))
        }
        Op::ScatterAdd { axis, batch, size } => {
            let rows = Rows::read(&inputs[0], *axis, *batch, *size)?;
            sum_into(ty, &inputs[1], |at| rows.index(at))
        }
        Op::Unfold(windows) => Interpreted::make(ty, |at| x(&covered(windows, at))),
        Op::Fold(windows) => sum_into(ty, &inputs[0], |at| covered(windows, at)),

        Op::Dot(dims) => dot(dims, &inputs[0], &inputs[1], ty),
        Op::Conv(dims) => conv(dims, &inputs[0], &inputs[1], ty),
        Op::Cholesky => cholesky(&inputs[0]),
        Op::TriangularSolve { lower, transpose } => triangular_solve(&inputs[0], &inputs[1], *lower, *transpose),
    };
    Ok(vec![result])
}

/// Which of `size` elements, lying `step` apart from 0 on, is at a place, if one is.
fn element(place: isize, step: usize, size: usize) -> Option<usize> {
    let place = usize::try_from(place).ok()?;
    (place % step == 0 && place / step < size).then_some(place / step)
}

fn concat(inputs: &[Interpreted], axis: usize, at: &[usize]) -> Number {
    let mut i = at[axis];
    for x in inputs {
        if i < x.ty.shape[axis] {
            return x.at(&with(at, axis, i));
        }
        i -= x.ty.shape[axis];
    }
    unreachable!("{at:?} is behind the last operand")
}

/// Sorted values and where they were: stable, NaN last in both directions.
fn sort(x: &Interpreted, axis: usize, descending: bool, types: &[&Type]) -> Vec<Interpreted> {
    let shape = &x.ty.shape;
    let mut sources = vec![0; x.ty.numel()];
    for start in indexes(&with(shape, axis, 1)) {
        let line: Vec<Number> = (0..shape[axis]).map(|i| x.at(&with(&start, axis, i))).collect();
        let mut order: Vec<usize> = (0..line.len()).collect();
        order.sort_by(|&a, &b| match line[a].partial_cmp(&line[b]) {
            Some(ordering) if descending => ordering.reverse(),
            Some(ordering) => ordering,
            None => line[a].is_nan().cmp(&line[b].is_nan()),
        });
        for (i, source) in order.into_iter().enumerate() {
            sources[position(shape, &with(&start, axis, i))] = source;
        }
    }
    let source = |at: &[usize]| sources[position(shape, at)];
    let values = Interpreted::make(types[0], |at| x.at(&with(at, axis, source(at))));
    vec![values, Interpreted::make(types[1], |at| Number::Int(source(at) as i64))]
}

/// Sums in which each element of `x` is added at the index `to` says.
fn sum_into(ty: &Type, x: &Interpreted, to: impl Fn(&[usize]) -> Index) -> Interpreted {
    let mut sums = vec![zero(ty.dtype); ty.numel()];
    for at in indexes(&x.ty.shape) {
        let sum = &mut sums[position(&ty.shape, &to(&at))];
        *sum = *sum + x.at(&at);
    }
    Interpreted::collect(ty, sums.into_iter())
}

/// The rows of an axis that an index names, by which gather and scatter look up.
struct Rows<'a> {
    rows: Vec<usize>,
    shape: &'a [usize],
    axis: usize,
    batch: usize,
}

impl Rows<'_> {
    /// Counts negative indexes from the end; one that is outside is an error.
    fn read(index: &Interpreted, axis: usize, batch: usize, size: usize) -> Result<Rows<'_>, String> {
        let row = |i: usize| {
            let value = index.get(i).int();
            let from_start = if value < 0 { value.wrapping_add(size as i64) } else { value };
            let wrong =
                || format!("index {value} (element {i} of the indices) is out of range for an axis of size {size}");
            usize::try_from(from_start).ok().filter(|&row| row < size).ok_or_else(wrong)
        };
        let rows = (0..index.ty.numel()).map(row).collect::<Result<_, _>>()?;
        Ok(Rows { rows, shape: &index.ty.shape, axis, batch })
    }

    /// (b, pre, i, post) to (b, pre, row of (b, i), post).
    fn index(&self, at: &[usize]) -> Index {
        let end = self.axis + self.shape.len() - self.batch;
        let row = self.rows[position(self.shape, &[&at[..self.batch], &at[self.axis..end]].concat())];
        [&at[..self.axis], &[row], &at[end..]].concat().into()
    }
}

/// The element a window sees: (lead, window, place in it) to (lead, place).
fn covered(windows: &Windows, at: &[usize]) -> Index {
    let space = windows.size.len();
    let (lead, rest) = at.split_at(at.len() - 2 * space);
    let place = |i: usize| rest[i] * windows.stride[i] + rest[space + i] * windows.dilation[i];
    lead.iter().copied().chain((0..space).map(place)).collect()
}

fn dot(dims: &DotDims, a: &Interpreted, b: &Interpreted, ty: &Type) -> Interpreted {
    let left = DotDims::free(a.ty.shape.len(), &dims.lhs_batch, &dims.lhs_contract);
    let right = DotDims::free(b.ty.shape.len(), &dims.rhs_batch, &dims.rhs_contract);
    let contracted = sizes(&a.ty.shape, &dims.lhs_contract);
    Interpreted::make(ty, |at| {
        let (batch, free) = at.split_at(dims.lhs_batch.len());
        let (row, column) = free.split_at(left.len());
        indexes(&contracted).fold(zero(ty.dtype), |sum, over| {
            let a = a.at(&on_axes([(&dims.lhs_batch, batch), (&left, row), (&dims.lhs_contract, &over)]));
            let b = b.at(&on_axes([(&dims.rhs_batch, batch), (&right, column), (&dims.rhs_contract, &over)]));
            sum + a * b
        })
    })
}

/// Cross-correlation. Padding and dilation are zeros that take part in the sum.
fn conv(dims: &ConvDims, x: &Interpreted, kernel: &Interpreted, ty: &Type) -> Interpreted {
    let outputs = kernel.ty.shape[0] / dims.groups;
    let (channels, zero) = (kernel.ty.shape[1], zero(ty.dtype));
    Interpreted::make(ty, |at| {
        let (n, o, window) = (at[0], at[1], &at[2..]);
        indexes(&kernel.ty.shape[1..]).fold(zero, |sum, tap| {
            let channel = o / outputs * channels + tap[0];
            let place = |i: usize| {
                let place = window[i] * dims.stride[i] + tap[1 + i] * dims.rhs_dilation[i];
                element(place as isize - dims.padding[i].0, dims.lhs_dilation[i], x.ty.shape[2 + i])
            };
            let from: Option<Index> =
                [Some(n), Some(channel)].into_iter().chain((0..window.len()).map(place)).collect();
            sum + from.map_or(zero, |from| x.at(&from)) * kernel.at(&[&[o], &tap[..]].concat())
        })
    })
}

/// Lᵢⱼ = (Aᵢⱼ − Σₖ LᵢₖLⱼₖ) / Lⱼⱼ below the diagonal, and the root of that sum on it.
fn cholesky(a: &Interpreted) -> Interpreted {
    let (lead, n) = (&a.ty.shape[..a.ty.shape.len() - 2], a.ty.shape[a.ty.shape.len() - 1]);
    let mut factors = Vec::new();
    for matrix in 0..lead.iter().product() {
        let mut l = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let rest =
                    (0..j).fold(a.get((matrix * n + i) * n + j).float(), |rest, k| rest - l[i * n + k] * l[j * n + k]);
                l[i * n + j] = if i == j { rest.sqrt() } else { rest / l[j * n + j] };
            }
        }
        if !(0..n).all(|i| l[i * n + i] > 0.0) {
            l.fill(f64::NAN);
        }
        factors.extend(l.into_iter().map(Number::Float));
    }
    Interpreted::collect(&a.ty, factors.into_iter())
}

/// Row after row of X = op(A)⁻¹·B, each from those before it: Xᵢ = (Bᵢ − Σₖ Aᵢₖ·Xₖ) / Aᵢᵢ.
fn triangular_solve(a: &Interpreted, b: &Interpreted, lower: bool, transpose: bool) -> Interpreted {
    let rank = b.ty.shape.len();
    let (lead, n, m) = (&b.ty.shape[..rank - 2], b.ty.shape[rank - 2], b.ty.shape[rank - 1]);
    let mut solutions = Vec::new();
    for matrix in 0..lead.iter().product() {
        let a = |i: usize, k: usize| {
            let (row, column) = if transpose { (k, i) } else { (i, k) };
            a.get((matrix * n + row) * n + column).float()
        };
        let mut x: Vec<f64> = (0..n * m).map(|i| b.get(matrix * n * m + i).float()).collect();
        let forward = lower != transpose;
        for step in 0..n {
            let i = if forward { step } else { n - 1 - step };
            let solved = if forward { 0..i } else { i + 1..n };
            for column in 0..m {
                let rest = solved.clone().fold(x[i * m + column], |rest, k| rest - a(i, k) * x[k * m + column]);
                x[i * m + column] = rest / a(i, i);
            }
        }
        solutions.extend(x.into_iter().map(Number::Float));
    }
    Interpreted::collect(&b.ty, solutions.into_iter())
}

/// A loop: the body turns (carries, slices, constants) into (carries, outputs), slice by slice.
fn scan(dims: &ScanDims, body: &Program, inputs: &[Interpreted], types: &[&Type]) -> Result<Vec<Interpreted>, String> {
    let (carries, rest) = inputs.split_at(dims.carries);
    let (sequences, constants) = rest.split_at(dims.sequences);
    let mut carries = carries.to_vec();
    let mut outputs = vec![Vec::new(); dims.length];
    for step in 0..dims.length {
        let place = if dims.reverse { dims.length - 1 - step } else { step };
        let slice = |x: &Interpreted| {
            let ty = x.ty.with_shape(x.ty.shape[1..].iter().copied());
            Interpreted::make(&ty, |at| x.at(&[&[place], at].concat()))
        };
        carries.extend(sequences.iter().map(slice).chain(constants.iter().cloned()));
        carries = interpret(body, &carries)?;
        outputs[place] = carries.split_off(dims.carries);
    }
    let stack = |(i, &ty): (usize, &&Type)| Interpreted::make(ty, |at| outputs[at[0]][i].at(&at[1..]));
    carries.extend(types[dims.carries..].iter().enumerate().map(stack));
    Ok(carries)
}

#[cfg(test)]
mod tests;
