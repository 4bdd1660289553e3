//! The operations: one closed enum with families, so that every interpretation is one exhaustive `match`.
//!
//! An `Op` holds everything but its inputs: with their types it determines the type of the result (`shape.rs`),
//! its derivative (`differentiate/`), its meaning (`program/reference.rs`) and its kernel (`plan/`).

use super::{Axes, DType, Shape, Storage, Tensor, Type};
use chainrule_kernels::alphabet::{Binary, Compare, Distribution, Reduction, Unary};
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An operation without its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A value that is bound from outside when a program runs.
    Input(Type),
    /// Numbers in memory.
    Data(Storage),
    /// One number everywhere.
    Constant(Scalar, Type),
    /// 0, 1, 2, … along an axis.
    Iota(usize, Type),
    /// Random numbers, a pure function of the key (i64, any shape): the type's shape is that of one sample.
    Random(Distribution, Type),
    /// The identity; marks what a transform differentiates with respect to.
    Variable,
    /// The identity, whose derivative is zero by decree.
    StopGradient,
    /// An elementwise function of one operand.
    Unary(Unary),
    /// An elementwise function of two operands of the same type.
    Binary(Binary),
    /// An elementwise comparison of two operands of the same type; the result is bool.
    Compare(Compare),
    /// `condition ? a : b`, elementwise.
    Select,
    /// Conversion to another dtype. Float to integer truncates toward zero and saturates; anything to bool is ≠ 0.
    Cast(DType),
    /// The same elements in row-major order under another shape.
    Reshape(Shape),
    /// Axis i of the result is axis `axes[i]` of the operand.
    Permute(Dims),
    /// Axis i of the operand becomes axis `axes[i]` of this shape; other axes, and axes of size 1, are repeated.
    Broadcast(Shape, Dims),
    /// Elements `start, start + step, …` of each axis, as many as the third number; the step is positive.
    Slice(Arc<[(usize, usize, usize)]>),
    /// Adds (low, high, interior) elements of a fill value at each axis.
    Pad(Arc<[(usize, usize, usize)]>, Scalar),
    /// Joins the operands along an axis.
    Concat(usize),
    /// Reverses the order along axes.
    Reverse(Dims),
    /// Reduces axes away.
    Reduce(Reduction, Dims),
    /// Index (i64) of the largest (`true`) or smallest element along an axis; the first of ties.
    ArgReduce(bool, usize),
    /// Running sum along an axis, from the end if reversed.
    Cumsum {
        /** Axis that is summed along. */
        axis: usize,
        /** From the end. */
        reverse: bool,
    },
    /// Stable sort along an axis: sorted values and (i64) where they were. NaN comes last.
    Sort {
        /** Axis that is sorted. */
        axis: usize,
        /** Largest first. */
        descending: bool,
    },
    /// `out[b, pre, i, post] = x[b, pre, index[b, i], post]`: see [`Tensor::gather`].
    Gather {
        /** Axis of x that is indexed. */
        axis: usize,
        /** Leading axes shared with the index. */
        batch: usize,
    },
    /// The adjoint of `Gather`: sums updates (index, updates) into zeros with `size` along the axis.
    ScatterAdd {
        /** Axis of the result. */
        axis: usize,
        /** Shared leading axes. */
        batch: usize,
        /** Size of that axis. */
        size: usize,
    },
    /// Sum of products over contracted axes; the result has batch, left free, right free axes.
    Dot(Arc<DotDims>),
    /// Cross-correlation: operand [N, G·Ci, S…], kernel [G·Co, Ci, K…].
    Conv(Arc<ConvDims>),
    /// Sliding windows over the last axes: [.., S…] to [.., O…, K…].
    Unfold(Arc<Windows>),
    /// The adjoint of `Unfold`: windows are summed back.
    Fold(Arc<Windows>),
    /// Lower factor L of a symmetric positive definite matrix L·Lᵀ; reads the lower triangle.
    Cholesky,
    /// Solves op(A)·X = B for a triangular A, where op transposes or not.
    TriangularSolve {
        /** A is lower triangular. */
        lower: bool,
        /** Solve with Aᵀ. */
        transpose: bool,
    },
    /// A loop that carries state and consumes sequences.
    Scan(Arc<ScanDims>, Shared<Lambda>),
    /// One of two functions of the operands after the (scalar bool) first.
    Cond(Shared<Lambda>, Shared<Lambda>),
    /// A function called as one: recomputed in the backward pass, or with a derivative of its own.
    Call(CallKind, Shared<Lambda>),
    /// A function defined by others (`composite.rs`) that states its own derivative.
    Composite(Composite),
}

/// A few axis numbers.
pub type Dims = SmallVec<[usize; 4]>;

/// A number as operations hold it: enough for every dtype, compared by its bits.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    /// For floats.
    Float(f64),
    /// For integers.
    Int(i64),
    /// For bool.
    Bool(bool),
}

impl Scalar {
    fn bits(self) -> (u8, u64) {
        match self {
            Scalar::Float(v) => (0, v.to_bits()),
            Scalar::Int(v) => (1, v as u64),
            Scalar::Bool(v) => (2, v as u64),
        }
    }
    /// The number as a value of this dtype.
    pub fn cast(self, dtype: DType) -> Scalar {
        match dtype {
            DType::Bool => Scalar::Bool(match self {
                Scalar::Float(v) => v != 0.0,
                Scalar::Int(v) => v != 0,
                Scalar::Bool(v) => v,
            }),
            d if d.is_float() => Scalar::Float(match dtype {
                DType::F32 => self.as_f64() as f32 as f64,
                DType::BF16 => half::bf16::from_f64(self.as_f64()).to_f64(),
                DType::F16 => half::f16::from_f64(self.as_f64()).to_f64(),
                _ => self.as_f64(),
            }),
            _ => {
                let v = match self {
                    Scalar::Float(v) => v as i64,
                    Scalar::Int(v) => v,
                    Scalar::Bool(v) => v as i64,
                };
                Scalar::Int(match (dtype, self) {
                    (DType::I32, Scalar::Float(f)) => f as i32 as i64,
                    (DType::U8, Scalar::Float(f)) => f as u8 as i64,
                    (DType::I32, _) => v as i32 as i64,
                    (DType::U8, _) => v as u8 as i64,
                    _ => v,
                })
            }
        }
    }
    /// The number in double precision.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::Float(v) => v,
            Scalar::Int(v) => v as f64,
            Scalar::Bool(v) => v as u8 as f64,
        }
    }
    /// The number as an integer.
    pub fn as_i64(self) -> i64 {
        match self {
            Scalar::Float(v) => v as i64,
            Scalar::Int(v) => v,
            Scalar::Bool(v) => v as i64,
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.bits() == other.bits()
    }
}
impl Eq for Scalar {}
impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits().hash(state);
    }
}

/// Axes of a general dot product. Batch axes pair up and stay, contracted axes pair up and are summed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct DotDims {
    /// Batch axes of the left operand.
    pub lhs_batch: Dims,
    /// Batch axes of the right operand.
    pub rhs_batch: Dims,
    /// Contracted axes of the left operand.
    pub lhs_contract: Dims,
    /// Contracted axes of the right operand.
    pub rhs_contract: Dims,
}

/// How a convolution moves over space; one entry a spatial axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConvDims {
    /// Steps of the kernel.
    pub stride: Dims,
    /// Zeros before and after; negative crops.
    pub padding: SmallVec<[(isize, isize); 3]>,
    /// 1 + zeros between the operand's elements (after which padding is applied): a transposed convolution.
    pub lhs_dilation: Dims,
    /// 1 + gap between the kernel's elements.
    pub rhs_dilation: Dims,
    /// Channel groups that do not see each other.
    pub groups: usize,
}

/// Sliding windows over the last axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    /// Sizes of the axes the windows slide over.
    pub size: Dims,
    /// Sizes of a window.
    pub window: Dims,
    /// Steps of the window.
    pub stride: Dims,
    /// 1 + gap between a window's elements.
    pub dilation: Dims,
}

impl Windows {
    /// How many windows fit along each axis.
    pub fn count(&self) -> Dims {
        (0..self.size.len())
            .map(|i| match self.size[i].checked_sub(self.dilation[i] * (self.window[i] - 1) + 1) {
                Some(room) => room / self.stride[i] + 1,
                None => 0,
            })
            .collect()
    }
}

/// The loop of a scan. Its operands are carries, sequences (stacked along axis 0) and constants; its results
/// the last carries and stacked outputs. The body maps (carries, slices, constants) to (carries, outputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScanDims {
    /// Number of steps.
    pub length: usize,
    /// How many operands are carried.
    pub carries: usize,
    /// How many operands are sequences.
    pub sequences: usize,
    /// From the last slice to the first; outputs are stacked where their slices were.
    pub reverse: bool,
}

/// A function of tensors, closed over nothing: `results` depend on `params` and numbers only.
#[derive(Debug)]
pub struct Lambda {
    /// The tensors that are bound when it is applied; any tensor can stand here, not only placeholders.
    pub params: Vec<Tensor>,
    /// What it gives.
    pub results: Vec<Tensor>,
}

/// The derivative of a user's function: (operands, result, tangents) to the tangents of the results.
pub type CustomRule = dyn Fn(&[Tensor], &[Tensor], &[Tensor]) -> Vec<Tensor> + Send + Sync;

/// Why a function is called as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// Nothing inside is kept for the backward pass; it is computed again there.
    Checkpoint,
    /// The user states the derivative with respect to this many leading operands; the others are captured and
    /// may not be differentiated.
    Custom(Shared<Box<CustomRule>>, usize),
}

/// Functions defined by others that state their own derivative, because it is shorter or safer than what the
/// composition would give.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Composite {
    /// ln(1 + eˣ)
    Softplus,
    /// eˣ / Σ eˣ along an axis.
    Softmax(usize),
    /// x − ln Σ eˣ along an axis.
    LogSoftmax(usize),
    /// ln Σ eˣ along an axis, which stays with size 1.
    LogSumExp(usize),
    /// (x − mean) / √(variance + ε) over axes.
    Normalize(Dims, Scalar),
    /// √Σx² over axes, which go.
    Norm(Dims),
}

/// A shared thing compared by identity.
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// Wraps a new thing, equal only to its own clones.
    pub fn new(value: T) -> Shared<T> {
        Shared(Arc::new(value))
    }
}
impl Shared<Lambda> {
    /// The lambda if this was its last holder, leaving an empty one behind.
    pub(super) fn take_unique(&mut self) -> Option<Lambda> {
        let lambda = Arc::get_mut(&mut self.0)?;
        Some(Lambda { params: std::mem::take(&mut lambda.params), results: std::mem::take(&mut lambda.results) })
    }
}
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(self.0.clone())
    }
}
impl<T> std::ops::Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
impl<T> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}
impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
impl<T> Eq for Shared<T> {}
impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<u8>().hash(state);
    }
}

impl Op {
    /// The name as programs print it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Data(_) => "data",
            Op::Constant(..) => "constant",
            Op::Iota(..) => "iota",
            Op::Random(..) => "random",
            Op::Variable => "variable",
            Op::StopGradient => "stop_gradient",
            Op::Unary(op) => op.name(),
            Op::Binary(op) => op.name(),
            Op::Compare(op) => op.name(),
            Op::Select => "select",
            Op::Cast(_) => "cast",
            Op::Reshape(_) => "reshape",
            Op::Permute(_) => "permute",
            Op::Broadcast(..) => "broadcast",
            Op::Slice(_) => "slice",
            Op::Pad(..) => "pad",
            Op::Concat(_) => "concat",
            Op::Reverse(_) => "reverse",
            Op::Reduce(op, _) => match op {
                Reduction::Sum => "sum",
                Reduction::Max => "reduce_max",
                Reduction::Min => "reduce_min",
                Reduction::Prod => "prod",
            },
            Op::ArgReduce(true, _) => "argmax",
            Op::ArgReduce(false, _) => "argmin",
            Op::Cumsum { .. } => "cumsum",
            Op::Sort { .. } => "sort",
            Op::Gather { .. } => "gather",
            Op::ScatterAdd { .. } => "scatter_add",
            Op::Dot(_) => "dot",
            Op::Conv(_) => "conv",
            Op::Unfold(_) => "unfold",
            Op::Fold(_) => "fold",
            Op::Cholesky => "cholesky",
            Op::TriangularSolve { .. } => "triangular_solve",
            Op::Scan(..) => "scan",
            Op::Cond(..) => "cond",
            Op::Call(CallKind::Checkpoint, _) => "checkpoint",
            Op::Call(CallKind::Custom(..), _) => "custom",
            Op::Composite(composite) => match composite {
                Composite::Softplus => "softplus",
                Composite::Softmax(_) => "softmax",
                Composite::LogSoftmax(_) => "log_softmax",
                Composite::LogSumExp(_) => "logsumexp",
                Composite::Normalize(..) => "normalize",
                Composite::Norm(_) => "norm",
            },
        }
    }

    /// Whether each element of the result depends only on the elements at its place (numbers included).
    pub(crate) fn is_elementwise(&self) -> bool {
        matches!(self, Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::Constant(..))
    }

    /// Whether an operation only moves elements about: its result can be a view of its operand.
    pub(crate) fn is_move(&self) -> bool {
        let windows = matches!(self, Op::Unfold(_));
        windows || matches!(self, Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Slice(_) | Op::Reverse(_))
    }

    pub(super) fn bodies_mut(&mut self) -> SmallVec<[&mut Shared<Lambda>; 2]> {
        match self {
            Op::Scan(_, body) | Op::Call(_, body) => smallvec::smallvec![body],
            Op::Cond(yes, no) => smallvec::smallvec![yes, no],
            _ => SmallVec::new(),
        }
    }
}

impl DotDims {
    /// The axes of an operand of this rank that are neither batch nor contracted.
    pub fn free(rank: usize, batch: &[usize], contract: &[usize]) -> Dims {
        (0..rank).filter(|axis| !batch.contains(axis) && !contract.contains(axis)).collect()
    }

    /// The same product with the operands in the other order.
    pub(crate) fn flipped(&self) -> DotDims {
        DotDims {
            lhs_batch: self.rhs_batch.clone(),
            rhs_batch: self.lhs_batch.clone(),
            lhs_contract: self.rhs_contract.clone(),
            rhs_contract: self.lhs_contract.clone(),
        }
    }
}

impl From<&Axes> for Dims {
    fn from(axes: &Axes) -> Dims {
        axes.0.iter().map(|&axis| axis as usize).collect()
    }
}
