//! Thrift's compact protocol, as Parquet describes itself in it: read into values of which nothing is trusted yet.
//!
//! Formats: thrift-compact-protocol.md of Apache Thrift. A value is refused if it ends too early or is nested deeper than
//! any description is; who reads it asks for fields by number and gets `None` where they are missing or of another type.

use super::damaged;
use crate::data::DataError;

/// Deeper than any description of a table.
const MOST_DEPTH: usize = 24;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Flag(bool),
    Integer(i64),
    Bytes(&'a [u8]),
    List(Vec<Value<'a>>),
    Struct(Vec<(i16, Value<'a>)>),
    /// Of a type that nothing here asks for.
    Other,
}

impl<'a> Value<'a> {
    /// A field of a struct.
    pub fn field(&self, id: i16) -> Option<&Value<'a>> {
        match self {
            Value::Struct(fields) => fields.iter().find(|field| field.0 == id).map(|field| &field.1),
            _ => None,
        }
    }

    pub fn integer(&self, id: i16) -> Option<i64> {
        match self.field(id) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// A number that counts or measures something.
    pub fn count(&self, id: i16) -> Option<usize> {
        self.integer(id).and_then(|number| usize::try_from(number).ok())
    }

    pub fn flag(&self, id: i16) -> Option<bool> {
        match self.field(id) {
            Some(Value::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    pub fn text(&self, id: i16) -> Option<&'a str> {
        match self.field(id) {
            Some(Value::Bytes(bytes)) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub fn list(&self, id: i16) -> &[Value<'a>] {
        match self.field(id) {
            Some(Value::List(values)) => values,
            _ => &[],
        }
    }
}

/// Bytes on their way.
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next so many.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DataError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| damaged("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, DataError> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A length of four bytes, the least first.
    pub fn length(&mut self) -> Result<usize, DataError> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte)))
    }

    /// Seven bits a byte, the least first.
    pub fn varint(&mut self) -> Result<u64, DataError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number is longer than 64 bits"))
    }

    /// Signed, as 0, −1, 1, −2, ….
    fn zigzag(&mut self) -> Result<i64, DataError> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A struct with all that is in it.
    pub fn structure(&mut self) -> Result<Value<'a>, DataError> {
        self.value(12, 0)
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<Value<'a>, DataError> {
        if depth > MOST_DEPTH {
            return Err(damaged("its description is nested too deep"));
        }
        Ok(match kind {
            1 | 2 => Value::Flag(kind == 1),
            3 => Value::Integer(i64::from(self.byte()? as i8)),
            4..=6 => Value::Integer(self.zigzag()?),
            7 => {
                self.take(8)?;
                Value::Other
            }
            8 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                Value::List(self.values(head & 15, count, depth)?)
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                for _ in 0..count {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 15, depth)?;
                }
                Value::Other
            }
            12 => self.fields(depth)?,
            other => return Err(damaged(&format!("its description has a value of the unknown type {other}"))),
        })
    }

    /// Every element takes a byte at least, so that a count that lies ends the file.
    fn values(&mut self, kind: u8, count: u64, depth: usize) -> Result<Vec<Value<'a>>, DataError> {
        (0..count).map(|_| self.element(kind, depth)).collect()
    }

    /// In lists a flag is a byte of its own.
    fn element(&mut self, kind: u8, depth: usize) -> Result<Value<'a>, DataError> {
        match kind {
            1 | 2 => Ok(Value::Flag(self.byte()? == 1)),
            _ => self.value(kind, depth + 1),
        }
    }

    fn fields(&mut self, depth: usize) -> Result<Value<'a>, DataError> {
        let (mut fields, mut id) = (Vec::new(), 0i16);
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(Value::Struct(fields));
            }
            id = match head >> 4 {
                0 => self.zigzag()? as i16,
                step => id.wrapping_add(i16::from(step)),
            };
            fields.push((id, self.value(head & 15, depth + 1)?));
        }
    }
}
