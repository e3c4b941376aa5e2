//! How a change becomes durable, in one place: sled's flush, which gives its buffers to the system; then our own flush of the
//! files that sled writes, which is what survives a loss of power; then the marks. Whoever asked is answered after that.
//!
//! sled waits with `sync_file_range`, which writes no cache of the disk's and no metadata (`sync_file_range(2)`: "This system
//! call does not flush disk write caches"), and of large values not even that. See `write_to_log` in its
//! `pagecache/iobuf.rs` and `write_blob` in `pagecache/blob_io.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use session_core::{SessionId, StorageError, Tip};
use session_storage_engine::IoContext as _;

use crate::db::Db;
use crate::engine::Engine;
use crate::error::Fault;
use crate::files::{self, OpenMode};
use crate::layout::Layout;
use crate::unclean_shutdown::DirtyMarker;

/// What a test lets happen instead of a flush.
#[cfg(test)]
pub(crate) type FlushHook =
    std::sync::Arc<std::sync::Mutex<Option<Box<dyn FnOnce() -> io::Result<()> + Send>>>>;

/// The files that are flushed, and what waits for that.
pub(crate) struct Durable {
    /// sled's log, open for as long as sled is: a failure to write it is told to each who had it open then, once.
    data: File,
    marker: DirtyMarker,
    /// Large values that are on the disk.
    blobs: BTreeSet<String>,
    /// How logs end that were appended to since the last flush.
    pending: BTreeMap<SessionId, Tip>,
    /// Something was changed since.
    dirty: bool,
    /// What happens at the next flush, in tests.
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
    /// For a database that is open. What is in its files may not be on the disk yet.
    pub(crate) fn new(layout: &Layout, marker: DirtyMarker) -> Result<Self, StorageError> {
        let path = layout.data();
        let data = files::open(&path, OpenMode::Create).context("open", &path)?;
        Ok(Self {
            data,
            marker,
            blobs: BTreeSet::new(),
            pending: BTreeMap::new(),
            // sled writes when it opens.
            dirty: true,
            #[cfg(test)]
            flush_hook: FlushHook::default(),
        })
    }

    /// Whether a flush would do anything.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// A session was changed: its log ends so now, or it is gone.
    pub(crate) fn record_change(&mut self, id: SessionId, tip: Option<Tip>) {
        self.dirty = true;
        match tip {
            Some(tip) => drop(self.pending.insert(id, tip)),
            None => drop(self.pending.remove(&id)),
        }
    }

    /// Gives everything to the system: it survives the death of this process.
    pub(crate) fn flush_buffered(&self, db: &Db) -> Result<(), Fault> {
        self.with_flushing_marked(|| db.flush().map_err(Fault::from))
    }

    /// Makes everything survive a loss of power, up to this change, and notes that.
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
            // What was flushed is flushed. A later mark says so too, and without one less can be noticed, not more.
            tracing::warn!(store = %layout.root().display(), %error, "a mark was not written");
            self.pending.extend(tips);
        }
        Ok(())
    }

    /// Flushes sled's files, new ones with their names. Returns the large values among them.
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
                    // sled removes them when nothing needs them any more.
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

    /// Does a flush, and has it noted that one is on its way for as long as it is not known to have ended well.
    fn with_flushing_marked<T>(&self, flush: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let mark =
            |is| self.marker.set_flushing(is).map_err(|error| Fault::Flush(std::sync::Arc::new(error)));
        mark(true)?;
        let done = flush()?;
        mark(false)?;
        Ok(done)
    }
}
