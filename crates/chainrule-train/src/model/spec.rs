//! A model file as a whole: its sections read and checked, its network built for the form of the data.

use std::path::Path;
use std::sync::Arc;

use chainrule::plan::MemoryBudgetError;
use chainrule::tensor::{Key, Type, Written};
use chainrule_nn::optimizer::{AnyOptimizer, OptimizerSettings, SettingsError};
use chainrule_nn::precision::Precision;
use chainrule_nn::schedule::ScheduleSettings;

use super::build::{Row, written_at};
use super::form::{Model, batched};
use super::loss::{Loss, Seen};
use super::module::{Form, Network};
use super::settings::{Average, Report, Train, Watch};
use super::source::{Entry, Item, ModelError, Problem, Span, Value, parse, section};
use crate::data::{DataSettings, ExampleType};
use crate::task::{Averaging, Clip, Objective, Supervised};

/// The sections of a file.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("description", "one sentence about the file"),
    ("data", "what is learned from"),
    ("example", "what one example looks like, where the data does not say it before it is read"),
    ("model", "the network"),
    ("block", "[block.NAME]: layers that the network uses by name"),
    ("loss", "how wrong an output is"),
    ("optimizer", "how weights change"),
    ("schedule", "how the learning rate changes"),
    ("train", "how long, how much at once"),
    ("report", "what is measured"),
    ("watch", "whether steps are looked at while it trains"),
];

/// A model file that has been read: its words are right. Whether sizes fit is seen when it is [built](Spec::build).
#[derive(Debug)]
pub struct Spec {
    file: String,
    text: Arc<str>,
    pub(super) root: Item,
    pub(super) model: Model,
    loss: Option<Loss>,
    optimizer: OptimizerSettings,
    train: Train,
    report: Report,
    watch: Watch,
    data: Option<DataSettings>,
    example: Option<ExampleType>,
    /// Names of the inputs, as many as are known.
    names: Vec<String>,
}

impl Spec {
    /// Reads the text of a file; its name is for messages.
    ///
    /// # Errors
    /// If the text is no TOML, or a section, kind or option is unknown, missing or not of its form.
    pub fn parse(file: &str, text: &str) -> Result<Spec, ModelError> {
        let text: Arc<str> = text.into();
        read(file, &text).map_err(|problem| problem.in_file(file, &text))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`Spec::parse`], or if there is no such file.
    pub fn open(path: &Path) -> Result<Spec, Box<dyn std::error::Error + Send + Sync>> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Spec::parse(&path.display().to_string(), &text)?)
    }

    /// What the file says about itself.
    pub fn description(&self) -> Option<&str> {
        match &self.root.get("description")?.item.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name of the file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The form of examples, as far as the file says it: as `[example]` has it, or the set of a known name.
    pub fn example(&self) -> Option<&ExampleType> {
        self.example.as_ref()
    }

    /// `[data]`.
    pub fn data(&self) -> Option<&DataSettings> {
        self.data.as_ref()
    }

    /// A section of the file, such as `[data]`, as settings that serde reads.
    ///
    /// # Errors
    /// If it does not have their form; the mistake is shown at its line.
    pub fn section<T: for<'de> serde::Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, ModelError> {
        section(&self.text, name).map_err(|problem| self.error(problem))
    }

    /// `[train]`.
    pub fn train(&self) -> &Train {
        &self.train
    }

    /// Takes another number of examples a step than the file's.
    pub fn set_batch(&mut self, batch: usize) {
        self.train.batch = batch.max(1);
    }

    /// That `memory_budget` of `[train]` cannot be met, shown at its line.
    pub fn budget_refused(&self, error: &MemoryBudgetError) -> ModelError {
        let train = self.root.get("train");
        let entry = train.and_then(|train| train.item.get("memory_budget")).or(train);
        let span = entry.map_or(0..0, |entry| entry.item.span.clone());
        let message =
            format!("the step does not fit into {} bytes: without a budget it takes {}", error.budget, error.whole);
        let hint = format!("allow {} bytes, the least that was found, or make the batch smaller", error.least);
        self.error(Problem::new(&span, message).hint(hint))
    }

    /// `[report]`.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// `[watch]`.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// The network for data of this form, with first values from a key. Nothing is computed: weights are expressions.
    ///
    /// # Errors
    /// If a layer does not take what comes in, or the network's end does not go with loss and target.
    pub fn build(&self, example: &ExampleType, key: &Key) -> Result<Network, ModelError> {
        Ok(self.build_rows(example, key)?.0)
    }

    /// The layers of that network one by one, with what comes in and out for a batch of `[train]`.
    ///
    /// # Errors
    /// As [`Spec::build`].
    pub fn check(&self, example: &ExampleType) -> Result<Vec<Row>, ModelError> {
        Ok(self.build_rows(example, &Key::new(0))?.1)
    }

    /// What the network should do: its loss and metrics.
    pub fn objective(&self) -> Objective<Network> {
        let loss = self.loss.as_ref().map(|loss| loss.function(&self.names));
        let usual = [true, false].map(|classes| Loss::usual(classes, &self.root.span).function(&self.names));
        let at = match (self.root.get("loss"), self.root.get("model")) {
            (Some(entry), _) => self.written_at(&entry.item.span, "loss"),
            (None, Some(entry)) => self.written_at(&entry.at, "usual loss"),
            (None, None) => self.written_at(&self.root.span, "usual loss"),
        };
        let ignored = self.ignored();
        let objective = Objective::new(
            |network: &mut Network, batch, context| network.forward(&batch.inputs, context),
            move |output, batch| {
                let usual = || &usual[usize::from(batch.target().dtype().is_float())];
                at.scope(|| loss.as_ref().unwrap_or_else(usual)(output, batch))
            },
        )
        .metrics(self.report.metrics.iter().copied())
        .precision(match self.train.precision.as_str() {
            "bf16" => Precision::Bf16,
            "f16" => Precision::F16,
            _ => Precision::F32,
        });
        match ignored {
            Some(class) => objective.ignore(class),
            None => objective,
        }
    }

    /// The task of training it in so many steps. Of a [`Form::Gan`] it is [`Spec::gan`].
    pub fn task(&self, steps: u64) -> Supervised<Network, AnyOptimizer<Network>> {
        let train = &self.train;
        let task = Supervised::new(self.objective()).accumulate(train.accumulate).written(self.optimizer_line());
        let clips = [train.clip_value.map(Clip::Value), train.clip_norm.map(Clip::Norm)];
        let task = clips.into_iter().flatten().fold(task, Supervised::clip);
        match train.average {
            Average::None => task,
            Average::Ema(decay) => task.average(Averaging::ExponentialWarm(decay)),
            // Of the last quarter.
            Average::Swa => task.average(Averaging::Stochastic { start: steps - steps / 4, every: 1 }),
        }
    }

    /// The class of targets that does not count, if there is one.
    pub(crate) fn ignored(&self) -> Option<i64> {
        self.loss.as_ref().and_then(Loss::ignored)
    }

    /// Whether the file leaves the loss to the target.
    pub fn usual_loss(&self) -> bool {
        self.loss.is_none()
    }

    /// Batches that one step takes: `accumulate` of `[train]`, or `critic_steps` of a pair of networks.
    pub fn batches_a_step(&self) -> usize {
        match self.model.options.maybe_count("critic_steps") {
            Some(steps) => steps,
            None => self.train.accumulate.max(1),
        }
    }

    /// The settings of `[optimizer]` and `[schedule]`.
    pub fn optimizer_settings(&self) -> &OptimizerSettings {
        &self.optimizer
    }

    /// The optimizer of a network in a run of so many steps.
    ///
    /// # Errors
    /// If a group's pattern names no parameter.
    pub fn optimizer(&self, network: &Network, steps: u64) -> Result<AnyOptimizer<Network>, ModelError> {
        self.optimizer.build(network, steps).map_err(|error| self.error(setting(&self.root, &error)))
    }

    pub(crate) fn build_rows(&self, example: &ExampleType, key: &Key) -> Result<(Network, Vec<Row>), ModelError> {
        let batch = self.train.batch;
        let built = self.model.build(self.blocks(), (&self.file, &self.text), example, &self.names, batch, key);
        let built = built.map_err(|problem| self.error(problem))?;
        if built.network.form() != Form::Gan {
            self.check_loss(&built.end, example).map_err(|problem| self.error(problem))?;
        }
        Ok((built.network, built.rows))
    }

    /// Whether the network's end goes with loss, target and metrics.
    fn check_loss(&self, end: &Type, example: &ExampleType) -> Result<(), Problem> {
        if example.targets.is_empty() && self.usual_loss() {
            return Ok(());
        }
        let batch = self.train.batch;
        let target = example.targets.first().map(|target| batched(target, batch));
        let inputs = example.inputs.iter().map(|ty| batched(ty, batch));
        let inputs: Vec<(String, Type)> = self.names.iter().cloned().zip(inputs).collect();
        let usual = Loss::usual(target.as_ref().is_some_and(|target| !target.dtype.is_float()), &self.root.span);
        let loss = self.loss.as_ref().unwrap_or(&usual);
        let seen = Seen { output: end, target: target.as_ref(), classes: example.classes, inputs: &inputs };
        loss.check(&seen, &self.model.end())?;
        let metrics = self.root.get("report").and_then(|report| report.item.get("metrics"));
        match (loss.compares(), metrics) {
            ((name, false), Some(metrics)) if !self.report.metrics.is_empty() => {
                let message = format!("metrics compare an output with its target, and `{name}` does not");
                Err(Problem::new(&metrics.item.span, message).hint("leave `metrics` out: the loss is reported"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn error(&self, problem: Problem) -> ModelError {
        problem.in_file(&self.file, &self.text)
    }

    /// A place of the file as the line that operations have.
    pub(super) fn written_at(&self, span: &Span, what: &str) -> &'static Written {
        written_at((&self.file, &self.text), span, what)
    }

    /// The line of `[optimizer]`; that of the network if the file leaves it out.
    pub(super) fn optimizer_line(&self) -> &'static Written {
        let entry = self.root.get("optimizer").or(self.root.get("model"));
        self.written_at(&entry.map_or(0..0, |entry| entry.at.clone()), "optimizer")
    }

    fn blocks(&self) -> &[Entry] {
        self.root.get("block").map_or(&[], |entry| entry.item.entries())
    }
}

fn read(file: &str, text: &Arc<str>) -> Result<Spec, Problem> {
    let root = parse(text)?;
    let names = || SECTIONS.iter().map(|section| section.0);
    if let Some(entry) = root.entries().iter().find(|entry| !names().any(|name| name == entry.key)) {
        return Err(
            Problem::new(&entry.at, format!("there is no section `{}`", entry.key)).nearest(&entry.key, names())
        );
    }
    let Some(model) = root.get("model") else {
        let problem = Problem::new(&(0..0), "the file has no [model]");
        return Err(problem.hint("add [model] with layers = [ … ]"));
    };
    let empty = Item { span: 0..0, value: Value::Table(Vec::new()) };
    let section = |name: &str| root.get(name).map_or(&empty, |entry| &entry.item);
    for block in section("block").entries() {
        if let Some(layers) = block.item.get("layers") {
            super::build::review(&layers.item)?;
        }
    }
    let data = data(&root, text)?;
    let (model, train, report) =
        (Model::read(&model.item)?, Train::read(section("train"))?, Report::read(section("report"))?);
    let (example, names) = super::example::example(&root, data.as_ref())?;
    if model.kind.name == "gan" {
        super::gan::review(&root, &train, &report)?;
    }
    Ok(Spec {
        file: file.to_owned(),
        text: text.clone(),
        model,
        loss: root.get("loss").map(|entry| Loss::read(&entry.item)).transpose()?,
        optimizer: optimizer(&root, text)?,
        train,
        report,
        watch: Watch::read(root.get("watch").map(|entry| &entry.item))?,
        example,
        names,
        data,
        root: root.clone(),
    })
}

/// `[data]`, its options being those of its set.
fn data(root: &Item, text: &str) -> Result<Option<DataSettings>, Problem> {
    let data: Option<DataSettings> = section(text, "data")?;
    if let (Some(data), Some(entry)) = (&data, root.get("data")) {
        let known = |key: &str| key == "set" || data.set.options().contains(&key);
        if let Some(other) = entry.item.entries().iter().find(|entry| !known(&entry.key)) {
            let problem = Problem::new(&other.at, format!("the set {} has no option `{}`", data.set, other.key));
            return Err(problem.nearest(&other.key, data.set.options().iter().copied()));
        }
        data.check().map_err(|error| Problem::new(&entry.at, format!("[data]: {error}")))?;
    }
    Ok(data)
}

/// `[optimizer]` with `[schedule]`; Adam at 0.001 if there is none.
fn optimizer(root: &Item, text: &str) -> Result<OptimizerSettings, Problem> {
    let settings: Option<OptimizerSettings> = section(text, "optimizer")?;
    let mut settings = settings.unwrap_or_else(|| OptimizerSettings::new("adam", 1e-3));
    let schedule: Option<ScheduleSettings> = section(text, "schedule")?;
    if let (Some(entry), true) = (root.get("schedule"), settings.schedule.is_some()) {
        let problem = Problem::new(&entry.at, "the schedule is given twice");
        return Err(problem.hint("leave out [schedule] or [optimizer.schedule]"));
    }
    settings.schedule = schedule.or(settings.schedule);
    // A tree of no parameters: whatever does not depend on the network is checked here. Groups are checked with it.
    let alone = OptimizerSettings { groups: Default::default(), ..settings.clone() };
    alone.build(&(), 1000).map_err(|error| setting(root, &error))?;
    Ok(settings)
}

/// A mistake of an optimizer's or schedule's setting, at its place.
pub(super) fn setting(root: &Item, error: &SettingsError) -> Problem {
    let tables: Vec<&Entry> = ["optimizer", "schedule"].iter().filter_map(|name| root.get(name)).collect();
    let named = tables.iter().find_map(|table| table.item.get(&error.setting));
    let whole = tables.first().map_or(0..0, |table| table.at.clone());
    let span = named.map_or(whole, |entry| entry.item.span.clone());
    let message = error.message.trim();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match (message.starts_with("unknown"), quoted.split_first()) {
        (true, Some((word, names))) => {
            let span = named
                .map_or(span, |entry| if error.setting == "name" { entry.item.span.clone() } else { entry.at.clone() });
            let (what, name) = if error.setting == "name" {
                ("there is no optimizer", *word)
            } else {
                ("the optimizer has no setting", *word)
            };
            Problem::new(&span, format!("{what} `{name}`")).nearest(word, names.iter().copied())
        }
        _ => Problem::new(&span, format!("`{}` {message}", error.setting)),
    }
}
