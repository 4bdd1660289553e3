//! Reductions against a naive loop.

use super::*;
use crate::testing::*;

fn naive(reduction: Reduction, value: &Value, axes: &[usize]) -> Vec<f64> {
    let kept: Vec<usize> = (0..value.shape().len()).filter(|a| !axes.contains(a)).collect();
    let start = match (reduction, value.dtype) {
        (Reduction::Sum, _) => 0.0,
        (Reduction::Prod, _) => 1.0,
        (Reduction::Max, DType::Bool) => 0.0,
        (Reduction::Min, DType::Bool) => 1.0,
        (Reduction::Max, d) if d.is_float() => f64::NEG_INFINITY,
        (Reduction::Min, d) if d.is_float() => f64::INFINITY,
        (Reduction::Max, DType::I32) => i32::MIN as f64,
        (Reduction::Min, DType::I32) => i32::MAX as f64,
        (Reduction::Max, DType::I64) => i64::MIN as f64,
        (Reduction::Min, DType::I64) => i64::MAX as f64,
        (Reduction::Max, _) => 0.0,
        (Reduction::Min, _) => 255.0,
    };
    let shape: Vec<usize> = kept.iter().map(|&a| value.shape()[a]).collect();
    let over: Vec<usize> = axes.iter().map(|&a| value.shape()[a]).collect();
    indices(&shape)
        .iter()
        .map(|k| {
            indices(&over).iter().fold(start, |acc, o| {
                let mut index = vec![0; value.shape().len()];
                kept.iter().zip(k).for_each(|(&a, &i)| index[a] = i);
                axes.iter().zip(o).for_each(|(&a, &i)| index[a] = i);
                let x = value.at(&index);
                match reduction {
                    Reduction::Sum => acc + x,
                    Reduction::Prod => acc * x,
                    Reduction::Max => {
                        if acc.is_nan() || acc > x {
                            acc
                        } else {
                            x
                        }
                    }
                    Reduction::Min => {
                        if acc.is_nan() || acc < x {
                            acc
                        } else {
                            x
                        }
                    }
                }
            })
        })
        .map(|x| match value.dtype {
            DType::U8 => x.rem_euclid(256.0),
            DType::I32 | DType::I64 => x,
            _ => x,
        })
        .collect()
}

fn check(value: &Value, axes: &[usize]) {
    for &reduction in Reduction::ALL {
        let few = value.layout.numel() <= 16;
        if value.dtype == DType::Bool && matches!(reduction, Reduction::Sum | Reduction::Prod)
            || reduction == Reduction::Prod && !few
        {
            continue;
        }
        let expected = naive(reduction, value, axes);
        let got = on_pools(value.dtype, expected.len(), |pool, out| reduce(pool, reduction, value.view(), axes, out));
        let scale = (value.layout.numel() as f64).sqrt() * 4.0;
        let what = format!("{} of {:?} over {axes:?}", reduction.name(), value.layout);
        assert_close(&got, &expected, value.dtype, scale, &what);
    }
}

#[test]
fn any_layout_any_axes() {
    let mut rng = Rng(1);
    for round in 0..400 {
        let rank = rng.below(5);
        let shape = rng.shape(rank, if round % 2 == 0 { 3 } else { 9 });
        let value = Value::random(&mut rng, DType::ALL[round % 8], &shape);
        let axes: Vec<usize> = (0..rank).filter(|_| rng.below(2) == 0).collect();
        check(&value, &axes);
    }
}

#[test]
fn long_ones() {
    let mut rng = Rng(2);
    let cases: [(&[usize], &[usize]); 6] = [
        (&[300_000], &[0]),
        (&[3, 70_000], &[1]),
        (&[70_000, 3], &[0]),
        (&[2000, 300], &[0]),
        (&[40, 50, 60], &[0, 2]),
        (&[40, 50, 60], &[1]),
    ];
    for (shape, axes) in cases {
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::I64] {
            check(&Value::random(&mut rng, dtype, shape), axes);
        }
    }
}

#[test]
fn windows_side_by_side() {
    let mut rng = Rng(3);
    for (round, [height, width, step]) in
        [[6, 16, 2], [4, 28, 2], [5, 43, 2], [6, 7, 2], [6, 33, 3]].into_iter().enumerate()
    {
        let dtype = [DType::F32, DType::BF16, DType::I32, DType::F64, DType::F32][round];
        let mut value = Value::random(&mut rng, dtype, &[3 * height * width]);
        let s = [height * width, step * width, step, width, 1].map(|s| s as isize);
        let shape = [3, height / step, width / step, step, step];
        value = Value::of(dtype, &[3 * height * width], &value.values());
        value.layout = crate::Layout::new(0, shape[..].into(), s[..].into());
        check(&value, &[3, 4]);
    }
}

#[test]
fn sums_of_many_equal_terms_stay_exact_to_few_ulp() {
    for shape in [vec![1 << 20, 1], vec![1 << 18, 4]] {
        let value = Value::of(DType::F32, &shape, &vec![0.1; shape[0] * shape[1]]);
        let got = on_pools(DType::F32, shape[1], |pool, out| reduce(pool, Reduction::Sum, value.view(), &[0], out));
        let exact = 0.1f32 as f64 * shape[0] as f64;
        assert!((got[0] / exact - 1.0).abs() < 1e-6, "{} {exact}", got[0]);
    }
}

#[test]
fn nan_goes_through() {
    for at in [0, 63, 64, 99] {
        let mut values = vec![1.0; 100];
        values[at] = f64::NAN;
        for shape in [[100, 1], [50, 2], [1, 100]] {
            let value = Value::of(DType::F32, &shape, &values);
            for reduction in [Reduction::Max, Reduction::Min] {
                let got = on_pools(DType::F32, 1, |p, out| reduce(p, reduction, value.view(), &[0, 1], out));
                assert!(got[0].is_nan());
            }
        }
    }
}
