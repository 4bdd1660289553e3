//! What to write instead: the stable spelling of what the operands show was meant.

use super::Cause;
use crate::place::Part;
use crate::replay::Replay;
use chainrule::program::{Instruction, Kind, Value};
use chainrule::tensor::{Binary, Op, Reduction, Unary};

/// The derivative that an operation of the derivative page states, for those that can fail.
pub(super) fn formula(op: &str) -> Option<&'static str> {
    Some(match op {
        "log" => "(log x)' = 1/x",
        "log1p" => "(log(1 + x))' = 1/(1 + x)",
        "sqrt" => "(√x)' = 1/(2√x)",
        "div" => "(a/b)' = a'/b − b'·a/b²",
        "pow" => "(xᵖ)' = p·xᵖ⁻¹·x' + xᵖ·ln x·p'",
        "exp" => "(eˣ)' = eˣ",
        "expm1" => "(eˣ − 1)' = eˣ",
        "mul" => "(a·b)' = a'·b + a·b'",
        "atan" => "(atan x)' = 1/(1 + x²)",
        "tanh" => "(tanh x)' = 1 − tanh² x",
        "sigmoid" => "σ' = σ(1 − σ)",
        "norm" => "‖x‖' = x/‖x‖",
        "normalize" => "x̂' = (x' − mean x' − x̂·mean(x̂·x'))/√(variance + ε)",
        "softmax" => "s' = s·(x' − Σ s·x')",
        "log_softmax" => "(log s)' = x' − Σ s·x'",
        "logsumexp" => "(log Σ eˣ)' = Σ s·x'",
        "dot" => "(A·B)' = A'·B + A·B'",
        "conv" => "(x ∗ w)' = x' ∗ w + x ∗ w'",
        "reduce_max" | "reduce_min" => "(max x)' = mean of x' over the ties",
        "cholesky" => "L' = L·Φ(L⁻¹A'L⁻ᵀ)",
        _ => return None,
    })
}

/// What a value is, seen through movements.
#[derive(Clone, Copy)]
struct Seen<'a, 'p> {
    replay: &'a Replay<'p>,
    value: Value,
}

impl<'p> Seen<'_, 'p> {
    /// The operation that made the numbers, wherever they were moved since.
    fn op(self) -> Option<(&'p Op, &'p Instruction)> {
        let mut value = self.value;
        loop {
            let instruction = self.replay.made_by(value)?;
            let Kind::Op(op) = &instruction.kind else { return None };
            match op {
                Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Slice(_) | Op::Cast(_) => {
                    value = instruction.inputs[0];
                }
                _ => return Some((op, instruction)),
            }
        }
    }
    fn operand(self, place: usize) -> Option<Self> {
        let (_, instruction) = self.op()?;
        instruction.inputs.get(place).map(|&value| Seen { value, ..self })
    }
    fn is_unary(self, wanted: Unary) -> bool {
        matches!(self.op(), Some((Op::Unary(op), _)) if *op == wanted)
    }
    fn is_binary(self, wanted: Binary) -> bool {
        matches!(self.op(), Some((Op::Binary(op), _)) if *op == wanted)
    }
    fn is_sum(self) -> bool {
        matches!(self.op(), Some((Op::Reduce(Reduction::Sum, _), _)))
    }
    /// What a `select` gave, scaled or not.
    fn is_select(self) -> bool {
        match self.op() {
            Some((Op::Select, _)) => true,
            Some((Op::Unary(Unary::Neg), _)) => self.operand(0).is_some_and(Self::is_select),
            Some((Op::Binary(Binary::Mul | Binary::Div), _)) => self.both(Self::is_select).contains(&true),
            _ => false,
        }
    }
    fn is_constant(self, wanted: f64) -> bool {
        matches!(self.op(), Some((Op::Constant(value, _), _)) if value.as_f64() == wanted)
    }
    fn both(self, test: impl Fn(Self) -> bool) -> [bool; 2] {
        [0, 1].map(|place| self.operand(place).is_some_and(&test))
    }
    /// x·x, or a sum or mean of it.
    fn is_sum_of_squares(self) -> bool {
        if self.is_binary(Binary::Div) || self.is_sum() {
            return self.operand(0).is_some_and(Self::is_sum_of_squares);
        }
        match self.op() {
            Some((Op::Binary(Binary::Mul), i)) => i.inputs[0] == i.inputs[1],
            Some((Op::Binary(Binary::Pow), _)) => self.operand(1).is_some_and(|p| p.is_constant(2.0)),
            _ => false,
        }
    }
    /// e^x / Σ e^x.
    fn is_softmax(self) -> bool {
        self.is_binary(Binary::Div)
            && self.operand(0).is_some_and(|top| top.is_unary(Unary::Exp))
            && self.operand(1).is_some_and(Self::is_sum)
    }
}

pub(super) fn advise(replay: &Replay, instruction: &Instruction, op: &Op, cause: Cause, values: &[Vec<f64>]) -> String {
    let seen = |place: usize| Seen { replay, value: instruction.inputs.get(place).copied().unwrap_or(0) };
    let part = Part::from(instruction.origin);
    let derived = part.derives();
    let chosen = (0..instruction.inputs.len()).any(|place| seen(place).is_select());
    if derived.is_some() && chosen && values.iter().flatten().any(|&x| x == 0.0) {
        return "the branch that a select does not take is derived all the same, and 0 times its slope is not 0: choose \
                before, not only after: `let safe = mask.select(&x, 1.0); mask.select(&f(&safe), 0.0)`"
            .to_owned();
    }
    let text = match (op, cause, derived) {
        (_, Cause::LogOfZero | Cause::LogOfNegative, _) => of_log(seen(0), cause),
        (Op::Unary(Unary::Exp | Unary::Expm1), Cause::Overflow, _) => of_exp(replay, instruction),
        (_, Cause::RootOfNegative, _) => of_root(seen(0)),
        (_, Cause::DivisionByZero | Cause::ZeroOverZero, Some("sqrt")) => of_root_slope(seen(1)),
        (_, Cause::DivisionByZero | Cause::ZeroOverZero, Some("log")) => of_log(seen(1), Cause::LogOfZero),
        (_, Cause::DivisionByZero | Cause::ZeroOverZero, _) => of_division(seen(1)),
        (_, Cause::ZeroToNegative, Some(_)) => {
            "xᵖ with p < 1 is infinitely steep at 0: move it off 0, `(x + 1e-12).pow(p)`, or for a norm use `x.norm(axes)`"
        }
        (_, Cause::ZeroToNegative, _) => "0 has no negative power: keep the base off 0, `x.maximum(1e-12).pow(p)`",
        (_, Cause::NegativeToFraction, _) => {
            "only integer powers of negative numbers are real: `x.abs().pow(p) * x.sign()`, or `x.maximum(0.0).pow(p)`"
        }
        (_, Cause::InfiniteAngle, _) => "keep the angle finite: it is a frequency times a position that overflowed",
        (_, Cause::NotPositiveDefinite, _) => {
            "add a little to the diagonal, `a + Tensor::eye(n, a.dtype()) * 1e-6`, and make the matrix symmetric"
        }
        (_, Cause::Singular, _) => "a zero stands on the diagonal: add a little to it, or solve with `solve_spd`",
        (Op::Cast(dtype), Cause::Overflow, _) => {
            return format!(
                "the number is beyond {dtype}: scale before the cast, keep this part in f32, or use bf16, which has f32's range"
            );
        }
        (_, Cause::ZeroTimesInfinity, Some(_)) => {
            "the slope is infinite where the cotangent is 0: keep the operand away from that point before the operation"
        }
        (_, Cause::ZeroTimesInfinity, _) => {
            "0 does not silence an infinity: choose instead of multiplying, `mask.select(&x, 0.0)`"
        }
        (_, Cause::InfinityMinusInfinity, _) => {
            "mask with a large finite number such as -1e9, or keep infinities on one side of the difference"
        }
        (_, Cause::InfinityOverInfinity, _) => "divide before the numbers grow: work with logarithms and subtract them",
        (_, Cause::Given, _) => "this number was written as it is: write a finite one",
        (_, Cause::Overflow, Some(_)) => {
            "the gradient grew beyond the dtype: lower the learning rate or the first weights, clip with `clip_norm`, or \
             normalise between layers; with f16, lower the loss scale"
        }
        (_, _, _) => {
            "the numbers grew beyond the dtype: normalise or scale them before this line, or compute it in f32 or f64"
        }
    };
    text.to_owned()
}

fn of_log(x: Seen, cause: Cause) -> &'static str {
    let one_less = x.is_binary(Binary::Sub) && x.operand(0).is_some_and(|one| one.is_constant(1.0));
    if x.is_softmax() {
        "a probability rounded to 0 before its logarithm: `x.log_softmax(-1)`, or `logits.cross_entropy(&targets)`"
    } else if x.is_unary(Unary::Sigmoid) {
        "σ rounded to 0 before its logarithm: `x.log_sigmoid()`"
    } else if one_less && x.operand(1).is_some_and(|s| s.is_unary(Unary::Sigmoid)) {
        "1 − σ(x) rounded to 0 before its logarithm: `(-x).log_sigmoid()`"
    } else if one_less && x.operand(1).is_some_and(|y| y.is_unary(Unary::Exp)) {
        "1 − eˣ rounded to 0 before its logarithm: `(-x.expm1()).log()`"
    } else if x.is_sum() && x.operand(0).is_some_and(|e| e.is_unary(Unary::Exp)) {
        "every eˣ rounded to 0 before the logarithm of their sum: `x.logsumexp(axis)`"
    } else if x.is_unary(Unary::Exp) {
        "eˣ rounded to 0 before its logarithm: log eˣ is x"
    } else if cause == Cause::LogOfNegative {
        "the logarithm needs positive numbers: `x.maximum(1e-12).log()`, or make x positive with `softplus` or `exp`"
    } else {
        "keep it off 0, `x.maximum(1e-12).log()`; for x·log x choose before: `let z = x.greater(0.0); \
         z.select(&(x * z.select(&x, 1.0).log()), 0.0)`"
    }
}

/// What the user's own program does with a value, wherever it is moved before.
fn uses<'p>(replay: &Replay<'p>, value: Value) -> Vec<(&'p Op, &'p Instruction)> {
    let mut pending = vec![value];
    let mut uses = Vec::new();
    while let Some(value) = pending.pop() {
        for user in &replay.program.instructions {
            let Kind::Op(op) = &user.kind else { continue };
            if !user.inputs.contains(&value) || user.origin.derivation.is_some() {
                continue;
            }
            match op {
                Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Slice(_) => pending.push(user.outputs[0]),
                _ => uses.push((op, user)),
            }
        }
    }
    uses
}

fn of_exp(replay: &Replay, instruction: &Instruction) -> &'static str {
    let is = |wanted: Op| move |(op, _): &(&Op, &Instruction)| **op == wanted;
    let (log, divide) = (is(Op::Unary(Unary::Log)), is(Op::Binary(Binary::Div)));
    let by_sum = |user: &Instruction| (Seen { replay, value: user.inputs[1] }).is_sum();
    for (op, user) in uses(replay, instruction.outputs[0]) {
        let next = uses(replay, user.outputs[0]);
        let one_more = || (Seen { replay, value: user.outputs[0] }).both(|x| x.is_constant(1.0)).contains(&true);
        match op {
            Op::Reduce(Reduction::Sum, _) if next.iter().any(|next| log(next) || (divide(next) && by_sum(next.1))) => {
                return "subtract the largest first; `softmax`, `log_softmax` and `logsumexp` do";
            }
            Op::Binary(Binary::Add) if one_more() && next.iter().any(&log) => {
                return "log(1 + eˣ) is `x.softplus()`, which does not overflow";
            }
            Op::Binary(Binary::Add) if one_more() && next.iter().any(&divide) => {
                return "1/(1 + e⁻ˣ) is `x.sigmoid()`, which does not overflow";
            }
            _ => {}
        }
    }
    "limit the exponent, `x.minimum(80.0).exp()`, or stay with the logarithm of the number"
}

fn of_root(x: Seen) -> &'static str {
    if x.is_binary(Binary::Sub) && x.both(Seen::is_sum_of_squares) != [false, false] {
        "mean x² − (mean x)² rounds below 0: `x.variance(axes, 0)` subtracts the mean first"
    } else if x.is_binary(Binary::Sub) {
        "a difference that should be 0 rounded below it: `x.maximum(0.0).sqrt()`, or factor it, as in 1 − x² = (1 − x)(1 + x)"
    } else {
        "the root needs numbers that are not negative: `x.maximum(0.0).sqrt()`"
    }
}

/// The slope 1/(2√x) at 0; `y` is the root.
fn of_root_slope(y: Seen) -> &'static str {
    match y.is_unary(Unary::Sqrt) && y.operand(0).is_some_and(Seen::is_sum_of_squares) {
        true => {
            "√Σx² is infinitely steep at 0: `x.norm(axes)` has slope 0 there; for a mean of squares add ε inside the root"
        }
        false => "√x is infinitely steep at 0: `(x + 1e-12).sqrt()`, or choose before the root where x may be 0",
    }
}

fn of_division(below: Seen) -> &'static str {
    let root = below.is_unary(Unary::Sqrt);
    let of_one = |x: Seen| x.is_binary(Binary::Sub) && x.operand(0).is_some_and(|one| one.is_constant(1.0));
    let circle = |x: Seen| x.is_binary(Binary::Mul) && x.operand(0).is_some_and(of_one);
    if root && below.operand(0).is_some_and(circle) {
        "asin and acos are infinitely steep at ±1: `x.clip(-1.0 + 1e-7, 1.0 - 1e-7)` first"
    } else if root && below.operand(0).is_some_and(Seen::is_sum_of_squares) {
        "a norm or spread of 0 divides: `x / x.norm(axes).maximum(1e-12)`; for a spread, `x.normalize(axes, 1e-5)`"
    } else if below.is_sum() && below.operand(0).is_some_and(|e| e.is_unary(Unary::Exp)) {
        "every term of the softmax is 0: a whole row is masked, or every eˣ rounded to 0; leave one open, mask with -1e9 \
         instead of −∞, and use `softmax`"
    } else if below.is_sum() {
        "nothing was counted: `sum / count.maximum(1.0)`"
    } else {
        "keep the divisor off 0: `a / b.maximum(1e-12)`, or choose before dividing: `b.equal(0.0).select(&one, &b)`"
    }
}
