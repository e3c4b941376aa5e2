//! Sample sessions whose every byte is known: their logs, and the disks that they are stored on.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde_json::json;
use session_core::backend::{Batch, Chain, Expected, FORMAT, SessionStorage as _, UnsealedRecord};
use session_core::{
    Answer, Changes, Commit, Durability, Evidence, Failure, FailureCause, FileChange, Head, InheritedItem,
    InheritedStep, InputFile, ItemFailure, ItemIdentity, ItemMoves, ItemStart, Owner, PauseReason,
    ProgressReport, Question, SessionConfig, SessionEvent, SessionId, StepEnd, StepFailure, StepIdentity,
    StepOutcome, StepReason, StoredRecord, Timestamp,
};
use session_storage_file::fault::{Content, FaultDisk, Moment};
use session_storage_file::{FileStorage, FileStorageOptions};

use crate::wait;

/// The path of the store.
const ROOT: &str = "/store";

/// A session's log, and a disk that contains it and another session, on a machine that has not rebooted.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) id: SessionId,
    pub(crate) records: Vec<StoredRecord>,
    /// The head after each record.
    pub(crate) heads: Vec<Head>,
    /// The number of records known to be flushed.
    pub(crate) flushed: usize,
    pub(crate) disk: Moment,
    pub(crate) bystander: SessionId,
}

/// Returns all samples.
pub(crate) fn all() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| (0..scripts().len()).map(Sample::build).collect())
}

/// Returns the sample that a byte selects.
pub(crate) fn select(byte: u8) -> &'static Sample {
    let all = all();
    &all[usize::from(byte) % all.len()]
}

impl Sample {
    fn build(number: usize) -> Self {
        let disk = FaultDisk::new();
        let storage = open(&disk);
        let bystander = SessionId::from_key("fuzz-bystander");
        write(&storage, bystander, vec![(vec![created("bystander")], Durability::Flushed)]);
        let id = SessionId::from_key(&format!("fuzz-{number}"));
        let (records, heads, flushed) = write(&storage, id, scripts().swap_remove(number));
        drop(storage);
        Self { id, records, heads, flushed, disk: disk.now(), bystander }
    }

    /// Returns the bytes of its log.
    pub(crate) fn log(&self) -> Vec<u8> {
        self.records.iter().flat_map(|record| [record.line().as_bytes(), b"\n"]).flatten().copied().collect()
    }

    /// Returns the bytes of its slots.
    pub(crate) fn slots(&self) -> Vec<u8> {
        match self.disk.kill().tree().remove(&self.path("head.json")) {
            Some(Content::File(bytes)) => bytes.to_vec(),
            other => panic!("the slots are {other:?}"),
        }
    }

    /// Returns the path of one of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(ROOT).join(format!("sessions/{}/{name}", self.id))
    }
}

/// Opens the store on a disk.
pub(crate) fn open(disk: &FaultDisk) -> FileStorage {
    let options = FileStorageOptions::new(ROOT).without_threads();
    FileStorage::with_disk(Arc::new(disk.clone()), options).expect("the store itself is intact")
}

/// Seals the next records of a log.
pub(crate) fn seal(id: SessionId, before: Option<&Head>, flushed: usize, events: Vec<SessionEvent>) -> Batch {
    let mut chain = before.map_or(Chain::start(id), |head| Chain::at(id, head.tip));
    let mut head = before.cloned();
    let mut records = Vec::new();
    for event in events {
        let revision = chain.revision();
        let at = Timestamp::from_millis(1_795_253_400_000 + i64::try_from(revision).unwrap()).unwrap();
        let attempt = head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
        let unsealed = UnsealedRecord { at, attempt, flushed: revision.min(flushed as u64), event };
        let (stored, record) = chain.seal(unsealed).expect("the event is within the limits");
        Head::fold(&mut head, id, &record).expect("the state machine allows the event");
        records.push(stored);
    }
    Batch::new(records, head.expect("there are events"))
}

/// Returns a note with this number of bytes of text.
pub(crate) fn note(bytes: usize) -> SessionEvent {
    SessionEvent::Noted { kind: "fuzz.note".to_owned(), data: json!("x".repeat(bytes)) }
}

type Script = Vec<(Vec<SessionEvent>, Durability)>;

fn write(storage: &FileStorage, id: SessionId, script: Script) -> (Vec<StoredRecord>, Vec<Head>, usize) {
    let (mut records, mut heads, mut flushed) = (Vec::new(), Vec::<Head>::new(), 0);
    for (events, durability) in script {
        // Sealed one at a time, to get the head after each.
        let before = heads.last().map_or(Expected::Absent, |head| Expected::At(head.tip));
        let mut batch = Vec::new();
        for event in events {
            let next = seal(id, heads.last(), flushed, vec![event]);
            batch.extend(next.load().expect("it is in memory"));
            heads.extend(next.head().cloned());
        }
        records.extend_from_slice(&batch);
        let batch = Batch::new(batch, heads.last().expect("a script begins with an event").clone());
        wait(storage.append(id, before, batch, durability)).expect("the disk does not fail");
        if durability == Durability::Flushed {
            flushed = records.len();
        }
    }
    (records, heads, flushed)
}

fn owner(number: u64) -> Owner {
    let instance = SessionId::from_key(&format!("fuzz-owner-{number}"));
    let owner = json!({
        "instance": instance, "host": "host", "machine": "machine", "boot": "boot", "pid": 4711, "start_time": number,
        "lock_folder": instance, "pid_namespace": number,
    });
    serde_json::from_value(owner).expect("it is an owner")
}

fn created(name: &str) -> SessionEvent {
    created_with(SessionConfig::new("fuzz").name(name))
}

fn created_with(config: SessionConfig) -> SessionEvent {
    let config = Box::new(config);
    SessionEvent::Created { format: FORMAT, config, creator: owner(0), origin: None, inherits: 0 }
}

fn inheriting(name: &str, inherits: u64) -> SessionEvent {
    let mut config = SessionConfig::new("fuzz").name(name).retry_of(SessionId::from_key("fuzz-line"));
    config.line = config.retry_of;
    SessionEvent::Created {
        format: FORMAT,
        config: Box::new(config),
        creator: owner(0),
        origin: None,
        inherits,
    }
}

fn inherited(outcome: StepOutcome) -> SessionEvent {
    let step = InheritedStep {
        step: StepIdentity::nth("build", 1),
        fingerprint: "b7a1f0c9".into(),
        reruns: 1,
        command: Some("make \u{9b}1m".into()),
        from: SessionId::from_key("fuzz-line"),
        at: Timestamp::from_millis(1_795_253_400_000).expect("the time is in range"),
        inputs: vec![InputFile { path: b"\xff.c".to_vec(), digest: "0f".repeat(16) }],
        outcome,
    };
    SessionEvent::Inherited { step: Box::new(step) }
}

fn step(step: StepIdentity) -> SessionEvent {
    let (fingerprint, because) = ("b7a1f0c9".into(), StepReason::First);
    let inputs = vec![InputFile { path: "日本".into(), digest: "0f".repeat(16) }];
    SessionEvent::StepStarted {
        step,
        fingerprint,
        because,
        reruns: 0,
        command: Some("make -j8".into()),
        inputs,
    }
}

fn step_end(start: u64) -> SessionEvent {
    SessionEvent::StepCompleted { start, end: StepEnd { value_bytes: Some(8), ..StepEnd::default() } }
}

fn started() -> SessionEvent {
    SessionEvent::Started { owner: owner(1) }
}

fn resumed(by: u64) -> SessionEvent {
    SessionEvent::Resumed { owner: owner(by) }
}

fn progress(steps: u64) -> SessionEvent {
    let report =
        ProgressReport::new().completed_steps(steps).total_steps(9).percent(12.5).step("café \u{9b}1m");
    SessionEvent::ProgressReported { report }
}

fn checkpoint(cursor: u64) -> SessionEvent {
    SessionEvent::CheckpointSaved {
        state: json!({ "cursor": cursor, "deep": [[[1.5e300]]] }),
        resumable: true,
    }
}

fn changes() -> Changes {
    Changes::totals(1, 2, 3, 1)
        .file(FileChange::renamed("old \u{9b}1m.rs", "new.rs").lines(4, 0))
        .file(FileChange::deleted("日本.rs").lines(0, 9))
        .commit(Commit::new("9a7f3c1", "Move \"it\""))
}

fn interrupted() -> SessionEvent {
    SessionEvent::Interrupted { evidence: Evidence::LockReleased }
}

fn cancel_requested() -> SessionEvent {
    SessionEvent::CancelRequested { reason: "enough".into(), by: "somebody".into(), force: false }
}

fn scripts() -> Vec<Script> {
    use Durability::{Buffered, Flushed};
    let full = SessionConfig::new("fuzz")
        .name("a name \"with\" \\ and 日本語")
        .project_path("/project")
        .label("team", "data")
        .label("ключ", "значение")
        .metadata(json!({ "a": [1, null, true, -0.5] }))
        .idempotency_key("key")
        .queued();
    let mut scripts = vec![
        vec![(vec![created("only created")], Flushed)],
        vec![
            (vec![created("runs"), started()], Flushed),
            (vec![progress(1)], Buffered),
            (vec![checkpoint(1), note(40)], Flushed),
            (vec![progress(2), note(0)], Buffered),
        ],
        vec![
            (vec![created_with(full)], Flushed),
            (vec![started(), SessionEvent::IterationStarted { number: 1 }], Flushed),
            (
                vec![
                    SessionEvent::CommandExecuted {
                        command: "make -j8".into(),
                        exit_code: Some(2),
                        signal: None,
                        duration_ms: 1200,
                        output_bytes: 77,
                        main: false,
                        stop: None,
                    },
                    SessionEvent::AnalysisCompleted { results: json!({ "findings": 3 }) },
                    SessionEvent::IterationCompleted { number: 1, changes: changes() },
                ],
                Flushed,
            ),
            (vec![SessionEvent::PauseRequested { reason: "lunch".into(), by: "me".into() }], Flushed),
            (vec![SessionEvent::Paused { reason: PauseReason::Requested("lunch".into()) }], Flushed),
            (vec![SessionEvent::ResumeRequested { by: "me".into() }, resumed(1)], Flushed),
            (
                vec![SessionEvent::Completed {
                    summary: session_core::SessionSummary::new().message("done"),
                }],
                Flushed,
            ),
        ],
        vec![
            (vec![created("dies"), started(), checkpoint(3)], Flushed),
            (vec![interrupted(), resumed(2), note(10)], Flushed),
            (vec![interrupted()], Buffered),
            (vec![resumed(3), cancel_requested()], Buffered),
            (vec![SessionEvent::Cancelled { reason: "enough".into() }], Flushed),
        ],
        vec![
            (vec![created("asks"), started()], Flushed),
            (vec![SessionEvent::Paused { reason: PauseReason::AwaitingInput("which one?".into()) }], Flushed),
            (
                vec![SessionEvent::InputProvided { value: json!("this one"), by: "me".into() }, resumed(1)],
                Buffered,
            ),
            (
                vec![SessionEvent::Failed {
                    error: Failure::new(FailureCause::Work, "it broke").exit_code(3),
                }],
                Flushed,
            ),
        ],
        vec![
            (vec![created("long"), started()], Flushed),
            ((0..12).map(|size| note(size * 50)).collect(), Buffered),
            ((0..9).map(progress).collect(), Buffered),
            (vec![checkpoint(9)], Flushed),
            ((0..4).map(note).collect(), Buffered),
        ],
    ];
    scripts.extend(step_scripts());
    scripts.extend(wait_scripts());
    scripts
}

/// Sessions with steps of their own, and with steps of another one.
fn step_scripts() -> [Script; 2] {
    use Durability::{Buffered, Flushed};
    [
        vec![
            (vec![created("steps"), started(), step(StepIdentity::nth("build", 1))], Flushed),
            (
                vec![
                    SessionEvent::StepValue { start: 3, part: b"1.2 \xc2\x9b\n".to_vec() },
                    SessionEvent::StepValue { start: 3, part: b"\xff\0".to_vec() },
                    step_end(3),
                ],
                Flushed,
            ),
            (vec![step(StepIdentity::keyed("send", "日本")), step(StepIdentity::nth("build", 2))], Flushed),
            (vec![interrupted(), resumed(2)], Flushed),
            (
                vec![
                    SessionEvent::StepFailed {
                        start: 7,
                        failure: StepFailure { signal: Some(15), unknown: true, ..StepFailure::default() },
                    },
                    SessionEvent::StepRefused {
                        name: "build".into(),
                        code: "STEP_CHANGED".into(),
                        message: "it would run another command".into(),
                    },
                ],
                Buffered,
            ),
        ],
        vec![
            (vec![inheriting("retry", 3)], Flushed),
            (vec![inherited(StepOutcome::Completed(StepEnd::default()))], Buffered),
            (
                vec![
                    SessionEvent::StepValue { start: 2, part: b"1.2".to_vec() },
                    inherited(StepOutcome::Unknown { deaths: 2 }),
                    started(),
                    step(StepIdentity::nth("build", 2)),
                ],
                Flushed,
            ),
        ],
    ]
}

fn item(arg: &[u8]) -> ItemIdentity {
    ItemIdentity { arg: arg.to_vec(), n: 2 }
}

fn answered(asked: Option<u64>) -> SessionEvent {
    let answer = Answer { identity: StepIdentity::nth("deploy", 1), value: "yes \u{9b}".into(), asked };
    SessionEvent::Answered { answer: Box::new(answer), by: "me".into(), default: asked.is_none() }
}

/// Sessions with items, questions and sleeps of their own, and with those of another one.
fn wait_scripts() -> [Script; 2] {
    use Durability::{Buffered, Flushed};
    let asked = |again| {
        let mut question = Question::new(StepIdentity::nth("deploy", 1), "Deploy \u{9b}1m?");
        (question.choices, question.again) = (vec!["yes é".into(), "no".into()], again);
        question.default = Some("no".into());
        question.default_at = Timestamp::from_millis(1_795_253_400_000);
        SessionEvent::Asked { question: Box::new(question) }
    };
    let until = Timestamp::from_millis(1_795_253_400_000).expect("the time is in range");
    let sleep = || SessionEvent::SleepStarted { step: StepIdentity::keyed("night", "1"), until };
    let moves = |moves| SessionEvent::ItemsMoved { moves };
    let begun = vec![
        ItemStart { item: 1, identity: Some(item(b"a \xc2\x9b")) },
        ItemStart { item: 2, identity: Some(item(b"\xff")) },
        ItemStart { item: 3, identity: None },
    ];
    let failed = ItemFailure { item: 2, signal: Some(15), unknown: true, ..ItemFailure::default() };
    [
        vec![
            (vec![created("waits"), answered(None), started()], Flushed),
            (
                vec![
                    SessionEvent::EachStarted {
                        step: StepIdentity::nth("all", 1),
                        fingerprint: "b7a1f0c9".into(),
                        reruns: 1,
                        done: 7,
                        command: Some("./convert".into()),
                    },
                    moves(ItemMoves { each: 4, total: Some(9), begun, ..ItemMoves::default() }),
                ],
                Flushed,
            ),
            (
                vec![
                    SessionEvent::ItemValue { each: 4, item: 1, part: b"\xff\0".to_vec() },
                    moves(ItemMoves {
                        each: 4,
                        done: vec![1],
                        failed: vec![failed],
                        skipped: vec![3],
                        ..ItemMoves::default()
                    }),
                    asked(false),
                    sleep(),
                ],
                Buffered,
            ),
            (vec![interrupted(), resumed(2), asked(true), sleep()], Flushed),
            (
                vec![
                    answered(Some(12)),
                    SessionEvent::QuestionWithdrawn { asked: 12 },
                    SessionEvent::SleepEnded { start: 13, passed: true },
                ],
                Flushed,
            ),
        ],
        vec![
            (vec![inheriting("waits-again", 4)], Flushed),
            (
                vec![
                    inherited(StepOutcome::Items {
                        items: vec![InheritedItem {
                            item: 1,
                            identity: item(b"a"),
                            unknown: true,
                            deaths: 2,
                        }],
                        too_long: true,
                    }),
                    SessionEvent::ItemValue { each: 2, item: 1, part: b"1.2".to_vec() },
                    inherited(StepOutcome::Answered { answer: "yes".into(), by: "me".into() }),
                    inherited(StepOutcome::Slept),
                    started(),
                ],
                Flushed,
            ),
        ],
    ]
}
