//! Models in files, as their users see them: what is built, and how a mistake is shown.
use chainrule::prelude::*;
use chainrule::tensor::Type;
use chainrule_train::data::ExampleType;
use chainrule_train::model::{ModelError, Spec};

/// 28 by 28 pictures of ten classes.
fn pictures() -> ExampleType {
    ExampleType {
        inputs: vec![Type::new(DType::F32, [1, 28, 28])],
        targets: vec![Type::new(DType::I64, [])],
        classes: Some(10),
    }
}

fn mistake(text: &str) -> Option<ModelError> {
    Spec::parse("model.toml", text).and_then(|spec| spec.check(&pictures())).err()
}

/// A text, and of its mistake the line, the piece that is marked, the message and the hint.
type Broken = (&'static str, usize, &'static str, &'static str, &'static str);

const BROKEN: &[Broken] = &[(
    "[model]\nlayers = [\"flatten\",\n  { linaer = 10 }]",
    3,
    "linaer",
    "there is no layer `linaer`",
    "did you mean `linear`?",
)];

#[test]
fn mistakes_are_shown_at_their_line() {
    let mut failures = Vec::new();
    for (text, line, piece, message, hint) in BROKEN {
        let Some(error) = mistake(text) else {
            failures.push(format!("{text}\n  is taken, and should be refused: {message}"));
            continue;
        };
        let got = (error.line(), error.piece(), error.message(), error.hint().unwrap_or(""));
        if got != (*line, *piece, *message, *hint) {
            failures.push(format!("{text}\n  wanted {:?}\n  got    {got:?}", (line, piece, message, hint)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_message_shows_the_line_and_marks_the_place() {
    let error = mistake("[model]\nlayers = [\n  \"flatten\",\n  { linear = 12 },\n]").unwrap();
    let shown = "the network ends in [12], and the data has 10 classes\n --> model.toml:4:3\n  |\n\
                 4 |   { linear = 12 },\n  |   ^^^^^^^^^^^^^^^\n  |\n  = help: end it with { linear = 10 }";
    assert_eq!(error.to_string(), shown);
}

#[test]
fn every_recipe_can_be_built() {
    let mut failures = Vec::new();
    for recipe in chainrule_train::model::recipes() {
        let built = Spec::parse(recipe.name, recipe.text).and_then(|spec| {
            let example = spec.example().cloned().expect("a recipe says what its examples are");
            let network = spec.build(&example, &Key::new(1))?;
            spec.optimizer(&network, 100)?;
            let summary = spec.summary(&example)?;
            Ok((parameter_count(&network), summary.parameters))
        });
        match built {
            Ok((network, summary)) if network == summary && network > 1000 => {}
            other => failures.push(format!("{}: {other:?}", recipe.name)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
