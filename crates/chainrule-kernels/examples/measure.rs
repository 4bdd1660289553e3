//! Measures the kernels that matter most: `cargo run --release -p chainrule-kernels --example measure`.
//! Each line is the best of several runs, with one thread and with two; `-- elementwise` measures only functions of elements
//! and how fast they go over memory, one line each of a name and a figure (`scripts/bench/elementwise.py` reads it). With `quick` (`-- quick`) the runs are few: it shows
//! that all of it runs, and no figures to quote.

use chainrule_kernels::alphabet::{Binary, DType, Reduction, Unary};
use chainrule_kernels::*;
use std::time::Instant;

/// Best seconds of a few runs.
fn best(mut f: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    let long = if std::env::args().any(|argument| argument == "quick") { 5 } else { 300 };
    let begin = Instant::now();
    while best == f64::MAX || begin.elapsed().as_millis() < long {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn values(n: usize) -> Buffer {
    let mut buffer = Buffer::zeroed(n * 4);
    random(&Pool::new(1), alphabet::Distribution::Normal, &[1], n, ViewMut::new(buffer.bytes_mut(), DType::F32));
    buffer
}

fn view<'a>(buffer: &'a Buffer, layout: &'a Layout) -> View<'a> {
    View::new(buffer.bytes(), DType::F32, layout)
}

/// Runs a kernel on a buffer's memory.
fn out(b: &mut Buffer, f: &mut dyn FnMut(ViewMut)) {
    f(ViewMut::new(b.bytes_mut(), DType::F32))
}

/// Functions of elements that lie in the cache, in nanoseconds an element.
fn functions(pool: &Pool) {
    let n = 1 << 16;
    let (x, mut r, flat) = (values(n), values(n), Layout::contiguous(&[n]));
    let unary = |op| vec![Instruction::Load { input: 0 }, Instruction::Unary(op, 0)];
    let mut programs: Vec<(String, Vec<Instruction>)> =
        Unary::ALL.iter().filter(|op| **op != Unary::Not).map(|&op| (op.name().to_string(), unary(op))).collect();
    let binary = |op| vec![Instruction::Load { input: 0 }, Instruction::Binary(op, 0, 0)];
    programs.push(("add".into(), binary(Binary::Add)));
    programs.push(("pow".into(), binary(Binary::Pow)));
    let constant = |value| Instruction::Constant { value: element::Scalar::F32(value) };
    programs.push((
        "gelu".into(), // x·(1 + erf(x/√2))/2
        vec![
            Instruction::Load { input: 0 },
            constant(std::f32::consts::FRAC_1_SQRT_2),
            constant(0.5),
            Instruction::Binary(Binary::Mul, 0, 1),
            Instruction::Unary(Unary::Erf, 3),
            Instruction::Binary(Binary::Mul, 4, 2),
            Instruction::Binary(Binary::Add, 5, 2),
            Instruction::Binary(Binary::Mul, 0, 6),
        ],
    ));
    for (name, program) in programs {
        let last = program.len() - 1;
        let tape = Tape::new(&[DType::F32], program, &[last]).unwrap();
        let t = best(|| out(&mut r, &mut |r| tape.run(pool, &[n], &[Source::View(view(&x, &flat))], &mut [r])));
        println!("  {name}: {:.3} ns an element", t * 1e9 / n as f64);
    }
}

/// A fused chain over 64 MB, and copying as much, in bytes read and written a second.
fn bandwidth(pool: &Pool) {
    let n = 1 << 24;
    let (x, mut r, flat) = (values(n), values(n), Layout::contiguous(&[n]));
    let rate = |seconds: f64| 2.0 * 4.0 * n as f64 / seconds / 1e9;
    let half = n / 2 * 4;
    let threads = pool.threads();
    let t = best(|| {
        let (from, to) = (x.bytes(), r.bytes_mut());
        match threads {
            1 => to.copy_from_slice(from),
            _ => std::thread::scope(|scope| {
                let (low, high) = to.split_at_mut(half);
                scope.spawn(|| low.copy_from_slice(&from[..half]));
                high.copy_from_slice(&from[half..]);
            }),
        }
    });
    println!("  memcpy of 64 MB: {:.2} GB/s", rate(t));
    let constant = |value| Instruction::Constant { value: element::Scalar::F32(value) };
    let chain = vec![
        Instruction::Load { input: 0 },
        constant(0.5),
        Instruction::Binary(Binary::Mul, 0, 1),
        Instruction::Binary(Binary::Add, 2, 1),
        Instruction::Unary(Unary::Abs, 3),
        Instruction::Binary(Binary::Max, 4, 1),
        Instruction::Binary(Binary::Sub, 5, 0),
    ];
    let tape = Tape::new(&[DType::F32], chain, &[6]).unwrap();
    let t = best(|| out(&mut r, &mut |r| tape.run(pool, &[n], &[Source::View(view(&x, &flat))], &mut [r])));
    println!("  fused chain over 64 MB: {:.2} GB/s", rate(t));
}

fn main() {
    let only_elementwise = std::env::args().any(|argument| argument == "elementwise");
    for pool in [Pool::new(1), Pool::new(2)] {
        println!("{pool:?}");
        functions(&pool);
        bandwidth(&pool);
        if only_elementwise {
            continue;
        }
        for [m, k, n] in
            [[1024, 1024, 1024], [128, 784, 512], [784, 128, 512], [64, 64, 64], [16, 16, 16], [1, 1024, 1024]]
        {
            let (a, b, mut c) = (values(m * k), values(k * n), values(m * n));
            for kind in ["a·b", "aᵀ·b", "a·bᵀ"] {
                let (mut la, mut lb) = (Layout::contiguous(&[m, k]), Layout::contiguous(&[k, n]));
                if kind == "aᵀ·b" {
                    la = Layout::contiguous(&[k, m]).permuted(&[1, 0])
                }
                if kind == "a·bᵀ" {
                    lb = Layout::contiguous(&[n, k]).permuted(&[1, 0])
                }
                let t = best(|| out(&mut c, &mut |c| matmul(&pool, view(&a, &la), view(&b, &lb), c)));
                let rate = 2.0 * (m * k * n) as f64 / t / 1e9;
                println!("  matmul {kind} {m}×{k}×{n}: {rate:.1} GFLOP/s, {:.2} µs", t * 1e6);
            }
        }
        let same = ConvSpec { pad_low: vec![1, 1], pad_high: vec![1, 1], ..ConvSpec::plain(2) };
        let (x, w) = (Layout::contiguous(&[64, 32, 28, 28]), Layout::contiguous(&[64, 32, 3, 3]));
        let y = Layout::contiguous(&[64, 64, 28, 28]);
        let (bx, bw, by) = (values(x.numel()), values(w.numel()), values(y.numel()));
        let work = 2.0 * (64 * 32 * 64 * 9 * 28 * 28) as f64 / 1e9;
        let mut r = values(y.numel());
        let t = best(|| out(&mut r, &mut |r| conv(&pool, &same, view(&bx, &x), view(&bw, &w), r)));
        println!("  conv forward: {:.1} GFLOP/s", work / t);
        let mut r = values(x.numel());
        let flipped = Layout::new(8, w.shape().into(), [288, 9, -3, -1][..].into()).permuted(&[1, 0, 2, 3]);
        let t = best(|| out(&mut r, &mut |r| conv(&pool, &same, view(&by, &y), view(&bw, &flipped), r)));
        println!("  conv input gradient: {:.1} GFLOP/s", work / t);
        let mut r = values(w.numel());
        let (xt, yt) = (x.permuted(&[1, 0, 2, 3]), y.permuted(&[1, 0, 2, 3]));
        let t = best(|| out(&mut r, &mut |r| conv(&pool, &same, view(&bx, &xt), view(&by, &yt), r)));
        println!("  conv weight gradient: {:.1} GFLOP/s", work / t);
        let depthwise = ConvSpec { groups: 64, ..same.clone() };
        let (w, mut r) = (Layout::contiguous(&[64, 1, 3, 3]), values(y.numel()));
        let t = best(|| out(&mut r, &mut |r| conv(&pool, &depthwise, view(&by, &y), view(&bw, &w), r)));
        println!("  conv depthwise: {:.2} ns an output", t * 1e9 / y.numel() as f64);

        let n = 1 << 20;
        let x = values(n);
        for (shape, axes) in [([n, 1], [0, 1]), ([1024, 1024], [1, 1]), ([1024, 1024], [0, 0]), ([n / 8, 8], [0, 0])] {
            let axes = if axes[0] == axes[1] { &axes[..1] } else { &axes[..] };
            let layout = Layout::contiguous(&shape);
            let count: usize = (0..2).filter(|a| !axes.contains(a)).map(|a| shape[a]).product();
            let mut r = values(count);
            let t = best(|| out(&mut r, &mut |r| reduce(&pool, Reduction::Sum, view(&x, &layout), axes, r)));
            println!("  sum of {shape:?} over {axes:?}: {:.3} ns an element", t * 1e9 / n as f64);
        }
        let mut r = values(n);
        let turned = Layout::contiguous(&[1024, 1024]).permuted(&[1, 0]);
        let t = best(|| out(&mut r, &mut |r| copy(&pool, view(&x, &turned), r)));
        println!("  transpose: {:.3} ns an element", t * 1e9 / n as f64);
        let t = best(|| out(&mut r, &mut |r| random(&pool, alphabet::Distribution::Uniform, &[3], n, r)));
        println!("  uniform: {:.3} ns an element", t * 1e9 / n as f64);
        let t = best(|| out(&mut r, &mut |r| random(&pool, alphabet::Distribution::Normal, &[3], n, r)));
        println!("  normal: {:.3} ns an element", t * 1e9 / n as f64);
    }
}
