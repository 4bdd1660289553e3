//! The machine: steps over arena, arguments, results and data.
//!
//! A step's outputs are taken out of their tables while it runs, so its operands can be borrowed beside them; the
//! arena checks that ranges are disjoint. What a loop or branch needs to run its body is kept from run to run.

use super::lists::Lists;
use super::profile::Timer;
use crate::plan::{Kernel, MemoryBudgetError, Operand, Place, Plan, Step};
use crate::tensor::{Origin, ScanDims};
use chainrule_kernels as kernels;
use chainrule_kernels::Panels;
use chainrule_kernels::buffer::{Arena, Buffer, Lease};
use chainrule_kernels::pool::Pool;
use chainrule_kernels::tape::{self, Laid};
use chainrule_kernels::view::{View, ViewMut};
use smallvec::SmallVec;
use std::sync::LazyLock;
use std::time::Instant;

/// A program could not be carried out with these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecuteError {
    /// A kernel met a value it cannot work with: an index outside its axis.
    Value {
        /// What was wrong.
        message: String,
        /// The user's line.
        origin: Box<str>,
    },
    /// The arguments are not those the program was made for.
    Arguments(String),
    /// The memory budget cannot be met.
    MemoryBudget(MemoryBudgetError),
}

impl ExecuteError {
    pub(super) fn value(message: String, origin: Origin) -> ExecuteError {
        ExecuteError::Value { message, origin: origin.to_string().into() }
    }
}

impl std::fmt::Display for ExecuteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ExecuteError::Value { message, origin } => write!(f, "{message} ({origin})"),
            ExecuteError::Arguments(message) => f.write_str(message),
            ExecuteError::MemoryBudget(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ExecuteError {}

/// Memory for running a plan, kept from run to run.
#[derive(Debug)]
pub(super) struct Scratch {
    arena: Arena,
    /// What each step reads and writes of the arena, in order.
    leases: Vec<Lease>,
    /// How the tape of each step that is one runs.
    laid: Vec<Option<Laid>>,
    /// For each step with a body, in order.
    inner: Vec<Inner>,
    /// For the body of a loop, by step: its weights as products read them, laid out before the loop.
    panels: Vec<Option<Panels>>,
    lists: Lists,
    /// Where times go while a profile is taken.
    timer: Option<Timer>,
    /// So little to do that handing it to other threads would take longer.
    small: bool,
}

/// Multiply-adds below which one thread does all: tens of microseconds.
const SMALL: u64 = 1 << 20;

#[derive(Debug)]
struct Inner {
    /// A loop's carries, before and after a step of it.
    carries: [Vec<Buffer>; 2],
    lists: Lists,
    bodies: SmallVec<[Box<Scratch>; 2]>,
}

impl Scratch {
    pub(super) fn new(plan: &Plan) -> Scratch {
        let inner = plan.steps.iter().filter_map(|step| match &step.kernel {
            Kernel::Scan(dims, body) => {
                let carried = || body.arguments[..dims.carries].iter().map(|ty| Buffer::zeroed(ty.bytes())).collect();
                let mut scratch = Scratch::new(body);
                scratch.panels.resize_with(body.steps.len(), || None);
                for (number, _) in body.weights(dims) {
                    let rhs = &body.steps[number].inputs[1];
                    scratch.panels[number] = Some(Panels::new(rhs.layout.shape(), rhs.dtype));
                }
                Some(Inner {
                    carries: [carried(), carried()],
                    lists: Lists::default(),
                    bodies: smallvec::smallvec![Box::new(scratch)],
                })
            }
            Kernel::Cond(yes, no) => Some(Inner {
                carries: Default::default(),
                lists: Lists::default(),
                bodies: smallvec::smallvec![Box::new(Scratch::new(yes)), Box::new(Scratch::new(no))],
            }),
            _ => None,
        });
        Scratch {
            arena: Arena::new(plan.arena),
            leases: plan.steps.iter().map(lease).collect(),
            laid: plan.steps.iter().map(laid).collect(),
            inner: inner.collect(),
            panels: Vec::new(),
            lists: Lists::default(),
            timer: None,
            small: plan.work() < SMALL,
        }
    }

    /// Bytes that are held, those of bodies too.
    pub(super) fn bytes(&self) -> usize {
        let carried = |inner: &Inner| inner.carries.iter().flatten().map(|carry| carry.bytes().len()).sum::<usize>();
        let bodies = |inner: &Inner| inner.bodies.iter().map(|body| body.bytes()).sum::<usize>();
        self.arena.len() + self.inner.iter().map(|inner| carried(inner) + bodies(inner)).sum::<usize>()
    }

    /// Measures the steps of the runs to come, those of bodies too; or stops to.
    pub(super) fn measure(&mut self, plan: &Plan, on: bool) {
        self.timer = on.then(|| Timer::new(plan.steps.len()));
        let bodies = plan.steps.iter().flat_map(|step| step.kernel.bodies());
        let inner = self.inner.iter_mut().flat_map(|inner| &mut inner.bodies);
        inner.zip(bodies).for_each(|(scratch, body)| scratch.measure(body, on));
    }

    pub(super) fn timer(&self) -> Option<&Timer> {
        self.timer.as_ref()
    }

    /// The memory of bodies, in the order of the plan.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &Scratch> {
        self.inner.iter().flat_map(|inner| inner.bodies.iter().map(|scratch| &**scratch))
    }
}

/// [`run`] on one of the pool's own threads, so that no kernel waits for a hand-over; or in this thread, if that is
/// done sooner. The bits of a result do not depend on it.
pub(super) fn run_on(
    pool: &Pool,
    plan: &Plan,
    arguments: &[&[u8]],
    results: &mut [&mut [u8]],
    scratch: &mut Scratch,
) -> Result<(), ExecuteError> {
    static ALONE: LazyLock<Pool> = LazyLock::new(|| Pool::new(1));
    if scratch.small {
        return run(&ALONE, plan, arguments, results, scratch);
    }
    pool.install(|| run(pool, plan, arguments, results, scratch))
}

/// Runs a plan. Donated arguments already lie in their results; their argument slices are not read.
fn run(
    pool: &Pool,
    plan: &Plan,
    arguments: &[&[u8]],
    results: &mut [&mut [u8]],
    scratch: &mut Scratch,
) -> Result<(), ExecuteError> {
    let Scratch { arena, leases, laid, inner, panels, lists, timer, .. } = scratch;
    let mut inner = inner.iter_mut();
    let mut taken = lists.taken.empty();
    for (number, (step, lease)) in plan.steps.iter().zip(&*leases).enumerate() {
        let start = timer.as_ref().map(|_| Instant::now());
        let inner = if has_body(&step.kernel) { inner.next() } else { None };
        // The outputs that are results leave the table while operands are borrowed from it.
        for output in &step.outputs {
            if let Place::Result(i) = output.place {
                taken.push(std::mem::take(&mut results[i]));
            }
        }
        let outcome = {
            let mut lent = arena.lend(lease);
            let mut from_table = taken.iter_mut();
            let mut outputs = lists.outputs.empty();
            for output in &step.outputs {
                outputs.push(match &output.place {
                    Place::Arena(_) => lent.write(),
                    _ => from_table.next().expect("one a result"),
                });
            }
            let (mut inputs, mut read) = (lists.inputs.empty(), 0);
            for (i, input) in step.inputs.iter().enumerate() {
                inputs.push(match &input.place {
                    _ if in_place(step, i).is_some() => &[],
                    Place::Arena(_) => {
                        read += 1;
                        lent.read(read - 1)
                    }
                    Place::Argument(i) => arguments[*i],
                    Place::Result(i) => &*results[*i],
                    Place::Data(i) => plan.data[*i].bytes(),
                });
            }
            let kept = Kept { laid: laid[number].as_ref(), panels: panels.get(number).and_then(Option::as_ref), inner };
            let outcome = kernel(pool, step, &inputs, &mut outputs, kept);
            lists.inputs.keep(inputs);
            lists.outputs.keep(outputs);
            outcome
        };
        let mut back = taken.drain(..);
        for output in &step.outputs {
            if let Place::Result(i) = &output.place {
                results[*i] = back.next().expect("one a result");
            }
        }
        drop(back);
        outcome.map_err(|failure| match failure {
            Failure::Here(message) => ExecuteError::value(message, step.origin),
            Failure::Inside(error) => error,
        })?;
        if let (Some(timer), Some(start)) = (timer.as_mut(), start) {
            timer.add(number, start);
        }
    }
    lists.taken.keep(taken);
    Ok(())
}

/// How the tape of a step runs, if it is one.
fn laid(step: &Step) -> Option<Laid> {
    let Kernel::Tape { tape, space, .. } = &step.kernel else { return None };
    let place = |(i, input): (usize, &Operand)| match in_place(step, i) {
        Some(output) => tape::Place::Output(output),
        None => tape::Place::Layout(input.dtype, input.layout.clone()),
    };
    Some(tape.lay(space, &step.inputs.iter().enumerate().map(place).collect::<Vec<_>>()))
}

/// What a step reads and writes of the arena.
fn lease(step: &Step) -> Lease {
    let range = |place: &Place| match place {
        Place::Arena(range) => Some(range.clone()),
        _ => None,
    };
    let read = step.inputs.iter().enumerate().filter(|(i, _)| in_place(step, *i).is_none());
    Lease::new(read.filter_map(|(_, x)| range(&x.place)), step.outputs.iter().filter_map(|x| range(&x.place)))
}

fn has_body(kernel: &Kernel) -> bool {
    matches!(kernel, Kernel::Scan(..) | Kernel::Cond(..))
}

/// The output whose old contents an operand is, if it is one.
fn in_place(step: &Step, input: usize) -> Option<usize> {
    match &step.kernel {
        Kernel::Tape { in_place, .. } => in_place.get(input).copied().flatten(),
        _ => None,
    }
}

enum Failure {
    Here(String),
    Inside(ExecuteError),
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Here(message)
    }
}

/// What is kept for a step from run to run.
struct Kept<'a> {
    laid: Option<&'a Laid>,
    panels: Option<&'a Panels>,
    inner: Option<&'a mut Inner>,
}

fn kernel(
    pool: &Pool,
    step: &Step,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    Kept { laid, panels, inner }: Kept<'_>,
) -> Result<(), Failure> {
    let view = |i: usize| view_of(&step.inputs[i], inputs[i]);
    if let Kernel::Scan(dims, body) = &step.kernel {
        return scan(pool, *dims, body, inputs, outputs, inner.expect("a loop keeps memory"));
    }
    if let Kernel::Cond(yes, no) = &step.kernel {
        let (plan, which) = if inputs[0][0] != 0 { (yes, 0) } else { (no, 1) };
        let scratch = &mut inner.expect("a branch keeps memory").bodies[which];
        return run(pool, plan, &inputs[1..], outputs, scratch).map_err(Failure::Inside);
    }
    if let (Kernel::Tape { tape, .. }, Some(laid)) = (&step.kernel, laid) {
        tape.run_laid(laid, pool, inputs, outputs);
        return Ok(());
    }
    let mut outs = (outputs.iter_mut().zip(&step.outputs)).map(|(data, output)| ViewMut::new(data, output.ty.dtype));
    let out = outs.next().expect("every kernel has an output");
    match &step.kernel {
        Kernel::Copy => kernels::copy(pool, view(0), out),
        Kernel::Reduce(reduction, axes) => kernels::reduce(pool, *reduction, view(0), axes, out),
        Kernel::ArgReduce { largest, axis } => kernels::arg_reduce(pool, *largest, view(0), *axis, out),
        Kernel::Cumsum { axis, reverse } => kernels::cumsum(pool, view(0), *axis, *reverse, out),
        Kernel::Sort { axis, descending } => {
            kernels::sort(pool, view(0), *axis, *descending, out, outs.next().expect("values and indices"));
        }
        Kernel::Gather { axis, batch } => kernels::gather(pool, view(0), view(1), *axis, *batch, out)?,
        Kernel::ScatterAdd { axis, batch } => kernels::scatter_add(pool, view(0), view(1), *axis, *batch, out)?,
        Kernel::Matmul => match panels {
            Some(panels) => panels.multiply(pool, view(0), out),
            None => kernels::matmul(pool, view(0), view(1), out),
        },
        Kernel::Conv(spec) => kernels::conv(pool, spec, view(0), view(1), out),
        Kernel::Fold(windows) => {
            kernels::fold(pool, view(0), &windows.size, &windows.stride, &windows.dilation, out);
        }
        Kernel::MaxPoolGradient(w) => {
            let [x, maxima, gradient] = [view(0), view(1), view(2)];
            kernels::max_pool_gradient(pool, [x, maxima, gradient], &w.window, &w.stride, &w.dilation, out);
        }
        Kernel::Pad(amounts, fill) => {
            let part = |f: fn(&(usize, usize, usize)) -> usize| amounts.iter().map(f).collect::<SmallVec<[usize; 6]>>();
            let (low, high, interior) = (part(|a| a.0), part(|a| a.1), part(|a| a.2));
            kernels::pad(pool, view(0), &low, &high, &interior, *fill, out);
        }
        Kernel::Concat(axis) => {
            let views: SmallVec<[View<'_>; 32]> = (0..inputs.len()).map(view).collect();
            kernels::concat(pool, &views, *axis, out);
        }
        Kernel::Random(distribution, each) => {
            kernels::random(pool, *distribution, &keys(inputs[0]), *each, out);
        }
        Kernel::Cholesky => kernels::cholesky(pool, view(0), out),
        Kernel::TriangularSolve { lower, transpose } => {
            kernels::triangular_solve(pool, view(0), view(1), *lower, *transpose, false, out);
        }
        Kernel::Tape { .. } | Kernel::Scan(..) | Kernel::Cond(..) => unreachable!("handled above"),
    }
    Ok(())
}

fn view_of<'a>(operand: &'a Operand, data: &'a [u8]) -> View<'a> {
    View::new(data, operand.dtype, &operand.layout)
}

fn keys(bytes: &[u8]) -> SmallVec<[i64; 4]> {
    bytes.chunks_exact(8).map(|eight| i64::from_le_bytes(eight.try_into().expect("eight bytes"))).collect()
}

fn scan(
    pool: &Pool,
    dims: ScanDims,
    body: &Plan,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    inner: &mut Inner,
) -> Result<(), Failure> {
    let (nc, nx) = (dims.carries, dims.sequences);
    let Inner { carries: [before, after], lists, bodies } = inner;
    for (buffer, start) in before.iter_mut().zip(inputs) {
        buffer.bytes_mut().copy_from_slice(start);
    }
    for (number, constant) in body.weights(&dims) {
        let panels = bodies[0].panels[number].as_mut().expect("made with the scratch");
        panels.fill(pool, view_of(&body.steps[number].inputs[1], inputs[constant]));
    }
    for step in 0..dims.length {
        let place = if dims.reverse { dims.length - 1 - step } else { step };
        let mut arguments = lists.inputs.empty();
        arguments.extend(before.iter().map(|buffer| buffer.bytes()));
        for (sequence, ty) in inputs.iter().zip(&body.arguments).skip(nc).take(nx) {
            arguments.push(&sequence[place * ty.bytes()..(place + 1) * ty.bytes()]);
        }
        arguments.extend(inputs[nc + nx..].iter().copied());
        let mut results = lists.outputs.empty();
        results.extend(after.iter_mut().map(|buffer| buffer.bytes_mut()));
        for (i, stacked) in outputs[nc..].iter_mut().enumerate() {
            let bytes = body.results[nc + i].bytes();
            results.push(&mut stacked[place * bytes..(place + 1) * bytes]);
        }
        run(pool, body, &arguments, &mut results, &mut bodies[0]).map_err(Failure::Inside)?;
        lists.inputs.keep(arguments);
        lists.outputs.keep(results);
        std::mem::swap(before, after);
    }
    for (output, buffer) in outputs.iter_mut().zip(before.iter()) {
        output.copy_from_slice(buffer.bytes());
    }
    Ok(())
}
