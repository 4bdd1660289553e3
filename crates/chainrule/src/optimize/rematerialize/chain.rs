//! Programs that go forth and back again, as a training step does: checkpoints by dynamic programming.
//!
//! The way forth is cut where few bytes cross. Over the segments between cuts the cheapest schedule is known for every
//! amount of memory (Griewank and Walther, "Revolve", 2000, for equal segments; Beaumont et al., "Optimal checkpointing for
//! heterogeneous chains", 2019): from a held boundary, either keep everything of the first segment and go on, or go
//! forward to a later boundary without keeping anything, do what lies behind it, and come back.

use super::graph::{Choice, Graph, Policy};

/// More segments are joined to neighbours.
const SEGMENTS: usize = 112;
/// Memory is counted in so many parts of the limit, or exactly where it can be.
const PARTS: usize = 256;

/// The way forth, cut in segments.
pub(super) struct Chain<'a> {
    graph: &'a Graph,
    /// For each root that is made on the way forth: its segment, the last that reads it on the way forth, whether it
    /// is read on the way back.
    values: Vec<Made>,
    segments: Vec<Segment>,
}

struct Made {
    root: u32,
    segment: usize,
    last: usize,
    late: bool,
}

/// Operations between two cuts. What later segments read of them crosses the cut and is part of its boundary, which is
/// held while their way back is walked; the rest that the way back reads is the segment's own.
#[derive(Clone, Default)]
struct Segment {
    /// The place after its last operation.
    end: usize,
    /// Cost of what crosses.
    advance: u64,
    /// Cost of its own values that the way back reads.
    full: u64,
    /// Cost of either.
    both: u64,
    /// Bytes of its own values that the way back reads.
    saved: usize,
    /// Bytes of those and of what crosses.
    kept: usize,
    /// Where its way back begins.
    back: Option<usize>,
}

/// Who reads the values of a program, by their roots; views are looked through.
struct Readers {
    /// The last on the way forth.
    last: Vec<usize>,
    /// The first on the way back.
    late: Vec<Option<usize>>,
}

impl Readers {
    fn of(graph: &Graph, turn: usize) -> Readers {
        let mut readers = Readers { last: vec![0; graph.values.len()], late: vec![None; graph.values.len()] };
        for (at, node) in graph.nodes.iter().enumerate() {
            let view = node.outputs.iter().any(|&value| graph.root(value) != value);
            for root in node.inputs.iter().filter(|_| !view).map(|&value| graph.root(value) as usize) {
                match at < turn {
                    true => readers.last[root] = at,
                    false => _ = readers.late[root].get_or_insert(at),
                }
            }
        }
        readers
    }
}

impl<'a> Chain<'a> {
    /// Cuts a program whose way back begins at a place; none if there is nothing to cut.
    pub(super) fn new(graph: &'a Graph, turn: usize) -> Option<Chain<'a>> {
        let mut readers = Readers::of(graph, turn);
        let made = |root: &usize| {
            let held = graph.values[*root];
            held.bytes > 0 && held.root as usize == *root && held.maker.is_some_and(|maker| (maker as usize) < turn)
        };
        let roots: Vec<usize> = (0..graph.values.len()).filter(made).collect();
        let maker = |root: usize| graph.values[root].maker.unwrap_or(0) as usize;
        let spans = roots.iter().map(|&root| (maker(root), readers.last[root], graph.values[root].bytes));
        let ends = cuts(graph, turn, spans);
        if ends.len() < 3 {
            return None;
        }
        // What only the way back reads of the last segment crosses the turn, as other segments' results cross their ends.
        for &root in roots.iter().filter(|&&root| maker(root) >= ends[ends.len() - 2]) {
            let last = &mut readers.last[root];
            *last = if *last == 0 { turn } else { *last };
        }
        let segment = |at: usize| ends.partition_point(|&end| end <= at);
        let value = |&root: &usize| {
            let first = segment(maker(root));
            let last = segment(readers.last[root]).max(first);
            Made { root: root as u32, segment: first, last, late: readers.late[root].is_some() }
        };
        let values: Vec<Made> = roots.iter().map(value).collect();
        let mut segments: Vec<Segment> =
            ends.iter().chain([&turn]).map(|&end| Segment { end, ..Segment::default() }).collect();
        let mut crossing: Vec<Option<usize>> = vec![None; segments.len()];
        let earlier = |a: Option<usize>, b: Option<usize>| a.into_iter().chain(b).min();
        for value in &values {
            let (segment, bytes) = (&mut segments[value.segment], graph.values[value.root as usize].bytes);
            let late = readers.late[value.root as usize];
            if value.last > value.segment {
                segment.kept += bytes;
                if value.last == value.segment + 1 {
                    crossing[value.last] = earlier(crossing[value.last], late);
                }
            } else if value.late {
                segment.saved += bytes;
                segment.kept += bytes;
                segment.back = earlier(segment.back, late);
            }
        }
        // Without values of its own, a segment's way back begins where the boundary before it is read.
        segments.iter_mut().zip(crossing).for_each(|(segment, crossing)| segment.back = segment.back.or(crossing));
        costs(graph, &readers, &mut segments);
        Some(Chain { graph, values, segments })
    }

    /// Bytes that are new at the boundary after segment `to` since the one before segment `from`.
    fn boundaries(&self) -> Vec<Vec<usize>> {
        let count = self.segments.len();
        let mut bytes = vec![vec![0; count]; count];
        for value in &self.values {
            for row in bytes.iter_mut().take(value.segment + 1) {
                row[value.segment..value.last]
                    .iter_mut()
                    .for_each(|sum| *sum += self.graph.values[value.root as usize].bytes);
            }
        }
        bytes
    }

    /// Schedules for memory up to a limit, from the cheapest to the one that keeps least.
    pub(super) fn tables(&self, limit: usize) -> Tables<'_> {
        let boundaries = self.boundaries();
        let sizes = boundaries.iter().flatten().chain(self.segments.iter().flat_map(|s| [&s.saved, &s.kept]));
        let common = sizes.fold(0, |a, &b| gcd(a, b)).max(1);
        let exact = limit / common <= 2 * PARTS;
        let unit = if exact { common } else { limit.div_ceil(PARTS) };
        Tables::fill(self, &boundaries, unit, limit / unit)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Places after which few bytes cross on the way forth; the last is the turn.
fn cuts(graph: &Graph, turn: usize, values: impl Iterator<Item = (usize, usize, usize)>) -> Vec<usize> {
    let mut change = vec![0isize; turn + 1];
    for (made, last, bytes) in values.filter(|(made, last, _)| last > made) {
        change[made] += bytes as isize;
        change[last] -= bytes as isize;
    }
    let crossing: Vec<isize> = change[..turn]
        .iter()
        .scan(0, |sum, change| {
            *sum += change;
            Some(*sum)
        })
        .collect();
    let real = |at: &usize| graph.nodes[*at].cost > 0;
    let places: Vec<usize> = (0..turn).filter(real).collect();
    let low = |i: usize| {
        let here = crossing[places[i]];
        let before = i == 0 || crossing[places[i - 1]] >= here;
        let after = places.get(i + 1).is_none_or(|&next| crossing[next] >= here);
        before && after
    };
    let minima: Vec<usize> = (0..places.len()).filter(|&i| low(i)).map(|i| places[i]).collect();
    // All places if they are few; else where least crosses, if that is often enough; else the best of each stretch.
    let places = if places.len() > SEGMENTS && minima.len() >= SEGMENTS / 4 { minima } else { places };
    let stretches = places.chunks(places.len().div_ceil(SEGMENTS).max(1));
    let best = stretches.filter_map(|places| places.iter().min_by_key(|&&at| crossing[at]));
    let mut ends: Vec<usize> = best.map(|&at| at + 1).collect();
    ends.retain(|&end| end < turn);
    ends.push(turn);
    ends
}

/// What each segment costs for whom.
fn costs(graph: &Graph, readers: &Readers, segments: &mut [Segment]) {
    let mut start = 0;
    for segment in segments {
        let end = segment.end;
        let closure = |wanted: &dyn Fn(usize) -> bool| -> u64 {
            let mut needed = vec![false; graph.values.len()];
            let mut cost = 0;
            for node in graph.nodes[start..end].iter().rev() {
                if node.outputs.iter().any(|&value| needed[value as usize] || wanted(value as usize)) {
                    cost += node.cost;
                    node.inputs.iter().for_each(|&value| needed[value as usize] = true);
                }
            }
            cost
        };
        let crosses = |value: usize| readers.last[value] >= end;
        let own = |value: usize| readers.late[value].is_some() && !crosses(value);
        segment.advance = closure(&crosses);
        segment.full = closure(&own);
        segment.both = closure(&|value| own(value) || crosses(value));
        start = end;
    }
}

/// The cheapest way through segments i..=j and back, for every amount of memory beside the boundary before i.
pub(super) struct Tables<'a> {
    chain: &'a Chain<'a>,
    /// Units of memory, 0 to this.
    pub units: usize,
    cost: Vec<f64>,
    /// 0: keep all of segment i (or it is the only one); k + 1: hold the boundary after segment k.
    choice: Vec<u16>,
    kept: Vec<usize>,
    held: Vec<Vec<usize>>,
}

impl<'a> Tables<'a> {
    fn fill(chain: &'a Chain<'a>, boundaries: &[Vec<usize>], unit: usize, units: usize) -> Tables<'a> {
        let count = chain.segments.len();
        let cells = count * (count + 1) / 2 * (units + 1);
        let held = boundaries.iter().map(|row| row.iter().map(|bytes| bytes.div_ceil(unit)).collect()).collect();
        let kept = chain.segments.iter().map(|segment| segment.kept.div_ceil(unit)).collect();
        let mut tables = Tables { chain, units, cost: vec![f64::INFINITY; cells], choice: vec![0; cells], kept, held };
        for (i, segment) in chain.segments.iter().enumerate() {
            let cell = tables.cell(i, i);
            let enough = segment.saved.div_ceil(unit).min(units + 1);
            tables.cost[cell + enough..=cell + units].fill(segment.full as f64);
        }
        for length in 1..count {
            for i in 0..count - length {
                tables.pair(i, i + length);
            }
        }
        tables
    }

    fn cell(&self, i: usize, j: usize) -> usize {
        (j * (j + 1) / 2 + i) * (self.units + 1)
    }

    fn pair(&mut self, i: usize, j: usize) {
        let (segments, width) = (&self.chain.segments, self.units + 1);
        let mut best = vec![f64::INFINITY; width];
        let mut choice = vec![0u16; width];
        let rest = self.cell(i + 1, j);
        for (best, rest) in best.iter_mut().skip(self.kept[i]).zip(&self.cost[rest..rest + width]) {
            *best = segments[i].both as f64 + rest;
        }
        let mut advance = 0;
        for (k, segment) in segments.iter().enumerate().take(j).skip(i) {
            advance += segment.advance;
            let held = self.held[i][k].min(width);
            let (behind, before) = (self.cell(k + 1, j), self.cell(i, k) + held);
            let costs = self.cost[behind..behind + width - held].iter().zip(&self.cost[before..before + width - held]);
            for ((best, choice), (behind, before)) in best[held..].iter_mut().zip(&mut choice[held..]).zip(costs) {
                let cost = advance as f64 + behind + before;
                if cost < *best {
                    (*best, *choice) = (cost, k as u16 + 1);
                }
            }
        }
        let cell = self.cell(i, j);
        self.cost[cell..cell + width].copy_from_slice(&best);
        self.choice[cell..cell + width].copy_from_slice(&choice);
    }

    /// Whether so many units are enough.
    pub(super) fn is_possible(&self, units: usize) -> bool {
        self.cost[self.cell(0, self.chain.segments.len() - 1) + units].is_finite()
    }

    /// The schedule for so many units; none if they are too few.
    pub(super) fn policy(&self, units: usize) -> Option<Policy> {
        let last = self.chain.segments.len() - 1;
        if !self.is_possible(units) {
            return None;
        }
        let count = self.chain.values.len();
        let (held, before) = (vec![0; count], vec![true; count]);
        let mut stages = Stages { tables: self, held, before, policy: Policy::new() };
        stages.visit(0, last, units);
        stages.policy.sort_unstable();
        Some(stages.policy)
    }

    /// The cheapest schedule whose peak keeps a limit, and the one with the lowest peak of those looked at.
    pub(super) fn search(&self, limit: usize) -> (Option<Choice>, Option<Choice>) {
        let (mut low, mut high) = (0, self.units + 1);
        let (mut best, mut lowest): (Option<Choice>, Option<Choice>) = (None, None);
        while low < high {
            let units = (low + high) / 2;
            let Some(policy) = self.policy(units) else {
                low = units + 1;
                continue;
            };
            let schedule = self.chain.graph.schedule(&policy);
            let (peak, cost) = (schedule.peak(), schedule.cost);
            if lowest.as_ref().is_none_or(|(_, least)| peak < least.peak()) {
                lowest = Some((policy.clone(), schedule.clone()));
            }
            if peak > limit {
                high = units;
                continue;
            }
            low = units + 1;
            if best.as_ref().is_none_or(|(_, best)| cost < best.cost) {
                best = Some((policy, schedule));
            }
        }
        (best, lowest)
    }
}

/// Walks through a schedule in the order of time and notes what is forgotten before each segment's way back.
struct Stages<'a> {
    tables: &'a Tables<'a>,
    /// How many holders each value has now.
    held: Vec<u16>,
    /// What was meant to be held on the last way back.
    before: Vec<bool>,
    policy: Policy,
}

impl Stages<'_> {
    fn visit(&mut self, i: usize, j: usize, units: usize) {
        if i == j {
            return self.back(i);
        }
        match self.tables.choice[self.tables.cell(i, j) + units] {
            0 => {
                let all = |value: &Made| value.segment == i && (value.late || value.last > i);
                self.hold(&all, true);
                self.visit(i + 1, j, units - self.tables.kept[i]);
                self.hold(&all, false);
            }
            choice => {
                let k = choice as usize - 1;
                let boundary = |value: &Made| (i..=k).contains(&value.segment) && value.last > k;
                self.hold(&boundary, true);
                self.visit(k + 1, j, units - self.tables.held[i][k]);
                self.hold(&boundary, false);
                self.visit(i, k, units);
            }
        }
    }

    fn hold(&mut self, which: &dyn Fn(&Made) -> bool, on: bool) {
        for (value, held) in self.tables.chain.values.iter().zip(&mut self.held).filter(|(value, _)| which(value)) {
            debug_assert!(on || *held > 0, "value {} is held", value.root);
            *held = if on { *held + 1 } else { *held - 1 };
        }
    }

    /// Before the way back through a segment, all is forgotten that was not meant to be held before, or is not held from
    /// here on, its own values excepted.
    fn back(&mut self, segment: usize) {
        let chain = self.tables.chain;
        let Some(at) = chain.segments[segment].back else { return };
        for ((value, &held), before) in chain.values.iter().zip(&self.held).zip(&mut self.before) {
            let now = held > 0 || value.segment == segment;
            if !(*before && now) {
                self.policy.push((at as u32, value.root));
            }
            *before = now;
        }
    }
}
