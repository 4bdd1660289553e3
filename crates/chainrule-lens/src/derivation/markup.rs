//! A derivation as LaTeX, and as HTML with MathML.

use super::text::{folded, many, term, together};
use super::{Definition, Derivation, Equation, Explained, Factor, InTime, Loop};
use std::fmt::Write;

/// A piece of a formula.
enum Token<'a> {
    /// A name with its subscript, its step, and whether it is transposed or squared.
    Name(&'a str, String, String, Option<char>),
    Number(&'a str),
    Sign(char),
    /// The step of what stands in brackets before it.
    Step(String),
}

/// Takes a formula apart. `δ[h₁]` is δ with the subscript h₁.
fn tokens(formula: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = formula;
    while let Some(c) = rest.chars().next() {
        if c == '⁽' && rest.contains('⁾') {
            tokens.push(Token::Step(step(&mut rest)));
            continue;
        }
        let run = |fits: &dyn Fn(char) -> bool| rest.find(|c| !fits(c)).unwrap_or(rest.len());
        let end = match c {
            _ if c.is_whitespace() => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            'δ' | 'ε' | '∂' | 'σ' | 'γ' | 'β' | 'π' | 'Σ' | 'Π' => c.len_utf8(),
            _ if c.is_ascii_digit() => run(&|c| c.is_ascii_digit() || c == '.' || c == ','),
            _ if c.is_alphabetic() && c != 'ᵀ' => run(&|c| (c.is_ascii_alphanumeric() || c == '_') && c != 'ᵀ'),
            _ => c.len_utf8(),
        };
        let (word, after) = rest.split_at(end.max(c.len_utf8()));
        rest = after;
        if c.is_ascii_digit() {
            tokens.push(Token::Number(word));
        } else if c.is_alphabetic() && !matches!(c, 'Σ' | 'Π' | '∂') {
            let mut below = String::new();
            if let Some(inner) = rest.strip_prefix('[').filter(|_| matches!(c, 'δ' | 'ε'))
                && let Some(end) = closing(inner)
            {
                below = inner[..end].to_owned();
                rest = &inner[end + 1..];
            }
            while let Some(digit) = rest.chars().next().filter(|c| ('₀'..='₉').contains(c)) {
                below.push(char::from_digit(digit as u32 - '₀' as u32, 10).unwrap_or('?'));
                rest = &rest[digit.len_utf8()..];
            }
            let step = step(&mut rest);
            let above = rest.chars().next().filter(|c| matches!(c, 'ᵀ' | '²' | '\'' | '′'));
            rest = above.map_or(rest, |above| &rest[above.len_utf8()..]);
            tokens.push(Token::Name(word, below, step, above));
        } else {
            tokens.push(Token::Sign(c));
        }
    }
    tokens
}

/// Where the bracket closes that has been opened before.
fn closing(inner: &str) -> Option<usize> {
    let mut open = 1;
    inner.char_indices().find_map(|(place, c)| {
        open += (c == '[') as i32 - (c == ']') as i32;
        (open == 0).then_some(place)
    })
}

/// Takes ⁽ᵗ⁻¹⁾ off the front: (t−1).
fn step(rest: &mut &str) -> String {
    let Some((inside, after)) = rest.strip_prefix('⁽').and_then(|inner| inner.split_once('⁾')) else {
        return String::new();
    };
    *rest = after;
    format!("({})", inside.replace('ᵗ', "t").replace('ᵀ', "T").replace('⁻', "−").replace('¹', "1"))
}

/// A formula as LaTeX.
fn latex(formula: &str) -> String {
    let mut text = String::new();
    for token in tokens(formula) {
        let part = match token {
            Token::Number(number) => number.to_owned(),
            Token::Step(step) => format!("{{}}^{{{}}}", step.replace('−', "-")),
            Token::Name(word, below, step, above) => {
                let base = match word {
                    "δ" => "\\delta".to_owned(),
                    "ε" => "\\varepsilon".to_owned(),
                    "σ" => "\\sigma".to_owned(),
                    "γ" => "\\gamma".to_owned(),
                    "β" => "\\beta".to_owned(),
                    "π" => "\\pi".to_owned(),
                    _ if word.len() == 1 => word.to_owned(),
                    _ => format!("\\mathrm{{{}}}", word.replace('_', "\\_")),
                };
                let below = if below.is_empty() { below } else { format!("_{{{}}}", latex(&below)) };
                let above = match above {
                    Some('ᵀ') => "\\top",
                    Some('²') => "2",
                    Some(_) => "\\prime",
                    None => "",
                };
                let above = match format!("{}{above}", step.replace('−', "-")) {
                    none if none.is_empty() => none,
                    above => format!("^{{{above}}}"),
                };
                format!("{base}{below}{above}")
            }
            Token::Sign(sign) => match sign {
                '·' => "\\cdot".into(),
                '⊙' => "\\odot".into(),
                '∗' => "\\ast".into(),
                '⋆' => "\\star".into(),
                '−' => "-".into(),
                'Σ' => "\\sum".into(),
                'Π' => "\\prod".into(),
                '∂' => "\\partial".into(),
                '√' => "\\surd".into(),
                '≤' => "\\le".into(),
                '≥' => "\\ge".into(),
                '≠' => "\\ne".into(),
                'ᵀ' => "{}^\\top".into(),
                '²' => "{}^2".into(),
                '…' => "\\dots".into(),
                other => other.to_string(),
            },
        };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&part);
    }
    text
}

/// A formula as the inside of a MathML row.
fn mathml(formula: &str) -> String {
    let mut text = String::new();
    for token in tokens(formula) {
        match token {
            Token::Number(number) => _ = write!(text, "<mn>{number}</mn>"),
            Token::Step(step) => _ = write!(text, "<msup><mi></mi><mtext>{step}</mtext></msup>"),
            Token::Name(word, below, step, above) => {
                let base = match word {
                    "where" | "else" | "not" | "of" | "the" | "back" | "through" | "steps" | "over" | "loop" => {
                        format!("<mtext>\u{a0}{word}\u{a0}</mtext>")
                    }
                    _ => format!("<mi>{}</mi>", escaped(word)),
                };
                let above = above.map(|c| match c {
                    'ᵀ' => "<mo>⊤</mo>",
                    '²' => "<mn>2</mn>",
                    _ => "<mo>′</mo>",
                });
                let above = match step.is_empty() {
                    true => above.map(str::to_owned),
                    false => Some(format!("<mrow><mtext>{step}</mtext>{}</mrow>", above.unwrap_or(""))),
                };
                let below = (!below.is_empty()).then(|| format!("<mrow>{}</mrow>", mathml(&below)));
                _ = match (below, above) {
                    (Some(below), Some(above)) => write!(text, "<msubsup>{base}{below}{above}</msubsup>"),
                    (Some(below), None) => write!(text, "<msub>{base}{below}</msub>"),
                    (None, Some(above)) => write!(text, "<msup>{base}{above}</msup>"),
                    (None, None) => write!(text, "{base}"),
                };
            }
            Token::Sign('ᵀ') => text.push_str("<msup><mi></mi><mo>⊤</mo></msup>"),
            Token::Sign('²') => text.push_str("<msup><mi></mi><mn>2</mn></msup>"),
            Token::Sign(sign) => _ = write!(text, "<mo>{}</mo>", escaped(&sign.to_string())),
        }
    }
    text
}

impl Derivation {
    /// LaTeX: the equations of the way forth and of the way back, and the products for each parameter, in `align*`s.
    pub fn latex(&self) -> String {
        let mut text = String::new();
        let mut align = |lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = writeln!(text, "\\begin{{align*}}\n{}\n\\end{{align*}}", lines.join(" \\\\\n"));
            }
        };
        let equation = |left: &str, right: &str| format!("{} &= {}", latex(left), latex(right));
        align(self.definitions.iter().map(|d| equation(&d.name, &d.formula)).collect());
        let left = |symbol: &str| match symbol.strip_prefix("∂L/∂") {
            Some(by) => latex_fraction("L", by),
            None => latex(symbol),
        };
        align(self.backward.iter().map(|e| format!("{} &= {}", left(&e.symbol), latex(&e.formula))).collect());
        for found in &self.loops {
            align(found.definitions.iter().map(|d| equation(&d.name, &d.formula)).collect());
            align(found.backward.iter().map(|e| equation(&e.symbol, &e.formula)).collect());
            align(found.operands.iter().map(|operand| latex_of(&arrival(&found.name), operand)).collect());
        }
        self.parameters.iter().for_each(|parameter| align(vec![latex_of("L", parameter)]));
        text
    }

    /// One HTML section with MathML: the way forth, the way back, and for each parameter its paths with their factors.
    pub fn html(&self) -> String {
        let mut text = String::from("<section class=\"derivation\">\n<h3>Forward</h3>\n");
        write_definitions(&mut text, &self.definitions);
        text.push_str("<h3>Backward</h3>\n");
        write_equations(&mut text, &self.backward);
        self.loops.iter().for_each(|found| write_loop(&mut text, found));
        self.parameters.iter().for_each(|parameter| write_parameter(&mut text, parameter));
        text.push_str("</section>\n");
        text
    }
}

fn write_definitions(text: &mut String, definitions: &[Definition]) {
    text.push_str("<div class=\"wide\"><table><tr><th>value</th><th>shape</th><th>line</th></tr>\n");
    for d in definitions {
        let formula = math(&format!("{} = {}", d.name, d.formula));
        let _ = writeln!(text, "<tr><td>{formula}</td>{}</tr>", cells(&[shape(&d.shape), d.line.to_string()]));
    }
    text.push_str("</table></div>\n");
}

fn write_equations(text: &mut String, equations: &[Equation]) {
    text.push_str("<div class=\"wide\"><table>");
    text.push_str("<tr><th>gradient</th><th>of</th><th>shape</th><th>length</th><th>line</th></tr>\n");
    for e in equations {
        let left = e.symbol.strip_prefix("∂L/∂").map_or(mathml(&e.symbol), |by| fraction("L", by));
        let formula = format!("<math><mrow>{left}<mo>=</mo>{}</mrow></math>", mathml(&e.formula));
        let rest = [e.of.clone(), shape(&e.shape), e.norm.to_string(), e.line.to_string()];
        let _ = writeln!(text, "<tr><td>{formula}</td>{}</tr>", cells(&rest));
    }
    text.push_str("</table></div>\n");
}

/// One step of a loop, and a row for each step that is not folded.
fn write_loop(text: &mut String, found: &Loop) {
    let Loop { name, steps, line, shown, .. } = found;
    let _ = writeln!(
        text,
        "<h3>{}, a loop of {steps} steps</h3>\n<p><small>{}</small></p>",
        math(name),
        escaped(&line.to_string())
    );
    write_definitions(text, &found.definitions);
    let arrives = math(&arrival(name));
    let _ = writeln!(
        text,
        "<p>{arrives} is what later steps and the use of {} send; lengths of step {shown}</p>",
        math(name)
    );
    write_equations(text, &found.backward);
    for operand in &found.operands {
        let _ = writeln!(
            text,
            "<details><summary>by {} <small>length {}</small></summary>",
            math(&operand.symbol),
            operand.norm
        );
        write_paths(text, operand);
        text.push_str("</details>\n");
    }
    let one = fraction(&format!("{name}⁽ᵗ⁾"), &format!("{name}⁽ᵗ⁻¹⁾"));
    let all = fraction(&format!("{name}⁽ᵀ⁾"), &format!("{name}⁽ᵗ⁾"));
    let head =
        [format!("length of {arrives}"), format!("gain of <math>{one}</math>"), format!("gain of <math>{all}</math>")];
    let head: String = head.iter().map(|head| format!("<th>{head}</th>")).collect();
    let _ = writeln!(text, "<div class=\"wide\"><table><tr><th>step</th>{head}</tr>");
    let hidden = folded(found.passages.len());
    for (place, p) in found.passages.iter().enumerate() {
        if place == hidden.start && !hidden.is_empty() {
            let _ = writeln!(text, "<tr><td colspan=\"4\">… {} further steps</td></tr>", hidden.len());
        }
        if !hidden.contains(&place) {
            let row = [p.step.to_string(), p.arrives.to_string(), p.gain.to_string(), p.product.to_string()];
            let _ = writeln!(text, "<tr>{}</tr>", cells(&row));
        }
    }
    text.push_str("</table></div>\n");
}

fn write_parameter(text: &mut String, parameter: &Explained) {
    let Explained { path, symbol, norm, .. } = parameter;
    let _ = writeln!(text, "<details open><summary><math>{}</math> {}", fraction("L", symbol), escaped(path));
    let _ = writeln!(text, "<small>{} · length {norm}</small></summary>", shape(&parameter.shape));
    write_paths(text, parameter);
    parameter.in_time.iter().for_each(|in_time| write_in_time(text, in_time));
    text.push_str("</details>\n");
}

fn write_in_time(text: &mut String, in_time: &InTime) {
    for through in &in_time.loops {
        let _ = writeln!(text, "<p>by the steps of {}</p>\n<ul>", math(&through.of));
        let hidden = folded(through.terms.len());
        for (place, one) in through.terms.iter().enumerate() {
            if place == hidden.start && !hidden.is_empty() {
                let _ = writeln!(text, "<li>{}</li>", together(&through.terms[hidden.clone()]));
            }
            if !hidden.contains(&place) {
                let _ = writeln!(text, "<li>{}</li>", term(one));
            }
        }
        text.push_str("</ul>\n");
    }
    let beside = format!("beside them {:.1} % of it; ", in_time.beside.share.0 * 100.0);
    let beside = if in_time.beside.norm.0 > 0.0 { beside } else { String::new() };
    let _ = writeln!(text, "<p>{beside}the steps sum to it within {}</p>", in_time.remainder);
}

fn write_paths(text: &mut String, parameter: &Explained) {
    for (number, term) in parameter.paths.iter().enumerate() {
        let sign = if number == 0 { "=" } else { "+" };
        let factors: Vec<String> = term.factors.iter().map(|x| fraction(&x.of, &x.by)).collect();
        let product = if factors.is_empty() { "<mn>1</mn>".to_owned() } else { factors.join("<mo>·</mo>") };
        let share = format!("{:.1} % of it, length {}", term.share.0 * 100.0, term.norm);
        let _ = writeln!(text, "<div class=\"wide\"><math><mrow><mo>{sign}</mo>{product}</mrow></math></div>");
        let _ = writeln!(text, "<p><small>{share}</small></p>");
        if number == 0 {
            write_factors(text, &term.factors);
        }
    }
    let paths = parameter.paths.len();
    let rest = match (parameter.more, paths) {
        (true, _) => {
            let more = many(parameter.all_paths.0 - paths as f64);
            format!("and {more} further paths, together of length {}", parameter.remainder)
        }
        (false, 0) => "0: no path leads to it".to_owned(),
        (false, 1) => String::new(),
        (false, _) => format!("the {paths} paths sum to it within {}", parameter.remainder),
    };
    let _ = writeln!(text, "<p>{rest}</p>");
}

fn write_factors(text: &mut String, factors: &[Factor]) {
    text.push_str("<div class=\"wide\"><table><tr><th>factor</th><th>shape</th><th>gain</th><th>line</th></tr>\n");
    for factor in factors {
        let (left, right) = (fraction(&factor.of, &factor.by), mathml(&factor.formula));
        let shapes = format!("{} by {}", shape(&factor.rows), shape(&factor.columns));
        let rest = [shapes, factor.gain.to_string(), factor.line.to_string()];
        let formula = format!("<math><mrow>{left}<mo>=</mo>{right}</mrow></math>");
        let _ = writeln!(text, "<tr><td>{formula}</td>{}</tr>", cells(&rest));
        let Some(values) = factor.values.as_ref().filter(|values| !values.is_empty()) else { continue };
        let columns = factor.columns.iter().product::<usize>().max(1);
        let row = |row: &[crate::place::Number]| {
            row.iter().map(|x| format!("<mtd><mn>{:.3}</mn></mtd>", x.0)).collect::<String>()
        };
        let rows: String = values.chunks(columns).map(|values| format!("<mtr>{}</mtr>", row(values))).collect();
        let matrix = format!("<math><mrow><mo>[</mo><mtable>{rows}</mtable><mo>]</mo></mrow></math>");
        let _ = writeln!(text, "<tr><td colspan=\"4\">{matrix}</td></tr>");
    }
    text.push_str("</table></div>\n");
}

fn cells(cells: &[String]) -> String {
    cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect()
}

fn shape(shape: &[usize]) -> String {
    if shape.is_empty() { "number".to_owned() } else { format!("{shape:?}") }
}

fn math(formula: &str) -> String {
    format!("<math><mrow>{}</mrow></math>", mathml(formula))
}

/// What arrives at a loop's state in step t.
fn arrival(name: &str) -> String {
    format!("ε[{name}⁽ᵗ⁾]")
}

/// The gradient of L, or of what a step is given, by a parameter or an operand, as a sum of products; by steps besides.
fn latex_of(of: &str, parameter: &Explained) -> String {
    let mut text = latex_fraction(of, &parameter.symbol);
    for (number, term) in parameter.paths.iter().enumerate() {
        let factors: Vec<String> = term.factors.iter().map(|x| latex_fraction(&x.of, &x.by)).collect();
        let product = if factors.is_empty() { "1".to_owned() } else { factors.join(" \\cdot ") };
        let _ = write!(text, "{} {product}", if number == 0 { " &=" } else { " \\\\\n &\\quad +" });
    }
    if parameter.more {
        text.push_str(" \\\\\n &\\quad + \\dots");
    }
    for through in parameter.in_time.iter().flat_map(|in_time| &in_time.loops) {
        let (arrives, state) = (latex(&arrival(&through.of)), format!("{}⁽ᵗ⁾", through.of));
        let factor = latex_fraction(&state, &parameter.symbol);
        let steps = through.terms.iter().filter(|term| term.step > 0).count();
        let _ = write!(text, " \\\\\n &\\quad = \\sum_{{t=1}}^{{{steps}}} {arrives} \\cdot {factor}");
        for one in through.terms.iter().filter(|one| one.norm.0 > 0.0).take(3) {
            let share = one.share.0 * 100.0;
            let _ = write!(text, " \\\\\n &\\qquad t = {}: {share:.1}\\,\\%", one.step);
        }
    }
    text
}

fn latex_fraction(of: &str, by: &str) -> String {
    format!("\\frac{{\\partial {}}}{{\\partial {}}}", latex(of), latex(by))
}

fn fraction(of: &str, by: &str) -> String {
    let part = |name: &str| format!("<mrow><mo>∂</mo>{}</mrow>", mathml(name));
    format!("<mfrac>{}{}</mfrac>", part(of), part(by))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
