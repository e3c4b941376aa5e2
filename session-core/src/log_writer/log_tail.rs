//! The end of a log as known to this process.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::observer::EventContext;
use crate::record::Record;

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
        *self = Self { interrupted: true, ..Self::new(stored) };
    }
}
