//! The folder of one run: `<root>/<name>-<number>/` with `run.json`, `config.json`, `metrics.jsonl` and artefacts.
//!
//! A file is written whole or not at all: under another name, synced, then renamed. Metrics grow by whole lines; a line
//! that a kill cut off is dropped when the run goes on. Only one process trains a run: it holds the system's lock on a
//! file of the folder, which ends with the process, however that ends.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const ABOUT: &str = "run.json";
const CONFIG: &str = "config.json";
const METRICS: &str = "metrics.jsonl";
const LOCK: &str = "train.lock";
const MAX_NAME: usize = 100;

/// What went wrong with a run folder, at which path, and what would help.
#[derive(Debug, Error)]
pub enum RunError {
    /// The name of a run cannot be a folder's name everywhere.
    #[error("run name {name:?}: {problem}; use letters, digits, '-', '_' and '.', at most {MAX_NAME}, not '.' first")]
    Name {
        /// The name given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The name of an artefact leads out of the run folder.
    #[error("artefact {name:?} would not lie in the run folder; use a relative path without '..'")]
    Artefact {
        /// The name given.
        name: String,
    },
    /// The system refused an action on a file or folder.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried, as in `create`.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value cannot be written as JSON.
    #[error("cannot write {} as JSON: {source}", path.display())]
    Encode {
        /// The file it was meant for.
        path: PathBuf,
        /// What the encoder said.
        source: serde_json::Error,
    },
    /// A file does not hold the JSON that is expected in it.
    #[error("{}, line {line}: {source}; correct the line, or remove it", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the decoder said.
        source: serde_json::Error,
    },
    /// There is no run to be found.
    #[error("no {}run in {}; train one first, or name another folder", name.as_ref().map(|n| format!("{n:?} ")).unwrap_or_default(), root.display())]
    NoRun {
        /// The folder of runs.
        root: PathBuf,
        /// The name looked for, if any.
        name: Option<String>,
    },
    /// The folder is not one that [`RunFolder::create`] made.
    #[error("{} is not a run folder: it has no {ABOUT}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// Another process, or another part of this one, trains the run.
    #[error("{} is being trained by {}; wait for its end, or stop it (Ctrl-C saves it)", path.display(), process.map_or("another process".into(), |id| format!("process {id}")))]
    Busy {
        /// The folder.
        path: PathBuf,
        /// Which, if it can be told.
        process: Option<u32>,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space: what was there before is untouched",
        ErrorKind::PermissionDenied => "; check the owner and the rights of the folder",
        ErrorKind::ReadOnlyFilesystem => "; choose a folder that can be written",
        ErrorKind::NotADirectory => "; a part of the path is a file",
        _ => "",
    }
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Io { action, path: path.into(), source }
}

/// Replaces the file at `path` by `bytes`, or leaves it as it was.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), RunError> {
    write_atomic_with(path, |out| out.write_all(bytes))
}

/// Replaces the file at `path` by what `fill` writes, or leaves it as it was; for contents too large to hold twice.
///
/// The new file is synced before it takes the name, so that not even a power cut leaves half of it.
pub fn write_atomic_with(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), RunError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = path.as_ref();
    let failed = io_error("write", path);
    let Some(name) = path.file_name() else {
        return Err(failed(io::Error::new(ErrorKind::InvalidInput, "the path names no file")));
    };
    let suffix = format!(".{}-{}.partial", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let partial = Partial(path.with_file_name([".".as_ref(), name, suffix.as_ref()].join("".as_ref())));
    let file = OpenOptions::new().write(true).create_new(true).open(&partial.0).map_err(&failed)?;
    let mut out = BufWriter::new(file);
    fill(&mut out).and_then(|()| out.flush()).map_err(&failed)?;
    out.get_ref().sync_all().map_err(&failed)?;
    drop(out);
    fs::rename(&partial.0, path).map_err(&failed)?;
    sync_folder(path).map_err(&failed)
}

/// The unfinished file; removed unless it was renamed away.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes the new name itself durable, where folders can be synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// What `run.json` says of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The name it was given.
    pub name: String,
    /// Its number among the runs of that name, from 1.
    pub number: u64,
    /// When it was created, in milliseconds since 1970 (UTC).
    pub created_ms: u64,
    /// The version of this crate that created it.
    pub version: String,
}

/// The folder of one run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
    about: About,
    /// The locked file, where this is the one who trains.
    claim: Option<Arc<File>>,
}

/// They are equal if they are of one run.
impl PartialEq for RunFolder {
    fn eq(&self, other: &RunFolder) -> bool {
        (&self.path, &self.about) == (&other.path, &other.about)
    }
}

impl Eq for RunFolder {}

impl RunFolder {
    /// Creates `<root>/<name>-<number>/`, with the number after the highest there. Two processes never get the same.
    pub fn create(root: impl AsRef<Path>, name: &str) -> Result<RunFolder, RunError> {
        let root = root.as_ref();
        check_name(name)?;
        fs::create_dir_all(root).map_err(io_error("create", root))?;
        let mut number = highest_number(root, name)?.saturating_add(1);
        let path = loop {
            let path = root.join(format!("{name}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < u64::MAX => number += 1,
                Err(error) => return Err(io_error("create", &path)(error)),
            }
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let about = About {
            name: name.into(),
            number,
            created_ms: now.as_millis() as u64,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let run = RunFolder { path, about, claim: None };
        if let Err(error) = run.write_json(ABOUT, &run.about) {
            // A full disk must not leave a folder that is no run.
            let _ = fs::remove_dir(&run.path);
            return Err(error);
        }
        Ok(run)
    }

    /// Opens a run that exists.
    pub fn open(path: impl Into<PathBuf>) -> Result<RunFolder, RunError> {
        let path = path.into();
        match read_json(&path.join(ABOUT)) {
            Ok(about) => Ok(RunFolder { path, about, claim: None }),
            Err(RunError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && path.is_dir() => {
                Err(RunError::NotARun { path })
            }
            Err(error) => Err(error),
        }
    }

    /// The same folder for the one who trains it, until this and all clones of it are gone. Asking a run needs no claim.
    ///
    /// The lock is the system's: it ends with the process, so that none is left by one that was killed.
    ///
    /// ```
    /// use chainrule_train::run::{RunError, RunFolder};
    /// let root = tempfile::tempdir()?;
    /// let run = RunFolder::create(root.path(), "mlp")?.claimed()?;
    /// let other = RunFolder::open(run.path())?;
    /// assert!(matches!(other.clone().claimed(), Err(RunError::Busy { .. })));
    /// drop(run);
    /// other.claimed()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RunError::Busy`] if somebody else has it.
    pub fn claimed(self) -> Result<RunFolder, RunError> {
        if self.claim.is_some() {
            return Ok(self);
        }
        let path = self.path.join(LOCK);
        let failed = io_error("lock", &path);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(&failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(RunError::Busy { path: self.path, process });
            }
            // A file system without locks keeps nobody from training.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let id = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(id.as_bytes())).map_err(&failed)?;
        Ok(RunFolder { claim: Some(Arc::new(file)), ..self })
    }

    /// All runs in `root`, oldest first. Folders that are not runs are passed over; no folder at all is no runs.
    pub fn list(root: impl AsRef<Path>) -> Result<Vec<RunFolder>, RunError> {
        let mut runs = Vec::new();
        for path in entries(root.as_ref())? {
            if path.join(ABOUT).is_file() {
                runs.push(RunFolder::open(path)?);
            }
        }
        runs.sort_by(|a, b| {
            let key = |run: &RunFolder| (run.about.created_ms, run.about.number);
            key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
        });
        Ok(runs)
    }

    /// The run in `root` created last, of those with this name if one is given.
    pub fn latest(root: impl AsRef<Path>, name: Option<&str>) -> Result<RunFolder, RunError> {
        let root = root.as_ref();
        let mut runs = RunFolder::list(root)?.into_iter().rev();
        runs.find(|run| name.is_none_or(|name| run.about.name == name))
            .ok_or_else(|| RunError::NoRun { root: root.into(), name: name.map(Into::into) })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name, number and time of creation.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Writes the configuration, as JSON for the eye.
    pub fn write_config(&self, config: &impl Serialize) -> Result<(), RunError> {
        self.write_json(CONFIG, config)
    }

    /// Reads the configuration back.
    pub fn read_config<T: DeserializeOwned>(&self) -> Result<T, RunError> {
        read_json(&self.path.join(CONFIG))
    }

    /// Writes any file of the run whole or not at all; `name` may have folders, which are made. Gives its path.
    pub fn write_artefact(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, RunError> {
        let mut parts = Path::new(name).components();
        if name.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(RunError::Artefact { name: name.into() });
        }
        let path = self.path.join(name);
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        write_atomic(&path, bytes)?;
        Ok(path)
    }

    /// Opens the metrics for appending. A last line without an end, left by a kill, is cut off.
    pub fn metrics(&self) -> Result<MetricsWriter, RunError> {
        let mut file = Growing::open(self.path.join(METRICS))?;
        let length = whole_lines(&mut file.file).map_err(io_error("read", &file.path))?;
        file.cut(length)?;
        Ok(MetricsWriter(file))
    }

    /// Opens the metrics as they were when they had so many bytes; what came after is cut off.
    ///
    /// # Errors
    /// If they are shorter than that.
    pub fn metrics_until(&self, length: u64) -> Result<MetricsWriter, RunError> {
        self.lines_until(METRICS, length)
    }

    /// Opens a file of lines beside the metrics as it was when it had so many bytes.
    pub(crate) fn lines_until(&self, name: &str, length: u64) -> Result<MetricsWriter, RunError> {
        let mut file = Growing::open(self.path.join(name))?;
        file.cut(length)?;
        Ok(MetricsWriter(file))
    }

    /// Reads all metrics lines. A last line without an end is passed over, as it may still be being written.
    pub fn read_metrics<T: DeserializeOwned>(&self) -> Result<Vec<T>, RunError> {
        self.read_lines(METRICS)
    }

    /// Reads all lines of a file beside the metrics, as [`RunFolder::read_metrics`] does.
    pub fn read_lines<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, RunError> {
        let path = self.path.join(name);
        let failed = io_error("read", &path);
        let mut reader = BufReader::new(File::open(&path).map_err(&failed)?);
        let (mut records, mut line, mut number) = (Vec::new(), Vec::new(), 0);
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(&failed)?;
            if line.pop() != Some(b'\n') {
                return Ok(records);
            }
            number += 1;
            let decoded = serde_json::from_slice(&line);
            records.push(decoded.map_err(|source| RunError::Decode { path: path.clone(), line: number, source })?);
        }
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RunError> {
        let path = self.path.join(name);
        let mut bytes =
            serde_json::to_vec_pretty(value).map_err(|source| RunError::Encode { path: path.clone(), source })?;
        bytes.push(b'\n');
        write_atomic(path, &bytes)
    }
}

/// Appends metrics, one JSON line a record. Each line reaches the system before `append` returns, so a kill loses none.
#[derive(Debug)]
pub struct MetricsWriter(Growing);

impl MetricsWriter {
    /// Appends one record. After an error the file is as before it. For fields that may become NaN, see
    /// [`crate::metrics::nan_as_null`].
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), RunError> {
        let mut line =
            serde_json::to_vec(record).map_err(|source| RunError::Encode { path: self.0.path.clone(), source })?;
        line.push(b'\n');
        self.0.append(&line)
    }

    /// Makes what was appended durable, and says how long the file is.
    pub fn sync(&self) -> Result<u64, RunError> {
        self.0.sync()
    }
}

/// A file that only grows, and can be cut back to what it was.
#[derive(Debug)]
pub(crate) struct Growing {
    path: PathBuf,
    file: File,
    length: u64,
    /// How long it was when it was last made durable.
    durable: Cell<Option<u64>>,
}

impl Growing {
    /// Opens it, or makes it, to go on at its end.
    pub(crate) fn open(path: PathBuf) -> Result<Growing, RunError> {
        let failed = io_error("open", &path);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(&failed)?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Growing { path, file, length, durable: Cell::new(None) })
    }

    /// How long it is.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Cuts off what lies behind so many bytes.
    pub(crate) fn cut(&mut self, length: u64) -> Result<(), RunError> {
        if length > self.length {
            let problem = format!("it has {} bytes, and the checkpoint was written when it had {length}", self.length);
            return Err(io_error("go on with", &self.path)(io::Error::new(ErrorKind::InvalidData, problem)));
        }
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        cut.map_err(io_error("cut", &self.path))?;
        self.length = length;
        self.durable.set(None);
        Ok(())
    }

    /// Appends all of it or, after an error, nothing.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), RunError> {
        if let Err(error) = self.file.write_all(bytes) {
            let back = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            drop(back);
            return Err(io_error("append to", &self.path)(error));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Makes it durable, and says how long it is.
    pub(crate) fn sync(&self) -> Result<u64, RunError> {
        // That takes milliseconds, for nothing too.
        if self.durable.get() != Some(self.length) {
            self.file.sync_data().map_err(io_error("sync", &self.path))?;
            self.durable.set(Some(self.length));
        }
        Ok(self.length)
    }
}

fn check_name(name: &str) -> Result<(), RunError> {
    let wrong = |problem| Err(RunError::Name { name: name.into(), problem });
    match name {
        "" => wrong("it is empty"),
        _ if name.len() > MAX_NAME => wrong("it is too long"),
        _ if name.starts_with('.') => wrong("it begins with '.'"),
        _ if name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) => Ok(()),
        _ => wrong("it has a character that not every system allows"),
    }
}

/// The highest number of a folder `<name>-<number>`, finished or not; 0 if there is none.
fn highest_number(root: &Path, name: &str) -> Result<u64, RunError> {
    let number = |path: &PathBuf| {
        let digits = path.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix('-')?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    Ok(entries(root)?.iter().filter_map(number).max().unwrap_or(0))
}

fn entries(root: &Path) -> Result<Vec<PathBuf>, RunError> {
    let failed = io_error("list", root);
    match fs::read_dir(root) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(&failed)?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| RunError::Decode { path: path.into(), line: source.line(), source })
}

/// The length of a file up to the end of its last whole line.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 1 << 16;
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.clear();
        file.seek(SeekFrom::Start(start))?;
        (&*file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|&b| b == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Line {
        step: u64,
        #[serde(with = "crate::metrics::nan_as_null")]
        loss: f64,
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn runs_are_numbered_listed_and_found() {
        let root = tempfile::tempdir().unwrap();
        let runs = root.path().join("deep/runs");
        assert!(RunFolder::list(&runs).unwrap().is_empty());
        let first = RunFolder::create(&runs, "mlp").unwrap();
        assert_eq!((first.path(), first.about().number), (runs.join("mlp-1").as_path(), 1));
        fs::create_dir(runs.join("mlp-7")).unwrap();
        fs::create_dir(runs.join("mlp-x")).unwrap();
        let eighth = RunFolder::create(&runs, "mlp").unwrap();
        assert_eq!(eighth.about().number, 8);
        let other = RunFolder::create(&runs, "mlp-7").unwrap();
        assert_eq!(other.path(), runs.join("mlp-7-1"));
        assert_eq!(RunFolder::list(&runs).unwrap().len(), 3);
        assert_eq!(RunFolder::latest(&runs, Some("mlp")).unwrap(), eighth);
        assert_eq!(RunFolder::open(eighth.path()).unwrap(), eighth);
        assert!(RunFolder::latest(&runs, Some("cnn")).unwrap_err().to_string().starts_with("no \"cnn\" run in "));
        assert!(matches!(RunFolder::open(runs.join("mlp-7")).unwrap_err(), RunError::NotARun { .. }));
    }

    #[test]
    fn names_that_are_no_folder_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "a/b", "a\\b", "é", "a b", "con:", &"x".repeat(101)] {
            assert!(matches!(RunFolder::create(root.path(), name), Err(RunError::Name { .. })), "{name}");
        }
        let run = RunFolder::create(root.path(), "ok").unwrap();
        for name in ["", "..", "../x", "/etc/x", "a/../../x"] {
            assert!(matches!(run.write_artefact(name, b""), Err(RunError::Artefact { .. })), "{name}");
        }
        assert!(run.write_artefact("plots/loss.svg", b"<svg/>").unwrap().ends_with("ok-1/plots/loss.svg"));
    }

    #[test]
    fn configuration_comes_back_and_a_broken_one_is_named() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::create(root.path(), "a").unwrap();
        run.write_config(&Line { step: 3, loss: 0.5 }).unwrap();
        assert_eq!(run.read_config::<Line>().unwrap(), Line { step: 3, loss: 0.5 });
        fs::write(run.path().join(CONFIG), "{\n\"step\": x}").unwrap();
        assert!(run.read_config::<Line>().unwrap_err().to_string().contains("config.json, line 2: "));
    }

    #[test]
    fn metrics_survive_a_cut_line_and_nan() {
        let root = tempfile::tempdir().unwrap();
        let run = RunFolder::create(root.path(), "a").unwrap();
        let mut metrics = run.metrics().unwrap();
        metrics.append(&Line { step: 1, loss: 0.5 }).unwrap();
        metrics.append(&Line { step: 2, loss: f64::NAN }).unwrap();
        // As after a kill in the middle of a line, longer than a block.
        let path = run.path().join(METRICS);
        let torn = format!("{}{{\"step\":{}", fs::read_to_string(&path).unwrap(), "3".repeat(70_000));
        fs::write(&path, torn).unwrap();
        assert_eq!(run.read_metrics::<Line>().unwrap().len(), 2);
        run.metrics().unwrap().append(&Line { step: 3, loss: 0.25 }).unwrap();
        let lines = run.read_metrics::<Line>().unwrap();
        assert!(lines[1].loss.is_nan());
        assert_eq!(lines[2], Line { step: 3, loss: 0.25 });
        fs::write(&path, "{\"step\":1,\"loss\":1}\n{}\n").unwrap();
        assert!(run.read_metrics::<Line>().unwrap_err().to_string().contains("metrics.jsonl, line 2: "));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model.bin");
        write_atomic(&path, b"old").unwrap();
        let full = write_atomic_with(&path, |out| {
            out.write_all(&[1; 100_000])?;
            Err(ErrorKind::StorageFull.into())
        });
        assert!(full.unwrap_err().to_string().contains("free some space"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A folder in the way makes the rename fail.
        fs::create_dir_all(root.path().join("folder/x")).unwrap();
        assert!(write_atomic(root.path().join("folder"), b"x").is_err());
        assert!(write_atomic(root.path().join("model.bin/x"), b"x").is_err());
        assert!(write_atomic("/", b"x").is_err());
        assert_eq!(names(root.path()), ["folder", "model.bin"]);
    }
}
