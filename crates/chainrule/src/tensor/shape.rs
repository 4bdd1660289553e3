//! Shapes: the rule of every operation, as functions that return the result's type or say what does not fit.

use super::op::Dims;
use super::{ConvDims, DType, DotDims, Lambda, Op, ShapeError};
use chainrule_kernels::alphabet::{Binary, Distribution, Reduction, Unary};
use smallvec::{SmallVec, smallvec};
use std::ops::{Range, RangeFull};

/// The sizes of a tensor's axes.
pub type Shape = SmallVec<[usize; 4]>;

/// What can be given as a shape: `[2, 3]`, a slice, a vector.
pub trait IntoShape {
    /// The shape itself.
    fn into_shape(self) -> Shape;
}
impl IntoShape for Shape {
    fn into_shape(self) -> Shape {
        self
    }
}
impl<const N: usize> IntoShape for [usize; N] {
    fn into_shape(self) -> Shape {
        self.into_iter().collect()
    }
}
impl IntoShape for &[usize] {
    fn into_shape(self) -> Shape {
        self.into()
    }
}
impl IntoShape for &Shape {
    fn into_shape(self) -> Shape {
        self.clone()
    }
}
impl IntoShape for Vec<usize> {
    fn into_shape(self) -> Shape {
        self.into()
    }
}

/// Shape and dtype of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// Type of an element.
    pub dtype: DType,
    /// Sizes of the axes.
    pub shape: Shape,
}

impl Type {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl IntoIterator<Item = usize>) -> Type {
        Type { dtype, shape: shape.into_iter().collect() }
    }
    /// Number of elements; `usize::MAX` if there are more than that.
    pub fn numel(&self) -> usize {
        match self.shape.contains(&0) {
            true => 0,
            false => self.shape.iter().fold(1, |product, &size| product.saturating_mul(size)),
        }
    }
    /// Bytes of all elements; `usize::MAX` if there are more than that.
    pub fn bytes(&self) -> usize {
        self.numel().saturating_mul(self.dtype.size())
    }
    pub(crate) fn with_shape(&self, shape: impl IntoIterator<Item = usize>) -> Type {
        Type::new(self.dtype, shape)
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, size) in self.shape.iter().enumerate() {
            write!(f, "{}{size}", if i == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

/// Which axes an operation works on: `..` for all, one number or several; negative ones count from the end.
///
/// ```
/// use chainrule::prelude::*;
/// let x = Tensor::zeros([2, 3, 4], DType::F32);
/// assert_eq!(x.sum(-1).shape(), [2, 3]);
/// assert_eq!(x.sum([0, 2]).shape(), [3]);
/// assert_eq!(x.sum(..).shape(), [0usize; 0]);
/// ```
#[derive(Clone, Debug)]
pub struct Axes(pub(crate) SmallVec<[isize; 4]>, bool);

impl From<RangeFull> for Axes {
    fn from(_: RangeFull) -> Axes {
        Axes(SmallVec::new(), true)
    }
}
impl From<isize> for Axes {
    fn from(axis: isize) -> Axes {
        Axes(smallvec![axis], false)
    }
}
impl<const N: usize> From<[isize; N]> for Axes {
    fn from(axes: [isize; N]) -> Axes {
        Axes(axes.into_iter().collect(), false)
    }
}
impl From<&[isize]> for Axes {
    fn from(axes: &[isize]) -> Axes {
        Axes(axes.into(), false)
    }
}
impl From<&[usize]> for Axes {
    fn from(axes: &[usize]) -> Axes {
        Axes(axes.iter().map(|&axis| axis as isize).collect(), false)
    }
}
impl From<Range<usize>> for Axes {
    fn from(axes: Range<usize>) -> Axes {
        Axes(axes.map(|axis| axis as isize).collect(), false)
    }
}

impl Axes {
    /// The axes of a tensor of this rank, ascending.
    pub(crate) fn resolve(&self, operation: &'static str, rank: usize) -> Result<Dims, ShapeError> {
        if self.1 {
            return Ok((0..rank).collect());
        }
        let mut axes: Dims = self.0.iter().map(|&a| axis(operation, a, rank)).collect::<Result<_, _>>()?;
        axes.sort_unstable();
        match axes.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(ShapeError::new(operation, format!("axis {} is given twice", pair[0]))),
            None => Ok(axes),
        }
    }
}

/// An axis of a tensor of this rank, counted from the end if negative.
pub(crate) fn axis(operation: &'static str, axis: isize, rank: usize) -> Result<usize, ShapeError> {
    let resolved = if axis < 0 { axis + rank as isize } else { axis };
    if resolved < 0 || resolved >= rank as isize {
        return Err(ShapeError::new(operation, format!("axis {axis} of a tensor with {rank} axes")));
    }
    Ok(resolved as usize)
}

/// The shape two shapes broadcast to, as in NumPy: aligned at the end, sizes equal or 1.
pub(crate) fn broadcast(operation: &'static str, a: &[usize], b: &[usize]) -> Result<Shape, ShapeError> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank)
        .map(|i| match (size(a, i), size(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            (x, y) => {
                let hint = if a.len() == b.len() && a.iter().rev().eq(b.iter()) { "; did you mean b.t()?" } else { "" };
                let from_end = rank - i;
                Err(ShapeError::new(
                    operation,
                    format!("{a:?} and {b:?} do not broadcast: sizes {x} and {y} of axis -{from_end} differ{hint}"),
                ))
            }
        })
        .collect()
}

type Types = SmallVec<[Type; 1]>;

/// The types of an operation's results.
pub(crate) fn infer(op: &Op, inputs: &[&Type]) -> Result<Types, ShapeError> {
    let name = op.name();
    let fail = |message: String| Err(ShapeError::new(name, message));
    if let Some(count) = arity(op)
        && count != inputs.len()
    {
        return fail(format!("takes {count} operands, got {}", inputs.len()));
    }
    let one = |ty: Type| Ok(smallvec![ty]);
    match op {
        Op::Input(ty) | Op::Constant(_, ty) => one(ty.clone()),
        Op::Iota(axis, ty) if *axis < ty.shape.len() && ty.dtype != DType::Bool => one(ty.clone()),
        Op::Iota(..) => fail("needs a number dtype and an axis of the shape".into()),
        Op::Data(storage) => one(storage.ty().clone()),
        Op::Random(distribution, ty) => {
            let fits = match distribution {
                Distribution::Bits => ty.dtype == DType::I64,
                Distribution::Uniform | Distribution::Normal => ty.dtype.is_float(),
            };
            if inputs[0].dtype != DType::I64 || !fits {
                return fail(format!("{} as {} from a key of {}", distribution.name(), ty.dtype, inputs[0].dtype));
            }
            one(ty.with_shape(inputs[0].shape.iter().chain(&ty.shape).copied()))
        }
        Op::Variable | Op::StopGradient => one(inputs[0].clone()),
        Op::Unary(unary) => {
            let dtype = inputs[0].dtype;
            let fits = match unary {
                Unary::Not => dtype == DType::Bool,
                Unary::Neg | Unary::Abs | Unary::Sign => dtype != DType::Bool,
                _ => dtype.is_float(),
            };
            if !fits {
                let right = if *unary == Unary::Not { "bool" } else { "a float; cast with .cast(DType::F32)" };
                return fail(format!("of {dtype}; it takes {right}"));
            }
            one(inputs[0].clone())
        }
        Op::Binary(binary) => {
            let (a, b) = (inputs[0], inputs[1]);
            same(name, a, b)?;
            let fits = match binary {
                Binary::And | Binary::Or => a.dtype == DType::Bool,
                Binary::Pow => a.dtype.is_float(),
                _ => a.dtype != DType::Bool,
            };
            if fits { one(a.clone()) } else { fail(format!("of {} and {}", a.dtype, b.dtype)) }
        }
        Op::Compare(_) => {
            same(name, inputs[0], inputs[1])?;
            one(Type { dtype: DType::Bool, shape: inputs[0].shape.clone() })
        }
        Op::Select => {
            if inputs[0].dtype != DType::Bool {
                return fail(format!("the condition is {}; it must be bool", inputs[0].dtype));
            }
            same(name, inputs[1], inputs[2])?;
            if inputs[0].shape != inputs[1].shape {
                return fail(format!("condition {} and values {} differ in shape", inputs[0], inputs[1]));
            }
            one(inputs[1].clone())
        }
        Op::Cast(dtype) => one(Type { dtype: *dtype, shape: inputs[0].shape.clone() }),
        Op::Reshape(shape) => {
            let ty = inputs[0].with_shape(shape.iter().copied());
            if ty.numel() != inputs[0].numel() {
                return fail(format!(
                    "{:?} has {} elements and {:?} has {}",
                    inputs[0].shape.as_slice(),
                    inputs[0].numel(),
                    shape.as_slice(),
                    ty.numel()
                ));
            }
            one(ty)
        }
        Op::Permute(axes) => {
            let mut seen: Dims = axes.clone();
            seen.sort_unstable();
            if seen.len() != inputs[0].shape.len() || seen.iter().enumerate().any(|(i, &axis)| i != axis) {
                return fail(format!("axes {:?} are not an order of {} axes", axes.as_slice(), inputs[0].shape.len()));
            }
            one(inputs[0].with_shape(axes.iter().map(|&axis| inputs[0].shape[axis])))
        }
        Op::Broadcast(shape, axes) => {
            let from = inputs[0];
            let fits = axes.len() == from.shape.len()
                && axes.windows(2).all(|pair| pair[0] < pair[1])
                && axes
                    .iter()
                    .zip(&from.shape)
                    .all(|(&to, &size)| shape.get(to).is_some_and(|&target| size == target || size == 1));
            if !fits {
                return fail(format!("{:?} does not broadcast to {:?}", from.shape.as_slice(), shape.as_slice()));
            }
            one(from.with_shape(shape.iter().copied()))
        }
        Op::Slice(ranges) => {
            let fits = ranges.len() == inputs[0].shape.len()
                && ranges.iter().zip(&inputs[0].shape).all(|(&(start, step, count), &size)| {
                    step > 0 && (count == 0 || start + (count - 1) * step < size)
                });
            if !fits {
                return fail(format!("{ranges:?} (start, step, count) is outside {:?}", inputs[0].shape.as_slice()));
            }
            one(inputs[0].with_shape(ranges.iter().map(|&(_, _, count)| count)))
        }
        Op::Pad(amounts, _) => {
            if amounts.len() != inputs[0].shape.len() {
                return fail(format!("{} amounts for {} axes", amounts.len(), inputs[0].shape.len()));
            }
            one(inputs[0].with_shape(
                amounts
                    .iter()
                    .zip(&inputs[0].shape)
                    .map(|(&(low, high, interior), &size)| low + high + size + size.saturating_sub(1) * interior),
            ))
        }
        Op::Concat(axis) => concat(name, *axis, inputs),
        Op::Reverse(axes) => match axes.iter().find(|&&axis| axis >= inputs[0].shape.len()) {
            Some(axis) => fail(format!("axis {axis} of {}", inputs[0])),
            None => one(inputs[0].clone()),
        },
        Op::Reduce(reduction, axes) => {
            let logical = matches!(reduction, Reduction::Max | Reduction::Min);
            if inputs[0].dtype == DType::Bool && !logical {
                return fail("of bool; cast to count, .cast(DType::I64)".into());
            }
            if axes.iter().any(|&axis| axis >= inputs[0].shape.len()) {
                return fail(format!("axes {:?} of {}", axes.as_slice(), inputs[0]));
            }
            one(inputs[0].with_shape(without(&inputs[0].shape, axes)))
        }
        Op::ArgReduce(_, axis) => match inputs[0].shape.get(*axis) {
            None | Some(0) => fail(format!("along axis {axis} of {}; it must exist and not be empty", inputs[0])),
            Some(_) => one(Type::new(DType::I64, without(&inputs[0].shape, &[*axis]))),
        },
        Op::Cumsum { axis, .. } if *axis < inputs[0].shape.len() && inputs[0].dtype != DType::Bool => {
            one(inputs[0].clone())
        }
        Op::Cumsum { axis, .. } => fail(format!("along axis {axis} of {}", inputs[0])),
        Op::Sort { axis, .. } => {
            if *axis >= inputs[0].shape.len() {
                return fail(format!("along axis {axis} of {}", inputs[0]));
            }
            Ok(smallvec![inputs[0].clone(), Type { dtype: DType::I64, shape: inputs[0].shape.clone() }])
        }
        Op::Gather { axis, batch } => {
            let (x, index) = (inputs[0], inputs[1]);
            if !index.dtype.is_int() {
                return fail(format!("the index is {}; it must be an integer dtype", index.dtype));
            }
            let shared = *axis < x.shape.len() && batch <= axis && x.shape.get(..*batch) == index.shape.get(..*batch);
            if !shared {
                return fail(format!("axis {axis} of {x} by {index} with {batch} shared axes"));
            }
            one(x.with_shape(
                x.shape[..*axis].iter().chain(&index.shape[*batch..]).chain(&x.shape[*axis + 1..]).copied(),
            ))
        }
        Op::ScatterAdd { axis, batch, size } => {
            let (index, updates) = (inputs[0], inputs[1]);
            let span = index.shape.len().saturating_sub(*batch);
            let fits = index.dtype.is_int()
                && batch <= axis
                && axis + span <= updates.shape.len()
                && index.shape.get(..*batch) == updates.shape.get(..*batch)
                && index.shape.get(*batch..) == updates.shape.get(*axis..axis + span)
                && updates.dtype != DType::Bool;
            if !fits {
                return fail(format!("updates {updates} at {index} along axis {axis} with {batch} shared axes"));
            }
            one(updates.with_shape(
                updates.shape[..*axis].iter().chain(&[*size]).chain(&updates.shape[axis + span..]).copied(),
            ))
        }
        Op::Dot(dims) => dot(dims, inputs[0], inputs[1]).and_then(one),
        Op::Conv(dims) => conv(dims, inputs[0], inputs[1]).and_then(one),
        Op::Unfold(windows) => {
            let lead = inputs[0].shape.len().checked_sub(windows.size.len());
            match lead {
                Some(lead) if inputs[0].shape[lead..] == windows.size[..] => one(inputs[0].with_shape(
                    inputs[0].shape[..lead]
                        .iter()
                        .copied()
                        .chain(windows.count())
                        .chain(windows.window.iter().copied()),
                )),
                _ => fail(format!("windows over {:?} of {}", windows.size.as_slice(), inputs[0])),
            }
        }
        Op::Fold(windows) => {
            let count = windows.count();
            let lead = inputs[0].shape.len().checked_sub(2 * count.len());
            let tail: Shape = count.iter().chain(&windows.window).copied().collect();
            match lead {
                Some(lead) if inputs[0].shape[lead..] == tail[..] => {
                    one(inputs[0].with_shape(inputs[0].shape[..lead].iter().chain(&windows.size).copied()))
                }
                _ => fail(format!("windows {:?} of {}", tail.as_slice(), inputs[0])),
            }
        }
        Op::Cholesky => square(name, inputs[0]).and_then(|()| one(inputs[0].clone())),
        Op::TriangularSolve { .. } => {
            let (a, b) = (inputs[0], inputs[1]);
            square(name, a)?;
            let n = a.shape.len();
            if a.dtype != b.dtype || b.shape.len() != n || a.shape[..n - 1] != b.shape[..n - 1] {
                return fail(format!("{a} and right-hand sides {b}; these must be [.., n, n] and [.., n, m]"));
            }
            one(b.clone())
        }
        Op::Scan(dims, body) => {
            let (carries, rest) = inputs.split_at(dims.carries.min(inputs.len()));
            let (sequences, constants) = rest.split_at(dims.sequences.min(rest.len()));
            let slices = sequences.iter().map(|ty| ty.with_shape(ty.shape.iter().skip(1).copied()));
            let want: Vec<Type> = carries.iter().map(|&ty| ty.clone()).chain(slices).collect();
            let want: Vec<&Type> = want.iter().chain(constants.iter().copied()).collect();
            params(name, body, &want)?;
            if sequences.iter().any(|ty| ty.shape.first() != Some(&dims.length)) {
                return fail(format!("every sequence must have {} slices along axis 0", dims.length));
            }
            for (i, (&carry, result)) in carries.iter().zip(&body.results).enumerate() {
                if carry != result.ty() {
                    return fail(format!("carry {i} starts as {carry} and the body returns {}", result.ty()));
                }
            }
            let stacked = body.results[dims.carries..].iter();
            let stacked =
                stacked.map(|y| y.ty().with_shape([dims.length].into_iter().chain(y.shape().iter().copied())));
            Ok(carries.iter().map(|&ty| ty.clone()).chain(stacked).collect())
        }
        Op::Cond(yes, no) => {
            if inputs.first().is_none_or(|ty| ty.dtype != DType::Bool || !ty.shape.is_empty()) {
                return fail("the condition must be one bool, bool[]".into());
            }
            params(name, yes, &inputs[1..])?;
            params(name, no, &inputs[1..])?;
            let types = |lambda: &Lambda| lambda.results.iter().map(|y| y.ty().clone()).collect::<Types>();
            let (a, b) = (types(yes), types(no));
            if a != b {
                let list = |types: &Types| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
                return fail(format!("one branch returns {} and the other {}", list(&a), list(&b)));
            }
            Ok(a)
        }
        Op::Call(_, body) => {
            params(name, body, inputs)?;
            Ok(body.results.iter().map(|y| y.ty().clone()).collect())
        }
        Op::Composite(composite) => {
            use super::Composite::*;
            if !inputs[0].dtype.is_float() {
                return fail(format!("of {}; it takes a float", inputs[0].dtype));
            }
            let rank = inputs[0].shape.len();
            match composite {
                Softplus => one(inputs[0].clone()),
                Softmax(axis) | LogSoftmax(axis) if *axis < rank => one(inputs[0].clone()),
                LogSumExp(axis) if *axis < rank => {
                    let mut ty = inputs[0].clone();
                    ty.shape[*axis] = 1;
                    one(ty)
                }
                Normalize(axes, _) if axes.iter().all(|&axis| axis < rank) => one(inputs[0].clone()),
                Norm(axes) if axes.iter().all(|&axis| axis < rank) => {
                    one(inputs[0].with_shape(without(&inputs[0].shape, axes)))
                }
                _ => fail(format!("axis outside {}", inputs[0])),
            }
        }
    }
}

/// How many operands an operation takes, where that is fixed.
fn arity(op: &Op) -> Option<usize> {
    match op {
        Op::Input(_) | Op::Data(_) | Op::Constant(..) | Op::Iota(..) => Some(0),
        Op::Binary(_) | Op::Compare(_) | Op::Gather { .. } | Op::ScatterAdd { .. } | Op::Dot(_) | Op::Conv(_) => {
            Some(2)
        }
        Op::TriangularSolve { .. } => Some(2),
        Op::Select => Some(3),
        Op::Concat(_) | Op::Scan(..) | Op::Cond(..) | Op::Call(..) => None,
        _ => Some(1),
    }
}

pub(crate) fn without(shape: &[usize], axes: &[usize]) -> Shape {
    shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &size)| size).collect()
}

fn same(operation: &'static str, a: &Type, b: &Type) -> Result<(), ShapeError> {
    if a.dtype != b.dtype {
        let message = format!("{} and {} mix dtypes; cast one, for example b.cast(DType::{:?})", a, b, a.dtype);
        return Err(ShapeError::new(operation, message));
    }
    if a.shape != b.shape {
        return Err(ShapeError::new(operation, format!("{a} and {b} differ in shape")));
    }
    Ok(())
}

fn square(operation: &'static str, a: &Type) -> Result<(), ShapeError> {
    let n = a.shape.len();
    if n < 2 || a.shape[n - 1] != a.shape[n - 2] || !matches!(a.dtype, DType::F32 | DType::F64) {
        return Err(ShapeError::new(operation, format!("of {a}; it takes square matrices [.., n, n] of f32 or f64")));
    }
    Ok(())
}

fn params(operation: &'static str, lambda: &Lambda, inputs: &[&Type]) -> Result<(), ShapeError> {
    let fits = lambda.params.len() == inputs.len() && lambda.params.iter().zip(inputs).all(|(p, &ty)| p.ty() == ty);
    if fits {
        return Ok(());
    }
    let list = |types: Vec<&Type>| types.iter().map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ");
    let want = list(lambda.params.iter().map(|p| p.ty()).collect());
    Err(ShapeError::new(operation, format!("the body takes ({want}) and is given ({})", list(inputs.to_vec()))))
}

fn concat(operation: &'static str, axis: usize, inputs: &[&Type]) -> Result<Types, ShapeError> {
    let Some(&first) = inputs.first() else {
        return Err(ShapeError::new(operation, "of nothing"));
    };
    let mut ty = first.clone();
    if axis >= ty.shape.len() {
        return Err(ShapeError::new(operation, format!("along axis {axis} of {first}")));
    }
    for &other in &inputs[1..] {
        let fits = other.dtype == ty.dtype
            && other.shape.len() == ty.shape.len()
            && (0..ty.shape.len()).all(|i| i == axis || other.shape[i] == ty.shape[i]);
        if !fits {
            return Err(ShapeError::new(operation, format!("{first} and {other} along axis {axis}")));
        }
        ty.shape[axis] += other.shape[axis];
    }
    Ok(smallvec![ty])
}

fn dot(dims: &DotDims, a: &Type, b: &Type) -> Result<Type, ShapeError> {
    let fail = |message: String| Err(ShapeError::new("dot", message));
    if a.dtype != b.dtype || a.dtype == DType::Bool {
        return fail(format!("{a} × {b}; both must have one number dtype, cast one"));
    }
    let inside = |axes: &Dims, ty: &Type| axes.iter().all(|&axis| axis < ty.shape.len());
    if !(inside(&dims.lhs_batch, a)
        && inside(&dims.lhs_contract, a)
        && inside(&dims.rhs_batch, b)
        && inside(&dims.rhs_contract, b))
    {
        return fail(format!("an axis is outside {a} × {b}"));
    }
    let pairs = [(&dims.lhs_batch, &dims.rhs_batch, "batch"), (&dims.lhs_contract, &dims.rhs_contract, "inner")];
    for (left, right, role) in pairs {
        if left.len() != right.len() {
            return fail(format!("{a} × {b}: {role} axes do not pair up"));
        }
        for (&l, &r) in left.iter().zip(right) {
            if a.shape[l] != b.shape[r] {
                let (x, y) = (a.shape[l], b.shape[r]);
                return fail(format!(
                    "{:?} × {:?}: {role} sizes {x} and {y} differ",
                    a.shape.as_slice(),
                    b.shape.as_slice()
                ));
            }
        }
    }
    let left = DotDims::free(a.shape.len(), &dims.lhs_batch, &dims.lhs_contract);
    let right = DotDims::free(b.shape.len(), &dims.rhs_batch, &dims.rhs_contract);
    let shape = dims.lhs_batch.iter().chain(&left).map(|&axis| a.shape[axis]);
    Ok(a.with_shape(shape.chain(right.iter().map(|&axis| b.shape[axis])).collect::<Shape>()))
}

fn conv(dims: &ConvDims, x: &Type, kernel: &Type) -> Result<Type, ShapeError> {
    let fail = |message: String| Err(ShapeError::new("conv", message));
    let space = x.shape.len().saturating_sub(2);
    if !(1..=3).contains(&space) || kernel.shape.len() != space + 2 {
        return fail(format!(
            "{x} by kernel {kernel}; it takes [N, C, S…] and [O, C/groups, K…] with 1 to 3 spatial axes"
        ));
    }
    if x.dtype != kernel.dtype || !x.dtype.is_float() {
        return fail(format!("{x} by kernel {kernel}; both must have one float dtype"));
    }
    let lists = [dims.stride.len(), dims.padding.len(), dims.lhs_dilation.len(), dims.rhs_dilation.len()];
    if lists.iter().any(|&len| len != space) {
        return fail(format!("stride, padding and dilation need {space} entries"));
    }
    let positive = |list: &Dims| list.iter().all(|&v| v > 0);
    if !(positive(&dims.stride) && positive(&dims.lhs_dilation) && positive(&dims.rhs_dilation)) {
        return fail("stride and dilation must be at least 1".into());
    }
    let groups = dims.groups;
    if groups == 0 || x.shape[1] != kernel.shape[1] * groups || !kernel.shape[0].is_multiple_of(groups) {
        let (channels, kernel) = (x.shape[1], kernel.shape.as_slice());
        return fail(format!(
            "{channels} channels by kernel {kernel:?} in {groups} groups: they must be {groups}·{} (the kernel's second \
             axis), and the kernel's {} outputs divide into {groups}",
            kernel[1], kernel[0],
        ));
    }
    let mut shape: Shape = smallvec![x.shape[0], kernel.shape[0]];
    for i in 0..space {
        let spread = |size: usize, dilation: usize| if size == 0 { 0 } else { ((size - 1) * dilation + 1) as isize };
        let (low, high) = dims.padding[i];
        let room = spread(x.shape[i + 2], dims.lhs_dilation[i]) + low + high;
        let kernel = spread(kernel.shape[i + 2], dims.rhs_dilation[i]);
        if kernel == 0 {
            return fail(format!("kernel {:?} is empty along spatial axis {i}", shape.as_slice()));
        }
        shape.push(if room < kernel { 0 } else { (room - kernel) as usize / dims.stride[i] + 1 });
    }
    Ok(x.with_shape(shape))
}
