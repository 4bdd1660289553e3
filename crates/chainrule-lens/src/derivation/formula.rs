//! Names for values, and the derivative of one operation by one operand in terms of them.

use super::{Definition, Key, key};
use chainrule::tensor::{Binary, Composite, Node, Op, Reduction, Tensor, Unary};
use std::collections::HashMap;

/// A derivative, and how a cotangent passes it.
pub(super) struct Formula {
    pub slope: String,
    pub delta: String,
}

/// Whether an operation only moves numbers.
pub(super) fn is_move(op: &Op) -> bool {
    matches!(op, Op::Variable | Op::StopGradient | Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Cast(_))
}

/// The names of all values: L for the result, paths for parameters, z for sums and products of matrices, h for what an
/// activation gives, x for data, c for numbers in the program, v for the rest.
pub(super) struct Names {
    names: HashMap<Key, String>,
    pub definitions: Vec<Definition>,
}

impl Names {
    pub fn of(nodes: &[Tensor], value: &Tensor, parameters: &[(String, Tensor)]) -> Names {
        let mut names = Names { names: HashMap::new(), definitions: Vec::new() };
        let mut counts: HashMap<char, usize> = HashMap::new();
        for tensor in nodes {
            let node = tensor.node();
            let mut number = |letter: char| {
                let count = counts.entry(letter).or_default();
                *count += 1;
                format!("{letter}{}", subscript(*count))
            };
            let name = match node.op() {
                _ if node.id() == value.node().id() => "L".to_owned(),
                Op::Data(_) => match parameters.iter().find(|(_, leaf)| leaf.node().id() == node.id()) {
                    Some((path, _)) => path.clone(),
                    None => number('x'),
                },
                Op::Constant(scalar, _) => format!("{}", scalar.as_f64()),
                Op::Permute(_) if tensor.rank() == 2 => {
                    let name = names.get(&node.inputs()[0]);
                    name.strip_suffix('ᵀ').map_or(format!("{name}ᵀ"), str::to_owned)
                }
                op if is_move(op) => names.get(&node.inputs()[0]),
                op => number(letter(op)),
            };
            for output in 0..node.types().len() {
                let own = if output == 0 { name.clone() } else { format!("{name}.{output}") };
                names.names.insert((node.id(), output), own);
            }
            if !is_move(node.op()) && !node.inputs().is_empty() {
                let formula = names.definition(node);
                let (shape, line) = (tensor.shape().to_vec(), node.origin().into());
                names.definitions.push(Definition { name, formula, shape, line });
            }
        }
        names
    }

    /// The name of a value.
    pub fn get(&self, x: &Tensor) -> String {
        self.names.get(&key(x)).cloned().unwrap_or_else(|| "v".to_owned())
    }

    fn definition(&self, node: &Node) -> String {
        let of = |i: usize| self.get(&node.inputs()[i]);
        let all = || (0..node.inputs().len()).map(of).collect::<Vec<_>>().join(", ");
        match node.op() {
            Op::Binary(Binary::Add) => format!("{} + {}", of(0), of(1)),
            Op::Binary(Binary::Sub) => format!("{} − {}", of(0), of(1)),
            Op::Binary(Binary::Mul) => format!("{} ⊙ {}", of(0), of(1)),
            Op::Binary(Binary::Div) => format!("{} / {}", of(0), of(1)),
            Op::Unary(Unary::Neg) => format!("−{}", of(0)),
            Op::Unary(Unary::Sigmoid) => format!("σ({})", of(0)),
            Op::Dot(_) => format!("{} · {}", of(0), of(1)),
            Op::Conv(_) => format!("{} ∗ {}", of(0), of(1)),
            Op::Reduce(Reduction::Sum, _) => format!("Σ {}", of(0)),
            Op::Select => format!("{} where {}, else {}", of(1), of(0), of(2)),
            Op::Compare(compare) => format!("{}({}, {})", compare.name(), of(0), of(1)),
            op => format!("{}({})", op.name(), all()),
        }
    }
}

fn letter(op: &Op) -> char {
    match op {
        Op::Dot(_) | Op::Conv(_) | Op::Binary(Binary::Add | Binary::Sub) => 'z',
        Op::Unary(Unary::Neg) => 'v',
        Op::Unary(_) | Op::Select | Op::Composite(_) => 'h',
        Op::Compare(_) => 'c',
        _ => 'v',
    }
}

fn subscript(number: usize) -> String {
    number.to_string().chars().map(|c| char::from_u32('₀' as u32 + c as u32 - '0' as u32).unwrap_or(c)).collect()
}

/// The derivative of a node by its operand at a place.
pub(super) fn formula(node: &Node, place: usize, names: &Names) -> Formula {
    let of = |i: usize| node.inputs().get(i).map_or(String::new(), |x| names.get(x));
    let y = names.names.get(&(node.id(), 0)).cloned().unwrap_or_default();
    let x = of(place);
    let other = of(1 - place.min(1));
    let by = |slope: String| Formula { delta: format!("δ ⊙ ({slope})"), slope };
    let plain = |slope: &str, delta: &str| Formula { slope: slope.to_owned(), delta: delta.to_owned() };
    match node.op() {
        Op::Unary(unary) => match unary {
            Unary::Neg => plain("−1", "−δ"),
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
            Unary::Sign | Unary::Floor | Unary::Not => plain("0", "0"),
        },
        Op::Binary(binary) => match (binary, place) {
            (Binary::Add, _) | (Binary::Sub, 0) => plain("1", "δ"),
            (Binary::Sub, _) => plain("−1", "−δ"),
            (Binary::Mul, _) => by(other),
            (Binary::Div, 0) => by(format!("1/{other}")),
            (Binary::Div, _) => by(format!("−{y}/{x}")),
            (Binary::Pow, 0) => by(format!("{other}·{x}^({other} − 1)")),
            (Binary::Pow, _) => by(format!("{y}·ln {other}")),
            _ => by(format!("[{x} is taken]")),
        },
        Op::Select => by(if place == 1 { format!("[{}]", of(0)) } else { format!("[not {}]", of(0)) }),
        Op::Dot(_) if place == 0 => Formula { delta: format!("δ · ({other})ᵀ"), slope: other },
        Op::Dot(_) => Formula { delta: format!("({other})ᵀ · δ"), slope: other },
        Op::Conv(_) => Formula { delta: format!("δ ⋆ {other}"), slope: other },
        Op::Reduce(Reduction::Sum, _) => plain("1", "δ, repeated"),
        Op::Reduce(Reduction::Max | Reduction::Min, _) => by(format!("[{x} = {y}]")),
        Op::Reduce(Reduction::Prod, _) => plain("the product of the other factors", "δ ⊙ the product of the others"),
        Op::Gather { .. } | Op::Slice(_) => plain("1 where it is taken", "δ, put back where it was taken"),
        Op::ScatterAdd { .. } | Op::Pad(..) | Op::Concat(_) => plain("1", "δ, where it went"),
        Op::Composite(composite) => match composite {
            Composite::Softplus => by(format!("σ({x})")),
            Composite::Softmax(_) => Formula {
                delta: format!("{y} ⊙ (δ − Σ δ ⊙ {y})"),
                slope: format!("diag({y}) − {y}·{y}ᵀ"),
            },
            Composite::LogSoftmax(_) => {
                Formula { delta: format!("δ − exp({y})·Σ δ"), slope: format!("I − 1·exp({y})ᵀ") }
            }
            Composite::LogSumExp(_) => by(format!("exp({x} − {y})")),
            Composite::Normalize(..) => Formula {
                delta: format!("(δ − mean δ − {y} ⊙ mean(δ ⊙ {y}))/σ"),
                slope: format!("(I − 1/n − {y}·{y}ᵀ/n)/σ"),
            },
            Composite::Norm(_) => by(format!("{x}/{y}")),
        },
        op => Formula { slope: format!("{}'", op.name()), delta: format!("δ · {}'", op.name()) },
    }
}
