//! The loops behind chainrule: slices in, slices out.
//!
//! Every kernel takes byte slices with a dtype and a layout, and writes a contiguous row-major result. Nothing here
//! knows expressions, programs or derivatives, and nothing here decides what to compute. It is the only home of
//! `unsafe` in the project. The bits of a result never depend on the number of threads: work is split by tiles
//! whose bounds follow from shapes alone, and partial results are joined in a fixed order.
//!
//! The way in: [`alphabet`] names, [`element`] types, [`buffer`] owns memory ([`counting`] counts it), [`view`] says where elements lie,
//! [`pool`] runs tiles, [`tape`] is the fused elementwise machine, and the rest is one room per kernel family.

#![warn(missing_docs)]

pub mod alphabet;
pub mod buffer;
pub mod conv;
pub mod counting;
pub mod element;
pub mod gather;
pub mod gemm;
pub mod linalg;
pub mod lines;
mod math;
pub mod movement;
pub mod pool;
pub mod random;
pub mod reduce;
mod scratch;
mod simd;
pub mod tape;
#[cfg(test)]
mod testing;
mod vector;
pub mod view;
mod walk;
pub mod window;

pub use buffer::{Arena, Buffer};
pub use conv::{ConvSpec, conv};
pub use element::{Element, Scalar};
pub use gather::{gather, scatter_add};
pub use gemm::{Panels, matmul};
pub use linalg::{cholesky, triangular_solve};
pub use lines::{arg_reduce, cumsum, sort};
pub use movement::{concat, copy, pad};
pub use pool::Pool;
pub use random::random;
pub use reduce::reduce;
pub use tape::{Instruction, Source, Tape};
pub use view::{Dims, Layout, Strides, View, ViewMut};
pub use window::{fold, max_pool_gradient};
