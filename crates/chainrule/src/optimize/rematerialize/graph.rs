//! What recomputation is decided on: operations with costs over values with bytes, in the order of the program, and
//! which values are forgotten before which of them.
//!
//! A [`Policy`] says only what is forgotten and when. The rest follows: what an operation reads and is not held any more is
//! made again just before it, from what is held. Operations that nobody reads then are left out, so a value that is
//! forgotten before its first use is made later and costs nothing more.

use smallvec::SmallVec;

const NONE: u32 = u32::MAX;

/// One operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub inputs: SmallVec<[u32; 3]>,
    pub outputs: SmallVec<[u32; 1]>,
    /// In floating-point operations, moved bytes included.
    pub cost: u64,
    /// Its result may take the memory of an operand that is not read again.
    pub overwrites: bool,
}

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// 0 for arguments, results and numbers, whose memory is not an intermediate value's, and for views.
    pub bytes: usize,
    /// The operation that makes it; none for an argument.
    pub maker: Option<u32>,
    /// The value whose bytes it looks at; itself if it is no view.
    pub root: u32,
}

/// A program as this pass sees it.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub nodes: Vec<Node>,
    pub values: Vec<Held>,
    pub outputs: Vec<u32>,
    /// The views of each root, itself included.
    families: Vec<SmallVec<[u32; 2]>>,
}

/// Values (by their roots) that are forgotten before an operation: (its place, root), sorted.
pub(super) type Policy = Vec<(u32, u32)>;

/// A policy and what it leads to.
pub(super) type Choice = (Policy, Schedule);

/// One execution of an operation. Each makes values under new names.
#[derive(Clone, Debug)]
pub(super) struct Emit {
    pub node: u32,
    /// The place in the program that it stands at, or before.
    pub at: u32,
    /// Names of what it reads.
    pub inputs: SmallVec<[u32; 3]>,
    /// The name of its first result; the others follow.
    pub first: u32,
}

/// Bytes that one execution made, and when they are needed.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub root: u32,
    pub bytes: usize,
    pub birth: u32,
    /// The executions that read it, in order.
    pub uses: SmallVec<[u32; 4]>,
}

impl Life {
    pub(super) fn death(&self) -> u32 {
        self.uses.last().copied().unwrap_or(self.birth)
    }
}

/// What a policy leads to.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub emits: Vec<Emit>,
    /// Names of the results.
    pub outputs: Vec<u32>,
    pub cost: u64,
    pub lives: Vec<Life>,
    /// Bytes alive at each execution.
    pub profile: Vec<usize>,
}

impl Schedule {
    pub(super) fn peak(&self) -> usize {
        self.profile.iter().copied().max().unwrap_or(0)
    }

    /// The first execution at which most is alive.
    pub(super) fn peak_at(&self) -> usize {
        let peak = self.peak();
        self.profile.iter().position(|&bytes| bytes == peak).unwrap_or(0)
    }

    /// Bytes beyond a limit, summed over executions: zero if it is kept.
    pub(super) fn excess(&self, limit: usize) -> u128 {
        self.profile.iter().map(|&bytes| bytes.saturating_sub(limit) as u128).sum()
    }
}

impl Graph {
    pub(super) fn new(nodes: Vec<Node>, values: Vec<Held>, outputs: Vec<u32>) -> Graph {
        let mut families = vec![SmallVec::new(); values.len()];
        for (value, held) in values.iter().enumerate() {
            families[held.root as usize].push(value as u32);
        }
        Graph { nodes, values, outputs, families }
    }

    pub(super) fn root(&self, value: u32) -> u32 {
        self.values[value as usize].root
    }

    /// Runs the program in thought.
    pub(super) fn schedule(&self, policy: &Policy) -> Schedule {
        let mut running = Running {
            graph: self,
            held: (0..self.values.len() as u32).collect(),
            value_of: (0..self.values.len() as u32).collect(),
            emits: Vec::with_capacity(self.nodes.len()),
        };
        for (value, held) in self.values.iter().enumerate() {
            if held.maker.is_some() {
                running.held[value] = NONE;
            }
        }
        let mut events = policy.iter().peekable();
        for at in 0..self.nodes.len() as u32 {
            while let Some(&&(_, root)) = events.peek().filter(|event| event.0 <= at) {
                events.next();
                self.families[root as usize].iter().for_each(|&value| running.held[value as usize] = NONE);
            }
            let inputs = &self.nodes[at as usize].inputs;
            inputs.iter().for_each(|&value| running.ensure(value, at));
            running.emit(at, at);
        }
        let end = self.nodes.len() as u32;
        self.outputs.iter().for_each(|&value| running.ensure(value, end));
        let outputs = self.outputs.iter().map(|&value| running.held[value as usize]).collect();
        running.finish(outputs)
    }
}

/// The state of [`Graph::schedule`].
struct Running<'a> {
    graph: &'a Graph,
    /// The name under which each value is held now.
    held: Vec<u32>,
    /// The value behind each name. Arguments have their own number as their name.
    value_of: Vec<u32>,
    emits: Vec<Emit>,
}

impl Running<'_> {
    /// Makes a value again if it is not held, and before it what it needs.
    fn ensure(&mut self, value: u32, at: u32) {
        let mut pending = vec![value];
        while let Some(&value) = pending.last() {
            if self.held[value as usize] != NONE {
                pending.pop();
                continue;
            }
            let maker = self.graph.values[value as usize].maker.expect("arguments are always held");
            let missing = |input: &&u32| self.held[**input as usize] == NONE;
            match self.graph.nodes[maker as usize].inputs.iter().find(missing) {
                Some(&input) => pending.push(input),
                None => self.emit(maker, at),
            }
        }
    }

    fn emit(&mut self, node: u32, at: u32) {
        let made = &self.graph.nodes[node as usize];
        let first = self.value_of.len() as u32;
        let inputs = made.inputs.iter().map(|&value| self.held[value as usize]).collect();
        for &value in &made.outputs {
            let name = self.value_of.len() as u32;
            self.value_of.push(value);
            if self.held[value as usize] == NONE {
                self.held[value as usize] = name;
            }
        }
        self.emits.push(Emit { node, at, inputs, first });
    }

    /// Leaves out what nobody reads, and counts what is alive when.
    fn finish(self, outputs: Vec<u32>) -> Schedule {
        let graph = self.graph;
        let mut used = vec![false; self.value_of.len()];
        outputs.iter().for_each(|&name| used[name as usize] = true);
        let mut kept = vec![false; self.emits.len()];
        for (i, emit) in self.emits.iter().enumerate().rev() {
            let made = graph.nodes[emit.node as usize].outputs.len() as u32;
            if (emit.first..emit.first + made).any(|name| used[name as usize]) {
                kept[i] = true;
                emit.inputs.iter().for_each(|&name| used[name as usize] = true);
            }
        }
        let mut kept = kept.into_iter();
        let mut emits = self.emits;
        emits.retain(|_| kept.next() == Some(true));
        let cost = emits.iter().map(|emit| graph.nodes[emit.node as usize].cost).sum();
        let lives = lives(graph, &emits, &self.value_of);
        let profile = profile(graph, &emits, &lives);
        Schedule { emits, outputs, cost, lives, profile }
    }
}

/// The bytes that executions make, with who reads them, views looked through.
fn lives(graph: &Graph, emits: &[Emit], value_of: &[u32]) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::with_capacity(emits.len());
    let mut life_of = vec![NONE; value_of.len()];
    for (i, emit) in emits.iter().enumerate() {
        for &name in &emit.inputs {
            if let Some(life) = lives.get_mut(life_of[name as usize] as usize)
                && life.uses.last() != Some(&(i as u32))
            {
                life.uses.push(i as u32);
            }
        }
        for (k, &value) in graph.nodes[emit.node as usize].outputs.iter().enumerate() {
            let held = graph.values[value as usize];
            life_of[emit.first as usize + k] = if held.root != value {
                // A view has one operand, and lives in its memory.
                life_of[emit.inputs[0] as usize]
            } else if held.bytes > 0 {
                lives.push(Life { root: value, bytes: held.bytes, birth: i as u32, uses: SmallVec::new() });
                lives.len() as u32 - 1
            } else {
                NONE
            };
        }
    }
    lives
}

/// Bytes alive at each execution: what it reads, what it makes, and what is read later.
fn profile(graph: &Graph, emits: &[Emit], lives: &[Life]) -> Vec<usize> {
    let mut change = vec![0isize; emits.len() + 1];
    let mut dying: Vec<SmallVec<[usize; 2]>> = vec![SmallVec::new(); emits.len()];
    for life in lives {
        change[life.birth as usize] += life.bytes as isize;
        change[life.death() as usize + 1] -= life.bytes as isize;
        if !life.uses.is_empty() {
            dying[life.death() as usize].push(life.bytes);
        }
    }
    let mut alive = 0;
    let mut profile = Vec::with_capacity(emits.len());
    for (i, emit) in emits.iter().enumerate() {
        alive += change[i];
        let node = &graph.nodes[emit.node as usize];
        let mut shared = 0;
        if node.overwrites {
            for &value in &node.outputs {
                let bytes = graph.values[value as usize].bytes;
                if bytes > 0
                    && let Some(place) = dying[i].iter().position(|&dying| dying == bytes)
                {
                    dying[i].swap_remove(place);
                    shared += bytes;
                }
            }
        }
        profile.push(alive as usize - shared);
    }
    profile
}
