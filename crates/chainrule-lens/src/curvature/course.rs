//! Sharpness along a training: the largest eigenvalue of one loss at the weights of several steps.

use chainrule::tensor::Tensor;
use chainrule::tree::Tree;
use serde::Serialize;

use super::{Curvature, Eigenvalue};
use crate::place::Number;

/// How sharp the loss is after so many steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SharpnessPoint {
    /// Steps taken.
    pub step: u64,
    /// The loss.
    pub loss: Number,
    /// The largest eigenvalue of its Hessian; none where the loss is not finite.
    pub largest: Option<Eigenvalue>,
    /// The learning rate of the step that comes, if it is known.
    pub rate: Option<f64>,
    /// 2 / rate: plain descent with this rate is stable while no eigenvalue is above it.
    pub limit: Option<f64>,
}

/// Largest eigenvalues along a training: of each point its step, the model, and the learning rate if it is known. The
/// Hessian's product is compiled once.
///
/// Cohen et al. 2021 saw that descent without momentum makes the largest eigenvalue grow until it stands at 2/rate.
///
/// # Panics
/// As [`Curvature::new`]; if the models differ in form.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::curvature::sharpness_course;
/// // x⁴ has the second derivative 12x².
/// let points = [(0, Tensor::from([2.0f32])), (10, Tensor::from([1.0f32]))].map(|(step, x)| (step, x, Some(0.1)));
/// let course = sharpness_course(|x: &Tensor| x.square().square().sum(..), points, 0);
/// let largest: Vec<f64> = course.iter().map(|point| point.largest.unwrap().value.round()).collect();
/// assert_eq!((largest, course[0].limit), (vec![48.0, 12.0], Some(20.0)));
/// ```
#[track_caller]
pub fn sharpness_course<T: Tree>(
    loss: impl Fn(&T) -> Tensor,
    points: impl IntoIterator<Item = (u64, T, Option<f64>)>,
    seed: u64,
) -> Vec<SharpnessPoint> {
    let mut curvature: Option<Curvature> = None;
    let mut course = Vec::new();
    for (step, x, rate) in points {
        let curvature = match &mut curvature {
            Some(curvature) => {
                curvature.move_to(&x);
                curvature
            }
            None => curvature.insert(Curvature::new(&loss, &x).with_seed(seed)),
        };
        let finite = curvature.value.is_finite() && curvature.slope.iter().all(|slope| slope.is_finite());
        course.push(SharpnessPoint {
            step,
            loss: Number(curvature.value),
            largest: finite.then(|| curvature.eigenvalues(1).largest.first().copied()).flatten(),
            rate,
            limit: rate.filter(|rate| *rate > 0.0).map(|rate| 2.0 / rate),
        });
    }
    course
}
