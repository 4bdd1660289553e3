//! Back-propagation by hand and by `grad`: one hidden layer, every partial derivative of the loss.
//!
//! z₁ = x·W₁ + b₁, h = σ(z₁), ŷ = h·W₂ + b₂, L = ½ Σ (ŷ − y)². By hand the chain rule gives, from the back:
//! δ₂ = ŷ − y, ∂L/∂W₂ = hᵀ·δ₂, δ₁ = (δ₂·W₂ᵀ) ⊙ σ'(z₁), ∂L/∂W₁ = xᵀ·δ₁, and the biases get the column sums of δ.

use chainrule::prelude::*;

#[derive(Tree, Clone)]
struct Network {
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
}

impl Network {
    fn forward(&self, x: &Tensor) -> Tensor {
        (x.matmul(&self.w1) + &self.b1).sigmoid().matmul(&self.w2) + &self.b2
    }
}

fn by_hand(n: &Network, x: &Tensor, y: &Tensor) -> Network {
    let z1 = x.matmul(&n.w1) + &n.b1;
    let h = z1.sigmoid();
    let delta2 = h.matmul(&n.w2) + &n.b2 - y;
    let delta1 = delta2.matmul(&n.w2.t()) * (&h * (1.0 - &h)); // σ' = σ·(1 − σ)
    Network { w1: x.t().matmul(&delta1), b1: delta1.sum(0), w2: h.t().matmul(&delta2), b2: delta2.sum(0) }
}

fn main() {
    let [k1, k2, k3, k4, k5] = Key::new(7).split();
    let (x, y) = (k1.normal([5, 3], DType::F64).eval(), k2.normal([5, 2], DType::F64).eval());
    let network = Network {
        w1: k3.normal([3, 4], DType::F64).eval(),
        b1: k4.normal([4], DType::F64).eval(),
        w2: k5.normal([4, 2], DType::F64).eval(),
        b2: Tensor::zeros([2], DType::F64),
    };

    let by_grad = grad(|n: &Network| (n.forward(&x) - &y).square().sum(..) * 0.5, &network);
    let by_hand = by_hand(&network, &x, &y);

    println!("∂L/∂W₁ by hand and by grad:");
    for (hand, grad) in by_hand.w1.to_vec::<f64>().chunks(4).zip(by_grad.w1.to_vec::<f64>().chunks(4)) {
        println!("  {hand:8.4?}   {grad:8.4?}");
    }
    let mut worst = 0.0f64;
    for ((name, hand), grad) in paths(&by_hand).iter().zip(leaves(&by_hand)).zip(leaves(&by_grad)) {
        let difference = (hand - grad).abs().max(..).item::<f64>();
        println!("{name}: largest difference {difference:.1e}");
        worst = worst.max(difference);
    }
    assert!(worst < 1e-12);
}
