//! The derivative of one operation by one operand in terms of names, and how a cotangent passes it.

use super::names::{Names, is_elementwise, is_relu, transposed, wrapped};
use chainrule::tensor::{Binary, Composite, Node, Op, Reduction, Unary};

/// A derivative, and how a cotangent passes it.
pub(super) struct Formula {
    pub slope: String,
    pub way: Way,
}

/// How a cotangent δ passes an operation.
#[derive(Clone)]
pub(super) enum Way {
    /// δ.
    Same,
    /// δ ⊙ s.
    Times(String),
    /// δ · A.
    Right(String),
    /// A · δ.
    Left(String),
    /// Another formula, in which § stands for δ.
    Other(String),
}

/// A cotangent's formula on its way.
#[derive(Clone, PartialEq)]
pub(super) enum Form {
    /// As it is written.
    Plain(String),
    /// A product of matrices.
    Product(String, String),
}

impl Form {
    /// As it is written.
    pub fn text(&self) -> String {
        match self {
            Form::Plain(text) => text.clone(),
            Form::Product(left, right) => format!("{} · {}", wrapped(left), wrapped(right)),
        }
    }

    /// After an operation.
    pub fn passes(&self, way: &Way) -> Form {
        let text = self.text();
        match way {
            Way::Same => self.clone(),
            Way::Times(slope) if text == "1" => Form::Plain(slope.clone()),
            Way::Times(slope) => {
                let text = if is_elementwise(&text) { text } else { wrapped(&text) };
                Form::Plain(format!("{text} ⊙ {}", wrapped(slope)))
            }
            Way::Right(other) => Form::Product(text, other.clone()),
            Way::Left(other) => Form::Product(other.clone(), text),
            Way::Other(formula) => {
                let inside = formula.replace("(§)", &format!("({text})"));
                Form::Plain(inside.replace('§', &wrapped(&text)))
            }
        }
    }

    /// After a movement of numbers, whose transpose it is.
    pub fn moved(&self, node: &Node) -> Form {
        match (node.op(), self) {
            (Op::Permute(_), Form::Product(left, right)) if node.types()[0].shape.len() == 2 => {
                Form::Product(transposed(right), transposed(left))
            }
            (Op::Permute(_), Form::Plain(text)) if node.types()[0].shape.len() == 2 => Form::Plain(transposed(text)),
            (Op::Broadcast(..), form)
                if node.inputs()[0].numel() != node.types()[0].shape.iter().product::<usize>() =>
            {
                Form::Plain(format!("Σ {}", wrapped(&form.text())))
            }
            (_, form) => form.clone(),
        }
    }
}

/// The derivative of a node by its operand at a place.
pub(super) fn formula(node: &Node, places: &[usize], made: &str, names: &Names) -> Formula {
    let place = places.first().copied().unwrap_or(0);
    let of = |i: usize| node.inputs().get(i).map_or(String::new(), |x| wrapped(&names.get(x)));
    let y = made.to_owned();
    let x = of(place);
    let other = of(1 - place.min(1));
    let by = |slope: String| Formula { way: Way::Times(slope.clone()), slope };
    let plain = |slope: &str, way: Way| Formula { slope: slope.to_owned(), way };
    let text = |slope: &str, delta: &str| plain(slope, Way::Other(delta.to_owned()));
    if places.len() == 2 {
        match node.op() {
            Op::Binary(Binary::Mul) => return by(format!("2{x}")),
            Op::Binary(Binary::Add) => return by("2".into()),
            op => return text(&format!("{}'", op.name()), &format!("§ · {}'", op.name())),
        }
    }
    match node.op() {
        Op::Unary(unary) => match unary {
            Unary::Neg => text("−1", "−§"),
            Unary::Exp => by(y),
            Unary::Expm1 => by(format!("{y} + 1")),
            Unary::Log => by(format!("1/{x}")),
            Unary::Log1p => by(format!("1/(1 + {x})")),
            Unary::Sin => by(format!("cos {x}")),
            Unary::Cos => by(format!("−sin {x}")),
            Unary::Atan => by(format!("1/(1 + {x}²)")),
            Unary::Tanh => by(format!("1 − {y}²")),
            Unary::Sigmoid => by(format!("{y}(1 − {y})")),
            Unary::Erf => by(format!("2/√π · exp(−{x}²)")),
            Unary::Sqrt => by(format!("1/(2{y})")),
            Unary::Abs => by(format!("sign {x}")),
            Unary::Sign | Unary::Floor | Unary::Not => text("0", "0"),
        },
        Op::Binary(binary) => match (binary, place) {
            (Binary::Add, _) | (Binary::Sub, 0) => plain("1", Way::Same),
            (Binary::Sub, _) => text("−1", "−§"),
            (Binary::Mul, _) => by(other),
            (Binary::Div, 0) => by(format!("1/{other}")),
            (Binary::Div, _) => by(format!("−{y}/{x}")),
            (Binary::Pow, 0) => by(format!("{other}·{x}^({other} − 1)")),
            (Binary::Pow, _) => by(format!("{y}·ln {other}")),
            _ => by(format!("[{x} is taken]")),
        },
        Op::Select if is_relu(node) => by(format!("[{x} > 0]")),
        Op::Select => {
            let condition = names.get(&node.inputs()[0]);
            by(if place == 1 { format!("[{condition}]") } else { format!("[not {condition}]") })
        }
        Op::Dot(_) if place == 0 => Formula { way: Way::Right(transposed(&other)), slope: other },
        Op::Dot(_) => Formula { way: Way::Left(transposed(&other)), slope: other },
        Op::Conv(_) => Formula { way: Way::Other(format!("§ ⋆ {other}")), slope: other },
        Op::Reduce(Reduction::Sum, _) => plain("1", Way::Same),
        Op::Reduce(Reduction::Max | Reduction::Min, _) => by(format!("[{x} = {y}]")),
        Op::Reduce(Reduction::Prod, _) => text("the product of the other factors", "§ ⊙ (the product of the others)"),
        Op::Gather { .. } | Op::Slice(_) => text("[taken]", "put back(§)"),
        Op::ScatterAdd { .. } | Op::Pad(..) | Op::Concat(_) => text("1", "cut(§)"),
        Op::Composite(composite) => match composite {
            Composite::Softplus => by(format!("σ({x})")),
            Composite::Softmax(_) => text(&format!("diag({y}) − {y} · {y}ᵀ"), &format!("{y} ⊙ (§ − Σ § ⊙ {y})")),
            Composite::LogSoftmax(_) => text(&format!("I − 1 · exp({y})ᵀ"), &format!("§ − exp({y}) ⊙ Σ §")),
            Composite::LogSumExp(_) => by(format!("exp({x} − {y})")),
            Composite::Normalize(..) => {
                let delta = format!("(§ − mean(§) − {y} ⊙ mean(§ ⊙ {y}))/s");
                text(&format!("(I − 1/n − {y} · {y}ᵀ/n)/s"), &delta)
            }
            Composite::Norm(_) => by(format!("{x}/{y}")),
        },
        Op::Unfold(_) => text("[in the window]", "folded(§)"),
        Op::Scan(..) => text("Σ over the steps", "back through time(§)"),
        op => text(&format!("{}'", op.name()), &format!("§ · {}'", op.name())),
    }
}
