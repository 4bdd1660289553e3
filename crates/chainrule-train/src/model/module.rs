//! Networks whose layers are known only when a file has been read: trees of named modules.
//!
//! Values have names where layers share them: the data's inputs, and what a layer kept for later ones. A [`Pass`]
//! carries them. A [`Module`] holds any layer of `chainrule-nn` with the way it is called; a [`Network`] is a sequence of them, or two.
//! Names of the file are the paths of the leaves, so that a checkpoint of a network built from a file and of the same
//! structs written in Rust are one. Nothing here knows TOML or checks a shape.

use std::fmt;
use std::sync::Arc;

use chainrule::tensor::{Tensor, Type, Written, stack};
use chainrule::tree::{Path, Tree};
use chainrule_nn::context::Context;

use super::build::placeholder;
use super::carried::{Carried, Walk};

/// One forward pass on its way: what layers may look at beside their input.
pub struct Pass<'a> {
    /// Training or evaluation.
    pub context: &'a mut Context,
    /// What the encoder said, for layers that look at it.
    pub memory: Option<Tensor>,
    /// Weights that a later layer uses again, by the name of the layer they are in.
    pub shared: Vec<(String, Tensor)>,
    /// The data's inputs by their names, and what layers kept for later ones.
    pub values: Vec<(String, Tensor)>,
    /// Whether layers that start by what they give are to do that now (LSUV).
    pub settling: bool,
    /// What layers carry along a sequence, where it comes step by step.
    pub walk: Option<Walk>,
}

impl<'a> Pass<'a> {
    /// A pass at its start.
    pub fn new(context: &'a mut Context) -> Pass<'a> {
        Pass { context, memory: None, shared: Vec::new(), values: Vec::new(), settling: false, walk: None }
    }

    /// The value of a name.
    ///
    /// # Panics
    /// If there is none: it is checked when a network is built.
    #[track_caller]
    pub fn value(&self, name: &str) -> &Tensor {
        let found = self.values.iter().find(|(other, _)| other == name);
        &found.unwrap_or_else(|| panic!("a pass without the value `{name}`")).1
    }

    /// Keeps a value under a name.
    pub(crate) fn keep(&mut self, name: &str, value: &Tensor) {
        self.values.retain(|(other, _)| other != name);
        self.values.push((name.to_owned(), value.clone()));
    }

    /// Keeps the weight of a layer that has nothing else, for later layers that use it again.
    pub(crate) fn share(&mut self, name: &str, module: &Module) {
        if let Some(weight) = module.lone_weight() {
            self.shared.retain(|(other, _)| other != name);
            self.shared.push((name.to_owned(), weight));
        }
    }
}

/// Any layer, or a block of them.
pub struct Module {
    held: Box<dyn Held>,
    by_step: bool,
    /// The line of the file that it stands at.
    written: Option<&'static Written>,
}

type Forward<L> = Arc<dyn Fn(&mut L, &Tensor, &mut Pass) -> Tensor + Send + Sync>;

/// What a module can do, whatever layer it holds.
trait Held: Send + Sync {
    fn forward(&mut self, x: &Tensor, pass: &mut Pass) -> Tensor;
    fn copy(&self) -> Box<dyn Held>;
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor));
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Box<dyn Held>;
}

struct Layer<L> {
    layer: L,
    forward: Forward<L>,
}

impl<L: Tree + Clone + Send + Sync + 'static> Held for Layer<L> {
    #[track_caller]
    fn forward(&mut self, x: &Tensor, pass: &mut Pass) -> Tensor {
        (self.forward)(&mut self.layer, x, pass)
    }
    fn copy(&self) -> Box<dyn Held> {
        Box::new(Layer { layer: self.layer.clone(), forward: self.forward.clone() })
    }
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        self.layer.visit(path, function);
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Box<dyn Held> {
        Box::new(Layer { layer: self.layer.map(path, function), forward: self.forward.clone() })
    }
}

impl Module {
    /// A layer and how it is called.
    pub fn new<L: Tree + Clone + Send + Sync + 'static>(
        layer: L,
        forward: impl Fn(&mut L, &Tensor, &mut Pass) -> Tensor + Send + Sync + 'static,
    ) -> Module {
        Module { held: Box::new(Layer { layer, forward: Arc::new(forward) }), by_step: false, written: None }
    }

    /// A function without parameters.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule_nn::prelude::*;
    /// use chainrule_train::model::{Module, Pass};
    /// let mut double = Module::function(|x| x * 2.0);
    /// let y = double.forward(&Tensor::from([1.0]), &mut Pass::new(&mut Context::evaluation()));
    /// assert_eq!(y.to_vec::<f64>(), [2.0]);
    /// ```
    pub fn function(function: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Module {
        Module::new((), move |(), x, _| function(x))
    }

    /// The same module, which gives the same for a sequence `[N, time, …]` that comes step by step, or does not: each
    /// step's result is a function of this step alone, or of what its [`Walk`] carries.
    pub fn by_step(self, by_step: bool) -> Module {
        Module { by_step, ..self }
    }

    /// The same module, whose operations have this line of a file.
    pub fn written(self, at: &'static Written) -> Module {
        Module { written: Some(at), ..self }
    }

    /// Whether it is [`Module::by_step`].
    pub fn is_by_step(&self) -> bool {
        self.by_step
    }

    /// The one parameter of a layer whose only one is called `weight`, such as an embedding.
    fn lone_weight(&self) -> Option<Tensor> {
        let (mut weight, mut leaves) = (None, 0);
        self.held.visit(&mut Path::default(), &mut |path, leaf| {
            leaves += 1;
            weight = (path.to_string() == "weight").then(|| leaf.clone());
        });
        weight.filter(|_| leaves == 1)
    }

    /// What comes out.
    ///
    /// # Panics
    /// If the input is not of the form the module was built for.
    #[track_caller]
    pub fn forward(&mut self, x: &Tensor, pass: &mut Pass) -> Tensor {
        match self.written {
            Some(at) => at.scope(|| self.held.forward(x, pass)),
            None => self.held.forward(x, pass),
        }
    }
}

impl From<Sequence> for Module {
    fn from(sequence: Sequence) -> Module {
        let by_step = sequence.is_by_step();
        Module::new(sequence, |sequence, x, pass| sequence.forward(x, pass)).by_step(by_step)
    }
}

impl Clone for Module {
    fn clone(&self) -> Module {
        Module { held: self.held.copy(), by_step: self.by_step, written: self.written }
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({})", chainrule::tree::paths(self).join(", "))
    }
}

impl Tree for Module {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        self.held.visit(path, function);
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Module {
        Module { held: self.held.map(path, function), by_step: self.by_step, written: self.written }
    }
}

/// Modules one after the other, each with its name.
#[derive(Clone, Debug, Default)]
pub struct Sequence(pub Vec<(String, Module)>);

impl Sequence {
    /// What the last one gives.
    #[track_caller]
    pub fn forward(&mut self, x: &Tensor, pass: &mut Pass) -> Tensor {
        self.0.iter_mut().fold(x.clone(), |x, (name, module)| {
            let y = module.forward(&x, pass);
            // After it: a layer that settles has its weights only now.
            pass.share(name, module);
            y
        })
    }

    /// Whether all modules are [`Module::by_step`].
    pub fn is_by_step(&self) -> bool {
        self.0.iter().all(|(_, module)| module.by_step)
    }
}

impl Tree for Sequence {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        self.0.iter().for_each(|(name, module)| path.enter(name, |path| module.visit(path, function)));
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Sequence {
        let map =
            |(name, module): &(String, Module)| (name.clone(), path.enter(name, |path| module.map(path, function)));
        Sequence(self.0.iter().map(map).collect())
    }
}

/// f(x) + s(x), where s is x itself unless it is given.
#[derive(Tree, Clone, Debug)]
pub struct Residual {
    /// f.
    pub branch: Sequence,
    /// s.
    pub shortcut: Option<Sequence>,
}

impl Residual {
    /// The sum.
    #[track_caller]
    pub fn forward(&mut self, x: &Tensor, pass: &mut Pass) -> Tensor {
        let y = self.branch.forward(x, pass);
        match &mut self.shortcut {
            Some(shortcut) => y + shortcut.forward(x, pass),
            None => y + x,
        }
    }

    /// Whether both ways are [`Module::by_step`].
    pub fn is_by_step(&self) -> bool {
        self.branch.is_by_step() && self.shortcut.as_ref().is_none_or(Sequence::is_by_step)
    }
}

/// How the parts of a network belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One sequence of layers from input to output.
    Sequential,
    /// The same layers for each input, what they give side by side along a new axis 1.
    Siamese,
    /// An encoder reads the first input; a decoder reads the second one and what the encoder said.
    EncoderDecoder,
    /// A generator makes examples from noise; a discriminator tells them from true ones.
    Gan,
}

/// A network that a file describes.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule::tensor::Type;
/// use chainrule_nn::prelude::*;
/// use chainrule_train::data::ExampleType;
/// use chainrule_train::model::Spec;
/// let text = "[model]\nlayers = [\"flatten\", { linear = 16, name = \"hidden\" }, \"relu\", { linear = 10 }]";
/// let example = ExampleType {
///     inputs: vec![Type::new(DType::F32, [8, 8])],
///     targets: vec![Type::new(DType::I64, [])],
///     classes: Some(10),
/// };
/// let network = Spec::parse("digits.toml", text)?.build(&example, &Key::new(1))?;
/// assert_eq!(paths(&network), ["hidden.weight", "hidden.bias", "3.weight", "3.bias"]);
/// let y = network.evaluate(&[Tensor::zeros([5, 8, 8], DType::F32)]);
/// assert_eq!(y.shape(), [5, 10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Network {
    form: Form,
    /// One part, or two with their names.
    parts: Vec<(String, Sequence)>,
    /// Names of the inputs, as far as they have any.
    names: Vec<String>,
    /// Whether layers start by what they give.
    settles: bool,
}

impl Network {
    /// One sequence.
    pub fn sequential(layers: Sequence) -> Network {
        Network::of(Form::Sequential, vec![(String::new(), layers)])
    }

    /// One sequence that reads each of several inputs.
    pub fn siamese(layers: Sequence) -> Network {
        Network::of(Form::Siamese, vec![(String::new(), layers)])
    }

    fn of(form: Form, parts: Vec<(String, Sequence)>) -> Network {
        Network { form, parts, names: Vec::new(), settles: false }
    }

    /// With names of its inputs, by which layers ask for them, and whether layers start by what they give.
    pub(crate) fn knowing(self, names: Vec<String>, settles: bool) -> Network {
        Network { names, settles, ..self }
    }

    /// Two parts of which the second looks at what the first said, each with its name.
    pub(crate) fn pair(form: Form, parts: [(&str, Sequence); 2]) -> Network {
        Network::of(form, parts.map(|(name, part)| (name.to_owned(), part)).into())
    }

    /// How the parts belong together.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The parts as networks of their own, with their names: generator and discriminator, encoder and decoder.
    pub fn parts(&self) -> Vec<(String, Network)> {
        self.parts.iter().map(|(name, part)| (name.clone(), Network::sequential(part.clone()))).collect()
    }

    /// What the network says of its inputs: of a [`Form::EncoderDecoder`] the source and what was said so far; of the
    /// others the first, and those that layers ask for by name. A [`Form::Gan`] generates from noise.
    ///
    /// # Panics
    /// If inputs are missing or not of the form the network was built for.
    #[track_caller]
    pub fn forward(&mut self, inputs: &[Tensor], context: &mut Context) -> Tensor {
        self.pass(inputs, &mut Pass::new(context))
    }

    #[track_caller]
    fn pass(&mut self, inputs: &[Tensor], pass: &mut Pass) -> Tensor {
        let wanted = self.names.len().max(if self.form == Form::EncoderDecoder { 2 } else { 1 });
        assert!(inputs.len() >= wanted, "Network: {} inputs, and it takes {wanted}", inputs.len());
        pass.values = self.names.iter().cloned().zip(inputs.iter().cloned()).collect();
        let first = self.parts[0].1.forward(&inputs[0], pass);
        match self.form {
            Form::Sequential | Form::Gan => first,
            Form::EncoderDecoder => {
                pass.memory = Some(first);
                self.parts[1].1.forward(&inputs[1], pass)
            }
            Form::Siamese => {
                // Shared weights settle by the first input alone.
                pass.settling = false;
                let rest = inputs[1..].iter().map(|x| self.parts[0].1.forward(x, pass));
                stack(&std::iter::once(first).chain(rest).collect::<Vec<_>>(), 1)
            }
        }
    }

    /// Gives first values to the layers that start by what they give on examples (LSUV), one after the other. What
    /// other layers start from stays.
    ///
    /// # Panics
    /// As [`Network::forward`].
    #[track_caller]
    pub fn settled(&self, inputs: &[Tensor]) -> Network {
        let mut network = self.clone();
        if self.settles {
            let mut context = Context::evaluation();
            network.pass(inputs, &mut Pass { settling: true, ..Pass::new(&mut context) });
        }
        network
    }

    /// [`Network::forward`] in evaluation, which changes nothing.
    #[track_caller]
    pub fn evaluate(&self, inputs: &[Tensor]) -> Tensor {
        self.clone().forward(inputs, &mut Context::evaluation())
    }

    /// What comes into the last layer, and what the network says, in evaluation: the features that it goes by. None
    /// where the network is not one sequence of layers.
    ///
    /// # Panics
    /// As [`Network::forward`].
    #[track_caller]
    pub fn features(&self, inputs: &[Tensor]) -> Option<(Tensor, Tensor)> {
        if self.form != Form::Sequential || self.parts[0].1.0.is_empty() {
            return None;
        }
        let mut network = self.clone();
        let last = network.parts[0].1.0.pop();
        let mut context = Context::evaluation();
        let mut pass = Pass::new(&mut context);
        let features = network.pass(inputs, &mut pass);
        let (_, mut last) = last?;
        let said = last.forward(&features, &mut pass);
        Some((features, said))
    }

    /// What an encoder says of its inputs, a source and what was said so far.
    ///
    /// # Panics
    /// If inputs are missing or not of the form the network was built for.
    #[track_caller]
    pub fn encode(&self, inputs: [&Tensor; 2]) -> Tensor {
        let mut context = Context::evaluation();
        let mut pass = Pass::new(&mut context);
        pass.values = self.names.iter().cloned().zip(inputs.into_iter().cloned()).collect();
        self.parts[0].1.clone().forward(inputs[0], &mut pass)
    }

    /// What the network carries before the first step of sequences like x `[N, T, …]`, with room for so many steps; none
    /// if one of its layers cannot go step by step. `over` are the inputs of an encoder and what it said of them.
    ///
    /// ```
    /// use chainrule::prelude::*;
    /// use chainrule::tensor::Type;
    /// use chainrule_train::data::ExampleType;
    /// use chainrule_train::model::Spec;
    /// let text = "[model]\nlayers = [{ embedding = 4 }, { encoder = 2, causal = true }, { linear = \"classes\" }]";
    /// let tokens = Type::new(DType::I64, [5]);
    /// let example = ExampleType { inputs: vec![tokens.clone()], targets: vec![tokens], classes: Some(7) };
    /// let network = Spec::parse("writer.toml", text)?.build(&example, &Key::new(1))?;
    /// let said = Tensor::from([[3i64, 1, 4, 1, 5]]);
    /// let mut carried = network.carried(said.narrow(1, 0, 1).ty(), None, 5).expect("all of it goes by steps");
    /// let whole = network.evaluate(&[said.clone()]);
    /// for place in 0..5 {
    ///     let step = network.step(&said.narrow(1, place, 1), None, &mut carried);
    ///     assert!((step - whole.narrow(1, place, 1)).abs().max(..).item::<f32>() < 1e-5);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn carried(&self, x: &Type, over: Option<[&Type; 3]>, room: usize) -> Option<Carried> {
        let (_, last) = self.parts.last().filter(|_| matches!(self.form, Form::Sequential | Form::EncoderDecoder))?;
        if !last.is_by_step() {
            return None;
        }
        let over = over.map(|types| types.map(placeholder));
        let over = over.as_ref().map(|inputs| inputs.each_ref());
        Some(self.walk(&placeholder(x), over, Walk::start(room)).1.started())
    }

    /// [`Network::evaluate`] of the next steps x `[N, T, …]` of a sequence of which the steps before are in what was
    /// carried; they join it.
    ///
    /// # Panics
    /// If x is not of the form that [`Network::carried`] was asked for.
    #[track_caller]
    pub fn step(&self, x: &Tensor, over: Option<[&Tensor; 3]>, carried: &mut Carried) -> Tensor {
        let (y, walk) = self.walk(x, over, Walk::on(carried));
        *carried = walk.left(carried, x.size(1));
        y
    }

    fn walk(&self, x: &Tensor, over: Option<[&Tensor; 3]>, walk: Walk) -> (Tensor, Walk) {
        let mut network = self.clone();
        let mut context = Context::evaluation();
        let mut pass = Pass::new(&mut context);
        if let Some([source, said, memory]) = over {
            pass.values = self.names.iter().cloned().zip([source.clone(), said.clone()]).collect();
            // For the weights that it shares with the decoder; what it computes nobody looks at, and so it is not.
            network.parts[0].1.forward(source, &mut pass);
            pass.memory = Some(memory.clone());
        }
        pass.walk = Some(walk);
        let place = network.parts.len() - 1;
        let y = network.parts[place].1.forward(x, &mut pass);
        (y, pass.walk.unwrap_or_else(|| unreachable!("it was put there")))
    }
}

impl Tree for Network {
    fn visit(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor)) {
        match self.form {
            Form::Sequential | Form::Siamese => self.parts[0].1.visit(path, function),
            _ => self.parts.iter().for_each(|(name, part)| path.enter(name, |path| part.visit(path, function))),
        }
    }
    fn map(&self, path: &mut Path, function: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Network {
        let parts = self.parts.iter().map(|(name, part)| {
            let part = match self.form {
                Form::Sequential | Form::Siamese => part.map(path, function),
                _ => path.enter(name, |path| part.map(path, function)),
            };
            (name.clone(), part)
        });
        Network { form: self.form, parts: parts.collect(), names: self.names.clone(), settles: self.settles }
    }
}
