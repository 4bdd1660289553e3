//! Kernels along an axis against naive loops.

use super::*;
use crate::buffer::Buffer;
use crate::testing::*;

/// Each line of a value along an axis, as index prefix/suffix and elements.
fn lines(value: &Value, axis: usize) -> Vec<(Vec<usize>, Vec<f64>)> {
    let mut shape = value.shape().to_vec();
    let length = std::mem::replace(&mut shape[axis], 1);
    let line = |index: &Vec<usize>| {
        let at = |i| {
            let mut index = index.clone();
            index[axis] = i;
            value.at(&index)
        };
        (index.clone(), (0..length).map(at).collect())
    };
    indices(&shape).iter().map(line).collect()
}

/// Row-major result whose lines along an axis are `f` of the source's lines.
fn mapped(value: &Value, axis: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let strides = crate::view::contiguous_strides(value.shape());
    let mut out = vec![0.0; value.layout.numel()];
    for (index, line) in lines(value, axis) {
        let base: isize = index.iter().zip(&strides).map(|(&i, &s)| i as isize * s).sum();
        for (i, x) in f(&line).into_iter().enumerate() {
            out[(base + i as isize * strides[axis]) as usize] = x;
        }
    }
    out
}

fn sorted(line: &[f64], descending: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..line.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (line[a], line[b]);
        let by = a.is_nan().cmp(&b.is_nan());
        by.then(if descending { b.partial_cmp(&a) } else { a.partial_cmp(&b) }.unwrap_or(std::cmp::Ordering::Equal))
    });
    order
}

#[test]
fn against_naive_lines() {
    let mut rng = Rng(3);
    for round in 0..300 {
        let dtype = DType::ALL[round % 8];
        let rank = 1 + rng.below(4);
        let shape = rng.shape(rank, 7);
        let value = Value::random(&mut rng, dtype, &shape);
        let axis = rng.below(rank);
        let total = value.layout.numel();
        for flag in [false, true] {
            if dtype != DType::Bool {
                let expected = mapped(&value, axis, |line| {
                    let mut sums = line.to_vec();
                    if flag {
                        sums.reverse()
                    }
                    for i in 1..sums.len() {
                        sums[i] += sums[i - 1]
                    }
                    if flag {
                        sums.reverse()
                    }
                    sums
                });
                let got = on_pools(dtype, total, |pool, out| cumsum(pool, value.view(), axis, flag, out));
                assert_close(&got, &expected, dtype, 10.0, "cumsum");
            }
            let pick = |line: &[f64]| sorted(line, flag).iter().map(|&i| line[i]).collect();
            let order = |line: &[f64]| sorted(line, flag).iter().map(|&i| i as f64).collect();
            let got = on_pools(dtype, total, |pool, out| {
                let mut at = Buffer::zeroed(total * 8);
                sort(pool, value.view(), axis, flag, out, ViewMut::new(at.bytes_mut(), DType::I64))
            });
            assert_eq!(got, mapped(&value, axis, pick));
            let got = on_pools(DType::I64, total, |pool, out| {
                let mut values = Buffer::zeroed(total * dtype.size());
                sort(pool, value.view(), axis, flag, ViewMut::new(values.bytes_mut(), dtype), out)
            });
            assert_eq!(got, mapped(&value, axis, order));
            if shape[axis] > 0 || total == 0 && shape.iter().enumerate().any(|(i, &n)| i != axis && n == 0) {
                let all = lines(&value, axis);
                let best = |line: &Vec<f64>| sorted(line, flag)[0] as f64;
                let expected: Vec<f64> =
                    if shape[axis] == 0 { vec![] } else { all.iter().map(|l| best(&l.1)).collect() };
                let got =
                    on_pools(DType::I64, expected.len(), |pool, out| arg_reduce(pool, flag, value.view(), axis, out));
                assert_eq!(got, expected, "{:?}", value.layout);
            }
        }
    }
}

#[test]
fn nan_ties_and_extremes() {
    let value = Value::of(DType::F32, &[6], &[1.0, f64::NAN, 3.0, f64::NAN, -0.0, 0.0]);
    for largest in [true, false] {
        assert_eq!(on_pools(DType::I64, 1, |p, out| arg_reduce(p, largest, value.view(), 0, out)), [1.0]);
    }
    for (descending, expected) in [(false, [4.0, 5.0, 0.0, 2.0, 1.0, 3.0]), (true, [2.0, 0.0, 4.0, 5.0, 1.0, 3.0])] {
        let got = on_pools(DType::I64, 6, |p, out| {
            let mut values = Buffer::zeroed(24);
            sort(p, value.view(), 0, descending, ViewMut::new(values.bytes_mut(), DType::F32), out)
        });
        assert_eq!(got, expected);
    }
    let ends = Buffer::from_slice(&[i64::MAX - 1, i64::MAX, i64::MIN, -1]);
    let layout = Layout::contiguous(&[4]);
    let (mut values, mut at) = (Buffer::zeroed(32), Buffer::zeroed(32));
    let (v, i) = (ViewMut::new(values.bytes_mut(), DType::I64), ViewMut::new(at.bytes_mut(), DType::I64));
    sort(&Pool::new(1), View::new(ends.bytes(), DType::I64, &layout), 0, true, v, i);
    assert_eq!(at.as_slice::<i64>(), [1, 0, 3, 2]);
}
