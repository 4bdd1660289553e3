//! Lifetimes: which values share bytes, what is updated in place, and where in the arena everything lies.

use super::lower::{Draft, Lowered, Origination, Stored};
use super::{Kernel, Operand, Place, Plan, PlanOptions, Step, Target};
use std::collections::{BTreeMap, BTreeSet};

/// Every value starts on a cache line.
const ALIGN: usize = 64;

pub(super) fn place(mut lowered: Lowered, options: PlanOptions) -> Plan {
    let count = lowered.buffers.len();
    let mut shared: Vec<usize> = (0..count).collect();
    let last = last_reads(&lowered.drafts, count);
    let candidates = if options.in_place { 0..lowered.drafts.len() } else { 0..0 };
    for position in candidates {
        update_in_place(&mut lowered, &mut shared, &last, position);
    }
    let root = |buffer: usize| -> usize {
        let mut buffer = buffer;
        while shared[buffer] != buffer {
            buffer = shared[buffer];
        }
        buffer
    };
    let donated = if options.donate { donations(&mut lowered, &root) } else { Vec::new() };
    let (ranges, arena, live) = assign(&lowered, &root, options.reuse);
    let given: BTreeMap<usize, usize> = donated.iter().copied().collect();
    let place_of = |buffer: usize| match lowered.buffers[root(buffer)].origination {
        Origination::Temporary => Place::Arena(ranges[root(buffer)].clone()),
        Origination::Argument(i) => given.get(&i).map_or(Place::Argument(i), |&result| Place::Result(result)),
        Origination::Result(i) => Place::Result(i),
        Origination::Data(i) => Place::Data(i),
    };
    let operand = |x: Stored| Operand { place: place_of(x.buffer), dtype: x.dtype, layout: x.layout };
    let steps = std::mem::take(&mut lowered.drafts)
        .into_iter()
        .map(|draft| Step {
            kernel: draft.kernel,
            inputs: draft.inputs.into_iter().map(operand).collect(),
            outputs: draft.outputs.into_iter().map(|(buffer, ty)| Target { place: place_of(buffer), ty }).collect(),
            origin: draft.origin,
            instruction: draft.instruction,
        })
        .collect();
    Plan { steps, arena, data: lowered.data, arguments: lowered.arguments, results: lowered.results, donated, live }
}

/// The last step that reads each buffer.
fn last_reads(drafts: &[Draft], buffers: usize) -> Vec<Option<usize>> {
    let mut last = vec![None; buffers];
    for (position, draft) in drafts.iter().enumerate() {
        draft.inputs.iter().for_each(|x| last[x.buffer] = Some(position));
    }
    last
}

/// Lets the outputs of an elementwise step overwrite operands that die there.
fn update_in_place(lowered: &mut Lowered, shared: &mut [usize], last: &[Option<usize>], position: usize) {
    let draft = &lowered.drafts[position];
    let Kernel::Tape { .. } = draft.kernel else { return };
    let whole = |x: &Stored| {
        let bytes = lowered.buffers[x.buffer].bytes;
        x.layout.is_contiguous() && x.layout.offset() == 0 && x.layout.numel() * x.dtype.size() == bytes
    };
    let mut in_place = smallvec::SmallVec::from_elem(None, draft.inputs.len());
    let mut merges = Vec::new();
    for (k, (output, ty)) in draft.outputs.iter().enumerate() {
        let result = lowered.buffers[*output].origination != Origination::Temporary;
        let candidate = draft.inputs.iter().position(|x| {
            let held = lowered.buffers[x.buffer];
            let once = draft.inputs.iter().filter(|other| other.buffer == x.buffer).count() == 1;
            held.origination == Origination::Temporary
                && last[x.buffer] == Some(position)
                && once
                && held.bytes == ty.bytes()
                && ty.bytes() > 0
                && x.dtype == ty.dtype
                && whole(x)
                && !merges.iter().any(|&(_, buffer)| buffer == x.buffer)
        });
        if let Some(i) = candidate
            && !result
        {
            in_place[i] = Some(k);
            merges.push((*output, draft.inputs[i].buffer));
        }
    }
    for (output, input) in merges {
        shared[output] = input;
    }
    if let Kernel::Tape { in_place: slot, .. } = &mut lowered.drafts[position].kernel {
        *slot = in_place;
    }
}

/// Pairs results with arguments of their type that are not read after the result is first written; an elementwise
/// step may read and write the same places. The argument's memory becomes the result's.
fn donations(lowered: &mut Lowered, root: &dyn Fn(usize) -> usize) -> Vec<(usize, usize)> {
    let mut first_write: BTreeMap<usize, usize> = BTreeMap::new();
    for (position, draft) in lowered.drafts.iter().enumerate() {
        for (buffer, _) in &draft.outputs {
            if let Origination::Result(i) = lowered.buffers[root(*buffer)].origination {
                first_write.entry(i).or_insert(position);
            }
        }
    }
    let mut last_read = vec![None; lowered.buffers.len()];
    for (position, draft) in lowered.drafts.iter().enumerate() {
        draft.inputs.iter().for_each(|x| last_read[x.buffer] = Some(position));
    }
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (result, ty) in lowered.results.iter().enumerate() {
        let Some(&written) = first_write.get(&result) else { continue };
        // The argument that stands where the result does is tried first: state keeps its order.
        let order = std::iter::once(result).chain(0..lowered.arguments.len());
        for argument in order {
            if argument >= lowered.arguments.len() || lowered.arguments[argument] != *ty || ty.bytes() == 0 {
                continue;
            }
            if pairs.iter().any(|&(taken, _)| taken == argument) {
                continue;
            }
            let buffer = lowered.argument_buffers[argument];
            let fits = match last_read[buffer] {
                Some(read) if read == written => {
                    overwrites(&mut lowered.drafts[written], buffer, result, &lowered.buffers)
                }
                Some(read) => read < written,
                None => false,
            };
            if fits {
                pairs.push((argument, result));
                break;
            }
        }
    }
    pairs
}

/// Makes an elementwise step that reads an argument and writes a result do so in place, if it can.
fn overwrites(draft: &mut Draft, argument: usize, result: usize, buffers: &[super::lower::Held]) -> bool {
    let output =
        draft.outputs.iter().position(|(buffer, _)| buffers[*buffer].origination == Origination::Result(result));
    let (Kernel::Tape { in_place, .. }, Some(output)) = (&mut draft.kernel, output) else { return false };
    let mut reads = draft.inputs.iter().enumerate().filter(|(_, x)| x.buffer == argument);
    let (Some((i, x)), None) = (reads.next(), reads.next()) else { return false };
    let whole = x.layout.is_contiguous() && x.layout.offset() == 0;
    let free = !in_place.contains(&Some(output)) && in_place.get(i).is_none_or(Option::is_none);
    if whole && free && x.dtype == draft.outputs[output].1.dtype {
        in_place.resize(draft.inputs.len(), None);
        in_place[i] = Some(output);
        return true;
    }
    false
}

/// Offsets for all temporaries: the smallest free gap that fits, else the end.
fn assign(
    lowered: &Lowered,
    root: &dyn Fn(usize) -> usize,
    reuse: bool,
) -> (Vec<std::ops::Range<usize>>, usize, usize) {
    let count = lowered.buffers.len();
    let mut death: Vec<usize> = vec![0; count];
    let mut birth: Vec<Option<usize>> = vec![None; count];
    for (position, draft) in lowered.drafts.iter().enumerate() {
        for buffer in draft.inputs.iter().map(|x| x.buffer).chain(draft.outputs.iter().map(|y| y.0)) {
            let buffer = root(buffer);
            death[buffer] = position;
            birth[buffer].get_or_insert(position);
        }
    }
    let temporary = |buffer: &usize| lowered.buffers[*buffer].origination == Origination::Temporary;
    let mut dying: Vec<Vec<usize>> = vec![Vec::new(); lowered.drafts.len()];
    (0..count).filter(|b| temporary(b) && birth[*b].is_some()).for_each(|b| dying[death[b]].push(b));
    let mut ranges = vec![0..0; count];
    let mut free = FreeList::default();
    let (mut alive, mut live) = (0usize, 0usize);
    for (position, draft) in lowered.drafts.iter().enumerate() {
        for (buffer, _) in &draft.outputs {
            let buffer = root(*buffer);
            if temporary(&buffer) && birth[buffer] == Some(position) {
                let bytes = lowered.buffers[buffer].bytes;
                ranges[buffer] = free.take(bytes.next_multiple_of(ALIGN), bytes);
                alive += bytes;
            }
        }
        live = live.max(alive);
        for &buffer in &dying[position] {
            let bytes = lowered.buffers[buffer].bytes;
            if reuse {
                free.give(ranges[buffer].start..ranges[buffer].start + bytes.next_multiple_of(ALIGN));
            }
            alive -= bytes;
        }
    }
    (ranges, free.end, live)
}

/// Gaps of the arena, by size for the best fit and by start and end for merging.
#[derive(Default)]
struct FreeList {
    by_size: BTreeSet<(usize, usize)>,
    by_start: BTreeMap<usize, usize>,
    end: usize,
}

impl FreeList {
    fn take(&mut self, padded: usize, bytes: usize) -> std::ops::Range<usize> {
        if padded == 0 {
            return 0..0;
        }
        let gap = self.by_size.range((padded, 0)..).next().map(|&(size, start)| (start, size));
        let start = match gap {
            Some((start, size)) => {
                self.remove(start, size);
                self.insert(start + padded, size - padded);
                start
            }
            None => {
                // A gap that touches the end grows instead of a new block beyond it.
                let tail = self.by_start.iter().next_back().filter(|(start, size)| *start + *size == self.end);
                let start = match tail.map(|(&start, &size)| (start, size)) {
                    Some((start, size)) => {
                        self.remove(start, size);
                        start
                    }
                    None => self.end,
                };
                self.end = start + padded;
                start
            }
        };
        start..start + bytes
    }

    fn give(&mut self, range: std::ops::Range<usize>) {
        let (mut start, mut size) = (range.start, range.len());
        if size == 0 {
            return;
        }
        if let Some((&before, &length)) = self.by_start.range(..start).next_back()
            && before + length == start
        {
            self.remove(before, length);
            (start, size) = (before, size + length);
        }
        if let Some(&after) = self.by_start.get(&(start + size)) {
            self.remove(start + size, after);
            size += after;
        }
        self.insert(start, size);
    }

    fn insert(&mut self, start: usize, size: usize) {
        if size > 0 {
            self.by_start.insert(start, size);
            self.by_size.insert((size, start));
        }
    }

    fn remove(&mut self, start: usize, size: usize) {
        self.by_start.remove(&start);
        self.by_size.remove(&(size, start));
    }
}
