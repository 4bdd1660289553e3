//! The thread pool: runs numbered tiles, in any order, on some threads.
//!
//! The pool never decides how work is cut: callers pass a number of tiles that follows from shapes alone, so the
//! bits of a result do not depend on the number of threads. With one thread everything runs inline.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A fixed number of threads.
pub struct Pool {
    threads: usize,
    workers: Option<rayon::ThreadPool>,
}

impl Pool {
    /// A pool of `threads` threads, at least one. One thread means: inline, in the calling thread.
    pub fn new(threads: usize) -> Pool {
        let threads = threads.max(1);
        let workers = (threads > 1).then(|| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|i| format!("chainrule-{i}"))
                .build()
                .expect("the operating system refused to start threads")
        });
        Pool { threads, workers }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` on a thread of the pool, so that many kernel calls in it share one hand-over between threads.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.workers {
            Some(workers) => workers.install(f),
            None => f(),
        }
    }

    /// Runs `f(0)`, …, `f(tiles - 1)`, each once, and waits for all. A panic in a tile becomes a panic here.
    pub fn parallel_for(&self, tiles: usize, f: impl Fn(usize) + Sync) {
        self.run(tiles, &f)
    }

    /// `parallel_for` compiled once, not once for each kernel.
    fn run(&self, tiles: usize, f: &(dyn Fn(usize) + Sync)) {
        match &self.workers {
            Some(workers) if tiles > 1 => {
                let next = AtomicUsize::new(0);
                let work = || {
                    loop {
                        let tile = next.fetch_add(1, Ordering::Relaxed);
                        if tile >= tiles {
                            break;
                        }
                        f(tile);
                    }
                };
                workers.install(|| fork(self.threads.min(tiles), &work));
            }
            _ => (0..tiles).for_each(f),
        }
    }
}

/// Runs `work` `copies` times, at once where threads are free.
fn fork(copies: usize, work: &(dyn Fn() + Sync)) {
    if copies <= 1 {
        work();
    } else {
        rayon::join(|| fork(copies / 2, work), || fork(copies - copies / 2, work));
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads)
    }
}

/// A pointer that tiles may share; each tile must keep to its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);
// SAFETY: whoever dereferences promises, at the unsafe block that does, that tiles touch disjoint elements.
unsafe impl<T: Send> Send for Shared<T> {}
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Shared<T> {
        Shared(slice.as_mut_ptr())
    }

    /// # Safety
    /// `start..start + len` lies in the slice, and no other tile touches it while the result lives.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice<'a>(&self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }

    pub(crate) fn pointer(&self) -> *mut T {
        self.0
    }
}

/// Cuts `0..total` into tiles of `size` (at least one element), the last maybe shorter, and runs them.
pub(crate) fn in_tiles(pool: &Pool, total: usize, size: usize, f: impl Fn(usize, usize) + Sync) {
    let size = size.max(1);
    pool.parallel_for(total.div_ceil(size), |tile| {
        let start = tile * size;
        f(start, size.min(total - start));
    });
}

/// Like `in_tiles`, each tile with its part of `out`, which holds `width` elements for each of `total` items.
pub(crate) fn fill_tiles<T: Send>(
    pool: &Pool,
    out: &mut [T],
    width: usize,
    size: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    let total = out.len().checked_div(width).unwrap_or(0);
    let shared = Shared::new(out);
    in_tiles(pool, total, size, |start, len| {
        // SAFETY: tiles are disjoint and lie in `out`.
        f(start, unsafe { shared.slice(start * width, len * width) })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tile_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            let mut counts = vec![0usize; 1000];
            fill_tiles(&pool, &mut counts, 2, 7, |start, out| {
                out.iter_mut().enumerate().for_each(|(i, x)| *x += start * 2 + i);
            });
            assert!(counts.iter().enumerate().all(|(i, &x)| i == x));
            pool.parallel_for(0, |_| unreachable!());
        }
    }

    #[test]
    #[should_panic]
    fn a_panic_comes_back() {
        Pool::new(2).parallel_for(9, |tile| assert!(tile != 5));
    }
}
