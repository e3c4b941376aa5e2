//! The end of a log as known to this process.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::time::Instant;

use crate::event::{Role, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::observer::EventContext;
use crate::record::{Record, Tip};
use crate::storage::Expected;

/// The end of a log as known to this process.
#[derive(Debug)]
pub(crate) struct LogTail {
    pub(crate) head: Head,
    /// The highest revision that is known to be flushed.
    pub(crate) flushed: u64,
    /// Events that are in the log and not yet delivered.
    pending_events: VecDeque<(EventContext, Arc<SessionEvent>)>,
    /// The time since which the log has records that are not known to be flushed.
    pub(crate) unflushed_since: Option<Instant>,
    /// `true` if another process appended `interrupted` since this tail was created. An owner that reads it no longer
    /// owns the session.
    pub(crate) interrupted: bool,
    /// `true` if this process owns the session, so that nothing but this tail appends events of the owner.
    is_owners: bool,
    /// Records of appends that ended without an answer: the log may have them, or get them while its tip is this one.
    unanswered: Vec<Tip>,
    /// `true` if the log has an event of the owner that this process did not append: another copy of it runs, on a
    /// cloned machine. Neither may continue next to the other.
    pub(crate) is_copied: bool,
}

impl LogTail {
    pub(crate) fn new(head: Head) -> Self {
        let unflushed_since = (head.flushed < head.tip.revision).then(Instant::now);
        Self {
            flushed: head.flushed,
            head,
            pending_events: VecDeque::new(),
            unflushed_since,
            interrupted: false,
            is_owners: false,
            unanswered: Vec::new(),
            is_copied: false,
        }
    }

    /// Takes note that this process owns the session from now on. Interruptions of previous owners do not concern it.
    pub(crate) fn become_owner(&mut self) {
        (self.interrupted, self.is_owners) = (false, true);
    }

    /// Takes note of records before they are appended.
    pub(crate) fn begin_append(&mut self, records: &[Record]) {
        self.unanswered.extend(records.iter().map(Record::tip));
    }

    /// Takes note that an append was refused, so that none of its records is in the log.
    pub(crate) fn append_refused(&mut self, records: usize) {
        self.unanswered.truncate(self.unanswered.len().saturating_sub(records));
    }

    /// Takes note that the log has moved: what has not been appended by now was refused.
    pub(crate) fn moved(&mut self) {
        self.unanswered.clear();
    }

    /// Folds in a record that was read from the log.
    pub(crate) fn read(&mut self, tip: Tip, event: &SessionEvent) {
        self.interrupted |= matches!(event, SessionEvent::Interrupted { .. });
        let is_ours = !self.is_owners || self.interrupted || self.unanswered.contains(&tip);
        self.is_copied |= event.kind().role() == Role::Owner && !is_ours;
    }

    /// Returns the expectation of an append that leads to this head: an unowned session that gets an owner needs a free
    /// place within the limit, if there is one. A session that holds its place keeps it.
    pub(crate) fn expected_for(&self, next: &Head, limit: Option<NonZeroUsize>) -> Expected {
        match limit {
            Some(limit) if next.holds_place() && !self.head.holds_place() => {
                Expected::AtWithin(self.head.tip, limit)
            }
            Some(_) | None => Expected::At(self.head.tip),
        }
    }

    pub(crate) fn mark_flushed(&mut self, flushed: u64) {
        self.flushed = self.flushed.max(flushed);
        self.unflushed_since = if self.flushed >= self.head.tip.revision {
            None
        } else {
            self.unflushed_since.or_else(|| Some(Instant::now()))
        };
    }

    /// Adds the event of a record that the head covers to those to deliver.
    pub(crate) fn add_pending(&mut self, id: SessionId, record: Record) {
        let envelope = record.envelope;
        let context = EventContext::new(id, envelope.seq, envelope.at, envelope.attempt);
        self.pending_events.push_back((context, Arc::new(record.event)));
    }

    /// Takes the next event that is flushed and not yet delivered.
    pub(crate) fn next_flushed(&mut self) -> Option<(EventContext, Arc<SessionEvent>)> {
        let (context, _) = self.pending_events.front()?;
        if context.revision <= self.flushed { self.pending_events.pop_front() } else { None }
    }

    /// Restarts from the stored head, after the log lost records that were read from it: it was repaired with loss.
    pub(crate) fn reset_to(&mut self, stored: Head) {
        tracing::warn!(session = %stored.id, revision = stored.tip.revision, "the log lost records that were read before");
        *self = Self { interrupted: true, is_owners: self.is_owners, ..Self::new(stored) };
    }
}
