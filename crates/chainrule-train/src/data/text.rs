//! Text for language models: windows of tokens, whose targets are the same tokens one place on.
//!
//! In training a window begins anywhere, drawn anew for each example and epoch, as nanoGPT does; an epoch is as many
//! windows as lie side by side. For a test they lie side by side, in order.

use std::io::Read;
use std::sync::Arc;

use chainrule::tensor::{DType, Tensor, Type};
use flate2::read::GzDecoder;

use super::random::Random;
use super::{Batch, DataError, Dataset, Draw, ExampleType, Tokenizer, Tokens};

static SHAKESPEARE: &[u8] = include_bytes!("../../data/shakespeare.txt.gz");

/// What the numbers that choose a window are drawn for.
const WINDOW: u64 = 0x7769_6e64;

/// Nine plays of Shakespeare, about 1 MB, carried inside the crate; see `data/README.md`.
///
/// # Errors
/// If the crate itself was built from a damaged file.
pub fn shakespeare() -> Result<String, DataError> {
    let mut text = String::new();
    let read = GzDecoder::new(SHAKESPEARE).read_to_string(&mut text);
    read.map_err(|source| DataError::Gzip { after: text.len() as u64, source })?;
    Ok(text)
}

/// Windows of a text: inputs and targets i64 `[context]`, the targets one token on.
#[derive(Clone, Debug)]
pub struct Text {
    tokens: Vec<u32>,
    context: usize,
    tokenizer: Arc<Tokenizer>,
}

impl Text {
    /// Windows of `context` tokens of a text.
    ///
    /// # Errors
    /// If a character has no token, or the text is shorter than one window and the token after it.
    pub fn new(text: &str, tokenizer: Arc<Tokenizer>, context: usize) -> Result<Text, DataError> {
        let tokens = tokenizer.encode(text)?;
        if context == 0 || tokens.len() <= context {
            return Err(DataError::Setting(format!(
                "context = {context}: a text of {} tokens has windows of 1 to {}",
                tokens.len(),
                tokens.len().saturating_sub(1)
            )));
        }
        Ok(Text { tokens, context, tokenizer })
    }

    /// The first part for training and the last `fraction` for validation, cut between characters, with one tokenizer
    /// made for both; byte pairs are learned from the first part only.
    ///
    /// # Errors
    /// As [`Text::new`] and [`Tokenizer::of`], and if the fraction is not between 0 and 1.
    pub fn split(text: &str, tokens: &Tokens, context: usize, fraction: f64) -> Result<(Text, Text), DataError> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(DataError::Setting(format!(
                "a validation part of {fraction}: it is a fraction between 0 and 1, as in 0.1"
            )));
        }
        let letters = text.chars().count();
        let kept = (letters as f64 * (1.0 - fraction)) as usize;
        let cut = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
        let tokenizer = Arc::new(Tokenizer::of(tokens, text, cut)?);
        let (train, validation) = text.split_at(cut);
        Ok((Text::new(train, tokenizer.clone(), context)?, Text::new(validation, tokenizer, context)?))
    }

    /// All tokens, in order.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// What made the tokens.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    fn start(&self, example: usize, draw: Option<Draw>) -> usize {
        match draw {
            None => example * self.context,
            Some(Draw { seed, epoch }) => {
                Random::of(&[seed, epoch, example as u64, WINDOW]).index(self.tokens.len() - self.context)
            }
        }
    }
}

impl Dataset for Text {
    fn len(&self) -> usize {
        (self.tokens.len() - 1) / self.context
    }

    fn example(&self) -> ExampleType {
        let window = || vec![Type::new(DType::I64, [self.context])];
        ExampleType { inputs: window(), targets: window(), classes: Some(self.tokenizer.len()) }
    }

    fn batch(&self, examples: &[usize], draw: Option<Draw>) -> Result<Batch, DataError> {
        assert!(examples.iter().all(|&example| example < self.len()), "a window beyond the {} there are", self.len());
        let starts: Vec<usize> = examples.iter().map(|&example| self.start(example, draw)).collect();
        let windows = |shift: usize| {
            let tokens = starts.iter().flat_map(|&start| &self.tokens[start + shift..start + shift + self.context]);
            let tokens: Vec<i64> = tokens.map(|&token| token as i64).collect();
            Tensor::from_vec(tokens, [examples.len(), self.context])
        };
        Ok(Batch::new(windows(0), windows(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_inside_is_what_its_readme_says() {
        let text = shakespeare().unwrap();
        assert_eq!((text.len(), text.is_ascii()), (1_047_406, true));
        assert!(text.starts_with("FIRST CITIZEN:\nBefore we proceed any further, hear me speak.\n\nALL:\n"));
        assert!(text.ends_with("\n"));
        assert_eq!(Tokenizer::characters(&text).len(), 65);
        // Each speech is a name in capitals with a colon, its lines, and an empty line.
        for speech in text.trim_end().split("\n\n") {
            let (name, words) = speech.split_once(":\n").unwrap_or_else(|| panic!("no name: {speech:?}"));
            assert!(!name.is_empty() && !name.chars().any(|c| c.is_lowercase() || c == '\n'), "{name}");
            assert!(!words.is_empty());
        }
    }

    #[test]
    fn windows_lie_side_by_side_for_a_test_and_anywhere_in_training() {
        let text: String = ('a'..='z').cycle().take(101).collect();
        let set = Text::new(&text, Arc::new(Tokenizer::characters(&text)), 10).unwrap();
        assert_eq!((set.len(), set.example().classes), (10, Some(26)));
        let batch = set.batch(&[0, 9], None).unwrap();
        let row = |start: i64| (start..start + 10).map(|n| n % 26).collect::<Vec<_>>();
        assert_eq!(batch.input().to_vec::<i64>(), [row(0), row(90)].concat());
        assert_eq!(batch.target().to_vec::<i64>(), [row(1), row(91)].concat());

        let mut seen = std::collections::BTreeSet::new();
        for epoch in 0..200 {
            let draw = Some(Draw { seed: 3, epoch });
            let batch = set.batch(&[4, 2], draw).unwrap();
            let (inputs, targets) = (batch.input().to_vec::<i64>(), batch.target().to_vec::<i64>());
            assert!((0..20).all(|at| (inputs[at] + 1) % 26 == targets[at]));
            assert_eq!(set.batch(&[2], draw).unwrap().input().to_vec::<i64>(), inputs[10..]);
            seen.extend([set.start(4, draw), set.start(2, draw)]);
        }
        assert!(seen.len() > 80 && seen.first() < Some(&3) && seen.last() > Some(&87), "{seen:?}");
        assert!(seen.last() <= Some(&90));
    }

    #[test]
    fn the_split_keeps_the_order() {
        let (train, validation) = Text::split("äbcdefghij", &Tokens::Characters, 1, 0.3).unwrap();
        assert_eq!(train.tokenizer().decode(train.tokens()), "äbcdefg");
        assert_eq!(validation.tokenizer().decode(validation.tokens()), "hij");
        let error =
            |context, fraction| Text::split("abcdefghij", &Tokens::Bytes, context, fraction).unwrap_err().to_string();
        assert!(error(3, 0.3).contains("a text of 3 tokens has windows of 1 to 2"));
        assert!(error(0, 0.3).contains("context = 0"));
        assert!(error(1, 0.0).contains("between 0 and 1"));
    }
}
