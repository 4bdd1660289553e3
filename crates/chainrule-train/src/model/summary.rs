//! What a network costs before anything is computed: parameters, operations, activations, and the memory of a step.
//!
//! All of it is read off programs that are written and laid out and never run: neither weights nor data need to exist.

use chainrule::optimize::optimize;
use chainrule::plan::{Plan, PlanOptions};
use chainrule::program::{Program, capture};
use chainrule::tensor::{Key, Tensor, Type};
use chainrule::tree::{self, Role, Tree};
use chainrule_nn::context::Context;
use chainrule_nn::optimizer::AnyOptimizer;
use serde::Serialize;

use super::build::{Row, placeholder};
use super::form::batched;
use super::module::{Network, Pass};
use super::source::ModelError;
use super::spec::Spec;
use crate::data::{Batch, ExampleType};
use crate::task::{Fit, Task};

/// Bytes of a process that trains nothing large: its code, its threads, its programs. Measured.
const PROCESS: usize = 12 << 20;

/// One layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its path, that of its parameters.
    pub path: String,
    /// Its kind, as in the file.
    pub kind: &'static str,
    /// Whether its layers follow as lines of their own; its numbers are theirs together.
    pub container: bool,
    /// What comes out of one example.
    pub output: Vec<usize>,
    /// Numbers that are trained.
    pub parameters: usize,
    /// Floating-point operations of a forward pass over a batch.
    pub flops: u64,
    /// Bytes that come out for a batch.
    pub activation_bytes: usize,
}

/// Bytes that a training needs while it runs, before the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Parameters and what the network carries beside them.
    pub network: usize,
    /// What optimizers keep, and averages of the network.
    pub optimizer: usize,
    /// The examples of a step.
    pub batch: usize,
    /// All gradients, as if they were kept together; they are part of `step`.
    pub gradients: usize,
    /// Intermediate values of a step, activations and gradients among them, as they are laid out.
    pub step: usize,
    /// Intermediate values of an evaluation.
    pub evaluation: usize,
    /// The process itself, and what kernels keep on this machine's processors for operands that they rewrite.
    pub process: usize,
    /// All but `gradients`: what is taken in the end.
    pub total: usize,
}

/// A network with its costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The layers, blocks before what is in them.
    pub layers: Vec<Line>,
    /// Examples of a batch.
    pub batch: usize,
    /// Numbers that are trained.
    pub parameters: usize,
    /// Numbers that are carried and not trained.
    pub state: usize,
    /// Floating-point operations of a forward pass over a batch.
    pub flops: u64,
    /// Floating-point operations of a training step.
    pub step_flops: u64,
    /// Bytes that come out of all layers for a batch.
    pub activation_bytes: usize,
    /// The memory of a training.
    pub memory: Memory,
}

impl Spec {
    /// What the network costs, for data of this form. Nothing is computed, and no memory taken for weights.
    ///
    /// # Errors
    /// As [`Spec::build`].
    pub fn summary(&self, example: &ExampleType) -> Result<Summary, ModelError> {
        let (network, rows) = self.build_rows(example, &Key::new(0))?;
        let layers: Vec<Line> = rows.iter().map(line).collect();
        let plain = || layers.iter().filter(|line| !line.container);
        let (flops, activation_bytes) =
            (plain().map(|line| line.flops).sum(), plain().map(|line| line.activation_bytes).sum());
        let leaves = tree::named_leaves(&network);
        let state = leaves.iter().filter(|leaf| leaf.1 == Role::State).map(|leaf| leaf.2.numel()).sum();
        let parameters = tree::parameter_count(&network);
        let (step_flops, memory) = match network.form() {
            super::Form::Gan => {
                let start = self.gan_start(&network, 1000)?;
                self.laid_out(&self.gan(), start, &network, example)
            }
            _ => {
                let (task, optimizer) = (self.task(1000), self.optimizer(&network, 1000)?);
                let start: Fit<Network, AnyOptimizer<Network>> = task.start(network.clone(), optimizer);
                self.laid_out(&task, start, &network, example)
            }
        };
        let batch = self.train().batch;
        Ok(Summary { layers, batch, parameters, state, flops, step_flops, activation_bytes, memory })
    }

    /// The program of one training step, optimised, for data of this form. Its inputs are named `0.…` for what is trained and
    /// its optimizer (`0.model.hidden.weight`, `0.optimizer.…`), `1.…` for the batch.
    ///
    /// # Errors
    /// As [`Spec::build`].
    pub fn step_program(&self, example: &ExampleType) -> Result<Program, ModelError> {
        let (network, _) = self.build_rows(example, &Key::new(0))?;
        Ok(match network.form() {
            super::Form::Gan => self.written(&self.gan(), &self.gan_start(&network, 1000)?, example),
            _ => {
                let (task, optimizer) = (self.task(1000), self.optimizer(&network, 1000)?);
                let start: Fit<Network, AnyOptimizer<Network>> = task.start(network, optimizer);
                self.written(&task, &start, example)
            }
        })
    }

    fn written<T: Task>(&self, task: &T, start: &T::State, example: &ExampleType) -> Program {
        let batch = Spec::batch_of(example, self.train().batch.saturating_mul(self.batches_a_step()));
        let given = (tree::map(start, |leaf| placeholder(leaf.ty())), batch, Key(placeholder(Key::new(0).0.ty())));
        let after = task.step(&given.0, &given.1, &given.2);
        let inputs: Vec<(String, Tensor)> =
            tree::named_leaves(&given).into_iter().map(|(name, _, leaf)| (name, leaf)).collect();
        named_program(&inputs, &tree::leaves(&after))
    }

    /// So many examples that are not known.
    fn batch_of(example: &ExampleType, examples: usize) -> Batch {
        let types = |types: &[Type]| types.iter().map(|ty| placeholder(&batched(ty, examples))).collect();
        Batch { inputs: types(&example.inputs), targets: types(&example.targets) }
    }

    /// The step of a training and its evaluation, written and laid out.
    fn laid_out<T: Task>(&self, task: &T, start: T::State, network: &Network, example: &ExampleType) -> (u64, Memory) {
        let batch = Spec::batch_of(example, self.train().batch.saturating_mul(self.batches_a_step()));
        let looked_at = Spec::batch_of(example, self.train().batch);
        let sizes = [bytes(network), bytes(&start).saturating_sub(bytes(network)), bytes(&batch)];
        let leaves = tree::named_leaves(network);
        let parameters = leaves.iter().filter(|leaf| leaf.1 == Role::Parameter);
        let gradients = parameters.map(|leaf| leaf.2.ty().bytes()).sum();
        let state = tree::map(&start, |leaf| placeholder(leaf.ty()));
        let evaluated = task.evaluate(&state, &looked_at);
        let step = self.written(task, &start, example);
        let evaluation = program(&[tree::leaves(&state), tree::leaves(&looked_at)].concat(), &tree::leaves(&evaluated));
        let (step_plan, evaluation_plan) = (laid(&step), laid(&evaluation));
        let taken = |plan: &Plan| plan.arena_bytes() + plan.result_bytes();
        let [network, optimizer, batch] = sizes;
        let (step_bytes, evaluation) = (taken(&step_plan), taken(&evaluation_plan));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let process = PROCESS + threads * step_plan.working_bytes().max(evaluation_plan.working_bytes());
        let total = network + optimizer + batch + step_bytes + evaluation + process;
        let memory = Memory { network, optimizer, batch, gradients, step: step_bytes, evaluation, process, total };
        (step.flops(), memory)
    }
}

fn line(row: &Row) -> Line {
    Line {
        path: row.path.clone(),
        kind: row.kind,
        container: row.container,
        output: row.output.shape[1..].to_vec(),
        parameters: tree::parameter_count(&row.module),
        flops: flops(row),
        activation_bytes: row.output.bytes(),
    }
}

fn bytes<T: Tree>(tree: &T) -> usize {
    tree::leaves(tree).iter().map(|leaf| leaf.ty().bytes()).sum()
}

/// Operations of one layer's forward pass, its weights given.
fn flops(row: &Row) -> u64 {
    let mut module = tree::map(&row.module, |leaf| placeholder(leaf.ty()));
    let weights = tree::leaves(&module);
    let (x, memory) = (placeholder(&row.input), row.memory.as_ref().map(placeholder));
    let shared: Vec<(String, Tensor)> =
        row.shared.iter().map(|(name, weight)| (name.clone(), placeholder(weight.ty()))).collect();
    let mut context = Context::evaluation();
    let values: Vec<(String, Tensor)> = row.values.iter().map(|(name, ty)| (name.clone(), placeholder(ty))).collect();
    let mut pass =
        Pass { memory: memory.clone(), shared: shared.clone(), values: values.clone(), ..Pass::new(&mut context) };
    let y = module.forward(&x, &mut pass);
    let given =
        weights.into_iter().chain([x]).chain(memory).chain(shared.into_iter().chain(values).map(|named| named.1));
    let inputs: Vec<(String, Tensor)> = given.map(|input| (String::new(), input)).collect();
    capture("layer", &inputs, &[y]).map_or(0, |program| optimize(program).flops())
}

/// What is done from all leaves of one tree to those of another.
fn program(inputs: &[Tensor], outputs: &[Tensor]) -> Program {
    let named: Vec<(String, Tensor)> = inputs.iter().map(|input| (String::new(), input.clone())).collect();
    named_program(&named, outputs)
}

fn named_program(inputs: &[(String, Tensor)], outputs: &[Tensor]) -> Program {
    match capture("step", inputs, outputs) {
        Ok(program) => optimize(program),
        Err(error) => panic!("summary: {error}"),
    }
}

fn laid(program: &Program) -> Plan {
    Plan::new(program, PlanOptions::with_state())
}
