//! Paints a page with tiny-skia and writes it as a PNG file of 8-bit RGB.

use std::io::Write;

use flate2::{Compression, Crc, write::ZlibEncoder};
use tiny_skia::{Color, FillRule, LineJoin, Paint, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

use super::CurvesError;
use super::font::{Font, Pen};
use super::layout::{Anchor, Mark, Page, Rgb};

/// Pixels to a unit of the page.
const RATIO: f32 = 2.0;
/// The most pixels on a side.
const MAX_SIDE: u32 = 1 << 14;

/// The file.
pub fn write(page: &Page) -> Result<Vec<u8>, CurvesError> {
    let [width, height] = [page.width, page.height].map(|side| (side * RATIO).ceil());
    let too_large = CurvesError::TooLarge { width: width as u64, height: height as u64, max: MAX_SIDE };
    if width.max(height) > MAX_SIDE as f32 {
        return Err(too_large);
    }
    let mut picture = Pixmap::new(width as u32, height as u32).ok_or(too_large)?;
    picture.fill(Color::WHITE);
    let font = Font::new();
    for mark in &page.marks {
        paint(&mut picture, mark, &font);
    }
    Ok(encode(&picture))
}

fn paint(picture: &mut Pixmap, mark: &Mark, font: &Font) {
    let scale = Transform::from_scale(RATIO, RATIO);
    let mut path = PathBuilder::new();
    match mark {
        Mark::Line { points, color, width, dashed } => {
            for (at, [x, y]) in points.iter().enumerate() {
                if at == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }
            }
            let dash = if *dashed { StrokeDash::new(vec![5.0, 4.0], 0.0) } else { None };
            let stroke = Stroke { width: *width, line_join: LineJoin::Round, dash, ..Stroke::default() };
            if let Some(path) = path.finish() {
                picture.stroke_path(&path, &solid(*color), &stroke, scale, None);
            }
        }
        Mark::Area { points, color } => {
            for (at, [x, y]) in points.iter().enumerate() {
                if at == 0 { path.move_to(*x, *y) } else { path.line_to(*x, *y) }
            }
            path.close();
            if let Some(path) = path.finish() {
                picture.fill_path(&path, &solid(*color), FillRule::Winding, scale, None);
            }
        }
        Mark::Dot { at: [x, y], radius, color } => {
            path.push_circle(*x, *y, *radius);
            if let Some(path) = path.finish() {
                picture.fill_path(&path, &solid(*color), FillRule::Winding, scale, None);
            }
        }
        Mark::Text { at: [x, y], text, size, color, anchor, strong } => {
            let shift = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => 0.5,
                Anchor::End => 1.0,
            };
            font.outline(text, *size, x - shift * font.width(text, *size), *y, &mut Outline(&mut path));
            if let Some(path) = path.finish() {
                picture.fill_path(&path, &solid(*color), FillRule::Winding, scale, None);
                // The font has one weight; a thin outline makes it a stronger one.
                if *strong {
                    let stroke = Stroke { width: size * 0.04, ..Stroke::default() };
                    picture.stroke_path(&path, &solid(*color), &stroke, scale, None);
                }
            }
        }
    }
}

fn solid(Rgb([red, green, blue]): Rgb) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, 255);
    paint
}

struct Outline<'a>(&'a mut PathBuilder);

impl Pen for Outline<'_> {
    fn move_to(&mut self, [x, y]: [f32; 2]) {
        self.0.move_to(x, y);
    }
    fn line_to(&mut self, [x, y]: [f32; 2]) {
        self.0.line_to(x, y);
    }
    fn quad_to(&mut self, [x1, y1]: [f32; 2], [x, y]: [f32; 2]) {
        self.0.quad_to(x1, y1, x, y);
    }
    fn cubic_to(&mut self, [[x1, y1], [x2, y2]]: [[f32; 2]; 2], [x, y]: [f32; 2]) {
        self.0.cubic_to(x1, y1, x2, y2, x, y);
    }
    fn close(&mut self) {
        self.0.close();
    }
}

/// PNG as in RFC 2083: signature, header, one compressed run of rows, end. The picture is opaque.
fn encode(picture: &Pixmap) -> Vec<u8> {
    const RGB_8_BITS: [u8; 5] = [8, 2, 0, 0, 0];
    const NO_FILTER: u8 = 0;
    let mut header = [picture.width().to_be_bytes(), picture.height().to_be_bytes()].concat();
    header.extend(RGB_8_BITS);
    let mut rows = Vec::with_capacity(picture.data().len());
    for row in picture.data().chunks_exact(picture.width() as usize * 4) {
        rows.push(NO_FILTER);
        rows.extend(row.chunks_exact(4).flat_map(|pixel| &pixel[..3]));
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let packed = encoder.write_all(&rows).and_then(|()| encoder.finish()).expect("compression to memory");

    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", &header), (b"IDAT", &packed), (b"IEND", &Vec::new())] {
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(data);
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(kind);
        out.extend(data);
        out.extend(crc.sum().to_be_bytes());
    }
    out
}
