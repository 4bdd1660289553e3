//! Random well-typed programs: whatever is built, optimised programs agree with the reference, with every pass on
//! and with each one off, and forward mode agrees with reverse mode.
//!
//! A program is a pure function of its seed and length; where one fails, shorter ones of the same seed are tried, and
//! the shortest that fails is printed.

use chainrule::differentiate::{Unreached, pull, pull_through};
use chainrule::optimize::{PASSES, optimize_without};
use chainrule::prelude::*;
use chainrule::program::{Interpreted, Program, capture, interpret};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn number(&mut self) -> f64 {
        self.below(2001) as f64 / 1000.0 - 1.0
    }
    fn axis(&mut self, x: &Tensor) -> isize {
        self.below(x.rank()) as isize
    }
}

const SHAPES: [&[usize]; 4] = [&[2, 3], &[3], &[], &[2, 1, 3]];

fn inputs(seed: u64) -> Vec<Tensor> {
    let mut dice = Dice(seed ^ 0xabcd);
    let draw = |shape: &&[usize]| {
        let count = shape.iter().product();
        Tensor::from_vec((0..count).map(|_| dice.number() * 1.5).collect::<Vec<f64>>(), *shape)
    };
    SHAPES.iter().map(draw).collect()
}

/// The program of a seed: `length` operations over the inputs, and the sum of the last few values.
fn build(seed: u64, length: usize, x: &[Tensor]) -> Tensor {
    let mut dice = Dice(seed);
    let mut values: Vec<Tensor> = x.to_vec();
    for _ in 0..length {
        let next = operation(&mut dice, &values);
        // Small shapes and small numbers: what grows is cut and squashed.
        let next = if next.numel() > 48 { next.flatten().narrow(0, 0, 12) } else { next };
        let next = if dice.one_in(3) { next.sin() } else { next };
        values.push(next);
    }
    let last = values.len().saturating_sub(4);
    let parts: Vec<Tensor> = values[last..].iter().map(|v| (v.tanh() * 1.5).sum(..)).collect();
    stack(&parts, 0)
}

fn pick(dice: &mut Dice, values: &[Tensor]) -> Tensor {
    // Later ones more often, so that programs are deep.
    let n = values.len();
    let i = if dice.one_in(3) { dice.below(n) } else { n - 1 - dice.below(n.min(5)) };
    values[i].clone()
}

/// A value with at least this many axes.
fn with_axes(dice: &mut Dice, values: &[Tensor], rank: usize) -> Tensor {
    let x = pick(dice, values);
    match x.rank() {
        r if r >= rank => x,
        r => x.reshape([x.shape(), &vec![1; rank - r]].concat()),
    }
}

/// Another value that fits the shape of x: broadcast if it does, else cut from its elements.
fn beside(dice: &mut Dice, values: &[Tensor], x: &Tensor) -> Tensor {
    let y = pick(dice, values);
    let fits = |i: usize| {
        let size = y.shape()[y.rank() - 1 - i];
        size == 1 || size == x.shape()[x.rank() - 1 - i]
    };
    if y.rank() <= x.rank() && (0..y.rank()).all(fits) { y } else { sized(&y, x.shape()) }
}

/// The elements of x, repeated or cut, in a shape.
fn sized(x: &Tensor, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    if x.numel() == 0 {
        return Tensor::full(shape, 0.5, DType::F64);
    }
    let places: Vec<i64> = (0..count).map(|i| (i % x.numel()) as i64).collect();
    x.flatten().gather(&Tensor::from_vec(places, [count]), 0).reshape(shape)
}

fn operation(dice: &mut Dice, values: &[Tensor]) -> Tensor {
    match dice.below(24) {
        0..=3 => elementwise(dice, values),
        4..=7 => {
            let x = pick(dice, values);
            let y = beside(dice, values, &x);
            match dice.below(6) {
                0 => x + y,
                1 => x - y,
                2 => x * y,
                3 => x / (y.square() + 1.0),
                4 => y.sin() * x,
                _ => (x.square() + 0.5).pow(y.tanh()),
            }
        }
        8 => {
            let x = pick(dice, values);
            let y = beside(dice, values, &x);
            if dice.one_in(2) {
                x.less(0.1).select(&(&x * 2.0), y)
            } else {
                y.greater(&x).and(x.less(0.7)).select(&x, 0.3)
            }
        }
        9 => {
            let x = with_axes(dice, values, 1);
            let axis = dice.axis(&x);
            match dice.below(9) {
                0 => x.sum(axis),
                1 if x.size(axis) > 0 => x.mean_keepdims(axis),
                2 if x.size(axis) > 0 => x.max(axis),
                3 if x.size(axis) > 0 => x.min_keepdims(axis),
                4 => x.tanh().prod(axis),
                5 => x.square().sum_keepdims(axis),
                6 if x.rank() > 1 => x.sum([0, -1]),
                7 if x.rank() > 1 => &x - x.sum_keepdims([-2, -1]),
                _ => x.sum(..),
            }
        }
        10 => {
            let x = with_axes(dice, values, 1);
            let axis = dice.axis(&x);
            match dice.below(6) {
                0 if x.size(axis) > 0 => x.softmax(axis),
                1 if x.size(axis) > 0 => x.log_softmax(axis),
                2 if x.size(axis) > 0 => x.logsumexp_keepdims(axis),
                3 if x.size(axis) > 0 => x.normalize(axis, 0.5),
                4 => x.cumsum(axis),
                _ => x.cumsum_reverse(axis),
            }
        }
        11 | 12 => {
            let (x, y) = (with_axes(dice, values, 2), pick(dice, values));
            let inner = x.size(-1);
            x.matmul(&sized(&y, &[inner, 1 + dice.below(3)]))
        }
        13 => {
            let (x, y) = (with_axes(dice, values, 2), with_axes(dice, values, 2));
            let (x, y) = (sized(&x, &[2, 3, 2]), sized(&y, &[2, 2, 3]));
            if dice.one_in(2) { x.matmul(&y) } else { x.t().matmul(&y.t()) }
        }
        14 => {
            let x = pick(dice, values);
            let n = x.numel();
            match (dice.below(3), n % 2, n % 3) {
                (0, 0, _) => x.reshape([2, n / 2]),
                (1, _, 0) => x.reshape([n / 3, 3]),
                _ => x.flatten(),
            }
        }
        15 => {
            let x = with_axes(dice, values, 2);
            let (a, b) = (dice.axis(&x), dice.axis(&x));
            if dice.one_in(2) { x.swap_axes(a, b) } else { x.flip(a) }
        }
        16 => {
            let x = with_axes(dice, values, 1);
            let axis = dice.axis(&x);
            let start = dice.below(x.size(axis) + 1);
            x.narrow(axis, start, dice.below(x.size(axis) - start + 1).max((x.size(axis) - start).min(1)))
        }
        17 => {
            let x = with_axes(dice, values, 1);
            let mut amounts = vec![(0, 0, 0); x.rank()];
            amounts[dice.below(x.rank())] = (dice.below(2), dice.below(3), dice.below(2));
            x.pad_interior(&amounts, 0.25)
        }
        18 => {
            let x = with_axes(dice, values, 1);
            let y = beside(dice, values, &x).broadcast_to(x.shape());
            let axis = dice.axis(&x);
            concat(&[&x, &y], axis)
        }
        19 => {
            let x = with_axes(dice, values, 1);
            let axis = dice.axis(&x);
            let n = x.size(axis) as i64;
            if n == 0 {
                return x;
            }
            let places: Vec<i64> = (0..1 + dice.below(4)).map(|_| dice.below(2 * n as usize) as i64 - n).collect();
            let count = places.len();
            x.gather(&Tensor::from_vec(places, [count]), axis)
        }
        20 => {
            let x = with_axes(dice, values, 1);
            let y = beside(dice, values, &x);
            let axis = dice.axis(&x);
            match x.size(axis) {
                0 => x,
                _ if dice.one_in(2) => x.sort(axis, false),
                _ => x.sort(axis, true) * y,
            }
        }
        21 => looped(dice, values),
        22 => {
            let x = pick(dice, values);
            let y = beside(dice, values, &x).broadcast_to(x.shape());
            let outer = pick(dice, values).sum(..).sin();
            let which = pick(dice, values).sum(..).greater(0.1);
            let pair = (x, y);
            cond(&which, |(a, b): &(Tensor, Tensor)| a.sin() * b + &outer, |(a, b)| (a - b).tanh() * 0.5, &pair)
        }
        _ => {
            let x = pick(dice, values);
            let y = beside(dice, values, &x);
            checkpoint(|(a, b): &(Tensor, Tensor)| (a * 0.7).sin() * b.tanh() + a, &(x, y))
        }
    }
}

fn elementwise(dice: &mut Dice, values: &[Tensor]) -> Tensor {
    let x = pick(dice, values);
    match dice.below(16) {
        0 => -x,
        1 => x.sin().exp(),
        2 => (x.square() + 0.3).log(),
        3 => x.cos(),
        4 => x.tanh(),
        5 => x.erf(),
        6 => (x.square() + 0.2).sqrt(),
        7 => x.sigmoid(),
        8 => x * dice.number(),
        9 => x + dice.number(),
        10 => x.atan(),
        11 => x.softplus(),
        12 => x.gelu(),
        13 => x.relu() + 0.1,
        14 => x.tanh().expm1(),
        _ => x.square().log1p(),
    }
}

fn looped(dice: &mut Dice, values: &[Tensor]) -> Tensor {
    let xs = with_axes(dice, values, 1);
    let xs = if xs.shape()[0] == 0 { sized(&xs, &[2]) } else { xs };
    let start = sized(&pick(dice, values), &xs.shape()[1..]);
    let outer = pick(dice, values).sum(..).sin();
    let kind = dice.below(3);
    let body = |c: &Tensor, v: &Tensor| {
        let next = match kind {
            0 => (c * &outer + v).tanh(),
            1 => c * 0.5 + v.sin(),
            _ => (c.sin() * v) + &outer,
        };
        (next.clone(), next * v)
    };
    let (last, all) = scan(body, &start, &xs);
    if dice.one_in(2) { last } else { all + last }
}

fn agree(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<(), String> {
    let scale = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    let differs = |(a, b): (&f64, &f64)| !(a == b || (a - b).abs() <= tolerance * scale);
    match got.iter().zip(want).position(differs) {
        Some(i) => Err(format!("{what}: element {i} of {} is {:e} against {:e}", got.len(), got[i], want[i])),
        None => Ok(()),
    }
}

/// Value, tangent and cotangents of a program.
fn derived(seed: u64, length: usize, x: &[Tensor]) -> Vec<Tensor> {
    let x = x.to_vec();
    let directions: Vec<Tensor> = inputs(seed ^ 77);
    let weights = Tensor::from([0.7, -1.1, 0.4, 0.9]);
    let (value, tangent) = jvp(|x: &Vec<Tensor>| build(seed, length, x), &x, &directions);
    let scalar = |x: &Vec<Tensor>| ((build(seed, length, x) * &weights).sum(..), ());
    let (_, (), cotangents) = gradient(scalar, &x, Unreached::Zeros).unwrap_or_else(|error| panic!("{error}"));
    [vec![value, tangent], cotangents].concat()
}

fn captured(seed: u64, length: usize) -> Program {
    let x = inputs(seed);
    let named: Vec<(String, Tensor)> = x.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
    capture("random", &named, &derived(seed, length, &x)).unwrap_or_else(|error| panic!("{error}"))
}

fn interpreted(program: &Program, seed: u64) -> Result<Vec<Vec<f64>>, String> {
    let x: Vec<Interpreted> = inputs(seed).iter().map(Interpreted::from_tensor).collect();
    Ok(interpret(program, &x)?.iter().map(Interpreted::to_f64).collect())
}

/// What is wrong with a program, or its slope along a direction.
fn check(seed: u64, length: usize) -> Result<f64, String> {
    let program = captured(seed, length);
    program.verify()?;
    let want = interpreted(&program, seed)?;
    let mut run = compile(|x: &Vec<Tensor>| derived(seed, length, x));
    let got: Vec<Vec<f64>> =
        run.run(inputs(seed)).map_err(|error| error.to_string())?.iter().map(Tensor::to_vec).collect();
    for (i, want) in want.iter().enumerate() {
        agree(&format!("run, result {i}"), &got[i], want, 1e-9)?;
    }
    let weights = [0.7, -1.1, 0.4, 0.9];
    let forward: f64 = want[1].iter().zip(weights).map(|(t, w)| t * w).sum();
    let directions = inputs(seed ^ 77);
    let reverse: f64 = directions
        .iter()
        .zip(&want[2..])
        .flat_map(|(d, g)| d.to_vec::<f64>().into_iter().zip(g.clone()))
        .map(|(d, g)| d * g)
        .sum();
    agree("⟨v, J u⟩ and ⟨Jᵀ v, u⟩", &[forward], &[reverse], 1e-9)?;
    match seed % 4 {
        0 => batched(seed, length)?,
        1 => symmetric(seed, length)?,
        3 => within(seed, length)?,
        _ => {}
    }
    // One seed in eight also with each pass off, by the reference.
    if seed % 8 == 2 {
        let switches: Vec<Vec<&str>> = PASSES.iter().map(|pass| vec![pass.name]).chain([vec![]]).collect();
        for off in switches {
            let got = interpreted(&optimize_without(program.clone(), &off), seed)?;
            for (i, want) in want.iter().enumerate() {
                agree(&format!("without {off:?}, result {i}"), &got[i], want, 1e-9)?;
            }
        }
    }
    Ok(forward)
}

/// The value and the gradient over a batch, some inputs batched, are those of a loop.
fn batched(seed: u64, length: usize) -> Result<(), String> {
    let rows: Vec<Vec<Tensor>> = (0..2).map(|row| inputs(seed + row * 1_000_003)).collect();
    let axes: Vec<Option<isize>> = (0..SHAPES.len()).map(|i| (i as u64 != (seed / 4) % 5).then_some(0)).collect();
    let operand = |i: usize| if axes[i].is_some() { stack(&[&rows[0][i], &rows[1][i]], 0) } else { rows[0][i].clone() };
    let xs: Vec<Tensor> = (0..SHAPES.len()).map(operand).collect();
    let f = |x: &Vec<Tensor>| {
        let scalar = |x: &Vec<Tensor>| (build(seed, length, x).sum(..), ());
        let (value, (), slopes) = gradient(scalar, x, Unreached::Zeros).unwrap_or_else(|error| panic!("{error}"));
        [vec![value], slopes].concat()
    };
    let batch = vmap_axes(f, &xs, &axes);
    for (row, own) in rows.iter().enumerate() {
        let x =
            (0..SHAPES.len()).map(|i| if axes[i].is_some() { own[i].clone() } else { rows[0][i].clone() }).collect();
        for (i, want) in f(&x).iter().enumerate() {
            let got = batch[i].at(row).to_vec::<f64>();
            agree(&format!("batch over {axes:?}, row {row}, result {i}"), &got, &want.to_vec::<f64>(), 1e-9)?;
        }
    }
    Ok(())
}

/// Second derivatives commute: ⟨u, H v⟩ = ⟨v, H u⟩.
fn symmetric(seed: u64, length: usize) -> Result<(), String> {
    let (x, u, v) = (inputs(seed), inputs(seed ^ 78), inputs(seed ^ 79));
    let scalar = |x: &Vec<Tensor>| (build(seed, length, x) * Tensor::from([0.7, -1.1, 0.4, 0.9])).sum(..);
    let inner = |a: &[Tensor], b: &[Tensor]| {
        let parts: Vec<Tensor> = a.iter().zip(b).map(|(a, b)| (a * b).sum(..)).collect();
        stack(&parts, 0).sum(..).item::<f64>()
    };
    agree("⟨u, H v⟩ and ⟨v, H u⟩", &[inner(&u, &hvp(scalar, &x, &v))], &[inner(&v, &hvp(scalar, &x, &u))], 1e-8)
}

/// Cotangents at many values, found in one walk, are those that each has alone.
fn within(seed: u64, length: usize) -> Result<(), String> {
    let value = build(seed, length, &inputs(seed));
    let (mut at, mut pending, mut seen) = (Vec::new(), vec![value.clone()], std::collections::HashSet::new());
    while let Some(x) = pending.pop() {
        if seen.insert((x.node().id(), x.output_index())) && x.dtype() == DType::F64 {
            pending.extend(x.node().inputs().iter().cloned());
            at.push(x);
        }
    }
    let one = |at: &[Tensor], walk: Walk| walk(std::slice::from_ref(&value), &[Some(value.ones_like())], at);
    let together = one(&at, pull_through);
    for (x, together) in at.iter().zip(&together).step_by(1 + at.len() / 12) {
        let alone = one(std::slice::from_ref(x), pull).remove(0);
        let numbers = |x: &Option<Tensor>| x.as_ref().map_or(vec![], Tensor::to_vec::<f64>);
        let (together, alone) = (numbers(together), numbers(&alone));
        if together.len() != alone.len() {
            return Err(format!("the cotangent at a {} is there in one walk alone", x.node().op().name()));
        }
        agree(&format!("the cotangent at a {}", x.node().op().name()), &together, &alone, 1e-9)?;
    }
    Ok(())
}

type Walk = fn(&[Tensor], &[Option<Tensor>], &[Tensor]) -> Vec<Option<Tensor>>;

fn outcome(seed: u64, length: usize) -> Result<f64, String> {
    catch_unwind(AssertUnwindSafe(|| check(seed, length))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("panicked: {}", text.or(panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()))
    })
}

fn programs(seeds: std::ops::Range<u64>) {
    let mut failures = Vec::new();
    let (count, mut flat) = (seeds.end - seeds.start, 0);
    for seed in seeds {
        let length = 1 + Dice(seed ^ 0x5eed).below(60);
        let outcome_here = outcome(seed, length);
        flat += outcome_here.as_ref().is_ok_and(|slope| slope.abs() < 1e-6) as u64;
        if outcome_here.is_err() {
            let shortest = (0..=length).find(|&length| outcome(seed, length).is_err()).unwrap_or(length);
            let why = outcome(seed, shortest).expect_err("it fails");
            let text = catch_unwind(|| {
                let x = inputs(seed);
                let named: Vec<(String, Tensor)> =
                    x.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
                capture("random", &named, &[build(seed, shortest, &x)]).map(|program| program.to_string())
            });
            failures.push(format!("seed {seed}, {shortest} operations: {why}\n{text:?}"));
        }
    }
    let shown = failures.iter().take(3).map(|text| text.replace("\\n", "\n")).collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} programs fail; the first are\n{shown}", failures.len());
    assert!(flat * 10 < count, "{flat} of {count} programs do not depend on their inputs");
}

#[test]
fn the_first_thousand() {
    programs(0..1000);
}

#[test]
fn the_second_thousand() {
    programs(1000..2000);
}
