//! Shows a training on the terminal while it runs: a bar, and some lines of evaluations that stay. All on stderr, so
//! that results on stdout can be piped; without a terminal only the lines, and one now and then in a long epoch.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::task::{FREE_RUNNING, Metric, Numbers};
use crate::trainer::{Event, Length};

/// Evaluations whose lines stay, about so many of a quick training.
const LINES: u64 = 10;
/// Of a slow one, all that come at least so long after the line before.
const SLOW: Duration = Duration::from_secs(5);
/// Without a terminal, steps are shown after so long without a line.
const SILENT: Duration = Duration::from_secs(15);
/// Numbers beside the loss that the bar has room for.
const BAR_NUMBERS: usize = 2;

const BAR: &str = "  {bar:24.cyan/blue} step {pos} of {len}  {msg}  {pace}  {eta} left";

/// The bar of one training.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    length: Length,
    evaluations: u64,
    seen: u64,
    held_out: String,
    quiet: bool,
    last: Instant,
}

impl Progress {
    /// Of so many steps and evaluations, of data by this name; a quiet one shows nothing.
    pub fn new(length: Length, steps: u64, evaluations: u64, held_out: &str, quiet: bool) -> Progress {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(12) };
        let pace = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{} steps/s", short(state.per_sec()));
        };
        let style = ProgressStyle::with_template(BAR).map(|style| style.with_key("pace", pace).progress_chars("━╸─"));
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let held_out = held_out.into();
        Progress { bar, length, evaluations, seen: 0, held_out, quiet, last: Instant::now() }
    }

    /// Begins after so many steps and evaluations, which do not count for the pace.
    pub fn begin_at(&mut self, steps: u64, evaluations: u64) {
        self.bar.set_position(steps);
        self.bar.reset_eta();
        self.seen = evaluations;
    }

    /// Shows what happened.
    pub fn take<S>(&mut self, event: &Event<'_, S>) {
        match event {
            Event::Step { record, .. } => {
                self.bar.set_position(record.step);
                if !self.bar.is_hidden() {
                    self.bar.set_message(summary(&record.numbers));
                } else if self.last.elapsed() > SILENT {
                    let steps = self.bar.length().unwrap_or_default();
                    self.line(&format!("  step {} of {steps}   {}", record.step, summary(&record.numbers)));
                }
            }
            Event::Evaluation { record, .. } => {
                self.seen += 1;
                if shown(self.seen, self.evaluations) || self.last.elapsed() > SLOW {
                    let mut line =
                        format!("  {}   train: {}", self.place(record.step, record.epoch), list(&record.train));
                    if !record.validation.is_empty() {
                        line += &format!("   {}: {}", self.held_out, list(&record.validation));
                    }
                    self.line(&line);
                }
            }
            Event::Next { .. } | Event::Whole { .. } => {}
        }
    }

    fn place(&self, step: u64, epoch: u64) -> String {
        let (what, at, of) = match self.length {
            Length::Epochs(epochs) => ("epoch", epoch, epochs),
            Length::Steps(steps) => ("step", step, steps),
        };
        let width = of.to_string().len();
        format!("{what} {at:>width$} of {of}")
    }

    /// A line above the bar.
    pub fn line(&mut self, text: &str) {
        self.last = Instant::now();
        match (self.quiet, self.bar.is_hidden()) {
            (true, _) => {}
            (false, false) => self.bar.println(text),
            // A closed stderr must not end a training.
            (false, true) => drop(std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes())),
        }
    }

    /// Takes the bar away; the lines stay.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `loss 0.1234, accuracy  97.1 %`.
pub fn list(numbers: &Numbers) -> String {
    numbers.iter().map(|(name, value)| show(name, value)).collect::<Vec<_>>().join(", ")
}

/// The loss, what is measured beside it, and the rate.
fn summary(numbers: &Numbers) -> String {
    let (rates, others): (Vec<_>, Vec<_>) = numbers.iter().partition(|number| number.0 == "rate");
    let others = others.into_iter().filter(|number| number.0 != crate::task::GRADIENT_NORM);
    let some = others.take(1 + BAR_NUMBERS).map(|(name, value)| show(name, value));
    some.chain(rates.iter().map(|(name, value)| format!("{name} {}", short(*value)))).collect::<Vec<_>>().join("  ")
}

fn show(name: &str, value: f64) -> String {
    match name == FREE_RUNNING || name.parse::<Metric>().is_ok_and(Metric::is_share) {
        true => format!("{name} {:>5.1} %", 100.0 * value),
        false => format!("{name} {value:.4}"),
    }
}

/// Three digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        size => format!("{value:.*}", (2 - size.log10().floor() as i32).max(0) as usize),
    }
}

/// The first evaluation, the last, and every so many between them.
fn shown(evaluation: u64, evaluations: u64) -> bool {
    let every = evaluations.div_ceil(LINES).max(1);
    evaluation == 1 || evaluation == evaluations || evaluation.is_multiple_of(every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_ten_lines_stay() {
        let lines = |of: u64| (1..=of).filter(|&evaluation| shown(evaluation, of)).collect::<Vec<_>>();
        assert_eq!(lines(3), [1, 2, 3]);
        assert_eq!(lines(30), [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]);
        assert!(lines(1009).len() <= 12);
    }

    #[test]
    fn numbers_are_shown_as_what_they_are() {
        let numbers =
            [("loss", 0.5), ("accuracy", 0.97123), ("perplexity", 12.5), ("rate", 3e-4), ("gradient_norm", 2.0)];
        let numbers = Numbers(numbers.map(|(name, value)| (name.to_string(), value)).to_vec());
        assert_eq!(summary(&numbers), "loss 0.5000  accuracy  97.1 %  perplexity 12.5000  rate 3.00e-4");
        assert_eq!([0.0, 0.00123, 1.0, 6287.4, 1e7].map(short), ["0", "0.00123", "1.00", "6287", "1.00e7"]);
    }
}
