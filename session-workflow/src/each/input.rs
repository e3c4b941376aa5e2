//! The input of an `each`: its items in order, with their numbers.

use std::collections::{HashMap, HashSet};

use session_core::{ItemIdentity, ItemStart};

/// The input of an `each`, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Occurrences of each item.
    occurrences: HashMap<Vec<u8>, u64>,
    /// The numbers of the items, in order.
    numbers: Vec<u64>,
    /// Items that have a number and no record yet.
    new: HashMap<u64, ItemIdentity>,
    /// The highest number of an item.
    pub(super) last_number: u64,
    pub(super) has_ended: bool,
    /// `true` once the log has the number of items.
    pub(super) total_is_recorded: bool,
}

impl Input {
    /// Returns the identity of the next item.
    pub(super) fn identify(&mut self, arg: Vec<u8>) -> ItemIdentity {
        let n = self.occurrences.entry(arg.clone()).or_insert(0);
        *n += 1;
        ItemIdentity { arg, n: *n }
    }

    /// Adds an item that has a number.
    pub(super) fn add(&mut self, number: u64) {
        self.numbers.push(number);
    }

    /// Adds an item that was never started, and returns its number.
    pub(super) fn add_new(&mut self, identity: ItemIdentity) -> u64 {
        self.last_number += 1;
        self.numbers.push(self.last_number);
        self.new.insert(self.last_number, identity);
        self.last_number
    }

    /// Returns the size of what the record of a start says about the item.
    pub(super) fn start_bytes(&self, number: u64) -> usize {
        self.new.get(&number).map_or(0, |identity| identity.arg.len())
    }

    /// Returns the start of an item for its record: the first one says what it is.
    pub(super) fn start(&self, number: u64) -> ItemStart {
        ItemStart { item: number, identity: self.new.get(&number).cloned() }
    }

    /// Takes note that the start of an item is recorded. Returns `true` if it is the first one.
    pub(super) fn started(&mut self, number: u64) -> bool {
        self.new.remove(&number).is_some()
    }

    /// Returns the numbers of the items, in order.
    pub(super) fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// Returns the numbers of the items as a set.
    pub(super) fn set(&self) -> HashSet<u64> {
        self.numbers.iter().copied().collect()
    }
}
