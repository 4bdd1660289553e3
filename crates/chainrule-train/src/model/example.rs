//! What one example looks like before any data is read: as `[example]` says, or as the set of `[data]` is known to have it.

use chainrule::tensor::{DType, Type};

use super::fields::{Field, Form};
use super::settings::read;
use super::source::{Item, Problem};
use crate::data::{DataSettings, ExampleType};

/// The options of `[example]`.
pub(crate) const EXAMPLE: &[Field] = &[
    Field { name: "input", form: Form::Shape, default: "", help: "sizes of the input, such as [1, 28, 28]" },
    Field { name: "second", form: Form::Shape, default: "-", help: "sizes of a second input, of a decoder" },
    Field { name: "tokens", form: Form::Count, default: "-", help: "inputs are so many tokens, not numbers" },
    Field { name: "classes", form: Form::Count, default: "-", help: "the target is one of so many classes" },
    Field {
        name: "target",
        form: Form::Shape,
        default: "-",
        help: "sizes of the target; without, one class, or a token for each of the last input's",
    },
];

/// The form of examples, if the file says it.
pub(crate) fn example(root: &Item, data: Option<&DataSettings>) -> Result<Option<ExampleType>, Problem> {
    let Some(section) = root.get("example") else { return Ok(data.and_then(known)) };
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
    let (tokens, classes) = (options.maybe_count("tokens"), options.maybe_count("classes"));
    let target = sizes("target")?.unwrap_or_else(|| match (classes, tokens, inputs.last()) {
        (None, Some(_), Some(last)) => last.clone(),
        (None, None, _) => vec![1],
        _ => Vec::new(),
    });
    let dtype = |integers: bool| if integers { DType::I64 } else { DType::F32 };
    Ok(Some(ExampleType {
        inputs: inputs.into_iter().map(|sizes| Type::new(dtype(tokens.is_some()), sizes)).collect(),
        targets: vec![Type::new(dtype(classes.or(tokens).is_some()), target)],
        classes: classes.or(tokens),
    }))
}

/// What a set is known to have without being opened.
fn known(data: &DataSettings) -> Option<ExampleType> {
    data.set.example(data).and_then(|_| data.example().ok())
}
