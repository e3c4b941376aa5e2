//! The store under test, on a fault disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::{SessionId, StorageError};
use session_storage_file::fault::FaultDisk;
use session_storage_file::{FileStorage, FileStorageOptions};

/// Where the store is.
pub(crate) const ROOT: &str = "/store";

pub(crate) fn open(disk: &FaultDisk) -> Result<FileStorage, StorageError> {
    FileStorage::with_disk(Arc::new(disk.clone()), FileStorageOptions::new(ROOT))
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
