//! `chainrule bench`: steps of usual networks, timed; and where their time goes.
//!
//! The workloads are those people measure frameworks with. A step is forward pass, loss, backward pass and update,
//! with the loss read back; the data stay where they are. Two are inference: a step of `generate` is one token of a text,
//! one of `mlp1` the answer to one example.

mod models;
mod workloads;

use crate::outcome::{self, Failure, Outcome};
use chainrule::execute::{Profile, counting::allocations};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use workloads::{Machine, Ready, WORKLOADS};

/// Time the steps of usual networks
#[derive(Args)]
#[command(after_help = "\
Training:  chain1000 tiny mlp cnn lstm gpt dcgan deep deep_ckpt
Inference: generate (gpt, a token a step) and mlp1 (mlp, an example a step)
Products:  gemm1024 gemm2048

Examples:
  chainrule bench mlp
  chainrule bench --all --threads 1 --seconds 2
  chainrule bench cnn --profile --trace cnn.json")]
pub struct BenchArgs {
    /// What to run
    #[arg(required_unless_present = "all")]
    workload: Option<String>,
    /// All workloads, as a table
    #[arg(long, conflicts_with = "workload")]
    all: bool,
    /// Threads that run kernels
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Examples in a batch [default: the workload's own]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// The most that a step may take, as 300MB: what exceeds it is computed again
    #[arg(long, value_name = "BYTES", value_parser = chainrule_train::model::parse_bytes)]
    memory_budget: Option<usize>,
    /// Show where the time of a step goes, by kernel and by line
    #[arg(long)]
    profile: bool,
    /// Write the last step as a trace for a browser's trace viewer
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print the optimised program and its plan instead of measuring
    #[arg(long)]
    program: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn machine(arguments: &BenchArgs) -> Machine {
    Machine { threads: arguments.threads, memory_budget: arguments.memory_budget }
}

/// What was measured.
#[derive(Serialize)]
struct Measured {
    workload: String,
    peer: &'static str,
    threads: usize,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    /// Processor time of the calling thread: with one thread, what a step costs beside other work on the machine.
    cpu_ms: Option<f64>,
    steps: usize,
    peak_rss_mb: f64,
    cold_s: f64,
    /// Blocks of memory that a step asks for, after the first.
    allocations: f64,
    params: usize,
    compile_ms: f64,
    flops: u64,
    gflops: f64,
    arena_mb: f64,
    live_mb: f64,
    first_loss: f64,
    last_loss: f64,
}

pub fn run(arguments: BenchArgs) -> Outcome {
    let started = Instant::now();
    if arguments.all {
        return table(&arguments);
    }
    let name = arguments.workload.as_deref().unwrap_or_default();
    let unknown = || Failure::input(format!("there is no workload {name:?}; there are {}", WORKLOADS.join(", ")));
    if arguments.threads == 0 || !arguments.seconds.is_finite() || arguments.batch == Some(0) {
        return Err(Failure::input("--threads, --seconds and --batch are numbers above zero"));
    }
    let mut ready = workloads::ready(name, machine(&arguments), arguments.batch).ok_or_else(unknown)?;
    if let Some(refused) = ready.refused.take() {
        return Err(Failure::input(refused));
    }
    if arguments.program {
        return outcome::print(&ready.listing);
    }
    let measured = measure(name, &arguments, &mut ready, started);
    if arguments.profile || arguments.trace.is_some() {
        profile(&arguments, &mut ready)?;
    }
    if arguments.json {
        return outcome::print(&serde_json::to_string(&measured).map_err(Failure::work)?);
    }
    outcome::print(&format!("{HEADER}\n{}", measured.row()))
}

const HEADER: &str = "workload    median ms      min      max   cpu ms  steps  GFLOP/s  compile ms  arena MB  peak MB";

impl Measured {
    fn row(&self) -> String {
        format!(
            "{:10} {:10.3} {:8.3} {:8.3} {:8.3} {:6} {:8.1} {:11.1} {:9.1} {:8.1}",
            self.workload,
            self.median_ms,
            self.min_ms,
            self.max_ms,
            self.cpu_ms.unwrap_or(f64::NAN),
            self.steps,
            self.gflops,
            self.compile_ms,
            self.arena_mb,
            self.peak_rss_mb
        )
    }
}

fn table(arguments: &BenchArgs) -> Outcome {
    let mut rows = Vec::new();
    for name in WORKLOADS {
        let started = Instant::now();
        let ready = workloads::ready(name, machine(arguments), arguments.batch);
        let mut ready = ready.ok_or_else(|| Failure::work(format!("{name} is listed and unknown")))?;
        if let Some(refused) = ready.refused.take() {
            return Err(Failure::input(format!("{name}: {refused}")));
        }
        rows.push(measure(name, arguments, &mut ready, started));
    }
    if arguments.json {
        return outcome::print(&serde_json::to_string(&rows).map_err(Failure::work)?);
    }
    outcome::print(&rows.iter().fold(HEADER.to_string(), |text, row| format!("{text}\n{}", row.row())))
}

/// A first step, a fifth of the time to warm up, then steps for as long as was asked.
fn measure(name: &str, arguments: &BenchArgs, ready: &mut Ready, started: Instant) -> Measured {
    let first_loss = (ready.step)(None);
    let cold_s = started.elapsed().as_secs_f64();
    let warm = Instant::now() + Duration::from_secs_f64(arguments.seconds.max(0.0) / 5.0);
    while Instant::now() < warm {
        (ready.step)(None);
    }
    let end = Instant::now() + Duration::from_secs_f64(arguments.seconds.max(0.0));
    let busy = busy_ms();
    let (mut times, mut last_loss) = (Vec::new(), first_loss);
    let mut allocated = 0;
    while times.len() < 5 || Instant::now() < end {
        let (before, start) = (allocations(), Instant::now());
        last_loss = (ready.step)(None);
        let time = start.elapsed();
        allocated += allocations() - before;
        times.push(time.as_secs_f64() * 1e3);
    }
    let busy = busy_ms().zip(busy).map(|(after, before)| after - before);
    times.sort_by(f64::total_cmp);
    let median_ms = times[times.len() / 2];
    Measured {
        workload: name.into(),
        peer: "chainrule",
        threads: arguments.threads,
        median_ms,
        min_ms: times[0],
        max_ms: times[times.len() - 1],
        cpu_ms: busy.map(|busy| busy / times.len() as f64),
        steps: times.len(),
        peak_rss_mb: peak_mb().unwrap_or(f64::NAN),
        cold_s,
        allocations: allocated as f64 / times.len() as f64,
        params: ready.parameters,
        compile_ms: ready.compile_s * 1e3,
        flops: ready.flops,
        gflops: ready.flops as f64 / median_ms / 1e6,
        arena_mb: ready.memory.0 as f64 / 1e6,
        live_mb: ready.memory.1 as f64 / 1e6,
        first_loss,
        last_loss,
    }
}

/// Largest resident memory of the process so far, where the system tells it (Linux).
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kilobytes| kilobytes / 1024.0)
}

/// Processor time of this thread so far, where the system tells it (Linux).
fn busy_ms() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e6)
}

fn profile(arguments: &BenchArgs, ready: &mut Ready) -> Outcome {
    let mut profile = Profile::default();
    let end = Instant::now() + Duration::from_secs_f64(arguments.seconds.clamp(0.0, 3.0));
    while profile.runs < 3 || Instant::now() < end {
        (ready.step)(Some(&mut profile));
    }
    if arguments.profile {
        outcome::print(&profile.table())?;
    }
    if let Some(path) = &arguments.trace {
        std::fs::write(path, profile.trace())
            .map_err(|error| Failure::input(format!("{} cannot be written: {error}", path.display())))?;
    }
    Ok(())
}
