//! Fuzz target for a session's log, in a store with its slots or without.

use std::num::NonZeroUsize;

use session_core::backend::{
    Batch, DecodeError, Expected, SessionStorage as _, SessionStorageExt as _, follows,
};
use session_core::maintenance::{AcceptedLoss, Condition, StorageMaintenance as _};
use session_core::{Durability, Head, SessionFilter, SessionId, StorageError, StoredRecord};
use session_storage_file::fault::{Content, FaultDisk, Keep};
use session_storage_file::{Disk as _, FileStorage};

use super::head;
use super::record_line::{chain_of, check_head};
use crate::samples::{self, Sample, note, open, seal};
use crate::{InputOutcome, REPAIR, repair, wait};

/// The flag for a reboot since the log was written.
const REBOOTED: u8 = 1;
/// The flag for missing slots.
const WITHOUT_SLOTS: u8 = 2;

/// Opens a session: byte 1 selects the sample, and the rest replaces its log.
///
/// The store must behave as `docs/format.md` specifies: a read returns exactly the records of the unbroken chain, then
/// the end or an error; `verify` returns the specified condition; and an append is accepted or refused accordingly.
pub fn whole_log(input: &[u8]) -> InputOutcome {
    let ([flags, sample], log) = head(input);
    let sample = samples::select(sample);
    let repaired = (flags & REPAIR != 0).then(|| repair::log(sample.id, log));
    let log = repaired.as_deref().unwrap_or(log);
    let (rebooted, without_slots) = (flags & REBOOTED != 0, flags & WITHOUT_SLOTS != 0);
    let disk = if rebooted { sample.disk.cut(Keep::All) } else { sample.disk.kill() };
    disk.edit(&sample.path("events.jsonl"), |bytes| *bytes = log.to_vec()).expect("the log exists");
    if without_slots {
        disk.remove_file(&sample.path("head.json")).expect("the slots exist");
        // Otherwise power loss would restore them.
        disk.sync_dir(&sample.path("")).expect("the folder exists");
    }

    let expected = ExpectedView::of(sample, log, rebooted, without_slots);
    let storage = open(&disk.process());
    assert_eq!(condition(&storage, sample.id), expected.condition, "{expected:?}");
    let damaged = matches!(expected.condition, Condition::Corrupt | Condition::Degraded);
    let (records, end) = read(&storage, sample.id);
    assert_eq!(records, expected.records);
    match &end {
        None => assert!(!damaged, "{expected:?}: a truncated log is reported as complete"),
        Some(StorageError::Corrupt { readable, .. }) => {
            assert!(damaged && *readable == records.len() as u64, "{expected:?}");
        }
        Some(error) => panic!("{expected:?}: {error}"),
    }
    let known = expected.check_stored_head(&storage, sample, log, without_slots);
    check_lists(&storage, sample, known.as_ref());
    let outcome =
        if expected.condition == Condition::Healthy { InputOutcome::Accepted } else { InputOutcome::Refused };
    match expected.condition {
        Condition::Healthy | Condition::Torn | Condition::Degraded => {
            check_append(&disk, &storage, sample.id, &expected.records);
        }
        _ => check_read_only(&disk, &storage, sample, &expected),
    }
    check_bystander(&storage, sample);
    outcome
}

/// The view of a log that its lines, its mark and its head determine.
struct ExpectedView {
    records: Vec<StoredRecord>,
    /// The fold of the records, up to the first one that cannot be folded.
    head: Option<Head>,
    condition: Condition,
}

impl std::fmt::Debug for ExpectedView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let folded = self.head.as_ref().map_or(0, |head| head.tip.revision);
        write!(f, "{} records, {folded} of them folded, {}", self.records.len(), self.condition)
    }
}

impl ExpectedView {
    fn of(sample: &Sample, log: &[u8], rebooted: bool, without_slots: bool) -> Self {
        let (records, end) = chain_of(sample.id, log);
        let (mut head, mut unfoldable) = (None, None);
        for record in &records {
            let condition = match record.decode() {
                Ok(record) => match Head::fold(&mut head, sample.id, &record) {
                    Ok(()) => continue,
                    Err(_) => Condition::Invalid,
                },
                Err(DecodeError::Malformed(_)) => Condition::Invalid,
                Err(_) => Condition::Unsupported,
            };
            unfoldable = Some(condition);
            break;
        }
        let revisions = records.len();
        let mut flushed = head.as_ref().map_or(0, |head| head.flushed);
        // Behind a hole, the checksum of the preceding line proves the contents of a line.
        let behind: Vec<&[u8]> = log[end..].split_inclusive(|byte| *byte == b'\n').collect();
        for two in behind.windows(2) {
            let lines = (two[0].strip_suffix(b"\n"), two[1].strip_suffix(b"\n"));
            if let (Some(before), Some(line)) = lines
                && let Some(envelope) = follows(before, line)
            {
                flushed = flushed.max(envelope.flushed);
            }
        }
        let is_other =
            |at: usize| records.get(at - 1).is_some_and(|record| *record != sample.records[at - 1]);
        let (mut replaced, mut gone) = (false, false);
        if !without_slots {
            flushed = flushed.max(sample.flushed as u64);
            replaced = is_other(sample.flushed);
            gone = !rebooted && (revisions < sample.records.len() || is_other(sample.records.len()));
        }
        let incomplete = behind.first().map(|line| !line.ends_with(b"\n") || line.contains(&0));
        let condition = if revisions == 0 || (revisions as u64) < flushed || replaced {
            Condition::Corrupt
        } else if let Some(condition) = unfoldable {
            condition
        } else if incomplete == Some(false) || gone {
            Condition::Degraded
        } else if incomplete == Some(true) {
            Condition::Torn
        } else {
            Condition::Healthy
        };
        Self { records, head, condition }
    }

    /// Checks that the head is the fold of the readable records, or an error. After damage, a head from a slot may be
    /// newer, because a slot is a cache.
    fn check_stored_head(
        &self,
        storage: &FileStorage,
        sample: &Sample,
        log: &[u8],
        without_slots: bool,
    ) -> Option<Head> {
        let found = match wait(storage.head(sample.id)) {
            Ok(found) => found.expect("the session exists"),
            Err(error) => {
                assert!(self.head.is_none(), "{self:?}: {error}");
                return None;
            }
        };
        check_head(&found);
        if Some(&found) == self.head.as_ref() {
            return Some(found);
        }
        assert!(
            !without_slots && self.condition != Condition::Healthy && self.condition != Condition::Torn,
            "{self:?}: {found:?}"
        );
        // A head from a slot: its record must still be at its offset in the log.
        let is_in_log = (1..=sample.records.len()).any(|at| {
            let end: usize = sample.records[..at].iter().map(|record| record.line().len() + 1).sum();
            let ending =
                format!("{}\n", &sample.records[at - 1].line()[sample.records[at - 1].line().len() - 26..]);
            log.get(..end).is_some_and(|log| log.ends_with(ending.as_bytes()))
                && (found == sample.heads[at - 1] || found.tip.revision > at as u64)
        });
        assert!(is_in_log, "{self:?}: {found:?}");
        Some(found)
    }
}

pub(super) fn condition(storage: &FileStorage, id: SessionId) -> Condition {
    wait(storage.verify(id)).expect("the session can be verified").condition
}

/// Reads all records page by page, and returns them with the error that ended the reading, if any.
pub(super) fn read(storage: &FileStorage, id: SessionId) -> (Vec<StoredRecord>, Option<StorageError>) {
    let mut records: Vec<StoredRecord> = Vec::new();
    loop {
        let after = records.last().map_or(0, StoredRecord::revision);
        let limit = NonZeroUsize::MIN.saturating_add(records.len() % 5);
        match wait(storage.records(id, after, limit)) {
            Ok(page) if page.records.is_empty() => return (records, None),
            Ok(page) => records.extend(page.records),
            Err(error) => return (records, Some(error)),
        }
    }
}

/// Checks that a list contains the session's head, or reports the session as unreadable.
fn check_lists(storage: &FileStorage, sample: &Sample, known: Option<&Head>) {
    let page =
        wait(storage.list_all(&SessionFilter::all())).expect("a damaged session does not fail the list");
    let listed = page.heads.iter().find(|head| head.id == sample.id);
    assert_eq!(listed, known);
    let unreadable = page.unreadable.iter().any(|(id, _)| *id == sample.id);
    assert_eq!(unreadable, known.is_none());
}

/// Checks that appends are stored behind the existing records and survive power loss.
pub(super) fn check_append(disk: &FaultDisk, storage: &FileStorage, id: SessionId, before: &[StoredRecord]) {
    let mut all = before.to_vec();
    for _ in 0..2 {
        let (_, _, head) = fold(id, &all);
        let batch =
            if head.state().is_final() { Batch::empty() } else { seal(id, Some(&head), 0, vec![note(30)]) };
        all.extend(batch.load().expect("it is in memory"));
        wait(storage.append(id, Expected::At(head.tip), batch, Durability::Flushed))
            .unwrap_or_else(|error| panic!("the session is writable: {error}"));
    }
    assert_eq!(read(storage, id).0, all);
    assert_eq!(disk.violations(), [""; 0]);
    let after = disk.now().cut(Keep::Synced);
    let storage = open(&after);
    let (records, end) = read(&storage, id);
    assert!(records == all && end.is_none(), "after power loss: {end:?}, {records:?}");
    assert!(matches!(condition(&storage, id), Condition::Healthy | Condition::Degraded));
}

fn fold(id: SessionId, records: &[StoredRecord]) -> (SessionId, usize, Head) {
    let mut head = None;
    for record in records {
        let record = record.decode().expect("the record was read before");
        Head::fold(&mut head, id, &record).expect("the record was folded before");
    }
    (id, records.len(), head.expect("there are records"))
}

/// Checks that a session that must not be appended to stays unchanged until the loss is accepted.
fn check_read_only(disk: &FaultDisk, storage: &FileStorage, sample: &Sample, expected: &ExpectedView) {
    let bytes = |disk: &FaultDisk| match disk.tree().remove(&sample.path("events.jsonl")) {
        Some(Content::File(bytes)) => Some(bytes),
        _ => None,
    };
    let before = bytes(disk);
    let tip = expected.records.last().unwrap_or(&sample.records[0]).tip();
    let tried = wait(storage.append(sample.id, Expected::At(tip), Batch::empty(), Durability::Flushed));
    assert!(tried.is_err(), "{expected:?}: the append was accepted");
    assert!(bytes(disk) == before, "{expected:?}: the log was changed");
    let refused = wait(storage.repair(sample.id, AcceptedLoss::None));
    assert!(refused.is_err() && bytes(disk) == before, "{expected:?}: {refused:?}");
    if expected.condition != Condition::Corrupt {
        return;
    }
    let owners = wait(storage.verify(sample.id)).expect("the session can be verified").owners;
    let dead = owners.iter().map(|owner| owner.instance).collect();
    let repaired = wait(storage.repair(sample.id, AcceptedLoss::Of { dead }));
    let foldable =
        expected.head.as_ref().map(|head| head.tip) == expected.records.last().map(StoredRecord::tip);
    match repaired {
        Ok(repaired) if expected.records.is_empty() => {
            assert!(repaired.tip.is_none() && matches!(wait(storage.head(sample.id)), Ok(None)));
        }
        Ok(repaired) => {
            assert_eq!(repaired.tip, expected.records.last().map(StoredRecord::tip));
            assert_eq!(read(storage, sample.id).0, expected.records);
            if foldable {
                check_append(disk, storage, sample.id, &expected.records);
            }
        }
        Err(error) => assert!(!foldable, "{expected:?}: the repair failed: {error}"),
    }
}

/// Checks that the damage of one session does not affect another one.
pub(super) fn check_bystander(storage: &FileStorage, sample: &Sample) {
    let (records, end) = read(storage, sample.bystander);
    assert!(records.len() == 1 && end.is_none(), "the bystander: {end:?}");
    assert_eq!(condition(storage, sample.bystander), Condition::Healthy);
}
