//! The networks of the workloads, written as a user would write them.

use chainrule::prelude::*;
use chainrule_nn::init;
use chainrule_nn::layer::Linear;

/// Tokens that the language models know.
pub const VOCABULARY: usize = 65;
/// Width of the residual blocks of `deep`.
pub const WIDTH: usize = 256;

fn keys(seed: i64) -> impl FnMut() -> Key {
    let mut next = 0i64;
    move || {
        next += 1;
        Key::new(seed as u64).fold(&Tensor::from(next))
    }
}

/// 2→16→16→1 with tanh.
#[derive(Tree, Clone)]
pub struct Tiny {
    layers: [Linear; 3],
}

impl Tiny {
    pub fn new() -> Tiny {
        let mut key = keys(1);
        Tiny { layers: [Linear::new(&key(), 2, 16), Linear::new(&key(), 16, 16), Linear::new(&key(), 16, 1)] }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let [first, second, last] = &self.layers;
        last.forward(&second.forward(&first.forward(x).tanh()).tanh())
    }
}

/// A kernel and a bias for each channel.
#[derive(Tree, Clone)]
struct Conv {
    weight: Tensor,
    bias: Tensor,
}

impl Conv {
    fn new(key: &Key, inputs: usize, outputs: usize, size: usize) -> Conv {
        let [weight, bias] = key.split();
        let bound = 1.0 / ((inputs * size * size) as f64).sqrt();
        Conv {
            weight: init::uniform(&weight, [outputs, inputs, size, size], bound, DType::F32),
            bias: init::uniform(&bias, [outputs], bound, DType::F32),
        }
    }

    /// A kernel [in, out, k, k] for the transposed convolution.
    fn transposed(key: &Key, inputs: usize, outputs: usize, size: usize) -> Conv {
        let Conv { weight, .. } = Conv::new(key, outputs, inputs, size);
        Conv { weight, bias: init::uniform(key, [outputs], 0.02, DType::F32) }
    }

    fn bias(&self) -> Tensor {
        self.bias.reshape([self.bias.numel(), 1, 1])
    }

    fn forward(&self, x: &Tensor, stride: usize, padding: usize) -> Tensor {
        let options = Convolution { stride: vec![stride], padding: Padding::Both(padding), ..Default::default() };
        x.conv(&self.weight, &options) + self.bias()
    }

    fn forward_transposed(&self, x: &Tensor, stride: usize, padding: usize) -> Tensor {
        let options = Convolution { stride: vec![stride], padding: Padding::Both(padding), ..Default::default() };
        x.conv_transpose(&self.weight, &options, &[0]) + self.bias()
    }
}

/// Two convolutions, one pooling, two linear layers.
#[derive(Tree, Clone)]
pub struct Cnn {
    convolutions: [Conv; 2],
    hidden: Linear,
    output: Linear,
}

impl Cnn {
    pub fn new() -> Cnn {
        let mut key = keys(2);
        Cnn {
            convolutions: [Conv::new(&key(), 1, 32, 3), Conv::new(&key(), 32, 64, 3)],
            hidden: Linear::new(&key(), 12544, 128),
            output: Linear::new(&key(), 128, 10),
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.convolutions[0].forward(x, 1, 1).relu();
        let x = self.convolutions[1].forward(&x, 1, 1).relu().max_pool(&Pooling::new(2));
        let x = x.reshape([x.shape()[0], 12544]);
        self.output.forward(&self.hidden.forward(&x).relu())
    }
}

/// One layer of a long short-term memory, with two biases as PyTorch has them.
#[derive(Tree, Clone)]
struct LstmLayer {
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
}

impl LstmLayer {
    fn new(key: &Key, inputs: usize, hidden: usize) -> LstmLayer {
        let [a, b, c, d] = key.split();
        let bound = 1.0 / (hidden as f64).sqrt();
        LstmLayer {
            weight_ih: init::uniform(&a, [4 * hidden, inputs], bound, DType::F32),
            weight_hh: init::uniform(&b, [4 * hidden, hidden], bound, DType::F32),
            bias_ih: init::uniform(&c, [4 * hidden], bound, DType::F32),
            bias_hh: init::uniform(&d, [4 * hidden], bound, DType::F32),
        }
    }

    /// Sequences [time, batch, in] to [time, batch, hidden].
    fn forward(&self, x: &Tensor) -> Tensor {
        let hidden = self.weight_hh.shape()[1];
        let projected = x.matmul(&self.weight_ih.t()) + &self.bias_ih + &self.bias_hh;
        let start = Tensor::zeros([x.shape()[1], hidden], DType::F32);
        let step = |(h, c): &(Tensor, Tensor), x: &Tensor| {
            let gates = x + h.matmul(&self.weight_hh.t());
            let [input, forget, cell, output] = gates.chunk::<4>(-1);
            let c = forget.sigmoid() * c + input.sigmoid() * cell.tanh();
            let h = output.sigmoid() * c.tanh();
            ((h.clone(), c), h)
        };
        scan(step, &(start.clone(), start), &projected).1
    }
}

/// A language model over characters: embedding, two recurrent layers, output.
#[derive(Tree, Clone)]
pub struct Lstm {
    embedding: Tensor,
    layers: [LstmLayer; 2],
    output: Linear,
}

impl Lstm {
    pub fn new() -> Lstm {
        let mut key = keys(3);
        Lstm {
            embedding: key().normal([VOCABULARY, 128], DType::F32),
            layers: [LstmLayer::new(&key(), 128, 256), LstmLayer::new(&key(), 256, 256)],
            output: Linear::new(&key(), 256, VOCABULARY),
        }
    }

    /// Tokens [time, batch] to logits.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        let x = self.embedding.gather(tokens, 0);
        self.output.forward(&self.layers.iter().fold(x, |x, layer| layer.forward(&x)))
    }
}

/// The matrices of a transformer block.
#[derive(Tree, Clone)]
struct Block {
    qkv: Tensor,
    projection: Tensor,
    up: Tensor,
    down: Tensor,
}

/// The weights that decay.
#[derive(Tree, Clone)]
pub struct Matrices {
    tokens: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
}

/// nanoGPT without biases, the output tied to the embedding.
#[derive(Tree, Clone)]
pub struct Gpt {
    /// What weight decay acts on.
    pub matrices: Matrices,
    /// The scales of the norms, which do not decay.
    pub norms: Vec<Tensor>,
    #[tree(skip)]
    /// Of attention.
    pub heads: usize,
}

impl Gpt {
    pub fn new(layers: usize, heads: usize, width: usize, context: usize) -> Gpt {
        let mut key = keys(4);
        let mut matrix = |shape: [usize; 2]| init::normal(&key(), shape, 0.02, DType::F32);
        let tokens = matrix([VOCABULARY, width]);
        let blocks = (0..layers)
            .map(|_| Block {
                qkv: matrix([3 * width, width]),
                projection: matrix([width, width]),
                up: matrix([4 * width, width]),
                down: matrix([width, 4 * width]),
            })
            .collect();
        let positions = Tensor::zeros([context, width], DType::F32);
        let norms = (0..2 * layers + 1).map(|_| Tensor::ones([width], DType::F32)).collect();
        Gpt { matrices: Matrices { tokens, positions, blocks }, norms, heads }
    }

    fn attention(&self, block: &Block, x: &Tensor) -> Tensor {
        let [batch, time, width] = [x.shape()[0], x.shape()[1], x.shape()[2]];
        let each = width / self.heads;
        let [q, k, v] = x
            .matmul(&block.qkv.t())
            .chunk::<3>(-1)
            .map(|part| part.reshape([batch, time, self.heads, each]).swap_axes(1, 2));
        let scores = q.matmul(&k.swap_axes(2, 3)) * (1.0 / (each as f64).sqrt());
        let later = Tensor::ones([time, time], DType::F32).triu(1).greater(0.0);
        let weights = scores.masked_fill(&later, f64::NEG_INFINITY).softmax(-1);
        weights.matmul(&v).swap_axes(1, 2).reshape([batch, time, width]).matmul(&block.projection.t())
    }

    /// Tokens [batch, time] to logits.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        let Matrices { tokens: table, positions, blocks } = &self.matrices;
        let mut x = table.gather(tokens, 0) + positions;
        let mut norms = self.norms.iter();
        let mut norm = |x: &Tensor| x.normalize(-1, 1e-5) * norms.next().expect("one a norm");
        for block in blocks {
            x = &x + self.attention(block, &norm(&x));
            x = &x + norm(&x).matmul(&block.up.t()).gelu_tanh().matmul(&block.down.t());
        }
        norm(&x).matmul(&table.t())
    }
}

/// x + W₂·relu(W₁·x), a hundred times.
#[derive(Tree, Clone)]
pub struct Deep {
    blocks: Vec<(Tensor, Tensor)>,
    #[tree(skip)]
    checkpointed: bool,
}

impl Deep {
    pub fn new(blocks: usize, checkpointed: bool) -> Deep {
        let mut key = keys(5);
        let bound = 1.0 / (WIDTH as f64).sqrt();
        let block = |_| {
            let first = init::uniform(&key(), [WIDTH, WIDTH], bound, DType::F32);
            (first, init::normal(&key(), [WIDTH, WIDTH], 0.005, DType::F32))
        };
        Deep { blocks: (0..blocks).map(block).collect(), checkpointed }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let block =
            |((first, second), x): &((Tensor, Tensor), Tensor)| x + x.matmul(&first.t()).relu().matmul(&second.t());
        self.blocks.iter().fold(x.clone(), |x, weights| {
            let operands = (weights.clone(), x);
            if self.checkpointed { checkpoint(block, &operands) } else { block(&operands) }
        })
    }
}

/// Scale and shift after batch normalisation.
#[derive(Tree, Clone)]
struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    #[tree(state)]
    running_mean: Tensor,
    #[tree(state)]
    running_var: Tensor,
}

impl BatchNorm {
    fn new(channels: usize) -> BatchNorm {
        let (zero, one) = (Tensor::zeros([channels], DType::F32), Tensor::ones([channels], DType::F32));
        BatchNorm { weight: one.clone(), bias: zero.clone(), running_mean: zero, running_var: one }
    }

    fn forward(&mut self, x: &Tensor) -> Tensor {
        let channels = |t: &Tensor| t.reshape([t.numel(), 1, 1]);
        let mean = x.mean([0, 2, 3]);
        let variance = x.variance([0, 2, 3], 1);
        self.running_mean = &self.running_mean * 0.9 + mean.stop_gradient() * 0.1;
        self.running_var = &self.running_var * 0.9 + variance.stop_gradient() * 0.1;
        x.normalize([0, 2, 3], 1e-5) * channels(&self.weight) + channels(&self.bias)
    }
}

/// Noise to images.
#[derive(Tree, Clone)]
pub struct Generator {
    input: Linear,
    norms: [BatchNorm; 2],
    grow: [Conv; 2],
}

impl Generator {
    pub fn new() -> Generator {
        let mut key = keys(6);
        Generator {
            input: Linear::new(&key(), 64, 6272),
            norms: [BatchNorm::new(128), BatchNorm::new(64)],
            grow: [Conv::transposed(&key(), 128, 64, 4), Conv::transposed(&key(), 64, 1, 4)],
        }
    }

    pub fn forward(&mut self, z: &Tensor) -> Tensor {
        let x = self.input.forward(z).reshape([z.shape()[0], 128, 7, 7]);
        let x = self.grow[0].forward_transposed(&self.norms[0].forward(&x).relu(), 2, 1);
        self.grow[1].forward_transposed(&self.norms[1].forward(&x).relu(), 2, 1).tanh()
    }
}

/// Images to one logit.
#[derive(Tree, Clone)]
pub struct Discriminator {
    convolutions: [Conv; 2],
    norm: BatchNorm,
    output: Linear,
}

impl Discriminator {
    pub fn new() -> Discriminator {
        let mut key = keys(7);
        Discriminator {
            convolutions: [Conv::new(&key(), 1, 64, 4), Conv::new(&key(), 64, 128, 4)],
            norm: BatchNorm::new(128),
            output: Linear::new(&key(), 6272, 1),
        }
    }

    pub fn forward(&mut self, x: &Tensor) -> Tensor {
        let x = self.convolutions[0].forward(x, 2, 1).leaky_relu(0.2);
        let x = self.norm.forward(&self.convolutions[1].forward(&x, 2, 1)).leaky_relu(0.2);
        self.output.forward(&x.reshape([x.shape()[0], 6272]))
    }
}
