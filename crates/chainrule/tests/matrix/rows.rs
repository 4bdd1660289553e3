//! The table: every primitive and every differentiable composite, each over several shapes.
//!
//! A row names a function and says where its operands come from; families add the shapes that break kernels: none,
//! one element, broadcast, strided, more than one tile. A new operation is a new line here, and `primitives.rs`
//! fails until it has one.

use super::{Case, Operand, Values, layers};
use chainrule::prelude::*;
use chainrule::tensor::{ConvDims, DotDims, Op, Windows};
use std::sync::Arc;

/// The cases as they are listed.
#[derive(Default)]
pub struct Table {
    pub cases: Vec<Case>,
}

pub fn operand(shape: &[usize], values: Values) -> Operand {
    Operand { shape: shape.to_vec(), values }
}
/// Numbers between −1.5 and 1.5.
pub fn any(shape: &[usize]) -> Operand {
    operand(shape, Values::Within(-1.5, 1.5))
}
pub fn positive(shape: &[usize]) -> Operand {
    operand(shape, Values::Within(0.5, 2.0))
}
pub fn distinct(shape: &[usize]) -> Operand {
    operand(shape, Values::Distinct)
}
pub fn index(shape: &[usize], size: i64) -> Operand {
    operand(shape, Values::Index(size))
}
fn bools(shape: &[usize]) -> Operand {
    operand(shape, Values::Bool)
}
fn definite(shape: &[usize]) -> Operand {
    operand(shape, Values::Definite)
}
fn triangle(shape: &[usize]) -> Operand {
    operand(shape, Values::Triangle)
}

impl Table {
    /// A row of one shape; its options can be changed through what is returned.
    pub fn row(
        &mut self,
        name: impl Into<String>,
        operands: &[Operand],
        function: impl Fn(&[Tensor]) -> Tensor + 'static,
    ) -> &mut Case {
        self.cases.push(Case {
            name: name.into(),
            function: Box::new(function),
            operands: operands.to_vec(),
            step: 2e-3,
            adjoint: 1e-10,
            f32: true,
            half: true,
            wide: false,
            bound: 5.0,
        });
        self.cases.last_mut().expect("a row")
    }

    /// An elementwise function of one operand.
    pub fn unary(&mut self, name: &str, values: Values, f: fn(&Tensor) -> Tensor) {
        let shapes: [&[usize]; 5] = [&[], &[0, 3], &[1, 1], &[2, 3], &[2, 611]];
        for shape in shapes {
            self.row(format!("{name} {shape:?}"), &[operand(shape, values)], move |x| f(&x[0]));
        }
        self.row(format!("{name} strided"), &[operand(&[4, 6], values)], move |x| f(&x[0].t().at((1.., step(.., 2)))));
        self.row(format!("{name} broadcast"), &[operand(&[2, 1], values)], move |x| f(&x[0].broadcast_to([3, 2, 3])));
        self.row(format!("{name} wide"), &[operand(&[520, 301], values)], move |x| f(&x[0])).wide = true;
    }

    /// An elementwise function of two operands.
    pub fn binary(&mut self, name: &str, values: [Values; 2], f: fn(&Tensor, &Tensor) -> Tensor) {
        let shapes: [(&[usize], &[usize]); 7] = [
            (&[], &[]),
            (&[0, 3], &[3]),
            (&[1], &[1]),
            (&[2, 3], &[2, 3]),
            (&[2, 1], &[3]),
            (&[], &[2, 3]),
            (&[2, 611], &[2, 1]),
        ];
        for (a, b) in shapes {
            let operands = [operand(a, values[0]), operand(b, values[1])];
            self.row(format!("{name} {a:?}{b:?}"), &operands, move |x| f(&x[0], &x[1]));
        }
        let strided = [operand(&[4, 3], values[0]), operand(&[3, 9], values[1])];
        self.row(format!("{name} strided"), &strided, move |x| f(&x[0].t(), &x[1].at((.., step(1.., 2)))));
        let wide = [operand(&[520, 301], values[0]), operand(&[301], values[1])];
        self.row(format!("{name} wide"), &wide, move |x| f(&x[0], &x[1])).wide = true;
    }

    /// A function that gathers along an axis: every axis, none left, one element, long rows, long columns.
    pub fn along(&mut self, name: &str, values: Values, f: fn(&Tensor, isize) -> Tensor) {
        for (shape, axis) in [
            (&[3][..], 0),
            (&[1], 0),
            (&[2, 3, 4], 0),
            (&[2, 3, 4], 1),
            (&[2, 3, 4], 2),
            (&[2, 1100], 1),
            (&[1100, 2], 0),
            (&[0, 3], 1),
        ] {
            self.row(format!("{name} {shape:?} axis {axis}"), &[operand(shape, values)], move |x| f(&x[0], axis));
        }
        self.row(format!("{name} strided"), &[operand(&[4, 6], values)], move |x| {
            f(&x[0].t().at((step(.., 2), 1..)), 1)
        });
        self.row(format!("{name} wide"), &[operand(&[520, 301], values)], move |x| f(&x[0], 1)).wide = true;
        self.row(format!("{name} wide columns"), &[operand(&[520, 301], values)], move |x| f(&x[0], 0)).wide = true;
    }
}

/// Every case.
pub fn table() -> Vec<Case> {
    let mut table = Table::default();
    elementwise(&mut table);
    choices(&mut table);
    movement(&mut table);
    reductions(&mut table);
    places(&mut table);
    products(&mut table);
    algebra(&mut table);
    layers::activations(&mut table);
    layers::windows(&mut table);
    layers::control(&mut table);
    table.cases
}

fn elementwise(t: &mut Table) {
    let all = Values::Within(-1.5, 1.5);
    let signed = Values::Signed(0.3, 1.5);
    let positive = Values::Within(0.5, 2.0);
    t.unary("neg", all, |x| -x);
    t.unary("exp", all, |x| x.exp());
    t.unary("expm1", all, |x| x.expm1());
    t.unary("log", positive, |x| x.log());
    t.unary("log1p", Values::Within(-0.5, 2.0), |x| x.log1p());
    t.unary("sin", all, |x| x.sin());
    t.unary("cos", signed, |x| x.cos());
    t.unary("atan", all, |x| x.atan());
    t.unary("tanh", all, |x| x.tanh());
    t.unary("sigmoid", all, |x| x.sigmoid());
    t.unary("erf", all, |x| x.erf());
    t.unary("sqrt", positive, |x| x.sqrt());
    t.unary("abs", signed, |x| x.abs());
    t.unary("x·sign", signed, |x| x * x.sign());
    t.unary("x·floor", Values::Within(1.1, 1.9), |x| x * x.floor());
    t.unary("x·ceil", Values::Within(1.1, 1.9), |x| x * x.ceil());
    t.unary("x·round", Values::Within(0.6, 1.4), |x| x * x.round());
    t.unary("square", all, |x| x.square());
    t.unary("reciprocal", signed, |x| x.reciprocal());
    t.unary("rsqrt", positive, |x| x.rsqrt());
    t.unary("tan", Values::Within(-1.0, 1.0), |x| x.tan());
    t.unary("asin", Values::Within(-0.8, 0.8), |x| x.asin());
    t.unary("acos", Values::Within(-0.8, 0.8), |x| x.acos());
    t.unary("sinh", all, |x| x.sinh());
    t.unary("cosh", signed, |x| x.cosh());
    t.unary("cube", signed, |x| x.pow(3.0));
    t.unary("power 1.7", positive, |x| x.pow(1.7));

    t.binary("add", [all, all], |a, b| a + b);
    t.binary("sub", [all, all], |a, b| a - b);
    t.binary("mul", [all, all], |a, b| a * b);
    t.binary("div", [all, signed], |a, b| a / b);
    t.binary("pow", [positive, all], |a, b| a.pow(b));
    let zero = Values::Within(0.0, 0.0);
    t.row("pow at exponent 0", &[operand(&[2, 3], positive), operand(&[2, 3], zero)], |x| x[0].pow(&x[1]));
    // Apart by construction, on either side of each other.
    let (low, high) = (Values::Within(0.1, 0.9), Values::Signed(1.1, 2.0));
    t.binary("max", [low, high], |a, b| a.maximum(b));
    t.binary("min", [low, high], |a, b| a.minimum(b));
    t.binary("clip", [high, Values::Within(0.2, 0.9)], |a, b| a.clip(-b, b) + a * 0.1);
}

fn choices(t: &mut Table) {
    let (low, high) = (Values::Within(0.1, 0.9), Values::Signed(1.1, 2.0));
    t.binary("less", [low, high], |a, b| a.less(b).select(&a.square(), b));
    t.binary("less_equal", [low, high], |a, b| a.less_equal(b).select(&a.square(), b));
    t.binary("equal", [low, high], |a, b| a.equal(b).select(&a.square(), a * b));
    t.binary("greater, not equal", [low, high], |a, b| a.greater(b).or(a.not_equal(b)).select(&a.square(), b));
    t.binary("and or not", [high, high], |a, b| {
        let mask = a.greater(0.0).and(b.greater(0.0)).or((a * b).less(0.0).logical_not());
        mask.select(&(a * b), a.square())
    });
    t.row("select by a given mask", &[bools(&[2, 3]), any(&[2, 3]), any(&[1, 3])], |x| x[0].select(&x[1], &x[2]));
    t.row("select of scalars", &[bools(&[]), any(&[]), any(&[2])], |x| x[0].select(&x[1], &x[2]));
    t.row("select, none", &[bools(&[0]), any(&[0]), any(&[1])], |x| x[0].select(&x[1], &x[2]));
    t.row("masked fill", &[bools(&[2, 3]), any(&[2, 3])], |x| x[1].masked_fill(&x[0], 2.0) * 1.5);
    t.row("cast of bools", &[bools(&[2, 3]), any(&[2, 3])], |x| x[0].cast(x[1].dtype()) * &x[1] + &x[1]);
    t.row("cast of integers", &[index(&[2, 3], 4), any(&[2, 3])], |x| (x[0].cast(x[1].dtype()) + 0.5) * &x[1]);
    // Rounding to f32 hides small steps; of a square the difference quotient is exact at large ones.
    let case = t.row("cast to f32 and back", &[any(&[2, 3])], |x| x[0].cast(DType::F32).cast(x[0].dtype()) * &x[0]);
    (case.step, case.adjoint, case.half) = (0.4, 1e-6, false);
    t.row("stop_gradient", &[any(&[2, 3])], |x| {
        let shift = x[0].sum_keepdims(-1).stop_gradient();
        (&x[0] - &shift).exp().sum_keepdims(-1).log() + shift
    });
    t.row("iota", &[any(&[2, 3])], |x| &x[0] * Tensor::iota([2, 3], 1, x[0].dtype()) + &x[0]);
    t.row("constant", &[any(&[2, 3])], |x| x[0].full_like(2.5) * &x[0]);
    t.row("random", &[index(&[], 9), any(&[2, 3])], |x| {
        let key = Key(x[0].clone());
        key.normal([2, 3], x[1].dtype()) * &x[1] + key.bernoulli(0.5, [2, 3]).select(&x[1], 1.0)
    });
    t.row("one hot", &[index(&[4], 3), any(&[4, 3])], |x| (x[0].one_hot(3, x[1].dtype()) + 1.0) * &x[1]);
}

fn movement(t: &mut Table) {
    t.row("reshape", &[any(&[2, 6])], |x| x[0].reshape([3, 4]));
    t.row("reshape to one", &[any(&[1, 1])], |x| x[0].reshape([0usize; 0]));
    t.row("reshape, none", &[any(&[0, 6])], |x| x[0].reshape([3, 0]));
    t.row("reshape of a transpose", &[any(&[3, 4])], |x| x[0].t().reshape([2, 6]));
    t.row("permute", &[any(&[2, 3, 4])], |x| x[0].permute([2, 0, 1]));
    t.row("permute twice", &[any(&[2, 3, 4])], |x| x[0].permute([2, 0, 1]).swap_axes(0, 1).exp());
    t.row("permute wide", &[any(&[40, 50, 60])], |x| x[0].permute([2, 0, 1]).exp()).wide = true;
    t.row("broadcast", &[any(&[2, 1])], |x| x[0].broadcast_to([3, 2, 4]));
    t.row("broadcast of one", &[any(&[])], |x| x[0].broadcast_to([2, 700]));
    t.row("broadcast to none", &[any(&[1])], |x| x[0].broadcast_to([2, 0]));
    t.row("broadcast onto other axes", &[any(&[3, 1])], |x| {
        Tensor::apply(Op::Broadcast((&[3usize, 4, 2][..]).into(), (&[0usize, 2][..]).into()), &[x[0].clone()])
    });
    t.row("slice", &[any(&[5, 6])], |x| x[0].at((1..4, step(1.., 2))));
    t.row("slice of a slice", &[any(&[9, 6])], |x| x[0].at((step(1.., 2), 2..)).t().at((1.., step(.., 3))));
    t.row("slice backwards", &[any(&[5])], |x| x[0].at(step(.., -2)));
    t.row("slice, none", &[any(&[5, 2])], |x| x[0].at(3..3));
    t.row("place", &[any(&[3, 4])], |x| x[0].at((-1, 2)));
    t.row("pad", &[any(&[2, 3])], |x| x[0].pad(&[(1, 0), (2, 3)], 0.7));
    t.row("pad inside", &[any(&[2, 3])], |x| x[0].pad_interior(&[(0, 2, 1), (1, 0, 2)], 0.7));
    t.row("pad of none", &[any(&[0, 3])], |x| x[0].pad_interior(&[(2, 1, 3), (0, 0, 0)], 0.7));
    t.row("pad of one inside", &[any(&[1, 2])], |x| x[0].pad_interior(&[(0, 0, 5), (0, 0, 1)], 0.0));
    t.row("concat", &[any(&[2, 3]), any(&[2, 1]), any(&[2, 0])], |x| concat(&[&x[0], &x[1], &x[2]], 1));
    t.row("concat with itself", &[any(&[2, 3])], |x| concat(&[x[0].clone(), x[0].exp(), x[0].clone()], 0));
    t.row("concat long", &[any(&[700]), any(&[3])], |x| concat(&[&x[0], &x[1]], 0));
    t.row("stack", &[any(&[2, 3]), any(&[2, 3])], |x| stack(&[&x[0], &x[1]], 1));
    t.row("split", &[any(&[2, 6])], |x| {
        let [a, b] = x[0].chunk(1);
        a * b.exp()
    });
    t.row("flip", &[any(&[2, 3, 2])], |x| x[0].flip(&[0isize, 2][..]));
    t.row("flip of a slice", &[any(&[7, 3])], |x| x[0].at(step(.., 2)).flip(0).t());
    for k in [-1, 0, 2] {
        t.row(format!("tril {k}"), &[any(&[2, 4, 4])], move |x| x[0].tril(k));
        t.row(format!("triu {k}"), &[any(&[4, 4])], move |x| x[0].triu(k));
    }
    t.row("diagonal", &[any(&[2, 4, 4])], |x| x[0].diagonal());
}

fn reductions(t: &mut Table) {
    let (all, signed) = (Values::Within(-1.5, 1.5), Values::Signed(0.5, 1.5));
    t.along("sum", all, |x, axis| x.sum(axis));
    t.along("max", Values::Distinct, |x, axis| x.max(axis));
    t.along("min", Values::Distinct, |x, axis| x.min(axis));
    t.along("mean", all, |x, axis| x.mean_keepdims(axis) + x * 0.1);
    t.along("variance", all, |x, axis| x.variance(axis, 0) + x.sum(axis));
    t.along("cumsum", all, |x, axis| x.cumsum(axis));
    t.along("cumsum reversed", all, |x, axis| x.cumsum_reverse(axis));
    t.along("sort", Values::Distinct, |x, axis| x.sort(axis, false));
    t.along("sort descending", Values::Distinct, |x, axis| x.sort(axis, true));
    t.along("argmax", Values::Distinct, |x, axis| x.take_along_axis(&x.argmax(axis).unsqueeze(axis), axis) + x);
    t.along("argmin", Values::Distinct, |x, axis| x.take_along_axis(&x.argmin(axis).unsqueeze(axis), axis) + x);
    t.along("softmax", all, |x, axis| x.softmax(axis) * 2.0 + x);
    t.along("log_softmax", all, |x, axis| x.log_softmax(axis) + x);
    t.along("logsumexp", all, |x, axis| x.logsumexp(axis));
    t.along("normalize", all, |x, axis| x.normalize(axis, 0.3) + x);
    t.along("norm", all, |x, axis| x.norm(axis));
    for (shape, axis) in [(&[1][..], 0), (&[3], 0), (&[2, 5, 3], 1), (&[2, 8], 1), (&[7, 2], 0)] {
        t.row(format!("prod {shape:?} axis {axis}"), &[operand(shape, signed)], move |x| x[0].prod(axis));
    }
    t.row("prod of all", &[operand(&[2, 3], signed)], |x| x[0].prod(..));
    t.row("prod of none", &[any(&[0, 3])], |x| x[0].prod(0) + 1.0);
    t.row("prod of two axes", &[operand(&[3, 2, 3], signed)], |x| x[0].prod(&[0isize, 2][..]));
    t.row("prod with zeros", &[any(&[2, 4])], |x| {
        (&x[0] * Tensor::iota([2, 4], 1, x[0].dtype())).prod(1) + x[0].sum(1)
    });
    t.row("sum of all", &[any(&[2, 3, 4])], |x| x[0].sum(..));
    t.row("sum of nothing", &[any(&[0, 3])], |x| x[0].sum(0) + 1.0);
    t.row("sum of two axes", &[any(&[2, 3, 4])], |x| x[0].exp().sum(&[0isize, 2][..]));
    t.row("sum of a transpose", &[any(&[4, 300])], |x| x[0].t().square().sum(0));
    t.row("max of two axes", &[distinct(&[2, 3, 4])], |x| x[0].max(&[0isize, 2][..]));
    t.row("std", &[any(&[2, 5])], |x| x[0].std(1, 1));
    t.row("norm of all", &[any(&[2, 5])], |x| x[0].norm(..));
    t.row("normalize over two axes", &[any(&[2, 3, 4])], |x| x[0].normalize(&[1isize, 2][..], 1e-3) + &x[0]);
    t.row("top_k", &[distinct(&[3, 6])], |x| x[0].top_k(2).0);
    t.row("argsort", &[distinct(&[3, 6]), any(&[3, 6])], |x| x[1].take_along_axis(&x[0].argsort(1, true), 1) + &x[0]);
    t.row("sort of long rows", &[distinct(&[2, 700])], |x| x[0].sort(1, false));
}

fn places(t: &mut Table) {
    t.row("gather", &[any(&[4, 3]), index(&[5], 4)], |x| x[0].gather(&x[1], 0));
    t.row("gather by a matrix", &[any(&[2, 4, 3]), index(&[2, 2], 4)], |x| x[0].gather(&x[1], 1));
    t.row("gather by a number", &[any(&[4, 3]), index(&[], 3)], |x| x[0].gather(&x[1], 1));
    t.row("gather nothing", &[any(&[4, 3]), index(&[0], 4)], |x| x[0].gather(&x[1], 0));
    t.row("gather row by row", &[any(&[2, 3, 4, 2]), index(&[2, 5], 4)], |x| {
        Tensor::apply(Op::Gather { axis: 2, batch: 1 }, &[x[0].clone(), x[1].clone()])
    });
    t.row("gather strided", &[any(&[6, 4]), index(&[5], 3)], |x| x[0].t().at((.., step(.., 2))).gather(&x[1], 1));
    t.row("gather long", &[any(&[9, 300]), index(&[20], 9)], |x| x[0].gather(&x[1], 0));
    t.row("gather wide", &[any(&[500, 64]), index(&[2000], 500)], |x| x[0].gather(&x[1], 0)).wide = true;
    t.row("take_along_axis", &[any(&[3, 4]), index(&[3, 2], 4)], |x| x[0].take_along_axis(&x[1], 1));
    t.row("pick", &[any(&[3, 4]), index(&[3], 4)], |x| x[0].pick(&x[1]));
    t.row("two index tensors", &[any(&[4, 4, 2]), index(&[3], 4), index(&[3], 4)], |x| x[0].at((&x[1], &x[2])));
    t.row("scatter_add", &[any(&[5, 3]), index(&[5], 4)], |x| x[0].scatter_add(&x[1], 0, 4));
    t.row("scatter_add by a matrix", &[any(&[2, 2, 3, 2]), index(&[2, 3], 4)], |x| x[0].scatter_add(&x[1], 1, 4));
    t.row("scatter_add nothing", &[any(&[0, 3]), index(&[0], 4)], |x| x[0].scatter_add(&x[1], 0, 4));
    t.row("scatter_add row by row", &[any(&[2, 3, 5, 2]), index(&[2, 5], 4)], |x| {
        Tensor::apply(Op::ScatterAdd { axis: 2, batch: 1, size: 4 }, &[x[1].clone(), x[0].clone()])
    });
    t.row("scatter_add wide", &[any(&[2000, 64]), index(&[2000], 50)], |x| x[0].scatter_add(&x[1], 0, 50)).wide = true;
}

fn products(t: &mut Table) {
    let shapes: [(&[usize], &[usize]); 13] = [
        (&[3], &[3]),
        (&[2, 3], &[3]),
        (&[3], &[3, 2]),
        (&[2, 3], &[3, 4]),
        (&[1, 1], &[1, 1]),
        (&[0, 3], &[3, 4]),
        (&[2, 0], &[0, 4]),
        (&[5, 2, 3], &[3, 4]),
        (&[5, 2, 3], &[5, 3, 4]),
        (&[5, 1, 2, 3], &[2, 3, 4]),
        (&[3], &[2, 3, 4]),
        (&[2, 600], &[600, 3]),
        (&[33, 17], &[17, 65]),
    ];
    for (a, b) in shapes {
        t.row(format!("matmul {a:?}{b:?}"), &[any(a), any(b)], |x| x[0].matmul(&x[1]));
    }
    t.row("matmul transposed", &[any(&[3, 2]), any(&[4, 3])], |x| x[0].t().matmul(&x[1].t()));
    t.row("matmul of slices", &[any(&[6, 3]), any(&[3, 9])], |x| {
        x[0].at(step(.., 2)).matmul(&x[1].at((.., step(1.., 2))))
    });
    t.row("matmul with itself", &[any(&[3, 3])], |x| x[0].matmul(&x[0].t()));
    t.row("matmul and bias", &[any(&[4, 3]), any(&[3, 5]), any(&[5])], |x| (x[0].matmul(&x[1]) + &x[2]).tanh());
    t.row("matmul wide", &[any(&[130, 300]), any(&[300, 140])], |x| x[0].matmul(&x[1])).wide = true;
    t.row("matmul wide batch", &[any(&[20, 33, 40]), any(&[20, 40, 35])], |x| x[0].matmul(&x[1])).wide = true;
    t.row("dot of mixed axes", &[any(&[3, 2, 4, 5]), any(&[5, 3, 6, 2])], |x| {
        let dims = DotDims {
            lhs_batch: (&[1usize][..]).into(),
            rhs_batch: (&[3usize][..]).into(),
            lhs_contract: (&[0usize, 3][..]).into(),
            rhs_contract: (&[1usize, 0][..]).into(),
        };
        x[0].dot_general(&x[1], dims)
    });
    t.row("outer product", &[any(&[2]), any(&[3, 2])], |x| x[0].dot_general(&x[1], DotDims::default()));
    let einsums: [(&'static str, &[&[usize]]); 9] = [
        ("ij->ji", &[&[2, 3]]),
        ("ij->", &[&[2, 3]]),
        ("ii->i", &[&[3, 3]]),
        ("bii->b", &[&[2, 3, 3]]),
        ("ij,jk->ik", &[&[2, 3], &[3, 4]]),
        ("bij,bkj->bik", &[&[2, 3, 4], &[2, 5, 4]]),
        ("ij,ij->ij", &[&[2, 3], &[2, 3]]),
        ("i,j,k->kji", &[&[2], &[3], &[4]]),
        ("bqhd,bkhd->bhqk", &[&[2, 3, 2, 4], &[2, 5, 2, 4]]),
    ];
    for (formula, shapes) in einsums {
        let operands: Vec<Operand> = shapes.iter().map(|shape| any(shape)).collect();
        t.row(format!("einsum {formula}"), &operands, move |x| einsum(formula, &x.iter().collect::<Vec<_>>()));
    }
}

fn algebra(t: &mut Table) {
    // A factorisation takes n³/3, its derivative a dense product and two solves, 4n³: thirteen times, and no fewer as
    // long as triangles are multiplied as full matrices.
    for shape in [&[1, 1][..], &[4, 4], &[2, 3, 3], &[0, 0], &[24, 24]] {
        let case = t.row(format!("cholesky {shape:?}"), &[definite(shape)], |x| x[0].cholesky());
        (case.bound, case.half) = (14.0, false);
    }
    for (lower, transpose) in [(true, false), (true, true), (false, false), (false, true)] {
        for (a, b) in [(&[4, 4][..], &[4, 3][..]), (&[2, 3, 3], &[2, 3, 1]), (&[1, 1], &[1, 1]), (&[3, 3], &[3, 0])] {
            let name = format!("triangular_solve lower {lower} transpose {transpose} {a:?}{b:?}");
            t.row(name, &[triangle(a), any(b)], move |x| x[0].triangular_solve(&x[1], lower, transpose)).half = false;
        }
    }
    for (name, operands, f) in [
        (
            "solve_spd",
            vec![definite(&[2, 3, 3]), any(&[2, 3, 2])],
            (|x| x[0].solve_spd(&x[1])) as fn(&[Tensor]) -> Tensor,
        ),
        ("inverse_spd", vec![definite(&[4, 4])], |x| x[0].inverse_spd()),
        ("logdet_spd", vec![definite(&[2, 4, 4])], |x| x[0].logdet_spd()),
    ] {
        let case = t.row(name, &operands, f);
        (case.bound, case.half) = (14.0, false);
    }
}

/// A convolution with every option.
pub fn conv(
    x: &Tensor,
    kernel: &Tensor,
    stride: &[usize],
    padding: &[(isize, isize)],
    dilation: [&[usize]; 2],
    groups: usize,
) -> Tensor {
    let dims = ConvDims {
        stride: stride.into(),
        padding: padding.iter().copied().collect(),
        lhs_dilation: dilation[0].into(),
        rhs_dilation: dilation[1].into(),
        groups,
    };
    x.try_conv_general(kernel, dims).unwrap_or_else(|error| panic!("{error}"))
}

/// Windows summed back: the adjoint of `windows`.
pub fn fold(x: &Tensor, size: &[usize], window: &[usize], stride: &[usize], dilation: &[usize]) -> Tensor {
    let windows =
        Windows { size: size.into(), window: window.into(), stride: stride.into(), dilation: dilation.into() };
    Tensor::apply(Op::Fold(Arc::new(windows)), std::slice::from_ref(x))
}
