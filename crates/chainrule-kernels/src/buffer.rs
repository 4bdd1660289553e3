//! Memory: an aligned buffer for one value, and an arena in which a plan places many.
//!
//! Both are plain zero-initialised bytes. They know no shapes, and they give out no two overlapping writable slices.

use crate::alphabet::DType;
use crate::element::{Element, Scalar};
use smallvec::SmallVec;
use std::alloc::{Layout as Allocation, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

/// Alignment of every block: a cache line, and the widest vector register.
pub const ALIGNMENT: usize = 64;

/// Owned, 64-byte aligned, zero-initialised bytes with typed views.
pub struct Buffer {
    memory: NonNull<u8>,
    length: usize,
}

// SAFETY: a Buffer owns its memory and gives it out only through ordinary borrows.
unsafe impl Send for Buffer {}
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `bytes` bytes, all zero.
    pub fn zeroed(bytes: usize) -> Buffer {
        let allocation = Buffer::allocation(bytes);
        // SAFETY: the allocation's size is not zero.
        let memory = unsafe { alloc_zeroed(allocation) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(allocation) };
        Buffer { memory, length: bytes }
    }

    /// A copy of a slice of elements.
    pub fn from_slice<T: Element>(elements: &[T]) -> Buffer {
        let buffer = Buffer::zeroed(size_of_val(elements));
        // SAFETY: elements have no padding, so their bytes are initialised; both sides are as long.
        unsafe {
            std::ptr::copy_nonoverlapping(elements.as_ptr().cast(), buffer.memory.as_ptr(), size_of_val(elements));
        }
        buffer
    }

    /// `count` elements equal to `value`.
    pub fn filled(value: Scalar, count: usize) -> Buffer {
        let size = value.dtype().size();
        let mut buffer = Buffer::zeroed(size * count);
        let bits = value.bits();
        if bits != 0 {
            for element in buffer.bytes_mut().chunks_exact_mut(size) {
                element.copy_from_slice(&bits.to_le_bytes()[..size]);
            }
        }
        buffer
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block is `length` initialised bytes, owned by self.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.length) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block is `length` initialised bytes, owned by self.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.length) }
    }

    /// Length in bytes.
    pub fn len_bytes(&self) -> usize {
        self.length
    }

    /// The elements. Panics if the length is no whole number of them, or if a bool is neither 0 nor 1.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        let count = self.count::<T>();
        // SAFETY: aligned to 64, `count` elements fit, and `count` has checked the only type with invalid bits.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), count) }
    }

    /// The elements, to write. Panics as `as_slice` does.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        let count = self.count::<T>();
        // SAFETY: as in `as_slice`.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().cast(), count) }
    }

    fn count<T: Element>(&self) -> usize {
        let size = size_of::<T>();
        assert!(
            self.length.is_multiple_of(size),
            "a buffer of {} bytes holds no whole number of {} elements",
            self.length,
            T::DTYPE
        );
        if T::DTYPE == DType::Bool {
            assert!(self.bytes().iter().fold(0, |all, b| all | b) <= 1, "a bool byte is neither 0 nor 1");
        }
        self.length / size
    }

    fn allocation(bytes: usize) -> Allocation {
        Allocation::from_size_align(bytes.max(1), ALIGNMENT).expect("a buffer larger than the address space")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same size and alignment.
        unsafe { dealloc(self.memory.as_ptr(), Buffer::allocation(self.length)) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::from_slice(self.bytes())
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.length)
    }
}

/// The ranges of an arena that one kernel call reads and writes, known to be disjoint where they must be.
#[derive(Clone, Debug)]
pub struct Lease {
    reads: SmallVec<[Range<usize>; 4]>,
    writes: SmallVec<[Range<usize>; 2]>,
    /// Bytes that the arena must have.
    end: usize,
}

impl Lease {
    /// Panics unless every write is disjoint from every other range; reads may overlap.
    pub fn new(reads: impl IntoIterator<Item = Range<usize>>, writes: impl IntoIterator<Item = Range<usize>>) -> Lease {
        let reads: SmallVec<[Range<usize>; 4]> = reads.into_iter().collect();
        let writes: SmallVec<[Range<usize>; 2]> = writes.into_iter().collect();
        let apart =
            |a: &Range<usize>, b: &Range<usize>| a.end <= b.start || b.end <= a.start || a.is_empty() || b.is_empty();
        for (i, write) in writes.iter().enumerate() {
            for other in writes[i + 1..].iter().chain(&reads) {
                assert!(apart(write, other), "the written range {write:?} overlaps {other:?}");
            }
        }
        for range in reads.iter().chain(&writes) {
            assert!(range.start <= range.end, "{range:?} ends before it starts");
        }
        let end = reads.iter().chain(&writes).map(|range| range.end).max().unwrap_or(0);
        Lease { reads, writes, end }
    }
}

/// The slices of a lease.
pub struct Lent<'a> {
    base: NonNull<u8>,
    lease: &'a Lease,
    written: usize,
    arena: PhantomData<&'a mut [u8]>,
}

impl<'a> Lent<'a> {
    /// The range read `i`-th.
    pub fn read(&self, i: usize) -> &'a [u8] {
        let range = &self.lease.reads[i];
        // SAFETY: the range lies in the arena, which stays borrowed, and no written range touches it.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(range.start), range.len()) }
    }

    /// The next range to write; each is given once.
    pub fn write(&mut self) -> &'a mut [u8] {
        let range = &self.lease.writes[self.written];
        self.written += 1;
        // SAFETY: the range lies in the arena, which stays borrowed; no other range touches it, and it is given once.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(range.start), range.len()) }
    }
}

/// One block of memory in which a plan places its values.
#[derive(Clone, Debug)]
pub struct Arena {
    block: Buffer,
}

impl Arena {
    /// An arena of `bytes` zero bytes.
    pub fn new(bytes: usize) -> Arena {
        Arena { block: Buffer::zeroed(bytes) }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.block.length
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.block.length == 0
    }

    /// One range, to read.
    pub fn read(&self, range: Range<usize>) -> &[u8] {
        &self.block.bytes()[range]
    }

    /// One range, to write.
    pub fn write(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.block.bytes_mut()[range]
    }

    /// The slices of one kernel call. Panics if the arena is too short.
    pub fn lend<'a>(&'a mut self, lease: &'a Lease) -> Lent<'a> {
        let length = self.len();
        assert!(lease.end <= length, "a lease to byte {} lies outside an arena of {length}", lease.end);
        Lent { base: self.block.memory, lease, written: 0, arena: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_holds_what_it_was_given() {
        let mut buffer = Buffer::from_slice(&[1.0f32, -2.0]);
        assert_eq!(buffer.as_slice::<f32>(), [1.0, -2.0]);
        buffer.as_mut_slice::<f32>()[1] = 3.0;
        assert_eq!(buffer.clone().as_slice::<f32>(), [1.0, 3.0]);
        assert_eq!(buffer.bytes().as_ptr().addr() % ALIGNMENT, 0);
        assert_eq!(format!("{buffer:?}"), "Buffer(8 bytes)");
        assert_eq!(Buffer::zeroed(0).as_slice::<f64>(), []);
        assert_eq!(Buffer::filled(Scalar::I32(-7), 3).as_slice::<i32>(), [-7; 3]);
    }

    #[test]
    #[should_panic(expected = "neither 0 nor 1")]
    fn a_false_bool_is_refused() {
        Buffer::from_slice(&[2u8]).as_slice::<bool>();
    }

    #[test]
    #[should_panic(expected = "no whole number")]
    fn a_ragged_view_is_refused() {
        Buffer::zeroed(6).as_slice::<f32>();
    }

    #[test]
    fn an_arena_lends_disjoint_ranges() {
        let mut arena = Arena::new(256);
        let lease = Lease::new([0..64, 0..32], [64..128, 128..128]);
        let mut lent = arena.lend(&lease);
        let (first, second) = (lent.write(), lent.write());
        assert_eq!((lent.read(0).len(), lent.read(1).len(), second.len()), (64, 32, 0));
        first[0] = 9;
        assert_eq!(arena.read(64..65), [9]);
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn a_lease_refuses_overlap() {
        Lease::new([0..65, 0..1], [64..128, 128..129]);
    }

    #[test]
    #[should_panic(expected = "outside an arena of 256")]
    fn an_arena_refuses_what_it_has_not() {
        Arena::new(256).lend(&Lease::new([0..65, 0..1], [256..257, 128..192]));
    }
}
