//! The file `FORMAT`, damaged in every way: what is certainly ours is rebuilt from the logs, and nothing else.

#![cfg(feature = "fault-disk")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

#[expect(dead_code, reason = "each test uses only a part of the shared code")]
mod common {
    pub(crate) mod logs;
    pub(crate) mod store;
}

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use session_core::backend::{Chain, Expected, SessionStorage as _, SessionStorageExt as _, UnsealedRecord};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{
    Durability, ErrorCode, SessionConfig, SessionEvent, SessionFilter, SessionId, StorageError, Timestamp,
};
use session_storage_file::fault::{Content, Effect, Fault, FaultDisk, Keep, Moment};
use session_storage_file::{FileStorage, FileStorageOptions};

use common::logs::{self, id, seal, wait};
use common::store::{ROOT, closed, open};

const GOOD: &str = "{\"format\":1,\"store\":\"5d4d2f7e-52f7-4dcd-9e0b-3b1f5f1a4b5e\"}\n";

fn format_path() -> PathBuf {
    PathBuf::from(ROOT).join("FORMAT")
}

fn open_for_repair(disk: &FaultDisk) -> Result<FileStorage, StorageError> {
    let options = FileStorageOptions::new(ROOT).without_threads();
    FileStorage::with_disk_for_repair(Arc::new(disk.clone()), options)
}

/// Opens the store for repair, and reconciles it. Returns the sentences about the store.
fn repair(disk: &FaultDisk) -> Result<Vec<String>, StorageError> {
    let storage = open_for_repair(disk)?;
    let report = wait(storage.reconcile())?;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    Ok(report.store)
}

/// Returns a store with these sessions, each started.
fn store(sessions: &[u64]) -> Moment {
    let disk = FaultDisk::new();
    let storage = open(&disk.process()).unwrap();
    for number in sessions {
        let batch = seal(id(*number), None, 0, vec![logs::created("one"), logs::started(*number)]);
        wait(storage.append(id(*number), Expected::Absent, batch, Durability::Flushed)).unwrap();
    }
    drop(storage);
    closed(&disk).unwrap();
    if !sessions.is_empty() {
        disk.edit(&format_path(), |bytes| *bytes = GOOD.as_bytes().to_vec()).unwrap();
    }
    disk.now()
}

fn set_format(disk: &FaultDisk, content: &[u8]) {
    disk.edit(&format_path(), |bytes| *bytes = content.to_vec()).unwrap();
}

fn files(disk: &FaultDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let file = |(path, content)| match content {
        Content::File(bytes) => Some((path, bytes.to_vec())),
        Content::Dir => None,
    };
    disk.tree().into_iter().filter_map(file).collect()
}

fn format_of(disk: &FaultDisk) -> Option<Vec<u8>> {
    files(disk).into_iter().find(|(path, _)| *path == format_path()).map(|(_, bytes)| bytes)
}

/// The expected treatment of a file of this content, judged without the code under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    Opens,
    Repaired,
    /// It names a newer format, and so it may be one.
    Untouched,
}

fn expectation(content: &[u8]) -> Expectation {
    let json: serde_json::Value = serde_json::from_slice(content).unwrap_or_default();
    let uuid = json["store"].as_str().is_some_and(|text| {
        let plain: String = text.chars().filter(|c| *c != '-').collect();
        plain.len() == 32 && plain.chars().all(|c| c.is_ascii_hexdigit())
    });
    let text = String::from_utf8_lossy(content);
    let named = text.split("\"format\":").nth(1).map(|rest| {
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap_or(0)
    });
    match json["format"].as_u64().or(named) {
        Some(newer) if newer > 1 => Expectation::Untouched,
        Some(1) if uuid => Expectation::Opens,
        _ => Expectation::Repaired,
    }
}

/// Opens a store with this `FORMAT`, repairs it if that is expected, and checks everything that follows.
fn check(moment: &Moment, content: &[u8]) -> Expectation {
    let expected = expectation(content);
    let shown = String::from_utf8_lossy(content).into_owned();
    let disk = moment.kill();
    set_format(&disk, content);
    let opened = open(&disk);
    match expected {
        Expectation::Opens => drop(opened.unwrap_or_else(|error| panic!("{shown}: {error}"))),
        Expectation::Untouched => {
            assert_eq!(opened.unwrap_err().code(), ErrorCode::UnsupportedFormat, "{shown}");
            let before = files(&disk);
            assert_eq!(repair(&disk).unwrap_err().code(), ErrorCode::UnsupportedFormat, "{shown}");
            assert_eq!(files(&disk), before, "{shown}");
        }
        Expectation::Repaired => {
            let error = opened.unwrap_err();
            assert!(matches!(error, StorageError::StoreDamaged { .. }), "{shown}: {error:?}");
            assert!(error.to_string().contains("`sessionctl verify --repair`"), "{error}");
            let repairs = repair(&disk).unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(repairs.len(), 1, "{shown}: {repairs:?}");
            let storage = open(&disk).unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(wait(storage.records_after(id(1), 0)).unwrap().len(), 2, "{shown}");
            assert_eq!(expectation(&format_of(&disk).unwrap()), Expectation::Opens, "{shown}");
            let kept = files(&disk).into_iter().find(|(path, _)| path.ends_with("quarantine/FORMAT.1"));
            assert_eq!(kept.unwrap().1, content, "{shown}");
            assert!(repair(&disk).unwrap().is_empty(), "{shown}: repaired twice");
        }
    }
    expected
}

#[test]
fn every_damaged_byte_is_repaired_or_harmless() {
    let moment = store(&[1]);
    let mut counts = [0; 3];
    for at in 0..GOOD.len() {
        for value in 0..=u8::MAX {
            let mut content = GOOD.as_bytes().to_vec();
            if std::mem::replace(content.get_mut(at).unwrap(), value) != value {
                *counts.get_mut(check(&moment, &content) as usize).unwrap() += 1;
            }
        }
    }
    let [opens, repaired, untouched] = counts;
    // Digits of the id, white space at the end; and a format that reads as 2 to 9, or 10 to 19.
    assert!(opens > 400 && repaired > 10_000, "{counts:?}");
    assert!((8..40).contains(&untouched), "{counts:?}");
}

#[test]
fn every_cut_of_the_format_file_is_repaired() {
    let moment = store(&[1]);
    for length in 0..GOOD.len() - 2 {
        let content = GOOD.as_bytes().get(..length).unwrap();
        assert_eq!(check(&moment, content), Expectation::Repaired, "{length}");
    }
    assert_eq!(check(&moment, GOOD.trim_end().as_bytes()), Expectation::Opens);
}

#[test]
fn an_id_that_can_be_read_is_kept() {
    let disk = store(&[1]).kill();
    set_format(&disk, GOOD.replace("\"format\":1", "\"format\":0").as_bytes());
    let repairs = repair(&disk).unwrap();
    assert!(!repairs.concat().contains("new store id"), "{repairs:?}");
    assert_eq!(format_of(&disk).unwrap(), GOOD.as_bytes());
    set_format(&disk, b"damaged");
    let repairs = repair(&disk).unwrap();
    assert!(repairs.concat().contains("new store id"), "{repairs:?}");
    assert_ne!(format_of(&disk).unwrap(), GOOD.as_bytes());
}

#[test]
fn a_lost_format_file_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let path = real_store(folder.path());
    fs::remove_file(path.join("FORMAT")).unwrap();
    let error = FileStorage::open(FileStorageOptions::new(&path)).unwrap_err();
    assert!(matches!(error, StorageError::StoreDamaged { .. }), "{error:?}");
    assert_eq!(repair_at(&path).unwrap().len(), 1);
    let storage = FileStorage::open(FileStorageOptions::new(&path)).unwrap();
    assert_eq!(wait(storage.list_all(&SessionFilter::all())).unwrap().heads.len(), 1);
}

#[test]
fn what_is_no_file_is_moved_aside() {
    for is_link in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = real_store(folder.path());
        let format = path.join("FORMAT");
        fs::remove_file(&format).unwrap();
        if is_link {
            std::os::unix::fs::symlink("/etc/hostname", &format).unwrap();
        } else {
            fs::create_dir(&format).unwrap();
        }
        assert_eq!(repair_at(&path).unwrap().len(), 1, "{is_link}");
        assert!(fs::symlink_metadata(&format).unwrap().is_file());
        assert!(fs::symlink_metadata(path.join("quarantine/FORMAT.1")).is_ok());
        FileStorage::open(FileStorageOptions::new(&path)).unwrap();
    }
}

#[test]
fn a_newer_format_is_never_rebuilt() {
    let moment = store(&[1]);
    let newer = GOOD.replace("\"format\":1", "\"format\":2").replace('}', ",\"layout\":[\"a\",\"b\"]}");
    let named = newer.find(',').unwrap();
    for length in named..=newer.len() {
        assert_eq!(check(&moment, newer.as_bytes().get(..length).unwrap()), Expectation::Untouched);
    }
}

#[test]
fn a_session_of_a_newer_format_blocks_the_repair() {
    let disk = store(&[1, 2]).kill();
    let owner = logs::owner(2);
    let config = Box::new(SessionConfig::new("newer"));
    let event = SessionEvent::Created { format: 2, config, creator: owner, origin: None, inherits: 0 };
    let at = Timestamp::from_millis(1_795_253_400_000).unwrap();
    let unsealed = UnsealedRecord { at, attempt: 0, flushed: 0, event };
    let (record, _) = Chain::start(id(2)).seal(unsealed).unwrap();
    let log = PathBuf::from(ROOT).join(format!("sessions/{}/events.jsonl", id(2)));
    disk.edit(&log, |bytes| *bytes = format!("{}\n", record.line()).into_bytes()).unwrap();
    set_format(&disk, b"damaged");
    let before = files(&disk);
    let error = repair(&disk).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnsupportedFormat, "{error}");
    assert!(error.to_string().contains(&id(2).to_string()), "{error}");
    assert_eq!(files(&disk), before);
}

#[test]
fn an_unknown_neighbour_blocks_the_repair() {
    let folder = tempfile::tempdir().unwrap();
    let path = real_store(folder.path());
    fs::write(path.join("FORMAT"), "damaged").unwrap();
    fs::write(path.join("index.v2"), "newer").unwrap();
    let error = repair_at(&path).unwrap_err();
    assert!(error.to_string().contains("index.v2"), "{error}");
    assert_eq!(fs::read_to_string(path.join("FORMAT")).unwrap(), "damaged");
    fs::remove_file(path.join("index.v2")).unwrap();
    assert_eq!(repair_at(&path).unwrap().len(), 1);
}

#[test]
fn an_empty_store_proves_nothing() {
    let disk = store(&[1]).kill();
    let storage = open(&disk).unwrap();
    let head = wait(storage.head(id(1))).unwrap().unwrap();
    let end = seal(id(1), Some(&head), 0, vec![logs::completed(&head)]);
    let tip = wait(storage.append(id(1), Expected::At(head.tip), end, Durability::Flushed)).unwrap();
    wait(storage.delete(id(1), tip)).unwrap();
    drop(storage);
    set_format(&disk, b"damaged");
    let before = files(&disk);
    let error = repair(&disk).unwrap_err();
    assert!(matches!(error, StorageError::StoreDamaged { .. }), "{error:?}");
    assert!(error.to_string().contains("remove /store/FORMAT"), "{error}");
    assert_eq!(files(&disk), before);
}

#[test]
fn damaged_sessions_prove_nothing() {
    let disk = store(&[1, 2]).kill();
    set_format(&disk, b"damaged");
    let log = |number| PathBuf::from(ROOT).join(format!("sessions/{}/events.jsonl", id(number)));
    disk.edit(&log(1), |bytes| bytes.rotate_left(1)).unwrap();
    let intact = disk.now().kill();
    disk.edit(&log(2), |bytes| *bytes = b"garbage\n".to_vec()).unwrap();
    let error = repair(&disk).unwrap_err();
    assert!(error.to_string().contains("none of the 2 sessions"), "{error}");
    assert_eq!(format_of(&disk).unwrap(), b"damaged");
    // One intact log is enough, and the damaged one is reported as such.
    let storage = open_for_repair(&intact).unwrap();
    assert_eq!(wait(storage.reconcile()).unwrap().store.len(), 1);
    let condition = |number| wait(storage.verify(id(number))).unwrap().condition;
    assert_eq!((condition(1), condition(2)), (Condition::Corrupt, Condition::Healthy));
}

#[test]
fn a_damaged_store_can_be_read_but_not_written() {
    let disk = store(&[1]).kill();
    set_format(&disk, b"damaged");
    let storage = open_for_repair(&disk).unwrap();
    let before = files(&disk);
    let health = wait(storage.verify_all()).unwrap();
    assert_eq!(health.problems, ["/store/FORMAT is damaged"]);
    assert_eq!(health.sessions.len(), 1);
    let head = wait(storage.head(id(1))).unwrap().unwrap();
    let batch = seal(id(2), None, 0, vec![logs::created("two")]);
    let created = wait(storage.append(id(2), Expected::Absent, batch, Durability::Flushed));
    assert!(matches!(created, Err(StorageError::StoreDamaged { .. })), "{created:?}");
    let deleted = wait(storage.delete(id(1), head.tip));
    assert!(matches!(deleted, Err(StorageError::StoreDamaged { .. })), "{deleted:?}");
    assert_eq!(files(&disk), before);
    wait(storage.reconcile()).unwrap();
    let batch = seal(id(2), None, 0, vec![logs::created("two")]);
    wait(storage.append(id(2), Expected::Absent, batch, Durability::Flushed)).unwrap();
    assert!(wait(storage.verify_all()).unwrap().problems.is_empty());
}

#[test]
fn two_processes_repair_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = real_store(folder.path());
    for _ in 0..20 {
        fs::write(path.join("FORMAT"), "damaged").unwrap();
        let repairs: usize = std::thread::scope(|scope| {
            let repairing: Vec<_> = (0..2).map(|_| scope.spawn(|| repair_at(&path).unwrap().len())).collect();
            repairing.into_iter().map(|repairing| repairing.join().unwrap()).sum()
        });
        assert_eq!(repairs, 1);
        FileStorage::open(FileStorageOptions::new(&path)).unwrap();
    }
}

/// A kill before each call of the repair, and a power cut in each mode: the next repair completes it, and no record is
/// lost.
#[test]
fn an_interrupted_repair_is_completed_by_the_next() {
    let damaged = store(&[1, 2]).kill();
    set_format(&damaged, b"damaged");
    let damaged = damaged.now();
    let mut calls = 0;
    loop {
        let disk = damaged.kill();
        let doomed = disk.process();
        doomed.inject(Fault::nth(calls, Effect::Death).in_process(doomed.process_number()));
        let result = open_for_repair(&doomed).and_then(|storage| wait(storage.reconcile()));
        if !doomed.is_dead() {
            assert_eq!(result.unwrap().store.len(), 1);
            break;
        }
        let now = disk.now();
        let cuts = Keep::FIXED.into_iter().chain((0..4).map(Keep::Random)).map(|keep| now.cut(keep));
        for image in std::iter::once(now.kill()).chain(cuts) {
            repair(&image).unwrap_or_else(|error| panic!("after {calls} calls: {error}"));
            let storage = open(&image).unwrap();
            for number in [1, 2] {
                assert_eq!(wait(storage.records_after(id(number), 0)).unwrap().len(), 2);
            }
        }
        calls += 1;
    }
    assert!(calls > 30, "{calls}");
}

#[test]
fn a_failed_repair_is_completed_by_the_next() {
    let damaged = store(&[1, 2]).kill();
    set_format(&damaged, b"damaged");
    let damaged = damaged.now();
    for effect in Effect::ALL {
        for calls in 0.. {
            let disk = damaged.kill();
            disk.inject(Fault::nth(calls, effect));
            let _ = open_for_repair(&disk).and_then(|storage| wait(storage.reconcile()));
            let triggered = disk.triggered_faults() > 0;
            disk.clear_faults();
            repair(&disk).unwrap_or_else(|error| panic!("{effect:?} after {calls} calls: {error}"));
            let storage = open(&disk).unwrap();
            assert_eq!(wait(storage.records_after(id(1), 0)).unwrap().len(), 2);
            if !triggered {
                break;
            }
        }
    }
}

/// Creates a store with one session in a folder.
fn real_store(folder: &Path) -> PathBuf {
    let path = folder.join("store");
    let storage = FileStorage::open(FileStorageOptions::new(&path)).unwrap();
    let id = SessionId::random();
    let batch = seal(id, None, 0, vec![logs::created("one"), logs::started(1)]);
    wait(storage.append(id, Expected::Absent, batch, Durability::Flushed)).unwrap();
    path
}

fn repair_at(path: &Path) -> Result<Vec<String>, StorageError> {
    let storage = FileStorage::open_for_repair(FileStorageOptions::new(path))?;
    Ok(wait(storage.reconcile())?.store)
}
