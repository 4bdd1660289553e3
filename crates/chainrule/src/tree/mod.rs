//! Trees: how tensors sit in plain structs, tuples, vectors and maps, and the path that names each.
//!
//! Everything that takes "parameters" takes a [`Tree`]: gradients come back in the same type, checkpoints use the
//! paths as names. A leaf is a parameter unless a field says `#[tree(state)]`; `#[tree(skip)]` fields are plain
//! values that are cloned. This room knows no calculus and no files but safetensors.

mod safetensors;

pub use self::safetensors::{
    Metadata, TensorFileError, load, load_tensors, load_tensors_with, save, save_tensors, save_tensors_with,
    take_leaves,
};
pub use chainrule_macros::Tree;

use crate::tensor::Tensor;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What a leaf is to a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Differentiated.
    Parameter,
    /// Carried along, not differentiated: running statistics, counters, keys.
    State,
}

/// One step down a tree: the name of a field, or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The number of an element.
    Index(usize),
    /// The name of a field, or a key.
    Name(Cow<'static, str>),
}

impl From<usize> for Segment {
    fn from(index: usize) -> Segment {
        Segment::Index(index)
    }
}
impl From<&'static str> for Segment {
    fn from(name: &'static str) -> Segment {
        Segment::Name(name.into())
    }
}
impl From<String> for Segment {
    fn from(name: String) -> Segment {
        Segment::Name(name.into())
    }
}
impl From<&String> for Segment {
    fn from(name: &String) -> Segment {
        Segment::Name(name.clone().into())
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Segment::Index(index) => index.fmt(f),
            Segment::Name(name) => f.write_str(name),
        }
    }
}

/// Where a walk through a tree is: the field names and indexes down to a leaf.
#[derive(Debug, Default)]
pub struct Path {
    /// Walks are part of every step of training: as deep as this they allocate nothing.
    segments: SmallVec<[Segment; 8]>,
    state: usize,
}

impl Path {
    /// Visits what lies under a field or index.
    pub fn enter<T>(&mut self, segment: impl Into<Segment>, visit: impl FnOnce(&mut Path) -> T) -> T {
        self.segments.push(segment.into());
        let result = visit(self);
        self.segments.pop();
        result
    }
    /// [`Path::enter`] for a field marked `#[tree(state)]`.
    pub fn enter_state<T>(&mut self, segment: impl Into<Segment>, visit: impl FnOnce(&mut Path) -> T) -> T {
        self.state += 1;
        let result = self.enter(segment, visit);
        self.state -= 1;
        result
    }
    /// The names and indexes from the root to here.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    /// What a leaf here is to a gradient.
    pub fn role(&self) -> Role {
        if self.state > 0 { Role::State } else { Role::Parameter }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            write!(f, "{}{segment}", if i == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// A type that holds tensors in named places; `#[derive(Tree)]` writes this for structs and enums.
///
/// ```
/// use chainrule::prelude::*;
/// #[derive(Tree, Clone)]
/// struct Line { slope: Tensor, #[tree(state)] seen: Tensor, #[tree(skip)] name: String }
/// let line = Line { slope: Tensor::from(2.0), seen: Tensor::from(0i64), name: "l".into() };
/// assert_eq!(paths(&line), ["slope", "seen"]);
/// let g = grad(|l: &Line| &l.slope * 3.0, &line);
/// assert_eq!(g.slope.item::<f64>(), 3.0);
/// ```
pub trait Tree: Sized {
    /// Shows every leaf to a function, in a fixed order.
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor));
    /// The same tree with every leaf replaced, in the same order.
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self;
}

/// The leaves in order.
pub fn leaves<T: Tree>(tree: &T) -> Vec<Tensor> {
    let mut leaves = Vec::new();
    tree.visit(&mut Path::default(), &mut |_, leaf| leaves.push(leaf.clone()));
    leaves
}

/// The path of every leaf, in order; a lone tensor has the empty path.
pub fn paths<T: Tree>(tree: &T) -> Vec<String> {
    let mut paths = Vec::new();
    tree.visit(&mut Path::default(), &mut |path, _| paths.push(path.to_string()));
    paths
}

/// The leaves with path and role, in order.
pub fn named_leaves<T: Tree>(tree: &T) -> Vec<(String, Role, Tensor)> {
    let mut leaves = Vec::new();
    tree.visit(&mut Path::default(), &mut |path, leaf| leaves.push((path.to_string(), path.role(), leaf.clone())));
    leaves
}

/// The number of elements of all parameters.
pub fn parameter_count<T: Tree>(tree: &T) -> usize {
    named_leaves(tree).iter().filter(|leaf| leaf.1 == Role::Parameter).map(|leaf| leaf.2.numel()).sum()
}

/// A tree of the same form holding these leaves.
///
/// # Panics
/// If the number of leaves differs.
#[track_caller]
pub fn rebuild<T: Tree>(template: &T, leaves: &[Tensor]) -> T {
    let mut rest = leaves.iter();
    let tree = template.map(&mut Path::default(), &mut |path, _| match rest.next() {
        Some(leaf) => leaf.clone(),
        None => panic!("rebuild: {} leaves, and none for {path}", leaves.len()),
    });
    assert!(rest.next().is_none(), "rebuild: {} leaves are more than the tree has", leaves.len());
    tree
}

/// Applies a function to every leaf.
pub fn map<T: Tree>(tree: &T, mut function: impl FnMut(&Tensor) -> Tensor) -> T {
    tree.map(&mut Path::default(), &mut |_, leaf| function(leaf))
}

/// Applies a function to every leaf with its path and role.
pub fn map_named<T: Tree>(tree: &T, mut function: impl FnMut(&str, Role, &Tensor) -> Tensor) -> T {
    tree.map(&mut Path::default(), &mut |path, leaf| function(&path.to_string(), path.role(), leaf))
}

/// Applies a function to the pairs of parameters of two trees of one form; state stays the first's.
///
/// This is how an optimizer walks: `zip_map(&model, &grads, |w, g| w - g * 0.1)`.
///
/// # Panics
/// If the trees differ in form.
#[track_caller]
pub fn zip_map<T: Tree>(a: &T, b: &T, mut function: impl FnMut(&Tensor, &Tensor) -> Tensor) -> T {
    let (names, others) = (paths(a), leaves(b));
    if names.len() != others.len() {
        panic!("zip_map: the first tree has {} leaves and the second {}", names.len(), others.len());
    }
    let mut rest = others.iter();
    a.map(&mut Path::default(), &mut |path, leaf| match (path.role(), rest.next()) {
        (Role::Parameter, Some(other)) => function(leaf, other),
        _ => leaf.clone(),
    })
}

impl Tree for Tensor {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        function(path, self);
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Tensor {
        function(path, self)
    }
}

impl Tree for crate::tensor::Key {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        function(path, &self.0);
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        crate::tensor::Key(function(path, &self.0))
    }
}

macro_rules! tuple_tree {
    ($($($name:ident $index:tt)*;)*) => {$(
        impl<$($name: Tree),*> Tree for ($($name,)*) {
            #[allow(unused_variables)]
            fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
                $(path.enter($index as usize, |path| self.$index.visit(path, function));)*
            }
            #[allow(unused_variables, clippy::unused_unit)]
            fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
                ($(path.enter($index as usize, |path| self.$index.map(path, function)),)*)
            }
        }
    )*};
}
tuple_tree! {
    ;
    A 0;
    A 0 B 1;
    A 0 B 1 C 2;
    A 0 B 1 C 2 D 3;
    A 0 B 1 C 2 D 3 E 4;
    A 0 B 1 C 2 D 3 E 4 F 5;
}

impl<T: Tree, const N: usize> Tree for [T; N] {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        self.iter().enumerate().for_each(|(i, part)| path.enter(i, |path| part.visit(path, function)));
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        std::array::from_fn(|i| path.enter(i, |path| self[i].map(path, function)))
    }
}

impl<T: Tree> Tree for Vec<T> {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        self.iter().enumerate().for_each(|(i, part)| path.enter(i, |path| part.visit(path, function)));
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        self.iter().enumerate().map(|(i, part)| path.enter(i, |path| part.map(path, function))).collect()
    }
}

impl<T: Tree> Tree for Option<T> {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        if let Some(part) = self {
            part.visit(path, function);
        }
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        self.as_ref().map(|part| part.map(path, function))
    }
}

impl<T: Tree> Tree for Box<T> {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        (**self).visit(path, function);
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        Box::new((**self).map(path, function))
    }
}

impl<K: Ord + Clone + ToString, T: Tree> Tree for BTreeMap<K, T> {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        self.iter().for_each(|(key, part)| path.enter(key.to_string(), |path| part.visit(path, function)));
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        let entries = self.iter();
        entries.map(|(key, part)| (key.clone(), path.enter(key.to_string(), |path| part.map(path, function)))).collect()
    }
}

/// Leaves in the order of the sorted keys, whatever the hash order.
impl<K: Ord + Hash + Clone + ToString, T: Tree> Tree for HashMap<K, T> {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        let sorted: BTreeMap<&K, &T> = self.iter().collect();
        sorted.iter().for_each(|(key, part)| path.enter(key.to_string(), |path| part.visit(path, function)));
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        let sorted: BTreeMap<&K, &T> = self.iter().collect();
        let entries = sorted.iter();
        entries
            .map(|(key, part)| ((*key).clone(), path.enter(key.to_string(), |path| part.map(path, function))))
            .collect()
    }
}
