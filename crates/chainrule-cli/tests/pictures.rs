//! A picture of a digit, through the command: a network trained on a set in MNIST's form reads a PNG file.

use std::fs;
use std::path::Path;
use std::process::Command;

use chainrule_train::digits::{Digits, Examples};
use serde_json::Value;

fn page(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chainrule"));
    let output =
        command.current_dir(folder).args(arguments).env("NO_COLOR", "1").env_remove("CHAINRULE_DATA").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&page(folder, &[arguments, &["--json"]].concat())).unwrap()
}

/// A digit of 8×8, drawn 20×20 in the middle of 28×28, ink bright.
fn enlarged(digit: &[f32]) -> Vec<u8> {
    let ink = |row: usize, column: usize| match (row.wrapping_sub(4), column.wrapping_sub(4)) {
        (row @ 0..20, column @ 0..20) => (255.0 * digit[row * 8 / 20 * 8 + column * 8 / 20]) as u8,
        _ => 0,
    };
    (0..28 * 28).map(|place| ink(place / 28, place % 28)).collect()
}

/// The files of a part of MNIST, from the digits inside.
fn write_part(folder: &Path, stem: &str, examples: &Examples) {
    let header = |kind: u8, sizes: &[u32]| {
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
        [0, 0, 8, kind].into_iter().chain(sizes).collect::<Vec<u8>>()
    };
    let count = examples.len() as u32;
    let images = (0..examples.len()).flat_map(|index| enlarged(examples.image(index)));
    let images = header(3, &[count, 28, 28]).into_iter().chain(images).collect::<Vec<u8>>();
    let labels = examples.labels.iter().map(|&label| label as u8);
    let labels = header(1, &[count]).into_iter().chain(labels).collect::<Vec<u8>>();
    fs::write(folder.join(format!("{stem}-images-idx3-ubyte")), images).unwrap();
    fs::write(folder.join(format!("{stem}-labels-idx1-ubyte")), labels).unwrap();
}

/// A digit as a camera has it: each pixel of the 28×28 five wide, dark on light paper, not in the middle.
fn write_picture(path: &Path, digit: &[f32]) {
    let (width, height) = (230usize, 190usize);
    let pixels = enlarged(digit);
    let shade = |row: usize, column: usize| match (row.checked_sub(30), column.checked_sub(70)) {
        (Some(row), Some(column)) if row < 140 && column < 140 => 235 - pixels[row / 5 * 28 + column / 5] / 5 * 4,
        _ => 235,
    };
    let shades: Vec<u8> = (0..width * height).map(|place| shade(place / width, place % width)).collect();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), width as u32, height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&shades).unwrap();
}

const FILE: &str = r#"
[data]
set = "mnist"
[model]
layers = ["flatten", { linear = 48 }, "relu", { linear = "classes" }]
[optimizer]
name = "adam"
rate = 3e-3
[train]
epochs = 5
batch = 32
[report]
metrics = ["accuracy"]
"#;

#[test]
fn a_picture_of_a_digit_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let digits = Digits::load().unwrap();
    let test = digits.test();
    fs::create_dir_all(at.join("data/mnist")).unwrap();
    write_part(&at.join("data/mnist"), "train", &digits.train());
    write_part(&at.join("data/mnist"), "t10k", &test);
    fs::write(at.join("reader.toml"), FILE).unwrap();
    json(at, &["train", "reader.toml"]);
    let measured = json(at, &["evaluate", "runs/reader-1"]);
    assert!(measured["numbers"]["accuracy"].as_f64().unwrap() > 0.9, "{measured}");
    assert_eq!(measured["examples"], 359);
    // The data are gone; the run and a picture are enough.
    fs::remove_dir_all(at.join("data")).unwrap();
    let mut right = 0;
    for label in 0..10 {
        let index = test.labels.iter().position(|&other| other == label).unwrap();
        write_picture(&at.join("digit.png"), test.image(index));
        let told = json(at, &["predict", "runs/reader-1", "--image", "digit.png"]);
        let (class, name) = (&told["class"]["class"], &told["class"]["name"]);
        assert_eq!(name.as_str().unwrap(), class.to_string());
        right += u32::from(*class == label);
    }
    assert!(right >= 8, "{right} of 10 pictures are read right");
    let page = page(at, &["predict", "runs/reader-1", "--image", "digit.png"]);
    assert!(page.contains("as the network sees it, 28×28") && page.contains("it is read as"), "{page}");
}
