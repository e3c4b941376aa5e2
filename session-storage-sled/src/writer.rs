//! The writer: checks and applies appends and deletions one after another on one thread, and flushes them together.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use session_core::backend::{Batch, Chain, Expected, Tip};
use session_core::maintenance::{AcceptedLoss, Condition, ReconcileReport, RepairReport};
use session_core::{Durability, Head, SessionId, StorageError};

use crate::db::{ChangeSet, Db, Meta};
use crate::durable::Durable;
use crate::engine::Engine;
use crate::error::{Fault, unavailable};
use crate::{files, rows};

/// Bytes of lines above which an import is stored in parts.
const LONG_BYTES: u64 = 256 * 1024;
/// Bytes of lines of such an import that are stored at a time, less than one record may have: of what sled holds while
/// it stores them, the allocator keeps several times as much.
const PART_BYTES: usize = 64 * 1024;
/// Parts of lines that are removed at a time.
const PARTS_REMOVED: usize = 128;

/// A request to the writer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Append records.
    Append(Box<Append>),
    /// Delete a session.
    Delete { id: SessionId, tip: Tip },
    /// Repair a session.
    Repair { id: SessionId, acceptance: AcceptedLoss },
    /// Repair what crashes left in the store.
    Reconcile,
}

/// The records to append.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) id: SessionId,
    pub(crate) expected: Expected,
    pub(crate) batch: Batch,
    pub(crate) durability: Durability,
}

/// The response to a request.
#[derive(Debug)]
pub(crate) enum Response {
    Tip(Tip),
    Deleted,
    Repaired(RepairReport),
    Reconciled(ReconcileReport),
    /// An unknown outcome, replaced by an error before the reply.
    Unknown,
}

pub(crate) type Reply = Result<Response, StorageError>;

impl Response {
    pub(crate) fn tip(self) -> Result<Tip, StorageError> {
        if let Self::Tip(tip) = self { Ok(tip) } else { Err(self.unexpected()) }
    }

    pub(crate) fn repaired(self) -> Result<RepairReport, StorageError> {
        if let Self::Repaired(repaired) = self { Ok(repaired) } else { Err(self.unexpected()) }
    }

    pub(crate) fn reconciled(self) -> Result<ReconcileReport, StorageError> {
        if let Self::Reconciled(reconciled) = self { Ok(reconciled) } else { Err(self.unexpected()) }
    }

    /// Creates the error of a response that does not match its request, a bug.
    fn unexpected(&self) -> StorageError {
        unavailable(format!("bug: the writer sent an unexpected response: {self:?}"))
    }
}

/// The error of a request that was not done.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The request was refused, and nothing was changed.
    Refused(StorageError),
    /// sled failed during the request: the state of the database is unknown.
    Fault(Fault),
}

impl From<StorageError> for WriteError {
    fn from(error: StorageError) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<sled::Error> for WriteError {
    fn from(error: sled::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// The only writer to the database.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) db: Db,
    pub(crate) durable: Durable,
    /// The last change that was applied.
    pub(crate) change: u64,
    /// Bytes of reserved room that were given up to open the database.
    pub(crate) given_up: u64,
}

/// Creates the error of a request that may or may not have been done.
pub(crate) fn outcome_unknown(id: Option<SessionId>, closed: StorageError) -> StorageError {
    match id {
        Some(id) => StorageError::OutcomeUnknown { id, source: Arc::new(closed) },
        None => closed,
    }
}

impl Request {
    /// Returns the session of the request.
    pub(crate) const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Append(append) => Some(append.id),
            Self::Delete { id, .. } | Self::Repair { id, .. } => Some(*id),
            Self::Reconcile => None,
        }
    }

    /// Returns the approximate size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => usize::try_from(append.batch.bytes()).unwrap_or(usize::MAX),
            Self::Delete { .. } | Self::Repair { .. } | Self::Reconcile => 0,
        }
    }

    fn wants_flush(&self) -> bool {
        !matches!(self, Self::Append(append) if append.durability == Durability::Buffered)
    }
}

impl Writer {
    /// Processes queued requests with the requested durability. After a fault the store is closed, the remaining
    /// requests are not done, and the replies say which outcomes are unknown.
    pub(crate) fn process(&mut self, requests: Vec<Request>) -> Vec<Reply> {
        let targets: Vec<(Option<SessionId>, bool)> =
            requests.iter().map(|request| (request.session(), request.wants_flush())).collect();
        let mut replies = Vec::with_capacity(requests.len());
        let before = self.change;
        // The requests up to here may have changed something.
        let mut started = 0;
        let mut result = Ok(());
        for request in requests {
            replies.push(if result.is_err() {
                Err(self.closed())
            } else {
                started += 1;
                match self.process_one(request) {
                    Ok(reply) => Ok(reply),
                    Err(WriteError::Refused(error)) => Err(error),
                    Err(WriteError::Fault(fault)) => {
                        result = Err(());
                        self.engine.close(fault);
                        Ok(Response::Unknown)
                    }
                }
            });
        }
        if result.is_ok() {
            let flush = replies.iter().zip(&targets).any(|(reply, (_, flush))| *flush && reply.is_ok());
            result = self.flush_group(flush, self.change != before).map_err(|fault| self.engine.close(fault));
        }
        if result.is_err() {
            for (reply, (id, _)) in
                replies.iter_mut().zip(targets).take(started).filter(|(reply, _)| reply.is_ok())
            {
                *reply = Err(outcome_unknown(id, self.closed()));
            }
        }
        replies
    }

    fn closed(&self) -> StorageError {
        let what = format!("the store {}", self.engine.layout.root().display());
        self.engine.closed().unwrap_or(StorageError::Closed { what, source: None })
    }

    /// Flushes once for all requests.
    fn flush_group(&mut self, flush: bool, changed: bool) -> Result<(), Fault> {
        if flush && self.durable.is_dirty() {
            return self.durable.flush_durably(&self.engine, &self.db, self.change);
        }
        if changed {
            return self.durable.flush_buffered(&self.db);
        }
        Ok(())
    }

    fn process_one(&mut self, request: Request) -> Result<Response, WriteError> {
        let damage = self.engine.lock().format_damage;
        if let Some(damage) = damage
            && !matches!(request, Request::Reconcile)
        {
            return Err(damage.error(&self.engine.layout).into());
        }
        match request {
            Request::Append(append) => {
                let Append { id, expected, batch, .. } = *append;
                self.append(id, expected, &batch).map(Response::Tip)
            }
            Request::Delete { id, tip } => self.delete(id, tip).map(|()| Response::Deleted),
            Request::Repair { id, acceptance } => self.repair(id, &acceptance).map(Response::Repaired),
            Request::Reconcile => self.reconcile().map(Response::Reconciled),
        }
    }

    fn append(&mut self, id: SessionId, expected: Expected, batch: &Batch) -> Result<Tip, WriteError> {
        let (actual, cut) = self.verified_end(id)?;
        batch.check(id, expected, actual, || Ok(self.engine.lock().places(id)))?;
        let Some(head) = batch.head() else {
            return actual.ok_or(WriteError::Refused(StorageError::NotFound { id }));
        };
        if let Some(error) = self.engine.behind_marks() {
            return Err(error.into());
        }
        let mut chain = actual.map_or(Chain::start(id), |tip| Chain::at(id, tip));
        for record in batch.records() {
            let record = record?;
            chain.follow(&record).map_err(|error| StorageError::InvalidArgument {
                what: format!("revision {} of session {id} cannot be stored: {error}", record.revision()),
            })?;
        }
        if actual.is_none() && cut.is_none() && batch.bytes() > LONG_BYTES {
            self.import(id, batch, head)?;
            return Ok(head.tip);
        }
        let mut change = self.next_change();
        if let Some(after) = cut {
            change.remove_lines(&self.db, id, after + 1)?;
        }
        for record in batch.records() {
            let record = record?;
            change.put_line(id, record.revision(), record.line().as_bytes());
        }
        change.put_head(head);
        self.apply(change)?;
        self.record_change(id, Some(head));
        Ok(head.tip)
    }

    /// Stores a complete log that is too long for one batch of sled, in parts. Until the last part, which has the head,
    /// the session does not exist.
    fn import(&mut self, id: SessionId, batch: &Batch, head: &Head) -> Result<(), WriteError> {
        self.engine.lock().imports.insert(id);
        match self.import_parts(id, batch, head) {
            Ok(()) => {
                self.engine.lock().imports.remove(&id);
                self.record_change(id, Some(head));
                Ok(())
            }
            Err(WriteError::Refused(error)) => {
                self.discard_import(id)?;
                Err(error.into())
            }
            Err(fault) => Err(fault),
        }
    }

    fn import_parts(&mut self, id: SessionId, batch: &Batch, head: &Head) -> Result<(), WriteError> {
        let (mut change, mut bytes, mut first) = (self.next_change(), 0, None);
        change.begin_import(id);
        for record in batch.records() {
            let record = record?;
            for (part, stored) in rows::parts(record.line().as_bytes()) {
                let last = (record.revision(), part);
                first = first.or(Some(last));
                change.put_part(id, last.0, part, stored);
                bytes += stored.len();
                if bytes >= PART_BYTES {
                    self.apply_part(change)?;
                    self.db.evict(id, first.take().unwrap_or(last), last)?;
                    (change, bytes) = (self.next_change(), 0);
                }
            }
        }
        change.end_import(id);
        change.put_head(head);
        Ok(self.apply(change)?)
    }

    /// Applies a part of a long change, and writes it to the system: sled holds in memory what is not written yet.
    fn apply_part(&mut self, change: ChangeSet) -> Result<(), Fault> {
        self.apply(change)?;
        self.durable.flush_buffered(&self.db)?;
        self.engine.progress.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what there is of an import that was not completed.
    pub(crate) fn discard_import(&mut self, id: SessionId) -> Result<(), Fault> {
        loop {
            let mut change = self.next_change();
            if !change.remove_first_parts(&self.db, id, PARTS_REMOVED)? {
                change.end_import(id);
                self.apply(change)?;
                self.durable.record_change(id, None);
                self.engine.lock().imports.remove(&id);
                return Ok(());
            }
            self.apply_part(change)?;
        }
    }

    fn delete(&mut self, id: SessionId, tip: Tip) -> Result<(), WriteError> {
        let Some(audit) = self.engine.audit(&self.db, id)? else {
            return Err(StorageError::NotFound { id }.into());
        };
        if audit.condition() == Condition::Corrupt {
            return Err(audit.damage().into());
        }
        if audit.tip() != Some(tip) {
            return Err(StorageError::Conflict { id, expected: Some(tip), actual: audit.tip() }.into());
        }
        if let Some(error) = self.engine.behind_marks() {
            return Err(error.into());
        }
        // On a full disk, deletions get the reserved room.
        let reserve = self.engine.layout.reserve();
        let was_reserved = reserve.release_if_full();
        // Before the deletion: without the session, the database would otherwise look as if it had lost it.
        self.engine.marks.record_deletion(self.change + 1, id)?;
        let mut change = self.next_change();
        change.remove_head(id);
        if self.db.parts(id, 0, None).nth(PARTS_REMOVED).is_none() {
            change.remove_lines(&self.db, id, 0)?;
            self.apply(change)?;
        } else {
            // A batch of all lines would take many times their memory: as those of an import that was not completed,
            // they are no records any more, and are removed in parts.
            change.begin_import(id);
            self.engine.lock().imports.insert(id);
            self.apply(change)?;
            self.discard_import(id)?;
        }
        self.record_change(id, None);
        // The deletion is flushed before the session's folder is removed.
        self.durable.flush_durably(&self.engine, &self.db, self.change)?;
        let folders = self.engine.layout.folders();
        let quarantined = folders.quarantine().join(id.to_string());
        if let Err(error) = folders.remove_session(id).and_then(|()| files::remove(&quarantined)) {
            tracing::warn!(session = %id, %error, "could not remove all files of a deleted session");
        }
        if was_reserved {
            reserve.refill();
            self.given_up = 0;
        }
        Ok(())
    }

    /// Returns the tip of a log, if there is one, and the revision after which to cut it, if invalid lines follow.
    /// These are quarantined.
    fn verified_end(&self, id: SessionId) -> Result<(Option<Tip>, Option<u64>), WriteError> {
        if let Some(tip) = self.engine.lock().tip(id) {
            return Ok((Some(tip), None));
        }
        let Some(audit) = self.engine.audit(&self.db, id)? else { return Ok((None, None)) };
        if let Some(refusal) = audit.refusal() {
            return Err(refusal.into());
        }
        if audit.behind() == 0 {
            if let (Some(tip), false) = (audit.tip(), audit.has_stale_head()) {
                self.engine.lock().remember_tip(id, tip);
            }
            return Ok((audit.tip(), None));
        }
        self.quarantine_behind(id, "degraded", &audit)?;
        Ok((audit.tip(), Some(audit.readable())))
    }

    /// Creates the next change set, which only sets the change counter.
    pub(crate) fn next_change(&self) -> ChangeSet {
        ChangeSet::new(Meta { store: self.engine.store, change: self.change + 1 })
    }

    /// Applies a change set while no reader has the database.
    pub(crate) fn apply(&mut self, change: ChangeSet) -> Result<(), Fault> {
        let exclusive = self.engine.db.write().unwrap_or_else(PoisonError::into_inner);
        let applied = self.db.apply(change);
        drop(exclusive);
        applied?;
        self.change += 1;
        Ok(())
    }

    /// Records the new head of a session, and wakes its followers.
    pub(crate) fn record_change(&mut self, id: SessionId, head: Option<&Head>) {
        self.durable.record_change(id, head.map(|head| head.tip));
        self.engine.lock().update(id, head);
        self.engine.changes.notify_waiters();
    }
}
