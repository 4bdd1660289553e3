//! What one example looks like before any data is read: as `[example]` says, or as the set of `[data]` is known to have it.

use chainrule::tensor::{DType, Type};

use super::fields::{Field, Form};
use super::settings::read;
use super::source::{Item, Problem, Value};
use crate::data::{DataSettings, ExampleType};

/// The options of `[example]`.
pub(crate) const EXAMPLE: &[Field] = &[
    Field { name: "input", form: Form::Shape, default: "", help: "sizes of the input, such as [1, 28, 28]" },
    Field { name: "second", form: Form::Shape, default: "-", help: "sizes of a second input, of a decoder" },
    Field {
        name: "more",
        form: Form::Types,
        default: "-",
        help: "more inputs by their names, each of a type, such as { lengths = \"i64[]\", state = \"f32[8]\" }",
    },
    Field { name: "tokens", form: Form::Count, default: "-", help: "inputs are so many tokens, not numbers" },
    Field { name: "classes", form: Form::Count, default: "-", help: "the target is one of so many classes" },
    Field {
        name: "target",
        form: Form::Shape,
        default: "-",
        help: "sizes of the target; without, one class, or a token for each of the last input's",
    },
    Field { name: "no_target", form: Form::Flag, default: "false", help: "there is no target, as for triplets" },
];

/// Names of a first and a second input that are given no others.
pub(crate) const NAMES: [&str; 2] = ["input", "second"];

/// The form of examples, if the file says it, with the names of inputs.
pub(crate) fn example(root: &Item, data: Option<&DataSettings>) -> Result<(Option<ExampleType>, Vec<String>), Problem> {
    let given = data.map_or(&[][..], |data| &data.inputs);
    let names = if given.is_empty() { NAMES.map(str::to_owned).to_vec() } else { given.to_vec() };
    let Some(section) = root.get("example") else { return Ok((data.and_then(known), names)) };
    let options = read("[example]", &section.item, EXAMPLE)?;
    let sizes = |name: &str| -> Result<Option<Vec<usize>>, Problem> {
        if !options.has(name) {
            return Ok(None);
        }
        let sizes = options.integers(name);
        match sizes.iter().all(|&n| n > 0) {
            true => Ok(Some(sizes.into_iter().map(|n| n as usize).collect())),
            false => Err(options.problem(name, format!("`{name}` is sizes from 1"))),
        }
    };
    let inputs: Vec<Vec<usize>> = [sizes("input")?, sizes("second")?].into_iter().flatten().collect();
    let more = options.item("more").map_or(&[][..], Item::entries);
    let own = NAMES[..inputs.len()].iter().map(|name| name.to_string()).chain(more.iter().map(|more| more.key.clone()));
    if let Some(twice) = more.iter().find(|more| NAMES[..inputs.len()].contains(&&*more.key)) {
        return Err(Problem::new(&twice.at, format!("`{}` is an input already", twice.key)).hint("take another name"));
    }
    let names = if given.is_empty() { own.collect() } else { names };
    if names.len() != inputs.len() + more.len() {
        let count = inputs.len() + more.len();
        let problem =
            options.problem("more", format!("[data] names {} inputs, and [example] has {count}", names.len()));
        return Err(problem.hint(format!("those of [data] are {}", names.join(", "))));
    }
    let (tokens, classes) = (options.maybe_count("tokens"), options.maybe_count("classes"));
    let target = sizes("target")?.unwrap_or_else(|| match (classes, tokens, inputs.last()) {
        (None, Some(_), Some(last)) => last.clone(),
        (None, None, _) => vec![1],
        _ => Vec::new(),
    });
    let dtype = |integers: bool| if integers { DType::I64 } else { DType::F32 };
    let inputs = inputs.into_iter().map(|sizes| Type::new(dtype(tokens.is_some()), sizes));
    let more = more.iter().filter_map(|entry| ty(&entry.item.value));
    let target = Type::new(dtype(classes.or(tokens).is_some()), target);
    let example = ExampleType {
        inputs: inputs.chain(more).collect(),
        targets: if options.flag("no_target") { Vec::new() } else { vec![target] },
        classes: classes.or(tokens),
    };
    Ok((Some(example), names))
}

/// A type as text: `"i64[]"`, `"f32[8, 3]"`.
pub(crate) fn ty(value: &Value) -> Option<Type> {
    let Value::Text(text) = value else { return None };
    let (name, sizes) = text.strip_suffix(']')?.split_once('[')?;
    let dtype = [DType::F32, DType::I64].into_iter().find(|dtype| dtype.name() == name.trim())?;
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    let sizes = sizes.map(|size| size.parse().ok().filter(|size| (1..=MOST_SIZE).contains(size)));
    let sizes = sizes.collect::<Option<Vec<usize>>>().filter(|sizes| sizes.len() <= 8)?;
    Some(Type::new(dtype, sizes))
}

/// The largest size of an axis.
const MOST_SIZE: usize = 1 << 24;

/// What a set is known to have without being opened.
fn known(data: &DataSettings) -> Option<ExampleType> {
    data.set.example(data).and_then(|_| data.example().ok())
}
