//! Any bytes are a file of tensors or an error.
#![no_main]
use chainrule::tree::{load_tensors, save_tensors};
use libfuzzer_sys::fuzz_target;
use std::cell::OnceCell;

thread_local! {
    static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() };
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().unwrap());
        let path = folder.path().join("tensors");
        // The length of the header is what a fuzzer is slowest to find, so half of the inputs get a true one.
        let header = bytes.iter().rposition(|&byte| byte == b'}').map_or(0, |end| end + 1);
        for whole in [bytes.to_vec(), [&(header as u64).to_le_bytes()[..], bytes].concat()] {
            std::fs::write(&path, &whole).unwrap();
            if let Ok(tensors) = load_tensors(&path) {
                save_tensors(&tensors, folder.path().join("again")).unwrap();
                let again = load_tensors(folder.path().join("again")).unwrap();
                assert_eq!(tensors.len(), again.len());
                for (name, tensor) in &tensors {
                    assert_eq!(tensor.storage().unwrap().bytes(), again[name].storage().unwrap().bytes());
                }
            }
        }
    });
});
