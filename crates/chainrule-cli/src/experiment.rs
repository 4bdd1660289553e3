//! What the commands over model files share: finding a model or a run by what was typed, and saying what went wrong.

use std::path::{Path, PathBuf};

use chainrule_train::experiment::{Experiment, ExperimentError, MODEL_FILE};
use chainrule_train::log::MODEL;
use chainrule_train::model::{Spec, find_recipe, with_setting};
use chainrule_train::run::{RunError, RunFolder};
use clap::Args;

use crate::outcome::Failure;

/// A run that is asked.
#[derive(Args, Debug)]
pub struct Asked {
    /// Folder of the run [default: the latest in --runs that has a model]
    pub run: Option<PathBuf>,
    /// Folder that runs are in
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub runs: PathBuf,
}

impl Asked {
    /// The run.
    pub fn open(&self) -> Result<RunFolder, Failure> {
        match &self.run {
            Some(path) => RunFolder::open(path),
            None => latest(&self.runs),
        }
        .map_err(Failure::input)
    }

    /// The run and the experiment that made it.
    pub fn experiment(&self) -> Result<(RunFolder, Experiment), Failure> {
        let run = self.open()?;
        let experiment = Experiment::open(&run).map_err(failure)?;
        Ok((run, experiment))
    }
}

/// The latest run with a model, or the latest one at all, which then says that it has none.
fn latest(runs: &Path) -> Result<RunFolder, RunError> {
    let all = RunFolder::list(runs)?;
    match all.into_iter().rev().find(|run| run.path().join(MODEL).exists()) {
        Some(run) => Ok(run),
        None => RunFolder::latest(runs, None),
    }
}

/// Whether a run was made from a model file.
pub fn is_experiment(run: &RunFolder) -> bool {
    run.path().join(MODEL_FILE).exists()
}

/// What lies in files is input; all else is work.
pub fn failure(error: ExperimentError) -> Failure {
    if error.is_input() { Failure::input(error) } else { Failure::work(error) }
}

/// A model file as it was found: its name for runs, its own for messages, and its text.
pub struct Found {
    pub name: String,
    pub file: String,
    pub text: String,
}

impl Found {
    /// The recipe of a name, or the file of a path.
    pub fn find(model: &str) -> Result<Found, Failure> {
        let is_path = model.contains(['/', '\\']) || model.ends_with(".toml");
        let no_recipe = match find_recipe(model) {
            Ok(recipe) => {
                let (name, text) = (model.to_owned(), recipe.text.to_owned());
                return Ok(Found { name, file: format!("{model}.toml"), text });
            }
            Err(problem) => problem,
        };
        let path = Path::new(model);
        if !is_path && !path.is_file() {
            return Err(Failure::input(format!(
                "{no_recipe}\n  a model file is given by its path, such as {model}.toml"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| Failure::input(format!("{model}: {error}")))?;
        let stem = path.file_stem().map_or("model".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Found { name: folder_name(&stem), file: model.to_owned(), text })
    }

    /// With settings as `--set` gives them.
    pub fn with(mut self, settings: &[(String, String)]) -> Result<Found, Failure> {
        for (path, value) in settings {
            // A text that is no TOML is shown at its line when it is read.
            if self.spec().is_err() {
                break;
            }
            self.text =
                with_setting(&self.text, path, value).map_err(|problem| Failure::input(format!("--set {problem}")))?;
        }
        Ok(self)
    }

    /// The text, read.
    pub fn spec(&self) -> Result<Spec, Failure> {
        Spec::parse(&self.file, &self.text).map_err(Failure::input)
    }
}

/// A file's name as that of a folder.
fn folder_name(stem: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    if name.trim_matches('-').is_empty() { "model".into() } else { name }
}

/// `train.batch=64` as path and value.
pub fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if !path.trim().is_empty() && !value.trim().is_empty() => {
            Ok((path.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("it must be a setting and its value, such as train.batch=64".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_are_names_of_folders() {
        assert_eq!(folder_name("my model.v2"), "my-model-v2");
        assert_eq!(folder_name("…"), "model");
        assert_eq!(setting("a.b = 3 = 4").unwrap(), ("a.b".into(), "3 = 4".into()));
        assert!(setting("a").is_err() && setting("=3").is_err() && setting("a=").is_err());
    }
}
