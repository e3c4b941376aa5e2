//! What changes the database: appends and deletions, decided and applied one after another on one thread, flushed together.

use std::sync::{Arc, PoisonError};

use session_core::{
    AcceptedLoss, Batch, Chain, Condition, Durability, Expected, Head, ReconcileReport, RepairReport,
    SessionId, StorageError, Tip,
};

use crate::db::{Change, Db, Meta};
use crate::durable::Durable;
use crate::engine::{Engine, Looked};
use crate::error::{Fault, unavailable};
use crate::files;

/// What is asked of the writer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Records are to be added.
    Append(Box<Append>),
    /// A session is to go.
    Delete { id: SessionId, tip: Tip },
    /// A session is to be mended.
    Repair { id: SessionId, acceptance: AcceptedLoss },
    /// The store is to be mended.
    Reconcile,
}

/// Records that are to be added.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) id: SessionId,
    pub(crate) expected: Expected,
    pub(crate) batch: Batch,
    pub(crate) durability: Durability,
}

/// What the writer answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Tip(Tip),
    Deleted,
    Repaired(RepairReport),
    Reconciled(ReconcileReport),
    /// Nobody knows; never given to anybody.
    ChainError,
}

pub(crate) type Answered = Result<Answer, StorageError>;

impl Answer {
    pub(crate) fn tip(self) -> Result<Tip, StorageError> {
        if let Self::Tip(tip) = self { Ok(tip) } else { Err(self.unexpected()) }
    }

    pub(crate) fn repaired(self) -> Result<RepairReport, StorageError> {
        if let Self::Repaired(repaired) = self { Ok(repaired) } else { Err(self.unexpected()) }
    }

    pub(crate) fn reconciled(self) -> Result<ReconcileReport, StorageError> {
        if let Self::Reconciled(reconciled) = self { Ok(reconciled) } else { Err(self.unexpected()) }
    }

    /// Our own mistake.
    fn unexpected(&self) -> StorageError {
        unavailable(format!("the writer answered something else: {self:?}"))
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It was refused, and nothing was changed.
    Refused(StorageError),
    /// sled failed in the midst of it: nobody knows what it left.
    ChainError(Fault),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::ChainError(fault)
    }
}

impl From<sled::Error> for Stop {
    fn from(error: sled::Error) -> Self {
        Self::ChainError(error.into())
    }
}

/// Whoever changes the database: there is one.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) db: Db,
    pub(crate) durable: Durable,
    /// The last change that was applied.
    pub(crate) change: u64,
}

/// The answer to what may have been done and may not.
pub(crate) fn unknown(id: Option<SessionId>, closed: StorageError) -> StorageError {
    match id {
        Some(id) => StorageError::OutcomeUnknown { id, source: Arc::new(closed) },
        None => closed,
    }
}

impl Request {
    /// The session that it is about.
    pub(crate) const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Append(append) => Some(append.id),
            Self::Delete { id, .. } | Self::Repair { id, .. } => Some(*id),
            Self::Reconcile => None,
        }
    }

    /// About how much it adds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.batch.records().iter().map(|record| record.line().len()).sum(),
            Self::Delete { .. } | Self::Repair { .. } | Self::Reconcile => 0,
        }
    }

    fn wants_flush(&self) -> bool {
        !matches!(self, Self::Append(append) if append.durability == Durability::Buffered)
    }
}

impl Writer {
    /// Does what has queued up, and makes it as safe as was asked for. After a fault the store is closed, nothing more is
    /// done, and the answers say what is known.
    pub(crate) fn serve(&mut self, requests: Vec<Request>) -> Vec<Answered> {
        let wants: Vec<(Option<SessionId>, bool)> =
            requests.iter().map(|request| (request.session(), request.wants_flush())).collect();
        let mut answers = Vec::with_capacity(requests.len());
        let before = self.change;
        // Those up to here may have done something.
        let mut begun = 0;
        let mut done = Ok(());
        for request in requests {
            answers.push(if done.is_err() {
                Err(self.closed())
            } else {
                begun += 1;
                match self.serve_one(request) {
                    Ok(answer) => Ok(answer),
                    Err(Stop::Refused(error)) => Err(error),
                    Err(Stop::ChainError(fault)) => {
                        done = Err(());
                        self.engine.close(fault);
                        Ok(Answer::ChainError)
                    }
                }
            });
        }
        if done.is_ok() {
            let flush = answers.iter().zip(&wants).any(|(answer, (_, flush))| *flush && answer.is_ok());
            done = self.make_safe(flush, self.change != before).map_err(|fault| self.engine.close(fault));
        }
        if done.is_err() {
            for (answer, (id, _)) in
                answers.iter_mut().zip(wants).take(begun).filter(|(answer, _)| answer.is_ok())
            {
                *answer = Err(unknown(id, self.closed()));
            }
        }
        answers
    }

    fn closed(&self) -> StorageError {
        let what = format!("the store {}", self.engine.layout.root().display());
        self.engine.closed().unwrap_or(StorageError::Closed { what, source: None })
    }

    /// One flush for all.
    fn make_safe(&mut self, flush: bool, changed: bool) -> Result<(), Fault> {
        if flush && self.durable.is_dirty() {
            return self.durable.settle(&self.engine, &self.db, self.change);
        }
        if changed {
            return self.durable.hand_over(&self.db);
        }
        Ok(())
    }

    fn serve_one(&mut self, request: Request) -> Result<Answer, Stop> {
        match request {
            Request::Append(append) => {
                let Append { id, expected, batch, .. } = *append;
                self.append(id, expected, &batch).map(Answer::Tip)
            }
            Request::Delete { id, tip } => self.delete(id, tip).map(|()| Answer::Deleted),
            Request::Repair { id, acceptance } => self.repair(id, &acceptance).map(Answer::Repaired),
            Request::Reconcile => self.reconcile().map(Answer::Reconciled),
        }
    }

    fn append(&mut self, id: SessionId, expected: Expected, batch: &Batch) -> Result<Tip, Stop> {
        let (actual, cut) = self.end_of(id)?;
        let unended = || Ok(self.engine.lock().unended.len());
        batch.check(id, expected, actual, unended)?;
        let Some(head) = batch.head() else {
            return actual.ok_or(Stop::Refused(StorageError::NotFound { id }));
        };
        if let Some(error) = self.engine.behind() {
            return Err(error.into());
        }
        let mut chain = actual.map_or(Chain::start(id), |tip| Chain::at(id, tip));
        for record in batch.records() {
            chain.follow(record).map_err(|error| StorageError::InvalidArgument {
                what: format!("revision {} of session {id} cannot be stored: {error}", record.revision()),
            })?;
        }
        let mut change = self.next_change();
        if let Some(after) = cut {
            change.take_lines(&self.db, id, after + 1)?;
        }
        for record in batch.records() {
            change.put_line(id, record.revision(), record.line().as_bytes());
        }
        change.put_head(head);
        self.apply(change)?;
        self.remember(id, Some(head));
        Ok(head.tip)
    }

    fn delete(&mut self, id: SessionId, tip: Tip) -> Result<(), Stop> {
        let Some(Looked { audit }) = self.engine.audit(&self.db, id)? else {
            return Err(StorageError::NotFound { id }.into());
        };
        if audit.condition() == Condition::Corrupt {
            return Err(audit.damage().into());
        }
        if audit.tip() != Some(tip) {
            return Err(StorageError::Conflict { id, expected: Some(tip), actual: audit.tip() }.into());
        }
        if let Some(error) = self.engine.behind() {
            return Err(error.into());
        }
        // A database that comes back without the session has then not lost it.
        self.engine.marks.record_deletion(self.change + 1, id)?;
        let mut change = self.next_change();
        change.take_lines(&self.db, id, 0)?;
        change.take_head(id);
        self.apply(change)?;
        self.remember(id, None);
        // It is gone for good before what belongs to it is.
        self.durable.settle(&self.engine, &self.db, self.change)?;
        let folders = self.engine.layout.folders();
        let quarantined = folders.quarantine().join(id.to_string());
        if let Err(error) = folders.remove_session(id).and_then(|()| files::remove(&quarantined)) {
            tracing::warn!(session = %id, %error, "a part of a deleted session is left");
        }
        Ok(())
    }

    /// How a log ends, if there is one, and from where on it is to be cut, if what follows is no record. What is cut is
    /// kept.
    fn end_of(&self, id: SessionId) -> Result<(Option<Tip>, Option<u64>), Stop> {
        if let Some(tip) = self.engine.lock().tip(id) {
            return Ok((Some(tip), None));
        }
        let Some(Looked { audit }) = self.engine.audit(&self.db, id)? else { return Ok((None, None)) };
        if let Some(refusal) = audit.refusal() {
            return Err(refusal.into());
        }
        if audit.behind().is_empty() {
            if let (Some(tip), false) = (audit.tip(), audit.has_stale_head()) {
                self.engine.lock().know(id, tip);
            }
            return Ok((audit.tip(), None));
        }
        self.engine.layout.folders().keep(id, "degraded", audit.readable(), audit.behind())?;
        Ok((audit.tip(), Some(audit.readable())))
    }

    /// The next change, empty but for its number.
    pub(crate) fn next_change(&self) -> Change {
        Change::new(Meta { store: self.engine.store, change: self.change + 1 })
    }

    /// Applies a change while nobody looks.
    pub(crate) fn apply(&mut self, change: Change) -> Result<(), Fault> {
        let alone = self.engine.db.write().unwrap_or_else(PoisonError::into_inner);
        let applied = self.db.apply(change);
        drop(alone);
        applied?;
        self.change += 1;
        Ok(())
    }

    /// After a change of a session: tells those who follow it.
    pub(crate) fn remember(&mut self, id: SessionId, head: Option<&Head>) {
        self.durable.changed(id, head.map(|head| head.tip));
        self.engine.lock().changed(id, head);
        self.engine.changes.notify_waiters();
    }
}
