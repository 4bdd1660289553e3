//! What all optimizers do alike: they walk the model and let a rule say where each parameter goes.

use super::Optimizer;
use super::group::{Group, Select};
use super::rule::{Decay, Parameter, Rule};
use crate::schedule::{Plateau, Schedule};
use chainrule::tensor::{DType, Tensor};
use chainrule::tree::{self, Path, Role, Tree};
use std::sync::Arc;

/// An optimizer: w ← w − η·u for every parameter, where a [`Rule`] states u.
///
/// With weight decay λ, as the rule has it: g + λ·w in place of the gradient; or, decoupled, w·(1 − η·λ) − η·u.
/// The rate η is the schedule's for the number of steps taken, times the factor of the parameter's groups, times what a
/// [plateau](Descent::on_plateau) left of it.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let model = Mlp::new(&Key::new(1), &[2, 3, 1]);
/// // Weight decay not on norms and biases, half the rate for the last layer, and the first as it is:
/// let adamw = AdamW::new(&model, 0.1)
///     .with(|rule| rule.betas = (0.9, 0.95))
///     .weight_decay(0.1)
///     .decay_matrices_only()
///     .group("layers.1.*", Group::default().rate(0.5))
///     .group("layers.0.*", Group::frozen());
/// let (next, adamw) = adamw.update(&model, &model);
/// assert_eq!(next.layers[0].weight.to_vec::<f32>(), model.layers[0].weight.to_vec::<f32>());
/// assert_ne!(next.layers[1].weight.to_vec::<f32>(), model.layers[1].weight.to_vec::<f32>());
/// assert_eq!(adamw.step.item::<i64>(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct Descent<M, R> {
    /// Steps taken.
    pub step: Tensor,
    rule: R,
    schedule: Schedule,
    momentum: Option<Schedule>,
    weight_decay: f64,
    groups: Vec<(Select, Group)>,
    plateau: Option<Plateau>,
    /// A number that the rule carries from step to step.
    carried: Option<Tensor>,
    moments: Vec<(&'static str, M)>,
    /// Zeros of the model's form.
    form: Arc<M>,
}

/// `step`, what the rule carries, and a tree of the model's form for each moment under its name: all of it state.
impl<M: Tree, R: Clone> Tree for Descent<M, R> {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        path.enter_state("step", |path| self.step.visit(path, function));
        path.enter_state("plateau", |path| self.plateau.visit(path, function));
        path.enter_state("carried", |path| self.carried.visit(path, function));
        self.moments.iter().for_each(|(name, tree)| path.enter_state(*name, |path| tree.visit(path, function)));
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        let step = path.enter_state("step", |path| self.step.map(path, function));
        let plateau = path.enter_state("plateau", |path| Tree::map(&self.plateau, path, function));
        let carried = path.enter_state("carried", |path| Tree::map(&self.carried, path, function));
        let moments = self.moments.iter();
        let moments = moments.map(|(name, tree)| (*name, path.enter_state(*name, |path| tree.map(path, function))));
        Descent { step, plateau, carried, moments: moments.collect(), ..self.like(self.rule.clone()) }
    }
}

impl<M: Tree, R: Rule + Default> Descent<M, R> {
    /// For a model like this, with a rate or a schedule, and the rule's default settings and weight decay.
    #[track_caller]
    pub fn new(model: &M, rate: impl Into<Schedule>) -> Descent<M, R> {
        Descent::with_rule(model, rate, R::default())
    }
}

impl<M: Tree, R: Rule> Descent<M, R> {
    /// For a model like this, with a rule set as one likes.
    ///
    /// # Panics
    /// If the rule refuses its settings.
    #[track_caller]
    pub fn with_rule(model: &M, rate: impl Into<Schedule>, rule: R) -> Descent<M, R> {
        Descent {
            step: Tensor::from(0i64),
            schedule: rate.into(),
            momentum: None,
            weight_decay: rule.weight_decay(),
            groups: Vec::new(),
            plateau: None,
            carried: None,
            moments: Vec::new(),
            form: Arc::new(tree::map(model, Tensor::zeros_like)),
            rule,
        }
        .restarted()
    }

    /// With the rule's settings changed; its moments begin anew.
    ///
    /// # Panics
    /// If the rule refuses its settings.
    #[track_caller]
    pub fn with(mut self, change: impl FnOnce(&mut R)) -> Descent<M, R> {
        change(&mut self.rule);
        self.restarted()
    }

    /// With the rule's momentum, μ or β₁, as a schedule has it: [`Schedule::one_cycle_momentum`].
    ///
    /// # Panics
    /// If the rule has none.
    #[track_caller]
    pub fn momentum_schedule(self, momentum: Schedule) -> Descent<M, R> {
        assert!(self.rule.has_momentum(), "momentum_schedule: {} has no momentum", self.rule.name());
        Descent { momentum: Some(momentum), ..self }
    }

    /// With weight decay λ, coupled or not as the rule has it.
    pub fn weight_decay(self, weight_decay: f64) -> Descent<M, R> {
        Descent { weight_decay, ..self }
    }

    /// With no weight decay on parameters that have fewer than two axes: biases, and the scales of norms.
    pub fn decay_matrices_only(mut self) -> Descent<M, R> {
        self.groups.push((Select::Vectors, Group::default().weight_decay(0.0)));
        self
    }

    /// With settings for the parameters whose path matches a pattern, in which `*` stands for any text: `*bias`,
    /// `blocks.0.*`, `*norm*`. A parameter of several groups obeys all: rates multiply, the later decay counts.
    ///
    /// # Panics
    /// If no parameter matches.
    #[track_caller]
    pub fn group(self, pattern: &str, group: Group) -> Descent<M, R> {
        match self.try_group(pattern, group) {
            Ok(descent) => descent,
            Err(message) => panic!("group: {message}"),
        }
    }

    /// [`Descent::group`] for patterns from outside.
    ///
    /// # Errors
    /// If no parameter matches.
    pub fn try_group(mut self, pattern: &str, group: Group) -> Result<Descent<M, R>, String> {
        let select = Select::Path(pattern.to_owned());
        let parameters = tree::named_leaves(&*self.form).into_iter().filter(|leaf| leaf.1 == Role::Parameter);
        let paths: Vec<String> = parameters.map(|leaf| leaf.0).collect();
        if !paths.iter().any(|path| select.takes(path, 0)) {
            let some = paths.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if paths.len() > 4 { ", …" } else { "" };
            return Err(format!("no parameter's path matches {pattern:?}; there are {some}{more}"));
        }
        self.groups.push((select, group));
        Ok(self.restarted())
    }

    /// With the rate reduced when a figure stops getting better: each [`Optimizer::observe`] looks at one.
    pub fn on_plateau(self, plateau: Plateau) -> Descent<M, R> {
        Descent { plateau: Some(plateau), ..self }
    }

    /// The rule and its settings.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// The rate of the next step, f64 of shape [].
    #[track_caller]
    pub fn rate(&self) -> Tensor {
        let rate = self.schedule.rate(&self.step);
        self.plateau.as_ref().map_or(rate.clone(), |plateau| plateau.apply(&rate))
    }

    /// A moment by its name, `m` and `v` of Adam for example. Leaves that have none are empty tensors.
    pub fn moment(&self, name: &str) -> Option<&M> {
        self.moments.iter().find(|moment| moment.0 == name).map(|moment| &moment.1)
    }

    /// What holds for a parameter.
    fn group_of(&self, path: &str, rank: usize) -> Group {
        let groups = self.groups.iter().filter(|(select, _)| select.takes(path, rank));
        groups.fold(Group::default(), |all, (_, group)| all.and(*group))
    }

    /// Moments and number as the rule begins.
    #[track_caller]
    fn restarted(self) -> Descent<M, R> {
        if let Err((field, message)) = self.rule.check() {
            panic!("{}: {field} {message}", self.rule.name());
        }
        let start = |index: usize| {
            tree::map_named(&*self.form, |path, role, leaf| match role {
                Role::Parameter if !self.group_of(path, leaf.rank()).frozen => self.rule.start(index, path, leaf),
                _ => Tensor::zeros([0], leaf.dtype()),
            })
        };
        let names = self.rule.moments();
        let moments = names.into_iter().enumerate().map(|(index, name)| (name, start(index))).collect();
        Descent { moments, carried: self.rule.carried().map(Tensor::from), ..self }
    }
}

impl<M, R> Descent<M, R> {
    /// The configuration beside another rule, without moments.
    fn like(&self, rule: R) -> Descent<M, R> {
        Descent {
            step: self.step.clone(),
            rule,
            schedule: self.schedule.clone(),
            momentum: self.momentum.clone(),
            weight_decay: self.weight_decay,
            groups: self.groups.clone(),
            plateau: self.plateau.clone(),
            carried: None,
            moments: Vec::new(),
            form: self.form.clone(),
        }
    }
}

impl<M: Tree, R: Rule + Clone> Optimizer<M> for Descent<M, R> {
    fn update(&self, model: &M, gradients: &M) -> (M, Descent<M, R>) {
        let (named, gradients) = (tree::named_leaves(model), tree::leaves(gradients));
        let mut moments: Vec<Vec<Tensor>> = self.moments.iter().map(|moment| tree::leaves(&moment.1)).collect();
        let fits = moments.iter().chain([&gradients]).all(|leaves| leaves.len() == named.len());
        assert!(fits, "update: the model, its gradient and the optimizer are not of one form");
        let step = &self.step + 1i64;
        let momentum = self.momentum.as_ref().map(|momentum| momentum.rate(&self.step));
        let (numbers, carried) = self.rule.numbers(&step.cast(DType::F64), self.carried.as_ref(), momentum.as_ref());
        let rate = self.rate();
        let mut weights = Vec::with_capacity(named.len());
        for (place, (path, role, weight)) in named.iter().enumerate() {
            let group = self.group_of(path, weight.rank());
            if *role == Role::State || group.frozen {
                weights.push(weight.clone());
                continue;
            }
            let mut here: Vec<Tensor> = moments.iter().map(|leaves| leaves[place].clone()).collect();
            let decay = group.weight_decay.unwrap_or(self.weight_decay);
            let rate = if group.rate == 1.0 { rate.clone() } else { &rate * group.rate };
            let parameter = Parameter {
                path,
                weight,
                gradient: &gradients[place],
                weight_decay: decay,
                numbers: &numbers,
                momentum: momentum.as_ref(),
            };
            weights.push(moved(&self.rule, parameter, &rate, &mut here));
            here.into_iter().zip(&mut moments).for_each(|(leaf, leaves)| leaves[place] = leaf);
        }
        let moments = self.moments.iter().zip(moments);
        let moments = moments.map(|((name, tree), leaves)| (*name, tree::rebuild(tree, &leaves))).collect();
        (tree::rebuild(model, &weights), Descent { step, carried, moments, ..self.like(self.rule.clone()) })
    }

    fn learning_rate(&self) -> Option<Tensor> {
        Some(self.rate())
    }

    fn observe(&self, figure: &Tensor) -> Descent<M, R> {
        let mut next = tree::map(self, Tensor::clone);
        next.plateau = self.plateau.as_ref().map(|plateau| plateau.observe(figure));
        next
    }
}

/// One parameter after a step.
#[track_caller]
fn moved(rule: &impl Rule, parameter: Parameter<'_>, rate: &Tensor, moments: &mut [Tensor]) -> Tensor {
    let (w, decay) = (parameter.weight, parameter.weight_decay);
    let coupled = (decay != 0.0 && rule.decay() == Decay::Coupled).then(|| parameter.gradient + w * decay);
    let gradient = coupled.as_ref().unwrap_or(parameter.gradient);
    let direction = rule.direction(&Parameter { gradient, ..parameter }, moments);
    let kept = match rule.decay() {
        Decay::Decoupled if decay != 0.0 => w * (1.0 - rate * decay).cast(w.dtype()),
        _ => w.clone(),
    };
    kept - direction * rate.cast(w.dtype())
}
