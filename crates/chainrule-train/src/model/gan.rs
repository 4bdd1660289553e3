//! What a file says of two networks that train each other: their task, and an optimizer for each.

use std::slice::from_ref;

use chainrule::tensor::{Key, Tensor};
use chainrule_nn::context::Context;
use chainrule_nn::optimizer::{AnyOptimizer, OptimizerSettings};

use super::module::Network;
use super::settings::{Average, Report, Train};
use super::source::{Item, ModelError, Problem};
use super::spec::{Spec, setting};
use crate::data::Batch;
use crate::task::{Adversarial, Gan, Players};

/// The task of a generator and a discriminator of a file.
pub type GanTask = Gan<Network, Network, AnyOptimizer<Network>, AnyOptimizer<Network>>;
/// What that task trains.
pub type GanState = Players<Network, Network, AnyOptimizer<Network>, AnyOptimizer<Network>>;

/// Losses by their words.
pub(crate) const LOSSES: &[&str] = &["logistic", "hinge", "wasserstein"];

/// The loss of a network over a batch in training, with the random numbers of a key; of one of a pair beside the other.
pub type NetworkLoss = Box<dyn Fn(&Network, Option<&Network>, &Batch, &Key) -> Tensor>;

impl Spec {
    /// Each network that is trained with the loss that it is trained by: one without a name, or `generator` and
    /// `discriminator`, as [`Gan::generator_loss`] and [`Gan::discriminator_loss`] are.
    pub fn losses(&self) -> Vec<(&'static str, NetworkLoss)> {
        if self.model.kind.name != "gan" {
            let objective = self.objective();
            let loss = move |network: &Network, _: Option<&Network>, batch: &Batch, key: &Key| {
                objective.loss(&mut network.clone(), batch, &mut Context::training(key.clone())).0
            };
            return vec![("", Box::new(loss))];
        }
        let (made, judged) = (self.gan(), self.gan());
        let beside = |other: Option<&Network>| other.cloned().expect("a network of a pair goes with the other");
        vec![
            ("generator", Box::new(move |own, other, batch, key| made.generator_loss(own, &beside(other), batch, key))),
            (
                "discriminator",
                Box::new(move |own, other, batch, key| judged.discriminator_loss(own, &beside(other), batch, key)),
            ),
        ]
    }

    /// The task of a [`Form::Gan`](super::Form::Gan): `loss`, `gradient_penalty` and `critic_steps` of `[model]`,
    /// `clip_norm` and `average` of `[train]`.
    ///
    /// # Panics
    /// If the model is of another form.
    pub fn gan(&self) -> GanTask {
        let options = &self.model.options;
        let loss = match options.word("loss") {
            "hinge" => Adversarial::Hinge,
            "wasserstein" => Adversarial::Wasserstein,
            _ => Adversarial::Logistic,
        };
        let pass = |network: &mut Network, x: &_, context: &mut _| network.forward(from_ref(x), context);
        let task = Gan::new(options.count("noise"), pass, pass).loss(loss).critic_steps(self.batches_a_step());
        let losses = options.item("loss").map_or(&options.span, |item| &item.span);
        let task = task.written(self.written_at(losses, "loss"), self.optimizer_line());
        let task = options.maybe_number("gradient_penalty").into_iter().fold(task, Gan::gradient_penalty);
        let task = self.train().clip_norm.into_iter().fold(task, Gan::clip_norm);
        match self.train().average {
            Average::Ema(decay) => task.average(decay),
            _ => task,
        }
    }

    /// What that task starts from, in a training of so many steps. Groups of `[optimizer]` whose pattern begins with
    /// `generator.` or `discriminator.` hold for that one, others for both.
    ///
    /// # Errors
    /// If a group's pattern names no parameter.
    ///
    /// # Panics
    /// If the network is of another form.
    pub fn gan_start(&self, network: &Network, steps: u64) -> Result<GanState, ModelError> {
        // Whether all groups have parameters is a matter of both together.
        self.optimizer(network, steps)?;
        let Ok([(_, generator), (_, discriminator)]) = <[_; 2]>::try_from(network.parts()) else {
            panic!("gan_start: a network without a generator and a discriminator");
        };
        let optimizers =
            [self.of_part("generator", &generator, steps)?, self.of_part("discriminator", &discriminator, steps)?];
        let [of_generator, of_discriminator] = optimizers;
        Ok(self.gan().start(generator, discriminator, of_generator, of_discriminator))
    }

    /// The optimizer of one of the two.
    fn of_part(&self, part: &str, network: &Network, steps: u64) -> Result<AnyOptimizer<Network>, ModelError> {
        let settings = self.optimizer_settings();
        let own = |pattern: &str| {
            pattern.strip_prefix(part).and_then(|rest| rest.strip_prefix('.')).unwrap_or(pattern).to_owned()
        };
        let with = |groups| OptimizerSettings { groups, ..settings.clone() };
        let groups = settings.groups.iter().map(|(pattern, group)| (own(pattern), *group));
        let groups = groups.filter(|group| with([group.clone()].into()).build(network, steps).is_ok()).collect();
        with(groups).build(network, steps).map_err(|error| self.error(setting(&self.root, &error)))
    }
}

/// Refuses settings that two networks against each other do not have.
pub(crate) fn review(root: &Item, train: &Train, report: &Report) -> Result<(), Problem> {
    let rows = [
        (
            root.get("loss").is_some(),
            "loss",
            "",
            "state it in [model]: loss = \"logistic\", \"hinge\" or \"wasserstein\"",
        ),
        (train.accumulate > 1, "train", "accumulate", "`critic_steps` of [model] takes several batches a step"),
        (train.precision != "f32", "train", "precision", "leave it out: both networks are computed in f32"),
        (train.clip_value.is_some(), "train", "clip_value", "use `clip_norm`"),
        (train.average == Average::Swa, "train", "average", "use \"ema\", an average of the generator"),
        (
            !report.metrics.is_empty(),
            "report",
            "metrics",
            "leave it out: losses and the discriminator's accuracy are reported",
        ),
    ];
    let Some((_, section, name, hint)) = rows.into_iter().find(|row| row.0) else { return Ok(()) };
    let table = root.get(section);
    let entry = table.and_then(|table| table.item.get(name)).or(table);
    let what = if name.is_empty() { format!("[{section}]") } else { format!("`{name}`") };
    let at = entry.map_or(0..0, |entry| entry.at.clone());
    Err(Problem::new(&at, format!("{what} does not go with kind = \"gan\"")).hint(hint))
}
