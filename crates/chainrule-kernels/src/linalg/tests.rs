//! Factors multiply back, solutions solve.

use super::*;
use crate::testing::*;

#[test]
fn factors_multiply_back() {
    let mut rng = Rng(14);
    for n in [0, 1, 2, 5, 33] {
        for dtype in [DType::F32, DType::F64] {
            let g = Value::random(&mut rng, DType::F64, &[2, n, n]);
            let mut a = vec![0.0; 2 * n * n];
            for (b, i, j) in indices(&[2, n, n]).iter().map(|v| (v[0], v[1], v[2])) {
                let sum: f64 = (0..n).map(|k| g.at(&[b, i, k]) * g.at(&[b, j, k])).sum();
                a[(b * n + i) * n + j] = sum + if i == j { n as f64 } else { 0.0 };
            }
            let value = Value::of(dtype, &[2, n, n], &a);
            let l = on_pools(dtype, a.len(), |pool, out| cholesky(pool, value.view(), out));
            let mut back = vec![0.0; a.len()];
            for (b, i, j) in indices(&[2, n, n]).iter().map(|v| (v[0], v[1], v[2])) {
                let at = |i: usize, k: usize| l[(b * n + i) * n + k];
                assert!(j <= i || at(i, j) == 0.0);
                back[(b * n + i) * n + j] = (0..n).map(|k| at(i, k) * at(j, k)).sum();
            }
            assert_close(&back, &a, dtype, n as f64 * 10.0, "L Lᵀ");
        }
    }
    let bad = Value::of(DType::F32, &[2, 2, 2], &[1.0, 2.0, 2.0, 1.0, 4.0, 0.0, 0.0, 9.0]);
    let l = on_pools(DType::F32, 8, |pool, out| cholesky(pool, bad.view(), out));
    assert!(l[..4].iter().all(|x| x.is_nan()) && l[4..] == [2.0, 0.0, 0.0, 3.0]);
}

#[test]
fn solutions_solve() {
    let mut rng = Rng(15);
    for round in 0..64 {
        let (lower, transpose, unit) = (round & 1 == 1, round & 2 == 2, round & 4 == 4);
        let dtype = if round & 8 == 8 { DType::F32 } else { DType::F64 };
        let (n, m) = (rng.below(7), rng.below(4));
        let mut a = Value::random(&mut rng, dtype, &[2, n, n]);
        let raw: Vec<f64> = indices(&[2, n, n])
            .iter()
            .map(|v| if v[1] == v[2] { 3.0 + a.at(v).abs() } else { a.at(v) * 0.3 })
            .collect();
        a = Value::of(dtype, &[2, n, n], &raw);
        let b = Value::random(&mut rng, dtype, &[2, n, m]);
        let x = on_pools(dtype, 2 * n * m, |pool, out| {
            triangular_solve(pool, a.view(), b.view(), lower, transpose, unit, out)
        });
        let back: Vec<f64> = indices(&[2, n, m])
            .iter()
            .map(|v| {
                let entry = |i: usize, k: usize| {
                    let (r, c) = if transpose { (k, i) } else { (i, k) };
                    match () {
                        _ if r == c && unit => 1.0,
                        _ if r != c && (c < r) != lower => 0.0,
                        _ => a.at(&[v[0], r, c]),
                    }
                };
                (0..n).map(|k| entry(v[1], k) * x[(v[0] * n + k) * m + v[2]]).sum()
            })
            .collect();
        assert_close(&back, &b.values(), dtype, 30.0, "op(A) X");
    }
}
