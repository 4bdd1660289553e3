//! The whole idea of chainrule in one file of plain Rust: no crate, not even this one.
//!
//! Expressions, one derivative rule an operation, the transpose of the linear ones, and gradients of any order out
//! of these two pages. At the end a network learns XOR. The names are those of the real engine.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Add, Mul, Neg};
use std::rc::Rc;

// tensor/: an expression is an operation and its operands. Building one computes nothing.

#[derive(Clone, Copy)]
enum Op {
    Number(f64),
    Input,
    Neg,
    Add,
    Mul,
    Tanh,
    Exp,
}

#[derive(Clone)]
struct Expr(Rc<Node>);

struct Node {
    id: usize, // operands are older than what uses them
    op: Op,
    x: Vec<Expr>,
}

thread_local!(static NEXT: Cell<usize> = const { Cell::new(0) });

fn apply(op: Op, x: &[&Expr]) -> Expr {
    let id = NEXT.replace(NEXT.get() + 1);
    Expr(Rc::new(Node { id, op, x: x.iter().map(|&x| x.clone()).collect() }))
}
#[rustfmt::skip]
impl Add for &Expr { type Output = Expr; fn add(self, other: &Expr) -> Expr { apply(Op::Add, &[self, other]) } }
#[rustfmt::skip]
impl Mul for &Expr { type Output = Expr; fn mul(self, other: &Expr) -> Expr { apply(Op::Mul, &[self, other]) } }
#[rustfmt::skip]
impl Neg for &Expr { type Output = Expr; fn neg(self) -> Expr { apply(Op::Neg, &[self]) } }

#[rustfmt::skip]
fn number(value: f64) -> Expr { apply(Op::Number(value), &[]) }
#[rustfmt::skip]
fn input() -> Expr { apply(Op::Input, &[]) }

// program/: everything that results are made of, each once, operands first.
fn list(results: &[Expr]) -> Vec<Expr> {
    let (mut found, mut pending) = (BTreeMap::new(), results.to_vec());
    while let Some(expr) = pending.pop() {
        if found.insert(expr.0.id, expr.clone()).is_none() {
            pending.extend(expr.0.x.iter().cloned());
        }
    }
    found.into_values().collect()
}

// execute/: the operation as arithmetic …
fn run(program: &[Expr], inputs: &[Expr], values: &[f64], results: &[Expr]) -> Vec<f64> {
    let mut known: HashMap<usize, f64> = inputs.iter().map(|x| x.0.id).zip(values.iter().copied()).collect();
    for Expr(node) in program {
        let x = |i: usize| known[&node.x[i].0.id];
        let value = match node.op {
            Op::Input => known[&node.id],
            Op::Number(value) => value,
            Op::Neg => -x(0),
            Op::Add => x(0) + x(1),
            Op::Mul => x(0) * x(1),
            Op::Tanh => x(0).tanh(),
            Op::Exp => x(0).exp(),
        };
        known.insert(node.id, value);
    }
    results.iter().map(|result| known[&result.0.id]).collect()
}

// differentiate/rules.rs: … and its derivative. ẏ from x, y = op(x) and ẋ; no tangent means no path.
fn jvp(op: Op, x: &[Expr], y: &Expr, t: &[Option<Expr>]) -> Option<Expr> {
    match op {
        Op::Number(_) | Op::Input => None,
        Op::Neg => t[0].as_ref().map(|t| -t),
        Op::Add => sum(t[0].clone(), t[1].clone()),
        Op::Mul => sum(t[0].as_ref().map(|t| t * &x[1]), t[1].as_ref().map(|t| &x[0] * t)),
        Op::Tanh => Some(t[0].as_ref()? * &(&number(1.0) + &-&(y * y))),
        Op::Exp => Some(t[0].as_ref()? * y),
    }
}

fn sum(a: Option<Expr>, b: Option<Expr>) -> Option<Expr> {
    match (&a, &b) {
        (Some(x), Some(y)) => Some(x + y),
        _ => a.or(b),
    }
}

// differentiate/transpose.rs: tangents come out of linear operations only; here is each one backwards.
fn transpose(op: Op, x: &[Expr], linear: &[bool], ct: &Expr) -> Vec<Expr> {
    match op {
        Op::Neg => vec![-ct],
        Op::Add => vec![ct.clone(), ct.clone()],
        Op::Mul if linear[0] => vec![ct * &x[1], ct.clone()],
        Op::Mul => vec![ct.clone(), &x[0] * ct],
        _ => unreachable!("not linear"),
    }
}

// Forward mode: tangents from leaves to the result.
fn push(y: &Expr, leaves: &[Expr], tangents: &[Expr]) -> Option<Expr> {
    let mut known: HashMap<usize, Expr> = leaves.iter().map(|x| x.0.id).zip(tangents.iter().cloned()).collect();
    for expr in list(std::slice::from_ref(y)) {
        let t: Vec<Option<Expr>> = expr.0.x.iter().map(|x| known.get(&x.0.id).cloned()).collect();
        if let Some(tangent) = jvp(expr.0.op, &expr.0.x, &expr, &t) {
            known.insert(expr.0.id, tangent);
        }
    }
    known.get(&y.0.id).cloned()
}

// Reverse mode is not a second set of rules: push symbols forward, then walk what came out backwards.
fn grad(y: &Expr, leaves: &[Expr]) -> Vec<Expr> {
    let symbols: Vec<Expr> = leaves.iter().map(|_| input()).collect();
    let tangent = push(y, leaves, &symbols).expect("y depends on a leaf");
    let program = list(std::slice::from_ref(&tangent));
    let mut linear: HashMap<usize, bool> = symbols.iter().map(|symbol| (symbol.0.id, true)).collect();
    for Expr(node) in &program {
        let any = node.x.iter().any(|x| linear[&x.0.id]);
        linear.entry(node.id).or_insert(any);
    }
    let mut cts: HashMap<usize, Expr> = HashMap::from([(tangent.0.id, number(1.0))]);
    for Expr(node) in program.iter().rev().filter(|expr| linear[&expr.0.id] && !expr.0.x.is_empty()) {
        let flags: Vec<bool> = node.x.iter().map(|x| linear[&x.0.id]).collect();
        let parts = transpose(node.op, &node.x, &flags, &cts[&node.id]);
        for ((x, part), _) in node.x.iter().zip(parts).zip(&flags).filter(|(_, linear)| **linear) {
            let total = sum(cts.remove(&x.0.id), Some(part)).expect("two cotangents");
            cts.insert(x.0.id, total);
        }
    }
    symbols.iter().map(|symbol| cts.get(&symbol.0.id).cloned().unwrap_or(number(0.0))).collect()
}

fn main() {
    // A gradient is an expression, so it has gradients: the first three of e^(tanh x) at 0.5.
    let tanh = |x: &Expr| apply(Op::Tanh, &[x]);
    let x = input();
    let mut orders = vec![apply(Op::Exp, &[&tanh(&x)])];
    for order in 0..3 {
        orders.push(grad(&orders[order], std::slice::from_ref(&x)).remove(0));
    }
    let at = |x0: f64| run(&list(&orders), std::slice::from_ref(&x), &[x0], &orders);
    println!("e^(tanh x) and three derivatives at 0.5: {:.6?}", at(0.5));
    for order in 1..4 {
        let difference = (at(0.5 + 1e-5)[order - 1] - at(0.5 - 1e-5)[order - 1]) / 2e-5;
        assert!((at(0.5)[order] - difference).abs() < 1e-8);
    }

    // A network for XOR: three hidden tanh, thirteen weights, (ŷ − y)² over the four examples.
    let w: Vec<Expr> = (0..13).map(|_| input()).collect();
    let mut loss = number(0.0);
    for (a, b, y) in [(0.0, 0.0, 0.0), (0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0)] {
        let mut error = &w[12] + &number(-y);
        for h in w[..12].chunks(4) {
            let z = &(&(&h[0] * &number(a)) + &(&h[1] * &number(b))) + &h[2];
            error = &error + &(&tanh(&z) * &h[3]);
        }
        loss = &loss + &(&error * &error);
    }
    // Derived and listed once; a step only runs the list.
    let mut results = grad(&loss, &w);
    results.push(loss);
    let program = list(&results);
    println!("XOR: a step is {} operations", program.len());
    let mut weights: Vec<f64> = (0..13).map(|i| (1.7 * i as f64 + 1.0).sin()).collect();
    let mut last = f64::NAN;
    for step in 0..=1000 {
        let out = run(&program, &w, &weights, &results);
        weights.iter_mut().zip(&out).for_each(|(w, slope)| *w -= 0.1 * slope);
        last = out[13];
        if step % 250 == 0 {
            println!("step {step:4}: loss {last:.1e}");
        }
    }
    assert!(last < 1e-3);
}
