//! Values over a plane: a cell of colour for each, lines of equal height, and a scale beside them.

use super::axis;
use super::layout::{Drawing, Frame, INK, LABEL_SIZE, Mark, Rgb, ramp, text};
use super::{Heat, Scale};
use crate::curves::layout::Anchor;

/// Lines of equal height.
const LEVELS: usize = 9;
const LINE: Rgb = Rgb([0xff, 0xff, 0xff]);

/// From 0 at the lowest to 1 at the highest, in equal steps of the logarithm of the height above the lowest.
struct Height {
    low: f64,
    span: f64,
}

impl Height {
    fn of(heat: &Heat) -> Height {
        let finite = || heat.values.iter().flatten().copied().filter(|value| value.is_finite());
        let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        Height { low, span: (high - low).max(f64::MIN_POSITIVE) }
    }

    fn share(&self, value: f64) -> f64 {
        (1.0 + (value - self.low) / self.span * 100.0).ln() / 101f64.ln()
    }

    fn value(&self, share: f64) -> f64 {
        self.low + ((share * 101f64.ln()).exp() - 1.0) / 100.0 * self.span
    }
}

pub(super) fn draw(drawing: &mut Drawing, heat: &Heat) {
    let height = Height::of(heat);
    if !height.low.is_finite() {
        return;
    }
    for (row, values) in heat.values.iter().enumerate().take(heat.y.len()) {
        for (column, &value) in values.iter().enumerate().take(heat.x.len()).filter(|cell| cell.1.is_finite()) {
            let ([left, right], [low, high]) = (around(&heat.x, column), around(&heat.y, row));
            let corners = [(left, low), (right, low), (right, high), (left, high)];
            let points = corners.map(|corner| drawing.at(corner)).to_vec();
            drawing.marks.push(Mark::Area { points, color: ramp(height.share(value) as f32) });
        }
    }
    for level in 1..LEVELS {
        contour(drawing, heat, height.value(level as f64 / LEVELS as f64));
    }
    scale(drawing, &height);
}

/// From half way to the position before to half way to the next one.
fn around(positions: &[f64], at: usize) -> [f64; 2] {
    let half = |a: usize, b: usize| (positions[a] + positions[b]) / 2.0;
    [half(at.saturating_sub(1), at), half(at, (at + 1).min(positions.len() - 1))]
}

/// The line of one height, cell by cell: where it crosses the sides of a square of four values.
fn contour(drawing: &mut Drawing, heat: &Heat, level: f64) {
    for row in 1..heat.y.len().min(heat.values.len()) {
        for column in 1..heat.x.len() {
            let corner = |r: usize, c: usize| {
                let value = heat.values[r].get(c).copied().unwrap_or(f64::NAN);
                (heat.x[c], heat.y[r], value)
            };
            let corners =
                [corner(row - 1, column - 1), corner(row - 1, column), corner(row, column), corner(row, column - 1)];
            if corners.iter().any(|corner| !corner.2.is_finite()) {
                continue;
            }
            let crossings: Vec<[f32; 2]> = (0..4)
                .filter_map(|side| {
                    let (a, b) = (corners[side], corners[(side + 1) % 4]);
                    let crosses = (a.2 < level) != (b.2 < level);
                    let share = (level - a.2) / (b.2 - a.2);
                    crosses.then(|| drawing.at((a.0 + share * (b.0 - a.0), a.1 + share * (b.1 - a.1))))
                })
                .collect();
            for pair in crossings.chunks_exact(2) {
                drawing.line(pair.to_vec(), LINE, 0.8, false);
            }
        }
    }
}

/// Colours with their values, beside the plane.
fn scale(drawing: &mut Drawing, height: &Height) {
    const STEPS: usize = 40;
    let Frame { right, top, bottom, .. } = drawing.frame;
    let (left, width) = (right + 26.0, 18.0);
    let y = |share: f32| bottom + (top - bottom) * share;
    for step in 0..STEPS {
        let (from, to) = (y(step as f32 / STEPS as f32), y((step + 1) as f32 / STEPS as f32));
        let points = vec![[left, from], [left + width, from], [left + width, to], [left, to]];
        drawing.marks.push(Mark::Area { points, color: ramp(step as f32 / (STEPS - 1) as f32) });
    }
    for mark in 0..=4 {
        let share = mark as f64 / 4.0;
        let label = axis::value(height.value(share), Scale::Linear);
        let at = [left + width + 8.0, y(share as f32) + LABEL_SIZE * 0.36];
        text(drawing.marks, at, &label, LABEL_SIZE, INK, Anchor::Start, false);
    }
}
