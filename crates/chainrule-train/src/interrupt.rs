//! Ctrl-C as a flag: the first one asks for an end, the second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a program that a second Ctrl-C ends.
const INTERRUPTED: i32 = 130;

/// A flag that Ctrl-C (and a polite request to end) sets; `last` is called before a second one ends the process. To be
/// called once in a process, by its `main`.
///
/// # Errors
/// If the system does not let a signal be handled, or somebody already does.
pub fn on_interrupt(last: impl Fn() + Send + 'static) -> std::io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = flag.clone();
    let handler = move || {
        if shared.swap(true, Ordering::Relaxed) {
            last();
            std::process::exit(INTERRUPTED);
        }
    };
    match ctrlc::set_handler(handler) {
        Ok(()) => Ok(flag),
        Err(ctrlc::Error::System(error)) => Err(error),
        Err(error) => Err(std::io::Error::other(error)),
    }
}
