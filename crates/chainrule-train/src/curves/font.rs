//! The one font: widths for the layout, outlines for the PNG. A subset of DejaVu Sans; see `data/README.md`.

use ttf_parser::{Face, OutlineBuilder};

static FONT: &[u8] = include_bytes!("../../data/curves-font.ttf");

/// The font, read.
pub struct Font(Face<'static>);

impl Font {
    /// Reads the embedded font.
    pub fn new() -> Font {
        Font(Face::parse(FONT, 0).expect("the embedded font is whole"))
    }

    /// How wide a text is at this size.
    pub fn width(&self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.advance(c)).sum::<f32>() * self.scale(size)
    }

    /// The text, or its ends around a '…' where it is wider than allowed.
    pub fn elided(&self, text: &str, size: f32, allowed: f32) -> String {
        if self.width(text, size) <= allowed {
            return text.into();
        }
        let ellipsis = '…';
        let mut left = allowed / self.scale(size) - self.advance(ellipsis);
        let (mut head, mut tail) = (String::new(), Vec::new());
        let mut chars = text.chars();
        loop {
            let from_front = head.chars().count() <= tail.len();
            let Some(c) = (if from_front { chars.next() } else { chars.next_back() }) else { break };
            left -= self.advance(c);
            if left < 0.0 {
                break;
            }
            if from_front { head.push(c) } else { tail.push(c) }
        }
        head.push(ellipsis);
        head.extend(tail.into_iter().rev());
        head
    }

    /// Gives the outlines of a text to `pen`, its baseline beginning at (x, y), y downwards.
    pub fn outline(&self, text: &str, size: f32, x: f32, y: f32, pen: &mut impl Pen) {
        let scale = self.scale(size);
        let mut placed = Placed { pen, scale, x, y };
        for c in text.chars() {
            self.0.outline_glyph(self.0.glyph_index(c).unwrap_or_default(), &mut placed);
            placed.x += self.advance(c) * scale;
        }
    }

    fn advance(&self, c: char) -> f32 {
        let glyph = self.0.glyph_index(c).unwrap_or_default();
        self.0.glyph_hor_advance(glyph).unwrap_or_default() as f32
    }

    fn scale(&self, size: f32) -> f32 {
        size / self.0.units_per_em() as f32
    }
}

/// Takes outlines; DejaVu has only quadratic curves, but the format knows cubic ones.
pub trait Pen {
    /// Begins a contour.
    fn move_to(&mut self, to: [f32; 2]);
    /// A straight line.
    fn line_to(&mut self, to: [f32; 2]);
    /// A quadratic curve.
    fn quad_to(&mut self, by: [f32; 2], to: [f32; 2]);
    /// A cubic curve.
    fn cubic_to(&mut self, by: [[f32; 2]; 2], to: [f32; 2]);
    /// Ends a contour.
    fn close(&mut self);
}

struct Placed<'a, P> {
    pen: &'a mut P,
    scale: f32,
    x: f32,
    y: f32,
}

impl<P> Placed<'_, P> {
    fn at(&self, x: f32, y: f32) -> [f32; 2] {
        [self.x + x * self.scale, self.y - y * self.scale]
    }
}

impl<P: Pen> OutlineBuilder for Placed<'_, P> {
    fn move_to(&mut self, x: f32, y: f32) {
        self.pen.move_to(self.at(x, y));
    }
    fn line_to(&mut self, x: f32, y: f32) {
        self.pen.line_to(self.at(x, y));
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.pen.quad_to(self.at(x1, y1), self.at(x, y));
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.pen.cubic_to([self.at(x1, y1), self.at(x2, y2)], self.at(x, y));
    }
    fn close(&mut self) {
        self.pen.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_of_the_labels_is_in_the_font() {
        let font = Font::new();
        for c in " 0123456789.,%−×⁰¹²³⁴⁵⁶⁷⁸⁹⁻…–πασé".chars() {
            assert!(font.0.glyph_index(c).is_some(), "{c}");
        }
    }

    #[test]
    fn a_long_text_keeps_its_ends() {
        let font = Font::new();
        let short = font.elided("blocks.3.attention.query.weight", 10.0, 100.0);
        assert!(short.starts_with("block") && short.ends_with("ight") && short.contains('…'), "{short}");
        assert!(font.width(&short, 10.0) <= 100.0);
        assert_eq!(font.elided("loss", 10.0, 100.0), "loss");
        assert_eq!(font.elided("loss", 10.0, -5.0), "…");
    }
}
