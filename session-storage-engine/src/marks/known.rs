//! What the lines of a file of marks come to, in whatever order they were written.

use std::collections::BTreeMap;
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
    pub(super) sessions: BTreeMap<SessionId, Mark>,
    pub(super) change: u64,
    pub(super) lines: usize,
}

impl Known {
    /// Reads on in the file. The first time there may be very many lines: sorted once, they are a map sooner.
    pub(super) fn read(&mut self, file: &mut Open, path: &Path) -> Result<(), StorageError> {
        let is_first = self.sessions.is_empty();
        let mut first = Vec::new();
        file.read(path, |line| {
            self.lines += 1;
            match line.and_then(|line| self.note(line)) {
                Some(mark) if is_first => first.push(mark),
                Some((id, mark)) => self.hear(id, mark),
                None => {}
            }
        })?;
        if is_first {
            first.sort_unstable_by_key(|(id, mark)| (*id, mark.rank()));
            // Of lines about the same session the last one stays.
            self.sessions = first.into_iter().collect();
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
        let known = self.sessions.entry(id).or_insert(mark);
        if mark.rank() > known.rank() {
            *known = mark;
        }
    }

    pub(super) fn tips(&self) -> impl Iterator<Item = (SessionId, u64, Tip)> {
        self.sessions.iter().filter_map(|(id, mark)| Some((*id, mark.change, mark.tip?)))
    }

    /// The fewest lines that say the same.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> =
            (self.change > 0).then_some(Line::Change(self.change)).into_iter().collect();
        lines.extend(self.tips().map(|(id, change, tip)| Line::Tip(change, id, tip)));
        let mut goodbyes: Vec<(u64, SessionId)> = self
            .sessions
            .iter()
            .filter(|(_, mark)| mark.tip.is_none())
            .map(|(id, mark)| (mark.change, *id))
            .collect();
        goodbyes.sort_unstable_by_key(|(change, _)| std::cmp::Reverse(*change));
        lines.extend(goodbyes.into_iter().take(GOODBYES).map(|(change, id)| Line::Leaving(change, id)));
        lines
    }
}
