//! Known answers of Philox, independence of the split, and moments.

use super::*;
use crate::testing::*;

#[test]
fn known_answers_of_random123() {
    assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    let counter = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
    assert_eq!(philox(counter, [0xa4093822, 0x299f31d0]), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
}

#[test]
fn an_element_depends_on_its_key_and_index_only() {
    for (distribution, dtypes) in [
        (Distribution::Bits, &[DType::I64][..]),
        (Distribution::Uniform, &[DType::F32, DType::F64, DType::BF16, DType::F16]),
        (Distribution::Normal, &[DType::F32, DType::F64, DType::BF16, DType::F16]),
    ] {
        for &dtype in dtypes {
            let draw =
                |keys: &[i64], n| on_pools(dtype, keys.len() * n, |p, out| random(p, distribution, keys, n, out));
            let (long, short) = (draw(&[7, -9], 9001), draw(&[-9, 7, 1], 5));
            assert_eq!((&long[..5], &long[9001..9006]), (&short[5..10], &short[..5]));
            assert_eq!(draw(&[7], 9001), long[..9001]);
            assert!(draw(&[], 5).is_empty() && draw(&[5], 0).is_empty());
        }
    }
}

#[test]
fn moments() {
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let n = 200_000;
        let draw = |d| on_pools(dtype, n, |p, out| random(p, d, &[42], n, out));
        let mean = |x: &[f64], power| x.iter().map(|x| x.powi(power)).sum::<f64>() / n as f64;
        let uniform = draw(Distribution::Uniform);
        assert!(uniform.iter().all(|&x| (0.0..1.0).contains(&x)));
        assert!((mean(&uniform, 1) - 0.5).abs() < 4e-3 && (mean(&uniform, 2) - 1.0 / 3.0).abs() < 4e-3);
        let normal = draw(Distribution::Normal);
        assert!(normal.iter().all(|x| x.is_finite()));
        assert!(mean(&normal, 1).abs() < 1e-2 && (mean(&normal, 2) - 1.0).abs() < 2e-2, "{}", mean(&normal, 2));
        assert!((mean(&normal, 4) - 3.0).abs() < 0.1);
    }
}
