//! One HTML file for a report of any command: self-contained, without a script, for any browser and any width, by day and
//! by night. What is in it the commands say; this room knows headings, tables and pictures.

use std::fmt::{Display, Write};
use std::path::Path;

use chainrule_train::curves::Chart;
use chainrule_train::run::write_atomic;

use crate::outcome::Failure;

const STYLE: &str = include_str!("report.css");

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Odd,
    Bad,
}

/// A page being written.
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with its heading, and a line under it.
    pub fn new(title: &str, under: &str) -> Page {
        let mut page = Page { title: title.to_owned(), body: String::new() };
        page.raw(&format!("<header><h1>{}</h1><p>{}</p></header>\n", escaped(title), escaped(under)));
        page
    }

    /// HTML as it is.
    pub fn raw(&mut self, html: &str) {
        self.body.push_str(html);
    }

    /// The heading of a section.
    pub fn heading(&mut self, text: &str) {
        self.raw(&format!("<h2>{}</h2>\n", escaped(text)));
    }

    /// A paragraph.
    pub fn words(&mut self, text: &str) {
        self.raw(&format!("<p>{}</p>\n", escaped(text)));
    }

    /// Text that keeps its lines.
    pub fn lines(&mut self, text: &str) {
        self.raw(&format!("<pre>{}</pre>\n", escaped(text)));
    }

    /// A box that says how it stands, with more under it.
    pub fn verdict(&mut self, tone: Tone, head: &str, more: &[(&str, String)]) {
        let class = match tone {
            Tone::Good => "good",
            Tone::Odd => "odd",
            Tone::Bad => "bad",
        };
        let mut rows = String::new();
        for (name, text) in more {
            let _ = write!(rows, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(text));
        }
        let list = if rows.is_empty() { rows } else { format!("<dl>{rows}</dl>") };
        self.raw(&format!("<div class=\"verdict {class}\"><strong>{}</strong>{list}</div>\n", escaped(head)));
    }

    /// Figures side by side, each with its name.
    pub fn figures(&mut self, figures: &[(&str, String)]) {
        self.raw("<div class=\"figures\">");
        for (name, figure) in figures {
            self.raw(&format!("<div><span>{}</span><b>{}</b></div>", escaped(name), escaped(figure)));
        }
        self.raw("</div>\n");
    }

    /// A table; columns that begin with `#` hold numbers.
    pub fn table(&mut self, columns: &[&str], rows: &[Vec<String>]) {
        let number = |column: usize| if columns[column].starts_with('#') { " class=\"n\"" } else { "" };
        self.raw("<div class=\"wide\"><table><tr>");
        for (at, column) in columns.iter().enumerate() {
            self.raw(&format!("<th{}>{}</th>", number(at), escaped(column.trim_start_matches('#'))));
        }
        self.raw("</tr>\n");
        for row in rows {
            let cells = row.iter().take(columns.len()).enumerate();
            let cells: String = cells.map(|(at, cell)| format!("<td{}>{}</td>", number(at), escaped(cell))).collect();
            self.raw(&format!("<tr>{cells}</tr>\n"));
        }
        self.raw("</table></div>\n");
    }

    /// A picture.
    pub fn picture(&mut self, chart: &Chart) {
        self.raw(&format!("<figure class=\"wide\">{}</figure>\n", chart.inline_svg()));
    }

    /// The whole document.
    pub fn html(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<main>\n{}<footer>chainrule {version}</footer>\n</main>\n</body>\n</html>\n",
            escaped(&self.title),
            self.body
        )
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        write_atomic(path, self.html().as_bytes()).map_err(Failure::input)
    }
}

/// A number as a cell shows it.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".into(),
        size if (1e-3..1e5).contains(&size) => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

/// A share as a cell shows it.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A shape as a cell shows it.
pub fn shape(shape: &[usize]) -> String {
    format!("{shape:?}")
}

/// What prints itself, or nothing.
pub fn maybe<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_no_foreign_markup_and_nothing_from_elsewhere() {
        let mut page = Page::new("a <b>", "under & over");
        page.table(&["name", "#size"], &[vec!["<script>".into(), number(1234567.0)]]);
        page.verdict(Tone::Bad, "\"wrong\"", &[("because", "x < y".into())]);
        let html = page.html();
        assert!(html.contains("<td>&lt;script&gt;</td><td class=\"n\">1.23e6</td>"), "{html}");
        assert!(html.contains("&quot;wrong&quot;") && html.contains("x &lt; y"), "{html}");
        for foreign in ["<script", "http://", "https://", "@import", "url("] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }
}
