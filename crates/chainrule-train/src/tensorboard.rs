//! Scalars as TensorBoard event files: `tensorboard --logdir runs` shows them.
//!
//! A file is a chain of TFRecords, each a length, a message, and a checksum of either; the messages are protocol buffers
//! of TensorFlow's `Event`, of which scalars need four fields. No images, no histograms, no graph.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::run::{Growing, RunError};
use crate::task::Numbers;

/// How many bytes are gathered before they are written.
const BUFFER: usize = 1 << 16;

/// Appends scalars to an event file.
#[derive(Debug)]
pub struct EventWriter {
    file: Growing,
    pending: Vec<u8>,
}

impl EventWriter {
    /// Opens a file whose name must contain `tfevents`. Of one that exists, at most `keep` bytes stay.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: impl Into<PathBuf>, keep: u64) -> Result<EventWriter, RunError> {
        let mut file = Growing::open(path.into())?;
        file.cut(keep.min(file.length()))?;
        let mut writer = EventWriter { file, pending: Vec::new() };
        if writer.file.length() == 0 {
            writer.event(|event| field(event, 3, b"brain.Event:2"));
        }
        Ok(writer)
    }

    /// The numbers of a step, each under a prefix and its name.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn scalars(&mut self, step: u64, prefix: &str, numbers: &Numbers) -> Result<(), RunError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut summary = Vec::new();
        for (name, number) in numbers.iter() {
            let mut value = Vec::new();
            field(&mut value, 1, format!("{prefix}{name}").as_bytes());
            value.push(2 << 3 | 5);
            value.extend((number as f32).to_le_bytes());
            field(&mut summary, 1, &value);
        }
        self.event(|event| {
            event.push(2 << 3);
            varint(event, step);
            field(event, 5, &summary);
        });
        if self.pending.len() > BUFFER { self.flush() } else { Ok(()) }
    }

    /// Hands all of it to the system.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<(), RunError> {
        self.file.append(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Makes it durable, and says how long the file is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn sync(&mut self) -> Result<u64, RunError> {
        self.flush()?;
        self.file.sync()
    }

    fn event(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut event = vec![1 << 3 | 1];
        event.extend(now.as_secs_f64().to_le_bytes());
        fill(&mut event);
        record(&mut self.pending, &event);
    }
}

/// A TFRecord.
fn record(out: &mut Vec<u8>, message: &[u8]) {
    let length = (message.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked(&length).to_le_bytes());
    out.extend(message);
    out.extend(masked(message).to_le_bytes());
}

/// The checksum as the format wants it: turned, and moved by a constant.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A field of bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, the lowest first; the high bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of a file, after their checksums were checked.
    fn messages(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut at, mut found) = (0, Vec::new());
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(word(at + 8), masked(&bytes[at..at + 8]));
            let message = &bytes[at + 12..at + 12 + length];
            assert_eq!(word(at + 12 + length), masked(message));
            found.push(message.to_vec());
            at += 16 + length;
        }
        found
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents.1");
        let numbers = Numbers(vec![("loss".into(), 0.5), ("rate".into(), f64::NAN)]);
        let mut writer = EventWriter::open(&path, 0).unwrap();
        writer.scalars(300, "train/", &numbers).unwrap();
        let length = writer.sync().unwrap();
        writer.scalars(301, "train/", &numbers).unwrap();
        writer.sync().unwrap();
        drop(writer);
        // From there again: what came after is gone, and no second version is written.
        EventWriter::open(&path, length).unwrap().sync().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, length);
        let found = messages(&bytes);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0][9..], *b"\x1a\x0dbrain.Event:2");
        let mut expected = b"\x10\xac\x02\x2a\x26\x0a\x11\x0a\x0atrain/loss\x15".to_vec();
        expected.extend(0.5f32.to_le_bytes());
        expected.extend(b"\x0a\x11\x0a\x0atrain/rate\x15");
        expected.extend(f32::NAN.to_le_bytes());
        assert_eq!(found[1][9..], expected);
        // The published check value of CRC-32C, turned and moved.
        assert_eq!(masked(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }
}
