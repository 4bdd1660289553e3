//! The thread pool: runs numbered tiles, in any order, on some threads.
//!
//! The pool never decides how work is cut: callers pass a number of tiles that follows from shapes alone, so the
//! bits of a result do not depend on the number of threads. With one thread everything runs inline.
//!
//! A step of training hands over work hundreds of times, each a few microseconds long; a thread that falls asleep in
//! between costs more to wake than it would do. So while a program runs ([`Pool::install`]) the other threads stay awake
//! and look for work, and fall asleep soon after. There is one piece of work at a time, and handing it over is three
//! writes: nothing is allocated or locked. Who finds the others busy (a kernel inside a tile, another program at the same
//! time) does its tiles itself.

use crate::scratch;
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A fixed number of threads: the caller's, and helpers that wait for work.
pub struct Pool {
    helpers: Vec<JoinHandle<()>>,
    gate: Arc<Gate>,
}

impl Pool {
    /// A pool of `threads` threads, at least one. One thread means: inline, in the calling thread.
    pub fn new(threads: usize) -> Pool {
        let gate = Arc::new(Gate::default());
        let helper = |i: usize| {
            let gate = gate.clone();
            let thread = std::thread::Builder::new().name(format!("chainrule-{i}"));
            thread.spawn(move || gate.help()).expect("the operating system refused to start threads")
        };
        Pool { helpers: (1..threads).map(helper).collect(), gate: gate.clone() }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs `f` with the other threads kept awake, so that no kernel in it waits for a thread.
    pub fn install<R>(&self, f: impl FnOnce() -> R) -> R {
        let _program = (!self.helpers.is_empty()).then(|| self.gate.begin());
        f()
    }

    /// Gives every thread working memory as large as this one's, so that none need ask for any in a run like the last.
    pub fn level(&self) {
        if self.helpers.is_empty() || self.gate.led.swap(true, Ordering::Acquire) {
            return;
        }
        let (sizes, met) = (scratch::sizes(), AtomicUsize::new(0));
        let everyone = |_| {
            scratch::reserve(&sizes);
            met.fetch_add(1, Ordering::Relaxed);
            // Nobody takes a second tile before all have taken one.
            while met.load(Ordering::Relaxed) < self.threads() {
                std::thread::yield_now();
            }
        };
        self.install(|| self.gate.lead(self.threads(), &everyone));
    }

    /// Runs `f(0)`, …, `f(tiles - 1)`, each once, and waits for all. A panic in a tile becomes a panic here.
    pub fn parallel_for(&self, tiles: usize, f: impl Fn(usize) + Sync) {
        self.run(tiles, &f)
    }

    /// `parallel_for` compiled once, not once for each kernel.
    fn run(&self, tiles: usize, f: &(dyn Fn(usize) + Sync)) {
        let alone = tiles < 2 || self.helpers.is_empty() || self.gate.led.swap(true, Ordering::Acquire);
        match alone {
            true => (0..tiles).for_each(f),
            false => self.install(|| self.gate.lead(tiles, f)),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.gate.over.store(true, Ordering::SeqCst);
        self.gate.wake();
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of tiles and has none of its own.
            let _ = helper.join();
        }
    }
}

/// How often a thread looks again before it lets others have the processor: some tens of microseconds.
const SPINS: usize = 1 << 10;

/// Where threads meet: the work of the moment, and who is at it.
#[derive(Default)]
struct Gate {
    /// Whether a thread leads some work now.
    led: AtomicBool,
    /// Tiles that nobody has begun; zero or below: none.
    left: Line<AtomicIsize>,
    /// Helpers that may be in a tile.
    inside: Line<AtomicUsize>,
    /// Written by the leader while no helper is inside.
    work: UnsafeCell<Option<Work>>,
    /// What a tile panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Programs that run now.
    programs: AtomicUsize,
    sleepers: AtomicUsize,
    asleep: Mutex<()>,
    waking: Condvar,
    over: AtomicBool,
}

/// A value on a cache line of its own, for many threads write it.
#[derive(Default)]
#[repr(align(64))]
struct Line<T>(T);

#[derive(Clone, Copy)]
struct Work {
    tiles: usize,
    /// Borrowed by the leader, who does not return before no helper is inside.
    tile: *const (dyn Fn(usize) + Sync),
}

// SAFETY: `work` is written by the leader, of whom there is one, while no helper is inside, and read by who has taken a
// tile of it since. The function that it points to may be called by many threads.
unsafe impl Send for Gate {}
unsafe impl Sync for Gate {}

impl Gate {
    /// Hands out tiles, takes part, and waits for all. The caller has set `led`.
    fn lead(&self, tiles: usize, f: &(dyn Fn(usize) + Sync)) {
        let tile: *const (dyn Fn(usize) + Sync + '_) = f;
        // SAFETY: only the lifetime changes; it lasts until this function has waited for all who use it.
        let tile =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(tile) };
        // SAFETY: this thread leads, and nobody is inside since the last leader waited.
        unsafe { *self.work.get() = Some(Work { tiles, tile }) };
        self.left.0.store(tiles as isize - 1, Ordering::Release);
        // The first tile is the leader's, so that its working memory (`scratch.rs`) has met all that runs.
        let own = catch_unwind(AssertUnwindSafe(|| {
            f(0);
            self.take_part();
        }));
        // Reads what the last helper to take a tile wrote, and with it that this helper is inside.
        self.left.0.swap(0, Ordering::AcqRel);
        let mut spins = 0;
        while self.inside.0.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let others = lock(&self.panic).take();
        self.led.store(false, Ordering::Release);
        if let Some(panic) = own.err().or(others) {
            resume_unwind(panic);
        }
    }

    /// Does tiles until none is left.
    fn take_part(&self) {
        loop {
            let left = self.left.0.fetch_sub(1, Ordering::AcqRel);
            if left <= 0 {
                return;
            }
            // SAFETY: a tile was left, so the work was published before, and its leader waits for who is inside.
            let work = unsafe { (*self.work.get()).expect("published with its tiles") };
            // SAFETY: as above.
            unsafe { (*work.tile)(work.tiles - left as usize) };
        }
    }

    /// A helper's life.
    fn help(&self) {
        let mut idle = 0;
        while !self.over.load(Ordering::Relaxed) {
            if self.left.0.load(Ordering::Relaxed) > 0 {
                self.inside.0.fetch_add(1, Ordering::Relaxed);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.take_part())) {
                    self.left.0.swap(0, Ordering::AcqRel);
                    lock(&self.panic).get_or_insert(panic);
                }
                self.inside.0.fetch_sub(1, Ordering::Release);
                idle = 0;
            } else if idle < SPINS {
                idle += 1;
                std::hint::spin_loop();
            } else if self.programs.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            } else {
                self.sleep();
                idle = 0;
            }
        }
    }

    /// Sleeps until a program runs.
    fn sleep(&self) {
        let mut asleep = lock(&self.asleep);
        // Counted before it looks, as a program is counted before it looks for sleepers: one of the two sees the other.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.programs.load(Ordering::SeqCst) == 0 && !self.over.load(Ordering::SeqCst) {
            asleep = self.waking.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.asleep));
            self.waking.notify_all();
        }
    }

    /// Keeps the helpers awake until the result is dropped.
    fn begin(&self) -> Program<'_> {
        if self.programs.fetch_add(1, Ordering::SeqCst) == 0 {
            self.wake();
        }
        Program(self)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Program<'a>(&'a Gate);
impl Drop for Program<'_> {
    fn drop(&mut self) {
        self.0.programs.fetch_sub(1, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
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
    fn a_panic_comes_back() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for tile in [0, 5, 8] {
                let run = || pool.parallel_for(9, |t| assert!(t != tile, "tile {tile}"));
                let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
                assert_eq!(panic.downcast_ref::<String>().unwrap(), &format!("tile {tile}"));
            }
            // It works on.
            let done = AtomicUsize::new(0);
            pool.parallel_for(9, |_| _ = done.fetch_add(1, Ordering::Relaxed));
            assert_eq!(done.into_inner(), 9);
        }
    }

    #[test]
    fn work_within_work_and_beside_it() {
        let pool = Pool::new(3);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.install(|| {
                            pool.parallel_for(5, |_| pool.parallel_for(3, |_| _ = done.fetch_add(1, Ordering::Relaxed)))
                        });
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 4 * 200 * 15);
    }

    #[test]
    fn level_threads_have_the_same_room() {
        let pool = Pool::new(3);
        scratch::with::<u8, _>(5000, |_| scratch::with::<u8, _>(70, |_| ()));
        pool.level();
        let (least, met) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        pool.parallel_for(3, |_| {
            lock(&least).push(scratch::sizes()[..2].to_vec());
            met.fetch_add(1, Ordering::SeqCst);
            while met.load(Ordering::SeqCst) < 3 {
                std::thread::yield_now();
            }
        });
        assert_eq!(*lock(&least), [[8192, 128]; 3]);
    }

    #[test]
    fn helpers_sleep_and_wake() {
        let pool = Pool::new(2);
        for _ in 0..20 {
            let sleeps = || pool.gate.sleepers.load(Ordering::SeqCst) == 1;
            while !sleeps() {
                std::thread::yield_now();
            }
            // Two tiles that wait for each other need two threads.
            let met = AtomicUsize::new(0);
            pool.parallel_for(2, |_| {
                met.fetch_add(1, Ordering::SeqCst);
                while met.load(Ordering::SeqCst) < 2 {
                    std::hint::spin_loop();
                }
            });
        }
    }
}
