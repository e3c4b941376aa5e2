//! The laws of the storage port. All handles of one process on one folder share one open database, since sled allows
//! only one.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "common/copy.rs"]
mod copy;
#[path = "common/rows.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod rows;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use session_core::backend::SessionStorage;
use session_core::{SessionId, StorageError};
use session_storage_sled::{SledStorage, SledStorageOptions};
use session_testkit::{Crash, Damage, Harness, NotSupported, storage_laws};
use tempfile::TempDir;

/// A store in a temporary folder. After a crash, the store is a copy in another folder.
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
            return Err(NotSupported("sled writes to a real disk, and a test cannot cut its power"));
        }
        let before = self.store();
        *self.crashes.lock().unwrap() += 1;
        copy::copy(&before, &self.store());
        Ok(())
    }

    async fn fail_next_flush(&self) -> Result<(), NotSupported> {
        Err(NotSupported("sled writes to a real disk; failed flushes are tested in the crate itself"))
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
