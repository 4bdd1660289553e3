//! A step of training after the first allocates nothing but the vectors of the type that it returns.
//!
//! The process's allocator counts, so this is a process of its own, without the threads of a test harness.

use chainrule::execute::counting::{Counting, allocations};
use chainrule::prelude::*;
use chainrule_nn::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted<T>(f: impl FnOnce() -> T) -> (u64, T) {
    let before = allocations();
    let result = f();
    (allocations() - before, result)
}

/// Takes steps on one, two and three threads. Each must ask for as many blocks as a copy of the state that it returns has:
/// its vectors, of which `vectors` are expected.
fn check<M: Tree + Clone, O: Optimizer<M> + Clone>(
    name: &str,
    vectors: u64,
    model: &M,
    optimizer: &O,
    (x, y): (Tensor, Tensor),
    loss: impl Fn(&M, &Tensor, &Tensor) -> Tensor,
) {
    let data = eval_all(&[x, y]);
    for threads in [1, 2, 3] {
        let step = |((model, optimizer), (x, y)): &((M, O), (Tensor, Tensor))| {
            let (value, gradients) = value_and_grad(|m: &M| loss(m, x, y), model);
            let (gradients, norm) = clip_norm(&gradients, 1.0);
            (optimizer.update(model, &gradients), value + norm * 0.0)
        };
        let mut step = compile(step).threads(threads);
        let batch = || (data[0].clone(), data[1].clone());
        let mut state = step.run(((model.clone(), optimizer.clone()), batch())).unwrap().0;
        let (containers, copy) = counted(|| state.clone());
        drop(copy);
        assert_eq!(containers, vectors, "{name}: vectors of the state");
        let mut before = f32::INFINITY;
        for number in 0..6 {
            let (count, (next, loss)) = counted(|| step.run((state, batch())).unwrap());
            assert_eq!(count, vectors, "{name}, {threads} threads: allocations of step {number} after the first");
            state = next;
            let (count, now) = counted(|| loss.item::<f32>());
            assert_eq!(count, 0, "{name}: reading the loss");
            assert!(now < before, "{name}: the loss goes from {before} to {now}");
            before = now;
        }
    }
}

fn normal(seed: u64, shape: &[usize]) -> Tensor {
    Key::new(seed).normal(shape, DType::F32)
}

fn below(seed: u64, shape: &[usize], n: i64) -> Tensor {
    (Key::new(seed).uniform(shape, DType::F64) * n as f64).floor().cast(DType::I64)
}

#[derive(Tree, Clone)]
struct Perceptron {
    layers: [Linear; 3],
}

#[derive(Tree, Clone)]
struct Convolutional {
    convolutions: [Conv; 3],
    output: Linear,
}

#[derive(Tree, Clone)]
struct Recurrent {
    embedding: Embedding,
    recurrent: Lstm,
    output: Linear,
}

#[derive(Tree, Clone)]
struct Block {
    norms: [LayerNorm; 2],
    attention: Attention,
    up: Linear,
    down: Linear,
}

#[derive(Tree, Clone)]
struct Transformer {
    tokens: Embedding,
    positions: Tensor,
    blocks: [Block; 2],
    norm: LayerNorm,
}

fn main() {
    let key = Key::new(1);
    let (a, b, c) = (key.fold(&Tensor::from(1i64)), key.fold(&Tensor::from(2i64)), key.fold(&Tensor::from(3i64)));

    let model = Perceptron { layers: [Linear::new(&a, 100, 256), Linear::new(&b, 256, 256), Linear::new(&c, 256, 10)] };
    let forward =
        |m: &Perceptron, x: &Tensor| m.layers[2].forward(&m.layers[1].forward(&m.layers[0].forward(x).relu()).tanh());
    let data = (normal(2, &[128, 100]), below(3, &[128], 10));
    let loss = |m: &Perceptron, x: &Tensor, y: &Tensor| forward(m, x).cross_entropy(y);
    let few = (normal(2, &[1, 100]), below(3, &[1], 10));
    check("small perceptron", 0, &model, &Sgd::new(&model, 0.1), few, loss);
    check("perceptron", 0, &model, &Sgd::new(&model, 0.1), data.clone(), loss);
    check("perceptron with Adam", 1, &model, &Adam::new(&model, 1e-3), data, loss);

    let model = Convolutional {
        convolutions: [
            Conv::new(&a, 1, 16, [3, 3]).padding(1),
            Conv::new(&b, 16, 32, [3, 3]).padding(1).stride(2),
            Conv::new(&c, 32, 32, [3, 3]).padding(1),
        ],
        output: Linear::new(&a, 32 * 49, 10),
    };
    let loss = |m: &Convolutional, x: &Tensor, y: &Tensor| {
        let [first, second, third] = &m.convolutions;
        let x = Pool::max(2).forward(&third.forward(&second.forward(&first.forward(x).relu()).relu()).relu());
        m.output.forward(&x.reshape([x.size(0), 32 * 49])).cross_entropy(y)
    };
    let data = (normal(2, &[8, 1, 28, 28]), below(3, &[8], 10));
    check("convolutions", 19, &model, &Adam::new(&model, 1e-3), data, loss);

    let model = Recurrent {
        embedding: Embedding::new(&a, 20, 32),
        recurrent: Lstm::new(&b, 32, 64).time_first(),
        output: Linear::new(&c, 64, 20),
    };
    let loss = |m: &Recurrent, x: &Tensor, y: &Tensor| {
        let x = m.embedding.forward(x);
        m.output.forward(&m.recurrent.forward(&x, None, None, &mut Context::evaluation()).0).cross_entropy(y)
    };
    let data = (below(2, &[16, 8], 20), below(3, &[16, 8], 20));
    check("lstm", 4, &model, &Adam::new(&model, 1e-3), data, loss);

    let norm = || LayerNorm::new(64);
    let block = |key: &Key| Block {
        norms: [norm(), norm()],
        attention: Attention::new(key, 64, 4).causal(),
        up: Linear::new(key, 64, 256),
        down: Linear::new(key, 256, 64),
    };
    let model = Transformer {
        tokens: Embedding::new(&a, 40, 64),
        positions: Tensor::zeros([32, 64], DType::F32),
        blocks: [block(&b), block(&c)],
        norm: norm(),
    };
    let loss = |m: &Transformer, tokens: &Tensor, y: &Tensor| {
        let mut x = m.tokens.forward(tokens) + &m.positions;
        for Block { norms: [first, second], attention, up, down } in &m.blocks {
            let inner = first.forward(&x);
            x = &x + attention.forward(&inner, &inner, None, &mut Context::evaluation());
            x = &x + down.forward(&up.forward(&second.forward(&x)).gelu());
        }
        m.norm.forward(&x).matmul(&m.tokens.weight.t()).cross_entropy(y)
    };
    let data = (below(2, &[4, 32], 40), below(3, &[4, 32], 40));
    check("transformer", 16, &model, &AdamW::new(&model, 1e-3), data, loss);
}
