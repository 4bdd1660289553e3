//! What a batch shows, as sums that can be added over batches, and the numbers they finish into.
//!
//! A mean of means is no mean: batches differ in size, perplexity is not additive, F1 needs the counts of all examples.
//! So a step gives [`Measures`], sums with weights; the host adds them up as [`Totals`], in f64 and in the order of the
//! batches, and only then divides.

use std::fmt;

use chainrule::tensor::{DType, Element, Tensor};
use chainrule::tree::{self, Role, Tree};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::metrics::ConfusionMatrix;

/// How sums become a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Σ / weight.
    Mean,
    /// √(Σ / weight).
    RootMean,
    /// e^(Σ / weight): perplexity, from negative log-likelihoods in nats.
    Exponential,
    /// Σ / weight / ln 2: bits, from nats.
    Bits,
    /// 1 − Σ(y − ŷ)² / Σ(y − ȳ)², the mean over columns. The sums are `[3, columns]`: squared errors, y, y².
    RSquared,
    /// Counts `[classes, classes]`, label by prediction: no number, but the matrix.
    Confusion,
    /// From the same counts: the mean of the classes' F1, 2·TP / (2·TP + FP + FN). Classes that nowhere occur are left out.
    F1Macro,
    /// From the same counts: F1 of all classes' counts together.
    F1Micro,
    /// What the last batch showed: a rate, a norm.
    Last,
}

/// One quantity of a batch.
#[derive(Tree, Clone, Debug)]
pub struct Measure {
    /// As in `accuracy`.
    #[tree(skip)]
    pub name: String,
    /// What becomes of it.
    #[tree(skip)]
    pub rule: Rule,
    /// One or more sums over the batch.
    pub sum: Tensor,
    /// Of how many they are the sums; of shape [].
    pub weight: Tensor,
}

/// All quantities of a batch, the loss first.
#[derive(Tree, Clone, Debug, Default)]
pub struct Measures {
    /// In the order in which they are shown.
    pub list: Vec<Measure>,
    /// Names of the layers that `squares` belong to.
    #[tree(skip)]
    pub layers: Vec<String>,
    /// The squared norm of each layer's gradient.
    pub squares: Vec<Tensor>,
}

impl Measures {
    /// Nothing yet.
    pub fn new() -> Measures {
        Measures::default()
    }

    /// With one more.
    pub fn with(mut self, measure: Measure) -> Measures {
        self.list.push(measure);
        self
    }

    /// With a mean over this many, most often the batch's examples.
    #[track_caller]
    pub fn mean(self, name: &str, mean: &Tensor, count: usize) -> Measures {
        let weight = Tensor::full([], count as f64, DType::F64);
        self.weighted(name, mean, &weight)
    }

    /// With a mean over a number of things that only the batch knows.
    #[track_caller]
    pub fn weighted(self, name: &str, mean: &Tensor, weight: &Tensor) -> Measures {
        // In f64, so that a batch's mean comes back as it was.
        let weight = weight.cast(DType::F64);
        self.with(Measure { name: name.into(), rule: Rule::Mean, sum: mean.cast(DType::F64) * &weight, weight })
    }

    /// With a number that is not a mean: a rate, a norm.
    #[track_caller]
    pub fn last(self, name: &str, value: &Tensor) -> Measures {
        self.with(Measure {
            name: name.into(),
            rule: Rule::Last,
            sum: value.clone(),
            weight: Tensor::ones([], DType::F64),
        })
    }

    /// With the norm of a gradient, as `gradient_norm`, and that of each layer. The layer of a parameter is its path
    /// without the last name.
    #[track_caller]
    pub fn gradient<T: Tree>(mut self, gradient: &T) -> Measures {
        let parameters = tree::named_leaves(gradient).into_iter().filter(|leaf| leaf.1 == Role::Parameter);
        for (path, _, leaf) in parameters {
            let layer = path.rsplit_once('.').map_or(path.as_str(), |(layer, _)| layer);
            let wide = if leaf.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            let square = leaf.cast(wide).square().sum(..).cast(DType::F64);
            match self.layers.iter().position(|name| name == layer) {
                Some(at) => self.squares[at] = &self.squares[at] + square,
                None => {
                    self.layers.push(layer.into());
                    self.squares.push(square);
                }
            }
        }
        let all = self.squares.iter().cloned().reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros([], DType::F64));
        self.last(GRADIENT_NORM, &all.sqrt())
    }

    /// The numbers on the host.
    pub fn totals(&self) -> Totals {
        let total = |measure: &Measure| {
            let Measure { name, rule, sum, weight } = measure;
            Total { name: name.clone(), rule: *rule, sum: host(sum), weight: host(weight)[0] }
        };
        Totals(self.list.iter().map(total).collect())
    }

    /// The norm of each layer's gradient.
    pub fn layer_norms(&self) -> Numbers {
        let norms = self.squares.iter().map(|square| host(square)[0].sqrt());
        Numbers(self.layers.iter().cloned().zip(norms).collect())
    }
}

/// The name of the norm of the whole gradient.
pub(crate) const GRADIENT_NORM: &str = "gradient_norm";

/// A tensor's numbers as f64.
fn host(tensor: &Tensor) -> Vec<f64> {
    fn wide<T: Element + Into<f64>>(tensor: &Tensor) -> Vec<f64> {
        tensor.to_vec::<T>().into_iter().map(Into::into).collect()
    }
    match tensor.dtype() {
        DType::F64 => tensor.to_vec::<f64>(),
        DType::F32 => wide::<f32>(tensor),
        _ => tensor.cast(DType::F64).to_vec::<f64>(),
    }
}

/// A [`Measure`] on the host, added over batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Total {
    /// As in `accuracy`.
    pub name: String,
    /// What becomes of it.
    pub rule: Rule,
    /// The sums.
    pub sum: Vec<f64>,
    /// Of how many they are.
    pub weight: f64,
}

/// [`Measures`] on the host, added over batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals(pub Vec<Total>);

impl Totals {
    /// Adds those of another batch. What [`Rule::Last`] says is replaced.
    ///
    /// # Panics
    /// If it measures something else than the batches before.
    #[track_caller]
    pub fn add(&mut self, batch: Totals) {
        if self.is_empty() {
            *self = batch;
            return;
        }
        assert_eq!(self.0.len(), batch.0.len(), "measures: this batch has another number of them than those before");
        for (total, new) in self.0.iter_mut().zip(batch.0) {
            let same = total.name == new.name && total.sum.len() == new.sum.len();
            assert!(same, "measures: {} where the batches before had {}", new.name, total.name);
            if total.rule == Rule::Last {
                *total = new;
            } else {
                total.weight += new.weight;
                total.sum.iter_mut().zip(new.sum).for_each(|(total, new)| *total += new);
            }
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Total> {
        self.0.iter().find(|total| total.name == name)
    }

    /// What all of them come to. A ratio of nothing is NaN; matrices are left out.
    pub fn numbers(&self) -> Numbers {
        Numbers(self.0.iter().filter_map(|total| Some((total.name.clone(), total.number()?))).collect())
    }

    /// [`Totals::numbers`] without those that only the last batch showed.
    pub fn figures(&self) -> Numbers {
        let added = self.0.iter().filter(|total| total.rule != Rule::Last);
        Numbers(added.filter_map(|total| Some((total.name.clone(), total.number()?))).collect())
    }

    /// The first sum that is not a finite number any more, and what it is.
    pub fn not_finite(&self) -> Option<(&str, f64)> {
        let wrong = |total: &Total| total.sum.iter().copied().find(|sum| !sum.is_finite());
        self.0.iter().find_map(|total| Some((total.name.as_str(), wrong(total)?)))
    }

    /// The confusion matrix, if one was counted.
    pub fn confusion(&self) -> Option<ConfusionMatrix> {
        let total = self.0.iter().find(|total| total.rule == Rule::Confusion)?;
        ConfusionMatrix::from_counts(total.sum.iter().map(|&count| count as u64).collect())
    }
}

impl Total {
    fn number(&self) -> Option<f64> {
        let mean = || self.sum.first().map_or(f64::NAN, |sum| sum / self.weight);
        Some(match self.rule {
            Rule::Mean => mean(),
            Rule::RootMean => mean().sqrt(),
            Rule::Exponential => mean().exp(),
            Rule::Bits => mean() / std::f64::consts::LN_2,
            Rule::Last => *self.sum.first()?,
            Rule::RSquared => self.r_squared(),
            Rule::F1Macro | Rule::F1Micro => self.f1(),
            Rule::Confusion => return None,
        })
    }

    fn r_squared(&self) -> f64 {
        let columns = self.sum.len() / 3;
        let of_column = |column: usize| {
            let [errors, sum, squares] = [0, 1, 2].map(|row| self.sum[row * columns + column]);
            // The weight counts rows, the same in each column.
            1.0 - errors / (squares - sum * sum / self.weight)
        };
        (0..columns).map(of_column).sum::<f64>() / columns as f64
    }

    fn f1(&self) -> f64 {
        let classes = self.sum.len().isqrt();
        let at = |label: usize, prediction: usize| self.sum[label * classes + prediction];
        let counts = (0..classes).map(|class| {
            let labelled: f64 = (0..classes).map(|other| at(class, other)).sum();
            let predicted: f64 = (0..classes).map(|other| at(other, class)).sum();
            (2.0 * at(class, class), labelled + predicted)
        });
        if self.rule == Rule::F1Micro {
            let (right, all) = counts.fold((0.0, 0.0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
            return right / all;
        }
        let known: Vec<f64> = counts.filter(|class| class.1 > 0.0).map(|(right, all)| right / all).collect();
        known.iter().sum::<f64>() / known.len() as f64
    }
}

/// Named numbers in their order, the loss first; in JSON an object, with null for what is not finite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers(pub Vec<(String, f64)>);

impl Numbers {
    /// One of them.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|number| number.0 == name).map(|number| number.1)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Adds some behind those there are.
    pub fn extend<'a>(&mut self, numbers: impl IntoIterator<Item = (&'a str, f64)>) {
        self.0.extend(numbers.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, &value.is_finite().then_some(value))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Numbers, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Numbers;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("numbers by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Numbers, A::Error> {
                let mut numbers = Numbers::default();
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    numbers.0.push((name, value.unwrap_or(f64::NAN)));
                }
                Ok(numbers)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
