//! Movement against naive loops.

use super::*;
use crate::alphabet::DType;
use crate::testing::*;

#[test]
fn copies_of_any_layout() {
    let mut rng = Rng(4);
    for round in 0..200 {
        let rank = rng.below(6);
        let shape = rng.shape(rank, 6);
        let value = Value::random(&mut rng, DType::ALL[round % 8], &shape);
        let got = on_pools(value.dtype, value.layout.numel(), |pool, out| copy(pool, value.view(), out));
        assert_eq!(got, value.values());
    }
    for shape in [[300, 700], [1000, 65]] {
        let mut value = Value::of(DType::F32, &shape, &(0..shape[0] * shape[1]).map(|x| x as f64).collect::<Vec<_>>());
        value.layout = value.layout.permuted(&[1, 0]);
        assert_eq!(on_pools(DType::F32, value.layout.numel(), |p, out| copy(p, value.view(), out)), value.values());
    }
}

#[test]
fn padding_of_any_layout() {
    let mut rng = Rng(5);
    for round in 0..200 {
        let rank = rng.below(4);
        let shape = rng.shape(rank, 5);
        let value = Value::random(&mut rng, DType::ALL[round % 8], &shape);
        let mut amounts = || (0..rank).map(|_| rng.below(3)).collect::<Vec<_>>();
        let (low, high, interior) = (amounts(), amounts(), amounts());
        let padded: Vec<usize> =
            (0..rank).map(|i| low[i] + high[i] + shape[i] + shape[i].saturating_sub(1) * interior[i]).collect();
        let expected: Vec<f64> = indices(&padded)
            .iter()
            .map(|index| {
                let mut source = vec![];
                for i in 0..rank {
                    let at = index[i] as isize - low[i] as isize;
                    let step = interior[i] as isize + 1;
                    if at < 0 || at % step != 0 || at / step >= shape[i] as isize {
                        return 1.0;
                    }
                    source.push((at / step) as usize);
                }
                value.at(&source)
            })
            .collect();
        let fill = Scalar::from_f64(value.dtype, 1.0);
        let got = on_pools(value.dtype, expected.len(), |pool, out| {
            pad(pool, value.view(), &low, &high, &interior, fill, out)
        });
        assert_eq!(got, expected, "{:?} {low:?} {high:?} {interior:?}", value.layout);
    }
}

#[test]
fn joining_any_layouts() {
    let mut rng = Rng(6);
    for round in 0..100 {
        let rank = 1 + rng.below(3);
        let axis = rng.below(rank);
        let mut shape = rng.shape(rank, 5);
        let parts: Vec<Value> = (0..1 + rng.below(4))
            .map(|_| {
                shape[axis] = rng.below(4);
                Value::random(&mut rng, DType::ALL[round % 8], &shape)
            })
            .collect();
        let views: Vec<View> = parts.iter().map(|p| p.view()).collect();
        shape[axis] = parts.iter().map(|p| p.shape()[axis]).sum();
        let expected: Vec<f64> = indices(&shape)
            .iter()
            .map(|index| {
                let mut index = index.clone();
                for part in &parts {
                    if index[axis] < part.shape()[axis] {
                        return part.at(&index);
                    }
                    index[axis] -= part.shape()[axis];
                }
                unreachable!()
            })
            .collect();
        let got = on_pools(parts[0].dtype, expected.len(), |pool, out| concat(pool, &views, axis, out));
        assert_eq!(got, expected);
    }
}
