//! Indexing: ranges, single places, index tensors, and the gather and scatter they are made of.

use super::{DType, Op, Scalar, ShapeError, Tensor};
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// What to take along one axis; see [`Tensor::at`].
#[derive(Clone, Debug)]
pub enum Index {
    /// One place; the axis goes.
    Place(i64),
    /// From start to stop (excluded) by steps, all as in Python: negative ones count from the end.
    Range(Option<i64>, Option<i64>, i64),
    /// The places an integer tensor names; its axes stand where the axis was.
    Places(Tensor),
    /// A new axis of size 1.
    New,
}

/// Marks a new axis of size 1 in [`Tensor::at`].
#[derive(Clone, Copy, Debug)]
pub struct NewAxis;

/// A range taken by steps, `step(1..9, 2)`; a negative step walks backwards from the start, as in Python.
pub fn step(range: impl Into<Index>, step: i64) -> Index {
    match range.into() {
        Index::Range(start, stop, _) => Index::Range(start, stop, step),
        other => panic!("step: of {other:?}; it takes a range"),
    }
}

impl From<RangeFull> for Index {
    fn from(_: RangeFull) -> Index {
        Index::Range(None, None, 1)
    }
}
impl From<NewAxis> for Index {
    fn from(_: NewAxis) -> Index {
        Index::New
    }
}
impl From<&Tensor> for Index {
    fn from(places: &Tensor) -> Index {
        Index::Places(places.clone())
    }
}
/// A place as i64; one too large for that is outside every axis.
fn number(place: impl TryInto<i64>) -> i64 {
    place.try_into().unwrap_or(i64::MAX)
}

/// The stop of a range that includes its end: none after the last place, which is −1.
fn after(end: i64) -> Option<i64> {
    end.checked_add(1).filter(|&stop| stop != 0)
}

macro_rules! index_from {
    ($($ty:ty),*) => {$(
        impl From<$ty> for Index {
            fn from(place: $ty) -> Index {
                Index::Place(number(place))
            }
        }
        impl From<Range<$ty>> for Index {
            fn from(range: Range<$ty>) -> Index {
                Index::Range(Some(number(range.start)), Some(number(range.end)), 1)
            }
        }
        impl From<RangeFrom<$ty>> for Index {
            fn from(range: RangeFrom<$ty>) -> Index {
                Index::Range(Some(number(range.start)), None, 1)
            }
        }
        impl From<RangeTo<$ty>> for Index {
            fn from(range: RangeTo<$ty>) -> Index {
                Index::Range(None, Some(number(range.end)), 1)
            }
        }
        impl From<RangeInclusive<$ty>> for Index {
            fn from(range: RangeInclusive<$ty>) -> Index {
                Index::Range(Some(number(*range.start())), after(number(*range.end())), 1)
            }
        }
        impl From<RangeToInclusive<$ty>> for Index {
            fn from(range: RangeToInclusive<$ty>) -> Index {
                Index::Range(None, after(number(range.end)), 1)
            }
        }
    )*};
}
index_from!(i32, i64, usize);

/// Indexes for the leading axes: one, or a tuple of up to six.
pub trait Indexes {
    /// The indexes in order.
    fn indexes(self) -> Vec<Index>;
}
impl<T: Into<Index>> Indexes for T {
    fn indexes(self) -> Vec<Index> {
        vec![self.into()]
    }
}
impl Indexes for Vec<Index> {
    fn indexes(self) -> Vec<Index> {
        self
    }
}
macro_rules! tuple_indexes {
    ($($($name:ident)*;)*) => {$(
        impl<$($name: Into<Index>),*> Indexes for ($($name,)*) {
            #[allow(non_snake_case)]
            fn indexes(self) -> Vec<Index> {
                let ($($name,)*) = self;
                vec![$($name.into()),*]
            }
        }
    )*};
}
tuple_indexes! { A B; A B C; A B C D; A B C D E; A B C D E F; }

impl Tensor {
    /// Takes places along the leading axes: numbers, ranges, [`step`]s, index tensors, [`NewAxis`].
    ///
    /// Several index tensors must stand side by side; they broadcast, and pick one element each (as in NumPy).
    ///
    /// # Panics
    /// If a place is outside its axis. Index tensors are checked when the program runs.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let x = Tensor::arange(12, DType::I64).reshape([3, 4]);
    /// assert_eq!(x.at((-1, 1..3)).to_vec::<i64>(), [9, 10]);
    /// assert_eq!(x.at((.., step(.., -2))).at(0).to_vec::<i64>(), [3, 1]);
    /// assert_eq!(x.at((&Tensor::from([2i64, 0]), 0)).to_vec::<i64>(), [8, 0]);
    /// ```
    #[track_caller]
    pub fn at(&self, indexes: impl Indexes) -> Tensor {
        match self.try_at(indexes) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`Tensor::at`] as a result.
    #[track_caller]
    pub fn try_at(&self, indexes: impl Indexes) -> Result<Tensor, ShapeError> {
        let indexes = indexes.indexes();
        let used = indexes.iter().filter(|index| !matches!(index, Index::New)).count();
        if used > self.rank() {
            return Err(ShapeError::new("at", format!("{used} indexes for {}", self.ty())));
        }
        let mut ranges: Vec<(usize, usize, usize)> = self.shape().iter().map(|&size| (0, 1, size)).collect();
        let mut flips: Vec<isize> = Vec::new();
        for (axis, index) in indexes.iter().filter(|index| !matches!(index, Index::New)).enumerate() {
            let size = self.shape()[axis] as i64;
            match *index {
                Index::Place(place) => {
                    let from_start = if place < 0 { place + size } else { place };
                    if from_start < 0 || from_start >= size {
                        return Err(ShapeError::new(
                            "at",
                            format!("place {place} of axis {axis} with {size} elements"),
                        ));
                    }
                    ranges[axis] = (from_start as usize, 1, 1);
                }
                Index::Range(start, stop, step) => {
                    if step == 0 {
                        return Err(ShapeError::new("at", "a step of 0"));
                    }
                    ranges[axis] = python_range(start, stop, step, size);
                    if step < 0 {
                        flips.push(axis as isize);
                    }
                }
                Index::Places(_) | Index::New => {}
            }
        }
        let cut = self.sliced(ranges).flip(&flips[..]);
        cut.place_axes(&indexes)
    }

    /// Second half of `at`: axes of single places go, index tensors gather, new axes appear.
    #[track_caller]
    fn place_axes(&self, indexes: &[Index]) -> Result<Tensor, ShapeError> {
        let mut tensor = self.clone();
        let mut axis = 0;
        let mut position = 0;
        while position < indexes.len() {
            match &indexes[position] {
                Index::Place(_) => tensor = tensor.squeeze(axis as isize),
                Index::New => {
                    tensor = tensor.unsqueeze(axis as isize);
                    axis += 1;
                }
                Index::Range(..) => axis += 1,
                Index::Places(_) => {
                    let run: Vec<&Tensor> = indexes[position..]
                        .iter()
                        .map_while(|index| if let Index::Places(places) = index { Some(places) } else { None })
                        .collect();
                    if indexes[position + run.len()..].iter().any(|index| matches!(index, Index::Places(_))) {
                        return Err(ShapeError::new(
                            "at",
                            "index tensors must stand side by side; permute the axes first",
                        ));
                    }
                    let (flat, places) = tensor.linear_places(axis, &run)?;
                    tensor = flat.try_gather(&places, axis as isize, 0)?;
                    axis += places.rank();
                    position += run.len() - 1;
                }
            }
            position += 1;
        }
        Ok(tensor)
    }

    /// Joins the axes that several index tensors pick from, and their indexes accordingly.
    #[track_caller]
    fn linear_places(&self, axis: usize, run: &[&Tensor]) -> Result<(Tensor, Tensor), ShapeError> {
        if let [places] = run {
            return Ok((self.clone(), (*places).clone()));
        }
        let mut linear: Option<(Tensor, Tensor)> = None;
        for (i, places) in run.iter().enumerate() {
            if !places.dtype().is_int() {
                return Err(ShapeError::new(
                    "at",
                    format!("an index tensor is {}; it must be an integer", places.dtype()),
                ));
            }
            let size = self.shape()[axis + i] as i64;
            let places = places.cast(DType::I64);
            let places = places.less(0i64).select(&(&places + size), &places);
            let inside = places.greater_equal(0i64).and(places.less(size));
            linear = Some(match linear {
                None => (places, inside),
                Some((so_far, all)) => {
                    let places = (so_far * size).try_binary(super::Binary::Add, &places)?;
                    (places, all.and(&inside))
                }
            });
        }
        let mut shape = super::Shape::from(self.shape());
        let joined: usize = shape.drain(axis..axis + run.len()).product();
        shape.insert(axis, joined);
        // A place outside its own axis must not become one of the next row: it is sent outside the joined axis.
        let (linear, inside) = linear.expect("a run has an index");
        Ok((self.reshape(shape), inside.select(&linear, joined)))
    }

    /// `out[b, pre, i, post] = x[b, pre, index[b, i], post]`: rows of an axis by integer indexes of any shape.
    ///
    /// The first `batch` axes of both are shared. Negative indexes count from the end; one outside is an error
    /// when the program runs.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// let x = Tensor::from([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.gather(&Tensor::from([1i64, 1]), 0).to_vec::<f64>(), [3.0, 4.0, 3.0, 4.0]);
    /// ```
    #[track_caller]
    pub fn gather(&self, index: &Tensor, axis: isize) -> Tensor {
        match self.try_gather(index, axis, 0) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`Tensor::gather`] with shared leading axes, as a result.
    #[track_caller]
    pub fn try_gather(&self, index: &Tensor, axis: isize, batch: usize) -> Result<Tensor, ShapeError> {
        let axis = super::shape::axis("gather", axis, self.rank())?;
        Tensor::try_apply(Op::Gather { axis, batch }, &[self.clone(), index.clone()])
    }

    /// `out[.., i, ..] = x[.., index[.., i, ..], ..]` where all other axes run along, as NumPy's take_along_axis.
    #[track_caller]
    pub fn take_along_axis(&self, index: &Tensor, axis: isize) -> Tensor {
        let axis = self.axis("take_along_axis", axis) as isize;
        let (x, index) = (self.move_axis(axis, -1), index.move_axis(axis, -1));
        match x.try_gather(&index, -1, x.rank() - 1) {
            Ok(taken) => taken.move_axis(-1, axis),
            Err(error) => panic!("{error}"),
        }
    }

    /// One element a row: `out[..] = x[.., index[..]]`.
    #[track_caller]
    pub fn pick(&self, index: &Tensor) -> Tensor {
        match self.try_gather(index, -1, self.rank().max(1) - 1) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// Zeros of `size` along the axis, to which these updates are added where the index says; the adjoint of
    /// [`Tensor::gather`].
    #[track_caller]
    pub fn scatter_add(&self, index: &Tensor, axis: isize, size: usize) -> Tensor {
        let rank = (self.rank() + 1).saturating_sub(index.rank());
        match super::shape::axis("scatter_add", axis, rank) {
            Ok(axis) => Tensor::apply(Op::ScatterAdd { axis, batch: 0, size }, &[index.clone(), self.clone()]),
            Err(error) => panic!("{error}"),
        }
    }

    /// 1 where the class is the integer, 0 elsewhere: [..] to [.., classes].
    #[track_caller]
    pub fn one_hot(&self, classes: usize, dtype: DType) -> Tensor {
        let class = Tensor::arange(classes, self.dtype());
        self.unsqueeze(-1).equal(&class).cast(dtype)
    }

    /// A value in the places where the mask is true.
    #[track_caller]
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Tensor {
        mask.select(&Tensor::constant(Scalar::Float(value), self.ty().clone()), self)
    }

    /// The adjoint of slicing: puts these elements at start, start + step, … of zeros.
    #[track_caller]
    pub(crate) fn unsliced(&self, ranges: &[(usize, usize, usize)], shape: &[usize]) -> Tensor {
        let amounts = ranges.iter().zip(shape).map(|(&(start, step, count), &size)| {
            let end = if count == 0 { 0 } else { start + (count - 1) * step + 1 };
            let low = if count == 0 { 0 } else { start };
            (low, size - end, if count == 0 { 0 } else { step - 1 })
        });
        self.padded(amounts.collect(), Scalar::Float(0.0))
    }
}

/// First place (ascending), step and count of Python's `start:stop:step`; a negative step is to be flipped.
fn python_range(start: Option<i64>, stop: Option<i64>, step: i64, size: i64) -> (usize, usize, usize) {
    let place = |p: i64, least: i64, most: i64| (if p < 0 { p + size } else { p }).clamp(least, most);
    let (first, last) = if step > 0 {
        (start.map_or(0, |p| place(p, 0, size)), stop.map_or(size, |p| place(p, 0, size)))
    } else {
        (start.map_or(size - 1, |p| place(p, -1, size - 1)), stop.map_or(-1, |p| place(p, -1, size - 1)))
    };
    let span = if step > 0 { last - first } else { first - last };
    let count = if span <= 0 { 0 } else { (span as u64 - 1) / step.unsigned_abs() + 1 } as i64;
    let low = match (count, step > 0) {
        (0, _) => 0,
        (_, true) => first,
        (_, false) => first + (count - 1) * step,
    };
    let step = if count > 1 { step.unsigned_abs() as usize } else { 1 };
    (low as usize, step, count as usize)
}
