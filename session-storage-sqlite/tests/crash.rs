//! Damage to a store's files after crashes: the write-ahead log cut, zeroed or changed at any offset, and a full disk.
//! Real kills are in `kill`.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use session_core::backend::{SessionStorage as _, SessionStorageExt as _};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Durability, ErrorCode, SessionFilter, StorageError};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::Log;
use session_testkit::random::{Random, seeds};

fn open(folder: &Path) -> SqliteStorage {
    SqliteStorage::open(SqliteStorageOptions::new(folder.join("sessions.db"))).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A log, and the revision up to which it was acknowledged as flushed.
struct Expected {
    log: Log,
    flushed: u64,
}

/// Creates sessions with flushed and buffered appends; the last appends are buffered.
async fn life(storage: &SqliteStorage, random: &mut Random) -> Vec<Expected> {
    let mut all: Vec<Expected> = (0..4).map(|_| Expected { log: Log::plain(), flushed: 0 }).collect();
    for step in 0..60 {
        let at = random.below(all.len());
        let expected = all.get_mut(at).unwrap();
        expected.log.grow("x".repeat(random.below(900)));
        let new = expected.flushed == 0;
        let durability =
            if step < 50 && random.one_in(2) { Durability::Flushed } else { Durability::Buffered };
        expected.log.take().send(storage, durability).await.unwrap();
        if new || durability == Durability::Flushed {
            expected.flushed = expected.log.revision();
        }
    }
    all.retain(|expected| expected.flushed > 0);
    all
}

/// After any damage to the log, each session has all that was flushed, or reports the loss; its records are a prefix of
/// what was appended; and after a loss nothing can be written.
#[tokio::test]
async fn damage_to_the_write_ahead_log_is_never_silent() {
    let (mut healthy, mut lost) = (0, 0);
    for seed in seeds(4) {
        let mut random = Random::new(seed);
        let place = tempfile::tempdir().unwrap();
        let storage = open(place.path());
        drop(life(&storage, &mut random).await);
        drop(storage); // Checkpoints it into the database.
        let storage = open(place.path());
        let all = life(&storage, &mut random).await;
        let killed = tempfile::tempdir().unwrap();
        copy(place.path(), killed.path());
        drop(storage);
        let wal = fs::read(killed.path().join("sessions.db-wal")).unwrap();
        for damage in 0..40 {
            let case = format!("seed {seed}, damage {damage}");
            let mut bytes = wal.clone();
            let at = random.below(bytes.len());
            match damage {
                0 => {}
                // Only unflushed data: the last frame of 4096 bytes and its header.
                1 => bytes.truncate(wal.len() - 4120),
                damage if damage % 3 == 0 => bytes.truncate(at),
                damage if damage % 3 == 1 => bytes.get_mut(at..).unwrap().fill(0),
                _ => *bytes.get_mut(at).unwrap() ^= 1 << random.below(8),
            }
            let damaged = tempfile::tempdir().unwrap();
            copy(killed.path(), damaged.path());
            fs::write(damaged.path().join("sessions.db-wal"), &bytes).unwrap();
            let storage = open(damaged.path());
            let mut any_lost = false;
            for Expected { log, flushed } in &all {
                let (read, end) = match storage.records_after(log.id(), 0).await {
                    Ok(records) => (records, None),
                    Err(error) => {
                        let StorageError::Corrupt { readable, .. } = &error else {
                            panic!("{case}: {error}")
                        };
                        let mut records = Vec::new();
                        while (records.len() as u64) < *readable {
                            let after = records.len() as u64;
                            records.extend(storage.record(log.id(), after + 1).await.unwrap());
                            assert!(records.len() as u64 > after, "{case}");
                        }
                        (records, Some(error))
                    }
                };
                assert_eq!(read, log.records().get(..read.len()).unwrap(), "{case}: not a prefix");
                let is_lost = (read.len() as u64) < *flushed;
                assert_eq!(is_lost, end.is_some(), "{case}: {} of {flushed} are left, {end:?}", read.len());
                any_lost |= is_lost;
                let condition = storage.verify(log.id()).await.unwrap().condition;
                assert_eq!(condition == Condition::Corrupt, is_lost, "{case}: {condition}");
                let page = storage.list_all(&SessionFilter::all()).await.unwrap();
                assert_eq!(page.unreadable.iter().any(|(id, _)| *id == log.id()), is_lost, "{case}");
            }
            let result = Log::plain().take().send(&storage, Durability::Flushed).await;
            match result {
                Ok(_) => assert!(!any_lost, "{case}: an append succeeded after a loss"),
                Err(error) => assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{case}"),
            }
            *(if any_lost { &mut lost } else { &mut healthy }) += 1;
        }
    }
    assert!(healthy > 4 && lost > 40, "{healthy} without loss, {lost} with");
}

/// A small file system, mounted for the test and unmounted at its end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let size = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        let is_mounted = mount.is_ok_and(|output| output.status.success());
        if !is_mounted {
            eprintln!("not run: cannot mount a small file system here");
        }
        is_mounted.then(|| Self(at.to_owned()))
    }

    /// Takes all room that is left, like another program.
    fn fill(&self, name: &str) {
        let mut file = fs::File::create(self.0.join(name)).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_appends_until_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(place.path(), "2m") else { return };
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![1; 600 << 10]).unwrap();
    let storage = open(&disk.0);
    let mut log = Log::plain();
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    for round in 0..3 {
        let mut acknowledged = log.clone();
        let error = loop {
            log.noted("x".repeat(8000));
            match log.take().send(&storage, Durability::Flushed).await {
                Ok(_) => acknowledged = log.clone(),
                Err(error) => break error,
            }
            assert!(log.revision() < 2000);
        };
        let code = error.code();
        assert!(
            matches!(code, ErrorCode::StorageFull | ErrorCode::OutcomeUnknown),
            "round {round}: {error:?}"
        );
        let records = storage.records_after(log.id(), 0).await.unwrap();
        assert!(records.len() >= acknowledged.records().len(), "round {round}: {} are left", records.len());
        let length = records.len().min(log.records().len());
        assert_eq!(records, log.records().get(..length).unwrap(), "round {round}");
        // Free some space.
        if round == 0 {
            fs::remove_file(&ballast).unwrap();
        } else {
            storage.delete(log.id(), records.last().unwrap().tip()).await.ok();
        }
        log = match Log::read(&storage, log.id()).await {
            Ok(log) => log,
            Err(_) => Log::plain(),
        };
        if round == 0 {
            log.noted("there is room");
            log.take().send(&storage, Durability::Flushed).await.unwrap();
        } else {
            break;
        }
    }
    drop(storage);
    let storage = open(&disk.0);
    assert!(storage.verify_all().await.unwrap().problems.is_empty());
}

/// On a full disk nothing could be listed or deleted, so that no room could be made: the write-ahead log needs some, and
/// its index.
#[tokio::test]
async fn sessions_are_listed_and_deleted_on_a_full_disk() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(place.path(), "16m") else { return };
    let storage = open(&disk.0);
    let (mut large, mut small) = (Log::plain(), Log::plain());
    for number in 0..400 {
        large.noted(format!("{number} {}", "x".repeat(8000)));
    }
    for log in [&mut large, &mut small] {
        log.take().send(&storage, Durability::Flushed).await.unwrap();
    }
    drop(storage);
    let mut all = vec![large, small];
    while let Some(log) = all.first() {
        disk.fill(&format!("before {}", log.id()));
        for _ in 0..3 {
            let found = open(&disk.0).list_all(&SessionFilter::all()).await.unwrap();
            assert_eq!(found.heads.len(), all.len());
        }
        disk.fill(&format!("after {}", log.id()));
        let storage = open(&disk.0);
        storage.delete(log.id(), log.tip()).await.unwrap();
        all.remove(0);
    }
    let storage = open(&disk.0);
    assert!(storage.verify_all().await.unwrap().problems.is_empty());
    // The deleted records left room in the database.
    Log::plain().take().send(&storage, Durability::Flushed).await.unwrap();
}
