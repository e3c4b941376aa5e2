//! Values of steps: the parts that a log has of one, read in order.

use std::collections::VecDeque;

use session_core::{Result, Session, SessionEvent};

use crate::table::Parts;

/// A reader of a recorded value, one part at a time: a value may be larger than a record.
#[derive(Debug)]
pub struct ValueReader {
    start: u64,
    after: u64,
    last: u64,
    read: VecDeque<Vec<u8>>,
}

impl ValueReader {
    pub(super) const fn new(start: u64, parts: Parts) -> Self {
        Self { start, after: parts.first.saturating_sub(1), last: parts.last, read: VecDeque::new() }
    }

    /// Returns the next part; `None` after the last one.
    ///
    /// # Errors
    /// Failures of the storage.
    pub async fn next_part(&mut self, session: &Session) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(part) = self.read.pop_front() {
                return Ok(Some(part));
            }
            if self.after >= self.last {
                return Ok(None);
            }
            let page = session.read_log(self.after).await?;
            let Some(end) = page.last() else { return Ok(None) };
            let end = end.envelope.seq;
            for record in page {
                let is_ours = record.envelope.seq <= self.last;
                if let SessionEvent::StepValue { start, part } = record.event
                    && start == self.start
                    && is_ours
                {
                    self.read.push_back(part);
                }
            }
            self.after = end;
        }
    }

    /// Reads the whole value.
    ///
    /// # Errors
    /// Failures of the storage.
    pub async fn read_all(mut self, session: &Session) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(part) = self.next_part(session).await? {
            all.extend(part);
        }
        Ok(all)
    }
}
