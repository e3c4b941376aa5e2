//! Fuzz target for the slots next to an intact log.

use session_core::backend::{Batch, Expected, SessionStorage as _};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Durability, StorageError};
use session_storage_file::FileStorage;
use session_storage_file::fault::{Content, FaultDisk, Keep};

use super::head;
use super::whole_log::{check_append, check_bystander, condition, read};
use crate::samples::{self, Sample, note, open, seal};
use crate::{InputOutcome, REPAIR, repair, wait};

/// The flag for a reboot since the slots were written.
const REBOOTED: u8 = 1;

/// Opens a session: byte 1 selects the sample, and the rest replaces its slots.
///
/// Slots are a cache and a mark. Regardless of their contents, a read returns all records of the log and no others.
/// Slots with wrong checksums are ignored. A correct checksum is not a signature: such a slot may contain a wrong head
/// for a record whose checksum is in the log, and a wrong flushed revision. If it claims more records than the log has,
/// the log is treated as damaged and the damage is reported. There must be no other effect.
pub fn slot(input: &[u8]) -> InputOutcome {
    let ([flags, sample], slots) = head(input);
    let sample = samples::select(sample);
    let repaired = (flags & REPAIR != 0).then(|| repair::slots(sample.id, slots));
    let disk = if flags & REBOOTED != 0 { sample.disk.cut(Keep::All) } else { sample.disk.kill() };
    let slots = repaired.as_deref().unwrap_or(slots);
    disk.edit(&sample.path("head.json"), |bytes| *bytes = slots.to_vec()).expect("there are slots");
    let storage = open(&disk.process());

    let (records, end) = read(&storage, sample.id);
    assert_eq!(records, sample.records, "the log is intact: {end:?}");
    let report = wait(storage.verify(sample.id)).expect("the session can be verified");
    let reported = match report.condition {
        Condition::Healthy => false,
        Condition::Degraded | Condition::Corrupt => true,
        other => panic!("an intact log is {other}: {report:?}"),
    };
    match &end {
        // Reading past the end reports the same damage as `verify`.
        Some(StorageError::Corrupt { .. }) => assert!(reported, "{report:?}: {end:?}"),
        // Only `verify`, which counts the records, finds a mark with the number of one record and the checksum of
        // another.
        None => assert!(!reported || repaired.is_some(), "{report:?}: the damage is not reported"),
        Some(error) => panic!("{error}"),
    }
    let found = wait(storage.head(sample.id)).expect("the log is intact").expect("the session exists");
    assert_eq!(found.id, sample.id);
    assert!(sample.records.iter().any(|record| record.tip().sum == found.tip.sum), "{found:?}");
    if repaired.is_none() {
        assert_eq!(Some(&found), sample.heads.last(), "a slot with a wrong checksum was used");
        assert!(!reported, "{report:?}: a slot with a wrong checksum was used");
        assert_eq!(report.flushed.max(sample.flushed as u64), sample.flushed as u64);
        check_append(&disk, &storage, sample.id, &sample.records);
    } else {
        check_append_or_refusal(&disk, &storage, sample, report.condition);
    }
    check_bystander(&storage, sample);
    if reported || Some(&found) != sample.heads.last() {
        InputOutcome::Refused
    } else {
        InputOutcome::Accepted
    }
}

/// Checks that an append is stored durably behind all records, or is refused without a change.
fn check_append_or_refusal(disk: &FaultDisk, storage: &FileStorage, sample: &Sample, before: Condition) {
    let log = || match disk.tree().remove(&sample.path("events.jsonl")) {
        Some(Content::File(bytes)) => bytes,
        other => panic!("the log is {other:?}"),
    };
    let bytes = log();
    let head = sample.heads.last().expect("a sample has records");
    let (batch, mut all) = (
        if head.state().is_final() { Batch::empty() } else { seal(sample.id, Some(head), 0, vec![note(30)]) },
        sample.records.clone(),
    );
    all.extend(batch.load().expect("it is in memory"));
    match wait(storage.append(sample.id, Expected::At(head.tip), batch, Durability::Flushed)) {
        Ok(_) => {
            assert_ne!(before, Condition::Corrupt, "the session was read-only");
            assert_eq!(read(storage, sample.id).0, all);
            let after = disk.now().cut(Keep::Synced);
            let storage = open(&after);
            assert_eq!(read(&storage, sample.id).0, all, "after power loss");
            // The append has replaced the slots.
            assert!(matches!(condition(&storage, sample.id), Condition::Healthy | Condition::Degraded));
        }
        Err(error) => {
            assert_eq!(before, Condition::Corrupt, "{error}");
            assert!(log() == bytes, "the log was changed although the append was refused: {error}");
            assert_eq!(read(storage, sample.id).0, sample.records);
        }
    }
    assert_eq!(disk.violations(), [""; 0]);
}
