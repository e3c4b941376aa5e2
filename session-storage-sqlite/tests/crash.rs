//! What is left of a store's files after crashes: the write-ahead log cut, zeroed or changed at any place, and a disk without
//! room. Real kills are in `kill`.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use session_core::{
    Condition, Durability, ErrorCode, SessionFilter, SessionStorage as _, SessionStorageExt as _,
    StorageError, StorageMaintenance as _,
};
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

/// A log, and how much of it was acknowledged as flushed.
struct Known {
    log: Log,
    flushed: u64,
}

/// Some sessions whose appends are flushed now and then; the last ones are not.
async fn life(storage: &SqliteStorage, random: &mut Random) -> Vec<Known> {
    let mut all: Vec<Known> = (0..4).map(|_| Known { log: Log::plain(), flushed: 0 }).collect();
    for step in 0..60 {
        let at = random.below(all.len());
        let known = all.get_mut(at).unwrap();
        known.log.grow("x".repeat(random.below(900)));
        let new = known.flushed == 0;
        let durability =
            if step < 50 && random.one_in(2) { Durability::Flushed } else { Durability::Buffered };
        known.log.take().send(storage, durability).await.unwrap();
        if new || durability == Durability::Flushed {
            known.flushed = known.log.revision();
        }
    }
    all.retain(|known| known.flushed > 0);
    all
}

/// Whatever the log has become, each session has all that was flushed, or says what is gone; what is there is a prefix of what
/// was appended; and where something is gone nothing is written.
#[tokio::test]
async fn no_harm_to_the_write_ahead_log_is_silent() {
    let (mut healthy, mut lost) = (0, 0);
    for seed in seeds(4) {
        let mut random = Random::new(seed);
        let place = tempfile::tempdir().unwrap();
        let storage = open(place.path());
        drop(life(&storage, &mut random).await);
        drop(storage); // Some of it is in the database.
        let storage = open(place.path());
        let all = life(&storage, &mut random).await;
        let killed = tempfile::tempdir().unwrap();
        copy(place.path(), killed.path());
        drop(storage);
        let wal = fs::read(killed.path().join("sessions.db-wal")).unwrap();
        for harm in 0..40 {
            let case = format!("seed {seed}, harm {harm}");
            let mut bytes = wal.clone();
            let at = random.below(bytes.len());
            match harm {
                0 => {}
                // Only what was never flushed: the last frame of 4096 bytes and its header.
                1 => bytes.truncate(wal.len() - 4120),
                harm if harm % 3 == 0 => bytes.truncate(at),
                harm if harm % 3 == 1 => bytes.get_mut(at..).unwrap().fill(0),
                _ => *bytes.get_mut(at).unwrap() ^= 1 << random.below(8),
            }
            let left = tempfile::tempdir().unwrap();
            copy(killed.path(), left.path());
            fs::write(left.path().join("sessions.db-wal"), &bytes).unwrap();
            let storage = open(left.path());
            let mut any = false;
            for Known { log, flushed } in &all {
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
                assert_eq!(read, log.records().get(..read.len()).unwrap(), "{case}: no prefix");
                let gone = (read.len() as u64) < *flushed;
                assert_eq!(gone, end.is_some(), "{case}: {} of {flushed} are left, {end:?}", read.len());
                any |= gone;
                let condition = storage.verify(log.id()).await.unwrap().condition;
                assert_eq!(condition == Condition::Corrupt, gone, "{case}: {condition}");
                let page = storage.list_all(&SessionFilter::all()).await.unwrap();
                assert_eq!(page.unreadable.iter().any(|(id, _)| *id == log.id()), gone, "{case}");
            }
            let answer = Log::plain().take().send(&storage, Durability::Flushed).await;
            match answer {
                Ok(_) => assert!(!any, "{case}: it was written, and something is gone"),
                Err(error) => assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{case}"),
            }
            *(if any { &mut lost } else { &mut healthy }) += 1;
        }
    }
    assert!(healthy > 4 && lost > 40, "{healthy} without loss, {lost} with");
}

/// Mounted for the test, unmounted at its end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_acknowledged_and_with_room_it_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(place.path()) else {
        eprintln!("not run: no small disk can be mounted here");
        return;
    };
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
        let known = records.len().min(log.records().len());
        assert_eq!(records, log.records().get(..known).unwrap(), "round {round}");
        // Room is made.
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
