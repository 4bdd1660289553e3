//! Products against a naive loop.

use super::*;
use crate::testing::*;

fn check(dtype: DType, lhs: &Value, rhs: &Value) {
    let (a, b) = (lhs.shape(), rhs.shape());
    let rank = a.len();
    let (m, k, n) = (a[rank - 2], a[rank - 1], b[rank - 1]);
    let mut expected = vec![];
    for lead in indices(&a[..rank - 2]) {
        for i in 0..m {
            for j in 0..n {
                let term = |p| lhs.at(&[&lead[..], &[i, p]].concat()) * rhs.at(&[&lead[..], &[p, j]].concat());
                expected.push((0..k).map(term).sum::<f64>());
            }
        }
    }
    let expected: Vec<f64> =
        expected.into_iter().map(|x| if dtype == DType::U8 { x.rem_euclid(256.0) } else { x }).collect();
    let got = on_pools(dtype, expected.len(), |pool, out| matmul(pool, lhs.view(), rhs.view(), out));
    let what = format!("{:?} × {:?}", lhs.layout, rhs.layout);
    assert_close(&got, &expected, dtype, (k as f64).sqrt() * 8.0, &what);
}

#[test]
fn any_layouts() {
    let mut rng = Rng(10);
    for round in 0..400 {
        let dtype = DType::ALL[round % 7];
        let rank = rng.below(3);
        let lead = rng.shape(rank, 3);
        let most = if round % 4 == 0 { 40 } else { 8 };
        let size = rng.shape(3, most);
        let lhs = Value::random(&mut rng, dtype, &[&lead[..], &[size[0], size[1]]].concat());
        let rhs = Value::random(&mut rng, dtype, &[&lead[..], &[size[1], size[2]]].concat());
        check(dtype, &lhs, &rhs);
    }
}

#[test]
fn thin_products() {
    let mut rng = Rng(12);
    for [m, k, n] in [[1, 784, 512], [1, 37, 301], [2, 517, 83], [3, 70, 70], [4, 4097, 3], [300, 129, 1], [257, 64, 1]]
    {
        for dtype in [DType::F32, DType::F64, DType::I32] {
            for _ in 0..6 {
                let lhs = Value::random(&mut rng, dtype, &[m, k]);
                let rhs = Value::random(&mut rng, dtype, &[k, n]);
                check(dtype, &lhs, &rhs);
            }
        }
    }
}

/// Large products with one small side: the elements of a sample, and the same bits for any number of threads.
#[test]
fn operands_laid_out_once() {
    let mut rng = Rng(14);
    for [m, k, n] in [[800, 137, 101], [97, 130, 801], [768, 700, 110], [100, 900, 770], [1000, 110, 600]] {
        assert!(once::fits([m, n, k]));
        for dtype in [DType::F32, DType::F64, DType::I32] {
            let lhs = Value::random(&mut rng, dtype, &[m, k]);
            let rhs = Value::random(&mut rng, dtype, &[k, n]);
            let all = on_pools(dtype, m * n, |pool, out| matmul(pool, lhs.view(), rhs.view(), out));
            let (got, expected): (Vec<f64>, Vec<f64>) = (0..500)
                .map(|_| (rng.below(m), rng.below(n)))
                .map(|(i, j)| (all[i * n + j], (0..k).map(|p| lhs.at(&[i, p]) * rhs.at(&[p, j])).sum::<f64>()))
                .unzip();
            let what = format!("{:?} × {:?}", lhs.layout, rhs.layout);
            assert_close(&got, &expected, dtype, (k as f64).sqrt() * 8.0, &what);
        }
    }
}

#[test]
fn panels_laid_out_before_give_the_same_bits() {
    let mut rng = Rng(13);
    for [m, k, n] in [[32, 256, 1024], [5, 37, 301], [48, 800, 83], [7, 1000, 16], [13, 33, 32]] {
        for dtype in [DType::F32, DType::F64] {
            let lhs = Value::random(&mut rng, dtype, &[m, k]);
            let rhs = Value::random(&mut rng, dtype, &[k, n]);
            assert!(Panels::worthwhile(m, &[k, n], dtype) || k * n < 1 << 10);
            let expected = on_pools(dtype, m * n, |pool, out| matmul(pool, lhs.view(), rhs.view(), out));
            let got = on_pools(dtype, m * n, |pool, out| {
                let mut panels = Panels::new(&[k, n], dtype);
                panels.fill(pool, rhs.view());
                panels.multiply(pool, lhs.view(), out);
            });
            assert!(got == expected, "{m} × {k} × {n} {dtype}");
        }
    }
}

#[test]
fn blocks_and_tails() {
    let mut rng = Rng(11);
    for [m, k, n] in [[257, 129, 300], [1, 3000, 1500], [3000, 1500, 1], [5, 200_000, 3], [700, 3, 900]] {
        for dtype in [DType::F32, DType::F64] {
            let lhs = Value::random(&mut rng, dtype, &[m, k]);
            let rhs = Value::random(&mut rng, dtype, &[k, n]);
            check(dtype, &lhs, &rhs);
        }
    }
}
