//! Draws a training that is watched on a page of a terminal: progress, curves, norms of gradients by layer and time, and
//! what is wrong. It knows the page and what is to be shown, and neither a terminal nor a clock.

use std::time::Duration;

use chainrule_train::task::Metric;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Style};

use super::board::{Board, Curve, Figure, Layer};
use super::chart::{Chart, short};

/// Heights of a column, from small to large.
const BARS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// From small to large, along viridis, in the palette of 256 colours.
const COLOURS: [u8; 8] = [54, 61, 31, 30, 36, 71, 113, 184];
/// Columns of numbers of a layer: name, width, and the width of page from which they are shown.
const COLUMNS: [(&str, u16, u16); 5] =
    [("gradient", 9, 0), ("update", 9, 60), ("dead", 6, 70), ("output", 9, 100), ("flat", 6, 100)];
/// An update above this share of the weights, and shares of dead units above this, are marked.
const FAST: f64 = 0.1;
const MOST: f64 = 0.5;

/// A page, with or without colours.
pub struct View {
    pub colours: bool,
}

impl View {
    /// Draws after so much time of this part of the training.
    pub fn draw(&self, board: &Board, time: Duration, page: Rect, buffer: &mut Buffer) {
        if page.width < 20 || page.height < 4 {
            return;
        }
        let mut rest = page;
        self.head(board, time, cut(&mut rest, 2), buffer);
        let foot = cut_below(&mut rest, 1);
        let end = if board.ending { "ending after this step" } else { "q or Ctrl-C ends the training and keeps it" };
        buffer.set_stringn(foot.x, foot.y, end, foot.width as usize, Style::new().dim());
        let wanted = (1 + 2 * board.warnings.len().clamp(1, 3) as u16).min(rest.height / 3);
        self.warnings(board, cut_below(&mut rest, wanted), buffer);
        let charts = (rest.height * 2 / 5).max(5).min(rest.height);
        self.curves(board, cut(&mut rest, charts), buffer);
        if rest.height > 2 {
            cut(&mut rest, 1);
            self.layers(board, rest, buffer);
        }
    }

    fn style(&self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn head(&self, board: &Board, time: Duration, area: Rect, buffer: &mut Buffer) {
        let Board { step, steps, from, epoch, rate, .. } = board;
        let rate = rate.map_or(String::new(), |rate| format!("  rate {}", short(rate)));
        let text = format!("  step {step} of {steps}  epoch {epoch}{rate}  {} parameters", board.parameters);
        let (x, _) = buffer.set_stringn(area.x, area.y, &board.title, area.width as usize, Style::new().bold());
        buffer.set_stringn(x, area.y, text, area.right().saturating_sub(x) as usize, Style::new());
        let (taken, seconds) = (step.saturating_sub(*from), time.as_secs_f64());
        let left = match taken {
            0 => String::new(),
            taken => {
                let left = seconds / taken as f64 * steps.saturating_sub(*step) as f64;
                format!(", {} left, {} steps/s", clock(left), short(taken as f64 / seconds.max(1e-9)))
            }
        };
        let share = (*step as f64 / (*steps).max(1) as f64).min(1.0);
        let text = format!(" {:>3.0} %  {}{left}", 100.0 * share, clock(seconds));
        let bar = (area.width.saturating_sub(text.chars().count() as u16)).clamp(4, 40);
        let full = (share * bar as f64).round() as usize;
        let style = self.style(Color::Cyan);
        let (x, y) = buffer.set_stringn(area.x, area.y + 1, "━".repeat(full), bar as usize, style);
        let empty = "─".repeat(bar as usize - full.min(bar as usize));
        let (x, y) = buffer.set_stringn(x, y, empty, area.width as usize, Style::new().dim());
        buffer.set_stringn(x, y, text, area.right().saturating_sub(x) as usize, Style::new());
    }

    /// As many figures side by side as there is room for.
    fn curves(&self, board: &Board, area: Rect, buffer: &mut Buffer) {
        let room = (area.width / 38).max(1) as usize;
        let shown = board.figures.iter().take(room);
        let width = area.width / shown.len().max(1) as u16;
        for (place, figure) in shown.enumerate() {
            let Figure { name, train, held_out, now } = figure;
            let percent = name.parse::<Metric>().is_ok_and(Metric::is_share);
            let value = |value: f64| if percent { format!("{:.1} %", 100.0 * value) } else { short(value) };
            let parts = [("", now[0]), ("validation ", now[1])];
            let now = parts.iter().filter_map(|(what, now)| now.map(|now| format!("{what}{}", value(now))));
            let curves = [
                (train.points().collect(), self.style(Color::Indexed(31))),
                (held_out.points().collect(), self.style(Color::Indexed(208))),
            ];
            let area = Rect::new(area.x + place as u16 * width, area.y, width.saturating_sub(1), area.height);
            let now = now.collect::<Vec<_>>().join(", ");
            let chart = Chart { title: &name.replace('_', " "), curves: &curves, percent, now: &now };
            chart.draw(area, buffer);
        }
    }

    /// A row for each layer: the norm of its gradient over the steps, and numbers of now.
    fn layers(&self, board: &Board, area: Rect, buffer: &mut Buffer) {
        let shown = spread(board.layers.len(), area.height as usize - 1);
        let chosen: Vec<&Layer> = shown.iter().map(|&place| &board.layers[place]).collect();
        let columns = COLUMNS.iter().filter(|column| area.width >= column.2);
        let numbers: u16 = columns.clone().map(|column| column.1).sum();
        let longest = chosen.iter().map(|layer| layer.path.chars().count()).max().unwrap_or(0) as u16;
        let names = longest.clamp(5, area.width / 4);
        let Some(width) = area.width.checked_sub(names + numbers + 2).filter(|width| *width >= 8) else { return };
        let steps = (board.from as f64 + 1.0, board.step as f64);
        let rows: Vec<Vec<Option<f64>>> = chosen.iter().map(|layer| columns_of(&layer.norms, steps, width)).collect();
        let logs = || rows.iter().flatten().flatten().filter(|norm| **norm > 0.0 && norm.is_finite());
        let (low, high) = (logs().fold(f64::INFINITY, |a, &b| a.min(b)), logs().fold(0.0f64, |a, &b| a.max(b)));
        let count = match board.layers.len() == chosen.len() {
            true => format!("{} layers", chosen.len()),
            false => format!("{} of {} layers", chosen.len(), board.layers.len()),
        };
        let scale = if low < high { format!(", {} ▁ to █ {}", short(low), short(high)) } else { String::new() };
        let title = format!("gradient norms, {count}{scale}");
        buffer.set_stringn(area.x, area.y, title, (names + width) as usize + 1, Style::new().bold());
        let mut x = area.x + names + width + 2;
        for (name, width, _) in columns.clone() {
            buffer.set_stringn(x, area.y, format!("{name:>0$}", *width as usize), *width as usize, Style::new().dim());
            x += width;
        }
        for (row, (layer, norms)) in chosen.iter().zip(&rows).enumerate() {
            let y = area.y + 1 + row as u16;
            buffer.set_stringn(area.x, y, ending(&layer.path, names as usize), names as usize, Style::new());
            for (column, norm) in norms.iter().enumerate() {
                let Some(cell) = norm.zip(buffer.cell_mut((area.x + names + 1 + column as u16, y))) else { continue };
                match cell.0 {
                    norm if !norm.is_finite() => cell.1.set_symbol("!").set_style(self.style(Color::Red)),
                    norm => {
                        let level = level(norm, low, high);
                        cell.1.set_symbol(BARS[level]).set_style(self.style(Color::Indexed(COLOURS[level])))
                    }
                };
            }
            let mut x = area.x + names + width + 2;
            for (name, width, _) in columns.clone() {
                let (text, wrong) = number(layer, name);
                let style = if wrong { self.style(Color::Red).bold() } else { Style::new() };
                buffer.set_stringn(x, y, format!("{text:>0$}", *width as usize), *width as usize, style);
                x += width;
            }
        }
    }

    /// The last warnings, the newest first.
    fn warnings(&self, board: &Board, area: Rect, buffer: &mut Buffer) {
        if area.height == 0 {
            return;
        }
        let title = match (board.warnings.len(), board.looked) {
            (0, None) => "no step was looked at yet".to_owned(),
            (0, Some(step)) => format!("nothing is wrong as of step {step}"),
            (count, Some(step)) => format!("{count} warnings, the last look at step {step}"),
            (count, None) => format!("{count} warnings"),
        };
        buffer.set_stringn(area.x, area.y, title, area.width as usize, Style::new().bold());
        let mut y = area.y + 1;
        // Of one look the first cause comes first.
        let mut newest: Vec<_> = board.warnings.iter().collect();
        newest.sort_by_key(|warning| std::cmp::Reverse(warning.0));
        for (step, warning) in newest {
            let lines = [(format!("step {step}: {warning}"), true), (format!("  change {}", warning.change), false)];
            for (line, strong) in lines {
                if y >= area.bottom() {
                    return;
                }
                let style = if strong { self.style(Color::Yellow) } else { Style::new() };
                buffer.set_stringn(area.x, y, line, area.width as usize, style);
                y += 1;
            }
        }
    }
}

/// A layer's number of a column, and whether it is one to look at.
fn number(layer: &Layer, column: &str) -> (String, bool) {
    let seen = |of: fn(&chainrule_lens::watch::WatchedLayer) -> Option<f64>| layer.seen.as_ref().and_then(of);
    let share = |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
    let plain = |value: Option<f64>| value.map_or(String::new(), short);
    match column {
        "gradient" => (short(layer.now), !layer.now.is_finite()),
        "update" => {
            let update = seen(|layer| Some(layer.update.0));
            (plain(update), update.is_some_and(|update| update > FAST))
        }
        "output" => (plain(seen(|layer| Some(layer.output.0))), false),
        "flat" => (share(seen(|layer| layer.flat)), false),
        _ => {
            let dead = seen(|layer| layer.dead);
            (share(dead), dead.is_some_and(|dead| dead > MOST))
        }
    }
}

/// Which of so many rows are shown where there is room for fewer: the first, the last, and what lies evenly between.
fn spread(count: usize, room: usize) -> Vec<usize> {
    match (count <= room, room) {
        (true, _) => (0..count).collect(),
        (false, 0) => Vec::new(),
        (false, 1) => vec![count - 1],
        (false, room) => (0..room).map(|row| row * (count - 1) / (room - 1)).collect(),
    }
}

/// A curve's mean in each of so many columns of steps; in a column without a point that of the column before.
fn columns_of(curve: &Curve, (first, last): (f64, f64), width: u16) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0usize); width as usize];
    let span = (last - first).max(1.0);
    for (step, value) in curve.points() {
        let place = ((step - first) / span * width as f64).clamp(0.0, width as f64 - 1.0) as usize;
        sums[place] = (sums[place].0 + value, sums[place].1 + 1);
    }
    let mut before = None;
    let means = sums.into_iter().map(|(sum, count)| {
        before = if count > 0 { Some(sum / count as f64) } else { before };
        before
    });
    means.collect()
}

/// Which of the eight heights and colours a norm has on a logarithmic scale.
fn level(norm: f64, low: f64, high: f64) -> usize {
    if !(norm > low && high > low) {
        return if high > low { 0 } else { 3 };
    }
    let share = (norm / low).ln() / (high / low).ln();
    ((share * 8.0) as usize).min(7)
}

/// The end of a path that is too long; it says most.
fn ending(path: &str, width: usize) -> String {
    let count = path.chars().count();
    match count <= width {
        true => path.to_owned(),
        false => std::iter::once('…').chain(path.chars().skip(count + 1 - width)).collect(),
    }
}

/// `1:02`, `2:03:04`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.clamp(0.0, 1e9).round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn cut(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    let top = Rect { height, ..*rest };
    (rest.y, rest.height) = (rest.y + height, rest.height - height);
    top
}

fn cut_below(rest: &mut Rect, height: u16) -> Rect {
    let height = height.min(rest.height);
    rest.height -= height;
    Rect { y: rest.bottom(), height, ..*rest }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
