//! Text to tokens and back: by character, by byte, by byte pairs learned here, or as a Hugging Face `tokenizer.json`
//! says (the last two by the crate `tokenizers`).
//!
//! A tokenizer is kept beside a model as JSON, so that its text can be read again. This room refuses to guess: a
//! character that is not in the vocabulary is an error, not a blank.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::DataError;

/// How a text becomes tokens, as a settings file says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// One token a character; the vocabulary is the characters of the text, sorted.
    #[default]
    Characters,
    /// One token a byte of UTF-8; 256 of them.
    Bytes,
    /// Byte pairs learned from the training part: so many tokens, more than 256 (Sennrich, Haddow and Birch, "Neural
    /// machine translation of rare words with subword units", 2016; on bytes as GPT-2 does).
    BytePair(usize),
    /// A Hugging Face `tokenizer.json`.
    File(PathBuf),
}

/// Text to tokens and back.
///
/// ```
/// use chainrule_train::data::Tokenizer;
/// let letters = Tokenizer::characters("to be or not to be");
/// assert_eq!((letters.len(), letters.encode("bet")?), (7, vec![1, 2, 6]));
/// assert_eq!(letters.decode(&[6, 4]), "to");
/// assert!(letters.encode("bat").unwrap_err().to_string().contains("'a'"));
/// # Ok::<(), chainrule_train::data::DataError>(())
/// ```
#[derive(Clone)]
pub struct Tokenizer(Kind);

#[derive(Clone)]
enum Kind {
    /// Sorted: the place of a character is its token.
    Characters(Vec<char>),
    Bytes,
    Learned(Box<tokenizers::Tokenizer>),
}

impl Tokenizer {
    /// The tokenizer that settings ask for; what it learns, it learns from `text` and, where only a part may be seen,
    /// from the first `seen` bytes of it.
    ///
    /// # Errors
    /// If the file cannot be used or the number of byte pairs is too small.
    pub fn of(tokens: &Tokens, text: &str, seen: usize) -> Result<Tokenizer, DataError> {
        match tokens {
            Tokens::Characters => Ok(Tokenizer::characters(text)),
            Tokens::Bytes => Ok(Tokenizer::bytes()),
            Tokens::BytePair(vocabulary) => Tokenizer::byte_pair(&text[..text.floor_char_boundary(seen)], *vocabulary),
            Tokens::File(path) => Tokenizer::read(path),
        }
    }

    /// One token for each of the text's characters.
    pub fn characters(text: &str) -> Tokenizer {
        let mut all: Vec<char> = text.chars().collect();
        all.sort_unstable();
        all.dedup();
        Tokenizer(Kind::Characters(all))
    }

    /// One token for each byte of UTF-8.
    pub fn bytes() -> Tokenizer {
        Tokenizer(Kind::Bytes)
    }

    /// Byte pairs learned from a text, on bytes and within words as GPT-2 cuts them.
    ///
    /// # Errors
    /// If `vocabulary` is not above 256, the bytes themselves.
    pub fn byte_pair(text: &str, vocabulary: usize) -> Result<Tokenizer, DataError> {
        if vocabulary <= 256 {
            return Err(DataError::Setting(format!(
                "byte_pair = {vocabulary}: 256 tokens are the bytes themselves; say how many there should be in all, as in 1000"
            )));
        }
        let level = ByteLevel::new(false, false, true);
        let mut learned = tokenizers::Tokenizer::new(BPE::default());
        learned.with_pre_tokenizer(Some(level));
        learned.with_decoder(Some(level));
        // Sorted, so that a byte has the same token in every training.
        let mut trainer = BpeTrainerBuilder::new()
            .vocab_size(vocabulary)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        learned
            .train::<tokenizers::models::TrainerWrapper, _, _>(&mut trainer, text.split_inclusive('\n'))
            .map_err(|error| damaged("byte pairs", error))?;
        Ok(Tokenizer(Kind::Learned(Box::new(learned))))
    }

    /// A Hugging Face `tokenizer.json`, or what [`Tokenizer::to_json`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read or is neither.
    pub fn read(path: &Path) -> Result<Tokenizer, DataError> {
        let bytes = std::fs::read(path).map_err(|error| DataError::io(path, error))?;
        Tokenizer::from_json(&bytes).map_err(|source| DataError::in_file(path, source))
    }

    /// The same from the bytes of a file.
    ///
    /// # Errors
    /// If they are neither.
    pub fn from_json(bytes: &[u8]) -> Result<Tokenizer, DataError> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| damaged("tokenizer", error))?;
        if value == json!("bytes") {
            return Ok(Tokenizer::bytes());
        }
        if let Some(Value::String(characters)) = value.get("characters") {
            return Ok(Tokenizer::characters(characters));
        }
        let learned = tokenizers::Tokenizer::from_bytes(bytes);
        Ok(Tokenizer(Kind::Learned(Box::new(learned.map_err(|error| damaged("Hugging Face tokenizer", error))?))))
    }

    /// As JSON, to be kept beside a model: Hugging Face's form for what was learned.
    pub fn to_json(&self) -> String {
        match &self.0 {
            Kind::Characters(all) => json!({ "characters": all.iter().collect::<String>() }).to_string(),
            Kind::Bytes => json!("bytes").to_string(),
            Kind::Learned(learned) => learned.to_string(false).expect("a tokenizer that was read can be written"),
        }
    }

    /// How many different tokens there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Characters(all) => all.len(),
            Kind::Bytes => 256,
            Kind::Learned(learned) => learned.get_vocab_size(true),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tokens of a text; none are added at its begin or end.
    ///
    /// # Errors
    /// If a character has no token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match &self.0 {
            Kind::Characters(all) => {
                let token = |(at, letter): (usize, char)| match all.binary_search(&letter) {
                    Ok(token) => Ok(token as u32),
                    Err(_) => Err(DataError::Unexpected {
                        what: format!("character at byte {at}"),
                        expected: format!("one of the {} of the vocabulary", all.len()),
                        found: format!("{letter:?}"),
                    }),
                };
                text.char_indices().map(token).collect()
            }
            Kind::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Kind::Learned(learned) => match learned.encode_fast(text, false) {
                Ok(encoding) => Ok(encoding.get_ids().to_vec()),
                Err(error) => Err(damaged("text", error)),
            },
        }
    }

    /// The text of tokens; what is no token or no UTF-8 becomes U+FFFD, as the middle of a character does.
    pub fn decode(&self, tokens: &[u32]) -> String {
        match &self.0 {
            Kind::Characters(all) => {
                let letter = |&token: &u32| all.get(token as usize).copied().unwrap_or(char::REPLACEMENT_CHARACTER);
                tokens.iter().map(letter).collect()
            }
            Kind::Bytes => {
                let bytes: Vec<u8> = tokens.iter().map(|&token| u8::try_from(token).unwrap_or(0xff)).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Kind::Learned(learned) => {
                learned.decode(tokens, false).unwrap_or_else(|_| char::REPLACEMENT_CHARACTER.into())
            }
        }
    }
}

fn damaged(what: &str, error: impl fmt::Display) -> DataError {
    DataError::Damaged { what: what.into(), problem: error.to_string() }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Characters(_) => "characters",
            Kind::Bytes => "bytes",
            Kind::Learned(_) => "learned",
        };
        write!(f, "Tokenizer({kind}, {} tokens)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "the cat sat on the mat, the rat ate the hat; \nthat is what the cat did.\n";

    fn all() -> [Tokenizer; 3] {
        [Tokenizer::characters(TEXT), Tokenizer::bytes(), Tokenizer::byte_pair(TEXT, 270).unwrap()]
    }

    #[test]
    fn each_comes_back_and_back_from_json() {
        for (tokenizer, tokens) in all().into_iter().zip([18, 256, 270]) {
            assert_eq!(tokenizer.len(), tokens, "{tokenizer:?}");
            let encoded = tokenizer.encode(TEXT).unwrap();
            assert!(encoded.iter().all(|&token| (token as usize) < tokens));
            assert_eq!(tokenizer.decode(&encoded), TEXT, "{tokenizer:?}");
            let again = Tokenizer::from_json(tokenizer.to_json().as_bytes()).unwrap();
            assert_eq!((again.len(), again.encode(TEXT).unwrap()), (tokens, encoded), "{tokenizer:?}");
        }
    }

    #[test]
    fn pairs_shorten_and_are_the_same_each_time() {
        let [_, bytes, pairs] = all();
        assert!(pairs.encode(TEXT).unwrap().len() * 4 < bytes.encode(TEXT).unwrap().len() * 3);
        for _ in 0..3 {
            assert_eq!(Tokenizer::byte_pair(TEXT, 270).unwrap().encode(TEXT).unwrap(), pairs.encode(TEXT).unwrap());
        }
        assert_eq!(pairs.decode(&pairs.encode("Größe ☃").unwrap()), "Größe ☃");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rows = [
            (Tokenizer::byte_pair(TEXT, 256).map(drop), "256 tokens are the bytes themselves"),
            (Tokenizer::from_json(b"{").map(drop), "tokenizer: EOF"),
            (Tokenizer::from_json(b"{}").map(drop), "Hugging Face tokenizer: "),
            (Tokenizer::read(Path::new("no/such.json")).map(drop), "no/such.json: "),
            (
                Tokenizer::characters("ab").encode("abc").map(drop),
                "character at byte 2: expected one of the 2 of the vocabulary, found 'c'",
            ),
        ];
        for (result, expected) in rows {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(expected), "{message}\n  lacks: {expected}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text: String, tokens: Vec<u32>, json: Vec<u8>) {
            for tokenizer in all() {
                if let Ok(encoded) = tokenizer.encode(&text) {
                    prop_assert_eq!(tokenizer.decode(&encoded), text.clone());
                }
                tokenizer.decode(&tokens);
            }
            let _ = Tokenizer::from_json(&json);
        }
    }
}
