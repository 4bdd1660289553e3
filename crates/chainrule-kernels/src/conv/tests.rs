//! Convolution against a naive loop.

use super::*;
use crate::testing::*;

fn naive(spec: &ConvSpec, lhs: &Value, rhs: &Value) -> Vec<f64> {
    let (x, w) = (lhs.shape(), rhs.shape());
    let d = x.len() - 2;
    let sizes = spec.output_sizes(&x[2..], &w[2..]);
    let channels = w[0] / spec.groups;
    let out_shape = [&[x[0], w[0]], &sizes[..]].concat();
    let taps = indices(&w[1..]);
    indices(&out_shape)
        .iter()
        .map(|o| {
            let group = o[1] / channels;
            let mut sum = 0.0;
            'tap: for tap in &taps {
                let mut at = vec![o[0], group * w[1] + tap[0]];
                for i in 0..d {
                    let to = (o[2 + i] * spec.stride[i] + tap[1 + i] * spec.rhs_dilation[i]) as isize - spec.pad_low[i];
                    let by = spec.lhs_dilation[i] as isize;
                    if to < 0 || to % by != 0 || to / by >= x[2 + i] as isize {
                        continue 'tap;
                    }
                    at.push((to / by) as usize);
                }
                sum += lhs.at(&at) * rhs.at(&[&[o[1]], &tap[..]].concat());
            }
            sum
        })
        .collect()
}

fn by(wanted: Option<Strategy>, spec: &ConvSpec, lhs: &Value, rhs: &Value, count: usize) -> Vec<f64> {
    on_pools(lhs.dtype, count, |pool, out| conv_by(wanted, pool, spec, lhs.view(), rhs.view(), out))
}

fn check(spec: &ConvSpec, lhs: &Value, rhs: &Value) {
    let expected = naive(spec, lhs, rhs);
    // A broadcast operand repeats terms, whose roundings then go one way.
    let terms = numel(&rhs.shape()[1..]) as f64;
    let scale = terms.sqrt() * 8.0 + terms * 2.0;
    for wanted in
        [None, Some(Strategy::Results), Some(Strategy::Taps), Some(Strategy::Inputs), Some(Strategy::Winograd)]
    {
        // One sum of many thousand terms is not what that way is for.
        if wanted == Some(Strategy::Results) && numel(&rhs.shape()[1..]) > 2000 {
            continue;
        }
        let got = by(wanted, spec, lhs, rhs, expected.len());
        let what = format!("{wanted:?} {spec:?} {:?} {:?}", lhs.layout, rhs.layout);
        assert_close(&got, &expected, lhs.dtype, scale, &what);
    }
}

#[test]
fn any_specification() {
    let mut rng = Rng(12);
    for round in 0..300 {
        let dtype = DType::ALL[round % 6];
        let d = 1 + rng.below(3);
        let groups = 1 + rng.below(3);
        let (ci, co, n) = (1 + rng.below(3), 1 + rng.below(3), 1 + rng.below(3));
        let sizes = rng.shape(d, 8);
        let kernel: Vec<usize> = (0..d).map(|_| 1 + rng.below(4)).collect();
        let mut up = |n: usize| (0..d).map(|_| 1 + rng.below(n)).collect::<Vec<usize>>();
        let (stride, lhs_dilation, rhs_dilation) = (up(3), up(2), up(2));
        let mut pads = || (0..d).map(|_| rng.below(5) as isize - 1).collect::<Vec<isize>>();
        let spec = ConvSpec { stride, pad_low: pads(), pad_high: pads(), lhs_dilation, rhs_dilation, groups };
        let lhs = Value::random(&mut rng, dtype, &[&[n, groups * ci], &sizes[..]].concat());
        let rhs = Value::random(&mut rng, dtype, &[&[groups * co, ci], &kernel[..]].concat());
        check(&spec, &lhs, &rhs);
    }
}

#[test]
fn the_three_uses_of_a_layer() {
    let mut rng = Rng(13);
    let mut spec = ConvSpec { pad_low: vec![1, 1], pad_high: vec![1, 1], ..ConvSpec::plain(2) };
    let x = Value::random(&mut rng, DType::F32, &[5, 8, 20, 20]);
    check(&spec, &x, &Value::random(&mut rng, DType::F32, &[12, 8, 3, 3]));
    // Weight gradient: a kernel as large as the map, a result of 3×3, and a long sum.
    let x = Value::random(&mut rng, DType::F32, &[8, 24, 20, 20]);
    check(&spec, &x, &Value::random(&mut rng, DType::F32, &[12, 24, 20, 20]));
    spec.rhs_dilation = vec![2, 2];
    spec.pad_high = vec![0, 0];
    check(&spec, &x, &Value::random(&mut rng, DType::F32, &[12, 24, 10, 10]));
    // Depthwise.
    let spec = ConvSpec { groups: 8, ..ConvSpec::plain(2) };
    let x = Value::random(&mut rng, DType::F32, &[3, 8, 30, 30]);
    check(&spec, &x, &Value::random(&mut rng, DType::F32, &[8, 1, 3, 3]));
}

/// Weight gradients with many channels on either side, of layers and of their transposes, in both orders of memory.
#[test]
fn weight_gradients() {
    let mut rng = Rng(14);
    // Input channels, output channels, batch, input and output sizes, kernel, stride, pad.
    let cases = [
        ([13, 40, 12], [9, 5], [3, 2, 1]),
        ([7, 35, 20], [6, 3], [4, 2, 2]),
        ([24, 9, 5], [14, 14], [3, 1, 1]),
        ([1, 20, 9], [14, 7], [4, 2, 1]),
        ([20, 1, 9], [12, 12], [3, 1, 1]),
        ([3, 17, 3], [31, 10], [5, 3, 0]),
    ];
    for ([ci, co, n], [from, to], [k, stride, pad]) in cases {
        for dtype in [DType::F32, DType::F16] {
            // The last windows may not reach the end of the input.
            let high = ((to - 1) * stride + k) as isize - (from + pad) as isize;
            let (pads, steps, high) = (vec![pad as isize; 2], vec![stride; 2], vec![high; 2]);
            let spec = ConvSpec { pad_low: pads, pad_high: high, rhs_dilation: steps, ..ConvSpec::plain(2) };
            let x = Value::random(&mut rng, dtype, &[ci, n, from, from]);
            let y = Value::random(&mut rng, dtype, &[co, n, to, to]);
            assert_eq!(spec.output_sizes(&[from; 2], &[to; 2])[..], [k; 2]);
            check(&spec, &x, &y);
            // The transposed layer's: the smaller map is spread out under the larger.
            let low = (k - 1 - pad) as isize;
            let spread = (to - 1) * stride + 1;
            let high = (from + k - 1) as isize - spread as isize - low;
            let spec = ConvSpec {
                pad_low: vec![low; 2],
                pad_high: vec![high; 2],
                lhs_dilation: vec![stride; 2],
                ..ConvSpec::plain(2)
            };
            assert_eq!(spec.output_sizes(&[to; 2], &[from; 2])[..], [k; 2]);
            check(&spec, &y, &x);
        }
    }
}

/// Transposed layers and input gradients: lines longer than a vector, sums longer than a panel, outputs in several turns.
#[test]
fn dilated_inputs() {
    let mut rng = Rng(17);
    // Batch, channels, outputs, groups; input sizes; kernel, dilation, pads.
    let cases = [
        ([9, 20, 7, 1], [5, 9], [4, 2], [2, 2]),
        ([1, 17, 3, 2], [3, 40], [5, 3], [4, 1]),
        ([2, 400, 3, 1], [3, 4], [3, 2], [1, 2]),
        ([1, 16, 40, 1], [14, 14], [4, 2], [2, 2]),
        ([2, 16, 2, 1], [4, 3], [2, 3], [1, 0]),
    ];
    for ([n, ci, co, groups], sizes, [k, by], [low, high]) in cases {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let (pad_low, pad_high) = (vec![low; 2], vec![high; 2]);
            let spec = ConvSpec { pad_low, pad_high, lhs_dilation: vec![by; 2], groups, ..ConvSpec::plain(2) };
            let x = Value::random(&mut rng, dtype, &[n, groups * ci, sizes[0], sizes[1]]);
            check(&spec, &x, &Value::random(&mut rng, dtype, &[groups * co, ci, k, k]));
        }
    }
}

/// Tiles that reach over every edge, over images and over groups.
#[test]
fn three_by_three() {
    let mut rng = Rng(15);
    for round in 0..40 {
        let (n, ci, co, groups) = (1 + rng.below(3), 1 + rng.below(6), 1 + rng.below(14), 1 + rng.below(2));
        let sizes = [3 + rng.below(9), 3 + rng.below(if round % 3 == 0 { 60 } else { 20 })];
        let mut pads = || vec![rng.below(4) as isize - 1, rng.below(3) as isize];
        let spec = ConvSpec { pad_low: pads(), pad_high: pads(), groups, ..ConvSpec::plain(2) };
        let x = Value::random(&mut rng, DType::F32, &[n, groups * ci, sizes[0], sizes[1]]);
        check(&spec, &x, &Value::random(&mut rng, DType::F32, &[groups * co, ci, 3, 3]));
    }
}

/// Winograd's root of the mean squared error is at most three times that of the direct sum.
#[test]
fn winograd_is_nearly_as_exact() {
    let mut rng = Rng(16);
    for ci in [16, 100] {
        let mut some = |shape: &[usize]| {
            let values: Vec<f64> = (0..numel(shape)).map(|_| (rng.unit() * 2.0 - 1.0) as f32 as f64).collect();
            Value::of(DType::F32, shape, &values)
        };
        let (x, w) = (some(&[2, ci, 14, 14]), some(&[16, ci, 3, 3]));
        let spec = ConvSpec { pad_low: vec![1, 1], pad_high: vec![1, 1], ..ConvSpec::plain(2) };
        let exact = naive(&spec, &x, &w);
        let [winograd, direct] = [Strategy::Winograd, Strategy::Direct].map(|wanted| {
            let got = by(Some(wanted), &spec, &x, &w, exact.len());
            let squares: f64 = got.iter().zip(&exact).map(|(g, e)| (g - e) * (g - e)).sum();
            (squares / exact.len() as f64).sqrt()
        });
        assert!(winograd > 0.0 && winograd < 3.0 * direct, "{ci} channels: {winograd:e} against {direct:e}");
    }
}
