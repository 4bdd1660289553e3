//! A PNG picture brought to the form of a data set. Of any size it is scaled to the set's; a picture of one handwritten
//! digit is first brought to what the set's digits look like: values from 0 (paper) to 1 (ink).
//!
//! The set of 8×8 digits was made from 32×32 bitmaps that the digit fills from top to bottom; each of its values counts the ink in a
//! block of 4×4. So: grey, ink bright, cropped to the ink, scaled to the full height in the digit's own proportion
//! (within the widths of the set), and averaged over 8×8 blocks, thin lines strengthened. MNIST
//! scales digits to fit 20×20 and puts the middle of their ink into the middle of 28×28.

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
/// The mean of all values of MNIST.
const MNIST_INK: f32 = 0.13;
/// The longer side of a digit of MNIST.
const MNIST_SIDE: f32 = 20.0;
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
    opened(path.as_ref(), |colours, width| shrink(&grey(&colours), width))
}

/// Reads a PNG file as `channels`, `height` and `width` want it: one channel is grey, three are red, green and blue. A
/// picture of a `digit` is brought to what the digits of a set of that size look like.
///
/// # Errors
/// As [`read_digit`], or if there is no such number of channels.
pub fn read(
    path: impl AsRef<Path>,
    (channels, height, width): (usize, usize, usize),
    digit: bool,
) -> Result<Vec<f32>, PictureError> {
    opened(path.as_ref(), |colours, seen| match (channels, digit) {
        (1, true) if (height, width) == (SIDE, SIDE) => Ok(shrink(&grey(&colours), seen)?.to_vec()),
        (1, true) => centred(&grey(&colours), seen, (height, width)),
        (1, false) => Ok(scaled(&grey(&colours), seen, (height, width))),
        (3, _) => {
            let plane = |channel: usize| colours.iter().map(|colour| colour[channel]).collect::<Vec<_>>();
            Ok((0..3).flat_map(|channel| scaled(&plane(channel), seen, (height, width))).collect())
        }
        _ => Err("the network looks at another number of channels than 1 or 3"),
    })
}

fn opened<T>(
    path: &Path,
    read: impl FnOnce(Vec<[f32; 3]>, usize) -> Result<T, &'static str>,
) -> Result<T, PictureError> {
    let wrong = |problem: String| PictureError { path: path.into(), problem };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let (colours, width) = decode(&bytes).map_err(wrong)?;
    read(colours, width).map_err(|problem| wrong(problem.into()))
}

/// Red, green and blue from 0 to 1, and the width.
fn decode(bytes: &[u8]) -> Result<(Vec<[f32; 3]>, usize), String> {
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
    let colour = |pixel: &[u8], behind: f32| {
        let part = |at: usize| pixel[at] as f32 / 255.0;
        let (colour, cover) = match channels {
            1 => ([part(0); 3], 1.0),
            2 => ([part(0); 3], part(1)),
            3 => ([0, 1, 2].map(part), 1.0),
            _ => ([0, 1, 2].map(part), part(3)),
        };
        colour.map(|part| part * cover + behind * (1.0 - cover))
    };
    let on = |behind: f32| -> Vec<[f32; 3]> {
        data[..frame.buffer_size()].chunks_exact(channels).map(|pixel| colour(pixel, behind)).collect()
    };
    // A transparent background is paper: white, unless the ink itself is white.
    let white = on(1.0);
    let colours = if contrast(&grey(&white)) < LEAST_CONTRAST { on(0.0) } else { white };
    Ok((colours, width as usize))
}

/// How bright each pixel is.
fn grey(colours: &[[f32; 3]]) -> Vec<f32> {
    // Grey stays what it is, to the last bit.
    let light = |&[r, g, b]: &[f32; 3]| if r == g && g == b { r } else { 0.299 * r + 0.587 * g + 0.114 * b };
    colours.iter().map(light).collect()
}

fn contrast(grey: &[f32]) -> f32 {
    let (low, high) = grey.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    high - low
}

/// Where the ink of a digit is.
struct Ink {
    /// From 0 (paper) to 1.
    values: Vec<f32>,
    width: usize,
    /// Left and right, top and bottom of what is inked.
    x: (f32, f32),
    y: (f32, f32),
}

/// Tells ink from paper.
fn ink(grey: &[f32], width: usize) -> Result<Ink, &'static str> {
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
    let values: Vec<f32> = grey.iter().map(|v| (v - paper).abs() / most).collect();
    let inked = |at: &usize| values[*at] > INK;
    let range = |places: &mut dyn Iterator<Item = usize>| {
        let (low, high) = places.fold((usize::MAX, 0), |(low, high), at| (low.min(at), high.max(at + 1)));
        (low as f32, high as f32)
    };
    let x = range(&mut (0..values.len()).filter(inked).map(|at| at % width));
    let y = range(&mut (0..values.len()).filter(inked).map(|at| at / width));
    Ok(Ink { values, width, x, y })
}

/// Strengthens thin lines until there is as much ink as in the set.
fn strengthened(values: &[f32], wanted: f32) -> impl Iterator<Item = f32> {
    let mean = |gain: f32| values.iter().map(|value| (value * gain).min(1.0)).sum::<f32>() / values.len() as f32;
    let gain = (10..=(10.0 * MOST_GAIN) as usize).map(|tenth| tenth as f32 / 10.0).find(|&gain| mean(gain) >= wanted);
    let gain = gain.unwrap_or(MOST_GAIN);
    values.iter().map(move |value| (value * gain).clamp(0.0, 1.0))
}

/// Grey pixels of any size to the 8×8 of the set.
fn shrink(grey: &[f32], width: usize) -> Result<[f32; PIXELS], &'static str> {
    let Ink { values: ink, width, x: (left, right), y: (top, bottom) } = ink(grey, width)?;
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
    let mut strong = strengthened(&out, MEAN_INK);
    Ok(out.map(|_| strong.next().unwrap_or(0.0)))
}

/// A digit as MNIST has it: fit into 20 of 28 pixels, the middle of its ink in the middle.
fn centred(grey: &[f32], width: usize, (rows, columns): (usize, usize)) -> Result<Vec<f32>, &'static str> {
    let Ink { values, width, x, y } = ink(grey, width)?;
    let scale = (x.1 - x.0).max(y.1 - y.0) / (MNIST_SIDE * rows.min(columns) as f32 / 28.0);
    let sum = |place: &dyn Fn(usize) -> f32| values.iter().enumerate().map(|(at, v)| v * place(at)).sum::<f32>();
    let all = sum(&|_| 1.0);
    let middle = (sum(&|at| (at % width) as f32 + 0.5) / all, sum(&|at| (at / width) as f32 + 0.5) / all);
    let from = |middle: f32, place: usize, size: usize| middle + (place as f32 - size as f32 / 2.0) * scale;
    let out: Vec<f32> = (0..rows * columns)
        .map(|place| {
            let (left, top) = (from(middle.0, place % columns, columns), from(middle.1, place / columns, rows));
            area(&values, width, (left, left + scale), (top, top + scale)) / (scale * scale)
        })
        .collect();
    Ok(strengthened(&out, MNIST_INK).collect())
}

/// Any picture in another size, each pixel the mean of what it covers.
fn scaled(plane: &[f32], width: usize, (rows, columns): (usize, usize)) -> Vec<f32> {
    let (x, y) = (width as f32 / columns as f32, (plane.len() / width) as f32 / rows as f32);
    let pixel = |place: usize| {
        let (left, top) = ((place % columns) as f32 * x, (place / columns) as f32 * y);
        area(plane, width, (left, left + x), (top, top + y)) / (x * y)
    };
    (0..rows * columns).map(pixel).collect()
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

/// Rows of values as five shades of two characters each, a row a line.
pub fn shades(values: &[f32], width: usize) -> String {
    let shade = |value: &f32| ["  ", "░░", "▒▒", "▓▓", "██"][(value.clamp(0.0, 1.0) * 4.0).round() as usize];
    let rows = values.chunks(width.max(1)).map(|row| row.iter().map(shade).collect::<String>());
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
            let (colours, width) = decode(&png_of(&drawn(image, 240, dark), 240)).unwrap();
            let back = shrink(&grey(&colours), width).unwrap();
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let alike = dot(image, &back) / (dot(image, image) * dot(&back, &back)).sqrt();
            // Where a digit stood is lost: one a column off the middle is that much less alike.
            assert!(alike > 0.6, "image {index}: {alike}\n{}\n\n{}", shades(image, SIDE), shades(&back, SIDE));
            sum += alike;
        }
        assert!(sum / 100.0 > 0.85, "{}", sum / 100.0);
    }

    #[test]
    fn pictures_come_in_the_size_of_the_set() {
        // A dark cross on white, 60×40.
        let dark = |at: usize| (at % 60).abs_diff(30) < 4 || (at / 60).abs_diff(10) < 3;
        let image: Vec<u8> = (0..2400).map(|at| if dark(at) { 20 } else { 250 }).collect();
        let (colours, width) = decode(&png_of(&image, 60)).unwrap();
        let out = centred(&grey(&colours), width, (28, 28)).unwrap();
        let sum: f32 = out.iter().sum();
        let middle = |place: fn(usize) -> usize| {
            out.iter().enumerate().map(|(at, v)| v * (place(at) as f32 + 0.5)).sum::<f32>() / sum
        };
        assert!((middle(|at| at % 28) - 14.0).abs() < 0.5 && (middle(|at| at / 28) - 14.0).abs() < 0.7);
        let inked = |v: &f32| *v > 0.3;
        let wide = (0..28).filter(|x| (0..28).any(|y| inked(&out[y * 28 + x]))).count();
        assert!((19..=21).contains(&wide), "{wide}");
        let small = scaled(&[0.0, 0.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5], 4, (1, 2));
        assert_eq!(small, [0.25, 0.75]);
    }

    #[test]
    fn what_is_no_picture_of_a_digit_is_said() {
        let good = png_of(&drawn(Digits::load().unwrap().all.image(3), 120, true), 120);
        assert!(decode(b"hello").unwrap_err().contains("not a PNG"));
        assert!(decode(b"").is_err());
        for cut in (0..good.len()).step_by(7) {
            assert!(decode(&good[..cut]).is_err(), "{cut}");
        }
        let (colours, width) = decode(&png_of(&[200; 100], 10)).unwrap();
        assert!(shrink(&grey(&colours), width).unwrap_err().contains("nearly the same"));
        // A dot and a line are something, and end in numbers.
        let mut dot = [255u8; 100];
        dot[55] = 0;
        let (colours, width) = decode(&png_of(&dot, 10)).unwrap();
        assert!(shrink(&grey(&colours), width).unwrap().iter().all(|v| (0.0..=1.0).contains(v)));
        let (colours, width) = decode(&png_of(&[255, 0, 255], 3)).unwrap();
        assert!(shrink(&grey(&colours), width).unwrap().iter().all(|v| v.is_finite()));
    }
}
