//! From a chart to marks on a page: where each panel, curve, tick and name goes. It knows no file format.

use super::axis::{self, Axis, Tick};
use super::font::Font;
use super::{Chart, Panel, Scale, Series, Weight};

const WIDTH: f32 = 1000.0;
const LEFT: f32 = 84.0;
const RIGHT: f32 = 24.0;
const TOP: f32 = 26.0;
const TITLE_SPACE: f32 = 26.0;
const PANEL_TITLE_SPACE: f32 = 30.0;
const PANEL_HEIGHT: f32 = 250.0;
/// Below a panel with an axis of its own.
const OWN_LABEL: f32 = 28.0;
/// A plane is as wide as it is high.
const PLANE: f32 = 440.0;
const PANEL_GAP: f32 = 36.0;
const BOTTOM: f32 = 64.0;
const LEGEND_GAP: f32 = 18.0;
const LEGEND_ROW: f32 = 21.0;
const LEGEND_WIDEST: f32 = 250.0;
const SWATCH: f32 = 26.0;

const TITLE_SIZE: f32 = 19.0;
const PANEL_TITLE_SIZE: f32 = 15.0;
pub(super) const LABEL_SIZE: f32 = 12.5;

/// Curves of up to this many points also get a dot at each.
const DOTTED: usize = 60;

pub(super) const INK: Rgb = Rgb([0x24, 0x29, 0x2f]);
const FAINT_INK: Rgb = Rgb([0x57, 0x60, 0x6a]);
const FRAME: Rgb = Rgb([0xa8, 0xb0, 0xb8]);
const GRID: Rgb = Rgb([0xe3, 0xe6, 0xea]);
const MINOR_GRID: Rgb = Rgb([0xf2, 0xf4, 0xf6]);
const ALARM: Rgb = Rgb([0xc4, 0x1e, 0x2a]);
/// Okabe and Ito's colours, which most colour-blind eyes can tell apart, without yellow.
const COLORS: [Rgb; 6] = [
    Rgb([0x00, 0x72, 0xb2]),
    Rgb([0xd5, 0x5e, 0x00]),
    Rgb([0x00, 0x9e, 0x73]),
    Rgb([0xcc, 0x79, 0xa7]),
    Rgb([0x56, 0xb4, 0xe9]),
    Rgb([0x3c, 0x3c, 0x3c]),
];
/// For more curves than colours: from first to last, along viridis without its pale end.
const RAMP: [Rgb; 5] = [
    Rgb([0x44, 0x01, 0x54]),
    Rgb([0x3b, 0x52, 0x8b]),
    Rgb([0x21, 0x91, 0x8c]),
    Rgb([0x5e, 0xc9, 0x62]),
    Rgb([0xc8, 0xc0, 0x20]),
];

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub [u8; 3]);

impl Rgb {
    /// As in `#0072b2`.
    pub fn hex(self) -> String {
        let Rgb([red, green, blue]) = self;
        format!("#{red:02x}{green:02x}{blue:02x}")
    }

    /// What it is for, if it is neither a curve's nor an area's.
    pub fn role(self) -> Option<&'static str> {
        let roles = [(INK, "ink"), (FAINT_INK, "faint"), (FRAME, "frame"), (GRID, "grid"), (MINOR_GRID, "minor")];
        roles.into_iter().find(|role| role.0 == self).map(|role| role.1)
    }

    /// The colour a `share` of the way to another.
    pub(super) fn towards(self, other: Rgb, share: f32) -> Rgb {
        let channel = |at: usize| (self.0[at] as f32 * (1.0 - share) + other.0[at] as f32 * share).round() as u8;
        Rgb([channel(0), channel(1), channel(2)])
    }
}

/// Which part of a text lies at its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

/// One thing to paint; later ones cover earlier ones.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Mark {
    Line { points: Vec<[f32; 2]>, color: Rgb, width: f32, dashed: bool },
    Area { points: Vec<[f32; 2]>, color: Rgb },
    Dot { at: [f32; 2], radius: f32, color: Rgb },
    Text { at: [f32; 2], text: String, size: f32, color: Rgb, anchor: Anchor, strong: bool },
}

/// Marks and the size of the page they lie on; y grows downwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
    /// What to paint, in order.
    pub marks: Vec<Mark>,
}

/// Lays the chart out.
pub fn page(chart: &Chart) -> Page {
    let font = Font::new();
    let mut marks = Vec::new();
    let title = font.elided(&chart.title, TITLE_SIZE, WIDTH - LEFT - RIGHT);
    text(&mut marks, [LEFT, TOP + TITLE_SIZE * 0.5], &title, TITLE_SIZE, INK, Anchor::Start, true);
    let legend = chart.panels.iter().map(|panel| legend_width(panel, &font)).fold(0.0, f32::max);
    let shared = || chart.panels.iter().filter(|panel| panel.x_label.is_none());
    let all = shared().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
    let planes = shared().filter_map(|panel| panel.heat.as_ref()).flat_map(|heat| heat.x.iter().copied());
    let shared_axis = Axis::over(all.map(|point| point.0).chain(planes), Scale::Linear, 0.0);

    let mut top = TOP + TITLE_SPACE;
    for panel in &chart.panels {
        top += PANEL_TITLE_SPACE;
        let (right, height) = match &panel.heat {
            Some(_) => (LEFT + PLANE, PLANE),
            None => (WIDTH - RIGHT - legend, PANEL_HEIGHT),
        };
        let frame = Frame { left: LEFT, right, top, bottom: top + height };
        let values = panel.series.iter().flat_map(|series| &series.points).map(|point| point.1);
        let areas = panel.series.iter().any(|series| series.weight == Weight::Area);
        let y_axis = match &panel.heat {
            Some(heat) => Axis::over(heat.y.iter().copied(), Scale::Linear, 0.0),
            // Parts of a whole begin at nothing.
            None if areas => Axis::over(values.chain([0.0]), Scale::Linear, 0.0),
            None => Axis::over(values, panel.scale, 0.04),
        };
        let x_axis = if panel.x_label.is_some() { own_axis(panel) } else { shared_axis };
        let x_label = panel.x_label.as_ref().unwrap_or(&chart.x_label);
        Drawing { frame, x_axis, y_axis, font: &font, marks: &mut marks }.panel(panel, x_label);
        top = frame.bottom + PANEL_GAP;
        if panel.x_label.is_some() {
            let middle = [(frame.left + frame.right) / 2.0, frame.bottom + 44.0];
            text(&mut marks, middle, x_label, LABEL_SIZE, INK, Anchor::Middle, false);
            top += OWN_LABEL;
        }
    }
    let bottom = top - PANEL_GAP;
    if shared().next().is_some() {
        let middle = (LEFT + WIDTH - RIGHT - legend) / 2.0;
        text(&mut marks, [middle, bottom + 44.0], &chart.x_label, LABEL_SIZE, INK, Anchor::Middle, false);
    }
    Page { width: WIDTH, height: bottom + BOTTOM, marks }
}

/// The axis of a panel that shares none.
fn own_axis(panel: &Panel) -> Axis {
    let across = panel.series.iter().flat_map(|series| &series.points).map(|point| point.0);
    Axis::over(across.chain(panel.heat.iter().flat_map(|heat| heat.x.iter().copied())), Scale::Linear, 0.0)
}

pub(super) fn text(
    marks: &mut Vec<Mark>,
    at: [f32; 2],
    text: &str,
    size: f32,
    color: Rgb,
    anchor: Anchor,
    strong: bool,
) {
    marks.push(Mark::Text { at, text: text.into(), size, color, anchor, strong });
}

/// Name and last value of each curve that has a name.
fn legend_entries(panel: &Panel) -> Vec<(&Series, String)> {
    let full = panel.series.iter().filter(|series| series.weight != Weight::Pale);
    // The height of a stacked area is not its own value.
    let last = |series: &Series| match series.weight {
        Weight::Area => String::new(),
        _ => series.points.last().map_or(String::new(), |last| axis::value(last.1, panel.scale)),
    };
    full.map(|series| (series, last(series))).collect()
}

fn legend_width(panel: &Panel, font: &Font) -> f32 {
    let widths = legend_entries(panel).into_iter().map(|(series, value)| {
        font.width(&series.name, LABEL_SIZE) + font.width(&value, LABEL_SIZE) + LEGEND_GAP + SWATCH + 10.0
    });
    widths.fold(0.0, f32::max).min(LEGEND_WIDEST)
}

/// The rectangle that curves are drawn in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub left: f32,
    pub right: f32,
    pub top: f32,
    pub bottom: f32,
}

/// One panel being drawn.
pub(super) struct Drawing<'a> {
    pub frame: Frame,
    x_axis: Axis,
    y_axis: Axis,
    font: &'a Font,
    pub marks: &'a mut Vec<Mark>,
}

impl Drawing<'_> {
    fn panel(&mut self, panel: &Panel, x_label: &str) {
        let Frame { left, right, top, bottom } = self.frame;
        text(self.marks, [left, top - 10.0], &panel.title, PANEL_TITLE_SIZE, INK, Anchor::Start, true);
        self.grid();
        let colors = colors(panel);
        if let Some(heat) = &panel.heat {
            super::heat::draw(self, heat);
        }
        self.areas(panel, &colors);
        for (series, &color) in panel.series.iter().zip(&colors).filter(|series| series.0.weight != Weight::Area) {
            self.series(series, color);
        }
        self.non_finite(panel, x_label);
        self.line(vec![[left, top], [left, bottom], [right, bottom]], FRAME, 1.2, false);
        if panel.heat.is_none() && panel.series.iter().all(|series| series.points.is_empty()) {
            let middle = [(left + right) / 2.0, (top + bottom) / 2.0];
            text(self.marks, middle, "no data", LABEL_SIZE, FAINT_INK, Anchor::Middle, false);
        }
        self.legend(panel, &colors);
    }

    pub(super) fn line(&mut self, points: Vec<[f32; 2]>, color: Rgb, width: f32, dashed: bool) {
        self.marks.push(Mark::Line { points, color, width, dashed });
    }

    fn grid(&mut self) {
        let Frame { left, right, top, bottom } = self.frame;
        let color = |tick: &Tick| if tick.label.is_empty() { MINOR_GRID } else { GRID };
        for tick in self.y_axis.ticks(5) {
            let y = bottom + (top - bottom) * tick.at as f32;
            self.line(vec![[left, y], [right, y]], color(&tick), 1.0, false);
            let label = [left - 9.0, y + LABEL_SIZE * 0.36];
            text(self.marks, label, &tick.label, LABEL_SIZE, FAINT_INK, Anchor::End, false);
        }
        for tick in self.x_axis.ticks(8) {
            let x = left + (right - left) * tick.at as f32;
            self.line(vec![[x, top], [x, bottom]], color(&tick), 1.0, false);
            let label = [x, bottom + 9.0 + LABEL_SIZE];
            text(self.marks, label, &tick.label, LABEL_SIZE, FAINT_INK, Anchor::Middle, false);
        }
    }

    pub(super) fn at(&self, (x, y): (f64, f64)) -> [f32; 2] {
        let Frame { left, right, top, bottom } = self.frame;
        [left + (right - left) * self.x_axis.at(x) as f32, bottom + (top - bottom) * self.y_axis.at(y) as f32]
    }

    /// Each area between its curve and that of the one before it.
    fn areas(&mut self, panel: &Panel, colors: &[Rgb]) {
        let bottom = self.frame.bottom;
        let mut below: Option<Vec<[f32; 2]>> = None;
        for (series, &color) in panel.series.iter().zip(colors).filter(|series| series.0.weight == Weight::Area) {
            let finite = series.points.iter().filter(|point| point.0.is_finite() && point.1.is_finite());
            let above = thinned(finite.map(|&point| self.at(point)).collect());
            if above.is_empty() {
                continue;
            }
            let ends = [above[0], above[above.len() - 1]].map(|[x, _]| [x, bottom]);
            let floor = below.take().unwrap_or_else(|| ends.to_vec());
            let points = above.iter().copied().chain(floor.into_iter().rev()).collect();
            self.marks.push(Mark::Area { points, color });
            below = Some(above);
        }
    }

    fn series(&mut self, series: &Series, color: Rgb) {
        let (color, width) = match series.weight {
            Weight::Full | Weight::Area => (color, 1.9),
            Weight::Pale => (color.towards(Rgb([255; 3]), 0.68), 0.9),
        };
        let drawn = |point: &&(f64, f64)| point.0.is_finite();
        let points: Vec<(f64, f64)> = series.points.iter().filter(drawn).copied().collect();
        let dots = series.weight == Weight::Full && points.len() <= DOTTED;
        for stretch in points.split(|point| !point.1.is_finite()).filter(|stretch| !stretch.is_empty()) {
            let places: Vec<[f32; 2]> = stretch.iter().map(|&point| self.at(point)).collect();
            if dots || places.len() == 1 {
                self.marks.extend(places.iter().map(|&at| Mark::Dot { at, radius: 2.6, color }));
            }
            if places.len() > 1 {
                self.line(thinned(places), color, width, false);
            }
        }
    }

    /// Marks the first step at which some curve is not finite.
    fn non_finite(&mut self, panel: &Panel, x_label: &str) {
        let broken = panel.series.iter().flat_map(|series| &series.points);
        let broken = broken.filter(|point| point.0.is_finite() && !point.1.is_finite());
        let Some(first) = broken.map(|point| point.0).min_by(f64::total_cmp) else { return };
        let Frame { left, right, top, bottom } = self.frame;
        let [x, _] = self.at((first, 0.0));
        self.line(vec![[x, top], [x, bottom]], ALARM, 1.4, true);
        let (at, anchor) = if x > (left + right) / 2.0 { (x - 7.0, Anchor::End) } else { (x + 7.0, Anchor::Start) };
        let message = format!("not finite at {x_label} {}", axis::step(first));
        text(self.marks, [at, top + 15.0], &message, LABEL_SIZE, ALARM, anchor, false);
    }

    fn legend(&mut self, panel: &Panel, colors: &[Rgb]) {
        let entries = legend_entries(panel);
        let full = panel.series.iter().zip(colors).filter(|(series, _)| series.weight != Weight::Pale);
        let colors: Vec<Rgb> = full.map(|(_, &color)| color).collect();
        let rows = ((self.frame.bottom - self.frame.top) / LEGEND_ROW) as usize;
        // Of too many, the first and the last are named.
        let (head, tail) = if entries.len() <= rows { (entries.len(), 0) } else { (rows / 2, rows - 1 - rows / 2) };
        let left = self.frame.right + LEGEND_GAP;
        let mut y = self.frame.top + LEGEND_ROW * 0.5;
        for (at, (series, value)) in entries.iter().enumerate() {
            if at >= head && at < entries.len() - tail {
                if at == head {
                    let more = format!("… {} more", entries.len() - head - tail);
                    text(self.marks, [left + SWATCH, y + 4.5], &more, LABEL_SIZE, FAINT_INK, Anchor::Start, false);
                    y += LEGEND_ROW;
                }
                continue;
            }
            let width = if series.weight == Weight::Area { 10.0 } else { 2.6 };
            self.line(vec![[left, y], [left + SWATCH - 8.0, y]], colors[at], width, false);
            let value_width = self.font.width(value, LABEL_SIZE);
            let room = WIDTH - RIGHT / 2.0 - (left + SWATCH) - value_width - 10.0;
            let name = self.font.elided(&series.name, LABEL_SIZE, room);
            let value_at = left + SWATCH + self.font.width(&name, LABEL_SIZE) + 10.0;
            text(self.marks, [left + SWATCH, y + 4.5], &name, LABEL_SIZE, INK, Anchor::Start, false);
            text(self.marks, [value_at, y + 4.5], value, LABEL_SIZE, FAINT_INK, Anchor::Start, false);
            y += LEGEND_ROW;
        }
    }
}

/// The colour at a share of the way along the ramp.
pub(super) fn ramp(share: f32) -> Rgb {
    let along = share.clamp(0.0, 1.0) * (RAMP.len() - 1) as f32;
    let stop = (along as usize).min(RAMP.len() - 2);
    RAMP[stop].towards(RAMP[stop + 1], along - stop as f32)
}

/// A colour for each curve; a pale one has that of the full one after it.
fn colors(panel: &Panel) -> Vec<Rgb> {
    let full = panel.series.iter().filter(|series| series.weight != Weight::Pale).count();
    let mut next = 0;
    let mut color = |series: &Series| {
        let color = if full <= COLORS.len() {
            COLORS[next % COLORS.len()]
        } else {
            ramp(next.min(full - 1) as f32 / (full - 1) as f32)
        };
        next += (series.weight != Weight::Pale) as usize;
        color
    };
    panel.series.iter().map(&mut color).collect()
}

/// Keeps what can be seen of a line of very many points: of each half unit across, the first, lowest, highest and last.
fn thinned(places: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    const COLUMNS_PER_UNIT: f32 = 2.0;
    let rising = places.is_sorted_by(|a, b| a[0] <= b[0]);
    if !rising || places.len() as f32 <= 4.0 * COLUMNS_PER_UNIT * WIDTH {
        return places;
    }
    let mut kept = Vec::new();
    for column in places.chunk_by(|a, b| (a[0] * COLUMNS_PER_UNIT) as i64 == (b[0] * COLUMNS_PER_UNIT) as i64) {
        let by_height = |a: &usize, b: &usize| column[*a][1].total_cmp(&column[*b][1]);
        let (low, high) = ((0..column.len()).min_by(by_height), (0..column.len()).max_by(by_height));
        let mut seen = [0, low.unwrap_or(0), high.unwrap_or(0), column.len() - 1];
        seen.sort_unstable();
        kept.extend(
            seen.iter()
                .enumerate()
                .filter(|(at, index)| *at == 0 || seen[at - 1] != **index)
                .map(|(_, &index)| column[index]),
        );
    }
    kept
}
