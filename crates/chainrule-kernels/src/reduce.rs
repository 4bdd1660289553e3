//! Reductions over axes: sum, product, largest and smallest.
//!
//! Sums go pairwise over blocks, so that the error grows like the logarithm of the length; bf16 and f16 are summed in
//! f32. Long reductions with few results are cut at fixed places and joined in order.

use crate::alphabet::{DType, Reduction};
use crate::element::{Number, Stored, by_dtype};
use crate::pool::{Pool, fill_tiles};
use crate::scratch;
use crate::simd::{Arch, Loop, dispatch};
use crate::view::{Dims, Strides, View, ViewMut};
use crate::walk::{Walk, with_range};
use smallvec::SmallVec;
use std::marker::PhantomData;

/// Elements that are summed without further splitting.
const LEAF: usize = 1024;
/// Elements of a long reduction that one tile takes.
const PART: usize = 1 << 16;
/// Elements of a reduction that are joined one after another, many results at a time.
const FEW: usize = 32;
/// Columns that are summed side by side.
const COLUMNS: usize = 256;
/// Rows that are added one after another before pairing.
const ROWS: usize = 32;

/// Reduces `view` over `axes`; the kept axes stay in order. `out` has the view's dtype.
/// Sums and products of bools are refused; their largest is "any" and their smallest "all".
pub fn reduce(pool: &Pool, reduction: Reduction, view: View, axes: &[usize], out: ViewMut) {
    let rank = view.layout.rank();
    assert!(axes.iter().all(|&axis| axis < rank), "reduce: axes {axes:?} of a value with {rank} dimensions");
    let bool_sum = view.dtype == DType::Bool && matches!(reduction, Reduction::Sum | Reduction::Prod);
    assert!(!bool_sum, "reduce: {} of bools", reduction.name());
    if view.dtype == DType::Bool {
        return reduce_bool(pool, reduction, view, axes, out);
    }
    by_dtype!(view.dtype, T => match reduction {
        Reduction::Sum => run::<T, Sum>(pool, view, axes, out),
        Reduction::Prod => run::<T, Prod>(pool, view, axes, out),
        Reduction::Max => run::<T, Max>(pool, view, axes, out),
        Reduction::Min => run::<T, Min>(pool, view, axes, out),
    })
}

/// Bools reduce as bytes, but over nothing their largest is 0 and their smallest 1.
fn reduce_bool(pool: &Pool, reduction: Reduction, view: View, axes: &[usize], out: ViewMut) {
    let data = &mut *out.data;
    match reduction {
        Reduction::Max => run::<u8, Max>(pool, view, axes, ViewMut { data, dtype: out.dtype }),
        _ => run::<u8, Min>(pool, view, axes, ViewMut { data, dtype: out.dtype }),
    }
    out.data.iter_mut().for_each(|b| *b = (*b != 0) as u8);
}

/// A way to join numbers.
pub(crate) trait Join: Send + Sync + 'static {
    fn identity<N: Number>() -> N;
    fn join<N: Number>(a: N, b: N) -> N;
}
macro_rules! join {
    ($($name:ident, $identity:ident, $join:ident;)*) => { $(
        pub(crate) struct $name;
        impl Join for $name {
            #[inline(always)]
            fn identity<N: Number>() -> N { N::$identity }
            #[inline(always)]
            fn join<N: Number>(a: N, b: N) -> N { a.$join(b) }
        }
    )* };
}
join! {
    Sum, ZERO, add;
    Prod, ONE, mul;
    Max, LEAST, larger;
    Min, MOST, smaller;
}

fn run<T: Stored, J: Join>(pool: &Pool, view: View, axes: &[usize], out: ViewMut) {
    let source: &[T] = view.elements();
    let part = |reduced: bool, offset: usize| {
        let some = || (0..view.layout.rank()).filter(|axis| axes.contains(axis) == reduced);
        let shape: Dims = some().map(|axis| view.layout.shape[axis]).collect();
        let strides: Strides = some().map(|axis| view.layout.strides[axis]).collect();
        Walk::of(offset as isize, &shape, &strides)
    };
    let (kept, over) = (part(false, view.layout.offset), part(true, 0));
    let out: &mut [T] = out.elements(view.dtype, kept.numel);
    if out.is_empty() {
        return;
    }
    if over.numel == 0 {
        return out.fill(T::store(J::identity()));
    }
    let last = |walk: &Walk| walk.dims[walk.dims.len() - 1];
    let (columns, step) = last(&kept);
    if step == 1 && columns > 1 && last(&over).1 != 1 {
        columnwise::<T, J>(pool, source, &kept, &over, out);
    } else if kept.numel < 16 && over.numel > PART {
        // Few results: cut each reduction at fixed places.
        let parts = over.numel.div_ceil(PART);
        scratch::with::<T::Number, _>(parts, |partial| {
            for (i, out) in out.iter_mut().enumerate() {
                let walk = Walk { offset: kept.position(i), ..over.clone() };
                fill_tiles(pool, partial, 1, 1, |part, partial| {
                    let start = part * PART;
                    partial[0] = dispatch(Range::<T, J>::new(source, &walk, start, PART.min(walk.numel - start)));
                });
                *out = T::store(pairwise::<T::Number, J>(partial));
            }
        });
    } else {
        let rows = (PART / over.numel).max(1);
        let few = over.numel <= FEW && kept.numel >= FEW;
        let mut offsets: SmallVec<[isize; FEW]> = SmallVec::new();
        if few {
            over.runs(0, over.numel, |at, step, count| offsets.extend((0..count as isize).map(|i| at + i * step)));
        }
        fill_tiles(pool, out, 1, rows, |start, out| match few {
            true => dispatch(Few::<T, J> { source, kept: &kept, offsets: &offsets, start, out, join: PhantomData }),
            false => dispatch(Rows::<T, J> { source, kept: &kept, over: &over, start, out, join: PhantomData }),
        });
    }
}

/// Results each of which joins a few elements: many results side by side.
struct Few<'a, T, J> {
    source: &'a [T],
    kept: &'a Walk,
    /// Where the elements of a result lie.
    offsets: &'a [isize],
    start: usize,
    out: &'a mut [T],
    join: PhantomData<J>,
}

impl<T: Stored, J: Join> Loop for Few<'_, T, J> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        const SIDE: usize = 64;
        let mut room = [T::default(); SIDE];
        let base = self.source.as_ptr();
        let mut done = 0;
        // Windows side by side, as pooling has them.
        let pairs =
            self.offsets.len().is_multiple_of(2) && self.offsets.chunks_exact(2).all(|pair| pair[1] == pair[0] + 1);
        self.kept.runs(self.start, self.out.len(), |position, step, count| {
            if step == 2 && pairs && count >= PAIRS {
                let out = &mut self.out[done..done + count];
                // SAFETY: the layout was checked against its slice.
                unsafe { joined_pairs::<T, J>(base.offset(position), self.offsets, out) };
                done += count;
                return;
            }
            for first in (0..count).step_by(SIDE) {
                let width = SIDE.min(count - first);
                let mut sums = [J::identity::<T::Number>(); SIDE];
                let sums = &mut sums[..width];
                for &offset in self.offsets {
                    // SAFETY: the layout was checked against its slice.
                    unsafe {
                        let from = base.offset(position + first as isize * step + offset);
                        match step {
                            1 => {
                                let from = std::slice::from_raw_parts(from, width);
                                sums.iter_mut().zip(from).for_each(|(sum, x)| *sum = J::join(*sum, x.load()));
                            }
                            // Gathered first, so that joining runs in vectors.
                            _ => {
                                let room = &mut room[..width];
                                room.iter_mut().enumerate().for_each(|(i, x)| *x = *from.offset(i as isize * step));
                                sums.iter_mut().zip(&*room).for_each(|(sum, x)| *sum = J::join(*sum, x.load()));
                            }
                        }
                    }
                }
                let out = &mut self.out[done..done + width];
                out.iter_mut().zip(&*sums).for_each(|(o, &sum)| *o = T::store(sum));
                done += width;
            }
        });
    }
}

/// Results of a block of neighbouring pairs.
const PAIRS: usize = 8;

/// Joins the elements at `offsets`, which come in neighbouring pairs, for at least [`PAIRS`] results two elements apart.
/// The last block reaches back over its neighbour and finds the same results again.
///
/// # Safety
/// Every offset from every result lies in valid memory.
#[inline(always)]
unsafe fn joined_pairs<T: Stored, J: Join>(from: *const T, offsets: &[isize], out: &mut [T]) {
    let mut first = 0;
    while first < out.len() {
        let begin = first.min(out.len() - PAIRS);
        let mut sums = [J::identity::<T::Number>(); PAIRS];
        for pair in offsets.chunks_exact(2) {
            // SAFETY: the caller's promise.
            let x = unsafe { from.offset(2 * begin as isize + pair[0]).cast::<[[T; 2]; PAIRS]>().read_unaligned() };
            for i in 0..PAIRS {
                sums[i] = J::join(J::join(sums[i], x[i][0].load()), x[i][1].load());
            }
        }
        for i in 0..PAIRS {
            out[begin + i] = T::store(sums[i]);
        }
        first += PAIRS;
    }
}

/// Results one after another, each of many elements.
struct Rows<'a, T, J> {
    source: &'a [T],
    kept: &'a Walk,
    over: &'a Walk,
    start: usize,
    out: &'a mut [T],
    join: PhantomData<J>,
}

impl<T: Stored, J: Join> Loop for Rows<'_, T, J> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let (inner, step) = self.over.dims[self.over.dims.len() - 1];
        let len = self.over.numel;
        if step == 1 && inner == len && len <= LEAF {
            let base = self.source.as_ptr();
            let mut done = 0;
            self.kept.runs(self.start, self.out.len(), |position, step, count| {
                for i in 0..count as isize {
                    // SAFETY: the layout was checked against its slice.
                    let row = unsafe { std::slice::from_raw_parts(base.offset(position + i * step), len) };
                    self.out[done] = T::store(leaf_of::<T, J>(row));
                    done += 1;
                }
            });
            return;
        }
        let mut walk = self.over.clone();
        for (i, out) in self.out.iter_mut().enumerate() {
            walk.offset = self.kept.position(self.start + i);
            *out = T::store(Range::<T, J>::new(self.source, &walk, 0, len).run::<A>());
        }
    }
}

/// Joins a few numbers in halves.
fn pairwise<N: Number, J: Join>(values: &[N]) -> N {
    match values {
        [] => J::identity(),
        [x] => *x,
        _ => {
            let (a, b) = values.split_at(values.len() / 2);
            J::join(pairwise::<N, J>(a), pairwise::<N, J>(b))
        }
    }
}

/// The reduction of a flat range of a walk.
struct Range<'a, T, J> {
    source: &'a [T],
    walk: &'a Walk,
    start: usize,
    len: usize,
    join: PhantomData<J>,
}

impl<'a, T: Stored, J: Join> Range<'a, T, J> {
    fn new(source: &'a [T], walk: &'a Walk, start: usize, len: usize) -> Self {
        Range { source, walk, start, len, join: PhantomData }
    }
}

impl<T: Stored, J: Join> Loop for Range<'_, T, J> {
    type Output = T::Number;
    #[inline(always)]
    fn run<A: Arch>(self) -> T::Number {
        let mut room = [T::default(); LEAF];
        // Partial results of ever longer stretches, joined as a binary counter carries.
        let mut stack = [J::identity(); 48];
        let mut depth = 0;
        let leaves = self.len.div_ceil(LEAF);
        for leaf in 0..leaves {
            let start = self.start + leaf * LEAF;
            let len = LEAF.min(self.start + self.len - start);
            // SAFETY: the view was checked against its slice, and the range lies in it.
            let mut value = unsafe { with_range(self.walk, self.source, start, len, &mut room, leaf_of::<T, J>) };
            let mut carry = leaf;
            while carry & 1 == 1 {
                depth -= 1;
                value = J::join(stack[depth], value);
                carry >>= 1;
            }
            stack[depth] = value;
            depth += 1;
        }
        let mut total = stack[depth - 1];
        for &value in stack[..depth - 1].iter().rev() {
            total = J::join(value, total);
        }
        total
    }
}

/// The reduction of a short slice: sixty-four lanes, joined in halves.
#[inline(always)]
pub(crate) fn leaf_of<T: Stored, J: Join>(values: &[T]) -> T::Number {
    const LANES: usize = 64;
    let mut lanes = [J::identity::<T::Number>(); LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] = J::join(lanes[i], block[i].load());
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = J::join(*lane, x.load());
    }
    // Each width on its own, so that each is a loop of vectors.
    macro_rules! halve {
        ($($width:literal)*) => { $(
            for i in 0..$width {
                lanes[i] = J::join(lanes[i], lanes[i + $width]);
            }
        )* };
    }
    halve!(32 16 8 4 2 1);
    lanes[0]
}

/// Reduction where the kept elements lie side by side: whole stretches of columns at a time.
fn columnwise<T: Stored, J: Join>(pool: &Pool, source: &[T], kept: &Walk, over: &Walk, out: &mut [T]) {
    let columns = kept.dims[kept.dims.len() - 1].0;
    let stretches = columns.div_ceil(COLUMNS);
    let lines = kept.numel / columns;
    // Few columns and many rows: cut the rows too.
    let few = lines * stretches < 16;
    let parts = if few { over.numel.div_ceil(PART / columns.min(COLUMNS)) } else { 1 };
    let rows = over.numel.div_ceil(parts);
    scratch::with::<T::Number, _>(parts * kept.numel, |partial| {
        let shared = crate::pool::Shared::new(partial);
        let grain = (PART / (COLUMNS * rows).max(1)).max(1);
        crate::pool::in_tiles(pool, parts * lines * stretches, grain, |first, count| {
            for task in first..first + count {
                let (part, rest) = (task / (lines * stretches), task % (lines * stretches));
                let (line, stretch) = (rest / stretches, rest % stretches);
                let column = line * columns + stretch * COLUMNS;
                let width = COLUMNS.min(columns - stretch * COLUMNS);
                // SAFETY: each task has its own stretch of its own part.
                let sums = unsafe { shared.slice(part * kept.numel + column, width) };
                let walk = Walk { offset: kept.position(column), ..over.clone() };
                let rows = (part * rows).min(over.numel)..((part + 1) * rows).min(over.numel);
                dispatch(Stretch::<T, J> { source, walk: &walk, rows, sums, join: PhantomData });
            }
        });
        fill_tiles(pool, out, 1, 1 << 14, |start, out| {
            // Parts are joined as a tournament: neighbours, then winners.
            let mut gap = 1;
            while gap < parts {
                for part in (0..parts - gap).step_by(2 * gap) {
                    let at = |part| part * kept.numel + start;
                    // SAFETY: all tasks are done; tiles touch their own columns.
                    let (a, b) =
                        unsafe { (shared.slice(at(part), out.len()), shared.slice(at(part + gap), out.len())) };
                    a.iter_mut().zip(b).for_each(|(a, b)| *a = J::join(*a, *b));
                }
                gap *= 2;
            }
            // SAFETY: as above.
            let first = unsafe { shared.slice(start, out.len()) };
            out.iter_mut().zip(first).for_each(|(o, x)| *o = T::store(*x));
        });
    });
}

/// Some rows of a stretch of columns.
struct Stretch<'a, T: Stored, J> {
    source: &'a [T],
    walk: &'a Walk,
    rows: std::ops::Range<usize>,
    sums: &'a mut [T::Number],
    join: PhantomData<J>,
}

impl<T: Stored, J: Join> Loop for Stretch<'_, T, J> {
    type Output = ();
    #[inline(always)]
    fn run<A: Arch>(self) {
        let width = self.sums.len();
        let mut stack = [[J::identity::<T::Number>(); COLUMNS]; 2];
        // Two levels of blocks below the running total: rows into a block, blocks into a block of blocks.
        self.sums.fill(J::identity());
        let [inner, outer] = &mut stack;
        let (mut in_inner, mut in_outer) = (0, 0);
        let base = self.source.as_ptr();
        let left = self.rows.len();
        self.walk.runs(self.rows.start, left, |mut position, step, count| {
            for _ in 0..count {
                // SAFETY: the layout was checked; the columns lie side by side.
                let row = unsafe { std::slice::from_raw_parts(base.offset(position), width) };
                position += step;
                for (sum, x) in inner[..width].iter_mut().zip(row) {
                    *sum = J::join(*sum, x.load());
                }
                in_inner += 1;
                if in_inner == ROWS {
                    fold::<_, J>(&mut outer[..width], &mut inner[..width]);
                    (in_inner, in_outer) = (0, in_outer + 1);
                    if in_outer == ROWS {
                        fold::<_, J>(self.sums, &mut outer[..width]);
                        in_outer = 0;
                    }
                }
            }
        });
        fold::<_, J>(&mut outer[..width], &mut inner[..width]);
        fold::<_, J>(self.sums, &mut outer[..width]);
    }
}

/// Joins `from` into `into`, and makes it new.
#[inline(always)]
fn fold<N: Number, J: Join>(into: &mut [N], from: &mut [N]) {
    for (a, b) in into.iter_mut().zip(from) {
        *a = J::join(*a, *b);
        *b = J::identity();
    }
}

#[cfg(test)]
mod tests;
