//! What the lines of a file of marks come to, in whatever order they were written.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::Path;

use session_core::{SessionId, StorageError, Tip};

use super::Mark;
use super::file::Open;
use super::line::{Line, StoreId};

/// Goodbyes that a new file takes over, the latest ones: somebody may have flushed before a deletion and note it only now.
const GOODBYES: usize = 1024;

impl Mark {
    /// The higher one counts: the later change, and within one a tip, the furthest.
    fn rank(&self) -> (u64, Option<u64>) {
        (self.change, self.tip.map(|tip| tip.revision))
    }
}

/// What the lines say.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The store that the first line names.
    pub(super) store: Option<StoreId>,
    /// What was read at first, ascending by id: there may be very many, and a sorted file needs no more than being read.
    first: Vec<(SessionId, Mark)>,
    /// What was heard since; of two marks of one session the higher one counts.
    since: BTreeMap<SessionId, Mark>,
    pub(super) change: u64,
    pub(super) lines: usize,
    /// How many of the lines, from the first one on, were found in order.
    pub(super) sorted: usize,
}

impl Known {
    /// Reads on in the file.
    pub(super) fn read(&mut self, file: &mut Open, path: &Path) -> Result<(), StorageError> {
        let mut first = Vec::new();
        let is_first = self.first.is_empty() && self.since.is_empty();
        file.read(path, |line| {
            self.lines += 1;
            match line.and_then(|line| self.note(line)) {
                Some(mark) if is_first => first.push(mark),
                Some((id, mark)) => self.hear(id, mark),
                None => {}
            }
        })?;
        if is_first {
            self.sorted = first
                .windows(2)
                .take_while(|pair| matches!(pair, [(one, _), (next, _)] if one < next))
                .count();
            // Mostly one long run that is sorted already, which a stable sort takes as it is.
            first.sort_by_key(|(id, mark)| (*id, std::cmp::Reverse(mark.rank())));
            first.dedup_by_key(|(id, _)| *id);
            self.first = first;
        }
        Ok(())
    }

    /// What a line says of the store is noted; what it says of a session is returned.
    pub(super) fn note(&mut self, line: Line) -> Option<(SessionId, Mark)> {
        match line {
            Line::Store(store) => self.store = Some(store),
            Line::Change(change) => self.change = self.change.max(change),
            // What is about to be deleted was not, as far as anybody knows: it says nothing of the database's change.
            Line::Leaving(change, id) => return Some((id, Mark { change, tip: None })),
            Line::Tip(change, id, tip) => {
                self.change = self.change.max(change);
                return Some((id, Mark { change, tip: Some(tip) }));
            }
        }
        None
    }

    pub(super) fn hear(&mut self, id: SessionId, mark: Mark) {
        if self.get(id).is_none_or(|known| mark.rank() > known.rank()) {
            self.since.insert(id, mark);
        }
    }

    pub(super) fn get(&self, id: SessionId) -> Option<Mark> {
        // What was heard since is higher than what was read at first, or it would not have been kept.
        self.since.get(&id).copied().or_else(|| {
            let at = self.first.binary_search_by_key(&id, |(id, _)| *id).ok()?;
            self.first.get(at).map(|(_, mark)| *mark)
        })
    }

    /// Those behind `after` and up to `last`, ascending by id.
    pub(super) fn between(
        &self,
        after: Option<SessionId>,
        last: Option<SessionId>,
    ) -> impl Iterator<Item = (SessionId, Mark)> {
        let behind = |id: SessionId| after.is_none_or(|after| id > after);
        let up_to = |id: SessionId| last.is_none_or(|last| id <= last);
        let begin = self.first.partition_point(|(id, _)| !behind(*id));
        let end = self.first.partition_point(|(id, _)| up_to(*id)).max(begin);
        let mut first = self.first.get(begin..end).unwrap_or_default().iter().copied().peekable();
        let range = (after.map_or(Unbounded, Excluded), last.map_or(Unbounded, Included));
        let is_range = after.zip(last).is_none_or(|(after, last)| after < last);
        let mut since = is_range
            .then(|| self.since.range(range))
            .into_iter()
            .flatten()
            .map(|(id, mark)| (*id, *mark))
            .peekable();
        std::iter::from_fn(move || match (first.peek(), since.peek()) {
            (Some((old, _)), Some((new, _))) if old == new => {
                first.next();
                since.next()
            }
            (Some((old, _)), Some((new, _))) if old > new => since.next(),
            (Some(_), _) => first.next(),
            (None, _) => since.next(),
        })
    }

    pub(super) fn tips(&self) -> impl Iterator<Item = (SessionId, u64, Tip)> {
        self.between(None, None).filter_map(|(id, mark)| Some((id, mark.change, mark.tip?)))
    }

    /// The fewest lines that say the same.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> =
            (self.change > 0).then_some(Line::Change(self.change)).into_iter().collect();
        lines.extend(self.tips().map(|(id, change, tip)| Line::Tip(change, id, tip)));
        let mut goodbyes: Vec<(u64, SessionId)> = self
            .between(None, None)
            .filter(|(_, mark)| mark.tip.is_none())
            .map(|(id, mark)| (mark.change, id))
            .collect();
        goodbyes.sort_unstable_by_key(|(change, _)| std::cmp::Reverse(*change));
        lines.extend(goodbyes.into_iter().take(GOODBYES).map(|(change, id)| Line::Leaving(change, id)));
        lines
    }
}
