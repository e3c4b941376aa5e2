//! The store under test, on a fault disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{SessionId, StorageError};
use session_storage_file::fault::FaultDisk;
use session_storage_file::{FileStorage, FileStorageOptions};

use super::logs::{chain_of, wait};

/// The path of the store.
pub(crate) const ROOT: &str = "/store";

pub(crate) fn open(disk: &FaultDisk) -> Result<FileStorage, StorageError> {
    FileStorage::with_disk(Arc::new(disk.clone()), FileStorageOptions::new(ROOT).without_threads())
}

/// Waits until a dropped storage has closed its files: its threads end after it.
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

/// Reconciles the store; an error names a session that failed.
pub(crate) fn reconcile(storage: &FileStorage) -> Result<(), String> {
    let report = wait(storage.reconcile()).map_err(|error| format!("reconcile: {}", chain_of(&error)))?;
    match report.failed.first() {
        None => Ok(()),
        Some((id, error)) => Err(format!("reconcile: {id}: {}", chain_of(error))),
    }
}

/// Returns the condition of one session, `None` if it cannot be verified.
pub(crate) fn condition(storage: &FileStorage, id: SessionId) -> Option<Condition> {
    wait(storage.verify(id)).ok().map(|report| report.condition)
}
