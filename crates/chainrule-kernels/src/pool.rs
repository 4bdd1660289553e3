//! The thread pool: runs numbered tiles, in any order, on some threads.
//!
//! The pool never decides how work is cut: callers pass a number of tiles that follows from shapes alone, so the
//! bits of a result do not depend on the number of threads. With one thread everything runs inline.
//!
//! A step of training hands over work hundreds of times, each a few microseconds long; a thread that falls asleep in
//! between costs more to wake than it would do. So while a program runs ([`Pool::install`]) the other threads stay awake
//! and look for work, and are asleep when none runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A fixed number of threads.
pub struct Pool {
    threads: usize,
    workers: Option<rayon::ThreadPool>,
    /// Whether the workers are kept awake by some program now.
    attended: AtomicBool,
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
        Pool { threads, workers, attended: AtomicBool::new(false) }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `f` on a thread of the pool, the others kept awake meanwhile, so that no kernel in it waits for a thread.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let Some(workers) = &self.workers else { return f() };
        workers.install(|| {
            if self.attended.swap(true, Ordering::Relaxed) {
                return f();
            }
            let over = AtomicBool::new(false);
            let here = rayon::current_thread_index();
            rayon::scope(|scope| {
                scope.spawn_broadcast(|_, thread| {
                    if Some(thread.index()) != here {
                        attend(&over);
                    }
                });
                let _end = End { over: &over, attended: &self.attended };
                f()
            })
        })
    }

    /// Runs `f(0)`, …, `f(tiles - 1)`, each once, and waits for all. A panic in a tile becomes a panic here.
    pub fn parallel_for(&self, tiles: usize, f: impl Fn(usize) + Sync) {
        self.run(tiles, &f)
    }

    /// `parallel_for` compiled once, not once for each kernel.
    fn run(&self, tiles: usize, f: &(dyn Fn(usize) + Sync)) {
        match &self.workers {
            Some(workers) if tiles > 1 => {
                let (next, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let work = || {
                    busy.fetch_add(1, Ordering::Relaxed);
                    let _idle = Idle(&busy);
                    loop {
                        let tile = next.fetch_add(1, Ordering::Relaxed);
                        if tile >= tiles {
                            break;
                        }
                        f(tile);
                    }
                };
                let first = || {
                    work();
                    // The others are in their last tile: waiting for them awake costs less than being woken.
                    let mut spins = 0;
                    while busy.load(Ordering::Relaxed) > 0 && spins < SPINS {
                        std::hint::spin_loop();
                        spins += 1;
                    }
                };
                workers.install(|| fork(self.threads.min(tiles), &first, &work));
            }
            _ => (0..tiles).for_each(f),
        }
    }
}

/// Runs `first` here and `work` `copies - 1` times, at once where threads are free.
fn fork(copies: usize, first: &(dyn Fn() + Sync), work: &(dyn Fn() + Sync)) {
    if copies <= 1 {
        first();
    } else {
        rayon::join(|| fork(copies / 2, first, work), || fork(copies - copies / 2, work, work));
    }
}

/// How often a thread looks again before it lets others have the processor: some tens of microseconds.
const SPINS: usize = 1 << 10;

/// Takes work of the pool until a program is over.
fn attend(over: &AtomicBool) {
    let mut idle = 0;
    while !over.load(Ordering::Relaxed) {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = 0,
            _ if idle < SPINS => {
                idle += 1;
                std::hint::spin_loop();
            }
            _ => std::thread::yield_now(),
        }
    }
}

/// Ends the attendance of the workers, when a program panics too.
struct End<'a> {
    over: &'a AtomicBool,
    attended: &'a AtomicBool,
}
impl Drop for End<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.attended.store(false, Ordering::Relaxed);
    }
}

/// Counts a thread out of those at work, when a tile panics too.
struct Idle<'a>(&'a AtomicUsize);
impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

    /// The same elements as another type.
    ///
    /// # Safety
    /// They are valid as that type.
    pub(crate) unsafe fn cast<U>(self) -> Shared<U> {
        Shared(self.0.cast())
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
