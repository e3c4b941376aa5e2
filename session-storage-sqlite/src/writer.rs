//! The writer thread: all queued changes become one transaction, with one flush for those that asked for one. Write,
//! flush, mark, acknowledge: in that order, in `commit`.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use session_core::backend::Tip;
use session_core::maintenance::{AcceptedLoss, ReconcileReport, RepairReport};
use session_core::{SessionId, StorageError};
use session_storage_engine::{Folders, IoContext as _};

use crate::error::{DbContext as _, newer, storage_error, unreadable};
use crate::reflush::{reflush, reflush_marker};
use crate::request::{Job, Reply, Request, Response};
use crate::rows::WriteError;
use crate::schema;
use crate::schema_check;
use crate::store::{Access, CACHE, Db, Store};
use crate::transaction::ChangeSet;

/// Bytes of a request that is stored with a small page cache.
const LONG_BYTES: usize = 8 << 20;
/// The page cache of the writer during such a request, in KiB.
const LONG_CACHE: i64 = 2 << 10;

/// Returns `true` if a request is so long that it would fill the page cache.
fn is_long(jobs: &[Job]) -> bool {
    jobs.iter().any(|job| job.request.bytes() > LONG_BYTES)
}

/// The error of a failed transaction.
enum CommitError {
    /// The transaction was not committed.
    RolledBack(StorageError),
    /// The transaction may have been committed.
    Unknown(StorageError),
    /// The transaction was not committed, because of this one job.
    JobFailed(usize, StorageError),
}

/// The state of the writer thread.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) store: Arc<Store>,
    db: Option<Db>,
    /// `true` if the connection flushes each commit now; `None` before it is set.
    synchronous: Option<bool>,
}

impl Writer {
    pub(crate) const fn new(store: Arc<Store>) -> Self {
        Self { store, db: None, synchronous: None }
    }

    /// Processes all jobs and sends their replies.
    pub(crate) fn process(&mut self, jobs: Vec<Job>) {
        let mut changes = Vec::with_capacity(jobs.len());
        for job in jobs {
            match &job.request {
                Request::Append { .. } | Request::Delete { .. } => changes.push(job),
                Request::Repair { id, acceptance } => {
                    let reply = self.repair(*id, acceptance).map(Response::Repaired);
                    job.reply(reply);
                }
                Request::Reconcile => {
                    let reply = self.reconcile().map(Response::Reconciled);
                    job.reply(reply);
                }
            }
        }
        let deletes = |job: &Job| matches!(job.request, Request::Delete { .. });
        // On a full disk, deletions get the reserved room.
        let mut was_reserved = changes.iter().any(deletes) && self.store.reserve.release_if_full();
        while !changes.is_empty() {
            let outcome = self.transact(&changes);
            if is_long(&changes) {
                self.set_cache(CACHE);
            }
            match outcome {
                Err(
                    CommitError::RolledBack(StorageError::Full { .. })
                    | CommitError::JobFailed(_, StorageError::Full { .. }),
                ) if changes.iter().any(deletes) && self.store.reserve.release() => {
                    was_reserved = true;
                }
                Ok(replies) => {
                    for (job, reply) in changes.drain(..).zip(replies) {
                        job.reply(reply);
                    }
                }
                Err(CommitError::JobFailed(at, error)) => {
                    // The other jobs are tried again without it.
                    changes.remove(at).reply(Err(error));
                }
                Err(CommitError::RolledBack(error)) => {
                    for job in changes.drain(..) {
                        job.reply(Err(error.clone()));
                    }
                }
                Err(CommitError::Unknown(error)) => {
                    for job in changes.drain(..) {
                        let error = match job.request.id() {
                            Some(id) => StorageError::OutcomeUnknown { id, source: Arc::new(error.clone()) },
                            None => error.clone(),
                        };
                        job.reply(Err(error));
                    }
                }
            }
        }
        if was_reserved {
            // The write-ahead log goes with the last connection.
            self.db = None;
            self.store.reserve.refill();
        }
    }

    /// Sets the size of the page cache in KiB, and empties it: an import fills it with pages that are not needed again.
    fn set_cache(&self, kibibytes: i64) {
        if let Some(db) = &self.db
            && let Err(error) = db
                .connection
                .execute_batch(&format!("PRAGMA cache_size = -{kibibytes}; PRAGMA shrink_memory"))
        {
            tracing::debug!(%error, "could not change the page cache");
        }
    }

    /// Returns the open database, reopened if another file has replaced it; `None` if there is no store.
    pub(crate) fn db(&mut self) -> Result<Option<&mut Db>, StorageError> {
        if self.db.as_ref().is_some_and(|db| !self.store.is_current(db)) {
            self.db = None;
        }
        if self.db.is_none() {
            self.synchronous = None;
            self.db = self.store.connect(Access::Write)?;
            if self.db.is_some() {
                // The process that created the write-ahead log may not have flushed its name.
                let folder = self.store.path().parent().unwrap_or(self.store.path());
                session_storage_engine::sync_dir(folder).context("flush", folder)?;
            }
        }
        Ok(self.db.as_mut())
    }

    /// Applies all changes in one transaction; each has its own reply.
    fn transact(&mut self, jobs: &[Job]) -> Result<Vec<Reply>, CommitError> {
        if self.db().map_err(CommitError::RolledBack)?.is_none() {
            let refused: Vec<Option<StorageError>> =
                jobs.iter().map(|job| job.request.without_store()).collect();
            if refused.iter().all(Option::is_some) {
                return Ok(refused.into_iter().flatten().map(Err).collect());
            }
            self.store.create().map_err(CommitError::RolledBack)?;
            self.db().map_err(CommitError::RolledBack)?;
        }
        if is_long(jobs) {
            self.set_cache(LONG_CACHE);
        }
        let flushed = jobs.iter().any(|job| job.request.is_flushed());
        let (replies, deleted) = self.commit(flushed, |changes| {
            let mut replies = Vec::with_capacity(jobs.len());
            for (at, job) in jobs.iter().enumerate() {
                match apply(changes, &job.request) {
                    Ok(done) => replies.push(Ok(done)),
                    Err(WriteError::Refused(error)) => replies.push(Err(error)),
                    Err(WriteError::Sqlite(error)) => {
                        return Err(classify_statement_error(changes, at, &job.request, error));
                    }
                }
            }
            Ok(replies)
        })?;
        for id in deleted {
            if let Err(error) = self.store.folders.remove_session(id) {
                tracing::warn!(session = %id, %error, "could not remove all files of a deleted session");
            }
        }
        Ok(replies)
    }

    /// Runs `work` under the write lock, commits, with a flush if requested, and marks what was flushed. Also returns
    /// the sessions that were deleted.
    fn commit<T>(
        &mut self,
        flushed: bool,
        work: impl FnOnce(&mut ChangeSet<'_>) -> Result<T, CommitError>,
    ) -> Result<(T, Vec<SessionId>), CommitError> {
        self.begin(flushed).map_err(CommitError::RolledBack)?;
        let (store, Some(db)) = (Arc::clone(&self.store), &self.db) else {
            return Err(CommitError::RolledBack(self.store.unavailable("has disappeared: restore it")));
        };
        let committed = (|| {
            let mut changes = begin_changes(&store, db).map_err(CommitError::RolledBack)?;
            let done = work(&mut changes)?;
            let ChangeSet { change, touched, is_changed, .. } = changes;
            if !is_changed {
                return Ok((done, Vec::new()));
            }
            schema::set_meta(&db.connection, "change", crate::rows::revision_to_sql(change))
                .map_err(|error| CommitError::RolledBack(storage_error("write", store.path(), error)))?;
            if let Err(error) = execute(&db.connection, "COMMIT") {
                return Err(classify_commit_error(&store, error));
            }
            let tips: Vec<(SessionId, Tip)> =
                touched.iter().filter_map(|(id, tip)| Some((*id, (*tip)?))).collect();
            if flushed {
                // Without a mark the changes are not acknowledged, though they are flushed.
                db.marks.record_flush(change, &tips).map_err(CommitError::Unknown)?;
            }
            let deleted = touched.into_iter().filter(|(_, tip)| tip.is_none()).map(|(id, _)| id).collect();
            Ok((done, deleted))
        })();
        if !db.connection.is_autocommit() {
            drop(execute(&db.connection, "ROLLBACK"));
        }
        // A connection that cannot roll back is not used again; one whose schema may have changed is checked again.
        let is_usable = |db: &Db| db.connection.is_autocommit() && !db.limit.is_exceeded();
        let is_unexpected = |error: &CommitError| {
            matches!(
                error,
                CommitError::RolledBack(StorageError::Io { .. })
                    | CommitError::Unknown(StorageError::Io { .. })
            )
        };
        if committed
            .as_ref()
            .is_err_and(|error| is_unexpected(error) || !self.db.as_ref().is_some_and(is_usable))
        {
            self.db = None;
        }
        committed
    }

    /// Acquires the write lock, after flushing again if a flush has failed, so that nothing is committed on top of it.
    fn begin(&mut self, flushed: bool) -> Result<(), StorageError> {
        let (path, marker) = (self.store.path(), reflush_marker(&self.store.folders));
        let closed = || StorageError::Closed { what: path.display().to_string(), source: None };
        let db = self.db.as_mut().ok_or_else(closed)?;
        db.limit.restart();
        if let Some(version) = db.newer {
            return Err(newer(path, version));
        }
        if self.synchronous != Some(flushed) {
            let mode = if flushed { "FULL" } else { "NORMAL" };
            db.connection.pragma_update(None, "synchronous", mode).context("open", path)?;
            self.synchronous = Some(flushed);
        }
        for _ in 0..2 {
            execute(&db.connection, "BEGIN IMMEDIATE").context("write", path)?;
            // Under the lock: the flush of another process may have failed during the wait.
            let is_flushed = Folders::is_file(&marker).map(|is_there| !is_there);
            if matches!(is_flushed, Ok(true)) {
                return Ok(());
            }
            drop(execute(&db.connection, "ROLLBACK"));
            is_flushed?;
            reflush(db, path)?;
            std::fs::remove_file(&marker).context("remove", &marker)?;
        }
        Err(self.store.unavailable("has a failed flush: try again"))
    }

    /// Repairs one session in a separate transaction.
    fn repair(&mut self, id: SessionId, acceptance: &AcceptedLoss) -> Result<RepairReport, StorageError> {
        if self.db()?.is_none() {
            return Err(StorageError::NotFound { id });
        }
        let store = Arc::clone(&self.store);
        let done = self.commit(true, |changes| {
            changes.repair(&store, id, acceptance).map_err(|error| rolled_back(&store, error))
        });
        let (plan, _) = done.map_err(CommitError::into_error)?;
        // After the commit: until then, other processes find the session as damaged as before.
        if let (Some((change, tip)), Some(db)) = (plan.accepted, &self.db) {
            db.marks.accept_loss(change, id, tip)?;
        }
        if plan.repaired.tip.is_none() {
            self.store.folders.remove_session(id)?;
        }
        Ok(plan.repaired)
    }

    /// Repairs what crashes left, in one transaction, which is empty if nothing needs repair.
    fn reconcile(&mut self) -> Result<ReconcileReport, StorageError> {
        // Opening it again rebuilds indexes that another program has changed meanwhile.
        let is_intact = |db: &Db| matches!(schema_check::check(&db.connection, schema::VERSION), Ok(Ok(damage)) if damage.problems.is_empty());
        self.db = self.db.take().filter(|db| db.newer.is_some() || is_intact(db));
        if self.db()?.is_none() {
            return Ok(ReconcileReport::default());
        }
        let store = Arc::clone(&self.store);
        let done = self
            .commit(true, |changes| changes.reconcile(&store).map_err(|error| rolled_back(&store, error)));
        let (mut reconciled, _) = done.map_err(CommitError::into_error)?;
        if let Some(db) = &mut self.db {
            let rebuilt = std::mem::take(&mut db.rebuilt).into_iter();
            reconciled.store.extend(rebuilt.map(|problem| format!("{problem}: it was corrected")));
            reconciled.store.extend(db.marks.repair()?);
        }
        Ok(reconciled)
    }
}

impl CommitError {
    fn into_error(self) -> StorageError {
        let (Self::RolledBack(error) | Self::Unknown(error) | Self::JobFailed(_, error)) = self;
        error
    }
}

fn rolled_back(store: &Store, error: WriteError) -> CommitError {
    CommitError::RolledBack(match error {
        WriteError::Sqlite(error) => storage_error("write", store.path(), error),
        WriteError::Refused(error) => error,
    })
}

/// Starts the changes of a transaction, under the write lock.
fn begin_changes<'a>(store: &'a Store, db: &'a Db) -> Result<ChangeSet<'a>, StorageError> {
    db.marks.refresh()?;
    let found = change_counter(db).context("read", store.path())?;
    let expected = db.marks.change();
    let refusal = (found < expected).then(|| store.behind_marks(found, expected));
    Ok(ChangeSet {
        connection: &db.connection,
        marks: &db.marks,
        folders: &store.folders,
        reserve: &store.reserve,
        limit: &db.limit,
        // If a loss is accepted, the counter must be above all known ones.
        change: found.max(expected) + 1,
        refusal,
        touched: Vec::new(),
        is_changed: false,
    })
}

/// Executes a statement without parameters, prepared once.
fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// Reads the database's change counter.
pub(crate) fn change_counter(db: &Db) -> rusqlite::Result<u64> {
    let change: Option<i64> = schema::meta(&db.connection, "change")?;
    Ok(change.and_then(|change| u64::try_from(change).ok()).unwrap_or(0))
}

fn apply(changes: &mut ChangeSet<'_>, request: &Request) -> Result<Response, WriteError> {
    match request {
        Request::Append { id, expected, batch, head, durability } => {
            changes.append(*id, *expected, batch, head.as_ref(), *durability).map(Response::Appended)
        }
        Request::Delete { id, tip } => changes.delete(*id, *tip).map(|()| Response::Deleted),
        Request::Repair { .. } | Request::Reconcile => unreachable!("repairs run in separate transactions"),
    }
}

/// Classifies the error of a failed statement, after which the transaction is rolled back.
fn classify_statement_error(
    changes: &ChangeSet<'_>,
    at: usize,
    request: &Request,
    error: rusqlite::Error,
) -> CommitError {
    let path = PathBuf::from(changes.connection.path().unwrap_or_default());
    match (error.sqlite_error_code(), request.id()) {
        (Some(ErrorCode::DatabaseCorrupt), Some(id)) => CommitError::JobFailed(at, unreadable(id, &error)),
        // If one job is too large, the others may still fit.
        (Some(ErrorCode::DiskFull), _) => CommitError::JobFailed(at, storage_error("write", &path, error)),
        (Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig), _) => {
            CommitError::JobFailed(at, storage_error("write", &path, error))
        }
        _ => CommitError::RolledBack(storage_error("write", &path, error)),
    }
}

/// Classifies the error of a failed commit. Without disk space it did not take place; otherwise a crash could still
/// make it durable.
fn classify_commit_error(store: &Store, error: rusqlite::Error) -> CommitError {
    let undone = [ErrorCode::DiskFull, ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
    if error.sqlite_error_code().is_some_and(|code| undone.contains(&code)) {
        return CommitError::RolledBack(storage_error("write", store.path(), error));
    }
    // While the write lock is still held, so that no process commits on top of it.
    let marker = reflush_marker(&store.folders);
    if let Err(error) = std::fs::write(&marker, b"") {
        tracing::error!(%error, "could not write the marker of a failed flush for other processes");
    }
    CommitError::Unknown(storage_error("flush", store.path(), error))
}
