//! Taking and putting places, against loops over plain vectors.
// Ranges here are Python's: they may walk backwards and count from the end.
#![allow(clippy::reversed_empty_ranges)]
use chainrule::execute::eval_all;
use chainrule::prelude::*;
use chainrule::tensor::Index;

fn ints(x: &Tensor) -> Vec<i64> {
    x.to_vec()
}

/// 0, 1, 2, … in a shape.
fn counted<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::arange(shape.iter().product(), DType::I64).reshape(shape)
}

/// The places of Python's `range(n)[start:stop:step]`, by its own words: i = start, start + step, … while before stop.
fn python(n: i64, start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<i64> {
    let inside = |p: i64, low: i64, high: i64| (if p < 0 { p + n } else { p }).clamp(low, high);
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let mut i = start.map_or(if step > 0 { 0 } else { n - 1 }, |p| inside(p, low, high));
    let end = stop.map_or(if step > 0 { n } else { -1 }, |p| inside(p, low, high));
    let mut places = Vec::new();
    while (step > 0 && i < end) || (step < 0 && i > end) {
        places.push(i);
        i += step;
    }
    places
}

#[test]
fn ranges_are_pythons() {
    let ends: Vec<Option<i64>> = std::iter::once(None).chain((-7..=7).map(Some)).collect();
    for n in 0..=5usize {
        let x = Tensor::arange(n, DType::I64).eval();
        let (mut taken, mut wanted) = (Vec::new(), Vec::new());
        for &start in &ends {
            for &stop in &ends {
                for by in [-7, -3, -2, -1, 1, 2, 3, 7] {
                    taken.push(x.at(Index::Range(start, stop, by)));
                    wanted.push((start, stop, by, python(n as i64, start, stop, by)));
                }
            }
        }
        for (got, (start, stop, by, want)) in eval_all(&taken).iter().zip(wanted) {
            assert_eq!(ints(got), want, "{n}: {start:?}..{stop:?} by {by}");
        }
    }
}

#[test]
fn every_spelling_of_a_range() {
    let x = counted([6]);
    assert_eq!(ints(&x.at(..)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(ints(&x.at(1..3)), [1, 2]);
    assert_eq!(ints(&x.at(-2..)), [4, 5]);
    assert_eq!(ints(&x.at(..-4)), [0, 1]);
    assert_eq!(ints(&x.at(1..=2)), [1, 2]);
    assert_eq!(ints(&x.at(..=1)), [0, 1]);
    assert_eq!(ints(&x.at(0usize..2usize)), [0, 1]);
    assert_eq!(ints(&x.at(step(.., -1))), [5, 4, 3, 2, 1, 0]);
    assert_eq!(ints(&x.at(step(4..1, -2))), [4, 2]);
    // As in Python -1 is the last place, also where a range includes its end.
    assert_eq!(ints(&x.at(2..=-1)), [2, 3, 4, 5]);
    assert_eq!(ints(&x.at(..=-2)), [0, 1, 2, 3, 4]);
    assert_eq!(ints(&x.at(-3..=-2)), [3, 4]);
    assert_eq!(ints(&x.at(i64::MIN..i64::MAX)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(ints(&x.at(step(.., i64::MIN))), [5]);
    assert_eq!(ints(&x.at(step(.., i64::MAX))), [0]);
    assert_eq!(x.at(9..).shape(), [0]);
}

#[test]
fn numbers_ranges_tensors_and_new_axes_together() {
    let x = counted([3, 4, 5]);
    let of = |i: i64, j: i64, k: i64| i * 20 + j * 5 + k;
    assert_eq!(x.at(1).shape(), [4, 5]);
    assert_eq!(ints(&x.at((-1, -1, -1))), [of(2, 3, 4)]);
    let y = x.at((.., 2, step(.., -2)));
    assert_eq!(
        (y.shape(), ints(&y)[..4].to_vec()),
        (&[3usize, 3][..], vec![of(0, 2, 4), of(0, 2, 2), of(0, 2, 0), of(1, 2, 4)])
    );
    assert_eq!(x.at((NewAxis, .., NewAxis, 1, NewAxis)).shape(), [1, 3, 1, 1, 5]);
    let i = Tensor::from([[2i64, 0], [-1, 1]]);
    let y = x.at((.., &i));
    assert_eq!(y.shape(), [3, 2, 2, 5]);
    assert_eq!(ints(&y.at((1, 0, 0))), (0..5).map(|k| of(1, 2, k)).collect::<Vec<_>>());
    assert_eq!(ints(&y.at((1, 1, 0))), (0..5).map(|k| of(1, 3, k)).collect::<Vec<_>>());
    // Two side by side broadcast and pick pairs.
    let (a, b) = (Tensor::from([[0i64], [2]]), Tensor::from([3i64, -1, 0]));
    let y = x.at((&a, &b, 4));
    assert_eq!(y.shape(), [2, 3]);
    assert_eq!(ints(&y), [of(0, 3, 4), of(0, 3, 4), of(0, 0, 4), of(2, 3, 4), of(2, 3, 4), of(2, 0, 4)]);
    let y = x.at((0, &b, &Tensor::from([0i64, -5, 4])));
    assert_eq!(ints(&y), [of(0, 3, 0), of(0, 3, 0), of(0, 0, 4)]);
    let y = x.at((&Tensor::from([1i32, -3]), &Tensor::from([1u8, 0]), &Tensor::from(2i64)));
    assert_eq!(ints(&y), [of(1, 1, 2), of(0, 0, 2)]);
    // An index of rank 0 takes the axis away; an empty one leaves it empty.
    assert_eq!(x.at(&Tensor::from(2i64)).shape(), [4, 5]);
    assert_eq!(x.at(&Tensor::zeros([0], DType::I64)).shape(), [0, 4, 5]);
    assert!(x.at(&Tensor::zeros([0], DType::I64)).to_vec::<i64>().is_empty());
}

#[test]
fn places_outside_are_errors() {
    let x = counted([3, 4]);
    for place in [3, -4, i64::MAX, i64::MIN] {
        assert!(x.try_at(place).is_err(), "{place}");
        assert!(x.gather(&Tensor::from([0, place]), 0).try_eval().is_err(), "{place}");
        let pair = (&Tensor::from([0, place]), &Tensor::from([0i64, 0]));
        assert!(x.at(pair).try_eval().is_err(), "{place} of two");
        // The second of two must not spill into the next row.
        let pair = (&Tensor::from([0i64, 0]), &Tensor::from([0, if place == 3 { 4 } else { place.wrapping_sub(1) }]));
        assert!(x.at(pair).try_eval().is_err(), "{place} of two, second");
        assert!(x.scatter_add(&Tensor::from([0, place, 0]), 0, 3).try_eval().is_err(), "{place}");
    }
    assert!(x.at(&Tensor::zeros([0], DType::I64)).try_eval().is_ok());
    // Any place of an empty axis is outside.
    assert!(Tensor::zeros([0], DType::F32).gather(&Tensor::from([0i64]), 0).try_eval().is_err());
}

#[test]
fn gathering_and_scattering() {
    let x = counted([2, 3, 4]);
    let i = Tensor::from([[2i64, 0], [1, -1]]);
    let y = x.gather(&i, 1);
    assert_eq!(y.shape(), [2, 2, 2, 4]);
    let want: Vec<i64> = (0..2)
        .flat_map(|b| [2, 0, 1, 2].into_iter().flat_map(move |p| (0..4).map(move |k| b * 12 + p * 4 + k)))
        .collect();
    assert_eq!(ints(&y), want);
    let y = x.try_gather(&i, 1, 1).unwrap();
    let rows = [[2, 0], [1, 2]];
    let want: Vec<i64> = (0..2)
        .flat_map(|b| rows[b].into_iter().flat_map(move |p| (0..4).map(move |k| b as i64 * 12 + p * 4 + k)))
        .collect();
    assert_eq!(ints(&y), want);
    let y = Tensor::from([[1i64, 2], [10, 20], [100, 200]]).scatter_add(&Tensor::from([1i64, -1, 1]), 0, 4);
    assert_eq!(ints(&y), [0, 0, 101, 202, 0, 0, 10, 20]);
    let y = Tensor::from([[1.0, 2.0], [10.0, 20.0]]).scatter_add(&Tensor::from([0i64, 0]), 1, 3);
    assert_eq!(y.to_vec::<f64>(), [3.0, 0.0, 0.0, 30.0, 0.0, 0.0]);
    let y = x.take_along_axis(&Tensor::from([[[0i64, 1, 2, 0]], [[2, 2, 2, 2]]]), 1);
    assert_eq!((y.shape(), ints(&y)), (&[2usize, 1, 4][..], vec![0, 5, 10, 3, 20, 21, 22, 23]));
    assert_eq!(ints(&x.pick(&Tensor::from([[0i64, 1, 2], [3, -1, -2]]))), [0, 5, 10, 15, 19, 22]);
}

#[test]
fn order() {
    let x = Tensor::from([[3.0, f64::NAN, 1.0, 2.0, 1.0], [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 5.0]]);
    assert_eq!(ints(&x.argsort(1, false)), [2, 4, 3, 0, 1, 3, 0, 1, 4, 2]);
    assert_eq!(ints(&x.argsort(1, true)), [0, 3, 2, 4, 1, 2, 4, 0, 1, 3]);
    assert_eq!(x.sort(1, false).at((0, ..4)).to_vec::<f64>(), [1.0, 1.0, 2.0, 3.0]);
    assert!(x.sort(1, true).at((0, 4)).item::<f64>().is_nan());
    let (values, places) = x.top_k(2);
    assert_eq!((values.to_vec::<f64>(), ints(&places)), (vec![3.0, 2.0, f64::INFINITY, 5.0], vec![0, 3, 2, 4]));
    let y = counted([3, 2]).flip(0);
    assert_eq!(ints(&y.sort(0, false)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(ints(&y.argsort(0, false)), [2, 2, 1, 1, 0, 0]);
    let ties = Tensor::from([[2i64, 7, 7, 1], [0, 0, -1, -1]]);
    assert_eq!(
        (ints(&ties.argmax(1)), ints(&ties.argmin(1)), ints(&ties.argmax(0))),
        (vec![1, 0], vec![3, 2], vec![0, 0, 0, 0])
    );
    assert_eq!(ints(&Key::new(3).permutation(50).sort(0, false)), (0..50).collect::<Vec<_>>());
    assert_eq!(ints(&counted([4]).cumsum(0)), [0, 1, 3, 6]);
    assert_eq!(ints(&counted([2, 2]).cumsum_reverse(0)), [2, 4, 2, 3]);
}

#[test]
fn masks_and_triangles() {
    assert_eq!(
        Tensor::from([1i64, 3, 0, -1]).one_hot(3, DType::F32).to_vec::<f32>(),
        [0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 0.]
    );
    let x = counted([3, 4]) + 1i64;
    assert_eq!(ints(&x.masked_fill(&x.greater(5i64), -1.0)), [1, 2, 3, 4, 5, -1, -1, -1, -1, -1, -1, -1]);
    let keep = |keep: fn(i64, i64) -> bool| {
        (0..3).flat_map(|i| (0..4).map(move |j| if keep(i, j) { i * 4 + j + 1 } else { 0 })).collect::<Vec<_>>()
    };
    assert_eq!(ints(&x.tril(0)), keep(|i, j| j <= i));
    assert_eq!(ints(&x.tril(1)), keep(|i, j| j <= i + 1));
    assert_eq!(ints(&x.tril(-1)), keep(|i, j| j < i));
    assert_eq!(ints(&x.triu(0)), keep(|i, j| j >= i));
    assert_eq!(ints(&x.triu(-1)), keep(|i, j| j >= i - 1));
    assert_eq!(ints(&x.triu(9)), [0; 12]);
    assert_eq!(ints(&x.diagonal()), [1, 6, 11]);
    assert_eq!(ints(&x.t().diagonal()), [1, 6, 11]);
    let batch = counted([2, 2, 2]);
    assert_eq!(ints(&batch.diagonal()), [0, 3, 4, 7]);
    // What the diagonal does not contain does not spoil it.
    let spoiled = Tensor::from([[1.0, f64::NAN], [f64::INFINITY, 2.0]]);
    assert_eq!(spoiled.diagonal().to_vec::<f64>(), [1.0, 2.0]);
    assert_eq!(Tensor::eye(2, DType::F32).to_vec::<f32>(), [1.0, 0.0, 0.0, 1.0]);
}

#[test]
fn cutting_and_joining() {
    let x = counted([2, 5]);
    let [a, b, c] = x.split(1, [1, 0, 4]);
    assert_eq!((ints(&a), b.shape(), ints(&c)), (vec![0, 5], &[2usize, 0][..], vec![1, 2, 3, 4, 6, 7, 8, 9]));
    assert_eq!(ints(&concat(&[&a, &b, &c], -1)), ints(&x));
    let [a, b] = x.chunk(0);
    assert_eq!(ints(&stack(&[&a, &b], 2)), [0, 5, 1, 6, 2, 7, 3, 8, 4, 9].to_vec());
    assert_eq!(stack(&[&a, &b], -1).shape(), [1, 5, 2]);
    assert_eq!(ints(&x.at(0).pad(&[(1, 2)], 9.0)), [9, 0, 1, 2, 3, 4, 9, 9]);
    assert_eq!(ints(&x.at((0, ..3)).pad_interior(&[(1, 0, 2)], 7.0)), [7, 0, 7, 7, 1, 7, 7, 2]);
    assert_eq!(ints(&x.flip(..)), (0..10).rev().collect::<Vec<_>>());
    assert_eq!(ints(&counted([4, 3]).windows(&[2], &[1], &[1]).at(0)), [0, 1, 1, 2]);
    assert_eq!(ints(&counted([7]).windows(&[2], &[2], &[3])), [0, 3, 2, 5]);
}

#[test]
fn rounding() {
    let x =
        [-2.5, -1.5, -0.5, -0.2, 0.0, 0.5, 0.7, 1.5, 2.5, 3.49, 4503599627370497.5, f64::INFINITY, f64::NEG_INFINITY];
    let t = Tensor::from(x);
    assert_eq!(t.round().to_vec::<f64>(), x.map(f64::round_ties_even));
    assert_eq!(t.floor().to_vec::<f64>(), x.map(f64::floor));
    assert_eq!(t.ceil().to_vec::<f64>(), x.map(f64::ceil));
    assert!(Tensor::from(f64::NAN).round().item::<f64>().is_nan());
    assert_eq!(t.cast(DType::I64).to_vec::<i64>(), x.map(|v| v as i64));
    assert_eq!(t.cast(DType::U8).to_vec::<u8>(), x.map(|v| v as u8));
    assert_eq!(t.cast(DType::Bool).to_vec::<bool>(), x.map(|v| v != 0.0));
}

#[test]
fn gradients_of_places() {
    let x = Tensor::from([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let g = |f: &dyn Fn(&Tensor) -> Tensor| grad(|x: &Tensor| f(x).square().sum(..) * 0.5, &x).to_vec::<f64>();
    assert_eq!(g(&|x| x.at((.., step(.., -2)))), [1.0, 0.0, 3.0, 4.0, 0.0, 6.0]);
    assert_eq!(g(&|x| x.at((&Tensor::from([1i64, 1]), &Tensor::from([0i64, 0])))), [0.0, 0.0, 0.0, 8.0, 0.0, 0.0]);
    assert_eq!(g(&|x| x.at((NewAxis, -1, 1..))), [0.0, 0.0, 0.0, 0.0, 5.0, 6.0]);
    assert_eq!(g(&|x| x.top_k(1).0), [0.0, 0.0, 3.0, 0.0, 0.0, 6.0]);
    assert_eq!(g(&|x| x.sort(1, true)), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(g(&|x| x.diagonal()), [1.0, 0.0, 0.0, 0.0, 5.0, 0.0]);
    assert_eq!(g(&|x| x.scatter_add(&Tensor::from([0i64, 0, 1]), 1, 2)), [3.0, 3.0, 3.0, 9.0, 9.0, 6.0]);
    assert_eq!(g(&|x| x.masked_fill(&x.greater(2.0), 100.0)), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
}
