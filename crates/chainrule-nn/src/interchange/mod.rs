//! Weights from and for others: the tensors of a PyTorch state dict in the places of a tree, and back.
//!
//! Layers keep their weights as PyTorch does and under its names, so mostly a leaf's path is the name. Where it is
//! not, [`Rules`] say which leaves are which tensor: [`Rules::pytorch`] for this crate's layers, others for whole
//! models. Reading is complete or an error: every leaf is filled once, every tensor of the file is used or allowed to
//! be left over. Pickles (`.bin`, `.pt`) are refused: they are programs; write safetensors from Python.

mod checkpoint;
mod layers;
mod rules;

pub use checkpoint::{load_checkpoint, load_pytorch, save_pytorch};
pub use rules::{Pattern, Rule, Rules};

use chainrule::tensor::{DType, Tensor, concat};
use chainrule::tree::{self, TensorFileError, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Why tensors of others could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum InterchangeError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// The index of a checkpoint in several files.
    #[error("{}: {why}", .path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The tensors are not those that the tree needs.
    #[error("{}", summary(.0))]
    Misfit(Vec<Misfit>),
}

/// One thing that does not fit between a tree and a state dict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A leaf's tensor is not in the file.
    #[error("{ours} needs {theirs}, which is not in the file")]
    Missing {
        /// The leaf's path (several, if they are joined there).
        ours: String,
        /// The name that was looked for.
        theirs: String,
    },
    /// A tensor has another shape.
    #[error("{ours} needs {theirs} as {wanted:?}, and the file has it as {found:?}")]
    Shape {
        /// The leaf's path.
        ours: String,
        /// The tensor's name.
        theirs: String,
        /// The shape that the tree needs there.
        wanted: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// Integers for floats, or the other way round.
    #[error("{ours} is {wanted:?}, and {theirs} in the file is {found:?}")]
    DType {
        /// The leaf's path.
        ours: String,
        /// The tensor's name.
        theirs: String,
        /// The leaf's dtype.
        wanted: DType,
        /// The dtype in the file.
        found: DType,
    },
    /// A tensor of the file has no place in the tree.
    #[error("{theirs} of the file has no place in the model")]
    LeftOver {
        /// The tensor's name.
        theirs: String,
    },
    /// Two leaves, or two tensors of the file, have one name.
    #[error("{theirs} stands for two things: {first} and {second}")]
    Clash {
        /// The name.
        theirs: String,
        /// What has it.
        first: String,
        /// What has it too.
        second: String,
    },
}

fn summary(misfits: &[Misfit]) -> String {
    let shown: Vec<String> = misfits.iter().take(5).map(Misfit::to_string).collect();
    match misfits.len() {
        0..=5 => shown.join("; "),
        n => format!("{}; and {} more", shown.join("; "), n - 5),
    }
}

/// The tensors of a tree under the names of others, computed.
///
/// # Errors
/// If two leaves get one name.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::interchange::{Rules, from_pytorch, to_pytorch};
/// use chainrule_nn::prelude::*;
/// let layer = Linear::new(&Key::new(1), 3, 2);
/// let tensors = to_pytorch(&layer, &Rules::pytorch()).unwrap();
/// assert_eq!(tensors["weight"].shape(), [2, 3]);
/// let other = Linear::new(&Key::new(2), 3, 2);
/// let back = from_pytorch(&other, tensors.clone(), &Rules::pytorch()).unwrap();
/// assert_eq!(back.weight.to_vec::<f32>(), layer.weight.to_vec::<f32>());
///
/// let wide = from_pytorch(&Linear::new(&Key::new(1), 4, 2), tensors, &Rules::pytorch());
/// assert_eq!(wide.unwrap_err().to_string(), "weight needs weight as [2, 4], and the file has it as [2, 3]");
/// ```
pub fn to_pytorch<M: Tree>(model: &M, rules: &Rules) -> Result<BTreeMap<String, Tensor>, InterchangeError> {
    let form = Form::of(model);
    let mut tensors = BTreeMap::new();
    for place in form.places(rules)? {
        let parts: Vec<Tensor> = place.parts.iter().map(|&part| form.leaves[part].1.clone()).collect();
        let joined = if parts.len() == 1 { parts[0].clone() } else { concat(&parts, place.axis as isize) };
        tensors.insert(place.theirs, if place.transposed { joined.t().eval() } else { joined.eval() });
    }
    Ok(tensors)
}

/// A tree of the template's form with the tensors of others in its places. Floats become the template's dtype.
///
/// # Errors
/// Everything that does not fit, named: leaves without a tensor, other shapes, integers for floats, tensors without a
/// place.
pub fn from_pytorch<M: Tree>(
    template: &M,
    tensors: BTreeMap<String, Tensor>,
    rules: &Rules,
) -> Result<M, InterchangeError> {
    let form = Form::of(template);
    let places = form.places(rules)?;
    let mut misfits = Vec::new();
    let mut named: BTreeMap<String, (String, Tensor)> = BTreeMap::new();
    for (name, tensor) in tensors {
        let known = rules.spelling(&name);
        match named.insert(known.clone(), (name.clone(), tensor)) {
            Some((first, _)) => misfits.push(Misfit::Clash { theirs: known, first, second: name }),
            None => continue,
        }
    }
    let mut leaves: Vec<Tensor> = form.leaves.iter().map(|leaf| leaf.1.clone()).collect();
    for place in places {
        match named.remove(&place.theirs) {
            Some((_, tensor)) => match form.take_apart(&place, &tensor) {
                Ok(parts) => place.parts.iter().zip(parts).for_each(|(&part, leaf)| leaves[part] = leaf),
                Err(misfit) => misfits.push(misfit),
            },
            None if rules.is_optional(&place.theirs) => (),
            None => misfits.push(Misfit::Missing { ours: form.name(&place), theirs: place.theirs }),
        }
    }
    let left_over = named.into_iter().filter(|(known, _)| !rules.is_ignored(known));
    misfits.extend(left_over.map(|(_, (theirs, _))| Misfit::LeftOver { theirs }));
    if misfits.is_empty() { Ok(tree::rebuild(template, &leaves)) } else { Err(InterchangeError::Misfit(misfits)) }
}

/// The leaves of a tree with their paths.
struct Form {
    leaves: Vec<(String, Tensor)>,
}

impl Form {
    fn of<M: Tree>(model: &M) -> Form {
        Form { leaves: tree::named_leaves(model).into_iter().map(|(path, _, leaf)| (path, leaf)).collect() }
    }

    fn places(&self, rules: &Rules) -> Result<Vec<rules::Place>, InterchangeError> {
        let shapes: Vec<(String, &[usize])> =
            self.leaves.iter().map(|(path, leaf)| (path.clone(), leaf.shape())).collect();
        let places = rules.places(&shapes);
        let mut names: BTreeMap<&str, &rules::Place> = BTreeMap::new();
        let mut clashes = Vec::new();
        for place in &places {
            if let Some(first) = names.insert(&place.theirs, place) {
                let (first, second) = (self.name(first), self.name(place));
                clashes.push(Misfit::Clash { theirs: place.theirs.clone(), first, second });
            }
        }
        let parts: BTreeSet<usize> = places.iter().flat_map(|place| place.parts.clone()).collect();
        debug_assert_eq!(parts.len(), self.leaves.len(), "every leaf has one place");
        if clashes.is_empty() { Ok(places) } else { Err(InterchangeError::Misfit(clashes)) }
    }

    /// The paths of a place's leaves.
    fn name(&self, place: &rules::Place) -> String {
        place.parts.iter().map(|&part| self.leaves[part].0.as_str()).collect::<Vec<_>>().join(" + ")
    }

    /// The leaves that a tensor of the file holds.
    fn take_apart(&self, place: &rules::Place, tensor: &Tensor) -> Result<Vec<Tensor>, Misfit> {
        let templates: Vec<&Tensor> = place.parts.iter().map(|&part| &self.leaves[part].1).collect();
        let (ours, theirs) = (self.name(place), place.theirs.clone());
        let mut wanted = templates[0].shape().to_vec();
        if templates.len() > 1 {
            wanted[place.axis] = templates.iter().map(|leaf| leaf.size(place.axis as isize)).sum();
        }
        let rank = wanted.len();
        if place.transposed && rank >= 2 {
            wanted.swap(rank - 2, rank - 1);
        }
        if wanted != tensor.shape() {
            return Err(Misfit::Shape { ours, theirs, wanted, found: tensor.shape().to_vec() });
        }
        let (dtype, found) = (templates[0].dtype(), tensor.dtype());
        if dtype.is_float() != found.is_float() || (dtype == DType::Bool) != (found == DType::Bool) {
            return Err(Misfit::DType { ours, theirs, wanted: dtype, found });
        }
        let whole = if place.transposed && rank >= 2 { tensor.t() } else { tensor.clone() };
        if templates.len() == 1 {
            return Ok(vec![whole.cast(dtype).eval()]);
        }
        let mut start = 0;
        let mut next = |leaf: &Tensor| {
            let size = leaf.size(place.axis as isize);
            let part = whole.narrow(place.axis as isize, start, size);
            start += size;
            part.cast(leaf.dtype()).eval()
        };
        Ok(templates.into_iter().map(&mut next).collect())
    }
}
