//! Where a node comes from: the user's line, and which transform made it out of which operation.
//!
//! A derivative node carries the line of the operation it derives. Rules call ordinary tensor methods, so the
//! line is set for the time a rule runs, and every node built meanwhile takes it.

use std::cell::Cell;
use std::panic::Location;

/// The source line that built a node, and how it was derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The user's line.
    pub location: &'static Location<'static>,
    /// The transform that made this node, if it was not the user.
    pub derivation: Option<(Derivation, &'static str)>,
}

/// How a node came out of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Derivation {
    /// A tangent, or a factor of one.
    Derivative,
    /// A cotangent.
    Transpose,
    /// The same operation on a batch.
    Batch,
}

thread_local! {
    static CURRENT: Cell<Option<Origin>> = const { Cell::new(None) };
}

impl Origin {
    /// The caller's line, or that of the operation whose rule is being applied.
    #[track_caller]
    pub(crate) fn here() -> Origin {
        CURRENT.get().unwrap_or(Origin { location: Location::caller(), derivation: None })
    }

    /// Gives every node that `build` makes this origin, or that of an enclosing call.
    pub(crate) fn scope<T>(self, build: impl FnOnce() -> T) -> T {
        struct Restore(Option<Origin>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self)));
        build()
    }

    /// This origin, marked as derived from an operation.
    pub(crate) fn derived(self, derivation: Derivation, op: &'static str) -> Origin {
        Origin { derivation: Some((derivation, op)), ..self }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.location.file();
        let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
        write!(f, "{name}:{}", self.location.line())?;
        match self.derivation {
            Some((Derivation::Derivative, op)) => write!(f, " (derivative of {op})"),
            Some((Derivation::Transpose, op)) => write!(f, " (transpose of {op})"),
            Some((Derivation::Batch, op)) => write!(f, " (batch of {op})"),
            None => Ok(()),
        }
    }
}
