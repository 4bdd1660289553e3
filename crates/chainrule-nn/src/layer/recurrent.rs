//! Recurrent networks: one walk over sequences for three kinds of cell.
//!
//! J. Elman, "Finding structure in time", 1990; S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997, with
//! F. Gers et al.'s forget gate, 2000; K. Cho et al. 2014 (gated recurrent unit). Formulas and the order of gates are
//! PyTorch's. What depends on the inputs alone is one product of matrices for all steps; the loop does the rest.

use super::Dropout;
use crate::context::Context;
use crate::init;
use chainrule::tensor::{DType, Key, Tensor, concat, scan, scan_truncated, stack};
use chainrule::tree::{self, Tree};

/// One step of a kind of recurrent network.
pub trait Cell: Tree + Clone + Default {
    /// Rows of the weights for each unit: the gates.
    const GATES: usize;
    /// Tensors that are carried; the first is the output.
    const CARRIED: usize;
    /// Whether only the sum of its two arguments matters: then both biases are added to all inputs at once.
    const ADDS: bool;
    /// What is carried, as users see it: `[layers·directions, N, hidden]` each.
    type State: Tree + Clone;

    /// The state of these tensors.
    fn state(carried: Vec<Tensor>) -> Self::State;

    /// The next step's tensors from x·Wᵢᵀ + bᵢ, h·Wₕᵀ + bₕ (both `[N, gates·hidden]`) and the last step's. Where only their
    /// sum matters, bₕ may stand in the first.
    #[track_caller]
    fn step(&self, input: &Tensor, recurrent: &Tensor, carried: &[Tensor]) -> Vec<Tensor>;
}

fn only(mut carried: Vec<Tensor>) -> Tensor {
    carried.remove(0)
}

/// h' = tanh(x·Wᵢᵀ + bᵢ + h·Wₕᵀ + bₕ), or the same with a rectifier.
#[derive(Tree, Clone, Debug, Default)]
pub struct RnnCell {
    #[tree(skip)]
    relu: bool,
}

impl Cell for RnnCell {
    const GATES: usize = 1;
    const CARRIED: usize = 1;
    const ADDS: bool = true;
    type State = Tensor;

    fn state(carried: Vec<Tensor>) -> Tensor {
        only(carried)
    }
    fn step(&self, input: &Tensor, recurrent: &Tensor, _: &[Tensor]) -> Vec<Tensor> {
        let sum = input + recurrent;
        vec![if self.relu { sum.relu() } else { sum.tanh() }]
    }
}

/// i, f, g, o = σ, σ, tanh, σ of the four gates; c' = f·c + i·g; h' = o·tanh c'.
#[derive(Tree, Clone, Debug, Default)]
pub struct LstmCell {}

impl Cell for LstmCell {
    const GATES: usize = 4;
    const CARRIED: usize = 2;
    const ADDS: bool = true;
    type State = (Tensor, Tensor);

    fn state(mut carried: Vec<Tensor>) -> (Tensor, Tensor) {
        let cell = carried.remove(1);
        (only(carried), cell)
    }
    fn step(&self, input: &Tensor, recurrent: &Tensor, carried: &[Tensor]) -> Vec<Tensor> {
        let [i, f, g, o] = (input + recurrent).chunk(-1);
        let cell = f.sigmoid() * &carried[1] + i.sigmoid() * g.tanh();
        vec![o.sigmoid() * cell.tanh(), cell]
    }
}

/// r, z = σ of the first two gates; n = tanh(input's third + r·recurrent's third); h' = (1 − z)·n + z·h.
#[derive(Tree, Clone, Debug, Default)]
pub struct GruCell {}

impl Cell for GruCell {
    const GATES: usize = 3;
    const CARRIED: usize = 1;
    const ADDS: bool = false;
    type State = Tensor;

    fn state(carried: Vec<Tensor>) -> Tensor {
        only(carried)
    }
    fn step(&self, input: &Tensor, recurrent: &Tensor, carried: &[Tensor]) -> Vec<Tensor> {
        let ([ri, zi, ni], [rh, zh, nh]) = (input.chunk(-1), recurrent.chunk(-1));
        let (r, z) = ((ri + rh).sigmoid(), (zi + zh).sigmoid());
        let n = (ni + r * nh).tanh();
        vec![&n + z * (&carried[0] - &n)]
    }
}

/// The weights of one layer in one direction.
#[derive(Tree, Clone, Debug)]
pub struct RecurrentWeights {
    /// `[gates·hidden, in]`.
    pub weight_ih: Tensor,
    /// `[gates·hidden, hidden]`.
    pub weight_hh: Tensor,
    /// `[gates·hidden]`.
    pub bias_ih: Option<Tensor>,
    /// `[gates·hidden]`.
    pub bias_hh: Option<Tensor>,
}

impl RecurrentWeights {
    /// Uniform on ±1/√hidden, as PyTorch's. In f32.
    #[track_caller]
    fn new(key: &Key, gates: usize, inputs: usize, hidden: usize) -> RecurrentWeights {
        let bound = 1.0 / (hidden.max(1) as f64).sqrt();
        let rows = gates * hidden;
        let draw = |key: &Key, shape: &[usize]| init::uniform(key, shape, bound, DType::F32);
        let [a, b, c, d] = key.split();
        RecurrentWeights {
            weight_ih: draw(&a, &[rows, inputs]),
            weight_hh: draw(&b, &[rows, hidden]),
            bias_ih: Some(draw(&c, &[rows])),
            bias_hh: Some(draw(&d, &[rows])),
        }
    }
}

/// One layer: from the first step to the last, and perhaps back.
#[derive(Tree, Clone, Debug)]
pub struct RecurrentLayer {
    /// From the first step to the last.
    pub forward: RecurrentWeights,
    /// From each sequence's last step to its first.
    pub backward: Option<RecurrentWeights>,
}

/// Layers of recurrent cells over sequences `[N, T, in]`; see [`Rnn`], [`Lstm`] and [`Gru`].
#[derive(Tree, Clone, Debug)]
pub struct Recurrent<C: Clone> {
    /// The layers, first to last.
    pub layers: Vec<RecurrentLayer>,
    #[tree(skip)]
    cell: C,
    /// Sequences are `[T, N, in]`.
    #[tree(skip)]
    pub time_first: bool,
    /// Dropout of every layer's output but the last's, in training.
    #[tree(skip)]
    pub dropout: f64,
    /// Gradients go back at most so many steps.
    #[tree(skip)]
    pub truncation: Option<usize>,
}

/// Elman's recurrent network with tanh, or a rectifier; the state is h.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let rnn = Rnn::new(&Key::new(1), 3, 5).relu();
/// let (y, h) = rnn.forward(&Tensor::zeros([2, 7, 3], DType::F32), None, None, &mut Context::evaluation());
/// assert_eq!((y.shape(), h.shape()), (&[2, 7, 5][..], &[1, 2, 5][..]));
/// ```
pub type Rnn = Recurrent<RnnCell>;

/// Long short-term memory; the state is (h, c).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let lstm = Lstm::new(&Key::new(1), 3, 5).stacked(&Key::new(2), 2).bidirectional(&Key::new(3));
/// let lengths = Tensor::from([7i64, 4]);
/// let x = Tensor::zeros([2, 7, 3], DType::F32);
/// let (y, (h, c)) = lstm.forward(&x, None, Some(&lengths), &mut Context::evaluation());
/// assert_eq!((y.shape(), h.shape(), c.shape()), (&[2, 7, 10][..], &[4, 2, 5][..], &[4, 2, 5][..]));
/// ```
pub type Lstm = Recurrent<LstmCell>;

/// Gated recurrent unit; the state is h.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let gru = Gru::new(&Key::new(1), 3, 5);
/// let (y, h) = gru.forward(&Tensor::zeros([2, 7, 3], DType::F32), None, None, &mut Context::evaluation());
/// assert_eq!(y.at((.., 6)).to_vec::<f32>(), h.to_vec::<f32>());
/// ```
pub type Gru = Recurrent<GruCell>;

impl Rnn {
    /// With a rectifier in place of tanh.
    pub fn relu(self) -> Rnn {
        Rnn { cell: RnnCell { relu: true }, ..self }
    }
}

impl<C: Cell> Recurrent<C> {
    /// One layer in one direction, with PyTorch's first values: all uniform on ±1/√hidden. In f32.
    #[track_caller]
    pub fn new(key: &Key, inputs: usize, hidden: usize) -> Recurrent<C> {
        let forward = RecurrentWeights::new(key, C::GATES, inputs, hidden);
        let layers = vec![RecurrentLayer { forward, backward: None }];
        Recurrent { layers, cell: C::default(), time_first: false, dropout: 0.0, truncation: None }
    }

    /// With so many layers in all; the new ones read what the one before writes.
    #[track_caller]
    pub fn stacked(mut self, key: &Key, layers: usize) -> Recurrent<C> {
        let hidden = self.hidden();
        let inputs = hidden * self.directions();
        while self.layers.len() < layers {
            let key = key.fold(&Tensor::from(self.layers.len() as i64));
            let [forward, backward] = key.split();
            let draw = |key: &Key| RecurrentWeights::new(key, C::GATES, inputs, hidden);
            let backward = (self.directions() == 2).then(|| draw(&backward));
            self.layers.push(RecurrentLayer { forward: draw(&forward), backward });
        }
        self
    }

    /// With a second direction in every layer, from each sequence's end to its start; outputs stand side by side.
    /// Layers after the first are drawn anew, since their inputs are twice as wide.
    #[track_caller]
    pub fn bidirectional(mut self, key: &Key) -> Recurrent<C> {
        let (hidden, layers) = (self.hidden(), self.layers.len());
        let inputs = self.layers[0].forward.weight_ih.size(-1);
        let [first, rest] = key.split();
        self.layers.truncate(1);
        self.layers[0].backward = Some(RecurrentWeights::new(&first, C::GATES, inputs, hidden));
        self.stacked(&rest, layers)
    }

    /// The same layers without biases.
    pub fn without_bias(mut self) -> Recurrent<C> {
        for layer in &mut self.layers {
            for weights in std::iter::once(&mut layer.forward).chain(&mut layer.backward) {
                (weights.bias_ih, weights.bias_hh) = (None, None);
            }
        }
        self
    }

    /// With sequences `[T, N, in]`, as PyTorch has them unless told otherwise.
    pub fn time_first(self) -> Recurrent<C> {
        Recurrent { time_first: true, ..self }
    }

    /// With dropout of every layer's output but the last's, in training.
    pub fn dropout(self, probability: f64) -> Recurrent<C> {
        Recurrent { dropout: Dropout::new(probability).probability, ..self }
    }

    /// With gradients cut every so many steps: truncated back-propagation through time.
    pub fn truncated(self, steps: usize) -> Recurrent<C> {
        Recurrent { truncation: Some(steps), ..self }
    }

    /// Units of a layer in one direction.
    pub fn hidden(&self) -> usize {
        self.layers[0].forward.weight_hh.size(-1)
    }

    fn directions(&self) -> usize {
        1 + self.layers[0].backward.is_some() as usize
    }

    /// The last layer's outputs `[N, T, directions·hidden]` and the state after the last step,
    /// `[layers·directions, N, hidden]` each, by layers and in a layer by directions.
    ///
    /// `initial` is the state before the first step; zeros without it. `lengths` are the sequences' own numbers of
    /// steps, i64 `[N]`: outputs past them are zeros, the state is the one at the end of each, and the way back starts
    /// there, as for PyTorch's packed sequences.
    ///
    /// # Panics
    /// If shapes do not fit.
    #[track_caller]
    pub fn forward(
        &self,
        x: &Tensor,
        initial: Option<&C::State>,
        lengths: Option<&Tensor>,
        context: &mut Context,
    ) -> (Tensor, C::State) {
        assert!(x.rank() == 3, "recurrent layers take [N, T, in] (or [T, N, in]), not {}", x.ty());
        let mut x = if self.time_first { x.clone() } else { x.swap_axes(0, 1) };
        let (steps, batch) = (x.size(0), x.size(1));
        let mask = lengths.map(|lengths| {
            assert!(lengths.shape() == [batch], "recurrent layers: lengths {} of {batch} sequences", lengths.ty());
            let step = Tensor::arange(steps, lengths.dtype()).unsqueeze(-1);
            step.less(lengths).unsqueeze(-1)
        });
        let start = self.start(initial, batch, x.dtype());
        let mut last: Vec<Vec<Tensor>> = vec![Vec::new(); C::CARRIED];
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 && self.dropout > 0.0 {
                x = Dropout::new(self.dropout).forward(&x, context);
            }
            let mut outputs = Vec::new();
            for (direction, weights) in std::iter::once(&layer.forward).chain(&layer.backward).enumerate() {
                let place = i * self.directions() + direction;
                let carried: Vec<Tensor> = start.iter().map(|s| s.at(place)).collect();
                let (carried, y) = self.walk(weights, &x, carried, mask.as_ref(), direction == 1);
                last.iter_mut().zip(carried).for_each(|(list, tensor)| list.push(tensor));
                outputs.push(y);
            }
            x = concat(&outputs, -1);
        }
        let y = if self.time_first { x } else { x.swap_axes(0, 1) };
        (y, C::state(last.iter().map(|list| stack(list, 0)).collect()))
    }

    /// The state before a first step unless another is given: zeros.
    #[track_caller]
    pub fn initial(&self, batch: usize, dtype: DType) -> C::State {
        C::state(self.start(None, batch, dtype))
    }

    /// The tensors carried into the first step, `[layers·directions, N, hidden]` each.
    #[track_caller]
    fn start(&self, initial: Option<&C::State>, batch: usize, dtype: DType) -> Vec<Tensor> {
        let shape = [self.layers.len() * self.directions(), batch, self.hidden()];
        match initial {
            None => vec![Tensor::zeros(shape, dtype); C::CARRIED],
            Some(state) => {
                let tensors = tree::leaves(state);
                let wrong = tensors.iter().find(|s| s.shape() != shape);
                assert!(
                    wrong.is_none(),
                    "recurrent layers: an initial state {} where {shape:?} is carried",
                    tensors[0].ty()
                );
                tensors
            }
        }
    }

    /// One layer in one direction over `[T, N, in]`.
    #[track_caller]
    fn walk(
        &self,
        weights: &RecurrentWeights,
        x: &Tensor,
        carried: Vec<Tensor>,
        mask: Option<&Tensor>,
        back: bool,
    ) -> (Vec<Tensor>, Tensor) {
        let add = |product: Tensor, bias: &Option<Tensor>| match bias {
            Some(bias) => product + bias,
            None => product,
        };
        let turned = |x: Tensor| if back { x.flip(0) } else { x };
        let (before, within) = match (&weights.bias_ih, &weights.bias_hh) {
            (Some(ih), Some(hh)) if C::ADDS => (Some(ih + hh), None),
            (ih, hh) => (ih.clone(), hh.clone()),
        };
        let inputs = turned(add(x.matmul(&weights.weight_ih.t()), &before));
        let recurrent = weights.weight_hh.t();
        let step = |carried: &Vec<Tensor>, (input, inside): &(Tensor, Option<Tensor>)| {
            let next = self.cell.step(input, &add(carried[0].matmul(&recurrent), &within), carried);
            match inside {
                None => (next.clone(), next[0].clone()),
                // A sequence that is over keeps its state; on the way back, one that has not begun keeps the first.
                Some(inside) => {
                    let y = inside.select(&next[0], 0.0);
                    let held = next.iter().zip(carried).map(|(new, old)| inside.select(new, old));
                    (held.collect(), y)
                }
            }
        };
        let sequences = (inputs, mask.map(|mask| turned(mask.clone())));
        let (last, y) = match self.truncation {
            Some(window) => scan_truncated(window, step, &carried, &sequences),
            None => scan(step, &carried, &sequences),
        };
        (last, turned(y))
    }
}
