//! Working memory that outlives a kernel call, one stack of blocks a thread, so that steady-state calls allocate nothing.
//!
//! A block is taken from the stack while it is used: a kernel within a tile of another cannot meet the same block twice.

use crate::buffer::Buffer;
use crate::element::{Plain, typed_mut};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

thread_local! {
    /// The last is the outermost: blocks go back in the order opposite to that in which they were taken.
    static BLOCKS: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

fn block(bytes: usize) -> Buffer {
    Buffer::zeroed(bytes.next_power_of_two())
}

/// Runs `f` with `count` elements of unspecified content, 64-byte aligned.
pub(crate) fn with<T: Plain, R>(count: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let bytes = count * size_of::<T>();
    let mut room = BLOCKS.with_borrow_mut(|blocks| blocks.pop()).unwrap_or_else(|| Buffer::zeroed(0));
    if room.len_bytes() < bytes {
        room = block(bytes);
    }
    let result = f(typed_mut(&mut room.bytes_mut()[..bytes]));
    BLOCKS.with_borrow_mut(|blocks| blocks.push(room));
    result
}

/// Bytes of this thread's blocks, the outermost first.
pub(crate) fn sizes() -> Vec<usize> {
    BLOCKS.with_borrow(|blocks| blocks.iter().rev().map(Buffer::len_bytes).collect())
}

/// Makes this thread's blocks at least as large.
pub(crate) fn reserve(sizes: &[usize]) {
    BLOCKS.with_borrow_mut(|blocks| {
        let missing = sizes.len().saturating_sub(blocks.len());
        blocks.splice(0..0, (0..missing).map(|_| Buffer::zeroed(0)));
        for (room, &bytes) in blocks.iter_mut().rev().zip(sizes) {
            if room.len_bytes() < bytes {
                *room = block(bytes);
            }
        }
    });
}

/// What lists are kept of; [`listed`] makes it so.
pub(crate) trait Listed: Sized + 'static {
    fn kept() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>>;
}

macro_rules! listed {
    ($type:ty) => {
        impl $crate::scratch::Listed for $type {
            fn kept() -> &'static std::thread::LocalKey<std::cell::RefCell<Vec<Vec<$type>>>> {
                thread_local! {
                    static LISTS: std::cell::RefCell<Vec<Vec<$type>>> = const { std::cell::RefCell::new(Vec::new()) };
                }
                &LISTS
            }
        }
    };
}
pub(crate) use listed;
listed!(usize);

/// An empty list, whose memory is kept when it is dropped.
pub(crate) fn list<T: Listed>() -> List<T> {
    List(T::kept().with_borrow_mut(|lists| lists.pop()).unwrap_or_default())
}

pub(crate) struct List<T: Listed = usize>(Vec<T>);

impl<T: Listed> Drop for List<T> {
    fn drop(&mut self) {
        self.0.clear();
        T::kept().with_borrow_mut(|lists| lists.push(std::mem::take(&mut self.0)));
    }
}

impl<T: Listed> Deref for List<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Listed> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}
