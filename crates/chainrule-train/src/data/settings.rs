//! Which data: one set of settings for every kind, by name, and the parts that it opens to.
//!
//! A settings file has it as a table:
//!
//! ```toml
//! set = "mnist"
//! validation = 0.1
//! transforms = [{ pad_crop = { padding = 2 } }, "flatten"]
//! ```
//!
//! An option that the named set does not have is an error, not ignored; a set that is not on the machine says what to
//! run to get it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::catalogue::Set;
use super::table::Encoding;
use super::{DataError, Dataset, ExampleType, Subset, Tokenizer, Tokens, Transform, Transformed};

/// The folder of sets unless something else is said.
pub const FOLDER: &str = "data";
/// The environment variable that says something else.
pub const FOLDER_VARIABLE: &str = "CHAINRULE_DATA";

/// Which data to open, and how.
///
/// ```
/// use chainrule_train::data::{DataSettings, Dataset, Set};
///
/// let settings = DataSettings { validation: Some(0.2), ..DataSettings::of(Set::Digits) };
/// let splits = settings.open()?;
/// assert_eq!((splits.train.len(), splits.test.unwrap().len()), (1150, 359));
/// assert_eq!(splits.validation.unwrap().len(), 288);
/// let wrong = DataSettings { context: Some(64), ..DataSettings::of(Set::Digits) };
/// assert_eq!(wrong.open().unwrap_err().to_string(), "the set digits has no option context; it has: examples, validation, seed, transforms");
/// # Ok::<(), chainrule_train::data::DataError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// The kind of set, or the set itself.
    pub set: Set,
    /// The file or folder; sets of a name have one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The fraction of the training part that is kept for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<f64>,
    /// What random splits and generated sets depend on; 0 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Of a text: how it becomes tokens; characters unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// Of a text: tokens in a window; 64 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Of what is made: the length of a sequence; 100 to add and 10 to sort unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Of sequences to sort: different tokens, with the 0 that begins; 20 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// Of what is made: examples an epoch; 10,000 unless given. Of other sets with classes or targets: so many of the
    /// training part at random, before any of them are kept for validation; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<usize>,
    /// Of a folder of images: height and width that all are brought to; unless given, all must have one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Of a folder of images: 3 for colours, which is so unless given, or 1 for grey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Of arrays: the names of the inputs, where there are several; layers ask for them by these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Of arrays with `inputs`: the names of the targets; `y` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
    /// Of a table: the column to be predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Of a table: columns that are categories though they look like numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categorical: Vec<String>,
    /// Of a table: the fraction of rows for testing; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<f64>,
    /// What is done to the examples, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transforms: Vec<Transform>,
}

/// What settings open to.
#[derive(Clone, Debug)]
pub struct Splits {
    /// To train on.
    pub train: Arc<dyn Dataset>,
    /// To watch the training by, if one was asked for or the set has one of its own.
    pub validation: Option<Arc<dyn Dataset>>,
    /// To test on in the end, if there is one.
    pub test: Option<Arc<dyn Dataset>>,
    /// Names of the classes, if they have any; class `n` is `names[n]`.
    pub names: Option<Vec<String>>,
    /// What makes text of tokens, if these are tokens.
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// What made numbers of columns, if these are rows of a table.
    pub encoding: Option<Encoding>,
}

impl Splits {
    /// A training part and nothing else.
    pub fn of(train: impl Dataset + 'static) -> Splits {
        Splits { train: Arc::new(train), validation: None, test: None, names: None, tokenizer: None, encoding: None }
    }

    /// With a part for testing.
    pub fn with_test(mut self, test: impl Dataset + 'static) -> Splits {
        self.test = Some(Arc::new(test));
        self
    }

    /// With names of the classes.
    pub fn with_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Splits {
        self.names = Some(names.into_iter().map(Into::into).collect());
        self
    }
}

impl DataSettings {
    /// A set with nothing else said.
    pub fn of(set: Set) -> DataSettings {
        DataSettings {
            set,
            path: None,
            validation: None,
            seed: None,
            tokens: None,
            context: None,
            length: None,
            vocabulary: None,
            examples: None,
            size: None,
            channels: None,
            inputs: Vec::new(),
            targets: None,
            target: None,
            categorical: Vec::new(),
            test: None,
            transforms: Vec::new(),
        }
    }

    /// Opens the set; [`DataSettings::open_in`] with no folder given.
    ///
    /// # Errors
    /// As there.
    pub fn open(&self) -> Result<Splits, DataError> {
        self.open_in(None)
    }

    /// Opens the set, looking for files of named sets in this folder, in the one that the variable
    /// [`FOLDER_VARIABLE`] names, or in [`FOLDER`].
    ///
    /// # Errors
    /// If an option is not one of the set or is out of its range, if the set is not there, or if its files are damaged.
    pub fn open_in(&self, folder: Option<&Path>) -> Result<Splits, DataError> {
        self.check()?;
        let mut splits = self.set.open(self, folder)?;
        if let (Some(count), false) = (self.examples, self.set.is_made()) {
            splits.train = Arc::new(Subset::sample(splits.train, count, self.seed.unwrap_or(0))?);
        }
        if let (Some(fraction), None) = (self.validation, &splits.validation) {
            let (train, validation) = Subset::split(splits.train, fraction, self.seed.unwrap_or(0))?;
            splits.train = Arc::new(train);
            splits.validation = Some(Arc::new(validation));
        }
        for (place, transform) in self.transforms.iter().enumerate() {
            let transform = transform.clone().fitted(splits.train.as_ref())?;
            let apply = |set: Arc<dyn Dataset>| -> Result<Arc<dyn Dataset>, DataError> {
                Ok(Arc::new(Transformed::new(set, transform.clone(), place)?))
            };
            splits.train = apply(splits.train)?;
            if !transform.only_training() {
                splits.validation = splits.validation.map(apply).transpose()?;
                splits.test = splits.test.map(apply).transpose()?;
            }
        }
        Ok(splits)
    }

    /// The form of an example, from what is known of the set where that is enough, and else by opening it.
    ///
    /// # Errors
    /// As [`DataSettings::open_in`].
    pub fn example_in(&self, folder: Option<&Path>) -> Result<ExampleType, DataError> {
        self.check()?;
        match self.set.example(self) {
            Some(example) => self.transforms.iter().try_fold(example, |example, transform| transform.example(example)),
            None => Ok(self.open_in(folder)?.train.example()),
        }
    }

    /// [`DataSettings::example_in`] with no folder given.
    ///
    /// # Errors
    /// As there.
    pub fn example(&self) -> Result<ExampleType, DataError> {
        self.example_in(None)
    }

    /// Whether every option given is one of the set's.
    ///
    /// # Errors
    /// If one is not; the message names those there are.
    pub fn check(&self) -> Result<(), DataError> {
        let given = serde_json::to_value(self).map_err(|error| DataError::Setting(error.to_string()))?;
        let options = self.set.options();
        for name in given.as_object().into_iter().flat_map(|object| object.keys()) {
            if name != "set" && !options.contains(&name.as_str()) {
                let options = options.join(", ");
                return Err(DataError::Setting(format!(
                    "the set {} has no option {name}; it has: {options}",
                    self.set
                )));
            }
        }
        Ok(())
    }
}

/// The folder with this set's files: `folder/name` or `folder` itself, whichever `has` finds them in.
pub(crate) fn locate(set: Set, folder: Option<&Path>, has: impl Fn(&Path) -> bool) -> Result<PathBuf, DataError> {
    let root = folder.map(Path::to_path_buf);
    let root = root.or_else(|| std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from));
    let root = root.unwrap_or_else(|| FOLDER.into());
    let named = root.join(set.to_string());
    for place in [&named, &root] {
        if has(place) {
            return Ok(place.clone());
        }
    }
    Err(DataError::Absent {
        name: set.to_string(),
        place: format!("its files are neither in {} nor in {}", named.display(), root.display()),
        how: set.source().into(),
    })
}
