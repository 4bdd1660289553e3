//! Lanczos' method: a symmetric matrix that one can only multiply with, seen through a small tridiagonal one.
//!
//! Every new vector is made orthogonal to all before it, twice, so no eigenvalue appears a second time by rounding. Where
//! the method finds an invariant subspace it goes on from a new direction, so a full run gives all eigenvalues.

/// A symmetric tridiagonal matrix QᵀAQ and its basis Q.
pub(super) struct Tridiagonal {
    pub diagonal: Vec<f64>,
    /// One more than between the rows: the last is what was left over.
    pub off: Vec<f64>,
    pub basis: Vec<Vec<f64>>,
}

/// An eigenvalue of the small matrix, with its eigenvector there.
pub(super) struct Ritz {
    pub value: f64,
    pub vector: Vec<f64>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn orthogonalise(v: &mut [f64], basis: &[Vec<f64>]) {
    for _ in 0..2 {
        for q in basis {
            let along = dot(v, q);
            v.iter_mut().zip(q).for_each(|(v, q)| *v -= along * q);
        }
    }
}

impl Tridiagonal {
    /// Up to `steps` products from a first vector; `fresh` gives other vectors if one is needed, `done` may end it.
    pub fn run(
        first: Vec<f64>,
        steps: usize,
        mut product: impl FnMut(&[f64]) -> Vec<f64>,
        mut fresh: impl FnMut(usize) -> Vec<f64>,
        mut done: impl FnMut(&Tridiagonal) -> bool,
    ) -> Tridiagonal {
        let n = first.len();
        let mut so_far = Tridiagonal { diagonal: vec![], off: vec![], basis: vec![] };
        let mut next = first;
        let mut size = 0.0f64;
        for step in 0..steps.min(n) {
            let length = norm(&next);
            next.iter_mut().for_each(|x| *x /= length);
            so_far.basis.push(next);
            let q = &so_far.basis[step];
            let mut w = product(q);
            so_far.diagonal.push(dot(&w, q));
            size = size.max(norm(&w));
            orthogonalise(&mut w, &so_far.basis);
            let mut left = norm(&w);
            if left <= 1e-10 * size {
                left = 0.0;
                w = fresh(step);
                orthogonalise(&mut w, &so_far.basis);
            }
            so_far.off.push(left);
            if done(&so_far) {
                break;
            }
            next = w;
        }
        so_far
    }

    /// Eigenvalues with eigenvectors, the smallest first: the implicit QL method (Bowdler et al. 1968).
    pub fn eigen(&self) -> Vec<Ritz> {
        let n = self.diagonal.len();
        let mut d = self.diagonal.clone();
        let mut e: Vec<f64> = self.off.iter().take(n.saturating_sub(1)).copied().chain([0.0]).collect();
        let mut z: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect();
        for l in 0..n {
            for _ in 0..100 {
                let small = |m: &usize| e[*m].abs() <= f64::EPSILON * (d[*m].abs() + d[*m + 1].abs());
                let m = (l..n - 1).find(small).unwrap_or(n - 1);
                if m == l {
                    break;
                }
                sweep(&mut d, &mut e, &mut z, l, m);
            }
        }
        let mut pairs: Vec<Ritz> =
            (0..n).map(|j| Ritz { value: d[j], vector: z.iter().map(|row| row[j]).collect() }).collect();
        pairs.sort_by(|a, b| a.value.total_cmp(&b.value));
        pairs
    }

    /// How far a Ritz pair is from an eigenpair: ‖A·y − θ·y‖.
    pub fn residual(&self, pair: &Ritz) -> f64 {
        let last = pair.vector.last().copied().unwrap_or(0.0);
        (self.off.last().copied().unwrap_or(0.0) * last).abs()
    }

    /// The eigenvector of the large matrix that a Ritz pair stands for.
    pub fn vector(&self, pair: &Ritz) -> Vec<f64> {
        let n = self.basis.first().map_or(0, Vec::len);
        let mut vector = vec![0.0; n];
        for (q, weight) in self.basis.iter().zip(&pair.vector) {
            vector.iter_mut().zip(q).for_each(|(v, q)| *v += weight * q);
        }
        vector
    }
}

/// One QL sweep with Wilkinson's shift over rows l to m.
fn sweep(d: &mut [f64], e: &mut [f64], z: &mut [Vec<f64>], l: usize, m: usize) {
    let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
    let r = g.hypot(1.0);
    let mut g = d[m] - d[l] + e[l] / (g + r.copysign(g));
    let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
    for i in (l..m).rev() {
        let f = s * e[i];
        let b = c * e[i];
        let r = f.hypot(g);
        e[i + 1] = r;
        if r == 0.0 {
            d[i + 1] -= p;
            e[m] = 0.0;
            return;
        }
        (s, c) = (f / r, g / r);
        let g_next = d[i + 1] - p;
        let r = (d[i] - g_next) * s + 2.0 * c * b;
        p = s * r;
        d[i + 1] = g_next + p;
        g = c * r - b;
        for row in z.iter_mut() {
            let f = row[i + 1];
            row[i + 1] = s * row[i] + c * f;
            row[i] = c * row[i] - s * f;
        }
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second difference of n points has eigenvalues 2 − 2·cos(kπ/(n + 1)).
    #[test]
    fn the_second_difference_has_its_known_eigenvalues() {
        let n = 40;
        let product = |v: &[f64]| {
            let at = |i: isize| if (0..n as isize).contains(&i) { v[i as usize] } else { 0.0 };
            (0..n as isize).map(|i| 2.0 * at(i) - at(i - 1) - at(i + 1)).collect()
        };
        let first = (0..n).map(|i| ((i * 7 + 3) % 11) as f64 - 4.5).collect();
        let fresh = |step: usize| (0..n).map(|i| ((i * 5 + step) % 13) as f64 - 6.0).collect();
        let small = Tridiagonal::run(first, n, product, fresh, |_| false);
        for (k, pair) in small.eigen().iter().enumerate() {
            let exact = 2.0 - 2.0 * ((k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64).cos();
            assert!((pair.value - exact).abs() < 1e-12, "{k}: {} for {exact}", pair.value);
            let y = small.vector(pair);
            let off: f64 = product(&y).iter().zip(&y).map(|(a, y)| (a - pair.value * y).powi(2)).sum::<f64>().sqrt();
            assert!(off < 1e-10, "{k}: {off}");
        }
    }

    #[test]
    fn equal_eigenvalues_are_all_found() {
        let scale = [3.0, 3.0, 3.0, 1.0, 0.0, 0.0];
        let product = |v: &[f64]| v.iter().zip(scale).map(|(v, s)| v * s).collect();
        let fresh = |step: usize| (0..6).map(|i| ((i * i + step) % 5) as f64 + 0.1 * i as f64).collect();
        let found = Tridiagonal::run(vec![1.0; 6], 6, product, fresh, |_| false).eigen();
        let values: Vec<f64> = found.iter().map(|pair| (pair.value * 1e9).round() / 1e9).collect();
        assert_eq!(values, [0.0, 0.0, 1.0, 3.0, 3.0, 3.0]);
    }
}
