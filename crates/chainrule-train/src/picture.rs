//! A picture of one handwritten digit, as PNG, brought to the form of the data set: 8×8 values from 0 (paper) to 1 (ink).
//!
//! The set was made from 32×32 bitmaps that the digit fills from top to bottom; each of its values counts the ink in a
//! block of 4×4. So: grey, ink bright, cropped to the ink, scaled to the full height in the digit's own proportion
//! (within the widths of the set), and averaged over 8×8 blocks, thin lines strengthened.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digits::{PIXELS, SIDE};

/// The most pixels that are read.
const MAX_PIXELS: u64 = 1 << 26;
/// The least difference between paper and ink, of 1.
const LEAST_CONTRAST: f32 = 0.1;
/// What counts as ink when a picture is cropped: this share of the way from paper to the darkest ink.
const INK: f32 = 0.35;
/// The widest a digit gets: the columns that digits take in the set.
const MAX_WIDTH: f32 = 7.0;
/// The narrowest: ones of the set take up five columns in the mean, and seldom fewer than this.
const MIN_WIDTH: f32 = 4.0;
/// The mean of all values of the set: pens are thick there.
const MEAN_INK: f32 = 0.305;
/// The most that thin lines are strengthened.
const MOST_GAIN: f32 = 4.0;

/// What is wrong with a picture.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct PictureError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Reads a PNG file and brings its digit to 8×8.
///
/// # Errors
/// If the file cannot be read, is no PNG or a damaged one, or shows nothing.
pub fn read_digit(path: impl AsRef<Path>) -> Result<[f32; PIXELS], PictureError> {
    let path = path.as_ref();
    let wrong = |problem: String| PictureError { path: path.into(), problem };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let (grey, width) = decode(&bytes).map_err(wrong)?;
    shrink(&grey, width).map_err(|problem| wrong(problem.into()))
}

/// The pixels as grey from 0 to 1, and the width.
fn decode(bytes: &[u8]) -> Result<(Vec<f32>, usize), String> {
    let damaged = |error: png::DecodingError| match error {
        png::DecodingError::Format(_) if !bytes.starts_with(b"\x89PNG") => "not a PNG file; save it as PNG".to_owned(),
        error => format!("not a usable PNG file: {error}"),
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: MAX_PIXELS as usize * 8 });
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = (reader.info().width as u64, reader.info().height as u64);
    if width * height > MAX_PIXELS {
        return Err(format!("{width}×{height} pixels are too many; {MAX_PIXELS} are read: make it smaller"));
    }
    let size = reader.output_buffer_size().ok_or("too large to read")?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(damaged)?;
    let channels = frame.color_type.samples();
    let light = |pixel: &[u8], behind: f32| {
        let part = |at: usize| pixel[at] as f32 / 255.0;
        let (grey, cover) = match channels {
            1 => (part(0), 1.0),
            2 => (part(0), part(1)),
            3 => (0.299 * part(0) + 0.587 * part(1) + 0.114 * part(2), 1.0),
            _ => (0.299 * part(0) + 0.587 * part(1) + 0.114 * part(2), part(3)),
        };
        grey * cover + behind * (1.0 - cover)
    };
    let on = |behind: f32| -> Vec<f32> {
        data[..frame.buffer_size()].chunks_exact(channels).map(|pixel| light(pixel, behind)).collect()
    };
    // A transparent background is paper: white, unless the ink itself is white.
    let white = on(1.0);
    let grey = if contrast(&white) < LEAST_CONTRAST { on(0.0) } else { white };
    Ok((grey, width as usize))
}

fn contrast(grey: &[f32]) -> f32 {
    let (low, high) = grey.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    high - low
}

/// Grey pixels of any size to the 8×8 of the set.
fn shrink(grey: &[f32], width: usize) -> Result<[f32; PIXELS], &'static str> {
    let height = grey.len() / width.max(1);
    if grey.is_empty() || contrast(grey) < LEAST_CONTRAST {
        return Err("there is no digit to see: all pixels are nearly the same");
    }
    // Paper is what most of the border shows; ink is what is far from it.
    let edge =
        |at: usize| at.is_multiple_of(width) || at % width == width - 1 || at / width == 0 || at / width == height - 1;
    let mut border: Vec<f32> = (0..grey.len()).filter(|&at| edge(at)).map(|at| grey[at]).collect();
    border.sort_by(f32::total_cmp);
    let paper = border[border.len() / 2];
    let most = grey.iter().fold(0f32, |most, v| most.max((v - paper).abs()));
    let ink: Vec<f32> = grey.iter().map(|v| (v - paper).abs() / most).collect();
    let inked = |at: &usize| ink[*at] > INK;
    let range = |places: &mut dyn Iterator<Item = usize>| {
        let (low, high) = places.fold((usize::MAX, 0), |(low, high), at| (low.min(at), high.max(at + 1)));
        (low as f32, high as f32)
    };
    let (left, right) = range(&mut (0..ink.len()).filter(inked).map(|at| at % width));
    let (top, bottom) = range(&mut (0..ink.len()).filter(inked).map(|at| at / width));
    // The digit fills the height; its width is its own, between those of a one and of a broad zero.
    let side = SIDE as f32;
    let tall = bottom - top;
    let wide = ((right - left) / tall * side).clamp(MIN_WIDTH, MAX_WIDTH);
    let (x_scale, y_scale) = ((right - left) / wide, tall / side);
    let margin = (side - wide) / 2.0;
    let mut out = [0f32; PIXELS];
    for (place, value) in out.iter_mut().enumerate() {
        let (column, row) = ((place % SIDE) as f32, (place / SIDE) as f32);
        let x = |column: f32| (left + (column - margin) * x_scale).clamp(left, right);
        let y = |row: f32| top + row * y_scale;
        let seen = area(&ink, width, (x(column), x(column + 1.0)), (y(row), y(row + 1.0)));
        *value = seen / (x_scale * y_scale);
    }
    // Thin lines are strengthened until there is as much ink as in the set.
    let mean = |gain: f32| out.iter().map(|value| (value * gain).min(1.0)).sum::<f32>() / PIXELS as f32;
    let gain = (10..=(10.0 * MOST_GAIN) as usize).map(|tenth| tenth as f32 / 10.0).find(|&gain| mean(gain) >= MEAN_INK);
    let gain = gain.unwrap_or(MOST_GAIN);
    Ok(out.map(|value| (value * gain).clamp(0.0, 1.0)))
}

/// The ink in a rectangle, pixels on its edge counted in part.
fn area(ink: &[f32], width: usize, (x0, x1): (f32, f32), (y0, y1): (f32, f32)) -> f32 {
    let height = ink.len() / width;
    let part = |cell: usize, low: f32, high: f32| ((cell as f32 + 1.0).min(high) - (cell as f32).max(low)).max(0.0);
    let mut sum = 0.0;
    for row in y0 as usize..(y1.ceil() as usize).min(height) {
        for column in x0 as usize..(x1.ceil() as usize).min(width) {
            sum += ink[row * width + column] * part(row, y0, y1) * part(column, x0, x1);
        }
    }
    sum
}

/// 8×8 values as five shades of two characters each, a row a line.
pub fn shades(values: &[f32]) -> String {
    let shade = |value: &f32| ["  ", "░░", "▒▒", "▓▓", "██"][(value.clamp(0.0, 1.0) * 4.0).round() as usize];
    let rows = values.chunks(SIDE).map(|row| row.iter().map(shade).collect::<String>());
    rows.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digits::Digits;

    fn png_of(grey: &[u8], width: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, grey.len() as u32 / width);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(grey).unwrap();
        bytes
    }

    /// A digit of the set drawn large: dark on light or light on dark, somewhere in a larger picture.
    fn drawn(image: &[f32], side: usize, dark: bool) -> Vec<u8> {
        let scale = side / 12;
        let value = |at: usize| {
            let (x, y) = ((at % side / scale).checked_sub(3), (at / side / scale).checked_sub(2));
            let inside = x.zip(y).filter(|&(x, y)| x < SIDE && y < SIDE);
            let ink = inside.map_or(0.0, |(x, y)| image[y * SIDE + x]);
            (if dark { 250.0 - 230.0 * ink } else { 10.0 + 240.0 * ink }) as u8
        };
        (0..side * side).map(value).collect()
    }

    #[test]
    fn digits_of_the_set_come_back_from_a_larger_picture() {
        let digits = Digits::load().unwrap();
        let mut sum = 0.0;
        for (index, dark) in (0..100).zip([true, false].into_iter().cycle()) {
            let image = digits.all.image(index);
            let (grey, width) = decode(&png_of(&drawn(image, 240, dark), 240)).unwrap();
            let back = shrink(&grey, width).unwrap();
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let alike = dot(image, &back) / (dot(image, image) * dot(&back, &back)).sqrt();
            // Where a digit stood is lost: one a column off the middle is that much less alike.
            assert!(alike > 0.6, "image {index}: {alike}\n{}\n\n{}", shades(image), shades(&back));
            sum += alike;
        }
        assert!(sum / 100.0 > 0.85, "{}", sum / 100.0);
    }

    #[test]
    fn what_is_no_picture_of_a_digit_is_said() {
        let good = png_of(&drawn(Digits::load().unwrap().all.image(3), 120, true), 120);
        assert!(decode(b"hello").unwrap_err().contains("not a PNG"));
        assert!(decode(b"").is_err());
        for cut in (0..good.len()).step_by(7) {
            assert!(decode(&good[..cut]).is_err(), "{cut}");
        }
        let (grey, width) = decode(&png_of(&[200; 100], 10)).unwrap();
        assert!(shrink(&grey, width).unwrap_err().contains("nearly the same"));
        // A dot and a line are something, and end in numbers.
        let mut dot = [255u8; 100];
        dot[55] = 0;
        let (grey, width) = decode(&png_of(&dot, 10)).unwrap();
        assert!(shrink(&grey, width).unwrap().iter().all(|v| (0.0..=1.0).contains(v)));
        let (grey, width) = decode(&png_of(&[255, 0, 255], 3)).unwrap();
        assert!(shrink(&grey, width).unwrap().iter().all(|v| v.is_finite()));
    }
}
