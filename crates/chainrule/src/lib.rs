//! `chainrule`: automatic differentiation in which the chain rule is a program transformation.
//!
//! Write ordinary functions over [`Tensor`]s; [`grad`], [`jvp`](differentiate::jvp), [`vmap`](differentiate::vmap) and the other transforms turn them into
//! other functions, to any order; `compile` makes a whole training step one program and runs it fast.
//!
//! The folders are the way of the data, and dependencies only point down: `tensor/` records expressions,
//! `differentiate/` turns expressions into expressions, `program/` lists them, `optimize/` rewrites the listing,
//! `plan/` places it in memory, `execute/` runs it.
//!
//! ```
//! use chainrule::prelude::*;
//!
//! let f = |x: &Tensor| (x * x).sin().sum(..);
//! let x = Tensor::from([0.5, 1.5]);
//! let slope = grad(f, &x);                       // 2x·cos(x²), an expression
//! assert!((slope.to_vec::<f64>()[0] - 0.25f64.cos()).abs() < 1e-15);
//! ```
#![forbid(unsafe_code)]

extern crate self as chainrule;

pub mod differentiate;
pub mod execute;
pub mod optimize;
pub mod plan;
pub mod program;
pub mod tensor;
pub mod tree;

pub use differentiate::grad;
pub use execute::compile;
pub use tensor::Tensor;

/// What most programs need: `use chainrule::prelude::*`.
pub mod prelude {
    pub use crate::differentiate::{
        GradientError, Unreached, checkpoint, custom_derivative, grad, gradient, hessian, hvp, jacobian, jvp,
        value_and_grad, value_and_grad_aux, vjp, vmap, vmap_axes,
    };
    pub use crate::execute::{compile, eval_all};
    pub use crate::tensor::{
        Convolution, DType, Key, NewAxis, Padding, Pooling, ScanOptions, Tensor, concat, cond, einsum, scan,
        scan_truncated, scan_with, stack, step,
    };
    pub use crate::tree::{Tree, leaves, load, parameter_count, paths, save, zip_map};
}

/// The code blocks of the documentation, run as tests.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/differentiate.md")]
    mod differentiate {}
    #[doc = include_str!("../../../docs/errors.md")]
    mod errors {}
    #[doc = include_str!("../../../docs/programs.md")]
    mod programs {}
    #[doc = include_str!("../../../docs/trees.md")]
    mod trees {}
}
