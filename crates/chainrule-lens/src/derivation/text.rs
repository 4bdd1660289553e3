//! A derivation as text for a terminal, as LaTeX, and as HTML with MathML.

use super::{Derivation, Explained, Factor};
use std::fmt::Write;

impl std::fmt::Display for Derivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "L = {}", self.value)?;
        for definition in &self.definitions {
            writeln!(f, "  {} = {}  {:?}  {}", definition.name, definition.formula, definition.shape, definition.line)?;
        }
        for parameter in &self.parameters {
            writeln!(f, "\n∂L/∂{}  {:?}, length {}", parameter.path, parameter.shape, parameter.norm)?;
            for (number, term) in parameter.paths.iter().enumerate() {
                let chain: Vec<String> = term.factors.iter().map(|x| format!("∂{}/∂{}", x.of, x.by)).collect();
                let sign = if number == 0 { "=" } else { "+" };
                let chain = if chain.is_empty() { "1".to_owned() } else { chain.join(" · ") };
                writeln!(f, "  {sign} {chain}  ({:.1} % of it, length {})", term.share.0 * 100.0, term.norm)?;
                for factor in &term.factors {
                    writeln!(f, "      {}", line(factor))?;
                }
            }
            if parameter.more {
                writeln!(f, "  + further paths, length {}", parameter.remainder)?;
            }
        }
        Ok(())
    }
}

fn line(factor: &Factor) -> String {
    let shapes = format!("{:?} by {:?}", factor.rows, factor.columns);
    let head = format!("∂{}/∂{} = {}", factor.of, factor.by, factor.formula);
    format!("{head:<40} {shapes:<22} ×{:<9.4} δ: {}", factor.gain.0, factor.delta)
}

impl Derivation {
    /// The products as LaTeX, one `align*` for each parameter.
    pub fn latex(&self) -> String {
        let mut text = String::new();
        for parameter in &self.parameters {
            let _ = writeln!(text, "\\begin{{align*}}\n{}\n\\end{{align*}}", latex_of(parameter));
        }
        text
    }

    /// The products as one HTML section with MathML.
    pub fn html(&self) -> String {
        let mut text = String::from("<section class=\"derivation\">\n");
        for parameter in &self.parameters {
            let path = escaped(&parameter.path);
            let _ = writeln!(text, "<h3>{path}</h3>\n<math display=\"block\"><mrow>{}", fraction("L", &parameter.path));
            for (number, term) in parameter.paths.iter().enumerate() {
                let _ = write!(text, "<mo>{}</mo>", if number == 0 { "=" } else { "+" });
                let factors: Vec<String> = term.factors.iter().map(|x| fraction(&x.of, &x.by)).collect();
                text.push_str(&factors.join("<mo>·</mo>"));
            }
            text.push_str(
                "</mrow></math>\n<table><tr><th>factor</th><th>formula</th><th>gain</th><th>line</th></tr>\n",
            );
            for factor in parameter.paths.iter().flat_map(|term| &term.factors) {
                let name = format!("∂{}/∂{}", factor.of, factor.by);
                let cells = [name, factor.formula.clone(), format!("{:.4}", factor.gain.0), factor.line.to_string()];
                let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
                let _ = writeln!(text, "<tr>{cells}</tr>");
            }
            text.push_str("</table>\n");
        }
        text.push_str("</section>\n");
        text
    }
}

fn latex_of(parameter: &Explained) -> String {
    let partial =
        |of: &str, by: &str| format!("\\frac{{\\partial {}}}{{\\partial {}}}", latex_name(of), latex_name(by));
    let mut text = partial("L", &parameter.path);
    for (number, term) in parameter.paths.iter().enumerate() {
        let factors: Vec<String> = term.factors.iter().map(|x| partial(&x.of, &x.by)).collect();
        let product = if factors.is_empty() { "1".to_owned() } else { factors.join(" \\cdot ") };
        let _ = write!(text, "{} {product}", if number == 0 { " &=" } else { " \\\\\n &\\quad +" });
    }
    text
}

/// `z₁₂` as `z_{12}`, a path in upright letters.
fn latex_name(name: &str) -> String {
    let transposed = name.strip_suffix('ᵀ');
    let name = transposed.unwrap_or(name);
    let digits: String = name
        .chars()
        .filter_map(|c| ('₀'..='₉').contains(&c).then(|| char::from_digit(c as u32 - '₀' as u32, 10)).flatten())
        .collect();
    let letters: String = name.chars().filter(|c| !('₀'..='₉').contains(c)).collect();
    let base = match letters.chars().count() {
        1 => letters,
        _ => format!("\\mathrm{{{}}}", letters.replace('_', "\\_")),
    };
    let base = if digits.is_empty() { base } else { format!("{base}_{{{digits}}}") };
    if transposed.is_some() { format!("{base}^\\top") } else { base }
}

fn fraction(of: &str, by: &str) -> String {
    let part = |name: &str| format!("<mrow><mo>∂</mo><mi>{}</mi></mrow>", escaped(name));
    format!("<mfrac>{}{}</mfrac>", part(of), part(by))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
