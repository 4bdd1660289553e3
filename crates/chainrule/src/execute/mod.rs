//! Running plans: hands each step its slices and calls its kernel. Knows no calculus and chooses nothing.

mod compile;
mod eval;
mod lists;
mod machine;
mod profile;

pub use chainrule_kernels::counting;
pub use compile::{Compiled, compile};
pub use eval::eval_all;
pub use machine::ExecuteError;
pub use profile::{Profile, StepTime};

use chainrule_kernels::pool::Pool;
use std::sync::{Arc, Mutex, OnceLock};

/// The threads that run kernels: one pool for the process for each number asked for, made at first use.
///
/// The bits of a result do not depend on the number. Without one it is the environment's `CHAINRULE_THREADS`, or the
/// number of processors.
pub(crate) fn pool(threads: Option<usize>) -> Arc<Pool> {
    static POOLS: OnceLock<Mutex<Vec<Arc<Pool>>>> = OnceLock::new();
    let asked = || std::env::var("CHAINRULE_THREADS").ok().and_then(|text| text.parse().ok());
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.or_else(asked).unwrap_or_else(processors).max(1);
    let mut pools = POOLS.get_or_init(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(pool) = pools.iter().find(|pool| pool.threads() == threads) {
        return pool.clone();
    }
    let pool = Arc::new(Pool::new(threads));
    pools.push(pool.clone());
    pool
}
