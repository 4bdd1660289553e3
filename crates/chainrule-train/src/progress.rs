//! Shows a training on the terminal while it runs: a bar, and about ten lines of epochs that stay. All on stderr, so
//! that results on stdout can be piped; without a terminal only the lines.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::trainer::Event;

/// Lines that stay, at most about so many.
const LINES: usize = 10;

const BAR: &str = "  {bar:24.cyan/blue} step {pos} of {len}  {msg}  {rate}  {eta} left";

/// The bar of one training.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    epochs: usize,
    quiet: bool,
}

impl Progress {
    /// Of so many steps in so many epochs; a quiet one shows nothing.
    pub fn new(steps: u64, epochs: usize, quiet: bool) -> Progress {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(12) };
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.0} steps/s", state.per_sec());
        };
        let style = ProgressStyle::with_template(BAR).map(|style| style.with_key("rate", rate).progress_chars("━╸─"));
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        Progress { bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())), epochs, quiet }
    }

    /// Shows what happened.
    pub fn take<M>(&self, event: &Event<'_, M>) {
        match event {
            Event::Step(step) => {
                self.bar.set_position(step.step);
                if !self.bar.is_hidden() {
                    self.bar.set_message(format!("loss {:.4}  accuracy {:.1} %", step.loss, 100.0 * step.accuracy));
                }
            }
            Event::Epoch(epoch, _) => {
                if shown(epoch.epoch, self.epochs) {
                    let width = self.epochs.to_string().len();
                    self.line(&format!(
                        "  epoch {:>width$} of {}   train: loss {:.4}, accuracy {:>5.1} %   test: loss {:.4}, accuracy {:>5.1} %",
                        epoch.epoch,
                        self.epochs,
                        epoch.train_loss,
                        100.0 * epoch.train_accuracy,
                        epoch.test_loss,
                        100.0 * epoch.test_accuracy
                    ));
                }
            }
        }
    }

    /// A line above the bar.
    pub fn line(&self, text: &str) {
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

/// The first epoch, the last, and every so many between them.
fn shown(epoch: usize, epochs: usize) -> bool {
    epoch == 1 || epoch == epochs || epoch.is_multiple_of(epochs.div_ceil(LINES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_ten_lines_stay() {
        let lines = |epochs: usize| (1..=epochs).filter(|&epoch| shown(epoch, epochs)).collect::<Vec<_>>();
        assert_eq!(lines(3), [1, 2, 3]);
        assert_eq!(lines(30), [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]);
        assert!(lines(1009).len() <= 12);
    }
}
