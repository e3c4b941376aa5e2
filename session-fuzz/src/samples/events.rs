//! Events of the samples.

use serde_json::json;
use session_core::backend::FORMAT;
use session_core::{
    Answer, Changes, Commit, Evidence, FileChange, InheritedStep, InputFile, ItemIdentity, Owner,
    ProgressReport, SessionConfig, SessionEvent, SessionId, StepEnd, StepIdentity, StepOutcome, StepReason,
    Timestamp,
};

/// Returns a note with this number of bytes of text.
pub(crate) fn note(bytes: usize) -> SessionEvent {
    SessionEvent::Noted { kind: "fuzz.note".to_owned(), data: json!("x".repeat(bytes)) }
}

pub(super) fn owner(number: u64) -> Owner {
    let instance = SessionId::from_key(&format!("fuzz-owner-{number}"));
    let owner = json!({
        "instance": instance, "host": "host", "machine": "machine", "boot": "boot", "pid": 4711, "start_time": number,
        "lock_folder": instance, "pid_namespace": number,
    });
    serde_json::from_value(owner).expect("it is an owner")
}

pub(super) fn created(name: &str) -> SessionEvent {
    created_with(SessionConfig::new("fuzz").name(name))
}

pub(super) fn created_with(config: SessionConfig) -> SessionEvent {
    let config = Box::new(config);
    SessionEvent::Created { format: FORMAT, config, creator: owner(0), origin: None, inherits: 0 }
}

pub(super) fn inheriting(name: &str, inherits: u64) -> SessionEvent {
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

pub(super) fn started() -> SessionEvent {
    SessionEvent::Started { owner: owner(1) }
}

pub(super) fn resumed(by: u64) -> SessionEvent {
    SessionEvent::Resumed { owner: owner(by) }
}

pub(super) fn progress(steps: u64) -> SessionEvent {
    let report =
        ProgressReport::new().completed_steps(steps).total_steps(9).percent(12.5).step("café \u{9b}1m");
    SessionEvent::ProgressReported { report }
}

pub(super) fn checkpoint(cursor: u64) -> SessionEvent {
    SessionEvent::CheckpointSaved {
        state: json!({ "cursor": cursor, "deep": [[[1.5e300]]] }),
        resumable: true,
    }
}

pub(super) fn changes() -> Changes {
    Changes::totals(1, 2, 3, 1)
        .file(FileChange::renamed("old \u{9b}1m.rs", "new.rs").lines(4, 0))
        .file(FileChange::deleted("日本.rs").lines(0, 9))
        .commit(Commit::new("9a7f3c1", "Move \"it\""))
}

pub(super) fn interrupted() -> SessionEvent {
    SessionEvent::Interrupted { evidence: Evidence::LockReleased }
}

pub(super) fn cancel_requested() -> SessionEvent {
    SessionEvent::CancelRequested { reason: "enough".into(), by: "somebody".into(), force: false }
}

pub(super) fn inherited(outcome: StepOutcome) -> SessionEvent {
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

pub(super) fn step(step: StepIdentity) -> SessionEvent {
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

pub(super) fn step_end(start: u64) -> SessionEvent {
    SessionEvent::StepCompleted { start, end: StepEnd { value_bytes: Some(8), ..StepEnd::default() } }
}

pub(super) fn item(arg: &[u8]) -> ItemIdentity {
    ItemIdentity { arg: arg.to_vec(), n: 2 }
}

pub(super) fn answered(asked: Option<u64>) -> SessionEvent {
    let answer = Answer { identity: StepIdentity::nth("deploy", 1), value: "yes \u{9b}".into(), asked };
    SessionEvent::Answered { answer: Box::new(answer), by: "me".into(), default: asked.is_none() }
}
