//! Which verdicts are new: what stands is said once, not in every look.

use crate::flow::{Diagnosis, Finding};

/// Looks for which something that is gone still counts as known, so that what comes and goes is not said each time.
const REMEMBERED: usize = 3;

/// What was wrong in the looks so far.
///
/// ```
/// use chainrule_lens::flow::{Diagnosis, Finding};
/// use chainrule_lens::watch::Warnings;
/// let dead = |path: &str| Finding {
///     diagnosis: Diagnosis::DeadUnits,
///     paths: vec![path.into()],
///     line: None,
///     evidence: String::new(),
///     change: String::new(),
/// };
/// let mut warnings = Warnings::default();
/// assert_eq!(warnings.new_of(vec![dead("a")]).len(), 1);
/// assert_eq!(warnings.new_of(vec![dead("a")]).len(), 0);
/// assert_eq!(warnings.standing().count(), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Warnings {
    known: Vec<(Diagnosis, usize)>,
}

impl Warnings {
    /// Those of a look's findings that did not stand before.
    pub fn new_of(&mut self, findings: Vec<Finding>) -> Vec<Finding> {
        for known in &mut self.known {
            known.1 += 1;
        }
        let mut new = Vec::new();
        for finding in findings {
            match self.known.iter_mut().find(|known| known.0 == finding.diagnosis) {
                Some(known) => known.1 = 0,
                None => {
                    self.known.push((finding.diagnosis, 0));
                    new.push(finding);
                }
            }
        }
        self.known.retain(|known| known.1 <= REMEMBERED);
        new
    }

    /// What was wrong in the last look.
    pub fn standing(&self) -> impl Iterator<Item = Diagnosis> {
        self.known.iter().filter(|known| known.1 == 0).map(|known| known.0)
    }
}
