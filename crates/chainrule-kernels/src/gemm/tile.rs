//! Tiles and panels: the inner loop of a product of matrices, and how its operands are laid out for it.
//!
//! The left operand comes in panels of up to `ROWS` rows, the right one in panels of two vectors of columns; both lie in
//! the order in which the loop reads them. Each sum runs over the depth in order, so its bits follow from the depth alone.

use super::Matrix;
use super::thin;
use crate::conv::by_inputs::{self, Line, Part};
use crate::element::Number;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Level, level};
use crate::vector::{Registers, Vector};

/// A product of a panel of rows and one of columns: depth, left, right, out, elements between rows of out, add to it.
pub(crate) type Tile<T> = unsafe fn(usize, *const T, *const T, *mut T, usize, bool);

/// Copies rows, or turns lines: see [`Vector`].
type CopyRows<T> = unsafe fn(*const T, isize, usize, usize, *mut T, usize);
type Turn<T> = unsafe fn(&[*const T], usize, *mut T, usize);
/// Source, runs as (place, length), a shift for each row, panel, pitch.
type Gather<T> = unsafe fn(*const T, &[(usize, usize)], &[usize], *mut T, usize);
/// Lines, their parts, products, sums.
type Fold<T> = unsafe fn(&[Line], &[Part], *const T, *mut T);

/// Most rows of a panel.
pub(crate) const MOST_ROWS: usize = 12;
/// Elements behind a panel that packing may overwrite.
pub(crate) const SLACK: usize = 32;

/// The loops for one number and one set of instructions.
pub(crate) struct Loops<T: 'static> {
    /// By rows minus one, for one and for two vectors of columns.
    tiles: [&'static [Tile<T>]; 2],
    pub(crate) copy_rows: CopyRows<T>,
    turn: Turn<T>,
    /// Row p of a panel is the runs one after another, each `shifts[p]` further on. Up to a vector behind each run is read,
    /// and behind the panel written.
    pub(crate) gather: Gather<T>,
    /// Adds what meets in the results of a convolution.
    pub(crate) fold: Fold<T>,
    /// Products with few rows on the left.
    pub(crate) rows_of: thin::Rows<T>,
    pub(crate) columns_of: thin::Columns<T>,
    pub(crate) lanes: usize,
    pub(crate) rows: usize,
}

impl<T: Number> Loops<T> {
    /// Columns of a panel.
    pub(crate) fn columns(&self) -> usize {
        2 * self.lanes
    }

    /// The pitch of a panel of this many columns: one vector or two.
    pub(crate) fn pitch(&self, columns: usize) -> usize {
        if columns <= self.lanes { self.lanes } else { 2 * self.lanes }
    }

    /// The tile of this many rows and a panel of this pitch.
    pub(crate) fn tile(&self, rows: usize, pitch: usize) -> Tile<T> {
        self.tiles[(pitch > self.lanes) as usize][rows - 1]
    }

    /// Lays out a panel: `to[p·pitch + i]` is the element at `i·lane + p·step` of `from`, for `i < width`, `p < depth`.
    ///
    /// # Safety
    /// The elements lie in valid memory, and [`SLACK`] elements after the panel may be overwritten.
    #[allow(clippy::too_many_arguments)]
    pub(crate) unsafe fn pack(
        &self,
        from: *const T,
        lane: isize,
        step: isize,
        width: usize,
        depth: usize,
        to: *mut T,
        pitch: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if lane == 1 || width == 1 {
                (self.copy_rows)(from, step, width, depth, to, pitch);
            } else if step == 1 || depth == 1 {
                let mut lines = [from; 2 * MOST_ROWS + 8];
                for (i, line) in lines.iter_mut().enumerate().take(width) {
                    *line = from.offset(i as isize * lane);
                }
                self.turn(&lines[..width], depth, to, pitch);
            } else {
                for p in 0..depth {
                    for i in 0..width {
                        *to.add(p * pitch + i) = *from.offset(i as isize * lane + p as isize * step);
                    }
                }
            }
        }
    }

    /// `to[p·pitch + i] = lines[i][p]` for `p < depth`.
    ///
    /// # Safety
    /// As for `pack`.
    pub(crate) unsafe fn turn(&self, lines: &[*const T], depth: usize, to: *mut T, pitch: usize) {
        let each = if lines.len() <= pitch && pitch <= MOST_ROWS { lines.len() } else { self.lanes };
        for (group, lines) in lines.chunks(each.max(1)).enumerate() {
            // SAFETY: the caller's promise; later groups lie behind what earlier ones overwrite.
            unsafe { (self.turn)(lines, depth, to.add(group * each), pitch) };
        }
    }
}

/// Numbers that matrices are multiplied in.
pub(crate) trait Looped: Registers {
    fn loops() -> &'static Loops<Self>;
}

/// The tile of `M` rows and `W` vectors of columns.
// Plain counted loops: these must unroll into registers, and iterators do not always.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const W: usize>(
    depth: usize,
    mut left: *const V::Number,
    mut right: *const V::Number,
    out: *mut V::Number,
    row: usize,
    accumulate: bool,
) {
    // SAFETY: panels hold `depth` rows, and out the whole tile.
    unsafe {
        let mut sums = [[V::zero(); W]; M];
        for _ in 0..depth {
            let mut columns = [V::zero(); W];
            for j in 0..W {
                columns[j] = V::load(right.add(j * V::LANES));
            }
            for i in 0..M {
                let x = V::splat(*left.add(i));
                for j in 0..W {
                    sums[i][j] = x.multiply_add(columns[j], sums[i][j]);
                }
            }
            left = left.add(M);
            right = right.add(W * V::LANES);
        }
        for i in 0..M {
            for j in 0..W {
                let place = out.add(i * row + j * V::LANES);
                let sum = if accumulate { V::load(place).add(sums[i][j]) } else { sums[i][j] };
                sum.store(place);
            }
        }
    }
}

#[inline(always)]
unsafe fn gathered<V: Vector>(
    from: *const V::Number,
    runs: &[(usize, usize)],
    shifts: &[usize],
    mut to: *mut V::Number,
    pitch: usize,
) {
    for &shift in shifts {
        let mut place = to;
        for &(start, len) in runs {
            // SAFETY: the caller's promise; what a run writes behind its end the next one overwrites.
            unsafe {
                let from = from.add(start + shift);
                let mut done = 0;
                while done < len {
                    V::load(from.add(done)).store(place.add(done));
                    done += V::LANES;
                }
                place = place.add(len);
            }
        }
        // SAFETY: panels are `pitch` wide.
        to = unsafe { to.add(pitch) };
    }
}

macro_rules! level_loops {
    ($module:ident, $vector:ident, [$($rows:literal)*], $vectors:literal, $side:literal, $(#[$features:meta])?) => {
        mod $module {
            use super::*;
            $(#[$features])?
            unsafe fn sized<T: Registers, const M: usize, const W: usize>(
                depth: usize,
                left: *const T,
                right: *const T,
                out: *mut T,
                row: usize,
                accumulate: bool,
            ) {
                unsafe { tile::<T::$vector, M, W>(depth, left, right, out, row, accumulate) }
            }
            $(#[$features])?
            unsafe fn copy_rows<T: Registers>(
                from: *const T,
                step: isize,
                width: usize,
                count: usize,
                to: *mut T,
                pitch: usize,
            ) {
                unsafe { T::$vector::copy_rows(from, step, width, count, to, pitch) }
            }
            $(#[$features])?
            unsafe fn turn<T: Registers>(from: &[*const T], count: usize, to: *mut T, pitch: usize) {
                unsafe { T::$vector::turn(from, count, to, pitch) }
            }
            $(#[$features])?
            unsafe fn gather<T: Registers>(
                from: *const T,
                runs: &[(usize, usize)],
                shifts: &[usize],
                to: *mut T,
                pitch: usize,
            ) {
                unsafe { gathered::<T::$vector>(from, runs, shifts, to, pitch) }
            }
            $(#[$features])?
            unsafe fn fold<T: Registers>(lines: &[Line], parts: &[Part], from: *const T, to: *mut T) {
                unsafe { by_inputs::fold::<T::$vector>(lines, parts, from, to) }
            }
            $(#[$features])?
            unsafe fn rows_of<T: Registers>(k: usize, n: usize, out: *mut T, lhs: *const T, step: isize, rhs: Matrix<T>) {
                unsafe { thin::rows::<T::$vector>(k, n, out, lhs, step, rhs) }
            }
            $(#[$features])?
            unsafe fn columns_of<T: Registers>(k: usize, n: usize, out: *mut T, lhs: *const T, rhs: Matrix<T>) {
                unsafe { thin::columns::<T::$vector, $vectors, $side>(k, n, out, lhs, rhs) }
            }
            pub(super) const fn loops<T: Registers>() -> Loops<T> {
                Loops {
                    tiles: [&[$(sized::<T, $rows, 1>),*], &[$(sized::<T, $rows, 2>),*]],
                    copy_rows: copy_rows::<T>,
                    turn: turn::<T>,
                    gather: gather::<T>,
                    fold: fold::<T>,
                    rows_of: rows_of::<T>,
                    columns_of: columns_of::<T>,
                    lanes: T::$vector::LANES,
                    rows: T::$vector::ROWS,
                }
            }
        }
    };
}
level_loops!(plain, Plain, [1 2 3 4], 4, 2,);
#[cfg(target_arch = "x86_64")]
level_loops!(avx2, Avx2, [1 2 3 4 5 6], 2, 4, #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt")]);
#[cfg(target_arch = "x86_64")]
level_loops!(
    avx512,
    Avx512,
    [1 2 3 4 5 6 7 8 9 10 11 12],
    1,
    8,
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c,bmi1,bmi2,popcnt,lzcnt")]
);

macro_rules! looped {
    ($($t:ty),*) => { $(impl Looped for $t {
        fn loops() -> &'static Loops<$t> {
            static PLAIN: Loops<$t> = plain::loops();
            #[cfg(target_arch = "x86_64")]
            {
                static AVX2: Loops<$t> = avx2::loops();
                static AVX512: Loops<$t> = avx512::loops();
                match level() {
                    Level::Avx512 => return &AVX512,
                    Level::Avx2 => return &AVX2,
                    Level::Plain => {}
                }
            }
            &PLAIN
        }
    })* };
}
looped!(f32, f64);

/// Whole numbers are seldom multiplied: one version of their loops is enough.
macro_rules! looped_plainly {
    ($($t:ty),*) => { $(impl Looped for $t {
        fn loops() -> &'static Loops<$t> {
            static PLAIN: Loops<$t> = plain::loops();
            &PLAIN
        }
    })* };
}
looped_plainly!(i32, i64, u8);
