//! The reference of the format, written from the tables that read it.

use std::fmt::Write;

use super::build::COMMON;
use super::fields::Field;
use super::{example, form, kinds, loss, settings, spec, start};

/// All sections, kinds and options as Markdown: what `docs/model-files.md` holds.
pub fn reference() -> String {
    let mut text = String::new();
    section(&mut text, "Sections");
    spec::SECTIONS.iter().for_each(|(name, help)| line(&mut text, name, help));
    section(&mut text, "Forms of [model]");
    for kind in form::KINDS {
        line(&mut text, &format!("kind = \"{}\"", kind.name), kind.help);
        fields(&mut text, kind.fields);
    }
    section(&mut text, "What every layer may have");
    fields(&mut text, COMMON);
    for (title, family) in kinds::FAMILIES {
        section(&mut text, title);
        for kind in *family {
            line(&mut text, kind.name, &format!("{}; {}", kind.help, kind.shapes));
            fields(&mut text, kind.fields);
        }
    }
    section(&mut text, "First values (init)");
    for rule in start::RULES {
        let number =
            if rule.number.is_empty() { String::new() } else { format!("; the number is the {}", rule.number) };
        line(&mut text, rule.name, &format!("{}{number}", rule.help));
    }
    section(&mut text, "Losses");
    for kind in loss::KINDS {
        line(&mut text, kind.name, &format!("{}; {}", kind.help, kind.shapes));
        fields(&mut text, kind.fields);
    }
    section(&mut text, "[example]");
    fields(&mut text, example::EXAMPLE);
    section(&mut text, "[train]");
    fields(&mut text, settings::TRAIN);
    section(&mut text, "[report]");
    fields(&mut text, settings::REPORT);
    section(&mut text, "[watch]");
    fields(&mut text, settings::WATCH);
    text
}

fn section(text: &mut String, title: &str) {
    let _ = writeln!(text, "\n### {title}\n");
}

fn line(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "- `{name}`: {help}");
}

fn fields(text: &mut String, fields: &[Field]) {
    for field in fields {
        let default = match field.default {
            "" => "must be given".to_owned(),
            "-" => "may be left out".to_owned(),
            default => format!("`{default}` if left out"),
        };
        let _ = writeln!(text, "  - `{}`: {} ({}; {default})", field.name, field.help, field.form.describe());
    }
}
