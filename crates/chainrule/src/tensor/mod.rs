//! Tensors are expressions: a cheap handle on an immutable node that says which operation makes the value.
//!
//! This room records and checks; it never computes. A [`Tensor`] knows its operation, its inputs, its shape and
//! dtype and the source line that built it. Operators and methods add nodes; shapes are checked as they do. What
//! leaves the room is the expression itself: `differentiate/` turns it into other expressions, `program/` lists it.

mod activation;
mod arithmetic;
mod composite;
mod control;
mod convolution;
mod data;
mod elementwise;
mod error;
mod graph;
mod index;
mod linear;
mod movement;
mod op;
mod origin;
mod random;
mod reduce;
mod shape;

pub use control::{ScanOptions, cond, scan, scan_truncated, scan_with};
pub use convolution::{Convolution, Padding, Pooling};
pub use data::Storage;
pub use error::ShapeError;
pub use index::{Index, Indexes, NewAxis, step};
pub use linear::einsum;
pub use movement::{concat, stack};
pub use op::{CallKind, Composite, ConvDims, CustomRule, Dims, DotDims, Lambda, Op, Scalar, ScanDims, Shared, Windows};
pub use origin::{Derivation, Origin, Written};
pub use random::Key;
pub use shape::{Axes, IntoShape, Shape, Type};

pub(crate) use composite::define;
pub(crate) use control::{checkpoint_call, cond_call, custom_call, free_values, placeholders, scan_call};
pub(crate) use graph::{KeyMap, collect, forward, instantiate, outputs};
pub(crate) use shape::infer;

pub use chainrule_kernels::alphabet::{Binary, Compare, DType, Distribution, Reduction, Unary};
pub use chainrule_kernels::element::Element;

use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An expression: the value an operation makes from its inputs, not yet computed.
///
/// Cloning copies a handle. Operators and methods record new nodes and check shapes at once, panicking at the
/// caller's line as slices do when something does not fit. [`Tensor::eval`] computes.
///
/// ```
/// use chainrule::prelude::*;
/// let x = Tensor::from([1.0f32, 2.0, 3.0]);
/// let y = (&x * &x).sum(..);
/// assert_eq!(y.item::<f32>(), 14.0);
/// ```
#[derive(Clone)]
pub struct Tensor {
    node: Arc<Node>,
    output: u32,
}

/// One operation with its inputs; most have one output.
pub struct Node {
    id: u64,
    op: Op,
    inputs: SmallVec<[Tensor; 2]>,
    types: SmallVec<[Type; 1]>,
    origin: Origin,
}

/// Order of creation: a node's inputs always have smaller numbers. Nothing but that order depends on it.
static NEXT: AtomicU64 = AtomicU64::new(1);

fn next_id() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Node {
    /// Number in order of creation; inputs come before what uses them.
    pub fn id(&self) -> u64 {
        self.id
    }
    /// The operation.
    pub fn op(&self) -> &Op {
        &self.op
    }
    /// What the operation is applied to.
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }
    /// Shape and dtype of each output.
    pub fn types(&self) -> &[Type] {
        &self.types
    }
    /// The line that built this node.
    pub fn origin(&self) -> Origin {
        self.origin
    }
}

impl Tensor {
    /// Applies an operation to inputs, or says which rule of shapes or dtypes they break.
    ///
    /// This is the one way a node comes to be; every method ends here. An operation with several outputs gives
    /// the first; [`Tensor::output`] reaches the others.
    #[track_caller]
    pub fn try_apply(op: Op, inputs: &[Tensor]) -> Result<Tensor, ShapeError> {
        let types = {
            let inputs: SmallVec<[&Type; 4]> = inputs.iter().map(Tensor::ty).collect();
            shape::infer(&op, &inputs)?
        };
        if let Some(ty) = types.iter().find(|ty| ty.bytes() > isize::MAX as usize) {
            return Err(ShapeError::new(op.name(), format!("{ty} has more elements than any memory holds")));
        }
        Ok(Tensor::from_parts(op, inputs.iter().cloned().collect(), types, Origin::here()))
    }

    /// [`Tensor::try_apply`], panicking at the caller's line.
    #[track_caller]
    pub fn apply(op: Op, inputs: &[Tensor]) -> Tensor {
        match Tensor::try_apply(op, inputs) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    fn from_parts(op: Op, inputs: SmallVec<[Tensor; 2]>, types: SmallVec<[Type; 1]>, origin: Origin) -> Tensor {
        Tensor { node: Arc::new(Node { id: next_id(), op, inputs, types, origin }), output: 0 }
    }

    /// A placeholder of this type, to be bound when a program is captured.
    #[track_caller]
    pub(crate) fn input(ty: Type) -> Tensor {
        Tensor::apply(Op::Input(ty), &[])
    }

    /// The same value as a node of its own: what a transform differentiates with respect to.
    #[track_caller]
    pub(crate) fn variable(&self) -> Tensor {
        Tensor::apply(Op::Variable, std::slice::from_ref(self))
    }

    /// The node that makes this value.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// All outputs of the node.
    pub(crate) fn outputs(&self) -> Vec<Tensor> {
        graph::outputs(&self.node)
    }

    /// Which output of the node this is.
    pub fn output_index(&self) -> usize {
        self.output as usize
    }

    /// Another output of the same node.
    ///
    /// # Panics
    /// If the node has fewer outputs.
    pub fn output(&self, index: usize) -> Tensor {
        assert!(
            index < self.node.types.len(),
            "{} has {} outputs, not {}",
            self.node.op.name(),
            self.node.types.len(),
            index + 1
        );
        Tensor { node: self.node.clone(), output: index as u32 }
    }

    /// Identity of the value within a traversal.
    pub(crate) fn key(&self) -> (u64, u32) {
        (self.node.id, self.output)
    }

    /// Shape and dtype.
    pub fn ty(&self) -> &Type {
        &self.node.types[self.output as usize]
    }
    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.ty().shape
    }
    /// Type of an element.
    pub fn dtype(&self) -> DType {
        self.ty().dtype
    }
    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.ty().shape.len()
    }
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.ty().numel()
    }
    /// Size of one axis; negative counts from the end.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn size(&self, axis: isize) -> usize {
        match shape::axis("size", axis, self.rank()) {
            Ok(axis) => self.shape()[axis],
            Err(error) => panic!("{error}"),
        }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.node.op.name(), self.ty())
    }
}

/// Dropping the last handle on a long expression would recurse once a node; a worklist does not.
impl Drop for Node {
    fn drop(&mut self) {
        let mut pending: Vec<Tensor> = Vec::new();
        take_children(self, &mut pending);
        while let Some(tensor) = pending.pop() {
            if let Some(mut node) = Arc::into_inner(tensor.node) {
                take_children(&mut node, &mut pending);
            }
        }
    }
}

fn take_children(node: &mut Node, pending: &mut Vec<Tensor>) {
    pending.extend(node.inputs.drain(..));
    for body in node.op.bodies_mut() {
        if let Some(lambda) = body.take_unique() {
            pending.extend(lambda.params.into_iter().chain(lambda.results));
        }
    }
}
