//! From the layers of a file to modules: reads each, checks what comes in, builds it and sees what comes out.
//!
//! Building computes nothing. First values are expressions of a key, and what comes out of a layer is found by calling
//! the layer itself on a value that is not known, so that this room has no second opinion about shapes.

use chainrule::tensor::{DType, Key, Op, Tensor, Type};
use chainrule_nn::context::Context;

use super::fields::{Field, Form, Options};
use super::kinds::{self, Kind};
use super::module::{Module, Pass, Sequence};
use super::source::{Entry, Item, Problem, Span, Value, line_of};
use super::start::{self, Start};

/// What every layer may have, whatever it is.
pub(crate) const COMMON: &[Field] = &[
    Field {
        name: "name",
        form: Form::Name,
        default: "-",
        help: "what its parameters are called in checkpoints; its number without",
    },
    Field {
        name: "repeat",
        form: Form::Count,
        default: "-",
        help: "so many of it, one after the other, each with its own parameters",
    },
    Field { name: "init", form: Form::Start, default: "-", help: "how its weights start" },
];

/// The most layers of a network, and the most elements of a value or weight.
const MOST_LAYERS: usize = 10_000;
/// How often a layer is scaled by what it gives.
const MOST_SCALINGS: usize = 10;
pub(crate) const MOST_ELEMENTS: usize = 1 << 36;

/// A layer as it was built, for a summary. Types have the axis of examples.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its path: that of its parameters.
    pub path: String,
    /// Its kind, as in the file.
    pub kind: &'static str,
    /// Whether its layers follow as rows of their own.
    pub container: bool,
    /// The layer.
    pub module: Module,
    /// What comes in.
    pub input: Type,
    /// What comes out.
    pub output: Type,
    /// What the encoder said, where there is one.
    pub memory: Option<Type>,
    /// Weights of earlier layers that it may use.
    pub shared: Vec<(String, Tensor)>,
    /// Inputs and kept values that it may look at.
    pub values: Vec<(String, Type)>,
}

/// What is known while layers are built.
pub(crate) struct Scope<'a> {
    /// The tables `[block.NAME]`.
    pub blocks: &'a [Entry],
    /// The file's name and text, which layers stand in.
    pub file: (&'a str, &'a str),
    /// How many classes or tokens the data has.
    pub classes: Option<usize>,
    /// What an encoder said.
    pub memory: Option<Type>,
    /// Weights by the name of their layer.
    pub shared: Vec<(String, Tensor)>,
    /// The data's inputs by their names, and what layers kept.
    pub values: Vec<(String, Type)>,
    /// Whether a layer starts by what it gives.
    pub settles: bool,
    /// How weights start, if not as their layer has it.
    pub start: Option<Start>,
    pub rows: Vec<Row>,
    /// The blocks that this one is in.
    pub open: Vec<String>,
    path: Vec<String>,
    key: Key,
    drawn: i64,
    built: usize,
}

/// A layer's table, taken apart.
struct Written<'a> {
    kind: &'static Kind,
    span: Span,
    entries: Vec<(&'a str, &'a Entry)>,
    name: Option<(&'a str, &'a Span)>,
    repeat: Option<usize>,
    start: Option<Start>,
}

/// A value of a type that is not known.
pub(crate) fn placeholder(ty: &Type) -> Tensor {
    Tensor::apply(Op::Input(ty.clone()), &[])
}

/// Sizes of one example, as messages show them.
pub(crate) fn shown(ty: &Type) -> String {
    format!("{:?}", ty.shape.get(1..).unwrap_or(&[]))
}

impl<'a> Scope<'a> {
    pub fn new(
        blocks: &'a [Entry],
        file: (&'a str, &'a str),
        classes: Option<usize>,
        start: Option<Start>,
        key: &Key,
    ) -> Scope<'a> {
        Scope {
            blocks,
            file,
            classes,
            memory: None,
            shared: Vec::new(),
            values: Vec::new(),
            settles: false,
            start,
            rows: Vec::new(),
            open: Vec::new(),
            path: Vec::new(),
            key: key.clone(),
            drawn: 0,
            built: 0,
        }
    }

    /// A key that nobody has had.
    pub fn key(&mut self) -> Key {
        self.drawn += 1;
        self.key.fold(&Tensor::from(self.drawn))
    }

    /// Layers of a list, under a name if they have one.
    pub fn sequence(&mut self, name: Option<&str>, list: &Item, x: &Type) -> Result<(Sequence, Type), Problem> {
        let Value::List(items) = &list.value else {
            return Err(Problem::new(&list.span, format!("layers are a list, not {}", list.describe())));
        };
        self.path.extend(name.map(str::to_owned));
        let mut sequence = Sequence::default();
        let mut ty = x.clone();
        for (number, item) in items.iter().enumerate() {
            let written = read(item)?;
            let name = written.name.map_or(number.to_string(), |(name, _)| name.to_owned());
            if sequence.0.iter().any(|(other, _)| *other == name) {
                let at = written.name.map_or(&item.span, |(_, at)| at);
                return Err(Problem::new(at, format!("two layers of one list are called `{name}`")));
            }
            let (module, next) = self.repeated(&name, &written, &ty)?;
            sequence.0.push((name, module));
            ty = next;
        }
        if name.is_some() {
            self.path.pop();
        }
        Ok((sequence, ty))
    }

    fn repeated(&mut self, name: &str, written: &Written, x: &Type) -> Result<(Module, Type), Problem> {
        let Some(repeat) = written.repeat else { return self.layer(name, written, x) };
        self.path.push(name.to_owned());
        let mut sequence = Sequence::default();
        let mut ty = x.clone();
        for number in 0..repeat {
            let number = number.to_string();
            let (module, next) = self.layer(&number, written, &ty)?;
            sequence.0.push((number, module));
            ty = next;
        }
        self.path.pop();
        Ok((sequence.into(), ty))
    }

    fn layer(&mut self, name: &str, written: &Written, x: &Type) -> Result<(Module, Type), Problem> {
        self.built += 1;
        if self.built > MOST_LAYERS {
            return Err(Problem::new(&written.span, format!("the network has more than {MOST_LAYERS} layers")));
        }
        let outer = self.start.clone();
        if written.start.is_some() {
            self.start = written.start.clone();
        }
        self.path.push(name.to_owned());
        let place = self.rows.len();
        let what = format!("`{}`", written.kind.name);
        let options = Options::read(&what, &written.span, &written.entries, written.kind.fields)?;
        let module = (written.kind.make)(&options, x, self)?;
        let container = self.rows.len() > place;
        let module = match std::mem::replace(&mut self.start, outer) {
            Some(start) if !container => {
                let module = start.apply(&module, &self.key());
                self.settles |= start.settles();
                if start.settles() { settling(module) } else { module }
            }
            _ => module,
        };
        let module = module.written(written_at(self.file, &written.span, written.kind.name));
        let shared = self.shared.clone();
        let output = self.trace(&module, x);
        let mut context = Context::evaluation();
        let mut pass = Pass { shared: std::mem::take(&mut self.shared), ..Pass::new(&mut context) };
        pass.share(name, &module);
        self.shared = pass.shared;
        if output.numel() > MOST_ELEMENTS || output.shape.contains(&0) {
            let message = format!("`{}` makes {} of {}", written.kind.name, shown(&output), shown(x));
            return Err(Problem::new(&written.span, message).hint("that is empty, or more than any memory holds"));
        }
        let row = Row {
            path: self.path.join("."),
            kind: written.kind.name,
            container,
            module: module.clone(),
            input: x.clone(),
            output: output.clone(),
            memory: self.memory.clone(),
            shared,
            values: self.values.clone(),
        };
        self.rows.insert(place, row);
        self.path.pop();
        Ok((module, output))
    }

    /// A size for so many units coming in; `"classes"` is what the data has.
    pub fn size(&self, options: &Options, name: &'static str, incoming: usize) -> Result<usize, Problem> {
        match (options.item(name).map(|item| &item.value), self.classes) {
            (Some(Value::Text(text)), Some(classes)) if text == "classes" => Ok(classes),
            (Some(Value::Text(text)), None) if text == "classes" => {
                Err(options.problem(name, "the data has no classes").hint("write the number of units"))
            }
            _ => options.size(name, incoming),
        }
    }

    /// The type of the value of this option's name: an input of the data, or what a layer kept.
    pub fn value(&self, options: &Options, name: &'static str) -> Result<(String, Type), Problem> {
        let word = options.word(name);
        match self.values.iter().find(|(other, _)| other == word) {
            Some((word, ty)) => Ok((word.clone(), ty.clone())),
            None => {
                let problem = options.problem(name, format!("there is no input `{word}`, and no layer kept it before"));
                Err(match self.values.is_empty() {
                    true => problem,
                    false => problem.nearest(word, self.values.iter().map(|(name, _)| name.as_str())),
                })
            }
        }
    }

    /// What comes out of a module.
    pub fn trace(&self, module: &Module, x: &Type) -> Type {
        let mut context = Context::evaluation();
        let memory = self.memory.as_ref().map(placeholder);
        let values = self.values.iter().map(|(name, ty)| (name.clone(), placeholder(ty))).collect();
        let mut pass = Pass { memory, shared: self.shared.clone(), values, ..Pass::new(&mut context) };
        module.clone().forward(&placeholder(x), &mut pass).ty().clone()
    }
}

/// A place of a file as the line that operations have.
pub(crate) fn written_at((file, text): (&str, &str), span: &Span, what: &str) -> &'static chainrule::tensor::Written {
    chainrule::tensor::Written::at(file, u32::try_from(line_of(text, span)).unwrap_or(u32::MAX), what)
}

/// A layer whose weights are scaled, while the network settles, until the variance of what it gives is 1.
fn settling(module: Module) -> Module {
    let by_step = module.is_by_step();
    let forward = |module: &mut Module, x: &Tensor, pass: &mut Pass| {
        let mut y = module.forward(x, pass);
        if pass.settling {
            for _ in 0..MOST_SCALINGS {
                let variance = y.cast(DType::F64).variance(.., 0).item::<f64>();
                if !start::is_to_scale(variance) {
                    break;
                }
                *module = start::scaled(module, 1.0 / variance.sqrt());
                y = module.forward(x, pass);
            }
        }
        y
    };
    Module::new(module, forward).by_step(by_step)
}

/// Takes a layer's text or table apart.
fn read(item: &Item) -> Result<Written<'_>, Problem> {
    let span = item.span.clone();
    let bare = |kind| Written { kind, span: span.clone(), entries: Vec::new(), name: None, repeat: None, start: None };
    match &item.value {
        Value::Text(word) => kinds::find(word).map(bare).ok_or_else(|| unknown(&span, word)),
        Value::Table(entries) => read_table(item, entries),
        _ => {
            let problem = Problem::new(&span, format!("{} is no layer", item.describe()));
            Err(problem.hint("a layer is a word such as \"relu\" or a table such as { linear = 128 }"))
        }
    }
}

fn unknown(span: &Span, word: &str) -> Problem {
    Problem::new(span, format!("there is no layer `{word}`")).nearest(word, kinds::all().map(|kind| kind.name))
}

fn read_table<'a>(item: &'a Item, entries: &'a [Entry]) -> Result<Written<'a>, Problem> {
    let common = |entry: &&Entry| COMMON.iter().any(|field| field.name == entry.key);
    let given: Vec<(&str, &Entry)> = entries.iter().filter(common).map(|entry| (entry.key.as_str(), entry)).collect();
    let shared = Options::read("a layer", &item.span, &given, COMMON)?;
    let mut rest: Vec<&Entry> = entries.iter().filter(|entry| !common(entry)).collect();
    let kind = match item.get("kind") {
        Some(Entry { item: Item { value: Value::Text(word), span }, .. }) => {
            rest.retain(|entry| entry.key != "kind");
            kinds::find(word).ok_or_else(|| unknown(span, word))?
        }
        Some(entry) => return Err(Problem::new(&entry.item.span, "`kind` is the name of a layer in quotes")),
        None => {
            let Some(first) = rest.first() else {
                let problem = Problem::new(&item.span, "a layer without a kind");
                return Err(problem.hint("its first key says what it is, such as { linear = 128 }"));
            };
            kinds::find(&first.key).ok_or_else(|| {
                match rest.iter().find(|entry| kinds::find(&entry.key).is_some()) {
                    Some(other) => Problem::new(&first.at, format!("there is no layer `{}`", first.key))
                        .hint(format!("write `{}` first: the first key says what the layer is", other.key)),
                    None => unknown(&first.at, &first.key),
                }
            })?
        }
    };
    // `{ linear = 128 }` gives the option that the kind is known by; `{ relu = true }` gives none.
    let mut entries: Vec<(&str, &Entry)> = rest.iter().map(|entry| (entry.key.as_str(), *entry)).collect();
    if let Some(place) = entries.iter().position(|(key, _)| *key == kind.name) {
        let bare = matches!(entries[place].1.item.value, Value::Flag(true));
        match kind.own() {
            Some(field) if !bare || field.form == Form::Flag => entries[place].0 = field.name,
            _ if bare => drop(entries.remove(place)),
            _ => {
                let problem = Problem::new(&entries[place].1.item.span, format!("`{}` takes no value", kind.name));
                return Err(problem.hint(format!("write \"{0}\", or {{ {0} = true }}", kind.name)));
            }
        }
    }
    Ok(Written {
        kind,
        span: item.span.clone(),
        entries,
        name: name(item)?,
        repeat: shared.maybe_count("repeat"),
        start: item.get("init").map(|entry| Start::read(&entry.item)).transpose()?,
    })
}

fn name(item: &Item) -> Result<Option<(&str, &Span)>, Problem> {
    let Some(entry) = item.get("name") else { return Ok(None) };
    let Value::Text(name) = &entry.item.value else { return Ok(None) };
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.len() > 64 || !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let problem = Problem::new(&entry.item.span, format!("`{name}` is no name of a layer"));
        return Err(problem.hint("a name is letters, digits and _, and starts with no digit, such as \"stem\""));
    }
    Ok(Some((name, &entry.item.span)))
}

/// Reads layers without building them: kinds and options must be right before anything is known of the data.
pub(crate) fn review(list: &Item) -> Result<(), Problem> {
    let Value::List(items) = &list.value else {
        return Err(Problem::new(&list.span, format!("layers are a list, not {}", list.describe())));
    };
    for item in items {
        let written = read(item)?;
        let what = format!("`{}`", written.kind.name);
        Options::read(&what, &written.span, &written.entries, written.kind.fields)?;
        for (name, entry) in &written.entries {
            let field = written.kind.fields.iter().find(|field| field.name == *name);
            match (field.map(|field| field.form), &entry.item.value) {
                (Some(Form::Layers), _) => review(&entry.item)?,
                (Some(Form::Branches), Value::List(lists)) => lists.iter().try_for_each(review)?,
                _ => {}
            }
        }
    }
    Ok(())
}
