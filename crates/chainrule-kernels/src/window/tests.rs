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
