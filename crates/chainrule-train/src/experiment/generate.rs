//! What a trained network says: the next tokens of a text, or the answer of a decoder to a source.
//!
//! The network sees a window of one size, so one program does for all tokens: what is not said yet lies behind the place
//! that is looked at, where a causal network cannot see it. When the window is full it moves along.

use chainrule::execute::{ExecuteError, compile};
use chainrule::tensor::{Key, Tensor};
use chainrule_nn::models::Sampling;

use crate::model::Network;

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
    /// # Errors
    /// If a token is outside the vocabulary.
    ///
    /// # Panics
    /// If the prompt is empty, the window is, or the sampling is out of its range.
    pub fn run(
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

/// The likeliest answer of an encoder with a decoder to a source `[length]`, token by token from `begin`, as long as the
/// decoder's window.
///
/// # Errors
/// If a token is outside the vocabulary.
pub fn decode(network: &Network, source: &Tensor, begin: i64, window: usize) -> Result<Vec<i64>, ExecuteError> {
    let mut next = compile(move |(network, source, said): &(Network, Tensor, Tensor)| {
        network.evaluate(&[source.unsqueeze(0), said.unsqueeze(0)]).argmax(-1).reshape([window])
    });
    let mut said = vec![0i64; window];
    let mut answer = Vec::with_capacity(window);
    said[0] = begin;
    for at in 0..window {
        let tokens = next.run((network.clone(), source.clone(), Tensor::from_vec(&said, [window])))?;
        let token = tokens.to_vec::<i64>()[at];
        answer.push(token);
        if at + 1 < window {
            said[at + 1] = token;
        }
    }
    Ok(answer)
}
