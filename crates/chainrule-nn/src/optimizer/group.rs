//! Parameter groups: settings for the parameters whose paths match a pattern.

use serde::{Deserialize, Serialize};

/// How the parameters of a group differ from the others.
///
/// ```
/// use chainrule_nn::optimizer::Group;
/// let group = Group::default().rate(0.1).weight_decay(0.0);
/// assert_eq!((group.rate, group.weight_decay, group.frozen), (0.1, Some(0.0), false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Group {
    /// What the learning rate is multiplied by.
    pub rate: f64,
    /// Another weight decay.
    pub weight_decay: Option<f64>,
    /// Whether they stay as they are; no moments are kept for them.
    pub frozen: bool,
}

impl Default for Group {
    fn default() -> Group {
        Group { rate: 1.0, weight_decay: None, frozen: false }
    }
}

impl Group {
    /// With the learning rate multiplied.
    pub fn rate(self, rate: f64) -> Group {
        Group { rate, ..self }
    }

    /// With another weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Group {
        Group { weight_decay: Some(weight_decay), ..self }
    }

    /// That stays as it is.
    pub fn frozen() -> Group {
        Group { frozen: true, ..Group::default() }
    }

    /// Both together: rates multiply, the other's decay counts if it has one.
    pub(super) fn and(self, other: Group) -> Group {
        Group {
            rate: self.rate * other.rate,
            weight_decay: other.weight_decay.or(self.weight_decay),
            frozen: self.frozen || other.frozen,
        }
    }
}

/// Which parameters a group is of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Select {
    /// Those whose path is matched, `*` standing for any text.
    Path(String),
    /// Those with fewer than two axes: biases, and the scales of norms.
    Vectors,
}

impl Select {
    pub(super) fn takes(&self, path: &str, rank: usize) -> bool {
        match self {
            Select::Path(pattern) => matches(pattern, path),
            Select::Vectors => rank < 2,
        }
    }
}

/// Whether a pattern in which `*` stands for any text, also none, is the whole of a text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(found) => rest = &rest[found + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, want) in [
            ("", "", true),
            ("*", "", true),
            ("*", "a.b", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*bias", "layers.0.bias", true),
            ("*bias", "layers.0.bias.x", false),
            ("layers.*", "layers.0.bias", true),
            ("*norm*", "blocks.1.norm2.weight", true),
            ("*norm*", "blocks.1.attention.weight", false),
            ("a*b*a", "aba", true),
            ("a*b*a", "ab", false),
            ("a*a", "a", false),
            ("*.0.*.weight", "a.0.b.weight", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} on {text}");
        }
    }
}
