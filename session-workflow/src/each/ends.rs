//! Items of an `each` that have ended, until that is recorded.

use std::collections::HashSet;

use session_core::limits::{VALUE_BYTES, VALUE_PART_BYTES};
use session_core::{ItemFailure, ItemMoves, Session, SessionEvent};

use super::request::ItemEnd;

/// The ends that are not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Ends {
    ended: Vec<(u64, ItemEnd)>,
    /// Items that are recorded as done without running them again.
    skipped: Vec<u64>,
    /// Bytes of all values, recorded or not.
    value_bytes: usize,
}

/// The ends for one record, with the records of the values before it.
#[derive(Debug)]
pub(super) struct TakenEnds {
    pub(super) values: Vec<SessionEvent>,
    /// The numbers of items that are done.
    pub(super) moves: ItemMoves,
    pub(super) failures: Vec<ItemFailure>,
}

impl Ends {
    pub(super) fn add(&mut self, number: u64, end: ItemEnd) {
        self.ended.push((number, end));
    }

    pub(super) fn skip(&mut self, number: u64) {
        self.skipped.push(number);
    }

    /// Takes note of values that were recorded before.
    pub(super) const fn add_value_bytes(&mut self, bytes: usize) {
        self.value_bytes = self.value_bytes.saturating_add(bytes);
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.ended.iter().any(|(known, _)| *known == number)
    }

    /// Returns the number of items that ran and have ended.
    pub(super) fn len(&self) -> usize {
        self.ended.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.skipped.is_empty()
    }

    /// Takes all ends. `too_long` is `true` once the values together are longer than they may be.
    pub(super) fn take(&mut self, each: u64, too_long: &mut bool) -> TakenEnds {
        let (mut values, mut failures) = (Vec::new(), Vec::new());
        let skipped = std::mem::take(&mut self.skipped);
        let mut moves = ItemMoves { each, skipped, ..ItemMoves::default() };
        for (item, end) in std::mem::take(&mut self.ended) {
            let value = match end {
                ItemEnd::Done(value) => value,
                ItemEnd::Failed(failure) => {
                    failures.push(ItemFailure { item, ..failure });
                    continue;
                }
            };
            moves.done.push(item);
            self.add_value_bytes(value.len());
            if self.value_bytes > VALUE_BYTES {
                moves.too_long |= !std::mem::replace(too_long, true);
            } else if !*too_long {
                let part = |part: &[u8]| SessionEvent::ItemValue { each, item, part: part.to_vec() };
                values.extend(value.chunks(VALUE_PART_BYTES).map(part));
            }
        }
        TakenEnds { values, moves, failures }
    }
}

/// Returns the record of unknown ends of the items that run; `None` if none does.
pub(super) fn unknown_ends(each: u64, open: &HashSet<u64>) -> Option<ItemMoves> {
    let unknown = |item: &u64| ItemFailure { item: *item, unknown: true, ..ItemFailure::default() };
    let mut failed: Vec<_> = open.iter().map(unknown).collect();
    failed.sort_unstable_by_key(|failure| failure.item);
    (!failed.is_empty()).then(|| ItemMoves { each, failed, ..ItemMoves::default() })
}

pub(super) async fn record_unknown_ends(session: &Session, moves: ItemMoves) {
    let ended = vec![SessionEvent::ItemsMoved { moves }];
    if let Err(error) = session.move_items(ended, ItemMoves::default()).await {
        tracing::debug!(session = %session.id(), %error, "could not record the unknown ends of items");
    }
}
