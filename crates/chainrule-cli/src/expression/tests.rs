//! What is read, what is refused and how, what is written; and that nothing panics.

use super::error::ParseErrorKind;
use super::*;
use proptest::prelude::*;

/// The tree with every operation in parentheses; for small ones.
fn tree(expression: &Expression, id: Id) -> String {
    let of = |id: &Id| tree(expression, *id);
    match &expression.nodes[id] {
        Node::Number(number) => number.to_string(),
        Node::Constant(constant) => constant.name().to_uppercase(),
        Node::Variable(name) => name.clone(),
        Node::Neg(a) => format!("(- {})", of(a)),
        Node::Add(a, b) => format!("({} + {})", of(a), of(b)),
        Node::Sub(a, b) => format!("({} - {})", of(a), of(b)),
        Node::Mul(a, b) => format!("({} * {})", of(a), of(b)),
        Node::Div(a, b) => format!("({} / {})", of(a), of(b)),
        Node::Pow(a, b) => format!("({} ^ {})", of(a), of(b)),
        Node::Compare(comparison, a, b) => format!("[{} {} {}]", of(a), comparison.sign(), of(b)),
        Node::Call(function, arguments) => {
            format!("{}[{}]", function.name(), arguments.iter().map(of).collect::<Vec<_>>().join(", "))
        }
    }
}

#[test]
fn what_is_written_means() {
    let cases = [
        ("1 + 2*3 - 4/5", "((1 + (2 * 3)) - (4 / 5))"),
        ("a-b-c", "((a - b) - c)"),
        ("a/b/c*d", "(((a / b) / c) * d)"),
        ("x^y^z", "(x ^ (y ^ z))"),
        ("x**y**z", "(x ^ (y ^ z))"),
        ("-x^2", "(- (x ^ 2))"),
        ("(-x)^2", "((- x) ^ 2)"),
        ("2^-x", "(2 ^ (- x))"),
        ("2^-x^2", "(2 ^ (- (x ^ 2)))"),
        ("2^-x*y", "((2 ^ (- x)) * y)"),
        ("-x*y", "((- x) * y)"),
        ("a*-b", "(a * (- b))"),
        ("a--b", "(a - (- b))"),
        ("+x + +y", "(x + y)"),
        ("2x", "(2 * x)"),
        ("2x^2", "(2 * (x ^ 2))"),
        ("1/2x", "((1 / 2) * x)"),
        ("3 sin(x) cos(y)", "((3 * sin[x]) * cos[y])"),
        ("2(x+1)(x-1)", "((2 * (x + 1)) * (x - 1))"),
        ("xy + x y", "(xy + (x * y))"),
        ("x1_a", "x1_a"),
        ("2πr", "((2 * PI) * r)"),
        ("pi(x+1)", "(PI * (x + 1))"),
        ("e^x + tau", "((E ^ x) + TAU)"),
        ("2e3", "2000"),
        ("2e", "(2 * E)"),
        ("2e-x", "((2 * E) - x)"),
        ("1.5E-3 + .5 + 2.", "((0.0015 + 0.5) + 2)"),
        ("x² + x⁻¹ + x¹⁰", "(((x ^ 2) + (x ^ (- 1))) + (x ^ 10))"),
        ("-x²", "(- (x ^ 2))"),
        ("2^x²", "(2 ^ (x ^ 2))"),
        ("sin(x)²", "(sin[x] ^ 2)"),
        ("a × b · c ÷ d − f", "((((a * b) * c) / d) - f)"),
        ("max(a, min(b, pow(c, 2)))", "max[a, min[b, (c ^ 2)]]"),
        ("ln(x) + log(x)", "(log[x] + log[x])"),
        ("θ * größe", "(θ * größe)"),
        ("\tx\n + y", "(x + y)"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let found = Expression::parse(text).map(|parsed| tree(&parsed, parsed.root())).map_err(|e| e.to_string());
        if found.as_deref() != Ok(expected) {
            wrong.push(format!("{text}: {found:?}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_wrong_is_said_and_pointed_at() {
    let cases = [
        ("", "column 1: the expression is empty"),
        ("  ", "column 1: the expression is empty"),
        ("x +", "column 4: expected a number, a name or '(', found the end"),
        ("x + * y", "column 5: expected a number, a name or '(', found '*'"),
        ("(x + 1", "column 1: this '(' is never closed"),
        ("sin(x", "column 4: this '(' is never closed"),
        ("x)", "column 2: expected an operator or the end; no '(' is open, found ')'"),
        ("(a, b)", "column 3: expected an operator or ')', found ','"),
        ("a, b", "column 2: expected an operator or the end, found ','"),
        ("x 2", "column 3: an operator is missing before '2'"),
        ("1.2.3", "column 4: an operator is missing before '.3'"),
        ("sn(x)", "column 1: there is no function sn; did you mean sin?; for a product write sn*(…)"),
        ("Exp(x)", "did you mean exp?"),
        ("arctan(x)", "did you mean atan?"),
        ("sqr(x)", "did you mean sqrt?"),
        ("f(x)", "column 1: there is no function f; for a product write f*(…)"),
        ("2 sin x", "column 3: sin is a function; write sin(…)"),
        ("sin^2(x)", "column 1: sin is a function"),
        ("max(x)", "column 1: max takes 2 arguments, found 1"),
        ("sin()", "column 1: sin takes 1 argument, found 0"),
        ("pow(a, b, c)", "column 1: pow takes 2 arguments, found 3"),
        ("x = 2", "column 3: '=' means nothing here; one expression is read, not an equation"),
        ("|x|", "write abs(x)"),
        ("x\u{202e}", "column 2: the character U+202E means nothing here"),
        ("1e999", "column 1: the number 1e999 does not fit"),
        ("1e-999", "column 1: the number 1e-999 does not fit"),
        ("1_000", "column 2: '_' means nothing here; a name begins with a letter"),
        (".", "column 1: expected digits beside the '.'"),
        ("x⁻", "column 2: expected a whole number as exponent"),
        ("x²^3", "column 3: a power of a power"),
        ("x^²", "column 3: expected a number, a name or '(', found '²'"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let message =
            Expression::parse(text).map_or_else(|error| error.to_string(), |parsed| format!("read: {parsed}"));
        if !message.contains(expected) {
            wrong.push(format!("{text}: {message}\n    expected: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_caret_stands_under_the_fault() {
    let rendered = |text: &str| Expression::parse(text).unwrap_err().render();
    assert_eq!(
        rendered("2π·sinn(x)"),
        "  2π·sinn(x)\n     ^^^^\ncolumn 4: there is no function sinn; did you mean sin?; for a product write sinn*(…)"
    );
    assert_eq!(rendered("x +").lines().nth(1), Some("     ^"));
    let long = format!("{}$ + {}", "x + ".repeat(100), "x + ".repeat(100));
    let shown = rendered(&long);
    let lines: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
    assert_eq!(lines[0][lines[1].len() - 1], '$');
    assert!(lines[0].len() < 90 && lines[0][2] == '…' && lines[0].last() == Some(&'…'));
    let error = Expression::parse("ä + $").unwrap_err();
    assert_eq!((error.at, error.excerpt.column), (5..6, 5));
}

#[test]
fn written_as_latex() {
    let cases = [
        ("sin(x^2)*exp(-x)", r"\sin\left(x^{2}\right) \, e^{-x}"),
        ("a/b", r"\frac{a}{b}"),
        ("(a+b)/(c*d)", r"\frac{a + b}{c \, d}"),
        ("(a/b)^2", r"\left(\frac{a}{b}\right)^{2}"),
        ("2*3 + 2x + x*2^y", r"2 \cdot 3 + 2 \, x + x \cdot 2^{y}"),
        ("a - (b - c)", r"a - \left(b - c\right)"),
        ("a + -b*c", r"a + \left(-b \, c\right)"),
        ("-(a + b)", r"-\left(a + b\right)"),
        ("-(-a)", r"-\left(-a\right)"),
        ("(-x)^2", r"\left(-x\right)^{2}"),
        ("exp(x)^2", r"\left(e^{x}\right)^{2}"),
        ("sin(x)^2 + cos(x)^-1", r"\sin^{2}\left(x\right) + \cos\left(x\right)^{-1}"),
        ("sqrt(abs(x))", r"\sqrt{\left|x\right|}"),
        ("log(x) + log2(x) + erf(x)", r"\ln\left(x\right) + \log_{2}\left(x\right) + \operatorname{erf}\left(x\right)"),
        ("max(a, 1e-8)", r"\max\left(a, 10^{-8}\right)"),
        ("1.5e20^2", r"\left(1.5 \cdot 10^{20}\right)^{2}"),
        ("pi tau e", r"\pi \, \tau \, e"),
        ("x1 + theta_max + rate + a_b_c + θ", r"x_{1} + \theta_{\mathrm{max}} + \mathrm{rate} + a_{\mathrm{b\_c}} + θ"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let found = Expression::parse(text).unwrap().to_latex();
        if found != expected {
            wrong.push(format!("{text}: {found}\n    expected: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn parentheses_are_the_fewest() {
    for text in [
        "a + b - c",
        "a - (b + c)",
        "a*b/c",
        "a/(b*c)",
        "(a + b)*c",
        "-x^2",
        "(-x)^2",
        "x^-y",
        "(x^y)^z",
        "x^y^z",
        "--x",
        "a + -b",
        "a*-b",
        "-a*b",
        "-(a*b)",
        "sin(a + b)",
        "max(a, b - c)^2",
        "2*x",
        "1e20 + 1e-7 + 0.00001",
    ] {
        assert_eq!(Expression::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn depth_and_length_have_limits() {
    // On a small stack, as a debug build needs most.
    let small = std::thread::Builder::new().stack_size(1024 * 1024);
    let all = small.spawn(|| {
        for (open, value, close) in
            [("(", "x", ")"), ("-", "x", ""), ("x^", "x", ""), ("sin(", "x", ")"), ("2(", "x", ")")]
        {
            let nested = |depth| format!("{}{value}{}", str::repeat(open, depth), str::repeat(close, depth));
            let error = Expression::parse(&nested(10_000)).unwrap_err();
            assert_eq!(error.kind, ParseErrorKind::TooDeep, "{open}");
            let deep = Expression::parse(&nested(120)).unwrap();
            assert_eq!(Expression::parse(&deep.to_string()).unwrap(), deep);
        }
        // Long is not deep.
        for operator in ["+", "-", "*", "/", " "] {
            let long = vec!["x"; 30_000].join(operator);
            let parsed = Expression::parse(&long).unwrap();
            assert_eq!(parsed.nodes().len(), 59_999);
            assert_eq!(Expression::parse(&parsed.to_string().replace(' ', "")).unwrap(), parsed);
            assert!(parsed.to_latex().len() > 60_000);
            drop(parsed.clone());
        }
        let error = Expression::parse(&"ä".repeat(MAX_LENGTH)).unwrap_err();
        assert_eq!(error.kind, ParseErrorKind::TooLong { length: 2 * MAX_LENGTH });
        assert!(error.render().len() < 1000);
    });
    all.unwrap().join().unwrap();
}

#[test]
fn built_as_if_read() {
    let x = || Expression::variable("x").unwrap();
    let call = |function, argument| Expression::call(function, vec![argument]).unwrap();
    let built = call(Function::Sin, x().pow(Expression::number(2.0))) * call(Function::Exp, -x());
    assert_eq!(built, Expression::parse("sin(x^2)*exp(-x)").unwrap());
    assert_eq!(Expression::number(-0.5).to_string(), "-0.5");
    assert_eq!(Expression::number(f64::NEG_INFINITY).to_string(), "-(1/0)");
    assert_eq!(Expression::number(f64::NAN).to_string(), "0/0");
    for name in ["", "pi", "sin", "x y", "2x", "x²", "_x", "x + y", "(x)", " x"] {
        assert_eq!(Expression::variable(name), None, "{name}");
    }
    assert_eq!(Expression::call(Function::Max, vec![x()]), None);
    assert_eq!(Expression::parse("b*a + b*max(c, a)").unwrap().variables(), ["b", "a", "c"]);
}

#[test]
fn every_name_is_read_as_itself() {
    for &function in Function::ALL {
        assert_eq!(Function::from_name(function.name()), Some(function));
        assert_eq!(Constant::from_name(function.name()), None);
    }
    for constant in Constant::ALL {
        assert_eq!(Constant::from_name(constant.name()), Some(constant));
    }
}

fn any_expression() -> impl Strategy<Value = Expression> {
    let number =
        prop_oneof![(0u32..100).prop_map(f64::from), any::<f64>().prop_filter("finite", |number| number.is_finite()),];
    let leaf = prop_oneof![
        number.prop_map(Expression::number),
        prop::sample::select(&Constant::ALL[..]).prop_map(Expression::constant),
        "[a-zA-Zα-ω][a-z0-9_]{0,4}".prop_filter_map("a variable", |name| Expression::variable(&name)),
    ];
    leaf.prop_recursive(8, 64, 2, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|a| -a),
            two.clone().prop_map(|(a, b)| a + b),
            two.clone().prop_map(|(a, b)| a - b),
            two.clone().prop_map(|(a, b)| a * b),
            two.clone().prop_map(|(a, b)| a / b),
            two.clone().prop_map(|(a, b)| a.pow(b)),
            (prop::sample::select(Function::ALL), two).prop_map(|(function, (a, b))| {
                let arguments = if function.arity() == 1 { vec![a] } else { vec![a, b] };
                Expression::call(function, arguments).unwrap()
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_displayed_is_read_back_the_same(expression in any_expression()) {
        let text = expression.to_string();
        let again = Expression::parse(&text);
        prop_assert_eq!(again.as_ref(), Ok(&expression), "{}", text);
    }

    #[test]
    fn latex_is_balanced(expression in any_expression()) {
        let latex = expression.to_latex();
        for (open, close) in [("{", "}"), ("\\left", "\\right")] {
            prop_assert_eq!(latex.matches(open).count(), latex.matches(close).count(), "{}", latex);
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,60}") {
        let _ = Expression::parse(&text).map_err(|error| error.render());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Expression::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| error.render());
    }

    #[test]
    fn no_row_of_tokens_panics(tokens in prop::collection::vec(prop::sample::select(vec![
        "x", "2", ".5", "1e", "e", "π", "sin", "max", "pow", "(", ")", ",", "+", "-", "*", "**", "^", "/", "²", "⁻", " ", "$", "ä",
    ]), 0..30)) {
        match Expression::parse(&tokens.concat()) {
            Ok(read) => prop_assert_eq!(Expression::parse(&read.to_string()), Ok(read)),
            Err(error) => prop_assert!(error.render().lines().count() == 3),
        }
    }
}
