//! Handwritten digits from nothing but the engine: a network of two layers, momentum, mini-batches.
//!
//! 1,797 images of 8×8 pixels (E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine
//! Learning Repository, 1998, CC BY 4.0). Every fifth one is kept for the test.

use chainrule::prelude::*;
use std::io::Read;

const IMAGES: &[u8] = include_bytes!("../../chainrule-train/data/digits-images.idx.gz");
const LABELS: &[u8] = include_bytes!("../../chainrule-train/data/digits-labels.idx.gz");

#[derive(Tree, Clone)]
struct Network {
    hidden: (Tensor, Tensor),
    out: (Tensor, Tensor),
}

impl Network {
    fn new(key: Key) -> Network {
        let [a, b] = key.split();
        let layer = |key: Key, n: usize, m: usize| {
            (key.normal([n, m], DType::F32) * (2.0 / n as f64).sqrt(), Tensor::zeros([m], DType::F32))
        };
        Network { hidden: layer(a, 64, 64), out: layer(b, 64, 10) }
    }
    fn forward(&self, x: &Tensor) -> Tensor {
        (x.matmul(&self.hidden.0) + &self.hidden.1).relu().matmul(&self.out.0) + &self.out.1
    }
}

/// An IDX file: two zeros, a type, the number of axes, a big-endian size for each, then the bytes.
fn unpack(file: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("the file is part of the repository");
    bytes.split_off(4 + 4 * bytes[3] as usize)
}

fn main() {
    let pixels: Vec<f32> = unpack(IMAGES).iter().map(|&p| p as f32 / 16.0).collect();
    let labels: Vec<i64> = unpack(LABELS).iter().map(|&label| label as i64).collect();
    let (images, labels) = (Tensor::from_vec(pixels, [1797, 64]), Tensor::from_vec(labels, [1797]));
    let (train, test): (Vec<i64>, Vec<i64>) = (0..1797).partition(|i| i % 5 != 0);
    let [train, test] = [train, test].map(|places| Tensor::from_vec(&places, [places.len()]));
    let (x_test, y_test) = (images.at(&test).eval(), labels.at(&test).eval());

    type State = (Network, Network);
    let mut step = compile(|((model, speed), x, y): &(State, Tensor, Tensor)| {
        let (loss, slope) = value_and_grad(|m: &Network| m.forward(x).cross_entropy(y), model);
        let speed = zip_map(speed, &slope, |v, g| v * 0.9 - g);
        ((zip_map(model, &speed, |w, v| w + v * 0.05), speed), loss)
    });

    let [init, shuffle] = Key::new(0).split();
    let model = Network::new(init);
    let mut state = (model.clone(), zip_map(&model, &model, |w, _| w.zeros_like()));
    let mut accuracy = 0.0;
    for epoch in 0..40i64 {
        let order = train.at(&shuffle.fold(&Tensor::from(epoch)).permutation(train.numel())).eval();
        let (mut total, batches) = (0.0, train.numel() / 64);
        for batch in 0..batches {
            let places = order.at(batch * 64..(batch + 1) * 64);
            let (next, loss) = step.run((state, images.at(&places), labels.at(&places))).expect("places are inside");
            state = next;
            total += loss.item::<f32>();
        }
        let right = state.0.forward(&x_test).argmax(-1).equal(&y_test).cast(DType::F64).mean(..);
        accuracy = right.item::<f64>();
        if epoch % 5 == 4 {
            println!("epoch {:2}: loss {:.4}, test {:.1} %", epoch + 1, total / batches as f32, accuracy * 100.0);
        }
    }
    assert!(accuracy >= 0.95);
}
