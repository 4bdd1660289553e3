//! Embedding: a learned vector for every integer.

use crate::init;
use chainrule::tensor::{DType, Key, Tensor};
use chainrule::tree::Tree;

/// The rows of a table that integers `[..]` name, `[.., d]`. An integer outside the table is an error when it runs.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let words = Embedding::new(&Key::new(1), 10, 4).padding(0);
/// let vectors = words.forward(&Tensor::from([[3i64, 7, 0]]));
/// assert_eq!(vectors.shape(), [1, 3, 4]);
/// assert_eq!(vectors.at((0, 2)).to_vec::<f32>(), [0.0; 4]);
/// ```
#[derive(Tree, Clone, Debug)]
pub struct Embedding {
    /// `[n, d]`.
    pub weight: Tensor,
    /// The integer that stands for nothing: its row starts as zeros and learns nothing.
    #[tree(skip)]
    pub padding: Option<usize>,
}

impl Embedding {
    /// PyTorch's first values: N(0, 1). In f32.
    #[track_caller]
    pub fn new(key: &Key, count: usize, size: usize) -> Embedding {
        Embedding { weight: init::normal(key, [count, size], 1.0, DType::F32), padding: None }
    }

    /// With an integer that stands for nothing.
    ///
    /// # Panics
    /// If the table has no such row.
    #[track_caller]
    pub fn padding(self, index: usize) -> Embedding {
        let count = self.weight.size(0);
        assert!(index < count, "Embedding: padding {index} of a table of {count} rows");
        let row = Tensor::arange(count, DType::I64).equal(index).unsqueeze(-1);
        Embedding { weight: row.select(&self.weight.zeros_like(), &self.weight), padding: Some(index) }
    }

    /// The vectors, `[.., d]`.
    #[track_caller]
    pub fn forward(&self, index: &Tensor) -> Tensor {
        let rows = self.weight.gather(index, 0);
        match self.padding {
            Some(padding) => index.equal(padding).unsqueeze(-1).select(&rows.stop_gradient(), &rows),
            None => rows,
        }
    }
}
