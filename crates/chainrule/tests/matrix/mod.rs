//! The table of primitives and what every test of it needs: points to stand at, and comparison of numbers.
//!
//! `rows.rs` lists the cases. A case is a function of a few tensors with a generator for each; the tests over the
//! table are in `primitives.rs` and `cheap_gradient.rs`, and report all cases that fail, not the first.
#![allow(dead_code, unused_imports)]

mod layers;
mod rows;

pub use rows::table;

use chainrule::differentiate::Unreached;
use chainrule::execute::eval_all;
use chainrule::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Function = Box<dyn Fn(&[Tensor]) -> Tensor>;

/// Where the numbers of an operand come from.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// Between two numbers.
    Within(f64, f64),
    /// Between two positive numbers, with either sign: away from 0.
    Signed(f64, f64),
    /// All different by at least 0.05, in a mixed order.
    Distinct,
    /// Symmetric positive definite matrices.
    Definite,
    /// Matrices with a strong diagonal, to be read as triangular.
    Triangle,
    /// Integers from −n to n − 1, which index an axis of n.
    Index(i64),
    /// Bools.
    Bool,
}

/// An operand: its shape and where its numbers come from.
#[derive(Clone, Debug)]
pub struct Operand {
    pub shape: Vec<usize>,
    pub values: Values,
}

/// A function at points where its derivatives are not small.
pub struct Case {
    pub name: String,
    pub function: Function,
    pub operands: Vec<Operand>,
    /// Step of finite differences.
    pub step: f64,
    /// How well forward and reverse mode agree.
    pub adjoint: f64,
    /// Whether it also runs in f32, and in half precision.
    pub f32: bool,
    pub half: bool,
    /// Too large for the reference: only threads are compared.
    pub wide: bool,
    /// Most flops of value and gradient for each of the value's.
    pub bound: f64,
}

/// A small generator (SplitMix64): the same numbers everywhere.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
    pub fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

impl Operand {
    fn draw(&self, seed: u64) -> Tensor {
        let mut numbers = Numbers(seed);
        let count: usize = self.shape.iter().product();
        let shape = self.shape.clone();
        let mut floats = |make: &mut dyn FnMut(&mut Numbers) -> f64| -> Vec<f64> {
            (0..count).map(|_| make(&mut numbers)).collect()
        };
        match self.values {
            Values::Within(low, high) => Tensor::from_vec(floats(&mut |n| n.within(low, high)), shape),
            Values::Signed(low, high) => {
                let make =
                    &mut |n: &mut Numbers| n.within(low, high) * if n.next().is_multiple_of(2) { 1.0 } else { -1.0 };
                Tensor::from_vec(floats(make), shape)
            }
            Values::Distinct => {
                let mut order: Vec<usize> = (0..count).collect();
                (1..count).rev().for_each(|i| order.swap(i, numbers.below(i + 1)));
                let make =
                    |&place: &usize| place as f64 * 0.1 - count.min(40) as f64 * 0.03 + numbers.within(0.0, 0.05);
                Tensor::from_vec(order.iter().map(make).collect::<Vec<f64>>(), shape)
            }
            Values::Definite => {
                let n = shape[shape.len() - 1];
                let half = Tensor::from_vec(floats(&mut |n| n.within(-1.0, 1.0)), shape);
                (half.matmul(&half.t()) + Tensor::eye(n, DType::F64) * (0.5 + n as f64 / 4.0)).eval()
            }
            Values::Triangle => {
                let n = shape[shape.len() - 1];
                let any = Tensor::from_vec(floats(&mut |n| n.within(-0.8, 0.8)), shape);
                (any + Tensor::eye(n, DType::F64) * 2.0).eval()
            }
            Values::Index(n) => {
                let places: Vec<i64> = (0..count).map(|_| numbers.below(2 * n as usize) as i64 - n).collect();
                Tensor::from_vec(places, shape)
            }
            Values::Bool => {
                Tensor::from_vec((0..count).map(|_| numbers.next().is_multiple_of(2)).collect::<Vec<_>>(), shape)
            }
        }
    }
}

impl Case {
    fn seed(&self) -> u64 {
        self.name.bytes().fold(1, |hash, byte| (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3))
    }

    pub fn apply(&self, x: &[Tensor]) -> Tensor {
        (self.function)(x)
    }

    /// The operands of a point; other numbers give other points.
    pub fn point(&self, number: u64) -> Vec<Tensor> {
        let seed = |i: usize| Numbers(self.seed() ^ (number << 32) ^ i as u64).next();
        self.operands.iter().enumerate().map(|(i, operand)| operand.draw(seed(i))).collect()
    }

    /// Numbers to weigh a result or to walk along, in the shape of `like`.
    pub fn weights(&self, like: &Tensor, number: u64) -> Tensor {
        let mut numbers = Numbers(self.seed().wrapping_add(number));
        let weight = |_| numbers.within(0.3, 1.0) * if numbers.next().is_multiple_of(2) { 1.0 } else { -1.0 };
        Tensor::from_vec((0..like.numel()).map(weight).collect::<Vec<f64>>(), like.shape())
    }

    /// Σ weights · f(x).
    pub fn scalar(&self, x: &[Tensor]) -> Tensor {
        let y = self.apply(x);
        let weights = self.weights(&y, 100).cast(y.dtype());
        (y * weights).sum(..)
    }

    /// Σ weights · (f + f²/2): bent, so that linear operations have second derivatives too.
    pub fn bent_scalar(&self, x: &[Tensor]) -> Tensor {
        let y = self.apply(x);
        let weights = self.weights(&y, 100).cast(y.dtype());
        ((&y + y.square() * 0.5) * weights).sum(..)
    }

    /// The floats of a point, and the function of them alone.
    pub fn floats(x: &[Tensor]) -> Vec<Tensor> {
        x.iter().filter(|x| x.dtype().is_float()).cloned().collect()
    }

    /// A point with its floats replaced.
    pub fn with_floats(x: &[Tensor], floats: &[Tensor]) -> Vec<Tensor> {
        let mut floats = floats.iter();
        let place =
            |x: &Tensor| if x.dtype().is_float() { floats.next().expect("one a float").clone() } else { x.clone() };
        x.iter().map(place).collect()
    }

    /// The gradient of a scalar function of the floats of a point.
    pub fn gradient(x: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) -> Vec<Tensor> {
        let of_floats = |v: &Vec<Tensor>| (f(&Case::with_floats(x, v)), ());
        gradient(of_floats, &Case::floats(x), Unreached::Zeros).unwrap_or_else(|error| panic!("{error}")).2
    }

    /// A direction for each float of a point.
    pub fn directions(&self, x: &[Tensor]) -> Vec<Tensor> {
        let floats = Case::floats(x);
        floats.iter().enumerate().map(|(i, x)| self.weights(x, 200 + i as u64).cast(x.dtype())).collect()
    }

    /// Value, gradient and (of the bent scalar) the Hessian along a direction.
    pub fn derivatives(&self, x: &[Tensor]) -> Vec<Tensor> {
        let mut all = vec![self.apply(x)];
        all.extend(Case::gradient(x, |x| self.scalar(x)));
        let of_floats = |v: &Vec<Tensor>| self.bent_scalar(&Case::with_floats(x, v));
        all.extend(hvp(of_floats, &Case::floats(x), &self.directions(x)));
        all
    }
}

/// The numbers of several expressions, computed together, in double precision.
pub fn numbers(tensors: &[Tensor]) -> Vec<Vec<f64>> {
    let wide: Vec<Tensor> = tensors.iter().map(|x| x.cast(DType::F64)).collect();
    eval_all(&wide).iter().map(|x| x.to_vec::<f64>()).collect()
}

/// Σ aᵢ·bᵢ over lists of lists.
pub fn inner(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| a * b).sum()
}

/// Whether lists agree to a tolerance of their largest number; what differs if not.
pub fn agree(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{what}: {} numbers against {}", got.len(), want.len()));
    }
    let scale = want.iter().chain(got).filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in got.iter().zip(want).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * scale + 1e-300;
        if !same {
            return Err(format!("{what}: element {i} of {} is {a:e} against {b:e}", got.len()));
        }
    }
    Ok(())
}

/// Walks the table with a check; panics at the end with all cases that failed it.
pub fn every(cases: impl Iterator<Item = Case>, check: impl Fn(&Case) -> Result<(), String>) {
    let mut failures = Vec::new();
    let mut count = 0;
    for case in cases {
        count += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&case))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(format!(
                "panicked: {}",
                text.or(panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()
            ))
        });
        if let Err(why) = outcome {
            failures.push(format!("{}: {why}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} of {count} cases fail:\n{}", failures.len(), failures.join("\n"));
}
