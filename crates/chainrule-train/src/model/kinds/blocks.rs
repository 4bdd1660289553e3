//! Layers made of layers: sequences, blocks by name, residual and parallel branches; and weights that are shared.

use chainrule::tensor::{Tensor, Type, concat};

use super::super::build::{Scope, shown};
use super::super::fields::{Field, Form, Options};
use super::super::module::{Module, Pass, Residual, Sequence};
use super::super::source::{Item, Problem, Value};
use super::super::start::zero_last;
use super::{Kind, axis, beside_time, float};

fn layers(options: &Options, name: &str) -> Item {
    options.item(name).cloned().unwrap_or(Item { span: options.span.clone(), value: Value::List(Vec::new()) })
}

fn block(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    let name = options.word("of").to_owned();
    let Some(entry) = scope.blocks.iter().find(|entry| entry.key == name) else {
        let problem = options.problem("of", format!("there is no block `{name}`"));
        return Err(match scope.blocks.is_empty() {
            true => problem.hint(format!("describe it: [block.{name}] with layers = [ … ]")),
            false => problem.nearest(&name, scope.blocks.iter().map(|entry| entry.key.as_str())),
        });
    };
    if scope.open.contains(&name) {
        return Err(options.problem("of", format!("the block `{name}` is inside itself")));
    }
    if let Some(other) = entry.item.entries().iter().find(|entry| entry.key != "layers") {
        return Err(Problem::new(&other.at, "a block has `layers` and nothing else"));
    }
    let Some(list) = entry.item.get("layers") else {
        return Err(Problem::new(&entry.at, format!("the block `{name}` needs `layers`, a list of layers")));
    };
    scope.open.push(name);
    let (layers, _) = scope.sequence(None, &list.item, x)?;
    scope.open.pop();
    Ok(layers.into())
}

fn residual(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    float("residual", options, x)?;
    let (branch, y) = scope.sequence(Some("branch"), &layers(options, "branch"), x)?;
    let (shortcut, s) = match options.item("shortcut") {
        Some(list) => {
            let (shortcut, s) = scope.sequence(Some("shortcut"), &list.clone(), x)?;
            (Some(shortcut), s)
        }
        None => (None, x.clone()),
    };
    if y != s {
        let (what, y, s) =
            (if shortcut.is_some() { "the shortcut gives" } else { "what comes in is" }, shown(&y), shown(&s));
        let problem = Problem::new(&options.span, format!("the branch gives {y} and {what} {s}: they cannot be added"));
        return Err(problem.hint(match shortcut.is_some() {
            true => format!("change the shortcut so that it gives {y}"),
            false => format!("add shortcut = [ … ] that makes {y} of {s}, such as a convolution with kernel = 1"),
        }));
    }
    let branch = if options.flag("zero_last") { zero_last(&branch) } else { branch };
    let residual = Residual { branch, shortcut };
    let by_step = residual.is_by_step();
    Ok(Module::new(residual, |residual, x, pass| residual.forward(x, pass)).by_step(by_step))
}

fn branches(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    let Value::List(lists) = layers(options, "branches").value else { return Ok(Sequence::default().into()) };
    let axis = axis(options, "axis", x)?;
    let mut built: Vec<(String, Module)> = Vec::new();
    let mut first: Option<Type> = None;
    for (number, list) in lists.iter().enumerate() {
        let (branch, y) = scope.sequence(Some(&number.to_string()), list, x)?;
        let first = first.get_or_insert_with(|| y.clone());
        let others =
            |ty: &Type| ty.shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, n)| *n).collect::<Vec<_>>();
        if y.shape.len() <= axis || others(&y) != others(first) || y.dtype != first.dtype {
            let message = format!("this branch gives {} and the first one {}", shown(&y), shown(first));
            return Err(Problem::new(&list.span, message).hint(format!("they may differ in axis {axis} only")));
        }
        built.push((number.to_string(), branch.into()));
    }
    if built.is_empty() {
        return Err(options.problem("branches", "`concat` needs at least one branch"));
    }
    let built = Sequence(built);
    let by_step = axis > 1 && built.is_by_step();
    let together = move |branches: &mut Sequence, x: &Tensor, pass: &mut Pass| {
        let parts: Vec<_> = branches.0.iter_mut().map(|(_, branch)| branch.forward(x, pass)).collect();
        concat(&parts, axis as isize)
    };
    Ok(Module::new(built, together).by_step(by_step))
}

fn keep(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    let name = options.word("as").to_owned();
    match scope.values.iter().find(|(other, _)| *other == name) {
        Some((_, ty)) if ty != x => {
            let message = format!("`{name}` is {} already, and {} comes in", shown(ty), shown(x));
            return Err(options.problem("as", message).hint("take another name"));
        }
        Some(_) => {}
        None => scope.values.push((name.clone(), x.clone())),
    }
    Ok(Module::new((), move |(), x, pass| {
        pass.keep(&name, x);
        x.clone()
    }))
}

fn tied(options: &Options, x: &Type, scope: &mut Scope) -> Result<Module, Problem> {
    float("tied", options, x)?;
    let name = options.word("layer").to_owned();
    let width = *x.shape.last().unwrap_or(&0);
    match scope.shared.iter().find(|(other, _)| *other == name).map(|(_, weight)| weight.shape().to_vec()) {
        Some(weight) if weight.len() == 2 && weight[1] == width => {}
        Some(weight) => {
            let message = format!("the weight of `{name}` is {weight:?}, and {} comes in", shown(x));
            return Err(options.problem("layer", message).hint("its second size must be the last one that comes in"));
        }
        None => {
            let problem = options.problem("layer", format!("no earlier layer of the name `{name}` has a weight alone"));
            return Err(problem.hint(format!("name the embedding: {{ embedding = {width}, name = \"{name}\" }}")));
        }
    }
    let head = move |(): &mut (), x: &Tensor, pass: &mut Pass| {
        let weight = pass.shared.iter().find(|(other, _)| *other == name).map(|(_, weight)| weight.t());
        x.matmul(&weight.expect("the layer came before"))
    };
    Ok(Module::new((), head).by_step(beside_time(x)))
}

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "sequence",
        help: "layers one after the other, under one name",
        shapes: "as its layers",
        owns: true,
        fields: &[Field { name: "layers", form: Form::Layers, default: "", help: "what is done" }],
        make: |options, x, scope| Ok(scope.sequence(None, &layers(options, "layers"), x)?.0.into()),
    },
    Kind {
        name: "block",
        help: "the layers of [block.NAME], with parameters of their own each time",
        shapes: "as its layers",
        owns: true,
        fields: &[Field { name: "of", form: Form::Name, default: "", help: "which block" }],
        make: block,
    },
    Kind {
        name: "residual",
        help: "branch(x) + shortcut(x); the shortcut is x itself unless it is given",
        shapes: "as its branch",
        owns: true,
        fields: &[
            Field { name: "branch", form: Form::Layers, default: "", help: "what is added" },
            Field { name: "shortcut", form: Form::Layers, default: "-", help: "what it is added to; x itself without" },
            Field {
                name: "zero_last",
                form: Form::Flag,
                default: "false",
                help: "the branch's last layer starts at 0",
            },
        ],
        make: residual,
    },
    Kind {
        name: "concat",
        help: "branches side by side, their results put together along an axis",
        shapes: "[c, …] → [Σ cᵢ, …]",
        owns: true,
        fields: &[
            Field { name: "branches", form: Form::Branches, default: "", help: "lists of layers" },
            Field { name: "axis", form: Form::Axis, default: "1", help: "along which" },
        ],
        make: branches,
    },
    Kind {
        name: "keep",
        help: "x, which later layers find under a name",
        shapes: "any → the same",
        owns: true,
        fields: &[Field { name: "as", form: Form::Name, default: "", help: "the name" }],
        make: keep,
    },
    Kind {
        name: "take",
        help: "an input of the data, or what was kept, in place of x",
        shapes: "any → that value",
        owns: true,
        fields: &[Field { name: "value", form: Form::Name, default: "", help: "its name" }],
        make: |options, _, scope| {
            let (name, _) = scope.value(options, "value")?;
            Ok(Module::new((), move |(), _, pass| pass.value(&name).clone()))
        },
    },
    Kind {
        name: "tied",
        help: "x·Wᵀ with the weight of an earlier layer: the head of a language model tied to its embedding",
        shapes: "[…, width] → […, tokens]",
        owns: true,
        fields: &[Field { name: "layer", form: Form::Name, default: "", help: "the name of that layer" }],
        make: tied,
    },
];
