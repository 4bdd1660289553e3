//! Losses of classes and distributions: the entropies.

use super::Reduction;
use chainrule::tensor::{DType, Tensor};

/// −ln softmax(z)\[y\], with options: logits z `[.., classes]`.
///
/// The target is classes y `[..]` as integers, or probabilities of the logits' shape. With label smoothing ε the target
/// is (1 − ε)·t + ε/classes (C. Szegedy et al., "Rethinking the Inception architecture", 2016). Class weights count
/// each class's part, and the mean over classes y is weighted by them. Rows whose class is the ignored one count
/// nothing. A logit of −∞ is a class that cannot be.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let loss = CrossEntropy::default().ignore_index(-1).label_smoothing(0.1);
/// let z = Tensor::from([[2.0, 0.0], [7.0, 7.0]]);
/// let value = loss.forward(&z, &Tensor::from([0i64, -1]));
/// let row = (1.0 + (-2f64).exp()).ln() + 0.1;
/// assert!((value.item::<f64>() - row).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, Default)]
pub struct CrossEntropy {
    /// ε.
    pub label_smoothing: f64,
    /// The class of rows that count nothing.
    pub ignore_index: Option<i64>,
    /// A weight `[classes]` for each class.
    pub weights: Option<Tensor>,
    /// What becomes of the rows.
    pub reduction: Reduction,
}

impl CrossEntropy {
    /// With label smoothing ε.
    pub fn label_smoothing(self, label_smoothing: f64) -> CrossEntropy {
        CrossEntropy { label_smoothing, ..self }
    }

    /// With a class whose rows count nothing.
    pub fn ignore_index(self, class: i64) -> CrossEntropy {
        CrossEntropy { ignore_index: Some(class), ..self }
    }

    /// With a weight for each class.
    pub fn weights(self, weights: Tensor) -> CrossEntropy {
        CrossEntropy { weights: Some(weights), ..self }
    }

    /// The loss of logits.
    ///
    /// # Panics
    /// If the target's shape is neither the logits' (probabilities) nor theirs without the last axis (classes).
    #[track_caller]
    pub fn forward(&self, logits: &Tensor, target: &Tensor) -> Tensor {
        let log = logits.log_softmax(-1);
        if target.dtype().is_float() {
            return self.of_probabilities(&log, target);
        }
        let rows = Rows::new("cross_entropy", &log, target, self.ignore_index, self.weights.as_ref());
        let mut losses = rows.losses(&log);
        if self.label_smoothing != 0.0 {
            let classes = log.size(-1) as f64;
            let all = match &self.weights {
                Some(weights) => (&log * weights.cast(log.dtype())).sum(-1),
                None => log.sum(-1),
            };
            let even = rows.kept.select(&(all * (-self.label_smoothing / classes)), 0.0);
            losses = losses * (1.0 - self.label_smoothing) + even;
        }
        self.reduction.apply_weighted(&losses, &rows.weights)
    }

    #[track_caller]
    fn of_probabilities(&self, log: &Tensor, target: &Tensor) -> Tensor {
        let smoothed = target * (1.0 - self.label_smoothing) + self.label_smoothing / log.size(-1).max(1) as f64;
        // 0·ln 0 is 0: a class that cannot be and is not meant.
        let absent = smoothed.equal(0.0);
        let mut parts = smoothed * absent.select(&log.zeros_like(), log);
        if let Some(weights) = &self.weights {
            parts = parts * weights.cast(log.dtype());
        }
        self.reduction.apply(&-parts.sum(-1))
    }
}

/// −x\[y\] for log-probabilities x `[.., classes]` and classes y `[..]`, with class weights and an ignored class as in
/// [`CrossEntropy`].
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::NegativeLogLikelihood;
/// let log = Tensor::from([[0.5, 0.5], [0.25, 0.75]]).log();
/// let loss = NegativeLogLikelihood::default().ignore_index(-1).forward(&log, &Tensor::from([0i64, -1]));
/// assert!((loss.item::<f64>() - 2f64.ln()).abs() < 1e-15);
/// ```
#[derive(Clone, Debug, Default)]
pub struct NegativeLogLikelihood {
    /// The class of rows that count nothing.
    pub ignore_index: Option<i64>,
    /// A weight `[classes]` for each class.
    pub weights: Option<Tensor>,
    /// What becomes of the rows.
    pub reduction: Reduction,
}

impl NegativeLogLikelihood {
    /// With a class whose rows count nothing.
    pub fn ignore_index(self, class: i64) -> NegativeLogLikelihood {
        NegativeLogLikelihood { ignore_index: Some(class), ..self }
    }

    /// With a weight for each class.
    pub fn weights(self, weights: Tensor) -> NegativeLogLikelihood {
        NegativeLogLikelihood { weights: Some(weights), ..self }
    }

    /// The loss of log-probabilities.
    ///
    /// # Panics
    /// If the classes' shape is not that of the log-probabilities without the last axis.
    #[track_caller]
    pub fn forward(&self, log: &Tensor, classes: &Tensor) -> Tensor {
        let rows = Rows::new("negative_log_likelihood", log, classes, self.ignore_index, self.weights.as_ref());
        self.reduction.apply_weighted(&rows.losses(log), &rows.weights)
    }
}

/// Classes that are there, with what each row counts.
struct Rows {
    classes: Tensor,
    kept: Tensor,
    weights: Tensor,
}

impl Rows {
    #[track_caller]
    fn new(name: &str, log: &Tensor, classes: &Tensor, ignore: Option<i64>, weights: Option<&Tensor>) -> Rows {
        let rows = &log.shape()[..log.rank().max(1) - 1];
        assert!(
            rows == classes.shape(),
            "{name}: logits {} and classes {}; these must have the logits' shape without the last axis",
            log.ty(),
            classes.ty()
        );
        let kept = match ignore {
            Some(class) => classes.not_equal(class),
            None => Tensor::full(classes.shape(), 1.0, DType::Bool),
        };
        let classes = kept.select(classes, 0i64);
        let ones = Tensor::ones(classes.shape(), log.dtype());
        let weights = match weights {
            Some(weights) => weights.cast(log.dtype()).gather(&classes, 0),
            None => ones,
        };
        Rows { weights: kept.select(&weights, 0.0), classes, kept }
    }

    #[track_caller]
    fn losses(&self, log: &Tensor) -> Tensor {
        let picked = log.pick(&self.classes);
        -self.kept.select(&picked, 0.0) * &self.weights
    }
}

/// −p·t·ln σ(z) − (1 − t)·ln σ(−z) for logits z and targets t of their shape, from 0 to 1; p weighs what is positive.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::prelude::*;
/// let loss = BinaryCrossEntropy::default().positive_weight(Tensor::from(3.0));
/// let value = loss.forward(&Tensor::from([0.0]), &Tensor::from([1.0]));
/// assert!((value.item::<f64>() - 3.0 * 2f64.ln()).abs() < 1e-15);
/// ```
#[derive(Clone, Debug, Default)]
pub struct BinaryCrossEntropy {
    /// p; it broadcasts.
    pub positive_weight: Option<Tensor>,
    /// A weight for each element; it broadcasts. The mean is not weighted by it.
    pub weights: Option<Tensor>,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl BinaryCrossEntropy {
    /// With a weight of positive targets.
    pub fn positive_weight(self, weight: Tensor) -> BinaryCrossEntropy {
        BinaryCrossEntropy { positive_weight: Some(weight), ..self }
    }

    /// With a weight of each element.
    pub fn weights(self, weights: Tensor) -> BinaryCrossEntropy {
        BinaryCrossEntropy { weights: Some(weights), ..self }
    }

    /// The loss of logits.
    ///
    /// # Panics
    /// If the shapes differ.
    #[track_caller]
    pub fn forward(&self, logits: &Tensor, targets: &Tensor) -> Tensor {
        assert!(
            logits.shape() == targets.shape(),
            "binary_cross_entropy: logits {} and targets {} differ in shape",
            logits.ty(),
            targets.ty()
        );
        let targets = targets.cast(logits.dtype());
        let right = (-logits).softplus();
        let right = match &self.positive_weight {
            Some(weight) => right * ((weight.cast(logits.dtype()) - 1.0) * &targets + 1.0),
            None => right,
        };
        let losses = (1.0 - targets) * logits + right;
        self.reduction.apply(&match &self.weights {
            Some(weights) => losses * weights.cast(logits.dtype()),
            None => losses,
        })
    }
}

/// t·(ln t − x) for log-probabilities x and probabilities t of their shape (0 where t is 0), or eᵗ·(t − x) for
/// log-probabilities t. The divergence of distributions is the [`Reduction::BatchMean`], the default here; PyTorch's
/// default is [`Reduction::Mean`], over elements.
///
/// S. Kullback and R. Leibler, "On information and sufficiency", 1951.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::KlDivergence;
/// let loss = KlDivergence::default().forward(&Tensor::from([[0.5, 0.5]]).log(), &Tensor::from([[1.0, 0.0]]));
/// assert!((loss.item::<f64>() - 2f64.ln()).abs() < 1e-15);
/// ```
#[derive(Clone, Debug)]
pub struct KlDivergence {
    /// Whether the target is log-probabilities.
    pub log_target: bool,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl Default for KlDivergence {
    fn default() -> KlDivergence {
        KlDivergence { log_target: false, reduction: Reduction::BatchMean }
    }
}

impl KlDivergence {
    /// For targets that are log-probabilities.
    pub fn log_target(self) -> KlDivergence {
        KlDivergence { log_target: true, ..self }
    }

    /// The loss of log-probabilities, `log_softmax` of logits.
    #[track_caller]
    pub fn forward(&self, log: &Tensor, target: &Tensor) -> Tensor {
        let losses = if self.log_target {
            let absent = target.equal(f64::NEG_INFINITY);
            absent.select(&log.zeros_like(), target.exp() * (absent.select(&target.zeros_like(), target) - log))
        } else {
            let present = target.greater(0.0);
            let safe = present.select(target, 1.0);
            present.select(&(target * (safe.log() - present.select(log, 0.0))), 0.0)
        };
        self.reduction.apply(&losses)
    }
}
