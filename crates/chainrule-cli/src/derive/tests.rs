//! The symbols that are shown have the value that the engine has.

use proptest::prelude::*;

use super::algebra::Algebra;
use super::engine::Graph;
use super::{analysis, differences, read};
use crate::expression::{Expression, Function, Node};

/// The derivative along a path: symbols as text, their value, and the engine's.
fn derived(text: &str, path: &[usize], point: &[f64]) -> (String, f64, f64) {
    let graph = Graph::new(&Expression::parse(text).unwrap());
    derived_of(&graph, path, point).unwrap_or_else(|| panic!("{text} is too long"))
}

fn derived_of(graph: &Graph, path: &[usize], point: &[f64]) -> Option<(String, f64, f64)> {
    let mut algebra = Algebra::default();
    algebra.hyperbolic = graph.nodes.iter().any(|n| matches!(n, Node::Call(Function::Sinh | Function::Cosh, _)));
    let nodes = read::expression(&mut algebra, &graph.nodes);
    let (symbol, shown) = analysis::symbol(&mut algebra, graph, path, &nodes)?;
    let place = |name: &str| graph.variables.iter().position(|known| known == name).unwrap();
    let at: Vec<f64> = shown.variables().into_iter().map(|name| point[place(name)]).collect();
    let value = Graph::new(&shown).value(&at);
    Some((symbol.pretty, value, graph.derivatives(&[path.to_vec()], point)[0]))
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1e-12)
}

#[test]
fn derivatives_read_as_in_a_table() {
    let cases = [
        ("sin(x^2)*exp(-x)", 1, "(2·x·cos(x²) - sin(x²))·exp(-x)"),
        ("x*x*x", 1, "3·x²"),
        ("x*x*x", 3, "6"),
        ("1/x", 1, "-1/x²"),
        ("1/x", 3, "-6/x⁴"),
        ("-(-x)", 1, "1"),
        ("x/2/3", 1, "1/6"),
        ("x^x", 1, "x^x·(log(x) + 1)"),
        ("x^pi", 1, "π·x^(π - 1)"),
        ("x^(1/3)", 1, "1/(3·x^(2/3))"),
        ("2^x", 1, "2^x·log(2)"),
        ("e^x", 5, "exp(x)"),
        ("tan(x)", 2, "2·tan(x)/cos(x)²"),
        ("asin(x)", 1, "1/√(1 - x²)"),
        ("asin(x)", 2, "x/(1 - x²)^(3/2)"),
        ("acos(x)", 1, "-1/√(1 - x²)"),
        ("atan(x)", 1, "1/(x² + 1)"),
        ("sinh(x)", 1, "cosh(x)"),
        ("sinh(x)", 2, "sinh(x)"),
        ("cosh(x)", 1, "sinh(x)"),
        ("tanh(x)", 1, "1 - tanh(x)²"),
        ("expm1(x)", 1, "exp(x)"),
        ("log2(x)", 1, "1/(x·log(2))"),
        ("log1p(x)", 1, "1/(x + 1)"),
        ("sqrt(x)", 1, "1/(2·√x)"),
        ("sqrt(x)", 2, "-1/(4·x^(3/2))"),
        ("abs(x)", 1, "sign(x)"),
        ("sign(x)", 1, "0"),
        ("erf(x)", 1, "2·exp(-x²)/√π"),
        ("softplus(x)", 1, "sigmoid(x)"),
        ("abs(x)^3", 2, "6·|x|"),
        ("relu(x)", 1, "[x > 0]"),
        ("max(x, 1)", 1, "[x > 1]"),
        ("min(x, 1)", 1, "[x < 1]"),
        ("sin(x)^2 + cos(x)^2", 1, "0"),
        ("log(x)/x", 2, "(2·log(x) - 3)/x³"),
        ("log(x)/x", 3, "(11 - 6·log(x))/x⁴"),
        ("0.1x^2", 1, "0.2·x"),
    ];
    let mut wrong = Vec::new();
    for (text, order, expected) in cases {
        let (shown, value, engine) = derived(text, &vec![0; order], &[0.7]);
        if shown != expected || !near(value, engine, 1e-9) {
            wrong.push(format!("{text}: {shown} = {value}, expected {expected} = {engine}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn orders_up_to_five_have_their_closed_forms() {
    type Closed = fn(f64, usize) -> f64;
    let cases: [(&str, Closed); 5] = [
        ("sin(2x)", |x, n| 2f64.powi(n as i32) * (2.0 * x + n as f64 * std::f64::consts::FRAC_PI_2).sin()),
        ("x*exp(x)", |x, n| (x + n as f64) * x.exp()),
        ("log(x)", |x, n| if n % 2 == 1 { 1.0 } else { -1.0 } * (1..n).product::<usize>() as f64 / x.powi(n as i32)),
        ("x^7", |x, n| (7 - n + 1..=7).product::<usize>() as f64 * x.powi(7 - n as i32)),
        ("exp(-x^2)", |x, n| {
            let hermite = [1.0, 2.0 * x, 4.0 * x * x - 2.0, 8.0 * x.powi(3) - 12.0 * x];
            let (mut before, mut last) = (hermite[2], hermite[3]);
            let value = match n {
                0..=3 => hermite[n],
                _ => {
                    for k in 3..n {
                        (before, last) = (last, 2.0 * x * last - 2.0 * k as f64 * before);
                    }
                    last
                }
            };
            (if n % 2 == 0 { 1.0 } else { -1.0 }) * value * (-x * x).exp()
        }),
    ];
    let mut wrong = Vec::new();
    for (text, closed) in cases {
        for order in 1..=5 {
            let (shown, value, engine) = derived(text, &vec![0; order], &[0.7]);
            let expected = closed(0.7, order);
            if !near(engine, expected, 1e-11) || !near(value, expected, 1e-9) {
                wrong.push(format!("{text} order {order}: {shown} = {value}, engine {engine}, expected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_function_against_finite_differences() {
    let mut wrong = Vec::new();
    for &function in Function::ALL {
        let text = match function.arity() {
            1 => format!("{}(x)", function.name()),
            _ => format!("{}(x*x, x + 0.1)", function.name()),
        };
        for x in [0.137, 0.31, 0.642, 0.871] {
            let graph = Graph::new(&Expression::parse(&text).unwrap());
            let (shown, value, engine) = derived_of(&graph, &[0], &[x]).unwrap();
            let slope = differences::slope(x, &graph.along(&[], &[x], 0, &differences::points(x)));
            if !near(engine, slope, 1e-8) || !near(value, engine, 1e-9) {
                wrong.push(format!("{text} at {x}: {shown} = {value}, engine {engine}, differences {slope}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mixed_derivatives() {
    let rosenbrock = "(1-x)^2 + 100(y-x^2)^2";
    let point = [1.2, 1.0];
    let cases: [(&[usize], &str, f64); 5] = [
        (&[0], "400·x³ - 400·x·y + 2·x - 2", 211.6),
        (&[1], "200·y - 200·x²", -88.0),
        (&[0, 0], "1200·x² - 400·y + 2", 1330.0),
        (&[0, 1], "-400·x", -480.0),
        (&[1, 1], "200", 200.0),
    ];
    for (path, expected, number) in cases {
        let (shown, value, engine) = derived(rosenbrock, path, &point);
        assert_eq!(shown, expected);
        assert!(near(value, number, 1e-12) && near(engine, number, 1e-12), "{path:?}: {value}, {engine}");
    }
}

/// A point where the engine's derivative hardly changes from one float to the next can be compared.
fn well_conditioned(graph: &Graph, path: &[usize], point: &[f64], value: f64) -> bool {
    let values: Vec<Vec<f64>> = point.iter().map(|&x| vec![x * (1.0 + 1e-12), x * (1.0 - 1e-12)]).collect();
    let moved = (0..2).map(|side| values.iter().map(|pair| pair[side]).collect::<Vec<_>>());
    moved.into_iter().all(|point| near(graph.derivatives(&[path.to_vec()], &point)[0], value, 1e-10))
}

fn any_expression() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["x", "y", "x", "2", "3", "0.5", "pi"]).prop_map(|t| Expression::parse(t).unwrap()),
    ];
    leaf.prop_recursive(5, 24, 2, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(|a| -a),
            two.clone().prop_map(|(a, b)| a + b),
            two.clone().prop_map(|(a, b)| a - b),
            two.clone().prop_map(|(a, b)| a * b),
            two.clone().prop_map(|(a, b)| a / b),
            (inner, prop::sample::select(vec!["2", "3", "-1", "1/2", "x"]))
                .prop_map(|(a, b)| a.pow(Expression::parse(b).unwrap())),
            (prop::sample::select(Function::ALL), two).prop_map(|(function, (a, b))| {
                let arguments = if function.arity() == 1 { vec![a] } else { vec![a, b] };
                Expression::call(function, arguments).unwrap()
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shown_symbols_have_the_engines_value(
        expression in any_expression(),
        x in 0.2f64..1.9,
        y in 0.2f64..1.9,
        order in 1usize..3,
    ) {
        let graph = Graph::new(&expression);
        let point: Vec<f64> = graph.variables.iter().map(|name| if name == "x" { x } else { y }).collect();
        let path = vec![0; if point.is_empty() { 0 } else { order }];
        if let Some((shown, value, engine)) = derived_of(&graph, &path, &point)
            && engine.is_finite()
            && value.is_finite()
            && engine.abs() < 1e12
            && graph.values(&point).iter().all(|value| value.is_finite() && value.abs() < 1e12)
            && well_conditioned(&graph, &path, &point, engine)
        {
            // Terms that cancel leave their rounding, which no order of operations avoids.
            let near = near(value, engine, 1e-9) || (value - engine).abs() < 1e-9;
            prop_assert!(near, "{} by {}: {} = {}, engine {}", expression, path.len(), shown, value, engine);
        }
    }

    #[test]
    fn simplified_expressions_keep_their_value(expression in any_expression(), x in 0.2f64..1.9, y in 0.2f64..1.9) {
        let mut algebra = Algebra::default();
        let id = *read::expression(&mut algebra, expression.nodes()).last().unwrap();
        let short = algebra.simplify(id);
        let shown = read::written(&algebra, short);
        let value = |expression: &Expression| {
            let at: Vec<f64> = expression.variables().into_iter().map(|name| if name == "x" { x } else { y }).collect();
            Graph::new(expression).value(&at)
        };
        let (before, after) = (value(&expression), value(&shown));
        let graph = Graph::new(&expression);
        let point: Vec<f64> = graph.variables.iter().map(|name| if name == "x" { x } else { y }).collect();
        let tame = graph.values(&point).iter().all(|value| value.is_finite() && value.abs() < 1e9);
        if tame && after.is_finite() && well_conditioned(&graph, &[], &point, before) {
            prop_assert!(near(before, after, 1e-9) || (before - after).abs() < 1e-9, "{} = {}, {} = {}", expression, before, shown, after);
        }
    }
}
