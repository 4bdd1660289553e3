//! Any bytes are a table or an error, as Parquet and as CSV; Parquet is given its first and last bytes.
#![no_main]
use chainrule_train::data::table::{parse_csv, parse_parquet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The description is as long as the fuzzer says, or all there is.
    let length = (bytes.len() as u32).to_le_bytes();
    let whole = [b"PAR1", bytes, &length, b"PAR1"].concat();
    let framed = [b"PAR1", bytes, b"PAR1"].concat();
    for table in [parse_parquet(&whole, &[]), parse_parquet(&framed, &[]), parse_csv(bytes, &[])] {
        if let Err(error) = table {
            assert!(!error.to_string().is_empty());
        }
    }
});
