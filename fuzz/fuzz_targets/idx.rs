//! Any bytes are an IDX array or an error.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = chainrule_train::idx::read(bytes) {
        assert!(!error.to_string().is_empty());
    }
});
