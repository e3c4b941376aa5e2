//! One change within a transaction of many: checked first, so that what is refused has written nothing and undoes none of the
//! others.

use rusqlite::Connection;
use session_core::{Batch, Chain, Condition, Durability, Expected, SessionId, StorageError, Tip};
use session_storage_engine::{Folders, Marks};

use crate::rows::{self, HeadText, Unstored};

/// A transaction that holds the write lock, and what it has come to so far.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) marks: &'a Marks,
    pub(crate) folders: &'a Folders,
    /// The change that it will be.
    pub(crate) change: u64,
    /// Why nothing may be written, to whatever session.
    pub(crate) refusal: Option<StorageError>,
    /// The sessions that it touched, with their tips; `None` for those that it deleted.
    pub(crate) touched: Vec<(SessionId, Option<Tip>)>,
    /// Whether there is something to commit.
    pub(crate) is_changed: bool,
}

impl Changes<'_> {
    /// Adds a batch to a log.
    pub(crate) fn append(
        &mut self,
        id: SessionId,
        expected: Expected,
        batch: &Batch,
        head_text: Option<&HeadText>,
        durability: Durability,
    ) -> Result<Tip, Unstored> {
        let text = id.to_string();
        let actual = self.sound_tip(id, &text)?;
        batch.check(id, expected, actual, || {
            let Expected::AbsentWithin(limit) = expected else { return Ok(0) };
            count_unended(self.connection, limit.get()).map_err(|error| StorageError::Io {
                what: "cannot count the sessions that have not ended".to_owned(),
                source: std::sync::Arc::new(error),
            })
        })?;
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        let Some((head, head_text)) = batch.head().zip(head_text) else {
            // A flush: what is known to be flushed needs none.
            let Some(tip) = actual else { return Err(StorageError::NotFound { id }.into()) };
            if durability == Durability::Flushed && self.marks.tip(id) != Some(tip) {
                self.touch(id, Some(tip));
            }
            return Ok(tip);
        };
        sealed(id, actual, batch)?;
        rows::add(self.connection, &text, batch.records())?;
        rows::set_head(self.connection, &text, head, head_text)?;
        if actual.is_none() {
            rows::set_labels(self.connection, &text, head)?;
        }
        self.touch(id, Some(head.tip));
        Ok(head.tip)
    }

    /// Removes a session.
    pub(crate) fn delete(&mut self, id: SessionId, tip: Tip) -> Result<(), Unstored> {
        let text = id.to_string();
        let actual = self.sound_tip(id, &text)?.ok_or(StorageError::NotFound { id })?;
        if actual != tip {
            return Err(StorageError::Conflict { id, expected: Some(tip), actual: Some(actual) }.into());
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        // Before the commit, or a crash in between would leave a mark of something that nobody has lost.
        self.marks.record_deletion(self.change, id)?;
        rows::remove(self.connection, &text)?;
        self.touch(id, None);
        Ok(())
    }

    fn touch(&mut self, id: SessionId, tip: Option<Tip>) {
        self.touched.retain(|(touched, _)| *touched != id);
        self.touched.push((id, tip));
        self.is_changed = true;
    }

    /// The end of a session's log; `None` where there is none. What costs nothing that was acknowledged is mended on the
    /// way; a session that has lost something is refused.
    pub(crate) fn sound_tip(&mut self, id: SessionId, text: &str) -> Result<Option<Tip>, Unstored> {
        let mark = self.marks.tip(id).filter(|_| !self.touched.iter().any(|(touched, _)| *touched == id));
        let tip = rows::tip(self.connection, text)?;
        let last = rows::last(self.connection, text)?;
        let known =
            mark.is_none_or(|mark| tip.is_some_and(|tip| mark == tip || mark.revision < tip.revision));
        if tip == last && known {
            return Ok(tip);
        }
        let Some(found) = rows::audit(self.connection, id, mark)? else { return Ok(None) };
        if let Some(refusal) = found.audit.refusal() {
            return Err(refusal.into());
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        self.mend(id, &found)?;
        Ok(found.audit.tip())
    }

    /// Puts away what stands behind the records, and makes the head and what one searches for anew from them. What is
    /// wrong with them has cost nothing that was acknowledged.
    pub(crate) fn mend(&mut self, id: SessionId, found: &rows::Found) -> Result<(), Unstored> {
        let (audit, text) = (&found.audit, id.to_string());
        let is_behind = !audit.behind().is_empty();
        if is_behind {
            let why = Condition::Degraded.as_str();
            self.folders.keep(id, why, audit.readable(), audit.behind())?;
            rows::cut(self.connection, &text, audit.readable())?;
        }
        if let Some(head) = audit.head()
            && (is_behind || audit.has_stale_head() || found.is_misfiled)
        {
            rows::set_head(self.connection, &text, head, &HeadText::of(head)?)?;
            rows::set_labels(self.connection, &text, head)?;
            self.touch(id, Some(head.tip));
        }
        Ok(())
    }
}

/// Counts sessions that have not ended, no further than one needs to know.
fn count_unended(connection: &Connection, limit: usize) -> rusqlite::Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM sessions WHERE ended IS NULL LIMIT ?1)")?
        .query_row([limit], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Whether a batch is one of this session and follows what is there.
pub(crate) fn sealed(id: SessionId, actual: Option<Tip>, batch: &Batch) -> Result<(), StorageError> {
    let misfit = |what: String| StorageError::InvalidArgument { what };
    if batch.head().is_some_and(|head| head.id != id) {
        return Err(misfit(format!("the head is not that of session {id}")));
    }
    let mut chain = actual.map_or(Chain::start(id), |tip| Chain::at(id, tip));
    for record in batch.records() {
        chain
            .follow(record)
            .map_err(|error| misfit(format!("revision {} does not follow: {error}", record.revision())))?;
    }
    Ok(())
}
