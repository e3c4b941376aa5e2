//! The changes of one transaction. Each is checked first, so that a refused one has written nothing and undoes none of
//! the others.

use rusqlite::Connection;
use session_core::backend::{Batch, Chain, Expected, Tip};
use session_core::maintenance::Condition;
use session_core::{Durability, SessionId, StorageError};
use session_storage_engine::{Folders, Marks, Reserve};

use crate::rows::{self, HeadText, WriteError};
use crate::statement_limit::StatementLimit;

/// A transaction that holds the write lock, with its changes so far.
#[derive(Debug)]
pub(crate) struct ChangeSet<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) marks: &'a Marks,
    pub(crate) folders: &'a Folders,
    pub(crate) reserve: &'a Reserve,
    pub(crate) limit: &'a StatementLimit,
    /// The change counter that the transaction will set.
    pub(crate) change: u64,
    /// The error that refuses every write, to any session.
    pub(crate) refusal: Option<StorageError>,
    /// The modified sessions with their tips; `None` for deleted ones.
    pub(crate) touched: Vec<(SessionId, Option<Tip>)>,
    /// `true` if there is something to commit.
    pub(crate) is_changed: bool,
}

impl ChangeSet<'_> {
    /// Appends a batch to a log.
    pub(crate) fn append(
        &mut self,
        id: SessionId,
        expected: Expected,
        batch: &Batch,
        head_text: Option<&HeadText>,
        durability: Durability,
    ) -> Result<Tip, WriteError> {
        let text = id.to_string();
        let actual = self.verified_tip(id, &text)?;
        batch.check(id, expected, actual, || {
            let Some(limit) = expected.limit() else { return Ok(0) };
            count_places(self.connection, &text, limit.get()).map_err(|error| StorageError::Io {
                what: "cannot count the sessions with an owner or a start to come".to_owned(),
                source: std::sync::Arc::new(error),
            })
        })?;
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        let Some((head, head_text)) = batch.head().zip(head_text) else {
            // A request to flush: a tip that is known to be flushed needs none.
            let Some(tip) = actual else { return Err(StorageError::NotFound { id }.into()) };
            if durability == Durability::Flushed && self.marks.tip(id) != Some(tip) {
                self.touch(id, Some(tip));
            }
            return Ok(tip);
        };
        check_chain(id, actual, batch)?;
        rows::insert_records(self.connection, &text, batch)?;
        rows::set_head(self.connection, &text, head, head_text)?;
        if actual.is_none() {
            rows::set_labels(self.connection, &text, head)?;
        }
        self.touch(id, Some(head.tip));
        Ok(head.tip)
    }

    /// Removes a session.
    pub(crate) fn delete(&mut self, id: SessionId, tip: Tip) -> Result<(), WriteError> {
        let text = id.to_string();
        let actual = self.verified_tip(id, &text)?.ok_or(StorageError::NotFound { id })?;
        if actual != tip {
            return Err(StorageError::Conflict { id, expected: Some(tip), actual: Some(actual) }.into());
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        // Before the commit: after a crash in between, a mark of the deleted session would look like a loss.
        match self.marks.record_deletion(self.change, id) {
            Err(StorageError::Full { .. }) if self.reserve.release() => {
                self.marks.record_deletion(self.change, id)?;
            }
            recorded => recorded?,
        }
        rows::remove_session(self.connection, &text)?;
        self.touch(id, None);
        Ok(())
    }

    fn touch(&mut self, id: SessionId, tip: Option<Tip>) {
        self.touched.retain(|(touched, _)| *touched != id);
        self.touched.push((id, tip));
        self.is_changed = true;
    }

    /// Returns the end of a session's log; `None` if there is none. Repairs damage that cost nothing acknowledged, and
    /// refuses a session that has lost something.
    pub(crate) fn verified_tip(&mut self, id: SessionId, text: &str) -> Result<Option<Tip>, WriteError> {
        let mark = self.marks.tip(id).filter(|_| !self.touched.iter().any(|(touched, _)| *touched == id));
        let tip = rows::row_tip(self.connection, text)?;
        let last = rows::last_tip(self.connection, text)?;
        let covers_mark =
            mark.is_none_or(|mark| tip.is_some_and(|tip| mark == tip || mark.revision < tip.revision));
        if tip == last && covers_mark {
            return Ok(tip);
        }
        let Some(found) = rows::audit(self.connection, id, mark)? else { return Ok(None) };
        if let Some(refusal) = found.audit.refusal() {
            return Err(refusal.into());
        }
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        self.repair_rows(id, &found)?;
        Ok(found.audit.tip())
    }

    /// Quarantines what follows the records, and rebuilds head and search columns from them. Only for damage that cost
    /// nothing acknowledged.
    pub(crate) fn repair_rows(
        &mut self,
        id: SessionId,
        found: &rows::SessionAudit,
    ) -> Result<(), WriteError> {
        let (audit, text) = (&found.audit, id.to_string());
        let is_behind = audit.behind() > 0;
        if is_behind {
            let (why, readable) = (Condition::Degraded.as_str(), audit.readable());
            self.folders.quarantine_lines(id, why, readable, |lines| {
                rows::for_each_cut_line(self.connection, &text, readable, |line| lines.add(line))
            })?;
            rows::remove_after(self.connection, &text, audit.readable())?;
        }
        if let Some(head) = audit.head()
            && (is_behind || audit.has_stale_head() || found.has_stale_columns)
        {
            rows::set_head(self.connection, &text, head, &HeadText::of(head)?)?;
            rows::set_labels(self.connection, &text, head)?;
            self.touch(id, Some(head.tip));
        }
        Ok(())
    }
}

/// Counts the sessions other than `but` that hold a place, up to the limit. Heads are read only if that many are
/// active; a damaged one may hold a place.
fn count_places(connection: &Connection, but: &str, limit: usize) -> rusqlite::Result<usize> {
    const ACTIVE: &str = "FROM sessions s WHERE s.ended IS NULL AND s.id <> ?1";
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let active: i64 = connection
        .prepare_cached(&format!("SELECT count(*) FROM (SELECT 1 {ACTIVE} LIMIT ?2)"))?
        .query_row((but, most), |row| row.get(0))?;
    if active < most {
        return Ok(usize::try_from(active).unwrap_or(usize::MAX));
    }
    let mut select = connection.prepare_cached(&format!("SELECT s.id, {} {ACTIVE}", rows::COLUMNS))?;
    let mut rows = select.query([but])?;
    let mut held = 0;
    while held < limit
        && let Some(row) = rows.next()?
    {
        let id: Option<SessionId> = row.get_ref(0)?.as_str().ok().and_then(|id| id.parse().ok());
        let row = rows::SessionRow::from_row(row, 1)?;
        held += usize::from(id.and_then(|id| row.head(id)).is_none_or(|head| head.holds_place()));
    }
    Ok(held)
}

/// Checks that a batch belongs to this session and continues its log.
pub(crate) fn check_chain(id: SessionId, actual: Option<Tip>, batch: &Batch) -> Result<(), StorageError> {
    let invalid = |what: String| StorageError::InvalidArgument { what };
    if batch.head().is_some_and(|head| head.id != id) {
        return Err(invalid(format!("the head is not that of session {id}")));
    }
    let mut chain = actual.map_or(Chain::start(id), |tip| Chain::at(id, tip));
    for record in batch.records() {
        let record = record?;
        chain
            .follow(&record)
            .map_err(|error| invalid(format!("revision {} does not follow: {error}", record.revision())))?;
    }
    Ok(())
}
