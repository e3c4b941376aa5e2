//! The store under test, on a fault disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::{Condition, SessionId, StorageError, StorageMaintenance as _};
use session_storage_file::fault::FaultDisk;
use session_storage_file::{FileStorage, FileStorageOptions};

use super::logs::{chain_of, wait};

/// Where the store is.
pub(crate) const ROOT: &str = "/store";

pub(crate) fn open(disk: &FaultDisk) -> Result<FileStorage, StorageError> {
    FileStorage::with_disk(Arc::new(disk.clone()), FileStorageOptions::new(ROOT).without_threads())
}

/// Waits until a storage that was dropped has closed its files: its threads end after it.
pub(crate) fn closed(disk: &FaultDisk) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while disk.open_files() > 0 {
        if Instant::now() > deadline {
            return Err(format!("left open: {:?}", disk.open_paths()));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Mends what crashes left; an error names what could not be.
pub(crate) fn reconcile(storage: &FileStorage) -> Result<(), String> {
    let done = wait(storage.reconcile()).map_err(|error| format!("recover: {}", chain_of(&error)))?;
    match done.failed.first() {
        None => Ok(()),
        Some((id, error)) => Err(format!("recover: {id}: {}", chain_of(error))),
    }
}

/// The verdict on one session, `None` where it cannot even be looked at.
pub(crate) fn condition(storage: &FileStorage, id: SessionId) -> Option<Condition> {
    wait(storage.verify(id)).ok().map(|report| report.condition)
}
