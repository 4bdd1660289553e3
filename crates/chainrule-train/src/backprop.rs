//! The four steps of back-propagation as they were in one step of a training: forward, loss, backward, update.
//!
//! Every number is measured on the step's own batch and weights. The chain is walked one link at a time, each by its own
//! `vjp`, so the gain of a link is what it really did to the length of the gradient, and the gains multiply up.

use std::fmt;

use chainrule::differentiate::vjp;
use chainrule::execute::eval_all;
use chainrule::tensor::{DType, Tensor};
use chainrule::tree;
use chainrule_nn::layer::{Linear, Mlp};
use serde::Serialize;

/// One step of a training, with all that is needed to look at it again.
#[derive(Debug, Clone)]
pub struct Moment<M> {
    /// Which step, from 1.
    pub step: u64,
    /// The model before it.
    pub before: M,
    /// The model after it.
    pub after: M,
    /// The batch.
    pub inputs: Tensor,
    /// Its classes.
    pub labels: Tensor,
}

/// All four steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FourSteps {
    /// Which step of the training, from 1.
    pub step: u64,
    /// Examples in its batch.
    pub examples: usize,
    /// 1: the values, in the order they are computed.
    pub forward: Vec<Values>,
    /// 2: the loss.
    pub loss: f64,
    /// How many of the batch were right.
    pub right: usize,
    /// 3: the gradient on its way back. The first link starts the chain; its gain is its norm.
    pub backward: Vec<Link>,
    /// 4: what the gradient and the update did to each parameter, last layer first.
    pub update: Vec<Change>,
}

/// The values of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Values {
    /// As in `z₁`.
    pub name: String,
    /// How they are computed, as in `x·W₁ᵀ + b₁`.
    pub formula: String,
    /// Their shape.
    pub shape: Vec<usize>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub spread: f64,
    /// Of a rectifier, the share of values it lets through.
    pub open: Option<f64>,
}

/// A link of the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// What the gradient went through, as in `W₂` or `relu′(z₁)`.
    pub through: String,
    /// What it is the gradient by afterwards, as in `a₁`.
    pub by: String,
    /// Its norm afterwards, divided by that before.
    pub gain: f64,
    /// Its norm afterwards.
    pub norm: f64,
}

/// A parameter and its update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its path in the model.
    pub path: String,
    /// Norm of its gradient.
    pub gradient: f64,
    /// Norm of itself, before.
    pub norm: f64,
    /// Norm of its update.
    pub change: f64,
}

impl Change {
    /// The size of the update against that of the parameter.
    pub fn share(&self) -> f64 {
        self.change / self.norm
    }
}

impl FourSteps {
    /// Looks at one step of the training of a perceptron.
    pub fn of(moment: &Moment<Mlp>) -> FourSteps {
        let layers = &moment.before.layers;
        let mut numbers = Numbers::default();
        // Forward, keeping the way back through each link.
        let mut forward = vec![numbers.values("x", "the batch".into(), &moment.inputs, None)];
        let (mut a, mut links) = (moment.inputs.clone(), Vec::<Way<'_>>::new());
        let mut inputs = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            let (l, before) = (subscript(i + 1), if i == 0 { "x".into() } else { format!("a{}", subscript(i)) });
            inputs.push(a.clone());
            let (z, pull) = vjp(|a: &Tensor| layer.forward(a), &a);
            links.push((format!("W{l}"), before.clone(), Box::new(pull)));
            forward.push(numbers.values(&format!("z{l}"), format!("{before}·W{l}ᵀ + b{l}"), &z, None));
            a = z;
            if i + 1 < layers.len() {
                let z = a.clone();
                let (rectified, pull) = vjp(|z: &Tensor| z.relu(), &z);
                links.push((format!("relu′(z{l})"), format!("z{l}"), Box::new(pull)));
                forward.push(numbers.values(&format!("a{l}"), format!("relu(z{l})"), &rectified, Some(&z)));
                a = rectified;
            }
        }
        let (loss, pull) = vjp(|z: &Tensor| z.cross_entropy(&moment.labels), &a);
        let right = numbers.add(a.argmax(-1).equal(&moment.labels).cast(DType::F64).sum(..));
        let loss_at = numbers.add(loss.clone());
        // Backward: every link once, in the other order.
        let mut gradient = pull(&loss.ones_like());
        let mut norms = vec![("L".into(), format!("z{}", subscript(layers.len())), numbers.norm(&gradient))];
        let mut updates = Vec::new();
        for (i, layer) in layers.iter().enumerate().rev() {
            let (_, to_layer) = vjp(|layer: &Linear| layer.forward(&inputs[i]), layer);
            updates.extend(numbers.changes(i, layer, &to_layer(&gradient), &moment.after.layers[i]));
            let (_, _, through_weight) = links.pop().expect("a link a layer");
            if i > 0 {
                gradient = through_weight(&gradient);
                norms.push((format!("W{}", subscript(i + 1)), format!("a{}", subscript(i)), numbers.norm(&gradient)));
                let (through, by, pull) = links.pop().expect("a rectifier before each layer but the first");
                gradient = pull(&gradient);
                norms.push((through, by, numbers.norm(&gradient)));
            }
        }
        let value = numbers.read();
        let mut backward: Vec<Link> = Vec::new();
        for (through, by, at) in norms {
            let norm = value[at];
            let gain = norm / backward.last().map_or(1.0, |link| link.norm);
            backward.push(Link { through, by, gain, norm });
        }
        FourSteps {
            step: moment.step,
            examples: moment.labels.numel(),
            forward: forward.into_iter().map(|pending| pending.with(&value)).collect(),
            loss: value[loss_at],
            right: value[right] as usize,
            backward,
            update: updates
                .into_iter()
                .map(|(path, [g, w, d])| Change { path, gradient: value[g], norm: value[w], change: value[d] })
                .collect(),
        }
    }
}

/// A name, what the gradient is by behind it, and the way back.
type Way<'a> = (String, String, Box<dyn Fn(&Tensor) -> Tensor + 'a>);

/// Numbers that are asked for one by one and computed together.
#[derive(Default)]
struct Numbers(Vec<Tensor>);

struct Pending {
    name: String,
    formula: String,
    shape: Vec<usize>,
    mean: usize,
    spread: usize,
    open: Option<usize>,
}

impl Pending {
    fn with(self, value: &[f64]) -> Values {
        let Pending { name, formula, shape, mean, spread, open } = self;
        Values { name, formula, shape, mean: value[mean], spread: value[spread], open: open.map(|at| value[at]) }
    }
}

impl Numbers {
    fn add(&mut self, scalar: Tensor) -> usize {
        self.0.push(scalar.cast(DType::F64));
        self.0.len() - 1
    }

    fn norm(&mut self, tensor: &Tensor) -> usize {
        self.add(tensor.cast(DType::F64).square().sum(..).sqrt())
    }

    fn values(&mut self, name: &str, formula: String, tensor: &Tensor, rectified: Option<&Tensor>) -> Pending {
        let wide = tensor.cast(DType::F64);
        Pending {
            name: name.into(),
            formula,
            shape: tensor.shape().to_vec(),
            mean: self.add(wide.mean(..)),
            spread: self.add(wide.std(.., 0)),
            open: rectified.map(|z| self.add(z.greater(0.0).cast(DType::F64).mean(..))),
        }
    }

    /// Path, and where the norms of gradient, parameter and update will be, of the parameters of a layer.
    fn changes(
        &mut self,
        layer: usize,
        before: &Linear,
        gradient: &Linear,
        after: &Linear,
    ) -> Vec<(String, [usize; 3])> {
        let leaves = tree::named_leaves(before).into_iter().zip(tree::leaves(gradient)).zip(tree::leaves(after));
        leaves
            .map(|(((path, _, w), g), new)| {
                (format!("layers.{layer}.{path}"), [self.norm(&g), self.norm(&w), self.norm(&(new - w))])
            })
            .collect()
    }

    fn read(&self) -> Vec<f64> {
        eval_all(&self.0).iter().map(Tensor::item::<f64>).collect()
    }
}

/// A number in small digits below the line.
fn subscript(number: usize) -> String {
    let digit = |d: u8| char::from_u32(0x2080 + (d - b'0') as u32).expect("a digit has a subscript");
    number.to_string().bytes().map(digit).collect()
}

/// Four digits that say something; powers of ten where there would be many zeros.
fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".into(),
        _ if !size.is_finite() => value.to_string(),
        _ if !(1e-3..1e5).contains(&size) => format!("{value:.3e}"),
        _ => format!("{value:.*}", (3 - size.log10().floor() as i32).max(0) as usize),
    }
}

/// Pads by characters, which `{:>8}` does too; written out because the names hold letters of several bytes.
fn table(f: &mut fmt::Formatter, heading: &str, rows: &[Vec<String>], left: usize) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (place, row) in rows.iter().enumerate() {
        let mut line = format!("{:<12}", if place == 0 { heading } else { "" });
        for (c, cell) in row.iter().enumerate() {
            let width = widths[c];
            line += &if c < left { format!("{cell:<width$}   ") } else { format!("{cell:>width$}   ") };
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A page for a terminal.
impl fmt::Display for FourSteps {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let cells = |row: &[&str]| row.iter().map(|cell| cell.to_string()).collect::<Vec<_>>();
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let mut rows = vec![cells(&["value", "", "shape", "mean", "spread"])];
        rows.extend(self.forward.iter().map(|v| {
            let shape = format!("{:?}", v.shape);
            let open = v.open.map(|share| format!("{} pass", percent(share)));
            [
                vec![v.name.clone(), format!("= {}", v.formula), shape, short(v.mean), short(v.spread)],
                open.into_iter().collect(),
            ]
            .concat()
        }));
        table(f, "1 forward", &rows, 3)?;

        let logits = self.backward.first().map_or("z", |link| &link.by);
        let loss = format!("L = mean of −ln softmax({logits})[label] = {}", short(self.loss));
        writeln!(f, "\n{:<12}{loss}   ({} of {} right)", "2 loss", self.right, self.examples)?;

        writeln!(f)?;
        let mut rows = Vec::new();
        for (place, link) in self.backward.iter().enumerate() {
            let norm = format!("‖∂L/∂{}‖", link.by);
            let gain = if place == 0 { String::new() } else { format!("× {}", short(link.gain)) };
            let through = if place == 0 {
                format!("(softmax({}) − one-hot) / {}", link.by, self.examples)
            } else {
                format!("through {}", link.through)
            };
            rows.push(vec![norm, through, gain, format!("= {}", short(link.norm))]);
        }
        table(f, "3 backward", &rows, 2)?;
        if let [.., last] = &self.backward[..]
            && self.backward.len() > 1
        {
            let product: Vec<String> = self.backward.iter().map(|link| short(link.gain)).collect();
            writeln!(f, "{:<12}the chain: {} = {}", "", product.join(" × "), short(last.norm))?;
        }

        writeln!(f)?;
        let mut rows = vec![cells(&["parameter w", "‖∂L/∂w‖", "‖w‖", "‖Δw‖", "‖Δw‖/‖w‖"])];
        rows.extend(self.update.iter().map(|c| {
            let share = format!("{:.3} %", 100.0 * c.share());
            vec![c.path.clone(), short(c.gradient), short(c.norm), short(c.change), share]
        }));
        table(f, "4 update", &rows, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chainrule::differentiate::grad;
    use chainrule::tensor::Key;
    use chainrule_nn::optimizer::{Optimizer, Sgd};

    #[test]
    fn the_links_multiply_up_to_the_gradient_of_the_whole() {
        let model = Mlp::new(&Key::new(4), &[5, 7, 6, 3]);
        let inputs = Key::new(9).normal([8, 5], DType::F32);
        let labels = Tensor::from([0i64, 1, 2, 0, 1, 2, 0, 1]);
        let whole = grad(|m: &Mlp| m.forward(&inputs).cross_entropy(&labels), &model);
        let (after, _) = Sgd::new(&model, 0.1).update(&model, &whole);
        let steps = FourSteps::of(&Moment { step: 3, before: model, after, inputs, labels });
        let names: Vec<&str> = steps.backward.iter().map(|link| link.by.as_str()).collect();
        assert_eq!(names, ["z₃", "a₂", "z₂", "a₁", "z₁"]);
        let product: f64 = steps.backward.iter().map(|link| link.gain).product();
        assert!((product / steps.backward[4].norm - 1.0).abs() < 1e-12);
        // ‖∂L/∂b‖ and ‖∂L/∂W‖ link by link are those of the gradient of the whole, and plain descent moves by 0.1 of it.
        let norms: std::collections::HashMap<String, f64> =
            tree::named_leaves(&whole).into_iter().map(|leaf| (leaf.0, leaf.2.norm(..).to_f64())).collect();
        assert_eq!(steps.update.len(), 6);
        for change in &steps.update {
            assert!((change.gradient / norms[&change.path] - 1.0).abs() < 1e-5, "{change:?}");
            assert!((change.change / (0.1 * change.gradient) - 1.0).abs() < 1e-3, "{change:?}");
        }
        let text = steps.to_string();
        assert!(text.contains("through relu′(z₁)") && text.contains("layers.2.weight"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.012341, 1.0, 12345.6, -0.5, 1e-7, 2.5e9, f64::NAN].map(short);
        assert_eq!(texts, ["0", "0.01234", "1.000", "12346", "-0.5000", "1.000e-7", "2.500e9", "NaN"]);
    }
}
