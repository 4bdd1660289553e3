//! How good made examples are, by what a classifier says of them: its score, and a distance from true examples.
//!
//! Both look at a whole set of examples at once, and both depend on the classifier: figures of different classifiers do
//! not compare.

use chainrule::tensor::{DType, Tensor};

/// A pivot below this part of the largest variance is a direction in which nothing varies.
const NOTHING: f64 = 1e-12;

/// exp of the mean divergence of p(class | example) from p(class), for logits `[n, classes]`: 1 if all examples are read
/// alike or as anything at once, and as many as there are classes if each is read as one, all equally often.
///
/// T. Salimans et al., "Improved techniques for training GANs", 2016, with any classifier in the place of Inception.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_train::metrics::classifier_score;
/// let sure = Tensor::eye(4, DType::F32) * 1e3;
/// assert!((classifier_score(&sure) - 4.0).abs() < 1e-6);
/// assert!((classifier_score(&Tensor::zeros([8, 4], DType::F32)) - 1.0).abs() < 1e-6);
/// ```
///
/// # Panics
/// If the logits are not a matrix with at least one row.
#[track_caller]
pub fn classifier_score(logits: &Tensor) -> f64 {
    assert!(logits.rank() == 2 && logits.size(0) > 0, "classifier_score: logits are {}, not [n, classes]", logits.ty());
    let log = logits.cast(DType::F64).log_softmax(-1);
    let each = log.exp();
    // A class that nobody is read as: 0·ln 0 is 0.
    let all = each.mean(0).maximum(f64::MIN_POSITIVE);
    (each * (log - all.log())).sum(-1).mean(..).exp().item::<f64>()
}

/// Mean and covariance of rows of features, taken in piece by piece.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_train::metrics::Moments;
/// let mut moments = [Moments::new(2), Moments::new(2)];
/// moments[0].add(&Tensor::from([[0.0, 1.0], [2.0, 1.0]]));
/// moments[1].add(&Tensor::from([[3.0, 1.0], [5.0, 1.0]]));
/// // The same form three further on.
/// assert!((moments[0].frechet_distance(&moments[1]) - 9.0).abs() < 1e-6);
/// ```
#[derive(Clone, Debug)]
pub struct Moments {
    count: usize,
    /// Σ x.
    sum: Tensor,
    /// Σ x·xᵀ.
    products: Tensor,
}

impl Moments {
    /// Of rows of so many features, none yet.
    pub fn new(features: usize) -> Moments {
        let zeros = |shape: &[usize]| Tensor::zeros(shape.to_vec(), DType::F64);
        Moments { count: 0, sum: zeros(&[features]), products: zeros(&[features, features]) }
    }

    /// Takes in rows `[n, features]`.
    ///
    /// # Panics
    /// If they have another number of features.
    #[track_caller]
    pub fn add(&mut self, rows: &Tensor) {
        assert!(
            rows.rank() == 2 && rows.size(1) == self.sum.numel(),
            "Moments: rows are {}, and there are {} features",
            rows.ty(),
            self.sum.numel()
        );
        let rows = rows.cast(DType::F64);
        self.count += rows.size(0);
        self.sum = (&self.sum + rows.sum(0)).eval();
        self.products = (&self.products + rows.t().matmul(&rows)).eval();
    }

    /// Rows taken in.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean `[features]`.
    ///
    /// # Panics
    /// If there are no rows.
    #[track_caller]
    pub fn mean(&self) -> Tensor {
        assert!(self.count > 0, "Moments: the mean of no rows");
        (&self.sum / self.count as f64).eval()
    }

    /// The covariance `[features, features]`, with n − 1 below.
    ///
    /// # Panics
    /// If there are fewer than two rows.
    #[track_caller]
    pub fn covariance(&self) -> Tensor {
        assert!(self.count > 1, "Moments: the covariance of {} rows", self.count);
        let mean = self.mean();
        let outer = mean.unsqueeze(1) * mean.unsqueeze(0) * self.count as f64;
        ((&self.products - outer) / (self.count - 1) as f64).eval()
    }

    /// The squared distance of Fréchet between normal distributions of these moments,
    /// ‖m₁ − m₂‖² + tr(C₁ + C₂ − 2·(C₁·C₂)^½). In the features of a classifier it says how far made examples are from
    /// true ones: M. Heusel et al., "GANs trained by a two time-scale update rule", 2017.
    ///
    /// The trace of the root is the sum of the singular values of L₁ᵀ·L₂ where C = L·Lᵀ, so that no root of a matrix that
    /// is hardly definite is needed.
    ///
    /// # Panics
    /// If the numbers of features differ, or one has fewer than two rows.
    #[track_caller]
    pub fn frechet_distance(&self, other: &Moments) -> f64 {
        let size = self.sum.numel();
        assert!(size == other.sum.numel(), "frechet_distance: {size} and {} features", other.sum.numel());
        let apart = (self.mean() - other.mean()).square().sum(..).item::<f64>();
        let (here, there) = (self.covariance(), other.covariance());
        let traces = (here.diagonal().sum(..) + there.diagonal().sum(..)).item::<f64>();
        let [first, second] = [&here, &there].map(|c| Tensor::from_vec(root(c.to_vec(), size), [size, size]));
        let between = first.t().matmul(&second);
        let squares = eigenvalues(between.t().matmul(&between).to_vec(), size);
        let shared: f64 = squares.iter().map(|square| square.max(0.0).sqrt()).sum();
        (apart + traces - 2.0 * shared).max(0.0)
    }
}

/// L with L·Lᵀ = A, row by row, for a matrix that is positive or zero along every direction (Cholesky).
fn root(mut a: Vec<f64>, n: usize) -> Vec<f64> {
    let least = (0..n).map(|i| a[i * n + i]).fold(0.0, f64::max) * NOTHING;
    for j in 0..n {
        let pivot = a[j * n + j] - (0..j).map(|k| a[j * n + k] * a[j * n + k]).sum::<f64>();
        let scale = if pivot > least { pivot.sqrt() } else { 0.0 };
        a[j * n + j] = scale;
        for i in j + 1..n {
            let (above, below) = a.split_at_mut(i * n);
            let (row, other) = (&mut below[..n], &above[j * n..j * n + j]);
            let rest = row[j] - row[..j].iter().zip(other).map(|(x, y)| x * y).sum::<f64>();
            row[j] = if scale > 0.0 { rest / scale } else { 0.0 };
        }
        a[j * n + j + 1..(j + 1) * n].fill(0.0);
    }
    a
}

/// The eigenvalues of a symmetric matrix, ascending: Householder's reflections make it tridiagonal, and bisection
/// counts how many eigenvalues lie below a number. G. Golub and C. Van Loan, *Matrix Computations*, 2013, chapter 8.
fn eigenvalues(a: Vec<f64>, n: usize) -> Vec<f64> {
    let (diagonal, beside) = tridiagonal(a, n);
    let reach = |i: usize| beside[i].abs() + beside.get(i + 1).map_or(0.0, |next| next.abs());
    let low = (0..n).map(|i| diagonal[i] - reach(i)).fold(f64::INFINITY, f64::min);
    let high = (0..n).map(|i| diagonal[i] + reach(i)).fold(f64::NEG_INFINITY, f64::max);
    let tiny = f64::EPSILON * low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
    let below = |x: f64| {
        let mut pivot = 1.0;
        (0..n)
            .filter(|&i| {
                pivot = diagonal[i] - x - if i == 0 { 0.0 } else { beside[i] * beside[i] / pivot };
                if pivot.abs() < tiny * f64::EPSILON {
                    pivot = -tiny * f64::EPSILON;
                }
                pivot < 0.0
            })
            .count()
    };
    let find = |k: usize| {
        let (mut left, mut right) = (low, high);
        while right - left > 2.0 * tiny {
            let middle = left + (right - left) / 2.0;
            if middle <= left || middle >= right {
                break;
            }
            if below(middle) > k { right = middle } else { left = middle }
        }
        left + (right - left) / 2.0
    };
    (0..n).map(find).collect()
}

/// Diagonal, and what stands left of it in each row (0 in the first).
fn tridiagonal(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut beside = vec![0.0; n];
    for i in (1..n).rev() {
        let mut v = a[i * n..i * n + i].to_vec();
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let last = v[i - 1];
        if norm == 0.0 || norm == last.abs() {
            // Only the one beside the diagonal is there.
            beside[i] = last;
            continue;
        }
        beside[i] = if last > 0.0 { -norm } else { norm };
        v[i - 1] -= beside[i];
        let half = v.iter().map(|x| x * x).sum::<f64>() / 2.0;
        let mut p: Vec<f64> =
            (0..i).map(|r| a[r * n..r * n + i].iter().zip(&v).map(|(x, y)| x * y).sum::<f64>() / half).collect();
        let part = v.iter().zip(&p).map(|(x, y)| x * y).sum::<f64>() / (2.0 * half);
        p.iter_mut().zip(&v).for_each(|(p, v)| *p -= part * v);
        for r in 0..i {
            for c in 0..i {
                a[r * n + c] -= v[r] * p[c] + p[r] * v[c];
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), beside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chainrule::prelude::*;

    fn near(a: f64, b: f64, within: f64) -> bool {
        (a - b).abs() <= within * (1.0 + b.abs())
    }

    #[test]
    fn eigenvalues_are_those_that_are_known() {
        let mut wrong = Vec::new();
        let mut check = |name: &str, a: Vec<f64>, right: &[f64]| {
            let found = eigenvalues(a, right.len());
            if !found.iter().zip(right).all(|(a, b)| near(*a, *b, 1e-12)) {
                wrong.push(format!("{name}: {found:?}, not {right:?}"));
            }
        };
        check("one", vec![3.0], &[3.0]);
        check("zeros", vec![0.0; 9], &[0.0; 3]);
        check("two", vec![2.0, 1.0, 1.0, 2.0], &[1.0, 3.0]);
        check("diagonal", vec![3.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0], &[-1.0, 2.0, 3.0]);
        // Second differences: 2 − 2·cos(k·π/(n + 1)).
        let n = 12;
        let differences = |i: usize, j: usize| if i == j { 2.0 } else { -f64::from(i.abs_diff(j) == 1) };
        let right: Vec<f64> = (1..=n).map(|k| 2.0 - 2.0 * (k as f64 * std::f64::consts::PI / 13.0).cos()).collect();
        check("differences", (0..n * n).map(|at| differences(at / n, at % n)).collect(), &right);
        // All ones: n once, the rest 0.
        check("ones", vec![1.0; 36], &[0.0, 0.0, 0.0, 0.0, 0.0, 6.0]);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn roots_of_matrices_that_are_not_definite_are_roots() {
        let x = Key::new(3).normal([3, 5], DType::F64).eval();
        let a = x.t().matmul(&x).eval();
        let l = Tensor::from_vec(root(a.to_vec(), 5), [5, 5]);
        assert!((l.matmul(&l.t()) - a).abs().max(..).item::<f64>() < 1e-6);
    }

    #[test]
    fn the_distance_is_that_of_the_formula() {
        let moments = |rows: &Tensor| {
            let mut moments = Moments::new(rows.size(1));
            // In two pieces: they add up.
            moments.add(&rows.narrow(0, 0, 100));
            moments.add(&rows.narrow(0, 100, rows.size(0) - 100));
            moments
        };
        let x = Key::new(1).normal([1000, 4], DType::F64).eval();
        let mut wrong = Vec::new();
        let here = moments(&x);
        // Scaled by s along each axis, the root of C·(s²·C) is s·C; where a column repeats, C is not definite.
        let twice = concat(&[&x, &x], 1).eval();
        for (name, a, scale, shift) in
            [("same", &x, 1.0, 0.0), ("scaled", &x, 2.0, 0.0), ("moved", &x, 0.5, 3.0), ("repeated", &twice, 1.5, 1.0)]
        {
            let first = moments(a);
            let found = first.frechet_distance(&moments(&(a * scale + shift).eval()));
            let mean = first.mean();
            let apart = (&mean * (scale - 1.0) + shift).square().sum(..).item::<f64>();
            let trace = first.covariance().diagonal().sum(..).item::<f64>();
            let right = apart + trace * (1.0 - scale) * (1.0 - scale);
            if !near(found, right, 1e-6) {
                wrong.push(format!("{name}: {found}, not {right}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(near(here.covariance().at((0, 0)).item::<f64>(), x.at((.., 0)).variance(.., 1).item::<f64>(), 1e-12));
    }
}
