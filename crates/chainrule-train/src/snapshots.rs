//! Weights of a training at some of its steps, for those who want to see how they went: few, and evenly spaced.
//!
//! They lie in the run's folder `weights/`, a file each, named by the step. Checkpoints are another matter: nothing goes on
//! from these, so the training does not wait until the disk has them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use chainrule::tree::{self, TensorFileError, Tree};

use crate::run::RunFolder;

/// The folder of them in a run folder.
pub const WEIGHTS: &str = "weights";
/// Kept of a training, where they are small.
const MOST: usize = 16;
/// Bytes that all of them may take; two are kept however large they are.
const BYTES: usize = 256 << 20;

/// The kept weights of a run.
#[derive(Debug)]
pub struct Snapshots {
    folder: PathBuf,
    /// After how many steps, the oldest first.
    steps: Vec<u64>,
    most: usize,
    gap: u64,
    writing: Option<JoinHandle<Result<(), TensorFileError>>>,
}

impl Snapshots {
    /// Of a training of so many steps in all, that has taken `step` of them, with so many bytes of weights. Those of later
    /// steps, which a training that was gone on with takes again, are removed.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_train::run::RunFolder;
    /// use chainrule_train::snapshots::Snapshots;
    /// let root = tempfile::tempdir()?;
    /// let run = RunFolder::create(root.path(), "a")?;
    /// let mut kept = Snapshots::open(&run, 0, 100, 8)?;
    /// for step in 0..=100 {
    ///     if kept.is_due(step) {
    ///         kept.keep(step, &Tensor::from([1.0f32, 2.0]))?;
    ///     }
    /// }
    /// kept.finish()?;
    /// let steps: Vec<u64> = Snapshots::list(&run)?.into_iter().map(|kept| kept.0).collect();
    /// assert_eq!((steps.len(), steps[0], steps[1]), (15, 0, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn open(run: &RunFolder, step: u64, steps: u64, bytes: usize) -> io::Result<Snapshots> {
        let most = (BYTES / bytes.max(1)).clamp(2, MOST);
        let mut before = Vec::new();
        for (kept, path) in Snapshots::list(run)? {
            match kept <= step {
                true => before.push(kept),
                false => fs::remove_file(path)?,
            }
        }
        let gap = steps.div_ceil(most as u64 - 1).max(1);
        Ok(Snapshots { folder: run.path().join(WEIGHTS), steps: before, most, gap, writing: None })
    }

    /// Whether those after so many steps are to be kept.
    pub fn is_due(&self, step: u64) -> bool {
        self.steps.last().is_none_or(|last| step >= last + self.gap)
    }

    /// Keeps the weights after so many steps, written by a thread of their own.
    ///
    /// # Errors
    /// If those before could not be written.
    pub fn keep(&mut self, step: u64, model: &impl Tree) -> Result<(), TensorFileError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |error| TensorFileError::Io(path, error)
        };
        self.finish()?;
        fs::create_dir_all(&self.folder).map_err(failed(&self.folder))?;
        if self.steps.len() >= self.most {
            // A training that became longer: every second one makes room.
            let (stay, go) = self.steps.iter().enumerate().partition::<Vec<_>, _>(|(place, _)| place % 2 == 0);
            for (_, step) in go {
                let path = self.path(*step);
                fs::remove_file(&path).map_err(failed(&path))?;
            }
            self.steps = stay.into_iter().map(|(_, step)| *step).collect();
            self.gap *= 2;
        }
        let path = self.path(step);
        let leaves = tree::named_leaves(model).into_iter().map(|(name, _, leaf)| (name, leaf)).collect();
        self.writing = Some(thread::spawn(move || tree::save_tensors(&leaves, path)));
        self.steps.push(step);
        Ok(())
    }

    /// Waits until all are written.
    ///
    /// # Errors
    /// If the last could not be written.
    pub fn finish(&mut self) -> Result<(), TensorFileError> {
        let written = self.writing.take().map(JoinHandle::join);
        // A panic in there is one here.
        written.map_or(Ok(()), |written| written.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{step:08}.safetensors"))
    }

    /// The weights that a run has, by their steps.
    ///
    /// # Errors
    /// If the folder cannot be read; one that is not there has none.
    pub fn list(run: &RunFolder) -> io::Result<Vec<(u64, PathBuf)>> {
        let entries = match fs::read_dir(run.path().join(WEIGHTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let step = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".safetensors")?.parse().ok());
            found.extend(step.map(|step| (step, path)));
        }
        found.sort();
        Ok(found)
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        // The process must not end in the middle of a file.
        let _ = self.writing.take().map(JoinHandle::join);
    }
}
