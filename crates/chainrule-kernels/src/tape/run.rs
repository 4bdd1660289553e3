//! Running a tape: cuts the flattened space into tiles, finds each operand's memory, and calls the steps. How it is cut and
//! how each operand is read follows from layouts, and is settled once ([`Tape::lay`]).

use super::{Form, Place, Source, Tape, loops};
use crate::element::{typed, typed_mut};
use crate::pool::{Pool, in_tiles};
use crate::scratch;
use crate::simd::level;
use crate::view::{ViewMut, numel};
use crate::walk::Walk;

/// Bytes of registers that a tile should not exceed: they share a 32 KiB L1 cache with the memory that streams by.
const TILE_BYTES: usize = 24 * 1024;
/// Longest and shortest tile, in elements (a space smaller than the shortest is one tile).
const TILE: (usize, usize) = (1024, 64);
/// Bytes of outputs from which they go past the caches: who reads them finds them in memory anyway, and lines that are
/// written whole need not be read first.
const STREAM: usize = 32 << 20;
/// Work that is worth handing to another thread, in elements times what a step on one takes: a few microseconds.
const CHUNK_WORK: usize = 1 << 16;

/// A tape laid out for a shape and its operands: all that follows from their layouts, so that a run has only to find
/// their memory.
#[derive(Clone, Debug)]
pub struct Laid {
    operands: Vec<Operand>,
    /// The least bytes of each input.
    least: Vec<usize>,
    outputs: Vec<Target>,
    /// Elements of the space, and of a row: 1 where nothing is done by rows.
    total: usize,
    row: usize,
    /// Whether outputs go past the caches.
    stream: bool,
    /// Elements that a tile, and a thread, takes at once.
    tile: usize,
    chunk: usize,
    /// Bytes of the working memory of a tile.
    bytes: usize,
}

/// What is known of an input's place before it has memory; the size of an element.
#[derive(Clone, Debug)]
enum Operand {
    /// Element after element, from this one on.
    Direct { first: usize, size: usize },
    /// One element for all: the tile is filled once.
    Splat { first: usize, size: usize },
    /// Gathered anew for each tile.
    Gathered { walk: Walk, size: usize },
    /// The old contents of an output.
    InPlace { output: usize, size: usize },
}

#[derive(Clone, Debug)]
struct Target {
    bytes: usize,
    size: usize,
    /// Whether it must wait until the tile's end.
    late: bool,
}

/// What all tiles of one run share.
struct Run<'a> {
    tape: &'a Tape,
    laid: &'a Laid,
    inputs: &'a [&'a [u8]],
    /// Addresses of the outputs.
    outputs: &'a [usize],
}

impl Tape {
    /// Runs over the space of `shape`, whose last axis is a row. Each source is a view of exactly that shape (or of
    /// one element for each row, where it is loaded so), or an output's old contents; each output is contiguous. Panics if shapes or dtypes differ from what the tape was made for.
    pub fn run(&self, pool: &Pool, shape: &[usize], sources: &[Source], outputs: &mut [ViewMut]) {
        for (output, plan) in outputs.iter().zip(&self.outputs) {
            assert_eq!(output.dtype, plan.dtype, "an output of the tape has another dtype");
        }
        let (inputs, places): (Vec<&[u8]>, Vec<Place>) = (sources.iter())
            .map(|source| match source {
                Source::View(view) => (view.data, Place::Layout(view.dtype, view.layout.clone())),
                Source::InPlace(output) => (&[][..], Place::Output(*output)),
            })
            .unzip();
        let mut memory: Vec<&mut [u8]> = outputs.iter_mut().map(|output| &mut *output.data).collect();
        self.run_laid(&self.lay(shape, &places), pool, &inputs, &mut memory);
    }

    /// Lays out a run of [`Tape::run`], for operands at these places.
    pub fn lay(&self, shape: &[usize], places: &[Place]) -> Laid {
        let total = numel(shape);
        let row = if self.by_rows { shape.last().copied().unwrap_or(1).max(1) } else { 1 };
        let count = |by_row: bool| if by_row { total / row } else { total };
        assert_eq!(places.len(), self.inputs.len(), "the tape has another number of inputs");
        let mut outputs: Vec<Target> = (self.outputs.iter())
            .map(|plan| {
                let size = plan.dtype.size();
                Target { bytes: count(plan.row) * size, size, late: false }
            })
            .collect();
        let (mut operands, mut least) = (Vec::with_capacity(places.len()), vec![0; places.len()]);
        for (i, place) in places.iter().enumerate() {
            let dtype = self.inputs[i];
            let size = dtype.size();
            operands.push(match place {
                Place::Layout(found, layout) => {
                    assert_eq!(*found, dtype, "input {i} of the tape has another dtype");
                    match self.row_inputs[i] {
                        false => assert_eq!(layout.shape(), shape, "input {i} of the tape has another shape"),
                        true => assert_eq!(layout.numel(), total / row, "input {i} of the tape has other rows"),
                    }
                    least[i] = layout.reach() * size;
                    let first = layout.offset();
                    if layout.is_contiguous() {
                        Operand::Direct { first, size }
                    } else if layout.is_splat() {
                        Operand::Splat { first, size }
                    } else {
                        Operand::Gathered { walk: Walk::new(layout), size }
                    }
                }
                Place::Output(output) => {
                    let (plan, target) = (&self.outputs[*output], &mut outputs[*output]);
                    assert_eq!(
                        plan.row, self.row_inputs[i],
                        "input {i} of the tape has another extent than its output"
                    );
                    assert_eq!(plan.dtype, dtype, "input {i} of the tape has another dtype than its output");
                    // An output may be written while it is read only where no later step reads it.
                    target.late |= self.last_read[i] >= plan.written;
                    Operand::InPlace { output: *output, size }
                }
            });
        }
        let in_place = operands.iter().any(|operand| matches!(operand, Operand::InPlace { .. }));
        let stream = outputs.iter().map(|o| o.size * total).sum::<usize>() >= STREAM && !in_place;
        outputs.iter_mut().for_each(|output| output.late |= stream);
        let direct = |o: &Operand| matches!(o, Operand::Direct { .. } | Operand::InPlace { .. });
        let widths: usize = self.registers.iter().map(|&w| w as usize).sum::<usize>()
            + self.constants.iter().map(|c| c.size as usize).sum::<usize>()
            + operands.iter().map(|o| if direct(o) { 0 } else { 8 }).sum::<usize>()
            + outputs.iter().map(|o| if o.late { 8 } else { 0 }).sum::<usize>();
        let fitting = ((TILE_BYTES / widths.max(1)) & !63).clamp(TILE.1, TILE.0);
        let tile = if self.by_rows { (fitting / row).max(1) * row } else { fitting }.min(total).max(1);
        // Wide elements first, so that every tile of a part is aligned; 64 bytes between parts.
        let bytes = widths * tile + 64 * (4 + operands.len() + outputs.len() + self.constants.len());
        let chunk = (CHUNK_WORK / (self.weight + 1)).max(tile).div_ceil(tile) * tile;
        Laid { operands, least, outputs, total, row, stream, tile, chunk, bytes: bytes.next_multiple_of(64) }
    }

    /// [`Tape::run`] as it was laid out, over the memory of the inputs (of one in place: anything) and outputs. Allocates
    /// nothing once a thread has run one as large.
    pub fn run_laid(&self, laid: &Laid, pool: &Pool, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        assert_eq!(inputs.len(), laid.operands.len(), "the tape has another number of inputs");
        assert_eq!(outputs.len(), laid.outputs.len(), "the tape has another number of outputs");
        for (output, target) in outputs.iter().zip(&laid.outputs) {
            assert_eq!(output.len(), target.bytes, "an output of the tape has another size");
        }
        for (i, (input, least)) in inputs.iter().zip(&laid.least).enumerate() {
            assert!(input.len() >= *least, "input {i} of the tape has {} bytes of {least}", input.len());
        }
        if laid.total == 0 {
            return;
        }
        scratch::with::<usize, _>(outputs.len(), |addresses| {
            for (address, output) in addresses.iter_mut().zip(outputs.iter_mut()) {
                *address = output.as_mut_ptr().expose_provenance();
            }
            let run = Run { tape: self, laid, inputs, outputs: addresses };
            in_tiles(pool, laid.total, laid.chunk, |start, len| run.chunk(start, len));
        });
    }
}

impl Run<'_> {
    /// Runs the tiles of a range of elements.
    fn chunk(&self, start: usize, len: usize) {
        let (tape, laid) = (self.tape, self.laid);
        let (inputs, constants, registers) = (laid.operands.len(), tape.constants.len(), tape.registers.len());
        let slots = inputs + constants + registers + laid.outputs.len();
        scratch::with::<u8, _>(laid.bytes + slots * size_of::<usize>(), |memory| {
            let (memory, table) = memory.split_at_mut(laid.bytes);
            let table: &mut [usize] = typed_mut(table);
            let mut place = Placer { next: memory.as_mut_ptr(), tile: laid.tile };
            for (slot, operand) in laid.operands.iter().enumerate() {
                table[slot] = match operand {
                    Operand::Direct { .. } | Operand::InPlace { .. } => 0,
                    Operand::Splat { first, size } => {
                        let room = place.tile(*size);
                        let fill = loops::fill(level(), *size as u8);
                        // SAFETY: the layout was checked, so its first element lies in the slice; the tile holds its elements.
                        unsafe {
                            let first = self.inputs[slot].as_ptr().add(first * size);
                            fill(room, first, first, first, laid.tile);
                        }
                        room.expose_provenance()
                    }
                    Operand::Gathered { size, .. } => place.tile(*size).expose_provenance(),
                };
            }
            for (slot, constant) in table[inputs..].iter_mut().zip(&tape.constants) {
                let bits = (&raw const constant.bits).cast::<u8>();
                *slot = if laid.tile == 1 && cfg!(target_endian = "little") {
                    bits.expose_provenance()
                } else {
                    let room = place.tile(constant.size as usize);
                    // SAFETY: the constant's low bytes are one element; the tile holds its elements.
                    unsafe { (constant.fill)(room, bits, bits, bits, laid.tile) };
                    room.expose_provenance()
                };
            }
            for (slot, &width) in table[inputs + constants..].iter_mut().zip(&tape.registers) {
                *slot = place.packed(width as usize).expose_provenance();
            }
            let first_output = inputs + constants + registers;
            for (slot, output) in table[first_output..].iter_mut().zip(&laid.outputs) {
                if output.late {
                    *slot = place.tile(output.size).expose_provenance();
                }
            }
            let mut done = 0;
            while done < len {
                let n = laid.tile.min(len - done);
                self.tile(table, first_output, start + done, n);
                done += n;
            }
        });
    }

    /// Runs every step on one tile.
    #[inline]
    fn tile(&self, table: &mut [usize], first_output: usize, start: usize, n: usize) {
        let (laid, row) = (self.laid, self.laid.row);
        // Start and number of what a value has one of for each row, or for each element.
        let part = |by_row: bool| if by_row { (start / row, n / row) } else { (start, n) };
        for (slot, operand) in laid.operands.iter().enumerate() {
            let (start, n) = part(self.tape.row_inputs[slot]);
            match operand {
                Operand::Direct { first, size } => {
                    table[slot] = self.inputs[slot].as_ptr().expose_provenance() + (first + start) * size
                }
                Operand::InPlace { output, size } => table[slot] = self.outputs[*output] + start * size,
                Operand::Splat { .. } => {}
                Operand::Gathered { walk, size } => {
                    let (data, room) = (self.inputs[slot], std::ptr::with_exposed_provenance_mut::<u8>(table[slot]));
                    macro_rules! gather {
                        ($t:ty) => {
                            // SAFETY: the layout was checked; the room holds a tile.
                            unsafe {
                                let room = std::slice::from_raw_parts_mut(room.cast::<$t>(), n);
                                walk.gather(typed::<$t>(data), start, room)
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
        let outputs = || {
            self.outputs
                .iter()
                .zip(&laid.outputs)
                .zip(&self.tape.outputs)
                .map(|((address, target), plan)| (*address, target, part(plan.row)))
        };
        for (slot, (address, target, (start, _))) in table[first_output..].iter_mut().zip(outputs()) {
            if !target.late {
                *slot = address + start * target.size;
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
                    Form::Row => (step.run)(at(step.out), at(step.a), at(step.b), at(step.c), n / row),
                    Form::Reduce(size) => {
                        let (out, from, size) = (at(step.out), at(step.a), size as usize);
                        for i in 0..n / row {
                            let from = from.add(i * row * size);
                            (step.run)(out.add(i * size), from, from, from, row);
                        }
                    }
                    Form::Spread(size) => {
                        let (out, from, size) = (at(step.out), at(step.a), size as usize);
                        for i in 0..n / row {
                            let from = from.add(i * size);
                            (step.run)(out.add(i * row * size), from, from, from, row);
                        }
                    }
                }
            };
        }
        for (slot, (address, target, (start, n))) in table[first_output..].iter().zip(outputs()) {
            if target.late {
                // SAFETY: the tile's own part of the output, and a tile of scratch.
                unsafe {
                    let from = std::ptr::with_exposed_provenance::<u8>(*slot);
                    let to = std::ptr::with_exposed_provenance_mut::<u8>(address + start * target.size);
                    match laid.stream {
                        true => stream(from, to, n * target.size),
                        false => std::ptr::copy_nonoverlapping(from, to, n * target.size),
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
