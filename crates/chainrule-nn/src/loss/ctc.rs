//! Connectionist temporal classification: the likelihood of a label sequence over all its alignments with a longer one.

use super::Reduction;
use chainrule::tensor::{DType, Tensor, concat, scan, stack};

/// Stands for ln 0: large enough to be nothing in any sum, and finite, so that no gradient is 0·∞.
const NOTHING: f64 = -1e30;

/// −ln P(y | z), the sum over all ways to repeat labels and put blanks between that give y.
///
/// A. Graves et al., "Connectionist temporal classification", 2006. The sum runs forward over time in logarithms, as a
/// scan: α(s) ← ln softmax(z)[l(s)] + ln(e^α(s) + e^α(s−1) + e^α(s−2)), the last only where l(s) is neither blank nor
/// l(s−2), with l = blank y₁ blank y₂ … blank.
///
/// The [mean](Reduction::Mean) is over the batch, of each loss over its target's length, as in PyTorch.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::loss::Ctc;
/// // Two steps, classes blank and 1: "1" is 1 1, 1 blank or blank 1, three of four ways.
/// let logits = Tensor::zeros([2, 1, 2], DType::F64);
/// let lengths = (Tensor::from([2i64]), Tensor::from([1i64]));
/// let loss = Ctc::default().forward(&logits, &Tensor::from([[1i64]]), &lengths.0, &lengths.1);
/// assert!((loss.item::<f64>() + 0.75f64.ln()).abs() < 1e-12);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ctc {
    /// The class that is no label, 0 by default.
    pub blank: i64,
    /// Whether a target that is too long for its input counts 0 in place of ∞. Its gradient is 0 in any case.
    pub zero_infinity: bool,
    /// What becomes of the sequences.
    pub reduction: Reduction,
}

impl Ctc {
    /// With another class for the blank.
    pub fn blank(self, blank: i64) -> Ctc {
        Ctc { blank, ..self }
    }

    /// With 0 in place of an infinite loss.
    pub fn zero_infinity(self) -> Ctc {
        Ctc { zero_infinity: true, ..self }
    }

    /// The loss of logits `[time, batch, classes]` (or log-probabilities) for targets `[batch, labels]` as integers,
    /// of which the first `target_lengths [batch]` count, in the first `input_lengths [batch]` steps.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn forward(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        input_lengths: &Tensor,
        target_lengths: &Tensor,
    ) -> Tensor {
        let (&[time, batch, _], &[rows, labels]) = (logits.shape(), targets.shape()) else {
            panic!(
                "ctc: logits {} and targets {}; they are [time, batch, classes] and [batch, labels]",
                logits.ty(),
                targets.ty()
            );
        };
        assert!(rows == batch, "ctc: logits {} and targets {} differ in batch", logits.ty(), targets.ty());
        let (input_lengths, target_lengths) = (input_lengths.cast(DType::I64), target_lengths.cast(DType::I64));
        let wide = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        // What lies after a target's end may be anything: it is a blank here.
        let inside = Tensor::iota([batch, labels], 1, DType::I64).less(target_lengths.unsqueeze(-1));
        let targets = inside.select(&targets.cast(DType::I64), self.blank);
        let path = concat(
            &[
                stack(&[targets.full_like(self.blank as f64), targets], -1).reshape([batch, 2 * labels]),
                Tensor::full([batch, 1], self.blank as f64, DType::I64),
            ],
            1,
        );
        let places = 2 * labels + 1;
        let place = Tensor::iota([batch, places], 1, DType::I64);
        let log = logits.cast(wide).log_softmax(-1).maximum(NOTHING);
        let steps = log.take_along_axis(&path.broadcast_to([time, batch, places]), 2);
        let skip = path.not_equal(self.blank).and(path.not_equal(shifted(&path, 2, self.blank as f64)));

        // Before the first step all is at place −1, so that its first sum begins at the places 0 and 1.
        let nothing = Tensor::full([batch, places], NOTHING, wide);
        let advance = |alpha: &Tensor, step: &Tensor| {
            let two = skip.select(&shifted(alpha, 2, NOTHING), NOTHING);
            stack(&[alpha.clone(), shifted(alpha, 1, NOTHING), two], -1).logsumexp(-1) + step
        };
        let first = place.less(2i64).select(&steps.narrow(0, 0, time.min(1)).sum(0), NOTHING);
        let first = if time == 0 { nothing.clone() } else { first };
        let rest =
            (steps.narrow(0, time.min(1), time.saturating_sub(1)), Tensor::arange(time.saturating_sub(1), DType::I64));
        let body = |alpha: &Tensor, (step, t): &(Tensor, Tensor)| {
            let runs = (t + 1i64).less(&input_lengths).unsqueeze(-1).broadcast_to([batch, places]);
            (runs.select(&advance(alpha, step), alpha), ())
        };
        let (last, ()) = scan(body, &first, &rest);

        let end = (&target_lengths * 2i64).unsqueeze(-1);
        let ends = place.equal(&end).or(place.equal(&end - 1i64));
        let likelihood = ends.select(&last, &nothing).logsumexp(-1);
        // No steps are the empty sequence for certain.
        let empty = input_lengths.equal(0i64).and(target_lengths.equal(0i64));
        let possible = likelihood.greater(NOTHING * 0.1).and(input_lengths.greater(0i64));
        let impossible = if self.zero_infinity { 0.0 } else { f64::INFINITY };
        let losses = possible.select(&-&likelihood, empty.select(&likelihood.zeros_like(), impossible));
        self.reduction.apply(&match self.reduction {
            Reduction::Mean => losses / target_lengths.maximum(1i64).cast(wide),
            _ => losses,
        })
    }
}

/// Moved along the last axis, with a value before the beginning.
#[track_caller]
fn shifted(x: &Tensor, by: usize, value: f64) -> Tensor {
    let places = x.size(-1);
    let by = by.min(places);
    x.narrow(-1, 0, places - by).pad(&[(0, 0), (by, 0)], value)
}
