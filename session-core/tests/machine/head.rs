//! The size limit of a head, which every backend relies on: it holds for any texts and numbers in the log.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use session_core::backend::{Envelope, Sum};
use session_core::{
    Changes, Evidence, ExecutionMode, Failure, FailureCause, Head, ItemFailure, ItemMoves, ItemStart,
    LockFolderId, Origin, PauseReason, ProgressReport, Question, Record, SessionConfig, SessionEvent,
    SessionId, SessionState, SessionSummary, StepIdentity, StepReason, Stop, StopSource, WorktreePlan,
    limits,
};

use crate::hostile;
use crate::log::Log;
use crate::oracle::{Model, Random, instant, number, owner, seed};

/// The bytes of text up to which no text is cut further: as in the core.
const ALWAYS_FITS: usize = 1280;

fn size(head: &Head) -> usize {
    serde_json::to_string(head).unwrap().len()
}

/// The longest value for each field, in the order that leaves the largest head.
fn largest() -> Log {
    let labels: BTreeMap<String, String> = [("k".to_owned(), "v".repeat(1024 - 8))].into();
    assert_eq!(serde_json::to_string(&labels).unwrap().len(), limits::LABEL_BYTES);
    grown(&"\"".repeat(200), labels)
}

/// The largest head with few texts: what remains for them always fits.
fn largest_of_numbers() -> Log {
    grown("t", (0..limits::LABELS).map(|n| (format!("{n}"), "v".to_owned())).collect())
}

/// Each field with this text, as far as it may have it.
fn grown(text: &str, labels: BTreeMap<String, String>) -> Log {
    let (long, name) = (text.to_owned(), text.chars().take(128).collect::<String>());
    let id = |letter: &str| letter.repeat(text.len().min(64));
    let mut config = SessionConfig::new(&name).name(&name);
    config.labels = labels;
    config.mode = ExecutionMode::Worktree { name };
    config.parent = Some(SessionId::random());
    config.retry_of = Some(SessionId::random());
    config.line = Some(SessionId::random());
    config.max_iterations = Some(u64::MAX);
    let mut large = owner(0);
    (large.host, large.machine, large.boot) = (id("h"), id("m"), id("b"));
    (large.pid, large.start_time) = (u32::MAX, u64::MAX);
    (large.lock_folder, large.pid_namespace) = (Some(LockFolderId::random()), Some(u64::MAX));
    let mut grown = Log::new();
    let origin = Some(Origin::new(vec![long.clone()], long.clone().into()));
    grown.push(SessionEvent::Created {
        format: 1,
        config: Box::new(config),
        creator: large.clone(),
        origin,
        inherits: 0,
    });
    grown.push(SessionEvent::Started { owner: large });
    grown.push(SessionEvent::IterationStarted { number: 1 });
    grown.push(SessionEvent::IterationCompleted {
        number: 1,
        changes: Changes::totals(u64::MAX, u64::MAX, u64::MAX, u64::MAX),
    });
    grown.push(SessionEvent::CommandExecuted {
        command: long.clone(),
        exit_code: Some(i32::MIN),
        signal: Some(i32::MIN),
        duration_ms: 0,
        output_bytes: 0,
        main: false,
        stop: None,
    });
    grown.push(SessionEvent::StopRequested { signal: i32::MIN });
    grown.push(SessionEvent::CommandExecuted {
        command: long.clone(),
        exit_code: Some(i32::MIN),
        signal: Some(i32::MIN),
        duration_ms: 0,
        output_bytes: 0,
        main: true,
        stop: Some(Stop { signal: i32::MIN, by: StopSource::Signal }),
    });
    grown.push(SessionEvent::CheckpointSaved { state: json!(null), resumable: true });
    let mut report = ProgressReport::new().step(&long).phase(&long);
    report.percent = Some(1.234_567_890_123_456_7e-300);
    (report.completed_steps, report.total_steps, report.eta) =
        (Some(u64::MAX), Some(u64::MAX), Some(u64::MAX));
    grown.push(SessionEvent::ProgressReported { report });
    grown.push(SessionEvent::StepStarted {
        step: StepIdentity::keyed(long.chars().take(limits::NAME_CHARS).collect::<String>(), &long),
        fingerprint: long.clone(),
        because: StepReason::First,
        reruns: u64::MAX,
        command: Some(long.clone()),
        inputs: Vec::new(),
    });
    push_items_and_waits(&mut grown, &long);
    let (name, code) = ("n".to_owned(), "STEP_CHANGED".to_owned());
    grown.push(SessionEvent::StepRefused { name, code, message: long.clone() });
    grown.push(SessionEvent::PauseRequested { reason: long.clone(), by: long.clone() });
    grown.push(SessionEvent::CancelRequested { reason: long.clone(), by: long, force: true });
    grown
}

/// Adds the items and waits of which a head names most.
fn push_items_and_waits(log: &mut Log, text: &str) {
    let name: String = text.chars().take(limits::NAME_CHARS).collect();
    let step = || StepIdentity::keyed(name.clone(), text);
    log.push(SessionEvent::EachStarted {
        step: step(),
        fingerprint: text.to_owned(),
        reruns: u64::MAX,
        done: u64::MAX,
        command: Some(text.to_owned()),
    });
    let moves = ItemMoves {
        each: log.revision(),
        total: Some(u64::MAX),
        failed: vec![ItemFailure { item: 1, ..ItemFailure::default() }],
        begun: vec![ItemStart { item: 2, identity: None }],
        ..ItemMoves::default()
    };
    log.push(SessionEvent::ItemsMoved { moves });
    for _ in 0..9 {
        log.push(SessionEvent::Asked { question: Box::new(Question::new(step(), text)) });
    }
    log.push(SessionEvent::SleepStarted { step: step(), until: instant(7) });
    let branch: String = text.chars().filter(|character| !character.is_control()).take(300).collect();
    let plan = WorktreePlan::new(format!("/{text}"), branch.clone(), "c".repeat(64), instant(7));
    let worktree = plan.base_branch(Some(branch)).made("/g", "m".repeat(limits::MARK_BYTES));
    log.push(SessionEvent::WorktreeMade { worktree: Box::new(worktree) });
}

/// Returns the head after one more event, when each number that counts up has its largest value.
fn after_long_life(log: &Log, event: SessionEvent) -> Head {
    let mut json = serde_json::to_value(log.head()).unwrap();
    for path in [
        "/flushed",
        "/lifecycle/iteration",
        "/lifecycle/iterations_completed",
        "/lifecycle/state/running/iteration",
        "/lifecycle/requests/answer",
        "/lifecycle/to_inherit",
        "/ran_ms",
        "/samples",
        "/totals/commands",
        "/totals/commands_failed",
        "/steps/completed",
        "/steps/failed",
        "/steps/open",
        "/items/open",
        "/items/each",
        "/items/done",
        "/items/failed",
        "/items/total",
        "/waits/questions",
        "/waits/oldest/0/revision",
        "/waits/oldest/1/revision",
        "/waits/oldest/2/revision",
        "/waits/oldest/3/revision",
        "/waits/open",
        "/place/revision",
        "/waits/sleep",
        "/waits/changed",
        "/checkpoint",
    ] {
        if let Some(number) = json.pointer_mut(path) {
            *number = json!(u64::MAX);
        }
    }
    json["tip"]["revision"] = json!(u64::MAX - 1);
    json["lifecycle"]["attempt"] = json!(u32::MAX);
    json["deaths"] = json!(u32::MAX);
    if let Some(waits) = json.get_mut("waits") {
        waits["attempt"] = json!(u64::MAX);
    }
    let mut head: Head = serde_json::from_value(json).unwrap();
    let (attempt, at) = (head.lifecycle.attempt_for(event.kind()), head.updated_at);
    let envelope = Envelope { seq: u64::MAX, at, attempt, flushed: u64::MAX - 1 };
    head.apply(&Record { envelope, event, sum: Sum::from_u64(u64::MAX) }).unwrap();
    head
}

/// Returns the heads of every state that grow out of such a log.
fn in_every_state(running: &Log, long: &str) -> Vec<Head> {
    let long = || long.to_owned();
    let note = || SessionEvent::Noted { kind: "v.n".to_owned(), data: json!(null) };
    let created = {
        let mut created = Log::new();
        let Some(SessionEvent::Created { config, creator, origin, .. }) =
            running.read().first().map(|record| record.event.clone())
        else {
            unreachable!()
        };
        created.push(SessionEvent::Created { format: 1, config, creator, origin, inherits: u64::MAX });
        created.push(SessionEvent::CancelRequested { reason: long(), by: long(), force: true });
        created
    };
    let mut unowned = running.clone();
    unowned.push(SessionEvent::Interrupted { evidence: Evidence::Forced { by: long() } });
    let mut paused = running.clone();
    paused.push(SessionEvent::Paused { reason: PauseReason::AwaitingInput(long()) });
    paused.push(SessionEvent::ResumeRequested { by: long() });
    paused.push(SessionEvent::InputProvided { value: json!(null), by: long() });
    // A refused step prevents completion: another attempt completes the session.
    let mut again = unowned.clone();
    again.push(SessionEvent::Resumed { owner: owner(1) });
    let mut summary = SessionSummary::new().message(long());
    (summary.iterations, summary.commands, summary.files_changed) = (u64::MAX, u64::MAX, u64::MAX);
    (summary.lines_added, summary.lines_removed, summary.commits) = (u64::MAX, u64::MAX, u64::MAX);
    summary.duration_ms = u64::MAX;
    let failed = || SessionEvent::Failed { error: Failure::new(FailureCause::Timeout, long()) };
    let ends = [
        (&created, note()),
        (&created, failed()),
        (running, note()),
        (running, failed()),
        (running, SessionEvent::Cancelled { reason: long() }),
        (&paused, note()),
        (&unowned, SessionEvent::ResumeRequested { by: long() }),
        (&again, SessionEvent::Completed { summary }),
    ];
    ends.into_iter().map(|(log, last)| after_long_life(log, last)).collect()
}

#[test]
fn the_largest_possible_head_fits() {
    for head in in_every_state(&largest(), &"\"".repeat(200)) {
        let (state, size) = (head.state().name(), size(&head));
        println!("{state}: at most {size} bytes, {} of them texts", texts(&head));
        assert!(size <= limits::HEAD_BYTES, "{state}: {size} bytes");
    }
}

#[test]
fn the_largest_numbers_leave_room_for_short_texts() {
    let mut room = usize::MAX;
    for head in in_every_state(&largest_of_numbers(), "t") {
        let (state, size) = (head.state().name(), size(&head));
        if matches!(head.state(), SessionState::Running { .. } | SessionState::Paused { .. }) {
            assert_eq!(head.waits.oldest.len(), 4, "{state}");
        }
        room = room.min(limits::HEAD_BYTES - (size - texts(&head)));
        println!("{state}: {size} bytes, {} of them texts, room for {room}", texts(&head));
    }
    assert!(room >= ALWAYS_FITS, "{room} bytes are left");
}

/// Returns the size of the texts that a log can choose, as JSON.
fn texts(head: &Head) -> usize {
    let json = serde_json::to_value(head).unwrap();
    let mut texts: Vec<Value> = [
        "/name",
        "/operation",
        "/command",
        "/cwd",
        "/worktree",
        "/place/branch",
        "/place/base",
        "/place/base_branch",
        "/place/mark",
        "/progress/step",
        "/progress/phase",
        "/steps/newest",
        "/items/newest",
        "/waits/oldest/0/name",
        "/waits/oldest/1/name",
        "/waits/oldest/2/name",
        "/waits/oldest/3/name",
        "/creator/host",
        "/creator/machine",
        "/creator/boot",
        "/lifecycle/owner/host",
        "/lifecycle/owner/machine",
        "/lifecycle/owner/boot",
        "/lifecycle/requests/pause/reason",
        "/lifecycle/requests/pause/by",
        "/lifecycle/requests/cancel/reason",
        "/lifecycle/requests/cancel/by",
        "/lifecycle/requests/resume",
        "/lifecycle/state/paused/reason/awaiting_input",
        "/lifecycle/state/paused/reason/interrupted/text",
        "/lifecycle/state/completed/summary/message",
        "/lifecycle/state/failed/error/message",
        "/lifecycle/state/cancelled/reason",
    ]
    .iter()
    .filter_map(|path| json.pointer(path).cloned())
    .collect();
    for (key, value) in &head.labels {
        texts.extend([json!(key), json!(value)]);
    }
    texts.iter().map(|text| text.to_string().len() - 2).sum()
}

/// Texts are cut further only where all together are too long: a list of sessions shows the others as before.
#[test]
fn a_long_text_alone_is_cut_to_128_bytes() {
    let text = "x".repeat(200);
    let mut log = Log::new();
    let config = Box::new(SessionConfig::new("o").name("n").label("k", "v".repeat(900)));
    let origin = Some(Origin::new(vec![text.clone()], "/srv".into()));
    log.push(SessionEvent::Created { format: 1, config, creator: owner(0), origin, inherits: 0 });
    log.push(SessionEvent::CancelRequested { reason: text.clone(), by: text, force: false });
    let head = log.head();
    let cancel = head.lifecycle.requests.cancel.as_ref().unwrap();
    assert_eq!(head.command.as_ref().unwrap().len(), 128);
    assert_eq!((cancel.reason.len(), cancel.by.len()), (128, 64));
}

#[test]
fn no_log_folds_to_a_head_over_the_limit() {
    let (first, mut largest) = (seed(), 0);
    for n in 0..number("SESSION_HEADS").unwrap_or(400) {
        let mut random = Random(first.wrapping_add(n));
        let (mut log, mut model) = (Log::new(), Model::NOTHING);
        for tried in 0..30 {
            let step = if tried < 2 { model.beginning() } else { model.random_step(&mut random) };
            let Ok(next) = model.step(step) else { continue };
            if let Err(rejected) = log.offer_as(hostile::event(&mut random, step), step.attempt) {
                panic!("SESSION_SEED={}: {step:?}: {rejected}", first.wrapping_add(n));
            }
            model = next;
            let head = log.head();
            let json = serde_json::to_string(head).unwrap();
            largest = largest.max(json.len());
            assert!(json.len() <= limits::HEAD_BYTES, "SESSION_SEED={}: {json}", first.wrapping_add(n));
            // A head goes to terminals: nothing in it may move the cursor, as JSON or as text.
            assert!(!json.contains("\\u00"), "SESSION_SEED={}: {json}", first.wrapping_add(n));
            assert!(!json.chars().any(session_core::text::is_unsafe_char), "{json}");
        }
    }
    println!("the largest head had {largest} bytes, seed {first}");
}
