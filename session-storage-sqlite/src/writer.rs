//! The thread that writes: all that has queued up becomes one transaction, with one flush for those that asked for one. Write,
//! flush, mark, acknowledge: in that order, in `commit`.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use session_core::{AcceptedLoss, ReconcileReport, RepairReport, SessionId, StorageError, Tip};
use session_storage_engine::{Folders, IoContext as _};

use crate::change::Changes;
use crate::error::{DbContext as _, newer, storage_error, unreadable};
use crate::request::{Answer, Done, Job, Request};
use crate::rows::Unstored;
use crate::schema;
use crate::store::{Db, Store, Use};
use crate::untrusted::{make_anew, untrusted};

/// How a transaction ended that did not come about.
enum Failure {
    /// Nothing of it was done.
    Undone(StorageError),
    /// It may have been done.
    Unknown(StorageError),
    /// Nothing of it was done, because of this one job.
    Because(usize, StorageError),
}

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) store: Arc<Store>,
    db: Option<Db>,
    /// How the connection flushes now.
    synchronous: Option<bool>,
}

impl Writer {
    pub(crate) const fn new(store: Arc<Store>) -> Self {
        Self { store, db: None, synchronous: None }
    }

    /// Does all of them and answers.
    pub(crate) fn work(&mut self, jobs: Vec<Job>) {
        let mut changes = Vec::with_capacity(jobs.len());
        for job in jobs {
            match &job.request {
                Request::Append { .. } | Request::Delete { .. } => changes.push(job),
                Request::Repair { id, acceptance } => {
                    let answer = self.repair(*id, acceptance).map(Done::Repaired);
                    job.answer(answer);
                }
                Request::Reconcile => {
                    let answer = self.reconcile().map(Done::Reconciled);
                    job.answer(answer);
                }
            }
        }
        while !changes.is_empty() {
            match self.transact(&changes) {
                Ok(answers) => {
                    for (job, answer) in changes.drain(..).zip(answers) {
                        job.answer(answer);
                    }
                }
                Err(Failure::Because(at, error)) => {
                    // The others are not to suffer for it.
                    changes.remove(at).answer(Err(error));
                }
                Err(Failure::Undone(error)) => {
                    for job in changes.drain(..) {
                        job.answer(Err(error.clone()));
                    }
                }
                Err(Failure::Unknown(error)) => {
                    for job in changes.drain(..) {
                        let error = match job.request.id() {
                            Some(id) => StorageError::OutcomeUnknown { id, source: Arc::new(error.clone()) },
                            None => error.clone(),
                        };
                        job.answer(Err(error));
                    }
                }
            }
        }
    }

    /// The open database, opened anew if another has taken its place; `None` where there is no store.
    pub(crate) fn db(&mut self) -> Result<Option<&mut Db>, StorageError> {
        if self.db.as_ref().is_some_and(|db| !self.store.is_current(db)) {
            self.db = None;
        }
        if self.db.is_none() {
            self.synchronous = None;
            self.db = self.store.connect(Use::Write)?;
            if self.db.is_some() {
                // Whoever made the write-ahead log may not have made its name durable.
                let folder = self.store.path().parent().unwrap_or(self.store.path());
                session_storage_engine::sync_dir(folder).context("flush", folder)?;
            }
        }
        Ok(self.db.as_mut())
    }

    /// All changes as one transaction; each has its own answer.
    fn transact(&mut self, jobs: &[Job]) -> Result<Vec<Answer>, Failure> {
        if self.db().map_err(Failure::Undone)?.is_none() {
            let refused: Vec<Option<StorageError>> =
                jobs.iter().map(|job| job.request.without_store()).collect();
            if refused.iter().all(Option::is_some) {
                return Ok(refused.into_iter().flatten().map(Err).collect());
            }
            self.store.create().map_err(Failure::Undone)?;
            self.db().map_err(Failure::Undone)?;
        }
        let flushed = jobs.iter().any(|job| job.request.is_flushed());
        let (answers, gone) = self.commit(flushed, |changes| {
            let mut answers = Vec::with_capacity(jobs.len());
            for (at, job) in jobs.iter().enumerate() {
                match change(changes, &job.request) {
                    Ok(done) => answers.push(Ok(done)),
                    Err(Unstored::Refused(error)) => answers.push(Err(error)),
                    Err(Unstored::Sqlite(error)) => return Err(spoilt(changes, at, &job.request, error)),
                }
            }
            Ok(answers)
        })?;
        for id in gone {
            if let Err(error) = self.store.folders.remove_session(id) {
                tracing::warn!(session = %id, %error, "what belonged to a deleted session stays for now");
            }
        }
        Ok(answers)
    }

    /// Does something under the write lock, commits it, flushes it if asked, and notes what was flushed. Returns the sessions
    /// that are gone with it, too.
    fn commit<T>(
        &mut self,
        flushed: bool,
        work: impl FnOnce(&mut Changes<'_>) -> Result<T, Failure>,
    ) -> Result<(T, Vec<SessionId>), Failure> {
        self.begin(flushed).map_err(Failure::Undone)?;
        let (store, Some(db)) = (Arc::clone(&self.store), &self.db) else {
            return Err(Failure::Undone(self.store.unavailable("has vanished: put it back")));
        };
        let committed = (|| {
            let mut changes = begun(&store, db).map_err(Failure::Undone)?;
            let done = work(&mut changes)?;
            let Changes { change, touched, is_changed, .. } = changes;
            if !is_changed {
                return Ok((done, Vec::new()));
            }
            schema::set_meta(&db.connection, "change", crate::rows::number(change))
                .map_err(|error| Failure::Undone(storage_error("write", store.path(), error)))?;
            if let Err(error) = run(&db.connection, "COMMIT") {
                return Err(uncommitted(&store, error));
            }
            let tips: Vec<(SessionId, Tip)> =
                touched.iter().filter_map(|(id, tip)| Some((*id, (*tip)?))).collect();
            if flushed {
                // What is not noted is not acknowledged as flushed, though it is.
                db.marks.flushed(change, &tips).map_err(Failure::Unknown)?;
            }
            let gone = touched.into_iter().filter(|(_, tip)| tip.is_none()).map(|(id, _)| id).collect();
            Ok((done, gone))
        })();
        if !db.connection.is_autocommit() {
            drop(run(&db.connection, "ROLLBACK"));
        }
        if committed.is_err() && !self.db.as_ref().is_some_and(|db| db.connection.is_autocommit()) {
            // A connection that cannot even give up is not used again.
            self.db = None;
        }
        committed
    }

    /// Takes the write lock, and sees to it that what a failed flush left behind is not built upon.
    fn begin(&mut self, flushed: bool) -> Result<(), StorageError> {
        let (path, untrusted) = (self.store.path(), untrusted(&self.store.folders));
        let gone = || StorageError::Closed { what: path.display().to_string(), source: None };
        let db = self.db.as_mut().ok_or_else(gone)?;
        if let Some(version) = db.newer {
            return Err(newer(path, version));
        }
        if self.synchronous != Some(flushed) {
            let how = if flushed { "FULL" } else { "NORMAL" };
            db.connection.pragma_update(None, "synchronous", how).context("open", path)?;
            self.synchronous = Some(flushed);
        }
        for _ in 0..2 {
            run(&db.connection, "BEGIN IMMEDIATE").context("write", path)?;
            // Under the lock: somebody else's flush may have failed while it was waited for.
            let is_trusted = Folders::is_file(&untrusted).map(|is_there| !is_there);
            if matches!(is_trusted, Ok(true)) {
                return Ok(());
            }
            drop(run(&db.connection, "ROLLBACK"));
            is_trusted?;
            make_anew(db, path)?;
            std::fs::remove_file(&untrusted).context("remove", &untrusted)?;
        }
        Err(self.store.unavailable("could not be flushed: try again"))
    }

    /// Repairs one session in a transaction of its own.
    fn repair(&mut self, id: SessionId, acceptance: &AcceptedLoss) -> Result<RepairReport, StorageError> {
        if self.db()?.is_none() {
            return Err(StorageError::NotFound { id });
        }
        let store = Arc::clone(&self.store);
        let done = self.commit(true, |changes| {
            changes.repair(&store, id, acceptance).map_err(|error| told(&store, error))
        });
        let (plan, _) = done.map_err(Failure::into_error)?;
        // After the commit: whoever comes in between finds the session as damaged as before.
        if let (Some((change, tip)), Some(db)) = (plan.accepted, &self.db) {
            db.marks.accept(change, id, tip)?;
        }
        if plan.repaired.tip.is_none() {
            self.store.folders.remove_session(id)?;
        }
        Ok(plan.repaired)
    }

    /// Mends what crashes left, in one transaction, which is empty where all is well.
    fn reconcile(&mut self) -> Result<ReconcileReport, StorageError> {
        if self.db()?.is_none() {
            return Ok(ReconcileReport::default());
        }
        let store = Arc::clone(&self.store);
        let done =
            self.commit(true, |changes| changes.reconcile(&store).map_err(|error| told(&store, error)));
        done.map(|(reconciled, _)| reconciled).map_err(Failure::into_error)
    }
}

impl Failure {
    fn into_error(self) -> StorageError {
        let (Self::Undone(error) | Self::Unknown(error) | Self::Because(_, error)) = self;
        error
    }
}

fn told(store: &Store, error: Unstored) -> Failure {
    Failure::Undone(match error {
        Unstored::Sqlite(error) => storage_error("write", store.path(), error),
        Unstored::Refused(error) => error,
    })
}

/// What is known at the start of a transaction, under the write lock.
fn begun<'a>(store: &'a Store, db: &'a Db) -> Result<Changes<'a>, StorageError> {
    db.marks.refresh()?;
    let found = change_of(db).context("read", store.path())?;
    let expected = db.marks.change();
    let refusal = (found < expected).then(|| store.behind(found, expected));
    Ok(Changes {
        connection: &db.connection,
        marks: &db.marks,
        folders: &store.folders,
        // Where the loss is accepted, above all that is known.
        change: found.max(expected) + 1,
        refusal,
        touched: Vec::new(),
        is_changed: false,
    })
}

/// Runs a statement without values, which is prepared once.
fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// The database's counter of changes.
pub(crate) fn change_of(db: &Db) -> rusqlite::Result<u64> {
    let change: Option<i64> = schema::meta(&db.connection, "change")?;
    Ok(change.and_then(|change| u64::try_from(change).ok()).unwrap_or(0))
}

fn change(changes: &mut Changes<'_>, request: &Request) -> Result<Done, Unstored> {
    match request {
        Request::Append { id, expected, batch, head, durability } => {
            changes.append(*id, *expected, batch, head.as_ref(), *durability).map(Done::Appended)
        }
        Request::Delete { id, tip } => changes.delete(*id, *tip).map(|()| Done::Deleted),
        Request::Repair { .. } | Request::Reconcile => unreachable!("these have transactions of their own"),
    }
}

/// A statement failed in the midst of a change: nothing of the transaction is kept.
fn spoilt(changes: &Changes<'_>, at: usize, request: &Request, error: rusqlite::Error) -> Failure {
    let path = PathBuf::from(changes.connection.path().unwrap_or_default());
    match (error.sqlite_error_code(), request.id()) {
        (Some(ErrorCode::DatabaseCorrupt), Some(id)) => Failure::Because(at, unreadable(id, &error)),
        // One that is too large may be the only one that has no room.
        (Some(ErrorCode::DiskFull), _) => Failure::Because(at, storage_error("write", &path, error)),
        (Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig), _) => {
            Failure::Because(at, storage_error("write", &path, error))
        }
        _ => Failure::Undone(storage_error("write", &path, error)),
    }
}

/// The commit failed. Without room it is not there; otherwise a crash could still bring it about.
fn uncommitted(store: &Store, error: rusqlite::Error) -> Failure {
    let undone = [ErrorCode::DiskFull, ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked];
    if error.sqlite_error_code().is_some_and(|code| undone.contains(&code)) {
        return Failure::Undone(storage_error("write", store.path(), error));
    }
    // While the write lock is still held, so that nobody commits on top of it.
    let untrusted = untrusted(&store.folders);
    if let Err(error) = std::fs::write(&untrusted, b"") {
        tracing::error!(%error, "that a flush failed could not be noted for other processes");
    }
    Failure::Unknown(storage_error("flush", store.path(), error))
}
