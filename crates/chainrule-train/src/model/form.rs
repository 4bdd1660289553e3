//! What a `[model]` is as a whole: layers, a language model in one line, an encoder with a decoder, a pair of networks.

use chainrule::tensor::{DType, Key, Type};

use super::build::{Row, Scope, review, shown};
use super::fields::{Field, Form as Given, Options};
use super::module::{Form, Network};
use super::settings::read;
use super::source::{Entry, Item, Problem, Span, Value, parse};
use super::start::Start;
use crate::data::ExampleType;

type Build = fn(&Model, &[Type], &mut Scope) -> Result<(Network, Type), Problem>;

/// One form of a model.
#[derive(Debug)]
pub(crate) struct Kind {
    pub name: &'static str,
    pub help: &'static str,
    pub fields: &'static [Field],
    /// The parts with layers, by name; none of a shorthand.
    parts: &'static [&'static str],
    /// The network and what it ends in.
    build: Build,
}

const INIT: Field =
    Field { name: "init", form: Given::Start, default: "-", help: "how all weights start that say nothing else" };

/// Every form.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "sequential",
        help: "layers from input to output; what a model is if it says nothing",
        fields: &[Field { name: "layers", form: Given::Layers, default: "", help: "one after the other" }, INIT],
        parts: &[],
        build: sequential,
    },
    Kind {
        name: "siamese",
        help: "the same layers for each of several inputs of one form, what they give side by side: [inputs, …]",
        fields: &[Field { name: "layers", form: Given::Layers, default: "", help: "one after the other" }, INIT],
        parts: &[],
        build: siamese,
    },
    Kind {
        name: "gpt",
        help: "a language model as GPT-2: tokens and learned positions, causal blocks, a norm, a head tied to the tokens",
        fields: &[
            Field { name: "layers", form: Given::Count, default: "", help: "blocks" },
            Field { name: "heads", form: Given::Count, default: "", help: "which divide the width" },
            Field { name: "width", form: Given::Count, default: "", help: "numbers of a token's vector" },
            Field {
                name: "context",
                form: Given::Count,
                default: "-",
                help: "places there are vectors for; as many as come in without",
            },
            Field { name: "hidden", form: Given::Size, default: "\"4x\"", help: "units of the network at each place" },
            Field {
                name: "activation",
                form: Given::Word(&["relu", "gelu", "gelu_tanh", "silu"]),
                default: "\"gelu\"",
                help: "of that network",
            },
            Field { name: "dropout", form: Given::Share, default: "0.0", help: "in training" },
            Field { name: "bias", form: Given::Flag, default: "true", help: "whether biases are there" },
            Field { name: "epsilon", form: Given::Positive, default: "1e-5", help: "of the norms" },
            INIT,
        ],
        parts: &[],
        build: sequential,
    },
    Kind {
        name: "encoder-decoder",
        help: "an encoder for the first input, a decoder for the second that looks at what the encoder said",
        fields: &[
            Field { name: "encoder", form: Given::Part, default: "", help: "[model.encoder] with `layers`" },
            Field { name: "decoder", form: Given::Part, default: "", help: "[model.decoder] with `layers`" },
            INIT,
        ],
        parts: &["encoder", "decoder"],
        build: |model, inputs, scope| {
            let [source, said, ..] = inputs else {
                let problem = Problem::new(&model.options.span, "an encoder-decoder needs data with two inputs");
                return Err(problem.hint("a source, and what was said so far"));
            };
            let (encoder, memory) = scope.sequence(Some("encoder"), &model.layers("encoder"), source)?;
            scope.memory = Some(memory);
            let (decoder, end) = scope.sequence(Some("decoder"), &model.layers("decoder"), said)?;
            Ok((Network::pair(Form::EncoderDecoder, [("encoder", encoder), ("decoder", decoder)]), end))
        },
    },
    Kind {
        name: "gan",
        help: "a generator that makes examples from noise, and a discriminator that tells them from true ones",
        fields: &[
            Field { name: "noise", form: Given::Count, default: "100", help: "numbers that an example is made from" },
            Field { name: "generator", form: Given::Part, default: "", help: "[model.generator] with `layers`" },
            Field {
                name: "discriminator",
                form: Given::Part,
                default: "",
                help: "[model.discriminator] with `layers`",
            },
            Field {
                name: "loss",
                form: Given::Word(super::gan::LOSSES),
                default: "\"logistic\"",
                help: "what both minimise: binary cross-entropy, margins of 1, or scores with a slope of about 1",
            },
            Field {
                name: "gradient_penalty",
                form: Given::Positive,
                default: "-",
                help: "factor of (slope − 1)² between true and made examples; 10 without for `wasserstein`",
            },
            Field {
                name: "critic_steps",
                form: Given::Count,
                default: "1",
                help: "updates of the discriminator for one of the generator, a batch each",
            },
            INIT,
        ],
        parts: &["generator", "discriminator"],
        build: gan,
    },
];

/// `[model]` of a file.
#[derive(Debug)]
pub(crate) struct Model {
    pub kind: &'static Kind,
    pub options: Options,
}

impl Model {
    pub fn read(section: &Item) -> Result<Model, Problem> {
        let kind = match section.get("kind") {
            None => &KINDS[0],
            Some(Entry { item: Item { value: Value::Text(word), span }, .. }) => {
                let known = KINDS.iter().find(|kind| kind.name == word);
                known.ok_or_else(|| {
                    Problem::new(span, format!("there is no model `{word}`"))
                        .nearest(word, KINDS.iter().map(|k| k.name))
                })?
            }
            Some(entry) => return Err(Problem::new(&entry.item.span, "`kind` is a name in quotes")),
        };
        let rest = section.entries().iter().filter(|entry| entry.key != "kind").cloned().collect();
        let rest = match &section.value {
            Value::Table(_) => Item { span: section.span.clone(), value: Value::Table(rest) },
            _ => section.clone(),
        };
        let model = Model { kind, options: read("[model]", &rest, kind.fields)? };
        for part in kind.parts {
            let table = model.options.item(part).cloned().unwrap_or(rest.clone());
            if let Some(other) = table.entries().iter().find(|entry| entry.key != "layers") {
                return Err(Problem::new(&other.at, format!("[model.{part}] has `layers` and nothing else")));
            }
            if table.get("layers").is_none() {
                return Err(Problem::new(&table.span, format!("[model.{part}] needs `layers`, a list of layers")));
            }
        }
        let lists = if kind.parts.is_empty() { &["layers"] } else { kind.parts };
        lists.iter().try_for_each(|name| review(&model.layers(name)))?;
        model.start()?;
        Ok(model)
    }

    /// The list of layers of a name, or of the part of that name.
    pub fn layers(&self, name: &str) -> Item {
        if self.kind.name == "gpt" {
            return gpt(&self.options);
        }
        let item = self.options.item(name);
        let list = item.and_then(|item| item.get("layers").map(|entry| &entry.item)).or(item).cloned();
        list.unwrap_or(Item { span: self.options.span.clone(), value: Value::List(Vec::new()) })
    }

    /// How weights start.
    pub fn start(&self) -> Result<Option<Start>, Problem> {
        self.options.item("init").map(Start::read).transpose()
    }

    /// Where the network ends: its last layer.
    pub fn end(&self) -> Span {
        let list = self.layers(self.kind.parts.last().unwrap_or(&"layers"));
        match &list.value {
            Value::List(items) => items.last().map_or(list.span.clone(), |item| item.span.clone()),
            _ => list.span,
        }
    }

    /// Builds it for so many examples of a form: the network, its layers, and what it ends in.
    pub fn build(
        &self,
        blocks: &[Entry],
        file: (&str, &str),
        example: &ExampleType,
        names: &[String],
        batch: usize,
        key: &Key,
    ) -> Result<Built, Problem> {
        let inputs: Vec<Type> = example.inputs.iter().map(|ty| batched(ty, batch)).collect();
        if inputs.is_empty() {
            return Err(Problem::new(&self.options.span, "the data has no inputs"));
        }
        let mut scope = Scope::new(blocks, file, example.classes, self.start()?, key);
        scope.values = names.iter().cloned().zip(inputs.iter().cloned()).collect();
        let (network, end) = (self.kind.build)(self, &inputs, &mut scope)?;
        let pair = network.form() == Form::Gan;
        if pair && scope.settles {
            let problem =
                Problem::new(&self.options.span, "`init = \"lsuv\"` looks at the data, and a generator has none");
            return Err(problem.hint("start it with \"orthogonal\""));
        }
        // What a layer asks for by name is given in every pass.
        let names = if pair { Vec::new() } else { names.iter().take(inputs.len()).cloned().collect() };
        Ok(Built { network: network.knowing(names, scope.settles), rows: scope.rows, end })
    }
}

/// A network, its layers one by one, and what it ends in.
pub(crate) struct Built {
    pub network: Network,
    pub rows: Vec<Row>,
    pub end: Type,
}

fn sequential(model: &Model, inputs: &[Type], scope: &mut Scope) -> Result<(Network, Type), Problem> {
    let (layers, end) = scope.sequence(None, &model.layers("layers"), &inputs[0])?;
    Ok((Network::sequential(layers), end))
}

fn siamese(model: &Model, inputs: &[Type], scope: &mut Scope) -> Result<(Network, Type), Problem> {
    if let Some(other) = inputs.iter().find(|input| **input != inputs[0]) {
        let message = format!(
            "a siamese model reads inputs of one form, and these are {} and {}",
            shown(&inputs[0]),
            shown(other)
        );
        return Err(Problem::new(&model.options.span, message));
    }
    let (layers, end) = scope.sequence(None, &model.layers("layers"), &inputs[0])?;
    let shape = [&end.shape[..1], &[inputs.len()], &end.shape[1..]].concat();
    Ok((Network::siamese(layers), Type::new(end.dtype, shape)))
}

/// The type of so many examples.
pub(crate) fn batched(ty: &Type, batch: usize) -> Type {
    Type::new(ty.dtype, std::iter::once(batch).chain(ty.shape.iter().copied()))
}

fn gan(model: &Model, inputs: &[Type], scope: &mut Scope) -> Result<(Network, Type), Problem> {
    let noise = Type::new(DType::F32, [inputs[0].shape[0], model.options.count("noise")]);
    // Each is called alone: neither sees what the other keeps, nor inputs by their names.
    scope.values.clear();
    let (generator, made) = scope.sequence(Some("generator"), &model.layers("generator"), &noise)?;
    scope.values.clear();
    let (discriminator, verdict) = scope.sequence(Some("discriminator"), &model.layers("discriminator"), &inputs[0])?;
    let last = |name: &str| match &model.layers(name).value {
        Value::List(items) => items.last().map(|item| item.span.clone()),
        _ => None,
    };
    let at = |name: &str| last(name).unwrap_or(model.options.span.clone());
    if made != inputs[0] {
        let message =
            format!("the generator makes {}, and the data's examples are {}", shown(&made), shown(&inputs[0]));
        return Err(Problem::new(&at("generator"), message).hint("what is made must look like what is true"));
    }
    if verdict.numel() != verdict.shape[0] {
        let message = format!("the discriminator ends in {}", shown(&verdict));
        return Err(Problem::new(&at("discriminator"), message).hint("it must end in one number: { linear = 1 }"));
    }
    Ok((Network::pair(Form::Gan, [("generator", generator), ("discriminator", discriminator)]), verdict))
}

/// The layers that `kind = "gpt"` is short for, all at its place of the file.
fn gpt(options: &Options) -> Item {
    let text = |name: &str| options.item(name).map_or(String::new(), |item| item.describe());
    let positions = if options.has("context") { text("context") } else { "true".into() };
    let (epsilon, bias, dropout) = (text("epsilon"), text("bias"), text("dropout"));
    let start = match options.has("init") {
        true => String::new(),
        false => {
            // Radford et al., "Language models are unsupervised multitask learners", 2019.
            let residual = 0.02 / (2.0 * options.number("layers")).sqrt();
            format!(", init = {{ normal = 0.02, residual = {residual:?} }}")
        }
    };
    let layers = format!(
        "layers = [
          {{ embedding = {width}, name = \"tokens\"{start} }},
          {{ learned_positions = {positions}, name = \"positions\"{start} }},
          {{ dropout = {dropout} }},
          {{ encoder = {heads}, hidden = {hidden}, norm = \"pre\", causal = true, activation = {activation},
             dropout = {dropout}, bias = {bias}, epsilon = {epsilon}, repeat = {count}, name = \"blocks\"{start} }},
          {{ layer_norm = true, bias = {bias}, epsilon = {epsilon}, name = \"norm\" }},
          {{ tied = \"tokens\" }},
        ]",
        width = text("width"),
        heads = text("heads"),
        hidden = text("hidden"),
        activation = text("activation"),
        count = text("layers"),
    );
    let span = &options.span;
    let table = parse(&layers).unwrap_or_else(|problem| panic!("the layers of a gpt: {}", problem.message));
    let mut list = table.get("layers").map(|entry| entry.item.clone()).unwrap_or(table);
    place(&mut list, span);
    list
}

/// Moves a value to one place of the file.
fn place(item: &mut Item, span: &Span) {
    item.span = span.clone();
    match &mut item.value {
        Value::List(items) => items.iter_mut().for_each(|item| place(item, span)),
        Value::Table(entries) => {
            // The order of a table is that of its entries; their places are for messages only.
            for entry in entries {
                entry.at = span.clone();
                place(&mut entry.item, span);
            }
        }
        _ => {}
    }
}
