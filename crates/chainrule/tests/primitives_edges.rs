//! Values at the edges: zeros of both signs, infinities, NaN, the largest and the smallest, in every float dtype; and
//! integers and bools, where nothing is rounded. What runs must be what the reference says.

use chainrule::optimize::optimize_without;
use chainrule::prelude::*;
use chainrule::program::{Interpreted, capture, interpret};
use chainrule::tensor::{Binary, Compare, Op, Unary};

/// The numbers of each result.
type Values = Vec<Vec<f64>>;

/// Runs an expression of inputs as a program and by the reference.
fn both(inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Vec<Tensor>) -> Result<(Values, Values), String> {
    let named: Vec<(String, Tensor)> = inputs.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
    let program = capture("edges", &named, &f(inputs)).map_err(|error| error.to_string())?;
    let numbers: Vec<Interpreted> = inputs.iter().map(Interpreted::from_tensor).collect();
    let want: Vec<Vec<f64>> = interpret(&program, &numbers)?.iter().map(Interpreted::to_f64).collect();
    let optimised = interpret(&optimize_without(program, &[]), &numbers)?;
    for (i, (got, want)) in optimised.iter().zip(&want).enumerate() {
        same(&got.to_f64(), want, 0.0, 0.0).map_err(|why| format!("optimised, result {i}: {why}"))?;
    }
    let run = compile(|x: &Vec<Tensor>| f(x)).run(inputs.to_vec()).map_err(|error| error.to_string())?;
    let got =
        run.iter().map(|x| if x.dtype() == DType::F64 { x.to_vec() } else { x.cast(DType::F64).to_vec() }).collect();
    Ok((got, want))
}

/// Equal to a relative tolerance, and to an absolute one near nothing; NaN is NaN and infinities are equal.
fn same(got: &[f64], want: &[f64], tolerance: f64, tiny: f64) -> Result<(), String> {
    let close = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * b.abs() + tiny;
    match got.iter().zip(want).position(|(&a, &b)| !close(a, b)) {
        Some(i) => Err(format!("element {i} is {:e} against {:e}", got[i], want[i])),
        None => Ok(()),
    }
}

/// Numbers that break formulas, in a float dtype.
fn edges(dtype: DType) -> Vec<f64> {
    let (largest, smallest) = match dtype {
        DType::F64 => (f64::MAX, f64::MIN_POSITIVE),
        DType::F16 => (65504.0, 6.103515625e-5),
        _ => (3.0e38, f32::MIN_POSITIVE as f64),
    };
    let half =
        [0.0, 1e-4, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 10.0, 20.0, 87.0, 104.0, 710.0, largest, smallest, f64::INFINITY];
    half.iter().flat_map(|&v| [v, -v]).chain([f64::NAN]).collect()
}

const FLOATS: [(DType, f64, f64); 4] =
    [(DType::F64, 2e-15, 3e-308), (DType::F32, 1e-6, 2e-38), (DType::BF16, 1e-2, 2e-38), (DType::F16, 2e-3, 1e-7)];

#[test]
fn elementwise_functions_at_the_edges() {
    let mut failures = Vec::new();
    for (dtype, tolerance, tiny) in FLOATS {
        let list = edges(dtype);
        let n = list.len();
        let x = Tensor::from_vec(list, [n]).cast(dtype).eval();
        for &unary in Unary::ALL.iter().filter(|unary| **unary != Unary::Not) {
            let f = |x: &[Tensor]| vec![Tensor::apply(Op::Unary(unary), x)];
            let outcome =
                both(std::slice::from_ref(&x), &f).and_then(|(got, want)| same(&got[0], &want[0], tolerance, tiny));
            failures.extend(outcome.err().map(|why| format!("{} in {dtype}: {why}", unary.name())));
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn functions_of_two_operands_at_the_edges() {
    let mut failures = Vec::new();
    for (dtype, tolerance, tiny) in FLOATS {
        let list = edges(dtype);
        let n = list.len();
        let x = Tensor::from_vec(list, [n]).cast(dtype).eval();
        let (a, b) = (x.unsqueeze(1).broadcast_to([n, n]).eval(), x.broadcast_to([n, n]).eval());
        let mut check = |name: &str, f: &dyn Fn(&[Tensor]) -> Vec<Tensor>| {
            let outcome = both(&[a.clone(), b.clone()], f).and_then(|(got, want)| {
                got.iter().zip(&want).try_for_each(|(got, want)| same(got, want, tolerance, tiny))
            });
            failures.extend(outcome.err().map(|why| format!("{name} in {dtype}: {why}, of {n} by {n}")));
        };
        for &binary in Binary::ALL.iter().filter(|binary| !matches!(binary, Binary::And | Binary::Or)) {
            check(binary.name(), &|x| vec![Tensor::apply(Op::Binary(binary), x)]);
        }
        for &compare in Compare::ALL {
            check(compare.name(), &|x| vec![Tensor::apply(Op::Compare(compare), x)]);
        }
        check("times zero", &|x| vec![&x[0] * 0.0 + &x[1] * 1.0]);
        check("plus zero", &|x| vec![(&x[0] + 0.0) / 1.0 - 0.0]);
        check("powers", &|x| [2.0, 1.0, 0.0, 0.5, -1.0, 3.0].iter().map(|&p| x[0].pow(p)).collect());
        check("minus itself", &|x| vec![(&x[0] - &x[0]) + (&x[1] / &x[1])]);
        check("select", &|x| vec![x[0].less(&x[1]).select(&x[0], &x[1])]);
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn reductions_and_sorting_at_the_edges() {
    let mut failures = Vec::new();
    let rows = [[f64::NAN, 1.0, 2.0], [f64::INFINITY, 1.0, -0.0], [1.0, f64::NEG_INFINITY, 3.0], [2.0, 2.0, 1.0]];
    for (dtype, tolerance, tiny) in FLOATS {
        let x = Tensor::from(rows).cast(dtype).eval();
        type Row = (&'static str, fn(&Tensor, isize) -> Tensor);
        let list: [Row; 10] = [
            ("sum", |x, axis| x.sum(axis)),
            ("max", |x, axis| x.max(axis)),
            ("min", |x, axis| x.min(axis)),
            ("prod", |x, axis| x.prod(axis)),
            ("argmax", |x, axis| x.argmax(axis)),
            ("argmin", |x, axis| x.argmin(axis)),
            ("sort", |x, axis| x.sort(axis, false)),
            ("sort descending", |x, axis| x.sort(axis, true)),
            ("argsort", |x, axis| x.argsort(axis, true)),
            ("cumsum", |x, axis| x.cumsum(axis)),
        ];
        for (name, f) in list {
            for axis in 0..2 {
                let outcome = both(std::slice::from_ref(&x), &|x| vec![f(&x[0], axis)])
                    .and_then(|(got, want)| same(&got[0], &want[0], tolerance, tiny));
                failures.extend(outcome.err().map(|why| format!("{name} over {axis} in {dtype}: {why}")));
            }
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn integers_are_exact() {
    let mut failures = Vec::new();
    for dtype in [DType::I64, DType::I32, DType::U8] {
        let list =
            [0i64, 1, -1, 2, 3, -3, 7, 100, 127, 128, 255, 256, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN];
        let x = Tensor::from(list).cast(dtype).eval();
        let n = list.len();
        let (a, b) = (x.unsqueeze(1).broadcast_to([n, n]).eval(), x.broadcast_to([n, n]).eval());
        let index = Tensor::from([3i64, -1, 0]).eval();
        let mut check = |name: &str, inputs: &[&Tensor], f: &dyn Fn(&[Tensor]) -> Vec<Tensor>| {
            let inputs: Vec<Tensor> = inputs.iter().map(|x| (*x).clone()).collect();
            let outcome = both(&inputs, f).and_then(|(got, want)| same(&got[0], &want[0], 0.0, 0.0));
            failures.extend(outcome.err().map(|why| format!("{name} of {dtype}: {why}")));
        };
        for &binary in Binary::ALL {
            if Tensor::try_apply(Op::Binary(binary), &[a.clone(), b.clone()]).is_ok() {
                check(binary.name(), &[&a, &b], &|x| vec![Tensor::apply(Op::Binary(binary), x)]);
            }
        }
        for &unary in Unary::ALL {
            if Tensor::try_apply(Op::Unary(unary), std::slice::from_ref(&a)).is_ok() {
                check(unary.name(), &[&a], &|x| vec![Tensor::apply(Op::Unary(unary), x)]);
            }
        }
        for &compare in Compare::ALL {
            check(compare.name(), &[&a, &b], &|x| vec![Tensor::apply(Op::Compare(compare), x)]);
        }
        for other in DType::ALL {
            check(&format!("cast to {other}"), &[&x], &|x| vec![x[0].cast(other)]);
            if other.is_float() {
                // Fractions, what does not fit, and no number at all.
                let floats =
                    Tensor::from([0.5, -0.5, 1.5, -1.5, 300.0, -300.0, 3e9, -3e9, 6e4, f64::INFINITY, f64::NAN]);
                check(&format!("cast from {other}"), &[&floats.cast(other).eval()], &|x| vec![x[0].cast(dtype)]);
            }
        }
        check("sum", &[&a], &|x| vec![x[0].sum(0)]);
        check("prod", &[&a], &|x| vec![x[0].prod(1)]);
        check("max", &[&a], &|x| vec![x[0].max(0)]);
        check("min", &[&a], &|x| vec![x[0].min(1)]);
        check("argmax", &[&a], &|x| vec![x[0].argmax(0)]);
        check("argmin", &[&b], &|x| vec![x[0].argmin(1)]);
        check("cumsum", &[&a], &|x| vec![x[0].cumsum(0)]);
        check("sort", &[&b], &|x| vec![x[0].sort(1, true), x[0].argsort(1, true)]);
        check("gather", &[&a, &index], &|x| vec![x[0].gather(&x[1], 0)]);
        check("scatter_add", &[&a, &index], &|x| vec![x[0].at(0..3).scatter_add(&x[1], 0, 5)]);
        check("pad", &[&a], &|x| vec![x[0].pad(&[(1, 0), (0, 2)], 3.0)]);
        check("concat", &[&a, &b], &|x| vec![concat(&[&x[0], &x[1].flip(0)], 1)]);
        check("select", &[&a, &b], &|x| vec![x[0].less(&x[1]).select(&x[0], &x[1])]);
        let zero = 0i64;
        check("simple forms", &[&a, &b], &|x| vec![(&x[0] * 1i64 + 0i64) - (&x[1] * zero) + x[0].minimum(&x[0])]);
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn bools_are_exact() {
    let (a, b) = (Tensor::from([true, true, false, false]), Tensor::from([true, false, true, false]));
    let f = |x: &[Tensor]| {
        let (a, b) = (&x[0], &x[1]);
        vec![
            a.and(b),
            a.or(b),
            a.logical_not(),
            a.equal(b),
            a.less(b),
            a.less_equal(b),
            a.and(true).or(false),
            a.and(b.logical_not()).logical_not(),
            a.any(0),
            a.all(0),
            a.cast(DType::I32),
            a.cast(DType::BF16),
            concat(&[a, b], 0).flip(0),
            a.select(b, false),
        ]
    };
    let (got, want) = both(&[a, b], &f).unwrap();
    assert_eq!(got, want);
}
