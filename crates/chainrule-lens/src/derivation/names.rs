//! Names for values: L for the result, W and b for parameters, z for sums and products of matrices, h for what an activation
//! gives, x and t (of integers) for data, y for the targets of cross-entropy, v for the rest.

use super::graph::{Graph, Key, key};
use super::{Definition, Symbol};
use chainrule::tensor::{Binary, DType, Lambda, Node, Op, Reduction, ScanDims, Tensor, Unary};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Whether an operation only moves numbers.
pub(super) fn is_move(op: &Op) -> bool {
    matches!(op, Op::Variable | Op::StopGradient | Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(..) | Op::Cast(_))
}

pub(super) struct Names {
    names: HashMap<Key, String>,
    /// How many names have each letter, those within loops among them.
    counts: RefCell<HashMap<char, usize>>,
    pub definitions: Vec<Definition>,
}

impl Names {
    /// Of a loss, L, and its parameters.
    pub fn of(graph: &Graph, symbols: &[Symbol], leaves: &[Tensor]) -> Names {
        let mut given: HashMap<Key, String> =
            leaves.iter().zip(symbols).map(|(leaf, symbol)| (key(leaf), symbol.symbol.clone())).collect();
        given.insert(key(&graph.roots[0].0), "L".to_owned());
        Names::with(graph, given, HashMap::new(), "")
    }

    /// Of one step of a loop: what goes in and comes out has names, and all others end in ⁽ᵗ⁾.
    pub fn in_step(&self, graph: &Graph, given: HashMap<Key, String>) -> Names {
        let names = Names::with(graph, given, self.counts.borrow().clone(), AT);
        self.counts.replace(names.counts.borrow().clone());
        names
    }

    fn with(
        graph: &Graph,
        given: HashMap<Key, String>,
        mut counts: HashMap<char, usize>,
        suffix: &'static str,
    ) -> Names {
        let mut names = Names { names: HashMap::new(), counts: RefCell::default(), definitions: Vec::new() };
        let shown = shown(graph);
        let data = |dtype: fn(DType) -> bool| {
            let is = |x: &&Tensor| {
                matches!(x.node().op(), Op::Data(_)) && dtype(x.dtype()) && shown.contains(&x.node().id())
            };
            graph.nodes.iter().filter(is).filter(|x| !graph.is_leaf(x)).count()
        };
        let alone = [('x', data(DType::is_float)), ('t', data(|dtype| dtype == DType::I64))];
        for tensor in &graph.nodes {
            let node = tensor.node();
            let mut number = |letter: char| {
                let count = counts.entry(letter).or_default();
                *count += 1;
                let alone = alone.contains(&(letter, 1)) && *count == 1;
                if alone { letter.to_string() } else { format!("{letter}{}{suffix}", subscript(*count)) }
            };
            let is_shown = shown.contains(&node.id());
            let name = match node.op() {
                _ if given.contains_key(&key(tensor)) => given[&key(tensor)].clone(),
                Op::Data(_) | Op::Input(_) => match tensor.dtype() {
                    _ if !is_shown => "data".to_owned(),
                    dtype if dtype.is_float() => number('x'),
                    DType::I64 => number('t'),
                    _ => number('k'),
                },
                Op::Constant(scalar, _) => constant(scalar.as_f64()),
                Op::Iota(..) => "0, 1, 2, …".to_owned(),
                Op::Random(..) => "random".to_owned(),
                Op::Permute(_) if tensor.rank() == 2 => transposed(&names.get(&node.inputs()[0])),
                op if is_move(op) => names.get(&node.inputs()[0]),
                // Named with the sum that its bias makes of it.
                _ if graph.joined.contains_key(&node.id()) => names.text(graph, node),
                _ if !is_shown => names.text(graph, node),
                op => number(letter(op)),
            };
            for output in 0..node.types().len() {
                let own = match node.op() {
                    _ if given.contains_key(&(node.id(), output)) => given[&(node.id(), output)].clone(),
                    Op::Scan(dims, body) if is_shown => output_name(&name, dims, body, output),
                    _ if output == 0 || !is_shown => name.clone(),
                    _ => format!("{name}.{output}"),
                };
                names.names.insert((node.id(), output), own);
            }
            let defines = is_shown && !is_move(node.op()) && !graph.is_leaf(tensor) && !node.inputs().is_empty();
            if defines && !graph.joined.contains_key(&node.id()) {
                let formula = match graph.head_formula() {
                    Some((_, logits)) if name == "L" => format!("cross-entropy({}, y)", names.get(logits)),
                    _ => names.text(graph, node),
                };
                let (shape, line) = (tensor.shape().to_vec(), node.origin().into());
                names.definitions.push(Definition { name, formula, shape, line });
            }
        }
        Names { counts: RefCell::new(counts), ..names }
    }

    /// The name of a value.
    pub fn get(&self, x: &Tensor) -> String {
        self.names.get(&key(x)).cloned().unwrap_or_else(|| "v".to_owned())
    }

    /// What makes a value, in terms of other names.
    fn text(&self, graph: &Graph, node: &Node) -> String {
        let of = |i: usize| self.get(&node.inputs()[i]);
        let all = || (0..node.inputs().len()).map(of).collect::<Vec<_>>().join(", ");
        let same = node.inputs().len() == 2 && key(&node.inputs()[0]) == key(&node.inputs()[1]);
        let short = |text: String| if text.chars().count() > 80 { "…".to_owned() } else { text };
        if graph.is_in_head(node) && !graph.is_root(node) {
            return "…".to_owned();
        }
        short(match node.op() {
            Op::Binary(Binary::Add) => format!("{} + {}", of(0), of(1)),
            Op::Binary(Binary::Sub) => format!("{} − {}", of(0), of(1)),
            Op::Binary(Binary::Mul) if same => format!("{}²", of(0)),
            Op::Binary(Binary::Mul) => format!("{} ⊙ {}", wrapped(&of(0)), wrapped(&of(1))),
            Op::Binary(Binary::Div) => format!("{} / {}", wrapped(&of(0)), wrapped(&of(1))),
            Op::Unary(Unary::Neg) => format!("−{}", wrapped(&of(0))),
            Op::Unary(Unary::Sigmoid) => format!("σ({})", of(0)),
            Op::Dot(_) => format!("{} · {}", wrapped(&of(0)), wrapped(&of(1))),
            Op::Conv(_) => format!("{} ∗ {}", wrapped(&of(0)), wrapped(&of(1))),
            Op::Scan(dims, _) => {
                let sequences = &node.inputs()[dims.carries..dims.carries + dims.sequences];
                let over: Vec<String> = sequences.iter().map(|x| self.get(x)).collect();
                let over = if over.is_empty() { String::new() } else { format!(" over {}", over.join(", ")) };
                format!("loop of {} steps{over}", dims.length)
            }
            Op::Reduce(Reduction::Sum, _) => format!("Σ {}", wrapped(&of(0))),
            Op::Reduce(Reduction::Max, _) => format!("max {}", wrapped(&of(0))),
            Op::Unfold(_) => format!("windows({})", of(0)),
            Op::Gather { .. } => format!("{}[{}]", of(0), of(1)),
            Op::Select if is_relu(node) => format!("max(0, {})", if of(1) == "0" { of(2) } else { of(1) }),
            Op::Select => format!("{} where {}, else {}", of(1), of(0), of(2)),
            Op::Compare(compare) => format!("{} {} {}", of(0), sign(compare.name()), of(1)),
            op => format!("{}({})", op.name(), all()),
        })
    }
}

/// The end of a name in one step of a loop, and of what the step before gave.
pub(super) const AT: &str = "⁽ᵗ⁾";
pub(super) const BEFORE: &str = "⁽ᵗ⁻¹⁾";

/// What a loop named h₁ carries: h₁, c₁, then s₁, …
pub(super) fn state_name(of: &str, place: usize) -> String {
    let number = of.trim_start_matches('h');
    match place {
        0 => of.to_owned(),
        1 => format!("c{number}"),
        2 => format!("s{number}"),
        _ => format!("s{number}.{place}"),
    }
}

/// What one step of a loop gives at a place: the next state, and what is stacked, o₁ where it is no state.
pub(super) fn result_name(of: &str, dims: &ScanDims, body: &Lambda, place: usize) -> String {
    let is_state = |state: &usize| key(&body.results[*state]) == key(&body.results[place]);
    match ((0..dims.carries).find(is_state), place - place.min(dims.carries)) {
        (Some(state), _) => state_name(of, state),
        (None, 0) => of.replace('h', "o"),
        (None, more) => format!("{}.{more}", of.replace('h', "o")),
    }
}

/// What a loop gives: the last states, and with a capital what is stacked of all steps.
fn output_name(of: &str, dims: &ScanDims, body: &Lambda, output: usize) -> String {
    let name = result_name(of, dims, body, output);
    if output < dims.carries { state_name(of, output) } else { name[..1].to_uppercase() + &name[1..] }
}

/// Whether `select(x ≤ 0, 0, x)`.
pub(super) fn is_relu(node: &Node) -> bool {
    let [condition, no, yes] = node.inputs() else { return false };
    let zero = |x: &Tensor| {
        let mut at = x.clone();
        while is_move(at.node().op()) && !at.node().inputs().is_empty() {
            let next = at.node().inputs()[0].clone();
            at = next;
        }
        matches!(at.node().op(), Op::Constant(scalar, _) if scalar.as_f64() == 0.0)
    };
    let Op::Compare(compare) = condition.node().op() else { return false };
    let over = &condition.node().inputs()[0];
    zero(&condition.node().inputs()[1])
        && match compare.name() {
            "less_equal" | "less" => zero(no) && key(yes) == key(over),
            "greater" | "greater_equal" => zero(yes) && key(no) == key(over),
            _ => false,
        }
}

fn sign(compare: &str) -> &str {
    match compare {
        "less" => "<",
        "less_equal" => "≤",
        "greater" => ">",
        "greater_equal" => "≥",
        "equal" => "=",
        "not_equal" => "≠",
        other => other,
    }
}

/// In parentheses, unless it is one thing.
pub(super) fn wrapped(text: &str) -> String {
    let one = !text.contains(' ') && !text.starts_with('−') || is_bracketed(text);
    if one { text.to_owned() } else { format!("({text})") }
}

/// Whether the bracket that it begins with closes at the end.
fn is_bracketed(text: &str) -> bool {
    text.starts_with(['(', '['])
        && text
            .char_indices()
            .zip(depths(text))
            .find(|(_, depth)| *depth == 0)
            .is_some_and(|((place, _), _)| place + 1 == text.len())
}

/// How many brackets are open after each character.
fn depths(text: &str) -> impl Iterator<Item = i32> {
    text.chars().scan(0, |depth, c| {
        *depth += match c {
            '(' | '[' => 1,
            ')' | ']' => -1,
            _ => 0,
        };
        Some(*depth)
    })
}

/// Whether it is a product element by element of things that need no brackets within it.
pub(super) fn is_elementwise(text: &str) -> bool {
    let outside: String = text.chars().zip(depths(text)).filter(|(_, depth)| *depth == 0).map(|(c, _)| c).collect();
    let parts: Vec<&str> = outside.split(" ⊙ ").collect();
    parts.len() > 1 && parts.iter().all(|part| !part.contains(' ') && !part.contains('−'))
}

/// Aᵀ, and A of Aᵀ.
pub(super) fn transposed(text: &str) -> String {
    match text.strip_suffix('ᵀ') {
        Some(plain) if !text.contains(' ') || is_bracketed(plain) => plain.to_owned(),
        _ => format!("{}ᵀ", wrapped(text)),
    }
}

/// Values that get a name: those that a parameter has a path to, and what stands beside them; not within cross-entropy.
fn shown(graph: &Graph) -> HashSet<u64> {
    let mut shown = HashSet::new();
    for at in &graph.nodes {
        let node = at.node();
        let is_float = node.types().iter().any(|ty| ty.dtype.is_float());
        if !graph.active.contains(&node.id()) || !is_float {
            continue;
        }
        if graph.is_in_head(node) && !graph.is_root(node) {
            continue;
        }
        shown.insert(node.id());
        if graph.is_in_head(node) || is_relu(node) {
            continue;
        }
        for input in node.inputs() {
            let mut beside = input.clone();
            while let Some(next) = graph.moves(&beside) {
                beside = next;
            }
            let plain = matches!(beside.node().op(), Op::Compare(_) | Op::Random(..));
            if !plain {
                shown.insert(beside.node().id());
            }
        }
    }
    if let Some((_, logits)) = graph.head_formula() {
        shown.insert(logits.node().id());
    }
    shown
}

fn constant(value: f64) -> String {
    let plain = value == 0.0 || (1e-3..1e6).contains(&value.abs());
    let text =
        if plain { format!("{}", (value * 1e4).round() / 1e4) } else { format!("{value:.1e}").replace(".0e", "e") };
    text.replace('-', "−")
}

fn letter(op: &Op) -> char {
    match op {
        Op::Dot(_) | Op::Conv(_) | Op::Binary(Binary::Add | Binary::Sub) => 'z',
        Op::Unary(Unary::Neg) => 'v',
        Op::Unary(_) | Op::Select | Op::Composite(_) | Op::Scan(..) => 'h',
        Op::Compare(_) => 'c',
        _ => 'v',
    }
}

pub(super) fn subscript(number: usize) -> String {
    number.to_string().chars().map(|c| char::from_u32('₀' as u32 + c as u32 - '0' as u32).unwrap_or(c)).collect()
}

/// W₁, b₁, … by what parameters are called: those of a layer share its number.
pub(super) fn symbols(parameters: &[(String, Tensor)]) -> Vec<Symbol> {
    let mut layers: Vec<&str> = Vec::new();
    let mut taken: HashSet<String> = HashSet::new();
    let named = parameters.iter().map(|(path, leaf)| {
        let (layer, last) = path.rsplit_once('.').unwrap_or((path, path));
        let number = layers.iter().position(|known| *known == layer).unwrap_or_else(|| {
            layers.push(layer);
            layers.len() - 1
        });
        let letters: &[&str] = match last {
            _ if last.contains("bias") => &["b", "d", "e"],
            "scale" | "weight" if leaf.rank() < 2 => &["γ"],
            "shift" => &["β"],
            _ if leaf.rank() > 1 => &["W", "U", "V"],
            _ => &["a", "g"],
        };
        let number = subscript(number + 1);
        let fits = |name: &String| !taken.contains(name);
        let more = (2..).map(|n| format!("{}{number}′{n}", letters[0]));
        let symbol = match parameters.len() {
            1 => "w".to_owned(),
            _ => letters.iter().map(|l| format!("{l}{number}")).chain(more).find(fits).unwrap_or_default(),
        };
        taken.insert(symbol.clone());
        Symbol { symbol, path: path.clone(), shape: leaf.shape().to_vec() }
    });
    named.collect()
}
