//! Changes of a model file that help networks which do not train: first values, activations, norms, residual paths,
//! limits of gradients, the learning rate.
//!
//! A change is made in the text, so that the author's own lines and comments stay, and the new text is read as any other.
//! This room decides nothing: who asks for a change measures what comes of it.

use std::fmt;

use serde::Serialize;

use super::build::{COMMON, Row};
use super::edit::with_setting;
use super::fields::Form;
use super::kinds::{self, Kind};
use super::source::{Item, Value};
use super::spec::Spec;
use crate::data::ExampleType;

/// One change of a model file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// `init` of all weights, as TOML writes it.
    Start(String),
    /// Squashing activations, or rectifiers that may die, become this layer; not the last of the network.
    Activation(String),
    /// A norm after each linear layer and convolution but the last.
    Norm,
    /// A residual path around each layer that gives as much as it takes.
    Residual,
    /// A norm before the first layer.
    NormFirst,
    /// `"relu"` between two linear layers.
    Between,
    /// Without the softmax or sigmoid at the end.
    Logits,
    /// A recurrent cell with gates, `gru` for `rnn`.
    Gates,
    /// `rate` of `[optimizer]`.
    Rate(f64),
    /// `clip_norm` of `[train]`.
    ClipNorm(f64),
    /// `warm_up` of the schedule, in steps.
    WarmUp(u64),
    /// `precision` of `[train]`.
    Precision(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Start(value) => write!(f, "init = {value}"),
            Change::Activation(layer) => write!(f, "{layer} as activation"),
            Change::Norm => f.write_str("a norm after each layer"),
            Change::Residual => f.write_str("a residual path around each layer"),
            Change::NormFirst => f.write_str("{ batch_norm = true } first"),
            Change::Between => f.write_str("\"relu\" between linear layers"),
            Change::Logits => f.write_str("logits at the end"),
            Change::Gates => f.write_str("gru for rnn"),
            Change::Rate(rate) => write!(f, "rate = {rate:?}"),
            Change::ClipNorm(most) => write!(f, "clip_norm = {most:?}"),
            Change::WarmUp(steps) => write!(f, "warm_up = {steps}"),
            Change::Precision(name) => write!(f, "precision = \"{name}\""),
        }
    }
}

/// A piece of the text and what takes its place.
type Edit = (std::ops::Range<usize>, String);

impl Spec {
    /// The file with some changes made, one after the other; none if one of them changes nothing, or the file would not be
    /// one for these examples any more.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule::tensor::Type;
    /// use chainrule_train::data::ExampleType;
    /// use chainrule_train::model::{Change, Spec};
    /// let text = "[model]\nlayers = [{ linear = 8 }, \"tanh\", { linear = 8 }, \"tanh\", { linear = 2 }] # mine\n";
    /// let example =
    ///     ExampleType { inputs: vec![Type::new(DType::F32, [8])], targets: vec![Type::new(DType::I64, [])], classes: Some(2) };
    /// let spec = Spec::parse("deep.toml", text)?;
    /// let changed = |change| spec.changed(&example, &[change]).unwrap().text().to_owned();
    /// assert_eq!(
    ///     changed(Change::Activation("\"relu\"".into())),
    ///     "[model]\nlayers = [{ linear = 8 }, \"relu\", { linear = 8 }, \"relu\", { linear = 2 }] # mine\n"
    /// );
    /// assert!(changed(Change::Residual).contains("[{ residual = [{ linear = 8 }, \"tanh\"] }, { residual = ["));
    /// assert!(changed(Change::ClipNorm(1.0)).ends_with("[train]\nclip_norm = 1.0\n"));
    /// assert!(spec.changed(&example, &[Change::Gates]).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn changed(&self, example: &ExampleType, changes: &[Change]) -> Option<Spec> {
        let mut spec = None;
        for change in changes {
            let from = spec.as_ref().unwrap_or(self);
            let text = from.with_change(example, change)?;
            let next = Spec::parse(from.file(), &text).ok()?;
            next.check(example).ok()?;
            spec = Some(next);
        }
        spec
    }

    /// The kinds of the layers of the file, each once, wherever they stand.
    pub fn kinds(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        for list in self.lists() {
            for name in items(list).iter().filter_map(kind_of).map(|kind| kind.name) {
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
        found
    }

    /// Every list of layers, those within layers after the one that they are in; the network's own first.
    fn lists(&self) -> Vec<&Item> {
        let mut lists = Vec::new();
        let parts = ["generator", "discriminator", "encoder", "decoder"];
        if let Some(model) = self.root.get("model") {
            let own = parts.iter().filter_map(|part| model.item.get(part)?.item.get("layers"));
            lists.extend(model.item.get("layers").into_iter().chain(own).map(|entry| &entry.item));
        }
        let blocks = self.root.get("block").map_or(&[][..], |entry| entry.item.entries());
        lists.extend(blocks.iter().filter_map(|block| block.item.get("layers")).map(|entry| &entry.item));
        let mut at = 0;
        while let Some(&list) = lists.get(at) {
            lists.extend(items(list).iter().flat_map(inside));
            at += 1;
        }
        lists.retain(|list| matches!(list.value, Value::List(_)));
        lists
    }

    /// The text with one change; none if nothing would be another.
    fn with_change(&self, example: &ExampleType, change: &Change) -> Option<String> {
        let text = match change {
            Change::Start(value) => self.started(value)?,
            Change::Activation(layer) => self.edited(|list, main| activations(list, main, layer)),
            Change::Norm => self.edited(normed),
            Change::Residual => {
                let rows = self.check(example).ok()?;
                self.edited(|list, main| residuals(self.text(), list, main.then_some(&rows)))
            }
            Change::NormFirst => self.edited(|list, main| first(list).filter(|_| main).into_iter().collect()),
            Change::Between => self.edited(|list, _| between(list)),
            Change::Logits => self.edited(|list, main| if main { without_squash(list) } else { Vec::new() }),
            Change::Gates => self.edited(|list, _| gates(list)),
            Change::Rate(rate) => {
                let named = match self.root.get("optimizer") {
                    Some(_) => self.text().to_owned(),
                    None => with_setting(self.text(), "optimizer.name", "adam").ok()?,
                };
                with_setting(&named, "optimizer.rate", &format!("{rate:?}")).ok()?
            }
            Change::ClipNorm(most) => with_setting(self.text(), "train.clip_norm", &format!("{most:?}")).ok()?,
            Change::Precision(name) => with_setting(self.text(), "train.precision", name).ok()?,
            Change::WarmUp(steps) => self.warmed(*steps)?,
        };
        (text != self.text()).then_some(text)
    }

    /// Edits of every list of layers. A list is told whether it is the network's own.
    fn edited(&self, edit: impl Fn(&Item, bool) -> Vec<Edit>) -> String {
        let own = |list: &Item| {
            let model = self.root.get("model").map(|entry| entry.item.span.clone());
            let alone = self.root.get("model").and_then(|entry| entry.item.get("layers"));
            model.is_some() && alone.is_some_and(|entry| entry.item.span == list.span)
        };
        let mut edits: Vec<Edit> = self.lists().iter().flat_map(|list| edit(list, own(list))).collect();
        // From the end, so that what is before keeps its place; what is inserted at one place keeps its order.
        edits.sort_by_key(|(span, _)| (span.start, span.end));
        let mut text = self.text().to_owned();
        for (span, new) in edits.into_iter().rev() {
            text.replace_range(span, &new);
        }
        text
    }

    fn started(&self, value: &str) -> Option<String> {
        let text = self.edited(|list, _| {
            let own = |item: &Item| item.get("init").map(|entry| (entry.item.span.clone(), value.to_owned()));
            items(list).iter().filter_map(own).collect()
        });
        with_setting(&text, "model.init", value).ok()
    }

    fn warmed(&self, steps: u64) -> Option<String> {
        let inner = self.root.get("optimizer").and_then(|entry| entry.item.get("schedule"));
        let table = if inner.is_some() { "optimizer.schedule" } else { "schedule" };
        let named = match inner.or(self.root.get("schedule")) {
            Some(_) => self.text().to_owned(),
            None => with_setting(self.text(), "schedule.name", "constant").ok()?,
        };
        with_setting(&named, &format!("{table}.warm_up"), &steps.to_string()).ok()
    }
}

fn items(list: &Item) -> &[Item] {
    match &list.value {
        Value::List(items) => items,
        _ => &[],
    }
}

/// The kind of a layer as it is written.
fn kind_of(item: &Item) -> Option<&'static Kind> {
    match &item.value {
        Value::Text(word) => kinds::find(word),
        Value::Table(entries) => match item.get("kind").map(|entry| &entry.item.value) {
            Some(Value::Text(word)) => kinds::find(word),
            _ => kinds::find(&entries.iter().find(|entry| COMMON.iter().all(|field| field.name != entry.key))?.key),
        },
        _ => None,
    }
}

fn is(item: &Item, names: &[&str]) -> bool {
    kind_of(item).is_some_and(|kind| names.contains(&kind.name))
}

/// The lists of layers within a layer.
fn inside(item: &Item) -> Vec<&Item> {
    let Some(kind) = kind_of(item) else { return Vec::new() };
    let form = |key: &str| {
        let own = kind.own().filter(|_| key == kind.name);
        own.or(kind.fields.iter().find(|field| field.name == key)).map(|field| field.form)
    };
    let of = |entry: &'_ super::source::Entry| form(&entry.key);
    item.entries()
        .iter()
        .flat_map(|entry| match of(entry) {
            Some(Form::Layers) => vec![&entry.item],
            Some(Form::Branches) => items(&entry.item).iter().collect(),
            _ => Vec::new(),
        })
        .collect()
}

const WEIGHTED: &[&str] = &["linear", "conv", "conv_transpose"];
const NORMS: &[&str] = &["batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"];
const SQUASHING: &[&str] = &["sigmoid", "tanh", "hard_sigmoid", "hard_tanh", "softsign"];
const BESIDE: &[&str] =
    &["relu", "leaky_relu", "elu", "celu", "selu", "gelu", "gelu_tanh", "silu", "mish", "softplus", "dropout"];

/// The place of the last layer with weights, where the network ends.
fn last_weighted(list: &Item, main: bool) -> Option<usize> {
    items(list).iter().rposition(|item| is(item, WEIGHTED)).filter(|_| main)
}

fn activations(list: &Item, main: bool, layer: &str) -> Vec<Edit> {
    let all = items(list);
    // What stands behind the last layer with weights is the network's output.
    let end = last_weighted(list, main).unwrap_or(all.len());
    let fits = |item: &&Item| is(item, SQUASHING) || is(item, &["relu"]);
    all[..end].iter().filter(fits).map(|item| (item.span.clone(), layer.to_owned())).collect()
}

fn normed(list: &Item, main: bool) -> Vec<Edit> {
    let (all, last) = (items(list), last_weighted(list, main));
    let fits = |at: &usize| {
        is(&all[*at], WEIGHTED) && Some(*at) != last && !all.get(at + 1).is_some_and(|next| is(next, NORMS))
    };
    let norm =
        |at: usize| if is(&all[at], &["linear"]) { ", { layer_norm = true }" } else { ", { batch_norm = true }" };
    (0..all.len()).filter(fits).map(|at| (all[at].span.end..all[at].span.end, norm(at).to_owned())).collect()
}

/// Whether a layer gives as much as it takes, by what is written.
fn says_same(item: &Item) -> bool {
    let text =
        |key: &str| matches!(item.get(key).map(|entry| &entry.item.value), Some(Value::Text(word)) if word == "same");
    let number = |key: &str, usual: i64| match item.get(key).map(|entry| &entry.item.value) {
        Some(Value::Integer(number)) => *number,
        _ => usual,
    };
    let padded = || text("padding") || 2 * number("padding", 0) + 1 == number("kernel", 3);
    (text("linear") || text("conv") && padded()) && number("stride", 1) == 1
}

/// Whether it does by what was built: the rows of its path.
fn is_same(item: &Item, place: usize, rows: &[Row]) -> bool {
    let name = match item.get("name").map(|entry| &entry.item.value) {
        Some(Value::Text(name)) => name.clone(),
        _ => place.to_string(),
    };
    let own: Vec<&Row> = rows.iter().filter(|row| row.path == name).collect();
    matches!(own[..], [row] if row.input == row.output)
}

/// Each layer with weights and what follows it, within a residual path.
fn residuals(text: &str, list: &Item, rows: Option<&Vec<Row>>) -> Vec<Edit> {
    let (all, mut edits) = (items(list), Vec::new());
    for at in 0..all.len() {
        let same = says_same(&all[at]) || rows.is_some_and(|rows| is_same(&all[at], at, rows));
        if !is(&all[at], WEIGHTED) || !same {
            continue;
        }
        let follows = |item: &&Item| is(item, BESIDE) || is(item, NORMS) || is(item, SQUASHING);
        let last = at + all[at + 1..].iter().take_while(follows).count();
        let span = all[at].span.start..all[last].span.end;
        edits.push((span.clone(), format!("{{ residual = [{}] }}", &text[span])));
    }
    edits
}

fn first(list: &Item) -> Option<Edit> {
    let item = items(list).first().filter(|item| !is(item, &["embedding", "patch_embedding"]) && !is(item, NORMS))?;
    Some((item.span.start..item.span.start, "{ batch_norm = true }, ".to_owned()))
}

fn between(list: &Item) -> Vec<Edit> {
    let linear = |item: &Item| is(item, WEIGHTED);
    let pairs = items(list).windows(2).filter(|pair| linear(&pair[0]) && linear(&pair[1]));
    pairs.map(|pair| (pair[0].span.end..pair[0].span.end, ", \"relu\"".to_owned())).collect()
}

fn without_squash(list: &Item) -> Vec<Edit> {
    match items(list) {
        [.., before, last] if is(last, &["softmax", "sigmoid"]) => {
            vec![(before.span.end..last.span.end, String::new())]
        }
        _ => Vec::new(),
    }
}

fn gates(list: &Item) -> Vec<Edit> {
    let plain = |item: &&Item| is(item, &["rnn"]) && item.get("activation").is_none();
    items(list).iter().filter(plain).filter_map(|item| Some((item.get("rnn")?.at.clone(), "gru".to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chainrule::tensor::{DType, Type};

    fn example() -> ExampleType {
        ExampleType {
            inputs: vec![Type::new(DType::F32, [1, 8, 8])],
            targets: vec![Type::new(DType::I64, [])],
            classes: Some(10),
        }
    }

    #[test]
    fn changes_are_made_where_they_belong() {
        let text = "[block.twice]\nlayers = [{ conv = \"same\", padding = 1 }, \"tanh\"]\n\
                    [model]\nlayers = [{ conv = 4, padding = 1 }, \"relu\", { block = \"twice\", repeat = 2 }, \"flatten\",\n\
                    { linear = 16, init = \"zeros\" }, { linear = 10 }, \"softmax\"]\n[optimizer]\nname = \"sgd\"\nrate = 1\n";
        let spec = Spec::parse("a.toml", text).unwrap();
        let changed = |change: Change| spec.changed(&example(), &[change]).map(|spec| spec.text().to_owned());
        let rows: [(Change, &[&str]); 10] = [
            (
                Change::Start("\"kaiming_normal\"".into()),
                &["init = \"kaiming_normal\"\nlayers", "{ linear = 16, init = \"kaiming_normal\" }"],
            ),
            (Change::Activation("\"gelu\"".into()), &["padding = 1 }, \"gelu\", { block", "padding = 1 }, \"gelu\"]"]),
            (
                Change::Norm,
                &[
                    "{ conv = 4, padding = 1 }, { batch_norm = true }, \"relu\"",
                    "init = \"zeros\" }, { layer_norm = true }, { linear = 10 }, \"softmax\"",
                ],
            ),
            (
                Change::Residual,
                &["layers = [{ residual = [{ conv = \"same\", padding = 1 }, \"tanh\"] }]", "layers = [{ conv = 4"],
            ),
            (Change::NormFirst, &["layers = [{ batch_norm = true }, { conv = 4"]),
            (Change::Between, &["init = \"zeros\" }, \"relu\", { linear = 10 }"]),
            (Change::Logits, &["{ linear = 10 }]"]),
            (Change::Rate(0.5), &["rate = 0.5"]),
            (Change::ClipNorm(1.0), &["[train]\nclip_norm = 1.0"]),
            (Change::WarmUp(30), &["[schedule]\nwarm_up = 30\nname = \"constant\""]),
        ];
        let faults: Vec<String> = rows
            .into_iter()
            .filter_map(|(change, pieces)| {
                let name = change.to_string();
                let new = changed(change).unwrap_or_default();
                let missing = pieces.iter().find(|piece| !new.contains(**piece))?;
                Some(format!("{name}: {missing} is not in\n{new}"))
            })
            .collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert_eq!(changed(Change::Gates), None);
        assert_eq!(spec.kinds(), ["conv", "relu", "block", "flatten", "linear", "softmax", "tanh"]);
    }

    #[test]
    fn a_change_that_breaks_the_file_is_none() {
        let text = "[model]\nlayers = [\"flatten\", { rnn = 4 }, { linear = 10 }]\n";
        let spec = Spec::parse("a.toml", text).unwrap();
        assert!(spec.changed(&example(), &[Change::Gates]).is_none());
    }
}
