//! The size limit of a head, which every backend relies on: it holds for any texts and numbers in the log.

use std::collections::BTreeMap;

use serde_json::json;
use session_core::{
    Changes, Evidence, ExecutionMode, Head, LockFolderId, Origin, PauseReason, ProgressReport, SessionConfig,
    SessionEvent, SessionId, SessionSummary, limits,
};

use crate::hostile;
use crate::log::Log;
use crate::oracle::{Model, Random, number, owner, seed};

fn size(head: &Head) -> usize {
    serde_json::to_string(head).unwrap().len()
}

/// The longest value for each field, in the order that leaves the largest head.
fn largest() -> Log {
    let long = "\"".repeat(200);
    let labels: BTreeMap<String, String> = [("k".to_owned(), "v".repeat(1024 - 8))].into();
    let mut config = SessionConfig::new("o".repeat(128)).name("n".repeat(128));
    assert_eq!(serde_json::to_string(&labels).unwrap().len(), limits::LABEL_BYTES);
    config.labels = labels;
    config.mode = ExecutionMode::Worktree { name: "w".repeat(128) };
    config.parent = Some(SessionId::random());
    config.retry_of = Some(SessionId::random());
    config.max_iterations = Some(u64::MAX);
    let mut large = owner(0);
    (large.host, large.machine, large.boot) = ("h".repeat(99), "m".repeat(64), "b".repeat(64));
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
    grown.push(SessionEvent::CheckpointSaved { state: json!(null), resumable: true });
    let mut report = ProgressReport::new().step(&long).phase(&long);
    report.percent = Some(1.234_567_890_123_456_7e-300);
    (report.completed_steps, report.total_steps, report.eta) =
        (Some(u64::MAX), Some(u64::MAX), Some(u64::MAX));
    grown.push(SessionEvent::ProgressReported { report });
    grown.push(SessionEvent::PauseRequested { reason: long.clone(), by: long.clone() });
    grown.push(SessionEvent::CancelRequested { reason: long.clone(), by: long, force: true });
    grown
}

/// Sets the numbers that a log of this length cannot reach to their largest number of digits.
fn with_old_numbers(log: &Log) -> Head {
    let mut json = serde_json::to_value(log.head()).unwrap();
    for path in [
        "/tip/revision",
        "/flushed",
        "/lifecycle/iteration",
        "/lifecycle/iterations_completed",
        "/lifecycle/state/running/iteration",
        "/ran_ms",
        "/samples",
        "/totals/commands",
        "/totals/commands_failed",
        "/checkpoint",
    ] {
        if let Some(number) = json.pointer_mut(path) {
            *number = json!(u64::MAX);
        }
    }
    json["lifecycle"]["attempt"] = json!(u32::MAX);
    json["deaths"] = json!(u32::MAX);
    serde_json::from_value(json).unwrap()
}

#[test]
fn the_largest_possible_head_fits() {
    let long = || "\"".repeat(200);
    let running = largest();
    let mut interrupted = running.clone();
    interrupted.push(SessionEvent::Interrupted { evidence: Evidence::Forced { by: long() } });
    interrupted.push(SessionEvent::ResumeRequested { by: long() });
    let mut paused = running.clone();
    paused.push(SessionEvent::Paused { reason: PauseReason::AwaitingInput(long()) });
    paused.push(SessionEvent::ResumeRequested { by: long() });
    paused.push(SessionEvent::InputProvided { value: json!(null), by: long() });
    let mut completed = running.clone();
    let mut summary = SessionSummary::new().message(long());
    (summary.iterations, summary.commands, summary.files_changed) = (u64::MAX, u64::MAX, u64::MAX);
    (summary.lines_added, summary.lines_removed, summary.commits) = (u64::MAX, u64::MAX, u64::MAX);
    summary.duration_ms = u64::MAX;
    completed.push(SessionEvent::Completed { summary });
    for log in [running, interrupted, paused, completed] {
        let state = log.head().state().name();
        let size = size(&with_old_numbers(&log));
        println!("{state}: at most {size} bytes");
        assert!(size <= limits::HEAD_BYTES, "{state}: {size} bytes");
    }
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
