//! Any program: at the fullest moment, forget what gives most room for the least work, and look again.
//!
//! Small programs are searched along many ways at once (a beam), large ones along one.

use super::graph::{Choice, Graph, Life, Policy, Schedule};
use rustc_hash::FxHashSet;

/// Executions that a search may look at before it ends with what it has; large programs get a few for each operation.
const WORK: usize = 400_000;
const WORK_EACH: usize = 1_500;

/// What a search came to.
pub(super) struct Found {
    /// The cheapest within the limit.
    pub best: Option<Choice>,
    /// The one with the lowest peak.
    pub lowest: Choice,
}

#[derive(Clone)]
struct State {
    policy: Policy,
    schedule: Schedule,
    excess: u128,
}

/// Forgets until nothing exceeds the limit, or nothing more can be gained.
pub(super) fn search(graph: &Graph, start: Policy, limit: usize) -> Found {
    let size = graph.nodes.len().max(1);
    let (width, tries) = ((500 / size).clamp(1, 32), (1200 / size).clamp(4, 64));
    let most = WORK.max(WORK_EACH * size);
    let schedule = graph.schedule(&start);
    let first = State { excess: schedule.excess(limit), policy: start, schedule };
    let mut found = Found { best: None, lowest: (first.policy.clone(), first.schedule.clone()) };
    let (begin, all) = (first.schedule.cost, first.excess);
    let mut beam = vec![first];
    let mut seen: FxHashSet<Policy> = FxHashSet::default();
    let mut work = 0;
    while !beam.is_empty() && work < most {
        let mut next: Vec<State> = Vec::new();
        for state in &beam {
            if state.excess == 0 {
                if found.best.as_ref().is_none_or(|best| state.schedule.cost < best.1.cost) {
                    found.best = Some((state.policy.clone(), state.schedule.clone()));
                }
                continue;
            }
            let mut candidates = candidates(graph, &state.schedule, limit);
            candidates.sort_by(|a, b| b.worth.total_cmp(&a.worth));
            for candidate in candidates.into_iter().take(tries) {
                let mut policy = state.policy.clone();
                let Err(place) = policy.binary_search(&candidate.event) else { continue };
                policy.insert(place, candidate.event);
                if !seen.insert(policy.clone()) {
                    continue;
                }
                let schedule = graph.schedule(&policy);
                work += schedule.emits.len();
                let (excess, lowest) = (schedule.excess(limit), &found.lowest.1);
                if (schedule.peak(), schedule.cost) < (lowest.peak(), lowest.cost) {
                    found.lowest = (policy.clone(), schedule.clone());
                }
                let beaten = found.best.as_ref().is_some_and(|best| schedule.cost >= best.1.cost);
                if !beaten && (width > 1 || excess < state.excess) {
                    next.push(State { policy, schedule, excess });
                }
            }
        }
        // What each byte within the limit has cost so far.
        let price = |state: &State| match all.saturating_sub(state.excess) {
            0 => f64::INFINITY,
            gained => (state.schedule.cost as f64 - begin as f64) / gained as f64,
        };
        next.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.excess.cmp(&b.excess)));
        next.truncate(width);
        beam = next;
    }
    found
}

struct Candidate {
    event: (u32, u32),
    /// Bytes over the limit that go, over all executions, for each operation of work.
    worth: f64,
}

/// What is alive and idle at the fullest moment.
fn candidates(graph: &Graph, schedule: &Schedule, limit: usize) -> Vec<Candidate> {
    let peak = schedule.peak_at() as u32;
    let mut found = Vec::new();
    for life in &schedule.lives {
        if life.birth >= peak || life.death() <= peak {
            continue;
        }
        let after = life.uses.partition_point(|&at| at < peak);
        let next = life.uses[after];
        let before = if after == 0 { life.birth } else { life.uses[after - 1] };
        let at = schedule.emits[next as usize].at;
        if next == peak || schedule.emits[before as usize].at >= at {
            continue;
        }
        let gap = &schedule.profile[before as usize + 1..next as usize];
        let relief: u64 = gap.iter().map(|&bytes| bytes.saturating_sub(limit).min(life.bytes) as u64).sum();
        let cost = again(graph, schedule, life, next);
        found.push(Candidate { event: (at, life.root), worth: relief as f64 / (cost as f64 + 1.0) });
    }
    found
}

/// What it costs to make a value again at an execution, from what is alive there.
fn again(graph: &Graph, schedule: &Schedule, life: &Life, when: u32) -> u64 {
    let alive = |root: u32| {
        let held = |other: &&Life| other.root == root && other.birth < when && other.death() >= when;
        root != life.root && schedule.lives.iter().any(|other| held(&other))
    };
    let mut seen: FxHashSet<u32> = FxHashSet::default();
    let mut pending = vec![life.root];
    let mut cost = 0;
    while let Some(value) = pending.pop() {
        let Some(maker) = graph.values[value as usize].maker else { continue };
        if alive(graph.root(value)) || !seen.insert(maker) {
            continue;
        }
        let node = &graph.nodes[maker as usize];
        cost += node.cost;
        pending.extend(&node.inputs);
    }
    cost
}

/// Keeps again what the limit has room for, dearest first.
pub(super) fn improve(graph: &Graph, (mut policy, mut schedule): Choice, limit: usize) -> Choice {
    let mut roots: Vec<u32> = policy.iter().map(|event| event.1).collect();
    roots.sort_unstable();
    roots.dedup();
    let price = |root: &u32| {
        let held = graph.values[*root as usize];
        held.maker.map_or(0.0, |maker| graph.nodes[maker as usize].cost as f64) / held.bytes.max(1) as f64
    };
    roots.sort_by(|a, b| price(b).total_cmp(&price(a)));
    let mut work = 0;
    for root in roots {
        if work > WORK {
            break;
        }
        let fewer: Policy = policy.iter().copied().filter(|event| event.1 != root).collect();
        let tried = graph.schedule(&fewer);
        work += tried.emits.len();
        if tried.peak() <= limit && tried.cost < schedule.cost {
            (policy, schedule) = (fewer, tried);
        }
    }
    (policy, schedule)
}
