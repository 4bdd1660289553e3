//! `chainrule data`: the sets there are, where to get them, and what is in one.

use std::fmt::Write;
use std::path::PathBuf;

use chainrule_train::data::{DataSettings, Inspection, Range, Set, Sheet, Splits, inspect};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::outcome::{self, Failure, Outcome};

/// Images of each class on a sheet.
const EACH: usize = 10;
/// Classes whose counts are listed one by one.
const LISTED: usize = 12;

/// List data sets, say where to get them, and show what is in one
#[derive(Args)]
#[command(after_help = "\
Examples:
  chainrule data list
  chainrule data inspect digits --out digits.png
  chainrule data inspect mnist --data ~/sets
  chainrule data inspect poems.txt

Files of named sets are looked for in the folder of --data, else of the variable CHAINRULE_DATA, else in data/;
there in a folder of the set's name, or directly.")]
pub struct DataArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// All sets and where they come from
    List {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Counts, ranges and classes of a set, and a sheet of its images
    Inspect(InspectArgs),
}

#[derive(Args)]
struct InspectArgs {
    /// The name of a set, or a file or folder
    #[arg(value_name = "SET_OR_PATH")]
    set: String,
    /// The folder with the files of named sets
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Of a table: the column to be predicted
    #[arg(long, value_name = "COLUMN")]
    target: Option<String>,
    /// Of a folder of images: the side that all are brought to
    #[arg(long, value_name = "PIXELS")]
    side: Option<usize>,
    /// Write the first images of each class of the training part to this PNG file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listed {
    set: String,
    about: &'static str,
    source: &'static str,
    options: &'static [&'static str],
}

#[derive(Serialize)]
struct Report {
    settings: DataSettings,
    about: &'static str,
    classes: Option<Vec<String>>,
    tokens: Option<usize>,
    train: Inspection,
    validation: Option<Inspection>,
    test: Option<Inspection>,
}

pub fn run(arguments: DataArgs) -> Outcome {
    match arguments.action {
        Action::List { json } => list(json),
        Action::Inspect(arguments) => look(arguments),
    }
}

fn list(json: bool) -> Outcome {
    let listed =
        |set: Set| Listed { set: set.to_string(), about: set.about(), source: set.source(), options: set.options() };
    let sets: Vec<Listed> = Set::ALL.into_iter().map(listed).collect();
    if json {
        return outcome::print_json(&sets);
    }
    let mut page = String::new();
    for Listed { set, about, source, options } in sets {
        let _ = writeln!(
            page,
            "{set:<14} {about}\n{:<14} from     {source}\n{:<14} options  {}\n",
            "",
            "",
            options.join(", ")
        );
    }
    outcome::print(page.trim_end())
}

fn look(arguments: InspectArgs) -> Outcome {
    let mut settings = Set::find(&arguments.set).map_err(Failure::input)?;
    settings.target = arguments.target;
    settings.size = arguments.side.map(|side| [side; 2]);
    let Splits { train, validation, test, names, tokenizer, .. } =
        settings.open_in(arguments.data.as_deref()).map_err(Failure::input)?;
    let part = |set: &dyn chainrule_train::data::Dataset| inspect(set).map_err(Failure::input);
    let report = Report {
        about: settings.set.about(),
        classes: names,
        tokens: tokenizer.map(|tokenizer| tokenizer.len()),
        train: part(train.as_ref())?,
        validation: validation.as_deref().map(part).transpose()?,
        test: test.as_deref().map(part).transpose()?,
        settings,
    };
    if let Some(path) = &arguments.out {
        let png = Sheet::of(train.as_ref(), EACH).and_then(|sheet| sheet.png()).map_err(Failure::input)?;
        std::fs::write(path, png).map_err(|error| Failure::work(format!("{}: {error}", path.display())))?;
    }
    if arguments.json {
        return outcome::print_json(&report);
    }
    let mut page = report.page();
    if let Some(path) = &arguments.out {
        let _ = writeln!(page, "sheet       {}", path.display());
    }
    outcome::print(&page)
}

impl Report {
    fn page(&self) -> String {
        let mut page = format!("{}: {}\n", self.settings.set, self.about);
        if let Some(tokens) = self.tokens {
            let _ = writeln!(page, "tokens      {tokens} different");
        }
        for (name, range) in (1..).zip(&self.train.inputs).map(|(n, range)| (format!("input {n}"), range)) {
            let _ = writeln!(page, "{name:<11} {}", shown(range));
        }
        for (name, range) in (1..).zip(&self.train.targets).map(|(n, range)| (format!("target {n}"), range)) {
            let _ = writeln!(page, "{name:<11} {}", shown(range));
        }
        let parts =
            [("train", Some(&self.train)), ("validation", self.validation.as_ref()), ("test", self.test.as_ref())];
        for (name, part) in parts {
            if let Some(part) = part {
                let _ = writeln!(page, "{name:<11} {} examples{}", part.examples, self.balance(part));
            }
        }
        page
    }

    /// How many of each class there are.
    fn balance(&self, part: &Inspection) -> String {
        let Some(balance) = &part.balance else { return String::new() };
        if balance.len() > LISTED {
            let (least, most) = (balance.iter().min().unwrap_or(&0), balance.iter().max().unwrap_or(&0));
            return format!(", {} classes of {least} to {most}", balance.len());
        }
        let name = |class: usize| match &self.classes {
            Some(names) if class < names.len() => names[class].clone(),
            _ => class.to_string(),
        };
        let each: Vec<String> =
            balance.iter().enumerate().map(|(class, count)| format!("{} ×{count}", name(class))).collect();
        format!(": {}", each.join(", "))
    }
}

fn shown(range: &Range) -> String {
    let Range { form, min, max, mean, std, not_finite } = range;
    let odd = if *not_finite > 0 { format!(", {not_finite} not finite") } else { String::new() };
    format!("{form}, {min:.4} to {max:.4}, mean {mean:.4}, std {std:.4}{odd}")
}
