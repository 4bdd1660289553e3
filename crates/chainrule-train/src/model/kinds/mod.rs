//! Every kind of layer a file may name: its options, what it takes, how it is built, and its help, one entry each.
//!
//! An entry's `make` looks at what comes in and says in the field's words what does not fit; then it builds the layer.
//! What comes out is found by calling the layer. To add a kind, add its entry to the table of its family: reading,
//! checking, building, the summary and the documentation follow.

mod attention;
mod basic;
mod blocks;
mod picture;
mod recurrent;
mod regular;
mod space;

use chainrule::tensor::{DType, Tensor, Type};
use chainrule_nn::layer::length_mask;

use super::build::{MOST_ELEMENTS, Scope, shown};
use super::fields::{Field, Form, Options};
use super::module::{Module, Pass};
use super::source::Problem;

/// One kind of layer.
#[derive(Debug)]
pub(crate) struct Kind {
    pub name: &'static str,
    /// What it computes.
    pub help: &'static str,
    /// The axes it takes and gives, without that of examples.
    pub shapes: &'static str,
    /// Its options. The first is what stands at the kind's name, if `owns`.
    pub fields: &'static [Field],
    pub owns: bool,
    pub make: fn(&Options, &Type, &mut Scope) -> Result<Module, Problem>,
}

impl Kind {
    /// The option that the value at the kind's name is.
    pub fn own(&self) -> Option<&'static Field> {
        self.fields.first().filter(|_| self.owns)
    }
}

/// A family of kinds with its title.
pub(crate) const FAMILIES: &[(&str, &[Kind])] = &[
    ("Dense", basic::DENSE),
    ("Activations", basic::ACTIVATIONS),
    ("Convolution and pooling", space::KINDS),
    ("Blocks for images", picture::KINDS),
    ("Recurrent", recurrent::KINDS),
    ("Attention", attention::KINDS),
    ("Normalisation and dropout", regular::KINDS),
    ("Shapes and reductions", basic::SHAPES),
    ("Blocks of layers", blocks::KINDS),
];

/// Every kind.
pub(crate) fn all() -> impl Iterator<Item = &'static Kind> {
    FAMILIES.iter().flat_map(|(_, kinds)| kinds.iter())
}

/// The kind of a name.
pub(crate) fn find(name: &str) -> Option<&'static Kind> {
    all().find(|kind| kind.name == name)
}

/// Refuses what is not a float.
fn float(what: &str, options: &Options, x: &Type) -> Result<(), Problem> {
    if x.dtype.is_float() {
        return Ok(());
    }
    let problem =
        Problem::new(&options.span, format!("`{what}` takes numbers, and {} of {} come in", x.dtype, shown(x)));
    Err(problem.hint("put { embedding = WIDTH } before it, which makes vectors of classes and tokens"))
}

/// Refuses what has not so many axes, that of examples not counted: `least` to `most`.
fn axes(what: &str, options: &Options, x: &Type, (least, most): (usize, usize), meant: &str) -> Result<(), Problem> {
    let axes = x.shape.len() - 1;
    if (least..=most).contains(&axes) {
        return Ok(());
    }
    let message = format!("`{what}` takes {meant}, and {} comes in", shown(x));
    let problem = Problem::new(&options.span, message);
    let numel: usize = x.shape[1..].iter().product();
    let side = (numel as f64).sqrt() as usize;
    Err(match (axes, least) {
        (1, 3) if side * side == numel => {
            problem.hint(format!("put {{ reshape = [1, {side}, {side}] }} before it if these are images"))
        }
        (2, 3) => problem.hint(format!("put {{ reshape = [1, {}, {}] }} before it", x.shape[1], x.shape[2])),
        (1, 2) => problem.hint(format!("put {{ reshape = [1, {}] }} before it", x.shape[1])),
        (3.., 1 | 2) => problem.hint("put \"flatten\" before it"),
        _ => problem.hint(format!("it takes {least} to {most} axes beside that of examples, and gets {axes}")),
    })
}

/// An axis of an option, counted as tensors do: that of examples is 0, and from the end are −1, −2, ….
fn axis(options: &Options, name: &str, x: &Type) -> Result<usize, Problem> {
    let (given, rank) = (options.integer(name), x.shape.len() as i64);
    let axis = if given < 0 { given + rank } else { given };
    if (1..rank).contains(&axis) {
        return Ok(axis as usize);
    }
    let message = format!("axis {given} is not one of {}, whose axes are 1 to {}", shown(x), rank - 1);
    Err(options.problem(name, message).hint("axis 0 is that of the examples; -1 is the last"))
}

/// The name of the value that says how much of each example counts: an integer each.
fn lengths(options: &Options, name: &'static str, scope: &Scope) -> Result<String, Problem> {
    let (word, ty) = scope.value(options, name)?;
    match ty.shape.len() == 1 && !ty.dtype.is_float() {
        true => Ok(word),
        false => {
            let message = format!("`{name}` is a whole number each, and `{word}` is {} of {}", ty.dtype, shown(&ty));
            Err(options.problem(name, message))
        }
    }
}

const MASK: Field = Field {
    name: "mask",
    form: Form::Name,
    default: "-",
    help: "the input that says which places there are: how many, or [time] with 0 where there is nothing",
};

/// Which places of each example count, made of a value in a pass: bools `[N, places]`.
type Mask = Box<dyn Fn(&Pass) -> Tensor + Send + Sync>;

/// The places that an option names a value for.
fn places_of(name: &'static str, places: usize, options: &Options, scope: &Scope) -> Result<Mask, Problem> {
    let (word, ty) = scope.value(options, name)?;
    match ty.shape[1..] {
        [] if !ty.dtype.is_float() => {
            Ok(Box::new(move |pass| length_mask(pass.value(&word), places).squeeze(1).squeeze(1)))
        }
        [time] if time == places => Ok(Box::new(move |pass| pass.value(&word).cast(DType::Bool))),
        _ => {
            let found = format!("`{word}` is {} of {}", ty.dtype, shown(&ty));
            Err(options.problem(name, format!("`{name}` is a whole number or [{places}], and {found}")))
        }
    }
}

/// Whether the last axis is another one than that of time, `[N, time, …, last]`.
fn beside_time(x: &Type) -> bool {
    x.shape.len() > 2
}

/// Refuses weights and values that no memory holds.
fn holds(what: &str, options: &Options, sizes: &[usize]) -> Result<(), Problem> {
    let numel = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    match numel {
        Some(numel) if numel <= MOST_ELEMENTS => Ok(()),
        _ => {
            Err(Problem::new(&options.span, format!("`{what}` would hold {sizes:?} numbers, too many for any memory")))
        }
    }
}
