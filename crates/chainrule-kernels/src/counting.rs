//! An allocator that counts: how a program that promises to allocate nothing is held to it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, and a count of what it was asked for.
///
/// ```
/// use chainrule_kernels::counting::{Counting, allocations};
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
/// let before = allocations();
/// let _list = Box::new([0u8; 10]);
/// assert_eq!(allocations() - before, 1);
/// ```
pub struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// How often memory was asked for so far, by all threads: blocks that were made or made larger. Zero if [`Counting`] is not
/// the process's allocator.
pub fn allocations() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn count() {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, as below.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(block, layout, bytes) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}
