//! Rules from the paths of a tree to the names of a state dict: patterns with captures, and how the tensors lie.
//!
//! Rules are only ever read from ours to theirs, since a tree is always at hand: reading a file asks each leaf for its
//! name there, writing one does the same. Nothing here touches a tensor's numbers.

use std::collections::{BTreeMap, BTreeSet};

/// A name with gaps: `*` stands for one word without a point, `**.` for any number of words with the points after
/// them (none too), a last `**` for any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Word,
    Folders,
    Rest,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Pattern {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            let gap = [("**.", Piece::Folders), ("**", Piece::Rest), ("*", Piece::Word)];
            let (piece, length) = match gap.into_iter().find(|(mark, _)| rest.starts_with(mark)) {
                Some((mark, piece)) => (piece, mark.len()),
                None => {
                    let end = rest.find('*').unwrap_or(rest.len());
                    (Piece::Literal(rest[..end].into()), end)
                }
            };
            pieces.push(piece);
            rest = &rest[length..];
        }
        Pattern { pieces }
    }

    /// What stands in the gaps, if the whole text fits.
    pub fn captures<'a>(&self, text: &'a str) -> Option<Vec<&'a str>> {
        let mut captures = Vec::new();
        fit(&self.pieces, text, &mut captures).then_some(captures)
    }

    /// The name with its gaps filled.
    pub fn fill(&self, captures: &[&str]) -> String {
        let mut captures = captures.iter();
        let part = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            _ => captures.next().copied().unwrap_or_default().to_string(),
        };
        self.pieces.iter().map(part).collect()
    }

    fn gaps(&self) -> Vec<&Piece> {
        self.pieces.iter().filter(|piece| !matches!(piece, Piece::Literal(_))).collect()
    }
}

fn fit<'a>(pieces: &[Piece], text: &'a str, captures: &mut Vec<&'a str>) -> bool {
    let Some((piece, pieces)) = pieces.split_first() else { return text.is_empty() };
    if let Piece::Literal(literal) = piece {
        return text.strip_prefix(literal.as_str()).is_some_and(|rest| fit(pieces, rest, captures));
    }
    let ends = text.char_indices().map(|(i, c)| i + c.len_utf8());
    let word = text.find('.').unwrap_or(text.len());
    let ends: Vec<usize> = match piece {
        Piece::Folders => std::iter::once(0).chain(text.match_indices('.').map(|(i, _)| i + 1)).collect(),
        Piece::Word => ends.take_while(|&end| end <= word).collect(),
        _ => ends.collect(),
    };
    // The longest first, as people expect of gaps.
    ends.into_iter().rev().any(|end| {
        let before = captures.len();
        captures.push(&text[..end]);
        let fits = fit(pieces, &text[end..], captures);
        if !fits {
            captures.truncate(before);
        }
        fits
    })
}

/// One row of the table: which leaves of the tree are which tensor of the file.
#[derive(Clone, Debug)]
pub struct Rule {
    ours: Vec<Pattern>,
    theirs: Pattern,
    axis: usize,
    transposed: bool,
    beside: Option<Pattern>,
}

impl Rule {
    /// One leaf is one tensor.
    ///
    /// # Panics
    /// If the two patterns have other gaps.
    #[track_caller]
    pub fn same(ours: &str, theirs: &str) -> Rule {
        Rule::joined([ours], 0, theirs)
    }

    /// Several leaves, one after the other along an axis, are one tensor. The rule holds where all of them are in the
    /// tree and agree in the other axes.
    ///
    /// # Panics
    /// If the patterns have other gaps.
    #[track_caller]
    pub fn joined<const N: usize>(ours: [&str; N], axis: usize, theirs: &str) -> Rule {
        let pattern = Pattern::new(theirs);
        for name in ours {
            let gaps = Pattern::new(name);
            assert!(gaps.gaps() == pattern.gaps(), "rule: {name} and {theirs} differ in their gaps");
        }
        Rule { ours: ours.map(Pattern::new).into(), theirs: pattern, axis, transposed: false, beside: None }
    }

    /// The tensor of the file is the transpose of the (joined) leaves, as in GPT-2's Conv1D.
    pub fn transposed(self) -> Rule {
        Rule { transposed: true, ..self }
    }

    /// Only where the tree also has this leaf: `output.weight` is attention's beside `query.weight`.
    pub fn beside(self, leaf: &str) -> Rule {
        Rule { beside: Some(Pattern::new(leaf)), ..self }
    }
}

/// A table of rules; the first that fits a leaf holds, and without one a leaf's path is its name.
///
/// ```
/// use chainrule::prelude::*;
/// use chainrule_nn::interchange::{Rule, Rules, to_pytorch};
/// use chainrule_nn::prelude::*;
/// let rules = Rules::new([Rule::same("layers.1.*", "net.2.*"), Rule::same("layers.*.*", "net.*.*")]);
/// let names = to_pytorch(&Mlp::new(&Key::new(1), &[2, 3, 1]), &rules).unwrap();
/// assert_eq!(names.keys().collect::<Vec<_>>(), ["net.0.bias", "net.0.weight", "net.2.bias", "net.2.weight"]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rules {
    parts: Vec<(Pattern, Pattern, Pattern)>,
    renames: Vec<(Pattern, Pattern)>,
    rules: Vec<Rule>,
    spellings: Vec<(Pattern, Pattern)>,
    optional: Vec<Pattern>,
    ignored: Vec<Pattern>,
}

impl Rules {
    /// A table.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Rules {
        Rules { rules: rules.into_iter().collect(), ..Rules::default() }
    }

    /// Another rule, after all others.
    pub fn with(mut self, rule: Rule) -> Rules {
        self.rules.push(rule);
        self
    }

    /// What lies in a part of a layer has another name in the layer's own state dict, where the tree has that leaf
    /// beside it. Asked before all others.
    pub(super) fn part(mut self, ours: &str, theirs: &str, beside: &str) -> Rules {
        let (from, to) = pair(ours, theirs);
        self.parts.push((from, to, Pattern::new(beside)));
        self
    }

    /// Calls what lies in a part of the tree by another name before the rules are asked: a field `attention` that is
    /// `attn` there, places in an `nn.Sequential`. The first that fits holds.
    ///
    /// # Panics
    /// If the two patterns have other gaps.
    #[track_caller]
    pub fn rename(mut self, ours: &str, theirs: &str) -> Rules {
        self.renames.push(pair(ours, theirs));
        self
    }

    /// Another spelling that files may have for a name: `gamma` for `weight` in old ones.
    ///
    /// # Panics
    /// If the two patterns have other gaps.
    #[track_caller]
    pub fn spelled(mut self, old: &str, name: &str) -> Rules {
        self.spellings.push(pair(old, name));
        self
    }

    /// Tensors that a file need not have; the template's stay then.
    pub fn optional(mut self, theirs: &str) -> Rules {
        self.optional.push(Pattern::new(theirs));
        self
    }

    /// Tensors that a file may have beside those of the tree: masks kept as buffers, a second name of tied weights.
    pub fn ignoring(mut self, theirs: &str) -> Rules {
        self.ignored.push(Pattern::new(theirs));
        self
    }

    pub(super) fn is_optional(&self, name: &str) -> bool {
        self.optional.iter().any(|pattern| pattern.captures(name).is_some())
    }

    pub(super) fn is_ignored(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| pattern.captures(name).is_some())
    }

    /// The name that the rules know for a name in a file.
    pub(super) fn spelling(&self, name: &str) -> String {
        first(&self.spellings, name).unwrap_or_else(|| name.into())
    }

    /// Which leaves make which tensor. Leaves are given by path and shape.
    pub(super) fn places(&self, leaves: &[(String, &[usize])]) -> Vec<Place> {
        let paths: BTreeSet<&str> = leaves.iter().map(|leaf| leaf.0.as_str()).collect();
        let in_layer = |path: &str| {
            self.parts.iter().find_map(|(from, to, beside)| {
                let captures = from.captures(path)?;
                paths.contains(beside.fill(&captures).as_str()).then(|| to.fill(&captures))
            })
        };
        let renamed = leaves.iter().map(|(path, _)| {
            let path = in_layer(path).unwrap_or_else(|| path.clone());
            first(&self.renames, &path).unwrap_or(path)
        });
        let renamed: Vec<String> = renamed.collect();
        let tree = Tree {
            index: renamed.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect(),
            shapes: leaves.iter().map(|leaf| leaf.1).collect(),
        };
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        let mut places = Vec::new();
        for (i, name) in renamed.iter().enumerate() {
            if taken.contains(&i) {
                continue;
            }
            let found = self.rules.iter().find_map(|rule| rule.place(name, &tree));
            let place =
                found.unwrap_or_else(|| Place { theirs: name.clone(), parts: vec![i], axis: 0, transposed: false });
            taken.extend(&place.parts);
            places.push(place);
        }
        places
    }
}

#[track_caller]
fn pair(ours: &str, theirs: &str) -> (Pattern, Pattern) {
    let (from, to) = (Pattern::new(ours), Pattern::new(theirs));
    assert!(from.gaps() == to.gaps(), "rule: {ours} and {theirs} differ in their gaps");
    (from, to)
}

fn first(table: &[(Pattern, Pattern)], name: &str) -> Option<String> {
    table.iter().find_map(|(from, to)| Some(to.fill(&from.captures(name)?)))
}

/// Where the leaves of a tree are, under their renamed paths.
struct Tree<'a> {
    index: BTreeMap<&'a str, usize>,
    shapes: Vec<&'a [usize]>,
}

/// A tensor of the file and the leaves that make it.
pub(super) struct Place {
    pub theirs: String,
    /// Places of the leaves in the tree's order.
    pub parts: Vec<usize>,
    pub axis: usize,
    pub transposed: bool,
}

impl Rule {
    fn place(&self, name: &str, tree: &Tree) -> Option<Place> {
        let captures = self.ours.iter().find_map(|pattern| pattern.captures(name))?;
        let at = |pattern: &Pattern| tree.index.get(pattern.fill(&captures).as_str()).copied();
        if self.beside.as_ref().is_some_and(|beside| at(beside).is_none()) {
            return None;
        }
        let parts: Vec<usize> = self.ours.iter().map(at).collect::<Option<_>>()?;
        let others = |part: &usize| {
            let shape = tree.shapes[*part];
            (
                shape.len(),
                shape.iter().enumerate().filter(|(i, _)| *i != self.axis).map(|(_, &n)| n).collect::<Vec<_>>(),
            )
        };
        let joins = parts.len() == 1 || parts.iter().all(|part| others(part) == others(&parts[0]));
        let theirs = self.theirs.fill(&captures);
        joins.then_some(Place { theirs, parts, axis: self.axis, transposed: self.transposed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_and_fill() {
        let rows: &[(&str, &str, Option<&[&str]>)] = &[
            ("h.*.weight", "h.3.weight", Some(&["3"])),
            ("h.*.weight", "h.3.x.weight", None),
            ("**.query.weight", "query.weight", Some(&[""])),
            ("**.query.weight", "a.b.query.weight", Some(&["a.b."])),
            ("**.query.weight", "a.xquery.weight", None),
            ("**.l*.w", "l1.l23.w", Some(&["l1.", "23"])),
            ("net.**", "net.0.weight", Some(&["0.weight"])),
            ("net.**", "net.", None),
            ("weight_ih_l*", "weight_ih_l12", Some(&["12"])),
            ("*", "größe", Some(&["größe"])),
            ("", "", Some(&[])),
        ];
        for (pattern, text, want) in rows {
            let pattern = Pattern::new(pattern);
            let got = pattern.captures(text);
            assert_eq!(got.as_deref(), *want, "{pattern:?} on {text}");
            if let Some(captures) = got {
                assert_eq!(pattern.fill(&captures), *text);
            }
        }
    }
}
