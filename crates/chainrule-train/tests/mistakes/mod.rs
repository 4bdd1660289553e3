//! Tables of model files that are wrong, and what must be said of each.
use chainrule_train::model::ModelError;

/// A text, and of its mistake the line, the piece that is marked, the message and the hint.
pub type Broken = (&'static str, usize, &'static str, &'static str, &'static str);

/// Every row is refused, and as it says; all that are not are told.
pub fn are_shown(rows: &[Broken], mistake: impl Fn(&str) -> Option<ModelError>) {
    let mut failures = Vec::new();
    for (text, line, piece, message, hint) in rows {
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
