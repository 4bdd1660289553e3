//! Whole models whose weights others have trained, from and for Hugging Face's folders.
//!
//! A folder has `config.json`, read by name and type ([`Gpt2Config`], [`BertConfig`]), and safetensors, read by
//! [`crate::interchange`]'s rules. Nothing is fetched here.

mod bert;
mod block;
mod config;
mod generation;
mod gpt2;

pub use bert::{Bert, BertConfig, MaskedWords};
pub use config::ConfigError;
pub use generation::{GenerateError, Sampling};
pub use gpt2::{Gpt2, Gpt2Config};

use crate::interchange::InterchangeError;
use std::path::Path;

/// Why a model could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] InterchangeError),
}

/// A folder, made if it is not there.
fn folder_of(path: &Path) -> Result<&Path, ConfigError> {
    std::fs::create_dir_all(path).map_err(|error| ConfigError::Io { path: path.into(), error })?;
    Ok(path)
}
