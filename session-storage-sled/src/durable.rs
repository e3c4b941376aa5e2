//! Durable flush of changes, in one place: sled's flush, which writes its buffers to the system; then our own flush of
//! sled's files, which survives power loss; then the marks. The callers get their replies after that.
//!
//! sled waits with `sync_file_range`, which flushes neither the disk's cache nor metadata (`sync_file_range(2)`: "This
//! system call does not flush disk write caches"), and for large values not even with that. See `write_to_log` in its
//! `pagecache/iobuf.rs` and `write_blob` in `pagecache/blob_io.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use session_core::backend::Tip;
use session_core::{SessionId, StorageError};
use session_storage_engine::IoContext as _;

use crate::db::Db;
use crate::engine::Engine;
use crate::error::Fault;
use crate::files::{self, OpenMode};
use crate::layout::Layout;
use crate::unclean_shutdown::DirtyMarker;

/// A hook that a test sets to fail, panic or block in the next flush.
#[cfg(test)]
pub(crate) type FlushHook =
    std::sync::Arc<std::sync::Mutex<Option<Box<dyn FnOnce() -> io::Result<()> + Send>>>>;

/// The files to flush, and the changes since the last flush.
pub(crate) struct Durable {
    /// sled's log, open as long as sled is: a write error is reported once to each descriptor that was open then.
    data: File,
    marker: DirtyMarker,
    /// The large values that are flushed.
    blobs: BTreeSet<String>,
    /// The tips of the sessions changed since the last flush.
    pending: BTreeMap<SessionId, Tip>,
    /// `true` if something was changed since the last flush.
    dirty: bool,
    /// Runs before the next flush of the files, in tests.
    #[cfg(test)]
    pub(crate) flush_hook: FlushHook,
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Durable")
            .field("pending", &self.pending)
            .field("dirty", &self.dirty)
            .finish_non_exhaustive()
    }
}

impl Durable {
    /// Creates the state for an open database. The content of its files may not be flushed yet.
    pub(crate) fn new(layout: &Layout, marker: DirtyMarker) -> Result<Self, StorageError> {
        let path = layout.data();
        let data = files::open(&path, OpenMode::Create).context("open", &path)?;
        Ok(Self {
            data,
            marker,
            blobs: BTreeSet::new(),
            pending: BTreeMap::new(),
            // Opening writes to the database.
            dirty: true,
            #[cfg(test)]
            flush_hook: FlushHook::default(),
        })
    }

    /// Returns `true` if there is something to flush.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Records the new tip of a session; `None` if it was deleted.
    pub(crate) fn record_change(&mut self, id: SessionId, tip: Option<Tip>) {
        self.dirty = true;
        match tip {
            Some(tip) => drop(self.pending.insert(id, tip)),
            None => drop(self.pending.remove(&id)),
        }
    }

    /// Writes everything to the system, so that it survives the death of this process.
    pub(crate) fn flush_buffered(&self, db: &Db) -> Result<(), Fault> {
        self.with_flushing_marked(|| db.flush().map_err(Fault::from))
    }

    /// Flushes everything up to this change, so that it survives power loss, and records it in the marks.
    pub(crate) fn flush_durably(&mut self, engine: &Engine, db: &Db, change: u64) -> Result<(), Fault> {
        let layout = &engine.layout;
        let flushed = self.with_flushing_marked(|| {
            db.flush()?;
            self.flush_files(layout).map_err(|error| Fault::Flush(std::sync::Arc::new(error)))
        });
        self.blobs.extend(flushed?);
        let tips: Vec<(SessionId, Tip)> = std::mem::take(&mut self.pending).into_iter().collect();
        self.dirty = false;
        if tips.is_empty() && engine.marks.change() >= change {
            return Ok(());
        }
        if let Err(error) = engine.marks.record_flush(change, &tips) {
            // The flush took place. A later mark covers it; until then a loss of it would not be noticed.
            tracing::warn!(store = %layout.root().display(), %error, "could not write the marks, will retry");
            self.pending.extend(tips);
        }
        Ok(())
    }

    /// Flushes sled's files, and the names of new ones. Returns the new large values.
    fn flush_files(&self, layout: &Layout) -> io::Result<Vec<String>> {
        #[cfg(test)]
        if let Some(hook) = self.flush_hook.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            hook()?;
        }
        let mut new = Vec::new();
        for entry in std::fs::read_dir(layout.blobs())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !self.blobs.contains(&name) {
                match files::open(&layout.blobs().join(&name), OpenMode::Read) {
                    Ok(blob) => blob.sync_all()?,
                    // sled removes large values that are no longer used.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                new.push(name);
            }
        }
        if !new.is_empty() {
            File::open(layout.blobs())?.sync_all()?;
        }
        self.data.sync_data()?;
        Ok(new)
    }

    /// Runs a flush, with the flag for a flush in progress set until it has succeeded.
    fn with_flushing_marked<T>(&self, flush: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let mark =
            |is| self.marker.set_flushing(is).map_err(|error| Fault::Flush(std::sync::Arc::new(error)));
        mark(true)?;
        let done = flush()?;
        mark(false)?;
        Ok(done)
    }
}
