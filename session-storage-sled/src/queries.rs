//! Queries: pages of records, lists, and checks of health. They run on threads that may block.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use session_core::backend::{HeadPage, PageRoom, RecordPage};
use session_core::maintenance::{Condition, SessionHealth};
use session_core::{Head, SessionFilter, SessionId, StorageError};
use session_storage_engine::{Page, page};

use crate::db::{Db, head_summary};
use crate::engine::Engine;
use crate::error::Fault;

impl Engine {
    /// Reads a page of records.
    pub(crate) fn records(
        &self,
        db: &Db,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        let read_error = |error: sled::Error| Fault::from(error).for_session(id);
        if self.lock().imports.contains(&id) {
            return Err(StorageError::NotFound { id });
        }
        // The mark before the database, so that a concurrent append is no false alarm.
        let mark = self.marks.tip(id);
        let head = db
            .head_row(id)
            .map_err(read_error)?
            .as_deref()
            .and_then(head_summary)
            .map(|head_summary| head_summary.tip);
        let before = if after == 0 { None } else { db.line(id, after).map_err(read_error)? };
        let (mut lines, mut room) = (Vec::new(), PageRoom::new(limit));
        let mut stored = db.lines(id, after.saturating_add(1), None);
        while room.is_left()
            && let Some(line) = stored.next()
        {
            let line = line.map_err(read_error)?;
            room.take(line.bytes.len());
            lines.push((line.revision, line.bytes));
        }
        drop(stored);
        match page(id, after, before.as_deref(), lines, &[head, mark]) {
            Page::Records(records) => return Ok(RecordPage::new(records)),
            Page::End if head.is_some() => return Ok(RecordPage::default()),
            Page::End | Page::Suspect => {}
        }
        let Some(audit) = self.audit(db, id).map_err(|fault| fault.for_session(id))? else {
            return Err(StorageError::NotFound { id });
        };
        match audit.condition() {
            Condition::Corrupt => Err(audit.damage()),
            // A head that does not match the records does not prevent reading them.
            Condition::Degraded if audit.behind() > 0 => Err(audit.damage()),
            Condition::Healthy
            | Condition::Torn
            | Condition::Degraded
            | Condition::Invalid
            | Condition::Unsupported
            | _ => Ok(RecordPage::default()),
        }
    }

    /// Reads a page of heads.
    pub(crate) fn list(
        &self,
        db: &Db,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let is_after = |id: &SessionId| after.is_none_or(|after| *id > after);
        let (mut inconsistent, unended) = {
            let state = self.lock();
            let inconsistent: BTreeSet<SessionId> =
                state.inconsistent.iter().copied().filter(is_after).collect();
            let unended: Option<BTreeSet<SessionId>> =
                filter.only_active().then(|| state.unended.iter().copied().filter(is_after).collect());
            (inconsistent, unended)
        };
        let mut builder = PageBuilder { filter, limit: limit.get(), page: HeadPage::default() };
        if let Some(unended) = unended {
            inconsistent.extend(unended);
        } else {
            for row in db.heads(after) {
                let (id, row) = row.map_err(|error| self.list_error(error))?;
                // First the inconsistent sessions before this one.
                let rest = inconsistent.split_off(&id);
                for id in std::mem::replace(&mut inconsistent, rest) {
                    if builder.add(id, self.head(db, id)) {
                        return Ok(builder.page);
                    }
                }
                inconsistent.remove(&id);
                if builder.add(id, self.head_of_row(db, id, Some(&row))) {
                    return Ok(builder.page);
                }
            }
        }
        for id in inconsistent {
            if builder.add(id, self.head(db, id)) {
                return Ok(builder.page);
            }
        }
        builder.page.next = None;
        Ok(builder.page)
    }

    fn list_error(&self, error: sled::Error) -> StorageError {
        let fault = Fault::from(error);
        StorageError::Unavailable {
            what: format!(
                "cannot list all sessions: a part of the database of {} cannot be read; single sessions can still be read \
                 by id",
                self.layout.root().display()
            ),
            source: Some(std::sync::Arc::new(fault)),
        }
    }

    /// Checks the health of one session; `None` if it does not exist.
    pub(crate) fn verify(&self, db: &Db, id: SessionId) -> Result<Option<SessionHealth>, StorageError> {
        let Some(audit) = self.audit(db, id).map_err(|fault| fault.for_session(id))? else {
            return Ok(None);
        };
        let mut health = audit.health(self.layout.folders().losses(id)?);
        if let (Condition::Healthy, Some(behind)) = (health.condition, self.behind_marks()) {
            // The session has lost nothing that is marked, but it cannot be written.
            health.condition = Condition::Degraded;
            health.problem = Some(behind);
        }
        Ok(Some(health))
    }

    /// Returns all sessions that have rows or marks.
    pub(crate) fn sessions(&self, db: &Db) -> Result<BTreeSet<SessionId>, StorageError> {
        self.all(db).map_err(|fault| match fault {
            Fault::Sled(error) => self.list_error(error),
            fault @ (Fault::Flush(_) | Fault::Panic(_) | Fault::Hang(_)) => StorageError::Unavailable {
                what: "cannot read the database".to_owned(),
                source: Some(std::sync::Arc::new(fault)),
            },
        })
    }
}

/// A page of heads under construction.
struct PageBuilder<'a> {
    filter: &'a SessionFilter,
    limit: usize,
    page: HeadPage,
}

impl PageBuilder<'_> {
    /// Adds a session. Returns `true` if the page was full already, so that it ends at the previous session.
    fn add(&mut self, id: SessionId, head: Result<Option<Head>, StorageError>) -> bool {
        if self.page.heads.len() >= self.limit {
            return true;
        }
        match head {
            Ok(Some(head)) if self.filter.matches(&head) => self.page.heads.push(head),
            Ok(_) => {}
            Err(error) => self.page.unreadable.push((id, error)),
        }
        self.page.next = Some(id);
        false
    }
}
