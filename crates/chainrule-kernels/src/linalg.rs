//! Dense factorisations and solves in f32 and f64: Cholesky, triangular.
//!
//! Matrices of a batch are independent tiles; within one, plain loops over rows.

use crate::alphabet::DType;
use crate::element::Plain;
use crate::pool::{Pool, fill_tiles};
use crate::scratch;
use crate::view::{View, ViewMut, numel};
use crate::walk::Walk;

/// What the loops need of f32 and f64.
trait Real:
    Plain
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
{
    const NAN: Self;
    fn root(self) -> Self;
}
impl Real for f32 {
    const NAN: f32 = f32::NAN;
    fn root(self) -> f32 {
        self.sqrt()
    }
}
impl Real for f64 {
    const NAN: f64 = f64::NAN;
    fn root(self) -> f64 {
        self.sqrt()
    }
}

fn square(view: &View, what: &str) -> usize {
    let shape = view.shape();
    let rank = shape.len();
    assert!(rank >= 2 && shape[rank - 1] == shape[rank - 2], "{what}: {shape:?} are no square matrices");
    shape[rank - 1]
}

/// Lower Cholesky factor of each matrix of `view` [.., n, n], zero above the diagonal. Only the lower triangle is
/// read. A matrix that is not positive definite gives a factor full of NaN.
pub fn cholesky(pool: &Pool, view: View, out: ViewMut) {
    match view.dtype {
        DType::F32 => factor::<f32>(pool, view, out),
        DType::F64 => factor::<f64>(pool, view, out),
        other => panic!("cholesky: of {other}"),
    }
}

fn factor<T: Real>(pool: &Pool, view: View, out: ViewMut) {
    let n = square(&view, "cholesky");
    let source: &[T] = view.elements();
    let walk = Walk::new(view.layout);
    let out: &mut [T] = out.elements(view.dtype, walk.numel);
    fill_tiles(pool, out, n * n, 1, |first, out| {
        // SAFETY: the layout was checked.
        unsafe { walk.gather(source, first * n * n, out) };
        if !factor_in_place(out, n) {
            out.fill(T::NAN);
        }
    });
}

/// Row by row; `false` if a pivot is not positive.
fn factor_in_place<T: Real>(a: &mut [T], n: usize) -> bool {
    for i in 0..n {
        let (above, row) = a.split_at_mut(i * n);
        let row = &mut row[..n];
        for j in 0..=i {
            let other = if j == i { None } else { Some(&above[j * n..j * n + n]) };
            let mut sum = row[j];
            for k in 0..j {
                sum = sum - row[k] * other.map_or(row[k], |other| other[k]);
            }
            row[j] = match other {
                Some(other) => sum / other[j],
                None if sum > T::default() => sum.root(),
                None => return false,
            };
        }
        row[i + 1..].fill(T::default());
    }
    true
}

/// Solves op(A) X = B for each matrix of `a` [.., n, n] and `b` [.., n, m], where op transposes if `transpose`. `lower`
/// says which triangle of A is read (before transposing); `unit` takes its diagonal for ones. `out` has the shape of `b`.
pub fn triangular_solve(pool: &Pool, a: View, b: View, lower: bool, transpose: bool, unit: bool, out: ViewMut) {
    assert_eq!(a.dtype, b.dtype, "triangular_solve: dtypes differ");
    match a.dtype {
        DType::F32 => solve::<f32>(pool, a, b, lower, transpose, unit, out),
        DType::F64 => solve::<f64>(pool, a, b, lower, transpose, unit, out),
        other => panic!("triangular_solve: of {other}"),
    }
}

fn solve<T: Real>(pool: &Pool, a: View, b: View, lower: bool, transpose: bool, unit: bool, out: ViewMut) {
    let n = square(&a, "triangular_solve");
    let rank = a.layout.rank();
    let shape = b.shape();
    let fits = shape.len() == rank && shape[..rank - 2] == a.shape()[..rank - 2] && shape[rank - 2] == n;
    assert!(fits, "triangular_solve: {:?} and {shape:?} do not fit", a.shape());
    let m = shape[rank - 1];
    let (matrices, sides): (&[T], &[T]) = (a.elements(), b.elements());
    let (walk_a, walk_b) = (Walk::new(a.layout), Walk::new(b.layout));
    let out: &mut [T] = out.elements(b.dtype, numel(shape));
    fill_tiles(pool, out, n * m, 1, |first, out| {
        scratch::with::<T, _>(n * n, |a| {
            // SAFETY: the layouts were checked.
            unsafe {
                walk_a.gather(matrices, first * n * n, a);
                walk_b.gather(sides, first * n * m, out);
            }
            let forward = lower != transpose;
            for step in 0..n {
                let i = if forward { step } else { n - 1 - step };
                let at = |k: usize| if transpose { a[k * n + i] } else { a[i * n + k] };
                let known = if forward { 0..i } else { i + 1..n };
                for k in known {
                    let factor = at(k);
                    let (low, high) = out.split_at_mut(i.max(k) * m);
                    let (x, row) = if k < i {
                        (&low[k * m..k * m + m], &mut high[..m])
                    } else {
                        (&high[..m], &mut low[i * m..i * m + m])
                    };
                    row.iter_mut().zip(x).for_each(|(r, &x)| *r = *r - factor * x);
                }
                if !unit {
                    let pivot = at(i);
                    out[i * m..i * m + m].iter_mut().for_each(|r| *r = *r / pivot);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests;
