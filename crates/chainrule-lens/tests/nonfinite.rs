//! Ways to make a NaN or an infinity, and what the trace must say about each: the operation, its line, the numbers and
//! the spelling to use instead.

use chainrule::prelude::*;
use chainrule_lens::nonfinite::Cause;
use chainrule_lens::place::Part;
use chainrule_lens::{NonFinite, trace_nonfinite, trace_program, trace_values};

type Loss = fn(&Tensor) -> Tensor;

struct Row {
    name: &'static str,
    x: Tensor,
    loss: Loss,
    operation: &'static str,
    cause: Cause,
    /// What is derived, if it is a derivative that fails.
    derives: Option<&'static str>,
    /// The element at which it fails, and a number that it was made from.
    at: &'static [usize],
    from: f64,
    advice: &'static str,
}

const F16_LARGE: f64 = 70000.0;

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let row = |name, x: Tensor, loss: Loss, (operation, cause, derives): (&'static str, Cause, Option<&'static str>),
               at: &'static [usize], from, advice| Row { name, x, loss, operation, cause, derives, at, from, advice };
    let v = |numbers: &[f64]| Tensor::from_vec(numbers, [numbers.len()]);
    let f = |numbers: &[f32]| Tensor::from_vec(numbers, [numbers.len()]);
    vec![
        row("log 0", v(&[1.0, 0.0]), |x| x.log().sum(..), ("log", Cause::LogOfZero, None), &[1], 0.0, "maximum(1e-12)"),
        row("log of a negative", v(&[-2.0, 1.0]), |x| x.log().sum(..), ("log", Cause::LogOfNegative, None), &[0], -2.0, "positive"),
        row("log1p of -1", v(&[0.0, -1.0]), |x| x.log1p().sum(..), ("log1p", Cause::LogOfZero, None), &[1], -1.0, "maximum"),
        row("log of a softmax spelled out", f(&[0.0, 200.0]), |x| {
            let e = (x - x.max_keepdims(0)).exp();
            (&e / e.sum_keepdims(0)).log().sum(..)
        }, ("log", Cause::LogOfZero, None), &[0], 0.0, "log_softmax"),
        row("log of a sigmoid", f(&[1.0, -120.0]), |x| x.sigmoid().log().sum(..), ("log", Cause::LogOfZero, None), &[1], 0.0, "log_sigmoid"),
        row("log of 1 - sigmoid", f(&[1.0, 120.0]), |x| (1.0 - x.sigmoid()).log().sum(..), ("log", Cause::LogOfZero, None), &[1], 0.0, "(-x).log_sigmoid"),
        row("log of a sum of exps", f(&[-300.0, -300.0]), |x| x.exp().sum(..).log(), ("log", Cause::LogOfZero, None), &[], 0.0, "logsumexp"),
        row("binary cross-entropy", f(&[2.0, 150.0]), |x| {
            let (p, y) = (x.sigmoid(), Tensor::from([0.0f32, 1.0]));
            -(&y * p.log() + (1.0 - &y) * (1.0 - &p).log()).mean(..)
        }, ("log", Cause::LogOfZero, None), &[1], 0.0, "(-x).log_sigmoid"),
        row("entropy of a certain distribution", v(&[1.0, 0.0]), |p| -(p * p.log()).sum(..), ("log", Cause::LogOfZero, None), &[1], 0.0, "choose before"),
        row("exp overflows", f(&[1.0, 100.0]), |x| x.exp().sum(..).log(), ("exp", Cause::Overflow, None), &[1], 100.0, "softmax"),
        row("softmax without the shift", f(&[1.0, 100.0]), |x| (x.exp() / x.exp().sum_keepdims(0)).square().sum(..), ("exp", Cause::Overflow, None), &[1], 100.0, "softmax"),
        row("sigmoid by hand", f(&[-100.0]), |x| ((-x).exp() / ((-x).exp() + 1.0)).sum(..), ("exp", Cause::Overflow, None), &[0], 100.0, "sigmoid"),
        row("softplus by hand", f(&[0.0, 89.5]), |x| (x.exp() + 1.0).log().sum(..), ("exp", Cause::Overflow, None), &[1], 89.5, "softplus"),
        row("exp alone", f(&[88.0, 89.0]), |x| (x.exp() * 1e-30).sum(..), ("exp", Cause::Overflow, None), &[1], 89.0, "minimum(80.0)"),
        row("expm1 overflows", f(&[95.0]), |x| x.expm1().mean(..), ("expm1", Cause::Overflow, None), &[0], 95.0, "minimum(80.0)"),
        row("square root of a negative", v(&[4.0, -1.0]), |x| x.sqrt().sum(..), ("sqrt", Cause::RootOfNegative, None), &[1], -1.0, "maximum(0.0)"),
        row("variance as a difference of squares", f(&[4097.0, 4097.0, 4097.0]), |x| {
            let mean_of_squares = (x * x).sum(..) / 3.0;
            (mean_of_squares - x.mean(..).square() - 1.0).sqrt()
        }, ("sqrt", Cause::RootOfNegative, None), &[], f64::NAN, "below it"),
        row("root at 0", v(&[1.0, 0.0]), |x| x.sqrt().sum(..), ("div", Cause::DivisionByZero, Some("sqrt")), &[1], 0.0, "(x + 1e-12).sqrt()"),
        row("norm by hand at 0", v(&[0.0, 0.0]), |x| x.square().sum(..).sqrt(), ("div", Cause::DivisionByZero, Some("sqrt")), &[], 0.0, "norm(axes)"),
        row("standard deviation of equal numbers", v(&[3.0, 3.0]), |x| x.std(.., 0), ("div", Cause::DivisionByZero, Some("sqrt")), &[], 0.0, "inside the root"),
        row("x over its norm at 0", v(&[0.0, 0.0]), |x| (x / x.norm(..)).sum(..), ("div", Cause::ZeroOverZero, None), &[0], 0.0, "maximum(1e-12)"),
        row("division by zero", v(&[1.0, 2.0]), |x| (x / (x - 2.0)).sum(..), ("div", Cause::DivisionByZero, None), &[1], 0.0, "off 0"),
        row("zero over zero", v(&[1.0, 0.0]), |x| (x.sin() / x).sum(..), ("div", Cause::ZeroOverZero, None), &[1], 0.0, "off 0"),
        row("mean of an empty mask", v(&[1.0, 2.0]), |x| {
            let mask = x.greater(5.0).cast(DType::F64);
            (x * &mask).sum(..) / mask.sum(..)
        }, ("div", Cause::ZeroOverZero, None), &[], 0.0, "count.maximum(1.0)"),
        row("where trick, log", v(&[2.0, 0.0]), |x| x.greater(0.0).select(&x.log(), 0.0).sum(..), ("div", Cause::ZeroOverZero, Some("log")), &[1], 0.0, "before, not only after"),
        row("where trick, root", v(&[4.0, 0.0]), |x| x.greater(0.0).select(&x.sqrt(), 0.0).sum(..), ("div", Cause::ZeroOverZero, Some("sqrt")), &[1], 0.0, "before, not only after"),
        row("where trick, division", v(&[4.0, 0.0]), |x| x.not_equal(0.0).select(&(1.0 / x), 0.0).sum(..), ("div", Cause::DivisionByZero, None), &[1], 0.0, "before, not only after"),
        row("where trick, exp", f(&[1.0, 200.0]), |x| x.less(50.0).select(&x.exp(), 0.0).sum(..), ("exp", Cause::Overflow, None), &[1], 200.0, "before, not only after"),
        row("fractional power at 0", v(&[1.0, 0.0]), |x| x.pow(0.5).sum(..), ("pow", Cause::ZeroToNegative, Some("pow")), &[1], 0.0, "p < 1"),
        row("negative power of 0", v(&[0.0, 1.0]), |x| x.pow(-2.0).sum(..), ("pow", Cause::ZeroToNegative, None), &[0], 0.0, "no negative power"),
        row("fractional power of a negative", v(&[-8.0]), |x| x.pow(1.0 / 3.0).sum(..), ("pow", Cause::NegativeToFraction, None), &[0], -8.0, "abs()"),
        row("power overflows", f(&[1e20]), |x| x.pow(3.0).sum(..), ("pow", Cause::Overflow, None), &[0], 1e20f32 as f64, "beyond the dtype"),
        row("square overflows", f(&[1.0, 3e30]), |x| x.square().mean(..), ("mul", Cause::Overflow, None), &[1], 3e30f32 as f64, "beyond the dtype"),
        row("half precision overflows", f(&[1.0, 70000.0]), |x| x.cast(DType::F16).cast(DType::F32).sum(..), ("cast", Cause::Overflow, None), &[1], F16_LARGE, "bf16"),
        row("a sum overflows", f(&[3e38, 3e38]), |x| x.sum(..), ("sum", Cause::Overflow, None), &[], 3e38f32 as f64, "beyond the dtype"),
        row("a matrix product overflows", Tensor::from([[1e25f32, 1e25], [1.0, 1.0]]), |x| x.matmul(&x.t()).sum(..), ("dot", Cause::Overflow, None), &[0, 0], 1e25f32 as f64, "beyond the dtype"),
        row("arc cosine at 1", v(&[0.5, 1.0]), |x| x.acos().sum(..), ("div", Cause::ZeroOverZero, Some("div")), &[1], 0.0, "clip(-1.0"),
        row("a row masked whole", v(&[1.0, 2.0]), |x| {
            let mask = Tensor::from([true, true]);
            x.masked_fill(&mask, f64::NEG_INFINITY).softmax(0).square().sum(..)
        }, ("div", Cause::ZeroOverZero, None), &[0], 0.0, "masked"),
        row("a mask that multiplies", v(&[1.0, 2.0]), |x| {
            let open = Tensor::from([1.0, 0.0]);
            (x * ((1.0 - &open) * f64::NEG_INFINITY)).sum(..)
        }, ("mul", Cause::ZeroTimesInfinity, None), &[0], f64::NEG_INFINITY, "select"),
        row("infinities that meet", v(&[1.0, 2.0]), |x| {
            let far = Tensor::full([2], f64::INFINITY, DType::F64);
            ((x + &far) - (x * &far)).sum(..)
        }, ("sub", Cause::InfinityMinusInfinity, None), &[0], f64::INFINITY, "-1e9"),
        row("not positive definite", Tensor::from([[1.0, 2.0], [2.0, 1.0]]), |x| x.logdet_spd(), ("cholesky", Cause::NotPositiveDefinite, None), &[0, 0], 2.0, "diagonal"),
        row("a singular triangle", Tensor::from([[1.0, 0.0], [3.0, 0.0]]), |x| x.triangular_solve(&Tensor::from([[1.0], [1.0]]), true, false).sum(..),
            ("triangular_solve", Cause::Singular, None), &[1, 0], 0.0, "diagonal"),
        row("a gradient overflows", f(&[1e-30]), |x| (x * 1e20).square().square() .sum(..) * 0.0 + (1e-20 / x).sum(..), ("div", Cause::Overflow, Some("div")), &[0], f64::NAN, "clip_norm"),
        row("given as NaN", v(&[1.0, f64::NAN]), |x| x.sum(..), ("input", Cause::Given, None), &[1], f64::NAN, "comes in"),
    ]
}

fn fault(row: &Row, found: &Option<NonFinite>) -> Option<String> {
    let Some(found) = found else { return Some("nothing was found".to_owned()) };
    let elements: Vec<f64> = found.operands.iter().flat_map(|operand| &operand.elements).map(|e| e.value.0).collect();
    let wrong = [
        (found.operation != row.operation, format!("operation {}", found.operation)),
        (found.cause != row.cause, format!("cause {:?}", found.cause)),
        (found.part.derives() != row.derives, format!("part {:?}", found.part)),
        (found.at.index != row.at, format!("index {:?}", found.at.index)),
        (!row.from.is_nan() && !elements.contains(&row.from), format!("numbers {elements:?}")),
        (!found.advice.contains(row.advice), format!("advice {:?}", found.advice)),
        (!found.line.file.ends_with("nonfinite.rs") && row.cause != Cause::Given, format!("line {}", found.line)),
    ];
    let wrong: Vec<String> = wrong.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
    (!wrong.is_empty()).then(|| format!("{}\n{found}", wrong.join("; ")))
}

#[test]
fn every_way_to_make_a_nan_is_traced_to_its_operation() {
    let rows = rows();
    assert!(rows.len() >= 25);
    let faults: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(format!("{}: {}", row.name, fault(row, &trace_nonfinite(row.loss, &row.x))?)))
        .collect();
    assert!(faults.is_empty(), "{} of {} rows\n\n{}", faults.len(), rows.len(), faults.join("\n\n"));
}

/// The optimised program of a compiled step says the same about what fails in its forward pass.
#[test]
fn a_compiled_step_is_traced_through_its_fused_groups() {
    let faults: Vec<String> = rows()
        .iter()
        .filter(|row| row.derives.is_none() && !matches!(row.cause, Cause::Given))
        .filter_map(|row| {
            let mut step = compile(|x: &Tensor| value_and_grad(row.loss, x));
            let found = trace_program(step.program(&row.x), std::slice::from_ref(&row.x)).unwrap();
            let found = found.map(|found| (found.operation, found.cause));
            (found != Some((row.operation.to_owned(), row.cause))).then(|| format!("{}: {found:?}", row.name))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_finite_gives_nothing() {
    let x = Tensor::from([0.0, 1.0, -5.0]);
    let safe: [Loss; 6] = [
        |x| x.norm(..),
        |x| x.log_softmax(0).exp().sum(..),
        |x| x.softplus().sum(..),
        |x| {
            let positive = x.greater(0.0);
            positive.select(&positive.select(x, 1.0).log(), 0.0).sum(..)
        },
        |x| x.masked_fill(&Tensor::from([true, false, true]), f64::NEG_INFINITY).softmax(0).square().sum(..),
        |x| x.relu().sum(..),
    ];
    for (i, loss) in safe.into_iter().enumerate() {
        let found = trace_nonfinite(loss, &x);
        assert!(found.is_none(), "row {i}: {}", found.unwrap());
    }
}

#[test]
fn the_line_is_the_users_own() {
    let x = (Tensor::from([1.0, 2.0]), Tensor::from([0.0, 3.0]));
    let line = line!() + 1;
    let found = trace_nonfinite(|(a, b): &(Tensor, Tensor)| (a / b).sum(..), &x).unwrap();
    assert_eq!(found.line.line, line);
    assert_eq!(found.operands[1].name.as_deref(), Some("1"));
    assert_eq!((found.result.as_str(), found.part.clone()), ("the value", Part::Forward));
    assert_eq!(found.passed.last().unwrap().operation, "sum");
}

#[test]
fn an_infinity_that_a_select_drops_is_not_blamed() {
    // log 0 comes first and is dropped whole; the root of −1 is what reaches the value.
    let loss = |x: &Tensor| x.greater(0.0).select(&x.log(), 0.0).stop_gradient().sum(..) + (x - 1.0).sqrt().sum(..);
    let found = trace_nonfinite(loss, &Tensor::from([2.0, 0.0])).unwrap();
    assert_eq!((found.operation.as_str(), found.at.index.as_slice()), ("sqrt", &[1usize][..]));
}

#[test]
fn loops_and_branches_are_looked_into() {
    let grow = |x: &Tensor| {
        let (last, all) =
            scan(|c: &Tensor, k: &Tensor| (c.square() * k, c.clone()), x, &Tensor::full([6], 10.0, DType::F32));
        last + all.sum(..) * 0.0
    };
    let found = trace_nonfinite(grow, &Tensor::from(10.0f32)).unwrap();
    // 10, 1e3, 1e7, 1e15, 1e31, then 1e62.
    assert_eq!((found.operation.as_str(), found.cause), ("mul", Cause::Overflow));
    assert!(found.inside[0].starts_with("step 4 of the loop at nonfinite.rs"), "{:?}", found.inside);
    let found = trace_values(
        |x: &Tensor| cond(&x.greater(0.0), |x: &Tensor| x.sqrt(), |x: &Tensor| x.log(), x),
        &Tensor::from(-3.0),
    );
    let found = found.unwrap();
    assert_eq!((found.operation.as_str(), found.operands[0].elements[0].value.0), ("log", -3.0));
    assert!(found.inside[0].starts_with("the branch taken"), "{:?}", found.inside);
    // What a loop is given from outside is followed out of it: a zero carry, an element of a sequence.
    let outside = |x: &Tensor| scan(|c: &Tensor, x: &Tensor| (c + x, c.clone()), &Tensor::from(0.0), &(1.0 / x)).0;
    let found = trace_values(outside, &Tensor::from([1.0, 2.0, 0.0, 4.0])).unwrap();
    assert_eq!((found.operation.as_str(), found.at.index.as_slice()), ("div", &[2usize][..]));
}

#[test]
fn moves_are_followed_to_the_element() {
    let far = |x: &Tensor| {
        let y = concat(&[x.log(), x.log() * 2.0], 1).t().flip(0).pad(&[(1, 0), (0, 2)], 0.0);
        y.narrow(0, 1, 4).permute([1, 0]).sort(0, false).at((0, ..)).gather(&Tensor::from([3i64, 1]), 0).sum(..)
    };
    let x = Tensor::from([[1.0, 2.0], [0.0, 4.0]]);
    let found = trace_values(far, &x).unwrap();
    assert_eq!((found.operation.as_str(), found.at.index.as_slice()), ("log", &[1usize, 0][..]));
}

#[test]
fn a_report_prints_and_serialises() {
    let found = trace_nonfinite(|x: &Tensor| x.greater(0.0).select(&x.log(), 0.0).sum(..), &Tensor::from([1.0, 0.0]));
    let found = found.unwrap();
    let text = found.to_string();
    for part in
        ["the gradient of the argument is not finite: NaN at [1]", "div (derivative of log)", "0/0 in (log x)' = 1/x"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["at"]["value"], "NaN");
    assert_eq!(json["cause"], "zero_over_zero");
    assert_eq!(json["part"]["of"], "log");
}

#[test]
fn wrong_arguments_are_an_error() {
    let mut step = compile(|x: &Tensor| x.exp());
    let x = Tensor::from([1.0f32]);
    let program = step.program(&x).clone();
    assert!(trace_program(&program, &[]).unwrap_err().to_string().contains("1 arguments"));
    assert!(trace_program(&program, &[Tensor::from([1.0f64])]).unwrap_err().to_string().contains("f32[1]"));
}
