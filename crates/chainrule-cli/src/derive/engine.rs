//! The expression as the engine's tensors: its values, its derivatives and the programs they are.

use std::cell::RefCell;
use std::collections::HashMap;

use chainrule::Tensor;
use chainrule::differentiate::{Unreached, gradient, vmap};
use chainrule::execute::eval_all;
use chainrule::optimize::optimize_without;
use chainrule::program::{Program, capture};
use chainrule::tensor::DType;

use crate::expression::{Constant, Expression, Function, Node};

/// One operation of an expression whose operands are others, or leaves; equal ones are one.
pub struct Graph {
    /// Operations and leaves, operands first; the last is the whole.
    pub nodes: Vec<Node>,
    /// The number a node is, where it contains no name.
    pub numbers: Vec<Option<f64>>,
    /// Whether a node depends on a variable.
    pub varies: Vec<bool>,
    /// The variables in the order of their first use.
    pub variables: Vec<String>,
    /// Which node each of the expression's nodes became.
    pub of: Vec<usize>,
}

/// What is bound when a program runs, in the order of the program's inputs.
pub enum Binding {
    /// A variable, by its place.
    Variable(usize),
    /// A named number.
    Constant(Constant),
    /// The value of a node.
    Node(usize),
}

/// The passes that are left out: numbers stay apart, so that √½ and 2/√π can be told in a product of both.
const UNFOLDED: &[&str] = &["simplify", "fuse"];

/// A program with what its inputs are.
pub struct Captured {
    /// The program; its outputs are single numbers.
    pub program: Program,
    /// What each input is.
    pub bindings: Vec<Binding>,
}

/// The named numbers, as leaves that keep their names in programs.
struct Constants(Vec<(Constant, Tensor)>);

impl Constants {
    fn new() -> Constants {
        Constants(Constant::ALL.into_iter().map(|constant| (constant, Tensor::from(constant.value()))).collect())
    }
    fn get(&self, constant: Constant) -> Tensor {
        let found = self.0.iter().find(|(known, _)| *known == constant);
        found.map_or_else(|| Tensor::from(constant.value()), |(_, leaf)| leaf.clone())
    }
}

impl Graph {
    /// The operations of an expression, equal ones once.
    pub fn new(expression: &Expression) -> Graph {
        let variables: Vec<String> = expression.variables().into_iter().map(str::to_owned).collect();
        let mut graph = Graph { nodes: Vec::new(), numbers: Vec::new(), varies: Vec::new(), variables, of: Vec::new() };
        let mut known: HashMap<String, usize> = HashMap::new();
        for node in expression.nodes() {
            let mut node = node.clone();
            match &mut node {
                Node::Number(_) | Node::Constant(_) | Node::Variable(_) => {}
                Node::Neg(a) => *a = graph.of[*a],
                Node::Add(a, b)
                | Node::Sub(a, b)
                | Node::Mul(a, b)
                | Node::Div(a, b)
                | Node::Pow(a, b)
                | Node::Compare(_, a, b) => (*a, *b) = (graph.of[*a], graph.of[*b]),
                Node::Call(_, arguments) => arguments.iter_mut().for_each(|a| *a = graph.of[*a]),
            }
            let place = *known.entry(format!("{node:?}")).or_insert_with(|| graph.push(node));
            graph.of.push(place);
        }
        graph
    }

    fn push(&mut self, node: Node) -> usize {
        let number = |id: usize| self.numbers[id];
        self.numbers.push(match &node {
            Node::Number(value) => Some(*value),
            Node::Neg(a) => number(*a).map(|a| -a),
            Node::Add(a, b) => number(*a).zip(number(*b)).map(|(a, b)| a + b),
            Node::Sub(a, b) => number(*a).zip(number(*b)).map(|(a, b)| a - b),
            Node::Mul(a, b) => number(*a).zip(number(*b)).map(|(a, b)| a * b),
            Node::Div(a, b) => number(*a).zip(number(*b)).map(|(a, b)| a / b),
            Node::Pow(a, b) => number(*a).zip(number(*b)).map(|(a, b)| a.powf(b)),
            Node::Constant(_) | Node::Variable(_) | Node::Call(..) | Node::Compare(..) => None,
        });
        let varies =
            matches!(node, Node::Variable(_)) || operands_of(&node).iter().any(|&operand| self.varies[operand]);
        self.varies.push(varies);
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The tensors of all nodes, at these variables.
    fn tensors(&self, variables: &[Tensor], constants: &Constants) -> Vec<Tensor> {
        let mut values: Vec<Tensor> = Vec::with_capacity(self.nodes.len());
        for (node, number) in self.nodes.iter().zip(&self.numbers) {
            let value = match (number, node) {
                (Some(number), _) => Tensor::full([0usize; 0], *number, DType::F64),
                (None, Node::Variable(name)) => {
                    let place = self.variables.iter().position(|known| known == name).unwrap_or(0);
                    variables[place].clone()
                }
                (None, Node::Constant(constant)) => constants.get(*constant),
                (None, node) => {
                    let of = |id: usize| &values[id];
                    apply(node, &of)
                }
            };
            values.push(value);
        }
        values
    }

    /// The derivative of the given order by each of `by`, and for order 0 the value: functions of the variables.
    fn derivative(
        &self,
        path: &[usize],
        variables: &[Tensor],
        nodes: &dyn Fn(&[Tensor]),
        constants: &Constants,
    ) -> Tensor {
        let Some((&last, inner)) = path.split_last() else {
            let values = self.tensors(variables, constants);
            nodes(&values);
            return values[values.len() - 1].clone();
        };
        let along = |x: &Tensor| {
            let mut variables = variables.to_vec();
            variables[last] = x.clone();
            (self.derivative(inner, &variables, nodes, constants), ())
        };
        match gradient(along, &variables[last], Unreached::Zeros) {
            Ok((_, (), slope)) => slope,
            // Every value here is one f64, which has a gradient.
            Err(error) => panic!("{error}"),
        }
    }

    /// Derivatives along paths of variables, each listed from the first differentiation to the last, as one program.
    pub fn program(&self, paths: &[Vec<usize>]) -> Captured {
        let constants = Constants::new();
        let variables: Vec<Tensor> = self.variables.iter().map(|_| Tensor::from(1.0)).collect();
        let seen: RefCell<Vec<Vec<Tensor>>> = RefCell::default();
        let note = |values: &[Tensor]| seen.borrow_mut().push(values.to_vec());
        let outputs: Vec<Tensor> =
            paths.iter().map(|path| self.derivative(path, &variables, &note, &constants)).collect();
        let mut inputs: Vec<(String, Tensor)> = Vec::new();
        let mut bindings = Vec::new();
        for (place, (name, leaf)) in self.variables.iter().zip(&variables).enumerate() {
            inputs.push((name.clone(), leaf.clone()));
            bindings.push(Binding::Variable(place));
        }
        for (constant, leaf) in constants.0 {
            inputs.push((constant.name().into(), leaf));
            bindings.push(Binding::Constant(constant));
        }
        for values in seen.into_inner() {
            for (id, value) in values.into_iter().enumerate() {
                if self.varies[id] && !matches!(self.nodes[id], Node::Variable(_)) {
                    inputs.push((format!("node{id}"), value));
                    bindings.push(Binding::Node(id));
                }
            }
        }
        let program = capture("derivative", &inputs, &outputs).expect("every leaf is an input or a number");
        Captured { program: optimize_without(program, UNFOLDED), bindings }
    }

    /// The value of each node at a point.
    pub fn values(&self, point: &[f64]) -> Vec<f64> {
        let variables: Vec<Tensor> = point.iter().map(|&value| Tensor::from(value)).collect();
        numbers(&self.tensors(&variables, &Constants::new()))
    }

    /// The value of the whole at a point.
    pub fn value(&self, point: &[f64]) -> f64 {
        self.derivatives(&[Vec::new()], point)[0]
    }

    /// The values of derivatives along paths of variables at a point.
    pub fn derivatives(&self, paths: &[Vec<usize>], point: &[f64]) -> Vec<f64> {
        let variables: Vec<Tensor> = point.iter().map(|&value| Tensor::from(value)).collect();
        let constants = Constants::new();
        let outputs: Vec<Tensor> =
            paths.iter().map(|path| self.derivative(path, &variables, &|_| (), &constants)).collect();
        numbers(&outputs)
    }

    /// A derivative at many values of one variable, the others at a point.
    pub fn along(&self, path: &[usize], point: &[f64], variable: usize, at: &[f64]) -> Vec<f64> {
        let constants = Constants::new();
        let fixed: Vec<Tensor> = point.iter().map(|&value| Tensor::from(value)).collect();
        let one = |x: &Tensor| {
            let mut variables = fixed.clone();
            variables[variable] = x.clone();
            self.derivative(path, &variables, &|_| (), &constants)
        };
        vmap(one, &Tensor::from_vec(at, [at.len()])).to_vec::<f64>()
    }

    /// The derivatives of one node by its operands, as a program: inputs are `operands`, then the named numbers.
    pub fn local(&self, id: usize, operands: &[usize]) -> Captured {
        let constants = Constants::new();
        let leaves: Vec<Tensor> = operands.iter().map(|_| Tensor::from(1.0)).collect();
        let (outputs, result) = self.local_tensors(id, operands, &leaves, &constants);
        let mut inputs: Vec<(String, Tensor)> = Vec::new();
        let mut bindings = Vec::new();
        for (&operand, leaf) in operands.iter().zip(leaves) {
            inputs.push((format!("node{operand}"), leaf));
            bindings.push(Binding::Node(operand));
        }
        for (constant, leaf) in constants.0 {
            inputs.push((constant.name().into(), leaf));
            bindings.push(Binding::Constant(constant));
        }
        inputs.push((format!("node{id}"), result));
        bindings.push(Binding::Node(id));
        let program = capture("local", &inputs, &outputs).expect("every leaf is an input or a number");
        Captured { program: optimize_without(program, UNFOLDED), bindings }
    }

    /// The values of [`Graph::local`] for nodes and operands, given the values of all nodes.
    pub fn local_values(&self, steps: &[(usize, Vec<usize>)], values: &[f64]) -> Vec<Vec<f64>> {
        let constants = Constants::new();
        let mut outputs = Vec::new();
        for (id, operands) in steps {
            let leaves: Vec<Tensor> = operands.iter().map(|&operand| Tensor::from(values[operand])).collect();
            outputs.extend(self.local_tensors(*id, operands, &leaves, &constants).0);
        }
        let mut numbers = numbers(&outputs).into_iter();
        steps.iter().map(|(_, operands)| numbers.by_ref().take(operands.len()).collect()).collect()
    }

    fn local_tensors(
        &self,
        id: usize,
        operands: &[usize],
        leaves: &[Tensor],
        constants: &Constants,
    ) -> (Vec<Tensor>, Tensor) {
        let result = RefCell::new(None);
        let one = |leaves: &Vec<Tensor>| {
            // What does not vary may be a small tree of its own, all of it before this node.
            let mut values: Vec<Option<Tensor>> = vec![None; self.nodes.len()];
            for (operand, leaf) in operands.iter().zip(leaves) {
                values[*operand] = Some(leaf.clone());
            }
            let of = |wanted: usize| match &values[wanted] {
                Some(leaf) => leaf.clone(),
                None => self.fixed(wanted, constants),
            };
            let arguments: Vec<(usize, Tensor)> = operands_of(&self.nodes[id]).iter().map(|&a| (a, of(a))).collect();
            let find = |wanted: usize| &arguments.iter().find(|(a, _)| *a == wanted).expect("an operand").1;
            let y = apply(&self.nodes[id], &find);
            *result.borrow_mut() = Some(y.clone());
            (y, ())
        };
        let slopes = match gradient(one, &leaves.to_vec(), Unreached::Zeros) {
            Ok((_, (), slopes)) => slopes,
            Err(error) => panic!("{error}"),
        };
        (slopes, result.into_inner().expect("the function has run"))
    }

    /// A node that depends on no variable.
    fn fixed(&self, id: usize, constants: &Constants) -> Tensor {
        if let Some(number) = self.numbers[id] {
            return Tensor::full([0usize; 0], number, DType::F64);
        }
        let mut needed = vec![id];
        let mut index = 0;
        while index < needed.len() {
            needed.extend(operands_of(&self.nodes[needed[index]]));
            index += 1;
        }
        needed.sort_unstable();
        needed.dedup();
        let mut values: Vec<(usize, Tensor)> = Vec::with_capacity(needed.len());
        for id in needed {
            let of = |wanted: usize| {
                let place = values.binary_search_by_key(&wanted, |(id, _)| *id).expect("operands come first");
                &values[place].1
            };
            let value = match (&self.numbers[id], &self.nodes[id]) {
                (Some(number), _) => Tensor::full([0usize; 0], *number, DType::F64),
                (None, Node::Constant(constant)) => constants.get(*constant),
                (None, node) => apply(node, &of),
            };
            values.push((id, value));
        }
        values.pop().expect("at least itself").1
    }
}

/// The operands of a node.
pub fn operands_of(node: &Node) -> Vec<usize> {
    match node {
        Node::Number(_) | Node::Constant(_) | Node::Variable(_) => Vec::new(),
        Node::Neg(a) => vec![*a],
        Node::Add(a, b)
        | Node::Sub(a, b)
        | Node::Mul(a, b)
        | Node::Div(a, b)
        | Node::Pow(a, b)
        | Node::Compare(_, a, b) => vec![*a, *b],
        Node::Call(_, arguments) => arguments.clone(),
    }
}

/// An operation on tensors.
fn apply<'a>(node: &Node, of: &impl Fn(usize) -> &'a Tensor) -> Tensor {
    use crate::expression::Comparison;
    match node {
        Node::Number(number) => Tensor::full([0usize; 0], *number, DType::F64),
        Node::Constant(constant) => Tensor::from(constant.value()),
        Node::Variable(_) => unreachable!("variables are bound by the caller"),
        Node::Neg(a) => -of(*a),
        Node::Add(a, b) => of(*a) + of(*b),
        Node::Sub(a, b) => of(*a) - of(*b),
        Node::Mul(a, b) => of(*a) * of(*b),
        Node::Div(a, b) => of(*a) / of(*b),
        Node::Pow(a, b) => of(*a).pow(of(*b)),
        Node::Compare(comparison, a, b) => match comparison {
            Comparison::Less => of(*a).less(of(*b)),
            Comparison::LessEqual => of(*a).less_equal(of(*b)),
            Comparison::Greater => of(*a).greater(of(*b)),
            Comparison::GreaterEqual => of(*a).greater_equal(of(*b)),
        }
        .cast(DType::F64),
        Node::Call(function, arguments) => {
            let x = of(arguments[0]);
            match function {
                Function::Sin => x.sin(),
                Function::Cos => x.cos(),
                Function::Tan => x.tan(),
                Function::Asin => x.asin(),
                Function::Acos => x.acos(),
                Function::Atan => x.atan(),
                Function::Sinh => x.sinh(),
                Function::Cosh => x.cosh(),
                Function::Tanh => x.tanh(),
                Function::Exp => x.exp(),
                Function::Expm1 => x.expm1(),
                Function::Log => x.log(),
                Function::Log1p => x.log1p(),
                Function::Log2 => x.log() / x.full_like(2.0).log(),
                Function::Log10 => x.log() / x.full_like(10.0).log(),
                Function::Sqrt => x.sqrt(),
                Function::Abs => x.abs(),
                Function::Sign => x.sign(),
                Function::Erf => x.erf(),
                Function::Sigmoid => x.sigmoid(),
                Function::Softplus => x.softplus(),
                Function::Relu => x.relu(),
                Function::Gelu => x.gelu(),
                Function::Min => x.minimum(of(arguments[1])),
                Function::Max => x.maximum(of(arguments[1])),
            }
        }
    }
}

fn numbers(tensors: &[Tensor]) -> Vec<f64> {
    eval_all(tensors).iter().map(|value| value.item::<f64>()).collect()
}
