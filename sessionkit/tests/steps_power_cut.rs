//! Power cuts while steps run: no recorded step runs again, no recorded value differs, and no step has run that the log does
//! not know.

#![cfg(feature = "file")]
#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::sync::Arc;

use session_core::backend::ProcessPresence;
use session_core::{
    Evidence, ManagerOptions, PersistentSessionManager, Session, SessionConfig, SessionId,
    SessionManager as _, StepFailure, StepIdentity,
};
use session_storage_file::fault::{FaultDisk, Keep};
use session_storage_file::{FileStorage, FileStorageOptions};
use session_workflow::{BegunStep, Fingerprint, OnUnknown, StepRequest, Steps, WorkflowState};

/// Steps of the script. Every third one fails at first, and every fourth has a value of many parts.
const STEPS: usize = 8;
/// Random cuts at each moment.
const CUTS: u64 = 1;
/// One in this many images is resumed and run to its end.
const RESUMED: usize = 7;

type Manager = PersistentSessionManager<FileStorage>;

async fn open(disk: &FaultDisk) -> Option<Manager> {
    let options = FileStorageOptions::new("/store").without_threads();
    let storage = Arc::new(FileStorage::with_disk(Arc::new(disk.clone()), options).ok()?);
    // No owner of another machine is alive for it.
    let presence = Arc::new(ProcessPresence::default());
    Some(Manager::open(storage, presence, ManagerOptions::new().recovery(None)).await.unwrap())
}

/// The answers that a caller got, with the number of calls of the disk until then.
#[derive(Default)]
struct Acknowledged {
    begun: Vec<(usize, StepIdentity)>,
    recorded: Vec<(usize, StepIdentity, Vec<u8>)>,
}

/// Returns the value of a step: another one in each run.
fn value(step: usize, run: usize) -> Vec<u8> {
    let length = if step.is_multiple_of(4) { 300_000 } else { 20 };
    format!("{step}-{run}-").into_bytes().into_iter().cycle().take(length).collect()
}

/// Runs the steps that are not recorded.
async fn script(session: &Session, run: usize, disk: &FaultDisk, acked: &mut Acknowledged) -> Vec<Vec<u8>> {
    let steps = Steps::of(session);
    let mut values = Vec::new();
    for number in 0..STEPS {
        let request = || StepRequest::new(format!("s{number}"), Fingerprint::default());
        let mut begun = steps.begin(session, request()).await.unwrap();
        if let (BegunStep::Run(_), 0) = (&begun, number % 3) {
            let BegunStep::Run(open) = begun else { unreachable!("it was checked") };
            acked.begun.push((disk.moment_index(), open.step().clone()));
            open.fail(StepFailure { exit_code: Some(1), ..StepFailure::default() }).await.unwrap();
            begun = steps.begin(session, request()).await.unwrap();
        }
        match begun {
            BegunStep::Replay(recorded) => values.push(recorded.value().read_all(session).await.unwrap()),
            BegunStep::Run(mut open) => {
                let step = open.step().clone();
                acked.begun.push((disk.moment_index(), step.clone()));
                let value = value(number, run);
                open.add_value(&value).await.unwrap();
                open.complete(0).await.unwrap();
                acked.recorded.push((disk.moment_index(), step, value.clone()));
                values.push(value);
            }
        }
    }
    values
}

/// Runs a script in two attempts, and returns the answers that its callers got.
async fn workload(disk: &FaultDisk) -> (SessionId, Acknowledged) {
    let mut acked = Acknowledged::default();
    let manager = open(&disk.process()).await.unwrap();
    let id = manager.create_session(SessionConfig::new("script")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    let first = script(&session, 1, disk, &mut acked).await;
    session.interrupt(Evidence::Shutdown).await.unwrap();
    drop(session);
    let session = manager.resume_session(id).await.unwrap();
    assert_eq!(script(&session, 2, disk, &mut acked).await, first);
    (id, acked)
}

#[tokio::test]
async fn no_power_cut_repeats_a_recorded_step() {
    let disk = FaultDisk::new();
    disk.start_recording();
    let (id, acked) = workload(&disk).await;
    let moments = disk.moments();
    let mut images = 0;
    for (index, moment) in moments.iter().enumerate() {
        let keeps = Keep::FIXED.into_iter().chain((0..CUTS).map(|n| Keep::Random(index as u64 * CUTS + n)));
        for keep in keeps {
            images += 1;
            let image = moment.cut(keep);
            let what = format!("after call {index}, {}, {keep:?}", moment.what());
            let recorded: Vec<_> = acked.recorded.iter().filter(|(at, ..)| *at <= index).collect();
            let begun = acked.begun.iter().filter(|(at, _)| *at <= index);
            let Some(manager) = open(&image.process()).await else {
                assert!(recorded.is_empty(), "{what}: there is no store");
                continue;
            };
            let Ok(table) = WorkflowState::read(&manager, id).await else {
                assert!(recorded.is_empty(), "{what}: the session cannot be read");
                continue;
            };
            for (_, step) in begun {
                assert!(
                    table.steps().get(step).is_some(),
                    "{what}: {step} has begun, and the log does not know it"
                );
            }
            for (_, step, _) in &recorded {
                assert!(
                    table.steps().get(step).unwrap().is_completed(),
                    "{what}: {step} was recorded, and is not"
                );
            }
            if images % RESUMED != 0 || table.head().unwrap().lifecycle.attempt == 0 {
                continue;
            }
            let session = manager.resume_session(id).await.unwrap();
            let values = script(&session, 9, &image, &mut Acknowledged::default()).await;
            for (_, step, value) in recorded {
                let number: usize = step.name.trim_start_matches('s').parse().unwrap();
                assert!(values[number] == *value, "{what}: {step} has another value");
            }
            session.complete(session_core::SessionSummary::new()).await.unwrap();
        }
    }
    assert!(images > 500, "{images}");
}

#[tokio::test]
async fn an_end_that_cannot_be_recorded_fails_the_session() {
    // The first value is appended with the end, the second one in parts before it.
    for length in [20_000, 300_000] {
        let disk = FaultDisk::new();
        let manager = open(&disk.process()).await.unwrap();
        let id = manager.create_session(SessionConfig::new("script")).await.unwrap();
        let session = manager.start_session(id).await.unwrap();
        let steps = Steps::of(&session);
        let request = |name: &str| StepRequest::new(name, Fingerprint::default());
        let BegunStep::Run(mut open) = steps.begin(&session, request("full")).await.unwrap() else {
            panic!("it runs")
        };
        disk.set_capacity(disk.used() + 8_000);
        let added = open.add_value(&vec![b'x'; length]).await;
        let ended = match added {
            Ok(()) => open.complete(0).await.map(drop),
            Err(error) => Err(error),
        };
        assert_eq!(ended.unwrap_err().code(), session_core::ErrorCode::StorageFull, "{length}");
        disk.set_capacity(usize::MAX);
        // There is room again, but the step may have happened.
        let refused = steps.begin(&session, request("next")).await.unwrap_err();
        assert!(refused.to_string().contains("could not be recorded"), "{length}: {refused}");
        session.complete(session_core::SessionSummary::new()).await.unwrap();
        let state = manager.get_state(id).await.unwrap();
        assert!(matches!(state, session_core::SessionState::Failed { .. }), "{length}: {state:?}");
    }
}

#[tokio::test]
async fn a_skip_that_cannot_be_recorded_fails_the_session() {
    let disk = FaultDisk::new();
    let manager = open(&disk.process()).await.unwrap();
    let id = manager.create_session(SessionConfig::new("script")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    let skip =
        || StepRequest { on_unknown: OnUnknown::Skip, ..StepRequest::new("publish", Fingerprint::default()) };
    std::mem::forget(Steps::of(&session).begin(&session, skip()).await.unwrap());
    session.interrupt(Evidence::Shutdown).await.unwrap();
    drop(session);
    let session = manager.resume_session(id).await.unwrap();
    let steps = Steps::of(&session);
    // Reads what the first attempt has recorded.
    drop(steps.begin(&session, StepRequest::new("other", Fingerprint::default())).await.unwrap());
    disk.set_capacity(disk.used());
    assert_eq!(steps.begin(&session, skip()).await.unwrap_err().code(), session_core::ErrorCode::StorageFull);
    disk.set_capacity(usize::MAX);
    // Otherwise it would be another use of the name, which runs.
    assert!(steps.begin(&session, skip()).await.is_err());
}
