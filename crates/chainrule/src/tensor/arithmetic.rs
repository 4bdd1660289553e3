//! Operators and the elementwise functions of two operands: broadcasting and number literals meet here.
//!
//! Operands broadcast as in NumPy. A Rust number takes the tensor's dtype; two tensors must have the same one.

use super::op::Dims;
use super::shape::{self, IntoShape, Shape};
use super::{Binary, Compare, Op, Scalar, ShapeError, Tensor};
use std::ops::{Add, Div, Mul, Neg, Not, Sub};

/// A second operand: a tensor, or a Rust number that becomes a constant of the first operand's dtype.
pub trait Operand {
    /// The operand as a tensor beside `other`.
    #[track_caller]
    fn beside(&self, other: &Tensor) -> Tensor;
}
impl Operand for Tensor {
    fn beside(&self, _: &Tensor) -> Tensor {
        self.clone()
    }
}
impl<T: Operand + ?Sized> Operand for &T {
    #[track_caller]
    fn beside(&self, other: &Tensor) -> Tensor {
        (**self).beside(other)
    }
}
macro_rules! literal_operand {
    ($($ty:ty => $scalar:expr),*) => {$(
        impl Operand for $ty {
            #[track_caller]
            fn beside(&self, other: &Tensor) -> Tensor {
                let scalar: fn($ty) -> Scalar = $scalar;
                let scalar = scalar(*self);
                if matches!(scalar, Scalar::Float(v) if v.fract() != 0.0) && other.dtype().is_int() {
                    panic!("{self} beside {}: a fraction has no place in an integer tensor; cast it to a float", other.ty());
                }
                Tensor::constant(scalar, other.ty().clone())
            }
        }
    )*};
}
literal_operand!(
    f64 => Scalar::Float,
    f32 => |v| Scalar::Float(v as f64),
    i32 => |v| Scalar::Int(v as i64),
    i64 => Scalar::Int,
    usize => |v| Scalar::Int(v as i64),
    bool => Scalar::Bool
);

impl Tensor {
    /// This value repeated to a shape, as in NumPy: axes align at the end, and those of size 1 or missing repeat.
    ///
    /// # Panics
    /// If a size is neither 1 nor the target's.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl IntoShape) -> Tensor {
        let shape = shape.into_shape();
        if self.shape() == &shape[..] {
            return self.clone();
        }
        let offset = shape.len().checked_sub(self.rank());
        let Some(offset) = offset else {
            panic!("broadcast: {:?} has more axes than {:?}", self.shape(), shape.as_slice());
        };
        let axes: Dims = (offset..shape.len()).collect();
        Tensor::apply(Op::Broadcast(shape, axes), std::slice::from_ref(self))
    }

    /// Both operands in the shape they broadcast to.
    #[track_caller]
    pub(crate) fn together(operation: &'static str, a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor), ShapeError> {
        let shape = shape::broadcast(operation, a.shape(), b.shape())?;
        Ok((a.spread(&shape), b.spread(&shape)))
    }

    /// `broadcast_to`, keeping constants constants.
    #[track_caller]
    fn spread(&self, shape: &Shape) -> Tensor {
        match self.node.op() {
            Op::Constant(value, ty) if ty.shape != *shape => {
                Tensor::constant(*value, ty.with_shape(shape.iter().copied()))
            }
            _ => self.broadcast_to(shape),
        }
    }

    #[track_caller]
    fn try_elementwise(op: Op, a: &Tensor, b: impl Operand) -> Result<Tensor, ShapeError> {
        let (a, b) = Tensor::together(op.name(), a, &b.beside(a))?;
        Tensor::try_apply(op, &[a, b])
    }

    #[track_caller]
    fn elementwise(op: Op, a: &Tensor, b: impl Operand) -> Tensor {
        match Tensor::try_elementwise(op, a, b) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// An elementwise function of two operands, with broadcasting, as a result rather than a panic.
    #[track_caller]
    pub fn try_binary(&self, op: Binary, other: impl Operand) -> Result<Tensor, ShapeError> {
        Tensor::try_elementwise(Op::Binary(op), self, other)
    }

    /// The larger of each pair; NaN if either is. At a tie the derivative is shared equally.
    #[track_caller]
    pub fn maximum(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Binary(Binary::Max), self, other)
    }
    /// The smaller of each pair; NaN if either is. At a tie the derivative is shared equally.
    #[track_caller]
    pub fn minimum(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Binary(Binary::Min), self, other)
    }
    /// x to the power y. The derivative by y at x = 0 is 0 where y > 0.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let x = Tensor::from([2.0, 3.0]);
    /// assert_eq!(x.pow(3.0).to_vec::<f64>(), [8.0, 27.0]);
    /// ```
    #[track_caller]
    pub fn pow(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Binary(Binary::Pow), self, other)
    }
    /// Logical and of bools.
    #[track_caller]
    pub fn and(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Binary(Binary::And), self, other)
    }
    /// Logical or of bools.
    #[track_caller]
    pub fn or(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Binary(Binary::Or), self, other)
    }
    /// x < y as bool; false where either is NaN, like all comparisons.
    #[track_caller]
    pub fn less(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Compare(Compare::Less), self, other)
    }
    /// x ≤ y as bool.
    #[track_caller]
    pub fn less_equal(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Compare(Compare::LessEqual), self, other)
    }
    /// x = y as bool.
    #[track_caller]
    pub fn equal(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Compare(Compare::Equal), self, other)
    }
    /// x > y as bool.
    #[track_caller]
    pub fn greater(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Compare(Compare::Less), &other.beside(self), self)
    }
    /// x ≥ y as bool.
    #[track_caller]
    pub fn greater_equal(&self, other: impl Operand) -> Tensor {
        Tensor::elementwise(Op::Compare(Compare::LessEqual), &other.beside(self), self)
    }
    /// x ≠ y as bool; true where either is NaN.
    #[track_caller]
    pub fn not_equal(&self, other: impl Operand) -> Tensor {
        self.equal(other).logical_not()
    }
    /// `condition ? self : other`, elementwise with broadcasting of all three; self is the condition, a bool.
    ///
    /// Both branches are computed. The one that is not taken gets the cotangent 0, which its own derivative may turn
    /// into 0·∞ = NaN: make its operand safe first.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let x = Tensor::from([-4.0, 4.0]);
    /// let y = x.greater(0.0).select(&x, 0.0);
    /// assert_eq!(y.to_vec::<f64>(), [0.0, 4.0]);
    /// ```
    #[track_caller]
    pub fn select(&self, yes: &Tensor, no: impl Operand) -> Tensor {
        let no = no.beside(yes);
        let shape = shape::broadcast("select", self.shape(), yes.shape());
        let shape = shape.and_then(|shape| shape::broadcast("select", &shape, no.shape()));
        match shape {
            Ok(shape) => Tensor::apply(Op::Select, &[self.spread(&shape), yes.spread(&shape), no.spread(&shape)]),
            Err(error) => panic!("{error}"),
        }
    }
    /// Limits values to an interval; the derivative outside it is 0, at a limit one half.
    #[track_caller]
    pub fn clip(&self, low: impl Operand, high: impl Operand) -> Tensor {
        self.maximum(low).minimum(high)
    }
}

macro_rules! operator {
    ($($trait:ident $method:ident),*) => {$(
        impl<R: Operand> $trait<R> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor {
                Tensor::elementwise(Op::Binary(Binary::$trait), self, other)
            }
        }
        impl<R: Operand> $trait<R> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor {
                Tensor::elementwise(Op::Binary(Binary::$trait), &self, other)
            }
        }
        operator!(@literal $trait $method f64 i64);
    )*};
    (@literal $trait:ident $method:ident $($literal:ty)*) => {$(
        impl $trait<&Tensor> for $literal {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                Tensor::elementwise(Op::Binary(Binary::$trait), &self.beside(other), other)
            }
        }
        impl $trait<Tensor> for $literal {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                Tensor::elementwise(Op::Binary(Binary::$trait), &self.beside(&other), &other)
            }
        }
    )*};
}
operator!(Add add, Sub sub, Mul mul, Div div);

impl Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        Tensor::apply(Op::Unary(super::Unary::Neg), std::slice::from_ref(self))
    }
}
impl Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        -&self
    }
}
impl Not for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn not(self) -> Tensor {
        self.logical_not()
    }
}
