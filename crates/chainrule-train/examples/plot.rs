//! Draws curves: JSON from standard input to a file `.png` or `.svg`.
//!
//! ```sh
//! echo '{"title": "Squares", "x_label": "x", "panels": [{"title": "y", "series": [{"name": "x²", "points": [[0, 0], [1, 1], [2, 4]]}]}]}' |
//!     cargo run --release -p chainrule-train --example plot -- squares.svg
//! ```

mod common;

use std::error::Error;
use std::io::stdin;
use std::path::PathBuf;
use std::process::ExitCode;

use chainrule_train::curves::{Chart, Panel, Scale, Series};
use clap::Parser;
use serde::Deserialize;

#[derive(Parser)]
struct Arguments {
    /// The file to write [default: the SVG goes to standard output]
    out: Option<PathBuf>,
    /// Draw a line that is always the same
    #[arg(long)]
    quick: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Picture {
    title: String,
    #[serde(default)]
    x_label: String,
    panels: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    title: String,
    /// Whether values are spread by their logarithm.
    #[serde(default)]
    log: bool,
    series: Vec<Curve>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

const LINE: &str =
    r#"{"title": "A line", "panels": [{"title": "y", "series": [{"name": "y", "points": [[0, 1], [1, 2]]}]}]}"#;

fn main() -> ExitCode {
    common::ending(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let Arguments { out, quick } = Arguments::parse();
    let picture: Picture = if quick { serde_json::from_str(LINE)? } else { serde_json::from_reader(stdin())? };
    let panel = |part: Part| Panel {
        title: part.title,
        scale: if part.log { Scale::Log } else { Scale::Linear },
        series: part.series.into_iter().map(|curve| Series::new(curve.name, curve.points)).collect(),
        ..Panel::default()
    };
    let panels = picture.panels.into_iter().map(panel).collect();
    let chart = Chart { title: picture.title, x_label: picture.x_label, panels };
    match out {
        Some(path) if path.extension().is_some_and(|end| end == "png") => std::fs::write(path, chart.png()?)?,
        Some(path) => std::fs::write(path, chart.svg())?,
        None => println!("{}", chart.svg()),
    }
    Ok(())
}
