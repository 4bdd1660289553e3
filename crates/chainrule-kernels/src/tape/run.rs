//! Running a tape: cuts the flattened space into tiles, finds each operand's memory, and calls the steps.

use super::{Form, Source, Tape, loops};
use crate::element::{by_size, typed};
use crate::pool::{Pool, Shared, in_tiles};
use crate::scratch;
use crate::simd::level;
use crate::view::{ViewMut, numel};
use crate::walk::Walk;
use smallvec::SmallVec;

/// Bytes of registers that a tile should not exceed: they share a 32 KiB L1 cache with the memory that streams by.
const TILE_BYTES: usize = 24 * 1024;
/// Longest and shortest tile, in elements (a space smaller than the shortest is one tile).
const TILE: (usize, usize) = (1024, 64);
/// Bytes of outputs from which they go past the caches: who reads them finds them in memory anyway, and lines that are
/// written whole need not be read first.
const STREAM: usize = 32 << 20;
/// Work that is worth handing to another thread, in elements times what a step on one takes: a few microseconds.
const CHUNK_WORK: usize = 1 << 16;

/// Where an input is found at run time; the size of an element.
#[derive(Clone, Copy)]
enum Operand<'a> {
    /// In memory, element after element.
    Direct(*const u8, usize),
    /// One element for all: the tile is filled once.
    Splat(*const u8, usize),
    /// Gathered anew for each tile, by the walk of this number.
    Gathered(&'a [u8], usize, usize),
}
// SAFETY: the pointers come from shared borrows that outlive the run, or from an output at the tile's own positions.
unsafe impl Sync for Operand<'_> {}

/// What all tiles of one run share.
struct Run<'a> {
    tape: &'a Tape,
    operands: &'a [Operand<'a>],
    walks: &'a [Walk],
    /// Elements of a row; 1 where nothing is done by rows.
    row: usize,
    /// Memory of each output, its element size, and whether it must wait until the tile's end.
    outputs: &'a [(Shared<u8>, usize, bool)],
    /// Whether outputs go past the caches.
    stream: bool,
    tile: usize,
    /// Bytes of working memory of a tile.
    bytes: usize,
}

impl Tape {
    /// Runs over the space of `shape`, whose last axis is a row. Each source is a view of exactly that shape (or of
    /// one element for each row, where it is loaded so), or an output's old contents; each output is contiguous. Panics if shapes or dtypes differ from what the tape was made for.
    pub fn run(&self, pool: &Pool, shape: &[usize], sources: &[Source], outputs: &mut [ViewMut]) {
        let total = numel(shape);
        let row = if self.by_rows { shape.last().copied().unwrap_or(1).max(1) } else { 1 };
        let count = |by_row: bool| if by_row { total / row } else { total };
        assert_eq!(sources.len(), self.inputs.len(), "the tape has another number of inputs");
        assert_eq!(outputs.len(), self.outputs.len(), "the tape has another number of outputs");
        for (output, plan) in outputs.iter().zip(&self.outputs) {
            assert_eq!(output.dtype, plan.dtype, "an output of the tape has another dtype");
            assert_eq!(
                output.data.len(),
                count(plan.row) * plan.dtype.size(),
                "an output of the tape has another size"
            );
        }
        if total == 0 {
            return;
        }
        let mut shared: SmallVec<[(Shared<u8>, usize, bool); 8]> =
            outputs.iter_mut().map(|output| (Shared::new(output.data), output.dtype.size(), false)).collect();
        let mut operands: SmallVec<[Operand; 12]> = SmallVec::new();
        let mut walks: SmallVec<[Walk; 1]> = SmallVec::new();
        for (i, source) in sources.iter().enumerate() {
            let dtype = self.inputs[i];
            let size = dtype.size();
            operands.push(match source {
                Source::View(view) => {
                    assert_eq!(view.dtype, dtype, "input {i} of the tape has another dtype");
                    match self.row_inputs[i] {
                        false => assert_eq!(view.shape(), shape, "input {i} of the tape has another shape"),
                        true => assert_eq!(numel(view.shape()), total / row, "input {i} of the tape has other rows"),
                    }
                    view.layout.check(by_size!(dtype, T => typed::<T>(view.data).len()));
                    // SAFETY: the layout was checked, so its first element lies in the slice.
                    let first = unsafe { view.data.as_ptr().add(view.layout.offset() * size) };
                    if view.layout.is_contiguous() {
                        Operand::Direct(first, size)
                    } else if view.layout.is_splat() {
                        Operand::Splat(first, size)
                    } else {
                        walks.push(Walk::new(view.layout));
                        Operand::Gathered(view.data, walks.len() - 1, size)
                    }
                }
                Source::InPlace(k) => {
                    assert_eq!(
                        self.outputs[*k].row, self.row_inputs[i],
                        "input {i} of the tape has another extent than its output"
                    );
                    let (memory, _, late) = &mut shared[*k];
                    assert_eq!(
                        self.outputs[*k].dtype, dtype,
                        "input {i} of the tape has another dtype than its output"
                    );
                    // An output may be written while it is read only where no later step reads it.
                    *late |= self.last_read[i] >= self.outputs[*k].written;
                    Operand::Direct(memory.pointer(), size)
                }
            });
        }
        let bytes = |outputs: &[(Shared<u8>, usize, bool)]| outputs.iter().map(|o| o.1 * total).sum::<usize>();
        let stream = bytes(&shared) >= STREAM && !sources.iter().any(|source| matches!(source, Source::InPlace(_)));
        if stream {
            shared.iter_mut().for_each(|output| output.2 = true);
        }
        let widths: usize = self.registers.iter().map(|&w| w as usize).sum::<usize>()
            + self.constants.iter().map(|c| c.size as usize).sum::<usize>()
            + operands.iter().map(|o| if let Operand::Direct(..) = o { 0 } else { 8 }).sum::<usize>()
            + shared.iter().map(|o| if o.2 { 8 } else { 0 }).sum::<usize>();
        let fitting = (TILE_BYTES / widths.max(1)) & !63;
        let fitting = fitting.clamp(TILE.1, TILE.0);
        let tile = if self.by_rows { (fitting / row).max(1) * row } else { fitting }.min(total);
        // Wide elements first, so that every tile of a part is aligned; 64 bytes between parts.
        let bytes = widths * tile + 64 * (4 + operands.len() + shared.len() + self.constants.len());
        let (operands, walks, outputs) = (&operands[..], &walks[..], &shared[..]);
        let run = Run { tape: self, operands, walks, row, outputs, stream, tile, bytes };
        let chunk = (CHUNK_WORK / (self.weight + 1)).max(tile).div_ceil(tile) * tile;
        in_tiles(pool, total, chunk, |start, len| run.chunk(start, len));
    }
}

impl Run<'_> {
    /// Runs the tiles of a range of elements.
    fn chunk(&self, start: usize, len: usize) {
        let tape = self.tape;
        let (inputs, constants, registers) = (self.operands.len(), tape.constants.len(), tape.registers.len());
        let slots = inputs + constants + registers + self.outputs.len();
        scratch::with::<u8, _>(self.bytes, |memory| {
            scratch::with::<usize, _>(slots, |table| {
                let mut place = Placer { next: memory.as_mut_ptr(), tile: self.tile };
                for (slot, operand) in self.operands.iter().enumerate() {
                    table[slot] = match operand {
                        Operand::Direct(..) => 0,
                        Operand::Splat(first, size) => {
                            let room = place.tile(*size);
                            let fill = loops::fill(level(), *size as u8);
                            // SAFETY: `first` is one element; the tile holds `self.tile` of them.
                            unsafe { fill(room, *first, *first, *first, self.tile) };
                            room.expose_provenance()
                        }
                        Operand::Gathered(_, _, size) => place.tile(*size).expose_provenance(),
                    };
                }
                for (slot, constant) in table[inputs..].iter_mut().zip(&tape.constants) {
                    let bits = (&raw const constant.bits).cast::<u8>();
                    *slot = if self.tile == 1 && cfg!(target_endian = "little") {
                        bits.expose_provenance()
                    } else {
                        let room = place.tile(constant.size as usize);
                        // SAFETY: the constant's low bytes are one element; the tile holds `self.tile` of them.
                        unsafe { (constant.fill)(room, bits, bits, bits, self.tile) };
                        room.expose_provenance()
                    };
                }
                for (slot, &width) in table[inputs + constants..].iter_mut().zip(&tape.registers) {
                    *slot = place.packed(width as usize).expose_provenance();
                }
                let first_output = inputs + constants + registers;
                for (slot, output) in table[first_output..].iter_mut().zip(self.outputs) {
                    if output.2 {
                        *slot = place.tile(output.1).expose_provenance();
                    }
                }
                let mut done = 0;
                while done < len {
                    let n = self.tile.min(len - done);
                    self.tile(table, first_output, start + done, n);
                    done += n;
                }
            });
        });
    }

    /// Runs every step on one tile.
    #[inline]
    fn tile(&self, table: &mut [usize], first_output: usize, start: usize, n: usize) {
        // Start and number of what a value has one of for each row, or for each element.
        let part = |by_row: bool| if by_row { (start / self.row, n / self.row) } else { (start, n) };
        for (slot, operand) in self.operands.iter().enumerate() {
            let (start, n) = part(self.tape.row_inputs[slot]);
            match operand {
                Operand::Direct(base, size) => table[slot] = base.expose_provenance() + start * size,
                Operand::Splat(..) => {}
                Operand::Gathered(data, walk, size) => {
                    let room = std::ptr::with_exposed_provenance_mut::<u8>(table[slot]);
                    macro_rules! gather {
                        ($t:ty) => {
                            // SAFETY: the layout was checked; the room holds a tile.
                            unsafe {
                                let room = std::slice::from_raw_parts_mut(room.cast::<$t>(), n);
                                self.walks[*walk].gather(typed::<$t>(data), start, room)
                            }
                        };
                    }
                    match size {
                        1 => gather!(u8),
                        2 => gather!(u16),
                        4 => gather!(u32),
                        _ => gather!(u64),
                    }
                }
            }
        }
        let outputs = || self.outputs.iter().zip(&self.tape.outputs).map(|(output, plan)| (output, part(plan.row)));
        for (slot, ((memory, size, late), (start, _))) in table[first_output..].iter_mut().zip(outputs()) {
            if !late {
                *slot = memory.pointer().expose_provenance() + start * size;
            }
        }
        let at = |slot: u32| -> *mut u8 {
            debug_assert!((slot as usize) < table.len());
            // SAFETY: the compiler of the tape makes slots below the table's length.
            std::ptr::with_exposed_provenance_mut(unsafe { *table.get_unchecked(slot as usize) })
        };
        for step in &self.tape.steps {
            // SAFETY: every slot points to at least `n` elements of the step's types. A step's output shares no memory
            // with its operands: registers by liveness, outputs because a read one that is written early is `late`.
            unsafe {
                match step.form {
                    Form::Each => (step.run)(at(step.out), at(step.a), at(step.b), at(step.c), n),
                    Form::Row => (step.run)(at(step.out), at(step.a), at(step.b), at(step.c), n / self.row),
                    Form::Reduce(size) => {
                        let (out, from, size) = (at(step.out), at(step.a), size as usize);
                        for i in 0..n / self.row {
                            let from = from.add(i * self.row * size);
                            (step.run)(out.add(i * size), from, from, from, self.row);
                        }
                    }
                    Form::Spread(size) => {
                        let (out, from, size) = (at(step.out), at(step.a), size as usize);
                        for i in 0..n / self.row {
                            let from = from.add(i * size);
                            (step.run)(out.add(i * self.row * size), from, from, from, self.row);
                        }
                    }
                }
            };
        }
        for (slot, ((memory, size, late), (start, n))) in table[first_output..].iter().zip(outputs()) {
            if *late {
                // SAFETY: the tile's own part of the output, and a tile of scratch.
                unsafe {
                    let from = std::ptr::with_exposed_provenance::<u8>(*slot);
                    let to = memory.pointer().add(start * size);
                    match self.stream {
                        true => stream(from, to, n * size),
                        false => std::ptr::copy_nonoverlapping(from, to, n * size),
                    }
                }
            }
        }
    }
}

/// Copies past the caches.
///
/// # Safety
/// As for `copy_nonoverlapping`.
unsafe fn stream(from: *const u8, to: *mut u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; `to` is aligned where vectors are written, and later loads of this thread and of those
    // it hands over to see them after the fence.
    unsafe {
        use std::arch::x86_64::{_mm_loadu_ps, _mm_sfence, _mm_stream_ps};
        let head = to.align_offset(64).min(bytes);
        let whole = (bytes - head) & !63;
        std::ptr::copy_nonoverlapping(from, to, head);
        for at in (head..head + whole).step_by(16) {
            _mm_stream_ps(to.add(at).cast(), _mm_loadu_ps(from.add(at).cast()));
        }
        let done = head + whole;
        std::ptr::copy_nonoverlapping(from.add(done), to.add(done), bytes - done);
        _mm_sfence();
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, bytes)
    }
}

/// Hands out parts of the working memory.
struct Placer {
    next: *mut u8,
    tile: usize,
}

impl Placer {
    /// A tile of elements, on a cache line of its own.
    fn tile(&mut self, size: usize) -> *mut u8 {
        self.next = self.next.map_addr(|a| a.next_multiple_of(64));
        self.packed(size)
    }

    /// A tile right after the last one; sizes must not grow from one to the next.
    fn packed(&mut self, size: usize) -> *mut u8 {
        let place = self.next.map_addr(|a| a.next_multiple_of(size));
        self.next = place.wrapping_add(size * self.tile);
        place
    }
}
