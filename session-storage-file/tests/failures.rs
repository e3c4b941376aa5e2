//! Every call of the disk failed once, in every operation, with every error: no panic, no false
//! acknowledgement, no file left open, and a file whose flush failed is never trusted again. Also a full disk.

#![cfg(feature = "fault-disk")]
#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[expect(dead_code, reason = "each test uses only a part of the shared code")]
mod common {
    pub(crate) mod ledger;
    pub(crate) mod logs;
    pub(crate) mod store;
}

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;
use session_core::backend::{Batch, Expected, ProcessPresence, SessionStorage, SessionStorageExt, Tip};
use session_core::{
    Durability, ErrorCode, Head, ManagerOptions, PersistentSessionManager, SessionId, SessionManager,
    StateName, StorageError,
};
use session_storage_file::FileStorage;
use session_storage_file::fault::{AfterFailedSync, Call, Effect, Fault, FaultDisk, Keep, Moment};

use common::ledger::Ledger;
use common::logs::{self, chain_of, fold, id, seal, wait};
use common::store::{ROOT, closed, open, reconcile};

/// The number of calls after the first failure that fail in turn, each separately. All of them only in
/// release.
const SECOND_FAULTS: u64 = if cfg!(debug_assertions) { 3 } else { 30 };

const RUNNING: u64 = 1;
const ENDED: u64 = 2;
const TORN: u64 = 3;
const ORPHAN: u64 = 4;
const HALF_FLUSHED: u64 = 5;
const BYSTANDER: u64 = 6;
const NEW: u64 = 7;

/// A store with sessions for the operations, on a running machine on which all processes are dead.
struct Fixture {
    moment: Moment,
    ledger: Ledger,
}

impl Fixture {
    /// Creates a store with a session for every operation.
    fn new() -> Self {
        Self::with(&[RUNNING, ENDED, TORN, ORPHAN, HALF_FLUSHED])
    }

    /// Creates a store with a session for this operation.
    fn of(operation: Operation) -> Self {
        Self::with(&[operation.number()])
    }

    /// Creates a store with these sessions and the bystander.
    fn with(numbers: &[u64]) -> Self {
        let disk = FaultDisk::new();
        let mut ledger = Ledger::default();
        let storage = open(&disk.process()).unwrap();
        for number in numbers.iter().copied().filter(|number| *number != NEW).chain([BYSTANDER]) {
            let id = id(number);
            let first = vec![logs::created("fixture"), logs::started(number), logs::note(100)];
            put(&storage, &mut ledger, id, first, Durability::Flushed);
            put(&storage, &mut ledger, id, vec![logs::progress(1)], Durability::Buffered);
        }
        if numbers.contains(&ENDED) {
            let head = wait(storage.head(id(ENDED))).unwrap().unwrap();
            put(&storage, &mut ledger, id(ENDED), vec![logs::completed(&head)], Durability::Flushed);
        }
        if numbers.contains(&TORN) {
            put(&storage, &mut ledger, id(TORN), vec![logs::note(30)], Durability::Flushed);
            let log = PathBuf::from(ROOT).join(format!("sessions/{}/events.jsonl", id(TORN)));
            disk.edit(&log, |bytes| bytes.extend_from_slice(b"{\"seq\":6,\"at\":\"2026-")).unwrap();
        }
        drop(storage);
        if numbers.contains(&HALF_FLUSHED) {
            die_in_a_flush(&disk, &mut ledger);
        }
        closed(&disk).unwrap();
        Self { moment: disk.now(), ledger }
    }
}

/// Kills a process in the flush of an append: the log must not be trusted, and the outcome is unknown.
fn die_in_a_flush(disk: &FaultDisk, ledger: &mut Ledger) {
    let doomed = disk.process();
    let storage = open(&doomed).unwrap();
    let head = wait(storage.head(id(HALF_FLUSHED))).unwrap().unwrap();
    let batch = seal(id(HALF_FLUSHED), Some(&head), 0, vec![logs::note(50)]);
    ledger.submit(id(HALF_FLUSHED), 0, &batch);
    doomed.inject(Fault::nth(0, Effect::Death).in_process(doomed.process_number()).on(Call::Sync));
    wait(storage.append(id(HALF_FLUSHED), Expected::At(head.tip), batch, Durability::Flushed)).unwrap_err();
    assert!(doomed.is_dead(), "an append that is acknowledged as flushed was not flushed");
}

fn put(
    storage: &FileStorage,
    ledger: &mut Ledger,
    id: SessionId,
    events: Vec<session_core::SessionEvent>,
    durability: Durability,
) -> Tip {
    let head = head_of(storage, id).unwrap();
    let expected = head.as_ref().map_or(Expected::Absent, |head| Expected::At(head.tip));
    let batch = seal(id, head.as_ref(), 0, events);
    ledger.submit(id, 0, &batch);
    let tip = wait(storage.append(id, expected, batch, durability)).unwrap();
    ledger.acknowledge(id, 0, tip, durability == Durability::Flushed);
    tip
}

/// Folds the head from the stored records.
fn head_of(storage: &FileStorage, id: SessionId) -> Result<Option<Head>, String> {
    match wait(storage.records_after(id, 0)) {
        Ok(records) => fold(id, &records),
        Err(StorageError::NotFound { .. }) => Ok(None),
        Err(error) => Err(format!("{id}: {}", chain_of(&error))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    CreateWithin,
    Append,
    AppendBuffered,
    Flush,
    Repair,
    RebuildLog,
    Delete,
    /// Of a session whose folder cannot be renamed.
    DeleteInPlace,
    TakeOver,
    TakeOverWithin,
}

impl Operation {
    const ALL: [Self; 11] = [
        Self::Create,
        Self::CreateWithin,
        Self::Append,
        Self::AppendBuffered,
        Self::Flush,
        Self::Repair,
        Self::RebuildLog,
        Self::Delete,
        Self::DeleteInPlace,
        Self::TakeOver,
        Self::TakeOverWithin,
    ];

    fn id(self) -> SessionId {
        id(self.number())
    }

    fn number(self) -> u64 {
        match self {
            Self::Create | Self::CreateWithin => NEW,
            Self::Append | Self::AppendBuffered | Self::Flush => RUNNING,
            Self::Repair => TORN,
            Self::RebuildLog => HALF_FLUSHED,
            Self::Delete | Self::DeleteInPlace => ENDED,
            Self::TakeOver | Self::TakeOverWithin => ORPHAN,
        }
    }

    fn durability(self) -> Durability {
        if self == Self::AppendBuffered { Durability::Buffered } else { Durability::Flushed }
    }

    fn expected(self, head: Option<&Head>) -> Expected {
        match (self, head) {
            (Self::TakeOverWithin, Some(head)) => Expected::AtWithin(head.tip, std::num::NonZeroUsize::MAX),
            (_, Some(head)) => Expected::At(head.tip),
            (Self::CreateWithin, None) => Expected::AbsentWithin(std::num::NonZeroUsize::MAX),
            (_, None) => Expected::Absent,
        }
    }

    fn batch(self, head: Option<&Head>) -> Batch {
        let events = match self {
            Self::Create | Self::CreateWithin => vec![logs::created("new"), logs::started(NEW)],
            Self::Append | Self::AppendBuffered | Self::Repair | Self::RebuildLog => {
                vec![logs::note(40), logs::note(2000)]
            }
            Self::TakeOver | Self::TakeOverWithin => vec![logs::interrupted(), logs::resumed(99)],
            Self::Flush | Self::Delete | Self::DeleteInPlace => return Batch::empty(),
        };
        seal(self.id(), head, 0, events)
    }

    /// Runs the operation. `Ok` has the new tip of the log, or `None` if the session was deleted.
    fn run(
        self,
        storage: &FileStorage,
        head: Option<&Head>,
        batch: Batch,
    ) -> Result<Option<Tip>, StorageError> {
        match (self, head) {
            (Self::Delete | Self::DeleteInPlace, Some(head)) => {
                wait(storage.delete(self.id(), head.tip)).map(|()| None)
            }
            _ => wait(storage.append(self.id(), self.expected(head), batch, self.durability())).map(Some),
        }
    }
}

/// The state of the process before the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    /// It has only opened the store.
    Fresh,
    /// It has written a session before: the one of the operation, unless the operation begins with damage.
    Warm,
}

/// Runs one operation under faults and checks everything that follows. Returns `Ok(false)` if no fault was
/// triggered.
fn one_case(
    fixture: &Fixture,
    operation: Operation,
    process: Process,
    faults: &[Fault],
    after: AfterFailedSync,
) -> Result<bool, String> {
    let disk = fixture.moment.kill();
    disk.after_failed_sync(after);
    let actor = disk.process();
    let storage = open(&actor).map_err(|error| chain_of(&error))?;
    let mut ledger = fixture.ledger.clone();
    if process == Process::Warm {
        let other = if matches!(
            operation,
            Operation::Append | Operation::AppendBuffered | Operation::Flush | Operation::TakeOver
        ) {
            operation.id()
        } else {
            id(BYSTANDER)
        };
        put(&storage, &mut ledger, other, vec![logs::note(10)], Durability::Flushed);
        put(&storage, &mut ledger, other, vec![logs::note(10)], Durability::Buffered);
    }
    let before = head_of(&storage, operation.id())?;
    let batch = operation.batch(before.as_ref());
    ledger.submit(operation.id(), 0, &batch);
    let open_before = disk.open_files();
    if operation == Operation::DeleteInPlace {
        disk.make_lower_layer();
    }
    for fault in faults {
        disk.inject(fault.in_process(actor.process_number()));
    }
    let result = operation.run(&storage, before.as_ref(), batch);
    let triggered = disk.triggered_faults();
    disk.clear_faults();
    let outcome = match &result {
        Ok(tip) => format!("Ok({tip:?})"),
        Err(error) => chain_of(error),
    };
    let context = |failure: String| format!("{failure}\nresult of the operation: {outcome}");
    // Lock, log and slots of one session, and the store's own lock.
    if disk.open_files() > open_before + 4 {
        return Err(context(format!("open files: {:?}", disk.open_paths())));
    }
    let unknown = match &result {
        Ok(Some(tip)) => {
            ledger.acknowledge(operation.id(), 0, *tip, operation.durability() == Durability::Flushed);
            false
        }
        Ok(None) => {
            let session = ledger.sessions.get_mut(&operation.id()).unwrap();
            (session.deleting, session.deleted) = (Some(0), Some(0));
            false
        }
        Err(StorageError::OutcomeUnknown { .. }) => {
            if matches!(operation, Operation::Delete | Operation::DeleteInPlace) {
                ledger.sessions.get_mut(&operation.id()).unwrap().deleting = Some(0);
            }
            true
        }
        Err(StorageError::Conflict { .. }) => {
            return Err(context("a conflict without another writer".to_owned()));
        }
        Err(_) => false,
    };
    let harmless = faults.iter().all(|fault| fault.effect == Effect::Short);
    if (triggered == 0 || harmless) && result.is_err() {
        return Err(context("failed without a fault".to_owned()));
    }
    check_power_cuts(&disk, &ledger, &CUTS)
        .map_err(|failure| context(format!("after the operation: {failure}")))?;

    // Another process sees the expected contents.
    let other = open(&disk.process()).map_err(|error| chain_of(&error))?;
    ledger
        .check(&other, 0, true)
        .map_err(|failure| context(format!("read by another process: {failure}")))?;
    let now = head_of(&other, operation.id())?;
    if result.is_err()
        && !unknown
        && now.as_ref().map(|head| head.tip) != before.as_ref().map(|head| head.tip)
    {
        return Err(context(format!("it was rejected but took effect: {now:?}")));
    }

    // Both continue. The process that had the failure may reject; an acknowledgement must hold.
    for (name, storage, required) in
        [("the same process", &storage, false), ("another process", &other, true)]
    {
        for durability in [Durability::Buffered, Durability::Flushed] {
            append_next(storage, &mut ledger, operation.id(), durability, required)
                .map_err(|failure| context(format!("{name} continues: {failure}")))?;
            check_power_cuts(&disk, &ledger, &[Keep::Synced])
                .map_err(|failure| context(format!("after {name} continued: {failure}")))?;
        }
    }
    reconcile(&other)?;
    let last = ledger.check(&other, 0, true).map_err(|failure| context(format!("at the end: {failure}")))?;
    if !last.contains_key(&id(BYSTANDER)) {
        return Err(context("the bystander is missing".to_owned()));
    }
    drop((storage, other));
    closed(&disk).map_err(context)?;
    let violations = disk.violations();
    if !violations.is_empty() {
        return Err(context(violations.join("\n")));
    }
    Ok(triggered > 0)
}

/// The power cuts after an operation.
const CUTS: [Keep; 4] = [Keep::Synced, Keep::All, Keep::Random(1), Keep::Random(2)];

/// Checks that what remains after power cuts has everything that was acknowledged as flushed.
fn check_power_cuts(disk: &FaultDisk, ledger: &Ledger, keeps: &[Keep]) -> Result<(), String> {
    let now = disk.now();
    for &keep in keeps {
        let image = now.cut(keep);
        let storage = open(&image).map_err(|error| format!("{keep:?}: open: {}", chain_of(&error)))?;
        ledger.check(&storage, 0, false).map_err(|failure| format!("power cut, {keep:?}: {failure}"))?;
    }
    Ok(())
}

/// Appends to the session next, or creates it if it does not exist.
fn append_next(
    storage: &FileStorage,
    ledger: &mut Ledger,
    id: SessionId,
    durability: Durability,
    required: bool,
) -> Result<(), String> {
    let head = head_of(storage, id)?;
    if head.as_ref().is_some_and(|head| head.state().is_final()) {
        return Ok(());
    }
    let deleted = ledger.sessions.get(&id).is_some_and(|session| session.deleting.is_some());
    if deleted && head.is_none() {
        return Ok(());
    }
    let (expected, events) = match &head {
        Some(head) => (Expected::At(head.tip), vec![logs::note(20)]),
        None => (Expected::Absent, vec![logs::created("later")]),
    };
    let batch = seal(id, head.as_ref(), 0, events);
    ledger.submit(id, 0, &batch);
    match wait(storage.append(id, expected, batch, durability)) {
        Ok(tip) => {
            ledger.acknowledge(id, 0, tip, durability == Durability::Flushed);
            Ok(())
        }
        Err(error) if required => Err(chain_of(&error)),
        Err(_) => Ok(()),
    }
}

fn all_cases(
    mut case: impl FnMut(&Fixture, Operation, Process, AfterFailedSync) -> Result<u64, String>,
) -> u64 {
    let mut cases = 0;
    for operation in Operation::ALL {
        let fixture = Fixture::of(operation);
        for process in [Process::Fresh, Process::Warm] {
            for after in [AfterFailedSync::Kept, AfterFailedSync::Dropped] {
                match case(&fixture, operation, process, after) {
                    Ok(n) => cases += n,
                    Err(failure) => panic!("{operation:?}, {process:?}, {after:?}: {failure}"),
                }
            }
        }
    }
    cases
}

#[test]
fn every_call_fails_once_with_every_error() {
    let cases = all_cases(|fixture, operation, process, after| {
        let mut cases = 0;
        for effect in Effect::ALL {
            for nth in 0.. {
                let fault = Fault::nth(nth, effect);
                cases += 1;
                if !one_case(fixture, operation, process, &[fault], after)
                    .map_err(|failure| format!("call {nth}, {effect:?}: {failure}"))?
                {
                    break;
                }
            }
        }
        Ok(cases)
    });
    eprintln!("{cases} cases");
    assert!(cases > 1000, "only {cases} cases: faults are not triggered any more");
}

#[test]
fn a_second_call_fails_while_the_first_is_handled() {
    let effect = Effect::Error(Errno::IO);
    let cases = all_cases(|fixture, operation, process, after| {
        // If the system drops unsynced pages, a second failure can lose buffered records: see
        // `records_dropped_by_the_system_are_reported`.
        if process == Process::Fresh
            || matches!(operation, Operation::CreateWithin | Operation::TakeOverWithin)
            || after == AfterFailedSync::Dropped
        {
            return Ok(0);
        }
        let mut cases = 0;
        for first in 0.. {
            let once = Fault::nth(first, effect);
            if !one_case(fixture, operation, process, &[once], after)? {
                break;
            }
            // The second fault does not count the call that the first one affects.
            for second in first..first + SECOND_FAULTS {
                cases += 1;
                one_case(fixture, operation, process, &[once, Fault::nth(second, effect)], after)
                    .map_err(|failure| format!("calls {first} and {}: {failure}", second + 1))?;
            }
        }
        Ok(cases)
    });
    eprintln!("{cases} cases");
}

#[test]
fn every_call_of_one_kind_fails() {
    for call in [Call::Sync, Call::SyncDir, Call::WriteAt, Call::SetLen, Call::Rename] {
        all_cases(|fixture, operation, process, after| {
            if (call, after) == (Call::Sync, AfterFailedSync::Dropped) {
                // Covered by the next test.
                return Ok(0);
            }
            for nth in 0.. {
                let fault = Fault::nth(nth, Effect::Error(Errno::IO)).on(call).persistent();
                if !one_case(fixture, operation, process, &[fault], after)
                    .map_err(|failure| format!("{call:?} from {nth} on: {failure}"))?
                {
                    break;
                }
            }
            Ok(1)
        });
    }
}

/// A process is killed in every call of a deletion, by a rename and in place: the session is whole or gone, also after a
/// power cut, and what is acknowledged in one that is whole is not removed by those who clean up.
#[test]
fn a_death_in_a_deletion_leaves_the_session_or_nothing() {
    let fixture = Fixture::with(&[RUNNING]);
    for in_place in [false, true] {
        let (mut whole, mut gone) = (0, 0);
        for nth in 0.. {
            let case = format!("in place: {in_place}, call {nth}");
            let disk = fixture.moment.kill();
            let doomed = disk.process();
            let storage = open(&doomed).unwrap();
            let tip = wait(storage.head(id(RUNNING))).unwrap().unwrap().tip;
            if in_place {
                disk.make_lower_layer();
            }
            doomed.inject(Fault::nth(nth, Effect::Death).in_process(doomed.process_number()));
            let deleted = wait(storage.delete(id(RUNNING), tip));
            if !doomed.is_dead() {
                deleted.unwrap();
                break;
            }
            drop(storage);
            let mut ledger = fixture.ledger.clone();
            ledger.sessions.get_mut(&id(RUNNING)).unwrap().deleting = Some(0);
            check_power_cuts(&disk, &ledger, &CUTS).unwrap_or_else(|failure| panic!("{case}: {failure}"));

            let other = open(&disk.process()).unwrap();
            let left = head_of(&other, id(RUNNING)).unwrap_or_else(|failure| panic!("{case}: {failure}"));
            if left.is_some() {
                whole += 1;
                // It was not deleted, so nothing acknowledged in it may go.
                ledger = fixture.ledger.clone();
                put(&other, &mut ledger, id(RUNNING), vec![logs::note(20)], Durability::Flushed);
            } else {
                gone += 1;
            }
            // Cleans up what the dead process left.
            put(&other, &mut ledger, id(NEW), vec![logs::created("new")], Durability::Flushed);
            ledger.check(&other, 0, true).unwrap_or_else(|failure| panic!("{case}: {failure}"));
            check_power_cuts(&disk, &ledger, &CUTS).unwrap_or_else(|failure| panic!("{case}: {failure}"));
            drop(other);
            closed(&disk).unwrap_or_else(|failure| panic!("{case}: {failure}"));
        }
        assert!(whole > 1 && gone > 1, "in place: {in_place}: {whole} whole, {gone} gone");
    }
}

/// If a disk fails every flush and the system drops what it could not write, buffered records are lost, and no
/// program can restore them. The loss is reported, flushed records are intact, and sessions can be written
/// again once the disk works.
#[test]
fn records_dropped_by_the_system_are_reported() {
    let mut reported = 0;
    for operation in Operation::ALL {
        let fixture = Fixture::of(operation);
        for nth in 0.. {
            let disk = fixture.moment.kill();
            disk.after_failed_sync(AfterFailedSync::Dropped);
            let mut ledger = fixture.ledger.clone();
            let storage = open(&disk.process()).unwrap();
            let before = head_of(&storage, operation.id()).unwrap();
            let batch = operation.batch(before.as_ref());
            ledger.submit(operation.id(), 0, &batch);
            disk.inject(Fault::nth(nth, Effect::Error(Errno::IO)).on(Call::Sync).persistent());
            let result = operation.run(&storage, before.as_ref(), batch);
            let triggered = disk.triggered_faults() > 0;
            disk.clear_faults();
            drop(storage);
            let context = format!("{operation:?}, sync from {nth} on: {result:?}");
            match result {
                Ok(Some(tip)) => {
                    ledger.acknowledge(operation.id(), 0, tip, operation.durability() == Durability::Flushed);
                }
                _ => ledger.sessions.get_mut(&operation.id()).unwrap().deleting = Some(0),
            }
            check_power_cuts(&disk, &ledger, &CUTS).unwrap_or_else(|failure| panic!("{context}: {failure}"));
            let other = open(&disk.process()).unwrap();
            if let Err(failure) = ledger.check(&other, 0, true) {
                assert!(failure.contains("is damaged: readable up to"), "{context}: {failure}");
                reported += 1;
            }
            reconcile(&other).unwrap_or_else(|failure| panic!("{context}: {failure}"));
            let head = wait(other.head(operation.id())).unwrap();
            if let Some(head) = head.filter(|head| !head.state().is_final()) {
                let batch = seal(operation.id(), Some(&head), 0, vec![logs::note(20)]);
                ledger.submit(operation.id(), 0, &batch);
                let tip =
                    wait(other.append(operation.id(), Expected::At(head.tip), batch, Durability::Flushed));
                let tip = tip.unwrap_or_else(|error| panic!("{context}, later: {}", chain_of(&error)));
                ledger.acknowledge(operation.id(), 0, tip, true);
                check_power_cuts(&disk, &ledger, &CUTS)
                    .unwrap_or_else(|failure| panic!("{context}: {failure}"));
            }
            assert_eq!(disk.violations(), [""; 0], "{context}");
            if !triggered {
                break;
            }
        }
    }
    assert!(reported > 0, "no record was lost: the test has no effect");
}

/// A write that does not fit is truncated again, and the next append works once there is room.
#[test]
fn a_full_disk_rejects_without_damage() {
    let fixture = Fixture::new();
    for operation in Operation::ALL.into_iter().filter(|operation| {
        !matches!(operation, Operation::Flush | Operation::Delete | Operation::DeleteInPlace)
    }) {
        let mut full = 0;
        for room in (0..12_000).step_by(97) {
            let disk = fixture.moment.kill();
            let storage = open(&disk.process()).unwrap();
            let mut ledger = fixture.ledger.clone();
            let before = head_of(&storage, operation.id()).unwrap();
            let batch = operation.batch(before.as_ref());
            ledger.submit(operation.id(), 0, &batch);
            disk.set_capacity(disk.used() + room);
            let result = operation.run(&storage, before.as_ref(), batch.clone());
            let context = format!("{operation:?} with room for {room} bytes: {result:?}");
            match &result {
                Ok(Some(tip)) => {
                    ledger.acknowledge(
                        operation.id(),
                        0,
                        *tip,
                        operation.durability() == Durability::Flushed,
                    );
                }
                Ok(None) => unreachable!("nothing is deleted here"),
                Err(error) => {
                    full += 1;
                    assert_eq!(error.code(), ErrorCode::StorageFull, "{context}");
                }
            }
            let found =
                ledger.check(&storage, 0, true).unwrap_or_else(|failure| panic!("{context}: {failure}"));
            check_power_cuts(&disk, &ledger, &CUTS).unwrap_or_else(|failure| panic!("{context}: {failure}"));
            disk.set_capacity(usize::MAX);
            if result.is_err() {
                assert_eq!(
                    found.get(&operation.id()).map(|(head, _)| head.tip),
                    before.as_ref().map(|h| h.tip),
                    "{context}"
                );
                let tip = operation.run(&storage, before.as_ref(), batch);
                let tip = tip.unwrap_or_else(|error| panic!("{context}, with room: {}", chain_of(&error)));
                ledger.acknowledge(
                    operation.id(),
                    0,
                    tip.unwrap(),
                    operation.durability() == Durability::Flushed,
                );
            }
            check_power_cuts(&disk, &ledger, &CUTS).unwrap_or_else(|failure| panic!("{context}: {failure}"));
            ledger.check(&storage, 0, true).unwrap_or_else(|failure| panic!("{context}: {failure}"));
            assert_eq!(disk.violations(), [""; 0], "{context}");
        }
        assert!(full > 0, "{operation:?} always fit");
    }
}

/// A read under a failure returns correct contents or an error.
#[test]
fn a_failed_read_never_returns_less_than_is_stored() {
    let fixture = Fixture::new();
    let disk = fixture.moment.kill();
    let truth = fixture.ledger.check(&open(&disk.process()).unwrap(), 0, true).unwrap();
    for effect in Effect::ALL {
        for nth in 0.. {
            let disk = fixture.moment.kill();
            disk.inject(Fault::nth(nth, effect));
            if let Ok(storage) = open(&disk) {
                for (id, (head, records)) in &truth {
                    if let Ok(found) = wait(storage.head(*id)) {
                        assert_eq!(found.as_ref(), Some(head), "call {nth}, {effect:?}");
                    }
                    if let Ok(found) = wait(storage.records_after(*id, 0)) {
                        assert_eq!(&found, records, "call {nth}, {effect:?}");
                    }
                }
                if let Ok(page) = wait(storage.list_all(&session_core::SessionFilter::all())) {
                    let shown = page.heads.len() + page.unreadable.len();
                    assert_eq!(shown, truth.len(), "call {nth}, {effect:?}");
                }
            }
            closed(&disk).unwrap_or_else(|failure| panic!("call {nth}, {effect:?}: {failure}"));
            if disk.triggered_faults() == 0 {
                break;
            }
        }
    }
}

/// Regression: a waiter was notified of the end of a session, then power was lost: the log had not reached the
/// disk, because the owner had died between writing and flushing it.
#[test]
fn an_end_seen_by_wait_survives_power_loss() {
    let disk = FaultDisk::new();
    let mut ledger = Ledger::default();
    let id = id(RUNNING);
    let doomed = disk.process();
    let storage = open(&doomed).unwrap();
    let first = vec![logs::created("waited for"), logs::started(RUNNING)];
    put(&storage, &mut ledger, id, first, Durability::Flushed);
    let head = head_of(&storage, id).unwrap().unwrap();
    let batch = seal(id, Some(&head), 0, vec![logs::completed(&head)]);
    doomed.inject(Fault::nth(0, Effect::Death).in_process(doomed.process_number()).on(Call::Sync));
    wait(storage.append(id, Expected::At(head.tip), batch, Durability::Flushed)).unwrap_err();
    assert!(doomed.is_dead());
    let end = |disk: &FaultDisk| {
        let records = wait(open(&disk.process()).unwrap().records_after(id, 0)).unwrap();
        records.last().unwrap().decode().unwrap().event.kind().name()
    };
    assert_eq!(end(&disk), "completed", "readable, but not durable yet");
    assert_eq!(end(&disk.now().cut(Keep::Synced)), "started");

    let waiting = async {
        let storage = Arc::new(open(&disk.process()).unwrap());
        let presence = Arc::new(ProcessPresence::default());
        let options = ManagerOptions::new().recovery(None);
        let manager = PersistentSessionManager::open(storage, presence, options).await.unwrap();
        manager.wait_for(id, &[]).await.unwrap()
    };
    assert_eq!(wait(waiting).state().name(), StateName::Completed);
    assert_eq!(end(&disk.now().cut(Keep::Synced)), "completed");
}

/// Regression: `wait` for an ended session failed in a store that the user may only read, though its end had been
/// flushed by its owner.
#[test]
fn a_flushed_end_needs_no_write_access() {
    for durability in [Durability::Flushed, Durability::Buffered] {
        let disk = FaultDisk::new();
        let mut ledger = Ledger::default();
        let id = id(RUNNING);
        let storage = open(&disk).unwrap();
        put(
            &storage,
            &mut ledger,
            id,
            vec![logs::created("read only"), logs::started(RUNNING)],
            Durability::Flushed,
        );
        let head = head_of(&storage, id).unwrap().unwrap();
        put(&storage, &mut ledger, id, vec![logs::completed(&head)], durability);
        drop(storage);
        let reader = open(&disk).unwrap();
        let ended = head_of(&reader, id).unwrap().unwrap();
        // The first file that is opened is the one that only writers open.
        disk.inject(Fault::nth(0, Effect::Error(Errno::ROFS)).on(Call::Open));
        let asked = wait(reader.append(id, Expected::At(ended.tip), Batch::empty(), Durability::Flushed));
        assert_eq!(disk.triggered_faults(), 1);
        if durability == Durability::Flushed {
            assert_eq!(asked.unwrap(), ended.tip);
        } else {
            assert_eq!(asked.unwrap_err().code(), ErrorCode::StorageUnavailable);
        }
    }
}
