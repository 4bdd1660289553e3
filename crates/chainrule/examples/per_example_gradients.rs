//! The gradient of every example at once: `vmap` of `grad`.
//!
//! A batch's gradient hides which example pulls how hard. Here one label of forty is wrong, and the norms of the
//! forty gradients point at it.

use chainrule::prelude::*;

/// Logistic regression: −ln of the probability that the model gives the label (0 or 1).
fn loss((w, b): &(Tensor, Tensor), x: &Tensor, label: &Tensor) -> Tensor {
    let z = (w * x).sum(-1) + b;
    (z.softplus() - z * label).mean(..)
}

fn main() {
    // Two clouds of points around (2, 2) and (−2, −2); the label says which; number 17 is mislabelled.
    let labels: Vec<f64> = (0..40).map(|i| if i == 17 { 0.0 } else { (i % 2) as f64 }).collect();
    let side = Tensor::from_vec((0..40).map(|i| 4.0 * (i % 2) as f64 - 2.0).collect::<Vec<_>>(), [40, 1]);
    let points = (Key::new(3).normal([40, 2], DType::F64) * 0.5 + side).eval();
    let labels = Tensor::from_vec(labels, [40]);
    let model = (Tensor::from([0.5, 0.5]), Tensor::from(0.0));

    let each = vmap(
        |(x, label): &(Tensor, Tensor)| grad(|m: &(Tensor, Tensor)| loss(m, x, label), &model),
        &(points.clone(), labels.clone()),
    );
    println!("gradients of w: {:?}, of b: {:?}", each.0.shape(), each.1.shape());

    let norms = (each.0.square().sum(-1) + each.1.square()).sqrt();
    let suspect = norms.argmax(0).item::<i64>();
    let typical = norms.mean(..).item::<f64>();
    println!("mean norm {typical:.3}; largest {:.3}, of example {suspect}", norms.max(..).item::<f64>());

    // Their mean is the gradient of the batch, and each is what a loop would give.
    let batch = grad(|m: &(Tensor, Tensor)| loss(m, &points, &labels), &model);
    let mut worst = (each.0.mean(0) - batch.0).abs().max(..).item::<f64>();
    for i in 0..40 {
        let alone = grad(|m: &(Tensor, Tensor)| loss(m, &points.at(i), &labels.at(i)), &model);
        worst = worst.max((each.0.at(i) - alone.0).abs().max(..).item::<f64>());
    }
    println!("largest difference from the loop and from the batch: {worst:.1e}");
    assert!(suspect == 17 && worst < 1e-14);
}
