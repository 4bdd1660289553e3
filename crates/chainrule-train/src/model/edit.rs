//! Changing single values of a model file's text, as the command line asks: `train.batch=64`.
//!
//! The text around a value stays as it was written, comments and all, so that a mistake is shown in the lines its author
//! knows, and a run can keep the text that it was really trained by.

use super::source::{Item, Value, parse};

/// Pairs of settings of which a file has one.
const EITHER: [(&str, &str); 2] = [("train.epochs", "train.steps"), ("train.steps", "train.epochs")];

/// The text with the setting at a path, such as `train.batch`, at a value as TOML writes it; a word that is no TOML is
/// taken as text. A setting that is not there is added.
///
/// ```
/// use chainrule_train::model::with_setting;
/// let text = "[model]\nlayers = [\"relu\"]\n[train]\nepochs = 3 # enough\n";
/// let text = with_setting(text, "train.steps", "50")?;
/// let text = with_setting(&text, "train.precision", "bf16")?;
/// assert_eq!(text, "[model]\nlayers = [\"relu\"]\n[train]\nprecision = \"bf16\"\nsteps = 50 # enough\n");
/// # Ok::<(), String>(())
/// ```
///
/// # Errors
/// If the text is no TOML, or the path leads through something that is no table.
pub fn with_setting(text: &str, path: &str, value: &str) -> Result<String, String> {
    let root = parse(text).map_err(|problem| problem.message)?;
    let written = written(value);
    let keys: Vec<&str> = path.split('.').collect();
    if keys.iter().any(|key| key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))) {
        return Err(format!("`{path}` is no setting: it is names with dots between, such as train.batch"));
    }
    if let Some(item) = find(&root, &keys)? {
        return Ok(replaced(text, item.span.clone(), &written));
    }
    let (&key, tables) = keys.split_last().ok_or("a setting has a name")?;
    let line = format!("{key} = {written}");
    if let Some((_, other)) = EITHER.iter().find(|pair| pair.0 == path)
        && let Some(entry) = root.get(tables[0]).and_then(|table| table.item.get(&other[tables[0].len() + 1..]))
    {
        return Ok(replaced(text, entry.at.start..entry.item.span.end, &line));
    }
    match find(&root, tables)?.map(|table| table.entries()) {
        // Before all tables, of which the first would take it in.
        _ if tables.is_empty() => Ok(format!("{line}\n{text}")),
        Some([first, ..]) => {
            let start = first.at.start;
            let begins = text[..start].rfind('\n').map_or(0, |at| at + 1);
            let alone = text[begins..start].trim().is_empty();
            Ok(replaced(text, start..start, &if alone { format!("{line}\n") } else { format!("{line}, ") }))
        }
        _ => Ok(format!("{}\n\n[{}]\n{line}\n", text.trim_end(), tables.join("."))),
    }
}

fn find<'a>(root: &'a Item, keys: &[&str]) -> Result<Option<&'a Item>, String> {
    let mut item = root;
    for key in keys {
        if !matches!(item.value, Value::Table(_)) {
            return Err(format!("`{}` leads through {}, which is no table", keys.join("."), item.describe()));
        }
        match item.get(key) {
            Some(entry) => item = &entry.item,
            None => return Ok(None),
        }
    }
    Ok(Some(item))
}

fn replaced(text: &str, span: std::ops::Range<usize>, new: &str) -> String {
    format!("{}{new}{}", &text[..span.start], &text[span.end..])
}

/// A value as it stands in TOML.
fn written(value: &str) -> String {
    let value = value.trim();
    match parse(&format!("value = {value}")) {
        Ok(item) if item.entries().len() == 1 => value.to_owned(),
        _ => serde_json::Value::String(value.to_owned()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_and_the_rest_stays() {
        let text = "# mine\n[data]\nset = \"digits\"\n\n[train]\nbatch = 32  # usual\nepochs = 4\n\n[optimizer]\n";
        let rows = [
            ("train.batch", "64", "batch = 64  # usual\nepochs = 4"),
            ("train.steps", "9", "batch = 32  # usual\nsteps = 9"),
            ("train.epochs", "9", "epochs = 9"),
            ("train.precision", "bf16", "[train]\nprecision = \"bf16\"\nbatch = 32"),
            ("data.set", "\"mnist\"", "set = \"mnist\"\n\n[train]"),
            ("schedule.name", "cosine", "[schedule]\nname = \"cosine\"\n"),
            ("description", "a b", "description = \"a b\"\n# mine\n"),
        ];
        for (path, value, expected) in rows {
            let new = with_setting(text, path, value).unwrap();
            assert!(new.contains(expected), "{path}: {new}");
            assert_eq!(with_setting(&new, path, value).unwrap(), new);
        }
        let inline = with_setting("train = { batch = 3 }", "train.seed", "4").unwrap();
        assert_eq!(inline, "train = { seed = 4, batch = 3 }");
        let error = |path| with_setting(text, path, "1").unwrap_err();
        assert!(
            error("data.set.x").contains("no table")
                && error("a b").contains("no setting")
                && error("").contains("no setting")
        );
        assert!(with_setting("a = = 1", "a", "1").unwrap_err().contains("no TOML"));
    }
}
