//! The laws of the storage port. The handles of one process on one folder share one open database, which is all that sled
//! allows: they are as independent as they can be.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "common/copy.rs"]
mod copy;
#[path = "common/rows.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod rows;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use session_core::{SessionId, SessionStorage, StorageError};
use session_storage_sled::{SledStorage, SledStorageOptions};
use session_testkit::{Crash, Damage, Harness, NotSupported, storage_laws};
use tempfile::TempDir;

/// A store in a temporary folder, and after a crash in the next one.
struct Folder {
    root: TempDir,
    crashes: Mutex<usize>,
}

impl Folder {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), crashes: Mutex::new(0) }
    }

    fn store(&self) -> PathBuf {
        self.root.path().join(self.crashes.lock().unwrap().to_string())
    }
}

#[async_trait]
impl Harness for Folder {
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
        Ok(Arc::new(SledStorage::open(SledStorageOptions::new(self.store()))?))
    }

    async fn crash(&self, crash: Crash) -> Result<(), NotSupported> {
        if crash != Crash::Kill {
            return Err(NotSupported("the power of a real disk cannot be cut, and sled writes to no other"));
        }
        let before = self.store();
        *self.crashes.lock().unwrap() += 1;
        copy::copy(&before, &self.store());
        Ok(())
    }

    async fn fail_next_flush(&self) -> Result<(), NotSupported> {
        Err(NotSupported("a real disk fails when it wants to; a flush that fails is tested beside the code"))
    }

    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
        let db = rows::open(&self.store());
        let mut lines = rows::lines(&db, id);
        damage.apply(&mut lines, Vec::as_mut_slice);
        rows::put_lines(&db, id, &lines);
        Ok(())
    }
}

storage_laws!(|| async { Folder::new() });
