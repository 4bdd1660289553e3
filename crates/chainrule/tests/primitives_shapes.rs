//! Shapes and layouts by chance: convolutions, products, reductions, moves and indexing with every option drawn, run
//! as programs against the reference, values and gradients, in f64 and f32.

mod matrix;

use chainrule::differentiate::Unreached;
use chainrule::prelude::*;
use chainrule::program::{Interpreted, capture, interpret};
use chainrule::tensor::{ConvDims, DotDims, Op};
use matrix::{Numbers, agree};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn random(dice: &mut Numbers, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::from_vec((0..count).map(|_| dice.within(-1.5, 1.5)).collect::<Vec<f64>>(), shape)
}

/// Value and gradients of f, run as a program and by the reference.
fn check(x: &[Tensor], f: &dyn Fn(&[Tensor]) -> Tensor) -> Result<(), String> {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        let x: Vec<Tensor> = x.iter().map(|x| x.cast(dtype).eval()).collect();
        let weights = {
            let shape = f(&x).shape().to_vec();
            random(&mut Numbers(5), &shape).cast(dtype).eval()
        };
        let all = |x: &Vec<Tensor>| {
            let scalar = |x: &Vec<Tensor>| ((f(x) * &weights).sum(..), ());
            let slopes = gradient(scalar, x, Unreached::Zeros).unwrap_or_else(|error| panic!("{error}")).2;
            [vec![f(x)], slopes].concat()
        };
        let named: Vec<(String, Tensor)> = x.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
        let program = capture("shapes", &named, &all(&x)).map_err(|error| error.to_string())?;
        let numbers: Vec<Interpreted> = x.iter().map(Interpreted::from_tensor).collect();
        let want = interpret(&program, &numbers)?;
        let got = compile(all).run(x).map_err(|error| error.to_string())?;
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            agree(&format!("{dtype}, result {i}"), &got.cast(DType::F64).to_vec::<f64>(), &want.to_f64(), tolerance)?;
        }
    }
    Ok(())
}

/// Draws cases and reports all that fail, each with what it was.
fn every(count: u64, case: impl Fn(&mut Numbers) -> (String, Result<(), String>)) {
    let mut failures = Vec::new();
    for seed in 0..count {
        let outcome = catch_unwind(AssertUnwindSafe(|| case(&mut Numbers(seed * 7919 + 11))));
        match outcome {
            Ok((_, Ok(()))) => {}
            Ok((what, Err(why))) => failures.push(format!("seed {seed}, {what}: {why}")),
            Err(panic) => failures.push(format!("seed {seed} panicked: {:?}", panic.downcast_ref::<String>())),
        }
    }
    assert!(failures.is_empty(), "{} of {count} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn convolutions() {
    every(500, |dice| {
        let most = if dice.below(4) == 0 { 3 } else { 2 };
        let space = 1 + dice.below(most);
        let groups = [1, 1, 1, 2, 3, 8][dice.below(6)];
        let most = if space == 3 { 2 } else { 5 };
        let (ins, outs) = match dice.below(4) {
            0 => (1, 1),
            1 if space < 3 => (9, 17),
            _ => (1 + dice.below(most), 1 + dice.below(most)),
        };
        let (ins, outs) = if groups == 8 { (1, 1 + dice.below(2)) } else { (ins, outs) };
        let mut dims = ConvDims {
            stride: (&[][..]).into(),
            padding: [].into_iter().collect(),
            lhs_dilation: (&[][..]).into(),
            rhs_dilation: (&[][..]).into(),
            groups,
        };
        let mut x = vec![dice.below(4), groups * ins];
        let mut kernel = vec![groups * outs, ins];
        for _ in 0..space {
            x.push(1 + dice.below(if space == 1 { 40 } else { 9 }));
            kernel.push(1 + dice.below(4));
            dims.stride.push(1 + dice.below(3) * dice.below(2));
            dims.rhs_dilation.push(1 + dice.below(3) * dice.below(2));
            dims.lhs_dilation.push(1 + dice.below(3) * dice.below(2));
            let pad = |dice: &mut Numbers| dice.below(5) as isize - if dice.below(3) == 0 { 2 } else { 0 };
            dims.padding.push((pad(dice), pad(dice)));
        }
        let (x, kernel) = (random(dice, &x), random(dice, &kernel));
        let what = format!("{:?} by {:?}, {dims:?}", x.shape(), kernel.shape());
        let apply = |x: &[Tensor]| x[0].try_conv_general(&x[1], dims.clone());
        if apply(&[x.clone(), kernel.clone()]).is_err() {
            return (what, Ok(()));
        }
        (what, check(&[x, kernel], &|x| apply(x).unwrap_or_else(|error| panic!("{error}"))))
    });
}

/// A shuffled list of 0..n.
fn order(dice: &mut Numbers, n: usize) -> Vec<usize> {
    let mut list: Vec<usize> = (0..n).collect();
    (1..n).rev().for_each(|i| list.swap(i, dice.below(i + 1)));
    list
}

#[test]
fn products() {
    every(500, |dice| {
        // Axes of three kinds, in any order on either side.
        let size =
            |dice: &mut Numbers| [0, 1, 2, 3, 4, 5, 7, 16, 33][1 + dice.below(8) - (dice.below(30) == 0) as usize];
        let (batch, contract) = (dice.below(3), dice.below(3));
        let (free_a, free_b) = (dice.below(3), dice.below(3));
        let shared: Vec<usize> =
            (0..batch + contract).map(|i| if i < batch { 1 + dice.below(3) } else { size(dice) }).collect();
        let mut side = |free: usize| {
            let places = order(dice, shared.len() + free);
            let mut shape = vec![0; places.len()];
            for (i, &place) in places.iter().enumerate() {
                shape[place] =
                    if i < shared.len() { shared[i] } else { 1 + dice.below(if free == 1 { 20 } else { 5 }) };
            }
            (shape, places)
        };
        let ((a, at_a), (b, at_b)) = (side(free_a), side(free_b));
        let dims = DotDims {
            lhs_batch: at_a[..batch].into(),
            rhs_batch: at_b[..batch].into(),
            lhs_contract: at_a[batch..batch + contract].into(),
            rhs_contract: at_b[batch..batch + contract].into(),
        };
        let what = format!("{a:?} by {b:?}, {dims:?}");
        let operands = [random(dice, &a), random(dice, &b)];
        if operands.iter().map(Tensor::numel).product::<usize>() > 4_000_000 {
            return (what, Ok(()));
        }
        (what, check(&operands, &|x| x[0].dot_general(&x[1], dims.clone())))
    });
}

/// A view of x by a few random moves, none of which computes.
fn view(dice: &mut Numbers, x: &Tensor) -> Tensor {
    let mut x = x.clone();
    for _ in 0..1 + dice.below(4) {
        let rank = x.rank();
        x = match dice.below(6) {
            0 => order(dice, rank).iter().enumerate().fold(x, |x, (i, &j)| x.swap_axes(i as isize, j as isize)),
            1 => {
                let axis = dice.below(rank) as isize;
                let start = dice.below(x.size(axis) + 1).min(x.size(axis).saturating_sub(1));
                x.narrow(axis, start, x.size(axis) - start)
            }
            2 if x.shape()[0] > 0 => x.at(step(dice.below(x.shape()[0]).., 1 + dice.below(2) as i64)),
            3 => x.flip(dice.below(rank) as isize),
            4 if rank < 5 && x.numel() < 2000 => {
                let axis = dice.below(rank + 1) as isize;
                let wide = x.unsqueeze(axis);
                let mut shape = wide.shape().to_vec();
                shape[axis as usize] = 1 + dice.below(3);
                wide.broadcast_to(shape)
            }
            5 => x.reshape([&x.shape()[..rank - 1], &[1, x.shape()[rank - 1]]].concat()),
            _ => x,
        };
    }
    x
}

#[test]
fn reductions_of_views() {
    every(1000, |dice| {
        let shape: Vec<usize> = (0..1 + dice.below(4)).map(|_| [1, 2, 3, 4, 6, 9, 33][dice.below(7)]).collect();
        let shape = if dice.below(6) == 0 { vec![2 + dice.below(3), 1100] } else { shape };
        let shape = if shape.iter().product::<usize>() > 4000 { vec![33, 9] } else { shape };
        let x = random(dice, &shape);
        let seed = dice.next();
        let kind = dice.below(11);
        let f = |x: &[Tensor]| {
            let mut dice = Numbers(seed);
            let x = view(&mut dice, &x[0]);
            let list: Vec<isize> = (0..x.rank() as isize).filter(|_| dice.below(2) == 0).collect();
            let axis = dice.below(x.rank()) as isize;
            match kind {
                0 | 1 => x.sum(&list[..]),
                2 => x.max(&list[..]),
                3 => x.square().min(&list[..]),
                4 if x.size(axis) < 50 => x.prod(axis),
                5 => x.cumsum(axis),
                6 => x.sort(axis, true),
                7 => x.softmax(axis) + &x,
                8 => x.normalize(&list[..], 0.1) + &x,
                9 => (&x * x.sum_keepdims(axis)).sum(&list[..]),
                10 => &x * x.argmax(axis).unsqueeze(axis).cast(x.dtype()),
                _ => x.logsumexp_keepdims(axis) + &x,
            }
        };
        (format!("kind {kind} over {shape:?}"), check(&[x], &f))
    });
}

#[test]
fn moves_of_views() {
    every(1000, |dice| {
        let shape: Vec<usize> = (0..1 + dice.below(4)).map(|_| [1, 2, 3, 5, 8, 20][dice.below(6)]).collect();
        let shape = if shape.iter().product::<usize>() > 2000 { vec![17, 9] } else { shape };
        let x = random(dice, &shape);
        let (seed, kind) = (dice.next(), dice.below(7));
        let f = |x: &[Tensor]| {
            let mut dice = Numbers(seed);
            let x = view(&mut dice, &x[0]);
            let axis = dice.below(x.rank());
            let n = x.shape()[axis];
            match kind {
                0 => {
                    let amounts: Vec<_> =
                        (0..x.rank()).map(|_| (dice.below(3), dice.below(3), dice.below(3))).collect();
                    if x.numel() < 200 {
                        x.pad_interior(&amounts, 0.5)
                    } else {
                        x.pad_interior(&vec![(1, 0, 0); x.rank()], 0.5)
                    }
                }
                1 => concat(&[x.clone(), x.flip(axis as isize), x.narrow(axis as isize, 0, 1)], axis as isize),
                2 => view(&mut dice, &x.exp()) * 2.0,
                3 => x.flatten().sin(),
                4 | 5 => {
                    // Rows of an axis for each of the leading ones, and back.
                    let batch = dice.below(axis + 1);
                    let index: Vec<usize> = x.shape()[..batch].iter().copied().chain([1 + dice.below(4)]).collect();
                    let count = index.iter().product();
                    let places: Vec<i64> = (0..count).map(|_| dice.below(2 * n) as i64 - n as i64).collect();
                    let places = Tensor::from_vec(places, index);
                    let taken = Tensor::apply(Op::Gather { axis, batch }, &[x.clone(), places.clone()]);
                    let back = Op::ScatterAdd { axis, batch, size: n };
                    if kind == 4 { taken } else { Tensor::apply(back, &[places, taken.sin()]) * x }
                }
                _ => {
                    let mask = view(&mut Numbers(seed ^ 1), &x).sum(..).greater(0.0);
                    mask.select(&x, x.full_like(0.5)) + x.cos()
                }
            }
        };
        (format!("kind {kind} over {shape:?}"), check(&[x], &f))
    });
}
