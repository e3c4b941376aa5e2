//! The laws of the storage port, in a folder of the operating system.

mod laws {
    use std::path::PathBuf;
    use std::sync::Arc;

    use async_trait::async_trait;
    use session_core::{SessionId, SessionStorage, StorageError};
    use session_storage_file::{FileStorage, FileStorageOptions};
    use session_testkit::{Crash, Damage, Subject, Unable, storage_laws};
    use tempfile::TempDir;

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

    fn damaged(bytes: &[u8], damage: Damage) -> Vec<u8> {
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

    storage_laws!(|| async { Folder(tempfile::tempdir().expect("a temporary folder")) });
}
