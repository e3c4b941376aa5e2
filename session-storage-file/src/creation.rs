//! Creation of sessions, the markers of unended ones, and the places that these hold. Everything here runs under the
//! store's lock.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use session_core::backend::{Batch, Expected, Tip};
use session_core::{Durability, SessionId, StorageError};

use crate::append::for_each_sealed_line;
use crate::disk::{DiskFile, Open};
use crate::error::IoContext;
use crate::format::CreateIfMissing;
use crate::handle::CachedHandle;
use crate::layout::SessionPaths;
use crate::slots::{Mark, Slot, write_all};
use crate::store::Store;

/// The longest wait for the store's lock after the end of a session.
const MARKER_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// The number of other markers that each creation checks.
const PRUNED_PER_CREATION: usize = 2;

/// The meaning of a session's marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkerState {
    /// The session is unended and holds a place, or cannot be read.
    Unended,
    /// The session is unended and has no owner: it holds no place.
    Unowned,
    /// The session has ended, but power loss could undo that: readers need the marker then.
    MayBeUnended,
    /// The session has ended durably.
    Ended,
    /// There is no such session.
    NoSession,
}

/// Bytes that are written to a new log at a time.
const WRITE_CHUNK: usize = 256 * 1024;

/// Writes the lines of a batch to a new log, and returns its length. A long log is never in memory as a whole.
fn write_lines(log: &dyn DiskFile, batch: &Batch, path: &Path) -> Result<u64, StorageError> {
    let (mut chunk, mut length) = (Vec::new(), 0);
    let write = |chunk: &mut Vec<u8>, length: &mut u64| -> Result<(), StorageError> {
        write_all(log, chunk, *length).context("write", path)?;
        *length += chunk.len() as u64;
        chunk.clear();
        Ok(())
    };
    for record in batch.records() {
        chunk.extend_from_slice(record?.line().as_bytes());
        chunk.push(b'\n');
        if chunk.len() >= WRITE_CHUNK {
            write(&mut chunk, &mut length)?;
        }
    }
    if !chunk.is_empty() {
        write(&mut chunk, &mut length)?;
    }
    Ok(length)
}

impl Store {
    /// Creates a session from a batch if it does not exist and there is a free place within the limit, if any.
    pub(crate) fn create(
        &self,
        id: SessionId,
        expected: Expected,
        batch: &Batch,
    ) -> Result<Tip, StorageError> {
        // A batch that is invalid anyway creates no store.
        let checked = for_each_sealed_line(id, expected, batch, |_| Ok(()));
        if let Err(error) = &checked
            && !self.exists()?
        {
            return Err(error.clone());
        }
        let lock = self.lock_store(CreateIfMissing::Yes, self.deadline())?;
        self.clear_leftovers()?;
        if self.find(id)?.is_some() {
            // Damage is not absence: if the existing session cannot be read, the error says so.
            let actual = self.read_head(id)?.map(|head| head.tip);
            return Err(StorageError::Conflict { id, expected: None, actual });
        }
        if let Some(limit) = expected.limit() {
            self.check_places(limit, None)?;
        }
        checked?;
        let tip = self.build(id, batch).inspect_err(|_| self.discard_staged(id))?;
        self.prune_markers(id);
        drop(lock);
        Ok(tip)
    }

    /// Builds a session in `stage` and renames it into `sessions`.
    fn build(&self, id: SessionId, batch: &Batch) -> Result<Tip, StorageError> {
        let head = batch.head().expect("a batch that fits an absent log has records");
        let staged = self.layout.staged(id);
        let paths = self.layout.session(id);
        self.disk.create_dir(&staged.dir).context("create", &staged.dir)?;
        let log = self.disk.open(&staged.log, Open::Create).context("create", &staged.log)?;
        let length = write_lines(&*log, batch, &staged.log)?;
        log.sync().context("flush", &staged.log)?;
        self.disk.open(&staged.lock, Open::Create).context("create", &staged.lock)?;
        let slots = self.disk.open(&staged.slots, Open::Create).context("create", &staged.slots)?;
        let mark = Mark { tip: head.tip, length };
        let slot = Slot::new(1, &self.boot, Some(mark), mark.length, Some(head));
        // Until the directory entry of the session is known to be durable, every process that opens the session
        // has to flush it first.
        slot.clone().flushing().write(id, &*slots).context("write", &staged.slots)?;
        self.disk.sync_dir(&staged.dir).context("flush", &staged.dir)?;
        if !head.state().is_final() {
            self.mark_active(id)?;
        }
        let unknown = |error| StorageError::OutcomeUnknown { id, source: std::sync::Arc::new(error) };
        if let Err(error) = self.disk.rename_new(&staged.dir, &paths.dir).context("rename", &staged.dir) {
            let absent = matches!(self.disk.kind(&paths.dir), Ok(None));
            return Err(if absent { error } else { unknown(error) });
        }
        self.sync_sessions_dir().map_err(unknown)?;
        if let Err(error) = (Slot { turn: 2, ..slot }).write(id, &*slots) {
            tracing::warn!(session = %id, %error, "could not write the flush mark");
        }
        Ok(head.tip)
    }

    /// Removes what a failed creation left in `stage`; a session that became visible stays.
    fn discard_staged(&self, id: SessionId) {
        let SessionPaths { dir, .. } = self.layout.staged(id);
        if self.remove_tree(&dir).is_ok() && matches!(self.find(id), Ok(None)) {
            drop(self.disk.remove_file(&self.layout.marker(id)));
        }
    }

    /// Creates the marker of an unended session durably.
    pub(crate) fn mark_active(&self, id: SessionId) -> Result<(), StorageError> {
        let marker = self.layout.marker(id);
        self.disk.open(&marker, Open::CreateIfAbsent).context("create", &marker)?;
        let active = self.layout.active();
        self.disk.sync_dir(&active).context("flush", &active)
    }

    /// Appends a batch after `at` if fewer than `limit` other sessions hold a place, or changes nothing.
    pub(crate) fn append_within(
        &self,
        cached: &mut Option<CachedHandle>,
        id: SessionId,
        (at, limit): (Tip, NonZeroUsize),
        batch: &Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        // The store's lock first, as everywhere: no other session takes a place until this one has it.
        let lock = self.lock_store(CreateIfMissing::No, self.deadline())?;
        let check = || self.check_places(limit, Some(id));
        let (tip, ended) = self.append_if(cached, id, at, batch, durability, check)?;
        drop(lock);
        if ended {
            self.unmark_ended(id);
        }
        Ok(tip)
    }

    /// Checks that fewer than `limit` sessions, not counting `but`, hold a place. Removes stale markers.
    ///
    /// # Errors
    /// `MaxSessions`.
    fn check_places(&self, limit: NonZeroUsize, but: Option<SessionId>) -> Result<(), StorageError> {
        let limit = limit.get();
        let mut marked = self.ids(&self.layout.active())?;
        marked.retain(|id| Some(*id) != but);
        let mut left = marked.len();
        for id in marked {
            // Fewer markers than the limit: how many of them are stale, or of unowned sessions, does not matter.
            if left < limit {
                break;
            }
            let state = self.marker_state(id);
            if state != MarkerState::Unended {
                left -= 1;
            }
            self.remove_marker(id, state)?;
        }
        if left < limit { Ok(()) } else { Err(StorageError::MaxSessions { limit }) }
    }

    /// Checks a few markers and removes the stale ones; the caller holds the store's lock. A process that ends
    /// a session while many others are created may not get the lock and leaves its marker: without this, lists
    /// of active sessions would read more and more ended ones. Ids are random, and so is the position at which
    /// each new one starts to check.
    fn prune_markers(&self, new: SessionId) {
        let Ok(marked) = self.ids(&self.layout.active()) else { return };
        let (before, after) = marked.split_at(marked.partition_point(|id| *id <= new));
        for id in after.iter().chain(before).filter(|id| **id != new).take(PRUNED_PER_CREATION) {
            if let Err(error) = self.remove_marker(*id, self.marker_state(*id)) {
                tracing::debug!(session = %id, %error, "could not remove the marker of an ended session");
            }
        }
    }

    /// Returns the meaning of a marker. A session that cannot be read may be unended.
    pub(crate) fn marker_state(&self, id: SessionId) -> MarkerState {
        let paths = match self.find(id) {
            Ok(Some(paths)) => paths,
            Ok(None) => return MarkerState::NoSession,
            Err(_) => return MarkerState::Unended,
        };
        let (Ok(slots), Ok(Some(head))) = (self.read_slots(id, &paths), self.read_head(id)) else {
            return MarkerState::Unended;
        };
        if !head.state().is_final() {
            return if head.holds_place() { MarkerState::Unended } else { MarkerState::Unowned };
        }
        if slots.mark().is_some_and(|mark| mark.tip == head.tip) {
            MarkerState::Ended
        } else {
            MarkerState::MayBeUnended
        }
    }

    /// Removes a stale marker; the caller holds the store's lock. Returns `true` if it did.
    pub(crate) fn remove_marker(&self, id: SessionId, state: MarkerState) -> Result<bool, StorageError> {
        match state {
            MarkerState::Unended | MarkerState::Unowned | MarkerState::MayBeUnended => return Ok(false),
            MarkerState::Ended => {}
            // The process that deleted the session may have died before the deletion was durable.
            MarkerState::NoSession => self.sync_sessions_dir()?,
        }
        self.remove_tree(&self.layout.marker(id)).map(|()| true)
    }

    /// Flushes `sessions`, so that creations and deletions are durable.
    pub(crate) fn sync_sessions_dir(&self) -> Result<(), StorageError> {
        let sessions = self.layout.sessions();
        self.disk.sync_dir(&sessions).context("flush", &sessions)
    }

    /// Removes the marker of a session that has ended. The marker stays if the store's lock is not free soon:
    /// readers ignore it, and the next append that counts places removes it.
    pub(crate) fn unmark_ended(&self, id: SessionId) {
        let marker = self.layout.marker(id);
        if !matches!(self.disk.kind(&marker), Ok(Some(_))) {
            return;
        }
        let deadline = Instant::now() + self.lock_timeout.min(MARKER_LOCK_TIMEOUT);
        let removed = self
            .lock_store(CreateIfMissing::No, deadline)
            .and_then(|lock| lock.map_or(Ok(false), |_lock| self.remove_marker(id, self.marker_state(id))));
        if let Err(error) = removed {
            tracing::debug!(session = %id, %error, "could not remove the marker of an ended session");
        }
    }
}
