//! Mistakes: what is said, and at which line.
use chainrule::prelude::*;
use chainrule::tensor::ScanOptions;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<(String, u32, String)>> = const { RefCell::new(None) };
}

/// Runs something that must panic; gives file, line and message.
fn caught<T>(work: impl FnOnce() -> T) -> (String, u32, String) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().unwrap();
            let text = info.payload_as_str().unwrap_or("?").to_owned();
            PANIC.set(Some((place.file().to_owned(), place.line(), text)));
            if !CATCHING.get() {
                eprintln!("{info}");
            }
        }));
    });
    CATCHING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        work();
    }));
    CATCHING.set(false);
    match outcome {
        Ok(()) => (String::new(), 0, "it did not panic".into()),
        Err(_) => PANIC.take().unwrap(),
    }
}

type Row = (&'static str, u32, (String, u32, String));

/// A mistake with what must be said about it.
macro_rules! mistake {
    ($($said:literal : $work:expr;)*) => {
        vec![$({ let work = || $work; ($said, line!(), caught(work)) }),*]
    };
}

fn check(rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for (said, _, (file, line, text)) in rows {
        // `{line}` stands for the line the panic is located at.
        let want = said.replace("{line}", &line.to_string());
        if !file.ends_with("errors.rs") {
            wrong.push(format!("located in {file}:{line}: {text}"));
        }
        if text != want {
            wrong.push(format!("said: {text}\nwant: {want}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn zeros<const N: usize>(shape: [usize; N]) -> Tensor {
    Tensor::zeros(shape, DType::F32)
}

#[test]
fn mistakes_of_shape_say_both_shapes_and_the_remedy() {
    let (a, b) = (zeros([128, 784]), zeros([512, 784]));
    check(mistake! {
        "matmul: [128, 784] × [512, 784]: inner sizes 784 and 512 differ; did you mean b.t()?": a.matmul(&b);
        "matmul: [3, 2] × [3, 5]: inner sizes 2 and 3 differ; did you mean a.t()?": zeros([3, 2]).matmul(&zeros([3, 5]));
        "matmul: [3, 2] × [4, 5]: inner sizes 2 and 4 differ": zeros([3, 2]).matmul(&zeros([4, 5]));
        "matmul: f32[] × f32[2]; scalars multiply with *": zeros([]).matmul(&zeros([2]));
        "matmul: f32[2,2] × f64[2,2] mix dtypes; cast one": zeros([2, 2]).matmul(&Tensor::zeros([2, 2], DType::F64));
        "add: [2, 3] and [4] do not broadcast: sizes 3 and 4 of axis -1 differ": zeros([2, 3]) + zeros([4]);
        "mul: [2, 3] and [3, 2] do not broadcast: sizes 2 and 3 of axis -2 differ; did you mean b.t()?":
            &zeros([2, 3]) * &zeros([3, 2]);
        "add: f32[2] and f64[2] mix dtypes; cast one, for example b.cast(DType::F32)":
            zeros([2]) + Tensor::zeros([2], DType::F64);
        "add: i64[2] and f32[2] mix dtypes; cast one, for example b.cast(DType::I64)":
            Tensor::zeros([2], DType::I64) + zeros([2]);
        "0.5 beside i64[2]: a fraction has no place in an integer tensor; cast it to a float":
            Tensor::zeros([2], DType::I64) + 0.5;
        "reshape: [2, 3] has 6 elements and [4] has 4": zeros([2, 3]).reshape([4]);
        "broadcast: [2] does not broadcast to [3]": zeros([2]).broadcast_to([3]);
        "broadcast: [2, 2] has more axes than [2]": zeros([2, 2]).broadcast_to([2]);
        "sum: axis 2 of a tensor with 2 axes": zeros([2, 3]).sum(2);
        "max: axis -3 of a tensor with 2 axes": zeros([2, 3]).max_keepdims(-3);
        "sum: axis 1 is given twice": zeros([2, 3]).sum([1, -1]);
        "size: axis 5 of a tensor with 1 axes": zeros([2]).size(5);
        "permute: axes [0, 0] are not an order of 2 axes": zeros([2, 3]).permute([0, 0]);
        "squeeze: axis 0 of [2, 3] has size 2": zeros([2, 3]).squeeze(0);
        "at: place 3 of axis 0 with 3 elements": zeros([3]).at(3);
        "at: place -4 of axis 0 with 3 elements": zeros([3]).at(-4);
        "at: 2 indexes for f32[3]": zeros([3]).at((0, 0));
        "at: a step of 0": zeros([3]).at(step(.., 0));
        "at: index tensors must stand side by side; permute the axes first":
            zeros([3, 3, 3]).at((&Tensor::from([0i64]), .., &Tensor::from([0i64])));
        "gather: the index is f32; it must be an integer dtype": zeros([3]).at(&zeros([1]));
        "at: an index tensor is f32; it must be an integer": zeros([3, 3]).at((&zeros([1]), &zeros([1])));
        "split: parts [1, 1] of an axis of 3": zeros([3]).split(0, [1, 1]);
        "chunk: 2 parts of an axis of 3": zeros([3]).chunk::<2>(0);
        "concat: of nothing": concat::<Tensor>(&[], 0);
        "concat: f32[2,3] and f32[2,4] along axis 0": concat(&[zeros([2, 3]), zeros([2, 4])], 0);
        "concat: f32[1,2] and f32[1,3] along axis 0": stack(&[zeros([2]), zeros([3])], 0);
        "select: the condition is f32; it must be bool": zeros([2]).select(&zeros([2]), 0.0);
        "sin: of i64; it takes a float; cast with .cast(DType::F32)": Tensor::from([1i64]).sin();
        "softmax: of i64; it takes a float": Tensor::from([1i64]).softmax(0);
        "from_vec: 3 numbers for shape [2, 2]": Tensor::from_vec(vec![1.0f32, 2.0, 3.0], [2, 2]);
        "item: f32[2] has 2 elements": zeros([2]).item::<f32>();
        "einsum: \"ij,jk\": 2 terms for 1 operands": einsum("ij,jk", &[&zeros([2, 2])]);
        "einsum: \"ij,jk->ik\": axis j has sizes 3 and 2": einsum("ij,jk->ik", &[&zeros([2, 3]), &zeros([2, 2])]);
        "any: of f32[2]; it takes bools": zeros([2]).any(..);
        "cholesky: of f32[2,3]; it takes square matrices [.., n, n] of f32 or f64": zeros([2, 3]).cholesky();
        "sum: of bool; cast to count, .cast(DType::I64)": Tensor::from([true]).sum(..);
    });
}

#[test]
fn mistakes_in_transforms_name_parameter_and_remedy() {
    let x = Tensor::from([1.0, 2.0]);
    let pair = (x.clone(), Tensor::from(1.0));
    check(mistake! {
        "grad: the result is f64[2]; it must be one float: reduce it, or ask for the jacobian":
            grad(|x: &Tensor| x * 2.0, &x);
        "grad: the result is i64[]; it must be one float: reduce it, or ask for the jacobian":
            grad(|x: &Tensor| x.argmax(0), &x);
        "grad: the argument is i64, which has no derivative; mark it #[tree(state)] or cast it to a float":
            grad(|x: &Tensor| x.sum(..), &Tensor::from([1i64]));
        "grad: parameter 1 is bool, which has no derivative; mark it #[tree(state)] or cast it to a float":
            grad(|p: &(Tensor, Tensor)| p.0.sum(..), &(x.clone(), Tensor::from(true)));
        "grad: the result does not depend on parameter 1 through any differentiable path; use gradient(.., Unreached::Zeros) if zeros are meant":
            grad(|p: &(Tensor, Tensor)| p.0.sum(..), &pair);
        "grad: the result does not depend on the argument through any differentiable path; use gradient(.., Unreached::Zeros) if zeros are meant":
            grad(|x: &Tensor| x.floor().sum(..), &x);
        "grad: the result does not depend on parameter 0, parameter 1 through any differentiable path; use gradient(.., Unreached::Zeros) if zeros are meant":
            value_and_grad(|p: &(Tensor, Tensor)| (p.0.stop_gradient() * p.1.stop_gradient()).sum(..), &pair);
        "jvp: the direction is (f64[3]) for (f64[2])": jvp(|x: &Tensor| x * 2.0, &x, &Tensor::from([1.0, 2.0, 3.0]));
        "jvp: the direction is (f32[2]) for (f64[2])": jvp(|x: &Tensor| x * 2.0, &x, &Tensor::from([1.0f32, 2.0]));
        "jvp: the direction is (f32[2]) for (f64[2])": hvp(|x: &Tensor| x.sum(..), &x, &Tensor::from([1.0f32, 2.0]));
        "vmap: axes of 2 and 3 elements are mapped together":
            vmap(|p: &(Tensor, Tensor)| &p.0 + &p.1, &(x.clone(), Tensor::from([1.0, 2.0, 3.0])));
        "vmap: no axis is mapped": vmap_axes(|x: &Tensor| x.clone(), &x, &[None]);
        "vmap: 2 axes for 1 tensors": vmap_axes(|x: &Tensor| x.clone(), &x, &[None, Some(0)]);
        "vmap: axis 0 of a tensor with 0 axes": vmap(|x: &Tensor| x.clone(), &Tensor::from(1.0));
    });
}

#[test]
fn mistakes_in_loops_and_branches() {
    let (x, xs) = (Tensor::from(0.0), Tensor::from([1.0, 2.0]));
    check(mistake! {
        "scan: carry 0 starts as f64[] and the body returns f64[2]":
            scan(|c: &Tensor, x: &Tensor| (stack(&[c, x], 0), ()), &x, &xs);
        "scan: carry 0 starts as f64[] and the body returns f32[]":
            scan(|c: &Tensor, x: &Tensor| ((c + x).cast(DType::F32), ()), &x, &xs);
        "scan: no sequence and no length tell the number of steps": scan(|c: &Tensor, _: &()| (c.clone(), ()), &x, &());
        "scan: a sequence is f64[3] and another has 2 slices along axis 0":
            scan(|c: &Tensor, _: &(Tensor, Tensor)| (c.clone(), ()), &x, &(xs.clone(), Tensor::from([1.0, 2.0, 3.0])));
        "scan: 1 tensors are carried and the body returns 2": scan(
            |c: &Vec<Tensor>, _: &Tensor| (vec![c[0].clone(), c[0].clone()], ()), &vec![x.clone()], &xs);
        "cond: one branch returns f64[] and the other f64[2]":
            cond(&x.greater(0.0), |x: &Tensor| x.clone(), |x: &Tensor| stack(&[x, x], 0), &x);
        "cond: the condition must be one bool, bool[]":
            cond(&xs.greater(0.0), |x: &Tensor| x.clone(), |x: &Tensor| x.clone(), &x);
        "scan_truncated: a window of 0 steps": scan_truncated(0, |c: &Tensor, x: &Tensor| (c + x, ()), &x, &xs);
    });
    let options = ScanOptions { length: Some(3), reverse: false };
    let row = caught(|| {
        chainrule::tensor::scan_with(options, |c: &Tensor, x: &Tensor| (c + x, ()), &x, &xs);
    });
    assert_eq!(row.2, "scan: 3 steps are asked for and a sequence is f64[2]");
}

#[test]
fn mistakes_of_reading_too_early_name_the_line_of_the_value() {
    let x = Tensor::from([1.0, 2.0]);
    let said = |line: u32, ty: &str| {
        format!(
            "a value inside a traced function is not known yet: it uses {ty} from errors.rs:{line}; \
             return it from the function instead of reading it there"
        )
    };
    let mut rows = Vec::new();
    let mut add = |line: u32, ty: &str, row: (String, u32, String)| rows.push((said(line, ty), row));
    let read = |x: &Tensor| x.eval();
    let step = |c: &Tensor, x: &Tensor| (c + x.eval(), ());
    let start = x.sum(..);
    add(line!(), "f64[2]", caught(|| compile(read).run(x.clone())));
    add(line!(), "f64[]", caught(|| scan(step, &start, &x)));
    add(line!(), "f64[]", caught(|| vmap(read, &x)));
    add(line!(), "f64[2]", caught(|| checkpoint(read, &x)));
    add(line!(), "f64[2]", caught(|| cond(&Tensor::from(true), |x: &Tensor| x.eval(), |x: &Tensor| x.clone(), &x)));
    add(line!(), "f64[2]", caught(|| custom_derivative(|x: &Tensor| x.eval(), |_, _, t| t.clone(), &x)));
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(want, (file, _, text))| text != want || !file.ends_with("errors.rs"))
        .map(|(want, (file, line, text))| format!("{file}:{line}\nsaid: {text}\nwant: {want}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // Gradients are of known values, so reading there is fine.
    let g = grad(|x: &Tensor| x.sum(..) * x.sum(..).item::<f64>(), &x);
    assert_eq!(g.to_vec::<f64>(), [3.0, 3.0]);
}

#[test]
fn an_index_outside_is_an_error_with_the_users_line() {
    let (x, i) = (Tensor::from([1.0, 2.0, 3.0]), Tensor::from([0i64, 3]));
    let line = line!() + 1;
    let error = x.gather(&i, 0).try_eval().unwrap_err();
    assert!(error.to_string().contains('3') && error.to_string().ends_with(&format!("(errors.rs:{line})")), "{error}");
    let mut f = compile(|(x, i): &(Tensor, Tensor)| x.at(i) * 2.0);
    let error = f.run((x.clone(), i.clone())).unwrap_err();
    assert!(error.to_string().ends_with(&format!("(errors.rs:{})", line!() - 2)), "{error}");
    // The compiled function is as good as before.
    assert_eq!(f.run((x.clone(), Tensor::from([0i64, -1]))).unwrap().to_vec::<f64>(), [2.0, 6.0]);
    assert!(f.run((x.clone(), Tensor::from([0i64, -4]))).is_err());
    let error = Tensor::from([1.0, 1.0]).scatter_add(&i, 0, 3).try_eval().unwrap_err();
    assert!(error.to_string().ends_with(&format!("(errors.rs:{})", line!() - 1)), "{error}");
    // Inside a loop and a branch, the line is that inside.
    let body = |c: &Tensor, i: &Tensor| (c + x.at(i), ());
    let line = line!() - 1;
    let error = scan(body, &Tensor::from(0.0), &i).0.try_eval().unwrap_err();
    assert!(error.to_string().ends_with(&format!("(errors.rs:{line})")), "{error}");
    let chosen = cond(&Tensor::from(true), |i: &Tensor| x.at(i), |_: &Tensor| Tensor::zeros([2], DType::F64), &i);
    assert!(chosen.try_eval().is_err());
    let (file, _, text) = caught(|| x.at(&i).to_vec::<f64>());
    assert!(file.ends_with("errors.rs") && text.contains("errors.rs"), "{file}: {text}");
}

#[test]
fn the_derivative_of_a_mistake_names_the_users_line_too() {
    let (table, i) = (Tensor::from([1.0, 2.0]), Tensor::from([0i64, 5]));
    let line = line!() + 1;
    let g = grad(|t: &Tensor| t.at(&i).square().sum(..), &table);
    let error = g.try_eval().unwrap_err().to_string();
    assert!(error.contains(&format!("errors.rs:{line}")), "{error}");
}

#[test]
fn mistakes_in_custom_derivatives() {
    let (x, outer) = (Tensor::from([1.0, 2.0]), Tensor::from(3.0));
    let (_, _, text) = caught(|| {
        grad(
            |w: &Tensor| {
                let w = w.clone();
                custom_derivative(move |x: &Tensor| x * &w, |_, _, t: &Tensor| t.clone(), &x).sum(..)
            },
            &outer,
        )
    });
    assert!(
        text.contains("custom_derivative: the function uses a tensor from outside (f64[2], from errors.rs:"),
        "{text}"
    );
    assert!(text.ends_with("that is being differentiated; pass it as an operand"), "{text}");
    let (_, _, text) =
        caught(|| grad(|x: &Tensor| custom_derivative(|x: &Tensor| x.sum(..), |_, _, t: &Tensor| t.clone(), x), &x));
    assert!(text.contains("errors.rs:") && text.contains("must have the same shapes"), "{text}");
    let (_, _, text) = caught(|| {
        grad(|x: &Tensor| custom_derivative(|x: &Tensor| x.clone(), |_, _, t: &Tensor| t.exp(), x).sum(..), &x)
    });
    assert!(text.contains("exp is not linear in a tangent; a custom derivative must be"), "{text}");
    assert!(text.contains("errors.rs:"), "{text}");
}

#[test]
fn mistakes_from_outside_have_a_result_to_match_on() {
    let (a, b) = (zeros([2, 3]), zeros([4]));
    let error = a.try_binary(chainrule::tensor::Binary::Add, &b).unwrap_err();
    assert_eq!(error.operation, "add");
    assert!(a.try_matmul(&b).is_err());
    assert!(a.try_reshape([7]).is_err());
    assert!(a.try_at(9).is_err());
    assert!(a.try_gather(&b, 0, 0).is_err());
    assert!(Tensor::try_from_vec([1.0f32], [usize::MAX, 2]).is_err());
}
