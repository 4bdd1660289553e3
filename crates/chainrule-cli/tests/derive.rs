//! The built command: what `chainrule derive` prints, how it ends, what it refuses.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn chainrule(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chainrule")).args(arguments).output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = chainrule(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&[arguments, &["--json"]].concat())).unwrap()
}

#[test]
fn the_example_of_the_manual() {
    let found = stdout(&["derive", "sin(x^2)*exp(-x)", "--at", "x=1.5"]);
    // The last digits of the differences are the machine's own.
    let (text, differences) = found.split_once("Values\n").unwrap();
    assert_eq!(text, include_str!("derive.txt"));
    let row = differences.lines().nth(1).unwrap();
    let cells: Vec<f64> = row.split_whitespace().skip(1).map(|cell| cell.parse().unwrap()).collect();
    let x = 1.5f64;
    let expected = (2.0 * x * (x * x).cos() - (x * x).sin()) * (-x).exp();
    assert!((cells[0] - expected).abs() < 1e-15 && (cells[1] - expected).abs() < 1e-10 && cells[2] < 1e-10, "{row}");
}

#[test]
fn orders_one_by_one() {
    let found = json(&["derive", "sin(x)", "--order", "5", "--at", "x=0.3"]);
    let closed: [(&str, f64); 5] = [
        ("cos(x)", 0.3f64.cos()),
        ("-sin(x)", -0.3f64.sin()),
        ("-cos(x)", -0.3f64.cos()),
        ("sin(x)", 0.3f64.sin()),
        ("cos(x)", 0.3f64.cos()),
    ];
    let derivatives = found["derivatives"].as_array().unwrap();
    assert_eq!(derivatives.len(), 5);
    for (order, (derivative, (symbol, value))) in derivatives.iter().zip(closed).enumerate() {
        assert_eq!(derivative["symbol"]["text"], symbol);
        assert_eq!(derivative["by"].as_array().unwrap().len(), order + 1);
        assert!((derivative["value"].as_f64().unwrap() - value).abs() < 1e-14);
        assert!(derivative["difference"].as_f64().unwrap() < 1e-9);
    }
}

#[test]
fn several_variables() {
    let rosenbrock = "(1-x)^2 + 100(y-x^2)^2";
    let found = json(&["derive", rosenbrock, "--at", "x=1.2,y=1"]);
    assert_eq!(found["hessian"], serde_json::json!([[1330.0, -480.0], [-480.0, 200.0]]));
    assert!((found["derivatives"][0]["value"].as_f64().unwrap() - 211.6).abs() < 1e-9);
    assert!((found["derivatives"][1]["value"].as_f64().unwrap() + 88.0).abs() < 1e-9);
    assert!((found["paths"][0]["sum"].as_f64().unwrap() - 211.6).abs() < 1e-9);
    let text = stdout(&["derive", rosenbrock, "--at", "x=1.2", "--at", "y=1"]);
    assert!(text.contains("Hessian\n"), "{text}");
    // One variable only, the other fixed.
    let found = json(&["derive", "x^y", "--wrt", "y", "--at", "x=2", "y=pi/2"]);
    assert_eq!(found["derivatives"].as_array().unwrap().len(), 1);
    assert_eq!(found["derivatives"][0]["by"], serde_json::json!(["y"]));
    let expected = 2f64.powf(std::f64::consts::FRAC_PI_2) * 2f64.ln();
    assert!((found["derivatives"][0]["value"].as_f64().unwrap() - expected).abs() < 1e-12);
}

#[test]
fn symbols_without_a_point() {
    let text = stdout(&["derive", "log(x)/x"]);
    assert!(text.contains("df/dx = (1 - log(x))/x²"), "{text}");
    assert!(text.contains("--at x=1 gives the numbers"), "{text}");
    assert!(!text.contains("Values"), "{text}");
    assert_eq!(json(&["derive", "x*y"])["derivatives"][0]["value"], Value::Null);
}

#[test]
fn latex() {
    let text = stdout(&["derive", "sqrt(x)*y", "--latex", "--at", "x=4,y=3"]);
    assert!(text.starts_with("\\begin{align*}\n") && text.trim_end().ends_with("\\end{align*}"), "{text}");
    assert!(text.contains("\\frac{\\partial f}{\\partial x} &= \\frac{y}{2 \\, \\sqrt{x}} = 0.75"), "{text}");
    for (open, close) in [("{", "}"), ("\\left", "\\right")] {
        assert_eq!(text.matches(open).count(), text.matches(close).count(), "{text}");
    }
}

#[test]
fn bad_input_is_pointed_at() {
    let cases: [(&[&str], &str, &str); 14] = [
        (&["sin(q)*foo(x)"], "         ^^^\n", "there is no function foo"),
        (&["sni(x)"], "^^^", "did you mean sin?"),
        (&["x+"], "^", "expected a number"),
        (&[""], "^", "the expression is empty"),
        (&["x", "--at", "x=abc"], "    ^^^\n", "abc is no finite number"),
        (&["x", "--at", "x="], "^", "empty"),
        (&["x", "--at", "x"], "^", "expected a name"),
        (&["x", "--at", "y=2"], "^", "the only variable is x"),
        (&["x", "--at", "x=1,x=2"], "^", "has a value already"),
        (&["x*y", "--at", "x=1"], "    ^\n", "y has no value"),
        (&["2 + log(x)", "--at", "x=-1"], "      ^^^^^^\n", "log(-1) is NaN: a logarithm needs a positive number"),
        (&["x^0.5", "--at", "x=-2"], "^^^^^", "(-2)^0.5 is NaN"),
        (&["x/x", "--at", "x=0"], "^^^", "0/0 is NaN"),
        (&["x", "--at", "x=1/0"], "^^^", "no finite number"),
    ];
    for (arguments, caret, message) in cases {
        let output = chainrule(&[&["derive"], arguments].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.starts_with("error: ") && error.contains(caret) && error.contains(message), "{error}");
        assert!(error.lines().count() <= 4 && !error.contains("panicked"), "{error}");
        assert!(output.stdout.is_empty());
    }
    for arguments in
        [&["x", "--wrt", "z"][..], &["x", "--order", "99"], &["x", "--order", "0"], &[], &["x", "--no-such"]]
    {
        let output = chainrule(&[&["derive"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    }
}

#[test]
fn points_that_are_special() {
    let infinite = json(&["derive", "sqrt(x)", "--at", "x=0"]);
    assert_eq!(infinite["value"], 0.0);
    assert!(infinite["notes"][0].as_str().unwrap().contains("infinite"));
    let tie = json(&["derive", "max(x, 0)", "--at", "x=0"]);
    assert_eq!(tie["derivatives"][0]["value"], 0.5);
    assert!(tie["notes"][0].as_str().unwrap().contains("0.5"));
    assert_eq!(json(&["derive", "relu(x)", "--at", "x=0"])["derivatives"][0]["value"], 0.0);
    for plain in ["3", "pi*2", "x", "-x", "f*u1 + g"] {
        json(&["derive", plain]);
        stdout(&["derive", plain]);
        stdout(&["derive", plain, "--latex"]);
    }
}

#[test]
fn long_and_deep_expressions_are_quick() {
    let sum = vec!["x"; 30_000].join("+");
    let product = vec!["x"; 30_000].join("*");
    let waves = (0..4000).map(|i| format!("sin({i}x)")).collect::<Vec<_>>().join("+");
    let deep = format!("{}x{}", "sin(".repeat(250), ")".repeat(250));
    let tower = vec!["x"; 60].join("^");
    let many = (0..1000).map(|i| format!("v{i}*v{}", i + 1)).collect::<Vec<_>>().join("+");
    let shared = (0..40).fold("x".to_owned(), |e, _| format!("sin({e})*2+1"));
    for (text, order) in [
        (&sum, "1"),
        (&sum, "3"),
        (&product, "1"),
        (&waves, "1"),
        (&deep, "2"),
        (&tower, "2"),
        (&many, "1"),
        (&shared, "4"),
    ] {
        let start = Instant::now();
        for at in [&["--at", "x=0.5"][..], &[]] {
            let output = chainrule(&[&["derive", text, "--order", order], at].concat());
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(matches!(output.status.code(), Some(0 | 2)), "{}…: {error}", &text[..20]);
            assert!(!error.contains("panicked") && error.lines().count() <= 4, "{error}");
            assert!(output.stdout.len() < 100_000, "{} bytes", output.stdout.len());
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{}… took {:?}", &text[..20], start.elapsed());
    }
    let found = json(&["derive", &sum, "--at", "x=2"]);
    assert_eq!(found["derivatives"][0]["value"], 30_000.0);
}

#[test]
fn help_version_and_completions() {
    for arguments in [&["--help"][..], &["derive", "--help"], &["completions", "--help"]] {
        let help = stdout(arguments);
        assert!(help.contains("Examples:") && help.contains("chainrule "), "{help}");
    }
    assert!(stdout(&["derive", "--help"]).contains("--wrt"));
    assert!(stdout(&["--version"]).starts_with("chainrule "));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(stdout(&["completions", shell]).contains("derive"), "{shell}");
    }
    assert_eq!(chainrule(&["completions", "nosuch"]).status.code(), Some(2));
    assert_eq!(chainrule(&[]).status.code(), Some(2));
}

#[test]
fn a_pipe_carries_no_colours() {
    let text = stdout(&["derive", "x^2", "--at", "x=1"]);
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(stdout(&["derive", "x^2", "--json"]).trim_end().lines().count(), 1);
}

#[test]
fn a_reader_that_leaves_is_no_fault() {
    let names = (0..60).map(|i| format!("a{i}")).collect::<Vec<_>>().join("*");
    let mut child = Command::new(env!("CARGO_BIN_EXE_chainrule"))
        .args(["derive", &names])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""));
}
