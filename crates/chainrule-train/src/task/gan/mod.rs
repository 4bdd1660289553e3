//! Two networks that train each other: a generator makes examples of noise, a discriminator tells them from true ones.
//!
//! One step updates both, first the discriminator and then, against the new one, the generator. The examples that the
//! generator made are the same for both updates, so that it runs forward once; the discriminator's update does not reach
//! behind them.

mod loss;

pub use loss::{Adversarial, gradient_penalty};

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

use chainrule::differentiate::{value_and_grad_aux, vjp};
use chainrule::tensor::{DType, Key, Tensor, Written};
use chainrule::tree::{self, Tree};
use chainrule_nn::average::Average;
use chainrule_nn::clip::{clip_norm, global_norm};
use chainrule_nn::context::{Context, value_and_grad_with_state, with_state_of};
use chainrule_nn::optimizer::Optimizer;

use super::{Measures, Task, within};
use crate::data::Batch;

type Forward<M> = Box<dyn Fn(&mut M, &Tensor, &mut Context) -> Tensor + Send + Sync>;

/// The factor of the gradient penalty that its authors take.
const PENALTY: f64 = 10.0;

/// Both networks in training and all that goes with them.
#[derive(Tree, Clone, Debug)]
pub struct Players<G, D, O, P> {
    /// Makes examples of noise.
    pub generator: G,
    /// Tells true examples from made ones, by one score each: above 0 means true.
    pub discriminator: D,
    /// The generator's optimizer.
    pub generator_optimizer: O,
    /// The discriminator's.
    pub discriminator_optimizer: P,
    /// A running average of the generator, which makes the better examples.
    pub average: Option<Average<G>>,
}

impl<G, D, O, P> Players<G, D, O, P> {
    /// The generator that examples are taken from: the average, where there is one.
    pub fn maker(&self) -> &G {
        self.average.as_ref().map_or(&self.generator, |average| &average.model)
    }
}

/// The gradients of both, or what belongs to both in another way, as one tree.
#[derive(Tree, Clone)]
struct Both<G, D> {
    generator: G,
    discriminator: D,
}

/// The [`Task`] of a generator and a discriminator.
///
/// Layers with running statistics are in training mode in every pass and keep what each showed them, as PyTorch's do:
/// the discriminator's those of true and of made examples, of the mixed ones of a penalty, and of the generator's update.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// use chainrule_train::data::Batch;
/// use chainrule_train::task::{Adversarial, Gan, Task};
///
/// // Points of a plane, made of three numbers.
/// let task = Gan::new(3, |g: &mut Mlp, z, _| g.forward(z), |d: &mut Mlp, x, _| d.forward(x)).loss(Adversarial::Hinge);
/// let [a, b] = Key::new(1).split();
/// let (generator, discriminator) = (Mlp::new(&a, &[3, 8, 2]), Mlp::new(&b, &[2, 8, 1]));
/// let adams = (Adam::new(&generator, 1e-3), Adam::new(&discriminator, 1e-3));
/// let start = task.start(generator, discriminator, adams.0, adams.1);
/// let batch = Batch { inputs: vec![Tensor::ones([16, 2], DType::F32)], targets: vec![] };
/// let (state, measures) = task.step(&start, &batch, &Key::new(7));
/// assert!(measures.totals().numbers().get("discriminator_loss") > Some(0.0));
/// assert_eq!(task.sample(state.maker(), 5, &Key::new(0)).shape(), [5, 2]);
/// ```
pub struct Gan<G, D, O, P> {
    generate: Forward<G>,
    judge: Forward<D>,
    noise: usize,
    loss: Adversarial,
    penalty: Option<f64>,
    critic_steps: usize,
    clip: Option<f64>,
    average: Option<f64>,
    /// The lines of a file that losses and optimizers stand at.
    written: Option<[&'static Written; 2]>,
    optimizers: PhantomData<fn(O, P)>,
}

impl<G, D, O, P> Gan<G, D, O, P>
where
    G: Tree + Clone,
    D: Tree + Clone,
    O: Optimizer<G> + Clone,
    P: Optimizer<D> + Clone,
{
    /// From how an example `[n, …]` is made of noise `[n, noise]`, and how examples get their scores, one each.
    pub fn new(
        noise: usize,
        generate: impl Fn(&mut G, &Tensor, &mut Context) -> Tensor + Send + Sync + 'static,
        judge: impl Fn(&mut D, &Tensor, &mut Context) -> Tensor + Send + Sync + 'static,
    ) -> Gan<G, D, O, P> {
        Gan {
            generate: Box::new(generate),
            judge: Box::new(judge),
            noise,
            loss: Adversarial::default(),
            penalty: None,
            critic_steps: 1,
            clip: None,
            average: None,
            written: None,
            optimizers: PhantomData,
        }
    }

    /// With another loss than the logistic one. That of Wasserstein has a gradient penalty of 10 unless one is given.
    pub fn loss(self, loss: Adversarial) -> Gan<G, D, O, P> {
        let usual = (loss == Adversarial::Wasserstein).then_some(PENALTY);
        Gan { loss, penalty: self.penalty.or(usual), ..self }
    }

    /// With so many times a [`gradient_penalty`] in the discriminator's loss, at points between true and made examples.
    pub fn gradient_penalty(self, factor: f64) -> Gan<G, D, O, P> {
        Gan { penalty: Some(factor), ..self }
    }

    /// With so many updates of the discriminator for one of the generator. They share the examples of a batch, each
    /// taking its part, so the batch must be so many times as large.
    pub fn critic_steps(self, steps: usize) -> Gan<G, D, O, P> {
        Gan { critic_steps: steps.max(1), ..self }
    }

    /// Limiting the norm of each network's gradient.
    pub fn clip_norm(self, max: f64) -> Gan<G, D, O, P> {
        Gan { clip: Some(max), ..self }
    }

    /// With an exponential average of the generator, of this decay.
    pub fn average(self, decay: f64) -> Gan<G, D, O, P> {
        Gan { average: Some(decay), ..self }
    }

    /// With losses and optimizers at these lines of a file.
    pub fn written(self, losses: &'static Written, optimizers: &'static Written) -> Gan<G, D, O, P> {
        Gan { written: Some([losses, optimizers]), ..self }
    }

    /// The state that a training starts from.
    pub fn start(&self, generator: G, discriminator: D, for_generator: O, for_discriminator: P) -> Players<G, D, O, P> {
        let average = self.average.map(|decay| Average::exponential(&generator, decay));
        Players {
            generator,
            discriminator,
            generator_optimizer: for_generator,
            discriminator_optimizer: for_discriminator,
            average,
        }
    }

    /// So many examples, in evaluation mode: the same ones for the same key.
    #[track_caller]
    pub fn sample(&self, generator: &G, count: usize, key: &Key) -> Tensor {
        self.sample_as(generator, count, DType::F32, key)
    }

    #[track_caller]
    fn sample_as(&self, generator: &G, count: usize, dtype: DType, key: &Key) -> Tensor {
        let noise = key.normal([count, self.noise], dtype);
        (self.generate)(&mut generator.clone(), &noise, &mut Context::evaluation())
    }

    /// Examples made in training mode, the generator with what its layers saw of them, and the way of a slope at the
    /// examples back to the generator.
    #[track_caller]
    fn make<'a>(
        &'a self,
        generator: &G,
        noise: Tensor,
        key: Key,
    ) -> (Tensor, G, impl Fn(&Tensor) -> G + use<'a, G, D, O, P>) {
        let after = Rc::new(RefCell::new(generator.clone()));
        let kept = after.clone();
        let make = move |generator: &G| {
            let mut generator = generator.clone();
            let made = (self.generate)(&mut generator, &noise, &mut Context::training(key));
            *kept.borrow_mut() = generator;
            made
        };
        let (made, pull) = vjp(make, generator);
        let after = with_state_of(generator, &after.borrow());
        (made, after, pull)
    }

    /// One update of the discriminator: what it showed, and its gradient.
    #[track_caller]
    fn update_discriminator(
        &self,
        state: &mut Players<G, D, O, P>,
        (real, fake): (&Tensor, &Tensor),
        key: &Key,
    ) -> (Game, D) {
        let loss = |discriminator: &mut D| {
            let game = self.game(discriminator, (real, fake), key);
            (game.loss.clone(), game)
        };
        let (_, game, discriminator, gradient) = value_and_grad_with_state(loss, &state.discriminator);
        (state.discriminator, state.discriminator_optimizer) = within(self.optimizer_line(), || {
            state.discriminator_optimizer.update(&discriminator, &self.clipped(&gradient))
        });
        (game, gradient)
    }

    /// The discriminator's loss of true examples and made ones.
    #[track_caller]
    fn game(&self, discriminator: &mut D, (real, fake): (&Tensor, &Tensor), key: &Key) -> Game {
        let [pass, mix] = key.split();
        let mut context = Context::training(pass);
        let truth = (self.judge)(discriminator, real, &mut context);
        let made = (self.judge)(discriminator, fake, &mut context);
        let mut loss = within(self.loss_line(), || self.loss.discriminator(&truth, &made));
        if let Some(factor) = self.penalty {
            let mut sizes = vec![1; real.rank()];
            sizes[0] = real.size(0);
            let part = mix.uniform(sizes, real.dtype());
            let between = real * &part + fake * (1.0 - part);
            let score = |x: &Tensor| (self.judge)(discriminator, x, &mut context);
            loss = loss + gradient_penalty(score, &between) * factor;
        }
        Game { loss, truth, made }
    }

    /// The loss of a discriminator in training against a generator that stays as it is: of the examples of a batch, and of
    /// as many made ones, the same for the same key. It is what a step of the discriminator makes smaller.
    #[track_caller]
    pub fn discriminator_loss(&self, discriminator: &D, generator: &G, batch: &Batch, key: &Key) -> Tensor {
        let real = batch.input();
        let [noise, making, judging] = key.split();
        let noise = noise.normal([real.size(0), self.noise], real.dtype());
        let fake = (self.generate)(&mut generator.clone(), &noise, &mut Context::training(making)).stop_gradient();
        self.game(&mut discriminator.clone(), (real, &fake), &judging).loss
    }

    /// The loss of a generator in training before a discriminator that stays as it is, of so many made examples as a batch
    /// has.
    #[track_caller]
    pub fn generator_loss(&self, generator: &G, discriminator: &D, batch: &Batch, key: &Key) -> Tensor {
        let real = batch.input();
        let [noise, making, judging] = key.split();
        let noise = noise.normal([real.size(0), self.noise], real.dtype());
        let fake = (self.generate)(&mut generator.clone(), &noise, &mut Context::training(making));
        let scores = (self.judge)(&mut discriminator.clone(), &fake, &mut Context::training(judging));
        within(self.loss_line(), || self.loss.generator(&scores))
    }

    fn loss_line(&self) -> Option<&'static Written> {
        self.written.map(|lines| lines[0])
    }

    fn optimizer_line(&self) -> Option<&'static Written> {
        self.written.map(|lines| lines[1])
    }

    fn clipped<M: Tree>(&self, gradient: &M) -> M {
        match self.clip {
            Some(max) => clip_norm(gradient, max).0,
            None => tree::map(gradient, Tensor::clone),
        }
    }

    /// Both losses, and how often the discriminator was right.
    #[track_caller]
    fn measures(&self, generator_loss: &Tensor, games: &[Game]) -> Measures {
        let mean = |value: &dyn Fn(&Game) -> Tensor| {
            let sum = games.iter().map(value).reduce(|a, b| a + b).expect("a step has at least one round");
            sum / games.len() as f64
        };
        let count: usize = games.iter().map(|game| game.truth.size(0)).sum();
        let right = |right: Tensor| right.cast(DType::F64).mean(..);
        let measures = Measures::new().mean("generator_loss", generator_loss, count).mean(
            "discriminator_loss",
            &mean(&|game| game.loss.clone()),
            count,
        );
        match self.loss {
            // Its scores have no zero.
            Adversarial::Wasserstein => measures,
            _ => measures.mean("accuracy_real", &mean(&|game| right(game.truth.greater(0.0))), count).mean(
                "accuracy_fake",
                &mean(&|game| right(game.made.less(0.0))),
                count,
            ),
        }
    }
}

/// What one update of the discriminator showed.
struct Game {
    loss: Tensor,
    truth: Tensor,
    made: Tensor,
}

impl<G, D, O, P> Task for Gan<G, D, O, P>
where
    G: Tree + Clone,
    D: Tree + Clone,
    O: Optimizer<G> + Clone,
    P: Optimizer<D> + Clone,
{
    type State = Players<G, D, O, P>;

    fn step(&self, state: &Self::State, batch: &Batch, key: &Key) -> (Self::State, Measures) {
        let (real, rounds) = (batch.input(), self.critic_steps);
        let count = batch.len() / rounds;
        assert!(
            count > 0 && count * rounds == batch.len(),
            "Gan: a batch of {} for {rounds} steps of the discriminator, which is no whole number for each",
            batch.len()
        );
        let mut state = state.clone();
        let (mut games, mut last) = (Vec::with_capacity(rounds), None);
        for round in 0..rounds {
            let [noise, making, judging] = key.fold(&Tensor::from(round as i64)).split();
            let noise = within(self.loss_line(), || noise.normal([count, self.noise], real.dtype()));
            let (fake, after, pull) = self.make(&state.generator, noise, making);
            state.generator = after;
            let shown = (&real.narrow(0, round * count, count), &fake.stop_gradient());
            let (game, gradient) = self.update_discriminator(&mut state, shown, &judging);
            games.push(game);
            last = Some((fake, pull, gradient));
        }
        let (fake, pull, gradient) = last.expect("a step has at least one round");
        // The generator is judged by the new discriminator, whose slope at its examples is carried on to what made them.
        let judged = |fake: &Tensor| {
            let mut after = state.discriminator.clone();
            let scores = (self.judge)(&mut after, fake, &mut Context::training(key.fold(&Tensor::from(-1i64))));
            (within(self.loss_line(), || self.loss.generator(&scores)), after)
        };
        let (loss, after, slope) = value_and_grad_aux(judged, &fake);
        state.discriminator = with_state_of(&state.discriminator, &after);
        let slope = pull(&slope);
        let rate = state.generator_optimizer.learning_rate();
        (state.generator, state.generator_optimizer) =
            within(self.optimizer_line(), || state.generator_optimizer.update(&state.generator, &self.clipped(&slope)));
        state.average = state.average.map(|average| average.update(&state.generator));
        let measures = self
            .measures(&loss, &games)
            .last("generator_gradient", &global_norm(&slope))
            .last("discriminator_gradient", &global_norm(&gradient))
            .gradient(&Both { generator: slope, discriminator: gradient });
        (state, rate.into_iter().fold(measures, |measures, rate| measures.last("rate", &rate)))
    }

    /// Both losses and the discriminator's accuracy in evaluation mode, against examples made of the same noise each time.
    fn evaluate(&self, state: &Self::State, batch: &Batch) -> Measures {
        let real = batch.input();
        let fake = self.sample_as(state.maker(), batch.len(), real.dtype(), &Key::new(0));
        let judge = |x| (self.judge)(&mut state.discriminator.clone(), x, &mut Context::evaluation());
        let (truth, made) = (judge(real), judge(&fake));
        let game = Game { loss: self.loss.discriminator(&truth, &made), truth, made };
        self.measures(&self.loss.generator(&game.made), &[game])
    }

    fn observe(&self, state: Self::State, figure: f64) -> Self::State {
        let figure = Tensor::from(figure);
        Players {
            generator_optimizer: tree::map(&state.generator_optimizer.observe(&figure), Tensor::eval),
            discriminator_optimizer: tree::map(&state.discriminator_optimizer.observe(&figure), Tensor::eval),
            ..state
        }
    }

    /// The discriminator and the generator that examples are taken from.
    fn model(&self, state: &Self::State) -> BTreeMap<String, Tensor> {
        let generator =
            tree::named_leaves(state.maker()).into_iter().map(|leaf| (format!("generator.{}", leaf.0), leaf.2));
        let discriminator = tree::named_leaves(&state.discriminator).into_iter();
        generator.chain(discriminator.map(|leaf| (format!("discriminator.{}", leaf.0), leaf.2))).collect()
    }
}

impl<G, D, O, P> std::fmt::Debug for Gan<G, D, O, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Gan { noise, loss, penalty, critic_steps, clip, average, .. } = self;
        f.debug_struct("Gan")
            .field("noise", noise)
            .field("loss", loss)
            .field("penalty", penalty)
            .field("critic_steps", critic_steps)
            .field("clip", clip)
            .field("average", average)
            .finish()
    }
}
