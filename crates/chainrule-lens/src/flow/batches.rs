//! Several batches observed together: what one batch shows by chance, all of them do not.
//!
//! Every number is the mean over the batches, lengths as root mean squares; a unit counts as dead in the share of the
//! batch where fewest are. Largest singular values are of the first batch. The gradients of the batches give the noise
//! scale, and the same examples in mixed batches show whether an example's loss depends on those beside it.

use super::{Companions, FlowOptions, GradientFlow, NoiseScale, Observation, parameters_of};
use crate::curvature::Curvature;
use crate::lift::{converted, lift};
use crate::place::{Number, numbers};
use chainrule::differentiate::{Unreached, gradient};
use chainrule::execute::eval_all;
use chainrule::program::capture;
use chainrule::tensor::{DType, Tensor, concat};
use chainrule::tree::{self, Tree};

impl GradientFlow {
    /// Observes the loss of a model over several batches. The examples of a batch lie along axis 0 of its tensors.
    ///
    /// # Panics
    /// As [`GradientFlow::observe`], or if there is no batch.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_lens::{FlowOptions, GradientFlow};
    /// use chainrule_nn::prelude::*;
    /// let model = Mlp::new(&Key::new(1), &[8, 16, 3]);
    /// let batch = |i: u64| (Key::new(i).normal([32, 8], DType::F32).eval(), Tensor::ones([32], DType::I64));
    /// let batches = [2, 3, 4, 5].map(batch);
    /// let loss = |m: &Mlp, (x, y): &(Tensor, Tensor)| m.forward(x).cross_entropy(y);
    /// let flow = GradientFlow::observe_batches(&FlowOptions::default(), loss, &model, &batches);
    /// assert!(flow.batches == 4 && flow.noise.unwrap().noise > 0.0);
    /// // Examples do not look at each other.
    /// let companions = flow.companions.unwrap();
    /// assert!((companions.together.0 - companions.mixed.0).abs() < 1e-5);
    /// ```
    #[track_caller]
    pub fn observe_batches<T: Tree, B: Tree>(
        options: &FlowOptions,
        loss: impl Fn(&T, &B) -> Tensor,
        model: &T,
        batches: &[B],
    ) -> GradientFlow {
        assert!(!batches.is_empty(), "observe_batches: no batch");
        let model = tree::rebuild(model, &eval_all(&tree::leaves(model)));
        let short = FlowOptions { iterations: options.iterations.min(1), ..options.clone() };
        let mut sums = Gradients::default();
        let mut observed: Vec<(Observation, Vec<Vec<f64>>)> = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let options = if number == 0 { options } else { &short };
            let (observation, mut asked, slopes) = Observation::traced(options, |model| loss(model, batch), &model);
            let count = asked.len();
            asked.extend(slopes);
            let got = eval_all(&asked);
            sums.add(&got[count..]);
            observed.push((observation, got[..count].iter().map(numbers).collect()));
        }
        let (first, together) = combined(observed);
        let mut flow = first.read(options, &together);
        flow.batches = batches.len();
        if batches.len() > 1 && flow.loss.0.is_finite() {
            let examples = tree::leaves(&batches[0]).first().map_or(1, |x| x.shape().first().copied().unwrap_or(1));
            flow.noise = Some(sums.noise(batches.len(), examples));
            flow.companions = companions(|batch| loss(&model, batch), flow.loss, batches);
        }
        let small = flow.layers.iter().any(|layer| matches!(layer.dtype.as_str(), "f16" | "bf16"));
        if small && options.loss_scale == 1.0 {
            let errors = errors(|model| loss(model, &batches[0]), &model);
            flow.parameters.iter_mut().zip(errors).for_each(|(parameter, error)| parameter.error = error.map(Number));
        }
        if options.curvature && flow.loss.0.is_finite() {
            let mut curvature = Curvature::new(|model: &T| loss(model, &batches[0]), &model);
            flow.largest_eigenvalue = curvature.eigenvalues(1).largest.first().map(|e| e.value);
        }
        flow
    }
}

/// The mean of what was found of each batch.
#[track_caller]
fn combined(mut observed: Vec<(Observation, Vec<Vec<f64>>)>) -> (Observation, Vec<Vec<f64>>) {
    let (first, mut together) = observed.remove(0);
    let count = (observed.len() + 1) as f64;
    let least = first.least();
    let single = first.of_one_batch();
    for (_, other) in &observed {
        assert!(other.len() == together.len(), "observe_batches: the loss has another form for another batch");
        for (at, (sum, other)) in together.iter_mut().zip(other).enumerate() {
            for (sum, other) in sum.iter_mut().zip(other) {
                match (single.contains(&at), least.contains(&at)) {
                    (true, _) => {}
                    (_, true) => *sum = sum.min(*other),
                    _ => *sum += other,
                }
            }
        }
    }
    for (at, sum) in together.iter_mut().enumerate() {
        if !single.contains(&at) && !least.contains(&at) {
            sum.iter_mut().for_each(|x| *x /= count);
        }
    }
    (first, together)
}

/// Sums over batches, for the noise scale.
#[derive(Default)]
struct Gradients {
    squares: f64,
    sum: Vec<Tensor>,
}

impl Gradients {
    fn add(&mut self, slopes: &[Tensor]) {
        let wide: Vec<Tensor> = slopes.iter().map(|g| g.cast(DType::F64)).collect();
        self.squares += square(&wide);
        self.sum = match self.sum.is_empty() {
            true => eval_all(&wide),
            false => eval_all(&self.sum.iter().zip(&wide).map(|(sum, g)| sum + g).collect::<Vec<_>>()),
        };
    }

    fn noise(&self, batches: usize, examples: usize) -> NoiseScale {
        let k = batches as f64;
        NoiseScale::of_batches(batches, examples, self.squares / k, square(&self.sum) / (k * k))
    }
}

fn square(leaves: &[Tensor]) -> f64 {
    leaves.iter().map(|g| g.square().sum(..)).reduce(|a, b| a + b).map_or(0.0, |sum| sum.to_f64())
}

/// A batch of rows that a function picks, each by batch and row. None if batches differ in form.
fn picked<B: Tree>(batches: &[B], pick: impl Fn(usize) -> (usize, usize)) -> Option<B> {
    let leaves: Vec<Vec<Tensor>> = batches.iter().map(tree::leaves).collect();
    let rows = *leaves[0].first()?.shape().first()?;
    let alike = |other: &Vec<Tensor>| other.iter().map(Tensor::ty).eq(leaves[0].iter().map(Tensor::ty));
    if rows < 2 || !leaves.iter().all(alike) {
        return None;
    }
    let index: Vec<i64> = (0..rows).map(pick).map(|(batch, row)| (batch * rows + row) as i64).collect();
    let index = Tensor::from_vec(index, [rows]);
    let one = |at: usize| match leaves[0][at].shape().first() {
        Some(&size) if size == rows => {
            let all: Vec<Tensor> = leaves.iter().map(|leaves| leaves[at].clone()).collect();
            concat(&all, 0).gather(&index, 0)
        }
        _ => leaves[0][at].clone(),
    };
    Some(tree::rebuild(&batches[0], &eval_all(&(0..leaves[0].len()).map(one).collect::<Vec<_>>())))
}

/// Row j of the k-th mixed batch is row j of batch k + j. Beside halves of its own batch an example sees what its batch is
/// like, and no more chance than beside other batches: what is lost among those and not here was told by the batch.
fn companions<B: Tree>(loss: impl Fn(&B) -> Tensor, together: Number, batches: &[B]) -> Option<Companions> {
    let count = batches.len();
    let rows = *tree::leaves(&batches[0]).first()?.shape().first()?;
    let half = (rows / 2).max(1);
    let look = |pick: &dyn Fn(usize, usize) -> (usize, usize)| -> Option<Vec<f64>> {
        (0..count).map(|k| Some(loss(&picked(batches, |row| pick(k, row))?).to_f64())).collect()
    };
    let mixed = look(&|k, row| ((k + row) % count, row))?;
    let [low, high] = [0, rows - half].map(|start| look(&|k, row| (k, start + row % half)));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let variance = mixed.iter().map(|x| (x - mean(&mixed)).powi(2)).sum::<f64>() / (count as f64 - 1.0);
    Some(Companions {
        together,
        halves: Number(mean(&[low?, high?].concat())),
        mixed: Number(mean(&mixed)),
        error: Number((variance / count as f64).sqrt()),
    })
}

/// How far the gradient of each parameter is from that in double precision; none where that is nothing, or an operation is
/// not there in double precision.
fn errors<T: Tree>(loss: impl Fn(&T) -> Tensor, model: &T) -> Vec<Option<f64>> {
    let Ok((_, (), slopes)) = gradient(|m| (loss(m), ()), model, Unreached::Zeros) else { return Vec::new() };
    let slopes: Vec<Tensor> = parameters_of(&slopes).collect();
    let inputs: Vec<(String, Tensor)> = tree::named_leaves(model).into_iter().map(|leaf| (leaf.0, leaf.2)).collect();
    let Ok(program) = capture("gradient", &inputs, &slopes) else { return Vec::new() };
    let wide: Vec<Tensor> = inputs.iter().map(|(_, x)| converted(x, Some(DType::F64))).collect();
    let Ok(exact) = lift(&program, &wide, Some(DType::F64)) else { return Vec::new() };
    let (low, high) = (eval_all(&slopes), eval_all(&exact));
    let one = |(low, high): (&Tensor, &Tensor)| {
        let (low, high) = (numbers(low), numbers(high));
        let size = high.iter().map(|x| x * x).sum::<f64>().sqrt();
        let error = low.iter().zip(&high).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        (size > 0.0 && size.is_finite()).then(|| error / size)
    };
    low.iter().zip(&high).map(one).collect()
}
