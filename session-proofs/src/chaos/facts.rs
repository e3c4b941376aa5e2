//! The facts that the workers know, and counts of their commands.

use std::collections::BTreeMap;

/// A fact that a caller knows of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    Exists,
    Ended(&'static str),
    /// Its removal was tried.
    Removing,
    Removed,
    /// A request was acknowledged.
    Asked(&'static str),
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) facts: BTreeMap<String, Vec<Fact>>,
    /// Sessions in the background, which every worker may pause, resume and cancel.
    pub(super) shared: Vec<String>,
    pub(super) killed: usize,
    pub(super) refused: usize,
    pub(super) commands: BTreeMap<String, usize>,
    pub(super) wrong: Vec<String>,
}
