//! The networks of the workloads, written as a user would write them.

use chainrule::prelude::*;
use chainrule::tree;
use chainrule_nn::prelude::*;

/// Tokens that the language models know.
pub const VOCABULARY: usize = 65;
/// Width of the residual blocks of `deep`.
pub const WIDTH: usize = 256;

/// New keys, one a call.
fn keys(seed: u64) -> impl FnMut() -> Key {
    let mut next = 0i64;
    move || {
        next += 1;
        Key::new(seed).fold(&Tensor::from(next))
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
            convolutions: [Conv::new(&key(), 1, 32, [3, 3]).padding(1), Conv::new(&key(), 32, 64, [3, 3]).padding(1)],
            hidden: Linear::new(&key(), 12544, 128),
            output: Linear::new(&key(), 128, 10),
        }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.convolutions[0].forward(x).relu();
        let x = Pool::max(2).forward(&self.convolutions[1].forward(&x).relu());
        self.output.forward(&self.hidden.forward(&x.reshape([x.shape()[0], 12544])).relu())
    }
}

/// A language model over characters: embedding, two recurrent layers, output.
#[derive(Tree, Clone)]
pub struct Characters {
    embedding: Embedding,
    recurrent: Lstm,
    output: Linear,
}

impl Characters {
    pub fn new() -> Characters {
        let mut key = keys(3);
        Characters {
            embedding: Embedding::new(&key(), VOCABULARY, 128),
            recurrent: Lstm::new(&key(), 128, 256).stacked(&key(), 2).time_first(),
            output: Linear::new(&key(), 256, VOCABULARY),
        }
    }

    /// Tokens [time, batch] to logits.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        let x = self.embedding.forward(tokens);
        self.output.forward(&self.recurrent.forward(&x, None, None, &mut Context::evaluation()).0)
    }
}

/// A pre-norm transformer block.
#[derive(Tree, Clone)]
struct Block {
    norms: [LayerNorm; 2],
    attention: Attention,
    up: Linear,
    down: Linear,
}

/// nanoGPT without biases, the output tied to the embedding.
#[derive(Tree, Clone)]
pub struct Gpt {
    tokens: Embedding,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Gpt {
    pub fn new(layers: usize, heads: usize, width: usize, context: usize) -> Gpt {
        let mut key = keys(4);
        let norm = || LayerNorm::new(width).without_bias();
        let mut block = |_| Block {
            norms: [norm(), norm()],
            attention: Attention::new(&key(), width, heads).causal().without_bias(),
            up: Linear::new(&key(), width, 4 * width).without_bias(),
            down: Linear::new(&key(), 4 * width, width).without_bias(),
        };
        let model = Gpt {
            blocks: (0..layers).map(&mut block).collect(),
            tokens: Embedding::new(&key(), VOCABULARY, width),
            positions: Tensor::zeros([context, width], DType::F32),
            norm: norm(),
        };
        // Matrices begin normal with deviation 0.02.
        tree::map_named(&model, |path, _, leaf| match leaf.rank() {
            2 if path != "positions" => init::normal(&key(), leaf.shape(), 0.02, DType::F32),
            _ => leaf.clone(),
        })
    }

    /// Tokens [batch, time] to logits.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        self.through(tokens, &self.positions, |_, attention, y| {
            attention.forward(y, y, None, &mut Context::evaluation())
        })
    }

    /// Room for the keys and values of so many texts and tokens.
    pub fn caches(&self, texts: usize, room: usize) -> Vec<KeyValueCache> {
        self.blocks.iter().map(|block| block.attention.cache(texts, room)).collect()
    }

    /// Logits of the token after each of these, [batch, time], where those before are in the caches.
    pub fn next(&self, tokens: &Tensor, caches: &mut [KeyValueCache]) -> Tensor {
        let places = Tensor::arange(tokens.size(1), DType::I64) + &caches[0].length;
        let positions = self.positions.gather(&places, 0);
        self.through(tokens, &positions, |block, attention, y| attention.forward_cached(y, &mut caches[block]))
    }

    fn through(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        mut attend: impl FnMut(usize, &Attention, &Tensor) -> Tensor,
    ) -> Tensor {
        let mut x = self.tokens.forward(tokens) + positions;
        for (i, Block { norms: [before_attention, before_layers], attention, up, down }) in
            self.blocks.iter().enumerate()
        {
            x = &x + attend(i, attention, &before_attention.forward(&x));
            x = &x + down.forward(&up.forward(&before_layers.forward(&x)).gelu_tanh());
        }
        self.norm.forward(&x).matmul(&self.tokens.weight.t())
    }
}

/// x + W₂·relu(W₁·x), many times.
#[derive(Tree, Clone)]
pub struct Deep {
    blocks: Vec<[Linear; 2]>,
    #[tree(skip)]
    checkpointed: bool,
}

impl Deep {
    pub fn new(blocks: usize, checkpointed: bool) -> Deep {
        let mut key = keys(5);
        let mut linear = || Linear::new(&key(), WIDTH, WIDTH).without_bias();
        let mut blocks: Vec<[Linear; 2]> = (0..blocks).map(|_| [linear(), linear()]).collect();
        for [_, second] in &mut blocks {
            second.weight = init::normal(&key(), [WIDTH, WIDTH], 0.005, DType::F32);
        }
        Deep { blocks, checkpointed }
    }

    pub fn forward(&self, x: &Tensor) -> Tensor {
        let block = |([first, second], x): &([Linear; 2], Tensor)| x + second.forward(&first.forward(x).relu());
        self.blocks.iter().fold(x.clone(), |x, weights| {
            let operands = (weights.clone(), x);
            if self.checkpointed { checkpoint(block, &operands) } else { block(&operands) }
        })
    }
}

/// Noise to images.
#[derive(Tree, Clone)]
pub struct Generator {
    input: Linear,
    norms: [BatchNorm; 2],
    grow: [ConvTranspose; 2],
}

impl Generator {
    pub fn new() -> Generator {
        let mut key = keys(6);
        let mut grow = |inputs, outputs| ConvTranspose::new(&key(), inputs, outputs, [4, 4]).stride(2).padding(1);
        Generator {
            grow: [grow(128, 64), grow(64, 1)],
            norms: [BatchNorm::new(128), BatchNorm::new(64)],
            input: Linear::new(&key(), 64, 6272),
        }
    }

    pub fn forward(&mut self, z: &Tensor, context: &mut Context) -> Tensor {
        let x = self.input.forward(z).reshape([z.shape()[0], 128, 7, 7]);
        let x = self.grow[0].forward(&self.norms[0].forward(&x, context).relu());
        self.grow[1].forward(&self.norms[1].forward(&x, context).relu()).tanh()
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
        let mut shrink = |inputs, outputs| Conv::new(&key(), inputs, outputs, [4, 4]).stride(2).padding(1);
        Discriminator {
            convolutions: [shrink(1, 64), shrink(64, 128)],
            norm: BatchNorm::new(128),
            output: Linear::new(&key(), 6272, 1),
        }
    }

    pub fn forward(&mut self, x: &Tensor, context: &mut Context) -> Tensor {
        let x = self.convolutions[0].forward(x).leaky_relu(0.2);
        let x = self.norm.forward(&self.convolutions[1].forward(&x), context).leaky_relu(0.2);
        self.output.forward(&x.reshape([x.shape()[0], 6272]))
    }
}
