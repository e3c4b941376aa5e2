//! The open files of one session for a writer, and the state that this process cached of them.

use std::io;
use std::path::Path;
use std::time::Instant;

use session_core::backend::Tip;
use session_core::{Head, SessionId, StorageError};

use crate::catch_up::ends_at;
use crate::disk::{DiskFile, Identity, LockMode, Open};
use crate::error::IoContext;
use crate::layout::SessionPaths;
use crate::lock;
use crate::slots::{Mark, Stamp};
use crate::store::Store;

/// The open files of one session.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: SessionId,
    pub(crate) paths: SessionPaths,
    lock: Box<dyn DiskFile>,
    pub(crate) log: Box<dyn DiskFile>,
    pub(crate) slots: Box<dyn DiskFile>,
    identities: [Identity; 3],
    /// The state when the lock was last released; `None` if the files must be read again.
    pub(crate) state: Option<LogState>,
}

/// The cached state of a log.
#[derive(Debug)]
pub(crate) struct LogState {
    /// The end of the log.
    pub(crate) position: LogPosition,
    /// The turn of the newest slot.
    pub(crate) turn: u64,
    /// The start of both slots, to detect later writes of other processes; `None` if such a write must be
    /// assumed.
    pub(crate) stamp: Option<Stamp>,
    /// The highest mark in the slots.
    pub(crate) mark: Option<Mark>,
}

/// A position in a log: the end of a record.
#[derive(Debug)]
pub(crate) struct LogPosition {
    /// The record.
    pub(crate) tip: Tip,
    /// The end of the record, in bytes.
    pub(crate) end: u64,
    /// The fold of the log up to it.
    pub(crate) head: Box<Head>,
}

/// The cached handle of a session between two writes.
#[derive(Debug)]
pub(crate) enum CachedHandle {
    /// The open files.
    Open(Handle),
    /// The state of files that were closed to make room for those of other sessions.
    Closed(ClosedHandle),
}

/// Open files: the lock, the log and the slots.
pub(crate) type OpenFiles = [Box<dyn DiskFile>; 3];

/// The identity and state of a session's files when they were closed.
#[derive(Debug)]
pub(crate) struct ClosedHandle {
    identities: [Identity; 3],
    state: LogState,
}

impl LogPosition {
    /// Returns the mark for a log that is flushed up to this position.
    pub(crate) const fn mark(&self) -> Mark {
        Mark { tip: self.tip, length: self.end }
    }
}

impl LogState {
    /// Returns `true` if the whole log is known to be flushed.
    pub(crate) fn is_flushed(&self) -> bool {
        self.mark.is_some_and(|mark| mark.tip == self.position.tip)
    }
}

impl Handle {
    /// Opens a session's files; `None` if there is no such session.
    pub(crate) fn open(store: &Store, id: SessionId) -> Result<Option<Self>, StorageError> {
        let Some(paths) = store.find(id)? else { return Ok(None) };
        let open = |path: &Path, how| {
            store.disk.open(path, how).or_else(|error| {
                // The files of a session that was deleted meanwhile are absent, not damaged.
                if !store.is_gone(id)? {
                    store.check_is_regular_file(id, path)?;
                }
                Err(error).context("open", path)
            })
        };
        let files = (|| {
            let lock = open(&paths.lock, Open::CreateIfAbsent)?;
            let log = open(&paths.log, Open::Write)?;
            let slots = open(&paths.slots, Open::CreateIfAbsent)?;
            Ok((lock, log, slots))
        })();
        let (lock, log, slots) = match files {
            Ok(files) => files,
            Err(_) if store.is_gone(id)? => return Ok(None),
            Err(error) => return Err(error),
        };
        let identity = |file: &dyn DiskFile| file.identity().context("stat", &paths.dir);
        let identities = [identity(&*lock)?, identity(&*log)?, identity(&*slots)?];
        Ok(Some(Self { id, paths, lock, log, slots, identities, state: None }))
    }

    /// Reopens closed files. Their state stays valid if they are the same files and the log still has the
    /// record that was its last: each sum covers all records before it.
    fn reopen(store: &Store, id: SessionId, closed: ClosedHandle) -> Result<Option<Self>, StorageError> {
        let Some(mut handle) = Self::open(store, id)? else { return Ok(None) };
        let ClosedHandle { identities, state } = closed;
        let LogPosition { tip, end, .. } = state.position;
        if handle.identities == identities && ends_at(&*handle.log, tip, end).unwrap_or(false) {
            handle.state = Some(state);
        }
        Ok(Some(handle))
    }

    /// Closes the handle. Returns its state, and the files, for the caller to close where no other call waits
    /// for that.
    pub(crate) fn close(self) -> (Option<ClosedHandle>, OpenFiles) {
        let Self { lock, log, slots, identities, state, .. } = self;
        (state.map(|state| ClosedHandle { identities, state }), [lock, log, slots])
    }

    /// Returns `true` if the paths still name the open files.
    fn is_current(&self, store: &Store) -> Result<bool, StorageError> {
        Ok(self.is_log_current(store)? && self.is_path_current(store, &self.paths.slots, 2)?)
    }

    /// Like [`is_current`](Self::is_current), for the files that matter to a write without a flush.
    fn is_log_current(&self, store: &Store) -> Result<bool, StorageError> {
        Ok(self.is_path_current(store, &self.paths.lock, 0)?
            && self.is_path_current(store, &self.paths.log, 1)?)
    }

    fn is_path_current(&self, store: &Store, path: &Path, which: usize) -> Result<bool, StorageError> {
        let named = store.disk.kind(path).context("stat", path)?.map(|(_, identity)| identity);
        Ok(named.as_ref() == self.identities.get(which))
    }

    /// Replaces the log's file after it was rebuilt.
    pub(crate) fn replace_log(&mut self, log: Box<dyn DiskFile>) -> io::Result<()> {
        let [lock, _, slots] = self.identities;
        self.identities = [lock, log.identity()?, slots];
        self.log = log;
        Ok(())
    }

    /// Returns the state of the log, which must have been read.
    pub(crate) fn state(&mut self) -> &mut LogState {
        self.state.as_mut().expect("the log is read before anything is done with it")
    }
}

impl Store {
    /// Runs a closure with a session under its lock; returns `None` if the session does not exist.
    pub(crate) fn with_session_lock<T>(
        &self,
        cached: &mut Option<CachedHandle>,
        id: SessionId,
        deadline: Instant,
        work: impl FnOnce(&mut Handle) -> Result<T, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        loop {
            let opened = match cached.take() {
                Some(CachedHandle::Open(handle)) => Some(handle),
                Some(CachedHandle::Closed(closed)) => Handle::reopen(self, id, closed)?,
                None => Handle::open(self, id)?,
            };
            let Some(mut handle) = opened else { return Ok(None) };
            lock::acquire(&*handle.lock, &handle.paths.lock, LockMode::Exclusive, deadline)?;
            // Replaced on disk since we opened it: closing our descriptor releases the lock.
            if handle.is_current(self)? {
                let result = work(&mut handle);
                return release_lock(cached, handle, result).map(Some);
            }
        }
    }

    /// Like [`with_session_lock`](Self::with_session_lock), but only if the session is already open and its
    /// lock is free.
    pub(crate) fn try_with_session_lock<T>(
        &self,
        cached: &mut Option<CachedHandle>,
        work: impl FnOnce(&mut Handle) -> Result<Option<T>, StorageError>,
    ) -> Result<Option<T>, StorageError> {
        let mut handle = match cached.take() {
            Some(CachedHandle::Open(handle)) => handle,
            other => {
                *cached = other;
                return Ok(None);
            }
        };
        // The holder's pid is not written: the lock is released immediately, and if nothing has changed, this
        // process wrote it last.
        if !handle.lock.try_lock(LockMode::Exclusive).context("lock", &handle.paths.lock)? {
            *cached = Some(CachedHandle::Open(handle));
            return Ok(None);
        }
        if !handle.is_log_current(self)? {
            return Ok(None);
        }
        let result = work(&mut handle);
        release_lock(cached, handle, result)
    }
}

/// Releases the lock and caches the handle. After an error the files are read again next time.
fn release_lock<T>(
    cached: &mut Option<CachedHandle>,
    mut handle: Handle,
    result: Result<T, StorageError>,
) -> Result<T, StorageError> {
    if !matches!(result, Ok(_) | Err(StorageError::Conflict { .. } | StorageError::InvalidArgument { .. })) {
        handle.state = None;
    }
    // Closing the file releases the lock as well.
    if handle.lock.unlock().is_ok() {
        *cached = Some(CachedHandle::Open(handle));
    }
    result
}
