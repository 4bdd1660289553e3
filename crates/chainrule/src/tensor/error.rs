//! What is wrong with shapes or dtypes, in one sentence.

/// An operation was given operands that do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeError {
    /// The operation, as its method is called.
    pub operation: &'static str,
    /// The rule that is broken, with the shapes, and what would be right.
    pub message: String,
}

impl ShapeError {
    pub(crate) fn new(operation: &'static str, message: impl Into<String>) -> ShapeError {
        ShapeError { operation, message: message.into() }
    }
}

impl std::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)
    }
}

impl std::error::Error for ShapeError {}
