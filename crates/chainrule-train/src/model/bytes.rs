//! Sizes of memory as people write them.

/// `500MB`, `1.5GiB`, `4096` as a number of bytes.
///
/// # Errors
/// If the text is no size; the sentence says how one is written.
///
/// ```
/// use chainrule_train::model::parse_bytes;
/// assert_eq!(parse_bytes("1.5GiB"), Ok(1_610_612_736));
/// assert!(parse_bytes("much").unwrap_err().contains("500MB"));
/// ```
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is no size; write 500MB, 2GB, 1.5GiB or a number of bytes");
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1048576.0,
        "gib" => 1073741824.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number * scale;
    if bytes.is_finite() && (1.0..1e18).contains(&bytes) { Ok(bytes as usize) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_bytes("500MB"), Ok(500_000_000));
        assert_eq!(parse_bytes("1.5GiB"), Ok(1_610_612_736));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for wrong in ["", "MB", "-1MB", "5 apples", "0", "nan", "1e30GB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
