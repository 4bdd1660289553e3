//! The model files that come with the crate, by name.

/// A model file that comes with the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What it is called.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! recipes {
    ($($name:literal,)*) => {
        const RECIPES: &[Recipe] = &[$(Recipe {
            name: $name,
            text: include_str!(concat!("../../../../recipes/", $name, ".toml")),
        },)*];
    };
}
recipes! {
    "adding-lstm",
    "adding-lstm-400",
    "adding-rnn",
    "batch-norm-deep",
    "dcgan",
    "digits-cnn",
    "digits-mlp",
    "gpt2-small",
    "lenet5",
    "mnist-cnn",
    "mnist-mlp",
    "no-norm-deep",
    "plain-20",
    "plain-56",
    "resnet",
    "resnet-56",
    "text-gpt",
    "text-lstm",
    "translate-toy",
    "vit-mnist",
    "wgan-gp",
}

/// All of them, by name.
///
/// ```
/// use chainrule_train::model::{Spec, recipes};
/// let digits = recipes().iter().find(|recipe| recipe.name == "digits-mlp").unwrap();
/// assert!(Spec::parse("digits-mlp.toml", digits.text)?.description().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn recipes() -> &'static [Recipe] {
    RECIPES
}

/// The one of a name.
///
/// # Errors
/// If there is none; the text says which was meant, or which there are.
///
/// ```
/// use chainrule_train::model::find_recipe;
/// assert_eq!(find_recipe("digts-mlp").unwrap_err(), "there is no recipe `digts-mlp`; did you mean `digits-mlp`?");
/// ```
pub fn find_recipe(name: &str) -> Result<&'static Recipe, String> {
    let known = RECIPES.iter().find(|recipe| recipe.name == name);
    let names = RECIPES.iter().map(|recipe| recipe.name);
    known.ok_or_else(|| format!("there is no recipe `{name}`; {}", super::source::nearest(name, names)))
}
