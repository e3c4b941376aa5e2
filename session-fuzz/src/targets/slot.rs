//! The slots beside a log that is whole.

use session_core::{
    Batch, Condition, Durability, Expected, SessionStorage as _, StorageError, StorageMaintenance as _,
};
use session_storage_file::FileStorage;
use session_storage_file::fault::{Content, FaultDisk, Keep};

use super::head;
use super::whole_log::{check_append, check_bystander, condition, read};
use crate::samples::{self, Sample, note, open, seal};
use crate::{InputOutcome, REPAIR, repair, wait};

/// The machine was started anew since the slots were written.
const REBOOTED: u8 = 1;

/// Byte 1 chooses the story whose slots the rest takes the place of.
///
/// Slots are a cache and a mark: whatever they say, the log shows its records, all and no others. Slots whose sums are
/// wrong are as good as none. Right sums are no signature: such a slot may lie about the head after a record whose sum
/// stands in the log, and about what was flushed; where it speaks of more than there is, the log counts as damaged, which
/// is told. Nothing else may come of it.
pub fn slot(input: &[u8]) -> InputOutcome {
    let ([flags, sample], slots) = head(input);
    let sample = samples::select(sample);
    let repaired = (flags & REPAIR != 0).then(|| repair::slots(sample.id, slots));
    let disk = if flags & REBOOTED != 0 { sample.disk.cut(Keep::All) } else { sample.disk.kill() };
    let slots = repaired.as_deref().unwrap_or(slots);
    disk.edit(&sample.path("head.json"), |bytes| *bytes = slots.to_vec()).expect("there are slots");
    let storage = open(&disk.process());

    let (records, end) = read(&storage, sample.id);
    assert_eq!(records, sample.records, "the log is whole: {end:?}");
    let report = wait(storage.verify(sample.id)).expect("it can be looked at");
    let reported = match report.condition {
        Condition::Healthy => false,
        Condition::Degraded | Condition::Corrupt => true,
        other => panic!("a whole log is {other}: {report:?}"),
    };
    match &end {
        // Whoever asks for what is behind the end gets to know what the verdict knows.
        Some(StorageError::Corrupt { .. }) => assert!(reported, "{report:?}: {end:?}"),
        // A mark that names a record by the number of another one: only `verify`, which counts them, finds that.
        None => assert!(!reported || repaired.is_some(), "{report:?}: nobody is told"),
        Some(error) => panic!("{error}"),
    }
    let found = wait(storage.head(sample.id)).expect("the log is whole").expect("the session is there");
    assert_eq!(found.id, sample.id);
    assert!(sample.records.iter().any(|record| record.tip().sum == found.tip.sum), "{found:?}");
    if repaired.is_none() {
        assert_eq!(Some(&found), sample.heads.last(), "a slot with a wrong sum is believed");
        assert!(!reported, "{report:?}: a slot with a wrong sum is believed");
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

/// Whatever a slot claims: an append is behind all records, and safe, or it is refused and nothing has changed.
fn check_append_or_refusal(disk: &FaultDisk, storage: &FileStorage, sample: &Sample, before: Condition) {
    let log = || match disk.tree().remove(&sample.path("events.jsonl")) {
        Some(Content::File(bytes)) => bytes,
        other => panic!("the log is {other:?}"),
    };
    let bytes = log();
    let head = sample.heads.last().expect("a story has records");
    let (batch, mut all) = (
        if head.state().is_final() { Batch::empty() } else { seal(sample.id, Some(head), 0, vec![note(30)]) },
        sample.records.clone(),
    );
    all.extend_from_slice(batch.records());
    match wait(storage.append(sample.id, Expected::At(head.tip), batch, Durability::Flushed)) {
        Ok(_) => {
            assert_ne!(before, Condition::Corrupt, "it was read-only");
            assert_eq!(read(storage, sample.id).0, all);
            let after = disk.now().cut(Keep::Synced);
            let storage = open(&after);
            assert_eq!(read(&storage, sample.id).0, all, "after a loss of power");
            // What was written is the newest: nothing of what the slots claimed is left.
            assert!(matches!(condition(&storage, sample.id), Condition::Healthy | Condition::Degraded));
        }
        Err(error) => {
            assert_eq!(before, Condition::Corrupt, "{error}");
            assert!(log() == bytes, "it was refused and changed: {error}");
            assert_eq!(read(storage, sample.id).0, sample.records);
        }
    }
    assert_eq!(disk.violations(), [""; 0]);
}
