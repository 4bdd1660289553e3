//! Products of matrices: the general dot product with matmul and einsum on top, and linear algebra.

use super::op::{Dims, DotDims};
use super::shape::{self, Shape};
use super::{Op, ShapeError, Tensor};
use std::sync::Arc;

impl Tensor {
    /// Sum of products over contracted axes; batch axes pair up. The result has batch axes, then the left
    /// operand's free ones, then the right's.
    #[track_caller]
    pub fn dot_general(&self, other: &Tensor, dims: DotDims) -> Tensor {
        Tensor::apply(Op::Dot(Arc::new(dims)), &[self.clone(), other.clone()])
    }

    /// Matrix product as in NumPy: the last two axes multiply, leading ones broadcast, vectors lose their axis.
    ///
    /// # Panics
    /// If the inner sizes differ or the leading axes do not broadcast.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let a = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(a.matmul(&Tensor::from([1.0, 1.0])).to_vec::<f64>(), [3.0, 7.0]);
    /// ```
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        match self.try_matmul(other) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`Tensor::matmul`] as a result.
    #[track_caller]
    pub fn try_matmul(&self, other: &Tensor) -> Result<Tensor, ShapeError> {
        let fail = |message: String| Err(ShapeError::new("matmul", message));
        if self.rank() == 0 || other.rank() == 0 {
            return fail(format!("{} × {}; scalars multiply with *", self.ty(), other.ty()));
        }
        if self.dtype() != other.dtype() {
            return fail(format!("{} × {} mix dtypes; cast one", self.ty(), other.ty()));
        }
        let inner = (self.rank() - 1, other.rank().max(2) - 2);
        let (k, l) = (self.shape()[inner.0], other.shape()[inner.1]);
        if k != l {
            let hint = if other.rank() >= 2 && other.shape()[other.rank() - 1] == k {
                "; did you mean b.t()?"
            } else if self.rank() >= 2 && self.shape()[self.rank() - 2] == l {
                "; did you mean a.t()?"
            } else {
                ""
            };
            return fail(format!("{:?} × {:?}: inner sizes {k} and {l} differ{hint}", self.shape(), other.shape()));
        }
        // A vector or a plain matrix on the right needs no batch: the left operand's leading axes are all free.
        if other.rank() <= 2 {
            let dims = DotDims {
                lhs_contract: Dims::from_slice(&[inner.0]),
                rhs_contract: Dims::from_slice(&[inner.1]),
                ..Default::default()
            };
            return Ok(self.dot_general(other, dims));
        }
        let left = if self.rank() == 1 { self.unsqueeze(0) } else { self.clone() };
        let (a, b) = (left.rank() - 2, other.rank() - 2);
        let batch = shape::broadcast("matmul", &left.shape()[..a], &other.shape()[..b])?;
        let spread = |tensor: &Tensor, lead: usize| {
            let shape: Shape = batch.iter().chain(&tensor.shape()[lead..]).copied().collect();
            tensor.broadcast_to(shape)
        };
        let n = batch.len();
        let axes: Dims = (0..n).collect();
        let dims = DotDims {
            lhs_batch: axes.clone(),
            rhs_batch: axes,
            lhs_contract: Dims::from_slice(&[n + 1]),
            rhs_contract: Dims::from_slice(&[n]),
        };
        let (x, y) = super::Origin::here().scope(|| (spread(&left, a), spread(other, b)));
        let product = x.dot_general(&y, dims);
        Ok(if self.rank() == 1 { product.squeeze(-2) } else { product })
    }

    /// Lower Cholesky factor L of symmetric positive definite matrices: A = L·Lᵀ, [.., n, n].
    ///
    /// Reads the lower triangle; NaN where the matrix is not positive definite. The derivative is that of
    /// Murray 2016 for symmetric changes of A.
    #[track_caller]
    pub fn cholesky(&self) -> Tensor {
        Tensor::apply(Op::Cholesky, std::slice::from_ref(self))
    }

    /// X of A·X = B (or Aᵀ·X = B) for this triangular A [.., n, n] and B [.., n, m]. Only the named triangle of A
    /// is read.
    #[track_caller]
    pub fn triangular_solve(&self, b: &Tensor, lower: bool, transpose: bool) -> Tensor {
        Tensor::apply(Op::TriangularSolve { lower, transpose }, &[self.clone(), b.clone()])
    }

    /// X of A·X = B for this symmetric positive definite A [.., n, n] and B [.., n, m].
    #[track_caller]
    pub fn solve_spd(&self, b: &Tensor) -> Tensor {
        let factor = self.cholesky();
        factor.triangular_solve(&factor.triangular_solve(b, true, false), true, true)
    }

    /// Inverse of symmetric positive definite matrices.
    #[track_caller]
    pub fn inverse_spd(&self) -> Tensor {
        let n = self.size(-1);
        self.solve_spd(&Tensor::eye(n, self.dtype()).broadcast_to(self.shape()))
    }

    /// ln det of symmetric positive definite matrices.
    #[track_caller]
    pub fn logdet_spd(&self) -> Tensor {
        self.cholesky().diagonal().log().sum(-1) * 2.0
    }
}

/// Sums of products by a formula over named axes, as NumPy's einsum: `einsum("bij,bjk->bik", &[&a, &b])`.
///
/// Without `->` the result has the axes that occur once, in alphabetical order. A letter twice in one operand is
/// its diagonal; `...` stands for all axes that are not named, aligned at the end.
///
/// # Panics
/// If the formula does not fit the operands.
///
/// ```
/// use chainrule::prelude::*;
/// let a = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
/// assert_eq!(einsum("ij->j", &[&a]).to_vec::<f64>(), [4.0, 6.0]);
/// ```
#[track_caller]
pub fn einsum(formula: &str, operands: &[&Tensor]) -> Tensor {
    match try_einsum(formula, operands) {
        Ok(tensor) => tensor,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn try_einsum(formula: &str, operands: &[&Tensor]) -> Result<Tensor, ShapeError> {
    let fail = |message: String| Err(ShapeError::new("einsum", format!("\"{formula}\": {message}")));
    let compact: String = formula.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match compact.split_once("->") {
        Some((left, right)) => (left.to_owned(), Some(right.to_owned())),
        None => (compact, None),
    };
    let terms: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    if terms.len() != operands.len() {
        return fail(format!("{} terms for {} operands", terms.len(), operands.len()));
    }
    let result: Vec<char> = right.map(|r| r.chars().collect()).unwrap_or_else(|| {
        let all: Vec<char> = terms.concat();
        let mut once: Vec<char> = all.iter().copied().filter(|c| all.iter().filter(|d| *d == c).count() == 1).collect();
        once.sort_unstable();
        once
    });
    let (terms, result) = expand_ellipses(terms, result, operands);
    for (term, operand) in terms.iter().zip(operands) {
        if term.len() != operand.rank() {
            return fail(format!("term {} for {}", term.iter().collect::<String>(), operand.ty()));
        }
    }
    let mut factors: Vec<(Vec<char>, Tensor)> = Vec::new();
    for (term, operand) in terms.iter().zip(operands) {
        factors.push(diagonals(term.clone(), (*operand).clone()));
    }
    let (mut names, mut product) = factors.remove(0);
    while !factors.is_empty() {
        let (other_names, other) = factors.remove(0);
        let needed = |c: &char| result.contains(c) || factors.iter().any(|(names, _)| names.contains(c));
        let (names_a, a) = sum_away(names, product, |c| other_names.contains(c) || needed(c));
        let (names_b, b) = sum_away(other_names, other, |c| names_a.contains(c) || needed(c));
        let at = |names: &[char], c: &char| names.iter().position(|d| d == c).expect("a shared name");
        let shared: Vec<char> = names_a.iter().copied().filter(|c| names_b.contains(c)).collect();
        let (batch, contract): (Vec<char>, Vec<char>) = shared.iter().partition(|c| needed(c));
        for c in &shared {
            let (x, y) = (a.shape()[at(&names_a, c)], b.shape()[at(&names_b, c)]);
            if x != y {
                return fail(format!("axis {c} has sizes {x} and {y}"));
            }
        }
        let dims = DotDims {
            lhs_batch: batch.iter().map(|c| at(&names_a, c)).collect(),
            rhs_batch: batch.iter().map(|c| at(&names_b, c)).collect(),
            lhs_contract: contract.iter().map(|c| at(&names_a, c)).collect(),
            rhs_contract: contract.iter().map(|c| at(&names_b, c)).collect(),
        };
        let free = |names: &[char]| names.iter().copied().filter(|c| !shared.contains(c)).collect::<Vec<_>>();
        names = [batch, free(&names_a), free(&names_b)].concat();
        product = Tensor::try_apply(Op::Dot(Arc::new(dims)), &[a, b])?;
    }
    let (names, product) = sum_away(names, product, |c| result.contains(c));
    let order: Option<Dims> = result.iter().map(|c| names.iter().position(|d| d == c)).collect();
    match order {
        Some(order) if order.len() == names.len() => Ok(product.permuted(&order)),
        _ => fail("the result must name axes of the operands, each once".into()),
    }
}

/// Gives the axes behind `...` names of their own, the same for axes that align.
fn expand_ellipses(terms: Vec<Vec<char>>, result: Vec<char>, operands: &[&Tensor]) -> (Vec<Vec<char>>, Vec<char>) {
    let hidden =
        |term: &[char], rank: usize| if term.contains(&'.') { (rank + 3).saturating_sub(term.len()) } else { 0 };
    let widest = terms.iter().zip(operands).map(|(term, operand)| hidden(term, operand.rank())).max().unwrap_or(0);
    let expand = |term: &[char], count: usize| -> Vec<char> {
        let text: String = term.iter().collect();
        let names: String =
            (0..count as u32).filter_map(|i| char::from_u32(0xE000 + (widest - count) as u32 + i)).collect();
        text.replacen("...", &names, 1).chars().collect()
    };
    let terms = terms.iter().zip(operands).map(|(term, operand)| expand(term, hidden(term, operand.rank()))).collect();
    (terms, expand(&result, widest))
}

#[track_caller]
fn sum_away(names: Vec<char>, tensor: Tensor, keep: impl Fn(&char) -> bool) -> (Vec<char>, Tensor) {
    let gone: Vec<usize> = (0..names.len()).filter(|&i| !keep(&names[i])).collect();
    if gone.is_empty() {
        return (names, tensor);
    }
    (names.iter().copied().filter(|c| keep(c)).collect(), tensor.sum(&gone[..]))
}

/// Replaces axes with the same name by their diagonal.
#[track_caller]
fn diagonals(mut names: Vec<char>, mut tensor: Tensor) -> (Vec<char>, Tensor) {
    while let Some((i, j)) = (0..names.len()).find_map(|j| (0..j).find(|&i| names[i] == names[j]).map(|i| (i, j))) {
        tensor = tensor.move_axis(j as isize, -1).move_axis(i as isize, -2).diagonal();
        let name = names.remove(j);
        names.remove(i);
        names.push(name);
    }
    (names, tensor)
}
