//! What a trained network says: the next tokens of a text, or the answers of a decoder to sources.
//!
//! Where all layers can go step by step, a token costs one step: keys, values and recurrent states are carried from one to
//! the next, and the prompt is read in one go. Any other network looks at a whole window for each token; what is not
//! said yet lies behind the place that is looked at, where a causal network cannot see it.

use chainrule::execute::{ExecuteError, compile};
use chainrule::tensor::{DType, Key, Tensor, Type};
use chainrule_nn::models::Sampling;

use crate::data::Loader;
use crate::model::{Carried, Network};
use crate::trainer::TrainError;

/// How a text goes on.
#[derive(Debug, Clone, Copy)]
pub struct Continuation {
    /// Tokens to add.
    pub tokens: usize,
    /// How the next token is drawn.
    pub sampling: Sampling,
    /// Decides what is drawn.
    pub seed: u64,
    /// Tokens in a window: those of the training.
    pub window: usize,
}

impl Continuation {
    /// Adds tokens to a prompt, each given to `said`, which ends it by saying false.
    ///
    /// Within the window the tokens are those of [`Continuation::by_windows`]. Where a network can tell places apart and
    /// its window is full, it reads the last half of it again as a new beginning; a recurrent one goes on without end.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    ///
    /// # Panics
    /// If the prompt is empty, the window is, or the sampling is out of its range.
    pub fn run(&self, network: &Network, prompt: &[u32], said: impl FnMut(u32) -> bool) -> Result<(), ExecuteError> {
        assert!(!prompt.is_empty() && self.window > 0, "Continuation: an empty prompt or window");
        match network.carried(&Type::new(DType::I64, [1, 1]), None, self.window) {
            Some(start) => self.by_steps(network, &start, prompt, said),
            None => self.by_windows(network, prompt, said),
        }
    }

    fn by_steps(
        &self,
        network: &Network,
        start: &Carried,
        prompt: &[u32],
        mut said: impl FnMut(u32) -> bool,
    ) -> Result<(), ExecuteError> {
        let (sampling, key) = (self.sampling, Key::new(self.seed));
        let mut next = compile(move |(network, tokens, (carried, number)): &(Network, Tensor, (Carried, Tensor))| {
            let mut carried = carried.clone();
            let logits = network.step(tokens, None, &mut carried);
            let last = logits.narrow(1, tokens.size(1) - 1, 1).reshape([logits.size(-1)]);
            (sampling.draw(&last, &key.fold(number)), carried)
        });
        let mut all: Vec<i64> = prompt.iter().map(|&token| i64::from(token)).collect();
        let room = start.room().unwrap_or(usize::MAX);
        let (mut carried, mut seen, mut new) = (start.clone(), 0, all.len().min(room));
        for number in 0..self.tokens {
            if seen + new > room {
                (carried, seen, new) = (start.clone(), 0, room.div_ceil(2));
            }
            let tokens = Tensor::from_vec(&all[all.len() - new..], [1, new]);
            let number = Tensor::from(number as i64);
            let token;
            (token, carried) = next.run((network.clone(), tokens, (carried, number)))?;
            (seen, new) = (seen + new, 1);
            all.push(token.item::<i64>());
            if !said(token.item::<i64>() as u32) {
                break;
            }
        }
        Ok(())
    }

    /// [`Continuation::run`] with a pass over the last window of tokens for each new one, whatever the network.
    ///
    /// # Errors
    /// If a token is outside the vocabulary.
    ///
    /// # Panics
    /// As [`Continuation::run`].
    pub fn by_windows(
        &self,
        network: &Network,
        prompt: &[u32],
        mut said: impl FnMut(u32) -> bool,
    ) -> Result<(), ExecuteError> {
        assert!(!prompt.is_empty() && self.window > 0, "Continuation: an empty prompt or window");
        let (window, sampling, key) = (self.window, self.sampling, Key::new(self.seed));
        let mut next = compile(move |(network, tokens, (at, number)): &(Network, Tensor, (Tensor, Tensor))| {
            let logits = network.evaluate(&[tokens.reshape([1, window])]);
            sampling.draw(&logits.reshape([window, logits.size(-1)]).gather(at, 0), &key.fold(number))
        });
        let mut all: Vec<i64> = prompt.iter().map(|&token| i64::from(token)).collect();
        for number in 0..self.tokens {
            let seen = &all[all.len().saturating_sub(window)..];
            let mut tokens = seen.to_vec();
            tokens.resize(window, 0);
            let at = Tensor::from(seen.len() as i64 - 1);
            let number = Tensor::from(number as i64);
            let token = next.run((network.clone(), Tensor::from_vec(tokens, [window]), (at, number)))?;
            let token = token.item::<i64>();
            all.push(token);
            if !said(token as u32) {
                break;
            }
        }
        Ok(())
    }
}

/// The likeliest answers of an encoder with a decoder to sources `[N, …]`, each as long as the decoder's window: token by
/// token after the first one that is given, `begin` `[N, 1]`, and after what it said itself.
///
/// # Errors
/// If a token is outside the vocabulary.
pub fn decode(
    network: &Network,
    sources: &Tensor,
    begin: &Tensor,
    window: usize,
) -> Result<Vec<Vec<i64>>, ExecuteError> {
    let count = sources.size(0);
    // What encoders that look at it see of the answer: its first token.
    let place = Tensor::arange(window, DType::I64);
    let said = place.equal(0i64).select(begin, 0i64).eval();
    let mut encode = compile(|(network, inputs): &(Network, [Tensor; 2])| network.encode(inputs.each_ref()));
    let memory = encode.run((network.clone(), [sources.clone(), said.clone()]))?;
    let over = [sources.clone(), said, memory];
    let types = over.each_ref().map(Tensor::ty);
    let Some(mut carried) = network.carried(begin.ty(), Some(types), window) else {
        return decode_by_windows(network, sources, begin, window);
    };
    let mut next = compile(|(network, over, (token, carried)): &(Network, [Tensor; 3], (Tensor, Carried))| {
        let mut carried = carried.clone();
        let logits = network.step(token, Some(over.each_ref()), &mut carried);
        (logits.argmax(-1), carried)
    });
    let mut answers = vec![Vec::with_capacity(window); count];
    let mut token = begin.clone();
    for _ in 0..window {
        (token, carried) = next.run((network.clone(), over.clone(), (token, carried)))?;
        answers.iter_mut().zip(token.to_vec::<i64>()).for_each(|(answer, token)| answer.push(token));
    }
    Ok(answers)
}

/// [`decode`] with a pass over the decoder's whole window for each token.
fn decode_by_windows(
    network: &Network,
    sources: &Tensor,
    begin: &Tensor,
    window: usize,
) -> Result<Vec<Vec<i64>>, ExecuteError> {
    let count = sources.size(0);
    let mut next = compile(move |(network, sources, said): &(Network, Tensor, Tensor)| {
        network.evaluate(&[sources.clone(), said.clone()]).argmax(-1).reshape([count, window])
    });
    let mut said = vec![vec![0i64; window + 1]; count];
    said.iter_mut().zip(begin.to_vec::<i64>()).for_each(|(row, begin)| row[0] = begin);
    for at in 0..window {
        let given: Vec<i64> = said.iter().flat_map(|row| &row[..window]).copied().collect();
        let tokens = next.run((network.clone(), sources.clone(), Tensor::from_vec(given, [count, window])))?;
        let tokens = tokens.to_vec::<i64>();
        said.iter_mut().enumerate().for_each(|(i, row)| row[at + 1] = tokens[i * window + at]);
    }
    Ok(said.into_iter().map(|row| row[1..].to_vec()).collect())
}

/// The share of examples whose answer, said freely, is the target in every place that is not of the class `ignore`.
pub(super) fn exact_answers(network: &Network, data: &Loader, ignore: Option<i64>) -> Result<f64, TrainError> {
    let (mut right, mut all) = (0, 0);
    for batch in data.epoch(0, 0) {
        let batch = batch?;
        let given = batch.inputs[1].eval();
        let answers = decode(network, &batch.inputs[0].eval(), &given.narrow(1, 0, 1).eval(), given.size(1))?;
        let targets = batch.target().cast(DType::I64).to_vec::<i64>();
        let fits = |(said, wanted): (&i64, &i64)| said == wanted || Some(*wanted) == ignore;
        let rows = answers.iter().zip(targets.chunks(given.size(1)));
        right += rows.filter(|(answer, target)| answer.iter().zip(*target).all(fits)).count();
        all += answers.len();
    }
    Ok(right as f64 / all.max(1) as f64)
}
