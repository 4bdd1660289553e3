//! Writes a page as SVG. Texts stay texts, in whichever sans-serif font the viewer has.

use std::fmt::Write;

use super::layout::{Anchor, Mark, Page, Rgb};

/// The document.
pub fn write(page: &Page, inline: bool) -> String {
    let mut out = String::new();
    let (width, height) = (page.width, page.height);
    // Writing to a String cannot fail.
    let _ = match inline {
        true => writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             font-family=\"'DejaVu Sans', Verdana, sans-serif\">"
        ),
        false => writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"'DejaVu Sans', Verdana, sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        ),
    };
    let class = |color: &Rgb| match color.role().filter(|_| inline) {
        Some(role) => format!(" class=\"{role}\""),
        None => String::new(),
    };
    for mark in &page.marks {
        let _ = match mark {
            Mark::Line { points, color, width, dashed } => {
                let points: Vec<String> = points.iter().map(|[x, y]| format!("{},{}", short(*x), short(*y))).collect();
                let dash = if *dashed { " stroke-dasharray=\"5 4\"" } else { "" };
                writeln!(
                    out,
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" \
                     stroke-linejoin=\"round\"{dash}{}/>",
                    points.join(" "),
                    color.hex(),
                    class(color)
                )
            }
            Mark::Area { points, color } => {
                let points: Vec<String> = points.iter().map(|[x, y]| format!("{},{}", short(*x), short(*y))).collect();
                // Its own colour around it closes the seams between neighbours.
                let (points, hex) = (points.join(" "), color.hex());
                writeln!(out, "<polygon points=\"{points}\" fill=\"{hex}\" stroke=\"{hex}\" stroke-width=\"0.5\"/>")
            }
            Mark::Dot { at: [x, y], radius, color } => writeln!(
                out,
                "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill=\"{}\"/>",
                short(*x),
                short(*y),
                color.hex()
            ),
            Mark::Text { at: [x, y], text, size, color, anchor, strong } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let weight = if *strong { " font-weight=\"bold\"" } else { "" };
                writeln!(
                    out,
                    "<text x=\"{}\" y=\"{}\" font-size=\"{size}\" fill=\"{}\" text-anchor=\"{anchor}\"\
                     {weight}{}>{}</text>",
                    short(*x),
                    short(*y),
                    color.hex(),
                    class(color),
                    escaped(text)
                )
            }
        };
    }
    out.push_str("</svg>\n");
    out
}

/// One decimal, and none where it is zero.
fn short(value: f32) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(Into::into).unwrap_or(text)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to write these.
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
