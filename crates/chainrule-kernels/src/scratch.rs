//! Working memory that outlives a kernel call, one stack of blocks a thread, so that steady-state calls allocate nothing.
//!
//! A block is taken from the stack while it is used: a thread that waits inside one kernel and helps with another
//! cannot meet the same block twice.

use crate::buffer::Buffer;
use crate::element::{Plain, typed_mut};
use std::cell::RefCell;

thread_local! {
    static BLOCKS: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with `count` elements of unspecified content, 64-byte aligned.
pub(crate) fn with<T: Plain, R>(count: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let bytes = count * size_of::<T>();
    let mut block = BLOCKS.with_borrow_mut(|blocks| blocks.pop()).unwrap_or_else(|| Buffer::zeroed(0));
    if block.len_bytes() < bytes {
        block = Buffer::zeroed(bytes.next_power_of_two());
    }
    let result = f(typed_mut(&mut block.bytes_mut()[..bytes]));
    BLOCKS.with_borrow_mut(|blocks| blocks.push(block));
    result
}
