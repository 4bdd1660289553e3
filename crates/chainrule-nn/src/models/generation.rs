//! The next token: the likeliest, or drawn from the likely ones.

use chainrule::tensor::{DType, Key, Tensor};

/// How the next token comes from logits.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::models::Sampling;
/// let logits = Tensor::from([1.0f32, 3.0, 2.0]);
/// assert_eq!(Sampling::greedy().draw(&logits, &Key::new(1)).item::<i64>(), 1);
/// let sampling = Sampling { temperature: 0.8, top_k: Some(2), top_p: Some(0.95) };
/// assert_ne!(sampling.draw(&logits, &Key::new(1)).item::<i64>(), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; at 0 the likeliest token is taken.
    pub temperature: f64,
    /// Only so many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together have this probability (A. Holtzman et al. 2020).
    pub top_p: Option<f64>,
}

impl Sampling {
    /// The likeliest token.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, top_k: None, top_p: None }
    }

    /// From all tokens as they are likely.
    pub fn plain() -> Sampling {
        Sampling { temperature: 1.0, top_k: None, top_p: None }
    }

    /// What is wrong with the numbers, if something is.
    ///
    /// # Errors
    /// A temperature below 0, no token left by `top_k`, a probability not in (0, 1].
    pub fn check(&self) -> Result<(), String> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(format!("temperature is {}; it is 0 or more", self.temperature));
        }
        if self.top_k == Some(0) {
            return Err("top_k is 0; it is 1 or more".into());
        }
        match self.top_p {
            Some(p) if !(p > 0.0 && p <= 1.0) => Err(format!("top_p is {p}; it is above 0 and at most 1")),
            _ => Ok(()),
        }
    }

    /// The logits `[.., tokens]` divided by the temperature, with −∞ for tokens that cannot be drawn. A token that
    /// is as likely as the last one kept is kept too.
    ///
    /// # Panics
    /// Where [`Sampling::check`] gives an error, or at temperature 0.
    #[track_caller]
    pub fn filter(&self, logits: &Tensor) -> Tensor {
        if let Err(why) = self.check() {
            panic!("Sampling: {why}");
        }
        assert!(self.temperature > 0.0, "Sampling: at temperature 0 nothing is drawn");
        let mut logits = logits / self.temperature;
        let tokens = logits.size(-1);
        if let Some(k) = self.top_k.filter(|&k| k < tokens) {
            let least = logits.sort(-1, true).narrow(-1, k - 1, 1);
            logits = logits.less(&least).select(&logits.full_like(f64::NEG_INFINITY), &logits);
        }
        if let Some(p) = self.top_p.filter(|&p| p < 1.0) {
            let sorted = logits.sort(-1, true);
            let chances = sorted.softmax(-1);
            // A token stays if those before it have not yet this probability.
            let stays = (chances.cumsum(-1) - &chances).less(p);
            let least = stays.select(&sorted, f64::INFINITY).min_keepdims(-1);
            logits = logits.less(&least).select(&logits.full_like(f64::NEG_INFINITY), &logits);
        }
        logits
    }

    /// A token for each row of logits `[.., tokens]`, i64 `[..]`: a pure function of the key, by the Gumbel trick.
    #[track_caller]
    pub fn draw(&self, logits: &Tensor, key: &Key) -> Tensor {
        if self.temperature == 0.0 {
            return logits.argmax(-1);
        }
        let uniform = key.uniform(logits.shape(), DType::F64);
        let gumbel = -(-uniform.log()).log();
        (self.filter(&logits.cast(DType::F64)) + gumbel).argmax(-1)
    }
}

/// Why nothing can be generated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// No token to start from.
    #[error("a prompt has at least one token")]
    Empty,
    /// The prompt and what is wanted are longer than the model can look back.
    #[error("{prompt} tokens and {wanted} more are beyond the model's {positions} positions")]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens asked for.
        wanted: usize,
        /// What the model has.
        positions: usize,
    },
    /// A token that the model does not know.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token {
        /// The token.
        token: i64,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The numbers of the sampling.
    #[error("{0}")]
    Sampling(String),
    /// The run itself.
    #[error("{0}")]
    Run(String),
}
