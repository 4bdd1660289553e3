//! When to look: at every so many steps, or as often as a share of the training's time allows.

/// How often a training is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Every {
    /// As often as costs about a hundredth of the time, at most some 250 times in all.
    #[default]
    Auto,
    /// After so many steps, whatever it costs.
    Steps(u64),
}

/// The share of the time that looks themselves may take. A step that is looked at also copies its state, and finds other
/// things in the caches; with that it is about a hundredth.
const SHARE: f64 = 0.007;
/// The part of all that looks may take which the first one may, before it is earned: the first steps say most.
const OPENING: f64 = 0.8;
/// Looks in a training.
const MOST: u64 = 250;
/// The first look also compiles its program. That takes so many times what the first step took, which compiled one too.
const FIRST: f64 = 1.5;
/// Steps after the first from which the length of the others is known.
const KNOWN: u64 = 4;

/// Decides at which steps of a training one looks. It is told the time and keeps none itself.
///
/// ```
/// use chainrule_lens::watch::{Every, Pace};
/// let mut pace = Pace::new(Every::Steps(100), 1000);
/// let looks: Vec<u64> = (1..=1000).filter(|&step| pace.wants(step, 0.0)).collect();
/// assert_eq!((looks[0], looks[1], looks.len()), (1, 100, 11));
///
/// // Steps of 10 ms, looks of 30 ms: 20 s in all, of which looks take no more than 0.14 s.
/// let (mut pace, mut seconds, mut looks) = (Pace::new(Every::Auto, 2000), 0.0, 0);
/// for step in 1..=2000 {
///     if pace.wants(step, seconds) {
///         pace.took(0.03);
///         (seconds, looks) = (seconds + 0.03, looks + 1);
///     }
///     seconds += 0.01;
/// }
/// assert!((3..=5).contains(&looks), "{looks}");
/// ```
#[derive(Clone, Debug)]
pub struct Pace {
    every: Every,
    steps: u64,
    /// The first step that was asked about, and seconds when the one after it was.
    first: Option<u64>,
    compiled: f64,
    /// The last step that was looked at.
    last: Option<u64>,
    spent: f64,
    /// What the first look took, which compiled, and the last of the others.
    opening: Option<f64>,
    cost: Option<f64>,
}

impl Pace {
    /// For a training that ends after so many steps, counted from its very beginning.
    pub fn new(every: Every, steps: u64) -> Pace {
        Pace { every, steps, first: None, compiled: 0.0, last: None, spent: 0.0, opening: None, cost: None }
    }

    /// Whether to look at the step that comes, `seconds` after the training was taken up. To be asked before every step.
    pub fn wants(&mut self, step: u64, seconds: f64) -> bool {
        let first = *self.first.get_or_insert(step);
        if step == first + 1 {
            self.compiled = seconds;
        }
        let wanted = match self.every {
            Every::Steps(steps) => step == first || step.is_multiple_of(steps.max(1)),
            Every::Auto => self.affords(step, step - first, seconds),
        };
        if wanted {
            self.last = Some(step);
        }
        wanted
    }

    fn affords(&self, step: u64, taken: u64, seconds: f64) -> bool {
        let gap = (self.steps / MOST).max(1);
        if taken < KNOWN || self.last.is_some_and(|last| step < last + gap) {
            return false;
        }
        let each = (seconds - self.spent - self.compiled).max(0.0) / (taken - 1) as f64;
        let whole = (self.compiled + each * (self.steps.saturating_sub(step) + taken) as f64).max(seconds);
        let all = SHARE * whole;
        match self.opening {
            None => FIRST * self.compiled <= (OPENING * all).max(SHARE * seconds),
            // What it left is spread evenly over the time.
            Some(opening) => {
                let cost = self.cost.unwrap_or(3.0 * each);
                self.spent - opening + cost <= (all - opening) * seconds / whole
            }
        }
    }

    /// A look took so long.
    pub fn took(&mut self, seconds: f64) {
        match self.opening {
            None => self.opening = Some(seconds),
            Some(_) => self.cost = Some(seconds),
        }
        self.spent += seconds;
    }

    /// Steps of the whole training.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Seconds that all looks took.
    pub fn spent(&self) -> f64 {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of steps and of looks in a training whose first step and first look compile.
    fn shares(steps: u64, step: f64, look: f64, compiles: f64) -> (f64, f64, u64) {
        let (mut pace, mut training, mut looks) = (Pace::new(Every::Auto, steps), 0.0, 0);
        for number in 1..=steps {
            if pace.wants(number, training + pace.spent()) {
                pace.took(if looks == 0 { compiles + look } else { look });
                looks += 1;
            }
            training += if number == 1 { compiles + step } else { step };
        }
        (training, pace.spent(), looks)
    }

    #[test]
    fn looks_take_no_more_than_their_share() {
        // steps, seconds of a step, of a look, of compiling; looks at least and at most
        let cases = [
            (1350, 1e-4, 3e-4, 0.05, 0, 0),
            (1230, 8e-3, 12e-3, 0.05, 0, 0),
            (4220, 5e-3, 8e-3, 0.03, 12, 17),
            (100_000, 1e-2, 1e-2, 0.1, 240, 260),
            (100, 1.0, 1.0, 0.5, 0, 0),
            (1000, 1.0, 1.0, 0.5, 5, 8),
            (1, 1.0, 1.0, 0.5, 0, 0),
        ];
        let mut problems = Vec::new();
        for (steps, step, look, compiles, least, most) in cases {
            let (training, spent, looks) = shares(steps, step, look, compiles);
            if spent > 0.0071 * training || !(least..=most).contains(&looks) {
                problems.push(format!("{steps} steps of {step}: {looks} looks take {spent} of {training}"));
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
