//! Gather and scatter-add against naive loops.

use super::*;
use crate::testing::*;

#[test]
fn against_naive_loops() {
    let mut rng = Rng(7);
    for round in 0..300 {
        let dtype = DType::ALL[round % 8];
        let (batch, pre, post, ranks) = (rng.below(3), rng.below(2), rng.below(3), rng.below(3));
        let lead = rng.shape(batch, 3);
        let (before, after, picked) = (rng.shape(pre, 3), rng.shape(post, 4), rng.shape(ranks, 5));
        let size = 1 + rng.below(6);
        let axis = batch + pre;
        let x_shape = [&lead[..], &before, &[size], &after].concat();
        let index_shape = [&lead[..], &picked].concat();
        let out_shape = [&lead[..], &before, &picked, &after].concat();
        let x = Value::random(&mut rng, dtype, &x_shape);
        let kind = [DType::I64, DType::I32, DType::U8][rng.below(3)];
        let signed = kind != DType::U8;
        let raw: Vec<f64> = (0..numel(&index_shape))
            .map(|_| rng.below(size) as f64 - if signed && rng.below(3) == 0 { size as f64 } else { 0.0 })
            .collect();
        let index = Value::of(kind, &index_shape, &raw);
        let row = |at: &[usize]| {
            let i = index.at(&[&at[..batch], &at[axis..axis + ranks]].concat());
            (if i < 0.0 { i + size as f64 } else { i }) as usize
        };
        let source = |at: &Vec<usize>| [&at[..axis], &[row(at)], &at[axis + ranks..]].concat();
        let expected: Vec<f64> = indices(&out_shape).iter().map(|at| x.at(&source(at))).collect();
        let got = on_pools(dtype, expected.len(), |pool, out| {
            gather(pool, x.view(), index.view(), axis, batch, out).unwrap()
        });
        assert_eq!(got, expected);

        if dtype == DType::Bool {
            continue;
        }
        let updates = Value::random(&mut rng, dtype, &out_shape);
        let strides = crate::view::contiguous_strides(&x_shape);
        let mut expected = vec![0.0; numel(&x_shape)];
        for at in indices(&out_shape) {
            let place: isize = source(&at).iter().zip(&strides).map(|(&i, &s)| i as isize * s).sum();
            expected[place as usize] += updates.at(&at);
        }
        let got = on_pools(dtype, expected.len(), |pool, out| {
            scatter_add(pool, index.view(), updates.view(), axis, batch, out).unwrap()
        });
        assert_close(&got, &expected, dtype, 4.0, "scatter_add");
    }
}

#[test]
fn many_updates_of_one_table() {
    let mut rng = Rng(8);
    let raw: Vec<f64> = (0..3000).map(|_| rng.below(50) as f64).collect();
    let index = Value::of(DType::I64, &[3000], &raw);
    let updates = Value::random(&mut rng, DType::F32, &[3000, 40]);
    let mut expected = vec![0.0; 50 * 40];
    for i in 0..3000 {
        for j in 0..40 {
            expected[raw[i] as usize * 40 + j] += updates.at(&[i, j]);
        }
    }
    let got =
        on_pools(DType::F32, 2000, |pool, out| scatter_add(pool, index.view(), updates.view(), 0, 0, out).unwrap());
    assert_close(&got, &expected, DType::F32, 100.0, "scatter_add");
}

#[test]
fn a_wrong_index_is_named() {
    let x = Value::of(DType::F32, &[3], &[1.0, 2.0, 3.0]);
    for (wrong, text) in [(3.0, "index 3 (element 1"), (-4.0, "index -4 (element 1")] {
        let index = Value::of(DType::I64, &[2], &[-3.0, wrong]);
        let mut out = crate::Buffer::zeroed(8);
        let error = gather(&Pool::new(1), x.view(), index.view(), 0, 0, ViewMut::new(out.bytes_mut(), DType::F32));
        let error = error.unwrap_err();
        assert!(error.contains(text) && error.contains("size 3"), "{error}");
        let updates = Value::of(DType::F32, &[2], &[1.0, 2.0]);
        let mut out = crate::Buffer::zeroed(12);
        let out = ViewMut::new(out.bytes_mut(), DType::F32);
        assert!(scatter_add(&Pool::new(1), index.view(), updates.view(), 0, 0, out).unwrap_err().contains(text));
    }
    let empty = Value::of(DType::F32, &[0, 2], &[]);
    let index = Value::of(DType::U8, &[1], &[0.0]);
    let mut out = crate::Buffer::zeroed(8);
    assert!(
        gather(&Pool::new(1), empty.view(), index.view(), 0, 0, ViewMut::new(out.bytes_mut(), DType::F32)).is_err()
    );
}
