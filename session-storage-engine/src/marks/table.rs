//! The combined content of the lines of a marks file, independent of the order in which they were written.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::Path;

use session_core::backend::Tip;
use session_core::{SessionId, StorageError};

use super::Mark;
use super::file::MarksFile;
use super::line::{Line, StoreId};

/// The number of latest deletions that a compacted file keeps: a process may have flushed before a deletion and record
/// that only later.
const KEPT_DELETIONS: usize = 1024;

impl Mark {
    /// Returns the order of marks of one session, of which the highest wins: the latest change, then the furthest tip.
    fn rank(&self) -> (u64, Option<u64>) {
        (self.change, self.tip.map(|tip| tip.revision))
    }
}

/// The marks of all sessions.
#[derive(Debug, Default)]
pub(super) struct MarkTable {
    /// The store that the first line names.
    pub(super) store: Option<StoreId>,
    /// The marks of the initial load, ascending by id: there may be very many, and a sorted file needs no sorting.
    loaded: Vec<(SessionId, Mark)>,
    /// The marks added after the initial load; of two marks of one session the higher one wins.
    changed: BTreeMap<SessionId, Mark>,
    pub(super) change: u64,
    pub(super) lines: usize,
    /// The number of lines, from the first one on, that were in order.
    pub(super) sorted: usize,
    /// The number of bytes that are no lines of ours.
    pub(super) damaged: u64,
    /// The largest number of marks that the initial load had in memory.
    #[cfg(test)]
    pub(super) peak: usize,
}

/// Marks kept before the first ones of the same session are dropped.
pub(super) const FIRST_DEDUP: usize = 1 << 16;

/// The marks read by the initial load, in the order of the file, with at most as many again that later ones replace.
#[derive(Debug, Default)]
struct InitialLoad {
    marks: Vec<(SessionId, Mark)>,
    /// The length at which replaced marks are dropped.
    full: usize,
    /// The number of marks, from the first one on, that were in order.
    in_order: usize,
    /// `true` once a mark was not.
    is_unordered: bool,
    #[cfg(test)]
    peak: usize,
}

impl InitialLoad {
    fn push(&mut self, mark: (SessionId, Mark)) {
        self.is_unordered |= self.marks.last().is_some_and(|(last, _)| *last >= mark.0);
        self.in_order += usize::from(!self.is_unordered);
        if self.marks.len() >= self.full.max(FIRST_DEDUP) {
            self.dedup();
            self.full = 2 * self.marks.len();
        }
        self.marks.push(mark);
        #[cfg(test)]
        {
            self.peak = self.peak.max(self.marks.len());
        }
    }

    /// Keeps the highest mark of each session, ascending by id.
    fn dedup(&mut self) {
        // Mostly one long run that is sorted already, which is the best case of a stable sort.
        self.marks.sort_by_key(|(id, mark)| (*id, std::cmp::Reverse(mark.rank())));
        self.marks.dedup_by_key(|(id, _)| *id);
    }

    fn finish(mut self) -> Vec<(SessionId, Mark)> {
        self.dedup();
        self.marks.shrink_to_fit();
        self.marks
    }
}

impl MarkTable {
    /// Reads the lines that were added to the file.
    pub(super) fn read(&mut self, file: &mut MarksFile, path: &Path) -> Result<(), StorageError> {
        let is_initial_load = self.loaded.is_empty() && self.changed.is_empty();
        let mut load = InitialLoad::default();
        let damaged = file.read(path, |line| {
            self.lines += 1;
            match line.and_then(|line| self.apply(line)) {
                Some(mark) if is_initial_load => load.push(mark),
                Some((id, mark)) => self.merge(id, mark),
                None => {}
            }
        })?;
        self.damaged += damaged;
        if is_initial_load {
            #[cfg(test)]
            {
                self.peak = load.peak;
            }
            self.sorted = load.in_order.saturating_sub(1);
            self.loaded = load.finish();
        }
        Ok(())
    }

    /// Applies what a line says about the store; returns what it says about a session.
    pub(super) fn apply(&mut self, line: Line) -> Option<(SessionId, Mark)> {
        match line {
            Line::Store(store) => self.store = Some(store),
            Line::Change(change) => self.change = self.change.max(change),
            // The deletion may not have been committed: it proves nothing about the database's change.
            Line::Deletion(change, id) => return Some((id, Mark { change, tip: None })),
            Line::Tip(change, id, tip) => {
                self.change = self.change.max(change);
                return Some((id, Mark { change, tip: Some(tip) }));
            }
        }
        None
    }

    pub(super) fn merge(&mut self, id: SessionId, mark: Mark) {
        if self.get(id).is_none_or(|current| mark.rank() > current.rank()) {
            self.changed.insert(id, mark);
        }
    }

    pub(super) fn get(&self, id: SessionId) -> Option<Mark> {
        // A mark added later is higher than the loaded one, or it would not have been inserted.
        self.changed.get(&id).copied().or_else(|| {
            let at = self.loaded.binary_search_by_key(&id, |(id, _)| *id).ok()?;
            self.loaded.get(at).map(|(_, mark)| *mark)
        })
    }

    /// Iterates over the marks after `after` and up to `last`, ascending by id.
    pub(super) fn between(
        &self,
        after: Option<SessionId>,
        last: Option<SessionId>,
    ) -> impl Iterator<Item = (SessionId, Mark)> {
        let behind = |id: SessionId| after.is_none_or(|after| id > after);
        let up_to = |id: SessionId| last.is_none_or(|last| id <= last);
        let begin = self.loaded.partition_point(|(id, _)| !behind(*id));
        let end = self.loaded.partition_point(|(id, _)| up_to(*id)).max(begin);
        let mut loaded = self.loaded.get(begin..end).unwrap_or_default().iter().copied().peekable();
        let range = (after.map_or(Unbounded, Excluded), last.map_or(Unbounded, Included));
        let is_range = after.zip(last).is_none_or(|(after, last)| after < last);
        let mut changed = is_range
            .then(|| self.changed.range(range))
            .into_iter()
            .flatten()
            .map(|(id, mark)| (*id, *mark))
            .peekable();
        std::iter::from_fn(move || match (loaded.peek(), changed.peek()) {
            (Some((old, _)), Some((new, _))) if old == new => {
                loaded.next();
                changed.next()
            }
            (Some((old, _)), Some((new, _))) if old > new => changed.next(),
            (Some(_), _) => loaded.next(),
            (None, _) => changed.next(),
        })
    }

    pub(super) fn tips(&self) -> impl Iterator<Item = (SessionId, u64, Tip)> {
        self.between(None, None).filter_map(|(id, mark)| Some((id, mark.change, mark.tip?)))
    }

    /// Returns the fewest lines with the same content.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> =
            (self.change > 0).then_some(Line::Change(self.change)).into_iter().collect();
        lines.extend(self.tips().map(|(id, change, tip)| Line::Tip(change, id, tip)));
        let mut deletions: Vec<(u64, SessionId)> = self
            .between(None, None)
            .filter(|(_, mark)| mark.tip.is_none())
            .map(|(id, mark)| (mark.change, id))
            .collect();
        deletions.sort_unstable_by_key(|(change, _)| std::cmp::Reverse(*change));
        lines.extend(
            deletions.into_iter().take(KEPT_DELETIONS).map(|(change, id)| Line::Deletion(change, id)),
        );
        lines
    }
}
