//! Any bytes in the files of a run are read or refused: its description, its configuration, its metrics.
#![no_main]
use chainrule_train::run::RunFolder;
use libfuzzer_sys::fuzz_target;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

thread_local! {
    static RUN: OnceCell<(tempfile::TempDir, PathBuf, Vec<PathBuf>)> = const { OnceCell::new() };
}

fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

fuzz_target!(|input: (u8, &[u8])| {
    RUN.with(|run| {
        let (_root, path, files) = run.get_or_init(|| {
            let root = tempfile::tempdir().unwrap();
            let run = RunFolder::create(root.path(), "fuzz").unwrap();
            run.write_config(&serde_json::json!({"rate": 0.1, "layers": [3, 4]})).unwrap();
            run.metrics().unwrap().append(&serde_json::json!({"step": 1, "loss": 0.5})).unwrap();
            let path = run.path().to_path_buf();
            let files = files(&path);
            (root, path, files)
        });
        let file = &files[input.0 as usize % files.len()];
        let before = std::fs::read(file).unwrap();
        std::fs::write(file, input.1).unwrap();
        if let Ok(run) = RunFolder::open(path) {
            let _ = run.read_config::<serde_json::Value>();
            let _ = run.read_metrics::<serde_json::Value>();
        }
        std::fs::write(file, before).unwrap();
    });
});
