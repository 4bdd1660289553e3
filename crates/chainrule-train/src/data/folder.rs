//! Folders of images: a folder a class, PNG and JPEG, all brought to one size and held in memory as bytes.
//!
//! With folders `train` and `test` inside, those are the parts; classes are the names of folders, sorted.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Arrays, DataError, Numbers, Targets};

/// The most pixels of one image.
const MAX_PIXELS: usize = 1 << 26;
/// The most pixels of a side.
const MAX_SIDE: usize = 1 << 14;

/// How images are brought to one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Height and width; without, all images must have the size of the first.
    pub size: Option<[usize; 2]>,
    /// 1 for grey, 3 for colours.
    pub channels: usize,
}

/// A decoded image: three bytes a pixel.
struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// Folders of classes: their names, sorted. None if there are no folders.
///
/// # Errors
/// If the folder cannot be read.
pub fn classes(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for path in entries(folder)? {
        if path.is_dir()
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
            && !name.starts_with('.')
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Whether there are folders of images in a folder.
pub fn is_set(folder: &Path) -> bool {
    let train = folder.join("train");
    let folder = if train.is_dir() { &train } else { folder };
    let has_images =
        |class: String| entries(&folder.join(class)).is_ok_and(|all| all.iter().any(|path| is_image(path)));
    classes(folder).is_ok_and(|all| all.into_iter().any(has_images))
}

/// All images of these classes: inputs `[channels, height, width]` from 0 to 1.
///
/// # Errors
/// If a class has no folder or no image, an image cannot be decoded, or sizes differ and none is given.
pub fn read(folder: &Path, names: &[String], mut form: Form) -> Result<Arrays, DataError> {
    if form.size.is_some_and(|size| size.iter().any(|side| !(1..=MAX_SIDE).contains(side))) {
        return Err(DataError::Setting(format!("size: height and width from 1 to {MAX_SIDE}")));
    }
    if ![1, 3].contains(&form.channels) {
        return Err(DataError::Setting(format!("channels = {}: 1 for grey or 3 for colours", form.channels)));
    }
    let given = form.size.is_some();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (class, name) in names.iter().enumerate() {
        let images: Vec<PathBuf> = entries(&folder.join(name))?.into_iter().filter(|path| is_image(path)).collect();
        if images.is_empty() {
            let what = format!("class {name}");
            let expected = "images .png, .jpg or .jpeg".into();
            let inside = DataError::Unexpected { what, expected, found: "none".into() };
            return Err(DataError::in_file(&folder.join(name), inside));
        }
        for path in images {
            let bytes = std::fs::read(&path).map_err(|error| DataError::io(&path, error))?;
            let in_file = |source| DataError::in_file(&path, source);
            let image = decode(&bytes).map_err(in_file)?;
            let size = *form.size.get_or_insert([image.height, image.width]);
            if !given && size != [image.height, image.width] {
                return Err(in_file(DataError::Unexpected {
                    what: "height and width".into(),
                    expected: format!("{size:?} as the first image has; or give size = [height, width]"),
                    found: format!("{:?}", [image.height, image.width]),
                }));
            }
            pixels.extend(image.to_form(size, form.channels));
            labels.push(class as i64);
        }
    }
    let [height, width] = form.size.ok_or_else(|| {
        let (what, expected) = ("folder of images".to_owned(), "a folder for each class".to_owned());
        DataError::in_file(folder, DataError::Unexpected { what, expected, found: "none".into() })
    })?;
    let targets = Targets::classes(labels, names.len())?;
    Arrays::new(Numbers::U8 { bytes: pixels, white: u8::MAX }, &[form.channels, height, width], targets)
}

/// What is in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |error| DataError::io(folder, error);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        all.push(entry.map_err(io)?.path());
    }
    all.sort();
    Ok(all)
}

fn is_image(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
    matches!(end.as_deref(), Some("png" | "jpg" | "jpeg")) && path.is_file()
}

/// Decodes a PNG or JPEG by its first bytes; transparency is left out.
fn decode(bytes: &[u8]) -> Result<Image, DataError> {
    let damaged = |what: &str, problem: String| DataError::Damaged { what: what.into(), problem };
    if bytes.starts_with(b"\x89PNG") {
        let limits = png::Limits { bytes: MAX_PIXELS * 8 };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let wrong = |error: png::DecodingError| damaged("PNG image", error.to_string());
        let mut reader = decoder.read_info().map_err(wrong)?;
        let (width, height) = (reader.info().width as usize, reader.info().height as usize);
        if width.saturating_mul(height) > MAX_PIXELS {
            return Err(damaged(
                "PNG image",
                format!("{width}×{height} pixels are more than the {MAX_PIXELS} that are read"),
            ));
        }
        let size = reader.output_buffer_size().ok_or_else(|| damaged("PNG image", "too large".into()))?;
        let mut data = vec![0; size];
        let frame = reader.next_frame(&mut data).map_err(wrong)?;
        let samples = frame.color_type.samples();
        let pixel = |pixel: &[u8]| if samples < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] };
        let rgb = data[..frame.buffer_size()].chunks_exact(samples).flat_map(pixel).collect();
        return Ok(Image { width, height, rgb });
    }
    if bytes.starts_with(b"\xff\xd8") {
        let options = DecoderOptions::default()
            .set_max_width(MAX_SIDE)
            .set_max_height(MAX_SIDE)
            .jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        let wrong = |error: zune_jpeg::errors::DecodeErrors| damaged("JPEG image", error.to_string());
        decoder.decode_headers().map_err(wrong)?;
        let (width, height) = decoder.dimensions().unwrap_or((0, 0));
        if width.saturating_mul(height) > MAX_PIXELS {
            return Err(damaged(
                "JPEG image",
                format!("{width}×{height} pixels are more than the {MAX_PIXELS} that are read"),
            ));
        }
        let rgb = decoder.decode().map_err(wrong)?;
        if rgb.len() != 3 * width * height || rgb.is_empty() {
            return Err(damaged("JPEG image", format!("{} bytes for {width}×{height} pixels", rgb.len())));
        }
        return Ok(Image { width, height, rgb });
    }
    Err(damaged("image", "neither PNG nor JPEG; save it as one of them".into()))
}

impl Image {
    /// Channel by channel, in this size: each pixel is the mean over the part of the image that it covers.
    fn to_form(&self, [height, width]: [usize; 2], channels: usize) -> Vec<u8> {
        let rows = covers(self.height, height);
        let columns = covers(self.width, width);
        let mut out = Vec::with_capacity(channels * height * width);
        for channel in 0..channels {
            for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
                let mut sum = 0.0;
                for (y, tall) in row {
                    for (x, wide) in column {
                        let at = 3 * (y * self.width + x);
                        let [r, g, b] = [0, 1, 2].map(|colour| self.rgb[at + colour] as f64);
                        let value = if channels == 1 { 0.299 * r + 0.587 * g + 0.114 * b } else { [r, g, b][channel] };
                        sum += tall * wide * value;
                    }
                }
                out.push(sum.round().clamp(0.0, 255.0) as u8);
            }
        }
        out
    }
}

/// For each of `to` cells over `from` pixels: the pixels it covers, with shares that add up to 1.
fn covers(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    let step = from as f64 / to as f64;
    let cell = |at: usize| {
        let (low, high) = (at as f64 * step, (at + 1) as f64 * step);
        let last = (high.ceil() as usize).min(from);
        let share = |pixel: usize| ((pixel as f64 + 1.0).min(high) - (pixel as f64).max(low)).max(0.0) / step;
        (low as usize..last).map(|pixel| (pixel, share(pixel))).collect()
    };
    (0..to).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Sheet};
    use proptest::prelude::*;

    /// A PNG file of one colour.
    fn png_of(width: usize, height: usize, colour: [u8; 3]) -> Vec<u8> {
        Sheet { width, height, rgb: colour.repeat(width * height) }.png().unwrap()
    }

    #[test]
    fn folders_are_classes_and_sizes_are_brought_together() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(!is_set(folder.path()));
        for class in ["red", "blue"] {
            std::fs::create_dir(at(class)).unwrap();
        }
        std::fs::write(at("red/a.png"), png_of(4, 6, [255, 0, 0])).unwrap();
        std::fs::write(at("red/notes.txt"), "no image").unwrap();
        assert!(is_set(folder.path()));
        let names = classes(folder.path()).unwrap();
        assert_eq!(names, ["blue", "red"]);
        let form = Form { size: None, channels: 3 };
        let error = read(folder.path(), &names, form).unwrap_err().to_string();
        assert!(error.contains("class blue: expected images .png, .jpg or .jpeg, found none"), "{error}");
        std::fs::write(at("blue/b.PNG"), png_of(3, 3, [0, 0, 255])).unwrap();
        let set = read(folder.path(), &names, Form { size: Some([2, 2]), channels: 3 }).unwrap();
        let batch = set.batch(&[0, 1], None).unwrap();
        assert_eq!((batch.input().shape(), batch.target().to_vec::<i64>()), (&[2, 3, 2, 2][..], vec![0, 1]));
        let sums = batch.input().sum([2isize, 3]).to_vec::<f32>();
        assert_eq!(sums, [0.0, 0.0, 4.0, 4.0, 0.0, 0.0]);
        let grey = read(folder.path(), &names, Form { size: Some([1, 1]), channels: 1 }).unwrap();
        assert_eq!(grey.batch(&[1], None).unwrap().input().to_vec::<f32>(), [76.0 / 255.0]);
        std::fs::write(at("blue/c.jpg"), b"\xff\xd8\xff nothing").unwrap();
        let error = read(folder.path(), &names, form).unwrap_err().to_string();
        assert!(error.contains("c.jpg: JPEG image: "), "{error}");
    }

    #[test]
    fn smaller_images_are_means_of_what_they_cover() {
        let rgb = (0..9u8).flat_map(|n| [n * 20; 3]).collect();
        let image = Image { width: 3, height: 3, rgb };
        assert_eq!(image.to_form([1, 1], 1), [80]);
        assert_eq!(image.to_form([3, 3], 1), (0..9).map(|n| n * 20).collect::<Vec<u8>>());
        for (from, to) in [(3, 2), (2, 7), (28, 5), (1, 1)] {
            let cells = covers(from, to);
            assert!(cells.iter().all(|cell| (cell.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..3) {
            let good = png_of(5, 4, [9, 8, 7]);
            match kind {
                1 => bytes.splice(0..0, [0xff, 0xd8, 0xff, 0xe0]).for_each(drop),
                2 => bytes.splice(0..0, good[..good.len() / 2].iter().copied()).for_each(drop),
                _ => {}
            }
            let _ = decode(&bytes);
        }
    }
}
