//! The vector machine against a naive interpreter, and its costs.

use super::*;
use crate::buffer::Buffer;
use crate::pool::Pool;
use crate::simd::{Level, detected};
use crate::testing::*;
use crate::view::{Layout, ViewMut, numel};
use Instruction as I;

fn load(input: usize) -> I {
    I::Load { input }
}

fn sum(register: usize) -> I {
    I::Reduce(crate::alphabet::Reduction::Sum, register)
}

fn constant(value: Scalar) -> I {
    I::Constant { value }
}

/// Values of `tape` over random strided inputs, one list for each output.
fn run(tape: &Tape, shape: &[usize], inputs: &[&Value]) -> Vec<Vec<f64>> {
    let dtypes: Vec<DType> = tape.output_dtypes().collect();
    let sources: Vec<Source> = inputs.iter().map(|v| Source::View(v.view())).collect();
    let total = numel(shape);
    (0..dtypes.len())
        .map(|k| {
            on_pools(dtypes[k], total, |pool, out| {
                let mut others: Vec<Buffer> = dtypes.iter().map(|d| Buffer::zeroed(d.size() * total)).collect();
                let mut outputs: Vec<ViewMut> =
                    others.iter_mut().zip(&dtypes).map(|(b, &d)| ViewMut::new(b.bytes_mut(), d)).collect();
                let _ = std::mem::replace(&mut outputs[k], ViewMut::new(out.data, out.dtype));
                tape.run(pool, shape, &sources, &mut outputs);
            })
        })
        .collect()
}

fn round(dtype: DType, x: f64) -> f64 {
    Scalar::from_f64(dtype, x).to_f64()
}

fn unary(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Neg => -x,
        Unary::Exp => x.exp(),
        Unary::Expm1 => x.exp_m1(),
        Unary::Log => x.ln(),
        Unary::Log1p => x.ln_1p(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Atan => x.atan(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Erf => libm::erf(x),
        Unary::Sqrt => x.sqrt(),
        Unary::Abs => x.abs(),
        Unary::Sign if x == 0.0 => 0.0,
        Unary::Sign => x.signum(),
        Unary::Floor => x.floor(),
        Unary::Not => (x == 0.0) as u8 as f64,
    }
}

fn binary(op: Binary, integer: bool, x: f64, y: f64) -> f64 {
    match op {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div if integer => {
            if y == 0.0 {
                0.0
            } else {
                (x / y).trunc()
            }
        }
        Binary::Div => x / y,
        Binary::Max => x.max(y),
        Binary::Min => x.min(y),
        Binary::Pow => x.powf(y),
        Binary::And => x * y,
        Binary::Or => x.max(y),
    }
}

#[test]
fn every_operation_on_every_dtype_and_layout() {
    let mut rng = Rng(20);
    let shapes: [&[usize]; 6] = [&[], &[7], &[3, 0], &[5, 3, 2], &[40, 1, 33], &[3000]];
    for dtype in DType::ALL {
        for shape in shapes {
            let (x, y) = (Value::random(&mut rng, dtype, shape), Value::random(&mut rng, dtype, shape));
            let fix = |v: f64| match dtype {
                DType::U8 => v.rem_euclid(256.0),
                _ => round(dtype, v),
            };
            for &op in Unary::ALL {
                let Ok(tape) = Tape::new(&[dtype], vec![load(0), I::Unary(op, 0)], &[1]) else { continue };
                let expected: Vec<f64> = x.values().iter().map(|&x| fix(unary(op, x))).collect();
                assert_close(&run(&tape, shape, &[&x])[0], &expected, dtype, 0.0, op.name());
            }
            for &op in Binary::ALL {
                let program = vec![load(0), load(1), I::Binary(op, 0, 1)];
                let Ok(tape) = Tape::new(&[dtype; 2], program, &[2]) else { continue };
                let each = |(&x, &y): (&f64, &f64)| fix(binary(op, !dtype.is_float(), x, y));
                let expected: Vec<f64> = x.values().iter().zip(&y.values()).map(each).collect();
                assert_close(&run(&tape, shape, &[&x, &y])[0], &expected, dtype, 0.0, op.name());
            }
            for &op in Compare::ALL {
                let program = vec![load(0), load(1), I::Compare(op, 0, 1), I::Select(2, 1, 0)];
                let tape = Tape::new(&[dtype; 2], program, &[2, 3]).unwrap();
                let truth = |(&x, &y): (&f64, &f64)| match op {
                    Compare::Less => x < y,
                    Compare::LessEqual => x <= y,
                    Compare::Equal => x == y,
                };
                let (xs, ys) = (x.values(), y.values());
                let expected: Vec<bool> = xs.iter().zip(&ys).map(truth).collect();
                let got = run(&tape, shape, &[&x, &y]);
                assert_eq!(got[0], expected.iter().map(|&t| t as u8 as f64).collect::<Vec<_>>());
                let chosen: Vec<f64> = (0..xs.len()).map(|i| if expected[i] { ys[i] } else { xs[i] }).collect();
                assert_eq!(got[1], chosen);
            }
            for to in DType::ALL {
                let tape = Tape::new(&[dtype], vec![load(0), I::Cast(to, 0)], &[1]).unwrap();
                let each = |&x: &f64| match to {
                    DType::U8 if dtype.is_int() => x.rem_euclid(256.0),
                    _ => round(to, x),
                };
                let expected: Vec<f64> = x.values().iter().map(each).collect();
                assert_eq!(run(&tape, shape, &[&x])[0], expected, "{dtype} to {to}");
            }
        }
    }
}

#[test]
fn random_programs_equal_instruction_by_instruction() {
    let mut rng = Rng(21);
    for round in 0..60 {
        let shape = [rng.shape(2, 9), vec![700, 3], vec![1]][rng.below(3)].clone();
        let inputs: Vec<Value> = (0..3).map(|_| Value::random(&mut rng, DType::F32, &shape)).collect();
        let mut program = vec![load(0), load(1), load(2), constant(Scalar::F32(0.75)), constant(Scalar::F32(-2.0))];
        for i in program.len()..40 {
            let (a, b) = (rng.below(i), rng.below(i));
            program.push(match rng.below(4) {
                0 => I::Unary([Unary::Tanh, Unary::Neg, Unary::Sin][rng.below(3)], a),
                _ => I::Binary([Binary::Add, Binary::Mul, Binary::Max, Binary::Sub][rng.below(4)], a, b),
            });
        }
        // Compress values, so that nothing overflows.
        let last = program.len();
        program.push(I::Unary(Unary::Tanh, last - 1));
        let outputs = [last, 7, 7, 0, 3, rng.below(last)];
        let tape = Tape::new(&[DType::F32; 3], program.clone(), &outputs).unwrap();
        let views: Vec<&Value> = inputs.iter().collect();
        let got = run(&tape, &shape, &views);
        // One instruction a tape, every value kept.
        let mut values: Vec<Value> = vec![];
        for instruction in &program {
            let (single, operands): (Vec<I>, Vec<&Value>) = match *instruction {
                I::Load { input } => (vec![load(0)], vec![&inputs[input]]),
                I::Unary(op, a) => (vec![load(0), I::Unary(op, 0)], vec![&values[a]]),
                I::Binary(op, a, b) => (vec![load(0), load(1), I::Binary(op, 0, 1)], vec![&values[a], &values[b]]),
                other => (vec![other], vec![]),
            };
            let tape = Tape::new(&vec![DType::F32; operands.len()], single.clone(), &[single.len() - 1]).unwrap();
            let result = run(&tape, &shape, &operands).remove(0);
            values.push(Value::of(DType::F32, &shape, &result));
        }
        for (k, &register) in outputs.iter().enumerate() {
            assert_close(&got[k], &values[register].values(), DType::I32, 0.0, &format!("round {round} output {k}"));
        }
    }
}

#[test]
fn in_place_reads_the_old_contents() {
    // p, m ← p − 0.1·(0.9·m + g), 0.9·m + g; and a swap, whose second store must not see the first.
    let adam = vec![
        load(0),
        load(1),
        load(2),
        constant(Scalar::F32(0.9)),
        I::Binary(Binary::Mul, 1, 3),
        I::Binary(Binary::Add, 4, 2),
        constant(Scalar::F32(0.1)),
        I::Binary(Binary::Mul, 5, 6),
        I::Binary(Binary::Sub, 0, 7),
    ];
    let adam = Tape::new(&[DType::F32; 3], adam, &[8, 5]).unwrap();
    let swap = Tape::new(&[DType::F32; 2], vec![load(0), load(1)], &[1, 0]).unwrap();
    // The first output is written before its own old contents are read again.
    let early = vec![load(0), I::Unary(Unary::Neg, 0), I::Binary(Binary::Mul, 0, 1)];
    let early = Tape::new(&[DType::F32], early, &[1, 2]).unwrap();
    let half = vec![load(0), constant(Scalar::from_f64(DType::BF16, 2.0)), I::Binary(Binary::Mul, 0, 1)];
    let half = Tape::new(&[DType::BF16], half, &[2]).unwrap();
    for threads in [1, 3] {
        let pool = Pool::new(threads);
        for n in [1, 100, 200_000] {
            let shape = [n];
            let layout = Layout::contiguous(&shape);
            let gradient = Buffer::filled(Scalar::F32(1.0), n);
            let (mut p, mut m) = (Buffer::filled(Scalar::F32(5.0), n), Buffer::filled(Scalar::F32(10.0), n));
            let g = Source::View(View::new(gradient.bytes(), DType::F32, &layout));
            let both = [Source::InPlace(0), Source::InPlace(1)];
            macro_rules! step {
                ($tape:expr, $sources:expr) => {{
                    let mut outputs =
                        [ViewMut::new(p.bytes_mut(), DType::F32), ViewMut::new(m.bytes_mut(), DType::F32)];
                    $tape.run(&pool, &shape, $sources, &mut outputs)
                }};
            }
            step!(adam, &[both[0], both[1], g]);
            assert!(p.as_slice::<f32>().iter().all(|&x| x == 4.0) && m.as_slice::<f32>().iter().all(|&x| x == 10.0));
            step!(swap, &both);
            assert!(p.as_slice::<f32>().iter().all(|&x| x == 10.0) && m.as_slice::<f32>().iter().all(|&x| x == 4.0));
            step!(early, &both[..1]);
            assert!(p.as_slice::<f32>().iter().all(|&x| x == -10.0));
            assert!(m.as_slice::<f32>().iter().all(|&x| x == -100.0));
            let mut h = Buffer::filled(Scalar::from_f64(DType::BF16, 3.0), n);
            half.run(&pool, &shape, &both[..1], &mut [ViewMut::new(h.bytes_mut(), DType::BF16)]);
            assert!(h.as_slice::<half::bf16>().iter().all(|x| x.to_f32() == 6.0));
        }
    }
}

#[test]
fn instruction_sets_agree() {
    let mut rng = Rng(22);
    let x = Value::random(&mut rng, DType::F32, &[999]);
    for &op in Unary::ALL {
        let program = [load(0), I::Unary(op, 0)];
        let results: Vec<Vec<f64>> = [Level::Plain, Level::Avx2, Level::Avx512]
            .into_iter()
            .filter(|&level| level <= detected())
            .filter_map(|level| Tape::at_level(level, &[DType::F32], &program, &[1]).ok())
            .map(|tape| run(&tape, &[999], &[&x]).remove(0))
            .collect();
        for result in results.iter().skip(2) {
            assert_close(result, &results[1], DType::I32, 0.0, op.name());
        }
        for result in results.iter().skip(1) {
            assert_close(result, &results[0], DType::F32, 0.0, op.name());
        }
    }
}

#[test]
fn wrong_programs_are_refused_by_name() {
    let cases: [(Vec<I>, &[usize], &str); 10] = [
        (vec![load(3)], &[0], "loads input 3 of 2"),
        (vec![load(0), I::Unary(Unary::Exp, 1)], &[1], "reads register 1"),
        (vec![load(0), load(1), I::Binary(Binary::Add, 0, 1)], &[2], "mixes f32 and i64"),
        (vec![load(1), I::Unary(Unary::Exp, 0)], &[1], "exp does not take i64"),
        (vec![load(0), I::Select(0, 0, 0)], &[1], "selects by f32"),
        (vec![load(0), I::Binary(Binary::And, 0, 0)], &[1], "and does not take f32"),
        (vec![load(0)], &[1], "output register 1"),
        (vec![load(0), sum(0), I::Binary(Binary::Add, 0, 1)], &[2], "mixes elements and rows"),
        (vec![load(0), sum(0), sum(1)], &[2], "already one element"),
        (vec![load(0), I::Spread(0)], &[1], "more than one element a row"),
    ];
    for (program, outputs, text) in cases {
        let error = Tape::new(&[DType::F32, DType::I64], program, outputs).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_million_scalar_instructions_build_in_linear_time_on_few_registers() {
    let mut program = vec![load(0), constant(Scalar::F64(0.999))];
    for i in 2..1_000_000 {
        program.push(match i % 3 {
            0 => I::Binary(Binary::Mul, i - 1, 1),
            1 => I::Binary(Binary::Add, i - 1, 0),
            _ => I::Unary(Unary::Neg, i - 1),
        });
    }
    let start = std::time::Instant::now();
    let tape = Tape::new(&[DType::F64], program, &[999_999]).unwrap();
    let built = start.elapsed();
    // A third are products that their sums make.
    assert!(tape.registers() <= 3 && tape.steps() == 666_666, "{tape:?}");
    let x = Value::of(DType::F64, &[], &[1.0]);
    let mut out = Buffer::zeroed(8);
    let pool = Pool::new(1);
    let mut go = || {
        let mut outputs = [ViewMut::new(out.bytes_mut(), DType::F64)];
        tape.run(&pool, &[], &[Source::View(x.view())], &mut outputs);
    };
    go();
    let start = std::time::Instant::now();
    go();
    println!("a million instructions: built in {built:?}, run in {:?}", start.elapsed());
    assert!(out.as_slice::<f64>()[0].is_finite());
}

#[test]
fn rows_are_joined_and_spread() {
    use crate::alphabet::Reduction;
    // softmax(x)·w with one w for each row, the row's maximum, and its sum of exponentials.
    let program = vec![
        load(0),
        I::LoadRow { input: 1 },
        I::Reduce(Reduction::Max, 0),
        I::Spread(2),
        I::Binary(Binary::Sub, 0, 3),
        I::Unary(Unary::Exp, 4),
        I::Reduce(Reduction::Sum, 5),
        I::Binary(Binary::Div, 1, 6),
        I::Spread(7),
        I::Binary(Binary::Mul, 5, 8),
    ];
    let mut rng = Rng(23);
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let tape = Tape::new(&[dtype; 2], program.clone(), &[9, 2, 6]).unwrap();
        for (rows, n) in [(5, 7), (33, 64), (3, 1000), (2, 5000), (7, 1), (700, 16)] {
            let (x, w) = (Value::random(&mut rng, dtype, &[rows, n]), Value::random(&mut rng, dtype, &[rows, 1]));
            let mut want: [Vec<f64>; 3] = Default::default();
            for (row, w) in x.values().chunks(n).zip(w.values()) {
                let largest = row.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
                want[0].extend(row.iter().map(|x| (x - largest).exp() * w / sum));
                want[1].push(largest);
                want[2].push(sum);
            }
            for (k, want) in want.iter().enumerate() {
                let count = if k == 0 { rows * n } else { rows };
                let got = on_pools(dtype, count, |pool, out| {
                    let mut others = [rows * n, rows, rows].map(|count| Buffer::zeroed(dtype.size() * count));
                    let mut outputs: Vec<ViewMut> =
                        others.iter_mut().map(|b| ViewMut::new(b.bytes_mut(), dtype)).collect();
                    let _ = std::mem::replace(&mut outputs[k], ViewMut::new(out.data, out.dtype));
                    tape.run(pool, &[rows, n], &[Source::View(x.view()), Source::View(w.view())], &mut outputs);
                });
                assert_close(&got, want, dtype, 1e-6, &format!("{dtype} {rows}×{n} output {k}"));
            }
        }
    }
    // A row's elements are overwritten by what is made of all of them.
    let center = vec![load(0), I::Reduce(Reduction::Sum, 0), I::Spread(1), I::Binary(Binary::Sub, 0, 2)];
    let center = Tape::new(&[DType::F32], center, &[3]).unwrap();
    let mut memory = Buffer::filled(Scalar::F32(1.0), 200 * 100);
    let mut outputs = [ViewMut::new(memory.bytes_mut(), DType::F32)];
    center.run(&Pool::new(2), &[200, 100], &[Source::InPlace(0)], &mut outputs);
    assert!(memory.as_slice::<f32>().iter().all(|&x| x == -99.0));
}

/// A slope stands beside its function, on no more registers, and gives what it gave at the end.
#[test]
fn slopes_are_worked_out_beside_their_functions() {
    let mut program = vec![load(0), constant(Scalar::F32(1.01))];
    let mut x = 0;
    let mut chain = vec![];
    for _ in 0..40 {
        chain.push(x);
        program.extend([I::Unary(Unary::Sin, x), I::Binary(Binary::Mul, program.len(), 1)]);
        x = program.len() - 1;
    }
    let (value, mut slope) = (x, 1);
    for &x in chain.iter().rev() {
        program.extend([I::Unary(Unary::Cos, x), I::Binary(Binary::Mul, slope, 1)]);
        program.push(I::Binary(Binary::Mul, program.len() - 2, program.len() - 1));
        slope = program.len() - 1;
    }
    let tape = Tape::new(&[DType::F32], program, &[value, slope]).unwrap();
    assert!(tape.steps() <= 160 && tape.registers() <= 42, "{tape:?}");
    let x = Value::of(DType::F32, &[3], &[0.3, -1.0, 2.0]);
    let results = run(&tape, &[3], &[&x]);
    for (i, &x) in [0.3f32, -1.0, 2.0].iter().enumerate() {
        let (mut y, mut d) = (x as f64, 1.01);
        for _ in 0..40 {
            d *= y.cos() * 1.01;
            y = y.sin() * 1.01;
        }
        assert!((results[0][i] - y).abs() < 1e-5 && (results[1][i] - d).abs() < 1e-4, "{results:?} {y} {d}");
    }
}

/// A product that one sum reads is made in the sum's step, with the bits that two steps give.
#[test]
fn products_join_their_sums() {
    use Binary::{Add, Mul, Sub};
    let (mut rng, shape) = (Rng(5), [3, 67]);
    for (dtype, joined) in [(DType::F32, 1), (DType::F64, 1), (DType::I32, 2)] {
        let values: Vec<Value> = (0..3).map(|_| Value::random(&mut rng, dtype, &shape)).collect();
        let inputs: Vec<&Value> = values.iter().collect();
        for (op, first) in [(Add, true), (Add, false), (Sub, true), (Sub, false), (Mul, true), (Mul, false)] {
            let (a, b) = if first { (3, 2) } else { (2, 3) };
            let chain = vec![load(0), load(1), load(2), I::Binary(Mul, 0, 1), I::Binary(op, a, b)];
            let whole = Tape::new(&[dtype; 3], chain.clone(), &[4]).unwrap();
            let apart = Tape::new(&[dtype; 3], chain, &[4, 3]).unwrap(); // the product is asked for too
            assert_eq!((whole.steps(), apart.steps()), (joined, 2));
            assert_eq!(run(&whole, &shape, &inputs)[0], run(&apart, &shape, &inputs)[0], "{dtype} {op:?} {first}");
        }
        let twice = vec![load(0), load(1), I::Binary(Mul, 0, 1), I::Binary(Add, 2, 0), I::Binary(Add, 2, 3)];
        assert_eq!(Tape::new(&[dtype; 2], twice, &[4]).unwrap().steps(), 3);
        let square = vec![load(0), I::Binary(Mul, 0, 0), I::Binary(Add, 1, 1)];
        assert_eq!(Tape::new(&[dtype; 1], square, &[2]).unwrap().steps(), 2);
    }
}

/// Outputs so large that they go past the caches have the bits of small ones, in unaligned tiles and at the ends too.
#[test]
fn large_outputs_go_past_the_caches() {
    let n = (8 << 20) + 13; // floats: over 32 MB
    let program = vec![load(0), constant(Scalar::F32(3.0)), I::Binary(Binary::Mul, 0, 1), I::Unary(Unary::Neg, 2)];
    let tape = Tape::new(&[DType::F32], program, &[3]).unwrap();
    let x = Buffer::from_slice(&(0..n).map(|i| i as f32).collect::<Vec<_>>());
    let layout = Layout::contiguous(&[n]);
    for threads in [1, 2] {
        let mut out = Buffer::zeroed(4 * n);
        let source = Source::View(crate::view::View::new(x.bytes(), DType::F32, &layout));
        tape.run(&Pool::new(threads), &[n], &[source], &mut [ViewMut::new(out.bytes_mut(), DType::F32)]);
        let wrong = out.as_slice::<f32>().iter().enumerate().find(|(i, y)| **y != -3.0 * (*i as f32));
        assert!(wrong.is_none(), "{wrong:?}");
    }
}
