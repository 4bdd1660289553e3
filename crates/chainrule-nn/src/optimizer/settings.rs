//! Optimizers by name, for files: all settings are checked here, and a mistake is named with its setting.

use super::rule::{self, Decay, Numbers, Parameter, Rule};
use super::{AnyOptimizer, Descent, Group};
use crate::schedule::{Plateau, PlateauSettings, Schedule, ScheduleSettings};
use chainrule::tensor::Tensor;
use chainrule::tree::Tree;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Any rule, in files under its name in small letters.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum AnyRule {
            $($(#[$doc])* $name(rule::$name),)*
        }
        impl AnyRule {
            fn rule(&self) -> &dyn Rule {
                match self { $(AnyRule::$name(rule) => rule,)* }
            }
        }
        $(impl From<rule::$name> for AnyRule {
            fn from(rule: rule::$name) -> AnyRule {
                AnyRule::$name(rule)
            }
        })*
    };
}
rules! {
    /// `sgd`
    Sgd,
    /// `adam`
    Adam,
    /// `adamw`
    AdamW,
    /// `nadam`
    NAdam,
    /// `radam`
    RAdam,
    /// `rmsprop`
    RmsProp,
    /// `adagrad`
    Adagrad,
    /// `adadelta`
    Adadelta,
    /// `lion`
    Lion,
    /// `lamb`
    Lamb,
    /// `muon`
    Muon,
}

impl Rule for AnyRule {
    fn name(&self) -> &'static str {
        self.rule().name()
    }
    fn moments(&self) -> Vec<&'static str> {
        self.rule().moments()
    }
    fn start(&self, moment: usize, path: &str, zeros: &Tensor) -> Tensor {
        self.rule().start(moment, path, zeros)
    }
    fn decay(&self) -> Decay {
        self.rule().decay()
    }
    fn weight_decay(&self) -> f64 {
        self.rule().weight_decay()
    }
    fn carried(&self) -> Option<f64> {
        self.rule().carried()
    }
    fn has_momentum(&self) -> bool {
        self.rule().has_momentum()
    }
    fn numbers(&self, t: &Tensor, carried: Option<&Tensor>, momentum: Option<&Tensor>) -> Numbers {
        self.rule().numbers(t, carried, momentum)
    }
    fn direction(&self, parameter: &Parameter<'_>, moments: &mut [Tensor]) -> Tensor {
        self.rule().direction(parameter, moments)
    }
    fn check(&self) -> Result<(), (&'static str, String)> {
        self.rule().check()
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct SettingsError {
    /// Its name.
    pub setting: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl SettingsError {
    /// Of a setting.
    pub fn new(setting: impl Into<String>, message: impl Into<String>) -> SettingsError {
        SettingsError { setting: setting.into(), message: message.into() }
    }
}

/// An optimizer's settings as they stand in a file.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let settings: OptimizerSettings = serde_json::from_str(
///     r#"{ "name": "adamw", "rate": 1e-3, "weight_decay": 0.1, "decay_matrices_only": true, "betas": [0.9, 0.95],
///          "schedule": { "name": "cosine", "warm_up": 100 }, "groups": { "layers.0.*": { "frozen": true } } }"#,
/// )
/// .unwrap();
/// let model = Mlp::new(&Key::new(1), &[2, 3, 1]);
/// let optimizer: AnyOptimizer<Mlp> = settings.build(&model, 2000).unwrap();
/// assert_eq!(optimizer.rate().item::<f64>(), 1e-5);
///
/// let wrong = OptimizerSettings { name: "sgd".into(), ..settings };
/// let error = wrong.build(&model, 2000).unwrap_err();
/// assert!(error.to_string().contains("unknown field `betas`"), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerSettings {
    /// The rule: `sgd`, `adam`, `adamw`, `nadam`, `radam`, `rmsprop`, `adagrad`, `adadelta`, `lion`, `lamb`, `muon`.
    pub name: String,
    /// The learning rate.
    pub rate: f64,
    /// Weight decay, the rule's own if it is left out.
    #[serde(default)]
    pub weight_decay: Option<f64>,
    /// No weight decay on biases and the scales of norms.
    #[serde(default)]
    pub decay_matrices_only: bool,
    /// How the rate changes.
    #[serde(default)]
    pub schedule: Option<ScheduleSettings>,
    /// Reducing the rate when the validation stops getting better.
    #[serde(default)]
    pub plateau: Option<PlateauSettings>,
    /// Parameter groups by the pattern of their paths.
    #[serde(default)]
    pub groups: BTreeMap<String, Group>,
    /// The rule's own settings, by the names of its fields.
    #[serde(flatten)]
    pub options: BTreeMap<String, serde_json::Value>,
}

impl OptimizerSettings {
    /// Those of a rule by name, with everything else as it is by default.
    pub fn new(name: &str, rate: f64) -> OptimizerSettings {
        OptimizerSettings {
            name: name.to_owned(),
            rate,
            weight_decay: None,
            decay_matrices_only: false,
            schedule: None,
            plateau: None,
            groups: BTreeMap::new(),
            options: BTreeMap::new(),
        }
    }

    /// The rule with its options.
    ///
    /// # Errors
    /// If there is no such rule, or an option is not one of its settings or makes no sense.
    pub fn rule(&self) -> Result<AnyRule, SettingsError> {
        let options = serde_json::to_value(&self.options);
        let options = options.map_err(|error| SettingsError::new(&self.name, error.to_string()))?;
        let tagged = serde_json::Value::Object([(self.name.clone(), options)].into_iter().collect());
        let rule: AnyRule = serde_json::from_value(tagged).map_err(|error| {
            // serde names an option in backquotes, or the rule.
            let message = error.to_string();
            let named = self.options.keys().find(|option| message.contains(&format!("`{option}`,")));
            SettingsError::new(named.map_or("name", String::as_str), message)
        })?;
        rule.check().map_err(|(setting, message)| SettingsError::new(setting, message))?;
        Ok(rule)
    }

    /// The optimizer for a model in a run of so many steps.
    ///
    /// # Errors
    /// If a setting makes no sense, or a group's pattern matches no parameter.
    pub fn build<M: Tree>(&self, model: &M, steps: u64) -> Result<AnyOptimizer<M>, SettingsError> {
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return Err(SettingsError::new("rate", format!("is {}; it must be a number above 0", self.rate)));
        }
        let schedule = match &self.schedule {
            Some(schedule) => schedule.build(self.rate, steps)?,
            None => Schedule::constant(self.rate),
        };
        let mut optimizer = Descent::with_rule(model, schedule, self.rule()?);
        if let Some(momentum) = self.schedule.as_ref().map(|schedule| schedule.momentum(steps)).transpose()?.flatten() {
            if !optimizer.rule().has_momentum() {
                let problem = format!("of the schedule: {} has none that could change; for sgd, say one", self.name);
                return Err(SettingsError::new("momentum", problem));
            }
            optimizer = optimizer.momentum_schedule(momentum);
        }
        if let Some(decay) = self.weight_decay {
            optimizer = optimizer.weight_decay(not_negative("weight_decay", decay)?);
        }
        if self.decay_matrices_only {
            optimizer = optimizer.decay_matrices_only();
        }
        for (pattern, group) in &self.groups {
            not_negative(&format!("groups.{pattern}.rate"), group.rate)?;
            not_negative(&format!("groups.{pattern}.weight_decay"), group.weight_decay.unwrap_or(0.0))?;
            optimizer =
                optimizer.try_group(pattern, *group).map_err(|message| SettingsError::new("groups", message))?;
        }
        Ok(match self.plateau {
            Some(settings) => {
                settings.check()?;
                optimizer.on_plateau(Plateau::new(settings))
            }
            None => optimizer,
        })
    }
}

/// Refuses what is below 0 or no number.
pub(crate) fn not_negative(setting: &str, value: f64) -> Result<f64, SettingsError> {
    match value >= 0.0 && value.is_finite() {
        true => Ok(value),
        false => Err(SettingsError::new(setting, format!("is {value}; it must be a number that is not negative"))),
    }
}
