//! Everything a user can call: each node it makes carries the user's line, whatever was built inside.
use chainrule::prelude::*;
use chainrule::tensor::{Op, ScanOptions, scan_with};
use std::collections::HashSet;

/// Nodes of an expression, those of bodies included, whose line is not one of this file.
fn strangers(name: &str, results: &[Tensor]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut pending: Vec<Tensor> = results.to_vec();
    let mut wrong = Vec::new();
    while let Some(tensor) = pending.pop() {
        let node = tensor.node();
        if !seen.insert(node.id()) {
            continue;
        }
        let origin = node.origin();
        if !origin.location.file().ends_with("surface.rs") {
            wrong.push(format!("{name}: {} from {}", node.op().name(), origin));
        }
        pending.extend(node.inputs().iter().cloned());
        match node.op() {
            Op::Scan(_, body) | Op::Call(_, body) => pending.extend(body.results.iter().cloned()),
            Op::Cond(yes, no) => pending.extend(yes.results.iter().chain(&no.results).cloned()),
            _ => {}
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

type Row = (&'static str, Box<dyn Fn() -> Vec<Tensor>>);

macro_rules! rows {
    ($($name:literal : $work:expr;)*) => {
        vec![$(($name, Box::new(move || { let r: Vec<Tensor> = $work.into_iter().collect(); r }) as Box<dyn Fn() -> Vec<Tensor>>)),*]
    };
}

fn x() -> Tensor {
    Tensor::from([[0.3, 0.7, 0.2, 0.9], [0.1, 0.4, 0.8, 0.6]])
}
fn square() -> Tensor {
    let a = Tensor::from([[2.0, 0.5], [0.5, 3.0]]);
    &a * 1.0
}
fn image() -> Tensor {
    Tensor::from_vec((0..50).map(|i| i as f64 / 50.0).collect::<Vec<_>>(), [1, 2, 5, 5])
}
fn kernel() -> Tensor {
    Tensor::from_vec((0..36).map(|i| i as f64 / 36.0).collect::<Vec<_>>(), [2, 2, 3, 3])
}

fn values() -> Vec<Row> {
    rows! {
        "unary": [x().exp(), x().expm1(), x().log(), x().log1p(), x().sin(), x().cos(), x().tan(), x().asin(), x().acos(), x().atan(),
            x().tanh(), x().sinh(), x().cosh(), x().sigmoid(), x().erf(), x().sqrt(), x().rsqrt(), x().reciprocal(),
            x().abs(), x().sign(), x().floor(), x().ceil(), x().round(), x().square(), x().is_nan(), x().is_finite(),
            x().cast(DType::F32), x().stop_gradient(), -x(), !&x().is_nan()];
        "binary": [x() + x(), x() - 1.0, 2.0 * x(), 1.0 / &x(), x().maximum(0.5), x().minimum(x()), x().pow(2.5), x().less(0.5),
            x().less_equal(0.5), x().greater(0.5), x().greater_equal(0.5), x().equal(0.5), x().not_equal(0.5),
            x().less(0.5).and(x().greater(0.1)), x().less(0.5).or(true), x().less(0.5).select(&x(), 0.0), x().clip(0.2, 0.8)];
        "activations": [x().relu(), x().leaky_relu(0.1), x().prelu(&Tensor::from(0.2)), x().elu(1.0), x().selu(), x().celu(0.5),
            x().gelu(), x().gelu_tanh(), x().silu(), x().mish(), x().softplus(), x().log_sigmoid(), x().softsign(),
            x().hard_tanh(), x().hard_sigmoid(), x().glu(-1), x().softmax(-1), x().log_softmax(0),
            x().cross_entropy(&Tensor::from([1i64, 3])), x().mean_squared_error(&x().zeros_like())];
        "reductions": [x().sum(..), x().max(0), x().min(1), x().prod(..), x().sum_keepdims(0), x().max_keepdims(0),
            x().prod_keepdims(1), x().mean(..), x().mean_keepdims(1), x().variance(1, 1), x().std(.., 0), x().norm(1),
            x().logsumexp(1), x().logsumexp_keepdims(0), x().normalize([-1], 1e-5), x().less(0.5).any(..), x().less(0.5).all(0),
            x().argmax(1), x().argmin(0), x().cumsum(1), x().cumsum_reverse(0), x().sort(1, true), x().argsort(1, false),
            x().top_k(2).0, x().top_k(2).1];
        "movement": [x().reshape([4, 2]), x().flatten(), x().permute([1, 0]), x().t(), x().swap_axes(0, 1), x().move_axis(0, 1),
            x().unsqueeze(0), x().unsqueeze(0).squeeze(0), x().narrow(1, 1, 2), x().pad(&[(1, 0), (0, 2)], 3.0),
            x().pad_interior(&[(0, 0, 1), (0, 0, 0)], 0.0), x().flip(1), x().tril(0), x().triu(1), x().diagonal(),
            concat(&[x(), x()], 0), stack(&[x(), x()], 1), x().broadcast_to([3, 2, 4])];
        "split": x().split(1, [1, 3]).into_iter().chain(x().chunk::<2>(0));
        "indexing": [x().at(0), x().at((.., step(.., -2))), x().at((&Tensor::from([1i64, 0]), NewAxis, 1..3)),
            x().at((&Tensor::from([1i64, 0]), &Tensor::from([1i64, 0]))), x().gather(&Tensor::from([1i64]), 1),
            x().take_along_axis(&x().argsort(1, true), 1), x().pick(&Tensor::from([1i64, 2])),
            x().scatter_add(&Tensor::from([1i64, 0]), 0, 3), Tensor::from([1i64, 0]).one_hot(3, DType::F64),
            x().masked_fill(&x().less(0.5), 9.0)];
        "linear": [x().matmul(&x().t()), x().unsqueeze(0).matmul(&x().t().broadcast_to([3, 4, 2])), x().at(0).matmul(&x().t().unsqueeze(0)),
            square().cholesky(), square().triangular_solve(&x(), true, false), square().solve_spd(&x()), square().inverse_spd(),
            square().logdet_spd(), einsum("ij,kj->ik", &[&x(), &x()]), einsum("ii", &[&square()]), einsum("ij,jk,kl", &[&square(), &x(), &x().t()])];
        "made": [Tensor::full([2], 3.0, DType::F64), Tensor::zeros([2], DType::F64), Tensor::arange(3, DType::I64),
            Tensor::linspace(0.0, 1.0, 4, DType::F64), Tensor::eye(3, DType::F64), x().ones_like(), x().full_like(2.0),
            Key::new(1).normal([2], DType::F32), Key::new(1).uniform([2], DType::F32), Key::new(1).bernoulli(0.5, [2]),
            Key::new(1).permutation(5), Key::new(1).fold(&Tensor::from(3i64)).0, Key::new(2).bits([2])];
        "keys": Key::new(1).split::<3>().map(|key| key.0);
        "windows": [image().conv(&kernel(), &Convolution::default()), image().conv_transpose(&kernel(), &Convolution::default(), &[0]),
            image().windows(&[2, 2], &[1], &[1]), image().max_pool(&Pooling::new(2)), image().avg_pool(&Pooling::new(2))];
        "loops": { let (a, b) = scan(|c: &Tensor, x: &Tensor| (c + x, c * x), &Tensor::from([0.0; 4]), &x()); [a, b] };
        "truncated": { let (a, b) = scan_truncated(1, |c: &Tensor, x: &Tensor| (c + x, c * x), &Tensor::from([0.0; 4]), &x()); [a, b] };
        "length": [scan_with(ScanOptions { length: Some(3), reverse: true }, |c: &Tensor, _: &()| (c * 2.0, ()), &x(), &()).0];
        "branch": [cond(&x().sum(..).less(1.0), |x: &Tensor| x.sin(), |x: &Tensor| x.cos(), &x())];
        "calls": [checkpoint(|x: &Tensor| x.sin().softmax(-1), &x()),
            custom_derivative(|x: &Tensor| x.round(), |_: &Tensor, _: &Tensor, t: &Tensor| t.clone(), &x())];
    }
}

#[test]
fn every_node_has_a_line_of_the_user() {
    let mut wrong = Vec::new();
    for (name, make) in values() {
        wrong.extend(strangers(name, &make()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_value_can_be_computed() {
    for (_, make) in values() {
        for value in chainrule::execute::eval_all(&make()) {
            assert!(value.storage().is_some());
        }
    }
}

type Transform = (&'static str, fn(&dyn Fn(&Tensor) -> Tensor, &Tensor) -> Tensor);

#[test]
fn every_node_of_a_derivative_has_a_line_of_the_user() {
    let transforms: [Transform; 6] = [
        ("grad", |f, x| gradient(|x: &Tensor| (f(x), ()), x, Unreached::Zeros).unwrap().2),
        ("jvp", |f, x| jvp(f, x, &x.ones_like()).1),
        ("hvp", |f, x| hvp(f, x, &x.ones_like())),
        ("hessian", |f, x| hessian(f, x)),
        ("vmap", |f, x| vmap(f, &stack(&[x, x], 0))),
        ("vmap grad", |f, x| {
            vmap(|x: &Tensor| gradient(|x: &Tensor| (f(x), ()), x, Unreached::Zeros).unwrap().2, &stack(&[x, x], 0))
        }),
    ];
    type Function = fn(&Tensor) -> Tensor;
    let i = |v: [i64; 2]| Tensor::from(v);
    type Boxed = Box<dyn Fn(&Tensor) -> Tensor>;
    let functions: Vec<(&str, Boxed)> = vec![
        (
            "elementary",
            Box::new(
                (|x| (x.exp() + x.log() * x.sin().asin() + x.tan() + x.pow(x) + x.atan().erf().sqrt()).sum(..))
                    as Function,
            ),
        ),
        (
            "kinks",
            Box::new(
                (|x| (x.abs() + x.maximum(0.5) + x.relu() + x.clip(0.1, 0.6) + x.hard_tanh()).sum(..)) as Function,
            ),
        ),
        (
            "activations",
            Box::new(
                (|x| (x.gelu() + x.elu(1.0) + x.mish() + x.log_sigmoid() + x.softmax(-1)).sum(..) + x.glu(-1).mean(..))
                    as Function,
            ),
        ),
        (
            "reductions",
            Box::new(
                (|x| {
                    x.prod(..)
                        + x.max(0).sum(..)
                        + x.norm(..)
                        + x.logsumexp(0).sum(..)
                        + x.std(.., 1)
                        + x.normalize([-1], 1e-5).square().max(..)
                }) as Function,
            ),
        ),
        (
            "movement",
            Box::new(
                (|x| {
                    (x.reshape([4, 2]).t().flip(0).pad(&[(1, 1), (0, 1)], 0.0).tril(0)
                        * x.at((0, NewAxis, NewAxis, ..)).sum(..))
                    .sum(..)
                        + x.cumsum(0).sum(..)
                }) as Function,
            ),
        ),
        (
            "order",
            Box::new(
                (|x| (x.sort(1, true).at(0) * x.top_k(4).0.at(1)).sum(..) + x.chunk::<2>(1)[0].square().sum(..))
                    as Function,
            ),
        ),
        (
            "indexing",
            Box::new(move |x: &Tensor| {
                (x.gather(&i([1, 1]), 1).square()).sum(..)
                    + x.take_along_axis(&x.argsort(1, true), 1).at(0).square().sum(..)
                    + x.pick(&i([2, 3])).sum(..)
                    + x.scatter_add(&i([2, 0]), 0, 3).square().sum(..)
            }),
        ),
        ("products", Box::new((|x| x.matmul(&x.t()).square().sum(..) + einsum("ij,ij->", &[x, x])) as Function)),
        (
            "spd",
            Box::new(
                (|x| {
                    let a = x.matmul(&x.t()) + Tensor::eye(2, DType::F64);
                    a.logdet_spd() + a.inverse_spd().sum(..)
                }) as Function,
            ),
        ),
        (
            "conv",
            Box::new(
                (|x| {
                    x.reshape([1, 2, 2, 2])
                        .conv(
                            &x.reshape([2, 2, 1, 2]),
                            &Convolution { padding: Padding::Both(1), ..Default::default() },
                        )
                        .max_pool(&Pooling::new(2))
                        .square()
                        .sum(..)
                }) as Function,
            ),
        ),
        (
            "scan",
            Box::new(
                (|x| {
                    let (a, b) = scan(
                        |c: &Tensor, y: &Tensor| {
                            let h = (c * y).sin();
                            (h.clone(), h * y)
                        },
                        &x.at(0),
                        x,
                    );
                    (a + b).sum(..)
                }) as Function,
            ),
        ),
        (
            "cond",
            Box::new(
                (|x| cond(&x.sum(..).less(1.0), |x: &Tensor| x.sin().sum(..), |x: &Tensor| x.square().sum(..), x))
                    as Function,
            ),
        ),
        ("checkpoint", Box::new((|x| checkpoint(|x: &Tensor| x.sin().square().sum(..), x)) as Function)),
        (
            "custom",
            Box::new(
                (|x| {
                    custom_derivative(|x: &Tensor| x.sin(), |x: &Tensor, _: &Tensor, t: &Tensor| x.cos() * t, x).sum(..)
                }) as Function,
            ),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, f) in &functions {
        for (transform, apply) in &transforms {
            let result = apply(&**f, &x());
            wrong.extend(strangers(&format!("{transform} of {name}"), std::slice::from_ref(&result)));
            let result = result.to_vec::<f64>();
            assert!(result.iter().all(|v| v.is_finite()), "{transform} of {name}: {result:?}");
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
