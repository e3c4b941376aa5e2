//! The storage laws, in a folder of the operating system and on the fault disk, which can lose power.

use session_testkit::Damage;

/// Returns a log with damage applied.
fn damaged(bytes: &[u8], damage: Damage) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    damage.apply(&mut lines, |line| line.split_last_mut().expect("a line has a line end").1);
    lines.concat()
}

mod folder {
    use std::path::PathBuf;
    use std::sync::Arc;

    use async_trait::async_trait;
    use session_core::backend::SessionStorage;
    use session_core::{SessionId, StorageError};
    use session_storage_file::{FileStorage, FileStorageOptions};
    use session_testkit::{Crash, Damage, Harness, NotSupported, storage_laws};
    use tempfile::TempDir;

    use super::damaged;

    /// A store in a temporary folder.
    struct Folder(TempDir);

    impl Folder {
        fn log(&self, id: SessionId) -> PathBuf {
            self.0.path().join("store/sessions").join(id.to_string()).join("events.jsonl")
        }
    }

    #[async_trait]
    impl Harness for Folder {
        async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
            Ok(Arc::new(FileStorage::open(FileStorageOptions::new(self.0.path().join("store")))?))
        }

        async fn crash(&self, _: Crash) -> Result<(), NotSupported> {
            Err(NotSupported("a test can neither kill itself nor cut the power of a real disk"))
        }

        async fn fail_next_flush(&self) -> Result<(), NotSupported> {
            Err(NotSupported("a real disk cannot be made to fail"))
        }

        async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
            let path = self.log(id);
            let bytes = std::fs::read(&path).expect("the session's log exists");
            std::fs::write(&path, damaged(&bytes, damage)).expect("the log can be written");
            Ok(())
        }
    }

    storage_laws!(|| async { Folder(tempfile::tempdir().expect("a temporary folder")) });
}

#[cfg(feature = "fault-disk")]
mod fault_disk {
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use async_trait::async_trait;
    use rustix::io::Errno;
    use session_core::backend::SessionStorage;
    use session_core::{SessionId, StorageError};
    use session_storage_file::fault::{self, Call, Effect, FaultDisk, Keep};
    use session_storage_file::{FileStorage, FileStorageOptions};
    use session_testkit::faulty_storages::{Fault, FaultyHarness};
    use session_testkit::{
        Crash, Damage, Harness, Kept, LAWS, LawOutcome, NotSupported, storage_laws, test_law,
    };

    use super::damaged;

    const ROOT: &str = "/store";

    /// A store on a fault disk; each handle is a separate process.
    struct OnFaultDisk {
        disk: Mutex<FaultDisk>,
        /// The number of file flushes that succeed before the first that fails.
        flushes_before: u64,
        /// The number of flushes that then fail in a row: with more than one, also that of the rebuilt file.
        failures: u64,
    }

    impl OnFaultDisk {
        fn new() -> Self {
            Self::failing(0, 1)
        }

        fn failing(flushes_before: u64, failures: u64) -> Self {
            Self { disk: Mutex::new(FaultDisk::new()), flushes_before, failures }
        }

        fn disk(&self) -> MutexGuard<'_, FaultDisk> {
            self.disk.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[async_trait]
    impl Harness for OnFaultDisk {
        async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
            let process = Arc::new(self.disk().process());
            Ok(Arc::new(FileStorage::with_disk(process, FileStorageOptions::new(ROOT))?))
        }

        async fn crash(&self, crash: Crash) -> Result<(), NotSupported> {
            let mut disk = self.disk();
            // Open handles stay on the old disk, and change nothing on this one.
            *disk = match crash {
                Crash::Kill => disk.now().kill(),
                Crash::PowerLoss(Kept::Nothing) => disk.now().cut(Keep::Synced),
                Crash::PowerLoss(Kept::Everything) => disk.now().cut(Keep::All),
                Crash::PowerLoss(Kept::Some(seed)) => disk.now().cut(Keep::Random(seed)),
                other @ (Crash::PowerLoss(_) | _) => panic!("{other:?} is not supported by this test yet"),
            };
            Ok(())
        }

        async fn fail_next_flush(&self) -> Result<(), NotSupported> {
            let disk = self.disk();
            for _ in 0..self.failures {
                disk.inject(fault::Fault::nth(self.flushes_before, Effect::Error(Errno::IO)).on(Call::Sync));
            }
            Ok(())
        }

        async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
            let log: PathBuf = Path::new(ROOT).join("sessions").join(id.to_string()).join("events.jsonl");
            self.disk()
                .edit(&log, |bytes| *bytes = damaged(bytes, damage))
                .expect("the session's log exists");
            Ok(())
        }
    }

    storage_laws!(|| async { OnFaultDisk::new() });

    /// Not only the first flush, and not only one: the flush of a rebuilt file may fail as well. (With more
    /// failures some would hit the law's bystander, which must not be affected.)
    #[test]
    fn a_failed_flush_is_never_acknowledged() {
        for (flushes_before, failures) in [(0, 2), (0, 3), (1, 1), (2, 1), (3, 1)] {
            for law in [
                "law_6_a_failed_flush_is_never_acknowledged",
                "law_6_a_creation_can_be_retried_after_a_failed_flush",
            ] {
                test_law(law, || async move { OnFaultDisk::failing(flushes_before, failures) });
            }
        }
    }

    /// The laws that only this disk can test detect real faults: a faulty storage on the same disk is caught.
    #[test]
    fn the_laws_catch_faults_on_this_disk() {
        for (fault, name) in [
            (Fault::AcknowledgesBeforeFlush, "law_3_flushed_changes_survive_power_loss"),
            (Fault::SkipsEmptyFlush, "law_3_a_flush_covers_records_that_others_buffered"),
            (Fault::BuffersInProcessMemory, "law_3_buffered_changes_survive_a_kill"),
            (Fault::AcknowledgesFailedFlush, "law_6_a_failed_flush_is_never_acknowledged"),
            (Fault::HidesDamage, "law_7_damage_is_never_silent"),
            (Fault::HidesUnreadableSessions, "law_7_damage_is_never_silent"),
        ] {
            let law = LAWS.iter().find(|law| law.name == name).expect("a law of the list");
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            let outcome = runtime.block_on(law.judge(&FaultyHarness::new(OnFaultDisk::failing(0, 2), fault)));
            assert!(matches!(outcome, LawOutcome::Violated(_)), "{fault:?} by {name}: {outcome:?}");
        }
    }
}
