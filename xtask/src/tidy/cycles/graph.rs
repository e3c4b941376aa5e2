//! Uses between files as a graph, and its cycles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A use of one file by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    /// A name that is used, as it is written.
    pub(super) example: String,
    /// The line of the example in `from`.
    pub(super) line: usize,
}

/// Files that use each other, and the edges between them. Paths are relative to the crate's `src`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cycle {
    pub(super) files: BTreeSet<String>,
    pub(super) edges: Vec<Edge>,
}

/// Finds the strongly connected components of more than one file.
pub(super) fn components(edges: &[Edge]) -> Vec<Cycle> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges {
        next.entry(&edge.from).or_default().insert(&edge.to);
    }
    let reachable: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|from| (*from, reach(&next, from))).collect();
    let connected = |a: &str, b: &str| reachable.get(a).is_some_and(|all| all.contains(b));
    let mut assigned: BTreeSet<&str> = BTreeSet::new();
    let mut cycles = Vec::new();
    for file in next.keys().copied() {
        if assigned.contains(file) || !connected(file, file) {
            continue;
        }
        let component: BTreeSet<&str> =
            next.keys().copied().filter(|other| connected(file, other) && connected(other, file)).collect();
        assigned.extend(&component);
        let inside = |edge: &&Edge| component.contains(&*edge.from) && component.contains(&*edge.to);
        cycles.push(Cycle {
            edges: edges.iter().filter(inside).cloned().collect(),
            files: component.into_iter().map(str::to_owned).collect(),
        });
    }
    cycles
}

/// Returns all files that can be reached from one, which itself is among them only if it is on a cycle.
fn reach<'a>(next: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = next.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(next.get(file).into_iter().flatten());
        }
    }
    found
}

impl Cycle {
    /// Formats a shortest closed path through the first edge.
    pub(super) fn shortest_path(&self) -> String {
        let Some(first) = self.edges.first() else { return String::new() };
        // Breadth first from the end of that edge to its beginning; each file with the edge that leads to it.
        let mut reached: BTreeMap<&str, &Edge> = BTreeMap::new();
        let mut open = VecDeque::from([&*first.to]);
        while let Some(file) = open.pop_front() {
            for edge in self.edges.iter().filter(|edge| edge.from == file) {
                if !reached.contains_key(&*edge.to) {
                    reached.insert(&edge.to, edge);
                    open.push_back(&edge.to);
                }
            }
        }
        let mut path = Vec::new();
        let mut file = &*first.from;
        while file != first.to {
            let Some(edge) = reached.get(file) else { break };
            path.push(*edge);
            file = &edge.from;
        }
        path.push(first);
        path.reverse();
        let step = |edge: &&Edge| format!("{} uses `{}` of {}", edge.from, edge.example, edge.to);
        path.iter().map(step).collect::<Vec<_>>().join(", ")
    }
}
