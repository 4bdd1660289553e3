//! Every primitive and composite, by one table: derivatives against finite differences, forward against reverse,
//! batches against loops, programs against the reference, threads against one, and whether the set is closed.

mod matrix;

use chainrule::optimize::optimize_without;
use chainrule::prelude::*;
use chainrule::program::{Interpreted, Program, capture, interpret};
use chainrule::tensor::{CallKind, Composite, Op, Reduction};
use matrix::{Case, agree, every, inner, numbers, table};
use std::collections::{BTreeMap, BTreeSet, HashSet};

fn narrow() -> impl Iterator<Item = Case> {
    table().into_iter().filter(|case| !case.wide)
}

/// A point moved along a direction.
fn moved(x: &[Tensor], direction: &[Tensor], step: f64) -> Vec<Tensor> {
    let floats = Case::floats(x);
    let (places, directions) = (numbers(&floats), numbers(direction));
    let shift = |(x, (a, d)): (&Tensor, (&Vec<f64>, &Vec<f64>))| {
        Tensor::from_vec(a.iter().zip(d).map(|(a, d)| a + step * d).collect::<Vec<f64>>(), x.shape())
    };
    let floats: Vec<Tensor> = floats.iter().zip(places.iter().zip(&directions)).map(shift).collect();
    Case::with_floats(x, &floats)
}

/// d f(x + s·direction)/ds at 0 by central differences at two steps, extrapolated (Richardson).
fn slope(case: &Case, x: &[Tensor], direction: &[Tensor], f: impl Fn(&[Tensor]) -> Vec<Tensor>) -> Vec<Vec<f64>> {
    let h = case.step;
    let points: Vec<Vec<Tensor>> = [h, -h, h / 2.0, -h / 2.0].iter().map(|&s| f(&moved(x, direction, s))).collect();
    let count = points[0].len();
    let values = numbers(&points.concat());
    let at = |point: usize, i: usize, j: usize| values[point * count + i][j];
    let extrapolated = |i: usize, j: usize| {
        let (far, near) = ((at(0, i, j) - at(1, i, j)) / (2.0 * h), (at(2, i, j) - at(3, i, j)) / h);
        near + (near - far) / 3.0
    };
    (0..count).map(|i| (0..values[i].len()).map(|j| extrapolated(i, j)).collect()).collect()
}

#[test]
fn first_derivatives_are_those_of_finite_differences() {
    every(narrow(), |case| {
        let x = case.point(0);
        let gradient = numbers(&Case::gradient(&x, |x| case.scalar(x)));
        let direction = case.directions(&x);
        let got = inner(&gradient, &numbers(&direction));
        let want = slope(case, &x, &direction, |x| vec![case.scalar(x)])[0][0];
        let largest = gradient.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
        if case.apply(&x).numel() > 0 && gradient.iter().any(|g| !g.is_empty()) && largest < 1e-3 {
            return Err(format!("says nothing: the largest derivative is {largest:e}"));
        }
        agree("slope", &[got], &[want], 1e-6)
    });
}

#[test]
fn second_derivatives_are_those_of_finite_differences() {
    every(narrow(), |case| {
        let x = case.point(0);
        let direction = case.directions(&x);
        let along = |v: &Vec<Tensor>| case.bent_scalar(&Case::with_floats(&x, v));
        let got = numbers(&hvp(along, &Case::floats(&x), &direction));
        let want = slope(case, &x, &direction, |x| Case::gradient(x, |x| case.bent_scalar(x)));
        agree("second derivative", &got.concat(), &want.concat(), 1e-4)
    });
}

#[test]
fn forward_mode_is_the_adjoint_of_reverse_mode() {
    every(narrow(), |case| {
        let x = case.point(0);
        let (floats, direction) = (Case::floats(&x), case.directions(&x));
        let f = |v: &Vec<Tensor>| case.apply(&Case::with_floats(&x, v));
        let (y, pushed) = jvp(f, &floats, &direction);
        let cotangent = case.weights(&y, 300);
        let pulled = Case::gradient(&x, |x| (case.apply(x) * &cotangent).sum(..));
        let forward = inner(&numbers(&[pushed]), &numbers(&[cotangent]));
        let reverse = inner(&numbers(&pulled), &numbers(&direction));
        agree("⟨v, J u⟩ and ⟨Jᵀ v, u⟩", &[forward], &[reverse], case.adjoint)
    });
}

/// The value and the gradient.
fn value_and_gradient(case: &Case, x: &[Tensor]) -> Vec<Tensor> {
    let gradient = Case::gradient(x, |x| case.scalar(x));
    std::iter::once(case.apply(x)).chain(gradient).collect()
}

#[test]
fn a_batch_is_a_loop() {
    every(narrow(), |case| {
        let points: Vec<Vec<Tensor>> = (0..3).map(|i| case.point(i)).collect();
        let count = case.operands.len();
        let mut patterns = vec![vec![Some(0); count], vec![Some(-1); count]];
        if count > 1 {
            patterns.extend((0..count).map(|i| (0..count).map(|j| (i == j).then_some(0)).collect()));
        }
        for axes in patterns {
            let operand = |i: usize| match axes[i] {
                Some(axis) => stack(&points.iter().map(|x| x[i].clone()).collect::<Vec<_>>(), axis).eval(),
                None => points[0][i].clone(),
            };
            let xs: Vec<Tensor> = (0..count).map(operand).collect();
            let batch = numbers(&vmap_axes(|x: &Vec<Tensor>| value_and_gradient(case, x), &xs, &axes));
            let one = |row: usize| {
                let pick = |i: usize| if axes[i].is_some() { points[row][i].clone() } else { points[0][i].clone() };
                value_and_gradient(case, &(0..count).map(pick).collect::<Vec<_>>())
            };
            let rows = numbers(&(0..3).flat_map(one).collect::<Vec<_>>());
            for (i, got) in batch.iter().enumerate() {
                let want: Vec<f64> = (0..3).flat_map(|row| rows[row * batch.len() + i].clone()).collect();
                agree(&format!("axes {axes:?}, result {i}"), got, &want, 1e-11)?;
            }
        }
        Ok(())
    });
}

fn captured(case: &Case, x: &[Tensor], f: impl Fn(&[Tensor]) -> Vec<Tensor>) -> Program {
    let inputs: Vec<(String, Tensor)> = x.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
    capture(&case.name, &inputs, &f(x)).unwrap_or_else(|error| panic!("{error}"))
}

fn interpreted(program: &Program, x: &[Tensor]) -> Result<Vec<Vec<f64>>, String> {
    let inputs: Vec<Interpreted> = x.iter().map(Interpreted::from_tensor).collect();
    Ok(interpret(program, &inputs)?.iter().map(Interpreted::to_f64).collect())
}

/// The optimised program, as the reference runs it and as the machine does, against the reference.
fn optimised_equals_reference(
    case: &Case,
    x: &[Tensor],
    f: impl Fn(&[Tensor]) -> Vec<Tensor>,
    tolerance: f64,
) -> Result<(), String> {
    let program = captured(case, x, &f);
    let want = interpreted(&program, x)?;
    let optimised = interpreted(&optimize_without(program, &[]), x)?;
    let run = compile(|x: &Vec<Tensor>| f(x)).run(x.to_vec()).map_err(|error| error.to_string())?;
    let run = numbers(&run);
    for (i, want) in want.iter().enumerate() {
        agree(&format!("{} optimised, result {i}", x[x.len() - 1].dtype()), &optimised[i], want, tolerance)?;
        agree(&format!("{} run, result {i}", x[x.len() - 1].dtype()), &run[i], want, tolerance)?;
    }
    Ok(())
}

fn rounded(x: &[Tensor], dtype: DType) -> Vec<Tensor> {
    x.iter().map(|x| if x.dtype().is_float() { x.cast(dtype).eval() } else { x.clone() }).collect()
}

#[test]
fn optimised_programs_are_the_reference() {
    every(narrow(), |case| optimised_equals_reference(case, &case.point(0), |x| case.derivatives(x), 1e-11));
}

#[test]
fn optimised_programs_are_the_reference_in_less_precision() {
    every(narrow(), |case| {
        let x = case.point(0);
        let value = |x: &[Tensor]| vec![case.apply(x)];
        if case.f32 {
            optimised_equals_reference(case, &rounded(&x, DType::F32), value, 1e-5)?;
            optimised_equals_reference(case, &rounded(&x, DType::F32), |x| value_and_gradient(case, x), 1e-4)?;
        }
        if case.half {
            optimised_equals_reference(case, &rounded(&x, DType::BF16), value, 6e-2)?;
            optimised_equals_reference(case, &rounded(&x, DType::F16), value, 8e-3)?;
        }
        Ok(())
    });
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    every(table().into_iter(), |case| {
        for dtype in [DType::F64, DType::F32] {
            if dtype == DType::F32 && !(case.f32 && case.wide) {
                continue;
            }
            let x = rounded(&case.point(0), dtype);
            let bits = |threads: usize| -> Result<Vec<Vec<u64>>, String> {
                let mut run = compile(|x: &Vec<Tensor>| value_and_gradient(case, x)).threads(threads);
                let results = run.run(x.clone()).map_err(|error| error.to_string())?;
                Ok(numbers(&results).iter().map(|list| list.iter().map(|v| v.to_bits()).collect()).collect())
            };
            let one = bits(1)?;
            for threads in [2, 3] {
                if bits(threads)? != one {
                    return Err(format!("{threads} threads give other bits in {dtype}"));
                }
            }
        }
        Ok(())
    });
}

/// Every name an operation can have; a new variant does not compile until it is listed here.
fn names_like(op: &Op) -> Vec<&'static str> {
    use chainrule::tensor::{Binary, Compare, Unary};
    match op {
        Op::Unary(_) => Unary::ALL.iter().map(|op| op.name()).collect(),
        Op::Binary(_) => Binary::ALL.iter().map(|op| op.name()).collect(),
        Op::Compare(_) => Compare::ALL.iter().map(|op| op.name()).collect(),
        Op::Reduce(Reduction::Sum | Reduction::Max | Reduction::Min | Reduction::Prod, _) => {
            vec!["sum", "reduce_max", "reduce_min", "prod"]
        }
        Op::ArgReduce(..) => vec!["argmax", "argmin"],
        Op::Call(CallKind::Checkpoint | CallKind::Custom(..), _) => vec!["checkpoint", "custom"],
        Op::Composite(
            Composite::Softplus
            | Composite::Softmax(_)
            | Composite::LogSoftmax(_)
            | Composite::LogSumExp(_)
            | Composite::Normalize(..)
            | Composite::Norm(_),
        ) => vec!["softplus", "softmax", "log_softmax", "logsumexp", "normalize", "norm"],
        Op::Input(_) | Op::Data(_) | Op::Constant(..) | Op::Iota(..) | Op::Random(..) => {
            vec!["input", "data", "constant", "iota", "random"]
        }
        Op::Variable | Op::StopGradient | Op::Select | Op::Cast(_) => {
            vec!["variable", "stop_gradient", "select", "cast"]
        }
        Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Slice(_) | Op::Pad(..) | Op::Concat(_) => {
            vec!["reshape", "permute", "broadcast", "slice", "pad", "concat"]
        }
        Op::Reverse(_) | Op::Cumsum { .. } | Op::Sort { .. } | Op::Gather { .. } | Op::ScatterAdd { .. } => {
            vec!["reverse", "cumsum", "sort", "gather", "scatter_add"]
        }
        Op::Dot(_) | Op::Conv(_) | Op::Unfold(_) | Op::Fold(_) => vec!["dot", "conv", "unfold", "fold"],
        Op::Cholesky | Op::TriangularSolve { .. } => vec!["cholesky", "triangular_solve"],
        Op::Scan(..) | Op::Cond(..) => vec!["scan", "cond"],
    }
}

/// Adds the operations of an expression, those of bodies included, to what was met: name to the names of its like.
fn meet(results: &[Tensor], met: &mut BTreeMap<&'static str, Vec<&'static str>>) {
    let mut seen = HashSet::new();
    let mut pending: Vec<Tensor> = results.to_vec();
    while let Some(tensor) = pending.pop() {
        if !seen.insert(tensor.node().id()) {
            continue;
        }
        let op = tensor.node().op();
        met.entry(op.name()).or_insert_with(|| names_like(op));
        pending.extend(tensor.node().inputs().iter().cloned());
        match op {
            Op::Scan(_, body) | Op::Call(_, body) => pending.extend(body.results.iter().cloned()),
            Op::Cond(yes, no) => pending.extend(yes.results.iter().chain(&no.results).cloned()),
            _ => {}
        }
    }
}

#[test]
fn every_operation_has_a_row() {
    let mut met = BTreeMap::new();
    narrow().for_each(|case| meet(&[case.apply(&case.point(0))], &mut met));
    meet(&Case::gradient(&[Tensor::from(1.0)], |x| x[0].sin()), &mut met);
    let like: BTreeSet<&str> = met.values().flatten().copied().collect();
    // One of each group above, so that none can be missed as a whole.
    let groups = [
        "neg",
        "add",
        "less",
        "sum",
        "argmax",
        "checkpoint",
        "softmax",
        "data",
        "select",
        "reshape",
        "sort",
        "dot",
        "cholesky",
        "scan",
    ];
    let missing: Vec<&&str> = like.iter().chain(&groups).filter(|name| !met.contains_key(**name)).collect();
    assert!(missing.is_empty(), "no row of the table has {missing:?}");
}

#[test]
fn the_set_is_closed_under_differentiation() {
    every(narrow(), |case| {
        let x = case.point(0);
        let program = captured(case, &x, |x| case.derivatives(x));
        program.verify()?;
        optimize_without(program, &[]).verify()
    });
}
