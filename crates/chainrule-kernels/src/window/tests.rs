//! Fold against a naive loop over the sliding-window view.

use super::*;
use crate::testing::*;

#[test]
fn windows_return_where_they_came_from() {
    let mut rng = Rng(9);
    for round in 0..150 {
        let dtype = DType::ALL[round % 7];
        let k = rng.below(4);
        let (lead_rank, mut some) = (rng.below(3), |n: usize| (0..k).map(|_| 1 + rng.below(n)).collect::<Vec<_>>());
        let (counts, kernel, strides, dilations) = (some(4), some(3), some(3), some(2));
        let lead = rng.shape(lead_rank, 3);
        let sizes: Vec<usize> =
            (0..k).map(|i| (counts[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + rng.below(2)).collect();
        let shape = [&lead[..], &counts, &kernel].concat();
        let value = Value::random(&mut rng, dtype, &shape);
        let full = [&lead[..], &sizes].concat();
        let steps = contiguous_strides(&full);
        let mut expected = vec![0.0; numel(&full)];
        for at in indices(&shape) {
            let mut place = 0;
            for i in 0..lead_rank + k {
                let mut to = at[i];
                if i >= lead_rank {
                    let d = i - lead_rank;
                    to = to * strides[d] + at[i + k] * dilations[d];
                }
                place += to * steps[i] as usize;
            }
            expected[place] += value.at(&at);
        }
        let got =
            on_pools(dtype, expected.len(), |pool, out| fold(pool, value.view(), &sizes, &strides, &dilations, out));
        assert_close(&got, &expected, dtype, 8.0, "fold");
    }
}

/// Every window's gradient goes in equal parts to the elements that are its maximum.
#[test]
fn maxima_share_their_gradient() {
    let mut rng = Rng(10);
    for round in 0..200 {
        let dtype = [DType::F32, DType::F64][round % 2];
        let k = 1 + rng.below(3);
        let apart = round % 3 > 0;
        let (lead, wide) = (vec![1 + rng.below(3)], [8, 20, if k == 3 { 20 } else { 40 }][round % 5 % 3]);
        let mut counts: Vec<usize> = (0..k).map(|_| 1 + rng.below(4)).collect();
        counts[k - 1] = 1 + rng.below(wide);
        let window: Vec<usize> = (0..k).map(|_| 1 + rng.below(3)).collect();
        let strides = if apart { window.clone() } else { (0..k).map(|_| 1 + rng.below(3)).collect::<Vec<_>>() };
        let dilations: Vec<usize> = (0..k).map(|_| if apart { 1 } else { 1 + rng.below(2) }).collect();
        let sizes: Vec<usize> =
            (0..k).map(|i| (counts[i] - 1) * strides[i] + (window[i] - 1) * dilations[i] + 1 + rng.below(2)).collect();
        let (full, shape) = ([&lead[..], &sizes].concat(), [&lead[..], &counts].concat());
        // Few different values, so that there are ties.
        let some = |rng: &mut Rng, n: usize| (0..n).map(|_| rng.below(4) as f64 - 2.0).collect::<Vec<_>>();
        let x = Value::of(dtype, &full, &some(&mut rng, numel(&full)));
        let gradient = Value::of(dtype, &shape, &some(&mut rng, numel(&shape)));
        let steps = contiguous_strides(&full);
        let (mut maxima, mut expected) = (vec![], vec![0.0; numel(&full)]);
        for at in indices(&shape) {
            let elements: Vec<Vec<usize>> = indices(&window)
                .iter()
                .map(|place| {
                    let inside = (0..k).map(|i| at[1 + i] * strides[i] + place[i] * dilations[i]);
                    std::iter::once(at[0]).chain(inside).collect()
                })
                .collect();
            let most = elements.iter().map(|at| x.at(at)).fold(f64::MIN, f64::max);
            maxima.push(most);
            let ties: Vec<_> = elements.iter().filter(|at| x.at(at) == most).collect();
            for place in &ties {
                let place: usize = place.iter().zip(&steps).map(|(&i, &s)| i * s as usize).sum();
                expected[place] += gradient.at(&at) / ties.len() as f64;
            }
        }
        let maxima = Value::of(dtype, &shape, &maxima);
        let got = on_pools(dtype, expected.len(), |pool, out| {
            let operands = [x.view(), maxima.view(), gradient.view()];
            max_pool_gradient(pool, operands, &window, &strides, &dilations, out)
        });
        let what = format!("max_pool_gradient: {sizes:?}, {window:?} by {strides:?}, dilated {dilations:?}");
        assert_close(&got, &expected, dtype, 1.0, &what);
        assert!(got.iter().all(|x| *x != 0.0 || x.is_sign_positive()), "{what}: a negative zero");
    }
}
