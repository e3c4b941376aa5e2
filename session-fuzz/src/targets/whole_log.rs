//! The log of a session, changed in any way, in a store with its slots and without.

use std::num::NonZeroUsize;

use session_core::{
    AcceptedLoss, Batch, Condition, DecodeError, Durability, Expected, Head, SessionFilter, SessionId,
    SessionStorage as _, SessionStorageExt as _, StorageError, StorageMaintenance as _, StoredRecord,
    follows,
};
use session_storage_file::fault::{Content, FaultDisk, Keep};
use session_storage_file::{Disk as _, FileStorage};

use super::head;
use super::record_line::{chain_of, small};
use crate::stories::{self, Story, note, open, seal};
use crate::{Fate, REPAIR, repair, wait};

/// The machine was started anew since the log was written.
const REBOOTED: u8 = 1;
/// The slots are gone.
const BARE: u8 = 2;

/// Byte 1 chooses the story whose log the rest takes the place of.
///
/// What the store says of it is what the page about the format says: the records of the unbroken chain, all of them
/// and nothing else, then the end or an error; a verdict; and whether it may be written.
pub fn whole_log(input: &[u8]) -> Fate {
    let ([flags, story], log) = head(input);
    let story = stories::chosen(story);
    let repaired = (flags & REPAIR != 0).then(|| repair::log(story.id, log));
    let log = repaired.as_deref().unwrap_or(log);
    let (rebooted, bare) = (flags & REBOOTED != 0, flags & BARE != 0);
    let disk = if rebooted { story.disk.cut(Keep::All) } else { story.disk.kill() };
    disk.edit(&story.path("events.jsonl"), |bytes| *bytes = log.to_vec()).expect("there is a log");
    if bare {
        disk.remove_file(&story.path("head.json")).expect("there are slots");
        // Or a loss of power would bring them back.
        disk.sync_dir(&story.path("")).expect("there is a folder");
    }

    let shown = Shown::of(story, log, rebooted, bare);
    let storage = open(&disk.process());
    assert_eq!(condition(&storage, story.id), shown.condition, "{shown:?}");
    let damaged = matches!(shown.condition, Condition::Corrupt | Condition::Degraded);
    let (records, end) = read(&storage, story.id);
    assert_eq!(records, shown.records);
    match &end {
        None => assert!(!damaged, "{shown:?}: the end of it is told as the end"),
        Some(StorageError::Corrupt { readable, .. }) => {
            assert!(damaged && *readable == records.len() as u64, "{shown:?}");
        }
        Some(error) => panic!("{shown:?}: {error}"),
    }
    let known = shown.look_at_head(&storage, story, log, bare);
    check_lists(&storage, story, known.as_ref());
    let fate = if shown.condition == Condition::Healthy { Fate::Accepted } else { Fate::Refused };
    match shown.condition {
        Condition::Healthy | Condition::Torn | Condition::Degraded => {
            write_on(&disk, &storage, story.id, &shown.records);
        }
        _ => stays(&disk, &storage, story, &shown),
    }
    check_bystander(&storage, story);
    fate
}

/// What a log shows whoever has only its lines, its mark and its head.
struct Shown {
    records: Vec<StoredRecord>,
    /// The fold of the records, as far as they can be folded.
    head: Option<Head>,
    condition: Condition,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let folded = self.head.as_ref().map_or(0, |head| head.tip.revision);
        write!(f, "{} records, {folded} of them folded, {}", self.records.len(), self.condition)
    }
}

impl Shown {
    fn of(story: &Story, log: &[u8], rebooted: bool, bare: bool) -> Self {
        let (records, end) = chain_of(story.id, log);
        let (mut head, mut unfoldable) = (None, None);
        for record in &records {
            let condition = match record.decode() {
                Ok(record) => match Head::fold(&mut head, story.id, &record) {
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
        // Behind a hole, a line proves what it says by the sum of the line before it.
        let behind: Vec<&[u8]> = log[end..].split_inclusive(|byte| *byte == b'\n').collect();
        for two in behind.windows(2) {
            let lines = (two[0].strip_suffix(b"\n"), two[1].strip_suffix(b"\n"));
            if let (Some(before), Some(line)) = lines
                && let Some(envelope) = follows(before, line)
            {
                flushed = flushed.max(envelope.flushed);
            }
        }
        let is_other = |at: usize| records.get(at - 1).is_some_and(|record| *record != story.records[at - 1]);
        let (mut replaced, mut gone) = (false, false);
        if !bare {
            flushed = flushed.max(story.flushed as u64);
            replaced = is_other(story.flushed);
            gone = !rebooted && (revisions < story.records.len() || is_other(story.records.len()));
        }
        let flaw = behind.first().map(|line| !line.ends_with(b"\n") || line.contains(&0));
        let condition = if revisions == 0 || (revisions as u64) < flushed || replaced {
            Condition::Corrupt
        } else if let Some(condition) = unfoldable {
            condition
        } else if flaw == Some(false) || gone {
            Condition::Degraded
        } else if flaw == Some(true) {
            Condition::Torn
        } else {
            Condition::Healthy
        };
        Self { records, head, condition }
    }

    /// The head is the fold of what can be read, or an error. Behind damage it may know better: it is a cache.
    fn look_at_head(&self, storage: &FileStorage, story: &Story, log: &[u8], bare: bool) -> Option<Head> {
        let found = match wait(storage.head(story.id)) {
            Ok(found) => found.expect("the session is there"),
            Err(error) => {
                assert!(self.head.is_none(), "{self:?}: {error}");
                return None;
            }
        };
        small(&found);
        if Some(&found) == self.head.as_ref() {
            return Some(found);
        }
        assert!(
            !bare && self.condition != Condition::Healthy && self.condition != Condition::Torn,
            "{self:?}: {found:?}"
        );
        // From a slot: the record that it is the head after stands where it stood.
        let stands = (1..=story.records.len()).any(|at| {
            let end: usize = story.records[..at].iter().map(|record| record.line().len() + 1).sum();
            let ending =
                format!("{}\n", &story.records[at - 1].line()[story.records[at - 1].line().len() - 26..]);
            log.get(..end).is_some_and(|log| log.ends_with(ending.as_bytes()))
                && (found == story.heads[at - 1] || found.tip.revision > at as u64)
        });
        assert!(stands, "{self:?}: {found:?}");
        Some(found)
    }
}

pub(super) fn condition(storage: &FileStorage, id: SessionId) -> Condition {
    wait(storage.verify(id)).expect("it can be looked at").condition
}

/// All records that a session's log shows, page by page, and what came instead of more.
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

/// A list shows it, as its head does, or says that it cannot.
fn check_lists(storage: &FileStorage, story: &Story, known: Option<&Head>) {
    let page = wait(storage.list_all(&SessionFilter::all())).expect("one session harms no list");
    let listed = page.heads.iter().find(|head| head.id == story.id);
    assert_eq!(listed, known);
    let unreadable = page.unreadable.iter().any(|(id, _)| *id == story.id);
    assert_eq!(unreadable, known.is_none());
}

/// What may be written is written behind what was there, and survives whatever comes.
pub(super) fn write_on(disk: &FaultDisk, storage: &FileStorage, id: SessionId, before: &[StoredRecord]) {
    let mut all = before.to_vec();
    for _ in 0..2 {
        let (_, _, head) = fold(id, &all);
        let batch =
            if head.state().is_final() { Batch::empty() } else { seal(id, Some(&head), 0, vec![note(30)]) };
        all.extend_from_slice(batch.records());
        wait(storage.append(id, Expected::At(head.tip), batch, Durability::Flushed))
            .unwrap_or_else(|error| panic!("it may be written: {error}"));
    }
    assert_eq!(read(storage, id).0, all);
    assert_eq!(disk.violations(), [""; 0]);
    let after = disk.now().cut(Keep::Synced);
    let storage = open(&after);
    let (records, end) = read(&storage, id);
    assert!(records == all && end.is_none(), "after a loss of power: {end:?}, {records:?}");
    assert!(matches!(condition(&storage, id), Condition::Healthy | Condition::Degraded));
}

fn fold(id: SessionId, records: &[StoredRecord]) -> (SessionId, usize, Head) {
    let mut head = None;
    for record in records {
        let record = record.decode().expect("it was read before");
        Head::fold(&mut head, id, &record).expect("it was folded before");
    }
    (id, records.len(), head.expect("there are records"))
}

/// What may not be written stays as it is, until somebody accepts the loss.
fn stays(disk: &FaultDisk, storage: &FileStorage, story: &Story, shown: &Shown) {
    let bytes = |disk: &FaultDisk| match disk.tree().remove(&story.path("events.jsonl")) {
        Some(Content::File(bytes)) => Some(bytes),
        _ => None,
    };
    let before = bytes(disk);
    let tip = shown.records.last().unwrap_or(&story.records[0]).tip();
    let tried = wait(storage.append(story.id, Expected::At(tip), Batch::empty(), Durability::Flushed));
    assert!(tried.is_err(), "{shown:?}: it was written");
    assert!(bytes(disk) == before, "{shown:?}: it was changed");
    let wary = wait(storage.repair(story.id, AcceptedLoss::None));
    assert!(wary.is_err() && bytes(disk) == before, "{shown:?}: {wary:?}");
    if shown.condition != Condition::Corrupt {
        return;
    }
    let owners = wait(storage.verify(story.id)).expect("it can be looked at").owners;
    let dead = owners.iter().map(|owner| owner.instance).collect();
    let repaired = wait(storage.repair(story.id, AcceptedLoss::Of { dead }));
    let foldable = shown.head.as_ref().map(|head| head.tip) == shown.records.last().map(StoredRecord::tip);
    match repaired {
        Ok(repaired) if shown.records.is_empty() => {
            assert!(repaired.tip.is_none() && matches!(wait(storage.head(story.id)), Ok(None)));
        }
        Ok(repaired) => {
            assert_eq!(repaired.tip, shown.records.last().map(StoredRecord::tip));
            assert_eq!(read(storage, story.id).0, shown.records);
            if foldable {
                write_on(disk, storage, story.id, &shown.records);
            }
        }
        Err(error) => assert!(!foldable, "{shown:?}: the loss was accepted in vain: {error}"),
    }
}

/// One session's damage does not touch another one.
pub(super) fn check_bystander(storage: &FileStorage, story: &Story) {
    let (records, end) = read(storage, story.bystander);
    assert!(records.len() == 1 && end.is_none(), "the bystander: {end:?}");
    assert_eq!(condition(storage, story.bystander), Condition::Healthy);
}
