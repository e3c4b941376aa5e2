//! The laws of the storage port, in a folder of the operating system and on the fault disk, whose power can be cut.

mod damage {
    use session_testkit::Damage;

    /// A log after some damage.
    pub(crate) fn damaged(bytes: &[u8], damage: Damage) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> =
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let at = |revision: u64| usize::try_from(revision - 1).expect("a small log");
        match damage {
            Damage::Flip { revision, bit } => {
                let line = &mut lines[at(revision)];
                let len = line.len() - 1;
                line[bit / 8 % len] ^= 1 << (bit % 8);
            }
            Damage::Lose { revision } => drop(lines.remove(at(revision))),
            Damage::Double { revision } => lines.insert(at(revision), lines[at(revision)].clone()),
            Damage::Swap { revision } => lines.swap(at(revision), at(revision) + 1),
            Damage::Cut { after } => lines.truncate(at(after + 1)),
            other => panic!("{other:?} is new: teach this test"),
        }
        lines.concat()
    }
}

mod folder {
    use std::path::PathBuf;
    use std::sync::Arc;

    use async_trait::async_trait;
    use session_core::{SessionId, SessionStorage, StorageError};
    use session_storage_file::{FileStorage, FileStorageOptions};
    use session_testkit::{Crash, Damage, Subject, Unable, storage_laws};
    use tempfile::TempDir;

    use super::damage::damaged;

    /// A store in a temporary folder.
    struct Folder(TempDir);

    impl Folder {
        fn log(&self, id: SessionId) -> PathBuf {
            self.0.path().join("store/sessions").join(id.to_string()).join("events.jsonl")
        }
    }

    #[async_trait]
    impl Subject for Folder {
        async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
            Ok(Arc::new(FileStorage::open(FileStorageOptions::new(self.0.path().join("store")))?))
        }

        async fn crash(&self, _: Crash) -> Result<(), Unable> {
            Err(Unable("a test can neither kill itself nor cut the power of a real disk"))
        }

        async fn fail_next_flush(&self) -> Result<(), Unable> {
            Err(Unable("a real disk fails when it wants to"))
        }

        async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), Unable> {
            let path = self.log(id);
            let bytes = std::fs::read(&path).expect("the session's log is there");
            std::fs::write(&path, damaged(&bytes, damage)).expect("the log can be written");
            Ok(())
        }
    }

    storage_laws!(|| async { Folder(tempfile::tempdir().expect("a temporary folder")) });
}

#[cfg(feature = "fault-disk")]
mod fault_disk {
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use session_core::{SessionId, SessionStorage, StorageError};
    use session_storage_file::fault::{AfterFailedSync, Call, Effect, Fault, FaultDisk, Keep};
    use session_storage_file::{FileStorage, FileStorageOptions};
    use session_testkit::{Crash, Damage, Kept, Subject, Unable, storage_laws};

    use super::damage::damaged;

    /// A store on a fault disk. A crash leaves another disk; who had the old one open has it still.
    struct OnFaultDisk(Mutex<FaultDisk>);

    impl OnFaultDisk {
        fn disk(&self) -> FaultDisk {
            self.0.lock().expect("nobody panics with it").clone()
        }
    }

    #[async_trait]
    impl Subject for OnFaultDisk {
        async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
            let disk = self.disk().process();
            Ok(Arc::new(FileStorage::with_disk(Arc::new(disk), FileStorageOptions::new("/a/store"))?))
        }

        async fn crash(&self, crash: Crash) -> Result<(), Unable> {
            let now = self.disk().now();
            let after = match crash {
                Crash::Kill => now.kill(),
                Crash::PowerLoss(Kept::Nothing) => now.cut(Keep::Synced),
                Crash::PowerLoss(Kept::Everything) => now.cut(Keep::All),
                Crash::PowerLoss(Kept::Some(seed)) => now.cut(Keep::Random(seed)),
                other => panic!("{other:?} is new: teach this test"),
            };
            *self.0.lock().expect("nobody panics with it") = after;
            Ok(())
        }

        async fn fail_next_flush(&self) -> Result<(), Unable> {
            let disk = self.disk();
            disk.after_failed_sync(AfterFailedSync::Kept);
            disk.fail(Fault::nth(0, Effect::Error(rustix::io::Errno::IO)).on(Call::Sync));
            Ok(())
        }

        async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), Unable> {
            let path = PathBuf::from(format!("/a/store/sessions/{id}/events.jsonl"));
            self.disk().edit(&path, |bytes| *bytes = damaged(bytes, damage)).expect("the log is there");
            Ok(())
        }
    }

    storage_laws!(|| async { OnFaultDisk(Mutex::new(FaultDisk::new())) });
}
