//! Random programs: bytes choose operations, operands and shapes. Whatever is accepted must give what the reference
//! gives, optimised or not, and so must its derivative.
#![no_main]
use chainrule::optimize::{optimize, optimize_without};
use chainrule::prelude::*;
use chainrule::program::{Interpreted, Numbers, capture, interpret};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fn numbers(value: &Interpreted) -> Vec<f64> {
    match &value.numbers {
        Numbers::Float(list) => list.clone(),
        Numbers::Int(list) => list.iter().map(|&v| v as f64).collect(),
    }
}

/// One more value, made of those there are.
fn grow(u: &mut Unstructured<'_>, values: &[Tensor]) -> Result<Option<Tensor>> {
    let x = u.choose(values)?.clone();
    let y = u.choose(values)?.clone();
    let axis = if x.rank() > 0 { u.int_in_range(0..=x.rank() - 1)? as isize } else { 0 };
    let size = if x.rank() > 0 { x.size(axis) } else { 0 };
    let float = x.dtype().is_float();
    Ok(Some(match u.int_in_range(0..=33)? {
        0 if float => x.sin(),
        1 if float => x.tanh(),
        2 if float => x.sigmoid(),
        3 if float => (x.abs() + 0.5).log(),
        4 if float => x.relu(),
        5 if float => x.clip(-0.75, 0.5),
        6 => -x,
        7 => match x.try_binary(chainrule::tensor::Binary::Add, &y) {
            Ok(z) => z,
            Err(_) => return Ok(None),
        },
        8 => match x.try_binary(chainrule::tensor::Binary::Mul, &y) {
            Ok(z) => z,
            Err(_) => return Ok(None),
        },
        9 => match x.try_binary(chainrule::tensor::Binary::Max, &y) {
            Ok(z) => z,
            Err(_) => return Ok(None),
        },
        10 => match x.try_binary(chainrule::tensor::Binary::Sub, &y) {
            Ok(z) => z,
            Err(_) => return Ok(None),
        },
        11 if float => &x / (x.square() + 1.0),
        12 if x.rank() > 0 => x.sum(axis),
        13 if x.rank() > 0 && size > 0 && float => x.max_keepdims(axis),
        14 if x.rank() > 0 && size > 0 && float => x.mean_keepdims(axis),
        15 if x.rank() > 1 => x.t(),
        16 if x.rank() > 0 => x.flip(axis),
        17 => x.flatten(),
        18 if x.rank() > 0 && x.rank() < 4 => x.unsqueeze(axis),
        19 if x.rank() > 0 => {
            let start = u.int_in_range(0..=size)?;
            let by = u.int_in_range(-3i64..=3)?;
            let by = if by == 0 { 1 } else { by };
            x.move_axis(axis, 0).at(step(start as i64.., by))
        }
        20 if x.rank() > 0 => {
            let amounts: Vec<(usize, usize)> =
                (0..x.rank()).map(|i| if i as isize == axis { (1, 2) } else { (0, 0) }).collect();
            x.pad(&amounts, 0.25)
        }
        21 if x.rank() > 0 => concat(&[&x, &x.flip(axis)], axis),
        22 if x.rank() > 0 => x.cumsum(axis),
        23 if x.rank() > 0 => x.sort(axis, u.arbitrary()?),
        24 => match x.try_matmul(&y) {
            Ok(z) => z,
            Err(_) => return Ok(None),
        },
        25 if x.rank() > 1 => x.matmul(&x.t()) * 0.25,
        26 if x.rank() > 0 && size > 0 && float => x.softmax(axis),
        27 if x.rank() > 0 && size > 0 && float => x.logsumexp(axis),
        28 if x.rank() > 0 && size > 1 => x.gather(&Tensor::from([0i64, -1, 1]), axis),
        29 if x.rank() > 1 => x.tril(0),
        30 if float => x.greater(0.1).select(&x, x.stop_gradient() * 2.0),
        31 if x.rank() > 0 && float => {
            let (last, all) =
                scan(|c: &Tensor, row: &Tensor| ((c * 0.5 + row).tanh(), c * row), &x.sum(0).zeros_like(), &x);
            if u.arbitrary()? { last } else { all }
        }
        32 if float => checkpoint(|x: &Tensor| (x * 1.5).cos(), &x),
        33 if float => cond(&x.sum(..).greater(0.0), |x: &Tensor| x.sin(), |x: &Tensor| x * 0.5, &x),
        _ => return Ok(None),
    }))
}

fn build(u: &mut Unstructured<'_>) -> Result<()> {
    let mut inputs = Vec::new();
    for i in 0..u.int_in_range(1..=3)? {
        let rank = u.int_in_range(0..=3)?;
        let shape: Vec<usize> = (0..rank).map(|_| u.int_in_range(0..=4)).collect::<Result<_>>()?;
        inputs.push(Key::new(i).normal(&shape[..], DType::F64).eval());
    }
    let count = u.int_in_range(1..=14)?;
    let choices: Vec<u8> = u.bytes(u.len())?.to_vec();
    let run = |inputs: &Vec<Tensor>| -> Tensor {
        let mut u = Unstructured::new(&choices);
        let mut values = inputs.clone();
        for _ in 0..count {
            match grow(&mut u, &values) {
                Ok(Some(value)) if value.numel() <= 2000 => values.push(value),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        values.iter().filter(|v| v.dtype() == DType::F64).map(|v| v.sum(..)).reduce(|a, b| a + b).unwrap()
    };
    let Ok((value, (), g)) = gradient(|x| (run(x), ()), &inputs, Unreached::Zeros) else { return Ok(()) };
    let names: Vec<(String, Tensor)> = inputs.iter().enumerate().map(|(i, x)| (format!("x{i}"), x.clone())).collect();
    let results: Vec<Tensor> = std::iter::once(value).chain(g.iter().cloned()).collect();
    let program = capture("fuzzed", &names, &results).unwrap();
    program.verify().unwrap();
    let arguments: Vec<Interpreted> = inputs.iter().map(Interpreted::from_tensor).collect();
    let want = interpret(&program, &arguments).unwrap();
    let same = |a: &[f64], b: &[f64], what: &str| {
        for (a, b) in a.iter().zip(b) {
            let close = (a - b).abs() <= 1e-8 * (1.0 + b.abs()) || (a.is_nan() && b.is_nan()) || a == b;
            assert!(close, "{what}: {a} for {b}\n{program}");
        }
    };
    for (name, better) in
        [("optimised", optimize(program.clone())), ("not fused", optimize_without(program.clone(), &["fuse"]))]
    {
        better.verify().unwrap();
        let got = interpret(&better, &arguments).unwrap();
        for (got, want) in got.iter().zip(&want) {
            same(&numbers(got), &numbers(want), name);
        }
    }
    let mut step = compile(|x: &Vec<Tensor>| {
        let (value, (), g) = gradient(|x| (run(x), ()), x, Unreached::Zeros).unwrap();
        (value, g)
    });
    for _ in 0..2 {
        let (value, g) = step.run(inputs.clone()).unwrap();
        for (got, want) in std::iter::once(&value).chain(&g).zip(&want) {
            same(&got.to_vec::<f64>(), &numbers(want), "run");
        }
    }
    // Forward and reverse mode agree: ⟨∇f, v⟩ = f′(v).
    let directions: Vec<Tensor> =
        inputs.iter().enumerate().map(|(i, x)| Key::new(9 + i as u64).normal(x.shape(), DType::F64).eval()).collect();
    let slope = jvp(run, &inputs, &directions).1.item::<f64>();
    let along: f64 = directions
        .iter()
        .zip(&want[1..])
        .map(|(d, g)| d.to_vec::<f64>().iter().zip(numbers(g)).map(|(d, g)| d * g).sum::<f64>())
        .sum();
    assert!(
        (slope - along).abs() <= 1e-6 * (1.0 + along.abs()) || slope.is_nan() || along.is_nan(),
        "jvp {slope}, vjp {along}\n{program}"
    );
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let _ = build(&mut Unstructured::new(bytes));
});
