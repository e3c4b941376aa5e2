//! The quarantine: bytes removed from logs, kept for inspection as
//! `quarantine/<id>/<why>-after-<revision>-<sum>`.

use std::path::{Path, PathBuf};

use session_core::{SessionId, StorageError};
use xxhash_rust::xxh3::Xxh3;

use crate::append::copy;
use crate::condition::Assessment;
use crate::disk::Open;
use crate::error::IoContext;
use crate::handle::Handle;
use crate::scan::read_exactly;
use crate::store::Store;

/// Name prefixes of losses that are not acknowledged yet.
const UNACKNOWLEDGED: &[&str] = &["degraded-", "lost-"];
const CHUNK: usize = 256 * 1024;

impl Store {
    /// Copies what follows the chain to the quarantine, durably. A second copy of the same bytes replaces the
    /// first.
    pub(crate) fn quarantine(
        &self,
        handle: &Handle,
        found: &Assessment,
        why: &str,
    ) -> Result<PathBuf, StorageError> {
        let folder = self.quarantine_folder(found.id)?;
        let mut sum = Xxh3::new();
        let mut at = found.end;
        while at < found.length {
            let size = usize::try_from(found.length - at).unwrap_or(CHUNK).min(CHUNK);
            let Some(bytes) = read_exactly(&*handle.log, at, size).context("read", &handle.paths.log)? else {
                break;
            };
            sum.update(&bytes);
            at += size as u64;
        }
        let path = folder.join(format!("{why}-after-{}-{:016x}", found.readable(), sum.digest()));
        self.remove_tree(&path)?;
        let file = self.disk.open(&path, Open::Create).context("create", &path)?;
        copy(&*handle.log, found.end..at, &*file).context("write", &path)?;
        file.sync().context("flush", &path)?;
        self.disk.sync_dir(&folder).context("flush", &folder)?;
        tracing::warn!(session = %found.id, why, kept = %path.display(), "quarantined the damaged end of a log");
        Ok(path)
    }

    pub(crate) fn quarantine_folder(&self, id: SessionId) -> Result<PathBuf, StorageError> {
        let (all, folder) = (self.layout.quarantine(), self.layout.quarantined(id));
        for (path, parent) in [(&all, self.layout.root()), (&folder, all.as_path())] {
            if !self.is_folder(path)? {
                self.disk.create_dir(path).context("create", path)?;
            }
            self.disk.sync_dir(parent).context("flush", parent)?;
        }
        Ok(folder)
    }

    /// Returns the losses of a session that are not acknowledged yet.
    pub(crate) fn unacknowledged_losses(&self, id: SessionId) -> Result<Vec<PathBuf>, StorageError> {
        let folder = self.layout.quarantined(id);
        if !self.is_folder(&self.layout.quarantine())? || !self.is_folder(&folder)? {
            return Ok(Vec::new());
        }
        let mut names = self.disk.read_dir(&folder).context("list", &folder)?;
        names.sort_unstable();
        names.retain(|name| UNACKNOWLEDGED.iter().any(|prefix| name.starts_with(prefix)));
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }

    /// Marks a loss as acknowledged. The quarantined bytes stay.
    pub(crate) fn acknowledge(&self, path: &Path) -> Result<(), StorageError> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let acknowledged = folder.join(format!("acknowledged-{}", name.to_string_lossy()));
        self.disk.rename(path, &acknowledged).context("rename", path)?;
        self.disk.sync_dir(folder).context("flush", folder)
    }
}
