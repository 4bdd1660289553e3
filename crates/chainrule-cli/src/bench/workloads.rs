//! The steps of the workloads: of training, a model, an optimizer, resident data, and a loss that is read every step; of
//! inference, a model and what it is asked, and the answer that is read.

use super::models::{Characters, Cnn, Deep, Discriminator, Generator, Gpt, Tiny, VOCABULARY, WIDTH};
use chainrule::execute::{Compiled, Profile};
use chainrule::prelude::*;
use chainrule_nn::prelude::*;
use std::time::Instant;

/// The workloads in the order of the table.
pub const WORKLOADS: [&str; 13] = [
    "gemm1024",
    "gemm2048",
    "chain1000",
    "tiny",
    "mlp",
    "cnn",
    "lstm",
    "gpt",
    "dcgan",
    "deep",
    "deep_ckpt",
    "generate",
    "mlp1",
];

/// A step that runs, and adds to a profile if it is given one.
pub type Step = Box<dyn FnMut(Option<&mut Profile>) -> f64>;

/// A workload that is ready to run.
pub struct Ready {
    /// One step; gives the loss, or what was read of the answer.
    pub step: Step,
    /// Parameters of the model.
    pub parameters: usize,
    /// Seconds from the function to its plan.
    pub compile_s: f64,
    /// Floating-point operations of a step.
    pub flops: u64,
    /// Bytes of the arena, and the largest sum of values alive at once.
    pub memory: (usize, usize),
    /// Program and plan as text.
    pub listing: String,
    /// Why it cannot run: a memory budget that cannot be met.
    pub refused: Option<String>,
}

/// What a step may use.
#[derive(Clone, Copy)]
pub struct Machine {
    /// Threads that run kernels.
    pub threads: usize,
    /// Bytes that a step may take.
    pub memory_budget: Option<usize>,
}

/// Builds a workload of this name.
pub fn ready(name: &str, machine: Machine, batch: Option<usize>) -> Option<Ready> {
    let normal = |seed: u64, shape: &[usize]| Key::new(seed).normal(shape, DType::F32);
    let below = |seed: u64, shape: &[usize], n: i64| {
        (Key::new(seed).uniform(shape, DType::F64) * n as f64).floor().cast(DType::I64)
    };
    let size = |usual: usize| batch.unwrap_or(usual);
    Some(match name {
        "gemm1024" => product(machine, normal(11, &[1024, 1024]), normal(12, &[1024, 1024])),
        "gemm2048" => product(machine, normal(11, &[2048, 2048]), normal(12, &[2048, 2048])),
        "chain1000" => chain(machine),
        "tiny" => {
            let n = size(32);
            let data = (normal(11, &[n, 2]), normal(12, &[n, 1]));
            let loss = |m: &Tiny, x: &Tensor, y: &Tensor| m.forward(x).mean_squared_error(y);
            train(machine, Tiny::new(), |m| Sgd::new(m, 0.1), data, loss)
        }
        "mlp" => {
            let n = size(128);
            let data = (normal(11, &[n, 784]), below(12, &[n], 10));
            let loss = |m: &Mlp, x: &Tensor, y: &Tensor| m.forward(x).cross_entropy(y);
            train(machine, Mlp::new(&Key::new(1), &[784, 512, 512, 10]), |m| Adam::new(m, 1e-3), data, loss)
        }
        "cnn" => {
            let n = size(64);
            let data = (normal(11, &[n, 1, 28, 28]), below(12, &[n], 10));
            let loss = |m: &Cnn, x: &Tensor, y: &Tensor| m.forward(x).cross_entropy(y);
            train(machine, Cnn::new(), |m| Adam::new(m, 1e-3), data, loss)
        }
        "lstm" => {
            let n = size(32);
            let data = (below(11, &[64, n], VOCABULARY as i64), below(12, &[64, n], VOCABULARY as i64));
            let loss = |m: &Characters, x: &Tensor, y: &Tensor| m.forward(x).cross_entropy(y);
            train(machine, Characters::new(), |m| Adam::new(m, 1e-3), data, loss)
        }
        "gpt" => {
            let n = size(12);
            gpt(machine, (below(11, &[n, 64], VOCABULARY as i64), below(12, &[n, 64], VOCABULARY as i64)))
        }
        "dcgan" => dcgan(machine, (normal(11, &[size(64), 1, 28, 28]).tanh(), normal(12, &[size(64), 64]))),
        "generate" => generate(machine, size(1)),
        "mlp1" => {
            let mlp = Mlp::new(&Key::new(1), &[784, 512, 512, 10]);
            let parameters = parameter_count(&mlp);
            let asked = (mlp, normal(11, &[size(1), 784]));
            stepping(machine, (), asked, parameters, |((), (mlp, x)): &((), (Mlp, Tensor))| {
                ((), mlp.forward(x).max(..))
            })
        }
        "deep" | "deep_ckpt" => {
            let n = size(256);
            let data = (normal(11, &[n, WIDTH]), normal(12, &[n, WIDTH]));
            let loss = |m: &Deep, x: &Tensor, y: &Tensor| m.forward(x).mean_squared_error(y);
            train(machine, Deep::new(100, name == "deep_ckpt"), |m| Sgd::new(m, 1e-2), data, loss)
        }
        _ => return None,
    })
}

type Data = (Tensor, Tensor);

/// Compiles a step of state and data, and keeps both.
fn stepping<S: Tree + Clone + 'static, D: Tree + Clone + 'static, F: Fn(&(S, D)) -> (S, Tensor) + 'static>(
    machine: Machine,
    state: S,
    data: D,
    parameters: usize,
    f: F,
) -> Ready {
    renewed(machine, state, data, parameters, usize::MAX, f)
}

/// [`stepping`], where the state is again the first one after so many steps.
fn renewed<S: Tree + Clone + 'static, D: Tree + Clone + 'static, F: Fn(&(S, D)) -> (S, Tensor) + 'static>(
    machine: Machine,
    state: S,
    data: D,
    parameters: usize,
    after: usize,
    f: F,
) -> Ready {
    let (state, data) = (values(&state), values(&data));
    let mut compiled: Compiled<(S, D), (S, Tensor), F> = compile(f).threads(machine.threads);
    if let Some(bytes) = machine.memory_budget {
        compiled = compiled.memory_budget(bytes);
    }
    let arguments = (state, data);
    let start = Instant::now();
    let refused = compiled.memory(&arguments, &|_| None).err().map(|error| error.to_string());
    if let Some(refused) = refused {
        let step = Box::new(|_: Option<&mut Profile>| f64::NAN);
        let refused = Some(refused);
        return Ready { step, parameters, compile_s: 0.0, flops: 0, memory: (0, 0), listing: String::new(), refused };
    }
    let flops = compiled.program(&arguments).flops();
    let compile_s = start.elapsed().as_secs_f64();
    let plan = compiled.plan(&arguments);
    let (memory, plan) = ((plan.arena_bytes(), plan.live_bytes()), plan.to_string());
    let listing = format!("{}\n{plan}", compiled.program(&arguments));
    let (state, data) = arguments;
    // Held a second time only where it is needed again, so that steps may write over it.
    let first = (after < usize::MAX).then(|| state.clone());
    let (mut state, mut steps) = (Some(state), 0);
    let step = move |profile: Option<&mut Profile>| {
        let again = first.clone().filter(|_| steps == after);
        steps = if again.is_some() { 1 } else { steps + 1 };
        let now = again.or(state.take()).expect("put back after each step");
        let result = match profile {
            None => compiled.run((now, data.clone())),
            Some(profile) => compiled.run_profiled((now, data.clone()), profile),
        };
        let (next, read) = result.expect("the data fit the model");
        state = Some(next);
        match read.dtype() {
            DType::I64 => read.item::<i64>() as f64,
            _ => read.item::<f32>() as f64,
        }
    };
    Ready { step: Box::new(step), parameters, compile_s, flops, memory, listing, refused: None }
}

/// Expressions computed.
fn values<T: Tree>(tree: &T) -> T {
    chainrule::tree::rebuild(tree, &eval_all(&leaves(tree)))
}

/// The usual step: value and gradient of a loss, and an optimizer's update.
fn train<M: Tree + Clone + 'static, O: Optimizer<M> + Clone + 'static>(
    machine: Machine,
    model: M,
    optimizer: impl Fn(&M) -> O,
    data: Data,
    loss: impl Fn(&M, &Tensor, &Tensor) -> Tensor + 'static,
) -> Ready {
    let parameters = parameter_count(&model);
    let optimizer = optimizer(&model);
    stepping(machine, (model, optimizer), data, parameters, move |((model, optimizer), (x, y))| {
        let (value, gradients) = value_and_grad(|m: &M| loss(m, x, y), model);
        (optimizer.update(model, &gradients), value)
    })
}

/// A product of matrices; its first element stands for the loss.
fn product(machine: Machine, a: Tensor, b: Tensor) -> Ready {
    stepping(machine, a.zeros_like(), (a, b), 0, |(_, (a, b))| {
        let product = a.matmul(b);
        let first = product.at(0).at(0);
        (product, first)
    })
}

/// The sine a thousand times, one within the other; value and slope.
fn chain(machine: Machine) -> Ready {
    let nothing = Tensor::from(0.0f32);
    stepping(machine, Tensor::from(0.5f32), (nothing.clone(), nothing), 0, |(x, _)| {
        let f = |x: &Tensor| (0..1000).fold(x.clone(), |x, _| x.sin() * 1.01 + 0.1);
        let (value, slope) = value_and_grad(f, x);
        (x.clone(), value + slope)
    })
}

/// AdamW whose decay spares the norms, gradients clipped together.
fn gpt(machine: Machine, data: Data) -> Ready {
    let model = Gpt::new(4, 4, 128, 64);
    let parameters = parameter_count(&model);
    let adamw = AdamW::new(&model, 1e-3).with(|rule| rule.betas = (0.9, 0.95)).weight_decay(0.1).decay_matrices_only();
    type State = (Gpt, AdamW<Gpt>);
    stepping(machine, (model, adamw), data, parameters, |((model, adamw), (x, y)): &(State, Data)| {
        let (value, gradients) = value_and_grad(|m: &Gpt| m.forward(x).cross_entropy(y), model);
        let (gradients, _) = clip_norm(&gradients, 1.0);
        (adamw.update(model, &gradients), value)
    })
}

/// The likeliest next tokens of the language model, one a step: from one token to a full context, then anew. Keys and
/// values of the tokens before are kept.
fn generate(machine: Machine, texts: usize) -> Ready {
    const CONTEXT: usize = 64;
    let model = Gpt::new(4, 4, 128, CONTEXT);
    let parameters = parameter_count(&model);
    let state = (Tensor::zeros([texts, 1], DType::I64), model.caches(texts, CONTEXT));
    type State = (Tensor, Vec<KeyValueCache>);
    renewed(machine, state, model, parameters, CONTEXT - 1, |((token, caches), model): &(State, Gpt)| {
        let mut caches = caches.clone();
        let token = model.next(token, &mut caches).argmax(-1);
        ((token.clone(), caches), token.max(..))
    })
}

/// One update of the discriminator on real and made images, one of the generator; one forward pass of the generator
/// serves both.
fn dcgan(machine: Machine, data: Data) -> Ready {
    let (generator, discriminator) = (Generator::new(), Discriminator::new());
    let parameters = parameter_count(&generator) + parameter_count(&discriminator);
    let betas = |rule: &mut chainrule_nn::optimizer::rule::Adam| rule.betas = (0.5, 0.999);
    let optimizers = (Adam::new(&generator, 2e-4).with(betas), Adam::new(&discriminator, 2e-4).with(betas));
    type State = ((Generator, Discriminator), (Adam<Generator>, Adam<Discriminator>));
    let state = ((generator, discriminator), optimizers);
    stepping(machine, state, data, parameters, |(((g, d), (adam_g, adam_d)), (real, z)): &(State, Data)| {
        // −ln σ(z) where the answer is one, −ln(1 − σ(z)) where it is zero.
        let one = |logits: &Tensor| (-logits).softplus().mean(..);
        let zero = |logits: &Tensor| logits.softplus().mean(..);
        // Batch norms use the batch's statistics, and nothing here draws random numbers.
        let context = &mut Context::training(Key::new(0));
        let made = g.clone().forward(z, context).stop_gradient();
        let judge = |d: &mut Discriminator| (one(&d.forward(real, context)) + zero(&d.forward(&made, context)), ());
        let (loss_d, (), d, grad_d) = value_and_grad_with_state(judge, d);
        let (d, adam_d) = adam_d.update(&d, &grad_d);
        let fool = |g: &mut Generator| {
            let mut d = d.clone();
            let images = g.forward(z, context);
            (one(&d.forward(&images, context)), d)
        };
        let (loss_g, d, g, grad_g) = value_and_grad_with_state(fool, g);
        let (g, adam_g) = adam_g.update(&g, &grad_g);
        (((g, d), (adam_g, adam_d)), loss_d + loss_g)
    })
}
