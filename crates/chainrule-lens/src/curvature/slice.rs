//! Slices through the loss: its values along a line or over a plane around a point.

use crate::place::{Number, numbers};
use chainrule::execute::{compile, eval_all};
use chainrule::tensor::{Key, Tensor};
use chainrule::tree::{self, Role, Tree};
use serde::Serialize;

/// The loss over a plane, or along a line if `v` has one position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slice {
    /// Positions along the first direction.
    pub u: Vec<f64>,
    /// Positions along the second.
    pub v: Vec<f64>,
    /// The loss, one row for each position along the second direction.
    pub values: Vec<Vec<Number>>,
}

/// A random direction in which every filter (row of the first axis) has the length that the parameters' filter has, so
/// that slices of networks with other scales can be compared (Li et al. 2018). Vectors and scalars stay as they are.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::curvature::filter_direction;
/// let w = Tensor::from([[3.0, 4.0], [0.0, 1.0]]);
/// let d = filter_direction(&w, &Key::new(0));
/// let lengths = d.square().sum(1).sqrt().to_vec::<f64>();
/// assert!((lengths[0] - 5.0).abs() < 1e-12 && (lengths[1] - 1.0).abs() < 1e-12);
/// ```
pub fn filter_direction<T: Tree>(x: &T, key: &Key) -> T {
    let mut number = 0i64;
    tree::map_named(x, |_, role, leaf| {
        number += 1;
        if role == Role::State {
            return leaf.clone();
        }
        if leaf.rank() < 2 {
            return leaf.zeros_like();
        }
        let direction = key.fold(&Tensor::from(number)).normal(leaf.shape(), leaf.dtype());
        let rest: Vec<isize> = (1..leaf.rank() as isize).collect();
        let length = |t: &Tensor| t.square().sum_keepdims(&rest[..]).sqrt();
        &direction * (length(leaf) / length(&direction)).broadcast_to(leaf.shape())
    })
}

/// The loss at x + u·direction for `points` positions u from −extent to extent.
///
/// # Panics
/// If the function does not give one number, or the direction has another form.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::curvature::slice_line;
/// let slice = slice_line(|x: &Tensor| x.square().sum(..), &Tensor::from([1.0]), &Tensor::from([1.0]), 2.0, 5);
/// let values: Vec<f64> = slice.values[0].iter().map(|x| x.0).collect();
/// assert_eq!(values, [1.0, 0.0, 1.0, 4.0, 9.0]);
/// ```
#[track_caller]
pub fn slice_line<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T, direction: &T, extent: f64, points: usize) -> Slice {
    let u = positions(extent, points);
    Slice { values: sampled(f, x, [direction, direction], &u, &[0.0]), u, v: vec![0.0] }
}

/// The loss at x + u·first + v·second over a square of `points` × `points` positions.
///
/// # Panics
/// As [`slice_line`].
#[track_caller]
pub fn slice_plane<T: Tree>(
    f: impl Fn(&T) -> Tensor,
    x: &T,
    [first, second]: [&T; 2],
    extent: f64,
    points: usize,
) -> Slice {
    let u = positions(extent, points);
    Slice { values: sampled(f, x, [first, second], &u, &u), v: u.clone(), u }
}

fn positions(extent: f64, points: usize) -> Vec<f64> {
    let step = if points > 1 { 2.0 * extent / (points - 1) as f64 } else { 0.0 };
    (0..points).map(|i| i as f64 * step - if points > 1 { extent } else { 0.0 }).collect()
}

#[track_caller]
fn sampled<T: Tree>(f: impl Fn(&T) -> Tensor, x: &T, directions: [&T; 2], u: &[f64], v: &[f64]) -> Vec<Vec<Number>> {
    let [first, second] = directions.map(tree::leaves);
    let roles: Vec<Role> = tree::named_leaves(x).iter().map(|leaf| leaf.1).collect();
    let moved = |(leaves, u, v): &(Vec<Vec<Tensor>>, Tensor, Tensor)| {
        let leaf = |i: usize| match roles[i] {
            Role::State => leaves[0][i].clone(),
            Role::Parameter => {
                let part = |t: &Tensor, by: &Tensor| t * by.cast(t.dtype());
                &leaves[0][i] + part(&leaves[1][i], u) + part(&leaves[2][i], v)
            }
        };
        f(&tree::rebuild(x, &(0..roles.len()).map(leaf).collect::<Vec<_>>()))
    };
    let mut run = compile(moved);
    let all: Vec<Vec<Tensor>> = [tree::leaves(x), first, second].iter().map(|leaves| eval_all(leaves)).collect();
    let mut value = |u: f64, v: f64| match run.run((all.clone(), Tensor::from(u), Tensor::from(v))) {
        Ok(value) => Number(numbers(&value)[0]),
        Err(error) => panic!("slice: {error}"),
    };
    v.iter().map(|&v| u.iter().map(|&u| value(u, v)).collect()).collect()
}

/// Shades from the lowest to the highest loss; a line is drawn as a curve of bars.
impl std::fmt::Display for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let finite = || self.values.iter().flatten().map(|x| x.0).filter(|x| x.is_finite());
        let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let shades: &[char] = match self.v.len() {
            1 => &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            _ => &[' ', '·', ':', '+', '*', '#', '%', '@'],
        };
        // Losses span orders of magnitude: shades are equal steps of the logarithm above the lowest.
        let level =
            |x: f64| ((1.0 + (x - low) * 100.0 / (high - low).max(f64::MIN_POSITIVE)).ln() / 101f64.ln()).min(1.0);
        for row in self.values.iter().rev() {
            let shade = |x: &Number| match x.0.is_finite() {
                true => shades[(level(x.0) * (shades.len() - 1) as f64).round() as usize],
                false => '∞',
            };
            writeln!(f, "  {}", row.iter().map(shade).collect::<String>())?;
        }
        write!(f, "  from {} to {}", Number(low), Number(high))
    }
}
