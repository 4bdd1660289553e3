//! Watching a training: the gradient flow of its own steps, by a program that is compiled once.
//!
//! [`GradientFlow::observe`] records an expression and runs it; a training has thousands of steps of one form. Here the
//! same observation is traced once for a form of a batch and then only run: a forward and a backward pass, and a sum for
//! each number. No probes are sent; gains are those of the gradient itself. [`Pace`] says at which steps one can look
//! without the training becoming slower than it may, [`Warnings`] what of the verdicts is new, and [`FlowRecord`] is what
//! is kept of a look: a line of a log. Nothing here trains or writes files.

mod pace;
mod record;
mod warnings;

pub use pace::{Every, Pace};
pub use record::{FlowRecord, Warning, WatchedLayer};
pub use warnings::Warnings;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use chainrule::execute::{ExecuteError, compile};
use chainrule::tensor::{DType, Tensor};
use chainrule::tree::{self, Role, Tree};

use crate::flow::{FlowOptions, GradientFlow, Observation};
use crate::place::numbers;

/// How a watcher's program is run and what it is told of the training.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Steps are about as long as the learning rate in each element, as with Adam.
    pub adaptive: bool,
    /// Threads that run kernels; all if none are given.
    pub threads: Option<usize>,
    /// The most bytes that a look may take; activations are computed again to keep it.
    pub memory_budget: Option<usize>,
}

type Run<'a, M, D> = Box<dyn FnMut((M, M, D)) -> Result<Vec<Tensor>, ExecuteError> + 'a>;

/// Shapes of a batch's leaves, by which programs are told apart.
type Form = Vec<Vec<usize>>;

/// The gradient flow of steps of a training, each from the model before it, the model after it, and its data.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_lens::{FlowWatcher, WatchOptions};
/// use chainrule_nn::prelude::*;
/// let before = Mlp::new(&Key::new(1), &[8, 16, 3]);
/// let batch = (Key::new(2).normal([32, 8], DType::F32).eval(), Tensor::zeros([32], DType::I64));
/// let loss = |m: &Mlp, (x, y): &(Tensor, Tensor)| m.forward(x).cross_entropy(y);
/// let slope = grad(|m: &Mlp| loss(m, &batch), &before);
/// let after = zip_map(&before, &slope, |w, g| w - g * 0.1);
///
/// let mut watcher = FlowWatcher::new(WatchOptions::default(), loss);
/// let flow = watcher.observe(&before, &after, &batch, Some(0.1)).unwrap();
/// assert_eq!(flow.layers[1].path, "layers.1");
/// let weight = &flow.parameters[0];
/// let ratio = 0.1 * weight.gradient_norm.0 / weight.norm.0;
/// assert!((weight.update_ratio.unwrap() / ratio - 1.0).abs() < 1e-4);
/// assert!(flow.verdict().is_empty(), "{flow}");
/// ```
pub struct FlowWatcher<'a, M, D> {
    run: Run<'a, M, D>,
    traced: Rc<RefCell<HashMap<Form, Traced>>>,
    options: FlowOptions,
}

/// What was seen when a program was traced.
struct Traced {
    observation: Observation,
    /// Numbers of the observation; behind them come the squared lengths of the updates, one a parameter.
    asked: usize,
}

impl<'a, M: Tree + Clone + 'a, D: Tree + Clone + 'a> FlowWatcher<'a, M, D> {
    /// Of a loss of a model on data: that of the step, with the same random numbers. Nothing is computed yet.
    pub fn new(options: WatchOptions, loss: impl Fn(&M, &D) -> Tensor + 'a) -> FlowWatcher<'a, M, D> {
        let flow = FlowOptions { adaptive: options.adaptive, iterations: 0, ..FlowOptions::default() };
        let traced = Rc::new(RefCell::new(HashMap::new()));
        let (known, settings) = (traced.clone(), flow.clone());
        let mut compiled = compile(move |(before, after, data): &(M, M, D)| {
            let (observation, mut all) = Observation::of(&settings, |model| loss(model, data), before);
            let asked = all.len();
            all.extend(updates(before, after));
            known.borrow_mut().insert(form(data), Traced { observation, asked });
            all
        });
        if let Some(threads) = options.threads {
            compiled = compiled.threads(threads);
        }
        if let Some(bytes) = options.memory_budget {
            compiled = compiled.memory_budget(bytes);
        }
        FlowWatcher { run: Box::new(move |arguments| compiled.run(arguments)), traced, options: flow }
    }

    /// The flow in one step: of the model before it, with each parameter's update ratio as it really was, ‖w′ − w‖ / ‖w‖,
    /// and the learning rate of the step if there is one.
    ///
    /// # Errors
    /// If the memory budget cannot be met, or an index is outside its axis.
    ///
    /// # Panics
    /// As [`GradientFlow::observe`], the first time for a form of data.
    #[track_caller]
    pub fn observe(
        &mut self,
        before: &M,
        after: &M,
        data: &D,
        rate: Option<f64>,
    ) -> Result<GradientFlow, ExecuteError> {
        let form = form(data);
        let got = (self.run)((before.clone(), after.clone(), data.clone()))?;
        let got: Vec<Vec<f64>> = got.iter().map(numbers).collect();
        let traced = self.traced.borrow();
        let Traced { observation, asked } = &traced[&form];
        let options = FlowOptions { learning_rate: rate, ..self.options.clone() };
        let mut flow = observation.read(&options, &got[..*asked]);
        for (parameter, change) in flow.parameters.iter_mut().zip(&got[*asked..]) {
            let norm = parameter.norm.0;
            parameter.update_ratio = (norm > 0.0).then(|| change[0].sqrt() / norm);
        }
        Ok(flow)
    }
}

fn form<D: Tree>(data: &D) -> Form {
    tree::leaves(data).iter().map(|leaf| leaf.shape().to_vec()).collect()
}

/// The squared length of each parameter's update.
fn updates<M: Tree>(before: &M, after: &M) -> Vec<Tensor> {
    let pairs = tree::named_leaves(before).into_iter().zip(tree::leaves(after));
    let parameters = pairs.filter(|(leaf, _)| leaf.1 == Role::Parameter);
    parameters.map(|((_, _, before), after)| (after - before).cast(DType::F64).square().sum(..)).collect()
}
