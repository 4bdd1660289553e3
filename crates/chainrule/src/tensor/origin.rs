//! Where a node comes from: the user's line, and which transform made it out of which operation.
//!
//! A derivative node carries the line of the operation it derives. Rules call ordinary tensor methods, so the
//! line is set for the time a rule runs, and every node built meanwhile takes it. A program that is built from a text
//! (a model file) has its lines there: [`Written`].

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::Location;
use std::sync::Mutex;

/// A line of a text from which a program is built, such as a layer of a model file.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Written {
    /// The text's name.
    pub file: Box<str>,
    /// The line in it, from 1.
    pub line: u32,
    /// What stands there, in a word.
    pub what: Box<str>,
}

impl Written {
    /// The line. It is kept for as long as the process lives, once however often it is asked for, so that a node holds it
    /// as it holds a line of Rust.
    pub fn at(file: &str, line: u32, what: &str) -> &'static Written {
        static KNOWN: Mutex<Option<HashSet<&'static Written>>> = Mutex::new(None);
        let written = Written { file: file.into(), line, what: what.into() };
        let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = known.get_or_insert_default();
        match known.get(&written) {
            Some(known) => known,
            None => {
                let kept: &'static Written = Box::leak(Box::new(written));
                known.insert(kept);
                kept
            }
        }
    }

    /// Gives every node that `build` makes this line, unless a line within it says more.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule::tensor::Written;
    /// let x = Tensor::from([1.0f32, 2.0]);
    /// let y = Written::at("model.toml", 12, "tanh").scope(|| x.tanh());
    /// assert_eq!(y.node().origin().to_string(), "model.toml:12 tanh");
    /// ```
    pub fn scope<T>(&'static self, build: impl FnOnce() -> T) -> T {
        struct Restore(Option<&'static Written>);
        impl Drop for Restore {
            fn drop(&mut self) {
                WRITTEN.set(self.0);
            }
        }
        let _restore = Restore(WRITTEN.replace(Some(self)));
        build()
    }
}

/// The source line that built a node, and how it was derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The user's line.
    pub location: &'static Location<'static>,
    /// The line of the text that the program is built from, if there is one; `location` is then within the layer.
    pub written: Option<&'static Written>,
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
    static WRITTEN: Cell<Option<&'static Written>> = const { Cell::new(None) };
}

impl Origin {
    /// The caller's line, or that of the operation whose rule is being applied.
    #[track_caller]
    pub(crate) fn here() -> Origin {
        let caller = Location::caller();
        CURRENT.get().unwrap_or_else(|| Origin { location: caller, written: WRITTEN.get(), derivation: None })
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
        let (file, line) = match self.written {
            Some(written) => (&*written.file, written.line),
            None => (self.location.file(), self.location.line()),
        };
        let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
        write!(f, "{name}:{line}")?;
        if let Some(written) = self.written {
            write!(f, " {}", written.what)?;
        }
        match self.derivation {
            Some((Derivation::Derivative, op)) => write!(f, " (derivative of {op})"),
            Some((Derivation::Transpose, op)) => write!(f, " (transpose of {op})"),
            Some((Derivation::Batch, op)) => write!(f, " (batch of {op})"),
            None => Ok(()),
        }
    }
}
