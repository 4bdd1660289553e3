//! Where the time of a run went: by kernel and by the user's line, as a table or as a trace that a browser shows.

use super::machine::Scratch;
use crate::plan::{Kernel, Plan, Step};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Times of the steps of one plan, in the order of its steps.
#[derive(Debug)]
pub(super) struct Timer {
    /// When the last run began.
    pub begin: Instant,
    pub steps: Vec<Times>,
}

/// Times of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    calls: u64,
    all: Duration,
    best: Duration,
    start: Duration,
}

const NEVER: Times = Times { calls: 0, all: Duration::ZERO, best: Duration::MAX, start: Duration::ZERO };

impl Timer {
    pub(super) fn new(steps: usize) -> Timer {
        Timer { begin: Instant::now(), steps: vec![NEVER; steps] }
    }

    pub(super) fn add(&mut self, step: usize, start: Instant) {
        let (entry, time) = (&mut self.steps[step], start.elapsed());
        entry.calls += 1;
        entry.all += time;
        entry.best = entry.best.min(time);
        entry.start = start - self.begin;
    }
}

/// The time of one step, over all runs that were measured.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// The kernel.
    pub kernel: &'static str,
    /// Operands and results.
    pub shapes: String,
    /// The user's line.
    pub origin: String,
    /// How often it ran.
    pub calls: u64,
    /// Time of all calls.
    pub time: Duration,
    /// Time of the fastest call: what the step costs on a machine that does nothing else.
    pub best: Duration,
    /// When it last began, after the beginning of its run.
    pub start: Duration,
    /// Floating-point operations of one call of a matrix product or convolution.
    pub flops: u64,
    /// 0 for a step of the program, 1 for one in the body of a loop or branch, and so on.
    pub depth: usize,
}

/// Where the time of one or more runs of a compiled function went; made by
/// [`Compiled::run_profiled`](super::Compiled::run_profiled).
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::execute::Profile;
/// let mut f = compile(|x: &Tensor| x.exp().sum(..));
/// let mut profile = Profile::default();
/// f.run_profiled(Tensor::from([0.0f32, 1.0]), &mut profile).unwrap();
/// assert_eq!((profile.runs, profile.steps[0].calls), (1, 1));
/// assert!(profile.table().contains("rows")); // exp and sum in one pass
/// ```
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Runs that were measured.
    pub runs: u64,
    /// Time of all runs.
    pub time: Duration,
    /// The steps in the order in which they run; those of a body follow their loop.
    pub steps: Vec<StepTime>,
}

impl Profile {
    /// Adds what the timers of a plan have counted.
    pub(super) fn collect(&mut self, plan: &Plan, scratch: &Scratch, total: Duration) {
        let mut steps = Vec::new();
        gather(plan, scratch, 0, &mut steps);
        if self.steps.len() == steps.len() {
            for (old, new) in self.steps.iter_mut().zip(steps) {
                *old = StepTime {
                    calls: old.calls + new.calls,
                    time: old.time + new.time,
                    best: old.best.min(new.best),
                    ..new
                };
            }
        } else {
            self.steps = steps;
        }
        self.runs += 1;
        self.time += total;
    }

    /// The dearest steps first, by their fastest calls: time of a run, share, rate, kernel, shapes, line; then the sums by
    /// kernel, and the mean time of a run with what it spends between steps.
    pub fn table(&self) -> String {
        let mut text = String::from("      ms      %  GFLOP/s  calls  kernel\n");
        let runs = self.runs.max(1);
        let cost = |step: &StepTime| step.best.as_secs_f64() * (step.calls / runs) as f64;
        let top = |step: &&StepTime| step.depth == 0 && step.calls > 0;
        let whole: f64 = self.steps.iter().filter(top).map(cost).sum();
        let mut line = |time: f64, work: f64, calls: u64, what: &str| {
            let rate = if work > 0.0 { format!("{:.1}", work / time.max(1e-12) / 1e9) } else { String::new() };
            let _ = writeln!(text, "{:8.3} {:5.1}% {rate:>8} {calls:6}  {what}", time * 1e3, time / whole * 100.0);
        };
        let work = |step: &StepTime| (step.flops * step.calls / runs) as f64;
        let mut steps: Vec<&StepTime> = self.steps.iter().filter(|step| step.calls > 0).collect();
        steps.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
        for step in &steps {
            let indent = "  ".repeat(step.depth);
            let what = format!("{indent}{} {}  {}", step.kernel, step.shapes, step.origin);
            line(cost(step), work(step), step.calls / runs, &what);
        }
        let mut kernels: Vec<&str> = steps.iter().map(|step| step.kernel).collect();
        kernels.sort_unstable();
        kernels.dedup();
        let sum = |kernel: &str, f: &dyn Fn(&StepTime) -> f64| -> f64 {
            steps.iter().filter(|step| step.kernel == kernel).map(|step| f(step)).sum()
        };
        let mut sums: Vec<(f64, &str)> = kernels.iter().map(|kernel| (sum(kernel, &cost), *kernel)).collect();
        sums.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (time, kernel) in sums {
            let calls = sum(kernel, &|step| step.calls as f64) as u64 / runs;
            line(time, sum(kernel, &work), calls, &format!("all {kernel}"));
        }
        line(whole, 0.0, 1, "all steps");
        let mean = self.time.as_secs_f64() / runs as f64;
        let within: f64 = steps.iter().filter(|s| s.depth == 0).map(|s| s.time.as_secs_f64()).sum();
        line(mean - within / runs as f64, 0.0, 1, "mean between steps");
        line(mean, 0.0, 1, "mean of a run");
        text
    }

    /// The last run as trace events in JSON, as browsers' trace viewers open it.
    pub fn trace(&self) -> String {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let events = self.steps.iter().filter(|step| step.depth == 0 && step.calls > 0).map(|step| {
            format!(
                r#"{{"name":"{}","cat":"kernel","ph":"X","pid":1,"tid":1,"ts":{:.3},"dur":{:.3},"args":{{"shapes":"{}","line":"{}"}}}}"#,
                step.kernel,
                step.start.as_secs_f64() * 1e6,
                step.time.as_secs_f64() * 1e6 / step.calls as f64,
                quoted(&step.shapes),
                quoted(&step.origin),
            )
        });
        format!("{{\"traceEvents\":[\n{}\n]}}\n", events.collect::<Vec<_>>().join(",\n"))
    }
}

fn gather(plan: &Plan, scratch: &Scratch, depth: usize, steps: &mut Vec<StepTime>) {
    let mut inner = scratch.bodies();
    for (i, step) in plan.steps.iter().enumerate() {
        let Times { calls, all, best, start } = scratch.timer().map_or(NEVER, |timer| timer.steps[i]);
        steps.push(StepTime {
            kernel: step.kernel.name(),
            shapes: shapes(step),
            origin: step.origin.to_string(),
            calls,
            time: all,
            best,
            start,
            flops: flops(step),
            depth,
        });
        match &step.kernel {
            Kernel::Scan(_, body) => gather(body, inner.next().expect("a loop keeps memory"), depth + 1, steps),
            Kernel::Cond(yes, no) => {
                for branch in [yes, no] {
                    gather(branch, inner.next().expect("a branch keeps memory"), depth + 1, steps);
                }
            }
            _ => {}
        }
    }
}

fn shapes(step: &Step) -> String {
    let shape = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let mut text = String::new();
    if let Kernel::Tape { tape, .. } = &step.kernel {
        let _ = write!(text, "({} steps) ", tape.steps());
    }
    for input in &step.inputs {
        let kind = if input.layout.is_contiguous() { "" } else { "'" };
        let _ = write!(text, "[{}]{kind} ", shape(input.layout.shape()));
    }
    text.push('→');
    for output in &step.outputs {
        let _ = write!(text, " [{}]", shape(&output.ty.shape));
    }
    text
}

/// Two for each multiply-add.
fn flops(step: &Step) -> u64 {
    let out = || step.outputs[0].ty.numel() as u64;
    match &step.kernel {
        Kernel::Matmul => 2 * out() * step.inputs[0].layout.shape().last().map_or(0, |&k| k as u64),
        Kernel::Conv(_) => 2 * out() * step.inputs[1].layout.shape()[1..].iter().product::<usize>() as u64,
        _ => 0,
    }
}
