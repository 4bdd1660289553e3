//! Curves in braille: a cell of the terminal is two dots wide and four high.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

/// Curves of one panel on one scale.
pub struct Chart<'a> {
    pub title: &'a str,
    /// Drawn in order; later ones cover earlier ones.
    pub curves: &'a [(Vec<(f64, f64)>, Style)],
    /// Values are shares.
    pub percent: bool,
    /// What stands right of the title.
    pub now: &'a str,
}

/// Width of the scale at the left.
const SCALE: u16 = 8;
/// The dots of a cell by column and row, as Unicode orders them.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
/// Values that span more than this factor are shown by their logarithms.
const WIDE: f64 = 20.0;

impl Chart<'_> {
    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.curves.iter().flat_map(|curve| &curve.0)
    }

    pub fn draw(&self, area: Rect, buffer: &mut Buffer) {
        if area.width < SCALE + 4 || area.height < 3 {
            return;
        }
        let bold = Style::new().bold();
        buffer.set_stringn(area.x, area.y, self.title, area.width as usize, bold);
        let after = area.x + self.title.chars().count() as u16 + 2;
        buffer.set_stringn(after, area.y, self.now, area.right().saturating_sub(after) as usize, Style::new());
        let plot = Rect::new(area.x + SCALE, area.y + 1, area.width - SCALE, area.height - 1);
        let last = self.points().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max);
        let first = self.points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let steps = if last > first { last - first } else { 1.0 };
        let across = plot.width as f64 * 2.0 - 1.0;
        let curves: Vec<(Vec<(f64, f64)>, Style)> =
            self.curves.iter().map(|(points, style)| (means(points, (first, steps), across), *style)).collect();
        let all = || curves.iter().flat_map(|curve| &curve.0);
        let values = || all().map(|point| point.1).filter(|value| value.is_finite());
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        if !(low.is_finite() && last.is_finite()) {
            buffer.set_stringn(plot.x, plot.y, "nothing finite yet", plot.width as usize, Style::new().dim());
            return;
        }
        let logarithmic = !self.percent && low > 0.0 && high > WIDE * low;
        let height = |value: f64| if logarithmic { value.ln() } else { value };
        let (bottom, top) = (height(low), height(high));
        let span = if top > bottom { top - bottom } else { 1.0 };
        let label = |value: f64| if self.percent { format!("{:.1} %", 100.0 * value) } else { short(value) };
        for (value, row) in [(high, plot.y), (low, plot.bottom() - 1)] {
            buffer.set_stringn(area.x, row, format!("{:>7} ", label(value)), SCALE as usize, Style::new().dim());
        }
        let down = plot.height as f64 * 4.0 - 1.0;
        for (points, style) in &curves {
            let mut before: Option<(f64, f64)> = None;
            for &(x, value) in points {
                if !value.is_finite() {
                    before = None;
                    continue;
                }
                let at = (x, (top - height(value)) / span * down);
                line(before.unwrap_or(at), at, |x, y| dot(buffer, plot, (x, y), *style));
                before = Some(at);
            }
        }
    }
}

/// A curve's mean in each column of dots, so that what is narrower than a column is not drawn over and over.
fn means(points: &[(f64, f64)], (first, steps): (f64, f64), across: f64) -> Vec<(f64, f64)> {
    let mut columns: Vec<(f64, f64, f64)> = Vec::new();
    for &(step, value) in points {
        let x = ((step - first) / steps * across).round();
        match columns.last_mut() {
            Some(column) if column.0 == x => (column.1, column.2) = (column.1 + value, column.2 + 1.0),
            _ => columns.push((x, value, 1.0)),
        }
    }
    columns.into_iter().map(|(x, sum, count)| (x, sum / count)).collect()
}

/// Every dot between two.
fn line(from: (f64, f64), to: (f64, f64), mut dot: impl FnMut(usize, usize)) {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let count = dx.abs().max(dy.abs()).ceil().max(1.0);
    for i in 0..=count as usize {
        let share = i as f64 / count;
        dot((from.0 + share * dx).round().max(0.0) as usize, (from.1 + share * dy).round().max(0.0) as usize);
    }
}

fn dot(buffer: &mut Buffer, plot: Rect, (x, y): (usize, usize), style: Style) {
    let at = (plot.x + (x / 2) as u16, plot.y + (y / 4) as u16);
    if at.0 >= plot.right() || at.1 >= plot.bottom() {
        return;
    }
    if let Some(cell) = buffer.cell_mut(at) {
        let held = cell.symbol().chars().next().map_or(0, |c| (c as u32).wrapping_sub(0x2800));
        let held = if held < 256 { held as u8 } else { 0 };
        let dots = held | DOTS[x % 2][y % 4];
        cell.set_char(char::from_u32(0x2800 + dots as u32).unwrap_or(' ')).set_style(style);
    }
}

/// Three digits that say something, in seven characters at most.
pub fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        size => format!("{value:.*}", (2 - size.log10().floor() as i32).max(0) as usize),
    }
}
