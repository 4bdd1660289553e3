//! What `derive` has to say about an expression, gathered once for text, LaTeX and JSON.

use serde::Serialize;

use super::algebra::{Algebra, Id};
use super::engine::{Binding, Captured, Graph, operands_of};
use super::{differences, pretty, read};
use crate::expression::{Expression, Function, Node};
use crate::outcome::Failure;

/// Chains with more operations than this are not shown.
const MOST_STEPS: usize = 60;
/// Paths by the chain rule that are shown for a variable.
const MOST_PATHS: u64 = 12;
/// Variables that are derived by in one run.
const MOST_VARIABLES: usize = 64;
/// Variables whose second derivatives are all given.
const MOST_IN_HESSIAN: usize = 8;
/// Operations of a derivative's program that are read as symbols.
const MOST_OPERATIONS: usize = 3000;
/// Symbols longer than this, in operations and names, are not shown.
const LONGEST: u64 = 1000;
/// The deepest nesting that is shown.
const DEEPEST: u32 = 400;

/// An expression in three forms of writing.
#[derive(Serialize, Clone)]
pub struct Symbol {
    /// As `derive` reads it.
    pub text: String,
    /// As LaTeX.
    pub latex: String,
    /// For a terminal.
    #[serde(skip)]
    pub pretty: String,
}

impl Symbol {
    fn of(expression: &Expression) -> Symbol {
        Symbol { text: expression.to_string(), latex: expression.to_latex(), pretty: pretty::expression(expression) }
    }
}

/// A variable and its value.
#[derive(Serialize)]
pub struct Variable {
    pub name: String,
    pub value: Option<f64>,
}

/// One operation of the chain.
#[derive(Serialize)]
pub struct Step {
    pub name: String,
    pub operation: Symbol,
    pub value: Option<f64>,
    /// Its derivatives by its operands.
    pub derivatives: Vec<Local>,
}

/// The derivative of a step by one of its operands.
#[derive(Serialize)]
pub struct Local {
    pub by: String,
    pub symbol: Symbol,
    pub value: Option<f64>,
}

/// All paths from the result to a variable.
#[derive(Serialize)]
pub struct Paths {
    pub variable: String,
    pub paths: Vec<Path>,
    /// How many there are, those that are not listed included.
    pub count: u64,
    /// The sum of the products along all of them.
    pub sum: Option<f64>,
}

/// One path, from the result to the variable.
#[derive(Serialize)]
pub struct Path {
    pub names: Vec<String>,
    pub factors: Vec<Option<f64>>,
    pub product: Option<f64>,
}

/// A derivative of the whole.
#[derive(Serialize)]
pub struct Derivative {
    /// The variables in the order of differentiation.
    pub by: Vec<String>,
    /// None if it is too long to show.
    pub symbol: Option<Symbol>,
    pub value: Option<f64>,
    /// The derivative of the derivative one order lower, from its values.
    pub finite_difference: Option<f64>,
    pub difference: Option<f64>,
}

/// Everything.
#[derive(Serialize)]
pub struct Analysis {
    pub name: String,
    pub expression: Option<Symbol>,
    pub variables: Vec<Variable>,
    pub value: Option<f64>,
    /// How many operations the expression has; `chain` is empty if they are too many.
    pub operations: usize,
    pub chain: Vec<Step>,
    pub paths: Vec<Paths>,
    pub derivatives: Vec<Derivative>,
    /// The second derivatives row by row, if there are several variables and a point.
    pub hessian: Option<Vec<Vec<f64>>>,
    pub notes: Vec<String>,
}

/// Gathers everything.
pub fn analyse(
    expression: &Expression,
    graph: &Graph,
    point: Option<&[f64]>,
    wrt: &[usize],
    order: u32,
) -> Result<Analysis, Failure> {
    if wrt.len() > MOST_VARIABLES {
        let message = format!("{} variables; at most {MOST_VARIABLES} are derived by at once", wrt.len());
        return Err(Failure::input(format!("{message}: name some with --wrt x,y")));
    }
    let mut notes = Vec::new();
    let names = Names::of(graph);
    let operations = graph.steps().len();
    let mut algebra = Algebra::default();
    algebra.hyperbolic = graph.nodes.iter().any(|node| matches!(node, Node::Call(Function::Sinh | Function::Cosh, _)));
    let (chain, paths) = if operations <= MOST_STEPS {
        let locals = Locals::of(graph, &names, wrt, point);
        (locals.steps, locals.paths)
    } else {
        notes.push(format!("the chain has {operations} operations; up to {MOST_STEPS} are shown"));
        (Vec::new(), Vec::new())
    };

    let orders = wrt.iter().flat_map(|&v| (1..=order as usize).map(move |order| vec![v; order]));
    let mut all: Vec<Vec<usize>> = orders.collect();
    let square = wrt.len() > 1 && wrt.len() <= MOST_IN_HESSIAN;
    if wrt.len() > 1 && !square {
        notes.push(format!("the Hessian is given for up to {MOST_IN_HESSIAN} variables; name some with --wrt"));
    }
    if square {
        for (i, &a) in wrt.iter().enumerate() {
            all.extend(wrt[i..].iter().map(|&b| vec![a, b]).filter(|pair| order < 2 || pair[0] != pair[1]));
        }
    }
    all.sort_by_key(Vec::len);
    let values = point.map(|point| graph.derivatives(&all, point));
    let nodes: Vec<Id> = read::expression(&mut algebra, &graph.nodes);
    let mut derivatives: Vec<Derivative> = Vec::new();
    let mut long = Vec::new();
    for (place, path) in all.iter().enumerate() {
        let symbol = symbol(&mut algebra, graph, path, &nodes);
        let by: Vec<String> = path.iter().map(|&v| graph.variables[v].clone()).collect();
        let value = values.as_ref().map(|values| values[place]);
        if symbol.is_none() {
            long.push(by.join(", "));
        }
        if let (Some((_, simplified)), Some(value), Some(point)) = (&symbol, value, point)
            && let Some(shown) = Some(Graph::new(simplified).value(&reordered(graph, simplified, point)))
            && (shown - value).abs() > 1e-6 * (1.0 + value.abs())
        {
            let name = pretty::short(value);
            let note = format!(
                "by {}: the engine gives {name} at this point, the symbols {}; they hold where no two sides of a \
                 comparison are equal and no power of 0 occurs",
                by.join(", "),
                pretty::short(shown)
            );
            notes.push(note);
        }
        let finite = point.map(|point| {
            let (&last, inner) = path.split_last().expect("a derivative by something");
            let at = differences::points(point[last]);
            differences::slope(point[last], &graph.along(inner, point, last, &at))
        });
        let difference = value.zip(finite).map(|(value, finite)| (value - finite).abs());
        let symbol = symbol.map(|(symbol, _)| symbol);
        derivatives.push(Derivative { by, symbol, value, finite_difference: finite, difference });
    }
    if !long.is_empty() {
        notes.push(format!("too long to show in symbols: the derivative by {}", long.join("; ")));
    }
    if values.iter().flatten().any(|value| value.is_nan()) {
        notes.push("a derivative is NaN: the function has none at this point, or it is ∞·0 on the way".into());
    } else if values.iter().flatten().any(|value| value.is_infinite()) {
        notes.push("a derivative is infinite at this point".into());
    }
    let value = point.map(|point| graph.value(point));
    if let Some(value) = value.filter(|value| value.is_infinite()) {
        notes.push(format!("the value is {} at this point", pretty::value_text(value)));
    }
    if point.is_none() && !graph.variables.is_empty() {
        let example: Vec<String> = graph.variables.iter().take(3).map(|name| format!("{name}=1")).collect();
        notes.push(format!("--at {} gives the numbers as well", example.join(",")));
    }
    let hessian = values.as_ref().filter(|_| square).map(|values| {
        let entry = |a: usize, b: usize| {
            let place = all.iter().position(|path| *path == [a, b] || *path == [b, a]);
            place.map_or(f64::NAN, |place| values[place])
        };
        wrt.iter().map(|&a| wrt.iter().map(|&b| entry(a, b)).collect()).collect()
    });
    let variables = graph.variables.iter().enumerate();
    let variables =
        variables.map(|(i, name)| Variable { name: name.clone(), value: point.map(|point| point[i]) }).collect();
    let expression = (expression.nodes().len() <= LONGEST as usize).then(|| Symbol::of(expression));
    let name = names.function;
    Ok(Analysis { name, expression, variables, value, operations, chain, paths, derivatives, hessian, notes })
}

/// The values of a shown expression's own variables.
fn reordered(graph: &Graph, shown: &Expression, point: &[f64]) -> Vec<f64> {
    let place = |name: &str| graph.variables.iter().position(|known| known == name);
    shown.variables().into_iter().map(|name| place(name).map_or(f64::NAN, |place| point[place])).collect()
}

/// The derivative along a path of variables, read off the engine's program.
pub fn symbol(algebra: &mut Algebra, graph: &Graph, path: &[usize], nodes: &[Id]) -> Option<(Symbol, Expression)> {
    if graph.nodes.len() > MOST_OPERATIONS {
        return None;
    }
    let captured = graph.program(&[path.to_vec()]);
    if captured.program.instructions.len() > MOST_OPERATIONS {
        return None;
    }
    let written = simplified(algebra, &captured, |algebra, binding| match binding {
        Binding::Variable(place) => algebra.symbol(&graph.variables[*place]),
        Binding::Constant(constant) => algebra.constant(*constant),
        Binding::Node(id) => nodes[*id],
    })?;
    Some((Symbol::of(&written[0]), written.into_iter().next()?))
}

/// A program's results as short expressions, if they are short.
fn simplified(
    algebra: &mut Algebra,
    captured: &Captured,
    mut bound: impl FnMut(&mut Algebra, &Binding) -> Id,
) -> Option<Vec<Expression>> {
    let inputs: Vec<Id> = captured.bindings.iter().map(|binding| bound(algebra, binding)).collect();
    let outputs = read::program(algebra, &captured.program, &inputs)?;
    let mut written = Vec::new();
    for id in outputs {
        if algebra.depth(id) > DEEPEST {
            return None;
        }
        let id = algebra.simplify(id);
        if algebra.cost(id) > LONGEST || algebra.depth(id) > DEEPEST {
            return None;
        }
        written.push(read::written(algebra, id));
    }
    Some(written)
}

impl Graph {
    /// The nodes that are operations on something that varies; the last is the whole.
    pub fn steps(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&id| self.varies[id] && !matches!(self.nodes[id], Node::Variable(_))).collect()
    }
}

/// What the function and its intermediates are called, so that no variable is called the same.
struct Names {
    function: String,
    nodes: Vec<String>,
}

impl Names {
    fn of(graph: &Graph) -> Names {
        let taken = |name: &str| graph.variables.iter().any(|variable| variable == name);
        let function = ["f", "g", "h", "F", "G", "H"].into_iter().find(|name| !taken(name)).unwrap_or("f").to_owned();
        let numbered = |letter: &str| {
            let digits = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit());
            graph.variables.iter().any(|variable| variable.strip_prefix(letter).is_some_and(digits))
        };
        let letter = ["u", "v", "w", "s", "t", "z"].into_iter().find(|letter| !numbered(letter)).unwrap_or("u");
        let mut nodes = vec![String::new(); graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            if let Node::Variable(name) = node {
                nodes[id] = name.clone();
            }
        }
        let steps = graph.steps();
        for (place, &id) in steps.iter().enumerate() {
            nodes[id] = if place + 1 == steps.len() { function.clone() } else { format!("{letter}{}", place + 1) };
        }
        Names { function, nodes }
    }
}

/// The chain with its local derivatives, and the paths through it.
struct Locals {
    steps: Vec<Step>,
    paths: Vec<Paths>,
}

impl Locals {
    fn of(graph: &Graph, names: &Names, wrt: &[usize], point: Option<&[f64]>) -> Locals {
        let active = active(graph, wrt);
        let steps: Vec<(usize, Vec<usize>)> = graph
            .steps()
            .into_iter()
            .map(|id| {
                let mut operands = operands_of(&graph.nodes[id]);
                operands.retain(|&operand| graph.varies[operand]);
                operands.sort_unstable();
                operands.dedup();
                (id, operands)
            })
            .collect();
        let values = point.map(|point| graph.values(point));
        let slopes = values.as_ref().map(|values| graph.local_values(&steps, values));
        let mut shown: Vec<Step> = Vec::new();
        for (place, (id, operands)) in steps.iter().enumerate() {
            let operation = operation(graph, names, *id);
            let mut algebra = Algebra::default();
            algebra.hyperbolic = matches!(graph.nodes[*id], Node::Call(Function::Sinh | Function::Cosh, _));
            let whole = read::expression(&mut algebra, operation.nodes())[operation.root()];
            let captured = graph.local(*id, operands);
            let symbols = simplified(&mut algebra, &captured, |algebra, binding| match binding {
                Binding::Node(node) if node == id => whole,
                Binding::Node(node) => algebra.symbol(&names.nodes[*node]),
                Binding::Constant(constant) => algebra.constant(*constant),
                Binding::Variable(place) => algebra.symbol(&graph.variables[*place]),
            });
            // Only a step with an enormous constant in it has no short derivative.
            let symbols = symbols.unwrap_or_else(|| vec![Expression::number(f64::NAN); operands.len()]);
            let derivatives = operands.iter().zip(&symbols).enumerate().map(|(i, (&operand, symbol))| Local {
                by: names.nodes[operand].clone(),
                symbol: Symbol::of(symbol),
                value: slopes.as_ref().map(|slopes| slopes[place][i]),
            });
            let derivatives =
                derivatives.zip(operands).filter(|(_, operand)| active[**operand]).map(|(local, _)| local);
            shown.push(Step {
                name: names.nodes[*id].clone(),
                operation: Symbol::of(&operation),
                value: values.as_ref().map(|values| values[*id]),
                derivatives: derivatives.collect(),
            });
        }
        let active_steps = steps.into_iter().map(|(id, mut operands)| {
            operands.retain(|&operand| active[operand]);
            (id, operands)
        });
        let steps: Vec<(usize, Vec<usize>)> = active_steps.collect();
        let paths = wrt.iter().map(|&variable| paths(graph, names, &steps, &shown, variable)).collect();
        Locals { steps: shown, paths }
    }
}

/// Whether each node depends on one of these variables.
fn active(graph: &Graph, wrt: &[usize]) -> Vec<bool> {
    let mut active: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        active.push(match node {
            Node::Variable(name) => wrt.iter().any(|&place| graph.variables[place] == *name),
            node => operands_of(node).iter().any(|&operand| active[operand]),
        });
    }
    active
}

/// A step's operation on the names of its operands.
fn operation(graph: &Graph, names: &Names, id: usize) -> Expression {
    let mut algebra = Algebra::default();
    let mut operand = |id: usize| match (&names.nodes[id], graph.numbers[id]) {
        (name, _) if !name.is_empty() => Expression::variable(name).unwrap_or_else(|| Expression::number(f64::NAN)),
        (_, Some(number)) if number.fract() == 0.0 => Expression::number(number),
        _ => {
            let ids = read::expression(&mut algebra, &graph.nodes[..=id]);
            read::written(&algebra, ids[id])
        }
    };
    match &graph.nodes[id] {
        Node::Neg(a) => -operand(*a),
        Node::Add(a, b) => operand(*a) + operand(*b),
        Node::Sub(a, b) => operand(*a) - operand(*b),
        Node::Mul(a, b) => operand(*a) * operand(*b),
        Node::Div(a, b) => operand(*a) / operand(*b),
        Node::Pow(a, b) => operand(*a).pow(operand(*b)),
        Node::Call(function, arguments) => {
            let arguments = arguments.iter().map(|&argument| operand(argument)).collect();
            Expression::call(*function, arguments).expect("as many arguments as it was read with")
        }
        Node::Compare(comparison, a, b) => operand(*a).compare(*comparison, operand(*b)),
        Node::Number(_) | Node::Constant(_) | Node::Variable(_) => operand(id),
    }
}

/// The paths from the last step to a variable.
fn paths(graph: &Graph, names: &Names, steps: &[(usize, Vec<usize>)], shown: &[Step], variable: usize) -> Paths {
    let name = &graph.variables[variable];
    let leaf = graph.nodes.iter().position(|node| matches!(node, Node::Variable(known) if known == name));
    let place = |id: usize| steps.binary_search_by_key(&id, |(id, _)| *id).ok();
    // Paths to the variable from each node, and the sum of the products along them.
    let mut counts: Vec<u64> = vec![0; graph.nodes.len()];
    let mut sums: Vec<Option<f64>> = vec![Some(0.0); graph.nodes.len()];
    if let Some(leaf) = leaf {
        (counts[leaf], sums[leaf]) = (1, Some(1.0));
    }
    for ((id, operands), step) in steps.iter().zip(shown) {
        counts[*id] = operands.iter().fold(0, |sum: u64, &operand| sum.saturating_add(counts[operand]));
        sums[*id] = operands
            .iter()
            .zip(&step.derivatives)
            .filter(|(operand, _)| counts[**operand] > 0)
            .try_fold(0.0, |sum, (&operand, local)| Some(sum + local.value? * sums[operand]?));
    }
    let Some(&(root, _)) = steps.last() else {
        return Paths { variable: name.clone(), paths: Vec::new(), count: 0, sum: Some(1.0) };
    };
    let mut found: Vec<Path> = Vec::new();
    let mut pending = vec![vec![root]];
    while let Some(path) = pending.pop() {
        let end = path[path.len() - 1];
        if Some(end) == leaf {
            let locals: Vec<&Local> = path
                .windows(2)
                .filter_map(|pair| {
                    let step = place(pair[0])?;
                    let operand = steps[step].1.iter().position(|&operand| operand == pair[1])?;
                    Some(&shown[step].derivatives[operand])
                })
                .collect();
            found.push(Path {
                names: path.iter().map(|&id| names.nodes[id].clone()).collect(),
                factors: locals.iter().map(|local| local.value).collect(),
                product: locals.iter().try_fold(1.0, |product, local| Some(product * local.value?)),
            });
            if found.len() as u64 == MOST_PATHS {
                break;
            }
            continue;
        }
        let Some(step) = place(end) else { continue };
        for &operand in steps[step].1.iter().rev().filter(|&&operand| counts[operand] > 0) {
            pending.push(path.iter().copied().chain([operand]).collect());
        }
    }
    Paths { variable: name.clone(), paths: found, count: counts[root], sum: sums[root] }
}

/// Why an operation on these numbers has no value.
pub fn outside(node: &Node, operands: &[f64]) -> String {
    let shown: Vec<String> = operands.iter().map(|&value| pretty::short(value)).collect();
    let (written, rule) = match node {
        Node::Call(function, _) => {
            let rule = match function {
                Function::Log | Function::Log2 | Function::Log10 => "a logarithm needs a positive number",
                Function::Log1p => "log1p needs a number above -1",
                Function::Sqrt => "a square root needs a number that is not negative",
                Function::Asin | Function::Acos => "it needs a number between -1 and 1",
                _ => "it has no value there",
            };
            (format!("{}({})", function.name(), shown.join(", ")), rule)
        }
        Node::Pow(..) => {
            let base = if operands[0] < 0.0 { format!("({})", shown[0]) } else { shown[0].clone() };
            (format!("{base}^{}", shown[1]), "a negative number has only whole powers")
        }
        Node::Div(..) => (format!("{}/{}", shown[0], shown[1]), "this quotient has no value"),
        Node::Mul(..) => (format!("{}·{}", shown[0], shown[1]), "this product has no value"),
        Node::Add(..) => (format!("{} + {}", shown[0], shown[1]), "this sum has no value"),
        Node::Sub(..) => (format!("{} - {}", shown[0], shown[1]), "this difference has no value"),
        _ => (shown.join(", "), "there is no value"),
    };
    format!("{written} is NaN: {rule}")
}
