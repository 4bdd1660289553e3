//! Numbers entering and leaving: leaves that hold memory, constants, and reading a leaf back.

use super::shape::{IntoShape, Shape};
use super::{DType, Op, Origin, Scalar, ShapeError, Tensor, Type};
use chainrule_kernels::buffer::Buffer;
use chainrule_kernels::element::Element;
use std::sync::Arc;

/// The memory of a leaf: shared, immutable, in row-major order.
#[derive(Clone)]
pub struct Storage {
    buffer: Arc<Buffer>,
    ty: Type,
}

impl Storage {
    pub(crate) fn new(buffer: Buffer, ty: Type) -> Storage {
        debug_assert_eq!(buffer.len_bytes(), ty.bytes());
        Storage { buffer: Arc::new(buffer), ty }
    }
    /// Shape and dtype of the numbers.
    pub fn ty(&self) -> &Type {
        &self.ty
    }
    /// The numbers as bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }
    /// The numbers as a slice.
    ///
    /// # Panics
    /// If the element type is not the dtype.
    #[track_caller]
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert!(T::DTYPE == self.ty.dtype, "the numbers are {}, not {}; cast them first", self.ty.dtype, T::DTYPE);
        self.buffer.as_slice()
    }
    /// The memory, to write, if nobody else holds it.
    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.buffer).map(Buffer::bytes_mut)
    }
}
impl PartialEq for Storage {
    fn eq(&self, other: &Storage) -> bool {
        Arc::ptr_eq(&self.buffer, &other.buffer) && self.ty == other.ty
    }
}
impl Eq for Storage {}
impl std::hash::Hash for Storage {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.buffer).hash(state);
    }
}
impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.ty)
    }
}

/// Numbers in nested arrays or vectors that a tensor can be made of.
pub trait Numbers {
    /// Type of an element.
    type Element: Element;
    /// The sizes of the nesting levels.
    fn shape(&self) -> Shape;
    /// Appends the numbers in row-major order.
    fn flatten(self, into: &mut Vec<Self::Element>);
}

macro_rules! scalar_numbers {
    ($($ty:ty),*) => {$(
        impl Numbers for $ty {
            type Element = $ty;
            fn shape(&self) -> Shape {
                Shape::new()
            }
            fn flatten(self, into: &mut Vec<$ty>) {
                into.push(self);
            }
        }
    )*};
}
scalar_numbers!(f32, f64, half::bf16, half::f16, i32, i64, u8, bool);

impl<N: Numbers, const K: usize> Numbers for [N; K] {
    type Element = N::Element;
    fn shape(&self) -> Shape {
        std::iter::once(K).chain(self.first().map(Numbers::shape).unwrap_or_default()).collect()
    }
    fn flatten(self, into: &mut Vec<N::Element>) {
        self.into_iter().for_each(|part| part.flatten(into));
    }
}

impl<N: Numbers> From<N> for Tensor {
    #[track_caller]
    fn from(numbers: N) -> Tensor {
        let shape = numbers.shape();
        let mut data = Vec::with_capacity(shape.iter().product());
        numbers.flatten(&mut data);
        Tensor::from_vec(data, shape)
    }
}

impl Tensor {
    /// A leaf holding these numbers in row-major order.
    ///
    /// # Panics
    /// If the shape does not have as many elements.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], [2, 2]);
    /// assert_eq!(x.t().to_vec::<f32>(), [1.0, 3.0, 2.0, 4.0]);
    /// ```
    #[track_caller]
    pub fn from_vec<T: Element>(data: impl AsRef<[T]>, shape: impl IntoShape) -> Tensor {
        match Tensor::try_from_vec(data, shape) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`Tensor::from_vec`] for data from outside: a count that does not fit the shape is an error.
    #[track_caller]
    pub fn try_from_vec<T: Element>(data: impl AsRef<[T]>, shape: impl IntoShape) -> Result<Tensor, ShapeError> {
        let (data, shape) = (data.as_ref(), shape.into_shape());
        let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if count != Some(data.len()) {
            return Err(ShapeError::new(
                "from_vec",
                format!("{} numbers for shape {:?}", data.len(), shape.as_slice()),
            ));
        }
        Ok(Tensor::from_storage(Storage::new(Buffer::from_slice(data), Type { dtype: T::DTYPE, shape })))
    }

    /// A leaf over memory that is already laid out.
    #[track_caller]
    pub(crate) fn from_storage(storage: Storage) -> Tensor {
        Tensor::apply(Op::Data(storage), &[])
    }

    /// A leaf's memory, if this is one.
    pub fn storage(&self) -> Option<&Storage> {
        match &self.node.op {
            Op::Data(storage) => Some(storage),
            _ => None,
        }
    }

    /// The memory of a leaf, to write, if nobody else holds the leaf or its memory.
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match &mut Arc::get_mut(&mut self.node)?.op {
            Op::Data(storage) => storage.bytes_mut(),
            _ => None,
        }
    }

    /// A leaf of this one's type for another value, in the same memory, if nobody else holds it.
    #[track_caller]
    pub(crate) fn renewed(mut self) -> Result<Tensor, Tensor> {
        if self.bytes_mut().is_none() {
            return Err(self);
        }
        let node = Arc::get_mut(&mut self.node).expect("nobody else holds it");
        (node.id, node.origin) = (super::next_id(), Origin::here());
        Ok(self)
    }

    /// One number everywhere; takes no memory until it is asked for.
    #[track_caller]
    pub fn full(shape: impl IntoShape, value: f64, dtype: DType) -> Tensor {
        Tensor::constant(Scalar::Float(value), Type { dtype, shape: shape.into_shape() })
    }

    #[track_caller]
    pub(crate) fn constant(value: Scalar, ty: Type) -> Tensor {
        Tensor::apply(Op::Constant(value.cast(ty.dtype), ty), &[])
    }

    /// Zeros of a shape.
    #[track_caller]
    pub fn zeros(shape: impl IntoShape, dtype: DType) -> Tensor {
        Tensor::full(shape, 0.0, dtype)
    }

    /// Ones of a shape.
    #[track_caller]
    pub fn ones(shape: impl IntoShape, dtype: DType) -> Tensor {
        Tensor::full(shape, 1.0, dtype)
    }

    /// Zeros of this tensor's shape and dtype.
    #[track_caller]
    pub fn zeros_like(&self) -> Tensor {
        self.full_like(0.0)
    }

    /// Ones of this tensor's shape and dtype.
    #[track_caller]
    pub fn ones_like(&self) -> Tensor {
        self.full_like(1.0)
    }

    /// One number in this tensor's shape and dtype.
    #[track_caller]
    pub fn full_like(&self, value: f64) -> Tensor {
        Tensor::constant(Scalar::Float(value), self.ty().clone())
    }

    /// 0, 1, …, n − 1.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// assert_eq!(Tensor::arange(3, DType::I64).to_vec::<i64>(), [0, 1, 2]);
    /// ```
    #[track_caller]
    pub fn arange(n: usize, dtype: DType) -> Tensor {
        Tensor::iota([n], 0, dtype)
    }

    /// The index along one axis, repeated along the others.
    #[track_caller]
    pub fn iota(shape: impl IntoShape, axis: usize, dtype: DType) -> Tensor {
        Tensor::apply(Op::Iota(axis, Type { dtype, shape: shape.into_shape() }), &[])
    }

    /// n numbers from start to end, both included.
    #[track_caller]
    pub fn linspace(start: f64, end: f64, n: usize, dtype: DType) -> Tensor {
        let step = if n > 1 { (end - start) / (n - 1) as f64 } else { 0.0 };
        Tensor::arange(n, dtype) * step + start
    }

    /// The n × n identity matrix.
    #[track_caller]
    pub fn eye(n: usize, dtype: DType) -> Tensor {
        Tensor::iota([n, n], 0, DType::I64).equal(Tensor::iota([n, n], 1, DType::I64)).cast(dtype)
    }
}
